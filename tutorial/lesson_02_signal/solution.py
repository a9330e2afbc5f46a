"""Lesson 2: a coffee shop that takes each order once, whenever it is sent."""

from datetime import timedelta

import replay
from replay import EventType
from tutorial.lesson_02_signal.shop import NAMESPACE, ORDER, PAY, Guest, make, remind
from tutorial.show import line

ADA = Guest(name="Ada", usual="flat white", cups=3)
SOON, LATE = timedelta(seconds=1), timedelta(minutes=1)


# The shop.


def next_order(ctx: replay.RunContext, guest: Guest) -> str | None:
    """The guest's next order, after one reminder if needed; None if no order comes."""
    # TODO(you): await an order for SOON. If none comes, remind the guest, and await one for LATE.
    # instead: return None
    order = ctx.await_signal(ORDER, SOON)
    if order is None:
        ctx.exec_activity(remind, guest)
        order = ctx.await_signal(ORDER, LATE)
    return order
    # done


def serve(ctx: replay.RunContext, guest: Guest) -> None:
    """A workflow: serves one guest."""
    for _ in range(guest.cups):
        order = next_order(ctx, guest)
        if order is None:
            break
        ctx.exec_activity(make, order or guest.usual)
    if ctx.await_signal(PAY, SOON) is None:
        ctx.exec_activity(remind, guest)


# The guest.


def send(client: replay.Client, run: str, coffee: str, external_id: str) -> None:
    """Send an order, and print whether one with the same external id was sent before."""
    new = client.signal_run(NAMESPACE, serve, run, ORDER, coffee, external_id)
    answer = "sent" if new else "was sent before"
    print(f"{external_id}, {coffee or 'the usual'}: {answer}", flush=True)


def awaits_the_last(event: replay.Event) -> bool:
    """Whether the run awaits an order (type 1) for the fourth time: see the README."""
    return event.type is EventType.ACTIVITY_REQUEST and event.key[4:] == ("replay_signal", "1:3")


def drink(client: replay.Client, run: str) -> None:
    """Watch the log of the run until its end, and send the last order when the shop awaits it."""
    for event in client.stream(NAMESPACE, "serve", run):
        print(line(event), flush=True)
        if awaits_the_last(event):
            # TODO(you): order the usual, which is a coffee of "", as "order-3".
            # instead: pass
            send(client, run, "", "order-3")
            # done
        if event.type is EventType.RUN_COMPLETED:
            return


def main(url: str, run: str) -> None:
    """Opens the shop for a guest who has ordered before she comes in."""
    with replay.connect(url) as client:
        replay.register_workflow(client, NAMESPACE, serve)
        replay.register_activity(client, NAMESPACE, make)
        replay.register_activity(client, NAMESPACE, remind)
        client.signal_run(NAMESPACE, serve, run, PAY, "gold card", "payment")
        # TODO(you): there is no run yet. Order an "espresso" as "order-1", twice, because the guest
        # has tapped twice. Then order a "cappuccino" as "order-2".
        send(client, run, "espresso", "order-1")
        send(client, run, "espresso", "order-1")
        send(client, run, "cappuccino", "order-2")
        # done
        client.run_workflow(NAMESPACE, serve, run, ADA)
        drink(client, run)
