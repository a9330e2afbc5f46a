"""The check of lesson 11: the facts that its log has to show."""

from collections.abc import Sequence
from itertools import combinations

from replay import Event, EventType, Shard
from tutorial.checking import Claim, Kill, answered
from tutorial.lesson_11_sharding.studio import COUNT, NAMESPACE, PHOTOS, Picture

__all__ = ["KILLS", "NAMESPACE", "check"]

KILLS = [
    Kill(
        "all photos are asked for, and the first one is developed",
        lambda events: answered("develop")(events) and len(events) > 2 * PHOTOS,
    )
]
SHARDS = [Shard.hashed(m, COUNT) for m in range(COUNT)]


def together(one: Picture, other: Picture) -> bool:
    """Whether two executions were under way at the same time."""
    return one.started < other.finished and other.started < one.finished


def shard_of(run: str) -> str:
    """The name of the shard that a run belongs to."""
    return next(shard.name for shard in SHARDS if shard.has(run))


def check(events: Sequence[Event]) -> list[Claim]:
    """Each run is served once, by its shard, while other shards are at work."""
    created = [event.key.run for event in events if event.type is EventType.RUN_CREATED]
    prefix = created[0].rpartition("-")[0] if created else ""
    events = [event for event in events if event.key.run.rpartition("-")[0] == prefix]
    answers = [event for event in events if event.type is EventType.ACTIVITY_RESPONSE]
    pictures = [Picture(**event.message) for event in answers]
    served = {event.key.run: event.message["shard"] for event in answers}
    ended = sum(event.type is EventType.RUN_COMPLETED for event in events)
    places = {(picture.shard, picture.process) for picture in pictures}
    pairs = list(combinations(pictures, 2))
    return [
        Claim(
            f"all {PHOTOS} photos are developed, each request has one response, and all runs ended",
            len(answers) == len(served) == ended == PHOTOS,
            f"there are {len(answers)} responses: serve all shards, so that each run has one",
        ),
        Claim(
            "each run was served by the shard that its hash names",
            bool(served) and all(shard == shard_of(run) for run, shard in served.items()),
            "register the activity with shard=shard, and put that shard's name into its Place",
        ),
        Claim(
            "several shards were at work at the same time",
            any(together(a, b) for a, b in pairs if a.shard != b.shard),
            "a consumer executes one request after the other: register the activity for each shard",
        ),
        Claim(
            "each shard executed its requests one after the other, in one process",
            bool(places)
            and len(places) == len({shard for shard, _ in places})
            and not any(together(a, b) for a, b in pairs if a.shard == b.shard),
            "give each shard to one of the processes, and do not use workers",
        ),
    ]
