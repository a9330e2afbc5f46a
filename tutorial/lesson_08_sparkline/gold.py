"""The gold market of lesson 8: the activity that reads a price, and the output that shows many."""

from replay import ActivityContext, OutputType
from tutorial.exchange import Market

NAMESPACE = "sparkline"
WIDTH = 30  # The number of prices in a full window.

#: The latest prices in cents, the oldest first.
WINDOW = OutputType("window", list[int])


def sample(ctx: ActivityContext, backends: None, name: str) -> int:
    """An activity: reads the present price of a market, in cents."""
    market = Market(name)
    return market.price(market.tick())
