"""The definition of lesson 11: many short runs, each with one slow activity."""

import time

from replay import ActivityContext, typed
from tutorial.lesson_11_sharding import photos_pb2 as pb

PHOTOS = 12
COUNT = 4  # The number of shards.
SLOW = 0.3  # Seconds for each photo.


def now() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def develop(ctx: ActivityContext, place: pb.Place, photo: pb.Photo) -> pb.Picture:
    """A slow activity. It returns where and when it was executed."""
    started = now()
    time.sleep(SLOW)
    print(f"{ctx.run} in {place.shard}", flush=True)
    return pb.Picture(process=place.process, shard=place.shard, started=started, finished=now())


NAMESPACE = typed.Namespace(
    "sharding",
    workflows=[typed.Workflow("photo", input=pb.Photo, description="Has a photo developed.")],
    activities=[
        typed.Activity(
            "develop",
            function="tutorial.lesson_11_sharding.namespace:develop",
            description="Develops a photo.",
        )
    ],
)
