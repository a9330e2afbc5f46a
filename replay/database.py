"""Connections to SQLite, MySQL and MariaDB, and everything that differs between them.

Role: the modules above this one write SQL once, with ``?`` for parameters, and get rows,
transactions and a clock.  What differs (locks, ids, error numbers, column types) stays in here,
and so do the definitions of all tables.

Invariant: a transaction is committed whole or leaves nothing.  One that the server broke off (a
deadlock, a lock time-out) is run again from its first statement, never from its last.

Times are text, ``2026-11-24 04:11:20.123`` in UTC: both databases sort and compare it, and no
driver loses a zone or rounds a digit.  All times come from `Database.now`, so there is one clock:
the server's where there is a server, this process's for SQLite.

Why so: SQLite has one writer at a time, and its way to wait for it is to sleep; so the threads of
a process share one connection behind one lock instead.  MySQL gets a connection per thread, since
a consumer's named lock has to live and die with the connection that the consumer writes with.
Left to `log`: what the rows mean.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import logging
import os
import random
import re
import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import pymysql
from pymysql.constants import CLIENT, FIELD_TYPE
from pymysql.converters import conversions

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows: there the lease alone says who owns a name
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger("replay")

T = TypeVar("T")
Row = tuple[Any, ...]

SCHEMA_VERSION = 1
MAX_MESSAGE = 4 * 1024 * 1024
LEASE = timedelta(seconds=10)
_ROWS_PER_INSERT = 500
_BYTES_PER_INSERT = 4 * 1024 * 1024
_ATTEMPTS = 20
_LATEST = datetime(9999, 12, 31, tzinfo=UTC)


class Error(Exception):
    """The base of every error that this library raises on purpose."""


class DatabaseError(Error):
    """The database refused something; the text is the database's own, and what to do about it."""


class BadUrl(DatabaseError, ValueError):
    """A URL that names no database this library knows."""


class Unavailable(DatabaseError):
    """The database cannot be reached just now.  Nothing was stored; the same call may be repeated."""


class OutcomeUnknown(Unavailable):
    """The connection was lost in the middle of a commit: it was stored whole, or not at all.

    Every call of this library may be repeated: what was stored is found and not stored again.
    """


class ReadOnly(DatabaseError):
    """The database, or this account on it, may not be written to."""


class SchemaTooNew(DatabaseError):
    """The tables were made or upgraded by a newer version of this library."""


class Duplicate(DatabaseError):
    """A row with the same unique key exists.  For the modules above; not seen by users."""


class IdTaken(DatabaseError):
    """Somebody else has the id that this row was to get.  For the modules above."""


def to_text(moment: datetime) -> str:
    """A point in time as stored: UTC, cut to milliseconds."""
    return moment.isoformat(" ", "milliseconds")[:23]


def from_text(text: str) -> datetime:
    """The point in time that `to_text` stored."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def later(moment: datetime, duration: timedelta) -> datetime:
    """`moment` plus `duration`, rounded up to milliseconds, and never beyond what a column holds."""
    try:
        exact = moment + duration
    except OverflowError:
        return _LATEST
    return min(exact + timedelta(microseconds=-exact.microsecond % 1000), _LATEST)


def marks(count: int) -> str:
    """``?,?,?``: the parameters of an IN list."""
    return ",".join("?" * count)


def portions(items: Sequence[T], size: int = 500) -> Iterable[Sequence[T]]:
    """`items` in slices of at most `size`, for statements of bounded length."""
    return (items[start : start + size] for start in range(0, len(items), size))


class Transaction:
    """What may be done inside `Database.transact`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Run one statement; the number of rows that it found."""
        return self._database._execute(sql, parameters)[0]

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> Sequence[Row]:
        """Run one query; all its rows."""
        return self._database._execute(sql, parameters)[1]

    def insert(self, table: str, columns: str, rows: Sequence[Row]) -> list[int]:
        """Insert rows into a table with automatic ids; their ids, or nothing if they are not known.

        Raises `Duplicate` or `IdTaken`; the transaction is to be given up then.
        """
        return self._database._insert(table, columns, rows)

    def insert_missing(self, table: str, columns: str, rows: Sequence[Row]) -> None:
        """Insert those rows whose unique key is not there yet."""
        for some in portions(rows):
            values = ",".join([f"({marks(len(some[0]))})"] * len(some))
            self.execute(
                f"INSERT INTO {table} ({columns}) VALUES {values}" + self._database.skip_duplicates,
                [value for row in some for value in row],
            )


class Database(ABC):
    """One database.  Safe to use from any thread; closed by `close`."""

    #: Ends an INSERT that shall skip rows whose unique key exists.
    skip_duplicates: str
    #: Names of owners begin with this; a lock says something only about owners of the same domain.
    domain: str

    def __init__(self, name: str, options: dict[str, str]) -> None:
        self.name = name
        self.max_message = _number(options.pop("max_message", MAX_MESSAGE), "max_message")
        self.lease = timedelta(
            seconds=_number(options.pop("lease", LEASE.total_seconds()), "lease")
        )
        if options:
            raise BadUrl(f"unknown option {', '.join(sorted(options))} in the URL of {name}")
        self._outage: float | None = None

    def now(self) -> datetime:
        """The time by this database's clock, in UTC, cut to milliseconds."""
        moment = datetime.now(UTC)
        return moment.replace(microsecond=moment.microsecond // 1000 * 1000)

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> Sequence[Row]:
        """All rows of one query, outside of a transaction."""
        with self._translated():
            return self._execute(sql, parameters)[1]

    def transact(self, work: Callable[[Transaction], T], attempts: int = _ATTEMPTS) -> T:
        """Run `work` in a transaction and commit it.

        It is run again from the start, up to `attempts` times, when the database breaks it off
        (deadlock, lock time-out), so it must not change anything but the database.  Anything it
        raises rolls back and is raised again.
        """
        for attempt in itertools.count(1):
            try:
                return self._attempt(work)
            except _BrokenOff as error:
                if attempt >= attempts:
                    raise Unavailable(f"{self.name}: {error}, {attempt} times") from error
                time.sleep(random.uniform(0, 0.002 * attempt))
        raise AssertionError

    def _attempt(self, work: Callable[[Transaction], T]) -> T:
        with self._exclusive(), self._translated():
            self._begin()
            try:
                result = work(Transaction(self))
            except BaseException as error:
                self._rollback(error)
                raise
            with self._translated(committing=True):
                self._commit()
            return result

    @contextlib.contextmanager
    def _exclusive(self) -> Any:
        """Hold off the other threads of this process, where the database needs that."""
        yield

    @abstractmethod
    def _translated(self, committing: bool = False) -> contextlib.AbstractContextManager[None]:
        """Turn the driver's errors into this module's."""

    @abstractmethod
    def _begin(self) -> None: ...
    @abstractmethod
    def _commit(self) -> None: ...
    @abstractmethod
    def _rollback(self, error: BaseException) -> None: ...
    @abstractmethod
    def _execute(self, sql: str, parameters: Sequence[Any]) -> tuple[int, Sequence[Row]]: ...
    @abstractmethod
    def _insert(self, table: str, columns: str, rows: Sequence[Row]) -> list[int]: ...

    @abstractmethod
    def newest(self) -> tuple[int, int]:
        """The largest id of an event and of a signal: they grow when anybody adds one."""

    @abstractmethod
    def lock(self, name: str, wait: float) -> bool:
        """Take the lock that dies with its holder, waiting up to `wait` seconds for it."""

    @abstractmethod
    def unlock(self, name: str) -> None:
        """Give back what `lock` took."""

    @abstractmethod
    def release(self) -> None:
        """The calling thread will not use the database again."""

    @abstractmethod
    def close(self) -> None:
        """Close all connections."""

    def fence(self, table: str, columns: str, rows: Sequence[Row]) -> None:
        """Take the ids of `rows`, so that nobody else can ever commit a row with one of them.

        An open transaction that holds such an id is waited for, a second or so at a time.  Whether
        it came out that the ids are taken, were used, or are still held is for the caller to read.
        """
        with contextlib.suppress(IdTaken, Duplicate, Unavailable):
            self.transact(lambda tx: tx.insert(table, columns, rows), attempts=1)

    def went_away(self, error: object) -> None:
        """Say once, not for each thread and attempt, that the database cannot be reached."""
        if self._outage is None:
            self._outage = time.monotonic()
            log.warning("%s cannot be reached, waiting for it: %s", self.name, error)

    def came_back(self) -> None:
        """Say that an outage is over."""
        if self._outage is not None:
            log.warning("%s is back after %.1f s", self.name, time.monotonic() - self._outage)
            self._outage = None

    def prepare(self) -> None:
        """Create the tables, or upgrade them, or do nothing where they are as they should be.

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

    def _version(self) -> int:
        if "name" not in self._columns("replay_meta"):
            return 0
        rows = self.query("SELECT value FROM replay_meta WHERE name = 'schema_version'")
        return int(rows[0][0]) if rows else 0

    def _create(self) -> None:
        """Add what is missing of the tables, so that one made by an older system is usable."""
        for table, columns in TABLES.items():
            found = self._columns(table)
            if not found:
                self._define(table, ", ".join(f"`{n}` {self._type(t)}" for n, t in columns.items()))
            for name in columns if found else ():
                if name not in found:
                    kind = self._type(columns[name])
                    self._alter(f"ALTER TABLE {table} ADD COLUMN `{name}` {kind}")
        for table, index, unique, on in INDEXES:
            self._index(table, index, unique, on)
        self.transact(
            lambda tx: tx.execute(
                "INSERT INTO replay_meta (name, value) VALUES ('schema_version', ?)"
                + self.skip_duplicates,
                (str(SCHEMA_VERSION),),
            )
        )

    @abstractmethod
    def _columns(self, table: str) -> set[str]: ...
    @abstractmethod
    def _type(self, kind: str) -> str: ...
    @abstractmethod
    def _define(self, table: str, columns: str) -> None: ...
    @abstractmethod
    def _alter(self, sql: str) -> None: ...
    @abstractmethod
    def _index(self, table: str, name: str, unique: bool, on: str) -> None: ...


class _BrokenOff(DatabaseError):
    """The database rolled the transaction back; it may be run again."""


_NAME, _KEY = "VARCHAR(255) NOT NULL", "VARCHAR(512) NOT NULL"
#: Every table and its columns; `ID`, `BLOB` and `TIME` are spelt by each database in its own way.
TABLES: dict[str, dict[str, str]] = {
    "replay_events": {
        "id": "ID",
        "key": _KEY,
        "namespace": _NAME,
        "workflow": _NAME,
        "run": "VARCHAR(255)",
        "iteration": "INT NOT NULL",
        "type": "INT NOT NULL",
        "timestamp": "TIME NOT NULL",
        "message": "BLOB",
    },
    "replay_sleeps": {
        "id": "ID",
        "key": _KEY,
        "created_at": "TIME NOT NULL",
        "complete_at": "TIME NOT NULL",
        "completed": "BOOL NOT NULL",
    },
    "replay_signal_awaits": {
        "id": "ID",
        "key": _KEY,
        "created_at": "TIME NOT NULL",
        "timeout_at": "TIME NOT NULL",
        "status": "TINYINT NOT NULL",
    },
    "replay_signals": {
        "id": "ID",
        "namespace": _NAME,
        "workflow": _NAME,
        "run": _NAME,
        "hash": "HASH NOT NULL",
        "type": "TINYINT NOT NULL",
        "external_id": _NAME,
        "message": "BLOB",
        "created_at": "TIME NOT NULL",
        "check_id": "BIGINT",
    },
    "replay_cursors": {
        "id": "VARCHAR(255) NOT NULL PRIMARY KEY",
        "last_event_id": "BIGINT NOT NULL",
        "updated_at": "TIME NOT NULL",
        "owner": "VARCHAR(255) NOT NULL DEFAULT ''",
        "lease_until": "TIME",
    },
    "replay_parked": {
        "id": "ID",
        "consumer": _NAME,
        "event_id": "BIGINT NOT NULL",
        "key": _KEY,
        "attempts": "INT NOT NULL",
        "next_at": "TIME NOT NULL",
        "error": "TEXT NOT NULL",
    },
    "replay_meta": {
        "name": "VARCHAR(64) NOT NULL PRIMARY KEY",
        "value": "VARCHAR(255) NOT NULL",
    },
}
#: Table, name, whether unique, columns.
INDEXES = (
    ("replay_events", "by_type_key", True, "type, `key`"),
    ("replay_events", "by_run", False, "type, namespace, workflow, run, iteration"),
    ("replay_sleeps", "by_key", True, "`key`"),
    ("replay_sleeps", "by_completed", False, "completed, complete_at"),
    ("replay_signal_awaits", "by_key", True, "`key`"),
    ("replay_signal_awaits", "by_status", False, "status"),
    ("replay_signal_awaits", "by_status_key", False, "status, `key`"),
    ("replay_signal_awaits", "by_status_timeout", False, "status, timeout_at"),
    ("replay_signals", "uniq", True, "namespace, hash"),
    ("replay_signals", "by_run", False, "namespace, workflow, run, type, check_id"),
    ("replay_parked", "by_event", True, "consumer, event_id"),
)


def _number(text: object, option: str) -> int:
    try:
        number = int(float(str(text)))
    except ValueError:
        number = 0
    if number < 1:
        raise BadUrl(f"{option}={text} in the URL: expected a whole number from 1")
    return number


class Sqlite(Database):
    """A SQLite file, or a database in memory.

    Commits survive the death of any process.  What survives a loss of power is SQLite's WAL mode
    with ``synchronous=NORMAL``: a whole database, perhaps without the last few transactions.
    """

    skip_duplicates = " ON CONFLICT DO NOTHING"
    domain = "file"

    def __init__(self, path: str, options: dict[str, str]) -> None:
        super().__init__(f"sqlite:///{path}" if path != ":memory:" else "sqlite://", options)
        self._path = path
        self._locks: dict[str, int] = {}
        self._mutex = threading.RLock()
        self._seen: tuple[int, tuple[int, int]] = (-1, (0, 0))
        with self._translated():
            self._connection = sqlite3.connect(
                path, timeout=60, isolation_level=None, check_same_thread=False
            )
            for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=60000"):
                self._connection.execute(f"PRAGMA {pragma}").fetchall()
            self._require_write()

    def _require_write(self) -> None:
        with self._translated():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                # A file that may not be written to says so at the first write, not at BEGIN.
                self._connection.execute("PRAGMA user_version = 0")
            finally:
                self._connection.execute("ROLLBACK")

    @contextlib.contextmanager
    def _exclusive(self) -> Any:
        with self._mutex:
            yield

    @contextlib.contextmanager
    def _translated(self, committing: bool = False) -> Any:
        try:
            yield
        except sqlite3.IntegrityError as error:
            raise Duplicate(str(error)) from error
        except sqlite3.Error as error:
            raise self._meaning(error) from error

    def _meaning(self, error: sqlite3.Error) -> DatabaseError:
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        if code == sqlite3.SQLITE_READONLY:
            return ReadOnly(f"{self.name} is read-only: give this user write access to the file"
                            " and its directory")
        if code == sqlite3.SQLITE_CANTOPEN:
            return Unavailable(f"{self.name} cannot be opened: does its directory exist?")
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            self.went_away(error)
            return Unavailable(f"{self.name}: {error}")
        return DatabaseError(f"{self.name}: {error}")

    def _begin(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def _commit(self) -> None:
        try:
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._rollback(error)
            raise
        self.came_back()

    def _rollback(self, error: BaseException) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _execute(self, sql: str, parameters: Sequence[Any]) -> tuple[int, Sequence[Row]]:
        with self._mutex:
            cursor = self._connection.execute(sql, parameters)
            return cursor.rowcount, cursor.fetchall()

    def _insert(self, table: str, columns: str, rows: Sequence[Row]) -> list[int]:
        if columns.startswith("id,"):
            first, ids = 0, [row[0] for row in rows]
        else:
            found = self._execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,))[1]
            first = found[0][0] + 1 if found else 1
            ids = list(range(first, first + len(rows)))
            columns, rows = "id," + columns, [(n, *row) for n, row in zip(ids, rows, strict=True)]
        with self._mutex:
            self._connection.executemany(
                f"INSERT INTO {table} ({columns}) VALUES ({marks(len(rows[0]))})", rows
            )
        return ids

    def newest(self) -> tuple[int, int]:
        """As in `Database`.  Asks for the ids only after another process has committed something."""
        with self._mutex, self._translated():
            # Read before the ids: what is committed in between is then looked at once more.
            version = self._connection.execute("PRAGMA data_version").fetchone()[0]
            own = self._connection.total_changes
            if self._seen[0] != version + own:
                ids = [
                    self._execute(f"SELECT COALESCE(MAX(id), 0) FROM {table}", ())[1][0][0]
                    for table in ("replay_events", "replay_signals")
                ]
                self._seen = (version + own, (ids[0], ids[1]))
            return self._seen[1]

    def lock(self, name: str, wait: float) -> bool:
        """As in `Database`: a lock on a file beside the database, which no process outlives."""
        if fcntl is None or self._path == ":memory:" or name in self._locks:
            return True
        directory = f"{self._path}-locks"
        os.makedirs(directory, exist_ok=True)
        file = f"{directory}/{hashlib.sha256(name.encode()).hexdigest()[:32]}"
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        deadline = time.monotonic() + wait
        while not _flock(handle):
            if time.monotonic() >= deadline:
                os.close(handle)
                return False
            time.sleep(0.05)
        self._locks[name] = handle
        return True

    def unlock(self, name: str) -> None:
        """As in `Database`."""
        if (handle := self._locks.pop(name, None)) is not None:
            os.close(handle)

    def release(self) -> None:
        """As in `Database`: nothing belongs to one thread here."""

    def close(self) -> None:
        """As in `Database`."""
        with self._mutex:
            for name in list(self._locks):
                self.unlock(name)
            self._connection.close()

    def _create(self) -> None:
        with self._mutex:
            super()._create()

    def _columns(self, table: str) -> set[str]:
        return {row[1] for row in self.query(f"PRAGMA table_info({table})")}

    def _type(self, kind: str) -> str:
        kind = kind.replace("ID", "INTEGER PRIMARY KEY AUTOINCREMENT") if kind == "ID" else kind
        return kind.replace("TIME", "DATETIME").replace("HASH", "BLOB")

    def _define(self, table: str, columns: str) -> None:
        self.query(f"CREATE TABLE IF NOT EXISTS {table} ({columns})")

    def _alter(self, sql: str) -> None:
        try:
            self.query(sql)
        except DatabaseError as error:
            if "duplicate column" not in str(error):
                raise

    def _index(self, table: str, name: str, unique: bool, on: str) -> None:
        # Index names are shared by all tables of a SQLite database.
        kind = "UNIQUE INDEX" if unique else "INDEX"
        self.query(f"CREATE {kind} IF NOT EXISTS {table}_{name} ON {table} ({on})")


def _flock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class MySQL(Database):
    """MySQL or MariaDB, one connection for each thread that asks."""

    skip_duplicates = " ON DUPLICATE KEY UPDATE `id` = `id`"

    #: Server errors after which the same transaction may succeed.
    _BROKEN_OFF = (1205, 1213)
    #: Errors that mean that the server, or the way to it, is gone for now.
    _AWAY = (1040, 1047, 1053, 1077, 1152, 1158, 1159, 1160, 1161, 1203, 1927, 2002, 2003, 2006, 2013,
             2014, 2055, 4031)
    _READ_ONLY = (1044, 1142, 1143, 1227, 1792, 1836)

    def __init__(self, name: str, arguments: dict[str, Any], options: dict[str, str]) -> None:
        super().__init__(name, options)
        self._arguments = arguments
        self._local = threading.local()
        self._open: list[pymysql.connections.Connection[Any]] = []
        self._mutex = threading.Lock()
        self._offset = timedelta(0)
        self._step = 1
        with self._translated():
            self._connection()
        self._check_packet()

    def _check_packet(self) -> None:
        packet = int(self.query("SELECT @@max_allowed_packet")[0][0])
        if packet < 2 * self.max_message + 65536:
            raise DatabaseError(
                f"{self.name}: max_allowed_packet is {packet} bytes; messages of up to"
                f" {self.max_message} bytes need {2 * self.max_message + 65536}: raise it on the"
                " server, or lower max_message in the URL"
            )

    def now(self) -> datetime:
        """As in `Database`, by the server's clock."""
        moment = datetime.now(UTC) + self._offset
        return moment.replace(microsecond=moment.microsecond // 1000 * 1000)

    def _connection(self) -> pymysql.connections.Connection[Any]:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._connect()
            with self._mutex:
                self._open.append(connection)
            self._local.connection = connection
            self.came_back()
        return connection

    def _connect(self) -> pymysql.connections.Connection[Any]:
        decoders = {k: v for k, v in conversions.items() if k != FIELD_TYPE.DATETIME}
        connection = pymysql.connect(
            **self._arguments,
            charset="utf8mb4",
            autocommit=True,
            client_flag=CLIENT.FOUND_ROWS,
            conv=decoders,
            connect_timeout=5,
            read_timeout=30,
            write_timeout=30,
        )
        try:
            cursor = connection.cursor()
            cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
            cursor.execute(
                "SET SESSION innodb_lock_wait_timeout = 1, SESSION time_zone = '+00:00',"
                " SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'"
            )
            cursor.execute(
                "SHOW VARIABLES WHERE Variable_name IN ('hostname', 'port', 'server_uuid',"
                " 'wsrep_on', 'wsrep_node_name', 'auto_increment_increment')"
            )
            self._know(dict(cursor.fetchall()))
            cursor.execute("SELECT UTC_TIMESTAMP(6)")
            began = datetime.now(UTC)
            cursor.execute("SELECT UTC_TIMESTAMP(6)")
            self._adjust(began, cursor.fetchone()[0])
        except BaseException:
            connection._force_close()  # type: ignore[attr-defined]
            raise
        return connection

    def _know(self, variables: dict[str, str]) -> None:
        # Under Galera the step between ids changes with the number of nodes: they are not known.
        cluster = variables.get("wsrep_on", "OFF") == "ON"
        self._step = 0 if cluster else int(variables.pop("auto_increment_increment"))
        identity = ":".join(f"{k}={v}" for k, v in sorted(variables.items()))
        self.domain = hashlib.sha256(identity.encode()).hexdigest()[:16]

    def _adjust(self, began: datetime, server: str) -> None:
        """Keep the clock within what this answer of the server proves."""
        ended, moment = datetime.now(UTC), from_text(server)
        self._offset = min(max(self._offset, moment - ended), moment - began)

    @contextlib.contextmanager
    def _translated(self, committing: bool = False) -> Any:
        try:
            yield
        except (pymysql.err.Error, OSError) as error:
            raise self._meaning(error, committing) from error

    def _meaning(self, error: Exception, committing: bool) -> DatabaseError:
        code = error.args[0] if error.args and isinstance(error.args[0], int) else -1
        text = f"{self.name}: {error.args[-1] if error.args else error}"
        if code == 1062:
            found = re.search(r"'(?:[^']*\.)?(\w+)'$", str(error.args[1]))
            return IdTaken(text) if found and found[1] == "PRIMARY" else Duplicate(text)
        if code in self._BROKEN_OFF:
            return _BrokenOff(text)
        if code in self._READ_ONLY or (code == 1290 and "read-only" in text):
            return ReadOnly(f"{text}: give this account the right to read, write and create tables")
        if code in self._AWAY or isinstance(error, (OSError, pymysql.err.InterfaceError)):
            self._discard()
            self.went_away(error.args[-1] if error.args else error)
            return OutcomeUnknown(text) if committing else Unavailable(text)
        if code in (1045, 1049, 1698):
            return DatabaseError(f"{text}: check the user, password and database in the URL")
        return DatabaseError(text)

    def _discard(self) -> None:
        connection = getattr(self._local, "connection", None)
        self._local.connection = None
        if connection is not None:
            with self._mutex, contextlib.suppress(ValueError):
                self._open.remove(connection)
            connection._force_close()

    def _begin(self) -> None:
        self._execute("BEGIN", ())

    def _commit(self) -> None:
        self._connection().commit()

    def _rollback(self, error: BaseException) -> None:
        if not isinstance(error, Exception):
            # Interrupted in the middle of an exchange: what the server would say next is unknown.
            self._discard()
        elif (connection := getattr(self._local, "connection", None)) is not None:
            try:
                connection.rollback()
            except (pymysql.err.Error, OSError):
                self._discard()

    def _execute(self, sql: str, parameters: Sequence[Any]) -> tuple[int, Sequence[Row]]:
        cursor = self._connection().cursor()
        found = cursor.execute(_percent(sql), parameters or None)
        return found, cursor.fetchall()

    def _insert(self, table: str, columns: str, rows: Sequence[Row]) -> list[int]:
        cursor = self._connection().cursor()
        ids: list[int] = []
        for chunk in _chunks(rows):
            one = f"({','.join(['%s'] * len(chunk[0]))})"
            cursor.execute(
                f"INSERT INTO {table} ({columns}) VALUES {','.join([one] * len(chunk))}",
                [value for row in chunk for value in row],
            )
            # InnoDB gives the rows of one INSERT ... VALUES ids in a row, in each of its lock modes.
            if self._step and cursor.lastrowid:
                ids += range(cursor.lastrowid, cursor.lastrowid + len(chunk) * self._step, self._step)
        return ids

    def newest(self) -> tuple[int, int]:
        """As in `Database`."""
        began = datetime.now(UTC)
        events, signals, moment = self.query(
            "SELECT (SELECT COALESCE(MAX(id), 0) FROM replay_events),"
            " (SELECT COALESCE(MAX(id), 0) FROM replay_signals), UTC_TIMESTAMP(6)"
        )[0]
        self._adjust(began, moment)
        return events, signals

    def lock(self, name: str, wait: float) -> bool:
        """As in `Database`: GET_LOCK, which the server gives back when the connection ends."""
        return bool(self.query("SELECT GET_LOCK(?, ?)", (self._lock_name(name), wait))[0][0])

    def unlock(self, name: str) -> None:
        """As in `Database`."""
        self.query("SELECT RELEASE_LOCK(?)", (self._lock_name(name),))

    def _lock_name(self, name: str) -> str:
        # Named locks are shared by all databases of a server and hold 64 characters.
        return hashlib.sha256(f"{self._arguments['database']}/{name}".encode()).hexdigest()[:48]

    def release(self) -> None:
        """As in `Database`."""
        self._discard()

    def close(self) -> None:
        """As in `Database`."""
        with self._mutex:
            for connection in self._open:
                connection._force_close()  # type: ignore[attr-defined]
            self._open.clear()

    def _columns(self, table: str) -> set[str]:
        rows = self.query(
            "SELECT column_name FROM information_schema.columns"
            " WHERE table_schema = DATABASE() AND table_name = ?",
            (table,),
        )
        return {row[0] for row in rows}

    def _type(self, kind: str) -> str:
        kind = "BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY" if kind == "ID" else kind
        kind = kind.replace("BLOB", "MEDIUMBLOB").replace("HASH", "BINARY(128)")
        return kind.replace("TIME", "DATETIME(3)")

    def _define(self, table: str, columns: str) -> None:
        self.query(
            f"CREATE TABLE IF NOT EXISTS {table} ({columns})"
            " ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin"
        )

    def _alter(self, sql: str) -> None:
        # 1060, 1061: another process that connected just now was faster.
        try:
            self._execute(sql, ())
        except pymysql.err.Error as error:
            if error.args[0] not in (1060, 1061):
                raise self._meaning(error, committing=False) from error

    def _index(self, table: str, name: str, unique: bool, on: str) -> None:
        self._alter(f"CREATE {'UNIQUE ' if unique else ''}INDEX {name} ON {table} ({on})")


@lru_cache(maxsize=512)
def _percent(sql: str) -> str:
    return sql.replace("?", "%s")


def _chunks(rows: Sequence[Row]) -> Iterable[Sequence[Row]]:
    """Rows in portions that fit a packet."""
    start = size = 0
    for end, row in enumerate(rows):
        more = sum(len(value) for value in row if isinstance(value, bytes))
        if end > start and (size + more > _BYTES_PER_INSERT or end - start >= _ROWS_PER_INSERT):
            yield rows[start:end]
            start, size = end, 0
        size += more
    yield rows[start:]


def open_database(url: str) -> Database:
    """The database that `url` names, with its tables in place.

    ``sqlite:///relative.db``, ``sqlite:////absolute.db``, ``sqlite://`` (in memory),
    ``mysql://user:password@host:3306/database``; options behind ``?``: `max_message` (bytes, 4 MiB
    unless set), `lease` (seconds, 10 unless set), and for MySQL `unix_socket` and `ssl_ca` (a file;
    then TLS is required and verified).  Raises `BadUrl` and the other errors of this module.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadUrl(f"not a database URL: {error}") from error
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.scheme == "sqlite" and not parts.netloc:
        database: Database = Sqlite(unquote(parts.path[1:]) or ":memory:", options)
    elif parts.scheme == "mysql" and parts.hostname and len(parts.path) > 1:
        name = f"mysql://{parts.hostname}:{port or 3306}{parts.path}"
        arguments: dict[str, Any] = {
            "host": parts.hostname,
            "port": port or 3306,
            "user": unquote(parts.username or ""),
            "password": unquote(parts.password or ""),
            "database": unquote(parts.path[1:]),
        }
        _secure(arguments, options)
        database = MySQL(name, arguments, options)
    else:
        raise BadUrl(
            "expected sqlite:///file.db, sqlite:// or mysql://user:password@host:3306/database,"
            f" not {parts.scheme or '?'}://"
        )
    try:
        database.prepare()
    except BaseException:
        database.close()
        raise
    return database


def _secure(arguments: dict[str, Any], options: dict[str, str]) -> None:
    """Use TLS wherever the server offers it, but not for what never leaves this machine."""
    if socket := options.pop("unix_socket", None):
        arguments["unix_socket"] = socket
    if authority := options.pop("ssl_ca", None):
        arguments |= {"ssl_ca": authority, "ssl_verify_cert": True, "ssl_verify_identity": True}
    elif socket or arguments["host"] in ("localhost", "127.0.0.1", "::1"):
        arguments["ssl_disabled"] = True
