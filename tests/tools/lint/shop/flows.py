"""Mistakes in functions of the same package that workflows call."""

from replay import RunContext

from . import helpers
from .helpers import Basket, number as next_number
from shop import deep


def order(ctx: RunContext, message: str) -> None:
    helpers.log(message)
    ctx.exec_activity("ship", next_number())
    ctx.exec_activity("pack", deep(3))
    Basket(message).price()
    ctx.exec_activity(helpers.send, message)


def refund(ctx: RunContext, message: str) -> None:
    helpers.log(message)
    if message in helpers.CACHE:
        return
