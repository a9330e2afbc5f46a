"""Steps: how many a second with many runs, and how long each takes early and late in one run."""

import threading
import time
from collections.abc import Collection
from contextlib import closing

from google.protobuf.wrappers_pb2 import Int64Value

import replay
from bench import raw, work
from bench.backends import Backend
from bench.rows import Row, Sizes, at_least, at_most, median_ms, percentile, plain, wait_for


def throughput(backend: Backend, sizes: Sizes) -> list[Row]:
    """Steps/s of many runs at once, beside the raw limit.

    Turns of both alternate; the figures are their medians.
    """
    ours, limits = [], []
    for _ in range(sizes.repeats):
        with backend.fresh() as url:
            ours.append(many_runs(url, sizes.runs, sizes.steps_per_run))
            rows = raw.copy(url)
        with backend.fresh() as url:
            limits.append(raw.rerun(url, rows))
    steps = sizes.runs * sizes.steps_per_run
    rates, raws = [steps / each for each in ours], [steps / each for each in limits]
    shares = [rate / limit for rate, limit in zip(rates, raws, strict=True)]
    what = f"{sizes.runs:,} runs of {sizes.steps_per_run} activities"
    wanted = backend.goal(0.45, 0.65)
    return [
        plain(f"{what}, started together", rates, "steps/s", ",.0f"),
        plain("  raw limit: the same rows in the same batches", raws, "steps/s", ",.0f"),
        at_least("  share of the raw limit", shares, wanted, ""),
    ]


def many_runs(
    url: str, runs: int, steps: int, server: str = "", loops: Collection[str] | None = None
) -> float:
    """Create the runs, then start the consumers. Returns the seconds until all runs complete.

    `server` is the URL of a server of this database, through which the client then works.  With
    `loops`, only those of the library's own consumers run.
    """
    ended = threading.Semaphore(0)
    all_loops = loops is None
    with (
        replay.connect(server or url, loops=all_loops) as client,
        closing(raw.Raw(url)) as probe,
    ):
        for number in range(runs):
            client.run_workflow(work.NAMESPACE, "steps", f"run-{number}", Int64Value(value=steps))
        begin = time.perf_counter()
        workflow = work.counted_steps(ended)
        replay.register_workflow(client, work.NAMESPACE, workflow, name="steps")
        replay.register_activity(client, work.NAMESPACE, work.echo)
        for loop in client.loops():
            if loops is not None and loop.name in loops:
                loop.start()
        for _ in range(runs):
            if not ended.acquire(timeout=120):
                raise TimeoutError(f"not all of {runs} runs ended in 120 s")
        wait_for("the runs to complete", lambda: probe.count(raw.COMPLETED) == runs)
        return time.perf_counter() - begin


def one_run(backend: Backend, sizes: Sizes) -> list[Row]:
    """The time of a step (request, activity, response) when nothing else runs."""
    gaps: list[float] = []
    with backend.fresh() as url, replay.connect(url) as client:
        start_timed(client, gaps)
        run_steps(client, "warm-up", 20)
        gaps.clear()
        for number in range(sizes.repeats):
            run_steps(client, f"measured-{number}", sizes.steps_of_one)
    wanted = backend.goal(0.55, 0.9, 0.3)
    what = f"a step, one run of {sizes.steps_of_one}"
    return [
        at_most(f"{what}, p50", median_ms(gaps), wanted, "ms"),
        plain(f"{what}, p99", percentile(gaps, 99) * 1e3, "ms"),
    ]


def start_timed(client: replay.Client, gaps: list[float]) -> None:
    replay.register_workflow(client, work.NAMESPACE, work.timed_steps(gaps), name="steps")
    replay.register_activity(client, work.NAMESPACE, work.echo)


def run_steps(client: replay.Client, run: str, steps: int) -> None:
    client.run_workflow(work.NAMESPACE, "steps", run, Int64Value(value=steps))
    client.await_completion(work.NAMESPACE, "steps", run, timeout=300)


def long_run(backend: Backend, sizes: Sizes) -> list[Row]:
    """How long a step takes late in a run, and whether that is longer than at its beginning.

    The first position is measured on short runs before and after the long one. Otherwise a machine
    that becomes slower or faster meanwhile would look like growth.
    """
    gaps: list[float] = []
    first, last = sizes.positions[0], sizes.positions[-1]
    with backend.fresh() as url, replay.connect(url) as client:
        start_timed(client, gaps)
        run_steps(client, "warm-up", 20)
        early: list[float] = []
        for number in range(10):
            early += measured(client, gaps, f"before-{number}", first)
        long = measured(client, gaps, "long", last)
        for number in range(10):
            early += measured(client, gaps, f"after-{number}", first)
    costs = {first: median_ms(early)}
    costs |= {at: median_ms(long[at // 2 : at][-500:]) for at in sizes.positions[1:]}
    rows = [plain(f"a step at step {at:,} of a run, p50", ms, "ms") for at, ms in costs.items()]
    ratio = costs[last] / costs[first]
    return [*rows, at_most(f"  step {last:,} : step {first:,}", ratio, 1.3, "")]


def measured(client: replay.Client, gaps: list[float], run: str, steps: int) -> list[float]:
    gaps.clear()
    run_steps(client, run, steps)
    return gaps.copy()
