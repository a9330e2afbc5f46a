# Made by "typedreplay namespace.py" from that file: change it, not this one.
# fmt: off
# isort: skip_file
# flake8: noqa
# ruff: noqa
"""The namespace sparkline."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator

import replay
from replay import typed

import tutorial.lesson_08_sparkline.sparkline_pb2 as _sparkline_pb2

if typing.TYPE_CHECKING:
    import tutorial.exchange as _exchange

_NAMESPACE = 'sparkline'


class SamplerFlow(typed.Flow, typing.Protocol):
    """The methods of the workflow sampler. Keeps the latest prices, for ever."""

    def restart(self, message: _sparkline_pb2.Window) -> typing.NoReturn:
        """End this iteration and begin the next with `message`, in one transaction."""

    def sample(self, message: _sparkline_pb2.Market) -> _sparkline_pb2.Price:
        """Execute the activity sample. The price just now."""

    def call_sample(self, message: _sparkline_pb2.Market) -> typed.Call[_sparkline_pb2.Price]:
        """A call of sample for `gather`, which executes it."""

    def emit_window(self, message: _sparkline_pb2.Window) -> None:
        """Add the output window. There is a new price."""


class _SamplerFlow(typed.RunFlow):
    def restart(self, message: _sparkline_pb2.Window) -> typing.NoReturn:
        self._ctx.restart(message)

    def sample(self, message: _sparkline_pb2.Market) -> _sparkline_pb2.Price:
        return self._exec(self.call_sample(message))

    def call_sample(self, message: _sparkline_pb2.Market) -> typed.Call[_sparkline_pb2.Price]:
        return typed.Call("sample", message)

    def emit_window(self, message: _sparkline_pb2.Window) -> None:
        self._ctx.emit_output("window", message)


def run_sampler(client: replay.Client, run: str, message: _sparkline_pb2.Window) -> bool:
    """Start a run of sampler. False means that its id is used already."""
    return client.run_workflow(_NAMESPACE, "sampler", run, message)


def stream_sampler(
    client: replay.Client, run: str = "", **options: typing.Unpack[typed.StreamOptions]
) -> Iterator[replay.Event]:
    """The events of sampler, or of one run. The options are those of `replay.Client.stream`."""
    return client.stream(_NAMESPACE, "sampler", run, **options)


def handle_sampler_run(event: replay.Event, fn: Callable[[str, _sparkline_pb2.Window], object]) -> None:
    """Call `fn` with run and input if the event begins an iteration of sampler."""
    typed.handle(event, replay.EventType.RUN_CREATED, (_NAMESPACE, "sampler"), "", fn)


def register_sampler(
    client: replay.Client,
    fn: Callable[[SamplerFlow, _sparkline_pb2.Window], None],
    **options: typing.Unpack[typed.WorkflowOptions],
) -> replay.Consumer:
    """Run sampler by `fn`. The options are those of `replay.register_workflow`."""
    typed.check_workflow(fn, "sampler", _sparkline_pb2.Window)

    def workflow(ctx: replay.RunContext, message: _sparkline_pb2.Window) -> None:
        fn(_SamplerFlow(ctx), message)

    return replay.register_workflow(client, _NAMESPACE, workflow, name="sampler", **options)


def handle_window(event: replay.Event, fn: Callable[[str, _sparkline_pb2.Window], object]) -> None:
    """Call `fn` with run and message if the event is window. There is a new price."""
    typed.handle(event, replay.EventType.RUN_OUTPUT, (_NAMESPACE, "sampler"), "window", fn)


def register_sample(
    client: replay.Client, backends: _exchange.Market, **options: typing.Unpack[typed.ActivityOptions]
) -> replay.Consumer:
    """Execute sample. The options are those of `replay.register_activity`."""
    # Imported here, since only a process that executes it needs this module.
    from tutorial.lesson_08_sparkline.namespace import sample as function

    return replay.register_activity(
        client, _NAMESPACE, function, backends, name="sample", **options
    )


def start_replay_loops(
    client: replay.Client,
    backends: _exchange.Market,
    *,
    sampler: Callable[[SamplerFlow, _sparkline_pb2.Window], None],
    start: bool = True,
) -> list[replay.Consumer]:
    """Register all workflows and activities under their names in the definition."""
    return [
        register_sampler(client, sampler, start=start),
        register_sample(client, backends, start=start),
    ]
