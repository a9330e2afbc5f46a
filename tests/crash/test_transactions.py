"""Every point at which a process can die around transactions of the user's own, once each."""

from __future__ import annotations

import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext

import pytest

from replay import ActivityContext, Client, register_activity
from tests.crash.point import AFTER, BEFORE, Point, points, watch
from tests.crash.test_points import LIMIT, NOWHERE, clear, forks
from tests.support import Clock, drain, mine, raw, request, rows, stepped
from tests.test_exactly_once import key
from tests.test_outbox import NS, W, log, mover, signals

__all__ = ["forks"]

RUNS = "abc"
PARTS = 4  # of the points; all but the first are slow
#: To die after a statement is one point (see `points`), so it is the first part's.
parts = pytest.mark.parametrize(
    ("how", "part"),
    [
        (BEFORE, 0),
        (AFTER, 0),
        *(pytest.param(BEFORE, part, marks=pytest.mark.slow) for part in range(1, PARTS)),
    ],
)


def send(client: Client, url: str, point: Point) -> None:
    """Start and signal runs together with rows; the transaction of the second is rolled back."""
    with mine(url) as connection:
        outbox = client.within(connection)

        def thing(run: str) -> None:
            connection.cursor().execute(f"INSERT INTO things VALUES ('{run}')")

        for run in RUNS:
            steps: list[Callable[[], object]] = [
                lambda run=run: thing(run),  # type: ignore[misc]
                lambda run=run: outbox.run_workflow(NS, W, run, "tea"),  # type: ignore[misc]
                lambda run=run: outbox.signal_run(NS, W, run, 1, 7, "x"),  # type: ignore[misc]
                connection.rollback if run == "b" else connection.commit,
            ]
            for step in steps:
                point.reached(BEFORE)
                step()
                point.reached(AFTER)
            drain(mover(client))


def serve(client: Client, url: str = "", point: Point | None = None) -> None:
    """Execute the requests: each adds 1, and a row."""

    def add(ctx: ActivityContext, backends: None, message: None) -> None:
        ctx.cursor.execute("UPDATE sums SET total = total + 1")
        ctx.cursor.execute("INSERT INTO things VALUES (?)", (ctx.run,))

    drain(register_activity(client, "ns", add, name="pay", transactional=True, start=False))


ACTS = {"send": send, "serve": serve}


def victim(url: str, act: str, at: int, how: str, answer: Connection) -> None:
    """The process to be killed; if the point is never reached it tells how many there are."""
    point = Point(at, how)
    with stepped(url, Clock()) as client:
        watch(client, point)
        ACTS[act](client, url, point)
    answer.send(point.count)


def die(
    forks: ForkServerContext, url: str, act: str, at: int, how: str
) -> tuple[int | None, int | None]:
    """Begin anew, and have a process die at a point."""
    clear(url)
    with raw(url) as other:
        other.run("DELETE FROM things")
        other.run("UPDATE sums SET total = 0")
    with stepped(url) as client:
        for run in RUNS if act == "serve" else "":
            request(client, key(run))
    ours, theirs = forks.Pipe(duplex=False)
    with ours, theirs:
        process = forks.Process(target=victim, args=(url, act, at, how, theirs))
        process.start()
        process.join(LIMIT)
        return process.exitcode, ours.recv() if ours.poll() else None


def prepared(url: str) -> None:
    """Make the user's own tables."""
    with stepped(url), raw(url) as other:
        other.run("CREATE TABLE things (name VARCHAR(10))")
        other.run("CREATE TABLE sums (total BIGINT)")
        other.run("INSERT INTO sums VALUES (0)")


@parts
def test_v4_a_process_dies_at_each_statement_of_an_outbox(
    forks: ForkServerContext, url: str, how: str, part: int
) -> None:
    """V4, L6: of the program's transaction and of the mover's.  Rows and runs are there together.

    A run is there once if the program's row is, and not at all if it is not.
    """
    prepared(url)
    status, total = die(forks, url, "send", NOWHERE, how)
    assert (status, total is not None and total > 20) == (0, True)
    for at in points(total or 0, how)[part::PARTS]:
        assert die(forks, url, "send", at, how) == (-signal.SIGKILL, None)
        with stepped(url) as client:
            drain(mover(client))
            there = [name for (name,) in rows(client, "SELECT name FROM things ORDER BY name")]
            assert "b" not in there
            assert [text for _, text, _ in log(client)] == [f"{NS}/{W}/{run}/0" for run in there]
            assert signals(client) == [(run, 1, "x", b"7") for run in there]
            assert rows(client, "SELECT * FROM replay_inbox") == []


@parts
def test_v5_a_process_dies_at_each_statement_of_a_step(
    forks: ForkServerContext, url: str, how: str, part: int
) -> None:
    """V5, L6, A1: what an activity has recorded is executed once, whenever the process dies."""
    prepared(url)
    status, total = die(forks, url, "serve", NOWHERE, how)
    assert (status, total is not None and total > 10) == (0, True)
    for at in points(total or 0, how)[part::PARTS]:
        assert die(forks, url, "serve", at, how) == (-signal.SIGKILL, None)
        with stepped(url) as client:
            answered = "SELECT run FROM replay_events WHERE type = 5 ORDER BY run"
            there = rows(client, answered)
            assert rows(client, "SELECT name FROM things ORDER BY name") == there
            assert rows(client, "SELECT total FROM sums") == [(len(there),)]
            serve(client)
            assert rows(client, answered) == [(run,) for run in RUNS]
            assert rows(client, "SELECT name FROM things ORDER BY name") == rows(client, answered)
            assert rows(client, "SELECT total FROM sums") == [(len(RUNS),)]
