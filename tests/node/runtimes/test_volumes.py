"""Temporary volumes: who shares one, that the engine knows them, and that nothing of them stays (M48, M49)."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from tests.node.fake_runtime import FakeRuntime
from tests.node.output import read_output
from tests.node.site import SiteUnderTest
from vantage6.node import states, temporary
from vantage6.node.cli import main
from vantage6.node.disk import remove_tree
from vantage6.node.runtimes.docker_volumes import volumes_of
from vantage6.node.runtimes.private_network import network_name
from vantage6.node.temporary import Temporary
from vantage6.node.workspace import Workspace

from .conftest import Kit

if TYPE_CHECKING:
    from docker import DockerClient

WRITE = "open('/mnt/tmp/left', 'a').write('x')"
READ = "import json, os\njson.dump(sorted(os.listdir('/mnt/tmp')), open('/mnt/data/output', 'w'))"


@pytest.mark.row("M48")
@pytest.mark.attack("CVE-2026-54533")
@pytest.mark.parametrize(
    ("other", "shared"),
    [
        ({}, True),
        ({"parent_task_id": 5, "task_id": 6, "task_key": "another"}, True),
        ({"run_id": 4}, False),
        ({"image": "example/other:1"}, False),
        ({"user_id": 9}, False),
    ],
)
async def test_who_shares(site: SiteUnderTest, other: dict[str, Any], shared: bool) -> None:
    """A server that gives a run the run_id of somebody else's does not put the two together."""
    connection = await site.online()
    connection.send(assignment=site.assignment())
    await site.server.report(states.COMPLETED)
    run = site.assignment(result_id=13, **{key: value for key, value in other.items() if key != "task_key"})
    connection.send(assignment=run)
    await site.server.report(states.COMPLETED)
    first, second = (
        next(Path(mount.source) for mount in spec.mounts if mount.target == "/mnt/tmp") for spec in site.runtime.started
    )
    assert (first == second) is shared


@pytest.mark.engine
@pytest.mark.row("M48")
@pytest.mark.row("M49")
@pytest.mark.parametrize("kit", ["docker"], indirect=True)
async def test_the_engine_knows_them_and_may_forget_them(kit: Kit, engine_images: DockerClient) -> None:
    async def begun(run_id: int, program: str) -> Any:
        files = kit.prepare(run_id=run_id)
        return files, await kit.runtime.wait(await kit.start(program, files))

    await begun(7, WRITE)
    [volume] = volumes_of(engine_images, kit.node_name)["7"]
    assert volume.attrs["Labels"]["vantage6-node"] == kit.node_name
    assert str(volume.name).startswith(f"vantage-{kit.node_name}-7-")
    await kit.runtime.drop_shared(["7"])
    assert list(volumes_of(engine_images, kit.node_name)) == ["7"]  # A container has it.
    for handle in (await kit.runtime.recover()).values():
        await kit.runtime.remove(handle)
    volume.remove()  # By an administrator, in between.
    files, ended = await begun(7, READ)
    assert ended.code == 0
    assert json.loads(read_output(kit.workspace, files, 100)) == ["left"]
    other, _ = await begun(8, READ)
    assert json.loads(read_output(kit.workspace, other, 100)) == []
    for handle in (await kit.runtime.recover()).values():
        await kit.runtime.remove(handle)
    await kit.runtime.drop_shared(["7"])
    assert list(volumes_of(engine_images, kit.node_name)) == ["8"]
    await kit.runtime.drop_shared(["8"])


@pytest.mark.engine
@pytest.mark.row("M21")
@pytest.mark.row("M49")
async def test_clean_finds_volumes_and_network(engine_images: DockerClient, tmp_path: Path) -> None:
    kit = Kit("docker", Path(tmp_path / "k"), options={"isolation": "network"})
    config = tmp_path / "node.yaml"
    settings = {"name": kit.node_name, "server_url": "https://s.example",
                "directories": {"data": str(tmp_path / "d"), "task": str(kit.workspace.root)}}  # fmt: skip
    config.write_text(json.dumps({"application": settings}))

    async def clean(*arguments: str) -> Any:
        command = ["clean", "--config", str(config), *arguments]
        return await asyncio.to_thread(CliRunner().invoke, main, command)

    name = network_name(kit.node_name)
    running = await kit.start("import time; time.sleep(60)", kit.prepare(run_id=3))
    kept = await clean("--yes", "--json")
    assert kept.exit_code == 0, kept.output
    assert json.loads(kept.stdout)["network"] is None
    assert list(volumes_of(engine_images, kit.node_name)) == ["3"]
    await kit.runtime.remove(running)
    asked = await clean()
    assert name in asked.output
    assert list(volumes_of(engine_images, kit.node_name)) == ["3"]
    assert json.loads((await clean("--yes", "--json")).stdout) == {"removed": ["3"], "failed": {}, "network": name}
    assert volumes_of(engine_images, kit.node_name) == {}
    assert engine_images.networks.list(names=[name]) == []
    assert list((kit.workspace.root / "tmp").iterdir()) == []
    assert "no temporary volume" in (await clean()).output
    await kit.runtime.close()


@pytest.mark.row("M49")
async def test_they_go_by_age(site: SiteUnderTest) -> None:
    site.settings["limits"] = {"temporary_days": 2}
    old, young = (site.folder / "t" / "tmp" / name for name in ("77-a", "78-b"))
    for folder, days in ((old, 3), (young, 1)):
        folder.mkdir(parents=True)
        then = time.time() - days * 24 * 3600
        os.utime(folder, (then, then))
    connection = await site.online()
    connection.send(assignment=site.assignment())
    await site.server.report(states.COMPLETED)
    await site.stop()
    assert young.exists()
    assert not old.exists()
    assert "77-a" in site.runtime.dropped


@pytest.mark.row("M49")
async def test_what_could_not_be_removed_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace(tmp_path / "t", "north")
    (workspace.root / "tmp" / "3-a").mkdir()
    volumes = Temporary(workspace, FakeRuntime(), None)
    tries: list[Path] = []

    def refused(folder: Path) -> None:
        tries.append(folder)
        raise OSError("not now")

    monkeypatch.setattr(temporary, "remove_tree", refused)
    await volumes.tidy((), {"3-a"})
    await volumes.tidy((), set())
    assert len(tries) == 1  # Not at each end of a run.
    monkeypatch.setattr(temporary, "remove_tree", remove_tree)
    volumes._not_before = dict.fromkeys(volumes._not_before, 0.0)
    await volumes.tidy((), set())
    assert workspace.retired() == []


@pytest.mark.row("M21")
@pytest.mark.row("M49")
def test_clean_removes_what_was_put_aside(tmp_path: Path) -> None:
    config = tmp_path / "node.yaml"
    settings = {"name": "north", "server_url": "https://s.example", "runtime": "null",
                "directories": {"data": str(tmp_path / "d"), "task": str(tmp_path / "t")}}  # fmt: skip
    config.write_text(json.dumps({"application": settings}))
    aside = tmp_path / "t" / "gone" / "0123"
    aside.mkdir(parents=True)
    (aside / "f").touch()
    command = ["clean", "--config", str(config), "--yes", "--json"]
    assert json.loads(CliRunner().invoke(main, command).stdout)["removed"] == ["0123"]
    assert not aside.exists()
