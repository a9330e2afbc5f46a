"""Lesson 5: a clock that does not drift, and names the ticks that it has missed."""

import time
from datetime import UTC, datetime
from typing import Any

import replay
from tutorial.lesson_05_cron.schedule import (
    NAMESPACE,
    SKIPPED,
    TICK,
    Schedule,
    Skipped,
    Tick,
    chore,
)
from tutorial.show import line

TICKS = 3  # in each iteration


def due(schedule: Schedule, number: int) -> int:
    """The time at which a tick is due, in seconds since 1970."""
    # TODO(you): `number` periods after the anchor.
    # instead: return schedule.anchor
    return schedule.anchor + number * schedule.period
    # done


def missed(schedule: Schedule, number: int, now: datetime) -> range:
    """The policy: which ticks, from `number` on, are skipped."""
    # TODO(you): all ticks before the latest one that is due by now.
    # instead: return range(0)
    latest = int(now.timestamp() - schedule.anchor) // schedule.period
    return range(number, latest)
    # done


def clock(ctx: replay.RunContext, schedule: Schedule) -> None:
    """A workflow: some ticks, then the next iteration with the same schedule."""
    number = schedule.next
    for _ in range(TICKS):
        # TODO(you): sleep from ctx.now() until tick `number` is due, with ctx.sleep.
        # instead: return
        ctx.sleep(datetime.fromtimestamp(due(schedule, number), UTC) - ctx.now())
        # done
        if skipped := missed(schedule, number, ctx.now()):
            ctx.emit_output(SKIPPED, Skipped(skipped[0], skipped[-1]))
            number = skipped[-1] + 1
        tick = Tick(number, due(schedule, number))
        ctx.emit_output(TICK, tick)
        ctx.exec_activity(chore, tick)
        number += 1
    ctx.restart(Schedule(schedule.anchor, schedule.period, next=number))


def show(event: replay.Event) -> None:
    """Print an output."""

    def told(namespace: str, workflow: str, run: str, name: str, message: Any) -> None:
        if name == TICK.name:
            was_due = datetime.fromtimestamp(message["due"], UTC).time()
            was_run = event.timestamp.time().isoformat("milliseconds")
            print(f"tick {message['number']}, due {was_due}, run {was_run}", flush=True)
        else:
            numbers = range(message["first"], message["last"] + 1)
            print(f"skipped {', '.join(map(str, numbers))}", flush=True)

    replay.handle(event, run_output=told)


def print_newest(client: replay.Client, run: str) -> None:
    """Print the events of the newest two iterations."""
    events = list(client.stream(NAMESPACE, "clock", run, to_head=True))
    for event in events:
        if event.key.iteration >= events[-1].key.iteration - 1:
            print(line(event))


def main(url: str, run: str) -> None:
    """Starts the clock unless it has been started, and shows its ticks until Ctrl-C."""
    with replay.connect(url) as client:
        replay.register_workflow(client, NAMESPACE, clock)
        replay.register_activity(client, NAMESPACE, chore)
        # It has a cursor, so it goes on where it was when the program ended: see lesson 3.
        replay.consume(client, f"show {run}", show, namespace=NAMESPACE, workflow="clock", run=run)
        # A program may ask for the time. A workflow may not: it uses the time in its stored input.
        client.run_workflow(NAMESPACE, clock, run, Schedule(int(time.time()) + 1, 1, next=1))
        try:
            client.await_completion(NAMESPACE, clock, run)
        finally:
            print_newest(client, run)
