"""Whether the texts name only what exists: ``python -m tests.names [FILE...]``.

Texts go stale in their names first.  So each name of a kind that can be looked up is looked up:
commands of ``./dev`` and of the package, their options, modules and what they define, files, links,
ids of promises, extras.  A name counts where it stands in code: between backticks, in a block of
shell commands, in an indented command.  The exit code is 1 if anything is missing.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from functools import cache
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote

from google.protobuf import descriptor_pool

import replay
from tests import ledger

ROOT = Path(__file__).resolve().parent.parent
#: What the texts name of others, and so cannot be looked up here.
OF_OTHERS = {
    "--grpc_python_out",  # protoc
    "reflexpb.proto",  # the system that the library follows, see docs/porting.md
}
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
#: Folders of programs: an option may be in any module of the program's.
OURS = {"replay", "tests", "demo", "tutorial", "bench"}
MODULES = {
    path.stem: ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in sorted((ROOT / "replay").rglob("[!_]*.py"))
}
_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_COMMAND = re.compile(
    r"^(?: {4,}|\$ )((?:\w+=\S+ +)*(?:\./dev|\.venv/|\.ci/|python|replay) ?.*)$", re.M
)
_FILE = re.compile(r"[\w.*/-]*\w\.(?:py|md|proto|toml|ya?ml|svg|txt|csv|patch)")
_DOTTED = re.compile(r"[A-Za-z]\w*(?:\.[A-Za-z_]\w*)+(?![\w/])")
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def texts() -> list[Path]:
    """What people read."""
    return [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
        *sorted((ROOT / "docs").rglob("*.md")),
        *sorted((ROOT / "tutorial").rglob("README.md")),
    ]


def code(text: str) -> Iterator[tuple[int, str]]:
    """Each piece of code, and where it begins; of blocks only the commands."""
    for block in _FENCE.finditer(text):
        if block[1] == "sh":
            for line in re.finditer(r"^ *(.+)$", block[2], re.MULTILINE):
                yield block.start(2) + line.start(), line[1]
    prose = _FENCE.sub(lambda block: re.sub(r"[^\n]", " ", block[0]), text)
    for pattern in (_SPAN, _COMMAND):
        for found in pattern.finditer(prose):
            yield found.start(1), " ".join(found[1].split())


# Commands and their options.


@cache
def commands() -> dict[str, str]:
    """The commands of ./dev, and what the script does for each."""
    script = (ROOT / "dev").read_text()
    bodies = dict(re.findall(r"^(\w+)\(\) \{\n(.*?)^\}$", script, re.DOTALL | re.MULTILINE))
    names = re.findall(r"^  (\w+)(?: |$)", bodies["usage"], re.MULTILINE)
    return {name: bodies[name if name in bodies else f"run_{name}s"] for name in names}


@cache
def arguments(module: str) -> frozenset[str]:
    """The options and commands that the modules of a program define."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return frozenset()
    path = Path(spec.origin)
    alone = path.parent in (ROOT, ROOT / "tests")
    calls = (
        node
        for file in ([path] if alone else path.parent.glob("*.py"))
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    )
    return frozenset(
        each.value
        for call in calls
        if call.func.attr in ("add_argument", "add_parser")  # type: ignore[attr-defined]
        for each in call.args
        if isinstance(each, ast.Constant) and isinstance(each.value, str)
    ) | {"--help"}


@cache
def all_options() -> frozenset[str]:
    """The options of all programs."""
    programs = [arguments(entry.partition(":")[0]) for entry in PROJECT["scripts"].values()]
    return frozenset(chain(*programs, *(options_of_dev(name) for name in commands())))


@cache
def options_of_dev(command: str) -> frozenset[str]:
    """The options of a command of ./dev: the script's own, and those of the module that it runs."""
    body = commands()[command]
    modules = [name for name in re.findall(r" -m ([\w.]+)", body) if name.split(".")[0] in OURS]
    return frozenset(chain(re.findall(r"--[a-z]+", body), *map(arguments, modules), ["--help"]))


def of_command(piece: str) -> Iterator[str]:
    """What is wrong with a command, if the code is one of ours."""
    try:
        words = shlex.split(piece, comments=True)
    except ValueError:  # a lonely apostrophe: no command
        return
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        del words[0]
    if not words:
        return
    name, rest = Path(words[0]).name, words[1:]
    if words[0] == "./dev" and rest:
        yield from _of_dev(rest)
    elif name in PROJECT["scripts"] and rest:
        yield from _of_program(PROJECT["scripts"][name].partition(":")[0], name, rest)
    elif name.startswith("python") and rest[:1] == ["-m"] and rest[1].split(".")[0] in OURS:
        if importlib.util.find_spec(rest[1]) is None:
            yield f"python -m {rest[1]}"
        else:
            yield from _of_program(rest[1], f"python -m {rest[1]}", rest[2:])
    elif words[0].startswith("--"):
        yield from (each for each in _options(words) if each not in all_options() | OF_OTHERS)


def _of_dev(rest: Sequence[str]) -> Iterator[str]:
    if rest[0] in commands():
        known = options_of_dev(rest[0])
        if rest[0] != "test":  # whose others are pytest's
            yield from (f"./dev {rest[0]} {each}" for each in _options(rest) if each not in known)
    elif rest[0].islower() and rest[0] not in ("help", "--help"):
        yield f"./dev {rest[0]}"


def _of_program(module: str, name: str, rest: Sequence[str]) -> Iterator[str]:
    if module in ("replay", "replay.tools.cli"):
        module = "replay.tools.cli"
        if rest[0].isalpha() and rest[0].islower() and rest[0] not in arguments(module):
            yield f"{name} {rest[0]}"
    yield from (f"{name} {each}" for each in _options(rest) if each not in arguments(module))


def _options(words: Sequence[str]) -> list[str]:
    return [word.partition("=")[0] for word in words if re.match(r"--[a-z]", word)]


# Modules and what they define.


def of_dotted(piece: str) -> Iterator[str]:
    """The dotted name that the code begins with, if it begins as one of ours does."""
    found = _DOTTED.match(piece)
    if found is None or _FILE.fullmatch(found[0]) or not _is_ours(found[0]):
        return
    if not any(map(_leads, _readings(found[0]))):
        yield found[0]


def _is_ours(name: str) -> bool:
    first = name.split(".")[0]
    return first in MODULES or first in ("replay", "replaypb", "ctx") or first in replay.__all__


def _readings(name: str) -> Iterator[tuple[Any, Sequence[str]]]:
    """What a name may stand for: an object, and the attributes to follow from there."""
    first, *rest = name.split(".")
    if first in MODULES:
        module = importlib.import_module(MODULES[first])
        yield module, rest
        # A variable is named as its class is: `client.stream`.
        yield getattr(module, first.capitalize(), None), rest
        if first in sys.stdlib_module_names:
            yield importlib.import_module(first), rest
    elif first == "ctx":
        yield replay.RunContext, rest
        yield replay.ActivityContext, rest
    elif first != "replay":
        yield getattr(replay, first, None), rest
    else:
        yield replay, rest
    yield _message(name), ()


def _message(name: str) -> object:
    """What the .proto files call so: a message, a service, or a package that they are in."""
    for module in ("replaypb_pb2", "log_pb2"):
        importlib.import_module(f"replay.server.proto.{module}")
    try:
        return descriptor_pool.Default().FindFileContainingSymbol(name)
    except KeyError:
        return None


def _leads(reading: tuple[Any, Sequence[str]]) -> bool:
    """Whether the attributes are there; those that an instance gets when it is made, too."""
    found, names = reading
    for name in names:
        if isinstance(found, ModuleType) and not hasattr(found, name):
            try:
                found = importlib.import_module(f"{found.__name__}.{name}")
            except ImportError:
                return False
        elif isinstance(found, type) and not hasattr(found, name):
            return name in found.__annotations__ or f"self.{name}" in inspect.getsource(found)
        else:
            found = getattr(found, name, None)
    return found is not None


# Files, links, ids, extras.


@cache
def files() -> frozenset[str]:
    """The files and folders of the repository, as paths from its root."""
    found = set[str]()
    for top in ROOT.iterdir():
        if top.name in (".github", ".ci", ".gitignore") or not top.name.startswith("."):
            found |= {str(path.relative_to(ROOT)) for path in (top, *top.rglob("*"))}
    return frozenset(found)


def of_files(piece: str, text: Path) -> Iterator[str]:
    """The files that are nowhere: not beside the text, and not below any folder."""
    tops = {path.split("/")[0] for path in files()}
    for word in piece.split():
        folder = word.endswith("/") and word.split("/")[0] in tops
        if (folder or _FILE.fullmatch(word)) and not _is_there(word.rstrip("/"), text):
            yield word


def _is_there(name: str, text: Path) -> bool:
    if name in OF_OTHERS or name.startswith("/") or (text.parent / name).exists():
        return True
    pattern = re.sub("NAME|MODULE", "*", name)
    return any(fnmatch(f"/{path}", f"*/{pattern}") for path in files())


def anchors(text: str) -> set[str]:
    """What a link may name in a text: its headings, written as a link writes them."""
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def of_text(text: str, path: Path) -> Iterator[tuple[int, str]]:
    """What a text names outside of code: links, ids, extras."""
    for link in _LINK.finditer(text):
        file, _, anchor = unquote(link[1]).partition("#")
        target = path.parent / file if file else path
        if "://" not in link[1] and not (
            target.exists() and (not anchor or anchor in anchors(target.read_text()))
        ):
            yield link.start(1), link[1]
    known = {each.id for each in ledger.all_promises()}
    letters = "".join(sorted({id[0] for id in known}))
    for id in re.finditer(rf"(?<![\w.-])[{letters}]\d+\b", text):
        if id[0] not in known:
            yield id.start(), id[0]
    for extra in re.finditer(rf"{PROJECT['name']}\[([\w,-]+)\]", text):
        yield from ((extra.start(), extra[0]) for each in extra[1].split(",") if each not in EXTRAS)


def missing(text: str, path: Path) -> list[tuple[int, str]]:
    """The names in a text that lead nowhere, each with the number of its line."""
    found = list(of_text(text, path))
    for place, piece in code(text):
        wrong = chain(of_command(piece), of_dotted(piece), of_files(piece, path))
        found += [(place, name) for name in wrong]
    return sorted({(text.count("\n", 0, place) + 1, name) for place, name in found})


def main(names: Sequence[str]) -> int:
    """Print file, line and name of all that does not exist; 1 if there is any."""
    wrong = 0
    for path in [Path(name).resolve() for name in names] or texts():
        for line, name in missing(path.read_text(encoding="utf-8"), path):
            print(f"{path.relative_to(ROOT)}:{line}: there is no {name}")
            wrong += 1
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
