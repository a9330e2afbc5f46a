"""The limits of a server: what its clients may hold at a time, and how much each of them (G5).

Invariant: a client is the owner of a token or, without tokens, an address.  No client can use up
what the others need: it gets a part of each limit, and one connection at most a part of that.

Left to `server` and `services`: counting each call, each claim and each byte here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from functools import lru_cache
from typing import Any
from weakref import WeakValueDictionary

from ..consumer import FULL
from ..log import LARGEST_STEP, LONGEST_STEP
from ..storage.database import Error
from ..storage.event import MessageTooLarge
from ..storage.tail import BYTES
from .access import Forbidden, Unauthenticated
from .options import Options

try:
    import resource
except ModuleNotFoundError:  # Windows, which has no such limit
    resource = None  # type: ignore[assignment]

log = logging.getLogger("replay")

#: A batch before its last event, the step of that event, and what comes with it.
LARGEST_COMMIT = LARGEST_STEP + 2 * BYTES
#: The same in events.  The end of a run comes with them; the rest is a margin.
MOST_EVENTS = LONGEST_STEP + FULL + 500
OVERHEAD = 256  # bytes that an event takes beside its own
AT_A_TIME = 64 * 1024  # bytes of a client's calls and small commits that are carried out at a time
#: Bytes that a call counts for, however small it is: two of a database's 8 threads are for others.
_CALL = AT_A_TIME // 6
_REST = 0.003  # seconds that a call keeps its place after its answer: so 2,000 a second of a client
_MOST_FIELDS = 3_000  # events, keys or parked events of a request
_UNCHECKED = 16 * 1024  # bytes of a request that has too few fields to do harm
_QUIET = 10.0  # seconds between two warnings
_APART = 0.001  # seconds between the answers to two refused calls of a client
_WAITING = 2500  # refused calls of a client that wait for their answers


class LimitReached(Error):
    """The client has reached a limit.  Nothing was done, and it may repeat the call later."""


#: Why a call is refused, in the server's metrics.
_REASONS: Mapping[type[Exception], str] = {
    Unauthenticated: "token",
    Forbidden: "rights",
    LimitReached: "limit",
}


class Limit:
    """So many places, of which a client gets a part, and each of its connections another."""

    def __init__(self, what: str, server: int, client: int, connection: int) -> None:
        self._what = what
        self._parts = {"server": server, "client": client, "connection": connection}
        self.held: Counter[tuple[str, str]] = Counter()

    @contextmanager
    def hold(self, client: str, connection: str) -> Iterator[None]:
        """Hold a place until the block ends.  Raises `LimitReached`."""
        self.take(client, connection)
        try:
            yield
        finally:
            self.give_back(client, connection)

    def take(self, client: str, connection: str, count: int = 1) -> None:
        """Hold so many places more.  Raises `LimitReached`, which names the limit."""
        holders = self._holders(client, connection)
        for holder in holders:
            part = max(1, self._parts[holder[0]])
            if self.held[holder] + count > part:
                raise LimitReached(f"{self._what}: this {holder[0]} may have {part} at a time")
        for holder in holders:
            self.held[holder] += count

    def give_back(self, client: str, connection: str, count: int = 1) -> None:
        """Give so many places back."""
        for holder in self._holders(client, connection):
            self.held[holder] -= count
            if not self.held[holder]:
                del self.held[holder]

    @staticmethod
    def _holders(client: str, connection: str) -> list[tuple[str, str]]:
        return [("server", ""), ("client", client), ("connection", connection)]


class Work:
    """The server's work for one client: so many bytes at a time.  The rest waits, in order.

    A costly commit or a costly read takes no place.  A client has one of each: see `Host.turn`.
    """

    def __init__(self) -> None:
        #: Held while a large request is parsed, or a costly commit is carried out.
        self.costly = asyncio.Lock()
        self._free = AT_A_TIME
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def hold(self, size: int, rest: float = 0.0) -> AsyncIterator[None]:
        """Wait for a place of this size.  Hold it until the block ends, and `rest` seconds more."""
        size = min(max(size, _CALL), AT_A_TIME)
        if self._waiting or size > self._free:
            await self._place(size)
        else:
            self._free -= size
        try:
            yield
        finally:
            asyncio.get_running_loop().call_later(rest, self._give_back, size)

    def call(self) -> AbstractAsyncContextManager[None]:
        """Hold a place for a call.

        gRPC accepts new calls one by one, in the order in which they come, between the work for
        those that it has.  If a client's calls were answered as soon as they are accepted, its next
        ones would come as soon, and another client's call would wait outside behind all of them.
        So a call keeps its place for a while, and the client's others wait inside.
        """
        return self.hold(_CALL, _REST)

    async def pass_by(self) -> None:
        """Hold a place for a moment, for a call that streams from then on, or has failed."""
        async with self.hold(2 * _CALL, _REST):
            pass

    async def _place(self, size: int) -> None:
        place = asyncio.get_running_loop().create_future()
        self._waiting.append((size, place))
        try:
            await place
        except asyncio.CancelledError:
            self._give_back(0 if place.cancelled() else size)
            raise

    def _give_back(self, size: int) -> None:
        """Give the places that are free to those that wait.  Some of these may have gone away."""
        self._free += size
        while self._waiting:
            size, place = self._waiting[0]
            if not place.cancelled():
                if size > self._free:
                    return
                self._free -= size
                place.set_result(None)
            self._waiting.popleft()


class Limits:
    """All limits of one server."""

    def __init__(self, options: Options) -> None:
        calls, streams, files = options.max_calls, options.max_streams, open_files()
        #: Calls that a connection may have at a time.  Beyond it a gRPC client waits by itself, and
        #: the server refuses one that does not.  So calls that are reset at once cannot pile up.
        self.per_connection = max(100, streams // 10 + 25)
        #: Connections at a time.  A quarter of the files is for locks, another for the databases.
        self.connections = min(files // 2, 10_000)
        #: Calls from their first byte on, whatever they are.
        part = streams + calls // 4
        self.begun = Limit("calls in flight", 2 * calls, part, part)
        self.calls = Limit("calls in flight", calls, calls // 4, calls // 4)
        #: All that waits: streams, sessions, long polls.  It takes no place of the calls above.
        self.streams = Limit("streams and waiting calls", calls, streams, streams // 10)
        locks = min(files // 4, 10_000)
        self.claims = Limit("consumers", locks, locks // 2, locks // 4)
        part = LARGEST_COMMIT + MOST_EVENTS * OVERHEAD
        self.commits = Limit("bytes of commits in flight", 2 * part, part, part)
        #: Refused calls that wait for their answers, see `spread`.
        self.refusals = Limit("refused calls", 4 * _WAITING, _WAITING, _WAITING)
        self.warnings = Seldom()
        self._work: WeakValueDictionary[str, Work] = WeakValueDictionary()
        #: Calls that were refused, by reason.
        self.refused = dict.fromkeys(_REASONS.values(), 0)

    def work(self, client: str) -> Work:
        """The work for a client.  Keep it for as long as the call lasts: nothing else does."""
        return self._work.setdefault(client, Work())

    async def spread(self, client: str, connection: str) -> None:
        """Wait before a refused call is answered: a millisecond for each that waits already.

        So callers that are refused at once do not come back at once, again and again.  One that
        waits holds nothing but its turn.  If there are too many, the call is answered at once.
        """
        with suppress(LimitReached), self.refusals.hold(client, connection):
            await asyncio.sleep(self.refusals.held["client", client] * _APART)

    def note(self, error: BaseException) -> None:
        """Count a call that was refused, if this is why."""
        for kind, reason in _REASONS.items():
            self.refused[reason] += isinstance(error, kind)


class Seldom:
    """Warnings of which there may be many: it logs one at a time, and counts the others."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next = clock()
        self._left_out = 0

    def warn(self, text: str) -> None:
        """Log a warning, at most every ten seconds."""
        if self._clock() < self._next:
            self._left_out += 1
            return
        others = f" (and {self._left_out} more warnings like this)" if self._left_out else ""
        log.warning("%s%s", text, others)
        self._next, self._left_out = self._clock() + _QUIET, 0


def open_files() -> int:
    """How many files this process may have open."""
    if resource is None:
        return 1024
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else 2**20


def allow_open_files() -> None:
    """Let this process have as many files open as its hard limit allows.

    Each connection and, on SQLite, each claim takes one.  The usual limit is 1,024.
    """
    if resource is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def check_fields(descriptor: Any, raw: bytes) -> None:
    """Raise `MessageTooLarge` for a request of very many fields, before it is decoded.

    Two bytes can stand for an event that takes a hundred.  A malformed request passes: the decoder
    refuses it.
    """
    if len(raw) > _UNCHECKED and _fields(descriptor, raw, 0, len(raw)) > _MOST_FIELDS:
        raise MessageTooLarge(f"a request of more than {_MOST_FIELDS} parts: send several")


def _fields(descriptor: Any, raw: bytes, at: int, end: int) -> int:
    """The number of fields, up to a few more than a request may have."""
    count = 0
    try:
        while at < end and count <= _MOST_FIELDS:
            tag, at = _varint(raw, at)
            field = descriptor.fields_by_number.get(tag >> 3)
            count += 1
            if tag & 7 == 2:  # with a length
                length, at = _varint(raw, at)
                if field is not None and field.is_packed:
                    # At least: a number may take one byte only.  A double takes no more than here.
                    held = min(length, end - at)
                    count += 0 if field.type == field.TYPE_DOUBLE else held // 8
                elif field is not None and _holds_many(field.message_type):
                    count += _fields(field.message_type, raw, at, at + length)
                at += length
            elif tag & 7 == 0:
                _, at = _varint(raw, at)
            else:
                at += {1: 8, 5: 4}.get(tag & 7, 0)
    except IndexError:
        pass
    return count


@lru_cache(maxsize=100)
def _holds_many(descriptor: Any) -> bool:
    return descriptor is not None and any(field.is_repeated for field in descriptor.fields)


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    number, shift = raw[at] & 127, 7
    while raw[at] > 127:
        at += 1
        number |= (raw[at] & 127) << shift
        shift += 7
    return number, at + 1
