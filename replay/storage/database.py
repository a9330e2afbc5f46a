"""The interface of a database: queries, transactions, locks, a clock, and the tables.

Role: the modules above write SQL once, with ``?`` as the placeholder.  `sqlite` and `mysql` hold
what differs between databases: locks, ids, error numbers, column types.

Invariant: a transaction is stored whole or not at all.  If the server rolls it back (a deadlock, a
lock timeout), it runs again from its first statement, never from its last (P20).

A transaction is a list of statements that is known before it begins.  Nothing is read in between,
so it is one round trip to a server and holds its locks no longer than that.

Times are text, ``2026-11-24 04:11:20.123`` in UTC: both databases sort and compare it, and no
driver loses a zone or rounds a digit.  All times come from `Database.now`, so there is one clock:
the server's where there is a server, this process's for SQLite.

Left to `replay.log`: what the rows mean.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import random
import secrets
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from ipaddress import IPv4Address
from typing import Any, NamedTuple, TypeVar

log = logging.getLogger("replay")

T = TypeVar("T")
Row = tuple[Any, ...]

SCHEMA_VERSION = 4
#: The row of `replay_meta` that says up to which id missing ids are final (L9).
FLOOR = "retention_floor"
#: And the one that each transaction changes that takes a cursor or that prunes: so they come one
#: after the other, on the nodes of a cluster too.
TURN = "retention_turn"
#: And the one that tells this log from others, for transactions of a user's (V4).
LOG_ID = "log_id"
MAX_MESSAGE = 4 * 1024 * 1024
LARGEST_MESSAGE = 16 * 1024 * 1024 - 1
LEASE = 10  # seconds
LOOPBACK = "127.0.0.1"
_ATTEMPTS = 20
_QUIET = 60  # seconds between two warnings that the database cannot be reached
_TOLD = 1000  # rows that nobody can read and that a process names in its log
_MOST = 2**31 - 1  # the largest protobuf message in bytes; as seconds, a lifetime
_LATEST = datetime(9999, 12, 31, tzinfo=UTC)


class Error(Exception):
    """The base class of all errors that this library raises on purpose."""


class DatabaseError(Error):
    """The database refused something.  The text is its own, and says what to do about it."""


class BadUrl(DatabaseError, ValueError):
    """A URL that this library cannot use."""


class Unavailable(DatabaseError):
    """The database cannot be reached now.  Nothing was stored, and you may repeat the call."""


class OutcomeUnknown(Unavailable):
    """The connection was lost during a commit, which was stored whole or not at all.

    You may repeat the call: it finds what was stored, and does not store it again.
    """


class ReadOnly(DatabaseError):
    """This account may not write to the database, or nobody may."""


class SchemaTooNew(DatabaseError):
    """A newer version of this library has made or upgraded the tables."""


class FileReplaced(DatabaseError):
    """A database file was deleted or replaced while it was open.  Nothing was stored."""


class Reentered(Error, RuntimeError):
    """A signal handler called while its thread was inside the library.  Nothing was done.

    The interrupted call holds locks that the handler would wait for, and it cannot go on before
    the handler returns.  So do not call the library in a signal handler: raise SystemExit there.
    """


class NotFound(DatabaseError):
    """A statement did not find the rows that it must find.  The modules above handle it."""


class Duplicate(DatabaseError):
    """A row with this unique key exists.  The modules above handle it."""


class StatementFailed(DatabaseError):
    """The database refused a `Step`.  Nothing was stored.  The text is the database's own."""

    def __init__(self, text: str, step: Step) -> None:
        super().__init__(text)
        self.step = step


class RolledBack(DatabaseError):
    """The database rolled the transaction back, and it may run again.  This module handles it."""


class IdTaken(DatabaseError):
    """Another row has the id that this row was to get.  The modules above handle it."""


def entered(lock: threading.RLock) -> threading.RLock:
    """Return `lock`, to enter it.  Raises `Reentered` if this thread is inside of it.

    The check stands before the ``with``, because the methods of a lock cannot be interrupted there,
    and a function written in Python can.
    """
    if lock._is_owned():  # type: ignore[attr-defined]
        raise Reentered(
            "a signal handler called the library while its thread was inside a call: raise"
            " SystemExit in the handler instead (sys.exit), and close the client afterwards"
        )
    return lock


class Inside(threading.local):
    """A lock for each thread, where a thread shares nothing that needs one: see `entered`."""

    def __init__(self) -> None:
        self.lock = threading.RLock()


@lru_cache(maxsize=100)  # all that a commit adds has the same
def to_text(moment: datetime) -> str:
    """Write a point in time as it is stored: UTC, cut to milliseconds."""
    return moment.isoformat(" ", "milliseconds")[:23]


def from_text(text: str) -> datetime:
    """Read the point in time that `to_text` wrote."""
    if len(text) == 23:  # to read the time zone takes less than to replace it
        return datetime.fromisoformat(f"{text}+00:00")
    return datetime.fromisoformat(text).replace(tzinfo=UTC)  # another system wrote it


class ServerClock:
    """A server's clock: this process's clock, corrected by the server's answers."""

    def __init__(self) -> None:
        self._offset = timedelta(0)

    def now(self) -> datetime:
        """The server's time in UTC, cut to milliseconds."""
        return cut(datetime.now(UTC) + self._offset)

    def adjust(self, began: datetime, moment: datetime) -> None:
        """Take an answer into account: it was `moment` at some time between `began` and now."""
        ended = datetime.now(UTC)
        self._offset = min(max(self._offset, moment - ended), moment - began)


def cut(moment: datetime) -> datetime:
    """Cut `moment` to milliseconds."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def later(moment: datetime, duration: timedelta) -> datetime:
    """Add `duration` to `moment`, rounded up to milliseconds, at most the end of the year 9999."""
    try:
        exact = moment + duration
        return min(exact + timedelta(microseconds=-exact.microsecond % 1000), _LATEST)
    except OverflowError:
        return _LATEST


def earlier(moment: datetime, duration: timedelta) -> datetime:
    """Subtract `duration` from `moment`; at least the beginning of the year 1."""
    try:
        return moment - duration
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)


def placeholders(count: int) -> str:
    """The placeholders of an IN list: ``?,?,?``."""
    return ",".join("?" * count)


def chunks(items: Sequence[T], size: int = 500) -> Iterable[Sequence[T]]:
    """Divide `items` into chunks of at most `size`, for statements of bounded length."""
    return (items[start : start + size] for start in range(0, len(items), size))


def firsts(values: Iterable[T], known: set[T]) -> list[bool]:
    """For each value, whether it is neither known nor earlier among the values."""
    found = []
    for value in values:
        found.append(value not in known)
        known.add(value)
    return found


class Statement(NamedTuple):
    """One statement of a transaction.

    If it does not find exactly `must_find` rows, the whole transaction is rolled back.
    """

    sql: str
    parameters: Sequence[Any] = ()
    must_find: int | None = None


class Step(Statement):
    """A statement of a user's (V5).  If it fails, `StatementFailed` says that it was this one."""

    __slots__ = ()


#: Begins a transaction that takes a cursor, and one that prunes: each sees what the other has done.
TAKE_TURN = Statement("UPDATE replay_meta SET value = value + 1 WHERE name = ?", (TURN,))


def insertion(table: str, columns: str, rows: Sequence[Row], ending: str = "") -> Statement:
    """Make a statement that inserts all `rows`."""
    values = ",".join([f"({placeholders(len(rows[0]))})"] * len(rows))
    sql = f"INSERT INTO {table} ({columns}) VALUES {values}{ending}"
    return Statement(sql, [value for row in rows for value in row])


def for_each(sql: str, values: Sequence[Any], *before: Any) -> Iterator[Statement]:
    """Yield a statement for each chunk of `values`, which stand where the SQL says ``IN ?``.

    The parameters `before` stand before it.
    """
    for some in chunks(values):
        listed = f"IN ({placeholders(len(some))})"
        yield Statement(sql.replace("IN ?", listed), (*before, *some))


class Insert(NamedTuple):
    """Rows for a table with automatic ids."""

    table: str
    columns: str
    rows: Sequence[Row]


class Database(ABC):
    """One database.  Safe to use from any thread."""

    #: Whether transactions wait for each other anyhow, whatever they change.
    one_writer = False
    #: Stands for a value in SQL that goes to the driver.
    placeholder = "?"
    #: Whether an insert that is refused uses up the ids of its rows.
    loses_ids = True
    #: Ends an INSERT that skips rows whose unique key exists.
    skip_duplicates: str
    _types: Mapping[str, str]

    def __init__(self, name: str, options: dict[str, str]) -> None:
        self.name = name
        self.max_message = number(options.pop("max_message", MAX_MESSAGE), "max_message")
        self.lease = timedelta(seconds=number(options.pop("lease", LEASE), "lease"))
        #: The address at which processes tell each other of their commits; empty for none (L12).
        self.news = news_address(options.pop("news", LOOPBACK))
        #: Namespaces in which every event and signal has a message (N3).
        self.require_message = [
            name for name in options.pop("require_message", "").split(",") if name
        ]
        if self.max_message > LARGEST_MESSAGE:
            raise BadUrl(f"max_message={self.max_message}: a column holds {LARGEST_MESSAGE} bytes")
        if options:
            raise BadUrl(f"unknown option {', '.join(sorted(options))} in the URL of {name}")
        self._inside = Inside()
        self._warn_at = -math.inf
        self._prepared = False
        self._unreadable: set[tuple[str, object]] = set()
        #: Tells this log from others.  A copy of the database has the same.  It is read only
        #: once: on SQLite a caller that has a transaction open must wait for nobody (V4).
        self.log_id = ""
        #: How many connections were lost.  A server that comes back may have lost commits that it
        #: had acknowledged (`innodb_flush_log_at_trx_commit` other than 1, a failover).
        self.losses = 0

    def now(self) -> datetime:
        """The time by the database's clock, in UTC, cut to milliseconds."""
        return cut(datetime.now(UTC))

    def monotonic(self) -> float:
        """The seconds since some moment, by a clock that never goes back."""
        return time.monotonic()

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> Sequence[Row]:
        """Return all rows of one query, outside of a transaction.  Raises as `write` does."""
        for attempt in itertools.count(1):
            try:
                with entered(self.inside()), self._translated():
                    return self._execute(sql, parameters)
            except RolledBack as error:
                self._pause(error, attempt, _ATTEMPTS)
        raise AssertionError

    def query_each(self, sql: str, values: Sequence[Any], *before: Any) -> Iterator[Row]:
        """Yield the rows of the queries that `for_each` makes."""
        for each in for_each(sql, values, *before):
            yield from self.query(each.sql, each.parameters)

    def write(
        self,
        statements: Sequence[Statement],
        *inserts: Insert,
        attempts: int = _ATTEMPTS,
        made: int = 0,
        then: Callable[[list[int]], None] = lambda ids: None,
    ) -> list[int]:
        """Run `statements`, then `inserts`, in one transaction; return the ids of the new rows.

        It returns no ids where they are not known (see `mysql`).  `then` gets them as well, on
        SQLite before another thread of this process can read or write.  If the database rolls the
        transaction back, it runs again from the start, until `attempts` are made; `made` of these
        were made before.  Raises `NotFound`, `Duplicate`, `IdTaken`, `StatementFailed`,
        `Unavailable` and other errors of this module.  Nothing is stored then; only after
        `OutcomeUnknown` may all of it be stored.
        """
        for attempt in itertools.count(made + 1):
            try:
                return self.attempt(statements, inserts, then)
            except RolledBack as error:
                self._pause(error, attempt, attempts)
        raise AssertionError

    def attempt(
        self,
        statements: Sequence[Statement],
        inserts: Sequence[Insert],
        then: Callable[[list[int]], None],
    ) -> list[int]:
        """As `write`, once.  Raises `RolledBack` if the database rolls it back."""
        with entered(self.inside()):
            with self._translated(committing=True):
                ids = self._write(statements, inserts)
            then(ids)
            return ids

    def _pause(self, error: RolledBack, attempt: int, most: int) -> None:
        """Wait a moment before the next attempt; raise `Unavailable` after the last."""
        if attempt >= most:
            if attempt > 1:
                self.unreachable(error)
            raise Unavailable(f"{self.name}: {error}, {attempt} times") from error
        time.sleep(random.uniform(0, 0.002 * attempt))

    def insert_missing(self, table: str, columns: str, rows: Sequence[Row]) -> list[Statement]:
        """Make statements that insert those rows whose unique key does not exist yet."""
        ending = self.skip_duplicates
        return [insertion(table, columns, some, ending) for some in chunks(rows)]

    def inside(self) -> threading.RLock:
        """The lock that the calling thread holds while it is inside a query or a transaction."""
        return self._inside.lock

    @abstractmethod
    def _translated(self, committing: bool = False) -> contextlib.AbstractContextManager[None]:
        """Turn the driver's errors into those of this module."""

    @abstractmethod
    def _write(self, statements: Sequence[Statement], inserts: Sequence[Insert]) -> list[int]: ...
    @abstractmethod
    def _execute(self, sql: str, parameters: Sequence[Any]) -> Sequence[Row]: ...

    @abstractmethod
    def newest(self) -> tuple[int, int, bool]:
        """The largest id of an event, and of a signal.  They grow when anybody adds one.

        And whether the inbox has rows to move (V4): ids that commit late would not raise a maximum.
        """

    @abstractmethod
    def lock(self, name: str, wait: float) -> str:
        """Take the lock `name`, which ends with its holder; wait up to `wait` seconds for it.

        Returns the lock's domain: a lock says something about locks of the same domain only.
        Returns nothing if another process has the lock.
        """

    @abstractmethod
    def unlock(self, name: str) -> None:
        """Give the lock back that `lock` took."""

    def end_lock(self, name: str) -> None:
        """As `unlock`, of a name that nobody will lock again."""
        self.unlock(name)

    @abstractmethod
    def release(self) -> None:
        """Release what belongs to the calling thread, which will not use the database again."""

    @abstractmethod
    def close(self) -> None:
        """Close all connections."""

    def fence(self, table: str, columns: str, rows: Sequence[Row]) -> bool:
        """Insert `rows`, so that nobody else can ever commit a row with one of their ids.

        The database waits for an open transaction that holds such an id, about a second at a time.
        Returns whether there is a row with the first id now, so that reading on is worthwhile.
        """
        with contextlib.suppress(IdTaken, Duplicate, Unavailable):
            for some in chunks(rows):
                self.write([insertion(table, columns, some)], attempts=1)
        return bool(self.query(f"SELECT 1 FROM {table} WHERE id = ?", (rows[0][0],)))

    def unreachable(self, error: object) -> None:
        """Warn that the database cannot be reached, at most once a minute for all threads (P16)."""
        if self._prepared and time.monotonic() >= self._warn_at:
            self._warn_at = time.monotonic() + _QUIET
            log.warning("%s cannot be reached, waiting for it: %s", self.name, error)

    def pass_over(self, table: str, row: object, error: object) -> None:
        """Warn of a row that nobody can read: once in this process, and of 1,000 rows (L3)."""
        known = len(self._unreadable)
        if known < _TOLD:
            self._unreadable.add((table, row))
        if known < len(self._unreadable):
            rest = "; further such rows are not logged" if known + 1 == _TOLD else ""
            log.warning("%s row %s is unreadable and passed over: %s%s", table, row, error, rest)

    def prepare(self) -> None:
        """Create or upgrade the tables where that is needed.

        Raises `SchemaTooNew` or `ReadOnly`.
        """
        version = self._version()
        if version > SCHEMA_VERSION:
            raise SchemaTooNew(
                f"{self.name} has schema version {version}, this library knows {SCHEMA_VERSION}:"
                " install a newer replay"
            )
        if version < SCHEMA_VERSION:
            self._create()
        rows = self.query("SELECT value FROM replay_meta WHERE name = ?", (LOG_ID,))
        self.log_id = str(rows[0][0]) if rows else ""
        self._prepared = True

    def _version(self) -> int:
        if "name" not in self._columns("replay_meta"):
            return 0
        rows = self.query("SELECT value FROM replay_meta WHERE name = 'schema_version'")
        try:
            return int(rows[0][0]) if rows else 0
        except (TypeError, ValueError) as error:
            raise DatabaseError(
                f"{self.name}: the schema_version in replay_meta is {rows[0][0]!r:.300}, which is"
                f" no number: restore it; this library writes {SCHEMA_VERSION}"
            ) from error

    def _create(self) -> None:
        """Add missing tables, columns and indexes, so that another system's tables are usable."""
        for table, columns in TABLES.items():
            found = self._columns(table)
            defined = [column.split() for column in columns.split(", ")]
            if not found:
                self._define(table, ", ".join(f"`{n}` {self._type(t)}" for n, t in defined))
            for name, kind in defined if found else ():
                if name not in found:
                    self._alter(f"ALTER TABLE {table} ADD COLUMN `{name}` {self._type(kind)}")
        for table, index, unique, on in INDEXES:
            self._index(table, index, unique, on)
        for row in ((FLOOR, "0"), (TURN, "0"), (LOG_ID, secrets.token_hex(16))):
            with contextlib.suppress(Duplicate, IdTaken):  # it is there
                self.write([insertion("replay_meta", "name, value", [row])])
        sql = "REPLACE INTO replay_meta (name, value) VALUES ('schema_version', ?)"
        self.write([Statement(sql, (str(SCHEMA_VERSION),))])

    def floor(self) -> int:
        """Return the id up to which missing ids are final, 0 if nothing was ever pruned (L9)."""
        rows = self.query("SELECT value FROM replay_meta WHERE name = ?", (FLOOR,))
        value = str(rows[0][0]) if rows else "0"
        if not (value.isascii() and value.isdecimal()):
            raise DatabaseError(
                f"{self.name}: the {FLOOR} in replay_meta is {value!r:.300}, which is no id:"
                " restore it from a backup"
            )
        return int(value)

    @abstractmethod
    def _columns(self, table: str) -> set[str]: ...
    def _type(self, kind: str) -> str:
        word = kind.rstrip("?")
        spelt = self._types.get(word) or _TYPES.get(word, word)
        return spelt if kind.endswith("?") else f"{spelt} NOT NULL"

    @abstractmethod
    def _define(self, table: str, columns: str) -> None: ...
    @abstractmethod
    def _alter(self, sql: str) -> None: ...
    @abstractmethod
    def _index(self, table: str, name: str, unique: bool, on: str) -> None: ...


#: Every table and its columns.  `Database._type` spells the types; ``?`` allows NULL.
TABLES = {
    "replay_events": "id ID, key KEY, namespace NAME, workflow NAME, run NAME?, iteration INT,"
    " type INT, timestamp TIME, message BLOB?",
    "replay_sleeps": "id ID, key KEY, created_at TIME, complete_at TIME, completed BOOL",
    "replay_signal_awaits": "id ID, key KEY, created_at TIME, timeout_at TIME, status TINYINT",
    "replay_signals": "id ID, namespace NAME, workflow NAME, run NAME, hash HASH, type TINYINT,"
    " external_id NAME, message BLOB?, created_at TIME, check_id BIGINT?",
    "replay_cursors": "id PRIMARY, last_event_id BIGINT, updated_at TIME, owner OWNER,"
    " lease_until TIME?",
    "replay_parked": "id ID, consumer NAME, event_id BIGINT, key KEY, attempts INT, next_at TIME,"
    " error TEXT",
    "replay_runs": "id EVENT, namespace NAME, workflow NAME, run NAME, iteration INT,"
    " status TINYINT, started_at TIME, ended_at TIME?",
    "replay_inbox": "id ID, namespace NAME, workflow NAME, run NAME, type TINYINT?,"
    " external_id NAME?, message BLOB?, created_at TIME, error NAME?",
    "replay_processes": "id ID, consumer NAME, process NAME, address NAME, lease_until TIME",
    "replay_meta": "name PRIMARY, value NAME",
}
_TYPES = {
    "KEY": "VARCHAR(512)",
    "NAME": "VARCHAR(255)",
    "PRIMARY": "VARCHAR(255) PRIMARY KEY",
    "OWNER": "VARCHAR(255) DEFAULT ''",
    "EVENT": "INTEGER PRIMARY KEY",
}
#: Table, name, whether unique, columns.  Those that the Go system has, too, have its names: tables
#: that it made then get none of them twice.
INDEXES = (
    ("replay_events", "by_type_key", True, "type, `key`"),
    ("replay_events", "type", False, "type, namespace, workflow, run, iteration"),
    ("replay_sleeps", "by_key", True, "`key`"),
    ("replay_sleeps", "completed", False, "completed, complete_at"),
    ("replay_signal_awaits", "by_key", True, "`key`"),
    ("replay_signal_awaits", "status", False, "status"),
    ("replay_signal_awaits", "by_status_key", False, "status, `key`"),
    ("replay_signal_awaits", "by_status_timeout", False, "status, timeout_at"),
    ("replay_signals", "uniq", True, "namespace, hash"),
    ("replay_signals", "by_run", False, "namespace, workflow, run, type, check_id"),
    ("replay_parked", "by_event", True, "consumer, event_id"),
    ("replay_parked", "by_key", False, "`key`"),
    ("replay_runs", "by_workflow", False, "namespace, workflow, status"),
    ("replay_inbox", "by_error", False, "error, id"),
    ("replay_processes", "by_process", True, "consumer, process"),
)


def number(text: object, option: str) -> int:
    """Read an option of a URL.  Raises `BadUrl`."""
    try:
        found = int(str(text))
    except ValueError:
        found = 0
    if not 1 <= found <= _MOST:
        raise BadUrl(f"{option}={text} in the URL: expected a whole number from 1 to {_MOST}")
    return found


def news_address(text: str) -> str:
    """Read the option `news` of a URL; empty if it is off.  Raises `BadUrl`."""
    if text == "off":
        return ""
    with contextlib.suppress(ValueError):
        address = IPv4Address(text)
        if not (address.is_unspecified or address.is_multicast or address.is_reserved):
            return str(address)
    raise BadUrl(
        f"news={text} in the URL: expected off, or the IPv4 address of this machine at which the"
        " other processes reach it, such as 10.0.0.5"
    )
