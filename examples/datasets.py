"""Public data sets that ship in packages, each as three hospitals of unequal size; none is downloaded."""

from __future__ import annotations

import warnings
from itertools import pairwise
from typing import Any, cast

import pandas as pd
from sklearn.datasets import load_breast_cancer, load_diabetes

with warnings.catch_warnings():
    # Its import compiles patterns in a way that newer versions of Python warn of.
    warnings.simplefilter("ignore")
    from statsmodels.datasets import heart as stanford
    from statsmodels.datasets import randhie

WEIGHTS = ["under", "normal", "over", "obese", "very obese"]
SHARES = (0.5, 0.76)
"""Where the first and the second hospital end."""


def split(frame: pd.DataFrame) -> list[pd.DataFrame]:
    """Three parts of the whole, in an order that has nothing to do with the data."""
    mixed = frame.sample(frac=1, random_state=6).reset_index(drop=True)
    ends = [0, *(int(share * len(mixed)) for share in SHARES), len(mixed)]
    return [mixed[start:end].reset_index(drop=True) for start, end in pairwise(ends)]


def cancer() -> pd.DataFrame:
    """569 tumours (Wisconsin): measurements in standard deviations, and whether malignant."""
    frame: pd.DataFrame = cast("Any", load_breast_cancer(as_frame=True)).frame
    names = ["mean radius", "mean texture", "mean smoothness", "mean concavity", "mean symmetry"]
    found = (frame[names] - frame[names].mean()) / frame[names].std()
    found.columns = [name.replace("mean ", "") for name in names]
    return found.assign(malignant=1 - frame["target"])


def diabetes() -> pd.DataFrame:
    """442 patients: age, sex, body mass index, blood pressure, and how far the disease went in a year."""
    frame: pd.DataFrame = cast("Any", load_diabetes(as_frame=True, scaled=False)).frame
    found = frame[["age", "bmi", "bp", "target"]].rename(columns={"target": "progression"})
    found["sex"] = frame["sex"].map({1.0: "female", 2.0: "male"})
    found["weight"] = pd.cut(frame["bmi"], [0, 20, 25, 30, 35, 99], labels=WEIGHTS).astype(str)
    return found


def visits() -> pd.DataFrame:
    """Visits to the doctor in a year (RAND health insurance experiment), every tenth person of 20,190."""
    frame = pd.DataFrame(randhie.load_pandas().data)
    return frame[["mdvis", "disea", "physlm", "lncoins"]][::10].reset_index(drop=True)


def heart() -> pd.DataFrame:
    """69 patients after a heart transplant (Stanford): days until death or the end of the study, and age."""
    frame = pd.DataFrame(stanford.load_pandas().data)
    older = frame["age"].ge(48).map({True: "48 and over", False: "under 48"})
    return pd.DataFrame({"days": frame["survival"], "died": frame["censors"].astype(int), "age_group": older})


DATASETS = {"cancer": cancer, "diabetes": diabetes, "visits": visits, "heart": heart}
