"""Counts and removes, in a container, what algorithms closed to a node that is not root (see attendant.py)."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING

from docker.types import Mount

from vantage6.node.runtimes import attendant
from vantage6.node.runtimes.base import MIB, RunRefused
from vantage6.node.runtimes.own_image import own_image

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from docker import DockerClient

    from vantage6.node.runtimes.docker_paths import HostPaths

SECONDS = 60
"""What takes longer than this to count is too much of it."""
EMPTYING = 600
"""What takes longer than this to remove is gone on with later."""
_FOLDER = "/mnt/tmp"


@dataclass(frozen=True)
class Attendant:
    """Of one node; `user` is the one that algorithms run as, and all that they made is its own. All calls block."""

    image: str
    user: str
    labels: Mapping[str, str]

    def count(self, client: DockerClient, folder: Path, paths: HostPaths, enough: int) -> int:
        """Bytes below the folder, more than `enough` if it cannot be told; raises RunRefused without an image."""
        return self._told(client, folder, paths, str(enough), SECONDS)

    def empty(self, client: DockerClient, folder: Path, paths: HostPaths) -> None:
        """Removes what runs made in the folder; raises RunRefused without an image, or if something stays."""
        self._told(client, folder, paths, "empty", EMPTYING)

    def _told(self, client: DockerClient, folder: Path, paths: HostPaths, task: str, seconds: int) -> int:
        image = own_image(client, self.image, paths.container)
        made = client.api.create_container(
            image, [inspect.getsource(attendant), _FOLDER, task],
            user=self.user, entrypoint=["python3", "-I", "-c"], labels=dict(self.labels), hostname="attendant",
            use_config_proxy=False,  # The SDK would hand over the site's proxy, with its password.
            healthcheck={"test": ["NONE"]}, host_config=client.api.create_host_config(
                network_mode="none", read_only=True, cap_drop=["ALL"], security_opt=["no-new-privileges:true"],
                ipc_mode="private", pids_limit=16, mem_limit=96 * MIB, memswap_limit=96 * MIB,
                restart_policy={"Name": "no"}, mounts=[Mount(_FOLDER, str(paths.on_host(folder)), type="bind")],
            ),
        )  # fmt: skip
        try:
            client.api.start(made)
            client.api.wait(made, timeout=seconds)
            said = client.api.logs(made, stdout=True, stderr=False).strip()
        finally:
            client.api.remove_container(made, force=True, v=True)
        if not said.isdigit():
            raise RunRefused("what runs closed in their temporary folder could not be counted or removed")
        return int(said)
