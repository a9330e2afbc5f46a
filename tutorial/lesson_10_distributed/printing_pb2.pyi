from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class Document(_message.Message):
    __slots__ = ("title", "pages")
    TITLE_FIELD_NUMBER: _ClassVar[int]
    PAGES_FIELD_NUMBER: _ClassVar[int]
    title: str
    pages: int
    def __init__(self, title: _Optional[str] = ..., pages: _Optional[int] = ...) -> None: ...

class Page(_message.Message):
    __slots__ = ("title", "number")
    TITLE_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    title: str
    number: int
    def __init__(self, title: _Optional[str] = ..., number: _Optional[int] = ...) -> None: ...

class Sheet(_message.Message):
    __slots__ = ("number", "process")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    number: int
    process: int
    def __init__(self, number: _Optional[int] = ..., process: _Optional[int] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("process",)
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    process: int
    def __init__(self, process: _Optional[int] = ...) -> None: ...
