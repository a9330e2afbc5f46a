"""A worker that kills itself before or after its n-th statement that writes.

It runs its consumers in one thread and by a clock of its own, so that the n-th statement is the
same one every time.  It is forked from a process that has imported everything: hundreds of these
cost no more than a few dozen fresh interpreters.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

import pymysql

from replay import Client
from replay.storage.mysql import MySQL
from replay.storage.sqlite import Sqlite
from tests import journey
from tests.crash.worker import Notes
from tests.example_pb2 import Int, String
from tests.support import Clock, stepped

#: The process dies when it is about to execute a statement, or when it has: where there is a
#: server the statement is on its way to it then, and nobody will read the answer.
BEFORE, AFTER = "before", "after"


def points(total: int, how: str) -> Sequence[int]:
    """The statements to die at, if all that a process does outside is what its statements do.

    Then it is the same to die after one of them and before the next.
    """
    return [total] if how == AFTER else range(1, total + 1)


class Point:
    """Counts statements, and ends the process at the one that was named."""

    def __init__(self, at: int, how: str) -> None:
        self.count = 0
        self._at = at
        self._how = how

    def reached(self, how: str) -> None:
        """A statement is about to be executed, or was."""
        self.count += how == BEFORE
        if self.count == self._at and how == self._how:
            os.kill(os.getpid(), signal.SIGKILL)


class Watched:
    """A connection to SQLite whose statements pass a point while a transaction is open."""

    def __init__(self, connection: Any, point: Point) -> None:
        self._connection = connection
        self._point = point

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        """As the connection's own."""
        if not (self._connection.in_transaction or sql.startswith("BEGIN")):
            return self._connection.execute(sql, parameters)
        self._point.reached(BEFORE)
        result = self._connection.execute(sql, parameters)
        self._point.reached(AFTER)
        return result


def watch(client: Client, point: Point) -> None:
    """Have all statements of the client's transactions pass the point."""
    database = client.log.database
    if isinstance(database, Sqlite):
        database._connection = Watched(database._connection, point)  # type: ignore[assignment]
    elif isinstance(database, MySQL):
        database._packet = 1  # so that each statement of a transaction is sent by itself
        connection = database._connection()
        _watch_packets(connection, point)


def _watch_packets(connection: pymysql.Connection[Any], point: Point) -> None:
    send, query = connection._execute_command, connection.query  # type: ignore[attr-defined]
    writing = False

    def watched_query(sql: Any, unbuffered: bool = False) -> Any:
        nonlocal writing
        writing = writing or sql == "BEGIN"
        if not writing:
            return query(sql, unbuffered)
        writing = sql != "COMMIT"
        point.reached(BEFORE)
        return query(sql, unbuffered)

    def watched_send(command: int, sql: Any) -> None:
        send(command, sql)
        if writing or sql in ("COMMIT", b"COMMIT"):
            point.reached(AFTER)

    connection.query = watched_query  # type: ignore[method-assign]
    connection._execute_command = watched_send  # type: ignore[attr-defined]


def ask(client: Client, run: str, value: int) -> None:
    """As `journey.begin`, by one who does not know whether it was done already."""
    client.run_workflow(journey.NAMESPACE, "journey", run, Int(value=value))
    for name in ("a", "b"):
        client.signal_run(journey.NAMESPACE, "journey", run, 1, String(value=name), name)


def work(url: str, run: str, value: int, calls: journey.Calls, point: Point | None = None) -> None:
    """Bring a run of `journey` to its end; `calls` gets the keys of the activities executed."""
    clock = Clock()
    with stepped(url, clock) as client:
        consumers = journey.staff(client, calls, start=False)
        if point is not None:
            watch(client, point)
        ask(client, run, value)
        for _ in range(10_000):
            if not sum([consumer.step() for consumer in consumers]):
                if client.log.last_iteration(journey.NAMESPACE, "journey", run) == (1, 1):
                    return
                clock.forward(milliseconds=20)
    raise AssertionError(f"{run} does not end")


def victim(url: str, at: int, how: str, notes: str, answer: Connection) -> None:
    """The process to be killed; if the point is never reached it tells how many there are."""
    point = Point(at, how)
    work(url, "r", 1, Notes(notes), point)
    answer.send(point.count)
