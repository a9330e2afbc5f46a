"""Figures of consumers for Prometheus (extra: metrics).

    figures = Prometheus()
    replay.register_workflow(client, "ns", flow, metrics=figures)
    replay.register_activity(client, "ns", price, metrics=figures)

`metrics` may also be any other callable that takes (consumer, measure, figure).
"""

from __future__ import annotations

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge


class Prometheus:
    """Counts events read, events added and failed attempts, and shows the lag, per consumer."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        labels = ["consumer"]
        self._counters = {
            "events": Counter("replay_events", "Events read", labels, registry=registry),
            "added": Counter("replay_added", "Events added to the log", labels, registry=registry),
            "parked": Counter("replay_parked", "Attempts that failed", labels, registry=registry),
        }
        self._lag = Gauge(
            "replay_lag_seconds", "Age of the newest event read", labels, registry=registry
        )

    def __call__(self, consumer: str, measure: str, figure: float) -> None:
        """Take one figure.  See `replay.consumer.Consumer`."""
        if measure == "lag":
            self._lag.labels(consumer).set(figure)
        else:
            self._counters[measure].labels(consumer).inc(figure)
