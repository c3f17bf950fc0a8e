"""The site's proxy has a password; algorithms, which could not reach it anyway, are not told it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .conftest import Kit

if TYPE_CHECKING:
    from docker import DockerClient

PROXY = "http://ada:hunter2@proxy.example:3128"
LOOK = "import json, os, sys; print(json.dumps({k: v for k, v in os.environ.items() if 'proxy' in k.lower()}))"


@pytest.mark.engine
@pytest.mark.attack
@pytest.mark.row("M06")
@pytest.mark.parametrize("isolation", ["socket", "network"])
async def test_an_algorithm_is_not_told_the_site_s_proxy(
    engine_images: DockerClient, tmp_path: Path, short_path: Path, monkeypatch: pytest.MonkeyPatch, isolation: str
) -> None:
    """The SDK takes it from the user's own settings of Docker, and would give it to every container."""
    (tmp_path / "config.json").write_text(json.dumps({"proxies": {"default": {"httpsProxy": PROXY}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("https_proxy", PROXY)
    kit = Kit("docker", short_path, options={"isolation": isolation})
    try:
        handle = await kit.start(f"import time\n{LOOK}\ntime.sleep(60)")
        made = engine_images.containers.get(handle)
        told = [made.attrs["Config"]["Env"]]
        if isolation == "network":
            told.append(engine_images.containers.get(f"{made.name}-relay").attrs["Config"]["Env"])
        assert "hunter2" not in json.dumps(told)
        await kit.runtime.remove(handle)
    finally:
        await kit.runtime.close()
