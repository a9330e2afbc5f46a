"""The command `./dev tutorial engine`: lists, shows and checks the steps."""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from tutorial.checking import Claim
from tutorial.lessons import STATE, Lesson, Progress, overview, reset

FOLDER = Path(__file__).resolve().parent
LIMIT = 120  # Seconds for all claims of a step; each has a limit of its own.


class Step(Lesson):
    """One step: a lesson whose check runs the learner's file in a process of its own."""

    def module(self, name: str) -> ModuleType:
        """A module of the step."""
        return importlib.import_module(f"tutorial.engine.{self.folder.name}.{name}")


def find() -> list[Step]:
    """All steps, in order."""
    folders = sorted(FOLDER.glob("step_[0-9][0-9]_*"))
    return [Step(int(folder.name.split("_")[1]), folder) for folder in folders]


def probe(step: Step, file: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the claims of a step on a file, or its demonstration."""
    command = [sys.executable, "-m", "tutorial.engine.probe", step.folder.name, str(file), *options]
    with subprocess.Popen(
        command,
        cwd=FOLDER.parent.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            out, error = process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:  # The file has caught even the end of its time.
            process.kill()
            out, error = process.communicate()
    return subprocess.CompletedProcess(command, process.returncode, out, error)


def claims(step: Step, file: Path, *names: str) -> list[Claim]:
    """All claims about a file, or some; one more says if it cannot be run to the end."""
    done = probe(step, file, *names)
    found = [Claim(**json.loads(line)) for line in done.stdout.splitlines()]
    if done.returncode:
        last = done.stderr.strip().splitlines()[-2:] or ["its process was killed"]
        found.append(Claim("The file can be run to the end of its check.", False, "\n".join(last)))
    return found


def check(step: Step, file: Path) -> bool:
    """Print what holds, and the verdict with one hint last."""
    print(f"Checking {file.relative_to(FOLDER)}, in a process of its own.", flush=True)
    found = claims(step, file)
    for claim in found:
        print(f"  {'ok      ' if claim.holds else 'NOT YET '} {claim.text}")
    missing = [claim for claim in found if not claim.holds]
    if missing:
        print(f"\n{len(missing)} of {len(found)} do not hold yet. The first one:")
        print(f"  {missing[0].text}")
        print(*(f"  {line}" for line in missing[0].hint.splitlines()), sep="\n")
    return not missing


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The parsed command line."""
    parser = argparse.ArgumentParser(
        prog="./dev tutorial engine",
        description="Ten steps that build a durable workflow engine. Without arguments: where you "
        "stand. With a number: shows what goes wrong before the step, or right after it.",
    )
    parser.add_argument("step", type=int, nargs="?", choices=range(10), metavar="STEP")
    parser.add_argument("--solution", action="store_true", help="use solution.py, not start.py")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="say whether the step is done")
    what.add_argument(
        "--reset", action="store_true", help="write a fresh start.py; keep the old one"
    )
    args = parser.parse_args(arguments)
    if args.step is None and (args.check or args.reset or args.solution):
        parser.error("name a step")
    return args


def main(arguments: Sequence[str]) -> int:
    """Run the command; the exit code is 1 for a step not done yet, 2 for bad input."""
    args = parse(arguments)
    progress = Progress(STATE / "engine.json")
    if args.step is None:
        end = "All done: hold your engine against the scenarios, see tutorial/engine/README.md."
        overview(find(), progress, end)
        return 0
    step = find()[args.step]
    file = step.folder / ("solution.py" if args.solution else "start.py")
    if args.reset:
        reset(step, progress)
    elif args.check:
        if not check(step, file):
            return 1
        if not args.solution:
            progress.note(step, True)
        print(f"Step {step.number} is done.")
    else:
        done = probe(step, file, "--watch")
        print(done.stdout, *done.stderr.splitlines()[-3:], sep="\n", end="")
        return done.returncode
    return 0
