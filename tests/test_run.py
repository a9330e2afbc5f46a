"""A run by itself: a workflow function between its history and what it is given; no database."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import logging
import sys
import threading
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Any

import greenlet
import pytest
from google.protobuf.message import Message

from replay import ActivityContext, Event, EventType, Key, RunContext, Signal
from replay.run import (
    BadDuration,
    Evicted,
    History,
    HistoryMismatch,
    OutsideOfRun,
    Restarted,
    Run,
    WillNotEnd,
)
from replay.server.proto.replaypb_pb2 import SleepDone
from replay.signal import InvalidSignal
from replay.storage.event import (
    UNKNOWN,
    InvalidName,
    MessageTooLarge,
    NotAMessage,
    UnknownMessageType,
    pack,
)
from replay.storage.values import ANY
from tests.example_pb2 import Empty, Int, String
from tests.support import START, line

Flow = Callable[[RunContext, Any], object]
LIMIT = 1000  # bytes of a message
HOUR = timedelta(hours=1)
RESTARTED = ["RUN_COMPLETED n/w/r/0 -", "RUN_CREATED n/w/r/1 value: 7"]


def make(type: EventType, key: Key, message: Any) -> Event:
    return Event(0, type, key, UNKNOWN, pack(ANY.message(message, key), LIMIT, key))


class Tape:
    """A log kept by hand: what a run adds is written on it, and is its history later."""

    def __init__(self, message: Message | None = None, events: Iterable[Event] = ()) -> None:
        self.events: list[Event] = list(events)
        if not self.events:
            self._write(make(EventType.RUN_CREATED, Key("n", "w", "r"), message))

    def _write(self, event: Event, at: datetime | None = None) -> Event:
        event.id = len(self.events) + 1
        event.timestamp = at or START + timedelta(seconds=event.id)
        self.events.append(event)
        return event

    def begin(self, flow: Flow) -> Run:
        """A run that has no history, at its first wait."""
        run = Run(flow, self.events[0], None, make)
        run.start()
        return run

    def again(self, flow: Flow) -> Run:
        """A run replayed from what is on the tape, given all of its answers."""
        history = History(self.events)
        run = Run(flow, self.events[0], history, make)
        run.start()
        for response in history.responses:
            if not run.ended:
                run.feed(response)
        return run

    def take(self, run: Run) -> list[str]:
        """Write down what the run has added; it as lines."""
        added, run.added = run.added, []
        return [line(self._write(event)) for event in added]

    def answer(
        self, run: Run, place: str, message: Message | None = None, at: datetime | None = None
    ) -> list[str]:
        """Respond to what the run asked for at TARGET/SEQUENCE; what it adds then."""
        key = Key(*run.key, *place.split("/"))
        run.feed(self._write(make(EventType.ACTIVITY_RESPONSE, key, message), at))
        return self.take(run)

    def finish(self, run: Run, answers: dict[str, Message]) -> None:
        """Answer all that is asked for, the latest first, until the run has ended."""
        self.take(run)
        while not run.ended:
            history = History(self.events)
            answered = [event.key for event in history.responses]
            place = [e.key[4:] for e in history.requests if e.key not in answered][-1]
            self.answer(run, "/".join(place), answers["/".join(place)])

    def lines(self) -> list[str]:
        return [line(event) for event in self.events]


def calls(*names: str) -> Flow:
    """A workflow that calls activities one after the other."""

    def flow(ctx: RunContext, message: Message | None) -> None:
        for name in names:
            ctx.exec_activity(name, message)

    return flow


def double(ctx: ActivityContext, backends: None, message: Int) -> Int:
    raise AssertionError("a run asks for activities, it does not execute them")


# What a run asks for.


def test_every_target_is_counted_for_itself() -> None:
    """A5: the n-th use of a target has sequence n-1; an output is another target than an activity
    of its name, and each type of signal is counted for itself."""

    def flow(ctx: RunContext, message: Int) -> None:
        ctx.gather(ctx.call("a", message), ctx.call("b", message), ctx.call("a", None))
        for name in ("a", "b", "a"):
            ctx.emit_output(name, message)
        for _ in range(2):
            ctx.sleep(timedelta(milliseconds=1))
        for type in (1, 2, -1, 1):
            ctx.await_signal(type, timedelta(hours=1))

    tape = Tape(Int(value=5))
    run = tape.begin(flow)
    places = ["a/0", "b/0", "a/1", "replay_sleep/0", "replay_sleep/1"]
    places += [f"replay_signal/{place}" for place in ("1:0", "2:0", "-1:0", "1:1")]
    tape.finish(run, {place: SleepDone() for place in places})
    added = [text for text in tape.lines() if not text.startswith("ACTIVITY_RESPONSE")]
    hour = "duration { seconds: 3600 }"
    assert added == [
        "RUN_CREATED n/w/r/0 value: 5",
        "ACTIVITY_REQUEST n/w/r/0/a/0 value: 5",
        "ACTIVITY_REQUEST n/w/r/0/b/0 value: 5",
        "ACTIVITY_REQUEST n/w/r/0/a/1 -",
        "RUN_OUTPUT n/w/r/0/a/0 value: 5",
        "RUN_OUTPUT n/w/r/0/b/0 value: 5",
        "RUN_OUTPUT n/w/r/0/a/1 value: 5",
        "ACTIVITY_REQUEST n/w/r/0/replay_sleep/0 duration { nanos: 1000000 }",
        "ACTIVITY_REQUEST n/w/r/0/replay_sleep/1 duration { nanos: 1000000 }",
        f"ACTIVITY_REQUEST n/w/r/0/replay_signal/1:0 {hour}",
        f"ACTIVITY_REQUEST n/w/r/0/replay_signal/2:0 {hour}",
        f"ACTIVITY_REQUEST n/w/r/0/replay_signal/-1:0 {hour}",
        f"ACTIVITY_REQUEST n/w/r/0/replay_signal/1:1 {hour}",
        "RUN_COMPLETED n/w/r/0 -",
    ]


def test_activities_are_named_by_function_name_or_explicitly() -> None:
    """N1: a call stores the function's own name, the name given as text, or that of `name`."""

    def flow(ctx: RunContext, message: Int) -> None:
        ctx.gather(
            ctx.call(double, message),
            ctx.call("double", message),
            ctx.call(double, message, name="x"),
            ctx.call("y", message, name="z"),
        )
        ctx.exec_activity(double, message, name="x")

    tape = Tape(Int(value=1))
    run = tape.begin(flow)
    places = ["double/0", "double/1", "x/0", "z/0", "x/1"]
    tape.finish(run, {place: Int() for place in places})
    assert ["/".join(event.key[4:]) for event in History(tape.events).requests] == places


@pytest.mark.parametrize(
    ("use", "error"),
    [
        (lambda ctx: ctx.exec_activity("replay_sleep", None), InvalidName),
        (lambda ctx: ctx.exec_activity("a/b", None), InvalidName),
        (lambda ctx: ctx.call("", None), InvalidName),
        (lambda ctx: ctx.exec_activity("a", None, name=""), InvalidName),
        (lambda ctx: ctx.emit_output("replay_x", None), InvalidName),
        (lambda ctx: ctx.emit_output("a" * 256, None), InvalidName),
        (lambda ctx: ctx.exec_activity("a", String(value="x" * LIMIT)), MessageTooLarge),
        (lambda ctx: ctx.emit_output("o", String(value="x" * LIMIT)), MessageTooLarge),
        (lambda ctx: ctx.restart(String(value="x" * LIMIT)), MessageTooLarge),
        (lambda ctx: ctx.exec_activity("a", object()), NotAMessage),
        (lambda ctx: ctx.gather(ctx.call("a", print)), NotAMessage),
        (lambda ctx: ctx.await_signal(128, HOUR), InvalidSignal),
        (lambda ctx: ctx.await_signal("1", HOUR), InvalidSignal),
    ],
)
def test_what_cannot_be_stored_is_refused_at_the_call(
    use: Callable[[Any], object], error: type[Exception]
) -> None:
    """N2, N3: a bad name, message or signal raises where it is used; nothing is asked for."""
    with pytest.raises(error):
        Tape().begin(lambda ctx, _: use(ctx))

    def forgiving(ctx: RunContext, message: None) -> None:
        with pytest.raises(error):
            use(ctx)

    tape = Tape()
    assert tape.take(tape.begin(forgiving)) == ["RUN_COMPLETED n/w/r/0 -"]


def test_refused_call_that_was_caught_is_refused_again_in_a_replay() -> None:
    """R2: a run that goes on after a refused call does the same when it is replayed."""

    def flow(ctx: RunContext, message: None) -> None:
        for name, size in (("a", LIMIT), ("b", 0), ("a", LIMIT), ("a", 0)):
            try:
                ctx.exec_activity(name, String(value="x" * size))
            except MessageTooLarge:
                ctx.emit_output("refused", None)

    tape = Tape()
    run = tape.begin(flow)
    tape.take(run)
    tape.answer(run, "b/0")
    whole = tape.lines()
    assert [text.split()[1] for text in whole[1:]] == [
        "n/w/r/0/refused/0",
        "n/w/r/0/b/0",
        "n/w/r/0/b/0",
        "n/w/r/0/refused/1",
        "n/w/r/0/a/2",
    ]
    again = tape.again(flow)
    assert tape.take(again) == []
    assert tape.answer(again, "a/2") == ["RUN_COMPLETED n/w/r/0 -"]


def test_context_tells_of_its_run() -> None:
    """The context names its run, the event that began it and the last that it was given."""
    seen: list[Any] = []

    def flow(ctx: RunContext, message: Int) -> None:
        seen.extend((message, ctx.namespace, ctx.workflow, ctx.run, ctx.iteration))
        seen.extend((ctx.create_event, ctx.last_event))
        ctx.exec_activity("a", message)
        seen.extend((ctx.create_event, ctx.last_event))

    tape = Tape(Int(value=3))
    run = tape.begin(flow)
    tape.take(run)
    tape.answer(run, "a/0")
    created, _, response, _ = tape.events
    assert seen == [Int(value=3), "n", "w", "r", 0, created, created, created, response]
    assert run.name == "n/w/r/0"


def test_no_message_is_none() -> None:
    """N3: no message comes as None, as input and as answer; it differs from an empty one."""
    seen: list[Any] = []

    def flow(ctx: RunContext, message: None) -> None:
        seen.append(message)
        seen.append(ctx.exec_activity("a", None))
        seen.append(ctx.exec_activity("a", None))

    tape = Tape()
    tape_run = tape.begin(flow)
    tape.answer(tape_run, "a/0", None)
    tape.answer(tape_run, "a/1", Empty())
    assert seen == [None, None, Empty()]


def test_unreadable_answer_is_no_answer() -> None:
    """N3, P18: an answer of unknown type fails the run, whatever the workflow catches; replayed
    when the type is known, it goes on."""
    seen: list[Any] = []

    def flow(ctx: RunContext, message: None) -> None:
        try:
            seen.append(ctx.exec_activity("a", None))
        except Exception as error:
            seen.append(error)

    tape = Tape()
    run = tape.begin(flow)
    tape.take(run)
    raw = b"\x0a\x1btype.googleapis.com/no.Such"
    response = Event(3, EventType.ACTIVITY_RESPONSE, Key("n", "w", "r", 0, "a", "0"), START, raw)
    with pytest.raises(UnknownMessageType, match=r"no\.Such"):
        run.feed(response)
    run.evict()
    assert tape.answer(tape.again(flow), "a/0", Int(value=1)) == ["RUN_COMPLETED n/w/r/0 -"]
    assert seen == [Int(value=1)]


# Several at once.


@pytest.mark.parametrize("order", [*itertools.permutations(range(4))])
def test_gather_gives_results_in_the_order_asked(order: tuple[int, ...]) -> None:
    """R11: all requests go out at once, and results come in the order of the calls, whatever the
    order of the answers; not before the last of them."""
    places = ["a/0", "b/0", "a/1", "c/0"]
    results: list[Any] = []

    def flow(ctx: RunContext, message: None) -> None:
        results.extend(ctx.gather(*(ctx.call(place[0], None) for place in places)))

    tape = Tape()
    run = tape.begin(flow)
    assert tape.take(run) == [f"ACTIVITY_REQUEST n/w/r/0/{place} -" for place in places]
    for n in order[:-1]:
        assert tape.answer(run, places[n], Int(value=n)) == []
        assert results == []
    last = order[-1]
    assert tape.answer(run, places[last], Int(value=last)) == ["RUN_COMPLETED n/w/r/0 -"]
    assert results == [Int(value=n) for n in range(4)]


def test_gather_of_nothing_does_not_wait() -> None:
    """R11: no calls give no results, at once."""
    results: list[Any] = []
    tape = Tape()
    run = tape.begin(lambda ctx, _: results.append(ctx.gather()))
    assert tape.take(run) == ["RUN_COMPLETED n/w/r/0 -"]
    assert results == [[]]


def test_answer_given_twice_counts_once() -> None:
    """A1: only the first answer to a request is recorded; a run would not notice a second."""
    results: list[Any] = []

    def flow(ctx: RunContext, message: None) -> None:
        results.extend(ctx.gather(ctx.call("a", None), ctx.call("b", None)))

    tape = Tape()
    run = tape.begin(flow)
    tape.take(run)
    assert tape.answer(run, "a/0", Int(value=1)) == []
    assert tape.answer(run, "a/0", Int(value=1)) == []
    assert tape.answer(run, "b/0", Int(value=2)) == ["RUN_COMPLETED n/w/r/0 -"]
    assert results == [Int(value=1), Int(value=2)]


# Replay.


def mixed(ctx: RunContext, message: Int) -> None:
    first = ctx.exec_activity("a", message)
    ctx.emit_output("o", first)
    pair = ctx.gather(ctx.call("b", first), ctx.call("a", message))
    ctx.sleep(timedelta(seconds=1))
    for result in pair:
        ctx.emit_output("o", result)
    signal = ctx.await_signal(3, timedelta(hours=1))
    assert signal is not None
    late = ctx.await_signal(3, timedelta(0))
    assert late is None
    ctx.restart(signal.message)


ANSWERS: dict[str, Message] = {
    "a/0": Int(value=1),
    "a/1": Int(value=2),
    "b/0": Int(value=3),
    "replay_sleep/0": SleepDone(),
    "replay_signal/3:0": Int(value=7),
    "replay_signal/3:1": SleepDone(),
}
MIXED = [
    "RUN_CREATED n/w/r/0 value: 5",
    "ACTIVITY_REQUEST n/w/r/0/a/0 value: 5",
    "ACTIVITY_RESPONSE n/w/r/0/a/0 value: 1",
    "RUN_OUTPUT n/w/r/0/o/0 value: 1",
    "ACTIVITY_REQUEST n/w/r/0/b/0 value: 1",
    "ACTIVITY_REQUEST n/w/r/0/a/1 value: 5",
    "ACTIVITY_RESPONSE n/w/r/0/a/1 value: 2",
    "ACTIVITY_RESPONSE n/w/r/0/b/0 value: 3",
    "ACTIVITY_REQUEST n/w/r/0/replay_sleep/0 duration { seconds: 1 }",
    "ACTIVITY_RESPONSE n/w/r/0/replay_sleep/0",
    "RUN_OUTPUT n/w/r/0/o/1 value: 3",
    "RUN_OUTPUT n/w/r/0/o/2 value: 2",
    "ACTIVITY_REQUEST n/w/r/0/replay_signal/3:0 duration { seconds: 3600 }",
    "ACTIVITY_RESPONSE n/w/r/0/replay_signal/3:0 value: 7",
    "ACTIVITY_REQUEST n/w/r/0/replay_signal/3:1 duration { }",
    "ACTIVITY_RESPONSE n/w/r/0/replay_signal/3:1",
    *RESTARTED,
]


def test_run_cut_off_anywhere_ends_the_same() -> None:
    """R2, R3: replayed from any beginning of its history, a run repeats nothing of that and adds
    the very rest; also from one that was cut within a step."""
    tape = Tape(Int(value=5))
    tape.finish(tape.begin(mixed), ANSWERS)
    assert tape.lines() == MIXED
    for length in range(1, len(MIXED) - 1):
        cut = Tape(events=tape.events[:length])
        cut.finish(cut.again(mixed), ANSWERS)
        assert cut.lines() == MIXED, f"cut after {length} events"


def test_replay_of_a_whole_step_adds_nothing() -> None:
    """R3, O1: a run that is replayed where it waits asks for nothing and emits nothing again."""
    tape = Tape(Int(value=5))
    run = tape.begin(mixed)
    while not run.ended:
        tape.take(run)
        assert tape.take(tape.again(mixed)) == []
        done = {event.key for event in History(tape.events).responses}
        key = [event.key for event in History(tape.events).requests if event.key not in done][-1]
        run.feed(tape._write(make(EventType.ACTIVITY_RESPONSE, key, ANSWERS["/".join(key[4:])])))
    assert [line(event) for event in run.added] == RESTARTED


def test_history_knows_what_it_holds() -> None:
    """A history has the run's beginning and end, and counts what has not been asked for."""
    tape = Tape()
    tape.finish(tape.begin(calls("a")), {"a/0": Int()})
    history = History(tape.events)
    assert history.created is tape.events[0]
    assert history.completed is tape.events[-1]
    assert len(history.requests) == 1
    assert history.has_request(Key("n", "w", "r", 0, "a", "0"))
    assert not history.has_request(Key("n", "w", "r", 0, "b", "0"))
    assert not history.requests
    assert (History([]).created, History([]).completed) == (None, None)


# Changed code.


def old() -> Tape:
    """The history of a run that called a and b, and waits for c."""
    tape = Tape(Int(value=5))
    run = tape.begin(calls("a", "b", "c"))
    tape.take(run)
    tape.answer(run, "a/0")
    assert tape.answer(run, "b/0") == ["ACTIVITY_REQUEST n/w/r/0/c/0 value: 5"]
    return tape


def mismatch(event: int, found: str, asked: str) -> str:
    return (
        f"run n/w/r/0: event {event} of its history requests {found}, the code asks for {asked}:"
        " restore the code that began this run"
    )


@pytest.mark.parametrize(
    ("code", "error"),
    [
        pytest.param(calls("a", "x", "c"), mismatch(4, "b/0", "x/0"), id="renamed"),
        pytest.param(calls("a", "x", "b", "c"), mismatch(4, "b/0", "x/0"), id="inserted"),
        pytest.param(calls("a", "a", "b", "c"), mismatch(4, "b/0", "a/1"), id="repeated"),
        pytest.param(calls("a", "c"), mismatch(4, "b/0", "c/0"), id="removed"),
        pytest.param(calls("b", "a", "c"), mismatch(2, "a/0", "b/0"), id="reordered"),
        pytest.param(calls("a", "b", "d"), mismatch(6, "c/0", "d/0"), id="last renamed"),
        pytest.param(
            lambda ctx, m: ctx.gather(ctx.call("a", m), ctx.call("b", m), ctx.call("b", m)),
            mismatch(6, "c/0", "b/1"),
            id="gathered",
        ),
        pytest.param(
            lambda ctx, m: ctx.sleep(timedelta(1)),
            mismatch(2, "a/0", "replay_sleep/0"),
            id="sleep instead",
        ),
        pytest.param(
            lambda ctx, m: ctx.await_signal(2, timedelta(1)),
            mismatch(2, "a/0", "replay_signal/2:0"),
            id="signal instead",
        ),
    ],
)
def test_code_that_asks_for_something_else_is_refused(code: Flow, error: str) -> None:
    """R4, P17: the error names the run, the event, what the history has and what the code asks for;
    the code that began the run goes on as if nothing had been."""
    tape = old()
    with pytest.raises(HistoryMismatch) as raised:
        tape.again(code)
    assert str(raised.value) == error
    right = tape.again(calls("a", "b", "c"))
    assert tape.answer(right, "c/0") == ["RUN_COMPLETED n/w/r/0 -"]


@pytest.mark.parametrize("names", [[], ["d"], ["c", "a"]])
def test_calls_behind_the_history_may_change(names: list[str]) -> None:
    """R4: what the run has not come to yet may be added, changed or taken away."""
    tape = old()
    run = tape.again(calls("a", "b", "c", *names))
    added = [f"ACTIVITY_REQUEST n/w/r/0/{name}/" for name in names] or ["RUN_COMPLETED n/w/r/0 -"]
    (found,) = tape.answer(run, "c/0")
    assert found.startswith(added[0])


def test_messages_and_answers_of_the_history_count() -> None:
    """R3: only the place of a request is compared; another message asks for nothing anew."""
    tape = old()
    run = tape.again(lambda ctx, _: calls("a", "b", "c")(ctx, String(value="other")))
    assert tape.take(run) == []
    assert tape.answer(run, "c/0") == ["RUN_COMPLETED n/w/r/0 -"]


@pytest.mark.parametrize("caught", [Exception, BaseException])
def test_mismatch_cannot_be_caught(caught: type[BaseException]) -> None:
    """P18, R4: a workflow that catches everything does not get past a mismatch."""
    after: list[object] = []

    def flow(ctx: RunContext, message: Int) -> None:
        for name in ("x", "a", "b", "c", "d"):
            try:
                ctx.exec_activity(name, message)
                after.append(name)
            except caught:
                pass
        raise ValueError("not this one")

    tape = old()
    with pytest.raises(HistoryMismatch) as raised:
        tape.again(flow)
    assert str(raised.value) == mismatch(2, "a/0", "x/0")
    assert after == []


def ends_early(ctx: RunContext, message: Message | None) -> None:
    ctx.exec_activity("a", message)


def restarts_early(ctx: RunContext, message: Message | None) -> None:
    ctx.exec_activity("a", message)
    ctx.restart(None)


def restarts_early_and_returns(ctx: RunContext, message: Message | None) -> None:
    with contextlib.suppress(BaseException):
        restarts_early(ctx, message)


@pytest.mark.parametrize("code", [ends_early, restarts_early, restarts_early_and_returns])
def test_an_end_before_the_history_ends_is_a_mismatch(code: Flow) -> None:
    """R9: no end and no restart drops a request; the code that began the run then goes on."""
    tape = old()
    with pytest.raises(HistoryMismatch) as raised:
        tape.again(code)
    assert str(raised.value) == (
        "run n/w/r/0: the code ends, but event 4 of its history requests b/0, which the code does"
        " not: restore the code that began this run"
    )
    right = tape.again(calls("a", "b", "c"))
    assert tape.answer(right, "c/0") == ["RUN_COMPLETED n/w/r/0 -"]


def test_an_early_end_is_found_when_the_last_response_comes() -> None:
    """R9: a run that is replayed and then goes on is compared at its end, not only at its start."""
    tape = old()
    created, *_ = tape.events
    run = Run(ends_early, created, History(tape.events), make)
    run.start()
    with pytest.raises(HistoryMismatch, match=r"event 4 of its history requests b/0"):
        run.feed(tape.events[2])
    assert tape.take(run) == []


def emits(*names: str) -> Flow:
    """A workflow that emits outputs, and calls an activity at each dash."""

    def flow(ctx: RunContext, message: Message | None) -> None:
        for name in names:
            if name == "-":
                ctx.exec_activity("a", None)
            else:
                ctx.emit_output(name, None)

    return flow


@pytest.mark.parametrize(
    ("code", "added"),
    [
        pytest.param(emits("x", "-", "y", "-"), [], id="the same"),
        pytest.param(emits("x", "new", "-", "y", "-"), ["new/0"], id="added"),
        pytest.param(emits("x", "-", "x", "y", "-"), ["x/1"], id="added, same name"),
        pytest.param(emits("-", "-"), [], id="removed"),
        pytest.param(emits("y", "-", "x", "-"), [], id="moved"),
        pytest.param(emits("z", "-", "y", "-"), ["z/0"], id="renamed"),
    ],
)
def test_outputs_may_change_in_a_run_that_goes_on(code: Flow, added: list[str]) -> None:
    """O2, O1: outputs added, moved or removed are no mismatch; what was emitted is not again."""
    tape = Tape()
    run = tape.begin(emits("x", "-", "y", "-"))
    tape.take(run)
    assert tape.answer(run, "a/0") == ["RUN_OUTPUT n/w/r/0/y/0 -", "ACTIVITY_REQUEST n/w/r/0/a/1 -"]
    again = tape.again(code)
    assert tape.take(again) == [f"RUN_OUTPUT n/w/r/0/{place} -" for place in added]
    assert tape.answer(again, "a/1") == ["RUN_COMPLETED n/w/r/0 -"]


# The clock.


def test_clock_is_that_of_the_last_event_and_never_goes_back() -> None:
    """R8: `now` is the timestamp of the last event given; one that is older does not set it back,
    and a replay sees the same."""
    times: list[datetime] = []

    def flow(ctx: RunContext, message: None) -> None:
        times.append(ctx.now())
        for _ in range(3):
            ctx.exec_activity("a", None)
            times.extend((ctx.now(), ctx.now()))

    tape = Tape()
    run = tape.begin(flow)
    began = tape.events[0].timestamp
    tape.take(run)
    for n, seconds in enumerate((20, 5, 30)):
        tape.answer(run, f"a/{n}", at=began + timedelta(seconds=seconds))
    expected = [began + timedelta(seconds=seconds) for seconds in (0, 20, 20, 20, 20, 30, 30)]
    assert times == expected
    times.clear()
    tape.events.pop()
    tape.again(flow)
    assert times == expected
    assert run.last is tape.events[-1]


# Restart.


def test_restart_ends_one_iteration_and_begins_the_next() -> None:
    """R6: the end and the next beginning come together; the next one counts from 0 again."""

    def flow(ctx: RunContext, message: Int) -> None:
        ctx.emit_output("o", message)
        ctx.exec_activity("a", message)
        ctx.restart(Int(value=message.value + 2))

    tape = Tape(Int(value=5))
    run = tape.begin(flow)
    tape.take(run)
    assert tape.answer(run, "a/0") == RESTARTED
    second = Tape(events=tape.events[-1:])
    assert second.take(second.begin(flow)) == [
        "RUN_OUTPUT n/w/r/1/o/0 value: 7",
        "ACTIVITY_REQUEST n/w/r/1/a/0 value: 7",
    ]


def catches_and_goes_on(ctx: RunContext, message: None) -> None:
    with contextlib.suppress(BaseException):
        ctx.restart(Int(value=7))
    ctx.exec_activity("a", None)


def catches_and_returns(ctx: RunContext, message: None) -> None:
    try:
        ctx.restart(Int(value=7))
    except BaseException:
        return


def catches_again_and_again(ctx: RunContext, message: None) -> None:
    for use in (lambda: ctx.restart(Int(value=7)), *uses(ctx)):
        with pytest.raises(Restarted):
            use()


def asks_at_the_end(ctx: RunContext, message: None) -> None:
    try:
        ctx.restart(Int(value=7))
    finally:
        ctx.emit_output("o", None)


def restarts_elsewhere_too(ctx: RunContext, message: None) -> None:
    try:
        ctx.restart(Int(value=7))
    finally:
        ctx.restart(Int(value=8))


def restarts_for_an_error(ctx: RunContext, message: None) -> None:
    try:
        raise ValueError
    except ValueError:
        ctx.restart(Int(value=7))


def uses(ctx: RunContext) -> list[Callable[[], object]]:
    """Every call on a context that a run that is over must not make."""
    return [
        lambda: ctx.now(),
        lambda: ctx.exec_activity("a", None),
        lambda: ctx.gather(ctx.call("a", None)),
        lambda: ctx.sleep(HOUR),
        lambda: ctx.await_signal(1, HOUR),
        lambda: ctx.emit_output("o", None),
        lambda: ctx.restart(None),
    ]


@pytest.mark.parametrize(
    "flow",
    [
        catches_and_goes_on,
        catches_and_returns,
        catches_again_and_again,
        asks_at_the_end,
        restarts_elsewhere_too,
        restarts_for_an_error,
    ],
)
def test_restart_cannot_be_caught(flow: Flow) -> None:
    """P18, R6: whatever the workflow catches or does in `finally`, the iteration is over."""
    tape = Tape()
    run = tape.begin(flow)
    assert run.ended
    assert tape.take(run) == RESTARTED


def test_error_while_restarting_fails_the_run() -> None:
    """P18: an exception that takes the place of the restart is the run's failure, not its end."""

    def flow(ctx: RunContext, message: None) -> None:
        try:
            ctx.restart(None)
        finally:
            raise ValueError("in finally")

    tape = Tape()
    run = Run(flow, tape.events[0], None, make)
    with pytest.raises(ValueError, match="in finally"):
        run.start()
    assert tape.take(run) == []


def test_suspension_is_invisible_to_the_workflow() -> None:
    """P18: a waiting call raises nothing, so no `except` or `finally` runs in the meantime."""
    seen: list[str] = []

    def flow(ctx: RunContext, message: None) -> None:
        try:
            ctx.exec_activity("a", None)
        except BaseException:
            seen.append("caught")
        finally:
            seen.append("finally")

    tape = Tape()
    run = tape.begin(flow)
    tape.take(run)
    assert seen == []
    tape.answer(run, "a/0")
    assert seen == ["finally"]


def test_error_of_the_workflow_comes_out() -> None:
    """R5: what the function raises comes out of the call that let it go on; the run has not ended
    in the log."""

    def flow(ctx: RunContext, message: None) -> None:
        ctx.exec_activity("a", None)
        raise ValueError("no")

    tape = Tape()
    run = tape.begin(flow)
    tape.take(run)
    with pytest.raises(ValueError, match="no"):
        tape.answer(run, "a/0")
    assert tape.take(run) == []


# Taken out of memory.


def test_drop_unwinds_the_function() -> None:
    """R10: a dropped run's `with` and `finally` blocks run; it adds nothing, and its context is
    dead."""
    seen: list[str] = []
    contexts: list[RunContext] = []

    def flow(ctx: RunContext, message: None) -> None:
        contexts.append(ctx)
        try:
            ctx.exec_activity("a", None)
            seen.append("went on")
        finally:
            for use in uses(ctx):
                with pytest.raises(Evicted):
                    use()
            seen.append("finally")

    tape = Tape()
    run = tape.begin(flow)
    tape.take(run)
    run.evict()
    assert seen == ["finally"]
    assert run.ended
    assert tape.take(run) == []
    for use in uses(contexts[0]):
        with pytest.raises(Evicted):
            use()
    run.evict()
    assert seen == ["finally"]
    assert tape.answer(tape.again(calls("a")), "a/0") == ["RUN_COMPLETED n/w/r/0 -"]


def test_r10_an_ended_run_is_freed_at_once() -> None:
    """R10: it does not wait for the garbage collector, whose pauses would grow with such runs."""

    def count() -> int:
        return sum(isinstance(each, Run | RunContext) for each in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before, tape = count(), Tape()
        run = tape.begin(calls("a"))
        tape.take(run)
        tape.answer(run, "a/0")
        assert run.ended
        del run
        assert count() == before
    finally:
        gc.enable()


def swallows(ctx: RunContext, message: None) -> None:
    with contextlib.suppress(BaseException):
        ctx.exec_activity("a", None)


def swallows_and_goes_on(ctx: RunContext, message: None) -> None:
    for _ in range(3):
        swallows(ctx, message)


def swallows_and_restarts(ctx: RunContext, message: None) -> None:
    swallows(ctx, message)
    ctx.restart(None)


@pytest.mark.parametrize("flow", [swallows, swallows_and_goes_on, swallows_and_restarts])
def test_drop_cannot_be_caught(flow: Flow, caplog: pytest.LogCaptureFixture) -> None:
    """P18, R10: a workflow that catches everything does not go on in a dropped run."""
    tape = Tape()
    run = tape.begin(flow)
    tape.take(run)
    run.evict()
    assert run.ended
    assert tape.take(run) == []
    assert caplog.messages == []


@pytest.mark.parametrize("duration", [1, 1.5, None, "1"])
def test_a_duration_is_a_timedelta(duration: Any) -> None:
    """R7, S4: anything else is refused, with what to write instead."""

    def flow(ctx: RunContext, message: None) -> None:
        for wait in (ctx.sleep, lambda given: ctx.await_signal(1, given)):
            with pytest.raises(BadDuration, match=r"expected a timedelta\(seconds=...\)"):
                wait(duration)

    tape = Tape()
    run = tape.begin(flow)
    tape.take(run)
    assert run.ended


def test_an_eviction_survives_a_workflow_that_exits() -> None:
    """P18, R10: sys.exit() in a workflow's `finally` ends nobody else."""

    def flow(ctx: RunContext, message: None) -> None:
        try:
            ctx.exec_activity("a", None)
        finally:
            sys.exit(1)

    tape = Tape()
    run = tape.begin(flow)
    tape.take(run)
    run.evict()
    assert run.ended


@pytest.mark.parametrize("error", [GeneratorExit(), asyncio.CancelledError(), Evicted()])
def test_a_workflow_may_raise_anything_while_it_is_evicted(error: BaseException) -> None:
    """P18, R10: an exception of another library, whatever its base class, ends nobody else."""

    def flow(ctx: RunContext, message: None) -> None:
        try:
            ctx.exec_activity("a", None)
        finally:
            raise error

    tape = Tape()
    run = tape.begin(flow)
    tape.take(run)
    run.evict()
    assert run.ended


def never_ends(ctx: RunContext, message: Message | None) -> None:
    while True:
        with contextlib.suppress(BaseException):
            ctx.exec_activity("a", message)


def asks_for_ever(ctx: RunContext, message: Message | None) -> None:
    ctx.exec_activity("a", message)
    never_ends(ctx, message)


def restarts_for_ever(ctx: RunContext, message: Message | None) -> None:
    while True:
        with contextlib.suppress(BaseException):
            ctx.restart(message)


UNENDING = "run n/w/r/0 goes on after its end: catch Exception, and let BaseException pass"


def test_an_eviction_ends_although_the_workflow_does_not(caplog: pytest.LogCaptureFixture) -> None:
    """P18, R10: a workflow that catches everything in an endless loop is left where it is."""
    tape = Tape()
    run = tape.begin(never_ends)
    tape.take(run)
    run.evict()
    assert caplog.messages == [UNENDING]
    run.evict()
    assert tape.take(run) == []


def test_a_restart_that_is_caught_for_ever_fails_the_run(caplog: pytest.LogCaptureFixture) -> None:
    """P18, R5: the run is parked with an error that says why, and holds up no other."""
    tape = Tape()
    run = Run(restarts_for_ever, tape.events[0], None, make)
    with pytest.raises(WillNotEnd) as raised:
        run.start()
    assert str(raised.value) == UNENDING
    run.evict()
    assert tape.take(run) == []


def test_a_mismatch_that_is_caught_for_ever_is_one() -> None:
    """P18, R4: a workflow that tries for ever cannot hide that its code does not fit."""
    tape = old()
    with pytest.raises(HistoryMismatch) as raised:
        tape.again(asks_for_ever)
    assert str(raised.value) == mismatch(4, "b/0", "a/1")


def test_an_error_while_evicting_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """P18, R10: an exception in `finally` while a run is dropped concerns nobody else."""

    def flow(ctx: RunContext, message: None) -> None:
        try:
            ctx.exec_activity("a", None)
        finally:
            raise ValueError("in finally")

    tape = Tape()
    run = tape.begin(flow)
    tape.take(run)
    run.evict()
    assert run.ended
    assert tape.take(run) == []
    assert [(record.levelno, record.message) for record in caplog.records] == [
        (logging.ERROR, "run n/w/r/0 raised while it was evicted from memory")
    ]


def test_drop_of_a_run_that_is_not_under_way_does_nothing() -> None:
    """R10: neither a run that has not begun nor one that has ended is run by dropping it."""
    seen: list[str] = []
    tape = Tape()
    Run(lambda ctx, _: seen.append("ran"), tape.events[0], None, make).evict()
    assert seen == []
    run = tape.begin(lambda ctx, _: seen.append("ran"))
    run.evict()
    assert seen == ["ran"]


# Used from elsewhere.


OUTSIDE = (
    "run n/w/r/0: its context belongs to the workflow function: do not use it in another thread,"
    " activity or run"
)


def refused(use: Callable[[], object]) -> str:
    with pytest.raises(OutsideOfRun) as raised:
        use()
    return str(raised.value)


def test_context_is_of_no_use_in_another_thread() -> None:
    """R2: a thread that a workflow starts cannot ask for anything: no replay would repeat it."""
    errors: list[str] = []

    def flow(ctx: RunContext, message: None) -> None:
        def ask() -> None:
            errors.extend(refused(use) for use in uses(ctx))

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join(60)

    tape = Tape()
    assert tape.take(tape.begin(flow)) == ["RUN_COMPLETED n/w/r/0 -"]
    assert errors == [OUTSIDE] * 7


def test_context_is_of_no_use_in_another_greenlet() -> None:
    """R2: nor can a greenlet that the workflow has made, nor another run, nor the code outside."""
    kept: list[RunContext] = []
    errors: list[str] = []

    def flow(ctx: RunContext, message: None) -> None:
        def ask() -> None:
            errors.extend(refused(use) for use in uses(ctx))

        kept.append(ctx)
        greenlet.greenlet(ask).switch()
        ctx.exec_activity("a", None)

    tape = Tape()
    run = tape.begin(flow)
    Tape().begin(lambda ctx, _: errors.extend(refused(use) for use in uses(kept[0])))
    errors.extend(refused(use) for use in uses(kept[0]))
    assert tape.take(run) == ["ACTIVITY_REQUEST n/w/r/0/a/0 -"]
    assert tape.answer(run, "a/0") == ["RUN_COMPLETED n/w/r/0 -"]
    errors.extend(refused(use) for use in uses(kept[0]))
    assert errors == [OUTSIDE] * 28


# Sleeps and signals.


class Type(IntEnum):
    """The types of signals, as a workflow names them."""

    GO = 1
    STOP = -128


def test_signal_no_signal_and_empty_signal_differ() -> None:
    """S4: an await gives a signal with its message, one without a message, or None for none."""
    seen: list[Signal | None] = []

    def flow(ctx: RunContext, message: None) -> None:
        for type in (Type.GO, Type.GO, Type.GO, Type.STOP, 5):
            seen.append(ctx.await_signal(type, HOUR))

    tape = Tape()
    run = tape.begin(flow)
    tape.take(run)
    answers = (
        ("1:0", Int(value=4)),
        ("1:1", None),
        ("1:2", SleepDone()),
        ("-128:0", Empty()),
        ("5:0", SleepDone()),
    )
    for place, message in answers:
        tape.answer(run, f"replay_signal/{place}", message)
    go = Signal(1, Int(value=4))
    assert seen == [go, Signal(1, None), None, Signal(-128, Empty()), None]
    assert run.ended


@pytest.mark.parametrize(
    ("duration", "stored"),
    [
        (timedelta(milliseconds=1500), "duration { seconds: 1 nanos: 500000000 }"),
        (timedelta(microseconds=1), "duration { nanos: 1000 }"),
        (timedelta(0), "duration { }"),
        (timedelta(days=-1), "duration { }"),
        (timedelta(days=36500), "duration { seconds: 3153600000 }"),
    ],
)
def test_durations_are_asked_for_exactly(duration: timedelta, stored: str) -> None:
    """R7, P9: a sleep asks for its duration to the microsecond; less than none is none."""
    tape = Tape()
    assert tape.take(tape.begin(lambda ctx, _: ctx.sleep(duration))) == [
        f"ACTIVITY_REQUEST n/w/r/0/replay_sleep/0 {stored}"
    ]
