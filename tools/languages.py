"""Makes the images of the examples in JavaScript and R, as images.py makes those in Python: from what this machine has.

Where Node.js or R is missing, their images are left out and this says so.
"""

from __future__ import annotations

import argparse
import fcntl
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.images import (
    EXAMPLES,
    OUTPUT,
    ROOT,
    Image,
    copy_libraries,
    engine,
    file_hash,
    layer,
    make_in_engine,
    make_root,
    say,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

JAVASCRIPT_IMAGE, R_IMAGE = "vantage6/javascript:dev", "vantage6/r:dev"
JAVASCRIPT = EXAMPLES / "average-js"
R = EXAMPLES / "average-r"
CONTRACT = ROOT / "protos/gen/vantage6/api/v1/descriptors.binpb"
R_HOME = Path("/usr/lib/R")
R_PACKAGES = ("jsonlite", "curl")
R_SITE = R_HOME / "site-library"
R_ENV = {
    "PATH": "/bin",
    "R_DEFAULT_PACKAGES": "methods,stats,utils",
    "LANG": "C.UTF-8",
    "TZ": "UTC",
}
# What R itself calls when it starts; its front end is a shell script.
R_TOOLS = ("sh", "bash", "which", "uname", "rm", "sed", "expr", "grep", "Rscript")
# Drawing on a screen, and documentation.
R_UNUSED = {
    "help",
    "html",
    "doc",
    "demo",
    "tests",
    "include",
    "tcltk",
    "cairo.so",
    "R_X11.so",
    "R_de.so",
    "po",
    "libtool",
}


def skeleton(root: Path) -> None:
    """Folders and users that every image has."""
    for name in ("proc", "sys", "dev", "run", "app", "mnt", "etc", "tmp", "var/tmp", "lib64"):
        (root / name).mkdir(parents=True)
    for name in ("tmp", "var/tmp"):
        (root / name).chmod(0o1777)
    (root / "etc/passwd").write_text("root:x:0:0::/root:/\nnobody:x:65534:65534::/tmp:/\n")
    (root / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")


def said_by(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def own(kind: str, content: str, fill: Callable[[Path], None]) -> Path:
    """A layer that is made anew when this file changes, too."""
    return layer(kind, content + Path(__file__).read_text(), fill)


def javascript_base() -> Image | None:
    node = shutil.which("node")
    if node is None:
        return None

    def fill(root: Path) -> None:
        skeleton(root)
        program = root / "usr/bin/node"
        program.parent.mkdir(parents=True)
        shutil.copy2(Path(node).resolve(), program)
        copy_libraries(root, [program])

    base = own("javascript", said_by(node, "--version"), fill)
    return Image(JAVASCRIPT_IMAGE, ((base, "."),), ["node"], [], {"PATH": "/usr/bin"})


def javascript_example(base: Image) -> Image | None:
    packages = JAVASCRIPT / "node_modules"
    if not packages.is_dir():
        say("average-js: its packages are not there (make javascript): no image")
        return None

    def fill(root: Path) -> None:
        ignore = shutil.ignore_patterns(".bin", ".installed", "*.md", "*.map", "*.d.ts", "@types")
        shutil.copytree(JAVASCRIPT, root / JAVASCRIPT.name, ignore=ignore)
        shutil.copy(CONTRACT, root / JAVASCRIPT.name)

    lock = (JAVASCRIPT / "package-lock.json").read_text()
    content = "".join(path.read_text() for path in sorted(JAVASCRIPT.glob("*.mjs"))) + lock + file_hash(CONTRACT.parent)
    app = own("app.js.average", content, fill)
    name = "vantage6/examples/average-js:dev"
    return Image(name, (*base.layers, (app, "app")), base.entrypoint, ["/app/average-js/average.mjs"], base.env)


def r_base() -> Image | None:
    program = R_HOME / "bin/exec/R"
    if not program.exists() or any(not (R_SITE / name).is_dir() for name in R_PACKAGES):
        return None

    def fill(root: Path) -> None:
        skeleton(root)
        ignore = shutil.ignore_patterns(*R_UNUSED)
        target = root / str(R_HOME).lstrip("/")
        for name in ("bin", "lib", "modules", "etc", "library"):
            shutil.copytree(R_HOME / name, target / name, ignore=ignore)  # Its links are followed.
        for name in R_PACKAGES:
            shutil.copytree(R_SITE / name, target / R_SITE.name / name, ignore=ignore)
        (root / "usr/bin").mkdir()
        (root / "bin").symlink_to("usr/bin")
        tools = [root / "usr/bin" / name for name in R_TOOLS]
        for tool in tools:
            shutil.copy2(Path(shutil.which(tool.name) or tool.name).resolve(), tool)
        copy_libraries(root, [target / "bin/exec/R", *target.rglob("*.so"), *tools])
        locale = Path("usr/lib/locale/C.utf8")
        if ("/" / locale).is_dir():
            shutil.copytree("/" / locale, root / locale)

    versions = said_by("dpkg-query", "--show", "r-base-core", *(f"r-cran-{name}" for name in R_PACKAGES))
    return Image(R_IMAGE, ((own("r", versions, fill), "."),), ["Rscript", "--vanilla"], [], R_ENV)


def r_example(base: Image) -> Image:
    def fill(root: Path) -> None:
        shutil.copytree(R, root / R.name)

    app = own("app.r.average", file_hash(R), fill)
    layers = (*base.layers, (app, "app"))
    return Image("vantage6/examples/average-r:dev", layers, base.entrypoint, ["/app/average-r/average.R"], R_ENV)


def language_images() -> Iterator[tuple[Image, Image | None]]:
    """Each image with the one that it is built on."""
    for language, base, example in (("Node.js", javascript_base, javascript_example), ("R", r_base, r_example)):
        made = base()
        if made is None:
            say(f"{language} is not on this machine: no image for algorithms in it")
            continue
        yield made, None
        if app := example(made):
            yield app, made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sandbox", action="store_true", help="only the root file systems")
    client = None if parser.parse_args().sandbox else engine()
    OUTPUT.mkdir(parents=True, exist_ok=True)
    with (OUTPUT / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for image, below in language_images():
            make_root(image)
            if client is not None:
                make_in_engine(client, image, below.name if below else None)


if __name__ == "__main__":
    main()
