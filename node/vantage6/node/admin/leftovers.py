"""What of a node lies in its engine while no run is at work: temporary volumes, and the private network."""

from __future__ import annotations

from pathlib import Path

import requests
from docker.errors import APIError, DockerException

from vantage6.node.config import NodeConfig
from vantage6.node.disk import remove_tree
from vantage6.node.doctor_runtime import engine
from vantage6.node.runtimes.docker_attendant import Attendant
from vantage6.node.runtimes.docker_paths import HostPaths
from vantage6.node.runtimes.docker_volumes import NODE, TYPE, drop_volumes, volumes_of
from vantage6.node.runtimes.private_network import network_name


class Leftovers:
    """Of one node; there are none where there is no engine."""

    def __init__(self, config: NodeConfig) -> None:
        self._node = config.instance
        image = str(config.runtime_options.get("relay_image", "")) if config.runtime == "docker" else ""
        self._attendant = Attendant(image, config.hardening.user, {TYPE: "attendant", NODE: config.instance})
        self._client = None
        self._paths = HostPaths(None)
        if config.runtime == "docker":
            try:
                self._client = engine(config.runtime_options.get("base_url"))
                self._paths = HostPaths.find(self._client)
            except (DockerException, requests.RequestException):
                return

    def volumes(self) -> dict[str, Path]:
        """Temporary volumes that no container has, and where on the engine's machine their content lies."""
        if self._client is None:
            return {}
        busy = {str(m.get("Name")) for c in self._client.api.containers(all=True) for m in c["Mounts"]}
        found = volumes_of(self._client, self._node)
        return {
            name: Path((each.attrs.get("Options") or {}).get("device", ""))
            for name, volumes in found.items()
            for each in volumes
            if each.name not in busy
        }

    def network(self) -> str:
        """The name of the private network, if it is there and nobody is on it."""
        if self._client is None:
            return ""
        label = f"{NODE}={self._node}"
        for each in self._client.networks.list(names=[network_name(self._node)], filters={"label": label}):
            each.reload()
            if not each.containers:
                return str(each.name)
        return ""

    def remove(self, name: str, content: Path, *, own: bool) -> None:
        """A volume with its content, which may be in the node's `own` folder or elsewhere on the engine's machine."""
        if own or content.name == name:
            self._remove_content(content, own=own)
        if self._client is not None:
            drop_volumes(self._client, self._node, [name])

    def _remove_content(self, content: Path, *, own: bool) -> None:
        try:
            remove_tree(content)
        except FileNotFoundError:
            return
        except PermissionError:  # What runs closed; or a folder of the engine's, where this user cannot look.
            if self._client is None:
                raise
            paths = self._paths if own else HostPaths(None, self._paths.container)
            self._attendant.empty(self._client, content, paths)
            try:
                remove_tree(content)
            except PermissionError:
                if own:
                    raise  # Elsewhere an empty folder may stay behind that this user cannot see.

    def remove_network(self) -> bool:
        name = self.network()
        if self._client is None or not name:
            return False
        try:
            self._client.api.remove_network(name)
        except APIError:
            return False  # Somebody has just come onto it.
        return True

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
