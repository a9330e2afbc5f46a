"""Lesson 7: a maker with one order at a time at an exchange, until one is filled."""

import secrets
from datetime import timedelta
from typing import Any

import replay
from tutorial.exchange import Exchange, Market, State
from tutorial.lesson_07_maker_trade.broker import (
    FILLED,
    NAMESPACE,
    PLACED,
    Limit,
    Wish,
    cancel,
    place,
    ticker,
)
from tutorial.lessons import STATE
from tutorial.show import print_log

PATIENCE = timedelta(milliseconds=500)  # How long an order may rest.
ATTEMPTS = 25


def maker(ctx: replay.RunContext, wish: Wish) -> None:
    """A workflow: begins far below the bid, and comes closer to it with each order."""
    edge = wish.edge
    for _ in range(ATTEMPTS):
        # TODO(you): read the bid with `ticker`, whose message is None. Place an order `edge` below
        # it with `place`. Emit the order as the output PLACED. Then sleep for as long as it may
        # rest.
        # TODO(you): cancel the order. The result says how it has ended. If it is State.FILLED, emit
        # it as the output FILLED, and return. Otherwise the loop replaces it with the next order.
        edge //= 10


def told(namespace: str, workflow: str, run: str, name: str, order: Any) -> None:
    """Print an output."""
    print(f"  {order['state']:9} {order['price'] / 100:.2f}", flush=True)


def main(url: str, run: str) -> None:
    """Starts the maker unless it has been started, and follows its outputs to the end."""
    house = Exchange(STATE / "exchange.db", Market("gold"))
    with replay.connect(url) as client:
        replay.register_workflow(client, NAMESPACE, maker)
        for activity in (ticker, place, cancel):
            replay.register_activity(client, NAMESPACE, activity, house)
        # Each start draws a new account, but only the first call starts the run and stores it.
        account = secrets.randbelow(9 * 10**8) + 10**8
        client.run_workflow(NAMESPACE, maker, run, Wish(account, quantity=5, edge=100))
        wish = Wish(**next(client.stream(NAMESPACE, maker, run)).message)
        for event in client.stream(NAMESPACE, maker, run):
            replay.handle(event, run_output=told)
            if event.type is replay.EventType.RUN_COMPLETED:
                break
        print_log(client, NAMESPACE, "maker", run)
        print("What the exchange has:")
        for order in house.orders(f"{wish.account}/"):
            print(f"  {order.state:9} {order.price / 100:.2f}")
