"""The programs of the lessons, in processes that have imported the library already.

The checks of all answers start hundreds of programs, and a Python takes half a second to import the
library.  These are processes like any other: they can be killed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from pathlib import Path
from signal import Signals
from typing import IO

import tutorial
from tutorial import __main__, checking, lessons

PAUSE = 0.01

forks = get_context("forkserver")
forks.set_forkserver_preload(["tests.project.forks"])
_one = threading.Lock()  # multiprocessing looks after all its processes whenever one starts.


def perform(folder: Path, arguments: Sequence[str], out: str) -> None:
    """Be the command `./dev tutorial`, in a copy of the tutorial."""
    printed = os.open(out, os.O_WRONLY | os.O_APPEND)
    os.dup2(printed, 1)
    os.dup2(printed, 2)
    sys.stdout.reconfigure(write_through=True)  # type: ignore[union-attr]
    tutorial.__path__ = [str(folder)]
    lessons.FOLDER, lessons.STATE = folder, folder.parent / ".tutorial"
    vars(__main__)["STATE"] = lessons.STATE
    sys.exit(__main__.main(arguments))


class Fork:
    """A program: what `Children` uses of a `subprocess.Popen`."""

    def __init__(self, folder: Path, command: Sequence[str], out: IO[bytes]) -> None:
        arguments = command[command.index("tutorial") + 1 :]
        self._process = forks.Process(target=perform, args=(folder, arguments, out.name))
        with _one:
            self._process.start()

    def poll(self) -> int | None:
        """Return its exit code, or None."""
        with _one:
            return self._process.exitcode

    def wait(self, timeout: float = 60) -> int:
        """Wait until it has ended."""
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("tutorial", timeout)
            time.sleep(PAUSE)
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self._process.pid or 0, number)

    def kill(self) -> None:
        """Kill it."""
        self._process.kill()


def forked(folder: Path, ends: Callable[[int], None]) -> type[checking.Children]:
    """The children of a check whose lesson is in this folder; `ends` hears how each ends."""

    class Forked(checking.Children):
        def open(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
            return Fork(folder, command, self._out)  # type: ignore[return-value]

        def end(self, number: Signals) -> None:
            ends(number)
            super().end(number)

    return Forked
