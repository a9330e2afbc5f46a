"""The options of a server: its databases, its address, its keys and its limits.

Invariant: without TLS a server listens on loopback only, unless you ask for more (G4).

This module imports no extra: without one, the command line can still check its arguments.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from ..storage.database import Error
from .access import Access
from .wire import is_loopback

_SOON = timedelta(days=14)  # before a certificate expires


class BadSetup(Error, ValueError):
    """The options contradict each other, or would leave the server open to others."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of a server."""

    #: URLs of databases, by namespace.  The one of "" serves all other namespaces.
    databases: Mapping[str, str]
    listen: str = "127.0.0.1:7654"
    access: Access = field(default_factory=Access)
    #: The server's certificate and its key; the CA that must have signed clients' certificates.
    certificate: bytes | None = None
    key: bytes | None = None
    client_ca: bytes | None = None
    insecure: bool = False
    #: Where to serve metrics over HTTP; "" for nowhere.
    metrics: str = ""
    #: Whether `Check` of the health service needs no token.
    open_health: bool = False
    max_streams: int = 1000  # of one client
    max_calls: int = 10_000  # under way, of all clients
    threads: int = 8  # for each database

    def check(self) -> None:
        """Raise `BadSetup` for options that contradict each other."""
        host, _ = address("listen", self.listen)
        if "" not in self.databases:
            raise BadSetup("name a database with --db URL, for all namespaces without their own")
        files = {"tls-cert": self.certificate, "tls-key": self.key, "client-ca": self.client_ca}
        for option, content in files.items():
            if content is not None and not content.strip():  # else it would count as not given
                raise BadSetup(f"the file that --{option} names is empty")
        if bool(self.certificate) != bool(self.key):
            raise BadSetup("--tls-cert and --tls-key belong together")
        if self.client_ca and not self.certificate:
            raise BadSetup("--client-ca needs --tls-cert and --tls-key")
        if not (self.certificate or self.insecure or is_loopback(host)):
            raise BadSetup(
                f"--listen {self.listen} can be reached from other machines: give --tls-cert and"
                " --tls-key, or --insecure where something else keeps the network safe"
            )

        if self.metrics:
            self._check_metrics()

    def _check_metrics(self) -> None:
        """Raise `BadSetup` if strangers could read the metrics, which are served without TLS."""
        host, _ = address("metrics", self.metrics)
        if self.insecure:
            return
        if not is_loopback(host):
            raise BadSetup(
                f"--metrics {self.metrics} can be reached from other machines, and metrics have no"
                " TLS: listen on 127.0.0.1, or give --insecure where something else keeps the"
                " network safe"
            )
        if self.client_ca and self.access.open:
            raise BadSetup(
                "--metrics cannot ask for the certificates of --client-ca: give --tokens as well,"
                " or --insecure"
            )

    def warnings(self) -> Iterator[str]:
        """Sentences about certificates that have expired, or soon expire."""
        for option, content in (("tls-cert", self.certificate), ("client-ca", self.client_ca)):
            for certificate in _certificates(content or b""):
                left = certificate.not_valid_after_utc - datetime.now(UTC)
                name = f"--{option}: the certificate of {certificate.subject.rfc4514_string()}"
                if left <= timedelta(0):
                    yield f"{name} has expired: clients that check it find nobody"
                elif left < _SOON:
                    yield f"{name} expires in {left.days} days: replace it, and send SIGHUP"


def address(option: str, text: str) -> tuple[str, int]:
    """The host and the port that an option names.  Raises `BadSetup`."""
    host, colon, port = text.rpartition(":")
    if not (colon and host and re.fullmatch(r"\d{1,5}", port, re.A)) or int(port) > 65535:
        raise BadSetup(f"--{option} {text}: expected host:port or [address]:port")
    return host.strip("[]"), int(port)


def _certificates(content: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(content) if content else []
    except ValueError:  # gRPC refuses what is wrong with it
        return []


def exposed(path: Path, *, secret: bool) -> str | None:
    """A warning if others can change this file or, if it is secret, read it."""
    mode = path.stat().st_mode
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"{path} can be changed by others: chmod go-w {path}"
    if secret and mode & stat.S_IROTH:
        return f"{path} can be read by others: chmod o-r {path}"
    return None
