"""Renews the excerpts in guide/: `python docs/guide.py` rewrites those whose code has changed.

An excerpt is a block of code whose first line names its source:

    # replay/log.py Log.append

It begins and ends where the definition does.  A line of three dots leaves lines out, so an excerpt
consists of pieces.  To write one, give the first and the last line of each piece, and run this.
A test fails when an excerpt is not what the code says.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GUIDE = ROOT / "docs" / "guide"
DOTS = "..."
EXCERPT = re.compile(
    r"(?<=^```python\n)# (\S+\.py) (\S+)\n(.*?)(?=^```$)", re.DOTALL | re.MULTILINE
)


def page(text: str) -> str:
    """Return a page with its excerpts as the code has them now.  Raises `LookupError`."""
    return EXCERPT.sub(_excerpt, text)


def _excerpt(found: re.Match[str]) -> str:
    file, name, shown = found.groups()
    try:
        lines = definition((ROOT / file).read_text(encoding="utf-8"), name)
        return "\n".join([f"# {file} {name}", *renewed(shown.splitlines(), lines), ""])
    except LookupError as error:
        raise LookupError(f"{file} {name}: {error}: write this excerpt again") from None


def definition(text: str, name: str) -> list[str]:
    """Return the lines of a function, class, method or variable, as if it were at the top."""
    found = ast.parse(text).body
    for part in name.split("."):
        named = [each for each in found if part in _defined(each)]
        if not named:
            raise LookupError(f"there is no {name}")
        node = named[-1]  # behind its overloads
        found = getattr(node, "body", [])
    first = min(each.lineno for each in (node, *getattr(node, "decorator_list", [])))
    lines = text.splitlines()[first - 1 : node.end_lineno]
    return textwrap.dedent("\n".join(lines)).splitlines()


def _defined(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    for target in [*getattr(node, "targets", []), getattr(node, "target", None)]:
        if isinstance(target, ast.Name):
            yield target.id


def renewed(excerpt: Sequence[str], lines: Sequence[str]) -> list[str]:
    """Return the same pieces of the definition as it is now.  Raises `LookupError`."""
    cuts = [n for n, line in enumerate(excerpt) if line.strip() == DOTS]
    found: list[str] = []
    at = 0
    for start, end in zip([-1, *cuts], [*cuts, len(excerpt)], strict=True):
        if start >= 0:
            found.append(excerpt[start])
        if piece := excerpt[start + 1 : end]:
            first, at = _place(piece, lines, at, whole=(start < 0, end == len(excerpt)))
            found += lines[first:at]
    return found


def _place(
    piece: Sequence[str], lines: Sequence[str], at: int, *, whole: tuple[bool, bool]
) -> tuple[int, int]:
    """Find where a piece begins and ends; `whole`: where the definition begins, or ends."""
    begins, ends = whole
    starts = range(1 if begins else len(lines))
    for first in starts[at:]:
        after = first + len(piece)
        if lines[first:after] == piece and (not ends or after == len(lines)):
            return first, after
    first = 0 if begins else _line(piece[0], lines, at, at)
    last = len(lines) - 1 if ends else _line(piece[-1], lines, first, first + len(piece) - 1)
    return first, last + 1


def _line(line: str, lines: Sequence[str], start: int, expected: int) -> int:
    """Find a line from `start` on, or else the one most like it."""
    for like in (line, *get_close_matches(line, lines[start:], 1)):
        if places := [n for n in range(start, len(lines)) if lines[n] == like]:
            return min(places, key=lambda n: abs(n - expected))
    raise LookupError(f"nothing is like {line.strip()!r}")


if __name__ == "__main__":
    for path in sorted(GUIDE.glob("*.md")):
        path.write_text(page(path.read_text(encoding="utf-8")), encoding="utf-8")
