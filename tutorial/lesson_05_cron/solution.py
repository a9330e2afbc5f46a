"""Lesson 5: a clock that does not drift, and names the ticks that it has missed."""

import time
from datetime import UTC, datetime

import replay
from tutorial.lesson_05_cron import cron_pb2 as pb
from tutorial.lesson_05_cron.replay_gen import (
    ClockFlow,
    handle_skipped,
    handle_tick,
    run_clock,
    start_replay_loops,
    stream_clock,
)
from tutorial.show import line

TICKS = 3  # in each iteration


def due(schedule: pb.Schedule, number: int) -> int:
    """The time at which a tick is due, in seconds since 1970."""
    # TODO(you): `number` periods after the anchor.
    # instead: return schedule.anchor
    return schedule.anchor + number * schedule.period
    # done


def missed(schedule: pb.Schedule, number: int, now: datetime) -> range:
    """The policy: which ticks, from `number` on, are skipped."""
    # TODO(you): all ticks before the latest one that is due by now.
    # instead: return range(0)
    latest = int(now.timestamp() - schedule.anchor) // schedule.period
    return range(number, latest)
    # done


def clock(flow: ClockFlow, schedule: pb.Schedule) -> None:
    """A workflow: some ticks, then the next iteration with the same schedule."""
    number = schedule.next
    for _ in range(TICKS):
        # TODO(you): sleep from flow.now() until tick `number` is due, however long that is.
        # instead: return
        flow.sleep(datetime.fromtimestamp(due(schedule, number), UTC) - flow.now())
        # done
        if skipped := missed(schedule, number, flow.now()):
            flow.emit_skipped(pb.Skipped(first=skipped[0], last=skipped[-1]))
            number = skipped[-1] + 1
        tick = pb.Tick(number=number, due=due(schedule, number))
        flow.emit_tick(tick)
        flow.chore(tick)
        number += 1
    flow.restart(pb.Schedule(anchor=schedule.anchor, period=schedule.period, next=number))


def show(event: replay.Event) -> None:
    """Print an output."""

    def tick(run: str, tick: pb.Tick) -> None:
        was_due = datetime.fromtimestamp(tick.due, UTC).time()
        was_run = event.timestamp.time().isoformat("milliseconds")
        print(f"tick {tick.number}, due {was_due}, run {was_run}", flush=True)

    def skipped(run: str, ticks: pb.Skipped) -> None:
        names = ", ".join(str(number) for number in range(ticks.first, ticks.last + 1))
        print(f"skipped {names}", flush=True)

    handle_tick(event, tick)
    handle_skipped(event, skipped)


def print_newest(client: replay.Client, run: str) -> None:
    """Print the events of the newest two iterations."""
    events = list(stream_clock(client, run, to_head=True))
    for event in events:
        if event.key.iteration >= events[-1].key.iteration - 1:
            print(line(event))


def main(url: str, run: str) -> None:
    """Starts the clock unless it has been started, and shows its ticks until Ctrl-C."""
    with replay.connect(url) as client:
        start_replay_loops(client, clock=clock)
        # It has a cursor, so it goes on where it was when the program ended: see lesson 3.
        replay.consume(client, f"show {run}", show, namespace="cron", workflow="clock", run=run)
        # A program may ask for the time. A workflow may not: it uses the time in its stored input.
        run_clock(client, run, pb.Schedule(anchor=int(time.time()) + 1, period=1, next=1))
        try:
            client.await_completion("cron", "clock", run)
        finally:
            print_newest(client, run)
