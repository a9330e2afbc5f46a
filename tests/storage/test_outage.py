"""A database that goes away under load, in every way that it can, and comes back."""

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pymysql
import pytest

from replay import Client, Unavailable, connect
from tests import journey
from tests.servers import Server
from tests.servers import connect as connect_to_server
from tests.support import LogLines, listing

LIMIT = 90  # seconds until something that has to happen has not happened
RUNS = {f"run-{n}": n + 1 for n in range(10)}
TOTAL = sum(len(journey.events(run, value)) for run, value in RUNS.items())


class Load:
    """Two clients, as of two processes, at work on ten runs, and a third one that watches."""

    def __init__(self, workers: list[Client], watcher: Client) -> None:
        self.workers, self.watcher = workers, watcher
        self.calls: list[str] = []
        for client in workers:
            journey.staff(client, self.calls)
        for run, value in RUNS.items():
            journey.begin(watcher, run, value)
        self._events = watcher.stream()
        self._seen = 0

    def until(self, count: int) -> None:
        """Wait until the log has so many events."""
        while self._seen < count:
            next(self._events)
            self._seen += 1

    def assert_done(self) -> None:
        """All runs complete, and their events are as if nothing had happened."""
        for run, value in RUNS.items():
            self.watcher.await_completion(journey.NAMESPACE, "journey", run, LIMIT)
            found = listing(self.watcher, journey.NAMESPACE, "journey", run)
            assert found == journey.events(run, value)
        assert len(listing(self.watcher)) == TOTAL
        assert set(self.calls) == {call for run in RUNS for call in journey.calls_of(run)}


@contextmanager
def load(url: str) -> Iterator[Load]:
    with connect(url) as a, connect(url) as b, connect(url, loops=False) as watcher:
        yield Load([a, b], watcher)


def assert_said_once(log: LogLines, clients: int) -> None:
    """Each client's log has one line of the outage, whose first minute this is."""
    assert len(log.of("cannot be reached, waiting for it")) == clients


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_p16_everything_waits_for_a_server_that_is_started_again(
    own_server: Server, how: str
) -> None:
    """P16, L6, R2: killed with -9 or shut down in the middle of the work, and started again: all

    runs complete, nothing is lost or doubled, and the log says so once and not for each attempt.
    """
    with load(own_server.url) as running, LogLines() as log:
        running.until(TOTAL // 3)
        getattr(own_server, how)()
        log.wait_for("cannot be reached, waiting for it")
        with pytest.raises(Unavailable):
            running.watcher.run_workflow("ns", "flow", "r", None)
        own_server.start()
        running.assert_done()
        assert log.of("failed and starts again") == []
        assert_said_once(log, clients=3)


def test_p16_an_idle_client_notices_and_returns(own_server: Server) -> None:
    """P16: nobody does anything when the server goes: work begun later is done."""
    with connect(own_server.url) as client, LogLines() as log:
        calls: list[str] = []
        journey.staff(client, calls)
        journey.begin(client, "before", 1)
        client.await_completion(journey.NAMESPACE, "journey", "before", LIMIT)
        own_server.kill()
        log.wait_for("cannot be reached, waiting for it")
        own_server.start()
        journey.begin(client, "after", 1)
        client.await_completion(journey.NAMESPACE, "journey", "after", LIMIT)
        assert listing(client) == journey.events("before", 1) + journey.events("after", 1)
        assert set(calls) == {*journey.calls_of("before"), *journey.calls_of("after")}
        assert_said_once(log, clients=1)


def test_p16_streams_and_awaits_wait_for_a_server(own_server: Server) -> None:
    """P16, L4: a stream, and one who waits for a run's end, outlive the outage as consumers do."""
    with connect(own_server.url) as client, ThreadPoolExecutor(2) as pool, LogLines() as log:
        journey.staff(client, [])
        stream = client.stream(journey.NAMESPACE)
        expected = journey.events("r", 1)
        found = pool.submit(lambda: [next(stream).type.name for _ in expected])
        ended = pool.submit(client.await_completion, journey.NAMESPACE, "journey", "r", LIMIT)
        own_server.kill()
        log.wait_for("cannot be reached, waiting for it")
        own_server.start()
        journey.begin(client, "r", 1)
        assert ended.result(LIMIT) is None
        assert found.result(LIMIT) == [line.split()[0] for line in expected]


def test_l6_connections_that_are_killed_lose_and_double_nothing(own_server: Server) -> None:
    """L6, L7, P16: again and again all connections are killed, whatever they are doing."""
    with load(own_server.url) as running:
        for part in range(1, 5):
            running.until(TOTAL * part // 5)
            kill_connections(own_server.url)
        running.assert_done()


def kill_connections(url: str) -> None:
    with connect_to_server(url) as root, root.cursor() as command:
        command.execute("SELECT id FROM information_schema.processlist WHERE db IS NOT NULL")
        for (connection,) in command.fetchall():
            try:
                command.execute("KILL %s", [connection])
            except pymysql.err.OperationalError as error:
                assert error.args[0] == 1094  # noqa: PT017 - it has ended meanwhile


def test_a_server_that_pauses_is_waited_for(own_server: Server) -> None:
    """A server that stands still for a moment loses nobody: calls return when it goes on."""
    with load(own_server.url) as running, ThreadPoolExecutor(1) as pool, LogLines() as log:
        running.until(TOTAL // 3)
        own_server.suspend()
        started = pool.submit(journey.begin, running.watcher, "late", 1)
        own_server.resume()
        assert started.result(LIMIT) is None
        running.watcher.await_completion(journey.NAMESPACE, "journey", "late", LIMIT)
        late = listing(running.watcher, journey.NAMESPACE, "journey", "late")
        assert late == journey.events("late", 1)
        for run, value in RUNS.items():
            running.watcher.await_completion(journey.NAMESPACE, "journey", run, LIMIT)
            found = listing(running.watcher, journey.NAMESPACE, "journey", run)
            assert found == journey.events(run, value)
        assert log.of("cannot be reached") == []


def test_l6_p15_a_server_that_is_frozen_for_too_long(
    own_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L6, P15: who has given up waiting for an answer cannot know what the server will still do.

    What was sent to it before is committed when it goes on, after its sender has begun anew.
    """
    impatient(monkeypatch)
    with load(own_server.url) as running, LogLines() as log:
        running.until(TOTAL // 3)
        own_server.suspend()
        log.wait_for("cannot be reached, waiting for it")
        own_server.resume()
        running.assert_done()


def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have connections wait for an answer for a second instead of half a minute."""
    connect = pymysql.connect

    def connect_impatiently(**arguments: Any) -> Any:
        limits = {"read_timeout": 1.2, "write_timeout": 1.2, "connect_timeout": 1}
        return connect(**{**arguments, **limits})

    monkeypatch.setattr("replay.storage.mysql.pymysql.connect", connect_impatiently)


def test_p16_everything_waits_for_a_sqlite_file_that_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P16, L6: another program holds the file's lock for too long: the same promises hold."""
    file = tmp_path / "replay.db"
    with load(f"sqlite:///{file}") as running, LogLines() as log:
        monkeypatch.setattr("replay.storage.sqlite._BUSY_TIMEOUT", 0.02)
        running.until(TOTAL // 3)
        with closing(sqlite3.connect(file, timeout=60, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            log.wait_for("cannot be reached, waiting for it: database is locked")
            with pytest.raises(Unavailable, match="database is locked"):
                running.watcher.run_workflow("ns", "flow", "r", None)
            other.execute("ROLLBACK")
        running.assert_done()
        assert log.of("failed and starts again") == []
