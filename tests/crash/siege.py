"""Workers, and the server that they work on, killed again and again while runs go on.

What is killed when is drawn from a seed; the moments are counted in events, so that every kill
meets work.  How far each thread is at that moment is for the machine to say.
"""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple, TypeVar

from replay import Client, Event, EventType, connect
from replay.client import EventsLost
from replay.storage.database import OutcomeUnknown, Unavailable
from tests import journey
from tests.crash.audit import audit
from tests.crash.point import ask
from tests.crash.worker import Notes
from tests.servers import Server
from tests.support import stepped, with_options

T = TypeVar("T")

LIMIT = 120  # seconds until something that has to happen has not happened
OPEN = 6  # runs that go on at once
APART = 24  # events between two kills, at most

forks = get_context("forkserver")
forks.set_forkserver_preload(["tests.crash.siege"])


def serve(url: str, notes: str, driver: Connection, shards: int | None) -> None:
    """A worker; it ends when its driver does.  That servers go away is no news here."""
    logging.getLogger("replay").setLevel(logging.ERROR)
    with connected(url) as client:
        journey.staff(client, Notes(notes), shards=shards)
        driver.send("ready")
        try:
            driver.recv()
        except EOFError:
            return


def connected(url: str, *, loops: bool = True) -> Client:
    """A client; connects again as a supervisor would, since a busy server answers late."""
    deadline = time.monotonic() + LIMIT
    while True:
        try:
            return connect(url, loops=loops)
        except Unavailable:
            if time.monotonic() > deadline:
                raise


class Team:
    """Worker processes, each of which is replaced as soon as it is killed."""

    def __init__(
        self,
        url: str,
        notes: Path,
        size: int = 2,
        lease: int = 3600,
        shards: int | None = None,
    ) -> None:
        # With a long lease nobody takes over in time but by the lock that dies with its owner.
        self._url = url if url.startswith("grpc:") else with_options(url, lease=lease)
        self._notes = notes
        self._workers: list[tuple[BaseProcess, Connection]] = []
        self._size = size
        self._shards = shards

    def __enter__(self) -> Team:
        self.fill()
        return self

    def __exit__(self, *_: object) -> None:
        while self._workers:
            self.kill(0)

    def fill(self) -> None:
        """Start as many as are missing; return when they work or stand by."""
        while len(self._workers) < self._size:
            ours, theirs = forks.Pipe()
            arguments = (self._url, str(self._notes), theirs, self._shards)
            process = forks.Process(target=serve, args=arguments)
            process.start()
            theirs.close()
            self._workers.append((process, ours))
            assert ours.poll(LIMIT)
            assert ours.recv() == "ready"

    def kill(self, which: int) -> None:
        """Kill one with -9."""
        process, pipe = self._workers.pop(which)
        process.kill()
        process.join(LIMIT)
        pipe.close()

    def resize(self, size: int) -> int:
        """Be so many; those that are too many stop in order.  Returns how many come or go."""
        before, self._size = self._size, size
        while len(self._workers) > size:
            process, pipe = self._workers.pop(0)
            pipe.close()
            process.join(LIMIT)
            assert process.exitcode == 0
        return abs(size - before)

    def executed(self) -> list[str]:
        """The keys of all activities that were executed, once for each time."""
        return self._notes.read_text().splitlines()


class Siege:
    """One siege: as many kills as were asked for, and then the audit."""

    def __init__(
        self,
        url: str,
        notes: Path,
        seed: int,
        server: Server | None = None,
        lease: int = 3600,
        database: str = "",
        shards: int | None = None,
    ) -> None:
        self.kills: Counter[str] = Counter()  # by what was killed
        self.runs: dict[str, int] = {}
        self.moves = 0  # workers that joined or left in order, where they share shards
        self._shards = shards
        self._size = 2
        self.lost = 0  # times that events were lost which had been acknowledged
        self._url = url
        self._notes = notes
        self._chance = random.Random(seed)
        self._server = server
        self._lease = lease
        self._database = database or url

    def hold(self, kills: int) -> None:
        """Start runs and kill until it is enough; then everything has to end as it should."""
        with ExitStack() as stack:
            client = stack.enter_context(connected(self._url, loops=False))
            team = stack.enter_context(
                Team(self._url, self._notes, lease=self._lease, shards=self._shards)
            )
            self._fight(client, team, kills)
            self._ask_all(client)
            for run in self.runs:
                client.await_completion(journey.NAMESPACE, "journey", run, LIMIT)
            alone = stack.enter_context(stepped(self._database))
            audit(self._database, alone, self.runs, team.executed())

    def _fight(self, client: Client, team: Team, kills: int) -> None:
        while len(self.runs) < OPEN:
            self._begin(client)
        events = self._events(client)
        while self.kills.total() < kills:
            for _ in range(self._chance.randint(1, APART)):
                event = next(events)
                if event.type is EventType.RUN_COMPLETED and event.key.iteration == 1:
                    self._begin(client)
            self._strike(team)

    def _begin(self, client: Client) -> None:
        run, value = f"run-{len(self.runs)}", len(self.runs) % 100 + 1
        self.runs[run] = value
        insist(partial(ask, client, run, value))

    def _events(self, client: Client) -> Iterator[Event]:
        """The log for ever; where the end of it was lost, what comes instead of that."""
        after = 0
        while True:
            try:
                for event in client.stream(after=after):
                    after = event.id
                    yield event
            except EventsLost:
                self.lost += 1
                after = insist(client.log.newest)
                self._ask_all(client)

    def _ask_all(self, client: Client) -> None:
        for run in list(self.runs):
            insist(partial(ask, client, run, self.runs[run]))

    def _strike(self, team: Team) -> None:
        """Kill a worker or all of them, or the server; or a worker while the server is away."""
        blow = self._chance.choice(BLOWS if self._server else BLOWS[:3])
        if self._server and blow.server:
            getattr(self._server, blow.server)()
            self.kills["server"] += blow.server == "kill"
        workers = min(blow.workers, self._size)
        for left in range(self._size, self._size - workers, -1):
            team.kill(self._chance.randrange(left))
            self.kills["worker"] += 1
        if self._server and blow.server:
            getattr(self._server, {"kill": "start", "suspend": "resume"}[blow.server])()
        if self._shards is not None:
            self._size = self._chance.randint(1, 3)
            self.moves += team.resize(self._size)
        team.fill()


class Blow(NamedTuple):
    """How many workers are killed at once, and what is done to the server meanwhile."""

    workers: int
    server: str = ""


BLOWS = [Blow(1), Blow(1), Blow(2), Blow(1, "suspend"), Blow(0, "kill"), Blow(1, "kill")]


def insist(call: Callable[[], T]) -> T:
    """Repeat what may be repeated until it is known how it came out."""
    while True:
        try:
            return call()
        except OutcomeUnknown:
            continue
