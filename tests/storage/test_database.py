"""Opening a database: URLs and their options, times, the tables, and what can be wrong."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import tempfile
import threading
import time
import traceback
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote, urlsplit

import pymysql
import pytest

from replay import Error, EventType, Key, connect
from replay.storage.database import (
    INDEXES,
    SCHEMA_VERSION,
    TABLES,
    BadUrl,
    Database,
    DatabaseError,
    ReadOnly,
    SchemaTooNew,
    Statement,
    Unavailable,
    from_text,
    later,
    to_text,
)
from replay.storage.mysql import MySQL
from replay.storage.open import open_database
from replay.tools.audit import Audit, audited
from replay.tools.tables import open_log
from tests.example_pb2 import Int, String
from tests.servers import Server
from tests.support import Raw, listing, raw, rows, stepped, with_options

pytestmark = pytest.mark.damages
PATIENCE = 60.0
SECRET = "open-sesame"


# URLs.


@pytest.mark.parametrize(
    "address",
    [
        "",
        "replay.db",
        "/tmp/replay.db",
        "sqlite",
        "sqlite://replay.db",
        "postgres://localhost/db",
        "mysql://",
        "mysql://localhost",
        "mysql://localhost/",
        "mysql:///db",
        "mysql://u:p@localhost:x/db",
        "mysql://u:p@localhost:99999/db",
        "mysql://u:p@[x/db",
    ],
)
def test_a_url_that_names_no_database_is_refused(address: str) -> None:
    """A wrong URL is an error that shows what a right one looks like."""
    with pytest.raises(BadUrl) as raised:
        connect(address)
    assert isinstance(raised.value, ValueError)
    assert "mysql://user:password@host:3306/database" in str(raised.value)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ("lease=", "lease= in the URL: expected a whole number from 1"),
        ("lease=soon", "lease=soon in the URL: expected a whole number from 1"),
        ("lease=0", "lease=0 in the URL: expected a whole number from 1"),
        ("lease=-1", "lease=-1 in the URL"),
        ("lease=inf", "lease=inf in the URL"),
        ("lease=nan", "lease=nan in the URL"),
        ("lease=1e15", "lease=1e15 in the URL"),
        ("max_message=4MB", "max_message=4MB in the URL: expected a whole number from 1"),
        ("max_message=16777216", "max_message=16777216: a column holds 16777215 bytes"),
        ("leese=5&x=1", "unknown option leese, x in the URL of sqlite://"),
        ("unix_socket=/x", "unknown option unix_socket in the URL of sqlite://"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(options: str, problem: str) -> None:
    """An option's name and value are checked before anything is opened."""
    with pytest.raises(BadUrl, match=problem):
        connect(f"sqlite://?{options}")


def test_options_are_taken(url: str) -> None:
    """lease and max_message are read from the URL, and have the documented values without it."""
    with stepped(url) as client:
        assert client.log.database.lease == timedelta(seconds=10)
        assert client.log.database.max_message == 4 * 1024 * 1024
    with stepped(with_options(url, lease=3, max_message=1000)) as client:
        assert client.log.database.lease == timedelta(seconds=3)
        assert client.log.database.max_message == 1000


@pytest.mark.parametrize("address", ["sqlite://", "sqlite:///"])
def test_a_database_in_memory_is_its_clients_own(address: str) -> None:
    """Without a file each client has a database of its own."""
    with stepped(address) as first, stepped(address) as second:
        first.run_workflow("n", "w", "r", None)
        assert listing(first) == ["RUN_CREATED n/w/r/0 -"]
        assert listing(second) == []


def test_a_file_is_found_by_absolute_and_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three slashes are relative, four absolute; what a URL cannot hold is written as %XX."""
    monkeypatch.chdir(tmp_path)
    with stepped("sqlite:///a%20b%3F.db") as client:
        client.run_workflow("n", "w", "r", None)
    assert (tmp_path / "a b?.db").exists()
    with stepped(f"sqlite:///{tmp_path}/a%20b%3F.db") as client:
        assert listing(client) == ["RUN_CREATED n/w/r/0 -"]


# Passwords.


def texts(error: BaseException) -> str:
    """All that a program might print of an error."""
    return "".join([str(error), repr(error), *traceback.format_exception(error)])


@pytest.mark.parametrize(
    "address",
    [
        f"mysql://user:{SECRET}@localhost:x/db",
        f"mysql://user:{SECRET}/more@localhost/db",
        f"mysql://user:pass/{SECRET}@localhost/db",
        f"mysql://user:123/{SECRET}@localhost/db",
        f"mysql://user:123?{SECRET}@localhost/db",
        f"mysql://user:123#{SECRET}@localhost/db",
        f"mysql://user:{SECRET}#more@localhost/db",
        f"mysql://user:{SECRET}@ho\u2100st/db",
        f"mysql://user:{SECRET}@[x]/db",
        f"mysql://user:{SECRET}@localhost",
        f"mysql://user:{SECRET}@127.0.0.1:1/db",
        f"mysql://user:{SECRET}@127.0.0.1:1/db?lease=x",
        f"mysql://user:{SECRET}@127.0.0.1:1/db?leese=1",
        f"mysql://user:{SECRET}@127.0.0.1:1/db?ssl_ca=/nowhere",
        f"msyql://user:{SECRET}@localhost/db",
        f"sqlite://user:{SECRET}@localhost/db",
    ],
)
def test_a_password_is_not_told(address: str, caplog: pytest.LogCaptureFixture) -> None:
    """The password is in no error's text and no log line, even when it breaks the URL."""
    caplog.set_level(logging.DEBUG)
    with pytest.raises(Error) as raised:
        connect(address)
    assert SECRET not in texts(raised.value)
    assert SECRET not in caplog.text


def test_a_wrong_password(server_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """A refused log-in says what to check, without the password."""
    parts = urlsplit(server_url)
    wrong = parts._replace(netloc=f"{parts.username}:{SECRET}@{parts.hostname}:{parts.port}")
    with pytest.raises(DatabaseError, match="check the user, password and database") as raised:
        connect(wrong.geturl())
    assert not isinstance(raised.value, Unavailable)
    assert SECRET not in texts(raised.value) + caplog.text


def test_the_name_of_a_database_holds_no_password(server_url: str) -> None:
    """What is logged of a database is where it is."""
    parts = urlsplit(server_url)
    with stepped(server_url) as client:
        name = client.log.database.name
    assert name == f"mysql://{parts.hostname}:{parts.port}{parts.path}"


@pytest.mark.one_server
def test_what_a_url_cannot_hold_is_quoted(server_url: str) -> None:
    """User and password may hold any character, written as %XX."""
    with account(server_url, "ALL", password="a/b?c#d@e:f g%") as url:
        assert "a%2Fb%3Fc%23d%40e%3Af%20g%25" in url
        with stepped(url) as client:
            assert client.run_workflow("n", "w", "r", None)


# Where nothing can be opened.


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "no-such-host.invalid"])
def test_a_server_that_does_not_answer(host: str, caplog: pytest.LogCaptureFixture) -> None:
    """An unreachable server is an error to try again after, and names the server."""
    with pytest.raises(Unavailable, match=f"mysql://{host}:1/db"):
        connect(f"mysql://user:pw@{host}:1/db")
    assert caplog.messages == []


def test_an_unknown_database(server_url: str) -> None:
    """A database that the server does not have is named, and what to check."""
    missing = urlsplit(server_url)._replace(path="/replay_missing").geturl()
    with pytest.raises(DatabaseError, match=r"replay_missing.*check the user"):
        connect(missing)


def test_a_missing_directory(tmp_path: Path) -> None:
    """A file whose directory does not exist is not created, and the error asks about it."""
    with pytest.raises(Unavailable, match="does its directory exist"):
        connect(f"sqlite:///{tmp_path}/missing/replay.db")


def test_a_directory_is_no_database(tmp_path: Path) -> None:
    """The path of a directory is refused."""
    with pytest.raises(Unavailable, match=str(tmp_path)):
        connect(f"sqlite:///{tmp_path}")


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    """A file of something else is refused and left as it was."""
    path = tmp_path / "letter.txt"
    path.write_text("Dear reader, " * 1000)
    with pytest.raises(DatabaseError, match=r"letter\.txt: file is not a database"):
        connect(f"sqlite:///{path}")
    assert path.read_text() == "Dear reader, " * 1000


def test_too_small_a_packet(own_server: Server) -> None:
    """N3: a limit that the server's packets cannot carry is refused, with the figures."""
    with raw(own_server.url) as admin:
        admin.run("SET GLOBAL max_allowed_packet = 4194304")
    expected = r"max_allowed_packet is 4194304 bytes; .* 4194304 bytes need 8454144: raise it"
    with pytest.raises(DatabaseError, match=expected):
        connect(own_server.url)
    with stepped(with_options(own_server.url, max_message=2_000_000)) as client:
        large = [String(value=letter * 1_999_900) for letter in "abc"]
        requests = [
            client.log.event(EventType.RUN_CREATED, Key("n", "w", message.value[0]), message)
            for message in large
        ]
        assert client.log.commit(requests) == [True] * 3
        assert [event.message for event in client.stream(to_head=True)] == large


def test_a_disk_that_is_full(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A full disk stores nothing of a commit, says so once, and all goes on when there is room."""
    large = String(value="x" * 200_000)
    with stepped(f"sqlite:///{tmp_path}/replay.db") as client:
        client.run_workflow("n", "w", "before", None)
        (pages,) = rows(client, "PRAGMA page_count")[0]
        client.log.database.query(f"PRAGMA max_page_count = {pages + 2}")
        for _ in range(3):
            with pytest.raises(Unavailable, match="full"):
                client.run_workflow("n", "w", "large", large)
        assert listing(client) == ["RUN_CREATED n/w/before/0 -"]
        client.log.database.query("PRAGMA max_page_count = 1000000")
        assert client.run_workflow("n", "w", "large", large)
    assert [line.split(": ")[-1] for line in caplog.messages[:1]] == ["database or disk is full"]
    assert len(caplog.messages) == 1


# Where nothing can be written.


@contextmanager
def unprivileged() -> Iterator[None]:
    """Let the rights of files count, also for root."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.fixture(params=[0o555, 0o777])
def file(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file that others may only read, in a directory that they may write to, or may not."""
    directory = Path(tempfile.mkdtemp())
    with stepped(f"sqlite:///{directory}/replay.db") as client:
        client.run_workflow("n", "w", "r", None)
    for path in directory.iterdir():
        path.chmod(0o444)
    directory.chmod(request.param)
    yield directory / "replay.db"
    directory.chmod(0o755)
    shutil.rmtree(directory)


def test_an_audit_needs_no_right_to_write(file: Path) -> None:
    """An audit opens a file for reading, also in a directory where nothing can be made."""
    url, before = f"sqlite:///{file}", file.read_bytes()
    assert not list(audited(url))
    with unprivileged():
        assert not list(audited(url))
        with open_log(url) as tables, pytest.raises(DatabaseError, match="read-only"):
            tables._database.query("DELETE FROM replay_events")
    assert file.read_bytes() == before


def test_an_audit_reads_what_a_live_process_has_just_written(file: Path) -> None:
    """What is only in the -wal file is read too, and stays there."""
    file.chmod(0o644)
    with stepped(f"sqlite:///{file}") as client:
        client.run_workflow("n", "w", "another", None)
        wal = Path(f"{file}-wal").read_bytes()
        with unprivileged(), open_log(f"sqlite:///{file}") as tables:
            assert not list(Audit(tables).run())
            assert tables.count == client.log.newest()
        assert Path(f"{file}-wal").read_bytes() == wal


def test_a_read_only_file(file: Path) -> None:
    """A file that may not be written to is refused when it is opened, and says what is missing."""
    with unprivileged(), pytest.raises(ReadOnly, match="give this user write access to the file"):
        connect(f"sqlite:///{file}")


@contextmanager
def account(url: str, rights: str, password: str = "pw") -> Iterator[str]:
    """The URL for another account with these rights on the database."""
    name, parts = f"t{uuid.uuid4().hex[:12]}", urlsplit(url)
    with raw(url) as admin:
        admin.run(f"CREATE USER {name} IDENTIFIED BY ?", password)
        try:
            admin.run(f"GRANT {rights} ON {parts.path[1:]}.* TO {name}")
            login = f"{name}:{quote(password, safe='')}"
            yield parts._replace(netloc=f"{login}@{parts.hostname}:{parts.port}").geturl()
        finally:
            admin.run(f"DROP USER {name}")


@pytest.mark.one_server
def test_an_account_that_may_not_create_tables(server_url: str) -> None:
    """An empty database and an account that may only read: refused, naming the right."""
    with account(server_url, "SELECT") as url, pytest.raises(ReadOnly, match="give this account"):
        connect(url)


@pytest.mark.one_server
def test_an_account_that_may_only_read(server_url: str) -> None:
    """Such an account can read a log, and is told what it lacks when it writes."""
    with stepped(server_url) as client:
        client.run_workflow("n", "w", "r", Int(value=1))
    with account(server_url, "SELECT") as url, stepped(url) as reader:
        assert listing(reader) == ["RUN_CREATED n/w/r/0 value: 1"]
        with pytest.raises(ReadOnly, match="give this account the right to read, write"):
            reader.run_workflow("n", "w", "s", None)
        assert listing(reader) == ["RUN_CREATED n/w/r/0 value: 1"]


def test_a_server_that_is_read_only(own_server: Server) -> None:
    """A server that refuses all writes, such as a replica, is read-only too, and may be read."""
    with stepped(own_server.url) as client:
        client.run_workflow("n", "w", "r", None)
    with account(own_server.url, "SELECT, INSERT, UPDATE, DELETE") as url:
        with raw(own_server.url) as admin:
            admin.run("SET GLOBAL read_only = 1")
        with stepped(url) as reader:
            assert listing(reader) == ["RUN_CREATED n/w/r/0 -"]
            with pytest.raises(ReadOnly, match=r"read.only"):
                reader.run_workflow("n", "w", "s", None)
        with raw(own_server.url) as admin:
            admin.run("SET GLOBAL read_only = 0")


# Tables.


def columns(database: Database) -> dict[str, set[str]]:
    """The columns of each of the tables."""
    return {table: database._columns(table) for table in TABLES}


def indexes(other: Raw) -> set[tuple[str, str]]:
    """The tables and the first columns and uniqueness of their indexes, spelt alike on all."""
    if isinstance(other.connection, sqlite3.Connection):
        found = other.run("SELECT tbl_name, name FROM sqlite_master WHERE type = 'index'")
        return {(table, name.removeprefix(f"{table}_")) for table, name in found}
    return set(
        other.run(
            "SELECT table_name, index_name FROM information_schema.statistics"
            " WHERE table_schema = DATABASE()"
        )
    )


EXPECTED = {
    table: {column.split()[0] for column in defined.split(", ")}
    for table, defined in TABLES.items()
}


def test_an_empty_database_gets_its_tables(url: str) -> None:
    """All tables, columns and indexes are there, and the version of the schema."""
    with stepped(url) as client, raw(url) as other:
        assert columns(client.log.database) == EXPECTED
        assert {(table, name) for table, name, *_ in INDEXES} <= indexes(other)
        assert sorted(rows(client, "SELECT * FROM replay_meta")) == [
            ("log_id", client.log.database.log_id),
            ("retention_floor", "0"),
            ("retention_turn", "0"),
            ("schema_version", str(SCHEMA_VERSION)),
        ]


def test_a_second_connect_changes_nothing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that is up to date is not written to."""
    with stepped(url) as client:
        client.run_workflow("n", "w", "r", None)
    monkeypatch.setattr(Database, "_create", lambda self: pytest.fail("created again"))
    with stepped(url) as client:
        assert listing(client) == ["RUN_CREATED n/w/r/0 -"]


GO_TABLES = {
    "replay_events": "`key` VARCHAR(512) NOT NULL, namespace VARCHAR(255) NOT NULL,"
    " workflow VARCHAR(255) NOT NULL, run VARCHAR(255), iteration INT NOT NULL,"
    " type INT NOT NULL, timestamp DATETIME(3) NOT NULL, message MEDIUMBLOB",
    "replay_sleeps": "`key` VARCHAR(512) NOT NULL, created_at DATETIME(3) NOT NULL",
    "replay_cursors": "last_event_id BIGINT NOT NULL, updated_at DATETIME(3) NOT NULL",
}


def make_old_tables(other: Raw) -> None:
    """Make some of the tables, with some of the columns and indexes, and rows in them."""
    sqlite = isinstance(other.connection, sqlite3.Connection)
    id = "INTEGER PRIMARY KEY" + (" AUTOINCREMENT" if sqlite else " AUTO_INCREMENT")
    for table, defined in GO_TABLES.items():
        key = "id VARCHAR(255) PRIMARY KEY" if table == "replay_cursors" else f"id {id}"
        other.run(f"CREATE TABLE {table} ({key}, {defined})")
    other.run("CREATE UNIQUE INDEX by_type_key ON replay_events (type, `key`)")
    other.add(Key("n", "w", "r"))
    other.run("INSERT INTO replay_cursors VALUES ('c', 5, '2029-01-01 00:00:00.000')")


def test_missing_tables_and_columns_are_added(url: str) -> None:
    """A database of an older system keeps its rows and gets what it lacks, also twice."""
    with raw(url) as other:
        make_old_tables(other)
        if not url.startswith("sqlite"):  # a name that exists there already, as by_type_key does
            other.run("CREATE INDEX type ON replay_events (type)")
        for _ in range(2):
            with stepped(url) as client:
                assert columns(client.log.database) == EXPECTED
                assert {(table, name) for table, name, *_ in INDEXES} <= indexes(other)
                assert listing(client) == ["RUN_CREATED n/w/r/0 -"]
                assert client.log.claim("c", 0) == 5
                client.log.release("c", 5, 5)
                assert not client.run_workflow("n", "w", "r", None)
            other.run("DELETE FROM replay_meta")


@pytest.mark.one_server
def test_tables_that_cannot_be_upgraded(server_url: str) -> None:
    """An account that may write but not alter is told so, instead of failing later."""
    with raw(server_url) as other:
        make_old_tables(other)
    rights = "SELECT, INSERT, UPDATE, DELETE, CREATE"
    with account(server_url, rights) as url, pytest.raises(ReadOnly, match="ALTER"):
        connect(url)


def test_a_name_that_is_taken_by_something_else(tmp_path: Path) -> None:
    """A view where a table should be is an error of the database's, not passed over."""
    url = f"sqlite:///{tmp_path}/replay.db"
    with raw(url) as other:
        other.run("CREATE VIEW replay_sleeps AS SELECT 1 AS id")
    with pytest.raises(DatabaseError, match="view"):
        connect(url)


def test_what_is_more_in_a_table_does_not_matter(url: str) -> None:
    """A column that somebody has added is left alone."""
    with stepped(url):
        pass
    with raw(url) as other:
        other.run("ALTER TABLE replay_events ADD COLUMN note VARCHAR(10)")
        other.run("DELETE FROM replay_meta")
        with stepped(url) as client:
            client.run_workflow("n", "w", "r", None)
            assert other.run("SELECT note FROM replay_events") == [(None,)]


@pytest.mark.parametrize("old", [False, True])
def test_processes_that_connect_at_once_make_the_tables_once(url: str, old: bool) -> None:
    """Several who find tables or columns missing do not trip over each other."""
    if old:
        with raw(url) as other:
            make_old_tables(other)
            other.run("DELETE FROM replay_events")
    ready, results = threading.Barrier(4), list[object]()

    def start(number: int) -> None:
        ready.wait(PATIENCE)
        try:
            with stepped(url) as client:
                results.append(client.run_workflow("n", "w", f"r{number}", None))
        except Exception as error:
            results.append(error)

    threads = [threading.Thread(target=start, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert results == [True] * 4
    with stepped(url) as client:
        assert columns(client.log.database) == EXPECTED
        assert sorted(listing(client)) == [f"RUN_CREATED n/w/r{n}/0 -" for n in range(4)]


def test_a_newer_schema_is_refused(url: str) -> None:
    """Tables of a newer version are left alone; the error names both versions."""
    with stepped(url):
        pass
    with raw(url) as other:
        newer = SCHEMA_VERSION + 1
        where = "WHERE name = 'schema_version'"
        other.run(f"UPDATE replay_meta SET value = ? {where}", str(newer))
        expected = f"has schema version {newer}, this library knows {SCHEMA_VERSION}: install"
        with pytest.raises(SchemaTooNew, match=expected):
            connect(url)
        assert other.run(f"SELECT value FROM replay_meta {where}") == [(str(newer),)]


def test_a_database_that_failed_to_open_is_closed(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No connection is left behind by an error."""
    closed: list[Database] = []
    with stepped(url) as client:
        kind = type(client.log.database)
    close = kind.close
    monkeypatch.setattr(kind, "close", lambda self: closed.append(self) or close(self))  # type: ignore[func-returns-value]
    for name in ("prepare", "newest"):
        with monkeypatch.context() as patched:
            patched.setattr(kind, name, lambda self: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                connect(url)
    assert len(closed) == 2


# Times.


def test_times_are_cut_to_milliseconds() -> None:
    """A time is stored as text, in UTC, with milliseconds, and sorts as it passes."""
    moment = datetime(2026, 11, 24, 4, 11, 20, 123_999, tzinfo=UTC)
    assert to_text(moment) == "2026-11-24 04:11:20.123"
    assert to_text(moment.replace(microsecond=0)) == "2026-11-24 04:11:20.000"
    assert from_text(to_text(moment)) == moment.replace(microsecond=123_000)


@pytest.mark.parametrize("text", ["2026-11-24 04:11:20.123", "2026-11-24 04:11:20.123000"])
def test_times_are_read_as_either_database_writes_them(text: str) -> None:
    """A column gives three digits or six."""
    assert from_text(text) == datetime(2026, 11, 24, 4, 11, 20, 123_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("microseconds", "expected"),
    [(0, 0), (1, 1000), (999, 1000), (1000, 1000), (1001, 2000), (999_999, 1_000_000)],
)
def test_a_later_time_is_rounded_up(microseconds: int, expected: int) -> None:
    """R7: a moment that is waited for is never cut to an earlier one."""
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    assert later(moment, timedelta(microseconds=microseconds)) == moment + timedelta(
        microseconds=expected
    )


@pytest.mark.parametrize("duration", [timedelta.max, timedelta(days=3_000_000)])
def test_the_latest_time_is_what_a_column_holds(url: str, duration: timedelta) -> None:
    """A duration of millennia ends where a DATETIME does."""
    latest = later(datetime(2026, 1, 1, tzinfo=UTC), duration)
    assert to_text(latest) == "9999-12-31 00:00:00.000"
    with stepped(url) as client:
        row = ("k", to_text(latest), to_text(latest), 0)
        store = "`key`, created_at, complete_at, completed"
        client.log.database.write(client.log.database.insert_missing("replay_sleeps", store, [row]))
        assert rows(client, "SELECT complete_at FROM replay_sleeps")[0][0][:19] == (
            "9999-12-31 00:00:00"
        )


def test_the_clock_has_milliseconds(url: str) -> None:
    """No time has more digits than a column."""
    with stepped(url) as client:
        assert {client.log.database.now().microsecond % 1000 for _ in range(50)} == {0}
        assert client.log.database.now().tzinfo is UTC


# Transactions.


def test_a_statement_that_does_not_find_its_rows(url: str) -> None:
    """L6: a statement that finds more or fewer rows than it must takes all back."""
    with stepped(url) as client:
        database = client.log.database
        names = ("a", "b")
        rows_of = [(name, 0, "2030-01-01 00:00:00.000") for name in names]
        database.write(
            database.insert_missing("replay_cursors", "id, last_event_id, updated_at", rows_of)
        )
        before = rows(client, "SELECT id, last_event_id FROM replay_cursors ORDER BY id")
        change = "UPDATE replay_cursors SET last_event_id = last_event_id + 1"
        first = Statement(f"{change} WHERE id = 'a'", (), 1)
        for found, must_find in ((0, 1), (1, 0), (2, 1), (1, 2)):
            where = {0: "id = 'x'", 1: "id = 'b'", 2: "id IN ('a', 'b')"}[found]
            with pytest.raises(DatabaseError):
                database.write([first, Statement(f"{change} WHERE {where}", (), must_find), first])
            assert rows(client, "SELECT id, last_event_id FROM replay_cursors ORDER BY id") == (
                before
            )
        database.write([first, Statement(change, (), 2)])
        assert rows(client, "SELECT id, last_event_id FROM replay_cursors ORDER BY id") == [
            ("a", 2),
            ("b", 1),
        ]


def test_an_unchanged_row_counts_as_found(url: str) -> None:
    """L7: a cursor that is set to what it is was found, on MySQL too."""
    with stepped(url) as client:
        client.log.claim("c", 0)
        same = Statement("UPDATE replay_cursors SET last_event_id = 0 WHERE id = 'c'", (), 1)
        client.log.database.write([same, same])


def test_rows_that_exist_are_skipped(url: str) -> None:
    """Inserting what is missing leaves what is there as it was."""
    with stepped(url) as client:
        database, stored = client.log.database, "id, last_event_id, updated_at"
        for names, position in (("ab", 1), ("bc", 2), ("", 3)):
            new = [(name, position, "2030-01-01 00:00:00.000") for name in names]
            database.write(database.insert_missing("replay_cursors", stored, new))
        assert rows(client, "SELECT id, last_event_id FROM replay_cursors ORDER BY id") == [
            ("a", 1),
            ("b", 1),
            ("c", 2),
        ]


def test_an_error_of_the_database_is_ours(url: str) -> None:
    """A broken statement is a DatabaseError with the database's own text."""
    with stepped(url) as client:
        for attempt in (
            lambda: client.log.database.query("SELECT * FROM replay_nowhere"),
            lambda: client.log.database.write([Statement("DELETE FROM replay_nowhere")]),
        ):
            with pytest.raises(DatabaseError, match="replay_nowhere") as raised:
                attempt()
            assert isinstance(raised.value.__cause__, sqlite3.Error | pymysql.err.Error)
        assert client.run_workflow("n", "w", "r", None)


def test_an_outage_is_one_line_a_minute(
    url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P16: however often a database cannot be reached, a minute has one line of it at most."""
    with stepped(url) as client:
        database, now = client.log.database, time.monotonic()
        monkeypatch.setattr("replay.storage.database.time.monotonic", lambda: now)
        for minute in range(1, 4):
            for _ in range(1000):
                database.unreachable("gone")
            line = f"{database.name} cannot be reached, waiting for it: gone"
            assert caplog.messages == [line] * minute
            now += 59.9
            database.unreachable("gone")
            assert caplog.messages == [line] * minute
            now += 0.2


def test_an_open_database_is_what_the_url_says(url: str) -> None:
    """Events are read with their types and times, whatever the driver does with columns."""
    database = open_database(url)
    try:
        assert isinstance(database, MySQL) == url.startswith("mysql")
        assert database.newest() == (0, 0, False)
    finally:
        database.close()
    with stepped(url) as client:
        client.run_workflow("n", "w", "r", None)
        (event,) = client.stream(to_head=True)
        assert event.type is EventType.RUN_CREATED
        assert event.timestamp.tzinfo is UTC
