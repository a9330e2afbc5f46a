"""Serves the metrics of ``replay server --metrics`` over HTTP (extra: metrics).

Role: answers ``GET /metrics`` and nothing else, in the server's event loop.  Two kinds of figures
come together: what sessions report with their commits, and what the databases say (`Backlog`).

Invariants:

- With tokens configured, a scrape needs one that may read all namespaces (G4).
- At most 8 scrapes are under way, each for 10 s at most, with a request of 8 KiB at most.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from ..server.access import Forbidden, Unauthenticated
from ..server.options import BadSetup, address
from .metrics import Prometheus, backlogs

if TYPE_CHECKING:
    from ..server.server import Server

log = logging.getLogger("replay")

_SCRAPES = 8  # at a time
_PATIENCE = 10.0  # seconds for a request and its answer
_LONGEST = 8 * 1024  # bytes of a request's head


class Exporter:
    """The metrics of one server, at one address."""

    def __init__(self, listen: str) -> None:
        self._listen = listen
        self._registry = CollectorRegistry()
        #: The figures that the server reports to.
        self.figures = Prometheus(self._registry)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="replay-scrape")
        self._open = 0
        self.port = 0

    async def start(self, server: Server) -> None:
        """Listen.  Raises `BadSetup` if it cannot.  Sets `port`."""
        host, port = address("metrics", self._listen)
        self._server = server
        self._registry.register(_Served(server))
        try:
            self._listener = await asyncio.start_server(self._serve, host, port, limit=_LONGEST)
        except OSError as error:
            raise BadSetup(f"--metrics {self._listen}: {error.strerror or error}") from error
        self.port = self._listener.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Listen no more."""
        self._listener.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, and close the connection."""
        if self._open >= _SCRAPES:
            writer.transport.abort()
            return
        self._open += 1
        try:
            async with asyncio.timeout(_PATIENCE):
                status, body = await self._answer(await reader.readuntil(b"\r\n\r\n"))
                writer.write(_response(status, body))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, EOFError, asyncio.LimitOverrunError, ConnectionError):
            writer.transport.abort()
        except Exception:
            log.exception("a scrape got no answer")
            writer.transport.abort()
        finally:
            self._open -= 1

    async def _answer(self, head: bytes) -> tuple[str, bytes]:
        line, *fields = head.decode("latin-1").split("\r\n")
        method, _, rest = line.partition(" ")
        if method != "GET" or re.split("[ ?]", rest)[0] != "/metrics":
            return "404 Not Found", b"GET /metrics\n"
        try:
            self._admit(fields)
        except (Unauthenticated, Forbidden) as error:
            return "401 Unauthorized", f"{error}\n".encode()
        loop = asyncio.get_running_loop()
        return "200 OK", await loop.run_in_executor(self._pool, generate_latest, self._registry)

    def _admit(self, fields: list[str]) -> None:
        """Check the token, if tokens are asked for.  Raises `Unauthenticated` or `Forbidden`."""
        access = self._server.access
        if access.open:
            return
        given = [each.partition(":") for each in fields]
        values = [text.strip() for name, _, text in given if name.lower() == "authorization"]
        kind, _, token = values[0].partition(" ") if len(values) == 1 else ("", "", "")
        who = access.principal(token.strip() if kind.lower() == "bearer" else None)
        if who.namespaces is not None:
            raise Forbidden(f"token {who.name!r} is not for all namespaces, but metrics are")


def _response(status: str, body: bytes) -> bytes:
    kind = CONTENT_TYPE_LATEST if status.startswith("200") else "text/plain; charset=utf-8"
    fields = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
    fields += ["Connection: close", "Cache-Control: no-store"]
    if status.startswith("401"):
        fields.append("WWW-Authenticate: Bearer")
    return "\r\n".join([*fields, "", ""]).encode() + body


class _Served:
    """The counts of a server and of its databases: a collector, as in `Backlog`."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def describe(self) -> list[Metric]:
        """Nothing, so that the registry asks no database for names."""
        return []

    def collect(self) -> Iterator[Metric]:
        """As in `Collector`."""
        counts = self._server.counts()
        yield GaugeMetricFamily("replay_server_sessions", "Clients connected", counts.sessions)
        yield GaugeMetricFamily(
            "replay_server_waiting", "Streams, sessions and calls that wait", counts.waiting
        )
        refused = CounterMetricFamily(
            "replay_server_refused", "Calls that were refused", labels=["reason"]
        )
        for reason, count in counts.refused.items():
            refused.add_metric([reason], count)
        yield refused
        yield from backlogs(self._server.logs)
