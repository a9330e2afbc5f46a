"""Remote: the same steps through a server on loopback, beside the embedded figures."""

import signal
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import replay
from bench.backends import Backend
from bench.rows import Row, Sizes, at_least, at_most, median_ms, plain
from bench.steps import many_runs, run_steps, start_timed


def through_a_server(backend: Backend, sizes: Sizes) -> list[Row]:
    """Steps/s of many runs, and the time of a step of one run.

    Embedded and remote turns alternate; the figures are their medians.
    """
    near, far = [], []
    for _ in range(sizes.repeats):
        with backend.fresh() as url:
            near.append(many_runs(url, sizes.runs, sizes.steps_per_run))
        with backend.fresh() as url, served(url) as server:
            far.append(many_runs(url, sizes.runs, sizes.steps_per_run, server))
    steps = sizes.runs * sizes.steps_per_run
    embedded, remote = steps / statistics.median(near), steps / statistics.median(far)
    near_ms, far_ms = one_run_each(backend, sizes)
    what = f"{sizes.runs:,} runs of {sizes.steps_per_run} activities"
    return [
        plain(f"{what}, embedded", embedded, "steps/s", ",.0f"),
        plain(f"{what}, through a server", remote, "steps/s", ",.0f"),
        at_least("  share of the embedded figure", remote / embedded, 0.5, ""),
        plain(f"a step, one run of {sizes.steps_of_one}, embedded, p50", near_ms, "ms"),
        plain(f"a step, one run of {sizes.steps_of_one}, through a server, p50", far_ms, "ms"),
        at_most("  more than embedded", far_ms - near_ms, 1.5, "ms"),
    ]


def one_run_each(backend: Backend, sizes: Sizes) -> tuple[float, float]:
    """The median time of a step in ms, embedded and through a server, in alternating turns."""
    near: list[float] = []
    far: list[float] = []
    with backend.fresh() as one, backend.fresh() as other, served(other) as server:
        for _ in range(sizes.repeats):
            for url, gaps in ((one, near), (server, far)):
                gaps += timed(url, sizes.steps_of_one, len(gaps))
    return median_ms(near), median_ms(far)


def timed(url: str, steps: int, number: int) -> list[float]:
    gaps: list[float] = []
    with replay.connect(url) as client:
        start_timed(client, gaps)
        run_steps(client, f"warm-up-{number}", 20)
        gaps.clear()
        run_steps(client, f"measured-{number}", steps)
    return gaps


@contextmanager
def served(url: str) -> Iterator[str]:
    """The URL of a server on this database."""
    with server(url) as (address, _):
        yield address


@contextmanager
def server(url: str, *options: str) -> Iterator[tuple[str, int]]:
    """The URL of a server on this database, and its process's number."""
    command = [sys.executable, "-m", "replay", "server", "--db", url, "--listen", "127.0.0.1:0"]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = process.stdout.readline().strip().rpartition(":")[2]
        try:
            yield f"grpc://127.0.0.1:{port}", process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
