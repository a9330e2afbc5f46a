"""Shards: the runs of a workflow or activity, divided among several consumers.

Each shard is a consumer with its own name and cursor.  So another number of shards means other
names, which read the log from its beginning.  They do nothing again that was done before (H2).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from .storage.database import Error
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

    def __post_init__(self) -> None:
        check_name("shard", self.name)

    @classmethod
    def hashed(cls, m: int, n: int) -> Self:
        """Return shard `m` of `n`, counted from 0.  Each run belongs to one of the `n` (H1)."""
        if not 0 <= m < n:
            raise BadShard(f"shard {m} of {n}: expected 0 to {n - 1}")
        return cls(f"{m + 1}_of_{n}", lambda run: jump_hash(fnv1a(run.encode()), n) == m)
