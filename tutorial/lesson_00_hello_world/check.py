"""The check of lesson 0: the facts that its log has to show."""

from collections.abc import Sequence

from replay import Event, EventType
from tutorial.checking import Claim, Kill, answered
from tutorial.lesson_00_hello_world.solution import NAMESPACE, WORDS

__all__ = ["KILLS", "NAMESPACE", "check"]

KILLS = [Kill("the second greeting is said, and the sleep after it is not", answered("say", "1"))]


def check(events: Sequence[Event]) -> list[Claim]:
    """Five greetings, a sleep after each, and an end: each once, in spite of the kill."""
    asked = [e for e in events if e.type is EventType.ACTIVITY_REQUEST]
    said = [event.message for event in asked if event.key.target == "say"]
    targets = [event.key.target for event in asked]
    answers = sum(event.type is EventType.ACTIVITY_RESPONSE for event in events)
    return [
        Claim(
            "the workflow asks for each language once, in the order of the list",
            said == [f"{word}, World!" for word in WORDS],
            f"the log has {said}: call ctx.exec_activity(say, ...) in the loop",
        ),
        Claim(
            "a sleep follows each greeting",
            targets == ["say", "replay_sleep"] * len(WORDS),
            "call ctx.sleep(timedelta(seconds=1)) after each greeting",
        ),
        Claim(
            "the run is complete, and each request has one response",
            answers == len(asked) > 0 and events[-1].type is EventType.RUN_COMPLETED,
            "the workflow has to ask for all of this, and then return",
        ),
    ]
