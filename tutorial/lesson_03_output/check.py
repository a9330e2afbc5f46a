"""The check of lesson 3: the facts that its log has to show."""

from collections.abc import Sequence

from replay import Client, Event, EventType
from tutorial.checking import Claim, Kill
from tutorial.lesson_03_output.goods import NAMESPACE

__all__ = ["KILLS", "NAMESPACE", "check", "prepare"]

KILLS = [
    Kill(
        "one loaf is on its way, its cursor is not stored, and the next one is baked",
        lambda events: sum(is_begun(e, "parcel") for e in events) == 1 and len(outputs(events)) > 1,
    )
]
OTHER = 2  # Loaves of the other batch.


def prepare(client: Client, run: str) -> None:
    """Begin another batch, which is baked at the same time: its loaves have the same numbers."""
    client.run_workflow(NAMESPACE, "bakery", f"{run}.other", OTHER)


def is_begun(event: Event, workflow: str) -> bool:
    """Whether a run of this workflow begins."""
    return event.type is EventType.RUN_CREATED and event.key.workflow == workflow


def outputs(events: Sequence[Event]) -> list[Event]:
    """The outputs of all batches."""
    return [event for event in events if event.type is EventType.RUN_OUTPUT]


def batches(events: Sequence[Event]) -> dict[str, list[Event]]:
    """The batches that this check began; others may be baked at the same time."""
    found: dict[str, list[Event]] = {}
    for event in events:
        if event.key.workflow == "bakery":
            first = next(iter(found), event.key.run).partition(".")[0]
            if event.key.run.partition(".")[0] == first:
                found.setdefault(event.key.run, []).append(event)
    return found


def is_baked(batch: Sequence[Event]) -> bool:
    """Whether each loaf of a batch is baked, then announced once."""
    loaves: int = batch[0].message
    steps = [(event.type, event.key.target) for event in batch[1:-1]]
    loaf = [
        (EventType.ACTIVITY_REQUEST, "bake"),
        (EventType.ACTIVITY_RESPONSE, "bake"),
        (EventType.RUN_OUTPUT, "baked"),
    ]
    told = [event.message["number"] for event in outputs(batch)]
    return steps == loaf * loaves and told == list(range(1, loaves + 1))


def check(events: Sequence[Event]) -> list[Claim]:
    """Each loaf has one output and one parcel, in spite of the kill and of the other batch."""
    found = batches(events)
    told = [
        (event.message["batch"], event.message["number"])
        for event in outputs(events)
        if event.key.run in found
    ]
    told = list(dict.fromkeys(told))
    begun = [
        (event.message["batch"], event.message["number"])
        for event in events
        if is_begun(event, "parcel") and event.message["batch"] in found
    ]
    return [
        Claim(
            "each loaf is baked, then announced by one output",
            bool(found) and all(is_baked(batch) for batch in found.values()),
            f"the outputs are {told}: in the loop execute bake, then emit BAKED",
        ),
        Claim(
            "the bakery's runs are complete",
            len(told) > 0 and all(b[-1].type is EventType.RUN_COMPLETED for b in found.values()),
            "the workflow has to return after the last loaf",
        ),
        Claim(
            "the delivery has heard of each loaf, in the order of the outputs",
            list(dict.fromkeys(begun)) == told != [],
            f"the parcels are {begun}: call run_workflow in `deliver`, and replay.consume; a loaf"
            " with the same number in another batch is another loaf",
        ),
        Claim(
            "each loaf has one parcel, though the delivery may hear of it twice",
            begun == told != [],
            f"the parcels are {begun}: for the same loaf, the run needs the same name",
        ),
    ]
