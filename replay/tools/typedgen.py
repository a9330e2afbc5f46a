"""The command ``typedreplay``: writes ``replay_gen.py`` from the definition of a namespace.

Role: `generate` imports the definition, checks it and makes the code.  `main` writes the code, or
compares it with the file that is there.

Invariants:

- The command never imports ``replay_gen`` and refuses a definition that needs it.  So a missing,
  stale or broken one is no obstacle.
- The same definition always gives the same code.
- No name in the code hides another.  A definition that makes one name twice is refused.

Left to `typed`: the parts of a definition, and the base of the code.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import inspect
import keyword
import re
import sys
import textwrap
import traceback
import types
import typing
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from google.protobuf.message import Message

from .. import typed
from ..signal import InvalidSignal, check_signal
from ..signature import BadSignature, check_signature
from ..storage.event import InvalidName, check_name, check_target
from ..typed import DefinitionError, Part

GENERATED = "replay_gen"


def _refused(part: Part, reason: str) -> DefinitionError:
    return DefinitionError(f"{part.place}: {part}: {reason}")


# Import of a definition.


def _module_of(path: Path) -> tuple[str, Path]:
    """The name under which a program imports a file, and the folder that it imports from."""
    folder, parts = path.parent, [path.stem] if path.stem != "__init__" else []
    while (folder / "__init__.py").exists():
        parts.insert(0, folder.name)
        folder = folder.parent
    return ".".join(parts), folder


@contextmanager
def _importing(root: Path, generated: str) -> Iterator[None]:
    """Import from `root` first, as the program does, and never the module `generated`."""
    modules: dict[str, Any] = sys.modules
    path, known = sys.path[:], modules.get(generated)
    sys.path[:] = [str(root), *path, str(Path.cwd())]
    modules[generated] = None  # an import of it raises ModuleNotFoundError
    try:
        yield
    finally:
        sys.path[:] = path
        del modules[generated]
        if known:
            modules[generated] = known


def _imported(module: str, place: str) -> ModuleType:
    """Import a module that the definition at `place` needs.  Raises `DefinitionError`."""
    try:
        return importlib.import_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # it may raise anything, sys.exit() included
        reason = f"{module} cannot be imported: {type(error).__name__}: {error}"
        if isinstance(error, ImportError) and f".{error.name}".endswith(f".{GENERATED}"):
            reason = (
                f"{module} imports {GENERATED}, which typedreplay has yet to write: keep the"
                f" definition and the activities in modules that do not import {GENERATED}"
            )
        raise DefinitionError(f"{_place_of(error, place)}: {reason}") from error


def _place_of(error: BaseException, place: str) -> str:
    """The innermost line in the folder of `place` that raised the error, or else `place`."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno or 1}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)[1:]):
        if Path(frame.filename).is_relative_to(Path(place).parent):
            return f"{frame.filename}:{frame.lineno or 1}"
    return place


def _definition(path: Path, name: str) -> typed.Namespace:
    """The one definition in a file that a program imports under this name."""
    module = _imported(name, f"{path}:1")
    if Path(module.__file__ or "").resolve() != path:
        reason = f"Python imports {module.__file__} as {name}: rename this file"
        raise DefinitionError(f"{path}:1: {reason}")
    values = {id(each): each for each in vars(module).values() if isinstance(each, typed.Namespace)}
    found = [each for each in values.values() if each.place.rpartition(":")[0] == module.__file__]
    if len(found) != 1:
        place = found[1].place if found else f"{path}:1"
        raise DefinitionError(f"{place}: expected one typed.Namespace here, found {len(found)}")
    return found[0]


# Checks of a definition.

_SIGNATURE = "activity(ctx: ActivityContext, backends: B, message: M) -> M2 | None"
#: Control characters and surrogates, which no docstring can hold.
_CONTROL = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def check(namespace: typed.Namespace) -> None:
    """Raise `DefinitionError` for the first part that cannot be used.

    `types_of` checks the functions of the activities, and `_claim` finds equal names.
    """
    _check_part(namespace)
    _check_parts(namespace, "workflows", typed.Workflow)
    _check_parts(namespace, "activities", typed.Activity)
    if not namespace.workflows:
        raise _refused(namespace, "it has no workflows")
    for workflow in namespace.workflows:
        _check_message(workflow, "input", workflow.input)
        _check_parts(workflow, "signals", typed.Signal)
        _check_parts(workflow, "outputs", typed.Output)
        _check_enums(workflow)
        for output in workflow.outputs:
            _check_message(output, "message", output.message)


def _check_parts(owner: Part, name: str, kind: type[Part]) -> None:
    parts = getattr(owner, name)
    expected = f"expected a list of typed.{kind.__name__}"
    if not isinstance(parts, list | tuple):
        raise _refused(owner, f"its {name} are {parts!r:.100}: {expected}")
    for part in parts:
        if not isinstance(part, kind):
            raise _refused(owner, f"its {name} hold {part!r:.100}: {expected}")
        _check_part(part)


def _check_part(part: Part) -> None:
    what = type(part).__name__.lower()
    try:
        check_name(what, part.name)
        if isinstance(part, typed.Activity | typed.Output):
            check_target(what, part.name)
    except InvalidName as error:
        raise DefinitionError(f"{part.place}: {error}") from None
    usable = part.name.isascii() and _importable(part.name) and not part.name.startswith("_")
    if not usable and not isinstance(part, typed.Namespace):
        raise _refused(
            part,
            "functions cannot have such a name: use an ASCII letter, then ASCII letters, digits"
            " and _, and no keyword",
        )
    if not isinstance(part.description, str) or _CONTROL.search(part.description):
        raise _refused(part, "its description is not a text, or holds control characters")


def _check_message(part: Part, name: str, value: object) -> None:
    if not _is_message(value):
        raise _refused(part, f"its {name} is {value!r:.100}: expected the class of a message")


def _check_enums(workflow: typed.Workflow) -> None:
    known: dict[int, Part] = {}
    for signal in workflow.signals:
        _check_message(signal, "message", signal.message)
        try:
            enum = check_signal(signal.enum)
        except InvalidSignal as error:
            raise _refused(signal, str(error)) from None
        if (other := known.setdefault(enum, signal)) is not signal:
            raise _refused(signal, f"{other} ({other.place}) has the enum {enum}: choose another")


def _importable(name: str) -> bool:
    return name.isidentifier() and not keyword.iskeyword(name)


def _is_message(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Message) and value is not Message


class Types(NamedTuple):
    """The annotations of an activity's function."""

    backends: Any
    takes: Any  # M or M | None
    returns: Any  # M, M | None or NoneType


def types_of(activity: typed.Activity) -> Types:
    """Import the function of an activity and read its types.  Raises `DefinitionError`."""
    function = _function_of(activity)
    try:
        check_signature(function, _SIGNATURE)
        plain = inspect.unwrap(function)
        if isinstance(plain, functools.partial):  # Python 3.14 would say that it has no hints
            raise TypeError(f"{plain!r:.100} is no function: expected one with annotations")
        hints = typing.get_type_hints(plain)
    except (BadSignature, NameError, TypeError, AttributeError) as error:
        raise _refused(activity, str(error)) from None
    names = [*list(inspect.signature(function).parameters)[1:3], "return"]
    for name, messages in zip(names, (None, (1,), (0, 1)), strict=True):
        if name not in hints:
            problem = "no annotation"
        elif messages and _messages_in(hints[name]) not in messages:
            problem = f"{hints[name]!r:.100}"
        else:
            continue
        raise _refused(activity, f"its function has {problem} for {name}: expected {_SIGNATURE}")
    return Types(*(hints[name] for name in names))


def _function_of(activity: typed.Activity) -> Any:
    written: object = activity.function
    module, _, name = written.partition(":") if isinstance(written, str) else ("", "", "")
    if not all(_importable(each) for each in (*module.split("."), name)):
        example = 'write "module:function", such as "app.activities:greet"'
        raise _refused(activity, f"its function is {written!r:.100}: {example}")
    found = getattr(_imported(module, activity.place), name, None)
    if found is None:
        raise _refused(activity, f"the module {module} has no {name}: define it there")
    return found


def _messages_in(annotation: Any) -> int:
    """The number of messages in ``M | None`` and the like; -1 if another type is among them."""
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    found = {*(typing.get_args(annotation) if union else (annotation,))} - {types.NoneType}
    return len(found) if all(_is_message(each) for each in found) else -1


# Names in the code.

#: The names of a scope, with the parts that make them; None for what is there anyway.
Scope = dict[str, Part | None]


def _claim(scope: Scope, name: str, part: Part) -> str:
    """`name`, which `part` makes.  Raises `DefinitionError` if the scope has it already."""
    if name in scope:
        other = scope[name]
        owner = f"{other} ({other.place}) makes already" if other else "is taken already"
        raise _refused(part, f"it would make the name {name}, which {owner}: rename it")
    scope[name] = part
    return name


class _Modules:
    """The modules that the code imports, each under its last name.

    An underscore begins that name, so that no name of a definition hides it.
    """

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._aliases: dict[str, str] = {}
        self._needed: set[str] = set()  # when the code runs; the others for annotations only

    def type_of(self, annotation: Any, part: Part) -> str:
        """The code of a type.  Raises `DefinitionError` if there is none."""
        if annotation in (None, types.NoneType):
            return "None"
        if annotation is Any:
            return "typing.Any"
        origin = typing.get_origin(annotation)
        arguments = (self.type_of(each, part) for each in typing.get_args(annotation))
        if origin in (typing.Union, types.UnionType):
            return " | ".join(arguments)
        if isinstance(origin, type):
            return f"{self._class(origin, part)}[{', '.join(arguments)}]"
        if isinstance(annotation, type):
            return self._class(annotation, part)
        raise _refused(part, f"{annotation!r:.100} cannot be written: name a class instead")

    def _class(self, found: type, part: Part) -> str:
        module = _module_with(found, part)
        if module == "builtins":
            return found.__qualname__
        if issubclass(found, Message):
            self._needed.add(module)
        if module not in self._aliases:
            alias = f"_{module.rpartition('.')[2]}"
            while alias in self._scope:
                alias += "_"
            self._aliases[module] = _claim(self._scope, alias, part)
        return f"{self._aliases[module]}.{found.__qualname__}"

    def imports(self) -> str:
        """The statements that import them."""
        lines: dict[bool, list[str]] = {True: [], False: []}
        for module, alias in sorted(self._aliases.items()):
            lines[module in self._needed].append(f"import {module} as {alias}")
        checking = ["\nif typing.TYPE_CHECKING:", *(f"    {each}" for each in lines[False])]
        return "\n".join(lines[True] + checking * bool(lines[False]))


def _module_with(found: type, part: Part) -> str:
    """The module from which a class is imported.

    Classes of protoc's name the module that protoc was told.  The program may import another one.
    """
    home, name = found.__module__, found.__qualname__
    last = home.rpartition(".")[2]
    for module in [home, *sorted(each for each in sys.modules if each.rpartition(".")[2] == last)]:
        importable = all(_importable(each) for each in module.split("."))
        if importable and _get(sys.modules.get(module), name) is found:
            return module
    raise _refused(part, f"{home}.{name} cannot be imported: define it at the top of a module")


def _get(module: ModuleType | None, qualname: str) -> object:
    found: object = module
    for name in qualname.split("."):
        found = getattr(found, "__dict__", {}).get(name)
    return found


def _told(text: str) -> str:
    """A text as the end of a docstring; empty for none."""
    words = " ".join(["", *text.split()]).replace("\\", "\\\\").replace('"""', r"\"\"\"")
    return words + " " * words.endswith('"')


def _wrapped(line: str) -> str:
    """A line of code; several if it is a docstring of more than 100 characters."""
    if not line.lstrip().startswith('"""'):
        return line
    indent = line[: line.index('"')]
    lines = textwrap.TextWrapper(
        100, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return lines.fill(line)


# The code.  Its head tells formatters to leave it alone, so these pieces are laid out here.

_HEAD = '''\
# Made by "typedreplay {source}" from that file: change it, not this one.
# fmt: off
# isort: skip_file
# flake8: noqa
# ruff: noqa
"""{doc}"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator
{timedelta}
import replay
from replay import typed

{imports}

_NAMESPACE = {name!r}
'''

#: The methods of a flow: signature, docstring, and what a run does.
_RESTART = (
    "restart(self, message: {input}) -> typing.NoReturn",
    "End this iteration and begin the next with `message`, in one transaction.",
    "self._ctx.restart(message)",
)
_ACTIVITY = (
    "{name}(self, message: {takes}) -> {returns}",
    "Execute the activity {name}.{told}",
    "return self._exec(self.call_{name}(message))",
)
_CALL = (
    "call_{name}(self, message: {takes}) -> typed.Call[{returns}]",
    "A call of {name} for `gather`, which executes it.",
    'return typed.Call("{name}", message)',
)
_AWAIT = (
    "await_{name}(self, timeout: timedelta) -> {message} | None",
    "The next signal {name}, or None if none comes within `timeout`.{told}",
    "return self._await({enum}, {message}, timeout)",
)
_EMIT = (
    "emit_{name}(self, message: {message}) -> None",
    "Add the output {name}.{told}",
    'self._ctx.emit_output("{name}", message)',
)

_WORKFLOW = '''\
def run_{name}(client: replay.Client, run: str, message: {input}) -> bool:
    """Start a run of {name}. False means that its id is used already."""
    return client.run_workflow(_NAMESPACE, "{name}", run, message)


def stream_{name}(
    client: replay.Client, run: str = "", **options: typing.Unpack[typed.StreamOptions]
) -> Iterator[replay.Event]:
    """The events of {name}, or of one run. The options are those of `replay.Client.stream`."""
    return client.stream(_NAMESPACE, "{name}", run, **options)


def handle_{name}_run(event: replay.Event, fn: Callable[[str, {input}], object]) -> None:
    """Call `fn` with run and input if the event begins an iteration of {name}."""
    typed.handle(event, replay.EventType.RUN_CREATED, (_NAMESPACE, "{name}"), "", fn)


def register_{name}(
    client: replay.Client,
    fn: Callable[[{flow}, {input}], None],
    **options: typing.Unpack[typed.WorkflowOptions],
) -> replay.Consumer:
    """Run {name} by `fn`. The options are those of `replay.register_workflow`."""
    typed.check_workflow(fn, "{name}", {input})

    def workflow(ctx: replay.RunContext, message: {input}) -> None:
        fn(_{flow}(ctx), message)

    return replay.register_workflow(client, _NAMESPACE, workflow, name="{name}", **options)
'''

_SIGNAL = '''\
def signal_{workflow}_{name}(
    client: replay.Client, run: str, message: {message}, external_id: str
) -> bool:
    """Send {name} to a run of {workflow}. False means that `external_id` was sent before.{told}"""
    return client.signal_run(_NAMESPACE, "{workflow}", run, {enum}, message, external_id)
'''

_OUTPUT = '''\
def handle_{name}(event: replay.Event, fn: Callable[[str, {message}], object]) -> None:
    """Call `fn` with run and message if the event is {name}.{told}"""
    typed.handle(event, replay.EventType.RUN_OUTPUT, (_NAMESPACE, "{workflow}"), "{name}", fn)
'''

_REGISTER_ACTIVITY = '''\
def register_{name}(
    client: replay.Client, {given}, **options: typing.Unpack[typed.ActivityOptions]
) -> replay.Consumer:
    """Execute {name}. The options are those of `replay.register_activity`."""
    # Imported here, since only a process that executes it needs this module.
    from {module} import {function} as function

    return replay.register_activity(
        client, _NAMESPACE, function, backends, name="{name}", **options
    )
'''

_START = '''\
def start_replay_loops(
    {takes},
    start: bool = True,
) -> list[replay.Consumer]:
    """Register all workflows and activities under their names in the definition."""
    return [
        {calls},
    ]
'''


class _Writer:
    """Makes the code of one namespace."""

    def __init__(self, namespace: typed.Namespace) -> None:
        self._namespace = namespace
        self._scope: Scope = {"_NAMESPACE": None}
        self._modules = _Modules(self._scope)
        self._blocks: list[str] = []
        #: The values of each part for the pieces of code.
        self._values: dict[Part, dict[str, Any]] = {}
        found = {activity: types_of(activity) for activity in namespace.activities}
        for workflow in namespace.workflows:
            flow = "".join(each[:1].upper() + each[1:] for each in workflow.name.split("_"))
            self._put(workflow, {"input": workflow.input}, flow=f"{flow}Flow")
            for signal in workflow.signals:
                enum = int(signal.enum)
                self._put(signal, {"message": signal.message}, workflow=workflow.name, enum=enum)
            for output in workflow.outputs:
                self._put(output, {"message": output.message}, workflow=workflow.name)
        for activity, its in found.items():
            module, _, function = activity.function.partition(":")
            self._put(activity, its._asdict(), module=module, function=function)
            self._values[activity]["given"] = _given(self._values[activity]["backends"])

    def _put(self, part: Part, classes: dict[str, Any], **values: object) -> None:
        code = {name: self._modules.type_of(each, part) for name, each in classes.items()}
        told = _told(part.description)
        self._values[part] = {"name": part.name, "told": told, **values, **code}

    def write(self, source: str) -> str:
        """The whole code, made from the file of this name."""
        for workflow in self._namespace.workflows:
            self._add_flow(workflow)
            self._add(_WORKFLOW, workflow)
            for signal in workflow.signals:
                self._add(_SIGNAL, signal)
            for output in workflow.outputs:
                self._add(_OUTPUT, output)
        for activity in self._namespace.activities:
            self._add(_REGISTER_ACTIVITY, activity)
        self._add_start()
        name = self._namespace.name
        signals = any(workflow.signals for workflow in self._namespace.workflows)
        head = _HEAD.format(
            source=source,
            name=name,
            doc=_told(f"The namespace {name}. {self._namespace.description}").lstrip(),
            timedelta="from datetime import timedelta\n" if signals else "",
            imports=self._modules.imports(),
        )
        return "\n".join(map(_wrapped, "\n\n".join([head, *self._blocks]).split("\n")))

    def _add(self, piece: str, part: Part, **values: str) -> None:
        """Add the functions or the class that a part makes."""
        code = piece.format(**self._values[part], **values)
        for name in re.findall(r"^(?:class|def) (\w+)", code, re.MULTILINE):
            _claim(self._scope, name, part)
        self._blocks.append(code)

    def _add_flow(self, workflow: typed.Workflow) -> None:
        """Add the interface of a workflow, and the class that implements it for a run."""
        scope: Scope = dict.fromkeys(("replay", "timedelta", "typed", "typing", *vars(typed.Flow)))
        interface, behind = [], []
        for part, pieces in self._methods(workflow):
            signature, doc, body = (each.format(**self._values[part]) for each in pieces)
            _claim(scope, signature.partition("(")[0], part)
            interface.append(f'    def {signature}:\n        """{doc}"""\n')
            behind.append(f"    def {signature}:\n        {body}\n")
        doc = '    """The methods of the workflow {name}.{told}"""\n\n'
        head = "class {flow}(typed.Flow, typing.Protocol):\n" + doc
        self._add(f"{head}{{methods}}", workflow, methods="\n".join(interface))
        head = "class _{flow}(typed.RunFlow):\n"
        self._add(f"{head}{{methods}}", workflow, methods="\n".join(behind))

    def _methods(self, workflow: typed.Workflow) -> Iterator[tuple[Part, tuple[str, str, str]]]:
        yield workflow, _RESTART
        for activity in self._namespace.activities:
            yield activity, _ACTIVITY
            yield activity, _CALL
        yield from ((signal, _AWAIT) for signal in workflow.signals)
        yield from ((output, _EMIT) for output in workflow.outputs)

    def _add_start(self) -> None:
        """Add the function that registers all.

        It takes one object for all activities or, if their types differ, one for each.
        """
        workflows, activities = self._namespace.workflows, self._namespace.activities
        scope: Scope = dict.fromkeys(("client", "backends", "start"))
        scope |= dict.fromkeys(f"register_{each.name}" for each in (*workflows, *activities))
        kinds = {self._values[each]["backends"] for each in activities} - {"None"}
        shared = [_given(*kinds or ["None"])] if len(kinds) <= 1 else []
        takes, calls = ["client: replay.Client", *shared, "*"], []
        for workflow in workflows:
            name = _claim(scope, workflow.name, workflow)
            takes.append(
                "{name}: Callable[[{flow}, {input}], None]".format(**self._values[workflow])
            )
            calls.append(f"register_{name}(client, {name}, start=start)")
        for activity in activities:
            given, kind = "backends, ", self._values[activity]["backends"]
            if kind == "None":
                given = ""
            elif not shared:
                given = _claim(scope, f"{activity.name}_backends", activity)
                takes.append(f"{given}: {kind}")
                given += ", "
            calls.append(f"register_{activity.name}(client, {given}start=start)")
        self._blocks.append(
            _START.format(takes=",\n    ".join(takes), calls=",\n        ".join(calls))
        )


def _given(kind: str) -> str:
    """The parameter for the backends of this type."""
    return "backends: None = None" if kind == "None" else f"backends: {kind}"


# The command.


def generate(path: Path) -> str:
    """The code for the definition in the file `path`.  Raises `DefinitionError` (T1)."""
    path = path.resolve()
    name, root = _module_of(path)
    with _importing(root, _module_of(path.with_name(f"{GENERATED}.py"))[0]):
        namespace = _definition(path, name)
        check(namespace)
        return _Writer(namespace).write(path.name)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the file, or with ``--check`` say whether it is stale; the exit status."""
    parser = argparse.ArgumentParser(
        "typedreplay", description="Write replay_gen.py beside the definition of a namespace."
    )
    parser.add_argument("file", type=Path, help="the Python file with the definition")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 if replay_gen.py is stale"
    )
    options = parser.parse_args(argv)
    if not options.file.is_file():
        parser.error(f"{options.file}: there is no such file")
    target = options.file.with_name(f"{GENERATED}.py")
    try:
        code = generate(options.file).encode()
    except DefinitionError as error:
        print(error, file=sys.stderr)
        return 1
    if target.is_file() and target.read_bytes() == code:
        print(f"{target} is up to date")
        return 0
    if options.check:
        print(f"{target} is stale: run typedreplay {options.file}", file=sys.stderr)
        return 1
    target.write_bytes(code)
    print(f"{target} is written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
