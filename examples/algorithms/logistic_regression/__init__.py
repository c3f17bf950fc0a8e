"""Federated logistic regression by Newton's method (IRLS).

Every site tells the gradient, the Hessian and the log-likelihood of its own records at the coefficients that it is
sent; these add up to those of all records together, so the central part takes exactly the steps that a fit on the
pooled data would take.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict, cast

import numpy as np

from vantage6.algorithm import AlgorithmError, InputError, algorithm_client, data

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    from vantage6.algorithm import AlgorithmClient

    Vector = npt.NDArray[np.float64]

MINIMUM = 10
"""A site with fewer complete records than this for each coefficient tells nothing."""

INTERCEPT = "(intercept)"


class Part(TypedDict):
    """What leaves a site: sums over its records."""

    gradient: list[float]
    hessian: list[list[float]]
    log_likelihood: float
    count: int


class Fit(TypedDict):
    """The fitted model."""

    coefficients: dict[str, float]
    standard_errors: dict[str, float]
    log_likelihood: float
    count: int
    iterations: int


@data(1)
def partial_newton(frame: pd.DataFrame, features: list[str], outcome: str, coefficients: list[float]) -> Part:
    """Gradient, Hessian and log-likelihood of the records here; the first coefficient is the intercept."""
    missing = [column for column in (*features, outcome) if column not in frame]
    if missing:
        raise InputError(f"there are no columns named {', '.join(missing)} here")
    if len(set(features)) != len(features) or len(coefficients) != len(features) + 1:
        raise InputError("each feature once, and one coefficient for each and for the intercept")
    complete = frame[[*features, outcome]].dropna()
    if len(complete) < MINIMUM * len(coefficients):
        raise InputError(f"there are fewer than {MINIMUM * len(coefficients)} complete records here")
    y = complete[outcome].to_numpy(float)
    if not np.isin(y, (0, 1)).all():
        raise InputError(f"the outcome {outcome!r} must be 0 or 1")
    x = np.column_stack([np.ones(len(complete)), complete[features].to_numpy(float)])
    linear = x @ np.array(coefficients, dtype=float)
    expected = np.exp(-np.logaddexp(0, -linear))  # 1 / (1 + exp(-linear)) that never overflows
    return Part(
        gradient=(x.T @ (y - expected)).tolist(),
        hessian=((x.T * (expected * (1 - expected))) @ x).tolist(),
        log_likelihood=float(y @ linear - np.logaddexp(0, linear).sum()),
        count=len(complete),
    )


@algorithm_client
def logistic_regression(
    client: AlgorithmClient,
    features: list[str],
    outcome: str,
    organizations: list[int] | None = None,
    *,
    tolerance: float = 1e-10,
    max_iterations: int = 25,
) -> Fit:
    """Fits the model over the organizations (all, unless told which).

    Ends when a step would change no coefficient by more than `tolerance`, measured by itself or its standard error.
    """
    organizations = organizations or [each.id for each in client.participants()]
    sites = _Sites(client, features, outcome, organizations)
    beta = np.zeros(len(features) + 1)
    here = sites.at(beta)
    for iteration in range(1, max_iterations + 1):
        step, errors = _newton_step(here)
        if (np.abs(step) <= tolerance * np.maximum(np.abs(beta), errors)).all():
            return _fit(features, beta, errors, here, iteration)
        beta, here = _ascend(sites, beta, here, step)
        client.progress(iteration / max_iterations, f"iteration {iteration}: log-likelihood {here.log_likelihood:.6f}")
    raise AlgorithmError(f"no convergence in {max_iterations} iterations: do the features separate the outcomes?")


@dataclass(frozen=True)
class _Sum:
    """The sites' parts, added up."""

    gradient: Vector
    hessian: Vector
    log_likelihood: float
    count: int


@dataclass(frozen=True)
class _Sites:
    client: AlgorithmClient
    features: list[str]
    outcome: str
    organizations: list[int]

    def at(self, beta: Vector) -> _Sum:
        """Asks every site; one that fails ends the fit, since a sum without it is another model."""
        subtask = self.client.subtask(
            "partial_newton",
            self.features,
            self.outcome,
            beta.tolist(),
            organizations=self.organizations,
        )
        # In the order of the organizations: sums of floats depend on it, and a fit should not depend on arrival.
        answers = {answer.organization_id: cast("Part", answer.value) for answer in subtask}
        parts = [answers[each] for each in sorted(answers)]
        return _Sum(
            gradient=np.sum([part["gradient"] for part in parts], axis=0),
            hessian=np.sum([part["hessian"] for part in parts], axis=0),
            log_likelihood=float(sum(part["log_likelihood"] for part in parts)),
            count=sum(part["count"] for part in parts),
        )


def _newton_step(here: _Sum) -> tuple[Vector, Vector]:
    """The step to the top of the parabola that fits here, and the coefficients' standard errors."""
    diagonal = np.diag(here.hessian)
    if not np.isfinite(here.hessian).all() or (diagonal <= 0).any():
        raise AlgorithmError("there is no finite fit: do the features separate the outcomes?")
    # Columns of unlike size make the Hessian look singular; with a unit diagonal it is not.
    scale = 1 / np.sqrt(diagonal)
    scaled = here.hessian * np.outer(scale, scale)
    if np.linalg.cond(scaled) > 1 / (10 * len(scale) * np.finfo(float).eps):
        raise AlgorithmError("the features depend on one another: leave one out")
    inverse = np.linalg.inv(scaled) * np.outer(scale, scale)
    return inverse @ here.gradient, np.sqrt(np.abs(np.diag(inverse)))


def _ascend(sites: _Sites, beta: Vector, here: _Sum, step: Vector) -> tuple[Vector, _Sum]:
    """Goes the step, or as much of it as raises the log-likelihood."""
    slack = 1e-9 * abs(here.log_likelihood)  # at the top, rounding decides the sign
    for _ in range(10):
        there = sites.at(beta + step)
        if there.log_likelihood >= here.log_likelihood - slack:
            return beta + step, there
        step = step / 2
    raise AlgorithmError("no step raises the log-likelihood")


def _fit(features: list[str], beta: Vector, errors: Vector, here: _Sum, iterations: int) -> Fit:
    names = [INTERCEPT, *features]
    return Fit(
        coefficients=dict(zip(names, beta.tolist(), strict=True)),
        standard_errors=dict(zip(names, errors.tolist(), strict=True)),
        log_likelihood=here.log_likelihood,
        count=here.count,
        iterations=iterations,
    )
