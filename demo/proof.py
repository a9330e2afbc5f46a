"""Proves from the log that nothing was lost and nothing happened twice.

The audit checks what every log promises, and counts what is broken. It does not know the orders.
The workflow is deterministic. So an order's number of parts says exactly which events its run must
have. The proof compares these with the log, and their messages with the orders of the CSV file.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import msgspec

import replay
from demo.board import ACTIVITY
from demo.messages import OrderRequest
from replay import EventType
from replay.tools.audit import audited

OUTPUT = "publish_order"
SLEEP = "replay_sleep"

# The type of an event, and its target, which is empty if it has none.
Step = tuple[EventType, str]

KINDS: dict[Step, str] = {
    (EventType.RUN_CREATED, ""): "orders created",
    (EventType.ACTIVITY_REQUEST, ACTIVITY): "prices requested",
    (EventType.ACTIVITY_RESPONSE, ACTIVITY): "prices returned",
    (EventType.RUN_OUTPUT, OUTPUT): "sub-orders published",
    (EventType.ACTIVITY_REQUEST, SLEEP): "sleeps started",
    (EventType.ACTIVITY_RESPONSE, SLEEP): "sleeps ended",
    (EventType.RUN_COMPLETED, ""): "orders completed",
}


@dataclass(frozen=True)
class Check:
    """One claim about the log, with its figures. `fault` says where it is first violated."""

    claim: str
    found: int
    expected: int
    fault: str = ""

    @property
    def holds(self) -> bool:
        """Whether the log confirms the claim."""
        return self.found == self.expected and not self.fault

    def __str__(self) -> str:
        mark = "ok  " if self.holds else "FAIL"
        fault = f": {self.fault}" if self.fault else ""
        return f"  {mark} {self.found:6,} of {self.expected:6,}  {self.claim}{fault}"


def prove(events: Iterable[replay.Event], orders: Mapping[str, OrderRequest]) -> list[Check]:
    """Checks the events of a demo's runs against its orders, run by run."""
    logged = list(events)
    runs: defaultdict[str, list[replay.Event]] = defaultdict(list)
    for event in logged:
        runs[event.key.run].append(event)
    checks = [_kind(kind, claim, runs, orders) for kind, claim in KINDS.items()]
    checks += [_requests(runs, orders), _lots(runs, orders), _order_of_steps(runs, orders)]
    total = sum(len(list(steps(order))) for order in orders.values())
    checks.append(Check("events in total: none lost, none extra", len(logged), total))
    return checks


def audit(url: str) -> Check:
    """Each promise that any log makes is kept."""
    found = [str(finding) for finding in audited(url)]
    claim = "promises of docs/semantics.md that the log breaks"
    return Check(claim, len(found), 0, found[0] if found else "")


def steps(order: OrderRequest) -> Iterator[tuple[Step, int]]:
    """The events that the workflow makes for the order, each with its sequence."""
    yield (EventType.RUN_CREATED, ""), 0
    for split in range(order.splits):
        for kind in list(KINDS)[1:-1]:
            yield kind, split
    yield (EventType.RUN_COMPLETED, ""), 0


def step_of(event: replay.Event) -> tuple[Step, int]:
    """The step of the workflow that the event records, with its sequence."""
    return (EventType(event.type), event.key.target or ""), int(event.key.sequence or 0)


def _kind(
    kind: Step,
    claim: str,
    runs: Mapping[str, list[replay.Event]],
    orders: Mapping[str, OrderRequest],
) -> Check:
    """Each order's run has as many events of this kind as it must have."""
    fault, found, expected = "", 0, 0
    for run in sorted(orders.keys() | runs.keys()):
        has = sum(step_of(event)[0] == kind for event in runs.get(run, []))
        must = Counter(step for step, _ in steps(orders[run]))[kind] if run in orders else 0
        found, expected = found + has, expected + must
        if has != must and not fault:
            fault = f"{run} has {has} instead of {must}"
    return Check(claim, found, expected, fault)


def _requests(runs: Mapping[str, list[replay.Event]], orders: Mapping[str, OrderRequest]) -> Check:
    """The log has each order exactly as given."""
    wrong = [
        run
        for run, order in sorted(orders.items())
        if [event.message for event in runs.get(run, [])][:1] != [msgspec.to_builtins(order)]
    ]
    fault = f"{wrong[0]} differs" if wrong else ""
    return Check("orders recorded as given", len(orders) - len(wrong), len(orders), fault)


def _lots(runs: Mapping[str, list[replay.Event]], orders: Mapping[str, OrderRequest]) -> Check:
    """The published parts of each order add up to the order."""
    fault, total = "", 0
    for run, order in sorted(orders.items()):
        parts = [event for event in runs.get(run, []) if event.type is EventType.RUN_OUTPUT]
        lots = sum(part.message["quantity"] for part in parts)
        total += lots
        if lots != order.quantity and not fault:
            fault = f"{run} published {lots:,} of {order.quantity:,}"
    wanted = sum(order.quantity for order in orders.values())
    return Check("lots published: each order's parts add up to the order", total, wanted, fault)


def _order_of_steps(
    runs: Mapping[str, list[replay.Event]], orders: Mapping[str, OrderRequest]
) -> Check:
    """Each run's events are the workflow's steps, in their order."""
    wrong = [
        run
        for run, order in sorted(orders.items())
        if [step_of(event) for event in runs.get(run, [])] != list(steps(order))
    ]
    claim = "runs with exactly the workflow's steps, in order"
    fault = f"{wrong[0]} differs" if wrong else ""
    return Check(claim, len(orders) - len(wrong), len(orders), fault)
