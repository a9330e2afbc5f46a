"""Typed namespaces: you define names and types once, and get typed functions (T1).

    NAMESPACE = typed.Namespace(
        "greetings",
        workflows=[typed.Workflow("hello", input=pb.Name)],
        activities=[typed.Activity("greet", function="app.activities:greet")],
    )

The command ``typedreplay FILE`` reads such a file and writes ``replay_gen.py`` beside it.

Role: the parts of a definition, and the base of the generated code.

Invariants:

- The log stores the names of the definition, never the names of your functions (T2).
- A `Flow` is an interface, so a workflow also runs on an ordinary stub of its flow (T3).

Left to `tools.typedgen`: it checks a definition and writes the code.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol, TypedDict, TypeVar, overload

from google.protobuf.message import Message

from .consumer import Metrics
from .run import Call as AnyCall
from .run import RunContext
from .shard import Shard
from .signature import BadSignature, check_signature, context_of
from .storage.database import Error
from .storage.event import Event, EventType, is_pruned
from .storage.values import ANY

M = TypeVar("M", bound=Message)
R = TypeVar("R", bound=Message | None)
A = TypeVar("A", bound=Message | None)
B = TypeVar("B", bound=Message | None)
C = TypeVar("C", bound=Message | None)
D = TypeVar("D", bound=Message | None)
E = TypeVar("E", bound=Message | None)
R_co = TypeVar("R_co", bound=Message | None, covariant=True)


# The parts of a definition.


class DefinitionError(Error, ValueError):
    """A definition that `typedreplay` cannot use.  The text says file, line and reason."""


def _caller() -> str:
    """File and line of the call that makes a part.  The `__init__` of its class calls this."""
    frame = sys._getframe(2)
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """A part of a definition: its stored name, and a description for the docstrings."""

    name: str = field(kw_only=False)
    description: str = ""
    place: str = field(init=False, repr=False, default_factory=_caller)

    def __str__(self) -> str:
        return f"{type(self).__name__.lower()} {self.name!r}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Signal(Part):
    """A signal of a workflow: its type from -128 to 127, and the class of its message."""

    enum: int
    message: type[Message]


@dataclass(frozen=True, kw_only=True, eq=False)
class Output(Part):
    """An output of a workflow: a name that is unique in the namespace, and its message's class."""

    message: type[Message]


@dataclass(frozen=True, kw_only=True, eq=False)
class Workflow(Part):
    """A workflow: the class of its input, its signals, and its outputs."""

    input: type[Message]
    signals: Sequence[Signal] = ()
    outputs: Sequence[Output] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Activity(Part):
    """An activity: its function as "module:function", such as ``"app.activities:greet"``.

    Name the module in full, as your program imports it.  `typedreplay` reads the annotations of the
    function.  The module must not import ``replay_gen``, which does not exist before that.
    """

    function: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Namespace(Part):
    """A namespace: all its workflows and activities."""

    workflows: Sequence[Workflow]
    activities: Sequence[Activity] = ()


# The base of the generated code.


class WorkflowOptions(TypedDict, total=False):
    """The options of `replay.register_workflow`, which has their meaning and defaults."""

    shard: Shard | None
    shards: int | None
    await_timeout: timedelta
    max_cached: int
    metrics: Metrics | None
    start: bool


class ActivityOptions(TypedDict, total=False):
    """The options of `replay.register_activity`, which has their meaning and defaults."""

    shard: Shard | None
    shards: int | None
    workers: int
    metrics: Metrics | None
    start: bool


class StreamOptions(TypedDict, total=False):
    """The options of `replay.Client.stream`, which has their meaning and defaults."""

    after: int
    from_head: bool
    to_head: bool
    lag: timedelta


@dataclass(frozen=True, slots=True)
class Call(AnyCall[R_co]):
    """A call of an activity for `Flow.gather`, with the type of its response."""


class Flow(Protocol):
    """The methods of every workflow.  The generated `{Workflow}Flow` adds the workflow's own."""

    @property
    def run(self) -> str:
        """The run's id."""

    @property
    def create_event(self) -> Event:
        """The event that began this iteration."""

    @property
    def last_event(self) -> Event:
        """The last event that the run was given."""

    def now(self) -> datetime:
        """The timestamp of the last event that the run was given.  It never goes back (R8)."""

    def sleep(self, duration: timedelta) -> None:
        """Wait for at least `duration` (R7)."""

    # A list, whose elements a type checker knows one by one: see `RunContext.gather`.
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
        """Execute activities at once.  The responses come in the order of the calls (R11)."""


class RunFlow:
    """The `Flow` of a real run.  A generated class derives from it for each workflow."""

    def __init__(self, ctx: RunContext) -> None:
        self._ctx = ctx
        self.run, self.create_event = ctx.run, ctx.create_event
        self.now, self.sleep, self.gather = ctx.now, ctx.sleep, ctx.gather

    @property
    def last_event(self) -> Event:
        """As in `Flow`."""
        return self._ctx.last_event

    def _exec(self, call: Call[R]) -> R:
        """Execute one activity and wait for its response."""
        response: R = self._ctx.exec_activity(call.target, call.message)
        return response

    def _await(self, enum: int, message: type[M], timeout: timedelta) -> M | None:
        """Wait for the next signal.  None means that none came within `timeout`, nothing else.

        So a signal that an untyped program sent without a message gives an empty message.
        """
        found = self._ctx.await_signal(enum, timeout)
        if found is None:
            return None
        taken: M = message() if found.message is None else found.message
        return taken


def handle(
    event: Event,
    type: EventType,
    workflow: tuple[str, str],
    target: str,
    fn: Callable[[str, Any], object],
) -> None:
    """Call `fn` with the run's id and the message if the event has this type and these names.

    `workflow` is a namespace and a workflow's name.  An event that retention has emptied is passed
    over (L9).
    """
    if is_pruned(event.raw):
        return
    if event.type is type and event.key[:2] == workflow and event.key.target == target:
        fn(event.key.run, event.message)


def takes_flow(context: Any) -> bool:
    """Whether this annotation of a first parameter is a generated `Flow`."""
    return isinstance(context, type) and Flow in context.__mro__


def untyped(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a workflow that takes a `Flow` as one that takes a `RunContext`."""
    flow = context_of(function)
    if not takes_flow(flow):
        return function
    made = getattr(sys.modules[flow.__module__], f"_{flow.__name__}")
    return lambda ctx, message: function(made(ctx), message)


def check_workflow(function: Callable[..., None], name: str, message: type[Message]) -> None:
    """Raise `BadSignature` if the function cannot be the workflow `name` with this input."""
    takes = check_signature(function, f"{name}(flow, message: {message.__name__}) -> None").takes
    if takes is not ANY and takes.cls is not message:
        given = getattr(function, "__qualname__", function)
        raise BadSignature(
            f"{given} takes {takes.name}, but the definition of {name} says"
            f" {message.__name__}: change one of them"
        )
