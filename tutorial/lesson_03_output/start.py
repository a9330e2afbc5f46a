"""Lesson 3: a bakery announces its loaves, and does not wait for anybody to listen."""

import threading
import time

import replay
from tutorial.lesson_03_output import bakery_pb2 as pb
from tutorial.lesson_03_output.replay_gen import (
    BakeryFlow,
    ParcelFlow,
    handle_baked,
    register_bake,
    register_bakery,
    register_carry,
    register_parcel,
    run_bakery,
    run_parcel,
)
from tutorial.show import print_log

LOAVES = 4
PACE = 1.0  # Seconds that the delivery needs for a loaf; the bakery is faster.


# One process.


def bakery(flow: BakeryFlow, order: pb.Order) -> None:
    """A workflow: bakes loaves, and announces each."""
    for number in range(1, order.loaves + 1):
        # TODO(you): bake dough with this number, and emit the loaf as an output.
        pass


def bake_all(url: str, run: str) -> None:
    """The bakery's process: it ends when all is baked, even if nobody has heard of it."""
    with replay.connect(url) as client:
        register_bakery(client, bakery)
        register_bake(client)
        run_bakery(client, run, pb.Order(loaves=LOAVES))
        client.await_completion("output", "bakery", run)
        print_log(client, "output", "bakery", run)


# Another process.


def parcel(flow: ParcelFlow, loaf: pb.Loaf) -> None:
    """A workflow: delivers one loaf."""
    flow.carry(loaf)


def deliver(client: replay.Client, loaf: pb.Loaf) -> None:
    """Have a loaf delivered. This may be called more than once for the same loaf."""
    # TODO(you): start a run of parcel for this loaf with run_parcel. The name of the run has to be
    # the same at each call for this loaf, and different for every other loaf.
    new = False
    print(f"loaf {loaf.number}: {'on its way' if new else 'was on its way before'}", flush=True)
    time.sleep(PACE)  # The delivery has its own pace, and nobody waits for it.


def deliver_all(url: str, run: str) -> None:
    """The delivery's process: it reads the outputs of all runs of the bakery, until Ctrl-C."""
    with replay.connect(url) as client:
        register_parcel(client, parcel)
        register_carry(client)

        def handle(event: replay.Event) -> None:
            handle_baked(event, lambda _, loaf: deliver(client, loaf))

        # TODO(you): let a consumer named "delivery" call `handle` with the bakery's events.
        threading.Event().wait()


ROLES = {"bakery": bake_all, "delivery": deliver_all}
