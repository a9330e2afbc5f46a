"""Retention: what is pruned, what is left, and that nobody is misled by either (L9)."""

from __future__ import annotations

import base64
import json
import stat
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import replay.client
import replay.retention
from replay import (
    Client,
    Consumer,
    Event,
    EventsPruned,
    EventType,
    Failed,
    Key,
    RunContext,
    Shard,
    connect,
    consume,
    register_activity,
    register_workflow,
)
from replay.retention import BadPrune, Policy, Removed, Retention, StillServed, UnknownConsumer
from replay.signal import SEEN
from replay.storage.database import (
    FLOOR,
    LOG_ID,
    SCHEMA_VERSION,
    TURN,
    DatabaseError,
    Statement,
)
from replay.storage.event import InvalidName, is_pruned
from replay.typed import handle
from tests import journey
from tests.example_pb2 import Int
from tests.support import (
    Clock,
    behind,
    database,
    drain,
    dump,
    listing,
    loops,
    raw,
    restore,
    rows,
    set_back,
    stepped,
    with_options,
)

pytestmark = pytest.mark.contract

NOW = timedelta(0)
DAY = timedelta(days=1)
EMPTIED = ["RUN_CREATED {} -", "RUN_COMPLETED {} -"]
#: Every row that a run leaves beside the log.
BESIDE = ("replay_sleeps", "replay_signal_awaits")


class Cluster:
    """A client, its consumers in the test's hands, and the activities that they have executed."""

    def __init__(self, client: Client, clock: Clock, shard: Shard | None = None) -> None:
        self.client, self.clock = client, clock
        self.calls: list[str] = []
        self.consumers = journey.staff(client, self.calls, shard, start=False)

    def work(self) -> None:
        """Do all that is to be done, and store the cursors as a process does that stops."""
        for _ in range(50):
            drain(*self.consumers)
            self.clock.forward(milliseconds=20)
        self.rest()

    def rest(self) -> None:
        """Store all cursors."""
        store(*self.consumers)

    def run(self, *names: str) -> None:
        """Bring runs to their end."""
        for name in names:
            journey.begin(self.client, name, 1)
        self.work()


def store(*consumers: Consumer) -> None:
    """Bring consumers up to date, and have them store their cursors."""
    drain(*consumers)
    for consumer in consumers:
        for _ in range(2):  # the first step may only claim the name again
            consumer._store_at = consumer._log.now()
            consumer.step()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def client(url: str, clock: Clock) -> Iterator[Client]:
    with stepped(url, clock) as client:
        yield client


@pytest.fixture
def cluster(client: Client, clock: Clock) -> Cluster:
    return Cluster(client, clock)


def emptied(*runs: str, of: str = "trip/journey") -> list[str]:
    """What is left of these runs."""
    keys = [f"{of}/{run}/0" for run in runs]
    return [line.format(key) for line in EMPTIED for key in keys]


def count(client: Client, table: str, where: str = "1 = 1") -> int:
    return int(rows(client, f"SELECT COUNT(*) FROM {table} WHERE {where}")[0][0])


def floor(client: Client) -> int:
    return int(database(client).floor())


def end_of(client: Client) -> int:
    return max(int(id) for (id,) in rows(client, "SELECT id FROM replay_events"))


# What goes, and what stays.


def test_l9_a_run_that_has_ended_goes_but_for_two_empty_events(
    cluster: Cluster, client: Client
) -> None:
    """L9, R1: with its sleeps, awaits and signals, taken or not; its id stays used."""
    cluster.run("r")
    assert client.signal_run("trip", "journey", "r", 5, None, "late")
    assert client.prune(NOW) == Removed(runs=1, iterations=2, events=26, signals=3)
    assert sorted(listing(client)) == sorted(emptied("r"))
    assert [count(client, table) for table in BESIDE] == [0, 0]
    assert count(client, "replay_signals", "namespace <> ''") == 0
    assert not client.run_workflow("trip", "journey", "r", Int(value=1))
    assert client.prune(NOW) == Removed()
    assert client.signal_run("trip", "journey", "r", 1, None, "a")  # S1: it was forgotten


def test_l9_a_pruned_run_is_reported_as_pruned(cluster: Cluster, client: Client) -> None:
    """L9: no result is made up; that it has ended is known, and it cannot be cancelled."""
    cluster.run("r")
    assert client.result("trip", "journey", "r", 0) is None
    assert client.prune(NOW).runs == 1
    with pytest.raises(EventsPruned, match="run trip/journey/r was pruned"):
        client.result("trip", "journey", "r", 0)
    client.await_completion("trip", "journey", "r", 0)
    assert not client.cancel_run("trip", "journey", "r")


def listed(client: Client) -> list[tuple[str, int, str]]:
    return [(each.run, each.iteration, each.status) for each in client.runs()]


def unlist(client: Client) -> None:
    """Have the table of runs made again from the first event."""
    write = database(client).write
    write([Statement("DELETE FROM replay_runs", ())])
    write([Statement("UPDATE replay_cursors SET last_event_id = 0 WHERE id = 'replay_runs'", ())])


@pytest.mark.parametrize("again", [False, True])
def test_l9_q1_a_pruned_run_is_in_no_list(cluster: Cluster, client: Client, again: bool) -> None:
    """L9, Q1: neither by the table of runs, nor by one that is made again, nor by the overlay."""
    cluster.run("r", "s")
    journey.begin(client, "open", 1)
    assert [run for run, _, _ in listed(client)] == ["open", "s", "r"]
    assert client.prune(NOW).runs == 2
    assert [run for run, _, _ in listed(client)] == ["open"]
    with pytest.raises(EventsPruned, match="run trip/journey/r has ended, and was pruned"):
        client.describe("trip", "journey", "r")
    assert [event.message for event in client.history("trip", "journey", "r")] == [None, None]
    if again:
        for consumer in cluster.consumers:
            consumer.stop()
        unlist(client)
        assert [run for run, _, _ in listed(client)] == ["open"]
        drain(*cluster.consumers)
    assert [run for run, _, _ in listed(client)] == ["open"]
    assert sum(client.count().values()) == 1


def test_l9_q1_a_forgotten_id_is_listed_anew(client: Client) -> None:
    """L9, Q1, E8: though a late response has brought the first run of this id back into memory."""

    def flow(ctx: RunContext, message: Int) -> None:
        ctx.begin(ctx.call("act", message))

    workflow = register_workflow(client, "ns", flow, start=False)
    others = [workflow, *loops(client)]
    client.run_workflow("ns", flow, "r", Int(value=1))
    drain(*others)
    activity = register_activity(client, "ns", lambda ctx, _, m: m, name="act", start=False)
    drain(activity)
    store(*others, activity)
    assert listed(client) == [("r", 0, "completed")]
    assert client.prune(NOW, forget=True).runs == 1
    client.run_workflow("ns", flow, "r", Int(value=1))
    store(*others)
    assert listed(client) == [("r", 0, "completed")]


def test_l9_a_result_that_is_there_is_returned(client: Client, clock: Clock) -> None:
    """L9: an iteration of its own that is left, and a run that returned nothing."""
    consumer = register_workflow(client, "ns", lambda ctx, m: None, name="flow", start=False)
    assert client.run_workflow("ns", "flow", "r", None)
    drain(consumer)
    assert client.prune(NOW) == Removed()  # the cursor is not stored yet
    assert client.result("ns", "flow", "r", 0) is None
    consumer.stop()
    assert client.prune(NOW).runs == 1
    with pytest.raises(EventsPruned):
        client.result("ns", "flow", "r", 0)


@pytest.mark.parametrize("same", [True, False])
def test_l9_a_new_consumer_executes_nothing_again(
    cluster: Cluster, client: Client, clock: Clock, url: str, same: bool
) -> None:
    """L9, H2: neither a workflow nor an activity, in a process that has seen all, or a new one.

    Such a process has the pruned events in memory: a request whose response is gone.
    """
    cluster.run("r", "s")
    assert client.prune(NOW).runs == 2
    before = listing(client)
    with stepped(url, clock) as other:
        fresh = Cluster(client if same else other, clock, Shard("all", lambda run: True))
        for consumer in fresh.consumers:
            drain(consumer)
        fresh.work()
    assert fresh.calls == []
    assert listing(client) == before
    assert count(client, "replay_parked") == 0


def test_l9_a_run_is_forgotten_and_its_id_used_again(cluster: Cluster, client: Client) -> None:
    """L9: by consumers that have ended the first run of this id, with the same signals."""
    cluster.run("r")
    before = end_of(client)
    assert client.prune(NOW, forget=True) == Removed(1, 2, 28, 2)
    assert listing(client) == []
    assert end_of(client) == before  # as a no-op: ids are not given again
    cluster.calls.clear()
    cluster.run("r")
    assert sorted(listing(client)) == sorted(journey.events("r", 1))
    assert sorted(cluster.calls) == sorted(journey.calls_of("r"))


def test_l9_an_id_is_used_again_by_a_process_that_never_stopped(
    client: Client, clock: Clock
) -> None:
    """L9: that it has ended a run of this id before does not matter any more."""
    consumer = register_workflow(
        client, "ns", lambda ctx, m: Int(value=1), name="flow", start=False
    )
    reader = consume(client, "all", lambda event: None, start=False)
    assert client.run_workflow("ns", "flow", "r", None)
    store(consumer, reader)
    assert client.prune(NOW, forget=True).runs == 1
    assert client.run_workflow("ns", "flow", "r", None)
    drain(consumer)
    assert client.result("ns", "flow", "r", 0) == Int(value=1)


def test_l9_a_run_that_was_pruned_is_forgotten_later(
    cluster: Cluster, client: Client, clock: Clock
) -> None:
    """L9: its age counts from its end, which its mark says, not from that of iteration 0."""
    cluster.run("r")
    assert client.prune(NOW).runs == 1
    ended = database(client).query(
        "SELECT message FROM replay_events WHERE type = 2 AND `key` = 'trip/journey/r/0'"
    )
    assert is_pruned(ended[0][0])
    clock.forward(days=1, seconds=-2)
    assert client.prune(DAY, forget=True) == Removed()
    clock.forward(seconds=2)
    assert client.prune(DAY, forget=True) == Removed(1, 1, 2, 0)
    assert listing(client) == []
    assert client.run_workflow("trip", "journey", "r", Int(value=1))


def ticks(ctx: RunContext, message: Int) -> Int:
    """A cron run: an iteration for each number down to 0."""
    ctx.sleep(timedelta(seconds=10))
    return message if not message.value else ctx.restart(Int(value=message.value - 1))


def ticking(client: Client) -> list[Consumer]:
    return [register_workflow(client, "ns", ticks, start=False), *loops(client)]


def tick(clock: Clock, consumers: Sequence[Consumer], times: int) -> None:
    """So many iterations of `ticks`, and all cursors stored."""
    drain(*consumers)
    for _ in range(times):
        clock.forward(seconds=10)
        drain(*consumers)
    store(*consumers)


def test_l9_iterations_of_a_run_that_goes_on_are_pruned(client: Client, clock: Clock) -> None:
    """L9, R6: the newest stays whole, and the run goes on from it, in a new process as well."""
    assert client.run_workflow("ns", "ticks", "r", Int(value=5))
    consumers = ticking(client)
    tick(clock, consumers, 3)
    assert client.prune(NOW) == Removed(runs=0, iterations=3, events=10, signals=0)
    assert listing(client) == [
        "RUN_CREATED ns/ticks/r/0 -",
        "RUN_COMPLETED ns/ticks/r/0 -",
        "RUN_CREATED ns/ticks/r/3 value: 2",
        "ACTIVITY_REQUEST ns/ticks/r/3/replay_sleep/0 duration { seconds: 10 }",
    ]
    assert listed(client) == [("r", 3, "waiting")]
    consumers[0].stop()
    set_back(client, consumers[0].name)
    tick(clock, consumers, 1)
    assert client.prune(timedelta(seconds=10)) == Removed()
    tick(clock, consumers, 1)
    with pytest.raises(TimeoutError):
        client.result("ns", "ticks", "r", 0)
    tick(clock, consumers, 1)
    assert client.result("ns", "ticks", "r", 0) == Int(value=0)
    assert client.prune(DAY) == Removed()
    assert client.prune(NOW) == Removed(runs=1, iterations=3, events=13, signals=0)
    assert listing(client) == emptied("r", of="ns/ticks")


def test_l9_iterations_of_a_run_that_has_ended_wait_for_its_end(
    client: Client, clock: Clock
) -> None:
    """L9: age counts from the end of the run, not from that of its iterations, or its start."""
    assert client.run_workflow("ns", "ticks", "r", Int(value=3))
    tick(clock, ticking(client), 4)
    before = listing(client)
    assert client.prune(timedelta(seconds=1)) == Removed()
    assert listing(client) == before
    clock.forward(seconds=1)
    assert client.prune(timedelta(seconds=1)).runs == 1


def test_l9_the_last_iteration_stays_while_an_earlier_one_has_to(
    client: Client, clock: Clock
) -> None:
    """L9: otherwise the earlier one would look like the last, and have no result."""

    def flow(ctx: RunContext, message: Int) -> Int:
        if message.value:
            ctx.begin(ctx.call("slow", Int(value=1)))
            ctx.restart(Int(value=0))
        return Int(value=7)

    consumer = register_workflow(client, "ns", flow, start=False)
    assert client.run_workflow("ns", "flow", "r", Int(value=1))
    store(consumer)
    before = listing(client)
    assert client.prune(NOW) == Removed()
    assert listing(client) == before
    log = behind(client)
    key = Key.parse("ns/flow/r/0/slow/0")
    assert log.append(log.event(EventType.ACTIVITY_RESPONSE, key, Int(value=1)))
    store(consumer)
    assert client.result("ns", "flow", "r", 0) == Int(value=7)
    assert client.prune(NOW) == Removed(runs=1, iterations=2, events=5, signals=0)


def test_l9_nothing_goes_that_waits_or_is_parked(client: Client, clock: Clock) -> None:
    """L9: neither with a request without a response, nor with a parked row; nor does a live run."""
    answers: list[Any] = [Int(value=1)]

    def flow(ctx: RunContext, message: Int) -> None:
        if message.value == 1:
            ctx.begin(ctx.call("slow", message))
        elif message.value == 2:
            ctx.exec_activity("slow", message)
        raise Failed("sad")

    def slow(ctx: Any, backends: None, message: Int) -> Int:
        if message.value == 1 and not answers:
            return Int(value=1)
        raise ValueError

    consumers = [
        register_workflow(client, "ns", flow, start=False),
        register_activity(client, "ns", slow, None, start=False),
    ]
    for number in (1, 2):
        assert client.run_workflow("ns", "flow", f"r{number}", Int(value=number))
    for _ in range(3):
        store(*consumers)
    before = listing(client)
    assert count(client, "replay_parked") == 2
    assert client.prune(NOW) == Removed()
    assert listing(client) == before
    answers.clear()
    clock.forward(seconds=2)
    store(*consumers)
    # A response from elsewhere, and the parked row of its request is still there.
    log = behind(client)
    key = Key.parse("ns/flow/r2/0/slow/0")
    assert log.append(log.event(EventType.ACTIVITY_RESPONSE, key, Int(value=1)))
    drain(consumers[0])
    for consumer in consumers:
        consumer.step()
        consumer.stop()
    assert client.prune(NOW).runs == 1
    assert count(client, "replay_parked") == 1
    assert client.forget_consumer("activity/ns/slow") == 0
    assert client.prune(NOW).runs == 1


def test_l9_an_await_that_its_iteration_has_left_open_holds_up_nothing(
    client: Client, clock: Clock
) -> None:
    """L9, E8: it was withdrawn, and will never have a response."""

    def flow(ctx: RunContext, message: Int) -> None:
        ctx.first(ctx.begin(ctx.signal(1)), ctx.begin(ctx.timer(timedelta(seconds=1))))

    consumers = [register_workflow(client, "ns", flow, start=False), *loops(client)]
    assert client.run_workflow("ns", "flow", "r", Int(value=1))
    drain(*consumers)
    clock.forward(seconds=1)
    store(consumers[1], consumers[0])
    assert client.prune(NOW) == Removed()  # its consumer has not read of the end
    store(*consumers)
    assert client.prune(NOW).runs == 1
    assert [count(client, table) for table in BESIDE] == [0, 0]


def test_l9_one_namespace_alone(client: Client) -> None:
    """L9: runs of the others stay."""
    consumers = []
    for namespace in ("a", "b"):
        flow = register_workflow(client, namespace, lambda ctx, m: None, name="w", start=False)
        consumers.append(flow)
        assert client.run_workflow(namespace, "w", "r", Int(value=1))
    store(*consumers)
    assert client.prune(NOW, namespace="b").runs == 1
    assert "RUN_CREATED a/w/r/0 value: 1" in listing(client)
    assert "RUN_CREATED b/w/r/0 -" in listing(client)


@pytest.mark.parametrize(
    "arguments",
    [
        {"older_than": timedelta(seconds=-1)},
        {"older_than": 30},
        {"older_than": NOW, "shared_with_go_passed": -1},
    ],
)
def test_l9_nonsense_is_refused(client: Client, arguments: dict[str, Any]) -> None:
    """L9: before anything is looked at."""
    with pytest.raises(BadPrune):
        client.prune(**arguments)
    with pytest.raises(InvalidName):
        client.prune(NOW, namespace="a/b")


def test_l9_the_beginning_of_time(cluster: Cluster, client: Client) -> None:
    """L9: an age beyond all dates is one that nothing has."""
    cluster.run("r")
    assert client.prune(timedelta(days=999_999)) == Removed()


# Consumers.


def test_l9_a_consumer_that_lags_loses_nothing(cluster: Cluster, client: Client) -> None:
    """L9, L5: nothing goes that it has not passed, wherever it stands."""
    got: list[int] = []
    reader = consume(client, "slow", lambda event: got.append(event.id), start=False)
    reader.step()
    reader.stop()
    cluster.run("r", "s")
    ids = [event.id for event in client.stream(to_head=True)]
    for id in ids:
        update = "UPDATE replay_cursors SET last_event_id = ? WHERE id = 'consumer/slow'"
        database(client).write([Statement(update, (id - 1,))])
        policy = Policy(client.log.now())
        over = Retention(behind(client)).find(policy, 0).over
        assert all(gone < id for each in over for gone in (*each.gone, *each.emptied))
    set_back(client, reader.name)
    assert client.prune(NOW) == Removed()
    drain(reader)
    assert got == ids
    reader.stop()
    assert client.prune(NOW).runs == 2


def test_l9_signals_have_ids_of_their_own(cluster: Cluster, client: Client) -> None:
    """L9: how far the consumer of signals is, in their ids, is no cursor of events."""
    cluster.run("r")
    insert = (
        "INSERT INTO replay_cursors (id, last_event_id, updated_at) VALUES (?, 1, '2030-01-01')"
    )
    database(client).write([Statement(insert, (SEEN,))])
    assert client.prune(NOW).runs == 1
    # Those that it may look at again are no-ops now: it neither waits nor fills a gap.
    kept = rows(client, "SELECT id, external_id, check_id, message FROM replay_signals")
    assert kept == [(1, "replay_noop/1", 0, None), (2, "replay_noop/2", 0, None)]
    cluster.run("s")
    assert sorted(listing(client)) == sorted([*emptied("r"), *journey.events("s", 1)])


def test_l9_signals_that_their_consumer_has_passed_are_removed(
    cluster: Cluster, client: Client
) -> None:
    """L9: and those behind that become no-ops, so no id is given again."""
    cluster.run("r")
    insert = (
        "INSERT INTO replay_cursors (id, last_event_id, updated_at) VALUES (?, 2, '2030-01-01')"
    )
    database(client).write([Statement(insert, (SEEN,))])
    assert client.prune(NOW).signals == 2
    assert rows(client, "SELECT id FROM replay_signals") == [(2,)]
    cluster.run("s")
    assert client.result("trip", "journey", "s", 0) is None


@pytest.mark.embedded
@pytest.mark.parametrize("how", ["new", "set back"])
def test_l9_a_cursor_that_appears_meanwhile_stops_the_transaction(
    cluster: Cluster, client: Client, clock: Clock, url: str, how: str
) -> None:
    """L9: between the look at the cursors and the removal somebody begins to read from 0."""
    cluster.run("r")
    retention, policy = Retention(client.log), Policy(client.log.now())
    found = retention.find(policy, 0)
    assert [str(each.key) for each in found.over] == ["trip/journey/r/0", "trip/journey/r/1"]
    with stepped(url, clock) as other:
        if how == "new":
            got: list[str] = []
            reader = consume(other, "new", lambda event: got.append(event.text), start=False)
            assert reader._log.claim(reader.name, 0) == 0
        else:
            set_back(client, cluster.consumers[0].name)
        before = listing(client)
        assert retention.remove(policy, found.over) is None
        assert listing(client) == before
        assert floor(client) == 0
        assert client.prune(NOW) == Removed()


def test_l9_two_prunes_at_once_remove_everything_once(cluster: Cluster, client: Client) -> None:
    """L9: the second finds that the first was faster, and the floor never goes back."""
    cluster.run("r", "s")
    retention, policy = Retention(behind(client)), Policy(client.log.now())
    found = retention.find(policy, 0)
    assert client.prune(NOW).runs == 2
    before = floor(client)
    assert retention.remove(policy, found.over) is None
    assert floor(client) == before > 0


def test_l9_the_floor_never_goes_back(client: Client, clock: Clock) -> None:
    """L9: an older run that ends later goes later, below the floor."""
    consumers = ticking(client)
    assert client.run_workflow("ns", "ticks", "late", Int(value=0))
    assert client.run_workflow("ns", "ticks", "r", Int(value=0))
    drain(*consumers)
    log = behind(client)
    for run, passed in (("r", 2), ("late", 1)):
        update = "UPDATE replay_sleeps SET complete_at = created_at WHERE `key` LIKE ?"
        database(client).write([Statement(update, (f"ns/ticks/{run}/%",))])
        for consumer in consumers:
            consumer.stop()
        store(*consumers)
        assert client.prune(NOW).runs == 1, passed
    assert floor(client) == log.floor() >= 8


def test_l9_a_consumer_is_forgotten_and_blocks_no_more(cluster: Cluster, client: Client) -> None:
    """L9: with how far behind it is said; not while it is served, nor one of the library's own."""
    reader = consume(client, "old", lambda event: None, start=False)
    reader.step()
    with pytest.raises(StillServed, match="consumer/old is owned by"):
        client.forget_consumer("consumer/old")
    reader.stop()
    cluster.run("r")
    assert client.prune(NOW) == Removed()
    assert client.forget_consumer("consumer/old") == end_of(client)
    with pytest.raises(UnknownConsumer):
        client.forget_consumer("consumer/old")
    with pytest.raises(InvalidName):
        client.forget_consumer("replay_sleep")
    assert client.prune(NOW).runs == 1


def test_l9_consumers_of_the_process_store_their_cursors_first(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L9, L5: they do it now and then, so a prune would leave the newest 1,000 events."""
    monkeypatch.setattr(replay.client, "_STORED", 60)
    with connect(url) as client:
        register_workflow(client, "ns", lambda ctx, m: ctx.sleep(NOW), name="flow")
        consume(client, "other", lambda event: None, namespace="elsewhere")
        client.run_workflow("ns", "flow", "r", Int(value=1))
        client.await_completion("ns", "flow", "r")
        assert client.prune(NOW).runs == 1


# Readers.


def test_l9_nobody_fills_what_was_pruned(
    cluster: Cluster, client: Client, clock: Clock, url: str
) -> None:
    """L9, L1: neither a process that has seen it, nor one that was behind, nor a new one."""
    with stepped(url, clock) as late:
        late.log.poll()
        cluster.run("r", "s")
        cluster.client.run_workflow("trip", "journey", "t", Int(value=1))
        assert client.prune(NOW).runs == 2
        left = [event.id for event in client.stream(to_head=True)]
        with stepped(url, clock) as fresh:
            for reader in (late, client, fresh):
                reader.log.poll()
                assert [event.id for event in reader.stream(to_head=True)] == left
                assert reader.log.tail.end == left[-1]
        assert count(client, "replay_events", "type = 0") == 0
        assert late.run_workflow("trip", "journey", "u", Int(value=1))
        assert [event.id for event in late.stream(to_head=True)][:-1] == left


@pytest.mark.embedded
def test_l9_the_floor_is_read_before_each_fence(client: Client, url: str) -> None:
    """L9, L1: a process that runs since before the prune fills none of the ids.

    And one that reads while the floor rises overlooks nothing that has come in between.
    """
    with raw(url) as other:
        for id in (1, 2, 5):
            other.add(Key("n", "w", f"r{id}"), id=id)
        read = client.log.database.floor

        def rises() -> int:
            if not read():
                other.add(Key("n", "w", "late"), id=3)
                other.run("UPDATE replay_meta SET value = '4' WHERE name = ?", FLOOR)
            return read()

        client.log.database.floor = rises  # type: ignore[method-assign]
        events = [e.key.run for after in (2, 3) for e in client.log._read(after, 1000)]
        assert events == ["late", "r5", "r5"]
        assert count(client, "replay_events", "type = 0") == 0


def test_l9_a_stream_says_what_is_missing(cluster: Cluster, client: Client) -> None:
    """L9, L4: one that begins behind an event below the floor; with 0 it gets what is left."""
    cluster.run("r")
    assert client.prune(NOW).runs == 1
    for after in range(1, floor(client)):
        with pytest.raises(EventsPruned, match=f"after id {after} were pruned"):
            client.stream(after=after)
    assert list(client.stream(after=floor(client), to_head=True)) == list(
        client.stream(after=end_of(client), to_head=True)
    )
    assert sorted(listing(client)) == sorted(emptied("r"))
    assert list(client.stream("trip", from_head=True, to_head=True)) == []


@pytest.mark.parametrize("position", range(1, 27, 3))
def test_l9_a_stream_that_is_overtaken_says_so(
    cluster: Cluster, client: Client, clock: Clock, url: str, position: int
) -> None:
    """L9, L1: wherever it stands, in a process that has the events no more."""
    cluster.run("r")
    with stepped(url, clock) as reader:
        one_at_a_time(reader)
        stream = reader.stream(to_head=True)
        got = [next(stream).id for _ in range(position)]
        assert client.prune(NOW).runs == 1
        with pytest.raises(EventsPruned, match="were pruned"):
            got.extend(event.id for event in stream)
        assert got == list(range(1, len(got) + 1))


def one_at_a_time(client: Client) -> None:
    """Have reads return one event, so that a reader stands where the test wants it."""
    client.log.poll()
    client.log.tail.reset(client.log.tail.end)
    read = client.log._read
    client.log._read = lambda after, limit: read(after, 1)  # type: ignore[method-assign]


def test_l9_pruned_events_are_not_lost(
    cluster: Cluster, client: Client, clock: Clock, url: str
) -> None:
    """L9, L1: after a lost connection a stream looks for its last event, which was pruned."""
    cluster.run("r")
    with stepped(url, clock) as reader:
        stream = reader.stream()
        for _ in range(20):
            next(stream)
        assert client.prune(NOW).runs == 1
        lost = replay.client._require
        event = next(
            e for e in [reader.log.event(EventType.RUN_OUTPUT, Key("a", "b", "c", 0, "d", "0"))]
        )
        event.id = 5
        lost(reader.log, event)  # pruned
        event.id = end_of(client) + 1
        with pytest.raises(replay.client.EventsLost):
            lost(reader.log, event)


def test_l9_a_backup_from_before_the_prune(
    cluster: Cluster, client: Client, clock: Clock, url: str
) -> None:
    """L9, L1: all is as it was, and no process goes by a floor that was read before."""
    cluster.run("r")
    client.run_workflow("trip", "journey", "s", Int(value=1))
    before, backup = listing(client), dump(client)
    assert client.prune(NOW).runs == 1
    client.log.poll()
    restore(client, backup)
    client.log.tail.reset(0)
    behind(client).tail.reset(0)
    assert listing(client) == before
    # A gap is one again, though it is below the old floor.
    database(client).write([Statement("DELETE FROM replay_events WHERE id = 7")])
    client.log.tail.reset(0)
    behind(client).tail.reset(0)
    assert len(listing(client)) == len(before) - 1
    assert rows(client, "SELECT id FROM replay_events WHERE type = 0") == [(7,)]
    restore(client, backup)
    assert client.prune(NOW) == Removed(1, 2, 26, 2)


@pytest.mark.damages
@pytest.mark.embedded
def test_l9_a_floor_that_is_no_id_is_an_error_that_says_so(client: Client) -> None:
    """L9: nobody guesses."""
    update = "UPDATE replay_meta SET value = 'x' WHERE name = ?"
    client.log.database.write([Statement(update, (FLOOR,))])
    assert client.run_workflow("n", "w", "r", None)
    with pytest.raises(DatabaseError, match="retention_floor in replay_meta is 'x'"):
        list(client.stream(to_head=True))


@pytest.mark.embedded
@pytest.mark.parametrize("name", [FLOOR, TURN])
def test_l9_a_row_that_is_missing_is_an_error_that_says_so(client: Client, name: str) -> None:
    """L9: without it a prune would look again for ever, or remove without a trace."""
    client.log.database.write([Statement("DELETE FROM replay_meta WHERE name = ?", (name,))])
    with pytest.raises(DatabaseError, match="replay_meta lacks"):
        client.prune(NOW)


@pytest.mark.embedded
def test_l9_tables_of_version_1_get_a_floor(url: str) -> None:
    """L9: older processes would refill what was pruned, so they refuse the new version."""
    with stepped(url) as client:
        client.run_workflow("n", "w", "r", None)
    with raw(url) as other:
        other.run("DELETE FROM replay_meta")
        other.run("INSERT INTO replay_meta (name, value) VALUES ('schema_version', '1')")
    with stepped(url) as client:
        found = dict(rows(client, "SELECT name, value FROM replay_meta"))
        assert len(found.pop(LOG_ID)) == 32
        assert found == {"schema_version": str(SCHEMA_VERSION), FLOOR: "0", TURN: "0"}
        assert client.prune(NOW) == Removed()


# Beside the Go system.


@pytest.mark.embedded
def test_l9_a_database_that_is_shared_needs_the_id_that_go_has_passed(
    cluster: Cluster, client: Client, url: str
) -> None:
    """L9, E11: its cursors are nowhere to be seen."""
    cluster.run("r", "s")
    with raw(url) as other:
        text = "VARCHAR(255)"
        other.run(f"CREATE TABLE migrations (id {text}, query_hash {text}, schema_hash {text})")
    with pytest.raises(BadPrune, match="pass shared_with_go_passed"):
        client.prune(NOW)
    with (
        stepped(with_options(url, require_message="shop")) as required,
        pytest.raises(BadPrune, match="pass shared_with_go_passed"),
    ):
        required.prune(NOW)
    before = listing(client)
    assert client.prune(NOW, shared_with_go_passed=10) == Removed()
    assert listing(client) == before
    assert client.prune(NOW, shared_with_go_passed=10**9).runs == 2


def test_l9_handlers_pass_over_what_is_left(cluster: Cluster, client: Client) -> None:
    """L9: a handler that begins at the beginning gets no run without its message."""
    cluster.run("r")
    assert client.prune(NOW).runs == 1
    journey.begin(client, "s", 7)
    got: list[Any] = []

    def note(*what: Any) -> None:
        got.append(what[2:])

    def typed(run: str, message: Int) -> None:
        got.append((run, message.value))

    def handler(event: Event) -> None:
        replay.handle(event, run_created=note, run_completed=note)
        handle(event, EventType.RUN_CREATED, ("trip", "journey"), "", typed)

    reader = consume(client, "late", handler, start=False)
    drain(reader)
    assert got == [("s", Int(value=7)), ("s", 7)]


# Exports.


def test_l9_what_goes_is_exported_first(
    cluster: Cluster, client: Client, clock: Clock, tmp_path: Path
) -> None:
    """L9: each iteration is a line, with its messages as they are stored, for its owner only."""
    cluster.run("r")
    before = {event.id: event for event in client.stream(to_head=True)}
    assert client.prune(NOW, export=tmp_path / "old").runs == 1
    (file,) = (tmp_path / "old").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    histories = [json.loads(text) for text in file.read_text().splitlines()]
    assert [(each["iteration"], each["restarted"]) for each in histories] == [(0, True), (1, False)]
    events = [event for each in histories for event in each["events"]]
    assert {event["id"] for event in events} == before.keys()
    for event in events:
        raw = event["message"] and base64.b64decode(event["message"])
        assert raw == before[event["id"]].raw
        assert event["type"] == before[event["id"]].type.name
    assert client.prune(NOW, export=tmp_path / "old") == Removed()
    assert len(list((tmp_path / "old").iterdir())) == 2


@pytest.mark.embedded
def test_l9_nothing_goes_that_could_not_be_exported(
    cluster: Cluster, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L9: the file is on disk before the transaction begins."""

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    cluster.run("r")
    before = listing(client)
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        client.prune(NOW, export=tmp_path)
    assert listing(client) == before


# Chunks.


def test_l9_a_chunk_is_one_transaction(
    cluster: Cluster, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L9: with small chunks the same is left, and windows without events are passed."""
    monkeypatch.setattr(replay.retention, "_CHUNK", 1)
    monkeypatch.setattr(replay.retention, "_WINDOW", 5)
    monkeypatch.setattr(replay.retention, "_LOOKED", 2)
    cluster.run("r", "s", "t")
    assert client.prune(NOW) == Removed(runs=3, iterations=6, events=78, signals=6)
    assert sorted(listing(client)) == sorted(emptied("r", "s", "t"))
    assert client.prune(NOW, forget=True) == Removed(runs=3, iterations=3, events=6, signals=0)
    assert listing(client) == []
