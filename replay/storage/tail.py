"""The newest events, kept in memory once for all readers of a process, and where readers wait.

Invariants:

- The events in the tail have no gap, so a reader finds its place by counting.  Where ids were
  pruned the tail begins anew behind them.  Readers of older events ask the database (L9).
- No wake-up is lost (P1): `wait` looks at what has come since the reader's last look, under the
  same lock under which others add events and wake readers.
- An interrupted thread (Ctrl-C) leaves the tail usable for the others.

Left to `replay.log`: reading what other processes commit.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from operator import attrgetter
from queue import Empty, SimpleQueue

from .database import Unavailable, entered
from .dispatch import Dispatch, Interest
from .event import Event

log = logging.getLogger("replay")

BATCH = 1000  # events that one read returns at most
BYTES = 8 * 1024 * 1024  # and bytes, unless the first event alone is larger
#: Two of the largest transactions: a reader that is a little late must not fall behind at once.
_EVENTS = 25_000
_BYTES = 32 * 1024 * 1024
_size = attrgetter("size")
#: Seconds between two polls of the database.
PAUSE_MIN, PAUSE_MAX = 0.001, 0.05


def fitting(sizes: Iterable[int]) -> int:
    """Return how many of these things, from the first on, one read returns: at least one (L5)."""
    total = count = 0
    for count, each in enumerate(sizes, 1):
        total += each
        if total > BYTES:
            return max(1, count - 1)
    return count


class Alarm:
    """Wakes the one thread that waits for it.

    `threading.Event` and `threading.Condition` will not do: they are written in Python, and a
    thread that is interrupted (Ctrl-C) inside them leaves them locked for ever.
    """

    def __init__(self) -> None:
        self._rings: SimpleQueue[None] = SimpleQueue()

    def ring(self) -> None:
        """Wake the thread, now or as soon as it waits."""
        if self._rings.empty():  # else rings would pile up while nobody waits
            self._rings.put(None)

    def wait(self, timeout: float | None) -> bool:
        """Wait for a ring, at most `timeout` seconds.  Returns whether there was one."""
        try:
            self._rings.get(timeout=timeout)
        except Empty:
            return False
        while not self._rings.empty():
            self._rings.get()
        return True


class Waiter:
    """A thread that waits for events: what it wants, and how far it has read."""

    __slots__ = ("alarm", "inbox", "interest", "position", "signals", "wants", "woken")

    def __init__(self, wants: Callable[[Event], bool], interest: Interest | None = None) -> None:
        self.alarm = Alarm()
        self.wants = wants
        self.interest = interest  # None: `wants` decides
        self.position = 0
        self.signals = False  # whether new signals wake it too
        self.inbox = False  # whether rows in the inbox wake it too
        self.woken = False


class Tail:
    """The newest events without a gap, decoded once for all readers of this process.

    The events that this process commits are added at once if their ids follow the end.  `Log.poll`
    reads all others.  A waiter is woken when there is an event that it wants, or when it is about
    to fall behind the tail.  It is not woken for every event: with many consumers that would cost
    more than the work itself.
    """

    def __init__(self, end: int) -> None:
        self.lock = threading.RLock()
        self.end = end  # the id of the newest event in the tail
        self.signals = 0
        self.inbox = False  # whether it had rows to move at the last look
        self._events: list[Event] = []
        self._dispatch = Dispatch()
        self._early: dict[int, Event] = {}  # own ones whose predecessors are missing
        self._sums = [0]  # the bytes before each event, and at last those of all
        self._waiters: set[Waiter] = set()
        self._left: deque[Waiter] = deque()  # of those, to be forgotten
        self._poller: threading.Thread | None = None
        self._poke = Alarm()
        self._heard = False  # whether another process has said that it has committed
        self._failing = False  # whether the last poll failed
        self.closed = False

    def reset(self, end: int) -> None:
        """Forget all events, and go on after id `end`."""
        with entered(self.lock), self._interruptible():
            self.signals = 0
            self._early.clear()
            self._begin_after(end)

    def _begin_after(self, end: int) -> None:
        self._events, self._sums, self.end = [], [0], end
        self._dispatch.clear()
        self._early = {id: event for id, event in self._early.items() if id > end}
        self._wake_all()

    def drop(self, floor: int) -> None:
        """Forget the events up to id `floor`, which may have been pruned meanwhile (L9)."""
        with entered(self.lock):
            self._cut(max(0, len(self._events) - max(0, self.end - floor)))

    def slice(self, after: int, limit: int) -> list[Event] | None:
        """Return up to `limit` events after id `after`, and at most `BYTES` of them.

        Returns None if the tail begins later.
        """
        with entered(self.lock):
            skip, sums = len(self._events) - (self.end - after), self._sums
            if skip < 0:
                return None
            if skip >= len(self._events):
                return []
            end = bisect_right(sums, sums[skip] + BYTES, skip + 2) - 1
            return self._events[skip : min(end, skip + limit)]

    def among(self, interest: Interest, events: Sequence[Event]) -> Sequence[Event] | None:
        """Return what is of interest of these events, which `slice` has given.

        Returns None if they are others, or the tail has forgotten them.
        """
        with entered(self.lock):
            if events and self._has(events):
                return self._of_interest(interest, events[0].id, events[-1].id)
            return None

    def _has(self, events: Sequence[Event]) -> bool:
        """Whether these are a part of the tail; by identity, since an id may be given again."""
        first = len(self._events) - (self.end - events[0].id) - 1
        last = first + len(events) - 1
        if first < 0 or last >= len(self._events):
            return False
        return self._events[first] is events[0] and self._events[last] is events[-1]

    def _of_interest(self, interest: Interest, first: int, last: int) -> Sequence[Event]:
        return self._dispatch.between(interest, first, last, self._events)

    def since(self, after: int) -> list[Event] | None:
        """Return all events after id `after`, of any size, or None as in `slice`."""
        with entered(self.lock):
            skip = len(self._events) - (self.end - after)
            return self._events[skip:] if skip >= 0 else None

    def extend(self, events: Iterable[Event]) -> None:
        """Add events that were read after the end; those that are in the tail are passed over."""
        with entered(self.lock), self._interruptible():
            new = [event for event in events if event.id > self.end]
            if new and new[-1].id - self.end > len(new):  # ids in between were pruned
                self._begin_after(new[-1].id)
            else:
                self._put(new)
            for event in new if self._early else ():
                self._early.pop(event.id, None)
            self._put_early()

    def join(self, events: list[Event]) -> None:
        """Add what this process has just committed, or poll soon where that does not fit.

        It does not fit if others have committed in between, or if `events` is empty because their
        ids are unknown.  Events that come before their predecessors are kept until these come: a
        server does not send a process its own events, so a poll would wait for others (L1).
        """
        with entered(self.lock), self._interruptible():
            if events and events[0].id == self.end + 1 and self._dense(events):
                self._put(events)
            elif not events or events[-1].id > self.end:
                self._early.update((event.id, event) for event in events)
                if len(self._early) > _EVENTS or sum(map(_size, self._early.values())) > _BYTES:
                    self._early.clear()  # they are read
                self._poke.ring()
            self._put_early()

    def _put_early(self) -> None:
        """Add the events that have come early and whose turn it is now."""
        if not self._early:
            return
        found: list[Event] = []
        while (event := self._early.get(self.end + len(found) + 1)) is not None:
            found.append(event)
        self._put(found)
        for event in found:
            self._early.pop(event.id, None)

    @staticmethod
    def _dense(events: list[Event]) -> bool:
        return events[-1].id - events[0].id == len(events) - 1

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        try:
            yield
        except BaseException:  # perhaps before every waiter was woken
            self._wake_all()
            raise

    def _put(self, events: list[Event]) -> None:
        if not events:
            return
        # Computed first: Python runs no signal handler between assignments that call nothing.
        sums = list(accumulate(map(_size, events), initial=self._sums[-1]))
        self._events += events
        self._sums[-1:] = sums
        self.end = events[-1].id
        if len(self._events) > 2 * _EVENTS or sums[-1] - self._sums[0] > _BYTES:
            self._shorten()
        found = self._dispatch.add(events)
        self._forget_left()
        for waiter in self._waiters:
            if not waiter.woken:
                some = events if waiter.interest is None else found.get(waiter.interest)
                if self._concerns(waiter, some or ()):
                    self._wake(waiter)

    def _shorten(self) -> None:
        """Forget the oldest events, down to half of what the tail may hold."""
        too_large = bisect_left(self._sums, self._sums[-1] - _BYTES // 2)
        self._cut(max(len(self._events) - _EVENTS, too_large))

    def _cut(self, count: int) -> None:
        """Forget so many of the oldest events."""
        if not count:
            return
        self._dispatch.cut(self._events[count - 1].id)
        del self._events[:count]
        del self._sums[:count]

    def _concerns(self, waiter: Waiter, events: Sequence[Event]) -> bool:
        if self.end - waiter.position >= BATCH:
            return True
        if waiter.interest is not None:
            return len(events) > 0
        try:
            return any(map(waiter.wants, events))
        except Exception:  # of a user's shard: the waiter has to meet it, not this thread
            return True

    def saw_signals(self, newest: int) -> bool:
        """Note the id of the newest signal, and wake those who take signals if it is new.

        Returns whether it is.
        """
        with entered(self.lock), self._interruptible():
            changed, self.signals = newest > self.signals, max(newest, self.signals)
            for waiter in self._waiters if changed else ():
                if waiter.signals:
                    self._wake(waiter)
        return changed

    def saw_inbox(self, inbox: bool) -> None:
        """Note whether the inbox has rows to move, and wake who moves them as long as it has."""
        with entered(self.lock), self._interruptible():
            self.inbox = inbox
            for waiter in self._waiters if inbox else ():
                if waiter.inbox:
                    self._wake(waiter)

    def wake_all(self) -> None:
        """Wake every waiter."""
        with entered(self.lock):
            self._wake_all()

    def wake(self, waiter: Waiter) -> None:
        """Wake one waiter."""
        with entered(self.lock):
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
        """Wait for something after id `position` that the waiter wants, at most `timeout` seconds.

        It returns at once if such an event came since the waiter's last look (P1).
        """
        with entered(self.lock):
            waiter.position = position
            self._forget_left()
            self._waiters.add(waiter)
            if waiter.interest is not None:
                self._dispatch.open(waiter.interest)
            unseen = len(self._events) - (self.end - position)
            if unseen < 0:  # it reads the database and stands before a gap: it has to look again
                timeout = PAUSE_MAX
            elif self.closed or self._concerns(waiter, self._unseen(waiter, unseen)):
                self._wake(waiter)
        self._await_ring(waiter, timeout)

    def _unseen(self, waiter: Waiter, count: int) -> Sequence[Event]:
        """The events of the tail behind the first `count`, or those of them of interest."""
        if waiter.interest is None:
            return self._events[count:]
        return self._of_interest(waiter.interest, waiter.position + 1, self.end)

    def rest(self, waiter: Waiter, timeout: float) -> None:
        """Wait for `wake` alone, whatever comes, at most `timeout` seconds."""
        with entered(self.lock):
            self._waiters.discard(waiter)
        self._await_ring(waiter, timeout)

    def _await_ring(self, waiter: Waiter, timeout: float | None) -> None:
        try:
            waiter.alarm.wait(timeout)
        finally:
            with entered(self.lock):  # only after the thread that woke it has noted that it did
                waiter.woken = False

    def leave(self, waiter: Waiter) -> None:
        """Forget a waiter that will not wait again.

        This takes no lock: the garbage collector may close a stream in a thread that holds it.
        """
        self._left.append(waiter)

    def _forget_left(self) -> None:
        while self._left:
            self._waiters.discard(self._left.popleft())

    def keep_polling(self, poll: Callable[[float], bool]) -> None:
        """Have a thread call `poll` from now on: often while others commit, rarely otherwise."""
        with entered(self.lock):
            if self._poller is None and not self.closed:
                poller = threading.Thread(
                    target=self._poll_loop, args=(poll,), name="replay-poll", daemon=True
                )
                poller.start()
                self._poller = poller

    def is_poller(self) -> bool:
        """Return whether the calling thread is the one that polls."""
        return threading.current_thread() is self._poller

    def hear(self) -> None:
        """Poll at once, because another process has committed (L12).

        It does not while polls fail: news, true or forged, must not have it try and log all the
        time.
        """
        if not self._failing:
            self._heard = True
            self._poke.ring()

    def _poll_loop(self, poll: Callable[[float], bool]) -> None:
        pause = PAUSE_MIN
        while not self.closed:
            grace = self._rest(pause)
            try:
                pause = PAUSE_MIN if poll(grace) else min(pause * 1.5, PAUSE_MAX)
                self._failing = False
            except Unavailable:
                pause, self._failing = min(max(pause, PAUSE_MAX) * 2, 5.0), True
            except Exception:
                pause, self._failing = 5.0, True
                log.exception("reading the log failed, trying again in %.0f s", pause)

    def _rest(self, pause: float) -> float:
        """Wait until the next poll; return for how long that one waits for own commits."""
        begun = time.monotonic()
        if self._poke.wait(pause) and not self._heard:
            time.sleep(PAUSE_MIN)  # an earlier commit of this process is probably on its way
        elif self._heard:
            # However often anybody sends news, the database gets its pause.
            time.sleep(max(0.0, begun + PAUSE_MIN - time.monotonic()))
        heard, self._heard = self._heard, False
        # Where little happens, what was heard of is from another process.
        return 0.0 if heard and pause > PAUSE_MIN else PAUSE_MIN

    def close(self) -> None:
        """Stop polling and wake everybody."""
        with entered(self.lock):
            self.closed = True
        self._poke.ring()
        self.wake_all()
        if self._poller is not None:
            self._poller.join()
