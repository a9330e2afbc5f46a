"""A Galera cluster of three MariaDB nodes on this machine, and one address that leads to them all.

Every connection to that address goes to the next node, so the threads of one process are spread
over the nodes, and so are processes.  ./dev galera holds sieges on such a cluster, in which nodes
are killed and join again, and runs the suite on it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import pwd
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pymysql

from tests.crash.siege import Siege
from tests.servers import (
    ACCOUNT,
    ACCOUNT_SQL,
    ANSWER_SECONDS,
    CACHE,
    ProcessServer,
    Program,
    Server,
    ServerError,
    connect,
    free_port,
    programs,
    started,
)

NODES = 3
LIBRARY = Path("/usr/lib/galera/libgalera_smm.so")
#: Where ./dev unpacks what hands a node all data, if the system does not have it.
SCRIPTS = CACHE.parent / "galera" / "usr" / "bin"
#: These take servers of their own, which are not clusters.
IGNORED = [
    "--ignore=tests/crash",
    "--ignore=tests/mutants",
    "--ignore=tests/storage/test_outage.py",
]
LEASE = 2  # seconds: of a process on another node only its lease tells that it died


class Node(ProcessServer):
    """One node; when it is started again it takes all data from another."""

    def __init__(self, program: Program, name: str, port: int, peers: str) -> None:
        super().__init__(program)
        self._name = name
        self._common = [
            *self.options,
            "--wsrep-on=ON",
            f"--wsrep-provider={LIBRARY}",
            f"--wsrep-cluster-address={peers}",
            f"--wsrep-node-name={name}",
            "--wsrep-node-address=127.0.0.1",
            "--wsrep-sst-method=rsync",
            f"--wsrep-sst-receive-address=127.0.0.1:{free_port()}",
            f"--wsrep-provider-options={_provider_options(port)}",
            # What docs/deployment.md advises.
            "--wsrep-auto-increment-control=OFF",
            "--innodb-autoinc-lock-mode=2",
            "--binlog-format=ROW",
        ]
        # Each node makes the account for itself, before it belongs to the cluster.
        self.initial_sql = f"SET SESSION wsrep_on = OFF;\n{ACCOUNT_SQL}"
        if not os.geteuid():
            # Run by root, rsync writes as nobody: so let the whole server be nobody's.
            self.account = "nobody"
            for path in (self.directory, *self.directory.rglob("*")):
                shutil.chown(path, "nobody", pwd.getpwnam("nobody").pw_gid)

    def found(self) -> None:
        """Start as the first node of a new cluster."""
        self._start("--wsrep-new-cluster")

    def start(self) -> None:
        """Join the others."""
        self._start()

    def _start(self, *more: str) -> None:
        self.options = [*self._common, *more]
        super().start()
        self.wait_for("wsrep_local_state_comment", "Synced")

    def wait_for(self, variable: str, value: str) -> None:
        """Wait until the node says this of its state."""
        limit = time.monotonic() + ANSWER_SECONDS
        while self._alive() and time.monotonic() < limit:
            # While it joins it may still turn connections away.
            with contextlib.suppress(pymysql.err.OperationalError):
                if self._says(variable) == value:
                    return
            time.sleep(0.05)
        tail = (self.directory / "log").read_text(errors="replace")[-2000:]
        raise ServerError(f"{self._name}: {variable} is not {value}; its log ends:\n{tail}")

    def _says(self, variable: str) -> str:
        with connect(self.url) as connection, connection.cursor() as cursor:
            cursor.execute("SHOW STATUS LIKE %s", [variable])
            row = cursor.fetchone()
        return str(row[1]) if row else ""


def _provider_options(port: int) -> str:
    return ";".join(
        [
            f"gmcast.listen_addr=tcp://127.0.0.1:{port}",
            f"base_port={port}",
            f"ist.recv_addr=127.0.0.1:{free_port()}",
            "gcache.size=16M",
            "pc.recovery=false",
            # A dead node is done without after two seconds.
            "evs.keepalive_period=PT0.5S",
            "evs.inactive_check_period=PT0.25S",
            "evs.suspect_timeout=PT2S",
            "evs.inactive_timeout=PT4S",
        ]
    )


class Balancer:
    """An address; each connection to it is handed to the next of several ports that answers."""

    def __init__(self, ports: list[int]) -> None:
        self.port = free_port()
        self._ports = ports
        self._turn = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def start(self) -> None:
        """Serve, in a thread of its own, until the process ends."""
        self._thread.start()
        server = asyncio.start_server(self._serve, "127.0.0.1", self.port)
        asyncio.run_coroutine_threadsafe(server, self._loop).result()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in self._ports:
            self._turn += 1
            port = self._ports[self._turn % len(self._ports)]
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


class Cluster(Server):
    """Three nodes as one server.  What is done to the server is done to one of them, by chance."""

    def __init__(self, program: Program, seed: int = 0) -> None:
        super().__init__()
        ports = [free_port() for _ in range(NODES)]
        peers = "gcomm://" + ",".join(f"127.0.0.1:{port}" for port in ports)
        self.nodes = [Node(program, f"n{n}", port, peers) for n, port in enumerate(ports)]
        self._balancer = Balancer([node.port for node in self.nodes])
        self._chance = random.Random(seed)
        self._struck: Node | None = None

    @property
    def url(self) -> str:
        """The address that leads to all nodes."""
        return f"mysql://{ACCOUNT}:{ACCOUNT}@127.0.0.1:{self._balancer.port}/{ACCOUNT}"

    def start(self) -> None:
        """Start all nodes, or the one that was killed."""
        if self._struck is not None:
            self._struck.start()
            return
        self.nodes[0].found()
        for node in self.nodes[1:]:
            node.start()
        self._balancer.start()

    def kill(self) -> None:
        """End one node as `kill -9` does."""
        self._strike().kill()
        self._wait_for_size(NODES - 1)

    def stop(self) -> None:
        """Shut one node down in good order."""
        self._strike().stop()

    def suspend(self) -> None:
        """Freeze one node."""
        self._strike().suspend()

    def resume(self) -> None:
        """Let the frozen node go on."""
        assert self._struck is not None
        self._struck.resume()
        self._wait_for_size(NODES)

    def _strike(self) -> Node:
        self._struck = self._chance.choice(self.nodes)
        return self._struck

    def _wait_for_size(self, size: int) -> None:
        """Have the nodes agree on how many they are: what comes too soon divides them."""
        for node in self.nodes:
            if size == NODES or node is not self._struck:
                node.wait_for("wsrep_cluster_size", str(size))
                node.wait_for("wsrep_local_state_comment", "Synced")

    def remove(self) -> None:
        """Kill all nodes and delete their data."""
        for node in self.nodes:
            node.remove()


def find_program() -> Program:
    """The MariaDB to run, if this machine has all that a cluster needs."""
    os.environ["PATH"] += f":{SCRIPTS}"
    if not (LIBRARY.exists() and shutil.which("wsrep_sst_rsync") and shutil.which("rsync")):
        sys.exit("galera: Debian's packages galera-4, rsync, lsof and mariadb-server are needed")
    for program in programs():
        if program.flavour == "mariadb":
            return program
    sys.exit("galera: mariadbd is needed (Debian: apt-get install mariadb-server-core)")


def besiege(cluster: Cluster, seed: int, kills: int) -> None:
    """Kill workers and nodes while runs go on, and look at the log that each node has then."""
    with tempfile.TemporaryDirectory(prefix="replay-") as directory:
        siege = Siege(cluster.url, Path(directory) / "executed", seed, cluster, lease=LEASE)
        siege.hold(kills)
    logs = [_log(node) for node in cluster.nodes]
    assert logs[0] == logs[1] == logs[2]
    print(f"siege: {dict(siege.kills)}, {len(siege.runs)} runs, {len(logs[0])} events", flush=True)


def _log(node: Node) -> list[tuple[object, ...]]:
    with connect(node.url) as connection, connection.cursor() as cursor:
        cursor.execute("SET SESSION wsrep_sync_wait = 1")
        cursor.execute(f"SELECT id, type, `key`, message FROM {ACCOUNT}.replay_events ORDER BY id")
        return list(cursor.fetchall())


def main() -> int:
    """Hold a siege, then run the suite: what may be spread over all nodes, and the rest on one."""
    parser = argparse.ArgumentParser(
        prog="./dev galera", description=__doc__, epilog="other arguments are pytest's"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the siege (1)")
    parser.add_argument("--kills", type=int, default=20, help="in the siege (20)")
    options, more = parser.parse_known_args()
    logging.getLogger("replay").setLevel(logging.ERROR)
    program = find_program()
    cluster = Cluster(program, options.seed)
    with started(lambda: cluster):
        if options.kills:
            besiege(cluster, options.seed, options.kills)
        urls = [node.url for node in cluster.nodes]
        spread = {"REPLAY_TEST_URLS": cluster.url, "REPLAY_TEST_NODES": " ".join(urls)}
        one = {"REPLAY_TEST_URLS": urls[0]}
        return run_tests("not one_server", spread, more) or run_tests("one_server", one, more)


def run_tests(which: str, variables: dict[str, str], more: list[str]) -> int:
    """Run those tests that have this mark and can be run on a server, on this one."""
    command = [sys.executable, "-m", "pytest", "-n", str(os.cpu_count()), "--dist", "worksteal"]
    command += ["-m", which, "-k", "mariadb", *IGNORED, *more]
    return subprocess.run(command, env={**os.environ, **variables}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
