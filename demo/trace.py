"""Prints one run: the steps of the workflow, each beside the events it consumed and produced.

The workflow is pseudocode, one line for each step. `->` is an event that the step consumed, `<-` is
one that it produced, and `#` is a step that leaves no event.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import replay
from demo import board, proof
from demo.messages import OrderRequest, Price, SubOrder, read
from demo.workflow import calc_period
from replay import EventType

Row = tuple[str, str, str]  # A step of the workflow, the event's id and time, the event.


def trace(events: Sequence[replay.Event], kills: Mapping[str, int]) -> Iterator[str]:
    """The lines of the table. `kills` has, by worker, the id of the newest event at its death."""
    rows: list[Row] = [("the workflow", "  id  seconds", "-> consumed, <- produced")]
    order = read(events[0], OrderRequest)
    pending = sorted((last, name) for name, last in kills.items())
    for event in events:
        while pending and pending[0][0] < event.id:
            rows.append(("", "", f"== kill -9 of {pending.pop(0)[1]} =="))
        seconds = (event.timestamp - events[0].timestamp).total_seconds()
        place = f"{event.id:4} {seconds:8.3f}"
        step, sequence = proof.step_of(event)
        rows += _rows(step, sequence, place, order, event)
    return _aligned(rows)


def _aligned(rows: Iterable[Row]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for left, middle, right in rows:
        yield f"{left:{widths[0]}} | {middle:{widths[1]}} | {right}".rstrip()


def _rows(
    step: proof.Step, sequence: int, place: str, order: OrderRequest, event: replay.Event
) -> list[Row]:
    """The rows for one event, and for the local steps around it, which leave no event."""
    sleep = f"{calc_period(order).total_seconds():.3f} s"
    head = ("  for i in range(request.splits):", "", f"# local logic: {_nth(order, sequence)}")
    make = ("    order = make_order(i, price)", "", "# local pure function")
    match step:
        case EventType.RUN_CREATED, _:
            return [("def twap(request):", place, f"-> run_create{{twap, {_order(order)}}}")]
        case EventType.ACTIVITY_REQUEST, board.ACTIVITY:
            request = f"<- activ_req{{{board.ACTIVITY}, {order.market}}}"
            return [head, ("    price = current_top(market)", place, request)]
        case EventType.ACTIVITY_RESPONSE, board.ACTIVITY:
            return [("", place, f"-> activ_res{{{board.ACTIVITY}, {_brief(event)}}}")]
        case EventType.RUN_OUTPUT, _:
            output = f"<- run_output{{{proof.OUTPUT}, {_brief(event)}}}"
            return [make, ("    publish_order(order)", place, output)]
        case EventType.ACTIVITY_REQUEST, proof.SLEEP:
            return [("    sleep(calc_period())", place, f"<- sleep_req{{{sleep}}}")]
        case EventType.ACTIVITY_RESPONSE, proof.SLEEP:
            return [("", place, "-> sleep_res{}")]
        case EventType.RUN_COMPLETED, _:
            return [("", place, "<- run_complete{}")]
    raise ValueError(f"event {event.id} ({event.key}) is not one of the workflow's")


def _nth(order: OrderRequest, split: int) -> str:
    return f"part {split + 1} of {order.splits}"


def _order(order: OrderRequest) -> str:
    return f"{order.side.value} {order.quantity} {order.market} in {order.duration_ms / 1000:g} s"


def _brief(event: replay.Event) -> str:
    """A price or a sub-order in a few words."""
    if event.type is EventType.ACTIVITY_RESPONSE:
        price = read(event, Price)
        bid, ask = price.bid_cents / 100, price.ask_cents / 100
        return f"{bid:.2f}/{ask:.2f} by {price.source.removeprefix('worker ')}"
    part = read(event, SubOrder)
    return f"{part.side.value} {part.quantity} at {part.limit_cents / 100:.2f}"
