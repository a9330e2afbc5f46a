# Made by "typedreplay namespace.py" from that file: change it, not this one.
# fmt: off
# isort: skip_file
# flake8: noqa
# ruff: noqa
"""The namespace output."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator

import replay
from replay import typed

import tutorial.lesson_03_output.bakery_pb2 as _bakery_pb2

_NAMESPACE = 'output'


class BakeryFlow(typed.Flow, typing.Protocol):
    """The methods of the workflow bakery. Bakes some loaves."""

    def restart(self, message: _bakery_pb2.Order) -> typing.NoReturn:
        """End this iteration and begin the next with `message`, in one transaction."""

    def bake(self, message: _bakery_pb2.Dough) -> _bakery_pb2.Loaf:
        """Execute the activity bake. Bakes a loaf."""

    def call_bake(self, message: _bakery_pb2.Dough) -> typed.Call[_bakery_pb2.Loaf]:
        """A call of bake for `gather`, which executes it."""

    def carry(self, message: _bakery_pb2.Loaf) -> None:
        """Execute the activity carry. Carries a loaf to its eater."""

    def call_carry(self, message: _bakery_pb2.Loaf) -> typed.Call[None]:
        """A call of carry for `gather`, which executes it."""

    def emit_baked(self, message: _bakery_pb2.Loaf) -> None:
        """Add the output baked. A loaf is baked."""


class _BakeryFlow(typed.RunFlow):
    def restart(self, message: _bakery_pb2.Order) -> typing.NoReturn:
        self._ctx.restart(message)

    def bake(self, message: _bakery_pb2.Dough) -> _bakery_pb2.Loaf:
        return self._exec(self.call_bake(message))

    def call_bake(self, message: _bakery_pb2.Dough) -> typed.Call[_bakery_pb2.Loaf]:
        return typed.Call("bake", message)

    def carry(self, message: _bakery_pb2.Loaf) -> None:
        return self._exec(self.call_carry(message))

    def call_carry(self, message: _bakery_pb2.Loaf) -> typed.Call[None]:
        return typed.Call("carry", message)

    def emit_baked(self, message: _bakery_pb2.Loaf) -> None:
        self._ctx.emit_output("baked", message)


def run_bakery(client: replay.Client, run: str, message: _bakery_pb2.Order) -> bool:
    """Start a run of bakery. False means that its id is used already."""
    return client.run_workflow(_NAMESPACE, "bakery", run, message)


def stream_bakery(
    client: replay.Client, run: str = "", **options: typing.Unpack[typed.StreamOptions]
) -> Iterator[replay.Event]:
    """The events of bakery, or of one run. The options are those of `replay.Client.stream`."""
    return client.stream(_NAMESPACE, "bakery", run, **options)


def handle_bakery_run(event: replay.Event, fn: Callable[[str, _bakery_pb2.Order], object]) -> None:
    """Call `fn` with run and input if the event begins an iteration of bakery."""
    typed.handle(event, replay.EventType.RUN_CREATED, (_NAMESPACE, "bakery"), "", fn)


def register_bakery(
    client: replay.Client,
    fn: Callable[[BakeryFlow, _bakery_pb2.Order], None],
    **options: typing.Unpack[typed.WorkflowOptions],
) -> replay.Consumer:
    """Run bakery by `fn`. The options are those of `replay.register_workflow`."""
    typed.check_workflow(fn, "bakery", _bakery_pb2.Order)

    def workflow(ctx: replay.RunContext, message: _bakery_pb2.Order) -> None:
        fn(_BakeryFlow(ctx), message)

    return replay.register_workflow(client, _NAMESPACE, workflow, name="bakery", **options)


def handle_baked(event: replay.Event, fn: Callable[[str, _bakery_pb2.Loaf], object]) -> None:
    """Call `fn` with run and message if the event is baked. A loaf is baked."""
    typed.handle(event, replay.EventType.RUN_OUTPUT, (_NAMESPACE, "bakery"), "baked", fn)


class ParcelFlow(typed.Flow, typing.Protocol):
    """The methods of the workflow parcel. Delivers one loaf."""

    def restart(self, message: _bakery_pb2.Loaf) -> typing.NoReturn:
        """End this iteration and begin the next with `message`, in one transaction."""

    def bake(self, message: _bakery_pb2.Dough) -> _bakery_pb2.Loaf:
        """Execute the activity bake. Bakes a loaf."""

    def call_bake(self, message: _bakery_pb2.Dough) -> typed.Call[_bakery_pb2.Loaf]:
        """A call of bake for `gather`, which executes it."""

    def carry(self, message: _bakery_pb2.Loaf) -> None:
        """Execute the activity carry. Carries a loaf to its eater."""

    def call_carry(self, message: _bakery_pb2.Loaf) -> typed.Call[None]:
        """A call of carry for `gather`, which executes it."""


class _ParcelFlow(typed.RunFlow):
    def restart(self, message: _bakery_pb2.Loaf) -> typing.NoReturn:
        self._ctx.restart(message)

    def bake(self, message: _bakery_pb2.Dough) -> _bakery_pb2.Loaf:
        return self._exec(self.call_bake(message))

    def call_bake(self, message: _bakery_pb2.Dough) -> typed.Call[_bakery_pb2.Loaf]:
        return typed.Call("bake", message)

    def carry(self, message: _bakery_pb2.Loaf) -> None:
        return self._exec(self.call_carry(message))

    def call_carry(self, message: _bakery_pb2.Loaf) -> typed.Call[None]:
        return typed.Call("carry", message)


def run_parcel(client: replay.Client, run: str, message: _bakery_pb2.Loaf) -> bool:
    """Start a run of parcel. False means that its id is used already."""
    return client.run_workflow(_NAMESPACE, "parcel", run, message)


def stream_parcel(
    client: replay.Client, run: str = "", **options: typing.Unpack[typed.StreamOptions]
) -> Iterator[replay.Event]:
    """The events of parcel, or of one run. The options are those of `replay.Client.stream`."""
    return client.stream(_NAMESPACE, "parcel", run, **options)


def handle_parcel_run(event: replay.Event, fn: Callable[[str, _bakery_pb2.Loaf], object]) -> None:
    """Call `fn` with run and input if the event begins an iteration of parcel."""
    typed.handle(event, replay.EventType.RUN_CREATED, (_NAMESPACE, "parcel"), "", fn)


def register_parcel(
    client: replay.Client,
    fn: Callable[[ParcelFlow, _bakery_pb2.Loaf], None],
    **options: typing.Unpack[typed.WorkflowOptions],
) -> replay.Consumer:
    """Run parcel by `fn`. The options are those of `replay.register_workflow`."""
    typed.check_workflow(fn, "parcel", _bakery_pb2.Loaf)

    def workflow(ctx: replay.RunContext, message: _bakery_pb2.Loaf) -> None:
        fn(_ParcelFlow(ctx), message)

    return replay.register_workflow(client, _NAMESPACE, workflow, name="parcel", **options)


def register_bake(
    client: replay.Client, backends: None = None, **options: typing.Unpack[typed.ActivityOptions]
) -> replay.Consumer:
    """Execute bake. The options are those of `replay.register_activity`."""
    # Imported here, since only a process that executes it needs this module.
    from tutorial.lesson_03_output.namespace import bake as function

    return replay.register_activity(
        client, _NAMESPACE, function, backends, name="bake", **options
    )


def register_carry(
    client: replay.Client, backends: None = None, **options: typing.Unpack[typed.ActivityOptions]
) -> replay.Consumer:
    """Execute carry. The options are those of `replay.register_activity`."""
    # Imported here, since only a process that executes it needs this module.
    from tutorial.lesson_03_output.namespace import carry as function

    return replay.register_activity(
        client, _NAMESPACE, function, backends, name="carry", **options
    )


def start_replay_loops(
    client: replay.Client,
    backends: None = None,
    *,
    bakery: Callable[[BakeryFlow, _bakery_pb2.Order], None],
    parcel: Callable[[ParcelFlow, _bakery_pb2.Loaf], None],
    start: bool = True,
) -> list[replay.Consumer]:
    """Register all workflows and activities under their names in the definition."""
    return [
        register_bakery(client, bakery, start=start),
        register_parcel(client, parcel, start=start),
        register_bake(client, start=start),
        register_carry(client, start=start),
    ]
