"""A plugin for pytest: leave out what runs on a server."""

import pytest


def _on_server(item: pytest.Item) -> bool:
    given = getattr(getattr(item, "callspec", None), "params", {})
    return bool({"server_url", "own_server"} & given.keys()) or given.get("url") is not None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect them."""
    left_out = [item for item in items if _on_server(item)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if not _on_server(item)]
