"""A plugin of pytest: the fixture `world`, a `replay.testing.World` for each test (V1).

pytest finds it by its entry point as soon as replay is installed.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..testing import World


@pytest.fixture
def world() -> Iterator[World]:
    """Give a world whose clock stands at the beginning of 2030."""
    with World() as found:
        yield found
