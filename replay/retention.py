"""Retention: what may be removed from the log, and how it goes without misleading anybody (L9).

Role: `prune` removes the iterations that are over, a chunk at a time.  `Retention` finds those of
one database and removes them.  `Client.prune` and `Client.forget_consumer` are its public names.

Invariants:

- Whole iterations go, in one transaction with their sleeps, awaits and signals.  One is over when
  it has ended, each of its requests has its response, and nothing of it is parked.
- Nothing goes that a consumer has not passed.  The transaction itself looks at the cursors.  Nobody
  can take a cursor meanwhile, neither a new one, which begins at 0, nor one that was set back.
- The same transaction raises the *floor*.  Missing ids up to it are final, so nobody fills them.
  That is safe, because all consumers have passed them: no open transaction holds such an id.
- The created and the completed event of iteration 0 stay, with a mark instead of a message.  With
  the created event alone, a consumer that reads from the beginning would execute the run again.
- The row with the largest id stays, if need be as a no-op: some servers give ids again after that.
  Other no-ops stay for good: each keeps an id from a transaction that may still want it.

Left to `replay.log`: reading what is left.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple, Self

from .export import write_history
from .log import Log, checked_cursor
from .projection import unlist
from .signal import SEEN, noop
from .signal import TARGET as SIGNAL
from .sleep import TARGET as SLEEP
from .storage import truss
from .storage.database import (
    FLOOR,
    TAKE_TURN,
    TURN,
    DatabaseError,
    Error,
    NotFound,
    Row,
    Statement,
    for_each,
    from_text,
    to_text,
)
from .storage.event import (
    EventType,
    InvalidName,
    Key,
    MessageError,
    is_pruned,
    pruned_mark,
    read,
)
from .storage.tail import BATCH

#: Ids among which one query looks for iterations that have ended.
_WINDOW = 10_000
#: Events with which a chunk is full.  It holds at least one iteration, however large.
_CHUNK = 1000
#: Iterations that one call looks at, so that it takes no longer than a call of a server may.
_LOOKED = 500
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_ENDED = "SELECT id, `key`, timestamp, message FROM replay_events"
_PLACE = "namespace = ? AND workflow = ? AND run = ?"


class BadPrune(Error, ValueError):
    """`prune` was asked for something that makes no sense or needs care.  Nothing was removed."""


class UnknownConsumer(Error, LookupError):
    """There is no consumer of this name."""


class StillServed(Error):
    """A live process owns this consumer, so it cannot be forgotten."""


class Policy(NamedTuple):
    """Says what is to go."""

    #: Only what ended by this moment.
    before: datetime
    #: Only runs of this namespace; empty for all.
    namespace: str = ""
    #: Whether nothing at all stays of a run.
    forget: bool = False
    #: The id up to which a Go system that shares the database has read.
    shared_with_go_passed: int | None = None


class Removed(NamedTuple):
    """How much was removed.  A run counts when its last iteration goes."""

    runs: int = 0
    iterations: int = 0
    events: int = 0
    signals: int = 0


@dataclass(slots=True)
class Over:
    """An iteration that may go."""

    key: Key
    #: Ids of the events to remove, and of those that stay with a mark instead of a message.
    gone: list[int]
    emptied: list[int]
    mark: bytes
    #: The keys of its sleeps and awaits.
    waits: list[str]
    #: Whether it is the last of its run, so that all signals of the run go too.
    last: bool


class Found(NamedTuple):
    """A chunk of what may go, and where to look for more."""

    over: Sequence[Over]
    next: int
    is_last: bool


def prune(retention: Retention, policy: Policy, export: Path | None = None) -> Removed:
    """Remove what may go, chunk by chunk, and return how much that was.

    With `export`, each iteration is first written to a new file in this directory.
    """
    total, after, is_last = Removed(), 0, False
    with nullcontext() if export is None else Archive(export, policy.before) as archive:
        while not is_last:
            over, following, is_last = retention.find(policy, after)
            if archive is not None:
                archive.keep(retention.log, [each.key for each in over])
            if (removed := retention.remove(policy, over) if over else Removed()) is None:
                is_last = False  # somebody else has changed something: look again
                continue
            total = Removed(*map(sum, zip(total, removed, strict=True)))
            after = following
    return total


class Archive:
    """A file of histories that are about to go, readable for its owner only."""

    def __init__(self, directory: Path, moment: datetime) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        stem = f"pruned-{moment:%Y%m%dT%H%M%S}"
        names = itertools.chain([stem], (f"{stem}-{n}" for n in itertools.count(2)))
        paths = (directory / f"{name}.jsonl" for name in names)
        self.path = next(path for path in paths if not path.exists())
        self._file = os.fdopen(os.open(self.path, _NEW, 0o600), "w", encoding="utf-8")

    def keep(self, log: Log, keys: Iterable[Key]) -> None:
        """Write these histories, and have them on disk before they go."""
        for key in keys:
            write_history(log, key, self._file)
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


class Retention:
    """Finds what may go of one database, and removes it."""

    def __init__(self, log: Log) -> None:
        self.log = log

    def find(self, policy: Policy, after: int) -> Found:
        """Return a chunk of what may go; `after` is where the last call has stopped, 0 at first.

        Raises `BadPrune` if a Go system shares the database, and `policy` does not say how far it
        has read.
        """
        look = self._look(policy)
        rows, end = self._ended(policy, after, look.bound)
        for number, row in enumerate(rows, 1):
            look.consider(row)
            if look.size >= _CHUNK or number == _LOOKED:
                return Found(look.over, row[0], is_last=False)
        return Found(look.over, end, is_last=end >= look.bound)

    def among(self, policy: Policy, keys: Sequence[Key]) -> list[Over]:
        """Return those of these iterations that may go."""
        look = self._look(policy)
        for key in keys:
            sql = f"{_ENDED} WHERE type = 2 AND `key` = ? AND timestamp <= ?"
            for row in self.log.database.query(sql, (str(key), to_text(policy.before))):
                if not policy.namespace or key.namespace == policy.namespace:
                    look.consider(row)
        return look.over

    def _look(self, policy: Policy) -> _Look:
        if policy.shared_with_go_passed is None and (
            self.log.require_message or truss.migrates(self.log.database)
        ):
            raise BadPrune(
                f"a Go system shares {self.log.name}, and its cursors are not there: pass"
                " shared_with_go_passed, the id up to which each of its consumers has read"
            )
        return _Look(self.log, policy, self._bound(policy))

    def _bound(self, policy: Policy) -> int:
        """The id that every consumer has passed, and below which no transaction is open."""
        self.log.poll()
        names = "SELECT name FROM replay_meta WHERE name IN (?, ?)"
        if len(self.log.database.query(names, (FLOOR, TURN))) < 2:
            raise DatabaseError(f"{self.log.name}: replay_meta lacks {FLOOR} or {TURN}: restore it")
        bounds = [self.log.tail.end]
        sql = "SELECT id, last_event_id FROM replay_cursors WHERE id <> ?"
        bounds += [checked_cursor(*row) for row in self.log.database.query(sql, (SEEN,))]
        if policy.shared_with_go_passed is not None:
            bounds.append(policy.shared_with_go_passed)
        return min(bounds)

    def _ended(self, policy: Policy, after: int, bound: int) -> tuple[Sequence[Row], int]:
        """Return the completed events in the next window of ids, and the window's end."""
        first = "SELECT MIN(id) FROM replay_events WHERE id > ? AND id <= ?"
        ((start,),) = self.log.database.query(first, (after, bound))
        if start is None:
            return [], max(after, bound)
        end = min(start + _WINDOW - 1, bound)
        # Plus 0, or the database may read all completed events, in another order.
        sql = f"{_ENDED} WHERE id >= ? AND id <= ? AND type + 0 = 2 AND timestamp <= ?"
        parameters: list[object] = [start, end, to_text(policy.before)]
        if policy.namespace:
            sql, parameters = f"{sql} AND namespace = ?", [*parameters, policy.namespace]
        return self.log.database.query(f"{sql} ORDER BY id", parameters), end

    def remove(self, policy: Policy, over: Sequence[Over]) -> Removed | None:
        """Remove these iterations in one transaction; None if something has changed meanwhile."""
        signals = list(dict.fromkeys(id for each in over for id in self._signals(each)))
        statements = [*self._events(over), *self._signals_gone(signals)]
        statements += unlist(self.log, {each.key[:3] for each in over if each.last})
        for each in over:
            statements += beside(each)
        try:
            self.log.database.write(statements)
        except NotFound:
            return None
        self.log.floor()
        events = sum(len(each.gone) for each in over)
        return Removed(sum(each.last for each in over), len(over), events, len(signals))

    def _events(self, over: Sequence[Over]) -> Iterator[Statement]:
        """Begin the transaction: look at the cursors, raise the floor, and remove the events."""
        gone = sorted(id for each in over for id in each.gone)
        last = max(id for each in over for id in (*each.gone, *each.emptied))
        newest = self.log.database.newest()[0]
        yield TAKE_TURN
        yield Statement(
            "UPDATE replay_meta SET value = value + 1 WHERE name = ? AND NOT EXISTS"
            " (SELECT 1 FROM replay_cursors WHERE last_event_id < ? AND id <> ?)",
            (TURN, last, SEEN),
            must_find=1,
        )
        for iteration in over:
            for id in iteration.emptied:
                sql = "UPDATE replay_events SET message = ? WHERE id = ?"
                yield Statement(sql, (iteration.mark, id), must_find=1)
        if newest in gone:
            gone.remove(newest)
            sql = (
                "UPDATE replay_events SET `key` = ?, namespace = '', workflow = '', run = NULL,"
                " iteration = 0, type = 0, message = NULL WHERE id = ?"
            )
            yield Statement(sql, (f"replay_noop/{newest}", newest), must_find=1)
        for each in for_each("DELETE FROM replay_events WHERE id IN ?", gone):
            yield each._replace(must_find=len(each.parameters))
        sql = "UPDATE replay_meta SET value = ? WHERE name = ? AND value + 0 < ?"
        yield Statement(sql, (str(last), FLOOR, last))

    def _signals(self, over: Over) -> list[int]:
        """Return the signals that its awaits have taken, or all of its run."""
        database, place = self.log.database, over.key[:3]
        sql = f"SELECT id, namespace, workflow, run FROM replay_signals WHERE {_PLACE}"
        rows: Iterable[Row]
        if over.last:
            rows = database.query(sql, place)
        else:
            awaits = "SELECT id, `key` FROM replay_signal_awaits WHERE `key` IN ?"
            waits = set(over.waits)  # some collations take different keys for equal (L8)
            found = database.query_each(awaits, over.waits)
            own = [id for id, text in found if text in waits]
            rows = database.query_each(f"{sql} AND check_id IN ?", own, *place)
        return [id for id, *to in rows if tuple(to) == place]

    def _signals_gone(self, ids: Sequence[int]) -> Iterator[Statement]:
        """Remove signals that their consumer has passed for good; others become no-ops.

        It stores how far it is now and then, and fills what is missing behind that.
        """
        sql = "SELECT last_event_id FROM replay_cursors WHERE id = ?"
        rows = self.log.database.query(sql, (SEEN,))
        seen = checked_cursor(SEEN, rows[0][0]) if rows else 0
        passed = [id for id in ids if id < seen]
        yield from for_each("DELETE FROM replay_signals WHERE id IN ?", passed)
        columns = ("namespace", "workflow", "run", "hash", "type", "external_id", "message")
        assigned = ", ".join(f"{column} = ?" for column in (*columns, "check_id"))
        for id in ids:
            if id >= seen:
                sql = f"UPDATE replay_signals SET {assigned} WHERE id = ?"
                yield Statement(sql, (*noop(id), id))

    def forget(self, name: str) -> int:
        """Remove a consumer's cursor and what it has parked.  Returns how far behind it was.

        That is the number of ids between its cursor and the newest event.
        """
        if name.startswith("replay_"):
            raise InvalidName(f"{name} belongs to the library: it comes back with the next client")
        sql = "SELECT last_event_id, owner, lease_until FROM replay_cursors WHERE id = ?"
        if not (rows := self.log.database.query(sql, (name,))):
            raise UnknownConsumer(f"{self.log.name} has no consumer {name!r:.300}")
        cursor, owner, lease = checked_cursor(name, rows[0][0]), rows[0][1], rows[0][2]
        gone = Statement(
            "DELETE FROM replay_cursors WHERE id = ? AND last_event_id = ? AND owner = ?",
            (name, cursor, owner),
            must_find=1,
        )
        alive = StillServed(f"{name} is owned by {owner}: stop it, or wait until {lease} UTC")
        if owner and lease is not None and to_text(self.log.now()) < str(lease):
            raise alive
        try:
            parked = Statement("DELETE FROM replay_parked WHERE consumer = ?", (name,))
            self.log.database.write([TAKE_TURN, gone, parked])
        except NotFound:
            raise alive from None
        return max(0, self.log.newest() - cursor)


def beside(over: Over) -> Iterator[Statement]:
    """Yield what else goes in the transaction that removes an iteration: rows of other tables."""
    for table in ("replay_sleeps", "replay_signal_awaits"):
        yield from for_each(f"DELETE FROM {table} WHERE `key` IN ?", over.waits)


class _Look:
    """One search for iterations that may go: looks at each completed event by itself."""

    def __init__(self, log: Log, policy: Policy, bound: int) -> None:
        self.over: list[Over] = []
        self.size = 0  # the events of those
        self.bound = bound
        self._log = log
        self._policy = policy
        self._last_of: dict[tuple[str, ...], tuple[int, int]] = {}

    def consider(self, row: Row) -> None:
        """Take the iteration of this completed event, if it may go."""
        _, text, timestamp, message = row
        try:
            key, moment = Key.parse(text), from_text(timestamp)
        except (TypeError, ValueError):
            return  # a reader of the log says so (L3)
        if key.target or (is_pruned(message) and not self._policy.forget):
            return
        found = self._left(key, message) if is_pruned(message) else self._over(key, moment)
        if found is not None:
            self.over.append(found)
            self.size += len(found.gone) + len(found.emptied)

    def _over(self, key: Key, moment: datetime) -> Over | None:
        begun, ended = self._iterations(key)
        last = key.iteration == begun
        if key.iteration > begun or not self._is_old(key, begun, ended) or self._keeps(key, last):
            return None
        rows = self._events(key)
        ids = {row[0] for row in rows}
        ends = {row[0] for row in rows if row[1] in (1, 2)}
        if len(ends) < 2 or max(ids) > self.bound or self._is_open(rows) or self._is_parked(key):
            return None
        stay = ends if not key.iteration else self._first(key) if last else set()
        gone, emptied = (ids | stay, set()) if last and self._policy.forget else (ids - stay, stay)
        mark = pruned_mark((moment - _EPOCH) // timedelta(milliseconds=1) if last else 0)
        waits = [text for _, type, text in rows if type == 4 and Key.parse(text).target in _WAITS]
        return Over(key, sorted(gone), sorted(emptied), mark, waits, last)

    def _left(self, key: Key, message: bytes) -> Over | None:
        """The mark of a run that was pruned before, if it is to be forgotten now."""
        try:
            mark = read(message)
        except MessageError:
            return None
        ended = _EPOCH + timedelta(milliseconds=mark.ended_ms)
        ids = self._first(key)
        if (
            not mark.ended_ms
            or ended > self._policy.before
            or self._iterations(key) != (0, 0)
            or max(ids) > self.bound
        ):
            return None
        return Over(key, sorted(ids), [], b"", [], last=True)

    def _iterations(self, key: Key) -> tuple[int, int]:
        """The newest iteration of its run, and the newest that has ended."""
        if (run := key[:3]) not in self._last_of:
            self._last_of[run] = self._log.last_iteration(*run)
        return self._last_of[run]

    def _is_old(self, key: Key, begun: int, ended: int) -> bool:
        """Whether its age is enough.  That of a run that has ended counts from its end."""
        if begun != ended or key.iteration == ended:
            return True
        end = self._log.find(EventType.RUN_COMPLETED, key._replace(iteration=ended))
        return end is not None and end.timestamp <= self._policy.before

    def _keeps(self, key: Key, last: bool) -> bool:
        """Whether the last iteration has to stay, because one before it does.

        Otherwise that one would look like the last, and its end like the end of the run.
        """
        if not last or not key.iteration:
            return False
        sql = (
            f"SELECT iteration, message FROM replay_events WHERE type = 2 AND {_PLACE}"
            " AND iteration < ? LIMIT ?"
        )
        rows = self._log.database.query(sql, (*key[:4], BATCH))
        going = {each.key for each in self.over}
        return any(
            not (iteration == 0 and is_pruned(message))
            and key._replace(iteration=iteration) not in going
            for iteration, message in rows
        )

    def _events(self, key: Key) -> list[Row]:
        sql = (
            "SELECT id, type, `key` FROM replay_events WHERE type IN (1, 2, 3, 4, 5)"
            f" AND {_PLACE} AND iteration = ?"
        )
        # A table that another system made may take different names for equal (L8).
        own = str(key)
        rows = self._log.database.query(sql, key[:4])
        return [row for row in rows if row[2] == own or str(row[2]).startswith(f"{own}/")]

    def _first(self, key: Key) -> set[int]:
        """The created and the completed event of iteration 0."""
        text = str(key._replace(iteration=0))
        sql = "SELECT id, `key` FROM replay_events WHERE type IN (1, 2) AND `key` = ?"
        return {id for id, found in self._log.database.query(sql, (text,)) if found == text}

    def _is_parked(self, key: Key) -> bool:
        """Whether a consumer has parked the iteration, or a request of it."""
        sql = "SELECT 1 FROM replay_parked WHERE `key` = ? OR (`key` > ? AND `key` < ?) LIMIT 1"
        # 0 is the character behind the slash.
        return bool(self._log.database.query(sql, (str(key), f"{key}/", f"{key}0")))

    def _is_open(self, rows: Sequence[Row]) -> bool:
        """Whether a request still waits.  An await that its iteration has left open does not."""
        answered = {text for _, type, text in rows if type == 5}
        open = [text for _, type, text in rows if type == 4 and text not in answered]
        if any(Key.parse(text).target != SIGNAL for text in open):
            return True
        sql = "SELECT 1 FROM replay_signal_awaits WHERE status = 1 AND `key` IN ?"
        return any(self._log.database.query_each(sql, open))


_WAITS = (SLEEP, SIGNAL)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
