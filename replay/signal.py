"""Signals: messages sent to a run, and the awaits that take them.

Role: `send` stores a signal.  `Matcher` stores a row for each request of the reserved activity
``replay_signal``.  It responds with the first signal of the type, or with "no signal" after the
timeout.  Signals are rows of their own table: only a match makes an event.

Invariants (S1 to S4):

- One await at most takes a signal, and an await has one response.  The response, the await's status
  and the signal's mark are one transaction: a crash finds all three changed, or none.
- Signals of a type are taken in the order of their ids.
- Every signal up to the id `_seen` has been compared with every stored await.  A new await looks up
  the signals that are there; a new signal looks up the awaits that are there.

The ids of signals have gaps, as those of events do.  The matcher waits for a signal that commits
late; it never overlooks one.

An await takes a signal that was sent before its timeout, and leaves a later one to the next await
(P19).  How late this consumer is makes no difference.

Left to `replay.client`: the names under which users call this.
"""

from __future__ import annotations

import contextlib
import hashlib
import heapq
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum
from itertools import islice
from typing import Any, NamedTuple

from .consumer import Batch, Consumer, Metrics
from .log import MESSAGE, SMALL, Log, Pace, Parked, checked_cursor, first_gap, messages
from .server.proto.replaypb_pb2 import SleepDone
from .sleep import Timers, read_timer, requested_duration
from .storage.codec import SIGNAL
from .storage.database import (
    Duplicate,
    Error,
    IdTaken,
    Insert,
    Row,
    Statement,
    chunks,
    firsts,
    from_text,
    later,
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
    check_run,
    read_message,
)
from .storage.group import Look, Member
from .storage.tail import BATCH, BYTES, fitting

TARGET = SIGNAL
PENDING, TIMED_OUT, SUCCESS = 1, 2, 3
COLUMNS = "namespace, workflow, run, hash, type, external_id, message, created_at"
_SENT = f"id, namespace, workflow, run, type, {MESSAGE}, created_at"
_SIZE = 6  # the column of those that has a message's size
#: A row of replay_cursors that is no consumer: the id up to which signals are compared with awaits.
SEEN = "replay_signal/seen"
_KNOWN = "SELECT hash FROM replay_signals WHERE namespace = ? AND hash IN ?"
_RANGES = 50  # iterations whose awaits one query finds
Run = tuple[str, str, str]


class InvalidSignal(Error, ValueError):
    """A signal type or an external id that cannot be stored."""


class Signal(NamedTuple):
    """A checked signal that is to be stored."""

    run: Run
    type: int
    raw: bytes | None
    external_id: str
    mark: bytes

    def row(self, now: datetime) -> Row:
        """The columns of `COLUMNS`."""
        return (*self.run, self.mark, self.type, self.external_id, self.raw, to_text(now))


def check_signal(signal: int) -> int:
    """Return a signal's type as it is stored.  Raises `InvalidSignal`."""
    if not isinstance(signal, int) or isinstance(signal, bool):
        raise InvalidSignal(f"signal {signal!r}: expected an int or an IntEnum")
    if not -128 <= signal <= 127:
        raise InvalidSignal(f"signal {signal!r}: types are numbers from -128 to 127")
    return int(signal)


def signal_hash(namespace: str, workflow: str, run: str, type: int, external_id: str) -> bytes:
    """Hash what makes a signal unique (S1).

    Each part stands behind its length, so that two different signals never hash the same bytes.
    """
    digest = hashlib.sha256()
    for part in (namespace, workflow, run, type.to_bytes(4, "big", signed=True), external_id):
        raw = part.encode() if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(4, "big") + raw)
    return digest.digest().ljust(128, b"\0")


def noop(id: int) -> Row:
    """The columns of a row that is no signal, from the namespace to the message, and its await."""
    name = f"replay_noop/{id}"
    return "", "", "", signal_hash("", "", "", 0, name), 0, name, None, 0


def send(
    events: Log,
    run: Run,
    signal: int | IntEnum,
    message: Any,
    external_id: str,
) -> bool:
    """Store a signal.  Returns False if the run has one of this type and external id (S1).

    Raises `InvalidName`, `InvalidSignal`, `MessageError`.
    """
    return store(events, prepared(events, run, signal, message, external_id))


def prepared(
    events: Log, run: Run, signal: int | IntEnum, message: Any, external_id: str
) -> Signal:
    """Check and encode a signal.  Raises as `send` does."""
    type, mark = checked(run, signal, message, external_id)
    return Signal(run, type, packed(events, run, type, message), external_id, mark)


def packed(events: Log, run: Run, type: int, message: Any) -> bytes | None:
    """Encode the message of a signal.  Its response will have the same bytes, under another key."""
    return events.pack(run[0], message, named(run, type), "/".join(run))


def named(run: Run, type: int) -> str:
    """Name a signal in an error."""
    return f"signal {type} to {'/'.join(run)}"


def checked(run: Run, signal: int | IntEnum, message: Any, external_id: str) -> tuple[int, bytes]:
    """Check a signal, and return its type and hash.  Raises `InvalidName` or `InvalidSignal`."""
    check_run(*run)
    type = check_signal(signal)
    if not isinstance(external_id, str) or len(external_id) > 255 or "\0" in external_id:
        raise InvalidSignal(f"external id {external_id!r:.300}: expected up to 255 characters")
    if isinstance(message, SleepDone):
        raise InvalidSignal(
            "a replaypb.SleepDone would look like a timeout: send another type of message"
        )
    try:
        return type, signal_hash(*run, type, external_id)
    except UnicodeEncodeError as error:
        raise InvalidSignal(f"external id {external_id!r:.300}: {error}") from error


def store(events: Log, signal: Signal) -> bool:
    """Store a checked signal.  Returns False if it is there already."""
    while True:
        with contextlib.suppress(Duplicate, IdTaken):
            return _store(events, [signal], Look(_KNOWN, signal.mark, (signal.run[0],)))


def store_all(events: Log, sent: Sequence[Signal]) -> list[bool]:
    """Store those of these signals that are new, in one transaction.  Returns which were (S1)."""
    while True:
        known = known_marks(events, ((each.run[0], each.mark) for each in sent))
        new = firsts((each.mark for each in sent), known)
        fresh = [each for each, is_new in zip(sent, new, strict=True) if is_new]
        with contextlib.suppress(Duplicate, IdTaken):
            if fresh:
                _store(events, fresh)
            return new


def known_marks(events: Log, marks: Iterable[tuple[str, bytes]]) -> set[bytes]:
    """Return those hashes, each given with its namespace, whose signals are stored (S1)."""
    of: dict[str, list[bytes]] = defaultdict(list)
    for namespace, mark in marks:
        of[namespace].append(mark)
    return {
        mark
        for namespace, some in of.items()
        for (mark,) in events.database.query_each(_KNOWN, some, namespace)
    }


def _store(events: Log, sent: Sequence[Signal], look: Look | None = None) -> bool:
    """Store signals, unless the look finds the only one."""

    def publish(ids: list[int]) -> None:
        if ids:
            events.tail.saw_signals(ids[-1])
        else:
            events.tail.join([])

    now = events.database.now()
    insert = Insert("replay_signals", COLUMNS, [each.row(now) for each in sent])
    size = sum(len(each.raw or b"") for each in sent)
    return events.store(Member((), insert, size, publish, look))


@dataclass(slots=True)
class _Await:
    key: Key
    created_at: datetime
    timeout_at: datetime
    event_id: int = 0  # of its request; 0 if its row is stored

    @property
    def type(self) -> int:
        return signal_type(self.key)


def _iteration(text: str) -> str:
    """The key of an await without its sequence."""
    return text[: text.rfind("/") + 1]


def signal_type(key: Key) -> int:
    """Read the signal type from the key of an await, whose sequence is TYPE:COUNT."""
    try:
        return check_signal(int(key.sequence.partition(":")[0]))
    except ValueError as error:
        raise InvalidName(f"{key} does not name a signal type: {error}") from error


class _Sent(NamedTuple):
    """A signal that no await has taken yet."""

    id: int
    run: Run
    type: int
    created_at: datetime
    raw: bytes | None  # None also if it is large
    size: int | None


@dataclass(slots=True)
class _Step:
    """The result of one step: new awaits, awaits that end, and signals that they take."""

    begun: dict[str, _Await] = field(default_factory=dict)
    ended: list[tuple[int, str]] = field(default_factory=list)  # status, await's key
    taken: list[tuple[str, int]] = field(default_factory=list)  # await's key, signal's id
    withdrawn: set[str] = field(default_factory=set)  # keys of awaits whose iteration has ended
    freed: dict[Run, list[_Sent]] = field(default_factory=dict)  # what such awaits had taken


class Matcher(Consumer):
    """Answers the awaits of all namespaces with signals."""

    interest = Interest(
        frozenset({(EventType.ACTIVITY_REQUEST, "", TARGET), (EventType.RUN_COMPLETED, "", "")})
    )

    def __init__(self, events: Log, *, metrics: Metrics | None = None) -> None:
        super().__init__(events, TARGET, metrics=metrics)
        self._waiter.signals = True
        self._timers = Timers(self._load)
        self._seen = 0
        self._stored_seen = 0
        self._pace = Pace()
        self._blocked = False  # by a gap in the ids of signals
        self._behind = False  # whether there may be signals that were not compared yet
        self._current = _Step()

    def wants(self, event: Event) -> bool:
        """As in `Consumer`."""
        if event.type is EventType.ACTIVITY_REQUEST:
            return event.key.target == TARGET
        return event.type is EventType.RUN_COMPLETED

    def claimed(self) -> None:
        """As in `Consumer`."""
        query = "SELECT last_event_id FROM replay_cursors WHERE id = ?"
        rows = self._log.database.query(query, (SEEN,))
        self._seen = self._stored_seen = checked_cursor(SEEN, rows[0][0]) if rows else 0
        self._timers.reload()

    def forget(self) -> None:
        """As in `Consumer`."""
        self._current = _Step()

    def due(self) -> datetime | None:
        """As in `Consumer`."""
        if self._behind or self._seen < self._log.tail.signals:
            return self._log.database.now() + timedelta(milliseconds=30 if self._blocked else 0)
        return self._timers.next()

    def _load(self, limit: int) -> list[tuple[datetime, str] | None]:
        rows = self._log.database.query(
            "SELECT timeout_at, `key` FROM replay_signal_awaits WHERE status = 1"
            " ORDER BY timeout_at, `key` LIMIT ?",
            (limit,),
        )
        return [read_timer(self._log, "replay_signal_awaits", TARGET, row) for row in rows]

    def handle(self, events: Sequence[Event], batch: Batch) -> None:
        """As in `Consumer`."""
        ended = {e.key[:4]: e.id for e in events if e.type is EventType.RUN_COMPLETED}
        requests = [event for event in events if event.type is EventType.ACTIVITY_REQUEST]
        known = self.answered(requests)
        for event in requests:
            # An iteration leaves nothing open when it ends.
            if event.key not in known and event.id > ended.get(event.key[:4], 0):
                self._begin(event, 1, batch)
        step, self._current = self._current, _Step()
        self._withdraw(ended, step)
        self._answer(step, batch)
        self._store(step, batch)

    def retry(self, parked: Parked, batch: Batch) -> None:
        """As in `Consumer`."""
        event = self._log.get(parked.event_id)
        if event is not None and self._begin(event, parked.attempts + 1, batch):
            batch.unparked.append(parked.event_id)

    def _begin(self, event: Event, attempt: int, batch: Batch) -> bool:
        try:
            timeout_at = later(event.timestamp, requested_duration(event))
            signal_type(event.key)
        except (MessageError, InvalidName) as error:
            self.park(batch, event.id, event.key, attempt, error)
            return False
        self._current.begun[event.text] = _Await(event.key, event.timestamp, timeout_at, event.id)
        self._timers.add(timeout_at, event.text)
        return True

    def _withdraw(self, ended: dict[tuple[str, str, str, int], int], step: _Step) -> None:
        """End the awaits that iterations have left open, and free the signals that came too late.

        An await that is left open must take no signal from the next iteration (E8).  `ended` has
        the ids of the completed events.  A response with a larger id has reached nobody.
        """
        # A table that another system made may ignore case (L8).
        after = {f"{Key(*key)}/{TARGET}/": id for key, id in ended.items()}
        taken: dict[str, int] = {}
        for some in chunks(list(after), _RANGES):
            # 0 is the character behind the slash.
            ranges = [end for start in some for end in (start, start[:-1] + "0")]
            where = " OR ".join(["(`key` > ? AND `key` < ?)"] * len(some))
            sql = f"SELECT id, `key`, status FROM replay_signal_awaits WHERE {where}"
            for id, text, status in self._log.database.query(sql, ranges):
                if status == PENDING and _iteration(text) in after:
                    step.withdrawn.add(text)
                    step.ended.append((TIMED_OUT, text))
                elif status == SUCCESS and _iteration(text) in after:
                    taken[text] = id
        self._free_late(taken, after, step)

    def _free_late(self, taken: dict[str, int], after: dict[str, int], step: _Step) -> None:
        sql = "SELECT `key`, id FROM replay_events WHERE type = 5 AND `key` IN ?"
        for text, id in self._log.database.query_each(sql, list(taken)):
            if text in taken and id > after[_iteration(text)]:
                self._free(taken[text], Key.parse(text)[:3], step)

    def _free(self, id: int, run: Run, step: _Step) -> None:
        sql = (
            f"SELECT {_SENT} FROM replay_signals"
            " WHERE namespace = ? AND workflow = ? AND run = ? AND check_id = ?"
        )
        found = [self._sent(row) for row in self._log.database.query(sql, (*run, id))]
        step.freed.setdefault(run, []).extend(sent for sent in found if sent is not None)

    def _arrived(self, now: datetime) -> dict[Run, list[_Sent]]:
        """Return the free signals that have come since the last look, by run, in order."""
        arrived: dict[Run, list[_Sent]] = {}
        due = self._timers.next()
        # Before an await times out, look for signals that no poll has reported yet.
        if self._log.tail.signals <= self._seen and not (due is not None and due <= now):
            self._blocked = self._behind = False
            return arrived
        query = f"SELECT {_SENT}, check_id FROM replay_signals WHERE id > ? ORDER BY id LIMIT ?"
        total = count = 0
        while True:
            most = self._pace.ask(BATCH - count)
            rows = self._log.database.query(query, (self._seen, most))
            self._behind = len(rows) == most
            if (some := fitting(row[_SIZE] or 0 for row in rows)) < len(rows):
                rows, self._behind = rows[:some], True
            self._pace.took(len(rows))
            gap = first_gap(self._seen, [row[0] for row in rows])
            for *row, taken in rows:
                if gap is not None and row[0] >= gap.stop:
                    break
                self._seen = row[0]
                total, count = total + (row[_SIZE] or 0), count + 1
                if taken is None and (sent := self._sent(row)) is not None:
                    arrived.setdefault(sent.run, []).append(sent)
            # It stays blocked while an open transaction holds the missing id.
            self._blocked = gap is not None and not self._fence(gap[:BATCH])
            if self._blocked or total >= BYTES or count >= BATCH:
                self._behind = True
                return arrived
            if gap is None and not self._behind:
                return arrived

    def _sent(self, row: Sequence[Any]) -> _Sent | None:
        """Read a signal; None if nobody can, because another program wrote it."""
        id, namespace, workflow, run, type, message, size, created_at = row
        to, raw = (namespace, workflow, run), read_message(message)
        try:
            if not all(isinstance(name, str) for name in to):
                raise InvalidName(f"it is for the run {to!r:.300}")
            return _Sent(id, to, check_signal(type), from_text(created_at), raw, size)
        except (TypeError, ValueError) as error:
            self._log.database.pass_over("replay_signals", id, error)
            return None

    def _fence(self, ids: range) -> bool:
        """Fill a gap in the ids of signals; return whether it is filled."""
        now = to_text(self._log.database.now())
        rows = [(id, *noop(id)[:-1], now, 0) for id in ids]
        return self._log.database.fence("replay_signals", f"id, {COLUMNS}, check_id", rows)

    def _answer(self, step: _Step, batch: Batch) -> None:
        now = self._log.database.now()
        arrived = self._arrived(now)
        due = () if self._behind else [Key.parse(key)[:3] for _, key in self._timers.pop(now)]
        begun: dict[Run, list[_Await]] = defaultdict(list)
        for found in step.begun.values():
            begun[found.key[:3]].append(found)
        compared = set(step.freed)
        for run in step.freed:
            begun.pop(run, None)
            self._match(run, None, now, step, batch)
        for run, awaits in begun.items():
            if batch.full() and awaits[0].event_id > (self._position or 0):
                self._put_off(awaits, step, batch)
            else:
                # Stored awaits have been compared with all older signals, these have not.
                self._match(run, None, now, step, batch)
                compared.add(run)
        # In one order in every process, so that a simulated one repeats itself exactly.
        for run in dict.fromkeys([*arrived, *due]):
            if run not in compared:
                self._match(run, arrived.get(run, []), now, step, batch)

    def _put_off(self, awaits: Iterable[_Await], step: _Step, batch: Batch) -> None:
        """Leave these awaits to the next step, since their signals may be large."""
        for found in awaits:
            del step.begun[str(found.key)]
            batch.position = min(batch.position, found.event_id - 1)

    def _store(self, step: _Step, batch: Batch) -> None:
        columns = "`key`, created_at, timeout_at, status"
        rows: list[Row] = [
            (key, to_text(found.created_at), to_text(found.timeout_at), PENDING)
            for key, found in step.begun.items()
        ]
        batch.also += self._log.database.insert_missing("replay_signal_awaits", columns, rows)
        end = "UPDATE replay_signal_awaits SET status = ? WHERE `key` = ?"
        take = (
            "UPDATE replay_signals SET check_id ="
            " (SELECT id FROM replay_signal_awaits WHERE `key` = ?) WHERE id = ?"
        )
        free = "UPDATE replay_signals SET check_id = NULL WHERE id = ?"
        freed = (sent for some in step.freed.values() for sent in some)
        batch.also += [Statement(free, (sent.id,)) for sent in freed]
        batch.also += [Statement(end, row) for row in step.ended]
        batch.also += [Statement(take, row) for row in step.taken]
        if self._seen - self._stored_seen >= BATCH:
            batch.also += self._store_seen(to_text(self._log.database.now()))

    def _match(
        self, run: Run, new: list[_Sent] | None, now: datetime, step: _Step, batch: Batch
    ) -> None:
        """Give a run's awaits their signals, and end those whose time is over.

        The signals are `new`, or all free signals of the run if `new` is None.
        """
        waiting: dict[int, list[_Await]] = defaultdict(list)
        for found in self._pending(run, step):
            waiting[found.type].append(found)
        for type, awaits in waiting.items():
            if new is None:
                signals = deque(islice(self._signals(run, type, len(awaits), step), len(awaits)))
            else:
                signals = deque(sent for sent in new if sent.type == type)
            for found in awaits:
                # A signal counts by the time when it was sent, not when we look at it (S4).
                over = found.timeout_at <= now
                if signals and not (over and signals[0].created_at > found.timeout_at):
                    sent = signals.popleft()
                    step.ended.append((SUCCESS, str(found.key)))
                    step.taken.append((str(found.key), sent.id))
                    answer = EventType.ACTIVITY_RESPONSE
                    event = Event(0, answer, found.key, UNKNOWN, self._raw(sent))
                    batch.add(self._log.sealed(event))
                elif over and (signals or not self._behind):
                    step.ended.append((TIMED_OUT, str(found.key)))
                    batch.events.append(self._no_signal(found.key))

    def _no_signal(self, key: Key) -> Event:
        return self._log.event(EventType.ACTIVITY_RESPONSE, key, SleepDone())

    def _pending(self, run: Run, step: _Step) -> Iterable[_Await]:
        """Return a run's awaits that have no answer, in the order in which they began."""
        start = "/".join(run)
        rows = self._log.database.query(
            "SELECT `key`, created_at, timeout_at FROM replay_signal_awaits"
            " WHERE status = 1 AND `key` > ? AND `key` < ? ORDER BY id",
            (start + "/", start + "0"),  # 0 is the character behind the slash
        )
        found = (self._await(*row) for row in rows)
        stored = {str(each.key): each for each in found if each is not None}
        # No join: the server refuses it if the tables have different collations (L8).
        awaits = [each.key for each in stored.values()]
        known = self._log.among(EventType.ACTIVITY_RESPONSE, awaits)
        begun = {key: found for key, found in step.begun.items() if found.key[:3] == run}
        pending = {
            key: found
            for key, found in (stored | begun).items()
            if found.key[:3] == run and key not in step.withdrawn
        }
        for key in known & pending.keys() if not self._behind else ():
            self._settle(pending[key], step)
        return [found for key, found in pending.items() if key not in known]

    def _await(self, key: str, begun: Any, until: Any) -> _Await | None:
        """Read an await; None if nobody can, because another program wrote it."""
        if (timer := read_timer(self._log, "replay_signal_awaits", TARGET, (until, key))) is None:
            return None
        try:
            found = _Await(Key.parse(key), from_text(begun), timer[0])
            signal_type(found.key)
            return found
        except (TypeError, ValueError) as error:
            self._log.database.pass_over("replay_signal_awaits", key, error)
            return None

    def _settle(self, found: _Await, step: _Step) -> None:
        """Mark an await that another system answered before it died."""
        rows = self._log.database.query(
            "SELECT `key`, message FROM replay_events WHERE type = 5 AND `key` = ?",
            (str(found.key),),
        )
        (raw,) = (message or b"" for key, message in rows if key == str(found.key))
        signals = self._signals(found.key[:3], found.type, BATCH, step)
        if raw == self._no_signal(found.key).raw:
            step.ended.append((TIMED_OUT, str(found.key)))
            return
        step.ended.append((SUCCESS, str(found.key)))
        if (id := next((sent.id for sent in signals if self._raw(sent) == raw), None)) is not None:
            step.taken.append((str(found.key), id))

    def _signals(self, run: Run, type: int, chunk: int, step: _Step) -> Iterator[_Sent]:
        """Yield a run's free signals in order, also those that this step frees."""
        taken = {id for _, id in step.taken}
        freed = [s for s in step.freed.get(run, ()) if s.type == type and s.id not in taken]
        stored = self._stored(run, type, chunk, step)
        return heapq.merge(sorted(freed), stored, key=lambda sent: sent.id)

    def _stored(self, run: Run, type: int, chunk: int, step: _Step) -> Iterator[_Sent]:
        """Yield a run's signals that are stored as free, reading `chunk` of them at a time."""
        taken, after = {id for _, id in step.taken}, 0
        while True:
            rows = self._log.database.query(
                f"SELECT {_SENT} FROM replay_signals"
                " WHERE namespace = ? AND workflow = ? AND run = ? AND type = ?"
                " AND check_id IS NULL AND id > ? AND id <= ? ORDER BY id LIMIT ?",
                (*run, type, after, self._seen, chunk),
            )
            for sent in map(self._sent, rows):
                # A table that another system made may take different names for equal (L8).
                if sent is not None and sent.run == run and sent.id not in taken:
                    yield sent
            if len(rows) < chunk:
                return
            after = rows[-1][0]

    def _raw(self, sent: _Sent) -> bytes:
        if (sent.size or 0) > SMALL:
            found = messages(self._log.database, "replay_signals", [sent.id])
            return read_message(found[sent.id]) or b""
        return sent.raw or b""

    def _store_seen(self, now: str) -> list[Statement]:
        """Store `_seen` now and then.  After a start, later signals are compared once more."""
        self._stored_seen = self._seen
        columns = "id, last_event_id, updated_at"
        move = "UPDATE replay_cursors SET last_event_id = ?, updated_at = ? WHERE id = ?"
        return [
            *self._log.database.insert_missing("replay_cursors", columns, [(SEEN, 0, now)]),
            Statement(move, (self._seen, now, SEEN)),
        ]
