"""The definition of lesson 8: a sampler, and the price that it samples."""

from replay import ActivityContext, typed
from tutorial import exchange
from tutorial.lesson_08_sparkline import sparkline_pb2 as pb

WIDTH = 30  # The number of prices in a full window.


def sample(ctx: ActivityContext, market: exchange.Market, of: pb.Market) -> pb.Price:
    """An activity: reads the present price."""
    return pb.Price(cents=market.price(market.tick()))


NAMESPACE = typed.Namespace(
    "sparkline",
    workflows=[
        typed.Workflow(
            "sampler",
            input=pb.Window,
            description="Keeps the latest prices, for ever.",
            outputs=[
                typed.Output("window", message=pb.Window, description="There is a new price.")
            ],
        )
    ],
    activities=[
        typed.Activity(
            "sample",
            function="tutorial.lesson_08_sparkline.namespace:sample",
            description="The price just now.",
        )
    ],
)
