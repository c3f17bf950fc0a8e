"""A node as a container of the engine: start, find, stop, and its log."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import requests
import rich_click as click
from docker.errors import APIError, DockerException, NotFound

from vantage6.common import terminal
from vantage6.common.background import READY_VARIABLE, Started
from vantage6.common.commands import Code, Stop
from vantage6.common.contexts import Context
from vantage6.common.errors import Vantage6Error
from vantage6.node.config import API_KEY_VARIABLE, NodeConfig
from vantage6.node.dockerized import CONFIG, container_name, engine_socket, mounts, volume_name
from vantage6.node.doctor_runtime import engine
from vantage6.node.runtimes.docker_images import Credentials, ImageStore

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

STOP_SECONDS = 30


@contextmanager
def connected(config: NodeConfig) -> Iterator[DockerClient]:
    """The engine; its failures end the command with the code for them."""
    try:
        client = engine(config.runtime_options.get("base_url"))
    except (DockerException, requests.RequestException) as error:
        raise Stop("the Docker engine does not answer: start it, or use --local", Code.ENGINE) from error
    try:
        yield client
    except APIError as error:
        raise Stop(f"the Docker engine refused: {error.explanation}", Code.ENGINE) from error
    finally:
        client.close()


def running(context: Context, config: NodeConfig) -> dict[str, Any] | None:
    """The facts of the node's container if it runs; None where there is no engine, too."""
    if config.runtime != "docker" or not Path(engine_socket()).exists():
        return None
    try:
        client = engine(config.runtime_options.get("base_url"))
    except (DockerException, requests.RequestException):
        return None
    try:
        found = _find(client, context, config)
        if found is None or found.status != "running":
            return None
        environment = found.labels.get("environment", "")
        if environment != context.environment:
            return None
        return {"state": "online", "pid": found.name, "since": found.attrs["State"]["StartedAt"][:19]}
    finally:
        client.close()


def _find(client: DockerClient, context: Context, config: NodeConfig) -> Container | None:
    try:
        return client.containers.get(container_name(config.name, context.scope))
    except NotFound:
        return None


def start_container(
    context: Context, config: NodeConfig, image: str, flags: list[str], seconds: float, source: Path | None = None
) -> Started:
    """Starts the image, and returns when the node has said how its start went. `source` is for the one to develop."""
    with connected(config) as client:
        _fetch(client, config, image)
        old = _find(client, context, config)
        if old is not None:
            if old.status == "running":
                raise Stop(f"container {old.name} runs already", Code.RUNNING)
            old.remove(force=True)
        config.log_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        made = _run(client, context, config, image, flags, source)
        return _await_word(made, seconds)


def _fetch(client: DockerClient, config: NodeConfig, image: str) -> None:
    registries = cast("dict[str, Credentials]", config.runtime_options.get("registries") or {})
    told = logging.getLogger("vantage6.node.runtimes.docker_images")
    voice = _Voice()
    told.addHandler(voice)
    told.setLevel(logging.INFO)
    try:
        ImageStore(client, "newer", registries).ensure(image, lambda _part: None)
    except Vantage6Error as error:
        text = f"image {image}: {error.message}. Give another one with --image, or start without a container (--local)"
        raise Stop(text, Code.ENGINE) from error
    finally:
        told.removeHandler(voice)


class _Voice(logging.Handler):
    """Lets the person at the terminal hear which way it was decided, and why (M25)."""

    def emit(self, record: logging.LogRecord) -> None:
        terminal.say(record.getMessage())


def _run(
    client: DockerClient, context: Context, config: NodeConfig, image: str, flags: list[str], source: Path | None
) -> Container:
    labels = {
        "vantage6-type": "node", "name": config.name, "system": str(context.scope == "system"),
        "environment": context.environment, "vantage6-node-volume": volume_name(config),
    }  # fmt: skip
    command = [
        "start", "--config", f"{CONFIG}/{context.path.name}", "--environment", context.environment,
        f"--{context.scope}", "--foreground", "--dockerized", config.instance, *flags,
    ]  # fmt: skip
    environment = {READY_VARIABLE: "1"}  # Its first word comes on standard output, its log on standard error.
    if key := os.environ.get(API_KEY_VARIABLE):
        environment[API_KEY_VARIABLE] = key
    return client.containers.run(
        image, command, detach=True, name=container_name(config.name, context.scope), labels=labels,
        mounts=mounts(config, context.path, source), environment=environment, user=f"{os.getuid()}:{os.getgid()}",
        group_add=[str(Path(engine_socket()).stat().st_gid)], cap_drop=["ALL"], read_only=True,
        security_opt=["no-new-privileges:true"], tmpfs={"/tmp": "mode=1777"}, init=True,  # noqa: S108 - its own
    )  # fmt: skip


def _await_word(made: Container, seconds: float) -> Started:
    said: list[bytes] = []

    def listen() -> None:
        for line in made.logs(stream=True, follow=True, stdout=True, stderr=False):
            said.append(line)
            if b"}" in line:
                return

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    listener.join(seconds)
    if listener.is_alive():
        return Started(ok=False, facts={}, pid=1)
    try:
        facts = json.loads(b"".join(said))
    except ValueError:
        facts = {}
    if facts.get("ok"):
        return Started(ok=True, facts=facts, pid=1)
    words = made.logs(tail=5).decode(errors="replace").strip()
    made.remove(force=True)
    return Started(ok=False, facts={"message": words, **facts})


def stop_container(context: Context, config: NodeConfig) -> bool:
    """Ends the node gracefully; False if it is not there. Its volume stays, so the next start goes on."""
    if running(context, config) is None:
        return False
    with connected(config) as client:
        found = _find(client, context, config)
        if found is None:
            return False
        found.stop(timeout=STOP_SECONDS)
        found.remove(force=True)
    return True


def follow_container(context: Context, config: NodeConfig) -> None:
    """Its log, until it ends or Ctrl-C."""
    with connected(config) as client:
        found = _find(client, context, config)
        if found is None:
            return
        rest = b""
        for chunk in found.logs(stream=True, follow=True, tail=100):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                click.echo(terminal.harmless(line.decode(errors="replace")))
