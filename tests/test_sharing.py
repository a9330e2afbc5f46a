"""Processes that share the shards of a consumer: who owns which, and what another number takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import permutations
from typing import Any, cast
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay import (
    ActivityContext,
    Client,
    Consumer,
    RunContext,
    Shard,
    register_activity,
    register_workflow,
)
from replay.log import LostOwnership
from replay.shard import BadShard, assigned, shard_of
from replay.sharing import OtherShards, Sharded, shard_names
from replay.storage.database import (
    Insert,
    OutcomeUnknown,
    Statement,
    Unavailable,
    to_text,
)
from tests.example_pb2 import Int
from tests.serving import SERVING
from tests.support import (
    Clock,
    crash,
    database,
    drain,
    dump,
    listing,
    rows,
    start_runs,
    stepped,
    wait_for,
    with_options,
)

pytestmark = pytest.mark.contract

FLOW, ACT = "workflow/ns/flow", "activity/ns/act"
NAMES = [f"run-{n}" for n in range(8)]
processes = st.sets(st.text(max_size=8), min_size=1, max_size=9)


def long_lease(url: str) -> str:
    """With a lease of an hour, what happens soon does not happen because a lease has ended."""
    return with_options(url, lease=3600)


def flow(ctx: RunContext, message: Int) -> None:
    ctx.exec_activity("act", message)


class Team:
    """The sharded workflow and activity of one client, to be stepped."""

    def __init__(self, client: Client, shards: int = 4, **options: Any) -> None:
        self.client = client
        self.calls: list[str] = []
        self.flow = cast(Sharded, register_workflow(client, "ns", flow, shards=shards, start=False))
        self.act = cast(
            Sharded,
            register_activity(
                client, "ns", self._act, name="act", shards=shards, start=False, **options
            ),
        )
        self.all = (self.flow, self.act)

    def _act(self, ctx: ActivityContext, backends: None, message: Int) -> None:
        self.calls.append(ctx.idempotency_key.split("/")[2])


def work(*consumers: Consumer) -> None:
    """As `drain`, until the threads of activities have ended, too."""
    busy = True
    while busy:
        drain(*consumers)
        members = [each for one in consumers for each in getattr(one, "members", (one,))]
        busy = any(getattr(each, "_running", ()) for each in members)


def share(*consumers: Sharded) -> None:
    """Step until each owns its share."""
    for _ in range(100):
        work(*consumers)
        if all(owned(each) == each.share() for each in consumers):
            return
    raise AssertionError([owned(each) for each in consumers])


def owned(consumer: Sharded) -> list[int]:
    """The shards that a process owns just now."""
    return [m for m, member in enumerate(consumer.members) if member.is_owner()]


def announced(client: Client, consumer: str = ACT) -> list[str]:
    """The processes that serve a consumer, as stored."""
    query = "SELECT process FROM replay_processes WHERE consumer = ? ORDER BY process"
    return [process for (process,) in rows(client, query, consumer)]


def assert_done(client: Client, runs: Sequence[str], *teams: Team) -> None:
    """Each run has its events, and each activity was executed once in all."""
    for run in runs:
        key = f"ns/flow/{run}/0"
        assert listing(client, "ns", "flow", run) == [
            f"RUN_CREATED {key} value: 1",
            f"ACTIVITY_REQUEST {key}/act/0 value: 1",
            f"ACTIVITY_RESPONSE {key}/act/0 -",
            f"RUN_COMPLETED {key} -",
        ]
    assert sorted(call for team in teams for call in team.calls) == sorted(runs)


def gone(url: str, client: Client, *consumers: Sharded) -> None:
    """The client's process dies, and a server notices that in its own time."""
    crash(client, *[member for each in consumers for member in each.members])
    if url in SERVING:
        SERVING[url].settle(1)


# Who is to own which.


@given(st.integers(1, 64), processes)
def test_h3_each_shard_has_one_process_and_shares_are_even(n: int, names: set[str]) -> None:
    """H3: all shards are given out, each once, and two processes differ by one at most."""
    found = assigned(n, tuple(names))
    assert sorted(shard for shards in found.values() for shard in shards) == list(range(n))
    counts = [len(found[name]) for name in names]
    assert max(counts) - min(counts) <= 1


@given(st.integers(1, 20), st.sets(st.text(max_size=8), min_size=1, max_size=4))
def test_h3_the_order_of_the_processes_decides_nothing(n: int, names: set[str]) -> None:
    """H3: so that all processes come to the same."""
    assert len({str(sorted(assigned(n, some).items())) for some in permutations(names)}) == 1


def test_h3_a_process_that_joins_or_leaves_moves_few_shards() -> None:
    """H3: hardly more than the new one gets, on the whole: each move costs a replay of runs."""
    moved = needed = 0
    for n in range(2, 40):
        for count in range(1, 9):
            names = tuple(f"server|host:{n}:{m}" for m in range(count + 1))
            before, after = assigned(n, names[1:]), assigned(n, names)
            moved += sum(shard not in before.get(p, ()) for p in names for shard in after[p])
            needed += len(after[names[0]])
    assert moved < 1.6 * needed


def test_h3_an_example_for_other_implementations() -> None:
    """H3: what three processes own of eight shards, and what they own without the last."""
    assert assigned(8, ("a", "b")) == {"a": [0, 1, 4, 5], "b": [2, 3, 6, 7]}
    assert assigned(8, ("a", "b", "c")) == {"a": [0, 1, 4], "b": [2, 6], "c": [3, 5, 7]}


# Sharing.


def test_h3_a_second_client_takes_its_half(url: str) -> None:
    """H3: nothing is done twice or lost, and both do what is theirs."""
    with stepped(long_lease(url)) as a, stepped(long_lease(url)) as b:
        one = Team(a)
        start_runs(a, *NAMES[:4])
        work(*one.all)
        assert (owned(one.flow), owned(one.act)) == ([*range(4)], [*range(4)])
        two = Team(b)
        start_runs(a, *NAMES[4:])
        two.act.step()
        assert owned(two.act) == []  # the first has not given any up
        share(*one.all, *two.all)
        for mine, other in zip(one.all, two.all, strict=True):
            assert (len(owned(mine)), len(owned(other))) == (2, 2)
            assert sorted(owned(mine) + owned(other)) == list(range(4))
        more = [f"more-{n}" for n in range(16)]
        start_runs(a, *more)
        one.calls, before = [], one.calls
        share(*one.all, *two.all)
        two_calls = [call for call in two.calls if call in more]
        assert {shard_of(run, 4) for run in one.calls} <= {*owned(one.act)}
        assert {shard_of(run, 4) for run in two_calls} <= {*owned(two.act)}
        assert one.calls
        assert two_calls
        one.calls += before
        assert_done(a, [*NAMES, *more], one, two)


def test_h3_a_client_that_stops_gives_its_shards_to_others_at_once(url: str) -> None:
    """H3: its row goes, so that nobody waits for a lease."""
    with stepped(long_lease(url)) as a, stepped(long_lease(url)) as b:
        one, two = Team(a), Team(b)
        share(*one.all, *two.all)
        assert len(announced(a)) == 2
        for consumer in two.all:
            assert consumer.stop()
        assert [owned(consumer) for consumer in two.all] == [[], []]
        assert len(announced(a)) == 1
        start_runs(a, *NAMES)
        work(*one.all)
        assert [owned(consumer) for consumer in one.all] == [[*range(4)]] * 2
        assert_done(a, NAMES, one, two)


def test_h3_a_client_that_has_died_is_replaced_at_the_next_look(url: str) -> None:
    """H3: its lock shows that, though its lease of an hour goes on; so do those of its cursors."""
    url = long_lease(url)
    with stepped(url) as a, stepped(url) as b:
        one, two = Team(a), Team(b)
        share(*one.all, *two.all)
        start_runs(a, *NAMES)
        gone(url, b, *two.all)
        work(*one.all)
        assert [owned(consumer) for consumer in one.all] == [[*range(4)]] * 2
        assert len(announced(a)) == 1
        assert_done(a, NAMES, one, two)


@pytest.mark.embedded
@pytest.mark.one_server
def test_h3_of_several_that_have_died_none_is_waited_for(url: str) -> None:
    """H3: one look finds all of them."""
    url = long_lease(url)
    with stepped(url) as a, stepped(url) as b, stepped(url) as c, stepped(url) as d:
        teams = [Team(client) for client in (a, b, c, d)]
        share(*[consumer for team in teams for consumer in team.all])
        assert [len(owned(team.act)) for team in teams] == [1, 1, 1, 1]
        for team in teams[1:]:
            gone(url, team.client, *team.all)
        assert teams[0].act.share() == list(range(4))


@pytest.mark.embedded
def test_h3_a_client_that_hangs_loses_its_shards_and_gets_them_again(url: str) -> None:
    """H3, L7: it keeps its locks, so its leases have to run out; awake, it stores nothing more."""
    with stepped(url, clock := Clock()) as a, stepped(url, clock) as b:
        one, two = Team(a), Team(b)
        share(*one.all, *two.all)
        hers = [owned(consumer) for consumer in two.all]
        for _ in range(4):
            clock.forward(seconds=3)
            a.log.poll()
            work(*one.all)
        assert [owned(consumer) for consumer in one.all] == [[*range(4)]] * 2
        start_runs(a, *NAMES)
        work(*one.all)
        for consumer in two.all:
            for _ in hers[0]:  # each of its shards finds out by itself
                with suppress(OtherShards, Exception):
                    consumer.step()
        share(*one.all, *two.all)
        assert [owned(consumer) for consumer in two.all] == hers
        assert_done(a, NAMES, one, two)


@pytest.mark.embedded
def test_h3_a_shard_that_has_failed_and_moves_is_free(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H3, L7: its process no longer renews the lease, which without a lock is all that counts."""
    with stepped(url, clock := Clock()) as a, stepped(url, clock) as b:
        for client in (a, b):
            monkeypatch.setattr(database(client), "lock", lambda name, wait: "")
            monkeypatch.setattr(database(client), "monotonic", lambda: clock.now.timestamp())
        one = Team(a)
        share(*one.all)
        for member in (*one.flow.members, *one.act.members):
            with monkeypatch.context() as failing:
                failing.setattr(member, "handle", Mock(side_effect=AssertionError))
                with pytest.raises(AssertionError):
                    member.step()
        two = Team(b)
        two.flow.step()
        two.act.step()
        for _ in range(5):
            clock.forward(seconds=3)
            work(*one.all, *two.all)
        share(*one.all, *two.all)
        assert [len(owned(consumer)) for consumer in (*one.all, *two.all)] == [2, 2, 2, 2]
        start_runs(a, *NAMES)
        work(*one.all, *two.all)
        assert_done(a, NAMES, one, two)


@pytest.mark.embedded
@pytest.mark.one_server
def test_h3_a_neighbour_that_lives_keeps_its_row(url: str) -> None:
    """H3: and so does one of another server, which no lock tells of, until its lease ends."""
    with stepped(url, clock := Clock()) as a, stepped(url, clock) as b:
        one, two = Team(a), Team(b)
        share(*one.all, *two.all)
        far = "another-server|host:1:x"
        lease = to_text(clock.now + timedelta(seconds=10))
        database(a).query(
            "INSERT INTO replay_processes (consumer, process, address, lease_until)"
            " VALUES (?, ?, '', ?)",
            (ACT, far, lease),
        )
        before = announced(a)
        assert len(before) == 3
        share(*one.all, *two.all)
        assert announced(a) == before
        assert len(owned(one.act)) + len(owned(two.act)) in (2, 3)
        clock.forward(seconds=10.001)
        share(*one.all, *two.all)
        assert len(owned(one.act)) == len(owned(two.act)) == 2


def test_h3_a_row_that_was_deleted_comes_back(url: str) -> None:
    """H3: at the next look of its process, which then owns what it has owned."""
    with stepped(long_lease(url)) as a, stepped(long_lease(url)) as b:
        one, two = Team(a), Team(b)
        share(*one.all, *two.all)
        before = announced(a), owned(one.act), owned(two.act)
        database(a).write([Statement("DELETE FROM replay_processes")])
        two.act.step()
        one.act.step()
        share(*one.all, *two.all)
        assert (announced(a), owned(one.act), owned(two.act)) == before


# Another number.


@contextmanager
def refused(name: str = ACT) -> Iterator[None]:
    with pytest.raises(OtherShards, match=name):
        yield


def other(client: Client, shards: int) -> Sharded:
    """The activity with another number of shards, to be stepped."""
    consumer = register_activity(client, "ns", print, name="act", shards=shards, start=False)
    assert isinstance(consumer, Sharded)
    return consumer


@pytest.mark.parametrize("started", [True, False])
def test_h3_another_number_is_refused_while_a_process_serves(url: str, started: bool) -> None:
    """H3: also of the client itself; after that one has stopped, it is taken."""
    with stepped(long_lease(url)) as a, stepped(long_lease(url)) as b:
        one = Team(a)
        if started:
            one.act.start()
            wait_for(lambda: owned(one.act) == [*range(4)])
        else:
            work(one.act)
        before = dump(a)
        with refused():
            other(b, 3)
        with refused():
            other(a, 3)
        assert owned(one.act) == [*range(4)]
        if not started:
            assert dump(a) == before
            one.act.step()
            assert owned(one.act) == [*range(4)]
        one.act.stop()
        work(three := other(b, 3))
        assert owned(three) == [0, 1, 2]
        assert len(announced(a)) == 1


@pytest.mark.parametrize("shard", [None, Shard.hashed(1, 3)])
def test_h3_shards_are_refused_while_a_process_serves_without(
    url: str, shard: Shard | None
) -> None:
    """H3: also of the client itself, which could take its own lock."""
    with stepped(long_lease(url)) as a, stepped(long_lease(url)) as b:
        alone = register_activity(a, "ns", print, name="act", shard=shard, start=False)
        work(alone)
        for client in (a, b):
            with refused(alone.name):
                other(client, 3)
            assert alone.is_owner()
        start_runs(a, "x")
        work(alone)
        alone.stop()
        work(three := other(b, 3))
        assert owned(three) == [0, 1, 2]
        cursors = rows(a, "SELECT id FROM replay_cursors WHERE id LIKE 'activity/%' ORDER BY id")
        assert [name for (name,) in cursors] == sorted(shard_names(ACT, 3))


@pytest.mark.embedded
def test_h3_a_dead_process_of_another_number_is_not_waited_for(url: str) -> None:
    """H3: its lock tells, for its row and for each of its cursors."""
    url = long_lease(url)
    with stepped(url) as a, stepped(url) as b:
        one = Team(a)
        work(*one.all)
        gone(url, a, *one.all)
        two = Team(b, 3)
        work(*two.all)
        assert [owned(consumer) for consumer in two.all] == [[0, 1, 2]] * 2


def parked(client: Client) -> dict[str, str]:
    """Who has parked which key."""
    found = rows(client, "SELECT `key`, consumer FROM replay_parked")
    return dict(found)


def stopped_with_parked_rows(url: str, clock: Clock, shards: int | None) -> dict[str, int]:
    """Shards that stand at several places, with runs and requests parked; the cursors."""

    def bad(ctx: RunContext, message: Int) -> None:
        if ctx.run in NAMES[:3]:
            raise ValueError("not today")
        flow(ctx, message)

    def fail(ctx: ActivityContext, backends: None, message: Int) -> None:
        raise ValueError("not today")

    with stepped(url, clock) as client:
        options: dict[str, Any] = {"shards": shards, "start": False}
        both = (
            register_workflow(client, "ns", bad, name="flow", **options),
            register_activity(client, "ns", fail, name="act", **options),
        )
        start_runs(client, *NAMES)
        work(*both)
        for consumer in both:
            consumer.stop()
        start_runs(client, "later")
        return dict(rows(client, "SELECT id, last_event_id FROM replay_cursors"))


@pytest.mark.parametrize(("before", "after"), [(None, 3), (3, 2), (2, 5), (8, 1)])
def test_h2_new_shards_take_over_from_the_old_ones(
    url: str, before: int | None, after: int
) -> None:
    """H2: lowest cursor, parked rows, and none of the old cursors; then all goes on."""
    clock = Clock()
    cursors = stopped_with_parked_rows(url, clock, before)
    with stepped(url, clock) as client:
        old = parked(client)
        assert len(old) == len(NAMES)
        team = Team(client, after)
        lowest = {
            name: min(at for key, at in cursors.items() if key.startswith(name))
            for name in (FLOW, ACT)
        }
        expected = {name: at for key, at in lowest.items() for name in shard_names(key, after)}
        served = "SELECT id, last_event_id FROM replay_cursors WHERE id NOT LIKE 'replay!_%'"
        assert dict(rows(client, f"{served} ESCAPE '!'")) == expected
        meta = "SELECT name, value FROM replay_meta WHERE name LIKE 'shards/%' ORDER BY name"
        assert rows(client, meta) == [(f"shards/{ACT}", str(after)), (f"shards/{FLOW}", str(after))]
        for key, consumer in parked(client).items():
            run, kind = key.split("/")[2], ACT if key.endswith("/act/0") else FLOW
            assert consumer == shard_names(kind, after)[shard_of(run, after)]
        assert parked(client).keys() == old.keys()
        work(*team.all)
        clock.forward(seconds=2)
        work(*team.all)
        assert parked(client) == {}
        assert_done(client, [*NAMES, "later"], team)


def test_h2_own_shards_are_taken_over_too(url: str) -> None:
    """H2: those of `Shard.hashed`; others of a program's own stay."""
    with stepped(url) as client:
        for shard in (Shard.hashed(0, 2), Shard.hashed(1, 2), Shard("mine", lambda run: False)):
            consumer = register_activity(client, "ns", print, name="act", shard=shard, start=False)
            work(consumer)
            consumer.stop()
        other(client, 3)
        found = {name for (name,) in rows(client, "SELECT id FROM replay_cursors")}
        assert found == {*shard_names(ACT, 3), f"{ACT}/mine"}


class Breaks:
    """Has a database roll back each transaction of more statements than so many, after those."""

    def __init__(self, client: Client) -> None:
        self.after: int | None = None
        self._database = database(client)
        self._write = self._database._write
        self._database._write = self._broken  # type: ignore[method-assign]

    def _broken(self, statements: Sequence[Statement], inserts: Sequence[Insert]) -> list[int]:
        if self.after is None or not any("shards/" in str(each) for each in statements):
            return self._write(statements, inserts)
        fails = Statement("UPDATE replay_meta SET value = value WHERE name = ''", must_find=1)
        self.count = len(statements)
        with suppress(Exception):  # the driver's own, on a server
            self._write([*statements[: self.after], fails], inserts)
        raise Unavailable("fault: rolled back")


@pytest.mark.embedded
def test_h2_the_take_over_is_one_transaction(url: str) -> None:
    """H2: whichever of its statements fails, nothing has changed."""
    clock = Clock()
    stopped_with_parked_rows(url, clock, 3)
    with stepped(url, clock) as client:
        breaks, before = Breaks(client), dump(client)
        breaks.after, breaks.count = 0, 1
        while breaks.after <= breaks.count:
            with pytest.raises(Unavailable):
                other(client, 2)
            assert dump(client) == before
            breaks.after += 1
        assert breaks.count > 6
        breaks.after = None
        other(client, 2)
        assert dump(client) != before


@pytest.mark.embedded
def test_h2_new_shards_begin_at_the_lowest_cursor(url: str) -> None:
    """H2: the runs of each new shard come from several old ones."""
    with stepped(url) as client:
        client.run_workflows(("ns", "flow", f"r{n}", None) for n in range(9))
        work(two := other(client, 2))
        two.stop()
        move = "UPDATE replay_cursors SET last_event_id = ? WHERE id = ?"
        first, second = shard_names(ACT, 2)
        database(client).write([Statement(move, (7, first)), Statement(move, (3, second))])
    with stepped(url) as client:
        other(client, 3)
        query = "SELECT id, last_event_id FROM replay_cursors WHERE id LIKE 'activity/%'"
        assert dict(rows(client, query)) == dict.fromkeys(shard_names(ACT, 3), 3)


@pytest.mark.embedded
@pytest.mark.parametrize("theirs", [2, 4])
def test_h2_two_processes_take_over_at_once(url: str, theirs: int) -> None:
    """H2: one of them does; the other is content with the same number, and else refused."""
    clock = Clock()
    stopped_with_parked_rows(url, clock, 3)
    with stepped(url, clock) as a, stepped(url, clock) as b:
        write = a.log.database._write

        def late(statements: Sequence[Statement], inserts: Sequence[Insert]) -> list[int]:
            a.log.database._write = write  # type: ignore[method-assign]
            work(other(b, theirs))
            return write(statements, inserts)

        a.log.database._write = late  # type: ignore[method-assign]
        if theirs == 2:
            other(a, 2)
        else:
            with refused():
                other(a, 2)
        cursors = rows(a, "SELECT id FROM replay_cursors WHERE id LIKE 'activity/%' ORDER BY id")
        assert [name for (name,) in cursors] == sorted(shard_names(ACT, theirs))
        assert {*parked(a).values()} <= {*shard_names(ACT, theirs), *shard_names(FLOW, 3)}


@pytest.mark.embedded
def test_h2_an_unknown_outcome_is_looked_at(url: str) -> None:
    """H2: the caller learns of it, and the same call then finds it done."""
    with stepped(url) as client:
        write = client.log.database._write

        def lost(statements: Sequence[Statement], inserts: Sequence[Insert]) -> list[int]:
            client.log.database._write = write  # type: ignore[method-assign]
            write(statements, inserts)
            raise OutcomeUnknown("fault")

        client.log.database._write = lost  # type: ignore[method-assign]
        with pytest.raises(OutcomeUnknown):
            other(client, 2)
        work(two := other(client, 2))
        assert owned(two) == [0, 1]


@pytest.mark.embedded
def test_h2_who_slept_through_a_change_begins_no_cursor_anew(url: str) -> None:
    """H2, L9: an old shard reads nothing again, and leaves nothing that would block a prune."""
    with stepped(url, clock := Clock()) as a, stepped(url, clock) as b:
        one = Team(a)
        start_runs(a, *NAMES)
        work(*one.all)
        clock.forward(seconds=11)
        two = Team(b, 3)
        work(*two.all)
        for member in one.act.members:
            assert member.is_owner()
            member._store_at = clock.now  # a commit shows that it is not
            start_runs(a, f"for {member.name.replace('/', ' ')}")
            with pytest.raises(LostOwnership):
                member.step()
            assert member.step() == 0
            assert not member.is_owner()
        for _ in range(20):
            with suppress(Exception):
                work(*one.all)
        work(*two.all)
        cursors = {name for (name,) in rows(a, "SELECT id FROM replay_cursors")}
        assert cursors == {*shard_names(FLOW, 3), *shard_names(ACT, 3)}


def test_l9_a_shard_that_was_forgotten_comes_back_with_its_consumer(url: str) -> None:
    """L9, H2: when it is registered again, with what is left."""
    with stepped(long_lease(url)) as client:
        team = Team(client)
        work(*team.all)
        for consumer in team.all:
            consumer.stop()
        client.forget_consumer(f"{ACT}/3_of_4")
    with stepped(long_lease(url)) as client:
        team = Team(client)
        start_runs(client, *NAMES)
        work(*team.all)
        assert owned(team.act) == [*range(4)]
        assert_done(client, NAMES, team)


def test_h2_long_names_are_taken_over_as_well(url: str) -> None:
    """H2, N2: the names of shards are shortened, and found all the same."""
    name = "a" * 240
    with stepped(long_lease(url)) as client:
        options: dict[str, Any] = {"name": name, "start": False}
        work(old := register_activity(client, "ns", print, shards=3, **options))
        old.stop()
    with stepped(long_lease(url)) as client:
        work(register_activity(client, "ns", print, shards=2, **options))
        found = {cursor for (cursor,) in rows(client, "SELECT id FROM replay_cursors")}
        assert found == {*shard_names(f"activity/ns/{name}", 2)}


# Options.


@pytest.mark.parametrize("shards", [0, -1, 257, True, 2.0, "8"])
def test_h3_a_number_of_shards_that_cannot_be_is_refused(url: str, shards: Any) -> None:
    """H3: 1 to 256; nothing is stored."""
    with stepped(url) as client:
        before = dump(client)
        with pytest.raises(BadShard, match=f"shards={shards!r}: expected 1 to 256"):
            register_workflow(client, "ns", flow, shards=shards)
        with pytest.raises(BadShard, match=f"shards={shards!r}: expected 1 to 256"):
            register_activity(client, "ns", print, name="act", shards=shards)
        assert dump(client) == before


def test_h3_shards_and_a_shard_are_refused(url: str) -> None:
    """H3: all processes share the ones, and you divide the others."""
    with stepped(url) as client:
        shard = Shard.hashed(0, 2)
        with pytest.raises(BadShard, match="give shards, which all processes share, or one shard"):
            register_workflow(client, "ns", flow, shard=shard, shards=2)
        with pytest.raises(BadShard, match="give shards, which all processes share, or one shard"):
            register_activity(client, "ns", print, name="act", shard=shard, shards=2)
