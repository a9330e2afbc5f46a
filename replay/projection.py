"""The table of runs: one row for each run, so that nobody has to read the log to list them.

Role: `Projection` reads all events and keeps `replay_runs` up to date.  `load` and `State.fold`
make the state of a run from its row and the events behind it, here and in `replay.query`.

Invariants (Q1):

- A row says what the events up to the cursor of `Projection` say, and nothing of it is written
  elsewhere: the table can be dropped and made again from event 1.
- `fold` may see an event twice, so a query that reads the cursor, then the rows, then the events
  behind the cursor is right even if rows were written in between.

A row changes only if the run's status or iteration does.  `Projection` rests between two commits,
so that a short run costs one row, written with many others.  It passes over the activities of runs
that have never waited: only of a run that waits it makes a difference whether they are open.

Left to `replay.query`: what users ask.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import cast

from .consumer import FULL, Batch, Consumer, Metrics
from .failure import CANCELLED as CANCEL_KIND
from .failure import FAILURE, read_failure
from .log import Log
from .signal import TARGET as SIGNAL
from .sleep import TARGET as SLEEP
from .storage.database import (
    Row,
    Statement,
    chunks,
    for_each,
    from_text,
    insertion,
    placeholders,
    to_text,
)
from .storage.event import Event, EventType, Key, is_over
from .storage.tail import BATCH

TARGET = "replay_runs"
RUNNING, WAITING = "running", "waiting"
COMPLETED, FAILED, CANCELLED = "completed", "failed", "cancelled"
#: The stored statuses, by their numbers.  Parking is in `replay_parked`, and changes no event.
STORED = {1: RUNNING, 2: WAITING, 3: COMPLETED, 4: FAILED, 5: CANCELLED}
NUMBER = {status: number for number, status in STORED.items()}
COLUMNS = "id, namespace, workflow, run, started_at, iteration, status, ended_at"
_IDLE = (SLEEP, SIGNAL)
#: The targets of events that any run's row may depend on: "" is that of its begin and its end.
_TELLING = frozenset({"", FAILURE, *_IDLE})
# To look them up in the class takes longer than all else that is done about an event.
_NOOP, _CREATED, _COMPLETED, _OUTPUT, _REQUEST, _RESPONSE = EventType
#: How long the projection rests after it has come to the head.
REST = timedelta(seconds=0.25)
_RUNS, _OPEN = 10_000, 100_000  # runs, and requests of theirs, that are kept in memory
_ALIKE = 4  # runs from which on their rows are changed by one statement
_SOME = 100  # runs whose requests one query reads
_HEAD = 16 * 1024  # bytes of a failure that hold its kind and its text
#: Most runs have nothing open.  A set for each takes 216 bytes, and the garbage collector's time.
_NONE = cast("set[str]", frozenset())
Run = tuple[str, str, str]


class State:
    """A run as far as its events were seen."""

    __slots__ = (
        "busy",
        "end",
        "ended_at",
        "failure",
        "id",
        "idle",
        "iteration",
        "run",
        "started_at",
        "stored",
    )

    def __init__(self, id: int, run: Run, started_at: datetime) -> None:
        self.id = id
        self.run = run
        self.started_at = started_at
        self.ended_at: datetime | None = None
        self.iteration = 0
        #: How it has ended: `COMPLETED`, `FAILED`, `CANCELLED`; "" if it has not.
        self.end = ""
        #: How it ends if it completes now.
        self.failure = ""
        #: The keys of its open requests: of activities; of sleeps and awaits.
        self.busy = self.idle = _NONE
        #: Iteration and status in its row; None if there is no row.
        self.stored: tuple[int, str] | None = None

    @property
    def status(self) -> str:
        """The status as stored: a parked run counts as running or waiting."""
        return self.end or (WAITING if self.idle and not self.busy else RUNNING)

    def key(self) -> Key:
        """The key of its newest iteration."""
        return Key(*self.run, self.iteration)

    def row(self) -> Row:
        """The row that says this, in the order of `COLUMNS`."""
        return (self.id, *self.run, to_text(self.started_at), *self.changes())

    def changes(self) -> Row:
        """The part of it that changes: iteration, status and end."""
        ended = to_text(self.ended_at) if self.ended_at is not None else None
        return (self.iteration, NUMBER[self.status], ended)

    def opened(self, request: str, waits: bool) -> None:
        """Note an open request: of a sleep or an await if it `waits`, else of an activity."""
        if waits:
            self.idle = self.idle or set()
            self.idle.add(request)
        else:
            self.busy = self.busy or set()
            self.busy.add(request)

    def fold(self, event: Event) -> bool:
        """Take an event of this run into account, which may be one that the row has already.

        Returns whether its status may have changed: a step of a running run changes nothing.
        """
        key, type = event.key, event.type
        if key.iteration != self.iteration:
            if type is _CREATED and key.iteration > self.iteration:
                self.iteration, self.end, self.ended_at, self.failure = key.iteration, "", None, ""
                self.busy = self.idle = _NONE
        elif type is _REQUEST or type is _RESPONSE:
            waits = key.target in _IDLE
            if type is _REQUEST:
                self.opened(event.text, waits)
            elif open := self.idle if waits else self.busy:
                open.discard(event.text)
            return waits or bool(self.idle)
        elif type is _OUTPUT:
            if key.target != FAILURE:
                return False
            found = read_failure(event)
            self.failure = ending(found.kind if found is not None else "")
        elif type is _COMPLETED:
            self.end, self.ended_at = self.failure or COMPLETED, event.timestamp
        return True


def ending(kind: str) -> str:
    """How a run with a failure of this kind has ended."""
    return CANCELLED if kind == CANCEL_KIND else FAILED


def begins(event: Event) -> bool:
    """Whether a run begins with this event, and is not pruned: then it is in no list (L9)."""
    return event.type is _CREATED and event.key.iteration == 0 and not is_over(event.raw)


def matters(event: Event) -> bool:
    """Whether `State.fold` looks at events like this."""
    type = event.type
    return type is not _NOOP and (type is not _OUTPUT or event.key.target == FAILURE)


def read_state(log: Log, row: Row) -> State | None:
    """Read a row of the table; None if nobody can, because another program wrote it (L3)."""
    id, namespace, workflow, run, started, iteration, status, ended = row
    try:
        state = State(int(id), (str(namespace), str(workflow), str(run)), from_text(started))
        state.iteration = int(iteration)
        state.ended_at = None if ended is None else from_text(ended)
        name = STORED[status]
    except (KeyError, TypeError, ValueError) as error:
        log.database.pass_over("replay_runs", id, error)
        return None
    state.stored = (state.iteration, name)
    if name == WAITING:
        state.opened("", True)  # until `load_open` says which
    state.end = name if name not in (RUNNING, WAITING) else ""
    state.failure = name if name in (FAILED, CANCELLED) else ""  # if its end is read again
    return state


def ids_of(log: Log, runs: Collection[Run]) -> dict[int, Run]:
    """Find the rows of these runs: a row has the id of its run's first created event."""
    names = {str(Key(*run)): run for run in runs}
    found: dict[int, Run] = {}
    sql = "SELECT id, `key` FROM replay_events WHERE type = 1 AND `key` IN ?"
    for id, text in log.database.query_each(sql, list(names)):
        if text in names:
            found[id] = names[text]
    return found


def unlist(log: Log, runs: Collection[Run]) -> Iterator[Statement]:
    """Remove the rows of runs that are pruned, in the transaction that prunes them (L9)."""
    return for_each("DELETE FROM replay_runs WHERE id IN ?", list(ids_of(log, runs)))


def load(log: Log, runs: Collection[Run]) -> dict[Run, State]:
    """Read the rows of these runs."""
    found = ids_of(log, runs)
    return {
        state.run: state for state in with_ids(log, list(found)) if found[state.id] == state.run
    }


def with_ids(log: Log, ids: Sequence[int]) -> list[State]:
    """Read the rows with these ids."""
    rows = log.database.query_each(f"SELECT {COLUMNS} FROM replay_runs WHERE id IN ?", ids)
    states = [read_state(log, row) for row in rows]
    return [state for state in states if state is not None]


def load_open(log: Log, states: Iterable[State], up_to: int) -> None:
    """Read from the log what runs that have not ended had open at id `up_to`, and how they fail."""
    groups: dict[tuple[str, str], list[State]] = defaultdict(list)
    for state in states:
        if not state.end:
            state.busy = state.idle = _NONE
            groups[state.run[:2]].append(state)
    for workflow, members in groups.items():
        for some in chunks(members, _SOME):
            _load_open(log, workflow, {state.key(): state for state in some}, up_to)
    failed = load_failures(log, [state for group in groups.values() for state in group], up_to)
    for state, (kind, _) in failed.items():
        state.failure = ending(kind)


def _load_open(log: Log, workflow: tuple[str, str], states: dict[Key, State], up_to: int) -> None:
    runs = {key.run for key in states}
    iterations = {key.iteration for key in states}
    rows = log.database.query(
        "SELECT `key` FROM replay_events WHERE type IN (4, 5)"
        f" AND namespace = ? AND workflow = ? AND run IN ({placeholders(len(runs))})"
        # Plus 0, or MySQL may read the whole table in the order of its ids.
        f" AND iteration IN ({placeholders(len(iterations))}) AND id + 0 <= ?"
        " GROUP BY `key` HAVING MAX(type) = 4",
        (*workflow, *runs, *iterations, up_to),
    )
    for (text,) in rows:
        try:
            key = Key.parse(str(text))
        except ValueError:
            continue  # the log has told of it when it read it (L3)
        if (state := states.get(key.iteration_key())) is not None:
            state.opened(text, key.target in _IDLE)


def load_failures(
    log: Log, states: Collection[State], up_to: int | None = None
) -> dict[State, tuple[str, str]]:
    """Return kind and text of the failures of these runs' newest iterations."""
    names = {str(Key(*state.key()[:4], FAILURE, "0")): state for state in states}
    found: dict[State, tuple[str, str]] = {}
    sql = (
        f"SELECT id, `key`, SUBSTR(message, 1, {_HEAD}) FROM replay_events"
        " WHERE type = 3 AND `key` IN ?"
    )
    for id, text, head in log.database.query_each(sql, list(names)):
        if text in names and (up_to is None or id <= up_to):
            found[names[text]] = _kind_and_text(head if isinstance(head, bytes) else b"")
    return found


def _kind_and_text(head: bytes) -> tuple[str, str]:
    """Read kind and text of a failure from its first bytes: the detail behind them may be large."""
    fields = _fields(_fields(head).get(2, b""))
    kind, text = (fields.get(number, b"").decode("utf-8", "replace") for number in (1, 2))
    return kind, text


def _fields(raw: bytes) -> dict[int, bytes]:
    """The first fields of a protobuf message that are bytes, by number; the last may be cut."""
    found: dict[int, bytes] = {}
    at = 0
    while at < len(raw) and raw[at] & 0x87 == 2:  # a number below 16, and bytes
        number, at = raw[at] >> 3, at + 1
        length = shift = 0
        while at < len(raw) and shift < 35:
            length, at, more = length | (raw[at] & 127) << shift, at + 1, raw[at] > 127
            shift += 7
            if not more:
                break
        found[number], at = raw[at : at + length], at + length
    return found


def _update(changes: Row, ids: Sequence[int]) -> Iterator[Statement]:
    """Change many rows alike, which costs a fraction of writing them anew."""
    sql = "UPDATE replay_runs SET iteration = ?, status = ?, ended_at = ? WHERE id IN ?"
    return for_each(sql, ids, *changes)


class Projection(Consumer):
    """Keeps the table of runs up to date.  It adds no events.

    While it is behind it writes once for many batches, so most short runs cost one row.
    """

    stride = 10 * BATCH

    def __init__(self, events: Log, *, metrics: Metrics | None = None) -> None:
        super().__init__(events, TARGET, metrics=metrics)
        self._states: OrderedDict[Run, State] = OrderedDict()  # the one used last is the last
        self._touched: dict[Run, State] = {}  # those whose rows may have to change
        self._quiet: set[Run] = set()  # those that have never waited: `busy` is not kept up
        self._open = 0  # their open requests
        self._rest_until: datetime | None = None

    def wants(self, event: Event) -> bool:
        """As in `Consumer`."""
        return matters(event)

    def forget(self) -> None:
        """As in `Consumer`."""
        self._states.clear()
        self._touched.clear()
        self._quiet.clear()
        self._open = 0

    def blocked(self) -> datetime | None:
        """As in `Consumer`: it rests, so that many changes of a run are one, and many rows, too."""
        until, behind = self._rest_until, self._log.tail.end - (self._position or 0)
        return until if until is not None and behind < BATCH and self._log.now() < until else None

    def select(self, events: Sequence[Event]) -> Sequence[Event]:
        """As in `Consumer`: what may change a row, or else one event, or the cursor would stay."""
        quiet = self._quiet
        found = [e for e in events if e.key.target in _TELLING or e.key[:3] not in quiet]
        return found or events[-1:]

    def handle(self, events: Sequence[Event], batch: Batch) -> None:
        """As in `Consumer`."""
        states, loaded = self._states, False
        for event in events:
            run: Run = event.key[:3]
            state = states.get(run)
            if event.type is _CREATED and begins(event):
                if state is None or state.id != event.id:  # a forgotten id is used again
                    state = states[run] = State(event.id, run, event.timestamp)
                    self._quiet.add(run)
            elif state is None and matters(event):
                if not loaded:
                    self._load(events, self._position or 0)
                    loaded = True
                state = states.get(run)
            # Without a state its run has no row: it is pruned, or another program has begun it.
            if state is not None and state.fold(event):
                self._touched[run] = state
        self._open += len(events)  # at least what is open; counted anew when it seems too much
        behind = self._log.tail.end - batch.position
        passed = batch.position - self._committed
        full = passed >= self.stride or len(self._touched) >= FULL  # others wait for its rows
        if behind < BATCH or full or batch.handled:
            self._store(batch)
            if events:
                self._rest_until = self._log.now() + REST

    def retry(self, parked: object, batch: Batch) -> None:
        """As in `Consumer`; it parks nothing."""

    def _load(self, events: Sequence[Event], up_to: int) -> None:
        """Bring the runs of `events` into memory as they were at id `up_to`, but no new ones."""
        runs: set[Run] = {event.key[:3] for event in events if matters(event)}
        runs.difference_update(self._states, (each.key[:3] for each in events if begins(each)))
        found = load(self._log, runs)
        load_open(self._log, found.values(), up_to)
        self._states |= found

    def _listen(self, up_to: int) -> None:
        """Find out what else is open of the runs that wait for the first time, at id `up_to`."""
        waiting = [s for s in self._touched.values() if s.idle and s.run in self._quiet]
        self._quiet.difference_update(state.run for state in waiting)
        load_open(self._log, waiting, up_to)
        self._open += sum(len(state.busy) for state in waiting)

    def _store(self, batch: Batch) -> None:
        self._listen(batch.position)
        rows: list[Row] = []
        alike: dict[object, list[State]] = defaultdict(list)
        for state in self._touched.values():
            before, state.stored = state.stored, (state.iteration, state.status)
            if before is None:
                rows.append(state.row())
            elif before != state.stored:
                alike[state.stored, state.ended_at].append(state)
        for states in alike.values():
            if len(states) < _ALIKE:
                rows += [state.row() for state in states]
            else:
                batch.also += _update(states[0].changes(), [state.id for state in states])
        for some in chunks(rows):
            sql, parameters, _ = insertion("replay_runs", COLUMNS, some)
            batch.also.append(Statement(sql.replace("INSERT", "REPLACE", 1), parameters))
        self._keep()

    def _keep(self) -> None:
        """Forget runs that have ended, and those that were used least recently."""
        for run, state in self._touched.items():
            if state.end:
                del self._states[run]
                self._quiet.discard(run)
            else:
                self._states.move_to_end(run)
        self._touched.clear()
        if len(self._states) > _RUNS or self._open > _OPEN:
            self._shorten()

    def _shorten(self) -> None:
        sizes = {run: len(each.busy) + len(each.idle) for run, each in self._states.items()}
        self._open = sum(sizes.values())
        while self._states and (len(self._states) > _RUNS // 2 or self._open > _OPEN // 2):
            run, _ = self._states.popitem(last=False)
            self._quiet.discard(run)
            self._open -= sizes[run]
