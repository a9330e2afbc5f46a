# Made by "typedreplay namespace.py" from that file: change it, not this one.
# fmt: off
# isort: skip_file
# flake8: noqa
# ruff: noqa
"""The namespace restart."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator
from datetime import timedelta

import replay
from replay import typed

import tutorial.lesson_04_restart.till_pb2 as _till_pb2

_NAMESPACE = 'restart'


class TillFlow(typed.Flow, typing.Protocol):
    """The methods of the workflow till. Takes payments, for ever."""

    def restart(self, message: _till_pb2.Till) -> typing.NoReturn:
        """End this iteration and begin the next with `message`, in one transaction."""

    def book(self, message: _till_pb2.Payment) -> None:
        """Execute the activity book. Enters it into the books."""

    def call_book(self, message: _till_pb2.Payment) -> typed.Call[None]:
        """A call of book for `gather`, which executes it."""

    def await_paid(self, timeout: timedelta) -> _till_pb2.Payment | None:
        """The next signal paid, or None if none comes within `timeout`."""


class _TillFlow(typed.RunFlow):
    def restart(self, message: _till_pb2.Till) -> typing.NoReturn:
        self._ctx.restart(message)

    def book(self, message: _till_pb2.Payment) -> None:
        return self._exec(self.call_book(message))

    def call_book(self, message: _till_pb2.Payment) -> typed.Call[None]:
        return typed.Call("book", message)

    def await_paid(self, timeout: timedelta) -> _till_pb2.Payment | None:
        return self._await(1, _till_pb2.Payment, timeout)


def run_till(client: replay.Client, run: str, message: _till_pb2.Till) -> bool:
    """Start a run of till. False means that its id is used already."""
    return client.run_workflow(_NAMESPACE, "till", run, message)


def stream_till(
    client: replay.Client, run: str = "", **options: typing.Unpack[typed.StreamOptions]
) -> Iterator[replay.Event]:
    """The events of till, or of one run. The options are those of `replay.Client.stream`."""
    return client.stream(_NAMESPACE, "till", run, **options)


def handle_till_run(event: replay.Event, fn: Callable[[str, _till_pb2.Till], object]) -> None:
    """Call `fn` with run and input if the event begins an iteration of till."""
    typed.handle(event, replay.EventType.RUN_CREATED, (_NAMESPACE, "till"), "", fn)


def register_till(
    client: replay.Client,
    fn: Callable[[TillFlow, _till_pb2.Till], None],
    **options: typing.Unpack[typed.WorkflowOptions],
) -> replay.Consumer:
    """Run till by `fn`. The options are those of `replay.register_workflow`."""
    typed.check_workflow(fn, "till", _till_pb2.Till)

    def workflow(ctx: replay.RunContext, message: _till_pb2.Till) -> None:
        fn(_TillFlow(ctx), message)

    return replay.register_workflow(client, _NAMESPACE, workflow, name="till", **options)


def signal_till_paid(
    client: replay.Client, run: str, message: _till_pb2.Payment, external_id: str
) -> bool:
    """Send paid to a run of till. False means that `external_id` was sent before."""
    return client.signal_run(_NAMESPACE, "till", run, 1, message, external_id)


def register_book(
    client: replay.Client, backends: None = None, **options: typing.Unpack[typed.ActivityOptions]
) -> replay.Consumer:
    """Execute book. The options are those of `replay.register_activity`."""
    # Imported here, since only a process that executes it needs this module.
    from tutorial.lesson_04_restart.namespace import book as function

    return replay.register_activity(
        client, _NAMESPACE, function, backends, name="book", **options
    )


def start_replay_loops(
    client: replay.Client,
    backends: None = None,
    *,
    till: Callable[[TillFlow, _till_pb2.Till], None],
    start: bool = True,
) -> list[replay.Consumer]:
    """Register all workflows and activities under their names in the definition."""
    return [
        register_till(client, till, start=start),
        register_book(client, start=start),
    ]
