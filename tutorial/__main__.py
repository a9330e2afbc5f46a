"""The command `python -m tutorial`: lists, runs and checks the lessons."""

import argparse
import os
import select
import signal
import sys
import threading
from collections.abc import Sequence

import replay
from tutorial.checking import check
from tutorial.engine import steps
from tutorial.lessons import FOLDER, STATE, Lesson, NoSuchLesson, Program, Progress, find, lesson


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The parsed command line."""
    parser = argparse.ArgumentParser(
        prog="./dev tutorial",
        description="Twelve lessons in durable execution. Without arguments: where you stand. "
        "`./dev tutorial engine` lists ten steps in which you build an engine of your own.",
    )
    parser.add_argument("lesson", type=int, nargs="?", help="the number of the lesson to run")
    parser.add_argument("role", nargs="?", default="", help="the process to run, if it has several")
    parser.add_argument("--solution", action="store_true", help="run solution.py, not start.py")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="say whether the lesson is done")
    what.add_argument("--reset", action="store_true", help="write a fresh start.py")
    parser.add_argument("--url", help="the database; by default a SQLite file for each lesson")
    parser.add_argument("--run", help="the name of the run; by default run-1, run-2, …")
    args = parser.parse_intermixed_args(arguments)
    if args.lesson is None and (args.check or args.reset or args.solution or args.url or args.run):
        parser.error("name a lesson")
    if args.url == "sqlite://":
        parser.error("a database in memory does not outlive the program: name a file")
    return args


def overview(progress: Progress) -> None:
    """Print the lessons, and name the next one."""
    states = [(each, progress.state(each)) for each in find()]
    for each, state in states:
        print(f"{each.number:3}  {each.title:16} {state}".rstrip())
    left = [each for each, state in states if state != "done"]
    if left:
        print(f"\nNext: read tutorial/{left[0].folder.name}/README.md")
    else:
        print("\nAll done.")


def choose(lesson: Lesson, module: str, role: str) -> Program:
    """The program of this role."""
    programs = lesson.programs(module)
    if role in programs:
        return programs[role]
    if role:
        raise NoSuchLesson(f"lesson {lesson.number} has no process {role}")
    names = "\n".join(f"  ./dev tutorial {lesson.number} {name}" for name in programs)
    raise NoSuchLesson(f"lesson {lesson.number} is several processes, one to a terminal:\n{names}")


def run(lesson: Lesson, args: argparse.Namespace, progress: Progress) -> int:
    """Run a lesson's program until it ends or is stopped; return the exit code."""
    program = choose(lesson, "solution" if args.solution else "start", args.role)
    STATE.mkdir(exist_ok=True)
    url = args.url or lesson.url()
    name = args.run or progress.run(lesson, url)
    print(f"Lesson {lesson.number}, {lesson.title}: {name}", flush=True)
    try:
        program(url, name)
    except KeyboardInterrupt:
        print("\nStopped. Nothing is lost: the same command goes on from here.")
        return 130
    progress.ended(lesson, url, name)
    return 0


def reset(lesson: Lesson) -> None:
    """Write a fresh `start.py`."""
    lesson.start.write_text(lesson.fresh(), encoding="utf-8")
    print(f"{lesson.start.relative_to(FOLDER.parent)} is as it was at the beginning.")


def checked(lesson: Lesson, args: argparse.Namespace, progress: Progress) -> int:
    """Check a lesson; return the exit code."""
    if not check(lesson, "solution" if args.solution else "start", args.url):
        return 1
    if not args.solution:
        progress.passed(lesson)
        print(f"Lesson {lesson.number} is done.")
    return 0


def end_with_reader(out: int) -> None:
    """Wait until nobody reads the pipe `out` any more (``| head``), then end this process.

    An activity that prints would fail then, and so would be executed again for ever.
    """
    watched = select.poll()
    watched.register(out, 0)  # errors are reported in any case
    watched.poll()
    os._exit(128 + signal.SIGPIPE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 1 for a lesson not done yet, 2 for bad input."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given[:1] == ["engine"]:
        return steps.main(given[1:])
    args = parse(given)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    progress = Progress()
    try:
        if args.lesson is None:
            overview(progress)
            return 0
        chosen = lesson(args.lesson)
        if args.reset:
            reset(chosen)
            return 0
        if args.check:
            return checked(chosen, args, progress)
        return run(chosen, args, progress)
    except (NoSuchLesson, replay.Error) as error:
        print(f"tutorial: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    threading.Thread(target=end_with_reader, args=(1,), daemon=True).start()
    sys.exit(main())
