"""What `tools/images.py` makes for the sandbox, made anew while runs have the older one mounted."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from .conftest import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The tool, with a folder of its own for what it makes."""
    found = importlib.util.spec_from_file_location("images_tool", REPOSITORY / "tools" / "images.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    monkeypatch.setitem(sys.modules, "images_tool", module)  # Where its data classes are looked for.
    found.loader.exec_module(module)
    monkeypatch.setattr(module, "OUTPUT", tmp_path / "out")
    return module


def made(images: Any, folder: Path, text: str) -> Path:
    """The root file system that image.json names, of an image with one file."""
    layer = folder / f"layer-{text}"
    layer.mkdir(exist_ok=True)
    (layer / "file").write_text(text)
    images.make_root(images.Image("x/image:dev", ((layer, "."),), ["sh"], [], {}))
    place: Path = images.OUTPUT / "x__image:dev"
    return place / str(json.loads((place / "image.json").read_text())["rootfs"])


def test_a_replaced_root_stays_for_the_runs_that_have_it(images: Any, tmp_path: Path) -> None:
    first = made(images, tmp_path, "one")
    os.utime(first, (1, 1))  # As old as its layer is: it counts from when it is replaced.
    second = made(images, tmp_path, "two")
    assert (first / "file").read_text() == "one"
    assert (second / "file").read_text() == "two"
    assert made(images, tmp_path, "one") == first
    assert made(images, tmp_path, "two") == second
    long_ago = time.time() - images.REPLACED_SECONDS - 60
    os.utime(first, (long_ago, long_ago))
    os.utime(second, (long_ago, long_ago))
    assert made(images, tmp_path, "two") == second
    assert not first.exists()
    assert second.exists()


def test_one_that_was_cut_short_is_made_again(images: Any, tmp_path: Path) -> None:
    first = made(images, tmp_path, "one")
    first.rename(first.with_name(f".{first.name}"))
    assert (made(images, tmp_path, "one") / "file").read_text() == "one"
