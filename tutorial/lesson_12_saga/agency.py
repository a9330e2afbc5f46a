"""The travel agency of lesson 12: its two activities."""

import time

from replay import ActivityContext, GiveUp

NAMESPACE = "saga"
SOLD_OUT = {"car"}


def book(ctx: ActivityContext, backends: None, part: str) -> None:
    """An activity: stands in for a booking at another company. It fails for what is sold out."""
    if part in SOLD_OUT:
        raise GiveUp(f"there is no {part}")
    print(f"  {ctx.run}: {part} booked", flush=True)


def undo(ctx: ActivityContext, backends: None, part: str) -> None:
    """An activity: takes a booking back, if there is one. So you may repeat it."""
    print(f"  {ctx.run}: {part} undone", flush=True)
    time.sleep(0.3)  # Long enough for a crash in between.
