"""`vnode check` looks around as a run of this site would: with its hardening, its user and its network."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient

from vantage6.node.config import NodeConfig
from vantage6.node.doctor_runtime import CHECK, _judged, check_runtime

GOOD = {"reached": [], "resolves": False, "links": [], "routes": 0, "root": False, "writes": False, "engine": False}
IMAGE = "vantage6/python:dev"


def site(folder: Path, **more: Any) -> NodeConfig:
    settings = {"name": "probe-test", "server_url": "http://127.0.0.1:1", "runtime_options": {"relay_image": IMAGE},
                "directories": {"task": folder}, **more}  # fmt: skip
    return NodeConfig.model_validate(settings)


@pytest.fixture
def tidy(docker_engine: DockerClient) -> Iterator[DockerClient]:
    yield docker_engine
    labels = [f"{key}={value}" for key, value in CHECK.items()]
    assert docker_engine.api.containers(all=True, filters={"label": labels}) == []
    assert docker_engine.api.networks(names=["vantage-probe-test-net"]) == []


async def test_each_weakened_setting_has_a_line(tmp_path: Path) -> None:
    config = site(tmp_path, runtime="null", hardening={"read_only": False}, limits={"pids": 4096})
    said = [each for each in await check_runtime(config, deep=False) if each.what == "hardening"]
    assert [each.outcome for each in said] == ["warning", "warning"]
    assert [each.detail for each in said] == config.weaknesses()
    assert "hardening" not in {each.what for each in await check_runtime(site(tmp_path, runtime="null"), deep=False)}


def test_little_free_room_and_the_sandbox_are_weaknesses(tmp_path: Path) -> None:
    assert site(tmp_path, limits={"free_bytes": 1024**3}).weaknesses() == []
    assert site(tmp_path, limits={"free_bytes": 1024}).weaknesses() == [
        "limits.free_bytes: 1,024 instead of 536,870,912"
    ]
    [said] = site(tmp_path, runtime="sandbox", runtime_options={}).weaknesses()
    assert said.startswith("runtime: sandbox has no seccomp profile")


def test_what_the_site_chose_is_no_fault_of_the_engine(tmp_path: Path) -> None:
    seen = json.dumps({**GOOD, "root": True, "writes": True, "links": ["eth0"]}).encode()
    assert _judged(seen).outcome == "failed"
    chosen = site(tmp_path, hardening={"user": "0:0", "read_only": False}, isolation="network")
    assert _judged(seen, chosen).outcome == "ok"
    assert "root" not in _judged(seen, chosen).detail
    reached = json.dumps({**GOOD, "reached": ["1.1.1.1:443"]}).encode()
    assert _judged(reached, chosen).outcome == "failed"


@pytest.mark.engine
@pytest.mark.parametrize(
    ("hardening", "words"),
    [
        ({"seccomp": "/nowhere/profile.json"}, "seccomp: /nowhere/profile.json cannot be used: No such file"),
        ({"oci_runtime": "no-such"}, "oci_runtime: the engine does not know no-such, only .*runc"),
    ],
)
async def test_hardening_that_no_run_could_have_fails(
    tidy: DockerClient, tmp_path: Path, hardening: dict[str, Any], words: str
) -> None:
    [found] = [e for e in await check_runtime(site(tmp_path, hardening=hardening), deep=True) if e.outcome == "failed"]
    assert found.what == "hardening"
    assert re.match(words, found.detail)
    assert found.fix


@pytest.mark.engine
@pytest.mark.row("M06")
@pytest.mark.parametrize("isolation", ["socket", "network"])
async def test_the_probe_is_as_the_sites_runs_are(
    tidy: DockerClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isolation: str
) -> None:
    """Proved by the engine's own account of the container, and by what the probe says."""
    seen: list[dict[str, Any]] = []
    remove = type(tidy.api).remove_container

    def look(self: Any, container: Any, **more: Any) -> None:
        facts = self.inspect_container(container)
        if facts["Config"]["User"] == "1234:1234":
            seen.append(facts)
        remove(self, container, **more)

    monkeypatch.setattr(type(tidy.api), "remove_container", look)
    profile = tmp_path / "profile.json"
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW"}))
    hardening = {"user": "1234:1234", "read_only": False, "seccomp": str(profile)}
    found = {
        e.what: e for e in await check_runtime(site(tmp_path, isolation=isolation, hardening=hardening), deep=True)
    }
    assert found["isolation"].outcome == "ok", found["isolation"]
    [facts] = seen
    host = facts["HostConfig"]
    assert not host["ReadonlyRootfs"]
    assert any("SCMP_ACT_ALLOW" in option for option in host["SecurityOpt"])
    assert host["NetworkMode"].startswith("container:" if isolation == "network" else "none")
