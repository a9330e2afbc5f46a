"""Tools of the checks: crashes at each statement, kills, and a clock that stands still.

Nothing here sleeps.  Each check decides when a process dies, and what another does meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

#: A step's module: the learner's file.
Engine = Any
#: It is called before the n-th statement, with n.
Hook = Callable[[int], None]


class Died(BaseException):
    """The process has died: nothing that it does from now on has an effect."""


class Connection:
    """A connection that calls a hook before each statement."""

    def __init__(self, connection: Any, hook: Hook) -> None:
        self._connection = connection
        self._hook = hook
        self._dead = False
        self.statements = 0

    def execute(self, *arguments: Any) -> Any:
        """Execute a statement, unless the process dies before it."""
        self._before()
        return self._connection.execute(*arguments)

    def executemany(self, *arguments: Any) -> Any:
        """Execute a statement for many rows."""
        self._before()
        return self._connection.executemany(*arguments)

    def cursor(self) -> Cursor:
        """A cursor of its own, whose statements count, too."""
        return Cursor(self, self._connection.cursor())

    def commit(self) -> None:
        """Commit."""
        self._before()
        self._connection.commit()

    def rollback(self) -> None:
        """Roll back."""
        self._before()
        self._connection.rollback()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.commit() if kind is None else self.rollback()

    def __getattr__(self, name: str) -> Any:
        if self._dead:  # A closed connection would say so in its own way.
            raise Died
        return getattr(self._connection, name)

    def _before(self) -> None:
        if not self._dead:
            self.statements += 1
            try:
                self._hook(self.statements)
            except Died:
                self._dead = True
                self._connection.close()  # This drops all that was not committed.
        if self._dead:
            raise Died


class Cursor:
    """A cursor of such a connection."""

    def __init__(self, connection: Connection, cursor: Any) -> None:
        self._connection = connection
        self._cursor = cursor

    def execute(self, *arguments: Any) -> Cursor:
        """Execute a statement, unless the process dies before it."""
        self._connection._before()
        self._cursor.execute(*arguments)
        return self

    def __iter__(self) -> Iterator[Any]:
        return iter(self._cursor)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)


class Clock:
    """Stands still until a check moves it."""

    def __init__(self) -> None:
        self.time = 1_000_000

    def __call__(self) -> int:
        return self.time

    def forward(self, milliseconds: int) -> None:
        """Move it."""
        self.time += milliseconds


def open_log(
    engine: Engine, path: Path, clock: Clock | None = None, hook: Hook | None = None
) -> Any:
    """A process's own view of the log in a file."""
    log = engine.Log(str(path))
    log.db.execute("PRAGMA synchronous = OFF")  # Processes die here, machines do not.
    log.db.execute("PRAGMA busy_timeout = 0")
    if clock is not None:
        log.now = clock
    if hook is not None:
        log.db = Connection(log.db, hook)
    return log


def crash_points(folder: Path) -> Iterator[tuple[Path, Hook]]:
    """A fresh file, and a hook that dies at the 1st statement, the 2nd, and so on.

    It ends with the first file whose process has survived.
    """
    for n in count(1):
        died: list[int] = []

        def hook(statement: int, last: int = n, died: list[int] = died) -> None:
            if statement == last:
                died.append(last)
                raise Died

        yield folder / f"crash-{n}.db", hook
        if not died:
            return


def survive(function: Callable[[], object]) -> None:
    """Do something in a process that may die of it."""
    with contextlib.suppress(Died):
        function()


def kill() -> None:
    """End this process as a power failure would."""
    os.kill(os.getpid(), signal.SIGKILL)


def killed(function: Callable[[], object]) -> bool:
    """Do something in a process of its own; whether it was killed."""
    child = os.fork()
    if child == 0:
        try:
            function()
        finally:
            os._exit(0)
    try:
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])
    except BaseException:  # It takes too long.
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise


class Notes:
    """Lines in a file: what activities have done to the outside world.  They survive a kill."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.touch()

    def add(self, line: object) -> None:
        """Add a line."""
        with self._path.open("a") as file:
            print(line, file=file)

    def lines(self) -> list[str]:
        """All lines."""
        return self._path.read_text().splitlines()


def shown(log: Any) -> list[tuple[int, str, Any]]:
    """The events without ids and times."""
    return [(event.type, event.key, event.value) for event in log.read(0) if event.type]


def show(log: Any) -> None:
    """Print the events."""
    names = ["NOOP", "CREATED", "COMPLETED", "OUTPUT", "REQUEST", "RESPONSE"]
    for event in log.read(0):
        print(f"{event.id:3} {names[event.type]:9} {event.key} {event.value}")


def same(found: object, wanted: object, what: str) -> None:
    """Two things are equal, or the claim does not hold."""
    assert found == wanted, f"{what}: {found}, not {wanted}"
