"""A plan: all that a history is made of."""

from __future__ import annotations

from typing import NamedTuple

from tests.simulation.program import LIMIT, Program

#: The numbers of processes: 0 and 1 are workers, and so is the third where they share shards.
USER, SERVER, THIRD = 2, 3, 4


class Action(NamedTuple):
    """One entry of a schedule; what the numbers mean depends on `what`."""

    what: str
    process: int = 0
    n: int = 0
    kind: str = ""


class Plan(NamedTuple):
    """One history: what is to be done, and what happens meanwhile."""

    programs: tuple[Program, ...]
    schedule: tuple[Action, ...]
    max_cached: int = 10_000
    await_ms: int = 3_600_000
    #: Where the workers' log is: in their own processes, behind a server, or one of each.
    mode: str = "embedded"
    workers: int = 1  # of each activity
    limit: int = LIMIT  # of a message, in bytes
    window_us: int = 0  # a handler takes so long, by the clock of its step
    jitter: int = 0  # the seed of what the library draws
    shards: int = 0  # which the workers share (H3); 0: each has all
