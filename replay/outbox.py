"""The outbox: a program starts and signals runs within its own transactions (V4).

Role: `Outbox` writes a row into the table `replay_inbox` through your own connection.  `Mover`
moves the rows of committed transactions into the log.

Invariants:

- A row that is moved is removed by the same transaction.  So it has its effect once, and no crash
  loses it.
- There is no cursor: ids commit in any order, so a low id may come late.  The mover takes all rows
  that it can see, in the order of their ids.  One connection gets its ids in the order of its
  calls, and commits them in this order.
- A row waits for its own transaction only.  A row in `replay_events` would not do: nobody reads
  past an id that a transaction holds, so one that stays open would stop everybody (L1).

Left to `replay.client`: the name under which users call this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from typing import Any, NamedTuple, TypeVar, overload

from . import signal as signals
from .consumer import Batch, Consumer, Metrics
from .failure import clean, text_of
from .log import MESSAGE, SMALL, Attempts, Log, Pace, Parked, messages
from .signature import SignalType, encoded_input, encoded_signal, workflow_name
from .storage.database import (
    LOG_ID,
    Duplicate,
    Error,
    Row,
    Statement,
    Unavailable,
    insertion,
    to_text,
)
from .storage.dispatch import Interest
from .storage.event import (
    UNKNOWN,
    Event,
    EventType,
    InvalidName,
    Key,
    MessageError,
    MessageTooLarge,
    check_run,
    read_message,
)
from .storage.tail import fitting

M = TypeVar("M")

TARGET = "replay_inbox"
_COLUMNS = "namespace, workflow, run, type, external_id, message, created_at"
#: One statement, so a wrong database is found without another question to it.
_PUT = (
    f"INSERT INTO replay_inbox ({_COLUMNS})"
    f" SELECT ?, ?, ?, ?, ?, ?, ? FROM replay_meta WHERE name = '{LOG_ID}' AND value = ?"
)
_READ = (
    f"SELECT id, namespace, workflow, run, type, external_id, {MESSAGE} FROM replay_inbox"
    " WHERE error IS NULL ORDER BY id LIMIT ?"
)
_REASON = 255  # characters of an error that its column holds


class BadConnection(Error, TypeError):
    """This is no connection through which rows can be written."""


class WrongDatabase(Error):
    """A connection leads to another database than the log's.  Nothing was written."""


class Outbox:
    """Starts and signals runs within a transaction of yours: see `Client.within`.

    Each call checks everything at once, writes a row, and returns None: whether it is a duplicate
    shows only later, and a duplicate changes nothing (V4).
    """

    def __init__(self, log: Log, connection: Any) -> None:
        log.require_embedded("within(connection)")
        if not (hasattr(connection, "exec_driver_sql") or hasattr(connection, "cursor")):
            raise BadConnection(
                f"within({type(connection).__name__}): expected a DB-API connection, or an"
                " SQLAlchemy Connection: of a Session pass session.connection()"
            )
        self._log = log
        self._connection = connection

    @overload
    def run_workflow(
        self, namespace: str, workflow: Callable[[Any, M], object], run: str, message: M
    ) -> None: ...
    @overload
    def run_workflow(self, namespace: str, workflow: str, run: str, message: Any) -> None: ...
    def run_workflow(self, namespace: str, workflow: Any, run: str, message: Any) -> None:
        """Start a run when the transaction commits.  Raises as `Client.run_workflow` does.

        Also raises `WrongDatabase`, and the errors of your driver.
        """
        key, message = encoded_input(namespace, workflow, run, message)
        created = self._log.event(EventType.RUN_CREATED, key, message)
        self._put(key[:3], None, None, created.raw)

    @overload
    def signal_run(
        self,
        namespace: str,
        workflow: str | Callable[..., Any],
        run: str,
        signal: SignalType[M],
        message: M,
        external_id: str,
    ) -> None: ...
    @overload
    def signal_run(
        self,
        namespace: str,
        workflow: str | Callable[..., Any],
        run: str,
        signal: int | IntEnum,
        message: Any,
        external_id: str,
    ) -> None: ...
    def signal_run(
        self,
        namespace: str,
        workflow: str | Callable[..., Any],
        run: str,
        signal: int | IntEnum | SignalType[Any],
        message: Any,
        external_id: str,
    ) -> None:
        """Send a signal when the transaction commits.  Raises as `Client.signal_run` does.

        Also raises `WrongDatabase`, and the errors of your driver.
        """
        to = (namespace, workflow_name(workflow), run)
        signal, message = encoded_signal(to, signal, message)
        type, _ = signals.checked(to, signal, message, external_id)
        self._put(to, type, external_id, signals.packed(self._log, to, type, message))

    def _put(
        self, to: signals.Run, type: int | None, external_id: str | None, raw: bytes | None
    ) -> None:
        database = self._log.database
        row = (*to, type, external_id, raw, to_text(database.now()), database.log_id)
        sql = _PUT.replace("?", database.placeholder)
        try:
            found = self._execute(sql, row)
        except Exception as error:
            # There is no such table, or the account may not use it.
            if any(table in str(error) for table in (TARGET, "replay_meta")):
                raise self._wrong(f": {error}") from error
            raise
        if found != 1:
            raise self._wrong("")

    def _execute(self, sql: str, row: Row) -> int:
        if hasattr(self._connection, "exec_driver_sql"):  # SQLAlchemy
            return int(self._connection.exec_driver_sql(sql, row).rowcount)
        cursor = self._connection.cursor()
        try:
            cursor.execute(sql, row)
            return int(cursor.rowcount)
        finally:
            cursor.close()

    def _wrong(self, problem: str) -> WrongDatabase:
        return WrongDatabase(
            f"within(connection): the connection does not lead to {self._log.name}, or may not"
            f" write to {TARGET} there{problem}"
        )


class _Letter(NamedTuple):
    """A row of the inbox: a run to start if it has no type, else a signal."""

    id: int
    to: signals.Run
    type: int | None
    external_id: str | None
    raw: bytes | None


class Mover(Consumer):
    """Moves what committed transactions have left in the inbox into the log."""

    interest = Interest(frozenset())

    def __init__(self, events: Log, *, metrics: Metrics | None = None) -> None:
        super().__init__(events, TARGET, metrics=metrics)
        self._waiter.inbox = True
        self._pace = Pace()
        self._signalled = False  # whether this step stores signals

    def wants(self, event: Event) -> bool:
        """As in `Consumer`: it reads its table only."""
        return False

    def retry(self, parked: Parked, batch: Batch) -> None:
        """As in `Consumer`; it parks nothing."""

    def handle(self, events: Sequence[Event], batch: Batch) -> None:
        """As in `Consumer`."""
        self._signalled = False
        if not self._log.tail.inbox:  # so it asks nothing as long as nobody uses it
            return
        starts: dict[Key, Event] = {}
        sent: dict[bytes, Row] = {}
        for letter in self._letters():
            try:
                self._open(letter, starts, sent)
            except (TypeError, ValueError, MessageError) as error:
                batch.also.append(self._refuse(letter.id, error))
            else:
                # One by one: a server that scans for several would wait for rows of open
                # transactions.
                sql = f"DELETE FROM {TARGET} WHERE id = ?"
                batch.also.append(Statement(sql, (letter.id,), must_find=1))
        known = self._log.among(EventType.RUN_CREATED, list(starts))
        for key, event in starts.items():
            if str(key) not in known:
                batch.add(event)
        batch.also += self._store(sent)

    def _letters(self) -> Iterator[_Letter]:
        """Read the next rows, up to 1,000 of 8 MiB in all."""
        database = self._log.database
        rows = database.query(_READ, (self._pace.ask(),))
        rows = rows[: fitting(row[7] or 0 for row in rows)]
        self._pace.took(len(rows))
        large = messages(database, TARGET, [row[0] for row in rows if (row[7] or 0) > SMALL])
        for id, *to, type, external_id, message, _ in rows:
            raw = read_message(large.get(id, message))
            yield _Letter(id, (to[0], to[1], to[2]), type, external_id, raw)

    def _open(self, letter: _Letter, starts: dict[Key, Event], sent: dict[bytes, Row]) -> None:
        """Find out what a row asks for.  Another program may have written anything into it (L3)."""
        to, type, external_id, raw = letter[1:]
        if len(raw or b"") > self._log.max_message:
            raise MessageTooLarge(f"its message has {len(raw or b'')} bytes")
        if not raw:
            self._log.check_none(to[0], "it")
        if type is None and external_id is None:
            check_run(*to)
            key = Key.parse(str(Key(*to)))  # which also checks its length
            event = Event(0, EventType.RUN_CREATED, key, UNKNOWN, raw)
            starts.setdefault(key, self._log.sealed(event))
        elif type is None or external_id is None:
            raise InvalidName("it has a type or an external_id, but not both")
        else:
            number, mark = signals.checked(to, type, None, external_id)
            now = to_text(self._log.now())
            sent.setdefault(mark, (*to, mark, number, external_id, raw, now))

    def _refuse(self, id: int, error: Exception) -> Statement:
        """Leave a row where it is for somebody to look at, and tell of it."""
        self._log.database.pass_over(TARGET, id, error)
        sql = f"UPDATE {TARGET} SET error = ? WHERE id = ?"
        return Statement(sql, (clean(text_of(error))[:_REASON], id), must_find=1)

    def _store(self, sent: dict[bytes, Row]) -> Iterator[Statement]:
        """Insert those signals that nobody has sent before (S1).

        One that comes in between makes the transaction fail.  An INSERT that skips duplicates would
        also skip a signal whose id a reader has just fenced.
        """
        marks = ((row[0], mark) for mark, row in sent.items())
        for mark in signals.known_marks(self._log, marks):
            sent.pop(mark, None)
        self._signalled = bool(sent)
        for row in sent.values():
            yield insertion("replay_signals", signals.COLUMNS, [row])

    def _commit(self, batch: Batch) -> Attempts:
        """As in `Consumer`."""
        try:
            attempts = super()._commit(batch)
        except Duplicate as error:  # somebody has sent one of these signals meanwhile
            raise Unavailable(f"{self.name} looks again: {error}") from error
        if self._signalled:
            self._log.tail.join([])  # the poller reads their ids
            self._log.news.tell()
        return attempts
