"""A process that is killed or measured: `python -m bench.worker MODE URL NUMBER`.

Mode `steps` runs the workflow of steps. It kills itself with signal 9 in the activity of step
NUMBER.

Mode `shards` runs its share of the shards of that workflow, with four threads. Its activity takes
NUMBER milliseconds.

Mode `waits` runs workflows that wait to be started or signalled. It answers `woken`, once for each
time that one goes on: when that was, by a clock that all processes share. It answers `ready`, too.

Mode `idle` answers questions, one on each line of its standard input, until that closes:

    register NAME     registers a workflow whose runs wait (at most NUMBER of them cached)
    consumers COUNT   registers more consumers, which have nothing to do
    memory            bytes of memory in use
    cpu               CPU seconds so far
    statements        SQL statements so far (SQLite only)
"""

import gc
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Self

from google.protobuf.wrappers_pb2 import Int64Value

import replay
from bench import work

ROOT = Path(__file__).parents[1]
SHARDS = 8


class Worker:
    """The process as its parent sees it."""

    def __init__(self, mode: str, url: str, number: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.worker", mode, url, str(number)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.communicate()

    def wait(self) -> int:
        return self.process.wait(timeout=120)

    def ask(self, *words: object) -> float:
        """Sends one question; returns its answer, a number."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(*words, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the worker ended when it was asked: {words}")
        return float(answer)


def run_steps(url: str, kill_at: int) -> None:
    def echo(ctx: replay.ActivityContext, backends: None, message: Int64Value) -> Int64Value:
        if message.value == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return work.echo(ctx, backends, message)

    with replay.connect(url) as client:
        replay.register_workflow(client, work.NAMESPACE, work.steps)
        replay.register_activity(client, work.NAMESPACE, echo)
        sys.stdin.read()


def run_shards(url: str, ms: int) -> None:
    def echo(ctx: replay.ActivityContext, backends: None, message: Int64Value) -> Int64Value:
        if ms:
            time.sleep(ms / 1000)
        return work.echo(ctx, backends, message)

    with replay.connect(url) as client:
        replay.register_workflow(client, work.NAMESPACE, work.steps, shards=SHARDS)
        replay.register_activity(client, work.NAMESPACE, echo, workers=4, shards=SHARDS)
        sys.stdin.read()


def answer_waits(url: str, number: int) -> None:
    woken: list[float] = []
    wake = threading.Semaphore(0)
    with replay.connect(url) as client:
        for make in (work.signalled, work.started):
            workflow = make(woken, wake)
            replay.register_workflow(client, work.NAMESPACE, workflow)
        for line in sys.stdin:
            if line.strip() == "ready":
                print(0.0, flush=True)
            elif wake.acquire(timeout=60):
                print(woken.pop(0), flush=True)


class Idle:
    """The worker that answers."""

    def __init__(self, client: replay.Client, max_cached: int, statements: list[int]) -> None:
        self.client = client
        self.max_cached = max_cached
        self.counted = statements

    def register(self, name: str) -> float:
        replay.register_workflow(
            self.client, work.NAMESPACE, work.asleep, name=name, max_cached=self.max_cached
        )
        return 0

    def consumers(self, count: str) -> float:
        """Register half as many idle workflows and half as many idle activities."""
        for number in range(int(count) // 2):
            replay.register_workflow(
                self.client, work.NAMESPACE, work.asleep, name=f"idle-{number}"
            )
        for number in range(int(count) - int(count) // 2):
            replay.register_activity(self.client, work.NAMESPACE, work.echo, name=f"idle-{number}")
        return 0

    def memory(self) -> float:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def cpu(self) -> float:
        return time.process_time()

    def statements(self) -> float:
        return self.counted[0]


def answer(url: str, max_cached: int) -> None:
    counted = count_sqlite_statements()
    with replay.connect(url) as client:
        idle = Idle(client, max_cached, counted)
        for line in sys.stdin:
            question, *words = line.split()
            print(getattr(idle, question)(*words), flush=True)


def count_sqlite_statements() -> list[int]:
    """Makes every SQLite connection that is opened from now on count its statements.

    SQLite has no server that could be asked, so each connection gets the driver's own trace. The
    trace costs a little CPU, which the idle measure then includes.
    """
    counted = [0]
    connect = sqlite3.connect

    def count(statement: str) -> None:
        counted[0] += 1

    def traced(*args: Any, **options: Any) -> sqlite3.Connection:
        link: sqlite3.Connection = connect(*args, **options)
        link.set_trace_callback(count)
        return link

    sqlite3.connect = traced  # type: ignore[assignment]
    return counted


if __name__ == "__main__":
    mode, url, number = sys.argv[1:]
    modes = {"steps": run_steps, "shards": run_shards, "waits": answer_waits, "idle": answer}
    modes[mode](url, int(number))
