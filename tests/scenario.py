"""Scenarios: commands, and the exact log that they leave, in files that any language can act out.

docs/porting.md says what the commands and the workflows do.  What a scenario prints is rewritten,
after a change that is meant, by

    python -m tests.scenario --rewrite
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import Int64Value, StringValue

from replay import (
    ActivityContext,
    ActivityFailed,
    Cancelled,
    Client,
    Consumer,
    Error,
    Event,
    EventType,
    Failed,
    GiveUp,
    Key,
    Retry,
    RunContext,
    Shard,
    register_activity,
    register_workflow,
)
from replay.export import iterations, stored_history
from replay.log import Move
from replay.server.proto.replaypb_pb2 import SleepDone, SleepRequest
from replay.server.proto.values_pb2 import Cancel, Failure, Json, Pruned
from replay.storage.database import Statement, from_text, insertion, to_text
from replay.storage.event import pack, read
from replay.verify import Difference, verify
from tests.drivers.run import commands_of, with_answers
from tests.support import START, Clock, crash, mine, rows, stepped

FOLDER = Path(__file__).with_name("scenarios")
_TYPES = {int(type): type.name for type in EventType}
_MOST = 1000  # steps of one consumer, or rounds of several, before it is called endless


# The workflows and activities that scenarios use.


def greet(ctx: RunContext, name: StringValue) -> None:
    enriched = ctx.exec_activity(enrich, name)
    ctx.emit_output("greeting", StringValue(value=f"Hello {enriched.value}"))


def wait(ctx: RunContext, times: Int64Value) -> None:
    for _ in range(times.value):
        signal = ctx.await_signal(1, timedelta(seconds=10))
        heard = "nothing" if signal is None else signal.message.value
        ctx.emit_output("heard", StringValue(value=heard))


def nap(ctx: RunContext, milliseconds: Int64Value) -> None:
    ctx.sleep(timedelta(milliseconds=milliseconds.value))


def count(ctx: RunContext, left: Int64Value) -> None:
    if left.value < 0:
        raise ValueError(f"cannot count {left.value} times")
    if left.value:
        ctx.restart(Int64Value(value=left.value - 1))


def fan(ctx: RunContext, name: StringValue) -> None:
    both = ctx.gather(ctx.call(enrich, name), ctx.call(shout, name))
    ctx.emit_output("both", StringValue(value=" ".join(answer.value for answer in both)))


def many(ctx: RunContext, outputs: Int64Value) -> None:
    for n in range(outputs.value):
        ctx.emit_output("out", Int64Value(value=n))


def fail(ctx: RunContext, times: Int64Value) -> None:
    ctx.emit_output("attempts", ctx.exec_activity(stumble, times))


def enrich(ctx: ActivityContext, executed: list[str], name: StringValue) -> StringValue:
    executed.append(f"{ctx.idempotency_key} attempt {ctx.attempt}")
    return StringValue(value=f"[{name.value}]")


def shout(ctx: ActivityContext, executed: list[str], name: StringValue) -> StringValue:
    executed.append(f"{ctx.idempotency_key} attempt {ctx.attempt}")
    return StringValue(value=f"{name.value}!")


def stumble(ctx: ActivityContext, executed: list[str], times: Int64Value) -> Int64Value:
    executed.append(f"{ctx.idempotency_key} attempt {ctx.attempt}")
    if ctx.attempt <= times.value:
        raise ValueError(f"attempt {ctx.attempt} of those that fail")
    return Int64Value(value=ctx.attempt)


def refuse(ctx: ActivityContext, executed: list[str], number: Int64Value) -> Int64Value:
    executed.append(f"{ctx.idempotency_key} attempt {ctx.attempt}")
    if number.value < 2:
        raise GiveUp("no credit")
    raise ValueError(f"attempt {ctx.attempt} fails")


@dataclass
class Parcel:
    name: str
    grams: int


def ship(ctx: RunContext, parcel: Parcel) -> None:
    grams = ctx.exec_activity(weigh, parcel)
    ctx.emit_output("grams", grams)
    if parcel.name:
        ctx.restart(Parcel("", grams))


def weigh(ctx: ActivityContext, executed: list[str], parcel: Parcel) -> int:
    executed.append(f"{ctx.idempotency_key} attempt {ctx.attempt}")
    return parcel.grams + 1


def answer(ctx: RunContext, number: Int64Value) -> Int64Value:
    if number.value > 9:
        ctx.restart(Int64Value(value=number.value - 10))
    if number.value < 0:
        raise Failed(f"{number.value} is negative", detail=number)
    return Int64Value(value=number.value + 1)


def lend(ctx: RunContext, number: Int64Value) -> None:
    try:
        ctx.exec_activity(refuse, number)
    except ActivityFailed as error:
        if number.value == 0:
            raise
        ctx.emit_output("refused", StringValue(value=error.text))


def hold(ctx: RunContext, number: Int64Value) -> None:
    try:
        ctx.sleep(timedelta(seconds=10))
    except Cancelled as error:
        if number.value == 0:
            raise
        ctx.emit_output("told", StringValue(value=error.reason))
        if number.value == 1:
            ctx.restart(Int64Value(value=0))
        ctx.sleep(timedelta(seconds=10))


def turn(ctx: RunContext, number: Int64Value) -> None:
    ctx.sleep(timedelta(seconds=10))
    ctx.restart(Int64Value(value=number.value + 1))


def race(ctx: RunContext, name: StringValue) -> None:
    if name.value:
        call = ctx.begin(ctx.call(enrich, name))
        heard = ctx.begin(ctx.signal(1))
        first = ctx.first(heard, call)
        ctx.emit_output("first", StringValue(value="call" if first is call else "signal"))
        ctx.restart(StringValue())
    signal = ctx.await_signal(1, timedelta(seconds=10))
    text = "nothing" if signal is None else signal.message.value
    ctx.emit_output("heard", StringValue(value=text))


def change(ctx: RunContext, name: StringValue) -> None:
    ctx.exec_activity(enrich, name)
    for _ in range(2):
        ctx.exec_activity(shout if ctx.patched("louder") else enrich, name)


def spend(ctx: RunContext, number: Int64Value) -> None:
    ctx.exec_activity(book, number)


def book(ctx: ActivityContext, executed: list[str], number: Int64Value) -> None:
    executed.append(f"{ctx.idempotency_key} attempt {ctx.attempt}")
    ctx.cursor.execute("INSERT INTO account (amount) VALUES (?)", (number.value,))
    if ctx.attempt <= number.value - 10:
        raise ValueError(f"attempt {ctx.attempt} of those that fail")


WORKFLOWS: dict[str, Callable[..., object]] = {
    each.__name__: each for each in (greet, wait, nap, count, fan, many, fail, ship)
}
WORKFLOWS |= {each.__name__: each for each in (answer, lend, hold, turn, race, change, spend)}
#: `refuse` is tried twice.
POLICIES = {"refuse": Retry(attempts=2)}
ACTIVITIES: dict[str, Callable[..., object]] = {
    each.__name__: each for each in (enrich, shout, stumble, weigh, refuse, book)
}
#: The activities that record statements, for this table.
TRANSACTIONAL = ("book",)
ACCOUNT = "CREATE TABLE IF NOT EXISTS account (amount BIGINT)"


class BadScenario(Exception):
    """A scenario that says what cannot be done."""


class Killed(Exception):
    """Ends a process at its transaction."""


@dataclass(frozen=True)
class Process:
    """A process with one consumer."""

    client: Client
    consumer: Consumer

    def exhaust(self) -> bool:
        """Step until there is nothing to do; whether there was anything."""
        for steps in range(_MOST):
            if not self.consumer.step():
                return steps > 0
        raise BadScenario(f"{self.consumer.name} does not come to an end")

    def die_at_commit(self, stored: bool) -> None:
        """Step up to the next transaction, and die just before it or just after it."""
        commit = self.client.log.commit

        def last(events: Sequence[Event], move: Move | None = None) -> list[bool]:
            if stored:
                commit(events, move)
            raise Killed

        self.client.log.commit = last  # type: ignore[method-assign]
        try:
            self.exhaust()
        except Killed:
            return
        raise BadScenario(f"{self.consumer.name} has nothing to store")


class Stage:
    """One log, the processes at it, and their clock.  A method `do_X` is the command X."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._clock = Clock()
        self._executed: list[str] = []
        self._stack = ExitStack()
        self._caller = self._stack.enter_context(stepped(url, self._clock))
        self._processes: dict[str, Process] = {}
        self._mine: Any = None  # a connection of the program's own

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def do(self, command: str) -> list[str]:
        """Perform a command; the lines that it prints."""
        word, *rest = command.split(" ", 1)
        if (method := getattr(self, f"do_{word}", None)) is None:
            raise BadScenario(f"there is no command {word}")
        printed = method(*rest)
        return [] if printed is None else list(printed) or ["nothing"]

    # What a caller does.

    def do_run(self, rest: str) -> list[str]:
        run, value = rest.split(" ", 1)
        return _answer(lambda: self._caller.run_workflow(*_run(run), _message(value)))

    def do_signal(self, rest: str) -> list[str]:
        run, type, external_id, value = rest.split(" ", 3)
        message = _message(value)
        return _answer(lambda: self._caller.signal_run(*_run(run), int(type), message, external_id))

    def do_cancel(self, rest: str) -> list[str]:
        run, reason = rest.split(" ", 1)
        return _answer(lambda: self._caller.cancel_run(*_run(run), reason))

    def do_terminate(self, rest: str) -> list[str]:
        run, reason = rest.split(" ", 1)
        return _answer(lambda: self._caller.cancel_run(*_run(run), reason, terminate=True))

    def do_write(self, rest: str) -> None:
        what, run, *more = rest.split(" ", 2 if rest.startswith("run ") else 4)
        if self._mine is None:
            self._mine = self._stack.enter_context(mine(self._url))
        outbox = self._caller.within(self._mine)
        if what == "run":
            outbox.run_workflow(*_run(run), _message(more[0]))
        else:
            outbox.signal_run(*_run(run), int(more[0]), _message(more[2]), more[1])

    def do_commit(self) -> None:
        self._mine.commit()

    def do_rollback(self) -> None:
        self._mine.rollback()

    def do_verify(self, rest: str) -> Iterator[str]:
        workflow, function = rest.split()
        namespace, name = workflow.split("/")
        log = self._caller.log_of(namespace)
        for key in iterations(self._caller.stream(namespace, name, to_head=True)):
            history = stored_history(log, key)
            assert history is not None
            try:
                verify(WORKFLOWS[function], history)
                yield f"{key} fits"
            except Difference as found:
                yield f"{key} {found.event.id} {found.history}, {found.code}"

    # What happens to processes.

    def do_start(self, names: str) -> None:
        for name in names.split():
            if name in self._processes:
                raise BadScenario(f"{name} is running already")
            client = self._stack.enter_context(stepped(self._url, self._clock))
            process = Process(client, _consumer(client, name, self._executed))
            # A server notices in its own time that the last owner is gone.
            if not process.consumer._claim(10):
                raise BadScenario(f"{name} belongs to another process")
            self._processes[name] = process

    def do_drain(self, names: str = "") -> None:
        processes = [self._processes[name] for name in names.split() or self._processes]
        for _ in range(_MOST):
            if not sum(process.exhaust() for process in processes):
                return
        raise BadScenario("the consumers do not come to an end")

    def do_crash(self, rest: str) -> None:
        name, *when = rest.split()
        process = self._processes.pop(name)
        if when:
            process.die_at_commit({"before": False, "after": True}[when[0]])
        crash(process.client, process.consumer)

    def do_clock(self, forward: str) -> None:
        milliseconds = round(float(forward.removeprefix("+").removesuffix("s")) * 1000)
        self._clock.forward(milliseconds=milliseconds)

    def do_cursor(self, rest: str) -> None:
        name, id = rest.split()
        if name in self._processes:
            raise BadScenario(f"{name} is running: only a cursor that nobody uses can be set")
        update = "UPDATE replay_cursors SET last_event_id = ? WHERE id = ?"
        self._caller.log.database.write([Statement(update, (int(id), name), must_find=1)])

    def do_insert(self, rest: str) -> None:
        id, type, text, value = rest.split(" ", 3)
        key, now = Key.parse(text), to_text(self._clock.now)
        number = int(type) if type.isdecimal() else EventType[type].value
        row = (int(id), text, *key[:4], number, now, _pack(value))
        columns = "id, `key`, namespace, workflow, run, iteration, type, timestamp, message"
        self._caller.log.database.write([insertion("replay_events", columns, [row])])

    def do_prune(self, rest: str) -> Iterator[str]:
        seconds, *forget = rest.split()
        for process in self._processes.values():  # an idle one stores its cursor now and then
            process.consumer._store_at = process.consumer._log.now()
        self.do_drain("")
        age = timedelta(seconds=float(seconds.removesuffix("s")))
        removed = self._caller.prune(age, forget=forget == ["forget"])
        yield ", ".join(f"{name} {count}" for name, count in removed._asdict().items())

    # What there is to see.

    def do_log(self, after: str = "0") -> Iterator[str]:
        sql = "SELECT id, timestamp, type, `key`, message FROM replay_events WHERE id > ?"
        for id, at, type, key, raw in rows(self._caller, f"{sql} ORDER BY id", int(after)):
            yield f"{id} {_since(at)} {_TYPES.get(type, type)} {key} {_text(raw)}"

    def do_signals(self) -> Iterator[str]:
        found = rows(
            self._caller,
            "SELECT s.id, s.created_at, s.namespace, s.workflow, s.run, s.type, s.external_id,"
            " s.message, a.`key` FROM replay_signals s LEFT JOIN replay_signal_awaits a"
            " ON a.id = s.check_id ORDER BY s.id",
        )
        for id, at, namespace, workflow, run, type, external_id, raw, taker in found:
            sent = f"{namespace}/{workflow}/{run} {type} {external_id} {_text(raw)}"
            yield f"{id} {_since(at)} {sent} taken by {taker or '-'}"

    def do_inbox(self) -> Iterator[str]:
        sql = "SELECT namespace, workflow, run, type, external_id, message FROM replay_inbox"
        for *run, type, external_id, raw in rows(self._caller, f"{sql} ORDER BY id"):
            signal = "" if type is None else f" {type} {external_id}"
            yield f"{'/'.join(run)}{signal} {_text(raw)}"

    def do_account(self) -> Iterator[str]:
        for (amount,) in rows(self._caller, "SELECT amount FROM account ORDER BY amount"):
            yield f"{amount}"

    def do_cursors(self) -> Iterator[str]:
        sql = "SELECT id, last_event_id FROM replay_cursors"
        for name, id in sorted(rows(self._caller, sql)):
            yield f"{name} {id}"

    def do_parked(self) -> Iterator[str]:
        sql = "SELECT consumer, event_id, `key`, attempts FROM replay_parked"
        for consumer, event_id, key, attempts in sorted(rows(self._caller, sql)):
            yield f"{consumer} {event_id} {key} attempts {attempts}"

    def do_retry(self, rest: str) -> list[str]:
        name, event = rest.split()
        return [str(self._caller.retry(consumer=name, event_id=int(event)))]

    def do_runs(self) -> Iterator[str]:
        for run in self._caller.runs(limit=1000):
            ended = "-" if run.ended_at is None else _since(to_text(run.ended_at))
            times = f"{_since(to_text(run.started_at))} {ended}"
            place = f"{run.id} {run.namespace}/{run.workflow}/{run.run}/{run.iteration}"
            yield f"{place} {run.status} {times} {json.dumps(run.error)}"

    def do_table(self) -> Iterator[str]:
        sql = "SELECT id, namespace, workflow, run, iteration, status, started_at, ended_at"
        for id, *run, status, started, ended in rows(
            self._caller, f"{sql} FROM replay_runs ORDER BY id"
        ):
            times = f"{_since(started)} {'-' if ended is None else _since(ended)}"
            yield f"{id} {'/'.join(map(str, run))} {status} {times}"

    def do_executed(self) -> Iterator[str]:
        yield from self._executed
        self._executed.clear()


def _run(text: str) -> tuple[str, str, str]:
    namespace, workflow, run = text.split("/", 2)
    return namespace, workflow, run


def _answer(call: Callable[[], bool]) -> list[str]:
    try:
        return ["yes" if call() else "no"]
    except Error:
        return ["refused"]


def _consumer(client: Client, name: str, executed: list[str]) -> Consumer:
    """The consumer with this cursor's name: see docs/format.md."""
    for loop in client.loops():
        if loop.name == name:
            return loop
    kind, namespace, function, *division = name.split("/")
    shard = None
    if division:
        m, n = map(int, division[0].split("_of_"))
        shard = Shard.hashed(m - 1, n)
    if kind == "workflow":
        workflow = WORKFLOWS[function]
        return register_workflow(client, namespace, workflow, shard=shard, start=False)
    activity = ACTIVITIES[function]
    options: dict[str, Any] = {"shard": shard, "retry": POLICIES.get(function), "start": False}
    if function in TRANSACTIONAL:
        client.log.database.query(ACCOUNT)
        options["transactional"] = True
    return register_activity(client, namespace, activity, executed, **options)


def _message(value: str) -> Message | None:
    """The message that a value in a scenario stands for."""
    if value == "-":
        return None
    if value[0].isalpha():
        type, text = value.split(" ", 1)
        return Json(type=type, json=text.encode())
    plain = json.loads(value)
    return StringValue(value=plain) if isinstance(plain, str) else Int64Value(value=plain)


def _pack(value: str) -> bytes | None:
    return pack(SleepDone() if value == "done" else _message(value), 1000, value)


def _text(raw: bytes | None) -> str:
    """A stored message as scenarios write it."""
    message = read(raw)
    if isinstance(message, SleepRequest):
        return f"{message.duration.ToTimedelta().total_seconds():.3f}s"
    if isinstance(message, SleepDone):
        return "done"
    if isinstance(message, Pruned):
        ended = datetime.fromtimestamp(message.ended_ms / 1000, UTC)
        return f"pruned {_since(to_text(ended))}" if message.ended_ms else "pruned"
    if isinstance(message, Json):
        return f"{message.type} {message.json.decode()}"
    if isinstance(message, Failure):
        detail = (
            f" detail {_text(message.detail.SerializeToString())}" if message.detail.value else ""
        )
        return f"Failure {message.kind} {message.attempts} {json.dumps(message.text)}{detail}"
    if isinstance(message, Cancel):
        return f"{'Terminate' if message.terminate else 'Cancel'} {json.dumps(message.reason)}"
    return "-" if message is None else json.dumps(message.value, ensure_ascii=False)


def _since(text: str) -> str:
    """A stored time, counted from the scenario's start."""
    return f"+{(from_text(text) - START).total_seconds():.3f}s"


def perform(url: str, text: str) -> str:
    """The scenario as it has to stand in its file: its commands, with what they print here."""
    with Stage(url) as stage:
        return with_answers(text, map(stage.do, commands_of(text)))


def expect_failures() -> None:
    """Let this process log nothing: that some things fail is meant."""
    logging.getLogger("replay").addHandler(logging.NullHandler())


def main() -> int:
    """Compare all scenarios, or those named, with what they print; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.scenario", description=main.__doc__)
    parser.add_argument("--rewrite", action="store_true", help="put what they print in the files")
    parser.add_argument("files", nargs="*", type=Path, default=sorted(FOLDER.glob("*.txt")))
    arguments = parser.parse_args()
    expect_failures()
    stale = 0
    for path in arguments.files:
        with tempfile.TemporaryDirectory() as folder:
            text = perform(f"sqlite:///{folder}/replay.db", path.read_text())
        if text != path.read_text():
            stale += 1
            print(path.name, "rewritten" if arguments.rewrite else "prints something else")
            if arguments.rewrite:
                path.write_text(text)
    return 1 if stale and not arguments.rewrite else 0


if __name__ == "__main__":
    sys.exit(main())
