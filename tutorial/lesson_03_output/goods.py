"""What the bakery and the delivery of lesson 3 have in common, and their activities."""

import time
from dataclasses import dataclass

from replay import ActivityContext, OutputType

NAMESPACE = "output"


@dataclass
class Loaf:
    """A loaf: the run that baked it, and its number in that run."""

    batch: str
    number: int


#: A loaf is baked.
BAKED = OutputType("baked", Loaf)


def bake(ctx: ActivityContext, backends: None, number: int) -> Loaf:
    """An activity: the workflow needs its result, so it waits for it."""
    time.sleep(0.5)
    return Loaf(batch=ctx.run, number=number)


def carry(ctx: ActivityContext, backends: None, loaf: Loaf) -> None:
    """An activity: stands in for somebody on a bicycle."""
