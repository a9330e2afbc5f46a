"""The check of lesson 8: the facts that its log has to show."""

from collections.abc import Sequence
from itertools import groupby, pairwise

from replay import Event, EventType
from tutorial.checking import Claim, Kill
from tutorial.lesson_08_sparkline.gold import NAMESPACE, WIDTH

__all__ = ["KILLS", "NAMESPACE", "check", "enough"]

KILLS = [
    Kill(
        "the fourth iteration has begun with three prices",
        lambda events: any(event.key.iteration == 3 for event in events),
    )
]
SHORT = 40  # Events.


def iterations(events: Sequence[Event]) -> list[list[Event]]:
    """The events of the run that this check began, by iteration; other runs may go on too."""
    runs = [event.key.run for event in events if event.type is EventType.RUN_CREATED]
    own = [event for event in events if event.key.run in runs[:1]]
    return [list(each) for _, each in groupby(own, lambda event: event.key.iteration)]


def sampled(iteration: Sequence[Event]) -> list[int]:
    """The prices that an iteration sampled."""
    answers = [event for event in iteration if event.type is EventType.ACTIVITY_RESPONSE]
    return [answer.message for answer in answers if answer.key.target == "sample"]


def carried(iteration: Sequence[Event]) -> list[int]:
    """The prices that an iteration began with."""
    return list(iteration[0].message)


def drawn(iteration: Sequence[Event]) -> list[list[int]]:
    """The windows that an iteration emitted."""
    return [list(e.message) for e in iteration if e.type is EventType.RUN_OUTPUT]


def where(numbers: Sequence[int]) -> str:
    """The iteration to look at, if there is one."""
    return f" (see iteration {numbers[0]})" if numbers else ""


def enough(events: Sequence[Event]) -> bool:
    """Whether the latest iteration began after more prices than a window holds."""
    return sum(len(sampled(each)) for each in iterations(events)[:-1]) > WIDTH


def check(events: Sequence[Event]) -> list[Claim]:
    """Each iteration passes on its old and new prices, and never more than a window of them."""
    found = iterations(events)
    samples = [price for each in found for price in sampled(each)]
    torn = [
        after[0].key.iteration
        for before, after in pairwise(found)
        if carried(after)[-WIDTH:] != (carried(before) + sampled(before))[-WIDTH:]
    ]
    hidden = [
        before[0].key.iteration
        for before, after in pairwise(found)
        if drawn(before)[-1:] != [carried(after)]
    ]
    widest = max((len(carried(each)) for each in found), default=0)
    longest = max((len(each) for each in found), default=0)
    several = enough(events)
    return [
        Claim(
            f"more than {WIDTH} prices are sampled, in several short iterations",
            several and longest <= SHORT,
            f"{len(samples)} prices in {len(found)} iterations of up to {longest} events: call"
            " `sample` in each, and ctx.restart at its end",
        ),
        Claim(
            "each iteration begins with the prices of the one before, plus the new ones",
            several and not torn,
            f"restart with `prices`, which include the new one{where(torn)}",
        ),
        Claim(
            f"a window has at most {WIDTH} prices, however long the run goes on",
            several and widest == WIDTH,
            f"the longest has {widest}: keep the last WIDTH of them",
        ),
        Claim(
            "each window that an iteration begins with was an output before",
            several and not hidden,
            f"emit WINDOW after the sample, with the new prices{where(hidden)}",
        ),
    ]
