"""Queries: what runs there are, and what each waits for.

Role: `Queries` answers from the database; `replay.server.remote` has the same by calls.  A list
of runs is read from the table of `replay.projection`, and overlaid with the events behind that
table's cursor and with the parked rows.  So it is right at the moment of the call (Q1).  One run is
described from its own events.

Invariant: a list or a description writes nothing, and reads a bounded number of rows.  Only
`settle` fills gaps, for streams.

Left to `replay.client`: the names under which users call this.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from .failure import FAILURE, RESULT, RunFailed, read_failure
from .log import EventsPruned, Log, checked_cursor, first_gap
from .projection import (
    CANCELLED,
    COLUMNS,
    COMPLETED,
    FAILED,
    NUMBER,
    RUNNING,
    STORED,
    TARGET,
    WAITING,
    Run,
    State,
    begins,
    ending,
    ids_of,
    load,
    load_failures,
    load_open,
    matters,
    read_state,
    with_ids,
)
from .signal import SEEN
from .signal import TARGET as SIGNAL
from .sleep import TARGET as SLEEP
from .sleep import requested_duration
from .storage.database import Error, Row, chunks, from_text, later, placeholders, to_text
from .storage.event import (
    Event,
    EventType,
    InvalidName,
    Key,
    MessageError,
    Unreadable,
    check_name,
    check_run,
    is_over,
    read_event,
)
from .storage.tail import BATCH

PARKED = "parked"
UNFINISHED = (RUNNING, WAITING, PARKED)
STATUSES = (*UNFINISHED, COMPLETED, FAILED, CANCELLED)
#: The most rows that one query returns.
MOST = 1000
#: The most parked runs among which a query looks for those that are asked for.
MOST_PARKED = 10_000
_IDLE = (SLEEP, SIGNAL)
_FARTHEST = 20_000  # events behind the cursor that a query reads
_SKEW = timedelta(minutes=1)  # by which the times of events may go back
_LOOKS = 3  # times that runs are counted while their table is written
_CHUNK = 500  # events that are read by their ids at a time
_IDS = 10_000  # ids that are read at a time


class UnknownRun(Error, LookupError):
    """The log has no run of this name."""


class BadQuery(Error, ValueError):
    """A query with a status, a limit or a place that does not exist."""


class QueryBehind(Error):
    """The table of runs is so far behind the log that a query cannot make up for it (Q1)."""


@dataclass(frozen=True, slots=True)
class RunInfo:
    """A run, as a list shows it."""

    namespace: str
    workflow: str
    run: str
    #: The newest iteration.
    iteration: int
    #: One of `STATUSES`.
    status: str
    #: The time of the created event of iteration 0, in UTC.
    started_at: datetime
    #: The time of the completed event of the last iteration; None if the run has not ended.
    ended_at: datetime | None
    #: The error of a parked run, or the text of one that has failed or was cancelled; else "".
    error: str
    #: The id of the newest event of the newest iteration.
    last_event_id: int
    #: The id of the created event of iteration 0: the run's place in a list, see `after`.
    id: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request of a run that has no response."""

    #: ``activity``, ``sleep`` or ``signal``.
    kind: str
    #: The activity's name; the type of a signal, as a number; "" for a sleep.
    name: str
    #: The time of the request, in UTC.
    since: datetime
    #: When a sleep, or the timeout of an await, is over; None if there is no such time.
    until: datetime | None
    #: How many attempts have failed.
    attempts: int
    #: The error of the last one, or "".
    error: str
    #: When the next attempt is due; None if none has failed, or one is under way.
    next_at: datetime | None
    #: The request's key.
    key: str


@dataclass(frozen=True, slots=True)
class RunDescription:
    """A run and what it waits for."""

    namespace: str
    workflow: str
    run: str
    iteration: int
    #: One of `STATUSES`.
    status: str
    started_at: datetime
    ended_at: datetime | None
    #: The result of the last iteration; None if there is none, or it has not ended.
    result: Any
    #: `RunFailed` with `kind`, `text` and `detail` if the run has failed or was cancelled.
    failure: Exception | None
    #: The error of a parked run, or the text of the failure; else "".
    error: str
    #: Of a parked run: how many attempts have failed, and when the next is due.
    attempts: int
    next_at: datetime | None
    #: The oldest 1,000 requests without a response, in their order.
    waiting_for: Sequence[Waiting]
    #: The id of the newest event of the newest iteration.
    last_event_id: int


@dataclass(frozen=True, slots=True)
class ConsumerInfo:
    """A consumer's name, and how far it has read."""

    name: str
    #: ``HOST:PID`` of the process that owns the name; "" if none does.
    owner: str
    #: When the owner's lease ends unless it is renewed, in UTC.
    lease_until: datetime | None
    #: The id up to which it is done.
    cursor: int
    #: How many events follow the cursor.  Up to 1,000 are normal: see L5.
    lag: int
    #: How many events it has parked.
    parked: int


@dataclass(frozen=True, slots=True)
class ParkedInfo:
    """An event that a consumer has parked."""

    consumer: str
    event_id: int
    namespace: str
    workflow: str
    run: str
    #: The key of the request; for a workflow, that of the iteration.
    key: str
    #: How many attempts have failed.
    attempts: int
    #: The last one's error; ``running`` for a request that is executed just now.
    error: str
    #: When the next attempt is due, in UTC.
    next_at: datetime
    #: Its place in a list, see `after`.
    id: int


@dataclass(frozen=True, slots=True)
class RunsQuery:
    """A checked query for runs.  Raises `BadQuery` or `InvalidName`."""

    #: None: all that there are.
    namespaces: frozenset[str] | None = None
    workflow: str = ""
    statuses: frozenset[str] = frozenset()  # empty: all
    started_after: datetime | None = None
    limit: int = 50
    after: int = 0  # the id of the last run of the list so far; 0: none

    def __post_init__(self) -> None:
        _check_scope(self.namespaces, self.workflow)
        if unknown := self.statuses.difference(STATUSES):
            raise BadQuery(f"status {min(unknown)!r:.100}: expected one of {', '.join(STATUSES)}")
        check_limit(self.limit)
        if not isinstance(self.after, int) or not 0 <= self.after < 2**63:
            raise BadQuery(f"after={self.after!r:.100}: expected a RunInfo or its id")
        if self.started_after is not None and self.started_after.tzinfo is None:
            raise BadQuery("started_after is a time without a zone: use datetime.now(UTC), or so")

    def covers(self, run: Run) -> bool:
        """Whether it is about the namespace and the workflow of this run."""
        return (self.namespaces is None or run[0] in self.namespaces) and (
            not self.workflow or run[1] == self.workflow
        )


@dataclass(frozen=True, slots=True)
class ParkedQuery:
    """A checked query for what is parked.  Raises `BadQuery` or `InvalidName`."""

    namespaces: frozenset[str] | None = None
    workflow: str = ""
    run: str = ""
    limit: int = 50
    #: Key and id of the last one of the list so far.
    after: tuple[str, int] = ("", 0)

    def __post_init__(self) -> None:
        _check_scope(self.namespaces, self.workflow, self.run)
        check_limit(self.limit)
        key, id = self.after
        if len(key) > 512 or not 0 <= id < 2**63:
            raise BadQuery(f"after={self.after!r:.100}: expected a ParkedInfo")


def _check_scope(namespaces: Collection[str] | None, workflow: str, run: str = "") -> None:
    if (workflow and (namespaces is None or len(namespaces) != 1)) or (run and not workflow):
        raise BadQuery("a run needs its workflow, and a workflow its namespace: give those, too")
    for what, name in (("workflow", workflow), ("run", run)):
        if name:
            check_name(what, name)
    for name in namespaces or ():
        check_name("namespace", name)


def check_limit(limit: int) -> int:
    """Return a limit.  Raises `BadQuery` for one that is none."""
    if type(limit) is not int or not 1 <= limit <= MOST:
        raise BadQuery(f"limit={limit!r:.100}: expected 1 to {MOST}")
    return limit


@dataclass(slots=True)
class _Behind:
    """The events behind the cursor of the table of runs, by run."""

    cursor: int
    events: dict[Run, list[Event]] = field(default_factory=lambda: defaultdict(list))


#: The mark that may stand in a created event instead of a message (L9); no other message matters.
_MARK = "CASE WHEN type = 1 AND LENGTH(message) < 100 THEN message END"


class Queries:
    """Asks one log."""

    def __init__(self, log: Log) -> None:
        self._log = log

    # Lists of runs.

    def runs(self, ask: RunsQuery) -> list[RunInfo]:
        """Return the runs, newest first.  Raises `QueryBehind`."""
        behind = self._behind(ask)
        others = self._moved(ask, behind)
        below, above = ask.after or 2**63 - 1, self._lowest(ask.started_after)
        found: list[tuple[State, str, str]] = []
        while below and len(found) < ask.limit:
            states, floor = self._page(ask, below, above)
            states |= {id: each for id, each in others.items() if floor <= id < below}
            self._catch_up(states.values(), behind)
            found += self._labelled(ask, states)
            below = floor
        return self._infos(found[: ask.limit])

    def _behind(self, ask: RunsQuery) -> _Behind:
        """Read what the table does not say yet.  Gaps do not matter: it is read again each time."""
        behind = _Behind(self._cursor())
        after, count = behind.cursor, 0
        while rows := self._log.database.query(
            f"SELECT id, type, `key`, timestamp, {_MARK} FROM replay_events"
            " WHERE id > ? ORDER BY id LIMIT ?",
            (after, BATCH),
        ):
            for event in _events(rows):
                if matters(event) and ask.covers(run := event.key[:3]):
                    if begins(event):  # what another program has added before counts for nothing
                        behind.events.pop(run, None)
                    behind.events[run].append(event)
            after, count = rows[-1][0], count + len(rows)
            if count > _FARTHEST:
                raise QueryBehind(
                    f"the table of runs is at event {behind.cursor}, more than {_FARTHEST} events"
                    " behind the log: let a process with registered consumers, or a server, fill"
                    " it, and try again"
                )
            if len(rows) < BATCH:
                break
        return behind

    def _cursor(self) -> int:
        rows = self._log.database.query(
            "SELECT last_event_id FROM replay_cursors WHERE id = ?", (TARGET,)
        )
        return checked_cursor(TARGET, rows[0][0]) if rows else 0

    def _moved(self, ask: RunsQuery, behind: _Behind) -> dict[int, State]:
        """The runs that a page of the table may lack: new ones, and those of another status."""
        moved = [State(each[0].id, run, each[0].timestamp) for run, each in behind.events.items()]
        new = [state for state in moved if begins(behind.events[state.run][0])]
        if not ask.statuses:
            return {state.id: state for state in new}
        known = {state.run for state in new}
        old = load(self._log, behind.events.keys() - known).values()
        parked = with_ids(self._log, list(self._parked_runs(ask)))
        return {state.id: state for state in (*parked, *old, *new)}

    def _parked_runs(self, ask: RunsQuery) -> set[int]:
        """The ids of runs that are parked, if a page of the table would not show them."""
        if PARKED not in ask.statuses or ask.statuses.issuperset(UNFINISHED):
            return set()
        return set(ids_of(self._log, {key[:3] for key in self._parked_keys(ask)}))

    def _parked_keys(self, ask: RunsQuery) -> Iterator[Key]:
        for start in _prefixes(ask.namespaces, ask.workflow):
            where, bounds = _within(start)
            rows = self._log.database.query(
                "SELECT `key` FROM replay_parked"
                f" WHERE consumer > 'workflow/' AND consumer < 'workflow0'{where} LIMIT ?",
                (*bounds, MOST_PARKED),
            )
            for key in filter(None, (_key(text) for (text,) in rows)):
                if ask.covers(key[:3]):
                    yield key

    def _lowest(self, started_after: datetime | None) -> int:
        """The id up to which all runs began before this time.

        Ids and times grow together but for a little, so it takes a few looks, not a scan.
        """
        if started_after is None:
            return 0
        query = "SELECT id, started_at FROM replay_runs WHERE id > ? ORDER BY id LIMIT 1"
        low, high = 0, self._log.newest()
        while low < high:
            middle = (low + high) // 2
            rows = self._log.database.query(query, (middle,))
            if rows and from_text(rows[0][1]) + _SKEW <= started_after:
                low = rows[0][0]
            else:
                high = middle
        return low

    def _page(self, ask: RunsQuery, below: int, above: int) -> tuple[dict[int, State], int]:
        """Read the next rows of the table, and the id down to which they are complete."""
        most = ask.limit if not ask.statuses else max(ask.limit, BATCH // 2)
        where, parameters = " AND id < ? AND id > ?", list[Any]([below, above])
        if ask.started_after is not None:
            where += " AND started_at > ?"
            parameters.append(to_text(ask.started_after.astimezone(UTC)))
        rows: list[Row] = []
        for condition, values in self._ranges(ask):
            sql = f"SELECT {COLUMNS} FROM replay_runs WHERE {condition}{where}"
            rows += self._log.database.query(
                f"{sql} ORDER BY id DESC LIMIT ?", (*values, *parameters, most)
            )
        rows.sort(key=lambda row: -row[0])
        floor = rows[most - 1][0] if len(rows) >= most else 0
        states = (read_state(self._log, row) for row in rows[:most])
        return {
            each.id: each for each in states if each is not None and ask.covers(each.run)
        }, floor

    def _ranges(self, ask: RunsQuery) -> Iterator[tuple[str, Sequence[Any]]]:
        """The parts of the table that a query is about, each in the order of ids in an index."""
        if ask.namespaces is None and not ask.statuses:
            yield "1 = 1", ()
            return
        statuses = ask.statuses - {PARKED} if ask.statuses else NUMBER.keys()
        for names in self._workflows(ask) if statuses else ():
            for status in statuses:
                yield "namespace = ? AND workflow = ? AND status = ?", (*names, NUMBER[status])

    def _workflows(self, ask: RunsQuery) -> Iterator[tuple[str, str]]:
        """The workflows that a query is about.  One look in the index finds the next one.

        An index for each question would double what a row costs on a database server.
        """
        first = "SELECT MIN(workflow) FROM replay_runs WHERE namespace = ? AND workflow > ?"
        for namespace in self._namespaces() if ask.namespaces is None else sorted(ask.namespaces):
            workflow = ask.workflow or self._least(first, namespace, "")
            while workflow:
                yield namespace, workflow
                workflow = "" if ask.workflow else self._least(first, namespace, workflow)

    def _namespaces(self) -> Iterator[str]:
        first, found = "SELECT MIN(namespace) FROM replay_runs WHERE namespace > ?", ""
        while found := self._least(first, found):
            yield found

    def _least(self, sql: str, *after: str) -> str:
        return str(self._log.database.query(sql, after)[0][0] or "")

    def _catch_up(self, states: Collection[State], behind: _Behind) -> None:
        """Add to these states what the events behind the cursor say."""
        moved = [state for state in states if state.run in behind.events]
        load_open(self._log, [each for each in moved if each.stored is not None], behind.cursor)
        for state in moved:
            for event in behind.events[state.run]:
                state.fold(event)
        failed = [state for state in moved if state.end in (FAILED, CANCELLED)]
        for state, (kind, _) in load_failures(self._log, failed).items():
            state.end = ending(kind)

    def _labelled(self, ask: RunsQuery, states: dict[int, State]) -> list[tuple[State, str, str]]:
        """Those of the states that are asked for, newest first, with status and error."""
        alive = [str(state.key()) for state in states.values() if not state.end]
        parked = {each.key: each.error for each in self.parked_at(alive)}
        found = []
        for state in sorted(states.values(), key=lambda state: -state.id):
            error = None if state.end else parked.get(str(state.key()))
            status = state.status if error is None else PARKED
            late = ask.started_after is None or state.started_at > ask.started_after
            if late and (not ask.statuses or status in ask.statuses):
                found.append((state, status, error or ""))
        return found

    def _infos(self, found: Sequence[tuple[State, str, str]]) -> list[RunInfo]:
        states = [state for state, _, _ in found]
        failed = [state for state in states if state.end in (FAILED, CANCELLED)]
        failures = load_failures(self._log, failed)
        last = self._last_events(states)
        return [
            RunInfo(
                *state.run,
                state.iteration,
                status,
                state.started_at,
                state.ended_at,
                error or failures.get(state, ("", ""))[1],
                last.get(state.key(), state.id),
                state.id,
            )
            for state, status, error in found
        ]

    def _last_events(self, states: Iterable[State]) -> dict[Key, int]:
        groups: dict[tuple[str, str], list[State]] = defaultdict(list)
        for state in states:
            groups[state.run[:2]].append(state)
        last: dict[Key, int] = {}
        for workflow, members in groups.items():
            for some in chunks(members, 100):
                runs = {state.run[2] for state in some}
                iterations = {state.iteration for state in some}
                rows = self._log.database.query(
                    "SELECT run, iteration, MAX(id) FROM replay_events"
                    " WHERE type IN (1, 2, 3, 4, 5) AND namespace = ? AND workflow = ?"
                    f" AND run IN ({placeholders(len(runs))})"
                    f" AND iteration IN ({placeholders(len(iterations))}) GROUP BY run, iteration",
                    (*workflow, *runs, *iterations),
                )
                last |= {Key(*workflow, run, iteration): id for run, iteration, id in rows}
        return last

    def count(self, ask: RunsQuery) -> dict[str, int]:
        """Return how many runs there are of each status.  Raises `QueryBehind`."""
        for _ in range(_LOOKS):
            behind = self._behind(ask)
            counts = self._count(ask, behind)
            if self._cursor() == behind.cursor:  # else rows may have been counted twice
                break
        return counts

    def _count(self, ask: RunsQuery, behind: _Behind) -> dict[str, int]:
        counts = dict.fromkeys(STATUSES, 0)
        for condition, values in _scopes(ask):
            sql = f"SELECT status, COUNT(*) FROM replay_runs WHERE {condition} GROUP BY status"
            for number, count in self._log.database.query(sql, values):
                if number in STORED:
                    counts[STORED[number]] += count
        states = self._moved(replace(ask, statuses=frozenset({PARKED})), behind)
        for state in with_ids(self._log, list(states)):
            counts[state.status] -= 1
        self._catch_up(states.values(), behind)
        for _, status, _ in self._labelled(ask, states):
            counts[status] += 1
        return counts

    # One run.

    def describe(
        self, namespace: str, workflow: str, run: str, decode: Callable[[Event], Any]
    ) -> RunDescription:
        """Return what a run's own events say.

        Raises `UnknownRun`, `EventsPruned`, or what `decode` raises.
        """
        check_run(namespace, workflow, run)
        first = Key(namespace, workflow, run)
        created = self._log.find(EventType.RUN_CREATED, first)
        begun, history = -1, list[Event]()
        while begun != (newest := self._log.last_iteration(*first[:3])[0]):
            begun = newest
            history = self._log.history(first._replace(iteration=begun))
        if created is None or not history:
            raise UnknownRun(f"the log of {self._log.name} has no run {namespace}/{workflow}/{run}")
        if is_over(created.raw):
            raise EventsPruned(f"run {namespace}/{workflow}/{run} has ended, and was pruned")
        key = first._replace(iteration=begun)
        completed = [event for event in history if event.type is EventType.RUN_COMPLETED]
        open = [] if completed else _open(history)
        rows = {each.key: each for each in self.parked_at([str(key), *(e.text for e in open)])}
        parked = rows.get(str(key)) if not completed else None
        failure = self._failure(key) if completed else None
        idle = bool(open) and all(event.key.target in _IDLE for event in open)
        status = PARKED if parked else WAITING if idle else RUNNING
        if completed:
            status = COMPLETED if failure is None else ending(failure.kind)
        output = Key(*key[:4], RESULT, "0")
        result = self._log.find(EventType.RUN_OUTPUT, output) if status == COMPLETED else None
        return RunDescription(
            namespace,
            workflow,
            run,
            begun,
            status,
            created.timestamp,
            completed[0].timestamp if completed else None,
            None if result is None else decode(result),
            failure,
            parked.error if parked else failure.text if failure else "",
            parked.attempts if parked else 0,
            parked.next_at if parked else None,
            self._waiting(open, rows),
            history[-1].id,
        )

    def _failure(self, key: Key) -> RunFailed | None:
        event = self._log.find(EventType.RUN_OUTPUT, Key(*key[:4], FAILURE, "0"))
        stored = read_failure(event) if event is not None else None
        return RunFailed("/".join(key[:3]), stored) if stored is not None else None

    def _waiting(self, open: Sequence[Event], rows: dict[str, ParkedInfo]) -> list[Waiting]:
        timed = {e.id for e in open if e.key.target in _IDLE}
        until = {each.id: _until(each) for each in self._with_messages(sorted(timed))}
        return [_waits(event, until.get(event.id), rows.get(event.text)) for event in open]

    def _with_messages(self, ids: Sequence[int]) -> Iterator[Event]:
        """Yield the events with these ids, reading up to 8 MiB ahead."""
        while ids:
            found = self._log.with_ids(ids[:_CHUNK])
            yield from found
            last = found[-1].id if found else ids[:_CHUNK][-1]
            ids = [id for id in ids if id > last]

    def events(self, run: Run, iteration: int | None, after: int, end: int) -> Iterator[Event]:
        """Yield the events of a run, or of one iteration, with ids above `after` up to `end`."""
        while ids := self.ids(run, iteration, after, end):
            for event in self._with_messages(ids):
                if event.type is not EventType.NOOP and event.key[:3] == run:
                    yield event
            after = ids[-1]

    def ids(self, run: Run, iteration: int | None, after: int, end: int) -> list[int]:
        """Return the ids of up to 1,000 such events: the index has them."""
        which, values = ("", ()) if iteration is None else (" AND iteration = ?", (iteration,))
        rows = self._log.database.query(
            "SELECT id FROM replay_events WHERE type IN (1, 2, 3, 4, 5)"
            f" AND namespace = ? AND workflow = ? AND run = ?{which}"
            " AND id + 0 > ? AND id + 0 <= ? ORDER BY id + 0 LIMIT ?",
            (*run, *values, after, end, MOST),
        )
        return [row[0] for row in rows]

    def settle(self, end: int) -> bool:
        """Fill the gaps up to id `end`.  Returns whether none is left (L1).

        It reads ids only, and only behind the cursor of the table of runs, which passes no gap.
        """
        start = max(self._log.tail.end, self._cursor())
        query = "SELECT id FROM replay_events WHERE id > ? AND id <= ? ORDER BY id LIMIT ?"
        while start < end:
            ids = [row[0] for row in self._log.database.query(query, (start, end, _IDS))]
            if (gap := first_gap(start, ids)) is not None:
                if not self._log._fence(gap[:BATCH]):
                    return False
                start = gap.start - 1
            elif ids:
                start = ids[-1]
            else:  # the database has lost its end
                return True
        return True

    # Consumers, and what they have parked.

    def consumers(self, after: str = "") -> tuple[list[ConsumerInfo], str]:
        """Return up to 1,000 consumers with larger names, and where the next ones begin, or ""."""
        rows = self._log.database.query(
            "SELECT id, last_event_id, owner, lease_until FROM replay_cursors"
            " WHERE id > ? ORDER BY id LIMIT ?",
            (after, MOST),
        )
        sql = "SELECT consumer, COUNT(*) FROM replay_parked WHERE consumer IN ? GROUP BY consumer"
        counted = self._log.database.query_each(sql, [row[0] for row in rows])
        parked: dict[str, int] = dict(counted)
        newest, now = self._log.newest(), self._log.now()
        found = [
            _consumer(row, newest, now, parked.get(row[0], 0)) for row in rows if row[0] != SEEN
        ]
        return found, rows[-1][0] if len(rows) == MOST else ""

    def parked(self, ask: ParkedQuery) -> list[ParkedInfo]:
        """Return what is parked, by key."""
        found: list[ParkedInfo] = []
        at, row = ask.after
        for start in _prefixes(ask.namespaces, ask.workflow, ask.run):
            where, bounds = _within(start)
            rows = self._log.database.query(
                f"{_PARKED} WHERE (`key` > ? OR (`key` = ? AND id > ?)){where}"
                " ORDER BY `key`, id LIMIT ?",
                (at, at, row, *bounds, ask.limit - len(found)),
            )
            found += self._readable(rows)
            if len(found) >= ask.limit:
                break
        return found

    def parked_at(self, keys: Sequence[str]) -> list[ParkedInfo]:
        """Return what is parked of these keys."""
        return self._readable(self._log.database.query_each(f"{_PARKED} WHERE `key` IN ?", keys))

    def _readable(self, rows: Iterable[Row]) -> list[ParkedInfo]:
        return [each for row in rows if (each := self._parked(row)) is not None]

    def _parked(self, row: Row) -> ParkedInfo | None:
        id, consumer, event_id, text, attempts, next_at, error = row
        try:
            key = Key.parse(str(text))
            return ParkedInfo(
                str(consumer),
                int(event_id),
                *key[:3],
                str(text),
                int(attempts),
                str(error),
                from_text(next_at),
                int(id),
            )
        except (TypeError, ValueError) as problem:
            self._log.database.pass_over("replay_parked", f"{event_id} of {consumer}", problem)
            return None


_PARKED = "SELECT id, consumer, event_id, `key`, attempts, next_at, error FROM replay_parked"


def _consumer(row: Row, newest: int, now: datetime, parked: int) -> ConsumerInfo:
    name, cursor, owner, until = row
    try:
        lease = None if until is None else from_text(until)
    except (TypeError, ValueError):
        lease = None
    owned = lease is not None and lease > now
    process = str(owner or "").partition("|")[2].rpartition(":")[0] if owned else ""
    at = checked_cursor(name, cursor)
    return ConsumerInfo(name, process, lease, at, max(0, newest - at), parked)


def _key(text: object) -> Key | None:
    try:
        return Key.parse(str(text))
    except InvalidName:
        return None


def _prefixes(namespaces: Collection[str] | None, *names: str) -> list[str]:
    """How the keys begin that a query is about; "" for all."""
    if namespaces is None:
        return [""]
    return sorted("/".join([each, *filter(None, names), ""]) for each in namespaces)


def _within(start: str) -> tuple[str, Sequence[str]]:
    """A condition for keys that begin so: 0 is the character behind the slash."""
    return (" AND `key` > ? AND `key` < ?", (start, f"{start[:-1]}0")) if start else ("", ())


def _scopes(ask: RunsQuery) -> list[tuple[str, Sequence[Any]]]:
    """The parts of the table that a query is about."""
    if ask.namespaces is None:
        return [("1 = 1", ())]
    if ask.workflow:
        (namespace,) = ask.namespaces
        return [("namespace = ? AND workflow = ?", (namespace, ask.workflow))]
    return [("namespace = ?", (each,)) for each in sorted(ask.namespaces)]


def _events(rows: Iterable[Row]) -> Iterator[Event]:
    for row in rows:
        with contextlib.suppress(Unreadable):  # a reader of the log tells of it (L3)
            yield read_event(row)


def _open(history: Sequence[Event]) -> list[Event]:
    """The requests without a response, the oldest 1,000."""
    answered = {e.text for e in history if e.type is EventType.ACTIVITY_RESPONSE}
    requests = (e for e in history if e.type is EventType.ACTIVITY_REQUEST)
    return [event for event in requests if event.text not in answered][:MOST]


def _until(event: Event) -> datetime | None:
    """When a sleep or an await is over; None if never, or if its request cannot be read."""
    try:
        moment = later(event.timestamp, requested_duration(event))
    except MessageError:
        return None
    return None if moment.year == 9999 else moment


def _waits(event: Event, until: datetime | None, parked: ParkedInfo | None) -> Waiting:
    target = event.key.target
    kind = {SLEEP: "sleep", SIGNAL: "signal"}.get(target, "activity")
    name = {"sleep": "", "signal": event.key.sequence.partition(":")[0]}.get(kind, target)
    running = parked is not None and parked.error == "running"
    return Waiting(
        kind,
        name,
        event.timestamp,
        until,
        parked.attempts if parked else 0,
        parked.error if parked and not running else "",
        parked.next_at if parked and not running else None,
        event.text,
    )
