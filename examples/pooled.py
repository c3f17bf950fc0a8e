"""What the algorithms give over three hospitals, against other programs on the pooled data.

Each comparison returns the largest difference that it finds, relative where values are large.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import pandas as pd

from examples.datasets import WEIGHTS, cancer, diabetes, heart, visits
from vantage6.algorithm.network import Network

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import statsmodels.api as sm
    from statsmodels.duration.survfunc import SurvfuncRight, survdiff

MONTH = 30
FEATURES = {
    "gaussian": ("diabetes", "progression", ["age", "sex", "bmi", "bp"], {"sex": ["female", "male"]}),
    "binomial": ("cancer", "malignant", ["radius", "texture", "smoothness", "concavity", "symmetry"], None),
    "poisson": ("visits", "mdvis", ["disea", "physlm", "lncoins"], None),
}


def far(ours: object, theirs: object) -> float:
    """The largest difference, relative to values over 1."""
    mine, other = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    return float(np.max(np.abs(mine - other) / np.maximum(np.abs(other), 1)))


def summary(network: Network) -> float:
    """Against pandas."""
    columns = ["age", "bmi", "bp", "progression"]
    found = cast("Mapping[str, Mapping[str, float]]", network.run("summary", columns, databases=["diabetes"]))
    pooled = diabetes()[columns].agg(["count", "mean", "std"])
    names = {"count": "count", "mean": "mean", "standard_deviation": "std"}
    return max(far(found[each][ours], pooled.loc[theirs, each]) for each in columns for ours, theirs in names.items())


def crosstab(network: Network) -> float:
    """Against pandas, of the cells that no site left out; infinite if one of too few records got through."""
    rows, columns = ["female", "male"], WEIGHTS
    found = cast("Mapping[str, Any]", network.run("crosstab", "sex", "weight", rows, columns, databases=["diabetes"]))[
        "table"
    ]
    frame = diabetes()
    pooled = pd.crosstab(frame["sex"], frame["weight"])
    shown = [(row, column) for row in rows for column in columns if found[row][column] is not None]
    if not shown:
        return np.inf
    return max(far(found[row][column], pooled.loc[row, column]) for row, column in shown)


def glm(kind: str) -> Callable[[Network], float]:
    """Against statsmodels: coefficients, standard errors, p-values, intervals, deviance."""

    def compare(network: Network) -> float:
        label, outcome, features, categories = FEATURES[kind]
        found = cast(
            "Mapping[str, Any]",
            network.run("glm", outcome, features, kind, categories=categories, databases=[label]),
        )
        theirs = pooled_glm(kind)
        ours = {
            name: list(found[name].values())
            for name in ("coefficients", "standard_errors", "p_values", "confidence_intervals")
        }
        return max(
            far(ours["coefficients"], theirs.params),
            far(ours["standard_errors"], theirs.bse),
            far(ours["p_values"], theirs.pvalues),
            far(ours["confidence_intervals"], theirs.conf_int()),
            far(found["deviance"], theirs.deviance),
        )

    return compare


def pooled_glm(kind: str) -> Any:
    label, outcome, features, categories = FEATURES[kind]
    frame = {"diabetes": diabetes, "cancer": cancer, "visits": visits}[label]()
    for feature, levels in (categories or {}).items():
        frame[feature] = (frame[feature] == levels[1]).astype(float)
    family = {"gaussian": sm.families.Gaussian, "binomial": sm.families.Binomial, "poisson": sm.families.Poisson}[kind]
    model = sm.GLM(frame[outcome], sm.add_constant(frame[features]), family=family())
    return model.fit(tol=1e-14, maxiter=100)


def kaplan_meier(network: Network) -> float:
    """Against statsmodels on the same months: curves, standard errors, and the log-rank test."""
    groups = ["under 48", "48 and over"]
    found = cast(
        "Mapping[str, Any]",
        network.run("kaplan_meier", "days", "died", MONTH, "age_group", groups, databases=["heart"]),
    )
    frame = months(heart())
    far_off = [0.0]
    for group in groups:
        members = frame[frame["age_group"] == group]
        theirs = SurvfuncRight(members["days"], members["died"])
        ours = found["curves"][group]
        far_off += [far(ours["time"], theirs.surv_times), far(ours["survival"], theirs.surv_prob)]
        far_off += [far(ours["standard_error"], theirs.surv_prob_se), far(ours["at_risk"], theirs.n_risk)]
    squared, p_value = survdiff(frame["days"], frame["died"], frame["age_group"])
    far_off += [far(found["log_rank"]["chi_squared"], squared), far(found["log_rank"]["p_value"], p_value)]
    return max(far_off)


def months(frame: pd.DataFrame) -> pd.DataFrame:
    """With the days rounded as the sites round them."""
    return frame.assign(days=np.rint(frame["days"] / MONTH) * MONTH)


COMPARISONS: dict[str, tuple[str, str, Callable[[Network], float]]] = {
    "summary": ("summary_statistics", "pandas", summary),
    "crosstab": ("contingency_table", "pandas", crosstab),
    "glm, Gaussian": ("glm", "statsmodels", glm("gaussian")),
    "glm, binomial": ("glm", "statsmodels", glm("binomial")),
    "glm, Poisson": ("glm", "statsmodels", glm("poisson")),
    "kaplan_meier": ("kaplan_meier", "statsmodels", kaplan_meier),
}
"""By name: package, compared with, and the comparison."""
