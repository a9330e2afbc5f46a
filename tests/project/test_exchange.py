"""The tutorial's exchange: its prices are the time's alone, and an order ends once."""

import statistics
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutorial.exchange import (
    BASE,
    BLOCK,
    KEPT,
    RATE,
    VOLATILITY,
    Exchange,
    Market,
    NoSuchOrder,
    Order,
    OrderDiffers,
    Side,
    State,
)

TICK = 17_000_000_000  # A moment of the year 2023, in ticks.
PRICES = [100009, 100008, 100010, 100012, 100013, 100011, 100011, 100008]

ticks = st.integers(TICK, TICK + 10**9)
sides = st.sampled_from(Side)


class Clock:
    """The time, in ticks; it stands still until it is moved."""

    def __init__(self, tick: int = TICK) -> None:
        self.tick = tick

    def __call__(self) -> float:
        return (self.tick + 0.5) / RATE


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def exchange(tmp_path: Path, clock: Clock) -> Exchange:
    return Exchange(tmp_path / "new" / "exchange.db", Market("gold", clock))


def better(side: Side, price: int, limit: int) -> bool:
    """Whether a price is as good as the limit, or better."""
    return price <= limit if side is Side.BUY else price >= limit


def reaches(exchange: Exchange, side: Side, price: int, after: int, most: int = 10**5) -> int:
    """The first tick behind `after` whose trade is at this price or better."""
    for tick in range(after + 1, after + most):
        if better(side, exchange.market.price(tick), price):
            return tick
    raise AssertionError(f"{price} is not reached within {most} ticks")


def rest(exchange: Exchange, client_id: str, side: Side = Side.BUY, edge: int = 0) -> Order:
    """Place an order so far from the best price."""
    bid, ask = exchange.market.ticker()
    return exchange.place(client_id, side, 5, bid - edge if side is Side.BUY else ask + edge)


# The market.


def test_every_process_sees_the_same_prices() -> None:
    """A price depends on name and time only: another process computes the same ones."""
    code = f"from tutorial.exchange import Market as M; m = M('gold'); t = {TICK}\n"
    code += "print([m.price(tick) for tick in range(t, t + 2000, 7)])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    market = Market("gold")
    assert done.stdout == f"{[market.price(tick) for tick in range(TICK, TICK + 2000, 7)]}\n"


def test_prices_stay_what_they_are() -> None:
    """The prices of a name are the same on every machine, and in every version of Python."""
    market = Market("gold")
    assert [market.price(TICK + n) for n in range(8)] == PRICES


@given(ticks, st.permutations(range(12)))
def test_order_of_questions_does_not_matter(first: int, order: list[int]) -> None:
    """A price is the same whichever was asked for before it."""
    market = Market("gold")
    assert {n: market.price(first + n) for n in order} == {
        n: market.price(first + n) for n in range(12)
    }


def test_prices_walk_at_random() -> None:
    """Steps have the volatility that is set, over one tick as over a hundred, up as often as down.

    Over long times the price comes back to its base.
    """
    market = Market("silver")
    prices = [market.price(TICK + n) for n in range(100 * BLOCK)]
    for distance in (1, 10, 100):
        steps = [b - a for a, b in zip(prices, prices[distance:], strict=False)]
        assert statistics.stdev(steps) / distance**0.5 == pytest.approx(VOLATILITY, rel=0.1)
        assert statistics.mean(steps) == pytest.approx(0, abs=0.1)
    assert BASE - 200 < min(prices) < BASE < max(prices) < BASE + 200
    other = Market("gold")
    assert prices[:1000] != [other.price(TICK + n) for n in range(1000)]


@given(ticks)
def test_ticker_surrounds_the_latest_trade(tick: int) -> None:
    """The best prices are whole cents, one below and one above the latest trade."""
    market = Market("gold", Clock(tick))
    (latest,) = market.trades((tick - 0.5) / RATE)
    bid, ask = market.ticker()
    assert (bid, ask) == (latest.price - 1, latest.price + 1)


def test_trades_of_the_last_seconds(clock: Clock) -> None:
    """Trades come ten times a second; those after a time are given, and a minute at most."""
    market = Market("gold", clock)
    trades = market.trades(clock() - 2)
    assert [trade.at for trade in trades] == [(TICK - n) / RATE for n in range(19, -1, -1)]
    assert [trade.price for trade in trades] == [market.price(TICK - n) for n in range(19, -1, -1)]
    assert {trade.quantity for trade in market.trades(0)} == set(range(1, 10))
    assert len(market.trades(0)) == KEPT * RATE
    assert market.trades(clock()) == []
    assert market.trades(trades[-1].at) == []
    clock.tick += 1
    assert [trade.at for trade in market.trades(trades[-1].at)] == [(TICK + 1) / RATE]


# Orders.


def test_order_rests_until_its_price_is_traded(exchange: Exchange, clock: Clock) -> None:
    """An order is open up to the first trade at its price or better, and filled for ever then."""
    placed = rest(exchange, "a", edge=3)
    assert placed == Order("a", Side.BUY, 5, exchange.market.ticker().bid - 3, TICK, State.OPEN)
    end = reaches(exchange, Side.BUY, placed.price, TICK)
    clock.tick = end - 1
    assert exchange.order("a") == placed
    clock.tick = end
    filled = placed._replace(state=State.FILLED)
    assert exchange.order("a") == filled
    clock.tick += 10**4
    assert exchange.order("a") == exchange.cancel("a") == filled


@pytest.mark.parametrize("side", Side)
def test_post_only(exchange: Exchange, clock: Clock, side: Side) -> None:
    """An order that would trade at once is rejected, for ever; one inside of the spread rests."""
    bid, ask = exchange.market.ticker()
    best, other = (ask, bid) if side is Side.BUY else (bid, ask)
    assert exchange.place("crosses", side, 1, best).state is State.REJECTED
    assert exchange.place("inside", side, 1, (bid + ask) // 2).state is State.OPEN
    assert exchange.place("behind", side, 1, other).state is State.OPEN
    assert exchange.order("inside").state is State.OPEN, "the trade before it does not fill it"
    clock.tick += 10**4
    assert exchange.order("crosses").state is State.REJECTED
    assert exchange.cancel("crosses").state is State.REJECTED


def test_placing_again_gives_the_same_order(exchange: Exchange, clock: Clock) -> None:
    """A client id is one order, however often it is placed, and as it is by then."""
    placed = rest(exchange, "a")
    clock.tick = reaches(exchange, Side.BUY, placed.price, TICK)
    again = exchange.place("a", Side.BUY, 5, placed.price)
    assert again == placed._replace(state=State.FILLED)
    other = rest(exchange, "b", edge=50)
    assert exchange.cancel("b") == other._replace(state=State.CANCELLED)
    assert exchange.place("b", Side.BUY, 5, other.price).state is State.CANCELLED
    assert [order.client_id for order in exchange.orders("")] == ["a", "b"]


def test_client_id_of_another_order_is_refused(exchange: Exchange) -> None:
    """Something else under the same client id is an error, and changes nothing."""
    placed = rest(exchange, "a")
    for side, quantity, price in [
        (Side.SELL, 5, placed.price),
        (Side.BUY, 6, placed.price),
        (Side.BUY, 5, placed.price - 1),
    ]:
        with pytest.raises(OrderDiffers, match=f"a is to BUY 5 at {placed.price}: choose another"):
            exchange.place("a", side, quantity, price)
    with pytest.raises(ValueError, match="order b: a quantity of 0, expected 1 or more"):
        exchange.place("b", Side.BUY, 0, placed.price)
    assert exchange.orders("") == [placed]


def test_unknown_order(exchange: Exchange) -> None:
    """What was never placed can be neither looked at nor cancelled."""
    for call in (exchange.order, exchange.cancel):
        with pytest.raises(NoSuchOrder, match=r"exchange\.db has no order a: place it first"):
            call("a")
    assert exchange.orders("") == []


def test_orders_by_prefix(exchange: Exchange) -> None:
    """Orders are found by how their client ids begin, letter by letter, in order of placing."""
    for client_id in ("b/1", "a%/2", "a%/1", "A%/1", "ab/1"):
        rest(exchange, client_id)
    assert [order.client_id for order in exchange.orders("a%/")] == ["a%/2", "a%/1"]


@settings(deadline=None)
@given(ticks, sides, st.integers(0, 20), st.lists(st.integers(0, 40), max_size=6), st.data())
def test_order_ends_as_the_trades_have_it(
    tmp_path_factory: pytest.TempPathFactory,
    first: int,
    side: Side,
    edge: int,
    pauses: list[int],
    data: st.DataObject,
) -> None:
    """Whoever looks whenever: filled if a trade before the cancel reached the price, else not.

    What was once said to have ended stays as it is.
    """
    clock = Clock(first)
    path = tmp_path_factory.mktemp("exchange") / "exchange.db"
    exchange = Exchange(path, Market("gold", clock))
    placed = rest(exchange, "a", side, edge)
    state = State.OPEN
    for pause in pauses:
        clock.tick += pause
        trades = exchange.market.trades(first / RATE)
        call = data.draw(st.sampled_from([exchange.order, exchange.cancel]))
        if state is State.OPEN and any(better(side, trade.price, placed.price) for trade in trades):
            state = State.FILLED
        elif state is State.OPEN and call == exchange.cancel:
            state = State.CANCELLED
        assert call("a") == placed._replace(state=state)


# Several at once.


def test_orders_outlive_their_process(exchange: Exchange, clock: Clock, tmp_path: Path) -> None:
    """Another exchange on the same file has the same orders, whatever its clock says."""
    placed = rest(exchange, "a", edge=2)
    clock.tick = reaches(exchange, Side.BUY, placed.price, TICK)
    late = Exchange(tmp_path / "new" / "exchange.db", Market("gold", Clock(TICK)))
    assert late.order("a").state is State.OPEN, "its clock is behind"
    assert exchange.order("a").state is State.FILLED
    assert late.cancel("a").state is State.FILLED, "but it is told what was told before"


def test_cancelled_is_not_filled_later(exchange: Exchange, clock: Clock, tmp_path: Path) -> None:
    """A price that is reached in the moment after the cancel fills nothing, for nobody."""
    placed = rest(exchange, "a", edge=2)
    end = reaches(exchange, Side.BUY, placed.price, TICK)
    clock.tick = end - 1
    assert exchange.cancel("a").state is State.CANCELLED
    late = Exchange(tmp_path / "new" / "exchange.db", Market("gold", Clock(end + 100)))
    assert late.order("a") == late.cancel("a") == placed._replace(state=State.CANCELLED)


def at_once(*calls: Callable[[], Order]) -> list[Order]:
    """Make calls in threads that begin together; the answers in their order."""
    barrier = threading.Barrier(len(calls), timeout=60)

    def begin(call: Callable[[], Order]) -> Order:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(begin, calls))


def test_two_that_place_the_same(exchange: Exchange, tmp_path: Path) -> None:
    """Of two processes that place one client id at once, both are given one order."""
    other = Exchange(tmp_path / "new" / "exchange.db", exchange.market)
    for n in range(20):
        one, two = at_once(partial(rest, exchange, f"{n}"), partial(rest, other, f"{n}"))
        assert one == two
    assert [order.client_id for order in exchange.orders("")] == [f"{n}" for n in range(20)]


def test_cancel_and_fill_race(exchange: Exchange, clock: Clock, tmp_path: Path) -> None:
    """One process looks when the order is filled already, one cancels just before: both agree."""
    path = tmp_path / "new" / "exchange.db"
    seen = set()
    for n in range(40):
        clock.tick += 1000
        placed = rest(exchange, f"{n}", edge=1)
        end = reaches(exchange, Side.BUY, placed.price, clock.tick)
        looking = Exchange(path, Market("gold", Clock(end)))
        before = Exchange(path, Market("gold", Clock(end - 1)))
        one, two = at_once(partial(looking.order, f"{n}"), partial(before.cancel, f"{n}"))
        assert one == two
        seen.add(one.state)
    assert seen <= {State.FILLED, State.CANCELLED}
