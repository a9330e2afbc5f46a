"""What `replay server --metrics` serves, to whom, and how much at a time (Q5)."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from replay import ActivityContext, RunContext, connect, register_activity, register_workflow
from replay.server.access import load, new_token
from replay.server.limits import check_fields
from replay.server.options import BadSetup, Options
from replay.server.proto import log_pb2 as pb
from replay.server.services import BadRequest, _attempts
from replay.storage.database import Error
from replay.tools import exporter
from replay.tools.exporter import Exporter
from tests.exposition import OF_CONSUMERS, OF_LOGS, OF_SERVERS, labels, values
from tests.serving import Serving, serving

LIMIT = 60  # seconds until something that has to happen has not happened


def scrape(address: str, token: str = "", path: str = "/metrics") -> tuple[int, str]:
    """The status and the text."""
    request = urllib.request.Request(f"http://{address}{path}")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=LIMIT) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


class Process:
    """A server in a process of its own."""

    def __init__(self, url: str, *options: str) -> None:
        command = [sys.executable, "-m", "replay", "server", "--db", url]
        command += ["--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", *options]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        said = [self._process.stdout.readline() for _ in range(2)]
        self.url = f"grpc://{said[0].split()[-1]}"
        found = re.fullmatch(r"replay: metrics on http://(127\.0\.0\.1:\d+)/metrics\n", said[1])
        assert found is not None, said
        self.metrics = found[1]

    def end(self) -> int:
        self._process.terminate()
        self._process.communicate(timeout=LIMIT)
        return self._process.returncode

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


class Price:
    """An activity that fails once."""

    def __init__(self) -> None:
        self.failed = False

    def __call__(self, ctx: ActivityContext, backends: Any, number: int) -> int:
        if not self.failed:
            self.failed = True
            raise ValueError("no price yet")
        return number


def order(ctx: RunContext, number: int) -> None:
    ctx.exec_activity("price", number)


def test_q5_a_server_serves_what_its_sessions_and_databases_say(url: str) -> None:
    """Q5: scraped over HTTP from a server's process, of an activity that fails once."""
    with closing(Process(url)) as server:
        with connect(server.url) as client:
            register_workflow(client, "shop", order)
            register_activity(client, "shop", Price().__call__, name="price")
            client.run_workflow("shop", order, "a-run-id", 1)
            client.await_completion("shop", order, "a-run-id", LIMIT)
        with connect(server.url):  # the first client's commits are answered, so they are counted
            status, text = scrape(server.metrics)
        assert server.end() == 0
    assert (status, labels(text)) == (200, OF_CONSUMERS | OF_LOGS | OF_SERVERS)
    assert "a-run-id" not in text
    found = values(text)
    consumers = {key[1] for key in found if key[0] == "replay_queue_age_seconds"}
    assert consumers >= {
        "workflow/shop/order",
        "activity/shop/price",
        "replay_sleep",
        "replay_signal",
    }
    price = "activity/shop/price"
    assert found["replay_activity_seconds_count", price] == 2
    assert found["replay_failures_total", price] == found["replay_retries_total", price] == 1
    assert found["replay_added_total", price] == 1
    assert found["replay_added_total", "workflow/shop/order"] == 2
    assert found["replay_parked", price, ""] == 0
    assert (found["replay_owned", price, ""], found["replay_owned", "replay_sleep", ""]) == (0, 1)
    assert found["replay_server_sessions",] >= 1
    assert found["replay_server_waiting",] >= 1
    assert found["replay_database_up", ""] == 1


@contextmanager
def exported(tmp_path: Path, **options: Any) -> Iterator[tuple[Serving, str]]:
    """A server in this process, and the address of its metrics."""
    exporter = Exporter("127.0.0.1:0")
    with serving(f"sqlite:///{tmp_path / 'replay.db'}", **options) as server:
        loop = server._loop

        def run(work: Any) -> None:
            asyncio.run_coroutine_threadsafe(work, loop).result(LIMIT)

        run(exporter.start(server.server))
        yield server, f"127.0.0.1:{exporter.port}"
        run(exporter.stop())


def test_q5_g4_with_tokens_a_scrape_needs_one_for_all_namespaces(tmp_path: Path) -> None:
    """Q5, G4: metrics name what every namespace does, so nobody else may read them."""
    every, one = new_token("watch", ["*"], "read"), new_token("shop", ["orders"], "write")
    (tmp_path / "tokens.toml").write_text(every[1] + one[1])
    access = load(tmp_path / "tokens.toml")
    with exported(tmp_path, access=access) as (_, address):
        assert scrape(address, every[0])[0] == 200
        assert scrape(address, one[0]) == (
            401,
            "token 'shop' is not for all namespaces, but metrics are\n",
        )
        for wrong in ("", every[0][:-1]):
            status, text = scrape(address, wrong)
            assert (status, "replay_" in text) == (401, False)


def test_q5_other_paths_and_methods_show_nothing(tmp_path: Path) -> None:
    """Q5: there is one page."""
    with exported(tmp_path) as (_, address):
        assert scrape(address, path="/metrics?x=1")[0] == 200
        assert scrape(address, path="/")[0] == scrape(address, path="/metricsx")[0] == 404
        host, _, port = address.partition(":")
        with socket.create_connection((host, int(port)), LIMIT) as other:
            other.sendall(b"POST /metrics HTTP/1.1\r\n\r\n")
            assert other.makefile("rb").readline() == b"HTTP/1.1 404 Not Found\r\n"


def test_q5_scrapes_are_bounded_in_number_length_and_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Q5: one that connects and says nothing, or much, takes a place for ten seconds at most."""
    monkeypatch.setattr(exporter, "_SCRAPES", 1)
    with exported(tmp_path) as (_, address):
        host, _, port = address.partition(":")

        def opened() -> socket.socket:
            return socket.create_connection((host, int(port)), LIMIT)

        with opened() as talks:
            talks.sendall(b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 9000)
            assert ended(talks)
        with opened() as silent:
            silent.sendall(b"GET /metrics HTTP/1.1\r\n")
            with opened() as second:
                assert ended(second)
            silent.sendall(b"\r\n")
            assert silent.makefile("rb").readline() == b"HTTP/1.1 200 OK\r\n"
        monkeypatch.setattr(exporter, "_PATIENCE", 0.01)
        with opened() as silent:
            assert ended(silent)


def test_q5_an_error_of_a_scrape_is_logged_and_ends_its_connection(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Q5: Prometheus sees a scrape that failed, not one that never ends."""
    with exported(tmp_path) as (server, address):
        server.server._hosts.all()[0].client.log.now = broken  # type: ignore[method-assign]
        with pytest.raises((urllib.error.URLError, ConnectionError)):
            scrape(address)
    assert "a scrape got no answer" in caplog.messages


def broken() -> Any:
    raise RuntimeError("no clock")


def ended(connection: socket.socket) -> bool:
    """Whether the other side ends the connection without a word."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_q5_refused_calls_are_counted_by_reason(tmp_path: Path) -> None:
    """Q5: a token that somebody tries out shows."""
    watch, one = new_token("watch", ["*"], "read"), new_token("shop", ["orders"], "write")
    (tmp_path / "tokens.toml").write_text(watch[1] + one[1])
    with exported(tmp_path, access=load(tmp_path / "tokens.toml")) as (server, address):
        with pytest.raises(Error):
            connect(f"{server.url}?token=wrong")
        with connect(f"{server.url}?token={one[0]}") as client, pytest.raises(Error):
            client.run_workflow("payments", "w", "r", 1)
        found = values(scrape(address, watch[0])[1])
    refused = {key[1]: count for key, count in found.items() if key[0].endswith("refused_total")}
    assert refused == {"token": 1, "rights": 1, "limit": 0}


def test_q5_strangers_reach_no_metrics(tmp_path: Path) -> None:
    """Q5, G4: like --listen, --metrics listens on loopback unless --insecure allows more."""
    databases = {"": "sqlite://"}
    for text in ("localhost", "h:99999", ":80"):
        with pytest.raises(BadSetup, match=r"--metrics .*: expected host:port"):
            Options(databases=databases, metrics=text).check()
    with pytest.raises(BadSetup, match=r"--metrics 0\.0\.0\.0:9464 can be reached from other"):
        Options(databases=databases, metrics="0.0.0.0:9464").check()
    with pytest.raises(BadSetup, match="cannot ask for the certificates of --client-ca"):
        Options(
            databases=databases,
            metrics="127.0.0.1:9464",
            certificate=b"a",
            key=b"b",
            client_ca=b"c",
        ).check()
    Options(databases=databases, metrics="0.0.0.0:9464", insecure=True).check()
    Options(databases=databases, metrics="[::1]:9464").check()


def test_q5_an_address_in_use_is_said_in_one_line(tmp_path: Path) -> None:
    """Q5: nothing is served then."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "replay", "server", "--db", "sqlite://"]
        command += ["--listen", "127.0.0.1:0", "--metrics", f"127.0.0.1:{port}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith(f"replay: --metrics 127.0.0.1:{port}: ")


@pytest.mark.parametrize(
    "wrong",
    [
        pb.Attempts(failed=-1),
        pb.Attempts(retried=2**40),
        pb.Attempts(seconds=[float("nan")]),
        pb.Attempts(seconds=[float("inf")]),
        pb.Attempts(seconds=[-1.0]),
        pb.Attempts(seconds=[1.0] * 20_000),
    ],
    ids=["negative", "many", "nan", "infinite", "past", "long"],
)
def test_q5_figures_of_a_client_are_checked(wrong: pb.Attempts) -> None:
    """Q5: a NaN would spoil a sum for good, and a large number a rate."""
    with pytest.raises(BadRequest):
        _attempts(wrong)


def test_q5_a_full_commit_may_have_a_duration_for_each_event() -> None:
    """Q5, G5: durations take no more memory than bytes, so they are not among the 3,000 parts."""
    events = [pb.Event(type=5, key="ns/w/r/0/a/0", message=b"x" * 20)] * 2000
    move = pb.Move(consumer="activity/ns/a", attempts=pb.Attempts(seconds=[0.1] * 2000))
    request = pb.CommitRequest(session="s", events=events, move=move)
    check_fields(pb.CommitRequest.DESCRIPTOR, request.SerializeToString())


def test_q5_a_metrics_function_that_raises_fails_no_commit_of_a_server(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Q5: the session's commit is stored and answered."""

    def broken(consumer: str, measure: str, figure: float) -> None:
        raise ValueError("no figures")

    with serving(f"sqlite:///{tmp_path / 'replay.db'}") as server:
        server.host()._metrics = broken
        with connect(server.url) as client:
            consumer = register_workflow(client, "shop", end, start=False)
            client.run_workflow("shop", end, "r", 1)
            while client.log.last_iteration("shop", "end", "r")[1] != 0:
                consumer.step()
        assert server.host()._metrics is None
    assert [each for each in caplog.messages if "is not measured any more" in each] == [
        "workflow/shop/end is not measured any more: its metrics function failed"
    ]


def end(ctx: RunContext, number: int) -> None:
    pass
