"""The workflows and the activity that are measured.

The activity does nothing, so only the steps cost time. If a workflow records something, a function
makes it, which is given the place where it records.
"""

import threading
import time
from collections.abc import Callable
from datetime import timedelta

from google.protobuf.wrappers_pb2 import Int64Value, StringValue

import replay

NAMESPACE = "bench"
AN_HOUR = timedelta(hours=1)

Workflow = Callable[[replay.RunContext, Int64Value], None]
Activity = Callable[[replay.ActivityContext, None, Int64Value], Int64Value]


def echo(ctx: replay.ActivityContext, backends: None, message: Int64Value) -> Int64Value:
    return Int64Value(value=message.value + 1)


def steps(ctx: replay.RunContext, message: Int64Value) -> None:
    """As many steps as the message says, one after the other."""
    for number in range(message.value):
        ctx.exec_activity("echo", Int64Value(value=number))


def timed_steps(gaps: list[float]) -> Workflow:
    """As `steps`; records how long each step took."""

    def steps(ctx: replay.RunContext, message: Int64Value) -> None:
        for number in range(message.value):
            begin = time.perf_counter()
            ctx.exec_activity("echo", Int64Value(value=number))
            gaps.append(time.perf_counter() - begin)

    return steps


def counted_steps(ended: threading.Semaphore) -> Workflow:
    """As `steps`; counts the runs that have reached their last line."""

    def counted(ctx: replay.RunContext, message: Int64Value) -> None:
        steps(ctx, message)
        ended.release()

    return counted


def steps_then_one(ctx: replay.RunContext, message: Int64Value) -> None:
    """As `steps`; then waits for a signal, and takes one more step, which has a name of its own."""
    steps(ctx, message)
    ctx.await_signal(1, AN_HOUR)
    ctx.exec_activity("last", message)


def asleep(ctx: replay.RunContext, message: StringValue) -> None:
    """Sleeps for longer than any benchmark."""
    ctx.sleep(AN_HOUR * 24)


def signalled(woken: list[float], wake: threading.Semaphore) -> Workflow:
    """Takes as many signals as the message says; records when it goes on after each."""

    def signalled(ctx: replay.RunContext, message: Int64Value) -> None:
        for _ in range(message.value):
            ctx.await_signal(1, AN_HOUR)
            woken.append(time.perf_counter())
            wake.release()

    return signalled


def started(woken: list[float], wake: threading.Semaphore) -> Workflow:
    """Records when it begins."""

    def started(ctx: replay.RunContext, message: Int64Value) -> None:
        woken.append(time.perf_counter())
        wake.release()

    return started


def sleeper(woken: dict[str, float], wake: threading.Semaphore) -> Workflow:
    """Sleeps one second; records when the run goes on, by the wall clock."""

    def sleeper(ctx: replay.RunContext, message: Int64Value) -> None:
        ctx.sleep(timedelta(seconds=1))
        woken[ctx.run] = time.time()
        wake.release()

    return sleeper
