"""Sorting finds once whom an event concerns, and exactly as each consumer would find it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay import Client, Consumer, RunContext, Shard, register_activity, register_workflow
from replay.storage.dispatch import Dispatch, Interest
from replay.storage.event import UNKNOWN, Event, EventType, Key
from replay.storage.tail import Tail, Waiter
from tests.support import stepped


def flow(ctx: RunContext, message: None) -> None:
    """Does nothing."""


NAMES = st.sampled_from(["ns", "other"])
TARGETS = st.sampled_from(["act", "flow", "replay_sleep", "replay_signal", "replay_cancel"])


def made(id: int, type: EventType, names: tuple[str, str, str, str]) -> Event:
    namespace, workflow, run, target = names
    if type in (EventType.RUN_CREATED, EventType.RUN_COMPLETED):
        return Event(id, type, Key(namespace, workflow, run), UNKNOWN, None)
    return Event(id, type, Key(namespace, workflow, run, 0, target, "0"), UNKNOWN, None)


kinds = st.tuples(st.sampled_from(list(EventType)[1:]), st.tuples(NAMES, TARGETS, TARGETS, TARGETS))


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with stepped("sqlite:///:memory:") as client:
        yield client


@pytest.fixture(scope="module")
def consumers(client: Client) -> list[Consumer]:
    """One of each kind."""
    options: Any = {"start": False}
    sharded: list[Any] = [
        register_workflow(client, "ns", flow, shards=4, **options),
        register_activity(client, "ns", print, name="act", shards=4, **options),
    ]
    return [
        *client.loops(),
        *sharded,
        *(member for each in sharded for member in each.members),
        register_workflow(client, "other", flow, **options),
        register_activity(client, "other", print, name="act", **options),
        register_activity(
            client, "ns", print, name="flow", shard=Shard("mine", lambda run: run > "b"), **options
        ),
    ]


@given(st.lists(st.lists(kinds, max_size=12), max_size=6), st.data())
def test_each_consumer_is_given_what_it_wants(
    consumers: list[Consumer], chunks: list[list[Any]], data: Any
) -> None:
    """P21, H1: however events come, and whatever the tail has forgotten."""
    tail, id = Tail(0), 0
    for chunk in chunks:
        tail.extend(made(id + n, *kind) for n, kind in enumerate(chunk, 1))
        id += len(chunk)
        if data.draw(st.booleans()):
            tail.drop(data.draw(st.integers(0, id)))
        first = tail.end - len(tail._events)
        events = tail.slice(data.draw(st.integers(first, id)), 10) or []
        for consumer in consumers:
            wanted = [event for event in events if consumer.wants(event)]
            if consumer.interest is not None and events:
                assert tail.among(consumer.interest, events) == wanted, consumer.name


def test_the_library_says_what_it_wants(consumers: list[Consumer]) -> None:
    """Only the table of runs, and shards of your own, look at each event."""
    silent = [consumer.name for consumer in consumers if consumer.interest is None]
    assert silent == ["replay_runs", "activity/ns/flow/mine"]


def test_shards_of_one_number_share_their_function(consumers: list[Consumer]) -> None:
    """H3: those of a workflow and of an activity, too, or each would hash each run."""
    divides = {each.interest.divide for each in consumers if each.interest}
    assert len(divides - {None}) == 1


def interest(run: str) -> Interest:
    """In the runs of a workflow that begin like this one."""
    return Interest(frozenset({(EventType.RUN_CREATED, "ns", "flow")}), ord, ord(run))


def created(id: int, run: str) -> Event:
    return made(id, EventType.RUN_CREATED, ("ns", "flow", run, ""))


def test_a_run_is_divided_once_for_all_parts() -> None:
    """H3: however many shards of one number a process has."""
    asked: list[str] = []

    def divide(run: str) -> int:
        asked.append(run)
        return 0

    dispatch, topics = Dispatch(), frozenset({(EventType.RUN_CREATED, "ns", "flow")})
    lanes = [Interest(topics, divide, part) for part in range(8)]
    for each in lanes:
        dispatch.between(each, 1, 1, [])
    found = dispatch.add([created(1, "a"), made(2, EventType.RUN_CREATED, ("ns", "x", "a", ""))])
    assert asked == ["a"]
    assert list(found) == lanes[:1]


def test_other_events_of_the_same_ids_are_not_taken_for_these() -> None:
    """L1: a server that has lost its last transactions gives their ids to other events."""
    tail = Tail(0)
    tail.extend([created(1, "a"), created(2, "b")])
    events = tail.slice(0, 10)
    assert events is not None
    assert tail.among(interest("b"), events) == events[1:]
    tail.reset(0)
    tail.extend([created(1, "b"), created(2, "a")])
    assert tail.among(interest("b"), events) is None
    now = tail.slice(0, 10) or []
    assert tail.among(interest("b"), now) == now[:1]
    tail.reset(1)
    assert tail.among(interest("b"), events) is None


def test_an_interrupted_dispatch_is_made_anew() -> None:
    """P1: Ctrl-C while an event is looked at loses none, and gives none twice."""
    interrupts = [KeyboardInterrupt()]

    def divide(run: str) -> int:
        if run == "b" and interrupts:
            raise interrupts.pop()
        return 0

    mine = Interest(frozenset({(EventType.RUN_CREATED, "ns", "flow")}), divide)
    tail = Tail(0)
    tail.extend([created(1, "a")])
    assert len(tail.among(mine, tail.slice(0, 10) or []) or []) == 1
    with pytest.raises(KeyboardInterrupt):
        tail.extend([created(2, "a"), created(3, "b")])
    tail.extend([created(4, "a")])
    events = tail.slice(0, 10) or []
    assert [event.id for event in events] == [1, 2, 3, 4]
    assert tail.among(mine, events) == events


def test_who_is_interested_is_woken_and_nobody_else() -> None:
    """P21, P1: by what comes, and by what has come since the last look."""
    tail = Tail(0)
    a, b = (Waiter(lambda event: False, interest(run)) for run in "ab")
    for waiter in (a, b):
        tail.wait(waiter, 0, 0)
        assert not waiter.woken
    tail.extend([created(1, "a")])
    assert (a.woken, b.woken) == (True, False)
    late = Waiter(lambda event: False, interest("a"))
    for position, wakes in ((0, True), (1, False)):
        rings: list[float | None] = []
        late.alarm.wait = lambda timeout, rings=rings: bool(rings.append(late.woken))  # type: ignore
        tail.wait(late, position, 0)
        assert rings == [wakes]


def test_who_is_behind_the_tail_is_woken_by_what_interests_him() -> None:
    """P1: though he has read nothing of the tail so far."""
    tail = Tail(5)
    waiter = Waiter(lambda event: False, interest("a"))
    tail.wait(waiter, 0, 0)
    tail.extend([created(6, "b")])
    assert not waiter.woken
    tail.extend([created(7, "a")])
    assert waiter.woken
