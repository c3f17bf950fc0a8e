"""Makes the algorithm images without any network: as root file systems for the sandbox, and in a Docker engine.

Everything is taken from this machine: the interpreter that runs this script, the libraries it is linked with, and
packages as they are installed beside it, so that algorithms run with the versions that the tests ran with. Nothing is
made again that is there with the same content.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import docker
from docker.errors import DockerException, ImageNotFound
from packaging.requirements import Requirement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from docker import DockerClient

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "build" / "images"
VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
PACKAGES = ("grpcio", "protobuf", "googleapis-common-protos", "numpy", "pandas")
OURS = (
    ROOT / "protos/gen/vantage6/api",
    ROOT / "common/vantage6/common",
    ROOT / "algorithm/vantage6/algorithm",
)
EXAMPLES = ROOT / "examples" / "algorithms"
PYTHON_IMAGE = "vantage6/python:dev"
BASE_IMAGE = "vantage6/algorithm-base:dev"
STAMP = "vantage6.content"
REPLACED_SECONDS = 2 * 24 * 3600.0  # Longer than a run takes by default (limits.seconds).
ENTRYPOINT = ["python3", "-m", "vantage6.algorithm.entrypoint"]
PYTHON_ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
BASE_ENV = {  # The same as in images/algorithm.Dockerfile.
    **PYTHON_ENV,
    "PYTHONPATH": "/app:/opt/vantage6:/opt/site",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
}
UNUSED = {"site-packages", "test", "tests", "idlelib", "tkinter", "turtledemo", "lib2to3", "ensurepip", "__pycache__"}
# Wheels name these; a newer C library has them only for such old programs, so no program here leads to them.
OLD_NAMES = ("librt.so.1", "libpthread.so.0", "libdl.so.2", "libutil.so.1", "libgcc_s.so.1", "libstdc++.so.6")
RESOLVER = ("libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2")


@dataclass(frozen=True)
class Image:
    """What is written into image.json, and made in the engine."""

    name: str
    layers: tuple[tuple[Path, str], ...]  # folder, where it goes in the root file system
    entrypoint: list[str]
    command: list[str]
    env: dict[str, str]

    @property
    def digest(self) -> str:
        """Stands for the content: the names of the layers' folders hold their hashes."""
        parts = [*(f"{folder.name}>{target}" for folder, target in self.layers), *self.entrypoint, *self.command]
        return "sha256:" + hashlib.sha256(json.dumps([parts, self.env], sort_keys=True).encode()).hexdigest()


def say(text: str) -> None:
    print(text, flush=True)


def fail(text: str) -> SystemExit:
    return SystemExit(f"images: {text}")


# --- layers: folders named by their content -------------------------------------------------------------------------


def layer(kind: str, content: str, fill: Callable[[Path], None]) -> Path:
    """The folder of this kind and content, filled when it is not there; older ones of its kind are dropped."""
    stamp = hashlib.sha256((content + Path(__file__).read_text()).encode()).hexdigest()[:16]
    folder = OUTPUT / "_layers" / f"{kind}-{stamp}"
    if folder.exists():
        return folder
    started = time.monotonic()
    folder.parent.mkdir(parents=True, exist_ok=True)
    for old in folder.parent.glob(f"{kind}-*"):
        shutil.rmtree(old)
    unfinished = folder.with_name(f".{folder.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    fill(unfinished)
    compile_all(unfinished)
    unfinished.rename(folder)
    say(f"  {kind}: {size(folder) / 2**20:.0f} MiB in {time.monotonic() - started:.1f} s")
    return folder


def size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def compile_all(folder: Path) -> None:
    """Compiles all modules; a run cannot, and without it each start of Python costs 0.3 s more."""
    command = [sys.executable, "-m", "compileall", "-q", "-s", str(folder), "-p", "/"]
    subprocess.run([*command, "--invalidation-mode", "unchecked-hash", str(folder)], check=True)


def file_hash(folder: Path) -> str:
    """Of all files' names and content, caches left out."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
        digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def python_layer() -> Path:
    return layer("python", f"{sys.version} {sys.base_prefix}", fill_python)


def fill_python(root: Path) -> None:
    """Interpreter, standard library, and the libraries that they are linked with."""
    for name in (
        "usr/local/bin",
        "lib64",
        "etc/ssl/certs",
        "proc",
        "sys",
        "dev",
        "run",
        "app",
        "mnt",
        "tmp",
        "var/tmp",
    ):
        (root / name).mkdir(parents=True)
    for name in ("tmp", "var/tmp"):
        (root / name).chmod(0o1777)
    program = Path(sys.base_prefix, "bin", VERSION)
    library = Path(sys.base_prefix, "lib", VERSION)
    if not program.exists() or not (library / "os.py").exists():
        raise fail(f"{sys.base_prefix} is not laid out as expected; use --base-image with an image that has Python")
    shutil.copy2(program, root / "usr/local/bin")
    (root / "usr/local/bin/python3").symlink_to(VERSION)
    (root / "usr/local/bin/python").symlink_to(VERSION)
    unused = UNUSED | {entry.name for entry in library.glob("config-*")}
    target = root / "usr/local/lib" / VERSION
    shutil.copytree(library, target, ignore=lambda _, names: unused & set(names), symlinks=True)
    (target / "site-packages").mkdir()
    copy_libraries(root, [program, *target.glob("lib-dynload/*.so")])
    (root / "etc/passwd").write_text("root:x:0:0::/root:/\nnobody:x:65534:65534::/tmp:/\n")
    (root / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
    bundle = Path("/etc/ssl/certs/ca-certificates.crt")
    if bundle.exists():
        shutil.copy(bundle, root / "etc/ssl/certs")


def copy_libraries(root: Path, programs: list[Path]) -> None:
    """Copies what the loader would find, all into the folder of the C library, which it searches without a cache."""
    names: dict[str, Path] = {}
    for program in programs:
        listed = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False).stdout
        for name, path in re.findall(r"^\s*(\S+) => (/\S+)", listed, flags=re.MULTILINE):
            names[name] = Path(path)
        for path in re.findall(r"^\s*(/\S*ld-linux\S*|/\S*/ld\S*\.so\S*) \(", listed, flags=re.MULTILINE):
            place = root / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)
    if "libc.so.6" not in names:
        raise fail("this Python is not linked with the GNU C library; use --base-image with an image that has Python")
    folder = names["libc.so.6"].parent
    for name in (*OLD_NAMES, *RESOLVER):
        candidates = [place / name for place in (folder, Path("/usr") / str(folder).lstrip("/"))]
        names.update((name, path) for path in candidates if path.exists())
    target = root / str(folder).lstrip("/")
    target.mkdir(parents=True, exist_ok=True)
    for name, path in names.items():
        shutil.copy(path, target / name)


def distributions(
    names: Iterable[str], seen: dict[str, metadata.Distribution] | None = None
) -> list[metadata.Distribution]:
    """The installed distributions of these names and of what they need."""
    seen = {} if seen is None else seen
    for name in names:
        if name in seen:
            continue
        try:
            seen[name] = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            raise fail(f"{name} is not installed beside this Python") from None
        needed = [Requirement(text) for text in seen[name].requires or ()]
        distributions([need.name for need in needed if not need.marker or need.marker.evaluate({"extra": ""})], seen)
    return [seen[name] for name in sorted(seen)]


def site_layer(names: Iterable[str], kind: str = "site") -> Path:
    chosen = distributions(names)

    def fill(root: Path) -> None:
        for chosen_one in chosen:
            for file in chosen_one.files or ():
                if file.parts[0] == ".." or {"__pycache__", "tests"} & set(file.parts) or file.suffix == ".pyi":
                    continue
                target = root / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(str(chosen_one.locate_file(file)), target)

    return layer(kind, " ".join(f"{one.name}=={one.version}" for one in chosen), fill)


def ours_layer(packages: tuple[Path, ...] = OURS, kind: str = "vantage6") -> Path:
    def fill(root: Path) -> None:
        for package in packages:
            ignore = shutil.ignore_patterns("__pycache__", "*.pyi")
            shutil.copytree(package, root / "vantage6" / package.name, ignore=ignore)

    return layer(kind, "".join(file_hash(package) for package in packages), fill)


def example_layer(package: Path) -> Path:
    def fill(root: Path) -> None:
        shutil.copytree(package, root / package.name, ignore=shutil.ignore_patterns("__pycache__"))

    return layer(f"app.{package.name}", file_hash(package), fill)


# --- images ---------------------------------------------------------------------------------------------------------


def all_images(only_python: bool) -> Iterator[Image]:
    """The images in the order in which they build on one another."""
    python = ((python_layer(), "."),)
    yield Image(PYTHON_IMAGE, python, ["python3"], [], PYTHON_ENV)
    if only_python:
        return
    base = (*python, (site_layer(PACKAGES), "opt/site"), (ours_layer(), "opt/vantage6"))
    yield Image(BASE_IMAGE, base, ENTRYPOINT, [], BASE_ENV)
    for package in sorted(EXAMPLES.iterdir() if EXAMPLES.exists() else ()):
        if (package / "__init__.py").exists():
            name = f"vantage6/examples/{package.name.replace('_', '-')}:dev"
            yield Image(name, (*base, (example_layer(package), "app")), ENTRYPOINT, [package.name], BASE_ENV)


def make_root(image: Image) -> None:
    """Puts the layers together with hard links: one more image costs names, not bytes.

    image.json names the folder that counts, and is replaced as a whole: a run that has an older one mounted keeps it.
    """
    folder = OUTPUT / image.name.replace("/", "__")
    description, root = folder / "image.json", folder / f"rootfs-{image.digest.removeprefix('sha256:')[:16]}"
    wanted = {"entrypoint": image.entrypoint, "command": image.command, "env": image.env, "workdir": "/app",
              "user": "65534:65534", "digest": image.digest, "rootfs": root.name}  # fmt: skip
    before = json.loads(description.read_text()) if description.exists() else {}
    if before == wanted and root.exists():
        say(f"{image.name}: root file system is up to date")
    else:
        started = time.monotonic()
        if not root.exists():
            link_layers(image, root)
        new = description.with_suffix(".new")
        new.write_text(json.dumps(wanted, indent=1))
        if (replaced := folder / before.get("rootfs", "rootfs")).exists():
            os.utime(replaced)  # From now on it is kept for so long.
        new.replace(description)
        say(f"{image.name}: root file system made in {time.monotonic() - started:.1f} s")
    for old in folder.glob("rootfs*"):
        if old != root and old.stat().st_mtime < time.time() - REPLACED_SECONDS:
            shutil.rmtree(old)


def link_layers(image: Image, root: Path) -> None:
    unfinished = root.with_name(f".{root.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for source, target in image.layers:
        shutil.copytree(source, unfinished / target, symlinks=True, dirs_exist_ok=True, copy_function=os.link)
    unfinished.rename(root)


def make_in_engine(client: DockerClient, image: Image, below: str | None) -> None:
    """Imports the interpreter's layer; builds the others on the image `below` by their Dockerfile."""
    try:
        if client.images.get(image.name).labels.get(STAMP) == image.digest:
            say(f"{image.name}: image is up to date")
            return
    except ImageNotFound:
        pass
    started = time.monotonic()
    if below is None:
        import_image(client, image)
    else:
        build_image(client, image, below)
    megabytes = int(client.images.get(image.name).attrs["Size"]) / 2**20
    say(f"{image.name}: image made in {time.monotonic() - started:.1f} s, {megabytes:.0f} MiB")


def import_image(client: DockerClient, image: Image) -> None:
    repository, _, tag = image.name.rpartition(":")
    changes = [*(f"ENV {key}={value}" for key, value in image.env.items()), f"LABEL {STAMP}={image.digest}",
               f"ENTRYPOINT {json.dumps(image.entrypoint)}", "USER 65534:65534"]  # fmt: skip
    with tempfile.TemporaryFile() as stream:
        with tarfile.open(fileobj=stream, mode="w") as archive:
            archive.add(image.layers[0][0], arcname=".", filter=owned_by_root)
        stream.seek(0)
        answer = client.api.import_image_from_data(stream, repository=repository, tag=tag, changes=changes)
    if "error" in str(answer):
        raise fail(f"the engine did not import {image.name}: {answer}")


def owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


def build_image(client: DockerClient, image: Image, below: str) -> None:
    example = image.layers[-1][1] == "app"
    text = (ROOT / "images" / f"{'example' if example else 'algorithm'}.Dockerfile").read_text()
    text += f"CMD {json.dumps(image.command)}\n" if image.command else ""
    with tempfile.TemporaryFile() as stream:
        with tarfile.open(fileobj=stream, mode="w") as archive:
            for folder, target in image.layers[-1:] if example else image.layers[1:]:
                archive.add(folder, arcname=Path(target).name, filter=owned_by_root)
            with tempfile.NamedTemporaryFile("w") as dockerfile:
                dockerfile.write(text)
                dockerfile.flush()
                archive.add(dockerfile.name, arcname="Dockerfile")
        stream.seek(0)
        client.images.build(fileobj=stream, custom_context=True, tag=image.name, rm=True, network_mode="none",
                            buildargs={"BASE_IMAGE": below}, labels={STAMP: image.digest})  # fmt: skip


def engine() -> DockerClient | None:
    """A client when an engine answers; the variables DOCKER_HOST and so on say which one."""
    try:
        client = docker.from_env(timeout=300)
        client.ping()
    except DockerException:
        return None
    return client


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--docker", action="store_true", help="only in the engine, which must answer")
    parser.add_argument("--sandbox", action="store_true", help="only the root file systems")
    parser.add_argument("--only-python", action="store_true", help=f"only {PYTHON_IMAGE}, the smallest")
    parser.add_argument("--base-image", help="for the engine: an image with Python, in place of this machine's own")
    options = parser.parse_args()
    client = None if options.sandbox else engine()
    if options.docker and client is None:
        raise fail("no Docker engine answers: start one, or use --sandbox")
    if client is None:
        say("no Docker engine asked: only root file systems are made" if options.sandbox
            else "no Docker engine answers: only root file systems are made")  # fmt: skip
    OUTPUT.mkdir(parents=True, exist_ok=True)
    with (OUTPUT / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # Tests in several processes ask for the images at once.
        make_all(client, roots=not options.docker, only_python=options.only_python, base=options.base_image)


def make_all(client: DockerClient | None, *, roots: bool, only_python: bool, base: str | None) -> None:
    for image in all_images(only_python):
        if roots:
            make_root(image)
        if client is None or (base and image.name == PYTHON_IMAGE):
            continue
        below = {PYTHON_IMAGE: None, BASE_IMAGE: base or PYTHON_IMAGE}.get(image.name, BASE_IMAGE)
        make_in_engine(client, image, below)


if __name__ == "__main__":
    main()
