"""A Galera cluster of MariaDB nodes.

Every connection to its address goes to the next node, so the threads of one process are spread
over the nodes, and so are processes.
"""

from __future__ import annotations

import os
import pwd
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.cluster.cluster import NODES, Cluster, Node, besiege, run_tests
from tests.servers import ACCOUNT_SQL, CACHE, Program, free_port, programs, started

LIBRARY = Path("/usr/lib/galera/libgalera_smm.so")
#: Where ./dev unpacks what hands a node all data, if the system does not have it.
SCRIPTS = CACHE.parent / "galera" / "usr" / "bin"
#: A read waits for what other nodes have committed.
READ = "SET SESSION wsrep_sync_wait = 1"


class GaleraNode(Node):
    """One node; when it is started again it takes all data from another."""

    def __init__(self, program: Program, name: str, port: int, peers: str) -> None:
        super().__init__(program)
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
        """As in `Node`."""
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
        self.wait_until(f"SHOW STATUS LIKE '{variable}'", variable, value)


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


class Galera(Cluster[GaleraNode]):
    """Nodes that all take writes.  Chance says which one is struck."""

    def __init__(self, program: Program, seed: int) -> None:
        ports = [free_port() for _ in range(NODES)]
        peers = "gcomm://" + ",".join(f"127.0.0.1:{port}" for port in ports)
        nodes = [GaleraNode(program, f"n{n}", port, peers) for n, port in enumerate(ports)]
        super().__init__(nodes, seed)
        self._turn = 0

    def ports(self) -> Sequence[int]:
        """As in `Cluster`: each connection goes to the next node."""
        self._turn += 1
        ports = [node.port for node in self.nodes]
        first = self._turn % NODES
        return ports[first:] + ports[:first]

    def victim(self) -> GaleraNode:
        """As in `Cluster`."""
        return self.chance.choice(self.nodes)

    def wait_for_size(self, size: int) -> None:
        """As in `Cluster`."""
        for node in self.others:
            node.wait_for("wsrep_cluster_size", str(size))
            node.wait_for("wsrep_local_state_comment", "Synced")

    def report(self) -> str:
        """As in `Cluster`."""
        return "all nodes took writes"


def find_program() -> Program:
    """The MariaDB to run, if this machine has all that a cluster needs."""
    os.environ["PATH"] += f":{SCRIPTS}"
    if not (LIBRARY.exists() and shutil.which("wsrep_sst_rsync") and shutil.which("rsync")):
        sys.exit("cluster: Debian's packages galera-4, rsync, lsof and mariadb-server are needed")
    for program in programs():
        if program.flavour == "mariadb":
            return program
    sys.exit("cluster: mariadbd is needed (Debian: apt-get install mariadb-server-core)")


def run(seed: int, kills: int, more: Sequence[str]) -> int:
    """Hold a siege, then run the suite: what may be spread over all nodes, and the rest on one."""
    cluster = Galera(find_program(), seed)
    with started(lambda: cluster):
        if kills:
            besiege(cluster, seed, kills, READ)
        urls = [node.url for node in cluster.nodes]
        spread = {"REPLAY_TEST_URLS": cluster.url, "REPLAY_TEST_NODES": " ".join(urls)}
        one = {"REPLAY_TEST_URLS": urls[0]}
        tests = ["-k", "mariadb", "-m"]
        failed = run_tests([*tests, "not one_server"], spread, more)
        return failed or run_tests([*tests, "one_server"], one, more)
