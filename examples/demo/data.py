"""The patients: scikit-learn's breast-cancer set, split over three hospitals of unequal size."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer

HOSPITALS = {"Hospital North": 300, "Hospital South": 160, "Hospital West": 109}
FEATURES = ["mean_radius", "mean_texture", "mean_smoothness", "mean_concavity", "mean_symmetry"]
OUTCOME = "malignant"


def patients() -> pd.DataFrame:
    """All 569, one row each: measurements of a biopsy, and whether it was malignant."""
    frame: pd.DataFrame = cast("Any", load_breast_cancer(as_frame=True)).frame
    frame.columns = [column.replace(" ", "_") for column in frame.columns]
    frame[OUTCOME] = 1 - frame.pop("target")
    return frame


def split(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Every patient in one hospital, the same ones each time."""
    order = np.random.default_rng(569).permutation(len(frame))
    ends = np.cumsum(list(HOSPITALS.values()))
    parts = np.split(order, ends[:-1])
    return {name: frame.iloc[part] for name, part in zip(HOSPITALS, parts, strict=True)}


def write(folder: Path) -> dict[str, Path]:
    """One CSV file for each hospital. Numbers are written so that reading gives the same ones."""
    files = {}
    for name, part in split(patients()).items():
        files[name] = folder / f"{short(name)}.csv"
        part.to_csv(files[name], index=False)
    return files


def short(name: str) -> str:
    return name.rpartition(" ")[2].lower()


def pooled_fit(frame: pd.DataFrame) -> dict[str, float]:
    """The model that the hospitals fit together, fitted on one table; written without any of the algorithm's code."""
    x: np.ndarray[Any, np.dtype[np.float64]] = np.column_stack([np.ones(len(frame)), frame[FEATURES]])
    y = frame[OUTCOME].to_numpy(float)
    beta = np.zeros(x.shape[1])
    for _ in range(30):
        p = 1 / (1 + np.exp(-x @ beta))
        beta += np.linalg.solve(x.T @ (x * (p * (1 - p))[:, None]), x.T @ (y - p))
    return dict(zip(["(intercept)", *FEATURES], beta.tolist(), strict=True))
