"""Databases of the Go system: the same workflows make the same rows, and its runs are taken up.

What the files in `golden` hold is said in the README beside them.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from replay import (
    ActivityContext,
    Client,
    Consumer,
    EventType,
    RunContext,
    register_activity,
    register_workflow,
)
from replay.failure import RESERVED
from replay.signal import InvalidSignal
from replay.storage.database import TABLES as EVERYTHING
from replay.storage.database import from_text
from replay.storage.event import unpack
from tests.example_pb2 import Empty, Int, String
from tests.servers import fresh_database
from tests.support import Clock, Raw, drain, raw, rows, stepped

Row = dict[str, Any]
SCENARIOS = ["greeting", "sleep_short", "output", "restart", "await"]
PENDING, TIMED_OUT, SUCCESS = 1, 2, 3


# The workflows and activities, as that system had them.


def greeting(ctx: RunContext, message: String) -> None:
    for _ in range(5):
        message = ctx.exec_activity(enrich, message, name="EnrichGreeting")
    ctx.exec_activity(print_greeting, message, name="PrintGreeting")


def sleep_short(ctx: RunContext, message: Empty) -> None:
    for milliseconds in (1000, 1500, 999, 0):
        ctx.sleep(timedelta(milliseconds=milliseconds))
    ctx.exec_activity(print_greeting, String(value="slept"), name="PrintGreeting")


def output(ctx: RunContext, message: String) -> None:
    ctx.emit_output("first", String(value="one"))
    ctx.emit_output("first", ctx.exec_activity(enrich, message, name="EnrichGreeting"))
    ctx.emit_output("second", Int(value=42))


def restart(ctx: RunContext, message: Int) -> None:
    if message.value < 5:
        ctx.restart(Int(value=message.value + 1))


def awaiting(ctx: RunContext, message: Empty) -> None:
    for n, type in enumerate((0, 7, 0)):
        signal = ctx.await_signal(type, timedelta(seconds=10))
        text = "timeout" if signal is None else f"value:{signal.message.value} "
        ctx.emit_output("got", String(value=f"{n}:{type}:{text}"))


def enrich(ctx: ActivityContext, calls: list[str], message: String) -> String:
    calls.append(ctx.idempotency_key)
    return String(value=f"[{message.value}]")


def print_greeting(ctx: ActivityContext, calls: list[str], message: String) -> Empty:
    calls.append(ctx.idempotency_key)
    return Empty()


WORKFLOWS = {
    "GreetingWorkflow": greeting,
    "ShortSleepWorkflow": sleep_short,
    "OutputWorkflow": output,
    "RestartWorkflow": restart,
    "AwaitWorkflow": awaiting,
}


@dataclass
class Rows:
    """The rows of the four tables."""

    events: list[Row]
    sleeps: list[Row]
    awaits: list[Row]
    signals: list[Row]

    @property
    def workflow(self) -> str:
        name: str = self.events[0]["workflow"]
        return name

    def keys(self, type: EventType) -> set[str]:
        """The keys of the events of a type."""
        return {event["key"] for event in self.events if event["type"] == type}


def recorded(scenario: str) -> Rows:
    """All rows that were there at the end."""
    path = Path(__file__).parent / "golden" / f"{scenario}.json"
    data = json.loads(path.read_text())
    return Rows(
        *(data[f"replay_{name}"] for name in ("events", "sleeps", "signal_awaits", "signals"))
    )


def message(row: Row) -> bytes | None:
    text = row["message_hex"]
    return None if text is None else bytes.fromhex(text)


def staff(client: Client, workflow: str, calls: list[str]) -> list[Consumer]:
    """All consumers that the run needs."""
    name = {"name": workflow, "start": False}
    return [
        register_workflow(client, "ns", WORKFLOWS[workflow], **name),  # type: ignore[arg-type]
        register_activity(client, "ns", enrich, calls, name="EnrichGreeting", start=False),
        register_activity(client, "ns", print_greeting, calls, name="PrintGreeting", start=False),
        *client.loops(),
    ]


def complete(client: Client, clock: Clock, consumers: list[Consumer], workflow: str) -> None:
    """Step, and whenever there is nothing to do, until the next sleep or await ends."""
    while True:
        drain(*consumers)
        begun, ended = client.log.last_iteration("ns", workflow, "run")
        if begun == ended:
            return
        clock.now = min(due for each in consumers if (due := each.due()) is not None)


# The tables, to be compared.


def events_of(client: Client) -> list[tuple[Any, ...]]:
    """All there is of the events but times."""
    columns = "id, `key`, namespace, workflow, run, iteration, type, message"
    return rows(client, f"SELECT {columns} FROM replay_events WHERE type > 0 ORDER BY id")


def expected_events(found: Rows) -> list[tuple[Any, ...]]:
    names = ("id", "key", "namespace", "workflow", "run", "iteration", "type")
    return [(*(row[name] for name in names), message(row)) for row in found.events]


def others_of(client: Client) -> list[list[tuple[Any, ...]]]:
    """The other tables but ids, times and hashes: a signal's taker by its key."""
    return [
        rows(client, "SELECT `key`, completed FROM replay_sleeps ORDER BY id"),
        rows(client, "SELECT `key`, status FROM replay_signal_awaits ORDER BY id"),
        rows(
            client,
            "SELECT s.namespace, s.workflow, s.run, s.type, s.external_id, s.message, a.`key`"
            " FROM replay_signals s LEFT JOIN replay_signal_awaits a ON a.id = s.check_id"
            " WHERE s.check_id IS NULL OR s.check_id > 0 ORDER BY s.id",
        ),
    ]


def expected_others(found: Rows) -> list[list[tuple[Any, ...]]]:
    """As `others_of`; that sleeps are marked is what we do more."""
    names = ("namespace", "workflow", "run", "type", "external_id")
    taker = {row["id"]: row["key"] for row in found.awaits}
    return [
        [(row["key"], 1) for row in found.sleeps],
        [(row["key"], row["status"]) for row in found.awaits],
        [
            (*(row[name] for name in names), message(row), taker.get(row["check_id"]))
            for row in found.signals
        ],
    ]


# The same workflow here.


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_same_workflow_makes_the_same_rows(url: str, scenario: str) -> None:
    """A5, O1, R6, N3: ids, keys, types and message bytes, on every database."""
    expected, calls = recorded(scenario), list[str]()
    begin = expected.events[0]
    with stepped(url, clock := Clock()) as client:
        consumers = staff(client, expected.workflow, calls)
        if scenario == "await":
            assert send_signals(client) == [True, False, True, True, "refused", True]
        assert client.run_workflow("ns", expected.workflow, "run", unpack(message(begin)))
        complete(client, clock, consumers, expected.workflow)
        assert events_of(client) == expected_events(expected)
        assert others_of(client) == expected_others(expected)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_e11_a_protobuf_workflow_writes_nothing_that_go_cannot_read(
    url: str, scenario: str
) -> None:
    """E11: no reserved output, no response without a request, and no message of our own."""
    begin, calls = recorded(scenario).events[0], list[str]()
    with stepped(url, clock := Clock()) as client:
        workflow = begin["workflow"]
        consumers = staff(client, workflow, calls)
        assert client.run_workflow("ns", workflow, "run", unpack(message(begin)))
        complete(client, clock, consumers, workflow)
        found = list(client.stream(to_head=True))
        requests = {event.key for event in found if event.type is EventType.ACTIVITY_REQUEST}
        answers = {event.key for event in found if event.type is EventType.ACTIVITY_RESPONSE}
        assert answers == requests
        assert not {event.key.target for event in found} & RESERVED
        assert not [event for event in found if b"replay.v1." in (event.raw or b"")]
        assert client.result("ns", workflow, "run", timeout=0) is None


def test_e8_e10_e11_what_runs_write_for_these_is_ordinary(url: str) -> None:
    """E8, E10, E11: requests as they always were, with the messages that Go knows."""

    def flow(ctx: RunContext, message: Int) -> None:
        ctx.first(ctx.begin(ctx.timer(timedelta(0))), ctx.begin(ctx.signal(1)))
        ctx.emit_output("id", String(value=f"{ctx.uuid4()} {ctx.random.random()}"))

    with stepped(url, Clock()) as client:
        client.run_workflow("ns", "flow", "run", Int(value=1))
        drain(register_workflow(client, "ns", flow, start=False), *client.loops())
        found = list(client.stream(to_head=True))
        keys = [(event.type.name, *event.key[4:]) for event in found]
        assert keys == [
            ("RUN_CREATED", "", ""),
            ("ACTIVITY_REQUEST", "replay_sleep", "0"),
            ("ACTIVITY_REQUEST", "replay_signal", "1:0"),
            ("ACTIVITY_RESPONSE", "replay_sleep", "0"),
            ("RUN_OUTPUT", "id", "0"),
            ("RUN_COMPLETED", "", ""),
        ]
        assert not [event for event in found if b"replay.v1." in (event.raw or b"")]


def send_signals(client: Client) -> list[bool | str]:
    """Send what was sent to the run of `await`: what was answered."""
    answers: list[bool | str] = []
    for run, type, value, external_id in (
        ("run", 0, 11, "x1"),
        ("run", 0, 12, "x1"),
        ("run", 7, 77, "x1"),
        ("other", 0, 1, "x1"),
        ("run", 200, 1, "x1"),
        ("run", -1, 1, ""),
    ):
        to = ("ns", "AwaitWorkflow", run)
        try:
            answers.append(client.signal_run(*to, type, Int(value=value), external_id))
        except InvalidSignal:
            answers.append("refused")
    return answers


def test_r7_sleeps_are_not_cut_to_seconds(url: str) -> None:
    """R7, P9: in this the rows differ: that system had 1.5 s end after 1 s, and 0.999 s at once."""
    theirs = [
        lasts(row["created_at"], row["complete_at"]) for row in recorded("sleep_short").sleeps
    ]
    assert theirs == [1.0, 1.0, 0.0, 0.0]
    with stepped(url, clock := Clock()) as client:
        consumers = staff(client, "ShortSleepWorkflow", [])
        client.run_workflow("ns", "ShortSleepWorkflow", "run", Empty())
        complete(client, clock, consumers, "ShortSleepWorkflow")
        query = "SELECT created_at, complete_at FROM replay_sleeps ORDER BY id"
        assert [lasts(*row) for row in rows(client, query)] == [1.0, 1.5, 0.999, 0.0]


def lasts(begin: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()


# Taking up what that system left.


def cuts(scenario: str) -> Iterator[Rows]:
    """What the tables held at each moment: behind each event, before and after what followed it.

    An event and the rows in other tables were not stored together there: a sleep or await got its
    row some time after its request, and was marked some time after its response, with the signal
    that it had taken.
    """
    everything = recorded(scenario)
    for n in range(1, len(everything.events) + 1):
        following = everything.events[n : n + 1]
        if following and following[0]["type"] == EventType.RUN_CREATED:
            continue  # the end of an iteration and the beginning of the next were one transaction
        before = [cut(everything, n, known) for known in (n - 1, n)]
        yield from before[: 1 if before[0] == before[1] else 2]


def cut(everything: Rows, n: int, known: int) -> Rows:
    """The first `n` events, and what followed from the first `known` of them."""
    seen = Rows(everything.events[:known], [], [], [])
    requested = seen.keys(EventType.ACTIVITY_REQUEST)
    answered = seen.keys(EventType.ACTIVITY_RESPONSE)
    marked = {row["id"] for row in everything.awaits if row["key"] in answered}
    return Rows(
        everything.events[:n],
        [row for row in everything.sleeps if row["key"] in requested],
        [
            row if row["key"] in answered else row | {"status": PENDING}
            for row in everything.awaits
            if row["key"] in requested
        ],
        [
            row if row["check_id"] in marked else row | {"check_id": None}
            for row in everything.signals
        ],
    )


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_run_is_taken_up_wherever_it_was_left(url: str, scenario: str) -> None:
    """R2, A4, S2: from every moment of the run, whatever the collation: it ends as it did there."""
    everything = recorded(scenario)
    for collation in collations(url):
        with raw(url) as other:
            make_tables(other, collation)
            for left in cuts(scenario):
                fill(other, left)
                continue_run(url, left, everything)
                empty(other)


def test_r7_a_sleep_that_was_answered_there_is_marked_and_uses_up_no_id(url: str) -> None:
    """R7, L2: that system marks no sleep; the first start looks for the answers."""
    left = recorded("sleep_short")
    with raw(url) as other:
        make_tables(other, "")
        fill(other, left)
    with stepped(url, Clock()) as client:
        drain(*client.loops())
        assert rows(client, "SELECT completed FROM replay_sleeps") == [(1,)] * 4
        assert client.run_workflow("ns", "ShortSleepWorkflow", "next", Empty())
        newest = left.events[-1]["id"] + 1
        ids = rows(client, "SELECT id FROM replay_events ORDER BY id")
        assert ids == [(id,) for id in range(1, newest + 1)]


def continue_run(url: str, left: Rows, everything: Rows) -> None:
    """Take a run up; its events and tables are in the end what they were there."""
    calls: list[str] = []
    clock = Clock(from_text(moment(left.events[-1]["timestamp"])) + timedelta(milliseconds=2))
    with stepped(url, clock) as client:
        complete(client, clock, staff(client, everything.workflow, calls), everything.workflow)
        clock.forward(minutes=1)
        drain(*client._consumers.values(), *client.loops())
        events = events_of(client)
        assert events[: len(left.events)] == expected_events(left)
        assert [row[1:] for row in events] == [row[1:] for row in expected_events(everything)]
        assert others_of(client) == expected_others(everything)
    before = left.keys(EventType.ACTIVITY_RESPONSE)
    missing = everything.keys(EventType.ACTIVITY_RESPONSE) - before
    assert sorted(calls) == sorted(key for key in missing if "/replay_" not in key)


def collations(url: str) -> list[str]:
    """What the tables may have been made with."""
    return [" COLLATE utf8mb4_bin", ""] if url.startswith("mysql") else [""]


TABLES = {
    "replay_events": (
        "id BIGINT NOT NULL AUTO_INCREMENT, `key` VARCHAR(512) NOT NULL,"
        " namespace VARCHAR(255) NOT NULL, workflow VARCHAR(255) NOT NULL, run VARCHAR(255),"
        " iteration INT NOT NULL, type INT NOT NULL, timestamp DATETIME(3) NOT NULL,"
        " message MEDIUMBLOB",
        "by_type_key (type, `key`)",
        "(type, namespace, workflow, run, iteration)",
    ),
    "replay_sleeps": (
        "id BIGINT NOT NULL AUTO_INCREMENT, `key` VARCHAR(512) NOT NULL,"
        " created_at DATETIME(3) NOT NULL, complete_at DATETIME(3) NOT NULL,"
        " completed BOOL NOT NULL",
        "by_key (`key`)",
        "(completed, complete_at)",
    ),
    "replay_signal_awaits": (
        "id BIGINT NOT NULL AUTO_INCREMENT, `key` VARCHAR(512) NOT NULL,"
        " created_at DATETIME(3) NOT NULL, timeout_at DATETIME(3) NOT NULL,"
        " status TINYINT NOT NULL",
        "by_key (`key`)",
        "(status)",
    ),
    "replay_signals": (
        "id BIGINT NOT NULL AUTO_INCREMENT, namespace VARCHAR(255) NOT NULL,"
        " workflow VARCHAR(255) NOT NULL, run VARCHAR(255) NOT NULL, hash BINARY(128) NOT NULL,"
        " type TINYINT NOT NULL, external_id VARCHAR(255) NOT NULL, message MEDIUMBLOB,"
        " created_at DATETIME(3) NOT NULL, check_id BIGINT",
        "uniq (namespace, hash)",
        "",
    ),
}
#: What `connect` adds.
OURS = ("replay_cursors", "replay_parked", "replay_meta")


def make_tables(other: Raw, collation: str) -> None:
    """Make the four tables anew as the Go system does, and nothing else."""
    for table in (*TABLES, *OURS):
        other.run(f"DROP TABLE IF EXISTS {table}")
    for table, (columns, unique, index) in TABLES.items():
        if other.mysql:
            keys = f"PRIMARY KEY (id), UNIQUE {unique}" + (f", INDEX {index}" if index else "")
            options = f"DEFAULT CHARSET=utf8mb4{collation}" if collation else ""
            other.run(f"CREATE TABLE {table} ({columns}, {keys}) {options}")
        else:
            first = columns.replace(
                "id BIGINT NOT NULL AUTO_INCREMENT", "id INTEGER PRIMARY KEY AUTOINCREMENT"
            )
            other.run(f"CREATE TABLE {table} ({first}, UNIQUE {unique.partition(' ')[2]})")


def migrate(other: Raw) -> None:
    """Make the tables and the ledger of them, as truss does for the Go system."""
    other.run("DROP TABLE IF EXISTS migrations")
    make_tables(other, "")
    other.run(
        "CREATE TABLE migrations (id BIGINT NOT NULL AUTO_INCREMENT, query_hash CHAR(64) NOT NULL,"
        " schema_hash CHAR(64) NOT NULL, created_at DATETIME(3) NOT NULL, PRIMARY KEY (id))"
    )
    for each in ("an older one", schema_of(other)):
        other.run("INSERT INTO migrations VALUES (NULL, 'q', ?, '2029-01-01')", each)


def schema_of(other: Raw) -> str:
    """What truss compares with the last migration's before it migrates on."""
    tables = sorted(name for (name,) in other.run("SHOW TABLES"))
    made = (other.run(f"SHOW CREATE TABLE {table}")[0][1] for table in tables)
    text = "\n\n".join(re.sub(r"\sAUTO_INCREMENT=\d+", "", each) for each in made)
    return hashlib.sha256(text.encode()).hexdigest()


LEDGER = "SELECT schema_hash FROM migrations ORDER BY id"


def test_the_go_system_migrates_on_after_we_have_added_our_tables(server_url: str) -> None:
    """Its tool finds the tables as its ledger says, whoever came first; ours get no index twice."""
    with raw(server_url) as other:
        migrate(other)
        fill(other, recorded("await"))
        with stepped(server_url):
            assert other.run(LEDGER) == [("an older one",), (schema_of(other),)]
        indexes = other.run(
            "SELECT table_name, GROUP_CONCAT(column_name ORDER BY seq_in_index)"
            " FROM information_schema.statistics WHERE table_schema = DATABASE()"
            " GROUP BY table_name, index_name"
        )
        assert len(set(indexes)) == len(indexes)


def test_the_rows_of_our_database_move_into_one_of_the_go_system(server_url: str) -> None:
    """R2: as docs/deployment.md says it is done: a run goes on there, and no id comes twice."""
    calls = list[str]()
    with raw(server_url) as other, fresh_database(server_url) as theirs:
        with stepped(server_url) as client:
            client.run_workflow("ns", "GreetingWorkflow", "run", String(value="World"))
            drain(*staff(client, "GreetingWorkflow", calls)[:2])
        with raw(theirs) as empty_one:
            migrate(empty_one)
        with stepped(theirs) as client:
            new = urlsplit(theirs).path[1:]
            for table in EVERYTHING.keys() - {"replay_meta"}:
                names = ", ".join(f"`{name}`" for name in client.log.database._columns(table))
                other.run(f"INSERT INTO {new}.{table} ({names}) SELECT {names} FROM {table}")
        with stepped(theirs) as client:
            drain(*staff(client, "GreetingWorkflow", calls))
            assert events_of(client) == expected_events(recorded("greeting"))
        assert len(calls) == 6


def test_a_ledger_that_does_not_fit_is_left_alone(server_url: str) -> None:
    """That somebody else has changed the tables is not covered up."""
    with raw(server_url) as other:
        migrate(other)
        left = other.run(LEDGER)
        other.run("ALTER TABLE replay_events ADD COLUMN note INT")
        with stepped(server_url):
            assert other.run(LEDGER) == left


def empty(other: Raw) -> None:
    """Leave the tables without rows, and the ids of events to begin anew: making tables takes long.

    That they have been upgraded stays known.
    """
    for table in (*TABLES, "replay_cursors"):
        other.run(f"DELETE FROM {table}")
    if other.mysql:
        other.run("TRUNCATE TABLE replay_events")
    else:
        other.run("DELETE FROM sqlite_sequence")


def fill(other: Raw, left: Rows) -> None:
    """Put rows into the tables."""
    tables = (left.events, left.sleeps, left.awaits, left.signals)
    skipped = {"any_type_url", "any_value_hex", "text"}
    for table, found in zip(TABLES, tables, strict=True):
        for row in found:
            row = {name: value for name, value in row.items() if name not in skipped}
            names = ", ".join(f"`{name.removesuffix('_hex')}`" for name in row)
            marks = ", ".join("?" * len(row))
            other.run(
                f"INSERT INTO {table} ({names}) VALUES ({marks})",
                *(stored(name, value) for name, value in row.items()),
            )


def stored(name: str, value: Any) -> Any:
    """A value of a file as a value of a column."""
    if name.endswith("_hex") and value is not None:
        return bytes.fromhex(value)
    if isinstance(value, str) and (name.endswith("_at") or name == "timestamp"):
        return moment(value)
    return value


def moment(text: str) -> str:
    """A time of a file as the databases write it."""
    return text.replace("T", " ").removesuffix("Z")


def test_l8_names_differ_by_case_though_the_tables_take_them_for_equal(server_url: str) -> None:
    """L8, S2: in tables of a default collation, one for RUN is not for run, nor in its way."""
    with raw(server_url) as other:
        make_tables(other, "")
    with stepped(server_url, clock := Clock()) as client:
        consumers = staff(client, "AwaitWorkflow", [])
        for number in range(3):
            client.signal_run("ns", "AwaitWorkflow", "RUN", 0, Int(value=9), f"{number}")
        client.signal_run("ns", "AwaitWorkflow", "run", 0, Int(value=1), "x")
        client.run_workflow("ns", "AwaitWorkflow", "run", Empty())
        complete(client, clock, consumers, "AwaitWorkflow")
        outputs = [e for e in client.stream(to_head=True) if e.type is EventType.RUN_OUTPUT]
        texts = [event.message.value for event in outputs]
        assert texts == ["0:0:value:1 ", "1:7:timeout", "2:0:timeout"]


def test_every_message_of_the_files_can_be_read() -> None:
    """N3: each is the Any that its fields say, and of a type that this process knows."""
    for scenario in SCENARIOS:
        for event in recorded(scenario).events:
            found = unpack(message(event))
            if found is None:
                assert event["type"] == EventType.RUN_COMPLETED
            else:
                assert event["any_type_url"].endswith(found.DESCRIPTOR.full_name)
                assert found.SerializeToString().hex() == event["any_value_hex"]
