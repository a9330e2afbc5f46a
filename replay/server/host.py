"""One log in a server: its threads, its waiters, and its sessions.

Role: `Host` lets the server's coroutines use an embedded client of one database.  A coroutine waits
without a thread: for events, for a name, for the end.  Calls to the database run in a few threads.

Invariants:

- Among the sessions of a host, a name has one owner.  Among processes, the log sees to that.
- A session's claims end with the session, after its commits under way.

One thread takes and returns all locks of the database.  A database server ties a lock to the
connection that took it, and each thread has its own connection.

Left to `services`: the calls themselves.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from ..client import Client
from ..consumer import Metrics, figures, lag_of, measured
from ..log import LostOwnership, Move
from ..sharing import Shares
from ..storage.database import DatabaseError, Error, OutcomeUnknown, ReadOnly, Unavailable
from ..storage.event import Event, EventType
from ..storage.tail import BATCH, Alarm, Waiter
from .access import Principal
from .limits import AT_A_TIME, Limit
from .wire import SessionLost, Stopping

log = logging.getLogger("replay")

T = TypeVar("T")

_RETRY = 0.2  # seconds between two looks for a name that another process owns
_SHORT = 0.05  # seconds that a costly commit may take without a pause before the next
_STALE = 5.0  # seconds without an answer after which a database counts as out of reach


class Away(Unavailable):
    """This server cannot answer now, for a reason of its own.  Its text is for the client."""


#: The text that a client gets for an error of the database.  The own text names files and hosts.
_PUBLIC: Sequence[tuple[type[Error], str]] = (
    (OutcomeUnknown, "the server lost its database during a commit, whose outcome is unknown"),
    (Unavailable, "the server cannot reach its database"),
    (ReadOnly, "the server may not write to its database"),
    (DatabaseError, "the server's database reports an error; the server's log says which"),
)


def public_text(error: Exception) -> str:
    """The text of an error as a client may read it: it tells no file, URL or host."""
    if is_public(error):
        return str(error)[:1000]
    return next(text for kind, text in _PUBLIC if isinstance(error, kind))


def is_public(error: BaseException) -> bool:
    """Whether a client may read the text of an error."""
    return isinstance(error, (Away, SessionLost, Stopping)) or not isinstance(error, DatabaseError)


@dataclass(frozen=True, slots=True)
class Interest:
    """The events that a coroutine waits for: after an id, of some namespaces or of all (None)."""

    after: int
    namespaces: frozenset[str] | None


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Bell:
    """Wakes the coroutines that wait for something, each for a topic of its own."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Future[None], Any] = {}

    def ring(self, concerns: Callable[[Any], bool] = lambda topic: True) -> None:
        """Wake the waiters whose topic this concerns."""
        for future, topic in self._waiting.items():
            if concerns(topic):
                _settle(future)

    async def wait(self, seconds: float, topic: Any = None) -> None:
        """Wait for the next ring about this topic, at most this long."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._waiting[future] = topic
        timer = loop.call_later(seconds, _settle, future)
        try:
            await future
        finally:
            timer.cancel()
            del self._waiting[future]


class _LoopAlarm(Alarm):
    """Calls a function in the event loop, where `Alarm` wakes a thread."""

    def __init__(self, function: Callable[[], None]) -> None:
        self._loop, self._function = asyncio.get_running_loop(), function

    def ring(self) -> None:
        """As in `Alarm`."""
        self._loop.call_soon_threadsafe(self._function)

    def wait(self, timeout: float | None) -> bool:
        """Return at once: nothing waits here."""
        return False


class Added(Event):
    """An event that a session added.  Its client knows the event from the reply to the commit."""

    session: str = ""

    @classmethod
    def by(cls, session: str, event: Event) -> Added:
        """Make one of an event that is to be stored."""
        key, moment = event.key, event.timestamp
        return cls(0, event.type, key, moment, event.raw, event.text, session=session)


@dataclass(eq=False)
class Claim:
    """A name that a session owns, and the cursor as last stored."""

    cursor: int
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(eq=False)
class Session:
    """A remote client, as long as it is connected."""

    host: Host
    who: Principal
    losses: int
    id: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    claims: dict[str, Claim] = field(default_factory=dict)
    #: The consumers whose shards it shares.
    shared: set[str] = field(default_factory=set)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    #: Held by the only large commit that is under way.
    large_commit: asyncio.Lock = field(default_factory=asyncio.Lock)


class Host:
    """The log of one database, in a server."""

    def __init__(
        self,
        name: str,
        client: Client,
        threads: int,
        claims: Limit,
        metrics: Metrics | None = None,
    ) -> None:
        self.name = name
        self._metrics = metrics
        self._claims = claims
        self.client = client
        self.log = client.log
        self.stopping = False
        self.sessions: dict[str, Session] = {}
        self._loop = asyncio.get_running_loop()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=f"replay-{name or 'default'}")
        self._keeper = ThreadPoolExecutor(1, thread_name_prefix=f"replay-locks-{name}")
        self._losses = self.log.refresh()
        self._owners: dict[str, Session] = {}
        self._shares = Shares(self.log)
        self._turns: WeakValueDictionary[tuple[str, bool], asyncio.Lock] = WeakValueDictionary()
        self._news, self._released = Bell(), Bell()
        self._tasks: set[asyncio.Task[Any]] = set()  # kept here until they end
        self._waiter = Waiter(lambda event: not isinstance(event, Added))
        self._waiter.alarm = _LoopAlarm(self._hear)
        self._told = (self.log.losses, self.log.tail.end)  # what the waiters know
        self._answered = self._loop.time()

    def start(self) -> None:
        """Look for events.  Serve sleeps and signals, or stand by while another server does."""
        self.log.tail.keep_polling(self.poll)
        for consumer in self.client.loops():
            consumer.metrics = self._metrics
            consumer.start()
        self._hear()

    def _hear(self) -> None:
        # Arm the waiter first: an event that comes before the ring is then not missed.
        self.log.tail.wait(self._waiter, self.log.tail.end, 0)
        self._tell()

    def _tell(self) -> None:
        """Wake those who wait for one of the newest events, or who fall behind the tail.

        Waking everybody would cost each commit some milliseconds with a few hundred sessions.
        """
        tail, (losses, told) = self.log.tail, self._told
        self._told = (self.log.losses, end := tail.end)
        events = tail.slice(told, end - told) if end >= told else None
        if events is None or self.log.losses != losses:
            self._news.ring()
        elif events:
            found = {event.key.namespace for event in events}
            self._news.ring(
                lambda topic: (
                    topic is not None
                    and (
                        topic.namespaces is None
                        or not topic.namespaces.isdisjoint(found)
                        or end - topic.after >= BATCH
                    )
                )
            )

    def poll(self, grace: float) -> bool:
        """As `Log.poll`.  Notes whether the database answers."""
        try:
            found = self.log.poll(grace)
        except Unavailable:
            self._answered = float("-inf")
            raise
        self._answered = self._loop.time()
        return found

    @property
    def reachable(self) -> bool:
        """Whether the database has answered of late.  The tail asks it at least every 50 ms."""
        return self._loop.time() - self._answered < _STALE

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function that asks the database, in a thread."""
        return await self._loop.run_in_executor(self._pool, function, *arguments)

    async def commit(self, function: Callable[[], T]) -> T:
        """As `run`, for a commit.  It wakes other sessions afterwards, so the reply comes first."""
        try:
            return await self.run(function)
        finally:
            self._tell()

    def measure(self, move: Move, added: int) -> None:
        """Report what a session has committed, as the session's client does by itself (Q5)."""
        if self._metrics is not None:
            newest = self.log.tail.slice(move.new - 1, 1) if move.new > move.old else None
            lag = lag_of(newest or (), self.log.now())
            told = figures(move.new - move.old, added, move.attempts, lag)
            self._metrics = measured(self._metrics, move.consumer, told)

    def turn(self, client: str, *, writing: bool = False) -> asyncio.Lock:
        """Held by the one costly read, or the one costly commit, that a client has under way (G5).

        Several would take all threads, and Python runs one thread at a time.
        """
        return self._turns.setdefault((client, writing), asyncio.Lock())

    @asynccontextmanager
    async def costly_commit(self, client: str) -> AsyncIterator[None]:
        """Hold the client's turn to commit, and the longer the commit takes, the longer (G5).

        So others find the database free for much of the time, whatever a client commits.
        """
        turn = self.turn(client, writing=True)
        await turn.acquire()
        began = self.time()
        try:
            yield
        finally:
            rest = self.time() - began - _SHORT
            if rest > 0:
                self._loop.call_later(rest, turn.release)
            else:
                turn.release()

    async def in_turn(self, client: str, function: Callable[..., T], *arguments: Any) -> T:
        """As `run`, for a call that may be costly."""
        async with AsyncExitStack() as held:
            await held.enter_async_context(self.turn(client))
            return await self.holding(held.pop_all(), self.run(function, *arguments))

    async def _keep(self, function: Callable[..., T], *arguments: Any) -> T:
        return await self._loop.run_in_executor(self._keeper, function, *arguments)

    # Events.

    async def read(self, client: str, after: int, limit: int) -> Sequence[Event]:
        """As `Log.read`, for a client.  Uses a thread only if it has to ask the database."""
        found = self.log.tail.slice(after, limit)
        return await self.in_turn(client, self.log.read, after, limit) if found is None else found

    async def reply(
        self, client: str, after: int, limit: int, make: Callable[[Sequence[Event]], T]
    ) -> T:
        """Return what `make` makes of the events that `read` gives.

        If they are many or large, it makes that in a thread, for one call of the client at a time.
        """
        found = self.log.tail.slice(after, limit)
        if found is not None and not is_costly(sum(event.size for event in found)):
            return make(found)
        del found  # they would stay in memory while other calls have their turn
        return await self.in_turn(client, lambda: make(self.log.read(after, limit)))

    async def refresh(self) -> int:
        """As `Log.refresh`.  Raises `Stopping` if the server stops."""
        if self.stopping:
            raise Stopping("the server is stopping")
        if self.log.losses != self._losses:
            self._losses = await self.run(self.log.refresh)
        return self._losses

    async def finish(self, work: Coroutine[Any, Any, T]) -> T:
        """Run this to its end, even if the caller goes away meanwhile."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def holding(self, held: AsyncExitStack, work: Coroutine[Any, Any, T]) -> T:
        """As `finish`.  At the end of the work, not of the caller, it gives back what is held."""

        async def whole() -> T:
            async with held:
                return await work

        return await self.finish(whole())

    def time(self) -> float:
        """The seconds of a clock that only measures durations."""
        return self._loop.time()

    async def pause(self, seconds: float) -> None:
        """Wait this long, or until the server stops."""
        deadline = self.time() + seconds
        while not self.stopping and (left := deadline - self.time()) > 0:
            await self._news.wait(left)

    async def more(self, interest: Interest, seconds: float) -> None:
        """Wait until there may be events of interest, at most this long."""
        if self.log.tail.end <= interest.after and not self.stopping:
            await self._news.wait(seconds, interest)

    # Sessions.

    async def begin(self, who: Principal) -> Session:
        """Begin a session.  Raises `Stopping`."""
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
            raise SessionLost("the database was lost in between: open another session")
        return session

    def expel(self, session: Session) -> None:
        """End a session from this side."""
        session.ended.set()

    def end(self, session: Session) -> None:
        """Give up the names of a session whose connection is gone, or that was expelled."""
        session.ended.set()
        if self.sessions.pop(session.id, None) is not None:
            task = self._loop.create_task(self._give_up(session))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _give_up(self, session: Session) -> None:
        for name in list(session.shared):
            try:
                await self.withdraw(session, name)
            except DatabaseError as error:
                log.warning("%s: others see it until its lease has run out: %s", name, error)
        for name in list(session.claims):
            try:
                await self.release(session, name, None, None)
            except DatabaseError as error:
                log.warning("%s could not be released, its lock or lease ends it: %s", name, error)

    # Names.

    async def claim(self, session: Session, name: str, wait: float) -> int | None:
        """As `Log.claim`, for a session (L7).  Raises `SessionLost`."""
        deadline = self._loop.time() + wait
        while not session.ended.is_set():
            free = self._owners.setdefault(name, session) is session
            # To its end, since the database may give the name to a caller that has gone.
            if free and (cursor := await self.finish(self._take(session, name))) is not None:
                return cursor
            left = deadline - self._loop.time()
            if left <= 0:
                return None
            owner = self._owners.get(name)
            pause = wait if owner is not None and name in owner.claims else _RETRY
            await self._released.wait(min(pause, left), name)
        raise SessionLost("the session has ended")

    async def _take(self, session: Session, name: str) -> int | None:
        with suppress(LostOwnership):  # then it is the first claim
            async with self.owned(session, name) as claim:
                cursor = await self._claim(session, name)
                claim.cursor = claim.cursor if cursor is None else cursor
                return cursor
        with ExitStack() as undo:
            undo.callback(self._disown, session, name)
            self._claims.take(session.who.name, session.id)
            undo.callback(self._claims.give_back, session.who.name, session.id)
            cursor = await self._claim(session, name)
            if cursor is not None and name not in session.claims:
                session.claims[name] = Claim(cursor)
                undo.pop_all()
        if session.ended.is_set() and cursor is not None:  # meanwhile
            await self.release(session, name, None, None)
            return None
        return cursor

    async def _claim(self, session: Session, name: str) -> int | None:
        create = name.rpartition("/")[0] not in session.shared  # see `Log.claim`
        return await self._keep(partial(self.log.claim, name, 0, create=create))

    def _disown(self, session: Session, name: str) -> None:
        """Forget who asks for a name.  Nothing is released, so nobody is woken."""
        if name not in session.claims:
            self._owners.pop(name, None)

    @asynccontextmanager
    async def owned(self, session: Session, name: str) -> AsyncIterator[Claim]:
        """Keep other calls from using a claim until the block ends.  Raises `LostOwnership`."""
        claim = session.claims.get(name)
        if claim is not None:
            async with claim.busy:
                if session.claims.get(name) is claim:
                    yield claim
                    return
        raise LostOwnership(f"consumer {name} is not owned by this session")

    async def release(self, session: Session, name: str, old: int | None, new: int | None) -> None:
        """As `Log.release`, for a session.  Without positions, the cursor stays where it is."""
        with suppress(LostOwnership):  # then there is nothing to release
            async with self.owned(session, name) as claim:
                at = claim.cursor if old is None else old
                try:
                    await self._keep(self.log.release, name, at, at if new is None else new)
                finally:
                    del session.claims[name], self._owners[name]
                    self._claims.give_back(session.who.name, session.id)
                    self._released.ring(name.__eq__)

    # Shards.

    async def share(self, session: Session, name: str, shards: int) -> list[int]:
        """As `Shares.share`, for a session."""
        if name not in session.shared:
            self._claims.take(session.who.name, session.id)
            session.shared.add(name)
        found = await self.finish(self._keep(self._shares.share, name, shards, session.id))
        if session.ended.is_set():  # meanwhile
            await self.withdraw(session, name)
        return found

    async def settle(self, name: str, shards: int) -> None:
        """As `Shares.settle`."""
        await self._keep(self._shares.settle, name, shards)

    async def withdraw(self, session: Session, name: str) -> None:
        """As `Shares.withdraw`, for a session."""
        if name in session.shared:
            session.shared.discard(name)
            self._claims.give_back(session.who.name, session.id)
            await self.finish(self._keep(self._shares.withdraw, name, session.id))

    # The end.

    def stop(self) -> None:
        """Let every waiter return."""
        self.stopping = True
        for session in self.sessions.values():
            session.ended.set()
        self._news.ring()
        self._released.ring()
        self.log.tail.wake_all()

    async def close(self) -> None:
        """Give up all names, end the loops, close the database."""
        for session in list(self.sessions.values()):
            self.end(session)
        await asyncio.gather(*self._tasks)
        self.log.tail.leave(self._waiter)
        await self._keep(self._shares.end)
        await self._loop.run_in_executor(None, self.client.close)
        self._pool.shutdown()
        self._keeper.shutdown()


def is_costly(bytes: int) -> bool:
    """Whether a call about so many bytes, or events of that size, keeps the server busy."""
    return bytes > AT_A_TIME


def visible(who: Principal, event: Event) -> bool:
    """Whether a caller may see this event (G4)."""
    return event.type is not EventType.NOOP and who.may_read(event.key.namespace)
