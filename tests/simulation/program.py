"""Random programs, the workflow that interprets them, and the same read as plain Python.

A program is what a run does, iteration by iteration.  `interpret` does it on any context: a run's
own, or `Plain`, which calls functions where a run asks the log.  So what a run shall leave in the
log is found without the library, but for the exceptions that workflows raise and catch.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Any, NamedTuple, Protocol

from google.protobuf.message import Message

from replay import ActivityFailed, Cancelled, Event, EventType, Failed, Signal
from replay.server.proto.replaypb_pb2 import SleepDone, SleepRequest
from replay.server.proto.values_pb2 import Cancel, Failure
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
    end: str = ""  # "result", "failure", or nothing
    cancelled: str = ""  # what it does about that: "undo", "on", "end", or nothing


class Line(NamedTuple):
    """An event as compared: type, key, message."""

    type: str
    key: str
    message: object


#: A call that fails: kind, text and attempts.
Failing = tuple[str, str, int]

ACTIVITIES: dict[str, Callable[[int], int]] = {
    "a": lambda value: value * 7 % 1000 + 1,
    "b": lambda value: value + 3,
}
RISKY = "f"  # an activity with a policy, which may fail
NEW = "p"  # an activity that only patched code calls
ENDINGS: dict[str, Callable[[int], int]] = {
    RISKY: lambda value: value * 3 % 1000 + 2,
    NEW: lambda value: value + 11,
}
ATTEMPTS = 3  # of RISKY
WORKFLOW = "w"
LARGE = "large"  # an activity that gives back what it is given
LIMIT = MAX_MESSAGE
FOREVER = 10_000_000_000  # ms: an await without a timeout, as far as a simulation lives
ENDLESS = "for ever"  # an await without a timeout, as compared
EXTRA = "extra"  # an output that changed code adds, and nobody counts
DONE = "done"


def gives_up(value: int) -> bool:
    """Whether RISKY gives up with this input."""
    return value % 4 == 0


def never_succeeds(value: int) -> bool:
    """Whether each attempt of RISKY fails with this input."""
    return value % 4 == 1


class Context(Protocol):
    """What a program needs of its context."""

    def exec_activity(self, activity: str, message: Any, /) -> Any: ...
    def call(self, activity: str, message: Any, /) -> Any: ...
    def gather(self, *calls: Any) -> list[Any]: ...
    def sleep(self, duration: timedelta) -> None: ...
    def await_signal(self, signal: int, timeout: timedelta) -> Signal | None: ...
    def emit_output(self, name: str, message: Any, /) -> None: ...
    def restart(self, message: Any, /) -> Any: ...
    def timer(self, duration: timedelta) -> Any: ...
    def signal(self, signal: int, timeout: timedelta | None = None) -> Any: ...
    def begin(self, operation: Any) -> Any: ...
    def first(self, *pending: Any) -> Any: ...
    def patched(self, name: str) -> bool: ...


def perform(ctx: Context, op: Op, value: int) -> int:
    """Do one thing; what the value is then."""
    if op.what == "call":
        return int(ctx.exec_activity(op.names[0], Int(value=value)).value)
    if op.what == "try":
        try:
            return int(ctx.exec_activity(op.names[0], Int(value=value)).value)
        except ActivityFailed as error:
            return value + 10 * error.attempts + len(error.kind)
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
    if op.what in ("first", "race"):
        return _several(ctx, op, value)
    if op.what == "patch":
        new = ctx.patched(op.names[0])
        return int(ctx.exec_activity(NEW, Int(value=value)).value) if new else value
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


def _several(ctx: Context, op: Op, value: int) -> int:
    """Begin several things and wait for the first; in a race, then for the others, too."""
    pending = [ctx.begin(_operation(ctx, op, name, value)) for name in op.names]
    first = ctx.first(*pending)
    value = (value + 10 * (pending.index(first) + 1)) % 100_000
    for each in [first, *(pending if op.what == "race" else ())]:
        value += _outcome(each)
    return value


def _operation(ctx: Context, op: Op, name: str, value: int) -> Any:
    time = timedelta(milliseconds=op.ms)
    if name == "timer":
        return ctx.timer(time)
    if name == "signal":
        return ctx.signal(op.signal, time)
    if name == "signal for ever":
        return ctx.signal(op.signal)
    return ctx.call(name, Int(value=value))


def _outcome(pending: Any) -> int:
    try:
        found = pending.result()
    except ActivityFailed as error:
        return 100 + error.attempts
    if isinstance(found, Signal):
        return 5 if found.message is None else 7 * int(found.message.value)
    return 0 if found is None else int(found.value)


def _nothing(n: int, value: int) -> bool:
    """Happens before and after an operation where nobody looks."""
    return False


def interpret(
    program: Program,
    iteration: int,
    ctx: Context,
    value: int,
    before: Callable[[int, int], bool] = _nothing,
    after: Callable[[int, int], object] = _nothing,
) -> Int | None:
    """One iteration of a program.  It ends before an operation for which `before` is true."""
    for n, op in enumerate(program.iterations[iteration]):
        if before(n, value):
            return None
        try:
            value = perform(ctx, op, value)
        except Cancelled:
            if program.cancelled == "end":
                return Int(value=value)
            if program.cancelled == "undo":
                ctx.exec_activity("b", Int(value=value))
            if program.cancelled != "on":
                raise
            value += 13
        after(n, value)
    if iteration + 1 < len(program.iterations):
        ctx.restart(Int(value=value))
    if program.end == "failure":
        raise Failed(f"at {value}", kind="sad")
    return Int(value=value) if program.end else None


@cache
def length(limit: int) -> int:
    """How many characters a `String` of `limit` bytes has, as it is stored."""
    found = limit
    while over := len(pack(String(value="x" * found), 2**31, "") or b"") - limit:
        found -= over
    return found


class Restarted(BaseException):
    """As the library's, for plain Python."""


class Terminated(BaseException):
    """The run ends here, without its code."""


class Cancelling(NamedTuple):
    """A cancel in the log."""

    id: int
    reason: str
    terminate: bool


@dataclass
class Facts:
    """What a program cannot say, because it was a race: taken from the log, and judged elsewhere.

    Without ids every response came at once.
    """

    #: The ids of events by key: of those that created an iteration, and of responses.
    ids: Mapping[str, int] | None = None
    #: What the response to an await holds: a signal's message, or `DONE` if it timed out.
    signals: Mapping[str, object] = field(default_factory=dict)
    failed: Mapping[str, Failing] = field(default_factory=dict)
    patched: AbstractSet[str] = frozenset()  # keys of outputs
    #: The cancels of an iteration, by its key, in the order of their ids.
    cancels: Mapping[str, Sequence[Cancelling]] = field(default_factory=dict)
    #: How many lines of its own a terminated iteration has, by key.
    cut: Mapping[str, int] = field(default_factory=dict)


class _Request(NamedTuple):
    """Something that was asked for, with what the response will hold."""

    key: str
    message: object  # as compared
    value: Any  # as the program gets it


class _PlainPending:
    """As the library's, for plain Python."""

    def __init__(self, ctx: Plain, request: _Request) -> None:
        self.request = request
        self.taken = False
        self._ctx = ctx

    def result(self) -> Any:
        """As in `Pending`."""
        if not self.taken:
            self._ctx.wait([self.request], max)
            self.taken = True
        return _raised(self.request.value)


def _raised(value: Any) -> Any:
    if isinstance(value, ActivityFailed):
        raise value
    return value


class Plain:
    """A context that keeps nothing: activities are called, the rest is a fact.

    The clock is the id of the newest event that the run has received.  A cancel comes out of the
    wait that lasts from before the cancel's id to after it.
    """

    def __init__(self, key: str, facts: Facts, longest: int) -> None:
        self.lines: list[Line] = []
        #: For each line, the clock when it was written.
        self.times: list[float] = []
        #: What responses hold, by key, if it is known.
        self.answers: dict[str, object] = {}
        self.asked: set[str] = set()
        self.patches: set[str] = set()  # the keys of the outputs of those that were asked for
        self.next: int | None = None
        self.told: list[Cancelling] = []
        self._clock = float((facts.ids or {}).get(key, 0))
        self._key = key
        self._facts = facts
        self._longest = longest
        self._cancels = list(facts.cancels.get(key, ()))
        self._counts: Counter[str] = Counter()
        self._waited: set[str] = set()

    def add(self, type: EventType, place: str, message: object) -> None:
        """Write a line."""
        self.lines.append(Line(type.name, self._key + place, message))
        self.times.append(self._clock)

    def _ask(self, target: str, message: object, prefix: str = "") -> str:
        counter = f"{target}/{prefix}"
        place = f"/{counter}{self._counts[counter]}"
        self._counts[counter] += 1
        self.add(EventType.ACTIVITY_REQUEST, place, message)
        self.asked.add(self._key + place)
        return self._key + place

    # Waits.

    def wait(self, requests: Sequence[_Request], which: Callable[[Iterable[float]], float]) -> None:
        """Wait until all have their responses, or one has."""
        ids = [self._came(request) for request in requests]
        self._until(which(ids))
        for request, id in zip(requests, ids, strict=True):
            if id <= self._clock and request.key not in self._waited:
                self._waited.add(request.key)
                place = request.key.removeprefix(self._key)
                self.add(EventType.ACTIVITY_RESPONSE, place, request.message)

    def _came(self, request: _Request) -> float:
        ids = self._facts.ids
        return self._clock if ids is None else ids.get(request.key, math.inf)

    def _until(self, moment: float) -> None:
        """Let time go on, unless a cancel comes first."""
        if moment <= self._clock:
            return
        self._maybe_cut()
        for cancel in self._cancels:
            if self._clock < cancel.id < moment:
                self._cancels.remove(cancel)
                self._clock = cancel.id
                self._tell(cancel)
        assert moment < math.inf, f"R2: {self._key} waits for ever"
        self._clock = max(self._clock, moment)

    def _tell(self, cancel: Cancelling) -> None:
        self.told.append(cancel)
        raise Terminated(cancel.reason) if cancel.terminate else Cancelled(cancel.reason)

    def _maybe_cut(self) -> None:
        """A run that was terminated got as far as its lines say: its code need not have run."""
        if (cut := self._facts.cut.get(self._key)) is None:
            return
        if len([line for line in self.lines if line.type != "ACTIVITY_RESPONSE"]) == cut:
            cancel = next(each for each in self._cancels if each.terminate)
            assert self._clock < cancel.id, f"E7: {self._key} went on after its end"
            self._tell(cancel)

    # As a run's context.

    def exec_activity(self, activity: str, message: Any, /) -> Any:
        """As a run's."""
        return self.begin(self.call(activity, message)).result()

    def call(self, activity: str, message: Any, /) -> Any:
        """As a run's."""
        return lambda: self._call(activity, message)

    def _call(self, activity: str, message: Any) -> _Request:
        if activity == LARGE:
            if len(message.value) > self._longest:
                self._counts["large/"] += 1  # it was refused, but counts
                raise MessageTooLarge
            key = self._ask(LARGE, len(message.value))
            return self._answered(key, len(message.value), message)
        key = self._ask(activity, message.value)
        if (failing := self._facts.failed.get(key)) is not None:
            kind, text, attempts = failing
            failure = Failure(kind=kind, text=text, attempts=attempts)
            return self._answered(key, failing, ActivityFailed(key, failure))
        result = (ACTIVITIES | ENDINGS)[activity](message.value)
        return self._answered(key, result, Int(value=result))

    def _answered(self, key: str, message: object, value: Any) -> _Request:
        self.answers[key] = message
        return _Request(key, message, value)

    def timer(self, duration: timedelta) -> Any:
        """As a run's."""
        return lambda: self._answered(self._ask("replay_sleep", duration), DONE, None)

    def signal(self, signal: int, timeout: timedelta | None = None) -> Any:
        """As a run's."""
        return lambda: self._signal(signal, ENDLESS if timeout is None else timeout)

    def _signal(self, signal: int, timeout: object) -> _Request:
        key = self._ask("replay_signal", timeout, f"{signal}:")
        if key not in self._facts.signals:
            return _Request(key, None, None)
        message: Any = self._facts.signals[key]
        if message == DONE:
            return self._answered(key, DONE, None)
        taken = Signal(signal, None if message is None else Int(value=message))
        return self._answered(key, message, taken)

    def begin(self, operation: Callable[[], _Request]) -> _PlainPending:
        """As a run's."""
        return _PlainPending(self, operation())

    def first(self, *pending: _PlainPending) -> _PlainPending:
        """As a run's."""
        if (known := next((each for each in pending if each.taken), None)) is not None:
            return known
        self.wait([each.request for each in pending], min)
        return min(pending, key=lambda each: self._came(each.request))

    def gather(self, *calls: Any) -> list[Any]:
        """As a run's."""
        requests = [call() for call in calls]
        self.wait(requests, max)
        return [_raised(request.value) for request in requests]

    def sleep(self, duration: timedelta) -> None:
        """As a run's."""
        self.begin(self.timer(duration)).result()

    def await_signal(self, signal: int, timeout: timedelta) -> Signal | None:
        """As a run's."""
        found: Signal | None = self.begin(self.signal(signal, timeout)).result()
        return found

    def patched(self, name: str) -> bool:
        """As a run's."""
        place = f"/replay_patch/{name}"
        self.patches.add(self._key + place)
        known = self._key + place in self._facts.patched
        if known and not self._counts[place]:
            self.add(EventType.RUN_OUTPUT, place, True)
            self._counts[place] = 1
        return known

    def emit_output(self, name: str, message: Any, /) -> None:
        """As a run's."""
        place = f"/{name}/{self._counts['output ' + name]}"
        self._counts["output " + name] += 1
        self.add(EventType.RUN_OUTPUT, place, message.value)

    def restart(self, message: Any, /) -> Any:
        """As a run's."""
        self.next = message.value
        raise Restarted

    def end(self, program: Program, iteration: int, value: int) -> None:
        """Do an iteration, and write how it ends."""
        self.add(EventType.RUN_CREATED, "", value)
        result, failed = None, None
        try:
            self._maybe_cut()
            result = interpret(program, iteration, self, value)
        except Restarted:
            if self.told:
                self.add(EventType.RUN_OUTPUT, "/replay_cancel/0", True)
        except (Cancelled, Terminated) as cancel:
            failed = ("cancelled", str(cancel), 0)
        except Failed as error:
            failed = (error.kind, error.text, 0)
        except ActivityFailed as error:
            failed = (error.kind, error.text, error.attempts)
        if failed is not None:
            self.add(EventType.RUN_OUTPUT, "/replay_failure/0", failed)
        elif result is not None:
            self.add(EventType.RUN_OUTPUT, "/replay_result/0", result.value)
        self.add(EventType.RUN_COMPLETED, "", None)


@dataclass
class Prediction:
    """What a run shall leave."""

    lines: list[Line] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    answers: dict[str, object] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)
    patches: set[str] = field(default_factory=set)
    #: The cancels that each iteration was told of.
    told: list[list[Cancelling]] = field(default_factory=list)

    def own(self) -> list[tuple[Line, float]]:
        """The lines that the run writes itself, with the clock at each."""
        both = zip(self.lines, self.times, strict=True)
        return [each for each in both if each[0].type != "ACTIVITY_RESPONSE"]


def predict(program: Program, facts: Facts, longest: int = 0) -> Prediction:
    """The events of a run, by plain Python.

    `longest` is the number of characters that a message may have.
    """
    found = Prediction()
    value: int | None = 1
    for iteration in range(len(program.iterations)):
        if value is None:
            break
        namespace, run = program.run
        ctx = Plain(f"{namespace}/{WORKFLOW}/{run}/{iteration}", facts, longest)
        ctx.end(program, iteration, value)
        found.lines += ctx.lines
        found.times += ctx.times
        found.answers |= ctx.answers
        found.asked |= ctx.asked
        found.patches |= ctx.patches
        found.told.append(ctx.told)
        value = ctx.next
    return found


def content(message: Message | None) -> object:
    """A message as compared."""
    if isinstance(message, SleepRequest):
        duration = message.duration.seconds
        return ENDLESS if duration > FOREVER else message.duration.ToTimedelta()
    if isinstance(message, SleepDone):
        return DONE
    if isinstance(message, Failure):
        return message.kind, message.text, message.attempts
    if isinstance(message, Cancel):
        return message.reason, message.terminate
    if isinstance(message, String):
        return len(message.value)
    return message.value if isinstance(message, Int) else message


def as_line(event: Event) -> Line:
    """An event as compared."""
    return Line(event.type.name, str(event.key), content(event.message))
