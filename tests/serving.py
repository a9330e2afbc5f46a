"""Servers for tests: in a thread of this process, where a test can look into them."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from replay import Consumer
from replay.server.host import Host
from replay.server.options import Options
from replay.server.remote import RemoteClient
from replay.server.server import Server
from replay.storage.database import Database
from tests.servers import add_options

#: Those that run just now, by URL.
SERVING: dict[str, Serving] = {}


class SteppedHost(Host):
    """A log whose sleeps and signals are served only when a test steps them."""

    def start(self) -> None:
        """As in `Host`, without the loops, and without news: a test counts what is written."""
        self.log.news.announce = lambda: None  # type: ignore[method-assign]
        self.log.tail.keep_polling(self.poll)
        self._hear()


class Serving:
    """A server in a thread."""

    def __init__(self, databases: Mapping[str, str], *, stepped: bool, **options: Any) -> None:
        self._databases = databases
        self._options = {"listen": "127.0.0.1:0", **options}
        self._stepped = stepped
        self._ready = threading.Event()
        self._beside: list[Serving] = []
        self._problem: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="serving")
        self.server: Server
        self.url = ""

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self._thread.start()
        self._ready.wait()
        if self._problem is not None:
            self._thread.join()
            raise self._problem
        SERVING[self.url] = self

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._problem = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self.server = Server(Options(databases=self._databases, **self._options))
        with patch("replay.server.server.Host", SteppedHost if self._stepped else Host):
            await self.server.start()
        self.url = f"grpc://127.0.0.1:{self.server.port}"
        self._ready.set()
        await self._stop.wait()
        await self.server.stop()

    def beside(self, **options: object) -> str:
        """The URL of another server on the same database, whose URL has these options."""
        url = add_options(self.base(), **options)
        self._beside.append(Serving({"": url}, stepped=self._stepped))
        self._beside[-1].start()
        return self._beside[-1].url

    def stop(self) -> None:
        """Stop it in order."""
        for each in self._beside:
            each.stop()
        del SERVING[self.url]
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        if self._problem is not None:
            raise self._problem

    def call(self, function: Callable[[], object]) -> None:
        """Call something in the server's event loop."""
        done = threading.Event()
        self._loop.call_soon_threadsafe(function)
        self._loop.call_soon_threadsafe(done.set)
        done.wait()

    def settle(self, sessions: int) -> None:
        """Wait until no more than so many sessions are left, and their names are given up."""
        host = self.host()
        while len(host.sessions) > sessions or host._tasks:
            self.call(lambda: None)

    def host(self, namespace: str = "") -> Host:
        """The log that has a namespace's events."""
        return self.server._hosts.of(namespace)

    def database(self, namespace: str = "") -> Database:
        """The database of a namespace."""
        return self.host(namespace).log.database

    def loops(self) -> list[Consumer]:
        """The consumers of sleeps and signals, to be stepped."""
        return [loop for host in self.server._hosts.all() for loop in host.client.loops()]

    def base(self) -> str:
        """The URL of the database."""
        return self._databases[""]


@contextmanager
def serving(url: str = "", *, stepped: bool = True, **options: Any) -> Iterator[Serving]:
    """A server on the database at `url`."""
    databases = options.pop("databases", {"": url})
    server = Serving(databases, stepped=stepped, **options)
    with patch.object(RemoteClient, "add", _add_with_loops):
        server.start()
        try:
            yield server
        finally:
            server.stop()
            # gRPC leaves sockets to the garbage collector, whose warning shall come here, where it
            # is known and let pass.
            gc.collect()


_add = RemoteClient.add


def _add_with_loops(self: RemoteClient, consumer: Consumer, start: bool) -> Consumer:
    """Start the loops of a stepped server, too, when a client starts its first consumer."""
    _add(self, consumer, start)
    if start and self.log.name in SERVING:
        for loop in SERVING[self.log.name].loops():
            loop.start()
    return consumer
