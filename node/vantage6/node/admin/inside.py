"""Commands about what a node in a container keeps in its volume: they are run in a container of their own."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import requests
from click.exceptions import Exit as Leave
from docker.errors import DockerException, ImageNotFound, NotFound

from vantage6.common import terminal
from vantage6.common.commands import Code, Stop
from vantage6.common.contexts import Context
from vantage6.node.admin.container import connected, prepared
from vantage6.node.config import INSIDE_VARIABLE, NodeConfig
from vantage6.node.dockerized import CONFIG, DEFAULT_IMAGE, container_name, engine_socket, volume_name
from vantage6.node.doctor_runtime import engine


def done_inside(context: Context, config: NodeConfig, command: Sequence[str], *options: str) -> None:
    """Returns if the node's things are on this machine; otherwise does the command inside, and ends with its code."""
    if not is_kept_inside(config):
        return
    code = do_inside(context, config, command, *options)
    if (ctx := click.get_current_context(silent=True)) is not None:
        ctx.meta[terminal.WRITTEN] = True  # What a program is to read was written inside.
    raise Leave(code)


def is_kept_inside(config: NodeConfig) -> bool:
    """Whether the node's things are in its volume, which a command must be run in a container to see."""
    if config.runtime != "docker" or os.environ.get(INSIDE_VARIABLE) or _runs_here(config):
        return False
    return Path(engine_socket(config) or "/none").exists() and _has_volume(config)


def do_inside(
    context: Context, config: NodeConfig, command: Sequence[str], *options: str, with_engine: bool = False
) -> int:
    """Does it and gives its code; `with_engine` it may use the engine as the node itself does."""
    where = ["--config", f"{CONFIG}/{context.path.name}", "--environment", context.environment, f"--{context.scope}"]
    groups = [str(Path(engine_socket(config)).stat().st_gid)] if with_engine else []
    return _run(context, config, [*command, *where, *options], groups)


def _runs_here(config: NodeConfig) -> bool:
    return (config.data_dir / "journal.sqlite").exists()


def _has_volume(config: NodeConfig) -> bool:
    try:
        client = engine(config.runtime_options.get("base_url"))
    except (DockerException, requests.RequestException):
        return False
    try:
        client.volumes.get(volume_name(config))
    except NotFound:
        return False
    finally:
        client.close()
    return True


def _run(context: Context, config: NodeConfig, command: list[str], groups: list[str]) -> int:
    with connected(config) as client:
        image = DEFAULT_IMAGE
        with contextlib.suppress(NotFound):  # It is stopped; any node of this version can read its volume.
            image = client.containers.get(container_name(config.name, context.scope)).attrs["Image"]
        try:
            made = client.containers.run(
                image, command, entrypoint=["python3", "-m", "vantage6.node.cli"], detach=True, network_mode="none",
                mounts=prepared(config, context.path), environment={INSIDE_VARIABLE: config.instance},
                user=f"{os.getuid()}:{os.getgid()}", group_add=groups, cap_drop=["ALL"], read_only=True, init=True,
                security_opt=["no-new-privileges:true"], tmpfs={"/tmp": "mode=1777"},  # noqa: S108 - its own
                labels={"vantage6-type": "admin"}, use_config_proxy=False,
            )  # fmt: skip
        except ImageNotFound as error:
            text = f"the node's things are in its volume, and image {image} to look into it is not here: make services"
            raise Stop(text, Code.ENGINE) from error
        try:
            code = int(made.wait()["StatusCode"])
            sys.stdout.write(made.logs(stdout=True, stderr=False).decode(errors="replace"))
            sys.stderr.write(made.logs(stdout=False, stderr=True).decode(errors="replace"))
        finally:
            made.remove(force=True)
    return code
