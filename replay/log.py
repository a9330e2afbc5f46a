"""The append-only log: what an event is, and how events are added and read.

Role: `Key` names a place in a run, `Event` is what happened there, `Log` adds and reads them.
`Tail` holds the newest events of this process in memory, once, for all its readers.

Invariants:

- An event is unique by (type, key) and never changed or removed (L1, L2).
- Nobody reads past a hole in the ids.  Transactions may commit in another order than that of
  their ids, so a missing id is either on its way or will never come.  The reader finds out by
  *taking* the id for a no-op: the database makes it wait for a transaction that holds the id.
  Waiting "long enough" instead would be simpler, and wrong on the day the machine is slow.
- Moving a cursor and adding what follows from the events it passed is one transaction (L6).

A cursor's row also says who owns the name.  `commit` moves the cursor only if it stands where the
caller last saw it and still belongs to the caller: who lost the place cannot write (L7).

Left to `consumer`: the loop that reads, decides what to add, and commits.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from functools import lru_cache
from typing import Any, NamedTuple

from google.protobuf import any_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

from .database import (
    Database,
    DatabaseError,
    Duplicate,
    Error,
    IdTaken,
    Row,
    Transaction,
    Unavailable,
    from_text,
    marks,
    portions,
    to_text,
)

log = logging.getLogger("replay")

BATCH = 1000  # events read at a time
_TAIL_EVENTS = 10_000
_TAIL_BYTES = 32 * 1024 * 1024
_PAUSE_MIN, _PAUSE_MAX = 0.001, 0.03  # seconds between two looks for other processes' events


class InvalidName(Error, ValueError):
    """A name that the log does not take (N2)."""


class MessageError(Error):
    """A message that cannot be stored, or a stored one that cannot be read (N3)."""


class NotAMessage(MessageError, TypeError):
    """Something that is neither a protobuf message nor None."""


class MessageTooLarge(MessageError, ValueError):
    """A message of more bytes than the limit."""


class UnknownMessageType(MessageError):
    """A stored message of a type that this process has not imported."""


class LostPlace(Error):
    """Somebody else owns this consumer's name now; nothing of this commit was stored."""


class NameCollision(Error):
    """A table made by another system takes two different names for one."""


class EventType(IntEnum):
    """What happened (L3).  The numbers are stored."""

    NOOP = 0
    RUN_CREATED = 1
    RUN_COMPLETED = 2
    RUN_OUTPUT = 3
    ACTIVITY_REQUEST = 4
    ACTIVITY_RESPONSE = 5


_TYPES = tuple(EventType)


@lru_cache(maxsize=10_000)
def check_name(what: str, name: str) -> str:
    """`name`, if it may be stored as the name of a `what`; else raises `InvalidName` (N2)."""
    if not isinstance(name, str):
        raise InvalidName(f"{what} is {name!r}: expected a string")
    if not name:
        problem = "is empty"
    elif len(name) > 255:
        problem = f"has {len(name)} characters, at most 255 are allowed"
    elif "/" in name or any(unicodedata.category(c) in ("Cc", "Cs") for c in name):
        problem = "holds a slash, a control character or half a surrogate pair"
    elif name != name.strip() or name in (".", ".."):
        problem = "starts or ends with white space, or is . or .."
    else:
        return name
    raise InvalidName(f"{what} {name[:300]!r} {problem}: choose another name")


def check_target(what: str, name: str) -> str:
    """As `check_name`, for activities and outputs: names of the library's own are refused too."""
    if isinstance(name, str) and name.startswith("replay_"):
        raise InvalidName(f"{what} {name!r} begins with replay_, which is reserved: rename it")
    return check_name(what, name)


class Key(NamedTuple):
    """The place of an event: a run's iteration and, for some types, a target in it.

    `target` is the name of the activity or output, `sequence` the count of its uses so far in this
    iteration (A5); both are empty for the beginning and the end of an iteration.
    """

    namespace: str
    workflow: str
    run: str
    iteration: int = 0
    target: str = ""
    sequence: str = ""

    def __str__(self) -> str:
        start = f"{self.namespace}/{self.workflow}/{self.run}/{self.iteration}"
        return f"{start}/{self.target}/{self.sequence}" if self.target else start

    @classmethod
    def parse(cls, text: str) -> Key:
        """The key that `str` wrote.  Raises `InvalidName` for anything else."""
        parts = text.split("/")
        if len(parts) in (4, 6) and parts[3].isdecimal():
            return cls(parts[0], parts[1], parts[2], int(parts[3]), *parts[4:])
        if len(parts) == 2:  # a no-op: replay_noop/id
            return cls("", "", "", 0, parts[0], parts[1])
        raise InvalidName(f"{text!r} is not the key of an event")

    def iteration_key(self) -> Key:
        """The key of the iteration that this is a place in."""
        return self if not self.target else Key(*self[:4])


class Event:
    """Something that happened.  `id` is 0 until it is stored."""

    __slots__ = ("id", "key", "raw", "timestamp", "type")

    def __init__(
        self, id: int, type: EventType, key: Key, timestamp: datetime, raw: bytes | None
    ) -> None:
        self.id = id
        self.type = type
        self.key = key
        self.timestamp = timestamp
        self.raw = raw

    @property
    def message(self) -> Any:
        """The message, decoded anew each time; None where there is none.

        Raises `UnknownMessageType` or `MessageError`.
        """
        return unpack(self.raw)

    def __repr__(self) -> str:
        return f"<Event {self.id} {self.type.name} {self.key}>"


def pack(message: Message | None, limit: int, what: object) -> bytes | None:
    """A message as stored: the bytes of a `google.protobuf.Any`.

    Raises `NotAMessage` or `MessageTooLarge`, naming `what` it was for.
    """
    if message is None:
        return None
    if not isinstance(message, Message):
        raise NotAMessage(
            f"{what}: {type(message).__name__} is not a protobuf message: pass a message, or None"
        )
    url = "type.googleapis.com/" + message.DESCRIPTOR.full_name
    raw = any_pb2.Any(type_url=url, value=message.SerializeToString()).SerializeToString()
    if len(raw) > limit:
        raise MessageTooLarge(
            f"{what}: the {message.DESCRIPTOR.name} has {len(raw)} bytes, the limit is {limit}:"
            " store large data elsewhere and pass a reference, or raise max_message in the URL"
        )
    return raw


def unpack(raw: bytes | None) -> Any:
    """The message that `pack` stored; None for none."""
    if not raw:
        return None
    try:
        wrapped = any_pb2.Any.FromString(raw)
        if not wrapped.type_url:
            return None
        return message_class(wrapped.type_url).FromString(wrapped.value)
    except DecodeError as error:
        raise MessageError(f"a stored message is damaged: {error}") from error


@lru_cache(maxsize=1000)
def message_class(type_url: str) -> Any:
    """The class of a type URL.  Raises `UnknownMessageType`."""
    name = type_url.rpartition("/")[2]
    try:
        return message_factory.GetMessageClass(
            descriptor_pool.Default().FindMessageTypeByName(name)
        )
    except KeyError:
        raise UnknownMessageType(
            f"this process knows no message type {name}: import the module that defines it"
        ) from None


def first_hole(after: int, ids: Sequence[int]) -> range | None:
    """The first ids that are missing among ascending `ids`, which should begin at `after` + 1."""
    if not ids or ids[-1] - after == len(ids):
        return None
    for n in ids:
        if n != after + 1:
            return range(after + 1, n)
        after = n
    return None


@dataclass(slots=True)
class Parked:
    """An event that a consumer has set aside, to be tried again at `next_at`."""

    event_id: int
    key: str
    attempts: int
    next_at: datetime
    error: str


@dataclass(slots=True)
class Move:
    """A consumer's cursor moved, and what belongs to that: rows set aside, rows of its own."""

    consumer: str
    old: int
    new: int
    parked: Sequence[Parked] = ()
    unparked: Sequence[int] = ()
    also: Callable[[Transaction], None] | None = None


_COLUMNS = "`key`, namespace, workflow, run, iteration, type, timestamp, message"
_SELECT = "SELECT id, type, `key`, timestamp, message FROM replay_events"


class Log:
    """The log in one database, as one process sees it.  Safe to use from any thread."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.tail = Tail(database.newest()[0])
        token = secrets.token_hex(4)
        #: Who owns a cursor: this value of this process.
        self.owner = f"{database.domain}|{socket.gethostname()[:64]}:{os.getpid()}:{token}"
        self._polling = threading.Lock()
        self._renew_at = time.monotonic()

    def event(self, type: EventType, key: Key, message: Message | None = None) -> Event:
        """An event to be added.  Raises `InvalidName` for a key of over 512 characters, `MessageError`."""
        if len(text := str(key)) > 512:
            raise InvalidName(f"the key {text[:100]}… has {len(text)} characters, at most 512 fit")
        raw = pack(message, self.database.max_message, f"{type.name} {text}")
        return Event(0, type, key, _UNKNOWN, raw)

    # Adding.

    def append(self, event: Event) -> bool:
        """Add one event unless it is there; whether it was added (L2).  Asks first: no id is burnt."""
        if self.exists(event.type, event.key):
            return False
        return self.commit([event])[0]

    def commit(self, events: Sequence[Event], move: Move | None = None) -> list[bool]:
        """Add events and move a consumer's cursor, in one transaction (L6).

        For each event whether it was added: False is a duplicate.  Raises `LostPlace` if the cursor
        is not where `move` says or not ours any more; nothing is stored then.
        """
        now = self.database.now()
        rows = [_row(event, to_text(now)) for event in events]
        ask = False
        while True:
            try:
                stored, ids = self.database.transact(
                    lambda tx, ask=ask: self._commit(tx, rows, move, now, ask)  # type: ignore[misc]
                )
                break
            except Duplicate:
                ask = True
            except IdTaken:  # a reader fenced an id between our getting it and our using it
                pass
        added = [event for event, new in zip(events, stored, strict=True) if new]
        for event in events:
            event.timestamp = now
        for event, id in zip(added, ids, strict=False):
            event.id = id
        if added:
            self.tail.join(added if ids else [])
        return stored

    def _commit(
        self, tx: Transaction, rows: list[Row], move: Move | None, now: datetime, ask: bool
    ) -> tuple[list[bool], list[int]]:
        if move is not None:
            self._move(tx, move, now)
        stored = self._new(tx, rows) if ask else [True] * len(rows)
        fresh = [row for row, new in zip(rows, stored, strict=True) if new]
        ids = tx.insert("replay_events", _COLUMNS, fresh) if fresh else []
        return stored, ids

    def _move(self, tx: Transaction, move: Move, now: datetime) -> None:
        """The fence: the first statement, so that who lost the place does nothing at all."""
        found = tx.execute(
            "UPDATE replay_cursors SET last_event_id = ?, updated_at = ?, lease_until = ?"
            " WHERE id = ? AND owner = ? AND last_event_id = ?",
            (move.new, to_text(now), to_text(now + self.database.lease), move.consumer, self.owner,
             move.old),
        )
        if found != 1:
            raise LostPlace(f"consumer {move.consumer} is owned by another process, or was reset")
        for parked in move.parked:
            where = (move.consumer, parked.event_id)
            tx.execute("DELETE FROM replay_parked WHERE consumer = ? AND event_id = ?", where)
            tx.execute(
                "INSERT INTO replay_parked (consumer, event_id, `key`, attempts, next_at, error)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (*where, parked.key, parked.attempts, to_text(parked.next_at), parked.error),
            )
        for event_id in move.unparked:
            where = (move.consumer, event_id)
            tx.execute("DELETE FROM replay_parked WHERE consumer = ? AND event_id = ?", where)
        if move.also is not None:
            move.also(tx)

    def _new(self, tx: Transaction, rows: list[Row]) -> list[bool]:
        """For each row whether it is not in the log yet, nor earlier among the rows."""
        wanted: dict[int, list[str]] = {}
        for row in rows:
            wanted.setdefault(row[5], []).append(row[0])
        known = {
            (type, key)
            for type, keys in wanted.items()
            for key in self._existing(tx.query, type, keys)
        }
        for type, key in known:
            if key not in wanted[type]:
                raise NameCollision(
                    f"the log has {key!r}, which this table takes for the same as a new key: convert"
                    " replay_events to the collation utf8mb4_bin"
                )
        new = []
        for row in rows:
            new.append((row[5], row[0]) not in known)
            known.add((row[5], row[0]))
        return new

    @staticmethod
    def _existing(
        query: Callable[[str, Sequence[Any]], Sequence[Row]], type: int, keys: Sequence[str]
    ) -> Iterator[str]:
        for some in portions(keys):
            sql = f"SELECT `key` FROM replay_events WHERE type = ? AND `key` IN ({marks(len(some))})"
            for row in query(sql, (type, *some)):
                yield row[0]

    # Reading.

    def exists(self, type: EventType, key: Key) -> bool:
        """Whether the log has this event."""
        return bool(self.among(type, [key]))

    def among(self, type: EventType, keys: Sequence[Key]) -> set[str]:
        """Those of `keys` of which the log has an event of this type."""
        found = set(self._existing(self.database.query, type, [str(key) for key in keys]))
        return found & {str(key) for key in keys}

    def get(self, id: int) -> Event | None:
        """One event."""
        rows = self.database.query(f"{_SELECT} WHERE id = ?", (id,))
        return _event(rows[0]) if rows else None

    def history(self, key: Key) -> list[Event]:
        """All events of one iteration, in order; requests and outputs come without their message."""
        rows = self.database.query(
            "SELECT id, type, `key`, timestamp, CASE WHEN type IN (1, 5) THEN message END"
            " FROM replay_events WHERE type IN (1, 2, 3, 4, 5) AND namespace = ? AND workflow = ?"
            " AND run = ? AND iteration = ? ORDER BY id",
            key[:4],
        )
        events = [_event(row) for row in rows]
        return [event for event in events if event.key[:4] == key[:4]]

    def last_iteration(self, namespace: str, workflow: str, run: str) -> tuple[int, int]:
        """The newest iteration that began and the newest that ended; -1 for none."""
        newest = [
            self.database.query(
                "SELECT COALESCE(MAX(iteration), -1) FROM replay_events"
                " WHERE type = ? AND namespace = ? AND workflow = ? AND run = ?",
                (type, namespace, workflow, run),
            )[0][0]
            for type in (EventType.RUN_COMPLETED, EventType.RUN_CREATED)
        ]
        return newest[1], newest[0]

    def read(self, after: int, limit: int = BATCH) -> list[Event]:
        """The next events behind id `after`, no-ops included, up to the first hole (L1)."""
        events = self.tail.slice(after, limit)
        return self._read(after, limit) if events is None else events

    def _read(self, after: int, limit: int) -> list[Event]:
        while True:
            rows = self.database.query(f"{_SELECT} WHERE id > ? ORDER BY id LIMIT ?", (after, limit))
            hole = first_hole(after, [row[0] for row in rows])
            if hole is None:
                return [_event(row) for row in rows]
            if hole.start > after + 1:
                return [_event(row) for row in rows[: hole.start - after - 1]]
            if not self._fence(hole[:BATCH]):
                return []

    def _fence(self, ids: range) -> bool:
        """Take ids that nobody has; whether reading on is worth while."""
        now = to_text(self.database.now())
        rows = [(n, f"replay_noop/{n}", "", "", None, 0, 0, now, None) for n in ids]
        self.database.fence("replay_events", "id, " + _COLUMNS, rows)
        return bool(self.database.query("SELECT 1 FROM replay_events WHERE id = ?", (ids.start,)))

    def poll(self) -> bool:
        """Look for what other processes have added, and renew this process's leases in time.

        Whether there was anything.
        """
        with self._polling:
            self._renew()
            newest, signals = self.database.newest()
            before = self.tail.end
            while newest > self.tail.end and (found := self._read(self.tail.end, BATCH)):
                self.tail.extend(found)
            return self.tail.saw_signals(signals) or newest > before

    # Cursors.

    def claim(self, name: str, wait: float) -> int | None:
        """Become the owner of a consumer's name; its cursor, or None while another owns it (L7).

        Waits up to `wait` seconds for the owner's death.  That is known by the lock that dies with
        it; where the lock says nothing (another node of a cluster, a connection half open), by its
        lease.
        """
        locked = self.database.lock(name, wait)
        cursor = self._claim(name, locked)
        if cursor is None and locked:
            self.database.unlock(name)
            time.sleep(min(wait, 0.5))
        return cursor

    def _claim(self, name: str, locked: bool) -> int | None:
        query = "SELECT last_event_id, owner, lease_until FROM replay_cursors WHERE id = ?"
        now = self.database.now()
        if not (rows := self.database.query(query, (name,))):
            self.database.transact(
                lambda tx: tx.execute(
                    "INSERT INTO replay_cursors (id, last_event_id, updated_at) VALUES (?, 0, ?)"
                    + self.database.skip_duplicates,
                    (name, to_text(now)),
                )
            )
            rows = self.database.query(query, (name,))
        cursor, owner, lease = rows[0]
        expired = lease is None or from_text(lease) <= now
        same_domain = owner.partition("|")[0] == self.database.domain
        if not (owner in ("", self.owner) or expired or (locked and same_domain)):
            return None
        found = self.database.transact(
            lambda tx: tx.execute(
                "UPDATE replay_cursors SET owner = ?, lease_until = ?, updated_at = ?"
                " WHERE id = ? AND owner = ? AND last_event_id = ?",
                (self.owner, to_text(now + self.database.lease), to_text(now), name, owner, cursor),
            )
        )
        return int(cursor) if found == 1 else None

    def release(self, name: str, old: int, new: int) -> None:
        """Give a name up, with the cursor moved on, so that others take over at once."""
        now = to_text(self.database.now())
        self.database.transact(
            lambda tx: tx.execute(
                "UPDATE replay_cursors SET owner = '', lease_until = NULL, last_event_id = ?,"
                " updated_at = ? WHERE id = ? AND owner = ? AND last_event_id = ?",
                (new, now, name, self.owner, old),
            )
        )
        self.database.unlock(name)

    def _renew(self) -> None:
        """Say four times a lease, in one statement for all names, that this process lives."""
        if time.monotonic() < self._renew_at:
            return
        lease = self.database.lease
        self._renew_at = time.monotonic() + lease.total_seconds() / 4
        self.database.transact(
            lambda tx: tx.execute(
                "UPDATE replay_cursors SET lease_until = ? WHERE owner = ?",
                (to_text(self.database.now() + lease), self.owner),
            )
        )

    def parked(self, consumer: str) -> list[Parked]:
        """What a consumer has set aside."""
        rows = self.database.query(
            "SELECT event_id, `key`, attempts, next_at, error FROM replay_parked"
            " WHERE consumer = ? ORDER BY event_id",
            (consumer,),
        )
        return [Parked(n, key, tries, from_text(at), why) for n, key, tries, at, why in rows]


_UNKNOWN = datetime.max.replace(tzinfo=UTC)


def _row(event: Event, now: str) -> Row:
    key = event.key
    return (str(key), key.namespace, key.workflow, key.run, key.iteration, int(event.type), now,
            event.raw)


def _event(row: Row) -> Event:
    try:
        return Event(row[0], _TYPES[row[1]], Key.parse(row[2]), from_text(row[3]), row[4])
    except (InvalidName, IndexError) as error:
        # Only another program can have written it.  One such row must not stop the whole log.
        log.warning("event %d is unreadable and passed over: %s", row[0], error)
        return Event(row[0], EventType.NOOP, Key("", "", ""), from_text(row[3]), None)


class Waiter:
    """Somebody who waits for events: what he wants, and how far he has read."""

    __slots__ = ("condition", "position", "wants", "woken")

    def __init__(self, tail: Tail, wants: Callable[[Event], bool] | None) -> None:
        self.condition = threading.Condition(tail.lock)
        self.wants = wants
        self.position = 0
        self.woken = False


class Tail:
    """The newest events, without a hole, in memory: decoded once for all readers of this process.

    The events that this process commits are put in directly when their ids join on to the end;
    `Log.poll` reads what others commit.  Those who wait are woken when there is something for them,
    or when they are about to fall out of the tail: not for each event, since with many consumers
    that would cost more than the work itself.
    """

    def __init__(self, end: int) -> None:
        self.lock = threading.Lock()
        self.end = end
        self.signals = 0
        self._events: list[Event] = []
        self._bytes = 0
        self._apart: dict[int, list[Event]] = {}  # own events whose predecessors are not here yet
        self._waiters: set[Waiter] = set()
        self._poller: threading.Thread | None = None
        self._poke = threading.Event()
        self._closed = False

    def slice(self, after: int, limit: int) -> list[Event] | None:
        """Up to `limit` events behind id `after`; None if the tail begins later than that."""
        with self.lock:
            skip = len(self._events) - (self.end - after)
            return self._events[skip : skip + limit] if skip >= 0 else None

    def join(self, events: list[Event]) -> None:
        """Put in what this process has just committed; have the rest polled for soon."""
        with self.lock:
            if events and events[0].id > self.end:
                if events[-1].id - events[0].id == len(events) - 1:
                    self._apart[events[0].id] = events
                while (next := self._apart.pop(self.end + 1, None)) is not None:
                    self._put(next)
            if not events or self._apart or events[-1].id > self.end:
                self._poke.set()

    def extend(self, events: Iterable[Event]) -> None:
        """Put in what was read behind the end."""
        with self.lock:
            self._put([event for event in events if event.id > self.end])
            for first in [first for first in self._apart if first <= self.end]:
                del self._apart[first]

    def _put(self, events: list[Event]) -> None:
        if not events:
            return
        self._events += events
        self.end = events[-1].id
        self._bytes += sum(len(event.raw) for event in events if event.raw)
        if len(self._events) > 2 * _TAIL_EVENTS or self._bytes > _TAIL_BYTES:
            self._events = self._events[len(self._events) // 2 :]
            self._bytes = sum(len(event.raw) for event in self._events if event.raw)
        for waiter in self._waiters:
            if not waiter.woken and self._concerns(waiter, events):
                waiter.woken = True
                waiter.condition.notify()

    def _concerns(self, waiter: Waiter, events: Iterable[Event]) -> bool:
        if waiter.wants is None or self.end - waiter.position >= BATCH:
            return True
        return any(map(waiter.wants, events))

    def saw_signals(self, newest: int) -> bool:
        """The newest signal's id, as polled; whether it is new: then everybody is woken."""
        with self.lock:
            changed, self.signals = newest > self.signals, max(newest, self.signals)
        if changed:
            self.wake_all()
        return changed

    def wake_all(self) -> None:
        """Have everybody look."""
        with self.lock:
            for waiter in self._waiters:
                self._wake(waiter)

    def wake(self, waiter: Waiter) -> None:
        """Have one look."""
        with self.lock:
            self._wake(waiter)

    @staticmethod
    def _wake(waiter: Waiter) -> None:
        waiter.woken = True
        waiter.condition.notify()

    def wait(self, waiter: Waiter, position: int, timeout: float | None) -> None:
        """Wait for something behind `position` that the waiter wants, at most `timeout` seconds.

        What came between the waiter's last look and this call counts: no wake-up is lost (P1).
        """
        with self.lock:
            waiter.position = position
            self._waiters.add(waiter)
            unseen = len(self._events) - (self.end - position)
            if unseen < 0:  # it reads the database, and met a hole there: it has to look again
                timeout = _PAUSE_MAX
            elif self._concerns(waiter, self._events[unseen:]):
                waiter.woken = True
            if not waiter.woken and not self._closed:
                waiter.condition.wait(timeout)
            waiter.woken = False

    def leave(self, waiter: Waiter) -> None:
        """The waiter will not wait again."""
        with self.lock:
            self._waiters.discard(waiter)

    def keep_polling(self, poll: Callable[[], bool]) -> None:
        """Have a thread call `poll` from now on, often while others write, seldom while they do not."""
        with self.lock:
            if self._poller is None and not self._closed:
                self._poller = threading.Thread(
                    target=self._poll_loop, args=(poll,), name="replay-poll", daemon=True
                )
                self._poller.start()

    def _poll_loop(self, poll: Callable[[], bool]) -> None:
        pause = _PAUSE_MIN
        while not self._closed:
            if self._poke.wait(pause):
                self._poke.clear()
                time.sleep(_PAUSE_MIN)  # an earlier commit of this process is probably on its way
            try:
                pause = _PAUSE_MIN if poll() else min(pause * 1.5, _PAUSE_MAX)
            except Unavailable:
                pause = min(max(pause, _PAUSE_MAX) * 2, 5.0)
            except Exception:
                pause = 5.0
                log.exception("reading the log failed, trying again in %.0f s", pause)

    def close(self) -> None:
        """Stop polling and let everybody go."""
        with self.lock:
            self._closed = True
        self._poke.set()
        self.wake_all()
        if self._poller is not None:
            self._poller.join()
