"""Exactly-once steps: statements that an activity records, stored together with its response."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

import replay.consumer
from replay import (
    ActivityContext,
    ActivityFailed,
    Client,
    EventType,
    GiveUp,
    Key,
    Retry,
    RunContext,
    Unavailable,
    register_activity,
    register_workflow,
)
from replay.activity import ActivityConsumer
from replay.log import EmbeddedOnly, LostOwnership
from replay.storage.database import StatementFailed
from replay.testing import World
from replay.transactional import MOST, BadStatement, Cursor, NotTransactional
from tests.support import (
    Clock,
    Faults,
    LogLines,
    Raw,
    behind,
    drain,
    raw,
    request,
    rows,
    set_back,
    stepped,
    take_over,
)

NS = "ns"
INSERT = "INSERT INTO money (id, name, amount, raw) VALUES (?, ?, ?, ?)"


@pytest.fixture
def money(url: str) -> Iterator[Raw]:
    """Give another program's connection, in a database with a table of the user's own."""
    with stepped(url), raw(url) as other:
        blob = "BLOB" if not other.mysql else "MEDIUMBLOB"
        other.run(
            "CREATE TABLE money (id BIGINT PRIMARY KEY, name VARCHAR(190), amount DOUBLE,"
            f" raw {blob}, UNIQUE (name))"
        )
        yield other


def key(run: str, sequence: int = 0) -> Key:
    return Key(NS, "flow", run, 0, "pay", str(sequence))


def pays(
    client: Client, pay: Callable[..., object], name: str = "pay", **options: Any
) -> ActivityConsumer:
    """Register an activity that records statements."""
    options = {"transactional": True, "start": False, **options}
    consumer = register_activity(client, NS, pay, name=name, **options)
    assert isinstance(consumer, ActivityConsumer)
    return consumer


def asked(client: Client, *runs: str) -> None:
    """Request payments, as if runs had done it."""
    for run in runs:
        request(client, key(run))


def answered(client: Client) -> list[str]:
    """The runs that have their response."""
    sql = "SELECT run FROM replay_events WHERE type = 5 ORDER BY id"
    return [run for (run,) in rows(client, sql)]


def paid(client: Client) -> list[Any]:
    return [name for (name,) in rows(client, "SELECT name FROM money ORDER BY id")]


def put(ctx: ActivityContext, message: None, value: None) -> None:
    """Pay once for each run: again would be an error."""
    ctx.cursor.execute(INSERT, (len(ctx.run), ctx.run, 1.5, None))


def test_v5_statements_are_stored_with_the_response(url: str, money: Raw) -> None:
    """V5, A1: in order, and in no other transaction."""
    with stepped(url) as client:

        def pay(ctx: ActivityContext, backends: None, message: None) -> str:
            ctx.cursor.execute(INSERT, (1, "first", 1.0, None))
            ctx.cursor.execute("UPDATE money SET amount = amount + ? WHERE name = ?", (2, "first"))
            ctx.cursor.execute("insert into money (id, name) select id + 1, 'it''s' from money")
            assert money.run("SELECT * FROM money") == []  # nothing is executed yet
            return "paid"

        consumer = pays(client, pay)
        asked(client, "a")
        drain(consumer)
        assert money.run("SELECT id, name, amount FROM money ORDER BY id") == [
            (1, "first", 3.0),
            (2, "it's", None),
        ]
        event = client.log.find(EventType.ACTIVITY_RESPONSE, key("a"))
        assert event is not None
        assert event.message == "paid"
    with stepped(url) as client:
        consumer = pays(client, pay)
        set_back(client, consumer.name)
        drain(consumer)
        assert len(money.run("SELECT * FROM money")) == 2  # A4


@pytest.mark.parametrize("committed", [False, True])
def test_v5_a_lost_connection_executes_them_once(url: str, money: Raw, committed: bool) -> None:
    """V5, L6, A4: whether the commit was stored or not."""
    with stepped(url) as client:
        consumer = pays(client, put)
        consumer.step()
        asked(client, "a")
        faults = Faults(client.log.database)
        faults.before, faults.after = (0, 1) if committed else (1, 0)
        with pytest.raises(Unavailable):
            consumer.step()
        assert paid(client) == (["a"] if committed else [])
        drain(consumer)
        assert (paid(client), answered(client)) == (["a"], ["a"])


def test_v5_an_attempt_that_raises_records_nothing(url: str, money: Raw) -> None:
    """V5, A2, E3: nor does one whose result cannot be stored, or that gives up."""
    clock = Clock()
    with stepped(url, clock) as client:

        def pay(ctx: ActivityContext, backends: None, message: None) -> int:
            ctx.cursor.execute(INSERT, (ctx.attempt, f"{ctx.run} {ctx.attempt}", 1, None))
            if ctx.attempt == 1:
                raise OSError("no line")
            if ctx.attempt == 2:
                return "not a number"  # type: ignore[return-value]
            if ctx.run == "b":
                raise GiveUp("no money")
            return 1

        consumer = pays(client, pay)
        asked(client, "a", "b")
        for _ in range(3):
            drain(consumer)
            clock.forward(minutes=6)
        assert (paid(client), sorted(answered(client))) == (["a 3"], ["a", "b"])


FAILING = {
    "primary": (INSERT, (7, "fresh", 1, None)),
    "unique": (INSERT, (8, "taken", 1, None)),
    "no table": ("DELETE FROM nothing", ()),
    "syntax": ("INSERT money", ()),
}


@pytest.mark.parametrize("what", FAILING)
@pytest.mark.parametrize("workers", [1, 3])
def test_v5_a_statement_that_fails_parks_its_request_alone(
    url: str, money: Raw, what: str, workers: int
) -> None:
    """V5, A2, A3: with the database's error.  The others of its transaction are stored."""
    clock = Clock()
    money.run("INSERT INTO money (id, name) VALUES (7, 'taken')")
    with stepped(url, clock) as client, LogLines() as lines:
        go = threading.Event()

        def pay(ctx: ActivityContext, backends: None, message: None) -> None:
            go.wait(60)
            ctx.cursor.execute(INSERT, (ord(ctx.run), ctx.run, 1, None))
            if ctx.run in "bd" and ctx.attempt == 1:
                ctx.cursor.execute(*FAILING[what])

        consumer = pays(client, pay, workers=workers)
        asked(client, *"abcde")
        go.set()
        drain(consumer)
        for running in list(consumer._running.values()):
            running.result.exception()
        drain(consumer)
        assert paid(client) == ["taken", "a", "c", "e"]
        assert sorted(answered(client)) == ["a", "c", "e"]
        parked = consumer.parked()
        assert [each.attempts for each in parked] == [1, 1]
        assert {each.key for each in parked} == {str(key("b")), str(key("d"))}
        assert all(each.error.startswith("StatementFailed: ") for each in parked)
        assert len(lines.of("attempt 1 of")) == 2
        clock.forward(seconds=2)
        for _ in range(3):
            drain(consumer)
            for running in list(consumer._running.values()):
                running.result.exception()
        assert paid(client) == ["taken", "a", "b", "c", "d", "e"]
        assert (sorted(answered(client)), consumer.parked()) == ([*"abcde"], [])


def test_v5_e3_a_statement_that_fails_counts_as_an_attempt(url: str, money: Raw) -> None:
    """V5, E3: after the last one the run gets the failure."""
    clock = Clock()
    with stepped(url, clock) as client:

        def pay(ctx: ActivityContext, backends: None, message: None) -> None:
            ctx.cursor.execute("DELETE FROM nothing")

        def flow(ctx: RunContext, message: None) -> str:
            try:
                ctx.exec_activity("pay", None)
            except ActivityFailed as error:
                return f"{error.kind} after {error.attempts}"
            return "paid"

        consumer = pays(client, pay, retry=Retry(attempts=2))
        workflow = register_workflow(client, NS, flow, start=False)
        client.run_workflow(NS, flow, "a", None)
        for _ in range(3):
            drain(workflow, consumer)
            clock.forward(minutes=1)
        assert client.result(NS, flow, "a", 0) == "StatementFailed after 2"


def test_v5_a_response_that_is_there_already_executes_nothing(url: str, money: Raw) -> None:
    """V5, A1, H2: another consumer, with other shards, may have been faster."""
    with stepped(url) as client:

        def pay(ctx: ActivityContext, backends: None, message: None) -> None:
            ctx.cursor.execute(INSERT, (ord(ctx.run), ctx.run, 1, None))
            if ctx.run == "b":
                log = behind(client)
                assert log.append(log.event(EventType.ACTIVITY_RESPONSE, key("b"), None))

        consumer = pays(client, pay)
        asked(client, *"abc")
        drain(consumer)
        assert (paid(client), sorted(answered(client))) == (["a", "c"], ["a", "b", "c"])


def test_v5_l7_who_has_lost_the_name_executes_nothing(url: str, money: Raw) -> None:
    """V5, L7: the other process does, once."""
    with stepped(url) as slow, stepped(url) as fast:
        other = pays(fast, put)

        def late(ctx: ActivityContext, backends: None, message: None) -> None:
            put(ctx, None, None)
            slow.log.unlock(consumer.name)
            money.run("UPDATE replay_cursors SET owner = '' WHERE id = ?", consumer.name)
            take_over(other)
            fast.log.poll()
            drain(other)

        consumer = pays(slow, late)
        asked(slow, "a")
        with pytest.raises(LostOwnership):
            consumer.step()
        assert (paid(slow), answered(slow)) == (["a"], ["a"])


def test_v5_a_row_that_is_locked_holds_up_one_request(server_url: str) -> None:
    """V5, A3: its transaction waits a second for the lock, then the request is parked."""
    clock = Clock()
    with stepped(server_url, clock) as client, raw(server_url) as other:
        other.run("CREATE TABLE money (id BIGINT PRIMARY KEY, amount BIGINT)")
        other.run("INSERT INTO money VALUES (1, 0), (2, 0)")
        update = "UPDATE money SET amount = amount + 1 WHERE id = ?"

        def pay(ctx: ActivityContext, backends: None, message: None) -> None:
            ctx.cursor.execute(update, (1 if ctx.run == "held" else 2,))

        consumer = pays(client, pay)
        asked(client, "held", "free")
        other.run("BEGIN")
        other.run(update, 1)
        drain(consumer)
        assert answered(client) == ["free"]
        assert "Lock wait timeout" in consumer.parked()[0].error
        other.run("COMMIT")
        clock.forward(seconds=2)
        drain(consumer)
        assert other.run("SELECT amount FROM money ORDER BY id") == [(2,), (1,)]


def test_v5_e4_an_abandoned_attempt_records_nothing(url: str, money: Raw) -> None:
    """V5, E4: what it records too late raises, and the next attempt's statements count."""
    clock = Clock()
    with stepped(url, clock) as client:
        go, late = threading.Event(), list[BaseException]()

        def pay(ctx: ActivityContext, backends: None, message: None) -> None:
            ctx.cursor.execute(INSERT, (ctx.attempt, f"attempt {ctx.attempt}", 1, None))
            if ctx.attempt == 1:
                assert go.wait(60)
                try:
                    ctx.cursor.execute(INSERT, (9, "late", 1, None))
                except BadStatement as error:
                    late.append(error)
                ended.set()

        ended = threading.Event()
        consumer = pays(client, pay, workers=2, timeout=timedelta(seconds=0.001))
        asked(client, "a")
        while not consumer.parked() or consumer.parked()[0].attempts == 0:
            consumer.step()
        go.set()
        assert ended.wait(60)
        assert len(late) == 1
        consumer._timeout = timedelta(minutes=1)
        clock.forward(seconds=2)
        while not answered(client):
            consumer.step()
        assert paid(client) == ["attempt 2"]
        drain(consumer)


@pytest.mark.parametrize("text", ['it\'s 100 % \\ a? ; -- # /* `x` "y"', "é 🙂", ""])
def test_v5_parameters_are_stored_as_they_are(url: str, money: Raw, text: str) -> None:
    """V5: one style of placeholders for all databases, and nothing in a value is SQL."""
    with stepped(url) as client:
        blob = bytes(range(256))

        def pay(ctx: ActivityContext, backends: None, message: None) -> None:
            ctx.cursor.execute(INSERT, (-(2**63), text, 0.1, blob))
            ctx.cursor.execute(INSERT, (2**63 - 1, None, None, b""))
            ctx.cursor.execute(INSERT, (True, "true", -1e300, None))

        asked(client, "a")
        drain(pays(client, pay))
        assert money.run("SELECT id, name, amount, raw FROM money ORDER BY id") == [
            (-(2**63), text, 0.1, blob),
            (1, "true", -1e300, None),
            (2**63 - 1, None, None, b""),
        ]


@pytest.mark.parametrize(
    ("sql", "parameters"),
    [
        ("SELECT 1", ()),
        ("COMMIT", ()),
        ("CREATE TABLE x (y INT)", ()),
        ("CALL x()", ()),
        ("", ()),
        (b"DELETE FROM x", ()),
        ("DELETE FROM x; COMMIT", ()),
        ("DELETE FROM x -- y", ()),
        ("DELETE FROM x # y", ()),
        ("DELETE FROM x /* y */", ()),
        ("DELETE FROM x WHERE y = 'z", ()),
        ("DELETE FROM x WHERE y = 'z\\'", ()),
        ("DELETE FROM x WHERE y LIKE 'z%'", ()),
        ("DELETE FROM x WHERE y = '?'", ()),
        ("DELETE FROM x WHERE y = '?'", (1,)),
        ("DELETE FROM x WHERE y = '\ud800'", ()),
        ("DELETE FROM x WHERE y = ?", ()),
        ("DELETE FROM x", (1,)),
        ("DELETE FROM x WHERE y = ?", (2**63,)),
        ("DELETE FROM x WHERE y = ?", (float("nan"),)),
        ("DELETE FROM x WHERE y = ?", (float("inf"),)),
        ("DELETE FROM x WHERE y = ?", ("\ud800",)),
        ("DELETE FROM x WHERE y = ?", ([1],)),
        ("DELETE FROM x WHERE y = ?", (bytearray(b"x"),)),
        ("DELETE FROM x WHERE y = ?", (EventType.NOOP,)),
    ],
)
def test_v5_other_statements_are_refused_at_the_call(sql: Any, parameters: Any) -> None:
    """V5: nothing of them may reach into the transaction that they will be a part of."""
    cursor = Cursor(1000)
    with pytest.raises(BadStatement):
        cursor.execute(sql, parameters)
    assert cursor.steps == []
    cursor.execute("DELETE FROM `x` WHERE \"y\" = 'it''s' AND z = ?", ("-- ; '",))
    assert len(cursor.steps) == 1


def test_v5_an_attempt_records_a_bounded_number_and_bytes() -> None:
    """V5, L6: of statements, and of their texts and values."""
    cursor = Cursor(1000)
    cursor.execute("DELETE FROM x WHERE y = ?", (b"x" * 900,))
    for large in ("x" * 100, "é" * 50, b"x" * 100):
        with pytest.raises(BadStatement, match="1000 bytes"):
            cursor.execute("DELETE FROM x WHERE y = ?", (large,))
    many = Cursor(10**9)
    for _ in range(MOST):
        many.execute("DELETE FROM x")
    with pytest.raises(BadStatement, match=f"{MOST} statements"):
        many.execute("DELETE FROM x")


def test_v5_l6_a_transaction_holds_a_bounded_number_of_bytes(
    url: str, money: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """V5, L6: statements count as events do."""
    monkeypatch.setattr(replay.consumer, "BYTES", 100_000)
    with stepped(url) as client:

        def pay(ctx: ActivityContext, backends: None, message: None) -> None:
            ctx.cursor.execute(INSERT, (ord(ctx.run), ctx.run, 1, b"x" * 60_000))

        consumer = pays(client, pay)
        asked(client, *"abcd")
        consumer.step()
        assert paid(client) == ["a", "b"]
        drain(consumer)
        assert paid(client) == [*"abcd"]


def test_v5_other_activities_have_no_cursor(url: str) -> None:
    """V5: the error says how to get one."""
    with stepped(url) as client:
        found = list[str]()

        def pay(ctx: ActivityContext, backends: None, message: None) -> None:
            with pytest.raises(NotTransactional, match="transactional=True") as caught:
                ctx.cursor.execute("DELETE FROM x")
            found.append(str(caught.value))

        asked(client, "a")
        drain(pays(client, pay, transactional=False))
        assert len(found) == 1
        assert str(key("a")) in found[0]


@pytest.mark.contract
def test_v5_through_a_server_it_is_refused(url: str) -> None:
    """V5, G1: when it is registered, with an error that says what to do."""
    with stepped(url) as client:
        if client.log.embedded:
            pays(client, put)
            return
        with pytest.raises(EmbeddedOnly, match="activity pay: transactional=True needs"):
            pays(client, put, name="pay")


def test_v5_the_error_names_the_statement_that_failed(url: str, money: Raw) -> None:
    """V5, A2: the text is the database's own."""
    with stepped(url) as client:

        def pay(ctx: ActivityContext, backends: None, message: None) -> None:
            ctx.cursor.execute(INSERT, (1, "a", 1, None))
            ctx.cursor.execute("DELETE FROM nothing")

        consumer = pays(client, pay)
        asked(client, "a")
        drain(consumer)
        assert "nothing" in consumer.parked()[0].error
        assert StatementFailed.__name__ in consumer.parked()[0].error
        assert paid(client) == []


def test_v5_v1_a_world_executes_statements_once_too() -> None:
    """V5, V1: in virtual time, also when the process dies."""
    with World() as world:
        client = world.client
        client.log.database.query("CREATE TABLE money (amount BIGINT)")

        def pay(ctx: ActivityContext, backends: None, amount: int) -> None:
            ctx.cursor.execute("INSERT INTO money VALUES (?)", (amount,))

        def flow(ctx: RunContext, amount: int) -> None:
            ctx.exec_activity(pay, amount)

        register_workflow(client, NS, flow)
        register_activity(client, NS, pay, transactional=True)
        client.run_workflow(NS, flow, "a", 7)
        world.until_idle()
        world.crash()
        client.run_workflow(NS, flow, "b", 8)
        world.until_idle()
        assert rows(client, "SELECT amount FROM money ORDER BY amount") == [(7,), (8,)]
