"""Results and failures: runs that end with an answer, and activities that are given up."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from replay import (
    ActivityContext,
    ActivityFailed,
    Consumer,
    EventType,
    Failed,
    GiveUp,
    Key,
    Retry,
    RunContext,
    RunFailed,
    Unavailable,
    connect,
    handle,
    register_workflow,
)
from replay.activity import ActivityConsumer
from replay.failure import BadRetry
from replay.server.proto.values_pb2 import Failure
from replay.storage.event import MessageTooLarge
from tests.example_pb2 import Int, String
from tests.models import Bill
from tests.support import (
    Clock,
    Faults,
    LogLines,
    act_of,
    behind,
    crash,
    database,
    drain,
    flow_of,
    listing,
    rewind,
    start_runs,
    stepped,
    with_options,
)

pytestmark = pytest.mark.contract

Flow = Callable[..., Any]


def calling(ctx: RunContext, message: Int) -> Int:
    """Calls the activity, and returns what it returns."""
    found: Int = ctx.exec_activity("act", message)
    return found


# Results (E1).


def test_e1_a_result_is_stored_with_the_completed_event(url: str) -> None:
    """E1: in one transaction, and `result` returns it."""

    def flow(ctx: RunContext, message: Int) -> Int:
        return Int(value=message.value + 1)

    with stepped(url) as client:
        consumer = flow_of(client, flow)
        start_runs(client, "a")
        consumer.step()  # takes the name
        faults = Faults(database(client))
        drain(consumer)
        assert faults.writes <= 1
        assert listing(client) == [
            "RUN_CREATED ns/flow/a/0 value: 1",
            "RUN_OUTPUT ns/flow/a/0/replay_result/0 value: 2",
            "RUN_COMPLETED ns/flow/a/0 -",
        ]
        assert client.result("ns", "flow", "a", timeout=0) == Int(value=2)
        assert client.await_completion("ns", "flow", "a", timeout=0) is None  # type: ignore[func-returns-value]


def test_e1_a_crash_before_the_end_is_stored_stores_neither(url: str) -> None:
    """E1, L6: the result is not in the log unless the run has ended."""

    def flow(ctx: RunContext, message: Int) -> Int:
        return message

    with stepped(url) as client:
        consumer = flow_of(client, flow)
        consumer.step()
        start_runs(client, "a")
        faults = Faults(database(client))
        faults.before = 1
        with pytest.raises(Unavailable):
            drain(consumer)
        assert listing(client) == ["RUN_CREATED ns/flow/a/0 value: 1"]
        drain(consumer)
        assert listing(client)[1:] == [
            "RUN_OUTPUT ns/flow/a/0/replay_result/0 value: 1",
            "RUN_COMPLETED ns/flow/a/0 -",
        ]


def test_e1_none_stores_nothing(url: str) -> None:
    """E1, E11: a workflow that returns nothing writes what it always wrote."""

    def flow(ctx: RunContext, message: Int) -> None:
        return None

    with stepped(url) as client:
        start_runs(client, "a")
        drain(flow_of(client, flow))
        assert listing(client) == [
            "RUN_CREATED ns/flow/a/0 value: 1",
            "RUN_COMPLETED ns/flow/a/0 -",
        ]
        assert client.result("ns", "flow", "a", timeout=0) is None


def test_e1_the_result_of_a_restarted_run_is_that_of_its_last_iteration(url: str) -> None:
    """E1, R6: a restart is no end."""

    def flow(ctx: RunContext, message: Int) -> Int:
        if message.value < 3:
            ctx.restart(Int(value=message.value + 1))
        return message

    with stepped(url) as client:
        start_runs(client, "a")
        drain(flow_of(client, flow))
        assert listing(client)[-3:] == [
            "RUN_CREATED ns/flow/a/2 value: 3",
            "RUN_OUTPUT ns/flow/a/2/replay_result/0 value: 3",
            "RUN_COMPLETED ns/flow/a/2 -",
        ]
        assert len(listing(client)) == 7
        assert client.result("ns", "flow", "a", timeout=0) == Int(value=3)


def test_e1_a_plain_value_comes_back_as_what_it_was(url: str) -> None:
    """E1, J1: by the annotation of the function, or as plain JSON by its name."""

    def flow(ctx: RunContext, message: int) -> Bill:
        return Bill(message)

    with stepped(url) as client:
        consumer = register_workflow(client, "ns", flow, start=False)
        assert client.run_workflow("ns", flow, "a", 7)
        drain(consumer)
        assert client.result("ns", flow, "a", timeout=0) == Bill(7)
        assert client.result("ns", "flow", "a", timeout=timedelta(0)) == {"total": 7}


def test_e1_a_result_that_does_not_fit_parks_the_run(url: str) -> None:
    """E1, J3, R5: it is a bug; the mended code ends the run."""
    clock = Clock()
    results: list[Any] = ["no bill", Bill(1)]

    def flow(ctx: RunContext, message: Int) -> Bill:
        return results.pop(0)  # type: ignore[no-any-return]

    with stepped(url, clock) as client:
        start_runs(client, "a")
        consumer = flow_of(client, flow)
        drain(consumer)
        (parked,) = consumer.parked()
        assert "replay_result/0" in parked.error
        assert "expected Bill" in parked.error or "expected object" in parked.error
        assert listing(client) == ["RUN_CREATED ns/flow/a/0 value: 1"]
        clock.forward(seconds=1)
        drain(consumer)
        assert client.result("ns", "flow", "a", timeout=0) == {"total": 1}


def test_e1_a_run_that_has_not_ended_has_no_result(url: str) -> None:
    """E1: neither has one that does not exist."""
    with stepped(url) as client:
        start_runs(client, "a")
        for run in ("a", "unknown"):
            with pytest.raises(TimeoutError):
                client.result("ns", "flow", run, timeout=0)


# Failures (E2).


@dataclass
class Missing:
    item: str


def failing(ctx: RunContext, message: Int) -> None:
    raise Failed("out of stock", detail=Int(value=message.value))


def test_e2_failed_ends_the_run(url: str) -> None:
    """E2: the failure and the completed event are one transaction; nothing is parked."""
    with stepped(url) as client:
        consumer = flow_of(client, failing)
        start_runs(client, "a")
        consumer.step()
        faults = Faults(database(client))
        drain(consumer)
        assert faults.writes <= 1
        event = next(e for e in client.stream("ns", to_head=True) if e.type is EventType.RUN_OUTPUT)
        assert (event.key.target, event.key.sequence) == ("replay_failure", "0")
        assert isinstance(event.message, Failure)
        assert (event.message.kind, event.message.text) == ("failed", "out of stock")
        assert [line.split(" ")[0:2] for line in listing(client)] == [
            ["RUN_CREATED", "ns/flow/a/0"],
            ["RUN_OUTPUT", "ns/flow/a/0/replay_failure/0"],
            ["RUN_COMPLETED", "ns/flow/a/0"],
        ]
        assert consumer.parked() == []
        client.await_completion("ns", "flow", "a", timeout=0)
        with pytest.raises(RunFailed, match="run ns/flow/a has failed: out of stock") as caught:
            client.result("ns", "flow", "a", timeout=0)
        failure = caught.value
        assert (failure.kind, failure.text) == ("failed", "out of stock")
        assert failure.detail == Int(value=1)


def test_e2_a_detail_may_be_a_plain_value_and_a_kind_a_word(url: str) -> None:
    """E2, J1."""

    def flow(ctx: RunContext, message: Int) -> None:
        raise Failed("none left", detail=Missing("tea"), kind="stock")

    with stepped(url) as client:
        start_runs(client, "a")
        drain(flow_of(client, flow))
        with pytest.raises(RunFailed) as caught:
            client.result("ns", "flow", "a", timeout=0)
        assert (caught.value.kind, caught.value.detail) == ("stock", {"item": "tea"})


@pytest.mark.parametrize("detail", [object(), float("nan"), String(value="x" * 5_000_000)])
def test_e2_a_detail_that_cannot_be_stored_is_left_out(url: str, detail: Any) -> None:
    """E2, N3: the text must arrive."""

    def flow(ctx: RunContext, message: Int) -> None:
        raise Failed("out of stock", detail=detail)

    with stepped(url) as client, LogLines() as logged:
        start_runs(client, "a")
        drain(flow_of(client, flow))
        with pytest.raises(RunFailed, match="out of stock") as caught:
            client.result("ns", "flow", "a", timeout=0)
        assert caught.value.detail is None
        assert len(logged.of("the detail of a failure is left out")) == 1


def test_e2_a_text_that_cannot_be_stored_as_it_is_arrives_all_the_same(url: str) -> None:
    """E2: half a surrogate pair, a NUL, more than 4,000 bytes."""

    def flow(ctx: RunContext, message: Int) -> None:
        raise Failed("\ud800 \0 " + "é" * 5000, kind="\udfff")

    with stepped(url) as client:
        start_runs(client, "a")
        drain(flow_of(client, flow))
        with pytest.raises(RunFailed) as caught:
            client.result("ns", "flow", "a", timeout=0)
        assert caught.value.text.startswith("\\ud800 \\0 éé")
        assert 3990 < len(caught.value.text.encode()) <= 4000
        assert caught.value.kind == "\\udfff"


def test_e2_a_failure_fits_wherever_the_limit_of_a_message_is(url: str) -> None:
    """E2, E3, N3: else the consumer could never store it, and would never go on."""

    def act(ctx: ActivityContext, _: None, message: Int) -> Int:
        raise GiveUp("é" * 1000)

    with stepped(with_options(url, max_message=300)) as client:
        start_runs(client, "a")
        drain(flow_of(client, calling), act_of(client, act))
        with pytest.raises(RunFailed, match="éé") as caught:
            client.result("ns", "flow", "a", timeout=0)
        assert caught.value.kind == "GiveUp"


def test_e2_any_other_exception_parks_the_run(url: str) -> None:
    """E2, R5: a bug is no answer, not even one that is a RunFailed of another run."""

    def flow(ctx: RunContext, message: Int) -> None:
        raise [ValueError("a bug"), GiveUp("only activities do"), BaseException("odd")][
            message.value
        ]

    with stepped(url) as client:
        for n in range(3):
            client.run_workflow("ns", "flow", str(n), Int(value=n))
        consumer = flow_of(client, flow)
        drain(consumer)
        assert len(consumer.parked()) == 3
        assert [line.split(" ")[0] for line in listing(client)] == ["RUN_CREATED"] * 3


def test_e2_a_failure_hides_no_mismatch(url: str) -> None:
    """E2, E6, R4: a run whose history has more requests than the code makes does not end."""

    def before(ctx: RunContext, message: Int) -> None:
        ctx.exec_activity("act", message)

    with stepped(url) as client:
        start_runs(client, "a")
        first = flow_of(client, before)
        drain(first)
        first.stop()
    with stepped(url) as client:
        consumer = flow_of(client, failing)
        key = Key("ns", "flow", "a", 0, "act", "0")
        log = behind(client)
        assert log.append(log.event(EventType.ACTIVITY_RESPONSE, key, Int(value=1)))
        drain(consumer)
        (parked,) = consumer.parked()
        assert parked.error.startswith("HistoryMismatch")
        assert "RUN_COMPLETED ns/flow/a/0 -" not in listing(client)


def test_e1_e2_r5_an_end_that_is_too_large_says_so(url: str) -> None:
    """E1, R5: 5,000 outputs and a result are more than a step may add."""

    def flow(ctx: RunContext, message: Int) -> Int:
        for _ in range(5000):
            ctx.emit_output("out", message)
        return message

    with stepped(url) as client:
        start_runs(client, "a")
        consumer = flow_of(client, flow)
        drain(consumer)
        (parked,) = consumer.parked()
        assert parked.error.startswith("StepTooLarge: run ns/flow/a/0 adds more than 5000 events")


def test_e1_e2_handle_skips_what_the_library_adds(url: str) -> None:
    """E1, E2, E9: a program's handler gets its own outputs only."""

    def flow(ctx: RunContext, message: Int) -> Int:
        assert ctx.patched("p")
        ctx.emit_output("mine", message)
        if message.value:
            return message
        raise Failed("no")

    with stepped(url) as client:
        for n in (0, 1):
            client.run_workflow("ns", "flow", str(n), Int(value=n))
        drain(flow_of(client, flow))
        seen: list[str] = []
        for event in client.stream("ns", to_head=True):
            handle(event, run_output=lambda ns, flow, run, name, message: seen.append(name))
        assert seen == ["mine", "mine"]


# Activities that are given up (E3).


class Bad(ValueError):
    """An error of the activity."""


def always(ctx: ActivityContext, _: None, message: Int) -> Int:
    raise Bad(f"attempt {ctx.attempt}")


def caught(ctx: RunContext, message: Int) -> None:
    """Says what it catches."""
    try:
        ctx.exec_activity("act", message)
    except ActivityFailed as error:
        ctx.emit_output("caught", String(value=f"{error.kind} {error.text} {error.attempts}"))


GIVEN_UP = 'kind: "Bad" text: "attempt 3" attempts: 3'
OF_CAUGHT = [
    "RUN_CREATED ns/flow/a/0 value: 1",
    "ACTIVITY_REQUEST ns/flow/a/0/act/0 value: 1",
    f"ACTIVITY_RESPONSE ns/flow/a/0/act/0 {GIVEN_UP}",
    'RUN_OUTPUT ns/flow/a/0/caught/0 value: "Bad attempt 3 3"',
    "RUN_COMPLETED ns/flow/a/0 -",
]


@pytest.mark.parametrize("workers", [1, 2])
def test_e3_after_the_last_attempt_the_call_raises(url: str, workers: int) -> None:
    """E3: the response is a Failure, and no attempt follows."""
    clock = Clock()
    with stepped(url, clock) as client:
        start_runs(client, "a")
        retry = Retry(first=timedelta(seconds=8), attempts=3)
        act = act_of(client, always, retry=retry, workers=workers)
        flow = flow_of(client, caught)
        for attempt in (1, 2):
            settle(act, flow)
            (parked,) = act.parked()
            assert (parked.attempts, parked.error) == (attempt, f"Bad: attempt {attempt}")
            pause = parked.next_at - clock.now
            assert 6 * 2 ** (attempt - 1) <= pause.total_seconds() <= 8 * 2 ** (attempt - 1)
            clock.forward(seconds=8 * 2 ** (attempt - 1))
        settle(act, flow)
        assert act.parked() == []
        assert listing(client) == OF_CAUGHT
        clock.forward(hours=1)
        rewind(client, act)
        act._forget()
        settle(act, flow)
        assert listing(client) == OF_CAUGHT


def settle(act: ActivityConsumer, *others: Consumer) -> None:
    """Step until nothing is left to do, in the workers either."""
    while True:
        drain(act, *others)
        running = list(act._running.values())
        for each in running:
            each.result.exception(60)
        if not running:
            return


@pytest.mark.damages
def test_e3_every_replay_raises_the_same(url: str) -> None:
    """E3, R2: also after an eviction, in another process."""
    clock = Clock()

    def flow(ctx: RunContext, message: Int) -> None:
        caught(ctx, message)
        ctx.sleep(timedelta(hours=1))
        ctx.emit_output("end", message)

    with stepped(url, clock) as client:
        start_runs(client, "a")
        act = act_of(client, always, retry=Retry(attempts=1))
        first = flow_of(client, flow)
        drain(act, first)
        crash(client, first, act)
    with stepped(url, clock) as client:
        clock.forward(minutes=1)
        key = Key("ns", "flow", "a", 0, "replay_sleep", "0")
        log = behind(client)
        assert log.append(log.event(EventType.ACTIVITY_RESPONSE, key))
        consumer = flow_of(client, flow)
        consumer._step(10)
        drain(consumer)
        assert [each.partition(" ")[2] for each in listing(client)][3:] == [
            'ns/flow/a/0/caught/0 value: "Bad attempt 1 1"',
            "ns/flow/a/0/replay_sleep/0 duration { seconds: 3600 }",
            "ns/flow/a/0/replay_sleep/0 -",
            "ns/flow/a/0/end/0 value: 1",
            "ns/flow/a/0 -",
        ]


def test_e3_a_failure_that_is_not_caught_fails_the_run(url: str) -> None:
    """E3, E2: with the activity's kind, text, detail and attempts."""

    def act(ctx: ActivityContext, _: None, message: Int) -> Int:
        raise GiveUp("card refused", detail=Bill(5))

    with stepped(url) as client:
        start_runs(client, "a")
        consumer = act_of(client, act)  # without a policy
        drain(flow_of(client, calling), consumer)
        with pytest.raises(RunFailed, match="card refused") as failed:
            client.result("ns", "flow", "a", timeout=0)
        assert (failed.value.kind, failed.value.detail) == ("GiveUp", {"total": 5})
        lines = listing(client)
        assert lines[2].startswith('ACTIVITY_RESPONSE ns/flow/a/0/act/0 kind: "GiveUp"')
        assert "attempts: 1" in lines[2]
        assert lines[3].startswith('RUN_OUTPUT ns/flow/a/0/replay_failure/0 kind: "GiveUp"')
        assert "attempts: 1" in lines[3]
        assert lines[4:] == ["RUN_COMPLETED ns/flow/a/0 -"]
        assert consumer.parked() == []


def test_e3_stop_on_ends_the_attempts_at_once(url: str) -> None:
    """E3: also for a subclass; other errors are tried again."""
    clock, errors = Clock(), [KeyError("k"), Bad("no")]

    def act(ctx: ActivityContext, _: None, message: Int) -> Int:
        raise errors.pop(0)

    with stepped(url, clock) as client:
        start_runs(client, "a")
        consumer, flow = (
            act_of(client, act, retry=Retry(stop_on=(ValueError,))),
            flow_of(client, caught),
        )
        drain(consumer, flow)
        assert [parked.attempts for parked in consumer.parked()] == [1]
        clock.forward(seconds=1)
        drain(consumer, flow)
        assert listing(client)[2:] == [
            'ACTIVITY_RESPONSE ns/flow/a/0/act/0 kind: "Bad" text: "no" attempts: 2',
            'RUN_OUTPUT ns/flow/a/0/caught/0 value: "Bad no 2"',
            "RUN_COMPLETED ns/flow/a/0 -",
        ]


def test_e3_a2_claims_use_up_no_attempts(url: str) -> None:
    """E3, A2: three starts within the first pause execute nothing."""
    clock, executed = Clock(), []

    def act(ctx: ActivityContext, _: None, message: Int) -> Int:
        executed.append(ctx.attempt)
        raise Bad("no")

    with stepped(url, clock) as client:
        start_runs(client, "a")
        flow = flow_of(client, caught)
        drain(flow)
        flow.stop()
    for _ in range(4):
        with stepped(url, clock) as client:
            consumer = act_of(client, act, retry=Retry(attempts=3, first=timedelta(minutes=1)))
            drain(consumer)
            assert [parked.attempts for parked in consumer.parked()] == [1]
            consumer.stop()
    assert executed == [1]
    clock.forward(minutes=1)
    with stepped(url, clock) as client:
        consumer = act_of(client, act, retry=Retry(attempts=3, first=timedelta(minutes=1)))
        drain(consumer)
        assert executed == [1, 2]
        assert len(listing(client)) == 2


def test_e3_without_a_policy_an_activity_is_tried_for_ever(url: str) -> None:
    """E3, A2: the 20th attempt comes after 5 minutes at most, like the 9th."""
    clock = Clock()
    with stepped(url, clock) as client:
        start_runs(client, "a")
        consumer, flow = act_of(client, always), flow_of(client, caught)
        for attempt in range(1, 21):
            drain(consumer, flow)
            (parked,) = consumer.parked()
            assert parked.attempts == attempt
            longest = min(2 ** (attempt - 1), 300)
            pause = (parked.next_at - clock.now).total_seconds()
            assert 0.75 * longest - 0.001 <= pause <= longest
            clock.forward(seconds=longest)


def test_e3_gather_raises_after_all_have_responded(url: str) -> None:
    """E3, R11: the first call in order that failed."""

    def act(ctx: ActivityContext, _: None, message: Int) -> Int:
        if message.value < 2:
            return message
        raise GiveUp(f"call {message.value}")

    def flow(ctx: RunContext, message: Int) -> None:
        try:
            ctx.gather(*(ctx.call("act", Int(value=n)) for n in (1, 2, 3)))
        except ActivityFailed as error:
            raise Failed(f"caught {error.text}") from error

    with stepped(url) as client:
        start_runs(client, "a")
        drain(flow_of(client, flow), act_of(client, act))
        with pytest.raises(RunFailed, match="caught call 2"):
            client.result("ns", "flow", "a", timeout=0)
        assert len([each for each in listing(client) if "RESPONSE" in each]) == 3


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"first": timedelta(0)}, "first"),
        ({"first": timedelta(seconds=-1)}, "first"),
        ({"first": 1}, "first"),
        ({"longest": timedelta(0)}, "longest"),
        ({"longest": timedelta.max}, "longest"),
        ({"factor": 0.5}, "factor"),
        ({"factor": float("nan")}, "factor"),
        ({"factor": float("inf")}, "factor"),
        ({"factor": "2"}, "factor"),
        ({"attempts": 0}, "attempts"),
        ({"attempts": -1}, "attempts"),
        ({"attempts": 1.5}, "attempts"),
        ({"attempts": True}, "attempts"),
        ({"stop_on": ValueError}, "stop_on"),
        ({"stop_on": (ValueError, "KeyError")}, "stop_on"),
        ({"stop_on": (ValueError("an instance"),)}, "stop_on"),
    ],
)
@pytest.mark.embedded
def test_e3_a_policy_that_makes_no_sense_is_refused(options: Any, problem: str) -> None:
    """E3: when it is written, not at the first failure."""
    with pytest.raises(BadRetry, match=rf"Retry\({problem}="):
        Retry(**options)


@pytest.mark.embedded
def test_e3_pauses_grow_to_the_longest_and_never_overflow() -> None:
    """E3: by the factor, with jitter from three quarters."""
    retry = Retry(first=timedelta(seconds=1), factor=10, longest=timedelta(seconds=50))
    for attempts, longest in ((1, 1), (2, 10), (3, 50), (100_000, 50)):
        pauses = [retry.pause(attempts).total_seconds() for _ in range(100)]
        assert min(pauses) >= 0.75 * longest - 1e-6
        assert max(pauses) <= longest
        assert max(pauses) > min(pauses)


def test_e3_a_policy_that_is_none_is_refused(url: str) -> None:
    """E3."""
    with stepped(url) as client, pytest.raises(BadRetry, match=r"activity act: retry=3"):
        act_of(client, always, retry=3)


# Hopeless attempts (E5).


def wrong(ctx: ActivityContext, _: None, message: Int) -> Int:
    return "no Int"  # type: ignore[return-value]


def large(ctx: ActivityContext, _: None, message: Int) -> String:
    return String(value="x" * 5_000_000)


@pytest.mark.parametrize(("act", "error"), [(wrong, "ValueMismatch"), (large, "MessageTooLarge")])
def test_e5_a_hopeless_attempt_waits_for_the_longest_pause(
    url: str, act: Flow, error: str, caplog: pytest.LogCaptureFixture
) -> None:
    """E5: five minutes, and one line without a traceback however often it is tried."""
    clock = Clock()
    with stepped(url, clock) as client:
        start_runs(client, "a")
        consumer, flow = act_of(client, act), flow_of(client, calling)
        for attempt in (1, 2, 3):
            drain(consumer, flow)
            (parked,) = consumer.parked()
            assert parked.attempts == attempt
            assert parked.next_at - clock.now == timedelta(minutes=5)
            clock.forward(minutes=5)
    failed = [each for each in caplog.records if " failed" in each.getMessage()]
    assert len(failed) == 1
    assert failed[0].exc_info is None
    assert failed[0].levelno == logging.ERROR
    assert len(listing_of(url)) == 2


def listing_of(url: str) -> list[str]:
    with stepped(url) as client:
        return listing(client)


def test_e5_a_later_hopeless_attempt_is_logged_once_too(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """E5: after another error, which had its traceback."""
    clock = Clock()

    def act(ctx: ActivityContext, _: None, message: Int) -> Int:
        if ctx.attempt == 1:
            raise Bad("first")
        return wrong(ctx, _, message)

    with stepped(url, clock) as client:
        start_runs(client, "a")
        consumer, flow = act_of(client, act), flow_of(client, calling)
        for _ in range(4):
            drain(consumer, flow)
            clock.forward(minutes=5)
    failed = [each for each in caplog.records if " failed" in each.getMessage()]
    assert [bool(each.exc_info) for each in failed] == [True, False]


@pytest.mark.parametrize("act", [wrong, large])
def test_e5_with_a_policy_a_hopeless_attempt_is_the_last(url: str, act: Flow) -> None:
    """E5: it counts as stop_on."""
    with stepped(url) as client:
        start_runs(client, "a")
        consumer = act_of(client, act, retry=Retry())
        drain(consumer, flow_of(client, caught))
        assert consumer.parked() == []
        (response,) = [each for each in listing(client) if "RESPONSE" in each]
        assert response.startswith("ACTIVITY_RESPONSE ns/flow/a/0/act/0 kind: ")
        assert response.endswith("attempts: 1")
        client.await_completion("ns", "flow", "a", timeout=0)


def test_e5_a_message_error_of_the_activity_itself_is_not_hopeless(url: str) -> None:
    """E5: the next attempt may call something else."""

    def act(ctx: ActivityContext, _: None, message: Int) -> Int:
        raise MessageTooLarge("of something it called")

    clock = Clock()
    with stepped(url, clock) as client:
        start_runs(client, "a")
        consumer = act_of(client, act, retry=Retry())
        drain(consumer, flow_of(client, caught))
        (parked,) = consumer.parked()
        assert parked.next_at - clock.now <= timedelta(seconds=1)


class Flaky:
    """A codec that fails now and then, as one that asks a key server does."""

    def __init__(self) -> None:
        self.down = False

    def encode(self, key: str, data: bytes) -> bytes:
        if self.down:
            raise ConnectionError("no key server")
        return data[::-1]

    decode = encode


def test_e5_j4_a_codec_that_fails_is_not_hopeless(url: str) -> None:
    """E5, J4: the next attempt comes after the usual pause, with a policy too."""
    clock, codec = Clock(), Flaky()

    def act(ctx: ActivityContext, _: None, message: Int) -> Int:
        codec.down = ctx.attempt == 1
        return message

    with connect(url, loops=False, codec=codec) as client:
        clock.rule(client)
        start_runs(client, "a")
        consumer, flow = act_of(client, act, retry=Retry(attempts=5)), flow_of(client, calling)
        drain(flow)
        drain(consumer)
        codec.down = False
        (parked,) = consumer.parked()
        assert parked.attempts == 1
        assert parked.next_at - clock.now <= timedelta(seconds=1)
        clock.forward(seconds=1)
        drain(consumer, flow)
        assert client.result("ns", "flow", "a", timeout=0) == Int(value=1)
