# Made by "typedreplay namespace.py" from that file: change it, not this one.
# fmt: off
# isort: skip_file
# flake8: noqa
# ruff: noqa
"""The namespace maker_trade."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator

import replay
from replay import typed

import tutorial.lesson_07_maker_trade.maker_pb2 as _maker_pb2

if typing.TYPE_CHECKING:
    import tutorial.exchange as _exchange

_NAMESPACE = 'maker_trade'


class MakerFlow(typed.Flow, typing.Protocol):
    """The methods of the workflow maker. Buys by orders that rest, one at a time."""

    def restart(self, message: _maker_pb2.Wish) -> typing.NoReturn:
        """End this iteration and begin the next with `message`, in one transaction."""

    def ticker(self, message: _maker_pb2.Market) -> _maker_pb2.Ticker:
        """Execute the activity ticker. The best prices just now."""

    def call_ticker(self, message: _maker_pb2.Market) -> typed.Call[_maker_pb2.Ticker]:
        """A call of ticker for `gather`, which executes it."""

    def place(self, message: _maker_pb2.Limit) -> _maker_pb2.Order:
        """Execute the activity place. Places an order that is to rest."""

    def call_place(self, message: _maker_pb2.Limit) -> typed.Call[_maker_pb2.Order]:
        """A call of place for `gather`, which executes it."""

    def cancel(self, message: _maker_pb2.Order) -> _maker_pb2.Order:
        """Execute the activity cancel. Ends an order, and says how."""

    def call_cancel(self, message: _maker_pb2.Order) -> typed.Call[_maker_pb2.Order]:
        """A call of cancel for `gather`, which executes it."""

    def emit_placed(self, message: _maker_pb2.Order) -> None:
        """Add the output placed. An order is placed."""

    def emit_filled(self, message: _maker_pb2.Order) -> None:
        """Add the output filled. An order is filled."""


class _MakerFlow(typed.RunFlow):
    def restart(self, message: _maker_pb2.Wish) -> typing.NoReturn:
        self._ctx.restart(message)

    def ticker(self, message: _maker_pb2.Market) -> _maker_pb2.Ticker:
        return self._exec(self.call_ticker(message))

    def call_ticker(self, message: _maker_pb2.Market) -> typed.Call[_maker_pb2.Ticker]:
        return typed.Call("ticker", message)

    def place(self, message: _maker_pb2.Limit) -> _maker_pb2.Order:
        return self._exec(self.call_place(message))

    def call_place(self, message: _maker_pb2.Limit) -> typed.Call[_maker_pb2.Order]:
        return typed.Call("place", message)

    def cancel(self, message: _maker_pb2.Order) -> _maker_pb2.Order:
        return self._exec(self.call_cancel(message))

    def call_cancel(self, message: _maker_pb2.Order) -> typed.Call[_maker_pb2.Order]:
        return typed.Call("cancel", message)

    def emit_placed(self, message: _maker_pb2.Order) -> None:
        self._ctx.emit_output("placed", message)

    def emit_filled(self, message: _maker_pb2.Order) -> None:
        self._ctx.emit_output("filled", message)


def run_maker(client: replay.Client, run: str, message: _maker_pb2.Wish) -> bool:
    """Start a run of maker. False means that its id is used already."""
    return client.run_workflow(_NAMESPACE, "maker", run, message)


def stream_maker(
    client: replay.Client, run: str = "", **options: typing.Unpack[typed.StreamOptions]
) -> Iterator[replay.Event]:
    """The events of maker, or of one run. The options are those of `replay.Client.stream`."""
    return client.stream(_NAMESPACE, "maker", run, **options)


def handle_maker_run(event: replay.Event, fn: Callable[[str, _maker_pb2.Wish], object]) -> None:
    """Call `fn` with run and input if the event begins an iteration of maker."""
    typed.handle(event, replay.EventType.RUN_CREATED, (_NAMESPACE, "maker"), "", fn)


def register_maker(
    client: replay.Client,
    fn: Callable[[MakerFlow, _maker_pb2.Wish], None],
    **options: typing.Unpack[typed.WorkflowOptions],
) -> replay.Consumer:
    """Run maker by `fn`. The options are those of `replay.register_workflow`."""
    typed.check_workflow(fn, "maker", _maker_pb2.Wish)

    def workflow(ctx: replay.RunContext, message: _maker_pb2.Wish) -> None:
        fn(_MakerFlow(ctx), message)

    return replay.register_workflow(client, _NAMESPACE, workflow, name="maker", **options)


def handle_placed(event: replay.Event, fn: Callable[[str, _maker_pb2.Order], object]) -> None:
    """Call `fn` with run and message if the event is placed. An order is placed."""
    typed.handle(event, replay.EventType.RUN_OUTPUT, (_NAMESPACE, "maker"), "placed", fn)


def handle_filled(event: replay.Event, fn: Callable[[str, _maker_pb2.Order], object]) -> None:
    """Call `fn` with run and message if the event is filled. An order is filled."""
    typed.handle(event, replay.EventType.RUN_OUTPUT, (_NAMESPACE, "maker"), "filled", fn)


def register_ticker(
    client: replay.Client, backends: _exchange.Exchange, **options: typing.Unpack[typed.ActivityOptions]
) -> replay.Consumer:
    """Execute ticker. The options are those of `replay.register_activity`."""
    # Imported here, since only a process that executes it needs this module.
    from tutorial.lesson_07_maker_trade.namespace import ticker as function

    return replay.register_activity(
        client, _NAMESPACE, function, backends, name="ticker", **options
    )


def register_place(
    client: replay.Client, backends: _exchange.Exchange, **options: typing.Unpack[typed.ActivityOptions]
) -> replay.Consumer:
    """Execute place. The options are those of `replay.register_activity`."""
    # Imported here, since only a process that executes it needs this module.
    from tutorial.lesson_07_maker_trade.namespace import place as function

    return replay.register_activity(
        client, _NAMESPACE, function, backends, name="place", **options
    )


def register_cancel(
    client: replay.Client, backends: _exchange.Exchange, **options: typing.Unpack[typed.ActivityOptions]
) -> replay.Consumer:
    """Execute cancel. The options are those of `replay.register_activity`."""
    # Imported here, since only a process that executes it needs this module.
    from tutorial.lesson_07_maker_trade.namespace import cancel as function

    return replay.register_activity(
        client, _NAMESPACE, function, backends, name="cancel", **options
    )


def start_replay_loops(
    client: replay.Client,
    backends: _exchange.Exchange,
    *,
    maker: Callable[[MakerFlow, _maker_pb2.Wish], None],
    start: bool = True,
) -> list[replay.Consumer]:
    """Register all workflows and activities under their names in the definition."""
    return [
        register_maker(client, maker, start=start),
        register_ticker(client, backends, start=start),
        register_place(client, backends, start=start),
        register_cancel(client, backends, start=start),
    ]
