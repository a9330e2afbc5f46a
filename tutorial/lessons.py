"""The lessons, the learner's progress, and the run of each lesson that is under way.

The learner edits `start.py`.  It is generated from `solution.py`, which marks some places:

    # TODO(you): what to do here
    # instead: pass                   (only where Python needs a statement)
    ...                               (the code that the learner has to find)
    # done

The comment stays, and the code goes.  So the two files never drift apart, and you can get a fresh
`start.py` at any time.
"""

import hashlib
import importlib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

FOLDER = Path(__file__).resolve().parent
STATE = FOLDER.parent / ".tutorial"

#: A program of a lesson.  It gets the URL of a database and the name of its run.
Program = Callable[[str, str], None]


class NoSuchLesson(Exception):
    """There is no such lesson, or no such process of a lesson."""


def blanked(solution: str) -> str:
    """The text of `start.py`: `solution.py` without the code that the learner writes."""
    lines: list[str] = []
    state = "given"
    for line in solution.splitlines():
        text = line.strip()
        if text.startswith("# TODO(you)"):
            state = "asked"
        elif state == "asked" and text.startswith("# instead:"):
            line = "" if text == "# instead:" else line.replace("# instead: ", "")
        elif state == "asked" and not text.startswith("#"):
            state = "found"
        if state != "found":
            lines.append(line)
        elif text == "# done":
            state = "given"
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Lesson:
    """One lesson."""

    number: int
    folder: Path

    @property
    def title(self) -> str:
        """The name of the lesson, in words."""
        return self.folder.name.split("_", 2)[2].replace("_", " ")

    @property
    def start(self) -> Path:
        """The file that the learner edits."""
        return self.folder / "start.py"

    def module(self, name: str) -> ModuleType:
        """A module of the lesson."""
        return importlib.import_module(f"tutorial.{self.folder.name}.{name}")

    def programs(self, module: str) -> Mapping[str, Program]:
        """The programs to run: one for most lessons, one for each process for some."""
        found = self.module(module)
        programs: Mapping[str, Program] = getattr(found, "ROLES", None) or {"": found.main}
        return programs

    def fresh(self) -> str:
        """The text of `start.py` before the learner has begun."""
        return blanked((self.folder / "solution.py").read_text(encoding="utf-8"))

    def url(self) -> str:
        """The database that the lesson uses by default."""
        return f"sqlite:///{STATE / f'{self.number:02}.db'}"


def find() -> list[Lesson]:
    """All lessons, in order."""
    folders = sorted(FOLDER.glob("lesson_[0-9][0-9]_*"))
    return [Lesson(int(folder.name.split("_")[1]), folder) for folder in folders]


def lesson(number: int) -> Lesson:
    """The lesson of this number."""
    for each in find():
        if each.number == number:
            return each
    raise NoSuchLesson(f"there is no lesson {number}: ./dev tutorial lists them")


class Progress:
    """The lessons that are done and the number of runs that have ended, in a file."""

    def __init__(self, path: Path = STATE / "progress.json") -> None:
        self._path = path

    def state(self, lesson: Lesson) -> str:
        """The progress in a lesson: "", "begun" or "done"."""
        text = lesson.start.read_text(encoding="utf-8")
        if self._load().get(f"done {lesson.number}") == _digest(text):
            return "done"
        return "" if text == lesson.fresh() else "begun"

    def passed(self, lesson: Lesson) -> None:
        """Note that the present `start.py` passes the check."""
        self._store(f"done {lesson.number}", _digest(lesson.start.read_text(encoding="utf-8")))

    def run(self, lesson: Lesson, url: str) -> str:
        """The run to go on with, or the next one if the last has ended."""
        return f"run-{self._load().get(_runs(lesson, url), 0) + 1}"

    def ended(self, lesson: Lesson, url: str, run: str) -> None:
        """Note that the program has ended this run."""
        if match := re.fullmatch(r"run-(\d+)", run):
            self._store(_runs(lesson, url), int(match[1]))

    def _load(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return found

    def _store(self, name: str, value: str | int) -> None:
        self._path.parent.mkdir(exist_ok=True)
        text = json.dumps(self._load() | {name: value}, indent=2)
        new = self._path.with_suffix(f".{os.getpid()}")
        new.write_text(text, encoding="utf-8")
        new.replace(self._path)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _runs(lesson: Lesson, url: str) -> str:
    """The name under which the number of ended runs is stored; it hides a URL's password."""
    return f"ended {lesson.number} {_digest(url)[:16]}"
