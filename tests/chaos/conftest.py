"""The long form runs where VANTAGE6_CHAOS=long says so (`make chaos`); the short one always."""

from __future__ import annotations

import os

import pytest

LONG = os.environ.get("VANTAGE6_CHAOS", "") == "long"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if LONG:
        return
    left_out = [item for item in items if item.get_closest_marker("chaos")]
    items[:] = [item for item in items if not item.get_closest_marker("chaos")]
    config.hook.pytest_deselected(items=left_out)
