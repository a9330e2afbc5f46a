"""The command `replay lint`.

`lint/` beside this file has mistakes, and `lint/messages.txt` what is said of them.  After a change
that is meant: ``python -m tests.tools.test_lint --rewrite``.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
from pathlib import Path

import pytest

from replay.tools import cli, lint
from tests.ledger import ROOT

SEEDED = Path("tests/tools/lint")
GOLDEN = ROOT / SEEDED / "messages.txt"


def run(*paths: object) -> tuple[int, str, str]:
    """Exit code, output and errors of the command."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(["lint", *map(str, paths)])
    return code, out.getvalue(), err.getvalue()


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths are shown as seen from there."""
    monkeypatch.chdir(ROOT)


def test_v3_each_mistake_has_its_message() -> None:
    """V3: at least twenty mistakes, each with its line, why, and what to do instead."""
    code, out, err = run(SEEDED)
    assert (code, err) == (1, "")
    assert out == GOLDEN.read_text()
    mistakes = out.splitlines()[:-1]
    assert len(mistakes) >= 20
    for each in mistakes:
        assert re.fullmatch(r"tests/tools/lint/[a-z/]+\.py:\d+: .+: .+", each)
    assert all(any(reason in each for each in mistakes) for reason in set(lint._REASONS.values()))


def test_v3_what_is_fine_is_not_reported() -> None:
    """V3: what merely looks like a mistake."""
    assert run(SEEDED / "fine.py") == (0, "3 functions: no mistakes\n", "")


@pytest.mark.parametrize("folder", ["demo", "tutorial", "examples", "tests/scenario.py"])
def test_v3_no_false_alarm(folder: str) -> None:
    """V3: in programs that are right, and that have workflows."""
    code, out, err = run(folder)
    assert (code, err) == (0, "")
    assert re.fullmatch(r"[1-9]\d* functions?: no mistakes\n", out)


@pytest.mark.parametrize("text", ["README.md", "docs/walkthrough.md"])
def test_v3_no_false_alarm_in_texts(text: str, tmp_path: Path) -> None:
    """V3: each program in them is right."""
    programs = re.findall(r"^```python\n(.*?)^```", (ROOT / text).read_text(), re.M | re.S)
    for n, program in enumerate(programs):
        (tmp_path / f"program_{n}.py").write_text(program)
    assert programs
    assert run(tmp_path)[0] == 0


def test_v3_nothing_is_imported(tmp_path: Path) -> None:
    """V3: code that would fail, or do harm, is only read."""
    harm = tmp_path / "harm.py"
    harm.write_text("import replay\nopen('harm.txt', 'w')\nraise SystemExit\n")
    before = set(sys.modules)
    assert run(harm) == (0, "0 functions: no mistakes\n", "")
    assert set(sys.modules) == before
    assert not (ROOT / "harm.txt").exists()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"def (:\n", "is not Python that can be read: invalid syntax"),
        (b"x = '\xff'\n", "is not Python that can be read: "),
        (b"# coding: no-such\n", "is not Python that can be read: "),
        (b"x = 1\0\n", "is not Python that can be read: source code string cannot contain null"),
        (b"(" * 10_000, "is n"),
        (b"x = " + b"-" * 100_000 + b"1\n", "is nested too deeply to be read"),
        (b"x = a" + b".b" * 100_000 + b"\n", "is nested too deeply to be read"),
        (b"x = 1" + b" + 1" * 100_000 + b"\n", "is nested too deeply to be read"),
        (b"if 1:\n" + b"".join(b" " * n + b"if 1:\n" for n in range(1, 200)), "is not Python"),
        (b"#" * (1024 * 1024 + 1), "has more than 1048576 bytes: leave it out"),
    ],
)
def test_v3_hostile_files_are_refused(content: bytes, problem: str, tmp_path: Path) -> None:
    """V3: with exit code 2 and one sentence."""
    file = tmp_path / "hostile.py"
    file.write_bytes(content)
    code, out, err = run(file)
    assert (code, out) == (2, "")
    assert err.startswith(f"replay: {file} {problem}")
    assert err.count("\n") == 1


def test_v3_what_is_not_there_is_refused(tmp_path: Path) -> None:
    """V3: a mistyped path is no success."""
    code, _, err = run(tmp_path / "missing")
    assert code == 2
    assert err == f"replay: {tmp_path / 'missing'} is no file or folder\n"


def test_v3_deep_code_that_can_be_read_is_read(tmp_path: Path) -> None:
    """V3: without recursion of the linter's own."""
    file = tmp_path / "deep.py"
    sums = "{1}" + " | {1}" * 900
    lines = ["    x" + ".y" * 900, f"    for each in {sums}:", "        print(each)"]
    file.write_text("\n".join(["def flow(ctx: RunContext, message: str) -> None:", *lines]) + "\n")
    code, out, _ = run(file)
    assert code == 1
    assert "deep.py:3: the order of a set" in out


def test_v3_links_in_a_circle_end(tmp_path: Path) -> None:
    """V3: folders that hold themselves, and modules that import each other."""
    (tmp_path / "one.py").write_text(
        "from two import f\nfrom replay import RunContext\n"
        "def flow(ctx: RunContext, message: str) -> None:\n    f()\n"
    )
    (tmp_path / "two.py").write_text("from one import f\n")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert run(tmp_path) == (0, "1 function: no mistakes\n", "")


if __name__ == "__main__":
    if sys.argv[1:] != ["--rewrite"]:
        sys.exit(__doc__)
    GOLDEN.write_text(run(SEEDED)[1])
