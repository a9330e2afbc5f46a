"""The check of lesson 2: the facts that its log has to show."""

from collections.abc import Sequence

from replay import Client, Event, EventType
from tutorial.checking import Claim, Kill, Ran, answered, asked, own
from tutorial.lesson_02_signal.shop import NAMESPACE, ORDER, PAY, Guest

__all__ = ["KILLS", "NAMESPACE", "check", "look", "prepare"]

KILLS = [
    Kill("the third order is awaited, and nobody has sent it", asked("replay_signal", "1:2")),
    Kill("the third order is sent, and the program does not know that", answered("make", "2")),
]
ORDERS = ["espresso", "cappuccino", "no order", "the usual"]
MADE = ["espresso", "cappuccino", "flat white"]
EARLY = ".early"  # The name of another guest's run ends like this.


def prepare(client: Client, run: str) -> None:
    """Begin the run of another guest, whose only order is empty, and is there in time."""
    client.signal_run(NAMESPACE, "serve", run + EARLY, ORDER, "", "order-1")
    client.signal_run(NAMESPACE, "serve", run + EARLY, PAY, "silver card", "payment")
    client.run_workflow(NAMESPACE, "serve", run + EARLY, Guest("Bob", usual="mocha", cups=1))


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
    events = own([event for event in events if not event.key.run.endswith(EARLY)])
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
    """A signal is not an event, so the check sends all orders again: none of them is new.

    The other guest got his usual, without a reminder.
    """
    new = [
        name
        for name in ("order-1", "order-2", "order-3")
        if ran.client.signal_run(NAMESPACE, "serve", ran.run, ORDER, "", name)
    ]
    early = ran.client.stream(NAMESPACE, "serve", ran.run + EARLY, to_head=True)
    asked = [each.key.target for each in early if each.type is EventType.ACTIVITY_REQUEST]
    return [
        Claim(
            "an order that is sent again is refused: its id is the same at each start",
            not new,
            f"{', '.join(new)} was not sent before: send it with exactly this external id",
        ),
        Claim(
            "an empty order that is there in time is taken, and nobody is reminded",
            "make" in asked and "remind" not in asked,
            'only None means the timeout: "" is an order, so ask whether the order is None',
        ),
    ]
