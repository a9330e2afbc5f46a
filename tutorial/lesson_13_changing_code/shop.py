"""The shop of lesson 13: its activities, and the workflow as it was last week."""

from datetime import timedelta

import replay
from replay import ActivityContext, RunContext

NAMESPACE = "changing_code"
TRANSPORT = timedelta(seconds=1)


def drive(ctx: ActivityContext, backends: None, order: str) -> None:
    """An activity: stands in for a van."""


def fly(ctx: ActivityContext, backends: None, order: str) -> None:
    """An activity: stands in for an airline."""


def sign(ctx: ActivityContext, backends: None, order: str) -> None:
    """An activity: stands in for the receipt."""


def ship(ctx: RunContext, order: str) -> None:
    """The old workflow: its runs may be under way for days."""
    ctx.exec_activity(drive, order)
    ctx.sleep(TRANSPORT)
    ctx.exec_activity(sign, order)


def old(url: str, run: str) -> None:
    """The old program: it starts a run, and stops when the van is on its way."""
    with replay.connect(url) as client:
        replay.register_workflow(client, NAMESPACE, ship)
        client.run_workflow(NAMESPACE, ship, f"{run}.old", "a lamp")
        for event in client.stream(NAMESPACE, "ship", f"{run}.old"):
            if event.key.target == "drive":
                print(f"{run}.old is under way, and the old program ends", flush=True)
                return
