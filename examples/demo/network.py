"""A whole network on one machine: folders, keys, configurations, users, nodes."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from examples.demo import data, engine
from examples.demo.processes import Services, program, python
from vantage6.client import Client, Collaboration, Organization
from vantage6.common.keys import KeyPair
from vantage6.gateway.certificates import make_certificates

RESEARCHER = "ada"
UNIVERSITY = "University"
IMAGE = "vantage6/examples/logistic-regression:dev"


@dataclass
class Network:
    """What the demo knows of the network it made, in one folder."""

    folder: Path
    runtime: str
    url: str = ""
    password: str = field(default_factory=lambda: secrets.token_urlsafe(18), repr=False)
    organizations: dict[str, Organization] = field(default_factory=dict)
    nodes: list[str] = field(default_factory=list)

    @property
    def ca_file(self) -> Path:
        return self.folder / "tls" / "ca.pem"

    @property
    def key_file(self) -> Path:
        return self._site(UNIVERSITY) / "private_key.pem"

    def client(self) -> Client:
        return Client(self.url, ca_file=self.ca_file, known_organizations=self.folder / "known_organizations.json")

    def start_centre(self, services: Services) -> None:
        """The server, which listens on this machine only, and the gateway with TLS before it."""
        logs = self.folder / "logs"
        logs.mkdir()
        server: dict[str, object] = {
            "name": "demo",
            "address": "127.0.0.1:0",
            "data_dir": str(self.folder / "server"),
            "root_password_file": str(self.folder / "root.password"),
        }
        config = self._write("server.yaml", server)
        command = [program("vserver"), "start", "--foreground", "--config", str(config)]
        port = services.start({"server": (command, r'(?=.*server_listening).*"port": (\d+)')})["server"][1]
        tls = make_certificates(self.folder / "tls")
        gateway: dict[str, object] = {
            "listen": "127.0.0.1:0",
            "servers": [f"127.0.0.1:{port}"],
            "tls": {"certificate": str(tls.certificate), "key": str(tls.key)},
        }
        config = self._write("gateway.yaml", gateway)
        command = [*python("vantage6.gateway"), "--config", str(config)]
        self.url = services.start({"gateway": (command, r"gateway ready on (https://\S+)")})["gateway"][1]

    def register(self) -> Collaboration:
        """Four organizations with a key each, an encrypted collaboration, a researcher, and a node per hospital."""
        with self.client() as root:
            root.authenticate("root", (self.folder / "root.password").read_text().strip())
            for name in (UNIVERSITY, *data.HOSPITALS):
                made = root.organization.create(name, domain=f"{data.short(name)}.example")
                keys = KeyPair.generate()
                keys.save(self._site(name) / "private_key.pem")
                self.organizations[name] = root.organization.update(made.id, public_key=keys.public.to_pem())
            members = [each.id for each in self.organizations.values()]
            study = root.collaboration.create("Breast cancer study", members, encrypted=True)
            university = self.organizations[UNIVERSITY].id
            root.user.create(
                RESEARCHER,
                f"{RESEARCHER}@university.example",
                self.password,
                organization=university,
                roles=["researcher"],
            )
            for name in data.HOSPITALS:
                node = root.node.create(study.id, self.organizations[name].id)
                _private(self._site(name) / "api.key", node.api_key)
        return study

    def start_nodes(self, services: Services) -> None:
        """One node for each hospital, which finds its own data, key and rules in its own folder."""
        files = data.write(self.folder)
        commands = {}
        for name, file in files.items():
            # The name is in the engine's labels: another demo on this machine has other ones.
            node = f"{self.folder.name}-{data.short(name)}"
            self.nodes.append(node)
            config = self._write(f"{data.short(name)}.yaml", self._node(name, node, file))
            commands[data.short(name)] = (
                [program("vnode"), "start", "--foreground", "--config", str(config)],
                "keys_checked",
            )
        services.start(commands)

    def _node(self, name: str, node: str, file: Path) -> dict[str, object]:
        site = self._site(name)
        return {
            "name": node,
            "server_url": self.url,
            "ca_file": str(self.ca_file),
            "api_key_file": str(site / "api.key"),
            "private_key": str(site / "private_key.pem"),
            "databases": {"default": {"uri": str(file), "type": "csv"}},
            "policy": {"allowed_images": [r"vantage6/examples/[a-z-]+:dev"]},
            "runtime": self.runtime,
            "runtime_options": engine.options(self.runtime),
            "directories": {each: str(site / each) for each in ("task", "log", "data")},
        }

    def hospitals(self) -> list[int]:
        return [self.organizations[name].id for name in data.HOSPITALS]

    def write_environment(self) -> Path:
        """A file for shells, with which `v6` finds server and user."""
        values = {
            "VANTAGE6_SERVER": self.url,
            "VANTAGE6_CA_FILE": self.ca_file,
            "VANTAGE6_USERNAME": RESEARCHER,
            "VANTAGE6_PASSWORD": self.password,
            "VANTAGE6_KEY": self.key_file,
            "VANTAGE6_KNOWN_ORGANIZATIONS": self.folder / "known_organizations.json",
        }
        file = self.folder / "env.sh"
        _private(file, "".join(f"export {name}='{value}'\n" for name, value in values.items()))
        return file

    def _site(self, name: str) -> Path:
        folder = self.folder / data.short(name)
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def _write(self, name: str, settings: dict[str, object]) -> Path:
        file = self.folder / name
        file.write_text(yaml.safe_dump({"application": settings}, sort_keys=False))
        return file


def _private(file: Path, text: str) -> None:
    file.touch(mode=0o600)
    file.write_text(text)
