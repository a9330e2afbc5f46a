"""Opens the database that a URL names.

Left to the top of the library: what the database is opened for.
"""

from __future__ import annotations

from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from .database import BadUrl, Database
from .mysql import open_mysql
from .sqlite import Sqlite

_EXPECTED = (
    "sqlite:///file.db, sqlite://, mysql://user:password@host:3306/database or grpc://host:port"
)


def parse_url(url: str) -> tuple[SplitResult, dict[str, str]]:
    """Divide `url` into its parts and the options after its ``?``.  Raises `BadUrl`."""
    try:
        parts = urlsplit(url, allow_fragments=False)  # a # is part of a file's name
    except ValueError:  # its text may hold the password
        raise BadUrl(f"not a URL; expected {_EXPECTED}") from None
    return parts, dict(parse_qsl(parts.query, keep_blank_values=True))


def open_database(url: str, *, to_read: bool = False) -> Database:
    """Open the database at `url` and create or upgrade its tables.

    With `to_read` it stays as it is, and its file need not be writable.  `replay.connect` documents
    the URLs and the errors.
    """
    database = _open(url, to_read)
    try:
        if not to_read:
            database.prepare()
    except BaseException:
        database.close()
        raise
    return database


def _open(url: str, to_read: bool) -> Database:
    parts, options = parse_url(url)
    if parts.scheme == "sqlite" and not parts.netloc:
        return Sqlite(unquote(parts.path[1:]) or ":memory:", options, to_read=to_read)
    if parts.scheme == "mysql":
        return open_mysql(parts, options)
    given = f"{parts.scheme or '?'}://{'…' if parts.netloc else ''}"
    raise BadUrl(f"expected {_EXPECTED}, not {given}")
