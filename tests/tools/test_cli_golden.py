"""Q2: what commands print, errors and exit codes included, letter by letter, on every backend."""

from pathlib import Path

import pytest

from replay import Client, register_workflow
from tests.support import drain, stepped
from tests.tools import shop
from tests.tools.commands import GOLDEN, again, run

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


@pytest.mark.embedded
def test_q2_a_consumer_is_removed_after_its_lag_was_told(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Q2: one that a live process owns is left alone, and so is a name that is none."""
    removed: list[str] = []
    monkeypatch.setattr(
        Client, "forget_consumer", lambda self, name: removed.append(name), raising=False
    )
    shop.fill(url)
    told = "! replay: activity/shop/pay is 2 events behind, at event 67, and has parked 1\n"
    printed = run("consumers --remove activity/shop/pay", url)
    assert printed == f"removed activity/shop/pay\n{told}[0]\n"
    with stepped(url) as client:
        drain(register_workflow(client, "shop", shop.order, start=False))
        assert run("consumers --remove workflow/shop/order", url).endswith("stop it first\n[1]\n")
    assert removed == ["activity/shop/pay"]
