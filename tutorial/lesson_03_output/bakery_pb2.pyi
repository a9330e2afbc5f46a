from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class Order(_message.Message):
    __slots__ = ("loaves",)
    LOAVES_FIELD_NUMBER: _ClassVar[int]
    loaves: int
    def __init__(self, loaves: _Optional[int] = ...) -> None: ...

class Dough(_message.Message):
    __slots__ = ("number",)
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    number: int
    def __init__(self, number: _Optional[int] = ...) -> None: ...

class Loaf(_message.Message):
    __slots__ = ("batch", "number")
    BATCH_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    batch: str
    number: int
    def __init__(self, batch: _Optional[str] = ..., number: _Optional[int] = ...) -> None: ...
