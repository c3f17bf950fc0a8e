"""Federated summary statistics: count, missing, mean and standard deviation of columns, in one round.

Every site tells, for each column, the number of its values, their mean and the sum of their squared distances from it.
These merge into those of all records without the loss of digits that sums of squares have.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypedDict, cast

import pandas as pd

from vantage6.algorithm import InputError, algorithm_client, data
from vantage6.algorithm.privacy import TooFewError, require_records

if TYPE_CHECKING:
    from vantage6.algorithm import AlgorithmClient

MINIMUM = 5
"""Of fewer values a site tells nothing."""


class Part(TypedDict):
    """What leaves a site of one column."""

    count: int
    missing: int
    mean: float
    squares: float


class Summary(TypedDict):
    """A column of all records together."""

    count: int
    missing: int
    mean: float
    standard_deviation: float


@data(1)
def partial_summary(frame: pd.DataFrame, columns: list[str]) -> dict[str, Part]:
    """Count, mean and squared distances of the columns here."""
    for column in columns:
        if column not in frame or not pd.api.types.is_numeric_dtype(frame[column]):
            raise InputError(f"there is no column of numbers named {column!r} here")
    return {column: _part(column, frame[column]) for column in columns}


def _part(name: str, column: pd.Series[float]) -> Part:
    values = column.dropna().astype(float)
    count = require_records(len(values), MINIMUM)
    missing = len(column) - count
    if 0 < missing < MINIMUM:
        # It may be about somebody. Leaving the number out would not do: another column's count gives it away.
        raise TooFewError(f"some records here lack {name!r}, fewer than {MINIMUM}: fill them in, or leave them out")
    mean = float(values.mean())
    return Part(
        count=count,
        missing=missing,
        mean=mean,
        squares=float(((values - mean) ** 2).sum()),
    )


@algorithm_client
def summary(client: AlgorithmClient, columns: list[str], organizations: list[int] | None = None) -> dict[str, Summary]:
    """The columns over the organizations (all, unless told which)."""
    if not columns:
        raise InputError("name at least one column")
    subtask = client.subtask("partial_summary", columns, organizations=organizations)
    parts = [cast("dict[str, Part]", answer.value) for answer in subtask.wait()]
    return {column: _summary([part[column] for part in parts]) for column in columns}


def _summary(parts: list[Part]) -> Summary:
    count = sum(part["count"] for part in parts)
    mean = math.fsum(part["count"] * part["mean"] for part in parts) / count
    squares = math.fsum(part["squares"] + part["count"] * (part["mean"] - mean) ** 2 for part in parts)
    return Summary(
        count=count,
        missing=sum(part["missing"] for part in parts),
        mean=mean,
        standard_deviation=math.sqrt(squares / (count - 1)),
    )
