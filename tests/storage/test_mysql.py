"""What only servers have: connections that end, deadlocks, ids that burn, collations, packets."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

import pymysql
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pymysql.constants import COMMAND

from replay import Client, Event, EventType, Key, connect, consume
from replay.client import EventsLost
from replay.log import LostOwnership, Move, NameCollision
from replay.storage.database import (
    DatabaseError,
    Duplicate,
    IdTaken,
    Insert,
    NotFound,
    OutcomeUnknown,
    ReadOnly,
    RolledBack,
    Row,
    Statement,
    Unavailable,
    placeholders,
)
from replay.storage.group import MOST_ROWS
from replay.storage.mysql import MySQL, _bound
from tests.example_pb2 import Int, String
from tests.servers import Server, fresh_database
from tests.support import Clock, LogLines, Raw, drain, listing, raw, rows, stepped, with_options

pytestmark = pytest.mark.one_server

PATIENCE = 60.0
POSITIONS = "SELECT id, last_event_id FROM replay_cursors ORDER BY id"


@pytest.fixture
def client(server_url: str) -> Iterator[Client]:
    """A client of an empty database on a server."""
    with stepped(server_url, Clock()) as made:
        yield made


@pytest.fixture
def other(client: Client, server_url: str) -> Iterator[Raw]:
    """Another program's connection to it."""
    with raw(server_url) as connection:
        yield connection


@pytest.fixture
def third(client: Client, server_url: str) -> Iterator[Raw]:
    """One more connection, for looking on."""
    with raw(server_url) as connection:
        yield connection


def created(client: Client, *names: str, message: Any = None) -> list[Event]:
    """Created events of these runs, not stored yet."""
    return [client.log.event(EventType.RUN_CREATED, Key("n", "w", name), message) for name in names]


def add_cursors(client: Client, *names: str) -> None:
    """Rows to lock and to change."""
    made = [(name, 0, "2030-01-01 00:00:00.000") for name in names]
    database = client.log.database
    database.write(database.insert_missing("replay_cursors", "id, last_event_id, updated_at", made))


def advance(name: str) -> Statement:
    """A change of one of them."""
    sql = "UPDATE replay_cursors SET last_event_id = last_event_id + 1 WHERE id = ?"
    return Statement(sql, (name,), 1)


class Aside:
    """Does something in a thread of its own, which then gives its connection back."""

    def __init__(self, client: Client, work: Callable[[], object]) -> None:
        self.connection = 0
        self.result: object = None
        self.error: BaseException | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(client, work))
        self._thread.start()
        assert self._ready.wait(PATIENCE)

    def _run(self, client: Client, work: Callable[[], object]) -> None:
        self.connection = client.log.database.query("SELECT CONNECTION_ID()")[0][0]
        self._ready.set()
        try:
            self.result = work()
        except BaseException as error:
            self.error = error
        client.log.database.release()

    def running(self) -> bool:
        """Whether it goes on."""
        return self._thread.is_alive()

    def join(self) -> object:
        """What it came to; raises what it raised."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error
        return self.result


def until_locked(looker: Raw, table: str, id: object) -> None:
    """Look on until a row is locked by somebody."""
    while True:
        try:
            looker.run(f"SELECT id FROM {table} WHERE id = ? FOR UPDATE NOWAIT", id)
        except pymysql.err.OperationalError as error:
            if error.args[0] not in (1205, 3572):
                raise
            return


def failures(client: Client) -> list[int]:
    """The numbers of the errors that transactions end with from now on."""
    database, numbers = client.log.database, list[int]()
    write = database._write

    def note(*arguments: Any) -> list[int]:
        try:
            return write(*arguments)
        except pymysql.err.Error as error:
            numbers.append(error.args[0])
            raise

    database._write = note  # type: ignore[method-assign,assignment]
    return numbers


# What the servers' errors mean.


ERRORS: list[tuple[int, str, type[Exception]]] = [
    (1062, "Duplicate entry '1-n/w/r/0' for key 'by_type_key'", Duplicate),
    (1062, "Duplicate entry '1-n/w/r/0' for key 'replay_events.by_type_key'", Duplicate),
    (1062, "Duplicate entry '1-'PRIMARY'' for key 'by_type_key'", Duplicate),
    (1062, "Duplicate entry 'n-\\x00' for key 'replay_signals.uniq'", Duplicate),
    (1062, "Duplicate entry '7' for key 'PRIMARY'", IdTaken),
    (1062, "Duplicate entry '7' for key 'replay_events.PRIMARY'", IdTaken),
    (1205, "Lock wait timeout exceeded; try restarting transaction", RolledBack),
    (1213, "Deadlock found when trying to get lock; try restarting transaction", RolledBack),
    (1142, "INSERT command denied to user 'x'@'y' for table 'replay_events'", ReadOnly),
    (1290, "The server is running with the --read-only option", ReadOnly),
    (1836, "Running in read-only mode", ReadOnly),
    (2003, "Can't connect to MySQL server on 'db'", Unavailable),
    (1040, "Too many connections", Unavailable),
    (2006, "MySQL server has gone away", OutcomeUnknown),
    (2013, "Lost connection to MySQL server during query", OutcomeUnknown),
    (1053, "Server shutdown in progress", OutcomeUnknown),
    (1317, "Query execution was interrupted", OutcomeUnknown),
    (1047, "WSREP has not yet prepared node for application use", OutcomeUnknown),
    (3032, "The server is currently in offline mode", OutcomeUnknown),
    (3100, "Error on observer while running replication hook 'before_commit'.", OutcomeUnknown),
    (3101, "Plugin instructed the server to rollback the current transaction.", RolledBack),
]


def test_the_errors_of_both_servers(client: Client) -> None:
    """P13, P20, L2: both servers' texts and numbers are understood; a value cannot mislead."""
    database = client.log.database
    assert isinstance(database, MySQL)
    database._group = False
    for number, text, meaning in ERRORS:
        error = pymysql.err.OperationalError(number, text)
        assert type(database._meaning(error, committing=True)) is meaning, text
        if meaning is OutcomeUnknown:
            assert type(database._meaning(error, committing=False)) is Unavailable, text


def test_this_servers_duplicates(client: Client) -> None:
    """P13, L2: this server's own error for a duplicate is a duplicate, again and again."""
    for stored in (True, False, False):
        assert client.log.commit(created(client, "r")) == [stored]
    assert listing(client) == ["RUN_CREATED n/w/r/0 -"]


def test_a_connection_that_is_closed_twice(client: Client) -> None:
    """An error of the driver about a dead connection is an outage, not a defect."""
    database = client.log.database
    assert isinstance(database, MySQL)
    error = pymysql.err.InterfaceError(0, "")
    assert type(database._meaning(error, committing=False)) is Unavailable
    assert type(database._meaning(OSError(), committing=False)) is Unavailable


# Transactions that the server breaks off.


def test_a_deadlock_runs_the_whole_transaction_again(
    client: Client, other: Raw, third: Raw
) -> None:
    """P20: 1213 takes back all of a transaction, so all of it is run again, and only once."""
    add_cursors(client, "a", "b")
    other.run("BEGIN")
    for number in range(50):  # with more to undo, this one is not the one to be broken off
        other.add(Key("n", "w", f"weight{number}"))
    other.run(advance("b").sql, "b")
    move = Move("a", 0, 1, also=[advance("b")])
    client.log.claim("a", 0)
    attempts = failures(client)
    aside = Aside(client, lambda: client.log.commit(created(client, "r"), move))
    until_locked(third, "replay_cursors", "a")
    other.run("UPDATE replay_cursors SET updated_at = updated_at WHERE id = 'a'")
    other.run("ROLLBACK")
    assert aside.join() == [True]
    assert attempts == [1213]
    assert rows(client, POSITIONS) == [("a", 1), ("b", 1)]
    assert listing(client) == ["RUN_CREATED n/w/r/0 -"]


def test_a_lock_that_is_waited_for_too_long(client: Client, other: Raw, third: Raw) -> None:
    """P20: 1205 takes back only a statement, so we take back the rest, and leave no lock."""
    add_cursors(client, "a", "b")
    other.run("BEGIN")
    other.run(advance("b").sql, "b")
    with pytest.raises(Unavailable, match=r"Lock wait timeout.*1 times"):
        client.log.database.write([advance("a"), advance("b")], attempts=1)
    assert third.run("SELECT id FROM replay_cursors WHERE id = 'a' FOR UPDATE NOWAIT") == [("a",)]
    other.run("ROLLBACK")
    assert rows(client, POSITIONS) == [("a", 0), ("b", 0)]


def test_a_lock_that_is_given_back_late(client: Client, other: Raw) -> None:
    """P20: after 1205 the whole transaction is run again."""
    add_cursors(client, "a", "b")
    other.run("BEGIN")
    other.run(advance("b").sql, "b")
    database = client.log.database
    write = database._write

    def give_back(*arguments: Any) -> list[int]:
        try:
            return write(*arguments)
        except pymysql.err.OperationalError:
            other.run("COMMIT")
            raise

    database._write = give_back  # type: ignore[method-assign,assignment]
    database.write([advance("a"), advance("b"), advance("b")])
    assert rows(client, POSITIONS) == [("a", 1), ("b", 3)]


def test_a_transaction_that_is_always_broken_off(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """P20, P16: it is run again so many times, then the database is as good as away, and says so
    once."""
    attempts: list[object] = []

    def broken(*arguments: Any) -> list[int]:
        attempts.append(arguments)
        raise pymysql.err.OperationalError(1213, "Deadlock found")

    with monkeypatch.context() as patched:
        patched.setattr(client.log.database, "_write", broken)
        for _ in range(2):
            with pytest.raises(Unavailable, match="Deadlock found, 3 times"):
                client.log.database.write([advance("a")], attempts=3)
    assert len(attempts) == 6
    assert len(caplog.messages) == 1
    assert "cannot be reached" in caplog.messages[0]
    assert client.log.commit(created(client, "r")) == [True]


def test_what_follows_a_statement_without_its_rows_is_not_run(client: Client) -> None:
    """L6, L7: a script stops at the statement that did not find its rows, and nothing is stored."""
    add_cursors(client, "a")
    with pytest.raises(NotFound):
        client.log.database.write([advance("a"), advance("missing"), advance("a")])
    with pytest.raises(LostOwnership):
        client.log.commit(created(client, "r"), Move("a", 0, 1))
    assert rows(client, POSITIONS) == [("a", 0)]
    assert listing(client) == []
    client.log.database.write([advance("a")])
    assert rows(client, POSITIONS) == [("a", 1)]


class Alarm(Exception):
    """Raised by a program's own signal handler."""


@pytest.mark.parametrize("kind", [KeyboardInterrupt, Alarm])
def test_an_interrupt_in_a_transaction_leaves_no_connection(
    client: Client, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    """L6: who is interrupted between a question and its answer does not read the answer later."""
    database = client.log.database
    assert isinstance(database, MySQL)

    def interrupted(cursor: Any, script: Sequence[str], ids: list[int]) -> None:
        cursor.connection._execute_command(COMMAND.COM_QUERY, "SET @a = 1")
        raise kind

    with monkeypatch.context() as patched:
        patched.setattr(database, "_send", interrupted)
        with pytest.raises(kind):
            client.log.commit(created(client, "r"))
    assert database.query("SELECT 5") == ((5,),)
    assert client.log.commit(created(client, "r")) == [True]
    assert listing(client) == ["RUN_CREATED n/w/r/0 -"]


# Connections that end.


def test_a_connection_killed_in_a_commit(client: Client, other: Raw, third: Raw) -> None:
    """L6: a commit whose connection ends has an unknown outcome; here nothing was stored."""
    add_cursors(client, "a", "b")
    other.run("BEGIN")
    other.run(advance("b").sql, "b")
    aside = Aside(client, lambda: client.log.database.write([advance("a"), advance("b")]))
    until_locked(third, "replay_cursors", "a")
    third.run(f"KILL {aside.connection}")
    with pytest.raises(OutcomeUnknown):
        aside.join()
    other.run("ROLLBACK")
    assert rows(client, POSITIONS) == [("a", 0), ("b", 0)]
    client.log.database.write([advance("a"), advance("b")])
    assert rows(client, POSITIONS) == [("a", 1), ("b", 1)]


def kill_idle(client: Client, other: Raw) -> None:
    """End this thread's connection while it does nothing."""
    id = client.log.database.query("SELECT CONNECTION_ID()")[0][0]
    other.run(f"KILL {id}")


def test_an_idle_connection_that_was_killed(client: Client, other: Raw) -> None:
    """P16: a call that finds its connection dead fails once, as unavailable; the next succeeds."""
    kill_idle(client, other)
    with pytest.raises(Unavailable) as raised:
        client.log.database.query("SELECT 1")
    assert not isinstance(raised.value, OutcomeUnknown)
    assert client.log.database.query("SELECT 1") == ((1,),)
    kill_idle(client, other)
    with pytest.raises(OutcomeUnknown):
        client.log.commit(created(client, "r"))
    assert client.log.commit(created(client, "r")) == [True]


def test_users_do_not_notice_that_an_idle_connection_was_killed(
    client: Client, other: Raw, caplog: pytest.LogCaptureFixture
) -> None:
    """P16, R1: starting a run and signalling one find a new connection by themselves."""
    kill_idle(client, other)
    assert client.run_workflow("n", "w", "r", None)
    kill_idle(client, other)
    assert client.signal_run("n", "w", "r", 1, None, "id")
    kill_idle(client, other)
    assert listing(client) == ["RUN_CREATED n/w/r/0 -"]
    assert caplog.messages == []


def test_a_server_that_is_killed_and_comes_back(own_server: Server) -> None:
    """P16: while a server is away calls say so; when it is back, all that was stored is there."""
    with stepped(own_server.url) as client:
        assert client.run_workflow("n", "w", "a", None)
        own_server.kill()
        for _ in range(3):
            with pytest.raises(Unavailable):
                client.run_workflow("n", "w", "b", None)
        own_server.start()
        assert client.run_workflow("n", "w", "b", None)
        assert listing(client) == ["RUN_CREATED n/w/a/0 -", "RUN_CREATED n/w/b/0 -"]


def test_a_connection_that_ends_while_it_is_made(
    client: Client, other: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P16: a new connection that is lost at once is not kept, and the next call makes another."""
    database = client.log.database

    def lost(self: MySQL, variables: object) -> None:
        raise pymysql.err.OperationalError(2013, "Lost connection")

    kill_idle(client, other)
    with monkeypatch.context() as patched:
        patched.setattr(MySQL, "_know", lost)
        for _ in range(2):
            with pytest.raises(Unavailable):
                database.query("SELECT 1")
    assert database.query("SELECT 1") == ((1,),)


def test_each_thread_has_a_connection(client: Client, other: Raw) -> None:
    """L7: a named lock belongs to a thread's own connection, and goes when the thread says so."""
    database = client.log.database
    first = database.query("SELECT CONNECTION_ID()")[0][0]
    aside = Aside(client, lambda: database.lock("name", 0))
    assert aside.join()
    assert aside.connection != first
    assert database.query("SELECT CONNECTION_ID()")[0][0] == first
    assert database.lock("name", 10)
    client.log.database.close()
    while other.run("SELECT id FROM information_schema.processlist WHERE id = ?", first):
        pass


def test_locks_of_other_databases_do_not_count(client: Client, server_url: str) -> None:
    """L7: consumers of one name in two databases of a server are two."""
    with fresh_database(server_url) as another, stepped(another) as second:
        assert client.log.claim("c", 0) == 0
        assert second.log.claim("c", 0) == 0


# Sizes.


def test_a_batch_of_many_rows_and_bytes(client: Client) -> None:
    """L6: a commit of several packets and statements is one transaction with the right ids."""
    large, small = String(value="x" * 1_500_000), Int(value=7)
    events = created(client, *(f"a{n}" for n in range(700)), message=small)
    events += created(client, *(f"b{n}" for n in range(7)), message=large)
    events += created(client, *(f"c{n}" for n in range(700)), message=small)
    add_cursors(client, "c")
    client.log.claim("c", 0)
    assert client.log.commit(events, Move("c", 0, 1)) == [True] * len(events)
    query = "SELECT id, `key`, LENGTH(message) FROM replay_events ORDER BY id"
    assert rows(client, query) == [(e.id, str(e.key), len(e.raw or b"")) for e in events]


def test_l10_a_large_commit_holds_up_nobody(client: Client) -> None:
    """L10: no group waits for it, since its thread has a connection of its own."""
    database, began, goes_on = client.log.database, threading.Event(), threading.Event()
    write = database.write

    def held(statements: Sequence[Statement], *inserts: Insert, **options: Any) -> list[int]:
        if inserts and len(inserts[0].rows) > MOST_ROWS:
            began.set()
            assert goes_on.wait(60)
        return write(statements, *inserts, **options)

    events = created(client, *(f"r{n}" for n in range(MOST_ROWS + 1)))
    with patch.object(database, "write", held), ThreadPoolExecutor(2) as pool:
        large = pool.submit(client.log.commit, events)
        assert began.wait(60)
        try:
            assert pool.submit(client.run_workflow, "n", "w", "small", None).result(60)
        finally:
            goes_on.set()
        assert large.result(60) == [True] * len(events)


VALUES = st.one_of(
    st.text(), st.binary(), st.none(), st.integers(-(2**63), 2**63 - 1), st.booleans()
)


@given(st.lists(VALUES, min_size=1, max_size=9))
@example(["", "0", 0, False, None, b"", b"\0", "\0", "'\\\"%s"])
def test_many_values_are_bound_as_the_driver_binds_each(values: list[Any]) -> None:
    """P8: whatever they are, and however often they come."""
    connection = pymysql.connect(user="nobody", charset="utf8mb4", defer_connect=True)
    connection.server_status = 0  # type: ignore[attr-defined]  # of a session with our sql_mode
    row = f"({placeholders(len(values))})"
    sql = f"INSERT INTO t VALUES {','.join([row] * 100)}"
    bound = _bound(connection.cursor(), sql, values * 100)
    each = [connection.cursor().mogrify("%s", [value]) for value in values]
    assert bound == f"INSERT INTO t VALUES {','.join(['(' + ','.join(each) + ')'] * 100)}"


def test_a_refused_batch_of_several_packets_leaves_nothing(client: Client) -> None:
    """L6: a duplicate in the last packet takes back the first; the rest is then stored."""
    client.log.commit(created(client, "b6"))
    events = created(client, *(f"b{n}" for n in range(7)), message=String(value="x" * 1_500_000))
    with pytest.raises(LostOwnership):
        client.log.commit(events, Move("nobody", 0, 1))
    assert rows(client, "SELECT run FROM replay_events WHERE type = 1") == [("b6",)]
    assert client.log.commit(events) == [True] * 6 + [False]


def test_messages_of_four_mebibytes(client: Client) -> None:
    """N3: a batch of messages of the largest size, of bytes that are costly to send, is stored."""
    text = "'\\\0\"\n\x1a" * 699_000
    events = created(client, "a", "b", "c", message=String(value=text))
    assert client.log.commit(events) == [True] * 3
    assert [event.message.value == text for event in client.stream(to_head=True)] == [True] * 3


# The clock.


def test_the_clock_is_the_servers(server_url: str) -> None:
    """R7, R8: times follow the server's clock, as far as its answers prove it."""
    with stepped(server_url) as client:
        database = client.log.database
        for year in (2034, 2024):
            server = datetime(year, 1, 1, tzinfo=UTC)
            database.query("SET timestamp = ?", (int(server.timestamp()),))
            began = datetime.now(UTC)
            database.newest()
            now, ended = database.now(), datetime.now(UTC)
            assert server - timedelta(milliseconds=1) <= now <= server + (ended - began)
            client.run_workflow("n", "w", f"r{year}", None)
        first, second = client.stream(to_head=True)
        assert (first.timestamp.year, second.timestamp.year) == (2034, 2024)


def test_an_answer_moves_the_clock_no_more_than_it_proves(client: Client) -> None:
    """R8: an answer that agrees with the clock, within its own travelling time, changes nothing."""
    database = client.log.database
    assert isinstance(database, MySQL)
    clock = database._clock
    offset = clock._offset
    now = datetime.now(UTC) + offset
    began = datetime.now(UTC) - timedelta(seconds=5)
    clock.adjust(began, now - timedelta(seconds=2))
    assert clock._offset == offset
    clock.adjust(began, now + timedelta(seconds=20))
    assert offset + timedelta(seconds=19) < clock._offset <= offset + timedelta(seconds=20)


# Collations.


@pytest.fixture
def foreign(server_url: str) -> Iterator[Client]:
    """A client of a database whose events compare without case and accents."""
    with raw(server_url) as other:
        other.run(
            "CREATE TABLE replay_events (id BIGINT PRIMARY KEY AUTO_INCREMENT,"
            " `key` VARCHAR(512) NOT NULL, namespace VARCHAR(255) NOT NULL,"
            " workflow VARCHAR(255) NOT NULL, run VARCHAR(255), iteration INT NOT NULL,"
            " type INT NOT NULL, timestamp DATETIME(3) NOT NULL, message MEDIUMBLOB,"
            " UNIQUE INDEX by_type_key (type, `key`))"
            " DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci"
        )
    with stepped(server_url, Clock()) as made:
        write, left = made.log.database._write, iter(range(50))

        def counted(*arguments: Any) -> list[int]:
            if next(left, None) is None:
                pytest.fail("it tries for ever")
            return write(*arguments)

        made.log.database._write = counted  # type: ignore[method-assign,assignment]
        yield made


@pytest.mark.parametrize("name", ["CASE", "cäse"])
def test_a_table_that_takes_two_names_for_one(foreign: Client, name: str) -> None:
    """L8: a table with a case-insensitive collation refuses the second name with an error that
    says what to do, and never tries for ever; what is stored is not taken for another's."""
    assert foreign.run_workflow("n", "w", "case", None)
    for _ in range(2):
        with pytest.raises(NameCollision, match=r"convert replay_events to .* utf8mb4_bin"):
            foreign.run_workflow("n", "w", name, None)
    with pytest.raises(NameCollision):
        foreign.log.commit(created(foreign, "other", name))
    assert not foreign.run_workflow("n", "w", "case", None)
    assert foreign.log.history(Key("n", "w", name)) == []
    assert foreign.log.last_iteration("n", "w", name) == (-1, -1)
    assert listing(foreign, "n", "w", name) == []
    assert listing(foreign) == ["RUN_CREATED n/w/case/0 -"]


def test_two_names_that_a_table_takes_for_one_in_a_batch(foreign: Client) -> None:
    """L8: so it is when both come in one commit."""
    with pytest.raises(NameCollision):
        foreign.log.commit(created(foreign, "case", "CASE"))
    assert listing(foreign) == []


def test_tables_of_ours_compare_exactly(client: Client) -> None:
    """L8: all columns with text that we create have the collation utf8mb4_bin."""
    found = rows(
        client,
        "SELECT DISTINCT collation_name FROM information_schema.columns"
        " WHERE table_schema = DATABASE() AND collation_name IS NOT NULL",
    )
    assert found == [("utf8mb4_bin",)]


# Fences.

NOOP = (0, "replay_noop", "", "", None, 0, 0, "2030-01-01 00:00:00.000", None)


def fence(client: Client, *ids: int) -> None:
    """Take ids."""
    columns = "id, `key`, namespace, workflow, run, iteration, type, timestamp, message"
    noops = [(id, f"replay_noop/{id}", *NOOP[2:]) for id in ids]
    client.log.database.fence("replay_events", columns, noops)


@pytest.mark.parametrize(
    ("ending", "expected"),
    [("COMMIT", [(1, 1, "n/w/r/0")]), ("ROLLBACK", [(1, 0, "replay_noop/1")])],
)
def test_a_fence_waits_for_the_holder_of_an_id(
    client: Client, other: Raw, third: Raw, ending: str, expected: list[tuple[int, int, str]]
) -> None:
    """L1, P14: taking an id that a transaction holds waits for its end: committed, the event is
    there; rolled back, the id is taken."""
    other.run("BEGIN")
    other.add(Key("n", "w", "r"))
    aside = Aside(client, lambda: fence(client, 1))
    waiting = (
        "SELECT 1 FROM information_schema.processlist"
        " WHERE id = ? AND command = 'Query' AND LOCATE('INSERT', info) > 0"
    )
    while aside.running() and not third.run(waiting, aside.connection):
        pass
    other.run(ending)
    aside.join()
    assert rows(client, "SELECT id, type, `key` FROM replay_events") == expected


def test_a_fence_gives_up_after_a_second(client: Client, other: Raw) -> None:
    """L1: a transaction that stays open is asked again later, and holds up no other reader."""
    other.run("BEGIN")
    other.add(Key("n", "w", "r"))
    fence(client, 1)
    assert rows(client, "SELECT id FROM replay_events") == []
    other.run("COMMIT")
    fence(client, 1)
    assert listing(client) == ["RUN_CREATED n/w/r/0 -"]


def test_an_id_that_was_fenced_under_a_writer(client: Client, other: Raw, third: Raw) -> None:
    """L1, L2: a writer whose second row's id was fenced before it came to it stores all with new
    ids: nothing is lost, nothing is twice, and nobody is given the fenced id."""
    client.run_workflow("n", "w", "A", None)  # id 1: the key before, so that 2 locks no other gap
    other.run("BEGIN")
    other.add(Key("n", "w", "a"))  # id 2: it makes the writer wait with its first row, id 3
    attempts = failures(client)
    aside = Aside(client, lambda: client.log.commit(created(client, "a", "b")))
    until_locked(third, "replay_events", 3)
    third.add(Key("", "", "", 0, "replay_noop", "4"), type=0, id=4)
    other.run("ROLLBACK")
    assert aside.join() == [True, True]
    assert attempts == [1062]
    stored = rows(client, "SELECT id, `key` FROM replay_events WHERE type = 1 ORDER BY id")
    assert [key for _, key in stored] == ["n/w/A/0", "n/w/a/0", "n/w/b/0"]
    assert stored[1][0] > 4
    assert listing(client) == [f"RUN_CREATED n/w/{run}/0 -" for run in "Aab"]


def test_many_processes_fence_the_same_ids(client: Client, server_url: str, other: Raw) -> None:
    """L1: readers that meet the same gaps do not disturb each other."""
    other.run("ALTER TABLE replay_events AUTO_INCREMENT = 50")
    other.add(Key("n", "w", "a"))
    seen: list[list[str]] = []
    ready = threading.Barrier(4)

    def read() -> None:
        with stepped(server_url) as reader:
            ready.wait(PATIENCE)
            seen.append(listing(reader))

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(PATIENCE)
    assert seen == [["RUN_CREATED n/w/a/0 -"]] * 4
    assert rows(client, "SELECT COUNT(*), MAX(id) FROM replay_events") == [(50, 50)]


def test_ids_come_in_a_row(client: Client) -> None:
    """L1: the ids that a commit reckons for its rows are those that they have, after duplicates
    and rolled back transactions too."""
    for batch in (["a"], ["a", "b", "c"], ["b", "d"], ["e", "f", "a", "g"]):
        events = created(client, *batch)
        client.log.commit(events)
        stored = dict(rows(client, "SELECT run, id FROM replay_events WHERE type = 1"))
        assert all(event.id in (0, stored[event.key.run]) for event in events)
    assert [line.split()[1][4:5] for line in listing(client)] == list("abcdefg")


def test_ids_that_step_by_more_than_one(server_url: str) -> None:
    """L1: with a step between ids, as replicated servers have, they are reckoned right and the
    gaps are fenced."""
    with stepped(server_url) as client:
        database = client.log.database
        assert isinstance(database, MySQL)
        database.query("SET SESSION auto_increment_increment = 3")
        database._step = 3
        events = created(client, "a", "b", "c")
        client.log.commit(events)
        stored = rows(client, "SELECT id FROM replay_events WHERE type = 1 ORDER BY id")
        assert [(event.id,) for event in events] == stored
        assert stored[1][0] - stored[0][0] == 3
        assert listing(client) == [f"RUN_CREATED n/w/{run}/0 -" for run in "abc"]


def test_a_cluster_does_not_reckon_ids(client: Client) -> None:
    """L1: where the step between ids may change (Galera) commits are read back instead."""
    database = client.log.database
    assert isinstance(database, MySQL)
    database._know({"wsrep_on": "ON", "wsrep_node_name": "n1", "auto_increment_increment": "3"})
    events = created(client, "a", "b")
    assert client.log.commit(events) == [True, True]
    assert [event.id for event in events] == [0, 0]
    assert listing(client) == ["RUN_CREATED n/w/a/0 -", "RUN_CREATED n/w/b/0 -"]


def test_in_a_cluster_each_statement_is_sent_alone(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L6: a Galera node that breaks a transaction off within a packet says yes to its COMMIT."""
    database = client.log.database
    assert isinstance(database, MySQL)
    connection = database._connection()
    sent: list[str] = []
    query = connection.query

    def spy(sql: str, unbuffered: bool = False) -> int:
        sent.append(sql.split()[0])
        return query(sql, unbuffered)

    monkeypatch.setattr(connection, "query", spy)
    update = Statement("UPDATE replay_cursors SET owner = '' WHERE id = 'x'", must_find=0)
    database._cluster = False
    database.write([update])
    database._know({"wsrep_on": "ON", "wsrep_node_name": "n1", "auto_increment_increment": "1"})
    database.write([update])
    assert sent == ["BEGIN;UPDATE", "BEGIN", "UPDATE", "SET", "COMMIT"]


def test_a_cluster_that_interrupts_a_statement_has_it_run_again(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P20: a node does so for another node's change of tables; elsewhere a server shuts down."""
    database = client.log.database
    assert isinstance(database, MySQL)
    killed = pymysql.err.OperationalError(1317, "Query execution was interrupted")
    execute, write, errors = database._execute, database._write, [killed]

    def broken_execute(sql: str, parameters: Sequence[Any]) -> Sequence[Row]:
        if errors:
            raise errors.pop()
        return execute(sql, parameters)

    def broken_write(statements: Sequence[Statement], inserts: Sequence[Insert]) -> list[int]:
        if errors:
            raise errors.pop()
        return write(statements, inserts)

    monkeypatch.setattr(database, "_execute", broken_execute)
    monkeypatch.setattr(database, "_write", broken_write)
    database._cluster = False
    with pytest.raises(Unavailable, match="interrupted"):
        database.query("SELECT 1")
    assert database.query("SELECT 1") == ((1,),)  # on a new connection
    database._cluster = True
    errors.append(killed)
    assert database.query("SELECT 1") == ((1,),)
    errors.append(killed)
    assert client.log.commit(created(client, "r")) == [True]
    assert errors == []


SINGLE = {"auto_increment_increment": "1", "group_replication_single_primary_mode": "ON"}


def test_a_group_with_many_primaries_is_refused(
    server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L4: there a read may miss what another member acknowledged; the error says what to do."""
    know = MySQL._know

    def with_many(self: MySQL, variables: dict[str, str]) -> None:
        know(self, {**variables, "group_replication_single_primary_mode": "OFF"})

    with monkeypatch.context() as patched:
        patched.setattr(MySQL, "_know", with_many)
        with pytest.raises(DatabaseError, match=r"multi-primary mode.*switch_to_single_primary"):
            connect(server_url)
    connect(server_url).close()


class Answers:
    """A cursor of a server that has these variables; notes what it is told."""

    def __init__(self, variables: dict[str, str]) -> None:
        self.told: list[str] = []
        self._variables = variables

    def execute(self, sql: str) -> None:
        self.told.append(sql)

    def fetchall(self) -> list[tuple[str, str]]:
        return [*self._variables.items()]

    def fetchone(self) -> tuple[str]:
        return ("2029-01-01 00:00:00.000000",)


@pytest.mark.parametrize(
    ("level", "told"), [("EVENTUAL", 1), ("BEFORE_ON_PRIMARY_FAILOVER", 0), ("AFTER", 0)]
)
def test_a_new_primary_is_to_show_what_the_old_one_acknowledged(
    client: Client, level: str, told: int
) -> None:
    """L1, L4: a group does so at every level but the lowest, so each connection asks for it."""
    database = client.log.database
    assert isinstance(database, MySQL)
    cursor = Answers({**SINGLE, "group_replication_consistency": level})
    database._set_up(cursor)
    ask = "SET SESSION group_replication_consistency = 'BEFORE_ON_PRIMARY_FAILOVER'"
    assert cursor.told.count(ask) == told


def test_all_threads_leave_a_member_that_is_no_primary_any_more(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """P16, L7: after a fail-over the old primary keeps its connections, and takes no writes."""
    database = client.log.database
    assert isinstance(database, MySQL)
    demoted = pymysql.err.OperationalError(
        1290, "The MySQL server is running with the --super-read-only option"
    )

    def refused(statements: Sequence[Statement], inserts: Sequence[Insert]) -> list[int]:
        raise demoted

    def ids() -> list[int]:
        threads = [executor.submit(database.query, "SELECT CONNECTION_ID()")]
        return [database.query("SELECT CONNECTION_ID()")[0][0], threads[0].result()[0][0]]

    with ThreadPoolExecutor(1) as executor:
        before, losses = ids(), database.losses
        database._know(SINGLE)
        with monkeypatch.context() as patched:
            patched.setattr(database, "_write", refused)
            with pytest.raises(Unavailable, match="not its primary: let the URL lead") as raised:
                database.write([advance("a")])
        assert not isinstance(raised.value, OutcomeUnknown)
        after = ids()
        assert not {*before} & {*after}
        assert ids() == after
        assert (database.losses, len(caplog.messages)) == (losses + 1, 1)
        executor.submit(database.release).result()


def test_a_poll_finds_that_a_member_is_no_primary(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L4, P16: a member that has lost its group answers for ever, with what it had then."""
    database = client.log.database
    assert isinstance(database, MySQL)
    query = database.query

    def answered(sql: str, parameters: Sequence[Any] = ()) -> Sequence[Row]:
        asked = "@@super_read_only" in sql
        return [("0|0|0|2029-01-01 00:00:00.000|1",)] if asked else query(sql, parameters)

    before = database.query("SELECT CONNECTION_ID()")
    database._know(SINGLE)
    with monkeypatch.context() as patched:
        patched.setattr(database, "query", answered)
        with pytest.raises(Unavailable, match="not its primary"):
            client.log.poll()
    assert database.query("SELECT CONNECTION_ID()") != before
    client.log.poll()


def test_servers_have_different_domains(client: Client) -> None:
    """L7: locks of two servers, or of two nodes of a cluster, say nothing about each other."""
    database = client.log.database
    assert isinstance(database, MySQL)
    domains = {database.lock("c", 0)}
    for identity in ({"hostname": "x"}, {"hostname": "x", "wsrep_node_name": "n2"}):
        database._know({"auto_increment_increment": "1", **identity})
        domains.add(database.lock("c", 0))
    assert len(domains) == 3
    assert "" not in domains


# A server that comes back without its last transactions.


def lose_last(client: Client, other: Raw, name: str) -> None:
    """What a server does that was killed before it wrote its last transaction to disk."""
    ((last,),) = other.run("SELECT MAX(id) FROM replay_events")
    other.run("DELETE FROM replay_events WHERE id = ?", last)
    other.run("UPDATE replay_cursors SET last_event_id = ?", last - 1)
    other.run(f"ALTER TABLE replay_events AUTO_INCREMENT = {last}")
    kill_all(other)
    other.add(Key("n", "w", name))


def kill_all(other: Raw) -> None:
    """End all other connections to this database, as a server does that stops."""
    query = "SELECT id FROM information_schema.processlist WHERE db = DATABASE()"
    for (connection,) in other.run(f"{query} AND id <> CONNECTION_ID()"):
        other.run(f"KILL {connection}")


def test_l5_an_id_that_was_lost_and_given_again_is_read_again(client: Client, other: Raw) -> None:
    """L5, L6: events that the server lost are dropped from memory; what took their ids is read."""
    seen: list[str] = []
    consumer = consume(client, "mine", lambda event: seen.append(event.key.run), start=False)
    client.log.commit(created(client, "1", "2"))
    drain(consumer)
    lose_last(client, other, "instead")
    with pytest.raises(Unavailable):
        consumer.step()
    drain(consumer)
    assert seen == ["1", "2", "instead"]
    assert listing(client) == ["RUN_CREATED n/w/1/0 -", "RUN_CREATED n/w/instead/0 -"]
    assert rows(client, POSITIONS) == [("consumer/mine", 2)]


def test_l1_a_stream_does_not_go_on_behind_an_event_that_was_lost(
    client: Client, other: Raw
) -> None:
    """L1: what the stream has given out is not there any more, and it says so."""
    client.log.commit(created(client, "1", "2"))
    stream = client.stream()
    assert [next(stream).key.run, next(stream).key.run] == ["1", "2"]
    lose_last(client, other, "instead")
    with pytest.raises(Unavailable):
        client.log.poll()
    with pytest.raises(EventsLost, match="has lost event 2, which this stream has delivered"):
        next(stream)


def test_l1_a_stream_goes_on_after_a_lost_connection(client: Client, other: Raw) -> None:
    """L1: where nothing but the connection was lost, nothing is given twice or left out."""
    client.log.commit(created(client, "1", "2"))
    stream = client.stream()
    assert [next(stream).key.run, next(stream).key.run] == ["1", "2"]
    kill_all(other)
    other.add(Key("n", "w", "3"))
    with pytest.raises(Unavailable):
        client.log.poll()
    assert next(stream).key.run == "3"


def test_l1_a_stream_from_the_head_waits_for_what_is_on_its_way(client: Client, other: Raw) -> None:
    """L1, L4: an id that was taken before the call, and is committed after it, is not left out."""
    other.run("BEGIN")
    other.add(Key("n", "w", "late"))
    client.log.commit(created(client, "early"))
    stream = client.stream(from_head=True, to_head=True)
    other.run("COMMIT")
    assert [event.key.run for event in stream] == ["late", "early"]


def test_a_query_that_is_too_slow_is_a_lost_connection_that_is_told(server_url: str) -> None:
    """L1, P16: the server may have been restarted; a warning says how to wait longer."""
    with stepped(with_options(server_url, timeout=1)) as client, LogLines() as log:
        database, losses = client.log.database, client.log.losses
        with pytest.raises(Unavailable, match="timed out"):
            database.query("SELECT SLEEP(30)")
        assert (client.log.losses, database.query("SELECT 5")) == (losses + 1, ((5,),))
        assert [line.partition("for it: ")[2] for line in log.lines] == [
            "no answer for 1 s: if it is only slow, raise timeout in the URL"
        ]


@pytest.mark.parametrize(
    ("variables", "warning"),
    [
        ({"innodb_flush_log_at_trx_commit": "1", "log_bin": "OFF", "sync_binlog": "0"}, ""),
        ({"innodb_flush_log_at_trx_commit": "1", "log_bin": "ON", "sync_binlog": "1"}, ""),
        ({"innodb_flush_log_at_trx_commit": "2", "log_bin": "OFF", "sync_binlog": "0"}, "2"),
        (
            {"innodb_flush_log_at_trx_commit": "0", "log_bin": "ON", "sync_binlog": "1000"},
            "0 and sync_binlog=1000",
        ),
    ],
)
def test_weak_settings_are_told(
    server_url: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    variables: dict[str, str],
    warning: str,
) -> None:
    """L11: a server that may lose commits is told of when a client connects, once."""
    query = MySQL.query

    def answered(self: MySQL, sql: str, parameters: Sequence[Any] = ()) -> Sequence[Row]:
        asked = sql.startswith("SHOW GLOBAL VARIABLES")
        return [*variables.items()] if asked else query(self, sql, parameters)

    monkeypatch.setattr(MySQL, "query", answered)
    with connect(server_url) as client:
        client.run_workflow("n", "w", "r", None)
        name = client.log.name
    text = f"{name} has innodb_flush_log_at_trx_commit={warning}: a crash of its machine may lose"
    expected = [f"{text} commits that it has acknowledged; 1 prevents that"] if warning else []
    assert caplog.messages == expected


def test_the_servers_own_answer_is_read(server_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """L11: the tests' own servers sync each commit, so there is nothing to tell."""
    with connect(server_url) as client:
        (setting,) = rows(client, "SELECT @@innodb_flush_log_at_trx_commit")
        assert (setting, caplog.messages) == ((1,), [])
