"""The database without the library: probes for the measures, and the raw limit.

The raw limit is the speed of the same rows when only the driver touches them:

1. Take the rows that the library has just written.
2. Put the created events of its runs into a fresh database with the same tables.
3. Do what any implementation must do: read the new rows; write the next rows and move a cursor in
   one transaction. Repeat until all rows are written and read.

This uses one connection and the same batches. It does not decode, decide or look for duplicates.
"""

import re
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pymysql
from pymysql.constants import FIELD_TYPE
from pymysql.converters import conversions

import replay

BATCH = 1_000
CREATED, COMPLETED, OUTPUT, REQUEST, RESPONSE = 1, 2, 3, 4, 5
EVENT = "`key`, namespace, workflow, run, iteration, type, timestamp, message"
CURSOR = "id, last_event_id, updated_at, owner, lease_until"


class Raw:
    """One connection, with `?` as the placeholder on either database."""

    def __init__(self, url: str) -> None:
        self.sqlite = url.startswith("sqlite")
        self.link: Any = connect_sqlite(url) if self.sqlite else connect_mysql(url)
        self.cursor = self.link.cursor()

    def rows(self, sql: str, *values: object) -> Sequence[tuple[Any, ...]]:
        self.cursor.execute(self.marked(sql), values)
        found: Sequence[tuple[Any, ...]] = self.cursor.fetchall()
        return found

    def insert(self, table: str, columns: str, rows: Sequence[tuple[Any, ...]]) -> None:
        marks = ", ".join("?" * len(rows[0]))
        sql = f"INSERT INTO {table} ({columns}) VALUES ({marks})"
        self.cursor.executemany(self.marked(sql), rows)

    def count(self, kind: int, **where: str) -> int:
        """How many events of a type there are: all, or those of a namespace, workflow or run."""
        more = "".join(f" AND {column} = ?" for column in where)
        sql = f"SELECT COUNT(*) FROM replay_events WHERE type = ?{more}"
        [(number,)] = self.rows(sql, kind, *where.values())
        return int(number)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self.cursor.execute("BEGIN IMMEDIATE" if self.sqlite else "BEGIN")
        yield
        self.cursor.execute("COMMIT")

    def ping(self) -> None:
        """Connect again if the server has closed an idle connection."""
        if not self.sqlite:
            self.link.ping(reconnect=True)

    def close(self) -> None:
        self.link.close()

    def marked(self, sql: str) -> str:
        return sql if self.sqlite else re.sub(r"\?", "%s", sql.replace("%", "%%"))


def connect_sqlite(url: str) -> sqlite3.Connection:
    url, _, options = url.partition("?")
    path = url.removeprefix("sqlite://").removeprefix("/") or ":memory:"
    link = sqlite3.connect(path, isolation_level=None, timeout=30)
    link.execute("PRAGMA journal_mode=WAL")
    link.execute(f"PRAGMA synchronous={parse_qs(options).get('synchronous', ['full'])[0]}")
    return link


def connect_mysql(url: str) -> "pymysql.Connection[pymysql.cursors.Cursor]":
    """Times stay text, because decoding them costs more than reading them."""
    parts = urlsplit(url)
    socket = parse_qs(parts.query).get("unix_socket", [None])[0]
    return pymysql.connect(
        host=parts.hostname,
        port=parts.port or 3306,
        unix_socket=socket,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        database=parts.path.strip("/"),
        charset="utf8mb4",
        autocommit=True,
        conv={kind: how for kind, how in conversions.items() if kind != FIELD_TYPE.DATETIME},
    )


@dataclass(frozen=True)
class Copy:
    """The rows of a log, without their ids."""

    created: Sequence[tuple[Any, ...]]
    others: Sequence[tuple[Any, ...]]
    cursors: Sequence[tuple[Any, ...]]


def copy(url: str) -> Copy:
    select = f"SELECT {EVENT} FROM replay_events WHERE type"
    with closing(Raw(url)) as database:
        return Copy(
            created=database.rows(f"{select} = ? ORDER BY id", CREATED),
            others=database.rows(f"{select} > ? ORDER BY id", CREATED),
            cursors=database.rows(f"SELECT {CURSOR} FROM replay_cursors"),
        )


def rerun(url: str, rows: Copy) -> float:
    """Write and read the rows in an empty database. Returns the seconds that this took."""
    replay.connect(url, loops=False).close()  # makes the tables
    with closing(Raw(url)) as database:
        with database.transaction():
            database.insert("replay_events", EVENT, rows.created)
            database.insert("replay_cursors", CURSOR, [(c[0], 0, *c[2:]) for c in rows.cursors])
        begin = time.perf_counter()
        read, stands = 0, dict.fromkeys(range(len(rows.cursors)), 0)
        for number, batch in enumerate(batches(rows.others)):
            mover = number % len(rows.cursors)
            read = read_on(database, read)
            with database.transaction():
                move(database, rows.cursors[mover], stands[mover], read)
                database.insert("replay_events", EVENT, batch)
            stands[mover] = read
        while (new := read_on(database, read)) > read:
            read = new
        return time.perf_counter() - begin


def batches(rows: Sequence[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    """The library's own commits: the rows of a commit have one timestamp and follow each other."""
    for _, batch in groupby(rows, key=itemgetter(6)):
        yield list(batch)


def read_on(database: Raw, after: int) -> int:
    """Read the columns of the next batch that a reader needs. Returns the id of its last row."""
    sql = "SELECT id, type, `key`, timestamp, message FROM replay_events"
    found = database.rows(f"{sql} WHERE id > ? ORDER BY id LIMIT {BATCH}", after)
    return int(found[-1][0]) if found else after


def move(database: Raw, cursor: tuple[Any, ...], old: int, new: int) -> None:
    """Move a cursor if it stands where it should: two owners of a name must not both go on."""
    name, _, updated_at, owner, lease_until = cursor
    database.rows(
        "UPDATE replay_cursors SET last_event_id = ?, updated_at = ?, lease_until = ?"
        " WHERE id = ? AND owner = ? AND last_event_id = ?",
        *(new, updated_at, lease_until, name, owner, old),
    )
    if database.cursor.rowcount != 1:
        raise RuntimeError(f"the cursor {name} does not stand at {old}")
