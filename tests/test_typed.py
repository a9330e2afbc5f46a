"""Typed functions and flows at work, from a definition whose generated code is in the project."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn
from unittest.mock import Mock, call, create_autospec

import pytest

from replay import typed
from replay.signature import BadSignature
from tests.example_pb2 import Empty, Int, String
from tests.support import Clock, drain, line, listing, stepped
from tests.typed_example import replay_gen
from tests.typed_example.activities import Kitchen
from tests.typed_example.evening import dine
from tests.typed_example.workflows import dinner, refund

HOUR = timedelta(hours=1)


def test_streams_and_handlers(url: str) -> None:
    """T1: a stream has one workflow's events, a handler takes one kind of them."""
    with stepped(url, clock := Clock()) as client:
        consumers = replay_gen.start_replay_loops(
            client, Kitchen(), dinner=dinner, late_refund=refund, start=False
        )
        assert replay_gen.run_late_refund(client, "Bob", Int(value=3))
        assert not replay_gen.run_late_refund(client, "Bob", Int(value=4))
        dine(client, replay_gen, consumers)
        clock.forward(hours=1)
        drain(*consumers, *client.loops())
        seen: list[tuple[str, str, object]] = []

        def note(kind: str) -> Callable[[str, Any], object]:
            return lambda run, message: seen.append((kind, run, message.value))

        for event in client.stream(to_head=True):
            replay_gen.handle_dinner_run(event, note("dinner"))
            replay_gen.handle_late_refund_run(event, note("refund"))
            replay_gen.handle_served(event, note("served"))
            replay_gen.handle_bill(event, note("bill"))
        assert seen == [
            ("refund", "Bob", 3),
            ("dinner", "Ada", "Ada"),
            ("served", "Ada", "soup for Ada"),
            ("served", "Ada", "fish for Ada"),
            ("bill", "Ada", 8),
        ]
        bob = [line(event) for event in replay_gen.stream_late_refund(client, to_head=True)]
        assert bob == listing(client, "restaurant", "late_refund")
        some = replay_gen.stream_dinner(client, "Ada", after=2, to_head=True)
        assert [event.id for event in some] == [
            event.id for event in client.stream("restaurant", "dinner", to_head=True, after=2)
        ]
        assert list(replay_gen.stream_dinner(client, "Bob", to_head=True)) == []


def test_none_means_the_time_out_only(url: str) -> None:
    """S4: a signal that another program sent without a message comes as an empty one."""
    heard: list[object] = []

    def listen(flow: replay_gen.DinnerFlow, guest: String) -> None:
        heard.append(flow.await_order(timedelta(minutes=1)))
        heard.append(flow.await_order(timedelta(minutes=1)))
        heard.extend([flow.create_event.id, flow.last_event.key.target, flow.now()])

    with stepped(url, clock := Clock()) as client:
        consumers = [
            replay_gen.register_dinner(client, listen, start=False),
            *client.loops(),
        ]
        assert client.signal_run("restaurant", "dinner", "Ada", 1, None, "a")
        replay_gen.run_dinner(client, "Ada", String())
        drain(*consumers)
        clock.forward(minutes=1)
        drain(*consumers)
    now = datetime(2030, 1, 1, 0, 1, tzinfo=UTC)
    assert heard == [String(), None, 1, "replay_signal", now]


def test_a_function_that_does_not_fit_is_refused(url: str) -> None:
    """T1: a workflow's function is looked at when it is registered, as without a definition."""

    async def later(flow: object, message: String) -> None: ...

    def other(flow: object, message: Int) -> None: ...

    takes_nothing: Any = lambda: None  # noqa: E731
    wrong: Any
    with stepped(url) as client:
        for wrong, reason in (
            (later, "is an async function"),
            (takes_nothing, r"cannot be called with 2 arguments .* expected dinner\(flow, message"),
            (other, "takes Int, but the definition of dinner says String"),
        ):
            with pytest.raises(BadSignature, match=reason):
                replay_gen.register_dinner(client, wrong, start=False)


# Unit tests of a workflow, without a log.


class Stub:
    """A dinner in which the guests order what they are given."""

    run = "Ada"
    create_event: Any = None
    last_event: Any = None

    def __init__(self, *orders: str) -> None:
        self.orders = [*orders]
        self.did: list[str] = []

    def now(self) -> datetime:
        return datetime(2030, 1, 1, tzinfo=UTC)

    def sleep(self, duration: timedelta) -> None:
        self.did.append(f"slept {duration}")

    def gather(self, *calls: typed.Call[Any]) -> Any:
        return [self.price(each.message) for each in calls]

    def restart(self, message: String) -> NoReturn:
        raise StopIteration(message.value)

    def price(self, message: Any) -> Int:
        return Int(value=10 * len(message.value))

    def call_price(self, message: String) -> typed.Call[Int]:
        return typed.Call("price", message)

    def find_table(self, message: String | None) -> Int | None:
        return Int(value=1) if self.orders else None

    def call_find_table(self, message: String | None) -> typed.Call[Int | None]:
        return typed.Call("find_table", message)

    def wash_up(self, message: Int) -> None:
        self.did.append(f"washed {message.value}")

    def call_wash_up(self, message: Int) -> typed.Call[None]:
        return typed.Call("wash_up", message)

    def await_order(self, timeout: timedelta) -> String | None:
        return String(value=self.orders.pop(0)) if self.orders else None

    def await_pay(self, timeout: timedelta) -> Empty | None:
        return Empty()

    def emit_served(self, message: String) -> None:
        self.did.append(f"served {message.value}")

    def emit_bill(self, message: Int) -> None:
        self.did.append(f"bill {message.value}")


def test_a_workflow_runs_on_an_ordinary_stub() -> None:
    """T3: a plain class stands in for the flow; it type-checks as one, and needs no log."""
    stub = Stub("soup", "eel")
    dinner(stub, String(value="Ada"))
    assert stub.did == ["served soup for Ada", "served eel for Ada", "bill 70", "washed 2"]
    full = Stub()
    with pytest.raises(StopIteration, match="guest"):
        dinner(full, String(value="Ada"))
    assert full.did == ["slept 0:15:00"]


def test_a_workflow_runs_on_a_mock() -> None:
    """T3: so does a mock from `unittest.mock`, which refuses what the interface does not have."""
    flow: Mock = create_autospec(replay_gen.DinnerFlow, instance=True)
    flow.run = "Ada"
    flow.await_order.side_effect = [String(value="soup"), None]
    flow.gather.return_value = [Int(value=5)]
    flow.await_pay.return_value = None
    dinner(flow, String(value="Ada"))
    assert flow.mock_calls == [
        call.find_table(String(value="Ada")),
        call.await_order(HOUR),
        call.emit_served(String(value="soup for Ada")),
        call.await_order(HOUR),
        call.call_price(String(value="soup")),
        call.gather(flow.call_price.return_value),
        call.emit_bill(Int(value=5)),
        call.await_pay(HOUR),
        call.wash_up(Int(value=0)),
    ]
    with pytest.raises(TypeError):
        flow.emit_bill(Int(), "too much")
    with pytest.raises(AttributeError):
        flow.emit_nothing  # noqa: B018
