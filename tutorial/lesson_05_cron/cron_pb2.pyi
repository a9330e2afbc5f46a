from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class Schedule(_message.Message):
    __slots__ = ("anchor", "period", "next")
    ANCHOR_FIELD_NUMBER: _ClassVar[int]
    PERIOD_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    anchor: int
    period: int
    next: int
    def __init__(self, anchor: _Optional[int] = ..., period: _Optional[int] = ..., next: _Optional[int] = ...) -> None: ...

class Tick(_message.Message):
    __slots__ = ("number", "due")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    DUE_FIELD_NUMBER: _ClassVar[int]
    number: int
    due: int
    def __init__(self, number: _Optional[int] = ..., due: _Optional[int] = ...) -> None: ...

class Skipped(_message.Message):
    __slots__ = ("first", "last")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    first: int
    last: int
    def __init__(self, first: _Optional[int] = ..., last: _Optional[int] = ...) -> None: ...
