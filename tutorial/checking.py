"""The check of a lesson: it runs the program, kills it, runs it again, and reads the log.

A lesson's `check.py` has:

- `NAMESPACE`: the check reads the events of this namespace.
- `check`: it computes from these events what is done and what is missing.
- `KILL_AFTER`: the program is killed once after this number of events, as a power failure would do
  it. 0 means never.
"""

import contextlib
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import replay
from tutorial.lessons import FOLDER, Lesson

PATIENCE = 6.0  # Seconds without a new event, after which the check expects no more.
STARTING = 15.0  # The same for the first event: processes start slowly on a busy machine.
LIMIT = 40.0  # Seconds after which the check judges a program that still goes on.
PAUSE = 0.02


class Claim(NamedTuple):
    """A fact that the log has to show, and a hint for when it does not."""

    text: str
    holds: bool
    hint: str


def own(events: Sequence[replay.Event]) -> list[replay.Event]:
    """The events of the run that this check began; other runs may go on at the same time."""
    created = [event for event in events if event.type is replay.EventType.RUN_CREATED]
    runs = [event.key.run for event in created if event.key.iteration == 0]
    return [event for event in events if event.key.run in runs[:1]]


class Children:
    """The processes of one program."""

    def __init__(self, commands: Sequence[Sequence[str]], out: IO[bytes]) -> None:
        self._commands = commands
        self._out = out
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start them all."""
        for command in self._commands:
            process = subprocess.Popen(
                command, cwd=FOLDER.parent, stdout=self._out, stderr=subprocess.STDOUT
            )
            self._processes.append(process)

    def ended(self) -> bool:
        """Whether no more events will come: one process has failed, or all have ended."""
        codes = [process.poll() for process in self._processes]
        return any(codes) or None not in codes

    def end(self, number: signal.Signals) -> None:
        """Send them a signal, and wait until they have ended."""
        for process in self._processes:
            process.send_signal(number)
        for process in self._processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()


class Watch:
    """The events that a program adds to its log."""

    def __init__(self, client: replay.Client, namespace: str) -> None:
        self.events: list[replay.Event] = []
        self._client = client
        self._namespace = namespace
        newest = [event.id for event in client.stream(to_head=True)]
        self._after = max(newest, default=0)

    def until(self, enough: Callable[[], bool], children: Children) -> None:
        """Read until there is enough, no more events come, or the time is over."""
        begun = time.monotonic()
        quiet = begun + STARTING - PATIENCE
        while True:
            ended = children.ended()  # asked before reading, so that no event is missed
            new = list(self._client.stream(self._namespace, after=self._after, to_head=True))
            if new:
                self.events += new
                self._after = new[-1].id
                quiet = time.monotonic()
            now = time.monotonic()
            if enough() or ended or now - quiet > PATIENCE or now - begun > LIMIT:
                return
            time.sleep(PAUSE)


def commands(lesson: Lesson, module: str, url: str, run: str) -> list[list[str]]:
    """The commands that start the program, one for each of its processes."""
    common = [sys.executable, "-u", "-m", "tutorial", str(lesson.number)]
    options = ["--url", url, "--run", run, *(["--solution"] if module == "solution" else [])]
    return [
        [*common, *([role] if role else []), *options] for role in sorted(lesson.programs(module))
    ]


def examine(lesson: Lesson, module: str, url: str, out: IO[bytes]) -> Iterator[Claim]:
    """Run the program until it ends or passes its check, and yield what the log shows."""
    rules = lesson.module("check")
    run = f"check-{secrets.token_hex(3)}"
    children = Children(commands(lesson, module, url, run), out)
    with replay.connect(url, loops=False) as client:
        watch = Watch(client, rules.NAMESPACE)

        def done() -> bool:
            claims: list[Claim] = rules.check(watch.events)
            return all(claim.holds for claim in claims)

        try:
            children.start()
            if rules.KILL_AFTER:
                watch.until(lambda: len(watch.events) >= rules.KILL_AFTER, children)
                killed = not children.ended()
                children.end(signal.SIGKILL)
                if killed:
                    text = f"killed after {len(watch.events)} events, and started again"
                    yield Claim(text, True, "")
                children.start()
            watch.until(done, children)
        finally:
            children.end(signal.SIGINT)
    yield from rules.check(watch.events)


def check(lesson: Lesson, module: str, url: str | None) -> bool:
    """Print what is done and what is missing in a lesson; return whether all is done."""
    print(f"Checking {lesson.folder.name}/{module}.py on a log of its own.", flush=True)
    with tempfile.TemporaryDirectory(prefix="replay-tutorial-") as folder:
        fresh = f"sqlite:///{Path(folder) / 'check.db'}"
        with tempfile.TemporaryFile() as out:
            claims = list(examine(lesson, module, url or fresh, out))
            for claim in claims:
                print(f"  ok       {claim.text}" if claim.holds else f"  NOT YET  {claim.text}")
                if not claim.holds:
                    print(f"           {claim.hint}")
            holds = all(claim.holds for claim in claims)
            if not holds:
                out.seek(0)
                with contextlib.suppress(UnicodeDecodeError):
                    print("What the program printed:", out.read().decode(), sep="\n")
    return holds
