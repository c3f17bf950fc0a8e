"""A node that is itself in a container, beside those of its runs: the real image, its volume, the engine's socket."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from docker.types import Mount

from vantage6.node.runtimes.private_network import network_name

from .conftest import IMAGE, REPOSITORY
from .test_attacks import NEIGHBOUR

if TYPE_CHECKING:
    from collections.abc import Mapping

    from docker import DockerClient

DRIVER = """
import asyncio, json, sys
from pathlib import Path
from vantage6.node.runtimes.base import MIB, Limits, RunSpec
from vantage6.node.runtimes.registry import make_runtime
from vantage6.node.workspace import Workspace

LIMITS = Limits(memory_bytes=128 * MIB, pids=32, seconds=120, output_bytes=4 * MIB, tmp_bytes=8 * MIB, log_bytes=4096)

async def main(verb, asked):
    workspace = Workspace(Path("/mnt/data/tasks"), asked["node"], asked["options"]["isolation"])
    runtime = make_runtime("docker", {"node_name": asked["node"], "pull": "never", **asked["options"]})
    if verb == "end":
        for handle in (await runtime.recover()).values():
            await runtime.remove(handle)
    else:
        number = asked["number"]
        files = workspace.prepare(number, 1, asked["mark"].encode(), asked["mark"], {}, run_id=number)
        (files.temporary / "note").write_text(asked["mark"])
        handle = await runtime.start(RunSpec(
            key=f"{asked['node']}-{number}", image=asked["image"], run_dir=files.run_dir, limits=LIMITS,
            environment=files.environment, mounts=files.mounts, command=("-c", asked["program"]),
        ))
        if verb == "answer":
            ended = await runtime.wait(handle)
            print(json.dumps([ended.code, ended.log_tail.decode(), workspace.open_output(files, MIB).read().decode()]))
    await runtime.close()

asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
"""


class NodeInside:
    """Its `volume` is a folder of this machine, by the engine's word."""

    def __init__(self, engine: DockerClient, options: Mapping[str, object]) -> None:
        self._engine, self._options, self._number = engine, options, 0
        self.node_name = f"test-{uuid.uuid4().hex[:8]}"
        subprocess.run([sys.executable, "-m", "tools.services", "node"], check=True, cwd=REPOSITORY)
        name = f"vantage-{self.node_name}-vol"
        data = engine.volumes.create(name, labels={"vantage6-node": self.node_name})
        self.volume = Path(data.attrs["Mountpoint"])
        # As `vnode start` makes it; in place of the node's main program there is something to be attacked.
        self.box = engine.containers.run(
            "vantage6/node:dev", ["-c", NEIGHBOUR], entrypoint=["python3"], detach=True, user="0:0", read_only=True,
            cap_drop=["ALL"], cap_add=["NET_BIND_SERVICE"], security_opt=["no-new-privileges:true"],
            tmpfs={"/tmp": "mode=1777"}, labels={"vantage6-test": "1"},
            mounts=[Mount("/mnt/data", name, type="volume"),
                    Mount("/var/run/docker.sock", "/var/run/docker.sock", type="bind")],
        )  # fmt: skip

    def start(self, program: str, mark: str) -> Path:
        """Begins a run and gives the folder of its files."""
        self._do("start", program, mark)
        return self.volume / "tasks" / "runs" / f"{self._number}-1"

    def answer(self, program: str) -> Any:
        """What the program of a run writes as JSON into its output."""
        code, log, output = json.loads(self._do("answer", program, "-"))
        assert code == 0, log
        return json.loads(output)

    def close(self) -> None:
        try:
            self._do("end", "", "")
        finally:
            self.box.remove(force=True, v=True)
            self._engine.volumes.get(f"vantage-{self.node_name}-vol").remove()
        left = self._engine.containers.list(all=True, filters={"label": f"vantage6-node={self.node_name}"})
        assert left == []
        for network in self._engine.networks.list(names=[network_name(self.node_name)]):
            network.remove()

    def _do(self, verb: str, program: str, mark: str) -> str:
        self._number += verb != "end"
        asked = {"node": self.node_name, "options": self._options, "image": IMAGE, "program": program,
                 "mark": mark, "number": self._number}  # fmt: skip
        code, output = self.box.exec_run(["python3", "-c", DRIVER, verb, json.dumps(asked)], demux=True)
        said, failed = cast("tuple[bytes | None, bytes | None]", output)
        assert code == 0, failed
        return (said or b"").decode()
