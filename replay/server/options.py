"""How a server is run: its databases, its address, its keys and its limits.

Invariant: without TLS a server listens on loopback only, unless that is asked for (G4).

This module needs no extra, so the command line can check its arguments without one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..storage.database import Error
from .access import Access
from .wire import is_loopback


class BadSetup(Error, ValueError):
    """Options that do not go together, or that would leave a door open."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a server is to be run."""

    #: URLs of databases by namespace; that of "" has all other namespaces.
    databases: Mapping[str, str]
    listen: str = "127.0.0.1:7654"
    access: Access = field(default_factory=Access)
    #: Of the server: certificate and key; and whose certificates clients must have.
    certificate: bytes | None = None
    key: bytes | None = None
    client_ca: bytes | None = None
    insecure: bool = False
    max_streams: int = 1000  # of one client
    max_calls: int = 10_000  # in flight, of all
    threads: int = 8  # that ask each database

    def check(self) -> None:
        """Raise `BadSetup` for what does not go together."""
        host, colon, port = self.listen.rpartition(":")
        if not (colon and host and re.fullmatch(r"\d{1,5}", port, re.A)) or int(port) > 65535:
            raise BadSetup(f"--listen {self.listen}: expected host:port or [address]:port")
        if "" not in self.databases:
            raise BadSetup("name a database with --db URL, for all namespaces without their own")
        if bool(self.certificate) != bool(self.key):
            raise BadSetup("--tls-cert and --tls-key belong together")
        if self.client_ca and not self.certificate:
            raise BadSetup("--client-ca needs --tls-cert and --tls-key")
        if not (self.certificate or self.insecure or is_loopback(host.strip("[]"))):
            raise BadSetup(
                f"--listen {self.listen} can be reached from other machines: give --tls-cert and"
                " --tls-key, or --insecure where something else keeps the network safe"
            )
