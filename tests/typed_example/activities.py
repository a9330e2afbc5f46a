"""The activities of the example, and what they are given."""

from replay import ActivityContext
from tests.example_pb2 import Int, String


class Kitchen:
    """What the activities work on: it notes what it was asked for."""

    def __init__(self) -> None:
        self.orders: list[str] = []


def price(ctx: ActivityContext, kitchen: Kitchen, dish: String) -> Int:
    kitchen.orders.append(f"price of {dish.value}")
    return Int(value=len(dish.value))


def find_table(ctx: ActivityContext, kitchen: Kitchen, guest: String | None) -> Int | None:
    return None if guest is None or guest.value == "late" else Int(value=7)


def wash(ctx: ActivityContext, backends: None, dishes: Int) -> None:
    """Needs nothing, and answers nothing."""
