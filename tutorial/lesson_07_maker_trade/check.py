"""What the log shows when lesson 7 is done."""

from collections.abc import Sequence

from replay import Event, EventType
from tutorial.checking import Claim, own
from tutorial.lesson_07_maker_trade.maker_pb2 import Limit, Order, Ticker, Wish

NAMESPACE = "maker_trade"
KILL_AFTER = 4  # The first order is asked for: it is placed, and its answer is on its way.


def of(events: Sequence[Event], type: EventType, target: str) -> list[Event]:
    """The events of a type and target."""
    return [event for event in events if event.type is type and event.key.target == target]


def hasty(events: Sequence[Event]) -> list[int]:
    """The requests for an order while one is open, as far as the run can know."""
    found: list[int] = []
    pending = False
    for event in events:
        if event.type is EventType.ACTIVITY_REQUEST and event.key.target == "place":
            if pending:
                found.append(event.id)
            pending = True
        elif event.type is EventType.ACTIVITY_RESPONSE and isinstance(event.message, Order):
            pending = event.message.state == Order.OPEN
    return found


def eager(events: Sequence[Event]) -> list[int]:
    """The requests for an order above the bid that was read just before, or without one."""
    found: list[int] = []
    bid = 0
    for event in events:
        if isinstance(event.message, Ticker):
            bid = event.message.bid
        elif isinstance(event.message, Limit):
            if event.message.price > bid:
                found.append(event.id)
            bid = 0
    return found


def where(ids: Sequence[int]) -> str:
    """Where to look in the log, if anywhere."""
    return f" (see event {min(ids)})" if ids else ""


def check(events: Sequence[Event]) -> list[Claim]:
    """Orders one after the other, none open beside another, and exactly one filled."""
    events = own(events)
    wish = events[0].message if events else Wish()
    placed = of(events, EventType.ACTIVITY_RESPONSE, "place")
    ended = of(events, EventType.ACTIVITY_RESPONSE, "cancel")
    told = [event.message for event in of(events, EventType.RUN_OUTPUT, "placed")]
    bought = [event.message for event in of(events, EventType.RUN_OUTPUT, "filled")]
    answers = [event.message for event in (*placed, *ended)]
    filled = {each.client_id: each.quantity for each in answers if each.state == Order.FILLED}
    crowded = [event.id for event in (*placed, *ended) if event.message.open > 1]
    early, dear = hasty(events), eager(events)
    several = len(placed) > 1
    return [
        Claim(
            "the first order, far below the bid, is cancelled, and others take its place",
            several and bool(ended) and ended[0].message.state == Order.CANCELLED,
            f"{len(placed)} orders were placed, {len(ended)} cancelled: call flow.ticker,"
            " flow.place and flow.cancel in the loop",
        ),
        Claim(
            "each is placed at or below the bid that was read just before",
            several and not dear,
            f"read flow.ticker at each attempt, and subtract `edge` from the bid{where(dear)}",
        ),
        Claim(
            "each is placed after the one before has ended: the exchange never has two open",
            several and not early and not crowded,
            "cancel an order before you place the next, whatever you know of it"
            f"{where(early + crowded)}",
        ),
        Claim(
            "in all exactly the quantity is bought, and no order is left open",
            sum(filled.values()) == wish.quantity > 0 and answers[-1].state == Order.FILLED,
            f"{sum(filled.values())} of {wish.quantity} are bought: return once flow.cancel answers"
            " FILLED, and not before",
        ),
        Claim(
            "the outputs tell of each order, and of the one that is filled; then the run ends",
            told == [event.message for event in placed] != []
            and [each.client_id for each in bought] == list(filled)
            and events[-1].type is EventType.RUN_COMPLETED,
            f"there are {len(told)} outputs placed and {len(bought)} filled: call flow.emit_placed"
            " for each order, and flow.emit_filled for the last",
        ),
    ]
