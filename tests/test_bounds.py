"""Bounds in bytes: what is read, kept, added and committed at a time, whatever its size."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytest

import replay.consumer
import replay.log
import replay.run
import replay.signal
import replay.storage.tail
import replay.workflow
from replay import (
    ActivityContext,
    Client,
    Consumer,
    Event,
    EventType,
    Key,
    RunContext,
    Unavailable,
    consume,
    register_activity,
    register_workflow,
)
from replay.consumer import Window, error_text
from replay.failure import LONGEST_TEXT
from replay.log import Move
from replay.storage.database import Database, Row
from replay.workflow import WorkflowConsumer
from tests.example_pb2 import Int, String
from tests.support import behind, database, drain, loops, stepped

pytestmark = pytest.mark.contract

NS, W = "ns", "w"
BOUND = 100_000  # instead of 8 MiB
LARGE = String(value="x" * 40_000)  # two of them are within the bound


@pytest.fixture(autouse=True)
def bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lower the bound, so that the tests need no large messages."""
    for module in (replay.storage.tail, replay.consumer, replay.signal):
        monkeypatch.setattr(module, "BYTES", BOUND)


class Reads:
    """Counts the bytes of messages that a database gives out, in all and at most at a time."""

    def __init__(self, database: Database) -> None:
        self.total = self.most = 0
        self._execute = database._execute
        database._execute = self._counted  # type: ignore[method-assign]

    def _counted(self, sql: str, parameters: Sequence[Any]) -> Sequence[Row]:
        rows = self._execute(sql, parameters)
        found = sum(len(value) for row in rows for value in row if isinstance(value, bytes))
        self.total, self.most = self.total + found, max(self.most, found)
        return rows


def commits(client: Client) -> list[int]:
    """How many events each commit of this client adds, from now on, but for those that add none."""
    made: list[int] = []
    commit = client.log.commit

    def noted(events: Sequence[Event], move: Move | None = None) -> list[bool]:
        made.extend([len(events)] if events else [])
        return commit(events, move)

    client.log.commit = noted  # type: ignore[method-assign]
    return made


def start(client: Client, count: int, message: Any = LARGE) -> None:
    for n in range(count):
        assert client.run_workflow(NS, W, f"r{n}", message)


def work(client: Client, flow: Callable[[RunContext, Any], Any], **options: Any) -> Any:
    return register_workflow(client, NS, flow, name=W, start=False, **options)


def forget(client: Client) -> None:
    """Have the log read from the database, also in a server that has just added it."""
    tail = behind(client).tail
    tail.reset(tail.end)


def lines(client: Client) -> list[str]:
    """The log, without its messages."""
    return [f"{event.type.name} {event.key}" for event in client.stream(to_head=True)]


# Reading.


def pages(read: Callable[[int], Sequence[Event]]) -> Iterator[list[str]]:
    after = 0
    while found := read(after):
        yield [event.key.run for event in found]
        after = found[-1].id


PAGES = [["r0", "r1"], ["r2", "r3"], ["r4"]]


def test_l5_a_read_is_bounded_in_bytes(url: str) -> None:
    """L5: a read returns as many events as fit, in order, from memory and from the database."""
    with stepped(url) as client:
        start(client, 5)
        assert list(pages(client.log.read)) == PAGES
    with stepped(url) as client:
        forget(client)
        reads = Reads(database(client))
        assert list(pages(client.log.read)) == PAGES
        assert reads.most < BOUND
        assert [event.message for event in client.stream(to_head=True)] == [LARGE] * 5


def test_l5_a_read_returns_an_event_however_large(url: str) -> None:
    """L5: one that is larger than the bound comes alone."""
    with stepped(url) as client:
        start(client, 3, String(value="x" * 2 * BOUND))
        assert list(pages(client.log.read)) == [["r0"], ["r1"], ["r2"]]
    with stepped(url) as client:
        forget(client)
        assert list(pages(client.log.read)) == [["r0"], ["r1"], ["r2"]]


def test_l5_a_message_of_any_size_is_read_as_it_is(url: str) -> None:
    """L5: also one that is just small enough to come with its row, none, and an empty one."""
    at = replay.log.SMALL - len("type.googleapis.com/example.String") - 10
    sizes = [*range(at - 2, at + 4), 0]
    messages = [String(value="x" * size) for size in sizes]
    with stepped(url) as client:
        for n, message in enumerate((*messages, None)):
            client.run_workflow(NS, W, f"r{n}", message)
    with stepped(url) as client:
        forget(client)
        found = [event.message for event in client.stream(to_head=True)]
        assert found == [*messages, None]


def test_l5_few_rows_are_asked_for_after_large_ones(url: str) -> None:
    """L5: a database server reads what it only measures, so it is not asked for 1,000 rows."""
    with stepped(url) as client:
        start(client, 40)
        start_small = [
            client.log.event(EventType.RUN_CREATED, Key(NS, W, f"s{n}"), None) for n in range(300)
        ]
        client.log.commit(start_small)
    with stepped(url) as client:
        forget(client)
        asked: list[int] = []
        real = database(client)._execute

        def noted(sql: str, parameters: Sequence[Any]) -> Sequence[Row]:
            if "id > ? ORDER BY id LIMIT" in sql and "replay_events" in sql:
                asked.append(parameters[1])
            return real(sql, parameters)

        database(client)._execute = noted  # type: ignore[method-assign]
        assert sum(map(len, pages(client.log.read))) == 340
        assert (asked[0], max(asked[1:20])) == (128, 16)  # for 40 runs
        assert max(asked) > 100  # for small events, more and more


def test_l5_what_a_consumer_has_read_is_not_read_again(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L5: a consumer that handles one event at a time reads each event once."""
    monkeypatch.setattr(Window, "left", lambda _: 0.0)
    seen: list[str] = []
    with stepped(url) as client:
        start(client, 12)
    with stepped(url) as client:
        forget(client)
        reads = Reads(database(client))
        consumer = consume(client, "c", lambda event: seen.append(event.key.run), start=False)
        drain(consumer)
        assert seen == [f"r{n}" for n in range(12)]
        assert reads.total < 13 * len(LARGE.value)
        assert consumer._ahead == []


def test_l5_an_event_that_fails_is_kept_for_its_next_attempt(url: str) -> None:
    """L5: a handler that fails gets the same event again, and nothing is read meanwhile."""
    seen: list[str] = []

    def handler(event: Event) -> None:
        seen.append(event.key.run)
        if seen.count("r1") == 1 and event.key.run == "r1":
            raise ValueError("not yet")

    with stepped(url) as client:
        start(client, 3)
    with stepped(url) as client:
        forget(client)
        consumer: Any = consume(client, "c", handler, start=False)
        consumer.step()
        reads = Reads(database(client))
        consumer._blocked = None  # its backoff is over
        drain(consumer)
        assert seen == ["r0", "r1", "r1", "r2"]
        assert reads.total < 2 * len(LARGE.value)


def test_l5_what_was_read_ahead_is_forgotten_with_the_name(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L5, L7: after a lost connection a consumer begins at its cursor, not at what it has read."""
    monkeypatch.setattr(Window, "left", lambda _: 0.0)
    seen: list[str] = []
    with stepped(url) as client:
        start(client, 2)
        consumer = consume(client, "c", lambda event: seen.append(event.key.run), start=False)
        consumer.step()
        assert [event.key.run for event in consumer._ahead] == ["r1"]
        consumer._forget()
        assert list(consumer._ahead) == []
        drain(consumer)
        assert seen == ["r0", "r1"]


def test_a4_a_response_is_found_behind_more_than_a_read_holds(url: str) -> None:
    """A4: a request is not executed if it has a response, however much came in between."""
    executed: list[str] = []
    with stepped(url) as client:
        activity = register_activity(
            client,
            NS,
            lambda ctx, backends, message: executed.append(ctx.run),
            name="a",
            start=False,
        )
        activity.step()
        place = Key(NS, W, "r", 0, "a", "0")
        add = behind(client).append
        add(client.log.event(EventType.ACTIVITY_REQUEST, place))
        start(client, 5)
        add(client.log.event(EventType.ACTIVITY_RESPONSE, place, Int(value=1)))
        drain(activity)
        assert executed == []
        assert len(lines(client)) == 7


# Batches.


def test_l6_a_batch_takes_no_further_runs_once_it_is_full(url: str) -> None:
    """L6: what a workflow's runs add goes in several commits, and each run is done once."""

    def flow(ctx: RunContext, message: Int) -> None:
        ctx.emit_output("out", LARGE)

    with stepped(url) as client:
        start(client, 7, Int(value=1))
        made = commits(client)
        drain(work(client, flow))
        assert made == [6, 6, 2]  # three runs of 40 KB are more than 100 KB
        assert lines(client)[7:] == [
            line
            for n in range(7)
            for line in (f"RUN_OUTPUT ns/w/r{n}/0/out/0", f"RUN_COMPLETED ns/w/r{n}/0")
        ]


def test_l6_a_batch_takes_no_further_runs_once_it_has_many_events(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L6: of whatever size these are."""
    monkeypatch.setattr(replay.consumer, "FULL", 4)

    def flow(ctx: RunContext, message: Int) -> None:
        for n in range(message.value):
            ctx.emit_output("out", Int(value=n))

    with stepped(url) as client:
        for run, outputs in enumerate((2, 0, 5, 1, 1, 1)):
            assert client.run_workflow(NS, W, f"r{run}", Int(value=outputs))
        made = commits(client)
        drain(work(client, flow))
        assert made == [4, 6, 4, 2]
        assert lines(client)[6:] == [
            line
            for run, outputs in enumerate((2, 0, 5, 1, 1, 1))
            for line in (
                *(f"RUN_OUTPUT ns/w/r{run}/0/out/{n}" for n in range(outputs)),
                f"RUN_COMPLETED ns/w/r{run}/0",
            )
        ]


@pytest.mark.parametrize("workers", [1, 10])
def test_l6_a_batch_takes_no_further_responses_once_it_is_full(
    url: str, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L6, A1: however many requests are executed in time, or at once."""
    monkeypatch.setattr(Window, "left", lambda _: 1.0)

    def large(ctx: ActivityContext, backends: None, message: Int) -> String:
        return LARGE

    def flow(ctx: RunContext, message: Int) -> None:
        ctx.exec_activity(large, message)

    with stepped(url) as client:
        start(client, 7, Int(value=1))
        workflow = work(client, flow)
        workflow.step()
        made = commits(client)
        activity = register_activity(client, NS, large, start=False, workers=workers)
        while len(lines(client)) < 21:
            activity.step()
        assert sum(made) == 7
        assert max(made) == 3
        drain(workflow, activity)
        assert lines(client)[21:] == [f"RUN_COMPLETED ns/w/r{n}/0" for n in range(7)] or workers > 1
        assert len(lines(client)) == 28


def test_l6_retries_that_fill_a_batch_leave_the_events_for_the_next(url: str) -> None:
    """L6, R5: a run that is replayed may add as much as a batch holds."""
    broken = True

    def flow(ctx: RunContext, message: Int) -> None:
        if ctx.run == "r0" and broken:
            raise ValueError("broken")
        for _ in range(3):
            ctx.emit_output("out", LARGE)

    with stepped(url) as client:
        start(client, 1, Int(value=1))
        workflow = work(client, flow)
        workflow.step()
        broken = False
        for parked in workflow._parked.values():
            parked.next_at = client.log.now()
        assert client.run_workflow(NS, W, "r1", Int(value=1))
        made = commits(client)
        drain(workflow)
        assert made == [4, 4]
        assert workflow.parked() == []


# A step that is too large.


def test_r5_a_run_that_adds_too_much_at_once_is_parked(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R5: its error names the run and cannot be caught, nothing is stored, others go on."""
    monkeypatch.setattr(replay.run, "LARGEST_STEP", 2 * BOUND)

    def flow(ctx: RunContext, message: Int) -> None:
        for _ in range(message.value):
            try:
                ctx.emit_output("out", LARGE)
            except Exception:
                raise AssertionError("caught") from None

    with stepped(url) as client:
        client.run_workflow(NS, W, "much", Int(value=5))
        client.run_workflow(NS, W, "less", Int(value=4))
        workflow = work(client, flow)
        drain(workflow)
        (parked,) = workflow.parked()
        assert (parked.key, parked.attempts) == ("ns/w/much/0", 1)
        assert parked.error == (
            "StepTooLarge: run ns/w/much/0 adds more than 200000 bytes before it waits, which is"
            " more than one transaction may hold; the event beyond is ns/w/much/0/out/4: store"
            " large data elsewhere and pass references, or wait in between, for instance for a"
            " sleep of 0 s"
        )
        assert lines(client) == [
            "RUN_CREATED ns/w/much/0",
            "RUN_CREATED ns/w/less/0",
            *[f"RUN_OUTPUT ns/w/less/0/out/{n}" for n in range(4)],
            "RUN_COMPLETED ns/w/less/0",
        ]


def test_r5_a_run_that_adds_too_many_events_at_once_is_parked(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R5: outputs, requests and the next input count, the end does not; others go on."""
    monkeypatch.setattr(replay.run, "LONGEST_STEP", 4)

    def flow(ctx: RunContext, message: Int) -> None:
        for n in range(message.value):
            try:
                ctx.emit_output("out", Int(value=n))
            except Exception:
                raise AssertionError("caught") from None
        if ctx.run == "again" and not ctx.iteration:
            ctx.restart(message)
        if ctx.run == "asks":
            ctx.gather(*[ctx.call("any", message)] * 3)

    with stepped(url) as client:
        for run, outputs in (("much", 5), ("again", 4), ("asks", 2), ("most", 4)):
            assert client.run_workflow(NS, W, run, Int(value=outputs))
        workflow = work(client, flow)
        drain(workflow)
        assert [(each.key, each.error) for each in workflow.parked()] == [
            (
                f"ns/w/{run}/0",
                f"StepTooLarge: run ns/w/{run}/0 adds more than 4 events before it waits, which is"
                f" more than one transaction may hold; the event beyond is ns/w/{run}/{beyond}:"
                " store large data elsewhere and pass references, or wait in between, for instance"
                " for a sleep of 0 s",
            )
            for run, beyond in (("much", "0/out/4"), ("again", "1"), ("asks", "0/any/2"))
        ]
        assert lines(client)[4:] == [
            *[f"RUN_OUTPUT ns/w/most/0/out/{n}" for n in range(4)],
            "RUN_COMPLETED ns/w/most/0",
        ]


def test_r5_requests_and_the_next_input_count_too(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R5: whatever a run adds before it waits or ends is in one transaction."""
    monkeypatch.setattr(replay.run, "LARGEST_STEP", BOUND)

    def flow(ctx: RunContext, message: Any) -> None:
        if ctx.run == "r0":
            ctx.gather(*[ctx.call("any", LARGE)] * 3)
        ctx.emit_output("out", LARGE)
        ctx.emit_output("out", LARGE)
        ctx.restart(LARGE)

    with stepped(url) as client:
        start(client, 2, Int(value=1))
        workflow = work(client, flow)
        drain(workflow)
        assert [parked.key for parked in workflow.parked()] == ["ns/w/r0/0", "ns/w/r1/0"]
        assert all("StepTooLarge" in parked.error for parked in workflow.parked())
        assert len(lines(client)) == 2


def test_r5_a_run_may_add_any_amount_in_several_steps(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R5: a run that waits in between begins to count again."""
    monkeypatch.setattr(replay.run, "LARGEST_STEP", BOUND)
    monkeypatch.setattr(replay.run, "LONGEST_STEP", 2)

    def flow(ctx: RunContext, message: Int) -> None:
        for _ in range(6):
            ctx.emit_output("out", LARGE)
            ctx.sleep(timedelta(0))

    with stepped(url) as client:
        start(client, 1, Int(value=1))
        drain(work(client, flow), *loops(client))
        assert lines(client)[-1] == "RUN_COMPLETED ns/w/r0/0"


# Runs in memory, and their histories.


def waiting(ctx: RunContext, message: String) -> None:
    ctx.await_signal(1, timedelta(days=1))
    assert (ctx.create_event.message, ctx.last_event.message) == (LARGE, Int(value=7))


def test_r10_waiting_runs_are_bounded_in_bytes(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """R10: those used last stay in memory, the others come back from their histories."""
    monkeypatch.setattr(replay.workflow, "_CACHED", BOUND)
    with stepped(url) as client:
        start(client, 6)
        workflow: WorkflowConsumer = work(client, waiting)
        drain(workflow, *loops(client))
        assert [key[2] for key in workflow._runs] == ["r4", "r5"]
        assert workflow._held == sum(run.kept for run in workflow._runs.values())
        for n in range(6):
            client.signal_run(NS, W, f"r{n}", 1, Int(value=7), "x")
        drain(workflow, *loops(client))
        assert sorted(lines(client)[-6:]) == [f"RUN_COMPLETED ns/w/r{n}/0" for n in range(6)]
        assert (workflow._held, workflow.parked()) == (0, [])


def test_r10_a_run_that_is_too_large_for_the_cache_stays_while_it_is_alone(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R10: otherwise each of its events would have it replayed."""
    monkeypatch.setattr(replay.workflow, "_CACHED", BOUND // 10)
    with stepped(url) as client:
        start(client, 2)
        workflow: WorkflowConsumer = work(client, waiting)
        drain(workflow)
        assert [key[2] for key in workflow._runs] == ["r1"]


def test_r10_runs_that_come_back_together_are_bounded_too(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R10: a batch ends when the runs that it has replayed take twice the memory of the cache."""
    monkeypatch.setattr(replay.workflow, "_CACHED", 2 * BOUND)

    def two(ctx: RunContext, message: String) -> None:
        ctx.await_signal(1, timedelta(days=1))
        ctx.await_signal(2, timedelta(days=1))

    with stepped(url) as client:
        start(client, 12)
        workflow: WorkflowConsumer = work(client, two)
        drain(workflow, *loops(client))
        for n in range(12):
            client.signal_run(NS, W, f"r{n}", 1, Int(value=7), "x")
        drain(*loops(client))
        most = 0
        keep = workflow._keep

        def noted(run: Any) -> None:
            nonlocal most
            keep(run)
            most = max(most, workflow._held)

        workflow._keep = noted  # type: ignore[method-assign]
        drain(workflow)
        assert 4 * BOUND < most < 5 * BOUND + BOUND // 2
        assert len(lines(client)) == 48


def three(ctx: RunContext, message: String) -> None:
    for n in range(3):
        assert ctx.exec_activity("a", Int(value=n)) == LARGE
        ctx.emit_output("out", Int(value=n))
    ctx.await_signal(1, timedelta(days=1))


def history_of_three(client: Client) -> None:
    """Leave a run that has large responses, and waits for a signal that is there."""

    def a(ctx: ActivityContext, backends: None, message: Int) -> String:
        return LARGE

    start(client, 1)
    drain(work(client, three), register_activity(client, NS, a, name="a", start=False))
    client.signal_run(NS, W, "r0", 1, None, "x")
    drain(*loops(client))


@pytest.mark.parametrize("inline", [300, 4])
def test_r2_a_large_history_is_read_in_parts(
    url: str, inline: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R2, R10: a replay reads its responses as it needs them, in order, and never all at once."""
    monkeypatch.setattr(replay.log, "_HISTORY", inline)
    with stepped(url) as client:
        history_of_three(client)
    with stepped(url) as client:
        forget(client)
        reads = Reads(database(client))
        events = client.log.history(Key(NS, W, "r0"))
        assert [f"{event.type.name} {event.key}" for event in events] == lines(client)
        unread = [event.key.target or "created" for event in events if event.type in (1, 5)]
        assert unread == ["created", "a", "a", "a", "replay_signal"]
        assert [type(event).__name__ for event in events if event.key.target == "a"] == [
            *["Event", "Unread"] * 3
        ]
        loaded = list(client.log.load(events))
        assert [event.message for event in loaded if event.type == 5][:3] == [LARGE] * 3
        assert reads.most < BOUND
        drain(work(client, three))
        assert lines(client)[-1] == "RUN_COMPLETED ns/w/r0/0"


def test_r2_a_history_that_cannot_be_read_on_fails_the_step_and_not_the_run(url: str) -> None:
    """R2, R5: the database was away in the middle of a replay; the run is not parked for that."""
    with stepped(url) as client:
        history_of_three(client)
    with stepped(url) as client:
        workflow = work(client, three)
        with_ids = client.log.with_ids

        def away(ids: Sequence[int]) -> list[Event]:
            raise Unavailable("away")

        client.log.with_ids = away  # type: ignore[method-assign]
        with pytest.raises(Unavailable, match="away"):
            drain(workflow)
        client.log.with_ids = with_ids  # type: ignore[method-assign]
        drain(workflow)
        assert lines(client)[-1] == "RUN_COMPLETED ns/w/r0/0"
        assert workflow.parked() == []


def test_r2_an_event_of_a_history_that_is_lost_is_noticed(url: str) -> None:
    """L1: a database server that comes back may have lost its last transactions."""
    with stepped(url) as client:
        lost = replay.log.Unread(99, EventType.RUN_CREATED, Key(NS, W, "r"), client.log.now(), None)
        with pytest.raises(Unavailable, match="has lost event 99"):
            list(client.log.load([lost]))


# Signals.


def taken(client: Client) -> list[str]:
    return [line for line in lines(client) if line.startswith("ACTIVITY_RESPONSE")]


def receive(ctx: RunContext, message: Int) -> None:
    signal = ctx.await_signal(1, timedelta(days=1))
    assert signal is not None
    assert signal.message == LARGE


@pytest.mark.parametrize("first", ["signals", "awaits"])
def test_s2_signals_are_matched_in_bounded_batches(url: str, first: str) -> None:
    """S2, L6: whether the awaits or the signals come first, each await gets its signal once."""
    with stepped(url) as client:
        start(client, 9, Int(value=1))
        workflow = work(client, receive)
        if first == "awaits":
            drain(workflow, *loops(client))
        for n in range(9):
            client.signal_run(NS, W, f"r{n}", 1, LARGE, "x")
        if first == "signals":
            workflow.step()
        (matcher,) = [each for each in loops(client) if each.name == "replay_signal"]
        reads, made = Reads(database(client)), _matched(matcher)
        drain(matcher)
        assert sorted(taken(client)) == [
            f"ACTIVITY_RESPONSE ns/w/r{n}/0/replay_signal/1:0" for n in range(9)
        ]
        assert sum(made) == 9
        assert max(made) == {"signals": 3, "awaits": 4}[first]
        assert reads.most < BOUND
        drain(workflow)
        assert len(lines(client)) == 36
        assert workflow.parked() == []


def _matched(matcher: Consumer) -> list[int]:
    """How many responses each commit of the matcher adds, from now on."""
    made: list[int] = []
    commit = matcher._log.commit

    def noted(events: Sequence[Event], move: Move | None = None) -> list[bool]:
        if move is not None and move.consumer == matcher.name:
            made.append(len(events))
        return commit(events, move)

    matcher._log.commit = noted  # type: ignore[method-assign]
    return made


# Errors.


@pytest.mark.parametrize(
    "text",
    ["\0" * 3990, "\ud800" * 3990, "\u6f22" * 4000, "x" * 9000, "\U0001f600" * 2000],
    ids=["nul", "surrogate", "han", "ascii", "emoji"],
)
def test_a2_the_text_of_an_error_is_bounded_as_it_is_stored(
    url: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A2: however its characters are written, it fits a column, a call, and its limit."""
    # Its traceback holds half a surrogate pair, which pytest's workers cannot send.
    monkeypatch.setattr(logging.getLogger("replay"), "disabled", True)
    error = error_text(ValueError(text))
    assert LONGEST_TEXT - 4 < len(error.encode()) <= LONGEST_TEXT
    assert "\0" not in error
    assert error.startswith("ValueError: ")

    def flow(ctx: RunContext, message: Int) -> None:
        raise ValueError(text)

    with stepped(url) as client:
        start(client, 1, Int(value=1))
        workflow = work(client, flow)
        workflow.step()
        assert [parked.error for parked in workflow.parked()] == [error]
