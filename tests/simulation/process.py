"""The processes of a cluster: workers and a user, on a database or a server; and that server."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from replay import Client, Consumer, Unavailable, consume
from replay.activity import ActivityConsumer
from replay.log import Log
from replay.server.remote import RemoteClient, Stubs
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
        self.code = ""  # which change of the workflows' code is in force
        self._world = world

    def port(self) -> Port:
        """The port of the process that owns the names in the database."""
        raise NotImplementedError

    def owner(self) -> str:
        """How that process signs what it owns."""
        raise NotImplementedError

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
    process.consumers = [client.add(each, start=False) for each in _staff(process, world)]
    process.consumers += [consume(client, READER, world.delivered, start=False), *client.loops()]
    return process


def _staff(process: Process, world: World) -> Iterator[Consumer]:
    plan = world.plan
    activities = dict.fromkeys(ACTIVITIES, Int) | ({LARGE: String} if world.large else {})
    activities |= dict.fromkeys(ENDINGS, Int) if world.endings else {}
    for shard in world.shards():
        for namespace in world.namespaces:
            log = process.client.log_of(namespace)
            yield WorkflowConsumer(
                log,
                namespace,
                WORKFLOW,
                world.flow(process),
                signature=Signature(Kind.of(Int, WORKFLOW)),
                shard=shard,
                await_timeout=timedelta(milliseconds=plan.await_ms),
                max_cached=plan.max_cached,
                metrics=None,
            )
            for name, takes in activities.items():
                yield ActivityConsumer(
                    log,
                    namespace,
                    name,
                    world.activity(name),
                    None,
                    signature=Signature(Kind.of(takes, name)),
                    shard=shard,
                    workers=plan.workers,
                    retry=world.policy if name == RISKY else None,
                    timeout=None,
                    metrics=None,
                )
