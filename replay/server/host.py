"""One log in a server: its threads, those who wait for its events, and its sessions.

Role: `Host` has an embedded client of one database, and lets the server's coroutines use it.  A
coroutine waits without a thread, for events, for a name, for the end; what asks the database runs
in one of a few threads.

Invariants:

- A name has one owner among the sessions of a host; among processes that is the log's affair.
- A session's claims end with it, after what it was just committing.

All locks of the database are taken and given back in one thread, since a server keeps them with the
connection that took them.

Left to `services`: what callers ask for.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ..client import Client
from ..log import LostPlace
from ..storage.database import DatabaseError, Unavailable
from ..storage.event import Event, EventType
from ..storage.tail import Alarm, Waiter
from .access import Principal
from .wire import SessionLost

log = logging.getLogger("replay")

T = TypeVar("T")

_RETRY = 0.2  # seconds between two looks for a name that another process owns


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Bell:
    """Wakes coroutines that wait for it."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    def ring(self) -> None:
        """Wake all who wait."""
        for future in self._waiting:
            _settle(future)

    async def wait(self, seconds: float) -> None:
        """Wait for the next ring, at most so long."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._waiting.add(future)
        timer = loop.call_later(seconds, _settle, future)
        try:
            await future
        finally:
            timer.cancel()
            self._waiting.discard(future)


class _Heard(Alarm):
    """An alarm of the tail's that is heard in the event loop, not by a thread."""

    def __init__(self, hear: Callable[[], None]) -> None:
        self._loop, self._hear = asyncio.get_running_loop(), hear

    def ring(self) -> None:
        """As in `Alarm`."""
        self._loop.call_soon_threadsafe(self._hear)

    def wait(self, timeout: float | None) -> bool:
        """As in `Alarm`, at once."""
        return False


class Added(Event):
    """An event that a session has added.  Its client knows it from the answer to the commit."""

    __slots__ = ("session",)

    def __init__(self, event: Event, session: Session) -> None:
        super().__init__(0, event.type, event.key, event.timestamp, event.raw, event.text)
        self.session = session.id


@dataclass(eq=False)
class Claim:
    """A name that a session owns, and the cursor as last stored."""

    cursor: int
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(eq=False)
class Session:
    """A remote client's process, as long as it is connected."""

    host: Host
    who: Principal
    losses: int
    id: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    claims: dict[str, Claim] = field(default_factory=dict)
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Host:
    """The log of one database, in a server."""

    def __init__(self, name: str, client: Client, threads: int) -> None:
        self.name = name
        self.client = client
        self.log = client.log
        self.stopping = False
        self.sessions: dict[str, Session] = {}
        self._loop = asyncio.get_running_loop()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=f"replay-{name or 'default'}")
        self._keeper = ThreadPoolExecutor(1, thread_name_prefix=f"replay-locks-{name}")
        self._losses = self.log.refresh()
        self._owners: dict[str, Session] = {}
        self._news, self._released = Bell(), Bell()
        self._tasks: set[asyncio.Task[Any]] = set()  # that nobody else may wait for
        self._waiter = Waiter(lambda event: not isinstance(event, Added))
        self._waiter.alarm = _Heard(self._hear)

    def start(self) -> None:
        """Look for events, and serve sleeps and signals or stand by for that."""
        self.log.tail.keep_polling(self.log.poll)
        for consumer in self.client.loops():
            consumer.start()
        self._hear()

    def _hear(self) -> None:
        # Asks to be told of the next event before it wakes those who look at what is there now.
        self.log.tail.wait(self._waiter, self.log.tail.end, 0)
        self._news.ring()

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call something that asks the database, in a thread."""
        return await self._loop.run_in_executor(self._pool, function, *arguments)

    async def commit(self, function: Callable[[], T]) -> T:
        """As `run`, for what a session adds: the tail does not ring for that."""
        try:
            return await self.run(function)
        finally:
            self._news.ring()

    async def _keep(self, function: Callable[..., T], *arguments: Any) -> T:
        return await self._loop.run_in_executor(self._keeper, function, *arguments)

    # Events.

    async def read(self, after: int, limit: int) -> Sequence[Event]:
        """As `Log.read`, in a thread only where the database has to be asked."""
        found = self.log.tail.slice(after, limit)
        return await self.run(self.log.read, after, limit) if found is None else found

    async def refresh(self) -> int:
        """As `Log.refresh`; raises `Unavailable` when the server stops."""
        if self.stopping:
            raise Unavailable("the server is stopping")
        if self.log.losses != self._losses:
            self._losses = await self.run(self.log.refresh)
        return self._losses

    async def finish(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something to its end, even if its caller goes away meanwhile."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    def time(self) -> float:
        """The time by the server's own clock, in seconds, for measuring."""
        return self._loop.time()

    async def pause(self, seconds: float) -> None:
        """Wait so long, or until the server stops."""
        deadline = self.time() + seconds
        while not self.stopping and (left := deadline - self.time()) > 0:
            await self._news.wait(left)

    async def more(self, after: int, seconds: float) -> None:
        """Wait until there may be events behind `after`, at most so long."""
        if self.log.tail.end <= after and not self.stopping:
            await self._news.wait(seconds)

    # Sessions.

    async def begin(self, who: Principal) -> Session:
        """A new session."""
        session = Session(self, who, await self.refresh())
        self.sessions[session.id] = session
        return session

    async def session(self, id: str, who: Principal) -> Session:
        """The session with this id.  Raises `SessionLost`."""
        if self.stopping:
            raise SessionLost("the server is stopping")
        session = self.sessions.get(id)
        if session is None or session.ended.is_set() or session.who != who:
            raise SessionLost("there is no such session: open another")
        if self.log.losses != session.losses:
            self.expel(session)
            raise SessionLost(f"{self.log.name} was lost in between: open another session")
        return session

    def expel(self, session: Session) -> None:
        """End a session from this side."""
        session.ended.set()

    def end(self, session: Session) -> None:
        """The session's connection is gone, or it is expelled: give its names up."""
        session.ended.set()
        if self.sessions.pop(session.id, None) is not None:
            task = self._loop.create_task(self._give_up(session))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _give_up(self, session: Session) -> None:
        for name in list(session.claims):
            try:
                await self.release(session, name, None, None)
            except DatabaseError as error:
                log.warning("%s is not given up, but left to its lock or lease: %s", name, error)

    # Names.

    async def claim(self, session: Session, name: str, wait: float) -> int | None:
        """As `Log.claim`, for a session."""
        deadline = self._loop.time() + wait
        while not session.ended.is_set():
            pause = wait
            if self._owners.setdefault(name, session) is session:
                if (cursor := await self._take(session, name)) is not None:
                    return cursor
                pause = _RETRY
            left = deadline - self._loop.time()
            if left <= 0:
                return None
            await self._released.wait(min(pause, left))
        raise SessionLost("the session has ended")

    async def _take(self, session: Session, name: str) -> int | None:
        cursor = None
        try:
            cursor = await self._keep(self.log.claim, name, 0)
            if cursor is not None:
                session.claims[name] = Claim(cursor)
        finally:
            if cursor is None:
                self._free(name)
        if session.ended.is_set() and cursor is not None:  # while it waited for this
            await self.release(session, name, None, None)
            raise SessionLost("the session has ended")
        return cursor

    def _free(self, name: str) -> None:
        self._owners.pop(name, None)
        self._released.ring()

    @asynccontextmanager
    async def owned(self, session: Session, name: str) -> AsyncIterator[Claim]:
        """A claim, for as long as it is worked with.  Raises `LostPlace`."""
        claim = session.claims.get(name)
        if claim is not None:
            async with claim.busy:
                if session.claims.get(name) is claim:
                    yield claim
                    return
        raise LostPlace(f"consumer {name} is not owned by this session")

    async def release(self, session: Session, name: str, old: int | None, new: int | None) -> None:
        """As `Log.release`, for a session; without positions, the cursor stays where it is."""
        with suppress(LostPlace):  # then there is nothing to give up
            async with self.owned(session, name) as claim:
                at = claim.cursor if old is None else old
                try:
                    await self._keep(self.log.release, name, at, at if new is None else new)
                except DatabaseError:
                    self.log.disown(name)
                    raise
                finally:
                    del session.claims[name]
                    self._free(name)

    # The end.

    def stop(self) -> None:
        """Have all who wait return."""
        self.stopping = True
        for session in self.sessions.values():
            session.ended.set()
        self._news.ring()
        self._released.ring()
        self.log.tail.wake_all()

    async def close(self) -> None:
        """Give all names up, end the loops, close the database."""
        for session in list(self.sessions.values()):
            self.end(session)
        await asyncio.gather(*self._tasks)
        self.log.tail.leave(self._waiter)
        await self._loop.run_in_executor(None, self.client.close)
        self._pool.shutdown()
        self._keeper.shutdown()


def visible(who: Principal, event: Event) -> bool:
    """Whether somebody is to see this event."""
    return event.type is not EventType.NOOP and who.may_read(event.key.namespace)
