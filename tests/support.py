"""What the tests share: a clock to turn, consumers to step, faults to inject, logs to compare."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from replay import Client, Consumer, connect
from replay.database import Database, Insert, OutcomeUnknown, Statement, Unavailable

START = datetime(2030, 1, 1, tzinfo=UTC)


class Clock:
    """The time, for a database that is given it; it stands still until it is moved."""

    def __init__(self, now: datetime = START) -> None:
        self.now = now

    def rule(self, *clients: Client) -> None:
        """Have these clients take their time from here."""
        for client in clients:
            client.log.database.now = lambda: self.now  # type: ignore[method-assign]

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


def drain(*consumers: Consumer, most: int = 10_000) -> None:
    """Step the consumers in turn until none has anything to do."""
    for _ in range(most):
        if not sum([consumer.step() for consumer in consumers]):
            return
    raise AssertionError(f"still busy after {most} rounds")


def listing(client: Client, namespace: str = "", workflow: str = "", run: str = "") -> list[str]:
    """Make lines of the log: type, key, message in text format; in order."""
    lines = []
    for event in client.stream(namespace, workflow, run, to_head=True):
        message = "-" if event.message is None else " ".join(str(event.message).split())
        lines.append(f"{event.type.name} {event.key} {message}".strip())
    return lines


def crash(client: Client, *consumers: Consumer) -> None:
    """Leave the database as a killed process does: connections and locks gone, rows as they were."""
    for consumer in consumers:
        consumer._position = None
        consumer.forget()
    client.log.database.close()


class Faults:
    """Makes transactions of one database fail: put it around one, then say which.

    `before` counts down to the write that does not reach the database, `after` to the one that is
    committed but reported as of unknown outcome (1 is the next one, 0 is none).
    """

    def __init__(self, database: Database) -> None:
        self.before = 0
        self.after = 0
        self.writes = 0
        self._write: Callable[..., list[int]] = database._write
        database._write = self._faulty  # type: ignore[method-assign]

    def _faulty(self, statements: list[Statement], insert: Insert | None) -> list[int]:
        self.writes += 1
        self.before -= 1
        self.after -= 1
        if self.before == 0:
            raise Unavailable("fault: the connection was lost before the transaction")
        result = self._write(statements, insert)
        if self.after == 0:
            raise OutcomeUnknown("fault: the connection was lost during the commit")
        return result


def rows(client: Client, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """The rows of a query, for looking into tables."""
    return list(client.log.database.query(sql, parameters))
