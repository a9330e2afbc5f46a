"""J1 to J5: plain values from end to end, on every kind of client."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel, Field

from replay import (
    ActivityContext,
    Client,
    Consumer,
    Error,
    EventType,
    Key,
    OutputType,
    RunContext,
    Signal,
    SignalType,
    handle,
    register_activity,
    register_workflow,
)
from replay.signature import BadSignature, check_signature
from replay.storage.event import NotAMessage
from replay.storage.values import ANY, BadAnnotation, WrongValue
from tests.example_pb2 import Int, String
from tests.models import Approval, Bill, Line, Order
from tests.support import Clock, behind, drain, listing, loops, request, rows, stepped

if TYPE_CHECKING:
    from nowhere import Store  # type: ignore[import-not-found]

pytestmark = pytest.mark.contract

NS, MINUTE = "shop", timedelta(minutes=1)
APPROVE = SignalType(1, Approval)
MAYBE = SignalType(2, Approval | None)
COUNT = SignalType(3, Int)
BILL = OutputType("bill", Bill)
TEA = Order("1", [Line("tea", 5), Line("cup", 10**20)])
TEA_JSON = (
    "{'id': '1', 'lines': [{'name': 'tea', 'price': 5, 'weight': None, 'due': None}, {'name':"
    " 'cup', 'price': 100000000000000000000, 'weight': None, 'due': None}], 'size': 's',"
    " 'extra': {}}"
)


def total(ctx: ActivityContext, backends: None, order: Order) -> Bill:
    assert isinstance(order, Order)
    return Bill(sum(line.price for line in order.lines))


def shop(ctx: RunContext, order: Order) -> None:
    assert isinstance(order, Order)
    bill = ctx.exec_activity(total, order)
    assert isinstance(bill, Bill)
    approval = ctx.await_signal(APPROVE, MINUTE)
    assert isinstance(approval, Approval)
    ctx.emit_output(BILL, bill)
    ctx.emit_output("by", approval.by)
    if order.id == "1":
        ctx.restart(Order("2"))


def staff(client: Client, *more: Callable[..., Any]) -> list[Consumer]:
    """The consumers of the shop."""
    return [
        *(register_workflow(client, NS, each, start=False) for each in (shop, *more)),
        register_activity(client, NS, total, start=False),
        *loops(client),
    ]


def errors(consumer: Consumer) -> list[str]:
    return [parked.error for parked in consumer.parked()]


WHOLE = [
    f"RUN_CREATED shop/shop/r/0 {TEA_JSON}",
    f"ACTIVITY_REQUEST shop/shop/r/0/total/0 {TEA_JSON}",
    "ACTIVITY_RESPONSE shop/shop/r/0/total/0 {'total': 100000000000000000005}",
    "ACTIVITY_REQUEST shop/shop/r/0/replay_signal/1:0 duration { seconds: 60 }",
    "ACTIVITY_RESPONSE shop/shop/r/0/replay_signal/1:0 {'by': 'me', 'ok': True}",
    "RUN_OUTPUT shop/shop/r/0/bill/0 {'total': 100000000000000000005}",
    "RUN_OUTPUT shop/shop/r/0/by/0 me",
    "RUN_COMPLETED shop/shop/r/0 -",
    "RUN_CREATED shop/shop/r/1 {'id': '2', 'lines': [], 'size': 's', 'extra': {}}",
    "ACTIVITY_REQUEST shop/shop/r/1/total/0 {'id': '2', 'lines': [], 'size': 's', 'extra': {}}",
    "ACTIVITY_RESPONSE shop/shop/r/1/total/0 {'total': 0}",
    "ACTIVITY_REQUEST shop/shop/r/1/replay_signal/1:0 duration { seconds: 60 }",
]


def test_j1_j5_plain_values_from_end_to_end(url: str) -> None:
    """J1, J2, J5: input, request, response, signal, output and restart, in two processes."""
    with stepped(url, Clock()) as client:
        assert client.run_workflow(NS, shop, "r", TEA)
        drain(*staff(client))
    with stepped(url, Clock()) as client:  # the run is replayed
        assert client.signal_run(NS, shop, "r", APPROVE, Approval("me"), "a")
        assert not client.signal_run(NS, "shop", "r", 1, Approval("you"), "a")
        drain(*staff(client))
        assert listing(client) == WHOLE
        assert client.signal_run(NS, shop, "r", APPROVE, Approval("us"), "b")
        drain(*staff_of(client))
        client.await_completion(NS, shop, "r", 10)
        assert listing(client)[-4:] == [
            "ACTIVITY_RESPONSE shop/shop/r/1/replay_signal/1:0 {'by': 'us', 'ok': True}",
            "RUN_OUTPUT shop/shop/r/1/bill/0 {'total': 0}",
            "RUN_OUTPUT shop/shop/r/1/by/0 us",
            "RUN_COMPLETED shop/shop/r/1 -",
        ]


def staff_of(client: Client) -> list[Consumer]:
    """The consumers that a client has registered, and the loops."""
    return [*client._consumers.values(), *loops(client)]


def test_j1_a_name_gives_plain_json(url: str) -> None:
    """J1: with a bare name the value's class decides, and plain JSON comes back."""
    got: list[Any] = []

    def flow(ctx: RunContext, message: Any) -> None:
        got.append(message)
        got.append(ctx.exec_activity("total", TEA))
        got.append(ctx.gather(ctx.call("total", {"id": "7"}), ctx.call(total, Order("8"))))
        got.append(ctx.await_signal(1, MINUTE))

    with stepped(url, Clock()) as client:
        client.run_workflow(NS, "flow", "r", Bill(5))
        client.signal_run(NS, "flow", "r", 1, [Approval("me")], "a")
        drain(*staff(client, flow))
        signal = Signal(1, [{"by": "me", "ok": True}])
        assert got == [{"total": 5}, {"total": 10**20 + 5}, [{"total": 0}, Bill(0)], signal]
        seen: list[Any] = []
        for event in client.stream(NS, "flow", to_head=True):
            handle(event, run_created=lambda *each: seen.append(each[-1]))
        assert seen == [{"total": 5}]


def test_j1_each_attempt_and_each_reader_gets_a_value_of_its_own(url: str) -> None:
    """J1: whatever a function changes in a value, nobody else meets it (A2, R2)."""
    got: list[Order] = []

    def spoil(ctx: ActivityContext, backends: None, order: Order) -> Order:
        order.lines.append(Line("spoilt", 1))
        if ctx.attempt == 1:
            raise ValueError("once more")
        return order

    def flow(ctx: RunContext, order: Order) -> None:
        got.append(Order(order.id, list(order.lines)))
        answer = ctx.exec_activity(spoil, order)
        assert isinstance(answer, Order)
        got.append(Order("answer", list(answer.lines)))
        order.lines.clear()
        answer.lines.clear()
        ctx.await_signal(1, 60 * MINUTE)

    order, tea, spoilt = Order("1", [Line("tea", 5)]), Line("tea", 5), Line("spoilt", 1)
    read = [Order("1", [tea]), Order("answer", [tea, spoilt])]
    clock = Clock()
    for _ in range(2):  # the second process replays the run
        with stepped(url, clock) as client:
            consumers = [
                register_workflow(client, NS, flow, start=False),
                register_activity(client, NS, spoil, start=False),
                *loops(client),
            ]
            if client.run_workflow(NS, flow, "r", order):
                order.lines.clear()
                drain(*consumers)
                assert got == read[:1]
                clock.forward(minutes=1)
            else:
                client.signal_run(NS, flow, "r", 1, None, "a")
            drain(*consumers)
    assert got == read * 2


def test_j1_protobuf_and_plain_values_mix(url: str) -> None:
    """J1, J2: each has its own bytes."""

    def count(ctx: ActivityContext, backends: None, message: String) -> int:
        return len(message.value)

    def flow(ctx: RunContext, message: Int) -> None:
        assert ctx.exec_activity(count, String(value="abc")) == 3
        assert ctx.await_signal(COUNT, MINUTE) == Int(value=9)
        ctx.restart(Int(value=message.value + 1))

    with stepped(url, Clock()) as client:
        flows = staff(client, flow)
        activity = register_activity(client, NS, count, start=False)
        client.run_workflow(NS, flow, "r", Int(value=1))
        client.signal_run(NS, flow, "r", COUNT, Int(value=9), "a")
        drain(*flows, activity)
        assert listing(client)[:7] == [
            "RUN_CREATED shop/flow/r/0 value: 1",
            'ACTIVITY_REQUEST shop/flow/r/0/count/0 value: "abc"',
            "ACTIVITY_RESPONSE shop/flow/r/0/count/0 3",
            "ACTIVITY_REQUEST shop/flow/r/0/replay_signal/3:0 duration { seconds: 60 }",
            "ACTIVITY_RESPONSE shop/flow/r/0/replay_signal/3:0 value: 9",
            "RUN_COMPLETED shop/flow/r/0 -",
            "RUN_CREATED shop/flow/r/1 value: 2",
        ]


class Cup(BaseModel):
    """A model as pydantic makes it."""

    name: str
    litres: float = Field(default=0.2, gt=0)


class Shelf(BaseModel):
    cups: list[Cup]


def larger(ctx: RunContext, shelf: Shelf) -> list[Cup]:
    assert isinstance(shelf.cups[0], Cup)
    return [cup.model_copy(update={"litres": 2 * cup.litres}) for cup in shelf.cups]


def test_j1_j3_models_of_pydantic(url: str) -> None:
    """J1, J3: they keep their classes and their own rules."""
    with stepped(url, Clock()) as client:
        flow = register_workflow(client, NS, larger, start=False)
        client.run_workflow(NS, larger, "r", Shelf(cups=[Cup(name="tea", litres=0.25)]))
        bad = Cup.model_construct(name="none", litres=-1.0)
        with pytest.raises(WrongValue, match=r"shop/larger/s/0: Shelf: (.|\n)*cups\.0\.litres"):
            client.run_workflow(NS, larger, "s", Shelf.model_construct(cups=[bad]))
        drain(flow)
        assert client.result(NS, larger, "r", 10) == [Cup(name="tea", litres=0.5)]
        assert listing(client) == [
            "RUN_CREATED shop/larger/r/0 {'cups': [{'name': 'tea', 'litres': 0.25}]}",
            "RUN_OUTPUT shop/larger/r/0/replay_result/0 [{'name': 'tea', 'litres': 0.5}]",
            "RUN_COMPLETED shop/larger/r/0 -",
        ]


def test_j1_a_union_is_told_apart_by_the_name_of_the_class(url: str) -> None:
    """J1: msgspec cannot."""
    got: list[Any] = []

    def flow(ctx: RunContext, message: Bill | Approval | None) -> None:
        got.append(message)

    with stepped(url) as client:
        workflow = register_workflow(client, NS, flow, start=False)
        for run, value in (("a", Bill(1)), ("b", Approval("me")), ("c", None)):
            assert client.run_workflow(NS, flow, run, value)
        drain(workflow)
        assert got == [Bill(1), Approval("me"), None]


def test_j3_nothing_is_stored_of_what_does_not_fit(url: str) -> None:
    """J3: on sending, with the place; a wrong type would be there for good."""
    wrong: Any = Order("1", [Line("a", 1), Line("b", 2), Line("c", "3")])  # type: ignore[arg-type]
    place = r"Order\.lines\[2\]\.price: expected int, got str$"
    said: list[str] = []

    def tries(ctx: RunContext, message: Order) -> None:
        bad: Any
        for bad in (
            lambda: ctx.exec_activity(total, wrong),
            lambda: ctx.gather(ctx.call(total, Bill(1))),  # type: ignore[arg-type]
            lambda: ctx.emit_output(BILL, wrong),
            lambda: ctx.emit_output("any", wrong),
            lambda: ctx.restart(wrong),
            lambda: ctx.restart(None),
        ):
            with pytest.raises(WrongValue) as refused:
                bad()
            said.append(str(refused.value))

    with stepped(url) as client:
        with pytest.raises(WrongValue, match=f"^shop/shop/r/0: {place}"):
            client.run_workflow(NS, shop, "r", wrong)
        with pytest.raises(WrongValue, match=f"^shop/shop/r/0: {place}"):
            client.run_workflow(NS, "shop", "r", wrong)
        with pytest.raises(
            WrongValue, match=r"^signal 1 to shop/shop/r: .* expected Approval, got"
        ):
            client.signal_run(NS, shop, "r", APPROVE, TEA, "a")  # type: ignore[misc]
        assert (listing(client), rows(client, "SELECT id FROM replay_signals")) == ([], [])
        client.run_workflow(NS, tries, "r", TEA)
        drain(*staff(client, tries))
        assert listing(client, NS, "tries")[1:] == ["RUN_COMPLETED shop/tries/r/0 -"]
        assert said == [
            "shop/tries/r/0/total/0: Order.lines[2].price: expected int, got str",
            "shop/tries/r/0/total/1: Order: expected Order, got Bill",
            "shop/tries/r/0/bill/0: Bill: expected Bill, got Order",
            "shop/tries/r/0/any/0: Order.lines[2].price: expected int, got str",
            "shop/tries/r/1: Order.lines[2].price: expected int, got str",
            "shop/tries/r/1: Order: expected Order, got NoneType",
        ]


def test_j3_a_result_that_does_not_fit_is_a_failure(url: str) -> None:
    """J3, A2: of an activity, whose response is not stored."""

    def wrong(ctx: ActivityContext, backends: None, message: Order) -> Bill:
        return {"total": 1}  # type: ignore[return-value]

    with stepped(url) as client:
        activity = register_activity(client, NS, wrong, start=False)
        request(client, Key(NS, "shop", "r", 0, "wrong", "0"), ANY.message(TEA, "K"))
        drain(activity)
        error = "WrongValue: shop/shop/r/0/wrong/0: Bill: expected Bill, got dict"
        assert errors(activity) == [error]
        assert len(listing(client)) == 1


def test_j3_what_came_and_does_not_fit_parks(url: str) -> None:
    """J3, R5: an input, a request, a response and a signal that another program has written."""

    def careless(ctx: RunContext, order: Order) -> None:
        try:
            ctx.exec_activity(total, order)
            ctx.await_signal(APPROVE, MINUTE)
        except Exception:
            ctx.emit_output("caught", None)

    with stepped(url, Clock()) as client:
        workflow, activity, *_ = consumers = [
            register_workflow(client, NS, careless, start=False),
            register_activity(client, NS, total, start=False),
            *loops(client),
        ]
        client.run_workflow(NS, "careless", "input", Bill(1))
        client.run_workflow(NS, "careless", "response", TEA)
        drain(workflow)
        place = Key(NS, "careless", "response", 0, "total", "0")
        behind(client).append(
            behind(client).event(EventType.ACTIVITY_RESPONSE, place, {"total": "a"})
        )
        request(client, place._replace(run="request"), ANY.message(Bill(1), "K"))
        client.run_workflow(NS, "careless", "signal", TEA)
        client.signal_run(NS, "careless", "signal", 1, Bill(1), "a")
        drain(*consumers)
        assert errors(workflow) == [
            "WrongValue: shop/careless/input/0: Order: object missing required field id",
            "WrongValue: shop/careless/response/0/total/0: Bill.total: expected int, got str",
            "WrongValue: shop/careless/signal/0/replay_signal/1:0: Approval: object missing"
            " required field by",
        ]
        assert errors(activity) == [
            "WrongValue: shop/careless/request/0/total/0: Order: object missing required field id"
        ]
        assert not [each for each in listing(client) if "caught" in each]


def test_j1_j3_a_response_that_came_before_its_request(url: str) -> None:
    """J1, J3: code that asks later than it did still gets what the annotation says."""
    got: list[Any] = []

    def before(ctx: RunContext, order: Order) -> None:
        ctx.gather(ctx.call(total, order), ctx.call(total, Order("2")), ctx.call("slow", 1))

    def after(ctx: RunContext, order: Order) -> None:
        got.append([ctx.exec_activity(total, each) for each in (order, Order("2"))])
        ctx.exec_activity("slow", 1)

    def careless(ctx: RunContext, order: Order) -> None:
        try:
            after(ctx, order)
        except Exception:
            got.append("caught")

    register = partial(register_workflow, name="late", start=False)
    for response, flow, parked in (
        ({"total": 2}, after, []),
        (
            {"total": "a"},
            careless,
            ["WrongValue: shop/late/r/0/total/1: Bill.total: expected int, got str"],
        ),
    ):
        run = f"r{len(parked)}"
        with stepped(url) as client:
            workflow = register(client, NS, before)
            client.run_workflow(NS, "late", run, TEA)
            drain(workflow)
        log = None
        with stepped(url) as client:
            log = behind(client)
            for sequence, value in (("1", response), ("0", {"total": 1})):
                place = Key(NS, "late", run, 0, "total", sequence)
                log.append(log.event(EventType.ACTIVITY_RESPONSE, place, value))
            workflow = register(client, NS, flow)
            drain(workflow)
            assert errors(workflow) == [each.replace("/r/", f"/{run}/") for each in parked]
    assert got == [[Bill(1), Bill(2)]]


BAD: list[tuple[str, Any]] = []


def unresolvable(ctx: RunContext, order: NoSuchName) -> None: ...  # type: ignore[name-defined]  # noqa: F821


def unresolvable_result(ctx: RunContext, order: Order) -> NoSuchName: ...  # type: ignore[name-defined]  # noqa: F821


def opened(ctx: RunContext, order: Callable[[], int]) -> None: ...


def nested(ctx: RunContext, order: list[Bill | Approval]) -> None: ...


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (unresolvable, "parameter order of unresolvable is annotated 'NoSuchName': name"),
        (unresolvable_result, "the return value of unresolvable_result is annotated"),
        (opened, "parameter order of opened is annotated collections.abc.Callable"),
        (nested, "parameter order of nested is annotated list"),
    ],
)
def test_j3_a_bad_annotation_is_refused(function: Any, problem: str) -> None:
    """J3: at registration, and where the function stands for a name; it used to mean "any"."""
    with stepped("sqlite://") as client:
        with pytest.raises(BadAnnotation) as refused:
            register_workflow(client, NS, function, start=False)
        assert str(refused.value).startswith(problem)
        with pytest.raises(BadAnnotation):
            client.run_workflow(NS, function, "r", TEA)
        assert listing(client) == []


class Kitchen:
    def cook(self, ctx: ActivityContext, backends: None, order: Order) -> Bill:
        return Bill(1)

    def __call__(self, ctx: ActivityContext, backends: None, order: Order) -> Bill:
        return Bill(1)


def typed_elsewhere(ctx: RunContext, backends: Store, order: Order) -> Bill:
    return Bill(1)


def unannotated(ctx, backends, order):  # type: ignore[no-untyped-def]
    pass


@pytest.mark.parametrize(
    "function",
    [total, Kitchen().cook, Kitchen(), partial(Kitchen.cook, Kitchen()), typed_elsewhere],
)
def test_j1_the_annotations_of_any_function(function: Any) -> None:
    """J1: methods, partials and objects have annotations, too.  Only two of them matter."""
    found = check_signature(function, "activity(ctx, backends, message)")
    assert (found.takes.name, found.returns.name) == ("Order", "Bill")
    assert check_signature(unannotated, "activity(ctx, backends, message)") == (ANY, ANY)


def test_j1_a_function_that_is_none_is_refused(url: str) -> None:
    """J1: a function in the place of a name has to be one that can be registered."""
    with stepped(url) as client:
        with pytest.raises(BadSignature, match="expected workflow"):
            client.run_workflow(NS, total, "r", TEA)  # type: ignore[arg-type]
        with pytest.raises(Error, match="workflow '' is empty"):
            client.await_completion(NS, Kitchen(), "r", 1)


# J5: signals and outputs with types.


def test_j5_none_means_that_no_signal_came(url: str) -> None:
    """J5, S4: so a signal of a type that does not name None has a message."""
    got: list[Any] = []

    def flow(ctx: RunContext, message: None) -> None:
        for type in (APPROVE, COUNT, MAYBE):
            got.append(ctx.await_signal(type, timedelta(0)))
            got.append(ctx.await_signal(type, MINUTE))

    with stepped(url, clock := Clock()) as client:
        with pytest.raises(
            WrongValue, match="signal 1 to shop/flow/r: expected Approval, got None"
        ):
            client.signal_run(NS, flow, "r", APPROVE, None, "a")  # type: ignore[misc]
        with pytest.raises(WrongValue, match="signal 3 to shop/flow/r: expected Int, got None"):
            client.signal_run(NS, flow, "r", COUNT, None, "a")  # type: ignore[misc]
        assert client.run_workflow(NS, flow, "r", None)
        consumers = staff(client, flow)
        drain(*consumers)
        clock.forward(seconds=1)
        drain(*consumers)
        client.signal_run(NS, flow, "r", APPROVE, Approval("me"), "a")
        drain(*consumers)
        clock.forward(seconds=1)
        drain(*consumers)
        client.signal_run(NS, "flow", "r", 3, None, "a")  # from a program without types
        drain(*consumers)
        clock.forward(seconds=1)
        drain(*consumers)
        client.signal_run(NS, flow, "r", MAYBE, None, "a")
        drain(*consumers)
        assert got[-6:] == [None, Approval("me"), None, Int(), None, None]
        assert listing(client)[-3:] == [
            "ACTIVITY_REQUEST shop/flow/r/0/replay_signal/2:1 duration { seconds: 60 }",
            "ACTIVITY_RESPONSE shop/flow/r/0/replay_signal/2:1 -",
            "RUN_COMPLETED shop/flow/r/0 -",
        ]


def test_j5_types_are_checked_where_they_are_made() -> None:
    """J5, S1, N2: not only where they are used."""
    with pytest.raises(Error, match="types are numbers from -128 to 127"):
        SignalType(128, Approval)
    with pytest.raises(Error, match="begins with replay_"):
        OutputType("replay_bill", Bill)
    with pytest.raises(BadAnnotation, match="signal 1 is annotated"):
        SignalType(1, Callable)
    with pytest.raises(BadAnnotation, match="output bill is annotated"):
        OutputType("bill", list[Int])


def test_n3_what_has_no_form_is_refused(url: str) -> None:
    """N3: by the same error everywhere."""
    with stepped(url) as client:
        with pytest.raises(NotAMessage, match=r"^shop/flow/r/0: object is neither"):
            client.run_workflow(NS, "flow", "r", object())
        assert listing(client) == []
