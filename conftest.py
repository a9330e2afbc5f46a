"""Which databases the suite runs on: SQLite always, and real servers.

The process that collects starts one private server of each kind that is installed, or takes the
servers named in REPLAY_TEST_URLS; xdist's workers share them.  With no server the suite fails:
it never skips.  The last line that a run prints counts the tests marked `slow` that it left out.
"""

import contextlib
import gc
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from replay.tools.audit import audited
from replay.tools.tables import NoLog
from tests.servers import (
    DISK,
    NOT_FOUND,
    Server,
    ServerError,
    fresh_database,
    label,
    private_servers,
    started,
)
from tests.serving import serving


class Behind(NamedTuple):
    """A database that is reached through a server of our own."""

    database: str | None


_OFTEN = ("tests/crash/", "tests/project/", "tests/simulation/", "tests/server/test_fuzz")
SERVERS = pytest.StashKey[list[tuple[str, str]]]()  # the id that tests bear, and the URL
MAKERS = pytest.StashKey[dict[str, Callable[[], Server]]]()
STARTED = pytest.StashKey[contextlib.ExitStack]()
LEFT = pytest.StashKey[Counter[str]]()  # files of slow tests that were left out, and how many


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Have the servers running before tests are collected and workers are started."""
    config = session.config
    # A script's background job ignores SIGINT, and so would all that tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        config.stash[MAKERS] = private_servers(DISK)
        if hasattr(config, "workerinput"):
            config.stash[SERVERS] = config.workerinput["replay_servers"]
        else:
            config.stash[STARTED] = contextlib.ExitStack()
            config.stash[SERVERS] = _servers(config)
    except ServerError as error:
        raise pytest.UsageError(str(error)) from error


def _servers(config: pytest.Config) -> list[tuple[str, str]]:
    named = os.environ.get("REPLAY_TEST_URLS", "").split()
    if named:
        return [(label(url), url) for url in named]
    makers, stack = private_servers(), config.stash[STARTED]
    if not makers:
        raise ServerError(NOT_FOUND)
    return [(kind, stack.enter_context(started(make)).url) for kind, make in makers.items()]


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Measure no coverage where the same is done a thousand times: it takes three times as long.

    Nor where what SQLite has shown is done again on a server, ours or a database's: `tests/server`
    and `tests/storage` cover these.
    """
    for item in items:
        often = item.location[0].startswith(_OFTEN)
        server = "mariadb" in item.name or "server-" in item.name
        again = server and not item.location[0].startswith(("tests/storage/", "tests/server/"))
        if often or again or item.get_closest_marker("slow"):
            item.add_marker("no_cover")


def pytest_collection_finish() -> None:
    """Leave what was collected out of each later look for garbage: it is a million objects."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Start processes without coverage, too, where it is not measured."""
    name = "COVERAGE_PROCESS_CONFIG"
    config = os.environ.pop(name, None) if item.get_closest_marker("no_cover") else None
    try:
        yield
    finally:
        if config is not None:
            os.environ[name] = config


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of xdist where the servers are."""
    node.workerinput["replay_servers"] = node.config.stash[SERVERS]


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """Count the slow tests that `-m "not slow"` leaves out."""
    for item in items:
        if item.config.option.markexpr == "not slow" and item.get_closest_marker("slow"):
            item.config.stash.setdefault(LEFT, Counter())[item.location[0]] += 1


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Have a worker of xdist tell what it left out: only workers collect."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["replay_left"] = dict(session.config.stash.get(LEFT, {}))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what a worker left out: each leaves out the same."""
    if left := getattr(node, "workeroutput", {}).get("replay_left"):
        node.config.stash[LEFT] = Counter(left)


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the servers, however the tests ended, and say at the very end what was left out."""
    if STARTED in config.stash:
        config.stash[STARTED].close()
    if not hasattr(config, "workerinput") and (left := config.stash.get(LEFT, None)):
        files = ", ".join(f"{count} of {file}" for file, count in left.most_common())
        print(f"left to ./dev test --all: {left.total()} tests: {files}", flush=True)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test once on every database that its fixture stands for."""
    servers = metafunc.config.stash[SERVERS]
    makers = metafunc.config.stash[MAKERS]
    choices: dict[str, list[tuple[str, Any]]] = {
        "url": [("sqlite", None), *servers],
        "server_url": list(servers),
        # pytest would skip a test that has nothing to choose from; None makes the fixture fail.
        "own_server": [*makers.items()] or [("none", None)],
    }
    if metafunc.definition.get_closest_marker("contract") and not (
        metafunc.definition.get_closest_marker("embedded")
    ):
        choices["url"] += [(f"server-{id}", Behind(inner)) for id, inner in choices["url"]]
    for name, choice in choices.items():
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, _params(metafunc, choice), indirect=True)


def _params(metafunc: pytest.Metafunc, choice: Sequence[tuple[str, Any]]) -> list[Any]:
    slow = metafunc.definition.get_closest_marker("slow_on_servers") is not None
    return [
        pytest.param(value, id=id, marks=[pytest.mark.slow] if slow and value is not None else [])
        for id, value in choice
    ]


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Give the URL of an empty database, on SQLite and on every server.

    For a test marked `contract` also those of servers of our own, in front of such databases.
    """
    behind = isinstance(request.param, Behind)
    with contextlib.ExitStack() as stack:
        inner = request.param.database if behind else request.param
        if inner is None:
            fresh = f"sqlite:///{tmp_path / 'replay.db'}"
        else:
            fresh = stack.enter_context(fresh_database(inner))
        yield stack.enter_context(serving(fresh)).url if behind else fresh
        _audit(request, fresh)


def _audit(request: pytest.FixtureRequest, url: str) -> None:
    """Have the log that a test leaves keep its promises, unless the test damages it on purpose.

    Only on SQLite, where it takes 3 ms: on a server it takes several times as long.
    """
    there = Path(url.removeprefix("sqlite:///")).exists()
    if there and request.node.get_closest_marker("damages") is None:
        with contextlib.suppress(NoLog):
            found = list(audited(url))
            # Tests of consumers write requests of runs that need not begin.
            strays = {each.run for each in found if "never began" in each.problem}
            ours = [str(each) for each in found if each.run not in strays]
            assert not ours, "\n".join(ours)


@pytest.fixture
def server_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Give the URL of an empty database on every server; for what SQLite does not have."""
    with fresh_database(request.param) as fresh:
        yield fresh


@pytest.fixture
def own_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Give a running server that the test may kill, freeze and start again."""
    if request.param is None:
        pytest.fail(NOT_FOUND)
    with started(request.param) as server:
        yield server
