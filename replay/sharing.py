"""Several processes that share the shards of a consumer evenly (H3).

Role: `Shares` knows which processes serve a consumer, and which shards each of them is to own.
`Sharded` is the consumer that `shards=` makes: it holds one consumer for each shard, and runs those
that this process is to own.  `Coordinator` is the one thread of a client that looks.

Invariants:

- Who is to own a shard follows from the rows of `replay_processes`, so all processes come to the
  same.  If two disagree for a moment, the cursor's row still has one owner (L7).
- A shard is handed over between two steps, and one at a time.
- A shard that this process is not to own costs neither a thread nor a connection.

Left to `replay.workflow` and `replay.activity`: what a shard's consumer does.
"""

from __future__ import annotations

import contextlib
import logging
import math
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from operator import attrgetter
from typing import NamedTuple

from .consumer import Consumer, Window, consumer_name
from .log import Log, Parked, checked_cursor, has_ended
from .shard import BadShard, Shard, assigned, shard_of
from .storage.database import (
    TAKE_TURN,
    Duplicate,
    Error,
    IdTaken,
    NotFound,
    Row,
    Statement,
    Unavailable,
    earlier,
    entered,
    for_each,
    insertion,
    placeholders,
    to_text,
)
from .storage.dispatch import Interest
from .storage.event import Event, Key
from .storage.tail import Alarm

log = logging.getLogger("replay")

MOST_SHARDS = 256
_LOOK, _SOON = 0.5, 0.05  # seconds between two looks, and while shards change hands
_HANDOVER = 8.0  # seconds that activities have to end before their shard changes hands
_HASHED = re.compile(r"[1-9][0-9]*_of_[1-9][0-9]*")
_TRIES = 20  # to change the number of shards, while other processes change it, too
_PROCESSES = 1000  # that one consumer may have


class OtherShards(Error):
    """Live processes serve this consumer with another number of shards (H3)."""


def check_shards(consumer: str, shards: int) -> None:
    """Raise `BadShard` unless this can be a number of shards."""
    if not isinstance(shards, int) or isinstance(shards, bool) or not 1 <= shards <= MOST_SHARDS:
        raise BadShard(f"{consumer}: shards={shards!r}: expected 1 to {MOST_SHARDS}")


class _Cursor(NamedTuple):
    """The row of a consumer, or of a shard."""

    name: str
    position: int
    owner: str
    lease: object


class Shares:
    """Which processes serve the sharded consumers of one log, as one of them sees it.

    A server has one for all its sessions: each session counts as a process.
    """

    def __init__(self, events: Log) -> None:
        self._log = events
        self._losses = -1  # when the lock was taken
        self._domain = ""
        self._announced: dict[tuple[str, str], float] = {}  # when to renew the row

    def share(self, consumer: str, shards: int, session: str = "") -> list[int]:
        """Announce that this process serves a consumer, and return the shards that it is to own.

        Call it from one thread, whose connection holds the lock.  Raises `OtherShards`.
        """
        me = self._announce(consumer, shards, session)
        live = self._live(consumer)
        if me not in live:  # somebody took it for dead, because its lock was lost
            self._unlock()
            me = self._announce(consumer, shards, session)
            live = sorted({*live, me})
        while self._bury(dead := self._next_to(me, live)):
            live = [each for each in live if _process(each) != _process(dead)]
        return list(assigned(shards, tuple(live))[me])

    def withdraw(self, consumer: str, session: str = "") -> None:
        """Announce that this process no longer serves a consumer."""
        if self._announced.pop((consumer, session), None) is not None:
            sql = "DELETE FROM replay_processes WHERE consumer = ? AND process = ?"
            self._log.database.write([Statement(sql, (consumer, self._me(session)))])

    def end(self) -> None:
        """Release what belongs to the thread that called `share`: its connection, and the lock."""
        self._unlock()
        self._log.leave()

    # Processes.

    def _me(self, session: str) -> str:
        return self._domain + self._log.process + (f"/{session}" if session else "")

    def _announce(self, consumer: str, shards: int, session: str) -> str:
        """Write or renew the row of this process, four times in the length of a lease."""
        self._lock()
        database = self._log.database
        me, moment = self._me(session), database.monotonic()
        if moment >= self._announced.get((consumer, session), moment):
            self._agree(consumer, shards)  # while its row is live, nobody changes the number
            # Before the outcome is known: `withdraw` removes a row that may be there.
            self._announced[consumer, session] = moment
            now = database.now()
            lease = to_text(now + database.lease)
            columns, row = "consumer, process, address, lease_until", (consumer, me, "", lease)
            self._log.database.write(
                [
                    *database.insert_missing("replay_processes", columns, [row]),
                    Statement(
                        "UPDATE replay_processes SET lease_until = ?"
                        " WHERE consumer = ? AND process = ?",
                        (lease, consumer, me),
                    ),
                    Statement(
                        "DELETE FROM replay_processes WHERE consumer = ? AND lease_until < ?",
                        (consumer, to_text(earlier(now, database.lease))),
                    ),
                ]
            )
            self._announced[consumer, session] = moment + database.lease.total_seconds() / 4
        return me

    def _lock(self) -> None:
        """Take the lock that ends with this process, unless it has it."""
        losses = self._log.losses
        if self._domain and self._losses == losses:
            return
        # A connection was lost, perhaps that with the lock.  If the server has not noticed yet, the
        # lock is taken at a later look, and until then only the lease shows whether this one lives.
        former, self._domain = self._me(""), self._log.database.lock(_lock(self._log.process), 0)
        if former != self._me(""):
            self._remove(former)
        if former != self._me("") or self._losses != losses:
            self._announced.clear()
        self._losses = losses

    def _unlock(self) -> None:
        self._losses = -1
        if self._domain:
            self._domain = ""
            with contextlib.suppress(Unavailable):  # the lock ended with the connection
                self._log.database.end_lock(_lock(self._log.process))

    def _live(self, consumer: str) -> list[str]:
        sql = "SELECT process, lease_until FROM replay_processes WHERE consumer = ? LIMIT ?"
        rows, now = self._log.database.query(sql, (consumer, _PROCESSES)), self._log.now()
        return sorted(str(process) for process, lease in rows if not has_ended(lease, now))

    def _next_to(self, me: str, live: Sequence[str]) -> str:
        """The process that this one watches.  Each is watched by one of those on its server."""
        near = [each for each in live if each.partition("|")[0] == self._domain]
        others = [each for each in near if _process(each) != _process(me)]
        return next((each for each in others if each > me), others[0] if others else "")

    def _bury(self, process: str) -> bool:
        """Remove the rows of a process whose lock shows that it has died.  Returns whether it has.

        Without this, its shards would wait until its lease has run out.
        """
        database, domain, lock = self._log.database, process.partition("|")[0], _lock(process)
        if not domain or self._is_own(process):
            return False
        if not (taken := database.lock(lock, 0)):
            return False
        try:
            if taken == domain:
                self._remove(_process(process))
            return taken == domain
        finally:
            database.end_lock(lock)

    def _remove(self, process: str) -> None:
        """Remove the rows of a process and of its sessions."""
        sql = "DELETE FROM replay_processes WHERE process = ? OR SUBSTR(process, 1, ?) = ?"
        row = (process, len(process) + 1, f"{process}/")
        self._log.database.write([Statement(sql, row)])

    def _is_own(self, process: str) -> bool:
        """Whether this is the process itself, or a session of it: it could take its own lock."""
        return _lock(process) == _lock(self._log.process)

    # The number of shards.

    def settle(self, consumer: str, shards: int) -> None:
        """Make `shards` the number of shards, and see to their cursors.  Raises `OtherShards`."""
        self._agree(consumer, shards)
        names = shard_names(consumer, shards)
        there = {each.name for each in self._cursors(consumer, str(shards))}
        if missing := [name for name in names if name not in there]:  # somebody forgot them (L9)
            with contextlib.suppress(NotFound):  # another process has changed the number
                agreed = self._set_count(consumer, shards, str(shards))
                self._log.database.write([TAKE_TURN, agreed, *self._create(missing, 0)])

    def _agree(self, consumer: str, shards: int) -> None:
        """Make `shards` the number of shards, unless it is (H2)."""
        for _ in range(_TRIES):
            if (before := self._count(consumer)) == str(shards):
                return
            self._require_alone(consumer, shards, before)
            with contextlib.suppress(NotFound, Duplicate, IdTaken):  # another process did it
                self._log.database.write(list(self._take_over(consumer, shards, before)))
        raise Unavailable(f"{consumer}: others change its number of shards all the time: try again")

    def _count(self, consumer: str) -> str | None:
        sql = "SELECT value FROM replay_meta WHERE name = ?"
        rows = self._log.database.query(sql, (_meta(consumer),))
        return str(rows[0][0]) if rows else None

    def _require_alone(self, consumer: str, shards: int, before: str | None) -> None:
        """Raise `OtherShards` if a live process serves this consumer with other shards."""
        now = self._log.now()
        for process in self._live(consumer):
            if not self._bury(process):
                raise OtherShards(
                    f"{consumer} has {before} shards, and live processes serve them: to have"
                    f" {shards}, stop those first"
                )
        for cursor in self._cursors(consumer, before):
            if cursor.owner and not has_ended(cursor.lease, now) and not self._is_dead(cursor):
                raise OtherShards(
                    f"a live process serves {cursor.name}: to have {shards} shards of"
                    f" {consumer}, stop all that serve it first"
                )

    def _is_dead(self, cursor: _Cursor) -> bool:
        """Whether the lock of a cursor's owner shows that it has died."""
        database = self._log.database
        if self._is_own(cursor.owner):
            return False
        domain = database.lock(cursor.name, 0)
        if domain:
            database.unlock(cursor.name)
        return domain != "" and domain == cursor.owner.partition("|")[0]

    def _cursors(self, consumer: str, before: str | None) -> list[_Cursor]:
        """The cursors of a consumer: its own, and those of hashed shards."""
        prefix, known = f"{consumer}/", [consumer]
        if before is not None and before.isdecimal():  # long names are shortened, so by their names
            known += shard_names(consumer, min(int(before), MOST_SHARDS))
        rows = self._log.database.query(
            "SELECT id, last_event_id, owner, lease_until FROM replay_cursors"
            f" WHERE id IN ({placeholders(len(known))}) OR SUBSTR(id, 1, ?) = ?",
            (*known, len(prefix), prefix),
        )
        return [
            _Cursor(name, checked_cursor(name, position), str(owner or ""), lease)
            for name, position, owner, lease in rows
            if name in known or _HASHED.fullmatch(name[len(prefix) :])
        ]

    def _take_over(self, consumer: str, shards: int, before: str | None) -> Iterator[Statement]:
        """Yield the transaction in which new shards take over what the old ones have left (H2).

        It creates all cursors: a shard without one has been given up, so nobody claims it.
        """
        yield TAKE_TURN
        yield self._set_count(consumer, shards, before)
        cursors, names = self._cursors(consumer, before), shard_names(consumer, shards)
        old = [each for each in cursors if each.name not in names]
        for each in old:
            sql = "DELETE FROM replay_cursors WHERE id = ? AND owner = ? AND last_event_id = ?"
            yield Statement(sql, (each.name, each.owner, each.position), must_find=1)
        lowest = min((each.position for each in cursors), default=0)
        there = {each.name for each in cursors}
        yield from self._create([name for name in names if name not in there], lowest)
        for each in old:
            yield from self._hand_on(each.name, names)

    @staticmethod
    def _set_count(consumer: str, shards: int, before: str | None) -> Statement:
        name, value = _meta(consumer), str(shards)
        if before is None:
            return insertion("replay_meta", "name, value", [(name, value)])
        sql = "UPDATE replay_meta SET value = ? WHERE name = ? AND value = ?"
        return Statement(sql, (value, name, before), must_find=1)

    def _create(self, names: Sequence[str], position: int) -> Sequence[Statement]:
        now = to_text(self._log.now())
        rows: list[Row] = [(name, position, now) for name in names]
        columns = "id, last_event_id, updated_at"
        return self._log.database.insert_missing("replay_cursors", columns, rows) if rows else ()

    def _hand_on(self, old: str, names: Sequence[str]) -> Iterator[Statement]:
        """Give the parked rows of an old shard to the new ones."""
        ids = defaultdict(list)
        for parked in self._log.parked(old):
            run = Key.parse(parked.key).run
            ids[names[shard_of(run, len(names))]].append(parked.event_id)
        for name, some in ids.items():
            sql = "UPDATE replay_parked SET consumer = ? WHERE consumer = ? AND event_id IN ?"
            yield from for_each(sql, some, name, old)


def shard_names(consumer: str, shards: int) -> list[str]:
    """Return the names of a consumer's hashed shards."""
    return [consumer_name(consumer, Shard.hashed(m, shards).name) for m in range(shards)]


def _meta(consumer: str) -> str:
    """The row of `replay_meta` with a consumer's number of shards."""
    return consumer_name("shards", consumer)


def _lock(process: str) -> str:
    return f"replay_process/{_process(process).partition('|')[2]}"


def _process(text: str) -> str:
    """A process without its session."""
    return text.partition("/")[0]


class Sharded(Consumer):
    """A consumer in shards: it runs the consumers of those that this process is to own (H3)."""

    interest = Interest(frozenset())

    def __init__(
        self,
        events: Log,
        name: str,
        members: Sequence[Consumer],
        shares_of: Callable[[Log], Shares],
        coordinator: Coordinator,
    ) -> None:
        super().__init__(events, name)
        #: The consumer of each shard.
        self.members = members
        for member in members:
            member.creates_cursor = False
        self._shares_of, self._coordinator = shares_of, coordinator
        self._mine: list[int] | None = None  # None before the first look
        self._left = False  # whether others need not reckon with it

    def wants(self, event: Event) -> bool:
        """As in `Consumer`: its shards read events."""
        return False

    def share(self) -> list[int]:
        """Look which shards this process is to own."""
        try:
            mine = self.shares().share(self.name, len(self.members))
        except OtherShards as error:
            if self._mine != []:
                log.error("%s", error)
            mine = []
        self._mine = mine
        return mine

    def look(self) -> None:
        """Start the shards that this process is to own, and hand over one of the others."""
        mine = [] if self._stop.is_set() else self.share()
        reaped = [member.reap() for member in self.members]
        if not all(reaped):
            log.critical("%s ends, because a shard has: others take over", self.name)
            self._stop.set()
        if self._stop.is_set():
            self._leave()
            return
        leaving = any(member.is_leaving() for member in self.members)
        for m, member in enumerate(self.members):
            if m in mine:
                member.start()
            elif member.is_running() and not leaving:
                member.ask_to_stop(_HANDOVER)
                leaving = True

    def _leave(self) -> None:
        """Let others take over what this process gives up, at once."""
        for member in self.members:
            if member.is_running() and not member.is_leaving():  # started since `ask_to_stop`
                member.ask_to_stop(max(0.0, self._stop_by - time.monotonic()))
        self._withdraw()
        self._left = True

    def is_settled(self) -> bool:
        """Whether it runs just the shards that this process is to own."""
        running = [m for m, member in enumerate(self.members) if member.is_running()]
        return self._left or running == self._mine

    def has_left(self) -> bool:
        """Whether it was stopped and has withdrawn."""
        return self._left

    def shares(self) -> Shares:
        """Return what knows the other processes."""
        return self._shares_of(self._log)

    # As in `Consumer`.

    def step(self) -> int:
        """As in `Consumer`: look, and step each shard that this process is to own."""
        self._log.poll()
        mine, done = self.share(), 0
        for m, member in enumerate(self.members):
            if m in mine:
                done += member.step()
            else:  # also one that has failed since its last step, whose lease would be renewed
                member.give_up()
        return done

    def start(self) -> None:
        """As in `Consumer`."""
        self._log.tail.keep_polling(self._log.poll)
        self._stop.clear()
        self._stop_by, self._left = math.inf, False
        self._coordinator.add(self)

    def ask_to_stop(self, timeout: float | None = None) -> None:
        """As in `Consumer`.  The coordinator does the rest, also if nobody calls `stop`."""
        super().ask_to_stop(timeout)
        for member in self.members:
            if member.is_running():
                member.ask_to_stop(timeout)
        self._coordinator.ring()

    def stop(self, timeout: float | None = None) -> bool:
        """As in `Consumer`."""
        window = Window(math.inf if timeout is None else timeout)
        self.ask_to_stop(timeout)
        if not self._coordinator.remove(self, window):
            return False
        ended = [member.stop(window.left()) for member in self.members]
        self._withdraw()
        return all(ended)

    def _withdraw(self) -> None:
        self._mine = None
        try:
            self.shares().withdraw(self.name)
        except Error as error:
            log.warning("%s: others see it until its lease has run out: %s", self.name, error)

    def give_up(self) -> None:
        """As in `Consumer`."""
        for member in self.members:
            member.give_up()
        self._withdraw()

    def restart(self, events: Log) -> None:
        """As in `Consumer`."""
        for member in self.members:
            member.restart(events)
        super().restart(events)
        self._mine = None

    def _forget(self) -> None:
        for member in self.members:
            member._forget()

    def parked(self) -> list[Parked]:
        """As in `Consumer`, of all shards."""
        found = (parked for member in self.members for parked in member.parked())
        return sorted(found, key=attrgetter("event_id"))

    def executing(self) -> Sequence[str]:
        """As in `Consumer`."""
        return sorted(key for member in self.members for key in member.executing())

    def store_soon(self, end: int) -> bool:
        """As in `Consumer`."""
        busy = [member.store_soon(end) for member in self.members if member.is_owner()]
        return any(busy)

    def wake(self) -> None:
        """As in `Consumer`."""
        for member in self.members:
            member.wake()

    def is_owner(self) -> bool:
        """As in `Consumer`: whether this process owns a shard."""
        return any(member.is_owner() for member in self.members)

    def is_ready(self) -> bool:
        """As in `Consumer`."""
        mine = self._mine
        return mine is None or any(self.members[m].is_ready() for m in mine)

    def next_due(self) -> datetime | None:
        """As in `Consumer`."""
        moments = (member.next_due() for member in self.members)
        return min((each for each in moments if each is not None), default=None)


class Coordinator:
    """The one thread of a client that looks which shards this process is to own."""

    def __init__(self) -> None:
        self._served: list[Sharded] = []
        self._lock = threading.RLock()
        self._alarm = Alarm()
        self._thread: threading.Thread | None = None

    def ring(self) -> None:
        """Have the thread look at once."""
        self._alarm.ring()

    def add(self, sharded: Sharded) -> None:
        """Look for this one from now on."""
        with entered(self._lock):
            if sharded not in self._served:
                self._served.append(sharded)
            if self._thread is None or not self._thread.is_alive():  # its start was interrupted
                self._thread = threading.Thread(target=self._run, name="replay-shards", daemon=True)
                self._thread.start()
        self.ring()

    def remove(self, sharded: Sharded, window: Window) -> bool:
        """Wait until it is looked for no more, and after the last one for the thread.

        Returns whether that is so.
        """
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return True
        # In pauses: a thread that Ctrl-C interrupts in an Event leaves that locked (see `Alarm`).
        while thread.is_alive() and sharded in self._served:
            self.ring()
            if not window.left():
                return False
            time.sleep(0.005)
        if not self._served:
            thread.join(min(window.left(), threading.TIMEOUT_MAX))
        return True

    def _run(self) -> None:
        known = set[Shares]()
        while served := self._next():
            known |= {each.shares() for each in served}
            settled = [self._look(each) for each in served]
            if not any(each.has_left() for each in served):
                self._alarm.wait(_LOOK if all(settled) else _SOON)
        for shares in known:
            shares.end()

    def _next(self) -> list[Sharded]:
        with entered(self._lock):
            self._served = [each for each in self._served if not each.has_left()]
            if not self._served:
                self._thread = None
            return list(self._served)

    def _look(self, sharded: Sharded) -> bool:
        """Returns whether nothing is left to do."""
        try:
            sharded.look()
        except Unavailable:  # the database warns of that itself
            return True
        except Exception:
            log.exception("%s: its shards stay as they are, for now", sharded.name)
            return True
        return sharded.is_settled()
