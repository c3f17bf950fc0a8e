"""Networks of real parts, one for each runtime, shared by the tests that only use them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from .network import ROOT, Network, running

MARKER = "MARKER-7f3a-patient-secret"
LONG_MARKER = MARKER + "y" * 70_000
"""Too long for a message, so that the input that names it goes through the payload store."""
OUTPUT_MARKER = "70707070707.5"
"""The sum of the columns with these names at every site."""


@pytest.fixture(scope="session")
def site_data(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three sites with records of their own; a text column holds what must never be seen outside."""
    folder = tmp_path_factory.mktemp("data")
    files = []
    for site, size in enumerate((7, 11, 23), start=1):
        secret = [float(OUTPUT_MARKER)] + [0.0] * (size - 1)
        ages = [20 + site * 3 + i for i in range(size)]
        frame = pd.DataFrame({"age": ages, "note": [MARKER] * size, MARKER: secret, LONG_MARKER: secret})
        files.append(folder / f"site{site}.csv")
        frame.to_csv(files[-1], index=False)
    return files


@pytest.fixture(scope="session")
def images() -> None:
    """The example images, made as `make images` does; nothing is made again that is there."""
    subprocess.run([sys.executable, str(ROOT / "tools" / "images.py")], check=True, cwd=ROOT)


RUNTIMES = [
    pytest.param("sandbox", marks=[pytest.mark.envoy, pytest.mark.xdist_group("flows-sandbox")]),
    pytest.param("docker", marks=[pytest.mark.envoy, pytest.mark.engine, pytest.mark.xdist_group("engine")]),
]


@pytest.fixture(scope="module", params=RUNTIMES)
def network(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, site_data: list[Path], images: None
) -> Iterator[Network]:
    """An encrypted collaboration of three sites."""
    with running(
        tmp_path_factory.mktemp(request.param[0]),
        request.param,
        site_data,
        node_settings={"share_logs": True, "share_errors": True},
    ) as made:
        yield made
