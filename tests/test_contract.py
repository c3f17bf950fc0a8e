"""The contract is complete, linted, the same as the generated code, and never broken against what was released."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

ROOT = Path(__file__).resolve().parent.parent
DESCRIPTORS = ROOT / "protos" / "gen" / "vantage6" / "api" / "v1" / "descriptors.binpb"
SERVICE, METHOD = 6, 2  # field numbers of FileDescriptorProto.service and ServiceDescriptorProto.method


def run(*command: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def buf(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return run(str(Path(sys.executable).with_name("buf")), *arguments, folder=folder)


def our_files() -> list[FileDescriptorProto]:
    return [
        file
        for file in FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()).file
        if file.package == "vantage6.api.v1"
    ]


def rpcs() -> Iterator[tuple[str, str]]:
    """Each RPC with its comment."""
    for file in our_files():
        comments = {tuple(place.path): place.leading_comments for place in file.source_code_info.location}
        for i, service in enumerate(file.service):
            for j, method in enumerate(service.method):
                yield f"{service.name}.{method.name}", comments.get((SERVICE, i, METHOD, j), "")


@pytest.fixture(scope="module")
def generated() -> str:
    """Whether the generated code is up to date; this also puts the google protos where buf looks for them."""
    done = run(sys.executable, "tools/protos.py", "--check")
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.row("D01")
def test_server_node_and_proxy_are_defined_by_contracts() -> None:
    services = {service.name for file in our_files() for service in file.service}
    nouns = {"Organization", "Collaboration", "Node", "User", "Role", "Task", "Result"}
    assert {f"{noun}Service" for noun in nouns} <= services
    assert {"DeliveryService", "AlgorithmService", "AuthService", "PayloadService", "EventService"} <= services


@pytest.mark.row("D02")
def test_delivery_is_a_bidirectional_stream() -> None:
    (connect,) = (
        method
        for file in our_files()
        for service in file.service
        if service.name == "DeliveryService"
        for method in service.method
    )
    assert connect.client_streaming
    assert connect.server_streaming


@pytest.mark.row("D01")
def test_the_generated_code_is_that_of_the_protos(generated: str) -> None:
    assert not generated


def test_every_rpc_says_who_may_call_it() -> None:
    every = dict(rpcs())
    assert len(every) > 60
    assert not [rpc for rpc, comment in every.items() if "Callers:" not in comment]


@pytest.mark.usefixtures("generated")
def test_buf_finds_no_fault() -> None:
    done = buf("lint")
    assert done.returncode == 0, done.stdout + done.stderr


def last_release() -> str:
    done = run("git", "describe", "--tags", "--match", "v[0-9]*", "--abbrev=0")
    return done.stdout.strip()


def unpacked(folder: Path, revision: str) -> Path:
    """The contract of a revision, with the google protos beside it, as a place that buf can compare with."""
    archive = folder / "contract.tar"
    run("git", "archive", "--output", str(archive), revision, "buf.yaml", "protos")
    shutil.unpack_archive(archive, folder / "old", filter="data")
    shutil.copytree(ROOT / "build" / "googleapis", folder / "old" / "build" / "googleapis")
    return folder / "old"


@pytest.mark.usefixtures("generated")
def test_nothing_is_broken_against_the_last_release(tmp_path: Path) -> None:
    # Before the first release there is nothing to break; the next test shows that the comparison works.
    if release := last_release():
        done = buf("breaking", "--against", str(unpacked(tmp_path, release)))
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.usefixtures("generated")
def test_a_broken_contract_is_noticed(tmp_path: Path) -> None:
    new = tmp_path / "new"
    for part in ("protos/vantage6", "build/googleapis"):
        shutil.copytree(ROOT / part, new / part)
    shutil.copy(ROOT / "buf.yaml", new)
    shutil.copytree(new, tmp_path / "old")
    proto = new / "protos" / "vantage6" / "api" / "v1" / "organization.proto"
    proto.write_text(proto.read_text().replace("optional string domain = 3;", "optional int32 domain = 3;"))
    done = buf("breaking", "--against", str(tmp_path / "old"), folder=new)
    assert done.returncode != 0
    assert "domain" in done.stdout
