"""Lesson 9: several providers claim a job, and one of them gets it."""

import time
from dataclasses import dataclass
from datetime import datetime, timedelta

import replay
from tutorial.lesson_09_parent_job import job_pb2 as pb
from tutorial.lesson_09_parent_job.replay_gen import (
    JobFlow,
    handle_claimed,
    handle_offered,
    run_job,
    signal_job_claim,
    signal_job_confirm,
    start_replay_loops,
    stream_job,
)
from tutorial.show import print_log

CONFIRM = timedelta(seconds=1.5)  # A provider that has not confirmed by then loses the job.
LATE = timedelta(seconds=1)  # For so long after the end, late claims still get an answer.
LATENCY = 0.5  # Seconds from a provider to here: long enough for a crash in between.


# The parent's side: a state machine.


def winner(flow: JobFlow, offer: int, gone: set[str], deadline: datetime) -> pb.Claim | None:
    """OPEN: the first claim of this offer from a provider that has not failed to confirm."""
    # TODO(you): take the claims with flow.await_claim(deadline - flow.now()), and return the first
    # that fits. Answer the others with flow.emit_refused(claim).
    return None


def confirmed(flow: JobFlow, claim: pb.Claim) -> bool:
    """CLAIMED: whether the provider confirms this claim in time. Older claims do not count."""
    deadline = flow.now() + CONFIRM
    while (yes := flow.await_confirm(deadline - flow.now())) is not None:
        if yes == claim:
            return True
    return False


def search(flow: JobFlow, job: pb.Job) -> None:
    """From the first offer to DONE or CANCELLED. The state is the place in this function."""
    deadline = flow.create_event.timestamp + timedelta(seconds=job.patience)
    gone: set[str] = set()
    number = 0
    while flow.now() < deadline:
        number += 1
        flow.emit_offered(pb.Offer(number=number, pay=job.pay))
        claim = winner(flow, number, gone, deadline)
        if claim is None:
            break
        flow.emit_claimed(claim)
        # TODO(you): if it is confirmed, emit done, and return. If not, its provider is `gone`.
        break
    flow.emit_cancelled(pb.Offer(number=number, pay=job.pay))


def job(flow: JobFlow, job: pb.Job) -> None:
    """A workflow: finds a provider, and answers claims that come too late."""
    search(flow, job)
    while (late := flow.await_claim(LATE)) is not None:
        flow.emit_refused(late)


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

        def offered(run: str, offer: pb.Offer) -> None:
            if offer.pay < self.pay:
                return
            time.sleep(self.after)
            # TODO(you): send a pb.Claim to the run with signal_job_claim. Its external id has to be
            # the same each time this provider hears this offer.
            time.sleep(LATENCY)

        def claimed(run: str, claim: pb.Claim) -> None:
            if claim.provider == self.name and self.reliable:
                signal_job_confirm(client, run, claim, f"{self.name}/{claim.offer}")

        def hear(event: replay.Event) -> None:
            handle_offered(event, offered)
            handle_claimed(event, claimed)

        replay.consume(client, self.name, hear, namespace="parent_job", workflow="job")


PROVIDERS = [
    Provider("ann", after=0, pay=10, reliable=False),
    Provider("bob", after=0.4, pay=12),
    Provider("cem", after=0.8, pay=12),
]


def show(client: replay.Client, run: str) -> None:
    """Print the outputs of a job until its end."""
    for event in stream_job(client, run):
        if event.type is replay.EventType.RUN_OUTPUT:
            who = getattr(event.message, "provider", "")
            print(f"  {event.key.target} {who}".rstrip(), flush=True)
        elif event.type is replay.EventType.RUN_COMPLETED:
            return


def main(url: str, run: str) -> None:
    """One job that pays well, then one that does not."""
    with replay.connect(url) as client:
        start_replay_loops(client, job=job)
        for provider in PROVIDERS:
            provider.listen(client)
        for id, wanted in {
            run: pb.Job(pay=12, patience=15),
            f"{run}.night": pb.Job(pay=5, patience=1),
        }.items():
            print(id)
            run_job(client, id, wanted)
            show(client, id)
        print_log(client, "parent_job", "job", run)
