"""Sleeps: requests of the reserved activity ``replay_sleep``, answered when they are due.

Role: `Sleeper` stores a row for each request, and responds when its time has come.  It does not
know workflows: it answers every request, whoever added it.

Invariant: one transaction marks a row as completed and adds its response.

`Timer` keeps one time in memory, so a million sleeping runs cost no more than one, and waiting for
them costs no query (P6).  A sleep counts from its request's timestamp, rounded up to the
millisecond (R7), so a consumer that is behind does not make it longer (P9).

Left to `replay.signal`: waiting for something that may come earlier.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from .consumer import Batch, Consumer, Metrics
from .log import Log, Parked
from .server.proto.replaypb_pb2 import SleepDone, SleepRequest
from .storage.database import Row, Statement, chunks, from_text, later, placeholders, to_text
from .storage.event import Event, EventType, Key, MessageError
from .storage.tail import BATCH

TARGET = "replay_sleep"


class Timer:
    """When the first row of a table is due.  `read` asks the table."""

    def __init__(self, read: Callable[[], datetime | None]) -> None:
        self._read = read
        self._next: datetime | None = None
        self._known = False

    def reset(self) -> None:
        """Forget the time: rows have gone, or will go with this step."""
        self._known = False

    def next(self) -> datetime | None:
        """Return when the first row is due; None if there is none."""
        if not self._known:
            self._next, self._known = self._read(), True
        return self._next

    def add(self, due: datetime) -> None:
        """Take a row into account that this step stores."""
        first = self.next()
        self._next = due if first is None else min(first, due)

    def passed(self, now: datetime) -> bool:
        """Return whether a row is due; if so, forget the time, since the row will go."""
        first = self.next()
        if first is None or first > now:
            return False
        self.reset()
        return True


def requested_duration(event: Event) -> timedelta:
    """Read how long a `SleepRequest` asks for.  Raises `MessageError` for other messages (P5)."""
    message = event.message
    if not isinstance(message, SleepRequest):
        raise MessageError(f"{event.key} holds no replaypb.SleepRequest")
    duration = message.duration
    if not (abs(duration.seconds) <= 315_576_000_000 and abs(duration.nanos) < 1_000_000_000):
        raise MessageError(f"{event.key} asks for {duration.seconds} s and {duration.nanos} ns")
    microseconds = -(-duration.nanos // 1000)  # rounded up: never shorter than requested
    return max(timedelta(0), timedelta(seconds=duration.seconds, microseconds=microseconds))


class Sleeper(Consumer):
    """Answers the sleep requests of all namespaces when they are due."""

    def __init__(self, events: Log, *, metrics: Metrics | None = None) -> None:
        super().__init__(events, TARGET, metrics=metrics)
        self._timer = Timer(self._first_due)

    def wants(self, event: Event) -> bool:
        """As in `Consumer`."""
        return event.key.target == TARGET and event.type is EventType.ACTIVITY_REQUEST

    def claimed(self) -> None:
        """As in `Consumer`."""
        self._timer.reset()

    def due(self) -> datetime | None:
        """As in `Consumer`."""
        return self._timer.next()

    def _first_due(self) -> datetime | None:
        sql = "SELECT MIN(complete_at) FROM replay_sleeps WHERE completed = 0"
        first = self._log.database.query(sql)[0][0]
        return None if first is None else from_text(first)

    def handle(self, events: Sequence[Event], batch: Batch) -> None:
        """As in `Consumer`."""
        answered, rows = self.answered(events), list[Row]()
        for event in events:
            if event.key not in answered:
                self._begin(event, 1, batch, rows)
        self._store(rows, batch)
        self._respond(batch)

    def retry(self, parked: Parked, batch: Batch) -> None:
        """As in `Consumer`."""
        event, rows = self._log.get(parked.event_id), list[Row]()
        if event is not None and self._begin(event, parked.attempts + 1, batch, rows):
            batch.unparked.append(parked.event_id)
            self._store(rows, batch)

    def _begin(self, event: Event, attempt: int, batch: Batch, rows: list[Row]) -> bool:
        try:
            complete_at = later(event.timestamp, requested_duration(event))
        except MessageError as error:
            self.park(batch, event.id, event.key, attempt, error)
            return False
        over = complete_at <= self._log.now()  # a consumer that is behind answers at once
        rows.append((event.text, to_text(event.timestamp), to_text(complete_at), int(over)))
        if not over:
            self._timer.add(complete_at)
        return True

    def _store(self, rows: list[Row], batch: Batch) -> None:
        """Store the rows, and answer those that are over already."""
        columns = "`key`, created_at, complete_at, completed"
        batch.also += self._log.database.insert_missing("replay_sleeps", columns, rows)
        over = sorted((complete_at, key) for key, _, complete_at, completed in rows if completed)
        batch.events += [self._response(key) for _, key in over]

    def _response(self, key: str) -> Event:
        return self._log.event(EventType.ACTIVITY_RESPONSE, Key.parse(key), SleepDone())

    def _respond(self, batch: Batch) -> None:
        """Answer the stored sleeps that are due, and mark their rows."""
        now = self._log.now()
        if not self._timer.passed(now):
            return
        rows = self._log.database.query(
            "SELECT `key` FROM replay_sleeps WHERE completed = 0 AND complete_at <= ?"
            " ORDER BY complete_at, `key` LIMIT ?",
            (to_text(now), BATCH),
        )
        keys = [key for (key,) in rows]
        for some in chunks(keys):
            listed = placeholders(len(some))
            sql = f"UPDATE replay_sleeps SET completed = 1 WHERE `key` IN ({listed})"
            batch.also.append(Statement(sql, some))
        batch.events += map(self._response, keys)
