"""The page's server without a browser: what it serves, and what it refuses."""

from __future__ import annotations

import base64
import contextlib
import http.client
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from replay import Client, Event, connect, register_workflow
from replay.server.options import BadSetup, address
from replay.storage.database import Unavailable
from replay.tools import page as pages
from replay.tools import ui
from replay.tools.page import Filter, Frame
from replay.tools.ui import make_edge
from tests.serving import serving
from tests.support import raw
from tests.tools.served import FORM, Served
from tests.tools.test_cli import bare

TOKEN = "a-token-of-sixteen-characters"


def greet(ctx: Any, name: str) -> str:
    """Wait for a signal, then answer."""
    answer = ctx.await_signal(1, timedelta(days=1))
    return f"{name} {answer.message}"


def fail(ctx: Any, name: str) -> None:
    """A workflow with a bug."""
    raise ValueError("no <b>luck</b>")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    """A client of a log with a run that waits."""
    with connect(f"sqlite:///{tmp_path / 'ui.db'}") as client:
        register_workflow(client, "shop", greet)
        assert client.run_workflow("shop", "greet", "one", "Hello")
        yield client


@pytest.fixture
def page(client: Client) -> Iterator[Served]:
    """The page of that log, which can write."""
    with Served(client, write=True) as page:
        yield page


# What it serves.


def test_q3_it_shows_runs_and_lets_you_act(client: Client, page: Served) -> None:
    """Q3: a run waits, a form sends its signal, and its result is in the list."""
    address = "/run/shop/greet/one"
    for event in client.stream("shop"):
        if event.key.target == "replay_signal":
            break
    status, _, text = page.ask("GET", address)
    assert status == 200
    external_id = re.search(r'name="external_id" value="(page:[0-9a-f]{16})"', text)
    assert external_id is not None
    fields = {"type": "1", "message": '"World"', "external_id": external_id[1]}
    status, headers, _ = page.post(f"{address}/signal", **fields)
    assert (status, headers["Location"]) == (303, f"{address}?done=signalled")
    assert page.post(f"{address}/signal", **fields)[1]["Location"] == f"{address}?done=sent-before"
    assert client.result("shop", "greet", "one", timeout=30) == "Hello World"
    assert "Hello World" in page.ask("GET", "/")[2]
    assert "signal 1" in page.ask("GET", f"{address}?done=signalled")[2]


def test_q3_a_run_is_cancelled_and_started(client: Client, page: Served) -> None:
    """Q3: with --write, once each."""
    names = {"namespace": "shop", "workflow": "greet", "run": "two words"}
    status, headers, _ = page.post("/start", **names, message='"Hi"')
    address = "/run/shop/greet/two%20words"
    assert (status, headers["Location"]) == (303, f"{address}?done=started")
    location = page.post("/start", **names, message='"Hi"')[1]["Location"]
    assert location == f"{address}?done=started-before"
    location = page.post(f"{address}/cancel", reason="no longer", terminate="yes")[1]["Location"]
    assert location == f"{address}?done=cancelled"
    with pytest.raises(Exception, match="no longer"):
        client.result("shop", "greet", "two words", timeout=30)
    location = page.post(f"{address}/cancel")[1]["Location"]
    assert location == f"{address}?done=not-cancelled"


def test_q3_a_filter_finds_runs_and_a_full_name_leads_to_one(page: Served) -> None:
    """Q3: one field for a namespace, a workflow or a run."""
    assert "one" in page.ask("GET", "/?q=shop")[2]
    assert 'id="runs"' not in page.ask("GET", "/?q=shop/other")[2]
    assert 'id="runs"' not in page.ask("GET", "/?q=shop&status=failed&since=1h")[2]
    status, headers, _ = page.ask("GET", "/?q=shop/greet/one")
    assert (status, headers["Location"]) == (303, "/run/shop/greet/one")


def test_q3_every_page_is_there(page: Served) -> None:
    """Q3: the list, a run, consumers and the log, with their files."""
    for path in ("/", "/run/shop/greet/one", "/consumers", "/log", "/log?q=shop/greet"):
        status, headers, text = page.ask("GET", path)
        assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8"), path
        assert "greet" in text, path
    for path, kind in (("/page.css", "css"), ("/page.js", "javascript"), ("/icon.svg", "svg")):
        status, headers, text = page.ask("GET", path)
        assert status == 200
        assert kind in headers["Content-Type"]
        assert int(headers["Content-Length"]) == len(text.encode())


def test_q3_what_has_not_changed_is_not_sent_again(page: Served) -> None:
    """Q3: a page that polls costs little; HEAD has no body."""
    _, headers, _ = page.ask("GET", "/consumers")
    assert page.ask("GET", "/page.css", If_None_Match='"x"')[0] == 200
    mark = page.ask("GET", "/page.css")[1]["ETag"]
    status, _, text = page.ask("GET", "/page.css", If_None_Match=mark)
    assert (status, text) == (304, "")
    assert page.ask("HEAD", "/page.css")[::2] == (200, "")
    assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nothing", 404),
        ("/run/shop/greet/none", 404),
        ("/run/shop/greet", 404),
        ("/run/shop/greet/one/more", 404),
        ("/static/page.css", 404),
        ("/../ui.py", 404),
        ("/run/shop/greet/%00", 400),
        ("/run/shop/greet/a%2Fb", 400),
        ("/?after=x", 400),
        ("/?after=-1", 400),
        ("/?status=odd", 400),
        ("/run/shop/greet/one?iteration=x", 400),
        ("/run/shop/greet/one?row=" + "9" * 30, 400),
        ("/?q=" + "x" * 9000, 414),
        ("/?" + "&".join(f"a{n}=1" for n in range(99)), 400),
    ],
)
def test_q3_a_bad_address_is_answered_with_a_page(path: str, status: int, page: Served) -> None:
    """Q3: whatever the address, there is an answer, and no traceback in it."""
    found, headers, text = page.ask("GET", path)
    assert (found, headers["Content-Type"]) == (status, "text/html; charset=utf-8")
    assert "Traceback" not in text


def test_q3_it_says_when_the_log_is_out_of_reach(
    client: Client, page: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Q3: with 503, so that the page keeps what it has, and tries again."""

    def gone(*_: object, **__: object) -> None:
        raise Unavailable("the database has <gone>")

    monkeypatch.setattr(client, "consumers", gone)
    status, _, text = page.ask("GET", "/consumers")
    assert status == 503
    assert "the database has &lt;gone&gt;" in text


def test_q3_a_bug_is_logged_and_tells_nothing(
    client: Client,
    page: Served,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Q3: an exception nobody expected does not reach the browser."""

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(client, "consumers", broken)
    with caplog.at_level(logging.ERROR, "replay"):
        status, _, text = page.ask("GET", "/consumers")
    assert (status, "a secret" in text, "a secret" in caplog.text) == (500, False, True)


def test_q3_a_run_is_read_as_far_as_all_shards_of_its_workflow(tmp_path: Path) -> None:
    """Q3: and not as far as another workflow whose name begins like it."""
    cursors = {"order/1_of_2": 5, "order/2_of_2": 3, "order": 9, "orders": 1, "orde": 1}
    with connect(url := f"sqlite:///{tmp_path / 'replay.db'}") as client, raw(url) as other:
        columns = "(id, last_event_id, owner, updated_at)"
        for name, at in cursors.items():
            sql = f"INSERT INTO replay_cursors {columns} VALUES (?, ?, '', '')"
            other.run(sql, f"workflow/shop/{name}", at)
        site = ui.Site(client)
        assert site._handled("shop", "order") == 3
        assert site._handled("shop", "none") is None


def test_q3_it_works_on_a_server(tmp_path: Path) -> None:
    """Q3: a client of a server has the same pages."""
    with serving(f"sqlite:///{tmp_path / 'far.db'}") as far, connect(far.url) as client:
        register_workflow(client, "shop", greet)
        client.run_workflow("shop", "greet", "one", "Hello")
        with Served(client, write=True) as page:
            for path in ("/", "/run/shop/greet/one", "/consumers", "/log"):
                status, _, text = page.ask("GET", path)
                assert (status, "greet" in text) == (200, True), path


def test_q3_a_parked_run_says_why(client: Client, page: Served) -> None:
    """Q3: the error is in the row, on the run's page and with the consumers."""
    client.run_workflow("shop", "fail", "bad", "x")
    consumer = register_workflow(client, "shop", fail, start=False)
    while not client.parked("shop", "fail"):
        consumer.step()
    for path in ("/", "/run/shop/fail/bad", "/consumers"):
        assert "no &lt;b&gt;luck&lt;/b&gt;" in page.ask("GET", path)[2], path


# What it refuses.


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "127.0.0.1.evil.example",
        "localhost.",
        "10.0.0.1",
        "",
        None,
        "[::1",
        "127.0.0.1@evil.example:80",
        "evil.example#localhost",
    ],
)
def test_q3_a_foreign_host_is_refused(host: str | None, page: Served) -> None:
    """Q3: a name of somebody else's that leads to this machine reads nothing, and no file."""
    for path in ("/", "/page.css"):
        status, _, text = page.ask("GET", path, Host=host)
        assert (status, "greet" in text) == (421, False)
    assert page.ask("POST", "/start", "token=", Host=host)[0] == 421


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:99", "[::1]:8080"])
def test_q3_loopback_has_several_names(host: str, page: Served) -> None:
    """Q3: and a tunnel may lead here from any port."""
    assert page.ask("GET", "/", Host=host)[0] == 200


def test_q3_two_hosts_are_refused(page: Served) -> None:
    """Q3: a proxy might look at the other one."""
    with socket.create_connection(("127.0.0.1", page.port), timeout=30) as line:
        line.sendall(f"GET / HTTP/1.0\r\nHost: {page.host}\r\nHost: evil\r\n\r\n".encode())
        assert b" 421 " in line.makefile("rb").readline()


def test_q3_without_write_nothing_is_changed(client: Client) -> None:
    """Q3: no form is shown, and none is accepted."""
    with Served(client) as page:
        for path in ("/", "/run/shop/greet/one", "/consumers"):
            assert 'method="post"' not in page.ask("GET", path)[2]
        for path in ("/start", "/run/shop/greet/one/cancel", "/run/shop/greet/one/signal"):
            assert page.post(path)[0] == 403
        assert client.describe("shop", "greet", "one").status in ("running", "waiting")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
    ],
    ids=str,
)
def test_q3_a_form_of_another_site_is_refused(headers: dict[str, str], page: Served) -> None:
    """Q3: even if it had the secret of our forms."""
    body = urlencode({"token": page.site.token or ""})
    status, _, text = page.ask("POST", "/run/shop/greet/one/cancel", body, **headers)
    assert (status, "another site" in text) == (403, True)


@pytest.mark.parametrize("token", ["", "x", "%00", "ü"])
def test_q3_a_form_without_its_secret_is_refused(token: str, page: Served) -> None:
    """Q3: whatever headers a browser leaves out."""
    status, _, text = page.ask("POST", "/run/shop/greet/one/cancel", f"token={token}")
    assert (status, "out of date" in text) == (403, True)


def test_q3_only_a_form_is_accepted(page: Served) -> None:
    """Q3: of a size that is told, and small."""
    path = "/run/shop/greet/one/cancel"
    assert page.ask("POST", path, "{}", Content_Type="application/json")[0] == 415
    assert page.ask("POST", path, "{}", Content_Type="text/plain")[0] == 415
    assert page.ask("POST", path, "", Content_Length=None)[0] == 411
    assert page.ask("POST", path, "", Content_Length="-1")[0] == 411
    assert page.ask("POST", path, "", Content_Length=str(2 << 20))[0] == 413
    assert page.post("/run/shop/greet/one/burn")[0] == 404
    assert page.post("/nothing")[0] == 404


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"type": "x"}, 400),
        ({"type": "999"}, 400),
        ({"type": "1", "message": "{"}, 400),
        ({"type": "1", "message": "[" * 100_000}, 400),
        ({"type": "1", "message": "NaN"}, 400),
        ({"type": "1", "external_id": "x" * 256}, 400),
    ],
    ids=range(6),
)
def test_q3_a_bad_form_is_refused(fields: dict[str, str], status: int, page: Served) -> None:
    """Q3: with the reason, and nothing is stored."""
    assert page.post("/run/shop/greet/one/signal", **fields)[0] == status


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get"])
def test_q3_other_methods_are_refused(method: str, page: Served) -> None:
    """Q3: there is GET, HEAD and POST."""
    status, headers, _ = page.ask(method, "/")
    assert status == 501
    assert "Access-Control-Allow-Origin" not in headers


def test_q3_every_answer_has_the_headers_that_keep_it_apart(page: Served) -> None:
    """Q3: also errors and files; no script or style but our own two files."""
    for path in ("/", "/nothing", "/page.js"):
        headers = page.ask("GET", path)[1]
        policy = dict(
            part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";")
        )
        assert policy == {
            "default-src": "'none'",
            "style-src": "'self'",
            "script-src": "'self'",
            "connect-src": "'self'",
            "img-src": "'self'",
            "form-action": "'self'",
            "base-uri": "'none'",
            "frame-ancestors": "'none'",
            "require-trusted-types-for": "'script'",
        }
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "same-origin"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert headers["Server"].strip() == "replay"


# Tokens.


def _basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"anybody:{password}".encode()).decode()


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (None, 401),
        ("", 401),
        ("Bearer", 401),
        ("Bearer wrong", 401),
        (f"Digest {TOKEN}", 401),
        ("Basic %%%", 401),
        (_basic("wrong"), 401),
        (_basic(""), 401),
        (f"Bearer {TOKEN}", 200),
        (f"bearer  {TOKEN} ", 200),
        (_basic(TOKEN), 200),
    ],
)
def test_q3_a_token_is_asked_for(given: str | None, status: int, client: Client) -> None:
    """Q3: by every request, also for files; the answer without one says nothing about the log."""
    with Served(client, write=True, edge=make_edge("127.0.0.1", (), TOKEN)) as page:
        for path in ("/", "/page.js"):
            found, headers, text = page.ask("GET", path, Authorization=given)
            assert found == status
            if status == 401:
                assert headers["WWW-Authenticate"].startswith("Basic ")
                assert "ui.db" not in text
        body = urlencode({"token": page.site.token or ""})
        found = page.ask("POST", "/run/shop/greet/one/cancel", body, Authorization=given)[0]
        assert found == (401 if status == 401 else 303)


def test_q3_without_a_token_it_listens_on_loopback_only() -> None:
    """Q3: other machines need a token, and a long one."""
    for host in ("0.0.0.0", "::", "192.168.0.1", "example.org"):
        with pytest.raises(BadSetup, match="--token-file"):
            make_edge(host, (), None)
        with pytest.raises(BadSetup, match="longer"):
            make_edge(host, (), "short")
        make_edge(host, (), TOKEN)
    for host in ("127.0.0.1", "::1", "localhost", "127.8.8.8"):
        make_edge(host, (), None)


def test_q3_names_of_the_page_are_given_or_are_addresses() -> None:
    """Q3: with 0.0.0.0 any address is ours, since no foreign name is one."""
    edge = make_edge("0.0.0.0", ["replay.example"], TOKEN)
    assert all(map(edge.allows_host, ("10.1.2.3:80", "[fe80::1]", "replay.example", "localhost")))
    assert not any(map(edge.allows_host, ("evil.example", "10.1.2.3.evil.example", None, "a b")))
    edge = make_edge("10.0.0.1", (), TOKEN)
    assert edge.allows_host("10.0.0.1")
    assert not edge.allows_host("10.0.0.2")


@pytest.mark.parametrize("listen", ["8080", ":8080", "x:", "x:99999", "x:1a", "x:\u0661"])
def test_q3_a_bad_address_to_listen_on_is_refused(listen: str) -> None:
    """Q3: with what is expected."""
    with pytest.raises(BadSetup, match="expected host:port"):
        address("listen", listen)


# Limits.


def test_q3_a_slow_request_has_ten_seconds_in_all(
    page: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Q3: a byte now and then does not put the end off."""
    monkeypatch.setattr(ui, "SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", page.port), timeout=30) as line:
        stop = threading.Event()

        def drip() -> None:
            with contextlib.suppress(OSError):
                while not stop.wait(0.02):
                    line.sendall(b"x")

        thread = threading.Thread(target=drip)
        thread.start()
        with contextlib.suppress(ConnectionError):
            assert line.recv(1) == b""
        stop.set()
        thread.join()


@pytest.mark.parametrize(("name", "most"), [("MOST_EVENTS", 1), ("MOST_BYTES", 1000)])
def test_q3_a_page_holds_a_bounded_part_of_a_run(
    name: str, most: int, client: Client, page: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Q3: in events and in bytes, and it says so."""
    for event in client.stream("shop"):
        if event.key.target == "replay_signal":
            break
    words = "These are the first 1 events; there are more."
    assert words not in page.ask("GET", "/run/shop/greet/one")[2]
    monkeypatch.setattr(ui, name, most)
    assert words in page.ask("GET", "/run/shop/greet/one")[2]


def test_q3_the_log_is_shown_without_its_messages(
    client: Client, page: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Q3: nothing of them is on the page, so none is kept."""
    shown: list[Event] = []
    draw = pages.log_page

    def seen(frame: Frame, events: Iterable[Event], chosen: Filter) -> str:
        shown.extend(events)
        return draw(frame, shown, chosen)

    monkeypatch.setattr(pages, "log_page", seen)
    assert page.ask("GET", "/log")[0] == 200
    assert {event.raw for event in shown} == {None}


def test_q3_many_connections_use_few_threads(page: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Q3: connections that say nothing wait for their turn, and then for their end."""
    monkeypatch.setattr(ui, "SECONDS", 1.0)
    before = threading.active_count()
    with contextlib.ExitStack() as stack:
        for _ in range(2 * ui.THREADS):
            stack.enter_context(socket.create_connection(("127.0.0.1", page.port), timeout=30))
        assert page.ask("GET", "/page.css")[0] == 200
        assert threading.active_count() - before <= ui.THREADS + 1


def test_q3_a_form_that_is_cut_off_changes_nothing(page: Served) -> None:
    """Q3: half a message is not a message."""
    body = urlencode({"token": page.site.token or ""})
    with socket.create_connection(("127.0.0.1", page.port), timeout=30) as line:
        head = f"POST /run/shop/greet/one/cancel HTTP/1.0\r\nHost: {page.host}\r\n"
        head += f"Content-Type: {FORM}\r\nContent-Length: {len(body) + 9}\r\n\r\n"
        line.sendall(f"{head}{body}".encode())
        line.shutdown(socket.SHUT_WR)
        assert b" 400 " in line.makefile("rb").readline()


# The command.


def test_q3_its_help_needs_no_extra() -> None:
    """Q3: the page of a database works without gRPC, too."""
    done = bare("replay", "ui", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "--token-file" in done.stdout


def test_q3_the_command_serves_until_it_is_told_to_end(tmp_path: Path) -> None:
    """Q3: it prints the address, and ends in order on SIGTERM."""
    url = f"sqlite:///{tmp_path / 'ui.db'}"
    with connect(url):
        pass
    token = tmp_path / "token"
    token.write_text(f"{TOKEN}\n")
    token.chmod(0o600)
    command = [sys.executable, "-m", "replay", "ui", "--url", url, "--listen", "0.0.0.0:0"]
    command += ["--token-file", str(token)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        port = int(line.rstrip().rstrip("/").rpartition(":")[2])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/", headers={"Authorization": f"Bearer {TOKEN}"})
        assert connection.getresponse().status == 200
        connection.close()
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(30) == 0


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--listen", "0.0.0.0:0"], "--token-file"),
        (["--listen", "nowhere"], "expected host:port"),
        (["--token-file", "missing"], "missing"),
    ],
)
def test_q3_a_bad_command_line_is_refused(
    arguments: list[str], problem: str, tmp_path: Path
) -> None:
    """Q3: with exit code 2 and the reason, before anything listens."""
    url = f"sqlite:///{tmp_path / 'ui.db'}"
    with connect(url):
        pass
    command = [sys.executable, "-m", "replay", "ui", "--url", url, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert problem in done.stderr
