"""A worker process: `python -m demo.worker --url URL`.

The runs are divided into three shards. Each shard has two consumers, one for the workflow and one
for the activity, and each consumer has one live owner. Every worker registers all shards, its own
first, so the workers share the load. If a worker is killed, another one already stands by for its
shards. It takes over at once and does not wait for a replacement.
"""

import argparse
import logging
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

import replay
from demo.market import BadInput, OrderBooks, read_ticks
from demo.workflow import NAMESPACE, current_top, twap

SHARDS = 3
STAND_BY_AFTER = 1.5  # Seconds in which the other workers can take their own shards.
DATA = Path(__file__).parent


class Stop(BaseException):
    """Somebody asked the process to end."""


def register(client: replay.Client, books: OrderBooks, shard: int) -> None:
    """Serves the runs of one shard, or stands by for them."""
    part = replay.Shard.hashed(shard, SHARDS)
    replay.register_workflow(client, NAMESPACE, twap, shard=part)
    replay.register_activity(client, NAMESPACE, current_top, books, shard=part)


def serve(client: replay.Client, books: OrderBooks, args: argparse.Namespace) -> None:
    """Serves until the process is stopped, or the process that started it is gone."""
    place = args.index % args.workers
    own = [shard for shard in range(SHARDS) if shard % args.workers == place]
    for shard in own:
        register(client, books, shard)
    time.sleep(STAND_BY_AFTER)
    for shard in range(SHARDS):
        if shard not in own:
            register(client, books, shard)
    while os.getppid() == args.parent:
        time.sleep(0.2)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="demo.worker", description="Run one worker of the TWAP demo."
    )
    parser.add_argument("--url", required=True, help="the URL of the database")
    parser.add_argument(
        "--data", type=Path, default=DATA, metavar="DIR", help="the directory with ticks.csv"
    )
    parser.add_argument("--index", type=int, default=0, help="which of the workers this is, from 0")
    parser.add_argument("--workers", type=int, default=1, help="how many workers there are")
    parser.add_argument(
        "--parent",
        type=int,
        default=os.getppid(),
        metavar="PID",
        help="the process that started the worker: the worker ends when it is gone",
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Runs the worker; returns the exit code."""
    args = parse(arguments)
    name = f"worker {os.getpid()}"
    form = f"%(asctime)s {name} %(name)s %(levelname)s %(message)s"
    logging.basicConfig(format=form, level=logging.INFO)

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stop

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        books = OrderBooks(read_ticks(args.data / "ticks.csv"), source=name)
        with replay.connect(args.url) as client:
            serve(client, books, args)
    except Stop:
        return 0
    except (BadInput, replay.Error) as error:
        print(f"demo.worker: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
