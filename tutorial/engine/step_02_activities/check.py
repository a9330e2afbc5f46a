"""The check of step 2: activities are executed at least once, and recorded once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tutorial.engine.faults import Engine, Notes, kill, killed, open_log, same, show, shown


class Bank:
    """Charges once under each key, like any service that takes an idempotency key."""

    def __init__(self, path: Path) -> None:
        self._notes = Notes(path)

    def charge(self, key: str, cents: int) -> None:
        """Charge, unless the key has been used."""
        if key not in [line.split()[0] for line in self._notes.lines()]:
            self._notes.add(f"{key} {cents}")

    def charges(self) -> list[int]:
        """All charges, in cents."""
        return [int(line.split()[1]) for line in self._notes.lines()]


def pay_of(engine: Engine) -> Any:
    """A workflow that charges the same amount twice."""

    def pay(cents: int) -> Iterator[Any]:
        yield engine.Call("charge", cents)
        yield engine.Call("charge", cents)

    return pay


def executed(engine: Engine, path: Path, charge: Callable[[Any, int], Any]) -> Any:
    """Bring all runs of `pay` as far as they come; the log."""
    log = open_log(engine, path)
    engine.work(log, "ns", {"pay": pay_of(engine)}, {"charge": charge})
    return log


def one_key(engine: Engine, folder: Path) -> None:
    """Killed after the charge and before the response, the activity charges once.

    Give it the request's key, which is the same at each attempt.
    """
    path, bank = folder / "log.db", Bank(folder / "bank")
    engine.start(open_log(engine, path), "ns", "pay", "1", 500)

    def charge_and_die(attempt: Any, cents: int) -> None:
        bank.charge(attempt.key, cents)
        kill()

    assert killed(lambda: executed(engine, path, charge_and_die))
    executed(engine, path, lambda attempt, cents: bank.charge(attempt.key, cents))
    same(bank.charges(), [500, 500], "two calls have made the charges")


def many_keys(engine: Engine, folder: Path) -> None:
    """Different calls have different keys, also with the same value and in different runs.

    The key has to hold the run, the target and the number of the call.
    """
    path, bank = folder / "log.db", Bank(folder / "bank")
    for run in ("1", "2"):
        engine.start(open_log(engine, path), "ns", "pay", run, 500)
    executed(engine, path, lambda attempt, cents: bank.charge(attempt.key, cents))
    same(bank.charges(), [500] * 4, "four calls have made the charges")


def at_least_once(engine: Engine, folder: Path) -> None:
    """Killed before the charge, the activity is executed again.

    Record the response after the function has returned, and not earlier.
    """
    path, bank = folder / "log.db", Bank(folder / "bank")
    engine.start(open_log(engine, path), "ns", "pay", "1", 500)
    assert killed(lambda: executed(engine, path, lambda *_: kill()))
    executed(engine, path, lambda attempt, cents: bank.charge(attempt.key, cents))
    same(bank.charges(), [500, 500], "two calls have made the charges")


def not_again(engine: Engine, folder: Path) -> None:
    """A request that has a response is not executed again, though a new process reads it again.

    Look for the response before you execute.
    """
    path, notes = folder / "log.db", Notes(folder / "notes")
    engine.start(open_log(engine, path), "ns", "pay", "1", 500)
    before = shown(executed(engine, path, lambda attempt, _: notes.add(attempt.key)))
    after = shown(executed(engine, path, lambda attempt, _: notes.add(attempt.key)))
    keys = [f"ns/pay/1/0/charge/{n}" for n in range(2)]
    same(notes.lines(), keys, "the keys that were executed are")
    same(after, before, "the log is")


def recorded_once(engine: Engine, folder: Path) -> None:
    """Two processes that execute the same request at once record one response.

    The response has the request's key, so that the log refuses the second one.
    """
    path = folder / "log.db"
    log = open_log(engine, path)
    log.append(
        [
            engine.New(engine.CREATED, "ns/pay/1/0", 500),
            engine.New(engine.REQUEST, "ns/pay/1/0/charge/0", 500),
        ]
    )

    def slow(*_: object) -> str:
        other = engine.Activity(open_log(engine, path), "ns", "charge", lambda *_: "fast")
        engine.drain([other])
        return "slow"

    engine.drain([engine.Activity(log, "ns", "charge", slow)])
    answers = [event[1:] for event in shown(log) if event[0] == engine.RESPONSE]
    same(answers, [("ns/pay/1/0/charge/0", {"value": "fast"})], "the responses are")


def apart(engine: Engine, folder: Path) -> None:
    """A request that nobody serves holds up no other run.

    Let each workflow and each activity be a consumer of its own.
    """
    log = open_log(engine, folder / "log.db")

    def call(target: str) -> Iterator[Any]:
        return (yield engine.Call(target))

    for run, target in (("1", "unserved"), ("2", "served")):
        engine.start(log, "ns", "call", run, target)
    engine.work(log, "ns", {"call": call}, {"served": lambda *_: "done"})
    ended = [event[1] for event in shown(log) if event[0] == engine.COMPLETED]
    same(ended, ["ns/call/2/0"], "the runs that have ended are")


CLAIMS = [one_key, many_keys, at_least_once, not_again, recorded_once, apart]


def watch(engine: Engine, folder: Path) -> None:
    """Killed after a charge."""
    path, bank = folder / "log.db", Bank(folder / "bank")
    engine.start(open_log(engine, path), "ns", "pay", "1", 500)

    def charge_and_die(attempt: Any, cents: int) -> None:
        bank.charge(attempt.key, cents)
        kill()

    killed(lambda: executed(engine, path, charge_and_die))
    log = executed(engine, path, lambda attempt, cents: bank.charge(attempt.key, cents))
    print("Two calls. The bank has charged:", *bank.charges())
    show(log)
