# Made by "typedreplay namespace.py" from that file: change it, not this one.
# fmt: off
# isort: skip_file
# flake8: noqa
# ruff: noqa
"""The namespace signal."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator
from datetime import timedelta

import replay
from replay import typed

import tutorial.lesson_02_signal.coffee_pb2 as _coffee_pb2

_NAMESPACE = 'signal'


class ServeFlow(typed.Flow, typing.Protocol):
    """The methods of the workflow serve. Serves one guest."""

    def restart(self, message: _coffee_pb2.Guest) -> typing.NoReturn:
        """End this iteration and begin the next with `message`, in one transaction."""

    def make(self, message: _coffee_pb2.Coffee) -> None:
        """Execute the activity make. Makes a coffee."""

    def call_make(self, message: _coffee_pb2.Coffee) -> typed.Call[None]:
        """A call of make for `gather`, which executes it."""

    def remind(self, message: _coffee_pb2.Guest) -> None:
        """Execute the activity remind. Asks the guest what is wanted."""

    def call_remind(self, message: _coffee_pb2.Guest) -> typed.Call[None]:
        """A call of remind for `gather`, which executes it."""

    def await_order(self, timeout: timedelta) -> _coffee_pb2.Order | None:
        """The next signal order, or None if none comes within `timeout`. Orders a coffee."""

    def await_pay(self, timeout: timedelta) -> _coffee_pb2.Payment | None:
        """The next signal pay, or None if none comes within `timeout`. Pays for all."""


class _ServeFlow(typed.RunFlow):
    def restart(self, message: _coffee_pb2.Guest) -> typing.NoReturn:
        self._ctx.restart(message)

    def make(self, message: _coffee_pb2.Coffee) -> None:
        return self._exec(self.call_make(message))

    def call_make(self, message: _coffee_pb2.Coffee) -> typed.Call[None]:
        return typed.Call("make", message)

    def remind(self, message: _coffee_pb2.Guest) -> None:
        return self._exec(self.call_remind(message))

    def call_remind(self, message: _coffee_pb2.Guest) -> typed.Call[None]:
        return typed.Call("remind", message)

    def await_order(self, timeout: timedelta) -> _coffee_pb2.Order | None:
        return self._await(1, _coffee_pb2.Order, timeout)

    def await_pay(self, timeout: timedelta) -> _coffee_pb2.Payment | None:
        return self._await(2, _coffee_pb2.Payment, timeout)


def run_serve(client: replay.Client, run: str, message: _coffee_pb2.Guest) -> bool:
    """Start a run of serve. False means that its id is used already."""
    return client.run_workflow(_NAMESPACE, "serve", run, message)


def stream_serve(
    client: replay.Client, run: str = "", **options: typing.Unpack[typed.StreamOptions]
) -> Iterator[replay.Event]:
    """The events of serve, or of one run. The options are those of `replay.Client.stream`."""
    return client.stream(_NAMESPACE, "serve", run, **options)


def handle_serve_run(event: replay.Event, fn: Callable[[str, _coffee_pb2.Guest], object]) -> None:
    """Call `fn` with run and input if the event begins an iteration of serve."""
    typed.handle(event, replay.EventType.RUN_CREATED, (_NAMESPACE, "serve"), "", fn)


def register_serve(
    client: replay.Client,
    fn: Callable[[ServeFlow, _coffee_pb2.Guest], None],
    **options: typing.Unpack[typed.WorkflowOptions],
) -> replay.Consumer:
    """Run serve by `fn`. The options are those of `replay.register_workflow`."""
    typed.check_workflow(fn, "serve", _coffee_pb2.Guest)

    def workflow(ctx: replay.RunContext, message: _coffee_pb2.Guest) -> None:
        fn(_ServeFlow(ctx), message)

    return replay.register_workflow(client, _NAMESPACE, workflow, name="serve", **options)


def signal_serve_order(
    client: replay.Client, run: str, message: _coffee_pb2.Order, external_id: str
) -> bool:
    """Send order to a run of serve. False means that `external_id` was sent before. Orders a
    coffee."""
    return client.signal_run(_NAMESPACE, "serve", run, 1, message, external_id)


def signal_serve_pay(
    client: replay.Client, run: str, message: _coffee_pb2.Payment, external_id: str
) -> bool:
    """Send pay to a run of serve. False means that `external_id` was sent before. Pays for all."""
    return client.signal_run(_NAMESPACE, "serve", run, 2, message, external_id)


def register_make(
    client: replay.Client, backends: None = None, **options: typing.Unpack[typed.ActivityOptions]
) -> replay.Consumer:
    """Execute make. The options are those of `replay.register_activity`."""
    # Imported here, since only a process that executes it needs this module.
    from tutorial.lesson_02_signal.namespace import make as function

    return replay.register_activity(
        client, _NAMESPACE, function, backends, name="make", **options
    )


def register_remind(
    client: replay.Client, backends: None = None, **options: typing.Unpack[typed.ActivityOptions]
) -> replay.Consumer:
    """Execute remind. The options are those of `replay.register_activity`."""
    # Imported here, since only a process that executes it needs this module.
    from tutorial.lesson_02_signal.namespace import remind as function

    return replay.register_activity(
        client, _NAMESPACE, function, backends, name="remind", **options
    )


def start_replay_loops(
    client: replay.Client,
    backends: None = None,
    *,
    serve: Callable[[ServeFlow, _coffee_pb2.Guest], None],
    start: bool = True,
) -> list[replay.Consumer]:
    """Register all workflows and activities under their names in the definition."""
    return [
        register_serve(client, serve, start=start),
        register_make(client, start=start),
        register_remind(client, start=start),
    ]
