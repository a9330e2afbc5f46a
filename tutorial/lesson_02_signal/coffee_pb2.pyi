from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class Guest(_message.Message):
    __slots__ = ("name", "usual", "cups")
    NAME_FIELD_NUMBER: _ClassVar[int]
    USUAL_FIELD_NUMBER: _ClassVar[int]
    CUPS_FIELD_NUMBER: _ClassVar[int]
    name: str
    usual: str
    cups: int
    def __init__(self, name: _Optional[str] = ..., usual: _Optional[str] = ..., cups: _Optional[int] = ...) -> None: ...

class Order(_message.Message):
    __slots__ = ("coffee",)
    COFFEE_FIELD_NUMBER: _ClassVar[int]
    coffee: str
    def __init__(self, coffee: _Optional[str] = ...) -> None: ...

class Payment(_message.Message):
    __slots__ = ("card",)
    CARD_FIELD_NUMBER: _ClassVar[int]
    card: str
    def __init__(self, card: _Optional[str] = ...) -> None: ...

class Coffee(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...
