# Made by "typedreplay namespace.py" from that file: change it, not this one.
# isort: skip_file
"""The namespace distributed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import NoReturn, Protocol

import replay
from replay import typed

from tutorial.lesson_10_distributed import printing_pb2

_NAMESPACE = "distributed"


class DocumentFlow(typed.Flow, Protocol):
    """Has a document printed and handed over."""

    def restart(self, message: printing_pb2.Document) -> NoReturn:
        """End this iteration and begin the next with `message`, in one transaction."""
        ...

    def render(self, message: printing_pb2.Page) -> printing_pb2.Sheet:
        """Prints a page."""
        ...

    def call_render(self, message: printing_pb2.Page) -> typed.Call[printing_pb2.Sheet]:
        """A call of render for `gather`: nothing is asked for yet."""
        ...

    def await_received(self, timeout: timedelta) -> printing_pb2.Receipt | None:
        """The next signal received; None if none comes within `timeout`."""
        ...

    def emit_printed(self, message: printing_pb2.Sheet) -> None:
        """A page is printed."""
        ...

    def emit_complete(self, message: printing_pb2.Document) -> None:
        """All pages are printed."""
        ...


class _DocumentFlow(typed.RunFlow):
    def restart(self, message: printing_pb2.Document) -> NoReturn:
        self._ctx.restart(message)

    def render(self, message: printing_pb2.Page) -> printing_pb2.Sheet:
        result: printing_pb2.Sheet = self._ctx.exec_activity("render", message)
        return result

    def call_render(self, message: printing_pb2.Page) -> typed.Call[printing_pb2.Sheet]:
        return typed.Call("render", message)

    def await_received(self, timeout: timedelta) -> printing_pb2.Receipt | None:
        return self._await(1, printing_pb2.Receipt, timeout)

    def emit_printed(self, message: printing_pb2.Sheet) -> None:
        self._ctx.emit_output("printed", message)

    def emit_complete(self, message: printing_pb2.Document) -> None:
        self._ctx.emit_output("complete", message)


def run_document(client: replay.Client, run: str, message: printing_pb2.Document) -> bool:
    """Start a run of document; False if its id is used already. Has a document printed and
    handed over.
    """
    return client.run_workflow(_NAMESPACE, "document", run, message)


def signal_document_received(
    client: replay.Client,
    run: str,
    message: printing_pb2.Receipt,
    external_id: str,
) -> bool:
    """Send received to a run of document; False if that `external_id` has been sent."""
    return client.signal_run(_NAMESPACE, "document", run, 1, message, external_id)


def stream_document(
    client: replay.Client,
    run: str = "",
    *,
    after: int = 0,
    from_head: bool = False,
    to_head: bool = False,
    lag: timedelta = timedelta(0),
) -> Iterator[replay.Event]:
    """The events of document, or of one run, as `replay.Client.stream` gives them."""
    return client.stream(
        _NAMESPACE,
        "document",
        run,
        after=after,
        from_head=from_head,
        to_head=to_head,
        lag=lag,
    )


def handle_document_run(
    event: replay.Event, fn: Callable[[str, printing_pb2.Document], object]
) -> None:
    """Call `fn` with run and input if the event begins an iteration of document."""
    typed.handle(event, replay.EventType.RUN_CREATED, (_NAMESPACE, "document"), "", fn)


def handle_printed(event: replay.Event, fn: Callable[[str, printing_pb2.Sheet], object]) -> None:
    """Call `fn` with run and message if the event is printed. A page is printed."""
    typed.handle(event, replay.EventType.RUN_OUTPUT, (_NAMESPACE, "document"), "printed", fn)


def handle_complete(
    event: replay.Event, fn: Callable[[str, printing_pb2.Document], object]
) -> None:
    """Call `fn` with run and message if the event is complete. All pages are printed."""
    typed.handle(event, replay.EventType.RUN_OUTPUT, (_NAMESPACE, "document"), "complete", fn)


def register_document(
    client: replay.Client,
    fn: Callable[[DocumentFlow, printing_pb2.Document], None],
    *,
    shard: replay.Shard | None = None,
    await_timeout: timedelta = timedelta(hours=1),
    max_cached: int = 10_000,
    metrics: typed.Metrics | None = None,
    start: bool = True,
) -> replay.Consumer:
    """Run document by this function; the rest is as in `replay.register_workflow`."""
    typed.check_workflow(fn, "document", printing_pb2.Document)

    def workflow(ctx: replay.RunContext, message: printing_pb2.Document) -> None:
        fn(_DocumentFlow(ctx), message)

    return replay.register_workflow(
        client,
        _NAMESPACE,
        workflow,
        name="document",
        shard=shard,
        await_timeout=await_timeout,
        max_cached=max_cached,
        metrics=metrics,
        start=start,
    )


def register_render(
    client: replay.Client,
    backends: int,
    *,
    shard: replay.Shard | None = None,
    workers: int = 1,
    metrics: typed.Metrics | None = None,
    start: bool = True,
) -> replay.Consumer:
    """Execute render when asked; the rest is as in `replay.register_activity`."""
    # Imported when it is called, since that module may import this one.
    from tutorial.lesson_10_distributed.namespace import render as function

    return replay.register_activity(
        client,
        _NAMESPACE,
        function,
        backends,
        name="render",
        shard=shard,
        workers=workers,
        metrics=metrics,
        start=start,
    )


def start_replay_loops(
    client: replay.Client,
    backends: int,
    *,
    document: Callable[[DocumentFlow, printing_pb2.Document], None],
    start: bool = True,
) -> list[replay.Consumer]:
    """Register all workflows and activities, each under its name in the definition."""
    return [
        register_document(client, document, start=start),
        register_render(client, backends, start=start),
    ]
