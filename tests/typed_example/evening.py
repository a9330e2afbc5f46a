"""A whole run of the example, and the events that it leaves."""

from collections.abc import Sequence
from typing import Any

import replay
from tests.example_pb2 import String
from tests.support import drain


def dine(client: replay.Client, generated: Any, consumers: Sequence[replay.Consumer]) -> None:
    """A whole run: two dishes are ordered and paid for."""
    assert generated.run_dinner(client, "Ada", String(value="Ada"))
    for dish in ("soup", "fish"):
        assert generated.signal_dinner_order(client, "Ada", String(value=dish), dish)
    assert not generated.signal_dinner_order(client, "Ada", String(value="soup"), "soup")
    drain(*consumers, *client.loops())


DINNER = [
    'RUN_CREATED restaurant/dinner/Ada/0 value: "Ada"',
    'ACTIVITY_REQUEST restaurant/dinner/Ada/0/find_table/0 value: "Ada"',
    "ACTIVITY_RESPONSE restaurant/dinner/Ada/0/find_table/0 value: 7",
    "ACTIVITY_REQUEST restaurant/dinner/Ada/0/replay_signal/1:0 duration { seconds: 3600 }",
    'ACTIVITY_RESPONSE restaurant/dinner/Ada/0/replay_signal/1:0 value: "soup"',
    'RUN_OUTPUT restaurant/dinner/Ada/0/served/0 value: "soup for Ada"',
    "ACTIVITY_REQUEST restaurant/dinner/Ada/0/replay_signal/1:1 duration { seconds: 3600 }",
    'ACTIVITY_RESPONSE restaurant/dinner/Ada/0/replay_signal/1:1 value: "fish"',
    'RUN_OUTPUT restaurant/dinner/Ada/0/served/1 value: "fish for Ada"',
    "ACTIVITY_REQUEST restaurant/dinner/Ada/0/replay_signal/1:2 duration { seconds: 3600 }",
    "ACTIVITY_RESPONSE restaurant/dinner/Ada/0/replay_signal/1:2",
    'ACTIVITY_REQUEST restaurant/dinner/Ada/0/price/0 value: "soup"',
    'ACTIVITY_REQUEST restaurant/dinner/Ada/0/price/1 value: "fish"',
    "ACTIVITY_RESPONSE restaurant/dinner/Ada/0/price/0 value: 4",
    "ACTIVITY_RESPONSE restaurant/dinner/Ada/0/price/1 value: 4",
    "RUN_OUTPUT restaurant/dinner/Ada/0/bill/0 value: 8",
    "ACTIVITY_REQUEST restaurant/dinner/Ada/0/replay_signal/-2:0 duration { seconds: 3600 }",
    "ACTIVITY_RESPONSE restaurant/dinner/Ada/0/replay_signal/-2:0",
    "ACTIVITY_REQUEST restaurant/dinner/Ada/0/wash_up/0 value: 2",
    "ACTIVITY_RESPONSE restaurant/dinner/Ada/0/wash_up/0 -",
    "RUN_COMPLETED restaurant/dinner/Ada/0 -",
]
