"""Runs the demo: `python -m demo` (see the package's docstring)."""

import argparse
import contextlib
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import replay
from demo.board import WORKFLOW, Board, find_prefix
from demo.driver import Driver, Kill, Stuck
from demo.fleet import Fleet, WorkerEnded
from demo.market import BadInput, load
from demo.messages import OrderRequest
from demo.progress import Progress, Remarks, heard
from demo.proof import audit, prove
from demo.trace import trace
from demo.workflow import NAMESPACE, twap
from replay.tools.lanes import show
from replay.tools.ui import Server, Site, make_edge

SQLITE = "sqlite:///"


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="demo", description="A TWAP strategy that survives kill -9 of its workers."
    )
    parser.add_argument("--url", help="the URL of the database (default: a new SQLite file)")
    parser.add_argument(
        "--workers",
        type=int,
        default=3,
        metavar="N",
        help="worker processes (default: %(default)s)",
    )
    parser.add_argument("--orders", type=int, metavar="N", help="trade only the first N orders")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(__file__).parent,
        metavar="DIR",
        help="the directory with orders.csv and ticks.csv (default: the demo's own)",
    )
    parser.add_argument(
        "--ui", action="store_true", help="show the runs in a browser, until you press Ctrl-C"
    )
    parser.add_argument(
        "--timeline", action="store_true", help="draw the run that the demo shows at its end"
    )
    return parser.parse_args(arguments)


@contextlib.contextmanager
def shown(url: str) -> Iterator[None]:
    """Serves the page of the log, and opens it in a browser if there is a desktop."""
    host = "127.0.0.1"
    with (
        replay.connect(url, loops=False) as client,
        Server(Site(client, write=True), (host, 0), make_edge(host, (), None)) as page,
    ):
        print(f"The page of this log: {page.url}", flush=True)
        if sys.platform == "darwin" or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
            webbrowser.open(page.url)
        yield


def wait() -> None:
    """Waits for Ctrl-C, while the page goes on."""
    print("\nThe page stays until you press Ctrl-C.", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()


def choose(args: argparse.Namespace) -> list[OrderRequest]:
    """Checks the options; returns the orders to trade.  Raises BadInput."""
    orders, _ = load(args.data)
    count = len(orders) if args.orders is None else args.orders
    if not 1 <= count <= len(orders):
        raise BadInput(f"--orders must be a number from 1 to {len(orders)}, not {count}")
    if not 1 <= args.workers <= 16:
        raise BadInput(f"--workers must be a number from 1 to 16, not {args.workers}")
    if args.url == "sqlite://":
        raise BadInput("processes cannot share a database in memory: name a file")
    return orders[:count]


def where(url: str) -> str:
    """The database in words, without user and password."""
    if url.startswith(SQLITE):
        path = url.removeprefix(SQLITE).partition("?")[0]
        return f"SQLite file {Path(path).absolute()}"
    parts = urlsplit(url)
    return f"{parts.scheme} server {parts.netloc.rpartition('@')[2]}, database {parts.path[1:]}"


def start(client: replay.Client, prefix: str, orders: list[OrderRequest]) -> int:
    """Starts a run for each order, unless an earlier demo has; returns how many it started."""
    return sum(
        client.run_workflow(NAMESPACE, twap, prefix + order.order_id, order) for order in orders
    )


def run(args: argparse.Namespace, url: str, orders: list[OrderRequest], log: Path) -> bool:
    """Runs the demo; returns whether the proof holds."""
    progress = Progress(sys.stdout)
    with replay.connect(url, loops=False) as client:
        prefix, goes_on = find_prefix(client)
        started = start(client, prefix, orders)
        board = Board(client, prefix)
        board.read()
        text = f"Orders started: {started} (runs {prefix}*)."
        if goes_on:
            text += f" Resumed: {len(board.requests) - started}."
        progress.say(f"{text} Workers: {args.workers}. Database: {where(url)}")
        with Fleet(url, args.data, args.workers, log) as fleet:
            driver = Driver(board, fleet, progress, set(board.requests))
            try:
                with heard(Remarks(progress)):
                    driver.drive()
            finally:
                progress.say(driver.state())
        # The orders of this demo, and those that an earlier demo with more orders left.
        given = board.requests | {prefix + order.order_id: order for order in orders}
        return report(client, url, prefix, given, driver.kills, args.timeline)


def report(
    client: replay.Client,
    url: str,
    prefix: str,
    orders: Mapping[str, OrderRequest],
    kills: list[Kill],
    timeline: bool,
) -> bool:
    """Reads the log again from its beginning; prints one run of it, and the proof."""
    events = [
        event
        for event in client.stream(NAMESPACE, WORKFLOW, to_head=True)
        if event.key.run.startswith(prefix)
    ]
    chosen = telling(orders, kills)
    print(f"\nOne of the orders, {chosen}:\n")
    of_run = [event for event in events if event.key.run == chosen]
    if timeline:
        show(of_run, sys.stdout)
        print()
    for line in trace(of_run, {kill.name: kill.last_id for kill in kills if chosen in kill.runs}):
        print(line)
    checks = [*prove(events, orders), audit(url)]
    print(f"\nRead back from the log ({NAMESPACE}/{WORKFLOW}/{prefix}*):\n")
    for check in checks:
        print(check)
    return all(check.holds for check in checks)


def telling(orders: Mapping[str, OrderRequest], kills: list[Kill]) -> str:
    """The run to show: it survived the most kills, and is the shortest of those that did."""

    def rank(run: str) -> tuple[int, int, str]:
        return -sum(run in kill.runs for kill in kills), orders[run].splits, run

    return min(orders, key=rank)


def main(arguments: list[str] | None = None) -> int:
    """Runs the demo; returns the exit code: 0, 1 if it failed, 2 for bad input."""
    args = parse(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    directory = Path(tempfile.mkdtemp(prefix="replay-demo-"))
    database, log = directory / "demo.db", directory / "workers.log"
    url = args.url or f"{SQLITE}{database}"
    try:
        # Until there is a progress line, the library raises everything that it logs.
        with heard(logging.NullHandler()), shown(url) if args.ui else contextlib.nullcontext():
            holds = run(args, url, choose(args), log)
            if args.ui:
                wait()
        print(f"\nThe database: {where(url)}")
        code = 0 if holds else 1
    except (BadInput, replay.Error) as error:
        print(f"demo: {error}", file=sys.stderr)
        code = 2
    except (WorkerEnded, Stuck) as error:
        print(f"demo: {error}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        again = "again." if args.url else f"with --url {url}"
        print(f"Stopped. Nothing is lost. To continue, run the same command {again}")
        code = 130
    if code == 1:
        print(f"demo: the workers' log is {log}", file=sys.stderr)
    elif not database.exists():
        shutil.rmtree(directory)
    return code


if __name__ == "__main__":
    sys.exit(main())
