"""What a scrape shows: the metrics that there are, with their labels, and how to read them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

#: What a process shows of its consumers, and a server of its sessions'.
OF_CONSUMERS = {
    "replay_events_total": ["consumer"],
    "replay_added_total": ["consumer"],
    "replay_failures_total": ["consumer"],
    "replay_retries_total": ["consumer"],
    "replay_lag_seconds": ["consumer"],
    "replay_activity_seconds_bucket": ["consumer", "le"],
    "replay_activity_seconds_count": ["consumer"],
    "replay_activity_seconds_sum": ["consumer"],
}
OF_LOGS = {
    "replay_database_up": ["database"],
    "replay_database_losses_total": ["database"],
    "replay_queue_age_seconds": ["consumer", "database"],
    "replay_queue_events": ["consumer", "database"],
    "replay_parked": ["consumer", "database"],
    "replay_owned": ["consumer", "database"],
}
OF_SERVERS = {
    "replay_server_sessions": [],
    "replay_server_waiting": [],
    "replay_server_refused_total": ["reason"],
}

Values = dict[tuple[str, ...], float]


def values(text: str) -> Values:
    """Each sample of an exposition, by its name and the values of its labels, sorted by name."""
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_created")  # which the package adds to each counter
    }


def labels(text: str) -> dict[str, list[str]]:
    """Each metric, and its labels."""
    return {
        sample.name: sorted(sample.labels)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def shown(registry: CollectorRegistry) -> str:
    """What a scrape of it gives."""
    return generate_latest(registry).decode()
