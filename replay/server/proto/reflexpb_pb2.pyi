from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StreamOptions(_message.Message):
    __slots__ = ("lag", "fromHead", "toHead")
    LAG_FIELD_NUMBER: _ClassVar[int]
    FROMHEAD_FIELD_NUMBER: _ClassVar[int]
    TOHEAD_FIELD_NUMBER: _ClassVar[int]
    lag: _duration_pb2.Duration
    fromHead: bool
    toHead: bool
    def __init__(self, lag: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., fromHead: bool = ..., toHead: bool = ...) -> None: ...

class StreamRequest(_message.Message):
    __slots__ = ("options", "after")
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    options: StreamOptions
    after: str
    def __init__(self, options: _Optional[_Union[StreamOptions, _Mapping]] = ..., after: _Optional[str] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("type", "timestamp", "foreign_id", "id", "metadata")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    FOREIGN_ID_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    type: int
    timestamp: _timestamp_pb2.Timestamp
    foreign_id: str
    id: str
    metadata: bytes
    def __init__(self, type: _Optional[int] = ..., timestamp: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., foreign_id: _Optional[str] = ..., id: _Optional[str] = ..., metadata: _Optional[bytes] = ...) -> None: ...
