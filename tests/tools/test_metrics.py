"""Metrics: what is counted under which labels, what a server serves of it, and to whom (Q5)."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from replay import (
    ActivityContext,
    Client,
    Event,
    EventType,
    GiveUp,
    Key,
    RunContext,
    Shard,
    consume,
    register_activity,
    register_workflow,
)
from replay.consumer import figures, lag_of, measured
from replay.log import Attempts
from replay.storage.database import Row
from replay.storage.event import UNKNOWN
from replay.tools.metrics import MOST, Backlog, NoDatabase, Prometheus
from tests.exposition import OF_CONSUMERS, OF_LOGS, Values, labels, shown, values
from tests.support import START, Clock, drain, raw, stepped

pytestmark = pytest.mark.contract

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
LIMIT = 60  # seconds until something that has to happen has not happened


def of(found: Values, name: str) -> dict[str, float]:
    """The values of a metric whose first label is the consumer's name."""
    return {key[1]: value for key, value in found.items() if key[0] == name}


def double(ctx: ActivityContext, backends: Any, number: int) -> int:
    return 2 * number


def flow(ctx: RunContext, number: int) -> int:
    return ctx.exec_activity(double, number)


class Price:
    """An activity that fails as often as it is told to."""

    def __init__(self, failures: int, error: Exception | None = None) -> None:
        self.failures, self.error = failures, error or ValueError("no price")

    def __call__(self, ctx: ActivityContext, backends: Any, number: int) -> int:
        if ctx.attempt <= self.failures:
            raise self.error
        return number


# What is counted.


def test_q5_a_process_shows_these_metrics_and_labels(url: str) -> None:
    """Q5: this is the whole list.  A label is a consumer's or a database's name, never a run id."""
    registry = CollectorRegistry()
    prometheus = Prometheus(registry)
    with stepped(url) as client:
        consumers = [
            register_workflow(client, "ns", flow, metrics=prometheus, start=False),
            register_activity(client, "ns", double, metrics=prometheus, start=False),
        ]
        client.run_workflow("ns", flow, "a-run-id", 1)
        drain(*consumers)
        text = shown(registry)
    assert labels(text) == OF_CONSUMERS
    assert "a-run-id" not in text
    found = values(text)
    assert of(found, "replay_events_total") == {"workflow/ns/flow": 5, "activity/ns/double": 5}
    assert of(found, "replay_added_total") == {"workflow/ns/flow": 3, "activity/ns/double": 1}
    assert of(found, "replay_failures_total") == {"workflow/ns/flow": 0, "activity/ns/double": 0}
    assert of(found, "replay_activity_seconds_count") == {"activity/ns/double": 1}


@pytest.mark.parametrize("workers", [1, 3])
def test_q5_failures_and_retries_are_counted_and_each_attempt_is_timed(
    url: str, workers: int
) -> None:
    """Q5: 2 of 3 attempts fail, 2 are retries, 3 are timed; being executed is no failure."""
    registry, clock = CollectorRegistry(), Clock()
    with stepped(url, clock) as client:
        workflow = register_workflow(client, "ns", flow, start=False)
        activity = register_activity(
            client,
            "ns",
            Price(2).__call__,
            name="double",
            workers=workers,
            metrics=Prometheus(registry),
            start=False,
        )
        client.run_workflow("ns", flow, "r", 1)
        while client.log.last_iteration("ns", "flow", "r")[1] != 0:
            workflow.step()
            activity.step()
            clock.forward(seconds=1)
    found = values(shown(registry))
    name = "activity/ns/double"
    assert found["replay_failures_total", name] == 2
    assert found["replay_retries_total", name] == 2
    assert found["replay_activity_seconds_count", name] == 3
    assert found["replay_added_total", name] == 1


def test_q5_the_last_of_several_attempts_is_a_failure_too(url: str) -> None:
    """Q5: a request whose attempts are used up, or given up, is not parked, but has failed."""
    registry, clock = CollectorRegistry(), Clock()
    with stepped(url, clock) as client:
        workflow = register_workflow(client, "ns", flow, start=False)
        activity = register_activity(
            client,
            "ns",
            Price(9, GiveUp("never")).__call__,
            name="double",
            metrics=Prometheus(registry),
            start=False,
        )
        client.run_workflow("ns", flow, "r", 1)
        drain(workflow, activity)
    found = values(shown(registry))
    assert found["replay_failures_total", activity.name] == 1
    assert found["replay_retries_total", activity.name] == 0


def test_q5_an_attempt_that_is_abandoned_took_as_long_as_its_timeout(url: str) -> None:
    """Q5: the slowest attempts are those that matter most, so they are in the histogram."""
    registry, release = CollectorRegistry(), threading.Event()

    def hang(ctx: ActivityContext, backends: Any, number: int) -> int:
        release.wait()
        return number

    with stepped(url) as client:
        workflow = register_workflow(client, "ns", flow, start=False)
        activity = register_activity(
            client,
            "ns",
            hang,
            name="double",
            timeout=timedelta(milliseconds=20),
            metrics=Prometheus(registry),
            start=False,
        )
        client.run_workflow("ns", flow, "r", 1)
        workflow.step()
        while not of(values(shown(registry)), "replay_failures_total").get(activity.name):
            activity.step()
        release.set()
    found = values(shown(registry))
    assert found["replay_activity_seconds_count", activity.name] == 1
    assert found["replay_activity_seconds_sum", activity.name] >= 0.02


@pytest.mark.embedded
def test_q5_a_handler_that_fails_counts_its_attempts(url: str) -> None:
    """Q5: a failing handler parks nothing, and is seen all the same."""
    registry, clock = CollectorRegistry(), Clock()
    failing = [True]

    def handle(event: Event) -> None:
        if failing:
            raise ValueError("not yet")

    with stepped(url, clock) as client:
        consumer = consume(client, "mine", handle, start=False)
        consumer.metrics = Prometheus(registry)
        client.run_workflow("ns", flow, "r", 1)
        for _ in range(3):
            drain(consumer)
            clock.forward(seconds=300)
        failing.clear()
        drain(consumer)
    found = values(shown(registry))
    assert found["replay_failures_total", "consumer/mine"] == 3
    assert found["replay_retries_total", "consumer/mine"] == 3
    assert found["replay_events_total", "consumer/mine"] == 1


def test_q5_the_lag_is_set_not_added_up() -> None:
    """Q5: it is the lag of now."""
    registry = CollectorRegistry()
    prometheus = Prometheus(registry)
    for seconds in (2.0, 3.0):
        prometheus("a", "lag", seconds)
    assert values(shown(registry))["replay_lag_seconds", "a"] == 3.0


def test_q5_a_no_op_has_no_age() -> None:
    """Q5: an event that the reader may not see, or cannot read, says nothing about the lag.

    A remote client gets such events with the year 1970.
    """
    known = Event(1, EventType.RUN_CREATED, Key("ns", "w", "r"), START, None)
    noop = Event(2, EventType.NOOP, Key("", "", ""), UNKNOWN, None)
    assert lag_of([known, noop], START + timedelta(seconds=5)) == timedelta(seconds=5)
    assert lag_of([noop], START) is None
    assert list(figures(1, 0, Attempts(), None)) == [
        ("events", 1),
        ("added", 0),
        ("failed", 0),
        ("retried", 0),
    ]


def test_q5_a_thousand_consumers_have_labels_and_no_more() -> None:
    """Q5: whoever may write to a server may invent names; they do not fill the monitoring."""
    registry = CollectorRegistry()
    prometheus = Prometheus(registry)
    for number in range(MOST + 50):
        prometheus(f"consumer/{number}", "events", 1)
        prometheus(f"consumer/{number}", "events", 1)
    found = of(values(shown(registry)), "replay_events_total")
    assert len(found) == MOST + 1
    assert (found["consumer/0"], found["other"], sum(found.values())) == (2, 100, 2 * (MOST + 50))


def test_q5_a_metrics_function_that_raises_is_not_called_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Q5: the step is stored; but Ctrl-C is no failure of the function's."""

    def broken(consumer: str, measure: str, figure: float) -> None:
        raise SystemExit(1)

    def interrupted(consumer: str, measure: str, figure: float) -> None:
        raise KeyboardInterrupt

    told = [("events", 1.0)]
    with caplog.at_level(logging.ERROR, "replay"):
        assert measured(broken, "mine", told) is None
    assert caplog.messages == ["mine is not measured any more: its metrics function failed"]
    with pytest.raises(KeyboardInterrupt):
        measured(interrupted, "mine", told)


# What waits.


@pytest.mark.embedded
def test_q5_a_log_shows_these_metrics_and_labels(url: str) -> None:
    """Q5: this is the whole list."""
    registry = CollectorRegistry()
    with stepped(url) as client:
        registry.register(Backlog(client.log))
        drain(register_workflow(client, "ns", flow, start=False))
        assert labels(shown(registry)) == OF_LOGS


def test_q5_a_client_of_a_server_is_told_who_shows_the_queues(url: str) -> None:
    """Q5: at once, not at each scrape."""
    with stepped(url) as client:
        if url.startswith("grpc"):
            with pytest.raises(
                NoDatabase, match="shows its queues itself: start it with --metrics"
            ):
                Backlog(client.log)
        else:
            Backlog(client.log)


def ages(registry: CollectorRegistry) -> dict[str, float]:
    found = of(values(shown(registry)), "replay_queue_age_seconds")
    return {name: age for name, age in found.items() if not name.startswith("replay_")}


@contextmanager
def watched(url: str, clock: Clock | None = None) -> Iterator[tuple[Client, CollectorRegistry]]:
    """A client, and what a registry shows of its log."""
    registry = CollectorRegistry()
    with stepped(url, clock) as client:
        registry.register(Backlog(client.log))
        yield client, registry


@pytest.mark.embedded
def test_q5_the_queue_age_is_that_of_the_oldest_event_not_handled(url: str) -> None:
    """Q5: it grows while a consumer does nothing, and is 0 for one that has nothing to do."""
    with watched(url, clock := Clock()) as (client, registry):
        workflow = register_workflow(client, "ns", flow, start=False)
        activity = register_activity(client, "ns", double, start=False)
        drain(workflow, activity)
        for run in "abc":
            client.run_workflow("ns", flow, run, 1)
            clock.forward(seconds=10)
        assert ages(registry) == {"workflow/ns/flow": 30.0, "activity/ns/double": 0.0}
        workflow.step()
        clock.forward(seconds=5)
        assert ages(registry) == {"workflow/ns/flow": 0.0, "activity/ns/double": 5.0}
        drain(activity, workflow)
        assert ages(registry) == {"workflow/ns/flow": 0.0, "activity/ns/double": 0.0}


@pytest.mark.embedded
def test_q5_a_consumer_that_hangs_shows_it(url: str) -> None:
    """Q5: a gauge that the consumer set itself would stay where it was."""
    with watched(url, clock := Clock()) as (client, registry):
        seen: list[dict[str, float]] = []

        def hang(ctx: ActivityContext, backends: Any, number: int) -> int:
            clock.forward(seconds=40)
            seen.append(ages(registry))
            return number

        workflow = register_workflow(client, "ns", flow, start=False)
        activity = register_activity(client, "ns", hang, name="double", start=False)
        client.run_workflow("ns", flow, "r", 1)
        drain(workflow)
        drain(activity)
    assert seen == [{"workflow/ns/flow": 0.0, "activity/ns/double": 40.0}]


@pytest.mark.embedded
def test_q5_what_was_handled_without_storing_anything_does_not_wait(url: str) -> None:
    """Q5, L5: a run takes a response and goes on waiting: in a second the cursor says so."""

    def pair(ctx: RunContext, number: int) -> None:
        ctx.gather(ctx.call("double", number), ctx.call("slow", number))

    with watched(url, clock := Clock()) as (client, registry):
        workflow = register_workflow(client, "ns", pair, start=False)
        activity = register_activity(client, "ns", double, start=False)
        client.run_workflow("ns", pair, "r", 1)
        drain(workflow, activity)
        clock.forward(seconds=1)
        drain(workflow)
        clock.forward(hours=1)
        drain(workflow)
        assert ages(registry)["workflow/ns/pair"] == 0.0


@pytest.mark.embedded
def test_q5_a_consumer_far_behind_has_not_read_what_comes_next(url: str) -> None:
    """Q5, L5: more than 1,000 events behind, what it wants does not matter."""
    with watched(url, clock := Clock()) as (client, registry):
        consumer = consume(client, "mine", lambda event: None, namespace="other", start=False)
        drain(consumer)
        client.run_workflow("ns", flow, "first", 1)
        clock.forward(seconds=60)
        for number in range(999):
            client.run_workflow("ns", flow, f"r{number}", 1)
        assert ages(registry) == {"consumer/mine": 0.0}
        client.run_workflow("ns", flow, "last", 1)
        assert ages(registry) == {"consumer/mine": 60.0}
        assert of(values(shown(registry)), "replay_queue_events")["consumer/mine"] == 1001


@pytest.mark.embedded
def test_q5_a_shard_waits_for_its_own_runs_only(url: str) -> None:
    """Q5, H1: an event of another shard's is none of its business."""
    with watched(url, clock := Clock()) as (client, registry):
        shards = [Shard.hashed(m, 2) for m in (0, 1)]
        consumers = [
            register_workflow(client, "ns", flow, shard=shard, start=False) for shard in shards
        ]
        drain(*consumers)
        client.run_workflow("ns", flow, "r", 1)
        clock.forward(seconds=7)
        own = [shard.has("r") for shard in shards]
        assert sorted(own) == [False, True]
        assert ages(registry) == {
            f"workflow/ns/flow/{shard.name}": 7.0 if has else 0.0
            for shard, has in zip(shards, own, strict=True)
        }


@pytest.mark.embedded
def test_q5_parked_is_what_failed_not_what_is_executed(url: str) -> None:
    """Q5: an activity with several workers parks what it executes; that is no failure."""
    release = threading.Event()

    def hang(ctx: ActivityContext, backends: Any, number: int) -> int:
        release.wait()
        return number

    def broken(ctx: RunContext, number: int) -> None:
        raise ValueError("a bug")

    with watched(url) as (client, registry):
        consumers = [
            register_workflow(client, "ns", flow, start=False),
            register_workflow(client, "ns", broken, start=False),
        ]
        client.run_workflow("ns", flow, "r", 1)
        client.run_workflow("ns", broken, "r", 1)
        drain(*consumers)
        activity = register_activity(client, "ns", hang, name="double", workers=2, start=False)
        activity.step()
        assert [each.error for each in activity.parked()] == ["running"]
        found = of(values(shown(registry)), "replay_parked")
        assert (found["activity/ns/double"], found["workflow/ns/broken"]) == (0, 1)
        release.set()


@pytest.mark.embedded
def test_q5_a_consumer_that_nobody_owns_shows_it(url: str) -> None:
    """Q5: owned is 1 while a process holds the lease, and 0 once it has given the name up."""
    with watched(url) as (client, registry):
        consumer = register_workflow(client, "ns", flow, start=False)
        drain(consumer)
        assert of(values(shown(registry)), "replay_owned")["workflow/ns/flow"] == 1
        consumer.stop()
        assert of(values(shown(registry)), "replay_owned")["workflow/ns/flow"] == 0


@pytest.mark.damages
@pytest.mark.embedded
def test_q5_the_mark_of_signals_is_no_consumer(url: str) -> None:
    """Q5: the row has no owner and never will, so it would alarm for ever."""
    with watched(url) as (client, registry):
        drain(register_workflow(client, "ns", flow, start=False))
        with raw(url) as other:
            insert = "INSERT INTO replay_cursors (id, last_event_id, updated_at) VALUES (?, ?, ?)"
            other.run(insert, "replay_signal/seen", 7, "2029-01-01 00:00:00.000")
        assert of(values(shown(registry)), "replay_owned") == {"workflow/ns/flow": 1}


@pytest.mark.damages
@pytest.mark.embedded
def test_q5_rows_that_nobody_can_read_stop_no_scrape(url: str) -> None:
    """Q5, L3: other programs' rows are left out; the others are shown."""
    with watched(url, clock := Clock()) as (client, registry):
        drain(register_workflow(client, "ns", flow, start=False))
        client.run_workflow("ns", flow, "r", 1)
        with raw(url) as other:
            insert = "INSERT INTO replay_cursors (id, last_event_id, updated_at) VALUES (?, ?, ?)"
            other.run(insert, "consumer/bad", -1, "2029-01-01 00:00:00.000")
            other.add(Key("", "", ""), EventType.RUN_CREATED)
        clock.forward(seconds=3)
        assert ages(registry) == {"workflow/ns/flow": 3.0}


@pytest.mark.embedded
def test_q5_a_database_that_is_away_is_down_and_stops_no_scrape(url: str) -> None:
    """Q5: the other metrics are shown."""
    with watched(url) as (client, registry):
        drain(register_workflow(client, "ns", flow, start=False))
        client.log.database.close()
        assert values(shown(registry)) == {
            ("replay_database_up", ""): 0,
            ("replay_database_losses_total", ""): 0,
        }


@pytest.mark.embedded
def test_q5_a_scrape_writes_nothing_and_reads_no_messages(url: str) -> None:
    """Q5: a log is not slower for being watched."""
    with watched(url) as (client, registry):
        drain(register_workflow(client, "ns", flow, start=False))
        asked: list[str] = []
        query = client.log.database.query

        def noted(sql: str, parameters: Sequence[Any] = ()) -> Sequence[Row]:
            asked.append(sql)
            return query(sql, parameters)

        client.log.database.query = noted  # type: ignore[method-assign]
        shown(registry)
    assert asked
    assert [sql for sql in asked if "message" in sql or not sql.startswith("SELECT")] == []
    bounded = ("id > ?", "MAX(id)")
    events = [sql for sql in asked if "replay_events" in sql]
    assert [sql for sql in events if not any(each in sql for each in bounded)] == []
