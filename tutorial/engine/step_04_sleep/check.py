"""The check of step 4: a sleep is a row in the database, not a timer in a process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tutorial.engine.faults import (
    Clock,
    Engine,
    crash_points,
    kill,
    killed,
    open_log,
    same,
    show,
    shown,
    survive,
)


def nap_of(engine: Engine) -> Any:
    """A workflow that sleeps."""

    def nap(seconds: float) -> Iterator[Any]:
        yield engine.sleep(seconds)

    return nap


def work(engine: Engine, log: Any) -> Any:
    """Bring all naps as far as they come; the log."""
    engine.work(log, "ns", {"nap": nap_of(engine)}, {})
    return log


def ended(engine: Engine, log: Any) -> list[str]:
    """The naps that are over, in their order."""
    return [event[1].split("/")[2] for event in shown(log) if event[0] == engine.COMPLETED]


def outlives(engine: Engine, folder: Path) -> None:
    """A run that sleeps wakes up although every process was killed meanwhile.

    Memory is gone after a crash, and the position has passed the request.
    """
    path, clock = folder / "log.db", Clock()
    engine.start(open_log(engine, path, clock), "ns", "nap", "1", 10)

    def process() -> None:
        work(engine, open_log(engine, path, clock))
        kill()

    assert killed(process)
    clock.forward(10_000)
    same(ended(engine, work(engine, open_log(engine, path, clock))), ["1"], "the naps over are")


def in_time(engine: Engine, folder: Path) -> None:
    """It wakes when its time is over, not a millisecond earlier, however late the request is read.

    The time counts from the timestamp of the request, not from when a process gets to it.
    """
    path, clock = folder / "log.db", Clock()
    log = open_log(engine, path, clock)
    engine.start(log, "ns", "nap", "1", 10)
    engine.drain([engine.Workflow(log, "ns", "nap", nap_of(engine))])
    clock.forward(4_000)  # Nobody serves sleeps meanwhile.
    same(ended(engine, work(engine, log)), [], "the naps over after 4 s are")
    clock.forward(5_999)
    same(ended(engine, work(engine, log)), [], "the naps over after 9.999 s are")
    clock.forward(1)
    same(ended(engine, work(engine, log)), ["1"], "the naps over after 10 s are")


def whole_time(engine: Engine, folder: Path) -> None:
    """A sleep is as long as it says, rounded up to the millisecond, and never negative.

    math.ceil; cut to whole seconds, a sleep of 1.9 s would be over too early.
    """
    wanted = {0.0001: 1, 1.9: 1900, 10: 10_000, 0: 0, -5: 0}
    same({seconds: engine.sleep(seconds).value for seconds in wanted}, wanted, "the lengths are")
    log = open_log(engine, folder / "log.db", Clock())
    engine.start(log, "ns", "nap", "1", -5)
    same(ended(engine, work(engine, log)), ["1"], "the naps over are")


def answered_once(engine: Engine, folder: Path) -> None:
    """At whatever statement the process dies, each sleep is answered once, and then left alone.

    The response and the mark that it was answered are one transaction.
    """
    for path, hook in crash_points(folder):
        clock = Clock()
        for run in ("1", "2"):
            engine.start(open_log(engine, path, clock), "ns", "nap", run, 1)
        work(engine, open_log(engine, path, clock))
        clock.forward(1_000)

        def process(path: Path = path, clock: Clock = clock, hook: Any = hook) -> None:
            work(engine, open_log(engine, path, clock, hook))

        survive(process)
        log = work(engine, open_log(engine, path, clock))
        same(len(shown(log)), 8, "the number of events is")
        sleeper = engine.Sleeper(log)
        engine.drain([sleeper])
        assert not sleeper.step(), "finished sleeps are answered again and again"


def one_by_one(engine: Engine, folder: Path) -> None:
    """The sleep that has been over for longest is answered first, and none holds up another.

    ORDER BY due.
    """
    log, clock = open_log(engine, folder / "log.db", clock := Clock()), clock
    for run, seconds in (("a", 3), ("b", 1), ("c", 60), ("d", 2)):
        engine.start(log, "ns", "nap", run, seconds)
    work(engine, log)
    clock.forward(5_000)
    same(ended(engine, work(engine, log)), ["b", "d", "a"], "the naps over are")


CLAIMS = [outlives, in_time, whole_time, answered_once, one_by_one]


def watch(engine: Engine, folder: Path) -> None:
    """A process that is killed while a run sleeps for 10 seconds."""
    path, clock = folder / "log.db", Clock()
    engine.start(open_log(engine, path, clock), "ns", "nap", "1", 10)

    def process() -> None:
        work(engine, open_log(engine, path, clock))
        kill()

    killed(process)
    clock.forward(3_600_000)
    print("An hour later:")
    show(work(engine, open_log(engine, path, clock)))
