"""The check of step 8: what fails is parked, tried again, and ends at some time; others go on."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import Any

from tutorial.engine.faults import (
    Clock,
    Connection,
    Engine,
    Notes,
    crash_points,
    open_log,
    same,
    show,
    shown,
    survive,
)

Steps = Generator[Any, Any, Any]


def flows_of(engine: Engine) -> dict[str, Any]:
    """Workflows that call an activity, raise, are cancelled, or add without end."""

    def call(value: Any) -> Steps:
        return (yield engine.Call("fragile", value))

    def catch(value: Any) -> Steps:
        try:
            yield engine.Call("fragile", value)
        except engine.Failed as failure:
            yield engine.Output("caught", str(failure))

    def broken(number: int) -> Steps:
        yield engine.Output("half", number)
        yield engine.Output("ratio", 1 / number)

    def fail(text: str) -> Steps:
        yield engine.Output("tried", text)
        raise engine.Failed(text)

    def careful(_: None) -> Steps:
        try:
            yield engine.Call("unserved")
        except Exception:
            yield engine.Output("swallowed")

    def stubborn(_: None) -> Steps:
        try:
            yield engine.Call("unserved")
        except engine.Cancelled as cancelled:
            yield engine.Output("told", str(cancelled))
        yield engine.Call("unserved")

    def endless(number: int) -> Steps:
        for n in range(number):
            yield engine.Output("out", n)

    functions = (call, catch, broken, fail, careful, stubborn, endless)
    return {each.__name__: each for each in functions}


class Scene:
    """A log, its clock, and an activity that raises as often as its value says."""

    def __init__(self, engine: Engine, path: Path) -> None:
        self.engine = engine
        self.path = path
        self.clock = Clock()
        self.log = open_log(engine, path, self.clock)
        self.notes = Notes(path.with_suffix(".notes"))
        self.flows = flows_of(engine)

    def start(self, workflow: str, run: str, value: Any = None) -> None:
        """Start a run."""
        self.engine.start(self.log, "ns", workflow, run, value)

    def fragile(self, attempt: Any, value: Any) -> Any:
        """Raise at the first attempts."""
        self.notes.add(f"{attempt.key.split('/')[2]} {attempt.number}")
        if isinstance(value, int) and attempt.number <= value:
            raise ValueError(f"attempt {attempt.number}")
        if value == "give up":
            raise self.engine.GiveUp("no use")
        return float("nan") if value == "nan" else value

    def work(self, hook: Any = None) -> None:
        """Bring all runs as far as they come, in new processes."""
        log = open_log(self.engine, self.path, self.clock, hook)
        self.engine.work(log, "ns", self.flows, {"fragile": self.fragile})

    def keys(self, type: int) -> list[str]:
        """The keys of the events of a type, without the namespace."""
        return [key[3:] for each, key, _ in shown(self.log) if each == type]

    def value(self, key: str) -> Any:
        """The value of the last event with this key."""
        return [value for _, each, value in shown(self.log) if each == key][-1]

    def parked(self) -> list[tuple[str, int]]:
        """The keys and attempts of parked events."""
        sql = "SELECT key, attempts FROM parked ORDER BY key"
        return [(key[3:], attempts) for key, attempts in self.log.db.execute(sql)]


def others_go_on(engine: Engine, folder: Path) -> None:
    """An activity, a run or a value that fails stops nothing else.

    Catch what your code raises, park the event, and move the position past it.
    """
    scene = Scene(engine, folder / "log.db")
    scene.start("call", "bad", 99)
    scene.start("call", "nan", "nan")
    scene.start("call", "good", "tea")
    scene.start("broken", "bad", 0)
    scene.start("broken", "good", 2)
    scene.work()
    same(sorted(scene.keys(engine.COMPLETED)), ["broken/good/0", "call/good/0"], "the ends are")
    wanted = ["broken/bad/0", "call/bad/0/fragile/0", "call/nan/0/fragile/0"]
    same(scene.parked(), [(key, 1) for key in wanted], "parked is")
    outputs = [key for key in scene.keys(engine.OUTPUT) if "bad" in key]
    same(outputs, [], "the outputs of the attempt that failed are")


def tried_again(engine: Engine, folder: Path) -> None:
    """It is tried again after 1, 2, 4, ... seconds, also by a new process, until it succeeds.

    The row counts the attempts, so that they survive a restart.
    """
    scene = Scene(engine, folder / "log.db")
    scene.start("call", "1", 3)
    scene.work()
    for failed, pause in enumerate((1_000, 2_000, 4_000), 1):
        same(len(scene.notes.lines()), failed, "the number of attempts is")
        scene.clock.forward(pause * 3 // 4 - 1)
        scene.work()
        same(len(scene.notes.lines()), failed, f"before {pause} ms the number of attempts is")
        scene.clock.forward(pause - pause * 3 // 4 + 1)
        scene.work()
    same(scene.notes.lines(), [f"1 {n}" for n in (1, 2, 3, 4)], "the attempts are")
    same(scene.parked(), [], "parked is")
    same(scene.keys(engine.COMPLETED), ["call/1/0"], "the ends are")


def passed_over(engine: Engine, folder: Path) -> None:
    """A parked run has one row, and its next attempt, under a new owner, sees what came meanwhile.

    Pass over the events of a parked run.  Replay it up to the position of the consumer.
    """
    scene = Scene(engine, folder / "log.db")
    scene.flows["stubborn"], mended = lambda _: 1 / 0, scene.flows["stubborn"]
    scene.start("stubborn", "1")
    scene.work()
    engine.cancel(scene.log, "ns", "stubborn", "1", "enough")
    scene.work()
    same([key for key, _ in scene.parked()], ["stubborn/1/0"], "parked is")
    scene.flows["stubborn"] = mended
    scene.work()
    same(scene.parked(), [], "with mended code, parked is")
    told = [key for key in scene.keys(engine.OUTPUT) if "/told/" in key]
    same(told, ["stubborn/1/0/told/0"], "the run was told")


def patience(engine: Engine, folder: Path) -> None:
    """After many attempts the pause is 5 minutes, and not a year.

    min(LONGEST, ...)
    """
    scene = Scene(engine, folder / "log.db")
    scene.start("call", "1", 10_000)
    scene.work()
    scene.log.db.execute("UPDATE parked SET attempts = 1500, due = 0")
    scene.work()
    (due,) = scene.log.db.execute("SELECT due FROM parked").fetchone()
    pause = due - scene.clock()
    assert 225_000 <= pause <= 300_000, f"the pause is {pause} ms"


def one_transaction(engine: Engine, folder: Path) -> None:
    """At whatever statement the process dies, each event is done or parked, and once.

    The parked row, or its removal, belongs to the transaction that moves the position.
    """
    for first in (True, False):  # It parks the event, or it makes the next attempt.
        part = folder / str(first)
        part.mkdir()
        for path, hook in crash_points(part):
            scene = Scene(engine, path)
            scene.flows = {"call": scene.flows["call"]}  # Fewer statements, so fewer crashes.
            scene.start("call", "1", 1)
            if not first:
                scene.work()
                scene.clock.forward(1_000)
            survive(partial(scene.work, hook))
            for _ in range(2):
                scene.clock.forward(10_000)
                scene.work()
            same(scene.keys(engine.COMPLETED), ["call/1/0"], "the ends are")
            same(scene.parked(), [], "parked is")


def not_yours(engine: Engine, folder: Path) -> None:
    """An error of the database parks nothing and loses nothing; neither does Ctrl-C.

    Only what your code raises is a reason to park.
    """
    scene = Scene(engine, folder / "log.db")
    scene.start("call", "1", 0)
    statements = 0

    def count(n: int) -> None:
        nonlocal statements
        statements = n

    fail_at = 1
    while True:

        def fail(n: int, at: int = fail_at) -> None:
            count(n)
            if n == at:
                raise sqlite3.OperationalError("disk I/O error")

        log = open_log(engine, scene.path, scene.clock)
        log.db = Connection(log.db, fail)
        with contextlib.suppress(sqlite3.OperationalError):
            engine.work(log, "ns", flows_of(engine), {})
        log.db._connection.close()
        same(scene.parked(), [], "parked is")
        if statements < fail_at:
            break
        fail_at += 1
        scene.clock.forward(10_000)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    scene.clock.forward(10_000)
    with contextlib.suppress(KeyboardInterrupt):
        engine.work(scene.log, "ns", flows_of(engine), {"fragile": interrupt})
    same(scene.parked(), [], "parked is")


def gives_up(engine: Engine, folder: Path) -> None:
    """After the last attempt, or GiveUp, the call raises Failed, which the workflow may catch.

    The response holds the failure, so each replay raises it again.
    """
    scene = Scene(engine, folder / "log.db")
    scene.start("catch", "last", 99)
    scene.start("call", "use", "give up")
    activity = engine.Activity(scene.log, "ns", "fragile", scene.fragile, 2)
    workflows = [
        engine.Workflow(scene.log, "ns", name, flow) for name, flow in flows_of(engine).items()
    ]
    engine.drain([activity, *workflows])
    scene.clock.forward(1_000)
    engine.drain([activity, *workflows])
    same(sorted(scene.notes.lines()), ["last 1", "last 2", "use 1"], "the attempts are")
    same(scene.value("ns/catch/last/0/caught/0"), "attempt 2", "the workflow caught")
    same(scene.value("ns/call/use/0/replay_failure/0")["text"], "no use", "the failure is")
    same(len(scene.keys(engine.COMPLETED)), 2, "the number of ends is")
    same(scene.parked(), [], "parked is")


def fails(engine: Engine, folder: Path) -> None:
    """A run that raises Failed ends, with its failure, and is not parked.

    The failure is an output in the transaction of the completed event.
    """
    scene = Scene(engine, folder / "log.db")
    scene.start("fail", "1", "sold out")
    scene.work()
    same(scene.value("ns/fail/1/0/replay_failure/0")["text"], "sold out", "the failure is")
    same(scene.keys(engine.COMPLETED), ["fail/1/0"], "the ends are")
    same(scene.parked(), [], "parked is")


def cancels(engine: Engine, folder: Path) -> None:
    """A cancel comes out of the wait, once; `except Exception` does not swallow it.

    It is a response in the history, so that each replay raises it at the same place.
    """
    scene = Scene(engine, folder / "log.db")
    for workflow in ("careful", "stubborn"):
        scene.start(workflow, "1")
    scene.work()
    for workflow in ("careful", "stubborn"):
        answers = [engine.cancel(scene.log, "ns", workflow, "1", "enough") for _ in range(2)]
        same(answers, [True, False], "cancel returned")
    scene.work()
    same(scene.value("ns/careful/1/0/replay_failure/0")["kind"], "cancelled", "the kind is")
    same(scene.value("ns/stubborn/1/0/told/0"), "enough", "the run was told")
    same(scene.keys(engine.COMPLETED), ["careful/1/0"], "the ends are")
    answers = [engine.cancel(scene.log, "ns", "careful", run, "again") for run in ("1", "unknown")]
    same(answers, [False, False], "cancel returned")
    response = engine.New(engine.RESPONSE, "ns/stubborn/1/0/unserved/1", {"value": 1})
    scene.log.append([response])
    scene.work()
    told = [key for key in scene.keys(engine.OUTPUT) if "/told/" in key]
    same(told, ["stubborn/1/0/told/0"], "the run was told")
    same(scene.keys(engine.COMPLETED)[1:], ["stubborn/1/0"], "the ends are")


def bounded(engine: Engine, folder: Path) -> None:
    """A run that adds more than 5,000 events before it waits is parked and stores none of them.

    Count what a run adds.  No function may catch that.
    """
    scene = Scene(engine, folder / "log.db")
    scene.start("endless", "much", 5_001)
    scene.start("endless", "little", 1)
    scene.work()
    same(scene.parked(), [("endless/much/0", 1)], "parked is")
    same(scene.keys(engine.OUTPUT), ["endless/little/0/out/0"], "the outputs are")


CLAIMS = [others_go_on, tried_again, passed_over, patience, one_transaction, not_yours]
CLAIMS += [gives_up, fails, cancels, bounded]


def watch(engine: Engine, folder: Path) -> None:
    """A run with bad input, and a good one behind it."""
    scene = Scene(engine, folder / "log.db")
    scene.start("broken", "bad", 0)
    scene.start("broken", "good", 2)
    for _ in range(2):
        try:
            scene.work()
        except ZeroDivisionError as error:
            print("stopped by:", error)
    show(scene.log)
