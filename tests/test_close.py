"""Closing a client: it waits for what runs, but not for ever, and stores nothing afterwards."""

from __future__ import annotations

import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from replay import Client, Key, connect, consume, register_activity
from tests.example_pb2 import Int
from tests.support import LogLines, drain, listing, request, start_runs, stepped, take_over

pytestmark = pytest.mark.contract

LIMIT = 60  # seconds until something that has to happen has not happened
ROOT = Path(__file__).parent.parent
KEY = Key("ns", "flow", "r", 0, "act", "0")


def ask(client: Client) -> None:
    request(client, KEY, Int(value=1))


@pytest.mark.parametrize("workers", [1, 2])
def test_it_waits_for_an_activity_that_ends_in_time(url: str, workers: int) -> None:
    """A1: with one worker or several, the response is stored, and nobody executes it again."""
    begun, calls = threading.Event(), list[int]()

    def act(ctx: object, backends: object, message: Int) -> Int:
        calls.append(message.value)
        begun.set()
        assert consumer._stop.wait(LIMIT)
        return message

    with stepped(url) as other, connect(url, loops=False) as client, LogLines() as log:
        consumer = register_activity(client, "ns", act, workers=workers)
        ask(other)
        assert begun.wait(LIMIT)
        client.close()
        again = register_activity(other, "ns", act, start=False)
        take_over(again)
        drain(again)
        assert listing(other) == [
            f"ACTIVITY_REQUEST {KEY} value: 1",
            f"ACTIVITY_RESPONSE {KEY} value: 1",
        ]
        assert (calls, log.lines) == ([1], [])


@pytest.mark.parametrize("workers", [1, 2])
def test_it_leaves_an_activity_that_hangs(url: str, workers: int) -> None:
    """A1, L7: another process executes it again, and the late response is not stored."""
    begun, gate = threading.Event(), threading.Event()

    def hangs(ctx: object, backends: object, message: Int) -> Int:
        begun.set()
        assert gate.wait(LIMIT)
        return message

    def works(ctx: object, backends: object, message: Int) -> Int:
        return Int(value=2)

    with stepped(url) as other, LogLines() as log:
        client = connect(url, loops=False)
        register_activity(client, "ns", hangs, name="act", workers=workers)
        ask(other)
        assert begun.wait(LIMIT)
        threads = [each for each in threading.enumerate() if each.name.startswith("activity/")]
        client.close(timedelta(0))
        assert log.of("left behind") == [
            f"activity/ns/act still runs after 0 s and is left behind; others do it again: {KEY}"
        ]
        again = register_activity(other, "ns", works, name="act", start=False)
        take_over(again)
        drain(again)
        gate.set()
        for thread in threads:
            thread.join(LIMIT)
            assert (thread.is_alive(), thread.daemon) == (False, True)
        drain(again)
        assert listing(other) == [
            f"ACTIVITY_REQUEST {KEY} value: 1",
            f"ACTIVITY_RESPONSE {KEY} value: 2",
        ]


def test_it_leaves_a_handler_that_hangs(url: str) -> None:
    """L5: the event is handled again; what was handled before it is not lost."""
    begun, gate, seen = threading.Event(), threading.Event(), list[str]()

    def hangs(event: Any) -> None:
        begun.set()
        assert gate.wait(LIMIT)

    with stepped(url) as other, LogLines() as log:
        client = connect(url, loops=False)
        name = consume(client, "c", hangs).name
        start_runs(other, "a", "b")
        assert begun.wait(LIMIT)
        client.close(timedelta(0))
        assert log.lines == [
            f"{name} still runs after 0 s and is left behind; others do it again: a step"
        ]
        again = consume(other, "c", lambda event: seen.append(event.key.run), start=False)
        take_over(again)
        drain(again)
        gate.set()
        assert seen == ["a", "b"]


PROGRAM = """
import sys, threading
from datetime import timedelta
from replay import connect, register_activity
begun = threading.Event()
def act(ctx, backends, message):
    begun.set()
    threading.Event().wait()
with connect(sys.argv[1], loops=False) as client:
    register_activity(client, "ns", act, workers=int(sys.argv[2]))
    begun.wait()
    client.close(timedelta(0))
print("closed")
"""


@pytest.mark.embedded
@pytest.mark.parametrize("workers", [1, 2])
def test_a_process_that_exits_does_not_wait_for_it(url: str, workers: int) -> None:
    """A hanging activity is in a daemon thread."""
    with stepped(url) as other:
        request(other, KEY)
    command = [sys.executable, "-c", PROGRAM, url, f"{workers}"]
    done = subprocess.run(
        command, cwd=ROOT, timeout=LIMIT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "closed\n"
