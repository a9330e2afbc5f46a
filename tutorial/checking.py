"""The check of a lesson: it runs the program, kills it, runs it again, and reads the log.

A lesson's `check.py` has:

- `NAMESPACE`: the check reads the events of this namespace.
- `check`: it computes from these events what is done and what is missing.
- `KILLS`: the moments at which the program is killed, one after the other, as a power failure would
  do it.  Each is the moment that the lesson is about: there a wrong answer loses or doubles
  something.

It may also have:

- `prepare(client, run)`: does something before the program starts.
- `LAST`: a process that starts later than the others.
- `ROLES`: the processes that the check starts; by default all.
- `enough(events)`: whether a program that never ends has gone on for long enough to be judged.
- `look(ran)`: looks at what the log does not show.
"""

import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import replay
from replay.tools.lint import Linter
from tutorial.lessons import FOLDER, Lesson

PATIENCE = 4.0  # Seconds without a new event, after which the check expects no more.
LIMIT = 60.0  # Seconds after which the check judges a program that still goes on.
QUIET = 2.0  # Seconds in which nobody may do the work of the process that starts last.
PAUSE = 0.02
STEP = 0.1  # Seconds that a pause counts at most: a machine that was suspended does not count.
TAIL = 10  # Lines of the program's output that a failed check shows.

Seen = Callable[[Sequence[replay.Event]], bool]


class Claim(NamedTuple):
    """A fact that the log has to show, and a hint for when it does not."""

    text: str
    holds: bool
    hint: str


class Kill(NamedTuple):
    """A moment at which the check kills the program: its name, and the events that show it."""

    when: str
    reached: Seen


class Last(NamedTuple):
    """A process that starts when there is work for it; until then nobody may do its work."""

    role: str
    needed: Seen
    done: Seen


class Ran(NamedTuple):
    """A program that has run, and what it left beside its events."""

    client: replay.Client
    run: str
    printed: str


def asked(target: str, sequence: str = "0") -> Seen:
    """Whether a run has asked for this: an activity, or `replay_signal` with TYPE:COUNT."""
    return _has(replay.EventType.ACTIVITY_REQUEST, target, sequence)


def answered(target: str, sequence: str = "0") -> Seen:
    """Whether the response to this is in the log."""
    return _has(replay.EventType.ACTIVITY_RESPONSE, target, sequence)


def _has(type: replay.EventType, target: str, sequence: str) -> Seen:
    wanted = (type, target, sequence)
    return lambda events: any((e.type, *e.key[4:]) == wanted for e in events)


def own(events: Sequence[replay.Event]) -> list[replay.Event]:
    """The events of the run that this check began; other runs may go on at the same time."""
    created = [event for event in events if event.type is replay.EventType.RUN_CREATED]
    runs = [event.key.run for event in created if event.key.iteration == 0]
    return [event for event in events if event.key.run in runs[:1]]


class Children:
    """The processes of one program, by role."""

    def __init__(self, commands: Mapping[str, Sequence[str]], out: IO[bytes]) -> None:
        self._commands = commands
        self._out = out
        self._begin = 0  # of what they print, in `out`
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, without: str | None = None) -> None:
        """Start all that do not run yet, but for one role."""
        if not self._processes:
            self._begin = os.fstat(self._out.fileno()).st_size
        for role, command in self._commands.items():
            if role not in (*self._processes, without):
                self._processes[role] = self.open(command)

    def open(self, command: Sequence[str]) -> "subprocess.Popen[bytes]":
        """Start one."""
        return subprocess.Popen(
            command, cwd=FOLDER.parent, stdout=self._out, stderr=subprocess.STDOUT
        )

    def starting(self) -> bool:
        """Whether one still starts: it has not printed yet which lesson it is."""
        size = os.fstat(self._out.fileno()).st_size - self._begin
        printed = os.pread(self._out.fileno(), size, self._begin)  # They share the place to write.
        return len(re.findall(rb"^Lesson \d", printed, re.MULTILINE)) < len(self._processes)

    def ended(self) -> bool:
        """Whether no more events will come: one process has failed, or all have ended."""
        codes = [process.poll() for process in self._processes.values()]
        return any(codes) or None not in codes

    def end(self, number: signal.Signals) -> None:
        """Send them a signal, and wait until they have ended."""
        for process in self._processes.values():
            process.send_signal(number)
        for process in self._processes.values():
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
        self._over = False

    def until(self, enough: Seen, children: Children, patience: float = PATIENCE) -> bool:
        """Read until there is enough, no more events come, or the time is over.

        `patience` is for the first new event, in seconds.  It is not spent on the start of a
        process, which takes long on a busy machine.  Return whether there is enough.
        """
        left, quiet = LIMIT, 0.0 if self._over else patience
        last = time.monotonic()
        found = enough(self.events)
        while not found:
            starting, ended = children.starting(), children.ended()  # before it reads the rest
            if new := list(self._client.stream(self._namespace, after=self._after, to_head=True)):
                self.events += new
                self._after = new[-1].id
                quiet = PATIENCE
                found = enough(self.events)
            if ended or quiet <= 0 or left <= 0:
                self._over = not found and patience == PATIENCE
                break
            time.sleep(PAUSE)
            step = min(time.monotonic() - last, STEP)
            last = time.monotonic()
            quiet, left = quiet - step * (not starting), left - step
        return found


def commands(lesson: Lesson, module: str, url: str, run: str) -> dict[str, list[str]]:
    """The commands that start the program, one for each of its processes."""
    common = [sys.executable, "-u", "-m", "tutorial", str(lesson.number)]
    options = ["--url", url, "--run", run, *lesson.option(module)]
    return {
        role: [*common, *([role] if role else []), *options]
        for role in sorted(getattr(lesson.module("check"), "ROLES", lesson.programs(module)))
    }


def examine(
    lesson: Lesson, module: str, url: str, out: IO[bytes], program: type[Children] = Children
) -> Iterator[Claim]:
    """Run the program until it ends or passes its check, and yield what it has shown."""
    rules = lesson.module("check")
    run = f"check-{secrets.token_hex(3)}"
    children = program(commands(lesson, module, url, run), out)

    def done(events: Sequence[replay.Event]) -> bool:
        enough: Seen = getattr(rules, "enough", lambda _: False)
        return enough(events) or all(claim.holds for claim in rules.check(events))

    text = deterministic(lesson, module)
    yield text
    if not text.holds:
        return  # Its next run may do something else.
    with replay.connect(url, loops=False) as client:
        watch = Watch(client, rules.NAMESPACE)
        if hasattr(rules, "prepare"):
            rules.prepare(client, run)
        try:
            if hasattr(rules, "LAST"):
                yield idle(rules.LAST, watch, children)
            yield from killed(rules.KILLS, watch, children)
            watch.until(done, children)
        finally:
            children.end(signal.SIGINT)
        yield from rules.check(watch.events)
        if hasattr(rules, "look"):
            out.seek(0)
            yield from rules.look(Ran(client, run, out.read().decode(errors="replace")))


def deterministic(lesson: Lesson, module: str) -> Claim:
    """Whether the text of the workflows shows anything that a replay would do differently."""
    path = lesson.folder / f"{module}.py"
    linter = Linter()
    linter.check(path)
    found = [f"{path.name}, line {line}: {text}" for _, line, text in sorted(linter.findings)]
    text = "the text of the workflows has nothing that a replay would do differently"
    return Claim(text, not found, "".join(found[:1]))


def idle(last: Last, watch: Watch, children: Children) -> Claim:
    """Start all processes but one; its work has to wait for it."""
    children.start(without=last.role)
    if watch.until(last.needed, children):
        watch.until(last.done, children, patience=QUIET)
    return Claim(
        f"without the process `{last.role}` its work waits in the log",
        not last.done(watch.events),
        f"another process has done it: only `{last.role}` may register it",
    )


def killed(kills: Sequence[Kill], watch: Watch, children: Children) -> Iterator[Claim]:
    """Start the program, and kill it at each of these moments; leave it running."""
    children.start()
    for kill in kills:
        if not watch.until(kill.reached, children):
            break  # The claims say what is missing.
        children.end(signal.SIGKILL)
        yield Claim(f"killed when {kill.when}, and started again", True, "")
        children.start()


def check(lesson: Lesson, module: str, url: str | None, output: bool = False) -> bool:
    """Print what is done and what is missing in a lesson; return whether all is done.

    The verdict comes last, with the first hint.  `output` adds the other hints, and all that the
    program printed.
    """
    print(f"Checking {lesson.folder.name}/{module}.py on a log of its own.", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="replay-tutorial-") as folder,
        tempfile.TemporaryFile() as out,
    ):
        fresh = f"sqlite:///{Path(folder) / 'check.db'}"
        claims = list(examine(lesson, module, url or fresh, out))
        out.seek(0)
        printed = out.read().decode(errors="replace").splitlines()
    missing = [claim for claim in claims if not claim.holds]
    if output or missing:
        print("The program printed:" if output else f"The last {TAIL} lines that it printed:")
        print(*(f"  | {line}" for line in (printed if output else printed[-TAIL:])), sep="\n")
    for claim in claims:
        print(f"  {'ok     ' if claim.holds else 'NOT YET'}  {claim.text}")
        if output and not claim.holds:
            print(f"           {claim.hint}")
    if missing:
        untouched = module == "start" and lesson.untouched()
        hint = "start.py is as it was: fill in its TODO(you)" if untouched else missing[0].hint
        print(f"Not yet: {missing[0].text}.\n  Hint: {hint}.")
        print(f"  More: ./dev tutorial {lesson.number} --check --output")
    return not missing
