"""A node as a container of the engine: start, find, stop, and its log."""

from __future__ import annotations

import io
import json
import logging
import os
import tarfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
import rich_click as click
from docker.errors import APIError, DockerException, NotFound
from docker.types import Mount

from vantage6.common import terminal
from vantage6.common.background import READY_VARIABLE, Started
from vantage6.common.commands import Code, Stop
from vantage6.common.contexts import Context
from vantage6.common.errors import Vantage6Error
from vantage6.common.proxies import VARIABLES as PROXY_VARIABLES
from vantage6.node.admin.way import Way
from vantage6.node.config import API_KEY_VARIABLE, NodeConfig
from vantage6.node.dockerized import (
    CONFIG,
    NODE,
    container_name,
    engine_address,
    engine_socket,
    mounts,
    own_folders,
    volume_name,
)
from vantage6.node.doctor_runtime import engine
from vantage6.node.options import logins, registries, variable_of
from vantage6.node.runtimes.docker_images import ImageStore

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

STOP_SECONDS = 30
LAST_LINES = 8
WAY = "vantage6-start"


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
    if config.runtime != "docker":
        return None
    found = looked_up(config, container_name(config.name, context.scope))
    return found if found is not None and found["environment"] == context.environment else None


def looked_up(config: NodeConfig, name: str) -> dict[str, Any] | None:
    """The same by the container's name."""
    socket = engine_socket(config)
    if not socket or not Path(socket).exists():
        return None
    try:
        client = engine(config.runtime_options.get("base_url"))
    except (DockerException, requests.RequestException):
        return None
    try:
        found = _named(client, name)
        return _facts(found) if found is not None and found.status == "running" else None
    finally:
        client.close()


def _facts(found: Container) -> dict[str, Any]:
    """`state` is what the node itself says of its line to the server: that a container runs says nothing of it."""
    own = _own_words(found)
    return {
        "state": "online" if own.get("state") == "online" else "connecting",
        "pid": found.name,
        "since": found.attrs["State"]["StartedAt"][:19],
        "environment": found.labels.get("environment", ""),
        "way": found.labels.get(WAY, ""),
    }


def _own_words(found: Container) -> Mapping[str, Any]:
    """What the node in the container has written for those who look (see `background.Seat`)."""
    try:
        pieces, _ = found.get_archive(f"{NODE}/lock")
        with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as archive:
            member = archive.next()
            file = archive.extractfile(member) if member is not None else None
            words = json.loads(file.read()) if file is not None else {}
    except (APIError, tarfile.TarError, ValueError, KeyError):
        return {}  # It has not come so far.
    return words if isinstance(words, dict) else {}


def _named(client: DockerClient, name: str) -> Container | None:
    try:
        return client.containers.get(name)
    except NotFound:
        return None


def _find(client: DockerClient, context: Context, config: NodeConfig) -> Container | None:
    return _named(client, container_name(config.name, context.scope))


def fetch(config: NodeConfig, image: str) -> None:
    """Makes sure of the image, before anything else is touched."""
    if not engine_socket(config):
        raise Stop(
            f"the engine is at {engine_address(config)}: a node in a container shares the engine's socket and this "
            "machine's folders with it, which goes with an engine on this machine only (DOCKER_HOST=unix:///…). "
            "Start the node on the engine's machine, or with --local",
            Code.ENGINE,
        )
    with connected(config) as client:
        _ensure(client, config, image)


def start_container(context: Context, config: NodeConfig, way: Way, seconds: float) -> Started:
    """Starts the image, which was fetched, and returns when the node has said how its start went."""
    with connected(config) as client:
        old = _find(client, context, config)
        if old is not None:
            if old.status == "running":
                raise Stop(f"container {old.name} runs already", Code.RUNNING)
            old.remove(force=True)
        made = _run(client, context, config, way)
        return _await_word(made, seconds)


def prepared(config: NodeConfig, file: Path, source: Path | None = None) -> list[Mount]:
    """What is to be mounted; folders that the engine would make as root are made here."""
    for folder in (config.log_dir, *(path for path, _ in own_folders(config))):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return mounts(config, file, source)


def _ensure(client: DockerClient, config: NodeConfig, image: str) -> None:
    told = logging.getLogger("vantage6.node.runtimes.docker_images")
    voice = _Voice()
    told.addHandler(voice)
    told.setLevel(logging.INFO)
    try:
        ImageStore(client, "newer", logins(config)).ensure(image, lambda _part: None)
    except Vantage6Error as error:
        text = f"image {image}: {error.message}. Give another one with --image, or start without a container (--local)"
        raise Stop(text, Code.ENGINE) from error
    finally:
        told.removeHandler(voice)


class _Voice(logging.Handler):
    """Lets the person at the terminal hear which way it was decided, and why (M25)."""

    def emit(self, record: logging.LogRecord) -> None:
        terminal.say(record.getMessage())


def given_inside(config: NodeConfig) -> dict[str, str]:
    """What of this environment the node is to have: its secrets, and the way to the server."""
    names = (API_KEY_VARIABLE, *PROXY_VARIABLES, *map(variable_of, registries(config)))
    return {name: value for name in names if (value := os.environ.get(name))}


def _run(client: DockerClient, context: Context, config: NodeConfig, way: Way) -> Container:
    labels = {
        "vantage6-type": "node", "name": config.name, "system": str(context.scope == "system"),
        "environment": context.environment, "vantage6-node-volume": volume_name(config), WAY: way.kept(),
    }  # fmt: skip
    command = [
        "start", "--config", f"{CONFIG}/{context.path.name}", "--environment", context.environment,
        f"--{context.scope}", "--foreground", "--dockerized", config.instance, *way.flags,
    ]  # fmt: skip
    # Its first word comes on standard output, its log on standard error.
    environment = {READY_VARIABLE: "1", **given_inside(config)}
    return client.containers.run(
        way.from_image, command, detach=True, name=container_name(config.name, context.scope), labels=labels,
        mounts=prepared(config, context.path, way.source), environment=environment, cap_drop=["ALL"], read_only=True,
        user=f"{os.getuid()}:{os.getgid()}", group_add=[str(Path(engine_socket(config)).stat().st_gid)],
        security_opt=["no-new-privileges:true"], tmpfs={"/tmp": "mode=1777"}, init=True,  # noqa: S108 - its own
        use_config_proxy=False,  # The way to the server is in `given_inside` or in the node's settings, nowhere else.
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
        return Started(ok=False, facts={"message": _last_words(made)}, pid=1)
    try:
        facts = json.loads(b"".join(said))
    except ValueError:
        facts = {}
    if facts.get("ok"):
        return Started(ok=True, facts=facts, pid=1)
    words = _last_words(made)
    made.remove(force=True)
    return Started(ok=False, facts={"message": words, **facts})


def _last_words(made: Container) -> str:
    return bytes(made.logs(tail=LAST_LINES)).decode(errors="replace").strip()


def stop_container(context: Context, config: NodeConfig) -> bool:
    """Ends the node gracefully; False if it is not there. Its volume stays, so the next start goes on."""
    if running(context, config) is None:
        return False
    with connected(config) as client:
        return _ended(_find(client, context, config))


def stop_named(config: NodeConfig, name: str) -> bool:
    """Ends a node's container of which nothing is known but the name."""
    if looked_up(config, name) is None:
        return False
    with connected(config) as client:
        return _ended(_named(client, name))


def _ended(found: Container | None) -> bool:
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
