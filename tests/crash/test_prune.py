"""Every point at which a process can die while it prunes, once each."""

import signal
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from typing import Any
from unittest.mock import patch

import pytest

import replay.retention
from replay import Client, Shard
from tests.crash.point import Point, points, watch
from tests.crash.test_points import LIMIT, NOWHERE, forks
from tests.crash.test_transactions import PARTS, parts
from tests.support import START, Clock, dump, listing, restore, rows, stepped
from tests.test_retention import DAY, NOW, Cluster, emptied

__all__ = ["forks"]

#: What has to be as it is without a crash.
TABLES = ("replay_events", "replay_sleeps", "replay_signal_awaits", "replay_signals")


def prune(client: Client, forget: bool) -> None:
    """In transactions as small as they get."""
    with patch.object(replay.retention, "_CHUNK", 1):
        client.prune(NOW, forget=forget)


def victim(url: str, at: int, how: str, forget: bool, answer: Connection) -> None:
    """The process to be killed; if the point is never reached it tells how many there are."""
    point = Point(at, how)
    with stepped(url, Clock(START + DAY)) as client:
        watch(client, point)
        prune(client, forget)
    answer.send(point.count)


def die(
    forks: ForkServerContext, url: str, at: int, how: str, forget: bool
) -> tuple[int | None, int | None]:
    ours, theirs = forks.Pipe(duplex=False)
    with ours, theirs:
        process = forks.Process(target=victim, args=(url, at, how, forget, theirs))
        process.start()
        process.join(LIMIT)
        return process.exitcode, ours.recv() if ours.poll() else None


def tables(client: Client) -> list[list[tuple[Any, ...]]]:
    return [rows(client, f"SELECT * FROM {table} ORDER BY id") for table in TABLES]


@pytest.mark.parametrize("forget", [False, True])
@parts
def test_l9_a_process_dies_at_each_statement_of_a_prune(
    forks: ForkServerContext, url: str, how: str, part: int, forget: bool
) -> None:
    """L9, L6, P22: what it leaves revives no run for a consumer that reads from the beginning.

    And the next prune leaves what one without a crash does.
    """
    with stepped(url, clock := Clock()) as client:
        Cluster(client, clock).run("r", "s")
        backup = dump(client)
        status, total = die(forks, url, NOWHERE, how, forget)
        assert status == 0
        wanted = tables(client)
        assert sorted(listing(client)) == ([] if forget else sorted(emptied("r", "s")))
    assert total is not None
    assert total > 30
    for at in points(total, how)[part::PARTS]:
        with stepped(url) as client:
            restore(client, backup)
        assert die(forks, url, at, how, forget) == (-signal.SIGKILL, None)
        with stepped(url, late := Clock(START + DAY)) as client:
            fresh = Cluster(client, late, Shard("all", lambda run: True))
            fresh.work()
            assert fresh.calls == []
            prune(client, forget)
            assert tables(client) == wanted
