"""Markup: HTML and SVG in which data stays text.

Invariant: only `tag` makes markup, and it escapes everything that is not markup already (Q3).  So a
run id such as ``<script>`` can never become an element.
"""

from __future__ import annotations

import html
from collections.abc import Iterable

#: Elements of HTML that have no end tag.
_VOID = frozenset({"input", "link", "meta"})
#: Control characters as their pictures, so that they are seen and change nothing.
_PICTURES = {n: 0x2400 + n for n in range(32) if chr(n) not in "\n\t"} | {127: 0x2421}
#: Invisible characters that turn the direction of text, as their numbers.
_TURNS = {n: f"\\u{n:04x}" for n in (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F))} | {
    n: f"\\u{n:04x}" for n in range(0x2066, 0x206A)
}
_VISIBLE: dict[int, int | str] = {**_PICTURES, **_TURNS}


class Markup(str):
    """Text that is markup."""

    __slots__ = ()


Content = str | Iterable["Content"] | None


def text(value: str) -> Markup:
    """Return text as markup; markup stays as it is."""
    if isinstance(value, Markup):
        return value
    return Markup(html.escape(value.translate(_VISIBLE)))


def join(content: Content) -> Markup:
    """Return any content as one piece of markup."""
    if content is None:
        return Markup()
    if isinstance(content, str):
        return text(content)
    return Markup("".join(map(join, content)))


def tag(name: str, /, *content: Content, **attributes: object) -> Markup:
    """Make an element.

    In the names of attributes an underscore stands for a dash; one at the end is dropped.  An
    attribute that is None or False is left out, and one that is True has no value.
    """
    parts = [f"<{name}"]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        parts.append(" " + key.rstrip("_").replace("_", "-"))
        if value is not True:
            parts.append(f'="{text(str(value))}"')
    parts.append(">")
    if name not in _VOID:
        parts += (join(content), f"</{name}>")
    return Markup("".join(parts))
