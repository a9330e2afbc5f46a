"""What the tests share: a clock to turn, consumers to step, faults to inject, logs to compare."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import pymysql
from google.protobuf.message import Message

from replay import (
    Client,
    Consumer,
    Event,
    EventType,
    Key,
    connect,
    register_activity,
    register_workflow,
)
from replay.activity import ActivityConsumer
from replay.log import Log
from replay.server.remote import RemoteClient
from replay.storage.database import (
    TABLES,
    Database,
    Insert,
    OutcomeUnknown,
    Row,
    Statement,
    Unavailable,
)
from replay.storage.mysql import MySQL
from replay.storage.sqlite import Sqlite
from tests import servers
from tests.example_pb2 import Int
from tests.ledger import ROOT
from tests.serving import SERVING

START = datetime(2030, 1, 1, tzinfo=UTC)


def importing(*folders: Path) -> dict[str, str]:
    """The environment of a program that imports from these folders, then from the project."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (*folders, ROOT)))}


def database(client: Client) -> Database:
    """The database that a client's log is in, if need be behind the server in this process."""
    if isinstance(client, RemoteClient):
        return SERVING[client.log.name].database()
    return client.log.database


def behind(client: Client) -> Log:
    """The log in the database itself, which takes what a server would refuse."""
    if isinstance(client, RemoteClient):
        return SERVING[client.log.name].host().log
    return client.log


def loops(client: Client) -> list[Consumer]:
    """What serves sleeps and signals for this client, to be stepped; none in another process."""
    if client.log.name in SERVING:
        return SERVING[client.log.name].loops()
    return client.loops()


def base(url: str) -> str:
    """The URL of the database that is meant, if need be behind the server in this process."""
    return SERVING[url].base() if url in SERVING else url


class Clock:
    """The time, for a database that is given it; it stands still until it is moved."""

    def __init__(self, now: datetime = START) -> None:
        self.now = now

    def rule(self, *clients: Client) -> None:
        """Have these clients take their time from here."""
        for client in clients:
            database(client).now = lambda: self.now  # type: ignore[method-assign]
            client.log.now = lambda: self.now  # type: ignore[method-assign]

    def read(self) -> datetime:
        """The time."""
        return self.now

    def forward(self, **duration: float) -> None:
        """Move on, by the arguments of a timedelta."""
        self.now += timedelta(**duration)


@contextmanager
def stepped(url: str, clock: Clock | None = None) -> Iterator[Client]:
    """A client whose consumers run only when they are stepped."""
    with connect(url, loops=False) as client:
        if clock is not None:
            clock.rule(client)
        yield client


def wait_for(ready: Callable[[], object], seconds: float = 60) -> None:
    """Wait until something is so, at most so long."""
    pause, deadline = threading.Event(), time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"it has not happened in {seconds:g} s"
        pause.wait(0.005)


def drain(*consumers: Consumer, most: int = 10_000) -> None:
    """Step the consumers in turn until none has anything to do."""
    for _ in range(most):
        if not sum([consumer.step() for consumer in consumers]):
            return
    raise AssertionError(f"still busy after {most} rounds")


def line(event: Event) -> str:
    """An event as text: type, key, message in text format."""
    message = "-" if event.message is None else " ".join(str(event.message).split())
    return f"{event.type.name} {event.key} {message}".strip()


def listing(client: Client, namespace: str = "", workflow: str = "", run: str = "") -> list[str]:
    """The log as lines, in order."""
    return [line(event) for event in client.stream(namespace, workflow, run, to_head=True)]


def crash(client: Client, *consumers: Consumer) -> None:
    """Leave the database as a killed process does: connections and locks gone, rows left.

    On a cluster, where another node knows of a death by the lease alone, that has run out.
    """
    for consumer in consumers:
        consumer._position = None
        consumer.forget()
    if isinstance(client, RemoteClient):
        client._stubs.channel.close()
        return
    database = client.log.database
    if isinstance(database, MySQL) and database._cluster:
        owners = f"%{client.log._process}"
        database.query("UPDATE replay_cursors SET lease_until = NULL WHERE owner LIKE ?", (owners,))
    database.close()


class Faults:
    """Makes transactions of one database fail: put it around one, then say which.

    `before` counts down to the write that does not reach the database, `after` to the one that is
    committed but reported as of unknown outcome (1 is the next one, 0 is none).  What a process
    writes by itself all the time does not count.
    """

    def __init__(self, database: Database) -> None:
        self.before = 0
        self.after = 0
        self.writes = 0
        self._write = database._write
        database._write = self._faulty  # type: ignore[method-assign]

    def _faulty(self, statements: Sequence[Statement], inserts: Sequence[Insert]) -> list[int]:
        if threading.current_thread().name in ("replay-poll", "replay-news"):
            return self._write(statements, inserts)
        self.writes += 1
        self.before -= 1
        self.after -= 1
        if self.before == 0:
            raise Unavailable("fault: the connection was lost before the transaction")
        result = self._write(statements, inserts)
        if self.after == 0:
            raise OutcomeUnknown("fault: the connection was lost during the commit")
        return result


def rows(client: Client, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """The rows of a query, for looking into tables."""
    return list(database(client).query(sql, parameters))


def cursor(client: Client, name: str) -> tuple[int, str]:
    """A consumer's cursor and the name's owner, as stored."""
    query = "SELECT last_event_id, owner FROM replay_cursors WHERE id = ?"
    ((position, owner),) = rows(client, query, name)
    return position, owner


def take_over(consumer: Consumer) -> int:
    """Step, after waiting for the name: a server notices in its own time that its owner is gone."""
    done = consumer._step(10)
    assert consumer._position is not None
    return done


class Outage:
    """While it is `on`, a database behaves as one that is away, to the driver's very errors."""

    def __init__(self, database: Database) -> None:
        self.on = False
        self._database = database
        self._write, self._execute = database._write, database._execute
        self._newest = database.newest
        database.newest = self._broken_newest  # type: ignore[method-assign]
        database._write = self._broken_write  # type: ignore[method-assign]
        database._execute = self._broken_execute  # type: ignore[method-assign]
        if isinstance(database, MySQL):
            self._connect = database._connect
            database._connect = self._broken_connect  # type: ignore[method-assign]

    def _check(self) -> None:
        if self.on and isinstance(self._database, Sqlite):
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR
            raise error
        if self.on and isinstance(self._database, MySQL):
            self._database._discard()

    def _broken_connect(self) -> pymysql.Connection[Any]:
        if self.on:
            raise pymysql.err.OperationalError(2003, "Can't connect to the server")
        return self._connect()

    def _broken_newest(self) -> tuple[int, int, bool]:
        with self._database._translated():
            self._check()
        return self._newest()

    def _broken_write(
        self, statements: Sequence[Statement], inserts: Sequence[Insert]
    ) -> list[int]:
        self._check()
        return self._write(statements, inserts)

    def _broken_execute(self, sql: str, parameters: Sequence[Any]) -> Sequence[Row]:
        self._check()
        return self._execute(sql, parameters)


class LogLines(logging.Handler):
    """What the library logs from now on; a context manager that stops it."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._more = threading.Condition()

    def __enter__(self) -> Self:
        logging.getLogger("replay").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("replay").removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """As in `logging.Handler`."""
        with self._more:
            self.lines.append(record.getMessage())
            self._more.notify_all()

    def of(self, text: str) -> list[str]:
        """The lines that hold a text."""
        with self._more:
            return [line for line in self.lines if text in line]

    def wait_for(self, text: str, timeout: float = 60) -> None:
        """Wait until there is such a line."""
        with self._more:
            found = self._more.wait_for(lambda: any(text in line for line in self.lines), timeout)
            assert found, f"no {text!r} in {self.lines}"


class Raw:
    """Another program's connection; its transactions end when the test says so."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        name = unquote(parts.path[1:])
        self.connection: Any
        self.mysql = parts.scheme == "mysql"
        if not self.mysql:
            self._mark = "?"
            self.connection = sqlite3.connect(name, isolation_level=None, check_same_thread=False)
        else:
            self._mark = "%s"
            self.connection = servers.connect(url)
            self.connection.select_db(name)
            self.run("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
            if "REPLAY_TEST_NODES" in os.environ:  # wait for what other nodes have committed
                self.run("SET SESSION wsrep_sync_wait = 7")

    def run(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Run one statement; its rows."""
        with closing(self.connection.cursor()) as cursor:
            cursor.execute(sql.replace("?", self._mark), parameters or ())
            return list(cursor.fetchall())

    def add(
        self,
        key: Key,
        type: int = EventType.RUN_CREATED,
        *,
        id: int | None = None,
        message: bytes | None = None,
    ) -> None:
        """Add a row to the log, with an id of the database's choice or this one."""
        self.run(
            "INSERT INTO replay_events (id, `key`, namespace, workflow, run, iteration, type,"
            " timestamp, message) VALUES (?, ?, ?, ?, ?, ?, ?, '2029-01-01 00:00:00.000', ?)",
            *(id, str(key), *key[:4], int(type), message),
        )


@contextmanager
def raw(url: str) -> Iterator[Raw]:
    """A second connection to the database, for one test."""
    with closing((other := Raw(base(url))).connection):
        yield other


@contextmanager
def mine(url: str) -> Iterator[Any]:
    """A connection of the program's own, whose transactions end when the test says so."""
    parts = urlsplit(base(url))
    name = unquote(parts.path[1:])
    if parts.scheme == "sqlite":
        connection: Any = sqlite3.connect(name, check_same_thread=False)
    else:
        connection = servers.connect(base(url))
        connection.autocommit(False)
        connection.select_db(name)
    with closing(connection):
        yield connection


def with_options(url: str, **options: object) -> str:
    """A database's URL with further options; one of a server that has such a database."""
    if url in SERVING:
        return SERVING[url].beside(**options)
    return servers.add_options(url, **options)


def flow_of(client: Client, function: Callable[..., Any], name: str = "flow") -> Consumer:
    """The consumer of a workflow of the namespace ns, to be stepped."""
    return register_workflow(client, "ns", function, name=name, start=False)


def act_of(client: Client, function: Callable[..., Any], **options: Any) -> ActivityConsumer:
    """The consumer of the activity act of the namespace ns, to be stepped."""
    consumer = register_activity(client, "ns", function, name="act", start=False, **options)
    assert isinstance(consumer, ActivityConsumer)
    return consumer


def respond(client: Client, place: str, message: Any = None, run: str = "a") -> None:
    """Add a response to a run of flow by hand, as if an activity had: `place` is NAME/NUMBER."""
    log, key = behind(client), Key.parse(f"ns/flow/{run}/0/{place}")
    assert log.append(log.event(EventType.ACTIVITY_RESPONSE, key, message))


def request(client: Client, key: Key, message: Message | None = None) -> None:
    """Add a request by hand, as if a run had made it, or another program."""
    log = behind(client)
    assert log.append(log.event(EventType.ACTIVITY_REQUEST, key, message))


class Queries:
    """Counts what a database is asked outside of transactions.

    But for the look for what others have added, which a server takes by itself all the time, and
    for the list of processes, which is read again when it is old.
    """

    def __init__(self, database: Database) -> None:
        self.count = 0
        self._execute = database._execute
        database._execute = self._counted  # type: ignore[method-assign]

    def _counted(self, sql: str, parameters: Sequence[Any]) -> Sequence[Row]:
        polls = threading.current_thread().name == "replay-poll"
        self.count += not polls and "replay_processes" not in sql
        return self._execute(sql, parameters)


def endure(*consumers: Consumer) -> int:
    """As `drain`, though steps may fail for the database's sake; how many did."""
    failed, idle = 0, False
    while not idle:
        idle = True
        for consumer in consumers:
            try:
                idle &= not consumer.step()
            except Unavailable:
                failed, idle = failed + 1, False
    return failed


def set_back(client: Client, name: str) -> None:
    """Set the cursor of this name back to the beginning of the log."""
    update = "UPDATE replay_cursors SET last_event_id = 0 WHERE id = ? AND last_event_id > 0"
    database(client).write([Statement(update, (name,), must_find=1)])


def rewind(client: Client, consumer: Consumer) -> None:
    """Set a consumer's cursor back to the beginning of the log."""
    set_back(client, consumer.name)


def start_runs(client: Client, *names: str) -> None:
    """Start runs that nobody serves."""
    for name in names:
        assert client.run_workflow("ns", "flow", name, Int(value=1))


def dump(client: Client) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables."""
    return {table: rows(client, f"SELECT * FROM {table}") for table in TABLES}


def restore(client: Client, backup: dict[str, list[tuple[Any, ...]]]) -> None:
    """Make the tables what they were."""
    for table, found in backup.items():
        columns = ", ".join(f"`{column.split()[0]}`" for column in TABLES[table].split(", "))
        inserts = [
            Statement(f"INSERT INTO {table} ({columns}) VALUES ({','.join('?' * len(row))})", row)
            for row in found
        ]
        database(client).write([Statement(f"DELETE FROM {table}"), *inserts])
