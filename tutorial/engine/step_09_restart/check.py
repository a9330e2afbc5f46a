"""The check of step 9: a run that goes on for ever has a history that stays short."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from tutorial.engine.faults import (
    Clock,
    Engine,
    crash_points,
    open_log,
    same,
    shown,
    survive,
)

Steps = Generator[Any, Any, Any]
PERCENT = r"(margin-left|width)\s*:\s*([-+.e\d]+)%"


def flows_of(engine: Engine) -> dict[str, Any]:
    """A workflow that counts down, one step in each iteration, and others."""

    def tick(left: int) -> Steps:
        yield engine.Call("count", left)
        yield engine.Output("left", left)
        return engine.Restart(left - 1) if left > 1 else "done"

    def shorter(left: int) -> Steps:
        yield from ()
        return engine.Restart(left - 1) if left else None

    return {"tick": tick, "shorter": shorter}


def run(engine: Engine, log: Any, flow: str = "tick") -> Any:
    """Bring a run of `tick` as far as it comes; the log."""
    engine.work(log, "ns", {"tick": flows_of(engine)[flow]}, {"count": lambda _, left: left})
    return log


def effort(engine: Engine, path: Path, steps: int) -> int:
    """How much work the database has with a run of so many steps."""
    log, effort = open_log(engine, path), [0]

    def count() -> int:
        effort[0] += 1
        return 0

    engine.start(log, "ns", "tick", "1", steps)
    log.db.set_progress_handler(count, 10)
    run(engine, log)
    same(shown(log)[-1][0], engine.COMPLETED, "the type of the last event is")
    return effort[0]


def linear(engine: Engine, folder: Path) -> None:
    """Twice as many steps take about twice as much work, however long the run is.

    The next iteration has a key and a history of its own, and nobody reads the old ones.
    """
    some, twice = (effort(engine, folder / f"{n}.db", n) for n in (40, 80))
    assert twice < some * 2.5, f"40 steps take {some} units of work, 80 steps {twice}"


def joined(engine: Engine, folder: Path) -> None:
    """At whatever statement the process dies, one iteration ends and the next begins.

    The completed event and the next created event are one transaction.
    """
    wanted = []
    for iteration, left in enumerate((2, 1)):
        key = f"ns/tick/1/{iteration}"
        wanted += [
            (engine.CREATED, key, left),
            (engine.REQUEST, f"{key}/count/0", left),
            (engine.RESPONSE, f"{key}/count/0", {"value": left}),
            (engine.OUTPUT, f"{key}/left/0", left),
        ]
        if left == 1:
            wanted.append((engine.OUTPUT, f"{key}/replay_result/0", "done"))
        wanted.append((engine.COMPLETED, key, None))
    for path, hook in crash_points(folder):
        clock = Clock()
        engine.start(open_log(engine, path, clock), "ns", "tick", "1", 2)

        def process(path: Path = path, clock: Clock = clock, hook: Any = hook) -> None:
            run(engine, open_log(engine, path, clock, hook))

        survive(process)
        clock.forward(10_000)
        same(shown(run(engine, open_log(engine, path, clock))), wanted, "the log is")


def one_run(engine: Engine, folder: Path) -> None:
    """After a restart it is still the same run: started once, and cancelled in its last iteration.

    The newest iteration is the one that was created last: 10 comes after 9.
    """
    log = open_log(engine, folder / "log.db")
    engine.start(log, "ns", "tick", "1", 12)
    run(engine, log)
    same(engine.start(log, "ns", "tick", "1", 12), False, "start returned")
    log.append([engine.New(engine.CREATED, "ns/tick/1/12", 1)])
    same(engine.cancel(log, "ns", "tick", "1", "enough"), True, "cancel returned")
    run(engine, log)
    last = [key for type, key, _ in shown(log) if type == engine.COMPLETED][-1]
    same(last, "ns/tick/1/12", "the last end is")


def asked(engine: Engine, folder: Path) -> None:
    """An iteration does not restart while its history has requests that the code has not made.

    A restart is an end: check it like one.
    """
    log = open_log(engine, folder / "log.db")
    request = engine.New(engine.REQUEST, "ns/tick/1/0/count/0", 3)
    log.append([engine.New(engine.CREATED, "ns/tick/1/0", 3), request])
    run(engine, log, "shorter")
    types = [event[0] for event in shown(log) if event[0] != engine.RESPONSE]
    same(types, [engine.CREATED, engine.REQUEST], "the types are")


def timeline(engine: Engine, folder: Path) -> None:
    """The page has a bar for each request, and one for each output, in its place.

    The bar of a request begins at its time and ends at that of its response, in percent.
    """
    clock = Clock()
    log = open_log(engine, folder / "log.db", clock)

    def after(milliseconds: int, *event: Any) -> None:
        clock.forward(milliseconds)
        log.append([engine.New(*event)])

    key = "ns/tick/1/0"
    after(0, engine.CREATED, key)
    after(100, engine.REQUEST, f"{key}/first/0")
    after(100, engine.RESPONSE, f"{key}/first/0", {"value": 1})
    after(100, engine.OUTPUT, f"{key}/half/0", "seen")
    after(100, engine.REQUEST, f"{key}/open/0")
    after(100, engine.COMPLETED, key)
    page = engine.page(log, key)
    styles = [
        {name: round(float(percent)) for name, percent in re.findall(PERCENT, style)}
        for style in re.findall(r"""style=["']([^"']*)""", page)
    ]
    bars = [each for each in styles if "margin-left" in each]
    found = [(bar["margin-left"], bar.get("width", 0)) for bar in bars]
    same(found, [(20, 20), (60, 0), (80, 20)], "the bars are")
    for text in (key, "first/0", "half/0", "seen", "open/0"):
        assert text in page, f"the page does not show {text}"


def only_text(engine: Engine, folder: Path) -> None:
    """Names and values stay text on the page, whatever they hold, and nothing divides by 0.

    html.escape everything that comes from the log.
    """
    log = open_log(engine, folder / "log.db", Clock())
    evil = "<script>alert(1)<"
    key = f"ns/tick/{evil}/0"
    log.append(
        [engine.New(engine.CREATED, key), engine.New(engine.OUTPUT, f"{key}/{evil}/0", evil)]
    )
    page = engine.page(log, key)
    assert "&lt;script" in page, "the page does not show the names"
    assert "<script" not in page, "the page runs what a name says"


CLAIMS: list[Callable[[Engine, Path], None]] = [linear, joined, one_run, asked, timeline]
CLAIMS += [only_text]


def watch(engine: Engine, folder: Path) -> None:
    """How the work grows with the number of steps."""
    first = effort(engine, folder / "25.db", 25)
    for steps in (50, 100, 200):
        times = effort(engine, folder / f"{steps}.db", steps) / first
        print(f"{steps // 25} times the steps, about {float(f'{times:.1g}'):.0f} times the work")
