"""What runs close to a node that is not root, or put where no walk finds it: it counts all the same (X08)."""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from docker.errors import ImageNotFound

from tests.node.fake_runtime import FakeRuntime
from tests.node.site import SiteUnderTest
from vantage6.node import disk, states
from vantage6.node.disk import Disk, DiskLimit, count, remove_tree
from vantage6.node.runtimes import attendant
from vantage6.node.runtimes.base import MIB, Exit, RunRefused, RunSpec, RuntimeUnavailable
from vantage6.node.runtimes.own_image import STANDARD, own_image

from .conftest import IMAGE, Kit

if TYPE_CHECKING:
    from docker import DockerClient

pytestmark = [pytest.mark.attack("X08"), pytest.mark.row("M54")]

SOMEBODY, RUNS = 12345, 65534
FILL = """
import os, time
folder = "/mnt/tmp/mine"
os.mkdir(folder, 0o700)
for number in range(12):
    open(f"{folder}/f{number}", "wb").write(bytes(2**20))
here = os.open(folder, os.O_RDONLY)
for _ in range(200):  # A path of 12,000 bytes.
    os.mkdir("d" * 60, 0o700, dir_fd=here)
    inner = os.open("d" * 60, os.O_RDONLY, dir_fd=here)
    os.close(here)
    here = inner
os.chmod(folder, MODE)
print("filled", flush=True)
time.sleep(60)
"""


@contextmanager
def as_user(user: int) -> Iterator[None]:
    """File access of this thread as a user who is not root (to the kernel: setfsuid)."""
    libc = ctypes.CDLL(None)
    libc.setfsuid(user)
    try:
        yield
    finally:
        libc.setfsuid(0)


def unprivileged(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*given: Any) -> Any:
        with as_user(SOMEBODY):
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


def closed_by_a_list(folder: Path) -> None:
    """A POSIX access list: all to the owner, nothing to SOMEBODY. No mode of the folder says so."""
    nobody = 2**32 - 1
    entries = [(1, 7, nobody), (2, 0, SOMEBODY), (4, 0, nobody), (0x10, 7, nobody), (0x20, 0, nobody)]
    packed = b"".join(struct.pack("<HHI", *entry) for entry in entries)
    os.setxattr(folder, "system.posix_acl_access", struct.pack("<I", 2) + packed)


@pytest.fixture
def reachable(tmp_path: Path, not_root: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of SOMEBODY that other users come into, by a name of few folders."""
    os.chown(tmp_path, SOMEBODY, SOMEBODY)
    tmp_path.chmod(0o711)
    monkeypatch.chdir(tmp_path)
    return Path()


def test_its_owner_removes_what_nobody_else_can(reachable: Path) -> None:
    top = reachable / "top"
    top.mkdir()
    top.chmod(0o777)
    os.chown(top, SOMEBODY, SOMEBODY)
    with as_user(RUNS):
        (top / "list" / "in").mkdir(parents=True)
        (top / "list" / "in" / "f").touch()
        closed_by_a_list(top / "list")
        (top / "closed" / "in").mkdir(parents=True)
        (top / "closed" / "in" / "link").symlink_to("/")
        (top / "closed" / "in").chmod(0)
        (top / "closed").chmod(0)
    with pytest.raises(PermissionError):
        unprivileged(remove_tree)(top)
    with as_user(RUNS):
        attendant.Emptying().empty(str(top))
    assert list(top.iterdir()) == []
    unprivileged(remove_tree)(top)
    assert not top.exists()


def test_what_cannot_be_removed_keeps_nothing_else(reachable: Path) -> None:
    top = reachable / "top"
    (top / "a" / "b").mkdir(parents=True)
    (top / "c").mkdir(mode=0o700)
    (top / "c" / "of root").touch()
    for folder in (top, top / "a", top / "a" / "b"):
        os.chown(folder, SOMEBODY, SOMEBODY)
    with pytest.raises(PermissionError):
        unprivileged(remove_tree)(top)
    assert [each.name for each in top.iterdir()] == ["c"]


async def test_too_many_files_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one folder, too; and although all other threads of the node are at work."""
    for number in range(300):
        (tmp_path / str(number)).mkdir()
    told = attendant.Count(None, 100)
    told.walk(str(tmp_path))
    assert told.entries == 101
    monkeypatch.setattr(disk, "ENTRIES", 100)
    over = threading.Event()
    with ThreadPoolExecutor(1) as busy:
        asyncio.get_running_loop().set_default_executor(busy)
        busy.submit(over.wait)
        try:
            async with asyncio.timeout(30):
                with pytest.raises(DiskLimit, match="more than 100 files"):
                    await Disk(tmp_path, 2**40, 0, FakeRuntime().measure).watch(tmp_path)
        finally:
            over.set()


async def test_what_takes_long_to_count_is_counted_seldom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the room that is left is looked at all the same."""
    monkeypatch.setattr(disk, "SECONDS", 0.001)
    counted: list[Path] = []

    def timed(folder: Path, _enough: int) -> tuple[disk.Used, float]:
        counted.append(folder)
        return disk.Used(0), 100.0

    left = [10 * MIB] * 20 + [0]
    monkeypatch.setattr(disk, "_timed", timed)
    monkeypatch.setattr(disk, "free", lambda _: left.pop(0))
    async with asyncio.timeout(30):
        with pytest.raises(DiskLimit, match="nearly full"):
            await Disk(tmp_path, MIB, MIB, FakeRuntime().measure).watch(tmp_path)
    assert counted == [tmp_path]


def test_a_link_in_the_place_of_a_folder_leads_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is put there after the entry was read, before the folder is opened."""
    keep, top = tmp_path / "keep", tmp_path / "top"
    keep.mkdir()
    (keep / "f").write_bytes(bytes(MIB))
    for name in ("a", "b"):
        (top / name / "in").mkdir(parents=True)
    real = attendant.Folder

    class Swapped(real):  # type: ignore[misc, valid-type]
        def __init__(self, name: str, above: int | None = None, wanted: int = 0) -> None:
            if name in {"a", "b"} and not (top / name).is_symlink():
                (top / name).rename(tmp_path / f"moved-{name}")
                (top / name).symlink_to(keep)
            super().__init__(name, above, wanted)

    monkeypatch.setattr(attendant, "Folder", Swapped)
    assert count(top).bytes < MIB
    remove_tree(top)
    assert not top.exists()
    assert (keep / "f").exists()


async def test_what_a_container_may_still_write_to_stays(site: SiteUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    async def algorithm(spec: RunSpec) -> Exit:
        folder = next(Path(mount.source) for mount in spec.mounts if mount.target == "/mnt/tmp")
        (folder / "f").write_bytes(bytes(2 * MIB))
        await asyncio.Event().wait()
        return Exit(0)

    async def broken(_handle: str) -> None:
        raise RuntimeUnavailable("the engine does not answer")

    monkeypatch.setattr(disk, "SECONDS", 0.05)
    site.runtime = FakeRuntime(algorithm)
    monkeypatch.setattr(site.runtime, "remove", broken)
    site.settings["limits"] = {"temporary_bytes": MIB}
    connection = await site.online()
    connection.send(assignment=site.assignment())
    assert (await site.server.report(states.FAILED)).reason == "DISK_LIMIT"
    await site.stop()
    assert site.node
    assert [name.partition("-")[0] for name in site.node.site.workspace.temporary_folders()] == ["3"]


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
        while (report := await site.server.report(end)).result_id != result_id:
            pass  # The one before, once more: the node stopped before it was told that it had come.
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
