# Made by "typedreplay namespace.py" from that file: change it, not this one.
# isort: skip_file
"""The namespace restart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import NoReturn, Protocol

import replay
from replay import typed

from tutorial.lesson_04_restart import till_pb2

_NAMESPACE = "restart"


class TillFlow(typed.Flow, Protocol):
    """Takes payments, for ever."""

    def restart(self, message: till_pb2.Till) -> NoReturn:
        """End this iteration and begin the next with `message`, in one transaction."""
        ...

    def book(self, message: till_pb2.Payment) -> None:
        """Enters it into the books."""
        ...

    def call_book(self, message: till_pb2.Payment) -> typed.Call[None]:
        """A call of book for `gather`: nothing is asked for yet."""
        ...

    def await_paid(self, timeout: timedelta) -> till_pb2.Payment | None:
        """The next signal paid; None if none comes within `timeout`."""
        ...


class _TillFlow(typed.RunFlow):
    def restart(self, message: till_pb2.Till) -> NoReturn:
        self._ctx.restart(message)

    def book(self, message: till_pb2.Payment) -> None:
        self._ctx.exec_activity("book", message)

    def call_book(self, message: till_pb2.Payment) -> typed.Call[None]:
        return typed.Call("book", message)

    def await_paid(self, timeout: timedelta) -> till_pb2.Payment | None:
        return self._await(1, till_pb2.Payment, timeout)


def run_till(client: replay.Client, run: str, message: till_pb2.Till) -> bool:
    """Start a run of till; False if its id is used already. Takes payments, for ever."""
    return client.run_workflow(_NAMESPACE, "till", run, message)


def signal_till_paid(
    client: replay.Client,
    run: str,
    message: till_pb2.Payment,
    external_id: str,
) -> bool:
    """Send paid to a run of till; False if that `external_id` has been sent."""
    return client.signal_run(_NAMESPACE, "till", run, 1, message, external_id)


def stream_till(
    client: replay.Client,
    run: str = "",
    *,
    after: int = 0,
    from_head: bool = False,
    to_head: bool = False,
    lag: timedelta = timedelta(0),
) -> Iterator[replay.Event]:
    """The events of till, or of one run, as `replay.Client.stream` gives them."""
    return client.stream(
        _NAMESPACE,
        "till",
        run,
        after=after,
        from_head=from_head,
        to_head=to_head,
        lag=lag,
    )


def handle_till_run(event: replay.Event, fn: Callable[[str, till_pb2.Till], object]) -> None:
    """Call `fn` with run and input if the event begins an iteration of till."""
    typed.handle(event, replay.EventType.RUN_CREATED, (_NAMESPACE, "till"), "", fn)


def register_till(
    client: replay.Client,
    fn: Callable[[TillFlow, till_pb2.Till], None],
    *,
    shard: replay.Shard | None = None,
    await_timeout: timedelta = timedelta(hours=1),
    max_cached: int = 10_000,
    metrics: typed.Metrics | None = None,
    start: bool = True,
) -> replay.Consumer:
    """Run till by this function; the rest is as in `replay.register_workflow`."""
    typed.check_workflow(fn, "till", till_pb2.Till)

    def workflow(ctx: replay.RunContext, message: till_pb2.Till) -> None:
        fn(_TillFlow(ctx), message)

    return replay.register_workflow(
        client,
        _NAMESPACE,
        workflow,
        name="till",
        shard=shard,
        await_timeout=await_timeout,
        max_cached=max_cached,
        metrics=metrics,
        start=start,
    )


def register_book(
    client: replay.Client,
    backends: None = None,
    *,
    shard: replay.Shard | None = None,
    workers: int = 1,
    metrics: typed.Metrics | None = None,
    start: bool = True,
) -> replay.Consumer:
    """Execute book when asked; the rest is as in `replay.register_activity`."""
    # Imported when it is called, since that module may import this one.
    from tutorial.lesson_04_restart.namespace import book as function

    return replay.register_activity(
        client,
        _NAMESPACE,
        function,
        backends,
        name="book",
        shard=shard,
        workers=workers,
        metrics=metrics,
        start=start,
    )


def start_replay_loops(
    client: replay.Client,
    backends: None = None,
    *,
    till: Callable[[TillFlow, till_pb2.Till], None],
    start: bool = True,
) -> list[replay.Consumer]:
    """Register all workflows and activities, each under its name in the definition."""
    return [
        register_till(client, till, start=start),
        register_book(client, start=start),
    ]
