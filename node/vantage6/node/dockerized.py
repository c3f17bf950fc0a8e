"""A node in a container: what is mounted where, and the configuration as it reads in there.

Both follow from the same file: outside, `mounts` says what to mount; inside, `as_seen_inside` says where it is. The
places are those of 1.x. Everything that is not the node's own is mounted read-only.
"""

from __future__ import annotations

import os
from pathlib import Path

from docker.types import Mount

from vantage6.node.config import Directories, NodeConfig
from vantage6.node.develop import SOURCE

DEFAULT_IMAGE = "vantage6/node:dev"
DEVELOPMENT_IMAGE = "vantage6/devcon:dev"
CONFIG, DATA, LOG, SECRETS, DATABASES = "/mnt/config", "/mnt/data", "/mnt/log", "/mnt/secrets", "/mnt/databases"
SOCKET = "/var/run/docker.sock"


def container_name(name: str, scope: str) -> str:
    """As in 1.x."""
    return f"vantage6-{name}-{scope}"


def volume_name(config: NodeConfig) -> str:
    """The node's own: journal, keys, and the files of runs."""
    return f"vantage-{config.instance}-vol"


def engine_socket() -> str:
    """Of the engine that this process uses."""
    return os.environ.get("DOCKER_HOST", f"unix://{SOCKET}").removeprefix("unix://")


def mounts(config: NodeConfig, file: Path, source: Path | None = None) -> list[Mount]:
    """For the engine: volumes and folders of this machine."""
    found = [
        Mount(DATA, volume_name(config), type="volume"),
        Mount(CONFIG, str(file.parent.resolve()), type="bind", read_only=True),
        Mount(LOG, str(config.log_dir), type="bind"),
        Mount(SOCKET, engine_socket(), type="bind"),
    ]
    if source is not None:
        found.append(Mount(str(SOURCE), str(source), type="bind", read_only=True))
    for path, target in _files(config):
        found.append(Mount(target, str(path), type="bind", read_only=True))
    return found


def _files(config: NodeConfig) -> list[tuple[Path, str]]:
    secrets = (("ca.pem", config.ca_file), ("api_key", config.api_key_file), ("private_key.pem", config.private_key))
    found = [(path, f"{SECRETS}/{name}") for name, path in secrets if path is not None]
    found += [(path, f"{SECRETS}/signatures/{number}/{path.name}") for number, path in _numbered(config)]
    for label, database in config.databases.items():
        if "://" not in database.uri:
            path = Path(database.uri)
            found.append((path.resolve(), f"{DATABASES}/{label}/{path.name}"))
    return found


def _numbered(config: NodeConfig) -> list[tuple[int, Path]]:
    """Keys that images are signed with; several may have the same name."""
    return list(enumerate(config.policy.signatures))


def as_seen_inside(config: NodeConfig, instance: str) -> NodeConfig:
    """The settings of a node that finds itself in the container that `mounts` made."""
    databases = {
        label: each if "://" in each.uri else each.model_copy(
            update={"uri": f"{DATABASES}/{label}/{Path(each.uri).name}"}
        )
        for label, each in config.databases.items()
    }  # fmt: skip
    inside = config.model_copy(
        update={
            "ca_file": Path(SECRETS, "ca.pem") if config.ca_file else None,
            "api_key_file": Path(SECRETS, "api_key") if config.api_key_file else None,
            "private_key": Path(SECRETS, "private_key.pem") if config.private_key else None,
            "databases": databases,
            "policy": config.policy.model_copy(
                update={"signatures": [Path(SECRETS, "signatures", str(n), path.name) for n, path in _numbered(config)]}
            ),
            "directories": Directories(task=Path(DATA, "tasks"), log=Path(LOG), data=Path(DATA, "node")),
        }
    )
    inside.tell_apart(instance)
    return inside
