"""Sorting: each new event is looked at once, for all consumers of a process.

A process with eight shards of a workflow and of an activity has sixteen consumers.  If each of them
looked at each event, that would take a quarter of their time.  So `Dispatch` looks once.  The type
of an event and its names are a key, under which stand the consumers that want it.  Each of these
has a lane with its events.

Invariants:

- A consumer is given exactly the events for which its `wants` is true.
- If a thread is interrupted (Ctrl-C) while it adds events, the next reader sorts all of them again.

Left to `replay.storage.tail`: where the events come from, and the lock.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import NamedTuple

from .event import Event, EventType

_id = attrgetter("id")

#: The type of events, their namespace, and their activity, or for other types their workflow.  With
#: an empty namespace it is an activity in all namespaces, or all events of the type.
Topic = tuple[EventType, str, str]
#: Says which part a run belongs to.
Divide = Callable[[str], int]
_Audience = dict[Divide | None, dict[int, set["Interest"]]]
_NOBODY: _Audience = {}


class Interest(NamedTuple):
    """The events that a consumer wants: of these topics, and of all runs or of one part of them."""

    topics: frozenset[Topic]
    #: For those with the same function it is called once.
    divide: Divide | None = None
    part: int = 0


class Dispatch:
    """The events of the tail in lanes, one for each interest.  Its callers hold the tail's lock."""

    def __init__(self) -> None:
        self._lanes: dict[Interest, list[Event]] = {}
        #: Whom a topic concerns, by the function that divides it, and by the part.
        self._topics: dict[Topic, _Audience] = {}
        self._whole = True  # whether each lane has all that it should have

    def open(self, whose: Interest) -> None:
        """Make a lane, unless it is there.  If that is interrupted, the next call makes it."""
        if whose in self._lanes:
            return
        self._whole = False
        for topic in whose.topics:
            parts = self._topics.setdefault(topic, {}).setdefault(whose.divide, {})
            parts.setdefault(whose.part, set()).add(whose)
        self._lanes[whose] = []

    def clear(self) -> None:
        """Forget all events."""
        self._whole = False

    def add(self, events: Sequence[Event]) -> Mapping[Interest, Sequence[Event]]:
        """Add new events.  Returns those that concern somebody, by whom."""
        found: dict[Interest, list[Event]] = {}
        whole, self._whole = self._whole, False
        for event in events:
            for topic in _topics(event):
                for divide, parts in self._topics.get(topic, _NOBODY).items():
                    part = 0 if divide is None else divide(event.key.run)
                    for whose in parts.get(part, ()):
                        found.setdefault(whose, []).append(event)
        for whose, some in found.items():
            if whose in self._lanes:
                self._lanes[whose] += some
        self._whole = whole
        return found

    def between(
        self, whose: Interest, first: int, last: int, events: Sequence[Event]
    ) -> Sequence[Event]:
        """Return what concerns `whose` from the id `first` to the id `last`.

        `events` are all that there are, in case they have to be sorted again.
        """
        self.open(whose)
        if not self._whole:
            self._lanes = {each: [] for each in self._lanes}
            self._whole = True
            self.add(events)
        lane = self._lanes[whose]
        return lane[bisect_left(lane, first, key=_id) : bisect_right(lane, last, key=_id)]

    def cut(self, id: int) -> None:
        """Forget the events up to this id."""
        for lane in self._lanes.values():
            del lane[: bisect_right(lane, id, key=_id)]


def _topics(event: Event) -> tuple[Topic, Topic]:
    """The topics of an event: in its namespace, and in all."""
    type, key = event.type, event.key
    if type is EventType.ACTIVITY_REQUEST:
        return (type, key.namespace, key.target), (type, "", key.target)
    return (type, key.namespace, key.workflow), (type, "", "")
