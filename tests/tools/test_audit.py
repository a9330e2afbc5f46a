"""The audit finds each kind of damage, names its promise, and raises no false alarm."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from replay import (
    ActivityContext,
    Cancelled,
    Client,
    Consumer,
    Failed,
    Pending,
    RunContext,
    register_activity,
    register_workflow,
)
from replay.storage.database import TABLES, BadUrl, SchemaTooNew, Unavailable
from replay.tools import cli
from replay.tools.audit import Audit, audited
from replay.tools.tables import NoLog, open_log
from tests.scenario import FOLDER, perform
from tests.support import Clock, Raw, drain, raw, stepped
from tests.test_golden import SCENARIOS, cuts, fill, make_tables

pytestmark = pytest.mark.damages

# A log with everything in it, some of it in the middle of its way.


def full(ctx: RunContext, left: int) -> str:
    """Two iterations of all that there is; the first leaves an await open."""
    ctx.emit_output("step", ctx.exec_activity(toil, left))
    ctx.emit_output("step", ctx.exec_activity(toil, left))
    ctx.sleep(timedelta(milliseconds=1500))
    for type in (1, 1, 2):
        heard = ctx.await_signal(type, timedelta(seconds=10))
        ctx.emit_output("heard", None if heard is None else heard.message)
    ctx.begin(ctx.signal(3))
    ctx.patched("new")
    if left:
        ctx.restart(left - 1)
    return "done"


def fail(ctx: RunContext, left: int) -> None:
    ctx.exec_activity(toil, left)
    raise Failed("no")


def hold(ctx: RunContext, left: int) -> None:
    try:
        ctx.sleep(timedelta(days=1))
    except Cancelled:
        if left:
            ctx.restart(left - 1)
        raise


def wait(ctx: RunContext, left: int) -> None:
    both: list[Pending[Any]] = [ctx.begin(ctx.call(toil, left))]
    both.append(ctx.begin(ctx.timer(timedelta(days=1))))
    both.append(ctx.begin(ctx.signal(1)))
    ctx.first(*both)


def stumble(ctx: RunContext, left: int) -> None:
    if left:
        ctx.exec_activity(trip, left)
    raise ValueError("a bug")


def toil(ctx: ActivityContext, backends: None, left: int) -> int:
    return left + 1


def trip(ctx: ActivityContext, backends: None, left: int) -> int:
    raise ValueError("not today")


def make(url: str) -> None:
    """Leave such a log."""
    with stepped(url, clock := Clock()) as client:
        for each in (full, fail, hold, wait, stumble):
            register_workflow(client, "ns", each, start=False)
        register_activity(client, "ns", trip, start=False)
        working = register_activity(client, "ns", toil, start=False)
        for n in range(7):
            client.signal_run("ns", "full", "a", 1 + n // 6, f"s{n}", f"{n}")
        runs = [("full", "a", 1), ("full", "b", 0), ("fail", "a", 1), ("hold", "a", 1)]
        for workflow, run, left in [*runs, ("hold", "b", 0), ("stumble", "a", 1)]:
            client.run_workflow("ns", workflow, run, left)
        client.run_workflow("ns", "stumble", "b", 0)
        _live(client, clock)
        for run in "ab":
            client.cancel_run("ns", "hold", run, "enough")
        _live(client, clock)
        working.stop()
        client.run_workflow("ns", "wait", "a", 0)
        drain(*[each for each in _staff(client) if each is not working])


def _staff(client: Client) -> list[Consumer]:
    return [*client._consumers.values(), *client.loops()]


def _live(client: Client, clock: Clock) -> None:
    for _ in range(40):
        drain(*_staff(client))
        clock.forward(milliseconds=1500)


# Damages.

EVENT = ("id", "`key`", "namespace", "workflow", "run", "iteration", "type", "timestamp", "message")
NOOP = "type = 0, namespace = '', workflow = '', run = NULL, `key` = "


def copy(id: int, new: int, **changes: object) -> str:
    """Add an event that is like another one, but for some columns."""
    changes = {"id": new} | changes
    values = (f"'{changes[c]}'" if (c := each.strip("`")) in changes else each for each in EVENT)
    columns = ", ".join(EVENT)
    what = ", ".join(values)
    return f"INSERT INTO replay_events ({columns}) SELECT {what} FROM replay_events WHERE id = {id}"


def change(id: int, what: str, table: str = "events") -> str:
    return f"UPDATE replay_{table} SET {what} WHERE id = {id}"


def renamed(old: str, new: str) -> list[str]:
    """Give a part of keys another name, in all tables that have keys."""
    return [
        f"UPDATE replay_{table} SET `key` = REPLACE(`key`, '{old}', '{new}')"
        for table in ("events", "sleeps", "signal_awaits")
    ]


def swap(one: int, other: int) -> list[str]:
    return [change(one, "id = -1"), change(other, f"id = {one}"), change(-1, f"id = {other}")]


def lost(table: str, where: object) -> str:
    return (
        f"DELETE FROM replay_{table} WHERE {f'id = {where}' if isinstance(where, int) else where}"
    )


def cursor(name: str, at: int) -> str:
    return f"UPDATE replay_cursors SET last_event_id = {at} WHERE id = '{name}'"


SLEEP = "INSERT INTO replay_sleeps (id, `key`, created_at, complete_at, completed)"
AWAIT = "INSERT INTO replay_signal_awaits (id, `key`, created_at, timeout_at, status)"
TIMES = "'2030-01-01 00:00:00.000', '2030-01-01 00:00:01.000'"
SEEN = (
    "INSERT INTO replay_cursors (id, last_event_id, updated_at) VALUES"
    " ('replay_signal/seen', {}, '2030-01-01 00:00:00.000')"
)
SIGNAL = "namespace, workflow, run, hash, type, external_id, message, created_at, check_id"
PARKED = "consumer, `key`, attempts, next_at, error"
KEYS, SIGNALS, PARKS = "events by_type_key", "signals uniq", "parked by_event"  # unique indexes
FLOW = "workflow/ns/stumble"

DONE = b"\n$type.googleapis.com/replaypb.SleepDone".hex()  # no signal

#: By name, the promises that it breaks, and how it is done: SQL, or an index to drop.
DAMAGES: dict[str, tuple[str, Sequence[str]]] = {
    # The log.
    "an event is lost": ("L1", [lost("events", 70)]),
    "the end of a run is lost": ("L1 E2", [lost("events", 84)]),
    "several events are lost": (
        "L1",
        [lost("events", "id IN (80, 81, 82, 85)"), lost("sleeps", 6)],
    ),
    "a signal is lost": ("L1", [SEEN.format(7), lost("signals", 6)]),
    "a run is created twice": ("L2", [KEYS, copy(3, 90)]),
    "an iteration is created twice": ("L2", [KEYS, copy(82, 90)]),
    "a request is there twice": ("L2", [KEYS, copy(87, 90)]),
    "a run ends twice": ("L2", [KEYS, copy(77, 90)]),
    "an unknown type": ("L3", [change(73, "type = 9")]),
    "a negative type": ("L3", [change(73, "type = -1")]),
    "a key of nothing": ("L3", [change(73, "`key` = 'nonsense'")]),
    "a key without a target": ("L3", [change(73, "`key` = 'ns/full/b/0/'")]),
    "a key without a sequence": ("L3", [change(73, "`key` = 'ns/full/b/0/heard/'")]),
    "a created event with a target": (
        "L3 R1",
        [change(86, "`key` = 'ns/wait/a/0/x/0'"), *swap(86, 89)],
    ),
    "a count that is no number": ("L3", [change(73, "`key` = 'ns/full/b/0/heard/two'")]),
    "a count with a zero in front": ("L3", [change(73, "`key` = 'ns/full/b/0/heard/02'")]),
    "another run in its column": ("L3", [change(73, "run = 'c'")]),
    "no run in its column": ("L3", [change(73, "run = NULL")]),
    "another iteration in its column": ("L3", [change(73, "iteration = 1")]),
    "a parked row of nothing": (
        "L3 R2",
        [f"UPDATE replay_parked SET `key` = 'x' WHERE consumer = '{FLOW}'"],
    ),
    "a parked row that counts down": (
        "L3",
        [f"UPDATE replay_parked SET attempts = -1 WHERE consumer = '{FLOW}'"],
    ),
    "a cursor beyond the log": ("L5", [cursor("workflow/ns/fail", 1000)]),
    "a cursor below it": ("L5", [cursor("workflow/ns/fail", -1)]),
    "a cursor beyond the signals": ("L5", [SEEN.format(8)]),
    "a request is passed over": ("L6", [cursor("activity/ns/toil", 89)]),
    "a shard passes a request over": (
        "L6",
        [
            "UPDATE replay_cursors SET id = 'activity/ns/toil/2_of_2', last_event_id = 89"
            " WHERE id = 'activity/ns/toil'"
        ],
    ),
    "a failed request is forgotten": (
        "L6",
        ["DELETE FROM replay_parked WHERE consumer = 'activity/ns/trip'"],
    ),
    "a sleep is forgotten": ("L6", [lost("sleeps", 7)]),
    "an await is forgotten": ("L6", [lost("signal_awaits", 10)]),
    # Runs.
    "the beginning of a run is lost": ("L1 R1", [lost("events", 2)]),
    "the end of a run that never began": (
        "R1",
        [change(77, "type = 2"), copy(77, 90, key="ns/full/c/0", run="c")],
    ),
    "a run begins after its first request": ("R1", swap(2, 9)),
    "a run waits for nothing": (
        "R2",
        [copy(3, 90, key="ns/fail/c/0", run="c"), cursor("workflow/ns/fail", 90)],
    ),
    "a parked run is forgotten": ("R2", [f"DELETE FROM replay_parked WHERE consumer = '{FLOW}'"]),
    "another run is parked": (
        "R5",
        [f"UPDATE replay_parked SET event_id = 6 WHERE consumer = '{FLOW}'"],
    ),
    "a parked event is not there": (
        "R5",
        [f"UPDATE replay_parked SET event_id = 500 WHERE consumer = '{FLOW}'"],
    ),
    "a run has ended and is parked": ("R5", [copy(7, 90, type=2)]),
    "a run is parked twice": (
        "R5",
        [
            PARKS,
            f"INSERT INTO replay_parked (event_id, {PARKED}) SELECT event_id, {PARKED}"
            f" FROM replay_parked WHERE consumer = '{FLOW}'",
        ],
    ),
    "an iteration has no end": (
        "R6 R2",
        [change(43, f"{NOOP} 'replay_noop/43'"), change(41, f"{NOOP} 'replay_noop/41'")],
    ),
    "an iteration is left out": (
        "R6",
        [
            *renamed("ns/full/a/1", "ns/full/a/2"),
            "UPDATE replay_events SET iteration = 2 WHERE INSTR(`key`, 'ns/full/a/2') = 1",
        ],
    ),
    "an iteration begins before the last one ends": ("R6", swap(43, 44)),
    "a request of an iteration that never began": (
        "R6",
        [copy(88, 90, key="ns/wait/a/1/toil/0", iteration=1)],
    ),
    "a sleep ends early": ("R7", [change(30, "timestamp = '2030-01-01 00:00:01.499'")]),
    "a sleep counts as over": ("R7", [change(7, "completed = 1", "sleeps")]),
    "a sleep is to end at another time": (
        "R7",
        [change(7, "complete_at = '2029-01-01 00:00:00.000'", "sleeps")],
    ),
    "a sleep that nobody requested": (
        "R7",
        [f"{SLEEP} VALUES (8, 'ns/wait/a/0/replay_sleep/7', {TIMES}, 0)"],
    ),
    "a sleep that has ended has no row": ("R7", [lost("sleeps", 3)]),
    "an output after the end": ("R9", [copy(73, 90, key="ns/full/b/0/heard/3")]),
    "a request after the end": ("R9", [copy(20, 90, key="ns/full/b/0/toil/2")]),
    # Activities.
    "a response to nothing": (
        "A1",
        [copy(49, 90, key="ns/wait/a/0/toil/5", workflow="wait", iteration=0)],
    ),
    "a response before its request": ("A1 L6", swap(49, 48)),
    "a second response": ("A1", [KEYS, copy(14, 90)]),
    "a parked request has its response": ("A1", [copy(13, 90, type=5)]),
    "a parked row of a response": (
        "A2",
        ["UPDATE replay_parked SET event_id = 14 WHERE consumer = 'activity/ns/trip'"],
    ),
    "a parked request is not there": (
        "A2",
        ["UPDATE replay_parked SET event_id = 500 WHERE consumer = 'activity/ns/trip'"],
    ),
    "a call is not counted": ("A5", renamed("b/0/toil/0", "b/0/toil/3")),
    "an await is not counted": ("A5", renamed("a/1/replay_signal/1:0", "a/1/replay_signal/1:4")),
    # Ends.
    "a result and no end": (
        "E1",
        [copy(76, 90, key="ns/wait/a/0/replay_result/0", workflow="wait", run="a")],
    ),
    "a run goes on after its result": (
        "E1",
        [
            copy(76, 90, key="ns/wait/a/0/replay_result/0", workflow="wait", run="a"),
            copy(77, 92, key="ns/wait/a/0", workflow="wait", run="a"),
            copy(73, 91, key="ns/wait/a/0/heard/0", workflow="wait", run="a"),
        ],
    ),
    "a run restarts after its result": (
        "E1",
        [change(42, "`key` = 'ns/full/a/0/replay_result/0'")],
    ),
    "a failure and no end": (
        "E2",
        [copy(83, 90, key="ns/wait/a/0/replay_failure/0", workflow="wait", run="a")],
    ),
    "a failure and a result": ("E2", [change(75, "`key` = 'ns/full/b/0/replay_failure/0'")]),
    "a run restarts after its failure": (
        "E2",
        [change(42, "`key` = 'ns/full/a/0/replay_failure/0'")],
    ),
    "a second result": ("O1", [change(75, "`key` = 'ns/full/b/0/replay_result/1'")]),
    "a cancel that nobody sent": ("E7", [change(78, f"{NOOP} 'replay_noop/78'")]),
    "a cancel with another number": ("E7", [change(78, "`key` = 'ns/hold/a/0/replay_cancel/7'")]),
    "a told iteration does not restart": (
        "E7",
        [*(change(id, f"{NOOP} 'replay_noop/{id}'") for id in (82, 85)), lost("sleeps", 6)],
    ),
    "an open await is withdrawn": ("E8", [change(10, "status = 2", "signal_awaits")]),
    # Signals and outputs.
    "a signal is there twice": (
        "S1",
        [
            SIGNALS,
            f"INSERT INTO replay_signals ({SIGNAL}) SELECT {SIGNAL} FROM replay_signals"
            " WHERE id = 6",
        ],
    ),
    "an await counts as answered": ("S2", [change(10, "status = 3", "signal_awaits")]),
    "an await took two signals": ("S2", [change(5, "check_id = 6", "signals")]),
    "two awaits change their signals": (
        "S2",
        [change(1, "check_id = 3", "signals"), change(2, "check_id = 1", "signals")],
    ),
    "signals are taken in another order": (
        "S2",
        [
            "UPDATE replay_signals SET message = NULL WHERE type = 1",
            "UPDATE replay_events SET message = NULL WHERE id IN (33, 36, 54, 57)",
            change(1, "check_id = 3", "signals"),
            change(2, "check_id = 1", "signals"),
        ],
    ),
    "a signal is left out": (
        "S2",
        [
            change(
                5,
                "check_id = 6, message = (SELECT message FROM replay_events WHERE id = 57)",
                "signals",
            ),
            change(4, "check_id = NULL", "signals"),
        ],
    ),
    "a signal is free again": ("S2", [change(4, "check_id = NULL", "signals")]),
    "a signal was taken by nobody": ("S2", [change(5, "check_id = 77", "signals")]),
    "a signal was taken by another run": ("S2", [change(5, "check_id = 2", "signals")]),
    "a signal was taken by another type": ("S2", [change(5, "check_id = 4", "signals")]),
    "a signal was taken by an open await": (
        "S2",
        [change(5, "check_id = 10, workflow = 'wait'", "signals")],
    ),
    "a response has another message": ("S2", [change(33, "message = NULL")]),
    "an await took a signal, and says none": (
        "S2",
        [
            change(57, f"timestamp = '2030-01-01 00:01:00.000', message = X'{DONE}'"),
        ],
    ),
    "an await has timed out, and says a signal": ("S2", [change(7, "status = 3", "signal_awaits")]),
    "an await that has ended has no row": ("S2", [lost("signal_awaits", 2)]),
    "an await that nobody requested": (
        "S2",
        [f"{AWAIT} VALUES (11, 'ns/wait/a/0/replay_signal/1:9', {TIMES}, 1)"],
    ),
    "an await times out early": ("S4", [change(60, "timestamp = '2030-01-01 00:00:11.499'")]),
    "an await is to time out at another time": (
        "S4",
        [change(10, "timeout_at = '2030-01-01 00:00:00.000'", "signal_awaits")],
    ),
    "an await takes a signal of later": (
        "S4",
        [
            change(33, "timestamp = '2030-01-01 00:20:01.000'"),
            change(1, "created_at = '2030-01-01 00:20:00.000'", "signals"),
        ],
    ),
    "an output is not counted": ("O1", [change(61, "`key` = 'ns/full/b/0/heard/5'")]),
}


# Retention (L9): what it leaves, as it does it.

PRUNED = b"\n$type.googleapis.com/replay.v1.Pruned".hex()
GONE = [
    lost("events", "run = 'b' AND workflow = 'full' AND type > 2"),
    lost("events", "run = 'a' AND workflow = 'full' AND (type > 2 OR iteration = 1)"),
    f"UPDATE replay_events SET message = X'{PRUNED}' WHERE workflow = 'full'",
    *(lost(each, "INSTR(`key`, 'ns/full/') = 1") for each in ("sleeps", "signal_awaits")),
    lost("signals", "workflow = 'full'"),
    "UPDATE replay_meta SET value = '77' WHERE name = 'retention_floor'",
]
OF_PRUNED: dict[str, tuple[str, Sequence[str]]] = {
    "the floor is lost": ("L1", ["UPDATE replay_meta SET value = '0' WHERE value = '77'"]),
    "the floor is no id": ("L1 L9", ["UPDATE replay_meta SET value = 'x' WHERE value = '77'"]),
    "the floor is beyond the log": (
        "L9",
        ["UPDATE replay_meta SET value = '90' WHERE value = '77'"],
    ),
    "an event above the floor is lost": ("L1", [lost("events", 80)]),
    "an event of a pruned run is left": ("L9", [copy(2, 20, key="ns/full/b/0/toil/1", type=4)]),
    "only one end is pruned": ("L9", [change(77, "message = NULL")]),
    "a parked event is pruned": (
        "L9",
        [f"UPDATE replay_parked SET event_id = 66 WHERE consumer = '{FLOW}'"],
    ),
}


#: What only SQLite can hold.
OF_SQLITE: dict[str, tuple[str, Sequence[str]]] = {
    "a time that is none": ("L3", [change(73, "timestamp = 'soon'")]),
    "a time that is a number": ("L3", [change(73, "timestamp = 5")]),
    "a type that is a text": ("L3", [change(73, "type = 'x'")]),
    "a key that is a number": ("L3", [change(73, "`key` = x'ff'")]),
    "an iteration that is a text": ("L3", [change(73, "iteration = 'x'")]),
    "a sleep with a time that is none": ("L3 R7", [change(3, "complete_at = 'x'", "sleeps")]),
    "an await with a time that is none": ("L3 S2", [change(1, "timeout_at = 5", "signal_awaits")]),
    "a signal with a time that is none": ("L3 S2", [change(1, "created_at = 'x'", "signals")]),
    "a parked row with a time that is none": (
        "L3",
        [f"UPDATE replay_parked SET next_at = 'x' WHERE consumer = '{FLOW}'"],
    ),
    "a parked row of no event": (
        "L3",
        [f"UPDATE replay_parked SET event_id = 'x' WHERE consumer = '{FLOW}'"],
    ),
    "a cursor that is no id": ("L5", ["UPDATE replay_cursors SET last_event_id = 'x'"]),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a SQLite file with a log that nothing is wrong with."""
    path = tmp_path_factory.mktemp("whole") / "replay.db"
    make(f"sqlite:///{path}")
    return path


def do(other: Raw, steps: Sequence[str]) -> None:
    for step in steps:
        if (index := re.fullmatch(r"(\w+) (\w+)", step)) is None:
            other.run(step)
        elif other.mysql:
            other.run(f"DROP INDEX {index[2]} ON replay_{index[1]}")
        else:
            other.run(f"DROP INDEX replay_{index[1]}_{index[2]}")


def promises(url: str) -> set[str]:
    return {finding.promise for finding in audited(url)}


def show(url: str) -> str:
    return "\n".join(str(finding) for finding in audited(url))


def test_nothing_is_wrong_with_the_whole_log(whole: Path) -> None:
    assert show(f"sqlite:///{whole}") == ""


@pytest.mark.parametrize("name", DAMAGES | OF_SQLITE)
def test_each_damage_is_found_and_named(name: str, whole: Path, tmp_path: Path) -> None:
    """The promises that are named are those that are broken, and no others."""
    expected, steps = (DAMAGES | OF_SQLITE)[name]
    path = shutil.copy(whole, tmp_path / "replay.db")
    with raw(url := f"sqlite:///{path}") as other:
        do(other, steps)
    assert promises(url) == set(expected.split()), show(url)


@pytest.mark.parametrize("name", ["", *OF_PRUNED])
def test_l9_what_retention_leaves_is_whole(name: str, whole: Path, tmp_path: Path) -> None:
    """L9: runs of which only the ends are left, and gaps below the floor."""
    expected, steps = OF_PRUNED[name] if name else ("", ())
    with raw(url := f"sqlite:///{shutil.copy(whole, tmp_path / 'replay.db')}") as other:
        do(other, [*GONE, *steps])
    assert promises(url) == set(expected.split()), show(url)


def test_each_damage_is_found_on_every_database(server_url: str) -> None:
    """The table again, on each kind of server: the rows are put back each time."""
    make(server_url)
    failed = []
    with raw(server_url) as other:
        rows = {table: other.run(f"SELECT * FROM {table}") for table in TABLES}
        indexes = {table: other.run(f"SHOW CREATE TABLE {table}")[0][1] for table in TABLES}
        for name, (expected, steps) in DAMAGES.items():
            do(other, steps)
            if promises(server_url) != set(expected.split()):
                failed.append(f"{name}: {show(server_url)}")
            drops = any(" " in step and "=" not in step for step in steps if step[0].islower())
            for table, found in rows.items():
                restore(other, table, found, indexes[table] if drops else "")
    assert failed == []


def restore(other: Raw, table: str, rows: Sequence[Sequence[Any]], definition: str) -> None:
    """Put a table's rows back, and its indexes if one was dropped."""
    if definition:
        other.run(f"DROP TABLE {table}")
        other.run(definition)
    else:
        other.run(f"DELETE FROM {table}")
    marks = ", ".join("?" * len(rows[0])) if rows else ""
    for row in rows:
        other.run(f"INSERT INTO {table} VALUES ({marks})", *row)


# No false alarms.


def test_a5_a_call_that_was_refused_has_used_up_a_number(whole: Path, tmp_path: Path) -> None:
    """A5: code may catch that a message is too large, and call again."""
    with raw(url := f"sqlite:///{shutil.copy(whole, tmp_path / 'replay.db')}") as other:
        do(other, renamed("b/0/toil/1", "b/0/toil/2"))
    assert show(url) == ""


#: Scenarios in which another program writes what it should not, and what is to be found there.
WRITTEN = {
    "gap": ["L3 event 16 of ns/greet/third/0: The row is damaged: its type is 99."],
    "plain_values": [
        "R1 event 17 of ns/ship/odd/0: The request is of an iteration which never began."
    ],
    "stray_events": [
        "R1 event 8 of ns/greet/second/0: The request is of an iteration which never began."
    ],
}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.txt")), ids=lambda path: path.stem)
def test_no_scenario_raises_an_alarm(path: Path, url: str) -> None:
    """But those in which another program writes what it should not."""
    perform(url, path.read_text())
    assert show(url).splitlines() == WRITTEN.get(path.stem, [])


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_no_rows_of_the_go_system_raise_an_alarm(scenario: str, url: str) -> None:
    """At no moment of a run, in its own tables, also with some of ours."""
    with raw(url) as other:
        make_tables(other, "")
        for left in cuts(scenario):
            for table in ("events", "sleeps", "signal_awaits", "signals"):
                other.run(f"DELETE FROM replay_{table}")
            fill(other, left)
            assert show(url) == ""
    with stepped(url):
        assert show(url) == ""


# The command.


def audit(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str]]:
    code = cli.main(["audit", *arguments])
    return code, capsys.readouterr().out.splitlines()


def test_the_command_prints_a_line_for_each_finding(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It exits with 1 if there is one; and for programs each is a JSON object."""
    path = tmp_path / "replay.db"
    url = f"sqlite:///{shutil.copy(whole, path)}"
    assert audit(capsys, "--url", url) == (0, ["89 events: no broken promises"])
    assert audit(capsys, "--url", url, "--json") == (0, [])
    with raw(url) as other:
        do(other, [copy(73, 90, key="ns/full/b/0/heard/3")])
    text = "The output comes after the end of its iteration, event 77."
    expected = [f"R9 event 90 of ns/full/b/0: {text}", "90 events: 1 broken promise"]
    assert audit(capsys, "--url", url) == (1, expected)
    finding = {"promise": "R9", "event": 90, "run": "ns/full/b/0", "problem": text}
    code, lines = audit(capsys, "--url", url, "--json")
    assert (code, [json.loads(line) for line in lines]) == (1, [finding])


def test_hostile_names_are_escaped(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No name in a log clears the screen, or turns the line around."""
    url = f"sqlite:///{shutil.copy(whole, tmp_path / 'replay.db')}"
    run = "\x1b[2J\u202e"
    with raw(url) as other:
        do(other, [copy(55, 90, key=f"ns/full/{run}/0/heard/0", run=run, iteration=0)])
    code, lines = audit(capsys, "--url", url)
    assert code == 1
    assert lines[0].startswith(r"R1 event 90 of ns/full/\x1b[2J\u202e/0: The output is of")
    code, lines = audit(capsys, "--url", url, "--json")
    assert json.loads(lines[0])["run"] == f"ns/full/{run}/0"
    assert lines[0].isascii()


def test_nothing_is_written_and_nothing_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A database without a log is no clean log: the command says so and exits."""
    missing = f"sqlite:///{tmp_path / 'missing.db'}"
    assert audit(capsys, "--url", missing) == (3, [])
    assert not list(tmp_path.iterdir())
    with raw(f"sqlite:///{tmp_path / 'empty.db'}") as other:
        other.run("CREATE TABLE t (n INT)")
        assert audit(capsys, "--url", f"sqlite:///{tmp_path / 'empty.db'}") == (4, [])
        assert other.run("SELECT name FROM sqlite_master") == [("t",)]
    with pytest.raises(NoLog, match="name the database that has one"):
        list(audited(f"sqlite:///{tmp_path / 'empty.db'}"))
    with pytest.raises(Unavailable, match="cannot be opened"):
        list(audited(missing))
    assert not (tmp_path / "missing.db").exists()
    with pytest.raises(BadUrl):
        list(audited("grpc://localhost:1"))


def test_the_log_may_be_in_use(url: str) -> None:
    """All that the audit reads is of one moment: what is committed meanwhile is not there."""
    make(url)
    with stepped(url) as client, open_log(url) as tables:
        audit = Audit(tables)
        duplicates = tables.duplicates

        def meanwhile() -> Iterator[tuple[int, int, str, int]]:
            client.signal_run("ns", "wait", "a", 1, "now", "now")
            drain(*client.loops())
            return duplicates()

        tables.duplicates = meanwhile  # type: ignore[method-assign]
        assert [*audit.run()] == []
        assert tables.count == 89
        assert client.log.newest() == 90
    assert show(url) == ""


def test_a_newer_schema_is_refused(whole: Path, tmp_path: Path) -> None:
    """This library does not know what a newer one promises."""
    url = f"sqlite:///{shutil.copy(whole, tmp_path / 'replay.db')}"
    with raw(url) as other:
        other.run("UPDATE replay_meta SET value = '1000' WHERE name = 'schema_version'")
    with pytest.raises(SchemaTooNew, match="install"):
        list(audited(url))
