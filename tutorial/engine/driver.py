"""Performs the project's scenarios with the engine that the ten steps build.

Run it like this:

    ./dev scenarios --driver ".venv/bin/python -m tutorial.engine.driver"

docs/porting.md defines what a driver reads and writes.  The engine lacks
the commands `terminate`, `prune`, `runs`, `table` and `verify`, shards, typed plain values, the
first of several requests, patches, the inbox, statements that are executed exactly once, and a
cancel that a restart passes on.  It leaves these out.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

from tutorial.engine.step_09_restart import solution as engine
from tutorial.engine.step_09_restart.solution import (
    OUTPUT,
    REQUEST,
    RESPONSE,
    Activity,
    Attempt,
    BadName,
    Call,
    Consumer,
    Failed,
    Flow,
    GiveUp,
    Log,
    Matcher,
    Output,
    Restart,
    Sleeper,
    Workflow,
    receive,
    sleep,
)

TYPES = ["NOOP", "RUN_CREATED", "RUN_COMPLETED", "RUN_OUTPUT"]
TYPES += ["ACTIVITY_REQUEST", "ACTIVITY_RESPONSE"]
LACKS = {"prune", "runs", "table", "terminate", "verify"}


class LeftOut(Exception):
    """The engine lacks something."""


class Killed(Exception):
    """Ends a process at its transaction."""


# The workflows and activities.


def greet(text: str) -> Any:
    enriched = yield Call("enrich", text)
    yield Output("greeting", f"Hello {enriched}")


def wait(times: int) -> Any:
    for _ in range(times):
        signal = yield receive(1, 10)
        yield Output("heard", signal.value if signal else "nothing")


def nap(milliseconds: int) -> Any:
    yield sleep(milliseconds / 1000)


def count(left: int) -> Any:
    yield from ()
    if left < 0:
        raise ValueError(f"cannot count {left} times")
    return Restart(left - 1) if left else None


def fan(text: str) -> Any:
    both = yield [Call("enrich", text), Call("shout", text)]
    yield Output("both", " ".join(both))


def many(outputs: int) -> Any:
    for n in range(outputs):
        yield Output("out", n)


def fail(times: int) -> Any:
    attempts = yield Call("stumble", times)
    yield Output("attempts", attempts)


def answer(number: int) -> Any:
    yield from ()
    if number > 9:
        return Restart(number - 10)
    if number < 0:
        raise Failed(f"{number} is negative", detail=number)
    return number + 1


def lend(number: int) -> Any:
    try:
        yield Call("refuse", number)
    except Failed as failure:
        if number == 0:
            raise
        yield Output("refused", str(failure))


FLOWS: dict[str, Flow] = {
    each.__name__: each for each in (greet, wait, nap, count, fan, many, fail, answer, lend)
}


def stumble(attempt: Attempt, times: int) -> int:
    if attempt.number <= times:
        raise ValueError(f"attempt {attempt.number} of those that fail")
    return attempt.number


def refuse(attempt: Attempt, number: int) -> None:
    if number < 2:
        raise GiveUp("no credit")
    raise ValueError(f"attempt {attempt.number} fails")


WORKS: dict[str, Callable[[Attempt, Any], Any]] = {
    "enrich": lambda _, text: f"[{text}]",
    "shout": lambda _, text: f"{text}!",
    "stumble": stumble,
    "refuse": refuse,
}
ATTEMPTS = {"refuse": 2}


class Driver:
    """One log, its processes, and their clock.  A method `do_X` is the command X."""

    def __init__(self) -> None:
        self.time = 0
        self.log = Log(":memory:")
        self.log.now = lambda: self.time
        self.executed: list[str] = []
        self.running: dict[str, Consumer] = {}

    def do(self, command: str) -> list[str]:
        """Perform a command; the lines that it prints."""
        word, *rest = command.split(" ", 1)
        method = getattr(self, f"do_{word}", None)
        if word in LACKS or method is None:
            raise LeftOut(word)
        printed = method(*rest)
        return [] if printed is None else list(printed) or ["nothing"]

    def do_run(self, rest: str) -> list[str]:
        run, value = rest.split(" ", 1)
        return _yes(lambda: engine.start(self.log, *_run(run), _value(value)))

    def do_signal(self, rest: str) -> list[str]:
        run, type, external_id, value = rest.split(" ", 3)
        if not -128 <= int(type) <= 127:  # A limit of the project's tables, not of the engine's.
            return ["refused"]
        send = engine.send
        return _yes(lambda: send(self.log, *_run(run), int(type), external_id, _value(value)))

    def do_start(self, names: str) -> None:
        for name in names.split():
            # The lock of the process that has died is not there any more.
            self.log.db.execute("UPDATE cursors SET lease = 0 WHERE name = ?", (name,))
            self.running[name] = self._consumer(name)
            self.running[name].own()

    def do_drain(self, names: str = "") -> None:
        consumers = [self.running[name] for name in names.split() or self.running]
        while sum(_exhaust(consumer) for consumer in consumers):
            pass

    def do_crash(self, rest: str) -> None:
        name, *when = rest.split()
        consumer = self.running.pop(name)
        if when:
            commit = consumer.commit

            def last(position: int, writes: Any) -> None:
                if when == ["after"]:
                    commit(position, writes)
                raise Killed

            consumer.commit = last  # type: ignore[method-assign]
            try:
                _exhaust(consumer)
            except Killed:
                return
            raise ValueError(f"{name} has nothing to store")

    def do_clock(self, forward: str) -> None:
        self.time += round(float(forward.removeprefix("+").removesuffix("s")) * 1000)

    def do_cursor(self, rest: str) -> None:
        name, position = rest.split()
        self.log.db.execute("UPDATE cursors SET position = ? WHERE name = ?", (position, name))

    def do_insert(self, rest: str) -> None:
        id, type, key, text = rest.split(" ", 3)
        number = TYPES.index(type) if type in TYPES else int(type)
        value: Any = _value(text) if text != "done" else None
        if number == RESPONSE:
            value = {} if text == "done" else {"value": value}
        iteration = "/".join(key.split("/")[:4])
        row = (int(id), number, key, iteration, self.time, json.dumps(value))
        columns = "id, type, key, iteration, time, value"
        self.log.db.execute(f"INSERT INTO events ({columns}) VALUES (?, ?, ?, ?, ?, ?)", row)

    def do_retry(self, rest: str) -> list[str]:
        sql = "UPDATE parked SET due = ? WHERE consumer = ? AND event = ? AND due > ?"
        name, event = rest.split()
        values = (self.time, name, int(event), self.time)
        return [str(self.log.db.execute(sql, values).rowcount)]

    def do_log(self, after: str = "0") -> Iterator[str]:
        sql = "SELECT id, type, key, time, value FROM events WHERE id > ? ORDER BY id"
        for id, type, key, time, text in self.log.db.execute(sql, (int(after),)):
            name = TYPES[type] if type < len(TYPES) else type
            yield f"{id} {_since(time)} {name} {key} {_shown(type, key, json.loads(text))}"

    def do_signals(self) -> Iterator[str]:
        sql = "SELECT id, time, run, type, external_id, value, taken_by FROM signals ORDER BY id"
        for id, time, run, type, external_id, text, taken_by in self.log.db.execute(sql):
            shown = _plain(json.loads(text))
            sent = f"{id} {_since(time)} {run} {type} {external_id} {shown}"
            yield f"{sent} taken by {taken_by or '-'}"

    def do_parked(self) -> Iterator[str]:
        sql = "SELECT consumer, event, key, attempts FROM parked ORDER BY consumer, event"
        for consumer, event, key, attempts in self.log.db.execute(sql):
            yield f"{consumer} {event} {self._place(consumer, key)} attempts {attempts}"

    def do_executed(self) -> Iterator[str]:
        yield from self.executed
        self.executed.clear()

    def do_cursors(self) -> Iterator[str]:
        for row in self.log.db.execute("SELECT name, position FROM cursors ORDER BY name"):
            yield "{} {}".format(*row)

    def _place(self, consumer: str, key: str) -> str:
        """The place that is parked: a request of an activity, or an iteration of a workflow."""
        return "/".join(key.split("/")[:4]) if consumer.startswith("workflow/") else key

    def _consumer(self, name: str) -> Consumer:
        if name == "replay_sleep":
            return Sleeper(self.log)
        if name == "replay_signal":
            return Matcher(self.log)
        if name.count("/") < 2:
            raise LeftOut(name)
        kind, namespace, function, *shard = name.split("/")
        if shard or function not in (FLOWS if kind == "workflow" else WORKS):
            raise LeftOut(name)
        if kind == "workflow":
            return Workflow(self.log, namespace, function, FLOWS[function])

        def noted(attempt: Attempt, value: Any) -> Any:
            self.executed.append(f"{attempt.key} attempt {attempt.number}")
            return WORKS[function](attempt, value)

        attempts = ATTEMPTS.get(function, float("inf"))
        return Activity(self.log, namespace, function, noted, attempts)


def _exhaust(consumer: Consumer) -> bool:
    """Step until there is nothing to do; whether there was anything."""
    steps = 0
    while consumer.step():
        steps += 1
    return steps > 0


def _run(text: str) -> tuple[str, str, str]:
    namespace, workflow, run = text.split("/", 2)
    return namespace, workflow, run


def _yes(call: Callable[[], bool]) -> list[str]:
    try:
        return ["yes" if call() else "no"]
    except BadName:
        return ["refused"]


def _value(text: str) -> Any:
    if text == "-":
        return None
    if text[0].isalpha():
        raise LeftOut(f"values of the type {text.split()[0]}")
    return json.loads(text)


def _plain(value: Any) -> str:
    return "-" if value is None else json.dumps(value, ensure_ascii=False)


def _since(time: int) -> str:
    return f"+{time / 1000:.3f}s"


def _shown(type: int, key: str, value: Any) -> str:
    """A stored value as scenarios write it."""
    target = key.split("/")[4] if type in (OUTPUT, REQUEST, RESPONSE) else ""
    if type == REQUEST and target in ("replay_sleep", "replay_signal") and isinstance(value, int):
        return _since(value)[1:]
    if type == RESPONSE and not value:
        return "done"
    if type == RESPONSE and "value" in value:
        return _plain(value["value"])
    failure = value.get("failure") if type == RESPONSE else value
    if type == RESPONSE or target == "replay_failure":
        text = f"Failure {failure['kind']} {failure['attempts']} {json.dumps(failure['text'])}"
        detail = failure["detail"]
        return text if detail is None else f"{text} detail {json.dumps(detail)}"
    return _plain(value)


def main() -> None:
    """Perform the commands of standard input."""
    driver = Driver()
    for command in sys.stdin:
        try:
            lines = driver.do(command.rstrip("\n"))
        except LeftOut as lack:
            print(f"left out: {lack}")
            return
        print(*lines, "", sep="\n", flush=True)


if __name__ == "__main__":
    main()
