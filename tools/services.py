"""Makes the images of node, server and gateway in a Docker engine, from what is installed here and without any network.

`python -m tools.services [node|server|gateway|devcon …]`; all but devcon unless some are named. Nothing is made again
that is there with the same content.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import io
import shutil
import tarfile
import time
import tomllib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from docker.errors import BuildError, ImageNotFound
from packaging.requirements import Requirement

from tools.images import (
    OUTPUT,
    PYTHON_IMAGE,
    ROOT,
    STAMP,
    all_images,
    engine,
    fail,
    file_hash,
    layer,
    make_in_engine,
    owned_by_root,
    say,
    site_layer,
)
from vantage6.common.contract import VERSION as CONTRACT_VERSION

if TYPE_CHECKING:
    from docker import DockerClient

PROJECT = "vantage6-grpc"
FLOOR = (ROOT / "protos/gen/vantage6/api", ROOT / "common/vantage6/common")
TOO_LARGE = {"numpy", "pandas", "pyarrow"}
"""What only clients and algorithms compute with."""


@dataclass(frozen=True)
class Service:
    """`extra` of the project, the package that it is, and the module that starts it."""

    name: str
    module: str
    dockerfile: str = "service"

    @property
    def image(self) -> str:
        return f"vantage6/{self.name}:dev"

    @property
    def packages(self) -> list[str]:
        return [*needed("node"), "watchfiles"] if self.name == "devcon" else needed(self.name)

    @property
    def parts(self) -> tuple[Path, ...]:
        wing = "node" if self.name == "devcon" else self.name
        return (*FLOOR, ROOT / wing / "vantage6" / wing)


SERVICES = {
    service.name: service
    for service in (
        Service("node", "vantage6.node.cli"),
        Service("server", "vantage6.server.cli"),
        Service("gateway", "vantage6.gateway.__main__"),
        Service("devcon", "vantage6.node.cli", "development"),
    )
}


def needed(extra: str) -> list[str]:
    """The names that the project asks for, with those of an extra, as pyproject.toml says."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"].get(extra, ())]
    wanted = [Requirement(text) for text in asked]
    found = {each.name for each in wanted} - TOO_LARGE
    for each in wanted:  # What is wanted by an extra of theirs, such as sqlalchemy[asyncio].
        for more in (Requirement(text) for text in metadata.requires(each.name) or () if each.extras):
            if more.marker and any(more.marker.evaluate({"extra": name}) for name in each.extras):
                found.add(more.name)
    return sorted(found)


def labels() -> dict[str, str]:
    """What an image says of itself, beside its content's digest."""
    return {
        "org.opencontainers.image.version": metadata.version(PROJECT),
        "org.opencontainers.image.licenses": "Apache-2.0",
        "vantage6.contract": CONTRACT_VERSION,
    }


def ours(service: Service) -> Path:
    """Our packages, with the words by which Python finds the version of what is installed."""
    version = metadata.version(PROJECT)

    def fill(root: Path) -> None:
        for part in service.parts:
            shutil.copytree(part, root / "vantage6" / part.name, ignore=shutil.ignore_patterns("__pycache__", "*.pyi"))
        words = root / f"{PROJECT.replace('-', '_')}-{version}.dist-info" / "METADATA"
        words.parent.mkdir()
        words.write_text(f"Metadata-Version: 2.1\nName: {PROJECT}\nVersion: {version}\n")

    return layer(f"{service.name}.vantage6", version + "".join(map(file_hash, service.parts)), fill)


def make(client: DockerClient, service: Service, base: str) -> None:
    site, own = site_layer(service.packages, f"{service.name}.site"), ours(service)
    text = (ROOT / "images" / f"{service.dockerfile}.Dockerfile").read_text()
    below = client.images.get(base).id or ""
    content = "\n".join([text, site.name, own.name, below, Path(__file__).read_text()])
    digest = "sha256:" + hashlib.sha256(content.encode()).hexdigest()
    try:
        if client.images.get(service.image).labels.get(STAMP) == digest:
            say(f"{service.image}: image is up to date")
            return
    except ImageNotFound:
        pass
    began = time.monotonic()
    with (OUTPUT / f".{service.name}.tar").open("w+b") as stream:
        context(stream, text, site, own)
        stream.seek(0)
        build(client, stream, service, base, {STAMP: digest, **labels()})
        Path(stream.name).unlink()
    megabytes = int(client.images.get(service.image).attrs["Size"]) / 2**20
    say(f"{service.image}: image made in {time.monotonic() - began:.1f} s, {megabytes:.0f} MiB")


def build(client: DockerClient, stream: io.BufferedRandom, service: Service, base: str, marks: dict[str, str]) -> None:
    title = {"org.opencontainers.image.title": f"vantage6 {service.name}"}
    try:
        client.images.build(
            fileobj=stream, custom_context=True, tag=service.image, rm=True, forcerm=True, network_mode="none",
            target=service.name, buildargs={"BASE_IMAGE": base, "PROGRAM": service.module},
            labels={**marks, **title},
        )  # fmt: skip
    except BuildError as error:
        words = "".join(str(part.get("stream", "")) for part in error.build_log if isinstance(part, dict))
        raise fail(f"{service.image}: {error.msg}\n{words[-2000:]}") from error


def context(stream: io.BufferedRandom, dockerfile: str, site: Path, own: Path) -> None:
    """The build's context."""
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.add(site, arcname="site", filter=owned_by_root)
        archive.add(own, arcname="vantage6", filter=owned_by_root)
        for name in ("data", "data/mnt", "data/mnt/data"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o1777 if name.endswith("/data") else 0o755
            archive.addfile(folder)
        member = tarfile.TarInfo("Dockerfile")
        member.size = len(dockerfile.encode())
        archive.addfile(member, io.BytesIO(dockerfile.encode()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("services", nargs="*", choices=[*SERVICES, []], help="those to make")
    parser.add_argument("--base-image", help="an image with Python, in place of this machine's own")
    options = parser.parse_args()
    client = engine()
    if client is None:
        raise fail("no Docker engine answers: start one (make engine)")
    OUTPUT.mkdir(parents=True, exist_ok=True)
    with (OUTPUT / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        base = options.base_image or PYTHON_IMAGE
        if base == PYTHON_IMAGE:
            for image in all_images(only_python=True):
                make_in_engine(client, image, None)
        for name in options.services or [name for name in SERVICES if name != "devcon"]:
            make(client, SERVICES[name], base)


if __name__ == "__main__":
    main()
