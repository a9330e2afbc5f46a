"""The shards of an activity in one process: one limit for all of them, and how they end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from itertools import count
from typing import Any

import pytest

from replay import ActivityContext, Client, EventType, Key, connect, register_activity
from replay.activity import ActivityConsumer
from replay.shard import shard_of
from replay.sharing import Sharded
from replay.storage.database import cut
from tests.example_pb2 import String
from tests.support import (
    Clock,
    LogLines,
    behind,
    database,
    request,
    rows,
    stepped,
    wait_for,
    with_options,
)

pytestmark = pytest.mark.contract

LIMIT = 60  # seconds until something that has to happen has not happened
SHARDS = 4


def of_shard(m: int, number: int = 0) -> str:
    """A run that belongs to a shard."""
    found = (f"r{n}" for n in count() if shard_of(f"r{n}", SHARDS) == m)
    return [next(found) for _ in range(number + 1)][-1]


class Crew:
    """The activity: it waits until a test lets it go on."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.entered = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)
        self.most = self._now = 0
        self._lock = threading.Lock()

    def __call__(self, ctx: ActivityContext, backends: None, message: String) -> None:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        self.seen.append(ctx.run)
        self.entered.release()
        assert self.gate.acquire(timeout=LIMIT)
        with self._lock:
            self._now -= 1

    def waits(self) -> None:
        """Wait until one more is executed."""
        assert self.entered.acquire(timeout=LIMIT)


@pytest.fixture
def crew() -> Iterator[Crew]:
    """The activity; at the end nobody waits any more."""
    made = Crew()
    yield made
    made.gate.release(1000)


def register(client: Client, crew: Crew, **options: Any) -> Sharded:
    def act(ctx: ActivityContext, backends: None, message: String) -> None:
        crew(ctx, backends, message)

    options = {"start": False, "shards": SHARDS} | options
    made = register_activity(client, "ns", act, **options)
    assert isinstance(made, Sharded)
    return made


def member(consumer: Sharded, m: int) -> ActivityConsumer:
    found = consumer.members[m]
    assert isinstance(found, ActivityConsumer)
    return found


def ask(client: Client, *runs: str) -> None:
    for run in runs:
        request(client, Key("ns", "flow", run, 0, "act", "0"), String(value=run))


def answered(client: Client) -> set[str]:
    stream = client.stream(to_head=True)
    return {event.key.run for event in stream if event.type is EventType.ACTIVITY_RESPONSE}


def step_until(consumer: Sharded, condition: Callable[[], object]) -> None:
    """Step until what other threads do has had its effect."""
    limit = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < limit
        consumer.step()


def has(seen: list[str], number: int) -> bool:
    return len(seen) == number


def has_answers(client: Client, number: int) -> bool:
    return len(answered(client)) == number


@pytest.mark.parametrize("workers", [1, 3])
def test_h3_a3_the_shards_of_a_process_share_its_workers(
    url: str, crew: Crew, workers: int
) -> None:
    """H3, A3: that many requests are executed at once, of whichever shards, and no more."""
    runs = [of_shard(m, n) for m in range(SHARDS) for n in range(2)]
    with stepped(url) as client:
        ask(client, *runs)
        consumer = register(client, crew, workers=workers)
        for done in range(len(runs)):
            step_until(consumer, partial(has, crew.seen, min(done + workers, len(runs))))
            for _ in range(3):
                consumer.step()
            assert len(consumer.executing()) == min(workers, len(runs) - done)
            crew.gate.release()
            step_until(consumer, partial(has_answers, client, done + 1))
        assert (sorted(crew.seen), crew.most) == (sorted(runs), workers)
        assert (consumer.parked(), consumer.executing()) == ([], [])


def test_h3_a_shard_is_told_when_a_thread_takes_its_request(url: str, crew: Crew) -> None:
    """H3, A3: it rests until then, parks what runs, and then takes new events at once."""
    with stepped(url) as client:
        consumer = register(client, crew)
        first, second = member(consumer, 0), member(consumer, 1)
        ask(client, of_shard(0), of_shard(1))
        consumer.step()
        crew.waits()
        consumer.step()
        assert (first.blocked(), second.blocked() is not None) == (None, True)
        assert len(consumer.parked()) == 1
        second._waiter.alarm.wait(0)
        second._waiter.woken = False
        crew.gate.release()
        crew.waits()
        assert second._waiter.woken
        assert second._waiter.alarm.wait(LIMIT)
        step_until(consumer, lambda: [each.key.split("/")[2] for each in consumer.parked()])
        assert (first.blocked(), second.blocked()) == (None, None)
        crew.gate.release()
        step_until(consumer, lambda: len(answered(client)) == 2)


def test_h3_a_shard_that_is_given_up_waits_for_no_thread(url: str, crew: Crew) -> None:
    """H3, A3: what no thread has taken is left to the next owner, at once."""
    with stepped(url) as client:
        consumer = register(client, crew)
        first, second = member(consumer, 0), member(consumer, 1)
        ask(client, of_shard(0), of_shard(1))
        consumer.step()
        crew.waits()
        assert [*second._running] == [2]
        second.give_up()
        assert (second._running, second.is_owner()) == ({}, False)
        crew.gate.release()
        step_until(consumer, lambda: answered(client) == {of_shard(0)} and second.is_owner())
        assert crew.seen == [of_shard(0), of_shard(1)]
        crew.gate.release()
        step_until(consumer, lambda: len(answered(client)) == 2)
        assert (len(crew.seen), first.blocked()) == (2, None)


def test_e4_h3_an_attempt_that_is_abandoned_frees_its_place(url: str, crew: Crew) -> None:
    """E4, H3: for any shard; until as many as there are workers have not ended."""
    with LogLines() as log, stepped(url) as client:
        consumer = register(client, crew, workers=2, timeout=timedelta(seconds=20))
        ask(client, of_shard(0))
        step_until(consumer, lambda: crew.seen)
        first = member(consumer, 0)
        first._timeout, before = timedelta(0), first._timeout
        step_until(consumer, lambda: not first._running)
        first._timeout = before
        ask(client, of_shard(1), of_shard(2))
        step_until(consumer, lambda: len(crew.seen) == 3)
        assert log.of("executes nothing more") == []
        assert {*crew.seen} == {of_shard(0), of_shard(1), of_shard(2)}
        crew.gate.release(3)
        step_until(consumer, lambda: {of_shard(1), of_shard(2)} <= answered(client))


def test_h3_a_shard_that_is_given_up_lets_its_activities_end(url: str, crew: Crew) -> None:
    """H3: what it executes is stored before another process takes over, and not done again."""
    url = with_options(url, lease=3600)
    theirs = Crew()
    theirs.gate.release(1000)
    with stepped(url) as a, stepped(url) as b:
        one, two = register(a, crew, workers=SHARDS), register(b, theirs)
        runs = [of_shard(m) for m in range(SHARDS)]
        ask(a, *runs)
        step_until(one, lambda: len(crew.seen) == SHARDS)
        two.step()
        crew.gate.release(SHARDS)
        step_until(one, lambda: sum(each.is_owner() for each in one.members) == SHARDS // 2)
        step_until(two, lambda: sum(each.is_owner() for each in two.members) == SHARDS // 2)
        step_until(one, lambda: answered(a) == {*runs})
        two.step()
        assert (sorted(crew.seen), theirs.seen) == (sorted(runs), [])
        assert (one.parked(), two.parked()) == ([], [])


def test_h3_it_starts_again_after_it_has_stopped(url: str, crew: Crew) -> None:
    """H3, A3: with as many threads as before, also while one has not ended."""
    with connect(with_options(url, lease=3600)) as client:
        consumer = register(client, crew, workers=2)
        ask(client, of_shard(0), of_shard(1), of_shard(2))
        consumer.start()
        crew.waits()
        crew.waits()
        consumer.stop(0.0)
        consumer.stop(LIMIT)
        assert not any(each.is_running() for each in consumer.members)
        query = "SELECT process FROM replay_processes WHERE consumer <> ''"
        assert rows(client, query) == []
        consumer.start()
        wait_for(lambda: sum(len(member(consumer, m)._running) for m in range(SHARDS)) == 3)
        names = [thread.name for thread in threading.enumerate()]
        assert len([name for name in names if name.startswith("activity/ns/act_")]) == 2
        crew.gate.release(1)
        crew.waits()
        crew.gate.release(1)
        crew.waits()
        assert crew.most == 2
        crew.gate.release(1000)
        wait_for(lambda: len(answered(client)) == 3)
        assert crew.most == 2


def test_h3_what_a_sharded_consumer_says_of_itself(url: str, crew: Crew) -> None:
    """A2, Q2: parked rows of all shards in order, what is executed, when it is ready and due."""
    with stepped(url, clock := Clock()) as client:
        bad = {of_shard(m) for m in range(3)}

        def act(ctx: ActivityContext, backends: None, message: String) -> None:
            if message.value in bad:
                raise ValueError("not today")

        consumer = register_activity(client, "ns", act, start=False, shards=SHARDS)
        assert isinstance(consumer, Sharded)
        assert (consumer.is_ready(), consumer.next_due(), consumer.is_owner()) == (
            True,
            None,
            False,
        )
        ask(client, *(of_shard(m) for m in (2, 0, 1)))
        step_until(consumer, lambda: [each.attempts for each in consumer.parked()] == [1] * 3)
        found = consumer.parked()
        assert [each.key.split("/")[2] for each in found] == [of_shard(m) for m in (2, 0, 1)]
        due = consumer.next_due()
        assert due is not None
        assert cut(due) == min(each.next_at for each in found)
        assert consumer.is_owner()
        step_until(consumer, lambda: not consumer.is_ready())
        assert not consumer.store_soon(behind(client).tail.end)
        clock.forward(seconds=1)
        assert consumer.is_ready()
        bad.clear()
        step_until(consumer, lambda: len(answered(client)) == 3)
        assert (consumer.parked(), consumer.next_due()) == ([], None)
        consumer.give_up()
        assert not consumer.is_owner()
        owners = "SELECT DISTINCT owner FROM replay_cursors WHERE id LIKE 'activity/%'"
        assert rows(client, owners) == [("",)]
        assert database(client).query("SELECT 1 FROM replay_processes WHERE consumer <> ''") in (
            (),
            [],
        )


# Threads.


@pytest.mark.embedded
def test_h3_shards_change_hands_one_at_a_time_when_activities_have_ended(
    url: str, crew: Crew
) -> None:
    """H3: a run's work stops for one shard at a time, and nothing is executed twice."""
    url, theirs = with_options(url, lease=3600), Crew()
    theirs.gate.release(1000)
    with connect(url) as a, stepped(url) as b:
        one = register(a, crew, workers=SHARDS, start=True)
        runs = [of_shard(m) for m in range(SHARDS)]
        ask(a, *runs)
        for _ in runs:
            crew.waits()
        two = register(b, theirs)
        two.share()
        wait_for(lambda: any(each.is_leaving() for each in one.members))
        assert sum(each.is_leaving() for each in one.members) == 1
        for _ in range(3):
            one.look()
            assert [each.is_leaving() for each in one.members].count(True) == 1
            assert all(each.is_running() for each in one.members)
        crew.gate.release(1000)
        wait_for(lambda: sum(each.is_owner() for each in one.members) == SHARDS // 2)
        wait_for(lambda: answered(a) == {*runs})
        step_until(two, lambda: sum(each.is_owner() for each in two.members) == SHARDS // 2)
        two.step()
        assert (sorted(crew.seen), theirs.seen) == (sorted(runs), [])


def test_h3_who_is_only_asked_to_stop_withdraws_too(url: str, crew: Crew) -> None:
    """H3: as after a Ctrl-C in `stop`: nothing waits for a lease, and it may start again."""
    with connect(with_options(url, lease=3600)) as client:
        consumer = register(client, crew, start=True)
        query = "SELECT owner FROM replay_cursors WHERE id LIKE 'activity/%' AND owner <> ''"
        for _ in range(2):
            wait_for(lambda: len(rows(client, query)) == SHARDS)
            consumer.ask_to_stop()
            wait_for(
                lambda: rows(client, "SELECT 1 FROM replay_processes WHERE consumer <> ''") == []
            )
            wait_for(lambda: rows(client, query) == [])
            consumer.start()
        wait_for(lambda: len(rows(client, query)) == SHARDS)
        assert consumer.stop(LIMIT)
        assert client.coordinator._thread is None


@pytest.mark.embedded
def test_h3_a_process_in_which_a_shard_ends_serves_no_more(url: str) -> None:
    """H3: as a consumer without shards ends then; another process takes over all of them."""

    def act(ctx: ActivityContext, backends: None, message: String) -> None:
        raise KeyboardInterrupt

    with LogLines() as log, connect(with_options(url, lease=3600)) as client:
        consumer = register_activity(client, "ns", act, shards=SHARDS)
        assert isinstance(consumer, Sharded)
        wait_for(lambda: all(each.is_owner() for each in consumer.members))
        ask(client, of_shard(0))
        log.wait_for("ends, because a shard has")
        wait_for(lambda: rows(client, "SELECT 1 FROM replay_processes WHERE consumer <> ''") == [])
        wait_for(lambda: not any(each.is_running() for each in consumer.members))


def test_h3_several_consumers_have_one_thread_that_looks(url: str, crew: Crew) -> None:
    """H3: it ends with the last of them, and gives its lock back."""
    with connect(with_options(url, lease=3600)) as client:
        first = register(client, crew, start=True)
        second = register(client, crew, name="other", start=True)
        thread = client.coordinator._thread
        assert first.stop(LIMIT)
        assert client.coordinator._thread is thread is not None
        wait_for(lambda: all(each.is_owner() for each in second.members))
        assert second.stop(LIMIT)
        assert not thread.is_alive()
        first.start()
        wait_for(lambda: all(each.is_owner() for each in first.members))
