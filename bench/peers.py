"""Peers: DBOS does the same work in the same benchmark, from an environment of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

from bench.rows import Row, Sizes, median_ms, percentile

DBOS_DEFAULT = (
    "DBOS on its SQLite default: a rollback journal with synchronous=FULL. It syncs to disk at each"
    " commit; our MariaDB does that too, our SQLite does not"
)
SCRIPT = Path(__file__).with_name("dbos_work.py")


def dbos(sizes: Sizes, directory: Path, ours: dict[str, tuple[float, float]]) -> list[Row]:
    """The figures of DBOS, and how many times as fast ours are.

    `ours` has, by backend, steps/s and ms for each step.
    """
    python = environment("dbos")
    numbers = [sizes.runs, sizes.steps_per_run, sizes.steps_of_one]
    done = subprocess.run(
        [python, SCRIPT, directory / "dbos.db", *map(str, numbers)],
        check=True,
        stdout=subprocess.PIPE,
        cwd=directory,
        timeout=600,
    )
    theirs = json.loads(done.stdout)
    what = f"{sizes.runs:,} runs of {sizes.steps_per_run} steps"
    half, most = median_ms(theirs["gaps"]), percentile(theirs["gaps"], 99) * 1e3
    rates = {name: rate / theirs["rate"] for name, (rate, _) in ours.items()}
    times = {name: half / step for name, (_, step) in ours.items()}
    one = f"a step, one run of {sizes.steps_of_one}"
    return [
        Row(f"DBOS {theirs['version']}, {what}", f"{theirs['rate']:,.0f} steps/s"),
        *(Row(f"  {name}, times as fast", f"{ratio:,.1f}") for name, ratio in rates.items()),
        Row(f"DBOS {theirs['version']}, {one}, p50", f"{half:,.2f} ms"),
        Row(f"DBOS {theirs['version']}, {one}, p99", f"{most:,.2f} ms"),
        *(Row(f"  {name}, times as fast (p50)", f"{ratio:,.1f}") for name, ratio in times.items()),
    ]


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
