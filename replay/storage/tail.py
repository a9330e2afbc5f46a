"""The newest events, in memory: one copy for all readers of a process, and where they wait.

Invariants:

- The events in the tail have no hole, so a reader finds his place by counting.
- Nobody sleeps while there is something for him: what has come since his last look is looked at
  under the lock under which others ring for him (P1).
- A thread that is interrupted here (Ctrl-C) leaves all as it should be for the others.

Left to `log`: reading what other processes commit.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from queue import Empty, SimpleQueue

from .database import Unavailable
from .event import Event

log = logging.getLogger("replay")

BATCH = 1000  # events read at a time
_EVENTS = 10_000
_APART = 100
_BYTES = 32 * 1024 * 1024
#: Seconds between two looks for other processes' events.
PAUSE_MIN, PAUSE_MAX = 0.001, 0.05


class Alarm:
    """Wakes the one thread that waits for it.

    Not an Event or a Condition: those are written in Python, and a thread that is interrupted
    (Ctrl-C) in the middle of them leaves them locked, for all others to wait for ever.
    """

    def __init__(self) -> None:
        self._rings: SimpleQueue[None] = SimpleQueue()

    def ring(self) -> None:
        """Wake the thread, now or as soon as it waits."""
        self._rings.put(None)

    def wait(self, timeout: float | None) -> bool:
        """Wait until it rings, at most `timeout` seconds; whether it did since the last time."""
        try:
            self._rings.get(timeout=timeout)
        except Empty:
            return False
        while not self._rings.empty():
            self._rings.get()
        return True


class Waiter:
    """Somebody who waits for events: what he wants, and how far he has read."""

    __slots__ = ("alarm", "position", "signals", "wants", "woken")

    def __init__(self, wants: Callable[[Event], bool]) -> None:
        self.alarm = Alarm()
        self.wants = wants
        self.position = 0
        self.signals = False  # whether he wants to know of signals too
        self.woken = False


class Tail:
    """The newest events, without a hole, in memory: decoded once for all readers of this process.

    The events that this process commits are put in directly when their ids join on to the end;
    `Log.poll` reads what others commit.  Those who wait are woken when there is something for them,
    or when they are about to fall out of the tail: not for each event, since with many consumers
    that would cost more than the work itself.
    """

    def __init__(self, end: int, newest: int) -> None:
        self.lock = threading.Lock()
        self.end = end
        self.newest = newest  # of the ids that are known to exist; beyond a hole they are not here
        self.signals = 0
        self._events: list[Event] = []
        self._bytes = 0
        self._apart: dict[int, list[Event]] = {}  # own events whose predecessors are not here yet
        self._waiters: set[Waiter] = set()
        self._poller: threading.Thread | None = None
        self._poke = Alarm()
        self._closed = False

    def reset(self, end: int, newest: int) -> None:
        """Forget everything, and go on behind `end`, of a log that goes up to `newest`."""
        with self.lock, self._interruptible():
            self._events, self._bytes, self._apart = [], 0, {}
            self.end, self.newest, self.signals = end, newest, 0
            self._wake_all()

    def slice(self, after: int, limit: int) -> list[Event] | None:
        """Up to `limit` events behind id `after`; None if the tail begins later than that."""
        with self.lock:
            skip = len(self._events) - (self.end - after)
            return self._events[skip : skip + limit] if skip >= 0 else None

    def since(self, after: int) -> list[Event] | None:
        """All events behind id `after`; None if the log is known to have others, too."""
        with self.lock:
            skip = len(self._events) - (self.end - after)
            return self._events[skip:] if skip >= 0 and self.end >= self.newest else None

    def join(self, events: list[Event]) -> None:
        """Put in what this process has just committed; have the rest polled for soon."""
        with self.lock, self._interruptible():
            if events:
                self.newest = max(self.newest, events[-1].id)
            if events and events[0].id > self.end:
                if len(self._apart) >= _APART:
                    self._apart.clear()  # to be read from the database, if anybody asks for it
                if events[-1].id - events[0].id == len(events) - 1:
                    self._apart[events[0].id] = events
                self._attach()
            if not events or self._apart or events[-1].id > self.end:
                self._poke.ring()

    def extend(self, events: Iterable[Event]) -> None:
        """Put in what was read behind the end."""
        with self.lock, self._interruptible():
            self._put([event for event in events if event.id > self.end])
            for first in [first for first in self._apart if first <= self.end]:
                del self._apart[first]
            self._attach()

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        try:
            yield
        except BaseException:  # perhaps before all were woken who should be
            self._wake_all()
            raise

    def _attach(self) -> None:
        while (next := self._apart.pop(self.end + 1, None)) is not None:
            self._put(next)

    def _put(self, events: list[Event]) -> None:
        if not events:
            return
        self._events += events
        self.end = events[-1].id
        self._bytes += sum(len(event.raw) for event in events if event.raw)
        if len(self._events) > 2 * _EVENTS or self._bytes > _BYTES:
            self._events = self._events[len(self._events) // 2 :]
            self._bytes = sum(len(event.raw) for event in self._events if event.raw)
        for waiter in self._waiters:
            if not waiter.woken and self._concerns(waiter, events):
                self._wake(waiter)

    def _concerns(self, waiter: Waiter, events: Iterable[Event]) -> bool:
        try:
            return self.end - waiter.position >= BATCH or any(map(waiter.wants, events))
        except Exception:  # of a user's shard: it is the waiter who shall meet it, not this thread
            return True

    def saw(self, newest: int) -> None:
        """The newest event's id."""
        with self.lock:
            self.newest = max(self.newest, newest)

    def saw_signals(self, newest: int) -> bool:
        """The newest signal's id; whether it is new: then those who take signals are woken."""
        with self.lock, self._interruptible():
            changed, self.signals = newest > self.signals, max(newest, self.signals)
            for waiter in self._waiters if changed else ():
                if waiter.signals:
                    self._wake(waiter)
        return changed

    def wake_all(self) -> None:
        """Have everybody look."""
        with self.lock:
            self._wake_all()

    def wake(self, waiter: Waiter) -> None:
        """Have one look."""
        with self.lock:
            self._wake(waiter)

    def _wake_all(self) -> None:
        for waiter in self._waiters:
            self._wake(waiter)

    @staticmethod
    def _wake(waiter: Waiter) -> None:
        if not waiter.woken:
            waiter.alarm.ring()
            waiter.woken = True

    def wait(self, waiter: Waiter, position: int, timeout: float | None) -> None:
        """Wait for something behind `position` that the waiter wants, at most `timeout` seconds.

        What came between the waiter's last look and this call counts: no wake-up is lost (P1).
        """
        with self.lock:
            waiter.position = position
            self._waiters.add(waiter)
            unseen = len(self._events) - (self.end - position)
            if unseen < 0:  # it reads the database, and met a hole there: it has to look again
                timeout = PAUSE_MAX
            elif self._closed or self._concerns(waiter, self._events[unseen:]):
                self._wake(waiter)
        try:
            waiter.alarm.wait(timeout)
        finally:
            with self.lock:  # not before who woke it has noted that it did
                waiter.woken = False

    def leave(self, waiter: Waiter) -> None:
        """The waiter will not wait again."""
        with self.lock:
            self._waiters.discard(waiter)

    def keep_polling(self, poll: Callable[[float], bool]) -> None:
        """Have a thread call `poll` from now on, often while others write, else seldom."""
        with self.lock:
            if self._poller is None and not self._closed:
                poller = threading.Thread(
                    target=self._poll_loop, args=(poll,), name="replay-poll", daemon=True
                )
                poller.start()
                self._poller = poller

    def _poll_loop(self, poll: Callable[[float], bool]) -> None:
        pause = PAUSE_MIN
        while not self._closed:
            if self._poke.wait(pause):
                time.sleep(PAUSE_MIN)  # an earlier commit of this process is probably on its way
            try:
                pause = PAUSE_MIN if poll(PAUSE_MIN) else min(pause * 1.5, PAUSE_MAX)
            except Unavailable:
                pause = min(max(pause, PAUSE_MAX) * 2, 5.0)
            except Exception:
                pause = 5.0
                log.exception("reading the log failed, trying again in %.0f s", pause)

    def close(self) -> None:
        """Stop polling and let everybody go."""
        with self.lock:
            self._closed = True
        self._poke.ring()
        self.wake_all()
        if self._poller is not None:
            self._poller.join()
