"""The check of step 6: a consumer has one owner, and one that was replaced writes nothing."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

from tutorial.engine.faults import Clock, Engine, Notes, open_log, same
from tutorial.engine.step_03_cursors.check import ORDERS, counter, totals

LEASE = 10_000  # milliseconds
OVER = LEASE + 1  # In its last millisecond a lease may count or not.


class Scene:
    """A log, its clock, and processes that count its runs under one name."""

    def __init__(self, engine: Engine, path: Path) -> None:
        self.engine = engine
        self.path = path
        self.clock = Clock()
        self.log = open_log(engine, path, self.clock)
        for run in range(ORDERS):
            engine.start(self.log, "ns", "order", run, "tea")

    def process(self, bad: Any = None, hook: Any = None) -> Any:
        """A process; `bad` is called while it handles an event, `hook` before a statement."""
        consumer = counter(self.engine, open_log(self.engine, self.path, self.clock), bad=bad)
        if hook is not None:
            consumer.log.db = open_log(self.engine, self.path, self.clock, hook).db
        return consumer

    def counted(self, wanted: int = ORDERS) -> None:
        """Make sure that each run was counted once."""
        same(totals(self.log), {"count": wanted}, "the totals are")


def paused(engine: Engine, folder: Path) -> None:
    """An owner that was paused for longer than its lease comes back and writes nothing.

    The UPDATE that moves the position names owner and old position, and must find one row.
    """
    scene = Scene(engine, folder / "log.db")
    second = scene.process()

    def pause() -> None:
        scene.clock.forward(OVER)
        engine.drain([second])

    engine.drain([scene.process(bad=pause)])
    scene.counted()


def any_moment(engine: Engine, folder: Path) -> None:
    """The same, paused before each of its statements.

    To look first and write then is too late, unless both are one transaction.
    """
    for moment in range(1, 40):
        scene = Scene(engine, folder / f"{moment}.db")
        second = scene.process()

        def pause(n: int, at: int = moment, scene: Scene = scene, second: Any = second) -> None:
            if n == at:
                scene.clock.forward(OVER)
                with contextlib.suppress(sqlite3.OperationalError):  # It would have to wait.
                    engine.drain([second])

        first = scene.process(hook=pause)
        engine.drain([first])
        scene.clock.forward(OVER)
        engine.drain([scene.process()])
        scene.counted()


def stands_by(engine: Engine, folder: Path) -> None:
    """While the owner is alive, nobody else does anything; after its lease another takes over.

    Take a name if nobody has it, or if its lease has run out.
    """
    scene, notes = Scene(engine, folder / "log.db"), Notes(folder / "notes")
    first, second = (
        scene.process(bad=lambda name=name: notes.add(name)) for name in ("first", "second")
    )
    same(first.step(), True, "the first step did something")
    scene.clock.forward(LEASE - 1)
    same(second.step(), False, "the stand-by did something")
    scene.clock.forward(2)
    engine.drain([second])
    same(notes.lines(), ["first", "second", "second"], "the runs were counted by")
    scene.counted()


def comes_back(engine: Engine, folder: Path) -> None:
    """A process that lost the name and gets it again goes on where the other one has come to.

    Read the position whenever you take the name.  Losing it is no reason to stop.
    """
    scene = Scene(engine, folder / "log.db")
    first, second = scene.process(), scene.process()
    first.step()
    scene.clock.forward(OVER)
    second.step()
    same(first.step(), False, "the first did something without the name")
    scene.clock.forward(OVER)
    engine.drain([first])
    scene.counted()
    engine.start(scene.log, "ns", "order", "last", "tea")
    scene.clock.forward(OVER)
    engine.drain([second])
    scene.counted(ORDERS + 1)


def renews(engine: Engine, folder: Path) -> None:
    """An owner that has nothing to do keeps the name while it is alive.

    Renew the lease when half of it is over, also without a commit.
    """
    scene = Scene(engine, folder / "log.db")
    first, second = scene.process(), scene.process()
    engine.drain([first])
    for _ in range(10):
        scene.clock.forward(LEASE // 2)
        first.step()
        second.step()
    engine.start(scene.log, "ns", "order", "last", "tea")
    same(second.step(), False, "the stand-by did something")
    same(first.step(), True, "the owner did something")
    scene.counted(ORDERS + 1)


def gives_up(engine: Engine, folder: Path) -> None:
    """A process that ends gives its names up at once, and only its own.

    `release` names the owner, too.
    """
    scene = Scene(engine, folder / "log.db")
    first, second, third = scene.process(), scene.process(), scene.process()
    first.step()
    second.release()
    same(second.step(), False, "the stand-by did something")
    first.release()
    same(second.step(), True, "the stand-by took over")
    first.release()
    same(third.step(), False, "a third process did something")


CLAIMS = [paused, any_moment, stands_by, comes_back, renews, gives_up]


def watch(engine: Engine, folder: Path) -> None:
    """An owner that is paused while another takes over."""
    scene = Scene(engine, folder / "log.db")
    second = scene.process()

    def pause() -> None:
        scene.clock.forward(OVER)
        engine.drain([second])

    engine.drain([scene.process(bad=pause)])
    print(f"{ORDERS} runs, {totals(scene.log)['count']} counted")
