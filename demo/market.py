"""The demo's real input: orders and market ticks, read from CSV files and checked line by line."""

import csv
import re
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path

from demo.messages import OrderRequest, Price, Side

ORDER_COLUMNS = ["id", "market", "side", "quantity", "splits", "seconds"]
TICK_COLUMNS = ["timestamp", "market", "bid", "ask"]


class BadInput(Exception):
    """An option or a file is missing or wrong. The text says in one sentence what is wrong."""


@dataclass(frozen=True)
class Tick:
    """The top of one market's book, from `offset` seconds after the first tick of the file."""

    offset: float
    bid_cents: int
    ask_cents: int


class OrderBooks:
    """The current top of each market's order book.

    The file stands in for a live feed. Wall-clock time moves through it and starts again at its
    end, so every worker sees the same market at the same moment. A query changes nothing, so it is
    safe to repeat.
    """

    def __init__(
        self,
        ticks: dict[str, list[Tick]],
        source: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ticks = ticks
        self._source = source
        self._clock = clock
        self._length = max(tick.offset for book in ticks.values() for tick in book) + 1.0

    def top(self, market: str) -> Price:
        """The market's best bid and ask now; KeyError for a market without ticks."""
        book = self._ticks[market]
        now = self._clock() % self._length
        place = bisect_right(book, now, key=lambda tick: tick.offset)
        tick = book[max(place - 1, 0)]
        return Price(bid_cents=tick.bid_cents, ask_cents=tick.ask_cents, source=self._source)


def read_orders(path: Path) -> list[OrderRequest]:
    """All orders of the file, in its order."""
    orders = []
    for place, row in _rows(path, ORDER_COLUMNS):
        try:
            orders.append(_order(row))
        except ValueError as error:
            raise BadInput(f"{place}: {error}") from error
    if len({order.order_id for order in orders}) < len(orders):
        raise BadInput(f"{path}: an order's id occurs twice")
    return orders


def read_ticks(path: Path) -> dict[str, list[Tick]]:
    """The ticks of each market, in the order of time."""
    moments: dict[str, list[tuple[datetime, int, int]]] = {}
    for place, row in _rows(path, TICK_COLUMNS):
        try:
            market, moment = row["market"], _moment(row["timestamp"])
            bid, ask = _cents(row["bid"]), _cents(row["ask"])
            if bid >= ask:
                raise ValueError(f"the bid {row['bid']} is not below the ask {row['ask']}")
            if market in moments and moment < moments[market][-1][0]:
                raise ValueError("the tick is older than the one before it")
        except ValueError as error:
            raise BadInput(f"{place}: {error}") from error
        moments.setdefault(market, []).append((moment, bid, ask))
    opening = min(book[0][0] for book in moments.values())
    return {
        market: [Tick((moment - opening).total_seconds(), bid, ask) for moment, bid, ask in book]
        for market, book in moments.items()
    }


def load(directory: Path) -> tuple[list[OrderRequest], dict[str, list[Tick]]]:
    """The orders and ticks of a data directory; every order's market has ticks."""
    orders, ticks = read_orders(directory / "orders.csv"), read_ticks(directory / "ticks.csv")
    for order in orders:
        if order.market not in ticks:
            raise BadInput(
                f"{directory / 'orders.csv'}: {order.order_id} is for the market {order.market!r},"
                f" which has no ticks in {directory / 'ticks.csv'}"
            )
    return orders, ticks


def _rows(path: Path, columns: list[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """The file's rows, each with its place in words for error messages."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.reader(file, strict=True)
            if next(reader, None) != columns:
                raise BadInput(f"{path}: the first line must be {','.join(columns)}")
            number = 1
            for number, row in enumerate(reader, start=2):
                if len(row) != len(columns):
                    raise BadInput(f"{path}, line {number}: {len(columns)} fields expected")
                yield f"{path}, line {number}", dict(zip(columns, row, strict=True))
            if number == 1:
                raise BadInput(f"{path}: there is no row after the header")
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path} is not a CSV file: {error}") from error


def _order(row: dict[str, str]) -> OrderRequest:
    if not re.fullmatch(r"[A-Za-z0-9._-]+", row["id"]):
        raise ValueError(
            f"the id {row['id']!r} has other characters than letters, digits, '.', '_', '-'"
        )
    if row["side"] not in ("buy", "sell"):
        raise ValueError(f"the side must be buy or sell, not {row['side']!r}")
    quantity, splits = _whole(row["quantity"]), _whole(row["splits"])
    seconds = _decimal(row["seconds"])
    if not 1 <= splits <= quantity:
        raise ValueError(f"a quantity of {quantity} cannot be split {splits} times")
    if not 0 <= seconds <= 3600:
        raise ValueError(f"{seconds} seconds are not between 0 and 3600")
    return OrderRequest(
        order_id=row["id"],
        market=row["market"],
        side=Side(row["side"]),
        quantity=quantity,
        splits=splits,
        duration_ms=int(seconds * 1000),
    )


def _moment(text: str) -> datetime:
    """A point in time, with its zone."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return moment


def _cents(text: str) -> int:
    """A price with at most two decimals, in cents."""
    cents = _decimal(text) * 100
    if cents <= 0 or cents != int(cents):
        raise ValueError(f"{text!r} is not a price with at most two decimals")
    return int(cents)


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def _decimal(text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation as error:
        raise ValueError(f"{text!r} is not a number") from error
    if not number.is_finite():
        raise ValueError(f"{text!r} is not a number")
    return number
