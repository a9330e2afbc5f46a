from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class Photo(_message.Message):
    __slots__ = ("number",)
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    number: int
    def __init__(self, number: _Optional[int] = ...) -> None: ...

class Place(_message.Message):
    __slots__ = ("process", "shard")
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    process: str
    shard: str
    def __init__(self, process: _Optional[str] = ..., shard: _Optional[str] = ...) -> None: ...

class Picture(_message.Message):
    __slots__ = ("process", "shard", "started", "finished")
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    process: str
    shard: str
    started: int
    finished: int
    def __init__(self, process: _Optional[str] = ..., shard: _Optional[str] = ..., started: _Optional[int] = ..., finished: _Optional[int] = ...) -> None: ...
