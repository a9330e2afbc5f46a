"""A cluster in one thread: what is done to it next is the schedule's choice.

Two processes serve the same workflows, activities, sleeps and signals from one database; each also
has a user's consumer.  An action is one step of one consumer, or something that happens.  After
each action the `Audit` looks at the tables.  At the end all goes well for as long as it takes, and
every run has to have left exactly what plain Python predicts.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from replay import (
    ActivityContext,
    Client,
    Consumer,
    Event,
    EventType,
    RunContext,
    Shard,
    Unavailable,
    consume,
    register_activity,
    register_workflow,
)
from replay.log import Log, LostOwnership
from replay.signal import signal_hash
from replay.storage.database import OutcomeUnknown, from_text, to_text
from replay.storage.event import Key, pack
from tests.example_pb2 import Int
from tests.simulation.backend import Backend, Late
from tests.simulation.faults import Killed, Port, Shared
from tests.simulation.invariants import Audit
from tests.simulation.program import (
    ACTIVITIES,
    EXTRA,
    WORKFLOW,
    Program,
    as_line,
    in_order,
    perform,
    predict,
)

READER = "reader"
_EVENT = "`key`, namespace, workflow, run, iteration, type, timestamp, message"
_SIGNAL = "namespace, workflow, run, hash, type, external_id, message, created_at"


class Action(NamedTuple):
    """One entry of a schedule; what the numbers mean depends on `what`."""

    what: str
    process: int = 0
    n: int = 0
    kind: str = ""


class Plan(NamedTuple):
    """One history: what is to be done, and what happens meanwhile."""

    programs: tuple[Program, ...]
    schedule: tuple[Action, ...]
    max_cached: int = 10_000
    await_ms: int = 3_600_000


class Place(NamedTuple):
    """A cursor's row."""

    position: int
    owner: str
    lease: str | None


class Bug(Exception):
    """What code that was changed for the worse raises, and an activity that has a bad day."""


class Process:
    """The consumers of one process, and its code."""

    def __init__(self, world: World, number: int) -> None:
        self.port = Port(world.backend.of(number), world.shared)
        self.client = Client(Log(self.port), loops=False)
        self.client.log._renew_at = math.inf  # the world says when
        self.code = ""  # which change of the workflows' code is in force
        self.consumers = [*self._staff(world), *self.client.loops()]

    def _staff(self, world: World) -> Iterator[Consumer]:
        plan, client = world.plan, self.client
        for shard in world.shards():
            for namespace in world.namespaces:
                yield register_workflow(
                    client,
                    namespace,
                    world.flow(self),
                    name=WORKFLOW,
                    shard=shard,
                    max_cached=plan.max_cached,
                    await_timeout=timedelta(milliseconds=plan.await_ms),
                    start=False,
                )
                for name in ACTIVITIES:
                    activity = world.activity(name)
                    yield register_activity(
                        client, namespace, activity, name=name, shard=shard, start=False
                    )
        yield consume(client, READER, world.delivered, start=False)

    def die(self, *, half_open: bool) -> None:
        """All is forgotten; of the database's side, the rows stay."""
        self.port.die(half_open=half_open)
        for consumer in self.consumers:
            consumer._forget()


class World:
    """The cluster of one plan."""

    def __init__(self, backend: Backend, plan: Plan) -> None:
        self.backend = backend
        self.plan = plan
        self.shared = Shared()
        self.programs = {program.run: program for program in plan.programs}
        self.namespaces = sorted({namespace for namespace, _ in self.programs})
        self.audit = Audit(backend, self.programs)
        self._unborn = list(self.programs)
        self._late: dict[str, tuple[Late, Any]] = {}
        self._sent: dict[tuple[tuple[str, str], int, str], int | None] = {}
        self._shard_count = 0
        self._broken: list[str] = []
        self._refused: set[str] = set()  # runs that met wrong code in this step
        self._flaky = 0
        self._deaf = 0
        self._first: list[int] = []  # ids as the user's consumer was first given them
        self._read: list[int] = []  # ids as another reader was given them
        self._views: dict[object, object] = {}
        self._user = Port(backend.of(2), self.shared)
        self._client = Client(Log(self._user), loops=False)
        self.processes = [Process(self, number) for number in range(2)]

    # What the consumers call.

    def shards(self) -> list[Shard | None]:
        """The shards of each workflow and activity."""
        count = self._shard_count
        return [Shard.hashed(m, count) for m in range(count)] if count else [None]

    def flow(self, process: Process) -> Any:
        """The workflow, by the code that the process has just then."""

        def flow(ctx: RunContext, message: Int) -> None:
            program, value = self.programs[ctx.namespace, ctx.run], message.value
            past = ctx.now()
            for n, op in enumerate(program.iterations[ctx.iteration]):
                if process.code:
                    self._misbehave(process.code, ctx, n)
                value = perform(ctx, op, value)
                place = (ctx.namespace, ctx.run, ctx.iteration, n)
                view: tuple[datetime, int] = (ctx.now(), value)
                before = self._views.setdefault(place, view)
                self._claim(past <= view[0], f"R8: the time of {place} goes back from {past}")
                past = view[0]
                self._claim(before == view, f"R2, R8: {place} saw {view}, and before {before}")
            if ctx.iteration + 1 < len(program.iterations):
                ctx.restart(Int(value=value))

        return flow

    def _misbehave(self, code: str, ctx: RunContext, n: int) -> None:
        """What changed code does before the n-th operation (R4, R5, O2)."""
        key = Key(ctx.namespace, ctx.workflow, ctx.run, ctx.iteration)
        if code == "outputs":
            ctx.emit_output(EXTRA, None)
            return
        self._refused.add(str(key))
        if code == "other" and self._asked(key) > self._asked_before(key, n):
            # Refused, as the history has another request here; nothing of it may be stored.
            ctx.exec_activity("unheard_of", None)
        raise Bug(f"{code} code")

    def _asked(self, key: Key) -> int:
        """How many requests the log has of an iteration."""
        return sum(
            type is EventType.ACTIVITY_REQUEST and event.key.iteration_key() == key
            for (type, _), event in self.audit.by_key.items()
        )

    def _asked_before(self, key: Key, n: int) -> int:
        """How many requests its first `n` operations make."""
        ops = self.programs[key.namespace, key.run].iterations[key.iteration][:n]
        return sum(len(op.names) if op.what == "gather" else op.what != "output" for op in ops)

    def activity(self, name: str) -> Any:
        """One of the activities."""

        def activity(ctx: ActivityContext, backends: None, message: Int) -> Int:
            answer = self.audit.by_key.get((EventType.ACTIVITY_RESPONSE, ctx.idempotency_key))
            # Behind a gap that is not settled nobody looks for answers.
            known = answer is not None and answer.id <= self.audit.settled
            self._claim(not known, f"A4: {ctx.idempotency_key} is executed again")
            if self._flaky:
                self._flaky -= 1
                raise Bug("a bad day")
            return Int(value=ACTIVITIES[name](message.value))

        return activity

    def delivered(self, event: Event) -> None:
        """The user's consumer: L1, L5."""
        self._claim(event.type is not EventType.NOOP, "L3: a no-op was delivered")
        if self._deaf:
            self._deaf -= 1
            raise Bug("a handler that fails")
        if not self._first or event.id > self._first[-1]:
            self._first.append(event.id)
        else:
            self._claim(event.id in self._first, f"L1: {event!r} after {self._first[-1]}")

    def _claim(self, holds: bool, text: str) -> None:
        """An assertion where the library would take a raised one for the user's mistake."""
        if not holds:
            self._broken.append(text)

    def _look(self) -> None:
        self.audit.look()
        assert not self._broken, "; ".join(self._broken)

    # What happens.

    def do(self, action: Action) -> None:
        """One action, and a look at what it did."""
        getattr(self, f"_do_{action.what}")(action)
        self._look()

    def _do_step(self, action: Action) -> None:
        consumers = self.processes[action.process].consumers
        self._step(action.process, consumers[action.n % len(consumers)])

    def _do_round(self, action: Action) -> None:
        process = self.processes[action.process]
        for consumer in process.consumers:
            self._step(action.process, consumer)
            if process is not self.processes[action.process]:
                return
            self._look()

    def _step(self, number: int, consumer: Consumer) -> int:
        port, log = self.processes[number].port, self.processes[number].client.log
        held = self.shared.locks.get(consumer.name, port) is not port
        before, self._refused = self._place(consumer), set()
        done = self._try_step(number, consumer)
        after = self._place(consumer)
        ours = after.owner.endswith(log._process)
        if before.position != after.position:
            self._claim(ours, f"L7: {consumer.name} is {after.owner}'s")
        if held and ours and before.owner and not before.owner.endswith(log._process):
            over = before.lease is None or from_text(before.lease) <= self.shared.clock.now
            self._claim(over, f"L7: {consumer.name} was taken from {before.owner}")
        return done

    def _place(self, consumer: Consumer) -> Place:
        query = "SELECT last_event_id, owner, lease_until FROM replay_cursors WHERE id = ?"
        rows = self.backend.query(query, (consumer.name,))
        return Place(*rows[0]) if rows else Place(0, "", None)

    def _all_aside(self, consumer: Consumer) -> None:
        """R4, R5: a run whose code is wrong just now has been parked."""
        query = "SELECT `key` FROM replay_parked WHERE consumer = ?"
        aside = {key for (key,) in self.backend.query(query, (consumer.name,))}
        self._claim(self._refused <= aside, f"R4: {self._refused - aside} is not parked")

    def _try_step(self, number: int, consumer: Consumer) -> int:
        try:
            done = consumer.step()
            if self._refused:
                self._all_aside(consumer)
            return done
        except (LostOwnership, Unavailable):
            return 1  # what a thread does about that is to step again
        except Killed:
            self.shared.fired["killed at a statement"] += 1
            self._replace(number, half_open=False)
            return 1

    def _replace(self, number: int, *, half_open: bool) -> None:
        self.processes[number].die(half_open=half_open)
        self.processes[number] = Process(self, number)

    def _do_kill(self, action: Action) -> None:
        half_open = action.kind == "half-open"
        self._count(f"killed {action.kind}".strip())
        self._replace(action.process, half_open=half_open)

    def _do_fault(self, action: Action) -> None:
        port = self._user if action.process == 2 else self.processes[action.process].port
        port.arm(action.kind, action.n + 1)

    def _do_steal(self, action: Action) -> None:
        """A lock is lost, and its owner does not know: the name has two owners."""
        if names := sorted(self.shared.locks):
            self._count("two owners")
            del self.shared.locks[names[action.n % len(names)]]

    def _do_rewind(self, action: Action) -> None:
        """A cursor is moved back, as far as `n` says."""
        if names := sorted(self.audit.cursors):
            name = names[action.n % len(names)]
            position = self.audit.cursors[name] * (action.n // len(names) % 4) // 4
            self._count("cursor moved back")
            update = "UPDATE replay_cursors SET last_event_id = ? WHERE id = ?"
            self.backend.query(update, (position, name))
            self.audit.cursors[name] = position

    def _do_reshard(self, action: Action) -> None:
        if self._shard_count == action.n:
            return
        self._count("shards changed")
        self._shard_count = action.n
        for number in range(2):
            self._replace(number, half_open=False)

    def _do_code(self, action: Action) -> None:
        self._count(f"code {action.kind or 'restored'}")
        self.processes[action.process].code = action.kind

    def _do_flaky(self, action: Action) -> None:
        self._count("activity fails")
        self._flaky = action.n

    def _do_deaf(self, action: Action) -> None:
        self._count("handler fails")
        self._deaf = action.n

    def _do_time(self, action: Action) -> None:
        self._count("clock back" if action.n < 0 else "")
        self._pass(action.n)

    def _pass(self, milliseconds: int) -> None:
        self.shared.clock.forward(milliseconds=milliseconds)
        for process in self.processes:
            process.client.log._renew_at = 0

    def _do_read(self, action: Action) -> None:
        """L1: somebody who only reads."""
        with contextlib.suppress(Unavailable, Killed):
            self._client.log.poll()
            after = self._read[-1] if self._read else 0
            self._read += [event.id for event in self._client.log.read(after)]

    def _do_begin(self, action: Action) -> None:
        """Start a run; an outcome that is not known is asked for again (R1)."""
        if not self._unborn:
            return
        namespace, run = self._unborn.pop(action.n % len(self._unborn))
        known = True
        for _ in range(10):
            try:
                began = self._client.run_workflow(namespace, WORKFLOW, run, Int(value=1))
            except (OutcomeUnknown, Unavailable, Killed):
                known = False
                continue
            assert began or not known, f"R1: {run} is said to have begun before"
            assert not self._client_again(namespace, run), f"R1: {run} began twice"
            return
        raise AssertionError("no end of faults")

    def _client_again(self, namespace: str, run: str) -> bool:
        try:
            return self._client.run_workflow(namespace, WORKFLOW, run, Int(value=1))
        except (Unavailable, Killed):
            return False

    def _do_signal(self, action: Action) -> None:
        """Send a signal, perhaps one that was sent before (S1)."""
        run = [*self.programs][action.n % len(self.programs)]
        self._send(run, action.n // 5 % 2, str(action.n // 10))

    def _do_burst(self, action: Action) -> None:
        for n in range(3):
            self._do_signal(action._replace(n=action.n + 10 * n))

    def _send(self, run: tuple[str, str], type: int, external_id: str) -> None:
        place = (run, type, external_id)
        if any(place == late[1] for late in self._late.values()):
            return  # it would wait for that transaction
        number = int(external_id) if external_id.isdecimal() else 3
        message = None if number % 4 == 0 else Int(value=number)
        known, new = True, place not in self._sent
        self._count("" if new else "signal sent twice")
        for _ in range(10):
            try:
                to = (run[0], WORKFLOW, run[1])
                stored = self._client.signal_run(*to, type, message, external_id)
            except (OutcomeUnknown, Unavailable, Killed):
                known = False
                continue
            self._sent[place] = None if message is None else message.value
            assert stored == new or not known, f"S1: {place}: {stored} instead of {new}"
            return
        raise AssertionError("no end of faults")

    # Transactions that commit late, or never.

    def _do_hold(self, action: Action) -> None:
        """Another program takes an id, for a run or a signal, and does not commit yet."""
        if action.kind in self._late:
            return
        if action.kind == "signal":
            self._hold_signal([*self.programs][action.n % len(self.programs)], action.n // 5 % 2)
        elif self._unborn:
            self._hold_run(self._unborn.pop(action.n % len(self._unborn)))

    def _hold_signal(self, run: tuple[str, str], type: int) -> None:
        place = (run, type, f"late {len(self._sent)}")
        to = (run[0], WORKFLOW, run[1])
        raw = pack(Int(value=3), 1000, "")
        moment = to_text(self.shared.clock.now)
        row = (*to, signal_hash(*to, *place[1:]), *place[1:], raw, moment)
        self._hold("signal", Late(self.backend, "replay_signals", _SIGNAL, row), place)

    def _hold_run(self, run: tuple[str, str]) -> None:
        key = Key(run[0], WORKFLOW, run[1])
        raw = pack(Int(value=1), 1000, "")
        row = (str(key), *key[:4], 1, to_text(self.shared.clock.now), raw)
        self._hold("run", Late(self.backend, "replay_events", _EVENT, row), run)

    def _hold(self, kind: str, late: Late, thing: Any) -> None:
        self._late[kind] = (late, thing)
        self.shared.held.add((late.table, late.id))

    def _do_release(self, action: Action) -> None:
        """It commits, or is rolled back."""
        for kind, (late, thing) in [*self._late.items()]:
            commit = action.n % 3 > 0
            late.end(commit)
            del self._late[kind]
            self.shared.held.discard((late.table, late.id))
            self._count("late commit" if commit else "rolled back late")
            if kind == "signal" and commit:
                self._sent[thing] = 3
            elif kind == "run" and not commit:
                self._unborn.append(thing)

    def _count(self, what: str) -> None:
        self.shared.fired[what] += bool(what)

    # The end.

    def finish(self) -> None:
        """Nothing bad happens any more, until all is done; then compare."""
        self._calm()
        rest = 0
        # The pauses double to eight minutes, and the longest wait for anything is five.
        for _ in range(100):
            if not self._busy():
                if self._all_done():
                    break
                self._pass(500 * 2 ** min(rest, 10))
                rest += 1
                if rest > 12:
                    self._send_all()
        assert self._parked() == [], "R4: parked for ever"
        assert self._all_done(), "R2: not all runs have come to their end"
        self._compare()

    def _calm(self) -> None:
        self._user.disarm()
        self._flaky = self._deaf = 0
        for process in self.processes:
            process.port.disarm()
            process.code = ""
        self.do(Action("release", n=1))
        while self._unborn:
            self.do(Action("begin"))

    def _busy(self) -> bool:
        busy = False
        for _ in range(200):
            again = False
            for number, process in enumerate(self.processes):
                for consumer in process.consumers:
                    if self._step(number, consumer):
                        again = True
                        self._look()
            busy |= again
            if not again:
                return busy
        raise AssertionError("the cluster does not come to rest")

    def _all_done(self) -> bool:
        last = [
            Key(namespace, WORKFLOW, run, len(program.iterations) - 1)
            for (namespace, run), program in self.programs.items()
        ]
        ended = all((EventType.RUN_COMPLETED, str(key)) in self.audit.by_key for key in last)
        return ended and not self._behind() and not self._parked()

    def _parked(self) -> list[tuple[Any, ...]]:
        """What is parked by a consumer that lives: one of old shards may never live again.

        A row may outlive its run: another consumer responded, and this one's backoff is not over.
        """
        names = {consumer.name for process in self.processes for consumer in process.consumers}
        rows = self.backend.query("SELECT consumer, `key`, error FROM replay_parked")
        return [row for row in rows if row[0] in names]

    def _behind(self) -> bool:
        last = max((e.id for e in self.audit.events.values() if e.type), default=0)
        return not self._first or self._first[-1] < last

    def _send_all(self) -> None:
        """All that still waits gets a signal: some wait for ever otherwise."""
        for run in self.programs:
            for type in range(2):
                self._send(run, type, str(len(self._sent) + 1))
        self.audit.look()

    def _compare(self) -> None:
        self.audit.unchanged()
        shown = list(self._client.stream(to_head=True))
        timed_out, signals = self.audit.timed_out(), self._signals()
        for (namespace, run), program in self.programs.items():
            found = [as_line(e) for e in shown if e.key[:3] == (namespace, WORKFLOW, run)]
            wanted = predict(program, signals.get((namespace, run), {}), timed_out)
            assert [*in_order(found)] == [*in_order(wanted)]
        self._readers([event.id for event in shown])

    def _readers(self, ids: list[int]) -> None:
        """L1, L5: every reader has been given everything, in order."""
        assert ids == sorted(ids), "L1: the stream is not in order"
        assert self._first == ids, "L5: the user's consumer"
        for _ in range(2):
            self._do_read(Action("read"))
        assert self._read == [*range(1, len(self.audit.events) + 1)], "L1: the reader"

    def _signals(self) -> dict[tuple[str, str], dict[int, list[int | None]]]:
        """The signals as they were received, which is in the order of their ids."""
        query = (
            "SELECT namespace, run, type, external_id FROM replay_signals"
            " WHERE namespace <> '' ORDER BY id"
        )
        stored = [((ns, run), type, name) for ns, run, type, name in self.backend.query(query)]
        assert sorted(stored) == sorted(self._sent), "S1: the signals stored are those sent"
        found: dict[tuple[str, str], dict[int, list[int | None]]] = {}
        for place in stored:
            queue = found.setdefault(place[0], {}).setdefault(place[1], [])
            queue.append(self._sent[place])
        return found


def simulate(backend: Backend, plan: Plan) -> World:
    """Run one history; raises AssertionError where the library broke a promise."""
    backend.clear()
    world = World(backend, plan)
    try:
        for action in plan.schedule:
            world.do(action)
        world.finish()
    finally:
        for late, _ in world._late.values():
            late.end(commit=False)
        for process in world.processes:
            process.die(half_open=False)
    return world
