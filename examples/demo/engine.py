"""Where algorithms run: in containers if a Docker engine answers, else in the sandbox."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import docker
from docker.errors import APIError, DockerException, NotFound

from vantage6.node.runtimes.docker import NODE

IMAGES = Path(__file__).resolve().parents[2] / "build" / "images"


def choose() -> tuple[str, str]:
    """The runtime's name, and why it is that one."""
    asked = os.environ.get("RUNTIME", "")
    if asked:
        return asked, f"RUNTIME={asked}"
    try:
        client = docker.from_env()
    except DockerException as error:
        return "sandbox", f"no Docker engine answers ({type(error).__name__})"
    try:
        return "docker", f"Docker {client.version()['Version']}"
    except DockerException as error:
        return "sandbox", f"no Docker engine answers ({type(error).__name__})"
    finally:
        client.close()


def options(runtime: str) -> dict[str, object]:
    """What the node is told about its runtime; the images were made on this machine."""
    return {"image_folder": str(IMAGES)} if runtime == "sandbox" else {"pull": "never"} if runtime == "docker" else {}


def remove_leftovers(runtime: str, nodes: Sequence[str]) -> None:
    """Removes what a node that was ended in the middle of a run could not: containers, networks, volumes."""
    if runtime != "docker" or not nodes:
        return
    client = docker.from_env()
    try:
        for node in nodes:
            for container in client.containers.list(all=True, filters={"label": f"{NODE}={node}"}):
                _forgiving(lambda it=container: it.remove(force=True, v=True))
            for network in client.networks.list(filters={"name": f"vantage-{node}-"}):
                _forgiving(network.remove)
            for volume in client.volumes.list(filters={"name": f"vantage-{node}-"}):
                _forgiving(lambda it=volume: it.remove(force=True))
    finally:
        client.close()


def _forgiving(remove: object) -> None:
    """What is gone already, or just going, is as good as removed."""
    assert callable(remove)  # noqa: S101
    try:
        remove()
    except (NotFound, APIError) as error:
        if not isinstance(error, NotFound) and error.status_code != 409:
            raise
