"""What only SQLite has: one file and one writer at a time, locks beside it, several processes."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from replay import Client, Event, EventType, Key, connect, consume
from replay.log import LostOwnership, Move
from replay.storage.database import (
    BadUrl,
    DatabaseError,
    FileReplaced,
    Insert,
    Statement,
    Unavailable,
)
from replay.storage.open import open_database
from replay.storage.sqlite import Sqlite, _make_private
from tests.support import (
    Clock,
    LogLines,
    cursor,
    drain,
    listing,
    raw,
    rows,
    stepped,
)

PATIENCE = 60.0
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def file(tmp_path: Path) -> str:
    """The URL of a file that does not exist yet."""
    return f"sqlite:///{tmp_path}/replay.db"


@pytest.fixture
def client(file: str) -> Iterator[Client]:
    """A client of it."""
    with stepped(file) as made:
        yield made


def sqlite(client: Client) -> Sqlite:
    """A client's database."""
    assert isinstance(client.log.database, Sqlite)
    return client.log.database


# Another process is told what to do by lines, and answers each with one.
CHILD = """
import sys
from replay import EventType, Key, connect
from replay.log import Move
client = connect(sys.argv[1], loops=False)
for line in sys.stdin:
    print(repr(eval(line)), flush=True)
"""


class Process:
    """Another process with a client of the same file, named `client` in what it is asked."""

    def __init__(self, url: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD, url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def tell(self, expression: str) -> None:
        """Have it begin with something."""
        assert self.process.stdin is not None
        self.process.stdin.write(expression + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        """What the oldest unanswered expression came to."""
        assert self.process.stdout is not None
        return eval(self.process.stdout.readline())

    def ask(self, expression: str) -> Any:
        """Have it do something; what it came to."""
        self.tell(expression)
        return self.answer()

    def kill(self) -> None:
        """End it as `kill -9` does."""
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()


@contextmanager
def process(url: str) -> Iterator[Process]:
    """Another process, for one test."""
    made = Process(url)
    try:
        yield made
    finally:
        made.kill()


def start_runs(name: str, count: int) -> str:
    """Have a process start runs."""
    return f'[client.run_workflow("n", "w", f"{name}{{n}}", None) for n in range({count})]'


# Two processes.


def test_two_processes_write_and_read_one_file(client: Client, file: str) -> None:
    """L1, L2: what two processes add at the same time is one log without gaps, for both."""
    with process(file) as other:
        other.tell(start_runs("b", 100))
        for number in range(100):
            assert client.run_workflow("n", "w", f"a{number}", None)
        assert other.answer() == [True] * 100
        theirs = other.ask("[str(event.key) for event in client.stream(to_head=True)]")
    mine = [(event.id, str(event.key)) for event in client.stream(to_head=True)]
    assert [key for _, key in mine] == theirs
    assert [id for id, _ in mine] == list(range(1, 201))
    for name in "ab":
        own = [key for _, key in mine if key.startswith(f"n/w/{name}")]
        assert own == [f"n/w/{name}{number}/0" for number in range(100)]


def test_one_of_two_processes_starts_a_run(client: Client, file: str) -> None:
    """R1, L2: of two processes that start the same runs each run is started by one."""
    with process(file) as other:
        other.tell(start_runs("r", 100))
        mine = [client.run_workflow("n", "w", f"r{number}", None) for number in range(100)]
        assert [not started for started in mine] == other.answer()
    assert len(listing(client)) == 100


def test_a_killed_process_leaves_its_names_and_what_it_stored(client: Client, file: str) -> None:
    """L7: the file lock of a process killed with -9 is gone at once; its commits are not."""
    with process(file) as other:
        assert other.ask('client.log.claim("c", 0)') == 0
        assert other.ask('client.log.commit([], Move("c", 0, 7))') == []
        assert other.ask('client.run_workflow("n", "w", "r", None)') is True
        assert client.log.claim("c", 0) is None
        other.kill()
        assert client.log.claim("c", 0) == 7
    assert listing(client) == ["RUN_CREATED n/w/r/0 -"]


def test_a_killed_writer_leaves_nothing_half_done(client: Client, file: str) -> None:
    """L6: a process killed within a transaction stores nothing of it, and blocks nobody."""
    with process(file) as other:
        other.ask('client.log.database._connection.execute("BEGIN IMMEDIATE") and None')
        other.ask(
            'client.log.database._connection.execute("INSERT INTO replay_cursors'
            " (id, last_event_id, updated_at) VALUES ('c', 1, '')\") and None"
        )
        other.kill()
    assert rows(client, "SELECT id FROM replay_cursors") == []
    assert client.run_workflow("n", "w", "r", None)


def test_processes_that_begin_at_once_share_a_new_file(file: str) -> None:
    """Several processes that find no file make one, and use it."""
    others = [Process(file) for _ in range(3)]
    try:
        for number, other in enumerate(others):
            other.tell(f'client.run_workflow("n", "w", "r{number}", None)')
        assert [other.answer() for other in others] == [True] * 3
    finally:
        for other in others:
            other.kill()
    with stepped(file) as client:
        assert sorted(listing(client)) == [f"RUN_CREATED n/w/r{n}/0 -" for n in range(3)]


class Locked(sqlite3.Connection):
    """A connection to a file that another process is just making a WAL file of."""

    left = 0

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        """As SQLite does, without waiting."""
        if "journal_mode" in sql and Locked.left:
            Locked.left -= 1
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = sqlite3.SQLITE_BUSY
            raise error
        return super().execute(sql, *parameters)


@pytest.fixture
def locked(monkeypatch: pytest.MonkeyPatch) -> type[Locked]:
    """Have files be locked, as often as it says."""
    monkeypatch.setattr(Locked, "left", 3)
    monkeypatch.setattr(Sqlite, "driver", Locked)
    return Locked


def test_a_file_that_another_process_is_making_is_waited_for(
    file: str, locked: type[Locked]
) -> None:
    """Two processes that open a new file at once both succeed, though SQLite itself gives up."""
    with stepped(file) as client:
        assert locked.left == 0
        assert rows(client, "PRAGMA journal_mode") == [("wal",)]


def test_a_file_that_stays_locked(
    file: str, locked: type[Locked], monkeypatch: pytest.MonkeyPatch
) -> None:
    """P16: a file that stays locked is unavailable, to try again later, and not waited for."""
    monkeypatch.setattr("replay.storage.sqlite._BUSY_TIMEOUT", -1.0)
    with pytest.raises(Unavailable, match="database is locked"):
        connect(file)
    locked.left = 0
    with stepped(file) as client:
        assert client.run_workflow("n", "w", "r", None)


# Locks.


def test_a_lock_has_one_holder(client: Client, file: str) -> None:
    """L7: a name's lock is held by one client, and free when it is given back or closed."""
    mine = sqlite(client)
    with stepped(file) as second:
        theirs = sqlite(second)
        assert mine.lock("a", 0)
        assert mine.lock("a", 0)
        assert not theirs.lock("a", 0)
        assert theirs.lock("A", 0)
        mine.unlock("a")
        mine.unlock("a")
        assert theirs.lock("a", 0)
        assert not mine.lock("a", 0)
    assert mine.lock("a", 0)


def test_a_lock_is_waited_for(client: Client, file: str) -> None:
    """L7: a stand-by that waits for a lock has it as soon as it is free."""
    with stepped(file) as second:
        assert sqlite(client).lock("a", 0)
        got = threading.Event()

        def wait() -> None:
            if sqlite(second).lock("a", PATIENCE):
                got.set()

        waiter = threading.Thread(target=wait)
        waiter.start()
        assert not got.is_set()
        sqlite(client).unlock("a")
        assert got.wait(PATIENCE)
        waiter.join()


def test_names_that_no_file_can_have_can_be_locked(client: Client) -> None:
    """N2, L7: the name of a lock's file is not the consumer's name."""
    for name in ("../../etc", "a/b", "x" * 255, "\u00e9", "a:b"):
        assert sqlite(client).lock(name, 0)


def test_one_file_has_one_set_of_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """L7: whatever path leads to the file, its locks are the same."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.db").symlink_to(tmp_path / "replay.db")
    with stepped("sqlite:///replay.db") as first, stepped("sqlite:///link.db") as second:
        assert first.log.claim("c", 0) == 0
        assert second.log.claim("c", 0) is None
        monkeypatch.chdir("/")
        first.log.release("c", 0, 3)
        assert second.log.claim("c", 0) == 3


# Noticing what others commit.


def traced(client: Client) -> list[str]:
    """The statements that a client runs from now on."""
    statements: list[str] = []
    sqlite(client)._connection.set_trace_callback(statements.append)
    return statements


def test_looking_costs_nothing_while_nothing_happens(client: Client, file: str) -> None:
    """P21: without commits a look reads a counter in memory, and no table."""
    client.run_workflow("n", "w", "a", None)
    assert client.log.database.newest() == (1, 0, False)
    statements = traced(client)
    for _ in range(3):
        assert client.log.database.newest() == (1, 0, False)
    assert statements == ["PRAGMA data_version"] * 3
    with stepped(file) as second:
        second.signal_run("n", "w", "a", 1, None, "x")
        second.run_workflow("n", "w", "b", None)
    assert client.log.database.newest() == (2, 1, False)


def test_own_commits_are_noticed_too(client: Client) -> None:
    """L1: the newest ids are right behind every commit of one's own."""
    for number in range(1, 4):
        client.run_workflow("n", "w", f"r{number}", None)
        client.signal_run("n", "w", "r", 1, None, str(number))
        assert client.log.database.newest() == (number, number, False)


def test_a_commit_of_another_process_is_read(client: Client, file: str) -> None:
    """L1: the events of another process come by polling."""
    with process(file) as other:
        assert not client.log.poll()
        other.ask('client.run_workflow("n", "w", "r", None)')
        assert client.log.poll()
        assert [str(event.key) for event in client.log.read(0)] == ["n/w/r/0"]


# One writer at a time.


def test_a_writer_that_stays_is_waited_for(client: Client, file: str) -> None:
    """L6: a transaction of another program delays a commit, and reading not at all."""
    client.run_workflow("n", "w", "a", None)
    with raw(file) as other:
        other.run("BEGIN IMMEDIATE")
        assert listing(client) == ["RUN_CREATED n/w/a/0 -"]
        done: list[bool] = []
        writer = threading.Thread(
            target=lambda: done.append(client.run_workflow("n", "w", "b", None))
        )
        writer.start()
        other.add(Key("n", "w", "c"))
        assert done == []
        other.run("COMMIT")
        writer.join(PATIENCE)
    assert done == [True]
    assert listing(client) == [f"RUN_CREATED n/w/{run}/0 -" for run in "acb"]


def test_a_writer_looks_often_for_its_turn(
    client: Client, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L10: it never sleeps longer, however long it has waited, or others would always be faster."""
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 500:
            other.run("COMMIT")

    monkeypatch.setattr("replay.storage.sqlite._BUSY_TIMEOUT", 5.0)
    monkeypatch.setattr("replay.storage.sqlite.time.sleep", sleep)
    with raw(file) as other:
        other.run("BEGIN IMMEDIATE")
        assert client.run_workflow("n", "w", "r", None)
    assert len(slept) == 500
    assert max(slept) <= 0.001


def test_a_writer_that_stays_for_ever(
    client: Client, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P16: when waiting has no end a commit says that the database is busy; nothing is stored."""
    monkeypatch.setattr("replay.storage.sqlite._BUSY_TIMEOUT", 0.0)
    client.log.claim("c", 0)
    with raw(file) as other:
        other.run("BEGIN IMMEDIATE")
        event = client.log.event(EventType.RUN_CREATED, Key("n", "w", "r"))
        for _ in range(2):
            with pytest.raises(Unavailable, match="database is locked"):
                client.log.commit([event], Move("c", 0, 1))
        other.run("ROLLBACK")
    assert listing(client) == []
    assert client.log.commit([event], Move("c", 0, 1)) == [True]


def test_threads_of_one_client_write_in_turn(client: Client) -> None:
    """L2: threads share one connection, and no transaction gets into another's."""

    def write(name: str) -> None:
        for number in range(50):
            client.run_workflow("n", "w", f"{name}{number}", None)
            with pytest.raises(LostOwnership):
                client.log.commit([], Move("nobody", 0, 1))

    writers = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(PATIENCE)
    assert [event.id for event in client.stream(to_head=True)] == list(range(1, 201))


def test_a_transaction_that_fails_leaves_none_open(client: Client) -> None:
    """L6: after any error, and after an interrupt, the connection is out of the transaction."""
    connection = sqlite(client)._connection
    with pytest.raises(DatabaseError):
        client.log.database.write([Statement("DELETE FROM replay_nowhere")])
    assert not connection.in_transaction

    def interrupt() -> None:
        raise KeyboardInterrupt

    connection.create_function("interrupt", 0, interrupt)
    with pytest.raises((KeyboardInterrupt, DatabaseError)):
        client.log.database.write([Statement("SELECT interrupt()")])
    assert not connection.in_transaction
    assert client.run_workflow("n", "w", "r", None)


def test_ids_are_never_used_again(client: Client, file: str) -> None:
    """L1: an id is not given out again, even if another program has removed the newest rows."""
    client.run_workflow("n", "w", "a", None)
    client.run_workflow("n", "w", "b", None)
    with raw(file) as other:
        other.run("DELETE FROM replay_events WHERE id = 2")
    client.run_workflow("n", "w", "c", None)
    assert rows(client, "SELECT id, run FROM replay_events WHERE type = 1") == [(1, "a"), (3, "c")]


# The file.


def test_the_file_keeps_what_was_committed(client: Client, tmp_path: Path) -> None:
    """R2, L11: a commit is on disk before it returns, unless the URL says otherwise."""
    assert rows(client, "PRAGMA journal_mode") == [("wal",)]
    assert rows(client, "PRAGMA synchronous") == [(2,)]
    with stepped(f"sqlite:///{tmp_path}/normal.db?synchronous=normal") as other:
        assert rows(other, "PRAGMA synchronous") == [(1,)]
    with pytest.raises(BadUrl, match="synchronous=off in the URL: expected full or normal"):
        connect(f"sqlite:///{tmp_path}/off.db?synchronous=off")


def test_a_file_can_be_copied_and_used(client: Client, tmp_path: Path) -> None:
    """A backup made by SQLite is a log of its own."""
    client.run_workflow("n", "w", "a", None)
    copy = sqlite3.connect(tmp_path / "copy.db")
    sqlite(client)._connection.backup(copy)
    copy.close()
    client.run_workflow("n", "w", "b", None)
    with stepped(f"sqlite:///{tmp_path}/copy.db") as second:
        assert listing(second) == ["RUN_CREATED n/w/a/0 -"]
        assert not second.run_workflow("n", "w", "a", None)


def test_a_closed_database(client: Client) -> None:
    """P16: what still runs in a client that is closed is told so, as by a server that is gone."""
    database = client.log.database
    client.close()
    for attempt in (database.newest, lambda: database.query("SELECT 1")):
        with pytest.raises(Unavailable, match="has been closed"):
            attempt()
    database.close()
    database.release()


# In memory.


def test_a_database_in_memory_is_for_one_client() -> None:
    """Without a file there is nobody else: locks are always had, no file is made."""
    before = set(os.listdir())
    with connect("sqlite://", loops=False) as client:
        assert client.log.claim("c", 0) == 0
        assert client.log.database.lock("c", 0)
        client.log.release("c", 0, 5)
        assert client.log.claim("c", 0) == 5
        client.run_workflow("n", "w", "r", None)
        assert listing(client) == ["RUN_CREATED n/w/r/0 -"]
    assert set(os.listdir()) == before


# The files.


GONE = "was deleted, moved or replaced while it was open, so nothing is stored any more"


def replace(path: Path) -> None:
    """Put another database in the place of a file, as restoring a backup does."""
    with connect(f"sqlite:///{path}.new", loops=False):
        pass
    os.replace(f"{path}.new", path)


def unlink(ending: str) -> Callable[[Path], None]:
    """Delete a file of the database."""
    return lambda path: os.unlink(f"{path}{ending}")


@pytest.mark.parametrize(
    "lose",
    [
        *map(unlink, ("", "-wal", "-shm")),
        lambda path: os.rename(path, f"{path}.old"),
        lambda path: os.rename(path.parent, f"{path.parent}.old"),
        replace,
    ],
    ids=["deleted", "wal deleted", "shm deleted", "moved", "directory moved", "replaced"],
)
def test_a_file_that_is_gone_acknowledges_nothing(
    tmp_path: Path, lose: Callable[[Path], None]
) -> None:
    """R1, L1: neither a commit nor an answer comes from a file that nobody else can open."""
    (tmp_path / "own").mkdir()
    file = tmp_path / "own" / "replay.db"
    with stepped(f"sqlite:///{file}") as client:
        client.run_workflow("ns", "flow", "before", None)
        consumer = consume(client, "c", print, start=False)
        drain(consumer)
        lose(file)
        calls = (
            lambda: client.run_workflow("ns", "flow", "after", None),
            lambda: client.signal_run("ns", "flow", "r", 1, None, "x"),
            lambda: list(client.stream(to_head=True)),
            consumer.step,
        )
        for call in calls:
            with pytest.raises(FileReplaced, match=GONE):
                call()


def test_a_file_that_is_gone_answers_nothing(client: Client, tmp_path: Path) -> None:
    """R1: a run that only a deleted file knows has not been started."""
    assert client.run_workflow("ns", "flow", "r", None)
    unlink("")(tmp_path / "replay.db")
    with pytest.raises(FileReplaced, match=GONE):
        client.run_workflow("ns", "flow", "r", None)


def test_a_file_that_is_gone_before_the_commit_takes_none(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L6: what a transaction has written by then is rolled back."""
    database = sqlite(client)
    insert = database._insert

    def slow(insertion: Insert) -> list[int]:
        ids = insert(insertion)
        os.rename(tmp_path / "replay.db", tmp_path / "old.db")
        return ids

    monkeypatch.setattr(database, "_insert", slow)
    with pytest.raises(FileReplaced, match=GONE):
        client.log.commit([client.log.event(EventType.RUN_CREATED, Key("ns", "flow", "r"))])
    os.rename(tmp_path / "old.db", tmp_path / "replay.db")
    assert listing(client) == []


def test_a_link_that_leads_elsewhere_is_another_file(tmp_path: Path) -> None:
    """L1: other processes go where the link leads now."""
    link = tmp_path / "link.db"
    link.symlink_to(tmp_path / "one.db")
    with stepped(f"sqlite:///{link}") as client:
        client.run_workflow("ns", "flow", "r", None)
        with stepped(f"sqlite:///{tmp_path}/two.db"):
            (tmp_path / "new").symlink_to(tmp_path / "two.db")
            os.replace(tmp_path / "new", link)
            with pytest.raises(FileReplaced, match=f"{link} {GONE}"):
                client.run_workflow("ns", "flow", "lost", None)
    assert not (tmp_path / "link.db-wal").exists()


def test_a_relative_path_is_followed_from_where_it_was_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program may change its directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    with stepped("sqlite:///replay.db") as client:
        monkeypatch.chdir(tmp_path / "other")
        client.run_workflow("ns", "flow", "r", None)
        drain(consume(client, "c", print, start=False))
        assert os.listdir() == []


def modes(directory: Path) -> dict[str, str]:
    """The rights on each file of a directory, and of those in it."""
    return {
        str(path.relative_to(directory)): f"{path.stat().st_mode & 0o777:o}"
        for path in sorted(directory.rglob("*"))
    }


@contextmanager
def umask(bits: int) -> Iterator[None]:
    """Have the process make files without these rights."""
    before = os.umask(bits)
    try:
        yield
    finally:
        os.umask(before)


def test_new_files_are_for_their_user_only(tmp_path: Path) -> None:
    """No other user reads messages or holds a lock, whatever the umask allows."""
    with umask(0), stepped(f"sqlite:///{tmp_path}/r.db") as client:
        drain(consume(client, "c", print, start=False))
        (lock,) = (tmp_path / "r.db-locks").iterdir()
        assert modes(tmp_path) == {
            **dict.fromkeys(["r.db", "r.db-wal", "r.db-shm"], "600"),
            "r.db-locks": "700",
            f"r.db-locks/{lock.name}": "600",
        }


def test_a_stricter_umask_counts(tmp_path: Path) -> None:
    """It takes rights from the user, too."""
    with umask(0o277):
        _make_private(str(tmp_path / "r.db"))
    assert modes(tmp_path) == {"r.db": "400"}


def test_the_rights_on_a_file_that_exists_stay(tmp_path: Path) -> None:
    """Its owner has chosen them; SQLite gives them to the files beside it."""
    file = tmp_path / "r.db"
    file.touch()
    file.chmod(0o640)
    with stepped(f"sqlite:///{file}") as client:
        client.run_workflow("ns", "flow", "r", None)
        assert modes(tmp_path) == dict.fromkeys(["r.db", "r.db-wal", "r.db-shm"], "640")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP])
def test_l7_without_file_locks_the_lease_decides(
    client: Client, file: str, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """L7: as where Python has no fcntl; it is said once, and no descriptor is lost."""

    def refuse(handle: int, how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    clock = Clock()
    clock.rule(client)
    with stepped(file, clock) as other, LogLines() as log:
        first, second = (consume(each, "c", print, start=False) for each in (client, other))
        drain(first, second)
        assert cursor(client, "consumer/c")[1] == client.log._process
        clock.forward(seconds=10)
        assert (second.step(), second._position) == (0, 0)
        assert cursor(client, "consumer/c")[1] == other.log._process
        for each in (client, other):
            assert sqlite(each)._locks == {}
    handles = [os.readlink(each.path) for each in os.scandir("/proc/self/fd") if each.is_symlink()]
    assert not any(handle.startswith(f"{sqlite(client)._path}-locks") for handle in handles)
    assert len(log.of("only the lease shows that a consumer has died")) == 2


def test_a_lock_file_that_cannot_be_made_is_an_outage(client: Client, tmp_path: Path) -> None:
    """P16: the consumer waits and tries again, and the warning says why."""
    (tmp_path / "replay.db-locks").touch()
    with LogLines() as log:
        with pytest.raises(Unavailable, match=r"no lock for consumer/c: .*File exists"):
            consume(client, "c", print, start=False).step()
        assert len(log.of("File exists")) == 1


def test_g5_no_commit_overtakes_another_on_its_way_to_memory(client: Client) -> None:
    """G5: or a poll would read back all that a large commit has added, and the next ones, too."""
    log, seen = client.log, list[tuple[list[int], bool]]()
    join, inside = log.tail.join, log.database.inside()

    def is_free() -> bool:
        if free := inside.acquire(blocking=False):
            inside.release()
        return free

    def noted(events: list[Event]) -> None:
        with ThreadPoolExecutor(1) as another:
            free = another.submit(is_free).result()
        seen.append(([event.id for event in events], free))
        join(events)

    with patch.object(log.tail, "join", noted):
        log.commit([log.event(EventType.RUN_CREATED, Key("n", "w", n)) for n in "ab"])
    assert (seen, log.tail.end) == ([([1, 2], False)], 2)


def test_h3_a_lock_on_a_file_that_was_removed_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H3, L7: who opened the file before its holder removed it has locked out nobody."""
    url = f"sqlite:///{tmp_path / 'x.db'}"
    with closing(open_database(url)) as holder, closing(open_database(url)) as other:
        assert isinstance(other, Sqlite)
        assert holder.lock("name", 0)
        flock = other._flock

        def late(handle: int, deadline: float) -> bool:
            monkeypatch.undo()
            holder.end_lock("name")
            assert holder.lock("name", 0)
            return flock(handle, deadline)

        monkeypatch.setattr(other, "_flock", late)
        assert other.lock("name", 0) == ""
        holder.end_lock("name")
        assert other.lock("name", 0)
        assert not holder.lock("name", 0)
