"""Workflows, as their consumers run them, stepped: crashes, changed code, failures, the cache."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest

from replay import (
    ActivityContext,
    Client,
    Consumer,
    Event,
    EventType,
    Key,
    RunContext,
    Shard,
    Unavailable,
    connect,
    register_activity,
    register_workflow,
)
from replay.log import Log
from replay.run import Run
from replay.server.remote import RemoteClient
from replay.storage.database import Insert, Statement
from replay.storage.event import UNKNOWN
from replay.workflow import WorkflowConsumer
from tests.example_pb2 import Empty, Int, String
from tests.serving import SERVING
from tests.support import (
    START,
    Clock,
    Faults,
    Queries,
    crash,
    database,
    drain,
    listing,
    loops,
    rewind,
    rows,
    stepped,
    take_over,
    with_options,
)

pytestmark = pytest.mark.contract

NS = "ns"
Flow = Callable[[RunContext, Any], None]


def double(ctx: ActivityContext, backends: None, message: Int) -> Int:
    return Int(value=2 * message.value)


def triple(ctx: ActivityContext, backends: None, message: Int) -> Int:
    return Int(value=3 * message.value)


DEFAULT = (double, triple)


def hire(client: Client, *activities: Callable[..., Any]) -> list[Consumer]:
    """Consumers of activities, and those of sleeps and signals."""
    return [
        *(register_activity(client, NS, each, start=False) for each in activities or DEFAULT),
        *loops(client),
    ]


def work(client: Client, flow: Flow, name: str = "w", **options: Any) -> WorkflowConsumer:
    """The consumer of a workflow, stored as "w" whatever its code is."""
    consumer = register_workflow(client, NS, flow, name=name, start=False, **options)
    assert isinstance(consumer, WorkflowConsumer)
    return consumer


def begin(client: Client, *runs: str, value: int = 5) -> None:
    for run in runs:
        assert client.run_workflow(NS, "w", run, Int(value=value))


def errors(consumer: Consumer) -> list[tuple[str, int, str]]:
    """What a consumer has parked: key, attempts, error."""
    return [(parked.key, parked.attempts, parked.error) for parked in consumer.parked()]


def called(run: str, *names: str, value: int = 5) -> list[str]:
    """The events of a run, or its beginning, that calls these activities in turn; dots do not end.

    A dot behind a name is a call that has no answer yet.
    """
    counts: dict[str, int] = {}
    lines = [f"RUN_CREATED ns/w/{run}/0 value: {value}"]
    for name in names:
        target = name.rstrip(".")
        place = f"ns/w/{run}/0/{target}/{counts.get(target, 0)}"
        counts[target] = counts.get(target, 0) + 1
        lines.append(f"ACTIVITY_REQUEST {place} value: {value}")
        if target == name:
            factor = {"double": 2, "triple": 3}[name]
            lines.append(f"ACTIVITY_RESPONSE {place} value: {factor * value}")
    if not names or names[-1][-1] != ".":
        lines.append(f"RUN_COMPLETED ns/w/{run}/0 -")
    return lines


def calls(*names: str) -> Flow:
    """A workflow that calls activities one after the other."""

    def flow(ctx: RunContext, message: Int) -> None:
        for name in names:
            ctx.exec_activity(name, message)

    return flow


@contextmanager
def histories(client: Client) -> Iterator[list[Key]]:
    """The iterations whose history this client reads."""
    read: list[Key] = []
    history = client.log.history

    def noted(key: Key) -> list[Event]:
        read.append(key)
        return history(key)

    client.log.history = noted  # type: ignore[method-assign]
    yield read
    client.log.history = history  # type: ignore[method-assign]


# Crashes.


def mixed(ctx: RunContext, message: Int) -> None:
    """Everything that a run can do, and a second iteration that does a little."""
    first = ctx.exec_activity(double, message)
    ctx.emit_output("first", first)
    if ctx.iteration == 1:
        return
    pair = ctx.gather(ctx.call(double, first), ctx.call(triple, message))
    ctx.sleep(timedelta(seconds=1))
    signal = ctx.await_signal(1, timedelta(hours=1))
    assert signal is not None
    ctx.emit_output("heard", signal.message)
    assert ctx.await_signal(1, timedelta(seconds=1)) is None
    ctx.emit_output("heard", None)
    ctx.restart(pair[1])


MIXED = [
    "RUN_CREATED ns/w/RUN/0 value: 5",
    "ACTIVITY_REQUEST ns/w/RUN/0/double/0 value: 5",
    "ACTIVITY_RESPONSE ns/w/RUN/0/double/0 value: 10",
    "RUN_OUTPUT ns/w/RUN/0/first/0 value: 10",
    "ACTIVITY_REQUEST ns/w/RUN/0/double/1 value: 10",
    "ACTIVITY_REQUEST ns/w/RUN/0/triple/0 value: 5",
    "ACTIVITY_RESPONSE ns/w/RUN/0/double/1 value: 20",
    "ACTIVITY_RESPONSE ns/w/RUN/0/triple/0 value: 15",
    "ACTIVITY_REQUEST ns/w/RUN/0/replay_sleep/0 duration { seconds: 1 }",
    "ACTIVITY_RESPONSE ns/w/RUN/0/replay_sleep/0",
    "ACTIVITY_REQUEST ns/w/RUN/0/replay_signal/1:0 duration { seconds: 3600 }",
    'ACTIVITY_RESPONSE ns/w/RUN/0/replay_signal/1:0 value: "go"',
    'RUN_OUTPUT ns/w/RUN/0/heard/0 value: "go"',
    "ACTIVITY_REQUEST ns/w/RUN/0/replay_signal/1:1 duration { seconds: 1 }",
    "ACTIVITY_RESPONSE ns/w/RUN/0/replay_signal/1:1",
    "RUN_OUTPUT ns/w/RUN/0/heard/1 -",
    "RUN_COMPLETED ns/w/RUN/0 -",
    "RUN_CREATED ns/w/RUN/1 value: 15",
    "ACTIVITY_REQUEST ns/w/RUN/1/double/0 value: 15",
    "ACTIVITY_RESPONSE ns/w/RUN/1/double/0 value: 30",
    "RUN_OUTPUT ns/w/RUN/1/first/0 value: 30",
    "RUN_COMPLETED ns/w/RUN/1 -",
]


class Cluster:
    """All consumers of `mixed` in one database, stepped in turn; killed whenever the test says."""

    def __init__(self, client: Client, clock: Clock, **options: Any) -> None:
        self._client = client
        self._clock = clock
        self._options = options
        self._worker: Client | None = None
        self._faults = Faults(database(client))
        self._runs = 0
        #: How many steps and transactions the last run took.
        self.steps = self.writes = 0

    def run(self, *, killed_after: int = -1, before: int = 0, after: int = 0) -> list[str]:
        """The events of a run whose consumers were all forgotten after so many steps, or in which
        a transaction failed before or after it was committed."""
        self._runs += 1
        run = f"run{self._runs}"
        begin(self._client, run)
        assert self._client.signal_run(NS, "w", run, 1, String(value="go"), "x")
        self._faults.before, self._faults.after = before, after
        self.writes = -self._faults.writes
        staff = self._finish(run, killed_after)
        self.writes += self._faults.writes
        for consumer in staff:
            consumer.stop()
        lines = listing(self._client, NS, "w", run)
        return [text.replace(run, "RUN") for text in lines]

    def _finish(self, run: str, killed_after: int) -> list[Consumer]:
        staff, idle = self._hire(), 0
        for self.steps in range(1000):
            if self.steps == killed_after:
                for consumer in staff:
                    consumer._position = None
                    consumer.forget()
                staff = self._hire()
            idle = 0 if self._step(staff[self.steps % len(staff)]) else idle + 1
            if idle == len(staff):
                if self._client.log.last_iteration(NS, "w", run) == (1, 1):
                    return staff
                self._clock.forward(seconds=1)
                idle = 0
        raise AssertionError(f"{run} does not end")

    def _hire(self) -> list[Consumer]:
        log = self._client.log
        if isinstance(self._client, RemoteClient):
            if self._worker is not None:
                crash(self._worker)
                SERVING[log.name].settle(1)
            client = self._worker = connect(log.name, loops=False)
            self._clock.rule(client)
        else:
            client = Client(Log(log.database), loops=False)
        return [work(client, mixed, **self._options), *hire(client)]

    def _step(self, consumer: Consumer) -> int:
        """A step that meets an error is made again, as a consumer's thread does."""
        try:
            return consumer.step()
        except Unavailable:
            return 1 + self._step(consumer)


@pytest.mark.slow_on_servers
def test_crash_after_any_step_changes_nothing(url: str) -> None:
    """R2, R3: all consumers are forgotten after n steps and replayed, for every n: the events are
    the same."""
    clock = Clock()
    with stepped(url, clock) as client:
        cluster = Cluster(client, clock)
        assert cluster.run() == MIXED
        for n in range(1, cluster.steps):
            assert cluster.run(killed_after=n) == MIXED, f"killed after {n} steps"
        assert not rows(client, "SELECT * FROM replay_parked")


@pytest.mark.parametrize("when", ["before", "after"])
def test_connection_lost_at_any_transaction_changes_nothing(url: str, when: str) -> None:
    """R2, R6, O1, A1: every transaction fails once, before it reaches the database or after it was
    committed: the events are the same."""
    clock = Clock()
    with stepped(url, clock) as client:
        cluster = Cluster(client, clock)
        assert [cluster.run(), cluster.run()] == [MIXED, MIXED]
        for n in range(1, cluster.writes + 1):
            assert cluster.run(**{when: n}) == MIXED, f"failed at transaction {n}"
        assert not rows(client, "SELECT * FROM replay_parked")


def test_without_a_cache_every_event_meets_a_replay(url: str) -> None:
    """R2, R3, R10: where no run is kept in memory, the events are the same."""
    clock = Clock()
    with stepped(url, clock) as client:
        assert Cluster(client, clock, max_cached=0).run() == MIXED


def test_killed_process_is_taken_over_where_it_was(url: str) -> None:
    """R2: after a crash that takes the connections with it, another process ends the run."""
    client = connect(url, loops=False)
    begin(client, "r")
    staff = [work(client, calls("double", "triple")), *hire(client)]
    for consumer in staff[:3]:
        consumer.step()
    staff[0].step()
    crash(client, *staff)
    with stepped(url) as heir:
        assert listing(heir) == called("r", "double", "triple.")
        staff = [work(heir, calls("double", "triple")), *hire(heir)]
        for consumer in staff:
            take_over(consumer)
        drain(*staff)
        assert listing(heir) == called("r", "double", "triple")


def test_answers_come_in_any_order(url: str) -> None:
    """R11: activities in flight together may answer in any order; their results are told apart,
    and the next step comes after the last of them."""
    got: dict[str, list[Int]] = {}

    def flow(ctx: RunContext, message: Int) -> None:
        asked = [ctx.call(double, message), ctx.call(triple, message), ctx.call(double, Int())]
        got[ctx.run] = ctx.gather(*asked)
        ctx.emit_output("done", None)

    with stepped(url) as client:
        workflow = work(client, flow)
        staff = hire(client)
        for run, order in (("r1", (0, 1)), ("r2", (1, 0))):
            begin(client, run)
            workflow.step()
            for n in order:
                drain(staff[n])
                workflow.step()
            key = f"ns/w/{run}/0"
            requests = [
                f"ACTIVITY_REQUEST {key}/double/0 value: 5",
                f"ACTIVITY_REQUEST {key}/triple/0 value: 5",
                f"ACTIVITY_REQUEST {key}/double/1",
            ]
            doubles = [
                f"ACTIVITY_RESPONSE {key}/double/0 value: 10",
                f"ACTIVITY_RESPONSE {key}/double/1",
            ]
            triples = [f"ACTIVITY_RESPONSE {key}/triple/0 value: 15"]
            assert listing(client, NS, "w", run) == [
                f"RUN_CREATED {key} value: 5",
                *requests,
                *(doubles + triples if run == "r1" else triples + doubles),
                f"RUN_OUTPUT {key}/done/0 -",
                f"RUN_COMPLETED {key} -",
            ]
        assert got == {run: [Int(value=10), Int(value=15), Int(value=0)] for run in ("r1", "r2")}


def test_clock_that_is_set_back_changes_nothing(url: str) -> None:
    """R8, R2: the database's clock goes back by an hour; the run's stands still until it is passed,
    and a replay sees the very same times."""
    clock = Clock()
    times: list[list[datetime]] = []

    def flow(ctx: RunContext, message: Int) -> None:
        seen = [ctx.now()]
        times.append(seen)
        for _ in range(3):
            ctx.exec_activity(double, message)
            seen.append(ctx.now())

    with stepped(url, clock) as client:
        workflow, activity, *_ = work(client, flow, max_cached=0), *hire(client)
        begin(client, "r")
        for hours in (2, -1, 2):
            workflow.step()
            clock.forward(hours=hours)
            activity.step()
        workflow.step()
        assert listing(client) == called("r", "double", "double", "double")
    whole = [START + timedelta(hours=hours) for hours in (0, 2, 2, 3)]
    assert times == [whole[:n] for n in (1, 2, 3, 4)]


# Changed code.


def mismatch(client: Client, found: str, asked: str) -> str:
    """The error of a run "r" whose history requests something else than its code."""
    (event,) = rows(
        client, "SELECT id FROM replay_events WHERE type = 4 AND `key` = ?", f"ns/w/r/0/{found}"
    )
    return (
        f"HistoryMismatch: run ns/w/r/0: event {event[0]} of its history requests {found}, the code"
        f" asks for {asked}: restore the code that began this run"
    )


def test_run_with_other_code_is_set_aside_until_the_code_is_right(url: str) -> None:
    """R4, R5, P17: nothing of the run is lost or added while its code is wrong, the list of what is
    parked says why, other runs go on; with the right code it takes up again by itself."""
    clock, right = Clock(), calls("double", "triple", "double")
    with stepped(url, clock) as client:
        begin(client, "r")
        drain(work(client, right), hire(client, double)[0])
    with stepped(url, clock) as client:
        wrong = work(client, calls("double", "double"))
        staff = [wrong, *hire(client)]
        begin(client, "other")
        drain(*staff)
        error = mismatch(client, "triple/0", "double/1")
        assert errors(wrong) == [("ns/w/r/0", 1, error)]
        clock.forward(seconds=1)
        drain(*staff)
        assert errors(wrong) == [("ns/w/r/0", 2, error)]
        before = called("r", "double", "triple")[:-1]
        assert listing(client, NS, "w", "r") == before
        assert listing(client, NS, "w", "other") == called("other", "double", "double")
    with stepped(url, clock) as client:
        staff = [work(client, right), *hire(client)]
        drain(*staff)
        assert listing(client, NS, "w", "r") == called("r", "double", "triple", "double")
        assert errors(staff[0]) == []


def test_events_of_a_run_set_aside_are_kept_for_it(url: str) -> None:
    """R4: answers that come while a run is parked are passed over, and are not lost to it."""
    clock, ready = Clock(), [False]

    def flow(ctx: RunContext, message: Int) -> None:
        asked = (ctx.call(double, message), ctx.call(triple, message))
        if ctx.run == "r" and not ready[0]:
            ctx.exec_activity("missing", message)
        ctx.emit_output("sum", Int(value=sum(result.value for result in ctx.gather(*asked))))

    with stepped(url, clock) as client:
        workflow = work(client, flow)
        staff = [workflow, *hire(client)]
        begin(client, "r")
        ready[0] = True
        workflow.step()
        ready[0] = False
        workflow.stop()
        staff[1].step()
        drain(workflow)
        assert errors(workflow) == [("ns/w/r/0", 1, mismatch(client, "double/0", "missing/0"))]
        drain(*staff)
        assert len(errors(workflow)) == 1
        ready[0] = True
        clock.forward(seconds=1)
        drain(*staff)
        key = "ns/w/r/0"
        assert listing(client) == [
            f"RUN_CREATED {key} value: 5",
            f"ACTIVITY_REQUEST {key}/double/0 value: 5",
            f"ACTIVITY_REQUEST {key}/triple/0 value: 5",
            f"ACTIVITY_RESPONSE {key}/double/0 value: 10",
            f"ACTIVITY_RESPONSE {key}/triple/0 value: 15",
            f"RUN_OUTPUT {key}/sum/0 value: 25",
            f"RUN_COMPLETED {key} -",
        ]


def test_calls_that_a_run_has_not_come_to_may_change(url: str) -> None:
    """R4: a run waits for its first call; behind that the code is another, and that is no error."""
    with stepped(url) as client:
        begin(client, "r")
        drain(work(client, calls("double", "double")))
    with stepped(url) as client:
        staff = [work(client, calls("double", "triple", "triple")), *hire(client)]
        drain(*staff)
        assert listing(client) == called("r", "double", "triple", "triple")


def emits(*names: str) -> Flow:
    """A workflow that emits outputs, and calls an activity at each dash."""

    def flow(ctx: RunContext, message: Int) -> None:
        for name in names:
            if name == "-":
                ctx.exec_activity(double, message)
            else:
                ctx.emit_output(name, Int(value=len(names)))

    return flow


def test_outputs_of_active_runs_may_change(url: str) -> None:
    """O1, O2: outputs added, moved and removed in the code: each is recorded once, as it was first,
    and nobody is parked."""
    with stepped(url) as client:
        begin(client, "r")
        drain(work(client, emits("kept", "moved", "gone", "-", "-")))
    with stepped(url) as client:
        changed = emits("kept", "new", "kept", "-", "moved", "-", "last")
        staff = [work(client, changed), *hire(client)]
        drain(*staff)
        assert errors(staff[0]) == []
        assert [text for text in listing(client) if text.startswith("RUN_OUTPUT")] == [
            "RUN_OUTPUT ns/w/r/0/kept/0 value: 5",
            "RUN_OUTPUT ns/w/r/0/moved/0 value: 5",
            "RUN_OUTPUT ns/w/r/0/gone/0 value: 5",
            "RUN_OUTPUT ns/w/r/0/new/0 value: 7",
            "RUN_OUTPUT ns/w/r/0/kept/1 value: 7",
            "RUN_OUTPUT ns/w/r/0/last/0 value: 7",
        ]


def test_a_run_that_ends_before_its_history_is_parked(url: str) -> None:
    """R9: an order that the old code requested is not dropped by code that does not know it;
    other runs go on, and so does this one once its code is back."""
    with stepped(url) as client:
        begin(client, "r")

        def flow(ctx: RunContext, message: Int) -> None:
            ctx.gather(ctx.call(double, message), ctx.call(triple, message))

        drain(work(client, flow))
    key = "ns/w/r/0"
    lines = [
        f"RUN_CREATED {key} value: 5",
        f"ACTIVITY_REQUEST {key}/double/0 value: 5",
        f"ACTIVITY_REQUEST {key}/triple/0 value: 5",
        f"ACTIVITY_RESPONSE {key}/double/0 value: 10",
        f"ACTIVITY_RESPONSE {key}/triple/0 value: 15",
    ]
    with stepped(url) as client:
        workflow = work(client, calls("double"))
        begin(client, "other")
        drain(workflow, *hire(client))
        assert listing(client, NS, "w", "r") == lines
        assert listing(client, NS, "w", "other") == called("other", "double")
        ((parked, attempts, error),) = errors(workflow)
        assert (parked, attempts) == (key, 1)
        assert "the code ends, but event 3 of its history requests triple/0" in error
    with stepped(url) as client:
        drain(work(client, flow), *hire(client))
        assert listing(client, NS, "w", "r") == [*lines, f"RUN_COMPLETED {key} -"]


def respond(client: Client, key: str, message: Int) -> Event:
    """Add a response by hand."""
    event = client.log.event(EventType.ACTIVITY_RESPONSE, Key.parse(key), message)
    assert client.log.append(event)
    return event


def test_late_answer_is_ignored_and_logged(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """R9: an answer for a run that has completed, just now or before the process began, or that
    never was, changes nothing."""
    with stepped(url) as client:
        begin(client, "r")
        staff = [work(client, calls("double")), *hire(client)]
        drain(*staff)
        first = respond(client, "ns/w/r/0/triple/0", Int(value=1))
        drain(*staff)
    with stepped(url) as client:
        staff = [work(client, calls("double")), *hire(client)]
        drain(*staff)
        second = respond(client, "ns/w/r/0/triple/1", Int(value=2))
        third = respond(client, "ns/w/never/0/double/0", Int(value=3))
        drain(*staff)
        assert listing(client) == [
            *called("r", "double"),
            "ACTIVITY_RESPONSE ns/w/r/0/triple/0 value: 1",
            "ACTIVITY_RESPONSE ns/w/r/0/triple/1 value: 2",
            "ACTIVITY_RESPONSE ns/w/never/0/double/0 value: 3",
        ]
        assert caplog.messages == [
            f"{event!r} is ignored: its run has completed, or never began"
            for event in (first, second, third)
        ]


# An activity that nobody serves.

UNSERVED = (
    "nobody serves activity double of namespace ns, so its requests wait: call register_activity in"
    " a process that runs"
)


def test_an_activity_that_nobody_serves_is_named_once(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A1: its requests wait, and after ten seconds the log says why; it says so once."""
    with stepped(url, clock := Clock()) as client:
        workflow = work(client, calls("double"))
        begin(client, "r1", "r2")
        drain(workflow)
        clock.forward(seconds=9.999)
        drain(workflow)
        assert (caplog.messages, workflow.due()) == ([], clock.now + timedelta(milliseconds=1))
        clock.forward(seconds=0.001)
        drain(workflow)
        assert caplog.messages == [UNSERVED]
        begin(client, "r3")
        drain(workflow)
        clock.forward(minutes=1)
        drain(workflow)
        assert caplog.messages == [UNSERVED]
        drain(*hire(client), workflow)
        assert listing(client, NS, "w", "r1") == called("r1", "double")


@pytest.mark.parametrize("shard", [None, Shard("1_of_2", bool)])
def test_an_activity_that_is_slow_is_served(
    url: str, shard: Shard | None, caplog: pytest.LogCaptureFixture
) -> None:
    """A1: an owner of the activity, or of a shard of it, that lives is enough."""
    with stepped(with_options(url, lease=20), clock := Clock()) as client:
        register_activity(client, NS, double, start=False, shard=shard).step()
        workflow = work(client, calls("double"))
        begin(client, "r")
        drain(workflow)
        clock.forward(seconds=10)
        drain(workflow)
        assert caplog.messages == []


def test_an_activity_whose_process_has_stopped_is_not_served(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A1, L7: a name that was given up, or whose lease has run out, counts for nothing."""
    with stepped(url, clock := Clock()) as client:
        activity = register_activity(client, NS, double, start=False)
        activity.step()
        activity.stop()
        workflow = work(client, calls("double"))
        begin(client, "r")
        drain(workflow)
        clock.forward(seconds=10)
        drain(workflow)
        assert caplog.messages == [UNSERVED]


# Failures.


def test_workflow_that_raises_delays_no_other_run(url: str) -> None:
    """R5, P4: the other run's events are as if it were alone, at once; the failing one is tried
    again with growing pauses, and adds nothing until it succeeds."""
    clock, broken = Clock(), [True]

    def flow(ctx: RunContext, message: Int) -> None:
        ctx.exec_activity(double, message)
        if ctx.run == "bad" and broken[0]:
            ctx.emit_output("never", None)
            raise ValueError("no")
        ctx.exec_activity(triple, message)

    with stepped(url, clock) as client:
        workflow = work(client, flow)
        staff = [workflow, *hire(client)]
        begin(client, "bad", "good")
        drain(*staff)
        assert listing(client, NS, "w", "good") == called("good", "double", "triple")
        for attempt in range(1, 4):
            assert errors(workflow) == [("ns/w/bad/0", attempt, "ValueError: no")]
            clock.forward(seconds=2**attempt / 4 + 0.1)
            drain(*staff)
            assert len(errors(workflow)) == 1
            clock.forward(seconds=2**attempt / 4)
            drain(*staff)
        assert listing(client, NS, "w", "bad") == called("bad", "double")[:-1]
        broken[0] = False
        clock.forward(minutes=5)
        drain(*staff)
        assert listing(client, NS, "w", "bad") == called("bad", "double", "triple")
        assert errors(workflow) == []


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyError("x"), RecursionError(), asyncio.CancelledError("gone")]
)
def test_any_failure_concerns_its_own_run_only(url: str, error: BaseException) -> None:
    """R5, P16: sys.exit, or an exception that is no `Exception`, ends neither its consumer nor
    other runs."""

    def flow(ctx: RunContext, message: Int) -> None:
        if ctx.run == "bad":
            raise error

    with stepped(url) as client:
        workflow = work(client, flow)
        begin(client, "bad", "good")
        drain(workflow)
        name = type(error).__name__
        assert errors(workflow) == [("ns/w/bad/0", 1, f"{name}: {error}")]
        assert listing(client, NS, "w", "good") == called("good")


def test_interrupt_is_not_a_failure_of_the_run(url: str) -> None:
    """R2: Ctrl-C in a workflow ends the step, and the run goes on in the next as if nothing was."""
    interrupts = [KeyboardInterrupt()]

    def flow(ctx: RunContext, message: Int) -> None:
        if interrupts:
            raise interrupts.pop()

    with stepped(url) as client:
        workflow = work(client, flow)
        begin(client, "r")
        with pytest.raises(KeyboardInterrupt):
            workflow.step()
        drain(workflow)
        assert listing(client) == called("r")
        assert errors(workflow) == []


def test_wrong_input_blocks_nobody(url: str) -> None:
    """P4, R4: a run that was started with another message than its workflow takes is parked, and
    goes on when the code takes it."""

    def picky(ctx: RunContext, message: Int) -> None:
        ctx.emit_output("o", message)

    def lenient(ctx: RunContext, message: Any) -> None:
        ctx.emit_output("o", message)

    with stepped(url) as client:
        workflow = work(client, picky)
        assert client.run_workflow(NS, "w", "bad", String(value="x"))
        begin(client, "good")
        drain(workflow)
        error = "WrongValue: ns/w/bad/0: expected Int, got String"
        assert errors(workflow) == [("ns/w/bad/0", 1, error)]
        assert listing(client, NS, "w", "good")[1:] == [
            "RUN_OUTPUT ns/w/good/0/o/0 value: 5",
            "RUN_COMPLETED ns/w/good/0 -",
        ]
    with stepped(url) as client:
        workflow = work(client, lenient)
        drain(workflow)
        assert errors(workflow) == []
        assert listing(client, NS, "w", "bad") == [
            'RUN_CREATED ns/w/bad/0 value: "x"',
            'RUN_OUTPUT ns/w/bad/0/o/0 value: "x"',
            "RUN_COMPLETED ns/w/bad/0 -",
        ]


UNKNOWN_ANY = b"\x0a\x1btype.googleapis.com/no.Such"


def test_unknown_message_type_blocks_nobody(url: str) -> None:
    """N3, R5: a run whose input, or whose answer, this process cannot read is parked, with the
    name of the type."""
    unwound: list[str] = []

    def flow(ctx: RunContext, message: Int) -> None:
        try:
            ctx.exec_activity(double, message)
        finally:
            unwound.append(ctx.run)

    with stepped(url) as client:
        workflow = work(client, flow)
        answer = Key(NS, "w", "answer", 0, "double", "0")
        unreadable = [
            Event(0, EventType.RUN_CREATED, Key(NS, "w", "input"), UNKNOWN, UNKNOWN_ANY),
            Event(0, EventType.ACTIVITY_RESPONSE, answer, UNKNOWN, UNKNOWN_ANY),
        ]
        begin(client, "answer", "good")
        workflow.step()
        assert all(client.log.append(event) for event in unreadable)
        drain(workflow, *hire(client))
        error = (
            "UnknownMessageType: this process knows no message type no.Such: import the module"
            " that defines it"
        )
        assert errors(workflow) == [("ns/w/input/0", 1, error), ("ns/w/answer/0", 1, error)]
        assert unwound == ["answer", "good"]
        assert not workflow._runs
        assert listing(client, NS, "w", "good") == called("good", "double")


def test_activity_that_raises_holds_up_its_own_run_only(url: str) -> None:
    """P4, A3: other runs of the same workflow and activity go on at once."""
    clock, broken = Clock(), [True]

    def double(ctx: ActivityContext, backends: None, message: Int) -> Int:
        if ctx.run == "bad" and broken[0]:
            raise ValueError("no")
        return Int(value=2 * message.value)

    with stepped(url, clock) as client:
        staff = [work(client, calls("double", "double")), *hire(client, double)]
        begin(client, "bad", "good")
        drain(*staff)
        assert listing(client, NS, "w", "good") == called("good", "double", "double")
        assert listing(client, NS, "w", "bad") == called("bad", "double.")
        broken[0] = False
        clock.forward(seconds=1)
        drain(*staff)
        assert listing(client, NS, "w", "bad") == called("bad", "double", "double")


def test_database_that_fails_is_not_the_failure_of_a_run(url: str) -> None:
    """R5, P16: a history that cannot be read now sets nobody aside, and counts as no attempt of
    what was parked; the step fails and is made again."""
    failures: list[Unavailable] = []
    with stepped(url) as client:
        workflow = work(client, calls("double", "a/b"), max_cached=0)
        history = client.log.history

        def away(key: Key) -> list[Event]:
            if failures:
                raise failures.pop()
            return history(key)

        client.log.history = away  # type: ignore[method-assign]
        begin(client, "r")
        drain(workflow)
        drain(*hire(client))
        failures.append(Unavailable("away"))
        with pytest.raises(Unavailable, match="away"):
            workflow.step()
        assert errors(workflow) == []
        drain(workflow)
        assert [attempts for _, attempts, _ in errors(workflow)] == [1]
        workflow.stop()
        failures.append(Unavailable("away"))
        with pytest.raises(Unavailable, match="away"):
            workflow.step()
        assert [attempts for _, attempts, _ in errors(workflow)] == [1]
        drain(workflow)
        assert [attempts for _, attempts, _ in errors(workflow)] == [2]


# Restarts.


def test_run_may_restart_hundreds_of_times(url: str) -> None:
    """P3, R6: a run that restarts in a loop goes on to its end; each iteration is created and
    completed once, in turn."""

    def flow(ctx: RunContext, message: Int) -> None:
        if message.value < 300:
            ctx.restart(Int(value=message.value + 1))

    with stepped(url) as client:
        workflow = work(client, flow)
        begin(client, "r", value=0)
        drain(workflow)
        lines = []
        for n in range(301):
            value = f" value: {n}" if n else ""
            lines += [f"RUN_CREATED ns/w/r/{n}{value}", f"RUN_COMPLETED ns/w/r/{n} -"]
        assert listing(client) == lines
        assert errors(workflow) == []


class Writes:
    """The events that each transaction of a database adds."""

    def __init__(self, client: Client) -> None:
        self.groups: list[list[str]] = []
        self._write = database(client)._write
        database(client)._write = self._noted  # type: ignore[method-assign]

    def _noted(self, statements: Sequence[Statement], inserts: Sequence[Insert]) -> list[int]:
        for insert in inserts:
            self.groups.append([f"{EventType(row[5]).name} {row[0]}" for row in insert.rows])
        return self._write(statements, inserts)


def test_restart_is_one_transaction_with_new_counters(url: str) -> None:
    """R6, A5: the end of an iteration and the beginning of the next are added together; in the next
    one everything is counted from 0 again."""

    def flow(ctx: RunContext, message: Int) -> None:
        ctx.exec_activity(double, message)
        ctx.emit_output("o", message)
        if ctx.iteration == 0:
            ctx.restart(Int(value=7))

    with stepped(url) as client:
        writes = Writes(client)
        begin(client, "r")
        drain(work(client, flow), *hire(client))
        assert writes.groups == [
            ["RUN_CREATED ns/w/r/0"],
            ["ACTIVITY_REQUEST ns/w/r/0/double/0"],
            ["ACTIVITY_RESPONSE ns/w/r/0/double/0"],
            ["RUN_OUTPUT ns/w/r/0/o/0", "RUN_COMPLETED ns/w/r/0", "RUN_CREATED ns/w/r/1"],
            ["ACTIVITY_REQUEST ns/w/r/1/double/0"],
            ["ACTIVITY_RESPONSE ns/w/r/1/double/0"],
            ["RUN_OUTPUT ns/w/r/1/o/0", "RUN_COMPLETED ns/w/r/1"],
        ]
        assert listing(client)[5:7] == [
            "RUN_CREATED ns/w/r/1 value: 7",
            "ACTIVITY_REQUEST ns/w/r/1/double/0 value: 7",
        ]


def test_earlier_iterations_are_not_read_again(url: str) -> None:
    """R6: a run in its fourth iteration is taken up from the history of that one alone."""

    def flow(ctx: RunContext, message: Int) -> None:
        ctx.exec_activity(double, message)
        if ctx.iteration < 3:
            ctx.restart(message)
        ctx.exec_activity(triple, message)

    with stepped(url) as client:
        workflow, activity = work(client, flow), hire(client)[0]
        workflow.step()
        begin(client, "r")
        with histories(client) as read:
            drain(workflow, activity)
        assert read == []
    with stepped(url) as client, histories(client) as read:
        staff = [work(client, flow), *hire(client)]
        drain(*staff)
        assert read == [Key(NS, "w", "r", 3)]
        last = called("r", "double", "triple")
        assert listing(client)[-len(last) :] == [text.replace("/0", "/3", 1) for text in last]


@pytest.mark.parametrize("length", [4, 40])
def test_replay_costs_one_query_for_a_run(url: str, length: int) -> None:
    """P10: taking up a run costs as many queries with ten times the history: one for all of it."""
    names = ["double"] * length
    with stepped(url) as client:
        begin(client, "r")
        drain(work(client, calls(*names, "triple")), hire(client)[0])
    with stepped(url) as client:
        workflow = work(client, calls(*names, "triple"))
        drain(hire(client)[1])
        queries = Queries(database(client))
        with histories(client) as read:
            workflow.step()
        assert listing(client) == called("r", *names, "triple")
        assert read == [Key(NS, "w", "r", 0)]
        assert queries.count <= 12


def test_replayed_run_does_not_keep_its_history(url: str) -> None:
    """R10: what a run was replayed from leaves memory: it costs no more than one that ran live."""
    with stepped(url) as client:
        begin(client, "r")
        drain(work(client, calls("double", "double", "missing")), hire(client)[0])
    with stepped(url) as client:
        workflow = work(client, calls("double", "double", "missing", "double"))
        respond(client, "ns/w/r/0/missing/0", Int(value=1))
        workflow.step()
        (run,) = workflow._runs.values()
        assert run._history is not None
        assert (list(run._history.requests), run._history.responses) == ([], [])


# The cache.


def test_cache_is_bounded_by_count(url: str) -> None:
    """R10: no more runs than `max_cached` stay in memory, the latest used; those that were dropped
    unwind, come back from their history, and end as the others do."""
    unwound: list[str] = []

    def flow(ctx: RunContext, message: Int) -> None:
        try:
            ctx.exec_activity(double, message)
            ctx.exec_activity(triple, message)
        except BaseException:
            unwound.append(ctx.run)
            raise

    runs = [f"r{n}" for n in range(5)]
    with stepped(url) as client:
        workflow = work(client, flow, max_cached=2)
        begin(client, *runs)
        workflow.step()
        assert [key[2] for key in workflow._runs] == ["r3", "r4"]
        assert unwound == ["r0", "r1", "r2"]
        staff = [workflow, *hire(client)]
        staff[1].step()
        with histories(client) as read:
            workflow.step()
        assert [key.run for key in read] == ["r0", "r1", "r2"]
        assert [key[2] for key in workflow._runs] == ["r3", "r4"]
        drain(*staff)
        for run in runs:
            assert listing(client, NS, "w", run) == called(run, "double", "triple")
        assert not workflow._runs
        assert len(workflow._ended) == 2


def test_cache_is_bounded_by_time(url: str) -> None:
    """R10: a run that has waited for `await_timeout` leaves memory, even if nothing else happens,
    and comes back when its answer does."""
    clock = Clock()
    with stepped(url, clock) as client:
        workflow = work(client, calls("double"), await_timeout=timedelta(minutes=1))
        begin(client, "old")
        clock.forward(days=1)  # for so long nobody looked
        workflow.step()
        began = clock.now
        clock.forward(seconds=20)
        begin(client, "young")
        workflow.step()
        assert workflow.due() == began + timedelta(minutes=1)
        clock.forward(seconds=39.999)
        workflow.step()
        assert [key[2] for key in workflow._runs] == ["old", "young"]
        clock.forward(milliseconds=1)
        workflow.step()
        assert [key[2] for key in workflow._runs] == ["young"]
        assert workflow.due() == began + timedelta(seconds=80)
        clock.forward(days=1)
        workflow.step()
        assert workflow.due() is None
        drain(workflow, *hire(client))
        for run in ("old", "young"):
            assert listing(client, NS, "w", run) == called(run, "double")


def test_runs_may_wait_in_memory_for_ever(url: str) -> None:
    """R10: the longest of all timeouts is one, too."""
    with stepped(url, Clock()) as client:
        workflow = work(client, calls("double"), await_timeout=timedelta.max)
        begin(client, "r")
        drain(workflow)
        assert [key[2] for key in workflow._runs] == ["r"]
        assert workflow.due() is not None


def test_closing_unwinds_what_waits(url: str) -> None:
    """R10: a client that is closed drops its runs, whose `finally` blocks run; nothing is added."""
    unwound: list[str] = []

    def flow(ctx: RunContext, message: Int) -> None:
        try:
            ctx.exec_activity(double, message)
        finally:
            unwound.append(ctx.run)

    with stepped(url) as client:
        begin(client, "r")
        work(client, flow).step()
        assert unwound == []
    assert unwound == ["r"]
    with stepped(url) as client:
        assert listing(client) == called("r", "double.")


# What is read twice.


def test_cursor_set_back_starts_nothing_again(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """P12, R3: a workflow that reads the log once more repeats no run, no request and no output,
    does not execute what has completed, and has no word to lose about it."""
    executed: list[str] = []

    def flow(ctx: RunContext, message: Int) -> None:
        executed.append(ctx.run)
        emits("o", "-", "o")(ctx, message)

    with stepped(url) as client:
        workflow = work(client, flow)
        staff = [workflow, *hire(client)]
        begin(client, "ended")
        drain(*staff)
        begin(client, "waits")
        workflow.step()
        lines = listing(client)
        workflow.stop()
        rewind(client, workflow)
        executed.clear()
        drain(workflow)
        assert listing(client) == lines
        drain(*staff)
        assert listing(client)[len(lines) :] == [
            "ACTIVITY_RESPONSE ns/w/waits/0/double/0 value: 10",
            "RUN_OUTPUT ns/w/waits/0/o/1 value: 3",
            "RUN_COMPLETED ns/w/waits/0 -",
        ]
        assert executed == ["waits"]
        assert caplog.messages == []


def test_run_is_given_each_event_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """R2, R8: a run that is replayed while more of its answers are in the log than its consumer
    has read gets those in order, and none of them twice."""
    given: dict[Run, list[int]] = defaultdict(list)
    feed = Run.feed

    def noted(run: Run, response: Event) -> None:
        given[run].append(response.id)
        feed(run, response)

    monkeypatch.setattr(Run, "feed", noted)

    def flow(ctx: RunContext, message: Int) -> None:
        ctx.gather(ctx.call(double, message), ctx.call(triple, message), ctx.call(double, message))
        ctx.exec_activity(triple, message)

    with stepped(url) as client:
        begin(client, "r")
        drain(work(client, flow))
        drain(*hire(client))
    with stepped(url) as client:
        drain(work(client, flow), *hire(client))
        answers = [
            event.id
            for event in client.stream(to_head=True)
            if event.type is EventType.ACTIVITY_RESPONSE
        ]
        assert len(answers) == 4
        assert [*given.values()] == [answers]


def test_run_that_was_ended_elsewhere_is_no_longer_set_aside(url: str) -> None:
    """R4, H2: what another consumer has completed is not run again, and leaves the list."""
    with stepped(url) as client:
        begin(client, "r")
        broken = work(client, calls("a b c "))
        drain(broken)
        assert [parked.key for parked in broken.parked()] == ["ns/w/r/0"]
    with stepped(url) as client:
        staff = [work(client, calls("double"), shard=Shard.hashed(0, 1)), *hire(client)]
        drain(*staff)
        assert listing(client) == called("r", "double")
    with stepped(url) as client:
        workflow = work(client, calls("a b c "))
        drain(workflow)
        assert workflow.parked() == []
        assert listing(client) == called("r", "double")


# Names and messages.


def test_names_are_what_is_registered(url: str) -> None:
    """N1: workflows and activities are stored under their function's name, or the one that is
    given; a run of another name is not this workflow's."""

    def flow(ctx: RunContext, message: Int) -> None:
        ctx.exec_activity(double, message)
        ctx.exec_activity("double", message)
        ctx.exec_activity(double, message, name="times_two")

    with stepped(url) as client:
        staff: list[Consumer] = [
            register_workflow(client, NS, flow, start=False),
            register_workflow(client, NS, flow, name="w", start=False),
            register_activity(client, NS, double, start=False),
            register_activity(client, NS, double, name="times_two", start=False),
        ]
        assert [consumer.name for consumer in staff] == [
            "workflow/ns/flow",
            "workflow/ns/w",
            "activity/ns/double",
            "activity/ns/times_two",
        ]
        for workflow in ("flow", "w", "other"):
            assert client.run_workflow(NS, workflow, "r", Int(value=5))
        assert client.run_workflow("other", "w", "r", Int(value=5))
        drain(*staff)
        for workflow in ("flow", "w"):
            text = "\n".join(called("r", "double", "double", "double"))
            text = text.replace("ns/w/", f"ns/{workflow}/").replace("double/2", "times_two/0")
            assert listing(client, NS, workflow) == text.splitlines()
        assert listing(client, NS, "other") == ["RUN_CREATED ns/other/r/0 value: 5"]
        assert listing(client, "other") == ["RUN_CREATED other/w/r/0 value: 5"]


def test_no_message_is_none_everywhere(url: str) -> None:
    """N3: None goes in and comes out as input, request, answer, output, signal and restart, and is
    not an empty message."""
    seen: list[Any] = []

    def nothing(ctx: ActivityContext, backends: None, message: Int | None) -> Int | None:
        seen.append(message)
        return message

    def flow(ctx: RunContext, message: Int | None) -> None:
        seen.append(message)
        seen.append(ctx.exec_activity(nothing, message))
        signal = ctx.await_signal(1, timedelta(hours=1))
        assert signal is not None
        seen.append(signal.message)
        ctx.emit_output("o", message)
        if message is None:
            ctx.restart(Int())

    with stepped(url) as client:
        staff = [work(client, flow), *hire(client, nothing)]
        assert client.run_workflow(NS, "w", "r", None)
        assert client.signal_run(NS, "w", "r", 1, None, "a")
        assert client.signal_run(NS, "w", "r", 1, Empty(), "b")
        drain(*staff)
        assert seen == [None, None, None, None, Int(), Int(), Int(), Empty()]
        hour = "duration { seconds: 3600 }"
        lines = []
        for n, text in ((0, " -"), (1, "")):
            lines += [
                f"RUN_CREATED ns/w/r/{n}{text}",
                f"ACTIVITY_REQUEST ns/w/r/{n}/nothing/0{text}",
                f"ACTIVITY_RESPONSE ns/w/r/{n}/nothing/0{text}",
                f"ACTIVITY_REQUEST ns/w/r/{n}/replay_signal/1:0 {hour}",
                f"ACTIVITY_RESPONSE ns/w/r/{n}/replay_signal/1:0{text}",
                f"RUN_OUTPUT ns/w/r/{n}/o/0{text}",
                f"RUN_COMPLETED ns/w/r/{n} -",
            ]
        assert listing(client) == lines
