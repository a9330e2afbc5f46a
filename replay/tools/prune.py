"""``replay prune``: removes what is over from the log (L9).

Role: turns a command line into a call of `Client.prune`.

Left to `replay.retention`: what may go.
"""

from __future__ import annotations

import argparse
import re
from datetime import timedelta
from pathlib import Path

from ..client import Client

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def age(text: str) -> timedelta:
    """Read an age such as 30d, 12h or 90m.  Raises `ArgumentTypeError`."""
    found = re.fullmatch(r"(\d{1,6})([smhdw])", text, re.ASCII)
    if found is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no age: write a whole number and s, m, h, d or w, for instance 30d"
        )
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
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


def run(client: Client, arguments: argparse.Namespace) -> int:
    """Prune, and print how much went.  Returns the exit status."""
    removed = client.prune(
        arguments.older_than,
        namespace=arguments.namespace,
        export=arguments.export,
        forget=arguments.forget,
        shared_with_go_passed=arguments.shared_with_go_passed,
    )
    print(
        f"removed {removed.events} events and {removed.signals} signals:"
        f" {removed.runs} runs, {removed.iterations} iterations"
    )
    return 0
