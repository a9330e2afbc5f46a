"""The workflow that lesson 14 tests, and the same with mistakes in it."""

from collections.abc import Callable, Mapping
from datetime import timedelta

from replay import ActivityContext, RunContext, SignalType

NAMESPACE = "virtual_time"
WEEK = timedelta(weeks=1)
REMINDERS = 3

#: A guest pays.
PAID = SignalType(1, int)

Bill = Callable[[RunContext, str], str]


def remind(ctx: ActivityContext, backends: None, guest: str) -> None:
    """An activity: stands in for a letter. A test has one of its own."""


def bill(ctx: RunContext, guest: str) -> str:
    """A workflow: three reminders, each after a week without a payment; then it gives up."""
    for _ in range(REMINDERS):
        if ctx.await_signal(PAID, WEEK) is not None:
            return "paid"
        ctx.exec_activity(remind, guest)
    return "given up"


def hurried(ctx: RunContext, guest: str) -> str:
    """It reminds a day too early."""
    for _ in range(REMINDERS):
        if ctx.await_signal(PAID, WEEK - timedelta(days=1)) is not None:
            return "paid"
        ctx.exec_activity(remind, guest)
    return "given up"


def slow(ctx: RunContext, guest: str) -> str:
    """It reminds a day too late."""
    for _ in range(REMINDERS):
        if ctx.await_signal(PAID, WEEK + timedelta(days=1)) is not None:
            return "paid"
        ctx.exec_activity(remind, guest)
    return "given up"


def lenient(ctx: RunContext, guest: str) -> str:
    """It gives up after two reminders."""
    for _ in range(REMINDERS - 1):
        if ctx.await_signal(PAID, WEEK) is not None:
            return "paid"
        ctx.exec_activity(remind, guest)
    return "given up"


def deaf(ctx: RunContext, guest: str) -> str:
    """It does not notice a payment."""
    for _ in range(REMINDERS):
        ctx.sleep(WEEK)
        ctx.exec_activity(remind, guest)
    return "given up"


BILLS: Mapping[str, Bill] = {each.__name__: each for each in (bill, hurried, slow, lenient, deaf)}
