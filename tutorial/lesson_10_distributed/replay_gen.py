# Made by "typedreplay namespace.py" from that file: change it, not this one.
# fmt: off
# isort: skip_file
# flake8: noqa
# ruff: noqa
"""The namespace distributed."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator
from datetime import timedelta

import replay
from replay import typed

import tutorial.lesson_10_distributed.printing_pb2 as _printing_pb2

_NAMESPACE = 'distributed'


class DocumentFlow(typed.Flow, typing.Protocol):
    """The methods of the workflow document. Has a document printed and handed over."""

    def restart(self, message: _printing_pb2.Document) -> typing.NoReturn:
        """End this iteration and begin the next with `message`, in one transaction."""

    def render(self, message: _printing_pb2.Page) -> _printing_pb2.Sheet:
        """Execute the activity render. Prints a page."""

    def call_render(self, message: _printing_pb2.Page) -> typed.Call[_printing_pb2.Sheet]:
        """A call of render for `gather`, which executes it."""

    def await_received(self, timeout: timedelta) -> _printing_pb2.Receipt | None:
        """The next signal received, or None if none comes within `timeout`."""

    def emit_printed(self, message: _printing_pb2.Sheet) -> None:
        """Add the output printed. A page is printed."""

    def emit_complete(self, message: _printing_pb2.Document) -> None:
        """Add the output complete. All pages are printed."""


class _DocumentFlow(typed.RunFlow):
    def restart(self, message: _printing_pb2.Document) -> typing.NoReturn:
        self._ctx.restart(message)

    def render(self, message: _printing_pb2.Page) -> _printing_pb2.Sheet:
        return self._exec(self.call_render(message))

    def call_render(self, message: _printing_pb2.Page) -> typed.Call[_printing_pb2.Sheet]:
        return typed.Call("render", message)

    def await_received(self, timeout: timedelta) -> _printing_pb2.Receipt | None:
        return self._await(1, _printing_pb2.Receipt, timeout)

    def emit_printed(self, message: _printing_pb2.Sheet) -> None:
        self._ctx.emit_output("printed", message)

    def emit_complete(self, message: _printing_pb2.Document) -> None:
        self._ctx.emit_output("complete", message)


def run_document(client: replay.Client, run: str, message: _printing_pb2.Document) -> bool:
    """Start a run of document. False means that its id is used already."""
    return client.run_workflow(_NAMESPACE, "document", run, message)


def stream_document(
    client: replay.Client, run: str = "", **options: typing.Unpack[typed.StreamOptions]
) -> Iterator[replay.Event]:
    """The events of document, or of one run. The options are those of `replay.Client.stream`."""
    return client.stream(_NAMESPACE, "document", run, **options)


def handle_document_run(event: replay.Event, fn: Callable[[str, _printing_pb2.Document], object]) -> None:
    """Call `fn` with run and input if the event begins an iteration of document."""
    typed.handle(event, replay.EventType.RUN_CREATED, (_NAMESPACE, "document"), "", fn)


def register_document(
    client: replay.Client,
    fn: Callable[[DocumentFlow, _printing_pb2.Document], None],
    **options: typing.Unpack[typed.WorkflowOptions],
) -> replay.Consumer:
    """Run document by `fn`. The options are those of `replay.register_workflow`."""
    typed.check_workflow(fn, "document", _printing_pb2.Document)

    def workflow(ctx: replay.RunContext, message: _printing_pb2.Document) -> None:
        fn(_DocumentFlow(ctx), message)

    return replay.register_workflow(client, _NAMESPACE, workflow, name="document", **options)


def signal_document_received(
    client: replay.Client, run: str, message: _printing_pb2.Receipt, external_id: str
) -> bool:
    """Send received to a run of document. False means that `external_id` was sent before."""
    return client.signal_run(_NAMESPACE, "document", run, 1, message, external_id)


def handle_printed(event: replay.Event, fn: Callable[[str, _printing_pb2.Sheet], object]) -> None:
    """Call `fn` with run and message if the event is printed. A page is printed."""
    typed.handle(event, replay.EventType.RUN_OUTPUT, (_NAMESPACE, "document"), "printed", fn)


def handle_complete(event: replay.Event, fn: Callable[[str, _printing_pb2.Document], object]) -> None:
    """Call `fn` with run and message if the event is complete. All pages are printed."""
    typed.handle(event, replay.EventType.RUN_OUTPUT, (_NAMESPACE, "document"), "complete", fn)


def register_render(
    client: replay.Client, backends: int, **options: typing.Unpack[typed.ActivityOptions]
) -> replay.Consumer:
    """Execute render. The options are those of `replay.register_activity`."""
    # Imported here, since only a process that executes it needs this module.
    from tutorial.lesson_10_distributed.namespace import render as function

    return replay.register_activity(
        client, _NAMESPACE, function, backends, name="render", **options
    )


def start_replay_loops(
    client: replay.Client,
    backends: int,
    *,
    document: Callable[[DocumentFlow, _printing_pb2.Document], None],
    start: bool = True,
) -> list[replay.Consumer]:
    """Register all workflows and activities under their names in the definition."""
    return [
        register_document(client, document, start=start),
        register_render(client, backends, start=start),
    ]
