"""Helpers with which a function refuses when too few take part."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from vantage6.algorithm.privacy import TooFewError, require_participants, require_records, suppress_small

if TYPE_CHECKING:
    from vantage6.algorithm.client import AlgorithmClient


def test_participants() -> None:
    client = cast("AlgorithmClient", SimpleNamespace(run=SimpleNamespace(participants=3)))
    assert require_participants(client, 3) == 3
    with pytest.raises(TooFewError, match="at least 4"):
        require_participants(client, 4)


def test_records() -> None:
    assert require_records(10, 10) == 10
    with pytest.raises(TooFewError) as refused:
        require_records(7, 10)
    assert "7" not in str(refused.value)


def test_small_counts() -> None:
    assert suppress_small({"a": 10, "b": 9, "c": 0}, 10) == {"a": 10, "b": None, "c": None}
