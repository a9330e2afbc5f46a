"""Signatures: what functions, signals and outputs take and return (J1, J5).

Role: `check_signature` reads the annotations of a workflow or activity once, when it is registered.
`signature` does the same, with a memory, for a function that stands where a stored name may.
`SignalType` and `OutputType` name a signal or output together with its type.

Left to `storage.values`: what an annotation means.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable
from enum import IntEnum
from typing import Any, Generic, NamedTuple, TypeVar, overload

from google.protobuf.message import Message

from .server.proto.replaypb_pb2 import SleepDone
from .signal import Run, check_signal, named
from .storage.database import Error
from .storage.event import Key, check_name, check_run, check_target, read
from .storage.values import ANY, BadAnnotation, Checked, Kind

T = TypeVar("T")

WORKFLOW = "workflow(ctx: RunContext, message: M) -> R"
ACTIVITY = "activity(ctx: ActivityContext, backends: B, message: M) -> R"


class BadSignature(Error, TypeError):
    """A function that cannot be registered, because it does not take the right arguments."""


class Signature(NamedTuple):
    """The kinds of a function's message and of its return value."""

    takes: Kind = ANY
    returns: Kind = ANY


#: That of a function known only by its name.
UNTYPED = Signature()


def check_signature(function: Callable[..., Any], expected: str) -> Signature:
    """Return what `function` takes and returns by its annotations.

    `expected` is the signature for the error, such as ``workflow(ctx, message)``; `function` must
    take as many arguments.  Raises `BadSignature`, or `BadAnnotation` with the parameter's name.
    """
    count = expected.count(",") + 1
    name = getattr(function, "__qualname__", repr(function))
    if problem := _misfit(function, count):
        raise BadSignature(f"{name} {problem}: expected {expected}")
    found = inspect.signature(function)
    last = list(found.parameters.values())[count - 1]
    returned = found.return_annotation
    return Signature(
        _kind(function, last.annotation, f"parameter {last.name} of {name}"),
        _kind(function, returned, f"the return value of {name}"),
    )


@functools.lru_cache(maxsize=1000)
def signature(function: Callable[..., Any], expected: str) -> Signature:
    """As `check_signature`, for each call."""
    return check_signature(function, expected)


def _kind(function: Callable[..., Any], annotation: Any, what: str) -> Kind:
    """Read one annotation.  The others may be of no concern, and not be imported here."""
    if annotation is inspect.Parameter.empty:
        return ANY
    return Kind.of(_resolved(function, annotation, what), what)


def _resolved(function: Callable[..., Any], annotation: Any, what: str) -> Any:
    holder = type("", (), {"__annotations__": {"it": annotation}})
    try:
        return typing.get_type_hints(holder, _globals(function), {})["it"]
    except (NameError, TypeError, AttributeError, SyntaxError) as error:
        raise BadAnnotation(f"{what} is annotated {annotation!r}: {error}") from error


def context_of(function: Callable[..., Any]) -> Any:
    """Return what the annotation of a function's first parameter names; None if it has none.

    A name that is imported for type checkers only comes back as text.
    """
    first = next(iter(inspect.signature(function).parameters.values()), None)
    if first is None or first.annotation is inspect.Parameter.empty:
        return None
    try:
        return _resolved(function, first.annotation, first.name)
    except BadAnnotation:
        return first.annotation


def _globals(function: Any) -> dict[str, Any]:
    """The names that the annotations of a function, method, partial or callable object see."""
    function = inspect.unwrap(function)
    while isinstance(function, functools.partial):
        function = inspect.unwrap(function.func)
    if not hasattr(function, "__globals__"):
        function = getattr(function, "__func__", type(function).__call__)
    return getattr(function, "__globals__", {})


def _misfit(function: Callable[..., Any], count: int) -> str:
    """Say why `function` cannot be called with `count` arguments; empty if it can."""
    if not callable(function):
        return "is not a function"
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        return "is an async function; replay runs plain functions only"
    if inspect.isgeneratorfunction(function):
        return "is a generator; replay runs plain functions only"
    try:
        signature = inspect.signature(function)
        signature.bind(*range(count))
    except (TypeError, ValueError) as error:
        return f"cannot be called with {count} arguments ({error})"
    if len(list(signature.parameters)) < count:
        return f"names fewer than {count} parameters"
    return ""


class _Sent(Kind):
    """The kind of a type of signals.  Their awaits give back a value of it, or a `SleepDone`."""

    __slots__ = ("_kind",)

    def __init__(self, kind: Kind) -> None:
        super().__init__(kind.name, kind.optional)
        self._kind = kind

    def encode(self, value: Any, what: object) -> Message | Checked | None:
        """As in `Kind`, but None is refused unless the type names it."""
        if value is None and not self.optional:
            raise self.wrong(what, value)
        return self._kind.encode(value, what)

    def decode(self, raw: bytes | None, what: object) -> Any:
        """As in `Kind`.  A program without the type may have sent a signal without a message."""
        if isinstance(read(raw), SleepDone):
            return SleepDone()
        if not raw and self._kind.cls is not None and not self.optional:
            return self._kind.cls()
        return self._kind.decode(raw, what)


class SignalType(Generic[T]):
    """A type of signals: its number, and what its signals hold.

    A signal without a message looks like one that did not come.  So None is refused, unless the
    type allows it.
    """

    __slots__ = ("kind", "number")

    @overload
    def __init__(self, number: int, holds: type[T]) -> None: ...
    @overload
    def __init__(self: SignalType[Any], number: int, holds: Any) -> None: ...
    def __init__(self, number: int, holds: Any) -> None:
        self.number = check_signal(number)
        self.kind = _Sent(Kind.of(holds, f"signal {self.number}"))


class OutputType(Generic[T]):
    """An output: its name, and what it holds."""

    __slots__ = ("kind", "name")

    @overload
    def __init__(self, name: str, holds: type[T]) -> None: ...
    @overload
    def __init__(self: OutputType[Any], name: str, holds: Any) -> None: ...
    def __init__(self, name: str, holds: Any) -> None:
        self.name = check_target("output", name)
        self.kind = Kind.of(holds, f"output {name}")


def workflow_name(workflow: str | Callable[..., Any]) -> str:
    """Return the stored name of a workflow that is given by its function or its name."""
    return workflow if isinstance(workflow, str) else stored_name("workflow", workflow, None)


def encoded_input(
    namespace: str, workflow: str | Callable[..., Any], run: str, message: Any
) -> tuple[Key, Any]:
    """Return the key of a run to start, and its input as the workflow's annotation says (J3)."""
    key = Key(namespace, workflow_name(workflow), run)
    check_run(*key[:3])
    if not isinstance(workflow, str):
        message = signature(workflow, WORKFLOW).takes.encode(message, key)
    return key, message


def encoded_signal(
    to: Run, signal: int | IntEnum | SignalType[Any], message: Any
) -> tuple[int | IntEnum, Any]:
    """Return the number of a signal's type, and its message as a `SignalType` says (J3)."""
    if not isinstance(signal, SignalType):
        return signal, message
    return signal.number, signal.kind.encode(message, named(to, signal.number))


def stored_name(kind: str, function: Callable[..., Any], name: str | None) -> str:
    """Return the name to store for a workflow or activity: `name`, or the function's own (N1)."""
    check = check_target if kind == "activity" else check_name
    return check(kind, str(getattr(function, "__name__", "")) if name is None else name)
