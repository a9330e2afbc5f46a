"""A breakage: a unified diff behind a header, applied by its lines and not by their numbers.

A header says on its first line what is broken, and behind ``Tests:`` the arguments for pytest that
are likely to notice it.  ``Needs: servers`` is for what SQLite cannot show.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent.parent


class DoesNotApply(Exception):
    """The lines that a patch changes are not there, or are there more than once."""


@dataclass(frozen=True)
class Patch:
    """A breakage."""

    name: str
    what: str
    tests: list[str]
    on_servers: bool
    hunks: list[tuple[str, str, str]]  # the file, its lines before and after

    @property
    def path(self) -> str:
        """Its file, from the root of the repository."""
        return f"tests/mutants/{self.name}.patch"

    @property
    def files(self) -> set[str]:
        """The files that it breaks, from the root of the repository."""
        return {file for file, _, _ in self.hunks}


def read(path: Path) -> Patch:
    """The breakage in a file."""
    header, _, diff = path.read_text().partition("\n--- ")
    what, *fields = header.splitlines()
    named = dict(field.split(": ", 1) for field in fields if ": " in field)
    return Patch(
        path.stem,
        what,
        shlex.split(named.get("Tests", "")),
        named.get("Needs") == "servers",
        [hunk for part in diff.split("\n--- ") for hunk in _hunks(part)],
    )


def _hunks(part: str) -> list[tuple[str, str, str]]:
    """The changes of one file: what follows its ``---``."""
    found = re.search(r"^\+\+\+ b/(\S+)", part, re.MULTILINE)
    if found is None:
        raise DoesNotApply("no line names the file")
    hunks = []
    for hunk in re.split(r"^@@ .*\n", part, flags=re.MULTILINE)[1:]:
        lines = [line or " " for line in hunk.splitlines(keepends=True)]
        before, after = (
            "".join(line[1:] for line in lines if line[0] in kinds) for kinds in (" -", " +")
        )
        hunks.append((found[1], before, after))
    return hunks


def apply(patch: Patch, root: Path) -> None:
    """Change the files below `root`.  Raises `DoesNotApply`."""
    for file, before, after in patch.hunks:
        text = (root / file).read_text()
        # Where a line begins; ahead, so that places that overlap count as two.
        places = [m.start() for m in re.finditer(f"^(?={re.escape(before)})", text, re.MULTILINE)]
        if len(places) != 1 or not before:
            raise DoesNotApply(f"{patch.name}: {file} has its lines {len(places)} times, not once")
        (root / file).write_text(text[: places[0]] + after + text[places[0] + len(before) :])


def patches() -> list[Patch]:
    """All of them, by name."""
    return [read(path) for path in sorted(FOLDER.glob("*.patch"))]
