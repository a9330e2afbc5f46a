"""What has to hold after each step, whoever did what, read from the tables themselves.

What any log shows is left to `replay.tools.audit`.  Here is what only somebody sees who watches: in
which order things appear, and that nothing changes afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from replay import Event, EventType, Key
from replay.storage.database import TURN, Row, from_text, later
from replay.storage.event import is_pruned, read_event
from replay.tools.audit import Audit as Auditor
from replay.tools.tables import Tables
from tests.simulation.backend import Backend
from tests.simulation.program import DONE, WORKFLOW, Cancelling, Facts, Failing, Program, content

_EVERY = 25  # changes between two audits of the whole log

_EVENTS = "SELECT id, type, `key`, timestamp, message FROM replay_events WHERE id > ? ORDER BY id"


class _Tables(Tables):
    """Reads past all faults."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend.of(0))
        self._backend = backend

    def _query(self, sql: str, parameters: Sequence[object] = ()) -> Sequence[Row]:
        return self._backend.query(sql, parameters)


class Audit:
    """The log and the tables as they have been seen so far."""

    def __init__(self, backend: Backend, programs: Mapping[tuple[str, str], Program]) -> None:
        self.events: dict[int, Event] = {}
        #: The tick at which an event, or a signal, was first seen.
        self.seen_at: dict[int, int] = {}
        self.signal_seen_at: dict[int, int] = {}
        self.by_key: dict[tuple[EventType, str], Event] = {}
        self.settled = 0  # up to this id there is no gap
        self.cursors: dict[str, int] = {}
        self.tick = 0
        self._backend = backend
        self._programs = programs
        self._rows: dict[int, Sequence[object]] = {}
        self._version = -1
        self._answers: dict[str, set[str]] = {}  # their keys, by target
        self._ended: list[Event] = []  # iterations whose next has not been looked for
        self._looks = 0
        self._newest: dict[tuple[str, ...], tuple[int, int]] = {}  # iterations: begun, ended
        self._cancels: dict[str, list[Event]] = {}  # by the key of their iteration
        self.freed: set[int] = set()  # awaits whose signals others may take
        #: All signals that there were, by id: for which run, its type, its external id, its time.
        self.signals: dict[int, tuple[tuple[str, ...], int, str, datetime]] = {}
        self.gone: set[int] = set()  # ids of events that were pruned
        self.pruned: set[str] = set()  # keys of iterations that were
        self._turn = ""
        self._converted: set[int] = set()  # of those, what became a no-op as it went

    def look(self) -> None:
        """Check everything; called after each step."""
        self.tick += 1
        if (version := self._backend.version()) == self._version:
            return
        self._version = version
        self._read()
        self._prunes()
        self._cursors()
        self._restarts()
        self._signals()
        self._sleeps()
        self._looks += 1
        if self._looks % _EVERY == 0:
            self.audit()

    def audit(self) -> None:
        """All that a log shows by itself: L2, L6, A1, R6, R7, S2 and others."""
        for finding in Auditor(_Tables(self._backend)).run():
            # With the promise alone before the colon, smaller histories count as the same failure.
            raise AssertionError(f"{finding.promise}: {finding.problem} ({finding})")

    def _read(self) -> None:
        """L1: events are new."""
        for row in self._backend.query(_EVENTS, (self.settled,)):
            if row[0] in self._rows:
                continue
            event = read_event(row)
            self._rows[event.id] = row
            self.events[event.id] = event
            self.seen_at[event.id] = self.tick
            if event.type is EventType.NOOP:
                continue
            self.by_key[event.type, event.text] = event
            self._sort(event)
        while self.settled + 1 in self.events:
            self.settled += 1

    def knows_all(self) -> bool:
        """Whether there are no events but those that it has seen."""
        count = "SELECT COUNT(*) FROM replay_events WHERE type <> 0"
        return bool(self._backend.query(count)[0][0] + len(self.gone) == len(self.by_key))

    # Retention.

    def _prunes(self) -> None:
        """L9: what is gone was over, all had passed it, and it went as a whole."""
        ((turn,),) = self._backend.query("SELECT value FROM replay_meta WHERE name = ?", (TURN,))
        if turn == self._turn:
            return
        self._turn = turn
        rows = {row[0]: row for row in self._backend.query(_EVENTS, (0,))}
        for (type, text), event in self.by_key.items():
            row = rows.get(event.id)
            gone = row is None or row[1] == 0 or is_pruned(row[4])
            if type is EventType.RUN_COMPLETED and text not in self.pruned and gone:
                self.pruned.add(text)
                self._was_over(event.key, rows)

    def _was_over(self, key: Key, rows: Mapping[int, Sequence[object]]) -> None:
        begun, ended = self._newest[key[:3]]
        assert key.iteration < begun or begun == ended, f"L9: {key} is the newest iteration"
        events = [each for each in self.by_key.values() if each.key[:4] == key[:4]]
        ends = (EventType.RUN_CREATED, EventType.RUN_COMPLETED)
        stay = {each.id for each in events if each.type in ends and not key.iteration}
        ids = {each.id for each in events}
        left = {id for id in ids if id in rows and rows[id][1] != 0}
        assert left == stay, f"L9: of {key} {left} is left"
        if key.iteration == begun == ended:  # the mark of iteration 0 says when the run ended
            text = str(key._replace(iteration=0))
            stay = {self.by_key[type, text].id for type in ends}
        for id in stay:
            assert is_pruned(rows[id][4]), f"L9, R1: {id} of {key} is not emptied"  # type: ignore[arg-type]
            self._rows[id] = rows[id]
        self.gone |= ids - stay
        self._converted |= {id for id in ids - left if id in rows}
        asked = {e.text: e for e in events if e.type is EventType.ACTIVITY_REQUEST}
        answered = {e.text for e in events if e.type is EventType.ACTIVITY_RESPONSE}
        for text, each in asked.items():
            open = text not in answered and each.key.target != "replay_signal"
            assert not open, f"L9: {text} waits, and was pruned"
        query = "SELECT id, last_event_id FROM replay_cursors WHERE id <> 'replay_signal/seen'"
        for name, position in self._backend.query(query):
            known = name in self.cursors
            assert not known or position >= max(ids), f"L9: {key} was pruned before {name} saw it"
        for consumer, id in self._backend.query("SELECT consumer, event_id FROM replay_parked"):
            assert id not in ids, f"L9: {key} was pruned while {consumer} has parked {id}"

    def is_gone(self, text: str) -> bool:
        """Whether the iteration of this key was pruned."""
        return str(Key.parse(text).iteration_key()) in self.pruned

    def all(self) -> list[Event]:
        """All events that there were."""
        return sorted(self.by_key.values(), key=lambda event: event.id)

    def _cursors(self) -> None:
        """L1, L5: nobody has read past a gap, and no cursor goes back unless it is put back."""
        query = "SELECT id, last_event_id FROM replay_cursors WHERE id <> 'replay_signal/seen'"
        cursors = self._backend.query(query)
        self._taken_over({name for name, _ in cursors})
        for name, position in cursors:
            assert position <= self.settled, f"L1: {name} is at {position}, past {self.settled}"
            before = self.cursors.get(name, 0)
            assert position >= before, f"L5: the cursor of {name} went back from {before}"
            self.cursors[name] = int(position)

    def _taken_over(self, there: set[str]) -> None:
        """H2: cursors vanish only if others have taken over, which may begin further back."""
        gone = self.cursors.keys() - there
        counts = "SELECT 1 FROM replay_meta WHERE name LIKE 'shards/%'"
        assert not gone or self._backend.query(counts), f"H2: the cursors {gone} are gone"
        for name in gone:
            del self.cursors[name]

    def _sort(self, event: Event) -> None:
        """Put it where the checks look for it."""
        run = event.key[:3]
        begun, ended = self._newest.get(run, (-1, -1))
        if event.type is EventType.RUN_CREATED:
            self._newest[run] = (max(begun, event.key.iteration), ended)
        elif event.type is EventType.RUN_COMPLETED:
            self._newest[run] = (begun, max(ended, event.key.iteration))
            self._ended.append(event)
        elif event.key.target == "replay_cancel" and event.type is EventType.ACTIVITY_RESPONSE:
            self._cancels.setdefault(str(event.key.iteration_key()), []).append(event)
        elif event.type is EventType.ACTIVITY_RESPONSE:
            self._answers.setdefault(event.key.target, set()).add(event.text)

    def _restarts(self) -> None:
        """R6: an iteration that ends without result or failure is not the last of its program."""
        ended, self._ended = self._ended, []
        for event in ended:
            key = event.key
            program = self._programs[key.namespace, key.run]
            over = self._left(key, "replay_failure") or self._left(key, "replay_result")
            if not over and key.iteration + 1 < len(program.iterations):
                next = (EventType.RUN_CREATED, str(Key(*key[:3], key.iteration + 1)))
                assert next in self.by_key, f"R6: {key} has ended, and its next has not begun"

    def _left(self, key: Key, name: str) -> bool:
        return (EventType.RUN_OUTPUT, f"{key.iteration_key()}/{name}/0") in self.by_key

    def newest(self, run: tuple[str, str]) -> tuple[int, bool]:
        """A run's newest iteration, -1 if there is none, and whether the run is over."""
        begun, ended = self._newest.get((run[0], WORKFLOW, run[1]), (-1, -1))
        return begun, begun == ended >= 0

    # Cancels.

    def cancellable(self, run: tuple[str, str], terminate: bool) -> bool:
        """E7: whether a cancel is to be recorded just now."""
        iteration, over = self.newest(run)
        if iteration < 0 or over:
            return False
        there = self._cancels.get(str(Key(run[0], WORKFLOW, run[1], iteration)), [])
        taken = {event.key.sequence for event in there}
        return "0" not in taken or (terminate and "1" not in taken)

    def has_cancel(self, run: tuple[str, str], reason: str) -> bool:
        """Whether a cancel with this reason is in the log of this run."""
        of = (run[0], WORKFLOW, run[1])
        return any(
            event.key[:3] == of and event.message.reason == reason
            for some in self._cancels.values()
            for event in some
        )

    def passed_on(self, run: tuple[str, str]) -> bool:
        """Whether a cancel of this run was passed on to its next iteration."""
        of = (run[0], WORKFLOW, run[1])
        reasons = [
            event.message.reason
            for some in self._cancels.values()
            for event in some
            if event.key[:3] == of
        ]
        return len(reasons) > len(set(reasons))

    def check_cancels(self, run: tuple[str, str], told: Sequence[Sequence[Cancelling]]) -> None:
        """E7: a cancel is told once, or passed on to the next iteration, or came too late."""
        before: set[str] = set()  # the reasons that this iteration may have been passed
        ever: set[str] = set()
        for iteration, heard in enumerate(told):
            here = self._cancelling(str(Key(run[0], WORKFLOW, run[1], iteration)))
            reasons = {each.reason for each in here}
            again = (reasons & ever) - before
            assert not again, f"E7: {run} gets {again} again in iteration {iteration}"
            ever |= reasons
            left = [each for each in here if each not in heard]
            before = {each.reason for each in left}
            if iteration + 1 < len(told):
                self._passed(run, iteration + 1, left)

    def _passed(self, run: tuple[str, str], iteration: int, left: Sequence[Cancelling]) -> None:
        here = self._cancelling(str(Key(run[0], WORKFLOW, run[1], iteration)))
        for each in left:
            passed = any(other.terminate or not each.terminate for other in here)
            assert passed, f"E7: {each} of {run} was not passed on to iteration {iteration}"

    def _cancelling(self, key: str) -> list[Cancelling]:
        events = sorted(self._cancels.get(key, ()), key=lambda event: event.id)
        return [Cancelling(e.id, e.message.reason, e.message.terminate) for e in events]

    # What the oracle cannot know.

    def facts(
        self,
        sent: Mapping[tuple[str, str], Mapping[int, Sequence[int | None]]],
    ) -> Facts:
        """What was a race."""
        kinds = (EventType.ACTIVITY_RESPONSE, EventType.RUN_CREATED)
        failed: dict[str, Failing] = {}
        for (type, key), event in self.by_key.items():
            if type is EventType.ACTIVITY_RESPONSE and event.key.target != "replay_cancel":
                found = content(event.message)
                if isinstance(found, tuple):
                    failed[key] = found
        cancels = {key: self._cancelling(key) for key in self._cancels}
        return Facts(
            ids={key: event.id for (type, key), event in self.by_key.items() if type in kinds},
            signals=self._taken(sent),
            failed=failed,
            patched={key for _, key in self.by_key if "/replay_patch/" in key},
            cancels=cancels,
            cut={key: self._lines(key) for key in cancels if self._cut(key)},
        )

    def _cut(self, key: str) -> bool:
        """Whether an iteration was terminated."""
        failure = self.by_key.get((EventType.RUN_OUTPUT, f"{key}/replay_failure/0"))
        reasons = {each.reason for each in self._cancelling(key) if each.terminate}
        return failure is not None and failure.message.text in reasons

    def _lines(self, key: str) -> int:
        """How many lines of its own an iteration has, without those of its end."""
        own = (EventType.RUN_CREATED, EventType.RUN_OUTPUT, EventType.ACTIVITY_REQUEST)
        return -1 + sum(
            type in own and str(event.key.iteration_key()) == key and event.key.target != "extra"
            for (type, _), event in self.by_key.items()
        )

    def _taken(
        self, sent: Mapping[tuple[str, str], Mapping[int, Sequence[int | None]]]
    ) -> dict[str, object]:
        """S2: what each await got that lived when its response came: in order."""
        queues = {(run, type): [*some] for run, of in sent.items() for type, some in of.items()}
        over, taken = self.timed_out(), dict[str, object]()
        for answer in self._reached():
            if answer.text in over:
                taken[answer.text] = DONE
            else:
                run = (answer.key.namespace, answer.key.run)
                queue = queues[run, int(answer.key.sequence.partition(":")[0])]
                taken[answer.text] = queue.pop(0)
        return taken

    def _reached(self) -> list[Event]:
        """The responses to awaits, in order, but for those that came after an iteration's end."""
        answers = [
            event
            for (type, _), event in self.by_key.items()
            if type is EventType.ACTIVITY_RESPONSE
            and event.key.target == "replay_signal"
            and not self._too_late(event)
        ]
        return sorted(answers, key=lambda event: event.id)

    def _too_late(self, answer: Event) -> bool:
        end = self.by_key.get((EventType.RUN_COMPLETED, str(answer.key.iteration_key())))
        return end is not None and end.id < answer.id

    def answers(self, target: str) -> set[str]:
        """The keys of the answers of an activity."""
        return self._answers.get(target, set())

    def _signals(self) -> None:
        """S2, E8: await and answer change together; only what came too late is freed."""
        query = (
            "SELECT id, check_id, namespace, workflow, run, type, external_id, created_at"
            " FROM replay_signals WHERE namespace <> ''"
        )
        signals = self._backend.query(query)
        for id, _, *run, type, name, at in signals:
            self.signal_seen_at.setdefault(id, self.tick)
            self.signals.setdefault(id, (tuple(run), type, name, from_text(at)))
        awaits = self._backend.query("SELECT id, `key`, status FROM replay_signal_awaits")
        took = {id: key for id, key, status in awaits if status == 3}
        self.freed = took.keys() - {row[1] for row in signals}
        answers = {key for key in self.answers("replay_signal") if not self.is_gone(key)}
        # The Go system marks an await only some time after its answer, so no audit says this.
        assert answers <= {key for _, key, status in awaits if status != 1}, "S2: await and answer"

    def all_freed(self) -> None:
        """E8: at the end no signal is kept by an await whose iteration was over."""
        query = (
            "SELECT a.`key` FROM replay_signal_awaits a JOIN replay_signals s ON s.check_id = a.id"
        )
        for (key,) in self._backend.query(query):
            answer = self.by_key[EventType.ACTIVITY_RESPONSE, key]
            assert not self._too_late(answer), f"E8: {answer!r} keeps a signal for nobody"

    def _sleeps(self) -> None:
        """R7: a sleep is marked when its answer is there.  The Go system marks none."""
        rows = self._backend.query("SELECT `key` FROM replay_sleeps WHERE completed = 1")
        answered = {key for key in self.answers("replay_sleep") if not self.is_gone(key)}
        assert {key for (key,) in rows} == answered, "R7: sleep and answer"

    def unchanged(self) -> None:
        """L1, L9: the log is append-only, but for what was pruned."""
        rows = {
            row[0]: row for row in self._backend.query(_EVENTS, (0,)) if row[0] not in self.gone
        }
        left = {row[0] for row in self._backend.query(_EVENTS, (0,))} & self.gone
        assert left <= self._converted, f"L9: {left} were pruned, and somebody has filled them"
        kept = {id: row for id, row in self._rows.items() if id not in self.gone}
        assert rows == kept, "L1: an event was changed or removed"

    def timed_out(self) -> set[str]:
        """S3: the awaits that ended without a signal, each of which rightly did."""
        signals = self._sent()
        out = set()
        for answer in self._reached():
            asked = self.by_key[EventType.ACTIVITY_REQUEST, answer.text]
            until = later(asked.timestamp, asked.message.duration.ToTimedelta())
            queue = signals.get((answer.key[:3], answer.key.sequence.partition(":")[0]), [])
            if content(answer.message) == DONE:
                out.add(answer.text)
                self._rightly_over(answer, until, queue)
            else:
                assert queue, f"S1: {answer!r} has a signal that nobody sent"
                queue.pop(0)
        return out

    def _rightly_over(
        self, answer: Event, until: datetime, queue: list[tuple[int, datetime]]
    ) -> None:
        if queue:
            id, sent = queue[0]
            before = self.signal_seen_at[id] < self.seen_at[answer.id]
            assert not (before and sent <= until), f"S3: {answer!r} overlooked signal {id}"

    def _sent(self) -> dict[tuple[tuple[str, ...], str], list[tuple[int, datetime]]]:
        found: dict[tuple[tuple[str, ...], str], list[tuple[int, datetime]]] = {}
        for id, (run, type, _, at) in sorted(self.signals.items()):
            found.setdefault((run, str(type)), []).append((id, at))
        return found
