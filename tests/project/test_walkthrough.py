"""The walkthrough and the picture show the code that there is."""

import os
import re
import runpy
import subprocess
import sys
from itertools import takewhile
from pathlib import Path

import pytest

from replay.storage.database import TABLES

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
WALKTHROUGH = (DOCS / "walkthrough.md").read_text()
PICTURE = DOCS / "architecture.svg"
#: The modules that a run's life leads through.
JOURNEY = {
    *("database", "event", "tail", "log", "consumer", "sleep", "signal"),
    *("client", "activity", "run", "workflow"),
}


def marked(name: str) -> str:
    """The code block between the comments of this name."""
    found = re.findall(rf"<!-- {name} -->\n```\w+\n(.*?)```", WALKTHROUGH, re.DOTALL)
    assert len(found) == 1
    return str(found[0])


def test_the_walkthrough_leads_through_the_journey() -> None:
    """Each module of a run's life is named with what it defines; tests/names.py looks that up."""
    assert set(re.findall(r"`(\w+)\.\w", WALKTHROUGH)) >= JOURNEY
    assert set(re.findall(r"^\d+\. \*\*(\w+)\.\*\*", WALKTHROUGH, re.MULTILINE)) == JOURNEY


def test_the_program_prints_the_log_that_the_walkthrough_shows(tmp_path: Path) -> None:
    """R2: nine events, as shown, and each is told of under a heading that names its id."""
    program = tmp_path / "order.py"
    program.write_text(marked("program"))
    done = subprocess.run(
        [sys.executable, "-W", "error", str(program)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(DOCS.parent)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", marked("output"))
    headings = " ".join(re.findall(r"^## Events? (.*):", WALKTHROUGH, re.MULTILINE))
    told = [int(id) for id in re.findall(r"\d+", headings)]
    assert told == [int(line.split()[0]) for line in done.stdout.splitlines()]


def test_the_picture_is_what_its_script_draws() -> None:
    """The picture has not gone stale: ``python docs/architecture.py`` rewrites it."""
    picture = runpy.run_path(str(DOCS / "architecture.py"))["picture"]
    assert PICTURE.read_text(encoding="utf-8") == picture()


def test_the_picture_names_what_exists() -> None:
    """Its modules are those of the library, and its tables those of the database."""
    words = re.findall(r">([\w.]+)<", PICTURE.read_text(encoding="utf-8"))
    modules = {word.removesuffix(".py") for word in words if word.endswith(".py")}
    assert modules == JOURNEY | {"host", "services", "remote"}
    assert {word for word in words if word.startswith("replay_")} == {*TABLES} - {"replay_meta"}


@pytest.mark.parametrize(("name", "most"), [("walkthrough.md", 200), ("porting.md", 320)])
def test_what_is_to_be_read_is_short(name: str, most: int) -> None:
    """An evening's first half hour: few lines, none of them very long.

    The exact facts are there to be looked up, so only the text before them counts.
    """
    lines = (DOCS / name).read_text().splitlines()
    assert len([*takewhile(lambda line: line != "## Exact facts", lines)]) < most
    assert max(map(len, lines)) <= 160
