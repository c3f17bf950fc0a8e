"""From event-time tables to curves and their comparison; needs no records."""

from __future__ import annotations

import math
from typing import TypedDict

import numpy as np

Z = 1.959963984540054
"""97.5 % of the normal distribution lie below."""


class Curve(TypedDict):
    """One entry for each time at which somebody had the event; `lower` and `upper` are of 95 %."""

    time: list[float]
    at_risk: list[int]
    events: list[int]
    survival: list[float]
    standard_error: list[float]
    lower: list[float]
    upper: list[float]
    count: int
    median: float | None


class LogRank(TypedDict):
    chi_squared: float
    degrees_of_freedom: int
    p_value: float


def at_risk(events: list[int], left: list[int]) -> list[int]:
    """How many are still there at the beginning of each interval."""
    leaving = [event + gone for event, gone in zip(events, left, strict=True)]
    return [sum(leaving[place:]) for place in range(len(leaving))]


def curve(events: list[int], left: list[int], interval: float) -> Curve:
    """Kaplan and Meier's estimate with Greenwood's variance; the band is on the scale of log(-log)."""
    risk = at_risk(events, left)
    found = Curve(
        time=[], at_risk=[], events=[], survival=[], standard_error=[], lower=[], upper=[],
        count=risk[0] if risk else 0, median=None,
    )  # fmt: skip
    survival, greenwood = 1.0, 0.0
    for place, (number, here) in enumerate(zip(events, risk, strict=True)):
        if not number:
            continue
        survival *= 1 - number / here
        greenwood += number / (here * (here - number)) if here > number else math.inf
        error = survival * math.sqrt(greenwood) if survival > 0 else 0.0
        lower, upper = _band(survival, greenwood)
        for name, value in (
            ("time", place * interval), ("at_risk", here), ("events", number), ("survival", survival),
            ("standard_error", error), ("lower", lower), ("upper", upper),
        ):  # fmt: skip
            found[name].append(value)  # type: ignore[literal-required]
        if found["median"] is None and survival <= 0.5:
            found["median"] = place * interval
    return found


def _band(survival: float, greenwood: float) -> tuple[float, float]:
    if not 0 < survival < 1:
        return survival, survival
    width = Z * math.sqrt(greenwood) / abs(math.log(survival))
    return survival ** math.exp(width), survival ** math.exp(-width)


def log_rank(tables: list[tuple[list[int], list[int]]]) -> LogRank:
    """Whether the groups' curves differ: observed against expected events, with the hypergeometric variance."""
    width = max(len(events) for events, _ in tables)
    events = np.array([_padded(each, width) for each, _ in tables], dtype=float)
    risk = np.array([_padded(at_risk(*each), width) for each in tables], dtype=float)
    all_events, all_risk = events.sum(axis=0), risk.sum(axis=0)
    seen = all_risk > 1
    share = risk[:, seen] / all_risk[seen]
    expected = (share * all_events[seen]).sum(axis=1)
    observed = events[:, seen].sum(axis=1)
    weight = all_events[seen] * (all_risk[seen] - all_events[seen]) / (all_risk[seen] - 1)
    covariance = np.diag((share * weight).sum(axis=1)) - (share * weight) @ share.T
    # One group's excess is the others' lack: it says nothing more, and the last one is left out.
    difference = (observed - expected)[:-1]
    squared = float(difference @ np.linalg.pinv(covariance[:-1, :-1]) @ difference)
    degrees = len(tables) - 1
    return LogRank(chi_squared=squared, degrees_of_freedom=degrees, p_value=chi_squared_tail(squared, degrees))


def _padded(values: list[int], width: int) -> list[int]:
    return values + [0] * (width - len(values))


def chi_squared_tail(value: float, degrees: int) -> float:
    """The probability of more than `value`, by the recursion from 1 or 2 degrees of freedom."""
    half = value / 2
    tail = math.erfc(math.sqrt(half)) if degrees % 2 else math.exp(-half)
    for each in range(degrees % 2 or 2, degrees, 2):
        tail += half ** (each / 2) * math.exp(-half) / math.gamma(each / 2 + 1)
    return tail
