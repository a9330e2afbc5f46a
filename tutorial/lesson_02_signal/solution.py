"""Lesson 2: a coffee shop that takes each order once, whenever it is sent."""

from datetime import timedelta

import replay
from replay import EventType
from tutorial.lesson_02_signal import coffee_pb2 as pb
from tutorial.lesson_02_signal.replay_gen import (
    ServeFlow,
    run_serve,
    signal_serve_order,
    signal_serve_pay,
    start_replay_loops,
    stream_serve,
)
from tutorial.show import line

ADA = pb.Guest(name="Ada", usual="flat white", cups=3)
SOON, LATE = timedelta(seconds=1), timedelta(minutes=1)


# The shop.


def next_order(flow: ServeFlow, guest: pb.Guest) -> pb.Order | None:
    """The guest's next order, after one reminder if needed; None if no order comes."""
    # TODO(you): await an order for SOON. If none comes, remind the guest, and await one for LATE.
    # instead: return None
    order = flow.await_order(SOON)
    if order is None:
        flow.remind(guest)
        order = flow.await_order(LATE)
    return order
    # done


def serve(flow: ServeFlow, guest: pb.Guest) -> None:
    """A workflow: serves one guest."""
    for _ in range(guest.cups):
        order = next_order(flow, guest)
        if order is None:
            break
        flow.make(pb.Coffee(name=order.coffee or guest.usual))
    if flow.await_pay(SOON) is None:
        flow.remind(guest)


# The guest.


def send(client: replay.Client, run: str, coffee: str, external_id: str) -> None:
    """Send an order, and print whether one with the same external id was sent before."""
    new = signal_serve_order(client, run, pb.Order(coffee=coffee), external_id)
    answer = "sent" if new else "was sent before"
    print(f"{external_id}, {coffee or 'the usual'}: {answer}", flush=True)


def awaits_the_last(event: replay.Event) -> bool:
    """Whether the run awaits an order (type 1) for the fourth time: see the README."""
    return event.type is EventType.ACTIVITY_REQUEST and event.key[4:] == ("replay_signal", "1:3")


def drink(client: replay.Client, run: str) -> None:
    """Watch the log of the run until its end, and send the last order when the shop awaits it."""
    for event in stream_serve(client, run):
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
        start_replay_loops(client, serve=serve)
        signal_serve_pay(client, run, pb.Payment(card="gold"), "payment")
        # TODO(you): there is no run yet. Order an "espresso" as "order-1", twice, because the guest
        # has tapped twice. Then order a "cappuccino" as "order-2".
        send(client, run, "espresso", "order-1")
        send(client, run, "espresso", "order-1")
        send(client, run, "cappuccino", "order-2")
        # done
        run_serve(client, run, ADA)
        drink(client, run)
