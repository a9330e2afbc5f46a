"""The databases: a fresh one for each measure, on disk, with default durability."""

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

import pymysql

from bench.raw import Raw
from tests.servers import programs


class Backend(Protocol):
    """Where measures run. `kind` is "sqlite" or "mysql"."""

    @property
    def kind(self) -> str: ...

    def goal(self, sqlite: float, server: float, unsynced: float | None = None) -> float:
        """The goal here. With `synchronous=normal` SQLite has another one where syncs matter."""
        ...

    def title(self) -> str:
        """The server and its settings, for the head of the table."""
        ...

    def fresh(self) -> AbstractContextManager[str]:
        """The URL of an empty database, which is removed afterwards."""
        ...


@dataclass
class Sqlite:
    directory: Path
    stem: str = "bench"
    options: str = ""  # of the URL
    kind: str = "sqlite"

    def goal(self, sqlite: float, server: float, unsynced: float | None = None) -> float:
        return unsynced if unsynced and self.options == "synchronous=normal" else sqlite

    def title(self) -> str:
        with closing(Raw("sqlite://")) as database:
            [(version,)] = database.rows("SELECT sqlite_version()")
        where = filesystem(self.directory)
        return f"SQLite {version}, file on {where}, WAL, {self.options or 'synchronous=full'}"

    @contextmanager
    def fresh(self) -> Iterator[str]:
        # Each gets a directory, because the library puts files beside the database.
        prefix = f"{self.stem}-bench-"
        with tempfile.TemporaryDirectory(prefix=prefix, dir=self.directory) as place:
            yield f"sqlite:///{place}/{self.stem}.db{self.options and '?'}{self.options}"


@dataclass
class Mysql:
    url: str
    place: str
    kind: str = "mysql"
    numbers: Iterator[int] = field(default_factory=count)

    def goal(self, sqlite: float, server: float, unsynced: float | None = None) -> float:
        return server

    def title(self) -> str:
        with closing(Raw(self.url)) as database:
            [(version, flush)] = database.rows("SELECT VERSION(), @@innodb_flush_log_at_trx_commit")
        name = "MariaDB" if "MariaDB" in version else "MySQL"
        durable = "the default: a commit is on disk" if flush == 1 else "not the default"
        setting = f"innodb_flush_log_at_trx_commit={flush} ({durable})"
        return f"{name} {version}, {self.place}, {setting}"

    @contextmanager
    def fresh(self) -> Iterator[str]:
        parts = urlsplit(self.url)
        name = f"{parts.path.strip('/')}_bench_{os.getpid()}_{next(self.numbers)}"
        with closing(Raw(self.url)) as server:
            server.rows(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")
            try:
                yield urlunsplit(parts._replace(path=f"/{name}"))
            finally:
                server.ping()
                server.rows(f"DROP DATABASE `{name}`")


def filesystem(path: Path) -> str:
    """The type of the file system that has `path`. On a tmpfs the figures mean little."""
    best, kind = "", "an unknown file system"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, this, *_ = line.split()
        if path.is_relative_to(mount) and len(mount) >= len(best):
            best, kind = mount, this
    return kind


@contextmanager
def private_mariadb(directory: Path) -> Iterator[Mysql]:
    """A new server with a new data directory, and with the settings that MariaDB ships with."""
    program = next(each for each in programs() if each.flavour == "mariadb")
    data, socket = directory / "mariadb", directory / "mariadb.sock"
    user = ["--user=root"] if os.geteuid() == 0 else []
    program.initialise(data)
    accounts = directory / "accounts.sql"
    accounts.write_text(
        "CREATE USER IF NOT EXISTS root@localhost IDENTIFIED BY '';\n"
        "GRANT ALL ON *.* TO root@localhost;\n"
    )
    command = [program.path, "--no-defaults", *user, f"--datadir={data}", f"--socket={socket}"]
    command.append(f"--init-file={accounts}")
    settings = ["--skip-networking", "--innodb-flush-log-at-trx-commit=1"]
    with open(directory / "mariadb.log", "wb") as log:
        server = subprocess.Popen([*command, *settings], stdout=log, stderr=log)
    try:
        yield Mysql(await_server(server, socket, directory / "mariadb.log"), "private server")
    finally:
        server.terminate()
        server.wait(timeout=60)


def await_server(server: subprocess.Popen[bytes], socket: Path, log: Path) -> str:
    """Wait until the server answers, create the database, and return its URL."""
    end = time.monotonic() + 60
    while server.poll() is None and time.monotonic() < end:
        try:
            link = pymysql.connect(unix_socket=str(socket), user="root")
        except pymysql.OperationalError:
            time.sleep(0.05)
            continue
        with closing(link), link.cursor() as cursor:
            cursor.execute("CREATE DATABASE replay")
        return f"mysql://root@localhost/replay?unix_socket={socket}"
    raise RuntimeError(f"mariadbd does not answer; its log ends:\n{log.read_text()[-2000:]}")


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory on disk. /tmp is often in memory, and /var/tmp is not."""
    parent = "/var/tmp" if Path("/var/tmp").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="replay-bench-", dir=parent) as name:
        yield Path(name)


def from_url(url: str) -> Backend:
    if url.startswith("sqlite:///"):
        name, _, options = url.removeprefix("sqlite:///").partition("?")
        path = Path(name).absolute()
        return Sqlite(path.parent, path.stem, options)
    if url.startswith("mysql://"):
        return Mysql(url, f"server at {urlsplit(url).hostname}")
    raise ValueError(
        f"{url}: a benchmark needs sqlite:///FILE[?synchronous=normal] or mysql://USER:PW@HOST/DATABASE"
    )
