"""The lines of the table: the measure, its figure, the goal, and the verdict."""

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Row:
    measure: str
    figure: str
    wanted: str = ""
    verdict: str = ""
    value: float = 0.0


@dataclass(frozen=True)
class Sizes:
    """How much work each measure does. With `--quick` it is small, and the figures are rough."""

    repeats: int = 3
    runs: int = 1_000
    steps_per_run: int = 5
    steps_of_one: int = 200
    starts: int = 10_000
    positions: tuple[int, ...] = (10, 100, 1_000, 10_000)
    killed_at: int = 990
    killed_of: int = 1_000
    asleep: int = 10_000
    cached: int = 1_000
    signals: int = 50
    sleepers: int = 20
    consumers: int = 20
    settle_seconds: float = 5.0
    idle_seconds: float = 10.0
    finished: int = 1_000_000
    open: int = 1_000
    large: int = 10_000_000
    attack_seconds: float = 12.0


QUICK = Sizes(
    repeats=1,
    runs=50,
    steps_of_one=40,
    starts=1_000,
    positions=(10, 50, 100, 200),
    killed_at=30,
    killed_of=40,
    asleep=200,
    cached=50,
    signals=5,
    sleepers=3,
    settle_seconds=0.5,
    idle_seconds=1.0,
    finished=5_000,
    open=100,
    large=20_000,
    attack_seconds=1.0,
)


#: A figure, or what several turns gave: then the table shows their median and their spread.
Figure = float | Sequence[float]


def plain(measure: str, found: Figure, unit: str, form: str = ",.2f") -> Row:
    """A figure without a goal."""
    value = middle(found)
    figure = f"{value:{form}} {unit}".rstrip()
    if not isinstance(found, float | int) and len(found) > 1:
        figure += f" ({min(found):{form}} to {max(found):{form}})"
    return Row(measure, figure, value=value)


def at_most(measure: str, found: Figure, limit: float, unit: str, form: str = ",.2f") -> Row:
    row = plain(measure, found, unit, form)
    wanted = f"at most {limit:,g} {unit}".rstrip()
    return replace(row, wanted=wanted, verdict="ok" if row.value <= limit else "short")


def at_least(measure: str, found: Figure, limit: float, unit: str, form: str = ",.2f") -> Row:
    row = plain(measure, found, unit, form)
    wanted = f"at least {limit:,g} {unit}".rstrip()
    return replace(row, wanted=wanted, verdict="ok" if row.value >= limit else "short")


def middle(found: Figure) -> float:
    """The median of several turns."""
    return found if isinstance(found, float | int) else statistics.median(found)


def table(rows: Iterable[Row]) -> Iterator[str]:
    """The rows as aligned lines, with the figures aligned to the right."""
    head = Row("measure", "figure", "goal", "verdict")
    lines = [head, *rows]
    first = max(len(row.measure) for row in lines)
    second = max(len(row.figure) for row in lines)
    third = max(len(row.wanted) for row in lines)
    for row in lines:
        text = f"{row.measure:<{first}}  {row.figure:>{second}}  {row.wanted:<{third}}  "
        yield (text + row.verdict).rstrip()


def percentile(values: Sequence[float], percent: int) -> float:
    """The value that `percent` % of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def median_ms(seconds: Sequence[float]) -> float:
    return statistics.median(seconds) * 1e3


def wait_for(what: str, ready: Callable[[], bool], seconds: float = 120.0) -> None:
    """Poll each millisecond until `ready`.  Raises TimeoutError, which names `what`."""
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(0.001)
