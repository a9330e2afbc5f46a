"""Metrics for Prometheus (extra: metrics).

    figures = Prometheus()
    replay.register_workflow(client, "ns", flow, metrics=figures)
    replay.register_activity(client, "ns", price, metrics=figures)
    REGISTRY.register(Backlog(client.log))
    start_http_server(9464, addr="127.0.0.1")

`metrics` may also be any other callable that takes (consumer, measure, figure).
`docs/operations.md` says what each metric means, with a query and an alert.

Invariant: a label is a consumer's name, so it holds names of workflows and activities, never a run
id.  There are at most 1,000 consumers; further ones share the label `other`.
"""

from __future__ import annotations

import re
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from datetime import datetime, timedelta

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from ..consumer import consumer_name
from ..log import Log, checked_cursor, has_ended
from ..shard import fnv1a, jump_hash
from ..signal import SEEN
from ..signal import TARGET as SIGNALS
from ..sleep import TARGET as SLEEPS
from ..storage.database import DatabaseError, Error, from_text
from ..storage.event import EventType, Key
from ..storage.tail import BATCH

MOST = 1000  # consumers that have a label of their own
OTHER = "other"
_SHARD = re.compile(r"([1-9]\d{0,5})_of_([1-9]\d{0,5})")
#: The upper ends of the histogram's buckets, in seconds: from a call in memory to a slow report.
BUCKETS = (0.001, 0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800)


class NoDatabase(Error, TypeError):
    """A log that is behind a server has no database to ask."""


class Prometheus:
    """Counts what consumers do, and how long activities take; pass it as `metrics`.

    Each metric has the label `consumer`.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        labels = ["consumer"]
        self._counters = {
            "events": Counter("replay_events", "Events passed", labels, registry=registry),
            "added": Counter("replay_added", "Events added to the log", labels, registry=registry),
            "failed": Counter("replay_failures", "Attempts that failed", labels, registry=registry),
            "retried": Counter(
                "replay_retries", "Attempts after one that failed", labels, registry=registry
            ),
        }
        self._lag = Gauge(
            "replay_lag_seconds", "Age of the newest event passed", labels, registry=registry
        )
        self._duration = Histogram(
            "replay_activity_seconds",
            "How long each attempt at an activity took",
            labels,
            buckets=BUCKETS,
            registry=registry,
        )
        self._known: set[str] = set()

    def __call__(self, consumer: str, measure: str, figure: float) -> None:
        """Take one figure.  See `replay.consumer.Consumer`."""
        if consumer not in self._known:
            if len(self._known) >= MOST:
                consumer = OTHER
            self._known.add(consumer)
        if measure == "lag":
            self._lag.labels(consumer).set(figure)
        elif measure == "duration":
            self._duration.labels(consumer).observe(figure)
        else:
            self._counters[measure].labels(consumer).inc(figure)


class Backlog:
    """Shows what waits in a log, and who serves it: a collector that asks the database itself.

    So it also shows consumers whose process hangs or has ended.  It takes a few queries, and reads
    no messages.  Register it in one process of a log; a server does that by itself.  Raises
    `NoDatabase` for the log of a server's client.
    """

    def __init__(self, log: Log) -> None:
        if getattr(log, "database", None) is None:
            raise NoDatabase(
                f"{log.name} is a server, which shows its queues itself: start it with --metrics"
            )
        self._log = log

    def describe(self) -> Sequence[Metric]:
        """Name the metrics, so that the registry need not collect them for that."""
        return backlogs({})

    def collect(self) -> Sequence[Metric]:
        """As in `Collector`."""
        return backlogs({"": self._log})


def backlogs(logs: Mapping[str, Log]) -> Sequence[Metric]:
    """Ask databases, each under a name.  One that cannot answer is down, and shows no consumers."""

    def gauge(name: str, text: str, *more: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"replay_{name}", text, labels=["database", *more])

    up = gauge("database_up", "Whether the database answers")
    lost = CounterMetricFamily("replay_database_losses", "Connections lost", labels=["database"])
    of_consumers = (
        gauge("queue_age_seconds", "Age of the oldest event not handled", "consumer"),
        gauge("queue_events", "Events after the stored cursor", "consumer"),
        gauge("parked", "Events whose last attempt failed", "consumer"),
        gauge("owned", "Whether a live process owns the consumer", "consumer"),
    )
    for name, log in logs.items():
        try:
            consumers, answers = _asked(log), 1
        except Error:
            consumers, answers = {}, 0
        up.add_metric([name], answers)
        lost.add_metric([name], log.losses)
        for consumer, figures in consumers.items():
            for family, figure in zip(of_consumers, figures, strict=True):
                family.add_metric([name, consumer], figure)
    return [up, lost, *of_consumers]


#: Queue age, events after the cursor, parked events, and whether a live process owns the name.
_Figures = tuple[float, int, int, bool]


def _asked(log: Log) -> dict[str, _Figures]:
    """Ask in a thread of its own: its connection ends with it, and holds no consumer's lock."""
    answer: Future[dict[str, _Figures]] = Future()

    def ask() -> None:
        try:
            answer.set_result(dict(_consumers(log)))
        except BaseException as error:  # for the thread that waits
            answer.set_exception(error)
        finally:
            log.leave()

    threading.Thread(target=ask, name="replay-metrics", daemon=True).start()
    return answer.result()


def _consumers(log: Log) -> Iterator[tuple[str, _Figures]]:
    query, now, newest = log.database.query, log.now(), log.newest()
    recent = _Recent(log, newest)
    failed = "SELECT consumer, COUNT(*) FROM replay_parked WHERE attempts > 0 GROUP BY consumer"
    parked: dict[str, int] = dict(query(failed))
    cursors = "SELECT id, last_event_id, lease_until FROM replay_cursors WHERE id <> ?"
    for name, cursor, lease in query(f"{cursors} ORDER BY id LIMIT ?", (SEEN, MOST)):
        with suppress(DatabaseError):  # a cursor that is no id, which its owner reports
            position = checked_cursor(name, cursor)
            age = recent.age(name, position, now).total_seconds()
            behind, owned = max(0, newest - position), not has_ended(lease, now)
            yield name, (max(0.0, age), behind, parked.get(name, 0), owned)


class _Recent:
    """The newest 1,000 events, by the consumer that handles them."""

    def __init__(self, log: Log, newest: int) -> None:
        self._query = log.database.query
        self._start = newest - BATCH
        self._events: dict[str, list[tuple[int, str, datetime]]] = defaultdict(list)
        sql = "SELECT id, type, `key`, timestamp FROM replay_events WHERE id > ? AND id <= ?"
        for id, type, text, moment in self._query(f"{sql} ORDER BY id", (self._start, newest)):
            with suppress(TypeError, ValueError):  # nobody can read the event, or handles it
                key = Key.parse(str(text))
                self._events[_handler(type, key)].append((id, key.run, from_text(moment)))

    def age(self, consumer: str, cursor: int, now: datetime) -> timedelta:
        """How old the oldest event is that a consumer has to handle; 0 if there is none.

        It passes 1,000 events at most that it does not want before it stores its cursor (L5).  A
        consumer that is further behind has not read the events after its cursor.
        """
        if cursor < self._start:
            sql = "SELECT timestamp FROM replay_events WHERE id > ? ORDER BY id LIMIT 1"
            moments = [from_text(moment) for (moment,) in self._query(sql, (cursor,))]
        else:
            moments = [moment for id, moment in self._of(consumer) if id > cursor]
        return now - moments[0] if moments else timedelta(0)

    def _of(self, consumer: str) -> Iterator[tuple[int, datetime]]:
        name, _, shard = consumer.rpartition("/")
        of = _SHARD.fullmatch(shard) if consumer not in self._events else None
        for id, run, moment in self._events.get(consumer if of is None else name, ()):
            if of is None or jump_hash(fnv1a(run.encode()), int(of[2])) == int(of[1]) - 1:
                yield id, moment


def _handler(type: int, key: Key) -> str:
    """The consumer that handles an event.  Raises `ValueError` if there is none."""
    if type == EventType.ACTIVITY_REQUEST:
        if key.target in (SLEEPS, SIGNALS):
            return key.target
        return consumer_name("activity", key.namespace, key.target)
    if type in (EventType.RUN_CREATED, EventType.ACTIVITY_RESPONSE):
        return consumer_name("workflow", key.namespace, key.workflow)
    raise ValueError(f"nobody handles events of type {type}")
