"""The ten situations of docs/operations.md: stages them, and runs the commands that stand there.

    python -m tests.oncall --rewrite

Each console block of the page follows a comment that names a stage, a function below, which brings
the log into that situation.  Then the block's commands run, one after the other, and what they
print is what the page shows; processes and times may differ.  A block is left out while one of its
commands does not exist.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shlex
import socket
import sqlite3
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, chdir, closing, contextmanager, redirect_stderr, redirect_stdout
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

from replay import (
    ActivityContext,
    Event,
    RunContext,
    consume,
    register_activity,
    register_workflow,
)
from replay.storage.database import Database
from replay.storage.sqlite import Sqlite
from replay.tools import cli
from tests.support import Clock, drain, stepped

PAGE = Path(__file__).resolve().parent.parent / "docs" / "operations.md"
URL = "sqlite:///shop.db"
_BLOCK = re.compile(r"<!-- stage: (\w+) -->\n```console\n(.*?)```\n", re.DOTALL)
_TIME = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d+)?")
_SECRET = re.compile(r"(?<![\w-])[\w-]{43}$|\b[0-9a-f]{64}\b", re.MULTILINE)
_ARCHIVE = re.compile(r"archive/\S+")


def ship(ctx: ActivityContext, backends: None, item: str) -> str:
    return f"shipped {item}"


def charge(ctx: ActivityContext, backends: None, amount: int) -> str:
    return f"charged {amount}"


def order(ctx: RunContext, wanted: dict[str, Any]) -> str:
    """Charge, ask for an approval if it is much, ship."""
    amount = wanted["amount"]
    if not isinstance(amount, int):
        raise TypeError(f"amount: expected cents, got {amount!r}")
    ctx.exec_activity("charge", amount)
    if amount > 100_000:
        ctx.begin(ctx.signal(1)).result()
    ctx.exec_activity("ship", wanted["item"])
    return f"{wanted['item']} is on its way"


def shipped_first(ctx: RunContext, wanted: dict[str, Any]) -> str:
    """The same, after somebody has swapped two steps."""
    ctx.exec_activity("ship", wanted["item"])
    ctx.exec_activity("charge", wanted["amount"])
    return f"{wanted['item']} is on its way"


def print_nothing(event: Event) -> None:
    """Handle an event of a report that nobody reads any more."""


class Shop:
    """A shop in the working directory, and its workers."""

    def __init__(self) -> None:
        self._alive = ExitStack()
        self._clock = Clock(datetime.now(UTC).replace(microsecond=0))  # it stands still
        self._faults = ExitStack()
        self._hangs = threading.Event()

    def close(self) -> None:
        """End what hangs, and all workers."""
        self._faults.close()
        self._hangs.set()
        self._alive.close()

    def start(self, run: int, amount: Any, item: str = "a lamp") -> None:
        """Start a run."""
        with stepped(URL, self._clock) as client:
            assert client.run_workflow("shop", "order", str(run), {"amount": amount, "item": item})

    def work(
        self,
        *activities: Callable[..., Any],
        flow: Any = order,
        alive: bool = False,
        **options: Any,
    ) -> None:
        """Have a worker do all that it can do now; it then ends, unless it stays alive."""
        self._alive.close()  # one worker at a time
        client = self._alive.enter_context(stepped(URL, self._clock))
        consumers = [
            *client.loops(),
            register_workflow(client, "shop", flow, name="order", start=False),
        ]
        for activity in activities:
            consumers.append(register_activity(client, "shop", activity, start=False, **options))
        drain(*consumers)
        if not alive:
            self._alive.close()

    # The stages, in the order of the page.

    def stuck(self) -> None:
        """Nobody serves one of the activities any more."""
        self.start(1041, 1200)
        self.work(charge, ship)
        with stepped(URL, self._clock) as client:
            drain(consume(client, "old-report", print_nothing, start=False))
        self.start(1042, 250_000, "a piano")
        self.work(ship, alive=True)

    def waiting(self) -> None:
        """It is served again, and the run waits for its approval."""
        self.work(charge, ship)

    def approved(self) -> None:
        """The approval is there."""
        self.work(charge, ship)

    def poison(self) -> None:
        """A run got an input that its code cannot use."""
        self.start(1043, "12.00")
        self.work(charge, ship)

    def terminated(self) -> None:
        """The workers carry the termination out."""
        self.work(charge, ship)

    def lag(self) -> None:
        """Requests come faster than they are executed."""
        for run in range(1050, 1080):
            self.start(run, 900)
        self.work(ship, alive=True)

    def hang(self) -> None:
        """Two workers of an activity hang."""
        self.work(charge, ship)
        self.start(1080, 900)
        self.start(1081, 900)

        def waits(ctx: ActivityContext, backends: None, amount: int) -> str:
            self._hangs.wait()
            return f"charged {amount}"

        waits.__name__ = "charge"
        self.work(waits, alive=True, workers=2)

    def full(self) -> None:
        """The disk is full."""
        self._hangs.set()
        self.work(charge, ship)
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        self._faults.enter_context(patch.object(Sqlite, "_write", side_effect=error))

    def again(self) -> None:
        """The database is back, and nobody knows whether the last call was stored."""
        self._faults.close()

    def wrong(self) -> None:
        """Somebody has deployed a workflow whose steps are in another order."""
        self.start(1090, 900)
        self.work()
        self.work(charge, ship, flow=shipped_first)

    def rolled_back(self) -> None:
        """The code is the old one again."""

    def done(self) -> None:
        """The workers have done what was retried."""
        self.work(charge, ship)

    def token(self) -> None:
        """A token has to be replaced, with which somebody may have started runs."""

    def large(self) -> None:
        """Forty days have passed, and nothing has happened since."""
        later = datetime.now(UTC) + timedelta(days=40)
        self._faults.enter_context(patch.object(Database, "now", lambda _: later))

    def moved(self) -> None:
        """All workers are stopped."""
        self._faults.close()
        self._alive.close()


class Block:
    """A console block of the page: its stage, and its commands with what they print."""

    def __init__(self, found: re.Match[str]) -> None:
        self.stage, self.text = found[1], found[2]
        self.commands = re.findall(r"^\$ (.*(?:\\\n.*)*)$", self.text, re.MULTILINE)

    def is_known(self) -> bool:
        """Whether there are all these commands."""
        known = cli.make_parser().format_help()
        return all(
            re.search(rf"^    {words[1]}\b", known, re.MULTILINE) is not None
            for words in map(str.split, self.commands)
            if words[0] == "replay"
        )

    def run(self) -> str:
        """Run the commands, and return the block with what they print."""
        out, code = "", 0
        for command in self.commands:
            out += f"$ {command}\n"
            if command == "echo $?":
                out += f"{code}\n"
            else:
                code, printed = run(shlex.split(command.replace("\\\n", ""))[1:])
                out += printed
        return out


def run(arguments: Sequence[str]) -> tuple[int, str]:
    """Run a command; its exit code, and what it prints, errors last."""
    out, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(errors):
        code = cli.main(arguments)
    return code, out.getvalue() + errors.getvalue()


def blocks(page: str) -> list[Block]:
    """The blocks of the page that can be run."""
    return [block for block in map(Block, _BLOCK.finditer(page)) if block.is_known()]


def plain(text: str) -> list[str]:
    """A text without what differs each time: times, processes, secrets, widths of columns."""
    for pattern in (_TIME, _SECRET, _ARCHIVE):
        text = pattern.sub("…", text)
    return [" ".join(line.split()) for line in text.splitlines()]


def tidy(text: str) -> str:
    """A text as the page shows it: the names of a shop's machine."""
    return text.replace(f"{socket.gethostname()}:{os.getpid()}", "web-1:4711")


@contextmanager
def staged() -> Iterator[Shop]:
    """A shop in a directory of its own, which is the working directory."""
    with (
        tempfile.TemporaryDirectory() as directory,
        chdir(directory),
        patch.dict(os.environ, REPLAY_URL=URL),
        closing(Shop()) as shop,
    ):
        yield shop


def shown(page: str) -> Iterator[tuple[Block, str]]:
    """Each block, and what its commands print now."""
    with staged() as shop:
        stage = ""
        for block in blocks(page):
            if block.stage != stage:
                getattr(shop, stage := block.stage)()
            yield block, tidy(block.run())


def main() -> int:
    """Rewrite the page, or say which blocks differ."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--rewrite", action="store_true", help="put what they print in the page")
    arguments = parser.parse_args()
    page = PAGE.read_text()
    stale = [(block, now) for block, now in shown(page) if plain(block.text) != plain(now)]
    for block, now in stale:
        print(block.stage, "rewritten" if arguments.rewrite else "prints something else")
        page = page.replace(
            f"stage: {block.stage} -->\n```console\n{block.text}",
            f"stage: {block.stage} -->\n```console\n{now}",
        )
    if arguments.rewrite:
        PAGE.write_text(page)
    return 1 if stale and not arguments.rewrite else 0


if __name__ == "__main__":
    sys.exit(main())
