"""The command `replay lint`: finds what is not deterministic in workflows, by their text (V3).

Role: `Lint` looks at each function that takes a RunContext, and at the functions of the same
package that it calls.  The rules are in `NAMES`, and in the methods `_check_...`.

Invariant: it reads code and never imports it.

The text does not show everything: it misses a call by way of an object or of a variable, and one of
another package.  `replay verify` finds more, after the fact.
"""

from __future__ import annotations

import argparse
import ast
import io
import os
import re
import tokenize
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from .console import BadArgument, Commands, visible

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef

_LARGEST = 1024 * 1024  # bytes of a file
_DEEP = 20  # packages within packages
_ALLOW = re.compile(r"#\s*replay:\s*allow\b[\s:]*(.*)")
_SKIPPED = {"__pycache__", "node_modules", "site-packages"}

#: Names that must not be used, or their beginnings before a dot.  Then why, and what to do instead.
NAMES = """
time.time time.time_ns time.monotonic time.monotonic_ns time.perf_counter time.perf_counter_ns
time.localtime time.gmtime time.ctime time.strftime datetime.datetime.now datetime.datetime.utcnow
datetime.datetime.today datetime.date.today
    reads a clock, which each replay reads at another time: use ctx.now()

time.sleep
    blocks all runs of the workflow: use ctx.sleep()

random secrets os.urandom numpy.random
    gives each replay another number: use ctx.random

uuid.uuid1 uuid.uuid4
    gives each replay another id: use ctx.uuid4()

id hash
    differs between processes: use a field of the value, or hashlib

os.environ os.environb os.getenv os.getpid os.getcwd os.cpu_count sys.argv sys.platform platform
socket.gethostname getpass locale
    differs between processes: pass it in the input, or read it in an activity

open io.open input os.open os.listdir os.scandir os.walk os.stat os.remove os.rename os.replace
os.makedirs os.mkdir os.path.exists os.path.getmtime os.path.getsize shutil tempfile glob
pathlib.Path.cwd pathlib.Path.home
    reads or changes what is outside of the log: do that in an activity

socket ssl requests httpx aiohttp urllib.request urllib3 http.client smtplib ftplib grpc boto3 redis
sqlite3 psycopg psycopg2 pymysql sqlalchemy replay.connect
    talks to another system, again in each replay: do that in an activity

subprocess multiprocessing os.system os.popen os.fork
    starts a process, again in each replay: do that in an activity

threading _thread queue concurrent.futures
    leaves the thread of the run, whose context refuses that: use ctx.gather() or ctx.begin()

asyncio trio anyio
    needs an event loop, and a workflow is a plain function: use ctx.gather() or ctx.begin()
"""
_REASONS = {
    name: reason.strip()
    for names, reason in (each.rsplit("\n", 1) for each in NAMES.strip().split("\n\n"))
    for name in names.split()
}
_BUILTINS = {"open", "input", "id", "hash"}
_FILE_METHODS = {"read_text", "write_text", "read_bytes", "write_bytes"}
_ORDERLESS = {"sorted", "set", "frozenset", "sum", "min", "max", "any", "all", "len"}
_MUTATORS = {"append", "extend", "insert", "add", "update", "setdefault", "pop", "popitem", "clear"}
_MUTATORS |= {"remove", "discard", "appendleft", "popleft", "sort", "reverse"}
_MUTABLE = {"list", "dict", "set", "defaultdict", "Counter", "deque", "OrderedDict", "bytearray"}
_MUTABLE_NODES = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)


def add_parsers(commands: Commands) -> None:
    """Add the command of this module."""
    parser = commands.add_parser(
        "lint",
        help="find what is not deterministic in workflows",
        description="Read Python files, without importing them, and report what makes a replay of a"
        " workflow differ (V3).  It looks at each function that takes a RunContext, and at the"
        " functions of the same package that it calls.  A comment `# replay: allow REASON` on the"
        " line, or on the line above, allows what is found there.  It exits with 1 if it has found"
        " anything.",
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="a file or a folder")
    parser.set_defaults(call=_lint)


def _lint(args: argparse.Namespace) -> int:
    linter = Linter()
    for path in args.paths:
        for file in _files(Path(path)):
            linter.check(file)
    for path, line, text in sorted(linter.findings):
        print(visible(f"{path}:{line}: {text}"))
    count, found = linter.looked_at, len(linter.findings)
    print(f"{count} function{'s' * (count != 1)}: {found or 'no'} mistake{'s' * (found != 1)}")
    return 1 if found else 0


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    elif not path.is_dir():
        raise BadArgument(f"{path} is no file or folder")
    for folder, folders, files in os.walk(path):
        folders[:] = sorted(f for f in folders if f not in _SKIPPED and not f.startswith("."))
        yield from (Path(folder, name) for name in sorted(files) if name.endswith(".py"))


# Modules.


class Module:
    """A file: its functions, what it imports, and what it changes of its own globals."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tree, self.allowed = _read(path)
        self.functions: dict[str, Function] = {}
        self.imports: dict[str, str] = {}  # local name -> full name
        for node in self.tree.body:
            if isinstance(node, Function):
                self.functions[node.name] = node
            elif isinstance(node, ast.ClassDef):
                made = (each for each in node.body if isinstance(each, Function))
                self.functions |= {f"{node.name}.{each.name}": each for each in made}
        for each in ast.walk(self.tree):
            self._import(each)
        self.changed = self._changed()

    def _import(self, node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            for each in node.names:
                name = each.name if each.asname else each.name.partition(".")[0]
                self.imports[each.asname or name] = name
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (f"{node.module}." if node.module else "")
            self.imports |= {each.asname or each.name: module + each.name for each in node.names}

    def _changed(self) -> set[str]:
        """The module's variables that functions change."""
        mutable = {
            target.id
            for node in self.tree.body
            if isinstance(node, ast.Assign | ast.AnnAssign) and _is_mutable(node.value)
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(target, ast.Name)
        }
        found: set[str] = set()
        for function in self.functions.values():
            own = _bound(function)
            for node in ast.walk(function):
                if isinstance(node, ast.Global):
                    found.update(node.names)
                elif (name := _mutated(node)) in mutable and name not in own:
                    found.add(name)
        return found

    def names(self, annotation: ast.AST | None) -> str:
        """The full name of a type; empty if an annotation is more than a name."""
        if isinstance(annotation, ast.Constant):
            annotation = ast.Name(str(annotation.value).rpartition(".")[2], ast.Load())
        first, *rest = (annotation is not None and _dotted(annotation)) or [""]
        return ".".join([self.imports.get(first, first), *rest])


def _read(path: Path) -> tuple[ast.Module, dict[int, str]]:
    """Read a file: its code, and the reasons of the comments that allow something, by line.

    Raises `BadArgument` for one that is no Python, or too much of it.
    """
    try:
        with open(path, "rb") as file:
            raw = file.read(_LARGEST + 1)
    except OSError as error:
        raise BadArgument(f"{path} cannot be read: {error.strerror}") from error
    if len(raw) > _LARGEST:
        raise BadArgument(f"{path} has more than {_LARGEST} bytes: leave it out")
    reasons: dict[int, str] = {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(raw)
        for token in tokenize.tokenize(io.BytesIO(raw).readline) if b"replay:" in raw else ():
            if token.type == tokenize.COMMENT and (match := _ALLOW.match(token.string)):
                alone = token.line.lstrip().startswith("#")  # it is about the line below
                reasons[token.start[0] + alone] = match[1].strip()
    except (SyntaxError, ValueError, tokenize.TokenError) as error:
        raise BadArgument(f"{path} is not Python that can be read: {error}") from error
    except (RecursionError, MemoryError) as error:
        raise BadArgument(f"{path} is nested too deeply to be read") from error
    return tree, reasons


# Names.


def _dotted(node: ast.AST) -> list[str]:
    """The names of ``a.b.c``; none for any other expression."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return [node.id, *reversed(names)] if isinstance(node, ast.Name) else []


def _parameters(function: Function) -> list[ast.arg]:
    arguments = function.args
    some = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return [*some, *(each for each in (arguments.vararg, arguments.kwarg) if each)]


def _bound(function: Function) -> set[str]:
    """The names that are a function's own, or those of a function in it."""
    found, outer = set[str](), set[str]()
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            found.add(node.id)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, Function) and node is not function:
            found.add(node.name)
        elif isinstance(node, ast.Global):
            outer.update(node.names)
    return found - outer


def _is_mutable(node: ast.AST | None) -> bool:
    made = isinstance(node, ast.Call) and (_dotted(node.func) or [""])[-1] in _MUTABLE
    return made or isinstance(node, _MUTABLE_NODES)


def _mutated(node: ast.AST) -> str:
    """The variable whose value a node changes in place; empty if it changes none."""
    changed: ast.AST | None = None
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        changed = node.func.value if node.func.attr in _MUTATORS else None
    elif isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
        changed = node.value
    elif isinstance(node, ast.AugAssign):
        changed = node.target
    while isinstance(changed, ast.Subscript):
        changed = changed.value
    return changed.id if isinstance(changed, ast.Name) else ""


# Workflows.


class Scope:
    """A function that is looked at: a workflow, or one that it calls."""

    def __init__(self, module: Module, function: Function, workflow: str) -> None:
        self.module, self.function, self.workflow = module, function, workflow
        self.bound = _bound(function)
        self.contexts = _contexts(module, function)
        self.sets = self._sets()

    def _sets(self) -> set[str]:
        """The variables that hold a set, whenever they are assigned or annotated."""
        found: dict[str, bool] = {
            each.arg: _is_set_type(each.annotation) for each in _parameters(self.function)
        }
        for node in ast.walk(self.function):
            for target in getattr(node, "targets", [getattr(node, "target", None)]):
                if isinstance(target, ast.Name) and not isinstance(node, ast.AugAssign):
                    typed = _is_set_type(getattr(node, "annotation", None))
                    value = getattr(node, "value", None)
                    is_set = typed or (value is not None and self.is_set(value, set()))
                    found[target.id] = found.get(target.id, True) and is_set
        return {name for name, is_set in found.items() if is_set}

    def is_set(self, node: ast.AST, known: set[str] | None = None) -> bool:
        """Whether an expression makes a set, as far as its text shows."""
        while isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr | ast.BitAnd | ast.Sub):
            node = node.left
        if isinstance(node, ast.Name):
            return node.id in (self.sets if known is None else known)
        made = isinstance(node, ast.Call) and _dotted(node.func) in (["set"], ["frozenset"])
        return made or isinstance(node, ast.Set | ast.SetComp)

    def full_name(self, node: ast.AST) -> str:
        """The full name of what ``a.b.c`` means; empty if that is a local variable, say."""
        names = _dotted(node)
        if not names or names[0] in self.bound:
            return ""
        if names[0] in self.module.imports:
            return ".".join([self.module.imports[names[0]], *names[1:]])
        own = names[0] in self.module.functions
        return names[0] if len(names) == 1 and names[0] in _BUILTINS and not own else ""


def _contexts(module: Module, function: Function) -> set[str]:
    """The parameters that are a run's context, or a generated flow."""
    found = set()
    for each in _parameters(function):
        source, _, name = module.names(each.annotation).rpartition(".")
        if name == "RunContext" or (name.endswith("Flow") and source.endswith("replay_gen")):
            found.add(each.arg)
    return found


def _is_set_type(annotation: ast.AST | None) -> bool:
    if isinstance(annotation, ast.Subscript):
        annotation = annotation.value
    return (_dotted(annotation) if annotation else [""])[-1:] in (["set"], ["frozenset"], ["Set"])


class Linter:
    """Looks at files, and collects findings: the file, its line, why, and what to do instead."""

    def __init__(self) -> None:
        self.findings: set[tuple[str, int, str]] = set()
        self.looked_at = 0  # functions
        self._modules: dict[Path, Module] = {}
        self._seen: set[Function] = set()
        self._todo: list[Scope] = []

    def check(self, path: Path) -> None:
        """Look at the workflows of a file, and at what they call.  Raises `BadArgument`."""
        module = self._module(path)
        for line, reason in module.allowed.items():
            if not reason:
                text = "`# replay: allow` gives no reason: say why each replay does the same"
                self.findings.add((str(module.path), line, text))
        for node in ast.walk(module.tree):
            if isinstance(node, Function) and _contexts(module, node):
                self._add(module, node, node.name)
        while self._todo:
            self._look(self._todo.pop())

    def _module(self, path: Path) -> Module:
        path = Path(os.path.normpath(path.absolute()))
        if path.is_relative_to(Path.cwd()):
            path = path.relative_to(Path.cwd())
        if path not in self._modules:
            self._modules[path] = Module(path)
        return self._modules[path]

    def _add(self, module: Module, function: Function, workflow: str) -> None:
        if function not in self._seen:
            self._seen.add(function)
            self._todo.append(Scope(module, function, workflow))

    def _report(self, scope: Scope, node: ast.AST, text: str) -> None:
        first = getattr(node, "lineno", 0)
        last = getattr(node, "end_lineno", first) if isinstance(node, ast.expr) else first
        if not any(scope.module.allowed.get(line) for line in range(first, last + 1)):
            if scope.workflow != scope.function.name:
                text += f" ({scope.workflow} calls this)"
            self.findings.add((str(scope.module.path), first, text))

    def _look(self, scope: Scope) -> None:
        self.looked_at += 1
        if isinstance(scope.function, ast.AsyncFunctionDef):
            text = "is async, and a run has no event loop: write a plain function"
            self._report(scope, scope.function, f"{scope.function.name}() {text}")
        waiting: deque[ast.AST] = deque(scope.function.body)
        ordered: set[ast.AST] = set()  # what may iterate over a set
        while waiting:
            node = waiting.popleft()
            if isinstance(node, Function) and _is_activity(scope.module, node):
                continue
            if isinstance(node, ast.Attribute | ast.Name):
                waiting.extend(self._check_name(scope, node))
                continue
            if isinstance(node, ast.Call):
                self._check_call(scope, node, ordered)
            elif isinstance(node, ast.Try):
                self._check_try(scope, node)
            elif isinstance(node, ast.Global):
                text = "global lets a run change what others see: use the function's own variables"
                self._report(scope, node, text)
            self._check_sets(scope, node, ordered)
            waiting.extend(_children(node))

    # The rules.

    def _check_name(self, scope: Scope, node: ast.expr) -> list[ast.expr]:
        """Report ``a.b.c`` if it must not be used.  Returns what else is to be looked at."""
        if not (names := _dotted(node)):
            while isinstance(node, ast.Attribute):
                node = node.value
            return [node]
        if (found := self._meaning(scope, names)) is not None:
            module, name = found
            if name.partition(".")[0] in module.changed:
                shown = ".".join(names[: len(names) - name.count(".")])
                text = "is a global variable that functions change, so replays see other values"
                self._report(scope, node, f"{shown} {text}: pass it in the input")
        parts = full = scope.full_name(node)
        while parts and parts not in _REASONS:
            parts = parts.rpartition(".")[0]
        if parts and full != "random.Random":  # with a seed it is the same in each replay
            self._report(scope, node, f"{full} {_REASONS[parts]}")
        return []

    def _check_call(self, scope: Scope, node: ast.Call, ordered: set[ast.AST]) -> None:
        names, full = _dotted(node.func), scope.full_name(node.func)
        if full == "random.Random" and not (node.args or node.keywords):
            self._report(scope, node, "random.Random() draws its seed: use ctx.random")
        if isinstance(node.func, ast.Attribute) and node.func.attr in _FILE_METHODS:
            text = f"{node.func.attr}() reads or changes a file: do that in an activity"
            self._report(scope, node, text)
        if full == "contextlib.suppress" and any(map(_catches_all, node.args)):
            self._report(scope, node, f"suppress(BaseException) {_SWALLOWS}")
        if names and names[-1] in _ORDERLESS:
            ordered.update(node.args)
        if (found := self._callee(scope, names)) is not None:
            module, function = found
            if _is_activity(module, function):
                text = f"{names[-1]}() is an activity, which a direct call executes in each replay"
                self._report(scope, node, f"{text}: call it by ctx.exec_activity()")
            else:
                self._add(module, function, scope.workflow)

    def _check_try(self, scope: Scope, node: ast.Try) -> None:
        """Report what swallows the exceptions by which the library ends a run (P18)."""
        inside = [each for statement in node.body for each in ast.walk(statement)]
        if not any(isinstance(each, ast.Name) and each.id in scope.contexts for each in inside):
            return
        for handler in node.handlers:
            raises = any(isinstance(each, ast.Raise) for each in ast.walk(handler))
            if not raises and (handler.type is None or _catches_all(handler.type)):
                caught = "except" if handler.type is None else "except BaseException"
                self._report(scope, handler, f"{caught} {_SWALLOWS}")
        for statement in node.finalbody:
            for each in ast.walk(statement):
                if isinstance(each, ast.Return):
                    self._report(scope, each, f"return in finally {_SWALLOWS}")

    def _check_sets(self, scope: Scope, node: ast.AST, ordered: set[ast.AST]) -> None:
        """Report what depends on the order of a set."""
        some: list[ast.AST] = []
        if isinstance(node, ast.For):
            some = [node.iter]
        elif isinstance(node, ast.ListComp | ast.GeneratorExp | ast.DictComp):
            some = [each.iter for each in node.generators] if node not in ordered else []
        elif isinstance(node, ast.Starred):
            some = [node.value]
        elif isinstance(node, ast.Call):
            name = (_dotted(node.func) or [getattr(node.func, "attr", "")])[-1]
            if name in ("list", "tuple", "enumerate", "iter", "zip", "map", "filter", "join"):
                some = [*node.args]
            elif name == "pop" and isinstance(node.func, ast.Attribute) and not node.args:
                some = [node.func.value]
        for each in some:
            if scope.is_set(each):
                text = "the order of a set differs between processes: use sorted(), or a list"
                self._report(scope, each, text)

    # Names in other modules of the package.

    def _meaning(self, scope: Scope, names: Sequence[str]) -> tuple[Module, str] | None:
        """The module of this package where a name is defined, and its name there."""
        if not names or (names[0] in scope.bound and names[0] not in ("self", "cls")):
            return None
        module, name = scope.module, ".".join(names)
        if names[0] in ("self", "cls"):
            owner = next((k for k, f in module.functions.items() if f is scope.function), "")
            return module, ".".join([owner.rpartition(".")[0], *names[1:]])
        for _ in range(5):  # modules that pass it on
            first, dot, rest = name.partition(".")
            if first not in module.imports:
                return module, name
            found = self._imported(module, f"{module.imports[first]}{dot}{rest}")
            if found is None:
                return None
            module, name = found
        return None

    def _callee(self, scope: Scope, names: Sequence[str]) -> tuple[Module, Function] | None:
        """The function of this package that a call means."""
        if (found := self._meaning(scope, names)) is None:
            return None
        module, name = found
        function = module.functions.get(name) or module.functions.get(f"{name}.__init__")
        return None if function is None else (module, function)

    def _imported(self, module: Module, full: str) -> tuple[Module, str] | None:
        """The module of a full name, if it is in the same package, and the name in it."""
        dots = len(full) - len(full.lstrip("."))
        parts = full[dots:].split(".")
        if full.partition(".")[0] == "replay":
            return None
        for base in _bases(module.path, dots, parts[0]):
            for n in range(min(len(parts) - 1, _DEEP), -1, -1):
                path = base.joinpath(*parts[:n])
                for file in (path.with_name(f"{path.name}.py"), path / "__init__.py"):
                    if n + dots and file.is_file():
                        return self._module(file), ".".join(parts[n:])
        return None


_SWALLOWS = (
    "swallows the exceptions by which the library ends a run: catch Exception, or raise them again"
)


def _bases(path: Path, dots: int, first: str) -> list[Path]:
    """The folders in which an import of a file may begin, within its package."""
    folder = path.absolute().parent
    if dots:
        return [folder.joinpath(*[".."] * (dots - 1))]
    top = folder
    while (top / "__init__.py").is_file():
        top = top.parent
    if top == folder:  # no package: the files beside it
        return [folder.parent] if first == folder.name else [folder]
    package = folder.relative_to(top).parts[0]
    return [top] if first == package else []


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """The parts of a node that are executed: not annotations, nor names of caught exceptions."""
    for name, value in ast.iter_fields(node):
        unused = isinstance(node, ast.ExceptHandler) and name == "type"
        if name not in ("annotation", "returns", "decorator_list") and not unused:
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, ast.AST):
                    yield each


def _is_activity(module: Module, function: Function) -> bool:
    names = (module.names(each.annotation) for each in _parameters(function)[:1])
    return any(name.rpartition(".")[2] == "ActivityContext" for name in names)


def _catches_all(node: ast.AST) -> bool:
    some = node.elts if isinstance(node, ast.Tuple) else [node]
    return any(_dotted(each)[-1:] == ["BaseException"] for each in some)
