"""The commands that keep a log in order: `audit`, `export` and `prune`.

Left to `replay.retention`, `replay.export` and `audit`: what may go, what a history holds, and what
a log promises.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TextIO

from ..client import Client
from ..export import iterations, write_history
from ..log import Log
from ..query import ConsumerInfo
from ..storage.event import Key
from . import console
from .audit import Audit
from .console import (
    BadArgument,
    Commands,
    log_url,
    note,
    on_log,
    opened,
    print_json,
    visible,
    word,
)
from .tables import open_log


def add_parsers(commands: Commands) -> None:
    """Add the commands of this module."""
    parser = commands.add_parser(
        "audit",
        parents=[on_log()],
        help="check what a log promises",
        description="Read a log, also one that another system wrote, and report each"
        " promise of docs/semantics.md that it shows to be broken.  It writes nothing, and the"
        " log may be in use.  It reads the database itself, because a server shows its clients no"
        " rows of sleeps, awaits, signals and parked events.  It exits with 1 if a promise is"
        " broken.  In JSON it prints an object for each finding, with promise, event, run and"
        " problem.",
    )
    parser.set_defaults(call=_audit)
    _add_export(commands)
    _add_prune(commands)


def _add_export(commands: Commands) -> None:
    parser = commands.add_parser(
        "export",
        parents=[on_log(json=False)],
        help="write histories as JSON lines",
        description="Write the histories of a log as JSON lines, one for each iteration.  They"
        " hold your users' messages.  Pruned iterations are left out.",
    )
    add_filter(parser)
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="write a new file, which only you may read; without it, to standard output",
    )
    parser.set_defaults(call=_export)


def add_filter(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose histories."""
    parser.add_argument("--namespace", default="", metavar="NAME", help="only of this namespace")
    parser.add_argument(
        "--workflow", default="", metavar="NAME", help="only of this workflow of the namespace"
    )
    parser.add_argument("--run", default="", metavar="ID", help="only of this run of the workflow")


def _add_prune(commands: Commands) -> None:
    parser = commands.add_parser(
        "prune",
        parents=[on_log()],
        help="remove what ended long ago",
        description="Remove the runs that ended long ago and that all consumers have passed, with"
        " their sleeps, awaits and signals, and the ended iterations of other runs (L9).  Signals"
        " that arrive for a pruned run stay until --forget.  In JSON it prints one object, with"
        " runs, iterations, events and signals.  In held_up_by it names the consumer that has read"
        " least, in up_to the event that it has read: nothing behind that can be removed.  They are"
        " null if all consumers have read everything.",
    )
    parser.add_argument(
        "--older-than",
        type=age,
        required=True,
        metavar="AGE",
        help="remove what ended longer ago than this: 30d, 12h, 90m",
    )
    parser.add_argument(
        "--namespace", default="", metavar="NAME", help="only runs of this namespace"
    )
    parser.add_argument(
        "--export",
        type=Path,
        metavar="DIR",
        help="first write the histories to a new file there; it holds your users' messages",
    )
    parser.add_argument(
        "--forget",
        action="store_true",
        help="leave nothing of a run, so that its id can be used again",
    )
    parser.add_argument(
        "--shared-with-go-passed",
        type=int,
        metavar="ID",
        help="the event that all consumers of a Go system on this database have passed",
    )
    parser.set_defaults(call=_prune)


def age(text: str) -> timedelta:
    """Read an age such as 30d, 12h or 90m.  Raises `ArgumentTypeError`."""
    if (found := console.age(text)) is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no age: write a whole number and s, m, h, d or w, for instance 30d"
        )
    return found


def _audit(args: argparse.Namespace) -> int:
    with open_log(log_url(args)) as tables:
        found = 0
        for finding in Audit(tables).run():
            found += 1
            if args.json:
                print_json(finding._asdict())
            else:
                print(visible(finding))
        if not args.json:
            print(f"{tables.count} events: {found or 'no'} broken promise{'s' * (found != 1)}")
    return 1 if found else 0


def _export(args: argparse.Namespace) -> int:
    with opened(args) as client:
        if args.output is None:
            return _write(client, args, sys.stdout)
        try:
            number = os.open(args.output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise BadArgument(f"--output {args.output} exists: name a new file") from None
        with os.fdopen(number, "w", encoding="utf-8") as file:
            return _write(client, args, file)


def _write(client: Client, args: argparse.Namespace, file: TextIO) -> int:
    for log, key in chosen(client, args):
        write_history(log, key, file)
    return 0


def chosen(client: Client, args: argparse.Namespace) -> Iterator[tuple[Log, Key]]:
    """Yield the iterations that the options of `add_filter` choose, and their log."""
    of = (args.namespace, args.workflow, args.run)
    log = client.log_of(args.namespace)
    for key in iterations(client.stream(*of, to_head=True)):
        yield log, key


def _prune(args: argparse.Namespace) -> int:
    with opened(args) as client:
        removed = client.prune(
            args.older_than,
            namespace=args.namespace,
            export=args.export,
            forget=args.forget,
            shared_with_go_passed=args.shared_with_go_passed,
        )
        last = _slowest(client, args.namespace)
    if args.json:
        held_up = {"held_up_by": last and last.name, "up_to": last and last.cursor}
        print_json(removed._asdict() | held_up)
        return 0
    print(
        f"removed {removed.events} events and {removed.signals} signals:"
        f" {removed.runs} runs, {removed.iterations} iterations"
    )
    if last is not None:
        note(f"nothing behind event {last.cursor} can go: {word(last.name)} has read no further")
    return 0


def _slowest(client: Client, namespace: str) -> ConsumerInfo | None:
    """The consumer that has read least; None if all have read everything."""
    behind = [each for each in client.consumers(namespace) if each.lag]
    return min(behind, key=lambda each: each.cursor, default=None)
