"""A filter's names are whole names, also where one is the beginning of another."""

from __future__ import annotations

import pytest

from replay import Event, consume
from tests.example_pb2 import Empty
from tests.support import drain, stepped

RUNS = [("n", "w", "1"), ("n", "w", "10"), ("n", "w2", "1"), ("n2", "w", "1"), ("n2", "w", "10")]


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_l4_a_name_that_begins_like_another_is_another(url: str, depth: int) -> None:
    """L4, L5: streams and consumers of "n", "w", "1" are not given what is of "n2", "w2", "10"."""
    wanted = RUNS[0][:depth]
    expected = [run for run in RUNS if run[:depth] == wanted]
    seen: list[Event] = []
    with stepped(url) as client:
        for run in RUNS:
            client.run_workflow(*run, Empty())
        given = dict(zip(("namespace", "workflow", "run"), wanted, strict=False))
        assert [e.key[:3] for e in client.stream(**given, to_head=True)] == expected  # type: ignore[arg-type]
        drain(consume(client, "mine", seen.append, **given, start=False))
        assert [event.key[:3] for event in seen] == expected
