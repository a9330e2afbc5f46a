"""The server: what it answers to any client, to ours, and to signals of the operating system."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import patch

import grpc
import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from replay import (
    ActivityContext,
    Client,
    Event,
    EventType,
    Key,
    RunContext,
    connect,
    consume,
    register_activity,
    register_workflow,
)
from replay.server.access import ANYBODY, Access, new_token
from replay.server.options import BadSetup, Options
from replay.server.proto import replaypb_pb2, replaypb_pb2_grpc
from replay.server.proto.reflexpb_pb2 import StreamOptions
from replay.server.proto.reflexpb_pb2 import StreamRequest as ReflexRequest
from replay.server.proto.replaypb_pb2 import (
    CompleteRequest,
    KeyMessage,
    ListBootstrapRequest,
    RunRequest,
    SignalRequest,
    SleepRequest,
    StreamRequest,
)
from replay.server.remote import RemoteLog
from replay.server.wire import AccessDenied, WrongServer
from replay.storage.database import Unavailable
from replay.tools.cli import main, make_parser
from replay.tools.serve import serve
from tests import journey
from tests.example_pb2 import Int, String
from tests.servers import free_port
from tests.serving import serving
from tests.support import Clock, listing, raw, stepped, with_options

LIMIT = 60  # seconds until something that has to happen has not happened
GOLDEN = Path(__file__).parent.parent / "golden" / "grpc.jsonl"

OK = grpc.StatusCode.OK
AT_HEAD = grpc.StatusCode.OUT_OF_RANGE
REFUSED = grpc.StatusCode.INVALID_ARGUMENT
GONE = grpc.StatusCode.UNAVAILABLE
CREATED, COMPLETED, OUTPUT, REQUEST, RESPONSE = 1, 2, 3, 4, 5


# A client that knows nothing but the .proto files.


@contextmanager
def bare(url: str) -> Iterator[Any]:
    """The stubs of `replaypb.Replay`."""
    with channel(url) as opened:
        yield replaypb_pb2_grpc.ReplayStub(opened)  # type: ignore[no-untyped-call]


def channel(url: str) -> grpc.Channel:
    return grpc.insecure_channel(url.removeprefix("grpc://"))


def packed(message: Message) -> AnyMessage:
    wrapped = AnyMessage()
    wrapped.Pack(message)
    return wrapped


def unpacked(event: Any, message: Any) -> Any:
    assert AnyMessage.FromString(event.metadata).Unpack(message)
    return message


def run_request(key: str, message: Message | None = None) -> RunRequest:
    return RunRequest(key=key, message=None if message is None else packed(message))


def key_message(key: str, message: Message | None = None) -> KeyMessage:
    return KeyMessage(key=key, message=None if message is None else packed(message))


def signal_request(
    workflow: str, run: str, external_id: str = "", message: Message | None = None
) -> SignalRequest:
    return SignalRequest(
        namespace="n",
        workflow=workflow,
        run=run,
        signal_type=1,
        external_id=external_id,
        message=None if message is None else packed(message),
    )


def streamed(stub: Any, *names: str, after: str = "", **options: Any) -> Any:
    """A stream of a namespace, workflow, run."""
    names += ("",) * (3 - len(names))
    req = ReflexRequest(after=after, options=StreamOptions(**options))
    request = StreamRequest(namespace=names[0], workflow=names[1], run=names[2], req=req)
    return stub.Stream(request, timeout=LIMIT)


def whole(events: Iterable[Any]) -> tuple[list[tuple[str, int, str]], grpc.StatusCode]:
    """What a stream gives until it ends, and the status that it ends with."""
    found: list[tuple[str, int, str]] = []
    try:
        found += (brief(event) for event in events)
    except grpc.RpcError as error:
        return found, code(error)
    return found, OK


def brief(event: Any) -> tuple[str, int, str]:
    """An event's id, type and key."""
    return event.id, event.type, event.foreign_id


def log(stub: Any, *names: str) -> list[tuple[str, int, str]]:
    """All events there are."""
    found, status = whole(streamed(stub, *names, toHead=True))
    assert status is AT_HEAD
    return found


def code(error: Any) -> grpc.StatusCode:
    status: grpc.StatusCode = error.code()
    return status


def status(call: Callable[[Any], object], request: Message) -> grpc.StatusCode:
    """The status that a call ends with."""
    try:
        call(request)
    except grpc.RpcError as error:
        return code(error)
    return OK


# G2: what a Go server answers.


def recorded() -> list[dict[str, Any]]:
    return [json.loads(line) for line in GOLDEN.read_text().splitlines()]


def lacks_message(call: dict[str, Any]) -> bool:
    return call.get("details") == "proto: Marshal called with nil"


def expected(call: dict[str, Any]) -> tuple[grpc.StatusCode, Any]:
    """What a call has to give here: the README beside the file says what differs."""
    if call["method"] == "Stream":
        refused = call["details"] == "missing filter" or call["note"] == "after is no number"
        return REFUSED if refused else AT_HEAD, call["events"]
    return OK if call["status"] == "OK" else REFUSED, call.get("response")


def answer(stub: Any, call: dict[str, Any]) -> tuple[grpc.StatusCode, Any]:
    """What it gives, in the words of the file."""
    method = replaypb_pb2.DESCRIPTOR.services_by_name["Replay"].methods_by_name[call["method"]]
    kind = getattr(replaypb_pb2, method.input_type.name)
    request = kind.FromString(bytes.fromhex(call["request"]))
    events: list[dict[str, Any]] = []
    try:
        if call["method"] == "Stream":
            events += map(in_json, stub.Stream(request, timeout=LIMIT))
            return OK, events
        response = getattr(stub, call["method"])(request)
    except grpc.RpcError as error:
        return code(error), events if call["method"] == "Stream" else None
    if call["method"] == "ListBootstrapEvents":
        return OK, [in_json(event) for event in response.events]
    return OK, MessageToDict(response)


def in_json(event: Any) -> dict[str, Any]:
    return {
        "id": event.id,
        "type": event.type,
        "foreign_id": event.foreign_id,
        "metadata": event.metadata.hex(),
    }


def test_g2_the_calls_of_the_go_system_are_answered_as_by_its_server(url: str) -> None:
    """G2, L2, R1, S1, R6, L4: all but those that it refuses since they have no message."""
    calls = [call for call in recorded() if not lacks_message(call)]
    assert len(calls) == 33
    with serving(url) as server, bare(server.url) as stub:
        for call in calls:
            assert (call["note"], answer(stub, call)) == (call["note"], expected(call))


def test_g2_p11_a_missing_message_is_taken(url: str) -> None:
    """G2, P11, N3: what the Go server refuses; asked of a database of its own.

    An event that was added would move the ids of all later calls.
    """
    calls = [call for call in recorded() if lacks_message(call)]
    assert [call["method"] for call in calls] == ["RunWorkflow", "SignalRun"]
    with serving(url) as server, bare(server.url) as stub:
        for call in calls:
            assert answer(stub, call) == (OK, {"ok": True})
            assert answer(stub, call) == (OK, {})
        (event,) = stub.ListBootstrapEvents(ListBootstrapRequest(key="n1/w1/b/0")).events
        assert (brief(event), event.metadata) == (("1", CREATED, "n1/w1/b/0"), b"")


def test_g2_n3_a_missing_message_is_refused_where_one_is_required(url: str) -> None:
    """G2, N3: of the calls that add anything, all but the end of a run; other namespaces may."""
    with serving(with_options(url, require_message="n")) as server, bare(server.url) as stub:
        answers = [
            status(stub.RunWorkflow, run_request("n/w/r/0")),
            status(stub.RestartRun, run_request("n/w/r/0")),
            status(stub.RequestActivity, key_message("n/w/r/0/act/0")),
            status(stub.RespondActivity, key_message("n/w/r/0/act/0")),
            status(stub.EmitOutput, key_message("n/w/r/0/out/0")),
            status(stub.SignalRun, signal_request("w", "r")),
        ]
        assert answers == [REFUSED] * 6
        assert status(stub.CompleteRun, CompleteRequest(key="n/w/r/0")) is OK
        assert stub.RunWorkflow(run_request("m/w/r/0")).ok
        assert log(stub) == [("1", COMPLETED, "n/w/r/0"), ("2", CREATED, "m/w/r/0")]


# G2: what clients of the Go system rely on.


def test_g2_l4_an_empty_after_starts_at_the_first_event_of_the_filter(url: str) -> None:
    """G2, L4: whatever stands before it; and without a filter at the first of all."""
    with serving(url) as server, bare(server.url) as stub:
        for key in ("a/v/r/0", "n/v/r/0", "n/w/q/0", "n/w/r/0", "z/w/r/0"):
            assert stub.RunWorkflow(run_request(key)).ok
        firsts = [brief(next(streamed(stub, *names))) for names in FILTERS]
    assert firsts == [
        ("1", CREATED, "a/v/r/0"),
        ("2", CREATED, "n/v/r/0"),
        ("3", CREATED, "n/w/q/0"),
        ("4", CREATED, "n/w/r/0"),
    ]


FILTERS = [(), ("n",), ("n", "w"), ("n", "w", "r")]


def test_g2_l1_l3_events_of_fenced_ids_are_not_streamed(url: str) -> None:
    """G2, L1, L3: the ids 1 and 3 will never come; a stream passes them and never shows them."""
    with serving(url) as server, bare(server.url) as stub, raw(url) as other:
        live = streamed(stub)
        other.add(Key("n", "w", "a"), id=2)
        other.add(Key("n", "w", "b"), id=4)
        added = [("2", CREATED, "n/w/a/0"), ("4", CREATED, "n/w/b/0")]
        assert [brief(next(live)), brief(next(live))] == added
        assert log(stub) == log(stub, "n", "w") == added
        assert log(stub, "n", "w", "b") == added[1:]
        found = other.run("SELECT id, type, `key` FROM replay_events ORDER BY id")
    assert found == [
        (1, 0, "replay_noop/1"),
        (2, CREATED, "n/w/a/0"),
        (3, 0, "replay_noop/3"),
        (4, CREATED, "n/w/b/0"),
    ]


def test_g2_l4_a_stream_to_the_head_ends_there_out_of_range(url: str) -> None:
    """G2, L4: empty or not, behind the last event or behind an id that is not there yet."""
    first = ("1", CREATED, "n/w/a/0")
    with serving(url) as server, bare(server.url) as stub:
        assert whole(streamed(stub, toHead=True)) == ([], AT_HEAD)
        stub.RunWorkflow(run_request("n/w/a/0"))
        assert whole(streamed(stub, toHead=True)) == ([first], AT_HEAD)
        assert whole(streamed(stub, "n", "v", toHead=True)) == ([], AT_HEAD)
        assert whole(streamed(stub, after="1", toHead=True)) == ([], AT_HEAD)
        assert whole(streamed(stub, after="99", toHead=True)) == ([], AT_HEAD)


def field(number: int, content: bytes | str) -> bytes:
    """A short field of bytes, as protobuf writes it."""
    raw = content.encode() if isinstance(content, str) else content
    return bytes([number << 3 | 2, len(raw)]) + raw


def go_details(text: str, code: int, known_as: str) -> bytes:
    """The status that the Go system's server sends: google.rpc.Status, with one jettisonpb.Hop."""
    hop = field(2, field(1, text) + field(4, known_as))
    detail = field(1, "type.googleapis.com/jettisonpb.Hop") + field(2, hop)
    return bytes([1 << 3, code]) + field(2, text) + field(3, detail)


def trailing(error: Any) -> dict[str, Any]:
    """The metadata with which a call ended, but for the name of our own error."""
    return {key: value for key, value in error.trailing_metadata() if key != "replay-error"}


def test_g2_clients_of_the_go_system_know_how_a_stream_ended(url: str) -> None:
    """G2: at the head, as the server stops, and refused: they look at the code in the details."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(serving(url))
        with bare(server.url) as stub:
            with pytest.raises(grpc.RpcError) as at_head:
                list(streamed(stub, toHead=True))
            with pytest.raises(grpc.RpcError) as refused:
                list(streamed(stub, after="x"))
            live = streamed(stub)
            stub.RunWorkflow(run_request("n/w/a/0"))
            next(live)
            stack.close()
            with pytest.raises(grpc.RpcError) as stopped:
                next(live)
    head = go_details("the stream has come to the head", 11, "ERR_b4b155d2a91cfcd0")
    stop = go_details("the server is stopping", 14, "ERR_09290f5944cb8671")
    assert trailing(at_head.value) == {"grpc-status-details-bin": head}
    assert trailing(stopped.value) == {"grpc-status-details-bin": stop}
    assert trailing(refused.value) == {}


BAD_STREAMS: list[tuple[tuple[str, ...], dict[str, Any]]] = [
    (("", "w"), {}),
    (("n", "", "r"), {}),
    (("", "", "r"), {}),
    (("a/b",), {}),
    (("n", "w "), {}),
    ((), {"after": "x"}),
    ((), {"after": "-1"}),
    ((), {"after": "1.0"}),
    ((), {"after": "9" * 30}),
    ((), {"lag": Duration(seconds=-1)}),
]


def test_g2_l4_a_stream_that_makes_no_sense_is_refused(url: str) -> None:
    """G2, L4: at once, also where it would have waited for ever."""
    with serving(url) as server, bare(server.url) as stub:
        for names, options in BAD_STREAMS:
            found = whole(streamed(stub, *names, **options))
            assert (names, options, found) == (names, options, ([], REFUSED))


def test_g2_a_duplicate_is_answered_with_a_no_and_never_an_error(url: str) -> None:
    """G2, R1, S1, P11: of a run and of a signal, whatever the message; nothing is stored."""
    with serving(url) as server, bare(server.url) as stub, raw(url) as other:
        messages = (Int(value=1), Int(value=1), String(value="x"), None)
        runs = [stub.RunWorkflow(run_request("n/w/r/0", each)).ok for each in messages]
        signals = [stub.SignalRun(signal_request("w", "r", "e", each)).ok for each in messages]
        assert runs == signals == [True, False, False, False]
        assert log(stub) == [("1", CREATED, "n/w/r/0")]
        stored = packed(Int(value=1)).SerializeToString()
        assert other.run("SELECT id, message FROM replay_signals") == [(1, stored)]
        assert other.run("SELECT id, message FROM replay_events") == [(1, stored)]


def test_g2_every_call_may_be_repeated_and_burns_no_id(url: str) -> None:
    """G2, L2, A1, O1, R6: each is asked three times; the ids have no gap; the first one stays."""
    with serving(url) as server, bare(server.url) as stub, raw(url) as other:
        for n in range(3):
            message = Int(value=n)
            stub.RunWorkflow(run_request("n/w/r/0", message))
            stub.RequestActivity(key_message("n/w/r/0/act/0", message))
            stub.RespondActivity(key_message("n/w/r/0/act/0", message))
            stub.EmitOutput(key_message("n/w/r/0/out/0", message))
            stub.RestartRun(run_request("n/w/r/0", message))
            stub.CompleteRun(CompleteRequest(key="n/w/r/1"))
        stub.RunWorkflow(run_request("n/w/last/0"))
        assert log(stub) == [
            ("1", CREATED, "n/w/r/0"),
            ("2", REQUEST, "n/w/r/0/act/0"),
            ("3", RESPONSE, "n/w/r/0/act/0"),
            ("4", OUTPUT, "n/w/r/0/out/0"),
            ("5", COMPLETED, "n/w/r/0"),
            ("6", CREATED, "n/w/r/1"),
            ("7", COMPLETED, "n/w/r/1"),
            ("8", CREATED, "n/w/last/0"),
        ]
        first = packed(Int(value=0)).SerializeToString()
        found = other.run("SELECT id, message FROM replay_events ORDER BY id")
        assert found == [(n, None if n in (5, 7, 8) else first) for n in range(1, 9)]


def test_g2_l4_a_lag_gives_events_out_when_they_are_that_old(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G2, L4: by the database's clock, to the millisecond; with its timestamp."""
    clock, pauses, got = Clock(), list[float](), threading.Event()

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        await asyncio.to_thread(got.wait, LIMIT)
        clock.forward(seconds=seconds)

    with serving(url) as server, bare(server.url) as stub:
        monkeypatch.setattr(server.database(), "now", lambda: clock.now)
        monkeypatch.setattr(server.host(), "pause", pause)
        stub.RunWorkflow(run_request("n/w/a/0"))
        clock.forward(seconds=7)
        stub.RunWorkflow(run_request("n/w/b/0"))
        clock.forward(seconds=4)
        stream = streamed(stub, lag=Duration(seconds=10, nanos=500_000_000))
        a = next(stream)
        assert (brief(a), clock.now) == (("1", CREATED, "n/w/a/0"), moment(11))
        got.set()
        b = next(stream)
        assert (brief(b), clock.now) == (("2", CREATED, "n/w/b/0"), moment(17.5))
        assert pauses == [6.5]
        times = [each.timestamp.ToDatetime(UTC) for each in (a, b)]
        assert times == [moment(0), moment(7)]


def moment(seconds: float) -> datetime:
    return Clock().now + timedelta(seconds=seconds)


def test_g2_l4_from_head_begins_with_what_comes_after_the_call(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G2, L4: an id to begin after makes no difference."""
    with serving(url) as server, bare(server.url) as stub:
        waits, host = threading.Event(), server.host()
        more = host.more

        async def noted(*arguments: Any) -> None:
            waits.set()
            await more(*arguments)

        monkeypatch.setattr(host, "more", noted)
        stub.RunWorkflow(run_request("n/w/a/0"))
        stub.RunWorkflow(run_request("n/w/b/0"))
        stream = streamed(stub, fromHead=True, after="1")
        assert waits.wait(LIMIT)
        stub.RunWorkflow(run_request("n/w/c/0"))
        assert brief(next(stream)) == ("3", CREATED, "n/w/c/0")


def test_g2_a_stream_wakes_for_what_others_add(url: str) -> None:
    """G2, L4: through the server, and by an embedded client of the same database."""
    with serving(url) as server, bare(server.url) as stub, stepped(url) as embedded:
        stream = streamed(stub, "n")
        for n in range(1, 20, 2):
            assert stub.RunWorkflow(run_request(f"n/w/{n}/0")).ok
            assert brief(next(stream)) == (str(n), CREATED, f"n/w/{n}/0")
            assert embedded.run_workflow("n", "w", str(n + 1), None)
            assert brief(next(stream)) == (str(n + 1), CREATED, f"n/w/{n + 1}/0")


# Names and messages from the wire.


def test_p8_names_that_look_alike_are_told_apart_over_the_wire(url: str) -> None:
    """P8, L8, S1: case, accents, and where one name ends and the next begins."""
    with serving(url) as server, bare(server.url) as stub:
        runs = [("w", "Case"), ("w", "case"), ("w", "e"), ("w", "é"), ("wa", "b"), ("w", "ab")]
        assert all(stub.RunWorkflow(run_request(f"n/{w}/{r}/0")).ok for w, r in runs)
        assert all(stub.SignalRun(signal_request(w, r, "x")).ok for w, r in runs)
        assert all(stub.SignalRun(signal_request("w", "r", e)).ok for e in ("e", "é", "E", "e "))
        assert not any(stub.RunWorkflow(run_request(f"n/{w}/{r}/0")).ok for w, r in runs)
        assert not any(stub.SignalRun(signal_request(w, r, "x")).ok for w, r in runs)
        assert log(stub) == [(str(n), CREATED, f"n/{w}/{r}/0") for n, (w, r) in enumerate(runs, 1)]
        assert log(stub, "n", "w", "case") == [("2", CREATED, "n/w/case/0")]


BAD_NAMES = ["", "r ", " r", ".", "..", "r\0", "r\n", "x" * 256]
BAD_ACTIVITIES = ["a/b", "replay_mine", " replay_mine", "x" * 256, " "]
BAD_TARGETS = ["", ".", "..", "a/../b", "a/./b", "a//b", "/a", "a/", "r\0", "r\n", "x" * 512]
BAD_KEYS = [
    *(f"n/w/r/0/{bad}/0" for bad in BAD_TARGETS),
    "n/w/r/0/a/0/",
    "n/w/r/0/a",
    "n/w/r/0/a/x",
    "n/w/r/0/a/-1",
    "n/w/r/-1/a/0",
    "n/w/r/01/a/0",
    "n/w/r/99999999999/a/0",
    "n/w/r/0",
    "n/w/r/0/a/b/1:0",
    "replay_noop/1",
    "",
]


def test_p8_n2_names_that_cannot_be_stored_are_refused_over_the_wire(url: str) -> None:
    """P8, N2: in each place of a key, and of a signal."""
    with serving(url) as server, bare(server.url) as stub, raw(url) as other:
        for bad in BAD_NAMES:
            for names in ((bad, "w", "r"), ("n", bad, "r"), ("n", "w", bad)):
                key = f"{'/'.join(names)}/0"
                request = SignalRequest(namespace=names[0], workflow=names[1], run=names[2])
                answers = [
                    status(stub.RunWorkflow, run_request(key)),
                    status(stub.RestartRun, run_request(key)),
                    status(stub.CompleteRun, CompleteRequest(key=key)),
                    status(stub.EmitOutput, key_message(f"{key}/out/0")),
                    status(stub.SignalRun, request),
                ]
                assert (names, answers) == (names, [REFUSED] * 5)
        for bad in BAD_KEYS:
            answers = [
                status(stub.EmitOutput, key_message(bad)),
                status(stub.RequestActivity, key_message(bad)),
            ]
            assert (bad, answers) == (bad, [REFUSED] * 2)
        for bad in BAD_ACTIVITIES:
            key = f"n/w/r/0/{bad}/0"
            assert (bad, status(stub.RequestActivity, key_message(key))) == (bad, REFUSED)
        for key in ("n/w/r/1", "n/w/r/0/a/0"):
            assert status(stub.RunWorkflow, run_request(key)) is REFUSED
        assert log(stub) == []
        assert other.run("SELECT id FROM replay_signals") == []


#: What a workflow of the Go system may call its outputs.
GO_OUTPUTS = ["a/b", "a/b/c", " a", "a ", "a / b", "replay_mine", "x" * 300]


def test_g2_l3_outputs_of_the_go_system_are_taken_and_streamed(url: str) -> None:
    """G2, L3, O1: also those that another process has stored; and activities in white space."""
    keys = [f"n/w/r/0/{name}/0" for name in GO_OUTPUTS]
    expected = [("1", REQUEST, "n/w/r/0/ act /0"), ("2", RESPONSE, "n/w/r/0/ act /0")]
    expected += [(str(n), OUTPUT, key) for n, key in enumerate(keys, 3)]
    with serving(url) as server, bare(server.url) as stub, raw(url) as other:
        for _ in range(2):
            stub.RequestActivity(key_message("n/w/r/0/ act /0"))
            stub.RespondActivity(key_message("n/w/r/0/ act /0"))
            for key in keys:
                stub.EmitOutput(key_message(key, Int(value=1)))
        assert log(stub, "n", "w", "r") == expected
        other.add(Key("n", "w", "r", 0, "c/d", "1"), OUTPUT, id=20)
        assert log(stub, "n", "w", "r") == [*expected, ("20", OUTPUT, "n/w/r/0/c/d/1")]
        with connect(server.url) as client:
            found = [event.key[4:] for event in client.stream("n", "w", "r", to_head=True)]
    names = [" act ", " act ", *GO_OUTPUTS]
    assert found == [*((name, "0") for name in names), ("c/d", "1")]


def test_p11_a_remote_client_says_what_an_embedded_one_says(url: str) -> None:
    """P11, G1, R1, N3: no to a duplicate run; and a missing message is none on both sides."""
    with serving(url) as server, connect(server.url) as remote, stepped(url) as embedded:
        assert remote.run_workflow("n", "w", "a", None) is True
        assert embedded.run_workflow("n", "w", "a", None) is False
        assert remote.run_workflow("n", "w", "a", Int(value=1)) is False
        assert embedded.run_workflow("n", "w", "b", None) is True
        assert remote.run_workflow("n", "w", "b", None) is False
        assert remote.signal_run("n", "w", "a", 1, None, "x") is True
        assert remote.signal_run("n", "w", "a", 1, None, "x") is False
        assert embedded.signal_run("n", "w", "a", 1, None, "x") is False
        lines = ["RUN_CREATED n/w/a/0 -", "RUN_CREATED n/w/b/0 -"]
        assert listing(remote) == listing(embedded) == lines


BAD_SLEEPS = [
    packed(String(value="1 s")),
    None,
    AnyMessage(),
    packed(SleepRequest(duration=Duration(seconds=2**62))),
    AnyMessage(type_url="type.googleapis.com/replaypb.SleepRequest", value=b"\xff"),
]
SLEPT = [
    ("1", REQUEST, "n/w/r/0/replay_sleep/0"),
    ("2", RESPONSE, "n/w/r/0/replay_sleep/0"),
]


def test_p5_a_sleep_request_with_another_message_is_refused(url: str) -> None:
    """P5: also one for a signal; nothing is stored, and the server serves sleeps as before."""
    with serving(url, stepped=False) as server, bare(server.url) as stub:
        for message in BAD_SLEEPS:
            for target in ("replay_sleep/0", "replay_signal/1:0"):
                request = KeyMessage(key=f"n/w/r/0/{target}", message=message)
                found = status(stub.RequestActivity, request)
                assert (message, target, found) == (message, target, REFUSED)
        stub.RequestActivity(sleep("n/w/r/0/replay_sleep/0"))
        stream = streamed(stub)
        assert [brief(next(stream)), brief(next(stream))] == SLEPT


def sleep(key: str) -> KeyMessage:
    return key_message(key, SleepRequest(duration=Duration(nanos=1_000_000)))


def test_p5_a_sleep_request_that_others_stored_does_not_stop_a_server(url: str) -> None:
    """P5, R5: it is in the log when the server starts, and when it starts again."""
    with serving(url), raw(url) as other:
        message = packed(String(value="1 s")).SerializeToString()
        bad = Key("n", "w", "bad", 0, "replay_sleep", "0")
        other.add(bad, EventType.ACTIVITY_REQUEST, message=message)
    events = [("1", REQUEST, str(bad))]
    for n in range(2):
        with serving(url, stepped=False) as server, bare(server.url) as stub:
            key = f"n/w/r/{n}/replay_sleep/0"
            stub.RequestActivity(sleep(key))
            events += [(str(2 * n + 2), REQUEST, key), (str(2 * n + 3), RESPONSE, key)]
            stream = streamed(stub)
            assert [brief(next(stream)) for _ in events] == events


# G2: workers of two languages share a run.


def shout(ctx: ActivityContext, backends: None, message: String) -> String:
    raise AssertionError("another language has this activity")


def count(ctx: ActivityContext, calls: list[str], message: String) -> Int:
    calls.append(ctx.idempotency_key)
    return Int(value=len(message.value))


def shouting(ctx: RunContext, message: String) -> None:
    loud = ctx.exec_activity(shout, message)
    louder = ctx.exec_activity(shout, loud)
    ctx.emit_output("length", ctx.exec_activity(count, louder))


def serve_shout(stub: Any) -> list[str]:
    """A worker as another language has it: answers requests until a run is over."""
    served = list[str]()
    for event in streamed(stub, "n", "shouting"):
        if event.type == COMPLETED:
            break
        if event.type == REQUEST and event.foreign_id.split("/")[4] == "shout":
            served.append(event.foreign_id)
            text = unpacked(event, String()).value
            reply = key_message(event.foreign_id, String(value=f"{text.upper()}!"))
            stub.RespondActivity(reply)
            stub.RespondActivity(reply)
    return served


@pytest.mark.parametrize("remote", [True, False], ids=["remote", "embedded"])
def test_g2_an_activity_of_another_language_answers_a_python_workflow(
    url: str, remote: bool
) -> None:
    """G2: the workflow and another activity of it are served by this library."""
    key, calls = "n/shouting/r/0", list[str]()
    with (
        serving(url, stepped=False) as server,
        bare(server.url) as stub,
        connect(server.url if remote else url) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        register_workflow(client, "n", shouting)
        register_activity(client, "n", count, calls)
        worker = pool.submit(serve_shout, stub)
        assert stub.RunWorkflow(run_request(key, String(value="hey"))).ok
        client.await_completion("n", "shouting", "r", LIMIT)
        assert worker.result(LIMIT) == [f"{key}/shout/0", f"{key}/shout/1"]
        assert calls == [f"{key}/count/0"]
        assert listing(client) == [
            f'RUN_CREATED {key} value: "hey"',
            f'ACTIVITY_REQUEST {key}/shout/0 value: "hey"',
            f'ACTIVITY_RESPONSE {key}/shout/0 value: "HEY!"',
            f'ACTIVITY_REQUEST {key}/shout/1 value: "HEY!"',
            f'ACTIVITY_RESPONSE {key}/shout/1 value: "HEY!!"',
            f'ACTIVITY_REQUEST {key}/count/0 value: "HEY!!"',
            f"ACTIVITY_RESPONSE {key}/count/0 value: 5",
            f"RUN_OUTPUT {key}/length/0 value: 5",
            f"RUN_COMPLETED {key} -",
        ]


class BareWorkflow:
    """A workflow as another language's engine has it, by nothing but the service."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub

    def serve(self) -> None:
        """Take the runs of the workflow, until an iteration other than the first has ended."""
        for event in streamed(self._stub, "n", "foreign"):
            if event.type == CREATED:
                self._iterate(event.foreign_id)
            elif event.type == COMPLETED and not event.foreign_id.endswith("/0"):
                return

    def _iterate(self, key: str) -> None:
        created, *rest = self.history(key)
        assert (brief(created)[1:], rest) == ((CREATED, key), [])
        text = unpacked(created, String())
        for _ in range(2):  # what an engine that crashed and replays does
            length = unpacked(self._ask(f"{key}/count/0", text), Int())
            assert [event.type for event in self.history(key)] == [CREATED, RESPONSE]
        self._ask(f"{key}/replay_sleep/0", SleepRequest(duration=Duration(nanos=1)))
        heard = self._ask(f"{key}/replay_signal/1:0", SleepRequest(duration=Duration(seconds=3600)))
        self._stub.EmitOutput(key_message(f"{key}/length/0", length))
        if key.endswith("/0"):
            self._stub.RestartRun(run_request(key, unpacked(heard, String())))
        else:
            self._stub.CompleteRun(CompleteRequest(key=key))

    def history(self, key: str) -> list[Any]:
        return list(self._stub.ListBootstrapEvents(ListBootstrapRequest(key=key)).events)

    def _ask(self, key: str, message: Message) -> Any:
        """Request an activity, and wait for its response."""
        self._stub.RequestActivity(key_message(key, message))
        run = key.split("/")[:3]
        return next(
            event
            for event in streamed(self._stub, *run)
            if event.type == RESPONSE and event.foreign_id == key
        )


@pytest.mark.parametrize("remote", [True, False], ids=["remote", "embedded"])
def test_g2_a_workflow_of_another_language_is_answered_by_a_python_activity(
    url: str, remote: bool
) -> None:
    """G2, R6: with a sleep, a signal, an output and a restart, by the service alone."""
    calls = list[str]()
    with (
        serving(url, stepped=False) as server,
        bare(server.url) as stub,
        connect(server.url if remote else url, loops=False) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        register_activity(client, "n", count, calls)
        for text in ("a", "bc"):
            request = signal_request("foreign", "r", text, String(value=text))
            assert stub.SignalRun(request).ok
        engine = BareWorkflow(stub)
        worker = pool.submit(engine.serve)
        assert client.run_workflow("n", "foreign", "r", String(value="hello"))
        client.await_completion("n", "foreign", "r", LIMIT)
        worker.result(LIMIT)
        assert calls == ["n/foreign/r/0/count/0", "n/foreign/r/1/count/0"]
        assert listing(client) == [*iteration(0, "hello", "a"), *iteration(1, "a", "bc")]
        found = [brief(event) for event in engine.history("n/foreign/r/1")]
    key = "n/foreign/r/1"
    assert found == [
        ("10", CREATED, key),
        ("12", RESPONSE, f"{key}/count/0"),
        ("14", RESPONSE, f"{key}/replay_sleep/0"),
        ("16", RESPONSE, f"{key}/replay_signal/1:0"),
        ("18", COMPLETED, key),
    ]


def iteration(n: int, text: str, heard: str) -> list[str]:
    key = f"n/foreign/r/{n}"
    return [
        f'RUN_CREATED {key} value: "{text}"',
        f'ACTIVITY_REQUEST {key}/count/0 value: "{text}"',
        f"ACTIVITY_RESPONSE {key}/count/0 value: {len(text)}",
        f"ACTIVITY_REQUEST {key}/replay_sleep/0 duration {{ nanos: 1 }}",
        f"ACTIVITY_RESPONSE {key}/replay_sleep/0",
        f"ACTIVITY_REQUEST {key}/replay_signal/1:0 duration {{ seconds: 3600 }}",
        f'ACTIVITY_RESPONSE {key}/replay_signal/1:0 value: "{heard}"',
        f"RUN_OUTPUT {key}/length/0 value: {len(text)}",
        f"RUN_COMPLETED {key} -",
    ]


# G3: a database for each namespace.


def pay(ctx: RunContext, message: String) -> None:
    ctx.sleep(timedelta(milliseconds=1))
    signal = ctx.await_signal(1, timedelta(hours=1))
    assert signal is not None
    ctx.emit_output("length", ctx.exec_activity(count, signal.message))


def paid(namespace: str, text: str) -> list[str]:
    key = f"{namespace}/pay/r/0"
    return [
        f"RUN_CREATED {key} -",
        f"ACTIVITY_REQUEST {key}/replay_sleep/0 duration {{ nanos: 1000000 }}",
        f"ACTIVITY_RESPONSE {key}/replay_sleep/0",
        f"ACTIVITY_REQUEST {key}/replay_signal/1:0 duration {{ seconds: 3600 }}",
        f'ACTIVITY_RESPONSE {key}/replay_signal/1:0 value: "{text}"',
        f'ACTIVITY_REQUEST {key}/count/0 value: "{text}"',
        f"ACTIVITY_RESPONSE {key}/count/0 value: {len(text)}",
        f"RUN_OUTPUT {key}/length/0 value: {len(text)}",
        f"RUN_COMPLETED {key} -",
    ]


def test_g3_a_namespace_has_its_own_database(url: str, tmp_path: Path) -> None:
    """G3: runs, streams, consumers and signals of it go there, all else to the other."""
    payments = f"sqlite:///{tmp_path / 'payments.db'}"
    lines = {"payments": paid("payments", "four"), "shop": paid("shop", "fives")}
    with (
        serving(databases={"": url, "payments": payments}, stepped=False) as server,
        connect(server.url) as client,
        bare(server.url) as stub,
    ):
        seen = {each: SimpleQueue[Event]() for each in ("payments", "")}
        for namespace, queue in seen.items():
            consume(client, f"all-{namespace}", queue.put, namespace=namespace)
        for namespace, text in (("payments", "four"), ("shop", "fives")):
            register_workflow(client, namespace, pay)
            register_activity(client, namespace, count, [])
            assert client.signal_run(namespace, "pay", "r", 1, String(value=text), "x")
            assert not client.signal_run(namespace, "pay", "r", 1, String(value=text), "x")
            assert client.run_workflow(namespace, "pay", "r", None)
            assert not client.run_workflow(namespace, "pay", "r", None)
            client.await_completion(namespace, "pay", "r", LIMIT)
            assert listing(client, namespace) == lines[namespace]
        assert listing(client) == lines["shop"]
        assert [event.key for event in taken(seen["payments"])] == keys(lines["payments"])
        assert [event.key for event in taken(seen[""])] == keys(lines["shop"])
        assert [text for _, _, text in log(stub)] == list(map(str, keys(lines["shop"])))
        assert [text for _, _, text in log(stub, "payments")] == list(
            map(str, keys(lines["payments"]))
        )
    for place, namespace, watcher in (
        (payments, "payments", "all-payments"),
        (url, "shop", "all-"),
    ):
        with stepped(place) as embedded, raw(place) as other:
            assert listing(embedded) == lines[namespace]
            assert other.run("SELECT namespace FROM replay_signals") == [(namespace,)]
            assert {id for (id,) in other.run("SELECT id FROM replay_cursors")} == {
                "replay_inbox",
                "replay_runs",
                "replay_sleep",
                "replay_signal",
                f"workflow/{namespace}/pay",
                f"activity/{namespace}/count",
                f"consumer/{watcher}",
            }


def taken(queue: SimpleQueue[Event]) -> list[Event]:
    """What a consumer was given, up to the end of a run."""
    found = [queue.get(timeout=LIMIT)]
    while found[-1].type is not EventType.RUN_COMPLETED:
        found.append(queue.get(timeout=LIMIT))
    return found


def keys(lines: list[str]) -> list[Key]:
    return [Key.parse(line.split()[1]) for line in lines]


# Health and reflection.


def test_the_health_service_answers(url: str) -> None:
    """G2: of the whole server and of each service; an unknown one is not found."""
    names = ("", "replaypb.Replay", "replay.log.v1.Log")
    with serving(url) as server, channel(server.url) as opened:
        stub: Any = health_pb2_grpc.HealthStub(opened)
        for name in names:
            answer = stub.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        unknown = health_pb2.HealthCheckRequest(service="nobody")
        assert status(stub.Check, unknown) is grpc.StatusCode.NOT_FOUND


def test_g6_health_says_whether_the_databases_can_be_reached(tmp_path: Path) -> None:
    """G6: of all of them; a watcher learns of each change, and of the end."""
    first, second = (f"sqlite:///{tmp_path / name}.db" for name in "ab")
    with (
        serving(databases={"": first, "n": second}) as server,
        channel(server.url) as opened,
    ):
        stub: Any = health_pb2_grpc.HealthStub(opened)
        host, answers = server.host("n"), health_pb2.HealthCheckResponse
        health: Any = health_pb2  # whose types lack what is newest
        empty = health.HealthListRequest()
        watched = stub.Watch(health_pb2.HealthCheckRequest(), timeout=LIMIT)
        assert next(watched).status == answers.SERVING
        gone = threading.Event()

        def poll(grace: float = 0) -> bool:
            gone.set()
            raise Unavailable("away")

        with patch.object(host.log, "poll", poll):
            assert gone.wait(LIMIT)
            assert next(watched).status == answers.NOT_SERVING
            assert stub.Check(health_pb2.HealthCheckRequest()).status == answers.NOT_SERVING
            assert {
                name: each.status for name, each in stub.List(empty).statuses.items()
            } == dict.fromkeys(("", "replaypb.Replay", "replay.log.v1.Log"), answers.NOT_SERVING)
        assert next(watched).status == answers.SERVING


def test_g6_a_database_that_does_not_answer_is_out_of_reach(tmp_path: Path) -> None:
    """G6: after some seconds, although no error has come."""
    with serving(f"sqlite:///{tmp_path / 'replay.db'}") as server:
        host = server.host()
        host._answered = host._loop.time() - 4
        assert host.reachable
        with patch.object(host, "_answered", host._loop.time() - 5):
            assert not host.reachable


def test_g6_health_without_a_token_if_the_operator_says_so(tmp_path: Path) -> None:
    """G6, G4: `Check` alone, and only with the option."""
    url = f"sqlite:///{tmp_path / 'replay.db'}"
    access = Access([("0" * 64, ANYBODY)])
    for open_health in (False, True):
        with (
            serving(url, access=access, open_health=open_health) as server,
            channel(server.url) as opened,
        ):
            stub: Any = health_pb2_grpc.HealthStub(opened)
            request = health_pb2.HealthCheckRequest()
            refused = grpc.StatusCode.UNAUTHENTICATED
            assert status(stub.Check, request) is (OK if open_health else refused)
            assert whole(stub.Watch(request)) == ([], refused)
            with bare(server.url) as replaypb:
                assert status(replaypb.RunWorkflow, run_request("n/w/r/0")) is refused


def test_the_reflection_service_answers(url: str) -> None:
    """G2: the services by name, and with all files that a client needs to call them."""
    with serving(url) as server, channel(server.url) as opened:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(opened)

        def ask(**request: Any) -> Any:
            requests = iter([reflection_pb2.ServerReflectionRequest(**request)])
            (answer,) = stub.ServerReflectionInfo(requests)
            return answer

        services = ask(list_services="").list_services_response.service
        assert sorted(each.name for each in services) == [
            "grpc.health.v1.Health",
            "grpc.reflection.v1alpha.ServerReflection",
            "replay.log.v1.Log",
            "replaypb.Replay",
        ]
        found = ask(file_containing_symbol="replaypb.Replay").file_descriptor_response
        files = {
            file.name: file
            for file in map(
                descriptor_pb2.FileDescriptorProto.FromString, found.file_descriptor_proto
            )
        }
        assert set(files) == {
            "replay/server/proto/replaypb.proto",
            "replay/server/proto/reflexpb.proto",
            "google/protobuf/any.proto",
            "google/protobuf/duration.proto",
            "google/protobuf/timestamp.proto",
        }
        (service,) = files["replay/server/proto/replaypb.proto"].service
        assert [method.name for method in service.method] == [
            "RunWorkflow",
            "SignalRun",
            "RequestActivity",
            "RespondActivity",
            "EmitOutput",
            "CompleteRun",
            "RestartRun",
            "ListBootstrapEvents",
            "Stream",
        ]


# The process.


class Process:
    """A server in a process of its own; killed at the end, if it runs then."""

    def __init__(self, url: str, port: int = 0, options: Sequence[str] = ()) -> None:
        command = [sys.executable, "-m", "replay", "server", "--db", url]
        command += ["--listen", f"127.0.0.1:{port}", *options]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)
        assert self._process.stdout is not None
        self.greeting = self._process.stdout.readline()
        self.url = f"grpc://{self.greeting.split()[-1]}" if self.greeting else ""

    def says(self) -> Iterator[str]:
        """The lines that it logs."""
        assert self._process.stderr is not None
        return iter(self._process.stderr.readline, "")

    def files(self) -> tuple[int, int]:
        """How many files it may have open, and at most."""
        return resource.prlimit(self._process.pid, resource.RLIMIT_NOFILE)

    def tell(self, number: int) -> None:
        self._process.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        """Wait for the end; the exit code, and what it wrote since it began to listen."""
        out, err = self._process.communicate(timeout=LIMIT)
        return self._process.returncode, out, err

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()


def staff(client: Client, calls: list[str]) -> None:
    """Serve journeys, by a server that steps nothing by itself."""
    register_workflow(client, journey.NAMESPACE, journey.journey)
    register_activity(client, journey.NAMESPACE, journey.double, calls)


LOOPS = ["replay_sleep", "replay_signal"]
OURS = ["workflow/trip/journey", "activity/trip/double"]


def owners(url: str) -> dict[str, str]:
    """The process that owns each name that a run waits for."""
    sql = "SELECT id, owner FROM replay_cursors WHERE id NOT IN ('replay_runs', 'replay_inbox')"
    with raw(url) as other:
        found = other.run(sql)
    return {name: owner.rpartition("|")[2] for name, owner in found}


def test_l7_the_process_ends_in_order_when_it_is_told_to(url: str) -> None:
    """L7: it says where it listens, serves runs; at SIGTERM streams end, and names are given up."""
    calls = list[str]()
    with (
        closing(Process(with_options(url, lease=3600))) as server,
        connect(server.url) as client,
        bare(server.url) as stub,
    ):
        assert server.greeting.startswith("replay: serving on 127.0.0.1:")
        staff(client, calls)
        journey.begin(client, "r", 1)
        client.await_completion(journey.NAMESPACE, "journey", "r", LIMIT)
        assert listing(client) == journey.events("r", 1)
        assert calls == journey.calls_of("r")
        stream = streamed(stub)
        events = [brief(next(stream)) for _ in journey.events("r", 1)]
        assert [int(id) for id, _, _ in events] == list(range(1, len(events) + 1))
        (owner,) = set(owners(url).values())
        assert owners(url) == dict.fromkeys(LOOPS + OURS, owner)
        assert owner
        server.tell(signal.SIGTERM)
        with pytest.raises(grpc.RpcError, match="the server is stopping") as ended:
            next(stream)
        assert code(ended.value) is GONE
        exit_code, out, err = server.end()
        assert (exit_code, out, "Traceback" in err) == (0, "", False)
        assert owners(url) == dict.fromkeys(LOOPS + OURS, "")


@pytest.mark.one_server
def test_l7_a_second_server_takes_the_loops_over_when_the_first_is_killed(url: str) -> None:
    """L7: by the lock that dies with its owner: the lease is an hour."""
    place = with_options(url, lease=3600)
    with closing(Process(place)) as first, bare(first.url) as stub:
        stub.RequestActivity(sleep("n/w/r/0/replay_sleep/0"))
        stream = streamed(stub)
        assert [brief(next(stream)), brief(next(stream))] == SLEPT
        with closing(Process(place)) as second, connect(second.url) as client:
            staff(client, [])
            journey.begin(client, "a", 1)
            client.await_completion(journey.NAMESPACE, "journey", "a", LIMIT)
            one, two = owners(url)["replay_sleep"], owners(url)["workflow/trip/journey"]
            assert one != two
            assert owners(url) == {**dict.fromkeys(LOOPS, one), **dict.fromkeys(OURS, two)}
            first.tell(signal.SIGKILL)
            assert first.end()[0] == -signal.SIGKILL
            journey.begin(client, "b", 1)
            client.await_completion(journey.NAMESPACE, "journey", "b", LIMIT)
            for run in ("a", "b"):
                found = listing(client, journey.NAMESPACE, "journey", run)
                assert found == journey.events(run, 1)
            assert owners(url) == dict.fromkeys(LOOPS + OURS, two)


def test_g4_at_sighup_the_process_reads_its_files_again(tmp_path: Path) -> None:
    """G4: a file that is bad now changes nothing, and the log says so."""
    path = tmp_path / "tokens.toml"
    tokens = {name: new_token(name, ["*"], "write") for name in ("old", "new")}
    path.write_text(tokens["old"][1], encoding="utf-8")
    path.chmod(0o666)
    url = f"sqlite:///{tmp_path / 'replay.db'}"
    with closing(Process(url, options=["--tokens", str(path)])) as server:
        lines = server.says()
        assert f"WARNING {path} can be changed by others" in next(lines)
        assert server.files()[0] == server.files()[1]
        with connect(f"{server.url}?token={tokens['old'][0]}") as client:
            assert client.run_workflow("n", "w", "a", None)
        path.write_text("not a file of tokens", encoding="utf-8")
        server.tell(signal.SIGHUP)
        assert "; the old tokens and certificates stay in use" in next(lines)
        connect(f"{server.url}?token={tokens['old'][0]}").close()
        path.write_text(tokens["new"][1], encoding="utf-8")
        server.tell(signal.SIGHUP)
        assert "the tokens and certificates were read again" in next(lines)
        connect(f"{server.url}?token={tokens['new'][0]}").close()
        with pytest.raises(AccessDenied):
            connect(f"{server.url}?token={tokens['old'][0]}")
        server.tell(signal.SIGTERM)
        assert server.end()[0] == 0


BAD_OPTIONS = [
    ([], "name a database with --db"),
    (["--db", "n=sqlite://"], "name a database with --db URL, for all namespaces without their"),
    (["--db", "mongodb://somewhere"], "expected sqlite:///file.db"),
    (
        ["--db", "sqlite://", "--db", "mysql://other"],
        "two databases for all namespaces: keep one",
    ),
    (["--db", "a=sqlite://", "--db", "a=sqlite://"], "two databases for a: keep one"),
    (["--db", "sqlite://", "--listen", "7654"], "--listen 7654: expected host:port"),
    (
        ["--db", "sqlite://", "--listen", "0.0.0.0:0"],
        "give --tls-cert and --tls-key, or --insecure",
    ),
    (["--db", "sqlite://", "--tls-cert", "no-such.pem"], "no-such.pem: No such file or directory"),
    (["--db", "sqlite://", "--tokens", "no-such.toml"], "no-such.toml"),
]


@pytest.mark.parametrize(("options", "problem"), BAD_OPTIONS)
def test_bad_options_are_refused_with_a_sentence(
    options: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code is 2, and one line says what is wrong."""
    assert main(["server", *options]) == 2
    written = capsys.readouterr()
    (line,) = written.err.splitlines()
    assert line.startswith("replay: ")
    assert problem in line
    assert written.out == ""


# Servers that are others, away, or back.


@contextmanager
def other_server(*handlers: grpc.GenericRpcHandler) -> Iterator[str]:
    """The URL of a gRPC server with these services."""
    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=list(handlers))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"grpc://127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def test_g5_the_process_gives_every_call_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """G5: no thread computes long, and no collection looks at all that was imported."""
    done = list[object]()

    class Stub:
        port = 7654

        def __init__(self, options: object, figures: object) -> None: ...

        async def start(self) -> None:
            done.append("start")
            signal.raise_signal(signal.SIGTERM)

        async def stop(self) -> None:
            done.append("stop")

    module = "replay.tools.serve"
    monkeypatch.setattr(f"{module}.allow_open_files", lambda: None)
    monkeypatch.setattr(f"{module}.sys", SimpleNamespace(setswitchinterval=done.append))
    collector = SimpleNamespace(
        set_threshold=lambda *counts: done.append(counts), freeze=lambda: done.append("freeze")
    )
    monkeypatch.setattr(f"{module}.gc", collector)
    args = make_parser().parse_args(["server", "--db", "sqlite:///never.db"])
    asyncio.run(serve(cast(Any, Stub), args))
    assert done == [0.0002, "start", (700, 10, 100), "freeze", "stop"]


def test_a_server_without_our_service_is_the_wrong_one() -> None:
    """G1: one that has nothing, and one that has `replaypb.Replay` alone, as the Go system's."""

    def no(request: bytes, context: grpc.ServicerContext) -> bytes:
        return b""

    methods: dict[str, Any] = {"RunWorkflow": grpc.unary_unary_rpc_method_handler(no)}
    go = grpc.method_handlers_generic_handler("replaypb.Replay", methods)
    for handlers in ((), (go,)):
        with (
            other_server(*handlers) as url,
            pytest.raises(WrongServer, match=rf"^{url} does not serve replay\.log\.v1: it is anot"),
        ):
            connect(url)


def test_where_no_server_is_there_the_client_says_unavailable() -> None:
    """G1: at once, with the address."""
    url = f"grpc://127.0.0.1:{free_port()}"
    with pytest.raises(Unavailable, match=f"^{url}: "):
        connect(url)


def test_g1_clients_go_on_when_a_server_is_killed_and_started_again(url: str) -> None:
    """G1, R2, L5, L6, P16: a run waits when it dies and ends after; a stream loses nothing."""
    port, calls = free_port(), list[str]()
    lines = journey.events("r", 1)
    middle = (
        lines.index(
            "ACTIVITY_REQUEST trip/journey/r/0/replay_signal/1:0 duration { seconds: 3600 }"
        )
        + 1
    )
    with closing(Process(url, port)) as first, connect(first.url) as client:
        staff(client, calls)
        stream = client.stream()
        assert client.run_workflow(journey.NAMESPACE, "journey", "r", Int(value=1))
        events = [next(stream) for _ in lines[:middle]]
        first.tell(signal.SIGKILL)
        first.end()
        with closing(Process(url, port)) as second, bare(second.url) as stub:
            for text in "ab":
                request = signal_request("journey", "r", text, String(value=text))
                request.namespace = journey.NAMESPACE
                assert stub.SignalRun(request, wait_for_ready=True, timeout=LIMIT).ok
            events += [next(stream) for _ in lines[middle:]]
            client.await_completion(journey.NAMESPACE, "journey", "r", LIMIT)
            assert [f"{event.type.name} {event.key}" for event in events] == [
                " ".join(line.split()[:2]) for line in lines
            ]
            assert [event.id for event in events] == sorted({event.id for event in events})
            assert listing(client) == lines
            assert sorted(set(calls)) == sorted(journey.calls_of("r"))


# Many.


def test_thousands_of_streams_need_no_thousands_of_threads(url: str) -> None:
    """G2: 1,500 open streams, each of which is given each event."""
    with serving(url, max_streams=16_000, max_calls=20_000) as server, bare(server.url) as stub:
        assert stub.RunWorkflow(run_request("n/w/a/0")).ok
        one = streamed(stub)
        assert brief(next(one)) == ("1", CREATED, "n/w/a/0")
        before = threading.active_count()
        streams = list[Any]()
        for _ in range(3):  # in chunks: see below for more at once
            chunk = [streamed(stub, "n") for _ in range(500)]
            assert {brief(next(each)) for each in chunk} == {("1", CREATED, "n/w/a/0")}
            streams += chunk
        assert threading.active_count() < before + 20
        assert stub.RunWorkflow(run_request("n/w/b/0")).ok
        assert {brief(next(each)) for each in (one, *streams)} == {("2", CREATED, "n/w/b/0")}
        assert threading.active_count() < before + 20
        for each in streams:
            each.cancel()


def test_many_calls_at_once_are_all_answered() -> None:
    """G2: 5,000 calls in one moment, fewer than may be in flight."""
    request = ListBootstrapRequest(key="n/w/r/0")
    with serving("sqlite://") as server, bare(server.url) as stub:
        calls = [stub.ListBootstrapEvents.future(request, timeout=LIMIT) for _ in range(5000)]
        assert Counter(call.code() for call in calls) == {OK: 5000}


def test_the_process_refuses_what_it_cannot_do(url: str) -> None:
    """An address that another server has: exit code 2, a sentence, and no traceback."""
    with serving(url) as server, closing(Process(url, server.server.port)) as second:
        exit_code, out, err = second.end()
        assert (exit_code, second.greeting, out) == (2, "", "")
        last = err.splitlines()[-1]
        assert last.startswith(f"replay: --listen 127.0.0.1:{server.server.port}: ")
        assert "Traceback" not in err


def test_a_second_database_that_cannot_be_used_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """G3: the exit code of what is not available, one line; what was opened before is closed."""
    first = f"sqlite:///{tmp_path / 'replay.db'}"
    assert main(["server", "--db", first, "--db", "a=sqlite:///no/such/place/replay.db"]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert "no/such/place" in line


def test_a_port_that_there_is_not_is_refused() -> None:
    """As any other address that cannot be listened on."""
    with pytest.raises(BadSetup, match=r"--listen 127\.0\.0\.1:99999: "):
        Options(databases={"": "sqlite://"}, listen="127.0.0.1:99999").check()


def test_l7_a_stream_of_commits_ends_when_the_server_stops(url: str) -> None:
    """L7: as other streams do, and not only when the time that calls have is over."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(serving(url))
        with connect(server.url) as client:
            assert client.run_workflow("n", "w", "a", None)
            assert isinstance(client.log, RemoteLog)
            (line,) = client.log._lines
            stack.close()
            with pytest.raises(grpc.RpcError, match="stopping") as ended:
                next(line._replies)
            assert code(ended.value) is GONE


@pytest.mark.parametrize("gone", ["call", "session"])
def test_l7_a_claim_whose_caller_has_gone_leaves_nothing_behind(tmp_path: Path, gone: str) -> None:
    """L7, G1: the database takes a moment to give a name: nobody else waits for it afterwards."""
    name = "consumer/x"
    with serving(f"sqlite:///{tmp_path / 'replay.db'}") as server, connect(server.base()) as other:
        host = server.host()
        asked, answer, done = threading.Event(), threading.Event(), threading.Event()
        claim = host.log.claim

        def slow(name: str, wait: float, *, create: bool = True) -> int | None:
            asked.set()
            assert answer.wait(LIMIT)
            try:
                return claim(name, wait, create=create)
            finally:
                done.set()

        async def go_away() -> None:
            session = await host.begin(ANYBODY)
            with patch.object(host.log, "claim", slow):
                task = asyncio.create_task(host.claim(session, name, 1))
                await asyncio.to_thread(asked.wait, LIMIT)
                task.cancel()
                if gone == "session":
                    host.end(session)
                answer.set()
                await asyncio.to_thread(done.wait, LIMIT)  # whether the task waits for that or not
                await asyncio.gather(task, *host._tasks, return_exceptions=True)
            host.end(session)
            await asyncio.gather(*host._tasks)

        asyncio.run_coroutine_threadsafe(go_away(), server._loop).result(LIMIT)
        assert (host._owners, host.log._owners) == ({}, {})
        assert other.log.claim(name, 0) == 0


def test_l7_a_stand_by_for_another_processs_name_waits(tmp_path: Path) -> None:
    """L7: several do not wake each other; each looks five times a second."""
    names = ["consumer/x", "consumer/y"]
    with serving(f"sqlite:///{tmp_path / 'replay.db'}") as server, connect(server.base()) as other:
        for name in names:
            assert other.log.claim(name, 0) == 0
        host, asked = server.host(), Counter[str]()
        claim = host.log.claim

        def counted(name: str, wait: float, *, create: bool = True) -> int | None:
            asked[name] += 1
            return claim(name, wait, create=create)

        async def stand_by() -> None:
            sessions = [await host.begin(ANYBODY) for _ in names]
            both = zip(sessions, names, strict=True)
            waits = [host.claim(session, name, 0.5) for session, name in both]
            with patch.object(host._released, "ring") as ring:
                assert await asyncio.gather(*waits) == [None, None]
            ring.assert_not_called()
            for session in sessions:
                host.end(session)

        with patch.object(host.log, "claim", counted):
            asyncio.run_coroutine_threadsafe(stand_by(), server._loop).result(LIMIT)
        assert all(asked[name] <= 4 for name in names)


def test_l7_a_name_that_is_released_goes_to_the_stand_by_at_once(tmp_path: Path) -> None:
    """L7, G1: it is not asked for meanwhile, and does not wait for the next look."""
    name, asked = "consumer/x", list[str]()
    with serving(f"sqlite:///{tmp_path / 'replay.db'}") as server:
        host = server.host()
        claim = host.log.claim

        def counted(name: str, wait: float, *, create: bool = True) -> int | None:
            asked.append(name)
            return claim(name, wait, create=create)

        async def hand_over() -> int | None:
            first, second = await host.begin(ANYBODY), await host.begin(ANYBODY)
            assert await host.claim(first, name, 0) == 0
            waiting = asyncio.create_task(host.claim(second, name, LIMIT))
            await asyncio.sleep(0)
            assert list(host._released._waiting.values()) == [name]
            await host.release(first, name, None, None)
            cursor = await waiting
            for session in (first, second):
                host.end(session)
            await asyncio.gather(*host._tasks)
            return cursor

        with patch.object(host.log, "claim", counted):
            task = asyncio.run_coroutine_threadsafe(hand_over(), server._loop)
            assert task.result(LIMIT) == 0
        assert asked == [name, name]


FROZEN = """
import sys, time
from replay import connect
client = connect(sys.argv[1])
print(client.log.claim("consumer/x", 0), flush=True)
time.sleep(600)
"""


@pytest.mark.slow
def test_g1_a_client_that_hangs_loses_its_names_within_eleven_seconds(tmp_path: Path) -> None:
    """G1: 5 s until the server asks, 5 s for the answer; gRPC alone would wait for a minute."""
    command = [sys.executable, "-c", FROZEN]
    with serving(f"sqlite:///{tmp_path / 'replay.db'}") as server, connect(server.url) as client:
        frozen = subprocess.Popen([*command, server.url], stdout=subprocess.PIPE, text=True)
        try:
            assert frozen.stdout is not None
            assert frozen.stdout.readline() == "0\n"
            frozen.send_signal(signal.SIGSTOP)
            began = time.monotonic()
            assert client.log.claim("consumer/x", 25) == 0
            assert time.monotonic() - began < 12
        finally:
            frozen.kill()
            frozen.communicate()
