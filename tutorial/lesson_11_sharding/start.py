"""Lesson 11: many runs with a slow activity, divided among shards in two processes."""

import threading
from collections.abc import Sequence

import replay
from tutorial.lesson_11_sharding.studio import (
    COUNT,
    NAMESPACE,
    PHOTOS,
    Picture,
    Place,
    develop,
)
from tutorial.show import line

# TODO(you): list all shards: replay.Shard.hashed(m, COUNT), for each m from 0 on.
SHARDS: list[replay.Shard] = []


def photo(ctx: replay.RunContext, number: int) -> None:
    """A workflow: has one photo developed."""
    ctx.exec_activity(develop, number)


def serve(url: str, process: str, shards: Sequence[replay.Shard]) -> None:
    """A process that executes the requests of some shards, until Ctrl-C."""
    with replay.connect(url) as client:
        # Both processes register the workflow: one owns it, the other stands by.
        replay.register_workflow(client, NAMESPACE, photo)
        # TODO(you): register the activity once for each shard, with shard=shard. Its Place has the
        # name of the shard.
        replay.register_activity(client, NAMESPACE, develop, Place(process, "alone"))
        threading.Event().wait()


def first(url: str, _: str) -> None:
    """The first half of the shards: 1_of_4, 3_of_4."""
    serve(url, "first", SHARDS[0::2])


def second(url: str, _: str) -> None:
    """The second half: 2_of_4, 4_of_4."""
    serve(url, "second", SHARDS[1::2])


def chart(pictures: Sequence[Picture]) -> None:
    """Draw when each shard was at work."""
    begin = min(picture.started for picture in pictures)
    end = max(picture.finished for picture in pictures)
    columns = range(begin, end, max(1, (end - begin) // 40))
    for shard in sorted({picture.shard for picture in pictures}):
        mine = [picture for picture in pictures if picture.shard == shard]
        busy = [any(p.started <= at < p.finished for p in mine) for at in columns]
        bar = "".join("█" if each else "▁" for each in busy)
        print(f"{shard} {bar} {len(mine)} of {len(pictures)}")
    work = sum(picture.finished - picture.started for picture in pictures)
    print(f"{work / 1000:.2f} seconds of work, done in {(end - begin) / 1000:.2f} seconds")


def ask(url: str, run: str) -> None:
    """Starts the runs, waits for their end, and shows which shard worked when."""
    with replay.connect(url) as client:
        runs = [f"{run}-{number:02}" for number in range(1, PHOTOS + 1)]
        for number, each in enumerate(runs, 1):
            client.run_workflow(NAMESPACE, photo, each, number)
        print(f"asked for {PHOTOS} photos", flush=True)
        for each in runs:
            client.await_completion(NAMESPACE, photo, each)
        log = client.stream(NAMESPACE, "photo", to_head=True)
        events = [event for event in log if event.key.run in runs]
        for event in events:
            print(line(event))
        answers = [e for e in events if e.type is replay.EventType.ACTIVITY_RESPONSE]
        chart([Picture(**answer.message) for answer in answers])


ROLES = {"first": first, "second": second, "ask": ask}
