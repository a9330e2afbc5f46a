"""The check of lesson 1: the facts that its log has to show."""

import re
from collections.abc import Sequence

from replay import Event, EventType
from tutorial.checking import Claim, Kill, Ran
from tutorial.lesson_01_typed_hello.hello_pb2 import Greeting
from tutorial.lesson_01_typed_hello.namespace import WORDS

NAMESPACE = "typed_hello"
KILLS: list[Kill] = []  # Lesson 0 has shown what a crash does.


def check(events: Sequence[Event]) -> list[Claim]:
    """Each word is translated and then said, and the run ends."""
    asked = [e for e in events if e.type is EventType.ACTIVITY_REQUEST]
    said = [e.message.text for e in asked if isinstance(e.message, Greeting)]
    return [
        Claim(
            "each language has a translation, then a greeting",
            [event.key.target for event in asked] == ["translate", "say"] * len(WORDS),
            "call flow.translate and flow.say in the loop",
        ),
        Claim(
            "each greeting has the translated word",
            said == [f"{word}, World!" for word in WORDS.values()],
            f"the log has {said}: say the word that flow.translate returns",
        ),
        Claim(
            "the run is complete",
            bool(events) and events[-1].type is EventType.RUN_COMPLETED,
            "the workflow has to return after the last greeting",
        ),
    ]


def rehearsed(printed: str) -> list[str]:
    """The greetings that the program printed after `rehearsed:`."""
    for line in printed.splitlines():
        if line.startswith("rehearsed: ["):
            return [text for _, text in re.findall(r"""(["'])(.*?)\1""", line)]
    return []


def look(ran: Ran) -> list[Claim]:
    """The rehearsal leaves no event, so the check reads what it printed."""
    texts = rehearsed(ran.printed)
    return [
        Claim(
            "the rehearsal says as many greetings, with words that the mock returns",
            len(texts) == len(WORDS) and not any("Mock" in text for text in texts),
            f"it said {texts[:1]}: say which word flow.translate of the mock returns",
        )
    ]
