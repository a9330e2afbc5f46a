"""Lesson 4: a till that takes payments for ever, with a history that stays short."""

from datetime import timedelta

import replay
from replay import EventType
from tutorial.lesson_04_restart import till_pb2 as pb
from tutorial.lesson_04_restart.replay_gen import (
    TillFlow,
    run_till,
    signal_till_paid,
    start_replay_loops,
    stream_till,
)
from tutorial.show import print_log

PAYMENTS = [pb.Payment(cents=10 * number) for number in range(1, 13)]
ROUNDS = 4  # in each iteration
PATIENCE = timedelta(seconds=10)


def till(flow: TillFlow, state: pb.Till) -> None:
    """A workflow: one iteration, which begins with the state of the one before."""
    for _ in range(ROUNDS):
        # TODO(you): await a payment for PATIENCE. If one comes, book it and count it.
        # instead: return
        payment = flow.await_paid(PATIENCE)
        if payment is not None:
            flow.book(payment)
            state.payments += 1
            state.cents += payment.cents
        # done
    # TODO(you): end this iteration, and begin the next with the present state.
    flow.restart(state)
    # done


def show(client: replay.Client, run: str) -> None:
    """Print how each iteration begins, and how many events it has, until the run ends."""
    events = 0
    for event in stream_till(client, run):
        events += 1
        name = f"iteration {event.key.iteration}"
        if event.type is EventType.RUN_CREATED:
            state: pb.Till = event.message
            print(f"{name} begins with {state.payments} payments, {state.cents} cents", flush=True)
        elif event.type is EventType.RUN_COMPLETED:
            print(f"{name} has had {events} events", flush=True)
            events = 0
            # The next one begins in the same transaction. So it is in the log by now, or never.
            if not list(stream_till(client, run, after=event.id, to_head=True)):
                return


def main(url: str, run: str) -> None:
    """Opens the till, sends twelve payments, and shows the iterations until Ctrl-C."""
    with replay.connect(url) as client:
        start_replay_loops(client, till=till)
        for number, payment in enumerate(PAYMENTS, 1):
            signal_till_paid(client, run, payment, f"payment-{number}")
        run_till(client, run, pb.Till())
        try:
            show(client, run)
        finally:
            print_log(client, "restart", "till", run)
