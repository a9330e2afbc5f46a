"""What has to be true of a log in which every run has come to its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from replay import Client, EventType
from tests import journey
from tests.support import listing, rows


def audit(client: Client, runs: Mapping[str, int], executed: Iterable[str]) -> None:
    """Every run of `journey` has exactly the events that it would have had without a crash.

    And what the tables say agrees with the log.
    """
    for run, value in runs.items():
        found = listing(client, journey.NAMESPACE, "journey", run)
        assert found == journey.events(run, value)
    events = list(client.stream(to_head=True))
    assert len(events) == sum(len(journey.events(*run)) for run in runs.items())
    assert max(Counter((event.type, event.key) for event in events).values()) == 1
    requests, responses = (
        {event.key for event in events if event.type is type}
        for type in (EventType.ACTIVITY_REQUEST, EventType.ACTIVITY_RESPONSE)
    )
    assert requests == responses
    assert set(executed) == {call for run in runs for call in journey.calls_of(run)}
    _audit_tables(client, len(runs))


def _audit_tables(client: Client, runs: int) -> None:
    newest, signals = client.log.database.newest()
    ahead = "SELECT id FROM replay_cursors WHERE last_event_id > ?"
    assert rows(client, f"{ahead} AND id <> 'replay_signal/seen'", newest) == []
    assert rows(client, f"{ahead} AND id = 'replay_signal/seen'", signals) == []
    assert rows(client, "SELECT * FROM replay_parked") == []
    # Each of the two signals of a run was taken, by an await of that run, which took no other.
    taken = rows(
        client,
        "SELECT a.`key`, s.run, s.external_id FROM replay_signals s"
        " JOIN replay_signal_awaits a ON a.id = s.check_id WHERE a.status = 3",
    )
    assert len({key for key, _, _ in taken}) == len(taken) == 2 * runs
    for key, run, external_id in taken:
        iteration = "ab".index(external_id)
        assert key == f"{journey.NAMESPACE}/journey/{run}/{iteration}/replay_signal/1:0"
    asleep = "SELECT COUNT(*) FROM replay_sleeps WHERE completed = ?"
    assert [rows(client, asleep, done) for done in (0, 1)] == [[(0,)], [(2 * runs,)]]
