"""Scenarios leave the exact log that their files show, on every database."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ledger
from tests.scenario import FOLDER, BadScenario, perform

FILES = sorted(FOLDER.glob("*.txt"))
PORTING = (ledger.ROOT / "docs" / "porting.md").read_text()


def claimed(path: Path) -> tuple[list[str], str]:
    """The ids that a scenario's first line names, and what it says."""
    line = path.read_text().partition("\n")[0]
    found = re.fullmatch(r"# ((?:[A-Z]\d+, )*[A-Z]\d+): (.+)", line)
    assert found is not None, f"{path.name} begins with {line!r}"
    return found[1].split(", "), found[2]


@pytest.mark.damages
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_scenario_prints_what_its_file_shows(path: Path, url: str) -> None:
    """Each first line names its promises.

    L1, L3, L6, L8, L9, R1 to R7, R9, R11, A1 to A5, S1 to S5, O1, J1 to J3, E1 to E3, E7 to E9, N2,
    H1, H2, Q1, Q2, V2, V4, V5.

    After a change that is meant: ``python -m tests.scenario --rewrite``.
    """
    text = path.read_text()
    assert perform(url, text) == text


def test_scenarios_hold_the_promises_that_their_test_names() -> None:
    """The ids in the scenarios' first lines, all together, are those of the test that runs them."""
    named = {id for path in FILES for id in claimed(path)[0]}
    (test,) = (
        claim
        for claim in ledger.all_claims()
        if claim.name == test_a_scenario_prints_what_its_file_shows.__name__
    )
    assert named == test.ids


def test_the_guide_to_porting_lists_every_scenario() -> None:
    """Its table has each file, with the ids and the words of its first line, and no other."""
    rows = re.findall(r"^\| `(\w+\.txt)` \| (.*?) \| (.*?) \|$", PORTING, re.MULTILINE)
    expected = []
    for path in FILES:
        ids, words = claimed(path)
        expected.append((path.name, ", ".join(ids), words))
    assert sorted(rows) == expected


def test_the_guide_to_porting_names_scenarios_that_exist() -> None:
    """Each file of a scenario that a step names is there, and each is named by some step."""
    steps = PORTING.partition("\n## ")[2].partition("\n## Acceptance")[0]
    named = set(re.findall(r"`(\w+)\.txt`", steps))
    assert named == {path.stem for path in FILES}


def test_what_a_scenario_prints_can_be_rewritten(tmp_path: Path) -> None:
    """A file that shows something else is found; with the flag it is rewritten, once."""
    file = tmp_path / "scenario.txt"
    file.write_text('# A run.\nrun ns/greet/first "World"\nlog\n----\nno\n')

    def command(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "tests.scenario", *arguments, str(file)],
            cwd=ledger.ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stderr == ""
        return done.returncode, done.stdout

    assert command() == (1, "scenario.txt prints something else\n")
    assert command("--rewrite") == (0, "scenario.txt rewritten\n")
    assert file.read_text() == (
        '# A run.\nrun ns/greet/first "World"\nlog\n----\nyes\n'
        '1 +0.000s RUN_CREATED ns/greet/first/0 "World"\n'
    )
    assert command() == (0, "")


@pytest.mark.parametrize(
    ("commands", "problem"),
    [
        ("jump", "there is no command jump"),
        ("start replay_sleep\nstart replay_sleep", "replay_sleep is running already"),
        ("start replay_sleep\ncrash replay_sleep before", "replay_sleep has nothing to store"),
        ("start replay_sleep\ncursor replay_sleep 0", "only a cursor that nobody uses can be set"),
    ],
)
def test_a_scenario_that_cannot_be_performed_is_refused(
    commands: str, problem: str, tmp_path: Path
) -> None:
    """A command that makes no sense ends the scenario with the reason."""
    with pytest.raises(BadScenario, match=problem):
        perform(f"sqlite:///{tmp_path / 'replay.db'}", commands)
