"""The remote client: its URL, its session, and what it does when that is lost."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import BytesValue

import replay.storage.tail
from replay import Client, Event, EventType, Key, connect, consume
from replay.client import EventsLost
from replay.consumer import FULL
from replay.failure import LONGEST_TEXT
from replay.log import LARGEST_STEP, LONGEST_STEP, LostOwnership, Move, Parked
from replay.server.limits import LARGEST_COMMIT, MOST_EVENTS
from replay.server.proto import log_pb2 as pb
from replay.server.remote import PART
from replay.server.wire import SessionLost, TooBusy, encode_events, event_to
from replay.storage.database import BadUrl, OutcomeUnknown, Statement, Unavailable
from replay.storage.event import MessageTooLarge
from replay.storage.tail import BYTES
from tests.server.remotes import NAME, log_of, mine
from tests.serving import Serving, serving
from tests.support import START, Clock, cursor, drain, listing, rows, start_runs, stepped, take_over

# The URL, and what has to be installed.

URLS = [
    ("grpc://", "expected grpc://host:port"),
    ("grpc://host:port", "expected grpc://host:port"),
    ("grpc://host:99999", "expected grpc://host:port"),
    ("grpc://host:1/path", "expected grpc://host:port"),
    ("grpc://secret@host:1", "a token goes into the option token"),
    ("grpc://127.0.0.1:1?lease=5", "unknown option lease in the URL of grpc://127.0.0.1:1"),
    ("grpc://elsewhere:1?token=secret", "certificates and tokens need TLS: grpcs://elsewhere:1"),
    ("grpc://127.0.0.1:1?ca=setup.cfg", "setup.cfg, named in the URL, cannot be read"),
    ("grpc://127.0.0.1:1?token_file=no-such", "no-such, named in the URL, cannot be read"),
    (f"grpc://127.0.0.1:1?ca={__file__}", "certificates and tokens need TLS"),
]


@pytest.mark.parametrize(("text", "reason"), URLS)
def test_a_url_that_makes_no_sense_is_refused(text: str, reason: str) -> None:
    """The reason is said, and no secret."""
    with pytest.raises(BadUrl) as caught:
        connect(text)
    assert reason in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_client_of_a_server_names_the_package_that_is_missing() -> None:
    """Without the extra `grpc` the error says what to install; the rest of the library works."""
    program = "import sys; sys.modules['grpc'] = None\nimport replay; replay.connect('grpc://h:1')"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    needed = "a client of a server needs the package grpc: pip install 'replay-workflows[grpc]'"
    assert needed in done.stderr


def test_a_token_in_the_url_and_in_a_file(tmp_path: Path) -> None:
    """G4: the one in the URL is sent; the file is no certificate, so loopback needs no TLS."""
    (tmp_path / "token").write_text("other\n")
    with (
        serving(f"sqlite:///{tmp_path / 'replay.db'}") as server,
        connect(f"{server.url}?token=mine&token_file={tmp_path / 'token'}") as client,
    ):
        assert client.run_workflow("ns", "flow", "r", None)


def test_a_host_may_be_an_ipv6_address(tmp_path: Path) -> None:
    """Its address stands in brackets, on both sides."""
    with serving(f"sqlite:///{tmp_path / 'replay.db'}", listen="[::1]:0") as server:
        port = server.server.port
        with connect(f"grpc://[::1]:{port}") as client:
            assert client.log.name == f"grpc://[::1]:{port}"
            assert client.run_workflow("ns", "flow", "r", None)


# What is a server's affair.


def test_a_server_serves_sleeps_and_signals_itself(server: Serving) -> None:
    """G1: a client of it has no loops to start or step."""
    with connect(server.url, loops=True) as client:
        assert client.loops() == []
        names = ["replay_sleep", "replay_signal", "replay_runs", "replay_inbox"]
        assert [loop.name for loop in server.loops()] == names


def test_a_consumers_own_statements_do_not_go_over_the_wire(server: Serving) -> None:
    """Only a server's own consumers have tables; another's is told so, not ignored."""
    with stepped(server.url) as client:
        move = Move(NAME, 0, 0, also=[Statement("DELETE FROM replay_events")])
        with pytest.raises(NotImplementedError, match="do not go over the wire"):
            client.log.commit([], move)


# Large transactions.


def outputs(client: Client, sizes: list[int]) -> list[Event]:
    key = Key("ns", "flow", "r", 0, "out")
    return [
        client.log.event(
            EventType.RUN_OUTPUT, key._replace(sequence=str(n)), BytesValue(value=b"x" * size)
        )
        for n, size in enumerate(sizes)
    ]


def test_l6_a_large_commit_goes_in_parts_and_is_one_transaction(server: Serving) -> None:
    """L6: many times what one request may hold is stored at once, in its order."""
    sizes = [10, PART + 1, 1, 4 * 1024 * 1024 - 100, *[PART // 3] * 20, 7]
    with stepped(server.url) as client:
        events = outputs(client, sizes)
        assert client.log.commit(events) == [True] * len(sizes)
        found = list(client.stream(to_head=True))
        assert [len(event.message.value) for event in found] == sizes
        assert [event.id for event in found] == [event.id for event in events]
        assert len({event.timestamp for event in found}) == 1


def test_l6_no_part_of_a_commit_is_larger_than_a_server_takes(server: Serving) -> None:
    """L6: a message near the limit does not go with what was before it."""
    sizes = [200_000, 4 * 1024 * 1024 - 100, 200_000]
    with stepped(server.url) as client:
        assert client.log.commit(outputs(client, sizes)) == [True] * 3
        found = client.stream(to_head=True)
        assert [len(event.message.value) for event in found] == sizes


def test_l6_parts_fit_where_the_limit_of_a_message_is_small(tmp_path: Path) -> None:
    """L6: a server with a small limit takes small requests, and yet a large commit."""
    with (
        serving(f"sqlite:///{tmp_path / 'small.db'}?max_message=1000") as server,
        stepped(server.url) as client,
    ):
        assert client.log.commit(outputs(client, [900] * 400)) == [True] * 400
        assert len(list(client.stream(to_head=True))) == 400


def test_l6_a_commit_with_many_long_errors_goes_in_parts(server: Serving) -> None:
    """L6, A2: what a consumer parks is divided as the events are, and listed in pages."""
    with stepped(server.url) as client:
        assert client.log.claim(NAME, 0) == 0
        text = "\u6f22" * (LONGEST_TEXT // 3)
        parked = [
            Parked(id, f"ns/flow/{'r' * 250}{id}/0", 1, Clock().now, text) for id in range(1, 2001)
        ]
        assert client.log.commit(outputs(client, [5]), Move(NAME, 0, 7, parked)) == [True]
        assert list(client.log.parked(NAME)) == parked
        assert list(server.host().log.parked(NAME)) == parked
        assert cursor(client, NAME)[0] == 7


def test_g1_a_reply_to_a_read_is_bounded(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """G1, L5: it holds as many events as one read, and at least one; a client reads on."""
    monkeypatch.setattr(replay.storage.tail, "BYTES", 1000)
    with stepped(server.url) as client:
        client.log.commit(outputs(client, [600, 600, 600, 5000, 1]))
        tail = server.host().log.tail
        tail.reset(tail.end)
        replies = [log_of(client)._look(after, 1000) for after in range(6)]
        assert [[event.id for event in reply.events] for reply in replies] == [
            [1],
            [2],
            [3],
            [4],
            [5],
            [],
        ]
        assert [reply.end for reply in replies] == [1, 2, 3, 4, 5, 5]


def test_g5_large_messages_are_sent_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """G5: a reply is as protobuf encodes it, and others wait for no copy of a large message."""
    sizes = [0, 3, 70_000, 70_000, 0, 70_000, 70_000, 2_200_000, 9, 70_000]
    events = [
        Event(id, EventType.RUN_CREATED, Key("a", "w", f"é{id}"), START, bytes(size) or None)
        for id, size in enumerate(sizes, 1)
    ]
    reply = pb.ReadReply(end=10, newest=3)
    whole = pb.ReadReply.FromString(reply.SerializeToString())
    whole.events.extend(map(event_to, events))
    whole.events[5].CopyFrom(pb.Event(id=6))
    copied = list[bool]()

    def noted(event: Event, *, message: bool = True) -> pb.Event:
        copied.append(message and event.size > 70_000)
        return event_to(event, message=message)

    monkeypatch.setattr("replay.server.wire.event_to", noted)
    encoded = encode_events(reply, events, lambda event: event.id != 6)
    assert pb.ReadReply.FromString(encoded) == whole
    assert copied == [False] * 9


def test_a_commit_that_is_too_large_stores_nothing(server: Serving) -> None:
    """G4: more than a server takes in one transaction is refused as a whole; it serves on."""
    size = 4 * 1024 * 1024 - 100
    assert LARGEST_COMMIT > LARGEST_STEP + BYTES  # or a run's largest step might be refused
    assert MOST_EVENTS > LONGEST_STEP + FULL
    with stepped(server.url) as client:
        events = outputs(client, [size] * (LARGEST_COMMIT // size + 2))
        with pytest.raises(MessageTooLarge, match=f"a commit of over {LARGEST_COMMIT} bytes"):
            client.log.commit(events)
        assert list(client.stream(to_head=True)) == []
        assert client.log.commit(events[:1]) == [True]


# Sessions.


def end_session(server: Serving, client: Client) -> None:
    """End a client's session from the server's side, as a network does that is down too long."""
    host, id = server.host(), log_of(client)._session
    session = host.sessions[id]
    server.call(lambda: host.end(session))


def test_l7_p15_who_has_lost_his_session_stores_nothing(server: Serving) -> None:
    """L7, P15, G1: his place is another's by then; he starts again, standing by."""
    seen_a, seen_b = [], []  # type: ignore[var-annotated]
    with stepped(server.url) as a, stepped(server.url) as b:
        paused, successor = mine(a, seen_a), mine(b, seen_b)
        start_runs(a, "1")
        drain(paused)
        end_session(server, a)
        start_runs(b, "2")
        take_over(successor)
        drain(successor)
        at = cursor(b, NAME)
        with pytest.raises(SessionLost):
            paused.step()
        drain(paused)
        assert (cursor(b, NAME), at[0]) == (at, 2)
        assert (seen_a, seen_b) == (["1"], ["2"])
        successor.stop()
        start_runs(b, "3")
        drain(paused)
    assert (seen_a, seen_b) == (["1", "3"], ["2"])


def test_a_name_that_the_session_does_not_own_is_not_moved(server: Serving) -> None:
    """L7: a commit for a consumer that was not claimed is refused, and nothing of it stored."""
    with stepped(server.url) as client:
        events = outputs(client, [1])
        with pytest.raises(LostOwnership, match="consumer/mine is not owned by this session"):
            client.log.commit(events, Move(NAME, 0, 1))
        assert list(client.stream(to_head=True)) == []
        client.log.release(NAME, 0, 1)  # which is nothing
        assert rows(client, "SELECT * FROM replay_cursors WHERE id = ?", NAME) == []


def test_a_name_that_another_session_owns_is_not_moved(server: Serving) -> None:
    """L7: to the database, all sessions are one process, so the server tells them apart."""
    with stepped(server.url) as owner, stepped(server.url) as client:
        assert owner.log.claim(NAME, 0) == 0
        with pytest.raises(LostOwnership, match="consumer/mine is not owned by this session"):
            client.log.commit(outputs(client, [1]), Move(NAME, 0, 1))
        assert list(client.stream(to_head=True)) == []
        assert owner.log.commit(outputs(owner, [2]), Move(NAME, 0, 1)) == [True]


def test_a_lost_connection_of_the_server_ends_its_sessions(server: Serving) -> None:
    """G1: what clients have in memory may be lost in the database: they drop it, as embedded."""
    seen: list[str] = []
    with stepped(server.url) as client:
        consumer = mine(client, seen)
        start_runs(client, "1")
        drain(consumer)
        server.database().losses += 1
        with pytest.raises(Unavailable, match="was lost in between: open another session"):
            client.log.get(1)
        start_runs(client, "2")
        drain(consumer)
        assert seen == ["1", "2"]
        assert client.log.losses == 1


def test_a_stream_notices_that_its_events_were_lost(server: Serving) -> None:
    """L1: a database that comes back without what was given out: the remote stream says so."""
    with stepped(server.url) as client:
        start_runs(client, "1", "2")
        stream = client.stream()
        assert [next(stream).key.run for _ in range(2)] == ["1", "2"]
        server.database().write([Statement("DELETE FROM replay_events WHERE id = 2")])
        server.database().losses += 1
        start_runs(client, "3")
        with pytest.raises(EventsLost, match=r"has lost event 2"):
            next(stream)


def test_a_second_client_of_a_process_has_a_session_of_its_own(server: Serving) -> None:
    """L7: two clients are two owners, in one process too."""
    with stepped(server.url) as a, stepped(server.url) as b:
        assert len(server.host().sessions) == 2
        first, second = mine(a, []), mine(b, [])
        drain(first)
        assert (second.step(), second._position) == (0, None)
        assert (first._position, log_of(a)._session != log_of(b)._session) == (0, True)
    assert server.host()._owners == {}


def test_a_closed_client_leaves_nothing_on_the_server(server: Serving) -> None:
    """Sessions, claims and streams go with it."""
    with connect(server.url) as client:
        consume(client, "mine", print)
        start_runs(client, "1")
        client.log.claim("consumer/other", 0)
    with connect(server.url) as other:
        assert other.log.claim("consumer/other", 10) == 0
        assert other.log.claim(NAME, 10) is not None


def test_a_client_that_was_closed_raises(server: Serving) -> None:
    """Whatever is asked of its log, nothing hangs."""
    client = connect(server.url)
    client.close()
    calls: list[Callable[[], Any]] = [
        lambda: client.log.get(1),
        lambda: client.log.poll(),
        lambda: client.log.commit(outputs(client, [1])),
        lambda: client.log.history(Key("ns", "flow", "r")),
        lambda: client.log.claim(NAME, 0),
    ]
    for call in calls:
        with pytest.raises(Unavailable):
            call()


# What other ends say.


def test_too_many_calls_are_no_loss(tmp_path: Path) -> None:
    """G4: a call beyond the limits is refused and may be repeated; the session goes on."""
    url = f"sqlite:///{tmp_path / 'replay.db'}"
    with serving(url, max_streams=20) as server, stepped(server.url) as client:
        session = log_of(client)._session
        start_runs(client, "1")  # the second stream: a line of commits
        other = log_of(client)._line(session)
        with pytest.raises(TooBusy, match="this connection may have 2 at a time"):
            start_runs(client, "3")
        other.close()
        start_runs(client, "2")
        assert log_of(client)._session == session
        assert [line.partition(" value")[0] for line in listing(client)] == [
            "RUN_CREATED ns/flow/1/0",
            "RUN_CREATED ns/flow/2/0",
        ]


class Gone(grpc.RpcError):
    """What gRPC raises when the connection breaks in the middle of a call."""

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        return "Socket closed"

    def trailing_metadata(self) -> tuple[()]:
        return ()


def test_a_commit_whose_answer_is_lost_is_of_unknown_outcome(
    server: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G1, L6: it may have been stored, and the error says so."""
    with stepped(server.url) as client:
        with monkeypatch.context() as patched:
            patched.setattr(
                "replay.server.remote._Line.commit", lambda *_: (_ for _ in ()).throw(Gone())
            )
            with pytest.raises(OutcomeUnknown, match="Socket closed"):
                client.log.commit(outputs(client, [1]))
        assert client.log.commit(outputs(client, [1])) == [True]
