"""Cancels: a run is told once where it waits, however it is parked, restarted or read again."""

from datetime import timedelta
from typing import Any

import pytest

from replay import (
    Cancelled,
    Client,
    Event,
    EventType,
    Key,
    RunContext,
    RunFailed,
    Shard,
    register_workflow,
)
from replay.client import NotOurs
from replay.server.proto.values_pb2 import Cancel
from replay.storage.event import UNKNOWN, InvalidName
from tests.example_pb2 import Int, String
from tests.support import (
    Clock,
    Faults,
    LogLines,
    behind,
    crash,
    database,
    drain,
    flow_of,
    listing,
    respond,
    rewind,
    rows,
    start_runs,
    stepped,
)

pytestmark = pytest.mark.contract

HOUR = timedelta(hours=1)
CREATED = "RUN_CREATED ns/flow/a/0 value: 1"
REQUEST = "ACTIVITY_REQUEST ns/flow/a/0/replay_sleep/0 duration { seconds: 3600 }"
CANCEL = 'ACTIVITY_RESPONSE ns/flow/a/0/replay_cancel/0 reason: "enough"'
FAILURE = 'RUN_OUTPUT ns/flow/a/0/replay_failure/0 kind: "cancelled" text: "enough"'
COMPLETED = "RUN_COMPLETED ns/flow/a/0 -"


def cancel(client: Client, reason: str = "enough", **options: bool) -> bool:
    return client.cancel_run("ns", "flow", "a", reason, **options)


def sleeping(ctx: RunContext, message: Int) -> None:
    ctx.sleep(HOUR)


def stubborn(ctx: RunContext, message: Int) -> None:
    """Swallows every exception that is one, and says what ended its wait."""
    try:
        ctx.sleep(HOUR)
    except Exception:
        ctx.emit_output("swallowed", message)


def undoing(ctx: RunContext, message: Int) -> None:
    """Catches the cancel, and goes on with another call."""
    try:
        ctx.exec_activity("charge", message)
    except Cancelled as error:
        ctx.emit_output("told", String(value=error.reason))
        ctx.exec_activity("refund", message)
    ctx.emit_output("end", message)


def test_e7_a_cancel_ends_a_run_where_it_waits(url: str) -> None:
    """E7: the cancel is a response without a request; `except Exception` does not see it."""
    with stepped(url) as client:
        start_runs(client, "a")
        consumer = flow_of(client, stubborn)
        drain(consumer)
        assert cancel(client) is True
        assert listing(client) == [CREATED, REQUEST, CANCEL]  # recorded, not ended
        drain(consumer)
        assert listing(client) == [CREATED, REQUEST, CANCEL, FAILURE, COMPLETED]
        with pytest.raises(RunFailed, match="run ns/flow/a has been cancelled: enough") as caught:
            client.result("ns", "flow", "a", timeout=0)
        assert (caught.value.kind, caught.value.text) == ("cancelled", "enough")
        client.await_completion("ns", "flow", "a", timeout=0)


def test_e7_an_evicted_run_is_told_as_well(url: str) -> None:
    """E7, R2: in another process, by a replay."""
    with stepped(url) as client:
        start_runs(client, "a")
        first = flow_of(client, stubborn)
        drain(first)
        crash(client, first)
    with stepped(url) as client:
        cancel(client)
        consumer = flow_of(client, stubborn)
        consumer._step(10)
        drain(consumer)
        assert listing(client) == [CREATED, REQUEST, CANCEL, FAILURE, COMPLETED]


@pytest.mark.parametrize("replayed", [False, True])
def test_e7_a_run_may_compensate_and_is_told_once(url: str, replayed: bool) -> None:
    """E7: what it waited for is cleared, so the late response of the old wait wakes nothing."""
    with stepped(url) as client:
        start_runs(client, "a")
        consumer = flow_of(client, undoing)
        drain(consumer)
        cancel(client)
        drain(consumer)
        if replayed:
            consumer.forget()
        respond(client, "charge/0", Int(value=1))
        drain(consumer)
        told = [
            CREATED,
            "ACTIVITY_REQUEST ns/flow/a/0/charge/0 value: 1",
            CANCEL,
            'RUN_OUTPUT ns/flow/a/0/told/0 value: "enough"',
            "ACTIVITY_REQUEST ns/flow/a/0/refund/0 value: 1",
            "ACTIVITY_RESPONSE ns/flow/a/0/charge/0 value: 1",
        ]
        assert listing(client) == told
        if replayed:
            consumer.forget()
        respond(client, "refund/0", Int(value=1))
        drain(consumer)
        assert listing(client) == [
            *told,
            "ACTIVITY_RESPONSE ns/flow/a/0/refund/0 value: 1",
            "RUN_OUTPUT ns/flow/a/0/end/0 value: 1",
            COMPLETED,
        ]
        assert client.result("ns", "flow", "a", timeout=0) is None


def test_e7_a_cancel_that_comes_first_wins_the_wait(url: str) -> None:
    """E7, R2: cancel and response are read in one batch, in the order of their ids."""
    for order in (0, 1):
        with stepped(url) as client:
            run = str(order)
            client.run_workflow("ns", "flow", run, Int(value=1))
            consumer = flow_of(client, undoing)
            drain(consumer)
            if order:
                assert client.cancel_run("ns", "flow", run)
            respond(client, "charge/0", Int(value=1), run)
            if not order:
                assert client.cancel_run("ns", "flow", run)
            drain(consumer)
            told = [line for line in listing(client, "ns", "flow", run) if "/told/" in line]
            assert len(told) == order
            consumer.stop()


def test_e7_an_unknown_ended_or_cancelled_run_gives_false(url: str) -> None:
    """E7: nothing is stored then."""
    with stepped(url) as client:
        start_runs(client, "a")
        consumer = flow_of(client, sleeping)
        drain(consumer)
        assert client.cancel_run("ns", "flow", "unknown") is False
        assert client.cancel_run("ns", "flow", "unknown", terminate=True) is False
        assert cancel(client) is True
        assert cancel(client, "again") is False
        drain(consumer)
        assert cancel(client) is False
        assert cancel(client, terminate=True) is False
        assert listing(client) == [CREATED, REQUEST, CANCEL, FAILURE, COMPLETED]


def test_e7_e11_a_workflow_that_we_have_never_served_is_not_ours(url: str) -> None:
    """E7, E11: a Go worker would fail on the cancel, at each of its restarts."""
    with stepped(url) as client:
        start_runs(client, "a")
        with pytest.raises(NotOurs, match="nobody has served workflow flow of namespace ns"):
            cancel(client)
        register_workflow(client, "ns", sleeping, name="flower", start=False).step()
        register_workflow(client, "ns2", sleeping, name="flow", start=False).step()
        with pytest.raises(NotOurs):
            cancel(client, terminate=True)
        assert listing(client) == [CREATED]
        consumer = flow_of(client, sleeping)
        consumer.step()
        consumer.stop()  # it has served it once, which is enough
        assert cancel(client) is True


def test_e7_a_shard_makes_a_workflow_ours(url: str) -> None:
    """E7, H1: the cursor's name has the shard in it."""
    with stepped(url) as client:
        start_runs(client, "a")
        consumers = [
            register_workflow(
                client, "ns", sleeping, name="flow", shard=Shard.hashed(n, 2), start=False
            )
            for n in (0, 1)
        ]
        drain(*consumers)
        assert cancel(client) is True
        drain(*consumers)
        assert listing(client) == [CREATED, REQUEST, CANCEL, FAILURE, COMPLETED]


def test_e7_names_that_leave_no_room_for_the_end_are_refused(url: str) -> None:
    """E7, N2: else the workflow's consumer could not store it, and would never go on."""
    run = "r" * 255
    with stepped(url) as client:
        for workflow in ("w" * 225, "w" * 226):
            client.run_workflow("ns", workflow, run, Int(value=1))
            consumer = register_workflow(client, "ns", sleeping, name=workflow, start=False)
            drain(consumer)
            if len(workflow) == 225:
                assert client.cancel_run("ns", workflow, run, terminate=True)
            else:
                with pytest.raises(InvalidName, match="at most 512 fit"):
                    client.cancel_run("ns", workflow, run, terminate=True)
            drain(consumer)
        assert sum("RUN_COMPLETED" in line for line in listing(client)) == 1


# Restarts.


def restarting(ctx: RunContext, message: Int) -> None:
    """Waits, and restarts."""
    ctx.exec_activity("act", message)
    ctx.restart(Int(value=message.value + 1))


def restarting_when_told(ctx: RunContext, message: Int) -> None:
    """Takes a cancel for an order to begin again."""
    try:
        ctx.sleep(HOUR)
    except Cancelled:
        ctx.restart(Int(value=message.value + 1))


SECOND = [
    "RUN_COMPLETED ns/flow/a/0 -",
    "RUN_CREATED ns/flow/a/1 value: 2",
    'ACTIVITY_RESPONSE ns/flow/a/1/replay_cancel/0 reason: "enough"',
    "ACTIVITY_REQUEST ns/flow/a/1/act/0 value: 2",
    'RUN_OUTPUT ns/flow/a/1/replay_failure/0 kind: "cancelled" text: "enough"',
    "RUN_COMPLETED ns/flow/a/1 -",
]
FIRST = [
    CREATED,
    "ACTIVITY_REQUEST ns/flow/a/0/act/0 value: 1",
    "ACTIVITY_RESPONSE ns/flow/a/0/act/0 value: 1",
]


def test_e7_a_cancel_is_passed_on_with_the_restart(url: str) -> None:
    """E7: the iteration restarts before it is told, so the cancel of the next one is stored in the
    transaction of its created event.
    """
    with stepped(url) as client:
        start_runs(client, "a")
        consumer = flow_of(client, restarting)
        drain(consumer)
        respond(client, "act/0", Int(value=1))
        cancel(client)
        faults = Faults(database(client))
        consumer.step()
        assert faults.writes == 1
        assert listing(client) == [*FIRST, CANCEL, *SECOND[:3]]
        drain(consumer)
        assert listing(client) == [*FIRST, CANCEL, *SECOND]
        with pytest.raises(RunFailed, match="been cancelled: enough"):
            client.result("ns", "flow", "a", timeout=0)


def test_e7_a_cancel_that_meets_a_restart_under_way_is_not_lost(url: str) -> None:
    """E7: it is stored after the restart's response was read and before its commit, so its id is
    below that of the completed event.
    """
    with stepped(url) as client, stepped(url) as other:
        start_runs(client, "a")
        consumer = flow_of(client, restarting)
        drain(consumer)
        respond(client, "act/0", Int(value=1))
        commit = client.log.commit

        def late(*arguments: Any) -> list[bool]:
            client.log.commit = commit  # type: ignore[method-assign]
            assert cancel(other) is True
            return commit(*arguments)

        client.log.commit = late  # type: ignore[method-assign,assignment]
        drain(consumer)
        assert listing(client) == [*FIRST, CANCEL, *SECOND]


def test_e7_a_cancel_of_an_older_iteration_is_passed_on_later(url: str) -> None:
    """E7: its id is above that of the completed event; after a crash as well."""
    with stepped(url) as client:
        start_runs(client, "a")
        consumer = flow_of(client, restarting)
        drain(consumer)
        respond(client, "act/0", Int(value=1))
        drain(consumer)
        log = behind(client)
        key = Key("ns", "flow", "a", 0, "replay_cancel", "0")
        assert log.append(log.event(EventType.ACTIVITY_RESPONSE, key, Cancel(reason="enough")))
        consumer._forget()
        drain(consumer)
        assert listing(client) == [
            *FIRST,
            "RUN_COMPLETED ns/flow/a/0 -",
            "RUN_CREATED ns/flow/a/1 value: 2",
            "ACTIVITY_REQUEST ns/flow/a/1/act/0 value: 2",
            CANCEL,
            *SECOND[2:3],
            *SECOND[4:],
        ]


def test_e7_a_cursor_set_back_cancels_nothing_twice(url: str) -> None:
    """E7, R3: the iteration that was told, and restarted all the same, says so by an output."""
    with stepped(url) as client:
        start_runs(client, "a")
        consumer = flow_of(client, restarting_when_told)
        drain(consumer)
        cancel(client)
        drain(consumer)
        told = [
            CREATED,
            REQUEST,
            CANCEL,
            "RUN_OUTPUT ns/flow/a/0/replay_cancel/0 True",
            COMPLETED,
            "RUN_CREATED ns/flow/a/1 value: 2",
            "ACTIVITY_REQUEST ns/flow/a/1/replay_sleep/0 duration { seconds: 3600 }",
        ]
        assert listing(client) == told
        rewind(client, consumer)
        consumer._forget()
        drain(consumer)
        assert listing(client) == told
        # The new iteration may be cancelled in its turn.
        assert cancel(client, "again") is True
        assert cancel(client, "again") is False


def test_e7_a_cursor_set_back_passes_nothing_on_twice(url: str) -> None:
    """E7: nor ends anything again."""
    with stepped(url) as client:
        start_runs(client, "a")
        consumer = flow_of(client, restarting)
        drain(consumer)
        respond(client, "act/0", Int(value=1))
        cancel(client)
        drain(consumer)
        rewind(client, consumer)
        consumer._forget()
        drain(consumer)
        assert listing(client) == [*FIRST, CANCEL, *SECOND]


def test_e7_a_termination_is_passed_on_beside_a_cancel(url: str) -> None:
    """E7: the next iteration has got a cancel of its own already."""
    with stepped(url) as client:
        start_runs(client, "a")
        consumer = flow_of(client, restarting)
        drain(consumer)
        respond(client, "act/0", Int(value=1))
        drain(consumer)
        log = behind(client)
        for iteration, message in ((1, Cancel()), (0, Cancel(reason="enough", terminate=True))):
            key = Key("ns", "flow", "a", iteration, "replay_cancel", "0")
            log.append(log.event(EventType.ACTIVITY_RESPONSE, key, message))
        client.log.poll()
        given = consumer.wants
        consumer.wants = lambda event: given(event) and event.key.iteration == 0  # type: ignore
        drain(consumer)
        assert 'replay_cancel/1 reason: "enough" terminate: true' in listing(client)[-1]


def test_e7_a_run_that_restarts_for_ever_can_be_terminated(url: str) -> None:
    """E7: though each iteration restarts before it waits, and before it could be told."""
    began: list[int] = []

    def flow(ctx: RunContext, message: Int) -> None:
        began.append(message.value)
        ctx.restart(Int(value=message.value + 1))

    with stepped(url) as client:
        start_runs(client, "a")
        consumer = flow_of(client, flow)
        for _ in range(3):
            consumer.step()
        cancel(client, terminate=True)
        drain(consumer, most=20)
        with pytest.raises(RunFailed, match="been cancelled: enough"):
            client.result("ns", "flow", "a", timeout=0)
        assert began == sorted(set(began))


# Parked runs, and terminations.


def test_e7_a_parked_run_is_tried_at_once(url: str) -> None:
    """E7: its next attempt may be minutes away, and it passes events over."""
    clock, bugs = Clock(), [ValueError("a bug")]

    def flow(ctx: RunContext, message: Int) -> None:
        if bugs:
            raise bugs[0]
        ctx.sleep(HOUR)

    with stepped(url, clock) as client:
        start_runs(client, "a")
        consumer = flow_of(client, flow)
        drain(consumer)
        assert [parked.attempts for parked in consumer.parked()] == [1]
        del bugs[:]
        cancel(client)
        drain(consumer)
        assert consumer.parked() == []
        assert listing(client) == [CREATED, CANCEL, REQUEST, FAILURE, COMPLETED]


def test_e7_a_parked_run_that_fails_again_finds_the_cancel_later(url: str) -> None:
    """E7, R5: one attempt is counted, and the cancel waits in the history."""
    clock, bugs = Clock(), [ValueError("a bug")]

    def flow(ctx: RunContext, message: Int) -> None:
        if bugs:
            raise bugs[0]
        ctx.sleep(HOUR)

    with stepped(url, clock) as client:
        start_runs(client, "a")
        consumer = flow_of(client, flow)
        drain(consumer)
        cancel(client)
        drain(consumer)
        assert [parked.attempts for parked in consumer.parked()] == [2]
        assert rows(client, "SELECT attempts FROM replay_parked") == [(2,)]
        del bugs[:]
        clock.forward(seconds=2)
        drain(consumer)
        assert listing(client) == [CREATED, CANCEL, REQUEST, FAILURE, COMPLETED]


@pytest.mark.parametrize("at_once", [True, False])
def test_e7_a_parked_run_that_restarts_passes_the_cancel_on(url: str, at_once: bool) -> None:
    """E7: the attempt that succeeds restarts before it comes to the cancel."""
    clock, bugs = Clock(), [ValueError("a bug")]

    def flow(ctx: RunContext, message: Int) -> None:
        ctx.exec_activity("act", message)
        if bugs:
            raise bugs[0]
        ctx.restart(Int(value=message.value + 1))

    with stepped(url, clock) as client:
        start_runs(client, "a")
        consumer = flow_of(client, flow)
        drain(consumer)
        respond(client, "act/0", Int(value=1))
        drain(consumer)
        if at_once:
            del bugs[:]
        cancel(client)
        drain(consumer)
        del bugs[:]
        clock.forward(minutes=5)
        drain(consumer)
        assert listing(client) == [*FIRST, CANCEL, *SECOND]
        assert consumer.parked() == []


@pytest.mark.damages
def test_e7_terminate_ends_a_run_without_its_code(url: str) -> None:
    """E7: its code would wait, or catch the cancel."""
    ran: list[str] = []

    def flow(ctx: RunContext, message: Int) -> None:
        try:
            ctx.sleep(HOUR)
        except Cancelled:
            ran.append("told")
            raise

    with stepped(url) as client:
        start_runs(client, "a")
        consumer = flow_of(client, flow)
        drain(consumer)
        assert cancel(client, terminate=True) is True
        drain(consumer)
        assert ran == []
        terminated = CANCEL + " terminate: true"
        assert listing(client) == [CREATED, REQUEST, terminated, FAILURE, COMPLETED]
        respond(client, "replay_sleep/0")
        rewind(client, consumer)
        consumer._forget()
        drain(consumer)
        assert listing(client)[3:5] == [FAILURE, COMPLETED]
        assert len(listing(client)) == 6


def test_e7_terminate_ends_a_parked_run(url: str) -> None:
    """E7: failure, completed event and unparking are one transaction; its code does not run."""
    ran: list[int] = []

    def flow(ctx: RunContext, message: Int) -> None:
        ran.append(message.value)
        raise ValueError("a bug")

    with stepped(url) as client:
        start_runs(client, "a")
        consumer = flow_of(client, flow)
        drain(consumer)
        cancel(client, terminate=True)
        faults = Faults(database(client))
        consumer.step()
        assert faults.writes == 1
        assert ran == [1]
        assert listing(client) == [CREATED, CANCEL + " terminate: true", FAILURE, COMPLETED]
        assert rows(client, "SELECT * FROM replay_parked") == []
        assert consumer.parked() == []
        drain(consumer)
        assert ran == [1]


def test_e7_terminate_works_after_a_cancel(url: str) -> None:
    """E7: the run has caught the cancel and goes on; a second termination gives False."""
    with stepped(url) as client:
        start_runs(client, "a")
        consumer = flow_of(client, undoing)
        drain(consumer)
        cancel(client)
        drain(consumer)
        assert cancel(client) is False
        assert cancel(client, terminate=True) is True
        assert cancel(client, terminate=True) is False
        drain(consumer)
        assert listing(client)[-3:] == [
            'ACTIVITY_RESPONSE ns/flow/a/0/replay_cancel/1 reason: "enough" terminate: true',
            FAILURE,
            COMPLETED,
        ]
        assert "RUN_OUTPUT ns/flow/a/0/end/0 value: 1" not in listing(client)


def test_e7_the_live_run_commits_nothing_after_a_termination(url: str) -> None:
    """E7: no client adds the completed event, or a restart of the live run would follow it."""
    with stepped(url) as client:
        start_runs(client, "a")
        consumer = flow_of(client, restarting)
        drain(consumer)
        cancel(client, terminate=True)
        respond(client, "act/0", Int(value=1))
        drain(consumer)
        lines = listing(client)
        assert [line for line in lines if "COMPLETED" in line] == [COMPLETED]
        assert not [line for line in lines if "ns/flow/a/1" in line]


def test_e7_l3_a_foreign_row_that_is_no_cancel_is_passed_over(url: str) -> None:
    """E7, L3: live, and in each replay: the run goes on as if it were not there."""
    with stepped(url) as client, LogLines() as logged:
        start_runs(client, "a")
        consumer = flow_of(client, undoing)
        drain(consumer)
        key = Key("ns", "flow", "a", 0, "replay_cancel", "0")
        foreign = Event(0, EventType.ACTIVITY_RESPONSE, key, UNKNOWN, b"no cancel")
        behind(client).commit([foreign])
        drain(consumer)
        assert len(logged.of("it holds no replay.v1.Cancel")) == 1
        consumer.forget()
        respond(client, "charge/0", Int(value=1))
        drain(consumer)
        assert consumer.parked() == []
        assert [str(e.key) for e in client.stream("ns", to_head=True)][-2:] == [
            "ns/flow/a/0/end/0",
            "ns/flow/a/0",
        ]


def test_e7_a_reason_that_cannot_be_stored_as_it_is_arrives_all_the_same(url: str) -> None:
    """E7: half a surrogate pair, a NUL, more than 4,000 bytes."""
    with stepped(url) as client:
        start_runs(client, "a")
        consumer = flow_of(client, sleeping)
        drain(consumer)
        assert cancel(client, "\ud800\0" + "x" * 5000)
        drain(consumer)
        with pytest.raises(RunFailed) as caught:
            client.result("ns", "flow", "a", timeout=0)
        assert caught.value.text.startswith("\\ud800\\0xxx")
        assert len(caught.value.text) == 4000


def test_e7_a_cancel_does_not_reach_other_runs(url: str) -> None:
    """E7: of the same workflow, and of a name that begins with the same letters."""
    with stepped(url) as client:
        start_runs(client, "a", "ab", "b")
        consumer = flow_of(client, sleeping)
        drain(consumer)
        cancel(client)
        drain(consumer)
        assert [line for line in listing(client) if "COMPLETED" in line] == [COMPLETED]
