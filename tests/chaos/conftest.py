"""The long form runs where VANTAGE6_CHAOS=long says so (`make chaos`); the short one always."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import structlog

LONG = os.environ.get("VANTAGE6_CHAOS", "") == "long"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if LONG:
        return
    left_out = [item for item in items if item.get_closest_marker("chaos")]
    items[:] = [item for item in items if not item.get_closest_marker("chaos")]
    config.hook.pytest_deselected(items=left_out)


@pytest.fixture(scope="session", autouse=True)
def _short_tracebacks() -> Iterator[None]:
    """With all local values in them, a hundred tracebacks keep a process from its heartbeats."""
    plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[structlog.processors.TimeStamper(fmt="iso"), plain])
    yield
    structlog.reset_defaults()
