"""The check of step 1: a run that goes on where it was."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tutorial.engine.faults import (
    Engine,
    Notes,
    crash_points,
    kill,
    killed,
    open_log,
    same,
    show,
    shown,
    survive,
)

Steps = Generator[Any, Any, Any]


def order_of(engine: Engine) -> Any:
    """A workflow with two activities and an output."""

    def order(item: str) -> Steps:
        place = yield engine.Call("reserve", item)
        receipt = yield engine.Call("charge", place)
        yield engine.Output("placed", receipt)
        return [place, receipt]

    return order


def works_of(notes: Notes, deadly: bool = False) -> Any:
    """Activities that note what they do; `charge` may kill its process."""

    def reserve(_: Any, item: str) -> str:
        notes.add("reserve")
        return f"{item} at 7"

    def charge(_: Any, place: str) -> str:
        if deadly:
            kill()
        notes.add("charge")
        return f"paid for {place}"

    return {"reserve": reserve, "charge": charge}


def goes_on(engine: Engine, folder: Path) -> None:
    """Killed between two activities, the run goes on and does not start over.

    `work` has to store each response, and replay the function with the responses that it has.
    """
    path, notes, flows = folder / "log.db", Notes(folder / "notes"), {"order": order_of(engine)}
    engine.start(open_log(engine, path), "ns", "order", "17", "tea")
    deadly = works_of(notes, deadly=True)
    assert killed(lambda: engine.work(open_log(engine, path), "ns", flows, deadly))
    log = open_log(engine, path)
    engine.work(log, "ns", flows, works_of(notes))
    same(notes.lines(), ["reserve", "charge"], "the activities that were executed are")
    same(shown(log)[-1][:2], (engine.COMPLETED, "ns/order/17/0"), "the last event is")


def same_log(engine: Engine, folder: Path) -> None:
    """At whatever statement the process dies, the log becomes the same in the end.

    Do not add again what the history has, and give each response to the call that requested it.
    """
    flows, logs = {"order": order_of(engine)}, []
    for path, hook in crash_points(folder):
        notes = Notes(path.with_suffix(".notes"))
        engine.start(open_log(engine, path), "ns", "order", "17", "tea")
        log = open_log(engine, path, hook=hook)
        survive(partial(engine.work, log, "ns", flows, works_of(notes)))
        engine.work(open_log(engine, path), "ns", flows, works_of(notes))
        logs.append(shown(open_log(engine, path)))
    run = "ns/order/17/0"
    wanted = [
        (engine.CREATED, run, "tea"),
        (engine.REQUEST, f"{run}/reserve/0", "tea"),
        (engine.RESPONSE, f"{run}/reserve/0", {"value": "tea at 7"}),
        (engine.REQUEST, f"{run}/charge/0", "tea at 7"),
        (engine.RESPONSE, f"{run}/charge/0", {"value": "paid for tea at 7"}),
        (engine.OUTPUT, f"{run}/placed/0", "paid for tea at 7"),
        (engine.OUTPUT, f"{run}/replay_result/0", ["tea at 7", "paid for tea at 7"]),
        (engine.COMPLETED, run, None),
    ]
    for log in logs:
        same(log, wanted, "the log is")
    log = open_log(engine, folder / "none.db")
    engine.start(log, "ns", "none", "1")
    engine.work(log, "ns", {"none": lambda _: (yield engine.Output("said"))}, {})
    keys = [event.key for event in log.read(0) if event.type == engine.OUTPUT]
    same(keys, ["ns/none/1/0/said/0"], "the outputs of a function that returns None are")


def told_apart(engine: Engine, folder: Path) -> None:
    """Each call gets its own answer, also several of one activity, and several at once.

    The n-th call of a target has the number n-1, and answers come in the order of the calls.
    A response with an id above `upto` has not come yet.
    """

    def twice(_: None) -> Steps:
        first = yield engine.Call("half", 8)
        both = yield [engine.Call("half", first), engine.Call("negate", first)]
        return [first, *both]

    log = open_log(engine, folder / "log.db")
    engine.start(log, "ns", "twice", "1")
    works = {"half": lambda _, number: number / 2, "negate": lambda _, number: -number}
    engine.work(log, "ns", {"twice": twice}, works)
    results = [event.value for event in log.read(0) if "/replay_result/" in event.key]
    same(results, [[4, 2, -4]], "the results are")
    # Responses that arrive in another order.
    run = engine.New(engine.CREATED, "ns/twice/2/0")
    keys = [f"ns/twice/2/0/{place}" for place in ("half/0", "half/1", "negate/0")]
    asked = [engine.New(engine.REQUEST, key) for key in keys]
    answers = [engine.New(engine.RESPONSE, key, {"value": key[-6:]}) for key in keys]
    log.append([run, *asked, answers[0], answers[2], answers[1]])
    history = log.history("ns/twice/2/0")
    added = engine.Replay(twice, history, history[-1].id).run()
    same(added[0].value, ["half/0", "half/1", "gate/0"], "the answers are")
    added = engine.Replay(twice, history, history[-2].id).run()
    same(added, [], "while the last response is above `upto`, the log lacks")


def wrong_code(engine: Engine) -> Iterator[Any]:
    """Workflows that do not fit the history of `order`."""

    def another(item: str) -> Steps:
        with contextlib.suppress(Exception):
            yield engine.Call("refund", item)
        yield engine.Call("charge", item)

    def swapped(item: str) -> Steps:
        yield [engine.Call("charge", item), engine.Call("reserve", item)]

    def shorter(item: str) -> Steps:
        yield engine.Call("reserve", item)

    yield from (another, swapped, shorter)


def mismatch(engine: Engine, folder: Path) -> None:
    """Code that makes other requests than its history raises HistoryMismatch.

    The k-th request must have the key of the k-th request in the history, and none may be left at
    the end.  The error must not pass through the function, which could catch it.
    """
    log, notes = open_log(engine, folder / "log.db"), Notes(folder / "notes")
    engine.start(log, "ns", "order", "17", "tea")
    with contextlib.suppress(RuntimeError):

        def fail(*_: object) -> None:
            raise RuntimeError("in the middle")

        works = works_of(notes) | {"charge": fail}
        engine.work(log, "ns", {"order": order_of(engine)}, works)
    history = log.history("ns/order/17/0")
    for code in wrong_code(engine):
        said = ""
        try:
            engine.Replay(code, history, history[-1].id).run()
        except engine.HistoryMismatch as error:
            said = str(error)
        assert "reserve/0" in said or "charge/0" in said, f"{code.__name__}: the error says {said}"


def unseen(engine: Engine, folder: Path) -> None:
    """The function does not notice that it is suspended: no `except Exception` runs.

    Leave the generator where it waits, and close it.  Do not raise anything into it.
    """
    notes = Notes(folder / "notes")

    def careful(_: None) -> Steps:
        try:
            yield engine.Call("reserve", "tea")
        except Exception:
            yield engine.Output("swallowed")
        yield engine.Output("done")

    log = open_log(engine, folder / "log.db")
    engine.start(log, "ns", "careful", "1")
    engine.work(log, "ns", {"careful": careful}, works_of(notes))
    places = [event.key.split("/")[4] for event in log.read(0) if event.type == engine.OUTPUT]
    same([each for each in places if "replay" not in each], ["done"], "the outputs are")


CLAIMS = [goes_on, same_log, told_apart, mismatch, unseen]


def watch(engine: Engine, folder: Path) -> None:
    """Killed between two activities."""
    path, notes, flows = folder / "log.db", Notes(folder / "notes"), {"order": order_of(engine)}
    engine.start(open_log(engine, path), "ns", "order", "17", "tea")
    killed(lambda: engine.work(open_log(engine, path), "ns", flows, works_of(notes, deadly=True)))
    print("killed after:", *notes.lines())
    engine.work(open_log(engine, path), "ns", flows, works_of(notes))
    print("in the end:  ", *notes.lines())
    show(open_log(engine, path))
