from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class Order(_message.Message):
    __slots__ = ("item", "pieces")
    ITEM_FIELD_NUMBER: _ClassVar[int]
    PIECES_FIELD_NUMBER: _ClassVar[int]
    item: str
    pieces: int
    def __init__(self, item: _Optional[str] = ..., pieces: _Optional[int] = ...) -> None: ...

class Parcel(_message.Message):
    __slots__ = ("item", "pieces")
    ITEM_FIELD_NUMBER: _ClassVar[int]
    PIECES_FIELD_NUMBER: _ClassVar[int]
    item: str
    pieces: int
    def __init__(self, item: _Optional[str] = ..., pieces: _Optional[int] = ...) -> None: ...

class Question(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Table(_message.Message):
    __slots__ = ("owed",)
    class OwedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    OWED_FIELD_NUMBER: _ClassVar[int]
    owed: _containers.ScalarMap[str, int]
    def __init__(self, owed: _Optional[_Mapping[str, int]] = ...) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("agreed",)
    AGREED_FIELD_NUMBER: _ClassVar[int]
    agreed: bool
    def __init__(self, agreed: bool = ...) -> None: ...
