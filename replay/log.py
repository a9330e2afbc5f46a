"""The append-only log: it adds events and reads them without skipping any.

Role: `Log` adds events, reads them, and keeps the cursors of consumers.

Invariants:

- An event is unique by type and key, and never changed or removed (L1, L2).
- Missing ids up to the *floor* are final: retention has removed their events (L9).
- Nobody reads past any other gap in the ids (L1).  Transactions do not commit in the order of
  their ids, so an event with a missing id may still come, or may never come.  The reader finds out
  by inserting a no-op with that id: the database makes the insert wait for a transaction that holds
  the id.
  Waiting "long enough" would be simpler, and wrong on the day that the machine is slow.
- One transaction moves a cursor and adds what follows from the events that it passes (L6).

A cursor's row also names its owner.  `commit` moves a cursor only if the caller still owns it and
it stands where the caller last saw it.  So a process that has lost its ownership is fenced (L7).

Left to `replay.consumer`: the loop that reads, decides what to add, and commits.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from operator import attrgetter
from typing import Any

from google.protobuf.message import Message

from .storage.codec import Codec, Sealer
from .storage.database import (
    TAKE_TURN,
    Database,
    DatabaseError,
    Duplicate,
    Error,
    IdTaken,
    Insert,
    NotFound,
    Row,
    Statement,
    Step,
    Unavailable,
    chunks,
    entered,
    firsts,
    for_each,
    from_text,
    placeholders,
    to_text,
)
from .storage.event import (
    UNKNOWN,
    Event,
    EventType,
    InvalidName,
    Key,
    MissingMessage,
    Unreadable,
    pack,
    read_event,
)
from .storage.group import MOST_ROWS, Group, Look, Member
from .storage.news import News
from .storage.tail import BATCH, BYTES, Tail, fitting
from .storage.values import ANY, Carrier, Checked


class LostOwnership(Error):
    """Another process owns this consumer now, or its cursor was reset.  Nothing was stored (L7)."""


class EventsPruned(Error):
    """Retention has removed what you ask for, or what comes next in your stream (L9)."""


class EmbeddedOnly(Error, ValueError):
    """This needs the log's own database, and the client is one of a server."""


class NameCollision(Error):
    """A table that another system made takes two different names for equal (L8)."""


def first_gap(after: int, ids: Sequence[int]) -> range | None:
    """Return the first ids that are missing among ascending `ids`; None if none is.

    `ids` without a gap begin at `after` + 1.
    """
    if not ids or ids[-1] - after == len(ids):
        return None
    for n in ids:
        if n != after + 1:
            return range(after + 1, n)
        after = n
    return None


def gap_above(floor: int, after: int, ids: Sequence[int]) -> range | None:
    """Return the first gap behind `after` as `first_gap` does, of ids above the floor (L9)."""
    if not floor or not ids or ids[-1] - after == len(ids):
        return first_gap(after, ids)
    return first_gap(max(after, floor), [id for id in ids if id > floor])


@dataclass(slots=True)
class Parked:
    """An event that a consumer could not handle, and will try again at `next_at`."""

    event_id: int
    key: str
    attempts: int
    next_at: datetime
    error: str


def checked_cursor(name: str, cursor: object) -> int:
    """Return a stored cursor.  Raises `DatabaseError` if it is no id, because it was changed."""
    if not isinstance(cursor, int) or cursor < 0:
        raise DatabaseError(
            f"the cursor of {name} in replay_cursors is {cursor!r:.300}: set last_event_id to 0,"
            " or to the id up to which it is done"
        )
    return cursor


def has_ended(lease: Any, now: datetime) -> bool:
    """Return whether a lease is over.  One that nobody can read is: the owner fences a commit."""
    try:
        return lease is None or from_text(lease) <= now
    except (TypeError, ValueError):
        return True


@dataclass(slots=True)
class Attempts:
    """The attempts that ended in one step of a consumer, for its metrics (Q5)."""

    #: The seconds that each attempt at an activity took.
    seconds: Sequence[float] = ()
    failed: int = 0
    #: How many were further attempts, after one that failed.
    retried: int = 0


@dataclass(slots=True)
class Move:
    """The rest of a commit: the move of a cursor, parked rows, and a consumer's own rows."""

    consumer: str
    old: int
    new: int
    parked: Sequence[Parked] = ()
    unparked: Sequence[int] = ()
    also: Sequence[Statement] = ()
    #: By the key of an event: statements that are stored only if this commit adds the event (V5).
    steps: Mapping[str, Sequence[Step]] = field(default_factory=dict)
    #: Not stored: a server measures them.
    attempts: Attempts = field(default_factory=Attempts)

    def only_passes(self) -> bool:
        """Whether it stores nothing but that a consumer has passed a thousand events (L5)."""
        return self.new - self.old >= BATCH and not (self.parked or self.unparked or self.also)


_CONVERT = "for this table: convert replay_events to the collation utf8mb4_bin"
_COLUMNS = "`key`, namespace, workflow, run, iteration, type, timestamp, message"
_KNOWN = "SELECT `key` FROM replay_events WHERE type = ? AND `key` IN ?"
_SELECT = "SELECT id, type, `key`, timestamp, message FROM replay_events"
#: A message of at most this many bytes comes with its row: so a thousand rows have 8 MiB at most.
SMALL = BYTES // BATCH
#: The columns of a message: itself if it is small, and its size in bytes.
MESSAGE = f"CASE WHEN LENGTH(message) <= {SMALL} THEN message END, LENGTH(message)"
_PAGE = f"SELECT id, type, `key`, timestamp, {MESSAGE} FROM replay_events"
_FIRST, _FEW = 128, 16  # rows that are asked for at first, and after large ones
_HISTORY = 300  # events of a history whose messages come with it if they are small
_IDS = 500  # events that are read by their ids at a time
_size = attrgetter("size")
_NEAR = 1000  # events that are looked through sooner than the database is asked for one
#: The most that one event may add, in bytes: one transaction and one call must be able to hold it.
LARGEST_STEP = 64 * 1024 * 1024
#: The same in events: others wait for the transaction.
LONGEST_STEP = 5000


class Pace:
    """How many rows to ask for: twice as many as were taken last.

    To say how large a message is, InnoDB reads it.  A thousand rows of 4 MiB would take 20 s.
    """

    def __init__(self) -> None:
        self._rows = _FIRST

    def ask(self, limit: int = BATCH) -> int:
        """Return how many rows to ask for.  If the query fails, the next one begins with few."""
        rows, self._rows = min(limit, self._rows), _FEW
        return rows

    def took(self, count: int) -> None:
        """Take into account that this many rows could be used."""
        self._rows = min(BATCH, max(_FEW, 2 * count))


class Unread(Event):
    """An event whose message is still in the log: see `Log.load`."""


class Log:
    """The log of one database, as one process sees it.  Safe to use from any thread."""

    #: Whether there is a `database` here, and not at a server.
    embedded = True

    def __init__(self, database: Database, codec: Codec | None = None) -> None:
        self.database = database
        self.group = Group(database)
        self.sealer = Sealer(codec) if codec is not None else None
        self.tail = Tail(self._end())
        token = secrets.token_hex(4)
        # Written into the cursors that this process owns.  The lock's domain stands in front, and
        # nothing if a cursor is owned by lease alone.
        self._process = f"|{socket.gethostname()[:64]}:{os.getpid()}:{token}"
        self.news = News(database, self._process[1:], self.tail.hear)
        self._owners: dict[str, str] = {}
        self._polling = threading.RLock()
        self._losses = 0
        self._pace = Pace()
        self._carrier = Carrier()
        self._renew_at = database.monotonic()

    def _end(self) -> int:
        """The id up to which the log has no gap just now."""
        floor = self.database.floor()
        newest = self.database.newest()[0]
        start = max(min(floor, newest), newest - BATCH, 0)
        rows = self.database.query(
            "SELECT id FROM replay_events WHERE id > ? ORDER BY id", (start,)
        )
        gap = first_gap(start, [row[0] for row in rows])
        return newest if gap is None else gap.start - 1

    @property
    def name(self) -> str:
        """The database's name in messages and errors."""
        return self.database.name

    @property
    def process(self) -> str:
        """This process, as owners name it, with an empty domain."""
        return self._process

    @property
    def max_message(self) -> int:
        """The largest message, in bytes (N3)."""
        return self.database.max_message

    @property
    def require_message(self) -> Sequence[str]:
        """The namespaces in which every event and signal has a message (N3)."""
        return self.database.require_message

    @property
    def losses(self) -> int:
        """How many connections were lost so far."""
        return self.database.losses

    def now(self) -> datetime:
        """The time by the log's clock, in UTC, cut to milliseconds."""
        return self.database.now()

    def newest(self) -> int:
        """The largest id of an event, also beyond a gap."""
        return self.database.newest()[0]

    def require_embedded(self, what: str) -> None:
        """Raise `EmbeddedOnly` if `what` cannot be done through a server."""
        if not self.embedded:
            raise EmbeddedOnly(
                f"{what} needs the log's own database, but {self.name} is a server: connect to the"
                " database"
            )

    def refuse_reentry(self) -> None:
        """Raise `Reentered` if the calling thread is inside this log already.

        Before a call that stores or waits: to fail later would be too late.
        """
        for lock in self._entries():
            entered(lock)

    def _entries(self) -> Sequence[threading.RLock]:
        """The locks that a thread holds while it is inside."""
        return self.tail.lock, self._polling, self.group.inside(), self.database.inside()

    def close(self) -> None:
        """Wake everybody who waits here, and close the database."""
        self.tail.close()
        self.news.close()
        self.database.close()

    def refresh(self) -> int:
        """Forget the tail if a connection was lost since the last call; return `losses`.

        Callers must forget what they read before a loss, too.  A server that comes back may have
        lost its last transactions, and may give their ids to other events (L1).
        """
        if self.losses == self._losses:
            return self._losses
        with self._polling:  # what a poll reads just now may be lost, too
            if (losses := self.losses) != self._losses:
                self.tail.reset(self._end())
                self._losses = losses
            return losses

    def event(self, type: EventType, key: Key, message: Any = None, text: str = "") -> Event:
        """Make an event to add; `text` is the key if it is known as text.

        Raises `InvalidName` if the key is too long, or `MessageError`.
        """
        if len(text := text or str(key)) > 512:
            raise InvalidName(f"the key {text[:100]}… has {len(text)} characters, at most 512 fit")
        ends = type is EventType.RUN_COMPLETED
        raw = None if ends else self.pack(key.namespace, message, text, text)
        event = Event(0, type, key, UNKNOWN, raw, text, self.sealer)
        if isinstance(message, Checked) and self.sealer is None:
            self._carrier.load(event, message)
        return event

    def pack(self, namespace: str, value: Any, what: str, key: str) -> bytes | None:
        """Encode the message of an event or signal; the codec gets `key`.

        Raises `MessageError` (N3, J3).
        """
        message = value if isinstance(value, Message) else ANY.message(value, what)
        if message is None:
            self.check_none(namespace, what)
        if self.sealer is not None:
            return self.sealer.pack(message, self.max_message, what, key)
        return pack(message, self.max_message, what)

    def sealed(self, event: Event) -> Event:
        """Have an event decode its message with the codec, if there is one.  Returns it (J4)."""
        event.seal = self.sealer
        return event

    def check_none(self, namespace: str, what: str) -> None:
        """Refuse to store `what` without a message where a Go worker may read it (N3).

        Raises `MissingMessage`.
        """
        if namespace in self.require_message:
            raise MissingMessage(
                f"{what} has no message, but {self.name} requires one in namespace {namespace}:"
                " pass a message"
            )

    # Adding.

    def append(self, event: Event) -> bool:
        """Add one event, and return whether it is new (L2).

        Where a refused insert uses up an id, it looks first.
        """
        return self._commit([event], None, look=True)[0]

    def append_all(self, events: Sequence[Event]) -> list[bool]:
        """Add those of these events, all of one type, that are new.  Returns which were (L2).

        They are one transaction, so they must be few and small enough for one.
        """
        known = self.among(events[0].type, [event.key for event in events])
        new = firsts((event.text for event in events), known)
        fresh = [event for event, is_new in zip(events, new, strict=True) if is_new]
        stored = iter(self.commit(fresh) if fresh else ())
        return [is_new and next(stored) for is_new in new]

    def commit(self, events: Sequence[Event], move: Move | None = None) -> list[bool]:
        """Add events and move a consumer's cursor, in one transaction (L6).

        It may share that with other commits of this process (L10).  Returns for each event whether
        it was added; False means that it is a duplicate.  Raises `LostOwnership` if this process no
        longer owns the cursor, or if it is not at ``move.old``; `StatementFailed` if the database
        refuses one of ``move.steps``.  Nothing is stored then.
        """
        return self._commit(events, move)

    def store(self, member: Member) -> bool:
        """Commit one transaction as `Group.commit` does, and tell other processes of it (L12)."""
        stored = self.group.commit(member)
        if stored and member.rows:
            self.news.tell()
        return stored

    def _commit(self, events: Sequence[Event], move: Move | None, look: bool = False) -> list[bool]:
        now = self.database.now()
        moment = to_text(now)
        rows = [_row(event, moment) for event in events]
        moved = self._moved(move, now) if move is not None else []
        stored = [True] * len(rows)
        size = sum(map(_size, events))
        known = Look(_KNOWN, rows[0][0], (rows[0][5],)) if look else None

        def publish(ids: list[int]) -> None:
            self._publish(events, stored, ids, now)

        while True:
            fresh = [row for row, new in zip(rows, stored, strict=True) if new]
            if not fresh and move is None:
                return stored
            insert = Insert("replay_events", _COLUMNS, fresh) if fresh else None
            steps = [step for row in fresh for step in move.steps.get(row[0], ())] if move else []
            member = Member([*moved, *steps], insert, size, publish, known)
            member.patient = not fresh and move is not None and move.only_passes()
            # A step may wait for a lock (V5).  On a server, a consumer's commits stay on its own
            # connection, where its lock is, and the server groups them itself.  It carries out a
            # large commit beside others, which would wait for their group here.
            own = move is not None or member.count() > MOST_ROWS  # no group has so many
            member.alone = bool(steps) or (own and not self.database.one_writer)
            try:
                return stored if self.store(member) else [False]
            except Duplicate:
                before, stored = stored, self._new(rows)
                if stored == before and move is not None and move.also:
                    raise  # a row of the consumer's own
                if stored == before:
                    raise NameCollision(f"two of the new keys are equal {_CONVERT}") from None
            except IdTaken:
                pass  # a reader has fenced an id between our getting it and our using it
            except NotFound:
                raise LostOwnership(
                    f"consumer {move and move.consumer} is owned by another process, or was reset"
                ) from None

    def _publish(
        self, events: Sequence[Event], stored: list[bool], ids: list[int], now: datetime
    ) -> None:
        added = [event for event, new in zip(events, stored, strict=True) if new]
        for event, id in zip(added, ids, strict=False):
            event.id = id
            event.timestamp = now
        if added:
            self.tail.join(added if ids else [])

    def _moved(self, move: Move, now: datetime) -> list[Statement]:
        """The first statement is the fence: if this process is not the owner, nothing follows."""
        lease = to_text(now + self.database.lease)
        where = (move.consumer, self._owners.get(move.consumer), move.old)
        statements = [
            Statement(
                "UPDATE replay_cursors SET last_event_id = ?, updated_at = ?, lease_until = ?"
                " WHERE id = ? AND owner = ? AND last_event_id = ?",
                (move.new, to_text(now), lease, *where),
                must_find=1,
            )
        ]
        gone = [*move.unparked, *(parked.event_id for parked in move.parked)]
        delete = "DELETE FROM replay_parked WHERE consumer = ? AND event_id IN ?"
        statements += for_each(delete, gone, move.consumer)
        rows = [
            (move.consumer, p.event_id, p.key, p.attempts, to_text(p.next_at), p.error)
            for p in move.parked
        ]
        columns = "consumer, event_id, `key`, attempts, next_at, error"
        statements += self.database.insert_missing("replay_parked", columns, rows)
        return [*statements, *move.also]

    def _new(self, rows: list[Row]) -> list[bool]:
        """For each row, whether it is neither in the log nor earlier among the rows."""
        wanted: dict[int, set[str]] = {}
        for row in rows:
            wanted.setdefault(row[5], set()).add(row[0])
        known = {
            (type, key) for type, keys in wanted.items() for key in self._existing(type, [*keys])
        }
        for type, key in known:
            if key not in wanted[type]:
                raise NameCollision(f"the log's {key!r} and a new key are equal {_CONVERT}")
        return firsts(((row[5], row[0]) for row in rows), known)

    def _existing(self, type: int, keys: Sequence[str]) -> Iterator[str]:
        for row in self.database.query_each(_KNOWN, keys, type):
            yield row[0]

    # Reading.

    def exists(self, type: EventType, key: Key) -> bool:
        """Return whether the log has this event."""
        return bool(self.among(type, [key]))

    def among(self, type: EventType, keys: Sequence[Key]) -> set[str]:
        """Return those of `keys` that the log has an event of this type for."""
        names = {str(key) for key in keys}
        return names & set(self._existing(type, list(names)))

    def answered(self, requests: Sequence[Event], known_up_to: int) -> set[Key]:
        """Return those requests that have a response (A4).

        `known_up_to` is the newest id at the time when the caller became the owner of its cursor.
        Every response to a later request is newer too, so the tail has it if it has the request.
        """
        keys = {event.key for event in requests}
        later = None
        # A consumer that is far behind would look through the same events with each step.
        far = _NEAR + 20 * len(keys)
        if requests and requests[0].id > max(known_up_to, self.tail.end - far):
            later = self.tail.since(requests[0].id)
        if later is None:
            responses = self.among(EventType.ACTIVITY_RESPONSE, list(keys))
            return {key for key in keys if str(key) in responses}
        return {event.key for event in later if event.type is EventType.ACTIVITY_RESPONSE} & keys

    def get(self, id: int) -> Event | None:
        """Return the event with this id; None if there is none, or a no-op."""
        rows = self.database.query(f"{_SELECT} WHERE id = ?", (id,))
        event = self._event(rows[0]) if rows else None
        return event if event is not None and event.type is not EventType.NOOP else None

    def find(self, type: EventType, key: Key) -> Event | None:
        """Return the event of this type and key; None if there is none."""
        rows = self.database.query(f"{_SELECT} WHERE type = ? AND `key` = ?", (type, str(key)))
        found = (self._event(row) for row in rows)
        return next((event for event in found if event.key == key and event.type is type), None)

    def begun(self, runs: Sequence[Key]) -> set[Key]:
        """Return those of one workflow's iterations that have added events, or have ended."""
        found = set()
        for some in chunks(runs):
            workflow = some[0][:2]
            names = {key.run for key in some}
            iterations = {key.iteration for key in some}
            rows = self.database.query(
                "SELECT DISTINCT run, iteration FROM replay_events WHERE type IN (2, 3, 4)"
                f" AND namespace = ? AND workflow = ? AND run IN ({placeholders(len(names))})"
                f" AND iteration IN ({placeholders(len(iterations))})",
                (*workflow, *names, *iterations),
            )
            found |= {Key(*workflow, run, iteration) for run, iteration in rows}
        return found

    def history(self, key: Key) -> list[Event]:
        """Return all events of one iteration, in order; requests and outputs without message.

        The first responses come with their messages if these are small.  The other responses, and
        a large input, are `Unread`.
        """
        where = (
            "FROM replay_events WHERE type IN (1, 2, 3, 4, 5) AND namespace = ? AND workflow = ?"
            # Plus 0, or MySQL may read the whole table in the order of its ids.
            " AND run = ? AND iteration = ? AND id + 0 > ? ORDER BY id + 0"
        )
        first = f"CASE WHEN type IN (1, 5) AND LENGTH(message) <= {SMALL} THEN message END"
        large = f"type IN (1, 5) AND LENGTH(message) > {SMALL}"
        rows = self.database.query(
            f"SELECT id, type, `key`, timestamp, {first}, {large} {where} LIMIT {_HISTORY}",
            (*key[:4], 0),
        )
        if len(rows) == _HISTORY:
            rest = f"SELECT id, type, `key`, timestamp, NULL, type IN (1, 5) {where}"
            rows = [*rows, *self.database.query(rest, (*key[:4], rows[-1][0]))]
        events = [unread(self._event(row[:5])) if row[5] else self._event(row[:5]) for row in rows]
        return [event for event in events if event.key[:4] == key[:4]]

    def load(self, events: Iterable[Event]) -> Iterator[Event]:
        """Yield these events of a history, each with its message.  Reads up to 8 MiB ahead."""
        waiting = deque(events)
        found: dict[int, Event] = {}
        while waiting:
            if isinstance(waiting[0], Unread) and waiting[0].id not in found:
                unread = (event.id for event in waiting if isinstance(event, Unread))
                read = self.with_ids(list(islice(unread, self._pace.ask(_IDS))))
                self._pace.took(len(read))
                found = {event.id: event for event in read}
                if waiting[0].id not in found:
                    raise Unavailable(f"{self.name} has lost event {waiting[0].id}")
            event = waiting.popleft()
            yield found.pop(event.id, event)

    def with_ids(self, ids: Sequence[int]) -> list[Event]:
        """Return the first of the events with these ids, in order, up to 8 MiB and at least one."""
        if not ids:
            return []
        sql = f"{_PAGE} WHERE id IN ({placeholders(len(ids))}) ORDER BY id"
        return self._events(self.database.query(sql, ids))

    def last_iteration(self, namespace: str, workflow: str, run: str) -> tuple[int, int]:
        """Return a run's newest iteration and its newest ended iteration; -1 for none."""
        query = (
            "SELECT iteration FROM replay_events"
            " WHERE type = ? AND namespace = ? AND workflow = ? AND run = ?"
            " AND iteration BETWEEN 0 AND 2147483647"  # SQLite would also store text there
            # Some collations take different names for equal (L8).
            " AND HEX(namespace) = ? AND HEX(workflow) = ? AND HEX(run) = ?"
            " ORDER BY iteration DESC LIMIT 1"
        )
        names = (namespace, workflow, run)
        exact = [name.encode().hex().upper() for name in names]
        newest = [
            self.database.query(query, (type, *names, *exact))
            for type in (EventType.RUN_COMPLETED, EventType.RUN_CREATED)
        ]
        ended, begun = (rows[0][0] if rows else -1 for rows in newest)
        return begun, ended

    def read(self, after: int, limit: int = BATCH) -> list[Event]:
        """Return the next events after id `after`, no-ops included, up to the first gap (L1).

        They are at most `limit`, and at most 8 MiB unless the first one alone is larger.  Of ids up
        to the floor it returns those that are left (L9).
        """
        events = self.tail.slice(after, limit)
        return self._read(after, limit) if events is None else events

    def _read(self, after: int, limit: int) -> list[Event]:
        sql, floor = f"{_PAGE} WHERE id > ? ORDER BY id LIMIT ?", 0
        while True:
            rows = self.database.query(sql, (after, self._pace.ask(limit)))
            gap = gap_above(floor, after, [row[0] for row in rows])
            if gap is None:
                return self._events(rows)
            if ready := [row for row in rows if row[0] < gap.start]:
                return self._events(ready)
            # Above the old floor what is missing may have come before the floor rose: look again.
            before, floor = floor, self.floor()
            if floor <= before and not self._fence(gap[:BATCH]):
                return []

    def floor(self) -> int:
        """Return the id up to which missing ids are final: their events were pruned (L9).

        Forgets what the tail has of those.  Read it before each fence, and keep no copy: another
        process may prune at any time, and a backup that is restored has an older floor.
        """
        floor = self.database.floor()
        self.tail.drop(floor)
        return floor

    def check_read(self, after: int, floor: int, events: Sequence[Event]) -> None:
        """Raise `EventsPruned` if events above `floor` were pruned before `events` were read.

        These were read after the id `after`, by a reader that has begun with this floor.
        """
        if events and events[-1].id - after > len(events):
            gap = gap_above(floor, after, [event.id for event in events])
            if gap is not None:
                raise pruned(self, max(after, floor))

    def _events(self, rows: Sequence[Row]) -> list[Event]:
        """Make events of the first of these rows, up to 8 MiB and at least one."""
        rows = rows[: fitting((row[5] or 0) + len(str(row[2])) for row in rows)]
        self._pace.took(len(rows))
        ids = [row[0] for row in rows if (row[5] or 0) > SMALL]
        large = messages(self.database, "replay_events", ids)
        return [self._event((*row[:4], large.get(row[0], row[4]))) for row in rows]

    def _event(self, row: Row) -> Event:
        try:
            return self.sealed(read_event(row))
        except Unreadable as error:
            # Only another program can have written it.  One such row must not stop the log (L3).
            self.database.pass_over("replay_events", row[0], error)
            return Event(row[0], EventType.NOOP, Key("", "", ""), UNKNOWN, None)

    def _fence(self, ids: range) -> bool:
        """Fill a gap with no-ops; return whether reading on is worthwhile."""
        now = to_text(self.database.now())
        rows = [(n, f"replay_noop/{n}", "", "", None, 0, 0, now, None) for n in ids]
        return self.database.fence("replay_events", "id, " + _COLUMNS, rows)

    def poll(self, grace: float = 0) -> bool:
        """Read what other processes have added, and renew this process's leases in time.

        Returns whether there was anything.  A commit of this process is in the database a moment
        before it is in the tail, so the poll waits `grace` seconds to save reading it back.
        """
        with self._polling:
            self.refresh()
            self._renew()
            if self.tail.is_poller():
                self.news.announce()
            newest, signals, inbox = self.database.newest()
            if newest > self.tail.end:
                time.sleep(grace)
            before = self.tail.end
            while newest > self.tail.end and (found := self._read(self.tail.end, BATCH)):
                self.tail.extend(found)
                self._renew()  # much to read must cost no lease
                if self.tail.closed:
                    break
            self.tail.saw_inbox(inbox)
            return self.tail.saw_signals(signals) or newest > before

    # Cursors.

    def claim(self, name: str, wait: float, *, create: bool = True) -> int | None:
        """Become the owner of a consumer's cursor, and return it; None while another owns it (L7).

        Waits up to `wait` seconds for the owner to stop or die.  The owner's lock ends with it.
        Where the lock says nothing (another node of a cluster, a half-open connection), the owner
        counts as dead when its lease has run out.  Without `create`, a cursor that is missing stays
        missing, and nobody owns it.
        """
        domain, cursor = self.database.lock(name, wait), None
        try:
            cursor = self._claim(name, domain, create)
        finally:
            if cursor is None and domain:
                self.database.unlock(name)
        if cursor is None and domain:
            time.sleep(min(wait, 0.5))
        return cursor

    def _claim(self, name: str, domain: str, create: bool) -> int | None:
        query = "SELECT last_event_id, owner, lease_until FROM replay_cursors WHERE id = ?"
        now = self.database.now()
        if not (rows := self.database.query(query, (name,))):
            if not create:
                return None
            columns, row = "id, last_event_id, updated_at", (name, 0, to_text(now))
            insert = self.database.insert_missing("replay_cursors", columns, [row])
            self.database.write([TAKE_TURN, *insert])
            rows = self.database.query(query, (name,))
        cursor, owner, lease = checked_cursor(name, rows[0][0]), str(rows[0][1] or ""), rows[0][2]
        expired = has_ended(lease, now)
        dead = domain != "" and owner.partition("|")[0] == domain
        # Ours also if the outcome of an earlier claim was unknown.
        ours = owner == "" or owner.endswith(self._process)
        if not (ours or expired or dead):
            return None
        mine = domain + self._process
        # An owner that only was late may renew its lease just now, and then keeps the name.
        late = [] if ours or dead or lease is None else [lease]
        same = " AND lease_until = ?" * len(late)
        take = Statement(
            "UPDATE replay_cursors SET owner = ?, lease_until = ?, updated_at = ?"
            f" WHERE id = ? AND owner = ? AND last_event_id = ?{same}",
            (mine, to_text(now + self.database.lease), to_text(now), name, owner, cursor, *late),
            must_find=1,
        )
        try:
            self.database.write([TAKE_TURN, take])
        except NotFound:  # another process was faster
            return None
        self.floor()  # what was pruned behind this cursor must not come from the tail
        self._owners[name] = mine
        return cursor

    def release(self, name: str, old: int, new: int) -> None:
        """Move the cursor to `new` and stop being its owner, so that others take over at once."""
        now = to_text(self.database.now())
        give = Statement(
            "UPDATE replay_cursors SET owner = '', lease_until = NULL, last_event_id = ?,"
            " updated_at = ? WHERE id = ? AND owner = ? AND last_event_id = ?",
            (new, now, name, self._owners.get(name), old),
        )
        try:
            self.database.write([give])
        finally:  # else nobody takes over while this process lives
            self.disown(name)
            self.unlock(name)

    def disown(self, name: str) -> None:
        """Stop renewing the lease of a cursor."""
        self._owners.pop(name, None)

    def unlock(self, name: str) -> None:
        """Give the lock back, so that others can take over."""
        with contextlib.suppress(Unavailable):  # the lock ended with the connection
            self.database.unlock(name)

    def leave(self) -> None:
        """Release what belongs to the calling thread, which will not use the log again."""
        self.database.release()

    def _renew(self) -> None:
        """Renew all leases, four times in the length of one, by one statement for 500 names.

        It names the cursors: others with the same owner text may be ours by a claim whose outcome
        is unknown, and nobody could ever claim those.
        """
        if (seconds := self.database.monotonic()) < self._renew_at:
            return
        lease = self.database.lease
        self._renew_at = seconds + lease.total_seconds() / 4
        until = to_text(self.database.now() + lease)
        for some in chunks(list(self._owners.copy().items())):
            names, owners = [name for name, _ in some], {owner for _, owner in some}
            sql = (
                "UPDATE replay_cursors SET lease_until = ?"
                f" WHERE id IN ({placeholders(len(names))})"
                f" AND owner IN ({placeholders(len(owners))})"
            )
            self.database.write([Statement(sql, (until, *names, *owners))])

    def served(self, consumer: str, *, ever: bool = False) -> bool:
        """Return whether a live process owns this consumer, or a shard of it; or `ever` did."""
        shards = f"{consumer}/"[:190]  # a longer name of a shard is shortened
        alive = "" if ever else " AND lease_until > ?"
        rows = self.database.query(
            f"SELECT 1 FROM replay_cursors WHERE (id = ? OR SUBSTR(id, 1, ?) = ?){alive} LIMIT 1",
            (consumer, len(shards), shards, *(() if ever else (to_text(self.database.now()),))),
        )
        return bool(rows)

    def parked(self, consumer: str) -> Iterator[Parked]:
        """Yield what a consumer has parked, by event id."""
        after = 0
        while some := self.parked_after(consumer, after):
            yield from some
            after = some[-1].event_id

    def parked_after(self, consumer: str, after: int) -> list[Parked]:
        """Return up to 1,000 events that a consumer has parked, with ids above `after`."""
        rows = self.database.query(
            "SELECT event_id, `key`, attempts, next_at, error FROM replay_parked"
            " WHERE consumer = ? AND event_id > ? ORDER BY event_id LIMIT ?",
            (consumer, after, BATCH),
        )
        found = (self._parked(consumer, row) for row in rows)
        return [parked for parked in found if parked is not None]

    def due_parked(self, consumer: str, after: int = 0) -> list[int]:
        """Return ids above `after` of up to 1,000 parked events whose next attempt is due."""
        rows = self.database.query(
            "SELECT event_id FROM replay_parked"
            " WHERE consumer = ? AND event_id > ? AND next_at <= ? ORDER BY event_id LIMIT ?",
            (consumer, after, to_text(self.database.now()), BATCH),
        )
        return [row[0] for row in rows]

    def retry(self, consumer: str, ids: Sequence[int]) -> int:
        """Make those of these events that the consumer has parked due at once; return how many.

        Requests that are executed just now are none of them.  Only the time changes, and only to
        an earlier one.  So whatever the owner commits meanwhile stays right (Q2).
        """
        count, now = 0, to_text(self.database.now())
        for some in chunks(ids):
            where = (
                f"consumer = ? AND event_id IN ({placeholders(len(some))})"
                " AND NOT (attempts = 0 AND error = 'running')"
            )
            found = self.database.query(
                f"SELECT COUNT(*) FROM replay_parked WHERE {where}", (consumer, *some)
            )
            update = f"UPDATE replay_parked SET next_at = ? WHERE {where} AND next_at > ?"
            self.database.write([Statement(update, (now, consumer, *some, now))])
            count += found[0][0]
        return count

    def parked_namespaces(self, consumer: str, ids: Sequence[int]) -> dict[int, str]:
        """Return the namespace of each of these events that the consumer has parked."""
        sql = "SELECT event_id, `key` FROM replay_parked WHERE consumer = ? AND event_id IN ?"
        rows = self.database.query_each(sql, ids, consumer)
        return {event_id: str(key).partition("/")[0] for event_id, key in rows}

    def _parked(self, consumer: str, row: Row) -> Parked | None:
        event_id, key, attempts, next_at, error = row
        try:
            Key.parse(str(key))
            return Parked(event_id, key, int(attempts), from_text(next_at), str(error))
        except (TypeError, ValueError) as problem:
            self.database.pass_over("replay_parked", f"{event_id} of {consumer}", problem)
            return None


def pruned(log: Log, after: int) -> EventsPruned:
    """The error of a stream that cannot go on behind the id `after`."""
    return EventsPruned(
        f"events of {log.name} after id {after} were pruned: a stream with after=0 begins with what"
        " is left"
    )


def messages(database: Database, table: str, ids: Sequence[int]) -> dict[int, bytes]:
    """Read the messages that did not come with their rows, of events or of signals."""
    return dict(database.query_each(f"SELECT id, message FROM {table} WHERE id IN ?", ids))


def _row(event: Event, now: str) -> Row:
    key = event.key
    return (
        event.text,
        key.namespace,
        key.workflow,
        key.run,
        key.iteration,
        int(event.type),
        now,
        event.raw,
    )


def unread(event: Event) -> Unread:
    """Return an event without its message, for `Log.load` to read."""
    return Unread(event.id, event.type, event.key, event.timestamp, None, event.text)
