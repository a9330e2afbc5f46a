"""Which tests hold which promise: those whose docstring names its id.

`docs/semantics.md` lists the promises, `docs/pitfalls.md` what has gone wrong in other systems.  An
id there needs a test that `./dev test` runs, unless its heading begins with "Not"; and a test may
name no other id.  A docstring names ids one by one, or as a range: "S2 to S4".

Tests are read, not imported: so this runs on any Python, without what the tests need.
"""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LISTS = (ROOT / "docs" / "semantics.md", ROOT / "docs" / "pitfalls.md")
#: The fixtures that give a database, and what a test runs on that takes one: see conftest.py.
BACKENDS = {"url": "SQLite and servers", "server_url": "servers", "own_server": "a server to kill"}
#: What it runs on that takes none: SQLite that it opens itself, or no database at all.
ITS_OWN = "SQLite or nothing"

_ITEM = re.compile(r"^- \*\*([A-Z]\d+)\*\* +(.*(?:\n +\S.*)*)", re.MULTILINE)
_ID = re.compile(r"\b([A-Z])(\d{1,2})\b(?:(?: to |-)\1(\d{1,2})\b)?")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Promise:
    """An item of one of the lists."""

    id: str
    text: str  # its first sentence
    kept: bool


@dataclass(frozen=True)
class Claim:
    """A test, and the ids that it names."""

    file: str
    name: str
    ids: frozenset[str]
    backend: str
    slow: bool = False  # left out by ./dev test


def promises(text: str) -> list[Promise]:
    """The items of a list, in its order."""
    found = []
    for section in re.split(r"^#+ ", text, flags=re.MULTILINE):
        for id, item in _ITEM.findall(section):
            sentence = re.split(r"(?<=\.) ", " ".join(item.split()))[0]
            found.append(Promise(id, sentence, not section.startswith("Not ")))
    return found


def named(text: str) -> frozenset[str]:
    """The ids that a docstring names."""
    found = set()
    for letter, first, last in _ID.findall(text):
        found |= {f"{letter}{n}" for n in range(int(first), int(last or first) + 1)}
    return frozenset(found)


def functions(source: str) -> list[Function]:
    """The functions of a module and of its classes."""
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, Function)]


def takes(made: Function) -> list[str]:
    """The names of a function's parameters: to pytest, of fixtures."""
    return [each.arg for each in (*made.args.posonlyargs, *made.args.args, *made.args.kwonlyargs)]


def backend(test: Function, fixtures: Mapping[str, Function]) -> str:
    """What a test runs on, by the fixtures that it takes, and that those take in turn."""
    asked, seen = takes(test), set[str]()
    while asked:
        name = asked.pop()
        if name in BACKENDS:
            return BACKENDS[name]
        if name in fixtures and name not in seen:
            asked += takes(fixtures[name])
        seen.add(name)
    return ITS_OWN


def claims(source: str, file: str) -> list[Claim]:
    """The tests of a module."""
    found = functions(source)
    fixtures = {
        made.name: made
        for made in found
        if any("fixture" in ast.unparse(decorator) for decorator in made.decorator_list)
    }
    return [
        Claim(
            file,
            test.name,
            named(ast.get_docstring(test) or ""),
            backend(test, fixtures),
            any(ast.unparse(mark) == "pytest.mark.slow" for mark in test.decorator_list),
        )
        for test in found
        if test.name.startswith("test_")
    ]


def all_promises() -> list[Promise]:
    """What the project's two lists have."""
    return [each for path in LISTS for each in promises(path.read_text())]


def all_claims() -> list[Claim]:
    """The project's tests."""
    folder = ROOT / "tests"
    return [
        claim
        for path in sorted(folder.rglob("test_*.py"))
        for claim in claims(path.read_text(), str(path.relative_to(folder)))
    ]


def problems(listed: Sequence[Promise], made: Iterable[Claim]) -> list[str]:
    """What is wrong: an id without a test that is not slow, an id in a test but in no list."""
    tests, known = list(made), {each.id for each in listed}
    tested = set[str]().union(*(test.ids for test in tests if not test.slow))
    slow = set[str]().union(*(test.ids for test in tests))
    untested = [
        f"{'only a slow' if p.id in slow else 'no'} test names {p.id}: {p.text}"
        for p in listed
        if p.kept and p.id not in tested
    ]
    unknown = [
        f"{test.file}: {test.name} names {id}, which is in no list"
        for test in tests
        for id in sorted(test.ids - known)
    ]
    return untested + unknown


def table(listed: Iterable[Promise], made: Sequence[Claim]) -> str:
    """For each promise how many tests there are, on what they run, and their names."""
    lines = []
    for promise in listed:
        tests = [test for test in made if promise.id in test.ids]
        count = f"{len(tests)} test{'s' * (len(tests) != 1)}"
        lines.append(f"{promise.id:4}{promise.text}")
        if not promise.kept:
            count += ", not kept by this version"
        runs = Counter(test.backend for test in tests)
        on = ", ".join(f"{n} on {backend}" for backend, n in runs.most_common())
        lines.append(f"    {count}{': ' if on else ''}{on}")
        files: dict[str, list[str]] = defaultdict(list)
        for test in tests:
            files[test.file].append(
                test.name.removeprefix("test_").removeprefix(f"{promise.id.lower()}_")
            )
        for file, names in files.items():
            lines += textwrap.wrap(
                f"{file}: {', '.join(names)}",
                100,
                initial_indent=" " * 6,
                subsequent_indent=" " * 8,
            )
    return "\n".join(lines)


def main(wanted: Sequence[str]) -> int:
    """Print the table, of all ids or of those wanted; 1 if something is wrong with the ledger."""
    listed, made = all_promises(), all_claims()
    if unknown := {*wanted} - {each.id for each in listed}:
        print(f"there is no {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    print(table([each for each in listed if not wanted or each.id in wanted], made))
    wrong = problems(listed, made)
    for problem in wrong:
        print(problem, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
