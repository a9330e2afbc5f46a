"""Events: their types, keys and messages, and the rules for names and messages.

Invariant: a bad name or message is refused here, before anything is stored (N2, N3).

Left to `replay.log`: how events are stored and read.
"""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime
from enum import IntEnum
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import msgspec
from google.protobuf import any_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, EncodeError, Message

from ..server.proto.values_pb2 import Encoded, Json, Pruned
from .database import Error, Row, from_text


class InvalidName(Error, ValueError):
    """A name that cannot be stored (N2)."""


class MessageError(Error):
    """A message that cannot be stored, or a stored message that cannot be read (N3)."""


class NotAMessage(MessageError, TypeError):
    """A value that is neither a protobuf message, nor a plain value, nor None."""


class MissingMessage(MessageError, ValueError):
    """None in a namespace in which everything has a message."""


class MessageTooLarge(MessageError, ValueError):
    """A message that is larger than the limit."""


class UnknownMessageType(MessageError):
    """A stored message whose type this process has not imported."""


class Unreadable(Error, ValueError):
    """A row that is no event, because another program wrote or changed it (L3)."""


class EventType(IntEnum):
    """The types of events (L3).  The log stores the numbers."""

    NOOP = 0
    RUN_CREATED = 1
    RUN_COMPLETED = 2
    RUN_OUTPUT = 3
    ACTIVITY_REQUEST = 4
    ACTIVITY_RESPONSE = 5


TYPES = tuple(EventType)
_BY_NUMBER = {int(type): type for type in EventType}
LAST_ITERATION = 2**31 - 1  # what the column holds


def check_name(what: str, name: str) -> str:
    """Return `name` if it may be stored as the name of a `what`; else raise `InvalidName` (N2)."""
    if type(name) is not str:  # str() and format() of a string Enum differ
        raise InvalidName(f"{what} is {name!r}: expected a plain string")
    return _check_name(what, name)


@lru_cache(maxsize=10_000)
def _check_name(what: str, name: str) -> str:
    if not name:
        problem = "is empty"
    elif len(name) > 255:
        problem = f"has {len(name)} characters, at most 255 are allowed"
    elif "/" in name or (not (name.isascii() and name.isprintable()) and _has_control(name)):
        problem = "holds a slash, a control character or half a surrogate pair"
    elif name != name.strip() or name in (".", ".."):
        problem = "starts or ends with white space, or is . or .."
    else:
        return name
    raise InvalidName(f"{what} {name[:300]!r} {problem}: choose another name")


def check_run(namespace: str, workflow: str, run: str) -> None:
    """Check the three names of a run.  Raises `InvalidName`."""
    check_name("namespace", namespace)
    check_name("workflow", workflow)
    check_name("run", run)


def check_target(what: str, name: str) -> str:
    """Check the name of an activity or output.  Names that begin with ``replay_`` are reserved."""
    if isinstance(name, str) and name.startswith("replay_"):
        raise InvalidName(f"{what} {name!r} begins with replay_, which is reserved: rename it")
    return check_name(what, name)


def _has_control(name: str) -> bool:
    return any(unicodedata.category(c) in ("Cc", "Cs") for c in name)


class Key(NamedTuple):
    """The place of an event: a run's iteration and, for some types, a target in it.

    `target` is the name of the activity or output.  `sequence` counts its uses in this iteration,
    from 0 (A5).  Both are empty for the created and the completed event.
    """

    namespace: str
    workflow: str
    run: str
    iteration: int = 0
    target: str = ""
    sequence: str = ""

    def __str__(self) -> str:
        namespace, workflow, run, iteration, target, sequence = self  # each event is written so
        if not target:
            return f"{namespace}/{workflow}/{run}/{iteration}"
        return f"{namespace}/{workflow}/{run}/{iteration}/{target}/{sequence}"

    @classmethod
    def parse(cls, text: str) -> Key:
        """Read the key that `str` wrote.  Raises `InvalidName` for any other text.

        A target may hold slashes: the Go system lets an output have such a name.
        """
        parts = text.split("/")
        if len(parts) == 2:  # a no-op: replay_noop/id
            return cls("", "", "", 0, parts[0], parts[1])
        if len(parts) > 6:
            parts[4:-1] = ["/".join(parts[4:-1])]
        if len(parts) in (4, 6):
            # Each process does this for each event of the log, so names are looked at one by one.
            namespace, workflow, run, number = parts[:4]
            named = (namespace and workflow and run) or parts[4:5] == ["replay_noop"]
            fits = len(namespace) <= 255 and len(workflow) <= 255 and len(run) <= 255
            if named and fits and len(text) <= 512 and number.isdecimal():
                iteration = int(number)
                if str(iteration) == number and iteration <= LAST_ITERATION:
                    return cls(namespace, workflow, run, iteration, *parts[4:])
        raise InvalidName(f"{text[:300]!r} is not the key of an event")

    def iteration_key(self) -> Key:
        """Return the key of the iteration alone, without target and sequence."""
        return self if not self.target else Key(*self[:4])


class Seal(Protocol):
    """Reads encoded messages: see `replay.storage.codec`."""

    def open(self, event: Event) -> bytes | None:
        """Return the bytes that the codec was given.  Raises `MessageError`."""


class Event(msgspec.Struct, eq=False, gc=False):
    """Something that happened.  `id` is 0 until the event is stored.

    It takes part in no cycle, so the garbage collector does not track it.  In each full collection
    it would look at all that the tail holds.
    """

    id: int
    type: EventType
    key: Key
    timestamp: datetime
    raw: bytes | None
    #: The key, as it is stored.
    text: str = ""
    seal: Seal | None = None
    #: The bytes that it counts for: its message, 4 for a character of its key, and 600.
    size: int = 0
    #: The value that its message gives to the first reader of a kind: see `storage.values.Carrier`.
    carried: dict[Any, Any] | None = None

    def __post_init__(self) -> None:
        if not self.text:
            self.text = str(self.key)
        self.size = (len(self.raw) if self.raw else 0) + 4 * len(self.text) + 600

    @property
    def message(self) -> Any:
        """The message, decoded at each access; None if there is none.

        A value that is no protobuf message comes back as plain JSON: str, list, dict and so on.
        Raises `UnknownMessageType` or `MessageError`.
        """
        return unpack(self.content())

    def content(self) -> bytes | None:
        """The message as `pack` made it, before a codec encoded it (J4).  Raises `MessageError`."""
        return self.raw if self.seal is None else self.seal.open(self)

    def __repr__(self) -> str:
        return f"<Event {self.id} {self.type.name} {self.key}>"


def read_event(row: Row) -> Event:
    """Read an event from its row: id, type, key, timestamp, message.  Raises `Unreadable` (L3)."""
    id, number, text, moment, message = row
    if number not in _BY_NUMBER:
        raise Unreadable(f"its type is {number!r:.300}")
    if not isinstance(text, str):
        raise Unreadable(f"its key is {text!r:.300}")
    try:
        key, timestamp = Key.parse(text), from_text(moment)
    except InvalidName as error:
        raise Unreadable(str(error)) from error
    except (TypeError, ValueError) as error:
        raise Unreadable(f"its timestamp is {moment!r:.300}") from error
    return Event(id, _BY_NUMBER[number], key, timestamp, read_message(message), text)


def read_message(value: Any) -> bytes | None:
    """Return a column's message.  SQLite may also hold text or a number, which `unpack` refuses."""
    return value if value is None or isinstance(value, bytes) else str(value).encode()


def pack(message: Message | None, limit: int, what: object) -> bytes | None:
    """Encode a message as it is stored: the bytes of a `google.protobuf.Any` (N3).

    `limit` is in bytes.  Raises `MessageTooLarge`, or `MessageError` if a required field is
    missing.  The errors name `what` the message is for.
    """
    if message is None:
        return None
    try:
        value = message.SerializeToString()
    except EncodeError as error:
        raise MessageError(f"{what}: {error}") from error
    raw = _head(message.DESCRIPTOR)
    if value:  # its field's tag, its length, and itself: to make an `Any` takes twice as long
        raw += b"\x12" + _varint(len(value)) + value
    if len(raw) > limit:
        raise MessageTooLarge(
            f"{what}: the {message.DESCRIPTOR.name} has {len(raw)} bytes, the limit is {limit}:"
            " store large data elsewhere and pass a reference, or raise max_message in the URL"
        )
    return raw


@lru_cache(maxsize=1000)
def _head(descriptor: Descriptor) -> bytes:
    """The bytes with which each `Any` of a message type begins."""
    return any_pb2.Any(type_url=f"type.googleapis.com/{descriptor.full_name}").SerializeToString()


def _varint(number: int) -> bytes:
    if number < 128:
        return bytes((number,))
    return bytes((number & 127 | 128,)) + _varint(number >> 7)


def unpack(raw: bytes | None) -> Any:
    """Decode the message that `pack` encoded, or the plain value in it; None if there is none.

    Raises `UnknownMessageType` or `MessageError`.
    """
    message = read(raw)
    cls = type(message)  # to find with isinstance that it is another one takes longer
    if cls is Pruned:
        return None
    if cls is Json:
        try:
            return msgspec.json.decode(message.json)
        except ValueError as error:
            raise MessageError(f"a stored value is damaged: {error}") from error
    return message


def read(raw: bytes | None) -> Any:
    """Decode the protobuf message that `pack` encoded, as `unpack` does, but leave JSON as it is.

    Raises `UnknownMessageType` or `MessageError`.
    """
    if not raw:
        return None
    try:
        wrapped = any_pb2.Any.FromString(raw)
        if not wrapped.type_url:
            return None
        message = message_class(wrapped.type_url).FromString(wrapped.value)
    except DecodeError as error:
        raise MessageError(f"a stored message is damaged: {error}") from error
    if type(message) is Encoded:
        raise MessageError("a stored message is encoded: connect with its codec")
    return message


def pruned_mark(ended_ms: int = 0) -> bytes:
    """Return what stands instead of a pruned message; see `Pruned` in values.proto (L9)."""
    return pack(Pruned(ended_ms=ended_ms), 1000, "") or b""


#: With these bytes the `Any` begins that stands instead of a pruned message.
PRUNED = any_pb2.Any(
    type_url=f"type.googleapis.com/{Pruned.DESCRIPTOR.full_name}"
).SerializeToString()


def is_pruned(raw: bytes | None) -> bool:
    """Whether a message was removed by retention."""
    return raw is not None and raw.startswith(PRUNED)


def is_over(raw: bytes | None) -> bool:
    """Whether retention has removed not just this iteration, but the whole run."""
    return is_pruned(raw) and bool(read(raw).ended_ms)


@lru_cache(maxsize=1000)
def message_class(type_url: str) -> Any:
    """Return the message class of a type URL.  Raises `UnknownMessageType`."""
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
