"""The command `replay verify`: code against the histories of a log or of an export.

Left to `replay.verify`: how one history is verified.
"""

from __future__ import annotations

import argparse
import inspect
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from types import ModuleType
from typing import Any, BinaryIO, NamedTuple

from ..export import BadHistory, Iteration, read_history, stored_history
from ..run import RunContext
from ..signature import context_of
from ..storage.event import UnknownMessageType
from ..typed import takes_flow
from ..verify import Difference, verify
from .console import BadArgument, Commands, codec_of, load, on_log, opened, print_json, visible
from .keep import add_filter, chosen

_LONGEST = 256 * 1024 * 1024  # bytes of a line
_SHOWN = 20  # differences that are printed for people


def add_parsers(commands: Commands) -> None:
    """Add the command of this module."""
    parser = commands.add_parser(
        "verify",
        parents=[on_log(messages=True)],
        help="check whether code fits the histories of its runs",
        description="Replay the workflows of a module from the histories in a file, or in a log,"
        " and report the first difference of each (V2).  The workflows are the functions of the"
        " module that take a RunContext, under their own names.  Importing the module must not"
        " start anything.  Nothing is stored, and no activity is called.  It exits with 1 if there"
        " is a difference, or a history of a workflow that the module does not have.  Files hold"
        " your users' messages, and errors of your code may show parts of them.",
    )
    parser.add_argument("module", metavar="MODULE", help="the module, such as app.workflows")
    parser.add_argument(
        "file",
        nargs="?",
        metavar="FILE",
        help="what `replay export` wrote; - is standard input; without it, the log is read",
    )
    parser.add_argument(
        "--as",
        dest="named",
        action="append",
        default=[],
        metavar="NAME=FUNCTION",
        help="verify the workflow of this stored name with that function of the module; repeatable",
    )
    add_filter(parser)
    parser.set_defaults(call=_verify)


class Found(NamedTuple):
    """A difference, as JSON shows it."""

    run: str
    event: int | None
    line: str
    history: str
    code: str


def _verify(args: argparse.Namespace) -> int:
    for module in args.modules:
        load(module, "--import")
    code = load(args.module, "MODULE")
    functions = _functions(code, args.named)
    codec = codec_of(args)
    missing: Counter[str] = Counter()
    count = differences = 0
    for iteration in _histories(args):
        count += 1
        key = iteration.events[0].key
        if (function := functions.get(key.workflow)) is None:
            missing[f"{key.namespace}/{key.workflow}"] += 1
        elif (found := _difference(function, iteration, codec)) is not None:
            differences += 1
            _show(found, args.json, differences)
    if not count:
        raise BadArgument("there is no history, so nothing was verified: is this the right log?")
    for workflow, number in missing.items():
        differences += 1
        problem = f"has no function {workflow.rpartition('/')[2]} that takes a RunContext: see --as"
        _show(Found(workflow, None, args.module, f"has {number} iterations", problem), args.json)
    if not args.json:
        if (more := differences - len(missing) - _SHOWN) > 0:
            print(f"and {more} more differences")
        histories = "1 history" if count == 1 else f"{count} histories"
        print(f"{histories}: {differences or 'no'} difference{'s' * (differences != 1)}")
    return 1 if differences else 0


def _show(found: Found, json: bool, number: int = 0) -> None:
    if json:
        print_json(found._asdict())
    elif number <= _SHOWN:
        place = found.run if found.event is None else f"{found.run}, event {found.event}"
        where = f" ({found.line})" if found.line else ""
        print(visible(f"{place}: the history {found.history}, the code {found.code}{where}"))


def _difference(function: Callable[..., Any], iteration: Iteration, codec: Any) -> Found | None:
    try:
        verify(function, iteration, codec=codec)
    except Difference as found:
        run = str(found.event.key.iteration_key())
        return Found(run, found.event.id, found.line, found.history, found.code)
    except UnknownMessageType as error:
        raise BadArgument(f"{error}, with --import") from error
    return None


# The histories.


def _histories(args: argparse.Namespace) -> Iterator[Iteration]:
    if args.file is None:
        with opened(args) as client:
            for log, key in chosen(client, args):
                if (found := stored_history(log, key)) is not None:
                    yield found
        return
    if args.url is not None:
        raise BadArgument(f"{args.file} or --url: name one of them")
    wanted = [args.namespace, args.workflow, args.run]
    with _open(args.file) as file:
        for number, line in enumerate(iter(lambda: file.readline(_LONGEST), b""), 1):
            iteration = _read(line, f"{args.file}, line {number}")
            names = iteration.events[0].key[:3]
            if all(name in ("", found) for name, found in zip(wanted, names, strict=True)):
                yield iteration


def _open(file: str) -> BinaryIO:
    if file == "-":
        return sys.stdin.buffer
    try:
        return open(file, "rb")
    except OSError as error:
        raise BadArgument(f"{file}: {error.strerror}: name what `replay export` wrote") from error


def _read(line: bytes, place: str) -> Iteration:
    if len(line) >= _LONGEST:
        raise BadArgument(f"{place} has more than {_LONGEST} bytes: verify that run with --url")
    try:
        return read_history(line)
    except BadHistory as error:
        raise BadArgument(f"{place}: {error}") from error


# The functions.


def _functions(module: ModuleType, named: Sequence[str]) -> dict[str, Callable[..., Any]]:
    """The workflows of a module, by their stored names."""
    some = filter(inspect.isfunction, vars(module).values())
    found: dict[str, Callable[..., Any]] = {each.__name__: each for each in some if _runs(each)}
    for text in named:
        name, _, function = text.partition("=")
        if not name or not function:
            raise BadArgument(f"--as {text}: expected NAME=FUNCTION")
        found[name] = _attribute(module, function, "--as")
    return found


def _runs(function: Callable[..., Any]) -> bool:
    """Whether a function is a workflow, by the annotation of its first parameter."""
    context = context_of(function)
    if isinstance(context, str):  # imported for type checkers only
        return context.rpartition(".")[2] == "RunContext"
    return context is RunContext or takes_flow(context)


def _attribute(module: ModuleType, name: str, option: str) -> Any:
    try:
        return attrgetter(name)(module)
    except AttributeError as error:
        raise BadArgument(f"{option} {name}: {error}") from error
