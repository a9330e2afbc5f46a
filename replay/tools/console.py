"""The terminal: what all commands have in common.

Role: the options that name a log, and what commands print: tables for people, JSON lines for
programs.

Invariant: nothing that comes from a log reaches a terminal as a control sequence.  People get it
escaped.  In JSON an escape means the very same text, so programs lose nothing.

Left to `look` and `act`: the commands.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import re
import shlex
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice
from types import ModuleType
from typing import Any, TypeAlias
from urllib.parse import unquote

import msgspec

from ..client import Client
from ..connect import connect
from ..storage.codec import Codec
from ..storage.database import BadUrl, Error, Unavailable
from ..storage.open import parse_url

#: Where commands are added.
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

_PAGE = 1000  # rows that are laid out together
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_NARROW = 12  # cells of a text that is cut, at least


class BadArgument(Error, ValueError):
    """An argument that cannot be used."""


# The log that is meant.


def on_log(*, messages: bool = False, json: bool = True) -> argparse.ArgumentParser:
    """Make the options of a command on a log, for `parents`; with `messages`, also theirs.

    A command that prints nothing for programs has no use for `json`.
    """
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument(
        "--url",
        help="the log's database, or a server; default: the environment variable REPLAY_URL,"
        " where a password is not shown to other users",
    )
    if json:
        parser.add_argument("--json", action="store_true", help="print JSON lines, for programs")
    if messages:
        parser.add_argument(
            "--import",
            dest="modules",
            action="append",
            default=[],
            metavar="MODULE",
            help="import a module with protobuf messages, such as app.messages; repeatable",
        )
        parser.add_argument(
            "--codec",
            metavar="MODULE:NAME",
            help="the codec of stored messages, such as app.storage:CODEC; without it they are"
            " shown encoded, and new ones are not encoded",
        )
    return parser


def log_url(args: argparse.Namespace) -> str:
    """Return the URL of the log that the command line means, which must exist."""
    url = os.environ.get("REPLAY_URL", "") if args.url is None else args.url
    if not url:
        raise BadUrl("say which log: --url URL, or set REPLAY_URL")
    parts, _ = parse_url(url)
    if parts.scheme == "sqlite":
        file = unquote(parts.path[1:])
        if file in ("", ":memory:"):
            raise BadUrl("a log in memory ends with its process: name a file or a server")
        if not os.path.exists(file):  # a command must not make a log where somebody mistypes
            raise Unavailable(f"there is no file {file}: is the URL right?")
    return url


def opened(args: argparse.Namespace) -> Client:
    """Import what the command line names, and open its log, which must exist."""
    for module in getattr(args, "modules", ()):
        load(module, "--import")
    return connect(log_url(args), loops=False, codec=codec_of(args))


def load(module: str, argument: str) -> ModuleType:
    """Import a module that the command line names.  Raises `BadArgument`, with the argument."""
    if "" not in sys.path:  # as with `python -m`
        sys.path.insert(0, "")
    try:
        return importlib.import_module(module)
    except Exception as error:
        raise BadArgument(f"{argument} {module}: {type(error).__name__}: {error}") from error


def codec_of(args: argparse.Namespace) -> Codec | None:
    """Return the codec that the command line names, if any.  Raises `BadArgument`."""
    if (text := getattr(args, "codec", None)) is None:
        return None
    module, _, name = text.partition(":")
    codec: Any = getattr(load(module, "--codec"), name, None)
    if not (hasattr(codec, "encode") and hasattr(codec, "decode")):
        raise BadArgument(f"--codec {text}: expected MODULE:NAME, an object with encode and decode")
    found: Codec = codec
    return found


def place(text: str, most: int = 3) -> list[str]:
    """Read NAMESPACE/WORKFLOW/RUN, or as many of these names as are given, up to `most`."""
    names = text.split("/")
    if len(names) > most or not all(names):
        form = "/".join(("NAMESPACE", "WORKFLOW", "RUN")[:most])
        raise BadArgument(f"{text!r}: expected {form}")
    return names


def run(text: str) -> tuple[str, str, str]:
    """Read NAMESPACE/WORKFLOW/RUN."""
    if len(names := place(text)) != 3:
        raise BadArgument(f"{text!r}: expected NAMESPACE/WORKFLOW/RUN")
    return names[0], names[1], names[2]


def age(text: str) -> timedelta | None:
    """Read an age such as 30d, 12h or 90m; None if it is none."""
    found = re.fullmatch(r"(\d{1,6})([smhdw])", text, re.ASCII)
    return timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else None


# For people.


def visible(text: object) -> str:
    """Return a text in which each character is one that can be seen, in its place.

    Others are escaped: control characters, which a terminal obeys, and those that turn the
    direction of a text, which would show another name than there is.
    """
    found = str(text)
    return found if found.isprintable() else "".join(map(_visible, found))


def _visible(character: str) -> str:
    if character.isprintable():
        return character
    code = ord(character)
    return (
        f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 2**16 else f"\\U{code:08x}"
    )


def lines(text: object) -> str:
    """Return a text of several lines, each as `visible` makes it."""
    return "\n".join(map(visible, str(text).split("\n")))


def word(text: str) -> str:
    """Return a name as it can be pasted into a shell, with quotes if it needs them."""
    if not text.isprintable():  # $'...' is for bash and zsh
        return "$'" + visible(text.replace("\\", "\\\\").replace("'", "\\'")) + "'"
    if "'" in text and not set(text) & set('"\\$`!'):
        return f'"{text}"'
    return shlex.quote(text) if set(text) & _SPECIAL else text


#: Characters that a shell does not take as they are.
_SPECIAL = set(" \"'\\$`!#&()*;<>?[]{|}~")


def moment(time: datetime | None) -> str:
    """Return a time in UTC, to the second."""
    return "-" if time is None else f"{time:%Y-%m-%d %H:%M:%S}"


def cells(text: str) -> int:
    """Return how many cells of a terminal a text takes."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(map(bool, map(unicodedata.combining, text)))


def table(titles: Sequence[str], rows: Iterable[Sequence[str]], indent: str = "") -> bool:
    """Print rows under titles, page by page as they come.  Returns whether there was any.

    Only the last column may be cut, and only on a terminal: with an ellipsis, where it ends.
    """
    waiting, found = iter(rows), False
    widths = [len(title) for title in titles]
    limit = width()
    while page := list(islice(waiting, _PAGE)):
        # The columns of a later page are at least as wide, so that they stay in line.
        for row in page:
            widths = [max(old, cells(text)) for old, text in zip(widths, row, strict=True)]
        for row in page if found else [titles, *page]:
            print(indent + _row(row, widths, limit and limit - len(indent)).rstrip())
        found = True
    return found


def _row(row: Sequence[str], widths: Sequence[int], limit: int | None) -> str:
    start = "".join(
        text + " " * (width - cells(text) + 2)
        for text, width in zip(row[:-1], widths[:-1], strict=True)
    )
    return start + shortened(row[-1], limit and max(_NARROW, limit - cells(start)))


def shortened(text: str, limit: int | None) -> str:
    """Cut a text to so many cells, with an ellipsis at its end if it was longer."""
    if limit is None or cells(text) <= limit:
        return text
    text = text[:limit]
    while cells(text) >= limit:
        text = text[:-1]
    return text + "…"


def width() -> int | None:
    """Return how many cells a line of the terminal has; None if the output goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def note(text: str) -> None:
    """Tell people something beside the output."""
    print(f"replay: {text}", file=sys.stderr)


class Formatter(logging.Formatter):
    """Log lines without control sequences: they may hold names and errors from the log."""

    def format(self, record: logging.LogRecord) -> str:
        """As in `logging.Formatter`."""
        return lines(super().format(record))


# For programs.


def print_json(value: Any, *, flush: bool = False) -> None:
    """Print a value as a line of JSON.  Times are in UTC, as in RFC 3339."""
    print(to_json(value), flush=flush)


def to_json(value: Any) -> str:
    """Return JSON without control characters: there, an escape means the same text."""
    return plain_json(msgspec.json.encode(value).decode())


def plain_json(text: str) -> str:
    """Escape what `visible` escapes, as JSON does it."""
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    # Without a codec: its import at the first such character could be where Ctrl-C comes.
    if (code := ord(character)) < 0x10000:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"


def fields(record: Any, **others: Any) -> dict[str, Any]:
    """Return a record of the library's as a JSON object, with `others` for some of its fields."""
    return {name: getattr(record, name) for name in record.__dataclass_fields__} | others


class Pages:
    """Up to `limit` rows, 0 for all, read page by page.  ``ask(limit, after)`` reads a page.

    Then `more` says whether there are others.
    """

    def __init__(self, ask: Callable[[int, Any], Sequence[Any]], limit: int) -> None:
        self._ask = ask
        self.limit = limit
        self.more = False

    def __iter__(self) -> Iterator[Any]:
        after, left = None, self.limit or sys.maxsize
        while page := self._ask(size := min(_PAGE, left + 1), after):
            yield from page[:left]
            after, left, self.more = page[-1], left - len(page), len(page) > left
            if left < 0 or len(page) < size:
                return
