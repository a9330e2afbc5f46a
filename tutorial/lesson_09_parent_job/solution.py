"""Lesson 9: several providers claim a job, and one of them gets it."""

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import replay
from tutorial.lesson_09_parent_job.sitting import (
    CANCELLED,
    CLAIM,
    CLAIMED,
    CONFIRM,
    DONE,
    NAMESPACE,
    OFFERED,
    REFUSED,
    Claim,
    Job,
    Offer,
)
from tutorial.show import print_log

GRACE = timedelta(seconds=1.5)  # A provider that has not confirmed by then loses the job.
LATE = timedelta(seconds=1)  # For so long after the end, late claims still get an answer.
LATENCY = 0.5  # Seconds from a provider to here: long enough for a crash in between.


# The parent's side: a state machine.


def winner(ctx: replay.RunContext, offer: int, gone: set[str], deadline: datetime) -> Claim | None:
    """OPEN: the first claim of this offer from a provider that has not failed to confirm."""
    # TODO(you): await claims for the time until the deadline, counted from ctx.now(). Return the
    # first that fits. Answer each of the others with the output REFUSED.
    while (claim := ctx.await_signal(CLAIM, deadline - ctx.now())) is not None:
        if claim.offer == offer and claim.provider not in gone:
            return claim
        ctx.emit_output(REFUSED, claim)
    # done
    return None


def confirmed(ctx: replay.RunContext, claim: Claim) -> bool:
    """CLAIMED: whether the provider confirms this claim in time. Older claims do not count."""
    deadline = ctx.now() + GRACE
    while (yes := ctx.await_signal(CONFIRM, deadline - ctx.now())) is not None:
        if yes == claim:
            return True
    return False


def search(ctx: replay.RunContext, job: Job) -> None:
    """From the first offer to DONE or CANCELLED. The state is the place in this function."""
    deadline = ctx.create_event.timestamp + timedelta(seconds=job.patience)
    gone: set[str] = set()
    number = 0
    while ctx.now() < deadline:
        number += 1
        ctx.emit_output(OFFERED, Offer(number, job.pay))
        claim = winner(ctx, number, gone, deadline)
        if claim is None:
            break
        ctx.emit_output(CLAIMED, claim)
        # TODO(you): if it is confirmed, emit DONE, and return. If not, its provider is `gone`, and
        # the loop goes on.
        # instead: break
        if confirmed(ctx, claim):
            ctx.emit_output(DONE, claim)
            return
        gone.add(claim.provider)
        # done
    ctx.emit_output(CANCELLED, Offer(number, job.pay))


def job(ctx: replay.RunContext, job: Job) -> None:
    """A workflow: finds a provider, and answers claims that come too late."""
    search(ctx, job)
    while (late := ctx.await_signal(CLAIM, LATE)) is not None:
        ctx.emit_output(REFUSED, late)


# The providers' side: each is a consumer with a cursor of its own.


@dataclass(frozen=True)
class Provider:
    """A babysitter."""

    name: str
    after: float  # Seconds until it answers an offer.
    pay: int  # It does not answer an offer that pays less.
    reliable: bool = True

    def listen(self, client: replay.Client) -> None:
        """Hear the outputs of all jobs; after a crash go on with the first unfinished one."""

        def offered(run: str, offer: Offer) -> None:
            if offer.pay < self.pay:
                return
            time.sleep(self.after)
            # TODO(you): send a Claim to the run with client.signal_run. Its external id has to be
            # the same each time this provider hears this offer, and different for all other claims.
            claim = Claim(self.name, offer.number)
            client.signal_run(NAMESPACE, job, run, CLAIM, claim, f"{self.name}/{offer.number}")
            # done
            time.sleep(LATENCY)

        def claimed(run: str, claim: Claim) -> None:
            if claim.provider == self.name and self.reliable:
                id = f"{self.name}/{claim.offer}"
                client.signal_run(NAMESPACE, job, run, CONFIRM, claim, id)

        def told(namespace: str, workflow: str, run: str, name: str, message: Any) -> None:
            if name == OFFERED.name:
                offered(run, Offer(**message))
            elif name == CLAIMED.name:
                claimed(run, Claim(**message))

        def hear(event: replay.Event) -> None:
            replay.handle(event, run_output=told)

        replay.consume(client, self.name, hear, namespace=NAMESPACE, workflow="job")


PROVIDERS = [
    Provider("ann", after=0, pay=10, reliable=False),
    Provider("bob", after=0.4, pay=12),
    Provider("cem", after=0.8, pay=12),
]


def show(client: replay.Client, run: str) -> None:
    """Print the outputs of a job until its end."""
    for event in client.stream(NAMESPACE, job, run):
        if event.type is replay.EventType.RUN_OUTPUT:
            who = event.message.get("provider", "")
            print(f"  {event.key.target} {who}".rstrip(), flush=True)
        elif event.type is replay.EventType.RUN_COMPLETED:
            return


def main(url: str, run: str) -> None:
    """One job that pays well, then one that does not."""
    with replay.connect(url) as client:
        replay.register_workflow(client, NAMESPACE, job)
        for provider in PROVIDERS:
            provider.listen(client)
        for id, wanted in {run: Job(12, patience=15), f"{run}.night": Job(5, patience=1)}.items():
            print(id)
            client.run_workflow(NAMESPACE, job, id, wanted)
            show(client, id)
        print_log(client, NAMESPACE, "job", run)
