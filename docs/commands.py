"""Writes commands.md: `python docs/commands.py` rewrites it beside this file.

Everything in it comes from the parsers of the command `replay`.  A test fails when the page is not
what this writes.
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from replay.tools.cli import CODES, make_parser

START = """\
# Commands

`python docs/commands.py` writes this page; each command's `--help` says the same.

All commands but `replay server` and `replay token` work on a log. `--url` names it: a database, or
a server. So does the environment variable `REPLAY_URL`, where other users of the machine do not
read a password. [The README](../README.md#connecting) lists the URLs. All but `replay audit` also
need write access to the database, because opening it may upgrade its tables. Through a server, a
token for reading is enough to look.

For people, commands print tables. A control character from the log is shown as an escape such as
`\\x1b`, and a name that a shell would not take as it is stands in quotes. On a terminal the last
column is cut to the width. For programs, `--json` prints one JSON value on each line. It keeps
every text and every digit. Long lists come page by page, so you may pipe them into `head`.

A message that you give is JSON: `'"text"'`, `'{"item": "tea"}'`. It is stored as a plain value. For
a protobuf message, name its type with `--type` and the module that defines it with `--import`.

| exit code | meaning |
|---|---|
"""


def page() -> str:
    """The page."""
    parser = make_parser()
    (commands,) = (
        action for action in parser._actions if isinstance(action, argparse._SubParsersAction)
    )
    codes = "".join(f"| {code} | {meaning} |\n" for code, meaning in CODES.items())
    sections = [_section(name, each) for name, each in commands.choices.items()]
    return START + codes + "".join(sections)


def _section(name: str, parser: argparse.ArgumentParser) -> str:
    usage = f"replay {name} {' '.join(map(_usage, _actions(parser)))}".rstrip()
    wrapped = textwrap.wrap(usage, 92, subsequent_indent=" " * 8, break_on_hyphens=False)
    rows = [f"| `{_named(action)}` | {_help(action, parser)} |\n" for action in _actions(parser)]
    table = "".join(["| argument | meaning |\n|---|---|\n", *rows]) if rows else ""
    described = textwrap.fill(_text(parser.description or ""), 100, break_on_hyphens=False)
    code = "\n".join(["```text", *wrapped, "```"])
    return f"\n## `replay {name}`\n\n{described}\n\n{code}\n\n{table}"


def _actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    shown = [action for action in parser._actions if action.dest != "help"]
    return sorted(shown, key=lambda action: bool(action.option_strings))


def _usage(action: argparse.Action) -> str:
    text = _named(action)
    return text if action.required else f"[{text}]"


def _named(action: argparse.Action) -> str:
    """The argument, or the option and its value."""
    value = action.metavar or (
        "{" + ",".join(map(str, action.choices)) + "}" if action.choices else action.dest.upper()
    )
    if not action.option_strings:
        return str(value)
    option = action.option_strings[-1]
    return option if action.nargs == 0 else f"{option} {value}"


def _help(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    values = vars(action) | {"prog": parser.prog}
    return _text((action.help or "") % values).replace("|", "\\|")


def _text(text: str) -> str:
    """A text of the parsers in Markdown, where one space divides sentences."""
    return re.sub(r"(?<![`\w])(--[a-z][-a-z]*)", r"`\1`", re.sub(r"  +", " ", text))


if __name__ == "__main__":
    Path(__file__).with_suffix(".md").write_text(page(), encoding="utf-8")
