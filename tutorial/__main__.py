"""The command `python -m tutorial`: lists, runs and checks the lessons."""

import argparse
import os
import select
import signal
import sys
import threading
import traceback
from collections.abc import Sequence

import replay
from replay.tools.lanes import follow
from tutorial.checking import check
from tutorial.engine import steps
from tutorial.lessons import (
    STATE,
    Lesson,
    NoSuchLesson,
    Program,
    Progress,
    find,
    lesson,
    overview,
    reset,
)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The parsed command line."""
    parser = argparse.ArgumentParser(
        prog="./dev tutorial",
        description="Fifteen lessons in durable execution. Without arguments: where you stand. "
        "`./dev tutorial engine` lists ten steps in which you build an engine of your own.",
    )
    parser.add_argument("lesson", type=int, nargs="?", help="the number of the lesson to run")
    parser.add_argument("role", nargs="?", default="", help="the process to run, if it has several")
    whose = parser.add_mutually_exclusive_group()
    whose.add_argument("--solution", action="store_true", help="run solution.py, not start.py")
    whose.add_argument(
        "--try", dest="attempt", metavar="NAME", help="experiment with a copy of start.py"
    )
    parser.add_argument(
        "--output", action="store_true", help="with --check: show all hints and the whole output"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="say whether the lesson is done")
    what.add_argument(
        "--reset", action="store_true", help="write a fresh start.py; keep the old one"
    )
    what.add_argument("--hint", action="store_true", help="show the next hint")
    what.add_argument(
        "--watch", action="store_true", help="show the lesson's log as a timeline, until Ctrl-C"
    )
    what.add_argument("--crash", type=int, metavar="EVENT", help="kill the program at this event")
    parser.add_argument("--url", help="the database; by default a SQLite file for each lesson")
    parser.add_argument("--run", help="the name of the run; by default run-1, run-2, …")
    args = parser.parse_intermixed_args(arguments)
    if args.lesson is None and parser.parse_args([]) != args:
        parser.error("name a lesson")
    if args.url == "sqlite://":
        parser.error("a database in memory does not outlive the program: name a file")
    return args


def choose(lesson: Lesson, module: str, role: str) -> Program:
    """The program of this role."""
    programs = lesson.programs(module)
    if role in programs:
        return programs[role]
    if role:
        raise NoSuchLesson(f"lesson {lesson.number} has no process {role}")
    names = "\n".join(f"  ./dev tutorial {lesson.number} {name}" for name in programs)
    raise NoSuchLesson(f"lesson {lesson.number} is several processes, one to a terminal:\n{names}")


def chosen_module(lesson: Lesson, args: argparse.Namespace) -> str:
    """The module to run: the learner's own, an experiment, or the solution."""
    if args.attempt:
        return lesson.attempt(args.attempt)
    return "solution" if args.solution else "start"


def crash(url: str, at: int) -> None:
    """Kill this process when the event with this id is in the log, as a power failure would.

    Raises `NoSuchLesson` if it is there already.
    """
    client = replay.connect(url, loops=False)
    newest = max((event.id for event in client.stream(to_head=True)), default=0)
    if newest >= at:
        client.close()
        raise NoSuchLesson(
            f"--crash {at}: the log has {newest} events already, name a later one or --try NAME"
        )

    def watch() -> None:
        for event in client.stream(after=newest):
            if event.id >= at:
                # The lesson may be in the middle of a line.
                print(f"\nKilled at event {event.id}. Run it again without --crash.", flush=True)
                os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def run(lesson: Lesson, args: argparse.Namespace, progress: Progress) -> int:
    """Run a lesson's program until it ends or is stopped; return the exit code."""
    module = chosen_module(lesson, args)
    program = choose(lesson, module, args.role)
    STATE.mkdir(exist_ok=True)
    url = args.url or lesson.url(module)
    name = args.run or progress.run(lesson, url)
    if args.crash is not None:
        crash(url, args.crash)
    print(f"Lesson {lesson.number}, {lesson.title}: {name}", flush=True)
    try:
        program(url, name)
    except KeyboardInterrupt:
        print("\nStopped. Nothing is lost: the same command goes on from here.")
        return 130
    progress.ended(lesson, url, name)
    return 0


def watch(lesson: Lesson, args: argparse.Namespace) -> int:
    """Show the log of a lesson as a timeline, while other processes add to it."""
    STATE.mkdir(exist_ok=True)
    url = args.url or lesson.url(chosen_module(lesson, args))
    with replay.connect(url, loops=False) as client:
        follow(client, lesson.module("check").NAMESPACE, sys.stdout)
    return 0


def hint(lesson: Lesson, progress: Progress) -> None:
    """Print the next hint; after the last one begin again."""
    found = lesson.hints()
    seen = progress.hinted(lesson) % len(found)
    print(found[seen])
    progress.hinted(lesson, seen + 1)


def checked(lesson: Lesson, args: argparse.Namespace, progress: Progress) -> int:
    """Check a lesson; return the exit code."""
    module = chosen_module(lesson, args)
    if not check(lesson, module, args.url, args.output):
        return 1
    if module == "start":
        progress.note(lesson, True)
        print(f"Lesson {lesson.number} is done.")
    else:
        print(f"{module}.py passes.")
    return 0


def syntax_error(error: SyntaxError) -> str:
    """The learner's line, without the lines of the programs that have read it."""
    return "".join(traceback.format_exception_only(error)).strip()


def end_with_reader(out: int, check: bool) -> None:
    """Wait until nobody reads the pipe `out` any more (``| head``), then end this process.

    An activity that prints would fail then, and so would be executed again for ever.  A check has
    to end its programs first.
    """
    watched = select.poll()
    watched.register(out, 0)  # errors are reported in any case
    watched.poll()
    if not check:
        os._exit(128 + signal.SIGPIPE)
    os.dup2(os.open(os.devnull, os.O_WRONLY), out)
    os.kill(os.getpid(), signal.SIGTERM)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 1 for a lesson not done yet, 2 for bad input."""
    for end in (signal.SIGINT, signal.SIGTERM):  # `./dev` ignores Ctrl-C until here
        signal.signal(end, signal.default_int_handler)
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        if given[:1] == ["engine"]:
            return steps.main(given[1:])
        args, progress = parse(given), Progress()
        if args.lesson is None:
            overview(find(), progress, "All done.")
            return 0
        chosen = lesson(args.lesson)
        if args.reset:
            reset(chosen, progress)
            return 0
        if args.hint:
            hint(chosen, progress)
            return 0
        if args.check:
            return checked(chosen, args, progress)
        if args.watch:
            return watch(chosen, args)
        return run(chosen, args, progress)
    except SyntaxError as error:
        print(syntax_error(error), file=sys.stderr)
        return 2
    except (NoSuchLesson, replay.Error) as error:
        print(f"tutorial: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    threading.Thread(target=end_with_reader, args=(1, "--check" in sys.argv), daemon=True).start()
    sys.exit(main())
