"""The command `replay verify`."""

from __future__ import annotations

import io
import json
import re
import shlex
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from replay import connect, register_activity, register_workflow
from replay.tools import cli
from replay.tools import verify as command
from tests.ledger import ROOT
from tests.support import Clock, drain, loops, stepped
from tests.test_verify import SERVED, Reversed, exported, lived, pack_and_ship, patched

CODE = """
    from __future__ import annotations

    from typing import TYPE_CHECKING, Any

    import replay

    if TYPE_CHECKING:
        from replay import RunContext

    LIST = []


    def flow(ctx: replay.RunContext, message: Any) -> None:
        ctx.exec_activity("pack", message)
        ctx.exec_activity({second!r}, message)


    def other(ctx: RunContext, message: Any) -> None:
        ctx.exec_activity("fly", message)


    def helper(ctx: replay.ActivityContext, backends: None, message: Any) -> None: ...


    class Some:
        @staticmethod
        def ships(ctx: replay.RunContext, message: Any) -> None:
            flow(ctx, message)
"""


class Place:
    """A folder with modules, and with an export."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys

    def code(self, name: str, text: str) -> None:
        (self.folder / f"{name}.py").write_text(textwrap.dedent(text))

    def export(self, *lines: str, name: str = "old.jsonl") -> str:
        (self.folder / name).write_text("".join(f"{line}\n" for line in lines))
        return name

    def run(self, *arguments: str) -> tuple[int, str, str]:
        code = cli.main(["verify", *arguments])
        return code, *self._capsys.readouterr()


@pytest.fixture
def place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Place]:
    """Give a folder that is the current one, with the modules `good` and `bad`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REPLAY_URL", raising=False)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    before = set(sys.modules)
    found = Place(tmp_path, capsys)
    found.code("good", CODE.format(second="ship"))
    found.code("bad", CODE.format(second="fly"))
    yield found
    for name in set(sys.modules) - before:
        del sys.modules[name]


FOUND = (
    "ns/flow/a/0, event 4: the history requests ship/0, the code requests fly/0 (bad.py:16 in flow)"
)


def test_v2_a_file_against_a_module(place: Place) -> None:
    """V2: exit codes and what is said, for people and for programs."""
    file = place.export(*lived(pack_and_ship))
    assert place.run("good", file) == (0, "1 history: no differences\n", "")
    assert place.run("bad", file) == (1, f"{FOUND}\n1 history: 1 difference\n", "")
    assert place.run("good", file, "--json") == (0, "", "")
    code, out, _ = place.run("bad", file, "--json")
    assert (code, json.loads(out)) == (
        1,
        {
            "run": "ns/flow/a/0",
            "event": 4,
            "line": "bad.py:16 in flow",
            "history": "requests ship/0",
            "code": "requests fly/0",
        },
    )


def test_v2_a_log_against_a_module(place: Place) -> None:
    """V2: read in place, with the same result as by way of a file."""
    url = f"sqlite:///{place.folder / 'replay.db'}"
    with stepped(url, Clock()) as client:
        consumers = [register_workflow(client, "ns", pack_and_ship, name="flow", start=False)]
        for name, activity in SERVED.items():
            consumers.append(register_activity(client, "ns", activity, name=name, start=False))
        for run in "ab":
            client.run_workflow("ns", "flow", run, None)
        drain(*consumers, *loops(client))
    assert place.run("good", "--url", url) == (0, "2 histories: no differences\n", "")
    code, out, _ = place.run(
        "bad", "--url", url, "--namespace", "ns", "--workflow", "flow", "--run", "a"
    )
    assert (code, out) == (1, f"{FOUND.replace('event 4', 'event 7')}\n1 history: 1 difference\n")
    assert cli.main(["export", "--url", url, "--output", "all.jsonl"]) == 0
    assert place.run("bad", "all.jsonl")[1].splitlines()[-1] == "2 histories: 2 differences"


def test_v2_standard_input(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """V2: `replay export | replay verify MODULE -`."""
    lines = "".join(f"{line}\n" for line in lived(pack_and_ship))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    assert place.run("good", "-") == (0, "1 history: no differences\n", "")


def test_v2_a_workflow_without_function_is_no_success(place: Place) -> None:
    """V2: a renamed function would leave its runs behind; --as names it, the options choose."""
    place.code("empty", "import replay\n")
    file = place.export(*lived(pack_and_ship), *lived(patched))
    problem = (
        "ns/flow: the history has 2 iterations, the code has no function flow that takes a"
        " RunContext: see --as (empty)\n"
    )
    assert place.run("empty", file) == (1, f"{problem}2 histories: 1 difference\n", "")
    assert place.run("bad", file, "--as", "flow=Some.ships")[0] == 1
    assert place.run("good", place.export(*lived(pack_and_ship)), "--as", "flow=Some.ships") == (
        0,
        "1 history: no differences\n",
        "",
    )
    code, out, _ = place.run("good", file, "--as", "flow=other")
    assert (code, out.splitlines()[-1]) == (1, "1 history: 1 difference")
    code, out, _ = place.run("empty", file, "--json")
    assert (code, json.loads(out)["run"]) == (1, "ns/flow")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (
            ["missing", "old.jsonl"],
            "MODULE missing: ModuleNotFoundError: No module",
        ),
        (["good", "old.jsonl", "--import", "missing"], "--import missing: ModuleNotFoundError"),
        (["good", "missing.jsonl"], "missing.jsonl: No such file or directory: name what"),
        (["good", "."], ".: Is a directory: name what"),
        (["good", "empty.jsonl"], "there is no history, so nothing was verified"),
        (["good", "old.jsonl", "--run", "b"], "there is no history, so nothing was verified"),
        (["good", "broken.jsonl"], "broken.jsonl, line 2: this is no history that"),
        (["good", "old.jsonl", "--as", "flow"], "--as flow: expected NAME=FUNCTION"),
        (["good", "old.jsonl", "--as", "flow=no.such"], "--as no.such: module 'good' has no"),
        (["good", "old.jsonl", "--as", "flow=replay"], "is not a function: expected workflow("),
        (["good", "old.jsonl", "--codec", "none"], "--codec none: ModuleNotFoundError"),
        (["good", "old.jsonl", "--as", "flow=LIST"], "is not a function: expected workflow("),
        (["good", "old.jsonl", "--url", "sqlite:///x.db"], "old.jsonl or --url: name one of them"),
        (["good"], "say which log: --url URL, or set REPLAY_URL"),
    ],
)
def test_v2_what_cannot_be_carried_out(place: Place, arguments: list[str], problem: str) -> None:
    """V2: exit code 2, with one sentence, and no traceback."""
    (line,) = lived(pack_and_ship)
    place.export(line)
    place.export(name="empty.jsonl")
    place.export(line, '{"half": ', name="broken.jsonl")
    code, out, err = place.run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("replay: ")
    assert problem in err
    assert err.count("\n") == 1


def test_v2_j4_a_codec_is_named(place: Place) -> None:
    """V2, J4: for a file and for a log, as other commands name it."""
    place.code("keys", "from tests.test_verify import Reversed\nCODEC = Reversed()")
    url = f"sqlite:///{place.folder / 'replay.db'}"
    with connect(url, loops=False, codec=Reversed()) as client:
        client.run_workflow("ns", "flow", "a", "tea")
        drain(register_workflow(client, "ns", pack_and_ship, name="flow", start=False))
        file = place.export(*exported(client))
    for source in ([file], ["--url", url]):
        done = (0, "1 history: no differences\n", "")
        assert place.run("good", *source, "--codec", "keys:CODEC") == done
        code, out, _ = place.run("good", *source)
        assert (code, "is encoded: connect with its codec" in out) == (1, True)


def test_v2_a_line_is_bounded(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """V2: by 256 MiB, here 100 bytes."""
    monkeypatch.setattr(command, "_LONGEST", 100)
    code, _, err = place.run("good", place.export(*lived(pack_and_ship)))
    assert code == 2
    assert "old.jsonl, line 1 has more than 100 bytes: verify that run with --url" in err


def test_v2_people_get_twenty_differences(place: Place) -> None:
    """V2: and the number of all; programs get all."""
    file = place.export(*lived(pack_and_ship) * 30)
    code, out, _ = place.run("bad", file)
    assert code == 1
    assert out.splitlines() == [FOUND] * 20 + [
        "and 10 more differences",
        "30 histories: 30 differences",
    ]
    assert len(place.run("bad", file, "--json")[1].splitlines()) == 30


def test_v2_no_control_sequence_reaches_a_terminal(place: Place) -> None:
    """V2, Q2: names and errors are shown as text."""
    place.code(
        "rude",
        """
        from typing import Any
        import replay

        def flow(ctx: replay.RunContext, message: Any) -> None:
            raise ValueError("\\x1b[31mred\\nnews")
        """,
    )
    code, out, _ = place.run("rude", place.export(*lived(pack_and_ship)))
    assert code == 1
    assert "raises ValueError: \\x1b[31mred\\x0anews (rude.py:6 in flow)" in out


def test_v2_the_workflows_for_github_use_commands_that_exist() -> None:
    """V2: each command line of docs/deployment.md can be parsed."""
    text = (ROOT / "docs" / "deployment.md").read_text()
    steps = re.findall(r"^ +- run: replay (.*)$", text, re.MULTILINE)
    assert [shlex.split(step)[0] for step in steps] == ["export", "lint", "verify"]
    for step in steps:
        cli.make_parser().parse_args(shlex.split(step))
