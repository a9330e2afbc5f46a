"""Whatever is sent to a server is answered in order; what it refuses leaves nothing behind (G4).

Requests are made from the types in the .proto files: every field of every method gets values of its
kind, sound and unsound, or the bytes of the request are spoilt.  Beside the server runs a model of
what the log has to hold: the events of the calls that were accepted, in their order.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from replay import EventType, connect
from replay.server.access import Access, Principal
from replay.server.proto import log_pb2, replaypb_pb2
from replay.server.proto.replaypb_pb2 import SleepRequest
from replay.server.wire import message_class
from replay.storage.database import Unavailable
from replay.storage.event import TYPES, Key
from tests.example_pb2 import Int
from tests.serving import Serving, serving
from tests.support import LogLines, Raw, raw

LIMIT = 60  # seconds until something that has to happen has not happened
CALLS = 20  # requests of an example
EXAMPLES = 200  # of each kind: 12,000 requests in all

OK = grpc.StatusCode.OK
AT_HEAD = grpc.StatusCode.OUT_OF_RANGE
CANCELLED = grpc.StatusCode.CANCELLED
GONE = grpc.StatusCode.UNAVAILABLE
SOUND = {
    OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    AT_HEAD,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.FAILED_PRECONDITION,  # a live process owns the consumer that is to be forgotten
    GONE,  # if that session is not there: see `Target._check_status`
}

METHODS: dict[str, tuple[str, MethodDescriptor]] = {
    method.name: (f"/{service.full_name}/{method.name}", method)
    for module in (replaypb_pb2, log_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
#: Who calls; their tokens are their names.
CALLERS: dict[str, Principal] = {
    "all": Principal("all", None, writes=True),
    "a": Principal("a", frozenset("a"), writes=True),
    "reader": Principal("reader", frozenset("ab"), writes=False),
}
#: The methods that may store anything, and those that add one event.
STORING = {
    *("RunWorkflow", "SignalRun", "RequestActivity", "RespondActivity", "EmitOutput"),
    *("CompleteRun", "RestartRun", "Commit", "Claim", "Release", "Share", "Forget"),
    "Prune",
}
ADDING: Mapping[str, EventType] = {
    "RequestActivity": EventType.ACTIVITY_REQUEST,
    "RespondActivity": EventType.ACTIVITY_RESPONSE,
    "EmitOutput": EventType.RUN_OUTPUT,
}


# What is sent.

NAMES = ["a", "a", "b"]
RUNS = [f"run {n}" for n in range(10)]
BAD_NAMES = [
    *("", " ", ".", "..", " a", "a ", "a\0", "a\n", "é", "e\u0301", "٣", "½", "\U0001f600", "A"),
    *(
        "x" * 255,
        "x" * 256,
        "x" * 5000,
        "replay_sleep",
        "replay_x",
        "*",
        "%",
        "'",
        '"',
        "\\",
        "a:b",
    ),
]
NUMBERS = ["0", "0", "0", "1", "2147483646", "2147483647"]
BAD_NUMBERS = [
    *("", "-1", "+1", "00", "1.0", "1e3", "٣", "²", "2147483648", "9999999999", "99999999999"),
    *("9" * 30, "9" * 4300, "9" * 5000, " 1", "1\n", "0x1", "1_0"),
]
TARGETS = ["act", "act", "out", "replay_sleep", "replay_signal"]
SEQUENCES = [*NUMBERS, "1:0", "-128:0", "127:0"]
BAD_SEQUENCES = [*BAD_NUMBERS, "128:0", "-129:0", "1:", ":1", ":", "1:0:0", "٣:0", "-0:0", "1:-1"]
TEXTS = ["", "x", "é", "\0", "\n", "x" * 255, "x" * 256, "x" * 5000, "%s", "٣"]
IDS = ["", "0", "1", "7", "-1", "٣", "1" * 18, "1" * 19, "x", " 1", "1.0", "9" * 5000]
CONSUMERS = [
    *("consumer/x", "consumer/x", "workflow/a/w", "activity/b/act", "consumer/x/y"),
    *("", "consumer", "consumer/", "other/a", "replay_sleep", "replay_signal/seen", "/", "//"),
    *(
        "consumer/" + "x" * 246,
        "consumer/" + "x" * 247,
        "consumer/\0",
        "workflow/../w",
        "consumer/é",
    ),
]
OWN = "<own>"
SESSIONS = [*(f"<{name}>" for name in CALLERS), "", "no such session", "\0", "x" * 5000]
INTS = {
    32: [
        0,
        0,
        0,
        1,
        1,
        2,
        3,
        4,
        5,
        6,
        7,
        1000,
        1001,
        -1,
        127,
        128,
        -128,
        -129,
        2**31 - 1,
        -(2**31),
    ],
    64: [0, 0, 0, 1, 1, 2, 1000, -1, 2**31, 2**53, 253402300800000, 2**63 - 1, -(2**63)],
}


def mostly(good: Sequence[Any], bad: Sequence[Any], share: int = 8) -> st.SearchStrategy[Any]:
    """One of the good values or, one time in so many, of the bad ones."""
    return st.integers(1, share).flatmap(lambda n: st.sampled_from(bad if n == share else good))


name, run = mostly(NAMES, BAD_NAMES, 20), mostly(RUNS, BAD_NAMES, 20)
number = mostly(NUMBERS, BAD_NUMBERS, 20)
start = st.tuples(name, st.just("w"), run, number)
place = st.tuples(mostly(TARGETS, BAD_NAMES, 20), mostly(SEQUENCES, BAD_SEQUENCES, 20))
long = st.sampled_from([250, 251, 252, 253, 254, 255]).map(
    lambda n: "/".join(["a", "w" * 252, "r" * n, "0"])
)
of_iteration = start.map("/".join)
of_target = st.tuples(start, place).map(lambda parts: "/".join(parts[0] + parts[1]))
bad_key = st.one_of(
    st.tuples(start, place, place).map(lambda parts: "/".join(sum(parts, ()))),
    long,
    st.sampled_from(["replay_noop/1", "", "/", "///", "/////", "a/w/r", "a/w/r/0/", "a/w/r/0/x"]),
    st.text(max_size=30),
)
key = mostly([of_iteration, of_iteration, of_target, of_target], [bad_key]).flatmap(lambda s: s)
URLS = [
    *("type.googleapis.com/example.Int", "type.googleapis.com/replaypb.SleepRequest", "/x", "x"),
    *("a/b/c", "", "a b/c", "/", "a/", "a/.x", "a/x..y", "x/replaypb.SleepDone", "/example.Int"),
    *("a/google.protobuf.Struct.FieldsEntry", "a/google.protobuf.FieldDescriptorProto.Type"),
    *("a/é", "a/٣", "a\n/b", "a/" + "x" * 5000, "a/replaypb.SleepRequest", "a/google.protobuf.Any"),
]
DURATIONS = [
    Duration(seconds=seconds, nanos=nanos)
    for seconds in (0, 1, -1, 315_576_000_000, 315_576_000_001, 2**63 - 1, -(2**63))
    for nanos in (0, 1, -1, 999_999_999, 1_000_000_000, 2**31 - 1, -(2**31))
]
SLEEPS = [SleepRequest(duration=each).SerializeToString() for each in DURATIONS]
VALUES = [b"", Int(value=7).SerializeToString(), b"\xff", b"\x08", b"x" * 2000, *SLEEPS]
any_message = (
    st.just(AnyMessage())
    | st.builds(AnyMessage, type_url=st.just(URLS[1]), value=st.sampled_from(SLEEPS[:1]))
    | st.builds(AnyMessage, type_url=mostly(URLS[:2], URLS, 3), value=st.sampled_from(VALUES))
)
BLOBS = [b"", b"\xff", b"\x0a", b"\x0a\xff\xff\xff\xff\x0f", b"\0" * 100, b"x" * 2000]
blob = mostly(
    [any_message.map(lambda message: message.SerializeToString())],
    [st.sampled_from(BLOBS), st.binary(max_size=20)],
).flatmap(lambda some: some)
message = st.none() | st.none() | blob
event = st.one_of(
    st.builds(log_pb2.Event, type=st.integers(1, 2), key=of_iteration, message=message),
    st.builds(log_pb2.Event, type=st.integers(3, 5), key=of_target, message=message),
)
moves = st.builds(log_pb2.Move, consumer=st.just("consumer/x"), new=st.integers(0, 1))
text_field = {
    "key": key,
    "keys": key,
    "namespace": mostly(NAMES, BAD_NAMES),
    "workflow": mostly(["w"], BAD_NAMES),
    "run": mostly(RUNS, BAD_NAMES),
    "consumer": mostly(CONSUMERS[:2], CONSUMERS, 3),
    "session": mostly([OWN], SESSIONS),
    "after": st.sampled_from(IDS),
    "log": mostly([""], ["a", "b", "\0", "x" * 5000], 3),
}


def value(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    """A value of a field."""
    kind: Any = field.message_type
    if kind is not None and kind.full_name == "google.protobuf.Any":
        return any_message
    if kind is not None and kind.full_name == "google.protobuf.Duration":
        return st.sampled_from(DURATIONS)
    if kind is not None and kind.full_name == "replay.log.v1.Event":
        return mostly([event], [request(kind)]).flatmap(lambda some: some)
    if kind is not None and kind.full_name == "replay.log.v1.Move":
        return mostly([st.none(), moves], [request(kind)], 4).flatmap(lambda some: some)
    if kind is not None:
        return request(kind)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return blob
    if field.type == FieldDescriptor.TYPE_STRING:
        return text_field.get(field.name, st.sampled_from(TEXTS))
    if field.type == FieldDescriptor.TYPE_BOOL:
        return st.booleans()
    if field.name == "wait_ms":  # a long one would be kept
        return st.sampled_from([0, 0, 1, -1, -(2**31)])
    if field.full_name == "replay.log.v1.Event.type":
        return mostly([1, 2, 3, 4, 5], INTS[32])
    if field.name == "signal_type":
        return mostly([0, 1, -128, 127], INTS[32])
    return st.sampled_from(INTS[32 if field.type == FieldDescriptor.TYPE_INT32 else 64])


def request(descriptor: Descriptor) -> st.SearchStrategy[Message]:
    """A message of a type, with some of its fields."""
    fields = {}
    for field in descriptor.fields:
        some = value(field)
        if field.is_repeated:
            some = st.lists(some, max_size=3)
        if field.name not in ("key", "session", "namespace", "events", "type"):
            some = st.none() | some
        fields[field.name] = some
    make = message_class(descriptor)
    return st.fixed_dictionaries(fields).map(
        lambda chosen: make(**{name: one for name, one in chosen.items() if one is not None})
    )


class Spoiling(NamedTuple):
    """What is done to a request's bytes: some in the middle are replaced."""

    at: int
    length: int
    new: bytes

    def spoil(self, whole: bytes) -> bytes:
        """The bytes, spoilt."""
        at = self.at % (len(whole) + 1)
        return whole[:at] + self.new + whole[at + self.length :]


class Call(NamedTuple):
    """One call: who makes it, and what is sent; more than one request where a method takes them."""

    who: str
    method: str
    requests: Sequence[Message]
    spoiling: Spoiling | None = None


spoiling = st.builds(Spoiling, st.integers(0, 200), st.integers(0, 3), st.binary(max_size=3))


def call(names: Sequence[str], how: st.SearchStrategy[Spoiling | None]) -> st.SearchStrategy[Call]:
    """A call of one of these methods."""
    who = mostly(["all"], list(CALLERS), 6)

    def of(method: str) -> st.SearchStrategy[Call]:
        descriptor = METHODS[method][1]
        most = 3 if descriptor.client_streaming else 1
        requests = st.lists(request(descriptor.input_type), min_size=1, max_size=most)
        return st.builds(Call, who, st.just(method), requests, how)

    return st.one_of(list(map(of, names)))


OF_REPLAY = [name for name, (path, _) in METHODS.items() if path.startswith("/replaypb.")]
OF_LOG = [name for name in METHODS if name not in OF_REPLAY]
KINDS = {
    "replay": call(OF_REPLAY, st.none()),
    "log": call(["Commit", "Commit", "Claim", *OF_LOG], st.none()),
    "bytes": call(list(METHODS), spoiling),
}


# One thing wrong at a time.

SOUND_TEXTS = {
    "namespace": "a",
    "workflow": "w",
    "run": "run 0",
    "consumer": "consumer/x",
    "session": OWN,
    "external_id": "x",
}


def sound(method: str, descriptor: Any) -> Any:
    """A request that is answered with OK."""
    made: Any = message_class(descriptor)()
    target = "/act/0" if method in ADDING or descriptor.name in ("Event", "FindRequest") else ""
    for field in descriptor.fields:
        if field.name == "key":
            made.key = f"a/w/run 0/0{target}"
        elif field.name == "keys":
            made.keys.append(f"a/w/run 0/0{target}")
        elif field.name in SOUND_TEXTS:
            setattr(made, field.name, SOUND_TEXTS[field.name])
        elif field.name in ("events", "parked"):
            getattr(made, field.name).append(sound(method, field.message_type))
        elif field.message_type is not None and field.name not in ("message", "lag"):
            getattr(made, field.name).CopyFrom(sound(method, field.message_type))
        elif field.name in ("type", "toHead"):
            setattr(made, field.name, 5 if field.name == "type" else True)
    return made


def bad_keys(key: str) -> Iterator[str]:
    """A key with another part."""
    parts = key.split("/")
    for n, bad in enumerate(
        [BAD_NAMES, BAD_NAMES, BAD_NAMES, BAD_NUMBERS, BAD_NAMES, BAD_SEQUENCES]
    ):
        for other in bad if n < len(parts) else ():
            yield "/".join([*parts[:n], other, *parts[n + 1 :]])
    yield from (key + "/", "/" + key, key + "/x/0", key[:-1], "", "replay_noop/1", "/" * 3, "/" * 5)


def bad_values(field: FieldDescriptor, now: Any) -> Iterator[Any]:
    """What a field may have in place of what it has now."""
    if field.name in ("key", "keys"):
        yield from bad_keys(now[0] if field.name == "keys" else now)
    elif field.message_type is not None and field.message_type.name == "Any":
        yield from (AnyMessage(type_url=url, value=one) for url in URLS for one in VALUES[:3])
    elif field.message_type is not None and field.message_type.name == "Duration":
        yield from DURATIONS
    elif field.message_type is not None:
        yield from wrong(now[0] if field.is_repeated else now)
    elif field.type == FieldDescriptor.TYPE_BYTES:
        yield from BLOBS
    elif field.type == FieldDescriptor.TYPE_STRING:
        yield from (*TEXTS, *BAD_NAMES, *IDS, *CONSUMERS, *SESSIONS)
    elif field.name == "wait_ms":
        yield from (1, -1, -(2**31))
    elif field.type != FieldDescriptor.TYPE_BOOL:
        yield from INTS[32 if field.type == FieldDescriptor.TYPE_INT32 else 64]


def wrong(message: Any) -> Iterator[Any]:
    """A message with another value in one field, for every field and value."""
    for field in message.DESCRIPTOR.fields:
        for bad in bad_values(field, getattr(message, field.name)):
            other = type(message)()
            other.CopyFrom(message)
            other.ClearField(field.name)
            if field.is_repeated:
                getattr(other, field.name).append(bad)
            elif field.message_type is not None:
                getattr(other, field.name).CopyFrom(bad)
            else:
                setattr(other, field.name, bad)
            yield other


def every_single_fault() -> Iterator[Call]:
    """Calls of all methods, each with one thing wrong."""
    for name, (_, method) in METHODS.items():
        for request in wrong(sound(name, method.input_type)):
            yield Call("all", name, [request])


# Where it is sent.


class Target:
    """A server, what is expected of it, and what it has been asked."""

    def __init__(self, server: Serving, other: Raw, channel: Any) -> None:
        self.server = server
        self.asked = 0
        self.statuses: dict[str, set[grpc.StatusCode]] = {name: set() for name in METHODS}
        #: What the log has to hold, in this order.
        self.events: dict[tuple[int, str], bytes | None] = {}
        self.signals: dict[tuple[Any, ...], bytes | None] = {}
        self._other = other
        self._stubs = {name: self._stub(channel, *each) for name, each in METHODS.items()}
        self._holds = {who: self._call(who, "Open", b"", limit=None) for who in CALLERS}
        self._sessions = {
            f"<{who}>": log_pb2.OpenReply.FromString(next(hold)).session
            for who, hold in self._holds.items()
        }
        self._before = self._tables()
        self._version = self._data_version()

    @staticmethod
    def _stub(channel: Any, path: str, method: MethodDescriptor) -> Any:
        if method.client_streaming:
            return channel.stream_stream(path)
        return channel.unary_stream(path) if method.server_streaming else channel.unary_unary(path)

    def _call(self, who: str, method: str, *requests: bytes, limit: float | None = LIMIT) -> Any:
        """A call that has begun."""
        stub, descriptor = self._stubs[method], METHODS[method][1]
        metadata = (("authorization", f"Bearer {who}"),)
        if descriptor.client_streaming:
            return stub(iter(requests), timeout=limit, metadata=metadata)
        if descriptor.server_streaming:
            return stub(*requests, timeout=limit, metadata=metadata)
        return stub.future(*requests, timeout=limit, metadata=metadata)

    # What is stored.

    def _data_version(self) -> int:
        """Changes with whatever another connection commits, if only a cursor."""
        return int(self._other.run("PRAGMA data_version")[0][0])

    def _tables(self) -> dict[str, list[tuple[Any, ...]]]:
        names = self._other.run("SELECT name FROM sqlite_master WHERE type = 'table'")
        found = {name: self._other.run(f"SELECT * FROM {name}") for (name,) in names}
        # The server announces itself each minute (L12).
        del found["replay_processes"]
        rows = found["sqlite_sequence"]
        found["sqlite_sequence"] = [row for row in rows if row[0] != "replay_processes"]
        return found

    def _has_changed(self) -> bool:
        """Whether any table is another since the last call of this."""
        version = self._data_version()
        if version == self._version:
            return False
        self._version, before, self._before = version, self._before, self._tables()
        return before != self._before

    # Asking.

    def ask(self, call: Call) -> None:
        """Make a call, and look at the answer and at what is stored."""
        sent = [self._bytes(call, each) for each in call.requests]
        self.asked += len(sent)
        going = self._call(call.who, call.method, *sent)
        answers, code, text = self._answer(call, sent, going)
        self.statuses[call.method].add(code)
        said = (call.who, call.method, sent, code, text)
        self._check_status(call, sent, code, text)
        accepted = self._accept(call.method, sent, answers, code is OK)
        changed = self._has_changed()
        assert accepted or not changed, said

    def _bytes(self, call: Call, message: Message) -> bytes:
        copy = type(message)()
        copy.CopyFrom(message)
        if "session" in copy.DESCRIPTOR.fields_by_name:
            asked: Any = copy
            wanted = f"<{call.who}>" if asked.session == OWN else asked.session
            asked.session = self._sessions.get(wanted, wanted)
        whole = copy.SerializeToString()
        return whole if call.spoiling is None else call.spoiling.spoil(whole)

    def _answer(
        self, call: Call, sent: Sequence[bytes], going: Any
    ) -> tuple[list[Any], grpc.StatusCode, str]:
        descriptor = METHODS[call.method][1]
        kind = message_class(descriptor.output_type)
        answers: list[Any] = []
        try:
            if descriptor.server_streaming:
                if self._lasts(call.method, sent):
                    going.cancel()
                for answer in going:
                    answers.append(kind.FromString(answer))
                    if call.method == "Open":
                        going.cancel()
            else:
                answers.append(kind.FromString(going.result(LIMIT)))
        except grpc.RpcError as error:
            found: Any = error
            return answers, found.code(), f"{found.details()}"
        except grpc.FutureCancelledError:
            return answers, CANCELLED, ""
        return answers, OK, ""

    def _lasts(self, method: str, sent: Sequence[bytes]) -> bool:
        """Whether this is a stream that may be without end, which nobody waits for."""
        if method != "Stream":
            return False
        with suppress(DecodeError):
            options = replaypb_pb2.StreamRequest.FromString(sent[0]).req.options
            return not options.toHead
        return False

    def _check_status(
        self, call: Call, sent: Sequence[bytes], code: grpc.StatusCode, text: str
    ) -> None:
        said = (call.who, call.method, sent, code, text)
        if code is CANCELLED:
            assert call.method in ("Open", "Stream"), said
            return
        assert code in SOUND, said
        if code is GONE and text != PAUSED:
            assert text == "there is no such session: open another", said
            kind = message_class(METHODS[call.method][1].input_type)
            given = {each.session for each in _whole(kind, sent)}
            assert given != {self._sessions[f"<{call.who}>"]}, said

    # The model.

    def _accept(self, method: str, sent: Sequence[bytes], answers: Sequence[Any], ok: bool) -> bool:
        """Note what a call has stored, and check its answer; whether it may have any effect."""
        kind = message_class(METHODS[method][1].input_type)
        if method == "Commit":
            return self._commits([*_whole(kind, sent)], answers)
        if not ok:
            return False
        (read,) = map(kind.FromString, sent)
        if method == "RunWorkflow":
            assert answers[0].ok is self._adds(EventType.RUN_CREATED, read.key, _any(read))
        elif method == "SignalRun":
            run = (read.namespace, read.workflow, read.run, read.signal_type, read.external_id)
            assert answers[0].ok is (run not in self.signals)
            self.signals.setdefault(run, _any(read))
        elif method == "CompleteRun":
            self._adds(EventType.RUN_COMPLETED, read.key, None)
        elif method == "RestartRun":
            ended = Key.parse(read.key)
            begun = str(ended._replace(iteration=ended.iteration + 1))
            if (EventType.RUN_CREATED, begun) not in self.events:
                self._adds(EventType.RUN_COMPLETED, read.key, None)
                self._adds(EventType.RUN_CREATED, begun, _any(read))
        elif method in ADDING:
            self._adds(ADDING[method], read.key, _any(read))
        return method in STORING

    def _adds(self, type: EventType, key: str, raw: bytes | None) -> bool:
        """Note an event; whether it was not there."""
        new = (type, key) not in self.events
        self.events.setdefault((type, key), raw)
        return new

    def _commits(self, requests: Sequence[Any], replies: Sequence[Any]) -> bool:
        events: list[Any] = []
        left, accepted = list(replies), False
        for request in requests:
            events += request.events
            if request.more or not left:
                continue
            reply = left.pop(0)
            if reply.error:
                assert reply.error == "LostOwnership", (request, reply)
            else:
                accepted = True
                stored = [
                    self._adds(TYPES[event.type], event.key, event.message or None)
                    for event in events
                ]
                assert list(reply.stored) in (([],) if all(stored) else (stored,))
            events = []
        assert left == []
        return accepted

    # The end.

    def hang_up(self) -> None:
        """End the callers' sessions, and wait until no call is in flight."""
        for hold in self._holds.values():
            hold.cancel()

        async def ended() -> None:
            tasks = [task for task in asyncio.all_tasks() if task.get_name() == "rpc_task"]
            tasks and await asyncio.wait(tasks)
            for host in self.server.server._hosts.all():
                await asyncio.gather(*host._tasks)

        asyncio.run_coroutine_threadsafe(ended(), self.server._loop).result(LIMIT)

    def check_nothing_is_left(self) -> None:
        """No session, name, stream or transaction; nor anything parked for nobody."""
        host = self.server.host()
        database: Any = host.log.database
        assert (host.sessions, host._owners, self.server.server._limits.streams.held) == (
            {},
            {},
            {},
        )
        assert (host._tasks, host._released._waiting) == (set(), {})
        assert (database._connection.in_transaction, database._locks) == (False, {})
        owners = self._other.run("SELECT id, owner FROM replay_cursors WHERE owner <> ''")
        assert owners == []
        self._other.run("BEGIN IMMEDIATE")  # nobody else is in a transaction
        self._other.run("ROLLBACK")


PAUSED = "the server cannot reach its database"


def _any(request: Any) -> bytes | None:
    raw: bytes = request.message.SerializeToString()
    return raw or None


def _whole(kind: Any, sent: Sequence[bytes]) -> Iterator[Any]:
    """The requests up to the first that cannot be read."""
    with suppress(DecodeError):
        for each in sent:
            yield kind.FromString(each)


@contextmanager
def fuzzed(url: str) -> Iterator[Target]:
    """A server with three callers."""

    async def pause(seconds: float) -> None:
        raise Unavailable("a pause")  # a lag: in place of waiting for years

    tokens = [(hashlib.sha256(name.encode()).hexdigest(), who) for name, who in CALLERS.items()]
    with (
        serving(url, access=Access(tokens)) as server,
        raw(url) as other,
        grpc.insecure_channel(server.url.removeprefix("grpc://")) as channel,
        patch.object(server.host(), "pause", pause),
    ):
        target = Target(server, other, channel)
        try:
            yield target
        finally:
            target.hang_up()
        target.check_nothing_is_left()


@contextmanager
def everything_in_order(url: str) -> Iterator[Target]:
    """A server on an empty database, and at its end a look at all that may have stayed behind."""
    threads = set(threading.enumerate())
    with LogLines() as log:
        with fuzzed(f"{url}?lease=3600&max_message=1000") as target:
            yield target
        check_what_is_stored(url, target)
        assert (log.of("a call failed"), log.of("unreadable")) == ([], [])
    for thread in set(threading.enumerate()) - threads:
        if "_poll_wrapper" not in thread.name:  # gRPC's, one for a process
            thread.join(LIMIT)
            assert not thread.is_alive(), thread


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_g4_whatever_is_sent_is_answered_in_order(kind: str, tmp_path: Path) -> None:
    """G4: with a fitting status; what is refused stores nothing, what is accepted is read back.

    At the end no thread, stream, session, claim or transaction is left.
    """
    with everything_in_order(f"sqlite:///{tmp_path / 'replay.db'}") as target:

        @settings(
            derandomize=True,
            database=None,
            deadline=None,
            max_examples=EXAMPLES,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(st.lists(KINDS[kind], min_size=CALLS, max_size=CALLS))
        def attempt(calls: list[Call]) -> None:
            for each in calls:
                target.ask(each)

        attempt()
        assert target.asked >= CALLS * EXAMPLES
        assert all(target.statuses[name] for name in KINDS_OF[kind])


KINDS_OF: Mapping[str, Sequence[str]] = {"replay": OF_REPLAY, "log": OF_LOG, "bytes": [*METHODS]}


def check_what_is_stored(url: str, target: Target) -> None:
    """The log and the signals are what the accepted calls have added, and nothing else."""
    with connect(url, loops=False) as client, raw(url) as other:
        found = list[Any]()
        while more := client.log.read(len(found)):
            found += more
        assert [event.id for event in found] == list(range(1, len(found) + 1))
        assert [((event.type, event.text), event.raw) for event in found] == list(
            target.events.items()
        )
        assert [(event.type, str(event.key)) for event in found] == list(target.events)
        signals = other.run(
            "SELECT namespace, workflow, run, type, external_id, message FROM replay_signals"
        )
        assert {tuple(row[:5]): row[5] for row in signals} == target.signals
        stored = [*(event.raw for event in found), *(row[5] for row in signals)]
        urls = {AnyMessage.FromString(each).type_url for each in stored if each}
        assert [each for each in urls if "/" not in each or " " in each] == []
        assert len(found) > 10  # else most is refused


def test_g4_every_single_fault_is_answered_in_order(tmp_path: Path) -> None:
    """G4: requests that are sound but for one field, for every field, and all values above."""
    with everything_in_order(f"sqlite:///{tmp_path / 'replay.db'}") as target:
        for each in every_single_fault():
            target.ask(each)
        assert target.asked > 2000
    ends = {OK, AT_HEAD, CANCELLED}
    assert [name for name, found in target.statuses.items() if not found & ends] == []
