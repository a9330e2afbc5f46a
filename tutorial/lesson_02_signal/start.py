"""Lesson 2: a coffee shop that takes orders, whenever they are sent, each once."""

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
    """The guest's next order, after one reminder if need be; None if there comes none."""
    # TODO(you): await an order for SOON. If none has come, remind the guest, and await it for LATE.
    return None


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
    """Send an order; whoever sends it again under the same external id is told so."""
    new = signal_serve_order(client, run, pb.Order(coffee=coffee), external_id)
    answer = "sent" if new else "was sent before"
    print(f"{external_id}, {coffee or 'the usual'}: {answer}", flush=True)


def awaits_the_last(event: replay.Event) -> bool:
    """Whether the run begins to await an order (type 1) for the fourth time: see the README."""
    return event.type is EventType.ACTIVITY_REQUEST and event.key[4:] == ("replay_signal", "1:3")


def drink(client: replay.Client, run: str) -> None:
    """Look at the log of the run until its end, and order the last coffee when it is awaited."""
    for event in stream_serve(client, run):
        print(line(event), flush=True)
        if awaits_the_last(event):
            # TODO(you): order the usual, which is an order of "", as "order-3".
            pass
        if event.type is EventType.RUN_COMPLETED:
            return


def main(url: str, run: str) -> None:
    """Opens the shop, and sends it a guest who has ordered before she comes in."""
    with replay.connect(url) as client:
        start_replay_loops(client, serve=serve)
        signal_serve_pay(client, run, pb.Payment(card="gold"), "payment")
        # TODO(you): there is no run yet. Order an "espresso" as "order-1", and once more as
        # "order-1", for the guest has tapped twice, then a "cappuccino" as "order-2".
        run_serve(client, run, ADA)
        drink(client, run)
