"""The loop that everything is: read, handle, commit.

Role: `Consumer` reads the events after its cursor in batches, asks its subclass what follows from
them, and commits that together with the new cursor.  Workflows, activities, sleeps,
signals and your own handlers are all consumers.  They differ in `wants` and `handle`.

Invariants:

- One `step` is one batch and at most one transaction.  If it fails, nothing of it is stored, and
  the next step does it again from the cursor (L5, L6).
- Every error has the same answer: forget everything in memory, and start again from the cursor
  after a backoff.  That includes a lost ownership and a commit with an unknown outcome.
- Where the order of events does not matter, one that fails does not hold up the others.  It is
  *parked*: the transaction that moves the cursor past it stores a row with the attempts so far.

A thread does nothing but call `step`.  So a test can call it instead, and run a cluster in one
thread.

Left to the modules that follow: what an event means.
"""

from __future__ import annotations

import hashlib
import logging
import math
import random
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from operator import attrgetter

from .failure import FOR_EVER, LONGEST_TEXT, clean, text_of
from .log import Attempts, Log, LostOwnership, Move, Parked
from .storage.database import DatabaseError, Statement, Step, Unavailable
from .storage.dispatch import Interest
from .storage.event import Event, EventType, Key
from .storage.tail import BATCH, BYTES, Alarm, Waiter

log = logging.getLogger("replay")

#: Called with a consumer's name, the name of a figure, and its value: see `Consumer`.
Metrics = Callable[[str, str, float], None]

#: Seconds that a step may handle events before it commits what it has.
WINDOW = 0.02
_PAUSE_MIN, _PAUSE_MAX = 0.05, 1.0  # seconds until a consumer that failed starts again
#: How long a stored cursor may stand before events that were handled, if no commit stores it.
_UNSTORED = timedelta(seconds=1)
_STANDBY = 1.0  # seconds that a consumer stands by before it looks whether it has to stop
#: Events with which a batch is full, whatever their size.
FULL = 2000
_id = attrgetter("id")
_JOIN = 0.001  # seconds between two looks whether a thread has ended
_WAIT = 60.0  # seconds that a thread waits at most before it looks at the clock again
#: How often an owner looks whether somebody wants a parked event retried at once (Q2).
LOOK = timedelta(seconds=2)


@dataclass(slots=True)
class Batch:
    """The result of one step, which is committed at once."""

    #: The id up to which everything is handled.  A handler that stops early lowers it.
    position: int
    #: Events to add.
    events: list[Event] = field(default_factory=list)
    parked: list[Parked] = field(default_factory=list)
    #: Ids of the events whose parked rows are removed.
    unparked: list[int] = field(default_factory=list)
    #: Statements on the consumer's own tables.
    also: list[Statement] = field(default_factory=list)
    #: Statements of a user's, by the key of the event that they come with: see `Move`.
    steps: dict[str, Sequence[Step]] = field(default_factory=dict)
    #: Whether to store the cursor even if nothing is added.
    handled: bool = False
    #: The size of the events that may be large.
    bytes: int = 0
    #: Attempts that failed and are not in `parked`, and those after an attempt that failed.
    failed: int = 0
    retried: int = 0
    #: The seconds that each attempt at an activity took.
    seconds: list[float] = field(default_factory=list)

    def add(self, event: Event) -> None:
        """Add an event that may be large."""
        self.events.append(event)
        self.bytes += event.size

    def full(self) -> bool:
        """Whether it holds 8 MiB or 2,000 events (L6).

        Then it is committed before further events are handled.
        """
        held = self.bytes + LONGEST_TEXT * len(self.parked)
        return held >= BYTES or len(self.events) >= FULL

    def size(self) -> int:
        """How many things there are to store, besides the cursor."""
        return len(self.events) + len(self.parked) + len(self.unparked) + len(self.also)

    def attempts(self, parked: Mapping[int, Parked]) -> Attempts:
        """Count the attempts that ended; `parked` is what was parked before this step."""
        if not (self.parked or self.unparked):  # as nearly always: this runs in each step
            return Attempts(self.seconds, self.failed, self.retried)
        failed = [each.attempts for each in self.parked if each.attempts]
        ended = (parked.get(id) for id in self.unparked)
        again = sum(row is not None and row.attempts > 0 for row in ended)
        again += sum(attempts > 1 for attempts in failed)
        return Attempts(self.seconds, self.failed + len(failed), self.retried + again)


def figures(
    passed: int, added: int, attempts: Attempts, lag: timedelta | None
) -> Iterator[tuple[str, float]]:
    """Yield what a `Metrics` function is told about one step (Q5)."""
    yield "events", passed
    yield "added", added
    yield "failed", attempts.failed
    yield "retried", attempts.retried
    for seconds in attempts.seconds:
        yield "duration", seconds
    if lag is not None:
        yield "lag", max(0.0, lag.total_seconds())


def lag_of(passed: Sequence[Event], now: datetime) -> timedelta | None:
    """Return the age of the newest of these events; None if all are no-ops, which have no time."""
    newest = (event for event in reversed(passed) if event.type is not EventType.NOOP)
    return next((now - event.timestamp for event in newest), None)


def measured(
    metrics: Metrics, consumer: str, figures: Iterable[tuple[str, float]]
) -> Metrics | None:
    """Pass figures on, and return `metrics`; None if it has failed, so that it is not called again.

    The step is stored already: it must neither fail nor be done again for this (Q5).
    """
    try:
        for what, figure in figures:
            metrics(consumer, what, figure)
    except KeyboardInterrupt:
        raise
    except BaseException:
        log.exception("%s is not measured any more: its metrics function failed", consumer)
        return None
    return metrics


def consumer_name(*parts: str) -> str:
    """Make a cursor's name of other names; a name of more than 255 characters is shortened."""
    name = "/".join(part for part in parts if part)
    if len(name) > 255:
        name = f"{name[:190]}#{hashlib.sha256(name.encode()).hexdigest()[:60]}"
    return name


def is_shortened(name: str) -> bool:
    """Return whether `consumer_name` has shortened this name."""
    return len(name) == 251 and name[190] == "#"


class Stop:
    """Tells a thread that it is to end.  Ctrl-C leaves nothing locked in it (see `Alarm`)."""

    def __init__(self) -> None:
        self._alarm = Alarm()
        self._asked = False

    def set(self) -> None:
        """Have the thread end."""
        self._asked = True
        self._alarm.ring()

    def clear(self) -> None:
        """Let a thread run."""
        self._asked = False

    def is_set(self) -> bool:
        """Return whether the thread is to end."""
        return self._asked

    def wait(self, timeout: float) -> bool:
        """Wait for that, at most `timeout` seconds.  Returns whether the thread is to end."""
        if not self._asked:
            self._alarm.wait(timeout)
        return self._asked


class Consumer:
    """One consumer.

    `metrics`, if given, is called several times after each step that did anything, with the
    consumer's name, the name of a figure, and its value: "events" (passed in this step), "added"
    (to the log), "failed" and "retried" (attempts), "duration" (of each attempt at an activity, in
    seconds), and "lag" (the age of the newest event passed, in seconds).
    """

    #: Events that it passes over without a result before it stores its cursor.
    stride = BATCH
    #: Whether it begins a cursor that is missing.  That of a shard is missing if there are others.
    creates_cursor = True
    #: The events for which `wants` is true, for the tail to find; None if only `wants` can tell.
    interest: Interest | None = None

    def __init__(self, events: Log, name: str, *, metrics: Metrics | None = None) -> None:
        self.name = name
        self._log = events
        self.metrics = metrics
        #: How long its steps may take, and chance.
        self.tempo = Tempo()
        self._waiter = Waiter(self.wants, self.interest)
        self._position: int | None = None  # None: this process is not the owner
        self._committed = 0
        self._store_at: datetime | None = None  # when to store the cursor all the same
        self._known_up_to = 0  # the newest id when this process became the owner
        self._losses = 0  # of connections, see `Log.refresh`
        self._parked: dict[int, Parked] = {}
        self._looked = datetime.min.replace(tzinfo=UTC)  # for events to retry at once
        self._ahead: list[Event] = []  # events that were read, and not handled yet
        self._thread: threading.Thread | None = None
        self._over = False  # the thread
        self._stop = Stop()
        self._stop_by = math.inf  # on the monotonic clock

    # Methods that each kind of consumer defines.

    def wants(self, event: Event) -> bool:
        """Return whether to handle this event."""
        raise NotImplementedError

    def select(self, events: Sequence[Event]) -> Sequence[Event]:
        """Return those that `handle` is given: by default, the events that it wants."""
        if self.interest is not None:
            found = self._log.tail.among(self.interest, events)
            if found is not None:
                return found
        return [event for event in events if self.wants(event)]

    def handle(self, events: Sequence[Event], batch: Batch) -> None:
        """Put into `batch` what follows from these events, and from the time that has passed."""
        raise NotImplementedError

    def retry(self, parked: Parked, batch: Batch) -> None:
        """Make another attempt at a parked event."""
        raise NotImplementedError

    def can_retry(self, parked: Parked) -> bool:
        """Return whether an attempt makes sense now, if it is due."""
        return True

    def due_when_claimed(self, parked: Parked) -> bool:
        """Return whether it is due at once in a new owner: the code may be right again (A2)."""
        return True

    def due(self) -> datetime | None:
        """Return when there will be something to do even if no event comes."""
        return None

    def blocked(self) -> datetime | None:
        """Return the time before which this consumer handles no events; None if there is none."""
        return None

    def claimed(self) -> None:
        """Load what is kept in memory: this process has become the owner."""

    def forget(self) -> None:
        """Forget everything that is in memory."""

    def executing(self) -> Sequence[str]:
        """Return the keys of the requests that are executed just now."""
        return ()

    # The loop.

    def step(self) -> int:
        """Handle one batch and commit it.  Returns how much it did, 0 if nothing.

        It waits neither for events nor for another owner.  It raises `LostOwnership`, `Unavailable`
        or any other error after forgetting its state; the next step starts again from the cursor.
        Call all steps from one thread.
        """
        self._log.poll()
        return self._step(wait=0)

    def _step(self, wait: float) -> int:
        try:
            if (losses := self._log.refresh()) != self._losses:
                self._forget()
                self._losses = losses
            if self._position is None and not self._claim(wait):
                return 0
            before = self._position or 0
            # The rest of the last read is not read again: it may be 8 MiB each time.
            events = self._ahead or self._log.read(before)
            late = self._store_at is not None and self._store_at <= self._log.now()
            batch = Batch(events[-1].id if events else before)
            batch.handled = late and self._committed < batch.position
            if late and not batch.handled:
                self._store_at = None
            self._retry_due(batch)
            wanted = self.select(events)
            if batch.full():
                wanted, batch.position = [], before
            self.handle(wanted, batch)
            attempts = self._commit(batch)
            if wanted and self._store_at is None and self._committed < batch.position:
                self._store_at = self._log.now() + _UNSTORED
            passed = bisect_right(events, batch.position, key=_id)
            self._ahead = events[passed:]
        except BaseException:
            self._forget()
            raise
        self._measure(events[:passed], batch, attempts)
        return batch.position - before + batch.size()

    def _claim(self, wait: float) -> bool:
        cursor = self._log.claim(self.name, wait, create=self.creates_cursor)
        if cursor is None:
            return False
        self._position = self._committed = cursor
        self._ahead, self._store_at = [], None
        self._known_up_to = self._log.newest()
        self._looked = now = self._log.now()
        self._parked = {}
        for parked in self._log.parked(self.name):
            if self.due_when_claimed(parked):
                parked.next_at = min(parked.next_at, now)
            self._parked[parked.event_id] = replace(parked, error="")
        self.claimed()
        return True

    def _retry_due(self, batch: Batch) -> None:
        if not self._parked:
            return
        now = self._log.now()
        self._look(now)
        window = self.tempo.window()
        for parked in [p for p in self._parked.values() if p.next_at <= now][:BATCH]:
            if self.can_retry(parked):
                self.retry(parked, batch)
                if not window.left() or batch.full():
                    return

    def _look(self, now: datetime) -> None:
        """Take over the times of parked events that somebody has made due at once (Q2).

        Nobody else makes a stored time earlier, and no commit of this process was later than it
        knows, so an event that is due in the database is due.
        """
        if timedelta(0) <= now - self._looked < self.tempo.look:  # the clock may have gone back
            return
        after = 0
        while due := self._log.due_parked(self.name, after):
            for event_id in due:
                if (parked := self._parked.get(event_id)) is not None:
                    parked.next_at = min(parked.next_at, now)
            after = due[-1]
        self._looked = now

    def answered(self, requests: Sequence[Event]) -> set[Key]:
        """Return those requests that have a response already (A4)."""
        return self._log.answered(requests, self._known_up_to)

    def park(
        self,
        batch: Batch,
        event_id: int,
        key: Key,
        attempts: int,
        error: BaseException,
        pause: timedelta | None = None,
        report: bool = True,
        *,
        traceback: bool = True,
    ) -> None:
        """Park an event whose attempt failed, until `pause` or the usual backoff is over (A2).

        The error is logged if `report`, the first one with a traceback unless told otherwise.
        """
        text = error_text(error)
        next_at = self._log.now() + (pause or FOR_EVER.pause(attempts, self.tempo.uniform))
        batch.parked.append(Parked(event_id, str(key), attempts, next_at, text))
        if report:
            log.error(
                "%s: attempt %d of %s failed: %s",
                self.name,
                attempts,
                key,
                text,
                exc_info=error if attempts == 1 and traceback else None,
            )

    def _commit(self, batch: Batch) -> Attempts:
        old, attempts = self._committed, batch.attempts(self._parked)
        idle = not batch.size() and not batch.handled
        # A consumer that only passes events over stores its cursor now and then (P10, P21).
        if not (idle and batch.position - old < self.stride):
            rows = (batch.parked, batch.unparked, batch.also, batch.steps)
            self._log.commit(batch.events, Move(self.name, old, batch.position, *rows, attempts))
            self._committed, self._store_at = batch.position, None
        self._position = batch.position
        for event_id in batch.unparked:
            self._parked.pop(event_id, None)
        for parked in batch.parked:
            self._parked[parked.event_id] = replace(parked, error="")  # the row has it
        return attempts

    def _measure(self, passed: Sequence[Event], batch: Batch, attempts: Attempts) -> None:
        if self.metrics is not None and (passed or batch.size() or attempts.failed):
            lag = lag_of(passed, self._log.now())
            told = figures(len(passed), len(batch.events), attempts, lag)
            self.metrics = measured(self.metrics, self.name, told)

    def _forget(self) -> None:
        if self._position is not None:
            self._position = None
            self._parked, self._ahead = {}, []
            self.forget()
            self._log.unlock(self.name)

    def restart(self, events: Log) -> None:
        """Forget everything in memory, and go on from the cursor with this log."""
        self._forget()
        self._log, self._losses = events, events.losses

    def parked(self) -> list[Parked]:
        """Return what is parked now, with attempts, next attempt and error (A2, R4)."""
        return list(self._log.parked(self.name))

    # The thread.

    def start(self) -> None:
        """Step in a thread until `stop`.  Does nothing if the thread runs already."""
        if self._thread is None:
            self._log.tail.keep_polling(self._log.poll)
            self._stop.clear()
            self._stop_by = math.inf
            self._over = False
            self._thread = threading.Thread(target=self._work, name=self.name, daemon=True)
            self._thread.start()

    def stop(self, timeout: float | None = None) -> bool:
        """End after the current step, and let others take over at once (L7).

        Waits up to `timeout` seconds.  Returns whether the thread has ended.
        """
        self.ask_to_stop(timeout)
        if self._thread is None:
            self.give_up()
        elif self._thread is not threading.current_thread():
            window = Window(math.inf if timeout is None else timeout)
            # Python takes a thread for dead if Ctrl-C has interrupted a `join`.
            while self.is_running():
                if not window.left():
                    return False
                time.sleep(_JOIN)
            self._thread = None
        return True

    def ask_to_stop(self, timeout: float | None = None) -> None:
        """Make the thread end, without waiting for it: within `timeout` seconds if it can."""
        self._log.refuse_reentry()
        if timeout is not None:
            self._stop_by = min(self._stop_by, time.monotonic() + timeout)
        self._stop.set()
        self.wake()

    def store_soon(self, end: int) -> bool:
        """Store the cursor with the next step, unless it is at the id `end`.

        Returns whether a thread is going to.
        """
        if self._position is not None and self._committed >= end:
            return False
        self._store_at = self._log.now()
        self.wake()
        return self._thread is not None

    def wake(self) -> None:
        """Make the thread look for something to do."""
        self._log.tail.wake(self._waiter)

    def _work(self) -> None:
        try:
            self._run()
        finally:
            self._over = True

    def _run(self) -> None:
        failures = 0
        while not self._stop.is_set():
            try:
                busy = self._step(_STANDBY)
                failures = 0
                if self._position is not None and (not busy or self.blocked() is not None):
                    self._wait(self._position)
            except LostOwnership as error:
                log.warning("%s: standing by", error)
            except Exception as error:
                if not isinstance(error, Unavailable):  # the database warns of that itself
                    log.exception("%s failed and starts again from its cursor", self.name)
                failures += 1
                pause = min(_PAUSE_MIN * 2 ** min(failures, 20), _PAUSE_MAX)
                self._stop.wait(pause * random.uniform(0.5, 1.0))
            except BaseException:
                log.critical("%s ends", self.name, exc_info=True)
                break
        self._log.tail.leave(self._waiter)
        self.give_up()
        self._log.leave()

    def _wait(self, position: int) -> None:
        if (until := self.blocked()) is not None:
            self._log.tail.rest(self._waiter, self._seconds_to(until))
        else:
            self._log.tail.wait(self._waiter, position, self._until_due())

    def is_owner(self) -> bool:
        """Return whether this process owns the consumer's name."""
        return self._position is not None

    def is_running(self) -> bool:
        """Return whether its thread runs."""
        thread = self._thread
        return thread is not None and thread.ident is not None and not self._over

    def is_leaving(self) -> bool:
        """Return whether its thread runs, and was asked to end."""
        return self._stop.is_set() and self.is_running()

    def reap(self) -> bool:
        """Let it start again if its thread has ended.  Returns False if that ended unasked."""
        if self._thread is None or self.is_running():
            return True
        asked = self._stop.is_set()
        if asked:
            self._thread = None
        return asked

    def is_ready(self) -> bool:
        """Return whether a step has anything to do now."""
        if self._position is None or self._position < self._log.tail.end:
            return True
        if self._parked:
            self._look(self._log.now())
        due = self.next_due()
        return due is not None and due <= self._log.now()

    def next_due(self) -> datetime | None:
        """Return when a step will have something to do even if no event comes; None for never."""
        moments = [each.next_at for each in self._parked.values() if self.can_retry(each)]
        moments += [own for own in (self.due(), self._store_at) if own is not None]
        return min(moments, default=None)

    def _until_due(self) -> float | None:
        if (due := self.next_due()) is None:
            return None
        if any(map(self.can_retry, self._parked.values())):
            due = min(due, self._looked + LOOK)  # somebody may make them due at once (Q2)
        return self._seconds_to(due)

    def _seconds_to(self, moment: datetime) -> float:
        """The time to wait for a moment, bounded, since the clock may step or the machine sleep."""
        return min(max(0.0, (moment - self._log.now()).total_seconds()), _WAIT)

    def give_up(self) -> None:
        """Store the cursor, and let others take over at once (L7)."""
        if (position := self._position) is None:
            self._log.disown(self.name)
            return
        self._position = None
        self.forget()
        try:
            self._log.release(self.name, self._committed, position)
        except DatabaseError as error:
            log.warning("%s could not be released, its lock or lease ends it: %s", self.name, error)


def error_text(error: BaseException) -> str:
    """Write any error as text that any column, call and log can take: `LONGEST_TEXT` bytes."""
    return clean(f"{type(error).__name__}: {text_of(error)}")


class Window:
    """The time that is left: by default, that which a step has before it must commit."""

    def __init__(self, seconds: float = WINDOW) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """The seconds that are left; 0 when the time is over."""
        return max(0.0, self._end - time.monotonic())


class Tempo:
    """How long a step may take, how often a consumer looks, and chance."""

    look = LOOK

    def window(self) -> Window:
        """Begin the time that a step has before it must commit."""
        return Window()

    def uniform(self, low: float, high: float) -> float:
        """Draw a number, for the jitter of a backoff."""
        return random.uniform(low, high)


class Handler(Consumer):
    """A consumer of your own: a function, called with each event in order, at least once (L5).

    If the function raises, it is called again with the same event after a backoff.  Later events
    wait, since their order may matter.
    """

    def __init__(
        self,
        events: Log,
        name: str,
        function: Callable[[Event], object],
        wants: Callable[[Event], bool],
        *,
        metrics: Metrics | None = None,
    ) -> None:
        self._wants = wants
        self._function = function
        self._failures = 0
        self._blocked: datetime | None = None
        super().__init__(events, name, metrics=metrics)

    def wants(self, event: Event) -> bool:
        """As in `Consumer`."""
        return self._wants(event)

    def blocked(self) -> datetime | None:
        """As in `Consumer`."""
        return self._blocked

    def claimed(self) -> None:
        """As in `Consumer`.  Somebody may have moved the cursor past the event that failed."""
        self._failures, self._blocked = 0, None

    def handle(self, events: Sequence[Event], batch: Batch) -> None:
        """As in `Consumer`."""
        if self._blocked is not None and self._log.now() < self._blocked:
            batch.position = self._position or 0
            return
        window = self.tempo.window()
        for count, event in enumerate(events, 1):
            batch.retried += self._failures > 0
            try:
                self._function(event)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                self._fail(event, error)
                batch.failed += 1
                batch.position = event.id - 1
                batch.handled = True  # the commit finds out whether we are still the owner
                return
            batch.handled = True
            self._failures, self._blocked = 0, None
            if count < len(events) and (self._stop.is_set() or not window.left()):
                batch.position = event.id
                return

    def _fail(self, event: Event, error: BaseException) -> None:
        self._failures += 1
        self._blocked = self._log.now() + FOR_EVER.pause(self._failures, self.tempo.uniform)
        log.error(
            "%s: attempt %d of event %d (%s) failed",
            self.name,
            self._failures,
            event.id,
            event.key,
            exc_info=error,
        )
