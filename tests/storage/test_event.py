"""What may be stored: names (N2), keys, the types of events (L3), messages (N3)."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from replay import Client, Event, EventType, Key, register_activity, register_workflow
from replay.client import consume
from replay.log import Unread
from replay.server.host import Added
from replay.storage.event import (
    UNKNOWN,
    InvalidName,
    MessageError,
    MessageTooLarge,
    NotAMessage,
    UnknownMessageType,
    check_name,
    check_target,
    message_class,
    pack,
    unpack,
)
from tests.example_pb2 import Empty, Int, String
from tests.support import listing, raw, rows, stepped

PREFIX = "type.googleapis.com/"
BAD_NAMES = [
    "",
    "a" * 256,
    "a/b",
    "a\nb",
    "a\0b",
    "a\x7fb",
    "a\x85b",
    "a\ud800b",
    " a",
    "a ",
    "\ta",
    "a\u3000",
    ".",
    "..",
    None,
    5,
    b"bytes",
]
GOOD_NAMES = [
    "a" * 255,
    "日" * 200,
    "a b",
    "a.b",
    "...",
    ".a",
    "-",
    "é",
    "e\u0301",
    "a\u00a0b",
    "🙂",
    "%s",
    "?",
    "a'b\"c\\d",
    "replay_x",
]


@pytest.fixture
def client() -> Iterator[Client]:
    """A client of an empty database in memory: what is checked here is the same on all."""
    with stepped("sqlite://") as made:
        yield made


def stored(client: Client) -> list[tuple[int, int]]:
    """How many events and signals there are."""
    counts = "(SELECT COUNT(*) FROM replay_events), (SELECT COUNT(*) FROM replay_signals)"
    return rows(client, f"SELECT {counts}")


# Names.


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_bad_name_is_refused_wherever_it_comes_from(client: Client, name: str) -> None:
    """N2: a run, a workflow and a namespace of that name neither start nor get signals."""
    for names in ((name, "w", "r"), ("n", name, "r"), ("n", "w", name)):
        with pytest.raises(InvalidName):
            client.run_workflow(*names, Int(value=1))
        with pytest.raises(InvalidName):
            client.signal_run(*names, 1, Int(value=1), "id")
    assert stored(client) == [(0, 0)]


@pytest.mark.parametrize("name", [name for name in BAD_NAMES if name])
def test_a_bad_name_cannot_be_registered(client: Client, name: str) -> None:
    """N2: the name of a workflow, an activity, a namespace or a consumer is checked when given."""

    def workflow(ctx: object, message: Int) -> None: ...

    def activity(ctx: object, backends: object, message: Int) -> None: ...

    attempts: list[Callable[[], object]] = [
        lambda: register_workflow(client, "n", workflow, name=name, start=False),
        lambda: register_workflow(client, name, workflow, start=False),
        lambda: register_activity(client, "n", activity, name=name, start=False),
        lambda: register_activity(client, name, activity, start=False),
        lambda: consume(client, name, print, start=False),
        lambda: consume(client, "c", print, namespace=name, start=False),
        lambda: client.stream(name),
    ]
    for attempt in attempts:
        with pytest.raises(InvalidName):
            attempt()
    assert client._consumers == {}


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_other_names_are_stored_as_they_are(client: Client, name: str) -> None:
    """N2, L8: what is not refused comes back unchanged, and can be asked for."""
    short = name[:80]
    assert client.run_workflow(short, short, name[:255], None)
    (event,) = client.stream(short, short, name, to_head=True)
    assert event.key == Key(short, short, name)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "run '' is empty"),
        ("a" * 256, "has 256 characters, at most 255 are allowed"),
        ("a/b", "'a/b' holds a slash, a control character"),
        ("a ", "'a ' starts or ends with white space"),
        (7, "run is 7: expected a plain string"),
    ],
)
def test_the_error_says_what_is_wrong_with_a_name(name: str, problem: str) -> None:
    """N2: the error names the name, what it is for, and the rule."""
    with pytest.raises(InvalidName, match=re.escape(problem)) as raised:
        check_name("run", name)
    assert isinstance(raised.value, ValueError)


def test_an_error_about_a_name_stays_readable() -> None:
    """N2: a name of a megabyte is not quoted whole."""
    with pytest.raises(InvalidName) as raised:
        check_name("run", "a" * 1_000_000)
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize("name", ["replay_", "replay_sleep", "replay_signal"])
def test_activities_and_outputs_leave_reserved_names_alone(client: Client, name: str) -> None:
    """N2: activities and outputs may not begin with replay_; the error says so."""

    def activity(ctx: object, backends: object, message: Int) -> None: ...

    with pytest.raises(InvalidName, match="reserved"):
        check_target("output", name)
    with pytest.raises(InvalidName, match="reserved"):
        register_activity(client, "n", activity, name=name, start=False)
    assert check_target("output", "Replay_sleep") == "Replay_sleep"


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_bad_target_is_refused(name: str) -> None:
    """N2: the names of activities and outputs follow the same rules."""
    with pytest.raises(InvalidName):
        check_target("output", name)


# Keys.


def test_a_key_of_512_characters_fits(url: str) -> None:
    """N2: the longest key is stored, found again and told from another, whatever its letters."""
    names = ("日" * 170, "é" * 170, "🙂" * 168)
    with stepped(url) as client:
        assert len(str(Key(*names))) == 512
        assert client.run_workflow(*names, None)
        assert not client.run_workflow(*names, None)
        assert client.run_workflow(*names[:2], "🙂" * 167 + "x", None)
        assert listing(client) == [
            f"RUN_CREATED {Key(*names)} -",
            f"RUN_CREATED {Key(*names[:2], '🙂' * 167 + 'x')} -",
        ]


def test_a_longer_key_is_refused(client: Client) -> None:
    """N2: a key of 513 characters is refused before anything is stored, naming its length."""
    with pytest.raises(InvalidName, match="has 513 characters, at most 512"):
        client.run_workflow("n" * 170, "w" * 170, "r" * 169, None)
    assert stored(client) == [(0, 0)]


NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="/"), max_size=9)


def is_name(text: str) -> bool:
    """Whether a text may be a name."""
    return bool(text) and text == text.strip() and text not in (".", "..")


@given(
    st.tuples(*[NAMES.filter(is_name)] * 3),
    st.integers(0, 10**9),
    st.tuples(NAMES.filter(is_name), st.from_regex(r"\A(-?\d{1,3}:)?\d{1,6}\Z")) | st.just(()),
)
def test_a_key_is_read_back_as_it_was_written(
    run: tuple[str, str, str], iteration: int, place: tuple[str, ...]
) -> None:
    """The text of a key holds all of it."""
    key = Key(*run, iteration, *place)
    assert Key.parse(str(key)) == key


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (Key("n", "w", "r"), "n/w/r/0"),
        (Key("n", "w", "r", 12), "n/w/r/12"),
        (Key("n", "w", "r", 1, "act", "0"), "n/w/r/1/act/0"),
        (Key("n", "w", "r", 0, "replay_signal", "7:2"), "n/w/r/0/replay_signal/7:2"),
        (Key("", "", "", 0, "replay_noop", "5"), "///0/replay_noop/5"),
    ],
)
def test_keys_are_written_as_stored(key: Key, text: str) -> None:
    """Iteration, target and sequence are parts of a key, in that order."""
    assert str(key) == text
    assert Key.parse(text) == key


def test_the_key_of_a_noop_has_its_own_form() -> None:
    """L1: what fences an id is readable as an event, too."""
    assert Key.parse("replay_noop/5") == Key("", "", "", 0, "replay_noop", "5")


@pytest.mark.parametrize(
    "text", ["", "a", "a/b/c", "a/b/c/x", "a/b/c/-1", "a/b/c/0/t", "a/b/c/x/t/0/x", "a/b/c/²"]
)
def test_what_is_no_key_is_refused(text: str) -> None:
    """N2: a text that no event can have is an error that shows it."""
    with pytest.raises(InvalidName, match=re.escape(repr(text))):
        Key.parse(text)


def test_the_key_of_an_iteration() -> None:
    """Every place in an iteration leads to the iteration."""
    assert Key("n", "w", "r", 3, "act", "1").iteration_key() == Key("n", "w", "r", 3)
    assert Key("n", "w", "r", 3).iteration_key() == Key("n", "w", "r", 3)


# Types.


def test_the_types_of_events_have_their_numbers() -> None:
    """L3: five types and the no-op, by the numbers that are stored."""
    assert {int(type): type.name for type in EventType} == {
        0: "NOOP",
        1: "RUN_CREATED",
        2: "RUN_COMPLETED",
        3: "RUN_OUTPUT",
        4: "ACTIVITY_REQUEST",
        5: "ACTIVITY_RESPONSE",
    }


def test_an_event_says_what_it_is() -> None:
    """An event in a message or a debugger is readable."""
    event = Event(7, EventType.RUN_OUTPUT, Key("n", "w", "r", 0, "o", "1"), datetime.now(UTC), b"")
    assert repr(event) == "<Event 7 RUN_OUTPUT n/w/r/0/o/1>"


# Messages.


@pytest.mark.parametrize("message", [Int(value=-1), String(value="🙂"), Empty(), Int()])
def test_a_message_comes_back_equal(url: str, message: Message) -> None:
    """N3: a message is stored as a google.protobuf.Any and decoded to its own type."""
    with stepped(url) as client:
        assert client.run_workflow("n", "w", "r", message)
        (event,) = client.stream(to_head=True)
        assert event.message == message
        assert type(event.message) is type(message)
        wrapped = any_pb2.Any.FromString(event.raw or b"")
        assert wrapped.type_url == PREFIX + message.DESCRIPTOR.full_name
        assert wrapped.value == message.SerializeToString()


def test_no_message_comes_back_as_none(url: str) -> None:
    """N3: none at all is allowed, and is not the same as an empty one."""
    with stepped(url) as client:
        assert client.run_workflow("n", "w", "none", None)
        assert client.run_workflow("n", "w", "empty", Empty())
        assert [event.message for event in client.stream(to_head=True)] == [None, Empty()]
        assert rows(client, "SELECT id FROM replay_events WHERE message IS NULL") == [(1,)]


@pytest.mark.parametrize("raw_bytes", [None, b"", any_pb2.Any(value=b"x").SerializeToString()])
def test_what_other_systems_store_for_none_is_none(raw_bytes: bytes | None) -> None:
    """N3: NULL, no bytes and an Any without a type are no message."""
    assert unpack(raw_bytes) is None


@pytest.mark.parametrize("message", [print, Int, object(), lambda: 1, 1j])
def test_what_cannot_be_stored_is_refused(client: Client, message: Any) -> None:
    """N3: all but messages, plain values and None is refused at the call, with type and place."""
    with pytest.raises(NotAMessage, match=type(message).__name__) as raised:
        client.run_workflow("n", "w", "r", message)
    assert "n/w/r/0" in str(raised.value)
    with pytest.raises(NotAMessage, match="signal 1 to n/w/r"):
        client.signal_run("n", "w", "r", 1, message, "id")
    assert stored(client) == [(0, 0)]


def test_a_message_that_is_not_whole_is_refused(client: Client) -> None:
    """N3: one without a field that its definition requires cannot be stored, and says so."""
    partial = descriptor_pb2.UninterpretedOption.NamePart()
    with pytest.raises(MessageError, match=r"n/w/r/0: .*required"):
        client.run_workflow("n", "w", "r", partial)
    assert stored(client) == [(0, 0)]


def of_size(size: int) -> String:
    """A message that is stored in so many bytes."""
    spare = len(pack(String(value="x" * size), 2 * size, "") or b"") - size
    return String(value="x" * (size - spare))


def test_a_message_of_the_limit_fits_and_no_larger_one(url: str) -> None:
    """N3: 4 MiB are stored; a byte more is refused at the call, naming size and limit."""
    limit = 4 * 1024 * 1024
    with stepped(url) as client:
        assert client.run_workflow("n", "w", "fits", of_size(limit))
        with pytest.raises(MessageTooLarge, match=f"has {limit + 1} bytes, the limit is {limit}"):
            client.run_workflow("n", "w", "not", of_size(limit + 1))
        with pytest.raises(MessageTooLarge, match=f"String has {limit + 1} bytes"):
            client.signal_run("n", "w", "r", 1, of_size(limit + 1), "id")
        assert stored(client) == [(1, 0)]
        (event,) = client.stream(to_head=True)
        assert event.message == of_size(limit)


def test_the_limit_can_be_set(url: str) -> None:
    """N3: max_message in the URL raises the limit, and lowers it."""
    joined = url + ("&" if "?" in url else "?")
    with stepped(f"{joined}max_message=1000") as small:
        with pytest.raises(MessageTooLarge, match="the limit is 1000"):
            small.run_workflow("n", "w", "r", of_size(1001))
        assert small.run_workflow("n", "w", "r", of_size(1000))
    with stepped(f"{joined}max_message=5000000") as large:
        assert large.run_workflow("n", "w", "large", of_size(5_000_000))
        assert [len(event.raw or b"") for event in large.stream(to_head=True)] == [1000, 5_000_000]


def test_an_unknown_type_is_an_error_that_names_it(url: str) -> None:
    """N3: reading such a message fails, with the type's name; the stream and the rest do not."""
    strange = any_pb2.Any(type_url=PREFIX + "far.away.Thing", value=b"\x08\x01")
    with stepped(url) as client, raw(url) as other:
        other.add(Key("n", "w", "r"), message=strange.SerializeToString())
        client.run_workflow("n", "w", "next", Int(value=1))
        first, second = client.stream(to_head=True)
        with pytest.raises(UnknownMessageType, match=r"no message type far\.away\.Thing: import"):
            _ = first.message
        assert second.message == Int(value=1)


def test_a_type_that_becomes_known_is_read() -> None:
    """N3: that a type was unknown once is not remembered: its module may be imported later."""
    name = "example.later.Thing"
    with pytest.raises(UnknownMessageType):
        message_class(PREFIX + name)
    file = descriptor_pb2.FileDescriptorProto(name="later.proto", package="example.later")
    file.message_type.add(name="Thing")
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
    assert message_class(PREFIX + name).DESCRIPTOR.full_name == name


@pytest.mark.parametrize("type_url", ["type.googleapis.com/", "example.com/x/", "/", ""])
def test_only_the_name_in_a_type_url_counts(type_url: str) -> None:
    """N3: other systems may put another address before the type's name."""
    wrapped = any_pb2.Any(type_url=f"{type_url}example.Int", value=Int(value=3).SerializeToString())
    assert unpack(wrapped.SerializeToString()) == Int(value=3)


@pytest.mark.parametrize(
    "damaged",
    [
        b"\xff\xff\xff",
        b"text",
        any_pb2.Any(type_url=PREFIX + "example.Int", value=b"\x08").SerializeToString(),
        any_pb2.Any(type_url=PREFIX + "example.String", value=b"\n\x01\xff").SerializeToString(),
    ],
)
def test_a_damaged_message_is_an_error(damaged: bytes) -> None:
    """N3: bytes that are no message are an error of ours, not of the decoder's."""
    with pytest.raises(MessageError, match="a stored message is damaged"):
        unpack(damaged)


def test_a_message_is_decoded_anew_each_time(client: Client) -> None:
    """An event is shared by all who read the log: nobody's changes to a message reach others."""
    client.run_workflow("n", "w", "r", Int(value=1))
    (event,) = client.stream(to_head=True)
    event.message.value = 2
    assert event.message == Int(value=1)


@pytest.mark.parametrize("kind", [Event, Unread, Added])
def test_events_are_told_apart_and_cost_the_garbage_collector_nothing(kind: type[Event]) -> None:
    """L5: a full collection would look at each of the 50,000 events that a process may keep."""
    key = Key("n", "w", "r")
    one, other = (kind(7, EventType.RUN_CREATED, key, UNKNOWN, b"x") for _ in range(2))
    assert not gc.is_tracked(one)
    assert (one.text, one.size, repr(one)) == (
        "n/w/r/0",
        1 + 4 * 7 + 600,
        "<Event 7 RUN_CREATED n/w/r/0>",
    )
    assert one != other
    assert len({one, other}) == 2
