"""Q2: what commands print, errors and exit codes included, letter by letter, on every backend."""

from pathlib import Path

import pytest

from tests.tools import shop
from tests.tools.commands import GOLDEN, again

pytestmark = pytest.mark.contract


#: Behind a server, the server itself owns some of the names.
CONSUMERS = GOLDEN / "consumers.txt"
FILES = sorted({*GOLDEN.glob("*.txt")} - {CONSUMERS})


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_q2_commands_print_what_the_file_says(url: str, file: Path) -> None:
    """Q2: tables and JSON, of hostile names and messages, too, and what each exit code is."""
    shop.fill(url)
    assert "".join(again(file.read_text(), url)) == file.read_text()


@pytest.mark.embedded
def test_q2_consumers_are_listed_as_the_file_says(url: str) -> None:
    """Q2: also those that answer sleeps and signals."""
    shop.fill(url)
    assert "".join(again(CONSUMERS.read_text(), url)) == CONSUMERS.read_text()
