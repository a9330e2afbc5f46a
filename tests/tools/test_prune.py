"""The commands `replay prune` and `replay export`."""

from __future__ import annotations

import argparse
import json
from datetime import timedelta
from pathlib import Path

import pytest

from replay.tools import cli
from replay.tools.keep import age
from tests.support import START, Clock, listing, raw, stepped
from tests.test_retention import Cluster, emptied


@pytest.fixture
def old(tmp_path: Path) -> str:
    """Give a database with two runs that ended in 2030."""
    url = f"sqlite:///{tmp_path / 'replay.db'}"
    with stepped(url, clock := Clock(START - timedelta(days=10_000))) as client:
        Cluster(client, clock).run("r", "s")
    return url


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("30d", timedelta(days=30)),
        ("12h", timedelta(hours=12)),
        ("90m", timedelta(minutes=90)),
        ("0s", timedelta(0)),
        ("2w", timedelta(weeks=2)),
    ],
)
def test_an_age_is_a_number_and_a_unit(text: str, wanted: timedelta) -> None:
    """As people write it."""
    assert age(text) == wanted


@pytest.mark.parametrize(
    "text", ["", "30", "d", "-1d", "1.5d", "30 d", "30D", "1y", "٣d", "9999999w"]
)
def test_another_age_is_refused(text: str) -> None:
    """Months and years have no length; a number without a unit is a guess."""
    with pytest.raises(argparse.ArgumentTypeError, match="is no age"):
        age(text)


def test_l9_prune(old: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """L9: the whole command line, and what it says."""
    folder = tmp_path / "old"
    command = ["prune", "--url", old, "--older-than", "36500d"]
    assert cli.main(command) == 0
    nothing = "removed 0 events and 0 signals: 0 runs, 0 iterations\n"
    assert capsys.readouterr().out == nothing
    command = ["prune", "--url", old, "--older-than", "30d", "--export", str(folder)]
    assert cli.main([*command, "--namespace", "elsewhere"]) == 0
    assert capsys.readouterr().out == nothing
    assert cli.main(command) == 0
    assert capsys.readouterr().out == "removed 52 events and 4 signals: 2 runs, 4 iterations\n"
    lines = [
        json.loads(text) for file in folder.iterdir() for text in file.read_text().splitlines()
    ]
    assert len(lines) == 4
    with stepped(old) as client:
        assert sorted(listing(client)) == sorted(emptied("r", "s"))
    assert cli.main([*command[:5], "--forget", "--shared-with-go-passed", "10"]) == 0
    assert capsys.readouterr().out == nothing
    assert cli.main([*command[:5], "--forget"]) == 0
    assert capsys.readouterr().out == "removed 4 events and 0 signals: 2 runs, 2 iterations\n"


def test_l9_a_prune_names_the_consumer_that_holds_it_up(
    old: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """L9: the one that has read least, and how far."""
    with raw(old) as other:
        newest = other.run("SELECT MAX(id) FROM replay_events")[0][0]
        for name, at in (("consumer/report", 7), ("consumer/b", 9), ("consumer/c", newest)):
            columns = "(id, last_event_id, owner, updated_at)"
            other.run(f"INSERT INTO replay_cursors {columns} VALUES (?, ?, '', '')", name, at)
    assert cli.main(["prune", "--url", old, "--older-than", "30d"]) == 0
    text = "replay: nothing behind event 7 can go: consumer/report has read no further\n"
    assert capsys.readouterr().err == text
    assert cli.main(["prune", "--url", old, "--older-than", "30d", "--json"]) == 0
    nothing = {"runs": 0, "iterations": 0, "events": 0, "signals": 0}
    held_up = {"held_up_by": "consumer/report", "up_to": 7}
    assert json.loads(capsys.readouterr().out) == nothing | held_up
    with raw(old) as other:
        other.run(f"UPDATE replay_cursors SET last_event_id = {newest}")
    assert cli.main(["prune", "--url", old, "--older-than", "36500d", "--json"]) == 0
    held_up = {"held_up_by": None, "up_to": None}
    assert json.loads(capsys.readouterr().out) == nothing | held_up


def test_export(old: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each iteration, in order, to standard output or a file; pruned ones not."""
    assert cli.main(["export", "--url", old]) == 0
    whole = capsys.readouterr().out
    found = [json.loads(text) for text in whole.splitlines()]
    places = [(each["run"], each["iteration"], len(each["events"])) for each in found]
    assert places == [("r", 0, 14), ("s", 0, 14), ("r", 1, 14), ("s", 1, 14)]
    assert found[0]["events"][0] == {
        "id": 1,
        "type": "RUN_CREATED",
        "target": "",
        "sequence": "",
        "timestamp": "2002-08-16T00:00:00.000Z",
        "message": found[0]["events"][0]["message"],
    }
    file = tmp_path / "all.jsonl"
    assert cli.main(["export", "--url", old, "--output", str(file)]) == 0
    assert file.read_text() == whole
    assert cli.main(["export", "--url", old, "--output", str(file)]) == 2
    assert "exists" in capsys.readouterr().err
    of = ["--namespace", "trip", "--workflow", "journey", "--run", "s"]
    assert cli.main(["export", "--url", old, *of]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert cli.main(["prune", "--url", old, "--older-than", "30d"]) == 0
    capsys.readouterr()
    assert cli.main(["export", "--url", old]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("command", [["export"], ["prune", "--older-than", "1d"]])
def test_without_a_url_it_says_what_to_do(
    command: list[str],
    old: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It exits with 2; the environment may have the URL."""
    monkeypatch.delenv("REPLAY_URL", raising=False)
    assert cli.main(command) == 2
    assert "say which log: --url URL, or set REPLAY_URL" in capsys.readouterr().err
    monkeypatch.setenv("REPLAY_URL", old)
    assert cli.main(command) == 0
