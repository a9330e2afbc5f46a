# Made by "typedreplay namespace.py" from that file: change it, not this one.
# isort: skip_file
"""The namespace sharding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import NoReturn, Protocol

import replay
from replay import typed

from tutorial.lesson_11_sharding import photos_pb2

_NAMESPACE = "sharding"


class PhotoFlow(typed.Flow, Protocol):
    """Has a photo developed."""

    def restart(self, message: photos_pb2.Photo) -> NoReturn:
        """End this iteration and begin the next with `message`, in one transaction."""
        ...

    def develop(self, message: photos_pb2.Photo) -> photos_pb2.Picture:
        """Develops a photo."""
        ...

    def call_develop(self, message: photos_pb2.Photo) -> typed.Call[photos_pb2.Picture]:
        """A call of develop for `gather`: nothing is asked for yet."""
        ...


class _PhotoFlow(typed.RunFlow):
    def restart(self, message: photos_pb2.Photo) -> NoReturn:
        self._ctx.restart(message)

    def develop(self, message: photos_pb2.Photo) -> photos_pb2.Picture:
        result: photos_pb2.Picture = self._ctx.exec_activity("develop", message)
        return result

    def call_develop(self, message: photos_pb2.Photo) -> typed.Call[photos_pb2.Picture]:
        return typed.Call("develop", message)


def run_photo(client: replay.Client, run: str, message: photos_pb2.Photo) -> bool:
    """Start a run of photo; False if its id is used already. Has a photo developed."""
    return client.run_workflow(_NAMESPACE, "photo", run, message)


def stream_photo(
    client: replay.Client,
    run: str = "",
    *,
    after: int = 0,
    from_head: bool = False,
    to_head: bool = False,
    lag: timedelta = timedelta(0),
) -> Iterator[replay.Event]:
    """The events of photo, or of one run, as `replay.Client.stream` gives them."""
    return client.stream(
        _NAMESPACE,
        "photo",
        run,
        after=after,
        from_head=from_head,
        to_head=to_head,
        lag=lag,
    )


def handle_photo_run(event: replay.Event, fn: Callable[[str, photos_pb2.Photo], object]) -> None:
    """Call `fn` with run and input if the event begins an iteration of photo."""
    typed.handle(event, replay.EventType.RUN_CREATED, (_NAMESPACE, "photo"), "", fn)


def register_photo(
    client: replay.Client,
    fn: Callable[[PhotoFlow, photos_pb2.Photo], None],
    *,
    shard: replay.Shard | None = None,
    await_timeout: timedelta = timedelta(hours=1),
    max_cached: int = 10_000,
    metrics: typed.Metrics | None = None,
    start: bool = True,
) -> replay.Consumer:
    """Run photo by this function; the rest is as in `replay.register_workflow`."""
    typed.check_workflow(fn, "photo", photos_pb2.Photo)

    def workflow(ctx: replay.RunContext, message: photos_pb2.Photo) -> None:
        fn(_PhotoFlow(ctx), message)

    return replay.register_workflow(
        client,
        _NAMESPACE,
        workflow,
        name="photo",
        shard=shard,
        await_timeout=await_timeout,
        max_cached=max_cached,
        metrics=metrics,
        start=start,
    )


def register_develop(
    client: replay.Client,
    backends: photos_pb2.Place,
    *,
    shard: replay.Shard | None = None,
    workers: int = 1,
    metrics: typed.Metrics | None = None,
    start: bool = True,
) -> replay.Consumer:
    """Execute develop when asked; the rest is as in `replay.register_activity`."""
    # Imported when it is called, since that module may import this one.
    from tutorial.lesson_11_sharding.namespace import develop as function

    return replay.register_activity(
        client,
        _NAMESPACE,
        function,
        backends,
        name="develop",
        shard=shard,
        workers=workers,
        metrics=metrics,
        start=start,
    )


def start_replay_loops(
    client: replay.Client,
    backends: photos_pb2.Place,
    *,
    photo: Callable[[PhotoFlow, photos_pb2.Photo], None],
    start: bool = True,
) -> list[replay.Consumer]:
    """Register all workflows and activities, each under its name in the definition."""
    return [
        register_photo(client, photo, start=start),
        register_develop(client, backends, start=start),
    ]
