"""Signal handlers: a call in one is refused at once, or does all of it; and how to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from replay import Client, Error, connect, consume
from replay.storage.database import Reentered
from tests.example_pb2 import Int
from tests.support import LogLines, listing, rows
from tests.test_interrupt import LIMIT, Interrupt, everything

pytestmark = pytest.mark.contract

ROOT = Path(__file__).parent.parent


def step_of(url: str, sqlite: int, server: int) -> int:
    """Look at every so many places: a driver and gRPC have thousands."""
    return sqlite if url.startswith("sqlite:") else server


def in_time(call: Callable[[Callable[[], None]], None]) -> None:
    """Call it with a function that says that it goes on, and notice if it hangs."""
    problems: list[BaseException] = []
    ticks: list[None] = []

    def run() -> None:
        try:
            call(lambda: ticks.append(None))
        except BaseException as error:
            problems.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive():
        before = len(ticks)
        thread.join(LIMIT)
        assert not thread.is_alive() or len(ticks) > before, "it hangs"
    for problem in problems:
        raise problem


def test_a_call_in_a_handler_is_refused_or_done(url: str) -> None:
    """R1, S1: it stores all or nothing, says which, and does not hurt what it interrupted."""
    done: dict[str, bool] = {}

    def handler(client: Client, name: str) -> None:
        try:
            assert client.run_workflow("ns", "flow", f"h{name}", Int(value=1))
            assert client.signal_run("ns", "flow", f"h{name}", 1, None, "x")
            done[name] = True
        except Reentered:
            done[name] = False

    def everywhere(goes_on: Callable[[], None]) -> None:
        with connect(url) as client, LogLines() as log:
            consume(client, "c", lambda event: None)
            number, last, interrupted = 0, 0, True
            while interrupted:
                goes_on()
                number += step_of(url, 2, 97)
                name = f"r{number}"
                call = Interrupt(number, partial(handler, client, name))
                interrupted = call.during(partial(everything, client, name, last))
                last = client.log.tail.end
            stored = set(listing(client))
            for name, did in done.items():
                assert f"RUN_CREATED ns/flow/{name}/0 value: 1" in stored
                assert (f"RUN_CREATED ns/flow/h{name}/0 value: 1" in stored) is did, name
            sent = rows(client, "SELECT run FROM replay_signals WHERE type = 1 ORDER BY id")
            assert sent == [(f"h{name}",) for name, did in done.items() if did]
            assert log.lines == []

    in_time(everywhere)
    assert set(done.values()) == {True, False}


def test_close_in_a_handler_is_refused_or_done(url: str) -> None:
    """L7: it never waits for a thread that waits for what was interrupted."""
    done: set[bool] = set()

    def handler(client: Client) -> None:
        try:
            client.close()
            done.add(True)
        except Reentered:
            done.add(False)

    def everywhere(goes_on: Callable[[], None]) -> None:
        number, interrupted = 0, True
        while interrupted:
            goes_on()
            number += step_of(url, 23, 97)
            with connect(url, loops=False) as client:
                consume(client, "c", lambda event: None)
                call = Interrupt(number, partial(handler, client))
                try:
                    interrupted = call.during(partial(everything, client, "r", 0))
                except Error:  # it was closed
                    interrupted = True

    in_time(everywhere)
    assert done == {True, False}


# What docs/deployment.md tells programs to do.
PROGRAM = """
import signal, sys
from replay import connect, consume
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
with connect(sys.argv[1], loops=False) as client:
    consume(client, "c", lambda event: None)
    for n in range(1_000_000):
        assert client.run_workflow("ns", "flow", f"r{n}", None)
        print(n, flush=True)
"""


@pytest.mark.embedded
@pytest.mark.parametrize("calls", [1, 40, 41])
def test_a_program_that_exits_in_its_handler_gives_its_names_up(url: str, calls: int) -> None:
    """L7: SIGTERM ends it in good order, wherever it comes."""
    command = [sys.executable, "-c", PROGRAM, url]
    # To measure coverage, coverage calls Python functions of its own at each step, and drops what
    # a handler raises in them.
    env = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        for _ in range(calls):
            program.stdout.readline()
        program.send_signal(signal.SIGTERM)
        program.stdout.read()
        assert program.wait(LIMIT) == 0
    with connect(url, loops=False) as client:
        assert rows(client, "SELECT id FROM replay_cursors WHERE owner <> ''") == []
        started = [event.key.run for event in client.stream(to_head=True)]
        assert started == [f"r{n}" for n in range(len(started))]
        assert len(started) >= calls
