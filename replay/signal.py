"""Signals: messages sent to a run, and the awaits that take them.

Role: `send` stores a signal.  `Matcher` stores a row for each request of the reserved activity
``replay_signal``, and responds with the first signal of its type, or, when its time is over, with
"no signal".  Signals are rows of a table of their own: only a match makes an event.

Invariants (S1 to S4):

- A signal is taken by at most one await, an await is answered once, and the answer, the await's
  status and the signal's mark are one transaction.  A crash finds all three changed, or none.
- Signals of a type are taken in the order of their ids.
- At any time every signal up to the id `_seen` has been compared with every stored await.  A new
  await looks up the signals that are there; a new signal looks up the awaits that are there.

Signals' ids have holes like those of events, and the same thing is done about them: a signal that
commits late is waited for, not overlooked.

An await whose time is over takes a signal that was sent before that moment, and leaves a later one
to the next await (P19), however late this consumer is.

Left to `client`: the names under which users call this.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from itertools import islice
from typing import NamedTuple

from google.protobuf.message import Message

from .consumer import Batch, Consumer, Metrics
from .log import Log, Parked, first_hole
from .server.proto.replaypb_pb2 import SleepDone
from .sleep import Timers, requested_duration
from .storage.database import (
    Duplicate,
    Error,
    IdTaken,
    Insert,
    Row,
    Statement,
    from_text,
    later,
    to_text,
)
from .storage.event import Event, EventType, InvalidName, Key, MessageError, check_run, pack
from .storage.tail import BATCH

TARGET = "replay_signal"
PENDING, TIMED_OUT, SUCCESS = 1, 2, 3
_SIGNAL = "namespace, workflow, run, hash, type, external_id, message, created_at"
_CURSOR = "replay_signal/seen"
Run = tuple[str, str, str]


class InvalidSignal(Error, ValueError):
    """A signal type or an external id that cannot be stored."""


def check_signal(signal: int) -> int:
    """`signal` as stored.  Raises `InvalidSignal`."""
    if not isinstance(signal, int) or isinstance(signal, bool):
        raise InvalidSignal(f"signal {signal!r}: expected an int or an IntEnum")
    if not -128 <= signal <= 127:
        raise InvalidSignal(f"signal {signal!r}: types are numbers from -128 to 127")
    return int(signal)


def signal_hash(namespace: str, workflow: str, run: str, type: int, external_id: str) -> bytes:
    """What makes a signal unique (S1): each part behind its length, so that none can be shifted."""
    digest = hashlib.sha256()
    for part in (namespace, workflow, run, type.to_bytes(4, "big", signed=True), external_id):
        raw = part.encode() if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(4, "big") + raw)
    return digest.digest().ljust(128, b"\0")


def send(
    events: Log,
    run: Run,
    signal: int | IntEnum,
    message: Message | None,
    external_id: str,
) -> bool:
    """Store a signal; False if one of the same run, type and external id is stored already.

    Raises `InvalidName`, `InvalidSignal`, `MessageError`.
    """
    type, mark = checked(run, signal, message, external_id)
    raw = pack(message, events.max_message, f"signal {type} to {'/'.join(run)}")
    return store(events, run, type, raw, external_id, mark)


def checked(
    run: Run, signal: int | IntEnum, message: Message | None, external_id: str
) -> tuple[int, bytes]:
    """A signal's type and hash, as stored.  Raises `InvalidName` or `InvalidSignal`."""
    check_run(*run)
    type = check_signal(signal)
    if not isinstance(external_id, str) or len(external_id) > 255 or "\0" in external_id:
        raise InvalidSignal(f"external id {external_id!r:.300}: expected up to 255 characters")
    if isinstance(message, SleepDone):
        raise InvalidSignal("a replaypb.SleepDone would be taken for a time-out: send another type")
    try:
        return type, signal_hash(*run, type, external_id)
    except UnicodeEncodeError as error:
        raise InvalidSignal(f"external id {external_id!r:.300}: {error}") from error


def store(
    events: Log, run: Run, type: int, raw: bytes | None, external_id: str, mark: bytes
) -> bool:
    """Store a signal that was checked; False if it is there already."""
    query = "SELECT 1 FROM replay_signals WHERE namespace = ? AND hash = ?"
    while not events.database.query(query, (run[0], mark)):
        row = (*run, mark, type, external_id, raw, to_text(events.database.now()))
        try:
            ids = events.database.write((), Insert("replay_signals", _SIGNAL, [row]))
        except (Duplicate, IdTaken):
            continue
        if ids:
            events.tail.saw_signals(ids[0])
        else:
            events.tail.join([])
        return True
    return False


@dataclass(slots=True)
class _Await:
    key: Key
    timeout_at: datetime

    @property
    def type(self) -> int:
        return signal_type(self.key)


def signal_type(key: Key) -> int:
    """The type that an await's sequence, TYPE:COUNT, asks for."""
    try:
        return check_signal(int(key.sequence.partition(":")[0]))
    except ValueError as error:
        raise InvalidName(f"{key} does not name a signal type: {error}") from error


class _Sent(NamedTuple):
    """A signal that no await has taken."""

    id: int
    type: int
    raw: bytes
    created_at: datetime


@dataclass(slots=True)
class _Step:
    """What one step stores: awaits that began, and those that end with or without a signal."""

    begun: dict[str, _Await]
    answered: list[tuple[str, int]]  # await's key, signal's id
    timed_out: list[str]
    stale: list[str]  # answered by another system, with no signal that is known


class Matcher(Consumer):
    """Answers the awaits of all namespaces with signals."""

    def __init__(self, events: Log, *, metrics: Metrics | None = None) -> None:
        super().__init__(events, TARGET, metrics=metrics)
        self._waiter.signals = True
        self._timers = Timers(self._load)
        self._seen = 0
        self._stored_seen = 0
        self._blocked = False  # by a hole in the signals' ids
        self._behind = False  # whether there may be signals that have not been looked at
        self._begun: dict[str, _Await] = {}
        self._rows: list[Row] = []  # of those

    def wants(self, event: Event) -> bool:
        """As in `Consumer`."""
        return event.key.target == TARGET and event.type is EventType.ACTIVITY_REQUEST

    def claimed(self) -> None:
        """As in `Consumer`."""
        query = "SELECT last_event_id FROM replay_cursors WHERE id = ?"
        rows = self._log.database.query(query, (_CURSOR,))
        self._seen = self._stored_seen = int(rows[0][0]) if rows else 0
        self._timers.reload()

    def forget(self) -> None:
        """As in `Consumer`."""
        self._begun, self._rows = {}, []

    def due(self) -> datetime | None:
        """As in `Consumer`."""
        if self._behind or self._seen < self._log.tail.signals:
            return self._log.database.now() + timedelta(milliseconds=30 if self._blocked else 0)
        return self._timers.next()

    def _load(self, limit: int) -> list[tuple[datetime, str]]:
        rows = self._log.database.query(
            "SELECT timeout_at, `key` FROM replay_signal_awaits WHERE status = 1"
            " ORDER BY timeout_at, `key` LIMIT ?",
            (limit,),
        )
        return [(from_text(at), key) for at, key in rows]

    def handle(self, events: Sequence[Event], batch: Batch) -> None:
        """As in `Consumer`."""
        known = self._log.answered(events)
        for event in events:
            if event.key not in known:
                self._begin(event, 1, batch)
        step, self._begun = _Step(self._begun, [], [], []), {}
        columns = "`key`, created_at, timeout_at, status"
        rows, self._rows = self._rows, []
        batch.also += self._log.database.insert_missing("replay_signal_awaits", columns, rows)
        self._answer(step, batch)

    def retry(self, parked: Parked, batch: Batch) -> None:
        """As in `Consumer`."""
        event = self._log.get(parked.event_id)
        if event is not None and self._begin(event, parked.attempts + 1, batch):
            batch.unparked.append(parked.event_id)

    def _begin(self, event: Event, attempt: int, batch: Batch) -> bool:
        try:
            found = _Await(event.key, later(event.timestamp, requested_duration(event)))
            signal_type(event.key)
        except (MessageError, InvalidName) as error:
            self.park(batch, event.id, event.key, attempt, error)
            return False
        key, timeout_at = event.text, found.timeout_at
        self._begun[key] = found
        self._rows.append((key, to_text(event.timestamp), to_text(timeout_at), PENDING))
        self._timers.add(timeout_at, key)
        return True

    def _arrived(self, now: datetime) -> dict[Run, list[_Sent]]:
        """The signals that have come since the last look and are not taken, by run, in order."""
        arrived: dict[Run, list[_Sent]] = {}
        due = self._timers.next()
        # No await times out for a signal that nobody has told this process of yet.
        if self._log.tail.signals <= self._seen and not (due is not None and due <= now):
            self._blocked = self._behind = False
            return arrived
        query = (
            "SELECT id, namespace, workflow, run, check_id, type, message, created_at"
            " FROM replay_signals WHERE id > ? ORDER BY id LIMIT ?"
        )
        while True:
            rows = self._log.database.query(query, (self._seen, BATCH))
            hole = first_hole(self._seen, [row[0] for row in rows])
            for id, namespace, workflow, run, taken, type, raw, created_at in rows:
                if hole is not None and id >= hole.stop:
                    break
                self._seen = id
                if taken is None:
                    sent = _Sent(id, type, raw or b"", from_text(created_at))
                    arrived.setdefault((namespace, workflow, run), []).append(sent)
            # It stays blocked by a transaction that holds the missing id and is still open.
            self._blocked = hole is not None and not self._fence(hole[:BATCH])
            self._behind = self._blocked or len(rows) == BATCH
            if hole is None or self._blocked:
                return arrived

    def _fence(self, ids: range) -> bool:
        """Take ids that no signal has; whether that is settled."""
        now = to_text(self._log.database.now())
        rows: list[Row] = []
        for id in ids:
            name = f"replay_noop/{id}"
            mark = signal_hash("", "", "", 0, name)
            rows.append((id, "", "", "", mark, 0, name, None, now, 0))
        return self._log.database.fence("replay_signals", f"id, {_SIGNAL}, check_id", rows)

    def _answer(self, step: _Step, batch: Batch) -> None:
        now = self._log.database.now()
        arrived = self._arrived(now)
        begun = {found.key[:3] for found in step.begun.values()}
        due = set() if self._behind else {Key.parse(k)[:3] for _, k in self._timers.pop(now)}
        for run in arrived.keys() | begun | due:
            # With older signals than these, stored awaits have been compared already.
            new = None if run in begun else arrived.get(run, [])
            self._match(run, new, now, step, batch)
        batch.also += self._ended(step)
        if self._seen - self._stored_seen >= BATCH:
            batch.also += self._store_seen(to_text(now))

    def _match(
        self, run: Run, new: list[_Sent] | None, now: datetime, step: _Step, batch: Batch
    ) -> None:
        """Give a run's awaits the signals there are for them, and end those whose time is over.

        The signals are `new`, or if that is None all that the run has.
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
                # What is late is not what was sent in time, but what was sent after the time-out.
                over = found.timeout_at <= now
                if signals and not (over and signals[0].created_at > found.timeout_at):
                    sent = signals.popleft()
                    step.answered.append((str(found.key), sent.id))
                    batch.events.append(self._response(found.key, sent.raw))
                elif over and (signals or not self._behind):
                    step.timed_out.append(str(found.key))
                    batch.events.append(
                        self._log.event(EventType.ACTIVITY_RESPONSE, found.key, SleepDone())
                    )

    def _response(self, key: Key, raw: bytes) -> Event:
        event = self._log.event(EventType.ACTIVITY_RESPONSE, key)
        event.raw = raw
        return event

    def _pending(self, run: Run, step: _Step) -> Iterable[_Await]:
        """A run's awaits that have no answer, in the order in which they began."""
        start = "/".join(run)
        rows = self._log.database.query(
            "SELECT `key`, timeout_at, EXISTS (SELECT 1 FROM replay_events e"
            " WHERE e.type = 5 AND e.`key` = a.`key`) FROM replay_signal_awaits a"
            " WHERE status = 1 AND `key` > ? AND `key` < ? ORDER BY id",
            (start + "/", start + "0"),  # 0 is the character behind the slash
        )
        stored = {key: _Await(Key.parse(key), from_text(at)) for key, at, _ in rows}
        known = {key for key, _, answered in rows if answered}
        begun = {key: found for key, found in step.begun.items() if found.key[:3] == run}
        pending = {key: f for key, f in (stored | begun).items() if f.key[:3] == run}
        for key in known & pending.keys() if not self._behind else ():
            self._settle(pending[key], step)
        return [found for key, found in pending.items() if key not in known]

    def _settle(self, found: _Await, step: _Step) -> None:
        """Mark what another system answered, and died before it marked it."""
        history = self._log.history(found.key)
        answered = EventType.ACTIVITY_RESPONSE
        (raw,) = (e.raw or b"" for e in history if e.type is answered and e.key == found.key)
        signals = self._signals(found.key[:3], found.type, BATCH, step)
        if raw == self._log.event(answered, found.key, SleepDone()).raw:
            step.timed_out.append(str(found.key))
        elif (id := next((sent.id for sent in signals if sent.raw == raw), None)) is not None:
            step.answered.append((str(found.key), id))
        else:
            step.stale.append(str(found.key))

    def _signals(self, run: Run, type: int, portion: int, step: _Step) -> Iterator[_Sent]:
        """A run's signals that nobody has taken, in order, read so many at a time."""
        taken, after = {id for _, id in step.answered}, 0
        while True:
            rows = self._log.database.query(
                "SELECT id, message, created_at, namespace, workflow, run FROM replay_signals"
                " WHERE namespace = ? AND workflow = ? AND run = ? AND type = ?"
                " AND check_id IS NULL AND id > ? AND id <= ? ORDER BY id LIMIT ?",
                (*run, type, after, self._seen, portion),
            )
            for id, message, created_at, *names in rows:
                # A table made by another system may take names for equal that are not (L8).
                if tuple(names) == run and id not in taken:
                    yield _Sent(id, type, message or b"", from_text(created_at))
            if len(rows) < portion:
                return
            after = rows[-1][0]

    @staticmethod
    def _ended(step: _Step) -> list[Statement]:
        ended = [(SUCCESS, key) for key, _ in step.answered]
        ended += [(TIMED_OUT, key) for key in step.timed_out]
        ended += [(SUCCESS, key) for key in step.stale]
        status = "UPDATE replay_signal_awaits SET status = ? WHERE `key` = ?"
        take = (
            "UPDATE replay_signals SET check_id ="
            " (SELECT id FROM replay_signal_awaits WHERE `key` = ?) WHERE id = ?"
        )
        return [
            *(Statement(status, row) for row in ended),
            *(Statement(take, row) for row in step.answered),
        ]

    def _store_seen(self, now: str) -> list[Statement]:
        """Now and then: what was seen since is looked at once more after a start, that is all."""
        self._stored_seen = self._seen
        columns = "id, last_event_id, updated_at"
        move = "UPDATE replay_cursors SET last_event_id = ?, updated_at = ? WHERE id = ?"
        return [
            *self._log.database.insert_missing("replay_cursors", columns, [(_CURSOR, 0, now)]),
            Statement(move, (self._seen, now, _CURSOR)),
        ]
