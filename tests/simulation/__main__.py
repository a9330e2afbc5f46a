"""`./dev simulate`: runs histories for as long as asked, and counts what happened in them."""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter

from tests.simulation.backend import Backend, opened
from tests.simulation.plans import from_token
from tests.simulation.run import many, once, where

CHUNK = 100  # histories of one seed


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="./dev simulate",
        description="Simulate a cluster under random faults, and compare with plain Python.",
    )
    parser.add_argument("--minutes", type=float, default=1, help="how long (default: %(default)s)")
    parser.add_argument(
        "--seed",
        type=int,
        help=f"for the first {CHUNK} histories; each next {CHUNK} take the next (default: random)",
    )
    parser.add_argument(
        "--url",
        default="sqlite://",
        help="a database to do it on, whose tables are EMPTIED (default: SQLite in memory)",
    )
    parser.add_argument("--again", metavar="WORD", help="run the history that a failure printed")
    return parser.parse_args()


def simulate(backend: Backend, minutes: float, number: int, url: str) -> Counter[str]:
    """Chunks of histories until the time is over; each has its own seed."""
    total: Counter[str] = Counter()
    begin = time.monotonic()
    while not total or time.monotonic() < begin + 60 * minutes:
        try:
            total += many(backend, url, number, CHUNK)
        except BaseException:
            again = f"./dev simulate --seed {number}{where(backend, url)}"
            print(f"\nfailed at seed {number}; run it again: {again}", file=sys.stderr)
            raise
        passed = time.monotonic() - begin
        rate = 60 * total["histories"] / passed
        print(
            f"\rseed {number}: {total['histories']} histories in {passed:.0f} s, {rate:.0f}/min",
            end="",
            file=sys.stderr,
        )
        number += 1
    return total


def main() -> None:
    """Run what is asked for."""
    asked = arguments()
    number = random.SystemRandom().randrange(10**6) if asked.seed is None else asked.seed
    with opened(asked.url) as backend:
        if asked.again:
            once(backend, from_token(asked.again), asked.url)
            print("it passed")
            return
        print(f"the first seed is {number}", file=sys.stderr)
        total = simulate(backend, asked.minutes, number, asked.url)
    print(file=sys.stderr)
    for what, count in sorted(total.items()):
        print(f"{count:9} {what}")


if __name__ == "__main__":
    main()
