"""Sleeps: how long they last, that each is answered once, and what they cost while they wait."""

import random
from datetime import datetime, timedelta

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from replay import Client, Consumer, EventType, Key, RunContext, connect, register_workflow
from replay.server.proto.replaypb_pb2 import SleepRequest
from replay.sleep import Timers
from replay.storage.database import to_text
from tests.example_pb2 import Empty, String
from tests.support import (
    START,
    Clock,
    Faults,
    Queries,
    behind,
    crash,
    database,
    drain,
    endure,
    listing,
    loops,
    request,
    rewind,
    rows,
    stepped,
    take_over,
    with_options,
)

pytestmark = pytest.mark.contract


def wish(seconds: int = 0, nanos: int = 0) -> SleepRequest:
    made = SleepRequest()
    made.duration.seconds = seconds
    made.duration.nanos = nanos
    return made


def place(run: str, count: int = 0) -> Key:
    return Key("ns", "flow", run, 0, "replay_sleep", str(count))


def sleeper(client: Client) -> Consumer:
    (found,) = (each for each in loops(client) if each.name == "replay_sleep")
    return found


def woken(client: Client) -> list[str]:
    """The runs whose sleeps have been answered, in the order in which they were."""
    found = client.stream(to_head=True)
    return [each.key.run for each in found if each.type is EventType.ACTIVITY_RESPONSE]


def moments(client: Client) -> list[tuple[str, str, int]]:
    """When the sleeps of the table began and end, and whether they are marked as ended."""
    query = "SELECT created_at, complete_at, completed FROM replay_sleeps ORDER BY id"
    return [(began, ends, done) for began, ends, done in rows(client, query)]


# R7, P9: how long.


def test_r7_a_run_sleeps_to_the_millisecond(url: str) -> None:
    """R7: not a millisecond shorter, and no longer than until somebody looks."""
    woke: list[datetime] = []

    def flow(ctx: RunContext, message: Empty) -> None:
        ctx.sleep(timedelta(seconds=1, milliseconds=234))
        woke.append(ctx.now())

    with stepped(url, clock := Clock()) as client:
        consumers = [register_workflow(client, "ns", flow, start=False), sleeper(client)]
        client.run_workflow("ns", "flow", "r", Empty())
        drain(*consumers)
        clock.forward(milliseconds=1233)
        drain(*consumers)
        assert listing(client)[2:] == []
        clock.forward(milliseconds=1)
        drain(*consumers)
        assert listing(client) == [
            "RUN_CREATED ns/flow/r/0",
            "ACTIVITY_REQUEST ns/flow/r/0/replay_sleep/0 duration { seconds: 1 nanos: 234000000 }",
            "ACTIVITY_RESPONSE ns/flow/r/0/replay_sleep/0",
            "RUN_COMPLETED ns/flow/r/0 -",
        ]
    assert woke == [START + timedelta(seconds=1, milliseconds=234)]


DURATIONS = [  # by the milliseconds that they last
    (SleepRequest(), 0),
    (wish(), 0),
    (wish(-5), 0),
    (wish(0, -1), 0),
    (wish(0, 1), 1),
    (wish(0, 1_000), 1),
    (wish(1, -500_000_000), 500),
    (wish(0, 999_000_001), 1000),
    (wish(0, 999_999_999), 1000),
    (wish(1, 500_000_000), 1500),
    (wish(86_400 * 400, 1_000_000), 86_400_000 * 400 + 1),
]


def test_r7_durations_are_rounded_up_to_milliseconds(url: str) -> None:
    """R7: a fraction of a millisecond makes a sleep longer, never shorter; none is negative."""
    ends = [START + timedelta(milliseconds=lasts) for _, lasts in DURATIONS]
    with stepped(url, clock := Clock()) as client:
        for n, (message, _) in enumerate(DURATIONS):
            request(client, place(str(n)), message)
        for end in sorted({START, *ends}):
            for moment in (end - timedelta(milliseconds=1), end):
                clock.now = max(clock.now, moment)
                drain(sleeper(client))
                assert moments(client) == [
                    (to_text(START), to_text(due), int(due <= clock.now)) for due in ends
                ]
                assert len(woken(client)) == sum(due <= clock.now for due in ends)


@pytest.mark.parametrize("message", [wish(315_576_000_000), wish(315_576_000_000, 999_999_999)])
def test_r7_ages_end_with_the_calendar(url: str, message: SleepRequest) -> None:
    """R7: a sleep beyond the year 9999 lasts until its end, which every database can store."""
    with stepped(url, clock := Clock()) as client:
        request(client, place("r"), message)
        drain(sleeper(client))
        assert moments(client) == [(to_text(START), "9999-12-31 00:00:00.000", 0)]
        clock.now = datetime(9999, 12, 31, tzinfo=START.tzinfo)
        drain(sleeper(client))
        assert woken(client) == ["r"]


def test_r7_a_sleep_may_end_in_the_last_millisecond_of_the_calendar(url: str) -> None:
    """R7, P5: nor is what cannot be rounded up any more an error that stops the others."""
    last = datetime(9999, 12, 31, 23, 59, 59, tzinfo=START.tzinfo)
    seconds = int((last - START).total_seconds())
    with stepped(url, Clock()) as client:
        request(client, place("late"), wish(seconds, 999_999_000))
        request(client, place("now"), wish())
        drain(sleeper(client))
        assert woken(client) == ["now"]
        assert moments(client)[0] == (to_text(START), "9999-12-31 00:00:00.000", 0)


def test_p9_a_sleep_counts_from_its_request(url: str) -> None:
    """R7, P9: a consumer that comes late makes no sleep longer."""
    with stepped(url, clock := Clock()) as client:
        request(client, place("short"), wish(1))
        request(client, place("long"), wish(2))
        clock.forward(milliseconds=1500)
        sleeper(client).step()
        assert woken(client) == ["short"]
        clock.forward(milliseconds=499)
        drain(sleeper(client))
        assert woken(client) == ["short"]
        clock.forward(milliseconds=1)
        drain(sleeper(client))
        assert woken(client) == ["short", "long"]
        one, two = (to_text(START + timedelta(seconds=n)) for n in (1, 2))
        assert moments(client) == [(to_text(START), one, 1), (to_text(START), two, 1)]


def test_r7_a_thread_wakes_when_a_sleep_is_due(url: str) -> None:
    """R7: a consumer in its thread sleeps no longer than to the nearest end."""

    def flow(ctx: RunContext, message: Empty) -> None:
        for _ in range(3):
            ctx.sleep(timedelta(milliseconds=7))

    with connect(url) as client:
        register_workflow(client, "ns", flow)
        client.run_workflow("ns", "flow", "r", Empty())
        client.await_completion("ns", "flow", "r", timeout=60)
        assert woken(client) == ["r"] * 3


# A1, P6, P12: each is answered once, whatever happens.


@pytest.mark.parametrize("kind", ["before", "after"])
def test_a1_a_fault_at_any_write_loses_and_repeats_nothing(url: str, kind: str) -> None:
    """A1, R7, P6: the answer and its mark are one transaction, whichever of them fails."""
    with stepped(url, clock := Clock()) as client:
        drain(consumer := sleeper(client))
        faults = Faults(database(client))
        attempt = failed = 1
        while failed:
            run = f"r{attempt}"
            request(client, place(run, 0), wish())
            request(client, place(run, 1), wish(1))
            setattr(faults, kind, attempt)
            failed = endure(consumer)
            clock.forward(seconds=1)
            failed += endure(consumer)
            setattr(faults, kind, 0)
            asked, answered = f"ACTIVITY_REQUEST {place(run)}", f"ACTIVITY_RESPONSE {place(run)}"
            assert listing(client, "ns", "flow", run) == [
                f"{asked} duration {{ }}",
                f"{asked[:-1]}1 duration {{ seconds: 1 }}",
                answered,
                f"{answered[:-1]}1",
            ]
            attempt += 1
        assert attempt > 2
        assert {done for _, _, done in moments(client)} == {1}


def test_r7_a_killed_process_leaves_its_sleeps_to_the_next(url: str) -> None:
    """R7, P6: pending ones end when they are due, and those that ended do not end again."""
    with stepped(url, clock := Clock()) as client:
        request(client, place("a"), wish(1))
        request(client, place("b"), wish(2))
        drain(consumer := sleeper(client))
        clock.forward(seconds=1)
        drain(consumer)
        crash(client, consumer)
    with stepped(url, clock) as client:
        take_over(sleeper(client))
        drain(sleeper(client))
        assert woken(client) == ["a"]
        clock.forward(seconds=1)
        drain(sleeper(client))
        assert woken(client) == ["a", "b"]


@pytest.mark.embedded
def test_p12_a_cursor_set_back_repeats_no_sleep(url: str) -> None:
    """P12, A4: requests that are read again are neither answered nor stored again."""
    with stepped(url, clock := Clock()) as client:
        request(client, place("done"), wish())
        request(client, place("pending"), wish(1))
        drain(sleeper(client))
    with stepped(url, clock) as client:
        rewind(client, sleeper(client))
        faults = Faults(database(client))
        drain(sleeper(client))
        assert faults.writes <= 2  # the claim, and the cursor moved
        clock.forward(seconds=1)
        drain(sleeper(client))
        assert woken(client) == ["done", "pending"]
        assert [done for _, _, done in moments(client)] == [1, 1]


@pytest.mark.embedded
def test_p6_ended_sleeps_are_marked_and_not_looked_at_again(url: str) -> None:
    """P6: rows that another system answered and never marked cost one step, and no more."""
    with stepped(url, Clock()) as client:
        request(client, place("r"), wish())
        drain(sleeper(client))
        database(client).query("UPDATE replay_sleeps SET completed = 0")
    with stepped(with_options(url, lease=3600), Clock()) as client:
        drain(sleeper(client))
        assert [done for _, _, done in moments(client)] == [1]
        faults = Faults(database(client))
        for _ in range(10):
            assert sleeper(client).step() == 0
        assert faults.writes == 0
        assert woken(client) == ["r"]


def test_p6_a_thousand_pending_sleeps_cost_nothing(url: str) -> None:
    """P6, P21: no write and no query, until one is due; then one transaction."""
    with stepped(with_options(url, lease=3600), clock := Clock()) as client:
        asked = EventType.ACTIVITY_REQUEST
        client.log.commit(
            [client.log.event(asked, place("r", n), wish(60 + n)) for n in range(1000)]
        )
        drain(consumer := sleeper(client))
        queries, faults = Queries(database(client)), Faults(database(client))
        for _ in range(100):
            clock.forward(milliseconds=100)
            assert consumer._step(0) == 0
        assert (queries.count, faults.writes) == (0, 0)
        clock.forward(seconds=50)
        drain(consumer)
        assert (faults.writes, woken(client)) == (1, ["r"])
        clock.forward(hours=1)
        drain(consumer)
        assert len(woken(client)) == 1000
        queries.count = faults.writes = 0
        for _ in range(100):
            assert consumer._step(0) == 0
        assert (queries.count, faults.writes) == (0, 0)
        assert {done for _, _, done in moments(client)} == {1}


# P5: requests that cannot be served.


BAD: list[tuple[Message | None, str]] = [
    (String(value="1 s"), "MessageError: {} holds no replaypb.SleepRequest"),
    (None, "MessageError: {} holds no replaypb.SleepRequest"),
    (wish(0, 1_000_000_000), "MessageError: {} asks for 0 s and 1000000000 ns"),
    (wish(0, -1_000_000_000), "MessageError: {} asks for 0 s and -1000000000 ns"),
    (wish(315_576_000_001), "MessageError: {} asks for 315576000001 s and 0 ns"),
    (wish(-(2**63)), "MessageError: {} asks for -9223372036854775808 s and 0 ns"),
]


def test_p5_requests_that_cannot_be_served_are_set_aside(url: str) -> None:
    """P5: a wrong message type or duration holds up nobody, at a restart neither."""
    with stepped(url, clock := Clock()) as client:
        for n, (message, _) in enumerate(BAD):
            request(client, place("bad", n), message)
        damaged = client.log.event(EventType.ACTIVITY_REQUEST, place("damaged"))
        damaged.raw = b"\x0a\xff"
        behind(client).commit([damaged])
        request(client, place("good"), wish())
        sleeper(client).step()
        assert woken(client) == ["good"]
        parked = sleeper(client).parked()
        expected = [error.format(place("bad", n)) for n, (_, error) in enumerate(BAD)]
        assert [each.error for each in parked[:-1]] == expected
        assert parked[-1].error.startswith("MessageError: a stored message is damaged")
        crash(client, sleeper(client))
    with stepped(url, clock) as client:
        take_over(sleeper(client))
        request(client, place("better"), wish())
        drain(sleeper(client))
        assert woken(client) == ["good", "better"]
        assert [each.attempts for each in sleeper(client).parked()] == [2] * (len(BAD) + 1)
        clock.forward(minutes=5)
        drain(sleeper(client))
        assert [each.attempts for each in sleeper(client).parked()] == [3] * (len(BAD) + 1)


@pytest.mark.embedded
def test_p5_a_request_that_can_be_served_after_all_is(url: str) -> None:
    """P5: what was parked is tried again, and its row goes with the success."""
    with stepped(url, clock := Clock()) as client:
        request(client, place("r"), String())
        drain(sleeper(client))
        raw = client.log.event(EventType.ACTIVITY_REQUEST, place("r"), wish(1)).raw
        database(client).query("UPDATE replay_events SET message = ?", (raw,))
    with stepped(url, clock) as client:
        clock.forward(milliseconds=500)
        drain(sleeper(client))
        assert (sleeper(client).parked(), woken(client)) == ([], [])
        clock.forward(milliseconds=500)
        drain(sleeper(client))
        assert woken(client) == ["r"]


# Memory: only the nearest are kept there.


def test_r10_more_sleeps_than_memory_holds_all_end_in_order(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R7, R10: with room for three, twenty sleeps end when they are due, the nearest first."""
    monkeypatch.setattr(Timers, "LIMIT", 3)
    lengths = list(range(1, 21))
    random.Random(7).shuffle(lengths)
    with stepped(url, clock := Clock()) as client:
        consumer = sleeper(client)
        for seconds in lengths:
            request(client, place(str(seconds)), wish(seconds))
            drain(consumer)
        assert len(consumer._timers._heap) <= 6  # type: ignore[attr-defined]
        for second in range(1, 21):
            clock.forward(seconds=1)
            drain(consumer)
            assert woken(client) == [str(n) for n in range(1, second + 1)]
        assert {done for _, _, done in moments(client)} == {1}


def test_r10_a_sleep_that_begins_while_the_last_ones_end_is_not_lost(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R7, R10: memory is filled up from the table only when all that was begun is in the table."""
    monkeypatch.setattr(Timers, "LIMIT", 2)
    with stepped(url, clock := Clock()) as client:
        consumer = sleeper(client)
        for n in range(5):
            request(client, place(f"{n}"), wish(1 + n))
        drain(consumer)
        for _ in range(4):
            clock.forward(seconds=1)
            drain(consumer)
        clock.forward(seconds=1)
        request(client, place("new"), wish(5))
        drain(consumer)
        assert woken(client) == ["0", "1", "2", "3", "4"]
        clock.forward(seconds=5)
        drain(consumer)
        assert woken(client) == ["0", "1", "2", "3", "4", "new"]


class Table:
    """What `Timers` is used for, without a database: rows that are stored when a step is over."""

    LIMIT = 3

    def __init__(self) -> None:
        self.stored: dict[str, int] = {}
        self.timers = Timers(self._load)
        self.timers.LIMIT = self.LIMIT
        self.timers.reload()

    def _load(self, limit: int) -> list[tuple[datetime, str]]:
        nearest = sorted(self.stored.items(), key=lambda row: (row[1], row[0]))[:limit]
        return [(START + timedelta(seconds=due), key) for key, due in nearest]

    def step(self, begun: dict[str, int], now: int) -> list[str]:
        for key, due in begun.items():
            self.timers.add(START + timedelta(seconds=due), key)
        taken = [key for _, key in self.timers.pop(START + timedelta(seconds=now))]
        self.stored |= begun
        for key in taken:
            del self.stored[key]  # once: a second time is an error
        return taken


@given(st.lists(st.lists(st.integers(0, 12), max_size=8), max_size=12))
def test_r10_timers_take_out_each_row_once_and_in_order(steps: list[list[int]]) -> None:
    """R7, R10: whatever begins when, all that is due comes out, once, the nearest first."""
    table, pending = Table(), dict[str, int]()
    for now, lengths in enumerate(steps):
        begun = {f"{now}/{n}": now + length for n, length in enumerate(lengths)}
        pending |= begun
        taken = table.step(begun, now)
        while more := table.step({}, now):
            taken += more
        due = [pending.pop(key) for key in taken]
        assert due == sorted(due)
        assert not due or due[-1] <= now
        assert all(end > now for end in pending.values())


def test_r7_s4_the_longest_wait_is_one(url: str) -> None:
    """R7, S4: a sleep or a timeout of any length is taken, and ends in the year 9999."""

    def flow(ctx: RunContext, message: Empty) -> None:
        ctx.await_signal(1, timedelta.max)

    with stepped(url, Clock()) as client:
        workflow = register_workflow(client, "ns", flow, start=False)
        client.run_workflow("ns", "flow", "r", Empty())
        drain(workflow, *loops(client))
        client.signal_run("ns", "flow", "r", 1, None, "1")
        drain(workflow, *loops(client))
        assert workflow.parked() == []
        assert listing(client)[-1] == "RUN_COMPLETED ns/flow/r/0 -"
        ((until,),) = rows(client, "SELECT timeout_at FROM replay_signal_awaits")
        assert until == "9999-12-31 00:00:00.000"
