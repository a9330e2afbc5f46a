"""Draws plans from seeds: programs, schedules, and the faults among them.

A plan is drawn as a whole before anything runs, from a `Random` of its own.  So a seed's plan stays
the same while the library changes.
"""

from __future__ import annotations

import base64
import pickle
import zlib
from random import Random

from tests.simulation.faults import KINDS, ON_WRITES, STANDS_STILL
from tests.simulation.plan import SERVER, THIRD, USER, Action, Plan
from tests.simulation.program import ACTIVITIES, FOREVER, LIMIT, RISKY, Op, Program, length

RUNS = [(namespace, run) for namespace in "nm" for run in ("r1", "r2", "R1")]
#: From here on four of five seeds draw what only `_Endings` draws.
ENDINGS_FROM = 100_000
#: From here on plans are those of the seeds from 0 on, with prunes.
PRUNES_FROM = 1_000_000_000
#: From here on plans are those of the seeds from 0 on, and several starts are one transaction.
GATHERS_FROM = 2 * PRUNES_FROM
#: From here on plans are those of the seeds from 0 on, and three workers share shards.
SHARES_FROM = 2 * GATHERS_FROM
SMALL = 1000  # bytes: a limit of messages that costs little to reach
_MOMENTS = [1, 400, 400, 2000, 15_000, -700]  # ms
_PORTS = [0, 0, 0, 1, USER, SERVER]
_FAULTS = 16  # of the happenings below, so many more are faults at a call
_HAPPENINGS = (
    "kill",
    "steal",
    "rewind",
    "reshard",
    "code",
    "flaky",
    "deaf",
    "time",
    "read",
    "hold",
    "release",
    "outage",
    "expel",
)


class _Draw:
    """What one seed draws."""

    def __init__(self, seed: int) -> None:
        self._chance = Random(seed)
        self._of = self._chance.choice
        self._limit = LIMIT

    def plan(self) -> Plan:
        mode = self._of([*["embedded"] * 5, "served", "mixed"])
        large = self._chance.random()
        if large < 0.15:
            self._limit = SMALL if large > 0.002 else LIMIT  # large ones are slow
        programs = [
            self._program(run, large < 0.15)
            for run in self._chance.sample(RUNS, self._of([1, 1, 1, 2, 2, 3, 4]))
        ]
        actions = self._of([20, 40, 40, 60, 150])
        return Plan(
            tuple(programs),
            tuple(self._action() for _ in range(self._chance.randint(0, actions))),
            max_cached=self._of([10_000, 1, 0]),
            await_ms=self._of([3_600_000, 1000]),
            mode=mode,
            workers=self._of([1, 1, 2]),
            limit=self._limit,
            window_us=self._of([0, 0, 9000, 30_000]),
            jitter=self._chance.randrange(2**32),
        )

    def _program(self, run: tuple[str, str], large: bool) -> Program:
        return Program(
            run,
            tuple(
                tuple(self._op(large) for _ in range(self._chance.randint(0, 5)))
                for _ in range(self._of([1, 1, 2, 3]))
            ),
        )

    def _op(self, large: bool) -> Op:
        what = self._of(["call", "choose", "gather", "output", "sleep", "signal"])
        if large and what == "call":
            return Op("large", ms=length(self._limit) + self._of([-100, -1, 0, 1]))
        if what == "output":
            return Op(what, (self._of("ao"),))
        if what == "sleep":
            return Op(what, ms=self._of([0, 400, 1500]))
        if what == "signal":
            return Op(what, ms=self._of([FOREVER, 0, 400, 1500]), signal=self._chance.randrange(2))
        count = {"call": 1, "choose": 2}.get(what) or self._chance.randint(2, 4)
        return Op(what, tuple(self._of(sorted(ACTIVITIES)) for _ in range(count)))

    def _action(self) -> Action:
        """Half of what happens is that the work goes on."""
        process, n = self._of([0, 0, 1]), self._chance.randrange(40)
        sort = self._chance.randrange(4)
        if sort < 2:
            return Action(self._of(["step", "step", "round"]), self._of([0, 0, 1, SERVER]), n)
        if sort == 2:
            return Action(self._of(["begin", "begin", "signal", "burst"]), process, n)
        if self._chance.randrange(_FAULTS + len(_HAPPENINGS)) < _FAULTS:
            return self._fault()
        return self._happening(self._of(_HAPPENINGS), process, n)

    def _fault(self) -> Action:
        sort, port = self._chance.randrange(16), self._of(_PORTS)
        if sort == 0:
            kind = self._of(STANDS_STILL)
            return Action("fault", port, self._chance.randrange(8), kind)
        if sort < 8:
            return Action("fault", port, self._chance.randrange(13), self._of(KINDS))
        return Action("fault", port, self._chance.randrange(4), self._of(ON_WRITES))

    def _happening(self, what: str, process: int, n: int) -> Action:
        kind = ""
        if what == "kill":
            process, kind = self._of([0, 0, 1, SERVER]), self._of(["", "", "half-open"])
        elif what == "reshard":
            n, kind = self._of([0, 0, 0, 0, 0, 1, 2, 3]), self._of(["", "", "half-open"])
        elif what == "code":
            kind = self._of(["", "", "raising", "other", "outputs", "shorter"])
        elif what in ("flaky", "deaf"):
            n = self._chance.randint(1, 2)
        elif what == "time":
            n = self._of(_MOMENTS)
        elif what == "hold":
            kind = self._of(["run", "signal"])
        elif what == "outage":
            process, n = self._of(_PORTS), self._chance.randint(2, 6)
        return Action(what, process, n, kind)


class _Endings(_Draw):
    """Draws what came later as well: results, failures, cancels, first-of-several, patches."""

    def plan(self) -> Plan:
        plan = super().plan()
        if self._chance.random() < 0.3:  # everything is read once more
            again = Action("reshard", n=self._of([0, 2]))
            plan = plan._replace(schedule=(*plan.schedule, *[Action("round")] * 3, again))
        if len(plan.programs) > 1 and self._chance.random() < 0.4:
            return self._overtaken(plan)
        if self._chance.random() < 0.7:  # what is cancelled is there
            plan = plan._replace(schedule=(Action("begin"), Action("round"), *plan.schedule))
        if self._chance.random() < 0.4:
            return plan
        old = tuple(Action("code", number, kind="unpatched") for number in (0, 1))
        return plan._replace(schedule=old + plan.schedule)

    def _overtaken(self, plan: Plan) -> Plan:
        """An iteration ends behind a gap, so a signal comes to an await that it has left open."""
        type = self._chance.randrange(2)
        first = Op("first", ("a", self._of(["signal", "signal for ever"])), 1500, type)
        then = Op("signal", ms=self._of([FOREVER, 1500]), signal=type)
        iterations = ((first,), (then, *plan.programs[0].iterations[-1]))
        programs = (plan.programs[0]._replace(iterations=iterations), *plan.programs[1:])
        count = len(programs)
        n = next(n for n in range(40) if n % count == 0 and n // 5 % 2 == type)
        rounds = (Action("round"), Action("round", SERVER))  # the matcher's, where there is one
        begin = (Action("begin"), *rounds, Action("hold", kind="run"))
        then_do = (Action("signal", n=n), *rounds, Action("release", n=1))
        return plan._replace(programs=programs, schedule=(*begin, *then_do, *plan.schedule))

    def _program(self, run: tuple[str, str], large: bool) -> Program:
        return (
            super()
            ._program(run, large)
            ._replace(
                end=self._of(["result", "result", "failure"]),
                cancelled=self._of(["", "undo", "on", "on", "end"]),
            )
        )

    def _op(self, large: bool) -> Op:
        what = self._of(["old", "old", "call", "try", "try", "first", "first", "race", "patch"])
        if what == "old":
            return super()._op(large)
        if what in ("call", "try"):
            return Op(what, (RISKY,))
        if what == "patch":
            return Op(what, (self._of("xy"),))
        names = ("a", "b", RISKY, "timer", "signal", "signal for ever")
        some = tuple(self._of(names) for _ in range(self._chance.randint(2, 3)))
        return Op(what, some, self._of([0, 400, 1500]), self._chance.randrange(2))

    def _action(self) -> Action:
        if self._chance.random() < 0.07:
            kind = self._of(["", "", "twice", "terminate"])
            return Action("cancel", USER, self._chance.randrange(40), kind)
        action = super()._action()
        if action.what == "code" and self._chance.random() < 0.3:
            return action._replace(kind="unpatched")
        return action


def _with_prunes(plan: Plan, chance: Random) -> Plan:
    """The plan, and what is over is pruned now and then, some of it before new consumers come."""
    schedule = list(plan.schedule)
    for _ in range(chance.randint(1, 4)):
        prune = Action("prune", USER, chance.choice([0, 0, 400, 2000]))
        schedule.insert(chance.randint(0, len(schedule)), prune)
    if chance.random() < 0.5:
        rounds = [Action("round", number) for number in (0, 1, SERVER)] * 3
        again = Action("reshard", n=chance.choice([0, 2]))
        schedule += [*rounds, Action("prune", USER), again]
    return plan._replace(schedule=tuple(schedule))


def _gathering(plan: Plan, chance: Random) -> Plan:
    """The plan, and its runs are started together, while something may happen to that."""
    at = Action("gather", USER)
    fault = Action("fault", USER, chance.randrange(4), chance.choice([*KINDS, *ON_WRITES]))
    begin = (fault, at) if chance.random() < 0.8 else (at,)
    first = next((n for n, each in enumerate(plan.schedule) if each.what == "begin"), 0)
    schedule = (*plan.schedule[:first], *begin, *plan.schedule[first:])
    return plan._replace(schedule=schedule)


def _sharing(plan: Plan, chance: Random) -> Plan:
    """The plan, with workers that share shards: a third one, and all join, leave, hang and die."""
    workers = (0, 1, THIRD)
    schedule = [
        each._replace(process=chance.choice(workers)) if each.process in (0, 1) else each
        for each in plan.schedule
    ]
    for _ in range(chance.randint(2, 12)):
        who = chance.choice(workers)
        what = chance.choice(
            [
                Action("leave", who),
                Action("join", who),
                Action("kill", who, kind=chance.choice(["", "half-open"])),
                Action("fault", who, chance.randrange(8), chance.choice(STANDS_STILL)),
                Action("fault", who, chance.randrange(13), chance.choice(KINDS)),
            ]
        )
        at = chance.randint(0, len(schedule))
        schedule[at:at] = [what, *[Action("round", other) for other in workers]]
    count = chance.choice([1, 2, 3, 3, 4, 4, 6])
    return plan._replace(schedule=tuple(schedule), shards=count)


def draw(seed: int) -> Plan:
    """The plan of a seed.  Small ones keep the plans that they had before there were endings.

    And those before there were retention, group commit and shared shards keep theirs.
    """
    if seed >= SHARES_FROM:
        return _sharing(draw(seed - SHARES_FROM), Random(seed))
    if seed >= GATHERS_FROM:
        return _gathering(draw(seed - GATHERS_FROM), Random(seed))
    if seed >= PRUNES_FROM:
        return _with_prunes(draw(seed - PRUNES_FROM), Random(seed))
    return (_Draw if seed < ENDINGS_FROM or seed % 5 == 0 else _Endings)(seed).plan()


def token(plan: Plan) -> str:
    """A plan as a word, for a command line."""
    return base64.urlsafe_b64encode(zlib.compress(pickle.dumps(plan), 9)).decode()


def from_token(text: str) -> Plan:
    """The plan of a word."""
    plan = pickle.loads(zlib.decompress(base64.urlsafe_b64decode(text)))
    assert isinstance(plan, Plan)
    return plan


def readable(plan: Plan) -> str:
    """A plan for people: a line for each program and each action."""
    lines = []
    for program in plan.programs:
        lines.append(f"run {'/'.join(program.run)}")
        for number, ops in enumerate(program.iterations):
            lines.append(f"  iteration {number}: {', '.join(map(_op, ops)) or 'nothing'}")
        if program.end:
            lines.append(f"  ends with a {program.end}, cancelled: {program.cancelled or 'ends'}")
    options = list(plan._asdict().items())[2:] if plan.shards else [*plan._asdict().items()][2:-1]
    lines.append(", ".join(f"{name}={value}" for name, value in options) + "; then:")
    for action in plan.schedule:
        what = f"{action.what} {action.kind}".strip()
        lines.append(f"  {what}: process {action.process}, n={action.n}")
    return "\n".join(lines)


def _op(op: Op) -> str:
    if op.what == "signal":
        return f"await signal {op.signal} {'for ever' if op.ms == FOREVER else f'{op.ms} ms'}"
    if op.what == "large":
        return f"call with {op.ms} characters"
    if op.what in ("first", "race"):
        return f"{op.what} of {', '.join(op.names)} ({op.ms} ms, type {op.signal})"
    return f"{op.what} {'+'.join(op.names) or f'{op.ms} ms'}"
