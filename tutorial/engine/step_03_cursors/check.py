"""The check of step 3: what a consumer adds and how far it has come are one transaction."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from tutorial.engine.faults import (
    Engine,
    Notes,
    crash_points,
    open_log,
    same,
    shown,
    survive,
)
from tutorial.engine.step_01_replay.check import order_of, works_of

ORDERS = 3


def counter(engine: Engine, log: Any, name: str = "count", bad: Any = None) -> Any:
    """A consumer that counts runs in a table of its own, and notes each in the log."""
    log.db.execute("CREATE TABLE IF NOT EXISTS totals (name TEXT PRIMARY KEY, runs INTEGER)")
    log.db.execute("INSERT OR IGNORE INTO totals VALUES (?, 0)", (name,))

    class Counter(engine.Consumer):  # type: ignore[misc]
        def wants(self, event: Any) -> bool:
            return bool(event.type == engine.CREATED)

        def handle(self, event: Any) -> list[Any]:
            sql = "UPDATE totals SET runs = runs + 1 WHERE name = ?"
            return [
                engine.Change(sql, (self.name,)),
                engine.New(engine.OUTPUT, f"{event.key}/{self.name}/0", bad and bad()),
            ]

    return Counter(log, name)


def totals(log: Any) -> dict[str, int]:
    """The totals of all counters."""
    return dict(log.db.execute("SELECT name, runs FROM totals"))


def begin(engine: Engine, path: Path) -> Any:
    """A log with some runs, and the table of totals."""
    log = open_log(engine, path)
    for run in range(ORDERS):
        engine.start(log, "ns", "order", run, "tea")
    counter(engine, log)
    return log


def counted_once(engine: Engine, folder: Path) -> None:
    """At whatever statement the consumer dies, each event is counted once.

    The events, the changes and the position are one transaction.  Of two transactions, one can be
    lost or done twice, whichever comes first.
    """
    for path, hook in crash_points(folder):
        begin(engine, path)

        def process(path: Path = path, hook: Any = hook) -> None:
            engine.drain([counter(engine, open_log(engine, path, hook=hook))])

        survive(process)
        log = open_log(engine, path)
        engine.drain([counter(engine, log)])
        same(totals(log), {"count": ORDERS}, "the totals are")
        noted = sum(event[0] == engine.OUTPUT for event in shown(log))
        same(noted, ORDERS, "the number of notes is")


def goes_on(engine: Engine, folder: Path) -> None:
    """A new process of the same name goes on behind the position, and another name at the start.

    Each name has a row of its own.
    """
    log = begin(engine, folder / "log.db")
    engine.drain([counter(engine, log)])
    engine.drain([counter(engine, open_log(engine, folder / "log.db"))])
    same(totals(log), {"count": ORDERS}, "the totals are")
    engine.drain([counter(engine, log, "another")])
    same(totals(log), {"count": ORDERS, "another": ORDERS}, "the totals are")


def not_lost(engine: Engine, folder: Path) -> None:
    """An event that could not be handled, or not be stored, is handled by the next step.

    Move the position in memory after the commit, and nowhere else.
    """
    log = begin(engine, folder / "log.db")
    answers = iter(["", float("nan")])

    def bad() -> Any:
        answer = next(answers, None)
        if answer == "":
            raise RuntimeError("the first attempt fails")
        return answer

    consumer = counter(engine, log, bad=bad)
    for error in (RuntimeError, ValueError):
        with contextlib.suppress(error):
            consumer.step()
    engine.drain([consumer])
    same(totals(log), {"count": ORDERS}, "the totals are")


def same_log(engine: Engine, folder: Path) -> None:
    """At whatever statement the process dies, a run's log becomes the same in the end.

    Handling an event twice adds nothing, because the log has a request or a response once.
    """
    flows, logs = {"order": order_of(engine)}, []
    for path, hook in crash_points(folder):
        notes = Notes(path.with_suffix(".notes"))
        engine.start(open_log(engine, path), "ns", "order", "17", "tea")

        def process(path: Path = path, hook: Any = hook, notes: Notes = notes) -> None:
            engine.work(open_log(engine, path, hook=hook), "ns", flows, works_of(notes))

        survive(process)
        log = open_log(engine, path)
        engine.work(log, "ns", flows, works_of(notes))
        logs.append(shown(log))
        assert len(notes.lines()) <= 3, f"{notes.lines()}: a crash repeats one execution at most"
    for each in logs:
        same(each, logs[-1], "the log is")
    same(len(logs[-1]), 8, "the number of events is")


CLAIMS = [counted_once, goes_on, not_lost, same_log]


def watch(engine: Engine, folder: Path) -> None:
    """A counter that dies at each of its statements."""
    for path, hook in crash_points(folder):
        begin(engine, path)

        def process(path: Path = path, hook: Any = hook) -> None:
            engine.drain([counter(engine, open_log(engine, path, hook=hook))])

        survive(process)
        log = open_log(engine, path)
        engine.drain([counter(engine, log)])
        found = totals(log)["count"]
        if found != ORDERS:
            print(f"{path.stem}: {found} runs counted, not {ORDERS}")
    print("All crash points tried.")
