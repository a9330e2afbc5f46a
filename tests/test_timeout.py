"""Timeouts of attempts: abandoned threads, heartbeats, and workers that are all gone."""

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from replay import (
    ActivityContext,
    ActivityFailed,
    Client,
    Event,
    Key,
    Retry,
    RunContext,
    register_workflow,
)
from replay import activity as activities
from replay.activity import ActivityConsumer
from replay.failure import Abandoned, BadRetry
from tests.example_pb2 import Int
from tests.support import (
    Clock,
    act_of,
    drain,
    listing,
    request,
    stepped,
)

pytestmark = pytest.mark.contract

LIMIT = 60.0  # seconds until something that has to happen has not happened
MINUTE = timedelta(minutes=1)


class Stopwatch:
    """The monotonic time of attempts, which stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Stopwatch:
    """Give the time by which attempts are measured."""
    found = Stopwatch()
    monkeypatch.setattr(activities, "time", SimpleNamespace(monotonic=found.monotonic))
    return found


class Attempts:
    """An activity whose attempts end when the test lets them."""

    def __init__(self) -> None:
        self.began = threading.Semaphore(0)
        self.running: list[ActivityContext] = []
        self.ends: list[threading.Event] = []
        self.raised: list[BaseException] = []

    def act(self, ctx: ActivityContext, _: None, message: Int) -> Int:
        end = threading.Event()
        self.running.append(ctx)
        self.ends.append(end)
        self.began.release()
        assert end.wait(LIMIT)
        try:
            ctx.heartbeat()
        except BaseException as error:
            self.raised.append(error)
        return Int(value=ctx.attempt)


@pytest.fixture
def attempts() -> Iterator[Attempts]:
    """Give an activity, and end what still runs of it."""
    found = Attempts()
    yield found
    for end in found.ends:
        end.set()


def consumer_of(client: Client, attempts: Attempts, **options: Any) -> ActivityConsumer:
    return act_of(client, attempts.act, **{"timeout": MINUTE, **options})


def ask(client: Client, count: int = 1) -> None:
    for n in range(count):
        request(client, Key("ns", "flow", "a", 0, "act", str(n)), Int(value=n))


def begin(consumer: ActivityConsumer, attempts: Attempts, count: int = 1) -> None:
    """Step until so many attempts have begun."""
    consumer.step()
    for _ in range(count):
        assert attempts.began.acquire(timeout=LIMIT)


@contextmanager
def begun(
    url: str, attempts: Attempts, clock: Clock | None = None, **options: Any
) -> Iterator[tuple[Client, ActivityConsumer]]:
    """A client, and the consumer of a request whose first attempt has begun."""
    with stepped(url, clock or Clock()) as client:
        ask(client)
        consumer = consumer_of(client, attempts, **options)
        begin(consumer, attempts)
        yield client, consumer


def finish(consumer: ActivityConsumer, attempts: Attempts, n: int) -> None:
    """Let an attempt end, and wait until its thread has seen to it."""
    abandoned = set(consumer._pool._abandoned) if consumer._pool else set()
    attempts.ends[n].set()
    for each in consumer._running.values():
        if each.context is attempts.running[n]:
            each.result.exception(LIMIT)
            return
    assert abandoned
    ready = threading.Event()
    for future in abandoned:
        future.add_done_callback(lambda _: ready.set())
    assert ready.wait(LIMIT)


@pytest.mark.parametrize("workers", [1, 2])
def test_e4_an_attempt_that_takes_too_long_has_failed(
    url: str, watch: Stopwatch, attempts: Attempts, workers: int
) -> None:
    """E4: it is parked with its count, and its answer is discarded; also with one worker."""
    clock = Clock()
    with begun(url, attempts, clock, workers=workers) as (client, consumer):
        watch.now += 59.9
        consumer.step()
        assert [each.error for each in consumer.parked()] == ["running"]
        watch.now += 0.2
        consumer.step()
        (parked,) = consumer.parked()
        assert parked.attempts == 1
        assert parked.error == "TimeoutError: the attempt has taken longer than 0:01:00"
        finish(consumer, attempts, 0)
        drain(consumer)
        assert len(listing(client)) == 1
        assert [type(error) for error in attempts.raised] == [Abandoned]
        clock.forward(seconds=1)
        begin(consumer, attempts)
        assert attempts.running[1].attempt == 2
        finish(consumer, attempts, 1)
        drain(consumer)
        assert listing(client)[1:] == ["ACTIVITY_RESPONSE ns/flow/a/0/act/0 value: 2"]
        assert consumer.parked() == []
        consumer.stop()


def test_e4_the_answer_of_an_abandoned_attempt_is_discarded_while_another_runs(
    url: str, watch: Stopwatch, attempts: Attempts
) -> None:
    """E4, A1: the response is that of the second attempt, though the first ends before it."""
    clock = Clock()
    with begun(url, attempts, clock, workers=2) as (client, consumer):
        watch.now += 61
        consumer.step()
        clock.forward(seconds=1)
        begin(consumer, attempts)
        finish(consumer, attempts, 0)
        drain(consumer)
        assert len(listing(client)) == 1
        finish(consumer, attempts, 1)
        drain(consumer)
        assert listing(client)[1:] == ["ACTIVITY_RESPONSE ns/flow/a/0/act/0 value: 2"]
        consumer.stop()


def test_e4_a_heartbeat_begins_the_timeout_again(
    url: str, watch: Stopwatch, attempts: Attempts
) -> None:
    """E4: an attempt that says it is alive may take as long as it likes."""
    with begun(url, attempts) as (client, consumer):
        for _ in range(3):
            watch.now += 50
            attempts.running[0].heartbeat()
            consumer.step()
            assert [each.error for each in consumer.parked()] == ["running"]
        finish(consumer, attempts, 0)
        drain(consumer)
        assert attempts.raised == []
        assert listing(client)[1:] == ["ACTIVITY_RESPONSE ns/flow/a/0/act/0 value: 1"]
        consumer.stop()


def test_e4_an_attempt_that_has_ended_in_time_counts(
    url: str, watch: Stopwatch, attempts: Attempts
) -> None:
    """E4: though the consumer looks late."""
    with begun(url, attempts) as (client, consumer):
        finish(consumer, attempts, 0)
        watch.now += 3600
        drain(consumer)
        assert listing(client)[1:] == ["ACTIVITY_RESPONSE ns/flow/a/0/act/0 value: 1"]
        consumer.stop()


def test_e4_the_consumer_wakes_for_a_timeout(
    url: str, watch: Stopwatch, attempts: Attempts
) -> None:
    """E4: at the time when the first attempt times out, and not later."""
    clock = Clock()
    with stepped(url, clock) as client:
        ask(client)
        consumer = consumer_of(client, attempts)
        assert consumer.due() is None
        begin(consumer, attempts)
        watch.now += 20
        assert consumer.due() == clock.now + timedelta(seconds=40)
        watch.now += 60
        assert consumer.due() == clock.now
        finish(consumer, attempts, 0)
        consumer.stop()


def test_e4_with_all_workers_abandoned_nothing_more_is_handed_out(
    url: str, watch: Stopwatch, attempts: Attempts, caplog: pytest.LogCaptureFixture
) -> None:
    """E4: it says so once; an attempt that ends makes room, and a later one says so again."""
    clock = Clock()
    with stepped(url, clock) as client:
        ask(client, 4)
        consumer = consumer_of(client, attempts, workers=2)
        begin(consumer, attempts, 2)
        watch.now += 61
        for _ in range(5):
            consumer.step()
            assert consumer.blocked() is not None
        assert len(attempts.running) == 2
        text = "executes nothing more: 2 attempts have not ended after their timeout"
        assert [text in each.getMessage() for each in caplog.records].count(True) == 1
        finish(consumer, attempts, 0)
        assert consumer.blocked() is None
        begin(consumer, attempts)
        assert len(attempts.running) >= 3
        said = [each for each in caplog.records if text in each.getMessage()]
        assert [each.levelno for each in said] == [logging.ERROR]
        for end in attempts.ends:
            end.set()
        consumer.stop(LIMIT)


def test_e4_the_timeout_begins_when_a_thread_takes_the_request(url: str, watch: Stopwatch) -> None:
    """E4: a request that waits for a thread is not late, and no thread is abandoned for it."""
    both, second, end = threading.Event(), threading.Event(), threading.Event()

    def act(ctx: ActivityContext, _: None, message: Int) -> None:
        if message.value == 0:
            assert both.wait(LIMIT)
            watch.now += 50
        else:
            watch.now += 20
            second.set()
            assert end.wait(LIMIT)

    with stepped(url, Clock()) as client:
        consumer = act_of(client, act, timeout=MINUTE)
        consumer.step()
        consumer._depth = 64
        submit = consumer._submit

        def submitted(event: Event, attempts: int) -> None:
            submit(event, attempts)
            if event.id == 2:
                both.set()

        consumer._submit = submitted  # type: ignore[method-assign]
        ask(client, 2)
        consumer.step()
        assert second.wait(LIMIT)
        consumer.step()
        found = [(each.attempts, each.error) for each in consumer.parked()]
        end.set()
        assert found == [(0, "running")]
        assert consumer._pool is not None
        assert consumer._pool.lost() == 0
        consumer.stop(LIMIT)
        assert len(listing(client)) == 4


def test_e4_e3_timeouts_use_up_a_policy(url: str, watch: Stopwatch, attempts: Attempts) -> None:
    """E4, E3: the call raises with the kind TimeoutError."""
    clock = Clock()

    def flow(ctx: RunContext, message: Int) -> None:
        try:
            ctx.exec_activity("act", message)
        except ActivityFailed as error:
            ctx.emit_output(error.kind, Int(value=error.attempts))

    with stepped(url, clock) as client:
        client.run_workflow("ns", "flow", "a", Int(value=1))
        run = register_workflow(client, "ns", flow, start=False)
        drain(run)
        consumer = consumer_of(client, attempts, workers=3, retry=Retry(attempts=2))
        for _ in range(2):
            begin(consumer, attempts)
            watch.now += 61
            consumer.step()
            clock.forward(seconds=1)
        drain(consumer, run)
        assert run.parked() == []
        assert listing(client)[2:] == [
            'ACTIVITY_RESPONSE ns/flow/a/0/act/0 kind: "TimeoutError"'
            ' text: "the attempt has taken longer than 0:01:00" attempts: 2',
            "RUN_OUTPUT ns/flow/a/0/TimeoutError/0 value: 2",
            "RUN_COMPLETED ns/flow/a/0 -",
        ]
        for end in attempts.ends:
            end.set()
        consumer.stop()


def test_e4_a_stop_does_not_wait_for_what_times_out(
    url: str, watch: Stopwatch, attempts: Attempts
) -> None:
    """E4: without a time of its own it waits for an attempt until that has timed out."""
    with begun(url, attempts) as (client, consumer):
        watch.now += 61
        assert consumer.stop() is True
        assert not attempts.ends[0].is_set()
        assert [each.attempts for each in client.log.parked(consumer.name)] == [1]


@pytest.mark.parametrize("timeout", [timedelta(0), timedelta(seconds=-1), timedelta.max, 5])
def test_e4_a_timeout_that_makes_no_sense_is_refused(
    url: str, attempts: Attempts, timeout: Any
) -> None:
    """E4: at the registration."""
    with stepped(url) as client, pytest.raises(BadRetry, match="activity act: timeout="):
        consumer_of(client, attempts, timeout=timeout)


STUCK = """
import threading
from datetime import timedelta
import replay
from google.protobuf.wrappers_pb2 import StringValue

began = threading.Event()

def act(ctx: replay.ActivityContext, _: None, name: str) -> None:
    began.set()
    threading.Event().wait()

def flow(ctx: replay.RunContext, name: str) -> None:
    ctx.exec_activity(act, name)

client = replay.connect("sqlite://")
replay.register_workflow(client, "ns", flow)
replay.register_activity(client, "ns", act, timeout=timedelta(hours=1), workers={workers})
client.run_workflow("ns", flow, "a", "x")
assert began.wait(60)
client.close(timedelta(0))
print("closed")
"""


@pytest.mark.embedded
@pytest.mark.parametrize("workers", [1, 2])
def test_e4_a_process_ends_though_an_attempt_does_not(workers: int) -> None:
    """E4: `close` waits for `grace`, and the interpreter does not join the thread."""
    done = subprocess.run(
        [sys.executable, "-c", STUCK.format(workers=workers)],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        cwd=Path(__file__).parent.parent,
    )
    assert (done.returncode, done.stdout) == (0, "closed\n"), done.stderr
