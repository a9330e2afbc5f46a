"""The check of lesson 4: the facts that its log has to show."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

from replay import Event, EventType
from tutorial.checking import Claim, Kill, own
from tutorial.lesson_04_restart.office import NAMESPACE, Till
from tutorial.lesson_04_restart.solution import PAYMENTS, ROUNDS

__all__ = ["KILLS", "NAMESPACE", "check", "enough"]

KILLS = [
    Kill(
        "the second iteration books its first payment",
        lambda events: any(e.key.iteration == 1 and e.key.target == "book" for e in events),
    )
]
ENOUGH = len(PAYMENTS) // ROUNDS  # iterations that end; the one after them waits
MOST = 2 + 4 * ROUNDS  # events: a beginning, an end, an await and a booking in each round


def booked(events: Sequence[Event]) -> list[int]:
    """The booked payments, in cents, in order."""
    asked = [event for event in events if event.type is EventType.ACTIVITY_REQUEST]
    return [event.message for event in asked if event.key.target == "book"]


def iterations(events: Sequence[Event]) -> list[list[Event]]:
    """The events of each iteration."""
    found: defaultdict[int, list[Event]] = defaultdict(list)
    for event in events:
        found[event.key.iteration].append(event)
    return [found[number] for number in sorted(found)]


def follows(before: Sequence[Event], after: Sequence[Event]) -> bool:
    """Whether an iteration ends, and the next begins with its state plus its bookings."""
    state, new = Till(**before[0].message), booked(before)
    state.payments += len(new)
    state.cents += sum(new)
    return before[-1].type is EventType.RUN_COMPLETED and Till(**after[0].message) == state


def enough(events: Sequence[Event]) -> bool:
    """Whether an iteration has begun after those that end."""
    return any(event.key.iteration >= ENOUGH for event in own(events))


def check(events: Sequence[Event]) -> list[Claim]:
    """The run goes on in short iterations, and passes its state on, in spite of the kill."""
    events = own(events)
    parts, entered = iterations(events), booked(events)
    longest = max((len(part) for part in parts), default=0)
    begun = [event for part in parts for event in part if event.type is EventType.RUN_CREATED]
    states = [event.message["payments"] for event in begun]
    return [
        Claim(
            f"the run goes on: {ENOUGH} iterations have ended, and the next has begun",
            enough(events),
            f"{len(begun)} iterations have begun: call ctx.restart after the loop",
        ),
        Claim(
            f"no iteration has more than {MOST} events, however long the run is",
            len(begun) > 1 and longest <= MOST,
            f"the longest of {len(parts)} has {longest} events: restart after ROUNDS awaits",
        ),
        Claim(
            "each iteration begins with the state of the one before, plus what that one booked",
            len(begun) > 1 and all(follows(*pair) for pair in pairwise(parts)),
            f"they begin with {states} payments: pass ctx.restart all that the next has to know",
        ),
        Claim(
            "all payments are booked, each once, in the order in which they were sent",
            entered == PAYMENTS,
            f"the log has {entered}: book what ctx.await_signal returns, unless it is None",
        ),
    ]
