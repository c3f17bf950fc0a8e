"""The small programs on the front page and on those of the examples: they do what they look like."""

from __future__ import annotations

import contextlib
import io
from types import ModuleType
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from tests.documents import ROOT, blocks
from vantage6.algorithm.mock import MockNetwork
from vantage6.client import ResultState, TaskResult

EXAMPLES = ("average", "contingency_table", "glm", "kaplan_meier", "logistic_regression", "summary_statistics")


def people(seed: int) -> pd.DataFrame:
    """A hospital with every column that a page asks for."""
    random = np.random.default_rng(seed)
    count = 120
    choose = {"sex": ["female", "male"], "stage": ["I", "II", "III", "IV"], "age_group": ["under 48", "48 and over"]}
    frame = pd.DataFrame({name: random.choice(values, count) for name, values in choose.items()})
    for name in ("age", "bmi", "mean_radius", "mean_texture", "mean_smoothness"):
        frame[name] = random.normal(50, 9, count)
    frame["visits"] = random.poisson(3, count)
    frame["days"] = random.integers(1, 900, count)
    frame["died"] = frame["malignant"] = random.integers(0, 2, count)
    return frame


class Client:
    """Runs the tasks of a page over mock networks."""

    def __init__(self, *_: object, **__: object) -> None:
        self.task = self

    def authenticate(self, *_: object) -> None:
        self.wait = lambda task: task

    def setup_encryption(self, file: str) -> None:
        assert file == "private_key.pem"

    def create(self, organizations: list[int], image: str, databases: list[str], **more: Any) -> list[TaskResult]:
        package = image.removeprefix("vantage6/examples/").removesuffix(":dev").replace("-", "_")
        run = MockNetwork(package, [{"default": people(each)} for each in range(3)]).run
        asked = more["input"]
        value = run(asked["method"], *asked.get("args", ()), databases=databases, **asked.get("kwargs", {}))
        return [TaskResult(each, f"hospital {each}", ResultState.COMPLETED, "", "", value) for each in organizations]

    def results(self, task: list[TaskResult]) -> list[TaskResult]:
        return task

    wait: Any = None


def run(code: str, **names: object) -> str:
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(compile(code, "page", "exec"), dict(names))
    return output.getvalue()


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_readme_of_an_example(name: str) -> None:
    client = Client()
    client.authenticate()
    frames = {f"frame_{letter}": people(seed) for seed, letter in enumerate("abc")}
    for code in blocks(f"examples/algorithms/{name}/README.md", "python"):
        said = run(code, client=client, **frames)
        assert said or "print" not in code


def test_every_example_has_a_page() -> None:
    found = {path.parent.name for path in (ROOT / "examples" / "algorithms").glob("*/README.md")}
    assert found == {*EXAMPLES, "average-js", "average-r"}


def test_the_front_page(monkeypatch: pytest.MonkeyPatch) -> None:
    ask, write = blocks("README.md", "python")
    monkeypatch.setattr("vantage6.client.Client", Client)
    assert run(ask).startswith("hospital 1 {'average': ")
    module = ModuleType("mine")
    exec(write, vars(module))
    frames = [people(1), people(2)]
    found = cast("float", MockNetwork(module, frames).run("average", "age"))
    assert found == pytest.approx(pd.concat(frames)["age"].mean())


def test_the_first_commands_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for block in blocks("README.md", "console"):
        for line in block.splitlines():
            assert line.startswith("$ make ")
            assert f"\n{line.removeprefix('$ make ').split()[0]}: " in makefile
