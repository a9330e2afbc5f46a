"""Signals: which await gets which one, and that nothing is lost or delivered twice on the way."""

import threading
from collections.abc import Callable
from datetime import timedelta
from enum import IntEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay import (
    Client,
    Consumer,
    EventType,
    Key,
    RunContext,
    Signal,
    connect,
    register_workflow,
)
from replay.server.proto.replaypb_pb2 import SleepDone, SleepRequest
from replay.signal import InvalidSignal, signal_hash
from replay.sleep import Timers
from replay.storage.database import Insert, Statement, to_text
from replay.storage.event import InvalidName, MessageTooLarge, NotAMessage
from tests.example_pb2 import Empty, Int, String
from tests.support import (
    START,
    Clock,
    Faults,
    LogLines,
    Queries,
    Raw,
    crash,
    cursor,
    database,
    drain,
    endure,
    listing,
    loops,
    raw,
    request,
    rewind,
    rows,
    stepped,
    take_over,
    with_options,
)

pytestmark = pytest.mark.contract

SEEN = "replay_signal/seen"


class Kind(IntEnum):
    STOP = 3


def matcher(client: Client) -> Consumer:
    (found,) = (each for each in loops(client) if each.name == "replay_signal")
    return found


def send(client: Client, number: int, type: int = 0, run: str = "r") -> bool:
    return client.signal_run("ns", "flow", run, type, Int(value=number), str(number))


def place(count: int, type: int = 0, run: str = "r") -> Key:
    return Key("ns", "flow", run, 0, "replay_signal", f"{type}:{count}")


def wait(client: Client, count: int = 0, seconds: int = 60, type: int = 0, run: str = "r") -> None:
    """Add an await by hand."""
    made = SleepRequest()
    made.duration.seconds = seconds
    request(client, place(count, type, run), made)


def answers(client: Client, run: str = "r") -> list[str]:
    """The answers to a run's awaits, in order: TYPE:COUNT and the message."""
    found = client.stream("ns", "flow", run, to_head=True)
    responses = [each for each in found if each.type is EventType.ACTIVITY_RESPONSE]
    return [f"{each.key.sequence} {said(each.message)}" for each in responses]


def said(message: Any) -> str:
    if message is None:
        return "nothing"
    return str(message.value) if isinstance(message, Int) else type(message).__name__


def statuses(client: Client) -> list[int]:
    return [row[0] for row in rows(client, "SELECT status FROM replay_signal_awaits ORDER BY id")]


def takers(client: Client) -> list[str | None]:
    """For each signal the await that took it."""
    query = (
        "SELECT a.`key` FROM replay_signals s LEFT JOIN replay_signal_awaits a"
        " ON a.id = s.check_id ORDER BY s.id"
    )
    return [row[0] and Key.parse(row[0]).sequence for row in rows(client, query)]


# S1, P8: what makes a signal unique.


def test_s1_a_signal_is_sent_once(url: str) -> None:
    """S1: a second one of the same run, type and external id says no and changes nothing."""
    with stepped(url) as client:
        assert client.signal_run("ns", "flow", "r", 1, Int(value=1), "x")
        assert not client.signal_run("ns", "flow", "r", 1, Int(value=2), "x")
        assert client.signal_run("ns", "flow", "r", 2, Int(value=3), "x")
        assert client.signal_run("ns", "flow", "r", 1, Int(value=4), "y")
        assert client.signal_run("ns", "flow", "s", 1, Int(value=5), "x")
        assert client.signal_run("ns", "flow2", "r", 1, Int(value=6), "x")
        assert client.signal_run("ns2", "flow", "r", 1, Int(value=7), "x")
    with stepped(url) as client:
        assert not client.signal_run("ns", "flow", "r", 1, Int(value=2), "x")
        query = "SELECT namespace, workflow, run, type, external_id, check_id FROM replay_signals"
        assert rows(client, f"{query} ORDER BY id") == [
            ("ns", "flow", "r", 1, "x", None),
            ("ns", "flow", "r", 2, "x", None),
            ("ns", "flow", "r", 1, "y", None),
            ("ns", "flow", "s", 1, "x", None),
            ("ns", "flow2", "r", 1, "x", None),
            ("ns2", "flow", "r", 1, "x", None),
        ]


def test_s1_a_used_signal_stays_used(url: str) -> None:
    """S1: also when an await has taken it, and its run has ended."""
    with stepped(url, Clock()) as client:
        wait(client)
        send(client, 1)
        drain(matcher(client))
        assert not send(client, 1)
        assert takers(client) == ["0:0"]


def test_s1_many_who_send_the_same_at_once_store_one(url: str) -> None:
    """S1: exactly one of them is told yes."""
    told: list[bool] = []
    with connect(url, loops=False) as one, connect(url, loops=False) as two:

        def post(client: Client) -> None:
            for number in range(20):
                told.append(send(client, number))

        threads = [threading.Thread(target=post, args=(each,)) for each in (one, two, one, two)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(told), sum(told)) == (80, 20)
        assert len(rows(one, "SELECT id FROM replay_signals")) == 20


@pytest.mark.embedded
def test_s1_a_duplicate_is_found_even_if_it_came_after_the_look(url: str) -> None:
    """S1: two that both found nothing there: the second one's insert is refused, and it says no."""
    with stepped(url) as client, stepped(url) as other:
        query = database(client).query

        def slow(sql: str, parameters: Any = ()) -> Any:
            found = query(sql, parameters)
            if "FROM replay_signals WHERE namespace" in sql and not found:
                assert send(other, 1)
            return found

        database(client).query = slow  # type: ignore[method-assign]
        database(client).loses_ids = True  # or SQLite does not look
        assert not send(client, 1)
        assert len(rows(other, "SELECT id FROM replay_signals")) == 1


PAIRS = [
    (("ns", "wa", "b", 0, ""), ("ns", "w", "ab", 0, "")),
    (("n", "sw", "b", 0, ""), ("ns", "w", "b", 0, "")),
    (("ns", "w", "case", 0, ""), ("ns", "w", "Case", 0, "")),
    (("ns", "w", "e", 0, ""), ("ns", "w", "\u00e9", 0, "")),
    (("ns", "w", "e", 0, "x"), ("ns", "w", "e", 0, "x ")),
    (("ns", "w", "e", 0, "x"), ("ns", "w", "e", 0, "X")),
    (("ns", "w", "r", -1, ""), ("ns", "w", "r", 1, "")),
    (("ns", "w", "r", 0, "\x01"), ("ns", "w", "r", 1, "")),
]


def test_p8_different_signals_are_not_taken_for_one(url: str) -> None:
    """S1, P8, L8: shifted names, other case, accents or spaces, other signs: other signals."""
    different = dict.fromkeys(signal for pair in PAIRS for signal in pair)
    with stepped(url) as client:
        for expected in (True, False):
            for signal in different:
                namespace, workflow, run, type, external_id = signal
                sent = client.signal_run(namespace, workflow, run, type, None, external_id)
                assert (signal, sent) == (signal, expected)


PART = st.text("ab\x00", max_size=3)
TUPLES = st.tuples(PART, PART, PART, st.integers(-128, 127), PART)


@given(TUPLES, TUPLES)
def test_p8_hashes_differ_where_tuples_do(
    one: tuple[str, str, str, int, str], two: tuple[str, str, str, int, str]
) -> None:
    """S1, P8: equal hashes mean equal signals."""
    assert (signal_hash(*one) == signal_hash(*two)) == (one == two)


@given(PART, st.data())
def test_p8_moving_a_border_between_parts_changes_the_hash(text: str, data: st.DataObject) -> None:
    """S1, P8: the same characters, divided among the parts in another way."""
    cuts = st.integers(0, len(text))
    divided = []
    for _ in range(2):
        a, b = sorted([data.draw(cuts), data.draw(cuts)])
        divided.append((text[:a], text[a:b], text[b:], 0, ""))
    one, two = divided
    assert (signal_hash(*one) == signal_hash(*two)) == (one == two)


# What can be sent.


TYPES = [-128, -1, 0, 1, 127, Kind.STOP]


def test_every_type_that_a_byte_holds_can_be_sent_and_awaited(url: str) -> None:
    """S2: types from -128 to 127, and enums, arrive as plain numbers."""
    got: list[Signal | None] = []

    def flow(ctx: RunContext, message: Empty) -> None:
        got.extend(ctx.await_signal(type, timedelta(seconds=60)) for type in TYPES)

    with stepped(url) as client:
        consumers = [register_workflow(client, "ns", flow, start=False), matcher(client)]
        client.run_workflow("ns", "flow", "r", Empty())
        for type in TYPES:
            send(client, 5, type)
        drain(*consumers)
        assert answers(client) == [f"{int(type)}:0 5" for type in TYPES]
        stored = rows(client, "SELECT type FROM replay_signals ORDER BY id")
        assert stored == [(int(type),) for type in TYPES]
    assert got == [Signal(int(type), Int(value=5)) for type in TYPES]


def test_external_ids_are_any_text(url: str) -> None:
    """S1: up to 255 characters, of any kind."""
    ids = ["", "x" * 255, "é" * 255, "a/b", " ", "🎈"]
    with stepped(url) as client:
        for external_id in ids:
            assert client.signal_run("ns", "flow", "r", 0, None, external_id)
            assert not client.signal_run("ns", "flow", "r", 0, None, external_id)
        stored = rows(client, "SELECT external_id FROM replay_signals ORDER BY id")
        assert stored == [(external_id,) for external_id in ids]


RUN = ("ns", "flow", "r")
REFUSED: list[tuple[tuple[str, str, str], Any, Any, Any, type[Exception], str]] = [
    *((RUN, type, None, "", InvalidSignal, "types are numbers") for type in (-129, 128, 200)),
    *((RUN, type, None, "", InvalidSignal, "expected an int") for type in (True, "1", 1.0, None)),
    *((RUN, 0, None, text, InvalidSignal, "external id") for text in ("x" * 256, "a\0b", "\ud800")),
    *((RUN, 0, None, thing, InvalidSignal, "external id") for thing in (7, None)),
    (("", "flow", "r"), 0, None, "", InvalidName, "namespace '' is empty"),
    (("ns", "a/b", "r"), 0, None, "", InvalidName, "workflow 'a/b' holds a slash"),
    (("ns", "flow", "r "), 0, None, "", InvalidName, "run 'r ' starts or ends with white space"),
    (RUN, 0, object(), "", NotAMessage, "object is neither a protobuf message"),
    (RUN, 0, String(value="x" * 1000), "", MessageTooLarge, "the limit is 1000"),
    (RUN, 0, SleepDone(), "", InvalidSignal, "would look like a timeout"),
    (RUN, 0, SleepDone(), "x", InvalidSignal, "would look like a timeout"),
]


def test_what_cannot_be_sent_is_refused(url: str) -> None:
    """S1, S4, N2, N3: at the call, saying why, and nothing is stored."""
    with stepped(with_options(url, max_message=1000)) as client:
        for names, kind, message, external_id, error, why in REFUSED:
            with pytest.raises(error, match=why):
                client.signal_run(*names, kind, message, external_id)
        assert rows(client, "SELECT id FROM replay_signals") == []


# S2, P7: order, one await for each signal, one signal for each await.


def collector(number: int, got: list[Signal | None], type: int = 0) -> Callable[..., None]:
    """A workflow that awaits so many signals, a minute each."""

    def flow(ctx: RunContext, message: Empty) -> None:
        for _ in range(number):
            got.append(ctx.await_signal(type, timedelta(minutes=1)))

    return flow


def numbers(got: list[Signal | None]) -> list[int | None]:
    return [None if signal is None else signal.message.value for signal in got]


def test_p7_buffered_signals_are_taken_in_the_order_in_which_they_came(url: str) -> None:
    """S2, P7: eight of one type come first to last; the whole log, and nothing is taken twice."""
    got: list[Signal | None] = []
    with stepped(url, Clock()) as client:
        for number in range(8):
            send(client, number)
            send(client, 100 + number, type=1)
        flow = register_workflow(client, "ns", collector(8, got), start=False)
        client.run_workflow("ns", "flow", "r", Empty())
        drain(flow, matcher(client))
        lines = ["RUN_CREATED ns/flow/r/0"]
        for number in range(8):
            lines.append(f"ACTIVITY_REQUEST {place(number)} duration {{ seconds: 60 }}")
            lines.append(f"ACTIVITY_RESPONSE {place(number)} value: {number}".replace(": 0", ":"))
        lines = [line.removesuffix(" value:") for line in lines]
        assert listing(client) == [*lines, "RUN_COMPLETED ns/flow/r/0 -"]
        assert takers(client) == [x for n in range(8) for x in (f"0:{n}", None)]
        assert statuses(client) == [3] * 8
    assert numbers(got) == list(range(8))


def test_s2_two_awaits_of_one_type_share_nothing(url: str) -> None:
    """S2: with several awaits open at once, the first gets the first signal."""
    with stepped(url, Clock()) as client:
        wait(client, 0)
        wait(client, 1)
        wait(client, 0, type=5)
        send(client, 7)
        drain(matcher(client))
        assert answers(client) == ["0:0 7"]
        assert (takers(client), statuses(client)) == (["0:0"], [3, 1, 1])
        send(client, 8)
        send(client, 9)
        drain(matcher(client))
        assert answers(client) == ["0:0 7", "0:1 8"]
        assert (takers(client), statuses(client)) == (["0:0", "0:1", None], [3, 3, 1])


def test_s2_a_signal_is_for_its_own_run_only(url: str) -> None:
    """S2, L8: not for one that is like it, nor for the same run of another workflow."""
    runs = ["r", "R", "r0", "r.", "r r", "\u00e9", "e"]
    with stepped(url, Clock()) as client:
        for run in runs:
            wait(client, run=run)
        send(client, 1, run="r")
        assert client.signal_run("ns", "flow0", "R", 0, None, "")
        drain(matcher(client))
        assert takers(client) == ["0:0", None]
        assert [answers(client, run) for run in runs] == [["0:0 1"], [], [], [], [], [], []]


@pytest.mark.one_server
def test_p6_a_thousand_signals_come_in_one_step(url: str) -> None:
    """P6, S2: a burst is one transaction, not one poll a signal; in order all the same."""
    with stepped(url, Clock()) as client:
        asked = [client.log.event(EventType.ACTIVITY_REQUEST, place(n)) for n in range(1000)]
        raw_request = SleepRequest()
        raw_request.duration.seconds = 60
        for event in asked:
            event.raw = client.log.event(EventType.ACTIVITY_REQUEST, event.key, raw_request).raw
        client.log.commit(asked)
        drain(matcher(client))
        post(client, 1000)
        faults = Faults(database(client))
        matcher(client).step()
        assert faults.writes <= 2  # one of them may be the lease
        assert answers(client) == [f"0:{n} {n}" for n in range(1000)]
        assert takers(client) == [f"0:{n}" for n in range(1000)]


def post(client: Client, number: int, first: int = 0) -> None:
    """Send many signals at once."""
    now = to_text(database(client).now())
    signals = []
    for n in range(first, first + number):
        mark = signal_hash("ns", "flow", "r", 0, str(n))
        raw_message = client.log.event(EventType.NOOP, place(0), Int(value=n)).raw
        signals.append(("ns", "flow", "r", mark, 0, str(n), raw_message, now))
    columns = "namespace, workflow, run, hash, type, external_id, message, created_at"
    database(client).write((), Insert("replay_signals", columns, signals))


# S3, S5: when it is sent.


@pytest.mark.parametrize("when", ["before the run", "before the await", "after the await"])
def test_s3_a_signal_is_kept_until_it_is_awaited(url: str, when: str) -> None:
    """S3: whether it was sent before the run existed, before it awaited, or later."""
    got: list[Signal | None] = []

    def flow(ctx: RunContext, message: Empty) -> None:
        ctx.sleep(timedelta(seconds=1))
        got.append(ctx.await_signal(0, timedelta(minutes=1)))

    with stepped(url, clock := Clock()) as client:
        consumers = [register_workflow(client, "ns", flow, start=False), *loops(client)]
        for moment in ("before the run", "before the await", "after the await"):
            drain(*consumers)
            if moment == when:
                send(client, 4)
            if moment == "before the run":
                client.run_workflow("ns", "flow", "r", Empty())
            if moment == "before the await":
                drain(*consumers)
                clock.forward(seconds=1)
        drain(*consumers)
        assert listing(client) == [
            "RUN_CREATED ns/flow/r/0",
            "ACTIVITY_REQUEST ns/flow/r/0/replay_sleep/0 duration { seconds: 1 }",
            "ACTIVITY_RESPONSE ns/flow/r/0/replay_sleep/0",
            f"ACTIVITY_REQUEST {place(0)} duration {{ seconds: 60 }}",
            f"ACTIVITY_RESPONSE {place(0)} value: 4",
            "RUN_COMPLETED ns/flow/r/0 -",
        ]
    assert numbers(got) == [4]


def test_s3_a_signal_of_an_earlier_iteration_is_kept(url: str) -> None:
    """S3, R6: counts begin again with each iteration, signals go on."""
    got: list[tuple[int, int | None]] = []

    def flow(ctx: RunContext, message: Int) -> None:
        signal = ctx.await_signal(0, timedelta(minutes=1))
        got.append((ctx.iteration, numbers([signal])[0]))
        if message.value:
            ctx.restart(Int(value=message.value - 1))

    with stepped(url, Clock()) as client:
        consumers = [register_workflow(client, "ns", flow, start=False), matcher(client)]
        for number in (10, 11):
            send(client, number)
        client.run_workflow("ns", "flow", "r", Int(value=2))
        drain(*consumers)
        assert got == [(0, 10), (1, 11)]
        send(client, 12)
        drain(*consumers)
        assert got == [(0, 10), (1, 11), (2, 12)]
        query = "SELECT `key` FROM replay_signal_awaits ORDER BY id"
        keys = [f"ns/flow/r/{n}/replay_signal/0:0" for n in range(3)]
        assert rows(client, query) == [(key,) for key in keys]


def test_s5_signals_that_nobody_takes_are_no_error(url: str) -> None:
    """S5: the run ends, they stay, nothing is said and nothing is parked."""
    got: list[Signal | None] = []
    with stepped(url, Clock()) as client, LogLines() as log:
        consumers = [
            register_workflow(client, "ns", collector(1, got), start=False),
            matcher(client),
        ]
        client.run_workflow("ns", "flow", "r", Empty())
        for number in range(3):
            send(client, number)
        send(client, 9, run="never")
        drain(*consumers)
        send(client, 4)
        drain(*consumers)
        assert listing(client)[-1] == "RUN_COMPLETED ns/flow/r/0 -"
        assert takers(client) == ["0:0", None, None, None, None]
        assert (log.lines, matcher(client).parked()) == ([], [])


# S4, P19: timeouts.


def test_s4_no_signal_differs_from_one_without_a_message(url: str) -> None:
    """S4: None for a timeout; a signal for an empty message and for none at all."""
    got: list[Signal | None] = []
    with stepped(url, clock := Clock()) as client:
        flow = register_workflow(client, "ns", collector(3, got), start=False)
        client.run_workflow("ns", "flow", "r", Empty())
        client.signal_run("ns", "flow", "r", 0, Empty(), "empty")
        client.signal_run("ns", "flow", "r", 0, None, "none")
        drain(flow, matcher(client))
        clock.forward(seconds=60)
        drain(flow, matcher(client))
        assert got == [Signal(0, Empty()), Signal(0, None), None]
        assert answers(client) == ["0:0 Empty", "0:1 nothing", "0:2 SleepDone"]
        assert statuses(client) == [3, 3, 2]


def test_s4_a_signal_after_the_time_out_is_for_the_next_await(url: str) -> None:
    """S4: it is neither lost nor given to the await that has ended."""
    got: list[Signal | None] = []
    with stepped(url, clock := Clock()) as client:
        flow = register_workflow(client, "ns", collector(2, got), start=False)
        client.run_workflow("ns", "flow", "r", Empty())
        drain(flow, matcher(client))
        clock.forward(milliseconds=59_999)
        drain(flow, matcher(client))
        assert got == []
        clock.forward(milliseconds=1)
        drain(flow, matcher(client))
        assert got == [None]
        send(client, 1)
        drain(flow, matcher(client))
    assert numbers(got) == [None, 1]


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (59_999, ["0:0 1"]),
        (60_000, ["0:0 1"]),
        (60_001, ["0:0 SleepDone", "0:1 1"]),
    ],
)
@pytest.mark.parametrize("stored", [False, True])
def test_p19_a_time_out_and_a_signal_at_the_same_moment(
    url: str, sent: int, expected: list[str], stored: bool
) -> None:
    """P19, S4: never both and never neither; who was first decides, however late we look.

    `stored`: whether the awaits were stored in time, or are read together with the signal.
    """
    with stepped(url, clock := Clock()) as client:
        wait(client, 0, seconds=60)
        wait(client, 1, seconds=3600)
        if stored:
            drain(matcher(client))
        clock.now = START + timedelta(milliseconds=sent)
        send(client, 1)
        clock.now = START + timedelta(seconds=100)
        drain(matcher(client))
        assert answers(client) == expected
        assert takers(client) == [expected[-1].split()[0]]


def test_p19_a_signal_in_time_behind_a_thousand_others_counts(url: str) -> None:
    """P19, S4: an await times out only when all signals that came before have been looked at."""
    with stepped(url, clock := Clock()) as client:
        wait(client, 0, seconds=60, type=1)
        drain(matcher(client))
        post(client, 1500)
        send(client, -1, type=1)
        clock.forward(seconds=61)
        drain(matcher(client))
        assert answers(client) == ["1:0 -1"]


def test_p19_a_signal_in_time_counts_after_a_restart(url: str) -> None:
    """P19, S4: what was sent while nobody served it is looked for before an await times out."""
    with stepped(url, clock := Clock()) as client:
        wait(client, 0, seconds=60)
        drain(matcher(client))
    with stepped(url, clock) as client, stepped(url, clock) as other:
        send(other, 1)
        clock.forward(seconds=61)
        matcher(client)._step(0)  # as its thread does, which may be faster than that which polls
        assert answers(client) == ["0:0 1"]


@pytest.mark.parametrize("seconds", [0, -1])
def test_s4_an_await_of_no_time_takes_what_is_there(url: str, seconds: int) -> None:
    """S4: it answers at once, with a signal that was sent before, or with none."""
    with stepped(url, clock := Clock()) as client:
        send(client, 1)
        clock.forward(seconds=2)
        wait(client, 0, seconds=seconds)
        wait(client, 1, seconds=seconds)
        matcher(client).step()
        assert answers(client) == ["0:0 1", "0:1 SleepDone"]


def test_s4_more_awaits_than_memory_holds_all_time_out(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S4, R10: with room for two, nine awaits end when their time is over, or with a signal."""
    monkeypatch.setattr(Timers, "LIMIT", 2)
    with stepped(url, clock := Clock()) as client:
        for n in range(9):
            wait(client, 0, seconds=9 - n, run=f"r{n}")
            drain(matcher(client))
        send(client, 7, run="r4")
        drain(matcher(client))
        for second in range(1, 10):
            clock.forward(seconds=1)
            drain(matcher(client))
            found = [answers(client, f"r{n}") for n in range(9)]
            done = ["0:0 SleepDone"]
            ended = [["0:0 7"] if n == 4 else done if second >= 9 - n else [] for n in range(9)]
            assert found == ended
        assert statuses(client) == [2, 2, 2, 2, 3, 2, 2, 2, 2]


# Crashes: answer, await and signal change together.


@pytest.mark.parametrize("kind", ["before", "after"])
def test_s2_a_fault_at_any_write_loses_and_repeats_nothing(url: str, kind: str) -> None:
    """S2, P7: whichever write fails: each signal is delivered once, each await answered once."""
    with stepped(url, clock := Clock()) as client:
        consumer = matcher(client)
        drain(consumer)
        faults = Faults(database(client))
        attempt = failed = 1
        while failed:
            run = f"r{attempt}"
            setattr(faults, kind, 0)
            send(client, 1, run=run)
            wait(client, 0, 60, run=run)
            wait(client, 1, 60, run=run)
            setattr(faults, kind, attempt)
            failed = endure(consumer)
            clock.forward(seconds=60)
            failed += endure(consumer)
            setattr(faults, kind, 0)
            send(client, 2, run=run)
            wait(client, 2, 60, run=run)
            drain(consumer)
            assert answers(client, run) == ["0:0 1", "0:1 SleepDone", "0:2 2"]
            attempt += 1
        assert attempt > 2
        assert statuses(client) == [3, 2, 3] * (attempt - 1)
        assert takers(client) == ["0:0", "0:2"] * (attempt - 1)


def test_p7_a_signal_after_a_crash_at_the_time_out_is_not_lost(url: str) -> None:
    """P7: timeout answered, crash, signal comes, restart: it is for the next await."""
    with stepped(url, clock := Clock()) as client:
        wait(client, 0, seconds=1)
        drain(matcher(client))
        clock.forward(seconds=1)
        drain(matcher(client))
        crash(client, matcher(client))
    with stepped(url, clock) as client:
        send(client, 1)
        take_over(matcher(client))
        drain(matcher(client))
        wait(client, 1)
        drain(matcher(client))
        assert answers(client) == ["0:0 SleepDone", "0:1 1"]


@pytest.mark.embedded
def test_p12_a_cursor_set_back_repeats_no_answer(url: str) -> None:
    """P12, S2: requests that are read again, and signals that are, change nothing."""
    with stepped(url, clock := Clock()) as client:
        wait(client, 0)
        wait(client, 1)
        send(client, 1)
        drain(matcher(client))
    with stepped(url, clock) as client:
        rewind(client, matcher(client))
        database(client).write(
            [Statement("UPDATE replay_cursors SET last_event_id = 0 WHERE id = ?", (SEEN,))]
        )
        faults = Faults(database(client))
        drain(matcher(client))
        assert faults.writes <= 3  # the lease, the claim, and the cursor moved
        assert answers(client) == ["0:0 1"]
    with stepped(url, clock) as client:
        rewind(client, matcher(client))
        assert client.signal_run("ns", "flow", "r", 0, Int(value=1), "the same message")
        drain(matcher(client))
        assert answers(client) == ["0:0 1", "0:1 1"]
        assert (takers(client), statuses(client)) == (["0:0", "0:1"], [3, 3])


# Signals' ids have gaps as well.


@pytest.mark.one_server
def test_s2_a_signal_that_commits_late_is_waited_for(server_url: str) -> None:
    """S2, L1, P14: a later one that is stored already does not overtake it."""
    with stepped(server_url, Clock()) as client, raw(server_url) as other:
        wait(client, 0)
        wait(client, 1)
        drain(matcher(client))
        hold(other, 1)
        send(client, 2)
        matcher(client).step()
        assert answers(client) == []
        assert matcher(client).due() == START + timedelta(milliseconds=30)
        other.run("COMMIT")
        drain(matcher(client))
        assert answers(client) == ["0:0 1", "0:1 2"]
        assert takers(client) == ["0:0", "0:1"]


@pytest.mark.one_server
def test_s2_an_await_that_begins_waits_for_a_signal_that_commits_late(server_url: str) -> None:
    """S2, L1: it takes none that is stored behind one whose transaction is open."""
    with stepped(server_url, Clock()) as client, raw(server_url) as other:
        hold(other, 1)
        send(client, 2)
        wait(client, 0)
        wait(client, 1)
        matcher(client).step()
        assert answers(client) == []
        other.run("COMMIT")
        drain(matcher(client))
        assert answers(client) == ["0:0 1", "0:1 2"]
        assert takers(client) == ["0:0", "0:1"]


@pytest.mark.one_server
def test_s2_a_signal_that_was_rolled_back_is_not_waited_for(server_url: str) -> None:
    """S2, P2: the gap is closed by a row that no await takes; the next signal comes at once."""
    with stepped(server_url, Clock()) as client, raw(server_url) as other:
        wait(client, 0)
        hold(other, 1)
        other.run("ROLLBACK")
        send(client, 2)
        drain(matcher(client))
        assert answers(client) == ["0:0 2"]
        query = "SELECT id, external_id, check_id FROM replay_signals ORDER BY id"
        assert rows(client, query) == [(1, "replay_noop/1", 0), (2, "2", 1)]


def hold(other: Raw, number: int) -> None:
    """Store a signal in a transaction that stays open."""
    other.run("BEGIN")
    other.run(
        "INSERT INTO replay_signals (namespace, workflow, run, hash, type, external_id, message,"
        " created_at) VALUES ('ns', 'flow', 'r', ?, 0, ?, ?, '2030-01-01 00:00:00.000')",
        signal_hash("ns", "flow", "r", 0, str(number)),
        str(number),
        b"\x0a\x1ftype.googleapis.com/example.Int\x12\x02\x08" + bytes([number]),
    )


def test_p2_gaps_among_signals_delay_nothing(url: str) -> None:
    """P2, P6: ids that somebody burnt are closed at once, however many, and not one a step."""
    ids = [3, 4, 6, 700, 702, 2500, 2502]
    with stepped(url, Clock()) as client:
        for n in range(len(ids)):
            wait(client, n)
        for n, id in enumerate(ids[:5]):
            deliver(client, id, n)
        matcher(client).step()
        assert answers(client) == [f"0:{n} {n}" for n in range(5)]
        for n, id in enumerate(ids[5:], 5):
            deliver(client, id, n)
        drain(matcher(client))
        assert answers(client) == [f"0:{n} {n}" for n in range(7)]
        query = "SELECT id FROM replay_signals WHERE check_id = 0 ORDER BY id"
        assert rows(client, query) == [(id,) for id in range(1, 2502) if id not in ids]


def deliver(client: Client, id: int, number: int) -> None:
    """Store a signal with this id."""
    mark = signal_hash("ns", "flow", "r", 0, str(number))
    raw_message = client.log.event(EventType.NOOP, place(0), Int(value=number)).raw
    row = (id, "ns", "flow", "r", mark, 0, str(number), raw_message, to_text(START))
    columns = "id, namespace, workflow, run, hash, type, external_id, message, created_at"
    database(client).write(database(client).insert_missing("replay_signals", columns, [row]))


# Awaits that another system left, and keys that make no sense.


def test_awaits_answered_by_another_system_are_left_alone(url: str) -> None:
    """S2, A1: one that has its answer in the log is marked, and takes no signal."""
    with stepped(url, Clock()) as client:
        wait(client, 0)
        wait(client, 1)
        wait(client, 2)
        drain(matcher(client))
        response = EventType.ACTIVITY_RESPONSE
        client.log.append(client.log.event(response, place(0), Int(value=50)))
        client.log.append(client.log.event(response, place(1), SleepDone()))
        send(client, 1)
        drain(matcher(client))
        assert answers(client) == ["0:0 50", "0:1 SleepDone", "0:2 1"]
        assert (takers(client), statuses(client)) == (["0:2"], [3, 2, 3])


def test_s2_a_signal_delivered_by_a_system_that_died_then_is_not_delivered_again(url: str) -> None:
    """S2, P7: answered, and not marked: the signal with that message is marked taken."""
    with stepped(url, Clock()) as client:
        wait(client, 0)
        wait(client, 1)
        drain(matcher(client))
        delivered = client.log.event(EventType.ACTIVITY_RESPONSE, place(0), Int(value=2))
        client.log.append(delivered)
        for number in (1, 2, 3):
            send(client, number)
        drain(matcher(client))
        assert answers(client) == ["0:0 2", "0:1 1"]
        assert (takers(client), statuses(client)) == (["0:1", "0:0", None], [3, 3])


def test_p5_awaits_that_name_no_type_are_set_aside(url: str) -> None:
    """P5: a key that only another program can have made holds up nobody."""
    sequences = ["x:0", "", ":0", "200:0", "0x1:0", "1.5:0"]
    keys = [Key("ns", "flow", "bad", 0, "replay_signal", sequence) for sequence in sequences]
    with stepped(url, clock := Clock()) as client:
        for key in keys:
            request(client, key, SleepRequest())
        wait(client)
        send(client, 1)
        drain(matcher(client))
        assert answers(client) == ["0:0 1"]
        found = matcher(client).parked()
        assert [(each.key, each.attempts) for each in found] == [(str(key), 1) for key in keys]
        assert all("does not name a signal type" in each.error for each in found)
        clock.forward(seconds=1)
        drain(matcher(client))
        assert [each.attempts for each in matcher(client).parked()] == [2] * len(keys)


@pytest.mark.embedded
def test_p5_awaits_of_a_wrong_message_are_set_aside_and_tried_again(url: str) -> None:
    """P5: as with sleeps, at a restart too; and they are served when they can be."""
    with stepped(url, clock := Clock()) as client:
        request(client, place(0, run="bad"), String())
        wait(client)
        send(client, 1)
        send(client, 2, run="bad")
        drain(matcher(client))
        assert answers(client) == ["0:0 1"]
        assert [each.attempts for each in matcher(client).parked()] == [1]
        good = client.log.event(EventType.ACTIVITY_REQUEST, place(0), SleepRequest()).raw
        database(client).query("UPDATE replay_events SET message = ? WHERE id = 1", (good,))
    with stepped(url, clock) as client:
        drain(matcher(client))
        assert answers(client, "bad") == ["0:0 2"]
        assert matcher(client).parked() == []


# P6, P21: what it costs.


def test_p6_a_thousand_pending_awaits_cost_nothing(url: str) -> None:
    """P6, P21: no query and no write until a signal comes; then a few, whatever the number."""
    with stepped(with_options(url, lease=3600), clock := Clock()) as client:
        for_an_hour = SleepRequest()
        for_an_hour.duration.seconds = 3600
        asked = EventType.ACTIVITY_REQUEST
        keys = [place(0, run=f"r{n}") for n in range(1000)]
        client.log.commit([client.log.event(asked, key, for_an_hour) for key in keys])
        drain(consumer := matcher(client))
        queries, faults = Queries(database(client)), Faults(database(client))
        for _ in range(100):
            clock.forward(milliseconds=100)
            assert consumer._step(0) == 0
        assert (queries.count, faults.writes) == (0, 0)
        send(client, 1, run="r500")
        queries.count = faults.writes = 0
        drain(consumer)
        assert queries.count <= 10
        assert faults.writes == 1
        assert answers(client, "r500") == ["0:0 1"]


def test_signals_that_were_looked_at_are_not_looked_at_again(url: str) -> None:
    """P6: how far the signals have been read is stored now and then, beside the log's cursor."""
    with stepped(url, Clock()) as client:
        wait(client)
        post(client, 1500)
        drain(matcher(client))
        assert answers(client) == ["0:0 0"]
        assert cursor(client, SEEN) == (1000, "")
    with stepped(url, Clock()) as client:
        wait(client, 1)
        drain(matcher(client))
        assert answers(client) == ["0:0 0", "0:1 1"]
    with stepped(url, Clock()) as client:
        queries = Queries(database(client))
        wait(client, 2)
        drain(matcher(client))
        assert answers(client) == ["0:0 0", "0:1 1", "0:2 2"]
        assert queries.count <= 22


def test_a_started_matcher_answers_what_comes(url: str) -> None:
    """S2: in its thread, with the signals of another process, and a timeout at the end."""
    got: list[Signal | None] = []

    def flow(ctx: RunContext, message: Empty) -> None:
        for timeout in (60, 60, 0.02):
            got.append(ctx.await_signal(0, timedelta(seconds=timeout)))

    with connect(url) as client, stepped(url) as other:
        register_workflow(client, "ns", flow)
        client.run_workflow("ns", "flow", "r", Empty())
        send(client, 1)
        send(other, 2)
        client.await_completion("ns", "flow", "r", timeout=60)
    assert numbers(got) == [1, 2, None]


def test_a_log_whose_ids_are_not_told_finds_its_signals(server_url: str) -> None:
    """S2: under Galera an insert's id is not known; the signal is found by polling."""
    with stepped(server_url, Clock()) as client:
        database(client)._step = 0  # type: ignore[attr-defined]
        wait(client)
        send(client, 1)
        drain(matcher(client))
        assert answers(client) == ["0:0 1"]
