"""The example algorithms over three sites, against the same models on the pooled data."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression

from vantage6.algorithm import SubtaskError
from vantage6.algorithm.mock import MockNetwork

EXAMPLES = Path(__file__).parents[2] / "examples"
FEATURES = ["mean_radius", "mean_texture", "mean_smoothness", "mean_concavity", "mean_symmetry"]


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES / "algorithms"))
    for name in ("average", "logistic_regression"):
        sys.modules.pop(name, None)


@pytest.fixture
def patients() -> pd.DataFrame:
    frame: pd.DataFrame = cast("Any", load_breast_cancer(as_frame=True)).frame
    frame.columns = [column.replace(" ", "_") for column in frame.columns]
    frame["malignant"] = 1 - frame.pop("target")
    return frame


@pytest.fixture
def sites(patients: pd.DataFrame) -> list[pd.DataFrame]:
    """Three hospitals of unequal size."""
    return [patients[:310], patients[310:470], patients[470:]]


def newton(frame: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The pooled fit, written down once more without any of the example's code."""
    x = np.column_stack([np.ones(len(frame)), frame[FEATURES]])
    y = frame["malignant"].to_numpy(float)
    beta = np.zeros(x.shape[1])
    for _ in range(30):
        p = 1 / (1 + np.exp(-x @ beta))
        beta += np.linalg.solve(x.T @ (x * (p * (1 - p))[:, None]), x.T @ (y - p))
    return beta


def test_average_is_that_of_the_pooled_data(sites: list[pd.DataFrame], patients: pd.DataFrame) -> None:
    result = cast("dict[str, Any]", MockNetwork("average", sites).run("average", "mean_radius"))
    assert result["average"] == pytest.approx(patients["mean_radius"].mean(), rel=1e-14)
    assert result["count"] == 569
    assert len(result["sites"]) == 3


@pytest.mark.parametrize(("column", "text"), [("nothing", "no column"), ("name", "no column")])
def test_average_says_what_is_missing(sites: list[pd.DataFrame], column: str, text: str) -> None:
    with pytest.raises(SubtaskError, match=text):
        MockNetwork("average", [site.assign(name="x") for site in sites]).run("average", column)


@pytest.mark.attack
def test_few_records_tell_nothing(sites: list[pd.DataFrame]) -> None:
    with pytest.raises(SubtaskError, match="fewer than 5"):
        MockNetwork("average", [sites[0], sites[1][:4]]).run("average", "mean_radius")
    network = MockNetwork("logistic_regression", [sites[0], sites[1][:59]])
    with pytest.raises(SubtaskError, match="fewer than 60"):
        network.run("logistic_regression", FEATURES, "malignant")


@pytest.mark.row("M44")
def test_regression_is_that_of_the_pooled_data(sites: list[pd.DataFrame], patients: pd.DataFrame) -> None:
    network = MockNetwork("logistic_regression", sites)
    fit = cast("dict[str, Any]", network.run("logistic_regression", FEATURES, "malignant"))
    beta = np.array(list(fit["coefficients"].values()))
    assert list(fit["coefficients"]) == ["(intercept)", *FEATURES]
    assert np.abs(beta - newton(patients)).max() < 1e-6
    assert fit["count"] == 569
    assert 0.05 < fit["standard_errors"]["mean_texture"] < 0.08
    assert len(network.progress) == fit["iterations"] - 1


def test_regression_is_that_of_scikit_learn(sites: list[pd.DataFrame], patients: pd.DataFrame) -> None:
    """Its default stops early: it is given a tolerance and columns of like size, which are scaled back afterwards."""
    scale = patients[FEATURES].std()
    theirs = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-12, max_iter=1000)
    theirs.fit(patients[FEATURES] / scale, patients["malignant"])
    fit = cast(
        "dict[str, Any]", MockNetwork("logistic_regression", sites).run("logistic_regression", FEATURES, "malignant")
    )
    beta = np.array(list(fit["coefficients"].values()))
    assert np.abs(beta[1:] - theirs.coef_[0] / scale.to_numpy()).max() < 1e-6
    assert abs(beta[0] - cast("Any", theirs.intercept_)[0]) < 1e-6


def test_missing_values_are_left_out_at_every_site(sites: list[pd.DataFrame]) -> None:
    holes = [site.copy() for site in sites]
    holes[0].loc[holes[0].index[:7], "mean_radius"] = np.nan
    fit = cast(
        "dict[str, Any]", MockNetwork("logistic_regression", holes).run("logistic_regression", FEATURES, "malignant")
    )
    assert fit["count"] == 562
    assert fit["coefficients"]["mean_radius"] == pytest.approx(newton(pd.concat(holes).dropna())[1], abs=1e-6)


def test_separated_outcomes_are_told(sites: list[pd.DataFrame]) -> None:
    parted = [site.assign(marker=site["malignant"] * 2.0) for site in sites]
    with pytest.raises(SubtaskError, match=r"separate the outcomes|no step raises"):
        MockNetwork("logistic_regression", parted).run("logistic_regression", ["marker"], "malignant")


@pytest.mark.parametrize(
    ("features", "outcome", "text"),
    [
        (["mean_radius", "none_such"], "malignant", "no columns named none_such"),
        (["mean_radius"], "mean_texture", "must be 0 or 1"),
        (["mean_radius", "mean_radius"], "malignant", "each feature once"),
        (["mean_radius", "twice"], "malignant", "depend on one another"),
    ],
)
def test_regression_says_what_is_wrong(sites: list[pd.DataFrame], features: list[str], outcome: str, text: str) -> None:
    twice = [site.assign(twice=site["mean_radius"] * 2) for site in sites]
    with pytest.raises(SubtaskError, match=text):
        MockNetwork("logistic_regression", twice).run("logistic_regression", features, outcome)
