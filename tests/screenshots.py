"""Makes the pictures of the page in docs/: ``./dev screenshots``.

The runs are real ones: a worker is killed with kill -9, an activity fails, and a run waits for a
signal.  So times differ a little from picture to picture.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import replay
from replay import Client, connect, register_activity, register_workflow
from replay.tools.ui import Server, Site, make_edge
from tests import browser

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
CONSUMERS = 7  # of a workflow, three activities and the three loops
#: The largest picture, in bytes: they are loaded with the README.
LARGEST = 150_000
SHIPPED = replay.Retry(first=timedelta(seconds=2), factor=5)


def charge(ctx: replay.ActivityContext, backends: None, order: dict[str, Any]) -> dict[str, Any]:
    """Take the money."""
    time.sleep(0.8)
    return {"receipt": f"r-{order['number']}", "cents": 1200 * len(order["items"])}


def pack(ctx: replay.ActivityContext, backends: None, item: str) -> str:
    """Put an item into a parcel."""
    time.sleep({"tea": 0.5, "cup": 0.9}.get(item, 0.2))
    return f"{item} packed"


def ship(ctx: replay.ActivityContext, backends: None, order: dict[str, Any]) -> str:
    """Hand the parcel over."""
    if order["number"] == 1042:
        raise ConnectionError("the carrier's service does not answer")
    return f"parcel-{order['number']}"


def order(ctx: replay.RunContext, order: dict[str, Any]) -> str:
    """Sell something."""
    receipt = ctx.exec_activity(charge, order)
    ctx.emit_output("receipt", receipt)
    ctx.sleep(timedelta(seconds=1))
    ctx.gather(*(ctx.call(pack, item) for item in order["items"]))
    if order["number"] == 1040:
        raise replay.Failed("the cup is broken")
    review = ctx.begin(ctx.signal(1, timedelta(days=1)))
    parcel = ctx.exec_activity(ship, order)
    if order["number"] == 1041:
        review.result()
    return f"delivered: {parcel}"


def work(url: str) -> Client:
    """Register everything."""
    client = connect(url)
    register_workflow(client, "shop", order)
    register_activity(client, "shop", charge, workers=8)
    register_activity(client, "shop", pack, workers=8)
    register_activity(client, "shop", ship, retry=SHIPPED)
    return client


WORKER = (
    "import sys; from tests.screenshots import work; client = work(sys.argv[1]); sys.stdin.read()"
)


def trade(client: Client, url: str) -> Client:
    """Start runs, kill their worker while the last one sleeps, and go on in this process."""
    command = [sys.executable, "-c", WORKER, url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, cwd=ROOT) as worker:
        while sum(bool(each.owner) for each in client.consumers()) < CONSUMERS:
            time.sleep(0.1)
        for number in range(1036, 1043):
            message = {"number": number, "items": ["tea", "cup"]}
            client.run_workflow("shop", "order", f"order-{number}", message)
        wait_for(client, "replay_sleep")
        worker.kill()
    time.sleep(2.5)
    workers = work(url)
    client.cancel_run("shop", "order", "order-1039", "the customer has changed their mind")
    for number in (1036, 1037, 1038):
        client.result("shop", "order", f"order-{number}", 60)
    wait_for(client, "ship")
    while not any(
        each.attempts == 2 and each.next_at
        for each in client.describe("shop", "order", "order-1042").waiting_for
    ):
        time.sleep(0.1)
    return workers


def wait_for(client: Client, target: str) -> None:
    """Wait until the last run has requested something."""
    for event in client.stream("shop", "order", "order-1042"):
        if event.key.target == target:
            return


def take(url: str, folder: Path) -> None:
    """Make the pictures of a log, and check their size."""
    host = "127.0.0.1"
    with (
        connect(url, loops=False) as client,
        Server(Site(client), (host, 0), make_edge(host, (), None)) as page,
        browser.opened() as chromium,
    ):
        workers = trade(client, url)
        client.log.database.name = "sqlite:///shop.db"  # nobody wants to see a temporary path
        tab = chromium.page()
        tab.scheme("light")
        for name, path in (("page-run", "run/shop/order/order-1042"), ("page-runs", "")):
            tab.size(960, 600, scale=1.25)
            tab.goto(page.url + path)
            tab.size(960, tab.js("document.querySelector('main').scrollHeight"), scale=1.25)
            picture = tab.picture()
            assert len(picture) <= LARGEST, f"{name}: {len(picture):,} bytes"
            (folder / f"{name}.png").write_bytes(picture)
            print(f"{folder / name}.png: {len(picture):,} bytes")
        workers.close()


def main() -> None:
    """Make the pictures."""
    parser = argparse.ArgumentParser(prog="screenshots", description="Make the pictures in docs/.")
    parser.add_argument("--to", type=Path, default=DOCS, metavar="DIR", help="default: docs")
    args = parser.parse_args()
    logging.getLogger("replay").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="replay-") as folder:
        take(f"sqlite:///{folder}/shop.db", args.to)


if __name__ == "__main__":
    main()
