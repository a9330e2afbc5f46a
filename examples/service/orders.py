"""A worker of the shop: start as many as you like, with the log's URL in REPLAY_URL."""

import os
import signal
from dataclasses import dataclass
from datetime import timedelta

import replay

URL = os.environ.get("REPLAY_URL", "sqlite:///shop.db")
APPROVE = replay.SignalType(1, str)


@dataclass
class Order:
    item: str
    price: int


def ship(ctx: replay.ActivityContext, backends: None, order: Order) -> str:
    ctx.log.info("shipping %s", order.item)
    return f"{order.item} is on its way"


def order(ctx: replay.RunContext, order: Order) -> str:
    if order.price >= 100:
        by = ctx.await_signal(APPROVE, timedelta(days=3))
        if by is None:
            raise replay.Failed("nobody approved it in three days", kind="late")
    return ctx.exec_activity(ship, order)


def main() -> None:
    stop = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop)  # before any thread starts
    with replay.connect(URL) as client:
        replay.register_workflow(client, "shop", order, shards=8)
        replay.register_activity(client, "shop", ship, shards=8, timeout=timedelta(minutes=1))
        print("works", flush=True)
        signal.sigwait(stop)


if __name__ == "__main__":
    main()
