"""Histories: how long it takes to export them, and to verify code against them."""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from google.protobuf.wrappers_pb2 import Int64Value

import replay
from bench import work
from bench.backends import Backend
from bench.rows import Row, Sizes, at_most, plain

WANTED = 20.0  # seconds for 10,000 histories
COUNT = 10_000


def verified(backend: Backend, sizes: Sizes) -> list[Row]:
    """`replay verify`, the whole process, on as many histories as there are runs, ten times each.

    Each history has the events of `Sizes.steps_per_run` activities.
    """
    runs = 10 * sizes.runs
    with backend.fresh() as url, tempfile.TemporaryDirectory() as folder:
        lived(url, sizes)
        file = Path(folder) / "one.jsonl"
        begin = time.perf_counter()
        command("export", "--url", url, "--output", str(file))
        exported = time.perf_counter() - begin
        lines, file = file.read_bytes(), Path(folder) / "ten.jsonl"
        file.write_bytes(lines * 10)
        taken = [seconds(file) for _ in range(sizes.repeats)]
    each = statistics.median(taken) / runs
    what = f"histories of {sizes.steps_per_run} activities"
    return [
        plain(f"{sizes.runs:,} {what} exported", sizes.runs / exported, "histories/s", ",.0f"),
        plain(f"{runs:,} {what} verified", 1 / each, "histories/s", ",.0f"),
        at_most(f"  {COUNT:,} of them", each * COUNT, WANTED, "s"),
    ]


def lived(url: str, sizes: Sizes) -> None:
    """Have runs that end."""
    with replay.connect(url, loops=False) as client:
        consumers = [
            replay.register_workflow(client, work.NAMESPACE, work.steps, start=False),
            replay.register_activity(client, work.NAMESPACE, work.echo, start=False),
        ]
        for number in range(sizes.runs):
            message = Int64Value(value=sizes.steps_per_run)
            client.run_workflow(work.NAMESPACE, "steps", f"run-{number}", message)
        while sum([consumer.step() for consumer in consumers]):
            pass


def seconds(file: Path) -> float:
    begin = time.perf_counter()
    command("verify", "bench.work", str(file))
    return time.perf_counter() - begin


def command(*arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "replay", *arguments], check=True, stdout=subprocess.DEVNULL
    )
