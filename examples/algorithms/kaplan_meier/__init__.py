"""Federated Kaplan-Meier curves with a log-rank test, by event-time tables, in one round.

Every site tells how many of its patients had the event, and how many left without it, in each interval of time. Added
up, these are the table of all patients, from which curve, band and test follow as from the pooled data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict, cast

import numpy as np

from vantage6.algorithm import InputError, algorithm_client, data
from vantage6.algorithm.privacy import require_records

from .curves import Curve, LogRank, curve, log_rank

if TYPE_CHECKING:
    import pandas as pd

    from vantage6.algorithm import AlgorithmClient

MINIMUM = 5
"""Of fewer patients, in any group, a site tells nothing."""
MOST_INTERVALS = 2000
ALL = "all"


class Table(TypedDict):
    """Events and departures in the intervals 0, 1, 2, … of a group's time."""

    events: list[int]
    left: list[int]


class Curves(TypedDict):
    curves: dict[str, Curve]
    log_rank: LogRank | None


@data(1)
def partial_events(
    frame: pd.DataFrame,
    time: str,
    event: str,
    interval: float,
    group: str | None = None,
    groups: list[str] | None = None,
) -> dict[str, Table]:
    """The tables of the patients here, one for each group. Times are rounded to whole intervals."""
    wanted: list[str] = list(dict.fromkeys([time, event, *([group] if group else [])]))
    missing = [column for column in wanted if column not in frame]
    if missing:
        raise InputError(f"there is no column named {', '.join(missing)} here")
    known = frame[wanted].dropna()
    if not known[event].isin((0, 1)).all() or not (known[time] >= 0).all():
        raise InputError(f"{event!r} must be 0 or 1, and {time!r} not negative")
    if not group:
        return {ALL: _table(known, time, event, interval)}
    text = known[group].astype(str)
    return {each: _table(known[text == each], time, event, interval) for each in groups or ()}


def _table(patients: pd.DataFrame, time: str, event: str, interval: float) -> Table:
    if len(patients):  # That a group has nobody here tells of nobody.
        require_records(len(patients), MINIMUM)
    if interval <= 0 or (len(patients) and patients[time].max() / interval > MOST_INTERVALS):
        raise InputError(f"interval: more than 0, and wide enough that there are at most {MOST_INTERVALS}")
    places = np.rint(patients[time].to_numpy(float) / interval).astype(int)
    happened = patients[event].to_numpy(int) == 1
    width = int(places.max()) + 1 if len(places) else 0
    return Table(
        events=np.bincount(places[happened], minlength=width).tolist(),
        left=np.bincount(places[~happened], minlength=width).tolist(),
    )


@algorithm_client
def kaplan_meier(
    client: AlgorithmClient,
    time: str,
    event: str,
    interval: float,
    group: str | None = None,
    groups: list[str] | None = None,
    organizations: list[int] | None = None,
) -> Curves:
    """The curves over the organizations (all, unless told which); with two groups or more, whether they differ."""
    if (group is None) != (not groups):
        raise InputError("group and groups: the column, and the values that are compared")
    subtask = client.subtask("partial_events", time, event, interval, group, groups, organizations=organizations)
    parts = [cast("dict[str, Table]", answer.value) for answer in subtask.wait()]
    tables = {each: _added([part[each] for part in parts]) for each in groups or [ALL]}
    if not any(sum(table["events"]) + sum(table["left"]) for table in tables.values()):
        raise InputError("there is nobody in any of the groups")
    return Curves(
        curves={each: curve(table["events"], table["left"], interval) for each, table in tables.items()},
        log_rank=log_rank([(table["events"], table["left"]) for table in tables.values()]) if len(tables) > 1 else None,
    )


def _added(tables: list[Table]) -> Table:
    width = max(len(table["events"]) for table in tables)

    def total(columns: list[list[int]]) -> list[int]:
        return [sum(column[place] for column in columns if place < len(column)) for place in range(width)]

    return Table(events=total([table["events"] for table in tables]), left=total([table["left"] for table in tables]))
