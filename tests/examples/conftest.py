"""Makes the folder `examples` importable: it is no part of what is installed. And networks for its algorithms."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from tests.flows.network import PASSWORD, Network, running
from vantage6.cli.testing import make_network, network_client, network_file

__all__ = ["make_network", "network_client", "network_file"]

ROOT = Path(__file__).parents[2]
ALGORITHMS = ROOT / "examples" / "algorithms"
sys.path.append(str(ROOT))

Frames = dict[str, pd.DataFrame]


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every example as its image has it: at the top."""
    monkeypatch.syspath_prepend(str(ALGORITHMS))


@pytest.fixture(scope="session")
def hospitals() -> list[Frames]:
    """Three sites, with their part of every data set by its label."""
    from examples.datasets import DATASETS, split  # noqa: PLC0415 - importable by now

    parts = {label: split(make()) for label, make in DATASETS.items()}
    return [{label: part[number] for label, part in parts.items()} for number in range(3)]


@pytest.fixture(scope="session")
def real_network(hospitals: list[Frames], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Network, Path]]:
    """Server, gateway and three nodes with this data, and the file that describes them to `--network`."""
    command = [sys.executable, str(ROOT / "tools" / "images.py"), "--sandbox"]
    subprocess.run(command, check=True, capture_output=True)
    folder = tmp_path_factory.mktemp("x")
    sites = []
    for number, frames in enumerate(hospitals, start=1):
        sites.append({label: folder / f"{label}-{number}.csv" for label in frames})
        for label, frame in frames.items():
            frame.to_csv(sites[-1][label], index=False)
    with running(folder, "sandbox", sites) as network:
        (folder / "password").write_text(PASSWORD)
        packages = [path.name for path in ALGORITHMS.iterdir() if (path / "__init__.py").is_file()]
        file = folder / "network.json"
        file.write_text(json.dumps({
            "server": network.url, "ca_file": str(network.ca_file), "username": "researcher",
            "password_file": "password", "key": str(network.sites[0].key),
            "known_organizations": "known-by-client.json", "collaboration": network.collaboration_id,
            "images": {name: f"vantage6/examples/{name.replace('_', '-')}:dev" for name in packages},
        }))  # fmt: skip
        yield network, file
