"""The recipes: each program prints what the page shows, and the service works as processes."""

from __future__ import annotations

import configparser
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import IO, Any

import pytest

import replay
from tests.project.test_readme import environment, pasted, titled

ROOT = Path(__file__).resolve().parent.parent.parent
SERVICE = ROOT / "examples" / "service"
README = (ROOT / "README.md").read_text()
PAGE = (ROOT / "docs" / "recipes.md").read_text()
RECIPES = dict(re.findall(r"^## (.*?)\n\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))
#: Each program, with what the page shows of its output.
PROGRAMS = re.findall(
    r"^```python\n([^`]*)^```\n\nIt prints:\n\n```text\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE
)
MOST_LINES = 60
#: What a program may log: failures that it shows, and responses that come after the end of a run.
LOGGED = re.compile(r"gives up after|its run has completed|Traceback|is left behind")


@contextmanager
def running(command: Sequence[str], folder: Path, **more: str) -> Iterator[subprocess.Popen[str]]:
    """A process that is killed at the end, with all that it has started."""
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment() | more,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def lines_until(text: str, stream: IO[str] | None) -> str:
    """The line that has this text; the process has to write it before it ends."""
    assert stream is not None
    return next(line for line in stream if text in line)


def ask(address: str, method: str, path: str, body: object = None) -> tuple[int, Any]:
    """The status of a call of the service, and its answer."""
    connection = HTTPConnection(address, timeout=60)
    try:
        headers = {"content-type": "application/json"}
        connection.request(method, path, json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def test_each_recipe_has_its_question_and_its_warning() -> None:
    """It begins with the question, ends with what to watch out for, and the README links it."""
    listed = re.findall(r"^- \[(.*)\]\(#(.*)\): (.*)$", PAGE, re.MULTILINE)
    assert [title for title, _, _ in listed] == list(RECIPES)
    assert len(listed) == 13
    for title, anchor, question in listed:
        assert anchor == title.lower().replace(" ", "-")
        assert RECIPES[title].startswith(f"*{question}*\n")
        assert RECIPES[title].strip().split("\n\n")[-1].startswith("*Watch out.* ")
        assert f"- [{question}](docs/recipes.md#{anchor})\n" in README


def test_the_recipes_are_short() -> None:
    """No block has more than 60 lines, and all but the web service are programs that are run."""
    blocks = re.findall(r"^```(?:python|ini|yaml)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert [block.count("\n") for block in blocks if block.count("\n") > MOST_LINES] == []
    assert len(PROGRAMS) == len(RECIPES) - 1


@pytest.mark.parametrize("recipe", PROGRAMS, ids=lambda recipe: titled(recipe[0]))
def test_a_recipe_prints_what_the_page_shows(recipe: tuple[str, str], tmp_path: Path) -> None:
    """It ends well, prints that, and logs nothing else than what it provokes."""
    program, shown = recipe
    with running(pasted(program, tmp_path), tmp_path) as process:
        printed, logged = process.communicate(timeout=60)
    assert (process.returncode, printed) == (0, shown), logged
    assert not logged or LOGGED.search(logged), logged


def test_the_page_shows_the_files_of_the_service() -> None:
    """Letter by letter."""
    shown = re.findall(r"^```\w+\n(.*?)^```$", RECIPES["A web service"], re.DOTALL | re.MULTILINE)
    names = ["orders.py", "web.py", "shop-worker@.service", "compose.yaml"]
    assert shown == [(SERVICE / name).read_text() for name in names]


def test_the_service_works_while_its_workers_are_stopped_in_turn(tmp_path: Path) -> None:
    """L7, E4: no order is lost, whichever worker is told to stop, and a call may be repeated."""
    url = f"sqlite:///{tmp_path}/shop.db"
    worker = [sys.executable, "-W", "error", "orders.py"]
    web = [sys.executable, "-W", "error", "-m", "uvicorn", "web:app", "--port", "0"]
    order = {"item": "a boat", "price": 400}
    with ExitStack() as stack:
        workers = []
        for _ in range(2):
            workers.append(stack.enter_context(running(worker, SERVICE, REPLAY_URL=url)))
            lines_until("works", workers[-1].stdout)
        service = stack.enter_context(running(web, SERVICE, REPLAY_URL=url))
        address = lines_until("running on", service.stderr).partition("http://")[2].split()[0]
        client = stack.enter_context(replay.connect(url, loops=False))

        assert ask(address, "GET", "/orders/1")[0] == 404
        assert ask(address, "PUT", "/orders/A_B", order)[0] == 422
        assert ask(address, "PUT", "/orders/1", order) == (201, None)
        assert ask(address, "PUT", "/orders/1", order) == (200, None)
        workers[0].terminate()
        assert workers[0].wait(60) == 0
        assert ask(address, "POST", "/orders/1/approval?by=Ada") == (202, None)
        client.await_completion("shop", "order", "1", timeout=60)
        done = {"status": "completed", "result": "a boat is on its way", "error": ""}
        assert ask(address, "GET", "/orders/1") == (200, done)

        workers[0] = stack.enter_context(running(worker, SERVICE, REPLAY_URL=url))
        lines_until("works", workers[0].stdout)
        workers[1].terminate()
        assert workers[1].wait(60) == 0
        assert ask(address, "PUT", "/orders/2", order | {"price": 4}) == (201, None)
        client.await_completion("shop", "order", "2", timeout=60)
        assert ask(address, "GET", "/orders/2") == (200, done)


def test_systemd_and_compose_start_these_files() -> None:
    """Both start the worker, let it close in its own time, and the second starts the service."""
    unit = configparser.ConfigParser()
    unit.read(SERVICE / "shop-worker@.service")
    assert unit["Service"]["ExecStart"].endswith("/python orders.py")
    assert int(unit["Service"]["TimeoutStopSec"]) > replay.client.GRACE.total_seconds() + 0.5
    compose = (SERVICE / "compose.yaml").read_text()
    assert re.findall(r"command: (.*)", compose) == [
        "python orders.py",
        "uvicorn web:app --host 0.0.0.0",
    ]
    (grace,) = re.findall(r"stop_grace_period: (\d+)s", compose)
    assert int(grace) > replay.client.GRACE.total_seconds() + 0.5
    for copied in re.findall(r"COPY (.*) \S+$", compose, re.MULTILINE):
        assert [name for name in copied.split() if not (ROOT / name).exists()] == []
