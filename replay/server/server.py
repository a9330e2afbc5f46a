"""The server: one log for every process and every language.

Role: `Server` listens, authenticates callers by their tokens, decodes requests, enforces limits,
and translates errors.  ``replay server`` and ``python -m replay server`` run one.

Invariants:

- With tokens or a client CA configured, the server answers no call without them, not even health or
  reflection (G4).  Without TLS it listens on loopback only, unless you ask for more.
- A request that cannot be decoded gets an error before anything else happens.
- A stream is a coroutine and needs no thread.  gRPC's other server for Python keeps a thread for
  each stream.

Left to `cli`: the command line.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any, NoReturn

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from ..client import BadFilter, open_client
from ..log import LostOwnership
from ..signal import InvalidSignal
from ..storage.database import Error, Unavailable
from ..storage.event import InvalidName, MessageError, MessageTooLarge
from .access import Access, Forbidden, Principal, Unauthenticated
from .host import Host
from .options import BadSetup, Options
from .proto import log_pb2, replaypb_pb2
from .services import AtHead, BadRequest, Hosts, LogService, ReplayService
from .wire import ERROR_KEY, Stopping, jettison_details, message_class, public_name

log = logging.getLogger("replay")

_GRACE = 5.0  # seconds that calls have to end when the server stops


class LimitReached(Error):
    """The client has as many open streams as the limit allows."""


#: An error goes over the wire with the first code that fits.
_CODES: Sequence[tuple[type[Exception], grpc.StatusCode]] = (
    (Unauthenticated, grpc.StatusCode.UNAUTHENTICATED),
    (Forbidden, grpc.StatusCode.PERMISSION_DENIED),
    (LimitReached, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (MessageTooLarge, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (InvalidName, grpc.StatusCode.INVALID_ARGUMENT),
    (InvalidSignal, grpc.StatusCode.INVALID_ARGUMENT),
    (MessageError, grpc.StatusCode.INVALID_ARGUMENT),
    (BadFilter, grpc.StatusCode.INVALID_ARGUMENT),
    (BadRequest, grpc.StatusCode.INVALID_ARGUMENT),
    (AtHead, grpc.StatusCode.OUT_OF_RANGE),
    (LostOwnership, grpc.StatusCode.ABORTED),
    (Unavailable, grpc.StatusCode.UNAVAILABLE),
    (Error, grpc.StatusCode.INTERNAL),
)

#: The codes by which the Go system's clients know an error.
_JETTISON: Sequence[tuple[type[Exception], str]] = (
    (AtHead, "ERR_b4b155d2a91cfcd0"),
    (Stopping, "ERR_09290f5944cb8671"),
)


class _Gate(grpc.aio.ServerInterceptor):
    """Refuses calls without a known token, to any service."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        """As in `grpc.aio.ServerInterceptor`."""
        try:
            caller(self._access, details.invocation_metadata)
        except Unauthenticated as error:
            text = str(error)

            # A streaming handler does not wait for a request, so it fits every method.
            async def refuse(requests: object, context: Any) -> None:
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, text)

            return grpc.stream_stream_rpc_method_handler(refuse)
        return await continuation(details)


def caller(access: Access, metadata: Any) -> Principal:
    """Identify the caller by the token in a call's metadata.  Raises `Unauthenticated`."""
    if access.open:
        return access.principal(None)
    values = [value for key, value in metadata or () if key == "authorization"]
    kind, _, token = str(values[0]).partition(" ") if len(values) == 1 else ("", "", "")
    return access.principal(token if kind.lower() == "bearer" else None)


class _Dispatcher:
    """Makes gRPC handlers from a service's methods."""

    def __init__(self, options: Options) -> None:
        self._access = options.access
        self._max_streams = options.max_streams
        self._streams: Counter[str] = Counter()
        self._stopping = False
        self._idle: set[asyncio.Task[Any]] = set()  # those waiting for a request

    def handlers(self, descriptor: Any, service: object) -> grpc.GenericRpcHandler:
        """The handlers of one service."""
        return grpc.method_handlers_generic_handler(
            descriptor.full_name,
            {
                method.name: self._handler(method, getattr(service, method.name))
                for method in descriptor.methods
            },
        )

    def _handler(self, method: MethodDescriptor, function: Callable[..., Any]) -> Any:
        kind = message_class(method.input_type)
        if method.client_streaming:
            read = partial(self._requests, kind)
            return grpc.stream_stream_rpc_method_handler(self._streaming(read, function))
        if method.server_streaming:
            parse = partial(_parsed, kind)
            return grpc.unary_stream_rpc_method_handler(self._streaming(parse, function))
        return grpc.unary_unary_rpc_method_handler(self._answering(kind, function))

    def _answering(self, kind: Any, function: Callable[..., Awaitable[Message]]) -> Any:
        async def handle(raw: bytes, context: Any) -> bytes:
            try:
                who = caller(self._access, context.invocation_metadata())
                return (await function(who, _parsed(kind, raw))).SerializeToString()
            except Exception as error:
                await _abort(context, error)

        return handle

    def _streaming(
        self, read: Callable[[Any], Any], function: Callable[..., AsyncIterator[Message]]
    ) -> Any:
        async def handle(request: Any, context: Any) -> AsyncIterator[bytes]:
            try:
                who = caller(self._access, context.invocation_metadata())
                with self._stream_of(who, context.peer()):
                    answers = function(who, read(request))
                    async with contextlib.aclosing(answers):  # type: ignore[type-var]
                        async for answer in answers:
                            yield answer.SerializeToString()
            except Exception as error:
                await _abort(context, error)

        return handle

    async def _requests(self, kind: Any, requests: AsyncIterator[bytes]) -> AsyncIterator[Message]:
        """The requests, until the server stops.  An idle stream must not delay that."""
        task = asyncio.current_task()
        assert task is not None
        while not self._stopping:
            self._idle.add(task)
            try:
                raw = await anext(aiter(requests))
            except StopAsyncIteration:
                return
            except asyncio.CancelledError:
                if not self._stopping:
                    raise
                task.uncancel()
                break
            finally:
                self._idle.discard(task)
            yield _parsed(kind, raw)
        raise Stopping("the server is stopping")

    def stop(self) -> None:
        """End the calls that wait for a request."""
        self._stopping = True
        for task in self._idle:
            task.cancel()

    @contextlib.contextmanager
    def _stream_of(self, who: Principal, peer: str) -> Iterator[None]:
        """Count a stream of a client: a token, or without tokens an address.

        Raises `LimitReached`.
        """
        client = peer.rpartition(":")[0] if self._access.open else who.name
        if self._streams[client] >= self._max_streams:
            raise LimitReached(f"{self._max_streams} streams are open, which is all there may be")
        self._streams[client] += 1
        try:
            yield
        finally:
            self._streams[client] -= 1
            if not self._streams[client]:
                del self._streams[client]


def _parsed(kind: Any, raw: bytes) -> Message:
    try:
        message: Message = kind.FromString(raw)
    except DecodeError as error:
        raise BadRequest(f"not a {kind.DESCRIPTOR.full_name}") from error
    return message


async def _abort(context: Any, error: Exception) -> NoReturn:
    """End a call with the code and the name of an error."""
    if isinstance(error, grpc.aio.AbortError):
        raise error
    code = next((code for kind, code in _CODES if isinstance(error, kind)), None)
    if code is None:
        log.error("a call failed", exc_info=error)
        await context.abort(grpc.StatusCode.INTERNAL, "the server failed; its log says why")
    name, text = public_name(error), str(error)[:1000]
    metadata: list[tuple[str, str | bytes]] = [(ERROR_KEY, name)] if name else []
    for kind, known_as in _JETTISON:
        if isinstance(error, kind):
            metadata.append(jettison_details(code, text, known_as))
    await context.abort(code, text, tuple(metadata))
    raise AssertionError


_SERVICES: Sequence[tuple[Any, Callable[[Hosts], object]]] = (
    (replaypb_pb2.DESCRIPTOR.services_by_name["Replay"], ReplayService),
    (log_pb2.DESCRIPTOR.services_by_name["Log"], LogService),
)
_NAMES = [descriptor.full_name for descriptor, _ in _SERVICES]


class Server:
    """A server, in the event loop that creates it."""

    def __init__(self, options: Options) -> None:
        options.check()
        self._options = options
        self._hosts = Hosts({})
        self._health = health.aio.HealthServicer()
        self._server: Any = None
        self._dispatcher = _Dispatcher(options)
        self.port = 0

    async def start(self) -> None:
        """Connect to the databases and listen.  Sets `port`."""
        options, loop = self._options, asyncio.get_running_loop()
        hosts: dict[str, Host] = {}
        try:
            for namespace, url in options.databases.items():
                client = await loop.run_in_executor(None, open_client, url)
                hosts[namespace] = Host(namespace, client, options.threads)
            self._hosts = Hosts(hosts)
            self._listen()
        except BaseException:
            for host in hosts.values():
                await host.close()
            raise
        for host in hosts.values():
            host.start()
        await self._server.start()
        for name in ("", *_NAMES):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    def _listen(self) -> None:
        options = self._options
        # The limit of one message; a larger commit comes in parts.
        largest = max(host.log.max_message for host in self._hosts.all()) + 64 * 1024
        self._server = server = grpc.aio.server(
            interceptors=[] if options.access.open else [_Gate(options.access)],
            maximum_concurrent_rpcs=options.max_calls,
            options=(
                ("grpc.max_receive_message_length", largest),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),
                # By default gRPC ends some at random if more than a thousand come at once.
                ("grpc.server.max_pending_requests", options.max_calls),
                ("grpc.server.max_pending_requests_hard_limit", options.max_calls),
                # Notice a client that vanished.  Accept the pings by which clients notice us.
                ("grpc.keepalive_time_ms", 5_000),
                ("grpc.keepalive_timeout_ms", 5_000),
                ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
                ("grpc.http2.max_ping_strikes", 0),
            ),
        )
        for descriptor, service in _SERVICES:
            handlers = self._dispatcher.handlers(descriptor, service(self._hosts))
            server.add_generic_rpc_handlers((handlers,))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = [*_NAMES, health.SERVICE_NAME, reflection.SERVICE_NAME]
        reflection.enable_server_reflection(names, server)
        self.port = self._bind(server)

    def _bind(self, server: Any) -> int:
        options = self._options
        try:
            if options.certificate is None or options.key is None:
                return int(server.add_insecure_port(options.listen))
            pair = [(options.key, options.certificate)]
            ca = options.client_ca
            credentials = grpc.ssl_server_credentials(pair, ca, require_client_auth=ca is not None)
            return int(server.add_secure_port(options.listen, credentials))
        except RuntimeError as error:
            raise BadSetup(f"--listen {options.listen}: {error}") from error

    async def stop(self) -> None:
        """End streams, then calls, then loops.  Give up all names."""
        await self._health.enter_graceful_shutdown()
        for host in self._hosts.all():
            host.stop()
        self._dispatcher.stop()
        await self._server.stop(_GRACE)
        for host in self._hosts.all():
            await host.close()
