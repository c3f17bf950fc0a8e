"""What runs close to a node that is not root, or put where no walk finds it: it counts all the same (X08)."""

from __future__ import annotations

import asyncio
import ctypes
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from docker.errors import ImageNotFound

from tests.node.fake_runtime import FakeRuntime
from tests.node.site import SiteUnderTest
from vantage6.node import disk, states
from vantage6.node.disk import Disk, DiskLimit, count, remove_tree
from vantage6.node.runtimes.base import MIB, Exit, RunRefused, RunSpec
from vantage6.node.runtimes.own_image import STANDARD, own_image

from .conftest import IMAGE, Kit

if TYPE_CHECKING:
    from docker import DockerClient

pytestmark = [pytest.mark.attack("X08"), pytest.mark.row("M54")]

SOMEBODY = 12345
FILL = """
import os, time
folder = "/mnt/tmp/mine"
os.mkdir(folder, 0o700)
for number in range(12):
    open(f"{folder}/f{number}", "wb").write(bytes(2**20))
os.chmod(folder, MODE)
print("filled", flush=True)
time.sleep(60)
"""


@contextmanager
def as_somebody() -> Iterator[None]:
    """File access of this thread as a user who is not root (to the kernel: setfsuid)."""
    libc = ctypes.CDLL(None)
    libc.setfsuid(SOMEBODY)
    try:
        yield
    finally:
        libc.setfsuid(0)


def unprivileged(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*given: Any) -> Any:
        with as_somebody():
            return function(*given)

    return call


@pytest.fixture
def not_root(monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid():
        pytest.skip("only root can be somebody else")
    monkeypatch.setattr(disk, "count", unprivileged(count))
    monkeypatch.setattr(disk, "SECONDS", 0.1)


def given_to_somebody(kit: Kit) -> None:
    """The node's folders belong to the user that the node is."""
    for folder in (kit.folder, kit.workspace.root, kit.workspace.root / "tmp"):
        os.chown(folder, SOMEBODY, SOMEBODY)


async def filled(kit: Kit, mode: int) -> tuple[Path, Any]:
    files = kit.prepare(run_id=7)
    given_to_somebody(kit)
    handle = await kit.start(f"MODE = {mode}\n{FILL}", files)
    said = b""
    async for chunk in kit.runtime.logs(handle):
        said += chunk
        if b"filled" in said:
            break
    return files.temporary, handle


@pytest.mark.engine
@pytest.mark.parametrize("kit", ["docker"], indirect=True)
@pytest.mark.parametrize("mode", [0o700, 0o000])
async def test_a_closed_folder_is_counted(kit: Kit, mode: int, not_root: None) -> None:
    folder, handle = await filled(kit, mode)
    seen = await asyncio.to_thread(disk.count, folder)
    assert seen.bytes < MIB, "the attack: what was written is not seen"
    assert seen.closed
    async with asyncio.timeout(60):
        with pytest.raises(DiskLimit, match="full"):
            await Disk(folder, 8 * MIB, 0, kit.runtime.measure).watch(folder)
    # One that is within the limit goes on, closed folder or not.
    assert 12 * MIB < await kit.runtime.measure(folder, 100 * MIB) < 20 * MIB
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.5):
            await Disk(folder, 100 * MIB, 0, kit.runtime.measure).watch(folder)
    await kit.runtime.remove(handle)
    with pytest.raises(PermissionError):
        unprivileged(remove_tree)(folder)
    await kit.runtime.open_up(folder)
    await asyncio.to_thread(unprivileged(remove_tree), folder)
    assert not folder.exists()


@pytest.mark.engine
@pytest.mark.parametrize("kit", ["docker"], indirect=True)
async def test_without_an_image_to_count_with_the_run_is_ended(kit: Kit, not_root: None) -> None:
    await kit.runtime.close()
    kit.options = {"relay_image": "example/not-here:1"}
    kit.runtime = kit.make()
    folder, _ = await filled(kit, 0o700)
    with pytest.raises(DiskLimit, match="relay_image"):
        await Disk(folder, 100 * MIB, 0, kit.runtime.measure).watch(folder)


@pytest.mark.engine
@pytest.mark.parametrize("kit", ["docker"], indirect=True)
async def test_attendants_of_an_earlier_life_are_removed(kit: Kit, engine_images: DockerClient) -> None:
    labels = {"vantage6-type": "attendant", "vantage6-node": kit.node_name}
    made = engine_images.containers.create(IMAGE, labels=labels)
    await kit.runtime.recover()
    assert made.id not in {each.id for each in engine_images.containers.list(all=True, ignore_removed=True)}


async def test_the_node_asks_and_ends_the_run(site: SiteUnderTest, not_root: None) -> None:
    """Through the whole node: what it cannot count and what cannot be counted for it ends the run."""

    async def algorithm(spec: RunSpec) -> Exit:
        folder = next(Path(mount.source) for mount in spec.mounts if mount.target == "/mnt/tmp")
        (folder / "closed").mkdir(0o700)
        await asyncio.Event().wait()
        return Exit(0)

    site.runtime = FakeRuntime(algorithm)
    for closed_bytes, end in ((5, states.FAILED), (2**60, states.FAILED)):
        site.runtime.closed_bytes = closed_bytes
        site.settings["limits"] = {"seconds": 60}
        connection = await site.online()
        os.chown(site.folder, SOMEBODY, SOMEBODY)
        for part in ("t", "t/tmp"):
            os.chown(site.folder / part, SOMEBODY, SOMEBODY)
        result_id = 12 if closed_bytes == 5 else 13
        connection.send(assignment=site.assignment(result_id=result_id, run_id=result_id, deadline=time.time() + 2))
        report = await site.server.report(end)
        assert report.reason == ("DEADLINE" if closed_bytes == 5 else "DISK_LIMIT")
        assert site.runtime.measured
        await site.stop()


def test_paths_that_are_too_long_do_not_hide_anything(tmp_path: Path) -> None:
    """A path has at most 4,096 bytes, and a tree may be deeper than that, and than any stack."""
    top = tmp_path / "top"
    top.mkdir()
    here = os.open(top, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d" * 60, dir_fd=here)
        inner = os.open("d" * 60, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    with os.fdopen(os.open("f", os.O_WRONLY | os.O_CREAT, dir_fd=here), "wb") as stream:
        stream.write(bytes(2**20))
    os.close(here)
    try:
        assert count(top).closed
        remove_tree(top)
        assert not top.exists()
    finally:  # pytest's own clean-up would break at it.
        subprocess.run(["rm", "-rf", top], check=True)


def test_removal_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "keep").mkdir()
    (tmp_path / "keep" / "f").touch()
    top = tmp_path / "top"
    (top / "a" / "b").mkdir(parents=True)
    (top / "a" / "link").symlink_to(tmp_path / "keep")
    (top / "a" / "b" / "up").symlink_to("..")
    (top / "a").chmod(0)
    remove_tree(top)
    assert not top.exists()
    assert (tmp_path / "keep" / "f").exists()


async def test_files_without_a_name_show_in_the_room_that_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs are ended one after another: what the first one held may be all that is needed."""
    monkeypatch.setattr(disk, "SECONDS", 0.01)
    left = [10 * MIB, 10 * MIB, MIB, MIB, MIB]
    monkeypatch.setattr(disk, "free", lambda _: left.pop(0) if len(left) > 1 else left[0])
    watched = Disk(tmp_path, MIB, 5 * MIB, FakeRuntime().measure)
    runs = [asyncio.create_task(watched.watch(tmp_path)) for _ in range(3)]
    async with asyncio.timeout(10):
        done, others = await asyncio.wait(runs, return_when=asyncio.FIRST_COMPLETED)
    assert len(done) == 1
    with pytest.raises(DiskLimit, match="nearly full"):
        done.pop().result()
    await asyncio.sleep(0.1)
    assert not any(each.done() for each in others)
    watched._patient_until = 0.0
    async with asyncio.timeout(10):
        await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
    for each in others:
        each.cancel()
    await asyncio.gather(*others, return_exceptions=True)


@pytest.mark.parametrize(
    ("chosen", "container", "image"),
    [("site/python:1", "", "site/python:1"), ("site/python:1", "c1", "site/python:1"), ("", "c1", "sha256:own"),
     ("", "", STANDARD)],
)  # fmt: skip
def test_which_image_the_nodes_own_containers_have(chosen: str, container: str, image: str) -> None:
    assert own_image(_Engine(), chosen, container) == image  # type: ignore[arg-type]


def test_none_is_taken_that_happens_to_be_there() -> None:
    with pytest.raises(RunRefused, match="relay_image"):
        own_image(_Engine(), "site/other:1")  # type: ignore[arg-type]


class _Engine:
    images = api = property(lambda self: self)

    def inspect_container(self, _name: str) -> dict[str, str]:
        return {"Image": "sha256:own"}

    def get(self, name: str) -> None:
        if name not in {"site/python:1", STANDARD}:
            raise ImageNotFound("no")
