"""Starts: how many a second from many threads, and what they cost while their runs are running."""

import threading
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial

from google.protobuf.wrappers_pb2 import Int64Value, StringValue

import replay
from bench import raw, work
from bench.backends import Backend
from bench.rows import Row, Sizes, at_least, at_most, wait_for

THREADS = 8
AT_ONCE = 0  # threads: all in one call
HOW = {1: "by one thread", THREADS: f"by {THREADS} threads", AT_ONCE: "in one call"}


def starts(backend: Backend, sizes: Sizes) -> list[Row]:
    """Starts and signals a second, while no consumer runs."""
    rows = []
    for threads, how in HOW.items():
        rate = repeated(backend, sizes, partial(started, count=sizes.starts, threads=threads))
        wanted = backend.goal(6_000, 5_000, 10_000) if threads != 1 else 0
        rows.append(at_least(f"runs started {how}", rate, wanted, "/s", ",.0f"))
    rate = repeated(backend, sizes, partial(signalled, count=sizes.starts))
    rows.append(at_least(f"signals sent {HOW[THREADS]}", rate, 0, "/s", ",.0f"))
    return rows


def repeated(backend: Backend, sizes: Sizes, measure: Callable[[str], float]) -> list[float]:
    found = []
    for _ in range(sizes.repeats):
        with backend.fresh() as url:
            found.append(measure(url))
    return found


def started(url: str, count: int, threads: int) -> float:
    with replay.connect(url, loops=False) as client:
        return count / start_all(client, "steps", Int64Value(value=5), count, threads)


def signalled(url: str, count: int) -> float:
    def signal(number: int) -> None:
        client.signal_run(work.NAMESPACE, "steps", f"run-{number}", 1, Int64Value(), "once")

    with replay.connect(url, loops=False) as client:
        return count / in_threads(THREADS, count, signal)


def start_all(
    client: replay.Client, workflow: str, message: object, count: int, threads: int
) -> float:
    """Start runs one by one from threads, or all in one call.  Returns the seconds."""
    if threads == AT_ONCE:
        begin = time.perf_counter()
        client.run_workflows(
            (work.NAMESPACE, workflow, f"run-{number}", message) for number in range(count)
        )
        return time.perf_counter() - begin

    def start(number: int) -> None:
        client.run_workflow(work.NAMESPACE, workflow, f"run-{number}", message)

    return in_threads(threads, count, start)


def in_threads(threads: int, count: int, call: Callable[[int], None]) -> float:
    """Call it with each number below `count`, divided among threads.  Returns the seconds."""

    def some(first: int) -> None:
        for number in range(first, count, threads):
            call(number)

    all_of_them = [threading.Thread(target=some, args=(first,)) for first in range(threads)]
    begin = time.perf_counter()
    for each in all_of_them:
        each.start()
    for each in all_of_them:
        each.join()
    return time.perf_counter() - begin


def while_running(backend: Backend, sizes: Sizes) -> list[Row]:
    """Steps a second of runs that are started while the consumers run, from the first start on."""
    rows = []
    wanted = backend.goal(8_000, 7_000, 12_000)
    for threads, how in HOW.items():
        rate = repeated(backend, sizes, partial(started_and_run, sizes=sizes, threads=threads))
        what = f"{sizes.runs:,} runs of {sizes.steps_per_run} steps, started {how} while they run"
        rows.append(at_least(what, rate, wanted, "steps/s", ",.0f"))
    return rows


def started_and_run(url: str, sizes: Sizes, threads: int) -> float:
    ended = threading.Semaphore(0)
    with replay.connect(url) as client, closing(raw.Raw(url)) as probe:
        workflow = work.counted_steps(ended)
        replay.register_workflow(client, work.NAMESPACE, workflow, name="steps")
        replay.register_activity(client, work.NAMESPACE, work.echo)
        begin = time.perf_counter()
        message = Int64Value(value=sizes.steps_per_run)
        start_all(client, "steps", message, sizes.runs, threads)
        for _ in range(sizes.runs):
            ended.acquire(timeout=120)
        wait_for("the runs to complete", lambda: probe.count(raw.COMPLETED) == sizes.runs)
        return sizes.runs * sizes.steps_per_run / (time.perf_counter() - begin)


def asleep(backend: Backend, sizes: Sizes) -> list[Row]:
    """The time until many runs are started and sleep."""
    rows = []
    wanted = backend.goal(2, 4)
    for threads, how in HOW.items():
        rate = repeated(backend, sizes, partial(fallen_asleep, runs=sizes.asleep, threads=threads))
        what = f"{sizes.asleep:,} runs, started {how}, until all sleep"
        rows.append(at_most(what, rate, wanted, "s"))
    return rows


def fallen_asleep(url: str, runs: int, threads: int) -> float:
    with replay.connect(url) as client, closing(raw.Raw(url)) as probe:
        replay.register_workflow(client, work.NAMESPACE, work.asleep)
        begin = time.perf_counter()
        start_all(client, "asleep", StringValue(value="x"), runs, threads)

        def all_sleep() -> bool:
            time.sleep(0.02)
            [(count,)] = probe.rows("SELECT COUNT(*) FROM replay_sleeps")
            return int(count) == runs

        wait_for("all to sleep", all_sleep)
        return time.perf_counter() - begin
