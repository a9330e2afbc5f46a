"""The check of lesson 10: the facts that its log has to show."""

from collections.abc import Sequence

from replay import Event, EventType
from tutorial.checking import Claim, Kill, Last, answered, asked, own
from tutorial.lesson_10_distributed.printing_pb2 import Page, Receipt, Sheet

NAMESPACE = "distributed"
KILLS = [Kill("page 3 is being printed", asked("render", "2"))]
LAST = Last("activities", asked("render", "0"), answered("render", "0"))


def check(events: Sequence[Event]) -> list[Claim]:
    """Four processes have completed one run, though all were killed on the way."""
    events = own(events)
    pages = list(range(1, events[0].message.pages + 1)) if events else []
    asked = [event.message.number for event in events if isinstance(event.message, Page)]
    sheets = [event for event in events if isinstance(event.message, Sheet)]
    answers = [e.message for e in sheets if e.type is EventType.ACTIVITY_RESPONSE]
    printed = [e.message.number for e in sheets if e.type is EventType.RUN_OUTPUT]
    printers = {sheet.process for sheet in answers}
    receipts = [event.message for event in events if isinstance(event.message, Receipt)]
    return [
        Claim(
            "`workflow` has asked for each page once, in order",
            asked == pages[: len(asked)] != [],
            f"the log has {asked}: register the workflow in its process",
        ),
        Claim(
            "`activities` has answered each request once; after the kill a new process did so",
            [sheet.number for sheet in answers] == pages and len(printers) > 1,
            f"the log has {[sheet.number for sheet in answers]}, by {len(printers)} processes:"
            " register the activity in its process, and keep that process running",
        ),
        Claim(
            "each page is one output",
            printed == pages != [],
            f"the log has {printed}: the workflow announces each page with flow.emit_printed",
        ),
        Claim(
            "`outputs` has handed over the document, and is not the process that prints",
            len(receipts) == 1 and receipts[0].process not in printers,
            "consume the outputs in the process `outputs`, and do not register the activity there",
        ),
        Claim(
            "the run is complete, and `ask` can see that",
            bool(events) and events[-1].type is EventType.RUN_COMPLETED,
            "all four processes have to do their part",
        ),
    ]
