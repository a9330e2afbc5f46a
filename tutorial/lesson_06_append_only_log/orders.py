"""The orders of lesson 6, the audits that ask the readers of the log, and what they announce."""

import time
from dataclasses import dataclass

from replay import ActivityContext, OutputType, SignalType

NAMESPACE = "append_only_log"


@dataclass
class Order:
    """A customer's order."""

    item: str
    pieces: int


@dataclass
class Parcel:
    """A parcel that is sent to the customer."""

    item: str
    pieces: int


#: The number of pieces of each item that are ordered but not sent.
Table = dict[str, int]

#: A parcel is sent.
SENT = OutputType("sent", Parcel)
#: A reader answers an audit: this is how its table looked.
TABLE = SignalType(1, Table)
#: A reader has answered.
HEARD = OutputType("heard", Table)
#: Whether all readers have given the same answer.
VERDICT = OutputType("verdict", bool)


def pack(ctx: ActivityContext, backends: None, order: Order) -> Parcel:
    """An activity: a parcel holds four pieces, and the rest is owed."""
    time.sleep(0.3)
    return Parcel(order.item, min(order.pieces, 4))
