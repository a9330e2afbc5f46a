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
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ..client import Client
from ..log import LostOwnership, Move
from ..storage.database import DatabaseError, Unavailable
from ..storage.event import Event, EventType
from ..storage.tail import BATCH, Waiter
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
        self._waiting: dict[asyncio.Future[None], object] = {}

    def ring(self, but: object = None) -> None:
        """Wake all who wait, but for this one."""
        for future, who in list(self._waiting.items()):
            if but is None or who is not but:
                _settle(future)

    async def wait(self, seconds: float, who: object = None) -> None:
        """Wait for the next ring, at most so long."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._waiting[future] = who
        timer = loop.call_later(seconds, _settle, future)
        try:
            await future
        finally:
            timer.cancel()
            del self._waiting[future]


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
    own: set[int] = field(default_factory=set)  # ids of events that it added
    reach: int = 0  # up to where it has all events, as far as is known here
    again: int = -1  # from where it was last told to read again
    committing: int = 0  # commits under way
    ended: bool = False

    def added(self, ids: Sequence[int]) -> bool:
        """Note what it added; whether it has all that stands before, and so needs no telling."""
        ids = [id for id in ids if id]
        self.own.update(ids)
        joins = bool(ids) and ids[0] == self.reach + 1
        if joins:
            self.reach = ids[-1]
        return joins

    def reads(self, after: int) -> None:
        """Note up to where it has read."""
        self.reach = max(self.reach, after)
        if len(self.own) > 4 * BATCH:
            self.own = {id for id in self.own if id > after}


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
        self._here = threading.local()
        self._watcher = threading.Thread(target=self._watch, name="replay-watch", daemon=True)

    def start(self) -> None:
        """Look for events, and serve sleeps and signals or stand by for that."""
        self.log.tail.keep_polling(self.log.poll)
        for consumer in self.client.loops():
            consumer.start()
        self._watcher.start()

    def _watch(self) -> None:
        tail = self.log.tail
        # What a session commits is told in the event loop itself, without this thread.
        waiter = Waiter(lambda event: not getattr(self._here, "committing", False))
        while not self.stopping:
            # Looked at before the ring: what comes in between makes the next wait short.
            position = tail.end
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._news.ring)
            tail.wait(waiter, position, 1.0)
        tail.leave(waiter)

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call something that asks the database, in a thread."""
        return await self._loop.run_in_executor(self._pool, function, *arguments)

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

    async def commit(
        self, session: Session, read: Callable[[], list[Event]], move: Move | None
    ) -> tuple[list[Event], list[bool]]:
        """As `Log.commit`, in a thread, in which the events are read as well; they too."""

        def commit() -> tuple[list[Event], list[bool]]:
            self._here.committing = True
            try:
                events = read()
                return events, self.log.commit(events, move)
            finally:
                self._here.committing = False

        session.committing += 1
        try:
            events, stored = await self.run(commit)
            joined = session.added([e.id for e, new in zip(events, stored, strict=True) if new])
            self._news.ring(but=session if joined else None)
            return events, stored
        finally:
            session.committing -= 1

    def time(self) -> float:
        """The time by the server's own clock, in seconds, for measuring."""
        return self._loop.time()

    async def pause(self, seconds: float) -> None:
        """Wait so long, or until the server stops."""
        deadline = self.time() + seconds
        while not self.stopping and (left := deadline - self.time()) > 0:
            await self._news.wait(left)

    async def more(self, after: int, seconds: float, who: object = None) -> None:
        """Wait until there may be events behind `after`, at most so long.

        A session that waits is not woken for what it adds itself.
        """
        if self.log.tail.end <= after and not self.stopping:
            await self._news.wait(seconds, who)

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
        if session is None or session.ended or session.who != who:
            raise SessionLost("there is no such session: open another")
        if self.log.losses != session.losses:
            self.expel(session)
            raise SessionLost(f"{self.log.name} was lost in between: open another session")
        return session

    def expel(self, session: Session) -> None:
        """End a session from this side."""
        session.ended = True
        self._news.ring()

    async def lasting(self, session: Session) -> None:
        """Return when a session is to be ended from this side."""
        while not (self.stopping or session.ended):
            await self._news.wait(60)

    def end(self, session: Session) -> None:
        """The session's connection is gone, or it is expelled: give its names up."""
        session.ended = True
        if self.sessions.pop(session.id, None) is not None:
            task = self._loop.create_task(self._give_up(session))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _give_up(self, session: Session) -> None:
        for name in list(session.claims):
            try:
                await self.release(session, name, None, None)
            except DatabaseError as error:
                log.warning("%s could not be released, its lock or lease ends it: %s", name, error)

    # Names.

    async def claim(self, session: Session, name: str, wait: float) -> int | None:
        """As `Log.claim`, for a session."""
        deadline = self._loop.time() + wait
        while not (session.ended or self.stopping):
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
        if session.ended and cursor is not None:  # while it waited for this
            await self.release(session, name, None, None)
            raise SessionLost("the session has ended")
        return cursor

    def _free(self, name: str) -> None:
        self._owners.pop(name, None)
        self._released.ring()

    @asynccontextmanager
    async def owned(self, session: Session, name: str) -> AsyncIterator[Claim]:
        """A claim, for as long as it is worked with.  Raises `LostOwnership`."""
        claim = session.claims.get(name)
        if claim is not None:
            async with claim.busy:
                if session.claims.get(name) is claim:
                    yield claim
                    return
        raise LostOwnership(f"consumer {name} is not owned by this session")

    async def release(self, session: Session, name: str, old: int | None, new: int | None) -> None:
        """As `Log.release`, for a session; without positions, the cursor stays where it is."""
        with suppress(LostOwnership):  # then there is nothing to give up
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
        self._news.ring()
        self._released.ring()
        self.log.tail.wake_all()

    async def close(self) -> None:
        """Give all names up, end the loops, close the database."""
        for session in list(self.sessions.values()):
            self.end(session)
        await asyncio.gather(*self._tasks)
        if self._watcher.ident is not None:
            await self._loop.run_in_executor(None, self._watcher.join)
        await self._loop.run_in_executor(None, self.client.close)
        self._pool.shutdown()
        self._keeper.shutdown()


def concerns(session: Session, events: Sequence[Event]) -> bool:
    """Whether a session that waits for events has to be given these.

    What it added itself it has from the answer to its commit; what it may not see, not at all.  But
    its own events behind such a one are of no use to it before it knows that one.
    """
    gap = False
    for event in events:
        if event.id in session.own:
            if gap:
                return True
        else:
            gap = True
            if visible(session.who, event):
                return True
    return len(events) >= BATCH // 2


def visible(who: Principal, event: Event) -> bool:
    """Whether somebody is to see this event."""
    return event.type is not EventType.NOOP and who.may_read(event.key.namespace)
