"""Workers: what a second and a fourth process add, when they share eight shards."""

from collections import Counter
from contextlib import ExitStack, closing
from time import perf_counter

from google.protobuf.wrappers_pb2 import Int64Value

import replay
from bench import raw, work
from bench.backends import Backend
from bench.rows import Row, Sizes, at_least, plain, wait_for
from bench.worker import SHARDS, Worker

COUNTS = (1, 2, 4)
#: How long an activity takes, in milliseconds, and what 2 and 4 workers are to gain.
WANTED = {0: (1.0, 1.0), 20: (1.8, 3.2)}


def workers(backend: Backend, sizes: Sizes) -> list[Row]:
    """Steps a second of 1, 2 and 4 workers with 4 threads each; turns of these alternate."""
    rows = []
    for ms, wanted in WANTED.items():
        runs = sizes.runs if not ms else sizes.runs // 5
        rates: dict[int, list[float]] = {count: [] for count in COUNTS}
        for _ in range(sizes.repeats):
            for count in COUNTS:
                with backend.fresh() as url:
                    rates[count].append(rate(url, count, ms, runs, sizes.steps_per_run))
        what = f"{runs:,} runs of {sizes.steps_per_run} activities of {ms} ms"
        rows.append(plain(f"{what}: 1 worker", rates[1], "steps/s", ",.0f"))
        for count, least in zip(COUNTS[1:], wanted, strict=True):
            gains = [more / one for more, one in zip(rates[count], rates[1], strict=True)]
            rows.append(plain(f"  {count} workers", rates[count], "steps/s", ",.0f"))
            rows.append(at_least(f"  {count} workers : 1 worker", gains, least, ""))
    return rows


def rate(url: str, count: int, ms: int, runs: int, steps: int) -> float:
    """Steps a second of so many workers, from the start of the runs on."""
    with ExitStack() as stack:
        client = stack.enter_context(replay.connect(url, loops=False))
        probe = stack.enter_context(closing(raw.Raw(url)))
        for _ in range(count):
            stack.enter_context(Worker("shards", url, ms))
        wait_for("the workers to share the shards", lambda: is_shared(client, count))
        message = Int64Value(value=steps)
        begin = perf_counter()
        client.run_workflows(
            (work.NAMESPACE, "steps", f"run-{number}", message) for number in range(runs)
        )
        wait_for("the runs to complete", lambda: probe.count(raw.COMPLETED) == runs)
        return runs * steps / (perf_counter() - begin)


def is_shared(client: replay.Client, count: int) -> bool:
    """Whether each worker owns its share of the workflow's and of the activity's shards."""
    shards = (each for each in client.consumers() if each.name.endswith(f"_of_{SHARDS}"))
    owned = Counter((each.name.partition("/")[0], each.owner) for each in shards if each.owner)
    return len(owned) == 2 * count and set(owned.values()) == {SHARDS // count}
