"""The check of lesson 3: the facts that its log has to show."""

from collections.abc import Sequence

from replay import Event, EventType
from tutorial.checking import Claim
from tutorial.lesson_03_output.goods import NAMESPACE
from tutorial.lesson_03_output.solution import LOAVES

__all__ = ["KILL_AFTER", "NAMESPACE", "check"]

KILL_AFTER = 10  # The first loaf is on its way, and the delivery has not stored its cursor yet.
NUMBERS = list(range(1, LOAVES + 1))


def bakery(events: Sequence[Event]) -> list[Event]:
    """The bakery's run that this check began; others may go on at the same time."""
    ours = [event for event in events if event.key.workflow == "bakery"]
    runs = [event.key.run for event in ours if event.type is EventType.RUN_CREATED]
    return [event for event in ours if event.key.run in runs[:1]]


def parcels(events: Sequence[Event], batch: str) -> list[Event]:
    """The runs of parcel that were begun with a loaf of this batch."""
    created = [event for event in events if event.type is EventType.RUN_CREATED]
    sent = [event for event in created if event.key.workflow == "parcel"]
    return [event for event in sent if event.message["batch"] == batch]


def check(events: Sequence[Event]) -> list[Claim]:
    """Each loaf has one output and one parcel, in spite of the kill."""
    baked = bakery(events)
    loaves = [event for event in baked if event.type is EventType.RUN_OUTPUT]
    announced = [event.message["number"] for event in loaves]
    batch = baked[0].key.run if baked else ""
    begun = [event.message["number"] for event in parcels(events, batch)]
    steps = [(event.type, event.key.target) for event in baked[1:-1]]
    loaf = [
        (EventType.ACTIVITY_REQUEST, "bake"),
        (EventType.ACTIVITY_RESPONSE, "bake"),
        (EventType.RUN_OUTPUT, "baked"),
    ]
    return [
        Claim(
            "each loaf is baked, then announced by one output",
            steps == loaf * LOAVES and announced == NUMBERS,
            f"the outputs are {announced}: in the loop execute bake, then emit BAKED",
        ),
        Claim(
            "the bakery's run is complete",
            len(baked) > 2 and baked[-1].type is EventType.RUN_COMPLETED,
            "the workflow has to return after the last loaf",
        ),
        Claim(
            "the delivery has heard of each loaf, in the order of the outputs",
            list(dict.fromkeys(begun)) == NUMBERS,
            f"the parcels are {begun}: call run_workflow in `deliver`, and replay.consume",
        ),
        Claim(
            "each loaf has one parcel, though the delivery may hear of it twice",
            begun == NUMBERS,
            f"the parcels are {begun}: for the same loaf, the run needs the same name",
        ),
    ]
