"""Typed namespaces: one definition, code that is made from it, and what of it is refused."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn
from unittest.mock import Mock, call, create_autospec

import pytest

import replay
from replay import typed
from replay.client import BadSignature
from replay.tools import typedgen
from tests.example_pb2 import Empty, Int, String
from tests.support import Clock, drain, line, listing, stepped
from tests.typed_example import replay_gen
from tests.typed_example.activities import Kitchen
from tests.typed_example.workflows import dinner, refund

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "tests" / "typed_example"
HOUR = timedelta(hours=1)

#: A definition in the folder of a script.
HELLO = """
from replay import ActivityContext, typed
from tests.example_pb2 import Int, String
{imports}

def greet(ctx: ActivityContext, backends: None, name: String) -> String:
    return String(value="Hello " + name.value)

NAMESPACE = typed.Namespace(
    "greetings",
    workflows=[
        typed.Workflow("hello", input=String, outputs=[typed.Output("greeted", message=String)])
    ],
    activities=[typed.Activity("greet", function=greet)],
)
"""


def write(folder: Path, code: str, name: str = "definition.py") -> Path:
    path = folder / name
    path.write_text(code)
    return path


def generate(path: Path) -> str:
    """Write the generated file, and read it."""
    assert typedgen.main([str(path)]) == 0
    return path.with_name("replay_gen.py").read_text()


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a module of this Python in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The definition of a copy of the example, as a clean checkout has it: nothing is generated."""
    folder = tmp_path / "restaurant"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("replay_gen.py", "__pycache__"))
    return folder / "namespace.py"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path, str], ModuleType]]:
    """Imports a module from a folder, until the test has ended."""
    before = set(sys.modules)

    def load(folder: Path, name: str) -> ModuleType:
        monkeypatch.syspath_prepend(folder)
        return importlib.import_module(name)

    yield load
    for name in set(sys.modules) - before:
        del sys.modules[name]


# From a definition to the events of its runs.


def dine(client: replay.Client, generated: Any, consumers: Sequence[replay.Consumer]) -> None:
    """A whole run: two dishes are ordered and paid for."""
    assert generated.run_dinner(client, "Ada", String(value="Ada"))
    for dish in ("soup", "fish"):
        assert generated.signal_dinner_order(client, "Ada", String(value=dish), dish)
    assert not generated.signal_dinner_order(client, "Ada", String(value="soup"), "soup")
    drain(*consumers, *client.loops())


DINNER = [
    'RUN_CREATED restaurant/dinner/Ada/0 value: "Ada"',
    'ACTIVITY_REQUEST restaurant/dinner/Ada/0/find_table/0 value: "Ada"',
    "ACTIVITY_RESPONSE restaurant/dinner/Ada/0/find_table/0 value: 7",
    "ACTIVITY_REQUEST restaurant/dinner/Ada/0/replay_signal/1:0 duration { seconds: 3600 }",
    'ACTIVITY_RESPONSE restaurant/dinner/Ada/0/replay_signal/1:0 value: "soup"',
    'RUN_OUTPUT restaurant/dinner/Ada/0/served/0 value: "soup for Ada"',
    "ACTIVITY_REQUEST restaurant/dinner/Ada/0/replay_signal/1:1 duration { seconds: 3600 }",
    'ACTIVITY_RESPONSE restaurant/dinner/Ada/0/replay_signal/1:1 value: "fish"',
    'RUN_OUTPUT restaurant/dinner/Ada/0/served/1 value: "fish for Ada"',
    "ACTIVITY_REQUEST restaurant/dinner/Ada/0/replay_signal/1:2 duration { seconds: 3600 }",
    "ACTIVITY_RESPONSE restaurant/dinner/Ada/0/replay_signal/1:2",
    'ACTIVITY_REQUEST restaurant/dinner/Ada/0/price/0 value: "soup"',
    'ACTIVITY_REQUEST restaurant/dinner/Ada/0/price/1 value: "fish"',
    "ACTIVITY_RESPONSE restaurant/dinner/Ada/0/price/0 value: 4",
    "ACTIVITY_RESPONSE restaurant/dinner/Ada/0/price/1 value: 4",
    "RUN_OUTPUT restaurant/dinner/Ada/0/bill/0 value: 8",
    "ACTIVITY_REQUEST restaurant/dinner/Ada/0/replay_signal/-2:0 duration { seconds: 3600 }",
    "ACTIVITY_RESPONSE restaurant/dinner/Ada/0/replay_signal/-2:0",
    "ACTIVITY_REQUEST restaurant/dinner/Ada/0/wash_up/0 value: 2",
    "ACTIVITY_RESPONSE restaurant/dinner/Ada/0/wash_up/0 -",
    "RUN_COMPLETED restaurant/dinner/Ada/0 -",
]


def test_from_a_clean_checkout_to_a_run(
    url: str, copy: Path, load: Callable[[Path, str], ModuleType]
) -> None:
    """T1: what is generated from a definition, where there was nothing before, runs a workflow."""
    committed = (EXAMPLE / "replay_gen.py").read_text()
    assert generate(copy) == committed.replace("tests.typed_example", "restaurant")
    folder = copy.parent.parent
    generated = load(folder, "restaurant.replay_gen")
    functions = load(folder, "restaurant.workflows")
    kitchen = load(folder, "restaurant.activities").Kitchen()
    clock = Clock()
    with stepped(url, clock) as client:
        consumers = generated.start_replay_loops(
            client, kitchen, dinner=functions.dinner, late_refund=functions.refund, start=False
        )
        dine(client, generated, consumers)
        clock.forward(hours=1)
        assert generated.signal_dinner_pay(client, "Ada", Empty(), "card")
        drain(*consumers, *client.loops())
        assert listing(client) == DINNER
    assert kitchen.orders == ["price of soup", "price of fish"]


def test_renaming_a_function_changes_nothing(
    url: str, copy: Path, load: Callable[[Path, str], ModuleType]
) -> None:
    """T2: with other names of functions the code differs in an import, and the events do not."""
    before = generate(copy)
    for file in ("activities.py", "namespace.py", "workflows.py"):
        path = copy.with_name(file)
        text = (
            path.read_text().replace("find_table(ctx", "seat(ctx").replace("dinner(flow", "f(flow")
        )
        text = text.replace("activities.find_table", "activities.seat")
        path.write_text(text.replace("import dinner,", "import f as dinner,"))
    after = generate(copy)
    assert after == before.replace("import find_table as function", "import seat as function")
    assert after != before
    generated = load(copy.parent.parent, "restaurant.replay_gen")
    functions = load(copy.parent.parent, "restaurant.workflows")
    kitchen = load(copy.parent.parent, "restaurant.activities").Kitchen()
    clock = Clock()
    with stepped(url, clock) as client:
        # One process has the old names, then one with the new ones takes the same runs up.
        old = replay_gen.start_replay_loops(
            client, Kitchen(), dinner=dinner, late_refund=refund, start=False
        )
        dine(client, replay_gen, old)
        for consumer in old:
            consumer.stop()
        client._consumers.clear()
        new = generated.start_replay_loops(
            client, kitchen, dinner=functions.f, late_refund=functions.refund, start=False
        )
        clock.forward(hours=1)
        assert generated.signal_dinner_pay(client, "Ada", Empty(), "card")
        drain(*new, *client.loops())
        assert listing(client) == DINNER


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
            (later, "is async"),
            (takes_nothing, r"cannot be called with 2 arguments .* expected dinner\(flow, message"),
            (other, "takes Int, the workflow dinner is defined with String"),
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

    def gather(self, *calls: typed.Call[Any]) -> list[Any]:
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


# Whatever is in the place of the generated file.


@pytest.mark.parametrize(
    "there", ["", "def old(): ...\n", "def broken(:\n", "raise SystemExit(3)\n"]
)
@pytest.mark.parametrize(
    ("imports", "package"),
    [
        ("import replay_gen", False),
        ("import replay_gen as g; replay_gen = g.replay_gen", False),
        ("from replay_gen import HelloFlow, x; import replay_gen", False),
        ("from . import replay_gen", True),
        ("from .replay_gen import HelloFlow; from . import replay_gen", True),
        ("from pack.age import replay_gen", True),
        ("import pack.age.replay_gen; replay_gen = pack.age.replay_gen", True),
        ("from pack.age.replay_gen import HelloFlow as replay_gen", True),
    ],
)
def test_what_imports_the_generated_file_is_loaded(
    tmp_path: Path, imports: str, package: bool, there: str
) -> None:
    """T1: the definition's file may import and use what is about to be generated from it."""
    folder = tmp_path / "pack" / "age" if package else tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    for each in (folder, folder.parent) if package else ():
        (each / "__init__.py").touch()
    uses = """
from collections.abc import Callable

def hello(flow: replay_gen.HelloFlow, name: String) -> None: ...

def either(flow: "replay_gen.HelloFlow | None", f: Callable[[replay_gen.X], None] | None) -> None:
    replay_gen.run_hello(None, "a", String())

LOOPS: dict[str, replay_gen.X] = {"now": replay_gen.start(hello=hello)[0] | None}
MORE = None | replay_gen.X

class Hello(replay_gen.HelloFlow): ...
"""
    path = write(folder, HELLO.format(imports=imports + uses))
    if there:
        write(folder, there, "replay_gen.py")
    path_before, finders = sys.path[:], sys.meta_path[:]
    name = "pack.age.definition" if package else "definition"
    assert f"    from {name} import greet as function\n" in generate(path)
    assert (sys.path, sys.meta_path) == (path_before, finders)
    assert {"pack", "definition", "replay_gen"}.isdisjoint(sys.modules)


TESTS = "from tests import example_pb2"


def test_a_package_that_is_imported_already_stays_whole(
    tmp_path: Path, load: Callable[[Path, str], ModuleType]
) -> None:
    """T1: nothing is left of what stood in for the generated file."""
    folder = tmp_path / "whole"
    folder.mkdir()
    package = write(folder, "", "__init__.py")
    assert load(tmp_path, "whole").__file__ == str(package)
    path = write(folder, HELLO.format(imports="from . import replay_gen"))
    generate(path)
    assert not hasattr(sys.modules["whole"], "replay_gen")
    importlib.invalidate_caches()
    assert load(tmp_path, "whole.replay_gen").__file__ == str(path.with_name("replay_gen.py"))


def test_the_definition_may_be_a_package_itself(tmp_path: Path) -> None:
    """T1: in a file __init__.py; the generated file is a module of that package then."""
    folder = tmp_path / "itself"
    folder.mkdir()
    path = write(folder, HELLO.format(imports="from .replay_gen import HelloFlow"), "__init__.py")
    assert "    from itself import greet as function\n" in generate(path)


def test_modules_are_named_as_the_definition_imports_them(tmp_path: Path) -> None:
    """T1: not as protoc was told, and as a script's folder or a package would have it."""
    for folder, imports, expected in (
        (tmp_path / "script", "import example_pb2", "import example_pb2"),
        (tmp_path / "wrap", "from . import example_pb2", "from wrap import example_pb2"),
        (tmp_path / "deep", "from deep.example_pb2 import Int", "from deep import example_pb2"),
        # Where it has two names, the one that protoc was told.
        (tmp_path / "both", "import both.example_pb2\nfrom tests.example_pb2 import Int", TESTS),
    ):
        folder.mkdir()
        if folder.name != "script":
            (folder / "__init__.py").touch()
        shutil.copy(ROOT / "tests" / "example_pb2.py", folder)
        code = HELLO.replace("from tests.example_pb2 import Int, String\n", "")
        value = "Int" if "Int" in imports else "example_pb2.Int"
        code = f"{imports}\n{code.replace('String', value)}"
        path = write(folder, code.format(imports=""))
        done = run("replay.typed", path, cwd=tmp_path, PYTHONHASHSEED="7")
        assert (done.returncode, done.stderr) == (0, "")
        generated = path.with_name("replay_gen.py").read_text()
        assert f"from replay import typed\n\n{expected}\n\n_NAMESPACE" in generated
        name = "" if folder.name == "script" else f"{folder.name}."
        here = tmp_path if name else folder
        assert run(f"{name}replay_gen", cwd=here).returncode == 0


# The command.


def test_the_command_checks_and_writes(
    copy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """T1: --check writes nothing, and fails when the file is missing or stale."""
    monkeypatch.chdir(copy.parent)
    target = copy.with_name("replay_gen.py")
    check = ["--check", "namespace.py"]
    assert typedgen.main(check) == 1
    assert not target.exists()
    assert typedgen.main(["namespace.py"]) == 0
    assert typedgen.main(check) == 0
    written = target.read_bytes()
    target.write_bytes(written + b"\n")
    assert typedgen.main(check) == 1
    assert target.read_bytes() == written + b"\n"
    assert typedgen.main(["namespace.py"]) == 0
    assert target.read_bytes() == written
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        "replay_gen.py is written",
        "replay_gen.py is up to date",
        "replay_gen.py is written",
    ]
    assert said.err.splitlines() == ["replay_gen.py is stale: run typedreplay namespace.py"] * 2
    with pytest.raises(SystemExit, match="2"):
        typedgen.main(["nothing.py"])
    assert "nothing.py: there is no such file" in capsys.readouterr().err


def test_the_committed_example_is_up_to_date() -> None:
    """T1: the example's generated file is what its definition makes, whatever hashes are."""
    for seed in ("1", "2"):
        done = run(
            "replay.typed", "--check", EXAMPLE / "namespace.py", cwd=ROOT, PYTHONHASHSEED=seed
        )
        assert (done.returncode, done.stderr) == (0, "")


# What is refused.

IMPORTS = """from functools import partial
from typing import Any
from google.protobuf.message import Message
from replay import ActivityContext, typed
from tests.example_pb2 import Empty, Int, String

def act(ctx: ActivityContext, backends: None, message: Int) -> Int: ...
def no_message(ctx: ActivityContext, backends: None, message) -> Int: ...
def no_answer(ctx: ActivityContext, backends: None, message: Int): ...
def no_backends(ctx: ActivityContext, backends, message: Int) -> Int: ...
def any_message(ctx: ActivityContext, backends: None, message: Any) -> Int: ...
def any_answer(ctx: ActivityContext, backends: None, message: Int) -> Message: ...
def takes_none(ctx: ActivityContext, backends: None, message: None) -> Int: ...
def returns_int(ctx: ActivityContext, backends: None, message: Int) -> int: ...
def two(ctx: ActivityContext, backends: None, message: Int | String) -> Int: ...
def unknown(ctx: ActivityContext, backends: "Nowhere", message: Int) -> Int: ...
def literal(ctx: ActivityContext, backends: "typed.typing.Literal[1]", message: Int) -> Int: ...
def few(ctx: ActivityContext, message: Int) -> Int: ...
async def later(ctx: ActivityContext, backends: None, message: Int) -> Int: ...
def outer():
    def inner(ctx: ActivityContext, backends: None, message: Int) -> Int: ...
    class Local: ...
    def local(ctx: ActivityContext, backends: Local, message: Int) -> Int: ...
    return inner, local
class Holder:
    @staticmethod
    def held(ctx: ActivityContext, backends: None, message: Int) -> Int: ...

Activity, Output, Signal, Workflow = typed.Activity, typed.Output, typed.Signal, typed.Workflow

def namespace(*activities, workflows=(), **parts):
    return typed.Namespace("ns", workflows=[*workflows, Workflow("flow", input=Int, **parts)],
                           activities=activities)

"""


def named(name: str) -> str:
    return f"N = namespace(Activity({name!r}, function=act))"


def acting(function: str) -> str:
    return f'N = namespace(Activity("act", function={function}))'


def signals(*parts: str) -> str:
    return "N = namespace(signals=[\n{}])".format("\n".join(f"Signal({part})," for part in parts))


def flows(*names: str) -> str:
    return "N = namespace(workflows=[\n{}])".format(
        "\n".join(f"Workflow({name!r}, input=Int)," for name in names)
    )


FEW = "expected activity(ctx: ActivityContext, backends: B, message: M) -> M2 | None"

#: A definition, which of its lines is at fault, and why.
REFUSED = {
    "two workflows": (
        flows("a", "a"),
        3,
        "workflow 'a' would make the name AFlow, which workflow 'a' ({file}:{before}) makes"
        " already: rename it",
    ),
    "classes": (flows("a_b", "aB"), 3, "would make the name ABFlow, which workflow 'a_b'"),
    "signal functions": (
        "N = namespace(workflows=[Workflow('a', input=Int, signals=[Signal('b_c', enum=1,"
        " message=Int)]),\nWorkflow('a_b', input=Int, signals=[\n"
        "Signal('c', enum=1, message=Int)])])",
        3,
        "signal 'c' would make the name signal_a_b_c, which signal 'b_c'",
    ),
    "two signals": (
        signals("'a', enum=1, message=Int", "'a', enum=2, message=Int"),
        3,
        "signal 'a' would make the name await_a",
    ),
    "two outputs": (
        "N = namespace(workflows=[\nWorkflow('other', input=Int, outputs=[Output('out',"
        " message=Int)])],\noutputs=[Output('out', message=String)])",
        3,
        "output 'out' would make the name handle_out, which output 'out'",
    ),
    "an output and a run": (
        "N = namespace(outputs=[Output('flow_run', message=Int)])",
        1,
        "output 'flow_run' would make the name handle_flow_run, which workflow 'flow'",
    ),
    "two activities": (
        "N = namespace(\nActivity('a', function=act),\nActivity('a', function=act))",
        3,
        "activity 'a' would make the name a, which activity 'a' ({file}:{before}) makes already",
    ),
    "workflow and activity": (
        named("flow"),
        1,
        "activity 'flow' would make the name register_flow, which workflow 'flow'",
    ),
    "an activity sleep": (named("sleep"), 1, "the name sleep, which is taken already: rename it"),
    "an activity restart": (named("restart"), 1, "the name restart, which is taken already"),
    "an activity of a module": (named("example_pb2"), 1, "example_pb2, which is taken already"),
    "an activity and an await": (
        "N = namespace(Activity('await_x', function=act),\n"
        "signals=[Signal('x', enum=1, message=Int)])",
        2,
        "signal 'x' would make the name await_x, which activity 'await_x'",
    ),
    "a call": (
        "N = namespace(\nActivity('a', function=act),\nActivity('call_a', function=act))",
        3,
        "activity 'call_a' would make the name call_a, which activity 'a'",
    ),
    "a workflow client": (flows("client"), 2, "'client' would make the name client, which is"),
    "a hidden function": (
        flows("x", "register_x"),
        3,
        "workflow 'register_x' would make the name register_x, which ",
    ),
    "enum twice": (
        signals("'a', enum=1, message=Int", "'b', enum=1, message=Int"),
        3,
        "signal 'b' has the enum 1 of signal 'a' ({file}:{before}): choose another",
    ),
    "enum too large": (signals("'a', enum=128, message=Int"), 2, "numbers from -128 to 127"),
    "enum too small": (signals("'a', enum=-129, message=Int"), 2, "numbers from -128 to 127"),
    "enum a text": (signals("'a', enum='1', message=Int"), 2, "expected an int or an IntEnum"),
    "signal without enum": (signals("'a', message=Int"), 2, "TypeError when it was imported: "),
    "signal of no message": (
        signals("'a', enum=1, message=Int()"),
        2,
        "message of signal 'a' is : expected the class of a message",
    ),
    "output of no message": (
        "N = namespace(outputs=[Output('a', message=None)])",
        1,
        "message of output 'a' is None: expected the class of a message",
    ),
    "input of no message": (
        "N = namespace(workflows=[\nWorkflow('a', input=str)])",
        2,
        "input of workflow 'a' is <class 'str'>: expected the class of a message",
    ),
    "input of any message": (
        "N = namespace(workflows=[\nWorkflow('a', input=Message)])",
        2,
        "expected the class of a message",
    ),
    "message unannotated": (acting("no_message"), 1, f"has no annotation for message: {FEW}"),
    "answer unannotated": (acting("no_answer"), 1, f"has no annotation for return: {FEW}"),
    "backends unannotated": (acting("no_backends"), 1, f"has no annotation for backends: {FEW}"),
    "any message": (acting("any_message"), 1, f"has typing.Any for message: {FEW}"),
    "any answer": (acting("any_answer"), 1, "'google.protobuf.message.Message'> for return"),
    "no message": (acting("takes_none"), 1, "which is not a protobuf message"),
    "another answer": (acting("returns_int"), 1, "has <class 'int'> for return"),
    "two messages": (acting("two"), 1, "which is not a protobuf message"),
    "unknown backends": (acting("unknown"), 1, "name 'Nowhere' is not defined"),
    "odd backends": (acting("literal"), 1, "cannot be written: name a class instead"),
    "local backends": (acting("outer()[1]"), 1, "Local cannot be imported: define it at the top"),
    "two parameters": (acting("few"), 1, "cannot be called with 3 arguments"),
    "async": (acting("later"), 1, "is async, which a workflow or activity is not"),
    "no function": (acting("3"), 1, "3 is not a function"),
    "inner function": (
        acting("outer()[0]"),
        1,
        "definition.inner cannot be imported: define it at the top",
    ),
    "method": (acting("Holder.held"), 1, "definition.held cannot be imported: define"),
    "partial": (acting("partial(act)"), 1, "activity 'act': functools.partial("),
    "empty name": (named(""), 1, "activity '' is empty: choose another name"),
    "long name": (named("a" * 256), 1, "has 256 characters, at most 255 are allowed"),
    "slash": (named("a/b"), 1, "holds a slash"),
    "reserved": (named("replay_x"), 1, "begins with replay_, which is reserved: rename it"),
    "keyword": (named("class"), 1, "activity 'class' would be part of functions' names: use"),
    "hyphen": (named("a-b"), 1, "activity 'a-b' would be part of functions' names: use"),
    "underscore": (named("_a"), 1, "activity '_a' would be part of functions' names: use"),
    "number": ("N = namespace(Activity(3, function=act))", 1, "expected a plain string"),
    "namespace's name": ("N = typed.Namespace('a/b', workflows=[])", 1, "'a/b' holds a slash"),
    "description": (
        "N = namespace(Activity('a', function=act, description='\\0'))",
        1,
        "activity 'a': its description is not a text, or holds control characters",
    ),
    "no description": (
        "N = namespace(Activity('a', function=act, description=3))",
        1,
        "activity 'a': its description is not a text",
    ),
    "nothing": ("", 1 - IMPORTS.count("\n"), "expected one typed.Namespace in the module, found 0"),
    "two namespaces": (
        "N = namespace()\n\nM = typed.Namespace('m', workflows=[])",
        3,
        "expected one typed.Namespace in the module, found 2",
    ),
    "no workflows": ("N = typed.Namespace('n', workflows=[])", 1, "namespace 'n' has no workflows"),
    "no list": (
        "N = typed.Namespace('n', workflows=Workflow('a', input=Int))",
        1,
        "workflows of namespace 'n' is Workflow(name='a'",
    ),
    "another part": (
        "N = typed.Namespace('n', workflows=[Activity('a', function=act)])",
        1,
        ": expected a list of typed.Workflow",
    ),
    "an error": ("x = 1\nN = 1 / 0", 2, "ZeroDivisionError when it was imported: division by zero"),
    "an end": ("import sys\nsys.exit(3)", 2, "SystemExit when it was imported: 3"),
    "no Python": ("x = 1\n)", 2, "SyntaxError when it was imported: unmatched ')'"),
}
# The helper `namespace` stands above: what is wrong with the namespace itself is said of its line.


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_definition_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    """T1: with file, line and reason; and nothing is written."""
    code, line, reason = REFUSED[case]
    path = write(tmp_path, IMPORTS + code)
    assert typedgen.main([str(path)]) == 1
    said = capsys.readouterr().err
    line += IMPORTS.count("\n")
    assert said.startswith(f"{path}:{line}: ")
    assert reason.format(file=path, before=line - 1) in said
    assert not path.with_name("replay_gen.py").exists()


def test_a_name_of_another_module_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """T1: a file that Python would not import, since something else has its name."""
    path = write(tmp_path, HELLO.format(imports=""), "textwrap.py")
    assert typedgen.main([str(path)]) == 1
    assert f"{path}:1: textwrap is the name of " in capsys.readouterr().err


# Types and layout.

ODD = """
from __future__ import annotations

import sqlite3
from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto
from google.protobuf.wrappers_pb2 import StringValue
from replay import ActivityContext, typed
from tests.example_pb2 import Empty, Int


class Store: ...


def in_store(ctx: ActivityContext, store: Store, message: Int) -> Int | None:
    raise NotImplementedError


def in_table(ctx: ActivityContext, table: dict[str, sqlite3.Connection | None], m: Int) -> Int:
    raise NotImplementedError


def anywhere(ctx: ActivityContext, backends: Any, message: Empty | None) -> Empty:
    raise NotImplementedError


def nowhere(ctx: ActivityContext, backends: None, message: Empty) -> None:
    raise NotImplementedError


ODD = typed.Namespace(
    'The "odd" one\\'s \\\\',
    description='Ends with "quotes"',
    workflows=[
        typed.Workflow("run", input=DescriptorProto.ExtensionRange, description='"What?" \\\\'),
        typed.Workflow("match", input=StringValue, description="Three " + '"' * 3 + " word" * 30),
    ],
    activities=[
        typed.Activity("workflow", function=in_store, description="Größe 大小 " * 12),
        typed.Activity("activity", function=in_table),
        typed.Activity("type", function=anywhere),
        typed.Activity("list", function=nowhere),
    ],
)
"""

LENGTHS = range(1, 64, 2)


def sized(n: int) -> str:
    """A definition whose names have `n` characters."""
    name = "n" * n
    return f"""
from google.protobuf.descriptor_pb2 import DescriptorProto as D
from replay import ActivityContext, typed
def act(ctx: ActivityContext, backends: None, m: D.ExtensionRange | None) -> D | None: ...
N = typed.Namespace("{name}", description="{"word " * n}",
    workflows=[
        typed.Workflow("w{name}", input=D.ExtensionRange, description="{"wo" * n}",
            signals=[typed.Signal("s{name}", enum=1, message=D.ExtensionRange)],
            outputs=[typed.Output("o{name}", message=D, description="{"wo" * n + " word" * n}")])
    ],
    activities=[typed.Activity("a{name}", function=act)])
"""


@pytest.fixture
def generated(tmp_path: Path, copy: Path) -> Path:
    """A folder in which much has been generated."""
    generate(copy)
    for name, code in {"odd": ODD, **{f"sized_{n}": sized(n) for n in LENGTHS}}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
        generate(write(tmp_path / name, code))
    return tmp_path


def test_backends_of_different_types_are_given_one_by_one(tmp_path: Path) -> None:
    """T1: what no object can be at once is taken for each activity; what needs none gets none."""
    code = generate(write(tmp_path, ODD))
    start = code.partition("def start_replay_loops(\n")[2]
    assert start.replace("DescriptorProto.ExtensionRange", "Range") == (
        """\
    client: replay.Client,
    *,
    run: Callable[[RunFlow, descriptor_pb2.Range], None],
    match: Callable[[MatchFlow, wrappers_pb2.StringValue], None],
    workflow_backends: definition.Store,
    activity_backends: dict[str, sqlite3.Connection | None],
    type_backends: Any,
    start: bool = True,
) -> list[replay.Consumer]:
    \"""Register all workflows and activities, each under its name in the definition.\"""
    return [
        register_run(client, run, start=start),
        register_match(client, match, start=start),
        register_workflow(client, workflow_backends, start=start),
        register_activity(client, activity_backends, start=start),
        register_type(client, type_backends, start=start),
        register_list(client, start=start),
    ]
"""
    )
    assert "\nif TYPE_CHECKING:\n    import definition\n    import sqlite3\n\n" in code
    assert """\n_NAMESPACE = 'The "odd" one\\'s \\\\'\n""" in code


def test_it_is_laid_out_as_by_ruff(generated: Path) -> None:
    """T1: ruff has nothing to change in what is generated, and nothing to say of it."""
    files = sorted(generated.glob("*/replay_gen.py"))
    assert len(files) == len(LENGTHS) + 2
    for command in (
        ["format", "--diff", "--line-length", "100"],
        ["check", "--select", "B,F,I,PT,RUF,SIM,UP,W"],
    ):
        done = run("ruff", *command, "--isolated", *files, cwd=generated)
        assert done.returncode == 0, done.stdout


#: Each line is wrong, and a checker has to say so.
MISUSE = """
from datetime import timedelta
from restaurant import replay_gen
from restaurant.activities import Kitchen
from replay import Client
from tests.example_pb2 import Int, String

def three(flow: replay_gen.DinnerFlow, message: String, client: Client) -> None:
    flow.price(Int())
    flow.emit_bill(String())
    flow.sleep(3)
    flow.await_order(timedelta(0)).value
    flow.find_table(message).value
    flow.gather(flow.call_price(Int()))
    a: list[String] = flow.gather(flow.call_price(message))
    flow.unknown()
    replay_gen.run_dinner(client, "run", Int())
    replay_gen.signal_dinner_pay(client, "run", Int(), "id")
    replay_gen.register_dinner(client, refund)
    replay_gen.register_price(client, None)
    replay_gen.start_replay_loops(client, Kitchen(), dinner=three, late_refund=refund)
    flow.restart(Int())

def refund(flow: replay_gen.LateRefundFlow, message: Int) -> None:
    flow.await_order(timedelta(0))
"""


@pytest.fixture
def checked(generated: Path) -> Path:
    """The same, with a file in which each line of two functions is wrong."""
    write(generated, MISUSE, "misuse.py")
    return generated


def faults(output: str, file: str) -> list[int]:
    """The lines of a file in which a checker has found faults."""
    found = [each.partition(f"{file}:")[2] for each in output.splitlines() if "error:" in each]
    return sorted({int(each.partition(":")[0]) for each in found if each})


WRONG = [*range(9, 23), 25]


def test_mypy_has_nothing_to_say(checked: Path) -> None:
    """T1: what is generated passes `mypy --strict`, and finds wrong uses of it."""
    folders = ("restaurant", "odd", "sized_1", "sized_61")
    options = ("--strict", "--no-incremental", "--config-file=", "--cache-dir", checked / "cache")
    done = run("mypy", *options, *folders, "misuse.py", cwd=checked, MYPYPATH=str(ROOT))
    others = [each for each in done.stdout.splitlines()[:-1] if "misuse.py" not in each]
    assert (others, faults(done.stdout, "misuse.py")) == ([], WRONG), done.stdout


def test_pyright_has_nothing_to_say(checked: Path) -> None:
    """T1: it passes the strict mode of pyright too, which finds the same wrong uses."""
    folders = ("restaurant", "sized_1", "sized_61")
    files = [*(f"{each}/replay_gen.py" for each in (*folders, "odd")), "misuse.py"]
    config = {"include": files, "extraPaths": [str(ROOT)], "typeCheckingMode": "strict"}
    write(checked, json.dumps(config), "pyrightconfig.json")
    done = run("basedpyright", "--pythonpath", sys.executable, cwd=checked)
    others = [each for each in done.stdout.splitlines() if ": error:" in each]
    others = [each for each in others if "misuse.py" not in each]
    assert (others, faults(done.stdout, "misuse.py")) == ([], WRONG), done.stdout
