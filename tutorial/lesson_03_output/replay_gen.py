# Made by "typedreplay namespace.py" from that file: change it, not this one.
# isort: skip_file
"""The namespace output."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import NoReturn, Protocol

import replay
from replay import typed

from tutorial.lesson_03_output import bakery_pb2

_NAMESPACE = "output"


class BakeryFlow(typed.Flow, Protocol):
    """Bakes some loaves."""

    def restart(self, message: bakery_pb2.Order) -> NoReturn:
        """End this iteration and begin the next with `message`, in one transaction."""
        ...

    def bake(self, message: bakery_pb2.Dough) -> bakery_pb2.Loaf:
        """Bakes a loaf."""
        ...

    def call_bake(self, message: bakery_pb2.Dough) -> typed.Call[bakery_pb2.Loaf]:
        """A call of bake for `gather`: nothing is asked for yet."""
        ...

    def carry(self, message: bakery_pb2.Loaf) -> None:
        """Carries a loaf to its eater."""
        ...

    def call_carry(self, message: bakery_pb2.Loaf) -> typed.Call[None]:
        """A call of carry for `gather`: nothing is asked for yet."""
        ...

    def emit_baked(self, message: bakery_pb2.Loaf) -> None:
        """A loaf is baked."""
        ...


class _BakeryFlow(typed.RunFlow):
    def restart(self, message: bakery_pb2.Order) -> NoReturn:
        self._ctx.restart(message)

    def bake(self, message: bakery_pb2.Dough) -> bakery_pb2.Loaf:
        result: bakery_pb2.Loaf = self._ctx.exec_activity("bake", message)
        return result

    def call_bake(self, message: bakery_pb2.Dough) -> typed.Call[bakery_pb2.Loaf]:
        return typed.Call("bake", message)

    def carry(self, message: bakery_pb2.Loaf) -> None:
        self._ctx.exec_activity("carry", message)

    def call_carry(self, message: bakery_pb2.Loaf) -> typed.Call[None]:
        return typed.Call("carry", message)

    def emit_baked(self, message: bakery_pb2.Loaf) -> None:
        self._ctx.emit_output("baked", message)


def run_bakery(client: replay.Client, run: str, message: bakery_pb2.Order) -> bool:
    """Start a run of bakery; False if its id is used already. Bakes some loaves."""
    return client.run_workflow(_NAMESPACE, "bakery", run, message)


def stream_bakery(
    client: replay.Client,
    run: str = "",
    *,
    after: int = 0,
    from_head: bool = False,
    to_head: bool = False,
    lag: timedelta = timedelta(0),
) -> Iterator[replay.Event]:
    """The events of bakery, or of one run, as `replay.Client.stream` gives them."""
    return client.stream(
        _NAMESPACE,
        "bakery",
        run,
        after=after,
        from_head=from_head,
        to_head=to_head,
        lag=lag,
    )


def handle_bakery_run(event: replay.Event, fn: Callable[[str, bakery_pb2.Order], object]) -> None:
    """Call `fn` with run and input if the event begins an iteration of bakery."""
    typed.handle(event, replay.EventType.RUN_CREATED, (_NAMESPACE, "bakery"), "", fn)


def handle_baked(event: replay.Event, fn: Callable[[str, bakery_pb2.Loaf], object]) -> None:
    """Call `fn` with run and message if the event is baked. A loaf is baked."""
    typed.handle(event, replay.EventType.RUN_OUTPUT, (_NAMESPACE, "bakery"), "baked", fn)


def register_bakery(
    client: replay.Client,
    fn: Callable[[BakeryFlow, bakery_pb2.Order], None],
    *,
    shard: replay.Shard | None = None,
    await_timeout: timedelta = timedelta(hours=1),
    max_cached: int = 10_000,
    metrics: typed.Metrics | None = None,
    start: bool = True,
) -> replay.Consumer:
    """Run bakery by this function; the rest is as in `replay.register_workflow`."""
    typed.check_workflow(fn, "bakery", bakery_pb2.Order)

    def workflow(ctx: replay.RunContext, message: bakery_pb2.Order) -> None:
        fn(_BakeryFlow(ctx), message)

    return replay.register_workflow(
        client,
        _NAMESPACE,
        workflow,
        name="bakery",
        shard=shard,
        await_timeout=await_timeout,
        max_cached=max_cached,
        metrics=metrics,
        start=start,
    )


class ParcelFlow(typed.Flow, Protocol):
    """Delivers one loaf."""

    def restart(self, message: bakery_pb2.Loaf) -> NoReturn:
        """End this iteration and begin the next with `message`, in one transaction."""
        ...

    def bake(self, message: bakery_pb2.Dough) -> bakery_pb2.Loaf:
        """Bakes a loaf."""
        ...

    def call_bake(self, message: bakery_pb2.Dough) -> typed.Call[bakery_pb2.Loaf]:
        """A call of bake for `gather`: nothing is asked for yet."""
        ...

    def carry(self, message: bakery_pb2.Loaf) -> None:
        """Carries a loaf to its eater."""
        ...

    def call_carry(self, message: bakery_pb2.Loaf) -> typed.Call[None]:
        """A call of carry for `gather`: nothing is asked for yet."""
        ...


class _ParcelFlow(typed.RunFlow):
    def restart(self, message: bakery_pb2.Loaf) -> NoReturn:
        self._ctx.restart(message)

    def bake(self, message: bakery_pb2.Dough) -> bakery_pb2.Loaf:
        result: bakery_pb2.Loaf = self._ctx.exec_activity("bake", message)
        return result

    def call_bake(self, message: bakery_pb2.Dough) -> typed.Call[bakery_pb2.Loaf]:
        return typed.Call("bake", message)

    def carry(self, message: bakery_pb2.Loaf) -> None:
        self._ctx.exec_activity("carry", message)

    def call_carry(self, message: bakery_pb2.Loaf) -> typed.Call[None]:
        return typed.Call("carry", message)


def run_parcel(client: replay.Client, run: str, message: bakery_pb2.Loaf) -> bool:
    """Start a run of parcel; False if its id is used already. Delivers one loaf."""
    return client.run_workflow(_NAMESPACE, "parcel", run, message)


def stream_parcel(
    client: replay.Client,
    run: str = "",
    *,
    after: int = 0,
    from_head: bool = False,
    to_head: bool = False,
    lag: timedelta = timedelta(0),
) -> Iterator[replay.Event]:
    """The events of parcel, or of one run, as `replay.Client.stream` gives them."""
    return client.stream(
        _NAMESPACE,
        "parcel",
        run,
        after=after,
        from_head=from_head,
        to_head=to_head,
        lag=lag,
    )


def handle_parcel_run(event: replay.Event, fn: Callable[[str, bakery_pb2.Loaf], object]) -> None:
    """Call `fn` with run and input if the event begins an iteration of parcel."""
    typed.handle(event, replay.EventType.RUN_CREATED, (_NAMESPACE, "parcel"), "", fn)


def register_parcel(
    client: replay.Client,
    fn: Callable[[ParcelFlow, bakery_pb2.Loaf], None],
    *,
    shard: replay.Shard | None = None,
    await_timeout: timedelta = timedelta(hours=1),
    max_cached: int = 10_000,
    metrics: typed.Metrics | None = None,
    start: bool = True,
) -> replay.Consumer:
    """Run parcel by this function; the rest is as in `replay.register_workflow`."""
    typed.check_workflow(fn, "parcel", bakery_pb2.Loaf)

    def workflow(ctx: replay.RunContext, message: bakery_pb2.Loaf) -> None:
        fn(_ParcelFlow(ctx), message)

    return replay.register_workflow(
        client,
        _NAMESPACE,
        workflow,
        name="parcel",
        shard=shard,
        await_timeout=await_timeout,
        max_cached=max_cached,
        metrics=metrics,
        start=start,
    )


def register_bake(
    client: replay.Client,
    backends: None = None,
    *,
    shard: replay.Shard | None = None,
    workers: int = 1,
    metrics: typed.Metrics | None = None,
    start: bool = True,
) -> replay.Consumer:
    """Execute bake when asked; the rest is as in `replay.register_activity`."""
    # Imported when it is called, since that module may import this one.
    from tutorial.lesson_03_output.namespace import bake as function

    return replay.register_activity(
        client,
        _NAMESPACE,
        function,
        backends,
        name="bake",
        shard=shard,
        workers=workers,
        metrics=metrics,
        start=start,
    )


def register_carry(
    client: replay.Client,
    backends: None = None,
    *,
    shard: replay.Shard | None = None,
    workers: int = 1,
    metrics: typed.Metrics | None = None,
    start: bool = True,
) -> replay.Consumer:
    """Execute carry when asked; the rest is as in `replay.register_activity`."""
    # Imported when it is called, since that module may import this one.
    from tutorial.lesson_03_output.namespace import carry as function

    return replay.register_activity(
        client,
        _NAMESPACE,
        function,
        backends,
        name="carry",
        shard=shard,
        workers=workers,
        metrics=metrics,
        start=start,
    )


def start_replay_loops(
    client: replay.Client,
    backends: None = None,
    *,
    bakery: Callable[[BakeryFlow, bakery_pb2.Order], None],
    parcel: Callable[[ParcelFlow, bakery_pb2.Loaf], None],
    start: bool = True,
) -> list[replay.Consumer]:
    """Register all workflows and activities, each under its name in the definition."""
    return [
        register_bakery(client, bakery, start=start),
        register_parcel(client, parcel, start=start),
        register_bake(client, start=start),
        register_carry(client, start=start),
    ]
