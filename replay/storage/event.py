"""What an event is: its type, its key, its message, and which names and messages are allowed.

Invariant: whatever is refused is refused here, before anything is stored (N2, N3).

Left to `log`: how events are stored and read.
"""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime
from enum import IntEnum
from functools import lru_cache
from typing import Any, NamedTuple

from google.protobuf import any_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, EncodeError, Message

from .database import Error


class InvalidName(Error, ValueError):
    """A name that the log does not take (N2)."""


class MessageError(Error):
    """A message that cannot be stored, or a stored one that cannot be read (N3)."""


class NotAMessage(MessageError, TypeError):
    """Something that is neither a protobuf message nor None."""


class MessageTooLarge(MessageError, ValueError):
    """A message of more bytes than the limit."""


class UnknownMessageType(MessageError):
    """A stored message of a type that this process has not imported."""


class EventType(IntEnum):
    """What happened (L3).  The numbers are stored."""

    NOOP = 0
    RUN_CREATED = 1
    RUN_COMPLETED = 2
    RUN_OUTPUT = 3
    ACTIVITY_REQUEST = 4
    ACTIVITY_RESPONSE = 5


TYPES = tuple(EventType)


def check_name(what: str, name: str) -> str:
    """`name`, if it may be stored as the name of a `what`; else raises `InvalidName` (N2)."""
    if type(name) is not str:  # an Enum that is a string, too, is written in two ways
        raise InvalidName(f"{what} is {name!r}: expected a plain string")
    return _check_name(what, name)


@lru_cache(maxsize=10_000)
def _check_name(what: str, name: str) -> str:
    if not name:
        problem = "is empty"
    elif len(name) > 255:
        problem = f"has {len(name)} characters, at most 255 are allowed"
    elif "/" in name or any(unicodedata.category(c) in ("Cc", "Cs") for c in name):
        problem = "holds a slash, a control character or half a surrogate pair"
    elif name != name.strip() or name in (".", ".."):
        problem = "starts or ends with white space, or is . or .."
    else:
        return name
    raise InvalidName(f"{what} {name[:300]!r} {problem}: choose another name")


def check_run(namespace: str, workflow: str, run: str) -> None:
    """As `check_name`, for the three names of a run."""
    check_name("namespace", namespace)
    check_name("workflow", workflow)
    check_name("run", run)


def check_target(what: str, name: str) -> str:
    """As `check_name`, for activities and outputs: names of the library's own are refused too."""
    if isinstance(name, str) and name.startswith("replay_"):
        raise InvalidName(f"{what} {name!r} begins with replay_, which is reserved: rename it")
    return check_name(what, name)


class Key(NamedTuple):
    """The place of an event: a run's iteration and, for some types, a target in it.

    `target` is the name of the activity or output, `sequence` the count of its uses so far in this
    iteration (A5); both are empty for the beginning and the end of an iteration.
    """

    namespace: str
    workflow: str
    run: str
    iteration: int = 0
    target: str = ""
    sequence: str = ""

    def __str__(self) -> str:
        start = f"{self.namespace}/{self.workflow}/{self.run}/{self.iteration}"
        return f"{start}/{self.target}/{self.sequence}" if self.target else start

    @classmethod
    def parse(cls, text: str) -> Key:
        """The key that `str` wrote.  Raises `InvalidName` for anything else."""
        parts = text.split("/")
        if len(parts) in (4, 6) and parts[3].isdecimal():
            return cls(parts[0], parts[1], parts[2], int(parts[3]), *parts[4:])
        if len(parts) == 2:  # a no-op: replay_noop/id
            return cls("", "", "", 0, parts[0], parts[1])
        raise InvalidName(f"{text!r} is not the key of an event")

    def iteration_key(self) -> Key:
        """The key of the iteration that this is a place in."""
        return self if not self.target else Key(*self[:4])


class Event:
    """Something that happened.  `id` is 0 until it is stored."""

    __slots__ = ("id", "key", "raw", "text", "timestamp", "type")

    def __init__(
        self,
        id: int,
        type: EventType,
        key: Key,
        timestamp: datetime,
        raw: bytes | None,
        text: str = "",
    ) -> None:
        self.id = id
        self.type = type
        self.key = key
        self.timestamp = timestamp
        self.raw = raw
        self.text = text or str(key)  # the key as stored

    @property
    def message(self) -> Any:
        """The message, decoded anew each time; None where there is none.

        Raises `UnknownMessageType` or `MessageError`.
        """
        return unpack(self.raw)

    def __repr__(self) -> str:
        return f"<Event {self.id} {self.type.name} {self.key}>"


def pack(message: Message | None, limit: int, what: object) -> bytes | None:
    """A message as stored: the bytes of a `google.protobuf.Any`.

    Raises `NotAMessage`, `MessageTooLarge`, or `MessageError` for one that lacks a required field,
    naming `what` it was for.
    """
    if message is None:
        return None
    if not isinstance(message, Message):
        raise NotAMessage(
            f"{what}: {type(message).__name__} is not a protobuf message: pass a message, or None"
        )
    url = "type.googleapis.com/" + message.DESCRIPTOR.full_name
    try:
        value = message.SerializeToString()
    except EncodeError as error:
        raise MessageError(f"{what}: {error}") from error
    raw = any_pb2.Any(type_url=url, value=value).SerializeToString()
    if len(raw) > limit:
        raise MessageTooLarge(
            f"{what}: the {message.DESCRIPTOR.name} has {len(raw)} bytes, the limit is {limit}:"
            " store large data elsewhere and pass a reference, or raise max_message in the URL"
        )
    return raw


def unpack(raw: bytes | None) -> Any:
    """The message that `pack` stored; None for none."""
    if not raw:
        return None
    try:
        wrapped = any_pb2.Any.FromString(raw)
        if not wrapped.type_url:
            return None
        return message_class(wrapped.type_url).FromString(wrapped.value)
    except DecodeError as error:
        raise MessageError(f"a stored message is damaged: {error}") from error


@lru_cache(maxsize=1000)
def message_class(type_url: str) -> Any:
    """The class of a type URL.  Raises `UnknownMessageType`."""
    name = type_url.rpartition("/")[2]
    try:
        return message_factory.GetMessageClass(
            descriptor_pool.Default().FindMessageTypeByName(name)
        )
    except KeyError:
        raise UnknownMessageType(
            f"this process knows no message type {name}: import the module that defines it"
        ) from None


#: The timestamp of an event that is not stored yet.
UNKNOWN = datetime.max.replace(tzinfo=UTC)
