"""Shards: which run belongs to which, and what another number of them repeats."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay import Client, Shard
from replay.shard import BadShard, fnv1a, jump_hash
from replay.storage.event import InvalidName
from tests import journey
from tests.support import (
    Clock,
    drain,
    listing,
    loops,
    stepped,
)

pytestmark = pytest.mark.contract

# Of the vectors that are published with each of the two.
FNV_1A = [
    (b"", 0xCBF29CE484222325),
    (b"a", 0xAF63DC4C8601EC8C),
    (b"b", 0xAF63DF4C8601F1A5),
    (b"hello", 0xA430D84680AABD0B),
    (b"foobar", 0x85944171F73967E8),
]
JUMP = [
    (1, 1, 0),
    (42, 57, 43),
    (256, 1024, 520),
    (3735883980, 1, 0),
    (3735883980, 666, 361),
    (16045690984833335023, 255, 237),
]
runs = st.text(min_size=1, max_size=50)


@pytest.mark.parametrize(("data", "value"), FNV_1A)
def test_h1_the_hash_is_fnv_1a(data: bytes, value: int) -> None:
    """H1: FNV-1a of 64 bits, so that programs in other languages find the same shard."""
    assert fnv1a(data) == value


@pytest.mark.parametrize(("key", "buckets", "bucket"), JUMP)
def test_h1_the_bucket_is_that_of_jump_hash(key: int, buckets: int, bucket: int) -> None:
    """H1: Jump consistent hashing, likewise."""
    assert jump_hash(key, buckets) == bucket


@given(runs, st.integers(1, 40))
def test_h1_each_run_belongs_to_exactly_one_shard(run: str, n: int) -> None:
    """H1: whatever its id and however many shards there are."""
    shards = [Shard.hashed(m, n) for m in range(n)]
    assert [shard.has(run) for shard in shards].count(True) == 1
    assert shards[jump_hash(fnv1a(run.encode()), n)].has(run)


@given(st.integers(0, 2**64 - 1), st.integers(1, 1000))
def test_h1_one_more_shard_takes_from_the_others_only(key: int, n: int) -> None:
    """H1: the hash is consistent: a run stays where it is, or moves to the new shard."""
    assert jump_hash(key, n + 1) in (jump_hash(key, n), n)


def test_h1_the_run_id_is_hashed_in_utf_8() -> None:
    """H1: a shard is chosen by the bytes of the run id, not of its namespace or workflow."""
    for m in range(3):
        expected = [jump_hash(fnv1a(run), 3) == m for run in (b"a", b"\xc3\xa9", b"\xe2\x82\xac")]
        assert [Shard.hashed(m, 3).has(run) for run in ("a", "é", "€")] == expected


@pytest.mark.parametrize(("m", "n"), [(-1, 2), (2, 2), (0, 0), (0, -1)])
def test_a_shard_that_does_not_exist_is_refused(m: int, n: int) -> None:
    """Shards are counted from 0."""
    with pytest.raises(BadShard, match=f"shard {m} of {n}: expected 0 to {n - 1}"):
        Shard.hashed(m, n)


def test_n2_a_shards_name_is_a_name() -> None:
    """N2: it becomes part of a cursor's name."""
    with pytest.raises(InvalidName, match="shard 'a/b'"):
        Shard("a/b", lambda run: True)
    assert [Shard.hashed(m, 3).name for m in range(3)] == ["1_of_3", "2_of_3", "3_of_3"]


RUNS = {f"run-{n}": n + 1 for n in range(8)}


@contextmanager
def shards(url: str, clock: Clock, n: int, calls: list[list[str]]) -> Iterator[Client]:
    """A client with all shards of a journey, stepped until nothing is left to do but sleep."""
    with stepped(url, clock) as client:
        consumers = loops(client)
        for m in range(n):
            calls.append([])
            journey.staff(client, calls[-1], Shard.hashed(m, n), start=False)
        consumers += client._consumers.values()
        yield client
        drain(*consumers)


def test_h1_each_shard_does_the_work_of_its_own_runs(url: str) -> None:
    """H1: three shards together do all, each a part, and none what is another's."""
    calls: list[list[str]] = []
    clock = Clock()
    with shards(url, clock, 3, calls) as client:
        for run, value in RUNS.items():
            journey.begin(client, run, value)
    for _ in range(2):
        clock.forward(seconds=1)
        again: list[list[str]] = []
        with shards(url, clock, 3, again):
            pass
        calls = [before + more for before, more in zip(calls, again, strict=True)]
    with stepped(url) as client:
        assert_journeys(client)
    for m in range(3):
        own = [run for run in RUNS if Shard.hashed(m, 3).has(run)]
        assert own
        assert sorted(calls[m]) == sorted(call for run in own for call in journey.calls_of(run))


def assert_journeys(client: Client) -> None:
    found = {run: listing(client, journey.NAMESPACE, "journey", run) for run in RUNS}
    assert found == {run: journey.events(run, value) for run, value in RUNS.items()}
    assert sum(map(len, found.values())) == len(listing(client))


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 2)])
def test_h2_another_number_of_shards_repeats_nothing(url: str, before: int, after: int) -> None:
    """H2, A4, R3: the new consumers read the log from its beginning, in the middle of each run

    and when all have ended: no activity is executed again, and no event added again.
    """
    calls: list[list[str]] = []
    clock = Clock()
    with shards(url, clock, before, calls) as client:
        for run, value in RUNS.items():
            journey.begin(client, run, value)
    clock.forward(seconds=1)
    with shards(url, clock, after, calls):
        pass
    clock.forward(seconds=1)
    with shards(url, clock, before, calls):
        pass
    with stepped(url) as client:
        assert_journeys(client)
    with shards(url, clock, after + before, calls):
        pass
    with stepped(url) as client:
        assert_journeys(client)
    executed = sorted(call for part in calls for call in part)
    assert executed == sorted(call for run in RUNS for call in journey.calls_of(run))


def test_h2_what_the_former_shards_had_not_done_is_done(url: str) -> None:
    """H2: one of three shards has passed the whole log when one takes the place of all three."""
    calls: list[str] = []
    clock = Clock()
    with stepped(url, clock) as client:
        first = journey.staff(client, calls, Shard.hashed(0, 3), start=False)
        for run, value in RUNS.items():
            journey.begin(client, run, value)
        drain(*first)
    done = len(calls)
    assert 0 < done < len(RUNS)
    for _ in range(3):
        again: list[list[str]] = []
        with shards(url, clock, 1, again):
            pass
        calls += again[0]
        clock.forward(seconds=1)
    with stepped(url) as client:
        assert_journeys(client)
    assert sorted(calls) == sorted(call for run in RUNS for call in journey.calls_of(run))
