from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Wish(_message.Message):
    __slots__ = ("account", "quantity", "edge")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    EDGE_FIELD_NUMBER: _ClassVar[int]
    account: int
    quantity: int
    edge: int
    def __init__(self, account: _Optional[int] = ..., quantity: _Optional[int] = ..., edge: _Optional[int] = ...) -> None: ...

class Market(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Ticker(_message.Message):
    __slots__ = ("bid", "ask")
    BID_FIELD_NUMBER: _ClassVar[int]
    ASK_FIELD_NUMBER: _ClassVar[int]
    bid: int
    ask: int
    def __init__(self, bid: _Optional[int] = ..., ask: _Optional[int] = ...) -> None: ...

class Limit(_message.Message):
    __slots__ = ("account", "quantity", "price")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    account: int
    quantity: int
    price: int
    def __init__(self, account: _Optional[int] = ..., quantity: _Optional[int] = ..., price: _Optional[int] = ...) -> None: ...

class Order(_message.Message):
    __slots__ = ("client_id", "quantity", "price", "state", "open")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        UNKNOWN: _ClassVar[Order.State]
        OPEN: _ClassVar[Order.State]
        FILLED: _ClassVar[Order.State]
        CANCELLED: _ClassVar[Order.State]
        REJECTED: _ClassVar[Order.State]
    UNKNOWN: Order.State
    OPEN: Order.State
    FILLED: Order.State
    CANCELLED: Order.State
    REJECTED: Order.State
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    quantity: int
    price: int
    state: Order.State
    open: int
    def __init__(self, client_id: _Optional[str] = ..., quantity: _Optional[int] = ..., price: _Optional[int] = ..., state: _Optional[_Union[Order.State, str]] = ..., open: _Optional[int] = ...) -> None: ...
