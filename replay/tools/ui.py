"""The command ``replay ui``: serves the page over HTTP, from a client of any log.

Role: `Site` turns a request into calls of a `Client`, and what they return into a page.  `Server`
and `_Handler` speak HTTP, and refuse what they should.  The edge keeps these rules (Q3):

- Without a token it listens on loopback only.  A token is asked for by every request.
- A Host header that is not ours is refused, so that a foreign name that leads here reads nothing.
- Only ``--write`` lets a POST through.  It must come from a page of ours: by its Origin, and with
  the secret that our forms have.
- A request is bounded in bytes and in time, and so are the threads.

Left to `page`: what a page says.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import hmac
import ipaddress
import logging
import re
import secrets
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from importlib import resources
from io import BufferedReader, RawIOBase
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from ..client import Client
from ..log import unread
from ..projection import Run
from ..query import QueryBehind, RunDescription, UnknownRun
from ..server.options import BadSetup, address, exposed
from ..server.wire import is_loopback
from ..storage.database import Error, Unavailable
from ..storage.event import Event
from . import page
from .console import Commands, on_log, opened
from .messages import plain, typed
from .page import Filter, Frame, RunView

log = logging.getLogger("replay")

#: Bytes of a POST, of a message in it, and of an address.
_MOST_BODY, _MOST_ADDRESS = 1 << 20, 8192
#: Seconds in which a request has to arrive, and an answer to be taken.
SECONDS = 10.0
#: Requests at the same time; more wait for their turn.
THREADS = 32
#: Events of a run that a page holds at most, and their bytes.
MOST_EVENTS, MOST_BYTES = 20_000, 32 << 20
#: The newest events of the log that are read, and those that are shown.
_TAIL, _SHOWN = 1000, 200
#: Runs in a list, and what is parked.
_LIMIT = 50
#: A run with more iterations shows the newest one first.
_ALL_BELOW = 10
_KEPT = 1000  # last words in memory
_SHORTEST_TOKEN = 16
#: The actions of a run's page, and what their pages say of an answer of yes, and of no.
_ACTIONS = {
    "cancel": ("cancelled", "not-cancelled"),
    "signal": ("signalled", "sent-before"),
    "retry": ("retried", "not-retried"),
}
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self';"
        " img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none';"
        " require-trusted-types-for 'script'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # With no-referrer a browser would send "Origin: null" with our own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Refused(Error):
    """A request that is answered with an error: its status and its text."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Reply:
    """An answer."""

    body: bytes = b""
    status: HTTPStatus = HTTPStatus.OK
    type: str = "text/html"
    headers: Mapping[str, str] = field(default_factory=dict)


class Site:
    """The pages of one log.  Without `write` it changes nothing."""

    def __init__(self, client: Client, *, write: bool = False) -> None:
        self._client = client
        self.token = secrets.token_urlsafe(24) if write else None
        self._pages = {"/": self._runs, "/consumers": self._consumers, "/log": self._log}
        self._files = {
            f"/{file.name}": Reply(file.read_bytes(), type=kind)
            for file in (resources.files(__package__) / "static").iterdir()
            if (kind := _TYPES.get(Path(file.name).suffix)) is not None
        }
        # They change with the run's events only.
        self._last_words = lru_cache(_KEPT)(self._words)

    def frame(self, query: Mapping[str, str]) -> Frame:
        """Return what stands around every page."""
        return Frame(self._client.log.name, self.token, query.get("done", ""))

    def get(self, path: str, query: Mapping[str, str]) -> Reply:
        """Answer a GET.  Raises `Refused`, or an `Error` of the client."""
        if path in self._files:
            return self._files[path]
        if path in self._pages:
            return self._pages[path](query)
        return self._run(_run_of(path), query)

    # Pages.

    def _runs(self, query: Mapping[str, str]) -> Reply:
        parts = [part.strip() for part in query.get("q", "").split("/")]
        if len(parts) == 3 and all(parts):
            return _redirect(page.run_address(*parts))
        namespace, workflow, *_ = (*parts, "", "")
        status, since = query.get("status", ""), query.get("since", "")
        chosen = Filter(namespace, workflow, status, since, _number(query, "after"))
        _, age = page.SINCE.get(since, ("", None))
        found = self._client.runs(
            namespace,
            workflow,
            status=status or None,
            started_after=None if age is None else datetime.now(UTC) - age,
            limit=_LIMIT + 1,
            after=chosen.after or None,
        )
        counts = self._client.count(namespace, workflow)
        more, found = len(found) > _LIMIT, found[:_LIMIT]
        words = {
            run.id: self._last_words((run.namespace, run.workflow, run.run), run.last_event_id)
            for run in found
            if not run.error
        }
        return _html(page.runs_page(self.frame(query), chosen, found, counts, words, more))

    def _words(self, run: Run, newest: int) -> str:
        """Return the last words of a run whose newest event has this id."""
        try:
            return page.last_words(self._describe(run))
        except Unavailable:
            raise
        except Error as error:
            return page.clipped(str(error))

    def _run(self, names: Run, query: Mapping[str, str]) -> Reply:
        run = self._describe(names)
        iteration = _iteration(run, query)
        events, cut = _first(self._client.history(*names, iteration))
        view = RunView(
            run,
            events,
            iteration,
            self._handled(*names[:2]),
            chosen=_number(query, "row"),
            opened=_number(query, "fold") if "fold" in query else None,
            cut=cut,
        )
        return _html(page.run_page(self.frame(query), view, datetime.now(UTC)))

    def _describe(self, run: Run) -> RunDescription:
        """Describe a run.  Its result stays as it is stored: its type may not be imported."""
        return self._client.queries(run[0]).describe(*run, plain)

    def _handled(self, namespace: str, workflow: str) -> int | None:
        """Return how far the workflow's consumers have read, all of them."""
        name = f"workflow/{namespace}/{workflow}"
        # They begin with the first name behind this one.
        found, _ = self._client.queries(namespace).consumers(name[:-1])
        return min(
            (each.cursor for each in found if f"{each.name}/".startswith(f"{name}/")), default=None
        )

    def _consumers(self, query: Mapping[str, str]) -> Reply:
        consumers, parked = self._client.consumers(), self._client.parked(limit=_LIMIT)
        return _html(page.consumers_page(self.frame(query), consumers, parked, datetime.now(UTC)))

    def _log(self, query: Mapping[str, str]) -> Reply:
        names = (*query.get("q", "").split("/"), "", "")[:3]
        after = max(0, self._client.log_of(names[0]).newest() - _TAIL)
        stream = self._client.stream(*names, after=after, to_head=True)
        newest = deque(map(unread, stream), _SHOWN)  # 200 messages may have 800 MiB
        chosen = Filter(names[0], "/".join(filter(None, names[1:])))
        return _html(page.log_page(self.frame(query), reversed(newest), chosen))

    # Actions.

    def post(self, path: str, form: Mapping[str, str]) -> Reply:
        """Carry out an action of a form.  Raises `Refused`, or an `Error` of the client."""
        if path == "/start":
            names = [form.get(name, "").strip() for name in ("namespace", "workflow", "run")]
            started = self._client.run_workflow(names[0], names[1], names[2], _value(form))
            return _redirect(
                page.run_address(*names, done="started" if started else "started-before")
            )
        base, _, action = path.rpartition("/")
        run = _run_of(base)
        if action not in _ACTIONS:
            raise Refused(HTTPStatus.NOT_FOUND, "There is no such action.")
        yes, no = _ACTIONS[action]
        done = self._act(action, run, form)
        return _redirect(page.run_address(*run, done=yes if done else no))

    def _act(self, action: str, run: Run, form: Mapping[str, str]) -> bool:
        """Carry out an action of a run's page.  Returns whether it has changed anything."""
        if action == "cancel":
            terminate, reason = form.get("terminate") == "yes", form.get("reason", "")
            return self._client.cancel_run(*run, reason, terminate=terminate)
        if action == "retry":
            return self._client.retry(*run) > 0
        type = form.get("type", "")
        if not re.fullmatch(r"-?\d{1,3}", type, re.ASCII):
            raise Refused(HTTPStatus.BAD_REQUEST, "The type of a signal is a number.")
        external_id = form.get("external_id", "")
        return self._client.signal_run(*run, int(type), _value(form), external_id)


def _first(history: Iterator[Event]) -> tuple[list[Event], bool]:
    """Return the first events of a history, and whether there are more than a page may hold."""
    events, size = list[Event](), 0
    for event in history:
        size += event.size
        if len(events) == MOST_EVENTS or (events and size > MOST_BYTES):
            return events, True
        events.append(event)
    return events, False


def _html(text: str, status: HTTPStatus = HTTPStatus.OK) -> Reply:
    return Reply(text.encode("utf-8", "backslashreplace"), status)


def _redirect(address: str) -> Reply:
    return Reply(status=HTTPStatus.SEE_OTHER, headers={"Location": address})


def _run_of(path: str) -> Run:
    """Return the three names in the address of a run.  Raises `Refused` for any other address."""
    parts = path.split("/")
    if len(parts) != 5 or parts[:2] != ["", "run"] or not all(parts[2:]):
        raise Refused(HTTPStatus.NOT_FOUND, "There is no such page.")
    namespace, workflow, run = (unquote(part, errors="replace") for part in parts[2:])
    return namespace, workflow, run


def _number(query: Mapping[str, str], name: str) -> int:
    text = query.get(name, "0")
    if not re.fullmatch(r"\d{1,18}", text, re.ASCII):
        raise Refused(HTTPStatus.BAD_REQUEST, f"{name} is not a number.")
    return int(text)


def _iteration(run: RunDescription, query: Mapping[str, str]) -> int | None:
    """Return which iteration to show; None for all."""
    asked = query.get("iteration", "all" if run.iteration < _ALL_BELOW else str(run.iteration))
    return None if asked == "all" else _number({"iteration": asked}, "iteration")


def _value(form: Mapping[str, str]) -> Any:
    """Return the message of a form."""
    try:
        return typed(form.get("message", "").strip() or None, None)
    except RecursionError as error:
        raise Refused(HTTPStatus.BAD_REQUEST, "The message is too deep.") from error


# HTTP.


@dataclass(frozen=True, kw_only=True)
class Edge:
    """The checks of a request."""

    #: Names that lead here; None in it stands for every IP address.
    hosts: frozenset[str | None]
    #: The SHA-256 of the token; None if there is none.
    token: bytes | None = None

    def allows_host(self, header: str | None) -> bool:
        """Whether a Host header names us, with any port: a tunnel may use another one."""
        try:
            host = urlsplit(f"//{header}").hostname if header else None
        except ValueError:
            return False
        return host is not None and (host in self.hosts or (None in self.hosts and _is_ip(host)))

    def allows_token(self, authorization: str) -> bool:
        """Whether an Authorization header has the token: as Bearer, or as Basic's password."""
        if self.token is None:
            return True
        scheme, _, given = authorization.strip().partition(" ")
        if scheme.lower() == "basic":
            try:
                given = base64.b64decode(given, validate=True).decode().partition(":")[2]
            except (binascii.Error, ValueError):
                return False
        elif scheme.lower() != "bearer":
            return False
        return hmac.compare_digest(_digest(given.strip()), self.token)


def _is_ip(host: str) -> bool:
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return False


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


class _Timed(RawIOBase):
    """Reads from a socket until a deadline: one byte at a time does not put it off."""

    def __init__(self, socket: socket.socket) -> None:
        self._socket = socket
        self._deadline = time.monotonic() + SECONDS

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if (left := self._deadline - time.monotonic()) <= 0:
            raise TimeoutError
        self._socket.settimeout(left)
        return self._socket.recv_into(buffer)


class Server(ThreadingMixIn, TCPServer):
    """Serves a site: a context manager that does so until it is left.

    It is no `HTTPServer`, because that looks up a name first, which may take seconds.
    """

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, site: Site, address: tuple[str, int], edge: Edge) -> None:
        self.site, self.edge = site, edge
        self._free = threading.BoundedSemaphore(THREADS)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.1,), daemon=True)
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        try:
            super().__init__(address, _Handler)
        except OSError as error:
            raise BadSetup(f"--listen {address[0]}:{address[1]}: {error.strerror}") from error

    @property
    def url(self) -> str:
        """The address of the page."""
        host, port = self.server_address[:2]
        name = str(host)
        return f"http://{f'[{name}]' if ':' in name else name}:{port}/"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, when one is free.  It is: each request has its time."""
        self._free.acquire()
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and free the thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what nobody expected, but not that a browser has gone or is too slow."""
        if not isinstance(sys.exception(), OSError):
            log.exception("a request to the page failed")

    def __enter__(self) -> Self:
        """Serve in a thread of its own."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and close the address."""
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    """One request: each connection has one."""

    server: Server
    server_version, sys_version = "replay", ""
    protocol_version = "HTTP/1.0"

    def setup(self) -> None:
        super().setup()
        self.rfile = BufferedReader(_Timed(self.connection))

    def do_GET(self) -> None:
        self._answer(self._get)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self._answer(self._post)

    def _answer(self, ask: Callable[[], Reply]) -> None:
        """Answer a request, whatever happens."""
        try:
            self._check()
            reply = ask()
        except Error as error:
            reply = self._problem(_status(error), str(error))
        except TimeoutError:
            raise
        except Exception:
            log.exception("the page could not answer %s", self.command)
            text = "The page has a bug. The log of its process says more."
            reply = self._problem(HTTPStatus.INTERNAL_SERVER_ERROR, text)
        self._send(reply)

    def _problem(self, status: HTTPStatus, text: str) -> Reply:
        # Before the checks have passed, a page says nothing about the log.
        frame = self.server.site.frame({}) if self._passed else Frame("")
        return _html(page.error_page(frame, status.phrase, text), status)

    _passed = False

    def _check(self) -> None:
        """Refuse a request that may not even read."""
        edge = self.server.edge
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1 or not edge.allows_host(hosts[0]):
            text = "This name does not belong to the page: see --host."
            raise Refused(HTTPStatus.MISDIRECTED_REQUEST, text)
        if not edge.allows_token(self.headers.get("Authorization", "")):
            raise Refused(HTTPStatus.UNAUTHORIZED, "The page asks for its token.")
        if len(self.path) > _MOST_ADDRESS:
            raise Refused(HTTPStatus.REQUEST_URI_TOO_LONG, "The address is too long.")
        self._passed = True

    def _get(self) -> Reply:
        parts = urlsplit(self.path)
        reply = self.server.site.get(parts.path, _pairs(parts.query))
        if reply.status is not HTTPStatus.OK:
            return reply
        mark = f'"{hashlib.sha256(reply.body).hexdigest()[:32]}"'
        if self.headers.get("If-None-Match") == mark:
            return Reply(status=HTTPStatus.NOT_MODIFIED, headers={"ETag": mark})
        return Reply(reply.body, type=reply.type, headers={"ETag": mark})

    def _post(self) -> Reply:
        site = self.server.site
        if site.token is None:
            text = "This page is for reading only: start it with --write."
            raise Refused(HTTPStatus.FORBIDDEN, text)
        self._check_origin()
        form = _pairs(self._body().decode("utf-8", "replace"))
        if not hmac.compare_digest(form.get("token", "").encode(), site.token.encode()):
            raise Refused(HTTPStatus.FORBIDDEN, "The form is out of date: load its page again.")
        return site.post(urlsplit(self.path).path, form)

    def _check_origin(self) -> None:
        """Refuse a form of another site.  A browser says where a form is from."""
        origin, host = self.headers.get("Origin"), self.headers.get("Host")
        site = self.headers.get("Sec-Fetch-Site", "same-origin")
        ours = origin is None or origin in (f"http://{host}", f"https://{host}")
        if not ours or site != "same-origin":
            raise Refused(HTTPStatus.FORBIDDEN, "The form is from another site.")

    def _body(self) -> bytes:
        kind = self.headers.get_content_type()
        if kind != "application/x-www-form-urlencoded":
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Expected the content of a form.")
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"\d{1,9}", length, re.ASCII):
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "Expected a Content-Length.")
        if int(length) > _MOST_BODY:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The form is too large.")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise Refused(HTTPStatus.BAD_REQUEST, "The form is cut off.")
        return body

    def _send(self, reply: Reply) -> None:
        self.connection.settimeout(SECONDS)
        self.send_response(reply.status)
        for name, value in (_HEADERS | dict(reply.headers)).items():
            self.send_header(name, value)
        if reply.status is HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", 'Basic realm="replay: any name, and the token"')
        if reply.status is not HTTPStatus.NOT_MODIFIED:
            self.send_header("Content-Type", f"{reply.type}; charset=utf-8")
            self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what is no request that this server knows."""
        self.command = getattr(self, "command", None) or "GET"
        status = HTTPStatus(code)
        self._send(self._problem(status, status.description or status.phrase))

    def log_message(self, format: str, *args: Any) -> None:
        """Log no requests: their addresses hold names."""


def _status(error: Error) -> HTTPStatus:
    if isinstance(error, Refused):
        return error.status
    if isinstance(error, UnknownRun):
        return HTTPStatus.NOT_FOUND
    passing = isinstance(error, Unavailable | QueryBehind)
    return HTTPStatus.SERVICE_UNAVAILABLE if passing else HTTPStatus.BAD_REQUEST


def _pairs(text: str) -> dict[str, str]:
    try:
        found = parse_qs(text, keep_blank_values=True, max_num_fields=50, errors="replace")
    except ValueError as error:
        raise Refused(HTTPStatus.BAD_REQUEST, "There are too many fields.") from error
    return {name: values[0] for name, values in found.items()}


# The command.


def add_parsers(commands: Commands) -> None:
    """Add the command of this module."""
    parser = commands.add_parser(
        "ui",
        parents=[on_log(messages=True, json=False)],
        help="show a log as a web page",
        description="Show the runs, consumers and events of a log as a web page.",
    )
    parser.add_argument(
        "--listen", default="127.0.0.1:8080", metavar="HOST:PORT", help="default: %(default)s"
    )
    parser.add_argument(
        "--write", action="store_true", help="allow to start, signal, cancel and retry runs"
    )
    parser.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="ask for the token in this file; needed if other machines can connect",
    )
    parser.add_argument(
        "--host",
        action="append",
        default=[],
        metavar="NAME",
        help="a further name under which browsers reach the page; repeatable",
    )
    parser.set_defaults(call=run)


def make_edge(host: str, names: Sequence[str], token: str | None) -> Edge:
    """Return the rules for a page that listens on a host.  Raises `BadSetup`."""
    if token is None and not is_loopback(host):
        raise BadSetup(
            f"--listen {host} can be reached from other machines: give --token-file, and put a"
            " proxy with TLS before the page"
        )
    if token is not None and len(token) < _SHORTEST_TOKEN:
        raise BadSetup(f"the token has fewer than {_SHORTEST_TOKEN} characters: make a longer one")
    hosts: set[str | None] = {"localhost", "127.0.0.1", "::1", host.lower()}
    hosts |= {name.lower() for name in names}
    if _is_ip(host) and ipaddress.ip_address(host).is_unspecified:
        hosts.add(None)
    return Edge(hosts=frozenset(hosts), token=None if token is None else _digest(token))


def _read_token(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        token = path.read_text(encoding="utf-8").strip()
        warning = exposed(path, secret=True)
    except (OSError, UnicodeDecodeError) as error:
        raise BadSetup(f"--token-file {path}: {error}") from error
    if warning is not None:
        log.warning("%s", warning)
    return token


def run(args: argparse.Namespace) -> int:
    """Serve the page until the process gets SIGTERM or SIGINT."""
    host, port = address("listen", args.listen)
    edge = make_edge(host, args.host, _read_token(args.token_file))
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with opened(args) as client, Server(Site(client, write=args.write), (host, port), edge) as page:
        print(f"replay: the page is at {page.url}", flush=True)
        stop.wait()
    return 0
