"""Random workflows under random interleavings, crashes and lost commits, against plain Python.

An example is up to three programs and a schedule: which consumer of which of two processes makes
the next step, when one of them is killed, which transaction fails, when time passes.  Whatever it
is, the events of a run have to be those that its program, read as plain Python, predicts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby

from hypothesis import given, settings
from hypothesis import strategies as st

from replay import (
    ActivityContext,
    Client,
    Consumer,
    RunContext,
    Unavailable,
    register_activity,
    register_workflow,
)
from replay.database import OutcomeUnknown
from replay.log import Log, LostPlace
from tests.example_pb2 import Int
from tests.support import Clock, Faults, listing, rows, stepped


@dataclass(frozen=True)
class Op:
    """One thing that a program does: `what` it is, and the names that it does it with."""

    what: str
    names: tuple[str, ...] = ()


Program = list[list[Op]]  # the operations of each iteration; a restart between them
ACTIVITIES: dict[str, Callable[[int], int]] = {
    "a": lambda value: value * 7 % 1000 + 1,
    "b": lambda value: value + 3,
}


def interpret(programs: dict[str, Program], seen: dict[object, object]) -> Callable[..., None]:
    """A workflow that does what the program of its run says.

    What it sees on its way, the time and the value, has to be the same in each replay.
    """

    def flow(ctx: RunContext, message: Int) -> None:
        program, value = programs[ctx.run], message.value
        for n, op in enumerate(program[ctx.iteration]):
            if op.what == "call":
                value = ctx.exec_activity(op.names[0], Int(value=value)).value
            elif op.what == "gather":
                asked = [ctx.call(name, Int(value=value)) for name in op.names]
                value = 1 + sum(result.value for result in ctx.gather(*asked))
            elif op.what == "output":
                ctx.emit_output(op.names[0], Int(value=value))
            else:
                ctx.sleep(timedelta(seconds=1))
            now: tuple[datetime, int] = (ctx.now(), value)
            assert seen.setdefault((ctx.run, ctx.iteration, n), now) == now
        if ctx.iteration + 1 < len(program):
            ctx.restart(Int(value=value))

    return flow


def predict(run: str, program: Program) -> Iterator[str]:
    """The events of a run, with answers that may come in any order sorted."""
    value = 1
    for iteration, ops in enumerate(program):
        key, counts = f"ns/w/{run}/{iteration}", Counter[str]()
        yield f"RUN_CREATED {key} value: {value}"
        for op in ops:
            names = op.names or ("replay_sleep",)
            places = [f"{key}/{name}/{_next(counts, op.what, name)}" for name in names]
            if op.what == "output":
                yield f"RUN_OUTPUT {places[0]} value: {value}"
            elif op.what == "sleep":
                yield f"ACTIVITY_REQUEST {places[0]} duration {{ seconds: 1 }}"
                yield f"ACTIVITY_RESPONSE {places[0]}"
            else:
                results = [ACTIVITIES[name](value) for name in names]
                yield from (f"ACTIVITY_REQUEST {place} value: {value}" for place in places)
                answers = zip(places, results, strict=True)
                yield from sorted(f"ACTIVITY_RESPONSE {p} value: {result}" for p, result in answers)
                value = results[0] if op.what == "call" else 1 + sum(results)
        yield f"RUN_COMPLETED {key} -"


def _next(counts: Counter[str], what: str, name: str) -> int:
    counter = f"output {name}" if what == "output" else name
    counts[counter] += 1
    return counts[counter] - 1


def in_order(lines: list[str]) -> Iterator[str]:
    """The lines, with answers that come one right after the other sorted."""
    for answers, group in groupby(lines, lambda text: text.startswith("ACTIVITY_RESPONSE")):
        some = list(group)
        yield from sorted(some) if answers else some


class World:
    """Two processes that serve the same workflow from one database, and a clock."""

    def __init__(self, client: Client, programs: dict[str, Program], max_cached: int) -> None:
        self.client = client
        self.clock = Clock()
        self.clock.rule(client)
        self._faults = Faults(client.log.database)
        self._flow = interpret(programs, {})
        self._unborn = list(programs)
        self._max_cached = max_cached
        self._staffs = [self._hire(), self._hire()]

    def _hire(self) -> list[Consumer]:
        client = Client(Log(self.client.log.database), loops=False)
        workflow = register_workflow(
            client, "ns", self._flow, name="w", max_cached=self._max_cached, start=False
        )
        activities = [
            register_activity(client, "ns", _activity(function), name=name, start=False)
            for name, function in ACTIVITIES.items()
        ]
        return [workflow, *activities, client.loops()[0]]

    def _begin(self, run: str) -> None:
        try:
            assert self.client.run_workflow("ns", "w", run, Int(value=1))
        except OutcomeUnknown:  # it was committed, as a second call finds
            assert not self.client.run_workflow("ns", "w", run, Int(value=1))

    def kill(self, process: int) -> None:
        """A process forgets all, and is started again."""
        for consumer in self._staffs[process]:
            consumer._position = None
            consumer.forget()
        self._staffs[process] = self._hire()

    def step(self, process: int, consumer: int) -> int:
        """A step of one consumer; what a thread would do about an error is to step again."""
        try:
            return self._staffs[process][consumer].step()
        except (LostPlace, Unavailable):
            return 1

    def do(self, action: str, process: int, consumer: int) -> None:
        """One entry of a schedule."""
        if action == "step":
            self.step(process, consumer)
        elif action == "begin" and self._unborn:
            self._begin(self._unborn.pop())
        elif action == "kill":
            self.kill(process)
        elif action == "time":
            self.clock.forward(milliseconds=400)
        elif action in ("before", "after"):
            setattr(self._faults, action, 1 + consumer)

    def finish(self) -> None:
        """One process goes on, undisturbed, until nothing is left to do."""
        self._faults.before = self._faults.after = 0
        while self._unborn:
            self.do("begin", 0, 0)
        idle = 0
        while idle < 3:  # a sleep is a second long, and each second something else may be due
            if sum(self.step(0, consumer) for consumer in range(4)):
                idle = 0
            else:
                idle += 1
                self.clock.forward(seconds=1)
        self.kill(1)


def _activity(function: Callable[[int], int]) -> Callable[[ActivityContext, None, Int], Int]:
    def activity(ctx: ActivityContext, backends: None, message: Int) -> Int:
        return Int(value=function(message.value))

    return activity


names = st.sampled_from(sorted(ACTIVITIES))
ops = st.one_of(
    st.builds(Op, st.just("call"), st.tuples(names)),
    st.builds(Op, st.just("gather"), st.lists(names, min_size=2, max_size=3).map(tuple)),
    st.builds(Op, st.just("output"), st.tuples(st.sampled_from("ao"))),
    st.builds(Op, st.just("sleep")),
)
programs_of_runs = st.dictionaries(
    st.sampled_from(["r1", "r2", "r3"]),
    st.lists(st.lists(ops, max_size=5), min_size=1, max_size=3),
    min_size=1,
)
actions = st.tuples(
    st.sampled_from(["step"] * 12 + ["begin", "begin", "kill", "time", "before", "after"]),
    st.sampled_from([0, 0, 0, 1]),
    st.integers(0, 3),
)


@settings(max_examples=150, deadline=None)
@given(programs_of_runs, st.lists(actions, max_size=120), st.sampled_from([10_000, 1, 0]))
def test_runs_are_what_plain_python_predicts(
    programs: dict[str, Program], schedule: list[tuple[str, int, int]], max_cached: int
) -> None:
    """R1, R2, R3, R6, R8, R11, A1, A5, L6, L7, O1: no interleaving, crash or lost commit changes a
    run's events, nor the time and the values that it sees."""
    with stepped("sqlite://") as client:
        world = World(client, programs, max_cached)
        for entry in schedule:
            world.do(*entry)
        world.finish()
        assert rows(client, "SELECT error FROM replay_parked") == []
        for run, program in programs.items():
            assert [*in_order(listing(client, "ns", "w", run))] == [*predict(run, program)]
