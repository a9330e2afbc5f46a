"""A log: events are added, each once, and read in order."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

NOOP, CREATED, COMPLETED, OUTPUT, REQUEST, RESPONSE = range(6)

TABLES = [
    # TODO(you): Let the database refuse a second event with the same type and key.
    # instead: """CREATE TABLE IF NOT EXISTS events (
    # instead:     id INTEGER PRIMARY KEY AUTOINCREMENT, type INTEGER NOT NULL, key TEXT NOT NULL,
    # instead:     iteration TEXT NOT NULL, time INTEGER NOT NULL, value TEXT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS events (
        id INTEGER PRIMARY KEY AUTOINCREMENT, type INTEGER NOT NULL, key TEXT NOT NULL,
        iteration TEXT NOT NULL, time INTEGER NOT NULL, value TEXT NOT NULL, UNIQUE (type, key))""",
    # done
    "CREATE INDEX IF NOT EXISTS events_of ON events (iteration, id)",
]


class BadName(ValueError):
    """A name that no key can hold."""


class New(NamedTuple):
    """An event that is to be added."""

    type: int
    key: str
    value: Any = None

    @property
    def iteration(self) -> str:
        """The first four parts of the key: namespace, workflow, run and iteration."""
        return "/".join(self.key.split("/")[:4])


class Event(NamedTuple):
    """An event in the log.  Its time is in milliseconds since 1970."""

    id: int
    type: int
    key: str
    time: int
    value: Any

    @property
    def iteration(self) -> str:
        """The first four parts of the key: namespace, workflow, run and iteration."""
        return "/".join(self.key.split("/")[:4])


def key(*names: object) -> str:
    """A key of these names; raises BadName where two keys could be taken for each other."""
    for name in map(str, names):
        if not name or "/" in name or name in (".", "..") or name != name.strip():
            raise BadName(f"{name!r} is no name")
        if not name.isprintable():
            raise BadName(f"{name!r} has a character that cannot be printed")
    return "/".join(map(str, names))


def clock() -> int:
    """The time in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Log:
    """The events, in the order of their ids, in a SQLite file."""

    def __init__(self, path: str) -> None:
        self.db = sqlite3.connect(path, timeout=10, isolation_level=None)
        self.now = clock
        self.db.execute("PRAGMA journal_mode = WAL")  # Readers do not wait for a writer.
        for table in TABLES:
            self.db.execute(table)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Store all that is written inside, or nothing."""
        # TODO(you): BEGIN IMMEDIATE first.  Then COMMIT if all went well, and ROLLBACK if not.
        # instead: yield
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.db.execute("COMMIT")
        except BaseException:
            self.db.execute("ROLLBACK")
            raise
        # done

    def append(self, events: Sequence[New]) -> list[bool]:
        """Add events in one transaction; for each, whether it was new."""
        with self.transaction():
            return [self.add(event) for event in events]

    def add(self, event: New) -> bool:
        """Add an event inside a transaction, unless its type and key are there already."""
        row = (event.type, event.key, event.iteration, self.now())
        value = json.dumps(event.value, allow_nan=False)
        # TODO(you): Store nothing, and use up no id, if the log has an event of this type and key.
        # instead: sql = "INSERT INTO events (type, key, iteration, time, value) VALUES (?, ?, ?, ?, ?)"
        # instead: return self.db.execute(sql, (*row, value)).rowcount == 1
        sql = """INSERT INTO events (type, key, iteration, time, value) SELECT ?, ?, ?, ?, ?
            WHERE NOT EXISTS (SELECT 1 FROM events WHERE type = ? AND key = ?)"""
        return self.db.execute(sql, (*row, value, event.type, event.key)).rowcount == 1
        # done

    def read(self, after: int) -> Iterator[Event]:
        """The events with larger ids, in order, while you ask for them."""
        yield from self._select("id > ? ORDER BY id", after)

    def history(self, iteration: str) -> list[Event]:
        """The events of one iteration of a run."""
        return list(self._select("iteration = ? ORDER BY id", iteration))

    def _select(self, which: str, *values: object) -> Iterator[Event]:
        sql = f"SELECT id, type, key, time, value FROM events WHERE {which}"
        for id, type, key, stamp, value in self.db.execute(sql, values):
            yield Event(id, type, key, stamp, json.loads(value))


def start(log: Log, namespace: str, workflow: str, run: str, value: Any = None) -> bool:
    """Start a run; False if it was started before, with this input or another."""
    return log.append([New(CREATED, key(namespace, workflow, run, 0), value)])[0]
