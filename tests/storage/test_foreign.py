"""L3: rows that another program wrote or changed: what nobody can read stops nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from replay import Client, Consumer, Key, RunContext, consume, register_workflow
from replay.server.proto.replaypb_pb2 import SleepRequest
from replay.storage.database import SCHEMA_VERSION, DatabaseError
from replay.storage.open import open_database
from tests.example_pb2 import Int
from tests.support import (
    Clock,
    LogLines,
    drain,
    line,
    listing,
    loops,
    raw,
    request,
    rows,
    start_runs,
    stepped,
)

pytestmark = pytest.mark.damages


def meddle(url: str, *statements: str) -> None:
    """Change rows as a program does that checks nothing."""
    with raw(url) as other:
        if other.mysql:
            other.run("SET SESSION sql_mode = ''")
        for sql in statements:
            other.run(sql)


def is_sqlite(url: str) -> bool:
    return url.startswith("sqlite:")


KEY = "is not the key of an event"
ZERO = "'0000-00-00 00:00:00.000'"
EVENTS = {
    "type = -1": "its type is -1",
    "type = 6": "its type is 6",
    "`key` = 'nonsense'": f"'nonsense' {KEY}",
    "`key` = 'ns/flow/b/-1'": f"'ns/flow/b/-1' {KEY}",
    "`key` = 'ns/flow/b/00'": f"'ns/flow/b/00' {KEY}",
    "`key` = 'ns/flow/b/2147483648'": f"'ns/flow/b/2147483648' {KEY}",
    "`key` = 'ns//b/0'": f"'ns//b/0' {KEY}",
    f"timestamp = {ZERO}": f"its timestamp is {ZERO}",
}
#: SQLite stores anything in any column.
ANYTHING = {
    "type = 'x'": "its type is 'x'",
    "type = x'ff'": r"its type is b'\xff'",
    "`key` = x'ff'": r"its key is b'\xff'",
    "`key` = CAST(x'6eff' AS TEXT)": r"its key is b'n\xff'",
    f"`key` = 'ns/flow/{'b' * 256}/0'": f"'ns/flow/{'b' * 256}/0' {KEY}",
    f"`key` = 'ns/flow/b/0/{'t' * 512}/0'": f"'ns/flow/b/0/{'t' * 288}' {KEY}",
    "timestamp = 5": "its timestamp is 5",
    "timestamp = x''": "its timestamp is b''",
}


@pytest.mark.parametrize("change", EVENTS)
def test_l3_a_row_that_is_no_event_is_passed_over(url: str, change: str) -> None:
    """L3: whoever reads it, and however often."""
    pass_over(url, change, EVENTS[change])


@pytest.mark.parametrize("change", ANYTHING)
def test_l3_sqlite_rows_that_are_no_events_are_passed_over(tmp_path: Path, change: str) -> None:
    """L3: texts and numbers in the wrong columns, too."""
    pass_over(f"sqlite:///{tmp_path}/replay.db", change, ANYTHING[change])


def pass_over(url: str, change: str, problem: str) -> None:
    """Change the second of three rows, read all of them three times, and look into the log."""
    with stepped(url) as client:
        start_runs(client, "a", "b", "c")
    meddle(url, f"UPDATE replay_events SET {change} WHERE id = 2")
    seen: list[str] = []
    with stepped(url) as client, LogLines() as log:
        left = [f"RUN_CREATED ns/flow/{run}/0 value: 1" for run in "ac"]
        assert listing(client) == left
        drain(consume(client, "mine", lambda event: seen.append(line(event)), start=False))
        assert (seen, listing(client), client.log.get(2)) == (left, left, None)
        assert not client.run_workflow("ns", "flow", "a", None)
        assert log.lines == [f"replay_events row 2 is unreadable and passed over: {problem}"]


def test_l3_a_log_full_of_them_is_told_of_a_thousand(url: str) -> None:
    """L3: and then no more."""
    with stepped(url) as client:
        start_runs(client, *(f"r{n}" for n in range(1010)), "last")
        meddle(url, "UPDATE replay_events SET type = -1 WHERE id <= 1010")
    with stepped(url) as client, LogLines() as log:
        assert listing(client) == ["RUN_CREATED ns/flow/last/0 value: 1"]
        assert (len(log.lines), len(log.of("further such rows are not logged"))) == (1000, 1)


def test_r5_a_message_that_is_text_parks_its_run(url: str) -> None:
    """R5: it is as damaged as any other bytes that are no message, and holds nobody up."""
    done: list[str] = []
    with stepped(url) as client:
        start_runs(client, "a", "b")
        meddle(url, "UPDATE replay_events SET message = 'text' WHERE id = 1")

    def flow(ctx: RunContext, message: Int) -> None:
        done.append(ctx.run)

    with stepped(url) as client:
        drain(consumer := register_workflow(client, "ns", flow, start=False))
        ((parked),) = consumer.parked()
        assert (done, parked.event_id, parked.key) == (["b"], 1, "ns/flow/a/0")
        assert parked.error.startswith("MessageError: a stored message is damaged")


def wish(seconds: int) -> SleepRequest:
    made = SleepRequest()
    made.duration.seconds = seconds
    return made


def timer(table: str, key: str, at: str, more: str) -> str:
    """Insert a row of a sleep or an await."""
    columns = "created_at, complete_at, completed"
    if table == "replay_signal_awaits":
        columns = "created_at, timeout_at, status"
    return f"INSERT INTO {table} (`key`, {columns}) VALUES ('{key}', {at}, {at}, {more})"


DUE = "'2029-01-01 00:00:00.000'"
SLEEPS = [
    timer("replay_sleeps", "ns/flow/x/0/replay_sleep/0", ZERO, "0"),
    timer("replay_sleeps", "nonsense", DUE, "0"),
    timer("replay_sleeps", "ns/flow/x/0/charge/0", DUE, "0"),
]
AWAITS = [
    timer("replay_signal_awaits", "ns/flow/r/0/replay_signal/1:0", ZERO, "1"),
    timer("replay_signal_awaits", "ns/flow/r/0/replay_signal/x:0", DUE, "1"),
    timer("replay_signal_awaits", "ns/flow/r/0/charge/0", DUE, "1"),
    timer("replay_signal_awaits", "ns/flow/r/zero", DUE, "1"),
]


def by_name(client: Client, name: str) -> Consumer:
    (found,) = (each for each in loops(client) if each.name == name)
    return found


def test_l3_sleeps_that_nobody_can_read_hold_up_no_other(url: str) -> None:
    """L3, R7: nor is a request answered that is no sleep."""
    asked = Key("ns", "flow", "r", 0, "replay_sleep", "0")
    with stepped(url, clock := Clock()) as client, LogLines() as log:
        meddle(url, *SLEEPS)
        request(client, asked, wish(1))
        for _ in range(2):
            drain(by_name(client, "replay_sleep"))
            clock.forward(seconds=1)
        assert listing(client)[1:] == [f"ACTIVITY_RESPONSE {asked}"]
        assert rows(client, "SELECT completed FROM replay_sleeps ORDER BY id") == [
            *[(0,)] * 3,
            (1,),
        ]
        assert [each.partition(" is ")[0] for each in log.lines] == [
            "replay_sleeps row ns/flow/x/0/replay_sleep/0",
            *sorted(["replay_sleeps row ns/flow/x/0/charge/0", "replay_sleeps row nonsense"]),
        ]


def test_l3_unreadable_sleeps_do_not_hide_those_that_memory_does_not_hold(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P6: they count among the rows that were read, so the table is read on."""
    monkeypatch.setattr("replay.sleep.Timers.LIMIT", 5)
    keys = [Key("ns", "flow", f"r{n}", 0, "replay_sleep", "0") for n in range(8)]
    with stepped(url, clock := Clock()) as client:
        for key in keys:
            request(client, key, wish(1))
        drain(by_name(client, "replay_sleep"))
        meddle(url, *SLEEPS)
    with stepped(url, clock) as client:
        clock.forward(seconds=1)
        drain(by_name(client, "replay_sleep"))
        assert listing(client)[8:] == [f"ACTIVITY_RESPONSE {key}" for key in keys]


def test_l3_awaits_and_signals_that_nobody_can_read_hold_up_no_other(url: str) -> None:
    """L3, S2, S4: the signal behind them is taken, and the await beside them ends."""
    asked = [Key("ns", "flow", "r", 0, "replay_signal", f"1:{n}") for n in (1, 2)]
    foreign = ["created_at = " + ZERO, *(["type = 'x'", "run = x'00'"] if is_sqlite(url) else [])]
    with stepped(url, clock := Clock()) as client, LogLines() as log:
        meddle(url, *AWAITS)
        for n in range(len(foreign) + 1):
            assert client.signal_run("ns", "flow", "r", 1, Int(value=n), f"{n}")
        for n, change in enumerate(foreign, 1):
            meddle(url, f"UPDATE replay_signals SET {change} WHERE id = {n}")
        for key in asked:
            request(client, key, wish(1))
        for _ in range(2):
            drain(by_name(client, "replay_signal"))
            clock.forward(seconds=2)
        assert listing(client)[2:] == [
            f"ACTIVITY_RESPONSE {asked[0]} value: {len(foreign)}",
            f"ACTIVITY_RESPONSE {asked[1]}",
        ]
        told = [re.findall(r"^(\w+) row (\S+) is", each)[0] for each in log.lines]
        assert sorted(told) == sorted(
            [("replay_signals", f"{n}") for n in range(1, len(foreign) + 1)]
            + [("replay_signal_awaits", sql.split("'")[1]) for sql in AWAITS]
        )


def test_l3_parked_rows_that_nobody_can_read_stop_no_consumer(url: str) -> None:
    """L3, A2: the others are tried again."""
    broken = True

    def flow(ctx: RunContext, message: Int) -> None:
        assert not broken

    with stepped(url) as client:
        start_runs(client, "a", "b", "c")
        drain(register_workflow(client, "ns", flow, start=False))
    broken = False
    meddle(
        url,
        f"UPDATE replay_parked SET next_at = {ZERO} WHERE event_id = 1",
        "UPDATE replay_parked SET `key` = 'nonsense' WHERE event_id = 2",
    )
    with stepped(url) as client, LogLines() as log:
        drain(register_workflow(client, "ns", flow, start=False))
        assert listing(client)[3:] == ["RUN_COMPLETED ns/flow/c/0 -"]
        assert [each.partition(" is ")[0] for each in log.lines] == [
            "replay_parked row 1 of workflow/ns/flow",
            "replay_parked row 2 of workflow/ns/flow",
        ]


@pytest.mark.parametrize("name", ["consumer/mine", "replay_signal", "replay_signal/seen"])
def test_l5_a_cursor_that_is_no_id_is_an_error_that_names_it(url: str, name: str) -> None:
    """L5: no reader begins before the first id, where it would fill gaps for ever."""
    with stepped(url) as client:
        mine = consume(client, "mine", print, start=False)
        consumer = mine if name == "consumer/mine" else by_name(client, "replay_signal")
        meddle(
            url,
            "INSERT INTO replay_cursors (id, last_event_id, updated_at, owner)"
            f" VALUES ('{name}', -5, {DUE}, '')",
        )
        with pytest.raises(DatabaseError, match=f"the cursor of {name} in replay_cursors is -5"):
            consumer.step()
        meddle(url, f"UPDATE replay_cursors SET last_event_id = 0 WHERE id = '{name}'")
        assert consumer.step() == 0
        assert (
            rows(client, "SELECT id FROM replay_events UNION SELECT id FROM replay_signals") == []
        )


def test_l7_a_lease_that_nobody_can_read_has_ended(url: str) -> None:
    """L7: else nobody could ever take that name."""
    with stepped(url) as client:
        start_runs(client, "a")
        drain(consume(client, "mine", print, start=False))
        meddle(
            url,
            f"UPDATE replay_cursors SET lease_until = {ZERO}, owner = 'x|y:1:z'"
            " WHERE id = 'consumer/mine'",
        )
    seen: list[str] = []
    with stepped(url) as client:
        start_runs(client, "b")
        drain(consume(client, "mine", lambda event: seen.append(line(event)), start=False))
    assert seen == ["RUN_CREATED ns/flow/b/0 value: 1"]


def test_a_schema_version_that_is_no_number_is_an_error_that_says_so(url: str) -> None:
    """The database is not upgraded on a guess."""
    with stepped(url):
        meddle(url, "UPDATE replay_meta SET value = 'new' WHERE name = 'schema_version'")
    problem = f"the schema_version in replay_meta is 'new', .*writes {SCHEMA_VERSION}"
    with pytest.raises(DatabaseError, match=problem):
        open_database(url)


COLLATIONS = ["utf8mb4_unicode_ci", "utf8mb4_general_ci", "utf8mb4_bin"]


@pytest.mark.parametrize("collation", COLLATIONS)
def test_l8_signals_are_answered_whatever_the_collations_of_two_tables(
    server_url: str, collation: str
) -> None:
    """L8: a server refuses to compare texts of two collations, and finds no index for others."""
    key = Key("ns", "flow", "r", 0, "replay_signal", "1:0")
    with stepped(server_url) as client:
        meddle(
            server_url,
            f"ALTER TABLE replay_events CONVERT TO CHARACTER SET utf8mb4 COLLATE {collation}",
            "ALTER TABLE replay_signal_awaits CONVERT TO CHARACTER SET utf8mb4"
            " COLLATE utf8mb4_general_ci",
        )
        request(client, key, wish(60))
        drain(matcher := by_name(client, "replay_signal"))
        assert client.signal_run("ns", "flow", "r", 1, Int(value=7), "x")
        drain(matcher)
        assert listing(client)[1:] == [f"ACTIVITY_RESPONSE {key} value: 7"]
