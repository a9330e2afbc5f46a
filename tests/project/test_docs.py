"""The texts say what is so: the program, the map, the ids; tests/names.py looks up their names."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import replay
from replay.shard import fnv1a, jump_hash
from replay.signal import signal_hash

ROOT = Path(__file__).resolve().parent.parent.parent
README = ROOT / "README.md"
SEMANTICS = ROOT / "docs" / "semantics.md"
PROGRAM = ROOT / "examples" / "hello.py"
IDS = {"L": 12, "R": 11, "A": 5, "E": 11, "S": 5, "O": 2, "N": 3, "J": 5, "H": 3, "Q": 3, "T": 3}
IDS |= {"G": 6}
# Retention is L9; the audit promises nothing of its own.
FURTHER = ["Q5", "V1", "V2", "V3", "V4", "V5"]
NOT_KEPT: list[str] = []


def marked(name: str) -> str:
    """The code block of the README between the comments of this name."""
    pattern = rf"<!-- {name} -->\n```\w+\n(.*?)```\n<!-- /{name} -->"
    found = re.findall(pattern, README.read_text(), re.DOTALL)
    assert len(found) == 1
    return str(found[0])


def section(text: str, title: str) -> str:
    """What stands under a heading of the second level, up to the next."""
    return re.split(r"^## ", text.partition(f"\n## {title}\n")[2], flags=re.MULTILINE)[0]


def ids(text: str) -> list[str]:
    """The ids of the items of a list."""
    return re.findall(r"^- \*\*(.*?)\*\*", text, re.MULTILINE)


def test_the_readme_shows_the_example() -> None:
    """The program in the README is the file in examples, letter by letter."""
    assert marked("program") == PROGRAM.read_text()


def test_the_example_prints_what_the_readme_shows(tmp_path: Path) -> None:
    """It prints what the README shows, and the second time only that nothing was started."""
    command = [sys.executable, "-W", "error", str(PROGRAM)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    def run() -> str:
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    shown = marked("output")
    assert run() == shown
    assert run() == shown.replace("started: True", "started: False")


def test_the_map_has_every_module_once() -> None:
    """The README's map has each file at the top, and the modules of each folder."""
    rows = dict(re.findall(r"^\| `replay/(\S+)` \| (.*) \|$", README.read_text(), re.MULTILINE))
    top, folders = ROOT / "replay", ("storage", "server", "tools")
    files = {path.name for path in top.glob("[!_]*.py")}
    assert sorted(rows) == sorted(files | {f"{folder}/" for folder in folders})
    for folder in folders:
        modules = [path.stem for path in (top / folder).glob("[!_]*.py")]
        assert sorted(re.findall(r"`(\w+)`", rows[f"{folder}/"])) == sorted(modules)


def test_the_readme_names_all_that_is_public() -> None:
    """Each public name stands in code somewhere in the README."""
    text = README.read_text()
    code = "\n".join(re.findall(r"^```python\n.*?^```$|`[^`\n]+`", text, re.DOTALL | re.MULTILINE))
    assert [name for name in replay.__all__ if not re.search(rf"\b{name}\b", code)] == []


def test_the_errors_in_the_readme_exist() -> None:
    """Each error in the README's table is an `Error` of the module that it is said to be in."""
    rows = re.findall(r"^\| (`.*?) \|", section(README.read_text(), "Errors"), re.MULTILINE)
    for row in rows:
        home: object = replay
        for name in re.findall(r"`(.*?)`", row):
            module, _, error = name.rpartition(".")
            if module and module != "replay":
                home = importlib.import_module(f"replay.{module}")
            found = getattr(home, error)
            assert issubclass(found, replay.Error), name


def test_the_ids_are_all_there_once() -> None:
    """The semantics have each id once, and no other."""
    expected = [f"{letter}{n}" for letter, last in IDS.items() for n in range(1, last + 1)]
    assert sorted(ids(SEMANTICS.read_text())) == sorted(expected + FURTHER)


def test_what_is_not_kept_stands_apart() -> None:
    """The ids of what is not kept yet stand under the heading that says so, and no others do."""
    assert ids(section(SEMANTICS.read_text(), "Not kept yet")) == NOT_KEPT


def test_the_examples_of_hashes_are_right() -> None:
    """The hashes that the texts give as examples are those that the library makes."""
    stated = re.findall(r"\b[0-9a-f]{64}\b", (ROOT / "docs" / "format.md").read_text())
    assert stated == [signal_hash("ns", "wf", "run", 7, "x")[:32].hex()]
    assert f'jump_hash(fnv1a(b"run-0"), 4)` is {jump_hash(fnv1a(b"run-0"), 4)}.' in (
        SEMANTICS.read_text()
    )
