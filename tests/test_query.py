"""Queries: lists of runs are right wherever their table stands; one run is read by the index."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any
from unittest.mock import patch

import pytest

from replay import (
    ActivityContext,
    Cancelled,
    Client,
    Consumer,
    Event,
    EventType,
    Failed,
    Key,
    RunContext,
    RunFailed,
    Unavailable,
    connect,
    register_activity,
    register_workflow,
)
from replay import query as queries
from replay.client import BadFilter
from replay.log import Log, LostOwnership
from replay.projection import STORED, TARGET
from replay.query import STATUSES, UNFINISHED, BadQuery, QueryBehind, RunInfo, UnknownRun, Waiting
from replay.sleep import TARGET as SLEEP
from replay.storage.database import Statement
from replay.storage.event import InvalidName, MessageError
from tests.example_pb2 import Int, String
from tests.support import (
    START,
    Clock,
    Faults,
    LogLines,
    Queries,
    behind,
    crash,
    cursor,
    database,
    drain,
    endure,
    loops,
    raw,
    request,
    rows,
    set_back,
    start_runs,
    stepped,
    with_options,
)

pytestmark = pytest.mark.contract

HOUR = timedelta(hours=1)
Ask = Callable[[Client], Any]


def flow(ctx: RunContext, message: String) -> Int | None:
    """Does what its message says."""
    for word in message.value.split():
        if word == "sleep":
            ctx.sleep(HOUR)
        elif word == "await":
            ctx.await_signal(7, HOUR)
        elif word == "ever":
            ctx.begin(ctx.signal(8)).result()
        elif word == "call":
            ctx.exec_activity("act", message)
        elif word == "both":
            called, timer = ctx.begin(ctx.call("act", message)), ctx.begin(ctx.timer(HOUR))
            called.result()
            timer.result()
        elif word == "again":
            ctx.restart(String(value=message.value.partition("again ")[2]))
        elif word == "fail":
            raise Failed("sold out", detail=String(value="x" * 20_000))
        elif word == "bug":
            raise ValueError("a bug")
        elif word == "caught":
            try:
                ctx.sleep(HOUR)
            except Cancelled:
                ctx.restart(String(value="again sleep"))
    return Int(value=5)


def act(ctx: ActivityContext, backends: object, message: String) -> Int:
    if "broken" in message.value:
        raise ValueError("no answer")
    return Int(value=1)


def begin(client: Client, **runs: str) -> None:
    """Start runs that do what these words say."""
    for name, words in runs.items():
        assert client.run_workflow("ns", "flow", name, String(value=words))


def serve(client: Client) -> list[Consumer]:
    """Step all runs as far as they come, but for the table of runs."""
    consumers = [
        register_workflow(client, "ns", flow, start=False),
        register_activity(client, "ns", act, start=False),
        *(loop for loop in loops(client) if loop.name != TARGET),
    ]
    drain(*consumers)
    return consumers


def table(client: Client) -> Consumer:
    """What keeps the table of runs of this client's log."""
    (found,) = (loop for loop in loops(client) if loop.name == TARGET)
    return found


@contextmanager
def one_at_a_time(client: Client, count: int = 1) -> Iterator[None]:
    """Have consumers of the log itself read so many events at a time."""
    read = Log.read

    def few(self: Log, after: int, limit: int = count) -> list[Event]:
        return read(self, after, min(limit, count))

    with patch.object(type(behind(client)), "read", few):
        yield


def everywhere(client: Client, ask: Ask, *, cold: bool = False) -> Any:
    """What a query says, which is the same wherever the cursor of the table stands."""
    found, projection = ask(client), table(client)
    with one_at_a_time(client):
        while projection.step():
            assert ask(client) == found
            if cold:
                projection.forget()  # but not its position
    return found


def brief(runs: Sequence[RunInfo]) -> list[tuple[str, str, int, str]]:
    return [(run.run, run.status, run.iteration, run.error) for run in runs]


def named(*found: RunInfo) -> list[str]:
    return [run.run for run in found]


ALL = {
    "done": "call",
    "asleep": "sleep",
    "awaits": "await",
    "ever": "ever",
    "both": "both",
    "broken": "call broken",
    "sold": "fail",
    "bug": "bug",
    "again": "again call again sleep",
    "held": "both broken",
    "told": "sleep",
    "gone": "ever",
}
EXPECTED = [
    ("fresh", "running", 0, ""),
    ("gone", "cancelled", 0, "enough"),
    ("told", "cancelled", 0, "enough"),
    ("held", "running", 0, ""),
    ("again", "waiting", 2, ""),
    ("bug", "parked", 0, "ValueError: a bug"),
    ("sold", "failed", 0, "sold out"),
    ("broken", "running", 0, ""),
    ("both", "waiting", 0, ""),
    ("ever", "waiting", 0, ""),
    ("awaits", "waiting", 0, ""),
    ("asleep", "waiting", 0, ""),
    ("done", "completed", 0, ""),
]


def filled(client: Client) -> list[Consumer]:
    """Runs of every kind, of which nothing is in the table yet."""
    begin(client, **ALL)
    consumers = serve(client)
    client.cancel_run("ns", "flow", "told", "enough")
    client.cancel_run("ns", "flow", "gone", "enough", terminate=True)
    drain(*consumers)
    begin(client, fresh="call")
    return consumers


# Lists of runs.


@pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])
def test_q1_runs_are_listed_newest_first_wherever_the_table_stands(url: str, cold: bool) -> None:
    """Q1: status, iteration and error, at once, and after each event that the table takes in."""
    with stepped(url, Clock()) as client:
        filled(client)
        assert everywhere(client, lambda c: brief(c.runs()), cold=cold) == EXPECTED
        assert cursor(client, TARGET)[0] > 0


@pytest.mark.slow_on_servers
@pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])
def test_q1_a_status_selects_runs_wherever_the_table_stands(url: str, cold: bool) -> None:
    """Q1: also runs whose status has changed behind the cursor, and those that are parked."""

    def by_status(client: Client) -> dict[str, list[str]]:
        found = {each: named(*client.runs("ns", "flow", status=each)) for each in STATUSES}
        assert client.count("ns", "flow") == {each: len(runs) for each, runs in found.items()}
        assert client.count() == client.count("ns") == client.count("ns", "flow")
        both = named(*client.runs(status=["parked", "failed"]))
        assert both == ["bug", "sold"]
        assert named(*client.runs(status=UNFINISHED)) == [
            name for name, status, _, _ in EXPECTED if status in UNFINISHED
        ]
        return found

    with stepped(url, Clock()) as client:
        filled(client)
        assert everywhere(client, by_status, cold=cold) == {
            each: [name for name, status, _, _ in EXPECTED if status == each] for each in STATUSES
        }


@pytest.mark.slow_on_servers
def test_q1_a_list_goes_on_after_its_last_run(url: str) -> None:
    """Q1: by the run or its id; each run comes once, from the table or from behind it."""

    def paged(client: Client, size: int, status: Sequence[str] = ()) -> list[str]:
        found: list[RunInfo] = []
        last: RunInfo | None = None
        while some := client.runs("ns", status=status, limit=size, after=last):
            assert len(some) <= size
            found += some
            last = some[-1]
        return named(*found)

    def all_pages(client: Client) -> list[str]:
        pages = [paged(client, size) for size in (1, 2, 5, 1000)]
        assert all(page == pages[0] for page in pages)
        with patch.object(queries, "BATCH", 4):
            some = [paged(client, size, ["parked", "running", "failed"]) for size in (1, 2)]
        assert some == [["fresh", "held", "bug", "sold", "broken"]] * 2
        assert named(*client.runs("ns", limit=1, after=client.runs()[0].id)) == pages[0][1:2]
        return pages[0]

    with stepped(url, Clock()) as client:
        filled(client)
        assert everywhere(client, all_pages) == [name for name, *_ in EXPECTED]


def test_q1_a_run_has_its_times_and_its_newest_event(url: str) -> None:
    """Q1: the start of iteration 0, the end of the last one; a restart is no end."""
    clock = Clock()
    with stepped(url, clock) as client:
        begin(client, a="again call")
        clock.forward(seconds=5)
        consumers = [register_workflow(client, "ns", flow, start=False)]
        drain(*consumers)
        (run,) = everywhere(client, lambda c: c.runs())
        assert run == RunInfo("ns", "flow", "a", 1, "running", START, None, "", 4, 1)
        clock.forward(seconds=5)
        drain(*consumers, register_activity(client, "ns", act, start=False))
        (run,) = everywhere(client, lambda c: c.runs())
        assert (run.started_at, run.ended_at) == (START, START + timedelta(seconds=10))
        assert (run.iteration, run.last_event_id) == (1, client.log.newest())


def test_q1_namespaces_and_workflows_are_listed_apart(url: str) -> None:
    """Q1, L8: also by names that differ little; without names all are listed."""

    def each(client: Client) -> list[list[str]]:
        asked = [("ns", "flow"), ("ns", "Flow"), ("ns", ""), ("NS", "flow"), ("ns2", ""), ("", "")]
        return [named(*client.runs(*names)) for names in asked]

    with stepped(url) as client:
        for number, names in enumerate([("ns", "flow"), ("ns", "Flow"), ("NS", "flow")]):
            client.run_workflow(*names, str(number), None)
        assert everywhere(client, each) == [["0"], ["1"], ["1", "0"], ["2"], [], ["2", "1", "0"]]


def test_q1_runs_that_started_after_a_time(url: str) -> None:
    """Q1: a time finds its place without a scan, though it may go back by a little."""
    clock = Clock()
    asks = [0, 600, 1198, 1199, 1200, 2398, 2399]

    def since(client: Client, status: str | None) -> list[str]:
        moments = [START + timedelta(seconds=each) for each in asks]
        found = [client.runs("ns", status=status, started_after=each) for each in moments]
        return ["".join(named(*runs)) for runs in found]

    with stepped(url, clock) as client:
        for number, seconds in enumerate([600, 600, -1, 600, 600]):
            clock.forward(seconds=seconds)
            start_runs(client, str(number))
        for status in (None, "running"):
            found = everywhere(client, partial(since, status=status))
            assert found == ["43210", "4321", "4321", "431", "43", "4", ""]
            set_back(client, TARGET)
            table(client)._forget()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"limit": 0}, "limit=0: expected 1 to 1000"),
        ({"limit": 1001}, "limit=1001: expected 1 to 1000"),
        ({"limit": True}, "limit=True: expected 1 to 1000"),
        ({"status": "done"}, "status 'done': expected one of running, waiting, parked, completed"),
        ({"status": ["running", "x"]}, "status 'x': expected one of"),
        ({"after": -1}, "after=-1: expected a RunInfo or its id"),
        ({"started_after": START.replace(tzinfo=None)}, "started_after is a time without a zone"),
        ({"workflow": "flow"}, "a workflow its namespace: give those, too"),
    ],
)
def test_q1_a_query_that_makes_no_sense_is_refused(
    url: str, options: dict[str, Any], error: str
) -> None:
    """Q1: before anything is asked."""
    with stepped(url) as client, pytest.raises(BadQuery, match=error):
        client.runs(**options)


def test_q1_queries_refuse_names_that_cannot_be(url: str) -> None:
    """Q1, N2."""
    with stepped(url) as client:
        asks: list[Callable[[], object]] = [
            lambda: client.runs("a/b"),
            lambda: client.runs("ns", ".."),
            lambda: client.describe("ns", "flow", ""),
            lambda: client.history("ns", "", "a"),
            lambda: client.parked("ns", "flow", "a/b"),
        ]
        for ask in asks:
            with pytest.raises(InvalidName):
                ask()
        with pytest.raises(BadQuery, match="a run needs its workflow"):
            client.parked("ns", "", "a")
        with pytest.raises(BadFilter, match="iteration=-1"):
            client.history("ns", "flow", "a", -1)


@pytest.mark.embedded
def test_q1_a_query_writes_nothing_and_waits_for_no_gap(url: str) -> None:
    """Q1: a run behind a missing id is listed; only who reads the log fills gaps."""
    with stepped(url) as client:
        start_runs(client, "a")
        with raw(url) as other:
            other.add(Key("ns", "flow", "b"), id=5)
        before = rows(client, "SELECT id FROM replay_events")
        assert named(*client.runs()) == ["b", "a"]
        assert rows(client, "SELECT id FROM replay_events") == before


@pytest.mark.damages
def test_q1_rows_that_nobody_can_read_are_passed_over(url: str) -> None:
    """Q1, L3: in the table of runs, among the parked rows and in the log."""
    with stepped(url) as client:
        start_runs(client, "a", "b", "c")
        drain(table(client))
        with raw(url) as other:
            other.run("UPDATE replay_runs SET status = 99 WHERE run = 'b'")
            other.run("UPDATE replay_events SET `key` = 'nonsense' WHERE run = 'c'")
            other.add(Key("ns", "flow", "d"), type=9)
        assert named(*client.runs("ns")) == ["c", "a"]
        with raw(url) as other:
            other.run("DELETE FROM replay_runs")
        assert client.runs() == []


@pytest.mark.damages
def test_q1_a_run_that_somebody_has_begun_in_the_middle_is_no_run(url: str) -> None:
    """Q1, R9: a request or a response without a run, and an iteration without the first one."""
    with stepped(url) as client:
        request(client, Key("ns", "flow", "a", 0, "act", "0"))
        with raw(url) as other:
            other.add(Key("ns", "flow", "b", 3))
        assert everywhere(client, lambda c: c.runs()) == []
        start_runs(client, "a")
        assert everywhere(client, lambda c: brief(c.runs())) == [("a", "running", 0, "")]
        with pytest.raises(UnknownRun):
            client.describe("ns", "flow", "b")


@pytest.mark.damages
def test_q1_a_late_response_wakes_nothing(url: str) -> None:
    """Q1, R9: of an older iteration, of a run that has ended, and without a request."""
    with stepped(url) as client:
        begin(client, a="again sleep", b="")
        serve(client)
        log = behind(client)
        for text in ("a/0/act/0", "b/0/act/0", "a/1/act/0", "a/0/replay_sleep/0"):
            key = Key.parse(f"ns/flow/{text}")
            assert log.append(log.event(EventType.ACTIVITY_RESPONSE, key, Int()))
        assert everywhere(client, lambda c: brief(c.runs())) == [
            ("b", "completed", 0, ""),
            ("a", "waiting", 1, ""),
        ]


@pytest.mark.damages
def test_q1_a_run_is_parked_only_in_its_newest_iteration(url: str) -> None:
    """Q1, R5: and until the next attempt; a row that was left behind says nothing."""
    clock = Clock()
    broken = [True]

    def mends(ctx: RunContext, message: Int) -> None:
        if broken[0]:
            raise ValueError("a bug")
        ctx.sleep(HOUR)

    def states(client: Client) -> Any:
        return brief(client.runs()), named(*client.runs(status="parked")), client.count("ns")

    with stepped(url, clock) as client:
        start_runs(client, "a")
        consumer = register_workflow(client, "ns", mends, name="flow", start=False)
        drain(consumer)
        found, parked, count = everywhere(client, states)
        assert found == [("a", "parked", 0, "ValueError: a bug")]
        assert parked == ["a"]
        assert (count["parked"], count["running"]) == (1, 0)
        broken[0] = False
        clock.forward(minutes=10)
        drain(consumer)
        found, parked, count = everywhere(client, states)
        assert (found, parked, count["parked"]) == ([("a", "waiting", 0, "")], [], 0)
        with raw(url) as other:
            other.run(
                "INSERT INTO replay_parked (consumer, event_id, `key`, attempts, next_at, error)"
                " VALUES ('workflow/ns/flow', 77, 'ns/flow/a/9', 1, '2030-01-01 00:00:00.000', '')"
            )
        assert everywhere(client, states) == (found, parked, count)


def test_q1_many_parked_runs_are_passed_over_page_by_page(url: str) -> None:
    """Q1: a list of running runs is full although the newest are all parked."""
    with stepped(url) as client:
        begin(client, **{f"r{number}": "call" for number in range(3)})
        begin(client, **{f"p{number}": "bug" for number in range(9)})
        drain(register_workflow(client, "ns", flow, start=False))
        drain(table(client))
        with patch.object(queries, "BATCH", 4):
            assert named(*client.runs(status="running", limit=3)) == ["r2", "r1", "r0"]
            assert len(client.runs(status="parked", limit=5)) == 5


def add(client: Client, type: EventType, *keys: Key) -> None:
    """Add events by hand, as if runs had, or another program."""
    log = behind(client)
    assert all(log.commit([log.event(type, key) for key in keys]))


def test_q1_runs_that_changed_behind_the_cursor_keep_their_places(url: str) -> None:
    """Q1: the newest have left the list, an old one has changed and stays: it is not moved up."""
    with stepped(url) as client:
        keys = [Key("ns", "flow", f"r{number}") for number in range(6)]
        start_runs(client, *(key.run for key in keys))
        drain(table(client))
        add(client, EventType.RUN_COMPLETED, keys[5], keys[4])
        add(client, EventType.ACTIVITY_REQUEST, keys[0]._replace(target="act", sequence="0"))
        with patch.object(queries, "BATCH", 4):
            assert named(*client.runs(status="running", limit=2)) == ["r3", "r2"]
            assert named(*client.runs(status="running")) == ["r3", "r2", "r1", "r0"]


# The table.


def stored(client: Client) -> list[tuple[Any, ...]]:
    return rows(client, "SELECT id, run, iteration, status, ended_at FROM replay_runs ORDER BY id")


def test_q1_the_table_has_a_row_for_each_run(url: str) -> None:
    """Q1: as docs/format.md says."""
    clock = Clock()
    with stepped(url, clock) as client:
        begin(client, a="again sleep", b="call", c="fail")
        serve(client)
        begin(client, d="")
        drain(table(client))
        end = "2030-01-01 00:00:00.000"
        assert [(*row[:4], row[4] and str(row[4])[:23]) for row in stored(client)] == [
            (1, "a", 1, 2, None),
            (2, "b", 0, 3, end),
            (3, "c", 0, 4, end),
            (client.runs()[0].id, "d", 0, 1, None),
        ]


def test_q1_a_row_is_written_only_when_its_status_changes(url: str) -> None:
    """Q1, P21: a step of a run that stays as it is costs no transaction."""
    with stepped(url) as client:
        begin(client, a="call call call")
        workflow = register_workflow(client, "ns", flow, start=False)
        activity = register_activity(client, "ns", act, start=False)
        projection = table(client)
        drain(workflow)
        drain(projection)
        before = cursor(client, TARGET)
        activity.step()
        workflow.step()
        drain(projection)
        assert cursor(client, TARGET) == before
        drain(workflow, activity, projection)
        assert cursor(client, TARGET)[0] == client.log.newest()


def test_q1_a_run_that_goes_on_to_wait_changes_no_row(url: str) -> None:
    """Q1, P21: what it waited for is over, and the next wait has begun."""
    clock = Clock()
    with stepped(url, clock) as client:
        begin(client, a="sleep sleep")
        consumers = serve(client)
        drain(table(client))
        before = cursor(client, TARGET)
        clock.forward(hours=1)
        drain(*consumers)
        drain(table(client))
        assert len(list(client.history("ns", "flow", "a"))) == 4
        assert cursor(client, TARGET) == before


def test_q1_runs_that_begin_again_have_not_ended(url: str) -> None:
    """Q1, R6: also if the end and the next iteration do not come together, for many at once."""
    with stepped(url) as client:
        keys = [Key("ns", "flow", f"r{number}") for number in range(5)]
        start_runs(client, *(key.run for key in keys))
        for type, iteration, status in (
            (EventType.RUN_COMPLETED, 0, "completed"),
            (EventType.RUN_CREATED, 1, "running"),
            (EventType.RUN_COMPLETED, 1, "completed"),
        ):
            add(client, type, *(key._replace(iteration=iteration) for key in keys))
            for _ in range(2):
                runs = client.runs()
                found = {(run.status, run.iteration, run.ended_at is not None) for run in runs}
                assert found == {(status, iteration, status == "completed")}
                drain(table(client))


@pytest.mark.embedded
def test_q1_who_has_lost_the_table_writes_no_row(url: str) -> None:
    """Q1, L7: rows and cursor are one transaction, which begins with the fence."""
    with stepped(url) as client:
        start_runs(client, "a")
        projection = table(client)
        drain(projection)
        start_runs(client, "b")
        with raw(url) as other:
            other.run("UPDATE replay_cursors SET owner = 'x' WHERE id = 'replay_runs'")
        with pytest.raises(LostOwnership):
            projection.step()
        assert [row[1] for row in stored(client)] == ["a"]


def test_q1_rows_that_change_alike_are_changed_together(url: str) -> None:
    """Q1: many runs that end, restart or wait at once."""
    clock = Clock()
    names = [f"r{number}" for number in range(9)]
    with stepped(url, clock) as client:
        begin(client, **dict.fromkeys(names, "sleep again call again sleep"))
        consumers = serve(client)
        drain(table(client))
        both: list[tuple[str, int]] = [("waiting", 2), ("completed", 2)]
        for expected in both:
            clock.forward(hours=1)
            drain(*consumers)
            found = everywhere(client, lambda c: [(r.status, r.iteration) for r in c.runs()])
            assert found == [expected] * 9
            drain(table(client))
            ended = {row[4] is not None for row in stored(client)}
            assert ended == {expected[0] == "completed"}


def test_q1_a_table_that_is_lost_is_made_again(url: str) -> None:
    """Q1: from event 1, after its rows and its cursor were deleted."""
    with stepped(url, Clock()) as client:
        filled(client)
        drain(table(client))
        before = stored(client)
        table(client)._forget()
        with raw(url) as other:
            other.run("DELETE FROM replay_runs")
            other.run("DELETE FROM replay_cursors WHERE id = 'replay_runs'")
        assert everywhere(client, lambda c: brief(c.runs())) == EXPECTED
        assert stored(client) == before


def test_q1_a_cursor_that_is_set_back_changes_nothing(url: str) -> None:
    """Q1: while the table is written again, queries say the same."""
    with stepped(url, Clock()) as client:
        filled(client)
        drain(table(client))
        before = stored(client)
        table(client)._forget()
        set_back(client, TARGET)
        assert everywhere(client, lambda c: brief(c.runs())) == EXPECTED
        assert stored(client) == before


def test_q1_the_end_of_a_failed_run_is_read_again(url: str) -> None:
    """Q1: by a cursor that was set back to between the failure and the end."""
    with stepped(url) as client:
        begin(client, a="fail")
        serve(client)
        drain(table(client))
        before = stored(client)
        table(client)._forget()
        position = client.log.newest() - 1
        behind(client).database.write(
            [
                Statement(
                    "UPDATE replay_cursors SET last_event_id = ? WHERE id = ?", (position, TARGET)
                )
            ]
        )
        drain(table(client))
        assert stored(client) == before
        assert client.describe("ns", "flow", "a").status == "failed"


def test_q1_rows_that_are_written_during_a_query_do_no_harm(url: str) -> None:
    """Q1: a query reads the cursor first, so it may see events that the rows have already."""
    with stepped(url, Clock()) as client:
        filled(client)
        projection, log = table(client), behind(client)
        read = queries.Queries._behind

        def then_written(self: queries.Queries, ask: queries.RunsQuery) -> Any:
            found = read(self, ask)
            drain(projection)
            return found

        with patch.object(queries.Queries, "_behind", then_written):
            assert brief(client.runs()) == EXPECTED
        projection._forget()
        set_back(client, TARGET)
        with patch.object(queries.Queries, "_behind", then_written):
            counts = client.count("ns")
        assert counts == {s: sum(e[1] == s for e in EXPECTED) for s in STATUSES}
        assert log.newest() == cursor(client, TARGET)[0]


@pytest.mark.parametrize("committed", [False, True])
def test_q1_a_crash_between_the_events_and_their_rows(url: str, committed: bool) -> None:
    """Q1, L6: rows and cursor are one transaction; what is not in the table yet is read again."""
    with stepped(url, Clock()) as client:
        filled(client)
        projection = table(client)
        with one_at_a_time(client, 7):
            projection.step()
        faults = Faults(database(client))
        faults.before, faults.after = (0, 1) if committed else (1, 0)
        with pytest.raises(Unavailable):
            projection.step()
        assert brief(client.runs()) == EXPECTED
        assert endure(projection) == 0
        assert everywhere(client, lambda c: brief(c.runs())) == EXPECTED


@pytest.mark.embedded
def test_q1_two_processes_do_not_both_write_the_table(url: str) -> None:
    """Q1, L7: it has one owner, like every consumer, and another goes on where it was killed."""
    with stepped(url) as client:
        start_runs(client, "a")
        projection = table(client)
        projection.step()
        start_runs(client, "b")
        with stepped(url) as second:
            assert table(second)._step(0) == 0
            crash(client, projection)
            assert table(second)._step(10) > 0
            drain(table(second))
            assert [row[1] for row in stored(second)] == ["a", "b"]


def test_q1_few_runs_are_kept_in_memory(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Q1, R10: a run that was forgotten is read from its row and its history."""
    monkeypatch.setattr("replay.projection._RUNS", 1)
    with stepped(url, Clock()) as client:
        filled(client)
        assert everywhere(client, lambda c: brief(c.runs())) == EXPECTED
        assert len(table(client)._states) <= 1  # type: ignore[attr-defined]


def test_q1_few_requests_are_kept_in_memory(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Q1: nor those of one run."""
    monkeypatch.setattr("replay.projection._OPEN", 2)
    with stepped(url, Clock()) as client:
        filled(client)
        assert everywhere(client, lambda c: brief(c.runs())) == EXPECTED
        assert len(table(client)._states) <= 2  # type: ignore[attr-defined]


def test_q1_a_query_says_if_the_table_is_too_far_behind(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Q1: it reads so many events, and no more.  What one run does can be asked all the same."""
    monkeypatch.setattr(queries, "_FARTHEST", 3)
    with stepped(url) as client:
        start_runs(client, "a", "b", "c", "d")
        asks: list[Callable[[], object]] = [client.runs, client.count]
        for ask in asks:
            with pytest.raises(QueryBehind, match="is at event 0, more than 3 events behind"):
                ask()
        assert client.describe("ns", "flow", "d").status == "running"
        assert len(list(client.history("ns", "flow", "a"))) == 1
        drain(table(client))
        assert named(*client.runs()) == ["d", "c", "b", "a"]


@pytest.mark.embedded
def test_q1_a_log_of_an_older_version_gets_its_table(url: str) -> None:
    """Q1: when it is opened, and filled from event 1; until then queries are right as well."""
    with stepped(url, Clock()) as client:
        filled(client)
    with raw(url) as other:
        other.run("DROP TABLE replay_runs")
        other.run("UPDATE replay_meta SET value = '1' WHERE name = 'schema_version'")
    with stepped(url, Clock()) as client:
        assert everywhere(client, lambda c: brief(c.runs())) == EXPECTED


@pytest.mark.embedded
def test_q1_the_table_is_kept_by_whoever_has_consumers(url: str) -> None:
    """Q1: no program has to ask for it."""
    with connect(url) as client, LogLines() as lines:
        begin(client, a="")
        register_workflow(client, "ns", flow)
        client.await_completion("ns", "flow", "a", timeout=60)
        threads = {consumer.name for consumer in client.loops() if consumer._thread is not None}
        assert threads == {"replay_sleep", "replay_signal", "replay_inbox", TARGET}
        assert lines.lines == []


@pytest.mark.embedded
def test_q1_the_table_rests_between_two_commits(url: str) -> None:
    """Q1: at the head, so that many changes are one; a table far behind does not rest."""
    clock = Clock()
    with stepped(url, clock) as client:
        start_runs(client, "a")
        projection = table(client)
        projection.step()
        assert projection.blocked() == START + timedelta(seconds=0.25)
        clock.forward(seconds=0.25)
        assert projection.blocked() is None


def test_q1_from_its_first_wait_on_all_of_a_run_counts(url: str) -> None:
    """Q1: also the activities that the table has passed over before, and those that end later."""
    with stepped(url, Clock()) as client:
        key = Key("ns", "flow", "a")
        calls = [key._replace(target="act", sequence=str(number)) for number in range(2)]
        found = []

        def look(run: str, type: EventType, *keys: Key) -> None:
            add(client, type, *keys)
            start_runs(client, run)  # so that the step has something else to look at
            drain(table(client))
            found.append({row[1]: STORED[row[3]] for row in stored(client)}["a"])

        start_runs(client, "a")
        drain(table(client))
        look("b", EventType.ACTIVITY_REQUEST, *calls)
        look("c", EventType.ACTIVITY_REQUEST, key._replace(target=SLEEP, sequence="0"))
        look("d", EventType.ACTIVITY_RESPONSE, calls[0])
        look("e", EventType.ACTIVITY_RESPONSE, calls[1])
        assert found == ["running", "running", "running", "waiting"]


@pytest.mark.embedded
def test_q1_activities_hold_back_no_cursor(url: str) -> None:
    """Q1: a run that never waits changes no row, but the table follows the log, and rests."""
    clock = Clock()
    with stepped(url, clock) as client:
        start_runs(client, "a")
        projection, key = table(client), Key("ns", "flow", "a")
        drain(projection)
        clock.forward(seconds=1)
        add(
            client,
            EventType.ACTIVITY_REQUEST,
            *(key._replace(target="act", sequence=str(n)) for n in range(9)),
        )
        projection.step()
        assert cursor(client, TARGET)[0] == 1
        assert projection.blocked() == START + timedelta(seconds=1.25)
        clock.forward(seconds=1)
        projection.step()
        assert cursor(client, TARGET)[0] == 10


@pytest.mark.embedded
@pytest.mark.parametrize("bound", ["events", "time", "rows"])
def test_q1_the_table_is_written_once_for_many_batches(
    url: str, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    """Q1: while it is behind, up to a bound of events, time and rows; never its cursor alone."""
    clock = Clock()
    monkeypatch.setattr("replay.projection.Projection.stride", 3000 if bound == "events" else 10**6)
    monkeypatch.setattr("replay.projection.FULL", 2000 if bound == "rows" else 10**6)
    with stepped(url, clock) as client:
        for begin in range(1, 5001, 1000):
            names = map(str, range(begin, begin + 1000))
            add(client, EventType.RUN_CREATED, *(Key("ns", "flow", name) for name in names))
        projection, found = table(client), []
        for _ in range(5):
            projection.step()
            found.append(len(stored(client)))
            clock.forward(seconds=0.5)
        by_rows = [0, 2000, 2000, 4000, 5000]
        assert found == (by_rows if bound == "rows" else [0, 0, 3000, 3000, 5000])
        assert [row[0] for row in stored(client)] == list(range(1, 5001))


# One run.


def test_q1_a_run_is_described(url: str) -> None:
    """Q1: with its result, and with what it waits for."""
    clock = Clock()
    with stepped(url, clock) as client:
        begin(client, a="call again sleep", b="both broken")
        clock.forward(seconds=1)
        serve(client)
        later = START + timedelta(seconds=1)
        found = client.describe("ns", "flow", "a")
        assert (found.namespace, found.workflow, found.run) == ("ns", "flow", "a")
        assert (found.iteration, found.status, found.error) == (1, "waiting", "")
        assert (found.started_at, found.ended_at) == (START, None)
        assert (found.result, found.failure, found.attempts) == (None, None, 0)
        key = "ns/flow/a/1/replay_sleep/0"
        sleep = Waiting("sleep", "", later, later + HOUR, 0, "", None, key)
        assert found.waiting_for == [sleep]
        assert found.last_event_id == client.runs("ns", limit=2)[1].last_event_id
        found = client.describe("ns", flow, "b")
        activity, timer = found.waiting_for
        assert found.status == "running"
        assert (activity.kind, activity.name, activity.until) == ("activity", "act", None)
        assert (activity.attempts, activity.error) == (1, "ValueError: no answer")
        assert activity.next_at is not None
        assert activity.next_at > later
        assert (timer.kind, timer.until) == ("sleep", later + HOUR)


def test_q1_an_await_is_described(url: str) -> None:
    """Q1: with its signal's type, and with its timeout if it has one."""
    with stepped(url, Clock()) as client:
        begin(client, a="await", b="ever")
        serve(client)
        (a,) = client.describe("ns", "flow", "a").waiting_for
        (b,) = client.describe("ns", "flow", "b").waiting_for
        assert (a.kind, a.name, a.since, a.until) == ("signal", "7", START, START + HOUR)
        assert (b.kind, b.name, b.since, b.until) == ("signal", "8", START, None)


def test_q1_a_run_that_has_ended_is_described(url: str) -> None:
    """Q1, E1, E2, E7: with the result or the failure of its last iteration."""
    clock = Clock()
    with stepped(url, clock) as client:
        begin(client, a="again", b="fail", c="sleep")
        consumers = serve(client)
        client.cancel_run("ns", "flow", "c", "enough")
        clock.forward(seconds=1)
        drain(*consumers)
        a, b, c = (client.describe("ns", "flow", name) for name in "abc")
        assert (a.status, a.iteration, a.result, a.failure) == ("completed", 1, Int(value=5), None)
        assert (a.ended_at, a.waiting_for) == (START, [])
        assert (b.status, b.result, b.error) == ("failed", None, "sold out")
        assert isinstance(b.failure, RunFailed)
        assert (b.failure.kind, len(b.failure.detail.value)) == ("failed", 20_000)
        assert (c.status, c.error) == ("cancelled", "enough")
        assert (c.ended_at, c.waiting_for) == (START + timedelta(seconds=1), [])


def test_q1_a_parked_run_is_described(url: str) -> None:
    """Q1, R5: with its error, its attempts and the next one."""
    with stepped(url, Clock()) as client:
        begin(client, a="bug")
        serve(client)
        found = client.describe("ns", "flow", "a")
        assert (found.status, found.error, found.attempts) == ("parked", "ValueError: a bug", 1)
        assert found.next_at is not None
        assert START < found.next_at <= START + timedelta(seconds=1)


def test_q1_a_result_comes_as_its_annotation_says(url: str) -> None:
    """Q1, J1: if the function is given; by its name it is plain JSON."""

    def plain(ctx: RunContext, message: int) -> tuple[int, str]:
        return message, "x"

    with stepped(url) as client:
        client.run_workflow("ns", plain, "a", 1)
        drain(register_workflow(client, "ns", plain, start=False))
        assert client.describe("ns", plain, "a").result == (1, "x")
        assert client.describe("ns", "plain", "a").result == [1, "x"]


def test_q1_an_activity_that_runs_is_described(url: str) -> None:
    """Q1, A3: a request that is executed just now is not parked in the eyes of a reader."""
    with stepped(url, Clock()) as client:
        begin(client, a="call")
        drain(register_workflow(client, "ns", flow, start=False))
        with raw(url) as other:
            other.run(
                "INSERT INTO replay_parked (consumer, event_id, `key`, attempts, next_at, error)"
                " VALUES ('activity/ns/act', 2, 'ns/flow/a/0/act/0', 0,"
                " '2030-01-01 00:00:00.000', 'running')"
            )
        (waits,) = client.describe("ns", "flow", "a").waiting_for
        assert (waits.attempts, waits.error, waits.next_at) == (0, "", None)
        assert client.runs()[0].status == "running"


def test_q1_an_unknown_run_is_named(url: str) -> None:
    """Q1."""
    with stepped(url) as client:
        with pytest.raises(UnknownRun, match="has no run ns/flow/nobody"):
            client.describe("ns", "flow", "nobody")
        assert list(client.history("ns", "flow", "nobody")) == []


def texts(events: Iterator[Event]) -> list[str]:
    return [event.text for event in events]


def test_q1_a_history_has_the_events_of_a_run_or_iteration(url: str) -> None:
    """Q1, L4: in order, with their messages, however many they are."""
    with stepped(url) as client:
        begin(client, a="call again call", b="call")
        serve(client)
        whole = [e for e in client.stream(to_head=True) if e.key[:3] == ("ns", "flow", "a")]
        found = list(client.history("ns", "flow", "a"))
        assert [(e.id, e.text, e.message) for e in found] == [
            (e.id, e.text, e.message) for e in whole
        ]
        for iteration in (0, 1, 2):
            expected = [e.text for e in whole if e.key.iteration == iteration]
            assert texts(client.history("ns", "flow", "a", iteration)) == expected
        with patch.object(queries, "MOST", 2), patch.object(queries, "_CHUNK", 1):
            assert texts(client.history("ns", flow, "a")) == [e.text for e in whole]
            stream = client.stream("ns", "flow", "a", after=whole[2].id, to_head=True)
            assert texts(stream) == [e.text for e in whole[3:]]


def test_q1_a_run_is_read_by_the_index_alone(url: str) -> None:
    """Q1, L4: `stream` to the head and `history` do not read the log of all others."""
    with stepped(url) as client:
        start_runs(client, *map(str, range(50)))
        drain(table(client))
    with stepped(url) as client:
        start_runs(client, "a")
        counted = Queries(database(client))
        with patch.object(type(behind(client)), "read", side_effect=AssertionError):
            assert texts(client.stream("ns", "flow", "7", to_head=True)) == ["ns/flow/7/0"]
            assert texts(client.history("ns", "flow", "7")) == ["ns/flow/7/0"]
            assert client.describe("ns", "flow", "7").last_event_id == 8
        assert counted.count < 40


@pytest.mark.damages
def test_q1_the_head_of_a_run_has_no_gap(url: str) -> None:
    """Q1, L1: what is missing is filled first, as for every reader."""
    with stepped(url) as client:
        start_runs(client, "a")
        with raw(url) as other:
            other.add(Key("ns", "flow", "a", 1), id=5)
        assert texts(client.stream("ns", "flow", "a", to_head=True)) == [
            "ns/flow/a/0",
            "ns/flow/a/1",
        ]
        found = rows(client, "SELECT id, type FROM replay_events ORDER BY id")
        assert found == [(1, 1), (2, 0), (3, 0), (4, 0), (5, 1)]


def test_q1_a_stream_of_a_run_waits_until_its_events_are_old(url: str) -> None:
    """Q1, L4."""
    clock = Clock()
    with stepped(url, clock) as client:
        start_runs(client, "a")
        stream = client.stream("ns", "flow", "a", to_head=True, lag=HOUR)
        with patch("time.sleep", side_effect=lambda _: clock.forward(minutes=30)):
            assert texts(stream) == ["ns/flow/a/0"]
        assert clock.now >= START + HOUR


# Consumers, and what they have parked.


def test_q1_consumers_are_listed(url: str) -> None:
    """Q1: with their owners, how far they are behind, and how much they have parked."""
    with stepped(url) as client:
        begin(client, a="bug", b="call broken")
        consumers = serve(client)
        begin(client, c="")
        found = {each.name: each for each in client.consumers()}
        assert list(found) == [
            "activity/ns/act",
            "replay_inbox",
            "replay_signal",
            "replay_sleep",
            "workflow/ns/flow",
        ]
        newest = client.log.newest()
        for consumer in consumers:
            each = found[consumer.name]
            position, owner = cursor(client, consumer.name)
            assert (each.cursor, each.lag) == (position, newest - position)
            assert each.owner in owner
            assert each.owner.partition(":")[2].isdecimal()
            assert each.lease_until is not None
        assert [each.parked for each in found.values()] == [1, 0, 0, 0, 1]
        consumers[0].stop()
        (left,) = (each for each in client.consumers() if each.name == "workflow/ns/flow")
        assert (left.owner, left.lease_until, left.lag) == ("", None, left.lag)


def test_q1_many_consumers_are_listed(url: str) -> None:
    """Q1: page by page; the place of the signals is no consumer."""
    names = sorted(f"consumer/{number}" for number in range(7))
    with stepped(url) as client:
        with raw(url) as other:
            for name in (*names, "replay_signal/seen"):
                other.run(
                    "INSERT INTO replay_cursors (id, last_event_id, updated_at, owner)"
                    " VALUES (?, 0, '2030-01-01 00:00:00.000', '')",
                    name,
                )
        with patch.object(queries, "MOST", 2):
            found = [each.name for each in client.consumers() if each.name.startswith("consumer")]
        assert found == names
        assert "replay_signal/seen" not in [each.name for each in client.consumers()]


def test_q1_what_is_parked_is_listed(url: str) -> None:
    """Q1: by key, of all, of a namespace, of a workflow or of a run, and page by page."""
    with stepped(url, Clock()) as client:
        begin(client, a="bug", b="call broken", c="bug", d="sleep")
        serve(client)
        for name in ("ns2", "ns"):
            client.run_workflow(name, "other", "x", None)
            drain(register_workflow(client, name, flow, name="other", start=False))
        found = client.parked()
        assert [(each.consumer, each.key) for each in found] == [
            ("workflow/ns/flow", "ns/flow/a/0"),
            ("activity/ns/act", "ns/flow/b/0/act/0"),
            ("workflow/ns/flow", "ns/flow/c/0"),
            ("workflow/ns/other", "ns/other/x/0"),
            ("workflow/ns2/other", "ns2/other/x/0"),
        ]
        first, second = found[:2]
        assert (first.namespace, first.workflow, first.run) == ("ns", "flow", "a")
        assert (first.event_id, first.attempts, first.error) == (1, 1, "ValueError: a bug")
        assert START < first.next_at <= START + timedelta(seconds=1)
        assert client.parked("ns") == found[:4]
        assert client.parked("ns", flow) == found[:3]
        assert client.parked("ns", "flow", "b") == [second]
        assert client.parked("n") == []
        pages = [client.parked(limit=2)]
        while pages[-1]:
            pages.append(client.parked(limit=2, after=pages[-1][-1]))
        assert list(itertools.chain(*pages)) == found


def test_q1_a_codec_hides_the_result_from_the_server_only(url: str) -> None:
    """Q1, J4: the result is decoded where it is asked for; a failure is readable everywhere."""

    class Codec:
        def encode(self, key: str, data: bytes) -> bytes:
            return data[::-1]

        def decode(self, key: str, data: bytes) -> bytes:
            return data[::-1]

    with connect(url, loops=False, codec=Codec()) as client:
        begin(client, a="", b="fail")
        drain(register_workflow(client, "ns", flow, start=False))
        assert client.describe("ns", "flow", "a").result == Int(value=5)
        assert client.runs()[0].error == "sold out"
        with stepped(url) as other:
            with pytest.raises(MessageError, match="is encoded: connect with its codec"):
                other.describe("ns", "flow", "a")
            assert other.runs()[0].error == "sold out"
            assert texts(other.history("ns", "flow", "a"))


def test_q1_a_server_keeps_one_table_for_each_log(url: str) -> None:
    """Q1, G3: a query without a namespace is about the log of the others."""
    with stepped(with_options(url, lease=9)) as client:
        start_runs(client, "a")
        assert named(*client.runs()) == named(*client.runs("ns")) == ["a"]
