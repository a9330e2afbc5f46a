"""Nodes of a cluster, an address that leads to them, a siege of them, and the suite on them.

A `Cluster` is a `Server` of three nodes.  `kill` kills one of them, and `suspend` freezes one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import pymysql

from replay.tools.audit import audited
from tests.crash.siege import Siege
from tests.servers import (
    ACCOUNT,
    ANSWER_SECONDS,
    ProcessServer,
    Server,
    ServerError,
    ask,
    free_port,
)

NODES = 3
#: These take servers of their own, which are not clusters.
IGNORED = [
    "--ignore=tests/crash",
    "--ignore=tests/mutants",
    "--ignore=tests/storage/test_outage.py",
]
LEASE = 2  # seconds: of a process on another node only its lease tells that it died


class Node(ProcessServer):
    """One node.  When it is started again it takes what it missed from another."""

    @abstractmethod
    def found(self) -> None:
        """Start as the first node of a new cluster."""

    def wait_until(self, sql: str, *row: object) -> None:
        """Wait until the node answers a query with this row."""
        limit = time.monotonic() + ANSWER_SECONDS
        while self._alive() and time.monotonic() < limit:
            # While it joins it may still turn connections away.
            with contextlib.suppress(pymysql.err.OperationalError):
                if ask(self.url, sql) == [row]:
                    return
            time.sleep(0.05)
        tail = (self.directory / "log").read_text(errors="replace")[-2000:]
        raise ServerError(f"{sql} does not give {row}; the node's log ends:\n{tail}")


N = TypeVar("N", bound=Node)


class Front:
    """An address.  Each connection to it leads to the first port that answers of those chosen."""

    def __init__(self, choose: Callable[[], Sequence[int]]) -> None:
        self.port = free_port()
        self._choose = choose
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def start(self) -> None:
        """Serve, in a thread of its own, until the process ends."""
        self._thread.start()
        server = asyncio.start_server(self._serve, "127.0.0.1", self.port)
        asyncio.run_coroutine_threadsafe(server, self._loop).result()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for port in await asyncio.to_thread(self._choose):
            with contextlib.suppress(OSError):
                far = await asyncio.open_connection("127.0.0.1", port)
                await asyncio.gather(self._pump(reader, far[1]), self._pump(far[0], writer))
                return
        writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()


class Cluster(Server, Generic[N]):
    """Three nodes as one server."""

    def __init__(self, nodes: Sequence[N], seed: int) -> None:
        super().__init__()
        self.nodes = nodes
        self.chance = random.Random(seed)
        self.struck: N | None = None
        self._front = Front(self.ports)

    @abstractmethod
    def ports(self) -> Sequence[int]:
        """Say where the next connection leads, first choice first."""

    @abstractmethod
    def victim(self) -> N:
        """Choose the node to strike."""

    @abstractmethod
    def wait_for_size(self, size: int) -> None:
        """Have the nodes agree on how many they are: what comes too soon divides them."""

    @abstractmethod
    def report(self) -> str:
        """Say what happened besides the kills."""

    @property
    def url(self) -> str:
        """The address that leads to the nodes."""
        return f"mysql://{ACCOUNT}:{ACCOUNT}@127.0.0.1:{self._front.port}/{ACCOUNT}"

    @property
    def others(self) -> list[N]:
        """The nodes that were not struck."""
        return [node for node in self.nodes if node is not self.struck]

    def start(self) -> None:
        """Start all nodes, or the one that was killed."""
        if self.struck is not None:
            self.struck.start()
        else:
            self.nodes[0].found()
            for node in self.nodes[1:]:
                node.start()
            self._front.start()
        self._whole()

    def kill(self) -> None:
        """End one node as `kill -9` does."""
        self._strike().kill()
        self.wait_for_size(NODES - 1)

    def stop(self) -> None:
        """Shut one node down in good order."""
        self._strike().stop()

    def suspend(self) -> None:
        """Freeze one node."""
        self._strike().suspend()

    def resume(self) -> None:
        """Let the frozen node go on."""
        assert self.struck is not None
        self.struck.resume()
        self._whole()

    def _strike(self) -> N:
        self.struck = self.victim()
        return self.struck

    def _whole(self) -> None:
        self.struck = None
        self.wait_for_size(NODES)

    def remove(self) -> None:
        """Kill all nodes and delete their data."""
        for node in self.nodes:
            node.remove()


def besiege(cluster: Cluster[Any], seed: int, kills: int, read: str) -> None:
    """Kill workers and nodes while runs go on, and audit the log that each node has then.

    `read` has a node show what the others have committed.
    """
    with tempfile.TemporaryDirectory(prefix="replay-") as directory:
        siege = Siege(cluster.url, Path(directory) / "executed", seed, cluster, lease=LEASE)
        siege.hold(kills)
    logs = [_log(node, read) for node in cluster.nodes]
    assert logs[0] == logs[1] == logs[2]
    for node in cluster.nodes:
        assert [str(finding) for finding in audited(node.url)] == []
    print(f"siege: killed {dict(siege.kills)}; {cluster.report()}", flush=True)
    print(
        f"audit: {len(siege.runs)} runs ended, and {len(logs[0])} events are the same on {NODES}"
        f" nodes; {siege.lost} times a stream had delivered an event that was lost",
        flush=True,
    )


def _log(node: Node, read: str) -> list[tuple[Any, ...]]:
    columns = "id, type, `key`, message, timestamp"
    return ask(node.url, read, f"SELECT {columns} FROM {ACCOUNT}.replay_events ORDER BY id")


def run_tests(chosen: Sequence[str], variables: dict[str, str], more: Sequence[str]) -> int:
    """Run those tests that can be run on a server, on the one that a variable names."""
    command = [sys.executable, "-m", "pytest", "-n", str(os.cpu_count()), "--dist", "worksteal"]
    command += [*chosen, *IGNORED, *more]
    return subprocess.run(command, env={**os.environ, **variables}, check=False).returncode
