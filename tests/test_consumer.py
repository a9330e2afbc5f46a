"""What all consumers share: cursor, commit, errors, thread, figures; and a user's own consumers."""

import asyncio
import itertools
import sqlite3
import threading
from datetime import timedelta
from typing import Any

import pymysql
import pytest

from replay import (
    Client,
    Consumer,
    Event,
    EventType,
    Key,
    RunContext,
    Unavailable,
    connect,
    consume,
    register_workflow,
)
from replay.consumer import Handler, Stop
from replay.log import LostOwnership, Move
from replay.storage.database import Database, DatabaseError, OutcomeUnknown, Statement, to_text
from replay.storage.sqlite import Sqlite
from tests import journey
from tests.example_pb2 import Int
from tests.support import (
    Clock,
    Faults,
    LogLines,
    Outage,
    crash,
    cursor,
    database,
    drain,
    endure,
    listing,
    loops,
    rows,
    set_back,
    start_runs,
    stepped,
    take_over,
    with_options,
)

pytestmark = pytest.mark.contract

LIMIT = 60  # seconds until something that has to happen has not happened


class Seen(list[str]):
    """A user's handler that notes the runs of the events that it is called with."""

    def __call__(self, event: Event) -> None:
        self.append(event.key.run)


class Stubborn(Seen):
    """One that fails on some runs until they are taken out of `bad`."""

    def __init__(self, *bad: str) -> None:
        super().__init__()
        self.bad = set(bad)

    def __call__(self, event: Event) -> None:
        super().__call__(event)
        if event.key.run in self.bad:
            raise ValueError(f"{event.key.run} is bad")


# L5: cursor, order, at least once.


def test_l5_a_consumer_goes_on_from_its_cursor_after_a_restart(url: str) -> None:
    """L5: every event once and in order, though the process is another one in between."""
    seen = Seen()
    with stepped(url) as client:
        start_runs(client, "a", "b")
        drain(consume(client, "mine", seen, start=False))
        assert seen == ["a", "b"]
    with stepped(url) as client:
        start_runs(client, "c", "d")
        drain(consume(client, "mine", seen, start=False))
        drain(consume(client, "other", seen, start=False))
    assert seen == ["a", "b", "c", "d", "a", "b", "c", "d"]


def test_l5_events_come_again_whose_commit_failed(url: str) -> None:
    """L5: at least once: a commit that did not happen has the events handled again."""
    seen = Seen()
    with stepped(url) as client:
        consumer = consume(client, "mine", seen, start=False)
        drain(consumer)
        start_runs(client, "a", "b")
        Faults(database(client)).before = 1
        with pytest.raises(Unavailable, match=r"before the transaction|cannot reach its database"):
            consumer.step()
        assert (seen, cursor(client, consumer.name)[0]) == (["a", "b"], 0)
        drain(consumer)
        assert (seen, cursor(client, consumer.name)[0]) == (["a", "b", "a", "b"], 2)


def test_l5_events_do_not_come_again_whose_commit_was_reported_lost(url: str) -> None:
    """L5: a commit of unknown outcome is looked up in the cursor, not believed to have failed."""
    seen = Seen()
    with stepped(url) as client:
        consumer = consume(client, "mine", seen, start=False)
        drain(consumer)
        start_runs(client, "a", "b")
        Faults(database(client)).after = 1
        with pytest.raises(OutcomeUnknown):
            consumer.step()
        start_runs(client, "c")
        drain(consumer)
        assert seen == ["a", "b", "c"]


def test_l5_a_killed_consumer_misses_nothing(url: str) -> None:
    """L5: what was handled but not committed when the process died comes again, then the rest."""
    seen = Stubborn()
    with stepped(url) as client, stepped(url) as other:
        consumer = consume(client, "mine", seen, start=False)
        start_runs(client, "a")
        drain(consumer)
        start_runs(client, "b", "c")
        Faults(database(client)).before = 1
        with pytest.raises(Unavailable):
            consumer.step()
        crash(client, consumer)
        successor = consume(other, "mine", seen, start=False)
        take_over(successor)
        drain(successor)
    assert seen == ["a", "b", "c", "b", "c"]


def test_l5_the_cursor_passes_only_events_that_were_handled(url: str) -> None:
    """L5: a handler that fails keeps the cursor before that event, and behind those before it."""
    seen = Stubborn("c")
    with stepped(url, Clock()) as client:
        start_runs(client, "a", "b", "c", "d")
        consumer = consume(client, "mine", seen, start=False)
        drain(consumer)
        assert (seen, cursor(client, consumer.name)[0]) == (["a", "b", "c"], 2)
    seen.bad.clear()
    with stepped(url) as client:
        drain(consume(client, "mine", seen, start=False))
    assert seen == ["a", "b", "c", "c", "d"]


def test_a_failing_event_is_given_again_with_growing_pauses(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A user's consumer stays on an event: after 1, 2, 4 ... 256, 300 s less jitter, no earlier."""
    seen, clock = Stubborn("a"), Clock()
    with stepped(url, clock) as client:
        consumer = consume(client, "mine", seen, start=False)
        start_runs(client, "a", "b")
        drain(consumer)
        pauses = [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
        for attempt, pause in enumerate(pauses, start=1):
            clock.forward(seconds=0.749 * pause)
            drain(consumer)
            assert seen == ["a"] * attempt
            clock.forward(seconds=0.251 * pause)
            drain(consumer)
        assert seen == ["a"] * (len(pauses) + 1)
        seen.bad.clear()
        clock.forward(seconds=300)
        drain(consumer)
    assert seen[-2:] == ["a", "b"]
    logged = [record.getMessage() for record in caplog.records]
    assert logged == [
        f"consumer/mine: attempt {n} of event 1 (ns/flow/a/0) failed" for n in range(1, 13)
    ]
    assert all(record.exc_info for record in caplog.records)


def test_a_user_moves_the_cursor_past_a_bad_event(url: str) -> None:
    """A consumer that stays on an event goes on when its cursor is moved past it."""
    seen = Stubborn("a")
    with stepped(url, clock := Clock()) as client:
        consumer = consume(client, "mine", seen, start=False)
        start_runs(client, "a", "b")
        drain(consumer)
        update = "UPDATE replay_cursors SET last_event_id = 1 WHERE id = ?"
        database(client).write([Statement(update, (consumer.name,), must_find=1)])
        clock.forward(seconds=1)
        with pytest.raises(LostOwnership):  # as it finds out after the next attempt
            consumer.step()
        drain(consumer)
        assert (seen, consumer.due()) == (["a", "a", "b"], None)


@pytest.mark.parametrize("error", [SystemExit, asyncio.CancelledError])
def test_a_handler_that_exits_has_failed(
    url: str, error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """sys.exit() in a handler ends neither the process nor the consumer: the event comes again."""
    seen: list[str] = []

    def leave(event: Event) -> None:
        seen.append(event.key.run)
        if len(seen) == 1:
            raise error("gone")

    with stepped(url, clock := Clock()) as client:
        start_runs(client, "a")
        consumer = consume(client, "mine", leave, start=False)
        drain(consumer)
        clock.forward(seconds=1)
        drain(consumer)
    assert seen == ["a", "a"]
    assert caplog.messages == ["consumer/mine: attempt 1 of event 1 (ns/flow/a/0) failed"]


@pytest.mark.one_server
def test_a_thread_that_is_ended_leaves_the_name_to_others(url: str) -> None:
    """L7: what is not for us to catch ends the thread, with a word, and a stand-by goes on."""
    lease = with_options(url, lease=3600)
    seen = Seen()

    def interrupt(event: Event) -> None:
        raise KeyboardInterrupt

    with stepped(lease) as client, stepped(lease) as other, LogLines() as log:
        start_runs(client, "a")
        consume(client, "mine", interrupt)
        log.wait_for("consumer/mine ends")
        successor = consume(other, "mine", seen, start=False)
        take_over(successor)
        drain(successor)
    assert seen == ["a"]


def test_after_a_success_pauses_begin_anew(url: str) -> None:
    """Attempts are counted for an event, not for ever."""
    seen, clock = Stubborn("a", "b"), Clock()
    with stepped(url, clock) as client:
        consumer = consume(client, "mine", seen, start=False)
        start_runs(client, "a", "b")
        for _ in range(3):
            drain(consumer)
            clock.forward(seconds=300)
        seen.bad.discard("a")
        drain(consumer)
        assert seen == ["a"] * 4 + ["b"]
        clock.forward(seconds=1)
        drain(consumer)
        assert seen == ["a"] * 4 + ["b"] * 2


def test_a_consumer_is_given_what_its_filter_names(url: str) -> None:
    """L4, L5: a consumer of a namespace, a workflow or a run sees its events and no other."""
    wide, middle, narrow, every = Seen(), Seen(), Seen(), Seen()
    with stepped(url) as client:
        for namespace, workflow, run in [("x", "w", "1"), ("x", "w", "2"), ("x", "v", "3")]:
            client.run_workflow(namespace, workflow, run, None)
        client.run_workflow("y", "w", "4", None)
        consumers = [
            consume(client, "wide", wide, namespace="x", start=False),
            consume(client, "middle", middle, namespace="x", workflow="w", start=False),
            consume(client, "narrow", narrow, namespace="x", workflow="w", run="2", start=False),
            consume(client, "every", every, start=False),
        ]
        drain(*consumers)
    assert (wide, middle, narrow) == (["1", "2", "3"], ["1", "2"], ["2"])
    assert every == ["1", "2", "3", "4"]


def test_a_slow_handler_commits_now_and_then(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """L5: a step ends when its time is over: few events are handled again after a crash."""
    monkeypatch.setattr("replay.consumer.WINDOW", 0)
    seen, positions = Seen(), []
    with stepped(url) as client:
        start_runs(client, "a", "b")
        consumer = consume(client, "mine", seen, start=False)

        def slow(event: Event) -> None:
            seen(event)
            positions.append(cursor(client, consumer.name)[0])

        monkeypatch.setattr(consumer, "_function", slow)
        monkeypatch.setattr("replay.consumer.Window", Once)
        drain(consumer)
    assert (seen, positions) == (["a", "b"], [0, 1])


class Once:
    """A window that lets one event through."""

    def __init__(self) -> None:
        self._left = iter(list[float]())

    def left(self) -> float:
        return next(self._left, 0.0)


# L6: one transaction.


@pytest.mark.embedded
def test_l6_events_cursor_and_parked_rows_are_stored_together_or_not_at_all(url: str) -> None:
    """L6: a commit whose last statement fails leaves the cursor, and the log, as they were."""
    with stepped(url) as client:
        consumer = consume(client, "mine", Seen(), start=False)
        drain(consumer)
        start_runs(client, "a")
        before = listing(client)
        also = [Statement("INSERT INTO replay_sleeps (no_such_column) VALUES (1)")]
        added = client.log.event(EventType.RUN_OUTPUT, Key("ns", "flow", "a", 0, "out", "0"))
        with pytest.raises(DatabaseError, match="no_such_column"):
            client.log.commit([added], Move(consumer.name, 0, 1, also=also))
        assert listing(client) == before
        assert cursor(client, consumer.name)[0] == 0
        client.log.commit([added], Move(consumer.name, 0, 1))
        assert listing(client) == [*before, "RUN_OUTPUT ns/flow/a/0/out/0 -"]
        assert cursor(client, consumer.name)[0] == 1


def break_between_cursor_and_events(database: Database, patch: pytest.MonkeyPatch) -> None:
    """Have the next transaction with events die when the cursor is moved and they are not there."""
    if isinstance(database, Sqlite):

        def no_disk(insert: Any) -> list[int]:
            patch.undo()
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR
            raise error

        patch.setattr(database, "_insert", no_disk)
        return
    send = database._send  # type: ignore[attr-defined]

    def cut_off(cursor: Any, script: list[str], ids: list[int]) -> None:
        patch.undo()
        assert "INSERT INTO replay_events" in script[-2]
        send(cursor, script[:-2], ids)
        raise pymysql.err.OperationalError(2013, "Lost connection to server during query")

    patch.setattr(database, "_send", cut_off)


def test_l6_a_process_that_dies_between_cursor_and_events_did_neither(url: str) -> None:
    """L6: the cursor is not moved when the events that follow from it were not added."""
    calls: list[str] = []
    with stepped(url, clock := Clock()) as client, pytest.MonkeyPatch.context() as patch:
        workflow, *others = journey.staff(client, calls, start=False)
        drain(workflow)
        journey.begin(client, "r", 1)
        break_between_cursor_and_events(database(client), patch)
        with pytest.raises(Unavailable):
            workflow.step()
        assert cursor(client, workflow.name)[0] == 0
        assert len(listing(client)) == 1
        take_over(workflow)
        go_on(clock, workflow, *others)
        assert listing(client) == journey.events("r", 1)


def go_on(clock: Clock, *consumers: Consumer) -> None:
    """Run the consumers through a journey: it sleeps twice."""
    for _ in range(3):
        drain(*consumers)
        clock.forward(seconds=1)


@pytest.mark.parametrize("kind", ["before", "after"])
def test_l6_a_fault_at_any_commit_changes_nothing(url: str, kind: str) -> None:
    """L6: whichever commit fails, before or after it is stored: each event has its effect once."""
    with stepped(url, clock := Clock()) as client:
        calls: list[str] = []
        consumers = journey.staff(client, calls, start=False)
        drain(*consumers)
        faults = Faults(database(client))
        journey.begin(client, "0", 3)
        go_on(clock, *consumers)
        commits = faults.writes
        assert commits > 20
        for run in map(str, range(1, commits + 1)):
            calls.clear()
            journey.begin(client, run, 3)
            setattr(faults, kind, int(run))
            broken = 0
            for _ in range(3):
                broken += endure(*consumers)
                clock.forward(seconds=1)
            setattr(faults, kind, 0)
            go_on(clock, *consumers)
            assert listing(client, journey.NAMESPACE, "journey", run) == journey.events(run, 3)
            expected = journey.calls_of(run)
            assert sorted(set(calls)) == expected
            assert len(calls) <= len(expected) + 2 * broken  # two at once are one commit


# Cursors set back, and places lost.


NAMES = [
    "activity/trip/double",
    "replay_inbox",
    "replay_runs",
    "replay_signal",
    "replay_sleep",
    "workflow/trip/journey",
]


#: The mover of the inbox has nothing to read again.
READING = [name for name in NAMES if name != "replay_inbox"]


@pytest.mark.parametrize("name", READING)
def test_p12_a_cursor_set_back_repeats_nothing(url: str, name: str) -> None:
    """P12, A4, R3: with its cursor at 0 a consumer reads all again, and does nothing again."""
    calls: list[str] = []
    with stepped(url, clock := Clock()) as client:
        consumers = journey.staff(client, calls, start=False)
        journey.begin(client, "r", 1)
        go_on(clock, *consumers)
        assert sorted(consumer.name for consumer in consumers) == NAMES
        clock.forward(seconds=1)
        drain(*consumers)  # a server's own stay, and have nothing left to store
    with stepped(url, clock) as client:
        set_back(client, name)
        go_on(clock, *journey.staff(client, calls, start=False))
        assert listing(client) == journey.events("r", 1)
    assert calls == journey.calls_of("r")


@pytest.mark.parametrize("name", READING)
def test_p12_a_cursor_set_back_under_a_live_consumer_repeats_nothing(url: str, name: str) -> None:
    """P12: a consumer whose cursor was moved notices, forgets, and starts again from it."""
    calls, refused = [], []  # type: ignore[var-annotated]
    with stepped(url, clock := Clock()) as client:
        consumers = journey.staff(client, calls, start=False)
        journey.begin(client, "r", 1)
        go_on(clock, *consumers)
        set_back(client, name)
        journey.begin(client, "s", 1)
        for consumer in itertools.islice(itertools.cycle(consumers), 200):
            clock.forward(milliseconds=5)
            try:
                consumer.step()
            except LostOwnership as error:
                refused.append(str(error))
        assert refused == [f"consumer {name} is owned by another process, or was reset"]
        assert listing(client) == journey.events("r", 1) + journey.events("s", 1)
        # Executing what then cannot be committed is at least once (A1).
        again = ["trip/journey/s/0/double/0"] if name == "activity/trip/double" else []
        assert calls == journey.calls_of("r") + again + journey.calls_of("s")


def test_p12_a_user_sets_his_consumers_cursor_back_to_read_again(url: str) -> None:
    """P12: for a user's own consumer a cursor set back means what he wants: all events again."""
    seen = Seen()
    with stepped(url) as client:
        start_runs(client, "a", "b")
        drain(consume(client, "mine", seen, start=False))
    with stepped(url) as client:
        set_back(client, "consumer/mine")
        drain(consume(client, "mine", seen, start=False))
    assert seen == ["a", "b", "a", "b"]


def test_p15_an_owner_that_lost_its_place_cannot_commit(url: str) -> None:
    """P15, L7: one that was taken for dead has its commit refused; nothing of it is stored."""
    calls: list[str] = []
    with stepped(url, clock := Clock()) as client:
        workflow, *others = journey.staff(client, calls, start=False)
        drain(workflow)
        journey.begin(client, "r", 1)
        before = rows(client, "SELECT id, type, `key` FROM replay_events")
        owner = "elsewhere|another:1:x"
        lease = to_text(clock.now + database(client).lease)
        set_owner(client, workflow.name, owner, lease)
        with pytest.raises(
            LostOwnership, match="workflow/trip/journey is owned by another process"
        ):
            workflow.step()
        drain(workflow, *others)
        assert rows(client, "SELECT id, type, `key` FROM replay_events") == before
        assert cursor(client, workflow.name) == (0, owner)


# P21: quiet when idle.


def test_p21_an_idle_consumer_writes_nothing(url: str) -> None:
    """P21: nothing to do: no commit, however often it looks; not even for its own answers."""
    with stepped(with_options(url, lease=3600), clock := Clock()) as client:
        consumers = journey.staff(client, [], start=False)
        consumers.append(consume(client, "mine", Seen(), start=False))
        journey.begin(client, "r", 1)
        client.run_workflow(journey.NAMESPACE, "journey", "parked", Int(value=1))
        go_on(clock, *consumers)
        clock.forward(seconds=1)
        drain(*consumers)  # each may store where it stands, once
        faults = Faults(database(client))
        for _ in range(50):
            drain(*consumers)
            clock.forward(seconds=10)
        assert faults.writes == 0


def test_p21_the_cursor_is_stored_now_and_then_when_passing_what_is_not_wanted(url: str) -> None:
    """P10, P21: a commit for a thousand events that do not concern a consumer, not for each."""
    with stepped(url) as client:
        consumer = consume(client, "mine", Seen(), namespace="other", start=False)
        drain(consumer)
        key = Key("ns", "flow", "a", 0, "out")
        client.log.commit(
            [
                client.log.event(EventType.RUN_OUTPUT, key._replace(sequence=str(n)))
                for n in range(1500)
            ]
        )
        faults = Faults(database(client))
        drain(consumer)
        assert faults.writes == 1
        assert cursor(client, consumer.name)[0] == 1000
        consumer.stop()
        assert cursor(client, consumer.name) == (1500, "")


# The thread.


class Signalled(Seen):
    """A handler that has `done` set with the last event that is expected."""

    def __init__(self, last: str) -> None:
        super().__init__()
        self.last, self.done = last, threading.Event()

    def __call__(self, event: Event) -> None:
        super().__call__(event)
        if event.key.run == self.last:
            self.done.set()


def test_a_started_consumer_handles_what_comes(url: str) -> None:
    """L5: in its thread a consumer is given each event, once, until it is stopped."""
    seen = Signalled("c")
    with connect(url) as client:
        start_runs(client, "a")
        consumer = consume(client, "mine", seen)
        consumer.start()  # it runs already
        assert [thread.name for thread in threading.enumerate()].count(consumer.name) == 1
        start_runs(client, "b", "c")
        assert seen.done.wait(LIMIT)
        consumer.stop()
        consumer.stop()
        assert cursor(client, consumer.name) == (3, "")
        start_runs(client, "d")
        assert seen == ["a", "b", "c"]
        seen.last = "d"
        seen.done.clear()
        consumer.start()
        assert seen.done.wait(LIMIT)
    assert seen == ["a", "b", "c", "d"]


def test_another_process_events_reach_a_started_consumer(url: str) -> None:
    """L5: what another client adds is noticed without a word from it."""
    seen = Signalled("b")
    with connect(url, loops=False) as client, stepped(url) as other:
        consume(client, "mine", seen)
        start_runs(other, "a", "b")
        assert seen.done.wait(LIMIT)
    assert seen == ["a", "b"]


def test_stopping_leaves_the_rest_for_later(url: str) -> None:
    """L5: stop ends a step between two events; what was handled does not come again."""
    seen, at_first, go_on = Seen(), threading.Event(), threading.Event()

    def hold(event: Event) -> None:
        seen(event)
        at_first.set()
        assert go_on.wait(LIMIT)

    with connect(url, loops=False) as client:
        start_runs(client, "a", "b", "c")
        consumer = consume(client, "mine", hold)
        assert at_first.wait(LIMIT)
        consumer.ask_to_stop()
        go_on.set()
        consumer.stop()
        assert (seen, cursor(client, consumer.name)) == (["a"], (1, ""))
    with stepped(url) as client:
        drain(consume(client, "mine", seen, start=False))
    assert seen == ["a", "b", "c"]


def test_a_handler_may_stop_its_own_consumer(url: str) -> None:
    """A consumer stopped from within its handler ends after that event, and may start again."""
    seen, stopped = Seen(), threading.Event()
    with connect(url, loops=False) as client:
        start_runs(client, "a", "b")

        def once(event: Event) -> None:
            seen(event)
            consumer.stop()
            stopped.set()

        consumer = consume(client, "mine", once, start=False)
        consumer.start()
        assert stopped.wait(LIMIT)
        consumer.stop()  # from outside: waits for the thread
        assert (seen, cursor(client, consumer.name)) == (["a"], (1, ""))
        stopped.clear()
        consumer.start()
        assert stopped.wait(LIMIT)
    assert seen == ["a", "b"]


def nap(ctx: RunContext, message: Int) -> None:
    ctx.sleep(timedelta(hours=1))


@pytest.mark.embedded
def test_wake_has_the_thread_look_at_the_clock(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A waiting consumer that is woken looks what is due: else this would last an hour."""
    waits = threading.Event()
    with stepped(url, clock := Clock()) as client:
        sleeper, *_ = loops(client)
        workflow = register_workflow(client, "ns", nap, start=False)
        client.run_workflow("ns", "nap", "r", Int())
        drain(workflow, sleeper)
        sleeper.stop()
        wait = client.log.tail.wait

        def note(*arguments: Any) -> None:
            waits.set()
            wait(*arguments)

        monkeypatch.setattr(client.log.tail, "wait", note)
        sleeper.start()
        assert waits.wait(LIMIT)
        clock.forward(hours=1)
        sleeper.wake()
        stream = client.stream("ns", "nap", "r")
        assert [next(stream).type for _ in range(3)][-1] == EventType.ACTIVITY_RESPONSE


# P16: errors do not end a consumer.


class Pauses(Stop):
    """A consumer's stop event that notes for how long it is waited for, and does not wait."""

    def __init__(self, enough: int) -> None:
        super().__init__()
        self.lengths: list[float] = []
        self.enough = threading.Event()
        self._count = enough

    def wait(self, timeout: float) -> bool:
        self.lengths.append(timeout)
        if len(self.lengths) == self._count:
            self.enough.set()
        if len(self.lengths) >= self._count:
            return super().wait(0.01)
        return self.is_set()


def assert_growing(lengths: list[float]) -> None:
    longest = [min(0.1 * 2**n, 1.0) for n in range(len(lengths))]
    assert all(b / 2 <= a <= b for a, b in zip(lengths, longest, strict=True))


def note_pauses(consumer: Consumer) -> Pauses:
    """Have a consumer that is not started yet note its pauses."""
    consumer._stop = Pauses(12)
    return consumer._stop


def test_p16_a_consumer_waits_for_a_database_that_went_away(url: str) -> None:
    """P16: growing pauses, one line in the log, and then it goes on."""
    seen = Signalled("b")
    with stepped(url) as client, LogLines() as log:
        outage = Outage(database(client))
        consumer = consume(client, "mine", seen, start=False)
        start_runs(client, "a")
        drain(consumer)
        consumer.stop()
        noted = note_pauses(consumer)
        outage.on = True
        consumer.start()
        assert noted.enough.wait(LIMIT)
        outage.on = False
        start_runs(client, "b")
        assert seen.done.wait(LIMIT)
        consumer.stop()
        assert_growing(noted.lengths[:12])
        assert len(log.of("cannot be reached, waiting for it")) == 1
        assert len(log.lines) == 1
    assert seen == ["a", "b"]


def test_p16_a_defect_does_not_end_a_consumer(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """P16: an error that nobody has foreseen is logged, with pauses as long as a second."""
    seen = Signalled("b")
    with stepped(url) as client, LogLines() as log:
        consumer = consume(client, "mine", seen, start=False)
        start_runs(client, "a")
        drain(consumer)
        consumer.stop()
        noted = note_pauses(consumer)
        handle = consumer.handle
        monkeypatch.setattr(consumer, "handle", lambda *_: [][0])
        start_runs(client, "b")
        consumer.start()
        assert noted.enough.wait(LIMIT)
        monkeypatch.setattr(consumer, "handle", handle)
        assert seen.done.wait(LIMIT)
        consumer.stop()
        assert_growing(noted.lengths[:12])
        assert set(log.lines) == {"consumer/mine failed and starts again from its cursor"}
    assert seen == ["a", "b"]


def test_p16_a_consumer_that_lost_its_place_stands_by(url: str) -> None:
    """P16, L7: the thread of an owner that was replaced says so, and goes on when it can."""
    seen, again = Seen(), threading.Event()
    with stepped(url) as client, stepped(url) as other, LogLines() as log:
        lease = to_text(database(client).now() + database(client).lease * 100)

        def is_usurped(event: Event) -> None:
            seen(event)
            if len(seen) == 1:
                set_owner(other, "consumer/mine", "elsewhere|another:1:x", lease)
            else:
                again.set()

        start_runs(client, "a")
        consumer = consume(client, "mine", is_usurped)
        log.wait_for("consumer/mine is owned by another process, or was reset: standing by")
        assert (seen, cursor(client, consumer.name)) == (["a"], (0, "elsewhere|another:1:x"))
        set_owner(other, consumer.name, "", None)
        assert again.wait(LIMIT)
        consumer.stop()
        assert (seen, cursor(client, consumer.name)) == (["a", "a"], (1, ""))


def set_owner(client: Client, name: str, owner: str, lease_until: str | None) -> None:
    update = "UPDATE replay_cursors SET owner = ?, lease_until = ? WHERE id = ?"
    database(client).write([Statement(update, (owner, lease_until, name), must_find=1)])


def test_stopping_while_the_database_is_away_raises_nothing(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A name that cannot be given up is left to its lock and lease."""
    with stepped(url) as client:
        consumer = consume(client, "mine", Seen(), start=False)
        drain(consumer)
        _, owner = cursor(client, consumer.name)
        assert owner
        outage = Outage(database(client))
        outage.on = True
        consumer.stop()
        outage.on = False
        assert cursor(client, consumer.name) == (0, owner)
    assert "consumer/mine could not be released, its lock or lease ends it" in caplog.text


# Figures.


class Figures(list[tuple[str, str, float]]):
    """A metrics callback that notes what it is called with."""

    def __call__(self, consumer: str, measure: str, figure: float) -> None:
        self.append((consumer, measure, figure))


def fail(client: Client, event: Event) -> None:
    raise ValueError(event)


def test_metrics_that_fail_repeat_no_step(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """L6, P16: the step is stored; its consumer goes on without metrics, and says so once."""
    calls: list[str] = []

    def broken(consumer: str, measure: str, figure: float) -> None:
        calls.append(measure)
        raise ValueError("no figures")

    with stepped(url) as client:
        workflow, *_ = journey.staff(client, [], metrics=broken, start=False)
        workflow.step()
        for run in ("a", "b"):
            journey.begin(client, run, 1)
            assert workflow.step() > 0
    assert calls == ["events"]
    said = [each for each in caplog.messages if "is not measured any more" in each]
    assert said == [f"{workflow.name} is not measured any more: its metrics function failed"]


@pytest.mark.embedded
def test_a_thread_looks_at_the_clock_each_minute(url: str) -> None:
    """P9: a clock that steps, or a machine that sleeps, delays nothing by more than that."""
    with stepped(url, clock := Clock()) as client:
        consumer = consume(client, "mine", lambda event: fail(client, event), start=False)
        for later in (timedelta(seconds=59), timedelta(days=1), timedelta(days=365 * 7000)):
            wait = consumer._seconds_to(clock.now + later)
            assert wait == min(later.total_seconds(), 60.0)


def test_metrics_are_given_what_a_step_did(url: str) -> None:
    """Q5: the callback gets events passed and added, attempts, their durations, and the lag."""
    figures, clock = Figures(), Clock()
    with stepped(url, clock) as client:
        workflow, activity, *_ = journey.staff(client, [], metrics=figures, start=False)
        assert (workflow.step(), activity.step(), figures) == (0, 0, [])
        journey.begin(client, "r", 1)
        clock.forward(seconds=3)
        workflow.step()
        assert figures == [
            (workflow.name, "events", 1),
            (workflow.name, "added", 1),
            (workflow.name, "failed", 0),
            (workflow.name, "retried", 0),
            (workflow.name, "lag", 3.0),
        ]
        figures.clear()
        works = activity._function  # type: ignore[attr-defined]
        activity._function = fail  # type: ignore[attr-defined]
        for attempts in (1, 2):
            activity.step()
            assert figures[:4] == [
                (activity.name, "events", 2 if attempts == 1 else 0),
                (activity.name, "added", 0),
                (activity.name, "failed", 1),
                (activity.name, "retried", attempts - 1),
            ]
            assert figures[4][:2] == (activity.name, "duration")
            assert 0 < figures[4][2] < 60
            figures.clear()
            clock.forward(seconds=300)
        activity._function = works  # type: ignore[attr-defined]
        activity.step()
        counted = [(what, figure) for _, what, figure in figures if what != "duration"]
        assert counted == [("events", 0), ("added", 1), ("failed", 0), ("retried", 1)]


def test_metrics_count_an_event_once_however_often_its_handler_fails(url: str) -> None:
    """Q5: what was read and not handled is not counted; it will be.  Its attempts are."""
    figures, clock, seen = Figures(), Clock(), Stubborn("b")
    with stepped(url, clock) as client:
        consumer = Handler(client.log, "consumer/mine", seen, lambda event: True, metrics=figures)
        start_runs(client, "a", "b", "c")
        for _ in range(3):
            drain(consumer)
            clock.forward(seconds=300)
        seen.bad.clear()
        drain(consumer)
        consumer.stop()
    told = {what: [figure for _, each, figure in figures if each == what] for _, what, _ in figures}
    assert (told["events"], told["failed"], told["retried"]) == (
        [1, 0, 0, 2],
        [1, 1, 1, 0],
        [0, 1, 1, 1],
    )
