# Made by "typedreplay namespace.py" from that file: change it, not this one.
# isort: skip_file
"""The namespace sparkline."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, NoReturn, Protocol

import replay
from replay import typed

from tutorial.lesson_08_sparkline import sparkline_pb2

if TYPE_CHECKING:
    from tutorial import exchange

_NAMESPACE = "sparkline"


class SamplerFlow(typed.Flow, Protocol):
    """Keeps the latest prices, for ever."""

    def restart(self, message: sparkline_pb2.Window) -> NoReturn:
        """End this iteration and begin the next with `message`, in one transaction."""
        ...

    def sample(self, message: sparkline_pb2.Market) -> sparkline_pb2.Price:
        """The price just now."""
        ...

    def call_sample(self, message: sparkline_pb2.Market) -> typed.Call[sparkline_pb2.Price]:
        """A call of sample for `gather`: nothing is asked for yet."""
        ...

    def emit_window(self, message: sparkline_pb2.Window) -> None:
        """There is a new price."""
        ...


class _SamplerFlow(typed.RunFlow):
    def restart(self, message: sparkline_pb2.Window) -> NoReturn:
        self._ctx.restart(message)

    def sample(self, message: sparkline_pb2.Market) -> sparkline_pb2.Price:
        result: sparkline_pb2.Price = self._ctx.exec_activity("sample", message)
        return result

    def call_sample(self, message: sparkline_pb2.Market) -> typed.Call[sparkline_pb2.Price]:
        return typed.Call("sample", message)

    def emit_window(self, message: sparkline_pb2.Window) -> None:
        self._ctx.emit_output("window", message)


def run_sampler(client: replay.Client, run: str, message: sparkline_pb2.Window) -> bool:
    """Start a run of sampler; False if its id is used already. Keeps the latest prices, for
    ever.
    """
    return client.run_workflow(_NAMESPACE, "sampler", run, message)


def stream_sampler(
    client: replay.Client,
    run: str = "",
    *,
    after: int = 0,
    from_head: bool = False,
    to_head: bool = False,
    lag: timedelta = timedelta(0),
) -> Iterator[replay.Event]:
    """The events of sampler, or of one run, as `replay.Client.stream` gives them."""
    return client.stream(
        _NAMESPACE,
        "sampler",
        run,
        after=after,
        from_head=from_head,
        to_head=to_head,
        lag=lag,
    )


def handle_sampler_run(
    event: replay.Event, fn: Callable[[str, sparkline_pb2.Window], object]
) -> None:
    """Call `fn` with run and input if the event begins an iteration of sampler."""
    typed.handle(event, replay.EventType.RUN_CREATED, (_NAMESPACE, "sampler"), "", fn)


def handle_window(event: replay.Event, fn: Callable[[str, sparkline_pb2.Window], object]) -> None:
    """Call `fn` with run and message if the event is window. There is a new price."""
    typed.handle(event, replay.EventType.RUN_OUTPUT, (_NAMESPACE, "sampler"), "window", fn)


def register_sampler(
    client: replay.Client,
    fn: Callable[[SamplerFlow, sparkline_pb2.Window], None],
    *,
    shard: replay.Shard | None = None,
    await_timeout: timedelta = timedelta(hours=1),
    max_cached: int = 10_000,
    metrics: typed.Metrics | None = None,
    start: bool = True,
) -> replay.Consumer:
    """Run sampler by this function; the rest is as in `replay.register_workflow`."""
    typed.check_workflow(fn, "sampler", sparkline_pb2.Window)

    def workflow(ctx: replay.RunContext, message: sparkline_pb2.Window) -> None:
        fn(_SamplerFlow(ctx), message)

    return replay.register_workflow(
        client,
        _NAMESPACE,
        workflow,
        name="sampler",
        shard=shard,
        await_timeout=await_timeout,
        max_cached=max_cached,
        metrics=metrics,
        start=start,
    )


def register_sample(
    client: replay.Client,
    backends: exchange.Market,
    *,
    shard: replay.Shard | None = None,
    workers: int = 1,
    metrics: typed.Metrics | None = None,
    start: bool = True,
) -> replay.Consumer:
    """Execute sample when asked; the rest is as in `replay.register_activity`."""
    # Imported when it is called, since that module may import this one.
    from tutorial.lesson_08_sparkline.namespace import sample as function

    return replay.register_activity(
        client,
        _NAMESPACE,
        function,
        backends,
        name="sample",
        shard=shard,
        workers=workers,
        metrics=metrics,
        start=start,
    )


def start_replay_loops(
    client: replay.Client,
    backends: exchange.Market,
    *,
    sampler: Callable[[SamplerFlow, sparkline_pb2.Window], None],
    start: bool = True,
) -> list[replay.Consumer]:
    """Register all workflows and activities, each under its name in the definition."""
    return [
        register_sampler(client, sampler, start=start),
        register_sample(client, backends, start=start),
    ]
