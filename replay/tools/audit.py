"""The audit: reads a log, whoever wrote it, and checks each promise that a log can show.

Role: `audited` opens a database and yields one `Finding` for each promise that it finds broken.
`Audit` checks, and reads nothing itself.  `Tables` reads, and checks nothing.

Invariants:

- Nothing is written, not even a missing table.
- All reads see one moment: the log may be in use (see `_at_one_moment`).
- Memory holds the open iterations, the open requests, and a page.  What has ended is forgotten, so
  an event that fits no open iteration is looked up.
- What is legal raises no alarm: a late response or cancel, a cancel without a request, requests
  that an iteration leaves open (E8), rows of the Go system, a crash at any point.

Messages are not decoded, but for the durations of sleeps and awaits.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import OrderedDict
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import unquote

from ..failure import CANCEL, FAILURE, PATCH, RESULT
from ..server.proto.replaypb_pb2 import SleepDone
from ..shard import Shard
from ..signal import SUCCESS, TIMED_OUT
from ..signal import TARGET as SIGNAL
from ..sleep import TARGET as SLEEP
from ..sleep import requested_duration
from ..storage.database import (
    SCHEMA_VERSION,
    TABLES,
    Database,
    DatabaseError,
    Row,
    SchemaTooNew,
    chunks,
    from_text,
    later,
    placeholders,
    to_text,
)
from ..storage.event import (
    UNKNOWN,
    Event,
    EventType,
    InvalidName,
    Key,
    MessageError,
    pack,
    read_message,
)
from ..storage.open import open_unprepared, parse_url
from ..storage.sqlite import Sqlite

_NOOP, _CREATED, _COMPLETED, _OUTPUT, _REQUEST, _RESPONSE = map(int, EventType)
_SEEN = "replay_signal/seen"  # the cursor that counts signals
_FLOOR = "retention_floor"  # in replay_meta: up to this id gaps are final (L9)
_PRUNED = b"\n$type.googleapis.com/replay.v1.Pruned"  # stands instead of a pruned message (L9)
_NO_SIGNAL = pack(SleepDone(), 1000, "no signal")
_PAGE = 5000  # events of a page, and ids of other tables
_CHUNK = 500  # values in a statement
_HEAD = 1000  # bytes of a message that are compared
_CLOSED = 100_000  # ended iterations that are remembered, until their restart comes
_ANSWERED = "has its response"
_NEVER = 1 << 63  # an id that no cursor reaches
_TRANSACTION = 20_000  # ids between two events of one transaction, at most
_SKEW = timedelta(seconds=1)  # between the clocks of a sender and of the consumer of signals


class NoLog(DatabaseError):
    """The database has no tables of a log."""


class Finding(NamedTuple):
    """A promise that the log shows to be broken."""

    promise: str  # its id in docs/semantics.md
    event: int  # the id of the event; 0 if it is about none
    run: str  # the iteration's key; empty if it is about none
    problem: str  # one sentence

    def __str__(self) -> str:
        where = [f"event {self.event}"] * bool(self.event) + [self.run] * bool(self.run)
        return f"{self.promise} {' of '.join(where)}: {self.problem}".replace(" :", ":")


class Signal(NamedTuple):
    """A signal that an await took."""

    id: int
    created_at: str
    head: bytes | None


@dataclass(slots=True)
class Wait:
    """The row of a sleep or an await."""

    id: int
    created_at: str
    until: str
    status: int  # of an await, or whether a sleep is marked as completed
    signals: list[Signal] = field(default_factory=list)
    older: int = 0  # a free signal of this type that is older than those


class Page(NamedTuple):
    """Events, and the rows of the sleeps and awaits that they answer, by key."""

    #: id, type, key, timestamp, the iteration's key by the other columns, the message's beginning.
    #: Ordinary activities and outputs do not have the last.
    events: Sequence[Row]
    waits: Mapping[str, Wait]


class _Open(NamedTuple):
    """A request without a response.  Sleeps and awaits have a due time if anybody can read it."""

    id: int
    due: str = ""
    whole: timedelta | None = None  # the duration as the Go system cuts it, if that differs


class _Iteration:
    """An iteration that has begun and has not ended."""

    __slots__ = ("cancelled", "counts", "last", "open", "over", "over_at", "taken", "told")

    def __init__(self, id: int, taken: dict[str, int]) -> None:
        self.last = id  # the newest event that the workflow's consumer gives to the run
        self.counts: dict[str, int] = {}
        self.open: dict[str, _Open] = {}
        self.taken = taken  # by type, the newest signal that the run took
        self.over, self.over_at = "", 0  # the output that says how the run ends, and its id
        self.cancelled = self.told = False


class _Closed(NamedTuple):
    """An iteration that has ended, as its restart needs it."""

    iteration: int
    over: str
    told: int  # the id of its end, if it has to restart
    taken: dict[str, int]


class Audit:
    """Checks events page by page, then the other tables.  Every method yields findings."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._floor = 0
        self._next = 1  # the id that has to come next
        self._open: dict[str, _Iteration] = {}
        self._pruned: set[str] = set()  # open iterations of which only the ends are left
        self._left: dict[str, _Open] = {}  # activities and sleeps that ended iterations left open
        self._closed: OrderedDict[str, _Closed] = OrderedDict()
        self._matched = 0  # signals that are known to belong to their awaits
        self._parked: set[str] = set()  # keys
        self._cursors: dict[str, int] = {}
        self._serving: dict[tuple[str, ...], list[tuple[Shard | None, int]]] = {}

    def run(self) -> Iterator[Finding]:
        """Check everything.  For another table, add a line."""
        yield from self._check_floor()
        yield from self._check_cursors()
        yield from self._check_parked()
        for page in self._tables.pages():
            for row in page.events:
                yield from self._event(row, page.waits)
        yield from self._duplicates()
        yield from self._unfinished()
        yield from self._open_waits(SLEEP, "replay_sleeps")
        yield from self._open_waits(SIGNAL, "replay_signal_awaits")
        yield from self._pending("replay_sleeps")
        yield from self._pending("replay_signal_awaits")
        yield from self._signals()

    # Events.

    def _event(self, row: Row, waits: Mapping[str, Wait]) -> Iterator[Finding]:
        id, type, key, at, place, head = row
        if id != self._next:
            yield from self._gap(range(self._next, id))
        self._next = id + 1
        if type == _NOOP:
            return
        if (problem := _unreadable(type, key, at, place)) is not None:
            yield Finding("L3", id, str(place or ""), f"Nobody can read the event: {problem}.")
            return
        iteration, rest = self._open.get(place), key[len(place) :]
        if type == _RESPONSE:
            yield from self._response(id, place, rest, at, head, waits)
        elif type == _CREATED:
            yield from self._created(id, place)
            if _is_pruned(head):
                self._pruned.add(place)
        elif iteration is None and (iteration := (yield from self._stray(id, type, place))) is None:
            return
        elif type == _COMPLETED:
            if _is_pruned(head) != (place in self._pruned):
                yield Finding("L9", id, place, "Only one of its two ends is marked as pruned.")
            yield from self._completed(id, place, iteration)
        elif place in self._pruned:
            yield Finding("L9", id, place, "Its iteration is marked as pruned.")
        elif type == _REQUEST:
            yield from self._request(id, place, iteration, rest, at, head)
        else:
            yield from self._output(id, place, iteration, rest)

    def _gap(self, ids: range) -> Iterator[Finding]:
        """L1: nobody reads past a missing id, unless retention has removed it (L9)."""
        first = max(ids.start, self._floor + 1)
        passed = [name for name, at in self._cursors.items() if at >= first and name != _SEEN]
        if first < ids.stop and passed:
            some = f"Event {first} is" if first + 1 == ids.stop else f"{first} to {ids[-1]} are"
            yield Finding("L1", first, "", f"{some} missing, and {passed[0]} has read past it.")

    def _created(self, id: int, place: str) -> Iterator[Finding]:
        run, _, number = place.rpartition("/")
        if place in self._open:
            return  # twice: see `_duplicates`
        before = self._closed.get(run)
        if (iteration := int(number)) == 0:
            if before is None:
                self._open[place] = _Iteration(id, {})
            return
        if before is not None and before.iteration == iteration - 1:
            del self._closed[run]
            self._open[place] = _Iteration(id, before.taken)
            if before.over:
                promise = "E1" if before.over == RESULT else "E2"
                text = f"The run goes on, though its last iteration ended with a {before.over}."
                yield Finding(promise, id, place, text)
            return
        self._open[place] = _Iteration(id, {})
        yield from self._unlinked(id, place, f"{run}/{iteration - 1}")

    def _unlinked(self, id: int, place: str, previous: str) -> Iterator[Finding]:
        """R6: an iteration does not begin where the one before it ends."""
        ended = self._tables.find(_COMPLETED, previous)
        if ended is None:
            if self._floor == 0 or id > self._floor + _TRANSACTION:
                yield Finding("R6", id, place, f"It begins, and {previous} has not ended.")
        elif ended > id:
            yield Finding("R6", id, place, f"It begins before {previous} ends in event {ended}.")
        else:
            text = f"It begins elsewhere than {previous} ends, which is event {ended}."
            yield Finding("R6", id, place, text)

    def _stray(self, id: int, type: int, place: str) -> Generator[Finding, None, _Iteration | None]:
        """R1, R6, R9: an event of an iteration that is not open.

        If it never began, take it for begun from now on: one finding is enough.
        """
        what = {_COMPLETED: "end", _REQUEST: "request", _OUTPUT: "output"}[type]
        ended = self._tables.find(_COMPLETED, place)
        if ended is not None and ended < id:
            if type != _COMPLETED:  # that is a duplicate
                text = f"The {what} comes after the end of its iteration, event {ended}."
                yield Finding("R9", id, place, text)
            return None
        begun = self._tables.find(_CREATED, place)
        promise = "R1" if place.endswith("/0") else "R6"
        when = "which never began" if begun is None else f"which begins later, in event {begun}"
        yield Finding(promise, id, place, f"The {what} is of an iteration {when}.")
        self._open[place] = made = _Iteration(_NEVER, {})
        return made

    def _request(
        self, id: int, place: str, iteration: _Iteration, rest: str, at: str, head: Any
    ) -> Iterator[Finding]:
        yield from self._not_over(id, place, iteration)
        target, sequence = _parts(rest)
        counted, number = target, sequence
        opened = _Open(id)
        if target in (SLEEP, SIGNAL):
            if target == SIGNAL:
                type, _, number = sequence.partition(":")
                counted = f"{target}/{type}"
            opened = _due(id, at, head)
        iteration.open[rest] = opened
        yield from self._count(id, place, iteration, f"request {counted}", number, "A5")

    def _count(
        self, id: int, place: str, iteration: _Iteration, what: str, number: str, promise: str
    ) -> Iterator[Finding]:
        """A5, O1: the uses of a name are counted from 0."""
        expected = iteration.counts.get(what, 0)
        if number == str(expected):
            iteration.counts[what] = expected + 1
            return
        if not _is_count(number):
            yield Finding("L3", id, place, f"The {what} has {number!r} for a number.")
        elif int(number) > expected:
            iteration.counts[what] = int(number) + 1
            yield Finding(promise, id, place, f"The {what} has number {number}, not {expected}.")

    def _output(self, id: int, place: str, iteration: _Iteration, rest: str) -> Iterator[Finding]:
        target, sequence = _parts(rest)
        if target in (RESULT, FAILURE):
            if iteration.over and iteration.over != target:
                yield Finding("E2", id, place, "The run has a result, and has failed.")
            iteration.over, iteration.over_at = target, id
        else:
            yield from self._not_over(id, place, iteration)
        if target == CANCEL:
            iteration.told = True
            if not iteration.cancelled:
                text = "It says that it got a cancel, and there is none."
                yield Finding("E7", id, place, text)
        if target in (RESULT, FAILURE, CANCEL):
            if sequence != "0":
                yield Finding("O1", id, place, f"There is a second {target}.")
        elif target != PATCH:
            yield from self._count(id, place, iteration, f"output {target}", sequence, "O1")

    def _not_over(self, id: int, place: str, iteration: _Iteration) -> Iterator[Finding]:
        if iteration.over:
            promise = "E1" if iteration.over == RESULT else "E2"
            text = f"The run goes on after its {iteration.over}."
            yield Finding(promise, id, place, text)

    def _completed(self, id: int, place: str, iteration: _Iteration) -> Iterator[Finding]:
        del self._open[place]
        self._pruned.discard(place)
        run, _, number = place.rpartition("/")
        told = id if iteration.told else 0
        self._closed.pop(run, None)
        self._closed[run] = _Closed(int(number), iteration.over, told, iteration.taken)
        for rest, opened in iteration.open.items():
            if not rest.startswith(f"/{SIGNAL}/"):  # those are withdrawn
                self._left[place + rest] = opened
        if len(self._closed) > _CLOSED:
            yield from self._forget(*self._closed.popitem(last=False))

    def _forget(self, run: str, closed: _Closed) -> Iterator[Finding]:
        """E7: an iteration that got its cancel, and says so, has restarted."""
        if closed.told > self._floor:
            text = f"It got a cancel and says that it restarts, but does not: see output {CANCEL}."
            yield Finding("E7", closed.told, f"{run}/{closed.iteration}", text)

    def _response(
        self, id: int, place: str, rest: str, at: str, head: Any, waits: Mapping[str, Wait]
    ) -> Iterator[Finding]:
        target, sequence = _parts(rest)
        iteration, key = self._open.get(place), place + rest
        if iteration is not None:
            iteration.last = max(id, iteration.last)
        if target == CANCEL:
            if iteration is not None:
                iteration.cancelled = True
            if sequence not in ("0", "1"):
                yield Finding("E7", id, place, f"A cancel has {sequence!r} for a number.")
            return
        if iteration is None:
            opened = self._left.pop(key, None)  # without a request it is legal (R9)
        elif (opened := iteration.open.pop(rest, None)) is None:
            yield from self._unasked(id, place, iteration, target, sequence)
        if opened is None and iteration is not None:
            return
        if target == SLEEP:
            yield from _woken(id, key, at, opened, waits.get(key))
        elif target == SIGNAL:
            yield from self._heard(id, key, iteration, at, head, opened, waits.get(key))

    def _unasked(
        self, id: int, place: str, iteration: _Iteration, target: str, sequence: str
    ) -> Iterator[Finding]:
        """A1: a response has a request before it.  A second one is a duplicate."""
        type, _, number = sequence.rpartition(":")
        counted = f"request {target}/{type}" if target == SIGNAL else f"request {target}"
        if not _is_count(number) or int(number) >= iteration.counts.get(counted, 0):
            text = f"The response of {target}/{sequence} has no request before it."
            yield Finding("A1", id, place, text)

    # Awaits.

    def _heard(
        self,
        id: int,
        key: str,
        iteration: _Iteration | None,
        at: str,
        head: Any,
        opened: _Open | None,
        wait: Wait | None,
    ) -> Iterator[Finding]:
        """S2, S4: response, await and signal say the same."""
        place = key.rpartition(f"/{SIGNAL}/")[0]
        if wait is None:
            if iteration is not None:
                yield Finding("S2", id, place, "The await that it answers has no row.")
            return
        self._matched += len(wait.signals)
        silent = head == _NO_SIGNAL
        if silent and opened is not None and at < opened.due and not _cut(opened, wait, at):
            text = f"It says that no signal came, before the await timed out at {opened.due}."
            yield Finding("S4", id, place, text)
        if silent and wait.status == SUCCESS:
            yield Finding("S2", id, place, "The await took a signal, the response says none.")
        elif not silent and wait.status == TIMED_OUT:
            yield Finding("S2", id, place, "The await has timed out, the response has a signal.")
        if wait.signals and (silent or wait.status == TIMED_OUT):
            text = f"Signal {wait.signals[0].id} counts as taken, but the await ended without it."
            yield Finding("S2", id, place, text)
        elif len(wait.signals) > 1:
            ids = ", ".join(str(signal.id) for signal in wait.signals)
            yield Finding("S2", id, place, f"The await took several signals: {ids}.")
        elif not silent and wait.status == SUCCESS and iteration is not None:
            yield from self._took(id, key, iteration, at, head, opened, wait)

    def _took(
        self,
        id: int,
        key: str,
        iteration: _Iteration,
        at: str,
        head: Any,
        opened: _Open | None,
        wait: Wait,
    ) -> Iterator[Finding]:
        """S2, S4: the signal is the next of its type, and came in time."""
        place, _, sequence = key.rpartition(f"/{SIGNAL}/")
        if not wait.signals:
            yield Finding("S2", id, place, "No signal counts as taken by this await.")
            return
        ((signal, sent, content),) = wait.signals
        if (content or b"") != (head or b""):
            text = f"The response has another message than signal {signal}, which it took."
            yield Finding("S2", id, place, text)
        type = sequence.partition(":")[0]
        newest = iteration.taken.get(type, 0)
        iteration.taken[type] = max(newest, signal)
        if signal < newest:
            text = f"It took signal {signal} after signal {newest}."
            yield Finding("S2", id, place, text)
        if wait.older:
            text = f"It took signal {signal}, though nobody has taken the older {wait.older}."
            yield Finding("S2", id, place, text)
        late = opened is not None and opened.due and at >= opened.due
        if late and opened is not None and sent > to_text(later(from_text(opened.due), _SKEW)):
            text = f"It took signal {signal}, which was sent after the time of the await."
            yield Finding("S4", id, place, text)

    def _signals(self) -> Iterator[Finding]:
        """S1, S2: no other signals count as taken, and none is there twice."""
        for id, other in self._tables.same_signals():
            yield Finding("S1", 0, "", f"Signal {id} is signal {other} again.")
        if self._tables.count_taken() != self._matched:
            for id, run, type, taker, key, answered in self._tables.taken():
                problem = _wrongly_taken(f"{run}/", type, key, answered)
                if problem:
                    text = f"Signal {id} counts as taken by await {taker}, {problem}."
                    yield Finding("S2", 0, run, text)
        seen = min(self._cursors.get(_SEEN, 0), self._tables.newest()[1])
        if not self._floor and (missing := seen - self._tables.count_signals(seen)) > 0:
            text = (
                f"{missing} of the signals up to {seen} are missing, and {_SEEN} has passed them."
            )
            yield Finding("L1", 0, "", text)

    # The other tables.

    def _check_floor(self) -> Iterator[Finding]:
        """L9: the floor is an id of the log."""
        value, newest = self._tables.floor(), self._tables.newest()[0]
        if isinstance(value, str) and value.isascii() and value.isdecimal():
            self._floor = int(value)
        if str(self._floor) != value or self._floor > newest:
            text = f"The {_FLOOR} is {value!r:.100}, and the newest event is {newest}."
            yield Finding("L9", 0, "", text)

    def _check_cursors(self) -> Iterator[Finding]:
        """L5: no consumer has read what is not there."""
        events, signals = self._tables.newest()
        for name, at in self._tables.cursors():
            newest = signals if name == _SEEN else events
            if not isinstance(name, str) or not isinstance(at, int) or at < 0:
                yield Finding("L5", 0, "", f"The cursor of {name!r} is {at!r:.100}.")
                continue
            self._cursors[name] = at
            if at > newest:
                what = "signal" if name == _SEEN else "event"
                text = f"The cursor of {name} is {at}, beyond the newest {what}, {newest}."
                yield Finding("L5", 0, "", text)
            parts = name.split("/")
            if len(parts) in (3, 4) and (shard := _shard(parts[3:])) is not ...:
                self._serving.setdefault(tuple(parts[:3]), []).append((shard, at))

    def _check_parked(self) -> Iterator[Finding]:
        """R5, A2: a parked row is of an event that waits, and there is one."""
        twice: set[tuple[str, str]] = set()
        for row, event, done in self._tables.parked():
            consumer, id, key, attempts, next_at = row
            self._parked.add(key)
            try:
                Key.parse(str(key))
                from_text(next_at)
                readable = int(attempts) >= 0 and isinstance(consumer, str)
            except (TypeError, ValueError):
                readable = False
            if not readable:
                text = f"Nobody can read the parked row of {consumer!r:.300} for event {id!r:.30}."
                yield Finding("L3", 0, "", text)
                continue
            problem = self._misparked(consumer, id, key, event, done)
            if (consumer, key) in twice:
                problem = "is parked twice"
            twice.add((consumer, key))
            if problem:
                promise = "R5" if consumer.startswith("workflow/") else "A2"
                if event is None and id <= self._floor:
                    promise = "L9"
                elif problem == _ANSWERED:
                    promise = "A1"
                yield Finding(promise, id, key, f"What {consumer} has parked {problem}.")

    def _misparked(
        self, consumer: str, id: int, key: str, event: tuple[int, str] | None, done: bool
    ) -> str:
        if event is None:
            return f"is event {id}, which is not in the log"
        kind, *of = consumer.split("/")
        type, text = event
        if kind == "workflow":
            fits = type in (_CREATED, _RESPONSE) and f"{text}/".startswith(f"{key}/")
        elif kind in ("activity", SLEEP, SIGNAL):
            fits = type == _REQUEST and text == key
        else:
            return ""
        if not fits:
            return f"is event {id}, whose key is {text}"
        # Another consumer, of old shards, may have done it.
        only = len(self._serving.get((kind, *of[:2]), ())) == 1 or kind in (SLEEP, SIGNAL)
        if only and done:
            return _ANSWERED if kind != "workflow" else "has ended"
        return ""

    def _duplicates(self) -> Iterator[Finding]:
        """L2: there is one event of a type with a key."""
        for id, type, key, first in self._tables.duplicates():
            promise = "A1" if type == _RESPONSE else "L2"
            yield Finding(promise, id, key, f"It is event {first} again.")

    def _unfinished(self) -> Iterator[Finding]:
        """E1, E2, E7, L6, R2: nothing that has to follow is missing."""
        while self._closed:
            yield from self._forget(*self._closed.popitem())
        for place, iteration in self._open.items():
            if iteration.over:
                promise = "E1" if iteration.over == RESULT else "E2"
                text = f"The iteration has a {iteration.over}, and has not ended."
                yield Finding(promise, iteration.over_at, place, text)
            else:
                yield from self._stuck(place, iteration)
            for rest, opened in iteration.open.items():
                yield from self._unexecuted(place, rest, opened)
        for key, opened in self._left.items():
            parts = key.split("/", 4)
            yield from self._unexecuted("/".join(parts[:4]), f"/{parts[4]}", opened)

    def _stuck(self, place: str, iteration: _Iteration) -> Iterator[Finding]:
        """R2: a run that waits for nothing has something to read, or is parked."""
        if iteration.open or place in self._parked:
            return
        namespace, workflow, run, _ = place.split("/")
        for shard, at in self._serving.get(("workflow", namespace, workflow), ()):
            if at >= iteration.last and (shard is None or shard.has(run)):
                text = "The run waits for nothing, and its consumer has nothing left to read."
                yield Finding("R2", iteration.last, place, text)
                return

    def _unexecuted(self, place: str, rest: str, opened: _Open) -> Iterator[Finding]:
        """L6: a request that its consumer has passed has a response, or is parked."""
        target, sequence = _parts(rest)
        if target in (SLEEP, SIGNAL) or place + rest in self._parked:
            return
        namespace, _, run, _ = place.split("/")
        for shard, at in self._serving.get(("activity", namespace, target), ()):
            if at >= opened.id and (shard is None or shard.has(run)):
                text = f"{target}/{sequence} has no response, and its consumer has passed it."
                yield Finding("L6", opened.id, place, text)
                return

    def _open_waits(self, target: str, table: str) -> Iterator[Finding]:
        """L6, R7, S2: the row of an open sleep or await is there, and says that it is open."""
        mark = f"/{target}/"
        places = ((place, each.open) for place, each in self._open.items())
        found = {
            place + rest: opened
            for place, some in places
            for rest, opened in some.items()
            if rest.startswith(mark)
        }
        found |= {key: opened for key, opened in self._left.items() if mark in key}
        done, promise = (1, "R7") if target == SLEEP else (SUCCESS, "S2")
        for some in chunks(list(found), _CHUNK):
            rows = self._tables.waits(table, some)
            for key in some:
                opened, place = found[key], key.rpartition(mark)[0]
                if (wait := rows.get(key)) is None:
                    passed = self._cursors.get(target, 0) >= opened.id
                    if passed and key not in self._parked:
                        text = f"{target} has passed the request, and stored no row for it."
                        yield Finding("L6", opened.id, place, text)
                elif wait.status == done:
                    text = "Its row says that it is over, and there is no response."
                    yield Finding(promise, opened.id, place, text)
                elif wait.status == TIMED_OUT:
                    yield Finding("E8", opened.id, place, "It was withdrawn while it was open.")
                elif opened.due and wait.until != opened.due and not _is_cut(opened, wait):
                    text = f"It is due at {opened.due}, but its row says {wait.until}."
                    yield Finding("R7" if target == SLEEP else "S4", opened.id, place, text)

    def _pending(self, table: str) -> Iterator[Finding]:
        """R7, S2: each row that waits is of a request."""
        promise = "R7" if table == "replay_sleeps" else "S2"
        for keys in self._tables.pending(table):
            unknown = [key for key in keys if not self._is_open(key)]
            known = self._tables.found(_REQUEST, unknown)
            for key in unknown:
                if key not in known:
                    text = f"A row of {table} waits for {key!r:.600}, which nobody requested."
                    yield Finding(promise, 0, "", text)

    def _is_open(self, key: object) -> bool:
        if not isinstance(key, str):
            return False
        place = "/".join(key.split("/", 4)[:4])
        iteration = self._open.get(place)
        return key in self._left or (iteration is not None and key[len(place) :] in iteration.open)


def _parts(rest: str) -> tuple[str, str]:
    """Divide what follows the iteration in a key into target and sequence."""
    target, _, sequence = rest[1:].rpartition("/")
    return target, sequence


def _is_count(text: str) -> bool:
    return text.isdecimal() and text.isascii() and (text == "0" or text[0] != "0")


def _unreadable(type: Any, key: Any, at: Any, place: Any) -> str | None:
    """L3: what keeps a row from being an event; None if it is one."""
    if not isinstance(type, int) or not _NOOP < type <= _RESPONSE:
        return f"its type is {type!r:.100}"
    if not isinstance(key, str) or not isinstance(place, str) or not key.startswith(place):
        return f"its key is {key!r:.600}, its other columns say {place!r:.600}"
    try:
        datetime.fromisoformat(at)
        if type <= _COMPLETED:
            if key != place or (type == _CREATED and str(Key.parse(key)) != key):
                return f"its key is {key!r:.600}"
        elif key == place or key[len(place)] != "/" or key[-1] == "/":
            return f"its key is {key!r:.600}, which has no target"
    except InvalidName as error:
        return str(error)
    except (TypeError, ValueError):
        return f"its timestamp is {at!r:.100}"
    return None


def _due(id: int, at: str, head: Any) -> _Open:
    found = _duration(head)
    if found is None:
        return _Open(id)  # the request is parked
    exact, whole = found
    return _Open(id, to_text(later(from_text(at), exact)), whole if whole != exact else None)


@lru_cache(maxsize=10_000)
def _duration(head: Any) -> tuple[timedelta, timedelta] | None:
    event = Event(0, EventType.ACTIVITY_REQUEST, Key("", "", ""), UNKNOWN, read_message(head), "-")
    try:
        exact = requested_duration(event)
    except MessageError:
        return None
    return exact, timedelta(seconds=exact // timedelta(seconds=1))


def _is_cut(opened: _Open, wait: Wait) -> bool:
    """Whether the Go system made this row: it cuts durations, and counts from the row's making."""
    exact = opened.whole
    begun = from_text(wait.created_at)
    if exact is not None:
        return wait.until == to_text(later(begun, exact))
    return wait.until >= opened.due  # it may have made the row later


def _cut(opened: _Open, wait: Wait, at: str) -> bool:
    return opened.whole is not None and _is_cut(opened, wait) and at >= wait.until


def _woken(
    id: int, key: str, at: str, opened: _Open | None, wait: Wait | None
) -> Iterator[Finding]:
    """R7: a sleep ends at its time, and has a row."""
    place = key.rpartition(f"/{SLEEP}/")[0]
    if wait is None:
        if opened is not None:
            yield Finding("R7", id, place, "The sleep that it ends has no row.")
    elif opened is not None and at < opened.due and not _cut(opened, wait, at):
        yield Finding("R7", id, place, f"The sleep ends before its time, {opened.due}.")


def _is_pruned(head: object) -> bool:
    return isinstance(head, bytes) and head.startswith(_PRUNED)


def _wrongly_taken(run: str, type: object, key: str | None, answered: bool) -> str:
    if key is None:
        return "which is not there"
    if not key.startswith(run):
        return f"which is of another run: {key}"
    if key.rpartition("/")[2].partition(":")[0] != str(type):
        return f"which is of another type: {key}"
    return "" if answered else f"which has no response: {key}"


def _shard(parts: Sequence[str]) -> Any:
    """The shard that a consumer's name ends with: None without one, ... for one of your own."""
    if not parts:
        return None
    try:
        m, n = map(int, parts[0].split("_of_"))
        return Shard.hashed(m - 1, n)
    except ValueError:
        return ...


class Tables:
    """Reads what the audit needs, in pages of bounded size."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._there = {table for table in TABLES if database._columns(table)}
        parts = "namespace, workflow, run, iteration"
        # In MySQL || means OR.
        joined = " || '/' || ".join(parts.split(", "))
        place = joined if isinstance(database, Sqlite) else f"CONCAT_WS('/', {parts})"
        self._events = (
            f"SELECT id, type, `key`, timestamp, {place}, CASE WHEN type IN (4, 5) AND"
            f" INSTR(`key`, '/replay_s') > 0 OR type IN (1, 2) THEN SUBSTR(message, 1, {_HEAD}) END"
            f" FROM replay_events WHERE id > ? ORDER BY id LIMIT {_PAGE}"
        )
        self.count = 0  # of events read
        self._free: bool | None = None

    def _query(self, sql: str, parameters: Sequence[Any] = ()) -> Sequence[Row]:
        """Query; a table that another system did not make is empty."""
        table = sql.partition(" FROM ")[2].split()[0]
        return self._database.query(sql, parameters) if table in self._there else ()

    def floor(self) -> object:
        """Up to which id gaps are final, as it is stored (L9)."""
        rows = self._query("SELECT value FROM replay_meta WHERE name = ?", (_FLOOR,))
        return rows[0][0] if rows else "0"

    def newest(self) -> tuple[int, int]:
        """The newest event, and the newest signal."""
        tables = ("replay_events", "replay_signals")
        events, signals = (self._query(f"SELECT MAX(id) FROM {table}")[0][0] for table in tables)
        return events or 0, signals or 0

    def pages(self) -> Iterator[Page]:
        """The log, in the order of its ids."""
        after = 0
        while rows := self._query(self._events, (after,)):
            yield Page(rows, self._answered(rows))
            self.count += len(rows)
            after = rows[-1][0]

    def _answered(self, rows: Sequence[Row]) -> dict[str, Wait]:
        responses = [row[2] for row in rows if row[1] == _RESPONSE and isinstance(row[2], str)]
        sleeps = [key for key in responses if f"/{SLEEP}/" in key]
        awaits = [key for key in responses if f"/{SIGNAL}/" in key and key.count("/") == 5]
        heard = self.waits("replay_signal_awaits", awaits)
        self._add_signals(heard)
        return self.waits("replay_sleeps", sleeps) | heard

    def waits(self, table: str, keys: Sequence[str]) -> dict[str, Wait]:
        """The rows of some sleeps or awaits, by key."""
        columns = "complete_at, completed" if table == "replay_sleeps" else "timeout_at, status"
        found: dict[str, Wait] = {}
        for some in chunks(keys, _CHUNK):
            sql = (
                f"SELECT `key`, id, created_at, {columns} FROM {table}"
                f" WHERE `key` IN ({placeholders(len(some))})"
            )
            wanted = set(some)
            for key, *rest in self._query(sql, some):
                if key in wanted:  # some collations take different keys for equal (L8)
                    found[key] = Wait(*rest)
        return found

    def _add_signals(self, waits: Mapping[str, Wait]) -> None:
        """Find the signals that these awaits took, and free ones that are older."""
        of: dict[tuple[str, ...], dict[tuple[Any, ...], Wait]] = {}
        for key, wait in waits.items():
            namespace, workflow, run = key.split("/")[:3]
            of.setdefault((namespace, workflow), {})[run, _type(key), wait.id] = wait
        for workflow_of, keyed in of.items():
            for some in chunks(list(keyed), _CHUNK):
                runs, types = sorted({run for run, _, _ in some}), sorted({t for _, t, _ in some})
                where = (
                    f"namespace = ? AND workflow = ? AND run IN ({placeholders(len(runs))})"
                    f" AND type IN ({placeholders(len(types))})"
                )
                place = (*workflow_of, *runs, *types)
                ids = [id for _, _, id in some]
                self._add_taken(keyed, f"{where} AND check_id BETWEEN ? AND ?", place, ids)
                if self._has_free():
                    self._add_older({key: keyed[key] for key in some}, where, place)

    def _add_taken(
        self,
        keyed: Mapping[tuple[Any, ...], Wait],
        where: str,
        place: Sequence[Any],
        ids: Sequence[int],
    ) -> None:
        sql = (
            f"SELECT namespace, workflow, run, type, check_id, id, created_at,"
            f" SUBSTR(message, 1, {_HEAD}) FROM replay_signals WHERE {where} ORDER BY id"
        )
        for namespace, workflow, *of, id, at, head in self._query(
            sql, (*place, min(ids), max(ids))
        ):
            wait = keyed.get(tuple(of))
            # Some collations take different names for equal (L8).
            if wait is not None and (namespace, workflow) == tuple(place[:2]):
                wait.signals.append(Signal(id, at, read_message(head)))

    def _add_older(
        self, keyed: Mapping[tuple[Any, ...], Wait], where: str, place: Sequence[Any]
    ) -> None:
        of = "namespace, workflow, run, type"
        sql = (
            f"SELECT {of}, MIN(id) FROM replay_signals WHERE {where} AND check_id IS NULL"
            f" GROUP BY {of}"
        )
        free = {tuple(names): id for *names, id in self._query(sql, place)}
        for (run, type, _), wait in keyed.items():
            oldest = free.get((*place[:2], run, type))
            if wait.signals and oldest is not None and oldest < wait.signals[0].id:
                wait.older = oldest

    def _has_free(self) -> bool:
        """Whether there is any signal that nobody has taken."""
        if self._free is None:
            sql = "SELECT 1 FROM replay_signals WHERE check_id IS NULL LIMIT 1"
            self._free = bool(self._query(sql))
        return self._free

    def find(self, type: int, key: str) -> int | None:
        """The id of the event of a type with a key; None if there is none."""
        sql = "SELECT `key`, id FROM replay_events WHERE type = ? AND `key` = ? ORDER BY id"
        return next((id for found, id in self._query(sql, (type, key)) if found == key), None)

    def found(self, type: int, keys: Sequence[str]) -> set[str]:
        """Those of these keys that an event of a type has."""
        found: set[str] = set()
        for some in chunks(keys, _CHUNK):
            listed = placeholders(len(some))
            sql = f"SELECT `key` FROM replay_events WHERE type = ? AND `key` IN ({listed})"
            found |= {key for (key,) in self._query(sql, (type, *some))}
        return found

    def duplicates(self) -> Iterator[tuple[int, int, str, int]]:
        """Events that are there twice: id, type, key, and the first one's id."""
        sql = "SELECT type, `key` FROM replay_events GROUP BY type, `key` HAVING COUNT(*) > 1"
        for type, key in self._query(sql):
            each = "SELECT id, `key` FROM replay_events WHERE type = ? AND `key` = ? ORDER BY id"
            first: dict[object, int] = {}
            for id, text in self._query(each, (type, key)):
                if text in first:
                    yield id, type, str(text), first[text]
                first.setdefault(text, id)

    def cursors(self) -> Iterable[Row]:
        """Names and cursors."""
        return self._query("SELECT id, last_event_id FROM replay_cursors")

    def parked(self) -> Iterator[tuple[Row, tuple[int, str] | None, bool]]:
        """What is parked, each with its event, and whether the log has what it waits for."""
        sql = (
            "SELECT consumer, event_id, `key`, attempts, next_at FROM replay_parked"
            " WHERE id > ? AND id <= ? ORDER BY id"
        )
        for first in self._windows("replay_parked"):
            rows = self._query(sql, (first, first + _PAGE))
            ids = [row[1] for row in rows]
            events: dict[int, tuple[int, str]] = {}
            for some in chunks(ids, _CHUNK):
                listed = placeholders(len(some))
                query = f"SELECT id, type, `key` FROM replay_events WHERE id IN ({listed})"
                events |= {id: (type, key) for id, type, key in self._query(query, some)}
            keys = [row[2] for row in rows]
            done = {type: self.found(type, keys) for type in (_COMPLETED, _RESPONSE)}
            for row in rows:
                over = done[_COMPLETED if str(row[0]).startswith("workflow/") else _RESPONSE]
                yield row, events.get(row[1]), row[2] in over

    def pending(self, table: str) -> Iterator[list[Any]]:
        """The keys of the rows that wait."""
        what = "completed = 0" if table == "replay_sleeps" else "status = 1"
        for first in self._windows(table):
            sql = f"SELECT `key` FROM {table} WHERE id > ? AND id <= ? AND {what}"
            yield [key for (key,) in self._query(sql, (first, first + _PAGE))]

    def _windows(self, table: str) -> Iterator[int]:
        """Where the ranges of ids begin that have rows."""
        after = 0
        while True:
            sql = f"SELECT MIN(id) FROM {table} WHERE id > ?"
            rows = self._query(sql, (after,))
            if not rows or (first := rows[0][0]) is None:
                return
            yield first - 1
            after = first - 1 + _PAGE

    def count_taken(self) -> int:
        """How many signals count as taken."""
        sql = "SELECT COUNT(*) FROM replay_signals WHERE check_id > 0"
        return int(self._query(sql)[0][0])

    def count_signals(self, up_to: int) -> int:
        """How many signals there are up to an id."""
        sql = "SELECT COUNT(*) FROM replay_signals WHERE id <= ?"
        return int(self._query(sql, (up_to,))[0][0])

    def taken(self) -> Iterator[tuple[int, str, object, int, str | None, bool]]:
        """Signals that count as taken: id, run, type, await, and its key if it is there."""
        sql = (
            "SELECT id, namespace, workflow, run, type, check_id FROM replay_signals"
            " WHERE id > ? AND id <= ? AND check_id > 0"
        )
        for first in self._windows("replay_signals"):
            rows = self._query(sql, (first, first + _PAGE))
            takers: dict[int, str] = {}
            for some in chunks([row[5] for row in rows], _CHUNK):
                listed = placeholders(len(some))
                query = f"SELECT id, `key` FROM replay_signal_awaits WHERE id IN ({listed})"
                takers |= dict(self._query(query, some))
            answered = self.found(_RESPONSE, list(takers.values()))
            for id, *run, type, taker in rows:
                key = takers.get(taker)
                yield id, "/".join(map(str, run)), type, taker, key, key in answered

    def same_signals(self) -> Iterator[tuple[int, int]]:
        """Signals that are there twice."""
        sql = (
            "SELECT MAX(id), MIN(id) FROM replay_signals GROUP BY namespace, hash"
            " HAVING COUNT(*) > 1"
        )
        yield from ((again, first) for again, first in self._query(sql))


def _type(key: str) -> int:
    """The signal type in an await's key; one that no signal has if it names none."""
    text = key.rpartition("/")[2].partition(":")[0]
    return int(text) if re.fullmatch("-?[0-9]{1,3}", text) else 1000


@contextlib.contextmanager
def opened(url: str) -> Iterator[Tables]:
    """Open a log to be audited, as it is at this moment.

    Raises `BadUrl`, `NoLog`, `SchemaTooNew` or `Unavailable`.
    """
    parts, _ = parse_url(url)
    file = unquote(parts.path[1:])
    if parts.scheme == "sqlite" and not os.path.exists(file):
        raise NoLog(f"{url} is no file: name the database that has the log")
    database = open_unprepared(url)
    try:
        if "key" not in database._columns("replay_events"):
            raise NoLog(f"{database.name} has no log: name the database that has one")
        if database._version() > SCHEMA_VERSION:
            raise SchemaTooNew(f"{database.name} was made by a newer replay: install that one")
        _at_one_moment(database)
        yield Tables(database)
    finally:
        database.close()


def _at_one_moment(database: Database) -> None:
    """Begin a transaction that reads, so that all queries see the same moment."""
    if isinstance(database, Sqlite):
        database.query("BEGIN")
        return
    database.query("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    database.query("START TRANSACTION WITH CONSISTENT SNAPSHOT")


def audited(url: str) -> Iterator[Finding]:
    """Audit the log at `url`, and yield what is wrong.  Raises as `opened` does."""
    with opened(url) as tables:
        yield from Audit(tables).run()
