"""Sleeps: requests of the reserved activity ``replay_sleep``, answered when they are due.

Role: `Sleeper` stores a row for each request, and responds when its time has come.  It does not
know workflows: it answers every request, no matter who added it.

Invariant: one transaction marks a row as completed and adds its response.

`Timers` keeps only the next due rows, so a million sleeping runs need no more memory than ten
thousand, and waiting for them costs no query (P6).  A sleep counts from its request's timestamp,
rounded up to the millisecond (R7), so a consumer that is behind does not make it longer (P9).

Left to `replay.signal`: waiting for something that may come earlier.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from .consumer import Batch, Consumer, Metrics
from .log import Log, Parked
from .server.proto.replaypb_pb2 import SleepDone, SleepRequest
from .storage.database import Row, for_each, from_text, later, to_text
from .storage.dispatch import Interest
from .storage.event import Event, EventType, Key, MessageError
from .storage.tail import BATCH

TARGET = "replay_sleep"
#: The longest `google.protobuf.Duration`: about 10,000 years.
LONGEST = timedelta(seconds=315_576_000_000)


class Timers:
    """The next due times of a table, by key.

    `load` reads the first n rows, in order, and returns None for a row that nobody can read.
    """

    LIMIT = 10_000

    def __init__(self, load: Callable[[int], Sequence[tuple[datetime, str] | None]]) -> None:
        self._load = load
        self._heap: list[tuple[datetime, str]] = []
        self._complete = False  # whether the heap holds all rows
        self._last = datetime.min.replace(tzinfo=UTC)

    def reload(self) -> None:
        """Read the next due times from the table."""
        rows = self._load(self.LIMIT)
        self._heap = [row for row in rows if row is not None]  # in order, which is a heap
        self._complete = len(rows) < self.LIMIT
        if self._heap:
            self._last = self._heap[-1][0]

    def add(self, due: datetime, key: str) -> None:
        """Take a row into account that this step stores."""
        self._refill()
        if self._complete or due <= self._last:
            heapq.heappush(self._heap, (due, key))
        if len(self._heap) > 2 * self.LIMIT:
            self._heap = heapq.nsmallest(self.LIMIT, self._heap)
            self._complete, self._last = False, self._heap[-1][0]

    def next(self) -> datetime | None:
        """Return when the first row is due; None if there is none."""
        self._refill()
        return self._heap[0][0] if self._heap else None

    def pop(self, now: datetime, most: int = BATCH) -> list[tuple[datetime, str]]:
        """Take out the rows that are due, at the end of a step."""
        self._refill()
        taken: list[tuple[datetime, str]] = []
        while len(taken) < most and self._heap and self._heap[0][0] <= now:
            taken.append(heapq.heappop(self._heap))
        return taken

    def _refill(self) -> None:
        # Does nothing after a step's first `add`: what the step stores is not in the table yet, and
        # what it takes out still is.
        if not self._heap and not self._complete:
            self.reload()


def read_timer(log: Log, table: str, target: str, row: Row) -> tuple[datetime, str] | None:
    """Read when a row is due, and its key; None for a row of no request of `target` (L3)."""
    at, key = row
    try:
        due = from_text(at)
        if Key.parse(str(key)).target == target:
            return due, key
        problem: object = f"its key {key!r} is not that of a {target}"
    except (TypeError, ValueError) as error:
        problem = error
    log.database.pass_over(table, key, problem)
    return None


def requested_duration(event: Event) -> timedelta:
    """Read how long a `SleepRequest` asks for.  Raises `MessageError` for other messages (P5)."""
    message = event.message
    if not isinstance(message, SleepRequest):
        raise MessageError(f"{event.key} holds no replaypb.SleepRequest")
    duration = message.duration
    limit = LONGEST // timedelta(seconds=1)
    if not (abs(duration.seconds) <= limit and abs(duration.nanos) < 1_000_000_000):
        raise MessageError(f"{event.key} asks for {duration.seconds} s and {duration.nanos} ns")
    microseconds = -(-duration.nanos // 1000)  # rounded up: never shorter than requested
    return max(timedelta(0), timedelta(seconds=duration.seconds, microseconds=microseconds))


class Sleeper(Consumer):
    """Answers the sleep requests of all namespaces when they are due."""

    interest = Interest(frozenset({(EventType.ACTIVITY_REQUEST, "", TARGET)}))

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

    def _load(self, limit: int) -> list[tuple[datetime, str] | None]:
        rows = self._log.database.query(
            "SELECT complete_at, `key` FROM replay_sleeps WHERE completed = 0"
            " ORDER BY complete_at, `key` LIMIT ?",
            (limit,),
        )
        return [read_timer(self._log, "replay_sleeps", TARGET, row) for row in rows]

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
        rows.append((event.text, to_text(event.timestamp), to_text(complete_at), 0))
        self._timers.add(complete_at, event.text)
        return True

    def _store(self, rows: list[Row], batch: Batch) -> None:
        columns = "`key`, created_at, complete_at, completed"
        batch.also += self._log.database.insert_missing("replay_sleeps", columns, rows)

    def _respond(self, batch: Batch) -> None:
        """Answer the sleeps that are due, also those that this very step has begun.

        A row of the Go system may have its answer already, because that system marks none.
        """
        keys = [key for _, key in self._timers.pop(self._log.now())]
        answered = self._log.among(EventType.ACTIVITY_RESPONSE, list(map(Key.parse, keys)))
        batch.also += for_each("UPDATE replay_sleeps SET completed = 1 WHERE `key` IN ?", keys)
        batch.events += [
            self._log.event(EventType.ACTIVITY_RESPONSE, Key.parse(key), SleepDone())
            for key in keys
            if key not in answered
        ]
