"""The reference of the commands is what the parsers say."""

import runpy
from pathlib import Path

from replay.tools.cli import make_parser

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"


def test_the_reference_says_what_the_parsers_say() -> None:
    """The page has not gone stale: ``python docs/commands.py`` rewrites it."""
    page = runpy.run_path(str(DOCS / "commands.py"))["page"]
    assert (DOCS / "commands.md").read_text() == page()


def test_every_command_and_argument_is_explained() -> None:
    """A newcomer finds out by `--help` alone."""
    for action in make_parser()._subparsers._group_actions:  # type: ignore[union-attr]
        for name, parser in action.choices.items():  # type: ignore[union-attr]
            assert parser.description, name
            assert all(each.help for each in parser._actions), name
