"""Paths as the engine sees them, when the node is a container itself.

The engine runs on the host and binds the host's folders. What the node sees at a mount's destination lies on the host
at the mount's source; for the data volume `vantage-NODE_NAME-vol` that is the volume's own folder.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING

from docker.errors import NotFound

from vantage6.node.runtimes.base import RunRefused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from docker import DockerClient

_IN_CONTAINER = Path("/.dockerenv")


class HostPaths:
    """Turns paths of this process into paths of the engine's machine; `mounts` is None when they are the same.

    `container` is the id of the container that this process is in, empty where it is in none of this engine.
    """

    def __init__(self, mounts: Mapping[Path, Path] | None, container: str = "") -> None:
        self._mounts = mounts
        self.container = container

    @classmethod
    def find(cls, client: DockerClient) -> HostPaths:
        """Asks the engine for the mounts of the container that this process is in, if it is in one."""
        if not _IN_CONTAINER.exists():
            return cls(None)
        try:
            own = client.containers.get(socket.gethostname())
        except NotFound:
            return cls(None)  # A container of another engine: the folders must have the same names in both.
        return cls.from_mounts(own.attrs["Mounts"], str(own.id))

    @classmethod
    def from_mounts(cls, mounts: Sequence[Mapping[str, str]], container: str = "") -> HostPaths:
        """From the engine's description of a container's mounts."""
        sources = {Path(mount["Destination"]): Path(mount["Source"]) for mount in mounts if mount.get("Source")}
        return cls(sources, container)

    def on_host(self, path: Path) -> Path:
        """The same file by its name on the engine's machine."""
        if self._mounts is None:
            return path
        for parent in (path, *path.parents):  # The innermost mount is the one that is seen.
            if parent in self._mounts:
                return self._mounts[parent] / path.relative_to(parent)
        raise RunRefused(
            f"the node runs in a container, and {path.name} is in no folder that is mounted into it; "
            "keep tasks and databases in mounted folders"
        )
