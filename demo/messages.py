"""What the log holds: plain dataclasses, which the library stores as JSON."""

from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

import msgspec

import replay

T = TypeVar("T")


class Side(Enum):
    """Whether an order buys or sells."""

    BUY = "buy"
    SELL = "sell"


@dataclass(frozen=True)
class OrderRequest:
    """The order to work off: the input of the workflow."""

    order_id: str
    market: str
    side: Side
    quantity: int  # In lots.
    splits: int
    duration_ms: int  # From the first sub-order to the end of the last one's interval.


@dataclass(frozen=True)
class Price:
    """The top of an order book."""

    bid_cents: int
    ask_cents: int
    source: str  # The worker that answered.


@dataclass(frozen=True)
class SubOrder:
    """One of an order's equal parts: the workflow's output."""

    order_id: str
    split: int  # Counted from 0.
    market: str
    side: Side
    quantity: int
    limit_cents: int


def read(event: replay.Event, type: type[T]) -> T:
    """The message of an event; the library itself gives plain JSON to those who stream."""
    return msgspec.convert(event.message, type)
