"""Access to a server: tokens, each for some namespaces, for reading or for writing (G4).

A file of tokens is TOML, with a table for each token:

    [shop]
    sha256 = "9f86d081884c7d65…"        # of the token
    namespaces = ["orders", "payments"]  # or ["*"]
    access = "write"                     # or "read"

Invariants:

- Only its owner has the token itself: `new_token` shows it once, and the file has its hash.
- A check compares all hashes, each in constant time, even after one has matched.

Left to `server`: asking for the token, and refusing.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..storage.database import Error
from ..storage.event import InvalidName, check_name


class BadTokens(Error, ValueError):
    """A file of tokens is not valid.  Names the entry and the reason."""


class Unauthenticated(Error):
    """The call has no token, or one that the server does not know."""


class Forbidden(Error):
    """This token does not allow this call."""


@dataclass(frozen=True)
class Principal:
    """A caller: its name in messages, and its rights."""

    name: str
    namespaces: frozenset[str] | None  # None: all
    writes: bool

    def may_read(self, namespace: str) -> bool:
        """Whether it may read a namespace."""
        return self.namespaces is None or namespace in self.namespaces

    def require(self, namespace: str, *, write: bool) -> None:
        """Raise `Forbidden` unless it may.  The error says nothing about the namespace."""
        if not self.may_read(namespace):
            raise Forbidden(f"token {self.name!r} is not for namespace {namespace!r}")
        if write:
            self.require_write()

    def require_write(self) -> None:
        """Raise `Forbidden` if it may only read."""
        if not self.writes:
            raise Forbidden(f"token {self.name!r} is for reading only")


#: Every caller of a server without tokens.
ANYBODY = Principal("anybody", None, writes=True)


class Access:
    """The tokens that a server accepts.  Without any, every caller may do everything."""

    def __init__(self, tokens: Sequence[tuple[str, Principal]] = ()) -> None:
        self._tokens = list(tokens)

    @property
    def open(self) -> bool:
        """Whether the server works without tokens."""
        return not self._tokens

    def after(self, old: Access) -> Access:
        """These tokens.  Those that are in `old`, too, have the same principals as there."""
        known = {each: each for each in old._tokens}
        return Access([known.get(each, each) for each in self._tokens])

    def holds(self, who: Principal) -> bool:
        """Whether this is the principal of a token, and not of one with an equal name."""
        return self.open or any(each is who for _, each in self._tokens)

    def principal(self, token: str | None) -> Principal:
        """The owner of a token.  Raises `Unauthenticated`."""
        if self.open:
            return ANYBODY
        digest = _digest(token or "")
        found = [who for known, who in self._tokens if hmac.compare_digest(known, digest)]
        if not found:
            raise Unauthenticated("send metadata 'authorization: Bearer TOKEN' with a known token")
        return found[0]


def load(path: Path) -> Access:
    """Read a file of tokens.  Raises `BadTokens`, or `OSError` if the file cannot be read."""
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadTokens(f"{path}: not TOML: {error}") from error
    if not entries:
        raise BadTokens(f"{path}: has no tokens: make one with `replay token`")
    tokens = [_entry(path, name, entry) for name, entry in entries.items()]
    if len({digest for digest, _ in tokens}) < len(tokens):
        raise BadTokens(f"{path}: two entries have one sha256: each token has one")
    return Access(tokens)


def _entry(path: Path, name: str, entry: Any) -> tuple[str, Principal]:
    def refuse(reason: str) -> BadTokens:
        return BadTokens(f"{path}: [{name}]: {reason}")

    if not isinstance(entry, dict) or set(entry) != {"sha256", "namespaces", "access"}:
        raise refuse("expected a table with sha256, namespaces and access")
    digest, namespaces, access = entry["sha256"], entry["namespaces"], entry["access"]
    if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
        raise refuse("sha256 is not 64 hexadecimal digits in lower case")
    if digest == _digest(""):
        raise refuse("sha256 is that of no token at all: everybody would be let in")
    if access not in ("read", "write"):
        raise refuse(f'access is {access!r}: expected "read" or "write"')
    if not isinstance(namespaces, list) or not namespaces:
        raise refuse('namespaces is not a list of names, or ["*"]')
    try:
        check_name("token", name)
        some = None if namespaces == ["*"] else frozenset(_names(namespaces))
    except InvalidName as error:
        raise refuse(str(error)) from error
    return digest, Principal(name, some, access == "write")


def _names(namespaces: Sequence[Any]) -> list[str]:
    if "*" in namespaces:
        raise InvalidName('"*" stands for all namespaces, and alone')
    return [check_name("namespace", each) for each in namespaces]


def new_token(name: str, namespaces: Sequence[str], access: str) -> tuple[str, str]:
    """Make a token, and its entry for the file of tokens.  Raises `InvalidName`."""
    check_name("token", name)
    token = secrets.token_urlsafe(32)
    names = ", ".join(_quoted(each) for each in namespaces or ["*"])
    if list(namespaces) not in ([], ["*"]):
        _names(namespaces)
    entry = (
        f"[{_quoted(name)}]\nsha256 = {_quoted(_digest(token))}\n"
        f"namespaces = [{names}]\naccess = {_quoted(access)}\n"
    )
    return token, entry


def _quoted(text: str) -> str:
    """A name as a TOML string.  `check_name` has excluded control characters."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
