"""The check of step 5: a signal waits until a run wants it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tutorial.engine.faults import (
    Clock,
    Engine,
    crash_points,
    open_log,
    same,
    show,
    shown,
    survive,
)


def hear_of(engine: Engine) -> Any:
    """A workflow that takes signals of type 1, each within 10 s, and ends without one."""

    def hear(times: int) -> Iterator[Any]:
        for _ in range(times):
            signal = yield engine.receive(1, 10)
            yield engine.Output("heard", signal and signal.value)
            if signal is None:
                return

    return hear


def work(engine: Engine, log: Any) -> Any:
    """Bring all runs as far as they come; the log."""
    engine.work(log, "ns", {"hear": hear_of(engine)}, {})
    return log


def heard(engine: Engine, log: Any, run: str = "1") -> list[Any]:
    """The signals that a run has heard."""
    outputs = [event for event in shown(log) if event[0] == engine.OUTPUT]
    return [value for _, key, value in outputs if key.startswith(f"ns/hear/{run}/")]


def early(engine: Engine, folder: Path) -> None:
    """A signal that comes before its run, or before the run awaits it, is kept.

    Sending stores a row, whether or not somebody waits.
    """
    log = open_log(engine, folder / "log.db", Clock())
    same(engine.send(log, "ns", "hear", "1", 1, "a", "first"), True, "send returned")
    engine.start(log, "ns", "hear", "1", 3)
    engine.send(log, "ns", "hear", "1", 1, "b", "second")
    work(engine, log)
    engine.send(log, "ns", "hear", "1", 1, "c", "third")
    same(heard(engine, work(engine, log)), ["first", "second", "third"], "the run heard")


def in_order(engine: Engine, folder: Path) -> None:
    """Signals are taken in the order in which they were sent, one by each await.

    ORDER BY their ids; external ids are only names.
    """
    log = open_log(engine, folder / "log.db", Clock())
    engine.start(log, "ns", "hear", "1", 8)
    for number, external_id in enumerate("hbcagfed"):
        engine.send(log, "ns", "hear", "1", 1, external_id, number)
    same(heard(engine, work(engine, log)), list(range(8)), "the run heard")


def only_its_own(engine: Engine, folder: Path) -> None:
    """A run gets the signals of its own name and of the type that it awaits, each sent once.

    A signal is unique by run, type and external id, and the names stay apart.
    """
    log = open_log(engine, folder / "log.db", Clock())
    engine.start(log, "ns", "hear", "1", 1)
    others = [("ns", "hear", "1", 2), ("ns", "hear", "12", 1), ("ns", "hear1", "1", 1)]
    others += [("n", "hear", "1", 1), ("ns", "Hear", "1", 1), ("ns", "hea", "r1", 1)]
    sent = [engine.send(log, *other, "a", "wrong") for other in others]
    same(sent, [True] * len(others), "send returned")
    same(heard(engine, work(engine, log)), [], "the run heard")
    again = [engine.send(log, "ns", "hear", "1", 1, "a", text) for text in ("right", "again")]
    same(again, [True, False], "send returned")
    same(heard(engine, work(engine, log)), ["right"], "the run heard")


def timeouts(engine: Engine, folder: Path) -> None:
    """A signal that was sent up to the last moment counts, a later one is left to the next await.

    Compare the time of the signal with the end of the await, not with the present time.
    """
    clock = Clock()
    log = open_log(engine, folder / "log.db", clock)
    engine.start(log, "ns", "hear", "1", 3)
    engine.drain([engine.Workflow(log, "ns", "hear", hear_of(engine))])
    clock.forward(10_000)
    engine.send(log, "ns", "hear", "1", 1, "a", "at the last moment")
    clock.forward(1)
    engine.send(log, "ns", "hear", "1", 1, "b", None)
    clock.forward(60_000)  # Nobody has matched anything so far.
    wanted: list[str | None] = ["at the last moment", None]
    same(heard(engine, work(engine, log)), wanted, "the run heard")
    clock.forward(9_999)
    same(heard(engine, work(engine, log)), wanted, "after 9.999 s the run heard")
    clock.forward(2)  # At 10 s another signal may still come.
    same(heard(engine, work(engine, log)), [*wanted, None], "after 10.001 s the run heard")


def not_taken(engine: Engine, folder: Path) -> None:
    """An await that was answered takes no signal any more: it stays for the next await.

    Close the await in the transaction of its response.
    """

    def twice(_: None) -> Iterator[Any]:
        for _turn in range(2):
            signal = yield engine.receive(1, 10)
            yield engine.Output("heard", signal and signal.value)
            yield engine.sleep(60)

    clock = Clock()
    log = open_log(engine, folder / "log.db", clock)
    engine.start(log, "ns", "hear", "1")
    for forward in (0, 10_001, 10_000):
        clock.forward(forward)
        engine.work(log, "ns", {"hear": twice}, {})
        if forward == 10_001:
            engine.send(log, "ns", "hear", "1", 1, "a", "late")
    same(heard(engine, log), [None], "before its second await the run heard")
    clock.forward(60_000)
    engine.work(log, "ns", {"hear": twice}, {})
    same(heard(engine, log), [None, "late"], "the run heard")


def freed(engine: Engine, folder: Path) -> None:
    """An iteration that has ended keeps no signal: the next iteration gets it.

    Its awaits are closed.  A signal whose response comes after the completed event is free again.
    """
    for answered in (True, False):  # Before somebody gets to the end, or not.
        log = open_log(engine, folder / f"{answered}.db", Clock())
        engine.start(log, "ns", "hear", "1", 1)
        consumers = [engine.Workflow(log, "ns", "hear", hear_of(engine))]
        consumers += [engine.Matcher(log)] * (not answered)
        engine.drain(consumers)
        if answered:
            engine.send(log, "ns", "hear", "1", 1, "a", "kept")
        log.append([engine.New(engine.COMPLETED, "ns/hear/1/0")])  # As a cancel does in step 8.
        work(engine, log)
        if not answered:
            engine.send(log, "ns", "hear", "1", 1, "a", "kept")
            work(engine, log)
        log.append([engine.New(engine.CREATED, "ns/hear/1/1", 1)])
        same(heard(engine, work(engine, log)), ["kept"], "the next iteration heard")


def taken_once(engine: Engine, folder: Path) -> None:
    """At whatever statement the process dies, no signal is lost and none is taken twice.

    The response, the await's state and the signal's mark are one transaction.
    """
    for path, hook in crash_points(folder):
        clock = Clock()
        log = open_log(engine, path, clock)
        engine.start(log, "ns", "hear", "1", 4)
        for number in range(2):
            engine.send(log, "ns", "hear", "1", 1, str(number), number)

        def process(path: Path = path, clock: Clock = clock, hook: Any = hook) -> None:
            work(engine, open_log(engine, path, clock, hook))

        survive(process)
        engine.send(log, "ns", "hear", "1", 1, "2", 2)
        log = work(engine, open_log(engine, path, clock))
        clock.forward(10_001)
        same(heard(engine, work(engine, log)), [0, 1, 2, None], "the run heard")


CLAIMS = [early, in_order, only_its_own, timeouts, not_taken, freed, taken_once]


def watch(engine: Engine, folder: Path) -> None:
    """A signal that is sent before the run begins."""
    clock = Clock()
    log = open_log(engine, folder / "log.db", clock)
    print("sent:", engine.send(log, "ns", "hear", "1", 1, "a", "early"))
    engine.start(log, "ns", "hear", "1", 1)
    work(engine, log)
    clock.forward(10_000)
    show(work(engine, log))
