# Made by "typedreplay namespace.py" from that file: change it, not this one.
# isort: skip_file
"""The namespace cron."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import NoReturn, Protocol

import replay
from replay import typed

from tutorial.lesson_05_cron import cron_pb2

_NAMESPACE = "cron"


class ClockFlow(typed.Flow, Protocol):
    """Has work done at each tick of a schedule, for ever."""

    def restart(self, message: cron_pb2.Schedule) -> NoReturn:
        """End this iteration and begin the next with `message`, in one transaction."""
        ...

    def chore(self, message: cron_pb2.Tick) -> None:
        """Does the work of a tick."""
        ...

    def call_chore(self, message: cron_pb2.Tick) -> typed.Call[None]:
        """A call of chore for `gather`: nothing is asked for yet."""
        ...

    def emit_tick(self, message: cron_pb2.Tick) -> None:
        """A tick is run."""
        ...

    def emit_skipped(self, message: cron_pb2.Skipped) -> None:
        """Ticks are skipped."""
        ...


class _ClockFlow(typed.RunFlow):
    def restart(self, message: cron_pb2.Schedule) -> NoReturn:
        self._ctx.restart(message)

    def chore(self, message: cron_pb2.Tick) -> None:
        self._ctx.exec_activity("chore", message)

    def call_chore(self, message: cron_pb2.Tick) -> typed.Call[None]:
        return typed.Call("chore", message)

    def emit_tick(self, message: cron_pb2.Tick) -> None:
        self._ctx.emit_output("tick", message)

    def emit_skipped(self, message: cron_pb2.Skipped) -> None:
        self._ctx.emit_output("skipped", message)


def run_clock(client: replay.Client, run: str, message: cron_pb2.Schedule) -> bool:
    """Start a run of clock; False if its id is used already. Has work done at each tick of a
    schedule, for ever.
    """
    return client.run_workflow(_NAMESPACE, "clock", run, message)


def stream_clock(
    client: replay.Client,
    run: str = "",
    *,
    after: int = 0,
    from_head: bool = False,
    to_head: bool = False,
    lag: timedelta = timedelta(0),
) -> Iterator[replay.Event]:
    """The events of clock, or of one run, as `replay.Client.stream` gives them."""
    return client.stream(
        _NAMESPACE,
        "clock",
        run,
        after=after,
        from_head=from_head,
        to_head=to_head,
        lag=lag,
    )


def handle_clock_run(event: replay.Event, fn: Callable[[str, cron_pb2.Schedule], object]) -> None:
    """Call `fn` with run and input if the event begins an iteration of clock."""
    typed.handle(event, replay.EventType.RUN_CREATED, (_NAMESPACE, "clock"), "", fn)


def handle_tick(event: replay.Event, fn: Callable[[str, cron_pb2.Tick], object]) -> None:
    """Call `fn` with run and message if the event is tick. A tick is run."""
    typed.handle(event, replay.EventType.RUN_OUTPUT, (_NAMESPACE, "clock"), "tick", fn)


def handle_skipped(event: replay.Event, fn: Callable[[str, cron_pb2.Skipped], object]) -> None:
    """Call `fn` with run and message if the event is skipped. Ticks are skipped."""
    typed.handle(event, replay.EventType.RUN_OUTPUT, (_NAMESPACE, "clock"), "skipped", fn)


def register_clock(
    client: replay.Client,
    fn: Callable[[ClockFlow, cron_pb2.Schedule], None],
    *,
    shard: replay.Shard | None = None,
    await_timeout: timedelta = timedelta(hours=1),
    max_cached: int = 10_000,
    metrics: typed.Metrics | None = None,
    start: bool = True,
) -> replay.Consumer:
    """Run clock by this function; the rest is as in `replay.register_workflow`."""
    typed.check_workflow(fn, "clock", cron_pb2.Schedule)

    def workflow(ctx: replay.RunContext, message: cron_pb2.Schedule) -> None:
        fn(_ClockFlow(ctx), message)

    return replay.register_workflow(
        client,
        _NAMESPACE,
        workflow,
        name="clock",
        shard=shard,
        await_timeout=await_timeout,
        max_cached=max_cached,
        metrics=metrics,
        start=start,
    )


def register_chore(
    client: replay.Client,
    backends: None = None,
    *,
    shard: replay.Shard | None = None,
    workers: int = 1,
    metrics: typed.Metrics | None = None,
    start: bool = True,
) -> replay.Consumer:
    """Execute chore when asked; the rest is as in `replay.register_activity`."""
    # Imported when it is called, since that module may import this one.
    from tutorial.lesson_05_cron.namespace import chore as function

    return replay.register_activity(
        client,
        _NAMESPACE,
        function,
        backends,
        name="chore",
        shard=shard,
        workers=workers,
        metrics=metrics,
        start=start,
    )


def start_replay_loops(
    client: replay.Client,
    backends: None = None,
    *,
    clock: Callable[[ClockFlow, cron_pb2.Schedule], None],
    start: bool = True,
) -> list[replay.Consumer]:
    """Register all workflows and activities, each under its name in the definition."""
    return [
        register_clock(client, clock, start=start),
        register_chore(client, start=start),
    ]
