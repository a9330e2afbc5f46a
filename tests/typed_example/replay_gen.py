# Made by "typedreplay namespace.py" from that file: change it, not this one.
# fmt: off
# isort: skip_file
# flake8: noqa
# ruff: noqa
"""The namespace restaurant. A restaurant, from the first guest to the last plate."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator
from datetime import timedelta

import replay
from replay import typed

import tests.example_pb2 as _example_pb2

if typing.TYPE_CHECKING:
    import tests.typed_example.activities as _activities

_NAMESPACE = 'restaurant'


class DinnerFlow(typed.Flow, typing.Protocol):
    """The methods of the workflow dinner. Serves one guest."""

    def restart(self, message: _example_pb2.String) -> typing.NoReturn:
        """End this iteration and begin the next with `message`, in one transaction."""

    def price(self, message: _example_pb2.String) -> _example_pb2.Int:
        """Execute the activity price. The price of a dish."""

    def call_price(self, message: _example_pb2.String) -> typed.Call[_example_pb2.Int]:
        """A call of price for `gather`, which executes it."""

    def find_table(self, message: _example_pb2.String | None) -> _example_pb2.Int | None:
        """Execute the activity find_table."""

    def call_find_table(self, message: _example_pb2.String | None) -> typed.Call[_example_pb2.Int | None]:
        """A call of find_table for `gather`, which executes it."""

    def wash_up(self, message: _example_pb2.Int) -> None:
        """Execute the activity wash_up. Washes the plates."""

    def call_wash_up(self, message: _example_pb2.Int) -> typed.Call[None]:
        """A call of wash_up for `gather`, which executes it."""

    def await_order(self, timeout: timedelta) -> _example_pb2.String | None:
        """The next signal order, or None if none comes within `timeout`. Orders a dish."""

    def await_pay(self, timeout: timedelta) -> _example_pb2.Empty | None:
        """The next signal pay, or None if none comes within `timeout`."""

    def emit_served(self, message: _example_pb2.String) -> None:
        """Add the output served. A dish is on the table."""

    def emit_bill(self, message: _example_pb2.Int) -> None:
        """Add the output bill."""


class _DinnerFlow(typed.RunFlow):
    def restart(self, message: _example_pb2.String) -> typing.NoReturn:
        self._ctx.restart(message)

    def price(self, message: _example_pb2.String) -> _example_pb2.Int:
        return self._exec(self.call_price(message))

    def call_price(self, message: _example_pb2.String) -> typed.Call[_example_pb2.Int]:
        return typed.Call("price", message)

    def find_table(self, message: _example_pb2.String | None) -> _example_pb2.Int | None:
        return self._exec(self.call_find_table(message))

    def call_find_table(self, message: _example_pb2.String | None) -> typed.Call[_example_pb2.Int | None]:
        return typed.Call("find_table", message)

    def wash_up(self, message: _example_pb2.Int) -> None:
        return self._exec(self.call_wash_up(message))

    def call_wash_up(self, message: _example_pb2.Int) -> typed.Call[None]:
        return typed.Call("wash_up", message)

    def await_order(self, timeout: timedelta) -> _example_pb2.String | None:
        return self._await(1, _example_pb2.String, timeout)

    def await_pay(self, timeout: timedelta) -> _example_pb2.Empty | None:
        return self._await(-2, _example_pb2.Empty, timeout)

    def emit_served(self, message: _example_pb2.String) -> None:
        self._ctx.emit_output("served", message)

    def emit_bill(self, message: _example_pb2.Int) -> None:
        self._ctx.emit_output("bill", message)


def run_dinner(client: replay.Client, run: str, message: _example_pb2.String) -> bool:
    """Start a run of dinner. False means that its id is used already."""
    return client.run_workflow(_NAMESPACE, "dinner", run, message)


def stream_dinner(
    client: replay.Client, run: str = "", **options: typing.Unpack[typed.StreamOptions]
) -> Iterator[replay.Event]:
    """The events of dinner, or of one run. The options are those of `replay.Client.stream`."""
    return client.stream(_NAMESPACE, "dinner", run, **options)


def handle_dinner_run(event: replay.Event, fn: Callable[[str, _example_pb2.String], object]) -> None:
    """Call `fn` with run and input if the event begins an iteration of dinner."""
    typed.handle(event, replay.EventType.RUN_CREATED, (_NAMESPACE, "dinner"), "", fn)


def register_dinner(
    client: replay.Client,
    fn: Callable[[DinnerFlow, _example_pb2.String], None],
    **options: typing.Unpack[typed.WorkflowOptions],
) -> replay.Consumer:
    """Run dinner by `fn`. The options are those of `replay.register_workflow`."""
    typed.check_workflow(fn, "dinner", _example_pb2.String)

    def workflow(ctx: replay.RunContext, message: _example_pb2.String) -> None:
        fn(_DinnerFlow(ctx), message)

    return replay.register_workflow(client, _NAMESPACE, workflow, name="dinner", **options)


def signal_dinner_order(
    client: replay.Client, run: str, message: _example_pb2.String, external_id: str
) -> bool:
    """Send order to a run of dinner. False means that `external_id` was sent before. Orders a
    dish."""
    return client.signal_run(_NAMESPACE, "dinner", run, 1, message, external_id)


def signal_dinner_pay(
    client: replay.Client, run: str, message: _example_pb2.Empty, external_id: str
) -> bool:
    """Send pay to a run of dinner. False means that `external_id` was sent before."""
    return client.signal_run(_NAMESPACE, "dinner", run, -2, message, external_id)


def handle_served(event: replay.Event, fn: Callable[[str, _example_pb2.String], object]) -> None:
    """Call `fn` with run and message if the event is served. A dish is on the table."""
    typed.handle(event, replay.EventType.RUN_OUTPUT, (_NAMESPACE, "dinner"), "served", fn)


def handle_bill(event: replay.Event, fn: Callable[[str, _example_pb2.Int], object]) -> None:
    """Call `fn` with run and message if the event is bill."""
    typed.handle(event, replay.EventType.RUN_OUTPUT, (_NAMESPACE, "dinner"), "bill", fn)


class LateRefundFlow(typed.Flow, typing.Protocol):
    """The methods of the workflow late_refund."""

    def restart(self, message: _example_pb2.Int) -> typing.NoReturn:
        """End this iteration and begin the next with `message`, in one transaction."""

    def price(self, message: _example_pb2.String) -> _example_pb2.Int:
        """Execute the activity price. The price of a dish."""

    def call_price(self, message: _example_pb2.String) -> typed.Call[_example_pb2.Int]:
        """A call of price for `gather`, which executes it."""

    def find_table(self, message: _example_pb2.String | None) -> _example_pb2.Int | None:
        """Execute the activity find_table."""

    def call_find_table(self, message: _example_pb2.String | None) -> typed.Call[_example_pb2.Int | None]:
        """A call of find_table for `gather`, which executes it."""

    def wash_up(self, message: _example_pb2.Int) -> None:
        """Execute the activity wash_up. Washes the plates."""

    def call_wash_up(self, message: _example_pb2.Int) -> typed.Call[None]:
        """A call of wash_up for `gather`, which executes it."""


class _LateRefundFlow(typed.RunFlow):
    def restart(self, message: _example_pb2.Int) -> typing.NoReturn:
        self._ctx.restart(message)

    def price(self, message: _example_pb2.String) -> _example_pb2.Int:
        return self._exec(self.call_price(message))

    def call_price(self, message: _example_pb2.String) -> typed.Call[_example_pb2.Int]:
        return typed.Call("price", message)

    def find_table(self, message: _example_pb2.String | None) -> _example_pb2.Int | None:
        return self._exec(self.call_find_table(message))

    def call_find_table(self, message: _example_pb2.String | None) -> typed.Call[_example_pb2.Int | None]:
        return typed.Call("find_table", message)

    def wash_up(self, message: _example_pb2.Int) -> None:
        return self._exec(self.call_wash_up(message))

    def call_wash_up(self, message: _example_pb2.Int) -> typed.Call[None]:
        return typed.Call("wash_up", message)


def run_late_refund(client: replay.Client, run: str, message: _example_pb2.Int) -> bool:
    """Start a run of late_refund. False means that its id is used already."""
    return client.run_workflow(_NAMESPACE, "late_refund", run, message)


def stream_late_refund(
    client: replay.Client, run: str = "", **options: typing.Unpack[typed.StreamOptions]
) -> Iterator[replay.Event]:
    """The events of late_refund, or of one run. The options are those of `replay.Client.stream`."""
    return client.stream(_NAMESPACE, "late_refund", run, **options)


def handle_late_refund_run(event: replay.Event, fn: Callable[[str, _example_pb2.Int], object]) -> None:
    """Call `fn` with run and input if the event begins an iteration of late_refund."""
    typed.handle(event, replay.EventType.RUN_CREATED, (_NAMESPACE, "late_refund"), "", fn)


def register_late_refund(
    client: replay.Client,
    fn: Callable[[LateRefundFlow, _example_pb2.Int], None],
    **options: typing.Unpack[typed.WorkflowOptions],
) -> replay.Consumer:
    """Run late_refund by `fn`. The options are those of `replay.register_workflow`."""
    typed.check_workflow(fn, "late_refund", _example_pb2.Int)

    def workflow(ctx: replay.RunContext, message: _example_pb2.Int) -> None:
        fn(_LateRefundFlow(ctx), message)

    return replay.register_workflow(client, _NAMESPACE, workflow, name="late_refund", **options)


def register_price(
    client: replay.Client, backends: _activities.Kitchen, **options: typing.Unpack[typed.ActivityOptions]
) -> replay.Consumer:
    """Execute price. The options are those of `replay.register_activity`."""
    # Imported here, since only a process that executes it needs this module.
    from tests.typed_example.activities import price as function

    return replay.register_activity(
        client, _NAMESPACE, function, backends, name="price", **options
    )


def register_find_table(
    client: replay.Client, backends: _activities.Kitchen, **options: typing.Unpack[typed.ActivityOptions]
) -> replay.Consumer:
    """Execute find_table. The options are those of `replay.register_activity`."""
    # Imported here, since only a process that executes it needs this module.
    from tests.typed_example.activities import find_table as function

    return replay.register_activity(
        client, _NAMESPACE, function, backends, name="find_table", **options
    )


def register_wash_up(
    client: replay.Client, backends: None = None, **options: typing.Unpack[typed.ActivityOptions]
) -> replay.Consumer:
    """Execute wash_up. The options are those of `replay.register_activity`."""
    # Imported here, since only a process that executes it needs this module.
    from tests.typed_example.activities import wash as function

    return replay.register_activity(
        client, _NAMESPACE, function, backends, name="wash_up", **options
    )


def start_replay_loops(
    client: replay.Client,
    backends: _activities.Kitchen,
    *,
    dinner: Callable[[DinnerFlow, _example_pb2.String], None],
    late_refund: Callable[[LateRefundFlow, _example_pb2.Int], None],
    start: bool = True,
) -> list[replay.Consumer]:
    """Register all workflows and activities under their names in the definition."""
    return [
        register_dinner(client, dinner, start=start),
        register_late_refund(client, late_refund, start=start),
        register_price(client, backends, start=start),
        register_find_table(client, backends, start=start),
        register_wash_up(client, start=start),
    ]
