"""The commands that change something: `start`, `signal`, `cancel` and `retry`.

Each may be repeated: the second call finds what the first has stored, and exits with 1.

Left to `look`: the commands that only look.
"""

from __future__ import annotations

import argparse
import sys
import uuid

from .console import BadArgument, Commands, note, on_log, opened, place, print_json, run, word
from .messages import typed


def add_parsers(commands: Commands) -> None:
    """Add the commands of this module."""
    parser = commands.add_parser(
        "start",
        parents=[on_log(messages=True)],
        help="start a run",
        description="Start a run.  Each run id is used once, ever: the exit code is 1 if it was"
        " used before.  In JSON the field `started` says which.",
    )
    parser.add_argument("run", metavar="NAMESPACE/WORKFLOW/RUN", help="the run")
    _add_message(parser, "the run's input")
    parser.set_defaults(call=_start)
    parser = commands.add_parser(
        "signal",
        parents=[on_log(messages=True)],
        help="send a signal to a run",
        description="Send a signal to a run, which need not have started.  The exit code is 1 if"
        " the run has one of this type and external id already.  In JSON the field `sent` says"
        " which, and `external_id` tells the id.",
    )
    parser.add_argument("run", metavar="NAMESPACE/WORKFLOW/RUN", help="the run")
    parser.add_argument("type", type=int, metavar="TYPE", help="a number from -128 to 127")
    _add_message(parser, "the signal's message")
    parser.add_argument(
        "--id",
        help="the external id, which tells signals of a type apart: give one if you may have to"
        " repeat the command (default: a new one)",
    )
    parser.set_defaults(call=_signal)
    parser = commands.add_parser(
        "cancel",
        parents=[on_log()],
        help="cancel a run, or terminate it",
        description="Cancel a run.  The exit code is 1 if it is unknown, has ended, or was"
        " cancelled before.  In JSON the field `cancelled` says which.  `replay show --follow`"
        " waits for the end.",
    )
    parser.add_argument("run", metavar="NAMESPACE/WORKFLOW/RUN", help="the run")
    parser.add_argument("--reason", default="", metavar="TEXT", help="what the run is told")
    parser.add_argument(
        "--terminate", action="store_true", help="end the run without running its code any more"
    )
    parser.set_defaults(call=_cancel)
    parser = commands.add_parser(
        "retry",
        parents=[on_log()],
        help="try parked events again now",
        description="Make parked events due at once.  Their consumer's owner tries them within two"
        " seconds, or when there is one.  The exit code is 1 if nothing was parked.  In JSON the"
        " field `retried` says how many were.",
    )
    parser.add_argument(
        "place",
        nargs="?",
        metavar="NAMESPACE[/WORKFLOW[/RUN]]",
        help="all that is parked of a run, a workflow or a namespace",
    )
    parser.add_argument("--consumer", metavar="NAME", help="or all that this consumer has parked")
    parser.add_argument("--event", type=int, metavar="ID", help="only this event of the consumer's")
    parser.set_defaults(call=_retry)


def _add_message(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument(
        "message", nargs="?", metavar="JSON", help=f"{what}; - reads it from standard input"
    )
    parser.add_argument(
        "--type",
        dest="type_name",
        metavar="NAME",
        help="the protobuf type of the message, such as app.v1.Order; needs --import",
    )


def _text(args: argparse.Namespace) -> str | None:
    """The message as it was typed."""
    if args.message != "-":
        return None if args.message is None else str(args.message)
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise BadArgument(f"standard input is not a text: {error}") from error


def _start(args: argparse.Namespace) -> int:
    names = run(args.run)
    with opened(args) as client:
        started = client.run_workflow(*names, typed(_text(args), args.type_name))
    return _done(
        args, started, f"started {word(args.run)}", "this run id was used before", started=started
    )


def _signal(args: argparse.Namespace) -> int:
    names, external_id = run(args.run), str(uuid.uuid4()) if args.id is None else args.id
    with opened(args) as client:
        message = typed(_text(args), args.type_name)
        sent = client.signal_run(*names, args.type, message, external_id)
    return _done(
        args,
        sent,
        f"sent signal {args.type} with id {word(external_id)}",
        "the run has a signal of this type and id already",
        sent=sent,
        external_id=external_id,
    )


def _cancel(args: argparse.Namespace) -> int:
    names = run(args.run)
    with opened(args) as client:
        cancelled = client.cancel_run(*names, args.reason, terminate=args.terminate)
    return _done(
        args,
        cancelled,
        f"cancelled {word(args.run)}",
        "the run is unknown, has ended, or was cancelled before",
        cancelled=cancelled,
    )


def _retry(args: argparse.Namespace) -> int:
    names = [] if args.place is None else place(args.place)
    if bool(names) == bool(args.consumer):
        raise BadArgument("say what to retry: NAMESPACE[/WORKFLOW[/RUN]], or --consumer NAME")
    if args.event is not None and not args.consumer:
        raise BadArgument("--event needs the --consumer that has parked it")
    with opened(args) as client:
        count = client.retry(*names, consumer=args.consumer or "", event_id=args.event)
    return _done(args, count > 0, f"{count} due now", "nothing of this is parked", retried=count)


def _done(args: argparse.Namespace, yes: bool, done: str, problem: str, **fields: object) -> int:
    """Say what came of it; the exit code."""
    if args.json:
        print_json(fields)
    elif yes:
        print(done)
    else:
        note(problem)
    return 0 if yes else 1
