"""Opens what a URL names: a client of a database, or a client of a server.

This is the one place that knows both.
"""

from __future__ import annotations

from .client import Client, open_client
from .storage.codec import Codec
from .storage.database import BadUrl
from .storage.open import parse_url


def connect(url: str, *, loops: bool = True, codec: Codec | None = None) -> Client:
    """Open the log that `url` names, and return a client of it.

    A database: ``sqlite:///relative.db``, ``sqlite:////absolute.db``, ``sqlite://`` (in memory), or
    ``mysql://user:password@host:3306/database``.  Its tables are created or upgraded.  Options go
    after a ``?``: `max_message` (bytes, 4 MiB by default), `lease` (seconds, 10 by default),
    `require_message` (namespaces, divided by commas, in which None is refused, N3), and `news`
    (``off``, or the address at which other machines tell this process of commits, L12).  For
    SQLite: `synchronous` (``full``, or ``normal``, with which a loss of power may cost the last
    commits, L11).  For MySQL: `timeout` (seconds until a server that does not answer counts as
    gone, 30 by default), `unix_socket` and `ssl_ca` (a file; TLS is then required and verified).

    A server: ``grpc://host:port``, or with TLS ``grpcs://host:port``.  `replay.server.remote`
    lists its options.  A server answers sleeps and signals itself, so `loops` has no effect.

    With ``loops=False`` the client does not start the consumers that answer sleeps and signals:
    another process must.

    With `codec`, messages are stored as ``codec.encode(key, data)`` makes them, for instance
    encrypted (J4).  `key` is the event's key, or ``NAMESPACE/WORKFLOW/RUN`` of a signal.

    Raises `BadUrl`, `Unavailable`, `ReadOnly`, `SchemaTooNew` or `DatabaseError`.  The message says
    what to do.
    """
    parts, options = parse_url(url)
    if parts.scheme in ("grpc", "grpcs"):
        try:
            from .server.remote import open_remote  # needs the optional extra `grpc`
        except ModuleNotFoundError as error:
            raise BadUrl(
                f"a client of a server needs the package {error.name}:"
                " pip install 'replay-workflows[grpc]'"
            ) from error
        return open_remote(parts, options, codec)
    return open_client(url, loops=loops, codec=codec)
