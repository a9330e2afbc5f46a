"""Runs histories by the hundred; the one that fails says how to run it again."""

from __future__ import annotations

import logging
import shlex
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.simulation.backend import Backend
from tests.simulation.plans import plans, readable, token
from tests.simulation.world import Plan, World, simulate


@contextmanager
def quiet() -> Iterator[None]:
    """Without what the library logs of so many faults."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
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
        error.add_note(f"run it again: ./dev simulate --again {token(plan)}{where(backend, url)}")
        raise


def many(backend: Backend, url: str, number: int, histories: int) -> Counter[str]:
    """So many histories, drawn from a seed; the faults that there were, by kind."""
    fired: Counter[str] = Counter()

    @seed(number)
    @settings(
        max_examples=histories,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(plans)
    def run(plan: Plan) -> None:
        fired.update(once(backend, plan, url).shared.fired)
        fired["histories"] += 1

    run()
    del fired[""]
    return fired
