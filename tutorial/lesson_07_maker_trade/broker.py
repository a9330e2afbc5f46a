"""The way to the exchange of lesson 7: what the maker says to it and hears from it."""

import time
from dataclasses import dataclass

from replay import ActivityContext, OutputType
from tutorial import exchange
from tutorial.exchange import Exchange, Side, State

NAMESPACE = "maker_trade"
LATENCY = 0.2  # Seconds from the exchange back to here: long enough for a crash in between.


@dataclass
class Wish:
    """The input of the workflow: who buys how much, and how far below the bid the first order is.

    All prices are in cents.
    """

    account: int
    quantity: int
    edge: int


@dataclass
class Ticker:
    """The best prices to buy and to sell at."""

    bid: int
    ask: int


@dataclass
class Limit:
    """An order to place."""

    account: int
    quantity: int
    price: int


@dataclass
class Order:
    """An order as the exchange has it, and how many orders of its account are open."""

    client_id: str
    quantity: int
    price: int
    state: State
    open: int


#: An order is placed.
PLACED = OutputType("placed", Order)
#: An order is filled.
FILLED = OutputType("filled", Order)


def ticker(ctx: ActivityContext, house: Exchange, market: None) -> Ticker:
    """An activity that only reads."""
    bid, ask = house.market.ticker()
    return Ticker(bid, ask)


def place(ctx: ActivityContext, house: Exchange, limit: Limit) -> Order:
    """An activity that must not take effect twice. The exchange knows an order by its client id."""
    client_id = f"{limit.account}/{ctx.idempotency_key}"
    order = house.place(client_id, Side.BUY, limit.quantity, limit.price)
    found = answer(house, limit.account, order)
    time.sleep(LATENCY)
    return found


def cancel(ctx: ActivityContext, house: Exchange, order: Order) -> Order:
    """An activity that may happen twice: an order that has ended does not end again."""
    account = int(order.client_id.partition("/")[0])
    return answer(house, account, house.cancel(order.client_id))


def answer(house: Exchange, account: int, order: exchange.Order) -> Order:
    """An order as a message."""
    open = [each for each in house.orders(f"{account}/") if each.state is State.OPEN]
    return Order(order.client_id, order.quantity, order.price, order.state, len(open))
