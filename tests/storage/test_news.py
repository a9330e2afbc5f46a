"""News between processes: they arrive by themselves, and nothing depends on them (L12)."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from queue import Empty, SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest

import replay.storage.news
import replay.storage.tail
from replay import Client, RunContext, connect, register_workflow
from replay.storage.database import BadUrl, Statement, Unavailable
from replay.storage.news import News
from replay.storage.open import open_database
from replay.storage.tail import PAUSE_MAX, PAUSE_MIN, Tail
from tests.example_pb2 import Int
from tests.support import Clock, LogLines, Outage, crash, database, mine, rows, stepped, wait_for

PATIENCE = 20.0  # seconds until something that has to happen has not happened
ANNOUNCED = "SELECT process, address FROM replay_processes WHERE consumer = '' ORDER BY process"
Address = tuple[str, int]


def announced(client: Client) -> dict[str, str]:
    """The addresses in the database, by process."""
    return dict(rows(client, ANNOUNCED))


def own(client: Client) -> str:
    """How a client's process is called."""
    return client.log._process[1:]


def address(client: Client) -> Address:
    """Where a client listens."""
    host, _, port = announced(client)[own(client)].rpartition(":")
    return host, int(port)


def await_row(client: Client) -> None:
    """Have a client poll until it has announced itself."""

    def ready() -> bool:
        client.log.tail._poke.ring()
        return own(client) in announced(client)

    wait_for(ready, PATIENCE)


def send(to: Address, data: bytes) -> None:
    """Send a datagram, as anybody may."""
    with socket.socket(type=socket.SOCK_DGRAM) as sender:
        sender.sendto(data, to)


def row(client: Client, process: str, address: str, *, minutes: float = 1) -> None:
    """Announce a process that does not exist; with negative minutes, one that has died."""
    until = database(client).now() + timedelta(minutes=minutes)
    text = until.isoformat(" ", "milliseconds")[:23]
    sql = "INSERT INTO replay_processes (consumer, process, address, lease_until) VALUES"
    database(client).write([Statement(f"{sql} ('', ?, ?, ?)", (process, address, text))])


class Taken:
    """Notes each datagram that any process takes, and each call of `hear` of one client.

    The clock of all processes' news stands still until it is moved.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, client: Client) -> None:
        self.heard = 0
        self._rests: SimpleQueue[float] = SimpleQueue()
        self.now = time.monotonic()
        clock = SimpleNamespace(monotonic=lambda: self.now, sleep=self._rests.put)
        monkeypatch.setattr(replay.storage.news, "time", clock)
        monkeypatch.setattr(client.log.news, "_hear", self._hear)

    def _hear(self) -> None:
        self.heard += 1

    def next(self) -> None:
        """Wait until a datagram was taken."""
        assert self._rests.get(timeout=PATIENCE) == PAUSE_MIN

    def none(self) -> None:
        """No further datagram has come."""
        with pytest.raises(Empty):
            self._rests.get(timeout=0.05)


class Sent:
    """Stands in for the sockets that send: notes what goes where."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fails: type[OSError] | None = None) -> None:
        self.datagrams: list[tuple[bytes, Address]] = []
        self._fails = fails
        names = SimpleNamespace(socket=lambda **_: self, SOCK_DGRAM=socket.SOCK_DGRAM)
        monkeypatch.setattr(replay.storage.news, "socket", names)

    def __enter__(self) -> Sent:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def setblocking(self, flag: bool) -> None:
        """As in `socket.socket`: nobody waits for a network."""
        assert not flag

    def sendto(self, data: bytes, to: Address) -> None:
        """As in `socket.socket`."""
        self.datagrams.append((data, to))
        if self._fails is not None:
            raise self._fails

    def taken(self) -> list[Address]:
        """Where something went since the last look."""
        found, self.datagrams = [to for _, to in self.datagrams], []
        return found


def polls_only_when_told(client: Client) -> None:
    """Have the thread of a client poll only if it is woken: its pause has no end."""
    alarm = client.log.tail._poke
    wait = alarm.wait
    alarm.wait = lambda timeout: wait(None)  # type: ignore[method-assign]


@contextmanager
def listening(url: str) -> Iterator[Client]:
    """A client that is announced, and polls only if it is woken."""
    with connect(url, loops=False) as client:
        polls_only_when_told(client)
        client.log.tail.keep_polling(client.log.poll)
        await_row(client)
        wait_for(lambda: isinstance(client.log.news._addresses, list), PATIENCE)  # it has read them
        yield client


# What it is for.


def test_l12_starts_and_signals_reach_another_process_without_a_pause(url: str) -> None:
    """L12: although that process polls only if it is woken."""
    steps: SimpleQueue[str] = SimpleQueue()

    def waits(ctx: RunContext, message: Int) -> None:
        steps.put("started")
        ctx.await_signal(1, timedelta(hours=1))
        steps.put("signalled")

    with connect(url) as worker, connect(url, loops=False) as caller:
        polls_only_when_told(worker)
        register_workflow(worker, "ns", waits)
        await_row(worker)
        assert caller.run_workflow("ns", "waits", "a", Int(value=1))
        assert steps.get(timeout=PATIENCE) == "started"
        wait_for(lambda: rows(caller, "SELECT 1 FROM replay_signal_awaits"), PATIENCE)
        assert caller.signal_run("ns", "waits", "a", 1, Int(value=1), "x")
        assert steps.get(timeout=PATIENCE) == "signalled"
        worker.await_completion("ns", "waits", "a", PATIENCE)


def test_l12_whoever_waits_for_a_result_is_told(url: str) -> None:
    """L12: what a worker commits reaches a client that only waits."""
    with listening(url) as waiting, connect(url) as worker:
        register_workflow(worker, "ns", lambda ctx, message: None, name="ends")
        assert waiting.run_workflow("ns", "ends", "a", Int(value=1))
        waiting.await_completion("ns", "ends", "a", PATIENCE)


def test_l12_processes_read_soon_who_is_new(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """L12: a process that has read the list reads it again when another one says that it is new."""
    with listening(url) as old:
        taken = Taken(monkeypatch, old)
        taken.now += 60  # since it has greeted nobody
        old.run_workflow("ns", "w", "a", Int(value=1))
        assert old.log.news._addresses == []
        with listening(url) as new:
            taken.next()
            assert taken.heard == 0
            taken.now += 0.9  # at most once a second
            old.run_workflow("ns", "w", "b", Int(value=1))
            assert old.log.news._addresses == []
            taken.now += 0.2
            old.run_workflow("ns", "w", "c", Int(value=1))
            assert old.log.news._addresses == [address(new)]


# It is only a hint.


def test_l12_what_is_forged_foreign_or_large_is_not_heard(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L12: only the equal text counts, and a process goes on whatever it gets."""
    with listening(url) as client:
        taken = Taken(monkeypatch, client)
        mine = database(client).log_id.encode()
        other = b"0" * len(mine)
        for data in (
            b"",
            other,
            mine[:-1],
            mine + b"x",
            mine * 2,
            b"x" * 1400,
            mine.upper() + b".",
        ):
            send(address(client), data)
            taken.next()
        assert taken.heard == 0
        for _ in range(3):
            send(address(client), mine)
            taken.next()
        assert taken.heard == 3
        taken.none()


class Times:
    """A clock for a poll loop: forged news come all the time, and the polls are noted."""

    def __init__(self, tail: Tail, most: int, every: float) -> None:
        self.now = 0.0
        self.polls: list[float] = []
        self.graces: list[float] = []
        self._tail, self._most, self._every = tail, most, every

    def monotonic(self) -> float:
        """As in `time`."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """As in `time`; somebody sends news meanwhile."""
        self.now += seconds
        self._tail.hear()

    def ring(self) -> None:
        """As in `Alarm`."""

    def wait(self, pause: float) -> bool:
        """As in `Alarm`: news come after a while, unless the tail does not listen."""
        self._tail.hear()
        heard = self._tail._heard
        self.now += min(pause, self._every) if heard else pause
        return heard

    def poll(self, grace: float) -> bool:
        """A poll that finds nothing, and takes no time."""
        self.polls.append(self.now)
        self.graces.append(grace)
        self._tail.closed = len(self.polls) == self._most
        return False


def test_l12_at_most_one_poll_a_millisecond(monkeypatch: pytest.MonkeyPatch) -> None:
    """L12: however often news come, true or forged."""
    tail = Tail(0)
    times = Times(tail, 50, 0.0002)
    monkeypatch.setattr(replay.storage.tail, "time", times)
    tail._poke = times  # type: ignore[assignment]
    tail._poll_loop(times.poll)
    gaps = [later - before for before, later in zip(times.polls, times.polls[1:], strict=False)]
    assert min(gaps) > PAUSE_MIN * 0.999
    assert max(gaps) < PAUSE_MIN * 1.001
    # What came while nothing else did is not waited for.
    assert (times.graces[0], {*times.graces[1:]}) == (PAUSE_MIN, {0.0})


def test_l12_news_that_come_late_are_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """L12: if the last poll is a millisecond ago."""
    tail = Tail(0)
    times = Times(tail, 10, 0.003)
    monkeypatch.setattr(replay.storage.tail, "time", times)
    tail._poke = times  # type: ignore[assignment]
    tail._poll_loop(times.poll)
    assert times.polls[-1] - times.polls[-2] == pytest.approx(0.003)


@pytest.mark.parametrize("error", [Unavailable("away"), ValueError("broken")])
def test_l12_news_do_not_shorten_the_pause_of_an_outage(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """L12: P16: a database that is away is asked as seldom as without them."""
    tail = Tail(0)
    times = Times(tail, 4, 0.0002)

    def fails(grace: float) -> bool:
        times.poll(grace)
        raise error

    monkeypatch.setattr(replay.storage.tail, "time", times)
    tail._poke = times  # type: ignore[assignment]
    tail._poll_loop(fails)
    assert times.polls[2] - times.polls[1] > PAUSE_MAX
    assert times.polls[3] - times.polls[2] > PAUSE_MAX


def test_l12_after_an_outage_news_are_heard_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """L12: as soon as one poll succeeds."""
    tail = Tail(0)
    results: Iterator[Unavailable | bool] = iter([Unavailable("away"), False, False])

    def poll(grace: float) -> bool:
        times.poll(grace)
        result = next(results)
        if isinstance(result, Exception):
            raise result
        return result

    times = Times(tail, 3, 0.0002)
    monkeypatch.setattr(replay.storage.tail, "time", times)
    tail._poke = times  # type: ignore[assignment]
    tail._poll_loop(poll)
    assert times.polls[2] - times.polls[1] == pytest.approx(PAUSE_MIN)


def test_l12_lost_news_cost_no_event(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """L12: without them others find a commit when they poll."""
    Sent(monkeypatch, OSError)
    with connect(url) as worker, connect(url, loops=False) as caller:
        row(caller, "elsewhere:1:aa", "127.0.0.1:9")
        register_workflow(worker, "ns", lambda ctx, message: None, name="ends")
        assert caller.run_workflow("ns", "ends", "a", Int(value=1))
        caller.await_completion("ns", "ends", "a", PATIENCE)


def test_l12_a_commit_succeeds_though_the_list_cannot_be_read(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L12: nothing of it fails a commit."""
    with stepped(url) as client:
        outage, store = Outage(database(client)), client.log.group.commit

        def commit(member: Any) -> bool:
            stored = store(member)
            outage.on = True
            return stored

        monkeypatch.setattr(client.log.group, "commit", commit)
        assert client.run_workflow("ns", "w", "a", Int(value=1))
        outage.on = False
        assert client.log.news._addresses == ()


def test_l12_a_sender_without_sockets_commits(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """L12: as one that has too many files open."""

    def fails(**_: object) -> Any:
        raise OSError(24, "Too many open files")

    with stepped(url) as client:
        row(client, f"{socket.gethostname()[:64]}:1:aa", "127.0.0.1:9")
        names = SimpleNamespace(socket=fails, SOCK_DGRAM=socket.SOCK_DGRAM)
        monkeypatch.setattr(replay.storage.news, "socket", names)
        assert client.run_workflow("ns", "w", "a", Int(value=1))


# What is sent.


def test_l12_who_commits_without_a_pause_sends_once(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L12: others look again by themselves soon after they have found something."""
    with stepped(url) as client:
        row(client, f"{socket.gethostname()[:64]}:1:aa", "127.0.0.1:9")
        sent = Sent(monkeypatch)
        taken = Taken(monkeypatch, client)
        counts = []
        for pause in (0.0, 0.0015, 0.0015, 0.0015, 0.0025, 0.0, 0.0015):
            taken.now += pause
            client.log.news.tell()
            counts.append(len(sent.taken()))
        assert counts == [1, 0, 0, 0, 1, 0, 0]


def test_l12_only_what_others_wait_for_is_told(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """L12: events and signals, but neither duplicates nor a cursor that moves."""
    told = []
    monkeypatch.setattr(News, "tell", lambda self: told.append(self))
    with stepped(url) as client:
        for expected in (1, 1):
            client.run_workflow("ns", "w", "a", Int(value=1))
            assert len(told) == expected
        for expected in (2, 2):
            client.signal_run("ns", "w", "a", 1, Int(value=1), "x")
            assert len(told) == expected
        for loop in client.loops():
            loop.step()
        assert len(told) == 2


def test_l12_signals_of_the_inbox_are_told(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """L12: though the consumer of the inbox inserts them itself."""
    with stepped(url) as client, mine(url) as connection:
        client.within(connection).signal_run("ns", "w", "a", 1, Int(value=1), "x")
        connection.commit()
        told = []
        monkeypatch.setattr(News, "tell", lambda self: told.append(self))
        (mover,) = [loop for loop in client.loops() if loop.name == "replay_inbox"]
        while not rows(client, "SELECT 1 FROM replay_signals"):
            mover.step()
        assert told


@pytest.mark.parametrize(
    ("option", "reached"),
    [
        ("", {("127.0.0.1", 1)}),
        ("?news=127.0.0.1", {("127.0.0.1", 1)}),
        ("?news=10.0.0.5", {("127.0.0.1", 1), ("10.0.0.6", 3), ("10.0.0.7", 6)}),
        ("?news=off", set()),
    ],
)
def test_l12_nothing_leaves_the_machine_unless_the_url_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, reached: set[Address]
) -> None:
    """L12: a loopback address counts on its own machine only; what is no address never does."""
    with stepped(f"sqlite:///{tmp_path}/replay.db{option}") as client:
        host = socket.gethostname()[:64]
        row(client, f"{host}:1:aa", "127.0.0.1:1")
        row(client, "another:2:aa", "127.0.0.1:2")
        row(client, "another:3:aa", "10.0.0.6:3")
        row(client, f"{host}:4:aa", "127.0.0.1:4", minutes=-0.1)  # it has died
        row(client, own(client), "127.0.0.1:5")
        row(client, f"{host}:6:aa", "10.0.0.7:6")
        for number, text in enumerate(("", "x", "localhost:1", "127.0.0.1:0", "127.0.0.1:65536")):
            row(client, f"{host}:{number}:bb", text)
        sent = Sent(monkeypatch)
        client.run_workflow("ns", "w", "a", Int(value=1))
        assert {*sent.taken()} == reached


def test_l12_a_process_sends_to_a_hundred_others(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """L12: to those that have announced themselves last."""
    with stepped(url) as client:
        for number in range(1, 121):
            row(client, f"{socket.gethostname()[:64]}:{number}:aa", f"127.0.0.1:{number}")
            row(client, f"another:{number}:aa", f"127.0.0.1:{number}")
        sent = Sent(monkeypatch)
        client.run_workflow("ns", "w", "a", Int(value=1))
        assert {port for _, port in sent.taken()} == {*range(21, 121)}


# The option.


def test_l12_off_means_no_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """L12: nor a row, nor a thread; and all is done as before."""
    monkeypatch.setattr(replay.storage.news, "socket", None)
    for url in (f"sqlite:///{tmp_path}/replay.db?news=off", "sqlite://"):
        with connect(url) as client:
            register_workflow(client, "ns", lambda ctx, message: None, name="ends")
            assert client.run_workflow("ns", "ends", "a", Int(value=1))
            client.await_completion("ns", "ends", "a", PATIENCE)
            assert announced(client) == {}
            assert "replay-news" not in [thread.name for thread in threading.enumerate()]


def test_l12_a_process_listens_on_loopback(url: str) -> None:
    """L12: unless the URL gives it another address."""
    with listening(url) as client:
        assert address(client)[0] == "127.0.0.1"
    mark = "&" if "?" in url else "?"
    with listening(f"{url}{mark}news=127.0.0.2") as client:
        assert address(client)[0] == "127.0.0.2"
    with connect(f"{url}{mark}news=off", loops=False) as client:
        assert announced(client) == {}


def test_l12_what_is_only_read_announces_nothing(url: str) -> None:
    """L12: a database that is opened to read stays as it is."""
    connect(url).close()
    opened = open_database(url, to_read=True)
    try:
        news = News(opened, "host:1:aa", lambda: None)
        news.announce()
        news.tell()
        assert news._thread is None
        assert not opened.query("SELECT 1 FROM replay_processes")
    finally:
        opened.close()


@pytest.mark.parametrize(
    "text",
    ["", "on", "OFF", "localhost", "10.0.0.5:80", "0.0.0.0", "224.0.0.1", "255.255.255.255", "::1"],
)
def test_l12_what_is_no_address_is_refused(text: str) -> None:
    """L12: at the edge, with what is expected."""
    for url in ("sqlite://", "mysql://u@127.0.0.1:1/d"):
        with pytest.raises(BadUrl, match=r"expected off, or the IPv4 address"):
            connect(f"{url}?news={text}")


def test_l12_an_address_of_another_machine_is_told_once(url: str) -> None:
    """L12: the process then finds what others commit when it polls."""
    mark = "&" if "?" in url else "?"
    with LogLines() as lines, connect(f"{url}{mark}news=198.51.100.7") as client:
        register_workflow(client, "ns", lambda ctx, message: None, name="ends")
        lines.wait_for("no news at 198.51.100.7")
        assert client.run_workflow("ns", "ends", "a", Int(value=1))
        client.await_completion("ns", "ends", "a", PATIENCE)
        client.log.news.announce()
        assert len(lines.of("no news at")) == 1
        assert announced(client) == {}


# The rows.


def turned(client: Client, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock for what a client announces."""
    clock = Clock(database(client).now())
    clock.rule(client)
    monkeypatch.setattr(database(client), "monotonic", lambda: clock.now.timestamp())
    return clock


def test_l12_a_row_is_renewed_and_removed(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """L12: once a minute, and when the log is closed; those of the dead go as well."""
    query = "SELECT process, lease_until FROM replay_processes WHERE consumer = ''"
    with stepped(url) as client, stepped(url) as other:
        clock = turned(client, monkeypatch)
        row(client, "host:1:dead", "127.0.0.1:1", minutes=-1)
        row(client, "host:2:alive", "127.0.0.1:2", minutes=10)
        client.log.news.announce()
        assert {*announced(other)} == {own(client), "host:2:alive"}
        first = dict(rows(other, query))[own(client)]
        where = announced(other)[own(client)]
        clock.forward(seconds=59)
        client.log.news.announce()
        assert dict(rows(other, query))[own(client)] == first
        clock.forward(seconds=2)
        client.log.news.announce()
        assert dict(rows(other, query))[own(client)] > first
        assert announced(other)[own(client)] == where
        # A row with a consumer is another thing.
        update = "UPDATE replay_processes SET consumer = 'x', process = ? WHERE process = ?"
        database(other).write([Statement(update, (own(client), "host:2:alive"))])
        client.close()
        assert rows(other, "SELECT consumer, process FROM replay_processes") == [("x", own(client))]
    assert "replay-news" not in [thread.name for thread in threading.enumerate()]


def test_l12_a_row_that_cannot_be_written_stops_no_poll(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L12: it is tried again a minute later.  One that cannot be removed does not stop the end."""
    with stepped(url) as client, stepped(url) as other:
        clock, outage = turned(client, monkeypatch), Outage(database(client))
        outage.on = True
        client.log.news.announce()
        clock.forward(seconds=59)
        outage.on = False
        client.log.news.announce()
        assert announced(other) == {}
        clock.forward(seconds=2)
        client.log.news.announce()
        assert {*announced(other)} == {own(client)}
        outage.on = True
        client.log.news.close()
        outage.on = False
        assert {*announced(other)} == {own(client)}


def test_l12_a_process_that_has_died_does_no_harm(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L12: its row stays for some minutes, and others send to where nobody is."""
    with listening(url) as dead, stepped(url) as client:
        gone = own(dead)
        crash(dead)
        assert client.run_workflow("ns", "w", "a", Int(value=1))
        assert len(client.log.news._addresses) == 1
        clock = turned(client, monkeypatch)
        client.log.news.announce()
        assert gone in announced(client)
        clock.forward(minutes=4)
        client.log.news.announce()
        assert {*announced(client)} == {own(client)}


def test_l12_a_fork_takes_nothing_away(url: str) -> None:
    """L12: the child has the socket, too, and ends."""
    with listening(url) as client, stepped(url) as other:
        child = os.fork()
        if not child:
            os.kill(os.getpid(), signal.SIGKILL)  # `_exit` would measure coverage first
        os.waitpid(child, 0)
        assert other.run_workflow("ns", "w", "a", Int(value=1))
        wait_for(lambda: client.log.tail.end == 1, PATIENCE)


def test_l12_one_thread_and_one_socket_for_each_log(url: str) -> None:
    """L12: and none after the end."""
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(listening(url))
        threads = [each.name for each in threading.enumerate()]
        assert threads.count("replay-news") == 3
    assert "replay-news" not in [each.name for each in threading.enumerate()]
