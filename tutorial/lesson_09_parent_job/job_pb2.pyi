from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class Job(_message.Message):
    __slots__ = ("pay", "patience")
    PAY_FIELD_NUMBER: _ClassVar[int]
    PATIENCE_FIELD_NUMBER: _ClassVar[int]
    pay: int
    patience: int
    def __init__(self, pay: _Optional[int] = ..., patience: _Optional[int] = ...) -> None: ...

class Offer(_message.Message):
    __slots__ = ("number", "pay")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    PAY_FIELD_NUMBER: _ClassVar[int]
    number: int
    pay: int
    def __init__(self, number: _Optional[int] = ..., pay: _Optional[int] = ...) -> None: ...

class Claim(_message.Message):
    __slots__ = ("provider", "offer")
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    OFFER_FIELD_NUMBER: _ClassVar[int]
    provider: str
    offer: int
    def __init__(self, provider: _Optional[str] = ..., offer: _Optional[int] = ...) -> None: ...
