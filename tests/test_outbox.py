"""The outbox: runs that are started and signalled within transactions of the program's own."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import sqlalchemy
import sqlalchemy.orm

import replay.storage.tail
from replay import Client, Event, RunContext, SignalType, Unavailable, connect, register_workflow
from replay.log import EmbeddedOnly, LostOwnership, Move
from replay.outbox import TARGET, BadConnection, Mover, WrongDatabase
from replay.server.proto.replaypb_pb2 import SleepDone
from replay.signal import InvalidSignal
from replay.storage.database import Insert, RolledBack, Row, Statement
from replay.storage.event import InvalidName, MessageTooLarge, MissingMessage, read
from replay.storage.mysql import MySQL
from replay.storage.sqlite import Sqlite
from replay.storage.values import WrongValue
from replay.tools.audit import audited
from tests import servers
from tests.support import (
    LogLines,
    Queries,
    drain,
    loops,
    mine,
    raw,
    rows,
    stepped,
    take_over,
    with_options,
)

NS, W = "ns", "flow"


def engine(url: str) -> sqlalchemy.Engine:
    """SQLAlchemy's way to the same database."""
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return sqlalchemy.create_engine(f"sqlite:///{unquote(parts.path[1:])}")

    def creator() -> Any:
        connection = servers.connect(url)
        connection.autocommit(False)
        connection.select_db(unquote(parts.path[1:]))
        return connection

    return sqlalchemy.create_engine("mysql+pymysql://", creator=creator)


def mover(client: Client) -> Mover:
    """The consumer that moves the inbox."""
    (found,) = (loop for loop in client.loops() if loop.name == TARGET)
    assert isinstance(found, Mover)
    return found


def log(client: Client) -> list[tuple[int, str, Any]]:
    """The events: type, key and value."""
    return [(int(e.type), e.text, e.message) for e in client.stream(to_head=True)]


def signals(client: Client) -> list[tuple[Any, ...]]:
    """The signals that are stored."""
    query = "SELECT run, type, external_id, message FROM replay_signals ORDER BY id"
    return [(*row[:3], value(row[3])) for row in rows(client, query)]


def value(message: bytes | None) -> Any:
    found = read(message)
    return None if found is None else found.json


def inbox(client: Client) -> list[tuple[Any, ...]]:
    """What waits in the inbox, and why it does if nobody can read it."""
    return rows(client, "SELECT run, type, external_id, error FROM replay_inbox ORDER BY id")


def created(*runs: str, message: Any = "tea") -> list[tuple[int, str, Any]]:
    return [(1, f"{NS}/{W}/{run}/0", message) for run in runs]


def test_v4_a_commit_sends_and_a_rollback_does_not(url: str) -> None:
    """V4, R1, S1: nothing is sent before the commit, and all of it afterwards."""
    with stepped(url) as client, mine(url) as connection:
        outbox = client.within(connection)
        outbox.run_workflow(NS, W, "a", "tea")
        outbox.signal_run(NS, W, "a", 1, 7, "x")
        if not url.startswith("sqlite:"):  # where everybody waits
            drain(mover(client))
        assert (log(client), signals(client), inbox(client)) == ([], [], [])
        connection.rollback()
        drain(mover(client))
        assert (log(client), signals(client), inbox(client)) == ([], [], [])
        outbox.run_workflow(NS, W, "b", "tea")
        outbox.signal_run(NS, W, "b", -1, None, "")
        outbox.signal_run(NS, W, "b", 1, 7, "x")
        connection.commit()
        assert inbox(client) == [
            ("b", None, None, None), ("b", -1, "", None), ("b", 1, "x", None)
        ]  # fmt: skip
        drain(mover(client))
        assert log(client) == created("b")
        assert signals(client) == [("b", -1, "", None), ("b", 1, "x", b"7")]
        assert inbox(client) == []


def test_v4_the_rows_of_a_connection_keep_their_order(url: str) -> None:
    """V4: a transaction that commits later is moved later, and its own rows in order."""
    with stepped(url) as client, mine(url) as one:
        outbox = client.within(one)
        for run in "cab":
            outbox.run_workflow(NS, W, run, "tea")
        one.commit()
        for run in "fde":
            outbox.run_workflow(NS, W, run, "tea")
        one.commit()
        drain(mover(client))
        assert log(client) == created(*"cabfde")


def test_v4_a_low_id_may_commit_late(server_url: str) -> None:
    """V4: two writers.  The rows of the one that began first, and commits last, are not missed."""
    with stepped(server_url) as client, mine(server_url) as one, mine(server_url) as two:
        first, second = client.within(one), client.within(two)
        first.run_workflow(NS, W, "a", "tea")
        second.run_workflow(NS, W, "b", "tea")
        first.run_workflow(NS, W, "c", "tea")
        second.signal_run(NS, W, "b", 1, 7, "x")
        two.commit()
        drain(mover(client))
        assert log(client) == created("b")
        one.commit()
        drain(mover(client))
        assert log(client) == created("b", "a", "c")
        assert [row[0] for row in signals(client)] == ["b"]


def test_v4_an_open_transaction_delays_nobody_on_servers(server_url: str) -> None:
    """V4, L1: while it stays open, everybody else goes on: runs, signals, other outboxes."""
    with stepped(server_url) as client, mine(server_url) as held, mine(server_url) as other:
        register_workflow(client, NS, hears, name=W, start=False)
        for run in ("held", "held too"):
            client.within(held).run_workflow(NS, W, run, "tea")
            client.within(held).signal_run(NS, W, "other", 1, 0, run)
        client.run_workflow(NS, W, "plain", "tea")
        client.signal_run(NS, W, "plain", 1, 7, "x")
        for n in range(20):  # so many that a scan would meet the held rows
            client.within(other).run_workflow(NS, W, f"run {n}", "tea")
        client.within(other).run_workflow(NS, W, "other", "tea")
        client.within(other).signal_run(NS, W, "other", 1, 8, "y")
        other.commit()
        writes = Rollbacks(client)
        drain(*client._consumers.values(), *loops(client))
        assert client.result(NS, W, "plain", 0) == 7
        assert client.result(NS, W, "other", 0) == 8
        assert writes.count == 0
        held.commit()
        drain(*client._consumers.values(), *loops(client))
        assert inbox(client) == []
        assert client.describe(NS, W, "held").status == "waiting"


class Rollbacks:
    """Counts how often a database rolls a transaction back, as it does after a wait for a lock."""

    def __init__(self, client: Client) -> None:
        self.count = 0
        database = client.log.database
        pause = database._pause

        def counted(error: RolledBack, attempt: int, most: int) -> None:
            self.count += 1
            pause(error, attempt, most)

        database._pause = counted  # type: ignore[method-assign]


def hears(ctx: RunContext, drink: str) -> int:
    heard = ctx.await_signal(1, timedelta(days=1))
    return -1 if heard is None else heard.message


def test_v4_on_sqlite_everybody_waits_for_an_open_transaction(tmp_path: Path) -> None:
    """V4: and then goes on."""
    url = f"sqlite:///{tmp_path / 'replay.db'}"
    with stepped(url) as client, mine(url) as held:
        client.within(held).run_workflow(NS, W, "held", "tea")
        begun = threading.Event()
        database = client.log.database
        assert isinstance(database, Sqlite)
        database._connection = Begins(database._connection, begun)  # type: ignore[assignment]
        others = [
            threading.Thread(target=client.run_workflow, args=(NS, W, run, "tea")) for run in "ab"
        ]
        for other in others:
            other.start()
        assert begun.wait(60)
        assert all(other.is_alive() for other in others)
        held.commit()
        for other in others:
            other.join(60)
        drain(mover(client))
        assert sorted(log(client)) == sorted(created("a", "b", "held"))


def test_v4_who_has_a_transaction_open_waits_for_nobody(url: str) -> None:
    """V4: or on SQLite it would wait for a consumer that waits for this very transaction."""
    with stepped(url) as client, mine(url) as connection:
        outbox = client.within(connection)
        calls = threading.Thread(target=outbox.run_workflow, args=(NS, W, "a", "tea"))
        with client.log.database.inside():
            calls.start()
            calls.join(60)
            assert not calls.is_alive()
        connection.commit()
        assert [row[0] for row in inbox(client)] == ["a"]


class Begins:
    """A connection to SQLite that tells when a transaction is about to begin."""

    def __init__(self, connection: Any, begun: threading.Event) -> None:
        self._connection, self._begun = connection, begun

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        """As the connection's own."""
        if sql.startswith("BEGIN"):
            self._begun.set()
        return self._connection.execute(sql, parameters)


def test_v4_duplicates_change_nothing(url: str) -> None:
    """V4, L2, R1, S1: of what is there and of each other.  They use up no id either."""
    with stepped(url) as client, mine(url) as connection:
        client.run_workflow(NS, W, "a", "first")
        client.signal_run(NS, W, "a", 1, 1, "x")
        outbox = client.within(connection)
        for drink in ("second", "third"):
            for run in ("a", "b"):
                outbox.run_workflow(NS, W, run, drink)
                outbox.signal_run(NS, W, run, 1, 2, "x")
        connection.commit()
        drain(mover(client))
        assert log(client) == [*created("a", message="first"), *created("b", message="second")]
        assert signals(client) == [("a", 1, "x", b"1"), ("b", 1, "x", b"2")]
        assert inbox(client) == []
        client.run_workflow(NS, W, "c", "tea")
        client.signal_run(NS, W, "c", 1, 3, "x")
        assert client.log.newest() == 3
        assert rows(client, "SELECT MAX(id) FROM replay_signals") == [(3,)]


@pytest.mark.parametrize("what", ["run", "signal"])
def test_v4_what_somebody_else_sends_meanwhile_is_not_sent_twice(url: str, what: str) -> None:
    """V4, R1, S1: between the mover's look and its commit."""
    with stepped(url) as client, mine(url) as connection:
        outbox = client.within(connection)
        outbox.run_workflow(NS, W, "a", "mine")
        outbox.signal_run(NS, W, "a", 1, 1, "x")
        outbox.signal_run(NS, W, "a", 1, 2, "y")
        connection.commit()
        with stepped(url) as other:
            if what == "run":
                before_commit(client, lambda: other.run_workflow(NS, W, "a", "theirs"))
            else:
                before_commit(client, lambda: other.signal_run(NS, W, "a", 1, 0, "x"))
            if what == "signal":
                with pytest.raises(Unavailable, match="replay_inbox looks again"):
                    mover(client).step()
            drain(mover(client))
        drink = "mine" if what == "signal" else "theirs"
        assert log(client) == created("a", message=drink)
        heard = b"0" if what == "signal" else b"1"
        assert sorted(signals(client)) == [("a", 1, "x", heard), ("a", 1, "y", b"2")]
        assert inbox(client) == []


def before_commit(client: Client, action: Callable[[], object]) -> None:
    """Do something once, between the next step's look and its transaction."""
    commit, waiting = client.log.commit, [action]

    def late(events: Sequence[Event], move: Move | None = None) -> list[bool]:
        if waiting and move is not None and move.also:
            waiting.pop()()
        return commit(events, move)

    client.log.commit = late  # type: ignore[method-assign]


def test_v4_two_processes_move_a_row_once(url: str) -> None:
    """V4, L7: the one that loses its name after its look adds nothing."""
    with stepped(url) as slow, stepped(url) as fast, mine(url) as connection:
        slow.within(connection).run_workflow(NS, W, "a", "tea")
        slow.within(connection).signal_run(NS, W, "a", 1, 7, "x")
        connection.commit()

        def overtake() -> None:
            slow.log.unlock(TARGET)
            with raw(url) as other:
                other.run("UPDATE replay_cursors SET owner = '' WHERE id = ?", TARGET)
            take_over(mover(fast))
            fast.log.poll()
            drain(mover(fast))

        before_commit(slow, overtake)
        with pytest.raises(LostOwnership):
            mover(slow).step()
        assert (log(slow), inbox(slow)) == (created("a"), [])
        assert signals(slow) == [("a", 1, "x", b"7")]


def test_v4_a_row_that_somebody_removes_is_not_moved(url: str) -> None:
    """V4: the transaction that moves it must find it, whoever owns the name."""
    with stepped(url) as client, mine(url) as connection:
        client.within(connection).run_workflow(NS, W, "a", "tea")
        client.within(connection).run_workflow(NS, W, "b", "tea")
        connection.commit()

        def remove() -> None:
            with raw(url) as other:
                other.run("DELETE FROM replay_inbox WHERE run = 'a'")

        before_commit(client, remove)
        with pytest.raises(LostOwnership):
            mover(client).step()
        assert log(client) == []
        drain(mover(client))
        assert log(client) == created("b")


@dataclass
class Order:
    lines: list[int]


def orders(ctx: RunContext, order: Order) -> None: ...


APPROVE = SignalType(1, Order)


def test_v4_everything_is_checked_at_the_call(url: str) -> None:
    """V4, N2, N3, J3, S1: what a client would refuse is refused before anything is written."""
    with stepped(with_options(url, require_message="go")) as client, mine(url) as connection:
        outbox = client.within(connection)
        for error, call in _wrong(outbox):
            with pytest.raises(error):
                call()
        connection.commit()
        assert inbox(client) == []
        outbox.run_workflow(NS, orders, "a", Order([1]))
        outbox.signal_run(NS, orders, "a", APPROVE, Order([2]), "x")
        connection.commit()
        drain(mover(client))
        assert log(client) == [(1, f"{NS}/orders/a/0", {"lines": [1]})]
        assert signals(client) == [("a", 1, "x", b'{"lines":[2]}')]


def _wrong(outbox: Any) -> list[tuple[type[Exception], Callable[[], object]]]:
    n, large = "n" * 255, "x" * 5_000_000
    return [
        (InvalidName, lambda: outbox.run_workflow(NS, W, "a/b", None)),
        (InvalidName, lambda: outbox.run_workflow(n, n, n, None)),
        (InvalidName, lambda: outbox.signal_run(NS, "", "a", 1, None, "x")),
        (WrongValue, lambda: outbox.run_workflow(NS, orders, "a", "tea")),
        (WrongValue, lambda: outbox.signal_run(NS, orders, "a", APPROVE, "tea", "x")),
        (InvalidSignal, lambda: outbox.signal_run(NS, W, "a", 128, None, "x")),
        (InvalidSignal, lambda: outbox.signal_run(NS, W, "a", 1, None, "x" * 256)),
        (InvalidSignal, lambda: outbox.signal_run(NS, W, "a", 1, SleepDone(), "x")),
        (MessageTooLarge, lambda: outbox.run_workflow(NS, W, "a", large)),
        (MessageTooLarge, lambda: outbox.signal_run(NS, W, "a", 1, large, "x")),
        (MissingMessage, lambda: outbox.run_workflow("go", W, "a", None)),
        (MissingMessage, lambda: outbox.signal_run("go", W, "a", 1, None, "x")),
    ]


class Reversed:
    """A codec that binds the key."""

    def encode(self, key: str, data: bytes) -> bytes:
        """As in `Codec`."""
        return key.encode() + b"|" + data[::-1]

    def decode(self, key: str, data: bytes) -> bytes:
        """As in `Codec`."""
        prefix, _, rest = data.partition(b"|")
        assert prefix.decode() == key
        return rest[::-1]


def test_v4_j4_messages_are_encoded_for_the_place_where_they_will_be(url: str) -> None:
    """V4, J4: by the program; the process that moves them needs no codec."""
    with (
        connect(url, loops=False, codec=Reversed()) as client,
        stepped(url) as bare,
        mine(url) as connection,
    ):
        flow = register_workflow(client, NS, hears, name=W, start=False)
        client.within(connection).run_workflow(NS, W, "a", "tea")
        client.within(connection).signal_run(NS, W, "a", 1, 7, "x")
        connection.commit()
        assert b"aet" in rows(client, "SELECT message FROM replay_inbox")[0][0]
        drain(mover(bare))
        drain(flow, *loops(client))
        assert client.result(NS, W, "a", 0) == 7


def test_v4_a_mover_with_the_codec_gives_the_workflow_what_it_can_read(url: str) -> None:
    """V4, J4: also what it has in memory."""
    with connect(url, loops=False, codec=Reversed()) as client, mine(url) as connection:
        flow = register_workflow(client, NS, hears, name=W, start=False)
        client.within(connection).run_workflow(NS, W, "a", "tea")
        client.within(connection).signal_run(NS, W, "a", 1, 7, "x")
        connection.commit()
        drain(flow, *loops(client))
        assert client.result(NS, W, "a", 0) == 7


FOREIGN = "namespace, workflow, run, type, external_id, message, created_at"


@pytest.mark.damages
def test_v4_l3_a_row_that_nobody_can_read_stops_no_other(url: str) -> None:
    """V4, L3: it stays and says why.  When somebody has mended it, it is moved."""
    bad: list[Row] = [
        ("n/s", W, "bad name", None, None, None),
        ("n" * 255, "w" * 255, "bad key", None, None, None),
        (NS, W, "no id", 1, None, None),
        (NS, W, "no type", None, "x", None),
        ("go", W, "no message", None, None, None),
        ("go", W, "no message", 1, "x", None),
        (NS, W, "large", None, None, b"x" * 2000),
    ]
    with (
        stepped(with_options(url, require_message="go", max_message=1000)) as client,
        raw(url) as other,
        LogLines() as lines,
    ):
        other.run("SELECT 1")
        for row in (*bad, (NS, W, "good", None, None, None), (NS, W, "good", 1, "x", None)):
            sql = f"INSERT INTO replay_inbox ({FOREIGN}) VALUES (?, ?, ?, ?, ?, ?, ?)"
            other.run(sql, *row, "2029-01-01 00:00:00.000")
        drain(mover(client))
        assert log(client) == created("good", message=None)
        assert signals(client) == [("good", 1, "x", None)]
        left = inbox(client)
        assert [row[0] for row in left] == [row[2] for row in bad]
        assert all(row[3] for row in left)
        assert "both" in left[2][3]
        assert len(lines.of("replay_inbox row")) == len(bad)
        alarms = [each.problem for each in audited(url) if each.promise == "L3"]
        assert len(alarms) == len(bad)
        assert all("of replay_inbox is not moved" in alarm for alarm in alarms)
        queries = Queries(client.log.database)
        mover(client).step()
        assert not client.log.tail.inbox  # nobody asks for them again and again
        assert queries.count <= 1  # that of the poll
        other.run(
            "UPDATE replay_inbox SET error = NULL, type = 1, external_id = 'x' WHERE run = 'no id'"
        )
        drain(mover(client))
        assert ("no id", 1, "x", None) in signals(client)


def test_v4_it_reads_a_bounded_number_of_rows_and_bytes(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """V4, L5, L6: however many there are, and however large; in order all the same."""
    monkeypatch.setattr(replay.storage.tail, "BYTES", 100_000)
    with stepped(url) as client, mine(url) as connection:
        outbox = client.within(connection)
        for n in range(300):
            outbox.run_workflow(NS, W, f"{n}", "tea")
        for n in range(300, 308):
            outbox.run_workflow(NS, W, f"{n}", "x" * 40_000)
        outbox.signal_run(NS, W, "0", 1, "x" * 200_000, "x")
        connection.commit()
        commits: list[int] = []
        write = client.log.database._write

        def counted(statements: Sequence[Statement], inserts: Sequence[Insert]) -> list[int]:
            commits.extend(sum(len(row[-1] or b"") for row in each.rows) for each in inserts)
            return write(statements, inserts)

        client.log.database._write = counted  # type: ignore[method-assign]
        drain(mover(client))
        assert [text for _, text, _ in log(client)] == [f"{NS}/{W}/{n}/0" for n in range(308)]
        assert len(signals(client)) == 1
        assert max(commits) <= 100_000
        assert len(commits) > 4


def test_v4_it_asks_nothing_as_long_as_nobody_uses_it(url: str) -> None:
    """V4: the poller looks in the query that it makes anyway."""
    with stepped(url) as client:
        it = mover(client)
        it.step()
        queries = Queries(client.log.database)
        client.log.poll()
        polled = queries.count
        for n in range(10):
            client.run_workflow(NS, W, f"{n}", "tea")
        asked = queries.count
        for _ in range(10):
            it._step(0)
        assert queries.count == asked
        assert polled <= 1


def test_v4_a_connection_to_another_database_is_refused(url: str, tmp_path: Path) -> None:
    """V4: one with such tables, and one without.  Nothing is written."""
    with stepped(url) as client, ExitStack() as stack:
        elsewhere = f"sqlite:///{tmp_path / 'other.db'}"
        if not url.startswith("sqlite:"):
            elsewhere = stack.enter_context(servers.fresh_database(url))
        bare = stack.enter_context(mine(elsewhere))
        with pytest.raises(WrongDatabase, match=r"does not lead to .*replay_inbox"):
            client.within(bare).run_workflow(NS, W, "a", "tea")
        bare.rollback()
        other = stack.enter_context(stepped(elsewhere))
        with pytest.raises(WrongDatabase, match="does not lead to"):
            client.within(bare).run_workflow(NS, W, "a", "tea")
        bare.commit()
        assert inbox(other) == []


def test_v4_a_log_in_memory_has_no_other_connection() -> None:
    """V4: one in memory of the program's own is another database."""
    with (
        stepped("sqlite://") as client,
        closing(sqlite3.connect(":memory:")) as connection,
        pytest.raises(WrongDatabase, match="no such table"),
    ):
        client.within(connection).run_workflow(NS, W, "a", "tea")


def test_v4_other_things_are_no_connections(url: str) -> None:
    """V4: the error says what to pass."""
    with stepped(url) as client, sqlalchemy.orm.Session(engine(url)) as session:
        for wrong in (None, url, session):
            with pytest.raises(BadConnection, match=r"session\.connection"):
                client.within(wrong)


class Broken:
    """A connection that is lost."""

    def cursor(self) -> Any:
        raise ConnectionResetError("gone")


def test_v4_the_errors_of_a_driver_are_its_own(url: str) -> None:
    """V4: a connection that is lost says so itself."""
    with stepped(url) as client, pytest.raises(ConnectionResetError, match="gone"):
        client.within(Broken()).run_workflow(NS, W, "a", "tea")


def test_v4_sqlalchemy_connections_sessions_and_what_is_behind_them(url: str) -> None:
    """V4: with tables of the program's own, in one transaction."""
    with stepped(url) as client:
        pool = engine(url)
        with pool.begin() as connection:
            connection.execute(sqlalchemy.text("CREATE TABLE things (name VARCHAR(10))"))
        add = sqlalchemy.text("INSERT INTO things VALUES (:name)")
        for run, commits in (("core", True), ("lost", False)):
            with pool.connect() as connection:
                connection.execute(add, {"name": run})
                client.within(connection).run_workflow(NS, W, run, "tea")
                client.within(connection).signal_run(NS, W, run, 1, 7, "x")
                if commits:
                    connection.commit()
        with sqlalchemy.orm.Session(pool) as session:
            session.execute(add, {"name": "orm"})
            client.within(session.connection()).run_workflow(NS, W, "orm", "tea")
            session.commit()
        with closing(pool.raw_connection()) as behind:
            client.within(behind).run_workflow(NS, W, "raw", "tea")
            behind.commit()
        drain(mover(client))
        assert log(client) == created("core", "orm", "raw")
        assert [row[0] for row in signals(client)] == ["core"]
        assert rows(client, "SELECT name FROM things") == [("core",), ("orm",)]
        pool.dispose()


def test_v4_r1_a_forgotten_copy_of_a_row_starts_nothing_again(url: str) -> None:
    """V4, R1: a run that has ended is not started again by a row that comes late."""
    with stepped(url) as client, mine(url) as connection:
        flow = register_workflow(client, NS, orders, start=False)
        client.run_workflow(NS, orders, "a", Order([]))
        drain(flow)
        client.within(connection).run_workflow(NS, orders, "a", Order([1]))
        connection.commit()
        drain(mover(client), flow)
        assert [type for type, *_ in log(client)] == [1, 2]


@pytest.mark.contract
def test_v4_through_a_server_it_is_refused(url: str) -> None:
    """V4, G1: an error that says what to do."""
    with stepped(url) as client, closing(sqlite3.connect(":memory:")) as connection:
        if client.log.embedded:
            client.within(connection)
            return
        with pytest.raises(EmbeddedOnly, match=r"within\(connection\) .* connect to the database"):
            client.within(connection)


def test_v4_the_poller_wakes_the_mover(url: str) -> None:
    """V4: with threads, a commit is all that it takes."""
    with connect(url) as client, mine(url) as connection:
        register_workflow(client, NS, hears, name=W)
        for run in "ab":
            client.within(connection).run_workflow(NS, W, run, "tea")
            client.within(connection).signal_run(NS, W, run, 1, 7, "x")
            connection.commit()
            assert client.result(NS, W, run, 60) == 7


def test_v4_a_server_of_our_own_moves_the_rows_of_its_database(url: str) -> None:
    """V4: MySQL's own accounts of rows are those of the driver."""
    with stepped(url) as client:
        database = client.log.database
        assert database.placeholder == ("%s" if isinstance(database, MySQL) else "?")
        assert len(database.log_id) == 32
        with stepped(url) as other:
            assert other.log.database.log_id == database.log_id
