"""Virtual time: tests of workflows that run the real consumers and wait for nothing.

Role: `World` has a log in memory, a client of it, and a clock that stands still until you move it.
No thread is started.  The world steps the consumers, one after the other, and `Client.result` does
so instead of waiting.

Invariant: what runs here is the library itself, on SQLite.  Replaced are only the clock, chance,
the time that a step may take, and threads of activities.  So the same program leaves the same log
each time (V1).

Left to pytest: `replay.tools.pytest_plugin` has a world as a fixture.
"""

from __future__ import annotations

import math
import random
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Self, TypeVar

from .activity import ActivityConsumer, ActivityContext
from .client import Client
from .consumer import Consumer, Tempo, Window
from .log import Log
from .query import PARKED, UNFINISHED, RunDescription, UnknownRun, Waiting
from .sharing import Sharded
from .storage.codec import Codec
from .storage.database import Error, cut, later
from .storage.event import Event, Key
from .storage.sqlite import Sqlite
from .storage.tail import Waiter
from .verify import Difference, verify

__all__ = [
    "START",
    "BadTime",
    "Crashed",
    "Difference",
    "Idle",
    "NeverIdle",
    "World",
    "verify",
]

T = TypeVar("T")
D = TypeVar("D")

#: When a world begins, unless you say otherwise.
START = datetime(2030, 1, 1, tzinfo=UTC)
_MOST = 20_000  # rounds at one moment, before a world counts as one that never becomes idle
_SHOWN = 10  # runs and requests that an error describes


class Idle(Error, TimeoutError):
    """Nothing is left to do now, so what you wait for cannot happen.  The text says what is."""


class NeverIdle(Error, RuntimeError):
    """The consumers find something to do again and again, at one and the same moment."""


class BadTime(Error, ValueError):
    """A start without a time zone, or a clock that would go back."""


class Crashed(BaseException):
    """The world's process ends here.  It starts again with your next call."""


class _Connection(sqlite3.Connection):
    """The connection of a process that dies at a statement."""

    statements = 0
    dies_at = 0  # 0: never

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """As in `sqlite3.Connection`; a process that is dead executes nothing."""
        self.statements += 1
        if self.is_dead():
            if self.in_transaction:  # as the database does when it is opened again
                super().execute("ROLLBACK")
            raise Crashed(f"at statement {self.dies_at}")
        return super().execute(sql, parameters)

    def is_dead(self) -> bool:
        """Whether the process has ended, and no other was started."""
        return 0 < self.dies_at <= self.statements


class _Memory(Sqlite):
    """A database in memory, and the world's clock."""

    driver = _Connection

    def __init__(self, start: datetime) -> None:
        self.moment = start
        super().__init__(":memory:", {})
        assert isinstance(self._connection, _Connection)
        self.connection = self._connection
        self.prepare()

    def now(self) -> datetime:
        """As in `Database`."""
        return self.moment

    def monotonic(self) -> float:
        """As in `Database`."""
        return self.moment.timestamp()


class _Tempo(Tempo):
    """Steps that take no time and look each time, and chance that is always the same."""

    look = timedelta(0)

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def window(self) -> Window:
        """As in `Tempo`."""
        return Window(math.inf)

    def uniform(self, low: float, high: float) -> float:
        """As in `Tempo`."""
        return self._random.uniform(low, high)


class _Attempt(ActivityContext):
    """An attempt whose timeout counts the world's time (E4)."""

    __slots__ = ("_now", "_timeout", "_until")

    def __init__(
        self,
        now: Callable[[], datetime],
        request: Event,
        attempt: int,
        timeout: timedelta | None,
    ) -> None:
        super().__init__(request, attempt)
        self._now, self._timeout = now, timeout
        self._until = self._end()

    def _end(self) -> datetime | None:
        return None if self._timeout is None else later(self._now(), self._timeout)

    def _is_late(self) -> bool:
        return self._until is not None and self._until <= self._now()

    def heartbeat(self) -> None:
        """As in `ActivityContext`."""
        if self._is_late():
            self.abandon()
        super().heartbeat()
        self._until = self._end()

    def end(self) -> None:
        """As in `ActivityContext`."""
        super().end()
        if self._is_late():
            raise TimeoutError(f"the attempt has taken longer than {self._timeout}")


class _Process(Client):
    """The world's process: a client that steps its consumers instead of waiting for them."""

    def __init__(self, database: _Memory, codec: Codec | None, seed: int) -> None:
        self._database, self._codec, self._tempo = database, codec, _Tempo(seed)
        self.stepping: list[Consumer] = []  # those in a step just now
        self._older: set[str] = set()  # names of consumers that were registered before a crash
        super().__init__(Log(database, codec))

    def _adopt(self, consumer: Consumer) -> Consumer:
        consumer.tempo = self._tempo
        if isinstance(consumer, ActivityConsumer):
            consumer.run_inline(partial(_Attempt, self._database.now))
        elif isinstance(consumer, Sharded):
            for member in consumer.members:
                self._adopt(member)
        return consumer

    def _serving(self) -> list[Consumer]:
        return [self._adopt(each) for each in super()._serving()]

    def add(self, consumer: Consumer, start: bool) -> Consumer:
        """As in `Client`, without a thread.  After a crash, a name may be registered again."""
        if consumer.name in self._older:
            self._older.remove(consumer.name)
            del self._consumers[consumer.name]
        return super().add(self._adopt(consumer), False)

    # Steps.

    def _all(self) -> list[Consumer]:
        return [*self._consumers.values(), *self._loops]

    def round(self) -> int:
        """Step each consumer that has anything to do once.  Returns how much it did."""
        return self._survive(lambda: sum([self._step(each) for each in self._all()]), 1)

    def _step(self, consumer: Consumer) -> int:
        until = consumer.blocked()
        if consumer in self.stepping or (until is not None and self._database.moment < until):
            return 0
        if not consumer.is_ready():
            return 0
        self.stepping.append(consumer)
        try:
            return consumer.step()
        finally:
            self.stepping.remove(consumer)

    def next_due(self) -> datetime | None:
        """When something is to do that is not yet."""
        return self._survive(self._next_due, self._database.moment)

    def _next_due(self) -> datetime | None:
        moments = [each.blocked() or each.next_due() for each in self._all()]
        ahead = (each for each in moments if each is not None and self._database.moment < each)
        return min(ahead, default=None)

    # Crashes.

    def live(self) -> None:
        """Begin as a new process, if the old one is dead."""
        if self._database.connection.is_dead() and not self.stepping:
            self._database.connection.dies_at = 0
            self.log = Log(self._database, self._codec)
            self._loops = self._serving()
            for consumer in self._consumers.values():
                consumer.restart(self.log)
            self._older = set(self._consumers)

    def _survive(self, call: Callable[[], T], crashed: D) -> T | D:
        """Return what `call` returns, or `crashed` if the process dies in it."""
        self.live()
        try:
            return call()
        except Crashed:
            if self.stepping:
                raise
            self.live()
            return crashed

    def log_of(self, namespace: str) -> Log:
        """As in `Client`."""
        self.live()
        return self.log

    def _patiently(self, call: Callable[[], T]) -> T:
        self.live()
        return super()._patiently(call)

    # Waits.

    def store_cursors(self) -> None:
        """As in `Client`."""
        super().store_cursors()
        for consumer in self._all():
            consumer.step()

    def _wait(self, log: Log, waiter: Waiter, position: int, timeout: float | None) -> None:
        # After a crash the caller still has the log of the process that has died: so poll.
        if not (self.round() or log.poll()):
            runs = self.runs(status=UNFINISHED, limit=_SHOWN)
            lines = [self._reason(each.namespace, each.workflow, each.run) for each in runs]
            raise Idle("\n".join(["no further event comes", *lines]))

    def _await_end(
        self, namespace: str, workflow: str, run: str, timeout: float | timedelta | None
    ) -> Key:
        try:
            return super()._await_end(namespace, workflow, run, None)
        except Idle:
            raise Idle(self._reason(namespace, workflow, run)) from None

    def _sleep_until_old(self, log: Log, event: Event, lag: timedelta) -> None:
        if lag and (left := event.timestamp + lag - log.now()) > timedelta(0):
            raise Idle(f"event {event.id} is not {lag} old yet{_hint(left)}")

    def _reason(self, namespace: str, workflow: str, run: str) -> str:
        """Why a run goes no further, and what to do."""
        name = f"run {namespace}/{workflow}/{run}"
        try:
            found = self.describe(namespace, workflow, run)
        except UnknownRun:
            return f"{name} has not begun: call client.run_workflow"
        times = [found.next_at, *(each.next_at or each.until for each in found.waiting_for)]
        ahead = [each - self._database.moment for each in times if each is not None]
        return f"{name} {'; '.join(_reasons(found))}{_hint(min(ahead)) if ahead else ''}"


def _hint(duration: timedelta) -> str:
    shown = repr(duration).removeprefix("datetime.")
    return f"; world.advance({shown}) reaches the next of these times"


def _reasons(found: RunDescription) -> Iterator[str]:
    """Say what a run waits for."""
    if found.status == PARKED:
        yield f"is parked: {_tried(found)}"
    elif not found.waiting_for:
        yield f"waits for its code: call register_workflow for {found.workflow}"
    for each in found.waiting_for[:_SHOWN]:
        until = f" until {each.until:%F %T}" if each.until is not None else ""
        if each.kind == "sleep":
            yield f"sleeps{until}"
        elif each.kind == "signal":
            yield f"waits for signal {each.name}{until}: call client.signal_run"
        elif each.next_at is not None:
            yield f"waits for activity {each.name}: {_tried(each)}"
        else:
            yield f"waits for activity {each.name}: call register_activity, unless it is at work"


def _tried(found: RunDescription | Waiting) -> str:
    """Say which attempt has failed and why, and when the next one is."""
    next_at = f"the next is at {found.next_at:%F %T}"
    return f"attempt {found.attempts} has failed, {next_at}: {found.error}"


class World:
    """A log in memory with a client, and a clock that jumps; a context manager (V1).

    `start` is the time at which it begins, `seed` decides the jitter of backoffs, and `codec` is
    that of `replay.connect`.  Use it from one thread.  Raises `BadTime`.
    """

    def __init__(
        self, start: datetime = START, *, seed: int = 0, codec: Codec | None = None
    ) -> None:
        if start.tzinfo is None:
            raise BadTime(f"start={start!r} has no time zone: use datetime(..., tzinfo=UTC)")
        self._database = _Memory(cut(start.astimezone(UTC)))
        self._process = _Process(self._database, codec, seed)

    @property
    def client(self) -> Client:
        """The client: register, run and signal as usual.

        `result`, `await_completion` and `stream` step the world, and raise `Idle` where they would
        wait for ever.  They do not move the clock.
        """
        return self._process

    @property
    def now(self) -> datetime:
        """The world's time, in UTC."""
        return self._database.moment

    @property
    def statements(self) -> int:
        """How many statements the database has got so far: see `crash`."""
        return self._database.connection.statements

    def events(self) -> list[Event]:
        """Return the log."""
        return list(self.client.stream(to_head=True))

    def until_idle(self) -> None:
        """Step all consumers until nothing is left to do now.  Raises `NeverIdle`."""
        for _ in range(_MOST):
            if not self._process.round():
                return
        raise NeverIdle(
            f"the consumers are still busy after {_MOST} rounds at {self.now}: does a run restart"
            " for ever without a sleep?"
        )

    def advance(self, duration: timedelta) -> None:
        """Move the clock by `duration`, and stop at each time at which something is due.

        An activity may call this to take time: meanwhile the other consumers go on.  Raises
        `BadTime` for a negative duration, and `NeverIdle`.
        """
        if duration < timedelta(0):
            raise BadTime(f"advance({duration!r}): the clock never goes back")
        end = later(self.now, duration)
        self.until_idle()
        while (due := self._process.next_due()) is not None and due < end:
            self._database.moment = due
            self.until_idle()
        self._database.moment = max(end, self.now)  # an activity may have gone further
        self.until_idle()

    def crash(self, *, at: int = 0) -> None:
        """Let the process die: it loses its memory, and a transaction that has begun is undone.

        A new process begins at once, with all that is registered; you may register other code
        under the same names.  In an activity, `crash` ends the step in which it is executed.  With
        `at`, the process dies later: instead of executing the `at`-th statement from now on.  A
        call of the client in which it dies raises `Crashed`, and you may repeat it.
        `until_idle` and `advance` survive.
        """
        connection = self._database.connection
        connection.dies_at = connection.statements + at
        if not at and self._process.stepping:
            raise Crashed("world.crash()")
        self._process.live()

    def close(self) -> None:
        """Close the client, and forget the log."""
        self._database.connection.dies_at = 0
        self._process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
