"""The log's contract, the same on every database."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pymysql
import pytest

from replay import (
    Client,
    Event,
    EventType,
    Key,
    RunContext,
    connect,
    register_activity,
    register_workflow,
)
from replay.client import consume
from replay.log import LostOwnership, Move, Parked, first_gap
from replay.storage.database import (
    DatabaseError,
    Insert,
    OutcomeUnknown,
    Statement,
    Unavailable,
    to_text,
)
from replay.storage.tail import BATCH
from tests.example_pb2 import Int
from tests.support import Clock, Faults, Raw, crash, cursor, drain, listing, raw, rows, stepped

pytestmark = pytest.mark.damages
PATIENCE = 60.0
CREATED, COMPLETED = EventType.RUN_CREATED, EventType.RUN_COMPLETED
OUTPUT, REQUEST, RESPONSE = (
    EventType.RUN_OUTPUT,
    EventType.ACTIVITY_REQUEST,
    EventType.ACTIVITY_RESPONSE,
)


def run(name: str, *place: Any) -> Key:
    """A run's key, with iteration, target and sequence if they are given."""
    return Key("n", "w", name, *place)


def made(client: Client, *names: str) -> list[Event]:
    """Created events of these runs, not stored yet."""
    return [client.log.event(CREATED, run(name)) for name in names]


def names(events: Sequence[Event]) -> list[str]:
    """The runs of events, without no-ops."""
    return [event.key.run for event in events if event.type is not EventType.NOOP]


class Reader:
    """Reads a log to its end whenever it is told to look, and checks that ids only grow."""

    def __init__(self, client: Client) -> None:
        self.log = client.log
        self.position = 0

    def look(self) -> list[str]:
        """The runs of the events that have come since the last look."""
        self.log.poll()
        seen: list[Event] = []
        while found := self.log.read(self.position):
            assert [event.id for event in found] == sorted({event.id for event in found})
            assert found[0].id > self.position
            self.position = found[-1].id
            seen += found
        return names(seen)


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


@pytest.fixture
def client(url: str, clock: Clock) -> Iterator[Client]:
    """A client of an empty database."""
    with stepped(url, clock) as made:
        yield made


@pytest.fixture
def second(client: Client, url: str, clock: Clock) -> Iterator[Client]:
    """Another process's client of the same database."""
    with stepped(url, clock) as made:
        yield made


@pytest.fixture
def other(client: Client, url: str) -> Iterator[Raw]:
    """Another program's connection to the same database."""
    with raw(url) as connection:
        yield connection


# L1: reading.


def test_all_readers_see_one_order(client: Client, second: Client) -> None:
    """L1: whoever writes, every reader is given the same events in the order of their ids."""
    readers = [Reader(client), Reader(second)]
    for number in range(6):
        writer = (client, second)[number % 2]
        assert writer.log.append(made(writer, f"r{number}")[0])
    seen = [reader.look() for reader in readers]
    assert seen == [[f"r{number}" for number in range(6)]] * 2
    assert [reader.look() for reader in readers] == [[], []]


def test_an_open_transaction_is_not_seen_until_it_commits(client: Client, other: Raw) -> None:
    """L1: an event is given out when it is committed, from the first one of an empty log on."""
    reader = Reader(client)
    for name in ("a", "b"):
        other.run("BEGIN")
        other.add(run(name))
        assert reader.look() == []
        other.run("COMMIT")
        assert reader.look() == [name]


def test_a_rolled_back_id_stalls_nobody(client: Client, second: Client, other: Raw) -> None:
    """L1, P2: the event behind a burnt id is given out at the first look, in an empty log too."""
    reader, late = Reader(client), Reader(second)
    for number in range(3):
        other.run("BEGIN")
        other.add(run("never"))
        other.run("ROLLBACK")
        client.run_workflow("n", "w", f"r{number}", None)
        assert reader.look() == [f"r{number}"]
    assert late.look() == ["r0", "r1", "r2"]
    assert listing(second) == [f"RUN_CREATED n/w/r{number}/0 -" for number in range(3)]


def test_a_gap_is_fenced_for_ever(client: Client, second: Client, other: Raw) -> None:
    """L1, L3: missing ids are taken by no-ops, which nobody is given, so no row can come late."""
    reader = Reader(client)
    other.add(run("a"), id=4)
    assert reader.look() == ["a"]
    other.add(run("b"), id=7)
    assert Reader(second).look() == ["a", "b"]
    assert reader.look() == ["b"]
    stored = rows(client, "SELECT id, type, `key`, iteration, run FROM replay_events ORDER BY id")
    fences = {id: (id, 0, f"replay_noop/{id}", 0, None) for id in (1, 2, 3, 5, 6)}
    events = {4: (4, 1, "n/w/a/0", 0, "a"), 7: (7, 1, "n/w/b/0", 0, "b")}
    assert stored == [row for _, row in sorted((fences | events).items())]
    with pytest.raises(Exception, match=r"(?i)unique|duplicate"):
        other.add(run("late"), id=2)
    assert listing(client) == ["RUN_CREATED n/w/a/0 -", "RUN_CREATED n/w/b/0 -"]


def test_a_gap_of_many_ids_is_passed(client: Client, other: Raw) -> None:
    """L1: a gap larger than what is read at a time costs some rounds, and no event."""
    other.add(run("a"))
    other.add(run("b"), id=2 * BATCH + 500)
    assert Reader(client).look() == ["a", "b"]


def test_an_event_that_comes_into_a_gap_while_it_is_fenced(
    client: Client, other: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L1: who fences a gap and finds part of it used loses neither that nor the rest."""
    fence: Callable[..., bool] = client.log.database.fence
    late = iter([2])

    def fence_late(*arguments: Any) -> bool:
        for id in late:
            other.add(run("late"), id=id)
        return fence(*arguments)

    monkeypatch.setattr(client.log.database, "fence", fence_late)
    other.add(run("last"), id=4)
    reader = Reader(client)
    seen = [reader.look() for _ in range(3)]
    assert [name for look in seen for name in look] == ["late", "last"]


@pytest.mark.parametrize(
    ("after", "ids", "gap"),
    [
        (0, [], None),
        (0, [1, 2, 3], None),
        (5, [6], None),
        (0, [3], range(1, 3)),
        (0, [1, 2, 5, 9], range(3, 5)),
        (5, [7, 8], range(6, 7)),
    ],
)
def test_the_first_gap(after: int, ids: list[int], gap: range | None) -> None:
    """L1: the first missing ids, also right behind where reading begins."""
    assert first_gap(after, ids) == gap


@pytest.mark.one_server
def test_a_transaction_that_commits_late_is_waited_for(server_url: str) -> None:
    """L1, P14: nothing behind the id of an open transaction is given out, from an empty log on."""
    with stepped(server_url) as client, raw(server_url) as other:
        reader = Reader(client)
        other.run("BEGIN")
        other.add(run("late"))
        client.run_workflow("n", "w", "early", None)
        assert reader.look() == []
        other.run("COMMIT")
        assert reader.look() == ["late", "early"]


@pytest.mark.one_server
def test_a_reader_stops_before_an_open_transaction(server_url: str) -> None:
    """L1, P14: what is in front of the id of an open transaction is given out; if it is rolled
    back, what is behind it follows."""
    with stepped(server_url) as client, stepped(server_url) as second, raw(server_url) as other:
        reader = Reader(second)
        client.run_workflow("n", "w", "a", None)
        other.run("BEGIN")
        other.add(run("never"))
        client.run_workflow("n", "w", "b", None)
        assert reader.look() == ["a"]
        other.run("ROLLBACK")
        assert reader.look() == ["b"]
        assert listing(client) == ["RUN_CREATED n/w/a/0 -", "RUN_CREATED n/w/b/0 -"]


@pytest.mark.one_server
def test_who_connects_during_a_late_transaction(server_url: str) -> None:
    """L1, P14: a process that starts while a smaller id than the newest is open waits for it."""
    with stepped(server_url) as client, raw(server_url) as other:
        client.run_workflow("n", "w", "a", None)
        other.run("BEGIN")
        other.add(run("late"))
        client.run_workflow("n", "w", "b", None)
        with stepped(server_url) as second:
            reader = Reader(second)
            assert reader.look() == ["a"]
            second.run_workflow("n", "w", "c", None)
            other.run("COMMIT")
            assert reader.look() == ["late", "b", "c"]


@pytest.mark.one_server
def test_what_commits_late_reaches_those_who_already_wait(server_url: str) -> None:
    """L1, P1: in a process that started meanwhile, too, a late event comes to who waits for it."""
    with stepped(server_url) as client, raw(server_url) as other:
        client.run_workflow("n", "w", "r", None)
        other.run("BEGIN")
        other.add(run("r"), COMPLETED)
        client.run_workflow("n", "w", "b", None)
        with stepped(server_url) as second:
            position = second.log.tail.end
            assert second.log.last_iteration("n", "w", "r") == (0, -1)
            other.run("COMMIT")
            assert second.log.poll()
            came = second.log.tail.slice(position, BATCH) or []
            assert COMPLETED in [event.type for event in came if event.key == run("r")]


@pytest.mark.one_server
def test_many_writers_and_rolled_back_transactions(url: str) -> None:
    """L1, P14: a reader beside four writers, some of whose transactions are rolled back, is given
    all that was committed, once, in the order of ids."""
    each = 40

    def write(writer: int) -> None:
        dice = random.Random(writer)
        with stepped(url) as client, raw(url) as other:
            for number in range(each):
                if dice.random() < 0.3:
                    with contextlib.suppress(pymysql.err.OperationalError):
                        other.run("BEGIN")
                        other.add(run(f"never{writer}.{number}"))
                    other.run("ROLLBACK")
                client.log.commit(made(client, f"{writer}.{number}", f"{writer}.{number}+"))

    with stepped(url) as client:
        threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
        for thread in threads:
            thread.start()
        reader, seen = Reader(client), list[str]()
        while any(thread.is_alive() for thread in threads):
            seen += reader.look()
        seen += reader.look()
        table = rows(client, "SELECT run FROM replay_events WHERE type = 1 ORDER BY id")
    assert seen == [name for (name,) in table]
    expected = [f"{w}.{n}{end}" for w in range(4) for n in range(each) for end in ("", "+")]
    assert sorted(seen) == sorted(expected)


def test_rows_of_another_program_that_cannot_be_read(
    client: Client, other: Raw, caplog: pytest.LogCaptureFixture
) -> None:
    """L5: a row with an unknown type or a broken key is passed over with a warning."""
    other.add(run("a"))
    other.add(run("b"))
    other.run("UPDATE replay_events SET `key` = 'nonsense' WHERE id = 2")
    other.add(run("c"), type=9)
    other.add(run("d"))
    assert Reader(client).look() == ["a", "d"]
    assert [line for line in caplog.messages if "unreadable" in line] == [
        "replay_events row 2 is unreadable and passed over: 'nonsense' is not the key of an event",
        "replay_events row 3 is unreadable and passed over: its type is 9",
    ]


def test_an_event_can_be_had_by_its_id(client: Client) -> None:
    """One event, or None."""
    client.run_workflow("n", "w", "r", Int(value=5))
    event = client.log.get(1)
    assert event is not None
    assert (event.id, event.type, event.key, event.message) == (1, CREATED, run("r"), Int(value=5))
    assert client.log.get(2) is None


def test_an_event_bears_the_time_of_its_commit(client: Client, clock: Clock) -> None:
    """One clock: all events of a commit bear the time of it, in memory and in the database."""
    clock.forward(milliseconds=123)
    events = made(client, "a", "b")
    client.log.commit(events)
    assert [event.timestamp for event in events] == [clock.now] * 2
    assert [event.timestamp for event in client.stream(to_head=True)] == [clock.now] * 2


# L2: an event is unique.


def test_a_second_insert_changes_nothing(client: Client, second: Client) -> None:
    """L2: an event is unique by type and key, whoever adds it, and says so."""
    first = client.log.event(CREATED, run("r"), Int(value=1))
    again = second.log.event(CREATED, run("r"), Int(value=2))
    assert client.log.commit([first]) == [True]
    assert client.log.commit([again]) == [False]
    assert second.log.commit([again]) == [False]
    assert not second.log.append(again)
    assert second.log.append(second.log.event(COMPLETED, run("r")))
    assert listing(client) == ["RUN_CREATED n/w/r/0 value: 1", "RUN_COMPLETED n/w/r/0 -"]


def test_a_duplicate_costs_no_id_when_asked_first(client: Client, second: Client) -> None:
    """L2: starting runs again burns no id."""
    for name in ("a", "a", "b", "a", "b", "c"):
        client.run_workflow("n", "w", name, None)
        second.run_workflow("n", "w", name, None)
    assert rows(client, "SELECT id, run FROM replay_events ORDER BY id") == [
        (1, "a"),
        (2, "b"),
        (3, "c"),
    ]


def test_duplicates_within_one_batch(client: Client) -> None:
    """L2: of equal events in one commit the first is stored."""
    a, b = client.log.event(CREATED, run("a"), Int(value=1)), made(client, "b")[0]
    again = client.log.event(CREATED, run("a"), Int(value=2))
    assert client.log.commit([a, again, b, b]) == [True, False, True, False]
    assert client.log.commit([again, *made(client, "c"), b]) == [False, True, False]
    assert listing(client) == [
        "RUN_CREATED n/w/a/0 value: 1",
        "RUN_CREATED n/w/b/0 -",
        "RUN_CREATED n/w/c/0 -",
    ]


def test_a_commit_of_duplicates_only(client: Client) -> None:
    """L2: a commit that adds nothing is none."""
    client.log.commit(made(client, "a", "b"))
    assert client.log.commit(made(client, "b", "a")) == [False, False]
    assert client.log.commit([]) == []
    assert names(list(client.stream(to_head=True))) == ["a", "b"]


def test_a_large_commit_with_some_duplicates(client: Client) -> None:
    """L2: duplicates are found among more rows than one statement holds, and ids are right."""
    client.log.commit(made(client, *(f"r{n}" for n in range(0, 1300, 100))))
    events = made(client, *(f"r{n}" for n in range(1300)))
    assert client.log.commit(events) == [n % 100 != 0 for n in range(1300)]
    stored = dict(rows(client, "SELECT run, id FROM replay_events WHERE type = 1"))
    added = [event for event in events if event.id]
    assert len(added) == 1287
    assert all(stored[event.key.run] == event.id for event in added)


@pytest.mark.one_server
@pytest.mark.parametrize("ending", ["COMMIT", "ROLLBACK"])
def test_the_same_event_in_an_open_transaction(
    client: Client, other: Raw, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L2, R1: who adds what an open transaction has added waits, and is told what came of it."""
    entered, write = threading.Event(), client.log.database._write
    answers: list[bool] = []

    def note(*arguments: Any) -> list[int]:
        entered.set()
        return write(*arguments)

    def add() -> None:
        answers.append(client.run_workflow("n", "w", "r", None))
        client.log.database.release()

    monkeypatch.setattr(client.log.database, "_write", note)
    other.run("BEGIN")
    other.add(run("r"))
    adder = threading.Thread(target=add)
    adder.start()
    assert entered.wait(PATIENCE)
    other.run(ending)
    adder.join(PATIENCE)
    assert answers == [ending == "ROLLBACK"]
    assert listing(client) == ["RUN_CREATED n/w/r/0 -"]


def test_many_add_the_same_event(url: str) -> None:
    """L2, R1: of many who start the same runs at the same time exactly one is told yes."""
    ready, answers = threading.Barrier(5), list[list[bool]]()

    def start() -> None:
        with stepped(url) as client:
            ready.wait(PATIENCE)
            answers.append([client.run_workflow("n", "w", f"r{n}", None) for n in range(20)])

    with stepped(url) as client:
        threads = [threading.Thread(target=start) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert [sum(told) for told in zip(*answers, strict=True)] == [1] * 20
        assert len(listing(client)) == 20


# L6: an event's effects and the cursor are one transaction.


def state(client: Client) -> list[Any]:
    """All that a commit can change."""
    return [
        listing(client),
        rows(client, "SELECT last_event_id FROM replay_cursors WHERE id = 'c'"),
        rows(client, "SELECT event_id, attempts FROM replay_parked ORDER BY event_id"),
        rows(client, "SELECT `key` FROM replay_sleeps"),
    ]


def move(client: Client, old: int, new: int, *also: Statement) -> Move:
    """A move of the consumer c that changes everything a move can."""
    parked = Parked(new, "n/w/r/0", 1, client.log.database.now(), "error")
    row = (f"n/w/r/0/replay_sleep/{new}", *["2030-01-01 00:00:00.000"] * 2, 0)
    columns = "`key`, created_at, complete_at, completed"
    sleeps = client.log.database.insert_missing("replay_sleeps", columns, [row])
    return Move("c", old, new, [parked], [old], [*sleeps, *also])


def test_events_and_cursor_are_one_transaction(client: Client) -> None:
    """L6: a commit stores its events, the cursor and the consumer's rows; the next one goes on."""
    assert client.log.claim("c", 0) == 0
    assert client.log.commit(made(client, "a"), move(client, 0, 5)) == [True]
    sleep = "n/w/r/0/replay_sleep"
    assert state(client) == [["RUN_CREATED n/w/a/0 -"], [(5,)], [(5, 1)], [(f"{sleep}/5",)]]
    assert client.log.commit(made(client, "a", "b"), move(client, 5, 6)) == [False, True]
    assert state(client) == [
        ["RUN_CREATED n/w/a/0 -", "RUN_CREATED n/w/b/0 -"],
        [(6,)],
        [(6, 1)],
        [(f"{sleep}/5",), (f"{sleep}/6",)],
    ]


def test_a_commit_from_another_place_stores_nothing(client: Client) -> None:
    """L6, L7: a commit whose cursor is not where the consumer left it is refused whole."""
    client.log.claim("c", 0)
    client.log.commit(made(client, "a"), move(client, 0, 5))
    before = state(client)
    for old in (0, 4, 6):
        with pytest.raises(
            LostOwnership, match="consumer c is owned by another process, or was reset"
        ):
            client.log.commit(made(client, "b"), move(client, old, 9))
    assert state(client) == before


def test_a_commit_without_a_claim_stores_nothing(client: Client, second: Client) -> None:
    """L6, L7: who never owned the name cannot move its cursor, nor add events with that."""
    client.log.claim("c", 0)
    before = state(client)
    with pytest.raises(LostOwnership):
        second.log.commit(made(second, "b"), move(second, 0, 9))
    with pytest.raises(LostOwnership):
        second.log.commit(made(second, "b"), Move("unknown", 0, 9))
    assert state(client) == before


def test_a_commit_that_fails_in_the_middle_stores_nothing(client: Client) -> None:
    """L6: an error after the cursor was moved and rows were written takes all of it back."""
    client.log.claim("c", 0)
    before = state(client)
    broken = Statement("UPDATE replay_nowhere SET x = 1")
    with pytest.raises(DatabaseError):
        client.log.commit(made(client, "a"), move(client, 0, 5, broken))
    assert state(client) == before
    assert client.log.commit(made(client, "a"), move(client, 0, 5)) == [True]


@pytest.mark.parametrize("stored", [False, True])
def test_a_connection_lost_in_a_commit(client: Client, stored: bool) -> None:
    """L6: a commit of unknown outcome was stored whole or not at all, as the cursor then says."""
    client.log.claim("c", 0)
    faults = Faults(client.log.database)
    before = state(client)
    faults.before, faults.after = (0, 1) if stored else (1, 0)
    with pytest.raises(OutcomeUnknown if stored else Unavailable):
        client.log.commit(made(client, "a"), move(client, 0, 5))
    if not stored:
        assert state(client) == before
        client.log.commit(made(client, "a"), move(client, 0, 5))
    sleep = "n/w/r/0/replay_sleep"
    assert state(client) == [["RUN_CREATED n/w/a/0 -"], [(5,)], [(5, 1)], [(f"{sleep}/5",)]]


# L8: names compare exactly.

LOOK_ALIKES = [
    "Case",
    "case",
    "CASE",
    "e",
    "é",
    "e\u0301",
    "ß",
    "ss",
    "a b",
    "ab",
    "a  b",
    "\u200b",
]


def test_names_that_look_alike_are_different(client: Client) -> None:
    """L8: case, accents and spaces tell runs, workflows and namespaces apart."""
    keys = [Key(name, "w", "r") for name in LOOK_ALIKES]
    keys += [Key("n", name, "r") for name in LOOK_ALIKES]
    keys += [Key("n", "w", name) for name in LOOK_ALIKES]
    for key in keys:
        assert client.run_workflow(*key[:3], None), key
        assert not client.run_workflow(*key[:3], None), key
    assert [event.key for event in client.stream(to_head=True)] == keys
    for name in LOOK_ALIKES:
        assert listing(client, "n", "w", name) == [f"RUN_CREATED n/w/{name}/0 -"]
        assert [str(event.key) for event in client.log.history(run(name))] == [f"n/w/{name}/0"]
        assert client.log.last_iteration("n", "w", name) == (0, -1)


def test_targets_that_look_alike_are_different(client: Client) -> None:
    """L8: so they do for activities and outputs, in one commit too."""
    keys = [run("r", 0, name, "0") for name in LOOK_ALIKES]
    events = [client.log.event(REQUEST, key) for key in keys]
    assert client.log.commit([*events, *events]) == [True] * len(keys) + [False] * len(keys)
    assert client.log.among(REQUEST, keys) == {str(key) for key in keys}
    assert not client.log.exists(REQUEST, run("r", 0, "cASE", "0"))


def test_trailing_spaces_count(client: Client, other: Raw) -> None:
    """L8, P8: names with trailing spaces, which another system stored, are other names."""
    for name in ("r", "r ", "r  "):
        other.add(run(name))
        other.add(run(name), COMPLETED)
    assert [event.key.run for event in client.log.history(run("r"))] == ["r", "r"]
    assert [event.key.run for event in client.log.history(run("r "))] == ["r ", "r "]
    other.add(run("r ", 1))
    other.add(run("x "))
    assert client.log.last_iteration("n", "w", "r") == (0, 0)
    assert client.log.last_iteration("n", "w", "x") == (-1, -1)
    assert not client.log.exists(CREATED, run("x"))
    assert client.run_workflow("n", "w", "x", None)


def test_consumers_that_look_alike_are_different(client: Client, second: Client) -> None:
    """L8: so they do for the names of cursors."""
    for number, name in enumerate(LOOK_ALIKES):
        assert client.log.claim(name, 0) == 0
        client.log.commit([], Move(name, 0, number + 1))
        client.log.release(name, number + 1, number + 1)
    assert [second.log.claim(name, 0) for name in LOOK_ALIKES] == [
        number + 1 for number in range(len(LOOK_ALIKES))
    ]


# Append-only.


def forbid_changes(other: Raw, url: str) -> None:
    """Have the database refuse to change or remove an event."""
    sqlite = url.startswith("sqlite")
    refuse = (
        "BEGIN SELECT RAISE(ABORT, 'append-only'); END"
        if sqlite
        else "FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'append-only'"
    )
    for action in ("UPDATE", "DELETE"):
        other.run(f"CREATE TRIGGER no_{action} BEFORE {action} ON replay_events {refuse}")
    other.add(run("probe"))
    for attempt in ("UPDATE replay_events SET iteration = 5", "DELETE FROM replay_events"):
        with pytest.raises(Exception, match="append-only"):
            other.run(attempt)


def register_mixed(client: Client) -> None:
    """Register a workflow that uses everything, its activity, and a consumer."""
    failed: list[Int] = []

    def double(ctx: object, backends: object, message: Int) -> Int:
        if not failed:
            failed.append(message)
            raise ValueError("once")
        return Int(value=2 * message.value)

    def mixed(ctx: RunContext, message: Int) -> None:
        doubled = ctx.exec_activity(double, message)
        ctx.emit_output("doubled", doubled)
        ctx.sleep(timedelta(seconds=1))
        if message.value < 3:
            ctx.restart(Int(value=message.value + 1))
        ctx.await_signal(1, timedelta(hours=1))
        ctx.await_signal(1, timedelta(seconds=1))

    register_workflow(client, "n", mixed, start=False)
    register_activity(client, "n", double, start=False)
    consume(client, "all", lambda event: None, start=False)


def mixed_events(iteration: int) -> list[str]:
    """What an iteration of it adds before it waits for a signal or restarts."""
    key, value = f"n/mixed/r/{iteration}", iteration + 2
    return [
        f"RUN_CREATED {key} value: {value}",
        f"ACTIVITY_REQUEST {key}/double/0 value: {value}",
        f"ACTIVITY_RESPONSE {key}/double/0 value: {2 * value}",
        f"RUN_OUTPUT {key}/doubled/0 value: {2 * value}",
        f"ACTIVITY_REQUEST {key}/replay_sleep/0 duration {{ seconds: 1 }}",
        f"ACTIVITY_RESPONSE {key}/replay_sleep/0",
    ]


def test_nothing_changes_or_removes_an_event(
    client: Client, other: Raw, url: str, clock: Clock
) -> None:
    """L1, P22: with a database that refuses to change or remove events everything still works."""
    forbid_changes(other, url)
    register_mixed(client)
    consumers = [*client._consumers.values(), *client.loops()]
    assert client.run_workflow("n", "mixed", "r", Int(value=2))
    assert client.signal_run("n", "mixed", "r", 1, Int(value=7), "x")
    other.run("BEGIN")
    other.add(run("never"))
    other.run("ROLLBACK")
    for _ in range(12):
        drain(*consumers)
        clock.forward(seconds=1)
        assert not client.run_workflow("n", "mixed", "r", Int(value=2))
        assert client.log.commit(made(client, "probe")) == [False]
    key = "n/mixed/r/1"
    assert listing(client) == [
        "RUN_CREATED n/w/probe/0 -",
        *mixed_events(0),
        "RUN_COMPLETED n/mixed/r/0 -",
        *mixed_events(1),
        f"ACTIVITY_REQUEST {key}/replay_signal/1:0 duration {{ seconds: 3600 }}",
        f"ACTIVITY_RESPONSE {key}/replay_signal/1:0 value: 7",
        f"ACTIVITY_REQUEST {key}/replay_signal/1:1 duration {{ seconds: 1 }}",
        f"ACTIVITY_RESPONSE {key}/replay_signal/1:1",
        f"RUN_COMPLETED {key} -",
    ]


# What consumers ask of the log.


def test_the_history_of_an_iteration(client: Client) -> None:
    """R6, P10: one iteration's events in order, in one query; only inputs come with messages."""
    place, log = run("r", 1, "act", "0"), client.log
    log.commit([log.event(CREATED, run("r"), Int(value=1)), log.event(COMPLETED, run("r"))])
    log.commit(
        [
            log.event(CREATED, run("r", 1), Int(value=2)),
            log.event(REQUEST, place, Int(value=3)),
            log.event(OUTPUT, place, Int(value=4)),
            log.event(RESPONSE, place, Int(value=5)),
            log.event(CREATED, run("another", 1), Int(value=6)),
            log.event(COMPLETED, run("r", 1)),
        ]
    )
    assert [(e.type, e.key, e.message) for e in log.history(place)] == [
        (CREATED, run("r", 1), Int(value=2)),
        (REQUEST, place, None),
        (OUTPUT, place, None),
        (RESPONSE, place, Int(value=5)),
        (COMPLETED, run("r", 1), None),
    ]
    assert [str(event.key) for event in log.history(run("r"))] == ["n/w/r/0"] * 2
    assert log.history(run("r", 2)) == []


def test_the_last_iteration(client: Client) -> None:
    """R6: the newest iteration that began, and the newest that ended."""
    log = client.log
    steps = [(CREATED, 0), (COMPLETED, 0), (CREATED, 1), (COMPLETED, 1)]
    seen = [log.last_iteration("n", "w", "r")]
    for type, iteration in steps:
        log.append(log.event(type, run("r", iteration)))
        seen.append(log.last_iteration("n", "w", "r"))
    assert seen == [(-1, -1), (0, -1), (0, 0), (1, 0), (1, 1)]
    assert log.last_iteration("n", "w", "another") == (-1, -1)


def test_which_of_many_keys_the_log_has(client: Client) -> None:
    """A4: many keys are looked up at once, by exact type."""
    keys = [run(f"r{number}", 0, "act", "0") for number in range(1200)]
    client.log.commit([client.log.event(REQUEST, key) for key in keys[::2]])
    assert client.log.among(REQUEST, keys) == {str(key) for key in keys[::2]}
    assert client.log.among(RESPONSE, keys) == set()
    assert client.log.among(REQUEST, []) == set()
    assert client.log.exists(REQUEST, keys[0])
    assert not client.log.exists(REQUEST, keys[1])


def test_which_requests_have_an_answer(client: Client, url: str) -> None:
    """A4: by the database for what was there before, else by the events in memory."""
    log = client.log
    keys = [run("r", 0, "act", str(number)) for number in range(4)]
    requests = [log.event(REQUEST, key) for key in keys]
    log.commit(requests)
    answers = [*keys[1::2], run("another", 0, "act", "0")]
    log.commit([log.event(RESPONSE, key) for key in answers])
    first = requests[0].id
    with stepped(url) as late:
        assert late.log.tail.slice(first, 1) is None
        for each, known_up_to in ((log, 0), (log, first), (late.log, 0), (late.log, first)):
            assert each.answered(requests, known_up_to) == {keys[1], keys[3]}
            assert each.answered(requests[:1], known_up_to) == set()
            assert each.answered([], known_up_to) == set()


def test_own_commits_are_in_memory_without_being_read(
    client: Client, second: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P21: what a process has committed it need not read back; what others have, it reads."""
    second.run_workflow("n", "w", "a", None)
    assert client.log.poll()
    events = made(client, "b", "c")
    client.log.commit(events)
    monkeypatch.setattr(client.log, "_read", lambda *_: pytest.fail("read back"))
    assert client.log.read(1) == events
    assert not client.log.poll()


# What is parked.


def parked(event_id: int, attempts: int = 1, error: str = "error") -> Parked:
    """An event parked."""
    return Parked(event_id, f"n/w/r{event_id}/0", attempts, Clock().now, error)


def test_what_is_set_aside_is_stored_with_the_cursor(client: Client, second: Client) -> None:
    """A2: rows of a consumer come, change and go with its commits, and others can list them."""
    log = client.log
    log.claim("c", 0)
    log.claim("d", 0)
    log.commit([], Move("c", 0, 1, [parked(7), parked(3, error="é" * 3999)]))
    log.commit([], Move("d", 0, 1, [parked(7, 9)]))
    assert list(second.log.parked("c")) == [parked(3, error="é" * 3999), parked(7)]
    log.commit([], Move("c", 1, 2, [parked(7, 2, "again")], [3]))
    assert list(second.log.parked("c")) == [parked(7, 2, "again")]
    assert list(second.log.parked("d")) == [parked(7, 9)]
    assert list(second.log.parked("C")) == []


def test_many_are_set_aside_at_once(client: Client) -> None:
    """A2: more rows than one statement holds are stored and taken away."""
    many = [parked(number) for number in range(1, 1201)]
    client.log.claim("c", 0)
    client.log.commit([], Move("c", 0, 1, many))
    assert list(client.log.parked("c")) == many
    client.log.commit([], Move("c", 1, 2, [], [each.event_id for each in many[:-1]]))
    assert list(client.log.parked("c")) == many[-1:]


# L7: who owns a name.


def _on_node(number: int, name: str, wait: float) -> str:
    return f"node{number}"


def apart(*clients: Client) -> None:
    """Have locks say nothing between these clients, as on different nodes of a cluster."""
    for number, client in enumerate(clients):
        client.log.database.lock = partial(_on_node, number)  # type: ignore[method-assign]
        client.log.database.unlock = lambda name: None  # type: ignore[method-assign]


def test_a_name_has_one_owner(client: Client, second: Client) -> None:
    """L7: others are told no while the owner lives, and have the name when it gives it up."""
    assert client.log.claim("c", 0) == 0
    assert client.log.claim("c", 0) == 0
    assert second.log.claim("c", 0) is None
    client.log.commit([], Move("c", 0, 4))
    client.log.release("c", 4, 6)
    assert second.log.claim("c", 0) == 6
    assert client.log.claim("c", 0) is None
    assert second.log.claim("another", 0) == 0


def test_a_name_without_owner_keeps_its_place(client: Client, other: Raw) -> None:
    """L5: a cursor that another system wrote, without owner and lease, is taken as it is."""
    other.run(
        "INSERT INTO replay_cursors (id, last_event_id, updated_at)"
        " VALUES ('c', 17, '2029-01-01 00:00:00.000')"
    )
    assert client.log.claim("c", 0) == 17


def test_the_name_of_a_killed_process_is_free(client: Client, second: Client) -> None:
    """L7: a process's death frees its names, though their lease has not run out."""
    client.log.claim("c", 0)
    client.log.commit([], Move("c", 0, 4))
    assert second.log.claim("c", 0) is None
    crash(client)
    assert second.log.claim("c", 10) == 4
    assert cursor(second, "c")[0] == 4


def test_only_the_owner_gives_a_name_up(client: Client, second: Client) -> None:
    """L7: giving up what one does not own, or has moved on since, changes nothing."""
    client.log.claim("c", 0)
    second.log.release("c", 0, 9)
    client.log.release("c", 3, 9)
    assert cursor(client, "c")[0] == 0
    assert cursor(client, "c")[1] != ""


def test_where_locks_say_nothing_the_lease_decides(
    client: Client, second: Client, clock: Clock
) -> None:
    """L7: a name of another node is free when its lease has run out, and not before; then its old
    owner stores nothing any more."""
    apart(client, second)
    client.log.claim("c", 0)
    clock.forward(seconds=9.999)
    assert second.log.claim("c", 0) is None
    clock.forward(seconds=0.001)
    assert second.log.claim("c", 0) == 0
    assert second.log.commit(made(second, "a"), Move("c", 0, 1)) == [True]
    for old in (0, 1):
        with pytest.raises(LostOwnership):
            client.log.commit(made(client, "b"), Move("c", old, 2))
    assert client.log.claim("c", 0) is None
    assert listing(client) == ["RUN_CREATED n/w/a/0 -"]


def test_a_lock_that_is_held_by_the_dead_does_not_outlast_the_lease(
    client: Client, second: Client, clock: Clock
) -> None:
    """L7, P15: a name whose owner's connection is half open is taken over when its lease has run
    out; the owner that wakes up can write nothing, nor take the name back."""
    client.log.claim("c", 0)
    clock.forward(seconds=11)
    assert second.log.claim("c", 0) == 0
    with pytest.raises(LostOwnership):
        client.log.commit(made(client, "a"), Move("c", 0, 1))
    assert client.log.claim("c", 0) is None
    assert second.log.commit(made(second, "b"), Move("c", 0, 1)) == [True]
    assert listing(client) == ["RUN_CREATED n/w/b/0 -"]


def test_each_commit_renews_the_lease(client: Client, second: Client, clock: Clock) -> None:
    """L7: a lease counts from the last commit."""
    apart(client, second)
    client.log.claim("c", 0)
    for position in range(1, 4):
        clock.forward(seconds=8)
        client.log.commit([], Move("c", position - 1, position))
        assert second.log.claim("c", 0) is None
    clock.forward(seconds=10)
    assert second.log.claim("c", 0) == 3


def test_an_idle_owner_renews_its_leases(
    url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L7, P21: looking for events renews all names of a process, four times a lease at most."""
    ticks = [1000.0]
    time = SimpleNamespace(monotonic=lambda: ticks[0], sleep=lambda seconds: None)
    monkeypatch.setattr("replay.storage.database.time", time)
    seen, began = [], clock.now
    with stepped(url, clock) as client, stepped(url, clock) as second:
        apart(client, second)
        for name in ("c", "d"):
            client.log.claim(name, 0)
        for seconds in (0.0, 2.4, 0.2, 2.4, 0.2, 8.0):
            ticks[0] += seconds
            clock.forward(seconds=seconds)
            client.log.poll()
            assert second.log.claim("c", 0) is None
            seen.append(rows(client, "SELECT lease_until FROM replay_cursors ORDER BY id"))
    lease = [to_text(began + timedelta(seconds=10 + after)) for after in (0, 2.6, 5.2, 13.2)]
    expected = [lease[0], lease[0], lease[1], lease[1], lease[2], lease[3]]
    assert seen == [[(until,)] * 2 for until in expected]


def test_a_lease_can_be_set(url: str, clock: Clock) -> None:
    """L7: `lease` in the URL is the time after which a silent owner loses its names."""
    joined = url + ("&" if "?" in url else "?") + "lease=60"
    with stepped(joined, clock) as client, stepped(url, clock) as second:
        apart(client, second)
        client.log.claim("c", 0)
        clock.forward(seconds=59)
        assert second.log.claim("c", 0) is None
        clock.forward(seconds=1)
        assert second.log.claim("c", 0) == 0


def test_of_two_who_take_a_free_name_one_has_it(
    client: Client, second: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L7: a claim that another one overtakes fails, and holds no lock then."""
    apart(client, second)
    write, overtaken = client.log.database.write, ExitStack()
    overtaken.callback(lambda: second.log.claim("c", 0))

    def late(statements: Sequence[Statement], *inserts: Insert, **rest: Any) -> list[int]:
        if statements[0].sql.startswith("UPDATE"):
            overtaken.close()
        return write(statements, *inserts, **rest)

    monkeypatch.setattr(client.log.database, "write", late)
    assert client.log.claim("c", 0) is None
    assert second.log.commit(made(second, "a"), Move("c", 0, 1)) == [True]
    with pytest.raises(LostOwnership):
        client.log.commit(made(client, "b"), Move("c", 1, 2))


def test_a_claim_that_fails_leaves_the_lock(
    client: Client, second: Client, url: str, clock: Clock
) -> None:
    """L7: who has the lock but not the name (its owner is on another node) gives the lock back."""
    apart(client)
    client.log.claim("c", 0)
    assert second.log.claim("c", 0.001) is None
    with stepped(url, clock) as third:
        assert third.log.database.lock("c", 0)


def test_a_cursor_that_was_set_back(client: Client, other: Raw) -> None:
    """L6: who resets a cursor has its owner start again from there."""
    client.log.claim("c", 0)
    client.log.commit([], Move("c", 0, 4))
    other.run("UPDATE replay_cursors SET last_event_id = 2 WHERE id = 'c'")
    with pytest.raises(LostOwnership, match="or was reset"):
        client.log.commit([], Move("c", 4, 5))
    assert client.log.claim("c", 0) == 2


class Compared(str):
    """A key that counts how often it is compared."""

    comparisons = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Compared.comparisons += 1
        return str(self) == str(other)


@pytest.mark.embedded
def test_l2_duplicates_are_found_in_linear_time(tmp_path: Path) -> None:
    """L2: a commit that is repeated is compared with itself once, and not each with each."""
    with connect(f"sqlite:///{tmp_path / 'replay.db'}", loops=False) as client:
        events = made(client, *map(str, range(500)))
        assert client.log.commit(events) == [True] * 500
        rows: list[Any] = [(Compared(event.key), *[None] * 4, int(CREATED)) for event in events]
        assert client.log._new([*rows, *rows]) == [False] * 1000
        assert Compared.comparisons < 5000
