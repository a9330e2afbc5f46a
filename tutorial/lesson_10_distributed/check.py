"""The check of lesson 10: the facts that its log has to show."""

from collections.abc import Sequence
from typing import Any

from replay import Event, EventType
from tutorial.checking import Claim, Kill, Last, answered, asked, own
from tutorial.lesson_10_distributed.printing import NAMESPACE

__all__ = ["KILLS", "LAST", "NAMESPACE", "check"]

KILLS = [Kill("page 3 is being printed", asked("render", "2"))]
LAST = Last("activities", asked("render", "0"), answered("render", "0"))


def of(events: Sequence[Event], type: EventType, target: str) -> list[Any]:
    """The messages of these events."""
    return [e.message for e in events if e.type is type and e.key.target == target]


def check(events: Sequence[Event]) -> list[Claim]:
    """Four processes have completed one run, though all were killed on the way."""
    events = own(events)
    pages = list(range(1, events[0].message["pages"] + 1)) if events else []
    requested = [page["number"] for page in of(events, EventType.ACTIVITY_REQUEST, "render")]
    answers = of(events, EventType.ACTIVITY_RESPONSE, "render")
    printed = [sheet["number"] for sheet in of(events, EventType.RUN_OUTPUT, "printed")]
    printers = {sheet["process"] for sheet in answers}
    awaited = of(events, EventType.ACTIVITY_RESPONSE, "replay_signal")
    receipts = [process for process in awaited if isinstance(process, int)]
    return [
        Claim(
            "`workflow` has asked for each page once, in order",
            requested == pages[: len(requested)] != [],
            f"the log has {requested}: register the workflow in its process",
        ),
        Claim(
            "`activities` has answered each request once; after the kill a new process did so",
            [sheet["number"] for sheet in answers] == pages and len(printers) > 1,
            f"the log has {len(answers)} pages, by {len(printers)} processes:"
            " register the activity in its process, and keep that process running",
        ),
        Claim(
            "each page is one output",
            printed == pages != [],
            f"the log has {printed}: the workflow emits PRINTED for each page",
        ),
        Claim(
            "`outputs` has handed over the document, and is not the process that prints",
            len(receipts) == 1 and receipts[0] not in printers,
            "consume the outputs in the process `outputs`, and do not register the activity there",
        ),
        Claim(
            "the run is complete, and `ask` can see that",
            bool(events) and events[-1].type is EventType.RUN_COMPLETED,
            "all four processes have to do their part",
        ),
    ]
