"""What has to hold after each step, whoever did what, read from the tables themselves."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from replay import Event, EventType, Key
from replay.storage.database import from_text
from replay.storage.event import read_event
from tests.simulation.backend import Backend
from tests.simulation.program import Program

_EVENTS = "SELECT id, type, `key`, timestamp, message FROM replay_events WHERE id > ? ORDER BY id"


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
        self._rows: dict[int, object] = {}
        self._version = -1
        #: The keys of answers by target, and the activities' requests by namespace and target.
        self._answers: dict[str, set[str]] = {}
        self._requests: dict[tuple[str, ...], list[Event]] = {}
        self._ended: list[Event] = []  # iterations whose next has not been looked for
        self._woken: set[str] = set()  # sleeps whose answers have been looked at

    def look(self) -> None:
        """Check everything; called after each step."""
        self.tick += 1
        if (version := self._backend.version()) == self._version:
            return
        self._version = version
        new = self._read()
        moved = self._cursors()
        if new or moved:
            self._restarts()
            self._effects()
        self._signals()
        self._sleeps()

    def _read(self) -> bool:
        """L1, L2, A1: events are new, unique, and answers have their requests."""
        found = False
        for row in self._backend.query(_EVENTS, (self.settled,)):
            if row[0] in self._rows:
                continue
            found, event = True, read_event(row)
            self._rows[event.id] = row
            self.events[event.id] = event
            self.seen_at[event.id] = self.tick
            if event.type is EventType.NOOP:
                continue
            place = (event.type, event.text)
            assert place not in self.by_key, f"L2: {event!r} is {self.by_key[place]!r} again"
            self.by_key[place] = event
            self._sort(event)
            if event.type is EventType.ACTIVITY_RESPONSE:
                asked = self.by_key.get((EventType.ACTIVITY_REQUEST, event.text))
                assert asked is not None, f"A1: {event!r} answers nothing"
                assert asked.id < event.id, f"A1: {event!r} comes before {asked!r}"
        while self.settled + 1 in self.events:
            self.settled += 1
        return found

    def knows_all(self) -> bool:
        """Whether there are no events but those that it has seen."""
        count = "SELECT COUNT(*) FROM replay_events WHERE type <> 0"
        return bool(self._backend.query(count)[0][0] == len(self.by_key))

    def _cursors(self) -> bool:
        """L1, L5: nobody has read past a gap, and no cursor goes back unless it is put back."""
        moved = False
        query = "SELECT id, last_event_id FROM replay_cursors WHERE id <> 'replay_signal/seen'"
        for name, position in self._backend.query(query):
            assert position <= self.settled, f"L1: {name} is at {position}, past {self.settled}"
            before = self.cursors.get(name, 0)
            assert position >= before, f"L5: the cursor of {name} went back from {before}"
            moved |= position > before
            self.cursors[name] = int(position)
        return moved

    def _sort(self, event: Event) -> None:
        """Put it where the checks look for it."""
        if event.type is EventType.RUN_COMPLETED:
            self._ended.append(event)
        elif event.type is EventType.ACTIVITY_RESPONSE:
            self._answers.setdefault(event.key.target, set()).add(event.text)
        elif event.type is EventType.ACTIVITY_REQUEST:
            of = (event.key.namespace, event.key.target)
            self._requests.setdefault(of, []).append(event)

    def _restarts(self) -> None:
        """R6: an iteration's end and the next one's beginning come together."""
        ended, self._ended = self._ended, []
        for event in ended:
            key = event.key
            program = self._programs[key.namespace, key.run]
            if key.iteration + 1 < len(program.iterations):
                next = (EventType.RUN_CREATED, str(Key(*key[:3], key.iteration + 1)))
                assert next in self.by_key, f"R6: {key} has ended, and its next has not begun"

    def _effects(self) -> None:
        """L6: what a cursor has passed has had its effect, or is parked."""
        rows = self._backend.query("SELECT consumer, event_id, `key` FROM replay_parked")
        aside = {(str(name), int(id)) for name, id, _ in rows}
        places = [(name, key) for name, _, key in rows]
        assert len(places) == len(set(places)), f"R5: parked twice: {sorted(places)}"
        for name, position in self.cursors.items():
            kind, *of = name.split("/")
            if kind != "activity":
                continue
            # With shards there are other consumers; the end of the simulation tells.
            for event in self._requests.get(tuple(of), ()):
                if event.id > position or (name, event.id) in aside:
                    continue
                answered = event.text in self.answers(event.key.target)
                assert answered, f"L6: {name} passed {event!r} and lost it"

    def answers(self, target: str) -> set[str]:
        """The keys of the answers of an activity."""
        return self._answers.get(target, set())

    def _signals(self) -> None:
        """S2: await, answer and signal change together."""
        query = "SELECT id, check_id FROM replay_signals WHERE namespace <> ''"
        signals = self._backend.query(query)
        for id, _ in signals:
            self.signal_seen_at.setdefault(id, self.tick)
        taken = [check for _, check in signals if check is not None]
        assert len(taken) == len(set(taken)), f"S2: an await took two signals: {taken}"
        awaits = self._backend.query("SELECT id, `key`, status FROM replay_signal_awaits")
        assert {id for id, _, status in awaits if status == 3} == set(taken), "S2: signal and await"
        ended = {key for _, key, status in awaits if status != 1}
        assert ended == self.answers("replay_signal"), f"S2: await and answer: {ended}"

    def _sleeps(self) -> None:
        """R7: a sleep is over when its answer is there, and not before its time."""
        rows = self._backend.query("SELECT `key` FROM replay_sleeps WHERE completed = 1")
        answered = self.answers("replay_sleep")
        assert {key for (key,) in rows} == answered, "R7: sleep and answer"
        for key in answered - self._woken:
            self._woken.add(key)
            asked = self.by_key[EventType.ACTIVITY_REQUEST, key]
            answer = self.by_key[EventType.ACTIVITY_RESPONSE, key]
            due = asked.timestamp + asked.message.duration.ToTimedelta()
            assert answer.timestamp >= due, f"R7: {key} woke {due - answer.timestamp} early"

    def unchanged(self) -> None:
        """L1: the log is append-only."""
        rows = {row[0]: row for row in self._backend.query(_EVENTS, (0,))}
        assert rows == self._rows, "L1: an event was changed or removed"

    def timed_out(self) -> set[str]:
        """S3, S4: the awaits that ended without a signal, each of which rightly did."""
        signals = self._sent()
        out = set()
        awaits = [e for e in self.events.values() if e.key.target == "replay_signal"]
        answers = [e for e in awaits if e.type is EventType.ACTIVITY_RESPONSE]
        for answer in sorted(answers, key=lambda event: event.id):
            asked = self.by_key[EventType.ACTIVITY_REQUEST, answer.text]
            until = asked.timestamp + asked.message.duration.ToTimedelta()
            queue = signals.get((answer.key[:3], answer.key.sequence.partition(":")[0]), [])
            if answer.message is not None and answer.message.DESCRIPTOR.name == "SleepDone":
                out.add(answer.text)
                self._rightly_over(answer, until, queue)
            else:
                assert queue, f"S1: {answer!r} has a signal that nobody sent"
                _, sent = queue.pop(0)
                early = sent <= until or answer.timestamp < until
                assert early, f"S4: {answer!r} took a signal that came too late for it"
        return out

    def _rightly_over(
        self, answer: Event, until: datetime, queue: list[tuple[int, datetime]]
    ) -> None:
        assert answer.timestamp >= until, f"S4: {answer!r} timed out before its time"
        if queue:
            id, sent = queue[0]
            before = self.signal_seen_at[id] < self.seen_at[answer.id]
            assert not (before and sent <= until), f"S3: {answer!r} overlooked signal {id}"

    def _sent(self) -> dict[tuple[tuple[str, ...], str], list[tuple[int, datetime]]]:
        found: dict[tuple[tuple[str, ...], str], list[tuple[int, datetime]]] = {}
        for id, namespace, workflow, run, type, at in self._backend.query(
            "SELECT id, namespace, workflow, run, type, created_at FROM replay_signals"
            " WHERE namespace <> '' ORDER BY id"
        ):
            place = ((namespace, workflow, run), str(type))
            found.setdefault(place, []).append((id, from_text(at)))
        return found
