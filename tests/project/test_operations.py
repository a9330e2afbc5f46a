"""docs/operations.md: each metric has a query and an alert, and its snippets and commands run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import oncall
from tests.exposition import OF_CONSUMERS, OF_LOGS, OF_SERVERS, labels
from tests.servers import free_port

ROOT = Path(__file__).resolve().parent.parent.parent
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
LIMIT = 60  # seconds until something that has to happen has not happened

SERIES = OF_CONSUMERS | OF_LOGS | OF_SERVERS
#: What Prometheus itself knows, of what the page uses.
FUNCTIONS = {"rate", "increase", "deriv", "sum", "max", "min", "histogram_quantile"}
WORDS = {"by", "on", "and"}
TOKEN = re.compile(
    r"""\s+|(?P<name>[a-z_]+)(?P<selector>\{[a-z]+=~?"[^"]*"\})?(?P<range>\[\d+[mhd]\])?"""
    r"""|\d+(\.\d+)?|[(),/*>]|=="""
)
ROW = re.compile(r"^\| `(replay_\w+)` \| .* \| `(.*)` \| `(.*)` for (\d+m) \|$", re.MULTILINE)


def metric(series: str) -> str:
    """The name under which a series is listed: a histogram has three."""
    return re.sub(r"_(bucket|count|sum)$", "", series)


def misread(expression: str) -> list[str]:
    """What is wrong with an expression: words that nobody knows, ranges where none belong."""
    at, open_, before = 0, 0, ""
    wrong: list[str] = []
    while at < len(expression):
        found = TOKEN.match(expression, at)
        if found is None:
            return [*wrong, expression[at:]]
        at, text, name = found.end(), found[0], found["name"]
        open_ += (text == "(") - (text == ")")
        if name in SERIES:
            needs_range = before in ("rate", "increase", "deriv")
            known = set(SERIES[name])
            used = set(re.findall(r"(\w+)=", found["selector"] or ""))
            if (found["range"] is not None) != needs_range or not used <= known:
                wrong.append(text)
        elif name is not None and name not in FUNCTIONS | WORDS | {
            "consumer",
            "le",
            "database",
            "reason",
        }:
            wrong.append(text)
        if text.strip() and text != "(":
            before = text
    return wrong if open_ == 0 else [*wrong, "parentheses"]


def test_q5_each_metric_has_a_query_and_an_alert() -> None:
    """Q5: those that a server shows, in the code's own list, and no others."""
    listed = [row[0] for row in ROW.findall(OPERATIONS)]
    assert sorted(listed) == sorted({metric(series) for series in SERIES})


@pytest.mark.parametrize("row", ROW.findall(OPERATIONS), ids=lambda row: row[0])
def test_q5_queries_and_alerts_can_be_read(row: tuple[str, str, str, str]) -> None:
    """Q5: each is about its own metric, and uses metrics, labels and functions that exist."""
    name, *expressions, _ = row
    for expression in expressions:
        assert misread(expression) == []
        assert name in {metric(each) for each in re.findall(r"replay_\w+", expression)}


@pytest.mark.parametrize(
    "wrong",
    [
        "rate(replay_parked)",
        "replay_parked[5m]",
        "sum(replay_parked",
        "replay_unknown > 1",
        'replay_parked{run="r"} > 0',
        "sum by (run) (replay_parked)",
        "replay_parked & 1",
    ],
)
def test_q5_the_check_of_queries_finds(wrong: str) -> None:
    """Q5: what Prometheus would refuse, or answer with nothing."""
    assert misread(wrong) != []


def test_q5_a_program_serves_its_metrics(tmp_path: Path) -> None:
    """Q5: the snippet, as it stands there, but with a port of its own."""
    found = re.findall(
        r"<!-- metrics -->\n```python\n(.*?)```\n<!-- /metrics -->", OPERATIONS, re.DOTALL
    )
    assert len(found) == 1
    port = free_port()
    program = found[0].replace("9464", str(port)) + (
        'client.run_workflow("shop", order, "r", "tea")\n'
        'assert client.result("shop", order, "r", 60) == 3\n'
        "client.close()\n"
        "import urllib.request\n"
        f'print(urllib.request.urlopen("http://127.0.0.1:{port}/metrics").read().decode())\n'
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=True,
    )
    ours = {name: of for name, of in labels(done.stdout).items() if name.startswith("replay_")}
    down = {name: of for name, of in OF_LOGS.items() if name.startswith("replay_database")}
    assert ours == OF_CONSUMERS | down


SITUATIONS = [
    "A run is stuck",
    "A poison input",
    "The lag grows",
    "A worker hangs",
    "The disk is full",
    "The database failed over",
    "Wrong code was deployed",
    "A token leaked",
    "The log is too large",
    "Moving to another server",
]


def test_each_situation_has_its_section_and_commands() -> None:
    """The person on call finds each in the list at the top, and a command to type in each."""
    sections = re.split(r"^## ", OPERATIONS, flags=re.MULTILINE)
    titles = {section.partition("\n")[0]: section for section in sections[1:]}
    assert list(titles) == ["What to watch", *SITUATIONS]
    for title in SITUATIONS:
        assert "```console\n$ replay " in titles[title], title
        assert f"- [{title}](#{title.lower().replace(' ', '-')})" in sections[0]


def test_the_commands_print_what_the_page_shows() -> None:
    """Each command of the page runs, in the situation that it is for."""
    for block, now in oncall.shown(OPERATIONS):
        assert oncall.plain(now) == oncall.plain(block.text), block.stage
