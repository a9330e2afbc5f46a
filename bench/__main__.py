"""The command `python -m bench`: prints the tables. See `--help`."""

import argparse
import os
import platform
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path

from bench import (
    attacks,
    grown,
    histories,
    idle,
    large,
    peers,
    recovery,
    remote,
    starts,
    steps,
    values,
    waits,
    workers,
)
from bench.backends import Backend, Sqlite, from_url, private_mariadb, scratch
from bench.rows import QUICK, Row, Sizes, table

Measure = Callable[[Backend, Sizes], list[Row]]

MEASURES: dict[str, Measure] = {
    "throughput": steps.throughput,
    "one-run": steps.one_run,
    "long-run": steps.long_run,
    "starts": starts.starts,
    "while-running": starts.while_running,
    "fall-asleep": starts.asleep,
    "workers": workers.workers,
    "take-up": recovery.take_up,
    "killed": recovery.killed,
    "signal": waits.signal,
    "elsewhere": waits.elsewhere,
    "sleep": waits.sleep,
    "memory": idle.memory,
    "idle": idle.waiting,
    "values": values.values,
    "verify": histories.verified,
}
#: Measures that an option of this name asks for, and no others.
ALONE: dict[str, dict[str, Measure]] = {
    "large": {"large": large.large},
    "attacks": {"attacks": attacks.attacks},
    "remote": {"through-a-server": remote.through_a_server},
    "grown": {"grown": grown.grown},
}
FAILED = "failed"


def main() -> int:
    options = arguments()
    sizes = QUICK if options.quick else Sizes()
    results: dict[str, dict[str, list[Row]]] = {}
    print(machine() + (" (--quick: small sizes, rough figures)" if options.quick else ""))
    with ExitStack() as stack:
        directory = stack.enter_context(scratch())
        for backend in backends(options.url, directory, stack):
            title = backend.title()
            found = {
                name: measured(name, measure, backend, sizes)
                for name, measure in chosen(options).items()
            }
            show(title, [row for rows in found.values() for row in rows])
            results[title] = found
        if options.peers:
            progress("DBOS, the same work")
            for title, rows in peers.dbos(sizes, directory, compared(results)):
                show(title, rows)
    rows = [row for found in results.values() for part in found.values() for row in part]
    return int(any(row.figure == FAILED for row in rows))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench",
        description="Measure the library. Without --url it runs on a SQLite file and on a MariaDB"
        " with default durability, which it starts for this. The verdict `short` means that a"
        " figure misses its goal; it does not change the exit status. A measure that fails does.",
    )
    parser.add_argument(
        "--url",
        nargs="+",
        action="extend",
        default=[],
        help="run on these instead: sqlite:///FILE or mysql://USER:PW@HOST/DATABASE;"
        " the benchmark creates its own databases beside the one named, and removes them",
    )
    parser.add_argument(
        "--peers",
        action="store_true",
        help="also give DBOS the same work, on SQLite and on a PostgreSQL that it starts for this",
    )
    parser.add_argument(
        "--remote",
        action="store_true",
        help="measure only a client of a server, beside an embedded one",
    )
    parser.add_argument(
        "--attacks",
        action="store_true",
        help="measure only how long a client of a server waits while another attacks it; takes"
        " 4 minutes for each database",
    )
    parser.add_argument(
        "--grown",
        action="store_true",
        help="measure only queries on a log of a million runs, and what their table costs;"
        " takes some minutes and 1 GB for each database",
    )
    parser.add_argument(
        "--large",
        action="store_true",
        help="measure only a log of ten million events; takes half an hour and 5 GB for each"
        " database",
    )
    parser.add_argument("--quick", action="store_true", help="use small sizes: rough figures")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=MEASURES,
        default=list(MEASURES),
        help="run only these measures",
    )
    return parser.parse_args()


def chosen(options: argparse.Namespace) -> dict[str, Measure]:
    for option, measures in ALONE.items():
        if getattr(options, option):
            return measures
    return {name: MEASURES[name] for name in options.only}


def backends(urls: list[str], directory: Path, stack: ExitStack) -> Iterator[Backend]:
    if urls:
        yield from map(from_url, urls)
        return
    yield Sqlite(directory)
    progress("starting a private MariaDB")
    yield stack.enter_context(private_mariadb(directory))


def measured(name: str, measure: Measure, backend: Backend, sizes: Sizes) -> list[Row]:
    """The rows of a measure. If it fails, its row says so, and the other measures still run."""
    progress(f"{backend.kind}: {name}")
    try:
        return measure(backend, sizes)
    except Exception:
        traceback.print_exc()
        return [Row(name, FAILED, "", "see above")]


def compared(results: dict[str, dict[str, list[Row]]]) -> dict[str, peers.Ours]:
    """What a peer is compared with: of the backends that have both figures."""
    both = ("while-running", "one-run")
    return {
        title.split()[0]: peers.Ours(*(found[name][0].value for name in both))
        for title, found in results.items()
        if found.keys() >= set(both) and FAILED not in (found[name][0].figure for name in both)
    }


def machine() -> str:
    python = platform.python_version()
    drivers = f"PyMySQL {version('PyMySQL')}, protobuf {version('protobuf')}"
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {python}, {drivers}"


def show(title: str, rows: list[Row]) -> None:
    print(f"\n{title}\n")
    for line in table(rows):
        print(f"  {line}")
    sys.stdout.flush()


def progress(text: str) -> None:
    print(f"bench: {text} ...", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
