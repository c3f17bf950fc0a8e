"""Isolation of a Docker container: what a run may do and see. One place, to be read in one piece.

In isolation `socket` there is no network at all, so there is nothing to scan, to resolve or to route; the one way out
is the Unix socket that is mounted. A read-only mount does not keep a process from connecting to a socket in it.
Isolation `network` is the same with the network of the run's relay (private_network.py).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypedDict

from docker.types import DeviceRequest, LogConfig, Mount, Ulimit

from vantage6.node.runtimes.base import MIB
from vantage6.node.runtimes.docker_volumes import shared_volume
from vantage6.node.runtimes.hardening import UNPRIVILEGED, Hardening

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from vantage6.node.runtimes.base import Limits, RunSpec

USER = UNPRIVILEGED
NONE = "none"


class Restrictions(TypedDict):
    """Arguments of the SDK's `create_host_config`."""

    network_mode: str
    read_only: bool
    privileged: bool
    cap_drop: list[str]
    security_opt: list[str]
    ipc_mode: str
    pids_limit: int
    mem_limit: int
    memswap_limit: int
    nano_cpus: int
    shm_size: int
    tmpfs: dict[str, str]
    ulimits: list[Ulimit]
    log_config: LogConfig
    restart_policy: dict[str, str]
    group_add: list[str]
    mounts: list[Mount]
    cap_add: list[str] | None
    runtime: str | None
    device_requests: list[DeviceRequest] | None


def hardening(
    spec: RunSpec, on_host: Callable[[Path], Path], site: Hardening | None = None, network: str = NONE, node: str = ""
) -> Restrictions:
    """All restrictions of one run; `on_host` turns a path of this process into one of the engine's machine.

    With `node`, the node's name, folders that runs share are volumes of the engine.
    """
    limits, site = spec.limits, site or Hardening()
    return {
        "network_mode": network,
        "read_only": site.read_only,
        "privileged": False,
        "cap_drop": ["ALL"],
        "cap_add": list(site.capabilities) or None,
        "security_opt": site.security_options(),
        "runtime": site.oci_runtime or None,
        "device_requests": _devices(site.gpus),
        "ipc_mode": "private",
        "pids_limit": limits.pids,
        "mem_limit": limits.memory_bytes,
        "memswap_limit": limits.memory_bytes,  # The sum of both: no swap, patient data is not written there.
        "nano_cpus": math.ceil(limits.cpus * 1e9),
        "shm_size": 64 * MIB,
        "tmpfs": {"/tmp": f"rw,noexec,nosuid,nodev,mode=1777,size={limits.tmp_bytes}"},  # noqa: S108 - the run's own
        "ulimits": _ulimits(limits),
        "log_config": LogConfig(type=LogConfig.types.JSON, config={"max-size": "8m", "max-file": "2"}),
        "restart_policy": {"Name": "no"},
        "group_add": [str(group) for group in spec.groups if group != 0],
        "mounts": [
            # As mounts, not binds: a missing source is an error, not a new folder that belongs to root.
            Mount(mount.target, mount.source, type="volume", read_only=mount.read_only)
            if isinstance(mount.source, str)
            else shared_volume(mount, on_host(mount.source), node)
            if mount.shared and node
            else Mount(mount.target, str(on_host(mount.source)), type="bind", read_only=mount.read_only)
            for mount in spec.mounts
        ],
    }


def _ulimits(limits: Limits) -> list[Ulimit]:
    values = {"nofile": limits.open_files, "fsize": limits.output_bytes, "core": 0}
    return [Ulimit(name=name, soft=value, hard=value) for name, value in values.items()]


def _devices(gpus: str) -> list[DeviceRequest] | None:
    if not gpus:
        return None
    if gpus == "all" or gpus.isdigit():
        return [DeviceRequest(count=-1 if gpus == "all" else int(gpus), capabilities=[["gpu"]])]
    return [DeviceRequest(device_ids=gpus.split(","), capabilities=[["gpu"]])]
