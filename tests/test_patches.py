"""Patches, and helpers that are the same in each replay."""

import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from replay import Client, Consumer, EventType, Key, RunContext
from replay import run as runs
from tests.example_pb2 import Int, String
from tests.support import (
    Clock,
    LogLines,
    behind,
    crash,
    drain,
    flow_of,
    listing,
    respond,
    start_runs,
    stepped,
)

pytestmark = pytest.mark.contract

HOUR = timedelta(hours=1)
Flow = Callable[..., Any]


def lines(client: Client) -> list[str]:
    """The log without the created event, and without messages."""
    return [line.split(" ")[1].removeprefix("ns/flow/a/0/") for line in listing(client)[1:]]


def become(client: Client, before: Consumer, function: Flow) -> Consumer:
    """Serve the workflow with other code, as a new process does."""
    before.stop()
    del client._consumers[before.name]
    return flow_of(client, function)


def old(ctx: RunContext, message: Int) -> None:
    ctx.exec_activity("pack", message)
    ctx.exec_activity("ship", message)


def new(ctx: RunContext, message: Int) -> None:
    ctx.exec_activity("pack", message)
    if ctx.patched("by-air"):
        ctx.exec_activity("fly", message)
    else:
        ctx.exec_activity("ship", message)


def test_e9_a_new_run_takes_the_new_code(url: str) -> None:
    """E9: the output is added once, with the step's other events."""
    with stepped(url) as client:
        start_runs(client, "a")
        consumer = flow_of(client, new)
        drain(consumer)
        respond(client, "pack/0")
        drain(consumer)
        assert lines(client) == ["pack/0", "pack/0", "replay_patch/by-air", "fly/0"]
        assert listing(client)[3] == "RUN_OUTPUT ns/flow/a/0/replay_patch/by-air True"
        consumer.forget()
        respond(client, "fly/0")
        drain(consumer)
        assert lines(client)[4:] == ["fly/0", "ns/flow/a/0"]


def test_e9_a_run_that_has_passed_the_place_stays_with_the_old_code(url: str) -> None:
    """E9: for ever, and nothing is added."""
    with stepped(url) as client:
        start_runs(client, "a")
        before = flow_of(client, old)
        drain(before)
        respond(client, "pack/0")
        drain(before)
        consumer = become(client, before, new)
        respond(client, "ship/0")
        drain(consumer)
        assert consumer.parked() == []
        assert lines(client) == ["pack/0", "pack/0", "ship/0", "ship/0", "ns/flow/a/0"]


def test_e9_a_run_that_has_not_come_to_the_place_takes_the_new_code(url: str) -> None:
    """E9: nothing of its history is left to replay there."""
    with stepped(url) as client:
        start_runs(client, "a")
        before = flow_of(client, old)
        drain(before)
        consumer = become(client, before, new)
        respond(client, "pack/0")
        drain(consumer)
        assert lines(client) == ["pack/0", "pack/0", "replay_patch/by-air", "fly/0"]


def looping_old(ctx: RunContext, message: Int) -> None:
    for _ in range(3):
        ctx.exec_activity("ship", message)


def looping_new(ctx: RunContext, message: Int) -> None:
    for _ in range(3):
        ctx.exec_activity("fly" if ctx.patched("by-air") else "ship", message)


def test_e9_a_loop_keeps_its_first_answer(url: str) -> None:
    """E9: False at first, and False when nothing is left to replay; so no replay mismatches."""
    with stepped(url) as client:
        start_runs(client, "a")
        before = flow_of(client, looping_old)
        drain(before)
        consumer = become(client, before, looping_new)
        for n in range(3):
            respond(client, f"ship/{n}")
            drain(consumer)
            consumer.forget()
        assert consumer.parked() == []
        shipped = ["ship/0", "ship/0", "ship/1", "ship/1", "ship/2", "ship/2"]
        assert lines(client) == [*shipped, "ns/flow/a/0"]


def test_e9_o2_outputs_are_not_left_to_replay(url: str) -> None:
    """E9, O2: a run whose history has a later output only may still take the new code."""

    def before(ctx: RunContext, message: Int) -> None:
        pending = ctx.begin(ctx.call("act", message))
        ctx.emit_output("out", message)
        pending.result()

    def after(ctx: RunContext, message: Int) -> None:
        pending = ctx.begin(ctx.call("act", message))
        ctx.emit_output("patched", Int(value=int(ctx.patched("p"))))
        ctx.emit_output("out", message)
        pending.result()

    with stepped(url) as client:
        start_runs(client, "a")
        first = flow_of(client, before)
        drain(first)
        consumer = become(client, first, after)
        respond(client, "act/0")
        drain(consumer)
        assert lines(client) == ["act/0", "out/0", "act/0", *PATCHED, "ns/flow/a/0"]
        assert listing(client)[-2] == "RUN_OUTPUT ns/flow/a/0/patched/0 value: 1"


PATCHED = ["replay_patch/p", "patched/0"]


def test_e9_each_name_and_each_iteration_has_its_own_answer(url: str) -> None:
    """E9: and the same name asked again adds no second output."""

    def flow(ctx: RunContext, message: Int) -> None:
        assert [ctx.patched("p"), ctx.patched("q"), ctx.patched("p")] == [True] * 3
        if message.value == 1:
            ctx.restart(Int(value=2))

    with stepped(url) as client:
        start_runs(client, "a")
        consumer = flow_of(client, flow)
        drain(consumer)
        assert consumer.parked() == []
        names = [str(e.key) for e in client.stream("ns", to_head=True)]
        assert [name for name in names if "replay_patch" in name] == [
            f"ns/flow/a/{n}/replay_patch/{patch}" for n in (0, 1) for patch in "pq"
        ]


@pytest.mark.parametrize("name", ["", "a/b", " a", "a\n", ".", "x" * 256, 5])
def test_e9_n2_a_name_that_cannot_be_stored_is_refused(url: str, name: Any) -> None:
    """E9, N2."""

    def flow(ctx: RunContext, message: Int) -> None:
        ctx.patched(name)

    with stepped(url) as client:
        start_runs(client, "a")
        consumer = flow_of(client, flow)
        drain(consumer)
        (parked,) = consumer.parked()
        assert parked.error.startswith("InvalidName: patch ")
        assert len(listing(client)) == 1


# Random numbers and lengths.


def rolling(ctx: RunContext, message: Int) -> None:
    for n in range(2):
        ctx.emit_output("rolled", Int(value=ctx.random.getrandbits(60)))
        ctx.emit_output("id", String(value=str(ctx.uuid4())))
        if n == 0:
            ctx.sleep(HOUR)


ROLLED = """
import sys
from datetime import UTC, datetime
from replay.run import Run
from replay.storage.event import Event, EventType, Key
from tests.test_patches import rolling
from replay.storage.event import pack

def make(type, key, message=None):
    return Event(0, type, key, datetime.now(UTC), pack(message, 10_000, ""))

created = Event(1, EventType.RUN_CREATED, Key("ns", "flow", "a"), datetime.now(UTC), None)
run = Run(rolling, created, None, make)
run.start()
print(*(event.message.value for event in run.added if event.type is EventType.RUN_OUTPUT))
"""


def outputs(client: Client, run: str = "a") -> list[str]:
    found = client.stream("ns", "flow", run, to_head=True)
    return [str(e.message.value) for e in found if e.type is EventType.RUN_OUTPUT]


@pytest.mark.damages
def test_e10_random_numbers_are_the_same_in_each_replay(url: str) -> None:
    """E10: after an eviction the function goes on with the numbers that it would have drawn."""
    with stepped(url, Clock()) as client:
        start_runs(client, "a", "b")
        consumer = flow_of(client, rolling)
        drain(consumer)
        respond(client, "replay_sleep/0")
        drain(consumer)
        live = outputs(client)
        assert len(set(live)) == 4
        assert set(outputs(client, "b")).isdisjoint(live)
    assert [uuid[14] for uuid in live[1::2]] == ["4", "4"]


def test_e10_an_evicted_run_draws_on_where_it_was(url: str, tmp_path: Path) -> None:
    """E10: the same numbers as a run that was never evicted."""
    drawn = []
    for n, evicted in enumerate((False, True)):
        with stepped(f"sqlite:///{tmp_path / str(n)}.db", Clock()) as client:
            start_runs(client, "a")
            consumer = flow_of(client, rolling)
            drain(consumer)
            if evicted:
                crash(client, consumer)
        with stepped(f"sqlite:///{tmp_path / str(n)}.db", Clock()) as client:
            consumer = flow_of(client, rolling)
            respond(client, "replay_sleep/0")
            drain(consumer)
            drawn.append(outputs(client))
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) == 4


@pytest.mark.embedded
def test_e10_random_numbers_are_the_same_in_each_process() -> None:
    """E10: whatever PYTHONHASHSEED is, which differs between processes."""
    drawn = set()
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", ROLLED],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
            cwd=Path(__file__).parent.parent,
        )
        drawn.add(done.stdout)
    assert len(drawn) == 1
    assert len(drawn.pop().split()) == 2


def test_e10_the_length_counts_what_was_requested_and_given(url: str) -> None:
    """E10, R2: the same live and in a replay, where all rows are loaded at once."""

    def flow(ctx: RunContext, message: Int) -> None:
        lengths = [ctx.history_length]
        ctx.exec_activity("act", message)
        lengths.append(ctx.history_length)
        ctx.emit_output("ignored", message)
        ctx.gather(*(ctx.call("act", message) for _ in range(3)))
        lengths.append(ctx.history_length)
        ctx.emit_output("lengths", String(value=str(lengths)))

    for forget in (False, True):
        with stepped(url) as client:
            run = "ab"[forget]
            start_runs(client, run)
            consumer = flow_of(client, flow)
            drain(consumer)
            log = behind(client)
            for n in range(4):
                key = Key("ns", "flow", run, 0, "act", str(n))
                log.append(log.event(EventType.ACTIVITY_RESPONSE, key))
                if forget:
                    consumer.forget()
                drain(consumer)
            assert outputs(client, run)[-1] == "[0, 2, 8]"
            consumer.stop()


def test_e10_a_long_history_is_named_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """E10: at 10,000 events, here at 10; no replay says it again."""
    monkeypatch.setattr(runs, "_LONG", 10)

    def flow(ctx: RunContext, message: Int) -> None:
        for _ in range(12):
            ctx.exec_activity("act", message)

    with stepped(url) as client, LogLines() as logged:
        start_runs(client, "a")
        consumer = flow_of(client, flow)
        for n in range(12):
            drain(consumer)
            said = logged.of("run ns/flow/a/0 has a history of")
            assert len(said) == (2 * n + 1 >= 10)
            if n % 2:
                consumer.forget()
            respond(client, f"act/{n}")
        assert said == [
            "run ns/flow/a/0 has a history of 11 events, which each replay reads: call restart"
        ]


@pytest.mark.embedded
def test_e10_the_warning_comes_at_ten_thousand() -> None:
    """E10."""
    assert runs._LONG == 10_000
