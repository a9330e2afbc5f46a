"""Queries: what runs there are, and what each waits for.

Left to `replay.client`: the names under which users call this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .storage.database import Error

#: The status of a run: the first three are those of a run that has not ended.
RUNNING, WAITING, PARKED = "running", "waiting", "parked"
COMPLETED, FAILED, CANCELLED = "completed", "failed", "cancelled"
UNFINISHED = (RUNNING, WAITING, PARKED)
STATUSES = (*UNFINISHED, COMPLETED, FAILED, CANCELLED)
#: The most rows that one query returns.
MOST = 1000


class UnknownRun(Error, LookupError):
    """The log has no run of this name."""


class BadQuery(Error, ValueError):
    """A query with a status, a limit or a place that does not exist."""


class QueryBehind(Error):
    """The table of runs is so far behind the log that a query cannot make up for it (Q1)."""


@dataclass(frozen=True, slots=True)
class RunInfo:
    """A run, as a list shows it."""

    namespace: str
    workflow: str
    run: str
    #: The newest iteration.
    iteration: int
    #: One of `STATUSES`.
    status: str
    #: The time of the created event of iteration 0, in UTC.
    started_at: datetime
    #: The time of the completed event of the last iteration; None if the run has not ended.
    ended_at: datetime | None
    #: The error of a parked run, or the text of one that has failed or was cancelled; else "".
    error: str
    #: The id of the newest event of the newest iteration.
    last_event_id: int
    #: The id of the created event of iteration 0: the run's place in a list, see `after`.
    id: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request of a run that has no response."""

    #: ``activity``, ``sleep`` or ``signal``.
    kind: str
    #: The activity's name; the type of a signal, as a number; "" for a sleep.
    name: str
    #: The time of the request, in UTC.
    since: datetime
    #: When a sleep, or the timeout of an await, is over; None if there is no such time.
    until: datetime | None
    #: How many attempts have failed.
    attempts: int
    #: The error of the last one, or "".
    error: str
    #: When the next attempt is due; None if none has failed, or one is under way.
    next_at: datetime | None
    #: The request's key.
    key: str


@dataclass(frozen=True, slots=True)
class RunDescription:
    """A run and what it waits for."""

    namespace: str
    workflow: str
    run: str
    iteration: int
    #: One of `STATUSES`.
    status: str
    started_at: datetime
    ended_at: datetime | None
    #: What the last iteration has returned; None if nothing, or if it has not ended.
    result: Any
    #: `RunFailed` with `kind`, `text` and `detail` if the run has failed or was cancelled.
    failure: Exception | None
    #: The error of a parked run, or the text of the failure; else "".
    error: str
    #: Of a parked run: how many attempts have failed, and when the next is due.
    attempts: int
    next_at: datetime | None
    #: The oldest 1,000 requests without a response, in their order.
    waiting_for: Sequence[Waiting]
    #: The id of the newest event of the newest iteration.
    last_event_id: int


@dataclass(frozen=True, slots=True)
class ConsumerInfo:
    """A consumer's name, and how far it has read."""

    name: str
    #: ``HOST:PID`` of the process that owns the name; "" if none does.
    owner: str
    #: When the owner's lease ends unless it is renewed, in UTC.
    lease_until: datetime | None
    #: The id up to which it is done.
    cursor: int
    #: How many events follow the cursor.  Up to 1,000 are normal: see L5.
    lag: int
    #: How many events it has parked.
    parked: int


@dataclass(frozen=True, slots=True)
class ParkedInfo:
    """An event that a consumer has parked."""

    consumer: str
    event_id: int
    namespace: str
    workflow: str
    run: str
    #: The key of the request; for a workflow, that of the iteration.
    key: str
    #: How many attempts have failed.
    attempts: int
    #: The last one's error; ``running`` for a request that is executed just now.
    error: str
    #: When the next attempt is due, in UTC.
    next_at: datetime
    #: Its place in a list, see `after`.
    id: int
