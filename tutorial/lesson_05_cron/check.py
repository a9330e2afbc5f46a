"""The check of lesson 5: the facts that its log has to show."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from replay import Event, EventType
from tutorial.checking import Claim, Kill, asked, own
from tutorial.lesson_05_cron.schedule import NAMESPACE, SKIPPED, TICK, Schedule, Skipped, Tick

__all__ = ["KILLS", "NAMESPACE", "check", "enough"]

KILLS = [Kill("the work of tick 2 begins, which takes longer than a period", asked("chore", "1"))]
ENOUGH = 4  # ticks


def moment(schedule: Schedule, number: int) -> datetime:
    """The time at which a tick is due."""
    return datetime.fromtimestamp(schedule.anchor + number * schedule.period, UTC)


def is_sleep(event: Event) -> bool:
    """Whether an event begins a sleep."""
    return event.type is EventType.ACTIVITY_REQUEST and event.key.target == "replay_sleep"


def clocked(events: Sequence[Event]) -> Iterator[tuple[Event, datetime, datetime]]:
    """Each event, with ctx.now() at that event, and the time at which the last sleep ends."""
    now = until = datetime.fromtimestamp(0, UTC)
    for event in events:
        if event.type is EventType.RUN_CREATED:
            now = event.timestamp
        elif event.type is EventType.ACTIVITY_RESPONSE:
            now = max(now, event.timestamp)
        elif is_sleep(event):
            until = now + event.message.duration.ToTimedelta()
        yield event, now, until


def drifts(schedule: Schedule, events: Sequence[Event]) -> list[int]:
    """The events that begin a sleep whose end is not the time of a tick."""
    anchor, period = moment(schedule, 0), timedelta(seconds=schedule.period)
    sleeps = [(event, now, until) for event, now, until in clocked(events) if is_sleep(event)]
    return [e.id for e, now, until in sleeps if until > now and (until - anchor) % period]


def told(event: Event) -> Tick | Skipped | None:
    """What an output says."""
    if event.type is EventType.RUN_OUTPUT and event.key.target == TICK.name:
        return Tick(**event.message)
    if event.type is EventType.RUN_OUTPUT and event.key.target == SKIPPED.name:
        return Skipped(**event.message)
    return None


def early(events: Sequence[Event]) -> list[int]:
    """The ticks that are run before they are due."""
    return [
        tick.number
        for event, now, until in clocked(events)
        if isinstance(tick := told(event), Tick)
        and datetime.fromtimestamp(tick.due, UTC) > max(now, until)
    ]


def misjudged(schedule: Schedule, events: Sequence[Event]) -> list[int]:
    """The ticks that are run but should be skipped, and those skipped that should be run."""
    wrong: list[int] = []
    for event, now, _ in clocked(events):
        message = told(event)
        if isinstance(message, Tick) and moment(schedule, message.number + 1) <= now:
            wrong.append(message.number)
        if isinstance(message, Skipped) and moment(schedule, message.last + 1) > now:
            wrong.append(message.last)
    return wrong


def enough(events: Sequence[Event]) -> bool:
    """Whether the clock has ticked often enough, and in two iterations."""
    ticks = [event for event in own(events) if isinstance(told(event), Tick)]
    return len(ticks) >= ENOUGH and ticks[-1].key.iteration > 0


def check(events: Sequence[Event]) -> list[Claim]:
    """The ticks follow the schedule of the first input, and each is run or named as skipped."""
    events = own(events)
    schedule = Schedule(**events[0].message) if events else Schedule(0, 1, 1)
    outputs = [each for event in events if (each := told(event)) is not None]
    ticks = [each for each in outputs if isinstance(each, Tick)]
    skipped = [each for each in outputs if isinstance(each, Skipped)]
    going = enough(events)
    named = [
        number
        for each in outputs
        for number in (
            [each.number] if isinstance(each, Tick) else range(each.first, each.last + 1)
        )
    ]
    off = [
        each.number for each in ticks if each.due != schedule.anchor + each.number * schedule.period
    ]
    slept, hasty, wrong = drifts(schedule, events), early(events), misjudged(schedule, events)
    return [
        Claim(
            "the clock ticks, also after a restart",
            going,
            "the run has ended: put the sleep in the place of `return`"
            if events and events[-1].type is EventType.RUN_COMPLETED
            else f"the log has {len(ticks)} ticks: sleep until the next is due, and skip no later"
            " ones",
        ),
        Claim(
            "tick n is due at anchor + n * period, in each iteration",
            going and not off,
            f"the times of ticks {off[:3]} differ: let due() count the periods from the anchor",
        ),
        Claim(
            "each sleep ends when a tick is due, however long the work before it took",
            going and not slept and not hasty,
            f"the sleeps of events {slept[:3]} end between: sleep from ctx.now() until due(...)"
            if slept
            else f"ticks {hasty[:3]} come too early: missed() skips only ticks before the latest",
        ),
        Claim(
            "each tick is there once: it is run, or named as skipped",
            going and named == list(range(1, len(named) + 1)),
            f"the outputs name {named}: let missed() begin with `number`",
        ),
        Claim(
            "a tick is skipped if the next one is already due, and not otherwise",
            going and bool(skipped) and not wrong,
            f"ticks are skipped {len(skipped)} times; ticks {wrong[:3]} are wrong: see missed()",
        ),
    ]
