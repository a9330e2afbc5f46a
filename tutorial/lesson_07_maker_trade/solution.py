"""Lesson 7: a maker with one order at a time at an exchange, until one is filled."""

import secrets
from datetime import timedelta

import replay
from tutorial.exchange import Exchange, Market
from tutorial.lesson_07_maker_trade import maker_pb2 as pb
from tutorial.lesson_07_maker_trade.replay_gen import (
    MakerFlow,
    handle_filled,
    handle_placed,
    run_maker,
    start_replay_loops,
    stream_maker,
)
from tutorial.lessons import STATE
from tutorial.show import print_log

PATIENCE = timedelta(milliseconds=500)  # How long an order may rest.
ATTEMPTS = 25


def maker(flow: MakerFlow, wish: pb.Wish) -> None:
    """A workflow: begins far below the bid, and comes closer to it with each order."""
    edge = wish.edge
    for _ in range(ATTEMPTS):
        # TODO(you): read the bid with flow.ticker. Place an order `edge` below it with flow.place.
        # Emit the order as the output `placed`. Then sleep for as long as it may rest.
        bid = flow.ticker(pb.Market()).bid
        limit = pb.Limit(account=wish.account, quantity=wish.quantity, price=bid - edge)
        order = flow.place(limit)
        flow.emit_placed(order)
        flow.sleep(PATIENCE)
        # done
        # TODO(you): cancel the order. The result says how it has ended. If it is FILLED, emit it as
        # the output `filled`, and return. Otherwise the loop replaces it with the next order.
        ended = flow.cancel(order)
        if ended.state == pb.Order.FILLED:
            flow.emit_filled(ended)
            return
        # done
        edge //= 10


def told(run: str, order: pb.Order) -> None:
    """Print an output."""
    print(f"  {pb.Order.State.Name(order.state):9} {order.price / 100:.2f}", flush=True)


def main(url: str, run: str) -> None:
    """Starts the maker unless it has been started, and follows its outputs to the end."""
    house = Exchange(STATE / "exchange.db", Market("gold"))
    with replay.connect(url) as client:
        start_replay_loops(client, house, maker=maker)
        # Each start draws a new account, but only the first call starts the run and stores it.
        account = secrets.randbelow(9 * 10**8) + 10**8
        run_maker(client, run, pb.Wish(account=account, quantity=5, edge=100))
        wish: pb.Wish = next(stream_maker(client, run)).message
        for event in stream_maker(client, run):
            handle_placed(event, told)
            handle_filled(event, told)
            if event.type is replay.EventType.RUN_COMPLETED:
                break
        print_log(client, "maker_trade", "maker", run)
        print("What the exchange has:")
        for order in house.orders(f"{wish.account}/"):
            print(f"  {order.state:9} {order.price / 100:.2f}")
