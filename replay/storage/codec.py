"""Codecs: messages that are stored encoded, for instance encrypted (J4).

Role: `Sealer` puts what a user's codec makes of a message into an `Encoded`, and takes it out again
when somebody reads the event.  Messages that are not encoded are read as they are.

Left to `replay.log`: which messages pass here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from google.protobuf import any_pb2
from google.protobuf.message import DecodeError, Message

from ..server.proto.replaypb_pb2 import SleepDone, SleepRequest
from ..server.proto.values_pb2 import Cancel, Encoded, Failure
from .event import Event, MessageError, pack

#: Programs without the codec have to read these.
READABLE = (SleepRequest, SleepDone, Failure, Cancel)
#: The activity whose responses hold the bytes of signals.
SIGNAL = "replay_signal"
_ANY_SIZE = 2**31 - 1


class CodecFailed(MessageError):
    """A user's codec has raised.  It may work the next time."""


class Codec(Protocol):
    """Encodes what is stored.  `key` is the event's key, or NAMESPACE/WORKFLOW/RUN of a signal."""

    def encode(self, key: str, data: bytes) -> bytes:
        """Return the bytes to store."""

    def decode(self, key: str, data: bytes) -> bytes:
        """Return the bytes that `encode` got."""


class Sealer:
    """Encodes and decodes messages with a codec."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec

    def pack(self, message: Message | None, limit: int, what: str, key: str) -> bytes | None:
        """As `replay.storage.event.pack`, and encoded.  The limit is for what is stored."""
        if message is None or isinstance(message, READABLE):
            return pack(message, limit, what)
        plain = pack(message, _ANY_SIZE, what) or b""
        return pack(Encoded(data=_call(self._codec.encode, key, plain, what)), limit, what)

    def open(self, event: Event) -> bytes | None:
        """Return an event's message as it was before it was encoded.  Raises `MessageError`."""
        try:
            wrapped = any_pb2.Any.FromString(event.raw or b"")
            if not wrapped.type_url.endswith("/" + Encoded.DESCRIPTOR.full_name):
                return event.raw
            data = Encoded.FromString(wrapped.value).data
        except DecodeError as error:
            raise MessageError(f"{event.text}: its message is damaged: {error}") from error
        run = event.key.target == SIGNAL
        key = "/".join(event.key[:3]) if run else event.text
        return _call(self._codec.decode, key, data, event.text)


def _call(function: Callable[[str, bytes], bytes], key: str, data: bytes, what: str) -> bytes:
    try:
        result = function(key, data)
    except Exception as error:
        raise CodecFailed(f"{what}: the codec failed: {type(error).__name__}: {error}") from error
    if not isinstance(result, bytes):
        raise MessageError(f"{what}: the codec returned {type(result).__name__}, not bytes")
    return result
