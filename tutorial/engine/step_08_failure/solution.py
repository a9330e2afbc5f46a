"""A log without gaps, and consumers that survive what fails in your code."""

from __future__ import annotations

import json
import math
import random
import sqlite3
import time
import uuid
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
LEASE = 10_000  # Milliseconds for which an owner counts as alive.
LONGEST = 300_000  # Milliseconds between two attempts.
MOST = 5_000  # Events that a run may add before it waits.

TABLES = [
    """CREATE TABLE IF NOT EXISTS events (
        id INTEGER PRIMARY KEY AUTOINCREMENT, type INTEGER NOT NULL, key TEXT NOT NULL,
        iteration TEXT NOT NULL, time INTEGER NOT NULL, value TEXT NOT NULL, UNIQUE (type, key))""",
    "CREATE INDEX IF NOT EXISTS events_of ON events (iteration, id)",
    """CREATE TABLE IF NOT EXISTS cursors (name TEXT PRIMARY KEY, position INTEGER NOT NULL,
        owner TEXT NOT NULL, lease INTEGER NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS sleeps (
        key TEXT PRIMARY KEY, due INTEGER NOT NULL, done INTEGER NOT NULL DEFAULT 0)""",
    """CREATE TABLE IF NOT EXISTS signals (
        id INTEGER PRIMARY KEY AUTOINCREMENT, run TEXT NOT NULL, type INTEGER NOT NULL,
        external_id TEXT NOT NULL, time INTEGER NOT NULL, value TEXT NOT NULL, taken_by TEXT,
        UNIQUE (run, type, external_id))""",
    """CREATE TABLE IF NOT EXISTS awaits (
        id INTEGER PRIMARY KEY, key TEXT NOT NULL, run TEXT NOT NULL, type INTEGER NOT NULL,
        until INTEGER NOT NULL, open INTEGER NOT NULL DEFAULT 1)""",
    # TODO(you): Store what failed, with the time of the next attempt.
    """CREATE TABLE IF NOT EXISTS parked (
        consumer TEXT NOT NULL, event INTEGER NOT NULL, key TEXT NOT NULL,
        attempts INTEGER NOT NULL, due INTEGER NOT NULL, error TEXT NOT NULL,
        PRIMARY KEY (consumer, event))""",
    # done
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


class Change(NamedTuple):
    """A statement that a consumer carries out together with the events that it adds."""

    sql: str
    values: tuple[object, ...]


#: A consequence of an event.
Write = New | Change


def key(*names: object) -> str:
    """A key of these names; raises BadName where two keys could be taken for each other."""
    for name in map(str, names):
        if not name or "/" in name or name in (".", "..") or name != name.strip():
            raise BadName(f"{name!r} is no name")
        if not name.isprintable():
            raise BadName(f"{name!r} has a character that cannot be printed")
    return "/".join(map(str, names))


def inside(key: str) -> tuple[str, str]:
    """Two texts; all keys that begin with this key and a slash are between them."""
    return f"{key}/", f"{key}0"  # "0" is the character after "/".


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
        while True:
            gap = None
            for event in self._select("id > ? ORDER BY id", after):
                if event.id != after + 1:
                    gap = event.id
                    break
                yield event
                after = event.id
            if gap is None:
                return
            self.fence(after + 1, gap)

    def fence(self, first: int, end: int) -> None:
        """Insert a no-op for each id from `first` to before `end`, unless its event has come."""
        sql = """INSERT INTO events (id, type, key, iteration, time, value)
            VALUES (?, ?, ?, '', ?, 'null') ON CONFLICT (id) DO NOTHING"""
        with self.transaction():
            for id in range(first, end):
                self.db.execute(sql, (id, NOOP, f"replay_noop/{id}", self.now()))

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

    def newest(self, run: str) -> str | None:
        """The newest iteration of a run (NAMESPACE/WORKFLOW/RUN), or None if there is none."""
        which = "type = ? AND iteration > ? AND iteration < ? ORDER BY id DESC"
        created = self._select(which, CREATED, *inside(run))
        return next((event.iteration for event in created), None)


def start(log: Log, namespace: str, workflow: str, run: str, value: Any = None) -> bool:
    """Start a run; False if it was started before, with this input or another."""
    return log.append([New(CREATED, key(namespace, workflow, run, 0), value)])[0]


def cancel(log: Log, namespace: str, workflow: str, run: str, reason: str) -> bool:
    """Raise Cancelled where a run waits; False if it has ended, or has a cancel."""
    with log.transaction():
        iteration = log.newest(key(namespace, workflow, run))
        if iteration is None or log.find(COMPLETED, iteration):
            return False
        return log.add(New(RESPONSE, f"{iteration}/replay_cancel/0", {"cancel": reason}))


def send(
    log: Log, namespace: str, workflow: str, run: str, type: int, external_id: str, value: Any
) -> bool:
    """Send a signal to a run; False if this external id was used before for this run and type."""
    sql = """INSERT INTO signals (run, type, external_id, time, value) SELECT ?1, ?2, ?3, ?4, ?5
        WHERE NOT EXISTS (SELECT 1 FROM signals WHERE (run, type, external_id) = (?1, ?2, ?3))"""
    text = json.dumps(value, allow_nan=False)
    values = (key(namespace, workflow, run), type, external_id, log.now(), text)
    with log.transaction():
        return log.db.execute(sql, values).rowcount == 1


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


def sleep(seconds: float) -> Call:
    """A request to go on later: `yield sleep(10)`."""
    return Call("replay_sleep", max(0, math.ceil(seconds * 1000)))


class Signal(NamedTuple):
    """A signal that has come."""

    value: Any


def receive(type: int, seconds: float) -> Call:
    """A request for the next signal of a type.  `yield receive(1, 10)` is a Signal, or None."""
    return Call("replay_signal", max(0, math.ceil(seconds * 1000)), f"{type}:")


class Failed(Exception):
    """Ends the run that raises it.  The failure of an activity comes out of its call as one."""

    def __init__(
        self, text: str, kind: str = "failed", detail: Any = None, attempts: int = 0
    ) -> None:
        super().__init__(text)
        self.stored = {"kind": kind, "text": text, "detail": detail, "attempts": attempts}


class Cancelled(BaseException):
    """Comes out of the wait of a run that was cancelled.  `except Exception` does not catch it."""


class GiveUp(Exception):
    """Raised by an activity if no further attempt can help."""


class HistoryMismatch(Exception):
    """The code does not make the requests of its history."""


class TooMany(Exception):
    """A run adds more than MOST events before it waits."""


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
        # TODO(you): Find the cancel, if there is one: a response with a key of its own.
        self.cancel = self.responses.get(f"{self.created.key}/replay_cancel/0")
        # done
        self.counts: Counter[str] = Counter()
        self.made = 0
        self.added: list[New] = []

    def run(self) -> list[New]:
        """Call the function up to its first wait without an answer; what the log then lacks."""
        generator = self.function(self.created.value)
        answer: Any = None
        while True:
            try:
                # TODO(you): An answer that is an exception is raised where the function waits.  A
                # function that raises Failed or Cancelled ends its run.
                # instead: command = generator.send(answer)
                raises = isinstance(answer, BaseException)
                command = generator.throw(answer) if raises else generator.send(answer)
            except (Failed, Cancelled) as failure:
                return self._fail(failure)
                # done
            except StopIteration as end:
                return self._end(end.value)
            if isinstance(command, Output):
                self._emit(command.name, command.value)
                answer = None
                continue
            calls = command if isinstance(command, list) else [command]
            found = [self.responses.get(self._request(call)) for call in calls]
            # TODO(you): Raise the cancel, once, where the function waits when it comes.
            if self.cancel and any(e is None or e.id > self.cancel.id for e in found):
                answer, self.cancel = Cancelled(self.cancel.value["cancel"]), None
                continue
            # done
            answers = [self._answer(event) for event in found if event is not None]
            if len(answers) < len(calls):
                with suppress(Exception):  # Its `finally` blocks may do what they like.
                    generator.close()
                return self.added
            answer = answers if isinstance(command, list) else answers[0]
            # TODO(you): If one of several calls has failed, that is the answer.
            answer = next((each for each in answers if isinstance(each, Failed)), answer)
            # done

    def _add(self, event: New) -> None:
        if len(self.added) == MOST:
            raise TooMany(f"{self.created.key} adds more than {MOST} events before it waits")
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
        if event.key.split("/")[4] == "replay_signal":
            return Signal(event.value["value"]) if "value" in event.value else None
        # TODO(you): A failure comes out of the call that waits for it.
        if "failure" in event.value:
            return Failed(**event.value["failure"])
        # done
        return event.value.get("value")

    def _end(self, result: Any) -> list[New]:
        """End the iteration with a result, if there is one."""
        if self.made < len(self.requests):
            has = self.requests[self.made]
            raise HistoryMismatch(f"the history has {has.key} (event {has.id}), the code has ended")
        if result is not None:
            self._emit("replay_result", result)
        return [*self.added, New(COMPLETED, self.created.key)]

    # TODO(you): Add the output `replay_failure`, and end the run.  After a cancel, its kind is
    # "cancelled".
    def _fail(self, failure: Failed | Cancelled) -> list[New]:
        """End the iteration with a failure."""
        if isinstance(failure, Cancelled):
            failure = Failed(str(failure), "cancelled")
        self._emit("replay_failure", failure.stored)
        return self._end(None)

    # done


# Carrying runs out.


class Attempt(NamedTuple):
    """An activity's view of its call."""

    key: str
    number: int = 1


class Fenced(Exception):
    """Another process owns the name of this consumer."""


class Poison(Exception):
    """Your code has raised an error."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


@contextmanager
def user_code() -> Iterator[None]:
    """Tell what your code raises from what the database does."""
    try:
        yield
    except Exception as error:
        raise Poison(error) from error


class Consumer:
    """Reads the log in order, under a name, and adds what follows from each event."""

    eager = True  # A new owner tries at once what is parked.

    def __init__(self, log: Log, name: str) -> None:
        self.log = log
        self.name = name
        self.position = self.stored = self.lease = 0
        self.owner = uuid.uuid4().hex
        self.attempt = 1

    def wants(self, event: Event) -> bool:
        """Whether this consumer has something to do with an event."""
        raise NotImplementedError

    def handle(self, event: Event) -> list[Write]:
        """The consequences of an event: decided here, and stored by `commit`."""
        raise NotImplementedError

    def failed(self, event: Event, error: Exception) -> list[Write]:
        """The consequences of an event that your code cannot handle: it is parked."""
        sql = """INSERT INTO parked (consumer, event, key, attempts, due, error)
            VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (consumer, event) DO UPDATE
            SET attempts = excluded.attempts, due = excluded.due, error = excluded.error"""
        # TODO(you): The pause begins at 1 s and doubles with each attempt, up to LONGEST.  Make it
        # up to a quarter shorter, at random: requests that fail together come back one by one.
        # instead: due = self.log.now()
        pause = min(LONGEST, 1000 * 2 ** min(self.attempt - 1, 30)) * random.uniform(0.75, 1)
        due = self.log.now() + round(pause)
        # done
        text = f"{type(error).__name__}: {error}"
        return [Change(sql, (self.name, event.id, event.key, self.attempt, due, text))]

    def step(self) -> bool:
        """Do one thing, if there is something to do; whether there was."""
        try:
            return self.own() and self.act()
        except Fenced:
            self.lease = 0
            return False

    def act(self) -> bool:
        """Do one thing as the owner."""
        event = self.next_event()
        if event is None:
            return self.idle()
        # TODO(you): An error in your code must not stop the consumer.
        # instead: self.commit(event.id, self.handle(event))
        self.commit(event.id, self.try_to_handle(event, 1))
        # done
        return True

    def next_event(self) -> Event | None:
        """The next event that it wants."""
        for event in self.log.read(self.position):
            if self.wants(event):
                return event
            self.position = event.id
        return None

    def idle(self) -> bool:
        """Do something that no event asks for; whether there was anything to do."""
        # TODO(you): Make the next attempt at what is parked and due.  Take its row away when it is
        # done.
        # instead: return False
        sql = """SELECT event, attempts FROM parked WHERE consumer = ? AND due <= ?
            ORDER BY due, event LIMIT 1"""
        row = self.log.db.execute(sql, (self.name, self.log.now())).fetchone()
        if row is None:
            return False
        event = next(self.log._select("id = ?", row[0]))
        self.commit(self.position, self.try_to_handle(event, row[1] + 1))
        return True

    def try_to_handle(self, event: Event, attempt: int) -> list[Write]:
        """The consequences of an event, also if your code raises."""
        self.attempt = attempt
        try:
            writes = self.handle(event)
        except Poison as poison:
            return self.failed(event, poison.error)
        sql = "DELETE FROM parked WHERE consumer = ? AND event = ?"
        return [*writes, Change(sql, (self.name, event.id))] if attempt > 1 else writes
        # done

    def commit(self, position: int, writes: Sequence[Write]) -> None:
        """Store what follows from the events up to this position."""
        lease = self.log.now() + LEASE
        with self.log.transaction():
            sql = """UPDATE cursors SET position = ?, lease = ?
                WHERE name = ? AND owner = ? AND position = ?"""
            values = (position, lease, self.name, self.owner, self.stored)
            if self.log.db.execute(sql, values).rowcount != 1:
                raise Fenced(f"{self.name} belongs to another process")
            self.write(writes)
        self.stored, self.lease = position, lease
        self.position = position

    def write(self, writes: Sequence[Write]) -> None:
        """Add events and carry out changes, inside a transaction."""
        for write in writes:
            if isinstance(write, New):
                self.log.add(write)
            else:
                self.log.db.execute(*write)

    def own(self) -> bool:
        """Be the owner of the name, or become it; whether this process is."""
        now = self.log.now()
        if self.lease > now + LEASE // 2:
            return True
        with self.log.transaction():
            sql = "INSERT INTO cursors VALUES (?, 0, '', 0) ON CONFLICT (name) DO NOTHING"
            self.log.db.execute(sql, (self.name,))
            sql = """UPDATE cursors SET owner = ?, lease = ?
                WHERE name = ? AND (owner = ? OR lease <= ?) RETURNING position, lease"""
            values = (self.owner, now + LEASE, self.name, self.owner, now)
            row = self.log.db.execute(sql, values).fetchone()
            # TODO(you): A new owner tries at once what is parked, if another attempt costs nothing.
            if row and not self.lease and self.eager:
                sql = "UPDATE parked SET due = 0 WHERE consumer = ?"
                self.log.db.execute(sql, (self.name,))
            # done
        if row is None:
            self.lease = 0
            return False
        self.position = self.stored = row[0]
        self.lease = row[1]
        return True

    def release(self) -> None:
        """Give the name up, so that nobody has to wait for the lease."""
        sql = "UPDATE cursors SET lease = 0 WHERE name = ? AND owner = ?"
        self.log.db.execute(sql, (self.name, self.owner))
        self.lease = 0


class Workflow(Consumer):
    """Replays the runs of one workflow."""

    def __init__(self, log: Log, namespace: str, name: str, function: Flow) -> None:
        super().__init__(log, f"workflow/{namespace}/{name}")
        self.place = [namespace, name]
        self.function = function

    def wants(self, event: Event) -> bool:
        """A run that begins, or a response to one."""
        return event.type in (CREATED, RESPONSE) and event.key.split("/")[:2] == self.place

    def handle(self, event: Event) -> list[Write]:
        """The events that the run adds before it waits again."""
        history = self.log.history(event.iteration)
        types = {each.type for each in history}
        if CREATED not in types or COMPLETED in types:
            return []  # A late response.
        # TODO(you): Pass over the events of a parked run: its next attempt finds them in the
        # history, up to the consumer's position.  Park the run if its function raises.
        # instead: return [*Replay(self.function, history, event.id).run()]
        if self.attempt == 1 and self.is_parked(event.iteration):
            return []
        with user_code():
            return [*Replay(self.function, history, max(event.id, self.position)).run()]

    def is_parked(self, iteration: str) -> bool:
        """Whether one of its events is parked."""
        sql = "SELECT 1 FROM parked WHERE consumer = ? AND (key = ? OR key > ? AND key < ?)"
        values = (self.name, iteration, *inside(iteration))
        return self.log.db.execute(sql, values).fetchone() is not None
        # done


class Activity(Consumer):
    """Executes the requests of one activity."""

    eager = False  # Starts must not use up attempts.

    def __init__(
        self, log: Log, namespace: str, name: str, function: Work, attempts: float = math.inf
    ) -> None:
        super().__init__(log, f"activity/{namespace}/{name}")
        self.attempts = attempts
        self.place = (namespace, name)
        self.function = function

    def wants(self, event: Event) -> bool:
        """A request of this activity."""
        if event.type != REQUEST:
            return False
        namespace, _, _, _, target, _ = event.key.split("/")
        return (namespace, target) == self.place

    def handle(self, event: Event) -> list[Write]:
        """The response, unless the log has it."""
        if self.log.find(RESPONSE, event.key):
            return []
        # TODO(you): Let the consumer know what your function raises.
        # instead: value = self.function(Attempt(event.key), event.value)
        with user_code():
            value = self.function(Attempt(event.key, self.attempt), event.value)
            json.dumps(value, allow_nan=False)  # A value that cannot be stored is a failure, too.
        # done
        return [New(RESPONSE, event.key, {"value": value})]

    # TODO(you): After the last attempt the response is a failure.
    def failed(self, event: Event, error: Exception) -> list[Write]:
        """The next attempt, or the failure if there is none."""
        if self.attempt < self.attempts and not isinstance(error, GiveUp):
            return super().failed(event, error)
        failure = Failed(str(error), type(error).__name__, None, self.attempt)
        sql = "DELETE FROM parked WHERE consumer = ? AND event = ?"
        return [
            New(RESPONSE, event.key, {"failure": failure.stored}),
            Change(sql, (self.name, event.id)),
        ]

    # done


class Sleeper(Consumer):
    """Answers the sleeps of all namespaces."""

    def __init__(self, log: Log) -> None:
        super().__init__(log, "replay_sleep")

    def wants(self, event: Event) -> bool:
        """A sleep."""
        return event.type == REQUEST and event.key.split("/")[4] == "replay_sleep"

    def handle(self, event: Event) -> list[Write]:
        """A row with the moment at which the sleep is over."""
        sql = "INSERT INTO sleeps (key, due) VALUES (?, ?) ON CONFLICT (key) DO NOTHING"
        with user_code():  # Another program may request a sleep of "soon".
            return [Change(sql, (event.key, event.time + int(event.value)))]

    def idle(self) -> bool:
        """Answer the sleep that has been over for longest."""
        sql = "SELECT key FROM sleeps WHERE done = 0 AND due <= ? ORDER BY due LIMIT 1"
        row = self.log.db.execute(sql, (self.log.now(),)).fetchone()
        if row is None:
            return super().idle()
        done = Change("UPDATE sleeps SET done = 1 WHERE key = ?", row)
        self.commit(self.position, [New(RESPONSE, row[0], {}), done])
        return True


class Matcher(Consumer):
    """Gives signals to the awaits of all namespaces."""

    def __init__(self, log: Log) -> None:
        super().__init__(log, "replay_signal")

    def wants(self, event: Event) -> bool:
        """An await, or the end of an iteration that may leave one open."""
        is_await = event.type == REQUEST and event.key.split("/")[4] == "replay_signal"
        return is_await or event.type == COMPLETED

    def handle(self, event: Event) -> list[Write]:
        """A row for an await, and its response if there is a signal already."""
        if event.type == COMPLETED:
            return self.close(event)
        if self.log.find(RESPONSE, event.key):
            return []
        with user_code():  # Another program may request anything.
            *run, _, _, place = event.key.split("/")
            type, until = int(place.split(":")[0]), event.time + int(event.value)
        sql = """INSERT INTO awaits (id, key, run, type, until) VALUES (?, ?, ?, ?, ?)
            ON CONFLICT (id) DO NOTHING"""
        opened = Change(sql, (event.id, event.key, "/".join(run), type, until))
        sql = """SELECT id, value FROM signals WHERE run = ?1 AND type = ?2 AND time <= ?3
            AND taken_by IS NULL ORDER BY id LIMIT 1"""
        older = "SELECT 1 FROM awaits WHERE open AND run = ?1 AND type = ?2 AND id < ?3"
        row = self.log.db.execute(sql, ("/".join(run), type, until)).fetchone()
        if row is None or self.log.db.execute(older, ("/".join(run), type, event.id)).fetchone():
            return [opened]
        return [opened, *self.answer(event.key, {"value": json.loads(row[1])}, row[0])]

    def close(self, end: Event) -> list[Write]:
        """An iteration that has ended leaves no await open, and keeps no signal it never got."""
        late = f"SELECT key FROM events WHERE type = {RESPONSE} AND iteration = ? AND id > ?"
        return [
            Change("UPDATE awaits SET open = 0 WHERE key > ? AND key < ?", inside(end.key)),
            Change(
                f"UPDATE signals SET taken_by = NULL WHERE taken_by IN ({late})", (end.key, end.id)
            ),
        ]

    def idle(self) -> bool:
        """Give a signal to an await, or tell it that none has come."""
        sql = """SELECT awaits.key, signals.id, signals.value
            FROM awaits JOIN signals USING (run, type)
            WHERE open AND taken_by IS NULL AND signals.time <= until
            ORDER BY awaits.id, signals.id LIMIT 1"""
        if row := self.log.db.execute(sql).fetchone():
            answer = self.answer(row[0], {"value": json.loads(row[2])}, row[1])
            self.commit(self.position, answer)
            return True
        sql = "SELECT key FROM awaits WHERE open AND until <= ? ORDER BY until, id LIMIT 1"
        if row := self.log.db.execute(sql, (self.log.now(),)).fetchone():
            self.commit(self.position, self.answer(row[0], {}, None))
            return True
        return super().idle()

    def answer(self, key: str, value: dict[str, Any], signal: int | None) -> list[Write]:
        """The response, the await's state and the signal's mark: they belong together."""
        closed = Change("UPDATE awaits SET open = 0 WHERE key = ?", (key,))
        taken = Change("UPDATE signals SET taken_by = ? WHERE id = ?", (key, signal))
        return [New(RESPONSE, key, value), closed, taken]


def drain(consumers: Sequence[Consumer]) -> None:
    """Let each consumer work while it has something to do, until none has."""
    while sum(consumer.step() for consumer in consumers):
        pass


def consumers(log: Log, namespace: str, flows: Flows, works: Works) -> list[Consumer]:
    """A consumer for each workflow and activity of a namespace."""
    return [
        Sleeper(log),
        Matcher(log),
        *(Workflow(log, namespace, name, flow) for name, flow in flows.items()),
        *(Activity(log, namespace, name, work) for name, work in works.items()),
    ]


def work(log: Log, namespace: str, flows: Flows, works: Works) -> None:
    """Do all that there is to do now for the runs of a namespace."""
    workers = consumers(log, namespace, flows, works)
    try:
        drain(workers)
    finally:
        for worker in workers:
            worker.release()
