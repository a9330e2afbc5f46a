"""Plain values: what a step costs with a dataclass of five fields, and with such a protobuf."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from google.protobuf.type_pb2 import Field

import replay
from bench import work
from bench.backends import Backend
from bench.rows import Row, Sizes, at_most, plain


@dataclass
class Line:
    """As the fields of `Field` that are used."""

    name: str
    type_url: str
    json_name: str
    number: int
    oneof_index: int


def echo_line(ctx: replay.ActivityContext, backends: None, message: Line) -> Line:
    return message


def echo_field(ctx: replay.ActivityContext, backends: None, message: Field) -> Field:
    return message


def line_steps(ctx: replay.RunContext, message: Line) -> None:
    for _ in range(message.number):
        ctx.exec_activity(echo_line, message)


def field_steps(ctx: replay.RunContext, message: Field) -> None:
    for _ in range(message.number):
        ctx.exec_activity(echo_field, message)


def values(backend: Backend, sizes: Sizes) -> list[Row]:
    """The time of a step with each, and the ratio, as medians.

    The turns are short and alternate, so that a machine that is busy meanwhile slows both down.
    """
    fields, lines = [], []
    for _ in range(7 * sizes.repeats):
        fields.append(taken(backend, sizes, field_steps, echo_field, Field))
        lines.append(taken(backend, sizes, line_steps, echo_line, Line))
    ratio = statistics.median(b / a for a, b in zip(fields, lines, strict=True))
    what = f"a step of {sizes.runs // 4:,} runs with a"
    return [
        plain(f"{what} protobuf of five fields", statistics.median(fields) * 1e6, "us"),
        plain(f"{what} dataclass of five fields", statistics.median(lines) * 1e6, "us"),
        at_most("  dataclass : protobuf", ratio, 1.15, ""),
    ]


def taken(
    backend: Backend,
    sizes: Sizes,
    workflow: Callable[..., Any],
    activity: Callable[..., Any],
    make: Callable[..., Any],
) -> float:
    """Seconds of one step. One thread steps all consumers, so nothing else is measured."""
    runs = sizes.runs // 4
    with backend.fresh() as url, replay.connect(url, loops=False) as client:
        register = partial(replay.register_workflow, client, work.NAMESPACE, start=False)
        consumers = [
            register(workflow),
            replay.register_activity(client, work.NAMESPACE, activity, start=False),
        ]
        for number in range(runs):
            message = make(
                name="order-17",
                type_url="https://example.com/orders/17",
                json_name="Some text of a usual length",
                number=sizes.steps_per_run,
                oneof_index=number,
            )
            client.run_workflow(work.NAMESPACE, workflow.__name__, f"run-{number}", message)
        begin = time.perf_counter()
        while sum([consumer.step() for consumer in consumers]):
            pass
        return (time.perf_counter() - begin) / (runs * sizes.steps_per_run)
