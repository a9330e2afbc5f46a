"""The reference driver: this library, on SQLite.

docs/porting.md defines what a driver reads and writes.  This one leaves nothing out.
"""

from __future__ import annotations

import sys
import tempfile

from tests.scenario import Stage, expect_failures


def main() -> None:
    """Perform the commands that standard input has."""
    expect_failures()
    commands = sys.stdin.buffer.read().decode().splitlines()
    with tempfile.TemporaryDirectory() as folder, Stage(f"sqlite:///{folder}/replay.db") as stage:
        for command in commands:
            answer = "".join(f"{line}\n" for line in stage.do(command))
            sys.stdout.buffer.write(f"{answer}\n".encode())


if __name__ == "__main__":
    main()
