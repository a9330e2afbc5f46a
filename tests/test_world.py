"""`replay.testing.World`: virtual time, one thread, crashes, and what it says when it is idle."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import pytest

from replay import (
    ActivityContext,
    ActivityFailed,
    Cancelled,
    Client,
    Event,
    EventsPruned,
    EventType,
    Failed,
    OutputType,
    Retry,
    RunContext,
    RunFailed,
    SignalType,
    connect,
    consume,
    register_activity,
    register_workflow,
)
from replay.client import AlreadyRegistered
from replay.failure import Abandoned
from replay.testing import START, BadTime, Crashed, Idle, NeverIdle, World
from tests.support import LogLines, line, listing

T = TypeVar("T")

ROOT = Path(__file__).resolve().parent.parent
SECOND, MINUTE, HOUR, DAY = (timedelta(seconds=n) for n in (1, 60, 3600, 86400))
APPROVE = SignalType(1, str)
TOLD = OutputType("told", str)


@pytest.fixture
def world() -> Iterator[World]:
    """Give a world."""
    with World() as found:
        yield found


def double(ctx: ActivityContext, backends: None, n: int) -> int:
    return 2 * n


def since(event: Event) -> str:
    """An event with the time since the world's beginning."""
    return f"{event.timestamp - START} {line(event)}"


# Time.


def wait(ctx: RunContext, name: str) -> str:
    """Ask, remind every ten days, and give up after 30."""
    for _ in range(3):
        if (by := ctx.await_signal(APPROVE, 10 * DAY)) is not None:
            return f"{by} at {ctx.now():%F}"
        ctx.emit_output(TOLD, name)
    raise Failed("nobody has answered")


def test_v1_a_month_passes_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """V1, R7, S4: the clock stops where something is due, so every event has its exact time."""
    monkeypatch.delattr(threading.Thread, "start")  # nothing starts one
    register_workflow(world.client, "ns", wait)
    world.client.run_workflow("ns", wait, "r", "Ada")
    world.advance(30 * DAY)
    assert world.now == START + 30 * DAY
    with pytest.raises(RunFailed, match="nobody has answered"):
        world.client.result("ns", wait, "r")
    asked = [e.timestamp for e in world.events() if e.type is EventType.ACTIVITY_REQUEST]
    told = [e.timestamp for e in world.events() if e.key.target == "told"]
    assert asked == [START, START + 10 * DAY, START + 20 * DAY]
    assert told == [START + 10 * DAY, START + 20 * DAY, START + 30 * DAY]


def test_v1_a_signal_comes_in_time_or_too_late(world: World) -> None:
    """V1, S3, S4: it counts when it was sent: before its run, in time, or after the time-out."""
    client = world.client
    register_workflow(client, "ns", wait)
    client.signal_run("ns", wait, "before", APPROVE, "Bob", "1")
    for run in ("before", "in time", "late"):
        client.run_workflow("ns", wait, run, "Ada")
    world.advance(30 * DAY - SECOND)
    client.signal_run("ns", wait, "in time", APPROVE, "Bob", "1")
    assert client.result("ns", wait, "in time") == "Bob at 2030-01-30"
    assert client.result("ns", wait, "before") == "Bob at 2030-01-01"
    world.advance(SECOND)
    client.signal_run("ns", wait, "late", APPROVE, "Bob", "1")
    with pytest.raises(RunFailed):
        client.result("ns", wait, "late")


def daily(ctx: RunContext, n: int) -> int:
    ctx.sleep(DAY)
    n = ctx.exec_activity(double, n) - n + 1
    if n < 1000:
        ctx.restart(n)
    return n


def test_v1_a_thousand_days_take_few_statements(world: World) -> None:
    """V1, R6: a cron job of 1,000 days; the world does not step what has nothing to do."""
    register_workflow(world.client, "ns", daily)
    register_activity(world.client, "ns", double)
    world.client.run_workflow("ns", daily, "r", 0)
    world.advance(1000 * DAY)
    assert world.client.result("ns", daily, "r") == 1000
    ticks = [e for e in world.events() if e.key.target == "double"]
    days = [(e.timestamp - START) / DAY for e in ticks if e.type is EventType.ACTIVITY_REQUEST]
    assert days == list(range(1, 1001))
    assert world.statements < 120 * 1000


def test_v1_the_clock_moves_by_what_it_is_told(world: World) -> None:
    """V1: until_idle moves no clock, a duration is rounded up to milliseconds, none is negative."""
    world.until_idle()
    assert world.now == START
    world.advance(timedelta(microseconds=1))
    assert world.now == START + timedelta(milliseconds=1)
    with pytest.raises(BadTime, match="the clock never goes back"):
        world.advance(-SECOND)
    assert world.now == START + timedelta(milliseconds=1)


def test_v1_a_world_begins_when_it_is_told_to() -> None:
    """V1: a start needs a time zone, and is kept in UTC, cut to milliseconds."""
    summer = datetime.fromisoformat("2024-07-01T12:00:00.000999+02:00")
    with World(summer) as world:
        assert world.now == datetime(2024, 7, 1, 10, tzinfo=UTC)
    with pytest.raises(BadTime, match="no time zone"):
        World(datetime(2024, 7, 1))


# Activities.


def call(ctx: RunContext, n: int) -> int:
    return ctx.exec_activity(double, n)


def failing(*errors: BaseException) -> Callable[[ActivityContext, None, int], int]:
    """An activity whose first attempts fail."""
    left = list(errors)

    def double(ctx: ActivityContext, backends: None, n: int) -> int:
        if left:
            raise left.pop(0)
        return 2 * n

    return double


def attempts_at(seed: int, retry: Retry | None = None) -> list[timedelta]:
    """When an activity that fails three times is executed, and when its response comes."""
    seen = []
    errors = failing(OSError("1"), TimeoutError("2"), OSError("3"))

    def noted(ctx: ActivityContext, backends: None, n: int) -> int:
        seen.append(own.now - START)
        return errors(ctx, backends, n)

    with World(seed=seed) as own:
        register_workflow(own.client, "ns", call)
        register_activity(own.client, "ns", noted, name="double", retry=retry, workers=8)
        own.client.run_workflow("ns", call, "r", 4)
        own.advance(HOUR)
        assert own.client.result("ns", call, "r") == 8
        return [*seen, *(e.timestamp - START for e in own.events() if e.id == 3)]


def test_v1_attempts_follow_their_backoff() -> None:
    """V1, A2: pauses are those of the library, and jitter is the same for the same seed."""
    first = attempts_at(0)
    assert first == attempts_at(0) != attempts_at(1)
    pauses = [(after - before) / SECOND for before, after in pairwise(first)]
    for n, pause in zip((1, 2, 4, 0), pauses, strict=True):
        assert 0.75 * n <= pause <= n
    slow = attempts_at(0, Retry(first=MINUTE, factor=1))
    for before, after in pairwise(slow[:4]):
        assert 45 * SECOND <= after - before <= MINUTE


def test_v1_attempts_come_to_an_end(world: World) -> None:
    """V1, E3, L7: after the last attempt the call fails; the owner's lease is renewed meanwhile."""
    register_workflow(world.client, "ns", call)
    activity = failing(*[OSError("no")] * 9)
    register_activity(world.client, "ns", activity, retry=Retry(first=MINUTE, attempts=2))
    world.client.run_workflow("ns", call, "r", 4)
    with LogLines() as logged:
        world.advance(MINUTE)
    assert not logged.of("nobody serves")
    with pytest.raises(RunFailed, match="no") as failure:
        world.client.result("ns", call, "r")
    assert failure.value.kind == "OSError"


def slow(ctx: ActivityContext, world: World, n: int) -> int:
    """Takes 50 s, with a heartbeat in between from the second attempt on."""
    world.advance(25 * SECOND)
    if ctx.attempt > 1:
        ctx.heartbeat()
    world.advance(25 * SECOND)
    return n


def ask(ctx: RunContext, n: int) -> int:
    return ctx.exec_activity(slow, n)


def test_v1_an_attempt_takes_the_worlds_time(world: World) -> None:
    """V1, E4: an activity moves the clock; it times out by it, and a heartbeat begins anew."""
    client = world.client
    register_workflow(client, "ns", ask)
    register_activity(
        client, "ns", slow, world, timeout=30 * SECOND, retry=Retry(first=10 * SECOND)
    )
    client.run_workflow("ns", ask, "r", 4)
    with LogLines() as logged:
        world.until_idle()
        assert world.now == START + 50 * SECOND
        (waiting,) = client.describe("ns", ask, "r").waiting_for
        assert waiting.error == "TimeoutError: the attempt has taken longer than 0:00:30"
        world.advance(10 * SECOND)
    assert len(logged.of("has taken longer")) == 1
    assert client.result("ns", ask, "r") == 4
    assert START + 108 * SECOND < world.now < START + 110 * SECOND  # a backoff, with jitter


def test_v1_a_heartbeat_after_the_timeout_raises(world: World) -> None:
    """V1, E4: what such an attempt returns or raises is discarded."""
    raised = []

    def slow(ctx: ActivityContext, backends: None, n: int) -> int:
        world.advance(MINUTE)
        try:
            ctx.heartbeat()
        except Abandoned as error:
            raised.append(str(error))
        return n

    register_workflow(world.client, "ns", ask)
    register_activity(world.client, "ns", slow, timeout=MINUTE, retry=Retry(attempts=1))
    world.client.run_workflow("ns", ask, "r", 4)
    with pytest.raises(RunFailed, match="taken longer"):
        world.client.result("ns", ask, "r")
    assert raised == ["attempt 1 of ns/ask/r/0/slow/0 has timed out"]


def test_v1_an_activity_waits_for_another_run(world: World) -> None:
    """V1: while an activity waits, the others are stepped; two that cannot go on are told."""

    def slow(ctx: ActivityContext, client: Client, n: int) -> int:
        client.run_workflow("ns", call, f"child-{n}", n)
        return client.result("ns", call, f"child-{n}")

    register_workflow(world.client, "ns", ask)
    register_workflow(world.client, "ns", call)
    register_activity(world.client, "ns", slow, world.client)
    world.client.run_workflow("ns", ask, "r", 4)
    with LogLines() as logged:
        world.until_idle()
        assert logged.of("Idle: run ns/call/child-4 waits for activity double: call register_activ")
        register_activity(world.client, "ns", double)
        world.advance(MINUTE)
    assert world.client.result("ns", ask, "r") == 8


# What a client does.


def test_v1_cancel_compensates(world: World) -> None:
    """V1, E7: a run that sleeps is cancelled, and undoes what it has done."""

    def book(ctx: RunContext, n: int) -> None:
        try:
            ctx.sleep(30 * DAY)
        except Cancelled:
            ctx.exec_activity(double, n)
            raise

    client = world.client
    register_workflow(client, "ns", book)
    register_activity(client, "ns", double)
    client.run_workflow("ns", book, "r", 4)
    world.advance(DAY)
    assert client.cancel_run("ns", book, "r", "ill")
    with pytest.raises(RunFailed, match="ill"):
        client.result("ns", book, "r")
    assert [each.status for each in client.runs()] == ["cancelled"]
    assert [since(event) for event in world.events()][2:] == [
        '1 day, 0:00:00 ACTIVITY_RESPONSE ns/book/r/0/replay_cancel/0 reason: "ill"',
        "1 day, 0:00:00 ACTIVITY_REQUEST ns/book/r/0/double/0 4",
        "1 day, 0:00:00 ACTIVITY_RESPONSE ns/book/r/0/double/0 8",
        '1 day, 0:00:00 RUN_OUTPUT ns/book/r/0/replay_failure/0 kind: "cancelled" text: "ill"',
        "1 day, 0:00:00 RUN_COMPLETED ns/book/r/0 -",
    ]


def test_v1_streams_and_handlers_step(world: World) -> None:
    """V1, L4, L5: a stream steps the world for its next event; a handler is a consumer as well."""
    seen: list[int] = []

    def handler(event: Event) -> None:
        if event.id == 2 and len(seen) == 1:
            seen.append(0)
            raise ValueError("a bad day")
        seen.append(event.id)

    register_workflow(world.client, "ns", call)
    register_activity(world.client, "ns", double)
    consume(world.client, "mine", handler)
    world.client.run_workflow("ns", call, "r", 4)
    stream = world.client.stream("ns")
    assert [next(stream).id for _ in range(5)] == [1, 2, 3, 4, 5]
    with pytest.raises(Idle, match="no further event comes"):
        next(stream)
    assert seen == [1, 0]
    world.advance(SECOND)
    assert seen == [1, 0, 2, 3, 4, 5]
    with pytest.raises(
        Idle, match=r"event 1 is not 0:01:00 old yet; world.advance\(timedelta\(sec"
    ):
        next(world.client.stream("ns", lag=MINUTE))


def test_v1_queries_retries_and_retention(world: World) -> None:
    """V1, Q1, Q2, L9: a parked run is listed, retried at once, and pruned after its time."""
    broken = [ValueError("a bug")]

    def flow(ctx: RunContext, n: int) -> int:
        if broken:
            raise broken[0]
        return n

    client = world.client
    register_workflow(client, "ns", flow)
    client.run_workflow("ns", flow, "r", 4)
    world.advance(HOUR)
    assert [each.status for each in client.runs("ns")] == ["parked"]
    broken.clear()
    assert client.retry("ns", flow, "r") == 1
    assert client.result("ns", flow, "r") == 4
    assert client.count("ns")["completed"] == 1
    world.advance(30 * DAY)
    assert client.prune(30 * DAY).runs == 1
    with pytest.raises(EventsPruned):
        client.result("ns", flow, "r")


class Turned:
    """A codec that turns bytes around."""

    def encode(self, key: str, data: bytes) -> bytes:
        return data[::-1]

    def decode(self, key: str, data: bytes) -> bytes:
        return data[::-1]


def test_v1_a_world_takes_a_codec() -> None:
    """V1, J4: it is used, also after a crash."""
    with World(codec=Turned()) as world:
        register_workflow(world.client, "ns", wait)
        world.client.run_workflow("ns", wait, "r", "Ada")
        (created,) = world.events()
        assert b"adA" in (created.raw or b"")
        world.until_idle()
        world.crash()
        world.client.signal_run("ns", wait, "r", APPROVE, "Bob", "1")
        assert world.client.result("ns", wait, "r") == "Bob at 2030-01-01"


# When nothing is left to do.


def napping(ctx: RunContext, n: int) -> None:
    ctx.begin(ctx.timer(HOUR))
    ctx.begin(ctx.signal(7))
    ctx.exec_activity(double, n)


REASONS = {
    "r": "run ns/napping/r sleeps until 2030-01-01 01:00:00; waits for signal 7: call"
    " client.signal_run; waits for activity double: call register_activity, unless it is at work;"
    " world.advance(timedelta(seconds=3600)) reaches the next of these times",
    "unborn": "run ns/napping/unborn has not begun: call client.run_workflow",
}


@pytest.mark.parametrize("run", REASONS)
def test_v1_an_idle_world_says_what_a_run_waits_for(world: World, run: str) -> None:
    """V1: result, await_completion and stream raise, and the text says what to do."""
    register_workflow(world.client, "ns", napping)
    world.client.run_workflow("ns", napping, "r", 1)
    for method in (world.client.result, world.client.await_completion):
        with pytest.raises(Idle) as error:
            method("ns", napping, run, timeout=0)
        assert str(error.value) == REASONS[run]
    with pytest.raises(Idle) as error:
        list(world.client.stream())
    assert str(error.value) == f"no further event comes\n{REASONS['r']}"
    assert isinstance(error.value, TimeoutError)


def test_v1_an_idle_world_names_code_that_fails_or_is_missing(world: World) -> None:
    """V1: a parked run, an activity that has failed, a workflow that nobody serves."""

    def reason() -> str:
        with pytest.raises(Idle) as error:
            world.client.result("ns", "call", "r")
        return str(error.value)

    world.client.run_workflow("ns", "call", "r", 1)
    assert reason() == "run ns/call/r waits for its code: call register_workflow for call"
    register_workflow(world.client, "ns", call)
    register_activity(world.client, "ns", failing(OSError("no disk"), OSError("no disk")))
    assert reason() == (
        "run ns/call/r waits for activity double: attempt 1 has failed, the next is at"
        " 2030-01-01 00:00:00: OSError: no disk; world.advance(timedelta(microseconds=961000))"
        " reaches the next of these times"
    )


def test_v1_an_idle_world_names_a_parked_run(world: World) -> None:
    """V1, R5: with its error."""

    def call(ctx: RunContext, n: int) -> int:
        raise ValueError("a bug")

    register_workflow(world.client, "ns", call)
    world.client.run_workflow("ns", "call", "r", 1)
    with pytest.raises(Idle, match="is parked: attempt 1 has failed, the next"):
        world.client.result("ns", "call", "r")


def test_v1_a_world_that_never_becomes_idle(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """V1: a run that restarts for ever is told instead of a test that hangs."""

    def spin(ctx: RunContext, n: int) -> None:
        ctx.restart(n + 1)

    monkeypatch.setattr("replay.testing._MOST", 100)
    register_workflow(world.client, "ns", spin)
    world.client.run_workflow("ns", spin, "r", 1)
    with pytest.raises(NeverIdle, match="still busy after 100 rounds at 2030-01-01"):
        world.until_idle()


# Crashes.


def trade(ctx: RunContext, n: int) -> int:
    """Does everything once, in two iterations."""
    first, second = ctx.gather(ctx.call(double, n), ctx.call(double, n + 1))
    ctx.sleep(HOUR)
    ctx.emit_output(TOLD, f"{first} {second}")
    by = ctx.await_signal(APPROVE, HOUR)
    if n < 2:
        ctx.restart(n + 1)
    return first if by is None else second


def insist(call: Callable[[], T]) -> T:
    """Call until the process survives it."""
    for _ in range(3):
        try:
            return call()
        except Crashed:
            continue
    raise AssertionError("it dies again and again")


def traded(world: World) -> tuple[int, list[str]]:
    """Trade in a world that may crash once, anywhere."""
    client = world.client
    insist(lambda: client.signal_run("ns", trade, "r", APPROVE, "Ada", "1"))
    insist(lambda: client.run_workflow("ns", trade, "r", 1))
    insist(lambda: world.advance(HOUR))
    assert insist(lambda: client.describe("ns", trade, "r")).iteration == 1
    world.advance(HOUR)
    world.advance(HOUR)
    result = insist(lambda: client.result("ns", trade, "r"))
    return result, [f"{event.id} {since(event)}" for event in insist(world.events)]


def serve_trades(world: World) -> None:
    register_workflow(world.client, "ns", trade)
    register_activity(world.client, "ns", double)


@pytest.fixture
def trading(world: World) -> World:
    """Give a world that trades."""
    serve_trades(world)
    return world


TRADED = [
    "1 0:00:00 RUN_CREATED ns/trade/r/0 1",
    "2 0:00:00 ACTIVITY_REQUEST ns/trade/r/0/double/0 1",
    "3 0:00:00 ACTIVITY_REQUEST ns/trade/r/0/double/1 2",
    "4 0:00:00 ACTIVITY_RESPONSE ns/trade/r/0/double/0 2",
    "5 0:00:00 ACTIVITY_RESPONSE ns/trade/r/0/double/1 4",
    "6 0:00:00 ACTIVITY_REQUEST ns/trade/r/0/replay_sleep/0 duration { seconds: 3600 }",
    "7 1:00:00 ACTIVITY_RESPONSE ns/trade/r/0/replay_sleep/0",
    "8 1:00:00 RUN_OUTPUT ns/trade/r/0/told/0 2 4",
    "9 1:00:00 ACTIVITY_REQUEST ns/trade/r/0/replay_signal/1:0 duration { seconds: 3600 }",
    "10 1:00:00 ACTIVITY_RESPONSE ns/trade/r/0/replay_signal/1:0 Ada",
    "11 1:00:00 RUN_COMPLETED ns/trade/r/0 -",
    "12 1:00:00 RUN_CREATED ns/trade/r/1 2",
    "13 1:00:00 ACTIVITY_REQUEST ns/trade/r/1/double/0 2",
    "14 1:00:00 ACTIVITY_REQUEST ns/trade/r/1/double/1 3",
    "15 1:00:00 ACTIVITY_RESPONSE ns/trade/r/1/double/0 4",
    "16 1:00:00 ACTIVITY_RESPONSE ns/trade/r/1/double/1 6",
    "17 1:00:00 ACTIVITY_REQUEST ns/trade/r/1/replay_sleep/0 duration { seconds: 3600 }",
    "18 2:00:00 ACTIVITY_RESPONSE ns/trade/r/1/replay_sleep/0",
    "19 2:00:00 RUN_OUTPUT ns/trade/r/1/told/0 4 6",
    "20 2:00:00 ACTIVITY_REQUEST ns/trade/r/1/replay_signal/1:0 duration { seconds: 3600 }",
    "21 3:00:00 ACTIVITY_RESPONSE ns/trade/r/1/replay_signal/1:0",
    "22 3:00:00 RUN_OUTPUT ns/trade/r/1/replay_result/0 4",
    "23 3:00:00 RUN_COMPLETED ns/trade/r/1 -",
]


def test_v1_a_crash_at_any_statement_changes_nothing(trading: World) -> None:
    """V1, L6, R2, A1: with the process killed at each statement in turn, the log is the same."""
    before = trading.statements
    expected = traded(trading)
    count = trading.statements - before
    assert expected == (4, TRADED)
    for at in range(1, count + 1):
        with World() as world:
            serve_trades(world)
            world.crash(at=at)
            assert traded(world) == expected, f"statement {at}"


def test_v1_a_crash_outside_of_a_call_loses_memory_only(trading: World) -> None:
    """V1: the new process begins with what is stored, and with all that was registered."""
    expected = traded(trading)
    with World() as world:
        serve_trades(world)
        log = world.client.log
        client = world.client
        client.signal_run("ns", trade, "r", APPROVE, "Ada", "1")
        client.run_workflow("ns", trade, "r", 1)
        for _ in range(3):
            world.crash()
            world.advance(HOUR)
        assert client.result("ns", trade, "r") == expected[0]
        assert [f"{event.id} {since(event)}" for event in world.events()] == expected[1]
        assert client is world.client
        assert client.log is not log


def test_v1_a_crash_in_an_activity_executes_it_again(world: World) -> None:
    """V1, A1, A2: the crash comes before its response, and does not count as an attempt."""
    seen = []

    def double(ctx: ActivityContext, backends: None, n: int) -> int:
        seen.append(ctx.attempt)
        if len(seen) < 3:
            try:
                world.advance(SECOND)
                world.crash()
            finally:
                world.client.run_workflow("ns", call, "never", 1)  # nothing goes on in a dead one
        return 2 * n

    register_workflow(world.client, "ns", call)
    register_activity(world.client, "ns", double)
    world.client.run_workflow("ns", call, "r", 4)
    assert world.client.result("ns", call, "r") == 8
    assert seen == [1, 1, 1]
    assert world.now == START + 2 * SECOND
    assert [e.key.run for e in world.events()] == ["r"] * 5


def test_v1_after_a_crash_other_code_may_be_registered(world: World) -> None:
    """V1, E9: as by a deployment; runs that have begun go on with the old path."""

    def flow(ctx: RunContext, n: int) -> int:
        ctx.sleep(HOUR)
        return n

    register_workflow(world.client, "ns", flow)
    with pytest.raises(AlreadyRegistered):
        register_workflow(world.client, "ns", flow)
    world.client.run_workflow("ns", flow, "old", 1)
    world.until_idle()
    world.crash()

    def patched(ctx: RunContext, n: int) -> int:
        new = ctx.patched("longer")
        ctx.sleep(DAY if new else HOUR)
        return 2 * n if new else n

    register_workflow(world.client, "ns", patched, name="flow")
    world.client.run_workflow("ns", "flow", "new", 1)
    world.advance(HOUR)
    assert world.client.result("ns", flow, "old") == 1
    world.advance(DAY)
    assert world.client.result("ns", flow, "new") == 2


def test_v1_a_stream_outlives_a_crash_of_the_world(trading: World) -> None:
    """V1, L4: a stream that steps the world through a crash goes on in the log."""
    trading.client.run_workflow("ns", trade, "r", 1)
    stream = trading.client.stream("ns")
    assert next(stream).id == 1
    trading.crash(at=20)
    assert [next(stream).id for _ in range(4)] == [2, 3, 4, 5]


# The same as elsewhere.


def program(ctx: RunContext, n: int) -> int:
    """Calls, retries, sleeps, outputs, signals, a restart: a little of everything."""
    if n == 0:
        ctx.restart(sum(ctx.gather(*[ctx.call(double, each) for each in range(3)])))
    ctx.emit_output(TOLD, f"{n}")
    late, done = ctx.begin(ctx.timer(HOUR)), ctx.begin(ctx.call(double, n))
    assert ctx.first(late, done) is done
    heard = [ctx.await_signal(APPROVE, HOUR), ctx.await_signal(2, timedelta(milliseconds=20))]
    ctx.sleep(timedelta(milliseconds=20))
    if ctx.patched("failing"):
        try:
            ctx.exec_activity(refuse, n)
        except ActivityFailed as error:
            ctx.emit_output(TOLD, f"{error.kind} {error.attempts} {heard}")
    try:
        ctx.sleep(HOUR)
    except Cancelled as error:
        ctx.emit_output(TOLD, error.reason)
    raise Failed("the end", detail=n)


def refuse(ctx: ActivityContext, backends: None, n: int) -> int:
    raise OSError(f"attempt {ctx.attempt}")


def run_program(client: Client, advance: Callable[[timedelta], None]) -> list[str]:
    """Run it to its end; the log."""
    register_workflow(client, "ns", program)
    register_activity(client, "ns", double)
    register_activity(client, "ns", refuse, retry=Retry(first=SECOND / 100, attempts=3))
    assert client.signal_run("ns", program, "r", APPROVE, "Ada", "1")
    assert client.run_workflow("ns", program, "r", 0)
    advance(SECOND)
    for event in client.stream("ns", program.__name__, "r"):
        if event.text == "ns/program/r/1/replay_sleep/2" and "3600" in str(event.message):
            break
    assert client.cancel_run("ns", program, "r", "enough")
    with pytest.raises(RunFailed) as failure:
        client.result("ns", program, "r", timeout=60)
    assert (failure.value.text, failure.value.detail) == ("the end", 6)
    return listing(client)


def test_v1_a_world_leaves_the_log_that_a_database_gets(url: str, world: World) -> None:
    """V1: the same events, in the same order, as with threads on a real database."""
    with connect(url) as client:
        expected = run_program(client, lambda duration: None)
    assert len(expected) == 28
    assert run_program(world.client, world.advance) == expected


# The fixture.


def test_v1_pytest_has_a_world_as_a_fixture(tmp_path: Path) -> None:
    """V1: the plugin that pyproject.toml names gives each test its own."""
    plugins = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    (plugin,) = plugins["pytest11"].values()
    (tmp_path / "test_it.py").write_text(
        "def test_one(world):\n    assert world.now.year == 2030\n    world.client.stream('a')\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", plugin, str(tmp_path)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, "1 passed" in done.stdout) == (0, True), done.stdout + done.stderr


def shards_in_a_world(seed: int, crash_at: int = 0) -> list[str]:
    """The log of a program whose workflow and activity are shared, perhaps after a crash."""

    def shaky(ctx: ActivityContext, backends: None, n: int) -> int:
        if ctx.attempt == 1 and n % 2:
            raise OSError("not yet")
        return 2 * n

    def flow(ctx: RunContext, n: int) -> int:
        ctx.sleep(MINUTE)
        return ctx.exec_activity(shaky, n)

    def register(client: Client) -> None:
        register_workflow(client, "ns", flow, shards=4)
        register_activity(client, "ns", shaky, shards=3, workers=2, timeout=HOUR)

    with World(seed=seed) as world:
        register(world.client)
        for n in range(6):
            world.client.run_workflow("ns", flow, f"r{n}", n)
        if crash_at:
            world.crash(at=crash_at)
            world.until_idle()
            with suppress(AlreadyRegistered):  # it has not come so far
                register(world.client)
        world.advance(HOUR)
        assert [world.client.result("ns", flow, f"r{n}") for n in range(6)] == [*range(0, 12, 2)]
        return [f"{event.timestamp} {line(event)}" for event in world.events()]


def test_v1_h3_a_world_serves_all_shards() -> None:
    """V1, H3: the same log for the same seed, backoffs and all; another one for another."""
    assert shards_in_a_world(1) == shards_in_a_world(1)
    assert shards_in_a_world(1) != shards_in_a_world(2)
    whole = sorted(each.split(" ", 2)[2] for each in shards_in_a_world(1))
    assert whole == sorted(each.split(" ", 2)[2] for each in shards_in_a_world(2))


def test_v1_h3_shards_survive_a_crash() -> None:
    """V1, H3, R2: at any statement; the process that has died keeps no share."""
    whole = sorted(each.split(" ", 2)[2] for each in shards_in_a_world(1))
    for at in range(1, 200, 23):
        found = sorted(each.split(" ", 2)[2] for each in shards_in_a_world(1, at))
        assert found == whole
