"""``replay export``: writes histories as JSON lines, for `replay verify`, an archive or a tool.

Role: picks the iterations that the log has, and writes each as a line.  A pruned one is left out.

Left to `replay.export`: what a line holds.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TextIO

from ..client import Client
from ..export import iterations, write_history


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("--namespace", default="", metavar="NAME", help="only of this namespace")
    parser.add_argument(
        "--workflow", default="", metavar="NAME", help="only of this workflow of the namespace"
    )
    parser.add_argument("--run", default="", metavar="ID", help="only of this run of the workflow")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="write a new file; without it, to standard output",
    )


def run(client: Client, arguments: argparse.Namespace) -> int:
    """Write the histories.  Returns the exit status."""
    if arguments.output is None:
        return _write(client, arguments, sys.stdout)
    with arguments.output.open("x", encoding="utf-8") as file:
        return _write(client, arguments, file)


def _write(client: Client, arguments: argparse.Namespace, file: TextIO) -> int:
    of = (arguments.namespace, arguments.workflow, arguments.run)
    log = client.log_of(arguments.namespace)
    for key in iterations(client.stream(*of, to_head=True)):
        write_history(log, key, file)
    return 0
