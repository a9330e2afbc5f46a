"""The check of lesson 14: the facts that its log has to show."""

from collections.abc import Sequence

from replay import Event, EventType
from tutorial.checking import Claim, Kill, own
from tutorial.lesson_14_virtual_time.bills import BILLS, NAMESPACE

__all__ = ["KILLS", "NAMESPACE", "check"]

KILLS: list[Kill] = []  # The world has crashes of its own: see the experiments.
HINTS = {
    "hurried": "assert when each reminder came, not only how many there were",
    "slow": "assert when each reminder came, not only how many there were",
    "lenient": "assert that there are three reminders, and that the result is 'given up'",
    "deaf": "send PAID to the run, and assert that no reminder follows and the result is 'paid'",
}


def check(events: Sequence[Event]) -> list[Claim]:
    """The tests pass for the right workflow only."""
    events = own(events)
    answers = [event for event in events if event.type is EventType.ACTIVITY_RESPONSE]
    verdicts = dict(zip(BILLS, (event.message for event in answers), strict=False))
    return [
        Claim(
            "the tests pass for the right workflow",
            verdicts.get("bill") == "passes",
            "run it: see which of your assertions `bill` does not fulfil, or which error it shows",
        ),
        *(
            Claim(
                f"they fail for `{name}`: {str(BILLS[name].__doc__).lower().rstrip('.')}",
                str(verdicts.get(name)).startswith("fails"),
                hint,
            )
            for name, hint in HINTS.items()
        ),
    ]
