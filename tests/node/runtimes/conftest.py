"""Runs small Python programs in each runtime, on the smallest image that `tools/images.py` makes."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import textwrap
import uuid
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from tests.node.output import read_output
from vantage6.node.runtimes.base import MIB, Limits, RunSpec
from vantage6.node.runtimes.registry import make_runtime
from vantage6.node.workspace import RunFiles, Workspace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from docker import DockerClient

    from vantage6.node.runtimes.base import Exit, Forward, Handle, Mount, Runtime

REPOSITORY = Path(__file__).parents[3]
IMAGE = "vantage6/python:dev"
LIMITS = Limits(memory_bytes=128 * MIB, pids=32, seconds=60, output_bytes=4 * MIB, tmp_bytes=8 * MIB, log_bytes=4096)


@dataclass
class Database:
    uri: str


@dataclass
class Kit:
    """One node with its runtime; `restarted` stands for a new start of the node's program."""

    kind: Literal["docker", "sandbox"]
    folder: Path
    node_name: str = field(default_factory=lambda: f"test-{uuid.uuid4().hex[:8]}")
    options: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.workspace = Workspace(self.folder / "task", self.node_name)
        self.runtime = self.make()
        self._next = 0

    def make(self) -> Runtime:
        options = {
            "node_name": self.node_name,
            "image_folder": str(REPOSITORY / "build" / "images"),
            "state_folder": str(self.folder / self.node_name),
            "pull": "never",
            "relay_image": IMAGE,
            **self.options,
        }
        return make_runtime(self.kind, options)

    async def restarted(self) -> Runtime:
        await self.runtime.close()
        self.runtime = self.make()
        return self.runtime

    def prepare(
        self, data: bytes = b"", token: str = "", databases: Mapping[str, Database] | None = None, run_id: int = 1
    ) -> RunFiles:
        self._next += 1
        return self.workspace.prepare(self._next, 1, data, token, databases or {}, run_id=run_id)

    def spec(
        self, code: str, files: RunFiles | None = None, limits: Limits = LIMITS, mounts: tuple[Mount, ...] = (),
        environment: Mapping[str, str] | None = None, forwards: tuple[Forward, ...] = (),
    ) -> RunSpec:  # fmt: skip
        files = files or self.prepare()
        return RunSpec(
            key=f"{self.node_name}-{files.run_dir.name}", image=IMAGE, run_dir=files.run_dir,
            environment={**files.environment, **(environment or {})}, mounts=(*files.mounts, *mounts), limits=limits,
            command=("-c", textwrap.dedent(code)), groups=files.groups, labels={"vantage6-result-id": "1"},
            forwards=forwards,
        )  # fmt: skip

    async def run(self, code: str, files: RunFiles | None = None, **limits: Any) -> Exit:
        """Starts the program and waits for its end."""
        handle = await self.start(code, files, **limits)
        return await self.runtime.wait(handle)

    async def start(self, code: str, files: RunFiles | None = None, **limits: Any) -> Handle:
        return await self.runtime.start(self.spec(code, files, limits=replace(LIMITS, **limits)))

    async def answer(self, code: str, files: RunFiles | None = None, **limits: Any) -> Any:
        """What the program wrote as JSON into its output."""
        files = files or self.prepare()
        ended = await self.run(code, files, **limits)
        assert ended.code == 0, ended
        return json.loads(read_output(self.workspace, files, MIB))


@pytest.fixture(scope="session")
def root_images() -> Path:
    """Unpacked images for the sandbox."""
    subprocess.run([sys.executable, REPOSITORY / "tools/images.py", "--sandbox", "--only-python"], check=True)
    return REPOSITORY / "build" / "images"


@pytest.fixture(scope="session")
def engine_images(docker_engine: DockerClient) -> DockerClient:
    """The same image in the engine."""
    subprocess.run([sys.executable, REPOSITORY / "tools/images.py", "--docker", "--only-python"], check=True)
    return docker_engine


@pytest.fixture(params=[pytest.param("docker", marks=pytest.mark.engine), "sandbox"])
async def kit(request: pytest.FixtureRequest) -> AsyncIterator[Kit]:
    """A node of its own; at the end nothing of it may be left."""
    request.getfixturevalue("engine_images" if request.param == "docker" else "root_images")
    with tempfile.TemporaryDirectory(prefix="v6-") as folder:  # Short: a socket's address has 107 bytes.
        made = Kit(request.param, Path(folder))
        yield made
        for handle in (await made.runtime.recover()).values():
            await made.runtime.remove(handle)
        assert await made.runtime.recover() == {}
        await made.runtime.close()
