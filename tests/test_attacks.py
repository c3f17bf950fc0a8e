"""docs/security-tests.md is complete and true: every row has a test of its id, and every id has a row."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "security-tests.md"


@pytest.fixture(scope="module")
def attacks() -> ModuleType:
    """tools/attacks.py, which is no package."""
    spec = importlib.util.spec_from_file_location("attacks", ROOT / "tools" / "attacks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["attacks"] = module
    spec.loader.exec_module(module)
    return module


def test_every_row_has_a_test_at_its_door(attacks: ModuleType) -> None:
    tests = attacks.marked()
    for name, door in attacks.rows(PAGE.read_text()).items():
        shown = [test for test in tests if name in test.ids]
        assert shown, f"{name}: no test is marked @pytest.mark.attack({name!r})"
        if door == "both":
            assert any(test.both for test in shown), f"{name}: no test goes through both doors (fixture `door`)"


def test_every_marked_id_has_a_row(attacks: ModuleType) -> None:
    known = attacks.rows(PAGE.read_text()).keys()
    elsewhere = set(re.findall(r"(?:CVE|GHSA)-[\w-]+|X\d\d", PAGE.read_text()))
    assert len(known) > 30
    for test in attacks.marked():
        assert set(test.ids) <= known | elsewhere, test


def test_the_page_is_as_it_would_be_written(attacks: ModuleType) -> None:
    text = PAGE.read_text()
    assert text == attacks.written(text, attacks.marked()), "run: make docs"


def test_what_is_said_to_be_elsewhere_is_there() -> None:
    for path in re.findall(r"`(tests/[\w/]+(?:\.py)?)`", PAGE.read_text()):
        assert (ROOT / path).exists(), path
