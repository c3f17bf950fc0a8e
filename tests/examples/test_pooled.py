"""Every example algorithm over three hospitals, in one process and in a real network, against the pooled data."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pytest

from examples.algorithms.kaplan_meier.curves import chi_squared_tail
from examples.pooled import COMPARISONS, far
from tests.flows.network import Network
from vantage6.algorithm import SubtaskError
from vantage6.algorithm.mock import Fails, MockNetwork
from vantage6.node.disclosure import Disclosure

from .conftest import ROOT, Frames

BAR = 1e-8


@pytest.mark.envoy
@pytest.mark.xdist_group("examples-network")
@pytest.mark.row("M44")
def test_the_comparisons_hold_in_a_real_network_too(real_network: tuple[Network, Path]) -> None:
    """The file that compares over mock networks, once more, with the flag that every author has."""
    network = real_network[0]
    before = {task.id for task in network.client.task.list()}
    file = Path(__file__).with_name("test_compared.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "vantage6.cli.testing"]
    flag = ["--network", str(real_network[1])]
    done = subprocess.run([*command, *flag, str(file)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert f"{len(COMPARISONS)} passed" in done.stdout, done.stdout + done.stderr
    assert "skipped" not in done.stdout
    made = [task for task in network.client.task.list() if task.id not in before and task.parent_id is None]
    assert len(made) == len(COMPARISONS)


def test_the_comparison_would_see_a_difference() -> None:
    assert far([1, 2], [1, 2.1]) > BAR
    assert far(1e-3, 0) == 1e-3
    assert COMPARISONS["crosstab"][2](cast("Any", Nothing())) == float("inf")


class Nothing:
    def run(self, *_: object, **__: object) -> dict[str, Any]:
        rows = ["under", "normal", "over", "obese", "very obese"]
        return {"table": {sex: dict.fromkeys(rows) for sex in ("female", "male")}}


def ages(*counts: int) -> list[pd.DataFrame]:
    return [pd.DataFrame({"age": [50.0 + each for each in range(count)]}) for count in counts]


@pytest.mark.attack
def test_few_records_tell_nothing_of_themselves() -> None:
    with pytest.raises(SubtaskError, match="fewer than the 5"):
        MockNetwork("summary_statistics", ages(9, 4)).run("summary", ["age"])
    holes = ages(9, 9)
    holes[0].loc[0, "age"] = None
    with pytest.raises(SubtaskError, match="some records here lack 'age', fewer than 5"):
        MockNetwork("summary_statistics", holes).run("summary", ["age"])


def test_missing_values_are_counted() -> None:
    holes = ages(20, 9)
    holes[0].loc[:5, "age"] = None
    found = cast("Any", MockNetwork("summary_statistics", holes).run("summary", ["age"]))["age"]
    assert (found["count"], found["missing"]) == (23, 6)
    assert found["mean"] == pytest.approx(pd.concat(holes)["age"].mean(), rel=1e-14)


def cells(**counts: int) -> pd.DataFrame:
    return pd.DataFrame([{"sex": key[0], "stage": key[1:]} for key, count in counts.items() for _ in range(count)])


def crosstab(frames: list[pd.DataFrame], **more: Any) -> Any:
    network = MockNetwork("contingency_table", frames, **more)
    return network.run("crosstab", "sex", "stage", ["f", "m"], ["1", "2"])


@pytest.mark.attack
def test_small_cells_stay_at_their_site_with_what_would_betray_them() -> None:
    small = cells(f1=3, f2=20, m1=30, m2=40)
    assert crosstab([small])["table"] == {"f": {"1": None, "2": None}, "m": {"1": None, "2": None}}
    found = crosstab([small, cells(f1=9, f2=9, m1=9, m2=9)])
    assert found["table"]["f"]["1"] is None
    assert found["at_least"]["m"]["2"] == 9
    assert not found["complete"]


def test_the_sites_own_rule_is_met() -> None:
    """What the algorithm lets out passes a node's rule, and what it would not let out does not."""
    rules = {rows: Disclosure([{"rule": "maximum_rows", "rows": rows, "to": ["output"]}]) for rows in (1, 3)}
    sites = [cells(f1=9, f2=9, m1=9, m2=9)]
    assert crosstab(sites, disclosure=rules[3])["complete"]
    network = MockNetwork("contingency_table", sites, disclosure=rules[1])
    with pytest.raises(SubtaskError):
        network.run("crosstab", "sex", "stage", ["f", "m"], ["1", "2"])
    # The researcher is not told: that, too, stays in the site's log.
    [(_, text)] = network.kept
    assert "refused MAXIMUM_ROWS" in text


def test_categories_that_nobody_asked_for_are_not_told() -> None:
    found = crosstab([cells(f1=9, f2=9, m1=9, m2=9, x7=50)])
    assert found["table"] == {"f": {"1": 9, "2": 9}, "m": {"1": 9, "2": 9}}


@pytest.mark.parametrize(
    ("package", "method", "arguments", "text"),
    [
        ("summary_statistics", "summary", (["none"],), "no column of numbers named 'none'"),
        ("summary_statistics", "summary", ([],), "at least one"),
        ("contingency_table", "crosstab", ("a", "b", ["1"], ["1"]), "no column named a, b"),
        ("contingency_table", "crosstab", ("age", "age", ["1", "1"], ["1"]), "each once"),
        ("glm", "glm", ("age", ["none"]), "no columns named none"),
        ("glm", "glm", ("age", ["age", "age"]), "each once"),
        ("glm", "glm", ("age", [], "gamma"), "no family 'gamma'"),
        ("glm", "glm", ("age", [], "binomial"), "must be 0 or 1"),
        ("glm", "glm", ("half", [], "poisson"), "must be counts"),
        ("glm", "glm", ("age", ["twice"]), "fewer than 20"),
        ("kaplan_meier", "kaplan_meier", ("age", "age", 30), "must be 0 or 1"),
        ("kaplan_meier", "kaplan_meier", ("age", "zero", 0), "interval"),
        ("kaplan_meier", "kaplan_meier", ("age", "zero", 30, "age"), "group and groups"),
        ("kaplan_meier", "kaplan_meier", ("age", "zero", 30, "age", ["1"]), "nobody"),
        ("kaplan_meier", "kaplan_meier", ("age", "none", 30), "no column named none"),
    ],
)
def test_what_is_wrong_is_said(package: str, method: str, arguments: tuple[object, ...], text: str) -> None:
    sites = [frame.assign(half=0.5, twice=frame["age"] * 2, zero=0) for frame in ages(12, 12)]
    with pytest.raises(SubtaskError, match=text):
        MockNetwork(package, sites).run(method, *arguments)


def test_features_that_depend_on_one_another_are_told() -> None:
    sites = [frame.assign(twice=frame["age"] * 2, y=frame["age"] % 7) for frame in ages(90, 80)]
    with pytest.raises(SubtaskError, match="depend on one another"):
        MockNetwork("glm", sites).run("glm", "y", ["age", "twice"])


def test_separated_outcomes_have_no_finite_fit() -> None:
    sites = [frame.assign(y=(frame["age"] > 70).astype(int)) for frame in ages(60, 70)]
    with pytest.raises(SubtaskError, match=r"separate|lowers the deviance"):
        MockNetwork("glm", sites).run("glm", "y", ["age"], "binomial")


def test_a_site_that_fails_ends_the_fit_and_says_which(hospitals: list[Frames]) -> None:
    network = MockNetwork("glm", hospitals, names=["north", "south", "east"], faults={2: Fails("OUT_OF_MEMORY")})
    with pytest.raises(SubtaskError, match="south: failed OUT_OF_MEMORY"):
        network.run("glm", "progression", ["age"], databases=["diabetes"])


def test_a_curve_without_groups(hospitals: list[Frames]) -> None:
    network = MockNetwork("kaplan_meier", hospitals)
    found = cast("Any", network.run("kaplan_meier", "days", "died", 30, databases=["heart"]))
    assert found["log_rank"] is None
    curve = found["curves"]["all"]
    assert curve["count"] == 69
    assert all(
        low <= middle <= high
        for low, middle, high in zip(curve["lower"], curve["survival"], curve["upper"], strict=True)
    )
    assert curve["survival"] == sorted(curve["survival"], reverse=True)
    assert curve["median"] in curve["time"]


@pytest.mark.parametrize(
    ("value", "degrees", "tail"),
    [(3.841459, 1, 0.05), (5.991465, 2, 0.05), (7.814728, 3, 0.05), (9.487729, 4, 0.05), (0, 5, 1)],
)
def test_the_tail_of_chi_squared(value: float, degrees: int, tail: float) -> None:
    assert chi_squared_tail(value, degrees) == pytest.approx(tail, abs=1e-6)


AUTHORS = """
def test_sum(make_network):
    import pandas as pd
    sites = [{"diabetes": pd.DataFrame({"age": [50.0] * 9})}] * 3
    network = make_network("summary_statistics", sites)
    found = network.run("summary", ["age"], databases=["diabetes"])
    print("COUNT", found["age"]["count"], type(network).__name__)
    assert len(network.organizations) == 3

def test_faults(make_network):
    from vantage6.algorithm.mock import Fails
    make_network("summary_statistics", [None] * 3, faults={1: Fails()})
"""


def authors(folder: Path, *arguments: str) -> str:
    (folder / "conftest.py").write_text('pytest_plugins = ["vantage6.cli.testing"]')
    (folder / "test_mine.py").write_text(AUTHORS)
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "-c", "/dev/null", *arguments]
    environment = {"PYTHONPATH": str(ROOT / "examples" / "algorithms"), "PATH": ""}
    done = subprocess.run(
        [*command, "test_mine.py"], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_an_authors_tests_run_in_one_process(tmp_path: Path) -> None:
    said = authors(tmp_path)
    assert "COUNT 27 MockNetwork" in said
    assert "2 passed" in said


@pytest.mark.envoy
@pytest.mark.xdist_group("examples-network")
def test_the_same_tests_run_in_a_real_network_by_a_flag(tmp_path: Path, real_network: tuple[Network, Path]) -> None:
    said = authors(tmp_path, "--network", str(real_network[1]))
    assert "COUNT 442 RealNetwork" in said  # what the sites have, not what the test has
    assert "1 passed, 1 skipped" in said


def test_the_page_has_every_algorithm() -> None:
    done = subprocess.run([sys.executable, str(ROOT / "examples" / "figures.py"), "--check"], check=False)
    assert done.returncode == 0
    for name in ("survival", "forest"):
        assert (ROOT / "docs" / "images" / f"{name}.svg").stat().st_size < 40_000
