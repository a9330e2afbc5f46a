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
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
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


def hints(solution: str) -> list[str]:
    """The hints of a lesson: for each TODO(you) first the names that it needs, then the code."""
    found: list[str] = []
    places = re.findall(r"^ *# TODO\(you\): .*?^ *# done$", solution, re.DOTALL | re.MULTILINE)
    for number, place in enumerate(places, 1):
        text = textwrap.dedent(place).splitlines()
        code = [line for line in text if not line.lstrip().startswith("#")]
        calls = dict.fromkeys(re.findall(r"[\w.]+(?=\()", "\n".join(code)))
        title = f"TODO {number} of {len(places)}"
        lines = f"{len(code)} line{'s' * (len(code) != 1)}"
        found.append(f"{title}: {lines}, with {', '.join(calls) or 'no call'}.")
        found.append("\n".join((f"{title}:", *(f"    {line}" for line in code))))
    return found


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

    def attempt(self, name: str) -> str:
        """The module of an experiment; it begins as a copy of `start.py`.

        Raises `NoSuchLesson` for a name that cannot be part of a file's name.
        """
        if not re.fullmatch(r"[a-z0-9_]{1,40}", name):
            raise NoSuchLesson(f"--try {name}: use up to 40 small letters, digits and underscores")
        path = self.folder / f"try_{name}.py"
        if not path.exists():
            path.write_bytes(self.start.read_bytes())
            print(f"{path.relative_to(FOLDER.parent)} is a copy of start.py: edit it.", flush=True)
        return path.stem

    def option(self, module: str) -> list[str]:
        """The option that chooses a module of `programs`."""
        if module.startswith("try_"):
            return ["--try", module.removeprefix("try_")]
        return ["--solution"] if module == "solution" else []

    def hints(self) -> list[str]:
        """The hints, one step after the other."""
        return hints((self.folder / "solution.py").read_text(encoding="utf-8"))

    def untouched(self) -> bool:
        """Whether the learner has not begun."""
        return self.start.read_text(encoding="utf-8") == self.fresh()

    def reset(self) -> Path | None:
        """Write a fresh `start.py`; return where the old one is kept, if it was edited."""
        kept = None
        if not self.untouched():
            STATE.mkdir(exist_ok=True)
            names = (STATE / f"{self.number:02}-start-{n}.py" for n in count(1))
            kept = next(path for path in names if not path.exists())
            kept.write_bytes(self.start.read_bytes())
        self.start.write_text(self.fresh(), encoding="utf-8")
        return kept

    def fresh(self) -> str:
        """The text of `start.py` before the learner has begun."""
        return blanked((self.folder / "solution.py").read_text(encoding="utf-8"))

    def url(self, module: str = "start") -> str:
        """The database that the lesson uses by default: one of its own for each experiment."""
        name = f"{self.number:02}-{module}" if module.startswith("try_") else f"{self.number:02}"
        return f"sqlite:///{STATE / name}.db"


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
        """The progress in a lesson: "", "begun" or "done".  It stays done until a reset."""
        if self._load().get(f"done {lesson.number}"):
            return "done"
        return "" if lesson.untouched() else "begun"

    def note(self, lesson: Lesson, done: bool) -> None:
        """Note that `start.py` has passed its check, or that the lesson begins again."""
        self._store(f"done {lesson.number}", done)

    def hinted(self, lesson: Lesson, number: int | None = None) -> int:
        """How many hints the learner has seen; note a new number."""
        name = f"hints {lesson.number}"
        if number is not None:
            self._store(name, number)
        seen: int = self._load().get(name, 0)
        return seen

    def run(self, lesson: Lesson, url: str) -> str:
        """The run to go on with, or the next one if the last has ended."""
        return f"run-{self._load().get(_runs(lesson, url), 0) + 1}"

    def ended(self, lesson: Lesson, url: str, run: str) -> None:
        """Note that the program has ended this run."""
        if match := re.fullmatch(r"run-(\d+)", run):
            name = _runs(lesson, url)
            self._store(name, max(int(match[1]), self._load().get(name, 0)))

    def _load(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return found

    def _store(self, name: str, value: int) -> None:
        self._path.parent.mkdir(exist_ok=True)
        text = json.dumps(self._load() | {name: value}, indent=2)
        new = self._path.with_suffix(f".{os.getpid()}")
        new.write_text(text, encoding="utf-8")
        new.replace(self._path)


def overview(lessons: Sequence[Lesson], progress: Progress, end: str) -> None:
    """Print how far the learner is, and name the next lesson; `end` stands behind the last."""
    states = [(each, progress.state(each)) for each in lessons]
    width = max(len(each.title) for each in lessons) + 1
    for each, state in states:
        print(f"{each.number:3}  {each.title:{width}} {state}".rstrip())
    left = [each for each, state in states if state != "done"]
    if left:
        print(f"\nNext: read {left[0].folder.relative_to(FOLDER.parent)}/README.md")
    else:
        print(f"\n{end}")


def reset(lesson: Lesson, progress: Progress) -> None:
    """Write a fresh `start.py`, and keep the old one."""
    if (kept := lesson.reset()) is not None:
        print(f"Your old file is {kept.relative_to(FOLDER.parent)}.")
    progress.note(lesson, False)
    progress.hinted(lesson, 0)
    print(f"{lesson.start.relative_to(FOLDER.parent)} is as it was at the beginning.")


def _runs(lesson: Lesson, url: str) -> str:
    """The name under which the number of ended runs is stored; it hides a URL's password."""
    return f"ended {lesson.number} {hashlib.sha256(url.encode()).hexdigest()[:16]}"
