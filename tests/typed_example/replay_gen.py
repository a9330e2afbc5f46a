# Made by "typedreplay namespace.py" from that file: change it, not this one.
# isort: skip_file
"""A restaurant, from the first guest to the last plate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, NoReturn, Protocol

import replay
from replay import typed

from tests import example_pb2

if TYPE_CHECKING:
    from tests.typed_example import activities

_NAMESPACE = "restaurant"


class DinnerFlow(typed.Flow, Protocol):
    """Serves one guest."""

    def restart(self, message: example_pb2.String) -> NoReturn:
        """End this iteration and begin the next with `message`, in one transaction."""
        ...

    def price(self, message: example_pb2.String) -> example_pb2.Int:
        """The price of a dish."""
        ...

    def call_price(self, message: example_pb2.String) -> typed.Call[example_pb2.Int]:
        """A call of price for `gather`: nothing is asked for yet."""
        ...

    def find_table(self, message: example_pb2.String | None) -> example_pb2.Int | None:
        """Have the activity find_table executed; its answer."""
        ...

    def call_find_table(
        self, message: example_pb2.String | None
    ) -> typed.Call[example_pb2.Int | None]:
        """A call of find_table for `gather`: nothing is asked for yet."""
        ...

    def wash_up(self, message: example_pb2.Int) -> None:
        """Washes the plates."""
        ...

    def call_wash_up(self, message: example_pb2.Int) -> typed.Call[None]:
        """A call of wash_up for `gather`: nothing is asked for yet."""
        ...

    def await_order(self, timeout: timedelta) -> example_pb2.String | None:
        """The next signal order; None if none comes within `timeout`. Orders a dish."""
        ...

    def await_pay(self, timeout: timedelta) -> example_pb2.Empty | None:
        """The next signal pay; None if none comes within `timeout`."""
        ...

    def emit_served(self, message: example_pb2.String) -> None:
        """A dish is on the table."""
        ...

    def emit_bill(self, message: example_pb2.Int) -> None:
        """Add the output bill."""
        ...


class _DinnerFlow(typed.RunFlow):
    def restart(self, message: example_pb2.String) -> NoReturn:
        self._ctx.restart(message)

    def price(self, message: example_pb2.String) -> example_pb2.Int:
        result: example_pb2.Int = self._ctx.exec_activity("price", message)
        return result

    def call_price(self, message: example_pb2.String) -> typed.Call[example_pb2.Int]:
        return typed.Call("price", message)

    def find_table(self, message: example_pb2.String | None) -> example_pb2.Int | None:
        result: example_pb2.Int | None = self._ctx.exec_activity("find_table", message)
        return result

    def call_find_table(
        self, message: example_pb2.String | None
    ) -> typed.Call[example_pb2.Int | None]:
        return typed.Call("find_table", message)

    def wash_up(self, message: example_pb2.Int) -> None:
        self._ctx.exec_activity("wash_up", message)

    def call_wash_up(self, message: example_pb2.Int) -> typed.Call[None]:
        return typed.Call("wash_up", message)

    def await_order(self, timeout: timedelta) -> example_pb2.String | None:
        return self._await(1, example_pb2.String, timeout)

    def await_pay(self, timeout: timedelta) -> example_pb2.Empty | None:
        return self._await(-2, example_pb2.Empty, timeout)

    def emit_served(self, message: example_pb2.String) -> None:
        self._ctx.emit_output("served", message)

    def emit_bill(self, message: example_pb2.Int) -> None:
        self._ctx.emit_output("bill", message)


def run_dinner(client: replay.Client, run: str, message: example_pb2.String) -> bool:
    """Start a run of dinner; False if its id is used already. Serves one guest."""
    return client.run_workflow(_NAMESPACE, "dinner", run, message)


def signal_dinner_order(
    client: replay.Client,
    run: str,
    message: example_pb2.String,
    external_id: str,
) -> bool:
    """Send order to a run of dinner; False if that `external_id` has been sent. Orders a dish."""
    return client.signal_run(_NAMESPACE, "dinner", run, 1, message, external_id)


def signal_dinner_pay(
    client: replay.Client,
    run: str,
    message: example_pb2.Empty,
    external_id: str,
) -> bool:
    """Send pay to a run of dinner; False if that `external_id` has been sent."""
    return client.signal_run(_NAMESPACE, "dinner", run, -2, message, external_id)


def stream_dinner(
    client: replay.Client,
    run: str = "",
    *,
    after: int = 0,
    from_head: bool = False,
    to_head: bool = False,
    lag: timedelta = timedelta(0),
) -> Iterator[replay.Event]:
    """The events of dinner, or of one run, as `replay.Client.stream` gives them."""
    return client.stream(
        _NAMESPACE,
        "dinner",
        run,
        after=after,
        from_head=from_head,
        to_head=to_head,
        lag=lag,
    )


def handle_dinner_run(event: replay.Event, fn: Callable[[str, example_pb2.String], object]) -> None:
    """Call `fn` with run and input if the event begins an iteration of dinner."""
    typed.handle(event, replay.EventType.RUN_CREATED, (_NAMESPACE, "dinner"), "", fn)


def handle_served(event: replay.Event, fn: Callable[[str, example_pb2.String], object]) -> None:
    """Call `fn` with run and message if the event is served. A dish is on the table."""
    typed.handle(event, replay.EventType.RUN_OUTPUT, (_NAMESPACE, "dinner"), "served", fn)


def handle_bill(event: replay.Event, fn: Callable[[str, example_pb2.Int], object]) -> None:
    """Call `fn` with run and message if the event is bill."""
    typed.handle(event, replay.EventType.RUN_OUTPUT, (_NAMESPACE, "dinner"), "bill", fn)


def register_dinner(
    client: replay.Client,
    fn: Callable[[DinnerFlow, example_pb2.String], None],
    *,
    shard: replay.Shard | None = None,
    await_timeout: timedelta = timedelta(hours=1),
    max_cached: int = 10_000,
    metrics: typed.Metrics | None = None,
    start: bool = True,
) -> replay.Consumer:
    """Run dinner by this function; the rest is as in `replay.register_workflow`."""
    typed.check_workflow(fn, "dinner", example_pb2.String)

    def workflow(ctx: replay.RunContext, message: example_pb2.String) -> None:
        fn(_DinnerFlow(ctx), message)

    return replay.register_workflow(
        client,
        _NAMESPACE,
        workflow,
        name="dinner",
        shard=shard,
        await_timeout=await_timeout,
        max_cached=max_cached,
        metrics=metrics,
        start=start,
    )


class LateRefundFlow(typed.Flow, Protocol):
    """What the workflow late_refund may do."""

    def restart(self, message: example_pb2.Int) -> NoReturn:
        """End this iteration and begin the next with `message`, in one transaction."""
        ...

    def price(self, message: example_pb2.String) -> example_pb2.Int:
        """The price of a dish."""
        ...

    def call_price(self, message: example_pb2.String) -> typed.Call[example_pb2.Int]:
        """A call of price for `gather`: nothing is asked for yet."""
        ...

    def find_table(self, message: example_pb2.String | None) -> example_pb2.Int | None:
        """Have the activity find_table executed; its answer."""
        ...

    def call_find_table(
        self, message: example_pb2.String | None
    ) -> typed.Call[example_pb2.Int | None]:
        """A call of find_table for `gather`: nothing is asked for yet."""
        ...

    def wash_up(self, message: example_pb2.Int) -> None:
        """Washes the plates."""
        ...

    def call_wash_up(self, message: example_pb2.Int) -> typed.Call[None]:
        """A call of wash_up for `gather`: nothing is asked for yet."""
        ...


class _LateRefundFlow(typed.RunFlow):
    def restart(self, message: example_pb2.Int) -> NoReturn:
        self._ctx.restart(message)

    def price(self, message: example_pb2.String) -> example_pb2.Int:
        result: example_pb2.Int = self._ctx.exec_activity("price", message)
        return result

    def call_price(self, message: example_pb2.String) -> typed.Call[example_pb2.Int]:
        return typed.Call("price", message)

    def find_table(self, message: example_pb2.String | None) -> example_pb2.Int | None:
        result: example_pb2.Int | None = self._ctx.exec_activity("find_table", message)
        return result

    def call_find_table(
        self, message: example_pb2.String | None
    ) -> typed.Call[example_pb2.Int | None]:
        return typed.Call("find_table", message)

    def wash_up(self, message: example_pb2.Int) -> None:
        self._ctx.exec_activity("wash_up", message)

    def call_wash_up(self, message: example_pb2.Int) -> typed.Call[None]:
        return typed.Call("wash_up", message)


def run_late_refund(client: replay.Client, run: str, message: example_pb2.Int) -> bool:
    """Start a run of late_refund; False if its id is used already."""
    return client.run_workflow(_NAMESPACE, "late_refund", run, message)


def stream_late_refund(
    client: replay.Client,
    run: str = "",
    *,
    after: int = 0,
    from_head: bool = False,
    to_head: bool = False,
    lag: timedelta = timedelta(0),
) -> Iterator[replay.Event]:
    """The events of late_refund, or of one run, as `replay.Client.stream` gives them."""
    return client.stream(
        _NAMESPACE,
        "late_refund",
        run,
        after=after,
        from_head=from_head,
        to_head=to_head,
        lag=lag,
    )


def handle_late_refund_run(
    event: replay.Event, fn: Callable[[str, example_pb2.Int], object]
) -> None:
    """Call `fn` with run and input if the event begins an iteration of late_refund."""
    typed.handle(event, replay.EventType.RUN_CREATED, (_NAMESPACE, "late_refund"), "", fn)


def register_late_refund(
    client: replay.Client,
    fn: Callable[[LateRefundFlow, example_pb2.Int], None],
    *,
    shard: replay.Shard | None = None,
    await_timeout: timedelta = timedelta(hours=1),
    max_cached: int = 10_000,
    metrics: typed.Metrics | None = None,
    start: bool = True,
) -> replay.Consumer:
    """Run late_refund by this function; the rest is as in `replay.register_workflow`."""
    typed.check_workflow(fn, "late_refund", example_pb2.Int)

    def workflow(ctx: replay.RunContext, message: example_pb2.Int) -> None:
        fn(_LateRefundFlow(ctx), message)

    return replay.register_workflow(
        client,
        _NAMESPACE,
        workflow,
        name="late_refund",
        shard=shard,
        await_timeout=await_timeout,
        max_cached=max_cached,
        metrics=metrics,
        start=start,
    )


def register_price(
    client: replay.Client,
    backends: activities.Kitchen,
    *,
    shard: replay.Shard | None = None,
    workers: int = 1,
    metrics: typed.Metrics | None = None,
    start: bool = True,
) -> replay.Consumer:
    """Execute price when asked; the rest is as in `replay.register_activity`."""
    # Imported when it is called, since that module may import this one.
    from tests.typed_example.activities import price as function

    return replay.register_activity(
        client,
        _NAMESPACE,
        function,
        backends,
        name="price",
        shard=shard,
        workers=workers,
        metrics=metrics,
        start=start,
    )


def register_find_table(
    client: replay.Client,
    backends: activities.Kitchen,
    *,
    shard: replay.Shard | None = None,
    workers: int = 1,
    metrics: typed.Metrics | None = None,
    start: bool = True,
) -> replay.Consumer:
    """Execute find_table when asked; the rest is as in `replay.register_activity`."""
    # Imported when it is called, since that module may import this one.
    from tests.typed_example.activities import find_table as function

    return replay.register_activity(
        client,
        _NAMESPACE,
        function,
        backends,
        name="find_table",
        shard=shard,
        workers=workers,
        metrics=metrics,
        start=start,
    )


def register_wash_up(
    client: replay.Client,
    backends: None = None,
    *,
    shard: replay.Shard | None = None,
    workers: int = 1,
    metrics: typed.Metrics | None = None,
    start: bool = True,
) -> replay.Consumer:
    """Execute wash_up when asked; the rest is as in `replay.register_activity`."""
    # Imported when it is called, since that module may import this one.
    from tests.typed_example.activities import wash as function

    return replay.register_activity(
        client,
        _NAMESPACE,
        function,
        backends,
        name="wash_up",
        shard=shard,
        workers=workers,
        metrics=metrics,
        start=start,
    )


def start_replay_loops(
    client: replay.Client,
    backends: activities.Kitchen,
    *,
    dinner: Callable[[DinnerFlow, example_pb2.String], None],
    late_refund: Callable[[LateRefundFlow, example_pb2.Int], None],
    start: bool = True,
) -> list[replay.Consumer]:
    """Register all workflows and activities, each under its name in the definition."""
    return [
        register_dinner(client, dinner, start=start),
        register_late_refund(client, late_refund, start=start),
        register_price(client, backends, start=start),
        register_find_table(client, backends, start=start),
        register_wash_up(client, start=start),
    ]
