"""Helpers with which a function refuses when too few take part."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pandas as pd
import pytest

from vantage6.algorithm import algorithm_client
from vantage6.algorithm.mock import MockNetwork
from vantage6.algorithm.privacy import (
    TooFewError,
    require_participants,
    require_records,
    round_to,
    suppress_small,
    suppress_table,
)

if TYPE_CHECKING:
    from vantage6.algorithm.client import AlgorithmClient


def test_participants() -> None:
    run = SimpleNamespace(participants=3, vouched=True)
    client = cast("AlgorithmClient", SimpleNamespace(run=run))
    assert require_participants(client, 3) == require_participants(client, 3, vouched=True) == 3
    with pytest.raises(TooFewError, match="at least 4"):
        require_participants(client, 4)
    run.vouched = False
    with pytest.raises(TooFewError, match="nobody but the server"):
        require_participants(client, 3, vouched=True)


@algorithm_client
def counting(client: AlgorithmClient) -> int:
    return require_participants(client, 3, vouched=True)


def test_participants_in_a_mock_network() -> None:
    network = MockNetwork(sys.modules[__name__], [pd.DataFrame()] * 3)
    assert [each.value for each in network.results("counting")] == [3, 3, 3]
    alone = network.results("counting", organizations=[2])[0]
    assert alone.state == "failed"
    assert "1 organizations take part" in alone.message


def test_records() -> None:
    assert require_records(10, 10) == 10
    with pytest.raises(TooFewError) as refused:
        require_records(7, 10)
    assert "7" not in str(refused.value)


def test_small_counts() -> None:
    assert suppress_small({"a": 10, "b": 9, "c": 0}, 10) == {"a": 10, "b": None, "c": None}


def test_no_left_out_cell_can_be_computed_from_the_totals() -> None:
    table = {"a": {"x": 3, "y": 50, "z": 40}, "b": {"x": 60, "y": 70, "z": 80}, "c": {"x": 30, "y": 20, "z": 90}}
    safe = suppress_table(table, 5)
    assert safe["a"] == {"x": None, "y": 50, "z": None}
    for line in (
        *(list(cells.values()) for cells in safe.values()),
        *zip(*(c.values() for c in safe.values()), strict=True),
    ):
        assert list(line).count(None) != 1
    assert all(safe[row][column] in (None, table[row][column]) for row in table for column in table[row])
    assert suppress_table({"a": {"x": 9, "y": 9}}, 5) == {"a": {"x": 9, "y": 9}}
    assert suppress_table({"a": {"x": 1}}, 5) == {"a": {"x": None}}
    assert suppress_table({}, 5) == {}


@pytest.mark.parametrize(
    ("value", "base", "expected"), [(13, 5, 15), (12, 5, 10), (0, 5, 0), (-13, 5, -15), (10, 7, 7)]
)
def test_rounding(value: float, base: float, expected: float) -> None:
    assert round_to(value, base) == expected
    with pytest.raises(ValueError, match="base"):
        round_to(1, 0)
