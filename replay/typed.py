"""One definition of a namespace's names and types; typed functions are made from it (T1).

    NAMESPACE = typed.Namespace(
        "greetings",
        workflows=[typed.Workflow("hello", input=pb.Name)],
        activities=[typed.Activity("greet", function=greet)],
    )

Role: the parts of a definition and what of it is refused, and what the generated files build upon.
The command ``typedreplay FILE`` writes ``replay_gen.py`` beside the file that holds a definition.

Invariants:

- The names in the definition are what is stored, and the functions' own are not (T2).
- A `Flow` is an interface: a workflow written against it runs on an ordinary stub as well (T3).

Left to `typedgen`: loading a definition, and writing the file.
"""

from __future__ import annotations

import inspect
import keyword
import re
import sys
import types
import typing
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from google.protobuf.message import Message

from .client import BadSignature, check_signature
from .consumer import Metrics
from .run import Call as AnyCall
from .run import RunContext
from .signal import InvalidSignal, check_signal
from .storage.database import Error
from .storage.event import Event, EventType, InvalidName, check_name, check_target

__all__ = [
    "Activity",
    "Call",
    "DefinitionError",
    "Flow",
    "Metrics",
    "Namespace",
    "Output",
    "RunFlow",
    "Signal",
    "Workflow",
    "check_workflow",
    "handle",
]

M = TypeVar("M", bound=Message)
R = TypeVar("R", bound=Message | None)
R_co = TypeVar("R_co", bound=Message | None, covariant=True)

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_ACTIVITY = "activity(ctx: ActivityContext, backends: B, message: M) -> M2 | None"


class Place(NamedTuple):
    """Where something is written."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class DefinitionError(Error, ValueError):
    """A definition that cannot be used.  Says file, line, and reason."""

    def __init__(self, place: Place, reason: str) -> None:
        super().__init__(f"{place}: {reason}")


def _caller() -> Place:
    """Where the part of a definition is written that is being made: the caller of its class."""
    frame = sys._getframe(2)
    return Place(frame.f_code.co_filename, frame.f_lineno)


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """Part of a definition: its stored name, and what it is for, which becomes a docstring."""

    name: str = field(kw_only=False)
    description: str = ""
    place: Place = field(init=False, repr=False, default_factory=_caller)

    def __str__(self) -> str:
        return f"{type(self).__name__.lower()} {self.name!r}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Signal(Part):
    """A signal of a workflow: its type, from -128 to 127, and its message's class."""

    enum: int
    message: type[Message]


@dataclass(frozen=True, kw_only=True, eq=False)
class Output(Part):
    """An output of a workflow, with its message's class.  Its name is unique in the namespace."""

    message: type[Message]


@dataclass(frozen=True, kw_only=True, eq=False)
class Workflow(Part):
    """A workflow, with the class of its runs' input."""

    input: type[Message]
    signals: Sequence[Signal] = ()
    outputs: Sequence[Output] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Activity(Part):
    """An activity, with its function, whose annotations say what it takes and returns."""

    function: Callable[..., Message | None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Namespace(Part):
    """A namespace: all its workflows and activities."""

    workflows: Sequence[Workflow]
    activities: Sequence[Activity] = ()


# What is refused.


def check(namespace: Namespace) -> None:
    """Raise `DefinitionError` for the first part that cannot be used.

    Names that collide are not looked for here: that shows when code is made of them.
    """
    _check_part(namespace)
    _check_parts(namespace, "workflows", Workflow)
    _check_parts(namespace, "activities", Activity)
    if not namespace.workflows:
        raise DefinitionError(namespace.place, f"{namespace} has no workflows")
    for workflow in namespace.workflows:
        _check_message(workflow, "input", workflow.input)
        _check_parts(workflow, "signals", Signal)
        _check_parts(workflow, "outputs", Output)
        for output in workflow.outputs:
            _check_message(output, "message", output.message)
        _check_signals(workflow)
    for activity in namespace.activities:
        types_of(activity)


def _check_parts(owner: Part, name: str, kind: type[Part]) -> None:
    parts = getattr(owner, name)
    expected = f"expected a list of typed.{kind.__name__}"
    if not isinstance(parts, list | tuple):
        raise DefinitionError(owner.place, f"{name} of {owner} is {parts!r:.100}: {expected}")
    for part in parts:
        if not isinstance(part, kind):
            raise DefinitionError(owner.place, f"{name} of {owner} has {part!r:.100}: {expected}")
        _check_part(part)


def _check_part(part: Part) -> None:
    what = type(part).__name__.lower()
    try:
        check_name(what, part.name)
        if isinstance(part, Activity | Output):
            check_target(what, part.name)
    except InvalidName as error:
        raise DefinitionError(part.place, str(error)) from None
    usable = _NAME.fullmatch(part.name) and not keyword.iskeyword(part.name)
    if not usable and not isinstance(part, Namespace):
        raise DefinitionError(
            part.place,
            f"{part} would be part of functions' names: use a letter, then letters, digits and _"
            " of ASCII, and no keyword",
        )
    text = part.description
    if not isinstance(text, str) or any(
        unicodedata.category(c) in ("Cc", "Cs") for c in re.sub(r"[\n\t]", "", text)
    ):
        raise DefinitionError(
            part.place, f"{part}: its description is not a text, or holds control characters"
        )


def _is_message(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Message) and value is not Message


def _check_message(part: Part, name: str, value: object) -> None:
    if not _is_message(value):
        raise DefinitionError(
            part.place, f"{name} of {part} is {value!r:.100}: expected the class of a message"
        )


def _check_signals(workflow: Workflow) -> None:
    known: dict[int, Signal] = {}
    for each in workflow.signals:
        _check_message(each, "message", each.message)
        try:
            enum = check_signal(each.enum)
        except InvalidSignal as error:
            raise DefinitionError(each.place, f"{each}: {error}") from None
        if (other := known.setdefault(enum, each)) is not each:
            raise DefinitionError(
                each.place, f"{each} has the enum {enum} of {other} ({other.place}): choose another"
            )


class Types(NamedTuple):
    """What an activity's function is annotated with."""

    backends: Any
    takes: Any  # M or M | None
    returns: Any  # the same, or NoneType


def types_of(activity: Activity) -> Types:
    """The types of an activity.  Raises `DefinitionError` where they are not to be had."""
    function = activity.function
    try:
        check_signature(function, _ACTIVITY)
        hints = typing.get_type_hints(inspect.unwrap(function))
    except (BadSignature, NameError, TypeError, AttributeError) as error:
        raise DefinitionError(activity.place, f"{activity}: {error}") from None
    _, backends, message = list(inspect.signature(function).parameters)[:3]
    for name, at_least in ((backends, None), (message, 1), ("return", 0)):
        problem = f"has no annotation for {name}"
        if name in hints:
            if at_least is None or at_least <= _messages_in(hints[name]) <= 1:
                continue
            problem = f"has {hints[name]!r:.100} for {name}"
        reason = f"{activity}: its function {problem}: expected {_ACTIVITY}"
        raise DefinitionError(activity.place, reason)
    return Types(hints[backends], hints[message], hints["return"])


def _messages_in(annotation: Any) -> int:
    """How many messages' classes are in ``M | None`` and its like; a large number for others."""
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    found = {*(typing.get_args(annotation) if union else (annotation,))} - {types.NoneType}
    return len(found) if all(_is_message(each) for each in found) else sys.maxsize


# What the generated files build upon.


@dataclass(frozen=True, slots=True)
class Call(AnyCall, Generic[R_co]):
    """An activity call for `Flow.gather`, with the type of its answer."""


class Flow(Protocol):
    """What any workflow may do.  `{Workflow}Flow`, which is generated, has its names and types."""

    @property
    def run(self) -> str:
        """The run's id."""
        ...

    @property
    def create_event(self) -> Event:
        """The event that began this iteration."""
        ...

    @property
    def last_event(self) -> Event:
        """The last event that the run was given."""
        ...

    def now(self) -> datetime:
        """The timestamp of the last event that the run was given; never goes back (R8)."""
        ...

    def sleep(self, duration: timedelta) -> None:
        """Wait for at least `duration` (R7)."""
        ...

    def gather(self, *calls: Call[R]) -> list[R]:
        """Have activities executed at once; the answers in the order of the calls (R11)."""
        ...


class RunFlow:
    """A `Flow` of a run.  What is generated derives from it, with the workflow's own methods."""

    def __init__(self, ctx: RunContext) -> None:
        self._ctx = ctx

    @property
    def run(self) -> str:
        """As in `Flow`."""
        return self._ctx.run

    @property
    def create_event(self) -> Event:
        """As in `Flow`."""
        return self._ctx.create_event

    @property
    def last_event(self) -> Event:
        """As in `Flow`."""
        return self._ctx.last_event

    def now(self) -> datetime:
        """As in `Flow`."""
        return self._ctx.now()

    def sleep(self, duration: timedelta) -> None:
        """As in `Flow`."""
        self._ctx.sleep(duration)

    def gather(self, *calls: Call[R]) -> list[R]:
        """As in `Flow`."""
        return self._ctx.gather(*calls)

    def _await(self, enum: int, message: type[M], timeout: timedelta) -> M | None:
        """The message of the next signal; None after the time-out, and then only.

        A signal that an untyped program has sent without a message comes as an empty one.
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
    """Call `fn` with the run's id and the message, if the event is of this type and place."""
    if event.type is type and event.key[:2] == workflow and event.key.target == target:
        fn(event.key.run, event.message)


def check_workflow(function: Callable[..., None], name: str, message: type[Message]) -> None:
    """Refuse a function that cannot be the workflow `name`.  Raises `BadSignature`."""
    takes = check_signature(function, f"{name}(flow, message: {message.__name__}) -> None")
    if takes is not None and takes is not message:
        given = getattr(function, "__qualname__", function)
        raise BadSignature(
            f"{given} takes {takes.__name__}, the workflow {name} is defined with"
            f" {message.__name__}: change one of them"
        )
