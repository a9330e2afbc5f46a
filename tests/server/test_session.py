"""A session of a remote client: what ends it, what does not, and what it owns meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import grpc
import pytest
from google.protobuf.wrappers_pb2 import BytesValue

from replay import Client, Event, EventType, Key
from replay.log import LostOwnership, Move
from replay.server.proto import log_pb2 as pb
from replay.server.wire import SessionLost, TooBusy
from replay.storage.database import DatabaseError, Statement, Unavailable
from tests.server.remotes import NAME, log_of, mine
from tests.serving import Serving, serving
from tests.support import behind, cursor, drain, listing, start_runs, stepped

LIMIT = 20.0  # seconds until something that has to happen has not happened
MOST = 9 * 1024 * 1024  # bytes of a reply
SOON = 5.0  # and until something has not happened that waits for no time to pass


class NextCall:
    """The next call of a method of a server: something happens before it or after it."""

    def __init__(
        self,
        client: Client,
        name: str,
        before: Callable[[], object] = lambda: None,
        after: Callable[[], object] = lambda: None,
    ) -> None:
        self._methods, self._name = log_of(client)._stubs._methods, name
        self._method, self._before, self._after = self._methods[name], before, after
        self._methods[name] = self

    def __call__(self, request: Any, **options: Any) -> Any:
        self._begin()
        reply = self._method(request, **options)
        self._after()
        return reply

    def future(self, request: Any, **options: Any) -> Any:
        """As in gRPC: a call that can be cancelled."""
        self._begin()
        return self._method.future(request, **options)

    def _begin(self) -> None:
        self._methods[self._name] = self._method
        self._before()


class Refused(grpc.RpcError):
    """The error of gRPC when a server has too much to do."""

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.RESOURCE_EXHAUSTED

    def details(self) -> str:
        return "Concurrent RPC limit exceeded!"

    def trailing_metadata(self) -> tuple[()]:
        return ()


def test_g1_l7_a_server_that_is_busy_ends_no_session(server: Serving) -> None:
    """G1, L7: a call that was refused may be repeated: the client keeps names and memory."""
    seen: list[str] = []

    def refuse() -> None:
        raise Refused

    with stepped(server.url) as client:
        consumer = mine(client, seen)
        start_runs(client, "1")
        drain(consumer)
        session, owner = log_of(client)._session, cursor(client, NAME)
        NextCall(client, "Get", before=refuse)
        with pytest.raises(TooBusy, match="limit exceeded"):
            client.log.get(1)
        assert (log_of(client)._session, client.log.losses) == (session, 0)
        assert cursor(client, NAME) == owner
        start_runs(client, "2")
        drain(consumer)
        assert seen == ["1", "2"]


def test_l1_what_was_read_before_a_loss_is_not_put_into_the_new_tail(server: Serving) -> None:
    """L1: a reply that was under way when the session ended tells of a log that is gone."""
    seen: list[str] = []
    with stepped(server.url) as client, stepped(server.url) as other:
        start_runs(client, "1", "2")
        client.log.poll()
        assert client.log.tail.end == 2

        def lose() -> None:
            host = server.host()
            host.log.database.write(
                [
                    Statement("DELETE FROM replay_events WHERE id = 3"),
                    Statement("UPDATE sqlite_sequence SET seq = 2 WHERE name = 'replay_events'"),
                ]
            )
            host.log.database.losses += 1
            host.log.refresh()
            with ThreadPoolExecutor(1) as another, pytest.raises(Unavailable):
                another.submit(client.log.get, 1).result(LIMIT)
            client.log.refresh()

        NextCall(client, "Read", after=lose)
        start_runs(other, "lost")
        client.log.poll()
        assert client.log.tail.end == 2
        start_runs(other, "3")
        drain(mine(client, seen))
        assert seen == ["1", "2", "3"]


def test_g1_a_client_that_closes_does_not_wait_for_a_read_that_begins(server: Serving) -> None:
    """G1: closed between the decision to read and the call, it cancels the call."""
    with stepped(server.url) as client:
        closing = threading.Event()
        closer = threading.Thread(target=client.close, daemon=True)
        close = client.log.tail.close

        def close_tail() -> None:
            closing.set()  # what was under way has been cancelled by now
            close()

        def close_first() -> None:
            closer.start()
            assert closing.wait(LIMIT)

        client.log.tail.close = close_tail  # type: ignore[method-assign]
        NextCall(client, "Read", before=close_first)
        client.log.tail.keep_polling(client.log.poll)
        assert closing.wait(LIMIT)
        closer.join(SOON)  # a read waits at the server twice as long
        late = closer.is_alive()
        closer.join()
        assert not late


def test_l7_a_name_that_is_released_goes_to_the_next_session_at_once(server: Serving) -> None:
    """L7, G1: the server wakes the claim that waits, long before its time is over."""
    with stepped(server.url) as owner, stepped(server.url) as heir:
        consumer = mine(owner, [])
        drain(consumer)
        found: list[int | None] = []
        claim = threading.Thread(
            target=lambda: found.append(heir.log.claim(NAME, LIMIT)), daemon=True
        )
        claim.start()
        while not server.host()._released._waiting:
            server.call(lambda: None)
        consumer.stop()
        claim.join(SOON)
        assert found == [0]


def big(client: Client, sizes: list[int]) -> list[Event]:
    key = Key("ns", "flow", "r", 0, "out")
    return [
        client.log.event(
            EventType.RUN_OUTPUT, key._replace(sequence=str(n)), BytesValue(value=b"x" * size)
        )
        for n, size in enumerate(sizes)
    ]


def test_l1_a_reply_is_bounded_in_bytes(server: Serving) -> None:
    """L1, G1: the next reply goes on after it, and skips none."""
    sizes = [3_000_000] * 4 + [1, 4_000_000, 1]
    with stepped(server.url) as client:
        log = log_of(client)
        behind(client).commit(big(client, sizes))
        after = 0
        replies: list[list[int]] = []
        while not replies or replies[-1]:
            request = pb.ReadRequest(session=log._session, after=after, limit=1000)
            reply = log._stubs.method("Read")(request, timeout=LIMIT)
            assert reply.ByteSize() <= MOST
            replies.append([event.id for event in reply.events])
            after = reply.end
    assert [id for each in replies for id in each] == [1, 2, 3, 4, 5, 6, 7]


# Names.


def test_l7_a_session_gives_its_names_up_after_its_commits(server: Serving) -> None:
    """L7, L6: the commit that is under way when its session ends is stored."""
    with stepped(server.url) as client:
        consumer, host = mine(client, []), server.host()
        start_runs(client, "1")
        drain(consumer)
        session, commit = host.sessions[log_of(client)._session], host.log.commit

        def ending(events: Sequence[Event], move: Move | None = None) -> list[bool]:
            server.call(lambda: host.end(session))
            server.call(lambda: None)  # by now the end has begun to give up the name
            host._keeper.submit(lambda: None).result(LIMIT)  # or would have given it up
            return commit(events, move)

        with patch.object(host.log, "commit", ending):
            assert client.log.commit(big(client, [1]), Move(NAME, 1, 1)) == [True]
        server.settle(0)
        assert cursor(client, NAME) == (1, "")


def test_l7_a_commit_that_waits_for_a_release_is_refused(server: Serving) -> None:
    """L7: another session may have the name by then, in the same server."""
    with stepped(server.url) as client, stepped(server.url) as heir:
        consumer, host = mine(client, []), server.host()
        start_runs(client, "1")
        drain(consumer)
        release, commit = host.log.release, host.log.commit
        refused: list[str] = []
        claimed = threading.Event()

        def move() -> None:
            try:
                client.log.commit([], Move(NAME, 1, 1))
            except LostOwnership as error:
                refused.append(str(error))

        mover = threading.Thread(target=move, daemon=True)

        def slow_release(name: str, old: int, new: int) -> None:
            mover.start()
            claim = host.sessions[log_of(client)._session].claims[name]
            while not claim.busy._waiters:
                server.call(lambda: None)
            release(name, old, new)

        def late_commit(events: Sequence[Event], move: Move | None = None) -> list[bool]:
            assert claimed.wait(LIMIT)
            return commit(events, move)

        with (
            patch.object(host.log, "release", slow_release),
            patch.object(host.log, "commit", late_commit),
        ):
            client.log.release(NAME, 1, 1)
            assert heir.log.claim(NAME, LIMIT) == 1
            claimed.set()
            mover.join(LIMIT)
        assert refused == [f"consumer {NAME} is not owned by this session"]


@contextmanager
def failing_release(server: Serving, failing: str) -> Iterator[None]:
    """The database cannot be reached when a name is released."""
    log = server.host().log
    release = log.release

    def faulty(name: str, old: int, new: int) -> None:
        if name == failing:
            raise Unavailable("fault: the connection was lost before the transaction")
        release(name, old, new)

    with patch.object(log, "release", faulty):
        yield


def test_l7_a_release_that_fails_frees_the_name_for_other_sessions(server: Serving) -> None:
    """L7: the database was away for a moment; nobody waits for a session that has let go."""
    with stepped(server.url) as owner, stepped(server.url) as heir:
        drain(mine(owner, []))
        with failing_release(server, NAME), pytest.raises(Unavailable):
            owner.log.release(NAME, 0, 0)
        assert heir.log.claim(NAME, 0) == 0


def test_l7_one_thread_of_a_server_takes_and_gives_back_all_locks(server: Serving) -> None:
    """L7: a lock belongs to a connection, and each thread has its own."""
    threads: list[str] = []
    database = server.database()
    lock, unlock = database.lock, database.unlock

    def noting_lock(name: str, wait: float) -> str:
        threads.append(threading.current_thread().name)
        return lock(name, wait)

    def noting_unlock(name: str) -> None:
        threads.append(threading.current_thread().name)
        unlock(name)

    with (
        stepped(server.url) as client,
        patch.object(database, "lock", noting_lock),
        patch.object(database, "unlock", noting_unlock),
    ):
        assert client.log.claim(NAME, 0) == 0
        client.log.release(NAME, 0, 0)
    assert threads == ["replay-locks-_0"] * 2


def test_l5_a_client_cannot_move_a_cursor_backwards(server: Serving) -> None:
    """L5, G4: neither by a commit nor by a release; nothing is stored."""
    with stepped(server.url) as client:
        start_runs(client, "1", "2")
        drain(mine(client, []))
        before = cursor(client, NAME)
        with pytest.raises(DatabaseError, match="numbers or texts that cannot be stored"):
            client.log.commit([], Move(NAME, 2, 1))
        with pytest.raises(DatabaseError, match="a cursor moves forwards"):
            client.log.release(NAME, 2, 1)
        assert cursor(client, NAME) == before


def test_g3_a_session_adds_nothing_to_the_log_of_another(tmp_path: Path) -> None:
    """G3: events of a namespace with its own database are refused by the common one."""
    urls = {each: f"sqlite:///{tmp_path / each}.db" for each in ("", "own")}
    with serving(databases=urls) as server, stepped(server.url) as client:
        event = client.log.event(EventType.RUN_CREATED, Key("own", "flow", "r"))
        with pytest.raises(DatabaseError, match="'own' is in another log than this session"):
            client.log.commit([event])
        assert (listing(client), listing(client, "own")) == ([], [])
        assert client.log_of("own").commit([event]) == [True]
        assert (listing(client), len(listing(client, "own"))) == ([], 1)


def test_l7_a_name_that_cannot_be_released_keeps_no_other(server: Serving) -> None:
    """L7: a session that ends gives up all its other names; the lease ends that one."""
    names = [f"consumer/{n}" for n in range(3)]
    with stepped(server.url) as other, failing_release(server, names[0]):
        with stepped(server.url) as client:
            for name in names:
                assert client.log.claim(name, 0) == 0
        server.settle(1)
        assert [cursor(other, name)[1] == "" for name in names] == [False, True, True]
        assert server.host()._owners == {}


def test_g1_a_call_whose_session_is_replaced_is_made_again(server: Serving) -> None:
    """G1: by another thread of the client, which has noticed first that the server was away."""
    attempts: list[int] = []

    def call() -> str:
        attempts.append(len(attempts))
        if len(attempts) < 6:
            raise SessionLost("there is no such session")
        return "done"

    with stepped(server.url) as client:
        assert client._patiently(call) == "done"
