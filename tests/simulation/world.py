"""A cluster in one thread: what is done to it next is the schedule's choice.

Two processes serve the same workflows, activities, sleeps and signals from one database, by
themselves or through a server; each also has a user's consumer.  An action is one step of one
consumer, or something that happens.  After each action the `Audit` looks at the tables.  At the end
all goes well for as long as it takes, and every run has to have left exactly what plain Python
predicts.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import zip_longest
from random import Random
from typing import Any, NamedTuple

from replay import (
    ActivityContext,
    Client,
    Consumer,
    Event,
    EventType,
    GiveUp,
    Retry,
    RunContext,
    RunFailed,
    Shard,
    Unavailable,
)
from replay.activity import ActivityConsumer
from replay.client import NotOurs
from replay.log import EventsPruned, LostOwnership
from replay.server.remote import RemoteLog
from replay.sharing import Sharded
from replay.signal import signal_hash
from replay.storage.database import from_text, to_text
from replay.storage.event import Key, pack
from tests.example_pb2 import Int
from tests.simulation import virtual
from tests.simulation.backend import Backend, Late
from tests.simulation.faults import (
    AT_CALLS,
    Faults,
    Killed,
    Port,
    Shared,
)
from tests.simulation.gather import gathered
from tests.simulation.invariants import Audit
from tests.simulation.plan import SERVER, THIRD, USER, Action, Plan
from tests.simulation.process import READER, Embedded, Process, Remote, Serving, staffed
from tests.simulation.program import (
    ACTIVITIES,
    ATTEMPTS,
    ENDINGS,
    EXTRA,
    LARGE,
    RISKY,
    WORKFLOW,
    Cancelling,
    Facts,
    Prediction,
    Program,
    as_line,
    gives_up,
    interpret,
    length,
    never_succeeds,
    predict,
)
from tests.simulation.served import Channel, Server

CODES = ("restored", "raising", "other", "outputs", "shorter", "unpatched")
ENDS = (
    "returns a result",
    "fails",
    "fails with its activity",
    "ends as cancelled",
    "is terminated",
    "catches a cancel",
    "passes a cancel on",
    "goes on after a failed activity",
    "leaves an await open",
    "is patched",
    "is older than a patch",
)
NOTICED = 10.0  # seconds until a server ends the session of a client that does not answer (G1)
HAPPENINGS = (
    *(f"at a call: {kind}" for kind in AT_CALLS),
    *(f"code {kind}" for kind in CODES),
    *(f"run {how}" for how in ENDS),
    *(f"{who} killed{how}" for who in ("worker", "server") for how in ("", " half-open")),
    *(f"{who} killed at a call" for who in ("worker", "server", "user")),
    "activity fails",
    "activity gives up",
    "activity has no attempts left",
    "cancel of a run that has ended",
    "cancel of a run that is parked",
    "cancel of a run that is unknown",
    "cancel again",
    "cancel before anybody serves",
    "cancel recorded",
    "clock back",
    "cursor moved back",
    "handler fails",
    "late commit",
    "message beyond the limit",
    "iteration pruned",
    "outage of several calls",
    "rolled back late",
    "run pruned",
    "session expelled",
    "shards changed",
    "signal freed",
    "starts gathered",
    "signal sent twice",
    "two owners",
    "shared shards changed",
    "worker joins",
    "worker leaves",
)
STAND_STILL = {"hangs": 15_000, "pauses": 3000}  # ms
_EVENT = "`key`, namespace, workflow, run, iteration, type, timestamp, message"
#: The policy of the activity that may fail.
POLICY = Retry(first=timedelta(seconds=1), factor=3, attempts=ATTEMPTS)
FAR = timedelta(days=10)  # nothing that a program waits for takes so long
#: When something is due: column, table, and for which rows.
_MOMENTS = (
    ("complete_at", "replay_sleeps", " AND completed = 0"),
    ("timeout_at", "replay_signal_awaits", " AND status = 1"),
    ("next_at", "replay_parked", ""),
)
_SIGNAL = "namespace, workflow, run, hash, type, external_id, message, created_at"


class Place(NamedTuple):
    """A cursor's row."""

    position: int
    owner: str
    lease: str | None


class Bug(Exception):
    """What code that was changed for the worse raises, and an activity that has a bad day."""


class World:
    """The cluster of one plan."""

    def __init__(self, backend: Backend, plan: Plan) -> None:
        self.backend = backend
        self.plan = plan
        self.shared = Shared()
        self.programs = {program.run: program for program in plan.programs}
        self.namespaces = sorted({namespace for namespace, _ in self.programs})
        ops = [op for program in plan.programs for ops in program.iterations for op in ops]
        self.large = any(op.what == LARGE for op in ops)
        self.longest = length(plan.limit) if self.large else 0
        self.endings = any(program.end or program.cancelled for program in plan.programs)
        self.audit = Audit(backend, self.programs)
        #: Cancels as they were sent, by reason.
        self._cancels: dict[str, tuple[tuple[str, str], bool, bool]] = {}
        self._stood_still = 0  # how often any process did
        self._older: set[tuple[Any, ...]] = set()  # patches that old code has passed
        #: The earliest time of each attempt, by consumer, request and number.
        self._tried_at: dict[tuple[str, str, int], datetime] = {}
        self._failures: Counter[str] = Counter()  # of attempts, by request
        self._unborn = list(self.programs)
        self._late: dict[str, tuple[Late, Any]] = {}
        self._sent: dict[tuple[tuple[str, str], int, str], int | None] = {}
        self._shard_count = 0  # of shards that each worker has
        self.shared_count = plan.shards  # of those that all share
        self._born = 0  # processes
        self.workers = (0, 1, THIRD) if plan.shards else (0, 1)
        self._broken: list[str] = []
        self._refused: set[str] = set()  # runs that met wrong code in this step
        self._flaky = 0
        self._deaf = 0
        self._first: list[int] = []  # ids as the user's consumer was first given them
        self._read: list[int] = []  # ids as another reader was given them
        self._views: dict[object, object] = {}
        self._places: dict[str, tuple[int, Place]] = {}
        self._stepping: Watch | None = None
        self._still = False  # a process stands still just now
        self._dead: set[int] = set()  # the processes that are to be started again
        self._unnoticed: list[tuple[float, Channel]] = []  # until when, of clients that are gone
        self.processes: dict[int, Process] = {}
        for number in (SERVER, *self.workers, USER)[plan.mode == "embedded" :]:
            self.processes[number] = self._make(number)

    def _make(self, number: int) -> Process:
        if number == SERVER:
            return Serving(self)
        remote = self.plan.mode == "served" or (self.plan.mode == "mixed" and number != 1)
        process = Remote(self, number) if remote else Embedded(self, number)
        return process if number == USER else staffed(process, self)

    @property
    def _client(self) -> Client:
        """The user's, who is another one after a death."""
        return self.processes[USER].client

    # What the processes use.

    def signature(self, number: int) -> str:
        """How a process that is born signs: not by chance, since its name decides what it owns."""
        self._born += 1
        return f"|host:{number}:{self._born}"

    def port(self, number: int, faults: Faults) -> Port:
        """A way to the database for a process."""
        return Port(self.backend.of(number), self.shared, faults, self.plan.limit)

    def server(self) -> Server:
        """The server that runs just now."""
        process = self.processes[SERVER]
        assert isinstance(process, Serving)
        return process.server

    def server_fell(self) -> None:
        """The server was killed at a statement; another is started."""
        self._count("server killed at a call")
        self._replace(SERVER, half_open=False)

    def notice_later(self, channel: Channel) -> None:
        """A client is gone, and the server does not know it yet."""
        self._unnoticed.append((virtual.DICE.seconds + NOTICED, channel))

    def stand_still(self, number: int, kind: str) -> None:
        """A process stops at a call, while the others go on, and time; then it goes on, too."""
        if self._still:
            return
        # A server that stands still does not notice who is gone.
        self._pass(STAND_STILL[kind], noticing=number != SERVER)
        self._stood_still += 1
        self._still, watch, refused = True, self._stepping, self._refused
        process = self.processes[number]
        process.stop(hang_up=kind == "hangs")
        try:
            # One that waits for the answer of a server that stands still does not go on, either.
            self._go_on_without({number, USER, watch.number if watch else USER})
        except AssertionError as error:  # not to be taken for what the call that waits raises
            self._broken.append(str(error))
        finally:
            process.go_on()
            self._still, self._stepping, self._refused = False, watch, refused
        if watch is not None:
            watch.stood_still = True
            watch.begin(self)

    def _go_on_without(self, absent: set[int]) -> None:
        """Two rounds of the other processes, with some steps left out."""
        self._look()  # at what the one that stands still has done already
        for number in [number for number in self.processes if number not in absent] * 2:
            for consumer in self.processes[number].consumers:
                if virtual.DICE.chance.random() < 0.7:
                    self._step(number, consumer)
                    self._look()

    # What the consumers call.

    @property
    def policy(self) -> Retry:
        """Of the activity that may fail."""
        return POLICY

    def shards(self) -> list[Shard | None]:
        """The shards of each workflow and activity."""
        count = self._shard_count
        return [Shard.hashed(m, count) for m in range(count)] if count else [None]

    def flow(self, process: Process) -> Any:
        """The workflow, by the code that the process has just then."""

        def flow(ctx: RunContext, message: Int) -> Any:
            program = self.programs[ctx.namespace, ctx.run]
            ops, past = program.iterations[ctx.iteration], ctx.now()
            seen = _Patches(ctx, process.code == "unpatched")

            def before(n: int, value: int) -> bool:
                if process.code and self._misbehave(process.code, ctx):
                    return True
                if ops[n].what == "patch" and seen.old:
                    self._older.add((ctx.namespace, ctx.run, ctx.iteration, ops[n].names[0]))
                return False

            def after(n: int, value: int) -> None:
                nonlocal past
                if ops[n].what == LARGE and ops[n].ms > self.longest:
                    self._count("message beyond the limit")
                place = (ctx.namespace, ctx.run, ctx.iteration, n, *seen.new)
                view: tuple[datetime, int] = (ctx.now(), value)
                found = self._views.setdefault(place, view)
                self.claim(past <= view[0], f"R8: the time of {place} goes back from {past}")
                past = view[0]
                self.claim(found == view, f"R2, R8: {place} saw {view}, and before {found}")

            return interpret(program, ctx.iteration, seen, message.value, before, after)

        return flow

    def _misbehave(self, code: str, ctx: RunContext) -> bool:
        """What changed code does before an operation (R4, R5, O2); whether it ends there."""
        if code == "unpatched":
            return False
        if code == "outputs":
            ctx.emit_output(EXTRA, None)
            return False
        key = str(Key(ctx.namespace, ctx.workflow, ctx.run, ctx.iteration))
        self._refused.add(key)
        # Refused, as the history has another request here; nothing of it may be stored.
        history = ctx._run._history
        if history is not None and history.requests:
            if code == "shorter":
                return True
            if code == "other":
                ctx.exec_activity("unheard_of", None)
        raise Bug(f"{code} code")

    def activity(self, name: str) -> Any:
        """One of the activities."""

        def activity(ctx: ActivityContext, backends: None, message: Any) -> Any:
            answer = self.audit.by_key.get((EventType.ACTIVITY_RESPONSE, ctx.idempotency_key))
            # Behind a gap that is not settled nobody looks for answers.
            known = answer is not None and answer.id <= self.audit.settled
            # Nor can one know what came after one's look, while one stood still.
            known &= self._stepping is None or not self._stepping.stood_still
            self.claim(not known, f"A4: {ctx.idempotency_key} is executed again")
            if name == RISKY:
                self._attempt(ctx)
            bad = self._flaky > 0
            self._flaky -= bad
            if bad or (name == RISKY and never_succeeds(message.value)):
                self._failures[ctx.idempotency_key] += 1
                raise Bug("a bad day")
            if name == RISKY and gives_up(message.value):
                raise GiveUp("no way")
            if name == LARGE:
                return message
            return Int(value=(ACTIVITIES | ENDINGS)[name](message.value))

        return activity

    def _attempt(self, ctx: ActivityContext) -> None:
        """E3: no attempt comes too soon, or is one too many."""
        key, n, now = ctx.idempotency_key, ctx.attempt, self.shared.clock.now
        self.claim(n <= ATTEMPTS, f"E3: attempt {n} of {key}")
        # Those of other shards of a worker's own count anew.
        name = self._stepping.name if self._stepping and not self.shared_count else ""
        self._tried_at[name, key, n] = min(now, self._tried_at.get((name, key, n), now))
        if n > 1:
            pause = 0.75 * POLICY.first * POLICY.factor ** (n - 2)
            before = self._tried_at.get((name, key, n - 1))
            self.claim(before is not None, f"E3: {key} has attempt {n}, and had none before")
            early = before is not None and now < before + pause
            self.claim(not early, f"E3: attempt {n} of {key} at {now}, after {before}")

    def delivered(self, event: Event) -> None:
        """The user's consumer: L1, L5."""
        self.claim(event.type is not EventType.NOOP, "L3: a no-op was delivered")
        if self._deaf:
            self._deaf -= 1
            raise Bug("a handler that fails")
        if not self._first or event.id > self._first[-1]:
            self._first.append(event.id)
        else:
            self.claim(event.id in self._first, f"L1: {event!r} after {self._first[-1]}")

    def claim(self, holds: bool, text: str) -> None:
        """An assertion where the library would take a raised one for the user's mistake."""
        if not holds:
            self._broken.append(text)

    def _look(self) -> None:
        self._revive()
        if SERVER in self.processes:
            self.server().settle()
            if self.server().port.dead and not self._still:  # at a statement for nobody's call
                self.server_fell()
        self.audit.look()
        assert not self._broken, "; ".join(self._broken)

    # What happens.

    def do(self, action: Action) -> None:
        """One action, and a look at what it did."""
        if action.process in self.processes:  # of a server if there is one
            getattr(self, f"_do_{action.what}")(action)
            self._look()

    def _do_step(self, action: Action) -> None:
        if not (consumers := self.processes[action.process].consumers):
            return  # it has left
        self._step(action.process, consumers[action.n % len(consumers)])

    def _do_round(self, action: Action) -> None:
        process = self.processes[action.process]
        for consumer in process.consumers:
            self._step(action.process, consumer)
            if process is not self.processes[action.process]:
                return
            self._look()

    def _step(self, number: int, consumer: Consumer) -> int:
        virtual.DICE.go_on()
        self._refused = set()
        self._stepping = watch = Watch(self, self.processes[number], consumer.name)
        done = self._try_step(number, consumer)
        if not isinstance(consumer, Sharded):  # that one steps none, and hands over several
            watch.end(self)
        self._stepping = None
        return done

    def place(self, name: str) -> Place:
        """Where a cursor is just now, and whose it is."""
        version = self.backend.version()
        known = self._places.get(name)
        if known is not None and known[0] == version:
            return known[1]
        query = "SELECT last_event_id, owner, lease_until FROM replay_cursors WHERE id = ?"
        rows = self.backend.query(query, (name,))
        place = Place(*rows[0]) if rows else Place(0, "", None)
        self._places[name] = (version, place)
        return place

    def _all_aside(self, consumer: Consumer) -> None:
        """R4, R5: a run whose code is wrong just now has been parked."""
        query = "SELECT `key` FROM replay_parked WHERE consumer = ?"
        aside = {key for (key,) in self.backend.query(query, (consumer.name,))}
        if not self._refused <= aside:  # one that was terminated is not parked any more
            ended = self.backend.query("SELECT `key` FROM replay_events WHERE type = 2")
            aside |= {key for (key,) in ended}
        self.claim(self._refused <= aside, f"R4: {self._refused - aside} is not parked")

    def _try_step(self, number: int, consumer: Consumer) -> int:
        try:
            done = self.processes[number].step(consumer)
            if self._refused:
                self._all_aside(consumer)
            return done
        except (LostOwnership, Unavailable):
            return 1  # what a thread does about that is to step again
        except Killed:
            if number == SERVER:
                self.server_fell()
            else:
                self._count("worker killed at a call")
                self._replace(number, half_open=False)
            return 1

    def _replace(self, number: int, *, half_open: bool) -> None:
        process = self.processes[number]
        process.die(half_open=half_open)
        process.consumers = []
        self._dead.add(number)
        self._revive()

    def _revive(self) -> None:
        """Start processes for those that are dead, unless one, perhaps the server, stands still."""
        while self._dead and not self._still:
            number = SERVER if SERVER in self._dead else max(self._dead)
            self.processes[number] = self._make(number)
            self._dead.discard(number)

    def _do_kill(self, action: Action) -> None:
        who = "server" if action.process == SERVER else "worker"
        self._count(f"{who} killed {action.kind}".strip())
        self._replace(action.process, half_open=action.kind == "half-open")

    def _do_fault(self, action: Action) -> None:
        self.processes[action.process].faults.arm(action.kind, action.n + 1)

    def _do_outage(self, action: Action) -> None:
        """All of the next `n` calls fail."""
        self._count("outage of several calls")
        for at in range(action.n):
            self.processes[action.process].faults.arm("lost", at + 1)

    def _do_expel(self, action: Action) -> None:
        """The server ends a session."""
        if SERVER in self.processes and (sessions := [*self.server().host.sessions.values()]):
            self._count("session expelled")
            self.server().host.expel(sessions[action.n % len(sessions)])

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

    def _do_leave(self, action: Action) -> None:
        """A worker stops in order, and is not there for a while."""
        process = self.processes[action.process]
        if self.shared_count and not process.away:
            self._count("worker leaves")
            try:
                process.leave()
            except (LostOwnership, Unavailable):  # a supervisor kills it then
                self._replace(action.process, half_open=False)
            except Killed:
                self._count("worker killed at a call")
                self._replace(action.process, half_open=False)

    def _do_join(self, action: Action) -> None:
        """A worker that has left is there again."""
        if self.processes[action.process].away:
            self._count("worker joins")
            self._replace(action.process, half_open=False)

    def _share_others(self, action: Action) -> None:
        """All workers stop, or die, and begin with another number of shards (H2)."""
        count = action.n or 4
        if count == self.shared_count:
            return
        self._count("shared shards changed")
        for number in self.workers:
            self.processes[number].die(half_open=action.kind == "half-open")
            self.processes[number].consumers = []
        self._pass(15_000)  # of some nothing but their leases shows that they are dead
        if SERVER in self.processes:
            self.server().settle()
        self.shared_count = count
        for number in self.workers:
            self._dead.add(number)
        self._revive()

    def _do_reshard(self, action: Action) -> None:
        if self.shared_count:
            self._share_others(action)
            return
        if self._shard_count == action.n:
            return
        self._count("shards changed")
        self._shard_count = action.n
        for number in range(2):
            self._replace(number, half_open=action.kind == "half-open")

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
        if action.n < 0:
            self._count("clock back")
            back = timedelta(milliseconds=action.n)  # an attempt may end after that
            self._tried_at = {place: at + back for place, at in self._tried_at.items()}
        self._pass(action.n)

    def _pass(self, milliseconds: int, *, noticing: bool = True) -> None:
        self.shared.clock.forward(milliseconds=milliseconds)
        dice = virtual.DICE
        dice.seconds += max(0, milliseconds) / 1000  # a clock that never goes back
        for until, channel in self._unnoticed[:]:
            if noticing and until <= dice.seconds:
                self._unnoticed.remove((until, channel))
                channel.drop()

    def _do_read(self, action: Action) -> None:
        """L1: somebody who only reads."""
        with self._user():
            self._client.log.poll()
            after = self._read[-1] if self._read else 0
            self._read += [event.id for event in self._client.log.read(after)]

    @contextlib.contextmanager
    def _user(self) -> Iterator[None]:
        """The user's process, which may be killed."""
        try:
            yield
        except Unavailable:
            pass
        except Killed:
            self._count("user killed at a call")
            self._replace(USER, half_open=False)

    def _insist(self, call: Callable[[Client], bool]) -> tuple[bool, bool]:
        """What a call of the user's says in the end, and whether it was called only once."""
        for tries in range(20):
            with self._user():
                return call(self._client), not tries
        raise AssertionError("no end of faults")

    def _do_begin(self, action: Action) -> None:
        """Start a run; an outcome that is not known is asked for again (R1)."""
        if not self._unborn:
            return
        to = self._unborn.pop(action.n % len(self._unborn))

        began, once = self._insist(self._beginning(to))
        assert began or not once, f"R1: {to} is said to have begun before"
        assert not self._insist(self._beginning(to))[0], f"R1: {to} began twice"

    @staticmethod
    def _beginning(to: tuple[str, str]) -> Callable[[Client], bool]:
        return lambda client: client.run_workflow(to[0], WORKFLOW, to[1], Int(value=1))

    def _do_gather(self, action: Action) -> None:
        """Start all that is left in one group, each run twice, in this one thread (L10)."""
        if isinstance(self._client.log, RemoteLog):
            return
        born, self._unborn = self._unborn, []
        answers: dict[tuple[str, str], list[bool | None]] = {to: [] for to in born}
        with self._user():
            for to, said in gathered(
                self._client, [(to, self._beginning(to)) for to in (*born, *born)]
            ):
                answers[to].append(said)
            self._count("starts gathered" if born else "")
        for to, two in answers.items():
            known = len(two) == 2 and None not in two
            assert two.count(True) == 1 or (not known and True not in two), f"R1: {to}: {two}"
            began, _ = self._insist(self._beginning(to))
            assert not began or (not known and True not in two), f"R1: {to} began twice"

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
        to = (run[0], WORKFLOW, run[1])
        new = not self._is_stored(place)
        self._count("" if new else "signal sent twice")
        stored, once = self._insist(
            lambda client: client.signal_run(*to, type, message, external_id)
        )
        self._sent[place] = None if message is None else message.value
        assert stored == new or not once, f"S1: {place}: {stored} instead of {new}"

    def _is_stored(self, place: tuple[tuple[str, str], int, str]) -> bool:
        """Whether a signal is there, and was not pruned."""
        (namespace, run), type, name = place
        query = (
            "SELECT 1 FROM replay_signals"
            " WHERE namespace = ? AND run = ? AND type = ? AND external_id = ?"
        )
        return bool(self.backend.query(query, (namespace, run, type, name)))

    # Retention.

    def _do_prune(self, action: Action) -> None:
        """L9: what ended `n` ms ago goes, as far as all have passed it."""
        if f"consumer/{READER}" not in self.audit.cursors:
            return  # it has to see everything
        for number, process in [*self.processes.items()]:
            for consumer in process.consumers:
                consumer._store_at = self.shared.clock.now
            self._do_round(Action("round", number))
            self._look()  # at what a process has stored that died in its round
        before = len(self.audit.pruned)
        with self._user():
            self._client.prune(timedelta(milliseconds=action.n))
        self.audit.look()
        self._count("iteration pruned" * (len(self.audit.pruned) > before))
        self._count("run pruned" * any(map(self._is_pruned, self.programs)))

    def _is_pruned(self, run: tuple[str, str]) -> bool:
        """Whether a run has ended, and was pruned."""
        iteration, over = self.audit.newest(run)
        return over and str(Key(run[0], WORKFLOW, run[1], iteration)) in self.audit.pruned

    def _prune_all(self) -> None:
        """L9: all goes in the end, and consumers that are new then do nothing again."""
        if any(action.what == "prune" for action in self.plan.schedule):
            self.do(Action("prune", USER))
            self.do(
                Action("reshard", n=2 if 2 not in (self._shard_count, self.shared_count) else 0)
            )
            self._rest({})

    # Cancels.

    def _do_cancel(self, action: Action) -> None:
        """Cancel a run, one that may be unknown or over, perhaps twice."""
        runs = [*self.programs, (self.namespaces[0], "nobody")]
        run = runs[action.n % len(runs)]
        for _ in range(1 + (action.kind == "twice")):
            self._cancel(run, action.kind == "terminate")

    def _cancel(self, run: tuple[str, str], terminate: bool) -> None:
        reason = f"reason {len(self._cancels)}"
        before = self._stood_still
        wanted = self.audit.cancellable(run, terminate)
        try:
            said, once = self._insist(
                lambda client: client.cancel_run(
                    run[0], WORKFLOW, run[1], reason, terminate=terminate
                )
            )
        except NotOurs:
            served = [n for n in self.audit.cursors if n.startswith(f"workflow/{run[0]}/")]
            assert not served, f"E7: {served} count for nothing"
            self._count("cancel before anybody serves")
            return
        self._cancels[reason] = (run, said, once)
        self._count_cancel(run, said)
        alone = once and self._stood_still == before
        assert said == wanted or not alone, f"E7: cancel of {run}: {said} instead of {wanted}"
        self.audit.look()

    def _count_cancel(self, run: tuple[str, str], said: bool) -> None:
        iteration, ended = self.audit.newest(run)
        key = str(Key(run[0], WORKFLOW, run[1], iteration))
        if said:
            self._count("cancel recorded")
            parked = "SELECT 1 FROM replay_parked WHERE `key` = ?"
            self._count("cancel of a run that is parked" * bool(self.backend.query(parked, (key,))))
        elif iteration < 0:
            self._count("cancel of a run that is unknown")
        else:
            self._count("cancel of a run that has ended" if ended else "cancel again")

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
        assert what in ("", *HAPPENINGS)
        self.shared.fired[what] += bool(what)

    # The end.

    def finish(self) -> None:
        """Nothing bad happens any more, until all is done; then compare."""
        self._calm()
        seen: dict[Consumer, object] = {}
        for _ in range(200):
            self._rest(seen)
            if self._all_done() and not self._rest({}):
                break
            if (moment := self._next_moment()) is not None:
                self._pass(moment)
            elif not self._rest({}):  # it was right not to step all
                self._send_all()
        assert self._parked() == [], "R4: parked for ever"
        assert self._all_done(), "R2: not all runs have come to their end"
        self._prune_all()
        self._even()
        self._compare()

    def _even(self) -> None:
        """H3: each shard has one owner, and the workers have equal shares, once leases are over."""
        for _ in range(6):  # a process that lives looks more often than its lease runs out
            self._pass(2_500)
            self._rest({})
        owned: dict[str, list[list[int]]] = {}
        for number in self.workers:
            for consumer in self.processes[number].consumers:
                if isinstance(consumer, Sharded):
                    mine = [m for m, each in enumerate(consumer.members) if each.is_owner()]
                    owned.setdefault(consumer.name, []).append(mine)
        for name, shares in owned.items():
            found = sorted(m for share in shares for m in share)
            assert found == [*range(self.shared_count)], f"H3: of {name} are owned {shares}"
            counts = [len(share) for share in shares]
            assert max(counts) - min(counts) <= 1, f"H3: of {name} are owned {shares}"

    def _calm(self) -> None:
        virtual.DICE.calm = True
        self._flaky = self._deaf = 0
        for process in self.processes.values():
            process.faults.disarm()
            process.code = ""
        self.do(Action("release", n=1))
        while self._unborn:
            self.do(Action("begin"))
        for number in self.workers:
            self.do(Action("join", number))

    def _rest(self, seen: dict[Consumer, object]) -> bool:
        """Step until nothing is left to do just now; whether there was anything."""
        for busy in range(200):
            if not self._busy(seen):
                return busy > 0
        raise AssertionError("the cluster does not come to rest")

    def _busy(self, seen: dict[Consumer, object]) -> bool:
        """Step all for which anything has changed since they had nothing to do."""
        busy = False
        for number, process in list(self.processes.items()):
            for consumer in process.consumers:
                if consumer in seen and seen[consumer] == self._state(process, consumer):
                    continue
                if self._step(number, consumer):
                    busy = True
                    self._look()
                else:
                    seen[consumer] = self._state(process, consumer)
        return busy

    def _state(self, process: Process, consumer: Consumer) -> object:
        """What decides whether a consumer has something to do."""
        if isinstance(consumer, Sharded):
            return object()  # who is alive, by tables and locks
        now, place = self.shared.clock.now, self.place(consumer.name)
        sharded, m = process.shards.get(consumer, (None, 0))
        if sharded is not None and m not in (sharded._mine or ()):
            return "another's"
        # One of each process keeps its leases.
        moment = now if consumer is process.consumers[0] else None
        holder = self.shared.locks.get(consumer.name)
        if consumer._position is None:
            over = place.lease is not None and from_text(place.lease) <= now
            return moment, place, holder, over
        moments = [parked.next_at for parked in consumer._parked.values()]
        moments += [each for each in (consumer.due(), consumer.blocked()) if each is not None]
        passed = sum(each <= now for each in moments)
        audit, running = self.audit, getattr(consumer, "_running", {}).values()
        threads = sum(each.has_begun() + each.result.done() for each in running)
        known = audit.settled, len(audit.events), len(self._sent)
        return moment, place, holder, passed, threads, known

    def _next_moment(self) -> int | None:
        """Milliseconds until something is due; None if only signals are waited for."""
        now, moments = self.shared.clock.now, []
        far = to_text(now + FAR)
        for column, table, where in _MOMENTS:
            query = f"SELECT MIN({column}) FROM {table} WHERE {column} > ? AND {column} < ?{where}"
            ((first,),) = self.backend.query(query, (to_text(now), far))
            moments += [from_text(first)] if first is not None else []
        owners = tuple(process.owner() for process in self.processes.values())
        everyone = [each for process in self.processes.values() for each in process.consumers]
        owned = {consumer.name for consumer in everyone if consumer.is_owner()}  # and renewed
        query = "SELECT lease_until, id FROM replay_cursors WHERE lease_until IS NOT NULL"
        leases = [from_text(at) for at, name in self.backend.query(query) if name not in owned]
        moments += [moment for moment in leases if moment > now]
        query = "SELECT lease_until, process FROM replay_processes"
        rows = [(from_text(at), process) for at, process in self.backend.query(query)]
        live = (*owners, *self._sessions())
        moments += [moment for moment, o in rows if moment > now and not o.endswith(live)]
        for consumer in everyone:
            # A process knows the time of an attempt more exactly than its row does.
            known: list[datetime | None]
            known = [parked.next_at for parked in consumer._parked.values()]
            if not isinstance(consumer, ActivityConsumer):  # what it waits for are threads
                known.append(consumer.blocked())
            moments += [moment for moment in known if moment is not None and moment > now]
        seconds = virtual.DICE.seconds
        moments += [now + timedelta(seconds=until - seconds) for until, _ in self._unnoticed]
        if not moments:
            return None
        return max(0, math.ceil((min(moments) - now) / timedelta(milliseconds=1))) + 1

    def _sessions(self) -> Iterator[str]:
        """The sessions of the server that have not ended, as they sign what they share."""
        if SERVER in self.processes:
            sessions = self.server().host.sessions.values()
            yield from (f"/{each.id}" for each in sessions if not each.ended.is_set())

    def _all_done(self) -> bool:
        ended = all(self.audit.newest(run)[1] for run in self.programs)
        return ended and not self._behind() and not self._parked()

    def _parked(self) -> list[tuple[Any, ...]]:
        """What is parked by a consumer that lives: one of old shards may never live again.

        A row may outlive its run: another consumer responded, and this one's backoff is not over.
        """
        processes = self.processes.values()
        names = {consumer.name for process in processes for consumer in process.consumers}
        rows = self.backend.query("SELECT consumer, `key`, error FROM replay_parked")
        return [row for row in rows if row[0] in names]

    def _behind(self) -> bool:
        last = max((e.id for e in self.audit.events.values() if e.type), default=0)
        return not self._first or self._first[-1] < last

    def _send_all(self) -> None:
        """All that still waits gets a signal: some wait for ever otherwise."""
        for run in self.programs:
            for type in range(2):
                self._send(run, type, f"last {len(self._sent)}")
        self.audit.look()

    def _compare(self) -> None:
        self.audit.audit()
        self.audit.unchanged()
        self.audit.all_freed()
        shown = self.audit.all()
        left = [event.id for event in shown if event.id not in self.audit.gone]
        assert [e.id for e in self._client.stream(to_head=True)] == left, "L9: what is left"
        facts = self.audit.facts(self._signals())
        for run, program in self.programs.items():
            wanted = predict(program, facts, self.longest)
            events = [event for event in shown if event.key[:3] == (run[0], WORKFLOW, run[1])]
            self._compare_run(events, wanted)
            self._compare_answers(events, wanted)
            self.audit.check_cancels(run, wanted.told)
            self._ends(program, wanted)
        self._check_facts(facts)
        self._readers([event.id for event in shown])
        self._listed()

    def _listed(self) -> None:
        """Q1: lists and descriptions say what the events say, wherever the table of runs stands."""
        runs = self._client.runs(limit=1000)
        assert [run.id for run in runs] == sorted((run.id for run in runs), reverse=True)
        left = {run for run in self.programs if not self._is_pruned(run)}
        assert {(run.namespace, run.run) for run in runs} == left, "Q1: the runs that are left"
        for run in runs:
            iteration, _ = self.audit.newest((run.namespace, run.run))
            key = Key(run.namespace, WORKFLOW, run.run, iteration)
            end = self.audit.by_key[EventType.RUN_COMPLETED, str(key)]
            failure = self.audit.by_key.get((EventType.RUN_OUTPUT, f"{key}/replay_failure/0"))
            kind = "" if failure is None else failure.message.kind
            ends = {"": "completed", "cancelled": "cancelled"}
            expected = (iteration, ends.get(kind, "failed"), end.timestamp)
            assert (run.iteration, run.status, run.ended_at) == expected, f"Q1: {run}"
            told = self._client.describe(*key[:3])
            assert (told.iteration, told.status, told.ended_at) == expected, f"Q1: {told}"

    def _compare_run(self, events: list[Event], wanted: Prediction) -> None:
        """What the run has written is what was predicted, and nothing of it came too early."""
        own = [e for e in events if e.type is not EventType.ACTIVITY_RESPONSE]
        own = [event for event in own if event.key.target != EXTRA]
        found = [as_line(event) for event in own]
        for pair in zip_longest(found, (line for line, _ in wanted.own())):
            assert pair[0] == pair[1], f"R2: found {pair[0]}, expected {pair[1]}"
        for event, (_, time) in zip(own, wanted.own(), strict=True):
            assert event.id >= time, f"R2: {event!r} comes before event {time}, its cause"

    def _compare_answers(self, events: list[Event], wanted: Prediction) -> None:
        for event in events:
            line = as_line(event)
            if event.type is EventType.ACTIVITY_RESPONSE and event.key.target != "replay_cancel":
                assert line.key in wanted.asked, f"A1: {event!r} answers nothing"
                answer = wanted.answers.get(line.key, line.message)  # S2: some reached nobody
                assert line.message == answer, f"{event!r} is not {answer}"

    def _check_facts(self, facts: Facts) -> None:
        """E3, E7, E9: what the oracle has taken from the log is lawful."""
        for key, (kind, text, attempts) in facts.failed.items():
            asked = self.audit.by_key[EventType.ACTIVITY_REQUEST, key].message.value
            self._count(
                "activity gives up" if kind == "GiveUp" else "activity has no attempts left"
            )
            if kind == "GiveUp":
                lawful = gives_up(asked) and text == "no way"
                assert lawful, f"E3: {key} gave up"
            else:
                how = (kind, text, attempts)
                assert how == ("Bug", "a bad day", ATTEMPTS), f"E3: {key} fails by {how}"
            failures = attempts - (kind == "GiveUp")
            assert failures <= self._failures[key], f"E3: {key} did not fail so often"
        for reason, (run, said, once) in self._cancels.items():
            there = self.audit.has_cancel(run, reason)
            assert there == said or not once, f"E7: {reason} for {run}: said {said}"
        self._count("signal freed" * bool(self.audit.freed))

    def _ends(self, program: Program, wanted: Prediction) -> None:
        """E1, E2: what the user is told of the end; and E9: which patches a run has."""
        (namespace, run), *_, last = program.run, wanted.lines[-2]
        found: object
        if self._is_pruned(program.run):
            with contextlib.suppress(EventsPruned):
                self._client.result(namespace, WORKFLOW, run, 0)
                raise AssertionError(f"L9: {program.run} was pruned, and has a result")
            return
        try:
            message = self._client.result(namespace, WORKFLOW, run, 0)
            found = None if message is None else message.value
        except RunFailed as failed:
            found = failed.kind, failed.text
        is_end = "/replay_failure/" in last.key or "/replay_result/" in last.key
        answer: Any = last.message if is_end else None
        kind = answer[0] if isinstance(answer, tuple) else ""
        assert found == (answer[:2] if kind else answer), f"E1: {program.run} ends with {found}"
        self._count_ends(program, wanted, kind, answer)
        for iteration in range(len(wanted.told)):
            self._patches(program.run, iteration, wanted)

    def _count_ends(self, program: Program, wanted: Prediction, kind: str, answer: object) -> None:
        told: list[Cancelling] = [each for some in wanted.told for each in some]
        failed = any(isinstance(message, tuple) for message in wanted.answers.values())
        terminated = bool(told) and told[-1].terminate
        caught = any(not each.terminate for each in told[: len(told) - (kind == "cancelled")])
        open = wanted.asked - {line.key for line in wanted.lines if "RESPONSE" in line.type}
        for what, happened in {
            "returns a result": answer is not None and not kind,
            "fails": kind == "sad",
            "fails with its activity": kind in ("GiveUp", "Bug"),
            "ends as cancelled": kind == "cancelled" and not terminated,
            "is terminated": terminated,
            "catches a cancel": caught,
            "passes a cancel on": self.audit.passed_on(program.run),
            "goes on after a failed activity": failed and kind not in ("GiveUp", "Bug"),
            "leaves an await open": any("replay_signal" in key for key in open),
        }.items():
            self._count(f"run {what}" * happened)

    def _patches(self, run: tuple[str, str], iteration: int, wanted: Prediction) -> None:
        """E9: a run is without a patch only if old code has passed the place."""
        key = f"{run[0]}/{WORKFLOW}/{run[1]}/{iteration}"
        asked = [name for name in wanted.patches if name.startswith(f"{key}/")]
        for place in asked:
            has = (EventType.RUN_OUTPUT, place) in self.audit.by_key
            self._count("run is patched" if has else "run is older than a patch")
            older = (*run, iteration, place.rpartition("/")[2]) in self._older
            assert has or older, f"E9: {place} is left out, though no old code was there"

    def _readers(self, ids: list[int]) -> None:
        """L1, L5: every reader has been given everything, in order."""
        assert ids == sorted(ids), "L1: the stream is not in order"
        assert self._first == ids, "L5: the user's consumer"
        known = -1
        while known < len(self._read):  # a server's replies are bounded
            known = len(self._read)
            self._do_read(Action("read"))
        missing = {*range(1, len(self.audit.events) + 1)} - {*self._read}
        assert self._read == sorted(self._read), "L1: the reader"
        assert missing <= self.audit.gone, "L1: the reader"

    def _signals(self) -> dict[tuple[str, str], dict[int, list[int | None]]]:
        """The signals as they were received, which is in the order of their ids."""
        known = sorted(self.audit.signals.items())
        stored = [((run[0], run[2]), type, name) for _, (run, type, name, _) in known]
        assert {*stored} == {*self._sent}, "S1: the signals stored are those sent"
        found: dict[tuple[str, str], dict[int, list[int | None]]] = {}
        for place in stored:
            queue = found.setdefault(place[0], {}).setdefault(place[1], [])
            queue.append(self._sent[place])
        return found


class _Patches:
    """A run's context, as its program sees it: old code knows of no patch."""

    def __init__(self, ctx: RunContext, old: bool) -> None:
        self.old = old
        self.new: set[str] = set()  # the patches that it has
        self._ctx = ctx

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ctx, name)

    def patched(self, name: str) -> bool:
        """As in `RunContext`."""
        new = not self.old and self._ctx.patched(name)
        self.new |= {name} if new else set()
        return new


class Watch:
    """Whose a cursor is while it is stepped (L7)."""

    def __init__(self, world: World, process: Process, name: str) -> None:
        self._port = process.port()
        self._owner = process.owner
        self._process = process.owner()
        self._remote = isinstance(process, Remote)
        self._sessions = process.sessions()
        self.number = process.number
        self.name = name
        self.stood_still = False
        self.begin(world)

    def begin(self, world: World) -> None:
        """From here on nobody else does anything."""
        self._held = world.shared.locks.get(self.name, self._port) is not self._port
        self._before = world.place(self.name)

    def end(self, world: World) -> None:
        """Compare."""
        name, before, after = self.name, self._before, world.place(self.name)
        # A server that falls within a step is started again, and the step goes on with it.
        owners = (self._process, self._owner())
        ours = after.owner.endswith(owners)
        # A server gives up the names of a session that was lost meanwhile.
        given_up = self._remote and after.owner == ""
        if before.position != after.position:
            world.claim(ours or given_up, f"L7: {name} is {after.owner}'s")
            world.claim(self._has_session(world), f"L7, G1: {name} is another session's")
        elif not (ours or given_up):
            world.claim(world.audit.knows_all(), f"L7: {name}'s step stored events for nothing")
        if self._held and ours and before.owner and not before.owner.endswith(owners):
            over = before.lease is None or from_text(before.lease) <= world.shared.clock.now
            world.claim(over, f"L7: {name} was taken from {before.owner}")

    def _has_session(self, world: World) -> bool:
        """Whether no session of the server that is another process's has the name (G1)."""
        if not self._remote:
            return True
        sessions = world.server().host.sessions.values()
        owners = {session.id for session in sessions if self.name in session.claims}
        return owners <= self._sessions


def simulate(backend: Backend, plan: Plan) -> World:
    """Run one history; raises AssertionError where the library broke a promise."""
    backend.clear()
    virtual.begin(virtual.Dice(Random(plan.jitter), window=plan.window_us / 1_000_000))
    world = World(backend, plan)
    try:
        for action in plan.schedule:
            world.do(action)
        world.finish()
    finally:
        for late, _ in world._late.values():
            late.end(commit=False)
        for number in sorted(world.processes):  # the server last
            world.processes[number].die(half_open=False)
    return world
