"""Makes the demo's data: `python -m demo.generate` writes `ticks.csv` and `orders.csv` here.

Every run writes the same bytes, on every version and platform. The seed is fixed, and Python
guarantees the sequence of `Random.random()` for a seed. Everything else is plain arithmetic.
"""

import argparse
import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

SEED = 20240304
OPENING = datetime(2024, 3, 4, 9, 30, tzinfo=UTC)
TICKS_PER_MARKET = 900
ORDERS = 32


@dataclass(frozen=True)
class Instrument:
    """One market: where its price starts and how it moves."""

    name: str
    price: float
    volatility: float  # Standard deviation of one step, as a share of the price.
    spread: float  # From bid to ask, as a share of the price.


INSTRUMENTS = (
    Instrument("BRENT", 83.50, 0.00035, 0.0004),
    Instrument("COFFEE", 186.40, 0.00060, 0.0011),
    Instrument("COPPER", 385.75, 0.00045, 0.0006),
    Instrument("WHEAT", 557.25, 0.00040, 0.0009),
)


def normal(random: Random) -> float:
    """A number from a nearly normal distribution: the sum of twelve uniform ones, less 6."""
    return sum(random.random() for _ in range(12)) - 6.0


def stamp(moment: datetime) -> str:
    """The time as ISO 8601 in UTC with milliseconds."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def walk(instrument: Instrument, random: Random) -> Iterable[tuple[str, str, str, str]]:
    """The instrument's ticks: a random walk, at intervals of 0.2 to 1.2 seconds."""
    moment = OPENING
    middle = instrument.price
    for _ in range(TICKS_PER_MARKET):
        half = middle * instrument.spread * (0.5 + random.random()) / 2
        bid, ask = math.floor((middle - half) * 100), math.ceil((middle + half) * 100)
        yield stamp(moment), instrument.name, f"{bid / 100:.2f}", f"{ask / 100:.2f}"
        middle *= 1 + instrument.volatility * normal(random)
        moment += timedelta(milliseconds=200 + int(random.random() * 1000))


def ticks(random: Random) -> list[tuple[str, str, str, str]]:
    """The ticks of all markets in the order of time."""
    return sorted(tick for instrument in INSTRUMENTS for tick in walk(instrument, random))


def orders(random: Random) -> Iterable[tuple[str, str, str, int, int, str]]:
    """The orders. Later ones last longer, so a demo with only the first few is short."""
    for number in range(1, ORDERS + 1):
        market = INSTRUMENTS[int(random.random() * len(INSTRUMENTS))].name
        side = "buy" if random.random() < 0.5 else "sell"
        quantity = 25 + int(random.random() * 475)
        splits = 3 + int(random.random() * 6)
        seconds = 5 + 11 * number / ORDERS + random.random()
        yield f"order-{number:02}", market, side, quantity, splits, f"{seconds:.1f}"


def write(path: Path, header: str, rows: Iterable[Iterable[object]]) -> None:
    """Writes one CSV file with the same line ends on every platform."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header.split())
        writer.writerows(rows)


def generate(directory: Path) -> None:
    """Writes both files into the directory."""
    random = Random(SEED)
    write(directory / "ticks.csv", "timestamp market bid ask", ticks(random))
    write(directory / "orders.csv", "id market side quantity splits seconds", orders(random))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="demo.generate", description="Make the demo's CSV files.")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(__file__).parent,
        metavar="DIR",
        help="the directory to write to (default: the demo's own)",
    )
    generate(parser.parse_args().data)
