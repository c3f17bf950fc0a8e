"""An encrypted network, a user proxy before it, and what the tests need of Node.js and R."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.conftest import missing
from tests.flows.network import IMAGES, PASSWORD, ROOT, Network, Process, running

EXAMPLES = {language: f"vantage6/examples/average{suffix}:dev" for language, suffix in
            (("python", ""), ("javascript", "-js"), ("r", "-r"))}  # fmt: skip
R_PACKAGES = ("jsonlite", "curl", "testthat")


@dataclass
class Study:
    """A network with a proxy for its researcher."""

    network: Network
    proxy_file: Path
    pooled: pd.DataFrame

    def task(self, language: str) -> dict[str, Any]:
        return {
            "collaboration_id": self.network.collaboration_id,
            "organizations": [self.network.sites[0].organization_id],
            "image": EXAMPLES[language],
            "databases": ["default"],
            "input": {"method": "average", "args": ["age"]},
        }


def node() -> str:
    """The program, or the test is skipped."""
    found = shutil.which("node")
    if found is None:
        missing("javascript", "Node.js is not installed")
    return found


def rscript() -> str:
    """The program, or the test is skipped; its packages have to be there, too."""
    found = shutil.which("Rscript")
    if found is None:
        missing("r", "R is not installed")
    code = "".join(f"stopifnot(requireNamespace('{name}', quietly = TRUE)); " for name in R_PACKAGES)
    if subprocess.run([found, "-e", code], capture_output=True, check=False).returncode:
        missing("r", f"one of its packages is not installed: {', '.join(R_PACKAGES)}")
    return found


def needs_image(language: str) -> None:
    """The example's image is made where its language is."""
    if language == "javascript":
        node()
    if language == "r":
        rscript()
    if not (IMAGES / EXAMPLES[language].replace("/", "__")).is_dir():
        missing(language, "there is no image of its example: run `make javascript images`")


def run_r(code: str, **environment: str) -> str:
    """What a program in R prints."""
    done = subprocess.run(
        [rscript(), "--vanilla", "-e", code], capture_output=True, text=True, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def images() -> None:
    for script in ("images.py", "languages.py"):
        subprocess.run([sys.executable, str(ROOT / "tools" / script)], check=True, cwd=ROOT)


@pytest.fixture(scope="session")
def site_data(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("data")
    files = []
    for site, size in enumerate((7, 11, 23), start=1):
        files.append(folder / f"site{site}.csv")
        ages = [20.25 + site * 3 + i for i in range(size)]
        pd.DataFrame({"age": ages, "note, with comma": ['a "word"\nmore'] * size}).to_csv(files[-1], index=False)
    return files


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory, site_data: list[Path], images: None) -> Iterator[Study]:
    """On the sandbox, which starts quickly."""
    with studying(tmp_path_factory.mktemp("s"), "sandbox", site_data) as made:
        yield made


@pytest.fixture(scope="session")
def docker_study(tmp_path_factory: pytest.TempPathFactory, site_data: list[Path], images: None) -> Iterator[Study]:
    with studying(tmp_path_factory.mktemp("d"), "docker", site_data) as made:
        yield made


@contextmanager
def studying(folder: Path, runtime: str, sites: list[Path]) -> Iterator[Study]:
    with running(folder, runtime, sites) as network:
        file = folder / "config" / "vantage6" / "v6" / "proxy.json"
        process = start_proxy(network, folder / "config")
        try:
            process.wait_for("address and token")
            yield Study(network, file, pd.concat([pd.read_csv(path) for path in sites]))
        finally:
            code = process.stop()
        assert code == 0
        assert not file.exists()


def start_proxy(network: Network, config: Path) -> Process:
    """`v6 proxy`, as the researcher starts it."""
    program, site = str(Path(sys.executable).with_name("v6")), network.sites[0]
    return Process("proxy", [
        "env", f"XDG_CONFIG_HOME={config}", f"VANTAGE6_PASSWORD={PASSWORD}", program, "proxy",
        "--username", "researcher", "--server", network.url, "--ca-file", str(network.ca_file), "--key", str(site.key),
        "--known-organizations", str(network.folder / "known-by-proxy.json"),
    ], network.folder)  # fmt: skip


@pytest.fixture(scope="session")
def vtg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library with the R package in it."""
    rscript()
    library = tmp_path_factory.mktemp("library")
    command = ["R", "CMD", "INSTALL", "--no-docs", f"--library={library}", str(ROOT / "client" / "r")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return library
