"""Q2: the command as a process: pipes, terminals, interrupts, databases that do not answer."""

import json
import os
import pty
import re
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from replay import Key, RunContext, register_workflow
from tests.storage.test_database import unprivileged
from tests.support import drain, raw, start_runs, stepped
from tests.tools import commands, shop

ROOT = Path(__file__).resolve().parent.parent.parent
LIMIT = 60  # seconds until something that has to happen has not happened
COMMAND = (sys.executable, "-W", "error", "-m", "replay")


@contextmanager
def started(
    url: str, *arguments: str, output: int = subprocess.PIPE
) -> Iterator[subprocess.Popen[str]]:
    """A command that runs; it is killed if it still does at the end."""
    with subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=ROOT,
        env=os.environ | {"REPLAY_URL": url},
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def run(url: str, *arguments: str, text: str = "") -> tuple[int, str, str]:
    """The exit code of a command, what it prints, and its errors."""
    with started(url, *arguments) as process:
        out, errors = process.communicate(text, timeout=LIMIT)
        return process.returncode, out, errors


@pytest.fixture
def filled(tmp_path: Path) -> str:
    """A log in a file, with a bit of everything."""
    url = f"sqlite:///{tmp_path / 'replay.db'}"
    shop.fill(url)
    return url


# Where it reads and writes.


@pytest.mark.parametrize("command", ["runs", "runs --json", "tail --after 0"])
def test_q2_a_closed_pipe_ends_it_quietly(filled: str, command: str) -> None:
    """Q2: as with `head -1`: the code that a shell knows, and no traceback."""
    with stepped(filled) as client:
        start_runs(client, *(f"run {n}" for n in range(3000)))
    if command.startswith("runs"):
        command += " --limit 0"
    with started(filled, *command.split()) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(LIMIT) == 141


def test_q2_a_full_disk_is_told(filled: str) -> None:
    """Q2: nobody takes half a list for a whole one."""
    with open("/dev/full", "w") as full, started(filled, "runs", output=full.fileno()) as process:
        _, errors = process.communicate(timeout=LIMIT)
        assert process.returncode == 4
    assert errors == "replay: [Errno 28] No space left on device\n"


def test_q2_an_output_without_unicode_shows_escapes(filled: str) -> None:
    """Q2: a terminal of ASCII stops no list, and JSON is UTF-8 everywhere."""
    code, out, _ = run_with({"PYTHONIOENCODING": "ascii"}, filled, "runs", "shop/order")
    assert (code, "shop/order/\\u65e5\\u672c" in out) == (0, True)
    code, out, _ = run_with({"PYTHONIOENCODING": "ascii"}, filled, "runs", "shop/order", "--json")
    assert "日本" in {json.loads(line)["run"] for line in out.splitlines()}


def run_with(environment: dict[str, str], url: str, *arguments: str) -> tuple[int, str, str]:
    """As `run`, in this environment."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        cwd=ROOT,
        env=os.environ | {"REPLAY_URL": url} | environment,
        capture_output=True,
        timeout=LIMIT,
        check=False,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_q2_a_message_comes_from_standard_input(filled: str) -> None:
    """Q2: with a - in its place, for messages that no command line holds."""
    text = json.dumps({"text": "x" * 200_000})
    assert run(filled, "start", "shop/order/large", "-", text=text)[0] == 0
    code, out, _ = run(filled, "show", "shop/order/large", "--json")
    assert code == 0
    assert json.loads(out.splitlines()[1])["message"] == json.loads(text)


def on_terminal(url: str, columns: int, *arguments: str) -> list[str]:
    """What a command prints on a terminal of this width."""
    ours, theirs = pty.openpty()
    with (
        open(ours, "rb", buffering=0) as screen,
        started(url, *arguments, output=theirs) as process,
    ):
        os.close(theirs)
        seen = b""
        with suppress(OSError):  # when the other end is closed
            while some := screen.read(4096):
                seen += some
        process.wait(LIMIT)
    return seen.decode().replace("\r\n", "\n").splitlines()


def test_q2_on_a_terminal_only_free_text_is_cut(
    filled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Q2: with an ellipsis; no id, name, key or time is, however narrow it is."""
    monkeypatch.setenv("COLUMNS", "100")
    whole = run(filled, "parked")[1].splitlines()
    cut = on_terminal(filled, 100, "parked")
    assert [len(line) <= 100 for line in cut] == [True] * 3
    for before, after in zip(whole[1:], cut[1:], strict=True):
        assert after.endswith("…")
        assert before.startswith(after[:-1])
    monkeypatch.setenv("COLUMNS", "20")
    for before, after in zip(whole[1:], on_terminal(filled, 20, "parked")[1:], strict=True):
        assert re.search(r"(shop/\S+).*\d\d:\d\d:\d\d", before)[0] in after  # type: ignore[index]
    events = on_terminal(filled, 20, "show", "shop/order/o-1")
    assert any(line.endswith('shop/order/o-1/0/replay_result/0  {"receipt":…') for line in events)


def test_q2_no_control_sequence_reaches_a_terminal(filled: str) -> None:
    """Q2: of names, errors, messages and log lines; tables and JSON alike."""
    with raw(filled) as other:
        other.run("UPDATE replay_events SET type = 9 WHERE `key` LIKE ?", "paint/mix/red%")
        other.add(Key("paint", "mix", shop.ESCAPE + "2"))
    for command in ("runs", "parked", "tail --after 0 --to-head", "show shop/broken/b-1"):
        for json_too in ([], ["--json"]):
            code, out, errors = run(filled, *command.split(), *json_too)
            assert (code, out) != (0, "")
            assert not [c for c in out + errors if not c.isprintable() and c != "\n"]


# Events as they come.


def test_q2_follow_shows_a_run_to_its_end(filled: str) -> None:
    """Q2: what is there, then what comes, across a restart; the exit code tells a failure."""

    def twice(ctx: RunContext, round: int) -> None:
        ctx.await_signal(1, timedelta(hours=1))
        if round == 2:
            raise ValueError("never in this test")
        ctx.restart(2)

    with stepped(filled) as client:
        consumer = register_workflow(client, "shop", twice, start=False)
        matcher = client.loops()[1]
        client.run_workflow("shop", twice, "t", 1)
        drain(consumer)
        with started(filled, "show", "shop/twice/t", "--follow", "--json") as process:
            assert process.stdout is not None
            seen = [json.loads(process.stdout.readline()) for _ in range(3)]
            client.signal_run("shop", twice, "t", 1, "go", "1")
            drain(matcher, consumer)
            client.cancel_run("shop", twice, "t", "enough")
            drain(matcher, consumer)
            rest, _ = process.communicate(timeout=LIMIT)
            assert process.returncode == 1
    seen += map(json.loads, rest.splitlines())
    assert [(each["type"], each["iteration"]) for each in seen[1:]] == [
        ("created", 0),
        ("request", 0),
        ("response", 0),
        ("completed", 0),
        ("created", 1),
        ("request", 1),
        ("response", 1),
        ("output", 1),
        ("completed", 1),
    ]
    assert [each["id"] for each in seen[1:]] == sorted({each["id"] for each in seen[1:]})


def test_q2_ctrl_c_ends_a_tail(filled: str) -> None:
    """Q2: with the usual code, and without a traceback."""
    with started(filled, "tail", "--after", "0") as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=LIMIT)
        assert (process.returncode, errors) == (130, "")


def test_q2_a_tail_begins_at_the_head(filled: str) -> None:
    """Q2: and prints each event at once, also into a pipe."""
    with started(filled, "tail", "--json") as process, stepped(filled) as client:
        assert process.stdout is not None
        for n in range(1000):  # those before it has begun are not shown
            client.run_workflow("shop", "order", f"new {n}", None)
            if select.select([process.stdout], [], [], 0.2)[0]:
                assert json.loads(process.stdout.readline())["run"].startswith("new ")
                return
        pytest.fail("it prints nothing")


# Databases.


def test_q2_an_empty_database_has_nothing(tmp_path: Path) -> None:
    """Q2: an empty file becomes a log; the lists are empty, and that is no error."""
    (tmp_path / "empty.db").touch()
    url = f"sqlite:///{tmp_path / 'empty.db'}"
    for command in ("runs", "parked", "consumers"):
        assert run(url, command) == (0, "", "replay: there are none\n")
        assert run(url, command, "--json") == (0, "", "")
    assert run(url, "tail", "--after", "0", "--to-head") == (0, "", "")
    assert run(url, "show", "a/b/c")[0] == 1


def test_q2_a_mistyped_file_is_not_made(tmp_path: Path) -> None:
    """Q2: a command on a log that is not there says so, and leaves nothing behind."""
    missing = tmp_path / "missing.db"
    for command in (["runs"], ["start", "a/b/c"]):
        expected = f"replay: there is no file {missing}: is the URL right?\n"
        assert run(f"sqlite:///{missing}", *command) == (3, "", expected)
    assert list(tmp_path.iterdir()) == []


def test_q2_a_database_that_is_down(tmp_path: Path) -> None:
    """Q2: the exit code tells scripts to try again later; a server that is down is the same."""
    for url in ("mysql://u:secret@127.0.0.1:1/replay", "grpc://127.0.0.1:1"):
        code, out, errors = run(url, "runs")
        assert (code, out) == (3, "")
        assert re.fullmatch(r"replay: .*127\.0\.0\.1:1.*\n", errors)
        assert "secret" not in errors


def test_q2_a_database_that_refuses(filled: str, tmp_path: Path) -> None:
    """Q2: too new, or no database at all: trying again does not help."""
    with closing(sqlite3.connect(tmp_path / "replay.db")) as other:
        other.execute("UPDATE replay_meta SET value = '1000' WHERE name = 'schema_version'")
        other.commit()
    code, out, errors = run(filled, "runs")
    assert (code, out, errors.count("\n")) == (4, "", 1)
    (tmp_path / "text.db").write_text("this is no database, but a text\n" * 100)
    assert run(f"sqlite:///{tmp_path / 'text.db'}", "runs")[0] == 4


def test_q2_a_database_that_is_read_only() -> None:
    """Q2: it says what is missing, and the exit code that trying again does not help."""
    folder = Path(tempfile.mkdtemp())
    url = f"sqlite:///{folder / 'replay.db'}"
    shop.fill(url)
    for each in folder.iterdir():
        each.chmod(0o444)
    folder.chmod(0o555)
    with unprivileged():
        printed = commands.run("runs", url)
    folder.chmod(0o755)
    shutil.rmtree(folder)
    expected = (
        "! replay: URL is read-only: give this user write access to the file and its directory"
    )
    assert printed == f"{expected}\n[4]\n"


def test_q2_no_url_is_a_wrong_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Q2: it says what to give."""
    assert run("", "runs") == (2, "", "replay: say which log: --url URL, or set REPLAY_URL\n")
    code, _, errors = run("sqlite://", "runs")
    assert (code, errors) == (
        2,
        "replay: a log in memory ends with its process: name a file or a server\n",
    )
    assert run("postgres://h/d", "runs")[0] == 2


def test_q2_long_lists_come_page_by_page(filled: str) -> None:
    """Q2: of more runs than a page holds each comes once, newest first."""
    names = [f"{n:04}" for n in range(2100)]
    with stepped(filled) as client:
        start_runs(client, *names)
    code, out, _ = run(filled, "runs", "ns", "--limit", "0", "--json")
    assert code == 0
    assert [json.loads(line)["run"] for line in out.splitlines()] == names[::-1]
    _, out, errors = run(filled, "runs", "ns", "--limit", "1001", "--json")
    assert [json.loads(line)["run"] for line in out.splitlines()] == names[:-1002:-1]
    assert errors == "replay: there are more than these 1001: --limit 0 shows all\n"
