"""What a node holds after many malformed assignments and hostile runs is what it held before (`make soak`: longer)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from docker import DockerClient

from tests.node.site import SiteUnderTest
from tests.node.soak import HOSTILE, Soak
from vantage6.node.audit import verify
from vantage6.node.runtimes.docker_volumes import volumes_of
from vantage6.node.runtimes.private_network import network_name

REPOSITORY = Path(__file__).parents[2]
SECONDS = float(os.environ.get("VANTAGE6_SOAK", "6"))
LONG = SECONDS >= 300
MIB = 1024**2


@pytest.fixture
def hostile(docker_engine: DockerClient) -> Iterator[str]:
    subprocess.run([sys.executable, REPOSITORY / "tools/images.py", "--docker", "--only-python"], check=True)
    name, tag = "vantage6/hostile", uuid.uuid4().hex[:8]
    made = docker_engine.containers.create("vantage6/python:dev")
    made.commit(name, tag, conf={"Entrypoint": ["python3", "-c", HOSTILE], "Cmd": None})
    made.remove()
    yield f"{name}:{tag}"
    docker_engine.images.remove(f"{name}:{tag}", force=True)


@pytest.mark.engine
@pytest.mark.attack("X08", "X09")
async def test_soak(site: SiteUnderTest, docker_engine: DockerClient, hostile: str) -> None:
    soak = Soak(site, docker_engine, hostile)
    try:
        first, last = await soak.run(SECONDS)
        _write(soak)
        if keep := os.environ.get("VANTAGE6_SOAK_LOG"):
            shutil.copy(site.folder / "node.log", keep)
        assert last.finished > first.finished > 0
        assert soak.tidy({"containers": last.containers, "volumes": last.volumes}), last
        # Where no run is at work nothing is open for one; a few are the connections of the engine's client.
        assert last.descriptors <= first.descriptors + 8
        assert last.threads <= first.threads + 16
        # What is in use does not grow with the runs: a leak of one small object for each would be more than this.
        runs = last.finished - first.finished
        assert last.blocks - first.blocks < max(5_000, 3 * runs), (first, last)
        assert last.in_use - first.in_use < (3 if LONG else 6) * MIB, (first, last)
        assert soak.growth() < (8 if LONG else 32) * 1024
        assert list((site.folder / "t" / "runs").iterdir()) == []
        assert list((site.folder / "t" / "incoming").iterdir()) == []
        assert verify(site.folder / "data" / "audit.jsonl").count > soak.finished.total()
        _clean(soak)
    finally:
        for network in docker_engine.networks.list(names=[network_name(soak.name)]):
            network.remove()


def _clean(soak: Soak) -> None:
    command = [sys.executable, "-m", "vantage6.node.cli", "clean", "--config", str(soak.config), "--yes"]
    subprocess.run(command, check=True)
    assert list((soak.site.folder / "t" / "tmp").iterdir()) == []
    assert volumes_of(soak.engine, soak.name) == {}
    assert soak.engine.networks.list(names=[network_name(soak.name)]) == []


def _write(soak: Soak) -> None:
    folder = REPOSITORY / "build"
    folder.mkdir(exist_ok=True)
    seen = {"finished": soak.finished.most_common(), "curve": [asdict(each) for each in soak.curve]}
    (folder / "soak.json").write_text(json.dumps(seen, indent=1))
