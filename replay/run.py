"""One run: a workflow function, replayed from its history until it goes on live.

Role: `Run` is one iteration of one run, a workflow function in a greenlet.  `RunContext` is what
the function sees of it.  There is no I/O in here: responses go in, events to add come out.

Invariants:

- A run gets its responses in the order of their ids, each once, live or from its history.  So it
  does the same both times (R2), as long as its code is the same.
- An event that the history has is not added again (R3).  The code must make its requests in the
  order of the history (R4).  Outputs may come and go (O2).

Why greenlets: a waiting one costs a few kilobytes, a switch costs a microsecond, and no lock is
needed.  A thread for each run costs several times as much.  Calling the function again from the top
for each event needs no greenlet, but its time grows with the square of the number of steps.

Suspending a run raises no exception, so no ``except`` in a workflow can swallow it.  When the
library ends a run it raises `Restarted` or `Evicted`, which are not an `Exception`.  A workflow
that catches even those gets them again from its next call on the context (P18).

Left to `replay.workflow`: which events a run gets, and what becomes of the events that it adds.
"""

from __future__ import annotations

import hashlib
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum
from random import Random
from typing import Any, Generic, NamedTuple, NoReturn, TypeVar, overload
from uuid import UUID

import greenlet

from . import signal as signals
from . import sleep as sleeps
from .activity import ActivityContext
from .failure import (
    CANCEL,
    FAILURE,
    PATCH,
    RESULT,
    ActivityFailed,
    Cancelled,
    Failed,
    failure,
    read_cancel,
    read_failure,
)
from .log import LARGEST_STEP, LONGEST_STEP
from .server.proto.replaypb_pb2 import SleepDone, SleepRequest
from .signature import ACTIVITY, UNTYPED, OutputType, SignalType, Signature, signature
from .storage.database import Error
from .storage.event import Event, EventType, Key, MessageError, check_name, check_target
from .storage.values import ANY, Kind

log = logging.getLogger("replay")

M = TypeVar("M")
R = TypeVar("R")
T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
R_co = TypeVar("R_co", covariant=True)
RunKey = tuple[str, str, str, int]

_LONG = 10_000  # events of a history: time for a restart
_REFUSALS = 1000  # of calls after the end of a run, until its function is left where it is


class HistoryMismatch(Error):
    """The code does not make the requests that the run's history has (R4, R9)."""


class WillNotEnd(Error, RuntimeError):
    """A workflow that catches even the exceptions by which the library ends it, for ever."""


class BadDuration(Error, TypeError):
    """A sleep or a timeout that is not a `timedelta`."""


class OutsideOfRun(Error, RuntimeError):
    """A run's context was used outside of its workflow function."""


class StepTooLarge(Error, ValueError):
    """A run adds more than 64 MiB or 5,000 events before it waits or ends (R5)."""


class Restarted(BaseException):
    """Ends an iteration from within `RunContext.restart`.  Do not catch it."""


class Evicted(BaseException):
    """Ends a run that is evicted from memory.  Do not catch it: the run comes back by replay."""


@dataclass(frozen=True, slots=True)
class Signal:
    """A signal that an await took: its type, and its message or None."""

    type: int
    message: Any


class Operation(Generic[R_co]):
    """Something that a run may wait for: what `RunContext.begin` takes."""

    __slots__ = ()

    def request(self, run: Run) -> tuple[str, str]:
        """Add the request.  Returns its place."""
        raise NotImplementedError

    def value(self, message: Any) -> Any:
        """Return what the wait gives for a response.  May raise what it stands for."""
        return message


@dataclass(frozen=True, slots=True)
class Call(Operation[R_co]):
    """A call of an activity, with the type of its response."""

    target: str
    message: Any
    signature: Signature = field(default=UNTYPED, repr=False)

    def request(self, run: Run) -> tuple[str, str]:
        """As in `Operation`."""
        return run.request(self.target, self.message, "", self.signature)

    def value(self, message: Any) -> Any:
        """As in `Operation`.  Raises `ActivityFailed`."""
        return _value(message)


@dataclass(frozen=True, slots=True)
class Timer(Operation[None]):
    """A sleep."""

    duration: timedelta

    def request(self, run: Run) -> tuple[str, str]:
        """As in `Operation`."""
        return run.request(sleeps.TARGET, _request("duration", self.duration))

    def value(self, message: Any) -> None:
        """As in `Operation`."""


@dataclass(frozen=True, slots=True)
class Await(Operation[R_co | None], Generic[R_co]):
    """An await of a signal; without a timeout it lasts until its iteration ends."""

    signal: int | IntEnum | SignalType[Any]
    timeout: timedelta | None = None

    def request(self, run: Run) -> tuple[str, str]:
        """As in `Operation`."""
        kinds = UNTYPED
        if isinstance(self.signal, SignalType):
            kinds = Signature(returns=self.signal.kind)
        timeout = timedelta.max if self.timeout is None else self.timeout
        message = _request("timeout", timeout)
        return run.request(signals.TARGET, message, f"{self._number()}:", kinds)

    def _number(self) -> int:
        if isinstance(self.signal, SignalType):
            return self.signal.number
        return signals.check_signal(self.signal)

    def value(self, message: Any) -> Any:
        """As in `Operation`."""
        if isinstance(message, SleepDone):
            return None
        typed = isinstance(self.signal, SignalType)
        return message if typed else Signal(self._number(), message)


class Pending(Generic[R_co]):
    """A request that was made, and its response once it is there (E8)."""

    __slots__ = ("_given", "_operation", "_place", "_run")

    def __init__(self, run: Run, operation: Operation[R_co]) -> None:
        self._run = run
        self._operation = operation
        self._place = operation.request(run)
        self._given: _Given | None = None

    def place_in(self, run: Run) -> tuple[str, str]:
        """Return the place of the request.  Raises `OutsideOfRun` for another run's."""
        if run is not self._run:
            raise OutsideOfRun(f"run {run.name} does not wait for what another run has begun")
        return self._place

    @property
    def done(self) -> bool:
        """Whether the response has come, as far as the run has been given its history."""
        self._run.check()
        return self._came() is not None

    def result(self) -> R_co:
        """Wait for the response, and return what it holds.  You may call it again.

        Raises `ActivityFailed` if the activity has failed.
        """
        self._run.check()
        if self._given is None:
            self._given = self._run.wait(self._place)
        value: R_co = self._operation.value(self._given.message)
        return value

    def _came(self) -> _Given | None:
        return self._given or self._run.responded(self._place)

    def came(self) -> int:
        """Return the id of the response if it has come, or else 0."""
        return 0 if (given := self._came()) is None else given.id


class History:
    """The events of one iteration.  A replay requests the same again, and adds nothing twice."""

    __slots__ = ("completed", "created", "outputs", "requests", "responses")

    def __init__(self, events: Iterable[Event]) -> None:
        self.created: Event | None = None
        self.completed: Event | None = None
        #: Those that the code has not made yet.
        self.requests: deque[Event] = deque()
        self.responses: list[Event] = []
        self.outputs: set[tuple[str, str]] = set()
        for event in events:
            if event.type is EventType.RUN_CREATED:
                self.created = event
            elif event.type is EventType.RUN_COMPLETED:
                self.completed = event
            elif event.type is EventType.RUN_OUTPUT:
                self.outputs.add(event.key[4:])
            elif event.type is EventType.ACTIVITY_REQUEST:
                self.requests.append(event)
            else:
                self.responses.append(event)

    def is_over(self) -> bool:
        """Whether the iteration has ended, or never began."""
        return self.completed is not None or self.created is None

    def has_request(self, key: Key) -> bool:
        """Return whether the history's next request is this one; False if none is left.

        Raises `HistoryMismatch` if it is another one (R4).
        """
        if not self.requests:
            return False
        found = self.requests[0]
        if found.key != key:
            raise HistoryMismatch(
                f"run {key.iteration_key()}: event {found.id} of its history requests"
                f" {found.key.target}/{found.key.sequence}, the code asks for"
                f" {key.target}/{key.sequence}: restore the code that began this run"
            )
        self.requests.popleft()
        return True

    def require_all_requested(self) -> None:
        """Raise `HistoryMismatch` if the code has not made all requests of the history (R9)."""
        if self.requests:
            found = self.requests[0]
            raise HistoryMismatch(
                f"run {found.key.iteration_key()}: the code ends, but event {found.id} of its"
                f" history requests {found.key.target}/{found.key.sequence}, which the code does"
                " not: restore the code that began this run"
            )


class Run:
    """One iteration of a run, in memory.

    `start` and `feed` let the function run until it waits again.  The events that it adds
    meanwhile are then in `added`.  They raise what the function raises.
    """

    __slots__ = (
        "_asked",
        "_cancel",
        "_failure",
        "_function",
        "_greenlet",
        "_history",
        "_kinds",
        "_long",
        "_made",
        "_make",
        "_one",
        "_parent",
        "_patches",
        "_refusals",
        "_responses",
        "_restart",
        "_unasked",
        "_waiting",
        "added",
        "added_bytes",
        "cancelled",
        "created",
        "evicted",
        "given",
        "held",
        "kept",
        "key",
        "last",
        "now",
        "returns",
        "takes",
        "used",
    )

    def __init__(
        self,
        function: Callable[..., Any],
        created: Event,
        history: History | None,
        make: _Make,
        signature: Signature = UNTYPED,
    ) -> None:
        self.key: RunKey = created.key[:4]
        self.created = self.last = created
        self.now = created.timestamp
        self.added: list[Event] = []
        self.added_bytes = 0
        #: The bytes of messages that the run keeps in memory while it waits (R10): its input, and
        #: all that came since its function received something.
        self.held = created.size
        self.kept = 0  # those that the consumer has counted
        self.used = self.now  # when the consumer has last given it something
        self.evicted = False
        self.takes, self.returns = signature
        self._function = function
        self._history = history
        self._make = make
        #: How often each was asked for: a target with its prefix, or a slash and an output.
        self._asked: dict[str, int] = {}
        #: Responses that the function has not received.
        self._responses: dict[tuple[str, str], _Given] = {}
        #: The kinds of responses to open requests, and responses that no request is made for yet.
        self._kinds: dict[tuple[str, str], Kind] = {}
        self._unasked: dict[tuple[str, str], Event] = {}
        self._waiting: set[tuple[str, str]] = set()
        self._one = False  # whether it waits for one of those only
        self._made = self.given = 0  # requests, and responses (E10)
        self._long = False  # whether the length has reached 10,000
        self._patches: dict[str, bool] = {}
        self._cancel: str | None = None  # the reason, until the run has been told
        self.cancelled = False
        self._restart: Event | None = None
        self._failure: Exception | None = None
        self._refusals = 0
        self._parent = greenlet.getcurrent()
        self._greenlet = greenlet.greenlet(self._run)

    # The consumer's side.

    def start(self) -> None:
        """Call the function, which runs until it waits for the first time.

        Raises `MessageError` if the input cannot be read, or does not fit (J3).
        """
        self._go_on(self.takes.read(self.created))

    def _go_on(self, *message: Any) -> None:
        self._greenlet.switch(*message)
        if self._refusals > _REFUSALS:
            raise self._failure or self._will_not_end()

    def _will_not_end(self) -> WillNotEnd:
        return WillNotEnd(
            f"run {self.name} goes on after its end: catch Exception, and let BaseException pass"
        )

    @property
    def ended(self) -> bool:
        """Whether the iteration has ended; its last events are then in `added`."""
        return self._greenlet.dead

    @property
    def waits_for(self) -> list[str]:
        """The places, as TARGET/SEQUENCE, whose responses it waits for."""
        return sorted("/".join(place) for place in self._waiting)

    def feed(self, response: Event) -> None:
        """Give the run a response, and let it go on if that was the last one it waited for.

        Raises `MessageError` if the message cannot be read, or does not fit (J3).  It is decoded
        here, where no ``except`` of the function can mistake the error for an answer (R5).
        """
        place = response.key[4:]
        cancel = read_cancel(response) if place[0] == CANCEL else None
        if cancel is None and place[0] == CANCEL:
            return
        self.last = response
        if response.timestamp > self.now:
            self.now = response.timestamp
        self.given += 1
        if cancel is not None:
            self._cancel, self.cancelled = cancel.reason, True
            self._waiting = set()
            self._go_on()
            return
        self.held += response.size
        if (kind := self._kinds.pop(place, None)) is not None:
            self._responses[place] = _given(kind, response)
        else:
            self._unasked[place] = response
        if self._waiting and place in self._waiting:
            self._waiting.discard(place)
            if self._one or not self._waiting:
                self._waiting = set()
                self._go_on()
                self.held = self.created.size + response.size
                if self._responses:
                    self.held += sum(given.size for given in self._responses.values())

    def taken(self) -> list[Event]:
        """Return the events that the function has added, and forget them."""
        added, self.added, self.added_bytes = self.added, [], 0
        return added

    def evict(self) -> None:
        """Unwind the function: its ``finally`` blocks run, and its context refuses calls (R10)."""
        self.evicted = True
        if self._greenlet and not self._greenlet.dead:
            try:
                self._greenlet.throw(Evicted())
            except KeyboardInterrupt:
                raise
            except BaseException:
                log.exception("run %s raised while it was evicted from memory", self.name)
            if self._refusals > _REFUSALS:
                log.error("%s", self._will_not_end())

    @property
    def name(self) -> str:
        """The key of the iteration, as text."""
        return str(self.created.key)

    # The function's side, inside the greenlet.

    def _run(self, message: Any) -> None:
        result, end = None, None
        try:
            # Nothing but the function holds the context, so an ended run is no cycle and is freed.
            result = self._function(RunContext(self), message)
        except (Restarted, Evicted):
            pass
        except (Failed, ActivityFailed, Cancelled) as error:
            end = error
        except greenlet.GreenletExit as error:
            raise OutsideOfRun(f"run {self.name}: do not raise GreenletExit") from error
        except KeyboardInterrupt:
            raise
        except BaseException:
            if self._failure is None:
                raise
        if self._failure is not None:
            raise self._failure
        if self.evicted:
            return
        if end is not None and self._restart is not None:
            raise end
        if self._history is not None:
            self._history.require_all_requested()
        try:
            self._conclude(result, end)
        except Evicted:
            raise self._failure or Evicted from None
        self.added.append(self._make(EventType.RUN_COMPLETED, Key(*self.key), None))
        if self._restart is not None:
            self.added.append(self._restart)

    def _conclude(self, result: Any, end: BaseException | None) -> None:
        """Add the output with which the iteration ends (E1, E2)."""
        if self._restart is not None:
            if self.cancelled:
                # The next iteration must not be cancelled for this one's cancel again (E7).
                self._mark(CANCEL, True)
        elif end is not None:
            self._mark(FAILURE, failure(end, self._make))
        elif (message := self.returns.encode(result, self._place(RESULT))) is not None:
            self._mark(RESULT, message)

    def _mark(self, name: str, message: Any, sequence: str = "0") -> None:
        """Add an output of the library's own."""
        self._add(self._make(EventType.RUN_OUTPUT, self._place(name, sequence), message))

    def _place(self, target: str, sequence: str = "0") -> Key:
        return Key(*self.key, target, sequence)

    def check(self) -> None:
        """Refuse a call on the context from outside the function, or after its end."""
        if self.evicted or self._failure is not None:
            self._refuse(Evicted())
        if self._restart is not None:
            self._refuse(Restarted())
        if greenlet.getcurrent() is not self._greenlet:
            raise OutsideOfRun(
                f"run {self.name}: its context belongs to the workflow function: do not use it in"
                " another thread, activity or run"
            )

    def _refuse(self, end: BaseException) -> NoReturn:
        """Raise `end` again.  A function that catches it for ever is suspended for ever instead."""
        self._refusals += 1
        if self._refusals > _REFUSALS:
            self._parent.switch()
        raise end

    def request(
        self,
        target: str,
        message: Any,
        sequence: str = "",
        signature: Signature = UNTYPED,
    ) -> tuple[str, str]:
        """Add a request unless the history has it (R3).  Returns its place: target, sequence.

        `signature` says what the message has to be, and what the response holds (J3).
        """
        key = self._next(EventType.ACTIVITY_REQUEST, target, sequence)
        try:
            known = self._history is not None and self._history.has_request(key)
        except HistoryMismatch as error:
            # A message that was refused live, and caught, is refused again: that is no mismatch.
            self._make(EventType.ACTIVITY_REQUEST, key, signature.takes.encode(message, key))
            self._failure = error  # so that no `except` of the function can hide it (R4)
            raise Evicted from error
        self._made += 1
        if self._made + self.given >= _LONG and not self._long:
            self._become_long(known)
        if not known:
            message = signature.takes.encode(message, key)
            self._add(self._make(EventType.ACTIVITY_REQUEST, key, message))
        place = key[4:]
        if self._unasked:
            self._expect(place, signature.returns)
        else:
            self._kinds[place] = signature.returns
        return place

    def length(self) -> int:
        """The requests made and responses given so far (E10)."""
        return self._made + self.given

    def _become_long(self, known: bool) -> None:
        """Warn once: a replay of what came after the warning does not warn again."""
        self._long = True
        if not known:
            text = "run %s has a history of %d events, which each replay reads: call restart"
            log.warning(text, self.name, self.length())

    def _expect(self, place: tuple[str, str], kind: Kind) -> None:
        """Note what the response will hold.  It may have come before the code asks for it."""
        if (response := self._unasked.pop(place, None)) is None:
            self._kinds[place] = kind
            return
        try:
            self._responses[place] = _given(kind, response)
        except MessageError as error:
            self._failure = error  # as in `feed`
            raise Evicted from error

    def output(self, name: str, message: Any, kind: Kind = ANY) -> None:
        """Add an output unless the history has it (R3)."""
        key = self._next(EventType.RUN_OUTPUT, name, "")
        if self._history is None or key[4:] not in self._history.outputs:
            self._add(self._make(EventType.RUN_OUTPUT, key, kind.encode(message, key)))

    def _add(self, event: Event) -> None:
        self._count(event)
        self.added.append(event)

    def _count(self, event: Event) -> None:
        self.added_bytes += event.size
        if self.added_bytes > LARGEST_STEP:
            self._refuse_step(f"{LARGEST_STEP} bytes", event)
        if len(self.added) >= LONGEST_STEP:
            self._refuse_step(f"{LONGEST_STEP} events", event)

    def _refuse_step(self, most: str, beyond: Event) -> NoReturn:
        self._failure = StepTooLarge(
            f"run {self.name} adds more than {most} before it waits, which is more than one"
            f" transaction may hold; the event beyond is {beyond.text}: store large data elsewhere"
            " and pass references, or wait in between, for instance for a sleep of 0 s"
        )
        raise Evicted from self._failure

    def _next(self, type: EventType, target: str, prefix: str) -> Key:
        # No name that a run may use has a slash.
        use = target + prefix if type is EventType.ACTIVITY_REQUEST else f"/{target}"
        count = self._asked.get(use, 0)
        self._asked[use] = count + 1
        return Key(*self.key, target, f"{prefix}{count}")

    def wait(self, place: tuple[str, str]) -> _Given:
        """Wait for the response to a place."""
        self._wait(set() if place in self._responses else {place}, one=False)
        return self._responses.pop(place)

    def wait_all(self, places: Sequence[tuple[str, str]]) -> list[_Given]:
        """Wait for a response to each place.  Returns them in the order of `places`."""
        self._wait({place for place in places if place not in self._responses}, one=False)
        return [self._responses.pop(place) for place in places]

    def wait_one(self, places: set[tuple[str, str]]) -> None:
        """Wait until one of the places, of which none has a response yet, gets one."""
        self._wait(set(places), one=True)

    def _wait(self, places: set[tuple[str, str]], *, one: bool) -> None:
        if places and self._cancel is None:
            self._waiting, self._one = places, one
            self._parent.switch()
            self.check()
        if self._cancel is not None:
            reason, self._cancel = self._cancel, None
            raise Cancelled(reason)

    def responded(self, place: tuple[str, str]) -> _Given | None:
        """Return the response to a place if it has come, and the function has not taken it."""
        return self._responses.get(place)

    def patched(self, name: str) -> bool:
        """Whether this iteration runs the code with a patch (E9).

        The first answer holds for the whole iteration: a loop must not find the old code first and
        the new one later.
        """
        if name not in self._patches:
            history, key = self._history, self._place(PATCH, name)
            known = history is not None and key[4:] in history.outputs
            fresh = not known and (history is None or not history.requests)
            if fresh:
                self._mark(PATCH, True, name)
            self._patches[name] = known or fresh
        return self._patches[name]

    def restart(self, message: Any) -> NoReturn:
        """End this iteration; the next one begins with `message` (R6)."""
        next_key = Key(*self.key[:3], self.key[3] + 1)
        message = self.takes.encode(message, next_key)
        created = self._make(EventType.RUN_CREATED, next_key, message)
        self._count(created)
        self._restart = created
        raise Restarted


class _Given(NamedTuple):
    """A response that has come."""

    id: int
    message: Any
    size: int


def _given(kind: Kind, response: Event) -> _Given:
    """Read a response: a value, or the failure of an activity (E3)."""
    failed = read_failure(response) if response.key.target != signals.TARGET else None
    message = kind.read(response) if failed is None else ActivityFailed(response.text, failed)
    return _Given(response.id, message, response.size)


_Make = Callable[[EventType, Key, Any], Event]


class RunContext:
    """The context of a run, with all that a workflow may do.  A replay repeats it exactly."""

    __slots__ = ("_random", "_run", "_uuids")

    def __init__(self, run: Run) -> None:
        self._run = run
        self._random: Random | None = None
        self._uuids = 0

    @property
    def namespace(self) -> str:
        """The namespace of the run."""
        return self._run.key[0]

    @property
    def workflow(self) -> str:
        """The stored name of the workflow."""
        return self._run.key[1]

    @property
    def run(self) -> str:
        """The id of the run."""
        return self._run.key[2]

    @property
    def iteration(self) -> int:
        """The number of restarts so far."""
        return self._run.key[3]

    @property
    def create_event(self) -> Event:
        """The created event of this iteration."""
        return self._run.created

    @property
    def last_event(self) -> Event:
        """The newest event that the run has received."""
        return self._run.last

    def now(self) -> datetime:
        """Return the newest timestamp of the events that the run has received (R8).

        It never goes back, and is the same in every replay.
        """
        self._run.check()
        return self._run.now

    @overload
    def exec_activity(
        self,
        activity: Callable[[ActivityContext, Any, M], R],
        message: M,
        *,
        name: str | None = None,
    ) -> R: ...
    @overload
    def exec_activity(self, activity: str, message: Any, *, name: str | None = None) -> Any: ...
    def exec_activity(self, activity: Any, message: Any, *, name: str | None = None) -> Any:
        """Call an activity and return its response.

        `activity` is the function or its stored name.  The annotations of a function check the
        message and decode the response (J3); with a name, plain JSON comes back.  `name` is the
        stored name if the function was registered under another name than its own (N1).  There is
        one request and one response, however often the run is replayed (R3, A1).  Raises
        `InvalidName`, `MessageTooLarge` or another `MessageError`.
        """
        # As begin(call(...)).result() does, without what that costs each step.
        self._run.check()
        kinds = UNTYPED if isinstance(activity, str) else signature(activity, ACTIVITY)
        place = self._run.request(_target(activity, name), message, "", kinds)
        return _value(self._run.wait(place).message)

    @overload
    def call(
        self,
        activity: Callable[[ActivityContext, Any, M], R],
        message: M,
        *,
        name: str | None = None,
    ) -> Call[R]: ...
    @overload
    def call(self, activity: str, message: Any, *, name: str | None = None) -> Call[Any]: ...
    def call(self, activity: Any, message: Any, *, name: str | None = None) -> Call[Any]:
        """Make a call for `begin` or `gather`; nothing is requested yet."""
        kinds = UNTYPED if isinstance(activity, str) else signature(activity, ACTIVITY)
        return Call(_target(activity, name), message, kinds)

    def timer(self, duration: timedelta) -> Timer:
        """Make a sleep for `begin`; nothing is requested yet."""
        return Timer(duration)

    @overload
    def signal(self, signal: SignalType[M], timeout: timedelta | None = None) -> Await[M]: ...
    @overload
    def signal(self, signal: int | IntEnum, timeout: timedelta | None = None) -> Await[Signal]: ...
    def signal(self, signal: Any, timeout: timedelta | None = None) -> Await[Any]:
        """Make an await of a signal for `begin`; nothing is requested yet.

        Without a timeout it waits until the iteration ends.  An await that is open takes a signal
        before a younger one of the same type does.
        """
        return Await(signal, timeout)

    @overload
    def begin(self, operation: Await[M]) -> Pending[M | None]: ...
    @overload
    def begin(self, operation: Operation[R]) -> Pending[R]: ...
    def begin(self, operation: Operation[Any]) -> Pending[Any]:
        """Make the request of a call, a timer or a signal, and go on without waiting (E8)."""
        self._run.check()
        return Pending(self._run, operation)

    @overload
    def first(self, pending: Pending[R], other: Pending[M], /) -> Pending[R | M]: ...
    @overload
    def first(
        self, pending: Pending[R], other: Pending[M], third: Pending[T], /
    ) -> Pending[R | M | T]: ...
    @overload
    def first(self, *pending: Pending[R]) -> Pending[R]: ...
    def first(self, *pending: Pending[Any]) -> Pending[Any]:
        """Wait until one of these has its response; return the one whose response came first (E8).

        The others stay open: you may wait for them later.  Raises `ValueError` if there are none.
        """
        self._run.check()
        if not pending:
            raise ValueError(f"run {self._run.name}: first() of nothing would wait for ever")
        places = {each.place_in(self._run) for each in pending}
        if not any(each.done for each in pending):
            self._run.wait_one(places)
        return min((each for each in pending if each.done), key=Pending.came)

    # As of asyncio.gather: a list, whose elements a type checker knows one by one as of a tuple.
    @overload
    def gather(self, a: Call[A], b: Call[B], /) -> tuple[A, B]: ...
    @overload
    def gather(self, a: Call[A], b: Call[B], c: Call[C], /) -> tuple[A, B, C]: ...
    @overload
    def gather(self, a: Call[A], b: Call[B], c: Call[C], d: Call[D], /) -> tuple[A, B, C, D]: ...
    @overload
    def gather(
        self, a: Call[A], b: Call[B], c: Call[C], d: Call[D], e: Call[E], /
    ) -> tuple[A, B, C, D, E]: ...
    @overload
    def gather(self, *calls: Call[R]) -> list[R]: ...
    def gather(self, *calls: Call[Any]) -> Any:
        """Call activities at once; return the responses in the order of the calls (R11).

        The responses are in a list.  Two to five have a type each (J5), more have one in common.
        Raises `ActivityFailed` for the first call that has failed, after all have their responses.
        """
        self._run.check()
        places = [call.request(self._run) for call in calls]
        given = self._run.wait_all(places)
        return [call.value(each.message) for call, each in zip(calls, given, strict=True)]

    def sleep(self, duration: timedelta) -> None:
        """Wait for at least `duration`, counted from the request's timestamp (R7)."""
        self.begin(Timer(duration)).result()

    @overload
    def await_signal(self, signal: SignalType[M], timeout: timedelta) -> M | None: ...
    @overload
    def await_signal(self, signal: int | IntEnum, timeout: timedelta) -> Signal | None: ...
    def await_signal(self, signal: Any, timeout: timedelta) -> Any:
        """Return the next signal of this type; None if none comes within `timeout` (S2 to S4).

        With a `SignalType` it returns what the signal holds (J5).
        """
        return self.begin(self.signal(signal, _checked("timeout", timeout))).result()

    def patched(self, name: str) -> bool:
        """Whether to run the new code of a change with this name (E9).

        It is True if this run has said so before, or has nothing left to replay here.  It is False
        for a run that passed this place before the change.  So runs that began with the old code
        end with it.  Each name has one answer in an iteration.  Raises `InvalidName`.
        """
        self._run.check()
        return self._run.patched(check_name("patch", name))

    @property
    def random(self) -> Random:
        """A generator of random numbers; each replay of the iteration gets the same (E10)."""
        if self._random is None:
            self._random = Random(int.from_bytes(self._seed("random")))
        return self._random

    def uuid4(self) -> UUID:
        """Return a UUID that is random, but the same in each replay of the iteration (E10)."""
        self._run.check()
        self._uuids += 1
        return UUID(bytes=self._seed(f"uuid4/{self._uuids - 1}")[:16], version=4)

    def _seed(self, use: str) -> bytes:
        return hashlib.sha256(f"{self._run.name}/{use}".encode()).digest()

    @property
    def history_length(self) -> int:
        """The requests that this iteration has made, and the responses that it was given (E10).

        A replay reads all of them, so call `restart` before it reaches 10,000.
        """
        return self._run.length()

    @overload
    def emit_output(self, name: OutputType[M], message: M) -> None: ...
    @overload
    def emit_output(self, name: str, message: Any) -> None: ...
    def emit_output(self, name: str | OutputType[Any], message: Any) -> None:
        """Add an output, once for each run, iteration, name and count (O1).

        `name` is its name, or an `OutputType`, which checks the message (J3).
        """
        self._run.check()
        if isinstance(name, OutputType):
            self._run.output(name.name, message, name.kind)
        else:
            self._run.output(check_target("output", name), message)

    def restart(self, message: Any) -> NoReturn:
        """End this iteration and begin the next with `message`, in one transaction (R6).

        The annotation of the workflow checks the message (J3).
        """
        self._run.check()
        self._run.restart(message)


def _value(message: Any) -> Any:
    if isinstance(message, ActivityFailed):
        raise message
    return message


def _target(activity: Callable[..., Any] | str, name: str | None) -> str:
    """Return the stored name of an activity (N1)."""
    if name is None:
        name = activity if isinstance(activity, str) else activity.__name__
    return check_target("activity", name)


def _request(what: str, duration: timedelta) -> SleepRequest:
    """Make the message of a sleep or an await; a negative duration is none."""
    request = SleepRequest()
    request.duration.FromTimedelta(min(max(_checked(what, duration), timedelta(0)), sleeps.LONGEST))
    return request


def _checked(what: str, duration: timedelta) -> timedelta:
    if not isinstance(duration, timedelta):
        raise BadDuration(f"{what} is {duration!r}: expected a timedelta(seconds=...)")
    return duration
