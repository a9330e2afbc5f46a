"""Retention through a server: who may prune, and what a token that does not see all is told."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from replay import Client, consume, register_workflow
from replay.log import EventsPruned
from replay.retention import StillServed, UnknownConsumer
from replay.server.access import Access, Principal
from replay.server.proto import replaypb_pb2, replaypb_pb2_grpc
from replay.server.wire import AccessDenied
from tests.example_pb2 import Int
from tests.serving import Serving, serving
from tests.support import stepped
from tests.test_retention import floor, store

NOW = timedelta(0)


def principal(name: str, *namespaces: str, writes: bool = True) -> tuple[str, Principal]:
    some = frozenset(namespaces) if namespaces else None
    return hashlib.sha256(name.encode()).hexdigest(), Principal(name, some, writes)


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Serving]:
    """Give a server with tokens: for all, for reading, and for the namespace a."""
    access = Access([principal("all"), principal("read", writes=False), principal("a", "a")])
    with serving(f"sqlite:///{tmp_path / 'replay.db'}", access=access) as server:
        yield server


def runs(client: Client, *names: str) -> None:
    """Bring runs of the namespaces a and b to their end."""
    consumers = []
    for namespace in "ab":
        flow = register_workflow(client, namespace, lambda ctx, m: m, name="w", start=False)
        consumers.append(flow)
    for name in names:
        for namespace in "ab":
            assert client.run_workflow(namespace, "w", name, Int(value=1))
        store(*consumers)
    for consumer in consumers:
        consumer.stop()
        client._consumers.pop(consumer.name)


def test_l9_g4_a_token_for_some_namespaces_cannot_prune(guarded: Serving) -> None:
    """L9, G4: the floor concerns all who read; nor can one that only reads."""
    with stepped(f"{guarded.url}?token=all") as client:
        runs(client, "r")
        for name in ("a", "read"):
            with stepped(f"{guarded.url}?token={name}") as other, pytest.raises(AccessDenied):
                other.prune(NOW)
        with stepped(f"{guarded.url}?token=a") as other, pytest.raises(AccessDenied):
            other.prune(NOW, namespace="a")
        assert floor_of(guarded) == 0
        assert client.prune(NOW).runs == 2


def floor_of(server: Serving) -> int:
    return server.database().floor()


def test_l9_g4_what_a_token_does_not_see_is_not_taken_for_pruned(guarded: Serving) -> None:
    """L9, G4, L1: a stream of one namespace, over pruned ids and those of other namespaces."""
    with (
        stepped(f"{guarded.url}?token=all") as client,
        stepped(f"{guarded.url}?token=a") as reader,
    ):
        runs(client, "r")
        assert client.prune(NOW).runs == 2
        start = floor(client)
        runs(client, "s")
        for tail in (reader.log.tail, guarded.host().log.tail):
            tail.reset(tail.end)
        found = [str(event.key) for event in reader.stream(to_head=True)]
        assert found == ["a/w/r/0"] * 2 + ["a/w/s/0"] + [
            "a/w/s/0/replay_result/0",
            "a/w/s/0",
        ]
        late = reader.stream(after=start, to_head=True)
        assert {event.key.run for event in late} == {"s"}


def test_l9_g4_a_stream_of_a_token_that_is_overtaken_says_so(guarded: Serving) -> None:
    """L9, G4: it can tell what was pruned from what it does not see."""
    with (
        stepped(f"{guarded.url}?token=all") as client,
        stepped(f"{guarded.url}?token=a") as reader,
    ):
        runs(client, "r", "s")
        reader.log.poll()
        read = reader.log._read
        reader.log._read = lambda after, limit: read(after, 1)  # type: ignore[method-assign]
        for tail in (reader.log.tail, guarded.host().log.tail):
            tail.reset(tail.end)
        stream = reader.stream(to_head=True)
        next(stream)
        assert client.prune(NOW).runs == 4
        with pytest.raises(EventsPruned):
            list(stream)


def test_l9_g2_a_stream_of_another_language_is_told(server: Serving) -> None:
    """L9, G2: with FAILED_PRECONDITION, before anything is sent; an empty `after` gets the rest."""
    with stepped(server.url) as client:
        runs(client, "r")
        assert client.prune(NOW).runs == 2
    with grpc.insecure_channel(server.url.removeprefix("grpc://")) as channel:
        stub = replaypb_pb2_grpc.ReplayStub(channel)  # type: ignore[no-untyped-call]
        request = replaypb_pb2.StreamRequest()
        request.req.options.toHead = True
        request.req.after = "1"
        with pytest.raises(grpc.RpcError) as caught:
            list(stub.Stream(request))
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        request.req.after = ""
        got: list[str] = []
        with pytest.raises(grpc.RpcError) as caught:
            got.extend(event.foreign_id for event in stub.Stream(request))
        assert caught.value.code() is grpc.StatusCode.OUT_OF_RANGE
        assert sorted(got) == ["a/w/r/0", "a/w/r/0", "b/w/r/0", "b/w/r/0"]


def test_l9_g4_a_token_forgets_its_own_consumers_only(guarded: Serving) -> None:
    """L9, G4: two tokens' consumers of one name are two consumers."""
    with (
        stepped(f"{guarded.url}?token=all") as client,
        stepped(f"{guarded.url}?token=a") as other,
    ):
        reader = consume(client, "mine", lambda event: None, start=False)
        reader.step()
        with pytest.raises(UnknownConsumer):
            other.forget_consumer("consumer/mine")
        with pytest.raises(AccessDenied):
            other.forget_consumer("workflow/b/w")
        with pytest.raises(StillServed):
            client.forget_consumer("consumer/mine")
        reader.stop()
        assert client.forget_consumer("consumer/mine") == 0
