"""The audit: checks each promise that a log can show, whatever program wrote the log.

Role: `audited` yields one `Finding` for each promise that is broken.  `Audit` goes through the
events in the order of their ids, then through the other tables.

Invariants:

- Memory holds open iterations, open requests and a page.  An iteration that has ended is forgotten.
  So an event that fits no open iteration is looked up.
- No alarm for what is legal: a late response or cancel, a cancel without a request, requests that
  an iteration leaves open (E8), rows of the Go system, and whatever a crash leaves.

Messages are not decoded, but for the durations of sleeps and awaits.

Left to `replay.tools.tables`: reading.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from ..failure import CANCEL, FAILURE, PATCH, RESULT
from ..server.proto.replaypb_pb2 import SleepDone
from ..shard import Shard
from ..signal import SEEN, SUCCESS, TIMED_OUT
from ..signal import TARGET as SIGNAL
from ..sleep import TARGET as SLEEP
from ..sleep import requested_duration
from ..storage.database import FLOOR, Row, chunks, from_text, later, to_text
from ..storage.event import (
    UNKNOWN,
    Event,
    EventType,
    InvalidName,
    Key,
    MessageError,
    is_pruned,
    pack,
    read_message,
)
from .tables import Tables, Wait, open_log

_NOOP, _CREATED, _COMPLETED, _OUTPUT, _REQUEST, _RESPONSE = map(int, EventType)
_NO_SIGNAL = pack(SleepDone(), 1000, "no signal")
_CLOSED = 100_000  # ended iterations that are remembered, until their restart comes
_ANSWERED = "has its response"
_NEVER = 1 << 63  # an id that no cursor reaches
_TRANSACTION = 20_000  # ids between two events of one transaction, at most
#: Kinds of waits: target and table, the status of one that is over, and the promises of that and
#: of its due time.
_WAITS = (
    (SLEEP, "replay_sleeps", 1, "R7", "R7"),
    (SIGNAL, "replay_signal_awaits", SUCCESS, "S2", "S4"),
)
_SKEW = timedelta(seconds=1)  # between the clocks of a sender and of the consumer of signals


class Finding(NamedTuple):
    """A promise that the log shows to be broken."""

    promise: str  # its id in docs/semantics.md
    event: int  # the id of the event; 0 if it is about none
    run: str  # the iteration's key; empty if it is about none
    problem: str  # one sentence

    def __str__(self) -> str:
        where = [f"event {self.event}"] * bool(self.event) + [self.run] * bool(self.run)
        return f"{self.promise} {' of '.join(where)}: {self.problem}".replace(" :", ":")


class _Line(NamedTuple):
    """An event that can be read."""

    id: int
    type: int
    key: str
    at: str
    place: str  # its iteration
    rest: str  # of the key
    target: str
    sequence: str
    head: Any

    @property
    def counted(self) -> tuple[str, str]:
        """The name that is counted, and its number: awaits are counted by type (A5)."""
        if self.target != SIGNAL:
            return self.target, self.sequence
        type, _, number = self.sequence.partition(":")
        return f"{SIGNAL}/{type}", number


class _Open(NamedTuple):
    """A request without a response.  Sleeps and awaits have a due time if anybody can read it."""

    id: int
    due: str = ""
    #: The duration as the Go system cuts it: to seconds.
    whole: timedelta = timedelta(0)

    def fits(self, wait: Wait) -> bool:
        """Whether a row has this due time, or the one that the Go system makes of the request.

        That system counts from the moment at which it makes the row.
        """
        if not self.due or wait.until == self.due:
            return True
        return wait.until == to_text(later(from_text(wait.created_at), self.whole))

    def is_early(self, at: str, wait: Wait) -> bool:
        """Whether this is before the due time, by the row too if the Go system made it."""
        return at < self.due and not (at >= wait.until and self.fits(wait))

    def is_late(self, at: str, sent: str) -> bool:
        """Whether the await was over at this time, and when the signal was sent."""
        if not self.due or at < self.due:
            return False
        return sent > to_text(later(from_text(self.due), _SKEW))


class _Iteration:
    """An iteration that has begun and has not ended."""

    __slots__ = (
        "cancelled",
        "counts",
        "last",
        "open",
        "over",
        "over_at",
        "pruned",
        "taken",
        "told",
    )

    def __init__(self, id: int) -> None:
        self.last = id  # the newest event that the workflow's consumer gives to the run
        self.counts: dict[str, int] = {}
        self.open: dict[str, _Open] = {}  # by what follows the iteration in the key
        self.taken: dict[str, int] = {}  # by type, the newest signal that the run took
        self.over, self.over_at = "", 0  # the output that says how the run ends, and its id
        self.cancelled = self.told = self.pruned = False


class _Closed(NamedTuple):
    """An iteration that has ended, as its restart needs it."""

    iteration: int
    over: str
    told: int  # the id of its end, if it has to restart
    taken: dict[str, int]


class Audit:
    """Checks events page by page, then the other tables.  `run` yields the findings."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._found: list[Finding] = []  # not yielded yet
        self._floor = 0
        self._next = 1  # the id that has to come next
        self._open: dict[str, _Iteration] = {}
        self._left: dict[str, _Open] = {}  # activities and sleeps that ended iterations left open
        self._closed: OrderedDict[str, _Closed] = OrderedDict()
        self._matched = 0  # signals that are known to belong to their awaits
        self._parked: set[str] = set()  # keys
        self._cursors: dict[str, int] = {}
        self._serving: dict[tuple[str, ...], list[tuple[Shard | None, int]]] = {}

    def run(self) -> Iterator[Finding]:
        """Check everything, and yield what is wrong.  For another table, add a line."""
        self._check_floor()
        self._check_cursors()
        self._check_parked()
        yield from self._flush()
        for page in self._tables.pages():
            for row in page.events:
                self._event(row, page.waits)
            yield from self._flush()
        self._duplicates()
        self._unfinished()
        yield from self._flush()
        for kind in _WAITS:
            self._open_rows(*kind)
            self._orphans(*kind)
            yield from self._flush()
        self._inbox()
        self._damaged()
        self._signals()
        yield from self._flush()

    def _say(self, promise: str, event: int, run: str, problem: str) -> None:
        self._found.append(Finding(promise, event, run, problem))

    def _break(self, promise: str, line: _Line, problem: str) -> None:
        self._say(promise, line.id, line.place, problem)

    def _flush(self) -> Iterator[Finding]:
        found, self._found = self._found, []
        yield from found

    # Events.

    def _event(self, row: Row, waits: Mapping[str, Wait]) -> None:
        id, type, key, at, place, head = row
        if id != self._next:
            self._gap(range(self._next, id))
        self._next = id + 1
        if type == _NOOP:
            return
        if (problem := _unreadable(type, key, at, place)) is not None:
            self._say("L3", id, str(place or ""), f"The row is damaged: {problem}.")
            return
        rest = key[len(place) :]
        target, _, sequence = rest[1:].rpartition("/")
        line = _Line(id, type, key, at, place, rest, target, sequence, head)
        iteration = self._open.get(place)
        if type == _RESPONSE:
            self._response(line, iteration, waits.get(key))
        elif type == _CREATED:
            self._created(line)
        elif iteration is not None or (iteration := self._stray(line)) is not None:
            self._own(line, iteration)

    def _own(self, line: _Line, iteration: _Iteration) -> None:
        """Check an event that an open iteration has added itself."""
        is_end = line.type == _COMPLETED
        if iteration.pruned != _is_pruned(line.head) if is_end else iteration.pruned:
            text = "It is of an iteration of which only the ends may be left, both marked."
            self._break("L9", line, text)
            if not is_end:
                return
        if is_end:
            self._completed(line, iteration)
        elif line.type == _REQUEST:
            self._request(line, iteration)
        else:
            self._output(line, iteration)

    def _gap(self, ids: range) -> None:
        """L1: nobody reads past a missing id, unless retention has removed it (L9)."""
        first = max(ids.start, self._floor + 1)
        passed = [name for name, at in self._cursors.items() if at >= first and name != SEEN]
        if first < ids.stop and passed:
            some = f"Event {first} is" if first + 1 == ids.stop else f"{first} to {ids[-1]} are"
            self._say("L1", first, "", f"{some} missing, and {passed[0]} has read past it.")

    def _created(self, line: _Line) -> None:
        run, _, number = line.place.rpartition("/")
        before, iteration = self._closed.get(run), int(number)
        if line.place in self._open or (iteration == 0 and before is not None):
            return  # twice: see `_duplicates`
        follows = before is not None and before.iteration == iteration - 1
        self._open[line.place] = made = _Iteration(line.id)
        made.pruned = _is_pruned(line.head)
        if before is not None and follows:
            del self._closed[run]
            made.taken = before.taken
            self._require_going_on(line, before.over)
        elif iteration:
            self._unlinked(line, f"{run}/{iteration - 1}")

    def _require_going_on(self, line: _Line, over: str) -> None:
        """E1, E2: nothing of a run follows its result or its failure."""
        if over:
            self._break(
                "E1" if over == RESULT else "E2", line, f"The run goes on after its {over}."
            )

    def _unlinked(self, line: _Line, previous: str) -> None:
        """R6: an iteration does not begin where the one before it ends."""
        ended = self._tables.find(_COMPLETED, previous)
        if ended is None:
            if self._floor == 0 or line.id > self._floor + _TRANSACTION:
                self._break("R6", line, f"It begins, and {previous} has not ended.")
        elif ended > line.id:
            self._break("R6", line, f"It begins before {previous} ends in event {ended}.")
        else:
            self._break("R6", line, f"It begins elsewhere than {previous} ends, event {ended}.")

    def _stray(self, line: _Line) -> _Iteration | None:
        """R1, R6, R9: an event of an iteration that is not open.

        If it never began, take it for begun from now on: one finding is enough.
        """
        what = {_COMPLETED: "end", _REQUEST: "request", _OUTPUT: "output"}[line.type]
        ended = self._tables.find(_COMPLETED, line.place)
        if ended is not None and ended < line.id:
            if line.type != _COMPLETED:  # that is a duplicate
                text = f"The {what} comes after the end of its iteration, event {ended}."
                self._break("R9", line, text)
            return None
        begun = self._tables.find(_CREATED, line.place)
        when = "which never began" if begun is None else f"which begins later, in event {begun}"
        promise = "R1" if line.place.endswith("/0") else "R6"
        self._break(promise, line, f"The {what} is of an iteration {when}.")
        self._open[line.place] = made = _Iteration(_NEVER)
        return made

    def _request(self, line: _Line, iteration: _Iteration) -> None:
        self._require_going_on(line, iteration.over)
        waits = line.target in (SLEEP, SIGNAL)
        iteration.open[line.rest] = _due(line) if waits else _Open(line.id)
        what, number = line.counted
        self._count("A5", line, iteration, f"request {what}", number)

    def _count(
        self, promise: str, line: _Line, iteration: _Iteration, what: str, number: str
    ) -> None:
        """A5, O1: the numbers of a name grow.  A call that was refused has used up a number."""
        expected = iteration.counts.get(what, 0)
        if not _is_count(number):
            self._break("L3", line, f"The {what} has {number!r} for a number.")
        elif int(number) >= expected:
            iteration.counts[what] = int(number) + 1
        elif self._tables.find(line.type, line.key) == line.id:  # else it is a duplicate
            self._break(promise, line, f"The {what} has number {number} after {expected - 1}.")

    def _output(self, line: _Line, iteration: _Iteration) -> None:
        target = line.target
        if target in (RESULT, FAILURE):
            if iteration.over and iteration.over != target:
                self._break("E2", line, "The run has a result, and has failed.")
            iteration.over, iteration.over_at = target, line.id
        else:
            self._require_going_on(line, iteration.over)
        if target == CANCEL:
            iteration.told = True
            if not iteration.cancelled:
                self._break("E7", line, "It says that it got a cancel, and there is none.")
        if target in (RESULT, FAILURE, CANCEL):
            if line.sequence != "0":
                self._break("O1", line, f"There is a second {target}.")
        elif target != PATCH:
            self._count("O1", line, iteration, f"output {target}", line.sequence)

    def _completed(self, line: _Line, iteration: _Iteration) -> None:
        del self._open[line.place]
        run, _, number = line.place.rpartition("/")
        told = line.id if iteration.told else 0
        self._closed.pop(run, None)
        self._closed[run] = _Closed(int(number), iteration.over, told, iteration.taken)
        for rest, opened in iteration.open.items():
            if not rest.startswith(f"/{SIGNAL}/"):  # those are withdrawn
                self._left[line.place + rest] = opened
        if len(self._closed) > _CLOSED:
            self._forget(*self._closed.popitem(last=False))

    def _forget(self, run: str, closed: _Closed) -> None:
        """E7: an iteration that got its cancel, and says so, has restarted."""
        if closed.told > self._floor:
            text = f"Its output {CANCEL} says that it restarts, and it has not."
            self._say("E7", closed.told, f"{run}/{closed.iteration}", text)

    # Responses.

    def _response(self, line: _Line, iteration: _Iteration | None, wait: Wait | None) -> None:
        if iteration is not None:
            iteration.last = max(line.id, iteration.last)
        if line.target == CANCEL:
            if iteration is not None:
                iteration.cancelled = True
            if line.sequence not in ("0", "1"):
                self._break("E7", line, f"A cancel has {line.sequence!r} for a number.")
            return
        if iteration is None:
            opened = self._left.pop(line.key, None)  # without a request it is legal (R9)
        elif (opened := iteration.open.pop(line.rest, None)) is None:
            self._unasked(line)
            return
        if line.target == SLEEP:
            self._woken(line, opened, wait)
        elif line.target == SIGNAL:
            self._heard(line, iteration, opened, wait)

    def _unasked(self, line: _Line) -> None:
        """A1: a response has a request before it.  A second one is a duplicate."""
        asked = self._tables.find(_REQUEST, line.key)
        if asked is None or asked > line.id:
            text = f"The response of {line.target}/{line.sequence} has no request before it."
            self._break("A1", line, text)

    def _woken(self, line: _Line, opened: _Open | None, wait: Wait | None) -> None:
        """R7: a sleep ends at its time, and has a row."""
        if opened is None:
            return
        if wait is None:
            self._break("R7", line, "The sleep that it ends has no row.")
        elif opened.is_early(line.at, wait):
            self._break("R7", line, f"The sleep ends before its time, {opened.due}.")

    def _heard(
        self, line: _Line, iteration: _Iteration | None, opened: _Open | None, wait: Wait | None
    ) -> None:
        """S2, S4: response, await and signal say the same."""
        if wait is None:
            if iteration is not None:
                self._break("S2", line, "The await that it answers has no row.")
            return
        self._matched += len(wait.signals)
        silent = line.head == _NO_SIGNAL
        if silent and opened is not None and opened.is_early(line.at, wait):
            self._break("S4", line, f"No signal came, it says, before the timeout at {opened.due}.")
        if silent and wait.status == SUCCESS:
            self._break("S2", line, "The await took a signal, the response says none.")
        elif not silent and wait.status == TIMED_OUT:
            self._break("S2", line, "The await has timed out, the response has a signal.")
        elif silent and wait.signals:
            text = f"Signal {wait.signals[0].id} counts as taken by an await that has timed out."
            self._break("S2", line, text)
        elif len(wait.signals) > 1:
            ids = ", ".join(str(signal.id) for signal in wait.signals)
            self._break("S2", line, f"The await took several signals: {ids}.")
        elif wait.status == SUCCESS and iteration is not None:
            self._took(line, iteration, opened, wait)

    def _took(self, line: _Line, iteration: _Iteration, opened: _Open | None, wait: Wait) -> None:
        """S2, S4: the signal is the next of its type, and came in time."""
        if not wait.signals:
            self._break("S2", line, "No signal counts as taken by this await.")
            return
        ((signal, sent, content),) = wait.signals
        if (content or b"") != (line.head or b""):
            self._break("S2", line, f"It has another message than signal {signal}, which it took.")
        type, _ = line.counted
        newest = iteration.taken.get(type, 0)
        iteration.taken[type] = max(newest, signal)
        if signal < newest:
            self._break("S2", line, f"It took signal {signal} after signal {newest}.")
        if wait.older:
            text = f"It took signal {signal}, and nobody has taken the older one, {wait.older}."
            self._break("S2", line, text)
        if opened is not None and opened.is_late(line.at, sent):
            text = f"It took signal {signal}, which was sent after the time of the await."
            self._break("S4", line, text)

    def _signals(self) -> None:
        """S1, S2: no other signals count as taken, and none is there twice."""
        for id, other in self._tables.same_signals():
            self._say("S1", 0, "", f"Signal {id} is signal {other} again.")
        if self._tables.count_taken() != self._matched:
            for id, run, type, taker, key, answered in self._tables.taken():
                problem = _wrongly_taken(f"{run}/", type, key, answered)
                if problem:
                    text = f"Signal {id} counts as taken by await {taker}, {problem}."
                    self._say("S2", 0, run, text)
        seen = min(self._cursors.get(SEEN, 0), self._tables.newest()[1])
        if not self._floor and (missing := seen - self._tables.count_signals(seen)) > 0:
            text = f"{missing} of the signals up to {seen} are missing, and {SEEN} has passed them."
            self._say("L1", 0, "", text)

    # The other tables.

    def _check_floor(self) -> None:
        """L9: the floor is an id of the log."""
        value, newest = self._tables.floor(), self._tables.newest()[0]
        if isinstance(value, str) and value.isascii() and value.isdecimal():
            self._floor = int(value)
        if str(self._floor) != value or self._floor > newest:
            text = f"The {FLOOR} is {value!r:.100}, and the newest event is {newest}."
            self._say("L9", 0, "", text)

    def _check_cursors(self) -> None:
        """L5: no consumer has read what is not there."""
        events, signals = self._tables.newest()
        for name, at in self._tables.cursors():
            newest = signals if name == SEEN else events
            if not isinstance(name, str) or not isinstance(at, int) or at < 0:
                self._say("L5", 0, "", f"The cursor of {name!r} is {at!r:.100}.")
                continue
            self._cursors[name] = at
            if at > newest:
                what = "signal" if name == SEEN else "event"
                text = f"The cursor of {name} is {at}, beyond the newest {what}, {newest}."
                self._say("L5", 0, "", text)
            parts = name.split("/")
            if len(parts) in (3, 4) and (shard := _shard(parts[3:])) is not ...:
                self._serving.setdefault(tuple(parts[:3]), []).append((shard, at))

    def _check_parked(self) -> None:
        """R5, A2: a parked row is of an event that waits, and there is one."""
        twice: set[tuple[str, str]] = set()
        for row, event, done in self._tables.parked():
            consumer, id, key, _, _ = row
            self._parked.add(key)
            if not _is_parked(*row):
                text = f"The parked row of {consumer!r:.300} for event {id!r:.30} is damaged."
                self._say("L3", 0, "", text)
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
                self._say(promise, id, key, f"What {consumer} has parked {problem}.")

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

    def _damaged(self) -> None:
        """L3: rows of other tables that nobody can read."""
        for table, row in self._tables.damaged:
            self._say("L3", 0, "", f"The row of {table} for {row!r:.600} is damaged.")

    def _inbox(self) -> None:
        """L3: rows of the inbox that nobody can read stay there, with the reason."""
        for id, error in self._tables.refused():
            self._say("L3", 0, "", f"Row {id} of replay_inbox is not moved: {error!r:.300}.")

    def _duplicates(self) -> None:
        """L2: there is one event of a type with a key."""
        for id, type, key, first in self._tables.duplicates():
            promise = "A1" if type == _RESPONSE else "L2"
            self._say(promise, id, key, f"It is event {first} again.")

    def _unfinished(self) -> None:
        """E1, E2, E7, L6, R2: nothing that has to follow is missing."""
        while self._closed:
            self._forget(*self._closed.popitem())
        for place, iteration in self._open.items():
            if iteration.over:
                promise = "E1" if iteration.over == RESULT else "E2"
                text = f"The iteration has a {iteration.over}, and has not ended."
                self._say(promise, iteration.over_at, place, text)
            else:
                self._stuck(place, iteration)
            for rest, opened in iteration.open.items():
                self._unexecuted(place, rest, opened)
        for key, opened in self._left.items():
            parts = key.split("/", 4)
            self._unexecuted("/".join(parts[:4]), f"/{parts[4]}", opened)

    def _stuck(self, place: str, iteration: _Iteration) -> None:
        """R2: a run that waits for nothing has something to read, or is parked."""
        if iteration.open or place in self._parked:
            return
        namespace, workflow, run, _ = place.split("/")
        if self._has_passed(("workflow", namespace, workflow), run, iteration.last):
            text = "The run waits for nothing, and its consumer has nothing left to read."
            self._say("R2", iteration.last, place, text)

    def _unexecuted(self, place: str, rest: str, opened: _Open) -> None:
        """L6: a request that its consumer has passed has a response, or is parked."""
        target, _, sequence = rest[1:].rpartition("/")
        if target in (SLEEP, SIGNAL) or place + rest in self._parked:
            return
        namespace, _, run, _ = place.split("/")
        if self._has_passed(("activity", namespace, target), run, opened.id):
            text = f"{target}/{sequence} has no response, and its consumer has passed it."
            self._say("L6", opened.id, place, text)

    def _has_passed(self, name: tuple[str, ...], run: str, id: int) -> bool:
        """Whether the consumer of this name has passed an event of a run, or its shard has."""
        consumers = self._serving.get(name, ())
        return any(at >= id and (shard is None or shard.has(run)) for shard, at in consumers)

    def _open_rows(self, target: str, table: str, done: int, promise: str, due: str) -> None:
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
        for some in chunks(list(found)):
            rows = self._tables.waits(table, some)
            for key in some:
                opened, place = found[key], key.rpartition(mark)[0]
                if (wait := rows.get(key)) is None:
                    passed = self._cursors.get(target, 0) >= opened.id
                    if passed and key not in self._parked:
                        text = f"{target} has passed the request, and stored no row for it."
                        self._say("L6", opened.id, place, text)
                elif wait.status == done:
                    text = "Its row says that it is over, and there is no response."
                    self._say(promise, opened.id, place, text)
                elif wait.status == TIMED_OUT:
                    self._say("E8", opened.id, place, "It was withdrawn while it was open.")
                elif not opened.fits(wait):
                    text = f"It is due at {opened.due}, but its row says {wait.until}."
                    self._say(due, opened.id, place, text)

    def _orphans(self, target: str, table: str, done: int, promise: str, due: str) -> None:
        """R7, S2: each row that waits is of a request."""
        for keys in self._tables.pending(table):
            unknown = [key for key in keys if not self._is_open(key)]
            known = self._tables.found(_REQUEST, unknown)
            for key in unknown:
                if key not in known:
                    text = f"A row of {table} waits for {key!r:.600}, which nobody requested."
                    self._say(promise, 0, "", text)

    def _is_open(self, key: object) -> bool:
        if not isinstance(key, str):
            return False
        place = "/".join(key.split("/", 4)[:4])
        iteration = self._open.get(place)
        return key in self._left or (iteration is not None and key[len(place) :] in iteration.open)


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


def _due(line: _Line) -> _Open:
    if (found := _duration(line.head)) is None:
        return _Open(line.id)  # the request is parked
    exact, whole = found
    return _Open(line.id, to_text(later(from_text(line.at), exact)), whole)


@lru_cache(maxsize=10_000)
def _duration(head: Any) -> tuple[timedelta, timedelta] | None:
    event = Event(0, EventType.ACTIVITY_REQUEST, Key("", "", ""), UNKNOWN, read_message(head), "-")
    try:
        exact = requested_duration(event)
    except MessageError:
        return None
    return exact, timedelta(seconds=exact // timedelta(seconds=1))


def _is_pruned(head: object) -> bool:
    return isinstance(head, bytes) and is_pruned(head)


def _is_parked(consumer: Any, id: Any, key: Any, attempts: Any, next_at: Any) -> bool:
    """L3: whether a parked row can be read."""
    try:
        Key.parse(key)
        from_text(next_at)
        return isinstance(consumer, str) and isinstance(id, int) and int(attempts) >= 0
    except (AttributeError, TypeError, ValueError):
        return False


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


def audited(url: str) -> Iterator[Finding]:
    """Audit the log at `url`, and yield what is wrong.  Raises as `open_log` does."""
    with open_log(url) as tables:
        yield from Audit(tables).run()
