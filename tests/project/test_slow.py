"""A run that leaves out slow tests says so in its last line."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SLOW = [
    f"tests/server/test_fuzz.py::test_g4_whatever_is_sent_is_answered_in_order[{kind}]"
    for kind in ("log", "bytes")
]


def test_the_last_line_counts_what_was_left_out() -> None:
    """It counts the slow tests of each file, which a worker of xdist has left out."""
    command = [sys.executable, "-m", "pytest", "-n", "1", "-m", "not slow", *SLOW]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == (
        "left to ./dev test --all: 2 tests: 2 of tests/server/test_fuzz.py"
    )
