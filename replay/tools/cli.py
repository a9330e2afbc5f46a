"""The command ``replay``: finds the module of a command, and turns errors into exit codes.

Left to the modules in `MODULES`: the commands themselves.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
from collections.abc import Sequence

from ..client import EventsLost, NotOurs
from ..query import QueryBehind, UnknownRun
from ..server.wire import AccessDenied, WrongServer
from ..storage.database import BadUrl, DatabaseError, Error, Unavailable
from . import act, keep, lint, look, serve, ui, verify
from .console import Formatter, lines

#: The modules of the commands, in the order of ``--help``.  Each has `add_parsers`, which sets the
#: function `call` for each command.  It takes the arguments, and returns the exit code.
MODULES = (look, act, ui, keep, verify, lint, serve)
#: The exit codes, with their meaning.
CODES = {
    0: "done",
    1: "the answer is no: there is no such run, the run id was used before, nothing is parked,"
    " the run has failed, a promise is broken, code differs from a history, or has a"
    " mistake",
    2: "the command line cannot be carried out: an option, a name, a message or a URL is wrong",
    3: "the database or the server is not available: try again later; repeating a command does"
    " nothing twice, if a signal has its --id",
    4: "the database or the server refuses: it is read-only, too new or damaged, or the token may"
    " not do this",
    130: "you have pressed Ctrl-C",
    141: "the reader of the output has closed the pipe",
}


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="replay",
        description="Durable workflows: look at their runs, start and signal them, and serve them.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in MODULES:
        module.add_parsers(commands)
    return parser


def _code(error: Error) -> int:
    if isinstance(error, UnknownRun | NotOurs):
        return 1
    if isinstance(error, Unavailable | QueryBehind | EventsLost):
        return 3
    refused = isinstance(error, DatabaseError | AccessDenied | WrongServer)
    return 4 if refused and not isinstance(error, BadUrl) else 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out a command line.  Returns the exit code, see `CODES`."""
    try:
        args = make_parser().parse_args(arguments)
        _prepare(args)
        code = int(args.call(args))
        sys.stdout.flush()
    except Error as error:
        print(f"replay: {lines(error)}", file=sys.stderr)
        return _code(error)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _forget_output()
        return 141
    except OSError as error:  # the output is on a disk that is full, say
        print(f"replay: {lines(error)}", file=sys.stderr)
        _forget_output()
        return 4
    return code


def _prepare(args: argparse.Namespace) -> None:
    """Have log lines without control sequences, and an output that takes every character."""
    handler = logging.StreamHandler()
    handler.setFormatter(Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    logging.basicConfig(handlers=[handler], level=getattr(args, "level", logging.WARNING))
    if isinstance(sys.stdout, io.TextIOWrapper):
        encoding = "utf-8" if getattr(args, "json", False) else None
        sys.stdout.reconfigure(encoding=encoding, errors="backslashreplace")


def _forget_output() -> None:
    """Have nothing more written to a closed pipe: Python would complain of that at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
