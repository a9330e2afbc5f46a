"""What the log shows when lesson 10 is done."""

from collections.abc import Sequence

from replay import Event, EventType
from tutorial.checking import Claim, own
from tutorial.lesson_10_distributed.printing_pb2 import Page, Receipt, Sheet

NAMESPACE = "distributed"
KILL_AFTER = 12  # Page 3 has just been asked for, and is being printed.


def check(events: Sequence[Event]) -> list[Claim]:
    """Four processes have brought one run to its end, and all were killed on the way."""
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
            asked == pages != [],
            f"the log has {asked}: register the workflow in its process",
        ),
        Claim(
            "`activities` has answered each request once; after the kill a new process did so",
            [sheet.number for sheet in answers] == pages and len(printers) > 1,
            f"the log has {[sheet.number for sheet in answers]}, by {len(printers)} processes:"
            " register the activity in its process, which stays until it is killed",
        ),
        Claim(
            "each page is an output, once",
            printed == pages != [],
            f"the log has {printed}: the workflow tells of each page by flow.emit_printed",
        ),
        Claim(
            "`outputs` has handed over the document, and is not the process that prints",
            len(receipts) == 1 and receipts[0].process not in printers,
            "consume the outputs in the process `outputs`, and leave the activity to the other one",
        ),
        Claim(
            "the run has come to its end, for `ask` to see",
            bool(events) and events[-1].type is EventType.RUN_COMPLETED,
            "all four processes have to do their part",
        ),
    ]
