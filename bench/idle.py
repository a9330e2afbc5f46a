"""Idle: how much memory waiting runs take, and how much CPU and how many queries waiting takes."""

import time
from contextlib import closing
from itertools import pairwise

from google.protobuf.wrappers_pb2 import StringValue

import replay
from bench import raw, work
from bench.backends import Backend
from bench.rows import Row, Sizes, at_most, plain, wait_for
from bench.worker import Worker

WORKFLOW = "sleepers"
WARM_UP = 500  # runs that wait before memory is first measured: they load what every process needs


def memory(backend: Backend, sizes: Sizes) -> list[Row]:
    """How much a process grows with its waiting runs: first all of them cached, then only some.

    If only some are cached, the process still grows until its other stores are full, which are
    bounded too. So only the growth with the last of many runs counts.
    """
    runs, kib = sizes.asleep, 1024
    _, all_cached = growth(backend, [WARM_UP, runs], WARM_UP + runs)
    bounded = growth(backend, [WARM_UP, runs, runs, runs], sizes.cached)
    what = f"{runs:,} asleep, all cached"
    then = f"  {sizes.cached:,} cached: growth per run, {2 * runs:,} to {3 * runs:,} asleep"
    return [
        at_most(f"memory per waiting run, {what}", all_cached / runs / kib, 8, "KB", "z,.1f"),
        plain(f"  {sizes.cached:,} cached: growth in all", sum(bounded[1:]) / kib**2, "MB", ",.1f"),
        at_most(then, bounded[-1] / runs / kib, 0.5, "KB", "z,.1f"),
    ]


def growth(backend: Backend, batches: list[int], max_cached: int) -> list[float]:
    """Bytes by which a worker grows with each batch of waiting runs."""
    weights = [0.0]
    with backend.fresh() as url, Worker("idle", url, max_cached) as worker:
        worker.ask("register", WORKFLOW)
        with closing(raw.Raw(url)) as probe:
            for runs in batches:
                send_to_sleep(url, probe, runs)
                weights.append(worker.ask("memory"))
    return [after - before for before, after in pairwise(weights)]


def send_to_sleep(url: str, probe: raw.Raw, runs: int) -> None:
    """Create runs that sleep, and wait until all of them wait in the worker."""
    already = probe.count(raw.CREATED)
    with replay.connect(url, loops=False) as client:
        for number in range(already, already + runs):
            client.run_workflow(work.NAMESPACE, WORKFLOW, f"run-{number}", StringValue(value="x"))
    wait_for("the runs to wait", lambda: probe.count(raw.REQUEST) == already + runs, 300)
    time.sleep(1)  # the consumer of sleeps must read them as well


def waiting(backend: Backend, sizes: Sizes) -> list[Row]:
    """CPU and queries of an idle process with many consumers and waiting runs."""
    with backend.fresh() as url, Worker("idle", url, sizes.asleep) as worker:
        worker.ask("register", WORKFLOW)
        with closing(raw.Raw(url)) as probe:
            send_to_sleep(url, probe, sizes.asleep)
            worker.ask("consumers", sizes.consumers - 1)
            time.sleep(sizes.settle_seconds)
            cpu, queries = rates(worker, probe, sizes.idle_seconds)
    what = f"idle, {sizes.consumers} consumers, {sizes.asleep:,} waiting runs"
    return [
        at_most(f"{what}: CPU", cpu * 100, 1, "% of a core"),
        at_most(f"{what}: queries", queries, 50, "/s", ",.1f"),
    ]


def rates(worker: Worker, probe: raw.Raw, seconds: float) -> tuple[float, float]:
    """CPU seconds, and queries, each second."""
    begin = time.perf_counter()
    cpu, queries = worker.ask("cpu"), questions(worker, probe)
    time.sleep(seconds)
    cpu, queries = worker.ask("cpu") - cpu, questions(worker, probe) - queries
    took = time.perf_counter() - begin
    ours = 0 if probe.sqlite else 1  # the query for the count, which the second count includes
    return cpu / took, (queries - ours) / took


def questions(worker: Worker, probe: raw.Raw) -> float:
    """Statements so far. The server counts them; without a server, the worker does."""
    if probe.sqlite:
        return worker.ask("statements")
    [(_, number)] = probe.rows("SHOW GLOBAL STATUS LIKE 'Questions'")
    return float(number)
