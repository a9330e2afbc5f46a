"""The photo studio of lesson 11: one slow activity, and what it needs and returns."""

import time
from dataclasses import dataclass

from replay import ActivityContext

NAMESPACE = "sharding"
PHOTOS = 12
COUNT = 4  # The number of shards.
SLOW = 0.3  # Seconds for each photo.


@dataclass
class Place:
    """Where an activity is executed."""

    process: str
    shard: str


@dataclass
class Picture:
    """Where and when a photo was developed, in milliseconds since 1970."""

    process: str
    shard: str
    started: int
    finished: int


def now() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def develop(ctx: ActivityContext, place: Place, number: int) -> Picture:
    """A slow activity. It returns where and when it was executed."""
    started = now()
    time.sleep(SLOW)
    print(f"{ctx.run} in {place.shard}", flush=True)
    return Picture(place.process, place.shard, started, finished=now())
