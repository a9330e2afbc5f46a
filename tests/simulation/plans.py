"""What hypothesis draws: programs, schedules, and the faults among them."""

from __future__ import annotations

import base64
import pickle
import zlib
from itertools import chain

from hypothesis import strategies as st

from tests.simulation.faults import KINDS, ON_WRITES
from tests.simulation.program import ACTIVITIES, FOREVER, Op, Program
from tests.simulation.world import Action, Plan

_names = st.sampled_from(sorted(ACTIVITIES))
_two = st.tuples(_names, _names)
_ops = st.one_of(
    st.builds(Op, st.just("call"), st.tuples(_names)),
    st.builds(Op, st.just("choose"), _two),
    st.builds(Op, st.just("gather"), st.lists(_names, min_size=2, max_size=4).map(tuple)),
    st.builds(Op, st.just("output"), st.tuples(st.sampled_from("ao"))),
    st.builds(Op, st.just("sleep"), ms=st.sampled_from([0, 400, 1500])),
    st.builds(
        Op,
        st.just("signal"),
        ms=st.sampled_from([FOREVER, 0, 400, 1500]),
        signal=st.integers(0, 1),
    ),
)
_iterations = st.lists(st.lists(_ops, max_size=5).map(tuple), min_size=1, max_size=3).map(tuple)
_runs = st.tuples(st.sampled_from("nm"), st.sampled_from(["r1", "r2", "R1"]))
_programs = st.lists(
    st.builds(Program, _runs, _iterations),
    min_size=1,
    max_size=4,
    unique_by=lambda program: program.run,
).map(tuple)

_process = st.sampled_from([0, 0, 1])
_number = st.integers(0, 39)


def _action(
    what: str,
    n: st.SearchStrategy[int] = _number,
    kind: st.SearchStrategy[str] | None = None,
    process: st.SearchStrategy[int] = _process,
) -> st.SearchStrategy[Action]:
    return st.builds(Action, st.just(what), process, n, st.just("") if kind is None else kind)


_steps = [_action("step"), _action("round", st.just(0))]
_ports = st.sampled_from([0, 0, 0, 1, 2])
_faults = [
    _action("fault", st.integers(0, 12), st.sampled_from(sorted(KINDS)), _ports),
    _action("fault", st.integers(0, 3), st.sampled_from(ON_WRITES), _ports),
]
_happenings = [
    *_faults * 8,
    _action("kill", st.just(0), st.sampled_from(["", "", "half-open"])),
    _action("steal"),
    _action("rewind"),
    _action("reshard", st.sampled_from([0, 0, 0, 0, 0, 1, 2, 3])),
    _action("code", st.just(0), st.sampled_from(["", "", "raising", "other", "outputs"])),
    _action("flaky", st.integers(1, 2)),
    _action("deaf", st.integers(1, 2)),
    _action("time", st.sampled_from([1, 400, 400, 2000, 15_000, -700])),
    _action("read", st.just(0)),
    _action("hold", kind=st.sampled_from(["run", "signal"])),
    _action("release"),
]
_work = [*[_action("begin", st.integers(0, 3))] * 2, _action("signal"), _action("burst")]
# Half of what happens is that the work goes on.
_actions = st.one_of(st.one_of(_steps), st.one_of(_steps), st.one_of(_work), st.one_of(_happenings))

plans = st.builds(
    Plan,
    _programs,
    # Lists of lists, since hypothesis draws long lists seldom, and a history wants to be long.
    st.tuples(*[st.lists(_actions, max_size=20)] * 10).map(lambda some: tuple(chain(*some))),
    st.sampled_from([10_000, 1, 0]),
    st.sampled_from([3_600_000, 1000]),
)


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
    lines.append(f"max_cached={plan.max_cached} await_timeout={plan.await_ms} ms; then:")
    for action in plan.schedule:
        what = f"{action.what} {action.kind}".strip()
        lines.append(f"  {what}: process {action.process}, n={action.n}")
    return "\n".join(lines)


def _op(op: Op) -> str:
    if op.what == "signal":
        return f"await signal {op.signal} {'for ever' if op.ms == FOREVER else f'{op.ms} ms'}"
    return f"{op.what} {'+'.join(op.names) or f'{op.ms} ms'}"
