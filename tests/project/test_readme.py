"""The README's programs run as they stand: each is pasted into a file of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
README = (ROOT / "README.md").read_text()
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
#: What the programs print, by a part of theirs.
PRINTED = {
    "def enrich": None,  # tests/project/test_docs.py
    "def buy": "12\n",
    "def refund": "approved by Ada\n",
    "def pay(": "GiveUp - not paid: the card has expired\n"
    "ConnectionError - not paid: the bank does not answer\n",
    "def broken": "shop/broken/run-1/0 1 ValueError: a bug\n",
    "def test_bill": "",
    "def total": "285\n",
    "late = ctx.begin": "tea was paid by Ada\n",
    "def trip": "gave back a room in Oslo\ncancelled ill\n",
    "ctx.patched": "tea in the air\n",
    "def every_hour": "0 1\n1 2\n2 3\n",
    "def publish": "run-1 greeting Hello World\n",
    "client.within(": "order 17 is on its way\n",
    "ctx.cursor": "120\n",
    "class Zip": "4000\n",
    "shards=8": "Hello World\n",
    "StringValue": "Hello World\n",
}
#: Programs in which something fails, which the library logs.
FAILING = ("def broken", "def pay(")
WORKER = "signal.sigwait"


def titled(program: str) -> str:
    """A name for a program: its functions."""
    return "-".join(re.findall(r"^def (\w+)", program, re.MULTILINE))


def pasted(program: str, folder: Path) -> list[str]:
    """The command that runs a program, as a newcomer would, with warnings as errors."""
    file = folder / "program.py"
    file.write_text(program)
    return [sys.executable, "-W", "error", str(file)]


def environment() -> dict[str, str]:
    """Where the library is."""
    return os.environ | {"PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize("program", [each for each in PROGRAMS if WORKER not in each], ids=titled)
def test_a_program_runs_as_pasted(program: str, tmp_path: Path) -> None:
    """It ends well, prints what the README says, and says nothing else."""
    for test in re.findall(r"^def (test_\w+)", program, re.MULTILINE):
        program += f"\n\n{test}()\n"
    done = subprocess.run(
        pasted(program, tmp_path),
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    logged = any(line in program for line in FAILING)
    assert (done.returncode, "" if logged else done.stderr) == (0, "")
    (printed,) = [text for line, text in PRINTED.items() if line in program]
    assert printed is None or done.stdout == printed


def test_the_worker_ends_when_it_is_told_to(tmp_path: Path) -> None:
    """L7: SIGTERM ends it in order: its exit status is 0."""
    (worker,) = (each for each in PROGRAMS if WORKER in each)
    ready = worker.replace(
        "    signal.sigwait", "    print('ready', flush=True)\n    signal.sigwait"
    )
    with subprocess.Popen(
        pasted(ready, tmp_path), cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_there_is_a_program_for_each_step_of_the_guide() -> None:
    """Workflow, activity, signal, failure, test and worker; and the recipes."""
    assert len(PROGRAMS) >= 10
