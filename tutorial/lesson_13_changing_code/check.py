"""The check of lesson 13: the facts that its log has to show."""

from collections.abc import Sequence

from replay import Client, Event, EventType, register_workflow
from tutorial.checking import Claim, Kill
from tutorial.lesson_13_changing_code.shop import NAMESPACE, ship

__all__ = ["KILLS", "NAMESPACE", "ROLES", "check", "prepare"]

ROLES = ["new"]  # The check itself is the old program.
KILLS = [
    Kill("the new run has asked for its transport", lambda events: bool(calls(events, ".new")))
]


def prepare(client: Client, run: str) -> None:
    """Let the old code begin a run, and stop it when the run has asked for a van."""
    consumer = register_workflow(client, NAMESPACE, ship)
    client.run_workflow(NAMESPACE, ship, f"{run}.old", "a lamp")
    for event in client.stream(NAMESPACE, "ship", f"{run}.old"):
        if event.key.target == "drive":
            break
    consumer.stop()


def of(events: Sequence[Event], suffix: str) -> list[Event]:
    """The events of the old or of the new run of this check."""
    runs = [event.key.run for event in events if event.type is EventType.RUN_CREATED]
    prefix = runs[0].partition(".")[0] if runs else ""
    return [event for event in events if event.key.run == prefix + suffix]


def calls(events: Sequence[Event], suffix: str) -> list[str]:
    """The activities that a run has asked for."""
    asked = [e for e in of(events, suffix) if e.type is EventType.ACTIVITY_REQUEST]
    return [event.key.target for event in asked if event.key.target != "replay_sleep"]


def ended(events: Sequence[Event], suffix: str) -> bool:
    """Whether a run is complete."""
    found = of(events, suffix)
    return bool(found) and found[-1].type is EventType.RUN_COMPLETED


def check(events: Sequence[Event]) -> list[Claim]:
    """The old run ends as it has begun, and the new one flies."""
    before, after = calls(events, ".old"), calls(events, ".new")
    return [
        Claim(
            "the run that the old code began goes on, and its order is driven",
            before == ["drive", "sign"] and ended(events, ".old"),
            f"it has asked for {before}: the new code has to ask for the same as the old code, and"
            " each activity has to be registered",
        ),
        Claim(
            "the run that the new code began flies its order, and does not drive it",
            after == ["fly", "sign"] and ended(events, ".new"),
            f"it has asked for {after}: where ctx.patched returns True, call fly",
        ),
    ]
