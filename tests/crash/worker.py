"""A worker process for the tests to kill: python -m tests.crash.worker URL FILE [STEP].

It notes in FILE each activity that it executes, before it does so.  It hangs in the activity of
that STEP, and ends when the process that started it does.
"""

import os
import sys
import threading
from typing import NamedTuple

from replay import ActivityContext, RunContext, connect, register_activity, register_workflow
from tests import journey
from tests.example_pb2 import Int

NAMESPACE = "crash"


class Notes:
    """Lines of a file that survive the death of the process."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def append(self, key: str) -> None:
        os.write(self._file, f"{key}\n".encode())


class Backends(NamedTuple):
    """What the activity uses."""

    notes: Notes
    hangs_at: int


def add_one(ctx: ActivityContext, backends: Backends, message: Int) -> Int:
    backends.notes.append(ctx.idempotency_key)
    if message.value == backends.hangs_at:
        threading.Event().wait()
    return Int(value=message.value + 1)


def count(ctx: RunContext, message: Int) -> None:
    """Count from 0 to the message's value, a step at a time."""
    number = Int(value=0)
    while number.value < message.value:
        number = ctx.exec_activity(add_one, number)
        ctx.emit_output("counted", number)


def events(run: str, steps: int) -> list[str]:
    """What `listing` has to give for a run of `count`, crashed or not."""
    key = f"{NAMESPACE}/count/{run}/0"
    lines = [f"RUN_CREATED {key} value: {steps}"]
    for n in range(steps):
        before = f" value: {n}" if n else ""
        lines += [
            f"ACTIVITY_REQUEST {key}/add_one/{n}{before}",
            f"ACTIVITY_RESPONSE {key}/add_one/{n} value: {n + 1}",
            f"RUN_OUTPUT {key}/counted/{n} value: {n + 1}",
        ]
    return [*lines, f"RUN_COMPLETED {key} -"]


def main(url: str, path: str, step: str = "-1") -> None:
    notes = Notes(path)
    with connect(url) as client:
        register_workflow(client, NAMESPACE, count)
        register_activity(client, NAMESPACE, add_one, Backends(notes, int(step)))
        journey.staff(client, notes)
        print("ready", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
