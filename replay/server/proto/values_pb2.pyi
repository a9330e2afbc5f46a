from google.protobuf import any_pb2 as _any_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Json(_message.Message):
    __slots__ = ("type", "json")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    JSON_FIELD_NUMBER: _ClassVar[int]
    type: str
    json: bytes
    def __init__(self, type: _Optional[str] = ..., json: _Optional[bytes] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("kind", "text", "detail", "attempts")
    KIND_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    kind: str
    text: str
    detail: _any_pb2.Any
    attempts: int
    def __init__(self, kind: _Optional[str] = ..., text: _Optional[str] = ..., detail: _Optional[_Union[_any_pb2.Any, _Mapping]] = ..., attempts: _Optional[int] = ...) -> None: ...

class Cancel(_message.Message):
    __slots__ = ("reason", "terminate")
    REASON_FIELD_NUMBER: _ClassVar[int]
    TERMINATE_FIELD_NUMBER: _ClassVar[int]
    reason: str
    terminate: bool
    def __init__(self, reason: _Optional[str] = ..., terminate: bool = ...) -> None: ...

class Encoded(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class Pruned(_message.Message):
    __slots__ = ("ended_ms",)
    ENDED_MS_FIELD_NUMBER: _ClassVar[int]
    ended_ms: int
    def __init__(self, ended_ms: _Optional[int] = ...) -> None: ...
