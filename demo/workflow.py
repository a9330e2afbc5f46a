"""The strategy: the part that a user of the library writes.

`twap` is deterministic and has no side effects. It may be interrupted anywhere, and then goes on in
another process. `current_top` deals with the outside world. Both read like ordinary functions; the
log records what they do.
"""

from datetime import timedelta

import replay
from demo.market import OrderBooks
from demo.messages import OrderRequest, Price, Side, SubOrder

NAMESPACE = "trading"


def current_top(ctx: replay.ActivityContext, books: OrderBooks, market: str) -> Price:
    """The top of the market's order book now."""
    return books.top(market)


def twap(ctx: replay.RunContext, request: OrderRequest) -> None:
    """Publishes the order in equal parts at equal intervals, each at the price of its moment."""
    for split in range(request.splits):
        price = ctx.exec_activity(current_top, request.market)
        sub_order = make_order(request, split, price)
        ctx.emit_output("publish_order", sub_order)
        ctx.sleep(calc_period(request))


def make_order(request: OrderRequest, split: int, price: Price) -> SubOrder:
    """The part of the order with this number, at the price that trades at once.

    A remainder is spread over the parts, so they add up to the order.
    """
    until_now = request.quantity * split // request.splits
    with_this = request.quantity * (split + 1) // request.splits
    return SubOrder(
        order_id=request.order_id,
        split=split,
        market=request.market,
        side=request.side,
        quantity=with_this - until_now,
        limit_cents=price.ask_cents if request.side == Side.BUY else price.bid_cents,
    )


def calc_period(request: OrderRequest) -> timedelta:
    """The time from one sub-order to the next, to the millisecond."""
    return timedelta(milliseconds=request.duration_ms // request.splits)
