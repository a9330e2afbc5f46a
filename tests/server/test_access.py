"""Who is answered by a server, about what, over which connection, and how much (G4)."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import hmac
import re
import socket
import threading
import tomllib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from types import FrameType, SimpleNamespace
from typing import Any
from unittest.mock import patch

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import BytesValue
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from hypothesis import example, given
from hypothesis import strategies as st

from replay import Client, EventType, Key, RunContext, connect, consume, register_workflow
from replay.server.access import (
    ANYBODY,
    Access,
    BadTokens,
    Principal,
    Unauthenticated,
    load,
    new_token,
)
from replay.server.host import Host, Interest
from replay.server.limits import (
    _CALL,
    AT_A_TIME,
    LARGEST_COMMIT,
    Limit,
    LimitReached,
    Limits,
    Seldom,
    Work,
    check_fields,
)
from replay.server.options import BadSetup, Options, exposed
from replay.server.proto import log_pb2 as pb
from replay.server.proto import replaypb_pb2
from replay.server.proto.reflexpb_pb2 import StreamOptions
from replay.server.proto.reflexpb_pb2 import StreamRequest as ReflexRequest
from replay.server.proto.replaypb_pb2 import (
    CompleteRequest,
    KeyMessage,
    ListBootstrapRequest,
    RunRequest,
    SignalRequest,
    StreamRequest,
)
from replay.server.remote import Stubs
from replay.server.services import LogService, stored_name
from replay.server.wire import AccessDenied, message_class
from replay.storage.database import (
    BadUrl,
    DatabaseError,
    OutcomeUnknown,
    ReadOnly,
    Unavailable,
)
from replay.storage.event import InvalidName, check_name
from replay.storage.tail import BATCH
from replay.tools.cli import main
from tests import journey
from tests.certificates import Authority
from tests.example_pb2 import Int
from tests.serving import Serving, serving
from tests.support import Clock, behind, cursor, drain, listing, rows, stepped

LIMIT = 60  # seconds until something that has to happen has not happened

OK = grpc.StatusCode.OK
UNKNOWN_CALLER = grpc.StatusCode.UNAUTHENTICATED
FORBIDDEN = grpc.StatusCode.PERMISSION_DENIED
INVALID = grpc.StatusCode.INVALID_ARGUMENT
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
AT_HEAD = grpc.StatusCode.OUT_OF_RANGE
GONE = grpc.StatusCode.UNAVAILABLE

ASK = "send metadata 'authorization: Bearer TOKEN' with a known token"


def broken(ctx: RunContext, message: object) -> None:
    raise ValueError("a bug")


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    """Give the URL of an empty database."""
    return f"sqlite:///{tmp_path / 'replay.db'}"


def principal(name: str, *namespaces: str, writes: bool = True) -> tuple[str, Principal]:
    """What a server knows of a token that is its owner's name; for all namespaces if none."""
    some = frozenset(namespaces) or None
    return hashlib.sha256(name.encode()).hexdigest(), Principal(name, some, writes)


ACCESS = Access(
    [
        principal("all"),
        principal("a", "a", journey.NAMESPACE),
        principal("a2", "a"),
        principal("b", "b"),
        principal("reader", "a", writes=False),
    ]
)


@pytest.fixture
def server(sqlite: str) -> Iterator[Serving]:
    """Give a server that takes these tokens."""
    with serving(sqlite, access=ACCESS) as server:
        yield server


def as_(server: Serving, token: str) -> str:
    """The URL for the owner of a token."""
    return f"{server.url}?token={token}"


# A client that sends what it likes.

METHODS: dict[str, MethodDescriptor] = {
    f"/{service.full_name}/{method.name}": method
    for module in (replaypb_pb2, pb, health_pb2, reflection_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}


class Answer:
    """What a server answers to one call: a status, a text, what it says beside it, messages."""

    def __init__(self, call: Any, streams: bool) -> None:
        self.messages: list[Any] = []
        self.code, self.text, self.beside = OK, "", ()
        try:
            for message in call if streams else [call.result()]:
                self.messages.append(message)
        except grpc.RpcError as error:
            self.code, self.text, self.beside = _status(error)

    @property
    def status(self) -> tuple[Any, ...]:
        """All but the messages."""
        return self.code, self.text, self.beside


def _status(error: Any) -> tuple[Any, Any, Any]:
    return error.code(), error.details(), tuple(error.trailing_metadata() or ())


def ask_raw(channel: Any, path: str, metadata: Sequence[tuple[str, str]]) -> Answer:
    """Call any method, with an empty message."""
    method = METHODS.get(path)
    if method is not None and method.client_streaming:
        call = channel.stream_stream(path)(iter([b""]), metadata=metadata, timeout=LIMIT)
    elif method is not None and method.server_streaming:
        call = channel.unary_stream(path)(b"", metadata=metadata, timeout=LIMIT)
    else:
        future = channel.unary_unary(path).future(b"", metadata=metadata, timeout=LIMIT)
        return Answer(future, streams=False)
    return Answer(call, streams=True)


class Caller:
    """The owner of a token, who has a session."""

    def __init__(self, channel: grpc.Channel, token: str) -> None:
        self.stubs = Stubs(channel, "server", token)
        self.hold = self.stubs.method("Open")(pb.OpenRequest(), metadata=self.stubs.metadata)
        self.session: str = next(self.hold).session

    def ask(self, name: str, request: Message) -> Answer:
        """Call a method by name; in this session, where the request takes one."""
        if "session" in request.DESCRIPTOR.fields_by_name and not request.session:  # type: ignore[attr-defined]
            request.session = self.session  # type: ignore[attr-defined]
        method = next(each for each in METHODS.values() if each.name == name)
        stub, metadata = self.stubs.method(name), self.stubs.metadata
        if method.client_streaming:
            return Answer(stub(iter([request]), metadata=metadata, timeout=LIMIT), streams=True)
        if method.server_streaming:
            return Answer(stub(request, metadata=metadata, timeout=LIMIT), streams=True)
        return Answer(stub.future(request, metadata=metadata, timeout=LIMIT), streams=False)


@contextmanager
def calling(server: Serving, token: str = "") -> Iterator[Caller]:
    """A caller, until the end of the block."""
    own = [("grpc.use_local_subchannel_pool", 1)]  # a connection of its own
    with grpc.insecure_channel(server.url.removeprefix("grpc://"), own) as channel:
        caller = Caller(channel, token)
        yield caller
        caller.hold.cancel()


def begin_commit(caller: Caller, namespace: str, name: str, count: int) -> Any:
    """Begin a commit of so many events.  Return its call."""
    events = [pb.Event(type=1, key=f"{namespace}/w/{name}{n}/0") for n in range(count)]
    request = pb.CommitRequest(session=caller.session, events=events)
    stub, metadata = caller.stubs.method("Commit"), caller.stubs.metadata
    return stub(iter([request]), metadata=metadata, timeout=LIMIT)


def begin_runs(caller: Caller, count: int) -> list[Any]:
    """Begin to start so many runs in namespace a.  Return the calls."""
    stub, metadata = caller.stubs.method("RunWorkflow"), caller.stubs.metadata
    return [
        stub.future(RunRequest(key=f"a/w/{n}/0"), metadata=metadata, timeout=LIMIT)
        for n in range(count)
    ]


def tables(server: Serving) -> dict[str, list[tuple[Any, ...]]]:
    """All that is stored, but for where the server receives news (L12)."""
    database = server.database()
    names = database.query("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name", ())
    found = {name: list(database.query(f"SELECT * FROM {name}", ())) for (name,) in names}
    del found["replay_processes"]
    found["sqlite_sequence"] = [
        row for row in found["sqlite_sequence"] if row[0] != "replay_processes"
    ]
    return found


def calls_in_flight(server: Serving, wait: bool = False) -> int:
    """How many calls are in flight; with `wait`, it returns when those have ended."""

    async def count() -> int:
        tasks = [task for task in asyncio.all_tasks() if task.get_name() == "rpc_task"]
        if tasks and wait:
            await asyncio.wait(tasks)
        return len(tasks)

    return asyncio.run_coroutine_threadsafe(count(), server._loop).result(LIMIT)


def wait_for_calls(server: Serving) -> None:
    """Wait until no call is in flight any more."""
    calls_in_flight(server, wait=True)


# The file of tokens.

DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"  # of "test"
TABLE = "expected a table with sha256, namespaces and access"
NAMES = 'namespaces is not a list of names, or ["*"]'
HEX = "sha256 is not 64 hexadecimal digits in lower case"


def entry(
    name: str = "shop",
    sha256: str = f'"{DIGEST}"',
    namespaces: str = '["a"]',
    access: str = '"read"',
) -> str:
    return f"[{name}]\nsha256 = {sha256}\nnamespaces = {namespaces}\naccess = {access}\n"


BAD_FILES = [
    ("", "has no tokens: make one with `replay token`"),
    ("# nothing\n", "has no tokens"),
    ("shop", "not TOML: "),
    (entry() + entry(), "not TOML: "),
    ("shop = 1", f"[shop]: {TABLE}"),
    ("[[shop]]", f"[shop]: {TABLE}"),
    ("[shop]", f"[shop]: {TABLE}"),
    (f'[shop]\nsha256 = "{DIGEST}"\nnamespaces = ["a"]', f"[shop]: {TABLE}"),
    (entry() + 'expires = "never"', f"[shop]: {TABLE}"),
    (entry(sha256='"test"'), f"[shop]: {HEX}"),
    (entry(sha256=f'"{DIGEST.upper()}"'), f"[shop]: {HEX}"),
    (entry(sha256=f'"{DIGEST}0"'), f"[shop]: {HEX}"),
    (entry(sha256=f'"{DIGEST}\\n"'), f"[shop]: {HEX}"),
    (entry(sha256=f'"{DIGEST[1:]}٣"'), f"[shop]: {HEX}"),
    (entry(sha256="9"), f"[shop]: {HEX}"),
    (entry(access='"all"'), '[shop]: access is \'all\': expected "read" or "write"'),
    (entry(access="true"), "[shop]: access is True"),
    (entry(access='["read"]'), "[shop]: access is ['read']"),
    (entry(namespaces="[]"), f"[shop]: {NAMES}"),
    (entry(namespaces='"a"'), f"[shop]: {NAMES}"),
    (entry(namespaces='"*"'), f"[shop]: {NAMES}"),
    (entry(namespaces="{a = 1}"), f"[shop]: {NAMES}"),
    (entry(namespaces='["a", "*"]'), '[shop]: "*" stands for all namespaces, and alone'),
    (entry(namespaces='["*", "*"]'), '[shop]: "*" stands for all namespaces, and alone'),
    (entry(namespaces='["a", ""]'), "[shop]: namespace '' is empty"),
    (entry(namespaces='["a/b"]'), "[shop]: namespace 'a/b' holds a slash"),
    (entry(namespaces='[" a"]'), "[shop]: namespace ' a' starts or ends with white space"),
    (entry(namespaces="[1]"), "[shop]: namespace is 1: expected a plain string"),
    (entry(namespaces='[["a"]]'), "[shop]: namespace is ['a']: expected a plain string"),
    (entry('"a/b"'), "[a/b]: token 'a/b' holds a slash"),
    (entry('""'), "[]: token '' is empty"),
    (entry("good") + entry("bad", access='""'), "[bad]: access is ''"),
]


@pytest.mark.parametrize(("text", "reason"), BAD_FILES)
def test_g4_a_bad_file_of_tokens_is_refused_with_entry_and_reason(
    text: str, reason: str, tmp_path: Path
) -> None:
    """G4: none of its tokens is taken then."""
    path = tmp_path / "tokens.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadTokens, match=f"^{re.escape(f'{path}: {reason}')}"):
        load(path)


def test_g4_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """G4: as one that is not TOML; one that is not there is the caller's affair."""
    path = tmp_path / "tokens.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(BadTokens, match="not TOML: "):
        load(path)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "no-such.toml")


def test_g4_a_file_says_who_may_do_what(tmp_path: Path) -> None:
    """G4: all of it, and nothing else: the token itself is not in the file."""
    path = tmp_path / "tokens.toml"
    given = {
        "shop": (["orders", "payments"], "write"),
        "audit": (["*"], "read"),
        "ops": ([], "write"),
    }
    tokens = {name: new_token(name, *rest) for name, rest in given.items()}
    path.write_text("\n".join(entry for _, entry in tokens.values()), encoding="utf-8")
    access = load(path)
    assert {name: access.principal(token) for name, (token, _) in tokens.items()} == {
        "shop": Principal("shop", frozenset({"orders", "payments"}), writes=True),
        "audit": Principal("audit", None, writes=False),
        "ops": Principal("ops", None, writes=True),
    }
    assert not any(token in path.read_text(encoding="utf-8") for token, _ in tokens.values())
    for unknown in (None, "", "test", *tokens):
        with pytest.raises(Unauthenticated):
            access.principal(unknown)


def is_name(text: str) -> bool:
    try:
        check_name("token", text)
    except InvalidName:
        return False
    return True


NAME = st.text(min_size=1, max_size=20).filter(is_name)


@given(
    name=NAME,
    namespaces=st.just(["*"]) | st.lists(NAME.filter(lambda n: n != "*"), min_size=1, max_size=3),
)
def test_g4_the_entry_of_a_new_token_can_be_loaded(name: str, namespaces: list[str]) -> None:
    """G4: whatever characters the names have; two tokens are never the same."""
    (token, text), (other, _) = (new_token(name, namespaces, "read") for _ in range(2))
    assert token != other
    assert tomllib.loads(text) == {
        name: {
            "sha256": hashlib.sha256(token.encode()).hexdigest(),
            "namespaces": namespaces,
            "access": "read",
        }
    }


@pytest.mark.parametrize(
    ("name", "namespaces"), [("", ["a"]), ("a/b", ["a"]), ("a", [""]), ("a", ["a", "*"])]
)
def test_g4_no_token_is_made_whose_entry_could_not_be_loaded(
    name: str, namespaces: list[str]
) -> None:
    """G4: the mistake is told when it is made."""
    with pytest.raises(InvalidName):
        new_token(name, namespaces, "read")


def test_g4_the_command_makes_a_token(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """G4: shown once, with the entry, which can be loaded."""
    assert main(["token", "shop", "--namespaces", "a,b", "--access", "read"]) == 0
    _, token, blank, title, *lines = capsys.readouterr().out.splitlines()
    assert (blank, title) == ("", "Its entry in the file:")
    path = tmp_path / "tokens.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    assert load(path).principal(token) == Principal("shop", frozenset("ab"), writes=False)
    assert main(["token", "shop", "--namespaces", "a,,b"]) == 2
    assert capsys.readouterr().err == "replay: namespace '' is empty: choose another name\n"


def test_g4_every_hash_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """G4: all of them, whichever fits, by `hmac.compare_digest` alone."""
    names = ["x", "y", "z"]
    known = [principal(name) for name in names]
    compared: list[tuple[str, str]] = []

    def compare(one: str, other: str) -> bool:
        compared.append((one, other))
        return hmac.compare_digest(one, other)

    monkeypatch.setattr("replay.server.access.hmac", SimpleNamespace(compare_digest=compare))
    access = Access(known)
    for token in [*names, "unknown", "", None]:
        compared.clear()
        try:
            assert access.principal(token).name == token
        except Unauthenticated:
            assert token not in names
        digest = hashlib.sha256((token or "").encode()).hexdigest()
        assert compared == [(each, digest) for each, _ in known]


def test_g4_without_tokens_everybody_may_do_everything() -> None:
    """G4: and is not asked for one."""
    assert Access().principal(None) is Access().principal("any") is ANYBODY
    assert (ANYBODY.may_read("a"), ANYBODY.writes) == (True, True)


# Without a token.

NO_TOKEN: dict[str, list[tuple[str, str]]] = {
    "none": [],
    "unknown": [("authorization", "Bearer unknown")],
    "two": [("authorization", "Bearer all"), ("authorization", "Bearer all")],
    "one of two": [("authorization", "Bearer all"), ("authorization", "Bearer unknown")],
    "other scheme": [("authorization", "Basic all")],
    "no scheme": [("authorization", "all")],
    "empty": [("authorization", "Bearer ")],
    "only the scheme": [("authorization", "Bearer")],
    "two blanks": [("authorization", "Bearer  all")],
    "other header": [("token", "all"), ("proxy-authorization", "Bearer all")],
    "its hash": [("authorization", f"Bearer {hashlib.sha256(b'all').hexdigest()}")],
}
UNKNOWN = ["/replaypb.Replay/Nothing", "/replay.log.v2.Log/Open", "/grpc.health.v2/Check", "/x/y"]


@pytest.mark.parametrize("metadata", NO_TOKEN.values(), ids=NO_TOKEN.keys())
def test_g4_nothing_is_answered_without_a_known_token(
    server: Serving, metadata: list[tuple[str, str]]
) -> None:
    """G4: no method of any service, health and reflection too, nor one that there is not."""
    assert len(METHODS) == 9 + 26 + len([path for path in METHODS if path.startswith("/grpc.")])
    before = tables(server)
    with grpc.insecure_channel(server.url.removeprefix("grpc://")) as channel:
        for path in (*METHODS, *UNKNOWN):
            answer = ask_raw(channel, path, metadata)
            assert (path, *answer.status) == (path, UNKNOWN_CALLER, ASK, ())
            assert answer.messages == []
    wait_for_calls(server)
    assert tables(server) == before
    assert (server.host().sessions, server.server._limits.streams.held) == ({}, {})


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_g4_with_a_known_token_a_caller_is_answered(server: Serving, scheme: str) -> None:
    """G4: by every service, and told what there is not."""
    metadata = [("authorization", f"{scheme} reader")]
    with grpc.insecure_channel(server.url.removeprefix("grpc://")) as channel:
        assert ask_raw(channel, "/grpc.health.v1.Health/Check", metadata).status == (OK, "", ())
        listed = ask_raw(channel, "/replaypb.Replay/ListBootstrapEvents", metadata)
        assert listed.code is INVALID
        assert {ask_raw(channel, path, metadata).code for path in UNKNOWN} == {
            grpc.StatusCode.UNIMPLEMENTED
        }


def test_g4_a_client_without_a_token_is_told_what_it_needs(server: Serving, tmp_path: Path) -> None:
    """G4: and one with a token, in the URL or in a file, is served."""
    for wrong in (server.url, as_(server, "unknown")):
        with pytest.raises(AccessDenied, match="see the options token and token_file of the URL"):
            connect(wrong)
    path = tmp_path / "token"
    path.write_text("all\n", encoding="utf-8")
    for right in (as_(server, "all"), f"{server.url}?token_file={path}"):
        with stepped(right) as client:
            client.run_workflow("a", "flow", "r", Int(value=1))
            assert listing(client) == ["RUN_CREATED a/flow/r/0 value: 1"]


# With a token of another namespace.


def packed(message: Message) -> AnyMessage:
    wrapped = AnyMessage()
    wrapped.Pack(message)
    return wrapped


def about(namespace: str) -> list[tuple[str, Message]]:
    """Calls about a namespace, by all methods that can be about one."""
    run, place = f"{namespace}/flow/r/0", f"{namespace}/flow/r/0/act/0"
    consumers = [f"{kind}/{namespace}/flow" for kind in ("workflow", "activity")]
    parked = pb.Parked(event_id=1, key=run)
    to_head = ReflexRequest(options=StreamOptions(toHead=True))
    names = [(), ("flow",), ("flow", "r")]
    return [
        ("RunWorkflow", RunRequest(key=run, message=packed(Int(value=1)))),
        (
            "SignalRun",
            SignalRequest(namespace=namespace, workflow="flow", run="r", external_id="x"),
        ),
        *(
            (name, KeyMessage(key=place, message=packed(Int(value=1))))
            for name in ("RequestActivity", "RespondActivity", "EmitOutput")
        ),
        ("CompleteRun", CompleteRequest(key=run)),
        ("RestartRun", RunRequest(key=run)),
        ("ListBootstrapEvents", ListBootstrapRequest(key=run)),
        *(
            (
                "Stream",
                StreamRequest(
                    namespace=namespace,
                    req=to_head,
                    **dict(zip(("workflow", "run"), some, strict=False)),
                ),
            )
            for some in names
        ),
        ("Locate", pb.LocateRequest(namespace=namespace)),
        ("Open", pb.OpenRequest(log=namespace)),
        ("Commit", pb.CommitRequest(events=[pb.Event(type=1, key=run)])),
        (
            "Commit",
            pb.CommitRequest(events=[pb.Event(type=1, key="a/w/r/0"), pb.Event(type=5, key=place)]),
        ),
        *(("Commit", pb.CommitRequest(move=pb.Move(consumer=name))) for name in consumers),
        ("Commit", pb.CommitRequest(move=pb.Move(consumer="consumer/mine", parked=[parked]))),
        *(("Claim", pb.ClaimRequest(consumer=name)) for name in consumers),
        *(("Release", pb.ReleaseRequest(consumer=name)) for name in consumers),
        *(("Forget", pb.ForgetRequest(consumer=name)) for name in consumers),
        *(("ListParked", pb.ListParkedRequest(consumer=name)) for name in consumers),
        *(("DueParked", pb.ListParkedRequest(consumer=name)) for name in consumers),
        *(("Served", pb.ServedRequest(consumer=name)) for name in consumers),
        *(("Share", pb.ShareRequest(consumer=name, shards=3)) for name in consumers),
        *(("Share", pb.ShareRequest(consumer=name, shards=3, settle=True)) for name in consumers),
        ("Find", pb.FindRequest(type=1, keys=[run])),
        ("Find", pb.FindRequest(type=1, keys=["a/w/r/0", run])),
        ("Begun", pb.BegunRequest(keys=[run])),
        ("History", pb.HistoryRequest(key=run)),
        ("LastIteration", pb.LastIterationRequest(namespace=namespace, workflow="flow", run="r")),
        ("ListRuns", pb.ListRunsRequest(namespace=namespace, limit=9)),
        ("ListRuns", pb.ListRunsRequest(namespace=namespace, workflow="flow", limit=9)),
        ("CountRuns", pb.ListRunsRequest(namespace=namespace)),
        (
            "FindIds",
            pb.FindIdsRequest(namespace=namespace, workflow="flow", run="r", end=99),
        ),
        ("FindParked", pb.FindParkedRequest(namespace=namespace, limit=9)),
        ("FindParked", pb.FindParkedRequest(keys=[run])),
        ("FindParked", pb.FindParkedRequest(keys=["a/w/r/0", place])),
    ]


#: These take no name of a namespace, or of anything in one.
NAMELESS = {"Read", "Get", "Load", "ListConsumers", "Retry", "Floor", "FindPrunable", "Prune"}
WRITING = {
    "RunWorkflow",
    "SignalRun",
    "RequestActivity",
    "RespondActivity",
    "EmitOutput",
    "CompleteRun",
    "RestartRun",
    "Commit",
    "Claim",
    "Forget",
    "Share",
}


def fill(caller: Caller, namespace: str) -> None:
    """Have something there for each call about a namespace to find."""
    names = ["RunWorkflow", "SignalRun", "RequestActivity", "RespondActivity", "EmitOutput"]
    for name, request in about(namespace):
        if name in (*names, "Claim"):
            assert caller.ask(name, request).code is OK
        if name == "Claim":
            moved = pb.Move(consumer=request.consumer, new=1)  # type: ignore[attr-defined]
            moved.parked.add(event_id=1, key=f"{namespace}/flow/r/0", error="secret")
            (reply,) = caller.ask("Commit", pb.CommitRequest(move=moved)).messages
            assert reply.error == ""


def test_g4_the_calls_about_a_namespace_are_all_here() -> None:
    """G4: so that the tests below forget no method."""
    ours = {method.name for path, method in METHODS.items() if not path.startswith("/grpc.")}
    assert {name for name, _ in about("b")} | NAMELESS == ours


def test_g4_another_namespace_answers_the_same_whatever_is_in_it(server: Serving) -> None:
    """G4: code, text and metadata, for one that has nothing, and for one that has it all."""
    with calling(server, "a") as caller, calling(server, "all") as owner:
        empty = [(name, *caller.ask(name, each).status) for name, each in about("b")]
        assert {answer[1] for answer in empty} == {FORBIDDEN}
        assert {answer[2] for answer in empty} == {"token 'a' is not for namespace 'b'"}
        fill(owner, "b")
        before = tables(server)
        full = [(name, *caller.ask(name, each).status) for name, each in about("b")]
        assert full == empty
        assert tables(server) == before
        assert not any(caller.ask(name, each).messages for name, each in about("b"))


def test_g4_a_read_waits_for_events_of_others(server: Serving) -> None:
    """G4, L1: not for the session's own.  An event it may not see answers it with the end alone."""
    with calling(server, "a") as a, calling(server, "b") as b:

        def read(after: int) -> Any:
            request = pb.ReadRequest(session=a.session, after=after, limit=10, wait_ms=3_000)
            stub, metadata = a.stubs.method("Read"), a.stubs.metadata
            return stub.future(request, metadata=metadata, timeout=LIMIT)

        def add(caller: Caller, key: str) -> None:
            event = pb.Event(type=1, key=key)
            assert caller.ask("Commit", pb.CommitRequest(events=[event])).code is OK

        first = read(0)
        add(b, "b/w/1/0")
        assert (list(first.result().events), first.result().end) == ([], 1)
        second = read(1)
        add(a, "a/w/2/0")
        add(b, "b/w/3/0")
        assert [event.key for event in second.result().events] == ["a/w/2/0"]
        assert second.result().end == 3


def test_g4_a_database_of_its_own_does_not_show(sqlite: str, tmp_path: Path) -> None:
    """G4, G3: whether another namespace has one makes no difference."""
    answers = []
    for databases in ({"": sqlite}, {"": sqlite, "b": f"sqlite:///{tmp_path / 'b.db'}"}):
        with serving(databases=databases, access=ACCESS) as server, calling(server, "a") as caller:
            answers.append([caller.ask(name, each).status for name, each in about("b")])
    assert answers[0] == answers[1]
    assert {code for code, _, _ in answers[0]} == {FORBIDDEN}


def test_g4_a_token_for_reading_reads_and_does_nothing_else(server: Serving) -> None:
    """G4: it writes no event or signal, claims no name and commits nothing; the rest it may."""
    with calling(server, "reader") as reader, calling(server, "all") as owner:
        fill(owner, "a")
        before = tables(server)
        for name, request in about("a"):
            if name == "Open":
                continue  # a log, which namespace a has not
            answer = reader.ask(name, request)
            if name in WRITING:
                assert (name, answer.code) == (name, FORBIDDEN)
                assert answer.text == "token 'reader' is for reading only"
            else:
                assert (name, answer.code) == (name, AT_HEAD if name == "Stream" else OK)
        assert tables(server) == before
        (found,) = reader.ask("Read", pb.ReadRequest(limit=9)).messages
        assert [event.key for event in found.events] == [
            "a/flow/r/0",
            *["a/flow/r/0/act/0"] * 3,
        ]


def test_g4_a_reading_client_streams_and_starts_nothing(server: Serving) -> None:
    """G4: the library says so, too."""
    with stepped(as_(server, "all")) as owner, stepped(as_(server, "reader")) as reader:
        owner.run_workflow("a", "flow", "r", Int(value=1))
        before = tables(server)
        writes: list[Callable[[], object]] = [
            lambda: reader.run_workflow("a", "flow", "s", None),
            lambda: reader.signal_run("a", "flow", "s", 1, None, "x"),
            lambda: consume(reader, "mine", print, start=False).step(),
        ]
        for write in writes:
            with pytest.raises(AccessDenied, match="for reading only"):
                write()
        assert tables(server) == before
        assert listing(reader) == ["RUN_CREATED a/flow/r/0 value: 1"]


# What is not shown.


def crowd(client: Client, namespace: str, first: int, count: int) -> None:
    """Add many events of a namespace."""
    log = behind(client)
    keys = [Key(namespace, "flow", str(n)) for n in range(first, first + count)]
    log.commit([log.event(EventType.RUN_CREATED, key) for key in keys])


def test_g4_streams_and_reads_show_nothing_of_other_namespaces(server: Serving) -> None:
    """G4: their ids are passed over, more of them than are read at a time, too."""
    count = BATCH + BATCH // 2
    with (
        stepped(as_(server, "all")) as owner,
        stepped(as_(server, "a")) as client,
        calling(server, "a") as caller,
    ):
        crowd(owner, "b", 0, count)
        crowd(owner, "a", 0, 1)
        crowd(owner, "b", count, count)
        mine, newest = count + 1, 2 * count + 1
        assert [(e.id, str(e.key)) for e in client.stream(to_head=True)] == [(mine, "a/flow/0/0")]
        streamed = caller.ask(
            "Stream", StreamRequest(req=ReflexRequest(options=StreamOptions(toHead=True)))
        )
        assert [(e.id, e.foreign_id) for e in streamed.messages] == [(str(mine), "a/flow/0/0")]
        after, found = 0, []
        while after < newest:
            (reply,) = caller.ask("Read", pb.ReadRequest(after=after, limit=BATCH)).messages
            assert after < reply.end <= newest
            found += [(event.id, event.key) for event in reply.events]
            after = reply.end
        assert found == [(mine, "a/flow/0/0")]


def test_g4_an_event_of_another_namespace_is_as_one_that_is_not_there(server: Serving) -> None:
    """G4: to whoever asks by its id."""
    with calling(server, "all") as owner, calling(server, "a") as caller:
        fill(owner, "b")
        (seen,) = owner.ask("Get", pb.GetRequest(id=1)).messages
        assert seen.event.key == "b/flow/r/0"
        answers = [caller.ask("Get", pb.GetRequest(id=id)) for id in (1, 2**62)]
        assert [answer.status for answer in answers] == [(OK, "", ())] * 2
        assert [answer.messages for answer in answers] == [[pb.GetReply()]] * 2


def test_g4_q1_queries_show_nothing_of_other_namespaces(server: Serving) -> None:
    """G4, Q1: without a namespace, a token gets what its own ones have, and counts no other."""
    with (
        stepped(as_(server, "all")) as owner,
        stepped(as_(server, "a")) as client,
        stepped(as_(server, "reader")) as reader,
    ):
        for namespace in ("a", "b", "c"):
            owner.run_workflow(namespace, "flow", namespace, None)
            drain(register_workflow(owner, namespace, broken, name="flow", start=False))
        for _ in range(2):
            assert [run.run for run in owner.runs()] == ["c", "b", "a"]
            for limited in (client, reader):
                assert [run.run for run in limited.runs()] == ["a"]
                assert [run.run for run in limited.runs(status=["parked", "failed"])] == ["a"]
                assert limited.count()["parked"] == 1
                assert [each.key for each in limited.parked()] == ["a/flow/a/0"]
                for ask in (limited.runs, limited.count, limited.parked):
                    with pytest.raises(AccessDenied, match="is not for namespace 'b'"):
                        ask("b")
                with pytest.raises(AccessDenied, match="is not for namespace 'b'"):
                    limited.describe("b", "flow", "b")
            drain(*server.loops())


def test_g4_q2_a_token_retries_what_its_namespaces_have_parked(server: Serving) -> None:
    """G4, Q2: others' parked events are as those that are not there; a reader changes nothing."""
    with (
        stepped(as_(server, "all"), Clock()) as owner,
        calling(server, "a") as a,
        calling(server, "reader") as reader,
    ):
        for namespace in ("a", "b"):
            owner.run_workflow(namespace, "flow", "r", None)
            drain(register_workflow(owner, namespace, broken, name="flow", start=False))
        before = tables(server)

        def retry(caller: Caller, name: str, *ids: int) -> Answer:
            return caller.ask("Retry", pb.RetryRequest(consumer=f"workflow/{name}", ids=ids))

        for namespace in ("a", "b"):
            assert retry(reader, f"{namespace}/flow", 1, 2).code is FORBIDDEN
        assert retry(a, "b/flow", 2).messages == retry(a, "b/none", 2).messages
        assert retry(a, "b/flow", 2).messages == [pb.RetryReply()]
        for wrong in (range(1001), [-1]):
            assert retry(a, "a/flow", *wrong).code is INVALID
        assert tables(server) == before
        assert retry(a, "a/flow", 1, 2, 3).messages == [pb.RetryReply(count=1)]
        assert tables(server) != before


def test_g4_q1_a_token_sees_the_consumers_of_its_namespaces_and_its_own(server: Serving) -> None:
    """G4, Q1: not who owns them: that names a host.  Nobody else's, and not the library's own."""
    long = "f" * 200
    with stepped(as_(server, "all")) as owner, stepped(as_(server, "a")) as client:
        drain(*server.loops())
        for namespace in ("a", "b"):
            drain(register_workflow(owner, namespace, broken, name="flow", start=False))
            drain(register_workflow(owner, namespace, broken, name=long, start=False))
        drain(consume(owner, "mine", print, start=False))
        drain(consume(client, "mine", print, start=False))
        drain(register_workflow(client, "a", broken, name="g" * 250, start=False))
        found = {each.name: each.owner for each in client.consumers()}
        (short,) = (name for name in found if name.startswith("token/a/workflow/a/ggg"))
        names = ["consumer/a/mine", short, f"workflow/a/{long}", "workflow/a/flow"]
        assert found == dict.fromkeys(sorted(names), "hidden")
        everything = {each.name: each.owner for each in owner.consumers()}
        assert {*found, "workflow/b/flow", "consumer/mine", "replay_runs"} < everything.keys()
        assert all(owner.partition(":")[2].isdecimal() for owner in everything.values())


@pytest.mark.parametrize(
    ("name", "request_", "reason"),
    [
        ("ListRuns", pb.ListRunsRequest(), "limit=0: expected 1 to 1000"),
        ("ListRuns", pb.ListRunsRequest(limit=1001), "limit=1001"),
        ("ListRuns", pb.ListRunsRequest(limit=9, after=-1), "after=-1"),
        ("ListRuns", pb.ListRunsRequest(limit=9, statuses=["x" * 999]), "expected one of"),
        ("ListRuns", pb.ListRunsRequest(limit=9, workflow="w"), "a workflow its namespace"),
        ("ListRuns", pb.ListRunsRequest(limit=9, namespace="a/b"), "holds a slash"),
        ("ListRuns", pb.ListRunsRequest(limit=9, started_after_us=-1), "-1 is no time"),
        ("ListRuns", pb.ListRunsRequest(limit=9, started_after_us=2**62), "is no time"),
        ("CountRuns", pb.ListRunsRequest(namespace="."), "is . or .."),
        ("FindIds", pb.FindIdsRequest(namespace="a", workflow="w"), "run '' is empty"),
        ("FindIds", pb.FindIdsRequest(namespace="a", workflow="w", run="r", after=-1), "negative"),
        ("FindIds", pb.FindIdsRequest(namespace="a", workflow="w", run="r", iteration=-1), "negat"),
        ("ListConsumers", pb.ListConsumersRequest(after="x" * 256), "not the name of a consumer"),
        ("FindParked", pb.FindParkedRequest(), "limit=0"),
        ("FindParked", pb.FindParkedRequest(limit=9, after_id=-1), "expected a ParkedInfo"),
        ("FindParked", pb.FindParkedRequest(limit=9, after_key="x" * 513), "expected a Parked"),
        ("FindParked", pb.FindParkedRequest(limit=9, run="r"), "a run needs its workflow"),
        ("FindParked", pb.FindParkedRequest(keys=["nonsense"]), "is not the key of an event"),
        ("FindParked", pb.FindParkedRequest(keys=["a/w/r/0"] * 1001), "at most 1000"),
    ],
)
def test_g4_q1_a_query_that_makes_no_sense_is_refused(
    server: Serving, name: str, request_: Message, reason: str
) -> None:
    """Q1, G4: before the database is asked."""
    with calling(server, "all") as caller:
        answer = caller.ask(name, request_)
        assert (answer.code, reason in answer.text) == (INVALID, True), answer.text
        assert len(answer.text) < 1000


def test_g4_a_session_is_its_own_token_s(server: Serving) -> None:
    """G4: that of another is as one that is not there, to every method that takes one."""
    with calling(server, "all") as owner, calling(server, "a") as caller:
        fill(owner, "a")
        before = tables(server)
        others = [("Read", pb.ReadRequest()), ("Get", pb.GetRequest(id=1))]
        asked = 0
        for name, request in [*about("a"), *others]:
            if "session" in request.DESCRIPTOR.fields_by_name:
                statuses = []
                for session in (owner.session, "no-such-session"):
                    request.session = session  # type: ignore[attr-defined]
                    statuses.append(caller.ask(name, request).status)
                assert statuses[0] == statuses[1]
                assert statuses[0][:2] == (GONE, "there is no such session: open another")
                asked += 1
        assert (asked > 12, tables(server)) == (True, before)


def test_g4_a_workflow_goes_on_in_a_log_full_of_others_events(server: Serving) -> None:
    """G4, G1: the remote client of a token for one namespace has all that it needs."""
    with stepped(as_(server, "all")) as owner, stepped(as_(server, "a")) as client:
        calls: list[str] = []
        crowd(owner, "b", 0, 2 * BATCH)
        consumers = journey.staff(client, calls, start=False)
        journey.begin(client, "r", 1)
        crowd(owner, "b", 2 * BATCH, BATCH)
        count = 3 * BATCH
        while owner.log.last_iteration(journey.NAMESPACE, "journey", "r") != (1, 1):
            for consumer in consumers:
                consumer.step()
            crowd(owner, "b", count, 1)
            count += 1
        client.await_completion(journey.NAMESPACE, "journey", "r", LIMIT)
        assert listing(client) == journey.events("r", 1)
        assert calls == journey.calls_of("r")


# Names.


def test_g4_consumers_of_two_tokens_with_one_name_do_not_meet(server: Serving) -> None:
    """G4: each has a cursor of its own, and is given its own events."""
    seen: dict[str, list[str]] = {"all": [], "a": [], "a2": [], "b": []}
    with (
        stepped(as_(server, "all")) as all_,
        stepped(as_(server, "a")) as a,
        stepped(as_(server, "a2")) as a2,
        stepped(as_(server, "b")) as b,
    ):
        clients = {"all": all_, "a": a, "a2": a2, "b": b}
        for namespace in "ab":
            crowd(all_, namespace, 0, 2)

        def note(token: str) -> Callable[[Any], None]:
            return lambda event: seen[token].append(str(event.key))

        drain(
            *(
                consume(client, "mine", note(token), start=False)
                for token, client in clients.items()
            )
        )
        of_a, of_b = (["a/flow/0/0", "a/flow/1/0"], ["b/flow/0/0", "b/flow/1/0"])
        assert seen == {"all": of_a + of_b, "a": of_a, "a2": of_a, "b": of_b}
        cursors = ["consumer/mine", *(f"consumer/{token}/mine" for token in ("a", "a2", "b"))]
        found = rows(all_, "SELECT id FROM replay_cursors WHERE id NOT LIKE 'replay%' ORDER BY id")
        assert [name for (name,) in found] == sorted(cursors)
        assert all(cursor(all_, name)[1] for name in cursors)


@pytest.mark.parametrize("token", ["all", "a"])
@pytest.mark.parametrize(
    "name",
    [
        "replay_sleep",
        "replay_signal",
        "replay_signal/seen",
        "",
        "consumer",
        "consumer/",
        "consumer//x",
        "workflow/a/../x",
        "Workflow/a/x",
        "other/a/x",
        "consumer/a\n",
        "consumer/" + "x" * 250,
    ],
)
def test_g4_names_that_are_not_a_client_s_cannot_be_claimed(
    server: Serving, token: str, name: str
) -> None:
    """G4: not the loops' either, by any token; nor moved, given up, or looked at."""
    before = tables(server)
    with calling(server, token) as caller:
        requests: list[tuple[str, Message]] = [
            ("Claim", pb.ClaimRequest(consumer=name)),
            ("Commit", pb.CommitRequest(move=pb.Move(consumer=name))),
            ("Release", pb.ReleaseRequest(consumer=name)),
            ("ListParked", pb.ListParkedRequest(consumer=name)),
            ("DueParked", pb.ListParkedRequest(consumer=name)),
            ("Served", pb.ServedRequest(consumer=name)),
            ("Share", pb.ShareRequest(consumer=name, shards=3)),
            ("Share", pb.ShareRequest(consumer=name, shards=3, settle=True)),
        ]
        assert {caller.ask(*each).code for each in requests} == {INVALID}
        assert server.host()._owners == {}
    assert tables(server) == before


# TLS.


class Secrets:
    """What a server and its clients have, in files."""

    def __init__(self, place: Path) -> None:
        self.authority, self.other = Authority(), Authority()
        self.server = self.authority.certify("127.0.0.1", "localhost")
        client, stranger = self.authority.certify("client"), self.other.certify("client")
        self._place = place
        for name, content in {
            "ca": self.authority.certificate,
            "other-ca": self.other.certificate,
            "cert": client.certificate,
            "key": client.key,
            "other-cert": stranger.certificate,
            "other-key": stranger.key,
        }.items():
            (place / name).write_bytes(content)

    def url(self, server: Serving, **options: str) -> str:
        """The URL of a server, with the files of these names, and whatever else."""
        given = {
            name: text if name == "token" else str(self._place / text)
            for name, text in options.items()
        }
        query = "&".join(f"{name}={text}" for name, text in given.items())
        return f"grpcs://127.0.0.1:{server.server.port}?{query}"


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Secrets:
    """Give certificates that were made for these tests."""
    return Secrets(tmp_path_factory.mktemp("tls"))


def served(url: str) -> list[str]:
    """What a client does that is served: a run, and the log."""
    with stepped(url) as client:
        client.run_workflow("a", "flow", "r", Int(value=1))
        return listing(client)


SERVED = ["RUN_CREATED a/flow/r/0 value: 1"]


def test_g4_a_server_with_a_certificate_speaks_tls_alone(sqlite: str, secrets: Secrets) -> None:
    """G4: to clients that trust its authority; others, and those without TLS, find nobody."""
    pair = secrets.server
    with serving(sqlite, certificate=pair.certificate, key=pair.key) as server:
        assert served(secrets.url(server, ca="ca")) == SERVED
        for wrong in (secrets.url(server), secrets.url(server, ca="other-ca"), server.url):
            with pytest.raises(Unavailable):
                connect(wrong)
        assert served(secrets.url(server, ca="ca")) == SERVED


def test_g4_a_client_knows_a_server_by_its_name(sqlite: str, secrets: Secrets) -> None:
    """G4: one that was certified as another is not talked to."""
    pair = secrets.authority.certify("elsewhere.example", "192.0.2.1")
    with (
        serving(sqlite, certificate=pair.certificate, key=pair.key) as server,
        pytest.raises(Unavailable),
    ):
        connect(secrets.url(server, ca="ca"))


def test_g4_with_mutual_tls_clients_have_a_certificate(sqlite: str, secrets: Secrets) -> None:
    """G4: of the authority that the server was given; without one nothing is answered."""
    pair = secrets.server
    ca = secrets.authority.certificate
    with serving(sqlite, certificate=pair.certificate, key=pair.key, client_ca=ca) as server:
        for wrong in (
            secrets.url(server, ca="ca"),
            secrets.url(server, ca="ca", cert="other-cert", key="other-key"),
        ):
            with pytest.raises(Unavailable):
                connect(wrong)
        assert tables(server)["replay_events"] == []
        assert served(secrets.url(server, ca="ca", cert="cert", key="key")) == SERVED


def test_g4_tokens_go_over_tls(sqlite: str, secrets: Secrets) -> None:
    """G4: a certificate is no token: both are needed where both are asked for."""
    pair = secrets.server
    with serving(sqlite, certificate=pair.certificate, key=pair.key, access=ACCESS) as server:
        for options in ({}, {"token": "unknown"}):
            with pytest.raises(AccessDenied, match="with a known token"):
                connect(secrets.url(server, ca="ca", **options))
        assert served(secrets.url(server, ca="ca", token="a")) == SERVED
        with pytest.raises(AccessDenied, match="token 'b' is not for namespace 'a'"):
            served(secrets.url(server, ca="ca", token="b"))


def test_g4_a_certificate_that_is_none_is_refused(sqlite: str, secrets: Secrets) -> None:
    """G4: the server does not start."""
    for certificate, key in ((b"no", secrets.server.key), (secrets.server.certificate, b"no")):
        with (
            pytest.raises(BadSetup, match=r"^--listen 127\.0\.0\.1:0: "),
            serving(sqlite, certificate=certificate, key=key),
        ):
            raise AssertionError("it is served")


@pytest.mark.parametrize("content", [b"", b" \n", b"no"])
def test_g4_a_client_ca_that_certifies_nobody_lets_nobody_in(
    sqlite: str, secrets: Secrets, content: bytes
) -> None:
    """G4: a file that is empty is not a file that is absent: the server does not start."""
    with (
        pytest.raises(BadSetup, match=r"^(the file that --client-ca names is empty|--listen )"),
        serving(
            sqlite,
            certificate=secrets.server.certificate,
            key=secrets.server.key,
            client_ca=content,
        ),
    ):
        raise AssertionError("it is served")


@pytest.mark.parametrize("option", ["ca", "cert", "key", "token_file", "token"])
@pytest.mark.parametrize("content", [None, b"", b" \n"])
def test_g4_an_empty_file_in_a_url_is_refused(
    tmp_path: Path, option: str, content: bytes | None
) -> None:
    """G4: else the system's certificates would be trusted, or no token sent."""
    (tmp_path / "file").write_bytes(content or b"")
    value = "" if content is None or option == "token" else tmp_path / "file"
    with pytest.raises(BadUrl, match=r"is empty|cannot be read"):
        connect(f"grpcs://127.0.0.1:1?{option}={value}")


# Where a server listens, and where a token goes.

INSIDE = ["127.0.0.1:1", "127.9.8.7:0", "[::1]:1", "localhost:65535"]
OUTSIDE = [
    "0.0.0.0:1",
    "[::]:1",
    "192.0.2.1:1",
    "[2001:db8::1]:1",
    "[::ffff:192.0.2.1]:1",
    "host.example:1",
    "127.0.0.1.example:1",
    "localhost.example:1",
    "127.0.0.1,0.0.0.0:1",
    "ipv4:127.0.0.1:1,0.0.0.0:1",
    "dns:localhost:1",
    "*:1",
]


def options(**given: Any) -> Options:
    return Options(databases={"": "sqlite://"}, **given)


@pytest.mark.parametrize("listen", INSIDE)
def test_g4_loopback_is_listened_on_without_tls(listen: str) -> None:
    """G4: what goes there does not leave the machine."""
    options(listen=listen).check()


@pytest.mark.parametrize("listen", OUTSIDE)
def test_g4_other_addresses_need_tls_or_a_word(listen: str) -> None:
    """G4: tokens do not make up for it; `insecure` says that something else does."""
    for access in (Access(), ACCESS):
        with pytest.raises(BadSetup, match="can be reached from other machines: give --tls-cert"):
            options(listen=listen, access=access).check()
    options(listen=listen, insecure=True).check()
    options(listen=listen, certificate=b"x", key=b"x").check()


BAD_OPTIONS = [
    ({"certificate": b"x"}, "--tls-cert and --tls-key belong together"),
    ({"key": b"x"}, "--tls-cert and --tls-key belong together"),
    ({"client_ca": b"x"}, "--client-ca needs --tls-cert and --tls-key"),
    ({"client_ca": b"x", "insecure": True}, "--client-ca needs --tls-cert and --tls-key"),
    ({"listen": "127.0.0.1"}, "expected host:port"),
    ({"listen": ":1", "insecure": True}, "expected host:port"),
    ({"listen": "127.0.0.1:x"}, "expected host:port"),
    ({"listen": "127.0.0.1:٣"}, "expected host:port"),
    ({"listen": "unix:/tmp/replay"}, "expected host:port"),
]


@pytest.mark.parametrize(("given", "problem"), BAD_OPTIONS)
def test_g4_options_that_do_not_go_together_are_refused(
    given: dict[str, Any], problem: str
) -> None:
    """G4: before anything is opened."""
    with pytest.raises(BadSetup, match=problem):
        options(**given).check()


@pytest.mark.parametrize(
    "host",
    ["192.0.2.1", "[2001:db8::1]", "host.example", "localhost.example", "127.0.0.1.example"],
)
def test_g4_a_token_is_not_sent_in_the_clear_to_another_machine(host: str, tmp_path: Path) -> None:
    """G4: nor one from a file; the message has no token in it."""
    path = tmp_path / "token"
    path.write_text("geheim", encoding="utf-8")
    for option in ("token=geheim", f"token_file={path}"):
        with pytest.raises(BadUrl, match="need TLS: grpcs://") as caught:
            connect(f"grpc://{host}:1?{option}")
        assert "geheim" not in str(caught.value)


# Limits.


def big(size: int) -> AnyMessage:
    return packed(BytesValue(value=b"x" * size))


def sent(key: str, size: int) -> list[tuple[str, Message]]:
    """A message of a size, by each way that it can be sent."""
    message = big(size)
    ways = [
        ("RunWorkflow", RunRequest(key=f"{key}/0", message=message)),
        ("RespondActivity", KeyMessage(key=f"{key}/0/act/0", message=message)),
        ("RestartRun", RunRequest(key=f"{key}/0", message=message)),
        (
            "SignalRun",
            SignalRequest(
                namespace="a", workflow="w", run=key[4:], external_id="x", message=message
            ),
        ),
    ]
    event = pb.Event(type=3, key=f"{key}/0/out/0", message=message.SerializeToString())
    return [*ways, ("Commit", pb.CommitRequest(events=[event]))]


@pytest.mark.parametrize(
    ("size", "reason"), [(1_000, "the limit is 1000"), (200_000, "larger than max")]
)
def test_g4_too_large_a_message_is_refused(sqlite: str, size: int, reason: str) -> None:
    """G4, N3: one that the log does not take, and one that is not read at all; it serves on."""
    with serving(f"{sqlite}?max_message=1000") as server, calling(server) as caller:
        before = tables(server)
        for name, request in sent("a/w/r", size):
            answer = caller.ask(name, request)
            assert (name, answer.code, answer.messages) == (name, EXHAUSTED, [])
            assert reason in answer.text
        assert tables(server) == before
        assert {caller.ask(*each).code for each in sent("a/w/r", 900)} == {OK}
        counts = {name: len(found) for name, found in tables(server).items()}
        assert (counts["replay_events"], counts["replay_signals"]) == (5, 1)


def to_nowhere(caller: Caller) -> Any:
    """A stream that is open, and does not end by itself."""
    metadata = caller.stubs.metadata
    stream = caller.stubs.method("Stream")(StreamRequest(), metadata=metadata, timeout=LIMIT)
    next(stream)
    return stream


def polls(caller: Caller) -> Any:
    """A read that waits, for longer than a test takes."""
    request = pb.ReadRequest(session=caller.session, after=9, limit=1, wait_ms=30_000)
    stub, metadata = caller.stubs.method("Read"), caller.stubs.metadata
    return stub.future(request, metadata=metadata, timeout=LIMIT)


def test_g5_a_client_has_so_many_streams_and_a_connection_a_tenth(sqlite: str) -> None:
    """G5: sessions, streams and long polls count; ordinary calls have their own places."""
    with (
        serving(sqlite, access=ACCESS, max_streams=30) as server,
        calling(server, "a") as a,
        calling(server, "a") as again,
        calling(server, "b") as b,
    ):
        for namespace, caller in (("a", a), ("b", b)):
            assert caller.ask("RunWorkflow", RunRequest(key=f"{namespace}/w/r/0")).code is OK
        stream, poll = to_nowhere(a), polls(a)  # beside the one that holds its session
        for name, request in (
            ("Stream", StreamRequest()),
            ("Open", pb.OpenRequest()),
            ("History", pb.HistoryRequest(key="a/w/r/0")),
            ("Commit", pb.CommitRequest()),
            ("Read", pb.ReadRequest(wait_ms=1)),
            ("Claim", pb.ClaimRequest(consumer="consumer/x", wait_ms=1)),
            ("Watch", health_pb2.HealthCheckRequest()),
        ):
            stub: Any = a.stubs.channel.stream_stream(path_of(name))
            answer = Answer(
                stub(iter([bound(a, request)]), metadata=a.stubs.metadata, timeout=LIMIT),
                streams=True,
            )
            assert (name, answer.code) == (name, EXHAUSTED)
            assert answer.text == "streams and waiting calls: this connection may have 3 at a time"
        assert a.ask("Locate", pb.LocateRequest(namespace="a")).code is OK
        assert a.ask("Read", pb.ReadRequest()).code is OK
        for caller, namespace in ((again, "a"), (b, "b")):
            key = f"{namespace}/w/r/0"
            assert caller.ask("History", pb.HistoryRequest(key=key)).code is OK
        stream.cancel()
        poll.cancel()
        for caller in (a, again, b):
            caller.hold.cancel()
        wait_for_calls(server)
        assert server.server._limits.streams.held == {}
        to_nowhere(again).cancel()


def test_g5_refused_calls_of_a_client_are_answered_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """G5: they do not come back at once then; of too many the rest are answered at once."""
    monkeypatch.setattr("replay.server.limits._WAITING", 3)

    async def run() -> list[tuple[str, float]]:
        waits, over, limits = list[tuple[str, float]](), asyncio.Event(), Limits(options())

        async def sleep(seconds: float) -> None:
            waits.append((asyncio.current_task().get_name(), seconds))  # type: ignore[union-attr]
            await over.wait()

        monkeypatch.setattr("replay.server.limits.asyncio", SimpleNamespace(sleep=sleep))
        tasks = [
            asyncio.create_task(limits.spread(name, name), name=name)
            for name in ("x", "x", "y", "x", "x")
        ]
        await tasks[-1]  # the fourth of x, while the others wait
        over.set()
        await asyncio.gather(*tasks)
        assert limits.refusals.held == {}
        return waits

    assert asyncio.run(run()) == [("x", 0.001), ("x", 0.002), ("y", 0.001), ("x", 0.003)]


@pytest.mark.parametrize("gone", [False, True])
def test_g5_a_refused_call_that_waits_for_its_answer_holds_no_place(
    sqlite: str, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    """G5: others get the place that it did not get.  One with a large request does not wait."""
    came, over = Release(), asyncio.Event()

    async def spread(self: Limits, client: str, connection: str) -> None:
        came._came.release()
        await over.wait()

    monkeypatch.setattr(Limits, "spread", spread)
    with serving(sqlite, access=ACCESS, max_streams=10) as server, calling(server, "a") as a:
        stub, metadata = a.stubs.method("Stream"), a.stubs.metadata
        refused = stub(StreamRequest(namespace="a"), metadata=metadata, timeout=LIMIT)
        came.wait_for(1)
        large = StreamRequest(namespace="a", run="r" * 5000)
        assert Answer(stub(large, metadata=metadata, timeout=LIMIT), streams=True).code is EXHAUSTED
        a.hold.cancel()
        while calls_in_flight(server) > 1:
            assert refused.is_active()
        again = a.stubs.method("Open")(pb.OpenRequest(), metadata=metadata, timeout=LIMIT)
        next(again)
        again.cancel()
        if gone:
            refused.cancel()
        server._loop.call_soon_threadsafe(over.set)
        assert Answer(refused, streams=True).code is (
            grpc.StatusCode.CANCELLED if gone else EXHAUSTED
        )
        wait_for_calls(server)


@contextmanager
def uncollected() -> Iterator[list[str]]:
    """The functions of the server whose frames only the garbage collector could free."""
    found: list[str] = []
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield found
        gc.collect()
        frames = [each.f_code for each in gc.garbage if isinstance(each, FrameType)]
        found += [code.co_name for code in frames if "/replay/server/" in code.co_filename]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


def test_g5_a_call_that_fails_leaves_nothing_to_the_garbage_collector(server: Serving) -> None:
    """G5: or a client that is refused at once, again and again, would make it stop all others."""
    with calling(server, "a") as a, uncollected() as found:
        assert ask_raw(a.stubs.channel, "/x/y", []).code is UNKNOWN_CALLER
        assert a.ask("Locate", pb.LocateRequest(namespace="b")).code is FORBIDDEN
        stream = a.stubs.method("Stream")(StreamRequest(namespace="a"), metadata=a.stubs.metadata)
        while calls_in_flight(server) < 2:
            assert stream.is_active()
        stream.cancel()
        a.hold.cancel()
        wait_for_calls(server)
    assert found == []


def path_of(name: str) -> str:
    return next(path for path, method in METHODS.items() if method.name == name)


def bound(caller: Caller, request: Any) -> bytes:
    """A request of this caller's session, as it goes over the wire."""
    if "session" in request.DESCRIPTOR.fields_by_name:
        request.session = caller.session
    raw: bytes = request.SerializeToString()
    return raw


@pytest.mark.parametrize(
    ("held", "refused"),
    [
        ([("x", "1")] * 2, "connection"),
        ([("x", "2")] + [("x", "1")] * 2, "connection"),
        ([("x", "1")] * 2 + [("x", "3")] * 2, "client"),
        ([("x", "3")] * 2 + [("x", "4")] * 2 + [("y", "5")], "client"),
        ([("y", "1")] * 2 + [("y", "3")] * 2 + [("z", "4")] * 2, "server"),
    ],
)
def test_g5_a_limit_has_a_part_for_each_client_and_each_connection(
    held: list[tuple[str, str]], refused: str
) -> None:
    """G5: it names the part that is used up, counts nothing then, and forgets who holds nothing."""
    limit = Limit("calls", 6, 4, 2)
    for each in held:
        limit.take(*each)
    before = dict(limit.held)
    with pytest.raises(LimitReached, match=f"^calls: this {refused} may have "):
        limit.take("x", "2" if refused != "connection" else held[-1][1])
    assert limit.held == before
    for each in held:
        limit.give_back(*each)
    assert limit.held == {}


def test_g5_without_tokens_a_client_is_an_address(sqlite: str) -> None:
    """G5: two connections from one are one client."""
    with serving(sqlite, max_streams=2) as server, calling(server), calling(server):
        (key,) = [key for key in server.server._limits.streams.held if key[0] == "client"]
        assert server.server._limits.streams.held[key] == 2
        with pytest.raises(grpc.RpcError, match="this client may have 2"), calling(server):
            raise AssertionError("there is a third")
    assert server.server._limits.streams.held == {}


def test_g5_a_client_has_a_quarter_of_the_calls_and_streams_have_none(sqlite: str) -> None:
    """G5: what it may have beyond is refused at once; another client is served."""
    with (
        serving(sqlite, access=ACCESS, max_calls=8) as server,
        calling(server, "a") as a,
        calling(server, "b") as b,
        held_up(server, "append") as release,
    ):
        log = server.host().log
        log.commit([log.event(EventType.RUN_CREATED, Key("a", "w", "r"))])
        streams = [to_nowhere(a) for _ in range(2)]
        calls = begin_runs(a, 2)
        release.wait_for(2)
        answer = a.ask("RunWorkflow", RunRequest(key="a/w/2/0"))
        assert answer.status == (EXHAUSTED, "calls in flight: this client may have 2 at a time", ())
        assert b.ask("Locate", pb.LocateRequest(namespace="b")).code is OK
        release.set()
        assert [call.result().ok for call in calls] == [True, True]
        for stream in streams:
            stream.cancel()


def one_waits(server: Serving, release: Release) -> bool:
    """Whether a call of token a comes to wait for a place, or else is carried out."""
    work = server.server._limits.work("a")
    while not work._waiting:
        if release.came():
            return False
    return True


def test_g5_the_calls_of_a_client_are_carried_out_so_many_at_a_time(
    sqlite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G5: its next one begins when one has ended; another client's does not wait for them."""
    monkeypatch.setattr("replay.server.limits.AT_A_TIME", 2 * _CALL)
    with (
        serving(sqlite, access=ACCESS) as server,
        calling(server, "a") as a,
        calling(server, "b") as b,
        held_up(server, "append") as release,
    ):
        calls = begin_runs(a, 3)
        release.wait_for(2)
        assert one_waits(server, release)
        assert b.ask("Locate", pb.LocateRequest(namespace="b")).code is OK
        release.set()
        assert [call.result().ok for call in calls] == [True, True, True]


def test_g5_the_small_commits_of_a_client_count_by_their_bytes(sqlite: str) -> None:
    """G5: two of half of what the server does for it at a time; the third waits."""
    with (
        serving(sqlite, access=ACCESS) as server,
        calling(server, "a") as a,
        held_up(server, "commit") as release,
    ):
        replies = [begin_commit(a, "a", name, 110) for name in "xyz"]
        release.wait_for(2)
        assert one_waits(server, release)
        release.set()
        assert [len(next(each).ids) for each in replies] == [110] * 3


def test_g5_strangers_are_answered_one_after_the_other(
    server: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G5: by their address, as a client that is refused."""
    waited: list[tuple[str, str]] = []

    async def spread(self: Limits, client: str, connection: str) -> None:
        waited.append((client, connection.rpartition(":")[0]))

    monkeypatch.setattr(Limits, "spread", spread)
    with grpc.insecure_channel(server.url.removeprefix("grpc://")) as channel:
        assert ask_raw(channel, "/x/y", []).code is UNKNOWN_CALLER
    assert waited == [("ipv4:127.0.0.1", "ipv4:127.0.0.1")]


def at_work(scenario: Callable[[Work, Callable[[str, int], asyncio.Task[None]]], Any]) -> list[str]:
    """Return the order in which calls of a scenario begin and, when it cancels them, end."""
    told: list[str] = []

    async def run() -> None:
        work = Work()

        async def hold(name: str, size: int) -> None:
            async with work.hold(size):
                told.append(name)
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()
                told.append(f"/{name}")

        await scenario(work, lambda name, size: asyncio.create_task(hold(name, size)))
        assert work._free == AT_A_TIME

    asyncio.run(run())
    return told


async def turns(count: int = 5) -> None:
    """Let everything that is ready go on."""
    for _ in range(count):
        await asyncio.sleep(0)


async def end(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
        await turns()


def test_g5_who_waits_for_a_place_comes_in_order() -> None:
    """G5: a small one does not overtake a large one; what is too large takes all of it."""

    async def scenario(work: Work, begin: Callable[[str, int], asyncio.Task[None]]) -> None:
        tasks = [begin("half", AT_A_TIME // 2), begin("all", 2 * AT_A_TIME), begin("small", 1)]
        await turns()
        await end(*tasks)

    assert at_work(scenario) == ["half", "/half", "all", "/all", "small", "/small"]


def test_g5_who_goes_away_while_it_waits_leaves_its_place_to_the_next() -> None:
    """G5: also if it was given one just then."""

    async def scenario(work: Work, begin: Callable[[str, int], asyncio.Task[None]]) -> None:
        first = begin("first", AT_A_TIME // 2)
        large, small = begin("large", AT_A_TIME), begin("small", 1)
        await turns()
        large.cancel()
        await turns()
        whole, last = begin("whole", AT_A_TIME), begin("last", 1)
        await turns()
        work._give_back(AT_A_TIME)
        whole.cancel()
        work._give_back(-AT_A_TIME)
        await turns()
        await end(first, small, last)

    assert at_work(scenario) == ["first", "small", "last", "/first", "/small", "/last"]


def test_g5_a_call_keeps_its_place_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """G5: so a client's are answered more slowly than the server accepts calls."""

    async def run() -> None:
        work, loop = Work(), asyncio.get_running_loop()
        later: list[tuple[float, Callable[[int], None], int]] = []
        monkeypatch.setattr(loop, "call_later", lambda *call: later.append(call))
        async with work.call():
            pass
        await work.pass_by()
        async with work.hold(20_000):
            pass
        assert work._free == AT_A_TIME - _CALL - 2 * _CALL - 20_000
        assert [(rest, size) for rest, _, size in later] == [
            (0.003, _CALL),
            (0.003, 2 * _CALL),
            (0, 20_000),
        ]
        for _, give_back, size in later:
            give_back(size)
        assert work._free == AT_A_TIME

    asyncio.run(run())


class Release(threading.Event):
    """What calls wait for, and how many have come to wait."""

    def __init__(self) -> None:
        super().__init__()
        self._came = threading.Semaphore(0)

    def come(self) -> None:
        self._came.release()
        assert self.wait(LIMIT)

    def wait_for(self, count: int) -> None:
        for _ in range(count):
            assert self._came.acquire(timeout=LIMIT)

    def came(self) -> bool:
        """Whether another one has come."""
        return self._came.acquire(blocking=False)


@contextmanager
def held_up(server: Serving, method: str) -> Iterator[Release]:
    """Have a method of the server's log wait until the test lets it go on."""
    log, release = server.host().log, Release()
    function = getattr(log, method)

    def wait(*arguments: Any) -> Any:
        release.come()
        return function(*arguments)

    with patch.object(log, method, wait):
        try:
            yield release
        finally:
            release.set()


def test_g5_calls_whose_request_never_comes_are_the_tokens_own(sqlite: str) -> None:
    """G5: they count from the first byte on; other tokens are served."""
    nothing = SimpleQueue[bytes | None]()
    with (
        serving(sqlite, access=ACCESS, max_calls=4, max_streams=1) as server,
        calling(server, "b") as b,
        grpc.insecure_channel(server.url.removeprefix("grpc://")) as channel,
    ):
        stub: Any = channel.stream_stream("/replaypb.Replay/RunWorkflow")
        metadata = [("authorization", "Bearer a")]
        calls = [stub(iter(nothing.get, None), metadata=metadata) for _ in range(3)]
        ended = next(call for call in as_ended(calls))
        assert _status(ended) == (
            EXHAUSTED,
            "calls in flight: this client may have 2 at a time",
            (),
        )
        assert b.ask("RunWorkflow", RunRequest(key="b/w/r/0")).code is OK
        for call in calls:
            call.cancel()
            nothing.put(None)


def as_ended(calls: Sequence[Any]) -> Iterator[Any]:
    """These calls, each when it has ended."""
    queue = SimpleQueue[Any]()
    for call in calls:
        call.add_done_callback(queue.put)
    while True:
        yield queue.get(timeout=LIMIT)


def test_g5_a_session_has_so_many_claims(sqlite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """G5: each is an open file on SQLite; a name that is given up makes room for another."""
    monkeypatch.setattr("replay.server.limits.open_files", lambda: 32)
    with serving(sqlite) as server, calling(server) as caller, calling(server) as other:

        def claim(each: Caller, name: str) -> Answer:
            return each.ask("Claim", pb.ClaimRequest(consumer=f"consumer/{name}"))

        held = server.server._limits.claims.held
        assert [claim(caller, name).code for name in "abc"] == [OK, OK, EXHAUSTED]
        assert claim(caller, "c").text == "consumers: this connection may have 2 at a time"
        assert [claim(other, name).code for name in "cd"] == [OK, OK]
        assert claim(caller, "a").code is OK  # its own, again
        caller.ask("Release", pb.ReleaseRequest(consumer="consumer/a"))
        assert [claim(caller, name).code for name in "ef"] == [OK, EXHAUSTED]
        assert held[("server", "")] == 4
        caller.hold.cancel()
        other.hold.cancel()
        server.settle(0)
        assert (held, server.host()._owners) == ({}, {})


EVENT = pb.Event(type=1, key="a/w/r/0").SerializeToString()
PADDING = b"\x7a\x80\x80\x01" + b"x" * 2**14  # a field of its own, large enough to be looked at


@pytest.mark.parametrize(
    ("method", "raw"),
    [
        ("Commit", PADDING + b"\x12\x00" * 3_001),
        ("Commit", PADDING + b"\x1a\xf2\x2e" + b"\x22\x00" * 3_001),
        ("Commit", b"\x1a\xc4\xbb\x01\x2a\xc0\xbb\x01" + b"\x01" * 24_000),
        ("Find", PADDING + b"\x1a\x00" * 3_001),
        ("Begun", PADDING + b"\x12\x00" * 3_001),
    ],
    ids=["events", "parked", "unparked", "keys", "iterations"],
)
def test_g5_a_request_of_very_many_parts_is_refused_unread(
    server: Serving, monkeypatch: pytest.MonkeyPatch, method: str, raw: bytes
) -> None:
    """G5: two bytes can stand for an event, which takes a hundred."""
    kind = message_class(METHODS[path_of(method)].input_type)
    assert kind.FromString(raw) is not None
    with grpc.insecure_channel(server.url.removeprefix("grpc://")) as channel:
        stub: Any = channel.stream_stream(path_of(method))
        call = stub(iter([raw]), metadata=[("authorization", "Bearer all")], timeout=LIMIT)
        answer = Answer(call, streams=True)
    assert (answer.code, answer.text) == (
        EXHAUSTED,
        "a request of more than 3000 parts: send several",
    )


@given(st.binary(max_size=60), st.sampled_from(["CommitRequest", "FindRequest", "Move"]))
@example(b"*\x80\x80\x02", "Move")
def test_g5_whatever_a_request_is_its_parts_are_counted(raw: bytes, name: str) -> None:
    """G5: what is malformed passes, and the decoder refuses it."""
    descriptor = pb.DESCRIPTOR.message_types_by_name[name]
    check_fields(descriptor, PADDING + raw)


def test_g5_a_commit_has_so_many_events(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """G5: in all its parts together; nothing of it is stored."""
    monkeypatch.setattr("replay.server.services.MOST_EVENTS", 3)
    with calling(server, "a") as caller:

        def parts(count: int) -> Iterator[Message]:
            for n in range(count):
                event = pb.Event(type=1, key=f"a/w/{n}/0")
                yield pb.CommitRequest(session=caller.session, events=[event], more=n + 1 < count)

        stub, metadata = caller.stubs.method("Commit"), caller.stubs.metadata
        answer = Answer(stub(parts(4), metadata=metadata, timeout=LIMIT), streams=True)
        assert (answer.code, answer.messages) == (EXHAUSTED, [])
        assert answer.text == f"a commit of over {LARGEST_COMMIT} bytes or 3 events"
        (reply,) = Answer(stub(parts(3), metadata=metadata, timeout=LIMIT), streams=True).messages
        assert list(reply.ids) == [1, 2, 3]
        assert server.server._limits.commits.held == {}


def test_g5_unfinished_commits_of_a_client_have_so_many_bytes(server: Serving) -> None:
    """G5: on all its streams together; they are free again when the streams end."""
    held = server.server._limits.commits.held
    server.server._limits.commits._parts["client"] = 3000
    nothing = SimpleQueue[Any]()

    def part(caller: Caller) -> Iterator[Message]:
        event = pb.Event(type=3, key="a/w/r/0/out/0", message=b"x" * 1000)
        yield pb.CommitRequest(session=caller.session, events=[event], more=True)
        nothing.get(timeout=LIMIT)

    with calling(server, "a") as a, calling(server, "a2") as a2:
        calls = [a.stubs.method("Commit")(part(a), metadata=a.stubs.metadata) for _ in range(3)]
        assert _status(next(as_ended(calls)))[:2] == (
            EXHAUSTED,
            "bytes of commits in flight: this client may have 3000 at a time",
        )
        assert held["client", "a"] > 2000
        event = pb.Event(type=1, key="a/w/r/0")
        (reply,) = a2.ask("Commit", pb.CommitRequest(events=[event])).messages
        assert list(reply.ids) == [1]
        for call in calls:
            call.cancel()
            nothing.put(None)
        a.hold.cancel()
        a2.hold.cancel()
        wait_for_calls(server)
        assert held == {}


def test_g5_a_sessions_large_commits_come_one_after_the_other(
    server: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G5: of one that waits no part is read but its first; it goes on when the other has ended."""
    read, weigh = SimpleQueue[str](), LogService._weigh

    def noted(self: LogService, who: Any, session: Any, part: Any, held: Any) -> int:
        read.put(part.events[0].key)
        return weigh(self, who, session, part, held)

    monkeypatch.setattr(LogService, "_weigh", noted)
    with calling(server, "a") as caller:
        first, second = SimpleQueue[Any](), SimpleQueue[Any]()

        def part(run: str, more: bool) -> pb.CommitRequest:
            event = pb.Event(type=1, key=f"a/w/{run}/0")
            return pb.CommitRequest(session=caller.session, events=[event], more=more)

        stub, metadata = caller.stubs.method("Commit"), caller.stubs.metadata
        replies = [
            stub(iter(parts.get, None), metadata=metadata, timeout=LIMIT)
            for parts in (first, second)
        ]
        first.put(part("a1", more=True))
        assert read.get(timeout=LIMIT) == "a/w/a1/0"
        second.put(part("b1", more=True))
        second.put(part("b2", more=False))
        assert read.get(timeout=LIMIT) == "a/w/b1/0"
        assert caller.ask("Locate", pb.LocateRequest(namespace="a")).code is OK
        first.put(part("a2", more=False))
        assert [list(next(each).ids) for each in replies] == [[1, 2], [3, 4]]
        assert [read.get(timeout=LIMIT) for _ in range(2)] == ["a/w/a2/0", "a/w/b2/0"]
        first.put(None)
        second.put(None)


@pytest.mark.parametrize("gone", [False, True])
def test_g5_a_clients_costly_commits_are_carried_out_one_at_a_time(sqlite: str, gone: bool) -> None:
    """G5: on all its connections, and if the caller of one has gone; others are served."""
    with (
        serving(sqlite, access=ACCESS) as server,
        calling(server, "a") as a,
        calling(server, "a") as again,
        calling(server, "b") as b,
        held_up(server, "commit") as release,
    ):
        first = begin_commit(a, "a", "x", 300)
        release.wait_for(1)
        if gone:
            first.cancel()
            while calls_in_flight(server) > 3:  # those that hold the sessions
                assert not first.is_active()
        second = begin_commit(again, "a", "y", 300)
        assert again.ask("Locate", pb.LocateRequest(namespace="a")).code is OK
        third = begin_commit(b, "b", "z", 300)
        release.wait_for(1)
        assert b.ask("Locate", pb.LocateRequest(namespace="b")).code is OK
        assert not release.came()
        release.set()
        assert len(next(third).ids) == len(next(second).ids) == 300
        added = [row[1].split("/")[2][0] for row in tables(server)["replay_events"]]
        assert "".join(added).replace("z" * 300, "") == "x" * 300 + "y" * 300
        for each in (second, third):
            each.cancel()


def test_g5_after_a_long_commit_a_client_rests_as_long(sqlite: str) -> None:
    """G5: before its next costly commit; others do not, and a short one has no rest."""

    async def run(host: Host) -> None:
        rests = list[tuple[float, Callable[[], None]]]()

        async def commit(client: str, seconds: float) -> None:
            with patch.object(host, "time", iter([1.0, 1.0 + seconds]).__next__):
                async with host.costly_commit(client):
                    assert host.turn(client, writing=True).locked()

        later = SimpleNamespace(call_later=lambda *rest: rests.append(rest))
        with patch.object(host, "_loop", later):
            await commit("a", 0.03125)
            await commit("a", 2)
            await commit("b", 0.03125)
        ((seconds, end),) = rests
        assert seconds == 2 - 0.05
        assert host.turn("a", writing=True).locked()
        end()
        assert not host.turn("a", writing=True).locked()

    with serving(sqlite) as server:
        asyncio.run_coroutine_threadsafe(run(server.host()), server._loop).result(LIMIT)


def test_g5_a_clients_costly_reads_are_carried_out_one_at_a_time(sqlite: str) -> None:
    """G5: those that ask the database, and those of much that is in memory; others are served."""
    with (
        serving(sqlite, access=ACCESS) as server,
        calling(server, "a") as a,
        calling(server, "b") as b,
    ):
        log = server.host().log
        log.commit([log.event(EventType.RUN_CREATED, Key("a", "w", f"r{n}")) for n in range(300)])
        asked = {"Read": "read", "Load": "with_ids", "History": "history"}
        requests: dict[str, Any] = {
            "Read": pb.ReadRequest(session=a.session, limit=300),
            "Load": pb.LoadRequest(session=a.session, ids=[1]),
            "History": pb.HistoryRequest(session=a.session, key="a/w/r1/0"),
        }
        for name, method in asked.items():
            with held_up(server, method) as release, ThreadPoolExecutor(3) as pool:
                mine = [pool.submit(a.ask, name, requests[name]) for _ in range(2)]
                release.wait_for(1)
                request = type(requests[name]).FromString(requests[name].SerializeToString())
                request.session = b.session
                if name == "History":
                    request.key = "b/w/r1/0"
                others = pool.submit(b.ask, name, request)
                release.wait_for(1)
                assert a.ask("Locate", pb.LocateRequest(namespace="a")).code is OK
                assert not release.came()
                release.set()
                assert [each.result().code for each in (*mine, others)] == [OK] * 3


def test_g5_a_commit_that_does_not_go_on_is_dropped(
    server: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G5: after its time, with an error that says so; nothing is stored."""
    monkeypatch.setattr("replay.server.services._UNFINISHED", 0)
    nothing = SimpleQueue[Any]()
    with calling(server, "a") as caller:

        def parts() -> Iterator[Message]:
            event = pb.Event(type=1, key="a/w/r/0")
            yield pb.CommitRequest(session=caller.session, events=[event], more=True)
            nothing.get(timeout=LIMIT)

        stub, metadata = caller.stubs.method("Commit"), caller.stubs.metadata
        answer = Answer(stub(parts(), metadata=metadata, timeout=LIMIT), streams=True)
        nothing.put(None)
        assert answer.status[:2] == (GONE, "the rest of a commit did not come within 0 s")
    assert tables(server)["replay_events"] == []


def test_g4_a_stranger_who_sends_nothing_is_refused_at_once(server: Serving) -> None:
    """G4: before any request has come."""
    nothing = SimpleQueue[bytes | None]()
    with grpc.insecure_channel(server.url.removeprefix("grpc://")) as channel:
        for path in (*METHODS, *UNKNOWN):
            stub: Any = channel.stream_stream(path)
            call = stub(iter(nothing.get, None), timeout=5)
            code = Answer(call, streams=True).code
            nothing.put(None)
            assert (path, code) == (path, UNKNOWN_CALLER)


def test_g4_a_token_for_loopback_does_not_go_to_a_proxy(
    server: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G4: whatever the environment says: it would leave the machine, in the clear."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        for name in ("http_proxy", "https_proxy", "grpc_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        for name in ("no_proxy", "no_grpc_proxy"):
            monkeypatch.delenv(name, raising=False)
        proxy.listen(0)
        asked = threading.Thread(target=lambda: hang_up(proxy))
        asked.start()
        try:
            assert served(as_(server, "a")) == SERVED
        finally:
            proxy.shutdown(socket.SHUT_RDWR)
            asked.join()


def hang_up(proxy: socket.socket) -> None:
    """Take connections, and end each, until there are none to come."""
    with contextlib.suppress(OSError):
        while True:
            proxy.accept()[0].close()


def test_g4_the_hash_of_no_token_is_refused(tmp_path: Path) -> None:
    """G4: it would let everybody in."""
    path = tmp_path / "tokens.toml"
    path.write_text(entry(sha256=f'"{hashlib.sha256(b"").hexdigest()}"'), encoding="utf-8")
    with pytest.raises(BadTokens, match=r"\[shop\]: "):
        load(path)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("t" * 250 + "1", "mine"), ("t" * 250 + "2", "mine")),
        (("t", "x" * 245 + "1"), ("t", "x" * 245 + "2")),
    ],
    ids=["token", "consumer"],
)
def test_g4_long_names_of_tokens_and_consumers_do_not_meet(
    one: tuple[str, str], other: tuple[str, str]
) -> None:
    """G4: those of two tokens, nor two of one; and what is stored fits."""
    names = {
        stored_name(Principal(token, frozenset("a"), writes=True), f"consumer/{name}")
        for token, name in (one, other)
    }
    assert len(names) == 2
    assert all(len(name) <= 255 for name in names)


def test_g4_a_token_for_a_namespace_with_a_long_name_serves_it(sqlite: str) -> None:
    """G4, N2: of 255 characters, as a namespace may have."""
    namespace = "n" * 255
    access = Access([principal("long", namespace)])
    with serving(sqlite, access=access) as server, stepped(as_(server, "long")) as client:
        done: list[str] = []

        def flow(ctx: RunContext, message: Int) -> None:
            done.append(ctx.run)

        consumer = register_workflow(client, namespace, flow, start=False)
        client.run_workflow(namespace, "flow", "r", None)
        drain(consumer)
        assert done == ["r"]


def test_g4_two_entries_of_one_token_are_refused(tmp_path: Path) -> None:
    """G4: it would be for luck to say which of them holds."""
    path = tmp_path / "tokens.toml"
    path.write_text(entry() + entry().replace("[shop]", "[other]"), encoding="utf-8")
    with pytest.raises(BadTokens, match="two entries have one sha256"):
        load(path)


# Changes while a server runs.


def test_g4_a_token_that_is_taken_back_ends_its_streams_sessions_and_calls(sqlite: str) -> None:
    """G4: those of a token that stays go on, and a new token is accepted."""
    with (
        serving(sqlite, access=ACCESS) as server,
        calling(server, "a") as gone,
        calling(server, "b") as stays,
        held_up(server, "append") as release,
    ):
        log = server.host().log
        log.commit([log.event(EventType.RUN_CREATED, Key("a", "w", "r"))])
        claim = pb.ClaimRequest(consumer="workflow/a/w")
        assert gone.ask("Claim", claim).code is OK
        stream, poll, line = to_nowhere(gone), polls(gone), SimpleQueue[Any]()
        metadata = gone.stubs.metadata
        commits = gone.stubs.method("Commit")(iter(line.get, None), metadata=metadata)
        request = RunRequest(key="a/w/s/0")
        call = gone.stubs.method("RunWorkflow").future(request, metadata=metadata)
        release.wait_for(1)
        access = Access([principal("b", "b"), principal("new", "a")])
        reload(server, access=access)
        try:
            for each in (stream, poll, commits, call, gone.hold):
                assert _status(ended(each))[:2] == (UNKNOWN_CALLER, "the token was revoked")
        finally:
            line.put(None)
            release.set()
        server.settle(1)
        assert stays.ask("Locate", pb.LocateRequest(namespace="b")).code is OK
        answer = gone.ask("Locate", pb.LocateRequest(namespace="a"))
        assert (answer.code, answer.text) == (UNKNOWN_CALLER, ASK)
        with calling(server, "new") as new:
            claim.session = new.session
            assert new.ask("Claim", claim).code is OK


def ended(call: Any) -> Any:
    """A call, when it has ended with an error."""
    return next(as_ended([call]))


def reload(server: Serving, **changed: Any) -> None:
    """Have a server take other files."""
    options = replace(server.server._options, **changed)

    async def change() -> None:
        server.server.reload(options)

    asyncio.run_coroutine_threadsafe(change(), server._loop).result(LIMIT)


def test_g4_equal_principals_of_two_tokens_are_two() -> None:
    """G4: a token that is made anew under its name ends the calls of the old one."""
    old = Access([principal("a", "a"), principal("b", "b")])
    digest, who = principal("renewed", "a")
    new = Access([(digest, replace(who, name="a")), principal("b", "b")]).after(old)
    assert [new.holds(old.principal(name)) for name in "ab"] == [False, True]
    assert new.principal("renewed") == old.principal("a")


def test_g4_a_certificate_is_changed_without_a_restart(sqlite: str, secrets: Secrets) -> None:
    """G4: it counts from the next connection on; one that is not usable changes nothing."""
    old, new = secrets.server, secrets.other.certify("127.0.0.1")
    with serving(sqlite, certificate=old.certificate, key=old.key) as server:
        assert served(secrets.url(server, ca="ca")) == SERVED
        with pytest.raises(BadSetup, match=r"^--tls-cert, --tls-key, --client-ca: "):
            reload(server, certificate=new.certificate, key=old.key)
        assert served(secrets.url(server, ca="ca")) == SERVED
        reload(server, certificate=new.certificate, key=new.key)
        assert served(secrets.url(server, ca="other-ca")) == SERVED
        with pytest.raises(Unavailable):
            connect(secrets.url(server, ca="ca"))
        with pytest.raises(BadSetup, match="stay on or off: restart"):
            reload(server, certificate=None, key=None)


# What others learn.


def test_g4_a_refused_token_is_logged_and_never_shown(
    server: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    """G4: with the caller's address and what it called, and once for many."""
    with grpc.insecure_channel(server.url.removeprefix("grpc://")) as channel:
        for _ in range(3):
            metadata = [("authorization", "Bearer geheim")]
            assert ask_raw(channel, "/x/y", metadata).code is UNKNOWN_CALLER
    (line,) = [each.getMessage() for each in caplog.records if "refused" in each.getMessage()]
    assert re.fullmatch(r"refused ipv4:127\.0\.0\.1:\d+, which called '/x/y': no known token", line)
    assert "geheim" not in caplog.text


def test_g4_of_many_warnings_one_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """G4: so that nobody can fill the disk; the next one counts those that were left out."""
    clock = iter([0.0, 0.0, 0.0, 5.0, 9.0, 10.0, 10.0])
    warnings = Seldom(lambda: next(clock))
    for text in "abcd":
        warnings.warn(text)
    assert [each.getMessage() for each in caplog.records] == [
        "a",
        "d (and 2 more warnings like this)",
    ]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Unavailable, "the server cannot reach its database"),
        (OutcomeUnknown, "the server lost its database during a commit, whose outcome is unknown"),
        (ReadOnly, "the server may not write to its database"),
        (DatabaseError, "the server's database reports an error; the server's log says which"),
    ],
)
def test_g4_an_error_tells_nothing_of_files_and_hosts(
    server: Serving, caplog: pytest.LogCaptureFixture, kind: type[Exception], text: str
) -> None:
    """G4: the server's own log has all of it."""
    secret = "mysql://app@10.1.2.3/orders: /srv/replay.db"

    def fail(*_: object) -> Any:
        raise kind(secret)

    log = server.host().log
    with calling(server, "a") as caller, patch.object(log, "append", fail):
        answer = caller.ask("RunWorkflow", RunRequest(key="a/w/r/0"))
        assert answer.text == text
        with patch.object(log, "commit", fail):
            event = pb.Event(type=1, key="a/w/r/0")
            (reply,) = caller.ask("Commit", pb.CommitRequest(events=[event])).messages
        assert (reply.error, reply.details) == (kind.__name__, text)
    # A database that cannot be reached warns of that itself, once for all calls (P16).
    assert (secret in caplog.text) is (kind is not Unavailable)


# Files.


def test_g4_a_file_that_others_can_use_is_warned_of(tmp_path: Path) -> None:
    """G4: a secret that others can read, and anything that others can change."""
    path = tmp_path / "file"
    path.write_bytes(b"x")
    found = {}
    for mode in (0o600, 0o640, 0o644, 0o620, 0o602, 0o666):
        path.chmod(mode)
        found[mode] = [exposed(path, secret=secret) for secret in (True, False)]
    read = f"{path} can be read by others: chmod o-r {path}"
    change = f"{path} can be changed by others: chmod go-w {path}"
    assert found == {
        0o600: [None, None],
        0o640: [None, None],
        0o644: [read, None],
        0o620: [change, change],
        0o602: [change, change],
        0o666: [change, change],
    }


@pytest.mark.parametrize(
    ("days", "warning"),
    [
        (-1, "--tls-cert: the certificate of CN=x has expired: clients that check it find nobody"),
        (3, "--tls-cert: the certificate of CN=x expires in 2 days: replace it, and send SIGHUP"),
        (20, None),
    ],
)
def test_g4_a_certificate_that_expires_is_warned_of(days: int, warning: str | None) -> None:
    """G4: before it does."""
    pair = Authority().certify("x", days=days)
    found = list(options(certificate=pair.certificate, key=pair.key).warnings())
    assert found == ([] if warning is None else [warning])


# Who is woken.


def test_g5_news_wakes_only_those_whom_it_concerns(sqlite: str) -> None:
    """G5: hundreds of sessions of other namespaces cost a commit nothing."""
    woken = list[str]()

    async def wait(host: Host, name: str, *namespaces: str) -> None:
        await host.more(Interest(0, frozenset(namespaces) or None), LIMIT)
        woken.append(name)

    async def run(host: Host) -> None:
        waits = {"a": ["a"], "b": ["b"], "both": ["a", "b"], "all": []}
        tasks = [asyncio.create_task(wait(host, name, *some)) for name, some in waits.items()]
        await asyncio.sleep(0)
        add = [host.log.event(EventType.RUN_CREATED, Key("b", "w", str(n))) for n in range(1000)]
        await host.commit(lambda: host.log.commit(add[:1]))
        await asyncio.gather(*tasks[1:])
        assert (sorted(woken), tasks[0].done()) == (["all", "b", "both"], False)
        await host.commit(lambda: host.log.commit(add[1:]))
        await tasks[0]  # else it would fall behind the tail

    with serving(sqlite) as server:
        asyncio.run_coroutine_threadsafe(run(server.host()), server._loop).result(LIMIT)


def test_l6_a_commit_whose_caller_goes_away_is_stored_whole_or_not_at_all(
    server: Serving,
) -> None:
    """L6: the cursor does not move without the events."""
    pool, gate = server.host()._pool, threading.Event()
    with calling(server, "all") as caller:
        assert caller.ask("Claim", pb.ClaimRequest(consumer="consumer/mine")).code is OK
        threads = [pool.submit(gate.wait, LIMIT) for _ in range(pool._max_workers)]
        move = pb.Move(consumer="consumer/mine", old=0, new=7)
        event = pb.Event(type=1, key="a/w/r/0")
        request = pb.CommitRequest(session=caller.session, events=[event], move=move)
        stub, metadata = caller.stubs.method("Commit"), caller.stubs.metadata
        call = stub(iter([request]), metadata=metadata, timeout=LIMIT)
        while pool._work_queue.empty():
            assert call.is_active()
        call.cancel()
        while calls_in_flight(server) > 1:  # that which holds the session
            assert not call.is_active()
        gate.set()
        assert all(thread.result() for thread in threads)
        pool.submit(int).result(LIMIT)  # behind the commit
    stored = tables(server)
    cursors = [row[1] for row in stored["replay_cursors"] if row[0] == "consumer/mine"]
    assert [row[1] for row in stored["replay_events"]] == ["a/w/r/0"]
    assert cursors == [7]
