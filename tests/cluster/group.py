"""A group of MySQL servers that replicate to each other, with one primary.

Every connection to its address goes to the primary that the other members see.  Connections stay
where they are when there is a new primary: the library has to leave an old one by itself.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pymysql

from replay import connect
from replay.storage.database import DatabaseError, Unavailable
from tests.cluster.cluster import NODES, Cluster, Node, besiege, run_tests
from tests.crash.siege import connected
from tests.servers import (
    ACCOUNT,
    ACCOUNT_SQL,
    ANSWER_SECONDS,
    Program,
    ask,
    free_port,
    programs,
    started,
)
from tests.servers import connect as open_connection

MEMBERS = "performance_schema.replication_group_members"
START = f"START GROUP_REPLICATION USER = '{ACCOUNT}', PASSWORD = '{ACCOUNT}'"
#: A read waits for what other members have committed.
READ = "SET SESSION group_replication_consistency = 'BEFORE'"
NAMESPACE = "group"
CALLS = 100
#: Of four kills, so many hit the primary.
OF_FOUR = 3


class Member(Node):
    """One member.  After a restart it takes from the others what it missed."""

    def __init__(self, program: Program, number: int, group: str, ports: Sequence[int]) -> None:
        super().__init__(program)
        addresses = [f"127.0.0.1:{port}" for port in ports]
        self.options.remove("--skip-log-bin")
        self.options += [
            f"--server-id={number + 1}",
            "--log-bin=binlog",
            "--sync-binlog=1",
            "--gtid-mode=ON",
            "--enforce-gtid-consistency=ON",
            "--report-host=127.0.0.1",
            # A group refuses changes of a table without a key.  The tests make such tables.
            "--sql-generate-invisible-primary-key=ON",
            "--plugin-load-add=group_replication.so",
        ]
        settings = {
            "group-name": group,
            "local-address": addresses[number],
            "group-seeds": ",".join(addresses),
            "start-on-boot": "OFF",
            "recovery-get-public-key": "ON",
            # A member that does not answer for five seconds is done without.
            "member-expel-timeout": "0",
            # The default of MySQL 8.0: the library has to ask for more itself.
            "consistency": "EVENTUAL",
        }
        self.options += [
            f"--loose-group-replication-{name}={value}" for name, value in settings.items()
        ]
        # Each member makes the account for itself.
        self.initial_sql = f"SET SESSION sql_log_bin = 0;\n{ACCOUNT_SQL}"

    def found(self) -> None:
        """As in `Node`."""
        super().start()
        bootstrap = "SET GLOBAL group_replication_bootstrap_group"
        ask(self.url, f"{bootstrap} = ON", START)
        ask(self.url, f"{bootstrap} = OFF")

    def start(self) -> None:
        """Join the others."""
        super().start()
        ask(self.url, START)

    def primary(self) -> int:
        """The port of the primary that this member sees; 0 if it sees none."""
        sql = f"SELECT member_port FROM {MEMBERS} WHERE member_role = 'PRIMARY'"
        rows = ask(self.url, f"{sql} AND member_state = 'ONLINE'")
        return int(rows[0][0]) if rows else 0


class Group(Cluster[Member]):
    """Members of which one, the primary, takes writes."""

    def __init__(self, program: Program, seed: int) -> None:
        ports, name = [free_port() for _ in range(NODES)], str(uuid.uuid4())
        super().__init__([Member(program, n, name, ports) for n in range(NODES)], seed)
        self._took: list[float] = []  # seconds that each fail-over took

    def _primaries(self) -> Iterator[int]:
        """Yield the primary that each member sees.  Those that were not struck are the majority."""
        for member in self.others:
            with contextlib.suppress(pymysql.err.OperationalError):
                yield member.primary()

    def ports(self) -> Sequence[int]:
        """As in `Cluster`: each connection goes to the primary."""
        return [next(self._primaries(), 0)]

    def primary(self) -> Member:
        """The member that takes writes."""
        (port,) = self.ports()
        return next(member for member in self.nodes if member.port == port)

    def victim(self) -> Member:
        """As in `Cluster`: mostly the primary."""
        primary = self.primary()
        if self.chance.randrange(4) < OF_FOUR:
            return primary
        return self.chance.choice([node for node in self.nodes if node is not primary])

    def kill_primary(self) -> None:
        """Kill the primary, and do not wait for another one."""
        self.struck = self.primary()
        self.struck.kill()

    def change_primary(self) -> None:
        """Make another member the primary, in good order: connections to the old one go on."""
        old = self.primary()
        new = next(member for member in self.nodes if member is not old)
        ((id,),) = ask(new.url, "SELECT @@server_uuid")
        ask(old.url, f"SELECT group_replication_set_as_primary('{id}')")

    def kill(self) -> None:
        """As in `Cluster`; return when there is a primary."""
        before, began = self.primary(), time.monotonic()
        super().kill()
        self._promoted(before, began)

    def suspend(self) -> None:
        """Freeze one member until the others have gone on without it."""
        before, began = self.primary(), time.monotonic()
        super().suspend()
        self.wait_for_size(NODES - 1)
        self._promoted(before, began)

    def _promoted(self, before: Member, began: float) -> None:
        if self.struck is before:
            self.primary().wait_until("SELECT @@super_read_only", 0)
            self._took.append(time.monotonic() - began)

    def wait_for_size(self, size: int) -> None:
        """As in `Cluster`."""
        # A member that only cannot be reached still counts: it may be expelled after it came back.
        sums = "SUM(member_state = 'ONLINE'), SUM(member_role = 'PRIMARY')"
        for member in self.others:
            member.wait_until(f"SELECT COUNT(*), {sums} FROM {MEMBERS}", size, size, 1)

    def report(self) -> str:
        """As in `Cluster`."""
        times = f" in {min(self._took):.1f} to {max(self._took):.1f} s" if self._took else ""
        return f"{len(self._took)} times another member became the primary{times}"


def find_program() -> Program:
    """The MySQL to run."""
    for program in programs():
        if program.flavour == "mysql":
            return program
    sys.exit(
        "cluster: MySQL 8.0.30 or newer is needed, as mysqld on the PATH, with its plugin"
        " group_replication (Ubuntu: apt-get install mysql-server-core-8.0)"
    )


class Caller:
    """A program that starts runs through the address of the group, until it is told to stop."""

    def __init__(self, url: str, name: str) -> None:
        self.name = name
        self.started: list[str] = []  # runs whose start was acknowledged
        self.errors: Counter[str] = Counter()
        self.longest = 0.0  # seconds between two acknowledgements
        self._url = url
        self._more = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        last = time.monotonic()
        with connected(self._url, loops=False) as client:
            while not self._stop.is_set():
                run = f"call-{len(self.started)}"
                try:
                    client.run_workflow(NAMESPACE, self.name, run, None)
                except Unavailable as error:
                    self.errors[type(error).__name__] += 1
                    continue
                self.longest, last = max(self.longest, time.monotonic() - last), time.monotonic()
                with self._more:
                    self.started.append(run)
                    self._more.notify()

    def wait_for(self, more: int) -> None:
        """Wait until so many more runs were started."""
        with self._more:
            goal = len(self.started) + more
            assert self._more.wait_for(lambda: len(self.started) >= goal, ANSWER_SECONDS)

    def stop(self) -> None:
        """End it."""
        self._stop.set()
        self._thread.join()


def interrupt(cluster: Group, name: str, blow: Callable[[], None]) -> None:
    """Take the primary from a program that starts runs: each acknowledged one must be there."""
    caller, before = Caller(cluster.url, name), cluster.primary()
    caller.wait_for(CALLS)
    blow()
    caller.wait_for(CALLS)
    caller.stop()
    assert cluster.primary() is not before
    sql = f"SELECT run FROM {ACCOUNT}.replay_events WHERE workflow = '{name}' AND type = 1"
    found = [run for (run,) in ask(cluster.primary().url, sql)]
    assert sorted(found) == sorted(caller.started), "a start was lost or doubled"
    print(
        f"{name}: {len(found)} starts acknowledged, each is there once; the caller stood still for"
        f" {caller.longest:.1f} s and got {dict(caller.errors)}",
        flush=True,
    )


def delay(cluster: Group) -> None:
    """Make a primary of a member that lags: a read must wait for what was acknowledged."""
    with connect(cluster.url, loops=False) as client, contextlib.ExitStack() as locks:
        primary = cluster.primary()
        for member in cluster.nodes:
            if member is not primary:
                lock = locks.enter_context(open_connection(member.url))
                lock.cursor().execute(f"LOCK TABLES {ACCOUNT}.replay_events READ")
        for n in range(CALLS):
            client.run_workflow(NAMESPACE, "late", f"call-{n}", None)
        cluster.kill_primary()
        cluster.wait_for_size(NODES - 1)
        url = cluster.primary().url
        with ThreadPoolExecutor(1) as executor:
            read = executor.submit(_late, url)
            held = "SELECT 1 FROM information_schema.processlist WHERE state = 'Executing hook on"
            while not read.done() and not ask(url, f"{held} transaction begin.'"):
                time.sleep(0.01)
            waited = not read.done()
            locks.close()
            assert (read.result(), waited) == (CALLS, True)
    print(f"late: a read on the new primary waited for {CALLS} events that it lacked", flush=True)
    cluster.start()


def _late(url: str) -> int:
    with connect(url, loops=False) as client:
        sql = "SELECT COUNT(*) FROM replay_events WHERE workflow = 'late'"
        return int(client.log.database.query(sql)[0][0])


def refuse_many_primaries(cluster: Group) -> None:
    """Have the group take writes on each member: `connect` has to refuse it then."""
    url = cluster.primary().url
    ask(url, "SELECT group_replication_switch_to_multi_primary_mode()")
    try:
        connect(cluster.url).close()
    except DatabaseError as error:
        print(f"multi-primary mode: {error}", flush=True)
    else:
        raise AssertionError("connect takes a group in multi-primary mode")
    ask(url, "SELECT group_replication_switch_to_single_primary_mode()")
    cluster.wait_for_size(NODES)


def run(seed: int, kills: int, more: Sequence[str]) -> int:
    """Hold a siege, let primaries fail in other ways, then run the suite on the primary."""
    cluster = Group(find_program(), seed)
    with started(lambda: cluster):
        if kills:
            besiege(cluster, seed, kills, READ)
        interrupt(cluster, "kill", cluster.kill_primary)
        cluster.start()
        interrupt(cluster, "change", cluster.change_primary)
        delay(cluster)
        refuse_many_primaries(cluster)
        return run_tests(["-k", "mysql"], {"REPLAY_TEST_URLS": cluster.url}, more)
