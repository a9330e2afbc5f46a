# Made by "typedreplay namespace.py" from that file: change it, not this one.
# fmt: off
# isort: skip_file
# flake8: noqa
# ruff: noqa
"""The namespace cron."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator

import replay
from replay import typed

import tutorial.lesson_05_cron.cron_pb2 as _cron_pb2

_NAMESPACE = 'cron'


class ClockFlow(typed.Flow, typing.Protocol):
    """The methods of the workflow clock. Has work done at each tick of a schedule, for ever."""

    def restart(self, message: _cron_pb2.Schedule) -> typing.NoReturn:
        """End this iteration and begin the next with `message`, in one transaction."""

    def chore(self, message: _cron_pb2.Tick) -> None:
        """Execute the activity chore. Does the work of a tick."""

    def call_chore(self, message: _cron_pb2.Tick) -> typed.Call[None]:
        """A call of chore for `gather`, which executes it."""

    def emit_tick(self, message: _cron_pb2.Tick) -> None:
        """Add the output tick. A tick is run."""

    def emit_skipped(self, message: _cron_pb2.Skipped) -> None:
        """Add the output skipped. Ticks are skipped."""


class _ClockFlow(typed.RunFlow):
    def restart(self, message: _cron_pb2.Schedule) -> typing.NoReturn:
        self._ctx.restart(message)

    def chore(self, message: _cron_pb2.Tick) -> None:
        return self._exec(self.call_chore(message))

    def call_chore(self, message: _cron_pb2.Tick) -> typed.Call[None]:
        return typed.Call("chore", message)

    def emit_tick(self, message: _cron_pb2.Tick) -> None:
        self._ctx.emit_output("tick", message)

    def emit_skipped(self, message: _cron_pb2.Skipped) -> None:
        self._ctx.emit_output("skipped", message)


def run_clock(client: replay.Client, run: str, message: _cron_pb2.Schedule) -> bool:
    """Start a run of clock. False means that its id is used already."""
    return client.run_workflow(_NAMESPACE, "clock", run, message)


def stream_clock(
    client: replay.Client, run: str = "", **options: typing.Unpack[typed.StreamOptions]
) -> Iterator[replay.Event]:
    """The events of clock, or of one run. The options are those of `replay.Client.stream`."""
    return client.stream(_NAMESPACE, "clock", run, **options)


def handle_clock_run(event: replay.Event, fn: Callable[[str, _cron_pb2.Schedule], object]) -> None:
    """Call `fn` with run and input if the event begins an iteration of clock."""
    typed.handle(event, replay.EventType.RUN_CREATED, (_NAMESPACE, "clock"), "", fn)


def register_clock(
    client: replay.Client,
    fn: Callable[[ClockFlow, _cron_pb2.Schedule], None],
    **options: typing.Unpack[typed.WorkflowOptions],
) -> replay.Consumer:
    """Run clock by `fn`. The options are those of `replay.register_workflow`."""
    typed.check_workflow(fn, "clock", _cron_pb2.Schedule)

    def workflow(ctx: replay.RunContext, message: _cron_pb2.Schedule) -> None:
        fn(_ClockFlow(ctx), message)

    return replay.register_workflow(client, _NAMESPACE, workflow, name="clock", **options)


def handle_tick(event: replay.Event, fn: Callable[[str, _cron_pb2.Tick], object]) -> None:
    """Call `fn` with run and message if the event is tick. A tick is run."""
    typed.handle(event, replay.EventType.RUN_OUTPUT, (_NAMESPACE, "clock"), "tick", fn)


def handle_skipped(event: replay.Event, fn: Callable[[str, _cron_pb2.Skipped], object]) -> None:
    """Call `fn` with run and message if the event is skipped. Ticks are skipped."""
    typed.handle(event, replay.EventType.RUN_OUTPUT, (_NAMESPACE, "clock"), "skipped", fn)


def register_chore(
    client: replay.Client, backends: None = None, **options: typing.Unpack[typed.ActivityOptions]
) -> replay.Consumer:
    """Execute chore. The options are those of `replay.register_activity`."""
    # Imported here, since only a process that executes it needs this module.
    from tutorial.lesson_05_cron.namespace import chore as function

    return replay.register_activity(
        client, _NAMESPACE, function, backends, name="chore", **options
    )


def start_replay_loops(
    client: replay.Client,
    backends: None = None,
    *,
    clock: Callable[[ClockFlow, _cron_pb2.Schedule], None],
    start: bool = True,
) -> list[replay.Consumer]:
    """Register all workflows and activities under their names in the definition."""
    return [
        register_clock(client, clock, start=start),
        register_chore(client, start=start),
    ]
