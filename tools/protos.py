"""Makes the Python code and the descriptor set from protos/; with --check, only says whether they are up to date."""

from __future__ import annotations

import contextlib
import filecmp
import os
import shutil
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from google.api import annotations_pb2
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "protos"
GENERATED = SOURCES / "gen"
PACKAGE = Path("vantage6/api/v1")


def google_protos() -> Path:
    """Folder that holds google/api/*.proto: the installed package googleapis-common-protos."""
    return Path(annotations_pb2.__file__).parent.parent.parent


def generate(target: Path) -> None:
    protos = sorted(str(path.relative_to(SOURCES)) for path in (SOURCES / PACKAGE).glob("*.proto"))
    well_known = Path(str(files("grpc_tools"))) / "_proto"
    # The plugins stand beside the interpreter, whether or not its environment is activated.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    common = ["protoc", f"-I{SOURCES}", f"-I{google_protos()}", f"-I{well_known}"]
    target.mkdir(parents=True, exist_ok=True)
    run(
        [
            *common,
            f"--python_out={target}",
            f"--grpc_python_out={target}",
            f"--mypy_out={target}",
            f"--mypy_grpc_out={target}",
            *protos,
        ]
    )
    package = target / PACKAGE
    # The transcoder renders error details only if their messages are in the set (docs/gateway.md).
    details = ["google/rpc/status.proto", "google/rpc/error_details.proto"]
    run(
        [
            *common,
            "--include_imports",
            "--include_source_info",
            f"--descriptor_set_out={package / 'descriptors.binpb'}",
            *protos,
            *details,
        ]
    )
    for folder in (package, package.parent):
        (folder / "__init__.py").write_text("")
    (package.parent / "py.typed").write_text("")


def run(arguments: list[str]) -> None:
    if protoc.main(arguments) != 0:
        sys.exit("protoc failed: its message is above")


def link_google_protos_for_buf() -> None:
    """buf has no network and looks for imports inside the workspace only.

    What is there already and right stays untouched: another process may be reading it.
    """
    target = ROOT / "build" / "googleapis"
    target.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        fresh = Path(folder) / "googleapis"
        for name in ("api", "rpc", "type"):
            source = google_protos() / "google" / name
            shutil.copytree(source, fresh / "google" / name, ignore=shutil.ignore_patterns("*.py*"))
        if not differences(fresh, target):
            return
        shutil.rmtree(target, ignore_errors=True)
        # Whoever came first has put the same there.
        with contextlib.suppress(OSError):
            fresh.rename(target)


def differences(fresh: Path, stored: Path) -> list[str]:
    names = {
        p.relative_to(root)
        for root in (fresh, stored)
        for p in root.rglob("*")
        if p.is_file() and "__pycache__" not in p.parts
    }
    return sorted(str(name) for name in names if not same(fresh / name, stored / name))


def same(one: Path, other: Path) -> bool:
    return one.is_file() and other.is_file() and filecmp.cmp(one, other, shallow=False)


def main() -> None:
    link_google_protos_for_buf()
    if "--check" not in sys.argv:
        shutil.rmtree(GENERATED, ignore_errors=True)
        generate(GENERATED)
        print(f"made {GENERATED.relative_to(ROOT)}")
        return
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        if stale := differences(Path(folder), GENERATED):
            sys.exit("generated code differs from protos/, run `make protos`: " + ", ".join(stale))
    print("generated code is up to date")


if __name__ == "__main__":
    main()
