"""The check of step 7: ids that commit out of order.

SQLite gives ids under one lock.  Here `Held` plays a database server: it takes an id, and its event
becomes visible later.
"""

from __future__ import annotations

import contextlib
import sqlite3
from itertools import count
from pathlib import Path
from typing import Any

from tutorial.engine.faults import Clock, Engine, open_log, same, show, shown


class Held:
    """A transaction that has taken an id and has not committed."""

    def __init__(self, log: Any, key: str) -> None:
        self.log = log
        self.key = key
        log.db.execute(
            "INSERT INTO sqlite_sequence (name, seq) SELECT 'events', 0"
            " WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'events')"
        )
        sql = "UPDATE sqlite_sequence SET seq = seq + 1 WHERE name = 'events' RETURNING seq"
        self.id = log.db.execute(sql).fetchall()[0][0]

    def commit(self) -> bool:
        """Make the event visible; False if its id is taken, so that the writer has to try again."""
        sql = (
            "INSERT INTO events (id, type, key, iteration, time, value) VALUES (?, 1, ?, ?, 0, '1')"
        )
        try:
            self.log.db.execute(sql, (self.id, self.key, self.key))
        except sqlite3.IntegrityError:
            return False
        return True


def reader(engine: Engine, log: Any) -> tuple[Any, list[str]]:
    """A consumer, and the keys of the events that it has handled."""
    handled: list[str] = []

    class Reader(engine.Consumer):  # type: ignore[misc]
        def wants(self, event: Any) -> bool:
            return bool(event.type == engine.CREATED)

        def handle(self, event: Any) -> list[Any]:
            handled.append(event.key.split("/")[2])
            return []

    return Reader(log, "reader"), handled


def start(engine: Engine, log: Any, *runs: str) -> None:
    """Start runs."""
    for run in runs:
        engine.start(log, "ns", "order", run)


def not_skipped(engine: Engine, folder: Path) -> None:
    """An event that a transaction holds while a later one commits is not skipped.

    Stop before a missing id and fill it.  Then the held insert fails, and its writer tries again.
    """
    log = open_log(engine, folder / "log.db")
    start(engine, log, "first")
    held = Held(open_log(engine, folder / "log.db"), "ns/order/held/0")
    start(engine, log, "later")
    consumer, handled = reader(engine, log)
    engine.drain([consumer])
    if not held.commit():
        start(engine, log, "held")  # As a writer does whose id was taken.
    engine.drain([consumer])
    same(sorted(handled), ["first", "held", "later"], "the runs that were handled are")


def came_in_time(engine: Engine, folder: Path) -> None:
    """At whatever moment the held transaction commits, its event is handled or its insert refused.

    Let the insert of the no-op decide, and read again after it: the event may have come meanwhile.
    """
    for moment in count(1):
        path = folder / f"{moment}.db"
        done: list[bool] = []
        log = open_log(engine, path)
        start(engine, log, "first")
        held = Held(open_log(engine, path), "ns/order/held/0")
        start(engine, log, "later")

        def commit(n: int, at: int = moment, held: Held = held, done: list[bool] = done) -> None:
            if n == at:
                with contextlib.suppress(sqlite3.OperationalError):  # It would have to wait.
                    done.append(held.commit())

        consumer, handled = reader(engine, open_log(engine, path, hook=commit))
        engine.drain([consumer])
        if not done:
            done.append(held.commit())
        wanted = ["first", "held", "later"] if done == [True] else ["first", "later"]
        same(handled, wanted, "the runs that were handled are")
        if consumer.log.db.statements < moment:
            return


def from_the_start(engine: Engine, folder: Path) -> None:
    """It is the same at the beginning of an empty log, and for several ids in a row.

    The first id is 1: a log that begins with 3 has a gap.
    """
    log = open_log(engine, folder / "log.db")
    other = open_log(engine, folder / "log.db")
    held = [Held(other, f"ns/order/held-{n}/0") for n in range(2)]
    start(engine, log, "later")
    consumer, handled = reader(engine, log)
    engine.drain([consumer])
    same([each.commit() for each in held], [False, False], "the held events were stored")
    same(handled, ["later"], "the runs that were handled are")
    types = [event.type for event in log.read(0)]
    same(types, [engine.NOOP, engine.NOOP, engine.CREATED], "the types are")


def at_once(engine: Engine, folder: Path) -> None:
    """A transaction that was rolled back stalls nobody, however young the gap is.

    No time decides whether an id will come: there is no right number of seconds.
    """
    clock = Clock()
    log = open_log(engine, folder / "log.db", clock)
    consumer, handled = reader(engine, log)
    for run in ("first", "second", "third"):
        Held(open_log(engine, folder / "log.db"), "ns/order/lost/0")
        start(engine, log, run)
        engine.drain([consumer])
        same(handled[-1:], [run], "the last run that was handled is")


def two_readers(engine: Engine, folder: Path) -> None:
    """Two readers that meet the same gap do not disturb each other.

    An id that another reader has filled meanwhile is no error.
    """
    for moment in range(1, 20):
        path = folder / f"{moment}.db"
        log = open_log(engine, path)
        Held(open_log(engine, path), "ns/order/lost/0")
        start(engine, log, "later")

        def read(n: int, at: int = moment, path: Path = path) -> None:
            if n == at:
                with contextlib.suppress(sqlite3.OperationalError):  # It would have to wait.
                    list(open_log(engine, path).read(0))

        found = list(open_log(engine, path, hook=read).read(0))
        same([event.type for event in found], [engine.NOOP, engine.CREATED], "the types are")


CLAIMS = [not_skipped, came_in_time, from_the_start, at_once, two_readers]


def watch(engine: Engine, folder: Path) -> None:
    """A transaction that commits after a later one."""
    log = open_log(engine, folder / "log.db")
    start(engine, log, "first")
    held = Held(open_log(engine, folder / "log.db"), "ns/order/held/0")
    start(engine, log, "later")
    consumer, handled = reader(engine, log)
    engine.drain([consumer])
    print("handled:          ", *handled)
    print("the held one came:", held.commit())
    engine.drain([consumer])
    print("handled:          ", *handled)
    show(log)
    assert len(shown(log)) > 1
