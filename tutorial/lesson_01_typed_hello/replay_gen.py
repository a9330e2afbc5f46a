# Made by "typedreplay namespace.py" from that file: change it, not this one.
# isort: skip_file
"""The namespace typed_hello."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import NoReturn, Protocol

import replay
from replay import typed

from tutorial.lesson_01_typed_hello import hello_pb2

_NAMESPACE = "typed_hello"


class HelloFlow(typed.Flow, Protocol):
    """Greets in three languages."""

    def restart(self, message: hello_pb2.Name) -> NoReturn:
        """End this iteration and begin the next with `message`, in one transaction."""
        ...

    def translate(self, message: hello_pb2.Word) -> hello_pb2.Word:
        """The word in its language."""
        ...

    def call_translate(self, message: hello_pb2.Word) -> typed.Call[hello_pb2.Word]:
        """A call of translate for `gather`: nothing is asked for yet."""
        ...

    def say(self, message: hello_pb2.Greeting) -> None:
        """Says it aloud."""
        ...

    def call_say(self, message: hello_pb2.Greeting) -> typed.Call[None]:
        """A call of say for `gather`: nothing is asked for yet."""
        ...


class _HelloFlow(typed.RunFlow):
    def restart(self, message: hello_pb2.Name) -> NoReturn:
        self._ctx.restart(message)

    def translate(self, message: hello_pb2.Word) -> hello_pb2.Word:
        result: hello_pb2.Word = self._ctx.exec_activity("translate", message)
        return result

    def call_translate(self, message: hello_pb2.Word) -> typed.Call[hello_pb2.Word]:
        return typed.Call("translate", message)

    def say(self, message: hello_pb2.Greeting) -> None:
        self._ctx.exec_activity("say", message)

    def call_say(self, message: hello_pb2.Greeting) -> typed.Call[None]:
        return typed.Call("say", message)


def run_hello(client: replay.Client, run: str, message: hello_pb2.Name) -> bool:
    """Start a run of hello; False if its id is used already. Greets in three languages."""
    return client.run_workflow(_NAMESPACE, "hello", run, message)


def stream_hello(
    client: replay.Client,
    run: str = "",
    *,
    after: int = 0,
    from_head: bool = False,
    to_head: bool = False,
    lag: timedelta = timedelta(0),
) -> Iterator[replay.Event]:
    """The events of hello, or of one run, as `replay.Client.stream` gives them."""
    return client.stream(
        _NAMESPACE,
        "hello",
        run,
        after=after,
        from_head=from_head,
        to_head=to_head,
        lag=lag,
    )


def handle_hello_run(event: replay.Event, fn: Callable[[str, hello_pb2.Name], object]) -> None:
    """Call `fn` with run and input if the event begins an iteration of hello."""
    typed.handle(event, replay.EventType.RUN_CREATED, (_NAMESPACE, "hello"), "", fn)


def register_hello(
    client: replay.Client,
    fn: Callable[[HelloFlow, hello_pb2.Name], None],
    *,
    shard: replay.Shard | None = None,
    await_timeout: timedelta = timedelta(hours=1),
    max_cached: int = 10_000,
    metrics: typed.Metrics | None = None,
    start: bool = True,
) -> replay.Consumer:
    """Run hello by this function; the rest is as in `replay.register_workflow`."""
    typed.check_workflow(fn, "hello", hello_pb2.Name)

    def workflow(ctx: replay.RunContext, message: hello_pb2.Name) -> None:
        fn(_HelloFlow(ctx), message)

    return replay.register_workflow(
        client,
        _NAMESPACE,
        workflow,
        name="hello",
        shard=shard,
        await_timeout=await_timeout,
        max_cached=max_cached,
        metrics=metrics,
        start=start,
    )


def register_translate(
    client: replay.Client,
    backends: dict[str, str],
    *,
    shard: replay.Shard | None = None,
    workers: int = 1,
    metrics: typed.Metrics | None = None,
    start: bool = True,
) -> replay.Consumer:
    """Execute translate when asked; the rest is as in `replay.register_activity`."""
    # Imported when it is called, since that module may import this one.
    from tutorial.lesson_01_typed_hello.namespace import translate as function

    return replay.register_activity(
        client,
        _NAMESPACE,
        function,
        backends,
        name="translate",
        shard=shard,
        workers=workers,
        metrics=metrics,
        start=start,
    )


def register_say(
    client: replay.Client,
    backends: None = None,
    *,
    shard: replay.Shard | None = None,
    workers: int = 1,
    metrics: typed.Metrics | None = None,
    start: bool = True,
) -> replay.Consumer:
    """Execute say when asked; the rest is as in `replay.register_activity`."""
    # Imported when it is called, since that module may import this one.
    from tutorial.lesson_01_typed_hello.namespace import say as function

    return replay.register_activity(
        client,
        _NAMESPACE,
        function,
        backends,
        name="say",
        shard=shard,
        workers=workers,
        metrics=metrics,
        start=start,
    )


def start_replay_loops(
    client: replay.Client,
    backends: dict[str, str],
    *,
    hello: Callable[[HelloFlow, hello_pb2.Name], None],
    start: bool = True,
) -> list[replay.Consumer]:
    """Register all workflows and activities, each under its name in the definition."""
    return [
        register_hello(client, hello, start=start),
        register_translate(client, backends, start=start),
        register_say(client, start=start),
    ]
