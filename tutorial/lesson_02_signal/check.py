"""What the log shows when lesson 2 is done."""

from collections.abc import Sequence

from replay import Event, EventType
from tutorial.checking import Claim, own
from tutorial.lesson_02_signal.coffee_pb2 import Coffee, Order, Payment

NAMESPACE = "signal"
KILL_AFTER = 10  # The third order is awaited, and nobody has sent it.
ORDERS = ["espresso", "cappuccino", "no order", "the usual"]
MADE = ["espresso", "cappuccino", "flat white"]


def answers(events: Sequence[Event], signal: int) -> list[Event]:
    """The answers to the awaits of a type of signal: their sequences are TYPE:COUNT."""
    return [
        event
        for event in events
        if event.type is EventType.ACTIVITY_RESPONSE
        and event.key.target == "replay_signal"
        and event.key.sequence.startswith(f"{signal}:")
    ]


def name(message: object) -> str:
    """What an await of an order was answered with."""
    return (message.coffee or "the usual") if isinstance(message, Order) else "no order"


def check(events: Sequence[Event]) -> list[Claim]:
    """Three orders, one time-out, one payment: each sent once, in spite of taps and of the kill."""
    events = own(events)
    orders = [name(event.message) for event in answers(events, 1)]
    asked = [e for e in events if e.type is EventType.ACTIVITY_REQUEST]
    made = [e.message.name for e in asked if isinstance(e.message, Coffee)]
    reminders = [e for e in asked if e.key.target == "remind"]
    paid = [event for event in answers(events, 2) if isinstance(event.message, Payment)]
    return [
        Claim(
            "orders that were sent before the run began are taken in their order, each once",
            orders[:3] == ORDERS[:3],
            f"the awaits got {orders}, not {ORDERS}: send order-1, order-1 again, and order-2",
        ),
        Claim(
            "the third is not there in time: the guest is reminded, once",
            len(reminders) == 1 and orders[2:3] == ["no order"],
            "await for SOON; None is the time-out, and nothing else is: call flow.remind then",
        ),
        Claim(
            "it is sent once it is awaited, and an order without a word is an order",
            orders == ORDERS and made == MADE,
            f"made is {made}: await it for LATE after the reminder, and order the usual in `drink`",
        ),
        Claim(
            "the payment, sent before all orders, has waited until it was asked for",
            len(paid) == 1 and events[-1].type is EventType.RUN_COMPLETED,
            "the workflow has to come to flow.await_pay and return",
        ),
    ]
