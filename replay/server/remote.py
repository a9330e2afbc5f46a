"""The log behind a server: `log` uses SQL, this module uses calls (G1).

Role: `RemoteLog` is the log of one database of a server, as one process sees it.  `RemoteClient` is
a client of all logs of a server.  Code that works on a log works on this one, too.

Invariants:

- A commit is one transaction, on the server.  If the reply is lost, its outcome is unknown.  The
  client then does as after an unknown outcome of a database: it drops its memory and goes on from
  the cursor.
- A *session* holds the names of consumers.  It ends with its connection, on either side, and its
  claims end with it.  An embedded consumer's lock in the database does the same (L7).
- The tail has no gap.  An event that the server does not show to this caller becomes a no-op.

Left to `server`: the other end.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar
from urllib.parse import SplitResult

import grpc
from google.protobuf import any_pb2
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from .. import signal as signals
from ..client import Checked, Client, Closed
from ..consumer import Consumer
from ..failure import LONGEST_TEXT
from ..log import Log, Move, Pace, Parked
from ..projection import Run
from ..query import ConsumerInfo, ParkedInfo, ParkedQuery, Queries, RunInfo, RunsQuery
from ..retention import Found, Over, Policy, Removed, Retention
from ..sharing import Shares
from ..storage.codec import Codec, Sealer
from ..storage.database import (
    BadUrl,
    DatabaseError,
    Error,
    Inside,
    OutcomeUnknown,
    ServerClock,
    Unavailable,
    chunks,
    entered,
)
from ..storage.event import (
    Event,
    EventType,
    Key,
)
from ..storage.tail import BATCH, Tail
from ..storage.values import Carrier
from .proto import log_pb2 as pb
from .proto import replaypb_pb2
from .wire import (
    EPOCH,
    ERROR_KEY,
    ERRORS,
    AccessDenied,
    SessionLost,
    TooBusy,
    WrongServer,
    consumer_from,
    event_from,
    from_us,
    info_from,
    is_loopback,
    message_class,
    parked_from,
    parked_to,
    policy_to,
    run_from,
    to_us,
)

M = TypeVar("M", bound=Message)
T = TypeVar("T")

TIMEOUT = 30.0  # seconds after which a silent server counts as gone
LONG_POLL = 10.0  # seconds that a read waits at the server for events
_SESSIONS = 3  # sessions that may end under a call, before it fails
_RECONNECT = 1.0  # seconds that a call waits for a server to come back
PART = 256 * 1024  # bytes of a commit that go into one request, unless one event is larger
_SPARE = 32 * 1024  # bytes that a request may have beyond the limit of a message: servers take 64
_PARKED = 2 * LONGEST_TEXT  # bytes of a parked event, at most


class Stubs:
    """A channel to one server, and the server's methods by name."""

    def __init__(self, channel: grpc.Channel, name: str, token: str = "") -> None:
        self.channel = channel
        self.name = name
        #: Sent with each call.
        self.metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self._methods: dict[str, Any] = {}
        for file in (replaypb_pb2.DESCRIPTOR, pb.DESCRIPTOR):
            for service in file.services_by_name.values():
                for method in service.methods:
                    self._methods[method.name] = self._stub(service.full_name, method)

    def _stub(self, service: str, method: MethodDescriptor) -> Any:
        kinds = (method.client_streaming, method.server_streaming)
        make = {
            (False, False): self.channel.unary_unary,
            (False, True): self.channel.unary_stream,
            (True, True): self.channel.stream_stream,
        }[kinds]
        return make(
            f"/{service}/{method.name}",
            request_serializer=message_class(method.input_type).SerializeToString,
            response_deserializer=message_class(method.output_type).FromString,
        )

    def method(self, name: str) -> Any:
        """A method of one of the services.  Call it with `metadata`."""
        return self._methods[name]

    def call(self, name: str, request: Message) -> Any:
        """Call a method that belongs to no session."""
        return self._methods[name](request, timeout=TIMEOUT, metadata=self.metadata)

    @contextlib.contextmanager
    def meant(self, committing: bool = False) -> Iterator[None]:
        """Translate gRPC's errors into this library's."""
        try:
            yield
        except grpc.RpcError as error:
            raise self._meaning(error, committing) from error
        except (StopIteration, grpc.FutureCancelledError) as error:
            raise Unavailable(f"{self.name}: the server or this client is stopping") from error
        except ValueError as error:
            if "channel" not in str(error).lower():
                raise
            raise Unavailable(f"{self.name}: this client is closed") from error

    def _meaning(self, error: Any, committing: bool) -> Error:
        code, details = error.code(), f"{error.details()}"
        metadata = {str(key): str(value) for key, value in error.trailing_metadata() or ()}
        if (known := ERRORS.get(metadata.get(ERROR_KEY, ""))) is not None:
            return known(details)
        text = f"{self.name}: {details}"
        if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
            return AccessDenied(f"{text}; see the options token and token_file of the URL")
        if code is grpc.StatusCode.UNIMPLEMENTED:
            return WrongServer(
                f"{self.name} does not serve {pb.DESCRIPTOR.package}: it is another"
                " implementation, or another version; use one that fits this client"
            )
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return TooBusy(text)
        if code in _GONE:
            unsent = not committing or "failed to connect" in details
            return Unavailable(text) if unsent else OutcomeUnknown(text)
        return DatabaseError(text)


_GONE = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNKNOWN,
)


class RemoteLog(Log):
    """One log of a server, as one process sees it.  Safe to use from any thread.

    It has all methods of `Log`, but no database.
    """

    embedded = False

    def __init__(self, stubs: Stubs, log: str, codec: Codec | None = None) -> None:
        self._stubs = stubs
        self.sealer = Sealer(codec) if codec is not None else None
        self._log = log
        self._clock = ServerClock()
        self._session = ""
        self._hold: Any = None
        self._long_poll: Any = None
        self._holding = threading.RLock()
        self._inside = Inside()
        self._lost = self._losses = 0
        self._limit = 0
        self._require_message: Sequence[str] = ()
        self._pace = Pace()
        self._carrier = Carrier()
        self._lines: list[_Line] = []
        self._closed = False
        self._polling = threading.RLock()
        self.tail = Tail(self._end())

    # The session.

    def _end(self) -> int:
        """As in `Log`, in a new session.  The server releases the names of the old one."""
        with entered(self._holding):
            return self._open()

    def _open(self) -> int:
        began = datetime.now(UTC)
        if self._hold is not None:
            self._hold.cancel()
        with self._stubs.meant():
            request = pb.OpenRequest(log=self._log)
            self._hold = self._stubs.method("Open")(request, metadata=self._stubs.metadata)
            reply: pb.OpenReply = next(self._hold)
        self._clock.adjust(began, from_us(reply.now_us))
        self._session, self._limit = reply.session, reply.max_message
        self._require_message = tuple(reply.require_message)
        return int(reply.end)

    def _opened(self) -> str:
        """The session's id; opens a session if there is none."""
        if not self._session:
            with entered(self._holding):
                if not self._session:
                    self._open()
        return self._session

    @contextlib.contextmanager
    def _within(self, session: str, committing: bool = False) -> Iterator[None]:
        """As `Stubs.meant`.  Also ends the session if the server cannot be reached."""
        try:
            with self._stubs.meant(committing):
                yield
        except TooBusy:
            raise
        except Unavailable:
            with entered(self._holding):
                if session == self._session and session:
                    self._session = ""
                    self._lost += 1
            raise

    def _call(
        self,
        method: str,
        request: M,
        *,
        timeout: float = TIMEOUT,
        keep: Callable[[Any], None] | None = None,
    ) -> Any:
        """Call a method of this session.  `keep` receives the call, and can cancel it."""
        session = request.session = self._opened()  # type: ignore[attr-defined]
        stub, metadata = self._stubs.method(method), self._stubs.metadata
        with entered(self._inside.lock), self._within(session):
            if keep is None:  # `future` is slower: it waits in another thread
                return stub(request, timeout=timeout, metadata=metadata)
            call = stub.future(request, timeout=timeout, metadata=metadata)
            keep(call)
            return call.result()

    # An embedded log asks its database for these.

    @property
    def name(self) -> str:
        """As in `Log`."""
        return self._stubs.name

    @property
    def max_message(self) -> int:
        """As in `Log`."""
        return self._limit

    @property
    def require_message(self) -> Sequence[str]:
        """As in `Log`."""
        return self._require_message

    @property
    def losses(self) -> int:
        """As in `Log`."""
        return self._lost

    def now(self) -> datetime:
        """As in `Log`, by the server's clock."""
        return self._clock.now()

    def newest(self) -> int:
        """As in `Log`."""
        return int(self._look(self.tail.end, 0).newest)

    def _entries(self) -> Sequence[threading.RLock]:
        """As in `Log`."""
        return self.tail.lock, self._polling, self._holding, self._inside.lock

    def close(self) -> None:
        """As in `Log`."""
        self._closed = True
        if (call := self._long_poll) is not None:
            call.cancel()
        self.tail.close()
        with entered(self._holding):
            if self._hold is not None:
                self._hold.cancel()
        while self._lines:
            self._lines.pop().close()

    # Adding.

    def append(self, event: Event) -> bool:
        """As in `Log`."""
        return not self.exists(event.type, event.key) and self.commit([event])[0]

    def commit(self, events: Sequence[Event], move: Move | None = None) -> list[bool]:
        """As in `Log`."""
        if not events and move is None:
            return []
        session = self._opened()
        with entered(self._inside.lock), self._within(session, committing=True):
            line = self._line(session)
            try:
                reply = line.commit(_parts(session, events, move, min(PART, self._limit + _SPARE)))
            except BaseException:  # the next commit must not take the reply to this one
                line.close()
                raise
        self._lines.append(line)
        if reply.error:
            raise ERRORS.get(reply.error, DatabaseError)(reply.details)
        stored = list(reply.stored) or [True] * len(events)
        self._publish(events, stored, list(reply.ids), from_us(reply.time_ms * 1000))
        return stored

    def _line(self, session: str) -> _Line:
        """An idle stream of this session, or a new one."""
        while self._lines:
            with contextlib.suppress(IndexError):  # another thread was faster
                line = self._lines.pop()
                if line.session == session:
                    return line
                line.close()
        return _Line(self._stubs, session)

    # Reading.

    def _existing(self, type: int, keys: Sequence[str]) -> Iterator[str]:
        for some in chunks(keys):
            yield from self._call("Find", pb.FindRequest(type=type, keys=some)).keys

    def get(self, id: int) -> Event | None:
        """As in `Log`."""
        reply = self._call("Get", pb.GetRequest(id=id))
        return self.sealed(event_from(reply.event)) if reply.HasField("event") else None

    def find(self, type: EventType, key: Key) -> Event | None:
        """As in `Log`."""
        reply = self._call("Get", pb.GetRequest(type=type, key=str(key)))
        return self.sealed(event_from(reply.event)) if reply.HasField("event") else None

    def begun(self, runs: Sequence[Key]) -> set[Key]:
        """As in `Log`."""
        found: set[Key] = set()
        for some in chunks(runs):
            request = pb.BegunRequest(keys=map(str, some))
            found |= {Key.parse(key) for key in self._call("Begun", request).keys}
        return found

    def history(self, key: Key) -> list[Event]:
        """As in `Log`."""
        session = self._opened()
        request = pb.HistoryRequest(session=session, key=str(Key(*key[:4])))
        stub, metadata = self._stubs.method("History"), self._stubs.metadata
        with entered(self._inside.lock), self._within(session):
            chunks = list(stub(request, timeout=TIMEOUT, metadata=metadata))
        return [self.sealed(event_from(event)) for chunk in chunks for event in chunk.events]

    def with_ids(self, ids: Sequence[int]) -> list[Event]:
        """As in `Log`."""
        found = self._call("Load", pb.LoadRequest(ids=ids)).events
        return [self.sealed(event_from(event)) for event in found]

    def floor(self) -> int:
        """As in `Log`."""
        floor = int(self._call("Floor", pb.FloorRequest()).floor)
        self.tail.drop(floor)
        return floor

    def last_iteration(self, namespace: str, workflow: str, run: str) -> tuple[int, int]:
        """As in `Log`."""
        request = pb.LastIterationRequest(namespace=namespace, workflow=workflow, run=run)
        reply = self._call("LastIteration", request)
        return reply.begun, reply.ended

    def _read(self, after: int, limit: int) -> list[Event]:
        return list(map(self.sealed, _dense(self._look(after, limit), after)))

    def _look(self, after: int, limit: int, wait: float = 0) -> pb.ReadReply:
        def keep(call: Any) -> None:
            self._long_poll = call
            if self._closed:
                call.cancel()

        began = datetime.now(UTC)
        request = pb.ReadRequest(after=after, limit=limit, wait_ms=int(wait * 1000))
        reply: pb.ReadReply = self._call(
            "Read", request, timeout=wait + TIMEOUT, keep=keep if wait else None
        )
        self._clock.adjust(began, from_us(reply.now_us))
        return reply

    def poll(self, grace: float = 0) -> bool:
        """As in `Log`.  Only the polling thread passes `grace`: then wait at the server."""
        self.refresh()
        wait = LONG_POLL if grace else 0
        before = self.tail.end
        while True:
            after, losses = self.tail.end, self._losses
            reply = self._look(after, BATCH, wait)
            with self._polling:
                if losses != self._losses:
                    return True
                self.tail.extend(map(self.sealed, _dense(reply, after)))
            if wait or reply.end == after:
                return self.tail.end > before

    # Cursors.

    def claim(self, name: str, wait: float, *, create: bool = True) -> int | None:
        """As in `Log`: this process's session becomes the owner.

        The server itself creates no cursor of a shard that the session shares.
        """
        request = pb.ClaimRequest(consumer=name, wait_ms=int(wait * 1000))
        reply = self._call("Claim", request, timeout=wait + TIMEOUT)
        self.tail.drop(reply.floor)
        return reply.cursor if reply.HasField("cursor") else None

    def release(self, name: str, old: int, new: int) -> None:
        """As in `Log`."""
        self._call("Release", pb.ReleaseRequest(consumer=name, old=old, new=new))

    def unlock(self, name: str) -> None:
        """As in `Log`."""
        with contextlib.suppress(Unavailable):  # then the session has ended, and its claims
            self._call("Release", pb.ReleaseRequest(consumer=name))

    def disown(self, name: str) -> None:
        """As in `Log`.  Does nothing: the session has the name."""

    def leave(self) -> None:
        """As in `Log`.  Does nothing: no thread has a connection of its own."""

    def served(self, consumer: str, *, ever: bool = False) -> bool:
        """As in `Log`."""
        return bool(self._call("Served", pb.ServedRequest(consumer=consumer, ever=ever)).served)

    def ask(self, method: str, request: Message) -> Any:
        """Call a method that answers a query."""
        return self._call(method, request)

    def has_reached(self, id: int) -> bool:
        """Whether the server's log has no gap up to this id."""
        return id == 0 or int(self._look(id - 1, 1).end) >= id

    def parked_after(self, consumer: str, after: int) -> list[Parked]:
        """As in `Log`."""
        reply = self._call("ListParked", pb.ListParkedRequest(consumer=consumer, after=after))
        return [parked_from(each) for each in reply.parked]

    def due_parked(self, consumer: str, after: int = 0) -> list[int]:
        """As in `Log`."""
        request = pb.ListParkedRequest(consumer=consumer, after=after)
        return list(self._call("DueParked", request).ids)

    def retry(self, consumer: str, ids: Sequence[int]) -> int:
        """As in `Log`."""
        requests = (pb.RetryRequest(consumer=consumer, ids=some) for some in chunks(ids))
        return sum(self._call("Retry", request).count for request in requests)


class RemoteShares(Shares):
    """As `Shares`, where the server has the log: its session counts as a process."""

    _log: RemoteLog

    def share(self, consumer: str, shards: int, session: str = "") -> list[int]:
        """As in `Shares`."""
        request = pb.ShareRequest(consumer=consumer, shards=shards)
        return list(self._log.ask("Share", request).shards)

    def settle(self, consumer: str, shards: int) -> None:
        """As in `Shares`."""
        self._log.ask("Share", pb.ShareRequest(consumer=consumer, shards=shards, settle=True))

    def withdraw(self, consumer: str, session: str = "") -> None:
        """As in `Shares`."""
        self._log.ask("Share", pb.ShareRequest(consumer=consumer))

    def end(self) -> None:
        """As in `Shares`.  Does nothing: nothing belongs to a thread."""


class RemoteQueries(Queries):
    """Queries of a server's client about one of its logs."""

    _log: RemoteLog

    def runs(self, ask: RunsQuery) -> list[RunInfo]:
        """As in `Queries`."""
        return [run_from(run) for run in self._log.ask("ListRuns", _asked(ask)).runs]

    def count(self, ask: RunsQuery) -> dict[str, int]:
        """As in `Queries`."""
        return dict(self._log.ask("CountRuns", _asked(ask)).counts)

    def ids(self, run: Run, iteration: int | None, after: int, end: int) -> list[int]:
        """As in `Queries`."""
        request = pb.FindIdsRequest(
            namespace=run[0], workflow=run[1], run=run[2], iteration=iteration, after=after, end=end
        )
        return list(self._log.ask("FindIds", request).ids)

    def settle(self, end: int) -> bool:
        """As in `Queries`: the server reads up to the head all the time."""
        return self._log.has_reached(end)

    def consumers(self, after: str = "") -> tuple[list[ConsumerInfo], str]:
        """As in `Queries`."""
        reply = self._log.ask("ListConsumers", pb.ListConsumersRequest(after=after))
        return [consumer_from(each) for each in reply.consumers], reply.next

    def parked(self, ask: ParkedQuery) -> list[ParkedInfo]:
        """As in `Queries`."""
        request = pb.FindParkedRequest(
            namespace=_one(ask.namespaces),
            workflow=ask.workflow,
            run=ask.run,
            limit=ask.limit,
            after_key=ask.after[0],
            after_id=ask.after[1],
        )
        return [info_from(each) for each in self._log.ask("FindParked", request).parked]

    def parked_at(self, keys: Sequence[str]) -> list[ParkedInfo]:
        """As in `Queries`."""
        found: list[ParkedInfo] = []
        for some in chunks(keys):
            reply = self._log.ask("FindParked", pb.FindParkedRequest(keys=some))
            found += map(info_from, reply.parked)
        return found


def _asked(ask: RunsQuery) -> pb.ListRunsRequest:
    moment = ask.started_after
    return pb.ListRunsRequest(
        namespace=_one(ask.namespaces),
        workflow=ask.workflow,
        statuses=ask.statuses,
        started_after_us=None if moment is None else max(0, to_us(moment)),
        limit=ask.limit,
        after=ask.after,
    )


def _one(namespaces: frozenset[str] | None) -> str:
    return next(iter(namespaces or ()), "")


class _Line:
    """A stream of commits, for one thread at a time.  Calls of their own are slower."""

    def __init__(self, stubs: Stubs, session: str) -> None:
        self.session = session
        self._requests: SimpleQueue[pb.CommitRequest | None] = SimpleQueue()
        self._replies = stubs.method("Commit")(
            iter(self._requests.get, None), metadata=stubs.metadata
        )

    def commit(self, requests: Iterable[pb.CommitRequest]) -> pb.CommitReply:
        """Send one transaction, and wait for the reply."""
        for request in requests:
            self._requests.put(request)
        reply: pb.CommitReply = next(self._replies)
        return reply

    def close(self) -> None:
        """End the stream."""
        self._requests.put(None)
        self._replies.cancel()


def _parts(
    session: str, events: Sequence[Event], move: Move | None, most: int
) -> Iterator[pb.CommitRequest]:
    """A transaction in requests of up to `most` bytes, or with one event that is larger."""
    part, total = pb.CommitRequest(session=session), 0
    if move is not None:
        part.move.CopyFrom(_moved(move))
    items: list[Event | Parked] = [*events, *(move.parked if move is not None else ())]
    for item in items:
        more = item.size if isinstance(item, Event) else _PARKED
        if total and total + more > most:
            part.more = True
            yield part
            part, total = pb.CommitRequest(session=session), 0
        if isinstance(item, Event):
            part.events.add(type=item.type, key=item.text, message=item.raw)
        else:
            part.move.parked.append(parked_to(item))
        total += more
    yield part


def _moved(move: Move) -> pb.Move:
    if move.also:
        raise NotImplementedError("statements of a consumer's own do not go over the wire")
    tried = move.attempts
    return pb.Move(
        consumer=move.consumer,
        old=move.old,
        new=move.new,
        unparked=move.unparked,
        attempts=pb.Attempts(seconds=tried.seconds, failed=tried.failed, retried=tried.retried),
    )


def _dense(reply: pb.ReadReply, after: int) -> Iterator[Event]:
    """The events of a reply, and a no-op for each id that this caller may not see.

    Where ids were pruned the server has put these no-ops in, so the ids that are missing are those.
    """
    if reply.pruned:
        yield from map(_placed, reply.events)
        return
    for event in itertools.chain(reply.events, (None,)):
        for id in range(after + 1, event.id if event is not None else reply.end + 1):
            yield Event(id, EventType.NOOP, Key("", "", ""), EPOCH, None)
        if event is not None:
            yield event_from(event)
            after = event.id


def _placed(event: pb.Event) -> Event:
    """An event of a reply; a no-op if it has no key."""
    if not event.key:
        return Event(event.id, EventType.NOOP, Key("", "", ""), EPOCH, None)
    return event_from(event)


class RemoteClient(Client):
    """A client of a server.  Calls about a namespace go to the log of its events (G3)."""

    def __init__(self, stubs: Stubs, codec: Codec | None = None) -> None:
        self._stubs = stubs
        self._codec = codec
        self._logs: dict[str, RemoteLog] = {}
        self._names: dict[str, str] = {"": ""}
        self._locating = threading.RLock()
        self._inside = Inside()
        self._closed = False
        super().__init__(self.log_of(""), loops=False)

    def _serving(self) -> list[Consumer]:
        """As in `Client`: the server serves sleeps and signals."""
        return []

    def log_of(self, namespace: str) -> Log:
        """As in `Client`."""
        if self._closed and namespace not in self._names:
            raise Closed("the client is closed: connect again")
        with entered(self._locating):
            if (name := self._names.get(namespace)) is None:
                name = self._names[namespace] = self._locate(namespace)
            if name not in self._logs:
                self._logs[name] = RemoteLog(self._stubs, name, self._codec)
            return self._logs[name]

    def shares(self, log: Log) -> Shares:
        """As in `Client`."""
        return self._shares.setdefault(log, RemoteShares(log))

    def queries(self, namespace: str) -> Queries:
        """As in `Client`."""
        return RemoteQueries(self.log_of(namespace))

    def _locate(self, namespace: str) -> str:
        request = pb.LocateRequest(namespace=namespace)
        with self._stubs.meant():
            return str(self._stubs.call("Locate", request).log)

    def _signal(self, to: signals.Run, signal: int, message: Any, external_id: str) -> bool:
        """As in `Client`."""
        type, _ = signals.checked(to, signal, message, external_id)
        raw = signals.packed(self.log_of(to[0]), to, type, message)
        request = replaypb_pb2.SignalRequest(
            namespace=to[0],
            workflow=to[1],
            run=to[2],
            signal_type=type,
            message=None if raw is None else any_pb2.Any.FromString(raw),
            external_id=external_id,
        )
        return self._patiently(lambda: self._send(request))

    def _signal_all(self, sent: Sequence[Checked]) -> list[bool]:
        """As in `Client`."""
        for to, signal, message, external_id in sent:
            signals.prepared(self.log_of(to[0]), to, signal, message, external_id)
        return [self._signal(*each) for each in sent]

    def _send(self, request: replaypb_pb2.SignalRequest) -> bool:
        with entered(self._inside.lock), self._stubs.meant(committing=True):
            return bool(self._stubs.call("SignalRun", request).ok)

    def _retention(self, namespace: str) -> Retention:
        """As in `Client`."""
        return RemoteRetention(self.log_of(namespace))

    def _patiently(self, call: Callable[[], T]) -> T:
        """As in `Client`, and again if another thread replaces the session meanwhile."""
        for _ in range(_SESSIONS):
            with contextlib.suppress(SessionLost):  # nothing was done
                return self._reconnecting(call)
        return self._reconnecting(call)

    def _reconnecting(self, call: Callable[[], T]) -> T:
        """As `Client._patiently`.  Also waits for a server that is just back: gRPC pauses then."""
        try:
            return super()._patiently(call)
        except (OutcomeUnknown, SessionLost):  # the server is there
            raise
        except Unavailable:
            ready = grpc.channel_ready_future(self._stubs.channel)
            with contextlib.suppress(grpc.FutureTimeoutError):
                ready.result(timeout=_RECONNECT)
            ready.cancel()
            return call()

    def _refuse_reentry(self) -> None:
        """As in `Client`."""
        super()._refuse_reentry()
        entered(self._inside.lock)
        entered(self._locating)
        for log in list(self._logs.values()):
            log.refuse_reentry()

    def _close(self) -> None:
        for log in list(self._logs.values()):
            log.close()
        self._stubs.channel.close()


class RemoteRetention(Retention):
    """As `Retention`, where the server has the log."""

    log: RemoteLog

    def find(self, policy: Policy, after: int) -> Found:
        """As in `Retention`.  Of what it returns only the keys are known."""
        request = pb.FindPrunableRequest(policy=policy_to(policy), after=after)
        reply = self.log._call("FindPrunable", request)
        over = [Over(Key.parse(key), [], [], b"", [], last=False) for key in reply.keys]
        return Found(over, reply.next, reply.last)

    def remove(self, policy: Policy, over: Sequence[Over]) -> Removed | None:
        """As in `Retention`."""
        keys = [str(each.key) for each in over]
        request = pb.PruneRequest(policy=policy_to(policy), keys=keys)
        reply = self.log._call("Prune", request)
        if reply.again:
            return None
        return Removed(reply.runs, reply.iterations, reply.events, reply.signals)

    def forget(self, name: str) -> int:
        """As in `Retention`."""
        return int(self.log._call("Forget", pb.ForgetRequest(consumer=name)).behind)


DEFAULT_PORT = 7654
_EXPECTED = "expected grpc://host:port or grpcs://host:port"
_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # Find a server at once when it is back.  Notice a connection that is half open.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    # A connection for each client: a session ends with its own connection.
    ("grpc.use_local_subchannel_pool", 1),
)


def open_remote(
    parts: SplitResult, options: dict[str, str], codec: Codec | None = None
) -> RemoteClient:
    """Connect to the server at ``grpc://host:port`` or, with TLS, ``grpcs://host:port``.

    Options: `token` or `token_file`.  With TLS also `ca`, a file of certificates to trust instead
    of the system's, and `cert` and `key`, files of the client's own certificate.  Raises `BadUrl`,
    `Unavailable`, `AccessDenied`, `WrongServer`.
    """
    try:
        host, port = parts.hostname or "", parts.port or DEFAULT_PORT
    except ValueError:
        host = ""
    if not host or parts.path.strip("/") or "@" in parts.netloc:
        raise BadUrl(f"{_EXPECTED}; a token goes into the option token or token_file")
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    name = f"{parts.scheme}://{target}"
    token = options.pop("token", None)
    content = _read(options, "token_file")
    if token is None and content is not None:
        token = content.decode("utf-8", "replace").strip()
    files = {each: _read(options, each) for each in ("ca", "cert", "key")}
    if token == "":
        raise BadUrl(f"the token in the URL of {name} is empty")
    if options:
        raise BadUrl(f"unknown option {', '.join(sorted(options))} in the URL of {name}")
    if parts.scheme == "grpcs":
        credentials = grpc.ssl_channel_credentials(files["ca"], files["key"], files["cert"])
        channel = grpc.secure_channel(target, credentials, _OPTIONS)
    else:
        if any(files.values()) or (token and not is_loopback(host)):
            raise BadUrl(f"{name}: certificates and tokens need TLS: grpcs://{target}")
        # Do not use a proxy that the environment names: data for loopback must stay here.
        channel = grpc.insecure_channel(target, (*_OPTIONS, ("grpc.enable_http_proxy", 0)))
    try:
        return RemoteClient(Stubs(channel, name, token or ""), codec)
    except BaseException:
        channel.close()
        raise


def _read(options: dict[str, str], option: str) -> bytes | None:
    """Read the file that an option names.  An empty file is refused: it is not an absent one."""
    if (path := options.pop(option, None)) is None:
        return None
    try:
        content = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise BadUrl(f"{path}, named in the URL, cannot be read: {error}") from error
    if not content.strip():
        raise BadUrl(f"{path}, named in the URL as {option}, is empty")
    return content
