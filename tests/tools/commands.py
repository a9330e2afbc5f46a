"""Golden command lines: files with commands, what they print, and their exit codes.

``python -m tests.tools.commands --rewrite`` writes what the commands in the files print now.  Look
at the difference before you commit it.
"""

import contextlib
import io
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from replay.tools import cli
from tests.tools import shop

GOLDEN = Path(__file__).parent / "golden"


def run(line: str, url: str) -> str:
    """Run a command line here; what it prints, errors behind a !, and its exit code."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", newline="") for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = cli.main([*shlex.split(line), "--url", url])
        except SystemExit as end:  # of argparse
            code = int(end.code or 0)
    printed, errors = (_content(each) for each in (out, err))
    shown = [*printed, *(f"! {each}" for each in errors), f"[{code}]"]
    return _neutral("\n".join(shown) + "\n")


def _content(stream: io.TextIOWrapper) -> list[str]:
    stream.flush()
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    text = buffer.getvalue().decode()
    assert not text or text.endswith("\n")
    return text.removesuffix("\n").split("\n") if text else []


def _neutral(text: str) -> str:
    """A text without the name of the log."""
    return re.sub(r"\b(sqlite|mysql|grpcs?)://\S*", "URL", text)


def again(text: str, url: str) -> Iterator[str]:
    """A file as it would be now: each command, and what it prints."""
    for line in text.splitlines():
        if line.startswith("# "):
            yield f"{line}\n"
        if line.startswith("$ replay "):
            yield f"{line}\n{run(line.removeprefix('$ replay '), url)}\n"


def _rewrite() -> None:
    for file in sorted(GOLDEN.glob("*.txt")):
        with tempfile.TemporaryDirectory() as folder:
            url = f"sqlite:///{folder}/replay.db"
            shop.fill(url)
            file.write_text("".join(again(file.read_text(), url)))


if __name__ == "__main__":
    if sys.argv[1:] != ["--rewrite"]:
        sys.exit(__doc__)
    _rewrite()
