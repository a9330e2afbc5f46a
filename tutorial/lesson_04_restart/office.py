"""The till of lesson 4: what it knows, what it is paid, and its activity."""

import time
from dataclasses import dataclass

from replay import ActivityContext, SignalType

NAMESPACE = "restart"

#: A guest pays so many cents.
PAID = SignalType(1, int)


@dataclass
class Till:
    """The input of the workflow: what the till knows."""

    payments: int = 0
    cents: int = 0


def book(ctx: ActivityContext, backends: None, cents: int) -> None:
    """An activity: stands in for an entry in the books."""
    time.sleep(0.2)
