"""The check of lesson 2: the facts that its log has to show."""

from collections.abc import Sequence

from replay import Event, EventType
from tutorial.checking import Claim, Kill, Ran, answered, asked, own
from tutorial.lesson_02_signal.shop import NAMESPACE, ORDER

__all__ = ["KILLS", "NAMESPACE", "check", "look"]

KILLS = [
    Kill("the third order is awaited, and nobody has sent it", asked("replay_signal", "1:2")),
    Kill("the third order is sent, and the program does not know that", answered("make", "2")),
]
ORDERS = ["espresso", "cappuccino", "no order", "the usual"]
MADE = ["espresso", "cappuccino", "flat white"]


def answers(events: Sequence[Event], signal: int) -> list[Event]:
    """The responses to the awaits of a type of signal: their sequences are TYPE:COUNT."""
    return [
        event
        for event in events
        if event.type is EventType.ACTIVITY_RESPONSE
        and event.key.target == "replay_signal"
        and event.key.sequence.startswith(f"{signal}:")
    ]


def name(message: object) -> str:
    """The coffee that an await of an order returned."""
    return (message or "the usual") if isinstance(message, str) else "no order"


def check(events: Sequence[Event]) -> list[Claim]:
    """Three orders, one timeout, one payment: each once, in spite of the taps and the kill."""
    events = own(events)
    orders = [name(event.message) for event in answers(events, 1)]
    asked = [e for e in events if e.type is EventType.ACTIVITY_REQUEST]
    made = [event.message for event in asked if event.key.target == "make"]
    reminders = [e for e in asked if e.key.target == "remind"]
    paid = [event for event in answers(events, 2) if isinstance(event.message, str)]
    return [
        Claim(
            "the orders sent before the run began are taken in order, each once",
            orders[:3] == ORDERS[:3],
            f"the awaits got {orders}, not {ORDERS}: send order-1, order-1 again, and order-2",
        ),
        Claim(
            "the third order is not there in time, so the guest is reminded once",
            len(reminders) == 1 and orders[2:3] == ["no order"],
            "await it for SOON; only None means the timeout: call remind then",
        ),
        Claim(
            "it is sent when the run awaits it, and an empty order is an order",
            orders == ORDERS and made == MADE,
            f"it made {made}: after the reminder await it for LATE, and order the usual in `drink`",
        ),
        Claim(
            "the payment, sent before all orders, waits until the run awaits it",
            len(paid) == 1 and events[-1].type is EventType.RUN_COMPLETED,
            "the workflow has to await the payment and return",
        ),
    ]


def look(ran: Ran) -> list[Claim]:
    """A signal is not an event, so the check sends all orders again: none of them is new."""
    new = [
        name
        for name in ("order-1", "order-2", "order-3")
        if ran.client.signal_run(NAMESPACE, "serve", ran.run, ORDER, "", name)
    ]
    return [
        Claim(
            "an order that is sent again is refused: its id is the same at each start",
            not new,
            f"{', '.join(new)} was not sent before: send it with exactly this external id",
        )
    ]
