"""The command `typedreplay`: the code that it makes, and the definitions that it refuses."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from replay.tools import typedgen
from tests.example_pb2 import Empty
from tests.support import Clock, drain, listing, stepped
from tests.typed_example import replay_gen
from tests.typed_example.activities import Kitchen
from tests.typed_example.evening import DINNER, dine
from tests.typed_example.workflows import dinner, refund

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLE = ROOT / "tests" / "typed_example"

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
    activities=[typed.Activity("greet", function="{module}:greet")],
)
"""


def write(folder: Path, code: str, name: str = "definition.py") -> Path:
    path = folder / name
    path.write_text(code)
    return path


def typedreplay(*arguments: str | Path) -> int:
    """Run the command, and forget the modules that it imports, as a process of its own does."""
    before = set(sys.modules)
    importlib.invalidate_caches()
    try:
        return typedgen.main([str(each) for each in arguments])
    finally:
        for name in set(sys.modules) - before:
            del sys.modules[name]


def generate(path: Path) -> str:
    """Write the generated file, and read it."""
    assert typedreplay(path) == 0
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
    path = folder / "namespace.py"
    path.write_text(path.read_text().replace("tests.typed_example", "restaurant"))
    return path


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
        text = text.replace("activities:find_table", "activities:seat")
        path.write_text(text)
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


# Missing, stale and broken generated files.


def hello(folder: Path, imports: str = "", module: str = "definition") -> Path:
    """A definition in a folder: its activity is in the module, and it imports something."""
    return write(folder, HELLO.replace("{module}", module).replace("{imports}", imports))


@pytest.mark.parametrize("there", ["def old(): ...\n", "def broken(:\n", "raise SystemExit(3)\n"])
def test_an_old_file_is_no_obstacle(copy: Path, there: str) -> None:
    """T1: the file that is about to be written is not imported, nor is a workflow."""
    expected = generate(copy)
    write(copy.parent, there, "replay_gen.py")
    assert typedreplay(copy) == 0
    assert copy.with_name("replay_gen.py").read_text() == expected


IMPORTED = [
    ("import replay_gen", False),
    ("from replay_gen import HelloFlow", False),
    ("from . import replay_gen", True),
    ("from .replay_gen import HelloFlow", True),
    ("from pack.age import replay_gen", True),
    ("import pack.age.replay_gen", True),
]


@pytest.mark.parametrize("there", ["", "HelloFlow = object\n", "def broken(:\n"])
@pytest.mark.parametrize(("line", "package"), IMPORTED)
@pytest.mark.parametrize("file", ["definition.py", "activities.py"])
def test_an_import_of_the_generated_file_is_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    line: str,
    package: bool,
    file: str,
    there: str,
) -> None:
    """T1: at the line of that import; whether the file is there or not, so at once."""
    folder = tmp_path / "pack" / "age" if package else tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    for each in (folder, folder.parent) if package else ():
        (each / "__init__.py").touch()
    module = f"pack.age.{file[:-3]}" if package else file[:-3]
    path = hello(folder, module=module)
    write(folder, f"x = 1\n{line}\n", file)
    if there:
        write(folder, there, "replay_gen.py")
    assert typedreplay(path) == 1
    said = capsys.readouterr().err
    assert said == (
        f"{folder / file}:2: {module} imports replay_gen, which typedreplay has yet to write: keep"
        " the definition and the activities in modules that do not import replay_gen\n"
    )


def test_a_function_may_import_the_generated_file_when_it_is_called(tmp_path: Path) -> None:
    """T1: so an activity can start and signal runs."""
    code = HELLO.replace("    return String", "    import replay_gen\n    return String")
    path = write(tmp_path, code.replace("{module}", "definition").replace("{imports}", ""))
    assert "    from definition import greet as function\n" in generate(path)


def test_the_process_is_left_as_it_was(copy: Path) -> None:
    """T1: a program that calls the command can import what it could before."""
    before = sys.path[:], sys.modules["tests.typed_example.replay_gen"]
    assert typedreplay(EXAMPLE / "namespace.py", "--check") == 0
    assert typedreplay(copy) == 0
    assert (sys.path, sys.modules["tests.typed_example.replay_gen"]) == before
    assert "restaurant.replay_gen" not in sys.modules


def test_the_definition_may_be_a_package_itself(tmp_path: Path) -> None:
    """T1: in a file __init__.py; the generated file is a module of that package then."""
    folder = tmp_path / "itself"
    folder.mkdir()
    path = hello(folder, module="itself").rename(folder / "__init__.py")
    assert "    from itself import greet as function\n" in generate(path)
    write(folder, "from . import replay_gen\n", "__init__.py")
    assert typedreplay(path) == 1


TESTS = "import tests.example_pb2 as _example_pb2"


def test_modules_are_named_as_the_definition_imports_them(tmp_path: Path) -> None:
    """T1: not as protoc was told, and as a script's folder or a package would have it."""
    for folder, imports, expected in (
        (tmp_path / "script", "import example_pb2", "import example_pb2 as _example_pb2"),
        (tmp_path / "wrap", "from . import example_pb2", "import wrap.example_pb2 as _example_pb2"),
        (
            tmp_path / "deep",
            "from deep.example_pb2 import Int",
            "import deep.example_pb2 as _example_pb2",
        ),
        # Where it has two names, the one that protoc was told.
        (tmp_path / "both", "import both.example_pb2\nfrom tests.example_pb2 import Int", TESTS),
    ):
        folder.mkdir()
        if folder.name != "script":
            (folder / "__init__.py").touch()
        shutil.copy(ROOT / "tests" / "example_pb2.py", folder)
        code = HELLO.replace("from tests.example_pb2 import Int, String\n", "")
        value = "Int" if "Int" in imports else "example_pb2.Int"
        code = f"{imports}\n{code.replace('String', value).replace('{imports}', '')}"
        name = "" if folder.name == "script" else f"{folder.name}."
        path = write(folder, code.replace("{module}", f"{name}definition"))
        done = run("replay.tools.typedgen", path, cwd=tmp_path, PYTHONHASHSEED="7")
        assert (done.returncode, done.stderr) == (0, "")
        generated = path.with_name("replay_gen.py").read_text()
        assert f"from replay import typed\n\n{expected}\n\n_NAMESPACE" in generated
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
    assert typedreplay(*check) == 1
    assert not target.exists()
    assert typedreplay("namespace.py") == 0
    assert typedreplay(*check) == 0
    written = target.read_bytes()
    target.write_bytes(written + b"\n")
    assert typedreplay(*check) == 1
    assert target.read_bytes() == written + b"\n"
    assert typedreplay("namespace.py") == 0
    assert target.read_bytes() == written
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        "replay_gen.py is written",
        "replay_gen.py is up to date",
        "replay_gen.py is written",
    ]
    assert said.err.splitlines() == ["replay_gen.py is stale: run typedreplay namespace.py"] * 2
    with pytest.raises(SystemExit, match="2"):
        typedreplay("nothing.py")
    assert "nothing.py: there is no such file" in capsys.readouterr().err


def test_the_committed_example_is_up_to_date() -> None:
    """T1: the example's generated file is what its definition makes, whatever hashes are."""
    for seed in ("1", "2"):
        done = run(
            "replay.tools.typedgen",
            "--check",
            EXAMPLE / "namespace.py",
            cwd=ROOT,
            PYTHONHASHSEED=seed,
        )
        assert (done.returncode, done.stderr) == (0, "")


# Definitions that are refused.

IMPORTS = """from functools import partial
from typing import Any, Literal
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
def literal(ctx: ActivityContext, backends: Literal[1], message: Int) -> Int: ...
def few(ctx: ActivityContext, message: Int) -> Int: ...
async def later(ctx: ActivityContext, backends: None, message: Int) -> Int: ...
def outer():
    class Local: ...
    def local(ctx: ActivityContext, backends: Local, message: Int) -> Int: ...
    return local
local, part, three = outer(), partial(act), 3

F = "definition:act"
Activity, Output, Signal, Workflow = typed.Activity, typed.Output, typed.Signal, typed.Workflow

def namespace(*activities, workflows=(), **parts):
    return typed.Namespace("ns", workflows=[*workflows, Workflow("flow", input=Int, **parts)],
                           activities=activities)

"""


def named(name: str) -> str:
    return f"N = namespace(Activity({name!r}, function='definition:act'))"


def acting(function: str) -> str:
    return f'N = namespace(Activity("act", function="definition:{function}"))'


def signals(*parts: str) -> str:
    return "N = namespace(signals=[\n{}])".format("\n".join(f"Signal({part})," for part in parts))


def flows(*names: str) -> str:
    return "N = namespace(workflows=[\n{}])".format(
        "\n".join(f"Workflow({name!r}, input=Int)," for name in names)
    )


FEW = "expected activity(ctx: ActivityContext, backends: B, message: M) -> M2 | None"

WRITE = 'write "module:function", such as "app.activities:greet"'

#: A definition, which of its lines is at fault, and why.
REFUSED = {
    "two workflows": (
        flows("a", "a"),
        3,
        "workflow 'a': it would make the name AFlow, which workflow 'a' ({file}:{before}) makes"
        " already: rename it",
    ),
    "classes": (flows("a_b", "aB"), 3, "would make the name ABFlow, which workflow 'a_b'"),
    "signal functions": (
        "N = namespace(workflows=[Workflow('a', input=Int, signals=[Signal('b_c', enum=1,"
        " message=Int)]),\nWorkflow('a_b', input=Int, signals=[\n"
        "Signal('c', enum=1, message=Int)])])",
        3,
        "signal 'c': it would make the name signal_a_b_c, which signal 'b_c'",
    ),
    "two signals": (
        signals("'a', enum=1, message=Int", "'a', enum=2, message=Int"),
        3,
        "signal 'a': it would make the name await_a",
    ),
    "two outputs": (
        "N = namespace(workflows=[\nWorkflow('other', input=Int, outputs=[Output('out',"
        " message=Int)])],\noutputs=[Output('out', message=String)])",
        3,
        "output 'out': it would make the name handle_out, which output 'out'",
    ),
    "an output and a run": (
        "N = namespace(outputs=[Output('flow_run', message=Int)])",
        1,
        "output 'flow_run': it would make the name handle_flow_run, which workflow 'flow'",
    ),
    "two activities": (
        "N = namespace(\nActivity('a', function=F),\nActivity('a', function=F))",
        3,
        "activity 'a': it would make the name a, which activity 'a' ({file}:{before}) makes",
    ),
    "workflow and activity": (
        named("flow"),
        1,
        "activity 'flow': it would make the name register_flow, which workflow 'flow'",
    ),
    "an activity sleep": (named("sleep"), 1, "the name sleep, which is taken already: rename it"),
    "an activity restart": (named("restart"), 1, "the name restart, which workflow 'flow' ("),
    "an activity typed": (named("typed"), 1, "the name typed, which is taken already"),
    "an activity and an await": (
        "N = namespace(Activity('await_x', function=F),\n"
        "signals=[Signal('x', enum=1, message=Int)])",
        2,
        "signal 'x': it would make the name await_x, which activity 'await_x'",
    ),
    "a call": (
        "N = namespace(\nActivity('a', function=F),\nActivity('call_a', function=F))",
        3,
        "activity 'call_a': it would make the name call_a, which activity 'a'",
    ),
    "a workflow client": (flows("client"), 2, "'client': it would make the name client, which is"),
    "a hidden function": (
        flows("x", "register_x"),
        3,
        "workflow 'register_x': it would make the name register_x, which ",
    ),
    "enum twice": (
        signals("'a', enum=1, message=Int", "'b', enum=1, message=Int"),
        3,
        "signal 'b': signal 'a' ({file}:{before}) has the enum 1: choose another",
    ),
    "enum too large": (signals("'a', enum=128, message=Int"), 2, "numbers from -128 to 127"),
    "enum too small": (signals("'a', enum=-129, message=Int"), 2, "numbers from -128 to 127"),
    "enum a text": (signals("'a', enum='1', message=Int"), 2, "expected an int or an IntEnum"),
    "signal without enum": (
        signals("'a', message=Int"),
        2,
        "definition cannot be imported: TypeError: ",
    ),
    "signal of no message": (
        signals("'a', enum=1, message=Int()"),
        2,
        "signal 'a': its message is : expected the class of a message",
    ),
    "output of no message": (
        "N = namespace(outputs=[Output('a', message=None)])",
        1,
        "output 'a': its message is None: expected the class of a message",
    ),
    "input of no message": (
        "N = namespace(workflows=[\nWorkflow('a', input=str)])",
        2,
        "workflow 'a': its input is <class 'str'>: expected the class of a message",
    ),
    "input of any message": (
        "N = namespace(workflows=[\nWorkflow('a', input=Message)])",
        2,
        "expected the class of a message",
    ),
    "message unannotated": (
        acting("no_message"),
        1,
        f"its function has no annotation for message: {FEW}",
    ),
    "answer unannotated": (acting("no_answer"), 1, f"has no annotation for return: {FEW}"),
    "backends unannotated": (acting("no_backends"), 1, f"has no annotation for backends: {FEW}"),
    "any message": (acting("any_message"), 1, f"has typing.Any for message: {FEW}"),
    "any answer": (acting("any_answer"), 1, "'google.protobuf.message.Message'> for return"),
    "no message": (acting("takes_none"), 1, "for message: expected"),
    "another answer": (acting("returns_int"), 1, "has <class 'int'> for return"),
    "two messages": (acting("two"), 1, "for message: expected"),
    "unknown backends": (acting("unknown"), 1, "name 'Nowhere' is not defined"),
    "odd backends": (acting("literal"), 1, "Literal[1] cannot be written: name a class"),
    "local backends": (acting("local"), 1, "Local cannot be imported: define it at the top"),
    "two parameters": (acting("few"), 1, "cannot be called with 3 arguments"),
    "async": (acting("later"), 1, "is an async function; replay runs plain functions only"),
    "no function": (acting("three"), 1, "3 is not a function"),
    "partial": (acting("part"), 1, "activity 'act': functools.partial("),
    "no such function": (acting("nothing"), 1, "the module definition has no nothing: define it"),
    "a function itself": (
        "N = namespace(Activity('act', function=act))",
        1,
        "activity 'act': its function is <function act at 0x",
    ),
    "no string": ("N = namespace(Activity('act', function=3))", 1, f"function is 3: {WRITE}"),
    "no module": ("N = namespace(Activity('act', function='act'))", 1, f"is 'act': {WRITE}"),
    "method": (acting("Holder.held"), 1, f"is 'definition:Holder.held': {WRITE}"),
    "keyword in it": ("N = namespace(Activity('act', function='if.x:act'))", 1, WRITE),
    "unknown module": (
        "N = namespace(Activity('act', function='nowhere.activities:act'))",
        1,
        "nowhere.activities cannot be imported: ModuleNotFoundError: No module named 'nowhere'",
    ),
    "empty name": (named(""), 1, "activity '' is empty: choose another name"),
    "long name": (named("a" * 256), 1, "has 256 characters, at most 255 are allowed"),
    "slash": (named("a/b"), 1, "holds a slash"),
    "reserved": (named("replay_x"), 1, "begins with replay_, which is reserved: rename it"),
    "keyword": (named("class"), 1, "activity 'class': functions cannot have such a name: use"),
    "hyphen": (named("a-b"), 1, "activity 'a-b': functions cannot have such a name: use"),
    "underscore": (named("_a"), 1, "activity '_a': functions cannot have such a name: use"),
    "number": ("N = namespace(Activity(3, function=F))", 1, "expected a plain string"),
    "namespace's name": ("N = typed.Namespace('a/b', workflows=[])", 1, "'a/b' holds a slash"),
    "description": (
        "N = namespace(Activity('a', function=F, description='\\0'))",
        1,
        "activity 'a': its description is not a text, or holds control characters",
    ),
    "no description": (
        "N = namespace(Activity('a', function=F, description=3))",
        1,
        "activity 'a': its description is not a text",
    ),
    "nothing": ("", 1 - IMPORTS.count("\n"), "expected one typed.Namespace here, found 0"),
    "two namespaces": (
        "N = namespace()\n\nM = typed.Namespace('m', workflows=[])",
        3,
        "expected one typed.Namespace here, found 2",
    ),
    "no workflows": (
        "N = typed.Namespace('n', workflows=[])",
        1,
        "namespace 'n': it has no workflows",
    ),
    "no list": (
        "N = typed.Namespace('n', workflows=Workflow('a', input=Int))",
        1,
        "namespace 'n': its workflows are Workflow(name='a'",
    ),
    "another part": (
        "N = typed.Namespace('n', workflows=[Activity('a', function=F)])",
        1,
        ": expected a list of typed.Workflow",
    ),
    "an error": ("x = 1\nN = 1 / 0", 2, "cannot be imported: ZeroDivisionError: division by zero"),
    "an end": ("import sys\nsys.exit(3)", 2, "cannot be imported: SystemExit: 3"),
    "no Python": ("x = 1\n)", 2, "cannot be imported: SyntaxError: unmatched ')'"),
}
# The helper `namespace` stands above: what is wrong with the namespace itself is said of its line.


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_definition_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    """T1: with file, line and reason; and nothing is written."""
    code, line, reason = REFUSED[case]
    path = write(tmp_path, IMPORTS + code)
    assert typedreplay(path) == 1
    said = capsys.readouterr().err
    line += IMPORTS.count("\n")
    assert said.startswith(f"{path}:{line}: ")
    assert reason.format(file=path, before=line - 1) in said
    assert not path.with_name("replay_gen.py").exists()


def test_a_name_of_another_module_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """T1: a file that Python would not import, since something else has its name."""
    path = hello(tmp_path).rename(tmp_path / "textwrap.py")
    assert typedreplay(path) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"{path}:1: Python imports ")
    assert said.endswith("textwrap.py as textwrap: rename this file\n")


def test_an_error_in_a_module_of_activities_names_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """T1: a definition's activities may be wherever they are; what fails there is shown there."""
    path = hello(tmp_path, module="kitchen")
    kitchen = write(tmp_path, "x = 1\ny = 1 / 0\n", "kitchen.py")
    assert typedreplay(path) == 1
    said = capsys.readouterr().err
    assert said == f"{kitchen}:2: kitchen cannot be imported: ZeroDivisionError: division by zero\n"


# The code.

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


SIZES = "Größe 大小 " * 12
ODD = typed.Namespace(
    'The "odd" one\\'s \\\\',
    description='Ends with "quotes"',
    workflows=[
        typed.Workflow("run", input=DescriptorProto.ExtensionRange, description='"What?" \\\\'),
        typed.Workflow("match", input=StringValue, description="Three " + '"' * 3 + " word" * 30),
    ],
    activities=[
        typed.Activity("workflow", function="odd.definition:in_store", description=SIZES),
        typed.Activity("activity", function="odd.definition:in_table"),
        typed.Activity("type", function="odd.definition:anywhere"),
        typed.Activity("list", function="odd.definition:nowhere"),
    ],
)
"""

LENGTHS = (1, 61)


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
    activities=[typed.Activity("a{name}", function="sized_{n}.definition:act")])
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
    code = generate(write(tmp_path, ODD.replace("odd.definition", "definition")))
    start = code.partition("def start_replay_loops(\n")[2]
    assert start.replace("DescriptorProto.ExtensionRange", "Range") == (
        """\
    client: replay.Client,
    *,
    run: Callable[[RunFlow, _descriptor_pb2.Range], None],
    match: Callable[[MatchFlow, _wrappers_pb2.StringValue], None],
    workflow_backends: _definition.Store,
    activity_backends: dict[str, _sqlite3.Connection | None],
    type_backends: typing.Any,
    start: bool = True,
) -> list[replay.Consumer]:
    \"""Register all workflows and activities under their names in the definition.\"""
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
    checking = "import definition as _definition\n    import sqlite3 as _sqlite3"
    assert f"\nif typing.TYPE_CHECKING:\n    {checking}\n\n" in code
    assert """\n_NAMESPACE = 'The "odd" one\\'s \\\\'\n""" in code


def test_two_modules_of_one_name_get_two(tmp_path: Path) -> None:
    """T1: what is imported of one is not taken from the other; nor are an activity and a module."""
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder, "class Store: ...\n", "store.py")
    code = """
import one.store, two.store
from replay import ActivityContext, typed
from tests.example_pb2 import Int
def first(ctx: ActivityContext, backends: one.store.Store, message: Int) -> None: ...
def second(ctx: ActivityContext, backends: two.store.Store, message: Int) -> None: ...
N = typed.Namespace("n", workflows=[typed.Workflow("w", input=Int)], activities=[
    typed.Activity("store", function="definition:first"),
    typed.Activity("example_pb2", function="definition:second"),
])
"""
    code = generate(write(tmp_path, code))
    assert "    import one.store as _store\n    import two.store as _store_\n" in code
    assert "    store_backends: _store.Store,\n    example_pb2_backends: _store_.Store,\n" in code


def test_formatters_and_linters_leave_it_alone(generated: Path) -> None:
    """T1: ruff changes nothing in it, and finds no fault but that it is told to find none."""
    files = sorted(generated.glob("*/replay_gen.py"))
    assert len(files) == len(LENGTHS) + 2
    for command in (["format", "--diff"], ["check", "--select", "ALL", "--ignore", "PGH004"]):
        done = run("ruff", *command, "--isolated", *files, cwd=generated)
        assert done.returncode == 0, done.stdout


def test_docstrings_are_wrapped(generated: Path) -> None:
    """T1: a description has as many lines as it needs, each of at most 100 characters."""
    lines = (generated / "odd" / "replay_gen.py").read_text().splitlines()
    first = next(n for n, each in enumerate(lines) if "Three" in each)
    words = " ".join(each.strip() for each in lines[first : first + 3])
    text = 'The methods of the workflow match. Three \\"\\"\\"' + " word" * 30
    assert words == f'"""{text}"""'
    assert max(map(len, lines[first : first + 3])) <= 100


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
