"""The newest events in memory, and where their readers wait: without a database."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest

import replay.storage.tail
from replay import Event, EventType, Key
from replay.storage.database import Unavailable
from replay.storage.tail import PAUSE_MAX, PAUSE_MIN, Tail, Waiter
from tests.support import START

PATIENCE = 20.0  # seconds until a thread that should have been woken counts as forgotten


def event(id: int, run: str = "r", size: int = 0) -> Event:
    """An event of a run, with a message of so many bytes."""
    return Event(id, EventType.RUN_CREATED, Key("n", "w", run), START, b"x" * size)


def events(*ids: int, run: str = "r", size: int = 0) -> list[Event]:
    """Events with these ids."""
    return [event(id, run, size) for id in ids]


def ids(found: list[Event] | None) -> list[int] | None:
    """The ids of events."""
    return None if found is None else [event.id for event in found]


def held(tail: Tail) -> int:
    """The bytes that a tail counts."""
    assert len(tail._sums) == len(tail._events) + 1
    return tail._sums[-1] - tail._sums[0]


def of_run(run: str) -> Callable[[Event], bool]:
    """What a waiter wants who waits for the events of one run."""
    return lambda event: event.key.run == run


def anything(event: Event) -> bool:
    """What a waiter wants who wants all."""
    return True


class Asleep(Exception):
    """A waiter has fallen asleep."""


def asleep(tail: Tail, waiter: Waiter, position: int, timeout: float | None = None) -> Any:
    """With which timeout a waiter falls asleep; "awake" if it does not."""

    def wait(timeout: float | None) -> bool:
        if not waiter.woken:
            raise Asleep(timeout)
        return True

    waiter.alarm.wait = wait  # type: ignore[method-assign]
    try:
        tail.wait(waiter, position, timeout)
    except Asleep as fallen:
        return fallen.args[0]
    return "awake"


# Reading.


@pytest.mark.parametrize(
    ("after", "limit", "found"),
    [
        (0, 100, None),  # the tail begins later
        (3, 100, None),
        (4, 100, [5, 6, 7]),
        (5, 100, [6, 7]),
        (4, 2, [5, 6]),
        (6, 100, [7]),
        (7, 100, []),
        (9, 100, []),  # a cursor ahead of this process's knowledge
        (2**63 - 1, 100, []),
    ],
)
def test_a_reader_finds_his_place(after: int, limit: int, found: list[int] | None) -> None:
    """What follows an id, up to a limit; None where the database has to be asked."""
    tail = Tail(4)
    tail.extend(events(5, 6, 7))
    assert ids(tail.slice(after, limit)) == found


def test_an_empty_tail_has_nothing_new() -> None:
    """L1: a process that starts on an empty log reads from its first event on."""
    tail = Tail(0)
    assert tail.slice(0, 100) == []
    tail.extend([])
    assert tail.slice(0, 100) == []
    tail.extend(events(1))
    assert ids(tail.slice(0, 100)) == [1]


def test_what_has_been_read_again_is_not_there_twice() -> None:
    """L1: an event that two ways bring in is given out once, in order."""
    tail = Tail(0)
    tail.join(events(1, 2))
    tail.extend(events(1, 2, 3))
    tail.join(events(2, 3))
    assert ids(tail.slice(0, 100)) == [1, 2, 3]


# A process's own commits.


def test_own_commits_stay_in_the_order_of_their_ids() -> None:
    """L1: a commit that comes before its predecessors waits for them, and the log is read soon."""
    tail = Tail(0)
    tail.join(events(4, 6))
    tail.join(events(3))
    assert ids(tail.slice(0, 100)) == []
    assert tail._poke.wait(0)
    tail.join(events(1, 2))
    assert ids(tail.slice(0, 100)) == [1, 2, 3, 4]
    tail.extend(events(5))
    assert ids(tail.slice(0, 100)) == [1, 2, 3, 4, 5, 6]
    assert tail.end == 6
    assert not tail._early


def test_own_commits_that_were_read_meanwhile_wait_no_longer() -> None:
    """L1: nor those of a log that begins anew after a loss."""
    tail = Tail(0)
    tail.join(events(3, 4, 6))
    tail.extend(events(1, 2, 3))
    assert ids(tail.slice(0, 100)) == [1, 2, 3, 4]
    assert ids([*tail._early.values()]) == [6]
    tail.extend(events(7, 9))
    assert (tail.end, tail._early) == (9, {})
    tail.join(events(11))
    tail.reset(9)
    tail.extend(events(10))
    assert ids(tail.slice(9, 100)) == [10]


@pytest.mark.parametrize(("bound", "at_most"), [("_EVENTS", 3), ("_BYTES", 3000)])
def test_only_so_many_own_commits_wait_for_others(
    monkeypatch: pytest.MonkeyPatch, bound: str, at_most: int
) -> None:
    """L5: memory is bounded; what does not wait is read."""
    monkeypatch.setattr(replay.storage.tail, bound, at_most)
    tail = Tail(0)
    for id in range(2, 100):
        tail.join(events(id, size=800))
        assert len(tail._early) <= 3


def test_own_commits_follow_what_others_committed() -> None:
    """L1: what a poll has read fills the gap before an own commit."""
    tail = Tail(0)
    tail.join(events(3, 4))
    tail.extend(events(1, 2, 3, 4))
    tail.join(events(5))
    assert ids(tail.slice(0, 100)) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("committed", "found"),
    [([], []), (events(2), []), (events(1, 3), [1]), (events(1, 2, 4), [1, 2])],
)
def test_what_does_not_join_on_is_read_at_once(committed: list[Event], found: list[int]) -> None:
    """L1: behind ids that are unknown, or a gap, nothing is put in: the log is read soon."""
    tail = Tail(0)
    tail.join(committed)
    assert ids(tail.slice(0, 100)) == found
    assert tail._poke.wait(0)


def test_what_joins_on_is_not_read_back() -> None:
    """P21: a commit of this process costs no query."""
    tail = Tail(0)
    tail.join(events(1, 2))
    assert not tail._poke.wait(0)


def test_a_commit_that_was_read_in_part_is_read_to_its_end() -> None:
    """L1: where a poll has stopped within an own commit, the rest follows."""
    tail = Tail(0)
    tail.extend(events(1, 2))
    tail.join(events(1, 2, 3))
    assert ids(tail.slice(0, 100)) == [1, 2, 3]


# What is kept.


def test_the_oldest_events_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded by the number of events: the newest stay, without a gap."""
    monkeypatch.setattr(replay.storage.tail, "_EVENTS", 5)
    tail = Tail(0)
    for id in range(1, 101):
        tail.extend(events(id))
        kept = tail._events
        assert len(kept) <= 10
        assert ids(kept) == list(range(id - len(kept) + 1, id + 1))
    assert tail.slice(0, 100) is None
    assert ids(tail.slice(98, 100)) == [99, 100]


def test_large_events_are_dropped_earlier(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded by the size of the messages, too."""
    monkeypatch.setattr(replay.storage.tail, "_BYTES", 3000)
    tail = Tail(0)
    for id in range(1, 101):
        tail.join(events(id, size=300))
        assert sum(len(kept.raw or b"") for kept in tail._events) <= 3000
    assert ids(tail.slice(99, 100)) == [100]


def test_l5_large_events_do_not_stay_because_many_came_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """L5: as many of the oldest are dropped as there must be, at most all."""
    monkeypatch.setattr(replay.storage.tail, "_BYTES", 14_000)
    tail = Tail(0)
    tail.extend(events(*range(1, 51), size=100) + events(*range(51, 101), size=1000))
    assert ids(tail._events) == [97, 98, 99, 100]
    assert held(tail) == sum(event.size for event in tail._events)
    tail.extend(events(101, size=20_000))
    assert (tail._events, held(tail)) == ([], 0)
    assert (tail.slice(101, 10), tail.slice(100, 10)) == ([], None)


def test_l5_a_reader_gets_a_bounded_part_of_the_tail(monkeypatch: pytest.MonkeyPatch) -> None:
    """L5: it gets at most so many bytes, and at least one event; `since` returns all."""
    monkeypatch.setattr(replay.storage.tail, "BYTES", 2000)
    tail = Tail(0)
    tail.extend(events(1, 2, 3, size=300) + events(4, size=2000) + events(5, size=1))
    assert [ids(tail.slice(after, 10)) for after in range(5)] == [[1, 2], [2, 3], [3], [4], [5]]
    assert ids(tail.slice(0, 1)) == [1]
    assert ids(tail.since(0)) == [1, 2, 3, 4, 5]


def test_rings_do_not_pile_up_while_nobody_waits() -> None:
    """A client that only adds events rings for a poller that it does not have."""
    tail = Tail(0)
    for _ in range(100):
        tail.join([])
    assert tail._poke._rings.qsize() == 1


# Waiting.


def test_who_has_seen_all_falls_asleep() -> None:
    """A waiter with nothing to do sleeps, for as long as it said."""
    tail = Tail(0)
    tail.extend(events(1))
    waiter = Waiter(anything)
    assert asleep(tail, waiter, 1, 2.5) == 2.5
    assert asleep(tail, waiter, 1, None) is None


def test_what_came_after_the_last_look_is_not_slept_over() -> None:
    """P1: an event that comes between a look and the wait is seen by the wait."""
    tail = Tail(0)
    waiter = Waiter(of_run("r"))
    assert asleep(tail, waiter, 0) is None
    assert ids(tail.slice(0, 100)) == []  # the look
    tail.extend(events(1))
    assert asleep(tail, waiter, 0) == "awake"
    assert asleep(tail, waiter, 1) is None


def test_what_came_before_the_first_wait_is_not_slept_over() -> None:
    """P1: so it is for who waits for the first time, whom nobody could have woken."""
    tail = Tail(0)
    tail.extend([event(1, "a"), event(2, "b")])
    assert asleep(tail, Waiter(of_run("b")), 0) == "awake"
    assert asleep(tail, Waiter(of_run("b")), 1) == "awake"
    assert asleep(tail, Waiter(of_run("a")), 1) is None


def test_a_wake_up_before_the_wait_counts() -> None:
    """P1: who is told to look between its look and its wait does not sleep, once."""
    tail = Tail(0)
    waiter = Waiter(of_run("nobody"))
    tellings: list[Callable[[], None]] = [lambda: tail.wake(waiter), tail.wake_all]
    for tell in tellings:
        asleep(tail, waiter, 0)
        tell()
        assert asleep(tail, waiter, 0) == "awake"
        assert asleep(tail, waiter, 0) is None


def test_only_those_concerned_are_woken() -> None:
    """P21: an event wakes who wants it, and who wants anything, but nobody else."""
    tail = Tail(0)
    waiters = {run: Waiter(of_run(run)) for run in ("a", "b", "c")}
    waiters["any"] = Waiter(anything)
    for waiter in waiters.values():
        asleep(tail, waiter, 0)
    tail.extend([event(1, "a"), event(2, "c")])
    assert {run for run, waiter in waiters.items() if waiter.woken} == {"a", "c", "any"}
    assert asleep(tail, waiters["b"], 0) is None


def test_own_commits_wake_those_concerned() -> None:
    """P1: what this process commits wakes its waiters as what others commit does."""
    tail = Tail(0)
    concerned, other = Waiter(of_run("a")), Waiter(of_run("b"))
    asleep(tail, concerned, 0)
    asleep(tail, other, 0)
    tail.join(events(1, run="c"))
    assert not concerned.woken
    tail.join(events(2, run="a"))
    assert (concerned.woken, other.woken) == (True, False)


def test_who_falls_behind_is_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A waiter that wants nothing of what comes is woken before the tail drops it."""
    monkeypatch.setattr(replay.storage.tail, "BATCH", 5)
    tail = Tail(10)
    waiter = Waiter(of_run("b"))
    asleep(tail, waiter, 10)
    tail.extend(events(11, 12, 13, 14))
    assert not waiter.woken
    tail.extend(events(15))
    assert waiter.woken
    assert asleep(tail, waiter, 11) == "awake"
    assert asleep(tail, waiter, 11) is None


def test_who_is_behind_the_tail_looks_again_soon() -> None:
    """P1: a reader of the database that met a gap there is not woken by the tail, so it polls."""
    tail = Tail(10)
    waiter = Waiter(of_run("b"))
    assert asleep(tail, waiter, 7, None) == PAUSE_MAX
    assert asleep(tail, waiter, 7, 100.0) == PAUSE_MAX


def test_signals_wake_those_who_take_them_once() -> None:
    """P1, P21: a new signal wakes the matcher though it is no event; an old one wakes nobody."""
    tail = Tail(0)
    matcher, other = Waiter(of_run("nobody")), Waiter(of_run("nobody"))
    matcher.signals = True
    for waiter in (matcher, other):
        asleep(tail, waiter, 0)
    assert tail.saw_signals(3)
    assert (matcher.woken, other.woken, tail.signals) == (True, False, 3)
    asleep(tail, matcher, 0)
    assert not tail.saw_signals(3)
    assert not tail.saw_signals(2)
    assert (matcher.woken, tail.signals) == (False, 3)


def test_who_cannot_say_what_he_wants_is_woken() -> None:
    """R5: what a user's function raises is met by its own consumer, and stops nobody else."""
    tail = Tail(0)
    broken, other = Waiter(lambda event: bool(1 / 0)), Waiter(anything)
    for waiter in (broken, other):
        asleep(tail, waiter, 0)
    tail.extend(events(1))
    assert (broken.woken, other.woken) == (True, True)
    assert asleep(tail, broken, 0) == "awake"


class Noticed:
    """A lock that says when some thread comes to it."""

    def __init__(self, coming: Callable[[], None]) -> None:
        self._lock = threading.Lock()
        self._coming = coming

    def _is_owned(self) -> bool:
        return False

    def __enter__(self) -> None:
        self._coming()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_who_is_quickly_awake_is_woken_the_next_time_too() -> None:
    """P1: a waiter that wakes before it is noted as woken is not so noted for ever."""
    tail, waiter = Tail(0), Waiter(anything)
    asleep, moved, rung = threading.Event(), threading.Event(), threading.Event()
    wait, ring = waiter.alarm.wait, waiter.alarm.ring

    def watched_wait(timeout: float | None) -> bool:
        asleep.set()
        return wait(timeout)

    def watched_ring() -> None:
        ring()
        rung.set()
        assert moved.wait(PATIENCE)

    def run() -> None:
        tail.wait(waiter, 0, None)
        moved.set()

    waiter.alarm.wait, waiter.alarm.ring = watched_wait, watched_ring  # type: ignore[method-assign]
    tail.lock = Noticed(lambda: moved.set() if rung.is_set() else None)  # type: ignore[assignment]
    thread = threading.Thread(target=run)
    thread.start()
    assert asleep.wait(PATIENCE)
    tail.wake(waiter)
    thread.join(PATIENCE)
    assert not waiter.woken


def test_an_interrupted_commit_leaves_nobody_asleep() -> None:
    """P1: Ctrl-C while it is found out who is to be woken has everybody look."""

    def interrupted(event: Event) -> bool:
        raise KeyboardInterrupt

    tail = Tail(0)
    first, *others = (Waiter(wants) for wants in (interrupted, *[anything] * 9))
    for waiter in (first, *others):
        tail._waiters.add(waiter)
    with pytest.raises(KeyboardInterrupt):
        tail.join(events(1))
    assert all(waiter.woken for waiter in others)
    assert ids(tail.slice(0, 100)) == [1]


def test_who_has_left_is_not_woken() -> None:
    """A waiter that will not wait again costs nothing."""
    tail = Tail(0)
    waiter = Waiter(anything)
    asleep(tail, waiter, 0)
    tail.leave(waiter)
    tail.extend(events(1))
    tail.wake_all()
    assert not waiter.woken


def test_a_stream_that_is_thrown_away_while_the_tail_is_locked_stops_nobody() -> None:
    """P1: the garbage collector closes it anywhere, also in a thread that holds the lock."""
    tail = Tail(0)
    waiter = Waiter(anything)
    asleep(tail, waiter, 0)

    def stream() -> Iterator[None]:
        try:
            yield
        finally:
            tail.leave(waiter)

    def throw_away() -> None:
        thrown: list[object] = [stream()]
        next(thrown[0])  # type: ignore[call-overload]
        thrown.append(thrown)

    def collecting(event: Event) -> bool:
        throw_away()
        gc.collect()
        return False

    asleep(tail, Waiter(collecting), 0)
    thread = threading.Thread(target=lambda: tail.extend(events(1)), daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert ids(tail.slice(0, 100)) == [1]


def test_nobody_sleeps_in_a_closed_tail() -> None:
    """Closing lets everybody go, also who comes later."""
    tail = Tail(0)
    waiter = Waiter(anything)
    asleep(tail, waiter, 0)
    tail.close()
    assert asleep(tail, waiter, 0) == "awake"
    assert asleep(tail, waiter, 0) == "awake"


def test_no_wake_up_is_lost_between_threads() -> None:
    """P1: a reader that looks and waits in a thread sees each of many events, put in at any time.

    Each event is put in only after the one before was seen, so a lost wake-up is a stand-still.
    """
    tail = Tail(0)
    waiter = Waiter(of_run("r"))
    seen: list[int] = []
    step = threading.Semaphore(0)

    def read() -> None:
        while len(seen) < 2000:
            found = tail.slice(len(seen), 100) or []
            for each in found:
                seen.append(each.id)
                step.release()
            if not found:
                tail.wait(waiter, len(seen), None)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    for id in range(1, 2001):
        (tail.join if id % 2 else tail.extend)(events(id))
        assert step.acquire(timeout=PATIENCE), f"event {id} woke nobody"
    reader.join(PATIENCE)
    assert seen == list(range(1, 2001))


# Polling.


class Pauses:
    """Stands in for the poll loop's alarm: notes the pauses, and closes the tail after some."""

    def __init__(self, tail: Tail, most: int) -> None:
        self.taken: list[float] = []
        self._tail = tail
        self._most = most

    def wait(self, pause: float) -> bool:
        """As in `Alarm`, without waiting."""
        self.taken.append(pause)
        self._tail.closed = len(self.taken) == self._most
        return False


def pauses(results: Iterator[bool | Exception], most: int) -> list[float]:
    """The pauses of a poll loop whose polls have these results."""
    tail = Tail(0)
    poke = Pauses(tail, most)
    tail._poke = poke  # type: ignore[assignment]

    def poll(grace: float) -> bool:
        result = next(results)
        if isinstance(result, Exception):
            raise result
        return result

    tail._poll_loop(poll)
    return poke.taken


def test_polls_are_seldom_while_nothing_happens() -> None:
    """P21: the pause grows to its most while nothing comes, and is the least after something."""
    results = [False] * 20 + [True] + [False] * 20
    taken = pauses(iter(results), 40)
    assert taken[0] == taken[21] == PAUSE_MIN
    assert taken[20] == taken[-1] == PAUSE_MAX
    assert all(later > earlier for earlier, later in pairwise(taken[:8]))
    assert 1 / PAUSE_MAX < 50  # queries a second of an idle process


def test_polls_of_a_database_that_is_away_are_rare(caplog: pytest.LogCaptureFixture) -> None:
    """P16: while the database is away the pause grows to seconds, and nothing is logged here."""
    taken = pauses(iter([Unavailable("away")] * 12 + [True, False]), 14)
    assert taken[1:5] == [2 * PAUSE_MAX, 4 * PAUSE_MAX, 8 * PAUSE_MAX, 16 * PAUSE_MAX]
    assert taken[-2:] == [5.0, PAUSE_MIN]
    assert caplog.messages == []


def test_a_poll_that_fails_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    """P16: no error ends the polling for good; it is logged, and not a thousand times a second."""
    taken = pauses(iter([ValueError("broken"), ValueError("broken"), True, False]), 4)
    assert taken == [PAUSE_MIN, 5.0, 5.0, PAUSE_MIN]
    assert caplog.messages == ["reading the log failed, trying again in 5 s"] * 2


def test_one_thread_polls_until_the_tail_is_closed() -> None:
    """Polling starts once, whoever asks for it, goes on by itself, and ends with the tail."""
    tail = Tail(0)
    pollers: set[threading.Thread] = set()
    twice = threading.Semaphore(0)

    def poll(grace: float) -> bool:
        pollers.add(threading.current_thread())
        twice.release()
        return False

    for _ in range(3):
        tail.keep_polling(poll)
    assert all(twice.acquire(timeout=PATIENCE) for _ in range(2))
    tail.join([])  # something that has to be read: a poke, also while it pauses
    assert twice.acquire(timeout=PATIENCE)
    tail.close()
    (poller,) = pollers
    assert not poller.is_alive()


def test_a_closed_tail_does_not_begin_to_poll() -> None:
    """Closing is final."""
    tail = Tail(0)
    tail.close()
    tail.keep_polling(lambda grace: pytest.fail("polled"))
    assert tail._poller is None


# What was pruned.


@pytest.mark.parametrize(
    ("floor", "left"), [(0, [5, 6, 7]), (4, [5, 6, 7]), (5, [6, 7]), (7, []), (9, [])]
)
def test_l9_the_tail_forgets_what_may_have_been_pruned(floor: int, left: list[int]) -> None:
    """L9: and goes on where it was; readers of older events ask the database."""
    tail = Tail(4)
    tail.extend(events(5, 6, 7))
    tail.drop(floor)
    assert tail.end == 7
    assert ids(tail.slice(7 - len(left), 100)) == left
    assert ids(tail.slice(6 - len(left), 100)) is None
    assert held(tail) == sum(event.size for event in tail._events)
    tail.extend(events(8))
    assert ids(tail.slice(7, 100)) == [8]


def test_l9_the_tail_begins_anew_where_ids_were_pruned() -> None:
    """L9: it stays without a gap, and wakes readers, who ask the database for what is left."""
    tail, waiter = Tail(4), Waiter(anything)
    tail.extend(events(5, 6))
    assert asleep(tail, waiter, 6) is None
    tail.extend(events(9, 12))
    assert waiter.woken
    assert tail.end == 12
    assert [ids(tail.slice(after, 100)) for after in (6, 9, 10, 11)] == [None] * 4
    assert ids(tail.slice(12, 100)) == []
    tail.extend(events(13))
    assert ids(tail.slice(12, 100)) == [13]
