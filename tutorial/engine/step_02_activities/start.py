"""A log, replayed runs, and activities that are executed again but recorded once."""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

NOOP, CREATED, COMPLETED, OUTPUT, REQUEST, RESPONSE = range(6)

#: A workflow: it yields what it wants (see `Call` and `Output`) and is called again to replay it.
Flow = Callable[[Any], Generator[Any, Any, Any]]
#: An activity: it has effects outside of the log.  It gets an `Attempt` and a value.
Work = Callable[["Attempt", Any], Any]
Flows = Mapping[str, Flow]
Works = Mapping[str, Work]

TABLES = [
    """CREATE TABLE IF NOT EXISTS events (
        id INTEGER PRIMARY KEY AUTOINCREMENT, type INTEGER NOT NULL, key TEXT NOT NULL,
        iteration TEXT NOT NULL, time INTEGER NOT NULL, value TEXT NOT NULL, UNIQUE (type, key))""",
    "CREATE INDEX IF NOT EXISTS events_of ON events (iteration, id)",
]


class BadName(ValueError):
    """A name that no key can hold."""


class New(NamedTuple):
    """An event that is to be added."""

    type: int
    key: str
    value: Any = None

    @property
    def iteration(self) -> str:
        """The first four parts of the key: namespace, workflow, run and iteration."""
        return "/".join(self.key.split("/")[:4])


class Event(NamedTuple):
    """An event in the log.  Its time is in milliseconds since 1970."""

    id: int
    type: int
    key: str
    time: int
    value: Any

    @property
    def iteration(self) -> str:
        """The first four parts of the key: namespace, workflow, run and iteration."""
        return "/".join(self.key.split("/")[:4])


#: A consequence of an event.
Write = New


def key(*names: object) -> str:
    """A key of these names; raises BadName where two keys could be taken for each other."""
    for name in map(str, names):
        if not name or "/" in name or name in (".", "..") or name != name.strip():
            raise BadName(f"{name!r} is no name")
        if not name.isprintable():
            raise BadName(f"{name!r} has a character that cannot be printed")
    return "/".join(map(str, names))


def clock() -> int:
    """The time in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Log:
    """The events, in the order of their ids, in a SQLite file."""

    def __init__(self, path: str) -> None:
        self.db = sqlite3.connect(path, timeout=10, isolation_level=None)
        self.now = clock
        self.db.execute("PRAGMA journal_mode = WAL")  # Readers do not wait for a writer.
        for table in TABLES:
            self.db.execute(table)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Store all that is written inside, or nothing."""
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.db.execute("COMMIT")
        except BaseException:
            self.db.execute("ROLLBACK")
            raise

    def append(self, events: Sequence[New]) -> list[bool]:
        """Add events in one transaction; for each, whether it was new."""
        with self.transaction():
            return [self.add(event) for event in events]

    def add(self, event: New) -> bool:
        """Add an event inside a transaction, unless its type and key are there already."""
        row = (event.type, event.key, event.iteration, self.now())
        value = json.dumps(event.value, allow_nan=False)
        sql = """INSERT INTO events (type, key, iteration, time, value) SELECT ?, ?, ?, ?, ?
            WHERE NOT EXISTS (SELECT 1 FROM events WHERE type = ? AND key = ?)"""
        return self.db.execute(sql, (*row, value, event.type, event.key)).rowcount == 1

    def read(self, after: int) -> Iterator[Event]:
        """The events with larger ids, in order, while you ask for them."""
        yield from self._select("id > ? ORDER BY id", after)

    def history(self, iteration: str) -> list[Event]:
        """The events of one iteration of a run."""
        return list(self._select("iteration = ? ORDER BY id", iteration))

    def _select(self, which: str, *values: object) -> Iterator[Event]:
        sql = f"SELECT id, type, key, time, value FROM events WHERE {which}"
        for id, type, key, stamp, value in self.db.execute(sql, values):
            yield Event(id, type, key, stamp, json.loads(value))

    def find(self, type: int, key: str) -> Event | None:
        """The event of this type and key."""
        return next(self._select("type = ? AND key = ?", type, key), None)


def start(log: Log, namespace: str, workflow: str, run: str, value: Any = None) -> bool:
    """Start a run; False if it was started before, with this input or another."""
    return log.append([New(CREATED, key(namespace, workflow, run, 0), value)])[0]


# The requests and outputs of a workflow.


class Call(NamedTuple):
    """A request.  `yield Call("charge", 500)` is what the activity returns.

    `yield [Call(...), Call(...)]` makes several requests at once, and is the list of their answers.
    """

    target: str
    value: Any = None
    kind: str = ""  # Calls of a target are counted for each kind.


class Output(NamedTuple):
    """A message to the outside.  `yield Output("placed", 17)` does not wait."""

    name: str
    value: Any = None


class HistoryMismatch(Exception):
    """The code does not make the requests of its history."""


class Replay:
    """One iteration of a run: its function, called again with the answers of its history."""

    def __init__(self, function: Flow, history: Sequence[Event], upto: int) -> None:
        """Take the whole history; responses up to this id have been received."""
        self.function = function
        self.created = next(event for event in history if event.type == CREATED)
        self.requests = [event for event in history if event.type == REQUEST]
        self.outputs = {event.key for event in history if event.type == OUTPUT}
        self.responses = {
            event.key: event for event in history if event.type == RESPONSE and event.id <= upto
        }
        self.counts: Counter[str] = Counter()
        self.made = 0
        self.added: list[New] = []

    def run(self) -> list[New]:
        """Call the function up to its first wait without an answer; what the log then lacks."""
        generator = self.function(self.created.value)
        answer: Any = None
        while True:
            try:
                command = generator.send(answer)
            except StopIteration as end:
                return self._end(end.value)
            if isinstance(command, Output):
                self._emit(command.name, command.value)
                answer = None
                continue
            calls = command if isinstance(command, list) else [command]
            found = [self.responses.get(self._request(call)) for call in calls]
            answers = [self._answer(event) for event in found if event is not None]
            if len(answers) < len(calls):
                with suppress(Exception):  # Its `finally` blocks may do what they like.
                    generator.close()
                return self.added
            answer = answers if isinstance(command, list) else answers[0]

    def _add(self, event: New) -> None:
        self.added.append(event)

    def _request(self, call: Call) -> str:
        """Make the next request, unless the history has it; its key."""
        place = f"call/{call.target}/{call.kind}"
        wanted = key(*self.created.key.split("/"), call.target, f"{call.kind}{self.counts[place]}")
        self.counts[place] += 1
        self.made += 1
        if self.made > len(self.requests):
            self._add(New(REQUEST, wanted, call.value))
        elif self.requests[self.made - 1].key != wanted:
            has = self.requests[self.made - 1]
            raise HistoryMismatch(f"the history has {has.key} (event {has.id}), the code {wanted}")
        return wanted

    def _emit(self, name: str, value: Any) -> None:
        """Add an output, unless the history has it."""
        output = key(*self.created.key.split("/"), name, self.counts[f"output/{name}"])
        self.counts[f"output/{name}"] += 1
        if output not in self.outputs:
            self._add(New(OUTPUT, output, value))

    def _answer(self, event: Event) -> Any:
        """The answer that a response holds, for the function."""
        return event.value.get("value")

    def _end(self, result: Any) -> list[New]:
        """End the iteration with a result, if there is one."""
        if self.made < len(self.requests):
            has = self.requests[self.made]
            raise HistoryMismatch(f"the history has {has.key} (event {has.id}), the code has ended")
        if result is not None:
            self._emit("replay_result", result)
        return [*self.added, New(COMPLETED, self.created.key)]


# Carrying runs out.


class Attempt(NamedTuple):
    """An activity's view of its call."""

    key: str


# TODO(you): Write `Workflow(log, namespace, name, function)`, `Activity` with the same arguments,
# and `drain(consumers)`.  An activity is a consumer of its own, and executes each request under the
# request's key.
def work(log: Log, namespace: str, flows: Flows, works: Works) -> None:
    """Bring all runs of a namespace to their ends."""
    for created in [event for event in log.read(0) if event.type == CREATED]:
        space, workflow, *_ = created.key.split("/")
        while space == namespace and carry_on(log, flows[workflow], works, created.key):
            pass


def carry_on(log: Log, function: Flow, works: Works, iteration: str) -> bool:
    """Replay a run, and execute what it requests; False if it has ended."""
    history = log.history(iteration)
    if history[-1].type == COMPLETED:
        return False
    log.append(Replay(function, history, history[-1].id).run())
    answered = {event.key for event in history if event.type == RESPONSE}
    for event in log.history(iteration):
        if event.type == REQUEST and event.key not in answered:
            value = works[event.key.split("/")[4]](Attempt(str(time.time_ns())), event.value)
            log.append([New(RESPONSE, event.key, {"value": value})])
    return True
