"""Tries a file against a step: ``python -m tutorial.engine.probe STEP FILE [CLAIM]``.

It runs in a process of its own, because the file may hang, kill its process, or not be Python.
Each line of its output is a claim, as JSON.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tutorial.engine.faults import Died

LIMIT = 20  # Seconds for one claim.


class TooLong(BaseException):
    """A claim takes too long."""


def load(path: Path) -> Any:
    """The learner's file as a module."""
    spec = importlib.util.spec_from_file_location("engine", path)
    assert spec is not None
    assert spec.loader is not None
    engine = importlib.util.module_from_spec(spec)
    sys.modules["engine"] = engine
    spec.loader.exec_module(engine)
    return engine


def no_sleep(seconds: object, /) -> None:
    """Refuse to wait: a wait is no proof that something will not come."""
    raise AssertionError(f"the engine waits for {seconds} s, but a wait proves nothing")


def ring(*_: object) -> None:
    """End a claim that takes too long."""
    raise TooLong(f"it does not come to an end within {LIMIT} s")


def judged(claim: Callable[[Any, Path], None], engine: Any) -> dict[str, object]:
    """A claim's text, whether it holds, and a hint."""
    text, _, hint = (inspect.getdoc(claim) or "").partition("\n\n")
    saw = ""
    signal.alarm(LIMIT)
    try:
        with tempfile.TemporaryDirectory(prefix="engine-") as folder:
            claim(engine, Path(folder))
    except (Exception, TooLong, Died) as error:
        frames = traceback.extract_tb(error.__traceback__)
        at = [frame.lineno for frame in frames if frame.filename == engine.__file__]
        kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
        saw = f"{kind}{error}{f' (line {at[-1]})' if at else ''}"
    finally:
        signal.alarm(0)
    lines = [saw, *hint.split("\n")] if saw else []
    return {"text": " ".join(text.split()), "holds": not saw, "hint": "\n".join(lines)}


def main() -> int:
    """Judge each claim, or show what happens."""
    step, file, *names = sys.argv[1:]
    watch = names == ["--watch"]
    out = os.fdopen(os.dup(1), "w")
    if not watch:
        os.dup2(2, 1)  # The file may print, too.
    signal.signal(signal.SIGALRM, ring)
    time.sleep = no_sleep
    check = importlib.import_module(f"tutorial.engine.{step}.check")
    signal.alarm(LIMIT)
    try:
        engine = load(Path(file))
    except SyntaxError as error:
        print(
            f"line {error.lineno}: {error.msg}\n    {(error.text or '').strip()}", file=sys.stderr
        )
        return 2
    if watch:
        with tempfile.TemporaryDirectory(prefix="engine-") as folder:
            check.watch(engine, Path(folder))
        return 0
    for claim in [each for each in check.CLAIMS if not names or each.__name__ in names]:
        print(json.dumps(judged(claim, engine)), file=out, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
