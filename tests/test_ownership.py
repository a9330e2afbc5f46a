"""L7: a consumer's name has one live owner, and whoever lost it cannot write."""

import contextlib
import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from replay import Client, Consumer, Event, EventType, Key, connect, consume
from replay.log import LostOwnership
from replay.storage.database import (
    Database,
    OutcomeUnknown,
    Row,
    Statement,
    Unavailable,
    to_text,
)
from tests import journey
from tests.servers import connect as connect_to_server
from tests.servers import fresh_database
from tests.support import (
    Clock,
    Faults,
    LogLines,
    crash,
    cursor,
    database,
    drain,
    listing,
    rows,
    start_runs,
    stepped,
    take_over,
    with_options,
)

pytestmark = pytest.mark.contract

LIMIT = 60  # seconds until something that has to happen has not happened
NAME = "consumer/mine"


def long_lease(url: str) -> str:
    """With a lease of an hour, what happens soon does not happen because a lease has ended."""
    return with_options(url, lease=3600)


def mine(client: Client, seen: list[str]) -> Consumer:
    """The consumer whose name is fought for, not started."""
    return consume(client, "mine", lambda event: seen.append(event.key.run), start=False)


def lease_until(client: Client) -> Any:
    ((found,),) = rows(client, "SELECT lease_until FROM replay_cursors WHERE id = ?", NAME)
    return found


def give_to(client: Client, owner: str, lease: str) -> None:
    """Have the name owned by somebody of whom no lock says anything: on another node, say."""
    update = "UPDATE replay_cursors SET owner = ?, lease_until = ? WHERE id = ?"
    database(client).write([Statement(update, (owner, lease, NAME), must_find=1)])


def test_l7_the_second_stands_by_until_the_first_stops(url: str) -> None:
    """L7: one live owner; who stands by takes over at its next step, where the other stopped."""
    seen_a, seen_b = [], []  # type: ignore[var-annotated]
    with stepped(long_lease(url)) as a, stepped(long_lease(url)) as b:
        first, second = mine(a, seen_a), mine(b, seen_b)
        start_runs(a, "1", "2")
        drain(first, second)
        drain(second, first)
        assert (seen_a, seen_b) == (["1", "2"], [])
        first.stop()
        assert cursor(a, NAME) == (2, "")
        assert lease_until(a) is None
        start_runs(a, "3")
        drain(second)
    assert (seen_a, seen_b) == (["1", "2"], ["3"])


def test_l7_a_killed_owner_is_known_by_its_lock(url: str) -> None:
    """L7: the lock dies with the owner: its lease of an hour is not waited for."""
    seen_a, seen_b = [], []  # type: ignore[var-annotated]
    with stepped(long_lease(url)) as a, stepped(long_lease(url)) as b:
        first, second = mine(a, seen_a), mine(b, seen_b)
        start_runs(a, "1")
        drain(first)
        assert second.step() == 0
        start_runs(a, "2")
        crash(a, first)
        take_over(second)
        drain(second)
    assert (seen_a, seen_b) == (["1"], ["2"])


def test_l7_where_no_lock_tells_the_lease_does(url: str) -> None:
    """L7: an owner of whom the lock says nothing is replaced when its lease is over, not before."""
    seen: list[str] = []
    with stepped(url, clock := Clock()) as client:
        drain(mine(client, seen))
    with stepped(url, clock) as client:
        start_runs(client, "1")
        give_to(client, "another-node|host:1:x", to_text(clock.now + timedelta(seconds=10)))
        consumer = mine(client, seen)
        clock.forward(seconds=9.999)
        assert (consumer.step(), seen) == (0, [])
        clock.forward(milliseconds=1)
        drain(consumer)
        assert seen == ["1"]
        assert lease_until(client) == to_text(clock.now + timedelta(seconds=10))


@pytest.mark.embedded
def test_l7_an_owner_that_renews_its_lease_in_time_keeps_its_name(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L7: also between a stand-by's look at the lease and its claim."""
    seen: list[str] = []
    with stepped(url, clock := Clock()) as client:
        drain(consumer := mine(client, seen))
        consumer.stop()
        start_runs(client, "1")
        give_to(client, "another-node|host:1:x", to_text(clock.now))
        looked = Database.query

        def query(self: Database, sql: str, parameters: Sequence[Any] = ()) -> Sequence[Row]:
            found = looked(self, sql, parameters)
            if sql.startswith("SELECT last_event_id, owner, lease_until"):
                monkeypatch.undo()
                give_to(client, "another-node|host:1:x", to_text(clock.now + timedelta(seconds=10)))
            return found

        monkeypatch.setattr(Database, "query", query)
        assert (consumer.step(), seen) == (0, [])
        assert cursor(client, NAME)[1] == "another-node|host:1:x"
        clock.forward(seconds=10)
        drain(consumer)
        assert seen == ["1"]


def owners(client: Client) -> list[tuple[Any, ...]]:
    return rows(client, "SELECT id, owner FROM replay_cursors WHERE owner <> '' ORDER BY id")


@pytest.mark.embedded
def test_l7_p15_an_owner_that_was_paused_is_refused_and_stands_by(url: str) -> None:
    """L7, P15: awake again, it stores nothing, and its lock does not win the place back.

    A paused process keeps its connection and its file locks; only its lease can have ended.
    """
    calls_a, calls_b = [], []  # type: ignore[var-annotated]
    clock = Clock()
    with stepped(url, clock) as a, stepped(url, clock) as b:
        paused = journey.staff(a, calls_a, start=False)
        drain(*paused)
        journey.begin(a, "r", 1)
        clock.forward(seconds=10)
        successors = journey.staff(b, calls_b, start=False)
        for consumer in (*successors[1:], successors[0]):
            consumer.step()
        before = journey.events("r", 1)[:2]
        assert listing(b) == before
        owned = owners(b)
        # The workflow, the activity, which executes the request, and the table of runs.
        for consumer in (*paused[:2], paused[4]):
            with pytest.raises(LostOwnership, match=f"{consumer.name} is owned by another process"):
                consumer.step()
        drain(*paused)
        assert (listing(b), owners(b)) == (before, owned)
        drain(*successors)  # to where the run sleeps
        with pytest.raises(LostOwnership, match="replay_sleep is owned by another process"):
            paused[2].step()
        for _ in range(2):
            clock.forward(milliseconds=10)
            drain(*successors, *paused[:3])
        assert (listing(b), owners(b)) == (journey.events("r", 1), owned)
        assert calls_b == journey.calls_of("r")
        assert calls_a == ["trip/journey/r/0/double/0"]  # at least once (A1)


@pytest.mark.embedded
def test_l7_an_owner_that_was_paused_takes_over_when_its_successor_stops(url: str) -> None:
    """L7: it stands by like any other."""
    seen_a, seen_b = [], []  # type: ignore[var-annotated]
    clock = Clock()
    with stepped(url, clock) as a, stepped(url, clock) as b:
        paused, successor = mine(a, seen_a), mine(b, seen_b)
        drain(paused)
        clock.forward(seconds=10)
        drain(successor)
        start_runs(b, "1")
        with pytest.raises(LostOwnership):
            paused.step()
        drain(successor, paused)
        successor.stop()
        start_runs(b, "2")
        drain(paused)
    assert (seen_a, seen_b) == (["1", "2"], ["1"])


@pytest.mark.embedded
def test_l7_a_lease_is_renewed_while_its_owner_lives(url: str) -> None:
    """L7: an owner that has nothing to commit keeps its names, by one statement for all of them."""
    clock = Clock()
    with stepped(url, clock) as a, stepped(url, clock) as b:
        consumers = [mine(a, []), consume(a, "other", print, start=False)]
        drain(*consumers)
        begun = lease_until(a)
        faults = Faults(a.log.database)
        a.log._renew_at = 0
        clock.forward(seconds=9)
        drain(*consumers)
        assert (begun, faults.writes) == (to_text(clock.now + timedelta(seconds=1)), 1)
        leases = rows(a, "SELECT DISTINCT lease_until FROM replay_cursors")
        assert leases == [(to_text(clock.now + timedelta(seconds=10)),)]
        clock.forward(seconds=9)
        seen: list[str] = []
        start_runs(a, "1")
        assert (mine(b, seen).step(), seen) == (0, [])


@pytest.mark.embedded
def test_l7_a_renewal_does_not_take_a_name_back(url: str) -> None:
    """L7, P15: a process that was paused renews what it has, not what it had."""
    clock = Clock()
    with stepped(url, clock) as client:
        consumer = mine(client, [])
        drain(consumer)
        give_to(client, "another-node|host:1:x", to_text(clock.now))
        client.log._renew_at = 0
        client.log.poll()
        assert (cursor(client, NAME)[1], lease_until(client)) == (
            "another-node|host:1:x",
            to_text(clock.now),
        )


@pytest.mark.embedded
@pytest.mark.parametrize("stopped", [False, True])
def test_l7_a_claim_of_unknown_outcome_locks_nobody_out(url: str, stopped: bool) -> None:
    """L7: not the process that made it, nor others once that process has stopped trying."""
    clock = Clock()
    with stepped(url, clock) as hung, stepped(url, clock) as b, stepped(url, clock) as c:
        drain(mine(hung, []), consume(hung, "other", print, start=False))
        clock.forward(seconds=11)  # it holds its locks, and renews nothing: its leases are over
        faults, seen = Faults(b.log.database), list[str]()
        consumer = mine(b, seen)
        faults.after = 1
        with pytest.raises(OutcomeUnknown):
            consumer.step()
        drain(consume(b, "other", print, start=False))
        start_runs(b, "1")
        if not stopped:
            drain(consumer)
            assert seen == ["1"]
            return
        hung.log.database.close()
        for _ in range(4):
            clock.forward(seconds=3)
            b.log._renew_at = 0
            b.log.poll()
        drain(mine(c, seen))
        assert seen == ["1"]


@pytest.mark.embedded
@pytest.mark.one_server
def test_l7_a_release_that_fails_leaves_nothing_behind(url: str) -> None:
    """L7: neither the lock nor the lease holds up the next owner."""
    clock, seen = Clock(), list[str]()
    with stepped(url, clock) as client, stepped(url, clock) as other:
        drain(consumer := mine(client, []))
        faults = Faults(client.log.database)
        faults.before = 1
        consumer.stop()
        start_runs(other, "1")
        take_over(mine(other, seen))
        assert (seen, faults.before) == (["1"], 0)
        clock.forward(seconds=1)
        lease = lease_until(other)
        client.log._renew_at = 0
        client.log.poll()
        assert lease_until(other) == lease


@pytest.mark.embedded
def test_l7_of_two_that_claim_at_the_same_moment_one_gets_the_name(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L7: between its look at the row and its claim another was faster: it stands by."""
    seen_a, seen_b = [], []  # type: ignore[var-annotated]
    clock = Clock()
    with stepped(url, clock) as a, stepped(url, clock) as b:
        slow, fast = mine(a, seen_a), mine(b, seen_b)
        start_runs(a, "1")
        query = a.log.database.query

        def look(sql: str, parameters: Sequence[Any] = ()) -> Sequence[Row]:
            found = query(sql, parameters)
            if found and "FROM replay_cursors" in sql:
                monkeypatch.undo()
                give_to(b, "another-node|host:1:x", to_text(clock.now + timedelta(seconds=10)))
            return found

        monkeypatch.setattr(a.log.database, "query", look)
        assert slow.step() == 0
        assert cursor(a, NAME) == (0, "another-node|host:1:x")
        clock.forward(seconds=10)
        drain(fast, slow)
    assert (seen_a, seen_b) == ([], ["1"])


@pytest.mark.embedded
def test_l7_closing_a_client_gives_up_all_its_names(url: str) -> None:
    """L7: whoever stands by need not wait when a process ends in good order."""
    with stepped(url) as a:
        drain(*journey.staff(a, [], start=False))
    with stepped(url) as b:
        owners = rows(b, "SELECT owner, lease_until FROM replay_cursors")
        assert owners == [("", None)] * 6


class Team:
    """Handlers of one name in several clients, which note together what they are given."""

    def __init__(self, last: str) -> None:
        self.seen: list[tuple[str, str]] = []
        self.last = last
        self.done = threading.Event()
        self._changed = threading.Condition()

    def join(self, client: Client, who: str) -> Consumer:
        def note(event: Event) -> None:
            with self._changed:
                self.seen.append((who, event.key.run))
                self._changed.notify_all()
            if event.key.run == self.last:
                self.done.set()

        return consume(client, "mine", note)

    def until(self, count: int) -> None:
        """Wait until so many events have been handled."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.seen) >= count, LIMIT)


def test_l7_a_stand_by_in_its_thread_takes_over_when_the_owner_stops(url: str) -> None:
    """L7: at once: the lease of an hour has no part in it.  No event is missed or comes twice."""
    team = Team("59")
    with connect(long_lease(url), loops=False) as a, connect(long_lease(url), loops=False) as b:
        team.join(a, "a")
        start_runs(b, "0")
        team.until(1)
        team.join(b, "b")
        for n in range(1, 60):
            start_runs(b, str(n))
            if n == 30:
                team.until(10)
                a.close()
        assert team.done.wait(LIMIT)
    assert [run for _, run in team.seen] == [str(n) for n in range(60)]
    assert [who for who, _ in team.seen] == sorted(who for who, _ in team.seen)
    assert {who for who, _ in team.seen} == {"a", "b"}


def test_l7_a_stand_by_in_its_thread_takes_over_when_the_lease_is_over(url: str) -> None:
    """L7: an owner of whom no lock tells is dead when its lease is over; the stand-by goes on."""
    team, clock = Team("1"), Clock()
    with stepped(url, clock) as client:
        drain(mine(client, []))
    with stepped(url, clock) as client:
        start_runs(client, "1")
        give_to(client, "another-node|host:1:x", to_text(clock.now + timedelta(hours=1)))
        team.join(client, "a")
        clock.forward(hours=1)
        assert team.done.wait(LIMIT)
    assert team.seen == [("a", "1")]


@pytest.mark.one_server
def test_l7_two_databases_of_a_server_have_their_own_locks(server_url: str) -> None:
    """L7: consumers of one name in both are owned with a lock: a death is noticed at once."""
    with fresh_database(server_url) as other, stepped(server_url) as a, stepped(other) as b:
        for client in (a, b):
            drain(mine(client, []))
        owners = [cursor(client, NAME)[1].partition("|")[0] for client in (a, b)]
        assert owners == [database(a)._local.domain] * 2  # type: ignore[attr-defined]


@pytest.mark.one_server
def test_l7_a_server_closes_no_idle_connection_of_ours(server_url: str) -> None:
    """L7: by default it would after eight hours, and the locks of consumers would go with it."""
    with stepped(server_url) as client:
        assert rows(client, "SELECT @@SESSION.wait_timeout") == [(365 * 24 * 3600,)]


@pytest.mark.one_server
def test_l7_on_a_server_the_lock_dies_with_the_connection(server_url: str) -> None:
    """L7: an owner whose connection was killed is replaced at once, and stands by itself."""
    seen_a, seen_b = [], []  # type: ignore[var-annotated]
    url = long_lease(server_url)
    with stepped(url) as a, stepped(url) as b, LogLines() as log:
        first, second = mine(a, seen_a), mine(b, seen_b)
        drain(first, second)
        ((connection,),) = rows(a, "SELECT CONNECTION_ID()")
        with connect_to_server(server_url) as root, root.cursor() as command:
            command.execute("KILL %s", [connection])
        take_over(second)
        start_runs(b, "1")
        drain(second)
        with contextlib.suppress(Unavailable):  # so it learns of the loss
            first.step()
        drain(first)
        assert (seen_a, seen_b, cursor(b, NAME)) == ([], ["1"], (1, b.log._owners[NAME]))
        assert log.lines == []


@pytest.mark.embedded
def test_l7_a_poll_with_much_to_read_renews_its_leases(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L7: else a healthy owner would lose its names to a stand-by."""
    clock = Clock()
    with stepped(url, clock) as a, stepped(url, clock) as b:
        drain(mine(a, []))
        events = [
            b.log.event(EventType.RUN_CREATED, Key("ns", "flow", f"r{n}")) for n in range(2500)
        ]
        b.log.commit(events)
        read = a.log._read

        def slow(after: int, limit: int) -> list[Event]:
            clock.forward(seconds=6)
            a.log._renew_at = 0  # the real clock has not moved
            return read(after, limit)

        monkeypatch.setattr(a.log, "_read", slow)
        a.log.poll()
        assert a.log.tail.end == 2500
        assert lease_until(a) == to_text(clock.now + timedelta(seconds=10))


@pytest.mark.embedded
def test_l7_a_poll_with_much_to_read_ends_when_its_client_is_closed(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`close` waits for the poll: filling ten million missing ids takes minutes."""
    with stepped(url) as a, stepped(url) as b:
        events = [
            b.log.event(EventType.RUN_CREATED, Key("ns", "flow", f"r{n}")) for n in range(2500)
        ]
        b.log.commit(events)
        read = a.log._read

        def closing(after: int, limit: int) -> list[Event]:
            a.log.tail.close()
            return read(after, limit)

        monkeypatch.setattr(a.log, "_read", closing)
        a.log.poll()
        assert 0 < a.log.tail.end < 2500
