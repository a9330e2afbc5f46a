"""Checks a log in which every journey has come to its end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from replay import Client
from replay.tools.audit import audited
from tests import journey
from tests.support import listing, rows


def audit(url: str, client: Client, runs: Mapping[str, int], executed: Iterable[str]) -> None:
    """The log keeps its promises, and every run has exactly the events of one without a crash.

    Nothing waits any more.  `executed` has each activity, at least once: no log shows that.
    """
    assert [str(finding) for finding in audited(url)] == []
    for run, value in runs.items():
        found = listing(client, journey.NAMESPACE, "journey", run)
        assert found == journey.events(run, value)
    total = sum(len(journey.events(*run)) for run in runs.items())
    assert len(listing(client)) == total
    assert set(executed) == {call for run in runs for call in journey.calls_of(run)}
    assert rows(client, "SELECT * FROM replay_parked") == []
    assert rows(client, "SELECT id FROM replay_signals WHERE check_id IS NULL") == []
    asleep = "SELECT COUNT(*) FROM replay_sleeps WHERE completed = ?"
    assert [rows(client, asleep, done) for done in (0, 1)] == [[(0,)], [(2 * len(runs),)]]
