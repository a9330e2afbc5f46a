"""What users hold: runs, streams, waiting for an end, registering, taking events apart."""

import functools
import itertools
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from time import monotonic
from types import SimpleNamespace
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pymysql
import pytest
from google.protobuf.message import DecodeError

from replay import (
    ActivityContext,
    Client,
    Event,
    EventType,
    Key,
    RunContext,
    connect,
    consume,
    handle,
    register_activity,
    register_workflow,
)
from replay.client import AlreadyRegistered, BadFilter, Closed
from replay.consumer import consumer_name
from replay.server.remote import RemoteClient
from replay.signature import BadSignature
from replay.storage.database import Error, OutcomeUnknown, Unavailable
from replay.storage.event import InvalidName, MessageTooLarge, MissingMessage, NotAMessage
from tests import journey
from tests.example_pb2 import Empty, Int, String
from tests.servers import connect as connect_to_server
from tests.support import (
    Clock,
    Faults,
    LogLines,
    Outage,
    behind,
    database,
    drain,
    listing,
    loops,
    rows,
    stepped,
    with_options,
)

pytestmark = pytest.mark.contract

LIMIT = 60  # seconds until something that has to happen has not happened


def start_runs(client: Client, *names: str) -> None:
    for name in names:
        assert client.run_workflow("ns", "flow", name, None)


# R1: starting runs.


def test_r1_a_run_is_started_once(url: str) -> None:
    """R1, L2: yes once and no afterwards, whatever the message; no id is burnt by asking again."""
    with stepped(url) as client, stepped(url) as other:
        assert client.run_workflow("ns", "flow", "r", Int(value=1)) is True
        assert client.run_workflow("ns", "flow", "r", Int(value=2)) is False
        assert other.run_workflow("ns", "flow", "r", None) is False
        assert other.run_workflow("ns", "flow", "R", None) is True
        assert listing(client) == ["RUN_CREATED ns/flow/r/0 value: 1", "RUN_CREATED ns/flow/R/0 -"]
        assert [event.id for event in client.stream(to_head=True)] == [1, 2]


def test_r1_a_run_that_has_ended_cannot_be_started_again(url: str) -> None:
    """R1: once, ever."""
    with stepped(url, clock := Clock()) as client:
        consumers = journey.staff(client, [], start=False)
        journey.begin(client, "r", 1)
        for _ in range(3):
            drain(*consumers)
            clock.forward(seconds=1)
        assert client.run_workflow(journey.NAMESPACE, "journey", "r", Int(value=1)) is False
        drain(*consumers)
        assert listing(client) == journey.events("r", 1)


def test_r1_of_many_that_start_a_run_at_once_one_hears_yes(url: str) -> None:
    """R1: threads of two clients start the same twenty runs at the same moment."""
    gate = threading.Barrier(8)
    with stepped(url) as a, stepped(url) as b, ThreadPoolExecutor(8) as pool:

        def start(client: Client) -> list[bool]:
            gate.wait(LIMIT)
            return [client.run_workflow("ns", "flow", str(n), Int(value=n)) for n in range(1, 21)]

        answers = list(pool.map(start, [a, b] * 4))
        assert [sum(answer) for answer in zip(*answers, strict=True)] == [1] * 20
        assert sorted(listing(a)) == sorted(
            f"RUN_CREATED ns/flow/{n}/0 value: {n}" for n in range(1, 21)
        )


def test_r1_a_lost_race_is_a_no(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """R1: another was faster between asking and adding: no, and the events of both are one."""
    with stepped(url) as a, stepped(url) as b:
        remote = isinstance(a, RemoteClient)
        place, name = (a.log, "exists") if remote else (a.log.group, "_known")
        look = getattr(place, name)

        def ask(*arguments: Any) -> object:
            found = look(*arguments)
            assert b.run_workflow("ns", "flow", "r", Int(value=2))
            return found

        monkeypatch.setattr(place, name, ask)
        if not remote:
            monkeypatch.setattr(a.log.database, "loses_ids", True)  # or SQLite does not look
        assert a.run_workflow("ns", "flow", "r", Int(value=1)) is False
        assert listing(a) == ["RUN_CREATED ns/flow/r/0 value: 2"]


def test_many_runs_are_started_in_one_call(url: str) -> None:
    """R1, L10: the answers are those of single calls; of two equal ones the first is new."""
    with stepped(url) as client:
        assert client.run_workflow("ns", "flow", "b", None)
        faults = Faults(database(client))
        starts = [("ns", "flow", run, Int(value=n)) for n, run in enumerate("abcac", 1)]
        assert client.run_workflows(starts) == [True, False, True, False, False]
        assert faults.writes == 1
        assert client.run_workflows(starts) == [False] * 5
        assert client.run_workflows([]) == []
        assert faults.writes == 1
        assert listing(client) == [
            "RUN_CREATED ns/flow/b/0 -",
            "RUN_CREATED ns/flow/a/0 value: 1",
            "RUN_CREATED ns/flow/c/0 value: 3",
        ]


def test_of_many_starts_a_wrong_one_stores_none(url: str) -> None:
    """R1, J3: all are checked before any is stored."""
    with stepped(url) as client:
        with pytest.raises(InvalidName):
            client.run_workflows([("ns", "flow", "a", None), ("ns", "flow", "a/b", None)])
        with pytest.raises(InvalidName):
            client.signal_runs(
                [("ns", "flow", "a", 1, None, ""), ("ns", "flow", "a/b", 1, None, "")]
            )
        assert listing(client) == []
        assert rows(client, "SELECT COUNT(*) FROM replay_signals") == [(0,)]


def test_many_starts_are_several_transactions(url: str) -> None:
    """L10: each starts up to 2,000 runs of 8 MiB in all."""
    with stepped(url) as client:
        faults = Faults(database(client))
        few = [("ns", "flow", f"a{n}", None) for n in range(2001)]
        assert client.run_workflows(few) == [True] * 2001
        assert faults.writes == 2
        large = [("ns", "flow", f"b{n}", "x" * (5 << 19)) for n in range(4)]
        assert client.run_workflows(large) == [True] * 4
        assert faults.writes == 4


def test_many_signals_are_sent_in_one_call(url: str) -> None:
    """S1, L10: the answers are those of single calls, and the order is that of the list."""
    with stepped(url) as client:
        assert client.signal_run("ns", "flow", "r", 1, Int(value=0), "b")
        sent = [("ns", "flow", "r", 1, Int(value=n), id) for n, id in enumerate("abcac", 1)]
        assert client.signal_runs(sent) == [True, False, True, False, False]
        assert client.signal_runs(sent) == [False] * 5
        ids = "SELECT external_id FROM replay_signals ORDER BY id"
        assert [row[0] for row in rows(client, ids)] == ["b", "a", "c"]


def test_a_client_serves_many_threads(url: str) -> None:
    """One client: threads start runs, stream them, and wait for their ends, all at once."""
    names = [f"{thread}-{n}" for thread in range(6) for n in range(5)]
    with connect(url) as client, ThreadPoolExecutor(12) as pool:
        calls: list[str] = []
        journey.staff(client, calls)

        def start(thread: int) -> None:
            for name in names[thread * 5 : thread * 5 + 5]:
                journey.begin(client, name, 1)
                client.await_completion(journey.NAMESPACE, "journey", name, LIMIT)

        def watch(_: int) -> list[int]:
            return [event.id for event in first(client.stream(), 28 * len(names))]

        watched = [pool.submit(watch, n) for n in range(6)]
        list(pool.map(start, range(6)))
        ids = [event.id for event in client.stream(to_head=True)]
        assert all(future.result(LIMIT) == ids for future in watched)
        for name in names:
            found = listing(client, journey.NAMESPACE, "journey", name)
            assert found == journey.events(name, 1)
        assert sorted(calls) == sorted(call for name in names for call in journey.calls_of(name))


def first(events: Iterator[Event], count: int) -> list[Event]:
    return [next(events) for _ in range(count)]


# Bad input.


BAD_NAMES = ["", "x" * 256, "a/b", "a\n", " a", "a ", ".", ".."]


def test_n2_a_bad_name_stores_nothing(url: str) -> None:
    """N2: refused for each part of a run's name, for runs and for signals."""
    with stepped(url) as client:
        for place, bad in itertools.product(range(3), BAD_NAMES):
            names = ["ns", "flow", "run"]
            names[place] = bad
            what = ["namespace", "workflow", "run"][place]
            with pytest.raises(InvalidName, match=f"^{what} '"):
                client.run_workflow(names[0], names[1], names[2], None)
            with pytest.raises(InvalidName, match=f"^{what} '"):
                client.signal_run(names[0], names[1], names[2], 1, None, "x")
        assert_nothing_stored(client)


def assert_nothing_stored(client: Client) -> None:
    assert listing(client) == []
    for table in ("replay_events", "replay_signals"):
        assert rows(client, f"SELECT * FROM {table}") == []


def test_n2_n3_a_bad_key_or_message_stores_nothing(url: str) -> None:
    """N2, N3: too long a key, what is no message, and too large a one are refused at the call."""
    long = "x" * 255
    big = String(value="x" * 5_000)
    with stepped(with_options(url, max_message=5000)) as client:
        with pytest.raises(InvalidName, match="has 769 characters, at most 512 fit"):
            client.run_workflow(long, long, long, None)
        with pytest.raises(NotAMessage, match="ns/flow/r/0: object is neither a protobuf"):
            client.run_workflow("ns", "flow", "r", object())
        with pytest.raises(MessageTooLarge, match=r"String has 50.. bytes, the limit is 5000"):
            client.run_workflow("ns", "flow", "r", big)
        with pytest.raises(NotAMessage, match="signal 1 to ns/flow/r: object is neither"):
            client.signal_run("ns", "flow", "r", 1, object(), "x")
        with pytest.raises(MessageTooLarge, match=r"signal 1 to ns/flow/r: the String has 50.. "):
            client.signal_run("ns", "flow", "r", 1, big, "x")
        assert_nothing_stored(client)
        assert client.run_workflow("ns", "flow", "r", String(value="x" * 4_900))


# L4: streams.


def give_none(ctx: ActivityContext, backends: None, message: Int | None) -> None:
    """Give no answer, which is None."""


def call_with_none(ctx: RunContext, message: Int) -> None:
    ctx.exec_activity(give_none, None)


def answer_with_none(ctx: RunContext, message: Int) -> None:
    ctx.exec_activity(give_none, message)


def restart_with_none(ctx: RunContext, message: Int) -> None:
    ctx.restart(None)


def emit_none(ctx: RunContext, message: Int) -> None:
    ctx.emit_output("out", None)


NO_MESSAGE = "has no message, but .* requires one in namespace go: pass a message"


def test_n3_none_is_refused_in_a_namespace_that_requires_messages(url: str) -> None:
    """N3: at the call, in each place; a run and its activity are parked until they are repaired."""
    with stepped(with_options(url, require_message="other,go")) as client:
        flows = [call_with_none, answer_with_none, restart_with_none, emit_none]
        consumers = [register_workflow(client, "go", each, start=False) for each in flows]
        consumers.append(register_activity(client, "go", give_none, None, start=False))
        with pytest.raises(MissingMessage, match=NO_MESSAGE):
            client.run_workflow("go", "emit_none", "r", None)
        with pytest.raises(MissingMessage, match=NO_MESSAGE):
            client.signal_run("go", "emit_none", "r", 1, None, "x")
        assert_nothing_stored(client)
        for each in flows:
            client.run_workflow("go", each.__name__, "r", Int(value=1))
        drain(*consumers)
        lines = [f"RUN_CREATED go/{each.__name__}/r/0 value: 1" for each in flows]
        lines.append("ACTIVITY_REQUEST go/answer_with_none/r/0/give_none/0 value: 1")
        assert listing(client) == lines
        errors = rows(client, "SELECT error FROM replay_parked ORDER BY id")
        assert len(errors) == 4
        assert all(re.search(NO_MESSAGE, error) for (error,) in errors)
        assert client.run_workflow("n", "emit_none", "r", None)
        assert client.signal_run("n", "emit_none", "r", 1, None, "x")


@pytest.fixture
def three(url: str) -> Iterator[Client]:
    """Give a client of a log with the runs x/w/1, x/w/2, x/v/3, y/w/4."""
    with stepped(url) as client:
        for place in ("x/w/1", "x/w/2", "x/v/3", "y/w/4"):
            namespace, workflow, run = place.split("/")
            client.run_workflow(namespace, workflow, run, None)
        yield client


STREAMS: list[tuple[dict[str, Any], str]] = [
    ({}, "1234"),
    ({"namespace": "x"}, "123"),
    ({"namespace": "x", "workflow": "w"}, "12"),
    ({"namespace": "x", "workflow": "w", "run": "2"}, "2"),
    ({"namespace": "X"}, ""),
    ({"after": 2}, "34"),
    ({"after": 1, "namespace": "x"}, "23"),
    ({"after": 4}, ""),
    ({"after": 99}, ""),
    ({"from_head": True}, ""),
    ({"from_head": True, "after": 1}, ""),
]


def test_l4_a_stream_gives_what_was_asked_for(three: Client) -> None:
    """L4: filtered by namespace, workflow and run; behind an id, from the beginning or the head."""
    for arguments, expected in STREAMS:
        found = "".join(event.key.run for event in three.stream(to_head=True, **arguments))
        assert (arguments, found) == (arguments, expected)


def w(ctx: RunContext, message: None) -> None:
    """A workflow of this name."""


def test_l4_a_workflow_is_its_name_or_its_function(three: Client) -> None:
    """L4: in streams and in consumers, as in all other calls."""
    assert [event.key.run for event in three.stream("x", w, to_head=True)] == ["1", "2"]
    got: list[str] = []

    def note(event: Event) -> None:
        got.append(event.key.run)

    drain(consume(three, "mine", note, namespace="x", workflow=w, start=False))
    assert got == ["1", "2"]


UNFOUNDED: list[dict[str, Any]] = [
    {"workflow": "w"},
    {"run": "1"},
    {"namespace": "x", "run": "1"},
    {"workflow": "w", "run": "1"},
]


def test_l4_a_filter_needs_the_names_before_it(three: Client) -> None:
    """L4: refused by the call, not by the first event."""
    for arguments in UNFOUNDED:
        with pytest.raises(BadFilter, match="a run needs its workflow, and a workflow its name"):
            three.stream(**arguments)
        with pytest.raises(BadFilter):
            consume(three, "mine", print, start=False, **arguments)
    with pytest.raises(InvalidName, match="workflow 'a/b' holds a slash"):
        three.stream("x", "a/b")
    with pytest.raises(BadFilter, match="after=-1: ids begin at 1"):
        three.stream(after=-1)


def test_l4_to_head_ends_with_what_was_there_at_the_call(three: Client) -> None:
    """L4: not with what came while it was read."""
    stream = three.stream(to_head=True)
    start_runs(three, "5")
    assert [event.key.run for event in stream] == ["1", "2", "3", "4"]


def test_l4_from_head_begins_with_what_comes_after_the_call(three: Client) -> None:
    """L4: also what comes before the first event is asked for."""
    stream = three.stream(from_head=True)
    start_runs(three, "5", "6")
    assert [next(stream).key.run, next(stream).key.run] == ["5", "6"]


def test_l4_a_stream_waits_for_more(three: Client, url: str) -> None:
    """L4: without `to_head` it goes on with what any client adds later."""
    stream = three.stream("ns", after=3)
    with stepped(url) as other, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: first(stream, 2))
        start_runs(other, "5")
        start_runs(three, "6")
        assert [event.key.run for event in waiting.result(LIMIT)] == ["5", "6"]


def hold_an_id(url: str) -> "pymysql.Connection[Any]":
    """Begin a transaction that adds the run `late` and is still open: its id is taken."""
    raw = connect_to_server(url)
    raw.begin()
    raw.cursor().execute(
        f"INSERT INTO {urlsplit(url).path[1:]}.replay_events"
        " (`key`, namespace, workflow, run, iteration, type, timestamp)"
        " VALUES ('ns/flow/late/0', 'ns', 'flow', 'late', 0, 1, '2030-01-01')"
    )
    return raw


@pytest.mark.one_server
@pytest.mark.parametrize("bound", ["from_head", "to_head"])
def test_l4_p14_a_head_waits_for_what_commits_late(server_url: str, bound: str) -> None:
    """L4, P14: the head is not the newest id: a smaller one that is on its way is behind it."""
    with stepped(server_url) as client, ThreadPoolExecutor(1) as pool:
        start_runs(client, "early")
        with hold_an_id(server_url) as raw:
            start_runs(client, "newest")
            stream = client.stream(**{bound: True})  # type: ignore[arg-type]
            expected = ["late", "newest"] if bound == "from_head" else ["early", "late", "newest"]
            found = pool.submit(first, stream, len(expected))
            raw.commit()
            assert [event.key.run for event in found.result(LIMIT)] == expected


def test_l4_no_noop_is_given_out(three: Client) -> None:
    """L3, L4: what fences an id is not an event."""
    key = Key("", "", "", 0, "replay_noop", "5")
    behind(three).commit([three.log.event(EventType.NOOP, key)])
    start_runs(three, "6")
    assert [event.id for event in three.stream(to_head=True)] == [1, 2, 3, 4, 6]


def test_l4_a_stream_can_lag(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """L4: an event is given out when it is as old as was asked for, to the millisecond."""
    clock, waited = Clock(), []
    with stepped(url, clock) as client:

        def sleep(seconds: float) -> None:
            waited.append(seconds)
            clock.forward(seconds=seconds)

        start_runs(client, "1")
        clock.forward(seconds=1)
        start_runs(client, "2")
        monkeypatch.setattr("replay.client.time", SimpleNamespace(sleep=sleep, monotonic=monotonic))
        stream = client.stream(lag=timedelta(seconds=3), to_head=True)
        given = [(event.key.run, clock.now - event.timestamp) for event in stream]
        three_seconds = timedelta(seconds=3)
        assert given == [("1", three_seconds), ("2", three_seconds)]
        assert sum(waited) == pytest.approx(3)


def test_l4_closing_the_client_ends_its_streams(url: str) -> None:
    """L4: also those that wait, for an event or for one to be old enough, in other threads."""
    with stepped(url) as client, ThreadPoolExecutor(2) as pool:
        start_runs(client, "1")
        plain, given = client.stream(), threading.Event()
        late = client.stream(lag=timedelta(hours=1))

        def read() -> list[str]:
            found = []
            for event in plain:
                found.append(event.key.run)
                given.set()
            return found

        reading, lagging = pool.submit(read), pool.submit(list[Event], late)
        assert given.wait(LIMIT)
        client.close()
        assert reading.result(LIMIT) == ["1"]
        assert lagging.result(LIMIT) == []


def test_l4_a_stream_outlives_an_outage(three: Client) -> None:
    """L4, P16: it waits for the database and misses nothing; a new call says that it is away."""
    outage = Outage(database(three))
    stream = three.stream(to_head=True)
    with ThreadPoolExecutor(1) as pool, LogLines() as log:
        outage.on = True
        with pytest.raises(Unavailable):
            three.stream(to_head=True)
        found = pool.submit(list[Event], stream)
        log.wait_for("cannot be reached, waiting for it")
        outage.on = False
        assert [event.key.run for event in found.result(LIMIT)] == ["1", "2", "3", "4"]


# Waiting for an end.


def test_await_completion_waits_for_the_last_iteration(url: str) -> None:
    """A restart is not an end: the iteration that it begins has not completed."""
    with stepped(url) as client, ThreadPoolExecutor(1) as pool:
        place = ("ns", "flow", "r")
        waiting = pool.submit(client.await_completion, *place, LIMIT)
        client.run_workflow(*place, None)
        complete, create = EventType.RUN_COMPLETED, EventType.RUN_CREATED
        client.log.commit(
            [client.log.event(complete, Key(*place)), client.log.event(create, Key(*place, 1))]
        )
        with pytest.raises(TimeoutError):
            client.await_completion(*place, 0)
        assert not waiting.done()
        client.log.append(client.log.event(complete, Key(*place, 1)))
        assert waiting.result(LIMIT) is None
        client.await_completion(*place)


@pytest.mark.parametrize("timeout", [0, 0.01, timedelta(milliseconds=10)])
def test_await_completion_times_out(url: str, timeout: float | timedelta) -> None:
    """Whether the run goes on for too long or never began; the error names the run."""
    with stepped(url) as client:
        start_runs(client, "r")
        for run in ("r", "unknown"):
            with pytest.raises(TimeoutError, match=f"ns/flow/{run}: no end within 0"):
                client.await_completion("ns", "flow", run, timeout)


def test_await_completion_sees_what_another_process_completes(url: str) -> None:
    """The end comes from elsewhere, and is noticed."""
    with stepped(url) as client, stepped(url) as other, ThreadPoolExecutor(1) as pool:
        start_runs(other, "r")
        waiting = pool.submit(client.await_completion, "ns", "flow", "r", LIMIT)
        other.log.append(other.log.event(EventType.RUN_COMPLETED, Key("ns", "flow", "r")))
        assert waiting.result(LIMIT) is None


def test_await_completion_outlives_an_outage(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """P16: it waits for the database, too, and no longer than it was asked to."""
    with stepped(url) as client:
        start_runs(client, "r")
        client.log.append(client.log.event(EventType.RUN_COMPLETED, Key("ns", "flow", "r")))
        outage, pauses = Outage(database(client)), []
        outage.on = True
        with pytest.raises(TimeoutError):
            client.await_completion("ns", "flow", "r", 0.01)

        def sleep(seconds: float) -> None:
            pauses.append(seconds)
            outage.on = len(pauses) < 10

        monkeypatch.setattr("replay.client.time", SimpleNamespace(sleep=sleep, monotonic=monotonic))
        client.await_completion("ns", "flow", "r")
        longest = [min(0.05 * 2**n, 5.0) for n in range(10)]
        assert all(b / 2 <= a <= b for a, b in zip(pauses, longest, strict=True))


def test_await_completion_ends_when_the_client_is_closed(url: str) -> None:
    """It raises Closed: a thread that waits for ever must not keep a process from ending."""
    with stepped(url) as client, ThreadPoolExecutor(1) as pool:
        asked = threading.Event()
        last_iteration = client.log.last_iteration

        def ask(namespace: str, workflow: str, run: str) -> tuple[int, int]:
            asked.set()
            return last_iteration(namespace, workflow, run)

        client.log.last_iteration = ask  # type: ignore[method-assign]
        waiting = pool.submit(client.await_completion, "ns", "flow", "r")
        assert asked.wait(LIMIT)
        client.close()
        with pytest.raises(Closed, match="closed while it waited"):
            waiting.result(LIMIT)


# A client that is closed, or whose database is away.


def test_a_closed_client_says_so(url: str) -> None:
    """Every call on it raises Closed, and closing it once more is nothing."""
    with stepped(url) as client:
        client.close()
        client.close()
        calls: list[Callable[[], object]] = [
            lambda: client.run_workflow("ns", "flow", "r", None),
            lambda: client.signal_run("ns", "flow", "r", 1, None, "x"),
            lambda: client.stream(to_head=True),
            lambda: client.await_completion("ns", "flow", "r"),
            lambda: consume(client, "mine", print),
            lambda: register_workflow(client, "ns", flow),
            lambda: register_activity(client, "ns", act),
        ]
        for call in calls:
            with pytest.raises(Closed, match="closed"):
                call()
        assert list(client.stream()) == []


def test_a_call_is_repeated_once_where_nothing_was_stored(url: str) -> None:
    """A connection that was closed while idle is replaced; an unknown outcome is not repeated."""
    with stepped(url) as client:
        faults = Faults(database(client))
        faults.before = 1
        assert client.run_workflow("ns", "flow", "a", None) is True
        faults.after = 1
        with pytest.raises(OutcomeUnknown):
            client.run_workflow("ns", "flow", "b", None)
        assert client.run_workflow("ns", "flow", "b", None) is False
        assert client.signal_run("ns", "flow", "b", 1, None, "x") is True
        outage = Outage(database(client))
        outage.on = True
        with pytest.raises(Unavailable):
            client.run_workflow("ns", "flow", "c", None)
        outage.on = False
        assert listing(client) == ["RUN_CREATED ns/flow/a/0 -", "RUN_CREATED ns/flow/b/0 -"]


# Registering.


def flow(ctx: RunContext, message: Int) -> None:
    pass


def act(ctx: ActivityContext, backends: None, message: Int) -> Int:
    return message


class Callable2:
    """An object that can be called as a workflow, and has no name of its own."""

    def __call__(self, ctx: RunContext, message: Int) -> None:
        pass

    def method(self, ctx: RunContext, message: Int) -> None:
        pass


def too_few(ctx: RunContext) -> None: ...


def too_many(ctx: RunContext, backends: None, message: Int, more: int) -> None: ...


def keyword(ctx: RunContext, backends: None, *, message: Int) -> None: ...


def variadic(*everything: Int) -> None: ...


async def asynchronous(ctx: RunContext, backends: None, message: Int) -> None: ...


async def asynchronous_generator(ctx: Any, backends: None, message: Int) -> Any:
    yield


def generator(ctx: RunContext, backends: None, message: Int) -> Iterator[None]:
    yield


WORKFLOW = "expected workflow(ctx: RunContext, message: M) -> R"
ACTIVITY = "expected activity(ctx: ActivityContext, backends: B, message: M) -> R"
MISFITS = [
    ("not a function", "'not a function' is not a function"),
    (too_few, "too_few cannot be called with 3 arguments (too many positional arguments)"),
    (too_many, "too_many cannot be called with 3 arguments (missing a required argument: 'more')"),
    (keyword, "keyword cannot be called with 3 arguments (too many positional arguments)"),
    (variadic, "variadic names fewer than 3 parameters"),
    (asynchronous, "asynchronous is an async function; replay runs plain functions only"),
    (asynchronous_generator, "asynchronous_generator is an async function; replay runs plain"),
    (generator, "generator is a generator"),
    (dict.fromkeys, "dict.fromkeys cannot be called with 3 arguments"),
]


@pytest.mark.parametrize(("function", "problem"), MISFITS)
def test_a_function_that_does_not_fit_is_refused(function: Any, problem: str) -> None:
    """Each kind of misfit is named, with the signature that was expected; nothing is registered."""
    with stepped("sqlite://") as client:
        with pytest.raises(BadSignature) as refused:
            register_activity(client, "ns", function, name="name", start=False)
        assert problem in str(refused.value)
        assert str(refused.value).endswith(ACTIVITY)
        register_activity(client, "ns", act, name="name", start=False)


@pytest.mark.parametrize("function", [too_few, act, None])
def test_a_workflow_that_does_not_fit_is_refused(function: Any) -> None:
    """A workflow takes two arguments; what was expected is shown."""
    with stepped("sqlite://") as client, pytest.raises(BadSignature) as refused:
        register_workflow(client, "ns", function, name="name", start=False)
    assert str(refused.value).endswith(WORKFLOW)


M = TypeVar("M")


def unannotated(ctx, message):  # type: ignore[no-untyped-def]
    pass


def generic(ctx: RunContext, message: M) -> None:
    pass


def optional(ctx: RunContext, message: Int | None) -> None:
    pass


def with_more(ctx: RunContext, message: Int, factor: int = 2) -> None:
    pass


@functools.wraps(flow)
def wrapped(*arguments: Any) -> None:
    pass


FITTING = [
    (unannotated, "unannotated"),
    (generic, "generic"),
    (optional, "optional"),
    (with_more, "with_more"),
    (wrapped, "flow"),
    (Callable2().method, "method"),
    (lambda ctx, message: None, "<lambda>"),
]


@pytest.mark.parametrize(("function", "name"), FITTING)
def test_n1_a_function_that_fits_is_registered_under_its_name(function: Any, name: str) -> None:
    """N1: annotations may be missing or wider; the stored name is the function's own."""
    with stepped("sqlite://") as client:
        consumer = register_workflow(client, "ns", function, start=False)
        assert consumer.name == f"workflow/ns/{name}"


def test_n1_a_name_can_be_given_and_is_needed_where_there_is_none(url: str) -> None:
    """N1, N2: an object without a name needs one; the log stores what was given."""
    with stepped(url) as client:
        with pytest.raises(InvalidName, match="workflow '' is empty"):
            register_workflow(client, "ns", Callable2(), start=False)
        with pytest.raises(InvalidName, match="activity '' is empty"):
            register_activity(client, "ns", functools.partial(act), start=False)
        with pytest.raises(InvalidName, match="namespace 'a/b'"):
            register_workflow(client, "a/b", flow, start=False)
        with pytest.raises(InvalidName, match="begins with replay_, which is reserved"):
            register_activity(client, "ns", act, name="replay_sleep", start=False)
        with pytest.raises(InvalidName, match="consumer 'a/b'"):
            consume(client, "a/b", print, start=False)
        consumer = register_workflow(client, "ns", Callable2(), name="mine", start=False)
        client.run_workflow("ns", "mine", "r", Int())
        drain(consumer)
        assert listing(client) == ["RUN_CREATED ns/mine/r/0", "RUN_COMPLETED ns/mine/r/0 -"]


def test_a_name_is_registered_once(url: str) -> None:
    """Two consumers of one name in one client would only fight for it."""
    with stepped(url) as client:
        register_workflow(client, "ns", flow, start=False)
        register_activity(client, "ns", act, start=False)
        consume(client, "mine", print, start=False)
        again: list[Callable[[], object]] = [
            lambda: register_workflow(client, "ns", flow, start=False),
            lambda: register_activity(client, "ns", act, start=False),
            lambda: consume(client, "mine", print, start=False),
        ]
        for call in again:
            with pytest.raises(AlreadyRegistered, match="is registered with this client already"):
                call()
        register_workflow(client, "other", flow, start=False)
        register_activity(client, "ns", act, name="flow", start=False)


def test_an_activity_needs_a_worker() -> None:
    """Zero workers would never answer."""
    with stepped("sqlite://") as client, pytest.raises(ValueError, match="0 workers, expected 1"):
        register_activity(client, "ns", act, workers=0, start=False)


def test_names_of_cursors_are_shortened_where_they_do_not_fit(url: str) -> None:
    """A cursor's name has 255 characters; longer ones stay apart by a hash of the whole."""
    assert consumer_name("workflow", "ns", "flow", "") == "workflow/ns/flow"
    names = [consumer_name("activity", "n" * 255, "a" * 254 + last) for last in "xy"]
    assert [len(name) for name in names] == [251, 251]
    assert names[0] != names[1]
    assert names[0].startswith("activity/" + "n" * 181 + "#")
    longest = "n" * 200
    with stepped(url) as client:
        consumer = register_workflow(client, longest, flow, name="w" * 100, start=False)
        client.run_workflow(longest, "w" * 100, "r", Int())
        drain(consumer)
        ((stored,),) = rows(client, "SELECT id FROM replay_cursors")
        assert stored == consumer.name == consumer_name("workflow", longest, "w" * 100)


# The loops.


@pytest.mark.embedded
def test_the_loops_start_with_the_first_consumer(url: str) -> None:
    """Who registers a workflow has sleeps and signals served; not unless something is started."""
    with connect(url) as client:
        serving = loops(client)
        names = ["replay_sleep", "replay_signal", "replay_runs", "replay_inbox"]
        assert [loop.name for loop in serving] == names
        register_workflow(client, "ns", flow, start=False)
        assert [loop._thread for loop in serving] == [None] * 4
        register_activity(client, "ns", act)
        assert all(loop._thread and loop._thread.is_alive() for loop in serving)
        threads = [loop._thread for loop in serving]
    assert not any(thread and thread.is_alive() for thread in threads)


@pytest.mark.embedded
def test_the_loops_do_not_start_where_they_are_not_wanted(url: str) -> None:
    """`loops=False` leaves them to another process, or to who steps or starts them himself."""
    with connect(url, loops=False) as client:
        register_workflow(client, journey.NAMESPACE, journey.journey)
        register_activity(client, journey.NAMESPACE, journey.double, [])
        assert [loop._thread for loop in loops(client)] == [None] * 4
        journey.begin(client, "r", 1)
        for loop in loops(client):
            loop.start()
        client.await_completion(journey.NAMESPACE, "journey", "r", LIMIT)
        assert listing(client) == journey.events("r", 1)


# Taking events apart.


def every_event(client: Client) -> list[Event]:
    key = Key("ns", "flow", "r")
    made = [
        client.log.event(EventType.RUN_CREATED, key, Int(value=1)),
        client.log.event(EventType.ACTIVITY_REQUEST, key._replace(target="t", sequence="0"), None),
        client.log.event(EventType.ACTIVITY_RESPONSE, key._replace(target="t"), Int(value=2)),
        client.log.event(EventType.RUN_OUTPUT, key._replace(target="o"), Empty()),
        client.log.event(EventType.RUN_COMPLETED, key),
        client.log.event(EventType.NOOP, Key("", "", "", 0, "replay_noop", "6")),
    ]
    return made


class Notes(list[tuple[Any, ...]]):
    """Functions for `handle` that note what they are called with."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments: self.append((name, *arguments))

    def functions(self) -> dict[str, Any]:
        names = ["run_created", "run_completed", "run_output"]
        names += ["activity_request", "activity_response"]
        return {name: getattr(self, name) for name in names}


RUN = ("ns", "flow", "r")


def test_handle_calls_the_function_of_the_events_type() -> None:
    """Each with the run, and, where there is one, target and message."""
    notes = Notes()
    with stepped("sqlite://") as client:
        for event in every_event(client):
            handle(event, **notes.functions())
    assert notes == [
        ("run_created", *RUN, Int(value=1)),
        ("activity_request", *RUN, "t", None),
        ("activity_response", *RUN, "t", Int(value=2)),
        ("run_output", *RUN, "o", Empty()),
        ("run_completed", *RUN),
    ]


def test_handle_calls_nothing_that_was_not_given() -> None:
    """Each function is optional; a message that nobody wants is not decoded."""
    with stepped("sqlite://") as client:
        for event in every_event(client):
            handle(event)
            event.raw = b"\xff"
            handle(event)
            for name in Notes().functions():
                notes = Notes()
                try:
                    handle(event, **{name: getattr(notes, name)})
                except Error as error:
                    assert isinstance(error.__cause__, DecodeError)  # noqa: PT017
                    notes.append((name,))
                assert len(notes) == (name.upper() == event.type.name)


def test_handle_calls_nothing_for_what_is_skipped() -> None:
    """`skip` is asked with namespace, workflow and run, before anything is decoded."""
    notes, asked = Notes(), []

    def skip(namespace: str, workflow: str, run: str) -> bool:
        asked.append((namespace, workflow, run))
        return len(asked) > 1

    with stepped("sqlite://") as client:
        for event in every_event(client)[:3]:
            handle(event, skip=skip, **notes.functions())
            event.raw = b"\xff"
    assert notes == [("run_created", *RUN, Int(value=1))]
    assert asked == [RUN] * 3
