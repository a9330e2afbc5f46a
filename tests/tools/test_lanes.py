"""Timelines in a terminal: what they show, and that they fit."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest

from replay import ActivityContext, RunContext, connect, register_activity, register_workflow
from replay.storage.event import Event
from replay.testing import World
from replay.tools.lanes import chart, follow, show
from tests.support import START

SECOND = timedelta(seconds=1)


def work(ctx: ActivityContext, backends: None, message: str) -> None:
    """Does nothing."""


def hello(ctx: RunContext, name: str) -> None:
    for _ in range(3):
        ctx.exec_activity(work, name)
        ctx.sleep(2 * SECOND)
    ctx.await_signal(1, SECOND)


def quick(ctx: RunContext, name: str) -> None:
    ctx.exec_activity(work, name)


def history(run: str = "run-1") -> list[Event]:
    with World(START) as world:
        register_workflow(world.client, "ns", hello)
        register_activity(world.client, "ns", work)
        world.client.run_workflow("ns", hello, run, "x")
        world.advance(10 * SECOND)
        return list(world.events())


def moved(events: list[Event], after: int, by: timedelta) -> list[Event]:
    """The same events, as if the program had been dead for a while after one of them."""
    return [
        Event(e.id, e.type, e.key, e.timestamp + by * (n > after), e.raw, e.text)
        for n, e in enumerate(events)
    ]


def plain(events: list[Event], width: int) -> list[str]:
    lines = chart(events, width, events[-1].timestamp)
    return ["".join(text for text, _ in line).rstrip() for line in lines]


def test_a_lane_for_each_activity_sleep_and_await() -> None:
    """Every call of an activity is a mark in its lane; a sleep and an await have a length."""
    assert plain(history(), 60) == [
        "ns/hello/run-1    7.0 s",
        "▶ started  ▶",
        "● work     ●             ●             ●",
        "■ sleep    ■┄┄┄┄┄┄┄┄┄┄┄┄┄■┄┄┄┄┄┄┄┄┄┄┄┄┄■┄┄┄┄┄┄┄┄┄┄┄┄┄┄",
        "◆ signal 1                                           ◆┈┈┈┈┈┈",
        "▌ ended                                                    ▌",
    ]


def test_a_gap_and_what_is_replayed_after_it() -> None:
    """The program was dead when the first sleep was over; what came before is hollow, and dim."""
    events = moved(history(), 3, 3 * SECOND)
    lines = plain(events, 60)
    assert lines[2] == "● work     ○         ░░░░░░░░░░░░░░●         ●"
    assert lines[-1] == "░ nobody worked for 3.0 s; hollow marks are replayed"
    styles = {style for line in chart(events, 60, events[-1].timestamp) for _, style in line}
    assert {"dim cyan", "cyan", "red"} <= styles


@pytest.mark.parametrize("width", [40, 60, 100, 3])
def test_no_line_is_longer_than_the_width(width: int) -> None:
    """Neither with a long name of a run, nor with one that would turn the text around."""
    for run in ("r", "long" * 50, "a\u202eb"):
        lines = plain(history(run), width)
        assert all(len(line) <= max(width, 40) for line in lines)
        assert all(line.isprintable() for line in lines)


def test_without_a_terminal_it_is_plain_text() -> None:
    """``--watch | cat``: once, without colours."""
    events, out = history(), StringIO()
    show(events, out)
    assert out.getvalue().splitlines() == plain(events, 100)
    with connect("sqlite://", loops=False) as client:
        out = StringIO()
        follow(client, "ns", out)
        assert out.getvalue() == ""


def read(terminal: int) -> bytes:
    """What a program has written to its terminal; nothing more after its end."""
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says so when nobody has the other end open any more
        return b""


@pytest.mark.parametrize("width", [60, 100])
def test_it_fits_into_a_terminal(width: int, tmp_path: Path) -> None:
    """In a pseudo-terminal: in colours, and no line is broken."""
    url = f"sqlite:///{tmp_path / 'a.db'}"
    with connect(url) as client:
        register_workflow(client, "hello_world", quick)
        register_activity(client, "hello_world", work)
        client.run_workflow("hello_world", quick, "run" * 30, "x")
        client.await_completion("hello_world", quick, "run" * 30)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, width, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "tutorial", "0", "--watch", "--url", url],
        cwd=Path(__file__).resolve().parents[2],
        env={k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
        | {"TERM": "xterm-256color"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    written = b""
    while b"ended" not in written:
        part = read(ours)
        assert part, written.decode()
        written += part
    process.send_signal(signal.SIGINT)
    while read(ours):
        pass
    os.close(ours)
    assert process.wait(30) == 130
    text = written.decode(errors="replace")  # it may end within a character
    assert "\x1b[36m" in text
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text).replace("\r", "\n").split("\n")
    assert max(map(len, lines)) == width
