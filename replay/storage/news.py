"""News between processes: one that has committed tells the others, so that they read at once.

Role: `News` announces in `replay_processes` where this process listens, and sends a datagram to the
others after a commit.

Invariants (L12):

- A datagram is only a hint: the receiver reads the log as always, and finds what is there.  So a
  lost one costs the pause of the poller, and a forged one costs a poll.
- Nothing here fails, delays or repeats a commit.
- A process sends nothing beyond this machine unless the URL gives it an address there.

Left to `replay.storage.tail`: how often the log is read.
"""

from __future__ import annotations

import contextlib
import logging
import math
import socket
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from ipaddress import IPv4Address

from .database import Database, DatabaseError, Insert, Statement, to_text

log = logging.getLogger("replay")

_LEASE = timedelta(minutes=3)
_RENEW = 60.0  # seconds between two announcements
_READ = 2.0  # seconds that a list of addresses is used
_READ_SOON = 1.0  # seconds that it is used if there is a new process
_MOST = 100  # addresses that a process sends to, and old rows that it removes at a time
#: A process that finds something polls again after 1 ms, and then after 1.5 ms.  So it finds by
#: itself what is committed within 2 ms of that.  Busy processes send each other next to nothing.
_HOT = 0.002
_REST = 0.001  # seconds between two datagrams that a process takes
#: The smallest that there is.  All datagrams say the same, so a few that wait do for many.
_BUFFER = 1024
_PATIENCE = 1.0  # seconds that `close` waits for the thread
_OTHERS = (
    "SELECT process, address FROM replay_processes"
    " WHERE consumer = '' AND process <> ? AND SUBSTR(process, 1, ?) = ? AND lease_until > ?"
    " ORDER BY id DESC LIMIT ?"
)
_OLD = "SELECT process FROM replay_processes WHERE consumer = '' AND lease_until <= ? LIMIT ?"
_REMOVE = "DELETE FROM replay_processes WHERE consumer = '' AND process = ?"


class News:
    """The news of one process.  It calls `hear` when another process has committed."""

    def __init__(self, database: Database, process: str, hear: Callable[[], None]) -> None:
        self._database = database
        self._process = process
        self._hear = hear
        #: Empty: nothing is sent or heard.  A database that is only read has no `log_id`.
        self._host = database.news if database.log_id else ""
        self._here = process.rsplit(":", 2)[0] + ":"  # how processes of this machine begin
        self._far = self._host != "" and not IPv4Address(self._host).is_loopback
        # Another log's processes may have had the same port before.
        self._committed = database.log_id.encode()
        self._new_here = self._committed + b"+"
        self._addresses: Sequence[tuple[str, int]] = ()
        self._read_at = self._read_soon_at = self._last = -math.inf
        self._announce_at = -math.inf
        self._own = ("", 0)
        self._thread: threading.Thread | None = None
        self._closed = False

    # Sending.

    def tell(self) -> None:
        """Tell the other processes that this one has committed what they may wait for."""
        last, self._last = self._last, time.monotonic()
        if self._host and self._last > last + _HOT:
            if self._last >= self._read_at:
                self._read()
            self._send(self._committed)

    def _read(self) -> None:
        """Read who is there."""
        now = time.monotonic()
        self._read_at, self._read_soon_at = now + _READ, now + _READ_SOON
        machine = "" if self._far else self._here
        who = (self._process, len(machine), machine)
        parameters = (*who, to_text(self._database.now()), _MOST)
        # The commit stands, and others find it when they poll.
        with contextlib.suppress(DatabaseError):
            rows = self._database.query(_OTHERS, parameters)
            found = [self._within_reach(str(process), str(text)) for process, text in rows]
            self._addresses = [address for address in found if address is not None]

    def _within_reach(self, process: str, text: str) -> tuple[str, int] | None:
        """Read an address; None if it leads nowhere from here, or further than the URL allows."""
        name, _, number = text.rpartition(":")
        try:
            host, port = IPv4Address(name), int(number)
        except ValueError:  # another version's
            return None
        reachable = process.startswith(self._here) if host.is_loopback else self._far
        return (name, port) if reachable and 0 < port < 65536 else None

    def _send(self, data: bytes) -> None:
        if not self._addresses:
            return
        # Nobody has to get it: the receiver polls in any case.
        with contextlib.suppress(OSError), socket.socket(type=socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            for address in self._addresses:
                with contextlib.suppress(OSError):
                    sender.sendto(data, address)

    # Hearing.

    def announce(self) -> None:
        """Listen, and say once a minute where.  Only the thread that polls calls this."""
        if not self._host or (now := self._database.monotonic()) < self._announce_at:
            return
        self._announce_at = now + _RENEW
        if is_new := self._thread is None:
            self._listen()
        if self._thread is None:
            return
        # A row that cannot be written must stop no poll, and polls do without it.
        with contextlib.suppress(DatabaseError):
            self._write_row()
        if is_new:
            self._read()
            self._send(self._new_here)

    def _write_row(self) -> None:
        """Write this process's row, and remove those of processes that have died."""
        now = self._database.now()
        old = self._database.query(_OLD, (moment := to_text(now), _MOST))
        gone = [Statement(f"{_REMOVE} AND lease_until <= ?", (name, moment)) for (name,) in old]
        row = ("", self._process, "{}:{}".format(*self._own), to_text(now + _LEASE))
        insert = Insert("replay_processes", "consumer, process, address, lease_until", [row])
        self._database.write([*gone, Statement(_REMOVE, (self._process,))], insert)

    def _listen(self) -> None:
        """Start the thread that takes datagrams."""
        with contextlib.ExitStack() as failing:
            try:
                receiver = failing.enter_context(socket.socket(type=socket.SOCK_DGRAM))
                receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
                receiver.bind((self._host, 0))
            except OSError as error:
                self._announce_at = math.inf
                text = "%s: no news at %s: %s: this process finds what others commit when it polls"
                log.warning(text, self._database.name, self._host, error)
                return
            self._own = receiver.getsockname()
            thread = threading.Thread(
                target=self._take, args=(receiver,), name="replay-news", daemon=True
            )
            thread.start()
            self._thread = thread
            failing.pop_all()  # the thread closes it

    def _take(self, receiver: socket.socket) -> None:
        with receiver:
            while not self._closed:
                try:
                    data = receiver.recv(len(self._new_here) + 1)
                except OSError:  # Windows says so if a datagram is longer
                    data = b""
                if data == self._new_here:
                    self._read_at = self._read_soon_at
                elif data == self._committed:
                    self._hear()
                time.sleep(_REST)  # however many anybody sends
        # A row that stays says nothing any more when its lease is over.
        with contextlib.suppress(DatabaseError):
            self._database.write([Statement(_REMOVE, (self._process,))], attempts=1)

    def close(self) -> None:
        """Hear and tell no more, and take the announcement back."""
        self._host, self._closed = "", True
        if self._thread is not None:
            self._addresses = [self._own]
            self._send(b"")  # wakes the thread
            self._thread.join(_PATIENCE)
