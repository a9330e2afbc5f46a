"""Calls that come during a commit, without threads: they are the next group (L10)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar
from unittest.mock import patch

from replay import Client, Unavailable
from replay.storage.group import Member

T = TypeVar("T")


class _Noted(BaseException):
    """What a call would commit is known."""


def gathered(
    client: Client, calls: Sequence[tuple[T, Callable[[Client], bool]]]
) -> Iterator[tuple[T, bool | None]]:
    """Yield what each call says that comes during a commit; None if that is unknown."""
    group, members = client.log.group, list[Member]()

    def note(member: Member) -> bool:
        members.append(member)
        raise _Noted

    with patch.object(group, "commit", note):
        for _, call in calls:
            with contextlib.suppress(_Noted):
                call(client)
    group._waiting.extend(members)
    for (what, _), member in zip(calls, members, strict=True):
        said = None
        with contextlib.suppress(Unavailable):
            if member in group._waiting:
                group._waiting.remove(member)
                said = group.commit(member)
            else:
                said = group._answer(member)
        yield what, said
