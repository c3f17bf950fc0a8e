"""The families, and the matrix of features: what a site computes for itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vantage6.algorithm import InputError

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    Vector = npt.NDArray[np.float64]

MINIMUM = 10
"""A site with fewer complete records than this for each coefficient tells nothing."""

INTERCEPT = "(intercept)"


@dataclass(frozen=True)
class Design:
    """Which columns become which coefficients. The first category of a feature is what its others are compared with."""

    features: list[str]
    categories: dict[str, list[str]]

    @property
    def names(self) -> list[str]:
        if len(set(self.features)) != len(self.features) or not set(self.categories) <= set(self.features):
            raise InputError("features: each once; categories: for features only")
        names = [INTERCEPT]
        for feature in self.features:
            others = self.categories[feature][1:] if feature in self.categories else None
            names += [feature] if others is None else [f"{feature}[{each}]" for each in others]
        return names

    def matrix(self, frame: pd.DataFrame, outcome: str) -> tuple[Vector, Vector]:
        """Features with a column of ones in front, and outcomes, of complete records."""
        missing = [column for column in (*self.features, outcome) if column not in frame]
        if missing:
            raise InputError(f"there are no columns named {', '.join(missing)} here")
        known = frame[[*self.features, outcome]].dropna()
        for feature, levels in self.categories.items():
            known = known[known[feature].astype(str).isin(levels)]
        columns = [np.ones(len(known))]
        for feature in self.features:
            if feature in self.categories:
                text = known[feature].astype(str)
                columns += [(text == level).to_numpy().astype(float) for level in self.categories[feature][1:]]
            else:
                columns.append(known[feature].to_numpy(float))
        if len(columns) != len(self.names):
            raise InputError("features: each once")
        return np.column_stack(columns), known[outcome].to_numpy(float)


@dataclass(frozen=True)
class Family:
    """A distribution with its canonical link. Vectors have one entry for each record."""

    start: Callable[[Vector], Vector]
    """A linear predictor to begin with."""
    at: Callable[[Vector], tuple[Vector, Vector, Vector]]
    """Mean, its derivative by the linear predictor, and the weight, at a linear predictor."""
    deviance: Callable[[Vector, Vector], float]
    log_likelihood: Callable[[Vector, Vector], float]
    allowed: Callable[[Vector], bool]
    outcomes: str
    free_dispersion: bool = False

    def check(self, y: Vector, outcome: str) -> None:
        if not self.allowed(y):
            raise InputError(f"the outcome {outcome!r} must be {self.outcomes}")


def family(kind: str) -> Family:
    if kind not in FAMILIES:
        raise InputError(f"there is no family {kind!r}; there are {', '.join(FAMILIES)}")
    return FAMILIES[kind]


def _gaussian(linear: Vector) -> tuple[Vector, Vector, Vector]:
    ones = np.ones_like(linear)
    return linear, ones, ones


def _squares(y: Vector, mean: Vector) -> float:
    return float(((y - mean) ** 2).sum())


def _binomial(linear: Vector) -> tuple[Vector, Vector, Vector]:
    mean = np.exp(-np.logaddexp(0, -linear))  # 1 / (1 + exp(-linear)) that never overflows
    slope = np.maximum(mean * (1 - mean), np.finfo(float).tiny)
    return mean, slope, slope


def _log_binomial(y: Vector, mean: Vector) -> float:
    likely = np.clip(np.where(y == 1, mean, 1 - mean), np.finfo(float).tiny, 1)
    return float(np.log(likely).sum())


def _poisson(linear: Vector) -> tuple[Vector, Vector, Vector]:
    mean = np.exp(np.clip(linear, -500, 500))
    return mean, mean, mean


def _poisson_deviance(y: Vector, mean: Vector) -> float:
    safe = np.where(y > 0, y, 1)
    return float(2 * (np.where(y > 0, y * np.log(safe / mean), 0) - (y - mean)).sum())


def _log_poisson(y: Vector, mean: Vector) -> float:
    return float((y * np.log(mean) - mean).sum() - math.fsum(math.lgamma(each + 1) for each in y))


FAMILIES = {
    "gaussian": Family(
        start=lambda y: y,
        at=_gaussian,
        deviance=_squares,
        # Of the squares alone; the dispersion that it lacks is known to nobody before the end.
        log_likelihood=lambda y, mean: -_squares(y, mean) / 2,
        allowed=lambda y: bool(np.isfinite(y).all()),
        outcomes="finite",
        free_dispersion=True,
    ),
    "binomial": Family(
        start=lambda y: np.log((y + 0.5) / (1.5 - y)),
        at=_binomial,
        deviance=lambda y, mean: -2 * _log_binomial(y, mean),
        log_likelihood=_log_binomial,
        allowed=lambda y: bool(np.isin(y, (0, 1)).all()),
        outcomes="0 or 1",
    ),
    "poisson": Family(
        start=lambda y: np.log(y + 0.1),
        at=_poisson,
        deviance=_poisson_deviance,
        log_likelihood=_log_poisson,
        allowed=lambda y: bool(((y >= 0) & (y == np.round(y))).all()),
        outcomes="counts: 0, 1, 2, …",
    ),
}
