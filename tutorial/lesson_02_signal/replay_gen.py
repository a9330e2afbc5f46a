# Made by "typedreplay namespace.py" from that file: change it, not this one.
# isort: skip_file
"""The namespace signal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import NoReturn, Protocol

import replay
from replay import typed

from tutorial.lesson_02_signal import coffee_pb2

_NAMESPACE = "signal"


class ServeFlow(typed.Flow, Protocol):
    """Serves one guest."""

    def restart(self, message: coffee_pb2.Guest) -> NoReturn:
        """End this iteration and begin the next with `message`, in one transaction."""
        ...

    def make(self, message: coffee_pb2.Coffee) -> None:
        """Makes a coffee."""
        ...

    def call_make(self, message: coffee_pb2.Coffee) -> typed.Call[None]:
        """A call of make for `gather`: nothing is asked for yet."""
        ...

    def remind(self, message: coffee_pb2.Guest) -> None:
        """Asks the guest what is wanted."""
        ...

    def call_remind(self, message: coffee_pb2.Guest) -> typed.Call[None]:
        """A call of remind for `gather`: nothing is asked for yet."""
        ...

    def await_order(self, timeout: timedelta) -> coffee_pb2.Order | None:
        """The next signal order; None if none comes within `timeout`. Orders a coffee."""
        ...

    def await_pay(self, timeout: timedelta) -> coffee_pb2.Payment | None:
        """The next signal pay; None if none comes within `timeout`. Pays for all."""
        ...


class _ServeFlow(typed.RunFlow):
    def restart(self, message: coffee_pb2.Guest) -> NoReturn:
        self._ctx.restart(message)

    def make(self, message: coffee_pb2.Coffee) -> None:
        self._ctx.exec_activity("make", message)

    def call_make(self, message: coffee_pb2.Coffee) -> typed.Call[None]:
        return typed.Call("make", message)

    def remind(self, message: coffee_pb2.Guest) -> None:
        self._ctx.exec_activity("remind", message)

    def call_remind(self, message: coffee_pb2.Guest) -> typed.Call[None]:
        return typed.Call("remind", message)

    def await_order(self, timeout: timedelta) -> coffee_pb2.Order | None:
        return self._await(1, coffee_pb2.Order, timeout)

    def await_pay(self, timeout: timedelta) -> coffee_pb2.Payment | None:
        return self._await(2, coffee_pb2.Payment, timeout)


def run_serve(client: replay.Client, run: str, message: coffee_pb2.Guest) -> bool:
    """Start a run of serve; False if its id is used already. Serves one guest."""
    return client.run_workflow(_NAMESPACE, "serve", run, message)


def signal_serve_order(
    client: replay.Client,
    run: str,
    message: coffee_pb2.Order,
    external_id: str,
) -> bool:
    """Send order to a run of serve; False if that `external_id` has been sent. Orders a coffee."""
    return client.signal_run(_NAMESPACE, "serve", run, 1, message, external_id)


def signal_serve_pay(
    client: replay.Client,
    run: str,
    message: coffee_pb2.Payment,
    external_id: str,
) -> bool:
    """Send pay to a run of serve; False if that `external_id` has been sent. Pays for all."""
    return client.signal_run(_NAMESPACE, "serve", run, 2, message, external_id)


def stream_serve(
    client: replay.Client,
    run: str = "",
    *,
    after: int = 0,
    from_head: bool = False,
    to_head: bool = False,
    lag: timedelta = timedelta(0),
) -> Iterator[replay.Event]:
    """The events of serve, or of one run, as `replay.Client.stream` gives them."""
    return client.stream(
        _NAMESPACE,
        "serve",
        run,
        after=after,
        from_head=from_head,
        to_head=to_head,
        lag=lag,
    )


def handle_serve_run(event: replay.Event, fn: Callable[[str, coffee_pb2.Guest], object]) -> None:
    """Call `fn` with run and input if the event begins an iteration of serve."""
    typed.handle(event, replay.EventType.RUN_CREATED, (_NAMESPACE, "serve"), "", fn)


def register_serve(
    client: replay.Client,
    fn: Callable[[ServeFlow, coffee_pb2.Guest], None],
    *,
    shard: replay.Shard | None = None,
    await_timeout: timedelta = timedelta(hours=1),
    max_cached: int = 10_000,
    metrics: typed.Metrics | None = None,
    start: bool = True,
) -> replay.Consumer:
    """Run serve by this function; the rest is as in `replay.register_workflow`."""
    typed.check_workflow(fn, "serve", coffee_pb2.Guest)

    def workflow(ctx: replay.RunContext, message: coffee_pb2.Guest) -> None:
        fn(_ServeFlow(ctx), message)

    return replay.register_workflow(
        client,
        _NAMESPACE,
        workflow,
        name="serve",
        shard=shard,
        await_timeout=await_timeout,
        max_cached=max_cached,
        metrics=metrics,
        start=start,
    )


def register_make(
    client: replay.Client,
    backends: None = None,
    *,
    shard: replay.Shard | None = None,
    workers: int = 1,
    metrics: typed.Metrics | None = None,
    start: bool = True,
) -> replay.Consumer:
    """Execute make when asked; the rest is as in `replay.register_activity`."""
    # Imported when it is called, since that module may import this one.
    from tutorial.lesson_02_signal.namespace import make as function

    return replay.register_activity(
        client,
        _NAMESPACE,
        function,
        backends,
        name="make",
        shard=shard,
        workers=workers,
        metrics=metrics,
        start=start,
    )


def register_remind(
    client: replay.Client,
    backends: None = None,
    *,
    shard: replay.Shard | None = None,
    workers: int = 1,
    metrics: typed.Metrics | None = None,
    start: bool = True,
) -> replay.Consumer:
    """Execute remind when asked; the rest is as in `replay.register_activity`."""
    # Imported when it is called, since that module may import this one.
    from tutorial.lesson_02_signal.namespace import remind as function

    return replay.register_activity(
        client,
        _NAMESPACE,
        function,
        backends,
        name="remind",
        shard=shard,
        workers=workers,
        metrics=metrics,
        start=start,
    )


def start_replay_loops(
    client: replay.Client,
    backends: None = None,
    *,
    serve: Callable[[ServeFlow, coffee_pb2.Guest], None],
    start: bool = True,
) -> list[replay.Consumer]:
    """Register all workflows and activities, each under its name in the definition."""
    return [
        register_serve(client, serve, start=start),
        register_make(client, start=start),
        register_remind(client, start=start),
    ]
