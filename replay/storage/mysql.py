"""MySQL and MariaDB.

Invariant: each thread has its own connection, because a consumer's named lock must live and end
with the connection that the consumer writes with.

A transaction travels in one packet, or in as few packets as the server accepts.  A Galera node gets
each statement alone.

Only the primary of a replication group is used.  A connection to a member that is read-only is
replaced, as are all that the process made before it.

Left to `replay.log`: what the rows mean.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
import weakref
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any
from urllib.parse import SplitResult, unquote

import pymysql
from pymysql.constants import CLIENT, FIELD_TYPE
from pymysql.converters import conversions

from . import truss
from .database import (
    BadUrl,
    Database,
    DatabaseError,
    Duplicate,
    IdTaken,
    Insert,
    NotFound,
    OutcomeUnknown,
    ReadOnly,
    RolledBack,
    Row,
    ServerClock,
    Statement,
    StatementFailed,
    Step,
    Unavailable,
    entered,
    from_text,
    insertion,
    log,
    number,
)

_ROWS_PER_INSERT = 500
_MANY = 100  # parameters from which on it is worthwhile to look for equal ones
_TIMEOUT = 30


class MySQL(Database):
    """MySQL or MariaDB, with one connection for each thread."""

    placeholder = "%s"
    skip_duplicates = " ON DUPLICATE KEY UPDATE `id` = `id`"
    _types = MappingProxyType(
        {
            "ID": "BIGINT AUTO_INCREMENT PRIMARY KEY",
            "EVENT": "BIGINT PRIMARY KEY",
            "TIME": "DATETIME(3)",
            "HASH": "BINARY(128)",
            "BLOB": "MEDIUMBLOB",
        }
    )

    #: Server errors after which the same transaction may succeed.
    _ROLLED_BACK = (1205, 1213, 3101)
    #: Those of them after which a `Step` runs again, too.  One that has waited for a lock for a
    #: second does not, because it must not hold up others (A3).
    _IN_THE_WAY = (1213, 3101)
    #: Errors that mean that the server cannot be reached for now.  1317: MySQL ends a query so when
    #: it shuts down.
    _AWAY: tuple[int, ...] = (1040, 1047, 1053, 1077, 1152, 1158, 1159, 1160, 1161, 1203, 1317)
    _AWAY += (1927, 2002, 2003, 2006, 2013, 2014, 2055, 4031)
    #: The same of a member of a replication group.  3100: it has lost its group during a commit,
    #: which the others may have.
    _AWAY += (3032, 3100, 3781, 3782, 3783, 3796, 3797, 3798, 3799)
    _UNCONNECTED = (1040, 1203, 2002, 2003)
    _READ_ONLY = (1044, 1142, 1143, 1227, 1792, 1836)

    def __init__(self, name: str, arguments: dict[str, Any], options: dict[str, str]) -> None:
        #: Seconds until a silent server counts as gone.
        self._timeout: int | None = number(options.pop("timeout", _TIMEOUT), "timeout")
        super().__init__(name, options)
        self._arguments = arguments
        self._local = threading.local()
        self._open: weakref.WeakSet[pymysql.connections.Connection[Any]] = weakref.WeakSet()
        self._mutex = threading.RLock()
        self._closed = False
        self._clock = ServerClock()
        self._step = 1  # between the ids of an INSERT of many rows; 0 if that is unknown
        self._cluster = False
        self._group = False  # whether it is a member of a replication group
        self._era = 0  # connections that were made before it was raised are not used again
        with self._translated():
            self._connection()
        self._check_packet()

    def _check_packet(self) -> None:
        packet = int(self.query("SELECT @@max_allowed_packet")[0][0])
        if packet < 2 * self.max_message + 65536:
            raise DatabaseError(
                f"{self.name}: max_allowed_packet is {packet} bytes; messages of up to"
                f" {self.max_message} bytes need {2 * self.max_message + 65536}: raise it on the"
                " server, or lower max_message in the URL"
            )
        # In characters: one may take four bytes.
        self._packet = packet // 4

    def prepare(self) -> None:
        """As in `Database`.  Warns of settings with which a crash loses commits (L11)."""
        super().prepare()
        sql = (
            "SHOW GLOBAL VARIABLES WHERE Variable_name IN"
            " ('innodb_flush_log_at_trx_commit', 'log_bin', 'sync_binlog')"
        )
        found: dict[str, str] = dict(self.query(sql))
        needed = ["innodb_flush_log_at_trx_commit"]
        if found.get("log_bin") == "ON":
            needed.append("sync_binlog")
        if weak := [f"{name}={found[name]}" for name in needed if found.get(name, "1") != "1"]:
            log.warning(
                "%s has %s: a crash of its machine may lose commits that it has acknowledged; 1"
                " prevents that",
                self.name,
                " and ".join(weak),
            )

    def now(self) -> datetime:
        """As in `Database`, by the server's clock."""
        return self._clock.now()

    def _connection(self) -> pymysql.connections.Connection[Any]:
        if self._closed:
            raise Unavailable(f"{self.name} has been closed")
        if getattr(self._local, "era", None) != self._era:
            self._discard()
        connection: pymysql.connections.Connection[Any] | None = self._local.connection
        if connection is None:
            era = self._era
            try:
                connection = self._connect()
            except (pymysql.err.Error, OSError) as error:
                # A lost connection is no outage yet: the next one may work at once.
                if self._is_away(error):
                    self.unreachable(error.args[-1] if error.args else error)
                raise
            with entered(self._mutex):
                self._open.add(connection)
            self._local.connection, self._local.era = connection, era
        return connection

    def _connect(self) -> pymysql.connections.Connection[Any]:
        decoders = {k: v for k, v in conversions.items() if k != FIELD_TYPE.DATETIME}
        connection = pymysql.connect(
            **self._arguments,
            charset="utf8mb4",
            autocommit=True,
            client_flag=CLIENT.FOUND_ROWS | CLIENT.MULTI_STATEMENTS,
            conv=decoders,
            connect_timeout=5,
            read_timeout=self._timeout,
            write_timeout=self._timeout,
        )
        try:
            self._set_up(connection.cursor())
        except BaseException:
            connection._force_close()  # type: ignore[attr-defined]
            raise
        return connection

    def _set_up(self, cursor: Any) -> None:
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        cursor.execute(
            # An idle connection that the server closes takes a consumer's lock with it.
            "SET SESSION innodb_lock_wait_timeout = 1, SESSION time_zone = '+00:00',"
            " SESSION wait_timeout = 31536000,"
            " SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'"
        )
        cursor.execute(
            "SHOW VARIABLES WHERE Variable_name IN ('hostname', 'port', 'server_uuid',"
            " 'wsrep_on', 'wsrep_node_name', 'wsrep_auto_increment_control',"
            " 'auto_increment_increment', 'group_replication_single_primary_mode',"
            " 'group_replication_consistency')"
        )
        self._know(variables := dict(cursor.fetchall()))
        if self._cluster:
            # A read on this node waits for what other nodes have committed.
            cursor.execute("SET SESSION wsrep_sync_wait = 1")
        if variables.get("group_replication_consistency") == "EVENTUAL":
            # A read on a new primary waits for what the old one had acknowledged.
            level = "BEFORE_ON_PRIMARY_FAILOVER"
            cursor.execute(f"SET SESSION group_replication_consistency = '{level}'")
        began = datetime.now(UTC)
        cursor.execute("SELECT UTC_TIMESTAMP(6)")
        self._clock.adjust(began, from_text(cursor.fetchone()[0]))

    def _know(self, variables: dict[str, str]) -> None:
        single = variables.get("group_replication_single_primary_mode")
        if single == "OFF":
            raise DatabaseError(
                f"{self.name}: its replication group is in multi-primary mode, in which a member"
                " may not show what another has acknowledged: change it with SELECT"
                " group_replication_switch_to_single_primary_mode() on a member, and set"
                " group_replication_single_primary_mode=ON on each"
            )
        self._group = single is not None
        self._cluster = variables.get("wsrep_on") == "ON"
        # By default Galera changes the step with the number of nodes.
        unknown = self._cluster and variables.get("wsrep_auto_increment_control") != "OFF"
        self._step = 0 if unknown else int(variables["auto_increment_increment"])
        own = ("hostname", "port", "server_uuid", "wsrep_node_name")
        identity = ":".join(f"{name}={variables.get(name)}" for name in own)
        # The domain belongs to this connection: others of the process may lead to other nodes.
        self._local.domain = hashlib.sha256(identity.encode()).hexdigest()[:16]

    @contextlib.contextmanager
    def _translated(self, committing: bool = False) -> Any:
        try:
            yield
        except (pymysql.err.Error, OSError) as error:
            raise self._meaning(error, committing) from error
        except StatementFailed:  # the exchange is over
            raise
        except BaseException:
            # A signal handler raised it, perhaps in the middle of an exchange: the next answer
            # would be to an old question.
            self._discard()
            raise

    def _is_away(self, error: Exception) -> bool:
        """Whether the server cannot be reached for now."""
        away = isinstance(error, (OSError, pymysql.err.InterfaceError))
        return away or (bool(error.args) and error.args[0] in self._AWAY)

    def _meaning(self, error: Exception, committing: bool) -> DatabaseError:
        code = error.args[0] if error.args and isinstance(error.args[0], int) else -1
        text = f"{self.name}: {error.args[-1] if error.args else error}"
        if code == 1062:
            found = re.search(r"'(?:[^']*\.)?(\w+)'$", str(error.args[1]))
            return IdTaken(text) if found and found[1] == "PRIMARY" else Duplicate(text)
        if code == 1242:
            return NotFound(text)
        # So a node breaks off what is in the way of another node's change of tables.
        interrupted = code == 1317 and self._cluster
        if code in self._ROLLED_BACK or interrupted:
            return RolledBack(text)
        if self._group and code == 1290 and "read-only" in text:
            return self._demoted()
        if code in self._READ_ONLY or (code == 1290 and "read-only" in text):
            return ReadOnly(f"{text}: give this account the right to read, write and create tables")
        if self._is_away(error):
            self._discard()
            # A server that does not answer may have been restarted meanwhile, so this is a loss.
            self.losses += 1
            if isinstance(error.__context__, TimeoutError):  # else nobody would know, as it repeats
                self.unreachable(
                    f"no answer for {self._timeout} s: if it is only slow, raise timeout in the URL"
                )
            unsent = code in self._UNCONNECTED or not committing
            return Unavailable(text) if unsent else OutcomeUnknown(text)
        if code in (1045, 1049, 1698):
            return DatabaseError(f"{text}: check the user, password and database in the URL")
        return DatabaseError(text)

    def _demoted(self) -> Unavailable:
        """Have all threads connect again: after a fail-over the URL may lead to the primary."""
        self._era = max(self._era, getattr(self._local, "era", -1) + 1)
        self.losses += 1
        why = "this member of a replication group is not its primary: let the URL lead to that"
        self.unreachable(why)
        return Unavailable(f"{self.name}: {why}")

    def _discard(self) -> None:
        connection = getattr(self._local, "connection", None)
        self._local.connection = None
        if connection is not None:
            with entered(self._mutex):
                self._open.discard(connection)
            connection._force_close()

    def _execute(self, sql: str, parameters: Sequence[Any]) -> Sequence[Row]:
        cursor = self._connection().cursor()
        cursor.execute(_percent(sql), parameters or None)
        rows: Sequence[Row] = cursor.fetchall()
        return rows

    def _write(self, statements: Sequence[Statement], inserts: Sequence[Insert]) -> list[int]:
        cursor = self._connection().cursor()
        script, steps = ["BEGIN"], dict[int, Step]()
        chunks = [(insert, some) for insert in inserts for some in self._chunks(insert.rows)]
        for statement in (*statements, *(insertion(*each[:2], some) for each, some in chunks)):
            sql, parameters, must_find = statement
            if isinstance(statement, Step):
                steps[len(script)] = statement
            script.append(_bound(cursor, sql, parameters))
            if must_find is not None:
                script.append(_GUARD.format(must_find))
        script.append("COMMIT")
        done: list[int] = []
        try:
            self._send(cursor, script, done)
        except (pymysql.err.Error, OSError) as error:
            self._rollback()
            step = steps.get(len(done))
            if step is None or self._is_away(error) or error.args[0] in self._IN_THE_WAY:
                raise
            raise StatementFailed(f"{self.name}: {error.args[-1]}", step) from error
        ids: list[int] = []
        first = done[-len(chunks) - 1 : -1]
        for id, (_, chunk) in zip(first, chunks, strict=True) if self._step else ():
            # In each of its lock modes InnoDB gives the rows of one INSERT ... VALUES adjacent ids.
            ids += range(id, id + len(chunk) * self._step, self._step)
        return ids

    def _send(self, cursor: Any, script: Sequence[str], ids: list[int]) -> None:
        """Run a script in as few packets as possible; add the first id of each statement to `ids`.

        If one fails, `ids` has those before it.
        """
        packets: list[list[str]] = [[]]
        size = 0
        for sql in script:
            # A Galera node that rolls back in the middle of a packet does not say so.
            if packets[-1] and (self._cluster or size + len(sql) > self._packet):
                packets.append([])
                size = 0
            packets[-1].append(sql)
            size += len(sql)
        for packet in packets:
            cursor.execute(";".join(packet))
            ids.append(cursor.lastrowid)
            while cursor.nextset():
                ids.append(cursor.lastrowid)

    def _chunks(self, rows: Sequence[Row]) -> Iterable[Sequence[Row]]:
        """Divide rows into chunks that fit into one packet."""
        start = size = 0
        for end, row in enumerate(rows):
            more = sum([2 * len(value) for value in row if type(value) is bytes]) + 2000
            if end > start and (size + more > self._packet or end - start >= _ROWS_PER_INSERT):
                yield rows[start:end]
                start, size = end, 0
            size += more
        yield rows[start:]

    def _rollback(self) -> None:
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            try:
                connection.rollback()
            except (pymysql.err.Error, OSError):
                self._discard()

    def newest(self) -> tuple[int, int, bool]:
        """As in `Database`.  Raises `Unavailable` if this is not the primary of its group."""
        began = datetime.now(UTC)
        sql = (
            # One short column: reading the column descriptions costs more than the values.
            "SELECT CONCAT_WS('|', (SELECT COALESCE(MAX(id), 0) FROM replay_events),"
            " (SELECT COALESCE(MAX(id), 0) FROM replay_signals),"
            # Says as much as EXISTS, and the server answers it before it opens the table.
            " (SELECT COALESCE(MIN(id), 0) FROM replay_inbox WHERE error IS NULL),"
            " UTC_TIMESTAMP(6)) AS a"
        )
        if self._group:  # a member that has lost it answers all the same, with what it had
            sql = sql.replace("UTC_TIMESTAMP(6)", "UTC_TIMESTAMP(6), @@super_read_only")
        events, signals, inbox, moment, *demoted = self.query(sql)[0][0].split("|")
        if "1" in demoted:
            raise self._demoted()
        self._clock.adjust(began, from_text(moment))
        return int(events), int(signals), inbox != "0"

    def lock(self, name: str, wait: float) -> str:
        """As in `Database`: GET_LOCK, which ends with the connection."""
        locked = self.query("SELECT GET_LOCK(?, ?)", (self._lock_name(name), wait))[0][0]
        return str(self._local.domain) if locked else ""

    def unlock(self, name: str) -> None:
        """As in `Database`."""
        self.query("SELECT RELEASE_LOCK(?)", (self._lock_name(name),))

    def _lock_name(self, name: str) -> str:
        # All databases of a server share named locks, and a name has at most 64 characters.
        return hashlib.sha256(f"{self._arguments['database']}/{name}".encode()).hexdigest()[:48]

    def release(self) -> None:
        """As in `Database`."""
        self._discard()

    def close(self) -> None:
        """As in `Database`."""
        with entered(self._mutex):
            self._closed = True
            for connection in list(self._open):
                connection._force_close()  # type: ignore[attr-defined]
            self._open.clear()

    def _create(self) -> None:
        """As in `Database`, without a timeout: to index a large table takes long."""
        self._discard()
        timeout, self._timeout = self._timeout, None
        try:
            with truss.amended(self):
                super()._create()
        finally:
            self._timeout = timeout
            self._discard()

    def _columns(self, table: str) -> set[str]:
        rows = self.query(
            "SELECT column_name FROM information_schema.columns"
            " WHERE table_schema = DATABASE() AND table_name = ?",
            (table,),
        )
        return {row[0] for row in rows}

    def _define(self, table: str, columns: str) -> None:
        self.query(
            f"CREATE TABLE IF NOT EXISTS {table} ({columns})"
            " ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin"
        )

    def _alter(self, sql: str) -> None:
        # 1060, 1061: another process that connects now was faster.
        try:
            self.query(sql)
        except DatabaseError as error:
            if not error.__cause__ or error.__cause__.args[0] not in (1060, 1061):
                raise

    def _index(self, table: str, name: str, unique: bool, on: str) -> None:
        self._alter(f"CREATE {'UNIQUE ' if unique else ''}INDEX {name} ON {table} ({on})")


#: Stops a script if the last statement did not find its rows: a value of two rows is an error.
#: (MariaDB's DO would ignore it.)
_GUARD = "SET @replay = IF(ROW_COUNT() = {}, 0, (SELECT 1 UNION ALL SELECT 2))"


def _percent(sql: str) -> str:
    return sql.replace("?", "%s")


def _bound(cursor: Any, sql: str, parameters: Sequence[Any]) -> str:
    """As `cursor.mogrify`, but each value is quoted once: many rows have most of theirs in common.

    The driver quotes all of them in one call.  A quoted value never has a zero byte.
    """
    if len(parameters) < _MANY:
        return str(cursor.mogrify(_percent(sql), parameters or None))
    values = list(dict.fromkeys(parameters))
    quoted = cursor.mogrify("\0".join(["%s"] * len(values)), values).split("\0")
    found = dict(zip(values, quoted, strict=True))
    return _percent(sql) % tuple([found[each] for each in parameters])


def open_mysql(parts: SplitResult, options: dict[str, str]) -> MySQL:
    """The database at ``mysql://user:password@host:3306/database``; see `replay.connect`."""
    try:
        port = parts.port or 3306
    except ValueError:
        port = 0
    # A password in the wrong place must not be shown.
    misplaced = "@" in parts.path + parts.query + parts.fragment
    if not port or not parts.hostname or len(parts.path) < 2 or misplaced:
        raise BadUrl(
            "expected mysql://user:password@host:3306/database; the characters / ? # @ in a user or"
            " password are written %2F %3F %23 %40"
        ) from None
    arguments: dict[str, Any] = {
        "host": parts.hostname,
        "port": port,
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "database": unquote(parts.path[1:]),
    }
    _secure(arguments, options)
    return MySQL(f"mysql://{parts.hostname}:{port}{parts.path}", arguments, options)


def _secure(arguments: dict[str, Any], options: dict[str, str]) -> None:
    """Use TLS if the server offers it, except for connections within this machine."""
    if socket := options.pop("unix_socket", None):
        arguments["unix_socket"] = socket
    if authority := options.pop("ssl_ca", None):
        arguments |= {"ssl_ca": authority, "ssl_verify_cert": True, "ssl_verify_identity": True}
    elif socket or arguments["host"] in ("localhost", "127.0.0.1", "::1"):
        arguments["ssl_disabled"] = True
