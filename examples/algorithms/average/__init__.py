"""Federated average: every site tells a sum and a count, the central part divides."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from vantage6.algorithm import InputError, algorithm_client, data

if TYPE_CHECKING:
    from vantage6.algorithm import AlgorithmClient

MINIMUM = 5
"""Of fewer records a site tells nothing: their sum would say too much about each."""


@data(1)
def partial_average(frame: pd.DataFrame, column: str) -> dict[str, float]:
    """What leaves a site: the sum of a column and how many values it has."""
    if column not in frame or not pd.api.types.is_numeric_dtype(frame[column]):
        raise InputError(f"there is no column of numbers named {column!r} here")
    values = frame[column].dropna()
    if len(values) < MINIMUM:
        raise InputError(f"there are fewer than {MINIMUM} values in {column!r} here")
    return {"sum": float(values.sum()), "count": len(values)}


@algorithm_client
def average(client: AlgorithmClient, column: str, organizations: list[int] | None = None) -> dict[str, object]:
    """The average over the organizations (all, unless told which), and who answered."""
    answers = client.subtask("partial_average", column, organizations=organizations)
    total, count, sites = 0.0, 0, []
    for answer in answers:
        part = answer.value
        assert isinstance(part, dict)  # noqa: S101 - what `partial_average` returns
        total += part["sum"]
        count += part["count"]
        sites.append(answer.organization_name)
        client.progress(len(sites) / len(answers.organizations), f"{len(sites)} answers")
    if not count:
        raise InputError("no organization was asked")
    return {"average": total / count, "count": count, "sites": sorted(sites)}
