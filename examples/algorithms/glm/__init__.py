"""Federated generalized linear models by iteratively reweighted least squares: Gaussian, binomial, Poisson.

Every site tells the weighted cross products of its own records at the coefficients that it is sent. These are sums, so
the central part solves the very equations that a fit on the pooled data would solve in that step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict, cast

import numpy as np

from vantage6.algorithm import AlgorithmError, InputError, algorithm_client, data

from .model import FAMILIES, MINIMUM, Design, family

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    from vantage6.algorithm import AlgorithmClient

    Vector = npt.NDArray[np.float64]

Z = 1.959963984540054
"""97.5 % of the normal distribution lie below."""
EXHAUSTED = "no smaller step lowers the deviance: is the model right for the outcome?"


class Part(TypedDict):
    """What leaves a site: sums over its records."""

    cross: list[list[float]]
    response: list[float]
    deviance: float
    log_likelihood: float
    count: int


class Fit(TypedDict):
    """The fitted model; the confidence intervals are of 95 %."""

    family: str
    coefficients: dict[str, float]
    standard_errors: dict[str, float]
    p_values: dict[str, float]
    confidence_intervals: dict[str, list[float]]
    deviance: float
    dispersion: float
    log_likelihood: float
    count: int
    iterations: int


@data(1)
def partial_glm(
    frame: pd.DataFrame,
    outcome: str,
    features: list[str],
    kind: str,
    coefficients: list[float] | None = None,
    categories: dict[str, list[str]] | None = None,
) -> Part:
    """Cross products of the records here; without coefficients at the start that the outcomes themselves suggest."""
    model = family(kind)
    design = Design(features, categories or {})
    x, y = design.matrix(frame, outcome)
    if len(y) < MINIMUM * x.shape[1]:
        raise InputError(f"there are fewer than {MINIMUM * x.shape[1]} complete records here")
    model.check(y, outcome)
    linear = model.start(y) if coefficients is None else x @ np.array(coefficients, dtype=float)
    mean, slope, weight = model.at(linear)
    weighted = x.T * weight
    return Part(
        cross=(weighted @ x).tolist(),
        response=(weighted @ (linear + (y - mean) / slope)).tolist(),
        deviance=model.deviance(y, mean),
        log_likelihood=model.log_likelihood(y, mean),
        count=len(y),
    )


@algorithm_client
def glm(
    client: AlgorithmClient,
    outcome: str,
    features: list[str],
    kind: str = "gaussian",
    categories: dict[str, list[str]] | None = None,
    organizations: list[int] | None = None,
    *,
    tolerance: float = 1e-10,
    max_iterations: int = 25,
) -> Fit:
    """Fits the model over the organizations (all, unless told which).

    Ends when a step would change no coefficient by more than `tolerance`, measured by itself or its standard error.
    """
    family(kind)
    names = Design(features, categories or {}).names
    sites = _Sites(client, outcome, features, kind, categories, organizations)
    beta = _solve(sites.at(None))
    here = sites.at(beta)
    for iteration in range(1, max_iterations + 1):
        step = _solve(here) - beta
        errors = np.sqrt(np.abs(np.diag(_inverse(here.cross))))
        if (np.abs(step) <= tolerance * np.maximum(np.abs(beta), errors)).all():
            return _fit(kind, names, beta, here, iteration)
        beta, here = _descend(sites, beta, here, step)
        client.progress(iteration / max_iterations, f"iteration {iteration}: deviance {here.deviance:.6f}")
    raise AlgorithmError(f"no convergence in {max_iterations} iterations: do the features separate the outcomes?")


@dataclass(frozen=True)
class _Sum:
    """The sites' parts, added up."""

    cross: Vector
    response: Vector
    deviance: float
    log_likelihood: float
    count: int


@dataclass(frozen=True)
class _Sites:
    client: AlgorithmClient
    outcome: str
    features: list[str]
    kind: str
    categories: dict[str, list[str]] | None
    organizations: list[int] | None

    def at(self, beta: Vector | None) -> _Sum:
        """Asks every site; one that fails ends the fit, since a sum without it is another model."""
        subtask = self.client.subtask(
            "partial_glm",
            self.outcome,
            self.features,
            self.kind,
            None if beta is None else beta.tolist(),
            self.categories,
            organizations=self.organizations,
        )
        parts = [cast("Part", answer.value) for answer in subtask.wait()]
        return _Sum(
            cross=np.sum([part["cross"] for part in parts], axis=0),
            response=np.sum([part["response"] for part in parts], axis=0),
            deviance=math.fsum(part["deviance"] for part in parts),
            log_likelihood=math.fsum(part["log_likelihood"] for part in parts),
            count=sum(part["count"] for part in parts),
        )


def _inverse(cross: Vector) -> Vector:
    diagonal = np.diag(cross)
    if not np.isfinite(cross).all() or (diagonal <= 0).any():
        raise AlgorithmError("there is no finite fit: do the features separate the outcomes?")
    # Columns of unlike size make the matrix look singular; with a unit diagonal it is not.
    scale = 1 / np.sqrt(diagonal)
    scaled = cross * np.outer(scale, scale)
    if np.linalg.cond(scaled) > 1 / (10 * len(scale) * np.finfo(float).eps):
        raise AlgorithmError("the features depend on one another: leave one out")
    return np.linalg.inv(scaled) * np.outer(scale, scale)


def _solve(here: _Sum) -> Vector:
    return _inverse(here.cross) @ here.response


def _descend(sites: _Sites, beta: Vector, here: _Sum, step: Vector) -> tuple[Vector, _Sum]:
    """Goes the step, or as much of it as lowers the deviance."""
    slack = 1e-9 * abs(here.deviance)  # at the bottom, rounding decides the sign
    for _ in range(10):
        there = sites.at(beta + step)
        if there.deviance <= here.deviance + slack:
            return beta + step, there
        step = step / 2
    raise AlgorithmError(EXHAUSTED)


def _fit(kind: str, names: list[str], beta: Vector, here: _Sum, iterations: int) -> Fit:
    dispersion = here.deviance / (here.count - len(beta)) if FAMILIES[kind].free_dispersion else 1.0
    errors = np.sqrt(dispersion * np.diag(_inverse(here.cross)))

    def named(values: Vector) -> dict[str, float]:
        return dict(zip(names, values.tolist(), strict=True))

    return Fit(
        family=kind,
        coefficients=named(beta),
        standard_errors=named(errors),
        p_values=named(np.array([math.erfc(abs(each) / math.sqrt(2)) for each in beta / errors])),
        confidence_intervals={
            name: [low, high] for name, low, high in zip(names, beta - Z * errors, beta + Z * errors, strict=True)
        },
        deviance=here.deviance,
        dispersion=dispersion,
        log_likelihood=here.log_likelihood,
        count=here.count,
        iterations=iterations,
    )
