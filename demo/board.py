"""The state of the orders, read from the log and from nothing else.

All runs of one demo share a prefix (`demo-1-`, `demo-2-`, ...). So one database can serve many
demos, and an interrupted demo can find its runs and continue.
"""

import re
from collections import Counter

import replay
from demo.messages import OrderRequest, Price, read
from demo.workflow import NAMESPACE, current_top, twap

WORKFLOW = twap.__name__
ACTIVITY = current_top.__name__
_RUN = re.compile(r"demo-(\d+)-.+")


def find_prefix(client: replay.Client) -> tuple[str, bool]:
    """The prefix of the runs to work on, and whether an earlier demo left them unfinished."""
    unfinished: Counter[int] = Counter()
    for event in client.stream(NAMESPACE, WORKFLOW, to_head=True):
        match = _RUN.fullmatch(event.key.run)
        if match and event.type == replay.EventType.RUN_CREATED:
            unfinished[int(match[1])] += 1
        elif match and event.type == replay.EventType.RUN_COMPLETED:
            unfinished[int(match[1])] -= 1
    latest = max(unfinished, default=0)
    goes_on = unfinished[latest] > 0
    return f"demo-{latest if goes_on else latest + 1}-", goes_on


class Board:
    """The state of one demo's runs. Each `read` brings it up to date."""

    def __init__(self, client: replay.Client, prefix: str) -> None:
        self._client = client
        self._prefix = prefix
        self.requests: dict[str, OrderRequest] = {}
        self.completed: set[str] = set()
        self.published = 0
        self.events = 0
        self.last_id = 0
        self._answered: dict[str, str] = {}  # By run: the worker that gave its latest price.

    def read(self) -> list[replay.Event]:
        """Reads to the head of the log; returns the new events of this demo's runs."""
        new = []
        for event in self._client.stream(NAMESPACE, WORKFLOW, after=self.last_id, to_head=True):
            self.last_id = event.id
            if event.key.run.startswith(self._prefix):
                new.append(event)
                self._see(event)
        return new

    def runs_of(self, worker: str) -> set[str]:
        """The unfinished runs whose latest price this worker gave."""
        return {
            run
            for run, name in self._answered.items()
            if name == worker and run not in self.completed
        }

    def _see(self, event: replay.Event) -> None:
        self.events += 1
        if event.type == replay.EventType.RUN_CREATED:
            self.requests[event.key.run] = read(event, OrderRequest)
        elif event.type == replay.EventType.RUN_COMPLETED:
            self.completed.add(event.key.run)
        elif event.type == replay.EventType.RUN_OUTPUT:
            self.published += 1
        elif event.type == replay.EventType.ACTIVITY_RESPONSE and event.key.target == ACTIVITY:
            self._answered[event.key.run] = read(event, Price).source
