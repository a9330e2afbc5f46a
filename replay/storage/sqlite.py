"""SQLite, the embedded default.

Invariant: the threads of a process share one connection behind one lock.  SQLite has one writer at
a time, and waits for it by sleeping; behind a lock, the threads of a process never wait that way.
With one connection, ``data_version`` also says exactly whether another process has committed.

A consumer's lock is a lock on a file beside the database.  It ends with the process.

A commit into a file that was deleted or replaced would be acknowledged and lost.  So each query and
each commit looks whether the names still lead to the files that are open.

Left to `replay.log`: what the rows mean.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import secrets
import sqlite3
import threading
import time
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from .database import (
    BadUrl,
    Database,
    DatabaseError,
    Duplicate,
    FileReplaced,
    Insert,
    NotFound,
    ReadOnly,
    Row,
    Statement,
    StatementFailed,
    Step,
    Unavailable,
    chunks,
    entered,
    insertion,
    log,
)

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows: there only the lease says who the owner is
    fcntl = None  # type: ignore[assignment]

_DOMAIN = "file"  # one for all: every process that opens the file sees the same locks
_BUSY_TIMEOUT = 60.0  # seconds to wait for other processes' transactions
_TURN = 0.001  # seconds between two looks whether they have ended


class Sqlite(Database):
    """A SQLite file, or a database in memory.

    A commit is on disk before it returns.  With the option ``synchronous=normal`` it survives the
    death of any process, but the last few may be missing after a loss of power.
    """

    #: The class of the connection.
    driver: type[sqlite3.Connection] = sqlite3.Connection
    loses_ids = False
    one_writer = True
    skip_duplicates = " ON CONFLICT DO NOTHING"
    _types = MappingProxyType(
        {"ID": "INTEGER PRIMARY KEY AUTOINCREMENT", "TIME": "DATETIME", "HASH": "BLOB"}
    )

    def __init__(self, path: str, options: dict[str, str], *, to_read: bool = False) -> None:
        synchronous = options.pop("synchronous", "full")
        if synchronous not in ("full", "normal"):
            raise BadUrl(f"synchronous={synchronous} in the URL: expected full or normal")
        super().__init__(f"sqlite:///{path}" if path != ":memory:" else "sqlite://", options)
        if path == ":memory:":
            self.news = ""  # nobody else has it
        self._path = path if path == ":memory:" else os.path.realpath(path)
        # By the name in the URL, which may be a symbolic link; SQLite puts the others beside it.
        self._files = [os.path.abspath(path), f"{self._path}-wal", f"{self._path}-shm"]
        self._opened: list[tuple[str, int, int]] = []  # name, device, inode
        self._locks: dict[str, int] = {}
        self._mutex = threading.RLock()
        self._lockless = False
        self._seen: tuple[int, tuple[int, int, bool]] = (-1, (0, 0, False))
        if to_read:
            with self._translated():
                self._connection = self._open_to_read()
            return
        if path != ":memory:":
            _make_private(self._path)
        with self._translated():
            self._connection = self._connect(path)
            try:
                self._when_free("PRAGMA journal_mode=WAL")
                self._connection.execute(f"PRAGMA synchronous={synchronous}")
                self._require_write()
                if path != ":memory:":
                    for file, found in [(each, os.stat(each)) for each in self._files]:
                        self._opened.append((file, found.st_dev, found.st_ino))
            except BaseException:
                self._connection.close()
                raise

    def _connect(self, path: str, *, uri: bool = False) -> sqlite3.Connection:
        return sqlite3.connect(
            path,
            timeout=0,  # see `_when_free`
            isolation_level=None,
            check_same_thread=False,
            factory=self.driver,
            uri=uri,
        )

    def _open_to_read(self) -> sqlite3.Connection:
        """Open the file so that nothing can be written to it.

        Even a reader needs the -wal and the -shm file, which it cannot make in a read-only
        directory.  If they are not there, no other process has the log open, so this one can do
        without them.
        """
        effective = os.access in os.supports_effective_ids
        writable = os.access(os.path.dirname(self._path), os.W_OK, effective_ids=effective)
        alone = not writable and not os.path.exists(f"{self._path}-wal")
        options = "mode=ro&immutable=1" if alone else "mode=ro"
        return self._connect(f"file:{quote(self._path)}?{options}", uri=True)

    def _when_free(self, sql: str, parameters: Sequence[Any] = ()) -> Sequence[Row]:
        """Execute a statement as soon as other processes have ended what keeps it from that.

        SQLite itself would look less and less often, and at last ten times a second.  Among
        processes that commit all the time, that one would wait longest that has waited longest.
        """
        deadline = 0.0
        while True:
            try:
                return self._connection.execute(sql, parameters).fetchall()
            except sqlite3.OperationalError as error:
                if _code(error) != sqlite3.SQLITE_BUSY:
                    raise
                now = time.monotonic()
                deadline = deadline or now + _BUSY_TIMEOUT
                if now >= deadline:
                    raise
            time.sleep(random.uniform(0.5, 1.0) * _TURN)

    def _require_write(self) -> None:
        with self._translated():
            self._when_free("BEGIN IMMEDIATE")
            try:
                # A read-only file says so at the first write, not at BEGIN.
                self._connection.execute("PRAGMA user_version = 0")
            finally:
                self._connection.execute("ROLLBACK")

    def inside(self) -> threading.RLock:
        """As in `Database`: all threads share one connection."""
        return self._mutex

    def _require_files(self, count: int = 3) -> None:
        """Raise `FileReplaced` if one of the first `count` files no longer has its name.

        One look costs a microsecond or two, so a mere query looks for the first file only.
        """
        for file, device, inode in self._opened[:count]:
            try:
                found = os.stat(file)
                if found.st_ino == inode and found.st_dev == device:
                    continue
            except (FileNotFoundError, NotADirectoryError):
                pass
            except OSError as error:
                self.unreachable(error)
                raise Unavailable(f"{self.name}: {error}") from error
            raise FileReplaced(
                f"{self.name}: {file} was deleted, moved or replaced while it was open, so nothing"
                " is stored any more: stop every process that uses the database, put its files in"
                " their place, and start again"
            )

    @contextlib.contextmanager
    def _translated(self, committing: bool = False) -> Any:
        try:
            yield
        except sqlite3.IntegrityError as error:
            self._require_files()  # what only a deleted file knows is no duplicate
            raise Duplicate(str(error)) from error
        except sqlite3.Error as error:
            raise self._meaning(error) from error

    def _meaning(self, error: sqlite3.Error) -> DatabaseError:
        if isinstance(error, sqlite3.ProgrammingError) and "closed database" in str(error):
            return Unavailable(f"{self.name} has been closed")
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        if code == sqlite3.SQLITE_READONLY:
            return ReadOnly(
                f"{self.name} is read-only: give this user write access to the file"
                " and its directory"
            )
        if code == sqlite3.SQLITE_CANTOPEN:
            self.unreachable(error)
            return Unavailable(f"{self.name} cannot be opened: does its directory exist?")
        if self._is_away(error):
            self.unreachable(error)
            return Unavailable(f"{self.name}: {error}")
        return DatabaseError(f"{self.name}: {error}")

    @staticmethod
    def _is_away(error: sqlite3.Error) -> bool:
        return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)

    def _execute(self, sql: str, parameters: Sequence[Any]) -> Sequence[Row]:
        self._require_files(1)
        try:
            return self._when_free(sql, parameters)
        except sqlite3.OperationalError as error:
            if "Could not decode to UTF-8" not in str(error):
                raise
        # Another program wrote it.  That one text comes as bytes, which nobody takes for a text.
        self._connection.text_factory = _text
        try:
            return self._when_free(sql, parameters)
        finally:
            self._connection.text_factory = str

    def _write(self, statements: Sequence[Statement], inserts: Sequence[Insert]) -> list[int]:
        try:
            self._when_free("BEGIN IMMEDIATE")
            for statement in statements:
                sql, parameters, must_find = statement
                try:
                    found = self._connection.execute(sql, parameters).rowcount
                except sqlite3.Error as error:
                    if not isinstance(statement, Step) or self._is_away(error):
                        raise
                    raise StatementFailed(f"{self.name}: {error}", statement) from error
                if must_find not in (None, found):
                    raise NotFound(f"{found} rows instead of {must_find}")
            ids = [id for insert in inserts for id in self._insert(insert)]
            self._require_files()
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        return ids

    def _insert(self, insert: Insert) -> list[int]:
        """Insert rows with ids of our own choice, which is safe: nobody else writes now.

        One statement inserts many rows, because Python releases its global lock at each statement.
        While other threads compute, getting it back takes 5 ms.
        """
        table, columns, rows = insert
        query = "SELECT seq FROM sqlite_sequence WHERE name = ?"
        found = self._connection.execute(query, (table,)).fetchall()
        first = found[0][0] + 1 if found else 1
        ids = list(range(first, first + len(rows)))
        for some in chunks([(id, *row) for id, row in zip(ids, rows, strict=True)]):
            self._connection.execute(*insertion(table, f"id, {columns}", some)[:2])
        return ids

    def newest(self) -> tuple[int, int, bool]:
        """As in `Database`.  It reads the ids only after somebody has committed."""
        with entered(self._mutex), self._translated():
            self._require_files()
            # Read before the ids, so that a commit in between makes the next call look again.
            [(version,)] = self._when_free("PRAGMA data_version")
            own = self._connection.total_changes
            if self._seen[0] != version + own:
                sql = (
                    "SELECT (SELECT COALESCE(MAX(id), 0) FROM replay_events),"
                    " (SELECT COALESCE(MAX(id), 0) FROM replay_signals),"
                    " EXISTS (SELECT 1 FROM replay_inbox WHERE error IS NULL)"
                )
                self._seen = (version + own, tuple(*self._when_free(sql)))
            return self._seen[1]

    def lock(self, name: str, wait: float) -> str:
        """As in `Database`: a lock on a file beside the database, which ends with the process."""
        if self._path == ":memory:" or name in self._locks:
            return _DOMAIN
        if fcntl is None:  # pragma: no cover
            time.sleep(min(wait, 0.5))
            return ""
        deadline, file = time.monotonic() + wait, self._lock_file(name)
        while (handle := self._lock_at(file, name, deadline)) is not None:
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), os.stat(file)):
                    self._locks[name] = handle
                    return _DOMAIN
            os.close(handle)  # `end_lock` has removed the file meanwhile: that locks nobody out
        return ""

    def _lock_at(self, file: str, name: str, deadline: float) -> int | None:
        """Open and lock a file.  None while another process has the lock."""
        try:
            os.makedirs(os.path.dirname(file), 0o700, exist_ok=True)
            handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            self.unreachable(error)
            raise Unavailable(f"{self.name}: no lock for {name}: {error}") from error
        taken = False
        try:
            taken = self._flock(handle, deadline)
        finally:
            if not taken:
                os.close(handle)
        return handle if taken else None

    def _lock_file(self, name: str) -> str:
        return f"{self._path}-locks/{hashlib.sha256(name.encode()).hexdigest()[:32]}"

    def _flock(self, handle: int, deadline: float) -> bool:
        """Lock a file.  Where the file system has no locks, only the lease decides (L7)."""
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                pass
            except OSError as error:  # ENOLCK, ENOTSUP
                if not self._lockless:
                    self._lockless = True
                    log.warning(
                        "%s-locks: %s: only the lease shows that a consumer has died: keep the"
                        " database on a local disk",
                        self._path,
                        error,
                    )
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.05)

    def unlock(self, name: str) -> None:
        """As in `Database`."""
        if (handle := self._locks.pop(name, None)) is not None:
            os.close(handle)

    def end_lock(self, name: str) -> None:
        """As in `Database`: it also removes the file."""
        if name in self._locks:
            with contextlib.suppress(OSError):  # one that stays does no harm
                os.unlink(self._lock_file(name))
        self.unlock(name)

    def release(self) -> None:
        """As in `Database`: nothing belongs to one thread here."""

    def close(self) -> None:
        """As in `Database`."""
        with entered(self._mutex):
            for name in list(self._locks):
                self.unlock(name)
            self._opened = []  # SQLite deletes -wal and -shm
            self._connection.close()

    def _columns(self, table: str) -> set[str]:
        return {row[1] for row in self.query(f"PRAGMA table_info({table})")}

    def _define(self, table: str, columns: str) -> None:
        self.query(f"CREATE TABLE IF NOT EXISTS {table} ({columns})")

    def _alter(self, sql: str) -> None:
        try:
            self.query(sql)
        except DatabaseError as error:
            if "duplicate column" not in str(error):
                raise

    def _index(self, table: str, name: str, unique: bool, on: str) -> None:
        # All tables of a SQLite database share one set of index names.
        kind = "UNIQUE INDEX" if unique else "INDEX"
        self.query(f"CREATE {kind} IF NOT EXISTS {table}_{name} ON {table} ({on})")


def _code(error: sqlite3.Error) -> int:
    """SQLite's code of an error, without its details; 0 if the driver found it."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def _make_private(path: str) -> None:
    """Make an empty file that only this user may read; SQLite gives its mode to those beside it.

    It appears under its name only after it was closed.  To close a file that SQLite has open would
    end the locks that SQLite has on it.
    """
    if fcntl is None or os.path.exists(path):
        return
    draft = f"{path}-{secrets.token_hex(8)}"
    with contextlib.suppress(OSError):  # SQLite then makes the file, or says why it cannot
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        try:
            os.link(draft, path)
        finally:
            os.unlink(draft)


def _text(raw: bytes) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw
