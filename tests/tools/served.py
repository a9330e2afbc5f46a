"""A page that is served in this process, for tests with and without a browser."""

from __future__ import annotations

import contextlib
import http.client
from urllib.parse import urlencode, urlsplit

from replay import Client
from replay.tools.ui import Edge, Server, Site, make_edge

FORM = "application/x-www-form-urlencoded"


class Served(contextlib.AbstractContextManager["Served"]):
    """A page that is served, and a client that asks it."""

    def __init__(
        self, client: Client, *, write: bool = False, edge: Edge | None = None, port: int = 0
    ) -> None:
        self.site = Site(client, write=write)
        edge = edge or make_edge("127.0.0.1", (), None)
        self.server = Server(self.site, ("127.0.0.1", port), edge)
        self.server.__enter__()
        self.host = urlsplit(self.server.url).netloc
        self.port = self.server.server_address[1]

    def __exit__(self, *_: object) -> None:
        self.server.__exit__()

    def ask(
        self, method: str, path: str, body: str | None = None, **headers: str | None
    ) -> tuple[int, dict[str, str], str]:
        """Status, headers and text of an answer; a header that is None is not sent."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.putrequest(method, path, skip_host=True)
        given: dict[str, str | None] = {"Host": self.host}
        if body is not None:
            given |= {"Content-Type": FORM, "Content-Length": str(len(body.encode()))}
        given |= {name.replace("_", "-"): each for name, each in headers.items()}
        for name, value in given.items():
            if value is not None:
                connection.putheader(name, value)
        connection.endheaders((body or "").encode() or None)
        answer = connection.getresponse()
        found = answer.status, dict(answer.getheaders()), answer.read().decode()
        connection.close()
        return found

    def post(self, path: str, **fields: str) -> tuple[int, dict[str, str], str]:
        """Send a form as a browser does from a page of ours."""
        fields = {"token": self.site.token or ""} | fields
        return self.ask("POST", path, urlencode(fields), Origin=f"http://{self.host}")
