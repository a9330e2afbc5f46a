"""The services of a server: the checks, the work and the reply of each call (G2).

Role: `ReplayService` is for programs in any language, `LogService` for this library's own remote
client.  A method takes a caller and a decoded request.  It returns or yields replies, and raises
errors that `server` translates.

Invariant: this module checks all that a peer sends before it stores anything: names, keys,
messages, and that the caller's token is for the namespace (G4).

Left to `server`: decoding requests, limits, and errors on the wire.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from typing import Any, TypeVar

from google.protobuf import any_pb2
from google.protobuf.message import DecodeError

from .. import signal as signals
from ..client import DELIVERED, event_filter
from ..consumer import consumer_name, is_shortened
from ..failure import CANCEL, FAILURE, LONGEST_TEXT, PATCH, RESERVED, read_cancel, read_failure
from ..log import Attempts, Log, LostOwnership, Move, NameCollision, pruned
from ..query import ConsumerInfo, ParkedQuery, Queries, RunsQuery
from ..retention import Policy, Removed, Retention
from ..sharing import MOST_SHARDS
from ..sleep import TARGET as SLEEP
from ..sleep import requested_duration
from ..storage.database import DatabaseError, Error, chunks, later
from ..storage.event import (
    TYPES,
    UNKNOWN,
    Event,
    EventType,
    InvalidName,
    Key,
    MessageError,
    MessageTooLarge,
    check_name,
    check_run,
    check_target,
)
from ..storage.tail import BATCH
from .access import Forbidden, Principal
from .host import Added, Away, Host, Interest, Session, is_costly, public_text, visible
from .limits import LARGEST_COMMIT, MOST_EVENTS, OVERHEAD, Limits
from .proto import log_pb2, reflexpb_pb2, replaypb_pb2
from .wire import (
    consumer_to,
    encode_events,
    event_to,
    from_us,
    info_to,
    parked_from,
    parked_to,
    policy_from,
    public_name,
    run_to,
    to_us,
)

T = TypeVar("T")

_LARGEST = 2**31 - 1
_WAIT = 30.0  # seconds that a call waits, at most
_MANY = 1000  # events that make a commit of one part large
_UNFINISHED = 30.0  # seconds that the parts of a commit may take to come
_TYPE_URL = re.compile(r"[^\s/]*/(?:[^\s/]+/)*[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
#: namespace/workflow/run/iteration[/target/sequence]; of an await the sequence is TYPE:COUNT.
_NUMBER = r"(?:0|[1-9]\d{0,9})"
_PART = r"(?!\.\.?/)[^/\0-\x1f\x7f-\x9f]+"  # of a target; an output's may hold slashes (G2)
_KEY = re.compile(
    rf"([^/]+)/([^/]+)/([^/]+)/({_NUMBER})"
    rf"(?:/({_PART}(?:/{_PART})*)/(?:({_NUMBER})|(-?{_NUMBER}:{_NUMBER})|(?<=/{PATCH}/)([^/]+)))?",
    re.ASCII,
)
_CONSUMERS = ("workflow", "activity", "consumer")


class BadRequest(Error, ValueError):
    """The request is not valid.  Nothing was stored."""


class AtHead(Error):
    """A stream to the head has reached it."""


class Hosts:
    """The logs of a server: one for each namespace that has its own, one for all others (G3)."""

    def __init__(self, hosts: Mapping[str, Host]) -> None:
        self._hosts = dict(hosts)

    def all(self) -> Sequence[Host]:
        """All logs."""
        return list(self._hosts.values())

    def of(self, namespace: str) -> Host:
        """The log of a namespace's events."""
        return self._hosts.get(namespace) or self._hosts[""]

    def named(self, log: str) -> Host:
        """The log of this name: a namespace, or "" for all others.  Raises `BadRequest`."""
        if (host := self._hosts.get(log)) is None:
            raise BadRequest(f"this server has no log {log!r}")
        return host


# Data from peers.


def parse_key(text: str, *, target: bool) -> Key:
    """Parse the key of an event, with a target or without.  Raises `InvalidName`."""
    found = _KEY.fullmatch(text) if len(text) <= 512 else None
    if found is None:
        raise InvalidName(f"{text[:300]!r} is not the key of an event")
    namespace, workflow, run, iteration, name, count, of_type, patch = found.groups()
    check_run(namespace, workflow, run)
    if (name is not None) is not target:
        raise InvalidName(f"the key {text!r} {'needs' if target else 'has'} a target and sequence")
    if int(iteration) > _LARGEST:
        raise InvalidName(f"the key {text!r} has an iteration beyond {_LARGEST}")
    if not target:
        return Key(namespace, workflow, run, int(iteration))
    sequence = of_type if name == signals.TARGET else count
    if name == PATCH:
        sequence = check_name("patch", patch or count or of_type)
    if sequence is None:
        raise InvalidName(f"the key {text!r} has a sequence that is none")
    return Key(namespace, workflow, run, int(iteration), name, sequence)


def _type(number: int) -> EventType:
    if not 1 <= number < len(TYPES):
        raise BadRequest(f"{number} is not a type of events")
    return TYPES[number]


def has_target(type: EventType) -> bool:
    """Whether the keys of events of this type have a target."""
    return type not in (EventType.RUN_CREATED, EventType.RUN_COMPLETED)


def checked_raw(raw: bytes | None, log: Log, what: str) -> bytes | None:
    """Check a peer's message and return it as stored.  Raises `MessageError`, `MessageTooLarge`."""
    if not raw:
        return None
    if len(raw) > log.max_message:
        raise MessageTooLarge(f"{what}: {len(raw)} bytes, the limit is {log.max_message}")
    try:
        url = any_pb2.Any.FromString(raw).type_url
    except DecodeError as error:
        raise MessageError(f"{what}: its message is not a google.protobuf.Any") from error
    if not _names_type(url):
        raise MessageError(f"{what}: {url[:300]!r} is not the URL of a type")
    return raw


@lru_cache(maxsize=1000)
def _names_type(url: str) -> bool:
    return _TYPE_URL.fullmatch(url) is not None


def incoming(
    type: EventType, text: str, raw: bytes | None, log: Log, *, ours: bool = False
) -> Event:
    """Check a peer's event.  Raises `InvalidName`, `MessageError`, `MessageTooLarge`.

    Only a peer that is `ours` may add what the library itself adds to a run, such as its result.
    """
    key = parse_key(text, target=has_target(type))
    event = Event(0, type, key, UNKNOWN, checked_raw(raw, log, text), text)
    if event.raw is None and type is not EventType.RUN_COMPLETED:
        log.check_none(key.namespace, text)
    if key.target in RESERVED:
        _check_reserved(event, ours)
    elif type is not EventType.RUN_OUTPUT and "/" in key.target:
        raise InvalidName(f"the key {text!r} has a slash in its target: choose another name")
    elif type is EventType.ACTIVITY_REQUEST and key.target in (SLEEP, signals.TARGET):
        requested_duration(event)  # else its consumer would park it
        if key.target == signals.TARGET:
            signals.signal_type(key)
    elif type is EventType.ACTIVITY_REQUEST:
        check_target("activity", key.target.strip())  # the Go system allows outer white space
    return event


def _check_reserved(event: Event, ours: bool) -> None:
    """Refuse what no peer of ours adds, or what nobody could read (E1, E2, E7, E9)."""
    type, key = event.type, event.key
    output, response = EventType.RUN_OUTPUT, EventType.ACTIVITY_RESPONSE
    known = (type is output and (key.target == PATCH or key.sequence == "0")) or (
        type is response and key.target == CANCEL and key.sequence in ("0", "1")
    )
    if not (ours and known):
        raise InvalidName(f"the key {event.text!r} has a reserved name: choose another name")
    if key.target == PATCH:
        check_name("patch", key.sequence)
    elif type is response and read_cancel(event) is None:
        raise MessageError(f"{event.text} holds no replay.v1.Cancel")
    elif key.target == FAILURE and read_failure(event) is None:
        raise MessageError(f"{event.text} holds no replay.v1.Failure")


def _any(message: Any) -> bytes | None:
    """The message of a request, as stored."""
    return message.message.SerializeToString() if message.HasField("message") else None


class ReplayService:
    """``replaypb.Replay``."""

    def __init__(self, hosts: Hosts, limits: Limits) -> None:
        self._hosts = hosts

    async def _add(self, who: Principal, type: EventType, text: str, raw: bytes | None) -> bool:
        namespace = text.partition("/")[0]
        who.require(namespace, write=True)
        host = self._hosts.of(namespace)
        return await host.run(host.log.append, incoming(type, text, raw, host.log))

    async def RunWorkflow(
        self, who: Principal, request: replaypb_pb2.RunRequest
    ) -> replaypb_pb2.OK:
        """Start a run (R1)."""
        if parse_key(request.key, target=False).iteration != 0:
            raise InvalidName(f"the key {request.key!r} is not of iteration 0")
        ok = await self._add(who, EventType.RUN_CREATED, request.key, _any(request))
        return replaypb_pb2.OK(ok=ok)

    async def SignalRun(
        self, who: Principal, request: replaypb_pb2.SignalRequest
    ) -> replaypb_pb2.OK:
        """Send a signal (S1)."""
        run = (request.namespace, request.workflow, request.run)
        content = replaypb_pb2.SleepDone() if _is_time_out(request.message.type_url) else None
        type, mark = signals.checked(run, request.signal_type, content, request.external_id)
        who.require(request.namespace, write=True)
        host = self._hosts.of(request.namespace)
        what = f"signal {type} to {'/'.join(run)}"
        raw = checked_raw(_any(request), host.log, what)
        if raw is None:
            host.log.check_none(request.namespace, what)
        sent = signals.Signal(run, type, raw, request.external_id, mark)
        return replaypb_pb2.OK(ok=await host.run(signals.store, host.log, sent))

    async def RequestActivity(
        self, who: Principal, request: replaypb_pb2.KeyMessage
    ) -> replaypb_pb2.Empty:
        """Add a request."""
        await self._add(who, EventType.ACTIVITY_REQUEST, request.key, _any(request))
        return replaypb_pb2.Empty()

    async def RespondActivity(
        self, who: Principal, request: replaypb_pb2.KeyMessage
    ) -> replaypb_pb2.Empty:
        """Add a response.  If there is one already, that one stays (A1)."""
        await self._add(who, EventType.ACTIVITY_RESPONSE, request.key, _any(request))
        return replaypb_pb2.Empty()

    async def EmitOutput(
        self, who: Principal, request: replaypb_pb2.KeyMessage
    ) -> replaypb_pb2.Empty:
        """Add an output (O1)."""
        await self._add(who, EventType.RUN_OUTPUT, request.key, _any(request))
        return replaypb_pb2.Empty()

    async def CompleteRun(
        self, who: Principal, request: replaypb_pb2.CompleteRequest
    ) -> replaypb_pb2.Empty:
        """End a run."""
        await self._add(who, EventType.RUN_COMPLETED, request.key, None)
        return replaypb_pb2.Empty()

    async def RestartRun(
        self, who: Principal, request: replaypb_pb2.RunRequest
    ) -> replaypb_pb2.Empty:
        """End an iteration and begin the next, in one transaction (R6)."""
        key = parse_key(request.key, target=False)
        following = parse_key(str(key._replace(iteration=key.iteration + 1)), target=False)
        who.require(key.namespace, write=True)
        host = self._hosts.of(key.namespace)
        log, created = host.log, EventType.RUN_CREATED
        ended = incoming(EventType.RUN_COMPLETED, request.key, None, log)
        begun = incoming(created, str(following), _any(request), log)

        def restart() -> None:
            if not log.exists(created, following):  # a duplicate insert would burn ids
                log.commit([ended, begun])

        await host.run(restart)
        return replaypb_pb2.Empty()

    async def ListBootstrapEvents(
        self, who: Principal, request: replaypb_pb2.ListBootstrapRequest
    ) -> replaypb_pb2.Events:
        """The events from which a worker replays a run."""
        key = parse_key(request.key, target=False)
        who.require(key.namespace, write=False)
        host = self._hosts.of(key.namespace)
        kinds = (EventType.RUN_CREATED, EventType.RUN_COMPLETED, EventType.ACTIVITY_RESPONSE)
        history = await host.in_turn(who.name, host.log.history, key)
        return replaypb_pb2.Events(events=[reflex(e) for e in history if e.type in kinds])

    async def Stream(
        self, who: Principal, request: replaypb_pb2.StreamRequest
    ) -> AsyncIterator[reflexpb_pb2.Event]:
        """Events in order, without end (L1, L4)."""
        wants = event_filter(request.namespace, request.workflow, request.run, DELIVERED)
        if request.namespace:
            who.require(request.namespace, write=False)
        host, options = self._hosts.of(request.namespace), request.req.options
        after, lag = _position(request.req.after), _lag(options)
        namespaces = frozenset([request.namespace]) if request.namespace else who.namespaces
        losses, floor = await host.refresh(), await host.run(host.log.floor)
        if 0 < after < floor:
            raise pruned(host.log, after)
        end = await host.run(host.log.newest) if options.toHead else None
        if options.fromHead:
            await host.run(host.log.poll)
            after = host.log.tail.end
        while end is None or after < end:
            if await host.refresh() != losses:
                raise Away("the database was lost in between: stream again")
            if end is not None:
                await host.run(host.log.poll)
            events = await host.read(who.name, after, BATCH)
            host.log.check_read(after, floor, events)
            for event in events:
                if end is not None and event.id > end:
                    break
                if wants(event) and visible(who, event):
                    await _until_old(host, event, lag)
                    yield reflex(event)
            after = events[-1].id if events else after
            if events:
                await asyncio.sleep(0)  # other calls have their turn
            else:
                await host.more(Interest(after, namespaces), 60)
        raise AtHead("the stream has come to the head")


def reflex(event: Event) -> reflexpb_pb2.Event:
    """An event in the form of the Go system's package `reflex`, as a stream sends it."""
    answer = reflexpb_pb2.Event(
        id=str(event.id), type=int(event.type), foreign_id=event.text, metadata=event.raw or b""
    )
    answer.timestamp.FromDatetime(event.timestamp)
    return answer


def _is_time_out(type_url: str) -> bool:
    return type_url.rpartition("/")[2] == replaypb_pb2.SleepDone.DESCRIPTOR.full_name


def _position(text: str) -> int:
    if text and not re.fullmatch(r"\d{1,18}", text, re.A):
        raise BadRequest(f"after={text[:100]!r} is not the id of an event")
    return int(text or 0)


def _lag(options: reflexpb_pb2.StreamOptions) -> timedelta:
    seconds, nanos = options.lag.seconds, options.lag.nanos
    if not (0 <= seconds <= 315_576_000_000 and 0 <= nanos < 1_000_000_000):
        raise BadRequest(f"a lag of {seconds} s and {nanos} ns")
    return timedelta(seconds=seconds, microseconds=nanos // 1000)


async def _until_old(host: Host, event: Event, lag: timedelta) -> None:
    while lag and (missing := later(event.timestamp, lag) - host.log.now()) > timedelta(0):
        await host.refresh()
        await host.pause(missing.total_seconds())


class LogService:
    """``replay.log.v1.Log``."""

    def __init__(self, hosts: Hosts, limits: Limits) -> None:
        self._hosts = hosts
        self._limits = limits

    async def Locate(self, who: Principal, request: log_pb2.LocateRequest) -> log_pb2.LocateReply:
        """Name the log of a namespace's events."""
        check_name("namespace", request.namespace)
        who.require(request.namespace, write=False)
        return log_pb2.LocateReply(log=self._hosts.of(request.namespace).name)

    async def Open(
        self, who: Principal, request: log_pb2.OpenRequest
    ) -> AsyncIterator[log_pb2.OpenReply]:
        """Begin a session.  It ends with this call."""
        if request.log:
            who.require(request.log, write=False)
        host = self._hosts.named(request.log)
        await self._limits.work(who.name).pass_by()  # again: a session takes more than a stream
        session = await host.begin(who)
        try:
            yield log_pb2.OpenReply(
                session=session.id,
                end=host.log.tail.end,
                now_us=to_us(host.log.now()),
                max_message=host.log.max_message,
                require_message=host.log.require_message,
            )
            await session.ended.wait()
        finally:
            host.end(session)

    async def _session(self, who: Principal, id: str) -> Session:
        for host in self._hosts.all():
            if id in host.sessions:
                return await host.session(id, who)
        return await self._hosts.all()[0].session(id, who)

    async def Read(self, who: Principal, request: log_pb2.ReadRequest) -> bytes:
        """Events after an id, in order (L1), as `ReadReply`.  The thread that reads encodes it."""
        if request.after < 0 or not 0 <= request.limit <= BATCH or request.wait_ms < 0:
            raise BadRequest("after, limit and wait_ms are not negative, limit is at most 1000")
        session = await self._session(who, request.session)
        host, after = session.host, request.after
        if request.wait_ms:
            await self._await(session, request)
        elif request.limit and after >= host.log.tail.end:
            await host.run(host.log.poll)
            await host.session(session.id, who)
        newest = 0 if request.limit else await host.run(host.log.newest)
        seen = partial(visible, who)

        def encoded(events: Sequence[Event]) -> bytes:
            sparse = bool(events) and events[-1].id - after > len(events)
            reply = log_pb2.ReadReply(
                end=events[-1].id if events else after,
                newest=newest,
                now_us=to_us(host.log.now()),
                pruned=sparse,
            )
            if sparse:
                return encode_events(reply, events, seen)
            return encode_events(reply, filter(seen, events))

        return await host.reply(who.name, after, request.limit, encoded)

    async def _await(self, session: Session, request: log_pb2.ReadRequest) -> None:
        """Wait until there is an event that another added and that the caller may see.

        The session's own events come with the replies to its commits.  Sending each of them twice
        would cost 10 % of the throughput.  An own event after one that the caller may not see is
        sent all the same: the client cannot place it otherwise.
        """
        host, who, position = session.host, session.who, request.after
        deadline = host.time() + min(request.wait_ms / 1000, _WAIT)
        hidden = False
        while (left := deadline - host.time()) > 0 and position - request.after < BATCH:
            for event in (events := await host.read(who.name, position, BATCH)):
                own = isinstance(event, Added) and event.session == session.id
                if hidden if own else visible(who, event):
                    return
                hidden = hidden or not own
            position = events[-1].id if events else position
            await host.more(Interest(position, who.namespaces), left)
            await host.session(session.id, who)

    async def Commit(
        self, who: Principal, requests: AsyncGenerator[log_pb2.CommitRequest]
    ) -> AsyncIterator[log_pb2.CommitReply]:
        """Add events and move a cursor, in one transaction, again and again (L6)."""
        async with aclosing(requests) as parts:
            who.require_write()
            while True:
                async with AsyncExitStack() as held:
                    if (commit := await self._gather(who, parts, held)) is None:
                        return
                    session, request, size = commit
                    weight = size + OVERHEAD * len(request.events)
                    client = self._limits.work(who.name)
                    if is_costly(weight):
                        await held.enter_async_context(session.host.costly_commit(who.name))
                        await held.enter_async_context(client.costly)
                    else:
                        await held.enter_async_context(client.hold(weight))
                    work = self._commit(session, request)
                    yield await session.host.holding(held.pop_all(), work)

    async def _gather(
        self, who: Principal, parts: AsyncIterator[log_pb2.CommitRequest], held: AsyncExitStack
    ) -> tuple[Session, log_pb2.CommitRequest, int] | None:
        """The session of the next commit, its parts in one, and their bytes; None at the end.

        Its bytes count as in flight until `held` ends.  A session's large commits come one after
        the other, so that they do not take all memory and all threads.
        """
        whole, size = log_pb2.CommitRequest(), 0
        try:
            async with asyncio.timeout(None) as patience:
                async for part in parts:
                    session = await self._session(who, part.session)
                    size += self._weigh(who, session, part, held)
                    if patience.when() is None and (part.more or len(part.events) > _MANY):
                        await held.enter_async_context(session.large_commit)
                        patience.reschedule(asyncio.get_running_loop().time() + _UNFINISHED)
                    whole.MergeFrom(part)
                    if size > LARGEST_COMMIT or len(whole.events) > MOST_EVENTS:
                        raise MessageTooLarge(
                            f"a commit of over {LARGEST_COMMIT} bytes or {MOST_EVENTS} events"
                        )
                    if not part.more:
                        return session, whole, size
        except TimeoutError:
            text = f"the rest of a commit did not come within {_UNFINISHED:.0f} s"
            raise Away(text) from None
        return None

    def _weigh(
        self,
        who: Principal,
        session: Session,
        part: log_pb2.CommitRequest,
        held: AsyncExitStack,
    ) -> int:
        """Count a part as in flight until `held` ends.  Return its bytes."""
        length, count = part.ByteSize(), len(part.events) + len(part.move.parked)
        weight = length + OVERHEAD * count
        self._limits.commits.take(who.name, session.id, weight)
        held.callback(self._limits.commits.give_back, who.name, session.id, weight)
        return length

    async def _commit(
        self, session: Session, request: log_pb2.CommitRequest
    ) -> log_pb2.CommitReply:
        def commit() -> tuple[list[Event], list[bool]]:
            added = [self._event(session, event) for event in request.events]
            return added, host.log.commit(added, move)

        move = _move(session, request.move) if request.HasField("move") else None
        host = session.host
        try:
            if move is None:
                return _stored(host, *await host.commit(commit))
            async with host.owned(session, move.consumer) as claim:
                added, stored = await host.commit(commit)
                claim.cursor = move.new
                host.measure(move, sum(stored))
                return _stored(host, added, stored)
        except (LostOwnership, NameCollision, DatabaseError) as error:
            return log_pb2.CommitReply(error=public_name(error), details=public_text(error))

    def _event(self, session: Session, event: log_pb2.Event) -> Event:
        raw = event.message if event.HasField("message") else None
        added = incoming(_type(event.type), event.key, raw, session.host.log, ours=True)
        namespace = added.key.namespace
        session.who.require(namespace, write=True)
        if self._hosts.of(namespace) is not session.host:
            raise BadRequest(f"namespace {namespace!r} is in another log than this session")
        return Added.by(session.id, added)

    async def Claim(self, who: Principal, request: log_pb2.ClaimRequest) -> log_pb2.ClaimReply:
        """Become the owner of a consumer's name (L7)."""
        who.require_write()
        session = await self._session(who, request.session)
        if request.wait_ms < 0:
            raise BadRequest("wait_ms is negative")
        name = stored_name(who, request.consumer)
        wait = min(request.wait_ms / 1000, _WAIT)
        cursor = await session.host.claim(session, name, wait)
        floor = 0 if cursor is None else await session.host.run(session.host.log.floor)
        return log_pb2.ClaimReply(cursor=cursor, floor=floor)

    async def Release(
        self, who: Principal, request: log_pb2.ReleaseRequest
    ) -> log_pb2.ReleaseReply:
        """Release a name."""
        session = await self._session(who, request.session)
        given = request.HasField("old") and request.HasField("new")
        if given and not 0 <= request.old <= request.new:
            raise BadRequest("a cursor moves forwards, from 0 on")
        old, new = (request.old, request.new) if given else (None, None)
        await session.host.release(session, stored_name(who, request.consumer), old, new)
        return log_pb2.ReleaseReply()

    async def Served(self, who: Principal, request: log_pb2.ServedRequest) -> log_pb2.ServedReply:
        """Whether anybody serves a consumer."""
        session = await self._session(who, request.session)
        host, name = session.host, stored_name(who, request.consumer)
        served = partial(host.log.served, name, ever=request.ever)
        return log_pb2.ServedReply(served=await host.run(served))

    async def Share(self, who: Principal, request: log_pb2.ShareRequest) -> log_pb2.ShareReply:
        """Which shards of a consumer this session is to own (H3)."""
        who.require_write()
        session = await self._session(who, request.session)
        name, shards = stored_name(who, request.consumer), request.shards
        if request.consumer.startswith("consumer/"):
            raise InvalidName(f"{request.consumer[:300]!r}: workflows and activities have shards")
        if not 0 <= shards <= MOST_SHARDS:
            raise BadRequest(f"{shards} shards: expected up to {MOST_SHARDS}")
        mine: Sequence[int] = ()
        if not shards:
            await session.host.withdraw(session, name)
        elif request.settle:
            await session.host.settle(name, shards)
        else:
            mine = await session.host.share(session, name, shards)
        return log_pb2.ShareReply(shards=mine)

    async def ListParked(
        self, who: Principal, request: log_pb2.ListParkedRequest
    ) -> log_pb2.ListParkedReply:
        """The next events that a consumer has parked."""
        session = await self._session(who, request.session)
        host, name = session.host, stored_name(who, request.consumer)
        if not 0 <= request.after < 2**63:
            raise BadRequest(f"{request.after} is not the id of an event")
        parked = await host.run(host.log.parked_after, name, request.after)
        return log_pb2.ListParkedReply(parked=map(parked_to, parked))

    async def DueParked(self, who: Principal, request: log_pb2.ListParkedRequest) -> log_pb2.Ids:
        """The ids of the next parked events that are due."""
        session = await self._session(who, request.session)
        host, name = session.host, stored_name(who, request.consumer)
        if not 0 <= request.after < 2**63:
            raise BadRequest(f"{request.after} is not the id of an event")
        return log_pb2.Ids(ids=await host.run(host.log.due_parked, name, request.after))

    async def Retry(self, who: Principal, request: log_pb2.RetryRequest) -> log_pb2.RetryReply:
        """Make parked events due at once.  Those of other namespaces count as not there (G4)."""
        who.require_write()
        host, ids = (await self._session(who, request.session)).host, _some(request.ids)
        name = request.consumer
        if len(name) > 255 or not all(0 <= id < 2**63 for id in ids):
            raise BadRequest("not the name of a consumer, or not the ids of events")
        found = await host.run(host.log.parked_namespaces, name, ids)
        ours = [id for id, namespace in found.items() if who.may_read(namespace)]
        return log_pb2.RetryReply(count=await host.run(host.log.retry, name, ours))

    async def Get(self, who: Principal, request: log_pb2.GetRequest) -> log_pb2.GetReply:
        """One event, by its id or by its type and key."""
        host = (await self._session(who, request.session)).host
        if not 0 <= request.id < 2**63:
            raise BadRequest(f"{request.id} is not the id of an event")
        if request.id or not request.key:
            event = await host.run(host.log.get, request.id)
        else:
            type = _type(request.type)
            key = _readable(who, parse_key(request.key, target=has_target(type)))
            event = await host.run(host.log.find, type, key)
        seen = event is not None and visible(who, event)
        return log_pb2.GetReply(event=event_to(event) if event is not None and seen else None)

    async def Find(self, who: Principal, request: log_pb2.FindRequest) -> log_pb2.Keys:
        """Those of these keys that the log has."""
        session = await self._session(who, request.session)
        type, log = _type(request.type), session.host.log
        target = has_target(type)
        keys = [_readable(who, parse_key(text, target=target)) for text in _some(request.keys)]
        return log_pb2.Keys(keys=await session.host.run(log.among, type, keys))

    async def Begun(self, who: Principal, request: log_pb2.BegunRequest) -> log_pb2.Keys:
        """Those of these iterations that have done anything."""
        session = await self._session(who, request.session)
        keys = [parse_key(text, target=False) for text in _some(request.keys)]
        if len({_readable(who, key)[:2] for key in keys}) > 1:
            raise BadRequest("these are iterations of several workflows")
        found = await session.host.run(session.host.log.begun, keys)
        return log_pb2.Keys(keys=map(str, found))

    async def History(
        self, who: Principal, request: log_pb2.HistoryRequest
    ) -> AsyncIterator[log_pb2.Events]:
        """All events of an iteration."""
        session = await self._session(who, request.session)
        key = _readable(who, parse_key(request.key, target=False))
        host = session.host
        for some in chunks(await host.in_turn(who.name, host.log.history, key)):
            yield log_pb2.Events(events=map(event_to, some))

    async def Load(self, who: Principal, request: log_pb2.LoadRequest) -> bytes:
        """The first of these events, with their messages, as `Events`.  As in `Read`."""
        host = (await self._session(who, request.session)).host
        ids = _some(request.ids)
        if not all(0 <= id < 2**63 for id in ids):
            raise BadRequest("not all of these are ids of events")

        def encoded() -> bytes:
            seen = filter(partial(visible, who), host.log.with_ids(ids))
            return encode_events(log_pb2.Events(), seen)

        return await host.in_turn(who.name, encoded)

    async def LastIteration(
        self, who: Principal, request: log_pb2.LastIterationRequest
    ) -> log_pb2.LastIterationReply:
        """The newest iteration that began and the newest that ended."""
        session = await self._session(who, request.session)
        run = (request.namespace, request.workflow, request.run)
        check_run(*run)
        who.require(request.namespace, write=False)
        begun, ended = await session.host.run(session.host.log.last_iteration, *run)
        return log_pb2.LastIterationReply(begun=begun, ended=ended)

    # Queries.

    async def ListRuns(
        self, who: Principal, request: log_pb2.ListRunsRequest
    ) -> log_pb2.ListRunsReply:
        """Runs, newest first (Q1)."""
        host = (await self._session(who, request.session)).host
        ask = RunsQuery(
            namespaces=_asked(who, request.namespace),
            workflow=request.workflow,
            statuses=frozenset(request.statuses),
            started_after=_moment(request),
            limit=request.limit,
            after=request.after,
        )
        runs = await host.in_turn(who.name, Queries(host.log).runs, ask)
        return log_pb2.ListRunsReply(runs=map(run_to, runs))

    async def CountRuns(
        self, who: Principal, request: log_pb2.ListRunsRequest
    ) -> log_pb2.CountRunsReply:
        """How many runs there are of each status (Q1)."""
        host = (await self._session(who, request.session)).host
        ask = RunsQuery(namespaces=_asked(who, request.namespace), workflow=request.workflow)
        counts = await host.in_turn(who.name, Queries(host.log).count, ask)
        return log_pb2.CountRunsReply(counts=counts)

    async def FindIds(self, who: Principal, request: log_pb2.FindIdsRequest) -> log_pb2.Ids:
        """The ids of a run's events."""
        host = (await self._session(who, request.session)).host
        run = (request.namespace, request.workflow, request.run)
        check_run(*run)
        who.require(request.namespace, write=False)
        iteration = request.iteration if request.HasField("iteration") else None
        if not (request.after >= 0 and request.end >= 0 and 0 <= (iteration or 0) <= _LARGEST):
            raise BadRequest("ids and iterations are not negative")
        arguments = (run, iteration, request.after, request.end)
        found = await host.in_turn(who.name, Queries(host.log).ids, *arguments)
        return log_pb2.Ids(ids=found)

    async def ListConsumers(
        self, who: Principal, request: log_pb2.ListConsumersRequest
    ) -> log_pb2.ListConsumersReply:
        """The consumers that the caller may see, by name (Q1)."""
        host = (await self._session(who, request.session)).host
        if len(request.after) > 255:
            raise BadRequest("this is not the name of a consumer")
        found, following = await host.in_turn(who.name, Queries(host.log).consumers, request.after)
        seen = [_shown(who, each) for each in found if _sees(who, each.name)]
        return log_pb2.ListConsumersReply(consumers=map(consumer_to, seen), next=following)

    async def FindParked(
        self, who: Principal, request: log_pb2.FindParkedRequest
    ) -> log_pb2.FindParkedReply:
        """Parked events, of all consumers (Q1)."""
        host = (await self._session(who, request.session)).host
        queries = Queries(host.log)
        if request.keys:
            keys = [str(_readable(who, Key.parse(text))) for text in _some(request.keys)]
            found = await host.in_turn(who.name, queries.parked_at, keys)
        else:
            ask = ParkedQuery(
                namespaces=_asked(who, request.namespace),
                workflow=request.workflow,
                run=request.run,
                limit=request.limit,
                after=(request.after_key, request.after_id),
            )
            found = await host.in_turn(who.name, queries.parked, ask)
        return log_pb2.FindParkedReply(parked=map(info_to, found))

    # Retention (L9).

    async def Floor(self, who: Principal, request: log_pb2.FloorRequest) -> log_pb2.FloorReply:
        """The id up to which missing ids are final."""
        host = (await self._session(who, request.session)).host
        return log_pb2.FloorReply(floor=await host.run(host.log.floor))

    async def FindPrunable(
        self, who: Principal, request: log_pb2.FindPrunableRequest
    ) -> log_pb2.FindPrunableReply:
        """The iterations that may go next."""
        host, policy = await self._pruning(who, request.session, request.policy)
        if not 0 <= request.after < 2**63:
            raise BadRequest(f"{request.after} is not the id of an event")
        if not request.after:
            await host.in_turn(who.name, host.client.store_cursors)
        found = await host.in_turn(who.name, Retention(host.log).find, policy, request.after)
        keys = [str(over.key) for over in found.over]
        return log_pb2.FindPrunableReply(keys=keys, next=found.next, last=found.is_last)

    async def Prune(self, who: Principal, request: log_pb2.PruneRequest) -> log_pb2.PruneReply:
        """Remove iterations that may go."""
        host, policy = await self._pruning(who, request.session, request.policy)
        keys = [Key.parse(text) for text in _some(request.keys)]

        def prune() -> Removed | None:
            retention = Retention(host.log)
            over = retention.among(policy, keys)
            return retention.remove(policy, over) if over else Removed()

        if (removed := await host.finish(host.in_turn(who.name, prune))) is None:
            return log_pb2.PruneReply(again=True)
        return log_pb2.PruneReply(**removed._asdict())

    async def _pruning(
        self, who: Principal, session: str, policy: log_pb2.Policy
    ) -> tuple[Host, Policy]:
        """Check a policy.  The floor concerns all who read the log, so the token has to, too."""
        who.require_write()
        if who.namespaces is not None:
            raise Forbidden(f"token {who.name!r} is for some namespaces; pruning is for all")
        if policy.namespace:
            check_name("namespace", policy.namespace)
        try:
            checked = policy_from(policy)
        except OverflowError as error:
            raise BadRequest(f"{policy.before_us} is no moment") from error
        if not 0 <= (checked.shared_with_go_passed or 0) < 2**63:
            raise BadRequest("shared_with_go_passed is not the id of an event")
        return (await self._session(who, session)).host, checked

    async def Forget(self, who: Principal, request: log_pb2.ForgetRequest) -> log_pb2.ForgetReply:
        """Forget a consumer that will not come back."""
        who.require_write()
        host = (await self._session(who, request.session)).host
        name = stored_name(who, request.consumer)
        behind = await host.finish(host.run(Retention(host.log).forget, name))
        return log_pb2.ForgetReply(behind=behind)


def _asked(who: Principal, namespace: str) -> frozenset[str] | None:
    """The namespaces that a query is about: one, or all that the caller may read (G4)."""
    if not namespace:
        return who.namespaces
    who.require(namespace, write=False)
    return frozenset([namespace])


def _moment(request: log_pb2.ListRunsRequest) -> datetime | None:
    if not request.HasField("started_after_us"):
        return None
    if not 0 <= request.started_after_us <= to_us(datetime(9999, 12, 31, tzinfo=UTC)):
        raise BadRequest(f"{request.started_after_us} is no time since 1970")
    return from_us(request.started_after_us)


def _sees(who: Principal, consumer: str) -> bool:
    """Whether a caller may see a consumer: those of its namespaces, and its own (G4).

    A shortened name no longer shows its namespace.
    """
    if who.namespaces is None:
        return True
    kind, _, rest = consumer.partition("/")
    first = rest.partition("/")[0]
    if kind in ("consumer", "token"):
        return first == who.name
    of_namespace = kind in ("workflow", "activity") and not is_shortened(consumer)
    return of_namespace and who.may_read(first)


def _shown(who: Principal, consumer: ConsumerInfo) -> ConsumerInfo:
    """Return a consumer as a caller sees it: a token for some namespaces learns of no host (G4)."""
    if who.namespaces is None or not consumer.owner:
        return consumer
    return replace(consumer, owner="hidden")


def _stored(host: Host, events: list[Event], stored: list[bool]) -> log_pb2.CommitReply:
    added = [event for event, new in zip(events, stored, strict=True) if new]
    ids = [event.id for event in added if event.id]
    moment = added[0].timestamp if ids else host.log.now()
    return log_pb2.CommitReply(
        stored=[] if all(stored) else stored, ids=ids, time_ms=to_us(moment) // 1000
    )


def _move(session: Session, move: log_pb2.Move) -> Move:
    moment = range(0, to_us(datetime(9999, 12, 31, tzinfo=UTC)) // 1000)
    sound = 0 <= move.old <= move.new < 2**63 and all(
        0 <= each.event_id < 2**63
        and 0 <= each.attempts <= _LARGEST
        and each.next_at_ms in moment
        and len(each.error.encode()) <= LONGEST_TEXT
        and "\0" not in each.error
        and len(each.key) <= 512
        for each in move.parked
    )
    if not sound or not all(0 <= id < 2**63 for id in move.unparked):
        raise BadRequest("a move with numbers or texts that cannot be stored")
    for each in move.parked:
        key = parse_key(each.key, target=each.key.count("/") > 3)
        session.who.require(key.namespace, write=True)
    name = stored_name(session.who, move.consumer)
    parked = [parked_from(each) for each in move.parked]
    attempts = _attempts(move.attempts)
    return Move(name, move.old, move.new, parked, list(move.unparked), attempts=attempts)


def _attempts(told: log_pb2.Attempts) -> Attempts:
    """Read what a client says of its attempts.  Its figures reach the server's metrics only."""
    numbers = (told.failed, told.retried, len(told.seconds))
    if not all(0 <= number <= MOST_EVENTS for number in numbers):
        raise BadRequest(f"a commit with more than {MOST_EVENTS} attempts")
    if not all(0 <= seconds < math.inf for seconds in told.seconds):
        raise BadRequest("an attempt took no length of time")
    return Attempts(list(told.seconds), told.failed, told.retried)


def stored_name(who: Principal, consumer: str) -> str:
    """The stored name of a consumer.  No token reaches another namespace's consumers (G4).

    A consumer of a program's own may read several namespaces.  Its name then belongs to the token,
    so that the consumers of two tokens never meet.  Tokens for all namespaces share their names.
    """
    kind, _, rest = consumer.partition("/")
    if kind not in _CONSUMERS or not rest or len(consumer) > 255:
        raise InvalidName(f"consumer {consumer[:300]!r}: not the name of a consumer of clients")
    for part in rest.split("/"):
        check_name("consumer", part)
    if who.namespaces is None:
        return consumer
    if kind == "consumer":
        return consumer_name(kind, who.name, rest)
    if is_shortened(consumer):  # a shortened name no longer shows its namespace
        return consumer_name("token", who.name, consumer)
    who.require(rest.partition("/")[0], write=False)
    return consumer


def _some(keys: Iterable[T]) -> Sequence[T]:
    if len(some := list(keys)) > BATCH:
        raise BadRequest(f"{len(some)} keys, at most {BATCH} are asked for at a time")
    return some


def _readable(who: Principal, key: Key) -> Key:
    who.require(key.namespace, write=False)
    return key
