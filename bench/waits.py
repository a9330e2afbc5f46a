"""Waits: how soon a run goes on after a signal or a start, and how late it wakes from a sleep."""

import threading
import time
from collections.abc import Callable

from google.protobuf.wrappers_pb2 import Int64Value

import replay
from bench import work
from bench.backends import Backend
from bench.rows import Row, Sizes, at_most, median_ms, percentile, plain
from bench.worker import Worker

PAUSE = 0.03  # seconds between signals: long enough for the run to wait again
QUIET = 0.1  # seconds between those to another process: long enough for it to be idle again


def signal(backend: Backend, sizes: Sizes) -> list[Row]:
    """The time from the call of signal_run to the workflow's next line, in one process."""
    woken: list[float] = []
    sent = []
    wake = threading.Semaphore(0)
    with backend.fresh() as url, replay.connect(url) as client:
        workflow = work.signalled(woken, wake)
        replay.register_workflow(client, work.NAMESPACE, workflow, name="signalled")
        start(client, "signalled", "run", sizes.signals)
        for number in range(sizes.signals):
            time.sleep(PAUSE)
            sent.append(time.perf_counter())
            client.signal_run(work.NAMESPACE, "signalled", "run", 1, Int64Value(), str(number))
            take(wake, "a signal to be taken")
    delays = [after - before for before, after in zip(sent, woken, strict=True)]
    return [
        at_most(
            "from signal_run until the run goes on, p50",
            median_ms(delays),
            backend.goal(0.9, 2.5),
            "ms",
        )
    ]


def elsewhere(backend: Backend, sizes: Sizes) -> list[Row]:
    """The time from a call to the workflow's next line in another process, which is idle before."""
    with (
        backend.fresh() as url,
        Worker("waits", url, sizes.signals) as worker,
        replay.connect(url, loops=False) as client,
    ):
        worker.ask("ready")
        time.sleep(1)  # processes that have just started have yet to hear of each other
        start(client, "signalled", "run", sizes.signals)

        def send(number: int) -> None:
            client.signal_run(work.NAMESPACE, "signalled", "run", 1, Int64Value(), str(number))

        def begin(number: int) -> None:
            start(client, "started", f"run-{number}", 0)

        signals = delays(worker, sizes.signals, send)
        starts = delays(worker, sizes.signals, begin)
    return [*elsewhere_rows("signal_run", signals), *elsewhere_rows("run_workflow", starts)]


def delays(worker: Worker, count: int, call: Callable[[int], None]) -> list[float]:
    """Call it so often; the seconds until each wakes the worker."""
    found = []
    for number in range(count):
        time.sleep(QUIET)
        before = time.perf_counter()
        call(number)
        found.append(worker.ask("woken") - before)
    return found


def elsewhere_rows(call: str, found: list[float]) -> list[Row]:
    what = f"from {call} until the run goes on in another process"
    return [
        at_most(f"{what}, p50", median_ms(found), 3.0, "ms"),
        plain(f"{what}, p99", percentile(found, 99) * 1e3, "ms"),
    ]


def sleep(backend: Backend, sizes: Sizes) -> list[Row]:
    """The time from a sleep's due moment, one second after its request, to the next line."""
    woken: dict[str, float] = {}
    wake = threading.Semaphore(0)
    with backend.fresh() as url, replay.connect(url) as client:
        workflow = work.sleeper(woken, wake)
        replay.register_workflow(client, work.NAMESPACE, workflow, name="sleeper")
        for number in range(sizes.sleepers):
            start(client, "sleeper", f"run-{number}", 0)
        for _ in range(sizes.sleepers):
            take(wake, "a sleep to end")
        late = [woken[run] - asked - 1.0 for run, asked in requests(client)]
    what = f"lateness of a 1 s sleep, {sizes.sleepers} at once, p50"
    return [at_most(what, median_ms(late), 5.0, "ms")]


def requests(client: replay.Client) -> list[tuple[str, float]]:
    """The run and the time of each request in the log."""
    events = client.stream(work.NAMESPACE, to_head=True)
    return [
        (event.key.run, event.timestamp.timestamp())
        for event in events
        if event.type == replay.EventType.ACTIVITY_REQUEST
    ]


def start(client: replay.Client, workflow: str, run: str, value: int) -> None:
    client.run_workflow(work.NAMESPACE, workflow, run, Int64Value(value=value))


def take(wake: threading.Semaphore, what: str) -> None:
    if not wake.acquire(timeout=60):
        raise TimeoutError(f"waited 60 s for {what}")
