"""Mistakes that a learner makes: the log of a lesson's solution, changed as each would change it.

The check of the lesson has to notice each one, by the right claims and by no others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from replay import Event, EventType
from replay.storage.event import pack
from replay.storage.values import ANY

OUTPUT, ENDED, BEGUN = EventType.RUN_OUTPUT, EventType.RUN_COMPLETED, EventType.RUN_CREATED
ASKED, ANSWERED = EventType.ACTIVITY_REQUEST, EventType.ACTIVITY_RESPONSE

Log = list[Event]
Change = Callable[[Log], Log]
Which = Callable[[Event], bool]


class Mistake(NamedTuple):
    """A mistake in a lesson, and the claims that do not hold then, counted from 0."""

    lesson: int
    text: str
    change: Change
    claims: set[int]


def of(type: EventType, target: str = "", workflow: str = "", run: str = "") -> Which:
    """Events of a type and a target, if need be of one workflow, or runs that end with `run`."""
    return lambda event: (
        (event.type, event.key.target) == (type, target)
        and workflow in ("", event.key.workflow)
        and event.key.run.endswith(run)
    )


def adas(type: EventType, target: str) -> Which:
    """Events of the guest of lesson 2: the check begins the run of another one."""
    which = of(type, target)
    return lambda event: which(event) and not event.key.run.endswith(".early")


def places(log: Log, which: Which) -> list[int]:
    """Where these events stand."""
    return [n for n, event in enumerate(log) if which(event)]


def without(which: Which, n: int = 0) -> Change:
    """The n-th of these events is missing."""

    def change(log: Log) -> Log:
        at = places(log, which)[n]
        return log[:at] + log[at + 1 :]

    return change


def twice(which: Which, n: int = 0) -> Change:
    """The n-th of these events is there twice."""

    def change(log: Log) -> Log:
        at = places(log, which)[n]
        return log[: at + 1] + log[at:]

    return change


def exchanged(which: Which, a: int, b: int) -> Change:
    """Two of these events have each other's messages."""

    def change(log: Log) -> Log:
        log, found = log[:], places(log, which)
        one, other = log[found[a]], log[found[b]]
        log[found[a]], log[found[b]] = saying(one, other.raw), saying(other, one.raw)
        return log

    return change


def saying(event: Event, raw: bytes | None) -> Event:
    """The same event with another message."""
    return Event(event.id, event.type, event.key, event.timestamp, raw, event.text)


def edited(which: Which, n: int, edit: Callable[[Any], object]) -> Change:
    """The message of the n-th of these events says something else."""

    def change(log: Log) -> Log:
        log, at = log[:], places(log, which)[n]
        message = log[at].message
        edit(message)
        log[at] = saying(log[at], pack(ANY.message(message, log[at]), 100_000, log[at]))
        return log

    return change


def each(which: Which, edit: Callable[[int, Any], object]) -> Change:
    """The messages of all these events say something else; `edit` gets their numbers, too."""

    def change(log: Log) -> Log:
        for n in range(len(places(log, which))):
            log = edited(which, n, lambda message, n=n: edit(n, message))(log)  # type: ignore[misc]
        return log

    return change


def put(**fields: Any) -> Callable[[Any], None]:
    """An edit that sets fields."""

    def edit(message: Any) -> None:
        if isinstance(message, dict):
            message.update(fields)
            return
        for name, value in fields.items():
            setattr(message, name, value)

    return edit


def later(sleep: Any) -> None:
    """An edit that lets a sleep end later."""
    sleep.duration.FromTimedelta(sleep.duration.ToTimedelta() + timedelta(milliseconds=100))


def dearer(limit: Any) -> None:
    """An edit that raises the price of an order."""
    limit["price"] += 1000


def apart(n: int, picture: Any) -> None:
    """An edit that has each picture developed after the one before."""
    picture.update(started=10 * n, finished=10 * n + 5)


SIGNAL, SLEEP = "replay_signal", "replay_sleep"
PARCEL = of(BEGUN, workflow="parcel")

MISTAKES: Sequence[Mistake] = [
    Mistake(0, "two greetings in the wrong order", exchanged(of(ASKED, "say"), 0, 1), {0}),
    Mistake(0, "no sleep after one of them", without(of(ASKED, SLEEP), 2), {1, 2}),
    Mistake(0, "a request with two responses", twice(of(ANSWERED, "say")), {2}),
    Mistake(1, "words said in the wrong order", exchanged(of(ASKED, "say"), 0, 1), {1}),
    Mistake(1, "a word that is not translated", without(of(ASKED, "translate"), 1), {0}),
    Mistake(1, "a workflow that does not return", without(of(ENDED)), {2}),
    Mistake(2, "orders in the wrong order", exchanged(adas(ANSWERED, SIGNAL), 0, 1), {0, 2}),
    Mistake(2, "two reminders", twice(adas(ASKED, "remind")), {1}),
    Mistake(2, "one coffee too many", twice(adas(ASKED, "make"), 2), {2}),
    Mistake(2, "a payment that is not awaited", without(adas(ANSWERED, SIGNAL), -1), {3}),
    Mistake(3, "a loaf announced twice", twice(of(OUTPUT, "baked"), 1), {0}),
    Mistake(3, "a bakery that never closes", without(of(ENDED, workflow="bakery")), {0, 1}),
    Mistake(3, "a loaf without a parcel", without(PARCEL, 1), {2, 3}),
    Mistake(3, "two parcels for a loaf", twice(PARCEL, 1), {3}),
    Mistake(4, "no restart", lambda log: log[:18], {0, 1, 2, 3}),
    Mistake(4, "a long iteration", lambda log: log[:1] + log[1:2] * 99 + log[2:], {1}),
    Mistake(4, "a state that is not passed on", edited(of(BEGUN), 1, put(cents=1)), {2}),
    Mistake(4, "payments in the wrong order", exchanged(of(ASKED, "book"), 0, 1), {3}),
    Mistake(5, "a clock that stops", lambda log: log[:9], {0, 1, 2, 3, 4}),
    Mistake(
        5, "a tick from now on, not from the anchor", edited(of(OUTPUT, "tick"), 1, put(due=1)), {1}
    ),
    Mistake(5, "a sleep that ends between two ticks", edited(of(ASKED, SLEEP), 0, later), {2}),
    Mistake(5, "a tick that no output names", edited(of(OUTPUT, "skipped"), 0, put(first=99)), {3}),
    Mistake(5, "a tick skipped too early", edited(of(OUTPUT, "skipped"), 0, put(last=99)), {3, 4}),
    Mistake(6, "an order that does not end", without(of(ENDED, workflow="order")), {0}),
    Mistake(
        6,
        "a stored table without an order",
        edited(of(OUTPUT, "heard", run=".noon"), 0, lambda table: table.clear()),
        {1},
    ),
    Mistake(
        6,
        "a late table of another time",
        edited(of(OUTPUT, "heard", run=".noon"), 1, lambda table: table.clear()),
        {2},
    ),
    Mistake(
        7,
        "an order that is not cancelled",
        edited(of(ANSWERED, "cancel"), 0, put(state="OPEN")),
        {0, 2},
    ),
    Mistake(7, "an order above the bid", edited(of(ASKED, "place"), 1, dearer), {1}),
    Mistake(7, "two orders open at once", edited(of(ANSWERED, "cancel"), 0, put(open=2)), {2}),
    Mistake(7, "less than was wanted", edited(of(ANSWERED, "cancel"), -1, put(quantity=1)), {3}),
    Mistake(7, "an order that is not reported", without(of(OUTPUT, "placed")), {4}),
    Mistake(7, "an order that does not rest", without(of(ASKED, SLEEP)), {5}),
    Mistake(8, "too few prices", lambda log: log[:20], {0, 1, 2, 3}),
    Mistake(
        8,
        "a restart with a price that nobody sampled",
        edited(of(BEGUN), 2, lambda window: window.append(1)),
        {1, 3},
    ),
    Mistake(
        8,
        "a window that grows",
        edited(of(BEGUN), -1, lambda window: window.extend(range(99))),
        {1, 2, 3},
    ),
    Mistake(8, "a window that is not an output", without(of(OUTPUT, "window"), 1), {3}),
    Mistake(9, "no job done", without(of(OUTPUT, "done")), {0, 3}),
    Mistake(
        9, "a claim given to another", edited(of(OUTPUT, "claimed"), 0, put(provider="zoe")), {1}
    ),
    Mistake(9, "a claim that counts twice", twice(of(ANSWERED, SIGNAL)), {1, 2}),
    Mistake(9, "a night that does not end", without(of(ENDED, run=".night")), {4}),
    Mistake(10, "a page asked for twice", twice(of(ASKED, "render")), {0}),
    Mistake(
        10,
        "one process for all",
        each(of(ANSWERED, "render"), lambda _, sheet: put(process=1)(sheet)),
        {1},
    ),
    Mistake(10, "a page that is no output", without(of(OUTPUT, "printed"), 1), {2}),
    Mistake(10, "a document that stays here", without(of(ANSWERED, SIGNAL)), {3}),
    Mistake(10, "a run that does not end", without(of(ENDED)), {4}),
    Mistake(11, "a run that does not end", without(of(ENDED), 3), {0}),
    Mistake(
        11,
        "a shard that serves another's run",
        edited(of(ANSWERED, "develop"), 0, put(shard="9_of_9")),
        {1},
    ),
    Mistake(11, "one shard after the other", each(of(ANSWERED, "develop"), apart), {2}),
    Mistake(
        11,
        "several at once in a shard",
        each(of(ANSWERED, "develop"), lambda _, picture: apart(0, picture)),
        {3},
    ),
    Mistake(12, "bookings in the wrong order", exchanged(of(ASKED, "book"), 0, 1), {0}),
    Mistake(12, "undone in the order of the bookings", exchanged(of(ASKED, "undo"), 0, 2), {1}),
    Mistake(12, "a failure that nobody hears of", without(of(OUTPUT, "replay_failure")), {2}),
    Mistake(12, "a short trip that does not end", without(of(ENDED, run=".short")), {3}),
    Mistake(13, "an old run that does not end", without(of(ENDED, run=".old")), {0}),
    Mistake(13, "a new run that does not fly", without(of(ASKED, "fly")), {1}),
    *(
        Mistake(14, f"verdict {n} changed places", exchanged(of(ANSWERED, "attempt"), 0, n), {0, n})
        for n in range(1, 5)
    ),
]
