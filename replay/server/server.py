"""The server: one log for every process and every language.

Role: `Server` listens, authenticates callers by their tokens, decodes requests, enforces limits,
and translates errors.  ``replay server`` and ``python -m replay server`` run one.

Invariants:

- With tokens or a client CA configured, the server answers no call without them, not even
  reflection (G4).  Health checks need no token if you ask for that.
- Without TLS it listens on loopback only, unless you ask for more.
- A request that cannot be decoded gets an error before anything else happens.
- A stream is a coroutine and needs no thread.  gRPC's other server for Python keeps a thread for
  each stream.

Left to `cli`: the command line.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from ..client import BadFilter, open_client
from ..consumer import Metrics
from ..log import EventsPruned, Log, LostOwnership
from ..query import BadQuery, QueryBehind
from ..retention import BadPrune, StillServed, UnknownConsumer
from ..sharing import OtherShards
from ..signal import InvalidSignal
from ..storage.database import Error, Unavailable
from ..storage.event import InvalidName, MessageError, MessageTooLarge
from .access import ANYBODY, Access, Forbidden, Principal, Unauthenticated
from .health import HealthService, ReflectionService, UnknownService
from .host import Host, is_costly, is_public, public_text
from .limits import LimitReached, Limits, Work, check_fields
from .options import BadSetup, Options
from .proto import log_pb2, replaypb_pb2
from .services import AtHead, BadRequest, Hosts, LogService, ReplayService
from .wire import ERROR_KEY, Stopping, jettison_details, message_class, public_name

log = logging.getLogger("replay")

_AHEAD = 256 * 1024  # bytes that gRPC reads ahead of a stream's next request
_SMALL = 4 * 1024  # bytes of a request whose refusal may wait
_GRACE = 5.0  # seconds that calls have to end when the server stops


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
    (BadQuery, grpc.StatusCode.INVALID_ARGUMENT),
    (QueryBehind, grpc.StatusCode.FAILED_PRECONDITION),
    (BadRequest, grpc.StatusCode.INVALID_ARGUMENT),
    (BadPrune, grpc.StatusCode.INVALID_ARGUMENT),
    (EventsPruned, grpc.StatusCode.FAILED_PRECONDITION),
    (StillServed, grpc.StatusCode.FAILED_PRECONDITION),
    (OtherShards, grpc.StatusCode.FAILED_PRECONDITION),
    (UnknownConsumer, grpc.StatusCode.NOT_FOUND),
    (AtHead, grpc.StatusCode.OUT_OF_RANGE),
    (UnknownService, grpc.StatusCode.NOT_FOUND),
    (LostOwnership, grpc.StatusCode.ABORTED),
    (Unavailable, grpc.StatusCode.UNAVAILABLE),
    (Error, grpc.StatusCode.INTERNAL),
)

#: The codes by which the Go system's clients know an error.
_JETTISON: Sequence[tuple[type[Exception], str]] = (
    (AtHead, "ERR_b4b155d2a91cfcd0"),
    (Stopping, "ERR_09290f5944cb8671"),
)


_PROBE = "/grpc.health.v1.Health/Check"


class _Gate(grpc.aio.ServerInterceptor):
    """Refuses calls without a known token, to any service, before their requests are read."""

    def __init__(self, options: Options, limits: Limits) -> None:
        self.access = options.access
        self._public = {_PROBE} if options.open_health else set()
        self._limits = limits
        self._calls: dict[asyncio.Task[Any], Principal] = {}

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        """As in `grpc.aio.ServerInterceptor`."""
        if details.method in self._public:
            return await continuation(details)
        try:
            self._admit(self._owner(details.invocation_metadata))
        except (Unauthenticated, LimitReached) as error:
            return self._refusal(details.method, error)
        return await continuation(details)

    def _refusal(self, method: str, error: Error) -> Any:
        async def refuse(requests: object, context: Any) -> None:
            self._limits.note(error)
            if isinstance(error, Unauthenticated):
                warn = self._limits.warnings.warn
                warn(f"refused {context.peer()}, which called {method[:100]!r}: no known token")
                await self._limits.spread(_host(context), context.peer())
            _answer(context, error)

        # A streaming handler does not wait for a request, so it fits every method.
        return grpc.stream_stream_rpc_method_handler(refuse)

    def _admit(self, who: Principal) -> None:
        """Count this call until it ends, whether its request ever comes or not."""
        task = asyncio.current_task()
        assert task is not None
        self._limits.begun.take(who.name, who.name)
        self._calls[task] = who
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        who = self._calls.pop(task)
        self._limits.begun.give_back(who.name, who.name)

    def _owner(self, metadata: Any) -> Principal:
        values = [value for key, value in metadata or () if key == "authorization"]
        kind, _, token = str(values[0]).partition(" ") if len(values) == 1 else ("", "", "")
        return self.access.principal(token if kind.lower() == "bearer" else None)

    def caller(self, context: Any, public: bool) -> Principal:
        """The caller of a call that was let in.  Raises `Unauthenticated`."""
        if public or self.access.open:
            return _somebody(_host(context))
        return self._owner(context.invocation_metadata())

    def is_public(self, method: str) -> bool:
        """Whether a method needs no token."""
        return method in self._public

    def change(self, access: Access) -> None:
        """Accept these tokens from now on.  The calls of the others end."""
        self.access = access.after(self.access)
        for task, who in self._calls.items():
            if not self.access.holds(who):
                task.cancel()

    def revoked(self, who: Principal) -> bool:
        """Whether a caller's token was taken back, and uncancels its call, which may say so."""
        task = asyncio.current_task()
        if task is None or self.access.holds(who) or task not in self._calls:
            return False
        task.uncancel()
        return True


def _host(context: Any) -> str:
    """Where a call comes from, without its port."""
    address: str = context.peer()
    return address.rpartition(":")[0]


@lru_cache(maxsize=1000)
def _somebody(address: str) -> Principal:
    """A caller without a token.  Its address tells it from others."""
    return replace(ANYBODY, name=address)


class _Dispatcher:
    """Makes gRPC handlers from a service's methods."""

    def __init__(self, gate: _Gate, limits: Limits) -> None:
        self._gate = gate
        self._limits = limits
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
        path = f"/{method.containing_service.full_name}/{method.name}"
        caller = partial(self._gate.caller, public=self._gate.is_public(path))
        if method.client_streaming:

            def requests(_: object, context: Any, work: Work) -> AsyncIterator[Message]:
                return self._requests(kind, context, work)

            answers = self._streaming(caller, requests, function)
            return grpc.stream_stream_rpc_method_handler(answers)
        if method.server_streaming:

            def parse(raw: bytes, *_: object) -> Message:
                return _parsed(kind, raw)

            return grpc.unary_stream_rpc_method_handler(self._streaming(caller, parse, function))
        return grpc.unary_unary_rpc_method_handler(self._answering(caller, kind, function))

    def _answering(
        self,
        caller: Callable[[Any], Principal],
        kind: Any,
        function: Callable[..., Awaitable[Message | bytes]],
    ) -> Any:
        async def handle(raw: bytes, context: Any) -> bytes:
            who = None
            try:
                who = caller(context)
                work = self._limits.work(who.name)
                request = await _parsed_apart(kind, raw, work)
                waits = getattr(request, "wait_ms", 0) > 0
                limit = self._limits.streams if waits else self._limits.calls
                with limit.hold(who.name, context.peer()):
                    async with work.call():
                        if not waits:
                            return _encoded(await function(who, request))
                    return _encoded(await function(who, request))
            except (Exception, asyncio.CancelledError) as error:
                if not await self._failed(context, who, error, raw):
                    raise
                return b""

        return handle

    def _streaming(
        self,
        caller: Callable[[Any], Principal],
        read: Callable[[Any, Any, Work], Any],
        function: Callable[..., AsyncIterator[Message]],
    ) -> Any:
        async def handle(request: Any, context: Any) -> AsyncIterator[bytes]:
            who = None
            try:
                who = caller(context)
                with self._limits.streams.hold(who.name, context.peer()):
                    work = self._limits.work(who.name)
                    await work.pass_by()
                    answers = function(who, read(request, context, work))
                    request = None  # this frame lives as long as the stream
                    async with contextlib.aclosing(answers):  # type: ignore[type-var]
                        async for answer in answers:
                            yield answer.SerializeToString()
            except (Exception, asyncio.CancelledError) as error:
                if not await self._failed(context, who, error, request):
                    raise

        return handle

    async def _failed(
        self,
        context: Any,
        who: Principal | None,
        error: Exception | asyncio.CancelledError,
        request: object,
    ) -> bool:
        """Answer a call with an error, unless its client has ended it.  Return if so."""
        # The answer may wait, and the error's frames would keep what the client has sent.
        traceback.clear_frames(error.__traceback__)
        if isinstance(error, asyncio.CancelledError):
            if who is None or not self._gate.revoked(who):
                return False
            error = Unauthenticated("the token was revoked")
        self._limits.note(error)
        if not is_public(error) and type(error) is not Unavailable:  # the database warns of that
            self._limits.warnings.warn(f"a call got no answer from its database: {error}")
        small = isinstance(request, bytes) and len(request) <= _SMALL  # gRPC keeps it meanwhile
        if who is not None and small:
            if isinstance(error, LimitReached):
                await self._limits.spread(who.name, context.peer())
            else:
                await self._limits.work(who.name).pass_by()
        _answer(context, error)
        return True

    async def _requests(self, kind: Any, context: Any, work: Work) -> AsyncIterator[Message]:
        """The requests, until the server stops.  An idle stream must not delay that."""
        task = asyncio.current_task()
        assert task is not None
        while not self._stopping:
            self._idle.add(task)
            try:
                # Not from gRPC's iterator, which keeps each request until the next one comes.
                raw = await context.read()
            except asyncio.CancelledError:
                if not self._stopping:
                    raise
                task.uncancel()
                break
            finally:
                self._idle.discard(task)
            if raw is grpc.aio.EOF:
                return
            parsed = [await _parsed_apart(kind, raw, work)]
            del raw  # the commit that the part is for may take its time
            yield parsed.pop()
        raise Stopping("the server is stopping")

    def stop(self) -> None:
        """End the calls that wait for a request."""
        self._stopping = True
        for task in self._idle:
            task.cancel()


def _encoded(answer: Message | bytes) -> bytes:
    """The answer of a method: a message, or one that it has encoded itself."""
    return answer if isinstance(answer, bytes) else answer.SerializeToString()


def _parsed(kind: Any, raw: bytes) -> Message:
    check_fields(kind.DESCRIPTOR, raw)
    try:
        message: Message = kind.FromString(raw)
    except DecodeError as error:
        raise BadRequest(f"not a {kind.DESCRIPTOR.full_name}") from error
    return message


async def _parsed_apart(kind: Any, raw: bytes, work: Work) -> Message:
    """As `_parsed`.  A large request is parsed in a thread: it may take 20 ms."""
    if not is_costly(len(raw)):
        return _parsed(kind, raw)
    async with work.costly:
        return await asyncio.get_running_loop().run_in_executor(None, _parsed, kind, raw)


def _answer(context: Any, error: Exception) -> None:
    """Give a call, which returns now, the code and the name of an error.

    `context.abort` would leave objects that only the garbage collector frees, 42 a call.  A client
    that is refused a thousand times a second would make it stop the server for 0.2 s at a time.
    """
    code = next((code for kind, code in _CODES if isinstance(error, kind)), None)
    if code is None:
        log.error("a call failed", exc_info=error)
        context.set_code(grpc.StatusCode.INTERNAL)
        context.set_details("the server failed; its log says why")
        return
    name, text = public_name(error), public_text(error)
    metadata: list[tuple[str, str | bytes]] = [(ERROR_KEY, name)] if name else []
    for kind, known_as in _JETTISON:
        if isinstance(error, kind):
            metadata.append(jettison_details(code, text, known_as))
    context.set_code(code)
    context.set_details(text)
    context.set_trailing_metadata(tuple(metadata))


_SERVICES: Sequence[tuple[Any, Callable[[Hosts, Limits], object]]] = (
    (replaypb_pb2.DESCRIPTOR.services_by_name["Replay"], ReplayService),
    (log_pb2.DESCRIPTOR.services_by_name["Log"], LogService),
)
_HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"]
_REFLECTION = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]
_NAMES = [descriptor.full_name for descriptor, _ in _SERVICES]


def _certificates(options: Options) -> Any:
    """The server's certificate and the clients' authority, as gRPC takes them.

    gRPC checks them when a port is opened, but not when they change.  So this opens one.  Raises
    `RuntimeError` if gRPC cannot use them.
    """
    pairs, ca = [(options.key or b"", options.certificate or b"")], options.client_ca
    credentials = grpc.ssl_server_credentials(pairs, ca, require_client_auth=ca is not None)
    grpc.aio.server().add_secure_port("127.0.0.1:0", credentials)
    return grpc.ssl_server_certificate_configuration(pairs, ca)


@dataclass(frozen=True)
class Counts:
    """Counts of a server's clients."""

    sessions: int
    #: Streams, sessions and calls that wait.
    waiting: int
    #: Calls that were refused since the start, by reason.
    refused: Mapping[str, int]


class Server:
    """A server, in the event loop that creates it."""

    def __init__(self, options: Options, metrics: Metrics | None = None) -> None:
        options.check()
        self._metrics = metrics
        self._options = options
        self._hosts = Hosts({})
        self._server: Any = None
        self._limits = Limits(options)
        self._gate = _Gate(options, self._limits)
        self._dispatcher = _Dispatcher(self._gate, self._limits)
        self._certificates: Any = None
        self.port = 0

    async def start(self) -> None:
        """Connect to the databases and listen.  Sets `port`."""
        options, loop = self._options, asyncio.get_running_loop()
        hosts: dict[str, Host] = {}
        try:
            for namespace, url in options.databases.items():
                client = await loop.run_in_executor(None, open_client, url)
                hosts[namespace] = Host(
                    namespace, client, options.threads, self._limits.claims, self._metrics
                )
            self._hosts = Hosts(hosts)
            self._listen()
        except BaseException:
            for host in hosts.values():
                await host.close()
            raise
        for host in hosts.values():
            host.start()
        await self._server.start()

    def _listen(self) -> None:
        options = self._options
        # The limit of one message; a larger commit comes in parts.
        largest = max(host.log.max_message for host in self._hosts.all()) + 64 * 1024
        self._server = server = grpc.aio.server(
            interceptors=[] if options.access.open else [self._gate],
            maximum_concurrent_rpcs=2 * options.max_calls,
            options=(
                ("grpc.max_receive_message_length", largest),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),
                # Else a fast client makes gRPC read megabytes ahead, for each of its streams.
                ("grpc.http2.bdp_probe", 0),
                ("grpc.http2.lookahead_bytes", _AHEAD),
                # Calls that are reset at once must not pile up.  But an honest client may have a
                # call for each that has just ended, before gRPC has removed that one.
                ("grpc.max_concurrent_streams", self._limits.per_connection),
                ("grpc.http2.max_deallocating_streams", 1000),
                # A connection that says nothing must not stay: it takes an open file.
                ("grpc.max_allowed_incoming_connections", self._limits.connections),
                ("grpc.max_connection_idle_ms", 15_000),
                ("grpc.server_handshake_timeout_ms", 10_000),
                # By default gRPC ends some at random if more than a thousand come at once.
                ("grpc.server.max_pending_requests", options.max_calls),
                ("grpc.server.max_pending_requests_hard_limit", options.max_calls),
                # Notice a client that vanished.  Accept the pings by which clients notice us.
                ("grpc.keepalive_time_ms", 5_000),
                ("grpc.keepalive_timeout_ms", 5_000),
                ("grpc.http2.ping_timeout_ms", 5_000),
                ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
                ("grpc.http2.max_ping_strikes", 0),
            ),
        )
        names = [*_NAMES, _HEALTH.full_name, _REFLECTION.full_name]
        services: list[tuple[Any, object]] = [
            *((descriptor, made(self._hosts, self._limits)) for descriptor, made in _SERVICES),
            (_HEALTH, HealthService(self._hosts, _NAMES)),
            (_REFLECTION, ReflectionService(names)),
        ]
        handlers = [self._dispatcher.handlers(*service) for service in services]
        server.add_generic_rpc_handlers(tuple(handlers))
        self.port = self._bind(server)

    def _bind(self, server: Any) -> int:
        options = self._options
        try:
            if options.certificate is None or options.key is None:
                return int(server.add_insecure_port(options.listen))
            self._certificates = _certificates(options)
            credentials = grpc.dynamic_ssl_server_credentials(
                self._certificates, lambda: self._certificates, options.client_ca is not None
            )
            return int(server.add_secure_port(options.listen, credentials))
        except RuntimeError as error:
            raise BadSetup(f"--listen {options.listen}: {error}") from error

    def reload(self, options: Options) -> None:
        """Take over the tokens and certificates of new options, and nothing else of them (G4).

        The streams, sessions and calls of a token that is gone end.  A certificate counts from the
        next connection on.  Raises `BadSetup`; nothing has changed then.
        """
        old = self._options
        options.check()
        same = [
            (each.access.open, bool(each.certificate), bool(each.client_ca))
            for each in (old, options)
        ]
        if same[0] != same[1]:
            raise BadSetup("tokens, certificates and client certificates stay on or off: restart")
        if options.certificate is not None:
            try:
                self._certificates = _certificates(options)
            except RuntimeError as error:
                raise BadSetup(f"--tls-cert, --tls-key, --client-ca: {error}") from error
        self._gate.change(options.access)

    @property
    def access(self) -> Access:
        """The tokens that it accepts now."""
        return self._gate.access

    @property
    def logs(self) -> Mapping[str, Log]:
        """Its logs, by the namespace that each is for; "" for all others."""
        return {host.name: host.log for host in self._hosts.all()}

    def counts(self) -> Counts:
        """The counts of its clients, just now."""
        waiting = self._limits.streams.held[("server", "")]
        sessions = sum(len(host.sessions) for host in self._hosts.all())
        return Counts(sessions, waiting, dict(self._limits.refused))

    async def stop(self) -> None:
        """End streams, then calls, then loops.  Give up all names."""
        for host in self._hosts.all():
            host.stop()
        self._dispatcher.stop()
        await self._server.stop(_GRACE)
        for host in self._hosts.all():
            await host.close()
