"""J1 to J3: what annotations mean, what is stored of a value, and what is refused."""

from __future__ import annotations

import math
import typing
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import IntEnum
from io import StringIO
from typing import Any, Literal, NamedTuple, TypedDict, TypeVar
from uuid import UUID

import msgspec
import pytest
from google.protobuf import any_pb2
from google.protobuf.message import Message

from replay.server.proto.values_pb2 import Json
from replay.storage.event import (
    UNKNOWN,
    Event,
    EventType,
    Key,
    MessageError,
    NotAMessage,
    pack,
    unpack,
)
from replay.storage.values import ANY, BadAnnotation, Carrier, Checked, Kind, WrongValue
from tests.example_pb2 import Int, String
from tests.models import Approval, Bill, Holder, Line, Model, Order, Size, Unequal

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
T = TypeVar("T")


class Pair(NamedTuple):
    left: int
    right: str


class Point(TypedDict):
    x: int


class Level(IntEnum):
    LOW = 1


class Struct(msgspec.Struct):
    a: int


@dataclass
class Base:
    a: int = 1


@dataclass
class Derived(Base):
    b: int = 2


@dataclass
class Node:
    """Holds itself."""

    value: int
    next: Node | None = None


def stored(kind: Kind, value: Any) -> bytes | None:
    """The bytes of a value, as they are stored."""
    return pack(kind.message(value, "K"), 1_000_000, "K")


ROUND_TRIPS: list[tuple[Any, Any, str]] = [
    (str, "text \0 ☃", r'str "text \u0000 ☃"'),
    (int, 10**40, f"int {10**40}"),
    (list[int], [-(10**40)], f"list [-{10**40}]"),
    (dict[str, int], {"a": 2**64}, 'dict {"a":18446744073709551616}'),
    (float, 0.1, "float 0.1"),
    (float, 1, "int 1"),
    (bool, True, "bool true"),
    (bytes, b"\xff\0", 'bytes "/wA="'),
    (list, [1, "a", None, [2.5]], 'list [1,"a",null,[2.5]]'),
    (dict, {"a": {"b": [True]}}, 'dict {"a":{"b":[true]}}'),
    (tuple[int, str], (1, "a"), 'tuple [1,"a"]'),
    (set[int], {1}, "set [1]"),
    (frozenset[int], frozenset({1}), "frozenset [1]"),
    (datetime, NOW, 'datetime "2030-01-01T12:00:00Z"'),
    (date, NOW.date(), 'date "2030-01-01"'),
    (timedelta, timedelta(seconds=1.5), 'timedelta "PT1.5S"'),
    (Decimal, Decimal("1.20"), 'Decimal "1.20"'),
    (UUID, UUID(int=1), 'UUID "00000000-0000-0000-0000-000000000001"'),
    (Size, Size.LARGE, 'Size "l"'),
    (int, Level.LOW, "Level 1"),
    (Literal["a", "b"], "b", 'str "b"'),
    (str | None, "a", 'str "a"'),
    (Pair, Pair(1, "a"), 'Pair [1,"a"]'),
    (Point, {"x": 1}, 'dict {"x":1}'),
    (Struct, Struct(1), 'Struct {"a":1}'),
    (Node, Node(1, Node(2)), 'Node {"value":1,"next":{"value":2,"next":null}}'),
    (Bill | Approval, Approval("me"), 'Approval {"by":"me","ok":true}'),
    (Bill | Approval | None, Bill(10**40), f'Bill {{"total":{10**40}}}'),
    (str | datetime, NOW, 'datetime "2030-01-01T12:00:00Z"'),
    (
        Order,
        Order("1", [Line("tea", 5, 0.5, NOW)], Size.LARGE, {"note": "x"}),
        'Order {"id":"1","lines":[{"name":"tea","price":5,"weight":0.5,'
        '"due":"2030-01-01T12:00:00Z"}],"size":"l","extra":{"note":"x"}}',
    ),
]


@pytest.mark.parametrize(("annotation", "value", "text"), ROUND_TRIPS, ids=range(len(ROUND_TRIPS)))
def test_j1_j2_a_value_comes_back(annotation: Any, value: Any, text: str) -> None:
    """J1, J2: as what it was, and as plain JSON for those who know no annotation."""
    raw = stored(Kind.of(annotation, "f"), value)
    wrapped = any_pb2.Any.FromString(raw or b"")
    assert wrapped.type_url == "type.googleapis.com/replay.v1.Json"
    json = Json.FromString(wrapped.value)
    assert f"{json.type} {json.json.decode()}" == text
    assert Kind.of(annotation, "f").decode(raw, "K") == value
    assert unpack(raw) == ANY.decode(raw, "K") == msgspec.json.decode(json.json)
    assert stored(ANY, value) == raw


def test_j2_the_bytes_of_a_value() -> None:
    """J2: a porter can compare with these."""
    assert (stored(ANY, "hi") or b"").hex() == (
        "0a22747970652e676f6f676c65617069732e636f6d2f7265706c61792e76312e4a736f6e"
        "120b0a037374721204226869"  # type.googleapis.com/replay.v1.Json, str, "hi"
        "22"
    )


def test_j1_a_protobuf_keeps_its_bytes() -> None:
    """J1, J2: whatever the annotation, and None is none."""
    for kind in (ANY, Kind.of(Int, "f"), Kind.of(Int | None, "f"), Kind.of(Int | String, "f")):
        raw = stored(kind, Int(value=3))
        assert raw == pack(Int(value=3), 100, "K")
        assert kind.decode(raw, "K") == Int(value=3)
    assert Kind.of(Int, "f").encode(None, "K") is None
    assert Kind.of(Int, "f").decode(b"", "K") is None


@pytest.mark.parametrize("annotation", [Any, object, Message, T, Any | None, typing.NoReturn])
def test_j1_an_open_annotation_takes_anything(annotation: Any) -> None:
    """J1: the value's own class decides."""
    assert Kind.of(annotation, "f") is ANY


@pytest.mark.parametrize("optional", [Order | None, Bill | Approval | None, None, str | None])
def test_j1_none_is_no_message(optional: Any) -> None:
    """J1: where the annotation allows it."""
    kind = Kind.of(optional, "f")
    assert kind.encode(None, "K") is None
    assert kind.decode(None, "K") is None


def test_j1_classes_with_their_own_json() -> None:
    """J1: their methods write, check and read it, alone and inside of others."""
    kind = Kind.of(Model, "f")
    assert stored(kind, Model(5)) == pack(Json(type="Model", json=b'{"number": 5}'), 100, "K")
    assert kind.decode(stored(kind, Model(10**40)), "K").number == 10**40
    holder = Kind.of(Holder, "f")
    back = holder.decode(stored(holder, Holder([Model(1), Model(2)])), "K")
    assert [each.number for each in back.models] == [1, 2]


def test_j1_what_is_below_any_comes_back_as_plain_json() -> None:
    """J1: a list without a type may hold dataclasses, which come back as dicts."""
    kind = Kind.of(list, "f")
    assert kind.decode(stored(kind, [Bill(1), (2, NOW)]), "K") == [
        {"total": 1},
        [2, "2030-01-01T12:00:00Z"],
    ]
    assert ANY.decode(stored(ANY, defaultdict(int, a=1)), "K") == {"a": 1}
    assert ANY.decode(stored(Kind.of(dict[int, str], "f"), {1: "a"}), "K") == {"1": "a"}
    assert Kind.of(dict[int, str], "f").decode(stored(ANY, {"1": "a"}), "K") == {1: "a"}
    assert Kind.of(list[object], "f").decode(stored(kind, [1, "a"]), "K") == [1, "a"]


def test_j3_values_of_which_no_two_are_equal() -> None:
    """J3: then the parts decide."""
    kind = Kind.of(Unequal, "f")
    assert kind.decode(stored(kind, Unequal("a")), "K").name == "a"
    wrong: Any = Unequal(NOW)  # type: ignore[arg-type]
    with pytest.raises(WrongValue, match=r"^K: Unequal\.name: expected str, got datetime$"):
        kind.encode(wrong, "K")


MISFITS: list[tuple[Any, Any, str]] = [
    (
        Order,
        Order("1", [Line("a", 1), Line("b", 2), Line("c", "3")]),  # type: ignore[arg-type]
        "Order.lines[2].price: expected int, got str",
    ),
    (Order, Order(NOW), "Order.id: expected str, got datetime"),  # type: ignore[arg-type]
    (Order, Order("1", size="s"), "Order.size: expected Size, got str"),  # type: ignore[arg-type]
    (Order, Order("1", extra={"a": [math.nan]}), "Order.extra['a'][0]: nan is no number in JSON"),
    (Order, Order("1", extra={1: 2}), "Order.extra: key 1: expected str, got int"),  # type: ignore[dict-item]
    (Order, Order("1", [Line("a", 1, math.inf)]), "Order.lines[0].weight: inf is no number"),
    (Order, Order("1", [Line("a", 1, 5.0, "2030-01-01T00:00:00Z")]), "due: expected datetime, got"),  # type: ignore[arg-type]
    (Order, {"id": "1"}, "Order: expected Order, got dict"),
    (Order, Bill(1), "Order: expected Order, got Bill"),
    (Order, Int(), "Order: expected Order, got Int"),
    (Order | None, 5, "Order: expected Order, got int"),
    (Order, None, "Order: expected Order, got NoneType"),
    (None, 1, "None: expected None, got int"),
    (str, 5, "str: expected str, got int"),
    (str, NOW, "str: expected str, got datetime"),
    (str, b"a", "str: expected str, got bytes"),
    (str, "\ud800", "str: 'utf-8' codec can't encode"),
    (int, True, "int: expected int, got bool"),
    (int, 1.0, "int: expected int, got float"),
    (int, 10**5000, "int: Exceeds the limit (4300 digits)"),
    (int | None, "a", "int: expected int, got str"),
    (float, math.nan, "float: nan is no number in JSON"),
    (float | None, math.nan, "float: nan is no number in JSON"),
    (float, 2**53 + 1, "float: 9007199254740993 comes back as 9007199254740992.0"),
    (list[int], (1, 2), "list: expected list, got tuple"),
    (list[int], [1, "a"], "list[1]: expected int, got str"),
    (tuple[str, str], ("a", NOW), "tuple[1]: expected str, got datetime"),
    (dict[str, str], OrderedDict(a=NOW), "dict['a']: expected str, got datetime"),
    (dict[str, Any], {"a": [{(1, 2): 3}]}, "dict: tuple has no form in JSON"),
    (dict, {"a": [{1: 3}]}, "dict['a'][0]: expected str as key, got int"),
    (list, [StringIO()], "list: StringIO has no form in JSON"),
    (set[str], {NOW}, "set: {datetime.datetime("),
    (Point, {"x": "a"}, "Point.x: expected int, got str"),
    (Pair, Pair(1, NOW), "Pair.right: expected str, got datetime"),  # type: ignore[arg-type]
    (Base, Derived(), "Base: expected Base, got Derived"),
    (int | list[str], ["a", NOW], "int | list[1]: expected str, got datetime"),
    (Literal["a"], "b", "Literal: invalid enum value 'b'"),
    (Model, Model("a"), "Model: number is 'a', expected an int"),
    (Model, Model(math.nan), "Model.number: nan is no number in JSON"),
    (Holder, Holder([Model(1), Model("a")]), "Holder.models[1]: number is 'a', expected an int"),
    (Int, String(), "expected Int, got String"),
    (Int, 5, "expected Int, got int"),
    (Bill | Approval, Order("1"), "expected Bill | Approval, got Order"),
    (Bill | Approval, None, "expected Bill | Approval, got NoneType"),
    (Bill | Approval, Bill("a"), "Bill.total: expected int, got str"),  # type: ignore[arg-type]
    (Any, math.nan, "float: nan is no number in JSON"),
    (Any, Bill("a"), "Bill.total: expected int, got str"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(
    ("annotation", "value", "problem"), MISFITS, ids=[problem for *_, problem in MISFITS]
)
def test_j3_what_does_not_fit_is_refused(annotation: Any, value: Any, problem: str) -> None:
    """J3: with the place in the value, and what the value is for."""
    with pytest.raises(WrongValue) as refused:
        Kind.of(annotation, "f").encode(value, "ns/w/r/0")
    assert str(refused.value).startswith("ns/w/r/0: ")
    assert problem in str(refused.value)


def test_j3_a_value_that_holds_itself() -> None:
    """J3: is refused, not followed for ever."""
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(WrongValue, match="list: it holds itself, or too many levels"):
        ANY.encode(loop, "K")


@pytest.mark.parametrize("value", [object(), print, StringIO(), Order, 1j, range(3), lambda: 1])
def test_j3_what_has_no_form_is_refused(value: Any) -> None:
    """N3, J3: though there is no annotation."""
    with pytest.raises(NotAMessage, match=rf"^K: {type(value).__name__} is neither a protobuf"):
        ANY.encode(value, "K")


def carrying(carrier: Carrier, value: Any) -> Event:
    """A new event that carries its value."""
    made = Kind.of(type(value), "f").encode(value, "K")
    assert isinstance(made, Checked)
    key = Key("ns", "flow", "r", 0, "act", "0")
    event = Event(0, EventType.ACTIVITY_REQUEST, key, UNKNOWN, pack(made.message, 1 << 20, key))
    carrier.load(event, made)
    return event


def test_j1_an_event_carries_its_value_to_the_first_reader() -> None:
    """J1: it was decoded when it was checked.  Each further reader gets a value of its own."""
    order = Order("1", [Line("tea", 5)])
    event = carrying(Carrier(), order)
    kind = Kind.of(Order, "g")
    assert event.carried is not None
    carried = event.carried[kind]
    first, second, third = (kind.read(event) for _ in range(3))
    assert first is carried
    assert first == second == third == order
    assert len({id(each.lines) for each in (order, first, second, third)}) == 4


def test_j1_j3_a_reader_of_another_kind_reads_the_message() -> None:
    """J1, J3: what an event carries is for those who would get the same."""
    event = carrying(Carrier(), Bill(5))
    assert ANY.read(event) == {"total": 5}
    assert Kind.of(dict[str, int], "f").read(event) == {"total": 5}
    with pytest.raises(WrongValue, match=r"act/0: Line: object missing required field name"):
        Kind.of(Line, "f").read(event)
    assert Kind.of(Bill, "f").read(event) == Bill(5)


def test_what_events_carry_is_bounded() -> None:
    """In number, since nobody here may read them, and in bytes."""
    carrier = Carrier()
    events = [carrying(carrier, Bill(n)) for n in range(2002)]
    assert [event.carried is None for event in events] == [True] * 2 + [False] * 2000
    assert [Kind.of(Bill, "f").read(event).total for event in events] == list(range(2002))
    assert carrying(carrier, Line("tea" * 500, 5)).carried is None


STORED: list[tuple[Any, Any, str]] = [
    (Order, {"id": 5}, "Order.id: expected str, got int"),
    (Order, {}, "Order: object missing required field id"),
    (Order, [], "Order: expected object, got array"),
    (Order, Int(), "expected Order, got Int"),
    (Order, None, "expected Order, got NoneType"),
    (Int, 5, "expected Int, got int"),
    (Int, String(), "expected Int, got String"),
    (Bill | Approval, {"total": 5}, "expected Bill | Approval, got dict"),
    (Holder, {"models": [{"number": "a"}]}, "Holder.models[0]: number is 'a', expected an int"),
]


@pytest.mark.parametrize(("annotation", "value", "problem"), STORED)
def test_j3_what_is_stored_and_does_not_fit(annotation: Any, value: Any, problem: str) -> None:
    """J3: another program may have written it."""
    with pytest.raises(WrongValue) as refused:
        Kind.of(annotation, "f").decode(stored(ANY, value), "K")
    assert str(refused.value) == f"K: {problem}"


def test_j3_damaged_json() -> None:
    """J3: is an error that says so."""
    raw = pack(Json(type="str", json=b'"a'), 100, "K")
    with pytest.raises(MessageError, match="a stored value is damaged"):
        unpack(raw)
    with pytest.raises(WrongValue, match="K: str: input data was truncated"):
        Kind.of(str, "f").decode(raw, "K")


BAD: list[tuple[Any, str]] = [
    (lambda: 1, "is not supported"),
    (StringIO, "StringIO has no form in JSON"),
    (typing.IO[str], "IO has no form in JSON"),
    (Callable[[int], int], "Callable has no form in JSON"),
    (complex, "complex has no form in JSON"),
    (set[StringIO], "StringIO has no form in JSON"),
    (list[Int], "Int has no form in JSON"),
    (list[Bill | Approval], "may not contain more than one dataclass"),
    (dict[str, Bill | Approval], "may not contain more than one dataclass"),
    (Bill | StringIO, "StringIO has no form in JSON"),
    (list[int] | list[str], "two names are equal"),
    ("NoSuchName", "is not supported"),
]


@pytest.mark.parametrize(("annotation", "problem"), BAD)
def test_j3_what_cannot_be_annotated(annotation: Any, problem: str) -> None:
    """J3: the error names what is annotated."""
    with pytest.raises(BadAnnotation) as refused:
        Kind.of(annotation, "parameter order of f")
    assert str(refused.value).startswith("parameter order of f is annotated ")
    assert problem in str(refused.value)
