"""Peers: DBOS does the same work in the same benchmark, from an environment of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.postgres import private_postgres
from bench.rows import Row, Sizes, median_ms, middle, percentile, plain

SCRIPT = Path(__file__).with_name("dbos_work.py")


@dataclass(frozen=True)
class Ours:
    """What this library did on one backend: steps/s, while runs start, and ms for each step."""

    rate: float
    step: float


def dbos(sizes: Sizes, directory: Path, ours: dict[str, Ours]) -> Iterator[tuple[str, list[Row]]]:
    """The title and the figures of DBOS on each database, and how many times as fast ours are."""
    on = "DBOS on its SQLite default (a rollback journal, synchronous=FULL)"
    yield on, turns(sizes, directory, f"sqlite:///{directory}/dbos.db", ours)
    with private_postgres(directory) as (title, url):
        yield f"DBOS on {title}, which it recommends", turns(sizes, directory, url, ours)


def turns(sizes: Sizes, directory: Path, url: str, ours: dict[str, Ours]) -> list[Row]:
    """The figures of several turns on one database."""
    found = [work(sizes, directory, url) for _ in range(sizes.repeats)]
    rates = [float(each["rate"]) for each in found]
    gaps = [gap for each in found for gap in each["gaps"]]
    what = f"{sizes.runs:,} runs of {sizes.steps_per_run} steps, started while they run"
    one, name = f"a step, one run of {sizes.steps_of_one}", f"DBOS {found[0]['version']}"
    half, rate = median_ms(gaps), middle(rates)
    faster = "times as fast"
    return [
        plain(f"{name}, {what}", rates, "steps/s", ",.0f"),
        *(plain(f"  {on}, {faster}", each.rate / rate, "", ",.1f") for on, each in ours.items()),
        plain(f"{name}, {one}, p50", half, "ms"),
        plain(f"{name}, {one}, p99", percentile(gaps, 99) * 1e3, "ms"),
        *(plain(f"  {on}, {faster} (p50)", half / each.step, "") for on, each in ours.items()),
    ]


def work(sizes: Sizes, directory: Path, url: str) -> dict[str, Any]:
    """Have DBOS do the work in a process of its own."""
    numbers = [sizes.runs, sizes.steps_per_run, sizes.steps_of_one]
    done = subprocess.run(
        [environment("dbos"), SCRIPT, url, *map(str, numbers)],
        check=True,
        stdout=subprocess.PIPE,
        cwd=directory,
        timeout=600,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def environment(package: str) -> Path:
    """The Python of a virtual environment with the package, which is made once and kept."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    place = cache / "replay-bench" / package
    python = place / "bin" / "python"
    if not (place / "complete").exists():
        print(f"bench: installing {package} into {place}", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", place], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", package], check=True)
        (place / "complete").touch()
    return python
