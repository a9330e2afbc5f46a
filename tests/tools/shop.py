"""A log with a bit of everything, for what looks at logs: the same one each time."""

import random
from datetime import timedelta
from unittest.mock import patch

from google.protobuf import any_pb2

from replay import (
    ActivityContext,
    Client,
    Event,
    EventType,
    Failed,
    GiveUp,
    Key,
    RunContext,
    register_activity,
    register_workflow,
)
from replay.storage.event import UNKNOWN
from tests.example_pb2 import Int
from tests.support import Clock, behind, drain, loops, raw, stepped

#: Names as people give them, and as others may have stored them.
NAMES = ("it's me", "two words", 'say "hi"', "back\\slash", "x\u202eetxt", "日本")
#: What only another program can have stored: a terminal would take it for an order.
ESCAPE = "red\x1b[31m\x9b1m"
#: A message of a type that nobody here has imported: 1: "blue", 2: 7, 3: {1: "deep"}, 4: bytes.
FOREIGN = any_pb2.Any(
    type_url="type.googleapis.com/app.v1.Paint",
    value=b"\x0a\x04blue\x10\x07\x1a\x06\x0a\x04deep\x22\x02\xff\x00",
)


def order(ctx: RunContext, item: str) -> dict[str, object]:
    """Pay, then wait for the parcel."""
    receipt = ctx.exec_activity("pay", item)
    ctx.emit_output("bill", Int(value=7))
    parcel = ctx.await_signal(3, timedelta(hours=1))
    return {"receipt": receipt, "parcel": parcel and parcel.message}


def count(ctx: RunContext, n: Int) -> None:
    """Count to two, in three iterations."""
    ctx.sleep(timedelta(minutes=1) if n.value < 2 else timedelta(days=1))
    ctx.restart(Int(value=n.value + 1))


def refuse(ctx: RunContext, why: str) -> None:
    """Fail, with a detail."""
    raise Failed(why, detail=["a", 1])


def broken(ctx: RunContext, item: str) -> None:
    """Have a bug, whose text is hostile."""
    raise KeyError(f"{item} \x1b]0;owned\x07")


def pay(ctx: ActivityContext, backends: None, item: str) -> str:
    """Pay for most things."""
    if item == "gold":
        raise ValueError("no money \u202e today")
    if item == "stolen":
        raise GiveUp("police")
    return f"paid for {item}"


def fill(url: str) -> None:
    """Fill an empty log, on a clock that stands at the start of 2030."""
    with stepped(url, clock := Clock()) as client, patch.object(random, "uniform", max):
        consumers = [
            *(
                register_workflow(client, "shop", each, start=False)
                for each in (order, count, refuse, broken)
            ),
            register_activity(client, "shop", pay, start=False),
            *loops(client),
        ]
        for name in ("o-1", "o-2", "gold", "stolen", *NAMES):
            client.run_workflow("shop", order, name, name)
        client.run_workflow("shop", count, "c-1", Int(value=0))
        client.run_workflow("shop", refuse, "r-1", "out of stock")
        client.run_workflow("shop", broken, "b-1", "apple")
        drain(*consumers)
        clock.forward(minutes=2)
        client.signal_run("shop", order, "o-1", 3, "parcel 9", "p-9")
        client.cancel_run("shop", order, "o-2", "changed my mind")
        drain(*consumers)
        clock.forward(minutes=2)
        drain(*consumers)
        _add_foreign(client)
    with raw(url) as other:
        other.add(Key("paint", "mix", ESCAPE))


def _add_foreign(client: Client) -> None:
    key = Key("paint", "mix", "p-1")
    event = Event(0, EventType.RUN_CREATED, key, UNKNOWN, FOREIGN.SerializeToString())
    behind(client).commit([event])
