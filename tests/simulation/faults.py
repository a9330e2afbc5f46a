"""One process's way to the database, on which whatever can happen between two statements happens.

A `Port` is a database as one simulated process sees it.  Several of them share one that is real;
each has its own faults, its own death, and its part of the locks.  Time is the world's.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NoReturn

from replay.storage.database import (
    Database,
    Insert,
    NotFound,
    OutcomeUnknown,
    RolledBack,
    Row,
    Statement,
    Unavailable,
)
from replay.storage.mysql import MySQL
from tests.support import Clock


class Killed(BaseException):
    """The process ends here: nothing of it goes on."""


#: What can happen at any call.
KINDS = (
    "lost",  # the connection, before it
    "lost after",
    "killed",  # the process, before it
    "killed after",
)
#: What can happen to a transaction.
ON_WRITES = (
    "not committed",  # the connection was lost before it
    "committed",  # and after it: in both cases nobody knows the outcome
    "undone",  # lost within it: it is rolled back, and nobody knows that
    "deadlock",  # rolled back, and the database says so
    "killed within",  # the process, in it: it is rolled back
)
#: How a process stands still at a call, and then goes on: as long as a lease, or shorter.
STANDS_STILL = ("hangs", "pauses")
AT_CALLS = (*KINDS, *ON_WRITES, *STANDS_STILL)
_FAILS = Statement("UPDATE replay_meta SET value = value WHERE name = ''", must_find=1)


@dataclass
class Shared:
    """What all processes have in common besides the database."""

    clock: Clock = field(default_factory=Clock)
    locks: dict[str, Port] = field(default_factory=dict)
    #: Ids of events and signals that an open transaction holds: table and id.
    held: set[tuple[str, int]] = field(default_factory=set)
    fired: Counter[str] = field(default_factory=Counter)


class Faults:
    """What is going to happen at the calls of one process."""

    def __init__(self, shared: Shared, stand_still: Callable[[str], None]) -> None:
        self._shared = shared
        self._stand_still = stand_still
        self._armed: list[tuple[str, int]] = []

    def arm(self, kind: str, at: int) -> None:
        """Have this happen at the `at`-th call from now, 1 being the next."""
        self._armed.append((kind, at))

    def disarm(self) -> None:
        """Nothing happens any more."""
        self._armed.clear()

    def due(self, writing: bool) -> str:
        """The fault of this call, if there is one; it has stood still or been killed already."""
        if not self._armed:
            return ""
        due, left = "", []
        for kind, at in self._armed:
            counts = writing or kind not in ON_WRITES
            if counts and at == 1:
                due = kind
            else:
                left.append((kind, at - counts))
        self._armed = left
        if not due:
            return ""
        self._shared.fired[f"at a call: {due}"] += 1
        if due == "killed":
            raise Killed
        if due in STANDS_STILL:
            self._stand_still(due)
            return ""
        return due


class Port(Database):
    """The database, for one process."""

    def __init__(self, inner: Database, shared: Shared, faults: Faults, limit: int) -> None:
        super().__init__(inner.name, {})
        self.max_message = limit
        self.skip_duplicates = inner.skip_duplicates
        self.dead = False
        self._cut = 0
        self._inner = inner
        self._shared = shared
        self._faults = faults
        self._translated = inner._translated  # type: ignore[method-assign]

    def die(self, *, half_open: bool = False) -> None:
        """No more calls; the locks go, unless the server has not noticed."""
        self.dead = True
        if not half_open:
            self._disconnect()

    def now(self) -> datetime:
        """The world's time."""
        return self._shared.clock.now

    def _due(self, writing: bool) -> str:
        """The fault of this call, if there is one."""
        if self.dead:
            raise Unavailable("the process is dead")
        try:
            due = self._faults.due(writing)
        except Killed:
            self.dead = True
            raise
        if due in ("lost", "not committed"):
            self._disconnect()
            raise Unavailable("fault: lost before the statement")
        return due

    def _after(self, due: str, committing: bool) -> None:
        if due == "killed after":
            self.dead = True
            raise Killed
        if due in ("lost after", "committed"):
            self._disconnect()
            raise (OutcomeUnknown if committing else Unavailable)("fault: lost after the statement")

    def _disconnect(self) -> None:
        """A server gives the locks back; the consumers that had them do not know it yet."""
        for name in [name for name, port in self._shared.locks.items() if port is self]:
            del self._shared.locks[name]
        self.losses += 1
        if isinstance(self._inner, MySQL):
            self._inner._discard()

    def _write(self, statements: Sequence[Statement], inserts: Sequence[Insert]) -> list[int]:
        due = self._due(writing=True)
        if due in ("undone", "deadlock", "killed within"):
            self._roll_back(due, statements)
        ids = self._inner._write(statements, inserts)
        self._after(due, committing=True)
        return ids

    def _roll_back(self, due: str, statements: Sequence[Statement]) -> NoReturn:
        """It ends within the transaction: after each number of its statements in turn."""
        self._cut += 1
        some = statements[: self._cut % (len(statements) + 1)]
        with contextlib.suppress(NotFound), self._inner._translated():
            self._inner._write([*some, _FAILS], [])
        if due == "deadlock":
            raise RolledBack("fault: deadlock")
        if due == "killed within":
            self.dead = True
            raise Killed
        self._disconnect()
        raise OutcomeUnknown("fault: lost in the transaction")

    def _execute(self, sql: str, parameters: Sequence[object]) -> Sequence[Row]:
        due = self._due(writing=False)
        rows = self._inner._execute(sql, parameters)
        self._after(due, committing=False)
        return rows

    def newest(self) -> tuple[int, int, bool]:
        """As in `Database`."""
        due = self._due(writing=False)
        found = self._inner.newest()
        self._after(due, committing=False)
        return found

    def fence(self, table: str, columns: str, rows: Sequence[Row]) -> bool:
        """As in `Database`: what an open transaction holds is waited for, here for no time."""
        held = any((table, row[0]) in self._shared.held for row in rows)
        return not held and super().fence(table, columns, rows)

    def lock(self, name: str, wait: float) -> str:
        """As in `Database`: held by the process, gone with it."""
        self._due(writing=False)
        return "world" if self._shared.locks.setdefault(name, self) is self else ""

    def unlock(self, name: str) -> None:
        """As in `Database`."""
        if not self.dead and self._shared.locks.get(name) is self:
            del self._shared.locks[name]

    def _translated(self, committing: bool = False) -> contextlib.AbstractContextManager[None]:
        """As the inner one's, which `__init__` puts into its place."""
        raise NotImplementedError

    def release(self) -> None:
        """As in `Database`."""

    def close(self) -> None:
        """As in `Database`; the world closes what is real."""

    def _columns(self, table: str) -> set[str]:
        return self._inner._columns(table)

    def _define(self, table: str, columns: str) -> None:
        self._inner._define(table, columns)

    def _alter(self, sql: str) -> None:
        self._inner._alter(sql)

    def _index(self, table: str, name: str, unique: bool, on: str) -> None:
        self._inner._index(table, name, unique, on)
