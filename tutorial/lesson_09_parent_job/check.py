"""The check of lesson 9: the facts that its log has to show."""

from collections.abc import Iterator, Sequence

from replay import Event, EventType
from tutorial.checking import Claim, Kill, answered
from tutorial.lesson_09_parent_job import sitting
from tutorial.lesson_09_parent_job.sitting import (
    CANCELLED,
    CLAIMED,
    DONE,
    NAMESPACE,
    OFFERED,
    REFUSED,
)

__all__ = ["KILLS", "NAMESPACE", "check"]

KILLS = [
    Kill("ann's claim is taken, and her cursor is not stored", answered("replay_signal", "1:0")),
]
STATES = (OFFERED.name, CLAIMED.name, DONE.name, CANCELLED.name)


def of(events: Sequence[Event], run: str) -> list[Event]:
    """The events of a run."""
    return [event for event in events if event.key.run == run]


def states(events: Sequence[Event]) -> list[str]:
    """The states that a run was in, one after the other."""
    told = [event.key.target for event in events if event.type is EventType.RUN_OUTPUT]
    return [name for name in told if name in STATES]


def ended(events: Sequence[Event]) -> bool:
    """Whether a run is complete."""
    return bool(events) and events[-1].type is EventType.RUN_COMPLETED


def taken(event: Event, signal: int) -> bool:
    """Whether an event is an await that took a signal of this type."""
    of_type = event.key.target == "replay_signal" and event.key.sequence.startswith(f"{signal}:")
    return (
        event.type is EventType.ACTIVITY_RESPONSE
        and of_type
        and isinstance(event.message, dict)  # It is a `SignalTimeout` if none came.
    )


def answers(events: Sequence[Event]) -> Iterator[tuple[str, str, int]]:
    """The right answer to each claim that a run has taken, in order."""
    offer, winner = 0, ""
    gone: set[str] = set()
    for event in events:
        if event.type is EventType.RUN_OUTPUT and event.key.target == OFFERED.name:
            gone.add(winner)
            offer, winner = event.message["number"], ""
        elif taken(event, 1):
            claim = sitting.Claim(**event.message)
            wins = not winner and claim.offer == offer and claim.provider not in gone
            winner = winner or (claim.provider if wins else "")
            yield (CLAIMED if wins else REFUSED).name, claim.provider, claim.offer


def astray(path: Sequence[str], heard: Sequence[str]) -> str:
    """The hint for a job that was in these states, and has heard these providers."""
    if path == ["offered", "claimed", "cancelled"]:
        return "the loop ends too early: put the transitions in the place of `break`"
    if 0 < len(heard) < 3:
        return f"the run got claims of {heard} only: put the provider's name into the external id"
    return (
        f"the log has {path}: providers have to claim; the workflow has to take the first"
        " claim, and to offer the job again if nobody confirms it"
    )


def check(events: Sequence[Event]) -> list[Claim]:
    """One provider gets the job; those that come late or do not confirm do not get it."""
    run = next((event.key.run for event in events if event.type is EventType.RUN_CREATED), "")
    job, night = of(events, run), of(events, f"{run}.night")
    path = states(job)
    claims = [(e.message["provider"], e.message["offer"]) for e in job if taken(e, 1)]
    told = [
        (event.key.target, event.message["provider"], event.message["offer"])
        for event in job
        if event.type is EventType.RUN_OUTPUT and event.key.target in (CLAIMED.name, REFUSED.name)
    ]
    done = [event.message for event in job if event.key.target == DONE.name]
    confirms = [event.message for event in job if taken(event, 2)]
    return [
        Claim(
            "OPEN, CLAIMED, OPEN again since nobody has confirmed, CLAIMED, DONE",
            len(path) >= 5 and path == ["offered", "claimed"] * (len(path) // 2) + ["done"],
            astray(path, sorted({provider for provider, _ in claims})),
        ),
        Claim(
            "the first claim in the log wins, and all others are refused",
            len({provider for provider, _ in claims}) == 3 and told == list(answers(job)),
            f"the log has {told}: take the claims one by one; refuse those of an older offer, or"
            " of a provider that did not confirm",
        ),
        Claim(
            "no claim counts twice, however often a provider hears the offer",
            0 < len(claims) == len(set(claims)),
            "build the external id from the provider's name and the offer's number only",
        ),
        Claim(
            "exactly one provider gets the job, and that one has confirmed",
            len(done) == 1 and done[0] in confirms and ended(job),
            "emit DONE for the confirmed claim, and return",
        ),
        Claim(
            "a job that nobody wants is CANCELLED when the patience is over",
            states(night) == ["offered", "cancelled"] and ended(night),
            "without a winner the workflow has to emit CANCELLED and end",
        ),
    ]
