"""A server that is killed and comes back without the last of what it had acknowledged."""

from pathlib import Path

from replay import Client, Event
from tests import journey
from tests.crash.audit import audit
from tests.crash.point import ask
from tests.crash.siege import LIMIT, Team
from tests.servers import Server, connect
from tests.support import stepped

RUNS = {f"run-{n}": n + 1 for n in range(12)}


def write_seldom(server: Server) -> None:
    """From now on nothing that is committed reaches the disk; what was before does, now."""
    with connect(server.url) as root, root.cursor() as command:
        # Each commit writes all that was committed before it.
        command.execute("SET GLOBAL innodb_flush_log_at_trx_commit = 1")
        command.execute("CREATE TABLE IF NOT EXISTS replay.written (n INT)")
        command.execute("INSERT INTO replay.written VALUES (1)")
        command.execute("SET GLOBAL innodb_flush_log_at_timeout = 2700")
        command.execute("SET GLOBAL innodb_flush_log_at_trx_commit = 0")


def finish(client: Client, runs: list[str]) -> None:
    for run in runs:
        ask(client, run, RUNS[run])
    for run in runs:
        client.await_completion(journey.NAMESPACE, "journey", run, LIMIT)


def log_of(client: Client) -> list[tuple[int, str]]:
    events: list[Event] = list(client.stream(to_head=True))
    return [(event.id, event.text) for event in events]


def test_l1_l5_l6_a_server_loses_transactions_and_everybody_goes_on(
    own_server: Server, tmp_path: Path
) -> None:
    """L1, L5, L6, R2: what it comes back with is a beginning of the log; lost ids are given again.

    Workers that live on drop what they have in memory, and go on from what is there; the runs that
    were lost are asked for again.  In the end the log is one without a crash.
    """
    first, second = list(RUNS)[:4], list(RUNS)[4:8]
    with stepped(own_server.url) as client, Team(own_server.url, tmp_path / "notes") as team:
        finish(client, first)
        kept = log_of(client)
        write_seldom(own_server)
        finish(client, second)
        had = log_of(client)
        own_server.kill()
        own_server.start()
        with stepped(own_server.url) as another:
            # Some of the second may have been written with other pages; none of the first is lost.
            found = log_of(another)
            assert had[: len(kept)] == kept
            assert found[: len(kept)] == kept
            assert len(found) < len(had)
            finish(another, list(RUNS))
            audit(own_server.url, another, RUNS, team.executed())
            assert log_of(client) == log_of(another)
