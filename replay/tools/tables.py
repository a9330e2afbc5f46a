"""The tables of a log, as the audit reads them: in pages, and as they are at one moment.

Invariants: nothing is written, not even a missing table, and the file may be read-only.  No query
returns more than a page.

Left to `replay.tools.audit`: what is wrong with the rows.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..signal import TARGET as SIGNAL
from ..sleep import TARGET as SLEEP
from ..storage.database import (
    FLOOR,
    SCHEMA_VERSION,
    Database,
    DatabaseError,
    Row,
    SchemaTooNew,
    chunks,
    for_each,
    from_text,
    placeholders,
)
from ..storage.event import read_message
from ..storage.open import open_database
from ..storage.sqlite import Sqlite

_COMPLETED, _RESPONSE = 2, 5  # types of events
_PAGE = 5000  # events of a page, and ids of other tables
_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table'"
_TABLES_OF_MYSQL = (
    "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()"
)
_HEAD = 1000  # bytes of a message that are compared


class NoLog(DatabaseError):
    """The database has no tables of a log."""


class Signal(NamedTuple):
    """A signal that an await took."""

    id: int
    created_at: str
    head: bytes | None


@dataclass(slots=True)
class Wait:
    """The row of a sleep or an await."""

    id: int
    created_at: str
    until: str
    status: int  # of an await, or whether a sleep is marked as completed
    signals: list[Signal] = field(default_factory=list)
    older: int = 0  # a free signal of this type that is older than those


class Page(NamedTuple):
    """Events, and the rows of the sleeps and awaits that they answer, by key."""

    #: id, type, key, timestamp, the iteration's key by the other columns, the message's beginning.
    #: Ordinary activities and outputs do not have the last.
    events: Sequence[Row]
    waits: Mapping[str, Wait]


class Tables:
    """Reads what the audit needs, in pages of bounded size."""

    def __init__(self, database: Database) -> None:
        self._database = database
        names = _TABLES if isinstance(database, Sqlite) else _TABLES_OF_MYSQL
        self._there = {name for (name,) in database.query(names)}
        parts = "namespace, workflow, run, iteration"
        # In MySQL || means OR.
        joined = " || '/' || ".join(parts.split(", "))
        place = joined if isinstance(database, Sqlite) else f"CONCAT_WS('/', {parts})"
        self._events = (
            f"SELECT id, type, `key`, timestamp, {place}, CASE WHEN type IN (4, 5) AND"
            f" INSTR(`key`, '/replay_s') > 0 OR type IN (1, 2) THEN SUBSTR(message, 1, {_HEAD}) END"
            f" FROM replay_events WHERE id > ? ORDER BY id LIMIT {_PAGE}"
        )
        self.count = 0  # of events read
        self._free: bool | None = None
        self.damaged: set[tuple[str, object]] = set()  # rows of other tables that nobody can read

    def _query(self, sql: str, parameters: Sequence[Any] = ()) -> Sequence[Row]:
        """Query; a table that another system did not make is empty."""
        table = sql.partition(" FROM ")[2].split()[0]
        return self._database.query(sql, parameters) if table in self._there else ()

    def _query_each(self, sql: str, values: Sequence[Any], *before: Any) -> Iterator[Row]:
        for each in for_each(sql, values, *before):
            yield from self._query(each.sql, each.parameters)

    def floor(self) -> object:
        """Up to which id gaps are final, as it is stored (L9)."""
        rows = self._query("SELECT value FROM replay_meta WHERE name = ?", (FLOOR,))
        return rows[0][0] if rows else "0"

    def newest(self) -> tuple[int, int]:
        """The newest event, and the newest signal."""
        tables = ("replay_events", "replay_signals")
        events, signals = (self._query(f"SELECT MAX(id) FROM {table}")[0][0] for table in tables)
        return events or 0, signals or 0

    def pages(self) -> Iterator[Page]:
        """The log, in the order of its ids."""
        after = 0
        while rows := self._query(self._events, (after,)):
            yield Page(rows, self._answered(rows))
            self.count += len(rows)
            after = rows[-1][0]

    def _answered(self, rows: Sequence[Row]) -> dict[str, Wait]:
        responses = [row[2] for row in rows if row[1] == _RESPONSE and isinstance(row[2], str)]
        sleeps = [key for key in responses if f"/{SLEEP}/" in key]
        awaits = [key for key in responses if f"/{SIGNAL}/" in key and key.count("/") == 5]
        heard = self.waits("replay_signal_awaits", awaits)
        self._add_signals(heard)
        return self.waits("replay_sleeps", sleeps) | heard

    def waits(self, table: str, keys: Sequence[str]) -> dict[str, Wait]:
        """The rows of some sleeps or awaits, by key."""
        columns = "complete_at, completed" if table == "replay_sleeps" else "timeout_at, status"
        sql = f"SELECT `key`, id, created_at, {columns} FROM {table} WHERE `key` IN ?"
        found, wanted = dict[str, Wait](), set(keys)
        for key, *rest in self._query_each(sql, keys):
            if key not in wanted:
                continue  # some collations take different keys for equal (L8)
            if _are_times(*rest[1:3]):
                found[key] = Wait(*rest)
            else:
                self.damaged.add((table, key))
        return found

    def _add_signals(self, waits: Mapping[str, Wait]) -> None:
        """Find the signals that these awaits took, and free ones that are older."""
        of: dict[tuple[str, ...], dict[tuple[Any, ...], Wait]] = {}
        for key, wait in waits.items():
            namespace, workflow, run = key.split("/")[:3]
            of.setdefault((namespace, workflow), {})[run, _type(key), wait.id] = wait
        for workflow_of, keyed in of.items():
            for some in chunks(list(keyed)):
                runs, types = sorted({run for run, _, _ in some}), sorted({t for _, t, _ in some})
                where = (
                    f"namespace = ? AND workflow = ? AND run IN ({placeholders(len(runs))})"
                    f" AND type IN ({placeholders(len(types))})"
                )
                place = (*workflow_of, *runs, *types)
                ids = [id for _, _, id in some]
                self._add_taken(keyed, f"{where} AND check_id BETWEEN ? AND ?", place, ids)
                if self._has_free():
                    self._add_older({key: keyed[key] for key in some}, where, place)

    def _add_taken(
        self,
        keyed: Mapping[tuple[Any, ...], Wait],
        where: str,
        place: Sequence[Any],
        ids: Sequence[int],
    ) -> None:
        sql = (
            f"SELECT namespace, workflow, run, type, check_id, id, created_at,"
            f" SUBSTR(message, 1, {_HEAD}) FROM replay_signals WHERE {where} ORDER BY id"
        )
        for namespace, workflow, *of, id, at, head in self._query(
            sql, (*place, min(ids), max(ids))
        ):
            wait = keyed.get(tuple(of))
            # Some collations take different names for equal (L8).
            if wait is None or (namespace, workflow) != tuple(place[:2]):
                continue
            if _are_times(at):
                wait.signals.append(Signal(id, at, read_message(head)))
            else:
                self.damaged.add(("replay_signals", id))

    def _add_older(
        self, keyed: Mapping[tuple[Any, ...], Wait], where: str, place: Sequence[Any]
    ) -> None:
        of = "namespace, workflow, run, type"
        sql = (
            f"SELECT {of}, MIN(id) FROM replay_signals WHERE {where} AND check_id IS NULL"
            f" GROUP BY {of}"
        )
        free = {tuple(names): id for *names, id in self._query(sql, place)}
        for (run, type, _), wait in keyed.items():
            oldest = free.get((*place[:2], run, type))
            if wait.signals and oldest is not None and oldest < wait.signals[0].id:
                wait.older = oldest

    def _has_free(self) -> bool:
        """Whether there is any signal that nobody has taken."""
        if self._free is None:
            sql = "SELECT 1 FROM replay_signals WHERE check_id IS NULL LIMIT 1"
            self._free = bool(self._query(sql))
        return self._free

    def find(self, type: int, key: str) -> int | None:
        """The id of the event of a type with a key; None if there is none."""
        sql = "SELECT `key`, id FROM replay_events WHERE type = ? AND `key` = ? ORDER BY id"
        return next((id for found, id in self._query(sql, (type, key)) if found == key), None)

    def found(self, type: int, keys: Sequence[str]) -> set[str]:
        """Those of these keys that an event of a type has."""
        sql = "SELECT `key` FROM replay_events WHERE type = ? AND `key` IN ?"
        return {key for (key,) in self._query_each(sql, keys, type)}

    def duplicates(self) -> Iterator[tuple[int, int, str, int]]:
        """Events that are there twice: id, type, key, and the first one's id."""
        sql = "SELECT type, `key` FROM replay_events GROUP BY type, `key` HAVING COUNT(*) > 1"
        for type, key in self._query(sql):
            each = "SELECT id, `key` FROM replay_events WHERE type = ? AND `key` = ? ORDER BY id"
            first: dict[object, int] = {}
            for id, text in self._query(each, (type, key)):
                if text in first:
                    yield id, type, str(text), first[text]
                first.setdefault(text, id)

    def cursors(self) -> Iterable[Row]:
        """Names and cursors."""
        return self._query("SELECT id, last_event_id FROM replay_cursors")

    def refused(self) -> Iterable[Row]:
        """Rows of the inbox that cannot be moved, and why."""
        return self._query("SELECT id, error FROM replay_inbox WHERE error IS NOT NULL ORDER BY id")

    def parked(self) -> Iterator[tuple[Row, tuple[int, str] | None, bool]]:
        """Parked rows, each with its event, and whether the log has what it waits for."""
        sql = (
            "SELECT consumer, event_id, `key`, attempts, next_at FROM replay_parked"
            " WHERE id > ? AND id <= ? ORDER BY id"
        )
        for first in self._windows("replay_parked"):
            rows = self._query(sql, (first, first + _PAGE))
            query = "SELECT id, type, `key` FROM replay_events WHERE id IN ?"
            of = self._query_each(query, [row[1] for row in rows])
            events = {id: (type, key) for id, type, key in of}
            keys = [row[2] for row in rows]
            done = {type: self.found(type, keys) for type in (_COMPLETED, _RESPONSE)}
            for row in rows:
                over = done[_COMPLETED if str(row[0]).startswith("workflow/") else _RESPONSE]
                yield row, events.get(row[1]), row[2] in over

    def pending(self, table: str) -> Iterator[list[Any]]:
        """The keys of the rows that wait."""
        what = "completed = 0" if table == "replay_sleeps" else "status = 1"
        for first in self._windows(table):
            sql = f"SELECT `key` FROM {table} WHERE id > ? AND id <= ? AND {what}"
            yield [key for (key,) in self._query(sql, (first, first + _PAGE))]

    def _windows(self, table: str) -> Iterator[int]:
        """Where the ranges of ids begin that have rows."""
        after = 0
        while True:
            sql = f"SELECT MIN(id) FROM {table} WHERE id > ?"
            rows = self._query(sql, (after,))
            if not rows or (first := rows[0][0]) is None:
                return
            yield first - 1
            after = first - 1 + _PAGE

    def count_taken(self) -> int:
        """How many signals count as taken."""
        sql = "SELECT COUNT(*) FROM replay_signals WHERE check_id > 0"
        return int(self._query(sql)[0][0])

    def count_signals(self, up_to: int) -> int:
        """How many signals there are up to an id."""
        sql = "SELECT COUNT(*) FROM replay_signals WHERE id <= ?"
        return int(self._query(sql, (up_to,))[0][0])

    def taken(self) -> Iterator[tuple[int, str, object, int, str | None, bool]]:
        """Signals that count as taken: id, run, type, await, and its key if it is there."""
        sql = (
            "SELECT id, namespace, workflow, run, type, check_id FROM replay_signals"
            " WHERE id > ? AND id <= ? AND check_id > 0"
        )
        for first in self._windows("replay_signals"):
            rows = self._query(sql, (first, first + _PAGE))
            query = "SELECT id, `key` FROM replay_signal_awaits WHERE id IN ?"
            takers: dict[int, str] = dict(self._query_each(query, [row[5] for row in rows]))
            answered = self.found(_RESPONSE, list(takers.values()))
            for id, *run, type, taker in rows:
                key = takers.get(taker)
                yield id, "/".join(map(str, run)), type, taker, key, key in answered

    def same_signals(self) -> Iterator[tuple[int, int]]:
        """Signals that are there twice."""
        sql = (
            "SELECT MAX(id), MIN(id) FROM replay_signals GROUP BY namespace, hash"
            " HAVING COUNT(*) > 1"
        )
        yield from ((again, first) for again, first in self._query(sql))


def _are_times(*values: Any) -> bool:
    try:
        return all(map(from_text, values))
    except (TypeError, ValueError):
        return False


def _type(key: str) -> int:
    """The signal type in an await's key; one that no signal has if it names none."""
    text = key.rpartition("/")[2].partition(":")[0]
    return int(text) if re.fullmatch("-?[0-9]{1,3}", text) else 1000


@contextlib.contextmanager
def open_log(url: str) -> Iterator[Tables]:
    """Open a log to be audited, as it is at this moment.

    Raises `BadUrl`, `NoLog`, `SchemaTooNew` or `Unavailable`.
    """
    database = open_database(url, to_read=True)
    try:
        if "key" not in database._columns("replay_events"):
            raise NoLog(f"{database.name} has no log: name the database that has one")
        if database._version() > SCHEMA_VERSION:
            raise SchemaTooNew(f"{database.name} was made by a newer replay: install that one")
        _at_one_moment(database)
        yield Tables(database)
    finally:
        database.close()


def _at_one_moment(database: Database) -> None:
    """Begin a transaction that reads, so that all queries see the same moment."""
    if isinstance(database, Sqlite):
        database.query("BEGIN")
        return
    database.query("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    database.query("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
