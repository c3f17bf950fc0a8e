"""The benchmarks' parts run, in a tiny form, so that nobody finds them broken when figures are wanted."""

from __future__ import annotations

import importlib
import tempfile
from pathlib import Path

import pytest

from benchmarks import harness
from benchmarks.deployment import deployment, populate
from benchmarks.fleet import fleet
from benchmarks.harness import Row, Samples, Table
from benchmarks.history import add_past, add_payloads
from benchmarks.noop import once
from benchmarks.wire import wire


def test_every_name_has_its_module() -> None:
    for name in harness.NAMES:
        assert callable(importlib.import_module(f"benchmarks.{harness.MODULES.get(name, name)}").run)


@pytest.mark.parametrize(("bar", "at_least", "met"), [(2.0, False, True), (1.4, False, False), (1.4, True, True)])
def test_a_row_says_whether_its_bar_is_met(bar: float, at_least: bool, met: bool) -> None:
    row = Row("what", Samples((2.0, 3.0, 4.0)), Samples((2.0, 2.0)), bar, at_least)
    assert row.ratio == 1.5
    assert row.met is met


def test_one_that_breaks_does_not_keep_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def run_one(name: str, *, quick: bool) -> Table | None:
        if name == "noop":
            raise RuntimeError("no luck")
        return Table(name, [Row("fine", Samples((1.0,)), Samples((1.0,)), 1.0)])

    monkeypatch.setattr(harness, "run_one", run_one)
    assert harness.main(["noop", "drain"]) == 1
    assert "broke: noop" in capsys.readouterr().out
    assert harness.main(["noop", "drain", "--without", "noop"]) == 0
    assert "all bars met" in capsys.readouterr().out


async def test_a_wire(tmp_path: Path) -> None:
    async with wire(tmp_path / "wire", 3) as made:
        assert await made.round() > 0


async def test_a_round_after_a_past() -> None:
    """Server, light and real nodes and client, without the gateway."""
    # Not pytest's own folder: the path of a run's socket must be short.
    with tempfile.TemporaryDirectory(prefix="b-") as folder:
        await a_round(Path(folder) / "made")


async def a_round(folder: Path) -> None:
    async with deployment(folder, gateway=False) as made:
        await populate(made, 2)
        add_past(made.database, made.collaboration_id, made.parties[0].organization_id, 30, contents=True)
        add_payloads(made.database, made.folder / "data" / "blobs", made.collaboration_id, 2, 2**22)
        async with made.researcher() as client:
            async with fleet(made, made.parties, "light"):
                await once(client, made.collaboration_id, made.parties)
            async with fleet(made, made.parties[:1], "real", real=True):
                await once(client, made.collaboration_id, made.parties[:1])
