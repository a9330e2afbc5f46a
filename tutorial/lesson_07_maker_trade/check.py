"""The check of lesson 7: the facts that its log has to show."""

from collections.abc import Sequence

from replay import Event, EventType
from tutorial.checking import Claim, Kill, asked, own
from tutorial.exchange import State
from tutorial.lesson_07_maker_trade.broker import FILLED, NAMESPACE, PLACED, Limit, Order, Wish

__all__ = ["KILLS", "NAMESPACE", "check"]

KILLS = [Kill("the first order is placed, and the answer is on its way", asked("place"))]


def of(events: Sequence[Event], type: EventType, *targets: str) -> list[Event]:
    """The events of a type and of these targets."""
    return [event for event in events if event.type is type and event.key.target in targets]


def orders(events: Sequence[Event], type: EventType, *targets: str) -> list[Order]:
    """The orders that they hold."""
    return [Order(**event.message) for event in of(events, type, *targets)]


def hasty(events: Sequence[Event]) -> list[int]:
    """The requests for an order while another may still be open, as far as the run knows."""
    found: list[int] = []
    pending = False
    for event in events:
        if event.type is EventType.ACTIVITY_REQUEST and event.key.target == "place":
            if pending:
                found.append(event.id)
            pending = True
        elif of([event], EventType.ACTIVITY_RESPONSE, "place", "cancel"):
            pending = event.message["state"] == State.OPEN
    return found


def mispriced(wish: Wish, events: Sequence[Event]) -> list[int]:
    """The requests for an order that is not `edge` below the bid that was just read."""
    found: list[int] = []
    bid, edge = 0, wish.edge
    for event in events:
        if of([event], EventType.ACTIVITY_RESPONSE, "ticker"):
            bid = event.message["bid"]
        elif of([event], EventType.ACTIVITY_REQUEST, "place"):
            if Limit(**event.message).price != bid - edge:
                found.append(event.id)
            bid, edge = 0, edge // 10
    return found


def restless(events: Sequence[Event]) -> list[int]:
    """The requests to cancel an order before which the run has not slept."""
    found: list[int] = []
    slept = False
    for event in events:
        if event.type is EventType.ACTIVITY_REQUEST:
            if event.key.target == "cancel" and not slept:
                found.append(event.id)
            slept = event.key.target == "replay_sleep" or (slept and event.key.target == "ticker")
    return found


def where(ids: Sequence[int]) -> str:
    """The place in the log to look at, if there is one."""
    return f" (see event {min(ids)})" if ids else ""


def check(events: Sequence[Event]) -> list[Claim]:
    """One order after the other, never two open at once, and exactly one filled."""
    events = own(events)
    wish = Wish(**events[0].message) if events else Wish(0, 0, 0)
    placed = orders(events, EventType.ACTIVITY_RESPONSE, "place")
    ended = orders(events, EventType.ACTIVITY_RESPONSE, "cancel")
    told = orders(events, EventType.RUN_OUTPUT, PLACED.name)
    bought = orders(events, EventType.RUN_OUTPUT, FILLED.name)
    answers = [*placed, *ended]
    filled = {each.client_id: each.quantity for each in answers if each.state == State.FILLED}
    responses = of(events, EventType.ACTIVITY_RESPONSE, "place", "cancel")
    crowded = [event.id for event in responses if event.message["open"] > 1]
    early, wrong = hasty(events), mispriced(wish, events)
    restive = restless(events)
    several = len(placed) > 1
    return [
        Claim(
            "the first order, far below the bid, is cancelled, and others replace it",
            several and bool(ended) and ended[0].state == State.CANCELLED,
            f"{len(placed)} orders were placed, {len(ended)} cancelled: execute ticker,"
            " place and cancel in the loop",
        ),
        Claim(
            "each order is placed `edge` below the bid that was read just before",
            several and not wrong,
            f"execute ticker for each order, and subtract `edge` from the bid{where(wrong)}",
        ),
        Claim(
            "each order is placed after the one before has ended: two are never open",
            several and not early and not crowded,
            f"always cancel an order before you place the next one{where(early + crowded)}",
        ),
        Claim(
            "exactly the wanted quantity is bought, and no order stays open",
            sum(filled.values()) == wish.quantity > 0 and answers[-1].state == State.FILLED,
            f"{sum(filled.values())} of {wish.quantity} are bought: return when cancel returns"
            " FILLED, and not earlier",
        ),
        Claim(
            "the outputs report each order, and the filled one; then the run ends",
            told == placed != []
            and [each.client_id for each in bought] == list(filled)
            and events[-1].type is EventType.RUN_COMPLETED,
            f"there are {len(told)} outputs `placed` and {len(bought)} `filled`: emit PLACED"
            " for each order, and FILLED for the last",
        ),
        Claim(
            "each order rests for a sleep that is in the log, so it goes on after a crash",
            several and not restive,
            f"call ctx.sleep between place and cancel{where(restive)}",
        ),
    ]
