"""The check of step 0: what a log promises."""

from __future__ import annotations

import contextlib
import sqlite3
from functools import partial
from pathlib import Path

from tutorial.engine.faults import (
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

CASE = "ns/flow/case/0"


def once(engine: Engine, folder: Path) -> None:
    """A duplicate is stored once, and the second call says so.

    The database has to refuse it: UNIQUE (type, key).  The first event stays as it is.
    """
    log = open_log(engine, folder / "log.db")
    new = [log.append([engine.New(engine.CREATED, CASE, value)]) for value in (1, 2)]
    same(new, [[True], [False]], "append returned")
    same(shown(log), [(engine.CREATED, CASE, 1)], "the log has")


def told_apart(engine: Engine, folder: Path) -> None:
    """Events of different types, and keys that differ in anything, are different.

    Type and key together are unique.  Compare keys character by character.
    """
    log = open_log(engine, folder / "log.db")
    keys = [CASE, "ns/flow/Case/0", "ns/flow/cäse/0", "ns/flow/cas/e0"]
    events = [engine.New(engine.CREATED, key) for key in keys]
    events.append(engine.New(engine.COMPLETED, CASE))
    same(log.append(events), [True] * len(events), "append returned")
    same([event.key for event in log.read(0)], [*keys, CASE], "the keys are")


def in_order(engine: Engine, folder: Path) -> None:
    """A reader gets the events after an id, in the order of their ids; a duplicate uses up no id.

    SQLite takes an id for a row that it then refuses: look first, in the same statement.
    """
    log = open_log(engine, folder / "log.db")
    for number in (3, 1, 1, 1, 2):
        log.append([engine.New(engine.OUTPUT, f"ns/flow/run/0/out/{number}", number)])
    same([event.value for event in log.read(0)], [3, 1, 2], "the values are")
    same([event.id for event in log.read(1)], [2, 3], "the ids after 1 are")


def all_or_nothing(engine: Engine, folder: Path) -> None:
    """Events that are added together are stored together, at whatever statement the process dies.

    BEGIN IMMEDIATE, COMMIT if all went well, ROLLBACK if not.
    """
    batch = [engine.New(engine.OUTPUT, f"ns/flow/run/0/out/{n}", n) for n in range(3)]
    for path, hook in crash_points(folder):
        log = open_log(engine, path, hook=hook)
        survive(partial(log.append, batch))
        stored = len(shown(open_log(engine, path)))
        assert stored in (0, 3), f"{stored} of 3 events are stored"
    assert stored == 3, "nothing is stored in the end"


def refused(engine: Engine, folder: Path) -> None:
    """A value that cannot be stored leaves nothing behind, and the log goes on.

    A ROLLBACK ends the transaction, so that the next one can begin.
    """
    log = open_log(engine, folder / "log.db")
    good, bad = (engine.New(engine.OUTPUT, f"ns/flow/run/0/{n}", n) for n in (1.0, float("nan")))
    with contextlib.suppress(ValueError):
        log.append([good, bad])
    same(shown(log), [], "the log has")
    same(log.append([good]), [True], "append returned")


def two_at_once(engine: Engine, folder: Path) -> None:
    """Of two processes that add the same event at once, exactly one adds it.

    To look first and insert later is too late, unless both are one transaction.
    """
    event = engine.New(engine.CREATED, CASE)
    for moment in range(1, 9):
        path = folder / f"{moment}.db"
        other = open_log(engine, path)
        answers: list[bool] = []

        def add(
            n: int, at: int = moment, other: engine.Log = other, answers: list[bool] = answers
        ) -> None:
            if n == at:
                with contextlib.suppress(sqlite3.OperationalError):  # It would have to wait.
                    answers.extend(other.append([event]))

        log = open_log(engine, path, hook=add)
        answers.extend(log.append([event]))
        same(sum(answers), 1, "the number of calls that added it is")
        same(len(shown(other)), 1, "the number of events is")


def kept(engine: Engine, folder: Path) -> None:
    """An event is there after its process was killed with kill -9.

    An event is committed when append returns.
    """
    path = folder / "log.db"

    def process() -> None:
        engine.Log(str(path)).append([engine.New(engine.CREATED, CASE, {"name": "tea"})])
        kill()

    assert killed(process)
    same(shown(open_log(engine, path)), [(engine.CREATED, CASE, {"name": "tea"})], "the log has")


CLAIMS = [once, told_apart, in_order, all_or_nothing, refused, two_at_once, kept]


def watch(engine: Engine, folder: Path) -> None:
    """Two calls start the same run."""
    log = open_log(engine, folder / "log.db")
    for caller in ("web", "phone"):
        print(f"{caller}: new {engine.start(log, 'shop', 'order', '17', caller)}")
    show(log)
