"""A machine with a server that was set up by commands alone, and a node that `vnode start` puts into a container."""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from docker import DockerClient

from vantage6.common.commands import Code
from vantage6.gateway.certificates import make_certificates

from .machine import Machine
from .network import Process, free_port, start_gateway, write

HIDDEN = "only-the-proxy-knows.invalid"
"""A name for the gateway that nobody can resolve."""

FIXTURES = """
organizations:
  - {name: North, domain: north.example}
  - name: South
    users:
      - {username: sarah, email: sarah@south.example, password: a quite long passphrase 7, roles: researcher}
  - name: West
collaborations:
  - name: study
    participants: [North, {name: South, api-key: the-key-of-the-south-9d2f}, West]
"""


@contextmanager
def administered(home: Path) -> Iterator[Machine]:
    """With a gateway before the server."""
    port = free_port()
    made = Machine(home)
    done = made.run("vserver", "new", "--name", "central", "--root-email", "root@central.example", "--address",
                    f"127.0.0.1:{port}", "--yes")  # fmt: skip
    assert done.returncode == Code.OK, done.stderr
    started = made.run("vserver", "start")
    assert started.returncode == Code.OK, started.stderr
    made.root_password = started.stdout.split("with the password\n\n")[1].split()[0]
    (home / "fixtures.yaml").write_text(FIXTURES)
    done = made.run("vserver", "import", str(home / "fixtures.yaml"), "--json")
    assert done.returncode == Code.OK, done.stderr
    made.keys = {name.split(" - ")[0]: key for name, key in json.loads(done.stdout)["api_keys"].items()}
    assert made.node("create-private-key", str(home / "north.pem")).returncode == Code.OK
    made.keys["South"] = "the-key-of-the-south-9d2f"
    certificates = make_certificates(home / "tls")
    listen = f"127.0.0.1:{free_port()}"
    config = write(home / "gateway.yaml", {
        "listen": listen, "servers": [f"127.0.0.1:{port}"],
        "tls": {"certificate": str(certificates.certificate), "key": str(certificates.key)},
    })  # fmt: skip
    made.url, made.ca_file = f"https://{listen}", certificates.ca
    stops: list[Any] = []
    start_gateway(config, stops.append)
    yield made
    for scope in ("--user", "--system"):
        made.node("stop", "--all", scope)
    made.run("vserver", "stop")
    for stop in stops:
        stop()


@dataclass
class Boxed:
    """A node that `vnode start` is to put into a container, and the folder that its configuration is in."""

    machine: Machine
    name: str
    config: Path

    bridge: str
    port: int
    gateway: Process

    def run(self, command: str, *more: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.machine.node(command, "--config", str(self.config), *more, **environment)

    def change(self, **settings: Any) -> None:
        """What a person would with an editor."""
        document = yaml.safe_load(self.config.read_text())
        document["application"] |= settings
        self.config.write_text(yaml.safe_dump(document))


@contextmanager
def boxed_node(machine: Machine, engine: DockerClient, folder: Path) -> Iterator[Boxed]:
    """The server is on this machine, so the container reaches it by the gateway of its own bridge."""
    subnet = engine.networks.get("bridge").attrs["IPAM"]["Config"][0]["Subnet"]
    bridge = str(ipaddress.ip_network(subnet)[1])
    name = f"boxed-{os.getpid()}"
    stops: list[Any] = []
    port = free_port()
    server = json.loads(machine.run("vserver", "files", "--json").stdout)["configuration_file"]
    upstream = next(line.split(": ")[1] for line in Path(server).read_text().splitlines() if "address:" in line)
    certificates = make_certificates(folder / "tls", (bridge, "127.0.0.1", HIDDEN))
    gateway = write(folder / "gateway.yaml", {
        "listen": f"{bridge}:{port}", "servers": [upstream],
        "tls": {"certificate": str(certificates.certificate), "key": str(certificates.key)},
    })  # fmt: skip
    process = start_gateway(gateway, stops.append)
    here = Machine(machine.home, f"https://{bridge}:{port}", certificates.ca)
    made = here.new_node(name, machine.keys["North"], "--private-key", str(machine.home / "north.pem"))
    assert made.returncode == Code.OK, made.stderr
    config = folder / "elsewhere" / f"{name}.yaml"
    config.parent.mkdir()
    here.configuration(name).rename(config)
    found = Boxed(here, name, config, bridge, port, process)
    yield found
    found.run("stop")
    here.configuration(name).unlink(missing_ok=True)
    (here.configuration(name).parent / f"{name}.api_key").unlink()
    for volume in engine.volumes.list(filters={"name": f"vantage-{name}-vol"}):
        volume.remove(force=True)
    for stop in stops:
        stop()
