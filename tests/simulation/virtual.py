"""The library's own clocks, dice and threads, in the hands of a history.

So a history is the same whenever it runs: on a busy machine, and with another version of Python.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

#: The modules of the library that measure durations, draw, or start threads.
MONOTONIC = ("replay.log", "replay.client", "replay.storage.database", "replay.activity")
DRAWING = ("replay.failure", "replay.consumer", "replay.client", "replay.storage.database")


@dataclass
class Dice:
    """What stands in for the modules `time` and `random`, and for a pool of threads."""

    chance: Random = field(default_factory=lambda: Random(0))
    seconds: float = 0.0  # since some moment
    window: float = 0.0  # seconds that a call of a handler takes
    #: Calls in threads whose results nobody has seen yet.
    running: list[tuple[Future[Any], Callable[[], None]]] = field(default_factory=list)
    calm: bool = False  # all threads come to their end at once
    sessions: int = 0  # of servers, so far

    def monotonic(self) -> float:
        """As `time.monotonic`."""
        return self.seconds

    def sleep(self, seconds: float) -> None:
        """As `time.sleep`, in no time."""

    def uniform(self, low: float, high: float) -> float:
        """As `random.uniform`."""
        return self.chance.uniform(low, high)

    def token_urlsafe(self) -> str:
        """As `secrets.token_urlsafe`, for a session: the order of their names decides who owns."""
        self.sessions += 1
        return f"session-{self.sessions}"

    def go_on(self) -> None:
        """Some threads come to their end."""
        running, self.running = self.running, []
        for future, end in running:
            if future.cancelled():
                continue
            if self.calm or self.chance.random() < 0.5:
                end()
            else:
                self.running.append((future, end))


#: What the library uses just now.  A history begins with its own.
DICE = Dice()


class Windows:
    """As the module `time`, for the clock that a step looks at: each look takes time."""

    def __init__(self) -> None:
        self._now = 0.0

    def monotonic(self) -> float:
        """As `time.monotonic`."""
        self._now += DICE.window
        return self._now


class Workers:
    """As the threads of an activity; a call begins at once, and ends when the dice say so."""

    def __init__(self, count: int, *_: object) -> None:
        self.count = count
        self._users = 0
        self._waiting: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._mine: set[Future[Any]] = set()  # what the threads execute

    def join(self) -> None:
        """As in `replay.activity`."""
        self._users += 1

    def submit(self, function: Callable[[], Any]) -> tuple[Future[Any], bool]:
        """As in `replay.activity`."""
        future: Future[Any] = Future()
        prompt = len(self._mine) < self.count
        self._waiting.append((future, function))
        self._take()
        return future, prompt

    def _take(self) -> None:
        """Begin what waits, as long as a thread is free."""
        while self._waiting and len(self._mine) < self.count:
            future, function = self._waiting.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            end: Callable[[], None]
            try:
                end = partial(future.set_result, function())
            except Exception as error:
                end = partial(future.set_exception, error)
            self._mine.add(future)
            DICE.running.append((future, partial(self._end, future, end)))

    def _end(self, future: Future[Any], end: Callable[[], None]) -> None:
        end()
        self._mine.discard(future)
        self._take()

    def lost(self) -> int:
        """As in `replay.activity`: no attempt has a timeout here."""
        return 0

    def leave(self) -> None:
        """As in `replay.activity`: after the last one, nothing is heard of any more."""
        self._users -= 1
        if not self._users:
            DICE.running = [each for each in DICE.running if each[0] not in self._mine]
            self._mine.clear()
            self._waiting.clear()  # they are cancelled


def wait(futures: Sequence[Future[Any]], *_: object) -> None:
    """As `concurrent.futures.wait`: some may end meanwhile."""
    DICE.go_on()


def begin(dice: Dice) -> None:
    """Another history begins."""
    DICE.__dict__.update(dice.__dict__)


@contextlib.contextmanager
def ruled() -> Iterator[None]:
    """Have the library use these."""
    with ExitStack() as stack:
        for module in MONOTONIC:
            with contextlib.suppress(AttributeError):
                stack.enter_context(patch(f"{module}.time", DICE))
        for module in DRAWING:
            stack.enter_context(patch(f"{module}.random", DICE))
        stack.enter_context(patch("replay.consumer.time", Windows()))
        stack.enter_context(
            patch(
                "replay.server.host.secrets",
                SimpleNamespace(token_urlsafe=lambda length: DICE.token_urlsafe()),
            )
        )
        stack.enter_context(patch("replay.activity._Workers", Workers))
        stack.enter_context(patch("replay.activity.wait", wait))
        yield
