"""`./dev simulate`: runs histories for as long as asked, and counts what happened in them."""

from __future__ import annotations

import argparse
import gc
import math
import random
import sys
import time
import traceback
from collections import Counter

from tests.simulation.backend import Backend, opened
from tests.simulation.faults import AT_CALLS
from tests.simulation.plans import SHARES_FROM, from_token
from tests.simulation.run import many, once, sweep
from tests.simulation.world import HAPPENINGS

CHUNK = 100  # histories between two lines about how far it is
ENOUGH = 5  # failures


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="./dev simulate",
        description="Simulate a cluster under random faults, and compare with plain Python.",
    )
    parser.add_argument("--minutes", type=float, help="how long (default: 1)")
    parser.add_argument("--histories", type=int, help="how many (default: no limit)")
    parser.add_argument(
        "--seed",
        type=int,
        help="of the first history; each next one has the next (default: random)",
    )
    parser.add_argument(
        "--url",
        default="sqlite://",
        help="a database to do it on, whose tables are EMPTIED (default: SQLite in memory)",
    )
    parser.add_argument(
        "--sweep",
        action="store_true",
        help="instead, one history for each call of a small plan and each fault at it",
    )
    parser.add_argument("--again", metavar="WORD", help="run the history that a failure printed")
    asked = parser.parse_args()
    if asked.minutes is None:
        asked.minutes = 1 if asked.histories is None else math.inf
    return asked


def simulate(backend: Backend, asked: argparse.Namespace, seed: int) -> tuple[Counter[str], int]:
    """Histories until it is enough; what there was, by kind, and how many failed."""
    total: Counter[str] = Counter()
    begin, number, failed = time.monotonic(), seed, 0
    end, last = begin + 60 * asked.minutes, seed + (asked.histories or sys.maxsize)
    while number < last and failed < ENOUGH and (number == seed or time.monotonic() < end):
        count = min(CHUNK, last - number)
        try:
            many(backend, asked.url, number, count, total)
        except Exception:
            traceback.print_exc()
            failed += 1
            count = total["histories"] + failed - (number - seed)
        number += count
        rate = 60 * total["histories"] / (time.monotonic() - begin)
        text = f"\rseeds {seed} to {number - 1}: {total['histories']} histories, {rate:.0f}/min"
        print(text, end="", file=sys.stderr)
    return total, failed


def sweep_all(backend: Backend, url: str) -> Counter[str]:
    """An outage at each call, of each kind, embedded and through a server."""
    total: Counter[str] = Counter()
    for mode in ("embedded", "served"):
        for kind in AT_CALLS:
            sweep(backend, url, mode, kind, total)
            print(f"\r{mode}, {kind}: {total['histories']} histories", end="", file=sys.stderr)
    return total


def main() -> int:
    """Run what is asked for; 1 if a promise was broken."""
    asked = arguments()
    gc.set_threshold(50_000)  # a history makes much garbage: less often, it costs a fifth less
    seed = random.SystemRandom().randrange(2 * SHARES_FROM) if asked.seed is None else asked.seed
    with opened(asked.url) as backend:
        if asked.again:
            once(backend, from_token(asked.again), asked.url)
            print("it passed")
            return 0
        if asked.sweep:
            total, failed = sweep_all(backend, asked.url), 0
        else:
            print(f"the first seed is {seed}", file=sys.stderr)
            total, failed = simulate(backend, asked, seed)
    print(file=sys.stderr)
    for what, count in sorted(total.items()):
        print(f"{count:9} {what}")
    if (never := sorted(set(HAPPENINGS) - set(total))) and not asked.sweep:
        print(f"there was no: {', '.join(never)}")
    if failed:
        print(f"{failed} histories FAILED: their seeds are above")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
