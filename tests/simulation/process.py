"""The processes of a cluster: workers and a user, on a database or a server; and that server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from replay import Client, Consumer, Shard, Unavailable, consume
from replay import activity as activity_module
from replay.activity import ActivityConsumer
from replay.log import Log
from replay.server.remote import RemoteClient, Stubs
from replay.sharing import Sharded
from replay.signature import Signature
from replay.storage.values import Kind
from replay.workflow import WorkflowConsumer
from tests.example_pb2 import Int, String
from tests.simulation.faults import Faults, Port
from tests.simulation.plan import SERVER
from tests.simulation.program import ACTIVITIES, ENDINGS, LARGE, RISKY, WORKFLOW
from tests.simulation.served import Channel, Server

if TYPE_CHECKING:
    from tests.simulation.world import World

READER = "reader"


class Process:
    """One process: its way to the log, and what may happen on it."""

    def __init__(self, world: World, number: int) -> None:
        self.number = number
        self.faults = Faults(world.shared, lambda kind: world.stand_still(number, kind))
        self.client: Client
        self.consumers: list[Consumer] = []
        #: The members of a sharded consumer: whose, and which shard.
        self.shards: dict[Consumer, tuple[Sharded, int]] = {}
        self.away = False  # it has left
        self.code = ""  # which change of the workflows' code is in force
        self._world = world

    def port(self) -> Port:
        """The port of the process that owns the names in the database."""
        raise NotImplementedError

    def owner(self) -> str:
        """How that process signs what it owns."""
        raise NotImplementedError

    def sessions(self) -> set[str]:
        """The sessions of a server that it has had, if it has one."""
        return set()

    def step(self, consumer: Consumer) -> int:
        """A step of a consumer, or a look at who is to own its shards."""
        if isinstance(consumer, Sharded):
            return self._look(consumer)
        sharded, m = self.shards.get(consumer, (None, 0))
        if sharded is not None and m not in (sharded._mine or ()):
            return 0
        return consumer.step()

    @staticmethod
    def _look(sharded: Sharded) -> int:
        """As `Sharded.look`, of which it shows whether that has changed anything."""
        before = sharded._mine
        mine = sharded.share()
        for m, member in enumerate(sharded.members):
            owned = member.is_owner()
            if m not in mine:
                member.give_up()
                if owned:
                    return 1
        return int(mine != before)

    def leave(self) -> None:
        """Stop in order."""
        for consumer in self.consumers:
            consumer.give_up()
        self.consumers, self.away = [], True

    def stop(self, *, hang_up: bool) -> None:
        """It stands still, with `hang_up` for so long that others take its names."""

    def go_on(self) -> None:
        """It stands still no more."""

    def die(self, *, half_open: bool) -> None:
        """All is forgotten; of the database's side, the rows stay."""
        raise NotImplementedError

    def _end(self) -> None:
        for consumer in self.consumers:
            consumer._forget()


class Embedded(Process):
    """A process with a connection to the database."""

    def __init__(self, world: World, number: int) -> None:
        super().__init__(world, number)
        self._port = world.port(number, self.faults)
        self.client = Client(Log(self._port), loops=False)
        self.client.log._process = world.signature(number)

    def port(self) -> Port:
        return self._port

    def owner(self) -> str:
        return self.client.log._process

    def die(self, *, half_open: bool) -> None:
        self._port.die(half_open=half_open)
        self._end()


class Remote(Process):
    """A process with a connection to the server."""

    def __init__(self, world: World, number: int) -> None:
        super().__init__(world, number)
        self._channel: Any = Channel(world.server, self.faults, world.server_fell)
        self.client = self._connect()
        self.client.log.now = world.shared.clock.read  # type: ignore[method-assign]

    def _connect(self) -> Client:
        """As a supervisor does: again, until it works."""
        for _ in range(20):
            try:
                return RemoteClient(Stubs(self._channel, "grpc://world"))
            except Unavailable:
                continue
        raise AssertionError("no end of faults")

    def port(self) -> Port:
        return self._world.server().port

    def sessions(self) -> set[str]:
        return cast("set[str]", self._channel.sessions)

    def owner(self) -> str:
        return self._world.server().client.log._process

    def stop(self, *, hang_up: bool) -> None:
        """As in `Process`: a server that has heard nothing for too long ends the session (G1)."""
        if hang_up:
            self._channel.drop()

    def die(self, *, half_open: bool) -> None:
        self._channel.die(half_open=half_open)
        if half_open:
            self._world.notice_later(self._channel)
        self._end()


class Serving(Process):
    """The server."""

    def __init__(self, world: World) -> None:
        super().__init__(world, SERVER)
        self.server = Server(world.port(SERVER, self.faults))
        self.client = self.server.client
        self.client.log._process = world.signature(SERVER)
        self.consumers = self.client.loops()

    def port(self) -> Port:
        return self.server.port

    def owner(self) -> str:
        return self.client.log._process

    def stop(self, *, hang_up: bool) -> None:
        self.server.stands_still = True

    def go_on(self) -> None:
        self.server.stands_still = False

    def die(self, *, half_open: bool) -> None:
        self.server.die(half_open=half_open)


def staffed(process: Process, world: World) -> Process:
    """A process with workflows, activities and a user's consumer; and its loops, if it has any."""
    client = process.client
    made = list(_shared(process, world) if world.shared_count else _staff(process, world))
    process.consumers = []
    for each in made:
        client.add(each, start=False)
        process.consumers.append(each)
        if isinstance(each, Sharded):
            process.shards |= {member: (each, m) for m, member in enumerate(each.members)}
            process.consumers += each.members
    process.consumers += [consume(client, READER, world.delivered, start=False), *client.loops()]
    return process


def _staff(process: Process, world: World) -> Iterator[Consumer]:
    for shard in world.shards():
        for namespace in world.namespaces:
            yield _workflow(process, world, namespace, shard)
            for name in _activities(world):
                yield _activity(process, world, namespace, name, shard)


def _shared(process: Process, world: World) -> Iterator[Consumer]:
    """The same with shards that all workers share (H3); it waits for a server that is away."""
    client = process.client
    for namespace in world.namespaces:
        log = client.log_of(namespace)
        makers = [partial(_workflow, process, world, namespace)]
        for name in _activities(world):
            crew = activity_module._Workers(world.plan.workers, name)
            makers.append(partial(_activity, process, world, namespace, name, crew=crew))
        for make in makers:
            yield _divided(client, log, make, world.shared_count)


def _divided(
    client: Client, log: Log, make: Callable[[Shard | None], Consumer], shards: int
) -> Sharded:
    """As a program does whose server is away: again, until it works."""
    for _ in range(20):
        try:
            found = client.divided(log, make, None, shards)
        except Unavailable:
            continue
        assert isinstance(found, Sharded)
        return found
    raise AssertionError("no end of faults")


def _activities(world: World) -> dict[str, type[Any]]:
    activities: dict[str, type[Any]] = dict.fromkeys(ACTIVITIES, Int)
    activities |= {LARGE: String} if world.large else {}
    return activities | (dict.fromkeys(ENDINGS, Int) if world.endings else {})


def _workflow(process: Process, world: World, namespace: str, shard: Shard | None) -> Consumer:
    return WorkflowConsumer(
        process.client.log_of(namespace),
        namespace,
        WORKFLOW,
        world.flow(process),
        signature=Signature(Kind.of(Int, WORKFLOW)),
        shard=shard,
        await_timeout=timedelta(milliseconds=world.plan.await_ms),
        max_cached=world.plan.max_cached,
        metrics=None,
    )


def _activity(
    process: Process,
    world: World,
    namespace: str,
    name: str,
    shard: Shard | None,
    crew: Any = None,
) -> Consumer:
    return ActivityConsumer(
        process.client.log_of(namespace),
        namespace,
        name,
        world.activity(name),
        None,
        signature=Signature(Kind.of(_activities(world)[name], name)),
        shard=shard,
        workers=world.plan.workers,
        crew=crew,
        retry=world.policy if name == RISKY else None,
        timeout=None,
        metrics=None,
    )
