"""A whole network of real parts, each in a process of its own: server, Envoy gateway, nodes with their runtime."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from vantage6.client import Client
from vantage6.gateway.certificates import make_certificates

ROOT = Path(__file__).resolve().parents[2]
PYTHON = sys.executable
IMAGES = ROOT / "build" / "images"
START_SECONDS = 90
Data = Path | dict[str, Path]
"""A site's data file, or several by label."""
PASSWORD = "correct horse battery staple 7"


class Process:
    """A process whose output goes to a file; `wait_for` returns as soon as a line says what was waited for."""

    def __init__(self, name: str, arguments: list[str], folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._lines = threading.Condition()
        self._seen: list[str] = []
        self._file = self.log.open("ab")
        self.process = subprocess.Popen(
            arguments, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._file.write(line)
            self._file.flush()
            with self._lines:
                self._seen.append(line.decode(errors="replace"))
                self._lines.notify_all()
        self.process.stdout.close()
        with self._lines:
            self._seen.append("<ended>")
            self._lines.notify_all()

    def wait_for(self, text: str) -> str:
        def found() -> str | None:
            return next((line for line in self._seen if text in line or line == "<ended>"), None)

        with self._lines:
            line = self._lines.wait_for(found, START_SECONDS)
        if line is None or line == "<ended>":
            raise AssertionError(f"{self.name} never said {text!r}:\n{self.log.read_text()[-4000:]}")
        return line

    def kill(self) -> None:
        """Without a chance to tidy up."""
        self.process.kill()
        self._finish()

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self._finish()

    def _finish(self) -> int:
        code = self.process.wait(60)
        self._reader.join(10)
        self._file.close()
        return code


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Site:
    name: str
    organization_id: int
    config: Path
    node: Process
    key: Path


@dataclass
class Network:
    folder: Path
    url: str
    ca_file: Path
    root: Client
    client: Client
    """A researcher of the first organization, with encryption set up where the collaboration wants it."""
    collaboration_id: int
    runtime: str
    server: Process
    gateway: Process
    server_config: Path
    gateway_config: Path
    addresses: list[str]
    """Of the server and its other replicas."""
    others: list[Process]
    sites: list[Site] = field(default_factory=list)

    def rest(self, token: str | None = None) -> httpx.Client:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        context = ssl.create_default_context(cafile=str(self.ca_file))
        return httpx.Client(base_url=self.url, headers=headers, verify=context, timeout=60)

    def log_in_rest(self, username: str = "researcher", password: str = PASSWORD) -> dict[str, Any]:
        with self.rest() as web:
            answer = web.post("/api/token/user", json={"username": username, "password": password})
        answer.raise_for_status()
        tokens: dict[str, Any] = answer.json()
        return tokens

    def new_client(self) -> Client:
        return Client(self.url, ca_file=self.ca_file, known_organizations=self.folder / "known-by-client.json")


@contextmanager
def running(
    folder: Path,
    runtime: str,
    sites: Sequence[Data],
    *,
    encrypted: bool = True,
    node_settings: dict[str, Any] | None = None,
    database: str = "",
    replicas: int = 1,
) -> Iterator[Network]:
    """A network with one site for each data file; everything is gone afterwards.

    `database`: URL of a PostgreSQL database, which more than one replica of the server needs.
    """
    with ExitStack() as stack:
        port = free_port()
        server_config = write(folder / "server.yaml", {
            "address": f"127.0.0.1:{port}", "root_password_file": "root-password", "heartbeat_seconds": 1,
            "uri": database,
        })  # fmt: skip
        server = start_server(server_config, stack.callback)
        others = [start_replica(server_config, number, stack.callback) for number in range(2, replicas + 1)]
        addresses = [f"127.0.0.1:{port}", *(address for address, _ in others)]
        certificates = make_certificates(folder / "certificates")
        listen = f"127.0.0.1:{free_port()}"
        gateway_config = write(folder / "gateway.yaml", {
            "listen": listen, "servers": addresses,
            "tls": {"certificate": str(certificates.certificate), "key": str(certificates.key)},
        })  # fmt: skip
        gateway = start_gateway(gateway_config, stack.callback)
        url = f"https://{listen}"
        root = Client(url, ca_file=certificates.ca, known_organizations=folder / "known-by-root.json")
        stack.callback(root.close)
        root.authenticate("root", (folder / "root-password").read_text().strip())
        organizations = [root.organization.create(f"hospital {i}") for i in range(1, len(sites) + 1)]
        collaboration = root.collaboration.create("study", [o.id for o in organizations], encrypted=encrypted)
        root.user.create(
            "researcher",
            "researcher@hospital.example",
            PASSWORD,
            roles=["researcher"],
            organization=organizations[0].id,
        )
        client = Client(url, ca_file=certificates.ca, known_organizations=folder / "known-by-client.json")
        stack.callback(client.close)
        network = Network(
            folder, url, certificates.ca, root, client, collaboration.id, runtime, server, gateway, server_config,
            gateway_config, addresses, [process for _, process in others],
        )  # fmt: skip
        for organization, data in zip(organizations, sites, strict=True):
            site = make_site(network, organization.id, data, node_settings or {})
            network.sites.append(site)
            stack.callback(lambda site=site: site.node.stop())  # type: ignore[misc]
        for site in network.sites:
            site.node.wait_for("online")
        client.authenticate("researcher", PASSWORD)
        if encrypted:
            client.setup_encryption(network.sites[0].key)
        # Registered last, so called first: servers that a test started anew stop before the nodes do.
        for _, process in others:
            stack.callback(process.stop)
        stack.callback(lambda: (network.gateway.stop(), network.server.stop()))
        yield network


def start_server(config: Path, cleanup: Callable[..., object], name: str = "server") -> Process:
    process = Process(
        name, [PYTHON, "-m", "vantage6.server.cli", "start", "--foreground", "--config", str(config)], config.parent
    )
    cleanup(process.stop)
    process.wait_for("server_listening")
    return process


def start_replica(first: Path, number: int, cleanup: Callable[..., object]) -> tuple[str, Process]:
    """Another process on the same database, with the same secret and the same folder for payloads."""
    settings = json.loads(first.read_text())["application"]
    settings["address"] = f"127.0.0.1:{free_port()}"
    config = write(first.with_name(f"server-{number}.yaml"), settings)
    return settings["address"], start_server(config, cleanup, f"server-{number}")


def start_gateway(config: Path, cleanup: Callable[..., object]) -> Process:
    process = Process("gateway", [PYTHON, "-m", "vantage6.gateway", "--config", str(config)], config.parent)
    cleanup(process.stop)
    process.wait_for("gateway ready")
    return process


def make_site(network: Network, organization_id: int, data: Data, settings: dict[str, Any]) -> Site:
    # Short: the address of a Unix socket has at most 107 bytes.
    name = f"{network.runtime[0]}{os.getpid()}-{organization_id}"
    folder = network.folder / name
    folder.mkdir()
    api_key = network.root.node.create(network.collaboration_id, organization_id, name).api_key
    assert api_key
    (folder / "api-key").write_text(api_key)
    (folder / "api-key").chmod(0o600)
    key = folder / "private_key.pem"
    config = write(folder / "node.yaml", {
        "name": name, "server_url": network.url, "ca_file": str(network.ca_file),
        "api_key_file": str(folder / "api-key"),
        "private_key": str(key), "runtime": network.runtime,
        "runtime_options": {"image_folder": str(IMAGES)} if network.runtime == "sandbox" else {},
        "databases": {label: {"uri": str(path), "type": "csv"} for label, path in labelled(data).items()},
        "policy": {"allowed_images": [r"vantage6/examples/.*"]},
        "directories": {"task": str(folder / "tasks"), "log": str(folder / "log"), "data": str(folder / "data")},
        **settings,
    })  # fmt: skip
    Client(network.url, ca_file=network.ca_file).create_private_key(key)
    return Site(name, organization_id, config, start_node(config), key)


def labelled(data: Data) -> dict[str, Path]:
    return data if isinstance(data, dict) else {"default": data}


def start_node(config: Path) -> Process:
    return Process(
        "node", [PYTHON, "-m", "vantage6.node.cli", "start", "--foreground", "--config", str(config)], config.parent
    )


def write(path: Path, settings: dict[str, Any]) -> Path:
    # JSON is YAML.
    path.write_text(json.dumps({"application": settings}, indent=2))
    return path
