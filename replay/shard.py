"""Shards: the runs of a workflow or activity, divided among several consumers.

Each shard is a consumer with its own name and cursor.  So another number of shards means other
names, which read the log from its beginning.  They do nothing again that was done before (H2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Self

from .storage.database import Error
from .storage.dispatch import Divide, Interest, Topic
from .storage.event import check_name


class BadShard(Error, ValueError):
    """A shard number that does not exist."""


def fnv1a(data: bytes) -> int:
    """Compute the 64-bit FNV-1a hash."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


def jump_hash(key: int, buckets: int) -> int:
    """Return the bucket of a 64-bit key: the Jump consistent hash (Lamping and Veach, 2014)."""
    bucket, jump = -1, 0
    while jump < buckets:
        bucket = jump
        key = (key * 2862933555777941757 + 1) & 0xFFFFFFFFFFFFFFFF
        jump = int((bucket + 1) * ((1 << 31) / ((key >> 33) + 1)))
    return bucket


@dataclass(frozen=True, slots=True)
class Shard:
    """The runs whose id `has` returns true for.  `name` becomes part of the consumer's name."""

    name: str
    has: Callable[[str], bool]
    #: How a hashed one shares the work of computing the hash; None for one of your own.
    part: tuple[Divide, int] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_name("shard", self.name)

    @classmethod
    def hashed(cls, m: int, n: int) -> Self:
        """Return shard `m` of `n`, counted from 0.  Each run belongs to one of the `n` (H1)."""
        if not 0 <= m < n:
            raise BadShard(f"shard {m} of {n}: expected 0 to {n - 1}")
        return cls(f"{m + 1}_of_{n}", lambda run: shard_of(run, n) == m, (_divide(n), m))


def in_shard(shard: Shard | None, *topics: Topic) -> Interest | None:
    """Return the interest in one shard of these topics; None if only `Shard.has` can tell."""
    if shard is None:
        return Interest(frozenset(topics))
    return Interest(frozenset(topics), *shard.part) if shard.part else None


@lru_cache
def _divide(n: int) -> Divide:
    """The same function for all shards of one number, so that each event is hashed once."""
    return lambda run: shard_of(run, n)


@lru_cache(maxsize=10_000)  # for each event of the run
def shard_of(run: str, n: int) -> int:
    """Return the hashed shard of a run, counted from 0 (H1)."""
    return jump_hash(fnv1a(run.encode()), n)


@lru_cache(maxsize=1000)  # each process asks twice a second, for each consumer
def assigned(n: int, processes: Sequence[str]) -> Mapping[str, Sequence[int]]:
    """Return which of `n` shards each process is to own (H3).

    Whoever computes this from the same processes gets the same.  All have n / processes, rounded
    down or up.  Each shard goes to the process that comes first in an order of its own, unless that
    one has its share; so a process that joins or leaves changes the owner of few others.
    """
    found: dict[str, list[int]] = {process: [] for process in processes}
    least, over = divmod(n, len(found))
    for shard in range(n):
        larger = sum(len(shards) > least for shards in found.values())
        most = least + (larger < over)
        order = sorted(found, key=lambda process: (fnv1a(f"{shard}/{process}".encode()), process))
        found[next(each for each in order if len(found[each]) < most)].append(shard)
    return found
