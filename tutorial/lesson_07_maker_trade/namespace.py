"""The definition of lesson 7: a maker, and its activities at the exchange."""

import time

from replay import ActivityContext, typed
from tutorial import exchange
from tutorial.exchange import Exchange, Side
from tutorial.lesson_07_maker_trade import maker_pb2 as pb

LATENCY = 0.2  # Seconds from the exchange back to here: long enough for a crash in between.


def ticker(ctx: ActivityContext, house: Exchange, market: pb.Market) -> pb.Ticker:
    """An activity that only reads."""
    bid, ask = house.market.ticker()
    return pb.Ticker(bid=bid, ask=ask)


def place(ctx: ActivityContext, house: Exchange, limit: pb.Limit) -> pb.Order:
    """An activity that must not take effect twice. The exchange knows an order by its client id."""
    client_id = f"{limit.account}/{ctx.idempotency_key}"
    order = house.place(client_id, Side.BUY, limit.quantity, limit.price)
    found = answer(house, limit.account, order)
    time.sleep(LATENCY)
    return found


def cancel(ctx: ActivityContext, house: Exchange, order: pb.Order) -> pb.Order:
    """An activity that may happen twice: an order that has ended does not end again."""
    account = int(order.client_id.partition("/")[0])
    return answer(house, account, house.cancel(order.client_id))


def answer(house: Exchange, account: int, order: exchange.Order) -> pb.Order:
    """An order as a message."""
    return pb.Order(
        client_id=order.client_id,
        quantity=order.quantity,
        price=order.price,
        state=order.state.value,
        open=len([each for each in house.orders(f"{account}/") if each.state == "OPEN"]),
    )


NAMESPACE = typed.Namespace(
    "maker_trade",
    workflows=[
        typed.Workflow(
            "maker",
            input=pb.Wish,
            description="Buys by orders that rest, one at a time.",
            outputs=[
                typed.Output("placed", message=pb.Order, description="An order is placed."),
                typed.Output("filled", message=pb.Order, description="An order is filled."),
            ],
        )
    ],
    activities=[
        typed.Activity(
            "ticker",
            function="tutorial.lesson_07_maker_trade.namespace:ticker",
            description="The best prices just now.",
        ),
        typed.Activity(
            "place",
            function="tutorial.lesson_07_maker_trade.namespace:place",
            description="Places an order that is to rest.",
        ),
        typed.Activity(
            "cancel",
            function="tutorial.lesson_07_maker_trade.namespace:cancel",
            description="Ends an order, and says how.",
        ),
    ],
)
