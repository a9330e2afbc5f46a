from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Side(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SIDE_UNSPECIFIED: _ClassVar[Side]
    BUY: _ClassVar[Side]
    SELL: _ClassVar[Side]
SIDE_UNSPECIFIED: Side
BUY: Side
SELL: Side

class OrderRequest(_message.Message):
    __slots__ = ("order_id", "market", "side", "quantity", "splits", "duration_ms")
    ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    MARKET_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    SPLITS_FIELD_NUMBER: _ClassVar[int]
    DURATION_MS_FIELD_NUMBER: _ClassVar[int]
    order_id: str
    market: str
    side: Side
    quantity: int
    splits: int
    duration_ms: int
    def __init__(self, order_id: _Optional[str] = ..., market: _Optional[str] = ..., side: _Optional[_Union[Side, str]] = ..., quantity: _Optional[int] = ..., splits: _Optional[int] = ..., duration_ms: _Optional[int] = ...) -> None: ...

class Market(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class Price(_message.Message):
    __slots__ = ("bid_cents", "ask_cents", "source")
    BID_CENTS_FIELD_NUMBER: _ClassVar[int]
    ASK_CENTS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    bid_cents: int
    ask_cents: int
    source: str
    def __init__(self, bid_cents: _Optional[int] = ..., ask_cents: _Optional[int] = ..., source: _Optional[str] = ...) -> None: ...

class SubOrder(_message.Message):
    __slots__ = ("order_id", "split", "market", "side", "quantity", "limit_cents")
    ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    SPLIT_FIELD_NUMBER: _ClassVar[int]
    MARKET_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    LIMIT_CENTS_FIELD_NUMBER: _ClassVar[int]
    order_id: str
    split: int
    market: str
    side: Side
    quantity: int
    limit_cents: int
    def __init__(self, order_id: _Optional[str] = ..., split: _Optional[int] = ..., market: _Optional[str] = ..., side: _Optional[_Union[Side, str]] = ..., quantity: _Optional[int] = ..., limit_cents: _Optional[int] = ...) -> None: ...
