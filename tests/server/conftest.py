"""A server for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving import Serving, serving


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Serving]:
    """Give a server on an empty database."""
    with serving(f"sqlite:///{tmp_path / 'replay.db'}") as server:
        yield server
