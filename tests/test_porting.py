"""The guide to porting: its exact facts are those of the library, and its SQL runs as pasted."""

from __future__ import annotations

import ast
import inspect
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import StringValue

from replay import connect, consumer
from replay.consumer import LOOK
from replay.failure import FOR_EVER
from replay.log import Move
from replay.server.proto.replaypb_pb2 import SleepRequest
from replay.storage import mysql, sqlite, tail
from replay.storage.database import LEASE, Database, Statement
from replay.storage.event import pack
from replay.storage.sqlite import Sqlite
from tests import ledger
from tests.drivers import fixture
from tests.support import Clock, Raw, raw, stepped

#: Each log has a log_id of its own, of 32 characters.
_META = """SELECT name, CASE name WHEN 'log_id' THEN LENGTH(value) ELSE value END
    FROM replay_meta ORDER BY name"""
TEXT = (ledger.ROOT / "docs" / "porting.md").read_text()


def section(title: str) -> str:
    """What stands under a heading of the third level."""
    return re.split(r"^##", TEXT.partition(f"\n### {title}\n")[2], flags=re.MULTILINE)[0]


def blocks(title: str) -> list[str]:
    """The code blocks of a section, also those in a list."""
    found = re.findall(r"(?:^ {4,}\S.*\n)+", section(title), re.MULTILINE)
    return [" ".join(block.split()) for block in found if re.match(r"\s+[A-Z0]", block)]


def definitions(database: Raw) -> list[object]:
    """How the tables of a database are defined, and the rows that it begins with."""
    found: list[object] = [database.run(_META)]
    if database.mysql:
        tables = [name for (name,) in database.run("SHOW TABLES")]
        made = (database.run(f"SHOW CREATE TABLE {name}")[0][1] for name in tables)
        return [*found, *(re.sub(r" AUTO_INCREMENT=\d+", "", each) for each in made)]
    for (table,) in database.run("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1"):
        found += [table, database.run(f"PRAGMA table_info({table})")]
        for _, index, unique, *_ in sorted(database.run(f"PRAGMA index_list({table})")):
            found += [index, unique, database.run(f"PRAGMA index_info({index})")]
    return found


def test_the_definitions_run_as_pasted_and_are_those_of_the_library(url: str) -> None:
    """Tables, columns, indexes and first rows are the same."""
    with raw(url) as database:
        for statement in blocks("Tables")[database.mysql].removesuffix(";").split("; "):
            database.run(statement)
        pasted = definitions(database)
        for table in re.findall(r"CREATE TABLE (\w+)", blocks("Tables")[0]):
            database.run(f"DROP TABLE {table}")
        with connect(url):
            assert definitions(database) == pasted


def test_a_database_that_was_pasted_is_used_as_it_is(url: str) -> None:
    """The library finds its own version, and adds nothing."""
    with raw(url) as database:
        for statement in blocks("Tables")[database.mysql].removesuffix(";").split("; "):
            database.run(statement)
        before = definitions(database)
        with stepped(url) as client:
            assert client.run_workflow("ns", "flow", "run", None)
        assert definitions(database) == before


def executed(database: Database, do: Callable[[], object]) -> list[str]:
    """The statements that a call executes on SQLite, without how transactions begin and end."""
    assert isinstance(database, Sqlite)
    found: list[str] = []
    database._connection.set_trace_callback(found.append)
    do()
    database._connection.set_trace_callback(None)
    return [sql for sql in found if sql not in ("BEGIN IMMEDIATE", "COMMIT")]


def is_like(statement: str, shown: str) -> bool:
    """Whether it is the statement that the guide shows, with any values."""
    pattern = re.escape(shown).replace(r"\?", r"(?:'[^']*'|\d+|\?)")
    return re.fullmatch(pattern, " ".join(statement.split())) is not None


def test_a_name_is_taken_moved_and_given_back_by_these_statements(tmp_path: Path) -> None:
    """In this order; each that moves a cursor names its owner and its old value."""
    read, turn, claim, move = blocks("How a name is taken")
    floor = "SELECT value FROM replay_meta WHERE name = ?"
    insert = "INSERT INTO replay_cursors (id, last_event_id, updated_at) VALUES (?,?,?)"
    insert += " ON CONFLICT DO NOTHING"
    give = "UPDATE replay_cursors SET owner = '', lease_until = NULL, last_event_id = ?,"
    give += f" updated_at = ?{move[move.index(' WHERE ') :]}"
    with stepped(f"sqlite:///{tmp_path / 'replay.db'}") as client:
        log = client.log
        for do, expected in [
            (lambda: log.claim("mine", 0), [read, turn, insert, read, turn, claim, floor]),
            (lambda: log.commit([], Move("mine", 0, 5)), [move]),
            (lambda: log.release("mine", 5, 5), [give]),
            (lambda: log.claim("mine", 0), [read, turn, claim, floor]),
        ]:
            found = executed(log.database, do)
            assert len(found) == len(expected)
            assert all(map(is_like, found, expected)), found


def test_a_name_whose_lease_has_run_out_is_taken_only_if_it_is_not_renewed(tmp_path: Path) -> None:
    """The condition is longer by what the guide says."""
    claim = f"{blocks('How a name is taken')[2]} AND lease_until = ?"
    assert "add `AND lease_until = ?`" in section("How a name is taken")
    clock = Clock()
    with stepped(f"sqlite:///{tmp_path / 'replay.db'}", clock) as client:
        client.log.claim("mine", 0)
        update = "UPDATE replay_cursors SET owner = 'another:1:host'"
        client.log.database.write([Statement(update)])
        assert client.log.claim("mine", 0) is None
        clock.forward(seconds=LEASE)
        found = executed(client.log.database, lambda: client.log.claim("mine", 0))
    assert [is_like(each, claim) for each in found].count(True) == 1
    assert f"now and {LEASE} s" in section("How a name is taken")


def constants(module: ModuleType) -> set[str]:
    """The texts in a module's code."""
    nodes = ast.walk(ast.parse(inspect.getsource(module)))
    return {" ".join(str(node.value).split()) for node in nodes if isinstance(node, ast.Constant)}


def test_a_server_gets_these_statements() -> None:
    """Those that set a session up, and the one that looks for news."""
    (session,) = blocks("Connections")
    (poll,) = blocks("How waiting processes look for news")
    assert {*session.removesuffix(";").split("; "), poll} <= constants(mysql)


def test_backoffs_are_as_in_the_table() -> None:
    """Before the random factor, which is asked for with its bounds."""
    numbers, seconds = re.findall(r"^\| (?:n|seconds) \| (.*) \|$", section("Backoff"), re.M)
    bounds: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        bounds.append((low, high))
        return 1

    for n, pause in zip(numbers.split(" | "), seconds.split(" | "), strict=True):
        assert FOR_EVER.pause(int(n.split()[0]), uniform) == timedelta(seconds=int(pause))
    assert FOR_EVER.pause(1000, uniform) == FOR_EVER.longest == timedelta(seconds=300)
    assert set(bounds) == {(0.75, 1.0)}


def test_polls_wait_as_long_as_the_guide_says() -> None:
    """In milliseconds and seconds."""
    text = " ".join(section("How waiting processes look for news").split())
    assert f"is {tail.PAUSE_MIN * 1000:g} ms after one that found something" in text
    assert f"up to {tail.PAUSE_MAX * 1000:g} ms" in text
    assert f"after {tail.BATCH:,} events that it does not want" in text
    assert f"every {LOOK.total_seconds():g} s whether" in text
    assert f"after {consumer._WAIT:g} s. It looks" in text
    assert f"stands by for {consumer._STANDBY:g} s" in text
    assert f"busy timeout of {sqlite._BUSY_TIMEOUT:g} s" in section("Connections")


def test_the_bytes_of_a_message_are_what_is_stored() -> None:
    """The parts of the table, one after the other, are the whole."""
    title = "A message in hexadecimal"
    (shown,) = blocks(title)
    raw = bytes.fromhex(shown)
    assert raw == pack(StringValue(value="World"), 1000, "it")
    assert f"these {len(raw)} bytes" in section(title)
    parts = re.findall(r"^\| `(.*?)`(?: to `65`)? \|", section(title), re.MULTILINE)
    parts[1] = b"type.googleapis.com/google.protobuf.StringValue".hex()
    assert bytes.fromhex(" ".join(parts)) == raw
    (value,) = re.findall(r"Its value is `(.*?)`", section(title))
    assert bytes.fromhex(value) == SleepRequest(duration=Duration(seconds=10)).SerializeToString()


def test_the_fixture_database_is_what_the_library_writes(tmp_path: Path) -> None:
    """Its script makes both files again; what they show has not changed."""
    text = (fixture.FOLDER / "fixture.txt").read_text(encoding="utf-8")
    dump, printed = fixture.make(text)
    fixture.load((fixture.FOLDER / "fixture.sql").read_text(encoding="utf-8"), tmp_path / "it.db")
    with closing(sqlite3.connect(tmp_path / "it.db")) as connection:
        assert fixture.as_sql(connection) == dump  # not the file: each Python writes it its own way
    assert printed == text


def test_the_fixture_database_goes_on(tmp_path: Path) -> None:
    """What is stored in the repository is read, not what this version has just written."""
    text = (fixture.FOLDER / "fixture.txt").read_text(encoding="utf-8").partition("\n\n")[2]
    fixture.load((fixture.FOLDER / "fixture.sql").read_text(encoding="utf-8"), tmp_path / "it.db")
    assert fixture.perform(tmp_path / "it.db", text) == text


def test_the_fixture_database_has_one_of_each_thing(tmp_path: Path) -> None:
    """Each type of event, each state of a run, a sleep and an await, and each kind of message."""
    fixture.load((fixture.FOLDER / "fixture.sql").read_text(encoding="utf-8"), tmp_path / "it.db")
    with closing(sqlite3.connect(tmp_path / "it.db")) as connection:

        def column(sql: str) -> set[Any]:
            return {row[0] for row in connection.execute(f"SELECT DISTINCT {sql}")}

        assert column("type FROM replay_events") == set(range(6))
        assert column("completed FROM replay_sleeps") == {0, 1}
        assert column("status FROM replay_signal_awaits") == {1, 3}
        assert column("check_id IS NULL FROM replay_signals") == {0, 1}
        assert column("status FROM replay_runs") == {1, 3, 4, 5}
        assert column("attempts FROM replay_parked") == {2}
        assert column("type FROM replay_inbox") == {1, None}
        messages = column("message FROM replay_events WHERE message <> ''")
    names = {any_pb2.Any.FromString(each).TypeName() for each in messages}
    own = {f"replay.v1.{name}" for name in ("Json", "Failure", "Cancel")}
    values = {f"google.protobuf.{name}" for name in ("StringValue", "Int64Value")}
    assert names == own | values | {"replaypb.SleepRequest", "replaypb.SleepDone"}
