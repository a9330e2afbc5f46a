"""Drivers: what they print decides whether a scenario passes, in any language."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ledger
from tests.drivers.run import FOLDER, perform

PORTING = (ledger.ROOT / "docs" / "porting.md").read_text()
REFERENCE = f"{sys.executable} -m tests.drivers.reference"
TEXT = '# A run.\nrun ns/greet/first "World"\ndrain\nlog\n----\nyes\nnothing\n'
#: What the driver in JavaScript can do: the rest needs parts of replay that it leaves out.
STEPS = """
    crash_after_response crash_before_response cursor_set_back fan names one_activity replay_outputs
    run_twice signal_after signal_before signal_crash signal_order signal_timeout signal_twice sleep
"""


def command(driver: str, *names: str, folder: Path = ledger.ROOT) -> tuple[int, list[str], str]:
    """Perform scenarios as `./dev scenarios` does: the status, and what it prints."""
    done = subprocess.run(
        [ledger.ROOT / "dev", "scenarios", "--driver", driver, *names],
        cwd=folder,
        env=os.environ | {"PYTHON": sys.executable},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout.splitlines(), done.stderr


@pytest.fixture
def javascript() -> str:
    """The driver in JavaScript.  Without Node.js its tests fail: they are never skipped."""
    assert shutil.which("node"), "no Node.js: install it (Debian: apt-get install nodejs)"
    return f"node {Path(__file__).with_name('drivers') / 'steps.js'}"


def says(program: str) -> list[str]:
    """A driver in Python."""
    return [sys.executable, "-c", program]


@pytest.mark.slow
def test_the_reference_driver_passes_all_scenarios() -> None:
    """So the protocol tells a driver all that it has to know."""
    status, printed, errors = command(REFERENCE)
    names = sorted(path.stem for path in FOLDER.glob("*.txt"))
    end = f"{len(names)} passed, 0 left out, 0 failed"
    assert (printed, errors) == ([*(f"passed    {name}" for name in names), end], "")
    assert status == 0


def test_the_reference_driver_passes_a_scenario_that_is_named() -> None:
    """The fast part of the test above; a file's name will do as well."""
    ended = ["passed    sleep", "passed    names", "2 passed, 0 left out, 0 failed"]
    assert command(REFERENCE, "sleep", "names.txt") == (0, ended, "")


@pytest.mark.slow
def test_a_driver_in_javascript_passes_what_it_does_not_leave_out(
    javascript: str, tmp_path: Path
) -> None:
    """It shares nothing with this library, and is started where the caller is."""
    status, printed, errors = command(javascript, folder=tmp_path)
    assert errors == ""
    found = {line.split(": ")[0] for line in printed[:-1]}
    names = {path.stem for path in FOLDER.glob("*.txt")}
    left = {f"left out  {name}" for name in names - {*STEPS.split()}}
    assert found == {f"passed    {name}" for name in STEPS.split()} | left
    assert status == 0


@pytest.mark.slow
def test_the_guide_to_porting_shows_what_a_driver_writes(javascript: str) -> None:
    """Its example is a session of the driver in JavaScript."""
    (block,) = re.findall(r"\nExample, where .*\n\n((?: {4}.*\n)+)", PORTING)
    lines = [line[4:] for line in block.splitlines()]
    commands = "".join(f"{line[2:]}\n" for line in lines if line.startswith("> "))
    expected = [re.sub(r"^\(an empty line.*", "", line) for line in lines if line[0] != ">"]
    done = subprocess.run(javascript.split(), input=commands, capture_output=True, text=True)
    assert (done.stdout.splitlines(), done.stderr, done.returncode) == (expected, "", 0)


def test_a_driver_reads_the_commands_alone() -> None:
    """Comments, empty lines and what is expected are not told."""
    echo = "import sys; print(sys.stdin.read().splitlines())"
    found = perform(says(echo), TEXT)
    assert "+['run ns/greet/first \"World\"', 'drain', 'log']" in found.details


@pytest.mark.parametrize(
    ("printed", "status", "verdict", "why"),
    [
        (r"yes\n\n\nnothing\n\n", 0, "passed", ""),
        (r"yes\r\n\r\n\r\nnothing\r\n\r\n", 0, "passed", ""),
        (r"yes\n\n\nnothing\n\n", 3, "FAILED", "it ended with status 3"),
        (r"yes\n\n\nno\n\n", 0, "FAILED", "it printed something else"),
        (r"yes\n\n\n", 0, "FAILED", "it gave 2 answers to 3 commands"),
        (r"yes\n\n\nnothing\n\n\n", 0, "FAILED", "it gave 4 answers to 3 commands"),
        (r"yes\n\n\nnothing\n", 0, "FAILED", "it broke off its last answer"),
        (r"yes\n\n\nleft out: log\n", 0, "left out", "log"),
        (r"left out: run\n\n", 0, "left out", "run"),
        (r"left out: run\n", 1, "FAILED", "it ended with status 1"),
        (r"left out: run\n\n\nnothing\n\n", 0, "FAILED", "it printed something else"),
    ],
)
def test_what_a_driver_prints_is_compared_exactly(
    printed: str, status: int, verdict: str, why: str
) -> None:
    """One answer for each command, and no other text."""
    found = perform(says(f"print('{printed}', end=''); exit({status})"), TEXT)
    assert (found.verdict, found.why) == (verdict, why)


def test_a_failure_shows_where_the_texts_differ_and_what_went_wrong() -> None:
    """The commands are part of the text, so a reader sees after which one it happened."""
    program = r"import sys; print('no\n\n\nnothing\n'); sys.exit('it broke')"
    found = perform(says(program), TEXT)
    assert found.why == "it ended with status 1"
    assert found.details.splitlines() == [
        "--- the scenario",
        "+++ the driver",
        "@@ -3,5 +3,5 @@",
        " drain",
        " log",
        " ----",
        "-yes",
        "+no",
        " nothing",
        "it broke",
    ]


def test_a_driver_that_does_not_end_is_killed_with_all_that_it_has_started() -> None:
    """A shell that waits for a program would leave that program behind."""
    shell = ["sh", "-c", "echo yes; sleep 1000 & wait"]
    found = perform(shell, TEXT, timeout=0.1)
    assert (found.verdict, found.why) == ("FAILED", "it took longer than 0.1 s")


@pytest.mark.parametrize(
    ("driver", "names", "status", "end"),
    [
        ("echo left out: all", ["sleep"], 1, "0 passed, 1 left out, 0 failed"),
        ("echo left out: all", [], 1, "0 passed, 37 left out, 0 failed"),
        ("true", ["sleep"], 1, "0 passed, 0 left out, 1 failed"),
    ],
)
def test_the_command_succeeds_only_if_something_passes_and_nothing_fails(
    driver: str, names: list[str], status: int, end: str
) -> None:
    """A scenario that is named must not be left out, and not all of them."""
    count = len(list(FOLDER.glob("*.txt")))
    found, printed, errors = command(driver, *names)
    assert (found, printed[-1], errors) == (status, end.replace("37", str(count)), "")


@pytest.mark.parametrize(
    ("driver", "name", "problem"),
    [
        ("no-such-program", "sleep", "the driver cannot be started: .*'no-such-program'"),
        ("", "sleep", "the driver's command is empty"),
        ("true", "jump", "there is no scenario jump; there are activity_fails, .*"),
    ],
)
def test_what_cannot_be_performed_is_said(driver: str, name: str, problem: str) -> None:
    """With the status of a wrong call."""
    status, printed, errors = command(driver, name)
    assert (status, printed) == (2, [])
    assert re.fullmatch(f"./dev scenarios: error: {problem}", errors.splitlines()[-1])
