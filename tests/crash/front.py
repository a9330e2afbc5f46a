"""A server of our own as a process, for the tests to kill."""

from __future__ import annotations

import signal
import subprocess
import sys

from tests.servers import Server

LIMIT = 60  # seconds until it has to have started or ended


class FrontServer(Server):
    """`replay server` in front of the database at a URL."""

    def __init__(self, database: str) -> None:
        super().__init__()
        self._database = database
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """The URL for clients."""
        return f"grpc://127.0.0.1:{self.port}"

    def start(self) -> None:
        """As in `Server`."""
        listen = f"127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "replay", "server", "--db", self._database]
        self._process = subprocess.Popen(
            [*command, "--listen", listen],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # what it says of clients that were killed
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == f"replay: serving on {listen}\n"

    def _end(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(LIMIT)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def kill(self) -> None:
        """As in `Server`."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """As in `Server`."""
        self._end(signal.SIGTERM)

    def suspend(self) -> None:
        """As in `Server`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """As in `Server`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def remove(self) -> None:
        """As in `Server`; the database is not this server's."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self.kill()
