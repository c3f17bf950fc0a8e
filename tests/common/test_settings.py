"""Configuration files: every complaint names file, line, key and the nearest valid one, and no value."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from vantage6.common.settings import ConfigError, load_yaml, read, validate


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    runs: int = 1


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    secret: int = 0
    limits: Inner = Inner()
    databases: dict[str, Inner] = {}


def write(folder: Path, text: str) -> Path:
    path = folder / "x.yaml"
    path.write_text(text)
    return path


@pytest.mark.row("M24")
@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("application:\n  nmae: x\n", 2, "unknown key 'nmae'; did you mean 'name'?"),
        ("application:\n  name: x\n  limits:\n    rnus: 3\n", 4, "unknown key 'limits.rnus'; did you mean 'runs'?"),
        ("application:\n  name: x\n  databases:\n    a:\n      rns: 3\n", 5, "did you mean 'runs'?"),
        ("application:\n  name: x\n  limits: {runs: many}\n", 3, "limits.runs"),
        ("# c\n\napplication:\n  limits: {}\n", 3, "key 'name' is missing"),
        ("application: {name: x}\nenvironments:\n  prd: {}\n", 3, "did you mean 'prod'?"),
        ("applcation:\n  name: x\n", 1, "did you mean 'application'?"),
        ("application:\n  name: x\n  name: y\n", 3, "is there twice (first in line 2)"),
        ("application:\n- x\n", 1, "a mapping of settings"),
        ("application:\n  name: x\n bad: y\n", 3, "no valid YAML"),
    ],
)
def test_a_complaint_names_line_and_fix(tmp_path: Path, text: str, line: int, said: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        validate(read(path), "application", Outer)
    assert str(path) in caught.value.message
    assert f"line {line}" in caught.value.message
    assert said in caught.value.message


def test_all_complaints_at_once_and_no_value(tmp_path: Path) -> None:
    path = write(tmp_path, "application:\n  nme: hunter2\n  secret: hunter2\n")
    with pytest.raises(ConfigError) as caught:
        validate(read(path), "application", Outer)
    assert len(caught.value.message.splitlines()) == 3
    assert "hunter2" not in caught.value.message


def test_what_is_no_yaml_is_not_shown_either(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(write(tmp_path, "application:\n  password: [hunter2\n"))
    assert "hunter2" not in caught.value.message


def test_an_environment_that_is_missing_is_said(tmp_path: Path) -> None:
    document = read(write(tmp_path, "environments:\n  test: {name: x}\n  acc: {name: y}\n"))
    assert document.environments() == ["acc", "test"]
    assert validate(document, "test", Outer).name == "x"
    with pytest.raises(ConfigError, match="there are: acc, test"):
        document.section("prod")


@pytest.mark.attack("X13")
@pytest.mark.parametrize(
    "text", ["", "- 1", "a: &a [x]\nb: *a", "[" * 100_000, "!!python/object/apply:os.system ['true']"]
)
def test_what_is_no_configuration_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError):
        load_yaml(write(tmp_path, text))
