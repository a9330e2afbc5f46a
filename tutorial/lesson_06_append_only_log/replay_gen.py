# Made by "typedreplay namespace.py" from that file: change it, not this one.
# isort: skip_file
"""The namespace append_only_log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import NoReturn, Protocol

import replay
from replay import typed

from tutorial.lesson_06_append_only_log import orders_pb2

_NAMESPACE = "append_only_log"


class OrderFlow(typed.Flow, Protocol):
    """Sends what there is room for."""

    def restart(self, message: orders_pb2.Order) -> NoReturn:
        """End this iteration and begin the next with `message`, in one transaction."""
        ...

    def pack(self, message: orders_pb2.Order) -> orders_pb2.Parcel:
        """Packs what is ordered."""
        ...

    def call_pack(self, message: orders_pb2.Order) -> typed.Call[orders_pb2.Parcel]:
        """A call of pack for `gather`: nothing is asked for yet."""
        ...

    def emit_sent(self, message: orders_pb2.Parcel) -> None:
        """A parcel is sent."""
        ...


class _OrderFlow(typed.RunFlow):
    def restart(self, message: orders_pb2.Order) -> NoReturn:
        self._ctx.restart(message)

    def pack(self, message: orders_pb2.Order) -> orders_pb2.Parcel:
        result: orders_pb2.Parcel = self._ctx.exec_activity("pack", message)
        return result

    def call_pack(self, message: orders_pb2.Order) -> typed.Call[orders_pb2.Parcel]:
        return typed.Call("pack", message)

    def emit_sent(self, message: orders_pb2.Parcel) -> None:
        self._ctx.emit_output("sent", message)


def run_order(client: replay.Client, run: str, message: orders_pb2.Order) -> bool:
    """Start a run of order; False if its id is used already. Sends what there is room for."""
    return client.run_workflow(_NAMESPACE, "order", run, message)


def stream_order(
    client: replay.Client,
    run: str = "",
    *,
    after: int = 0,
    from_head: bool = False,
    to_head: bool = False,
    lag: timedelta = timedelta(0),
) -> Iterator[replay.Event]:
    """The events of order, or of one run, as `replay.Client.stream` gives them."""
    return client.stream(
        _NAMESPACE,
        "order",
        run,
        after=after,
        from_head=from_head,
        to_head=to_head,
        lag=lag,
    )


def handle_order_run(event: replay.Event, fn: Callable[[str, orders_pb2.Order], object]) -> None:
    """Call `fn` with run and input if the event begins an iteration of order."""
    typed.handle(event, replay.EventType.RUN_CREATED, (_NAMESPACE, "order"), "", fn)


def handle_sent(event: replay.Event, fn: Callable[[str, orders_pb2.Parcel], object]) -> None:
    """Call `fn` with run and message if the event is sent. A parcel is sent."""
    typed.handle(event, replay.EventType.RUN_OUTPUT, (_NAMESPACE, "order"), "sent", fn)


def register_order(
    client: replay.Client,
    fn: Callable[[OrderFlow, orders_pb2.Order], None],
    *,
    shard: replay.Shard | None = None,
    await_timeout: timedelta = timedelta(hours=1),
    max_cached: int = 10_000,
    metrics: typed.Metrics | None = None,
    start: bool = True,
) -> replay.Consumer:
    """Run order by this function; the rest is as in `replay.register_workflow`."""
    typed.check_workflow(fn, "order", orders_pb2.Order)

    def workflow(ctx: replay.RunContext, message: orders_pb2.Order) -> None:
        fn(_OrderFlow(ctx), message)

    return replay.register_workflow(
        client,
        _NAMESPACE,
        workflow,
        name="order",
        shard=shard,
        await_timeout=await_timeout,
        max_cached=max_cached,
        metrics=metrics,
        start=start,
    )


class AuditFlow(typed.Flow, Protocol):
    """Asks two readers how the table looked when the audit began."""

    def restart(self, message: orders_pb2.Question) -> NoReturn:
        """End this iteration and begin the next with `message`, in one transaction."""
        ...

    def pack(self, message: orders_pb2.Order) -> orders_pb2.Parcel:
        """Packs what is ordered."""
        ...

    def call_pack(self, message: orders_pb2.Order) -> typed.Call[orders_pb2.Parcel]:
        """A call of pack for `gather`: nothing is asked for yet."""
        ...

    def await_table(self, timeout: timedelta) -> orders_pb2.Table | None:
        """The next signal table; None if none comes within `timeout`. The answer."""
        ...

    def emit_heard(self, message: orders_pb2.Table) -> None:
        """A reader has answered."""
        ...

    def emit_verdict(self, message: orders_pb2.Verdict) -> None:
        """Whether they agree."""
        ...


class _AuditFlow(typed.RunFlow):
    def restart(self, message: orders_pb2.Question) -> NoReturn:
        self._ctx.restart(message)

    def pack(self, message: orders_pb2.Order) -> orders_pb2.Parcel:
        result: orders_pb2.Parcel = self._ctx.exec_activity("pack", message)
        return result

    def call_pack(self, message: orders_pb2.Order) -> typed.Call[orders_pb2.Parcel]:
        return typed.Call("pack", message)

    def await_table(self, timeout: timedelta) -> orders_pb2.Table | None:
        return self._await(1, orders_pb2.Table, timeout)

    def emit_heard(self, message: orders_pb2.Table) -> None:
        self._ctx.emit_output("heard", message)

    def emit_verdict(self, message: orders_pb2.Verdict) -> None:
        self._ctx.emit_output("verdict", message)


def run_audit(client: replay.Client, run: str, message: orders_pb2.Question) -> bool:
    """Start a run of audit; False if its id is used already. Asks two readers how the table
    looked when the audit began.
    """
    return client.run_workflow(_NAMESPACE, "audit", run, message)


def signal_audit_table(
    client: replay.Client,
    run: str,
    message: orders_pb2.Table,
    external_id: str,
) -> bool:
    """Send table to a run of audit; False if that `external_id` has been sent. The answer."""
    return client.signal_run(_NAMESPACE, "audit", run, 1, message, external_id)


def stream_audit(
    client: replay.Client,
    run: str = "",
    *,
    after: int = 0,
    from_head: bool = False,
    to_head: bool = False,
    lag: timedelta = timedelta(0),
) -> Iterator[replay.Event]:
    """The events of audit, or of one run, as `replay.Client.stream` gives them."""
    return client.stream(
        _NAMESPACE,
        "audit",
        run,
        after=after,
        from_head=from_head,
        to_head=to_head,
        lag=lag,
    )


def handle_audit_run(event: replay.Event, fn: Callable[[str, orders_pb2.Question], object]) -> None:
    """Call `fn` with run and input if the event begins an iteration of audit."""
    typed.handle(event, replay.EventType.RUN_CREATED, (_NAMESPACE, "audit"), "", fn)


def handle_heard(event: replay.Event, fn: Callable[[str, orders_pb2.Table], object]) -> None:
    """Call `fn` with run and message if the event is heard. A reader has answered."""
    typed.handle(event, replay.EventType.RUN_OUTPUT, (_NAMESPACE, "audit"), "heard", fn)


def handle_verdict(event: replay.Event, fn: Callable[[str, orders_pb2.Verdict], object]) -> None:
    """Call `fn` with run and message if the event is verdict. Whether they agree."""
    typed.handle(event, replay.EventType.RUN_OUTPUT, (_NAMESPACE, "audit"), "verdict", fn)


def register_audit(
    client: replay.Client,
    fn: Callable[[AuditFlow, orders_pb2.Question], None],
    *,
    shard: replay.Shard | None = None,
    await_timeout: timedelta = timedelta(hours=1),
    max_cached: int = 10_000,
    metrics: typed.Metrics | None = None,
    start: bool = True,
) -> replay.Consumer:
    """Run audit by this function; the rest is as in `replay.register_workflow`."""
    typed.check_workflow(fn, "audit", orders_pb2.Question)

    def workflow(ctx: replay.RunContext, message: orders_pb2.Question) -> None:
        fn(_AuditFlow(ctx), message)

    return replay.register_workflow(
        client,
        _NAMESPACE,
        workflow,
        name="audit",
        shard=shard,
        await_timeout=await_timeout,
        max_cached=max_cached,
        metrics=metrics,
        start=start,
    )


def register_pack(
    client: replay.Client,
    backends: None = None,
    *,
    shard: replay.Shard | None = None,
    workers: int = 1,
    metrics: typed.Metrics | None = None,
    start: bool = True,
) -> replay.Consumer:
    """Execute pack when asked; the rest is as in `replay.register_activity`."""
    # Imported when it is called, since that module may import this one.
    from tutorial.lesson_06_append_only_log.namespace import pack as function

    return replay.register_activity(
        client,
        _NAMESPACE,
        function,
        backends,
        name="pack",
        shard=shard,
        workers=workers,
        metrics=metrics,
        start=start,
    )


def start_replay_loops(
    client: replay.Client,
    backends: None = None,
    *,
    order: Callable[[OrderFlow, orders_pb2.Order], None],
    audit: Callable[[AuditFlow, orders_pb2.Question], None],
    start: bool = True,
) -> list[replay.Consumer]:
    """Register all workflows and activities, each under its name in the definition."""
    return [
        register_order(client, order, start=start),
        register_audit(client, audit, start=start),
        register_pack(client, start=start),
    ]
