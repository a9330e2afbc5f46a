"""Lesson 3: a bakery announces its loaves, and does not wait for anybody to listen."""

import threading
import time
from typing import Any

import replay
from tutorial.lesson_03_output.goods import BAKED, NAMESPACE, Loaf, bake, carry
from tutorial.show import print_log

LOAVES = 4
PACE = 1.0  # Seconds that the delivery needs for a loaf; the bakery is faster.


# One process.


def bakery(ctx: replay.RunContext, loaves: int) -> None:
    """A workflow: bakes loaves, and announces each."""
    for number in range(1, loaves + 1):
        # TODO(you): bake the loaf with this number, and emit the loaf as an output.
        pass


def bake_all(url: str, run: str) -> None:
    """The bakery's process: it ends when all is baked, even if nobody has heard of it."""
    with replay.connect(url) as client:
        replay.register_workflow(client, NAMESPACE, bakery)
        replay.register_activity(client, NAMESPACE, bake)
        client.run_workflow(NAMESPACE, bakery, run, LOAVES)
        client.await_completion(NAMESPACE, bakery, run)
        print_log(client, NAMESPACE, "bakery", run)


# Another process.


def parcel(ctx: replay.RunContext, loaf: Loaf) -> None:
    """A workflow: delivers one loaf."""
    ctx.exec_activity(carry, loaf)


def deliver(client: replay.Client, loaf: Loaf) -> None:
    """Have a loaf delivered. This may be called more than once for the same loaf."""
    # TODO(you): start a run of parcel for this loaf with run_workflow. The name of the run has to
    # be the same at each call for this loaf, and different for every other loaf.
    new = False
    print(f"loaf {loaf.number}: {'on its way' if new else 'was on its way before'}", flush=True)
    time.sleep(PACE)  # The delivery has its own pace, and nobody waits for it.


def deliver_all(url: str, run: str) -> None:
    """The delivery's process: it reads the outputs of all runs of the bakery, until Ctrl-C."""
    with replay.connect(url) as client:
        replay.register_workflow(client, NAMESPACE, parcel)
        replay.register_activity(client, NAMESPACE, carry)

        def baked(namespace: str, workflow: str, run: str, name: str, loaf: Any) -> None:
            deliver(client, Loaf(**loaf))

        def handle(event: replay.Event) -> None:
            replay.handle(event, run_output=baked)

        # TODO(you): let a consumer named "delivery" call `handle` with the bakery's events.
        threading.Event().wait()


ROLES = {"bakery": bake_all, "delivery": deliver_all}
