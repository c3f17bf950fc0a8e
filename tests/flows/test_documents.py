"""The pages for administrators, followed word by word: every command block is run, what is shown is what comes."""

from __future__ import annotations

import ipaddress
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from docker import DockerClient

from .network import ROOT, free_port

pytestmark = [pytest.mark.engine, pytest.mark.envoy, pytest.mark.xdist_group("engine")]

DOCS = ROOT / "docs"
BIN = Path(sys.executable).parent
BLOCK = re.compile(r"^```(console|yaml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass
class Reader:
    """Somebody with a machine of their own who does what a page says."""

    home: Path
    names: dict[str, str]
    background: list[subprocess.Popen[bytes]] = field(default_factory=list)
    exports: dict[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        names = ("CONFIG_HOME", "DATA_HOME", "STATE_HOME", "CACHE_HOME", "CONFIG_DIRS", "DATA_DIRS")
        places = {f"XDG_{name}": str(self.home / name.lower()) for name in names}
        return {**os.environ, **places, "HOME": str(self.home), "PATH": f"{BIN}:{os.environ['PATH']}", **self.exports}

    def here(self, text: str) -> str:
        """What the page names, as it is called on this machine."""
        for name, own in self.names.items():
            text = text.replace(name, own)
        return text

    def follow(self, page: str) -> None:
        for kind, text in BLOCK.findall((DOCS / page).read_text()):
            if kind == "yaml":
                if name := re.match(r"# (\S+\.yaml)\n", text):
                    (self.home / name[1]).write_text(self.here(text))
                continue
            command = ""
            shown: list[str] = []
            for line in [*text.splitlines(), "$ "]:
                if line.startswith("$ "):
                    if command:
                        self._do(command, shown)
                    command, shown = line[2:], []
                else:
                    shown.append(line)

    def _do(self, command: str, shown: list[str]) -> None:
        command = self.here(command)
        if found := re.fullmatch(r"export (\w+)=(.*)", command):
            self.exports[found[1]] = found[2]
            return
        if command.endswith(" &"):
            self._start(command.removesuffix(" &"))
            return
        done = subprocess.run(["bash", "-c", command], cwd=self.home, env=self.environment(), capture_output=True,
                              text=True, check=False, timeout=300)  # fmt: skip
        said = done.stdout + done.stderr
        assert done.returncode == 0, f"$ {command}\n{said}"
        lines = {general(self.here(line)) for line in said.splitlines()}
        for line in shown:
            assert general(self.here(line)) in lines, f"$ {command}\nthe page shows\n{line}\nbut it said\n{said}"

    def _start(self, command: str) -> None:
        # As a job of its own, so that no child of a shell is left behind.
        process = subprocess.Popen([str(BIN / word) if word == "python" else word for word in command.split()],
                                   cwd=self.home, env=self.environment(), stderr=subprocess.PIPE)  # fmt: skip
        self.background.append(process)
        assert process.stderr is not None
        assert any(b"ready" in line for line in process.stderr), command

    def leave(self) -> None:
        for command in ("vnode stop --all", "vserver stop"):
            subprocess.run(["bash", "-c", command], env=self.environment(), capture_output=True, check=False)
        for process in self.background:
            process.send_signal(signal.SIGTERM)
            assert process.stderr is not None
            process.stderr.read()
            process.stderr.close()
            process.wait(30)


def general(line: str) -> str:
    """Without what differs from machine to machine: numbers, names of folders, sizes."""
    line = re.sub(r"Docker \S+, API \S+", "Docker #", line)
    line = re.sub(r"(/[\w.@-]+)+/?", "/#", line)
    line = re.sub(r"\b[0-9a-f]{4,}\b|\d+", "#", line)
    return re.sub(r"(#[-.:,T+]?)+", "#", re.sub(r"\s+", " ", line)).strip()


@pytest.fixture
def reader(docker_engine: DockerClient, tmp_path: Path) -> Iterator[Reader]:
    """The page's server.example is the bridge of the engine here, which a node in a container can reach."""
    subprocess.run([sys.executable, "-m", "tools.services", "node"], check=True, cwd=ROOT)
    subnet = docker_engine.networks.get("bridge").attrs["IPAM"]["Config"][0]["Subnet"]
    bridge = str(ipaddress.ip_network(subnet)[1])
    port, name = free_port(), f"north-{os.getpid()}"
    (tmp_path / "patients.csv").write_text("age\n40\n50\n")
    (tmp_path / "patients.csv").chmod(0o644)
    made = Reader(tmp_path, {
        "127.0.0.1:5001": f"127.0.0.1:{free_port()}", "0.0.0.0:8443": f"{bridge}:{port}",
        "https://server.example:8443": f"https://{bridge}:{port}", "server.example": bridge,
        "/data/patients.csv": str(tmp_path / "patients.csv"), "--name north": f"--name {name}", "'north'": f"'{name}'",
        "vantage6-north-user": f"vantage6-{name}-user", "north  application": f"{name}  application",
    })  # fmt: skip
    yield made
    made.leave()
    for volume in docker_engine.volumes.list(filters={"name": f"vantage-{name}-user-vol"}):
        volume.remove(force=True)


@pytest.mark.row("M53")
@pytest.mark.row("M24")
def test_from_nothing_to_a_node_that_is_online(reader: Reader) -> None:
    began = time.monotonic()
    reader.follow("install-server.md")
    keys = (reader.home / "keys.txt").read_text()
    reader.names["VANTAGE6_NODE_API_KEY=…"] = f"VANTAGE6_NODE_API_KEY={keys.split(': ')[1].strip()}"
    reader.follow("install-node.md")
    print(f"from nothing to online in {time.monotonic() - began:.1f} s")


def test_the_pages_install_what_there_is() -> None:
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    for page in ("install-server.md", "install-node.md"):
        asked = re.findall(r"pip install './vantage6\[([\w,]+)\]'", (DOCS / page).read_text())
        assert asked
        assert {one for some in asked for one in some.split(",")} <= extras
