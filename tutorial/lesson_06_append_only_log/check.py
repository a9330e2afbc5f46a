"""The check of lesson 6: the facts that its log has to show."""

from collections import Counter
from collections.abc import Sequence

from replay import Event, EventType
from tutorial.checking import Claim, Kill
from tutorial.lesson_06_append_only_log.orders import HEARD, NAMESPACE, SENT
from tutorial.lesson_06_append_only_log.solution import DAY

__all__ = ["KILLS", "NAMESPACE", "check"]

KILLS = [
    Kill(
        "the second order has begun, and the first reader stores the parcel of the first",
        lambda events: sum(e.type is EventType.RUN_CREATED for e in events) > 1,
    )
]


def own(events: Sequence[Event]) -> list[Event]:
    """The events of the run that this check began."""
    runs = [e.key.run.rpartition(".")[0] for e in events if e.type is EventType.RUN_CREATED]
    return [event for event in events if event.key.run.rpartition(".")[0] in runs[:1]]


def of(events: Sequence[Event], workflow: str, type: EventType) -> list[Event]:
    """The events of a workflow and a type."""
    return [event for event in events if event.key.workflow == workflow and event.type is type]


def owed(events: Sequence[Event], last: int) -> dict[str, int]:
    """The pieces that are owed after the event with the id `last`."""
    found: Counter[str] = Counter()
    for event in events:
        if event.id > last or event.key.workflow != "order":
            continue
        if event.type is EventType.RUN_CREATED:
            found[event.message["item"]] += event.message["pieces"]
        elif event.type is EventType.RUN_OUTPUT and event.key.target == SENT.name:
            found[event.message["item"]] -= event.message["pieces"]
    return dict(found)


def check(events: Sequence[Event]) -> list[Claim]:
    """Both readers know what was owed when each audit began."""
    events = own(events)
    audits = of(events, "audit", EventType.RUN_CREATED)
    right = [owed(events, audit.id) for audit in audits]
    heard = [
        [
            event.message
            for event in of(events, "audit", EventType.RUN_OUTPUT)
            if event.key.run == audit.key.run and event.key.target == HEARD.name
        ]
        for audit in audits
    ]
    kept = [tables[0] for tables in heard if tables]
    late = [tables[1] for tables in heard if len(tables) > 1]
    asked = len(audits) == len(DAY)
    orders = of(events, "order", EventType.RUN_COMPLETED)
    ended = of(events, "audit", EventType.RUN_COMPLETED)
    return [
        Claim(
            "all orders are complete, and both audits have heard two readers",
            asked and len(orders) == sum(map(len, DAY.values())) and len(ended) == len(DAY),
            "an audit waits until both readers have answered: see what the program printed",
        ),
        Claim(
            "the stored table had each event once when the audits began",
            asked and kept == right,
            f"it was {kept}, and should have been {right}: write fold(), and in follow() fold an"
            " event in only if its id is greater than kept.event",
        ),
        Claim(
            "the late reader knew the table of noon, and the table of the evening",
            asked and late == right,
            f"it said {late}, and should have said {right}: in as_of(), fold in the events up to"
            " `last`, and no later ones",
        ),
    ]
