"""Activities: executed at least once, answered exactly once, and none in another's way."""

import asyncio
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from google.protobuf import any_pb2

from replay import (
    ActivityContext,
    Client,
    Consumer,
    EventType,
    Key,
    RunContext,
    Shard,
    Unavailable,
    connect,
    register_activity,
    register_workflow,
)
from replay.activity import ActivityConsumer
from replay.consumer import Batch
from replay.log import LostOwnership
from replay.storage.database import DatabaseError, Statement
from tests.example_pb2 import Empty, Int, String
from tests.support import (
    Clock,
    Faults,
    behind,
    crash,
    cursor,
    database,
    drain,
    endure,
    listing,
    raw,
    request,
    rewind,
    stepped,
    take_over,
    with_options,
)

pytestmark = pytest.mark.contract

LIMIT = 60  # seconds until something that has to happen has not happened


def place(run: str, count: int = 0) -> Key:
    return Key("ns", "flow", run, 0, "act", str(count))


def ask(client: Client, *runs: str) -> None:
    """Request an activity by hand; what it is given is the run's name."""
    for run in runs:
        request(client, place(run), String(value=run))


def answered(client: Client) -> list[str]:
    """The responses: run and message, in order."""
    return [
        f"{event.key.run} {getattr(event.message, 'value', event.message)}"
        for event in client.stream(to_head=True)
        if event.type is EventType.ACTIVITY_RESPONSE
    ]


class Calls:
    """What an activity was called with; it fails or waits as a test says, then answers."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.attempts: list[int] = []
        self.bad: set[str] = set()
        self.slow: set[str] = set()
        self.entered = threading.Semaphore(0)
        self.gate = threading.Event()
        self.then: Callable[[str], object] = lambda run: None

    def register(self, client: Client, **options: Any) -> ActivityConsumer:
        made = register_activity(client, "ns", act, self, **({"start": False} | options))
        assert isinstance(made, ActivityConsumer)
        return made


def act(ctx: ActivityContext, calls: Calls, message: String | None) -> String:
    name = ctx.run
    calls.seen.append(name)
    calls.attempts.append(ctx.attempt)
    calls.then(name)
    if name in calls.slow:
        calls.entered.release()
        assert calls.gate.wait(LIMIT)
    if name in calls.bad:
        raise ValueError(f"{name} is bad")
    return String(value=f"{name}!")


@pytest.fixture
def calls() -> Iterator[Calls]:
    """What is called, and how it behaves; at the end nobody waits any more."""
    made = Calls()
    yield made
    made.gate.set()


def step_until(consumer: Consumer, condition: Callable[[], object]) -> None:
    """Step until what other threads do has had its effect."""
    limit = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < limit
        consumer.step()


def has_attempts(consumer: Consumer, *attempts: int) -> bool:
    """Whether this is how often what is parked has failed."""
    return [each.attempts for each in consumer.parked()] == list(attempts)


# A1, A5: executed, and answered once.


def test_a1_each_request_is_executed_and_answered(url: str) -> None:
    """A1, A5: the whole log; the n-th call of a target has sequence n-1."""

    def double(ctx: ActivityContext, backends: int, message: Int) -> Int:
        return Int(value=backends * message.value)

    def name(ctx: ActivityContext, backends: None, message: Empty) -> String:
        return String(value=f"{ctx.namespace}/{ctx.workflow}/{ctx.run}/{ctx.iteration}")

    def flow(ctx: RunContext, message: Int) -> None:
        first = ctx.exec_activity(double, message)
        ctx.exec_activity(name, Empty())
        second = ctx.exec_activity(double, first)
        ctx.exec_activity("double", second)

    with stepped(url) as client:
        consumers = [
            register_workflow(client, "ns", flow, start=False),
            register_activity(client, "ns", double, 2, start=False),
            register_activity(client, "ns", name, start=False),
        ]
        client.run_workflow("ns", "flow", "r", Int(value=3))
        drain(*consumers)
        assert listing(client) == [
            "RUN_CREATED ns/flow/r/0 value: 3",
            "ACTIVITY_REQUEST ns/flow/r/0/double/0 value: 3",
            "ACTIVITY_RESPONSE ns/flow/r/0/double/0 value: 6",
            "ACTIVITY_REQUEST ns/flow/r/0/name/0",
            'ACTIVITY_RESPONSE ns/flow/r/0/name/0 value: "ns/flow/r/0"',
            "ACTIVITY_REQUEST ns/flow/r/0/double/1 value: 6",
            "ACTIVITY_RESPONSE ns/flow/r/0/double/1 value: 12",
            "ACTIVITY_REQUEST ns/flow/r/0/double/2 value: 12",
            "ACTIVITY_RESPONSE ns/flow/r/0/double/2 value: 24",
            "RUN_COMPLETED ns/flow/r/0 -",
        ]


def test_a1_a_crash_between_execution_and_commit_executes_again(url: str, calls: Calls) -> None:
    """A1: what was not stored is done again, as the first attempt that it is; one response."""
    with stepped(url) as client:
        ask(client, "r")
        consumer = calls.register(client)
        calls.then = lambda run: crash(client)
        with pytest.raises(DatabaseError):
            consumer.step()
        crash(client, consumer)
    calls.then = lambda run: None
    with stepped(url) as client:
        consumer = calls.register(client)
        take_over(consumer)
        drain(consumer)
        assert answered(client) == ["r r!"]
    assert (calls.seen, calls.attempts) == (["r", "r"], [1, 1])


@pytest.mark.parametrize(("kind", "executed"), [("before", 2), ("after", 1)])
@pytest.mark.parametrize("workers", [1, 2])
def test_a1_a_fault_at_the_commit_gives_one_response(
    url: str, calls: Calls, kind: str, executed: int, workers: int
) -> None:
    """A1: executed again if the commit is lost; not again if only the word of it is."""
    with stepped(with_options(url, lease=3600)) as client:
        consumer = calls.register(client, workers=workers)
        drain(consumer)
        faults = Faults(database(client))
        ask(client, "r")
        setattr(faults, kind, 1)
        with pytest.raises(Unavailable):
            step_until(consumer, lambda: False)
        step_until(consumer, lambda: answered(client))
        drain(consumer)
        assert answered(client) == ["r r!"]
        assert consumer.parked() == []
        if workers == 1:
            assert len(calls.seen) == executed


@pytest.mark.parametrize("kind", ["before", "after"])
def test_a1_a_fault_at_any_write_loses_and_repeats_nothing(
    url: str, calls: Calls, kind: str
) -> None:
    """A1, A2: with a request that fails first and is tried again, whichever write fails."""
    with stepped(url, clock := Clock()) as client:
        drain(consumer := calls.register(client))
        faults = Faults(database(client))
        attempt = failed = 1
        while failed:
            names = [f"good{attempt}", f"bad{attempt}"]
            ask(client, *names)
            setattr(faults, kind, attempt)
            calls.bad = {names[1]}
            failed = endure(consumer)
            calls.bad = set()
            clock.forward(minutes=5)
            failed += endure(consumer)
            setattr(faults, kind, 0)
            assert [answer.split()[0] for answer in answered(client)[-2:]] == names
            assert consumer.parked() == []
            attempt += 1
        assert attempt > 2
        assert len(answered(client)) == 2 * (attempt - 1)


def test_a1_two_that_execute_the_same_request_record_one_response(url: str, calls: Calls) -> None:
    """A1: while resharding two consumers may execute it at once; the first response stays."""
    with stepped(url) as client, stepped(url) as other:
        ask(client, "r")
        faster = Calls()
        second = faster.register(other, shard=Shard("new", lambda run: True))
        calls.then = lambda run: second.step()
        drain(consumer := calls.register(client))
        assert (calls.seen, faster.seen) == (["r"], ["r"])
        assert answered(client) == ["r r!"]
        assert cursor(client, consumer.name)[0] == cursor(client, second.name)[0] == 1


# A4: not executed again.


def test_a4_p12_a_cursor_set_back_executes_nothing(url: str, calls: Calls) -> None:
    """A4, P12: whether the responses are in memory or in the database only."""
    with stepped(url) as client:
        drain(consumer := calls.register(client))
        ask(client, "a", "b")
        drain(consumer)
        rewind(client, consumer)
        client.log.append(client.log.event(EventType.RUN_CREATED, Key("ns", "flow", "x")))
        ask(client, "c")
        with pytest.raises(LostOwnership):
            drain(consumer)
        drain(consumer)
        assert answered(client) == ["a a!", "b b!", "c c!"]
    with stepped(url) as client:
        consumer = calls.register(client)
        rewind(client, consumer)
        drain(consumer)
        consumer.stop()
        assert cursor(client, consumer.name)[0] == 7
    assert calls.seen == ["a", "b", "c", "c"]  # the last of these lost its place


@pytest.mark.one_server
def test_a4_a_response_behind_a_gap_is_found(server_url: str, calls: Calls) -> None:
    """A4: a cursor is set back while an earlier id is held by a transaction that is still open."""
    with stepped(server_url) as client, raw(server_url) as other:
        ask(client, "r")
        other.run("BEGIN")
        other.add(Key("ns", "flow", "late"))
        consumer = calls.register(client)
        drain(consumer)
        consumer.stop()
        rewind(client, consumer)
        drain(consumer)
        consumer.stop()
        rewind(client, consumer)
        with stepped(server_url) as another:  # which has not looked for what others add
            assert calls.register(another)._step(0)
        other.run("COMMIT")
        drain(consumer)
        assert (calls.seen, answered(client)) == (["r"], ["r r!"])


def test_a4_other_names_and_shards_execute_nothing_again(url: str, calls: Calls) -> None:
    """A4, H2: a consumer with another name reads all from the beginning."""
    with stepped(url) as client:
        ask(client, "a", "b", "c")
        drain(calls.register(client))
    for shards in (2, 3):
        with stepped(url) as client:
            some = [calls.register(client, shard=Shard.hashed(m, shards)) for m in range(shards)]
            drain(*some)
            ask(client, f"new{shards}")
            drain(*some)
    assert calls.seen == ["a", "b", "c", "new2", "new3"]


def test_a4_a_request_answered_while_it_was_set_aside_is_not_executed(
    url: str, calls: Calls
) -> None:
    """A4: another consumer's success takes the row away at the next attempt."""
    with stepped(url, clock := Clock()) as client:
        ask(client, "r")
        calls.bad = {"r"}
        drain(consumer := calls.register(client))
        drain(Calls().register(client, shard=Shard("new", lambda run: True)))
        clock.forward(seconds=1)
        drain(consumer)
        assert (calls.seen, answered(client), consumer.parked()) == (["r"], ["r r!"], [])


def test_a2_a_cursor_set_back_does_not_hasten_an_attempt(url: str, calls: Calls) -> None:
    """A2, P12: what is parked waits for its time, and is not tried twice in one step."""
    with stepped(url, clock := Clock()) as client:
        ask(client, "r")
        calls.bad = {"r"}
        drain(consumer := calls.register(client))
        consumer.stop()
        rewind(client, consumer)
        drain(consumer)
        assert calls.seen == ["r"]
        calls.bad = set()
        clock.forward(seconds=1)
        drain(consumer)
        assert (calls.seen, answered(client), consumer.parked()) == (["r"] * 2, ["r r!"], [])


@pytest.mark.damages
def test_a4_a_request_that_is_gone_is_not_tried_again(url: str, calls: Calls) -> None:
    """A4: what was parked and then removed from the log is forgotten."""
    with stepped(url, clock := Clock()) as client:
        ask(client, "a", "b")
        calls.bad = {"a"}
        drain(consumer := calls.register(client))
        database(client).query("DELETE FROM replay_events WHERE id = 1")
        clock.forward(seconds=1)
        drain(consumer)
        assert (calls.seen, consumer.parked()) == (["a", "b"], [])


# A2: tried again until it returns.


def test_a2_a_failure_is_tried_again_with_growing_pauses(url: str, calls: Calls) -> None:
    """A2: pauses from 1 s to 5 min; attempts and the error can be listed; then one response."""
    calls.bad = {"r"}
    with stepped(url, clock := Clock()) as client:
        ask(client, "r")
        consumer = calls.register(client)
        for attempt in range(1, 13):
            drain(consumer)
            (parked,) = consumer.parked()
            assert (parked.event_id, parked.key, parked.attempts, parked.error) == (
                1,
                "ns/flow/r/0/act/0",
                attempt,
                "ValueError: r is bad",
            )
            longest = timedelta(seconds=min(2 ** (attempt - 1), 300))
            assert 0.75 * longest <= parked.next_at - clock.now <= longest
            clock.now = parked.next_at - timedelta(milliseconds=2)
            drain(consumer)
            assert len(calls.seen) == attempt
            clock.now = parked.next_at + timedelta(milliseconds=1)
        calls.bad = set()
        drain(consumer)
        assert listing(client) == [
            'ACTIVITY_REQUEST ns/flow/r/0/act/0 value: "r"',
            'ACTIVITY_RESPONSE ns/flow/r/0/act/0 value: "r!"',
        ]
        assert consumer.parked() == []
    assert calls.attempts == list(range(1, 14))


@pytest.mark.parametrize("end", ["closed", "killed"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a2_attempts_survive_a_restart(url: str, calls: Calls, end: str, workers: int) -> None:
    """A2: the count goes on, and the request keeps its time."""
    calls.bad = {"r"}
    clock = Clock()
    for attempt in range(1, 4):
        with stepped(url, clock) as client:
            if attempt == 1:
                ask(client, "r")
            consumer = calls.register(client, workers=workers)
            take_over(consumer)
            if attempt > 1:
                drain(consumer)
                assert calls.attempts == list(range(1, attempt))
                clock.forward(seconds=4)
            step_until(consumer, partial(has_attempts, consumer, attempt))
            if end == "killed":
                crash(client, consumer)
    with stepped(url, clock) as client:
        assert [each.attempts for each in calls.register(client).parked()] == [3]
    assert calls.attempts == [1, 2, 3]


def test_a2_the_key_of_a_call_is_the_same_at_each_attempt(url: str) -> None:
    """A2, A5: so an activity can tell a repetition from another call."""
    keys: list[str] = []

    def pay(ctx: ActivityContext, backends: None, message: Any) -> None:
        keys.append(ctx.idempotency_key)
        if len(keys) < 3:
            raise OSError("the bank is closed")

    with stepped(url, clock := Clock()) as client:
        consumer = register_activity(client, "ns", pay, name="act", start=False)
        request(client, place("r", 0))
        request(client, place("r", 1))
        for _ in range(3):
            drain(consumer)
            clock.forward(seconds=10)
    first, second = (str(place("r", n)) for n in range(2))
    assert keys == [first, second, first, second]


@pytest.mark.parametrize("error", [SystemExit, asyncio.CancelledError, GeneratorExit])
def test_a2_an_activity_may_raise_anything(url: str, error: type[BaseException]) -> None:
    """A2, P16: sys.exit in an activity, or an exception that is no `Exception`, ends neither its
    consumer nor the process."""
    for workers in (1, 2):
        name = f"act{workers}"

        def leave(ctx: ActivityContext, backends: None, message: Any) -> None:
            raise error("enough")

        with stepped(url) as client:
            request(client, Key("ns", "flow", "r", 0, name, "0"))
            consumer = register_activity(
                client, "ns", leave, name=name, workers=workers, start=False
            )
            step_until(consumer, partial(has_attempts, consumer, 1))
            assert "enough" in consumer.parked()[0].error


def test_an_activity_has_a_logger_that_names_its_request(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A2: what it logs begins with the request's key and the attempt, whatever signs it holds."""

    def talk(ctx: ActivityContext, backends: None, message: Any) -> None:
        ctx.log.info("here: 100 %")
        ctx.log.warning("%s: %d %%", "here", 100)

    with stepped(url) as client, caplog.at_level(logging.INFO, "replay.activity"):
        request(client, place("50%s"))
        drain(register_activity(client, "ns", talk, name="act", start=False))
    key = "ns/flow/50%s/0/act/0"
    records = [each for each in caplog.records if each.name == "replay.activity"]
    assert [each.getMessage() for each in records] == [f"{key}, attempt 1: here: 100 %"] * 2
    assert {(vars(each)["request"], vars(each)["attempt"]) for each in records} == {(key, 1)}
    assert {(each.filename, each.funcName) for each in records} == {("test_activity.py", "talk")}


# A3, P4: none in another's way.


def test_a3_p4_a_failing_request_delays_no_other(url: str, calls: Calls) -> None:
    """A3, P4: the others are answered in the same step, and go on being answered."""
    calls.bad = {"bad"}
    with stepped(url, clock := Clock()) as client:
        ask(client, "bad", "a", "b")
        consumer = calls.register(client)
        consumer.step()
        assert answered(client) == ["a a!", "b b!"]
        for run in ("c", "d"):
            ask(client, run)
            clock.forward(minutes=10)
            consumer.step()
        assert answered(client) == ["a a!", "b b!", "c c!", "d d!"]
        assert [each.attempts for each in consumer.parked()] == [3]


def test_p4_a_request_with_a_wrong_message_delays_no_other(url: str) -> None:
    """P4, N3: a wrong or unknown type, or a damaged message, is parked with the reason."""
    unknown = any_pb2.Any(type_url="type.googleapis.com/no.such.Type").SerializeToString()
    got: list[str | None] = []

    def takes(ctx: ActivityContext, backends: None, message: String) -> Empty:
        got.append(None if message is None else message.value)
        return Empty()

    with stepped(url) as client:
        request(client, place("int"), Int(value=1))
        for run, raw in (("unknown", unknown), ("damaged", b"\x0a\xff")):
            event = behind(client).event(EventType.ACTIVITY_REQUEST, place(run))
            event.raw = raw
            behind(client).commit([event])
        request(client, place("none"))
        ask(client, "good")
        consumer = register_activity(client, "ns", takes, name="act", start=False)
        consumer.step()
        assert got == [None, "good"]
        assert [each.error.partition(":")[0] for each in consumer.parked()] == [
            "WrongValue",
            "UnknownMessageType",
            "MessageError",
        ]
        assert "act/0: expected String, got Int" in consumer.parked()[0].error
        assert "knows no message type no.such.Type" in consumer.parked()[1].error


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (print, r"NotAMessage: .*ns/flow/r/0/act/0: builtin_function_or_method is neither"),
        (String(value="x" * 1000), r"MessageTooLarge: .*act/0: the String has 1042 bytes"),
    ],
    ids=["not a message", "too large"],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_n3_an_answer_that_cannot_be_stored_is_a_failure(
    url: str, answer: Any, error: str, workers: int
) -> None:
    """N3, A2, E5: parked with the reason, nothing stored; and tried again after 5 minutes."""
    answers = [answer, Int(value=1)]

    def give(ctx: ActivityContext, backends: None, message: Any) -> Any:
        return answers.pop(0)

    with stepped(with_options(url, max_message=1000), clock := Clock()) as client:
        request(client, place("r"))
        consumer = register_activity(client, "ns", give, name="act", workers=workers, start=False)
        step_until(consumer, partial(has_attempts, consumer, 1))
        assert re.match(error, consumer.parked()[0].error)
        assert answered(client) == []
        clock.forward(minutes=5)
        step_until(consumer, lambda: answered(client))
        assert (answered(client), consumer.parked()) == (["r 1"], [])


def test_n3_no_message_is_passed_on_as_none(url: str) -> None:
    """N3: neither the request nor the response needs one."""
    got: list[Any] = []

    def nothing(ctx: ActivityContext, backends: None, message: Any) -> None:
        got.append(message)

    def flow(ctx: RunContext, message: Any) -> None:
        got.append(ctx.exec_activity(nothing, message))

    with stepped(url) as client:
        consumers = [
            register_workflow(client, "ns", flow, start=False),
            register_activity(client, "ns", nothing, start=False),
        ]
        client.run_workflow("ns", "flow", "r", None)
        drain(*consumers)
        assert listing(client) == [
            "RUN_CREATED ns/flow/r/0 -",
            "ACTIVITY_REQUEST ns/flow/r/0/nothing/0 -",
            "ACTIVITY_RESPONSE ns/flow/r/0/nothing/0 -",
            "RUN_COMPLETED ns/flow/r/0 -",
        ]
    assert got == [None, None]


# A3: slow ones, one worker.


class Narrow:
    """A window of time that is over as soon as something has been done in it."""

    def left(self) -> float:
        return 0.0


def test_a3_slow_activities_commit_one_by_one(
    url: str, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A3: a response is in the log before the rest of the batch is executed."""
    monkeypatch.setattr("replay.consumer.Window", Narrow)
    progress: list[int] = []
    with stepped(url) as client:
        ask(client, "a", "b", "c")
        consumer = calls.register(client)
        calls.then = lambda run: progress.append(len(answered(client)))
        consumer.step()
        assert (calls.seen, cursor(client, consumer.name)[0]) == (["a"], 1)
        drain(consumer)
        assert (calls.seen, progress) == (["a", "b", "c"], [0, 1, 2])


def test_a3_slow_activities_that_are_tried_again_commit_one_by_one(
    url: str, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A3: also those that were parked and are all due; nor do new ones wait."""
    with stepped(url, clock := Clock()) as client:
        ask(client, "a", "b", "c")
        calls.bad = {"a", "b", "c"}
        drain(calls.register(client))
    monkeypatch.setattr("replay.consumer.Window", Narrow)
    calls.bad = set()
    clock.forward(seconds=1)
    with stepped(url, clock) as client:
        ask(client, "d")
        consumer = calls.register(client)
        consumer.step()
        assert answered(client) == ["a a!", "d d!"]
        drain(consumer)
        assert answered(client) == ["a a!", "d d!", "b b!", "c c!"]


def test_stopping_leaves_the_rest_to_the_next_process(url: str, calls: Calls) -> None:
    """L5: what is executed just now is finished, what has not begun is not."""
    with stepped(url) as client:
        ask(client, "a", "b")
        consumer = calls.register(client)
        calls.then = lambda run: consumer.ask_to_stop()
        consumer.step()
        assert (calls.seen, answered(client)) == (["a"], ["a a!"])
    calls.then = lambda run: None
    with stepped(url) as client:
        drain(calls.register(client))
        assert (calls.seen, answered(client)) == (["a", "b"], ["a a!", "b b!"])


# A3: slow ones, several workers.


def test_a3_a_slow_request_delays_no_other(url: str, calls: Calls) -> None:
    """A3: parked while it runs, with no failed attempt; its response takes the row away."""
    calls.slow = {"slow"}
    with stepped(url, Clock()) as client:
        ask(client, "slow", "a", "b")
        consumer = calls.register(client, workers=2)
        step_until(consumer, lambda: len(answered(client)) == 2)
        assert answered(client) == ["a a!", "b b!"]
        assert cursor(client, consumer.name)[0] >= 3
        ask(client, "c")
        step_until(consumer, lambda: len(answered(client)) == 3)
        (parked,) = consumer.parked()
        found = (parked.event_id, parked.key, parked.attempts, parked.error)
        assert found == (1, "ns/flow/slow/0/act/0", 0, "running")
        calls.gate.set()
        step_until(consumer, lambda: len(answered(client)) == 4)
        assert answered(client) == ["a a!", "b b!", "c c!", "slow slow!"]
        assert consumer.parked() == []
    assert (calls.seen, calls.attempts) == (["slow", "a", "b", "c"], [1] * 4)


def test_p21_while_a_request_runs_its_consumer_rests(url: str, calls: Calls) -> None:
    """P21: it is woken by the end of the execution, and does not look for it all the time."""
    calls.slow, calls.bad = {"slow"}, {"bad", "slow"}
    with stepped(url, clock := Clock()) as client:
        ask(client, "bad")
        consumer = calls.register(client, workers=2)
        step_until(consumer, partial(has_attempts, consumer, 1))
        ask(client, "slow")
        consumer.step()
        assert [each.error for each in consumer.parked()] == ["ValueError: bad is bad", "running"]
        pause = consumer._until_due()
        assert pause is not None
        assert 0.75 <= pause <= 1
        calls.slow.add("bad")
        clock.forward(seconds=1)
        consumer.step()
        assert [consumer._until_due(), consumer.step()] == [None, 0]
        calls.gate.set()
        step_until(consumer, partial(has_attempts, consumer, 2, 1))


def test_a3_with_all_workers_busy_requests_wait_their_turn(url: str, calls: Calls) -> None:
    """A3: neither parked nor passed by the cursor: new ones, and those that are due again."""
    calls.bad = {"again"}
    with stepped(url, clock := Clock()) as client:
        consumer = calls.register(client, workers=2)
        ask(client, "again")
        step_until(consumer, partial(has_attempts, consumer, 1))
        calls.slow = {"slow1", "slow2"}
        ask(client, "slow1", "slow2", "a")
        consumer.step()
        clock.forward(seconds=1)
        consumer.step()
        assert cursor(client, consumer.name)[0] == 3
        assert [each.error for each in consumer.parked()][1:] == ["running", "running"]
        assert sorted(calls.seen) == ["again", "slow1", "slow2"]
        begun = [each.event.key.run for each in consumer._running.values() if each.has_begun()]
        assert (sorted(begun), consumer._until_due()) == (["slow1", "slow2"], None)
        calls.bad = set()
        calls.gate.set()
        step_until(consumer, lambda: len(answered(client)) == 4)
        assert sorted(answered(client)) == [
            "a a!",
            "again again!",
            "slow1 slow1!",
            "slow2 slow2!",
        ]
        assert consumer.parked() == []


def deepen(consumer: ActivityConsumer) -> None:
    """Have requests wait for a thread, as they do after some that were quick."""
    consumer._depth = 64


def test_a3_only_what_a_thread_executes_is_parked(url: str, calls: Calls) -> None:
    """A3: the cursor stays before what waits for a thread; two wait on, and others are recalled."""
    runs = [f"r{n}" for n in range(6)]
    calls.slow = {*runs}
    with stepped(url, Clock()) as client:
        consumer = calls.register(client, workers=2)
        consumer.step()
        deepen(consumer)
        ask(client, *runs)
        consumer.step()
        assert cursor(client, consumer.name)[0] == 2
        assert [each.event_id for each in consumer.parked()] == [1, 2]
        assert (consumer._depth, sorted(calls.seen)) == (0, runs[:2])
        assert [*consumer._running] == [1, 2, 3, 4]
        for _ in range(3):
            consumer.step()
        assert [*consumer._running] == [1, 2, 3, 4]
        calls.gate.set()
        step_until(consumer, lambda: len(answered(client)) == 6)
        assert sorted(answered(client)) == [f"{run} {run}!" for run in runs]
        assert (consumer.parked(), sorted(calls.seen)) == ([], runs)


def test_a3_quick_requests_wait_for_a_thread(url: str, calls: Calls) -> None:
    """A3: so a thread goes on with the next one at once; where results are large, few wait."""
    with stepped(url, Clock()) as client:
        consumer = calls.register(client, workers=2)
        ask(client, *(f"r{n}" for n in range(10)))
        step_until(consumer, lambda: len(answered(client)) == 10)
        assert 0 < consumer._depth <= 62
        for seconds, size, depth in (
            (0.0, 0, 62),
            (0.001, 0, 18),
            (0.02, 0, 0),
            (5.0, 0, 0),
            (0.0, 1024**2, 2),
            (0.0, 3 * 1024**2, 0),
        ):
            batch = Batch(0, bytes=size * 4, seconds=[seconds] * 4)
            consumer._plan(batch, slow=False)
            assert consumer._depth == depth
            consumer._plan(Batch(0), slow=False)
            assert consumer._depth == depth


def test_a3_a_new_attempt_waits_for_no_thread(url: str, calls: Calls) -> None:
    """A3, E4: it is parked already, so nobody would take it back from a thread that hangs."""
    calls.bad = {f"r{n}" for n in range(4)}
    with stepped(url, clock := Clock()) as client:
        consumer = calls.register(client, workers=2)
        ask(client, *sorted(calls.bad))
        step_until(consumer, partial(has_attempts, consumer, 1, 1, 1, 1))
        deepen(consumer)
        calls.slow, calls.bad = {*calls.bad}, set()
        clock.forward(seconds=1)
        consumer.step()
        assert len(consumer._running) == 2
        calls.gate.set()
        step_until(consumer, lambda: len(answered(client)) == 4)


def test_a3_what_ran_when_its_process_died_is_executed_again(url: str, calls: Calls) -> None:
    """A1, A3: it is due at the next start; an attempt that nobody saw end is no failure."""
    calls.slow = {"slow"}
    with stepped(url) as client:
        ask(client, "slow")
        consumer = calls.register(client, workers=2)
        step_until(consumer, lambda: consumer.parked())
        crash(client, consumer)
    again = Calls()
    with stepped(url) as client:
        consumer = again.register(client, workers=2)
        take_over(consumer)
        step_until(consumer, lambda: answered(client))
        calls.gate.set()
        drain(consumer)
        assert (answered(client), consumer.parked()) == (["slow slow!"], [])
    assert (calls.attempts, again.attempts) == ([1], [1])


@pytest.mark.parametrize("workers", [1, 2])
def test_a1_what_a_lost_place_was_executing_is_let_go(url: str, calls: Calls, workers: int) -> None:
    """A1, L7, P15: its answer is not stored, also not later; with the place back it begins anew."""
    with stepped(url) as client:
        consumer = calls.register(client, workers=workers)
        drain(consumer)
        ask(client, "r")
        calls.then = lambda run: own(client, consumer, "somebody else")
        with pytest.raises(LostOwnership):
            step_until(consumer, lambda: False)
        assert (consumer._pool, consumer._running, answered(client)) == (None, {}, [])
        assert consumer.step() == 0
        calls.then = lambda run: None
        own(client, consumer, "")
        step_until(consumer, lambda: answered(client))
        assert (answered(client), consumer.parked()) == (["r r!"], [])
    assert calls.seen == ["r", "r"]


def own(client: Client, consumer: Consumer, owner: str) -> None:
    """Have another process take the name, or give it back."""
    until = "2999-01-01 00:00:00.000"
    update = "UPDATE replay_cursors SET owner = ?, lease_until = ? WHERE id = ?"
    database(client).write([Statement(update, (owner, until, consumer.name), must_find=1)])


@pytest.mark.embedded
def test_a3_a_pool_lost_in_the_middle_leaves_its_rows(url: str, calls: Calls) -> None:
    """A1, A3: what still ran when the place was lost is executed by whoever has it then."""
    calls.slow = {"slow"}
    with stepped(url) as client, stepped(url) as other:
        ask(client, "slow")
        consumer = calls.register(client, workers=2)
        step_until(consumer, lambda: consumer.parked())
        own(client, consumer, "")
        database(client).unlock(consumer.name)
        next_owner = Calls()
        successor = next_owner.register(other, workers=2)
        step_until(successor, lambda: answered(other))
        ask(client, "more")
        with pytest.raises(LostOwnership):
            step_until(consumer, lambda: False)
        assert (consumer._pool, consumer._running) == (None, {})
        calls.gate.set()
        step_until(successor, lambda: len(answered(other)) == 2)
        assert answered(other) == ["slow slow!", "more more!"]
    assert next_owner.seen == ["slow", "more"]


def test_a3_threads_answer_all(url: str, calls: Calls) -> None:
    """A1, A3: in its own thread, with workers: the end of each execution wakes it."""
    runs = [f"r{n}" for n in range(20)]

    def flow(ctx: RunContext, message: Empty) -> None:
        assert ctx.exec_activity(act, None).value == f"{ctx.run}!"

    with connect(url) as client:
        register_workflow(client, "ns", flow)
        calls.slow = {"r0"}
        calls.register(client, workers=3, start=True)
        for run in runs:
            client.run_workflow("ns", "flow", run, Empty())
        assert calls.entered.acquire(timeout=LIMIT)
        for run in runs[1:]:
            client.await_completion("ns", "flow", run, timeout=LIMIT)
        calls.gate.set()
        client.await_completion("ns", "flow", "r0", timeout=LIMIT)
        assert sorted(answered(client)) == sorted(f"{run} {run}!" for run in runs)
    assert calls.seen.count("r0") == 1


@pytest.mark.parametrize("workers", [0, -1])
def test_there_is_at_least_one_worker(url: str, calls: Calls, workers: int) -> None:
    """A3: fewer are refused when it is registered."""
    expected = pytest.raises(ValueError, match=f"activity act: {workers} workers, expected 1")
    with stepped(url) as client, expected:
        calls.register(client, workers=workers)
