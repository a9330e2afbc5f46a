"""The tutorial: every solution, every check, and all that the lessons' texts show."""

import ast
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from replay import (
    ActivityContext,
    Event,
    EventType,
    Key,
    connect,
    register_activity,
    register_workflow,
)
from replay.testing import World
from replay.tools.typedgen import main as typedreplay
from tests.project.answers import RIGHT, WRONG
from tests.project.forks import forked
from tests.project.mistakes import MISTAKES
from tests.support import importing, with_options
from tutorial import __main__, checking, lessons
from tutorial.checking import Claim
from tutorial.lesson_02_signal import shop
from tutorial.lesson_02_signal import solution as lesson_2
from tutorial.lesson_04_restart import office
from tutorial.lesson_04_restart import solution as lesson_4
from tutorial.lesson_05_cron import schedule
from tutorial.lesson_05_cron import solution as lesson_5
from tutorial.lessons import Lesson, Program, blanked

ROOT = Path(__file__).resolve().parent.parent.parent
LESSONS = lessons.find()
TITLES = (
    "hello world, typed hello, signal, output, restart, cron, append only log, maker trade,"
    " sparkline, parent job, distributed, sharding, saga, changing code, virtual time"
)
SECTIONS = ["Steps", "Check", "What just happened", "Experiments"]
LIMIT = 60.0  # Seconds for a command, on a busy machine.
TYPED = {1}  # Lessons with protobuf messages and a definition; the others have plain values.

each_lesson = pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.folder.name)


def tutorial(*arguments: str) -> list[str]:
    return [sys.executable, "-u", "-W", "error", "-m", "tutorial", *arguments]


def readme(lesson: Lesson) -> str:
    return (lesson.folder / "README.md").read_text(encoding="utf-8")


def blocks(text: str) -> list[tuple[str, str]]:
    """The code blocks of a text: of which language, and what they say."""
    found = re.findall(r"^( *)```(\w+)\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)
    return [(language, textwrap.dedent(body)) for _, language, body in found]


# The lessons as they are stored.


def test_the_lessons_are_in_order() -> None:
    """The lessons are numbered from 0 on and have their titles."""
    assert [each.number for each in LESSONS] == list(range(len(LESSONS)))
    assert [each.title for each in LESSONS] == TITLES.split(", ")


@each_lesson
def test_start_is_the_solution_without_what_is_asked_for(lesson: Lesson) -> None:
    """start.py is made from solution.py, asks for something, and can be run as it is."""
    text = lesson.start.read_text(encoding="utf-8")
    assert text == lesson.fresh()
    assert text != (lesson.folder / "solution.py").read_text(encoding="utf-8")
    assert "# TODO(you): " in text
    assert "# instead: " not in text
    assert "# done" not in text
    ast.parse(text)


def test_what_is_asked_for_is_left_out() -> None:
    """A marked place keeps its comment, and what stands there instead of an answer."""
    solution = """\
        before
        # TODO(you): find out,
        # and write it down.
        # instead: pass
        answer
        # why
        # done
        # given
        after
    """
    assert blanked(textwrap.dedent(solution)) == textwrap.dedent("""\
        before
        # TODO(you): find out,
        # and write it down.
        pass
        # given
        after
    """)


@each_lesson
def test_generated_code_is_up_to_date(lesson: Lesson, capsys: pytest.CaptureFixture[str]) -> None:
    """What `typedreplay` makes of the lesson's definition is what is stored; some have none."""
    definition = lesson.folder / "namespace.py"
    assert definition.exists() == (lesson.number in TYPED)
    if definition.exists():
        assert typedreplay([str(definition), "--check"]) == 0, capsys.readouterr().out


@each_lesson
def test_readme_has_its_parts(lesson: Lesson) -> None:
    """A text has a goal, what is new, numbered steps, a check, an explanation, experiments."""
    text = readme(lesson)
    assert text.startswith(f"# Lesson {lesson.number}: ")
    assert text.count("\n**Goal:** ") == text.count("\n**What is new**\n") == 1
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == SECTIONS
    steps = text.partition("## Steps")[2].partition("\n## ")[0]
    numbers = [int(each) for each in re.findall(r"^(\d+)\. ", steps, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1)) != []


@each_lesson
def test_snippets_are_parts_of_the_programs(lesson: Lesson) -> None:
    """Each piece of Python in a text stands in a file of the lesson, which other tests run."""
    files = [textwrap.dedent(path.read_text()) for path in sorted(lesson.folder.glob("*.py"))]
    lines = [[line.strip() for line in text.splitlines()] for text in files]
    for language, body in blocks(readme(lesson)):
        if language == "python":
            wanted = [line.strip() for line in body.splitlines()]
            assert any(has(each, wanted) for each in lines), body


@each_lesson
def test_the_steps_keep_the_code_for_the_hints(lesson: Lesson) -> None:
    """A text says what the code has to do; `--hint` names what it needs, and then shows it."""
    steps = readme(lesson).partition("## Steps")[2].partition("\n## ")[0]
    names, codes = lesson.hints()[::2], lesson.hints()[1::2]
    answers = {line.strip() for code in codes for line in code.splitlines()[1:]}
    for language, body in blocks(steps):
        shown = {line.strip() for line in body.splitlines()}
        assert language != "python" or not shown <= answers, body
    for number, (name, code) in enumerate(zip(names, codes, strict=True), 1):
        assert name.startswith(f"TODO {number} of {len(names)}: {len(code.splitlines()) - 1} line")


def test_hints_come_in_steps(own: Path) -> None:
    """First what is needed, then the code, then from the beginning; also after a reset."""
    shown = [run(own, "0", "--hint")[1] for _ in range(3)]
    assert shown[0] == "TODO 1 of 1: 2 lines, with ctx.exec_activity, ctx.sleep, timedelta.\n"
    assert "    ctx.sleep(timedelta(seconds=1))\n" in shown[1]
    assert shown[2] == shown[0]
    run(own, "0", "--reset")
    assert run(own, "0", "--hint")[1] == shown[0]


def has(lines: list[str], wanted: list[str]) -> bool:
    """Whether some lines stand in others, one after the other."""
    size = len(wanted)
    return any(lines[n : n + size] == wanted for n in range(len(lines) - size + 1))


# The check.


class Judged(NamedTuple):
    """What a check has missed, and the signals that ended its programs."""

    missing: list[Claim]
    ends: list[int]
    printed: str


one_parser = threading.Lock()  # The `ast` of Python 3.11 fails in several threads at once.


class Copy(Lesson):
    """A lesson in a copy of the tutorial, whose modules this process does not import."""

    def programs(self, module: str) -> Mapping[str, Program]:
        return super().programs("solution")


def judged(folder: Path, number: int, module: str, url: str) -> Judged:
    """Check a module in a copy of the tutorial."""
    lesson = Copy(number, folder / "tutorial" / LESSONS[number].folder.name)
    ends: list[int] = []
    with (folder / f"{module}.txt").open("w+b") as out:
        children = forked(folder / "tutorial", ends.append)
        claims = checking.examine(lesson, module, url, out, children)
        with one_parser:
            first = next(claims)
        missing = [claim for claim in (first, *claims) if not claim.holds]
        out.seek(0)
        printed = out.read().decode()
    return Judged(missing, ends, printed)


@pytest.mark.slow_on_servers
@each_lesson
def test_solution_passes_its_check(lesson: Lesson, url: str, own: Path) -> None:
    """The solution passes its check on every database, killed on the way; mistakes do not."""
    rules = lesson.module("check")
    # On a cluster only the lease tells of a death, and the check waits 4 s for the next event.
    said = judged(own, lesson.number, "solution", with_options(url, lease=2))
    assert not said.missing, said
    assert said.ends == [*[signal.SIGKILL] * len(rules.KILLS), signal.SIGINT]
    with connect(url, loops=False) as client:
        log = list(client.stream(rules.NAMESPACE, to_head=True))
    for _, text, change, claims in (each for each in MISTAKES if each.lesson == lesson.number):
        missing = {n for n, claim in enumerate(rules.check(change(log))) if not claim.holds}
        assert (text, missing) == (text, claims)


def test_a_check_reads_its_own_run_only() -> None:
    """On a log that others use, too: all iterations of the run that began first."""
    keys = [("mine", 0), ("other", 0), ("mine", 1), ("other", 1)]
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    events = [
        Event(id, EventType.RUN_CREATED, Key("ns", "flow", run, iteration), moment, None)
        for id, (run, iteration) in enumerate(keys, 2)
    ]
    later = Event(1, EventType.RUN_CREATED, Key("ns", "flow", "older", 7), moment, None)
    assert [event.id for event in checking.own([later, *events])] == [2, 4]


class Slow(checking.Children):
    """A program that starts for ever, or until its third look at the log."""

    looks = 0

    def open(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        return None  # type: ignore[return-value]

    def ended(self) -> bool:
        self.looks += 1
        if self.looks == 3:
            self._out.write(b"Lesson 7, a role: a run\nLesson 7, another: a run\n")
            self._out.flush()
        return False


def test_the_start_of_a_process_is_not_silence(tmp_path: Path) -> None:
    """On a busy machine a Python takes long to start, and each has to have started."""
    with connect("sqlite://", loops=False) as client, (tmp_path / "out").open("w+b") as out:
        watch, children = checking.Watch(client, "ns"), Slow({"a": [], "b": []}, out)
        children.start()
        assert children.starting()
        assert not watch.until(bool, children, patience=1e-9)
        assert children.looks == 5, "the first look after the start spends the patience"
        assert not children.starting()


def drink(world: World) -> None:
    """Lesson 2: the last order comes after the reminder, the payment before everything."""
    client, guest = world.client, "Ada"
    for activity in (shop.make, shop.remind):
        register_activity(client, shop.NAMESPACE, activity)
    register_workflow(client, shop.NAMESPACE, lesson_2.serve)
    orders = [(shop.PAY, "card"), (shop.ORDER, "espresso"), (shop.ORDER, "cappuccino")]
    for number, (signal_type, text) in enumerate(orders):
        client.signal_run(shop.NAMESPACE, lesson_2.serve, guest, signal_type, text, str(number))
    client.run_workflow(shop.NAMESPACE, lesson_2.serve, guest, lesson_2.ADA)
    world.advance(lesson_2.LATE)
    client.signal_run(shop.NAMESPACE, lesson_2.serve, guest, shop.ORDER, "", "last")
    client.result(shop.NAMESPACE, lesson_2.serve, guest)


def pay(world: World) -> None:
    """Lesson 4: twelve payments, and an hour without any."""

    def book(ctx: ActivityContext, backends: None, cents: int) -> None:
        """Takes no time."""

    register_workflow(world.client, office.NAMESPACE, lesson_4.till)
    register_activity(world.client, office.NAMESPACE, book)
    for n, cents in enumerate(lesson_4.PAYMENTS):
        world.client.signal_run(office.NAMESPACE, lesson_4.till, "r", office.PAID, cents, str(n))
    world.client.run_workflow(office.NAMESPACE, lesson_4.till, "r", office.Till())
    world.advance(timedelta(hours=1))


def tick(world: World) -> None:
    """Lesson 5: a clock with a period of an hour, and work that once takes a day."""

    def chore(ctx: ActivityContext, backends: None, tick: schedule.Tick) -> None:
        world.advance(timedelta(days=tick.number == 5))

    register_workflow(world.client, schedule.NAMESPACE, lesson_5.clock)
    register_activity(world.client, schedule.NAMESPACE, chore)
    hourly = schedule.Schedule(int(world.now.timestamp()), period=3600, next=1)
    world.client.run_workflow(schedule.NAMESPACE, lesson_5.clock, "r", hourly)
    world.advance(timedelta(days=3))


@pytest.mark.parametrize(("number", "drive"), [(2, drink), (4, pay), (5, tick)])
def test_a_workflow_passes_its_check_in_virtual_time(
    number: int, drive: Callable[[World], None]
) -> None:
    """V1: with the facts that the lesson asks for."""
    with World() as world:
        drive(world)
        claims = LESSONS[number].module("check").check(world.events())
    assert [claim.text for claim in claims if not claim.holds] == []


@each_lesson
def test_every_claim_has_its_mistake(lesson: Lesson) -> None:
    """A claim that no mistake breaks might hold whatever a learner does."""
    broken = {n for each in MISTAKES if each.lesson == lesson.number for n in each.claims}
    assert broken == set(range(len(lesson.module("check").check([]))))


@pytest.mark.slow  # the checks wait for what does not come
@each_lesson
def test_answers_are_judged(lesson: Lesson, own: Path) -> None:
    """The first hint for a wrong answer is the one that helps; another right answer is accepted.

    A check asks for what the lesson teaches, not for the words of its solution.
    """
    answers = [each for each in (*WRONG, *RIGHT) if each.lesson == lesson.number]
    copy = Lesson(lesson.number, own / "tutorial" / lesson.folder.name)
    modules = ["start", *(f"try_{answer.write(copy)}" for answer in answers)]

    def hint(module: str) -> str:
        said = judged(own, lesson.number, module, f"sqlite:///{own / module}.db")
        return said.missing[0].hint if said.missing else ""

    with ThreadPoolExecutor(len(modules)) as pool:
        start, *hints = pool.map(hint, modules)
    assert start, "start.py passes"
    wrong = [
        (answer.text, said)
        for answer, said in zip(answers, hints, strict=True)
        if not (answer.hint in said if answer.hint else said == "")
    ]
    assert wrong == []


def test_each_lesson_has_answers() -> None:
    """Five wrong ones, and two right ones beside the solution."""
    assert all(sum(each.lesson == n for each in WRONG) >= 5 for n in range(len(LESSONS)))
    assert all(sum(each.lesson == n for each in RIGHT) >= 2 for n in range(len(LESSONS)))


@each_lesson
def test_check_of_nothing_holds_nothing_against_it(lesson: Lesson) -> None:
    """A check can be made of an empty log, and says that there is something to do."""
    claims = lesson.module("check").check([])
    assert not all(claim.holds for claim in claims)
    assert all(claim.text and claim.hint for claim in claims)


# The commands and outputs in the texts.


@dataclass
class Running:
    """A command that runs, and what it has printed."""

    process: subprocess.Popen[str]
    changed: threading.Condition  # One for all: any of them may show what is waited for.
    lines: list[str] = field(default_factory=list)
    ended: bool = False

    def __post_init__(self) -> None:
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self.changed:
                self.lines.append(line.rstrip("\n"))
                self.changed.notify_all()
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def until(self, enough: Callable[[list[str]], bool]) -> bool:
        """Wait for what it prints; whether it was enough."""
        with self.changed:
            assert self.changed.wait_for(lambda: enough(self.lines) or self.ended, LIMIT), self
            return enough(self.lines)

    def end(self, number: signal.Signals) -> None:
        """End it."""
        self.process.send_signal(number)
        self.join()

    def join(self) -> int:
        """Wait for its end; the exit code."""
        code = self.process.wait(LIMIT)
        self.reader.join(LIMIT)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


def masked(line: str) -> str:
    """A line without what is different each time: clock times, and numbers from 1000 on."""
    line = re.sub(r"\b\d\d:\d\d:\d\d(\.\d+)?\b", "TIME", line.rstrip())
    line = re.sub(r"\b\d*\.\d+\b|\b\d{4,}\b|(?<=process: )\d+|(?<=/say/\d  )\d+", "NUMBER", line)
    line = re.sub(r"[▁-█]+", "GRAPH", line)
    return re.sub(r" {2,}(?=NUMBER)", " ", line)


def shows(shown: str, printed: list[str]) -> bool:
    """Whether lines were printed as shown; where an ellipsis stands, anything in between."""
    rest = [masked(line) for line in printed]
    for part in re.split(r"^…\n", shown, flags=re.MULTILINE):
        wanted = [masked(line) for line in part.splitlines()]
        at = [n for n in range(len(rest) + 1) if rest[n : n + len(wanted)] == wanted]
        if not at:
            return False
        rest = rest[at[0] + len(wanted) :]
    return True


class Learner:
    """Follows a text in a copy of the tutorial: runs its commands, looks at what is shown."""

    def __init__(self, lesson: Lesson, folder: Path) -> None:
        shutil.copytree(ROOT / "tutorial", folder / "tutorial", ignore=lambda *_: {"__pycache__"})
        copy = folder / "tutorial" / lesson.folder.name
        shutil.copy(copy / "solution.py", copy / "start.py")
        self._folder = folder
        self._changed = threading.Condition()
        self._runs: list[Running] = []
        self._left: list[Running] = []

    def follow(self, text: str) -> None:
        """Do all that the text says."""
        parts = [each for each in blocks(text) if each[0] != "python"]
        for place, (language, body) in enumerate(parts):
            if language == "sh":
                following = parts[place + 1 : place + 2]
                shown = [what for kind, what in following if kind == "text"]
                for command in body.splitlines():
                    self._do(command, shown)
            else:
                assert language == "text", f"a block of {language} is neither run nor compared"
                assert self._sees(body), self._report(body)
        self.leave()

    def leave(self) -> None:
        """End what is left running."""
        for each in self._left:
            if each.process.poll() is None:
                each.process.send_signal(signal.SIGINT)
            each.join()
        self._left.clear()

    def _do(self, line: str, shown: list[str]) -> None:
        command, _, remark = (part.strip() for part in line.partition("#"))
        running = self._start(command)
        self._runs.append(running)
        if remark.startswith("terminal"):
            self._left.append(running)
        elif remark.startswith("Ctrl-C"):
            self._left.append(running)
            assert shown, f"{line}: what is to be seen before it is stopped?"
            assert running.until(lambda lines: shows(shown[0], lines)), self._report(shown[0])
            running.end(signal.SIGINT)
            assert any("goes on from here" in each for each in running.lines)
        else:
            self._left.append(running)
            assert running.join() == 0, self._report(line)

    def _start(self, line: str) -> Running:
        words, before = line.split(), None
        if words[:2] == ["./dev", "tutorial"]:
            command = tutorial(*words[2:])
            before = partial(signal.signal, signal.SIGINT, signal.SIG_IGN)  # as ./dev does
        else:
            assert words[0].startswith(".venv/bin/"), f"{line}: a command that no test can run"
            command = [str(Path(sys.executable).with_name(words[0][10:])), *words[1:]]
        process = subprocess.Popen(
            command,
            cwd=self._folder,
            env=importing(self._folder) | {"PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=before,
        )
        return Running(process, self._changed)

    def _sees(self, shown: str) -> bool:
        """Whether a command shows this; those that are still running have time to."""

        def seen() -> bool:
            return any(shows(shown, each.lines) for each in self._runs)

        def over() -> bool:
            return all(each.ended for each in self._runs)

        with self._changed:
            self._changed.wait_for(lambda: seen() or over(), LIMIT)
            return seen()

    def _report(self, shown: str) -> str:
        printed = "\n---\n".join("\n".join(each.lines) for each in self._runs)
        return f"wanted:\n{shown}\nprinted:\n{printed}"


@pytest.mark.parametrize(
    "lesson",
    [pytest.param(each, marks=[pytest.mark.slow] if each.number != 1 else []) for each in LESSONS],
    ids=lambda lesson: lesson.folder.name,
)
def test_text_is_true(lesson: Lesson, tmp_path: Path) -> None:
    """Every command of a text runs, in its order, and prints what the text shows."""
    learner = Learner(lesson, tmp_path)
    try:
        learner.follow(readme(lesson))
    finally:
        learner.leave()


def test_what_is_shown_is_compared() -> None:
    """Shown lines have to be printed together and in order, but for what is left out."""
    printed = ["a 1", "b at 10:00:01", "c 12345", "d"]
    assert shows("a 1\nb at 12:34:56\n", printed)
    assert shows("a 1\n…\nc 4711\nd\n", printed)
    assert not shows("a 1\nc 12345\n", printed)
    assert not shows("c 12345\n…\na 1\n", printed)
    assert not shows("a 2\n", printed)


# The command.


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A copy of the tutorial, to be worked on by `run`."""
    shutil.copytree(ROOT / "tutorial", tmp_path / "tutorial", ignore=lambda *_: {"__pycache__"})
    return tmp_path


def run(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Run the command in a copy; exit code, output, errors."""
    done = subprocess.run(
        tutorial(*arguments),
        cwd=folder,
        env=importing(folder),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def solve(folder: Path, name: str) -> None:
    shutil.copy(folder / name / "solution.py", folder / name / "start.py")


def test_list_says_where_one_stands(own: Path) -> None:
    """A lesson is untouched, begun once start.py is edited, done once it passes its check."""
    name = "tutorial/lesson_01_typed_hello"
    lines = run(own)[1].splitlines()
    assert lines[1] == "  1  typed hello"
    assert lines[-1] == "Next: read tutorial/lesson_00_hello_world/README.md"
    solve(own, name)
    assert run(own)[1].splitlines()[1] == "  1  typed hello      begun"
    code, out, _ = run(own, "1", "--check")
    assert (code, out.splitlines()[-1]) == (0, "Lesson 1 is done.")
    assert run(own)[1].splitlines()[1] == "  1  typed hello      done"
    with (own / name / "start.py").open("a") as file:
        file.write("# one more thought\n")
    assert run(own)[1].splitlines()[1] == "  1  typed hello      done"
    code, out, _ = run(own, "1", "--reset")
    assert (code, out.splitlines()) == (
        0,
        [
            "Your old file is .tutorial/01-start-1.py.",
            f"{name}/start.py is as it was at the beginning.",
        ],
    )
    assert (own / ".tutorial/01-start-1.py").read_text().endswith("# one more thought\n")
    assert run(own)[1].splitlines()[1] == "  1  typed hello"
    assert (own / name / "start.py").read_text() == LESSONS[1].start.read_text()


@pytest.mark.parametrize(
    ("option", "line", "code"),
    [
        ([], "Lesson 0, hello world: run-1\n", 128 + signal.SIGPIPE),
        (["--check"], "Checking lesson_00_hello_world/solution.py on a log of its own.\n", 130),
    ],
)
def test_a_lesson_ends_with_the_reader_of_its_output(
    own: Path, option: list[str], line: str, code: int
) -> None:
    """``| head -1``: its activities print, and would fail for ever on a pipe without a reader."""
    with subprocess.Popen(
        tutorial("0", "--solution", "--url", f"sqlite:///{own / 'other.db'}", *option),
        cwd=own,
        env=importing(own),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == line
        process.stdout.close()
        assert process.wait(LIMIT) == code


def test_a_run_that_has_ended_is_not_begun_again(own: Path) -> None:
    """After the end of a run the same command begins the next; a name chooses one."""
    url = f"sqlite:///{own / 'other.db'}"
    first, second, named, again = (
        run(own, "1", "--solution", "--url", url, *options)[1].splitlines()
        for options in ((), (), ("--run", "mine"), ("--run", "mine"))
    )
    assert [each[0].rpartition(" ")[2] for each in (first, second, named)] == [
        "run-1",
        "run-2",
        "mine",
    ]
    assert "  Hola, World!" in second
    assert "  Hola, World!" not in again, "a run that is done does nothing"


def test_an_earlier_run_does_not_turn_the_counter_back(own: Path) -> None:
    """After run-1 and run-2, run-1 again: the next one is run-3."""
    names = [
        run(own, "1", "--solution", *options)[1].splitlines()[0].rpartition(" ")[2]
        for options in ((), (), ("--run", "run-1"), ())
    ]
    assert names == ["run-1", "run-2", "run-1", "run-3"]


def test_an_experiment_is_a_copy_with_a_log_of_its_own(own: Path) -> None:
    """It begins as start.py, and what becomes of it changes nothing that is noted."""
    name = "tutorial/lesson_01_typed_hello"
    solve(own, name)
    assert run(own, "1", "--check")[0] == 0
    code, out, _ = run(own, "1", "--try", "mine")
    assert (code, out.splitlines()[0]) == (0, f"{name}/try_mine.py is a copy of start.py: edit it.")
    (own / name / "try_mine.py").write_text("def main(url: str, run: str) -> None: ...\n")
    assert run(own, "1", "--try", "mine") == (0, "Lesson 1, typed hello: run-2\n", "")
    assert run(own, "1", "--try", "mine", "--check")[0] == 1
    assert run(own)[1].splitlines()[1] == "  1  typed hello      done"
    assert run(own, "1")[1].splitlines()[0].endswith("run-1")


@pytest.mark.parametrize("option", [[], ["--check"]])
def test_a_syntax_error_shows_the_line_of_the_learner(own: Path, option: list[str]) -> None:
    """And nothing of the programs that have read it."""
    file = own / "tutorial/lesson_01_typed_hello/start.py"
    file.write_text("import replay\n\ndef hello(:\n    pass\n")
    code, _, errors = run(own, "1", *option)
    assert code == 2
    assert errors.splitlines()[:2] == [f'File "{file}", line 3', "    def hello(:"]
    assert errors.splitlines()[-1] == "SyntaxError: invalid syntax"


def test_a_program_is_killed_at_an_event(own: Path) -> None:
    """``--crash 6``: like a power failure; the next program goes on from there."""
    options = ["1", "--solution", "--url", f"sqlite:///{own / 'other.db'}"]
    code, out, errors = run(own, *options, "--crash", "6")
    assert (code, errors) == (-signal.SIGKILL, "")
    assert any(line.startswith("Killed at event ") for line in out.splitlines())
    code, _, errors = run(own, *options, "--crash", "1")
    assert (code, errors.startswith("tutorial: --crash 1: the log has ")) == (2, True)
    assert run(own, *options)[1].splitlines()[0].endswith("run-1")


def test_a_check_that_fails_is_not_noted(own: Path) -> None:
    """A check that does not pass ends with code 1, shows the program's output, notes nothing."""
    code, out, errors = run(own, "1", "--check")
    assert (code, errors) == (1, "")
    assert "that it printed:\n  | Lesson 1, typed hello: check-" in out
    assert out.splitlines()[-3:] == [
        "Not yet: each language has a translation, then a greeting.",
        "  Hint: start.py is as it was: fill in its TODO(you).",
        "  More: ./dev tutorial 1 --check --output",
    ]
    more = run(own, "1", "--check", "--output")[1]
    assert len(more.splitlines()) > len(out.splitlines())
    assert more.splitlines()[-3:] == out.splitlines()[-3:]
    assert run(own)[1].splitlines()[1] == "  1  typed hello"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["99"], "tutorial: there is no lesson 99: ./dev tutorial lists them"),
        (["1", "baker"], "tutorial: lesson 1 has no process baker"),
        (["10"], "tutorial: lesson 10 is several processes, one to a terminal:"),
        (["--check"], "name a lesson"),
        (["1", "--url", "sqlite://"], "a database in memory does not outlive the program"),
        (["1", "--url", "ftp://x"], "tutorial: "),
        (["1", "--check", "--reset"], "not allowed with"),
        (["1", "--try", "../x"], "tutorial: --try ../x: use up to 40 small letters"),
        (["--crash", "3"], "name a lesson"),
    ],
)
def test_bad_input_ends_with_a_sentence(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What makes no sense is refused with code 2 and a sentence."""
    try:
        code = __main__.main(arguments)
    except SystemExit as error:
        code = int(str(error.code))
    assert code == 2
    assert reason in capsys.readouterr().err
