"""The clock of lesson 5: its schedule, what it announces, and the work of each tick."""

import time
from dataclasses import dataclass

from replay import ActivityContext, OutputType

NAMESPACE = "cron"


@dataclass
class Schedule:
    """The input of the workflow: tick n is due at anchor + n * period, and which tick is next.

    Both are in seconds, the anchor from the beginning of 1970 in UTC.
    """

    anchor: int
    period: int
    next: int


@dataclass
class Tick:
    """A tick, and when it is due: in seconds, like the anchor."""

    number: int
    due: int


@dataclass
class Skipped:
    """Ticks that are not run, from the first to the last."""

    first: int
    last: int


#: A tick is run.
TICK = OutputType("tick", Tick)
#: Ticks are skipped.
SKIPPED = OutputType("skipped", Skipped)


def chore(ctx: ActivityContext, backends: None, tick: Tick) -> None:
    """An activity: the work of a tick. Every fifth time it takes longer than two periods."""
    time.sleep(2.1 if tick.number % 5 == 2 else 0.3)
