# Made by "typedreplay namespace.py" from that file: change it, not this one.
# isort: skip_file
"""The namespace maker_trade."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, NoReturn, Protocol

import replay
from replay import typed

from tutorial.lesson_07_maker_trade import maker_pb2

if TYPE_CHECKING:
    from tutorial import exchange

_NAMESPACE = "maker_trade"


class MakerFlow(typed.Flow, Protocol):
    """Buys by orders that rest, one at a time."""

    def restart(self, message: maker_pb2.Wish) -> NoReturn:
        """End this iteration and begin the next with `message`, in one transaction."""
        ...

    def ticker(self, message: maker_pb2.Market) -> maker_pb2.Ticker:
        """The best prices just now."""
        ...

    def call_ticker(self, message: maker_pb2.Market) -> typed.Call[maker_pb2.Ticker]:
        """A call of ticker for `gather`: nothing is asked for yet."""
        ...

    def place(self, message: maker_pb2.Limit) -> maker_pb2.Order:
        """Places an order that is to rest."""
        ...

    def call_place(self, message: maker_pb2.Limit) -> typed.Call[maker_pb2.Order]:
        """A call of place for `gather`: nothing is asked for yet."""
        ...

    def cancel(self, message: maker_pb2.Order) -> maker_pb2.Order:
        """Ends an order, and says how."""
        ...

    def call_cancel(self, message: maker_pb2.Order) -> typed.Call[maker_pb2.Order]:
        """A call of cancel for `gather`: nothing is asked for yet."""
        ...

    def emit_placed(self, message: maker_pb2.Order) -> None:
        """An order is placed."""
        ...

    def emit_filled(self, message: maker_pb2.Order) -> None:
        """An order is filled."""
        ...


class _MakerFlow(typed.RunFlow):
    def restart(self, message: maker_pb2.Wish) -> NoReturn:
        self._ctx.restart(message)

    def ticker(self, message: maker_pb2.Market) -> maker_pb2.Ticker:
        result: maker_pb2.Ticker = self._ctx.exec_activity("ticker", message)
        return result

    def call_ticker(self, message: maker_pb2.Market) -> typed.Call[maker_pb2.Ticker]:
        return typed.Call("ticker", message)

    def place(self, message: maker_pb2.Limit) -> maker_pb2.Order:
        result: maker_pb2.Order = self._ctx.exec_activity("place", message)
        return result

    def call_place(self, message: maker_pb2.Limit) -> typed.Call[maker_pb2.Order]:
        return typed.Call("place", message)

    def cancel(self, message: maker_pb2.Order) -> maker_pb2.Order:
        result: maker_pb2.Order = self._ctx.exec_activity("cancel", message)
        return result

    def call_cancel(self, message: maker_pb2.Order) -> typed.Call[maker_pb2.Order]:
        return typed.Call("cancel", message)

    def emit_placed(self, message: maker_pb2.Order) -> None:
        self._ctx.emit_output("placed", message)

    def emit_filled(self, message: maker_pb2.Order) -> None:
        self._ctx.emit_output("filled", message)


def run_maker(client: replay.Client, run: str, message: maker_pb2.Wish) -> bool:
    """Start a run of maker; False if its id is used already. Buys by orders that rest, one at a
    time.
    """
    return client.run_workflow(_NAMESPACE, "maker", run, message)


def stream_maker(
    client: replay.Client,
    run: str = "",
    *,
    after: int = 0,
    from_head: bool = False,
    to_head: bool = False,
    lag: timedelta = timedelta(0),
) -> Iterator[replay.Event]:
    """The events of maker, or of one run, as `replay.Client.stream` gives them."""
    return client.stream(
        _NAMESPACE,
        "maker",
        run,
        after=after,
        from_head=from_head,
        to_head=to_head,
        lag=lag,
    )


def handle_maker_run(event: replay.Event, fn: Callable[[str, maker_pb2.Wish], object]) -> None:
    """Call `fn` with run and input if the event begins an iteration of maker."""
    typed.handle(event, replay.EventType.RUN_CREATED, (_NAMESPACE, "maker"), "", fn)


def handle_placed(event: replay.Event, fn: Callable[[str, maker_pb2.Order], object]) -> None:
    """Call `fn` with run and message if the event is placed. An order is placed."""
    typed.handle(event, replay.EventType.RUN_OUTPUT, (_NAMESPACE, "maker"), "placed", fn)


def handle_filled(event: replay.Event, fn: Callable[[str, maker_pb2.Order], object]) -> None:
    """Call `fn` with run and message if the event is filled. An order is filled."""
    typed.handle(event, replay.EventType.RUN_OUTPUT, (_NAMESPACE, "maker"), "filled", fn)


def register_maker(
    client: replay.Client,
    fn: Callable[[MakerFlow, maker_pb2.Wish], None],
    *,
    shard: replay.Shard | None = None,
    await_timeout: timedelta = timedelta(hours=1),
    max_cached: int = 10_000,
    metrics: typed.Metrics | None = None,
    start: bool = True,
) -> replay.Consumer:
    """Run maker by this function; the rest is as in `replay.register_workflow`."""
    typed.check_workflow(fn, "maker", maker_pb2.Wish)

    def workflow(ctx: replay.RunContext, message: maker_pb2.Wish) -> None:
        fn(_MakerFlow(ctx), message)

    return replay.register_workflow(
        client,
        _NAMESPACE,
        workflow,
        name="maker",
        shard=shard,
        await_timeout=await_timeout,
        max_cached=max_cached,
        metrics=metrics,
        start=start,
    )


def register_ticker(
    client: replay.Client,
    backends: exchange.Exchange,
    *,
    shard: replay.Shard | None = None,
    workers: int = 1,
    metrics: typed.Metrics | None = None,
    start: bool = True,
) -> replay.Consumer:
    """Execute ticker when asked; the rest is as in `replay.register_activity`."""
    # Imported when it is called, since that module may import this one.
    from tutorial.lesson_07_maker_trade.namespace import ticker as function

    return replay.register_activity(
        client,
        _NAMESPACE,
        function,
        backends,
        name="ticker",
        shard=shard,
        workers=workers,
        metrics=metrics,
        start=start,
    )


def register_place(
    client: replay.Client,
    backends: exchange.Exchange,
    *,
    shard: replay.Shard | None = None,
    workers: int = 1,
    metrics: typed.Metrics | None = None,
    start: bool = True,
) -> replay.Consumer:
    """Execute place when asked; the rest is as in `replay.register_activity`."""
    # Imported when it is called, since that module may import this one.
    from tutorial.lesson_07_maker_trade.namespace import place as function

    return replay.register_activity(
        client,
        _NAMESPACE,
        function,
        backends,
        name="place",
        shard=shard,
        workers=workers,
        metrics=metrics,
        start=start,
    )


def register_cancel(
    client: replay.Client,
    backends: exchange.Exchange,
    *,
    shard: replay.Shard | None = None,
    workers: int = 1,
    metrics: typed.Metrics | None = None,
    start: bool = True,
) -> replay.Consumer:
    """Execute cancel when asked; the rest is as in `replay.register_activity`."""
    # Imported when it is called, since that module may import this one.
    from tutorial.lesson_07_maker_trade.namespace import cancel as function

    return replay.register_activity(
        client,
        _NAMESPACE,
        function,
        backends,
        name="cancel",
        shard=shard,
        workers=workers,
        metrics=metrics,
        start=start,
    )


def start_replay_loops(
    client: replay.Client,
    backends: exchange.Exchange,
    *,
    maker: Callable[[MakerFlow, maker_pb2.Wish], None],
    start: bool = True,
) -> list[replay.Consumer]:
    """Register all workflows and activities, each under its name in the definition."""
    return [
        register_maker(client, maker, start=start),
        register_ticker(client, backends, start=start),
        register_place(client, backends, start=start),
        register_cancel(client, backends, start=start),
    ]
