"""The real database under a simulated cluster: SQLite in memory, or a server's.

Transactions that stay open while others commit are what makes gaps in the ids.  On a server a
second connection holds one; SQLite, which has one writer, is given an id that nobody uses.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import closing

from replay.storage.database import FLOOR, TABLES, Database, Row
from replay.storage.mysql import MySQL
from replay.storage.open import open_database
from replay.storage.sqlite import Sqlite
from tests.support import Raw


class Late:
    """A transaction of another program that has a row's id and has not committed."""

    def __init__(self, backend: Backend, table: str, columns: str, row: Row) -> None:
        self.table = table
        self._backend = backend
        self._columns = columns
        self._row = row
        self._raw = Raw(backend.url) if backend.server else None
        if self._raw is None:
            self.id = backend.burn(table)
        else:
            self._raw.run("BEGIN")
            self._raw.run(self._insert(columns, len(row)), *row)
            self.id = int(self._raw.run("SELECT LAST_INSERT_ID()")[0][0])

    def _insert(self, columns: str, count: int) -> str:
        return f"INSERT INTO {self.table} ({columns}) VALUES ({','.join('?' * count)})"

    def end(self, commit: bool) -> None:
        """Commit it, or roll it back: the id is then for nobody."""
        if self._raw is not None:
            with closing(self._raw.connection):
                self._raw.run("COMMIT" if commit else "ROLLBACK")
        elif commit:
            row = (self.id, *self._row)
            self._backend.query(self._insert("id, " + self._columns, len(row)), row)


class Backend:
    """Opens the database once for each process, and looks into it for the world."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.server = not url.startswith("sqlite")
        self._own = open_database(url)
        self._more: dict[int, Database] = {}
        self._calls = 0

    def of(self, process: int) -> Database:
        """The connection of a process; SQLite's is shared by all."""
        if not self.server:
            return self._own
        if process not in self._more:
            self._more[process] = open_database(self.url)
        return self._more[process]

    def query(self, sql: str, parameters: Sequence[object] = ()) -> Sequence[Row]:
        """What is in the tables, past all faults."""
        if isinstance(self._own, Sqlite):
            return self._own._connection.execute(sql, parameters).fetchall()
        return self._own.query(sql, parameters)

    def version(self) -> int:
        """A number that is another one after each change, and on a server at each call."""
        if isinstance(self._own, Sqlite):
            return self._own._connection.total_changes
        self._calls += 1
        return self._calls

    def burn(self, table: str) -> int:
        """SQLite: the next id, which no insert gets any more."""
        update = "UPDATE sqlite_sequence SET seq = seq + 1 WHERE name = ? RETURNING seq"
        if not (rows := self.query(update, (table,))):
            self.query("INSERT INTO sqlite_sequence (name, seq) VALUES (?, 1)", (table,))
            return 1
        return int(rows[0][0])

    def clear(self) -> None:
        """Make it as it was new."""
        if self._own.name == "sqlite://":
            self._own.close()
            self._own = open_database(self.url)
            return
        for table in TABLES:
            if table != "replay_meta":
                self._own.query(f"{'TRUNCATE TABLE' if self.server else 'DELETE FROM'} {table}")
        self._own.query("UPDATE replay_meta SET value = '0' WHERE name = ?", (FLOOR,))
        self._own.query("DELETE FROM replay_meta WHERE name LIKE 'shards/%'")
        if not self.server:
            self._own.query("DELETE FROM sqlite_sequence")
        for database in self._more.values():
            assert isinstance(database, MySQL)
            database._discard()

    def close(self) -> None:
        """End all connections."""
        for database in (self._own, *self._more.values()):
            database.close()


@contextlib.contextmanager
def opened(url: str) -> Iterator[Backend]:
    """A backend, closed at the end."""
    with closing(Backend(url)) as backend:
        yield backend
