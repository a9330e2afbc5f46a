"""J4: a codec around every payload, on every kind of client."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from replay import (
    ActivityContext,
    Client,
    Consumer,
    EventType,
    Key,
    RunContext,
    SignalType,
    connect,
    register_activity,
    register_workflow,
)
from replay.server.proto.values_pb2 import Cancel, Failure
from replay.storage.event import MessageError, MessageTooLarge
from tests.example_pb2 import String
from tests.models import Approval
from tests.support import Clock, behind, drain, listing, loops, rows, with_options

pytestmark = pytest.mark.contract

NS, MINUTE = "ns", timedelta(minutes=1)
APPROVE = SignalType(1, Approval)
SECRET = "the secret"


class Cipher:
    """Turns bytes around, behind a hash of the key: with another key they cannot be decoded."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    def encode(self, key: str, data: bytes) -> bytes:
        self.calls.append(("encode", key))
        return hashlib.sha256(key.encode()).digest() + data[::-1]

    def decode(self, key: str, data: bytes) -> bytes:
        self.calls.append(("decode", key))
        if data[:32] != hashlib.sha256(key.encode()).digest():
            raise ValueError("another key")
        return data[:31:-1]


class Attic:
    """Stores large payloads elsewhere."""

    def __init__(self) -> None:
        self.stored: dict[bytes, bytes] = {}

    def encode(self, key: str, data: bytes) -> bytes:
        self.stored[key.encode()] = data
        return key.encode()

    def decode(self, key: str, data: bytes) -> bytes:
        return self.stored[data]


class Broken:
    """Fails, or returns what is none."""

    def __init__(self, encode: Any, decode: Any) -> None:
        self.encode, self.decode = encode, decode


@contextmanager
def opened(url: str, codec: Any = None, clock: Clock | None = None) -> Iterator[Client]:
    with connect(url, loops=False, codec=codec) as client:
        (clock or Clock()).rule(client)
        yield client


def shout(ctx: ActivityContext, backends: None, message: str) -> String:
    return String(value=f"{message}!")


def flow(ctx: RunContext, message: str) -> None:
    answer = ctx.exec_activity(shout, message)
    approval = ctx.await_signal(APPROVE, MINUTE)
    assert approval is not None
    ctx.emit_output("o", f"{answer.value} {approval.by}")
    ctx.sleep(timedelta(0))
    if ctx.iteration == 0:
        ctx.restart(message)


def staff(client: Client) -> list[Consumer]:
    return [
        register_workflow(client, NS, flow, start=False),
        register_activity(client, NS, shout, start=False),
        *loops(client),
    ]


def test_j4_all_payloads_are_encoded(url: str) -> None:
    """J4: in the database, and behind a server; only sleeps can be read there.

    Two processes read them back, so what is decoded was stored.
    """
    first, second = Cipher(), Cipher()
    with opened(url, first) as client:
        assert client.run_workflow(NS, flow, "r", SECRET)
        assert client.signal_run(NS, flow, "r", APPROVE, Approval(SECRET), "a")
        drain(*staff(client))
    with opened(url, second) as client:
        client.signal_run(NS, flow, "r", APPROVE, Approval("other"), "b")
        drain(*staff(client))
        assert listing(client) == [
            "RUN_CREATED ns/flow/r/0 the secret",
            "ACTIVITY_REQUEST ns/flow/r/0/shout/0 the secret",
            'ACTIVITY_RESPONSE ns/flow/r/0/shout/0 value: "the secret!"',
            "ACTIVITY_REQUEST ns/flow/r/0/replay_signal/1:0 duration { seconds: 60 }",
            "ACTIVITY_RESPONSE ns/flow/r/0/replay_signal/1:0 {'by': 'the secret', 'ok': True}",
            "RUN_OUTPUT ns/flow/r/0/o/0 the secret! the secret",
            "ACTIVITY_REQUEST ns/flow/r/0/replay_sleep/0 duration { }",
            "ACTIVITY_RESPONSE ns/flow/r/0/replay_sleep/0",
            "RUN_COMPLETED ns/flow/r/0 -",
            "RUN_CREATED ns/flow/r/1 the secret",
            "ACTIVITY_REQUEST ns/flow/r/1/shout/0 the secret",
            'ACTIVITY_RESPONSE ns/flow/r/1/shout/0 value: "the secret!"',
            "ACTIVITY_REQUEST ns/flow/r/1/replay_signal/1:0 duration { seconds: 60 }",
            "ACTIVITY_RESPONSE ns/flow/r/1/replay_signal/1:0 {'by': 'other', 'ok': True}",
            "RUN_OUTPUT ns/flow/r/1/o/0 the secret! other",
            "ACTIVITY_REQUEST ns/flow/r/1/replay_sleep/0 duration { }",
            "ACTIVITY_RESPONSE ns/flow/r/1/replay_sleep/0",
            "RUN_COMPLETED ns/flow/r/1 -",
        ]
        stored = rows(client, "SELECT message FROM replay_events WHERE message IS NOT NULL")
        stored += rows(client, "SELECT message FROM replay_signals")
        encoded = [raw for (raw,) in stored if b"replay.v1.Encoded" in raw]
        assert (len(encoded), len(stored)) == (12, 18)
        assert not [raw for (raw,) in stored if SECRET.encode() in raw or b"example" in raw]
    keys = {key for what, key in first.calls if what == "encode"}
    assert {"ns/flow/r", "ns/flow/r/0", "ns/flow/r/0/shout/0", "ns/flow/r/0/o/0"} <= keys
    assert not [key for _, key in [*first.calls, *second.calls] if "/replay_" in key]


def test_j4_nothing_is_decoded_that_nobody_reads(url: str) -> None:
    """J4: a stream, and consumers that want other events."""
    cipher = Cipher()
    with opened(url, cipher) as client:
        client.run_workflow(NS, "other", "r", SECRET)
        events = list(client.stream(to_head=True))
        drain(*staff(client))
        assert cipher.calls == [("encode", "ns/other/r/0")]
        assert [event.message for event in events] == [SECRET]
        assert cipher.calls[1:] == [("decode", "ns/other/r/0")]


def test_j4_a_log_may_hold_both(url: str) -> None:
    """J4: a client with a codec reads what was stored before it had one, and the bytes stay."""
    with opened(url) as client:
        client.run_workflow(NS, flow, "r", SECRET)
        client.signal_run(NS, flow, "r", APPROVE, Approval("me"), "a")
        before = rows(client, "SELECT id, message FROM replay_events")
    with opened(url, Cipher()) as client:
        drain(*staff(client))
        assert listing(client)[4:6] == [
            "ACTIVITY_RESPONSE ns/flow/r/0/replay_signal/1:0 {'by': 'me', 'ok': True}",
            "RUN_OUTPUT ns/flow/r/0/o/0 the secret! me",
        ]
        assert rows(client, "SELECT id, message FROM replay_events")[:1] == before


def test_j4_without_the_codec_nothing_can_be_read(url: str) -> None:
    """J4, R5: a stream tells why, and a run is parked."""
    with opened(url, Cipher()) as client:
        client.run_workflow(NS, flow, "r", SECRET)
    with opened(url) as client:
        (event,) = client.stream(to_head=True)
        with pytest.raises(MessageError, match="is encoded: connect with its codec"):
            _ = event.message
        workflow, *_others = staff(client)
        drain(workflow)
        (parked,) = workflow.parked()
        assert "is encoded: connect with its codec" in parked.error


def fails(key: str, data: bytes) -> bytes:
    raise OSError("no key")


BROKEN = [
    (fails, "ns/flow/r/0: the codec failed: OSError: no key"),
    (lambda key, data: None, "ns/flow/r/0: the codec returned NoneType, not bytes"),
]


@pytest.mark.parametrize(("function", "problem"), BROKEN)
def test_j4_a_codec_that_fails_is_a_message_error(url: str, function: Any, problem: str) -> None:
    """J4: it names the event, on both sides; nothing is stored, or the run is parked."""
    with opened(url, Broken(function, None)) as client:
        with pytest.raises(MessageError, match=problem):
            client.run_workflow(NS, flow, "r", SECRET)
        with pytest.raises(MessageError, match="signal 1 to ns/flow/r: the codec"):
            client.signal_run(NS, flow, "r", 1, SECRET, "a")
        assert (listing(client), rows(client, "SELECT id FROM replay_signals")) == ([], [])
    with opened(url, Broken(lambda key, data: data, function)) as client:
        client.run_workflow(NS, flow, "r", SECRET)
        (event,) = client.stream(to_head=True)
        with pytest.raises(MessageError, match=problem):
            _ = event.message
        workflow, *_others = staff(client)
        drain(workflow)
        (parked,) = workflow.parked()
        assert parked.error.partition(": ")[2] == problem


def test_j4_n3_the_limit_is_for_what_is_stored(url: str) -> None:
    """J4, N3: so a codec may store large payloads elsewhere, and may not make them too large."""
    attic = Attic()
    with opened(with_options(url, max_message=1000), attic) as client:
        assert client.run_workflow(NS, "flow", "r", "x" * 100_000)
        assert len(attic.stored[b"ns/flow/r/0"]) > 100_000
        (event,) = client.stream(to_head=True)
        assert event.message == "x" * 100_000
    big = Broken(lambda key, data: data * 100, None)
    refused = pytest.raises(MessageTooLarge, match="ns/flow/s/0: the Encoded has")
    with opened(with_options(url, max_message=1000), big) as client, refused:
        client.run_workflow(NS, "flow", "s", "x" * 100)


def test_j4_what_others_have_to_read_is_never_encoded(url: str) -> None:
    """J4: failures and cancels, beside the sleeps."""
    with opened(url, Cipher()) as client:
        for n, message in enumerate((Failure(kind="k"), Cancel(reason="r"))):
            event = client.log.event(
                EventType.RUN_OUTPUT, Key(NS, "flow", "r", 0, "o", str(n)), message
            )
            assert b"Encoded" not in (event.raw or b"")
            assert behind(client).event(event.type, event.key, message).raw == event.raw
        assert client.log.event(EventType.RUN_CREATED, Key(NS, "flow", "r"), None).raw is None


def test_j4_large_messages_of_a_history(url: str) -> None:
    """J4, R10: a replay reads them apart, and decodes them all the same."""

    def large(ctx: RunContext, message: str) -> None:
        for _ in range(2):
            ctx.emit_output("o", len(ctx.exec_activity(shout, message).value))
        ctx.await_signal(1, MINUTE)

    with opened(url, Cipher()) as client:
        client.run_workflow(NS, large, "r", "x" * 20_000)
        workflow = register_workflow(client, NS, large, start=False)
        drain(workflow, *staff(client)[1:2])
    with opened(url, Cipher()) as client:
        client.signal_run(NS, large, "r", 1, None, "a")
        drain(register_workflow(client, NS, large, start=False), *loops(client))
        assert [
            (event.type.name, event.message if isinstance(event.message, int) else "")
            for event in client.stream(to_head=True)
        ] == [
            ("RUN_CREATED", ""),
            *[("ACTIVITY_REQUEST", ""), ("ACTIVITY_RESPONSE", ""), ("RUN_OUTPUT", 20_001)] * 2,
            ("ACTIVITY_REQUEST", ""),
            ("ACTIVITY_RESPONSE", ""),
            ("RUN_COMPLETED", ""),
        ]
