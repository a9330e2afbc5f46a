"""Messages as JSON: what commands show of stored messages, and make of those that you type.

A plain value is the JSON that is stored.  A protobuf message of a type that this process knows has
the JSON form of protobuf, with the names of the ``.proto`` file.  Of other types the fields are
shown by their numbers, so nothing has to be imported to look.

Left to `look`, `act` and `page`: where the messages come from.
"""

from __future__ import annotations

import logging
from base64 import b64encode
from typing import Any

import msgspec
from google.protobuf import any_pb2, empty_pb2, json_format
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from ..server.proto.values_pb2 import Failure, Json
from ..storage.event import Event, MessageError, UnknownMessageType, message_class
from .console import BadArgument, plain_json, to_json

log = logging.getLogger("replay")

_DEEP = 20  # levels of an unknown message that are taken apart


def plain(event: Event) -> bytes | None:
    """Return an event's message as it was before it was encoded (J4).

    If the codec cannot decode it, it stays as it is stored, and the log says why.
    """
    try:
        return event.content()
    except MessageError as error:
        log.warning("%s", error)
        return event.raw


def described(raw: bytes | None) -> dict[str, Any]:
    """Return the fields that describe a stored message in JSON.

    `message` is its value.  `message_type` is its type, None if there is no message, and
    `message_base64` its bytes, if `message` has only its fields by number, or nothing.
    """
    if not raw:
        return {"message_type": None, "message": None}
    try:
        wrapped = any_pb2.Any.FromString(raw)
    except DecodeError:
        return {"message_type": None, "message": None, "message_base64": _base64(raw)}
    name = wrapped.type_url.rpartition("/")[2]
    known, value = _value(wrapped)
    described = {"message_type": name, "message": value}
    return described if known else described | {"message_base64": _base64(wrapped.value)}


def shown(raw: bytes | None) -> str:
    """Return a stored message for people, on one line: with its type if it is a protobuf."""
    found = described(raw)
    name, value = found["message_type"], found["message"]
    if name is None:
        return "(damaged)" if raw else ""
    text = to_json(value)
    return text if name == Json.DESCRIPTOR.full_name else f"{plain_json(name)} {text}"


def readable(raw: bytes | None, indent: int = 2) -> str:
    """Return a stored message as JSON, with its type as ``@type`` if it is a protobuf.

    It has a line for each field; with an `indent` of 0 it is one line.
    """
    found = described(raw)
    name, value = found["message_type"], found["message"]
    if name is None and raw:
        value = f"this message is damaged ({len(raw):,} bytes)"
    elif name is not None and name != Json.DESCRIPTOR.full_name:
        fields = value if isinstance(value, dict) else {"value": value}
        value = {"@type": name, **fields}
    return msgspec.json.format(msgspec.json.encode(value), indent=indent).decode()


def _value(wrapped: any_pb2.Any) -> tuple[bool, Any]:
    """The value of a message, and whether that is all of it."""
    try:
        message = message_class(wrapped.type_url).FromString(wrapped.value)
        if isinstance(message, Json):
            msgspec.json.decode(message.json)  # or a damaged one would damage the line
            # A line break in JSON is white space, and would end the line.
            return True, msgspec.Raw(message.json.translate(_BREAKS))
        if isinstance(message, Failure):
            return True, of_failure(message)
        return True, json_format.MessageToDict(message, preserving_proto_field_name=True)
    # A type that is not imported, here or inside; bytes that are damaged; a number without JSON.
    except (MessageError, DecodeError, ValueError, TypeError, RecursionError, json_format.Error):
        return False, _by_number(wrapped.value, _DEEP)


def of_failure(failure: Failure) -> dict[str, Any]:
    """Return a failure as JSON, with its detail as `described` makes it."""
    detail = failure.detail.SerializeToString() if failure.HasField("detail") else None
    named = {"kind": failure.kind, "text": failure.text, "attempts": failure.attempts}
    return named | ({"detail": described(detail)} if detail else {})


_BREAKS = bytes.maketrans(b"\n\r", b"  ")


def _by_number(raw: bytes, depth: int) -> dict[str, Any] | None:
    """The fields of a message of an unknown type; None if the bytes are none."""
    try:
        unknown = UnknownFieldSet(empty_pb2.Empty.FromString(raw))
        found: dict[str, Any] = {}
        for field in unknown:  # type: ignore[attr-defined]
            value = _field(field.data, depth)
            found.setdefault(str(field.field_number), []).append(value)
    except (DecodeError, RecursionError):
        return None
    return {number: some[0] if len(some) == 1 else some for number, some in found.items()}


def _field(data: Any, depth: int) -> Any:
    """A field: a number, a text, a message, or bytes.  The wire does not say which of the three."""
    if not isinstance(data, bytes):
        return data if isinstance(data, int) else "(group)"
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = "\0"
    if text.isprintable():
        return text
    inner = _by_number(data, depth - 1) if depth else None
    return inner if inner else {"base64": _base64(data)}


def _base64(raw: bytes) -> str:
    return b64encode(raw).decode()


def typed(text: str | None, type_name: str | None) -> Any:
    """Return the message that a person typed as JSON: a plain value, or a message of a type."""
    if text is None:
        if type_name is not None:
            raise BadArgument(f"--type {type_name} needs a message; {{}} is one without fields")
        return None
    if type_name is None:
        try:
            return msgspec.json.decode(text)
        except ValueError as error:
            raise BadArgument(
                f"the message is not JSON: {error}; a text needs its quotes: '\"text\"'"
            ) from error
    try:
        cls: type[Message] = message_class(f"/{type_name}")
        return json_format.Parse(text, cls())
    except UnknownMessageType as error:
        raise BadArgument(f"{error}, with --import") from error
    except (json_format.Error, ValueError, TypeError, RecursionError) as error:
        raise BadArgument(f"the message is no {type_name}: {error}") from error
