"""Sleeps: requests of the reserved activity ``replay_sleep``, answered when they are due.

Role: `Sleeper` stores a row for each request, and responds when its time has come.  It knows no
workflows: to it a run is whoever asked.

Invariant: a row is marked completed in the transaction that adds its response.

`Timers` holds only the nearest rows in memory, so a million sleeping runs cost no more than ten
thousand, and looking for due ones costs no query (P6).  A sleep counts from its request's
timestamp, to the millisecond (R7): how far behind this consumer is does not make it longer (P9).

Left to `signal`: waiting for something that may come earlier.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from .consumer import Batch, Consumer, Metrics
from .log import Log, Parked
from .server.proto.replaypb_pb2 import SleepDone, SleepRequest
from .storage.database import Row, Statement, from_text, later, marks, portions, to_text
from .storage.event import Event, EventType, Key, MessageError
from .storage.tail import BATCH

TARGET = "replay_sleep"


class Timers:
    """The nearest of a table's due times, by key.  `load` gives the first so many, in order."""

    LIMIT = 10_000

    def __init__(self, load: Callable[[int], list[tuple[datetime, str]]]) -> None:
        self._load = load
        self._heap: list[tuple[datetime, str]] = []
        self._complete = False  # whether the heap holds all rows there are
        self._last = datetime.min.replace(tzinfo=UTC)

    def reload(self) -> None:
        """Read the nearest ones from the table."""
        self._heap = self._load(self.LIMIT)  # in order, which is a heap
        self._complete = len(self._heap) < self.LIMIT
        if self._heap:
            self._last = self._heap[-1][0]

    def add(self, due: datetime, key: str) -> None:
        """A row that this step stores."""
        self._refill()
        if self._complete or due <= self._last:
            heapq.heappush(self._heap, (due, key))
        if len(self._heap) > 2 * self.LIMIT:
            self._heap = heapq.nsmallest(self.LIMIT, self._heap)
            self._complete, self._last = False, self._heap[-1][0]

    def next(self) -> datetime | None:
        """When the nearest is due."""
        self._refill()
        return self._heap[0][0] if self._heap else None

    def pop(self, now: datetime, most: int = BATCH) -> list[tuple[datetime, str]]:
        """Take out those that are due: the end of a step."""
        self._refill()
        taken: list[tuple[datetime, str]] = []
        while len(taken) < most and self._heap and self._heap[0][0] <= now:
            taken.append(heapq.heappop(self._heap))
        return taken

    def _refill(self) -> None:
        # Does nothing from a step's first `add` on: what it stores is not in the table yet, and
        # what it takes out still is.
        if not self._heap and not self._complete:
            self.reload()


def requested_duration(event: Event) -> timedelta:
    """How long a `SleepRequest` asks for.  Raises `MessageError` for any other message (P5)."""
    message = event.message
    if not isinstance(message, SleepRequest):
        raise MessageError(f"{event.key} holds no replaypb.SleepRequest")
    duration = message.duration
    if not (abs(duration.seconds) <= 315_576_000_000 and abs(duration.nanos) < 1_000_000_000):
        raise MessageError(f"{event.key} asks for {duration.seconds} s and {duration.nanos} ns")
    microseconds = -(-duration.nanos // 1000)  # rounded up: never shorter than asked for
    return max(timedelta(0), timedelta(seconds=duration.seconds, microseconds=microseconds))


class Sleeper(Consumer):
    """Answers sleep requests of all namespaces when they are due."""

    def __init__(self, events: Log, *, metrics: Metrics | None = None) -> None:
        super().__init__(events, TARGET, metrics=metrics)
        self._timers = Timers(self._load)

    def wants(self, event: Event) -> bool:
        """As in `Consumer`."""
        return event.key.target == TARGET and event.type is EventType.ACTIVITY_REQUEST

    def claimed(self) -> None:
        """As in `Consumer`."""
        self._timers.reload()

    def due(self) -> datetime | None:
        """As in `Consumer`."""
        return self._timers.next()

    def _load(self, limit: int) -> list[tuple[datetime, str]]:
        rows = self._log.database.query(
            "SELECT complete_at, `key` FROM replay_sleeps WHERE completed = 0"
            " ORDER BY complete_at, `key` LIMIT ?",
            (limit,),
        )
        return [(from_text(at), key) for at, key in rows]

    def handle(self, events: Sequence[Event], batch: Batch) -> None:
        """As in `Consumer`."""
        rows: list[Row] = []
        answered = self._log.answered(events)
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
        key = event.text
        rows.append((key, to_text(event.timestamp), to_text(complete_at), 0))
        self._timers.add(complete_at, key)
        return True

    def _store(self, rows: list[Row], batch: Batch) -> None:
        columns = "`key`, created_at, complete_at, completed"
        batch.also += self._log.database.insert_missing("replay_sleeps", columns, rows)

    def _respond(self, batch: Batch) -> None:
        """Answer what is due, also what this very step has begun."""
        keys = [key for _, key in self._timers.pop(self._log.database.now())]
        for some in portions(keys):
            sql = f"UPDATE replay_sleeps SET completed = 1 WHERE `key` IN ({marks(len(some))})"
            batch.also.append(Statement(sql, some))
        batch.events += [
            self._log.event(EventType.ACTIVITY_RESPONSE, Key.parse(key), SleepDone())
            for key in keys
        ]
