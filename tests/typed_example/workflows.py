"""The workflows of the example.  Their functions have other names than what is stored."""

from datetime import timedelta

from tests.example_pb2 import Int, String

from .replay_gen import DinnerFlow, LateRefundFlow


def dinner(flow: DinnerFlow, guest: String) -> None:
    """Seats a guest, serves the two dishes that are ordered, takes the money."""
    table = flow.find_table(guest)
    if table is None:
        flow.sleep(timedelta(minutes=15))
        flow.restart(String(value="guest"))
    dishes: list[String] = []
    while (order := flow.await_order(timedelta(hours=1))) is not None:
        dishes.append(order)
        flow.emit_served(String(value=f"{order.value} for {flow.run}"))
    prices = flow.gather(*(flow.call_price(dish) for dish in dishes))
    flow.emit_bill(Int(value=sum(price.value for price in prices)))
    paid = flow.await_pay(timedelta(hours=1))
    flow.wash_up(Int(value=len(dishes) if paid is not None else 0))


def refund(flow: LateRefundFlow, amount: Int) -> None:
    """Prices a dish, and nothing more."""
    flow.price(String(value="x" * amount.value))
