"""Temporary volumes: what runs of one `run_id` share is a volume of the engine, over a folder of the node.

As a volume it has a name and labels, so that administrators find it (`docker volume ls --filter label=…`) and the
engine keeps it from being removed while a run uses it. Its content lies in the node's own folder: the node can count
it and remove it, and `docker volume rm` takes away a name, which the next run makes anew.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from docker.errors import APIError, NotFound
from docker.types import DriverConfig, Mount

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from docker import DockerClient
    from docker.models.volumes import Volume

    from vantage6.node.runtimes.base import Mount as RunMount

TYPE, NODE, SHARED = "vantage6-type", "vantage6-node", "vantage6-shared"
TEMPORARY = "temporary"
IN_USE = 409


def shared_volume(mount: RunMount, folder: Path, node: str) -> Mount:
    """The engine makes it when the run's container is made, unless it is there; `folder` is one of its machine."""
    # A task folder that was moved gives another name: the engine does not compare what a volume is made of.
    name = f"vantage-{node}-{mount.shared}-{zlib.crc32(str(folder).encode()):08x}-tmpvol"
    return Mount(
        mount.target, name, type="volume", read_only=mount.read_only, no_copy=True,
        labels={TYPE: TEMPORARY, NODE: node, SHARED: mount.shared},
        driver_config=DriverConfig("local", {"type": "none", "o": "bind", "device": str(folder)}),
    )  # fmt: skip


def volumes_of(client: DockerClient, node: str) -> dict[str, list[Volume]]:
    """The temporary volumes of a node, by the name under which runs share them."""
    found: dict[str, list[Volume]] = {}
    for volume in client.volumes.list(filters={"label": [f"{TYPE}={TEMPORARY}", f"{NODE}={node}"]}):
        found.setdefault(str(volume.attrs["Labels"].get(SHARED)), []).append(volume)
    return found


def drop_volumes(client: DockerClient, node: str, names: Collection[str]) -> list[str]:
    """Removes them from the engine, and says which; those that a container has stay, and folders do too."""
    gone = []
    for name, volumes in volumes_of(client, node).items() if names else ():
        for volume in volumes if name in names else ():
            try:
                volume.remove()
                gone.append(str(volume.name))
            except NotFound:
                continue
            except APIError as error:
                if error.status_code != IN_USE:
                    raise
    return gone
