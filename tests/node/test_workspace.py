"""Files of runs: what is made, and what is not read back."""

from __future__ import annotations

import os
import stat
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from tests.node.output import read_output
from vantage6.common.errors import InvalidArgument
from vantage6.node.workspace import DatabaseUnreadable, OutputTooLarge, OutputUnsafe, RunFiles, Workspace

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Database:
    uri: str


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "w", "node")


@pytest.fixture
def files(workspace: Workspace) -> RunFiles:
    return workspace.prepare(5, 1, b"json.{}", "token", {}, run_id=9)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.row("M54")
def test_modes(workspace: Workspace, files: RunFiles) -> None:
    """Open to the run's user, who is nobody here; closed to other users of the machine by the folders above."""
    assert [mode(path) for path in (files.input_path, files.token_path, files.output_path)] == [0o444, 0o444, 0o666]
    assert [mode(path) for path in (files.socket_path.parent, files.temporary)] == [0o711, 0o777]
    folders = (workspace.root, files.run_dir, files.run_dir.parent, files.temporary.parent)
    assert {mode(folder) for folder in folders} == {0o700}


@pytest.mark.row("M54")
def test_a_run_is_shown_its_own_files_only(workspace: Workspace, files: RunFiles) -> None:
    other = workspace.prepare(6, 1, b"", "other", {}, run_id=9)
    shown = {mount.source for mount in files.mounts}
    assert shown.isdisjoint({mount.source for mount in other.mounts} - {files.temporary})
    assert not shown & {workspace.root, files.run_dir, files.run_dir.parent}
    writable = {mount.target for mount in files.mounts if not mount.read_only}
    assert writable == {"/mnt/data/output", "/mnt/tmp"}


def test_databases(workspace: Workspace, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("a\n")
    table.chmod(0o644)
    link = tmp_path / "link"
    link.symlink_to(table)
    files = workspace.prepare(
        1, 1, b"", "", {"my-data": Database(str(link)), "sql": Database("postgresql://db/x")}, run_id=1
    )
    assert files.environment["MY_DATA_DATABASE_URI"] == "/mnt/databases/my-data/table.csv"
    assert files.environment["SQL_DATABASE_URI"] == "postgresql://db/x"
    assert files.environment["DATABASE_URI"] == files.environment["MY_DATA_DATABASE_URI"]
    (mount,) = [mount for mount in files.mounts if mount.target.startswith("/mnt/databases")]
    assert (mount.source, mount.read_only) == (table, True)


@pytest.mark.parametrize("label", ["", "../x", "a b", "1x", "x" * 64, "PATH="])
def test_bad_labels(workspace: Workspace, label: str) -> None:
    with pytest.raises(InvalidArgument):
        workspace.prepare(1, 1, b"", "", {label: Database("postgresql://x")}, run_id=1)


def test_closed_or_missing_database(workspace: Workspace, tmp_path: Path) -> None:
    closed = tmp_path / "closed.csv"
    closed.touch(0o600)
    for path in (closed, tmp_path / "missing.csv"):
        with pytest.raises(DatabaseUnreadable) as refused:
            workspace.prepare(1, 1, b"", "", {"default": Database(str(path))}, run_id=1)
        assert str(tmp_path) not in str(refused.value)


@pytest.mark.parametrize("run_id", ["../1", "", "a/b", "."])
def test_run_id_is_no_path(workspace: Workspace, run_id: str) -> None:
    with pytest.raises(InvalidArgument):
        workspace.prepare(1, 1, b"", "", {}, run_id=run_id)


def test_long_path_for_the_socket(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / ("x" * 90), "node")
    with pytest.raises(InvalidArgument, match="too long"):
        workspace.prepare(1, 1, b"", "", {}, run_id=1)


def test_preparing_again_starts_afresh(workspace: Workspace, files: RunFiles) -> None:
    files.output_path.write_bytes(b"old")
    (files.temporary / "kept").touch()
    again = workspace.prepare(5, 1, b"new", "token", {}, run_id=9)
    assert again == files
    assert read_output(workspace, again, 10) == b""
    assert (files.temporary / "kept").exists()


def test_input_from_a_file_is_moved(workspace: Workspace, tmp_path: Path) -> None:
    spooled = tmp_path / "spooled"
    spooled.write_bytes(b"json.1")
    files = workspace.prepare(1, 1, spooled, "", {}, run_id=1)
    assert files.input_path.read_bytes() == b"json.1"
    assert not spooled.exists()


def test_output(workspace: Workspace, files: RunFiles) -> None:
    files.output_path.write_bytes(b"json.1")
    assert read_output(workspace, files, 6) == b"json.1"
    with pytest.raises(OutputTooLarge):
        read_output(workspace, files, 5)
    with workspace.open_output(files, 6) as stream:
        assert stream.read(4) == b"json"


@pytest.mark.attack
@pytest.mark.row("X08")
@pytest.mark.parametrize("kind", ["symlink", "dangling", "fifo", "hardlink", "folder", "missing", "device", "sparse"])
def test_what_is_no_plain_file_is_not_read(workspace: Workspace, files: RunFiles, tmp_path: Path, kind: str) -> None:
    """A link would send out a file of the machine; a pipe would make the node wait for ever."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    files.output_path.unlink()
    match kind:
        case "symlink":
            files.output_path.symlink_to(secret)
        case "dangling":
            files.output_path.symlink_to(tmp_path / "nothing")
        case "fifo":
            os.mkfifo(files.output_path)
        case "hardlink":
            files.output_path.hardlink_to(secret)
        case "folder":
            files.output_path.mkdir()
        case "device":
            files.output_path.symlink_to("/dev/zero")
        case "sparse":
            with files.output_path.open("wb") as stream:
                stream.truncate(1 << 40)
    started = time.monotonic()
    with pytest.raises((OutputUnsafe, OutputTooLarge)):
        read_output(workspace, files, 1000)
    assert time.monotonic() - started < 1


def test_remove(workspace: Workspace, files: RunFiles) -> None:
    assert workspace.runs() == [(5, 1)]
    workspace.remove(files)
    workspace.remove(files)
    assert workspace.runs() == []
    assert workspace.temporary_folders() == ["9"]
    workspace.remove_temporary(9)
    assert workspace.temporary_folders() == []


def test_remove_stays_inside(workspace: Workspace, files: RunFiles, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument):
        workspace.remove(replace(files, run_dir=tmp_path))
    assert tmp_path.exists()


def test_locate_touches_nothing(workspace: Workspace, files: RunFiles) -> None:
    files.output_path.write_bytes(b"x")
    assert workspace.locate(5, 1, 9) == files
    assert files.output_path.read_bytes() == b"x"
