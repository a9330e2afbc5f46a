"""Group commit: transactions that threads of a process want at the same time become one.

Role: while one thread commits, those that come next gather.  Then one of them, the *leader*,
commits for all of them.  A sync to disk, a round trip and a lookup are paid once for each group.
The cursor of an idle consumer is in no hurry: it waits a moment for others to go with.

Invariants:

- Each caller gets its own answer.  A database does not say whose statement has failed.  So if a
  group fails, each member is committed alone, by its own thread.  One that has to wait for a lock
  then holds up nobody else.
- After `OutcomeUnknown` nothing is repeated.  Each member gets that error.
- The lock decides who leads.  An alarm only spares a thread the queue for the lock, so one that
  never rings costs time and nothing else.  A leader that is interrupted (Ctrl-C) strands nobody.
- No thread leaves before its transaction has ended, so its own commits stay in order.

Left to `replay.log` and `replay.signal`: what is stored.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from .database import (
    Database,
    Duplicate,
    Insert,
    Inside,
    OutcomeUnknown,
    RolledBack,
    Statement,
    entered,
)
from .tail import BYTES, Alarm

_PATIENCE = 0.05  # seconds that a thread waits for a leader before it queues for the lock
_MOMENT = 0.0003  # seconds that a leader waits at most for others
_HURRY = 0.1  # seconds in which no leader waits, after one that has waited too long
MOST_ROWS = 2000  # statements and rows of a group: others wait for the transaction


class Look(NamedTuple):
    """Asks whether a row exists: a query as `for_each` takes it, and the value that it returns."""

    sql: str
    value: str | bytes
    before: tuple[str | int, ...]


class Member:
    """One transaction: statements, and rows for one table, which have `size` bytes.

    With `look` it is stored only if the row does not exist.  `publish` is called with the new ids,
    as `Database.write` returns them, before any member of the group has its answer.  One that is
    `patient` waits a moment for a transaction that it can go with.
    """

    __slots__ = (
        *("alarm", "alone", "answer", "look", "patient", "publish"),
        *("rows", "sent", "size", "statements", "table"),
    )

    def __init__(
        self,
        statements: Sequence[Statement],
        insert: Insert | None,
        size: int,
        publish: Callable[[list[int]], None],
        look: Look | None = None,
    ) -> None:
        self.statements = statements
        self.table = insert[:2] if insert else ("", "")
        self.rows = insert.rows if insert else ()
        self.size = size + sum([_size(each.parameters) for each in statements])
        self.publish = publish
        self.look = look
        self.alarm = Alarm()
        self.sent = False  # whether it may have been stored
        self.alone = False  # whether its own thread is to commit it
        self.patient = False
        self.answer: bool | OutcomeUnknown | None = None  # whether it was stored

    def count(self) -> int:
        """How many statements and rows there are."""
        return len(self.statements) + len(self.rows)

    def ended(self) -> bool:
        """Whether the leader has done what a leader does."""
        return self.alone or self.answer is not None


class Group:
    """The commits of one process to one database.  Safe to use from any thread."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: deque[Member] = deque()
        self._patient: deque[Member] = deque()  # they wait too, and nobody has them lead
        self._led = 0  # the thread that was the last to lead
        self._lead = threading.Lock()
        self._inside = Inside()
        self._hurry_until = 0.0
        self._callers = 0  # members of the last group that looked for their rows

    def inside(self) -> threading.RLock:
        """The lock that the calling thread holds while it is inside `commit`."""
        return self._inside.lock

    def commit(self, member: Member) -> bool:
        """Commit one transaction, alone or with others.  Returns False if its look finds the row.

        Raises what `Database.write` raises.
        """
        with entered(self._inside.lock):
            try:
                if not member.alone:
                    self._join(member)
                while not member.ended():
                    self._wait_or_lead(member)
            except BaseException:
                self._leave(member)
                raise
            return self._answer(member)

    def _join(self, member: Member) -> None:
        """Have a member wait.  There is nothing to go with if no other thread commits."""
        member.patient &= self._led not in (0, threading.get_ident())
        (self._patient if member.patient else self._waiting).append(member)

    def _answer(self, member: Member) -> bool:
        if member.alone:
            return self._commit_alone(member)
        if isinstance(member.answer, OutcomeUnknown):
            raise member.answer
        return bool(member.answer)

    def _wait_or_lead(self, member: Member) -> None:
        if (member.patient or self._lead.locked()) and member.alarm.wait(_PATIENCE):
            return
        try:
            with self._lead:
                if member.ended():
                    return
                if member.sent:  # and there is no answer
                    raise OutcomeUnknown(f"{self._database.name}: interrupted (Ctrl-C) in a commit")
                if member.look is not None:
                    self._await_callers()
                self._commit(self._gather(member))
        finally:
            self._ring_next()  # when the lock is free: those who came until then wait for this

    def _await_callers(self) -> None:
        """Wait a moment for the threads that the last leader has woken: they often come again.

        Without this they would form two or three groups that take turns.
        """
        if (begun := time.monotonic()) < self._hurry_until:
            return
        while len(self._waiting) < self._callers and time.monotonic() < begun + _MOMENT:
            time.sleep(0)
        # While a thread computes, it takes Python 5 ms to come back here.
        if (now := time.monotonic()) > begun + 4 * _MOMENT:
            self._hurry_until = now + _HURRY

    def _ring_next(self) -> None:
        """Have the next thread lead."""
        with contextlib.suppress(IndexError):
            self._waiting[0].alarm.ring()

    def _leave(self, member: Member) -> None:
        """Forget a member whose thread goes away; it may have been told to lead."""
        self._take(member)
        self._ring_next()

    def _take(self, member: Member) -> None:
        """Have a member wait no longer; a leader may have taken it already."""
        with contextlib.suppress(ValueError):
            (self._patient if member.patient else self._waiting).remove(member)

    def _gather(self, leader: Member) -> list[Member]:
        """Take the members of a group: the leader, and what fits into the same transaction.

        Of two that look for the same row, the second comes later, and finds what the first stored.
        """
        self._take(leader)
        group, looks = [leader], {leader.look}
        size, count = leader.size, leader.count()
        while waiting := self._waiting or self._patient:
            member = waiting.popleft()
            size, count = size + member.size, count + member.count()
            # Ctrl-C may come to a caller, and must not reach the consumers (their commits have
            # statements).
            foreign = bool(member.statements) and not leader.statements
            twice = member.look is not None and member.look in looks
            if size > BYTES or count > MOST_ROWS or twice or foreign:
                waiting.appendleft(member)
                break
            group.append(member)
            looks.add(member.look)
        return group

    def _commit(self, group: Sequence[Member]) -> None:
        """Commit a group.  If it fails, leave its members to their threads."""
        self._led = threading.get_ident()
        self._callers = sum(member.look is not None for member in group)
        try:
            self._store(group)
        except OutcomeUnknown as error:
            for member in group:
                if not member.ended():
                    member.answer = OutcomeUnknown(str(error))
        except Exception as error:
            if len(group) == 1 and not isinstance(error, RolledBack):
                raise
            for member in group:
                member.alone = not member.ended()
        finally:
            for member in group:
                member.alarm.ring()

    def _store(self, group: Sequence[Member]) -> None:
        if len(group) == 1 and not self._database.loses_ids:
            group[0].answer = self._try(group[0])
            return
        known, fresh = self._known(group), list[Member]()
        for member in group:
            if member.look in known:
                member.answer = False
            else:
                fresh.append(member)
        if fresh:
            self._write(fresh)

    def _try(self, member: Member) -> bool:
        """Store a member without a look, where a refused insert uses up no id."""
        try:
            self._write([member])
        except Duplicate:
            if member.look is None:
                raise
            return False
        return True

    def _write(self, group: Sequence[Member]) -> None:
        """Store a group in one transaction, and publish it before the next one can begin."""
        tables: dict[tuple[str, str], list[Member]] = {}
        for member in group:
            tables.setdefault(member.table, []).append(member)
        statements = [each for member in group for each in member.statements]
        inserts = [
            Insert(*table, rows)
            for table, members in tables.items()
            if (rows := [row for member in members for row in member.rows])
        ]

        def publish(ids: list[int]) -> None:
            numbers = iter(ids)
            for member in itertools.chain(*tables.values()):
                try:
                    member.publish(list(itertools.islice(numbers, len(member.rows))))
                finally:
                    member.answer = True

        for member in group:
            member.sent = True
        self._database.attempt(statements, inserts, publish)

    def _known(self, group: Sequence[Member]) -> set[Look | None]:
        """Return those looks of the group that find their rows."""
        asked: dict[tuple[str, tuple[str | int, ...]], list[str | bytes]] = {}
        for member in group:
            if (look := member.look) is not None:
                asked.setdefault((look.sql, look.before), []).append(look.value)
        return {
            Look(sql, value, before)
            for (sql, before), values in asked.items()
            for (value,) in self._database.query_each(sql, values, *before)
        }

    def _commit_alone(self, member: Member) -> bool:
        if self._known([member]):
            return False
        inserts = [Insert(*member.table, member.rows)] if member.rows else []
        self._database.write(member.statements, *inserts, made=member.sent, then=member.publish)
        return True


def _size(values: Sequence[object]) -> int:
    return sum([len(value) for value in values if type(value) is str or type(value) is bytes])
