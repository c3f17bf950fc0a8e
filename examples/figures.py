"""Makes what docs/algorithms-compared.md shows: its table and the two plots, all from public data.

`python examples/figures.py` writes them; with `--check` it compares the table's rows with the algorithms there are.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "examples" / "algorithms")]

from examples.datasets import DATASETS, heart, split  # noqa: E402 - found by the path above
from examples.pooled import COMPARISONS, FEATURES, MONTH, months, pooled_glm  # noqa: E402
from vantage6.algorithm.mock import MockNetwork  # noqa: E402

DOCS = ROOT / "docs"
PAGE = DOCS / "algorithms-compared.md"
WHAT = {
    "summary": "count, mean and standard deviation of 4 columns; 442 patients with diabetes",
    "crosstab": "sex by weight in 5 classes; 442 patients with diabetes; cells that a site suppressed left out",
    "glm, Gaussian": "progression of diabetes by age, sex, body mass index, blood pressure; 442 patients",
    "glm, binomial": "malignancy by 5 measurements; 569 tumours",
    "glm, Poisson": "visits to the doctor by 3 features; 2,019 persons",
    "kaplan_meier": "two curves with standard errors, and the log-rank test; 69 heart transplants, months",
}
BLUE, ORANGE, GREY = "#2563a8", "#c2571a", "#777777"


def sites() -> list[dict[str, Any]]:
    parts = {label: split(make()) for label, make in DATASETS.items()}
    return [{label: part[number] for label, part in parts.items()} for number in range(3)]


def table(frames: list[dict[str, Any]]) -> str:
    """Algorithm by largest difference; rounding errors differ from machine to machine, so only their size is told."""
    lines = ["| algorithm | what is compared | with | largest difference |", "|---|---|---|---|"]
    for name, (package, by, compare) in COMPARISONS.items():
        lines.append(f"| `{name}` | {WHAT[name]} | {by} | {size(compare(MockNetwork(package, frames)))} |")
    return "\n".join(lines) + "\n"


def size(difference: float) -> str:
    return "0" if difference == 0 else f"below 1e-{-int(f'{difference:e}'.partition('e')[2]) - 1:02d}"


def page(frames: list[dict[str, Any]]) -> str:
    return f"""<!-- made by examples/figures.py; do not edit -->

# The example algorithms against the pooled data

Each algorithm runs over three hospitals of unequal size; another program analyses the data of all three together. The
largest difference in any number that both give, relative where numbers are over 1:

{table(frames)}
`tests/examples/test_compared.py` makes the same comparison with a bar of 1e-8: in one process, or with `--network FILE`
through a server, a gateway and three nodes, encrypted. All data ship in scikit-learn and statsmodels.

## Survival after a heart transplant

![Kaplan-Meier curves](images/survival.svg)

69 patients (Stanford) as three hospitals, times in months. Steps and bands are what the sites' event tables add up to;
dots are statsmodels' estimate on the pooled data.

## Malignant tumours

![Odds ratios](images/forest.svg)

569 tumours (Wisconsin) as three hospitals. Odds ratios per standard deviation with their 95 % confidence intervals;
dots are the federated fit, circles that of statsmodels on the pooled data.
"""


def survival(frames: list[dict[str, Any]]) -> None:
    from matplotlib import pyplot as plt  # noqa: PLC0415 - for who makes figures
    from statsmodels.duration.survfunc import SurvfuncRight  # noqa: PLC0415

    groups = ["under 48", "48 and over"]
    network = MockNetwork("kaplan_meier", frames)
    found = cast("Any", network.run("kaplan_meier", "days", "died", MONTH, "age_group", groups, databases=["heart"]))
    pooled = months(heart())
    figure, axes = plt.subplots(figsize=(6.4, 3.6))
    for group, colour in zip(groups, (BLUE, ORANGE), strict=True):
        curve = found["curves"][group]
        time = [0, *curve["time"]]
        axes.step(time, [1, *curve["survival"]], where="post", color=colour, label=f"{group} ({curve['count']})")
        axes.fill_between(time, [1, *curve["lower"]], [1, *curve["upper"]], step="post", color=colour, alpha=0.15, lw=0)
        members = pooled[pooled["age_group"] == group]
        theirs = SurvfuncRight(members["days"], members["died"])
        axes.plot(theirs.surv_times, theirs.surv_prob, "o", color=colour, ms=2.5)
    axes.set(xlabel="days after the transplant", ylabel="alive", ylim=(0, 1.02), xlim=(0, None))
    axes.legend(frameon=False, title=f"age; log-rank p = {found['log_rank']['p_value']:.2f}")
    save(figure, "survival")


def forest(frames: list[dict[str, Any]]) -> None:
    import numpy as np  # noqa: PLC0415
    from matplotlib import pyplot as plt  # noqa: PLC0415

    label, outcome, features, _ = FEATURES["binomial"]
    fit = cast("Any", MockNetwork("glm", frames).run("glm", outcome, features, "binomial", databases=[label]))
    pooled = np.exp(pooled_glm("binomial").params)
    figure, axes = plt.subplots(figsize=(6.4, 2.4))
    for place, feature in enumerate(reversed(features)):
        low, high = np.exp(fit["confidence_intervals"][feature])
        axes.plot([low, high], [place, place], color=BLUE, lw=1.5)
        axes.plot(np.exp(fit["coefficients"][feature]), place, "o", color=BLUE, ms=4)
        axes.plot(pooled[feature], place, "o", mfc="none", mec=ORANGE, ms=9)
    axes.axvline(1, color=GREY, lw=0.8)
    axes.set(xscale="log", xlabel="odds ratio of malignancy, per standard deviation", ylim=(-0.6, len(features) - 0.4))
    axes.set_yticks(range(len(features)), reversed(features))
    save(figure, "forest")


def save(figure: Any, name: str) -> None:
    """As SVG with text as text: small, sharp, and the same bytes for the same data."""
    import matplotlib as mpl  # noqa: PLC0415

    for side in ("top", "right"):
        figure.axes[0].spines[side].set_visible(False)
    figure.tight_layout()
    (DOCS / "images").mkdir(exist_ok=True)
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(DOCS / "images" / f"{name}.svg", metadata={"Date": None, "Creator": None})


def main() -> int:
    frames = sites()
    if "--check" in sys.argv[1:]:
        rows = [line.split("|")[1].strip() for line in PAGE.read_text(encoding="utf-8").splitlines() if "| `" in line]
        missing = set(rows) ^ {f"`{name}`" for name in COMPARISONS}
        print(
            f"not as the algorithms are: {', '.join(sorted(missing))}" if missing else "the table has every algorithm"
        )
        return 1 if missing else 0
    PAGE.write_text(page(frames), encoding="utf-8")
    survival(frames)
    forest(frames)
    print(f"{PAGE.relative_to(ROOT)} and its plots are made")
    return 0


if __name__ == "__main__":
    sys.exit(main())
