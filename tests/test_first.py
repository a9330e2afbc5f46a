"""The first of several: what a run begins, waits for, and leaves open."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from replay import (
    ActivityFailed,
    Cancelled,
    Client,
    Consumer,
    EventType,
    Pending,
    RunContext,
    SignalType,
    connect,
)
from replay.run import OutsideOfRun
from replay.server.proto.values_pb2 import Failure
from replay.signal import Matcher
from tests.example_pb2 import Int, String
from tests.models import Approval
from tests.support import (
    START,
    Clock,
    Queries,
    database,
    drain,
    flow_of,
    listing,
    loops,
    raw,
    respond,
    rows,
    set_back,
    start_runs,
    stepped,
)

pytestmark = pytest.mark.contract

HOUR = timedelta(hours=1)
Flow = Callable[..., Any]


def outputs(client: Client) -> list[Any]:
    """What the run's outputs say, in order."""
    found = client.stream("ns", "flow", "a", to_head=True)
    return [e.message.value for e in found if e.type is EventType.RUN_OUTPUT]


def matcher_of(client: Client) -> Consumer:
    (matcher,) = [each for each in loops(client) if isinstance(each, Matcher)]
    return matcher


def three(ctx: RunContext, message: Int) -> None:
    """Begins three things, and says in which order they ended."""
    names = {
        ctx.begin(ctx.call("charge", message)): "charge",
        ctx.begin(ctx.timer(HOUR)): "timer",
        ctx.begin(ctx.signal(1)): "signal",
    }
    while names:
        first = ctx.first(*names)
        ctx.emit_output("first", String(value=names.pop(first)))


BEGUN = [
    "RUN_CREATED ns/flow/a/0 value: 1",
    "ACTIVITY_REQUEST ns/flow/a/0/charge/0 value: 1",
    "ACTIVITY_REQUEST ns/flow/a/0/replay_sleep/0 duration { seconds: 3600 }",
]


def test_e8_requests_are_made_when_they_begin(url: str) -> None:
    """E8: in one transaction, as ordinary requests; one await has no end."""
    with stepped(url) as client:
        start_runs(client, "a")
        drain(flow_of(client, three))
        lines = listing(client)
        assert lines[:3] == BEGUN
        assert lines[3].startswith(
            "ACTIVITY_REQUEST ns/flow/a/0/replay_signal/1:0 duration { seconds: "
        )
        assert len(lines) == 4


RESPONSES: dict[str, tuple[str, Any]] = {
    "charge": ("charge/0", Int(value=1)),
    "timer": ("replay_sleep/0", None),
    "signal": ("replay_signal/1:0", Int(value=2)),
}


ORDERS = ["charge timer signal", "signal charge timer", "timer signal charge"]


@pytest.mark.damages
@pytest.mark.parametrize("together", [False, True], ids=["one by one", "together"])
@pytest.mark.parametrize("replayed", [False, True], ids=["live", "replayed"])
@pytest.mark.parametrize(
    "order", ["charge timer signal", "signal charge timer", "timer signal charge"]
)
def test_e8_first_returns_the_one_with_the_smallest_id(
    url: str, order: str, replayed: bool, together: bool
) -> None:
    """E8, R2: whether the others have come as well, and whether it is a replay."""
    with stepped(url) as client:
        start_runs(client, "a")
        consumer = flow_of(client, three)
        drain(consumer)
        for name in order.split():
            respond(client, *RESPONSES[name])
            if replayed:
                consumer.forget()
            if not together:
                drain(consumer)
        drain(consumer)
        assert outputs(client) == order.split()
        assert listing(client)[-1] == "RUN_COMPLETED ns/flow/a/0 -"


def test_e8_the_smallest_id_counts_though_another_was_taken(url: str) -> None:
    """E8: what has come, in the order of the ids, not in that of the arguments or results."""

    def flow(ctx: RunContext, message: Int) -> None:
        a, b = (ctx.begin(ctx.call("act", message)) for _ in range(2))
        b.result()
        assert a.done
        assert b.done
        ctx.emit_output("a", Int(value=int(ctx.first(b, a) is a)))
        a.result()
        ctx.emit_output("a", Int(value=int(ctx.first(b, a) is a)))

    with stepped(url) as client:
        start_runs(client, "a")
        consumer = flow_of(client, flow)
        drain(consumer)
        respond(client, "act/0", Int(value=1))
        respond(client, "act/1", Int(value=1))
        drain(consumer)
        assert outputs(client) == [1, 1]


def test_e8_the_others_stay_open(url: str) -> None:
    """E8: `done` says whether a response has come; `result` waits, and may be called again."""

    def flow(ctx: RunContext, message: Int) -> None:
        slow, fast = (ctx.begin(ctx.call("act", Int(value=n))) for n in range(2))
        assert not slow.done
        assert ctx.first(slow, fast) is fast
        assert (slow.done, fast.done) == (False, True)
        assert fast.result() == fast.result() == Int(value=11)
        assert fast.done
        ctx.emit_output("slow", slow.result())
        assert slow.result() == Int(value=10)

    with stepped(url) as client:
        start_runs(client, "a")
        consumer = flow_of(client, flow)
        drain(consumer)
        for n in (1, 0):
            respond(client, f"act/{n}", Int(value=10 + n))
            consumer.forget()
            drain(consumer)
        assert consumer.parked() == []
        assert outputs(client) == [10]


@pytest.mark.damages
def test_e8_what_was_left_open_does_not_hold_up_the_end(url: str) -> None:
    """E8, R9: its response comes to a run that has ended."""

    def flow(ctx: RunContext, message: Int) -> None:
        ctx.first(ctx.begin(ctx.timer(HOUR)), ctx.begin(ctx.call("act", message)))

    with stepped(url) as client:
        start_runs(client, "a")
        consumer = flow_of(client, flow)
        drain(consumer)
        respond(client, "act/0")
        drain(consumer)
        respond(client, "replay_sleep/0")
        drain(consumer)
        assert listing(client)[3:] == [
            "ACTIVITY_RESPONSE ns/flow/a/0/act/0 -",
            "RUN_COMPLETED ns/flow/a/0 -",
            "ACTIVITY_RESPONSE ns/flow/a/0/replay_sleep/0 -",
        ]


def test_e8_e3_a_failed_activity_is_the_first_like_any_other(url: str) -> None:
    """E8, E3: `first` returns it, and its `result` raises, each time."""

    def flow(ctx: RunContext, message: Int) -> None:
        call, timer = ctx.begin(ctx.call("act", message)), ctx.begin(ctx.timer(HOUR))
        assert ctx.first(timer, call) is call
        for _ in range(2):
            with pytest.raises(ActivityFailed, match="no"):
                call.result()
        ctx.emit_output("raised", message)

    with stepped(url) as client:
        start_runs(client, "a")
        consumer = flow_of(client, flow)
        drain(consumer)
        respond(client, "act/0", Failure(kind="Bad", text="no", attempts=1))
        drain(consumer)
        assert consumer.parked() == []
        assert outputs(client) == [1]


def test_e8_e7_a_cancel_leaves_everything_open(url: str) -> None:
    """E8, E7: what `first` waited for may be waited for again."""

    def flow(ctx: RunContext, message: Int) -> None:
        a, b = (ctx.begin(ctx.call("act", message)) for _ in range(2))
        try:
            ctx.first(a, b)
        except Cancelled:
            assert not a.done
        assert ctx.first(a, b) is b
        ctx.emit_output("b", b.result())

    with stepped(url) as client:
        start_runs(client, "a")
        consumer = flow_of(client, flow)
        drain(consumer)
        assert client.cancel_run("ns", "flow", "a")
        drain(consumer)
        respond(client, "act/1", Int(value=5))
        drain(consumer)
        assert consumer.parked() == []
        assert outputs(client) == [5]


def test_e8_first_of_nothing_or_of_another_run_is_refused(url: str) -> None:
    """E8: the one would wait for ever, the other would never be told."""
    foreign: list[Pending[Any]] = []

    def flow(ctx: RunContext, message: Int) -> None:
        if message.value == 0:
            ctx.first()
        pending = ctx.begin(ctx.call("act", message))
        if foreign:
            with pytest.raises(OutsideOfRun):
                ctx.first(pending, *foreign)
            with pytest.raises(OutsideOfRun):
                foreign[0].result()
        foreign.append(pending)
        ctx.emit_output("ok", message)

    with stepped(url) as client:
        for n in range(3):
            client.run_workflow("ns", "flow", str(n), Int(value=n))
        consumer = flow_of(client, flow)
        drain(consumer)
        (parked,) = consumer.parked()
        assert "first() of nothing would wait for ever" in parked.error
        assert len([line for line in listing(client) if "ok/0" in line]) == 2


# Awaits that are left open.


def choosy(ctx: RunContext, message: Int) -> None:
    """Waits for a call or a signal; then begins again, and awaits the signal alone."""
    if message.value == 1:
        ctx.first(ctx.begin(ctx.signal(1)), ctx.begin(ctx.call("act", message)))
        ctx.restart(Int(value=2))
    signal = ctx.await_signal(1, HOUR)
    ctx.emit_output("heard", String(value="nothing" if signal is None else signal.message.value))


def say(client: Client, text: str) -> None:
    assert client.signal_run("ns", "flow", "a", 1, String(value=text), text)


AWAITS = "SELECT `key`, status FROM replay_signal_awaits ORDER BY id"
TAKEN = "SELECT external_id, check_id FROM replay_signals ORDER BY id"


def test_e8_an_open_await_takes_no_signal_after_its_end(url: str) -> None:
    """E8, S3: it is withdrawn, and the next iteration gets the signal."""
    clock = Clock()
    with stepped(url, clock) as client:
        start_runs(client, "a")
        consumer, matcher = flow_of(client, choosy), matcher_of(client)
        drain(consumer, matcher)
        respond(client, "act/0")
        drain(consumer, matcher)
        say(client, "hello")
        drain(matcher, consumer)
        assert outputs(client) == ["hello"]
        assert rows(client, AWAITS) == [
            ("ns/flow/a/0/replay_signal/1:0", 2),
            ("ns/flow/a/1/replay_signal/1:0", 3),
        ]
        answers = [line for line in listing(client) if "ACTIVITY_RESPONSE" in line]
        assert [line.split(" ")[1] for line in answers] == [
            "ns/flow/a/0/act/0",
            "ns/flow/a/1/replay_signal/1:0",
        ]


def test_e8_an_await_that_ends_before_it_is_read_is_not_begun(url: str) -> None:
    """E8: the matcher finds the request and the completed event in one batch."""
    with stepped(url, Clock()) as client:
        start_runs(client, "a")
        consumer, matcher = flow_of(client, choosy), matcher_of(client)
        drain(consumer)
        respond(client, "act/0")
        drain(consumer)
        say(client, "hello")
        drain(matcher, consumer)
        assert outputs(client) == ["hello"]
        assert rows(client, AWAITS) == [("ns/flow/a/1/replay_signal/1:0", 3)]


@pytest.mark.parametrize("crashed", [False, True])
def test_e8_a_signal_that_a_dead_iteration_took_is_freed(url: str, crashed: bool) -> None:
    """E8, S2: its response has an id above that of the completed event, so it reached nobody; the
    next iteration gets it, and before the signals that came later.
    """
    clock = Clock()
    with stepped(url, clock) as client:
        start_runs(client, "a")
        consumer, matcher = flow_of(client, choosy), matcher_of(client)
        drain(consumer, matcher)
        respond(client, "act/0")
        matcher.step()
        say(client, "first")
        log, commit = client.log, matcher._log.commit

        def late(*arguments: Any) -> list[bool]:
            matcher._log.commit = commit  # type: ignore[method-assign]
            drain(consumer)  # the iteration ends while its await takes the signal
            return commit(*arguments)

        matcher._log.commit = late  # type: ignore[method-assign,assignment]
        while matcher._log.commit is late:
            log.poll()
            matcher.step()
        lines = [line.split(" ")[:2] for line in listing(client)]
        dead = ["ACTIVITY_RESPONSE", "ns/flow/a/0/replay_signal/1:0"]
        assert lines.index(["RUN_COMPLETED", "ns/flow/a/0"]) < lines.index(dead)
        say(client, "second")
        if crashed:
            matcher._forget()
        drain(matcher, consumer)
        assert outputs(client) == ["first"]
        ids = dict(rows(client, "SELECT `key`, id FROM replay_signal_awaits"))
        assert rows(client, TAKEN) == [
            ("first", ids["ns/flow/a/1/replay_signal/1:0"]),
            ("second", None),
        ]
        # Nothing changes when all is read again.
        before = listing(client), rows(client, AWAITS), rows(client, TAKEN)
        set_back(client, "replay_signal")
        matcher._forget()
        drain(matcher, consumer)
        assert (listing(client), rows(client, AWAITS), rows(client, TAKEN)) == before


def test_e8_a_signal_that_reached_its_iteration_is_not_freed(url: str) -> None:
    """E8, S2: its response has an id below that of the completed event."""

    def flow(ctx: RunContext, message: Int) -> None:
        signal = ctx.await_signal(1, HOUR)
        ctx.emit_output("heard", String(value=signal.message.value if signal else "nothing"))
        if message.value == 1:
            ctx.restart(Int(value=2))

    clock = Clock()
    with stepped(url, clock) as client:
        start_runs(client, "a")
        consumer, matcher = flow_of(client, flow), matcher_of(client)
        say(client, "first")
        drain(consumer, matcher)
        clock.forward(hours=2)
        drain(matcher, consumer)
        assert outputs(client) == ["first", "nothing"]


def test_e8_within_an_iteration_the_older_await_takes_the_signal(url: str) -> None:
    """E8, S2: also one that nobody waits for at the moment."""

    def flow(ctx: RunContext, message: Int) -> None:
        older = ctx.begin(ctx.signal(1))
        younger = ctx.await_signal(1, HOUR)
        ctx.emit_output("younger", String(value=younger.message.value if younger else "nothing"))
        found = older.result()
        assert found is not None
        ctx.emit_output("older", found.message)

    with stepped(url, Clock()) as client:
        start_runs(client, "a")
        consumer, matcher = flow_of(client, flow), matcher_of(client)
        drain(consumer, matcher)
        say(client, "one")
        drain(matcher, consumer)
        assert outputs(client) == []
        say(client, "two")
        drain(matcher, consumer)
        assert outputs(client) == ["two", "one"]


def test_e8_an_await_without_a_timeout_lasts(url: str) -> None:
    """E8: a hundred years later it still waits, and then takes its signal."""

    def flow(ctx: RunContext, message: Int) -> None:
        found = ctx.begin(ctx.signal(1)).result()
        assert found is not None
        ctx.emit_output("heard", found.message)

    clock = Clock()
    with stepped(url, clock) as client:
        start_runs(client, "a")
        consumer, matcher = flow_of(client, flow), matcher_of(client)
        drain(consumer, matcher)
        clock.forward(days=36500)
        drain(consumer, matcher)
        say(client, "late")
        drain(matcher, consumer)
        assert outputs(client) == ["late"]


@pytest.mark.damages
def test_e8_l3_awaits_that_nobody_can_read_are_passed_over(url: str) -> None:
    """E8, L3: rows of another program below an iteration that ends."""

    def flow(ctx: RunContext, message: Int) -> None:
        pass

    with stepped(url, Clock()) as client:
        start_runs(client, "a", "b")
        consumer, matcher = flow_of(client, flow), matcher_of(client)
        with raw(url) as other:
            for sequence in ("", "1:0/x", "x"):
                for status in (1, 3):
                    other.run(
                        "INSERT INTO replay_signal_awaits (`key`, created_at, timeout_at, status)"
                        " VALUES (?, '2030-01-01', '2030-01-01', ?)",
                        f"ns/flow/{'ab'[status == 3]}/0/replay_signal/{sequence}",
                        status,
                    )
            if other.mysql:
                other.connection.commit()
        drain(consumer, matcher)
        assert len([line for line in listing(client) if "COMPLETED" in line]) == 2


@pytest.mark.damages
def test_e8_the_end_of_an_iteration_costs_few_queries(url: str) -> None:
    """E8: not one for each signal that it took."""

    def flow(ctx: RunContext, message: Int) -> None:
        for _ in range(40):
            ctx.await_signal(1, HOUR)
        ctx.sleep(HOUR)

    with stepped(url, Clock()) as client:
        start_runs(client, "a")
        consumer, matcher = flow_of(client, flow), matcher_of(client)
        for n in range(40):
            say(client, str(n))
        drain(consumer, matcher)
        respond(client, "replay_sleep/0")
        drain(consumer)
        queries = Queries(database(client))
        drain(matcher)
        assert queries.count < 20


def test_e8_typed_waits_have_their_types(url: str) -> None:
    """E8, J5: a `SignalType` gives what the signal holds."""
    approve = SignalType(1, Approval)

    def flow(ctx: RunContext, message: Int) -> None:
        waiting = ctx.signal(approve, HOUR)
        approval = ctx.begin(waiting).result()
        assert approval is not None
        ctx.emit_output("by", String(value=approval.by))

    with connect(url, loops=False) as client:
        Clock(START).rule(client)
        start_runs(client, "a")
        consumer, matcher = flow_of(client, flow), matcher_of(client)
        assert client.signal_run("ns", "flow", "a", approve, Approval("Ada"), "x")
        drain(consumer, matcher)
        assert outputs(client) == ["Ada"]
