"""Recovery: how soon a run goes on after its consumer is replaced or its process is killed."""

import signal
import statistics
import threading
import time
from contextlib import closing

from google.protobuf.wrappers_pb2 import Int64Value

import replay
from bench import raw, work
from bench.backends import Backend
from bench.rows import Row, Sizes, at_most, wait_for
from bench.worker import Worker


def take_up(backend: Backend, sizes: Sizes) -> list[Row]:
    """The time from registering a workflow to the next activity of a run with a long history."""
    steps = sizes.positions[-1]
    with backend.fresh() as url:
        make_history(url, steps)
        seconds = take_up_again(url)
    return [at_most(f"resuming a run with {steps:,} steps of history", seconds, 0.5, "s", ".3f")]


def make_history(url: str, steps: int) -> None:
    """Leave a run that has done its steps and waits for a signal."""
    with replay.connect(url) as client, closing(raw.Raw(url)) as probe:
        replay.register_workflow(client, work.NAMESPACE, work.steps_then_one)
        replay.register_activity(client, work.NAMESPACE, work.echo)
        client.run_workflow(work.NAMESPACE, "steps_then_one", "long", Int64Value(value=steps))
        wait_for("the steps", lambda: probe.count(raw.REQUEST) == steps + 1, 300)


def take_up_again(url: str) -> float:
    """Answer the run's await while nobody runs it. Then register, and time the next activity."""
    begun = threading.Event()

    def last(ctx: replay.ActivityContext, backends: None, message: Int64Value) -> Int64Value:
        begun.set()
        return message

    with replay.connect(url) as client, closing(raw.Raw(url)) as probe:
        answers = probe.count(raw.RESPONSE)
        replay.register_activity(client, work.NAMESPACE, last)
        client.signal_run(work.NAMESPACE, "steps_then_one", "long", 1, Int64Value(), "go")
        wait_for("the signal's match", lambda: probe.count(raw.RESPONSE) == answers + 1)
        begin = time.perf_counter()
        replay.register_workflow(client, work.NAMESPACE, work.steps_then_one)
        if not begun.wait(120):
            raise TimeoutError("the run did not go on in 120 s")
        return time.perf_counter() - begin


def killed(backend: Backend, sizes: Sizes) -> list[Row]:
    """The time from starting the successor of a killed process to the end of its run."""
    times = []
    for _ in range(sizes.repeats):
        with backend.fresh() as url:
            times.append(succeed(url, sizes.killed_at, sizes.killed_of))
    what = f"process killed at step {sizes.killed_at:,} of {sizes.killed_of:,}"
    return [
        at_most(
            f"{what}: successor's start to the run's end", statistics.median(times), 0.6, "s", ".3f"
        )
    ]


def succeed(url: str, killed_at: int, steps: int) -> float:
    with replay.connect(url, loops=False) as client, closing(raw.Raw(url)) as probe:
        client.run_workflow(work.NAMESPACE, "steps", "long", Int64Value(value=steps))
        with Worker("steps", url, killed_at) as first:
            if first.wait() != -signal.SIGKILL:
                raise RuntimeError("the first process ended by itself")
        begin = time.perf_counter()
        with Worker("steps", url, -1):
            wait_for("the run's end", lambda: probe.count(raw.COMPLETED) == 1)
            return time.perf_counter() - begin
