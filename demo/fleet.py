"""Starts, kills, replaces and stops the worker processes."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self


class WorkerEnded(Exception):
    """A worker ended although nobody asked it to. The text has its last log line."""


@dataclass(frozen=True)
class Worker:
    """A worker process and its place in the fleet, which a replacement inherits."""

    index: int
    process: subprocess.Popen[bytes]

    @property
    def name(self) -> str:
        """The worker's name, with which it signs its prices."""
        return f"worker {self.process.pid}"


class Fleet:
    """Some workers on one database. On leaving the context, all are stopped."""

    def __init__(self, url: str, data: Path, size: int, log: Path) -> None:
        self._url = url
        self._data = data
        self._size = size
        self._log = log
        self._workers: dict[str, Worker] = {}

    def __enter__(self) -> Self:
        for index in range(self._size):
            self.start(index)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self, index: int) -> Worker:
        """Starts a worker for this place in the fleet."""
        command = [sys.executable, "-m", "demo.worker", "--url", self._url]
        command += ["--data", str(self._data), "--index", str(index), "--workers", str(self._size)]
        command += ["--parent", str(os.getpid())]
        with self._log.open("ab") as log:
            # A session of its own keeps Ctrl-C, which is meant for the driver, from the worker.
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        worker = Worker(index, process)
        self._workers[worker.name] = worker
        return worker

    def kill(self, name: str) -> Worker:
        """Ends a worker with SIGKILL, so it cannot clean up."""
        worker = self._workers.pop(name)
        worker.process.kill()
        worker.process.wait()
        return worker

    def names(self) -> set[str]:
        """The workers that should be alive."""
        return set(self._workers)

    def check(self) -> None:
        """Raises WorkerEnded if a worker ended by itself."""
        for worker in self._workers.values():
            code = worker.process.poll()
            if code is not None:
                raise WorkerEnded(
                    f"{worker.name} ended by itself (exit code {code}): {self._last()}"
                )

    def stop(self) -> None:
        """Asks the workers to end, and kills those that have not after five seconds."""
        for worker in self._workers.values():
            worker.process.terminate()
        for worker in self._workers.values():
            try:
                worker.process.wait(5)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
        self._workers.clear()

    def _last(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return lines[-1] if lines else "it logged nothing"
