# Made by "typedreplay namespace.py" from that file: change it, not this one.
# fmt: off
# isort: skip_file
# flake8: noqa
# ruff: noqa
"""The namespace typed_hello."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator

import replay
from replay import typed

import tutorial.lesson_01_typed_hello.hello_pb2 as _hello_pb2

_NAMESPACE = 'typed_hello'


class HelloFlow(typed.Flow, typing.Protocol):
    """The methods of the workflow hello. Greets in three languages."""

    def restart(self, message: _hello_pb2.Name) -> typing.NoReturn:
        """End this iteration and begin the next with `message`, in one transaction."""

    def translate(self, message: _hello_pb2.Word) -> _hello_pb2.Word:
        """Execute the activity translate. The word in its language."""

    def call_translate(self, message: _hello_pb2.Word) -> typed.Call[_hello_pb2.Word]:
        """A call of translate for `gather`, which executes it."""

    def say(self, message: _hello_pb2.Greeting) -> None:
        """Execute the activity say. Says it aloud."""

    def call_say(self, message: _hello_pb2.Greeting) -> typed.Call[None]:
        """A call of say for `gather`, which executes it."""


class _HelloFlow(typed.RunFlow):
    def restart(self, message: _hello_pb2.Name) -> typing.NoReturn:
        self._ctx.restart(message)

    def translate(self, message: _hello_pb2.Word) -> _hello_pb2.Word:
        return self._exec(self.call_translate(message))

    def call_translate(self, message: _hello_pb2.Word) -> typed.Call[_hello_pb2.Word]:
        return typed.Call("translate", message)

    def say(self, message: _hello_pb2.Greeting) -> None:
        return self._exec(self.call_say(message))

    def call_say(self, message: _hello_pb2.Greeting) -> typed.Call[None]:
        return typed.Call("say", message)


def run_hello(client: replay.Client, run: str, message: _hello_pb2.Name) -> bool:
    """Start a run of hello. False means that its id is used already."""
    return client.run_workflow(_NAMESPACE, "hello", run, message)


def stream_hello(
    client: replay.Client, run: str = "", **options: typing.Unpack[typed.StreamOptions]
) -> Iterator[replay.Event]:
    """The events of hello, or of one run. The options are those of `replay.Client.stream`."""
    return client.stream(_NAMESPACE, "hello", run, **options)


def handle_hello_run(event: replay.Event, fn: Callable[[str, _hello_pb2.Name], object]) -> None:
    """Call `fn` with run and input if the event begins an iteration of hello."""
    typed.handle(event, replay.EventType.RUN_CREATED, (_NAMESPACE, "hello"), "", fn)


def register_hello(
    client: replay.Client,
    fn: Callable[[HelloFlow, _hello_pb2.Name], None],
    **options: typing.Unpack[typed.WorkflowOptions],
) -> replay.Consumer:
    """Run hello by `fn`. The options are those of `replay.register_workflow`."""
    typed.check_workflow(fn, "hello", _hello_pb2.Name)

    def workflow(ctx: replay.RunContext, message: _hello_pb2.Name) -> None:
        fn(_HelloFlow(ctx), message)

    return replay.register_workflow(client, _NAMESPACE, workflow, name="hello", **options)


def register_translate(
    client: replay.Client, backends: dict[str, str], **options: typing.Unpack[typed.ActivityOptions]
) -> replay.Consumer:
    """Execute translate. The options are those of `replay.register_activity`."""
    # Imported here, since only a process that executes it needs this module.
    from tutorial.lesson_01_typed_hello.namespace import translate as function

    return replay.register_activity(
        client, _NAMESPACE, function, backends, name="translate", **options
    )


def register_say(
    client: replay.Client, backends: None = None, **options: typing.Unpack[typed.ActivityOptions]
) -> replay.Consumer:
    """Execute say. The options are those of `replay.register_activity`."""
    # Imported here, since only a process that executes it needs this module.
    from tutorial.lesson_01_typed_hello.namespace import say as function

    return replay.register_activity(
        client, _NAMESPACE, function, backends, name="say", **options
    )


def start_replay_loops(
    client: replay.Client,
    backends: dict[str, str],
    *,
    hello: Callable[[HelloFlow, _hello_pb2.Name], None],
    start: bool = True,
) -> list[replay.Consumer]:
    """Register all workflows and activities under their names in the definition."""
    return [
        register_hello(client, hello, start=start),
        register_translate(client, backends, start=start),
        register_say(client, start=start),
    ]
