"""A small simulated exchange: one market, and limit orders that rest in a file.

Role: stands in for an exchange on the internet, which is another system with a database of its own.
When a program that trades on it is killed, the market moves on and the program's orders rest on.

Invariants:

- A price depends only on the market's name and on the time.  So all processes see the same market
  without talking to each other, and you can look up its past.
- The first trade at an order's price or better fills it, from the moment when it was placed.  The
  call that finds out how an order ended stores that first.  So all later calls get the same answer:
  filled or cancelled, never both.

Left out: partial fills, other people's orders, fees, accounts.
"""

import hashlib
import math
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

RATE = 10  # Trades in a second, evenly spaced: these are the ticks, numbered from 1970 on.
BLOCK = 1024  # Ticks.  Between the ends of a block the price is a random walk.
BASE = 100_000  # The price that the market returns to, in cents.
VOLATILITY = 1.3  # The standard deviation of a tick, in cents.
KEPT = 60  # You can ask for the trades of so many seconds.


class Side(StrEnum):
    """Whether an order buys or sells."""

    BUY = "BUY"
    SELL = "SELL"


class State(StrEnum):
    """The state of an order.  All states but OPEN are final."""

    OPEN = "OPEN"
    FILLED = "FILLED"
    CANCELLED = "CANCELLED"
    REJECTED = "REJECTED"


class NoSuchOrder(LookupError):
    """No order has this client id."""


class OrderDiffers(ValueError):
    """Another order already has this client id."""


class Ticker(NamedTuple):
    """The best prices to buy and to sell at, in cents."""

    bid: int
    ask: int


class Trade(NamedTuple):
    """One trade between two other people."""

    at: float  # Seconds since 1970.
    price: int  # Cents.
    quantity: int


class Order(NamedTuple):
    """A limit order, as it was at some moment."""

    client_id: str
    side: Side
    quantity: int
    price: int  # Cents.
    tick: int  # The tick at which it was placed.
    state: State


class Market:
    """The prices of one name.  `clock` gives the time in seconds since 1970."""

    def __init__(self, name: str, clock: Callable[[], float] = time.time) -> None:
        self.name = name
        self._clock = clock

    def tick(self) -> int:
        """The number of the latest trade."""
        return math.floor(self._clock() * RATE)

    def price(self, tick: int) -> int:
        """The price of a trade, in cents."""
        return BASE + round(VOLATILITY * _level(self.name, tick))

    def ticker(self) -> Ticker:
        """The best prices now."""
        return self.best(self.tick())

    def best(self, tick: int) -> Ticker:
        """The best prices after a trade: one cent below and above its own."""
        price = self.price(tick)
        return Ticker(price - 1, price + 1)

    def trades(self, since: float) -> list[Trade]:
        """The trades after that time, oldest first; none is older than a minute."""
        now = self.tick()
        first = max(math.floor(since * RATE), now - KEPT * RATE) + 1
        return [
            Trade(tick / RATE, self.price(tick), 1 + _bytes(self.name, tick)[-1] % 9)
            for tick in range(first, now + 1)
        ]


@lru_cache(maxsize=2 * BLOCK)
def _level(name: str, tick: int) -> float:
    """The value of a random walk with steps of variance 1: a Brownian bridge in each block.

    A tick lies in the middle of two others, which its lowest bit gives.  Its value is their mean
    plus a random number, and the random number is a hash.  The ends of blocks are independent.
    """
    # The sum of twelve bytes is nearly normal, and has a standard deviation of 256.
    chance = (sum(_bytes(name, tick)[:12]) - 12 * 127.5) / 256
    if tick % BLOCK == 0:
        return chance * math.sqrt(BLOCK / 2)
    half = tick & -tick
    return (_level(name, tick - half) + _level(name, tick + half)) / 2 + chance * math.sqrt(
        half / 2
    )


def _bytes(name: str, tick: int) -> bytes:
    return hashlib.blake2b(f"{name}/{tick}".encode(), digest_size=13).digest()


class Exchange:
    """A market, and the orders that were placed in it.

    `path` is its file, which is created if it does not exist.  Any number of threads and processes
    may use it at once, because each call is one transaction.
    """

    def __init__(self, path: Path, market: Market) -> None:
        self.market = market
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._transaction() as database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS orders (client_id TEXT PRIMARY KEY, side TEXT NOT NULL,"
                " quantity INTEGER NOT NULL, price INTEGER NOT NULL, tick INTEGER NOT NULL,"
                " state TEXT NOT NULL)"
            )

    def place(self, client_id: str, side: Side, quantity: int, price: int) -> Order:
        """Place an order that rests at a price in cents until it is filled or cancelled.

        It is post-only: it is REJECTED if it would trade at once.  A `client_id` names one order
        for ever.  If you place that order again, nothing changes, and you get the order as it is
        now.  Raises `OrderDiffers` if the other values differ, and `ValueError` for a quantity
        below 1.
        """
        if quantity < 1:
            raise ValueError(f"order {client_id}: a quantity of {quantity}, expected 1 or more")
        with self._transaction() as database:
            if (found := self._find(database, client_id)) is not None:
                if found[1:4] != (side, quantity, price):
                    raise OrderDiffers(
                        f"{client_id} is to {found.side} {found.quantity} at {found.price}:"
                        " choose another client id"
                    )
                return found
            tick = self.market.tick()
            bid, ask = self.market.best(tick)
            crosses = price >= ask if side is Side.BUY else price <= bid
            state = State.REJECTED if crosses else State.OPEN
            order = Order(client_id, side, quantity, price, tick, state)
            database.execute("INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?)", order)
            return order

    def cancel(self, client_id: str) -> Order:
        """Cancel an order if it is still open; return it: CANCELLED, or as it ended before.

        You may repeat this.  Raises `NoSuchOrder`.
        """
        with self._transaction() as database:
            order = self._get(database, client_id)
            if order.state is State.OPEN:
                order = self._end(database, order, State.CANCELLED)
            return order

    def order(self, client_id: str) -> Order:
        """The order as it is now.  Raises `NoSuchOrder`."""
        with self._transaction() as database:
            return self._get(database, client_id)

    def orders(self, prefix: str) -> list[Order]:
        """The orders whose client ids begin with the prefix, as they are now, oldest first."""
        query = "SELECT * FROM orders WHERE substr(client_id, 1, ?) = ? ORDER BY rowid"
        with self._transaction() as database:
            rows = database.execute(query, (len(prefix), prefix)).fetchall()
            return [self._now(database, row) for row in rows]

    def _get(self, database: sqlite3.Connection, client_id: str) -> Order:
        if (order := self._find(database, client_id)) is None:
            raise NoSuchOrder(f"{self._path} has no order {client_id}: place it first")
        return order

    def _find(self, database: sqlite3.Connection, client_id: str) -> Order | None:
        query = "SELECT * FROM orders WHERE client_id = ?"
        row = database.execute(query, (client_id,)).fetchone()
        return None if row is None else self._now(database, row)

    def _now(self, database: sqlite3.Connection, row: tuple[str, str, int, int, int, str]) -> Order:
        """The order of a row; FILLED if a trade after its placing has filled it."""
        client_id, side, quantity, price, tick, state = row
        order = Order(client_id, Side(side), quantity, price, tick, State(state))
        if order.state is State.OPEN and self._traded(order):
            return self._end(database, order, State.FILLED)
        return order

    def _traded(self, order: Order) -> bool:
        prices = map(self.market.price, range(order.tick + 1, self.market.tick() + 1))
        if order.side is Side.BUY:
            return any(price <= order.price for price in prices)
        return any(price >= order.price for price in prices)

    def _end(self, database: sqlite3.Connection, order: Order, state: State) -> Order:
        update = "UPDATE orders SET state = ? WHERE client_id = ?"
        database.execute(update, (state, order.client_id))
        return order._replace(state=state)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """One writer at a time; the others wait for up to a minute."""
        with closing(sqlite3.connect(self._path, timeout=60, isolation_level=None)) as database:
            database.execute("BEGIN IMMEDIATE")
            yield database
            database.execute("COMMIT")
