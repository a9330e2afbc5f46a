"""Group commit: what comes during a commit is one transaction, and each caller gets its answer."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from unittest.mock import patch

import pytest

import replay.storage.group
from replay import Client, EventType, Key
from replay.log import LostOwnership, Move
from replay.storage.database import (
    IdTaken,
    Insert,
    OutcomeUnknown,
    RolledBack,
    Statement,
    Step,
    Unavailable,
)
from replay.storage.group import Member
from replay.storage.tail import Alarm
from tests.support import Raw, cursor, raw, rows, stepped
from tests.test_interrupt import SPARSE, Interrupt, in_time

#: They count transactions.  Where nodes collide, one of them runs its transaction again.
pytestmark = pytest.mark.one_server

LIMIT = 20  # seconds until something that has to happen has not happened
Call = Callable[[], Any]


class Bell:
    """A semaphore that an interruption does not leave locked."""

    def __init__(self) -> None:
        self._rings: SimpleQueue[None] = SimpleQueue()

    def ring(self) -> None:
        """Let one `wait` return."""
        self._rings.put(None)

    def wait(self) -> None:
        """Wait for a ring."""
        self._rings.get(timeout=LIMIT)


class Resting(Alarm):
    """An alarm that tells when its thread waits, and so does not lead."""

    def __init__(self, rests: Callable[[], None]) -> None:
        super().__init__()
        self._rests = rests

    def wait(self, timeout: float | None) -> bool:
        """As in `Alarm`."""
        self._rests()
        return super().wait(timeout)


class Waiting(deque[Member]):
    """The members of a group that wait; it tells when one comes, and when that rests."""

    def __init__(self, came: Callable[[], None], rests: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self._came = came
        self._rests = rests

    def append(self, member: Member) -> None:
        """As in `deque`."""
        member.alarm = Resting(self._rests)
        super().append(member)
        self._came()


class Gathering:
    """Holds the first transaction while others gather, and notes the runs in each transaction.

    `fails` is raised instead of the second one; an `OutcomeUnknown` after it.
    """

    def __init__(self, client: Client, fails: Exception | None = None) -> None:
        self.transactions: list[str] = []
        self._client = client
        self._fails = fails
        self._held, self._go, self._came, self._rests = Bell(), Bell(), Bell(), Bell()
        self._write = client.log.database._write
        client.log.group._waiting = self.waiting()

    def waiting(self) -> Waiting:
        """A queue of the group of which this notes who comes and rests."""
        return Waiting(self._came.ring, self._rests.ring)

    def _noted(self, statements: Sequence[Statement], inserts: Sequence[Insert]) -> list[int]:
        place = {"replay_events": 3, "replay_signals": 2}
        names = [str(row[place[each.table]]) for each in inserts for row in each.rows]
        self.transactions.append("".join(names))
        number = len(self.transactions)
        if number == 1:
            self._held.ring()
            self._go.wait()
        if number == 2 and self._fails and not isinstance(self._fails, OutcomeUnknown):
            raise self._fails
        ids = self._write(statements, inserts)
        if number == 2 and self._fails:
            raise self._fails
        return ids

    def watch(self) -> None:
        """Note the transactions from now on."""
        self._client.log.database._write = self._noted  # type: ignore[method-assign]

    @contextmanager
    def during(self, first: Call) -> Iterator[None]:
        """Hold the first transaction in another thread while the block starts others."""
        self.watch()
        leader = aside(first)
        self._held.wait()
        self._came.wait()
        try:
            with patch.object(replay.storage.group, "_PATIENCE", LIMIT):  # so they come in order
                yield
        finally:
            self.release()
            assert answer(leader) is True

    def release(self) -> None:
        """Let the first transaction go on."""
        self._go.ring()

    def come(self, call: Call) -> Future[Any]:
        """Call it in a thread, and return when that waits: those that come first lead first."""
        found = aside(call)
        self._rests.wait()
        return found


def aside(call: Call) -> Future[Any]:
    """Call it in a thread."""
    found: Future[Any] = Future()

    def run() -> None:
        try:
            found.set_result(call())
        except BaseException as error:
            found.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return found


def answer(found: Future[Any]) -> Any:
    """What a call has returned, or the class of what it has raised."""
    error = found.exception(LIMIT)
    return found.result() if error is None else type(error)


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    """A client of an empty database."""
    with stepped(url) as made:
        yield made


def start(client: Client, run: str, message: object = None) -> Call:
    """What starts a run."""
    return lambda: client.run_workflow("n", "w", run, message)


def commit(client: Client, run: str, move: Move) -> Call:
    """What adds an event and moves a cursor, as a consumer does."""
    event = client.log.event(EventType.RUN_CREATED, Key("n", "w", run), None)
    return lambda: client.log.commit([event], move)


def together(client: Client, names: str, fails: Exception | None = None) -> tuple[Any, list[str]]:
    """Start run "x", and meanwhile those of `names`; their answers, and the transactions."""
    gathering = Gathering(client, fails)
    with gathering.during(start(client, "x")):
        waiting = [gathering.come(start(client, name)) for name in names]
    return [answer(each) for each in waiting], gathering.transactions


def stored(client: Client) -> str:
    """The runs that the log has, in order."""
    return "".join(event.key.run for event in client.stream(to_head=True))


def test_what_waits_is_one_transaction(client: Client) -> None:
    """L10: what comes during a commit is the next transaction, and is in the tail at once."""
    assert together(client, "abc") == ([True] * 3, ["x", "abc"])
    assert client.log.tail.end == client.log.newest()
    assert stored(client) == "xabc"


def test_signals_and_starts_are_one_transaction(client: Client) -> None:
    """L10, S1: signals gather as starts do, and those who take signals hear of them."""
    gathering = Gathering(client)

    def signal() -> bool:
        return client.signal_run("n", "w", "s", 1, None, "once")

    with gathering.during(start(client, "x")):
        waiting = [gathering.come(call) for call in (signal, start(client, "a"), signal)]
    assert [answer(each) for each in waiting] == [True, True, False]
    # Where a refused insert uses up no id, the last one finds out by it.
    refused = [] if client.log.database.loses_ids else ["s"]
    assert gathering.transactions == ["x", "sa", *refused]
    assert client.log.tail.signals == rows(client, "SELECT MAX(id) FROM replay_signals")[0][0]


def test_of_equal_starts_one_is_new(client: Client) -> None:
    """L10, R1, L2: the second finds what the first has stored.  No insert is refused."""
    assert together(client, "abbc") == ([True, True, False, True], ["x", "ab", "c"])
    assert stored(client) == "xabc"


def test_one_is_there_already(client: Client) -> None:
    """L10, R1: a run that was started before is no new one, and the others are."""
    assert client.run_workflow("n", "w", "b", None)
    assert together(client, "abc") == ([True, False, True], ["x", "ac"])
    assert stored(client) == "bxac"


@pytest.mark.parametrize("fails", [RolledBack("deadlock"), Unavailable("away"), IdTaken("taken")])
def test_a_group_that_fails_is_committed_one_by_one(client: Client, fails: Exception) -> None:
    """L10, P20: the database does not say whose statement it was, so each member goes alone."""
    answers, transactions = together(client, "abc", fails)
    assert answers == [True] * 3
    assert (transactions[:2], sorted(transactions[2:])) == (["x", "abc"], ["a", "b", "c"])
    assert sorted(stored(client)) == sorted("xabc")


def test_an_unknown_outcome_is_that_of_all(client: Client) -> None:
    """L10, R1: nothing is repeated: it may be there, and its own caller would hear that it was."""
    assert client.run_workflow("n", "w", "b", None)
    answers = [OutcomeUnknown, False, OutcomeUnknown]
    assert together(client, "abc", OutcomeUnknown("gone")) == (answers, ["x", "ac"])
    assert stored(client) == "bxac"


def test_each_has_its_own_fence(client: Client) -> None:
    """L10, L7: a consumer that has lost its name hears so, and nobody else."""
    log, gathering = client.log, Gathering(client)
    for name in ("good", "lost"):
        assert log.claim(name, 0) == 0
    log.database.query("UPDATE replay_cursors SET owner = 'another' WHERE id = 'lost'")
    come = gathering.come if log.database.one_writer else aside
    with gathering.during(start(client, "x")):
        calls = [commit(client, "a", Move("lost", 0, 1)), commit(client, "b", Move("good", 0, 1))]
        waiting = [*map(come, calls), gathering.come(start(client, "c"))]
    assert [answer(each) for each in waiting] == [LostOwnership, [True], True]
    assert sorted(stored(client)) == sorted("xbc")
    assert (cursor(client, "good")[0], cursor(client, "lost")[0]) == (1, 0)


def test_a_consumer_waits_for_no_group_on_a_server(server_url: str) -> None:
    """L10, L7: its commits stay on the connection that has its lock."""
    with stepped(server_url) as client:
        assert client.log.claim("c", 0) == 0
        gathering = Gathering(client)
        with gathering.during(start(client, "x")):
            assert answer(aside(commit(client, "a", Move("c", 0, 1)))) == [True]
        assert gathering.transactions == ["x", "a"]


def test_statements_of_a_user_hold_up_no_group(client: Client) -> None:
    """L10, V5: they may wait for a lock, so they are a transaction of their own."""
    assert client.log.claim("c", 0) == 0
    gathering, begun = Gathering(client), Bell()
    alone = client.log.group._commit_alone

    def noted(member: Member) -> bool:
        begun.ring()
        return alone(member)

    client.log.group._commit_alone = noted  # type: ignore[method-assign]
    step = Step("UPDATE replay_meta SET value = value WHERE name = 'x'")
    move = Move("c", 0, 1, steps={"n/w/s/0": [step]})
    with gathering.during(start(client, "x")):
        waiting = [aside(commit(client, "s", move)), gathering.come(start(client, "a"))]
        begun.wait()
    assert [answer(each) for each in waiting] == [[True], True]
    assert sorted(gathering.transactions) == ["a", "s", "x"]


def test_one_that_waits_for_a_lock_holds_up_nobody(server_url: str) -> None:
    """L10, P20: if it stays in the way of one member, the others are committed without it."""
    with stepped(server_url) as client, raw(server_url) as other:
        held: Raw = other
        held.run("BEGIN")
        held.add(Key("n", "w", "b"))
        gathering = Gathering(client)
        with gathering.during(start(client, "x")):
            stuck = gathering.come(start(client, "b"))
            free = gathering.come(start(client, "c"))
        assert answer(free) is True
        assert answer(aside(start(client, "d"))) is True
        held.run("COMMIT")
        assert answer(stuck) is False


def test_a_group_is_bounded_in_bytes(client: Client) -> None:
    """L10, L6: it takes what fits into 8 MiB; the rest is the next group."""
    gathering = Gathering(client)
    with gathering.during(start(client, "x")):
        calls = [start(client, name, "x" * (5 << 19)) for name in "abcd"]
        waiting = [gathering.come(call) for call in calls]
    assert [answer(each) for each in waiting] == [True] * 4
    assert gathering.transactions == ["x", "abc", "d"]


def passing(client: Client, name: str) -> Call:
    """Return a call that moves a cursor past a thousand events, and adds nothing."""
    assert client.log.claim(name, 0) == 0
    return lambda: client.log.commit([], Move(name, 0, 1000))


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Client]:
    """A client whose consumers share transactions, and of which another thread has committed."""
    with stepped(f"sqlite:///{tmp_path}/log.db") as made, ThreadPoolExecutor(1) as other:
        assert other.submit(start(made, "x")).result(LIMIT) is True
        yield made


def test_a_cursor_alone_goes_with_the_next_commit_of_a_consumer(patient: Client) -> None:
    """L10, P21: to sync it to disk by itself would cost as much as many events."""
    assert patient.log.claim("busy", 0) == 0
    gathering = Gathering(patient)
    patient.log.group._patient = gathering.waiting()
    gathering.release()
    with patch.object(replay.storage.group, "_PATIENCE", LIMIT):
        idle = [gathering.come(passing(patient, name)) for name in ("one", "two")]
        gathering.watch()
        assert start(patient, "a")() is True  # it commits for no consumer
        assert not any(each.done() for each in idle)
        assert commit(patient, "b", Move("busy", 0, 1))() == [True]
    assert [answer(each) for each in idle] == [[], []]
    assert gathering.transactions == ["a", "b"]
    assert [cursor(patient, name)[0] for name in ("one", "two", "busy")] == [1000, 1000, 1]


def test_a_cursor_alone_waits_only_a_moment(patient: Client) -> None:
    """L10, L5: if no commit comes, it is stored by itself."""
    gathering = Gathering(patient)
    gathering.release()
    passes = passing(patient, "idle")
    gathering.watch()
    with patch.object(replay.storage.group, "_PATIENCE", 0):
        assert passes() == []
    assert gathering.transactions == [""]
    assert cursor(patient, "idle")[0] == 1000


def test_a_cursor_alone_does_not_wait_for_its_own_thread(patient: Client) -> None:
    """L10: where one thread commits everything, nobody would come."""
    assert start(patient, "a")() is True
    patient.log.group._patient = Waiting(lambda: pytest.fail("it waits"))
    assert passing(patient, "idle")() == []
    assert cursor(patient, "idle")[0] == 1000


# PyMySQL leaves a socket to the garbage collector if it is interrupted where it opens one.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket")
def test_ctrl_c_in_the_leader_strands_nobody(client: Client) -> None:
    """L10, P1: wherever it comes, who waited has an answer, and it is right."""
    group, told = client.log.group, set[str]()
    interrupted, number = True, 0
    while interrupted:
        number += 1 if client.log.database.one_writer else SPARSE
        came = Bell()
        group._waiting = Waiting(came.ring)
        with group._lead:
            follower = aside(start(client, f"f{number}"))
            came.wait()
        with in_time():
            interrupted = Interrupt(number).during(start(client, f"l{number}"))
        found = answer(follower)
        assert found in (True, OutcomeUnknown)
        if found is True:
            told.add(f"f{number}")
    runs = [event.key.run for event in client.stream(to_head=True)]
    assert len(runs) == len(set(runs))
    assert told <= set(runs)


def test_ctrl_c_in_one_that_is_patient_strands_nobody(patient: Client) -> None:
    """L10, P1: wherever it comes, the next one to commit is not held up, and commits."""
    interrupted, number, other = True, 0, patient.log.group._led
    with patch.object(replay.storage.group, "_PATIENCE", 0.001):
        while interrupted:
            number += 1
            patient.log.group._led = other
            passes = passing(patient, f"c{number}")
            with in_time():
                interrupted = Interrupt(number).during(passes)
            assert not patient.log.group._patient
            assert answer(aside(start(patient, f"x{number}"))) is True


def test_ctrl_c_in_a_follower_strands_nobody(client: Client) -> None:
    """L10, P1: one that goes away before its turn, or in it, leaves the turn to the next."""
    interrupted, number = True, 0
    while interrupted:
        number += 1 if client.log.database.one_writer else SPARSE
        gathering = Gathering(client)
        with gathering.during(start(client, f"x{number}")):
            follower = gathering.come(start(client, f"f{number}"))
            client.log.group._waiting._came = gathering.release  # type: ignore[attr-defined]
            with in_time():
                interrupted = Interrupt(number).during(start(client, f"i{number}"))
        assert answer(follower) in (True, OutcomeUnknown)
        assert client.run_workflow("n", "w", f"y{number}", None)
        client.log.database._write = gathering._write  # type: ignore[method-assign]
