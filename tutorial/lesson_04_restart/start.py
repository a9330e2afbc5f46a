"""Lesson 4: a till that takes payments for ever, with a history that stays short."""

from datetime import timedelta

import replay
from replay import EventType
from tutorial.lesson_04_restart.office import NAMESPACE, PAID, Till, book
from tutorial.show import print_log

PAYMENTS = [10 * number for number in range(1, 13)]  # in cents
ROUNDS = 4  # in each iteration
PATIENCE = timedelta(seconds=10)


def till(ctx: replay.RunContext, state: Till) -> None:
    """A workflow: one iteration, which begins with the state of the one before."""
    for _ in range(ROUNDS):
        # TODO(you): await a payment for PATIENCE. If one comes, book it and count it.
        return
    # TODO(you): end this iteration, and begin the next with the present state.


def show(client: replay.Client, run: str) -> None:
    """Print how each iteration begins, and how many events it has, until the run ends."""
    events = 0
    for event in client.stream(NAMESPACE, "till", run):
        events += 1
        name = f"iteration {event.key.iteration}"
        if event.type is EventType.RUN_CREATED:
            state = Till(**event.message)
            print(f"{name} begins with {state.payments} payments, {state.cents} cents", flush=True)
        elif event.type is EventType.RUN_COMPLETED:
            print(f"{name} has had {events} events", flush=True)
            events = 0
            # The next one begins in the same transaction. So it is in the log by now, or never.
            rest = client.stream(NAMESPACE, "till", run, after=event.id, to_head=True)
            if not list(rest):
                return


def main(url: str, run: str) -> None:
    """Opens the till, sends twelve payments, and shows the iterations until Ctrl-C."""
    with replay.connect(url) as client:
        replay.register_workflow(client, NAMESPACE, till)
        replay.register_activity(client, NAMESPACE, book)
        for number, cents in enumerate(PAYMENTS, 1):
            client.signal_run(NAMESPACE, till, run, PAID, cents, f"payment-{number}")
        client.run_workflow(NAMESPACE, till, run, Till())
        try:
            show(client, run)
        finally:
            print_log(client, NAMESPACE, "till", run)
