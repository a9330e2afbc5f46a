"""Random programs, the workflow that interprets them, and the same read as plain Python.

A program is what a run does, iteration by iteration.  `interpret` does it on any context: a run's
own, or `Plain`, which calls functions where a run asks the log.  So what a run shall leave in the
log is found without anything of the library.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import cache
from itertools import groupby
from typing import Any, NamedTuple, Protocol

from google.protobuf.message import Message

from replay import Event, EventType, Signal
from replay.server.proto.replaypb_pb2 import SleepDone, SleepRequest
from replay.storage.database import MAX_MESSAGE
from replay.storage.event import MessageTooLarge, pack
from tests.example_pb2 import Int, String


class Op(NamedTuple):
    """One thing that a program does, with names, milliseconds or signal types."""

    what: str
    names: tuple[str, ...] = ()
    ms: int = 0
    signal: int = 0


class Program(NamedTuple):
    """What a run does: the operations of each iteration, a restart between them."""

    run: tuple[str, str]  # namespace and id
    iterations: tuple[tuple[Op, ...], ...]


class Line(NamedTuple):
    """An event as compared: type, key, message."""

    type: str
    key: str
    message: object


ACTIVITIES: dict[str, Callable[[int], int]] = {
    "a": lambda value: value * 7 % 1000 + 1,
    "b": lambda value: value + 3,
}
WORKFLOW = "w"
LARGE = "large"  # an activity that gives back what it is given
LIMIT = MAX_MESSAGE
FOREVER = 10_000_000_000  # ms: an await without a timeout, as far as a simulation lives
EXTRA = "extra"  # an output that changed code adds, and nobody counts


class Context(Protocol):
    """What a program needs of its context."""

    def exec_activity(self, activity: str, message: Any, /) -> Any: ...
    def call(self, activity: str, message: Any, /) -> Any: ...
    def gather(self, *calls: Any) -> list[Any]: ...
    def sleep(self, duration: timedelta) -> None: ...
    def await_signal(self, signal: int, timeout: timedelta) -> Signal | None: ...
    def emit_output(self, name: str, message: Any, /) -> None: ...
    def restart(self, message: Any, /) -> Any: ...


def perform(ctx: Context, op: Op, value: int) -> int:
    """Do one thing; what the value is then."""
    if op.what == "call":
        return int(ctx.exec_activity(op.names[0], Int(value=value)).value)
    if op.what == "choose":  # what is asked for next depends on what was answered
        return int(ctx.exec_activity(op.names[value % 2], Int(value=value)).value)
    if op.what == "large":
        try:
            return value + len(ctx.exec_activity(LARGE, String(value="x" * op.ms)).value) % 1000
        except MessageTooLarge:
            return value + 7
    if op.what == "gather":
        results = ctx.gather(*(ctx.call(name, Int(value=value)) for name in op.names))
        return sum(n * int(result.value) for n, result in enumerate(results, 1)) % 100_000
    if op.what == "output":
        ctx.emit_output(op.names[0], Int(value=value))
    elif op.what == "sleep":
        ctx.sleep(timedelta(milliseconds=op.ms))
    else:
        taken = ctx.await_signal(op.signal, timedelta(milliseconds=op.ms))
        if taken is None:
            return value + 1
        return value + (500 if taken.message is None else 1000 * int(taken.message.value))
    return value


def requests(op: Op, longest: int) -> int:
    """How many requests it makes."""
    if op.what == "large":
        return int(op.ms <= longest)
    return len(op.names) if op.what == "gather" else int(op.what != "output")


def interpret(program: Program, iteration: int, ctx: Context, value: int) -> None:
    """One iteration of a program."""
    for op in program.iterations[iteration]:
        value = perform(ctx, op, value)
    if iteration + 1 < len(program.iterations):
        ctx.restart(Int(value=value))


@cache
def length(limit: int) -> int:
    """How many characters a `String` of `limit` bytes has, as it is stored."""
    found = limit
    while over := len(pack(String(value="x" * found), 2**31, "") or b"") - limit:
        found -= over
    return found


class Restarted(BaseException):
    """As the library's, for plain Python."""


class Plain:
    """A context that keeps nothing: activities are called, signals come from a queue.

    Whether an await timed out is not for a program to say: `timed_out` has the keys of those that
    did.  That they rightly did is checked elsewhere.
    """

    def __init__(
        self, key: str, signals: dict[int, list[int | None]], timed_out: set[str], longest: int
    ) -> None:
        self.lines: list[Line] = []
        self.next: int | None = None
        self._key = key
        self._signals = signals
        self._timed_out = timed_out
        self._longest = longest
        self._counts: Counter[str] = Counter()

    def _add(self, type: EventType, place: str, message: object) -> None:
        self.lines.append(Line(type.name, self._key + place, message))

    def _ask(self, target: str, message: object, prefix: str = "") -> str:
        counter = f"{target}/{prefix}"
        place = f"/{counter}{self._counts[counter]}"
        self._counts[counter] += 1
        self._add(EventType.ACTIVITY_REQUEST, place, message)
        return place

    def exec_activity(self, activity: str, message: Any, /) -> Any:
        """As a run's."""
        if activity != LARGE:
            return self.gather((activity, message))[0]
        if len(message.value) > self._longest:
            self._counts["large/"] += 1  # it was refused, but counts
            raise MessageTooLarge
        place = self._ask(LARGE, len(message.value))
        self._add(EventType.ACTIVITY_RESPONSE, place, len(message.value))
        return message

    def call(self, activity: str, message: Any, /) -> Any:
        """As a run's."""
        return activity, message

    def gather(self, *calls: Any) -> list[Any]:
        """As a run's."""
        places = [self._ask(name, message.value) for name, message in calls]
        results = [Int(value=ACTIVITIES[name](message.value)) for name, message in calls]
        for place, result in zip(places, results, strict=True):
            self._add(EventType.ACTIVITY_RESPONSE, place, result.value)
        return results

    def sleep(self, duration: timedelta) -> None:
        """As a run's."""
        place = self._ask("replay_sleep", duration)
        self._add(EventType.ACTIVITY_RESPONSE, place, "done")

    def await_signal(self, signal: int, timeout: timedelta) -> Signal | None:
        """As a run's: the next of the type, if there was one."""
        place = self._ask("replay_signal", timeout, f"{signal}:")
        if self._key + place in self._timed_out:
            self._add(EventType.ACTIVITY_RESPONSE, place, "done")
            return None
        message = self._signals[signal].pop(0)
        self._add(EventType.ACTIVITY_RESPONSE, place, message)
        return Signal(signal, None if message is None else Int(value=message))

    def emit_output(self, name: str, message: Any, /) -> None:
        """As a run's."""
        place = f"/{name}/{self._counts['output ' + name]}"
        self._counts["output " + name] += 1
        self._add(EventType.RUN_OUTPUT, place, message.value)

    def restart(self, message: Any, /) -> Any:
        """As a run's."""
        self.next = message.value
        raise Restarted


def predict(
    program: Program,
    signals: Mapping[int, Sequence[int | None]],
    timed_out: set[str],
    longest: int = 0,
) -> list[Line]:
    """The events of a run, in order, by plain Python.

    `longest` is the number of characters that a message may have.
    """
    lines: list[Line] = []
    queue = {type: list(sent) for type, sent in signals.items()}
    value: int | None = 1
    for iteration in range(len(program.iterations)):
        namespace, run = program.run
        key = f"{namespace}/{WORKFLOW}/{run}/{iteration}"
        ctx = Plain(key, queue, timed_out, longest)
        assert value is not None
        lines.append(Line("RUN_CREATED", key, value))
        with contextlib.suppress(Restarted):
            interpret(program, iteration, ctx, value)
        lines += [*ctx.lines, Line("RUN_COMPLETED", key, None)]
        value = ctx.next
    return lines


def content(message: Message | None) -> object:
    """A message as compared."""
    if isinstance(message, SleepRequest):
        return message.duration.ToTimedelta()
    if isinstance(message, SleepDone):
        return "done"
    if isinstance(message, String):
        return len(message.value)
    return message.value if isinstance(message, Int) else None


def as_line(event: Event) -> Line:
    """An event as compared."""
    return Line(event.type.name, str(event.key), content(event.message))


def in_order(lines: Sequence[Line]) -> Iterator[Line]:
    """The lines, with answers that come right after one another sorted: any order is right."""
    counted = [line for line in lines if f"/{EXTRA}/" not in line.key]
    for answers, group in groupby(counted, lambda line: line.type == "ACTIVITY_RESPONSE"):
        some = list(group)
        yield from sorted(some, key=lambda line: line.key) if answers else some
