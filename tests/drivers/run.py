"""Performs the scenarios with a driver, which may be written in any language.

docs/porting.md defines what a driver reads and writes.  This needs Python alone, and no package, so
that you can run it beside your port.
"""

from __future__ import annotations

import argparse
import difflib
import os
import shlex
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "scenarios"
LEFT_OUT = "left out: "
_TIMEOUT = 60.0  # seconds that a scenario may take
_SHOWN = 2000  # characters of what a driver writes to standard error


def commands_of(text: str) -> list[str]:
    """The commands of a scenario, in their order."""
    return [command for block in _blocks(text) for command in block if not _is_comment(command)]


def with_answers(text: str, answers: Iterable[Sequence[str]]) -> str:
    """The scenario as it has to stand in its file if its commands print these lines."""
    shown, blocks = iter(answers), []
    for block in _blocks(text):
        printed = [
            line for command in block if not _is_comment(command) for line in next(shown, ())
        ]
        blocks.append("\n".join([*block, *(["----", *printed] if printed else [])]))
    return "\n\n".join(blocks) + "\n"


def _blocks(text: str) -> Iterator[list[str]]:
    for block in text.strip().split("\n\n"):
        yield block.partition("\n----")[0].splitlines()


def _is_comment(line: str) -> bool:
    return line.startswith("#")


@dataclass(frozen=True)
class Performance:
    """What a driver made of a scenario."""

    verdict: str  # passed, left out or FAILED
    why: str = ""
    details: str = ""


def perform(driver: Sequence[str], text: str, timeout: float = _TIMEOUT) -> Performance:
    """Have a driver perform a scenario, and compare the whole text.

    Raises `OSError` if the driver cannot be started.
    """
    commands = commands_of(text)
    status, (out, errors) = _run(driver, "".join(f"{each}\n" for each in commands), timeout)
    answers = list(_answers(out))
    if answers and answers[-1] and answers[-1][0].startswith(LEFT_OUT) and status == 0:
        return Performance("left out", answers[-1][0].removeprefix(LEFT_OUT))
    printed = with_answers(text, answers)
    if status is None:
        why = f"it took longer than {timeout:g} s"
    elif status:
        why = f"it ended with status {status}"
    elif out and not f"\n{out}".endswith("\n\n"):
        why = "it broke off its last answer"
    elif len(answers) != len(commands):
        why = f"it gave {len(answers)} answers to {len(commands)} commands"
    elif printed != text:
        why = "it printed something else"
    else:
        return Performance("passed")
    names = "the scenario", "the driver"
    diff = difflib.unified_diff(text.splitlines(), printed.splitlines(), *names, lineterm="")
    return Performance("FAILED", why, "\n".join([*diff, *errors[-_SHOWN:].splitlines()]))


def _answers(out: str) -> Iterator[list[str]]:
    """The lines that the driver wrote for each command."""
    answer: list[str] = []
    for line in out.splitlines():
        if line:
            answer.append(line)
        else:
            yield answer
            answer = []
    if answer:
        yield answer


def _run(driver: Sequence[str], commands: str, timeout: float) -> tuple[int | None, list[str]]:
    """Run a driver to its end.  Returns its status, None after a timeout, and what it wrote."""
    pipe = subprocess.PIPE
    with subprocess.Popen(driver, stdin=pipe, stdout=pipe, stderr=pipe, process_group=0) as process:
        try:
            written = process.communicate(commands.encode(), timeout)
        except BaseException as error:
            if process.returncode is None:  # it may have started other programs: kill these too
                os.killpg(process.pid, signal.SIGKILL)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            written = process.communicate()
            return None, _texts(written)
    return process.returncode, _texts(written)


def _texts(written: Iterable[bytes]) -> list[str]:
    return [each.decode(errors="replace").replace("\r\n", "\n") for each in written]


def main() -> int:
    """Perform scenarios with a driver; the exit status."""
    files = {path.stem: path for path in sorted(FOLDER.glob("*.txt"))}
    parser = argparse.ArgumentParser(prog="./dev scenarios", description=main.__doc__)
    parser.add_argument("--driver", metavar="COMMAND", required=True, help="starts the driver")
    parser.add_argument(
        "names", nargs="*", metavar="SCENARIO", help="one that must pass; otherwise all are tried"
    )
    arguments = parser.parse_args()
    names = [name.removesuffix(".txt") for name in arguments.names]
    if unknown := [name for name in names if name not in files]:
        parser.error(f"there is no scenario {unknown[0]}; there are {', '.join(files)}")
    if not (driver := shlex.split(arguments.driver)):
        parser.error("the driver's command is empty")
    verdicts = Counter[str]()
    for name in names or files:
        try:
            found = perform(driver, files[name].read_text(encoding="utf-8"))
        except OSError as error:
            parser.error(f"the driver cannot be started: {error}")
        verdicts[found.verdict] += 1
        print(f"{found.verdict:8}  {name}{found.why and ': '}{found.why}", flush=True)
        for line in found.details.splitlines():
            print(f"    {line}")
    left, failed = verdicts["left out"], verdicts["FAILED"]
    print(f"{verdicts['passed']} passed, {left} left out, {failed} failed")
    return 1 if failed or not verdicts["passed"] or (names and left) else 0


if __name__ == "__main__":
    sys.exit(main())
