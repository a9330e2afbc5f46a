"""Runs histories; the one that fails says how to run it again, and is made small."""

from __future__ import annotations

import itertools
import logging
import re
import shlex
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tests.simulation.backend import Backend
from tests.simulation.plan import SERVER, USER, Action, Plan
from tests.simulation.plans import draw, readable, token
from tests.simulation.program import FOREVER, LARGE, Op, Program
from tests.simulation.virtual import ruled
from tests.simulation.world import World, simulate

T = TypeVar("T")

SMALLER = 60.0  # seconds that making a history smaller may take


@contextmanager
def quiet() -> Iterator[None]:
    """Without what the library logs of so many faults, on clocks of our own."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with ruled():
            yield
    finally:
        logging.disable(before)


def where(backend: Backend, url: str) -> str:
    """The option of ./dev simulate that names the database."""
    return f" --url {shlex.quote(url)}" if backend.server else ""


def once(backend: Backend, plan: Plan, url: str) -> World:
    """One history; what it raises tells how to run it again, and what it was."""
    try:
        with quiet():
            return simulate(backend, plan)
    except Exception as error:
        error.add_note(f"the history:\n{readable(plan)}")
        error.add_note(_again(backend, plan, url))
        raise


def _again(backend: Backend, plan: Plan, url: str) -> str:
    return f"run it again: ./dev simulate --again {token(plan)}{where(backend, url)}"


def kinds(plan: Plan) -> list[str]:
    """What kinds of histories it is one of."""
    found = [f"histories, {plan.mode}"]
    if plan.workers > 1:
        found.append("histories, several workers")
    if plan.shards:
        found.append("histories, shared shards")
    if any(op.what == LARGE for each in plan.programs for ops in each.iterations for op in ops):
        found.append(f"histories, messages near {plan.limit} bytes")
    return found


def many(backend: Backend, url: str, seed: int, histories: int, total: Counter[str]) -> None:
    """So many histories, each of the next seed; adds to `total` what there was, by kind.

    The first that fails is made smaller.  What it raises names the seed, too.
    """
    for number in range(seed, seed + histories):
        plan = draw(number)
        try:
            with quiet():
                total += simulate(backend, plan).shared.fired
        except Exception as error:
            again = f"./dev simulate --seed {number} --histories 1{where(backend, url)}"
            error.add_note(f"seed {number}, all of it: {again}")
            small = smaller(backend, plan, way(error))
            error.add_note(f"the history, made small:\n{readable(small)}")
            error.add_note(_again(backend, small, url))
            raise
        total.update(["histories", *kinds(plan)])


#: A run that does everything, by one process.
_EVERYTHING = Program(
    ("n", "r1"),
    (
        (Op("call", ("a",)), Op("gather", ("a", "b")), Op("sleep", ms=400)),
        (Op("signal", ms=0, signal=1), Op("signal", ms=FOREVER, signal=0), Op("output", ("o",))),
    ),
)
_BUSY = (Action("begin"), *[Action("round")] * 3, Action("time", n=400), Action("signal", n=10))
_ALL_DAY = Plan((_EVERYTHING,), (*_BUSY, *[Action("round")] * 4, Action("read")))


def sweep(backend: Backend, url: str, mode: str, kind: str, total: Counter[str]) -> None:
    """One history for each call of a worker, its server and its user, at which `kind` happens."""
    plan = _ALL_DAY._replace(mode=mode)
    for process in (0, USER) if mode == "embedded" else (0, USER, SERVER):
        for at in itertools.count():
            fault = Action("fault", process, at, kind)
            world = once(backend, plan._replace(schedule=(fault, *plan.schedule)), url)
            if not world.shared.fired[f"at a call: {kind}"]:
                break
            total += world.shared.fired
            total.update(["histories", f"histories, sweep of {mode}"])


def way(error: Exception) -> tuple[type[Exception], str]:
    """How a history has failed: the class of the error, and the promises that it names."""
    named = re.match(r"[A-Z]\d+[^:]*", str(error))
    return type(error), named[0] if named else ""


def smaller(backend: Backend, plan: Plan, kind: tuple[type[Exception], str]) -> Plan:
    """A plan of as few actions and operations as possible that fails in the same way."""
    end = time.monotonic() + SMALLER

    def fails(other: Plan) -> bool:
        if time.monotonic() < end:
            try:
                with quiet():
                    simulate(backend, other)
            except Exception as error:
                return way(error) == kind
        return False

    found = None
    while plan != found:
        found = plan
        plan = _fewer_actions(plan, fails)
        for n, program in enumerate(plan.programs):
            for m in range(len(program.iterations)):
                plan = _fewer_ops(plan, n, m, fails)
    return plan


def _fewer_actions(plan: Plan, fails: Callable[[Plan], bool]) -> Plan:
    actions = fewer(plan.schedule, lambda some: fails(plan._replace(schedule=some)))
    shorter = plan._replace(schedule=actions)
    programs = fewer(shorter.programs, lambda some: fails(shorter._replace(programs=some)), least=1)
    return shorter._replace(programs=programs)


def _fewer_ops(plan: Plan, n: int, m: int, fails: Callable[[Plan], bool]) -> Plan:
    ops = plan.programs[n].iterations[m]
    return _with_ops(plan, n, m, fewer(ops, lambda some: fails(_with_ops(plan, n, m, some))))


def _with_ops(plan: Plan, n: int, m: int, ops: tuple[Op, ...]) -> Plan:
    """The plan with these operations in an iteration."""
    program = plan.programs[n]
    iterations = (*program.iterations[:m], ops, *program.iterations[m + 1 :])
    changed = program._replace(iterations=iterations)
    return plan._replace(programs=(*plan.programs[:n], changed, *plan.programs[n + 1 :]))


def fewer(
    items: tuple[T, ...], fits: Callable[[tuple[T, ...]], bool], least: int = 0
) -> tuple[T, ...]:
    """As few of the items as `fits` takes: it leaves out long pieces, then shorter ones."""
    size = len(items)
    while size:
        start = 0
        while start < len(items):
            left = items[:start] + items[start + size :]
            if len(left) >= least and fits(left):
                items = left
            else:
                start += size
        size //= 2
    return items
