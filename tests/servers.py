"""Real database servers for the tests and the benchmarks.

A private `Server` is small, starts in a fraction of a second from data that is initialised once
per machine, can be killed, frozen and started again on the same data, and is gone with the
process that started it, however that ends.  `fresh_database` gives a test a database of its own
on any server.  Nothing here knows pytest or replay.
"""

import contextlib
import fcntl
import hashlib
import os
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pymysql

CACHE = Path(__file__).resolve().parent.parent / ".cache" / "servers"
SEARCH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
ACCOUNT = "replay"  # name, password and database on a private server
IMAGE = "mariadb:10.11"
ANSWER_SECONDS = 60.0
#: Never in memory: MariaDB takes /dev/shm for a device that outlives a crash, writes there at once,
#: and loses nothing when it is killed.
DISK = "/var/tmp"
NOT_FOUND = (
    "no database server: install mariadbd (Debian: apt-get install mariadb-server-core) "
    "or name servers in REPLAY_TEST_URLS"
)

# --init-file wants one statement a line.
ACCOUNT_SQL = f"""\
CREATE DATABASE IF NOT EXISTS {ACCOUNT};
CREATE USER IF NOT EXISTS '{ACCOUNT}'@'%' IDENTIFIED BY '{ACCOUNT}';
GRANT ALL ON *.* TO '{ACCOUNT}'@'%' WITH GRANT OPTION;
"""

OPTIONS = [
    "--bind-address=127.0.0.1",
    "--skip-name-resolve",
    "--character-set-server=utf8mb4",
    "--max-connections=400",
    "--performance-schema=OFF",
    "--skip-log-bin",
    "--innodb-buffer-pool-size=64M",
    "--innodb-flush-log-at-trx-commit=1",
    # A commit reaches the kernel but not the disk: it outlives the server, not the machine.
    "--innodb-flush-method=nosync",
    "--innodb-doublewrite=OFF",
    "--innodb-buffer-pool-dump-at-shutdown=OFF",
    "--innodb-buffer-pool-load-at-startup=OFF",
]
FLAVOUR_OPTIONS = {
    "mariadb": ["--innodb-log-file-size=16M"],
    "mysql": [
        "--innodb-redo-log-capacity=32M",
        "--loose-mysqlx=OFF",
        "--innodb-fsync-threshold=0",
        # Its default is a directory that only an installation as a service makes.
        "--secure-file-priv=NULL",
    ],
}


class ServerError(Exception):
    """A server that cannot be found, started or reached; the text says what to do."""


@dataclass(frozen=True)
class Program:
    """An installed database server."""

    flavour: str
    version: str
    path: str

    def arguments(self, data: Path, account: str = "root") -> list[str]:
        """Give what initialising and running have in common."""
        # It refuses to run as root unless told to.
        user = [] if os.geteuid() else [f"--user={account}"]
        return ["--no-defaults", f"--datadir={data}", *user, *FLAVOUR_OPTIONS[self.flavour]]

    def initialise(self, data: Path) -> None:
        """Fill an empty data directory."""
        if self.flavour == "mysql":
            _output(self.path, *self.arguments(data), "--initialize-insecure")
            # The server's identity, which copies must not share.
            (data / "auto.cnf").unlink(missing_ok=True)
            return
        # mariadb-install-db would want programs of the client's package; this is its main step.
        data.mkdir()
        tables = "CREATE DATABASE mysql;\nUSE mysql;\n" + self._system_tables().read_text()
        _output(self.path, *self.arguments(data), "--bootstrap", stdin=tables)

    def _system_tables(self) -> Path:
        share = Path(self.path).resolve().parent.parent / "share"
        for name in ("mariadb", "mysql"):
            for found in share.glob(f"m*/{name}_system_tables.sql"):
                return found
        raise ServerError(f"{self.path} is here, but its system_tables.sql is not below {share}")

    def template(self) -> Path:
        """Return an initialised data directory to copy; it is made once."""
        facts = repr((self, FLAVOUR_OPTIONS[self.flavour], os.geteuid()))
        digest = hashlib.sha256(facts.encode()).hexdigest()[:8]
        target = CACHE / f"{self.flavour}-{self.version}-{digest}"
        CACHE.mkdir(parents=True, exist_ok=True)
        with open(CACHE / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not target.exists():
                with tempfile.TemporaryDirectory(dir=CACHE) as unfinished:
                    data = Path(unfinished) / "data"
                    self.initialise(data)
                    data.rename(target)
        return target


def programs() -> list[Program]:
    """Find the servers of this machine, MariaDB first; mysqld may be another name of it."""
    found: dict[str, Program] = {}
    for name in ("mariadbd", "mysqld"):
        path = shutil.which(name, path=SEARCH)
        if path is None:
            continue
        text = _output(path, "--version")
        version = re.search(r"Ver (\S+)", text)
        if version is None:
            raise ServerError(f"{path} --version says: {text}")
        flavour = "mariadb" if "mariadb" in text.lower() else "mysql"
        found.setdefault(flavour, Program(flavour, version[1], path))
    return list(found.values())


class Server(ABC):
    """A private server whose address and data stay the same when it is started again."""

    def __init__(self) -> None:
        self.port = free_port()
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """The server's URL; its path is an empty database."""

    @abstractmethod
    def start(self) -> None:
        """Start, or start again after `kill` or `stop`; return when it answers."""

    @abstractmethod
    def kill(self) -> None:
        """End it as `kill -9` does."""

    @abstractmethod
    def stop(self) -> None:
        """Shut it down in good order."""

    @abstractmethod
    def suspend(self) -> None:
        """Freeze it: its connections stay open and nothing is answered."""

    @abstractmethod
    def resume(self) -> None:
        """Let a suspended server go on."""

    @abstractmethod
    def remove(self) -> None:
        """Kill it if it runs and delete its data."""

    def _guard_with(self, script: str) -> None:
        """Have the script run by another process when this one ends without `_unguard`."""
        self._guard = subprocess.Popen(
            # Nothing is ever written: reading ends when the other end of the pipe dies with us.
            ["sh", "-c", f"read -r nothing; {script}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _unguard(self) -> None:
        if self._guard is not None:
            self._guard.kill()
            self._guard.communicate()
            self._guard = None


class ProcessServer(Server):
    """A private server that is a child of this process."""

    def __init__(self, program: Program, folder: str | None = None) -> None:
        super().__init__()
        self.program = program
        self.options = list(OPTIONS)
        self.account = "root"  # whose process it is, if we are root
        template = program.template()
        self.directory = Path(tempfile.mkdtemp(prefix="replay-", dir=folder or _short_directory()))
        self.socket = self.directory / "sock"
        self._process: subprocess.Popen[bytes] | None = None
        shutil.copytree(template, self.directory / "data")
        self.initial_sql = ACCOUNT_SQL
        (self.directory / "tmp").mkdir()

    @property
    def url(self) -> str:
        """The server's URL, by TCP and by unix socket."""
        address = f"{ACCOUNT}:{ACCOUNT}@127.0.0.1:{self.port}/{ACCOUNT}"
        return f"mysql://{address}?unix_socket={self.socket}"

    def start(self) -> None:
        """Start it on what is in its directory."""
        (self.directory / "init.sql").write_text(self.initial_sql)
        # mysqld takes what it left when it was killed for another server's.
        for left in (self.socket, self.directory / "sock.lock"):
            left.unlink(missing_ok=True)
        command = [
            self.program.path,
            *self.program.arguments(self.directory / "data", self.account),
            f"--socket={self.socket}",
            f"--port={self.port}",
            f"--pid-file={self.directory / 'pid'}",
            f"--init-file={self.directory / 'init.sql'}",
            # One that starts deletes what others, which then crash, have in a directory they share.
            f"--tmpdir={self.directory / 'tmp'}",
            *self.options,
        ]
        with open(self.directory / "log", "ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C is for the tests, which then end the server themselves.
                start_new_session=True,
            )
        directory = shlex.quote(str(self.directory))
        self._guard_with(f"kill -9 {self._process.pid}; rm -rf {directory}")
        try:
            _wait_for_answer(self.url, self._alive)
        except ServerError as error:
            tail = (self.directory / "log").read_text(errors="replace")[-2000:]
            raise ServerError(f"{error}; its log ends:\n{tail}") from None

    def kill(self) -> None:
        """Send SIGKILL."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Send SIGTERM and wait."""
        self._end(signal.SIGTERM)

    def suspend(self) -> None:
        """Send SIGSTOP."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Send SIGCONT."""
        self._running().send_signal(signal.SIGCONT)

    def remove(self) -> None:
        """Kill it if it runs and delete its directory."""
        if self._process is not None:
            self.kill()
        shutil.rmtree(self.directory)

    def _alive(self) -> bool:
        return self._running().poll() is None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ServerError("the server is not running")
        return self._process

    def _end(self, how: signal.Signals) -> None:
        process = self._running()
        process.send_signal(how)
        process.wait(ANSWER_SECONDS)
        self._process = None
        # Only now: until it is waited for, its id cannot be another process's.
        self._unguard()


class DockerServer(Server):
    """A private MariaDB in a container, for machines that have a Docker engine but no server."""

    def __init__(self) -> None:
        super().__init__()
        account = [f"--env=MARIADB_{name}={ACCOUNT}" for name in ("ROOT_PASSWORD", "DATABASE")]
        port = f"--publish=127.0.0.1:{self.port}:3306"
        self._container = _output("docker", "create", port, *account, IMAGE).split()[-1]
        self._guard_with(f"docker rm --force --volumes {self._container}")

    @property
    def url(self) -> str:
        """The server's URL, by TCP."""
        return f"mysql://root:{ACCOUNT}@127.0.0.1:{self.port}/{ACCOUNT}"

    def start(self) -> None:
        """Start the container; its data is in a volume."""
        self._docker("start")
        _wait_for_answer(self.url, lambda: True)

    def kill(self) -> None:
        """Send SIGKILL to all in the container."""
        self._docker("kill")

    def stop(self) -> None:
        """Send SIGTERM and wait."""
        self._docker("stop")

    def suspend(self) -> None:
        """Freeze the container."""
        self._docker("pause")

    def resume(self) -> None:
        """Let it go on."""
        self._docker("unpause")

    def remove(self) -> None:
        """Delete the container and its volume."""
        self._docker("rm", "--force", "--volumes")
        self._unguard()

    def _docker(self, *command: str) -> None:
        _output("docker", *command, self._container)


def private_servers(folder: str | None = None) -> dict[str, Callable[[], Server]]:
    """Give, by flavour, what makes a private server of it here; empty where nothing does."""
    makers: dict[str, Callable[[], Server]] = {
        program.flavour: partial(ProcessServer, program, folder) for program in programs()
    }
    if not makers and shutil.which("docker"):
        engine = subprocess.run(["docker", "info"], capture_output=True, check=False)
        if engine.returncode == 0:
            makers["mariadb"] = DockerServer
    return makers


@contextlib.contextmanager
def started(make: Callable[[], Server]) -> Iterator[Server]:
    """Start a private server; it is removed at the end."""
    server = make()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@contextlib.contextmanager
def fresh_database(url: str) -> Iterator[str]:
    """Make an empty database on the server; give its URL, and drop it at the end."""
    name = f"replay_test_{uuid.uuid4().hex}"
    with connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    # Where the URL leads to several nodes, each has to have it before anybody connects to it.
    for node in os.environ.get("REPLAY_TEST_NODES", "").split():
        ask(node, "SET SESSION wsrep_sync_wait = 1", "SELECT 1")
    try:
        yield urlsplit(url)._replace(path=f"/{name}").geturl()
    finally:
        with connect(url) as connection, connection.cursor() as cursor:
            # A transaction that a failed test left open would make the drop wait for it.
            cursor.execute("SELECT id FROM information_schema.processlist WHERE db = %s", [name])
            for (left,) in cursor.fetchall():
                with contextlib.suppress(pymysql.err.OperationalError):  # it has just ended
                    cursor.execute("KILL %s", [left])
            cursor.execute(f"DROP DATABASE {name}")


def connect(url: str) -> "pymysql.Connection[Any]":
    """Connect to the server of a mysql:// URL, whatever database the URL names."""
    parts = urlsplit(url)
    query = dict(parse_qs(parts.query))
    return pymysql.connect(
        host=parts.hostname or "127.0.0.1",
        port=parts.port or 3306,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        unix_socket=query.get("unix_socket", [None])[0],
        ssl_disabled=True,
        connect_timeout=5,
        autocommit=True,
    )


def ask(url: str, *statements: str) -> list[tuple[Any, ...]]:
    """Run statements on a connection of their own; return the rows of the last."""
    with connect(url) as connection, connection.cursor() as cursor:
        for sql in statements:
            cursor.execute(sql)
        return list(cursor.fetchall())


def label(url: str) -> str:
    """Name a server by what it says it is: `mysql-9.7`, `mariadb-10.11`."""
    try:
        with connect(url) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT version()")
            row = cursor.fetchone()
    except pymysql.err.OperationalError as error:
        raise ServerError(f"no server answers at {url}: {error}") from error
    assert row is not None
    flavour = "mariadb" if "mariadb" in row[0].lower() else "mysql"
    return f"{flavour}-{'.'.join(row[0].split('.')[:2])}"


def _output(*command: str, stdin: str = "") -> str:
    """Run a command that has to succeed; give what it prints."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ServerError(f"{shlex.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def _wait_for_answer(url: str, alive: Callable[[], bool]) -> None:
    limit = time.monotonic() + ANSWER_SECONDS
    while True:
        try:
            connect(url).close()
            return
        except pymysql.err.OperationalError as error:
            if not alive():
                raise ServerError("the server ended while it started") from error
            if time.monotonic() > limit:
                raise ServerError(f"the server does not answer: {error}") from error
        time.sleep(0.01)


def add_options(url: str, **options: object) -> str:
    """A database's URL with further options."""
    more = "&".join(f"{name}={value}" for name, value in options.items())
    return f"{url}{'&' if '?' in url else '?'}{more}"


def free_port() -> int:
    """Find a port that no system gives out by itself: it must stay free while a server is down."""
    while True:
        port = random.SystemRandom().randrange(24000, 32000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port


def _short_directory() -> str:
    """Find where temporary files go: the path of a unix socket has at most 107 bytes."""
    usual = tempfile.gettempdir()
    return usual if len(usual) < 70 else "/tmp"
