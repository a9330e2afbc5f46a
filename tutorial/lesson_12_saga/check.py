"""The check of lesson 12: the facts that its log has to show."""

from collections.abc import Sequence

from replay import Event, EventType
from tutorial.checking import Claim, Kill, asked
from tutorial.lesson_12_saga.agency import NAMESPACE

__all__ = ["KILLS", "NAMESPACE", "check"]

KILLS = [Kill("the trip has failed, and the first booking is being undone", asked("undo"))]
PARTS = ["flight", "hotel", "car"]


def calls(events: Sequence[Event], target: str) -> list[str]:
    """The parts that a run has asked for, in order."""
    asked = [event for event in events if event.type is EventType.ACTIVITY_REQUEST]
    return [event.message for event in asked if event.key.target == target]


def ended(events: Sequence[Event], output: str) -> bool:
    """Whether a run has ended with a result, or with a failure."""
    outputs = [event.key.target for event in events if event.type is EventType.RUN_OUTPUT]
    completed = bool(events) and events[-1].type is EventType.RUN_COMPLETED
    return completed and outputs == [f"replay_{output}"]


def check(events: Sequence[Event]) -> list[Claim]:
    """The long trip fails and is undone, in spite of the kill; the short one is booked."""
    run = next((event.key.run for event in events if event.type is EventType.RUN_CREATED), "")
    long = [event for event in events if event.key.run == run]
    short = [event for event in events if event.key.run == f"{run}.short"]
    undone = calls(long, "undo")
    return [
        Claim(
            "flight and hotel are booked, and then the car, of which there is none",
            calls(long, "book") == PARTS,
            f"the log has {calls(long, 'book')}: call ctx.exec_activity(book, part) in the loop",
        ),
        Claim(
            "what has begun is undone, the newest first, each once",
            undone == PARTS[::-1],
            f"the log has {undone}: note a booking before you ask for it, and undo all that have"
            " begun, in the opposite order",
        ),
        Claim(
            "the run of that trip has failed, after all is undone",
            ended(long, "failure"),
            "raise replay.Failed after the last undo: the caller has to know",
        ),
        Claim(
            "a trip of which nothing fails is booked, and not undone",
            calls(short, "book") == PARTS[:2]
            and not calls(short, "undo")
            and ended(short, "result"),
            "undo only where an activity has failed, and return at the end",
        ),
    ]
