"""Values: what a Python annotation means as a stored message.

Role: a `Kind` is what an annotation takes.  It makes the message that is stored of a value, and the
value of the stored message.  A protobuf class keeps its own bytes.  All else is JSON, by msgspec,
in a message `Json` (J1, J2).

Invariant: a value that does not fit is refused before it is stored (J3).  msgspec checks nothing
when it encodes, and turns NaN into null.  So each value is decoded at once.  If that gives another
value, `_difference` looks for the place.  If not, the new event carries what it gave to the first
reader: most are in this process, and need not decode it again.

Left to `replay.signature`: which annotation a value is for.
"""

from __future__ import annotations

import math
import types
import typing
from collections import deque
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import msgspec
from google.protobuf.message import Message
from msgspec import inspect

from ..server.proto.values_pb2 import Json
from .database import Error
from .event import Event, MessageError, NotAMessage, read, unpack

_CARRIERS = 2000  # events that carry a value
_CARRIED = 2000  # bytes that such an event counts for


class BadAnnotation(Error, TypeError):
    """An annotation of which no value can be stored."""


class WrongValue(MessageError, ValueError):
    """A value that does not fit the annotation that it is for (J3)."""


class Checked(msgspec.Struct, gc=False):
    """The message of a plain value, and the value that it gives back to readers of this kind."""

    message: Json
    kind: Kind
    value: Any


class Kind:
    """The values that an annotation takes.  `ANY` takes all, and gives plain JSON back."""

    __slots__ = ("cls", "name", "optional")

    def __init__(
        self, name: str = "Any", optional: bool = True, cls: type[Message] | None = None
    ) -> None:
        self.name = name
        #: Whether the annotation names None.
        self.optional = optional
        #: The protobuf class, if the annotation is one.
        self.cls = cls

    @staticmethod
    def of(annotation: Any, what: str) -> Kind:
        """Return what an annotation takes.  Raises `BadAnnotation` with `what` it belongs to."""
        members = _members(annotation)
        optional = type(None) in members
        members = [each for each in members if each is not type(None)]
        if any(each in (Any, object, Message) or _is_open(each) for each in members):
            return ANY
        if len(members) == 1 and _is_message(members[0]):
            return _Proto(members[0].__name__, optional, members[0])
        try:
            # All who name the same class share its kind, and with it what events carry.
            make = _shared if isinstance(annotation, type) else _Plain
            return make(annotation, optional)
        except (TypeError, NameError, AttributeError, ValueError) as error:
            if len(members) > 1:
                return _Choice([Kind.of(each, what) for each in members], optional, what)
            raise BadAnnotation(f"{what} is annotated {annotation!r}: {error}") from error

    def encode(self, value: Any, what: object) -> Message | Checked | None:
        """Return the message to store, and with a plain value also what it gives back.

        What is such a message already is returned as it is.  Raises `WrongValue` or `NotAMessage`,
        which name `what`.
        """
        if value is None or isinstance(value, (Message, Checked)):
            return value
        try:
            kind = _of_class(value.__class__)
        except BadAnnotation as error:
            raise NotAMessage(
                f"{what}: {type(value).__name__} is neither a protobuf message nor a plain value:"
                " pass a message, a dataclass, str, int, float, bool, list, dict or None"
            ) from error
        return kind.encode(value, what)

    def message(self, value: Any, what: object) -> Message | None:
        """Return the message alone, as `encode` makes it."""
        made = self.encode(value, what)
        return made.message if isinstance(made, Checked) else made

    def decode(self, raw: bytes | None, what: object) -> Any:
        """Return the value of a stored message.  Raises `WrongValue` or another `MessageError`."""
        return unpack(raw)

    def read(self, event: Event) -> Any:
        """Return the value of an event's message, as `decode` does."""
        return self.decode(event.raw if event.seal is None else event.content(), event.text)

    def wrong(self, what: object, got: object) -> WrongValue:
        """Make the error for a value of another class."""
        return WrongValue(f"{what}: expected {self.name}, got {type(got).__name__}")


ANY = Kind()


class _Proto(Kind):
    """A protobuf class.  It also takes None, which is stored as no message."""

    __slots__ = ()

    def encode(self, value: Any, what: object) -> Message | None:
        """As in `Kind`."""
        if value is None or isinstance(value, self.cls or Message):
            return value
        raise self.wrong(what, value)

    def decode(self, raw: bytes | None, what: object) -> Any:
        """As in `Kind`."""
        if (message := read(raw)) is None or isinstance(message, self.cls or Message):
            return message
        raise self.wrong(what, unpack(raw))


class _Plain(Kind):
    """Values that msgspec writes as JSON, and classes that read and write their own JSON."""

    __slots__ = ("_classes", "_decode", "_encode", "_info")

    def __init__(self, annotation: Any, optional: bool) -> None:
        members = _members(annotation)
        super().__init__(" | ".join(map(_name, members)).removesuffix(" | None"), optional)
        self._classes = tuple(map(_class, members))
        self._decode = msgspec.json.Decoder(annotation, dec_hook=_load).decode
        self._encode = msgspec.json.Encoder(enc_hook=_dump).encode
        self._info = inspect.type_info(annotation)
        for cls in _foreign(self._info, set()):
            raise TypeError(f"{cls.__name__} has no form in JSON")

    def encode(self, value: Any, what: object) -> Message | Checked | None:
        """As in `Kind`."""
        if value is None and self.optional:
            return None
        try:
            data = self._encode(value)
            back = self._decode(data)
            problem = "" if back == value else self._problem(value, back)
        except RecursionError:
            problem = f"{self.name}: it holds itself, or too many levels"
        except Exception as error:  # also of a class's own methods
            problem = _not_finite(value, self.name) or _text(error, self.name)
            if not isinstance(value, self._classes):
                problem = f"{self.name}: expected {self.name}, got {type(value).__name__}"
        if problem:
            raise WrongValue(f"{what}: {problem}")
        return Checked(Json(type=type(value).__name__, json=data), self, back)

    def read(self, event: Event) -> Any:
        """As in `Kind`.  The first reader gets the value that the event carries."""
        carried = event.carried
        # In one step, so that no two readers get the same object.
        if carried is not None and (value := carried.pop(self, None)) is not None:
            return value
        return super().read(event)

    def _problem(self, value: Any, back: Any) -> str:
        return _not_finite(value, self.name) or _difference(self._info, value, back, self.name)

    def decode(self, raw: bytes | None, what: object) -> Any:
        """As in `Kind`."""
        message = read(raw)
        if message is None and self.optional:
            return None
        if not isinstance(message, Json):
            raise self.wrong(what, message)
        try:
            return self._decode(message.json)
        except Exception as error:  # also of a class's own methods
            raise WrongValue(f"{what}: {_text(error, self.name)}") from error


_shared = lru_cache(maxsize=1000)(_Plain)


class _Choice(Kind):
    """A union that msgspec cannot tell apart: the name of the stored class decides."""

    __slots__ = ("_members",)

    def __init__(self, members: list[Kind], optional: bool, what: str) -> None:
        super().__init__(" | ".join(each.name for each in members), optional)
        self._members = {each.name: each for each in members}
        if len(self._members) < len(members):
            raise BadAnnotation(f"{what} is annotated {self.name}: two names are equal")

    def encode(self, value: Any, what: object) -> Message | Checked | None:
        """As in `Kind`."""
        if value is None and self.optional:
            return None
        return self._member(type(value).__name__, value, what).encode(value, what)

    def decode(self, raw: bytes | None, what: object) -> Any:
        """As in `Kind`."""
        message = read(raw)
        if message is None and self.optional:
            return None
        name = message.type if isinstance(message, Json) else type(message).__name__
        return self._member(name, message, what).decode(raw, what)

    def _member(self, name: str, value: Any, what: object) -> Kind:
        if (member := self._members.get(name)) is None:
            raise WrongValue(f"{what}: expected {self.name}, got {name}")
        return member


@lru_cache(maxsize=1000)
def _of_class(cls: type) -> Kind:
    """Return the kind of a value without an annotation, by its class or a class below that.

    Raises `BadAnnotation`.
    """
    for base in cls.__mro__[:-1]:
        try:
            return Kind.of(base, "it")
        except BadAnnotation:
            continue  # a defaultdict is stored as a dict
    raise BadAnnotation(f"{cls.__name__} has no form in JSON")


class Carrier:
    """Has the newest events of a process carry the values that their messages give back.

    Invariant: 2,000 events carry one at most, and each of them counts for 2,000 bytes at most.  So
    it does not matter whether their readers are in this process.
    """

    def __init__(self) -> None:
        self._events: deque[Event] = deque()

    def load(self, event: Event, checked: Checked) -> None:
        """Have a new event carry its value."""
        if event.size > _CARRIED:
            return
        event.carried = {checked.kind: checked.value}
        self._events.append(event)
        if len(self._events) > _CARRIERS:
            self._events.popleft().carried = None


# Annotations.


def _members(annotation: Any) -> list[Any]:
    """The members of a union, with NoneType for None; of anything else itself."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return list(typing.get_args(annotation))
    return [type(None) if annotation is None else annotation]


def _is_open(annotation: Any) -> bool:
    return isinstance(annotation, typing.TypeVar) or annotation in (typing.NoReturn, typing.Never)


def _is_message(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Message)


def _name(annotation: Any) -> str:
    if annotation is type(None):
        return "None"
    return str(getattr(annotation, "__name__", annotation))


def _class(annotation: Any) -> type:
    """The class of the values that an annotation takes; `object` if it is not that simple."""
    found = dict if typing.is_typeddict(annotation) else typing.get_origin(annotation) or annotation
    return found if isinstance(found, type) and found is not float else object


def _is_model(cls: Any) -> bool:
    """Whether a class writes and reads its own JSON, as those of pydantic do."""
    return hasattr(cls, "model_dump_json") and hasattr(cls, "model_validate_json")


def _dump(value: Any) -> Any:
    if _is_model(type(value)):
        return msgspec.Raw(value.model_dump_json().encode())
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _load(cls: Any, value: Any) -> Any:
    return value if cls is object else cls.model_validate_json(msgspec.json.encode(value))


def _foreign(info: Any, seen: set[int]) -> Iterator[type]:
    """Yield the classes in an annotation that msgspec does not know."""
    if not isinstance(info, msgspec.Struct) or id(info) in seen:
        return
    seen.add(id(info))
    if isinstance(info, inspect.CustomType) and info.cls is not object and not _is_model(info.cls):
        yield info.cls
    for name in info.__struct_fields__:
        part = getattr(info, name)
        for each in part if isinstance(part, tuple) else (part,):
            yield from _foreign(each, seen)


# Where a value does not fit.  Only one that differs from what its bytes give back comes here.


def _text(error: Exception, root: str) -> str:
    """The text of an error of msgspec's, with the place in front: ``Order.id: expected int``."""
    text, _, place = str(error).replace("`", "").partition(" - at ")
    if isinstance(error, msgspec.MsgspecError):
        text = text[:1].lower() + text[1:]
    return f"{place.replace('$', root, 1) or root}: {text}"


def _inside(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield a value and all that it holds, each with its path."""
    yield path, value
    if isinstance(value, dict):
        parts = [(f"[{key!r}]", each) for key, each in value.items()]
    elif isinstance(value, (list, tuple, set, frozenset)):
        parts = [(f"[{n}]", each) for n, each in enumerate(value)]
    else:
        cls = type(value)
        names = getattr(cls, "__struct_fields__", None) or getattr(cls, "__dataclass_fields__", ())
        names = names or (vars(value) if _is_model(cls) else ())
        parts = [(f".{name}", getattr(value, name)) for name in names]
    for suffix, part in parts:
        yield from _inside(part, path + suffix)


def _not_finite(value: Any, root: str) -> str:
    for path, each in _inside(value, root):
        if isinstance(each, float) and not math.isfinite(each):
            return f"{path}: {each} is no number in JSON"
    return ""


def _difference(info: Any, value: Any, back: Any, path: str) -> str:
    """Say where `back` is another value; empty if each difference is below an `Any`."""
    if isinstance(info, inspect.AnyType) or getattr(info, "cls", None) is object:
        return _odd_key(value, path)
    if value == back:
        return ""
    for each in getattr(info, "types", (info,)):
        if (parts := _parts(each, value, back, path)) is not None:
            return next(filter(None, (_difference(*part) for part in parts)), "")
    if type(value) is not type(back) and not (type(value) is int and type(back) is float):
        return f"{path}: expected {type(back).__name__}, got {type(value).__name__}"
    return "" if _is_model(type(value)) else f"{path}: {value!r:.100} comes back as {back!r:.100}"


def _odd_key(value: Any, root: str) -> str:
    for path, each in _inside(value, root):
        if isinstance(each, dict):
            for key in each:
                if not isinstance(key, str):
                    return f"{path}: expected str as key, got {type(key).__name__}"
    return ""


def _parts(info: Any, value: Any, back: Any, path: str) -> list[tuple[Any, Any, Any, str]] | None:
    """The parts of a value, for `_difference`; None if it is no compound that `info` describes."""
    if isinstance(value, dict) and isinstance(info, inspect.DictType):
        keys = inspect.StrType() if isinstance(info.key_type, inspect.AnyType) else info.key_type
        pairs = list(zip(value, back, strict=False))
        found = [(keys, key, other, f"{path}: key {key!r}") for key, other in pairs]
        for key, other in pairs:
            found.append((info.value_type, value[key], back[other], f"{path}[{key!r}]"))
        return found
    many = getattr(info, "item_types", None) or [getattr(info, "item_type", None)]
    if isinstance(value, (list, tuple)) and isinstance(value, type(back)) and many[0] is not None:
        many = many if len(many) == len(value) else many * len(value)
        items = enumerate(zip(many, value, back, strict=True))
        return [(*each, f"{path}[{n}]") for n, each in items]
    if type(value) is not type(back) or not hasattr(info, "fields"):
        return None
    get: Any = dict.get if isinstance(value, dict) else getattr
    return [
        (each.type, get(value, each.name, None), get(back, each.name, None), f"{path}.{each.name}")
        for each in info.fields
    ]
