"""The coffee shop of lesson 2: its guests, the signals that they send, and its activities."""

from dataclasses import dataclass

from replay import ActivityContext, SignalType

NAMESPACE = "signal"

#: A guest orders a coffee.  An empty name means the usual.
ORDER = SignalType(1, str)
#: A guest pays for all, with this card.
PAY = SignalType(2, str)


@dataclass
class Guest:
    """A guest: how many cups she drinks, and of which coffee if she names none."""

    name: str
    usual: str
    cups: int


def make(ctx: ActivityContext, backends: None, coffee: str) -> None:
    """An activity: stands in for a coffee machine. The log has what it was asked for."""


def remind(ctx: ActivityContext, backends: None, guest: Guest) -> None:
    """An activity: stands in for a message to the guest's phone."""
