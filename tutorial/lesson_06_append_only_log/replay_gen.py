# Made by "typedreplay namespace.py" from that file: change it, not this one.
# fmt: off
# isort: skip_file
# flake8: noqa
# ruff: noqa
"""The namespace append_only_log."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator
from datetime import timedelta

import replay
from replay import typed

import tutorial.lesson_06_append_only_log.orders_pb2 as _orders_pb2

_NAMESPACE = 'append_only_log'


class OrderFlow(typed.Flow, typing.Protocol):
    """The methods of the workflow order. Sends what there is room for."""

    def restart(self, message: _orders_pb2.Order) -> typing.NoReturn:
        """End this iteration and begin the next with `message`, in one transaction."""

    def pack(self, message: _orders_pb2.Order) -> _orders_pb2.Parcel:
        """Execute the activity pack. Packs what is ordered."""

    def call_pack(self, message: _orders_pb2.Order) -> typed.Call[_orders_pb2.Parcel]:
        """A call of pack for `gather`, which executes it."""

    def emit_sent(self, message: _orders_pb2.Parcel) -> None:
        """Add the output sent. A parcel is sent."""


class _OrderFlow(typed.RunFlow):
    def restart(self, message: _orders_pb2.Order) -> typing.NoReturn:
        self._ctx.restart(message)

    def pack(self, message: _orders_pb2.Order) -> _orders_pb2.Parcel:
        return self._exec(self.call_pack(message))

    def call_pack(self, message: _orders_pb2.Order) -> typed.Call[_orders_pb2.Parcel]:
        return typed.Call("pack", message)

    def emit_sent(self, message: _orders_pb2.Parcel) -> None:
        self._ctx.emit_output("sent", message)


def run_order(client: replay.Client, run: str, message: _orders_pb2.Order) -> bool:
    """Start a run of order. False means that its id is used already."""
    return client.run_workflow(_NAMESPACE, "order", run, message)


def stream_order(
    client: replay.Client, run: str = "", **options: typing.Unpack[typed.StreamOptions]
) -> Iterator[replay.Event]:
    """The events of order, or of one run. The options are those of `replay.Client.stream`."""
    return client.stream(_NAMESPACE, "order", run, **options)


def handle_order_run(event: replay.Event, fn: Callable[[str, _orders_pb2.Order], object]) -> None:
    """Call `fn` with run and input if the event begins an iteration of order."""
    typed.handle(event, replay.EventType.RUN_CREATED, (_NAMESPACE, "order"), "", fn)


def register_order(
    client: replay.Client,
    fn: Callable[[OrderFlow, _orders_pb2.Order], None],
    **options: typing.Unpack[typed.WorkflowOptions],
) -> replay.Consumer:
    """Run order by `fn`. The options are those of `replay.register_workflow`."""
    typed.check_workflow(fn, "order", _orders_pb2.Order)

    def workflow(ctx: replay.RunContext, message: _orders_pb2.Order) -> None:
        fn(_OrderFlow(ctx), message)

    return replay.register_workflow(client, _NAMESPACE, workflow, name="order", **options)


def handle_sent(event: replay.Event, fn: Callable[[str, _orders_pb2.Parcel], object]) -> None:
    """Call `fn` with run and message if the event is sent. A parcel is sent."""
    typed.handle(event, replay.EventType.RUN_OUTPUT, (_NAMESPACE, "order"), "sent", fn)


class AuditFlow(typed.Flow, typing.Protocol):
    """The methods of the workflow audit. Asks two readers how the table looked when the audit
    began."""

    def restart(self, message: _orders_pb2.Question) -> typing.NoReturn:
        """End this iteration and begin the next with `message`, in one transaction."""

    def pack(self, message: _orders_pb2.Order) -> _orders_pb2.Parcel:
        """Execute the activity pack. Packs what is ordered."""

    def call_pack(self, message: _orders_pb2.Order) -> typed.Call[_orders_pb2.Parcel]:
        """A call of pack for `gather`, which executes it."""

    def await_table(self, timeout: timedelta) -> _orders_pb2.Table | None:
        """The next signal table, or None if none comes within `timeout`. The answer."""

    def emit_heard(self, message: _orders_pb2.Table) -> None:
        """Add the output heard. A reader has answered."""

    def emit_verdict(self, message: _orders_pb2.Verdict) -> None:
        """Add the output verdict. Whether they agree."""


class _AuditFlow(typed.RunFlow):
    def restart(self, message: _orders_pb2.Question) -> typing.NoReturn:
        self._ctx.restart(message)

    def pack(self, message: _orders_pb2.Order) -> _orders_pb2.Parcel:
        return self._exec(self.call_pack(message))

    def call_pack(self, message: _orders_pb2.Order) -> typed.Call[_orders_pb2.Parcel]:
        return typed.Call("pack", message)

    def await_table(self, timeout: timedelta) -> _orders_pb2.Table | None:
        return self._await(1, _orders_pb2.Table, timeout)

    def emit_heard(self, message: _orders_pb2.Table) -> None:
        self._ctx.emit_output("heard", message)

    def emit_verdict(self, message: _orders_pb2.Verdict) -> None:
        self._ctx.emit_output("verdict", message)


def run_audit(client: replay.Client, run: str, message: _orders_pb2.Question) -> bool:
    """Start a run of audit. False means that its id is used already."""
    return client.run_workflow(_NAMESPACE, "audit", run, message)


def stream_audit(
    client: replay.Client, run: str = "", **options: typing.Unpack[typed.StreamOptions]
) -> Iterator[replay.Event]:
    """The events of audit, or of one run. The options are those of `replay.Client.stream`."""
    return client.stream(_NAMESPACE, "audit", run, **options)


def handle_audit_run(event: replay.Event, fn: Callable[[str, _orders_pb2.Question], object]) -> None:
    """Call `fn` with run and input if the event begins an iteration of audit."""
    typed.handle(event, replay.EventType.RUN_CREATED, (_NAMESPACE, "audit"), "", fn)


def register_audit(
    client: replay.Client,
    fn: Callable[[AuditFlow, _orders_pb2.Question], None],
    **options: typing.Unpack[typed.WorkflowOptions],
) -> replay.Consumer:
    """Run audit by `fn`. The options are those of `replay.register_workflow`."""
    typed.check_workflow(fn, "audit", _orders_pb2.Question)

    def workflow(ctx: replay.RunContext, message: _orders_pb2.Question) -> None:
        fn(_AuditFlow(ctx), message)

    return replay.register_workflow(client, _NAMESPACE, workflow, name="audit", **options)


def signal_audit_table(
    client: replay.Client, run: str, message: _orders_pb2.Table, external_id: str
) -> bool:
    """Send table to a run of audit. False means that `external_id` was sent before. The answer."""
    return client.signal_run(_NAMESPACE, "audit", run, 1, message, external_id)


def handle_heard(event: replay.Event, fn: Callable[[str, _orders_pb2.Table], object]) -> None:
    """Call `fn` with run and message if the event is heard. A reader has answered."""
    typed.handle(event, replay.EventType.RUN_OUTPUT, (_NAMESPACE, "audit"), "heard", fn)


def handle_verdict(event: replay.Event, fn: Callable[[str, _orders_pb2.Verdict], object]) -> None:
    """Call `fn` with run and message if the event is verdict. Whether they agree."""
    typed.handle(event, replay.EventType.RUN_OUTPUT, (_NAMESPACE, "audit"), "verdict", fn)


def register_pack(
    client: replay.Client, backends: None = None, **options: typing.Unpack[typed.ActivityOptions]
) -> replay.Consumer:
    """Execute pack. The options are those of `replay.register_activity`."""
    # Imported here, since only a process that executes it needs this module.
    from tutorial.lesson_06_append_only_log.namespace import pack as function

    return replay.register_activity(
        client, _NAMESPACE, function, backends, name="pack", **options
    )


def start_replay_loops(
    client: replay.Client,
    backends: None = None,
    *,
    order: Callable[[OrderFlow, _orders_pb2.Order], None],
    audit: Callable[[AuditFlow, _orders_pb2.Question], None],
    start: bool = True,
) -> list[replay.Consumer]:
    """Register all workflows and activities under their names in the definition."""
    return [
        register_order(client, order, start=start),
        register_audit(client, audit, start=start),
        register_pack(client, start=start),
    ]
