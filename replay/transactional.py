"""Exactly-once steps: what an activity changes in the log's own database (V5).

Role: `Cursor` records statements while an activity runs.  The transaction that adds the response
executes them.

Invariant: a statement is data until then.  An activity reads nothing through it and holds no lock:
a real cursor on SQLite's one connection would stop every consumer.

The rules for a statement keep it one statement, in one spelling for all databases.  A comment, a
semicolon or half a literal could reach into the rest of the transaction.

Left to `replay.log`: storing them with the response, or not at all.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from .storage.database import Error, Step

#: The types of a parameter.
Value = None | bool | int | float | str | bytes

#: Statements that one attempt may record.
MOST = 1000
#: Bytes for which one counts besides its text and its values, as an event does (L6).
STEP = 600
_VERBS = ("INSERT", "UPDATE", "DELETE", "REPLACE")
_QUOTED = re.compile(r"""'[^']*'|"[^"]*"|`[^`]*`""")
_REFUSED = re.compile(r"""[;#'"`%\\]|--|/\*""")


class BadStatement(Error, ValueError):
    """A statement that cannot be recorded: the error says why."""


class NotTransactional(Error, AttributeError):
    """Only an activity that is registered with ``transactional=True`` has a `cursor`."""


class Cursor:
    """Records the statements of one attempt, for the log's own database.

    They are executed in order, in the transaction that stores the response (V5).  An attempt that
    raises or times out records nothing.
    """

    __slots__ = ("_limit", "closed", "size", "steps")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.steps: list[Step] = []
        #: The bytes of their texts and values.
        self.size = 0
        #: Whether the attempt has ended.
        self.closed = False

    def execute(self, sql: str, parameters: Sequence[Value] = ()) -> None:
        """Record an INSERT, UPDATE, DELETE or REPLACE.  Nothing is executed yet.

        `sql` has a ``?`` for each of the `parameters`, on every database.  They are None, bool, int
        of 64 bits, finite float, str or bytes.  It holds no comment, ``;``, ``%`` or backslash:
        pass such characters as parameters.  An attempt records up to 1,000 statements, and as many
        bytes as a message may have.  Raises `BadStatement`.
        """
        if self.closed:
            raise BadStatement("the attempt has ended, so nothing is recorded any more")
        values = tuple(parameters)
        problem = _problem(sql) or _misfit(sql, values)
        if problem:
            raise BadStatement(f"{sql!r:.300}: {problem}")
        size = self.size + len(sql.encode()) + sum(map(_size, values))
        if len(self.steps) == MOST or size > self._limit:
            raise BadStatement(f"an attempt records {MOST} statements and {self._limit} bytes")
        self.size = size
        self.steps.append(Step(sql, values))


def _problem(sql: str) -> str:
    """Say why this is no statement to record; empty if it is one."""
    if type(sql) is not str or not sql.lstrip()[:7].upper().startswith(_VERBS):
        return f"expected one of {', '.join(_VERBS)}"
    bare = _QUOTED.sub(" ", sql)
    if "%" in sql or "\\" in sql or (_REFUSED.search(bare)):
        return "it holds a comment, an open quote, or one of ; % \\: pass these as parameters"
    if bare.count("?") != sql.count("?"):
        return "it has a ? in quotes: pass that as a parameter"
    return "" if _is_text(sql) else "it holds half a surrogate pair"


def _misfit(sql: str, values: Sequence[Value]) -> str:
    """Say why these are no values for it; empty if they are."""
    if sql.count("?") != len(values):
        return f"it has {sql.count('?')} placeholders, and {len(values)} parameters"
    for n, value in enumerate(values, 1):
        kind = type(value)
        fits = value is None or kind in (bool, int, float, str, bytes)
        if not fits or (kind is str and not _is_text(str(value))):
            return f"parameter {n} is {value!r:.100}: expected None, bool, int, float, str or bytes"
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            return f"parameter {n} is {value!r:.100}: an int has 64 bits"
        if isinstance(value, float) and not math.isfinite(value):
            return f"parameter {n} is {value}, which is no number in SQL"
    return ""


def _is_text(text: str) -> bool:
    try:
        return bool(text.encode()) or not text
    except UnicodeEncodeError:
        return False


def _size(value: Value) -> int:
    if isinstance(value, str):
        return len(value.encode())
    return len(value) if isinstance(value, bytes) else 8
