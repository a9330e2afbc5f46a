"""A server and its clients in one thread: the library's own code but for gRPC between them.

A `Channel` is a client's connection.  Each call runs the server's event loop until it is answered,
so nothing happens at the same time.  Calls to the database run in the loop, where a server has
threads for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any
from unittest.mock import patch

import grpc

from replay import Client
from replay.log import Log
from replay.server import server as server_module
from replay.server.host import Host
from replay.server.limits import Work
from replay.server.options import Options
from tests.simulation.faults import Faults, Killed, Port

#: Calls that store something: they take the faults of transactions.
WRITING = ("Commit", "Claim", "Release", "RunWorkflow", "SignalRun", "Prune")


class Broken(grpc.RpcError):
    """A call that failed, as gRPC tells its client."""

    def __init__(self, code: grpc.StatusCode, details: str, metadata: Any = ()) -> None:
        super().__init__(details)
        self._meaning = code, details, metadata

    def code(self) -> grpc.StatusCode:
        """As in `grpc.RpcError`."""
        return self._meaning[0]

    def details(self) -> str:
        """As in `grpc.RpcError`."""
        return self._meaning[1]

    def trailing_metadata(self) -> Any:
        """As in `grpc.RpcError`."""
        return self._meaning[2]


def gone(details: str) -> Broken:
    """The connection was lost, or could not be made."""
    return Broken(grpc.StatusCode.UNAVAILABLE, details)


class _Context:
    """What a handler sees of its call, and, if the call streams, of its requests."""

    def __init__(self, asked: asyncio.Queue[bytes] | None = None) -> None:
        self._asked = asked
        self._code, self._details, self._metadata = grpc.StatusCode.OK, "", ()

    def check(self) -> None:
        """Raise `Broken` if the call ended with an error."""
        if self._code is not grpc.StatusCode.OK:
            raise Broken(self._code, self._details, self._metadata)

    async def read(self) -> bytes:
        assert self._asked is not None
        return await self._asked.get()

    def invocation_metadata(self) -> Any:
        return ()

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    def set_code(self, code: grpc.StatusCode) -> None:
        self._code = code

    def set_details(self, details: str) -> None:
        self._details = details

    def set_trailing_metadata(self, metadata: Any) -> None:
        self._metadata = metadata


class _Details:
    invocation_metadata = ()

    def __init__(self, method: str) -> None:
        self.method = method


class _Loop(asyncio.SelectorEventLoop):
    """Does in the loop for what there are threads.  A client's turn is over without a rest (G5)."""

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Any, *arguments: Any, **options: Any
    ) -> asyncio.Handle:
        if isinstance(getattr(callback, "__self__", None), Work | asyncio.Lock):
            return self.call_soon(callback, *arguments, **options)
        return super().call_later(delay, callback, *arguments, **options)

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, function: Any, *arguments: Any
    ) -> Any:
        future = self.create_future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future


class _SteppedHost(Host):
    """A log whose sleeps and signals are served when the world steps them."""

    def start(self) -> None:
        self._hear()


class _Listener:
    """Stands in for gRPC's server: keeps the handlers, for a channel to call."""

    def __init__(self, **_: object) -> None:
        self.handlers: list[Any] = []

    def add_generic_rpc_handlers(self, handlers: Iterable[Any]) -> None:
        self.handlers += handlers

    def add_registered_method_handlers(self, *_: object) -> None:
        """The generic ones are enough."""

    def add_insecure_port(self, address: str) -> int:
        return 1

    async def start(self) -> None:
        """Nothing to listen to."""


class Server:
    """One server's process."""

    def __init__(self, port: Port) -> None:
        self.port = port
        self.client = Client(Log(port), loops=False)
        self._loop = _Loop()
        self._later: list[asyncio.Task[Any]] = []
        self.stands_still = False
        self._listener = _Listener()
        with (
            patch("replay.server.server.open_client", lambda url: self.client),
            patch("replay.server.server.Host", _SteppedHost),
            patch.object(grpc.aio, "server", lambda **_: self._listener),
        ):
            self._loop.run_until_complete(self._start())

    async def _start(self) -> None:
        server = server_module.Server(Options(databases={"": "sqlite://"}))
        await server.start()
        self.host: Host = server._hosts.of("")

    def still(self) -> bool:
        """Whether it stands still, at a statement for a call or for its own consumers."""
        return self.stands_still or self._loop.is_running()

    def handler(self, method: str) -> Any:
        """The handler of a method, by its full name."""
        return next(h for each in self._listener.handlers if (h := each.service(_Details(method))))

    def begin(self, work: Any) -> asyncio.Task[Any]:
        """Begin a call."""
        if self.still() or self._loop.is_closed():
            work.close()
            if self.port.dead:
                raise gone("failed to connect: the server is not up yet")
            # It stands still at a statement.
            raise Broken(grpc.StatusCode.DEADLINE_EXCEEDED, "no answer")
        return self._loop.create_task(work)

    def turn(self, until: Callable[[], bool]) -> bool:
        """Turn the loop until this is true; False if it will not be."""
        idle = False
        while not (idle or until() or self.still()):
            self._loop.call_soon(self._loop.stop)
            self._loop.run_forever()
            idle = not self._loop._ready  # type: ignore[attr-defined]
        return until()

    def cancel(self, task: asyncio.Task[Any]) -> None:
        """A client is gone: end its call, as soon as this process goes on."""
        self._later.append(task)
        self.settle()

    def settle(self) -> None:
        """Let all come to rest."""
        if self.still() or self._loop.is_closed():
            return
        later, self._later = self._later, []
        for task in later:
            task.cancel()
        self.turn(lambda: not self.host._tasks and all(task.done() for task in later))

    def die(self, *, half_open: bool) -> None:
        """Nothing of it goes on, and nobody is answered."""
        self.port.die(half_open=half_open)
        self.stands_still = False
        for consumer in self.client.loops():
            consumer._forget()
        while tasks := asyncio.all_tasks(self._loop):
            for task in tasks:
                task.cancel()
            self.turn(lambda: False)
        self._loop.close()


class Channel:
    """A client's way to the server that runs just then; stands in for a `grpc.Channel`."""

    def __init__(self, server: Callable[[], Server], faults: Faults, fallen: Callable[[], None]):
        self.dead = False
        self._server = server
        self._faults = faults
        self._fallen = fallen
        self._streams: list[Stream] = []
        self.sessions: set[str] = set()  # all that it has had

    # What `Stubs` and `RemoteClient` use.

    def unary_unary(self, method: str, **coding: Any) -> Any:
        """As in `grpc.Channel`."""
        return partial(self._unary, method, coding)

    def unary_stream(self, method: str, **coding: Any) -> Any:
        """As in `grpc.Channel`."""
        return partial(self._stream, method, coding, single=True)

    def stream_stream(self, method: str, **coding: Any) -> Any:
        """As in `grpc.Channel`."""
        return partial(self._stream, method, coding, single=False)

    def subscribe(self, callback: Callable[[Any], None], try_to_connect: bool = False) -> None:
        """As in `grpc.Channel`."""
        callback(grpc.ChannelConnectivity.READY)

    def unsubscribe(self, callback: object) -> None:
        """As in `grpc.Channel`."""

    def close(self) -> None:
        """As in `grpc.Channel`."""
        self.die()

    # What the world does.

    def die(self, *, half_open: bool = False) -> None:
        """The process is gone; the server notices, unless the connection is half open."""
        self.dead = True
        if not half_open:
            self.drop()

    def drop(self) -> None:
        """The connection is lost; the server notices."""
        streams, self._streams = self._streams, []
        for stream in streams:
            stream.end()

    # Calls.

    def _unary(self, method: str, coding: Any, request: Any, **_: object) -> Any:
        def call() -> bytes:
            server = self._server()
            context = _Context()
            task = server.begin(server.handler(method).unary_unary(raw, context))
            return bytes(outcome(server, task, context))

        raw = coding["request_serializer"](request)
        return coding["response_deserializer"](self.exchange(method, call))

    def _stream(
        self, method: str, coding: Any, request: Any, *, single: bool, **_: object
    ) -> Stream:
        stream = Stream(self, self._server(), method, coding, request, single)
        self._streams.append(stream)
        return stream

    def exchange(self, method: str, call: Callable[[], bytes]) -> bytes:
        """One request and its reply, with what happens before and after."""
        if self.dead:
            raise gone("the process is dead")
        due = self._faults.due(method.rpartition("/")[2] in WRITING)
        if due in ("lost", "not committed", "undone"):
            self.drop()
            raise gone("fault: lost before the call")
        if due == "killed within":
            raise Killed
        try:
            reply = call()
        finally:
            if self._server().port.dead:
                self._fallen()
        if due == "killed after":
            raise Killed
        if due in ("lost after", "committed"):
            self.drop()
            raise gone("fault: lost after the call")
        return reply


def outcome(server: Server, task: asyncio.Task[Any], context: _Context) -> Any:
    """What a call returned, or `Broken`."""
    if not server.turn(task.done):
        task.cancel()
        raise Broken(grpc.StatusCode.DEADLINE_EXCEEDED, "no answer")
    error = None if task.cancelled() else task.exception()  # else asyncio says that nobody looked
    if task.cancelled() or server.port.dead:
        raise gone("the server is gone")
    if error is not None:
        raise error
    context.check()
    return task.result()


class Stream:
    """A client's end of a streaming call."""

    def __init__(
        self, channel: Channel, server: Server, method: str, coding: Any, request: Any, single: bool
    ) -> None:
        self._channel = channel
        self._server = server
        self._method = method
        self._encode = coding["request_serializer"]
        self._decode = coding["response_deserializer"]
        self._request = request
        self._single = single
        self._broken = False
        self._asked: asyncio.Queue[bytes] = asyncio.Queue()
        self._context = _Context(self._asked)
        self._answers: list[bytes] = []
        self._task: asyncio.Task[Any] | None = None

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            answer = self._decode(self._channel.exchange(self._method, self._next))
        except Broken:
            self._broken = True
            raise
        self._channel.sessions.add(getattr(answer, "session", ""))
        return answer

    def cancel(self) -> None:
        """As in `grpc.Call`.  A server hears nothing of it from a process that is dead."""
        self._broken = True
        if not self._channel.dead:
            self.end()

    def end(self) -> None:
        """The server notices that it is over."""
        self._broken = True
        if self._task is not None:
            self._server.cancel(self._task)

    def _next(self) -> bytes:
        if self._broken or self._server.port.dead:
            raise gone("the connection was lost")
        if self._task is None:
            self._task = self._server.begin(self._pump())
        task = self._task
        while not self._server.turn(lambda: bool(self._answers) or task.done()):
            if self._single:
                raise Broken(grpc.StatusCode.DEADLINE_EXCEEDED, "no answer")
            self._asked.put_nowait(self._encode(next(self._request)))
        if self._answers and not self._server.port.dead:
            return self._answers.pop(0)
        outcome(self._server, task, self._context)
        raise StopIteration

    async def _pump(self) -> None:
        handler = self._server.handler(self._method)
        if self._single:
            answers = handler.unary_stream(self._encode(self._request), self._context)
        else:
            answers = handler.stream_stream(None, self._context)
        async for answer in answers:
            self._answers.append(answer)
