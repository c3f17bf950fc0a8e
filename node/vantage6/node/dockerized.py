"""A node in a container: what is mounted where, and the configuration as it reads in there.

Both follow from the same file: outside, `mounts` says what to mount; inside, `as_seen_inside` says where it is. The
places are those of 1.x. Everything that is not the node's own is mounted read-only.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from docker.types import Mount

from vantage6.node.config import Directories, NodeConfig
from vantage6.node.develop import SOURCE
from vantage6.node.options import files_of, rewritten
from vantage6.node.runtimes.own_image import DEVELOPMENT, STANDARD

DEFAULT_IMAGE = STANDARD
DEVELOPMENT_IMAGE = DEVELOPMENT
CONFIG, DATA, LOG, SECRETS, DATABASES = "/mnt/config", "/mnt/data", "/mnt/log", "/mnt/secrets", "/mnt/databases"
NODE, TASKS, PROFILE = f"{DATA}/node", f"{DATA}/tasks", f"{SECRETS}/seccomp.json"
SOCKET = "/var/run/docker.sock"


def container_name(name: str, scope: str) -> str:
    """As in 1.x."""
    return f"vantage6-{name}-{scope}"


def volume_name(config: NodeConfig) -> str:
    """The node's own: journal, keys, and the files of runs."""
    return f"vantage-{config.instance}-vol"


def engine_address(config: NodeConfig) -> str:
    """Of the engine that the configuration means, else the environment."""
    return str(config.runtime_options.get("base_url") or os.environ.get("DOCKER_HOST") or f"unix://{SOCKET}")


def engine_socket(config: NodeConfig) -> str:
    """Its socket on this machine; empty for one that is reached over the network."""
    scheme, _, path = engine_address(config).partition("://")
    return path if scheme in {"unix", "http+unix"} else ""


def mounts(config: NodeConfig, file: Path, source: Path | None = None) -> list[Mount]:
    """For the engine: volumes and folders of this machine."""
    found = [
        Mount(DATA, volume_name(config), type="volume"),
        Mount(CONFIG, str(file.parent.resolve()), type="bind", read_only=True),
        Mount(LOG, str(config.log_dir), type="bind"),
        Mount(SOCKET, engine_socket(config), type="bind"),
    ]
    found += [Mount(target, str(path), type="bind") for path, target in own_folders(config)]
    if source is not None:
        found.append(Mount(str(SOURCE), str(source), type="bind", read_only=True))
    for path, target in _files(config):
        found.append(Mount(target, str(path), type="bind", read_only=True))
    return found


def own_folders(config: NodeConfig) -> list[tuple[Path, str]]:
    """Folders that the site has chosen for what the node's volume would hold."""
    places = (("data", config.data_dir, NODE), ("task", config.task_dir, TASKS))
    return [(path, target) for key, path, target in places if key in config.own_places]


def _files(config: NodeConfig) -> list[tuple[Path, str]]:
    secrets = (("ca.pem", config.ca_file), ("api_key", config.api_key_file), ("private_key.pem", config.private_key))
    found = [(path, f"{SECRETS}/{name}") for name, path in secrets if path is not None]
    found += [(path, str(_inside(number, path))) for number, path in enumerate(_logins(config).values())]
    found += [(path, PROFILE) for path in [config.hardening.profile] if path is not None]
    found += [(path, f"{SECRETS}/signatures/{number}/{path.name}") for number, path in _numbered(config)]
    for label, database in config.databases.items():
        if "://" not in database.uri:
            path = Path(database.uri)
            found.append((path.resolve(), f"{DATABASES}/{label}/{path.name}"))
    return found


def _logins(config: NodeConfig) -> dict[str, Path]:
    return files_of(config.runtime_options)


def _inside(number: int, path: Path) -> Path:
    return Path(SECRETS, "registries", str(number), path.name)


def _options_inside(config: NodeConfig) -> dict[str, Any]:
    """The engine's socket is mounted at its usual place, whatever it is outside."""
    files = {key: _inside(number, path) for number, (key, path) in enumerate(_logins(config).items())}
    return {key: value for key, value in rewritten(config.runtime_options, files).items() if key != "base_url"}


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
            "runtime_options": _options_inside(config),
            "hardening": config.hardening.model_copy(update={"seccomp": PROFILE} if config.hardening.profile else {}),
            "policy": config.policy.model_copy(
                update={"signatures": [Path(SECRETS, "signatures", str(n), path.name) for n, path in _numbered(config)]}
            ),
            "directories": Directories(task=Path(TASKS), log=Path(LOG), data=Path(NODE)),
        }
    )
    inside.tell_apart(instance)
    return inside
