"""The command ``typedreplay``: writes ``replay_gen.py`` from the definition of a namespace.

Role: `load` imports the file that holds the definition, `generate` makes the code, `main` writes it
or compares it with what is there.

Invariants:

- The file to write is never read for what it says.  While the definition is loaded, whoever imports
  it gets a stand-in: so a missing, stale or broken one is no obstacle.
- The code depends on nothing but the definition, and is laid out as ``ruff format`` would.
- A name is made once in each scope, or the definition is refused: so nothing hides anything.

Left to `typed`: what a definition is, and what the generated code builds upon.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import re
import sys
import textwrap
import traceback
import types
import typing
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from google.protobuf.message import Message

from ..consumer import FAILURES
from ..typed import (
    Activity,
    DefinitionError,
    Flow,
    Namespace,
    Output,
    Part,
    Place,
    Signal,
    Workflow,
    check,
    types_of,
)

GENERATED = "replay_gen"
WIDTH = 100


# Loading a definition.


class _Anything:
    """Whatever is asked of a module that is about to be written."""

    def __getattr__(self, name: str) -> _Anything:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *_: object, **__: object) -> _Anything:
        return self

    def __getitem__(self, _: object) -> _Anything:
        return self

    def __or__(self, _: object) -> _Anything:
        return self

    __ror__ = __or__

    def __mro_entries__(self, _: object) -> tuple[type, ...]:
        return ()


class _StandIn(MetaPathFinder, Loader):
    """Finds a module that has anything in place of the generated one of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.found: set[str] = set()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """As in `MetaPathFinder`; `path` is where the package of the module is, None for none."""
        beside = path is None or any(Path(each).resolve() == self._folder for each in path)
        if fullname.rpartition(".")[2] != GENERATED or not beside:
            return None
        self.found.add(fullname)
        return importlib.util.spec_from_loader(fullname, self)

    def exec_module(self, module: ModuleType) -> None:
        """As in `Loader`."""
        anything = _Anything()
        module.__dict__["__getattr__"] = anything.__getattr__


def _module_of(path: Path) -> tuple[str, Path]:
    """The name under which a file is imported, and the folder to import it from."""
    folder, parts = path.parent, [path.stem] if path.stem != "__init__" else []
    while (folder / "__init__.py").exists():
        parts.insert(0, folder.name)
        folder = folder.parent
    return ".".join(parts), folder


@contextmanager
def _importing(folder: Path, root: Path, top: Path) -> Iterator[None]:
    """Import from `root`, or else from `folder`, which gets the stand-in.

    What was imported from below `top` is forgotten at the end: it may hold on to the stand-in.
    """
    finder, path, before = _StandIn(folder), sys.path[:], set(sys.modules)
    sys.meta_path.insert(0, finder)
    sys.path[:] = [str(root), *path, str(folder), str(Path.cwd())]
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        sys.path[:] = path
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None)
            if name in finder.found or (file and Path(file).resolve().is_relative_to(top)):
                del sys.modules[name]
                package, _, attribute = name.rpartition(".")
                if package in sys.modules:
                    vars(sys.modules[package]).pop(attribute, None)


def _definition(path: Path, name: str) -> Namespace:
    """The definition in a file that is imported under this name."""
    try:
        module = importlib.import_module(name)
    except FAILURES as error:
        reason = f"{type(error).__name__} when it was imported: {error}"
        raise DefinitionError(_place_of(error, path), reason) from error
    if Path(module.__file__ or "").resolve() != path:
        reason = f"{name} is the name of {module.__file__} too: rename this file"
        raise DefinitionError(Place(str(path), 1), reason)
    values = {id(each): each for each in vars(module).values() if isinstance(each, Namespace)}
    found = [each for each in values.values() if Path(each.place.file).resolve() == path]
    if len(found) != 1:
        place = found[1].place if found else Place(str(path), 1)
        reason = f"expected one typed.Namespace in the module, found {len(found)}"
        raise DefinitionError(place, reason)
    return found[0]


def _place_of(error: BaseException, path: Path) -> Place:
    """The innermost place beside the definition that an error of its import came from."""
    if isinstance(error, SyntaxError) and error.filename:
        return Place(error.filename, error.lineno or 1)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if Path(frame.filename).is_relative_to(path.parent):
            return Place(frame.filename, frame.lineno or 1)
    return Place(str(path), 1)


# Names of the generated code.

#: What the code imports, and how parameters are named: no module is called so.
_FIXED = (
    *("Any", "Callable", "Iterator", "NoReturn", "Protocol", "TYPE_CHECKING", "annotations"),
    *("replay", "timedelta", "typed"),
    *("after", "backends", "client", "ctx", "event", "external_id", "fn", "from_head", "function"),
    *("lag", "message", "result", "run", "self", "start", "timeout", "to_head", "workflow"),
    *("await_timeout", "max_cached", "metrics", "shard", "workers"),
)


class _Names:
    """The names of one scope."""

    def __init__(self, *taken: str) -> None:
        self.made: dict[str, Part | None] = dict.fromkeys(taken)

    def claim(self, name: str, part: Part) -> str:
        """`name`, which `part` makes.  Raises `DefinitionError` if something else has made it."""
        if name in self.made:
            other = self.made[name]
            owner = f"{other} ({other.place}) makes already" if other else "is taken already"
            raise DefinitionError(
                part.place, f"{part} would make the name {name}, which {owner}: rename it"
            )
        self.made[name] = part
        return name


class _Modules:
    """The user's modules that the code imports, and how it calls what is in them."""

    def __init__(self, names: _Names) -> None:
        self._names = names
        self.aliases: dict[str, str] = {}
        self.needed: set[str] = set()  # when it runs; the others only for checking types

    def name_of(self, found: type, part: Part) -> str:
        """A class, as the code calls it."""
        module = _module_with(found, found.__qualname__, part)
        if module == "builtins":
            return found.__qualname__
        if issubclass(found, Message):
            self.needed.add(module)
        if module not in self.aliases:
            self.aliases[module] = self._names.claim(self._free(module), part)
        return f"{self.aliases[module]}.{found.__qualname__}"

    def _free(self, module: str) -> str:
        whole = module.replace(".", "_")
        wanted = (module.rpartition(".")[2], whole)
        return next((each for each in wanted if each not in self._names.made), f"{whole}_module")

    def type_of(self, annotation: Any, part: Part) -> str:
        """A type, as the code writes it."""
        if annotation is types.NoneType:
            return "None"
        if annotation is Any:
            return "Any"
        origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
        if origin in (typing.Union, types.UnionType):
            return " | ".join(self.type_of(each, part) for each in arguments)
        if isinstance(origin, type):
            inner = ", ".join(self.type_of(each, part) for each in arguments)
            return f"{self.name_of(origin, part)}[{inner}]"
        if isinstance(annotation, type):
            return self.name_of(annotation, part)
        raise DefinitionError(
            part.place, f"{part}: {annotation!r:.100} cannot be written: name a class instead"
        )

    def imports(self, needed: bool) -> list[str]:
        """The statements that import what is needed, or else the others."""
        return [
            _import(module, self.aliases[module])
            for module in sorted(self.aliases)
            if (module in self.needed) is needed
        ]


def _import(module: str, alias: str) -> str:
    package, _, name = module.rpartition(".")
    start = f"from {package} import {name}" if package else f"import {name}"
    return start if alias == name else f"{start} as {alias}"


def _module_with(found: Any, qualname: str, part: Part) -> str:
    """The module from which a class or function is imported.

    What protoc has made has the module's name that protoc was told, which need not be that under
    which it was imported.
    """
    home = str(found.__module__)
    modules = [
        name
        for name, module in sorted(sys.modules.items(), key=lambda each: (each[0] != home, each[0]))
        if name.rpartition(".")[2] == home.rpartition(".")[2] and _get(module, qualname) is found
    ]
    if not modules or not all(each.isidentifier() for each in modules[0].split(".")):
        raise DefinitionError(
            part.place,
            f"{part}: {home}.{qualname} cannot be imported: define it at the top of a module",
        )
    return modules[0]


def _get(module: ModuleType, qualname: str) -> object:
    found: object = module
    for name in qualname.split("."):
        found = getattr(found, "__dict__", {}).get(name)
    return found


# Layout, as by ruff format.


def _laid_out(code: str) -> str:
    """Code that has each statement in one line, in lines of at most `WIDTH` where that can be."""
    lines: list[str] = []
    for line in code.strip("\n").split("\n"):
        lines += _wrapped(line) if line.lstrip().startswith('"""') else _split(line)
    return "\n".join(lines)


def _wrapped(docstring: str) -> list[str]:
    """The lines of a docstring that is written in one."""
    if len(docstring) <= WIDTH:
        return [docstring]
    words = docstring.strip().removesuffix('"""').rstrip()
    pad = " " * docstring.index('"')
    width = WIDTH - len(pad) - 3
    lines = textwrap.wrap(words, width, break_long_words=False, break_on_hyphens=False)
    return [pad + line for line in (*lines, '"""')] if len(lines) > 1 else [docstring]


def _split(line: str) -> list[str]:
    """A line as it is, or split in its first brackets: what they hold in one line, or in many."""
    opening = re.search(r"[(\[]", line[:-1])
    if len(line) <= WIDTH or opening is None:
        return [line]
    pad = " " * (len(line) - len(line.lstrip()))
    items, rest = _items(line[opening.end() :])
    inner = [f"{pad}    {', '.join(items)}"]
    if len(inner[0]) > WIDTH:
        inner = [part for item in items for part in _split(f"{pad}    {item},")]
    return [line[: opening.end()], *inner, pad + rest]


def _items(code: str) -> tuple[list[str], str]:
    """What stands between commas up to a closing bracket, and the rest from that on."""
    items, depth, begin = list[str](), 0, 0
    for position, character in enumerate(code):
        if depth == 0 and character in ",)]":
            items.append(code[begin:position].strip())
            begin = position + 1
            if character != ",":
                return items, code[position:]
        depth += (character in "([") - (character in ")]")
    raise AssertionError(f"no closing bracket in {code}")


def _doc(text: str) -> str:
    """A text as a docstring of one line."""
    words = " ".join(text.split()).replace("\\", "\\\\").replace('"""', r"\"\"\"")
    before, after = " " * words.startswith('"'), " " * words.endswith('"')
    return f'"""{before}{words}{after}"""'


def _quoted(text: str) -> str:
    """A string literal, in the quotes that need fewer escapes."""
    body = repr('"' + text)[2:-1].replace("\\'", "'")
    quote = "'" if text.count('"') > text.count("'") else '"'
    return quote + body.replace(quote, "\\" + quote) + quote


# Writing.  In these pieces of code each statement has one line.

_HEAD = """
# Made by "typedreplay {source}" from that file: change it, not this one.
# isort: skip_file
{doc}

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import {typing}

import replay
from replay import typed

{imports}

_NAMESPACE = {namespace}
"""

# Of each method: the signature, the docstring (for the interface), the body (for what is behind).

_RESTART = """
    def restart(self, message: {input}) -> NoReturn:
        {doc}
        self._ctx.restart(message)
"""

_ACTIVITY = """
    def {name}(self, message: {takes}) -> {returns}:
        {doc}
        result: {returns} = self._ctx.exec_activity("{name}", message)
        return result
"""

_ACTIVITY_WITHOUT_ANSWER = """
    def {name}(self, message: {takes}) -> None:
        {doc}
        self._ctx.exec_activity("{name}", message)
"""

_CALL = """
    def call_{name}(self, message: {takes}) -> typed.Call[{returns}]:
        {doc}
        return typed.Call("{name}", message)
"""

_AWAIT = """
    def await_{name}(self, timeout: timedelta) -> {message} | None:
        {doc}
        return self._await({enum}, {message}, timeout)
"""

_EMIT = """
    def emit_{name}(self, message: {message}) -> None:
        {doc}
        self._ctx.emit_output("{name}", message)
"""

_RUN = """
def run_{name}(client: replay.Client, run: str, message: {input}) -> bool:
    {doc}
    return client.run_workflow(_NAMESPACE, "{name}", run, message)
"""

_SIGNAL = """
def signal_{workflow}_{name}(
    client: replay.Client,
    run: str,
    message: {message},
    external_id: str,
) -> bool:
    {doc}
    return client.signal_run(_NAMESPACE, "{workflow}", run, {enum}, message, external_id)
"""

_STREAM = """
def stream_{name}(
    client: replay.Client,
    run: str = "",
    *,
    after: int = 0,
    from_head: bool = False,
    to_head: bool = False,
    lag: timedelta = timedelta(0),
) -> Iterator[replay.Event]:
    {doc}
    return client.stream(
        _NAMESPACE,
        "{name}",
        run,
        after=after,
        from_head=from_head,
        to_head=to_head,
        lag=lag,
    )
"""

_HANDLE_RUN = """
def handle_{name}_run(event: replay.Event, fn: Callable[[str, {input}], object]) -> None:
    {doc}
    typed.handle(event, replay.EventType.RUN_CREATED, (_NAMESPACE, "{name}"), "", fn)
"""

_HANDLE_OUTPUT = """
def handle_{name}(event: replay.Event, fn: Callable[[str, {message}], object]) -> None:
    {doc}
    typed.handle(event, replay.EventType.RUN_OUTPUT, (_NAMESPACE, "{workflow}"), "{name}", fn)
"""

_REGISTER_WORKFLOW = """
def register_{name}(
    client: replay.Client,
    fn: Callable[[{flow}, {input}], None],
    *,
    shard: replay.Shard | None = None,
    await_timeout: timedelta = timedelta(hours=1),
    max_cached: int = 10_000,
    metrics: typed.Metrics | None = None,
    start: bool = True,
) -> replay.Consumer:
    {doc}
    typed.check_workflow(fn, "{name}", {input})

    def workflow(ctx: replay.RunContext, message: {input}) -> None:
        fn(_{flow}(ctx), message)

    return replay.register_workflow(
        client,
        _NAMESPACE,
        workflow,
        name="{name}",
        shard=shard,
        await_timeout=await_timeout,
        max_cached=max_cached,
        metrics=metrics,
        start=start,
    )
"""

_REGISTER_ACTIVITY = """
def register_{name}(
    client: replay.Client,
    {backends},
    *,
    shard: replay.Shard | None = None,
    workers: int = 1,
    metrics: typed.Metrics | None = None,
    start: bool = True,
) -> replay.Consumer:
    {doc}
    # Imported when it is called, since that module may import this one.
    from {module} import {function} as function

    return replay.register_activity(
        client,
        _NAMESPACE,
        function,
        backends,
        name="{name}",
        shard=shard,
        workers=workers,
        metrics=metrics,
        start=start,
    )
"""

_START = """
def start_replay_loops({takes}, start: bool = True) -> list[replay.Consumer]:
    {doc}
    return [
        {calls},
    ]
"""


class _Writer:
    """Makes the code of one namespace."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._names = _Names(*_FIXED)
        self._modules = _Modules(self._names)
        self._blocks: list[str] = []
        # All modules first: a method must not have the name of one.
        self._messages: dict[Part, str] = {}
        for workflow in namespace.workflows:
            self._messages[workflow] = self._modules.name_of(workflow.input, workflow)
            parts: list[Signal | Output] = [*workflow.signals, *workflow.outputs]
            for part in parts:
                self._messages[part] = self._modules.name_of(part.message, part)
        self._types = {each: self._written(each) for each in namespace.activities}

    def _written(self, activity: Activity) -> dict[str, str]:
        """The types of an activity, by what they are put in for."""
        types = types_of(activity)
        return {
            "backends": self._modules.type_of(types.backends, activity),
            "takes": self._modules.type_of(types.takes, activity),
            "returns": self._modules.type_of(types.returns, activity),
        }

    def write(self, source: str) -> str:
        """The whole file, made from the file of this name."""
        for workflow in self._namespace.workflows:
            self._flow(workflow)
            self._functions(workflow)
        for activity in self._namespace.activities:
            self._register(activity)
        self._start()
        return "\n\n\n".join([self._head(source), *self._blocks]) + "\n"

    def _head(self, source: str) -> str:
        written = " ".join(each["backends"] for each in self._types.values())
        imports = self._modules.imports(needed=True)
        typing = ["NoReturn", "Protocol"]
        if re.search(r"(?<!\.)\bAny\b", written):
            typing.insert(0, "Any")
        if checking := self._modules.imports(needed=False):
            typing.insert(0, "TYPE_CHECKING")
            imports += ["", "if TYPE_CHECKING:", *(f"    {each}" for each in checking)]
        told = self._namespace.description or f"The namespace {self._namespace.name}."
        return _HEAD.strip("\n").format(
            source=source,
            doc=_laid_out(_doc(told)),
            typing=", ".join(typing),
            imports="\n".join(imports),
            namespace=_quoted(self._namespace.name),
        )

    def _add(self, piece: str, part: Part, doc: str, **values: object) -> None:
        """Add a function for a part of the definition."""
        code = piece.format(name=part.name, doc=_doc(doc), **values)
        for name in re.findall(r"^(?:class|def) (\w+)", code, re.MULTILINE):
            self._names.claim(name, part)
        self._blocks.append(_laid_out(code))

    def _flow(self, workflow: Workflow) -> None:
        """Add the interface of a workflow, and what is behind it."""
        names = _Names("replay", "timedelta", "typed", "NoReturn", "restart", *vars(Flow))
        names.made |= dict.fromkeys(self._modules.aliases.values())
        flow = _flow_name(workflow)
        told = workflow.description or f"What the workflow {workflow.name} may do."
        interface = f"class {flow}(typed.Flow, Protocol):\n    {_doc(told)}\n"
        behind = f"class _{flow}(typed.RunFlow):\n"
        for part, method in self._methods(workflow):
            signature, doc, *body = method.strip("\n").split("\n")
            if part is not workflow:
                names.claim(signature.split()[1].partition("(")[0], part)
            interface += "\n".join(["", signature, doc, "        ...", ""])
            behind += "\n".join([signature, *body, "", ""])
        for code in (interface, behind):
            self._names.claim(code.split()[1].partition("(")[0], workflow)
            self._blocks.append(_laid_out(code))

    def _methods(self, workflow: Workflow) -> Iterator[tuple[Part, str]]:
        doc = "End this iteration and begin the next with `message`, in one transaction."
        yield workflow, _RESTART.format(doc=_doc(doc), input=self._messages[workflow])
        for activity, written in self._types.items():
            name = activity.name
            told = activity.description or f"Have the activity {name} executed; its answer."
            piece = _ACTIVITY_WITHOUT_ANSWER if written["returns"] == "None" else _ACTIVITY
            yield activity, piece.format(name=name, doc=_doc(told), **written)
            told = f"A call of {name} for `gather`: nothing is asked for yet."
            yield activity, _CALL.format(name=name, doc=_doc(told), **written)
        for each in workflow.signals:
            told = f"The next signal {each.name}; None if none comes within `timeout`."
            values = {"message": self._messages[each], "enum": int(each.enum)}
            doc = _doc(f"{told} {each.description}")
            yield each, _AWAIT.format(name=each.name, doc=doc, **values)
        for output in workflow.outputs:
            doc = _doc(output.description or f"Add the output {output.name}.")
            yield output, _EMIT.format(name=output.name, doc=doc, message=self._messages[output])

    def _functions(self, workflow: Workflow) -> None:
        """Add the functions that start, signal, read and register a workflow."""
        name = workflow.name
        values = {"input": self._messages[workflow], "flow": _flow_name(workflow)}
        told = f"Start a run of {name}; False if its id is used already."
        self._add(_RUN, workflow, f"{told} {workflow.description}", **values)
        for each in workflow.signals:
            told = (
                f"Send {each.name} to a run of {name}; False if that `external_id` has been sent."
            )
            values |= {"message": self._messages[each], "enum": str(int(each.enum))}
            self._add(_SIGNAL, each, f"{told} {each.description}", workflow=name, **values)
        told = f"The events of {name}, or of one run, as `replay.Client.stream` gives them."
        self._add(_STREAM, workflow, told, **values)
        told = f"Call `fn` with run and input if the event begins an iteration of {name}."
        self._add(_HANDLE_RUN, workflow, told, **values)
        for output in workflow.outputs:
            told = f"Call `fn` with run and message if the event is {output.name}."
            values["message"] = self._messages[output]
            told += f" {output.description}"
            self._add(_HANDLE_OUTPUT, output, told, workflow=name, **values)
        told = f"Run {name} by this function; the rest is as in `replay.register_workflow`."
        self._add(_REGISTER_WORKFLOW, workflow, told, **values)

    def _register(self, activity: Activity) -> None:
        """Add the function that registers an activity."""
        function = str(getattr(activity.function, "__name__", activity.function))
        module = _module_with(activity.function, function, activity)
        self._add(
            _REGISTER_ACTIVITY,
            activity,
            f"Execute {activity.name} when asked; the rest is as in `replay.register_activity`.",
            module=module,
            function=function,
            backends=_backends(self._types[activity]["backends"]),
        )

    def _start(self) -> None:
        """Add the function that registers all.

        It takes one object for all activities, or, where their types differ, one for each.
        """
        parts: list[Workflow | Activity] = [*self._namespace.workflows, *self._namespace.activities]
        names = _Names("client", "backends", "start", *(f"register_{each.name}" for each in parts))
        kinds = {each["backends"] for each in self._types.values()} - {"None"}
        shared = _backends(kinds.pop() if kinds else "None") if len(kinds) <= 1 else ""
        takes = ["client: replay.Client", *([shared] if shared else []), "*"]
        calls = []
        for part in parts:
            given = ""
            if isinstance(part, Workflow):
                given = names.claim(part.name, part)
                function = f"Callable[[{_flow_name(part)}, {self._messages[part]}], None]"
                takes.append(f"{given}: {function}")
            elif (kind := self._types[part]["backends"]) != "None":
                given = "backends" if shared else names.claim(f"{part.name}_backends", part)
                takes += [] if shared else [f"{given}: {kind}"]
            calls.append(f"register_{part.name}(client, {given}{', ' * bool(given)}start=start)")
        doc = "Register all workflows and activities, each under its name in the definition."
        self._blocks.append(
            _laid_out(
                _START.format(
                    doc=_doc(doc), takes=", ".join(takes), calls=",\n        ".join(calls)
                )
            )
        )


def _flow_name(workflow: Workflow) -> str:
    return "".join(part[:1].upper() + part[1:] for part in workflow.name.split("_")) + "Flow"


def _backends(annotation: str) -> str:
    return "backends: None = None" if annotation == "None" else f"backends: {annotation}"


# The command.


def generate(path: Path) -> str:
    """The code for the definition in the file `path`.  Raises `DefinitionError`."""
    path = path.resolve()
    name, root = _module_of(path)
    top = path.parent if path.parent == root else root / name.partition(".")[0]
    with _importing(path.parent, root, top):
        namespace = _definition(path, name)
        check(namespace)
        return _Writer(namespace).write(path.name)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the file, or with ``--check`` say whether it is stale; the exit status."""
    parser = argparse.ArgumentParser("typedreplay", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("file", type=Path, help="the Python file that holds the definition")
    parser.add_argument("--check", action="store_true", help="exit with 1 if the file is stale")
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
