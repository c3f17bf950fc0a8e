"""The house as it was planned: folders, namespaces, layers, sizes, and documents that name commands that exist."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
WINGS = ("common", "server", "node", "client", "algorithm", "gateway")
GENERATED = re.compile(r"^protos/gen/|/migrations/versions/")
DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")


@cache
def tracked() -> tuple[Path, ...]:
    """Files of the project: in git, or on the way into it."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return tuple(path for name in names if (path := ROOT / name).is_file())


def written(*suffixes: str) -> list[Path]:
    """Files that people write, with these endings."""
    return [path for path in tracked() if path.suffix in suffixes and not GENERATED.search(name(path))]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.row("D07")
def test_the_top_level_is_as_promised() -> None:
    for folder in ("protos", "server", "node", "client", "gateway", "tests"):
        assert (ROOT / folder).is_dir(), folder
    for file in ("buf.yaml", "pyproject.toml", "Makefile"):
        assert (ROOT / file).is_file(), file


@pytest.mark.row("D06")
@pytest.mark.row("D01")
def test_the_promised_packages_are_what_we_stand_on() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"].values()
    every = [
        *project["project"]["dependencies"],
        *project["dependency-groups"]["dev"],
        *(one for some in extras for one in some),
    ]
    names = {re.split(r"[\[<>=]", requirement)[0] for requirement in every}
    assert {"grpcio", "grpcio-tools", "protobuf"} <= names
    assert {"sqlalchemy", "docker", "cryptography", "click", "pyyaml"} <= names


def test_no_file_hides_the_other_roots_of_the_namespace() -> None:
    assert not [name(path) for path in tracked() if path.parts[-2:] == ("vantage6", "__init__.py")]


def test_every_package_says_that_it_is_typed() -> None:
    packages = [path for wing in WINGS for path in (ROOT / wing / "vantage6").iterdir() if path.is_dir()]
    assert len(packages) > len(WINGS)
    assert not [name(path) for path in packages if not (path / "py.typed").is_file()]


def test_no_file_is_too_long_to_be_read_at_once() -> None:
    long = {name(path): lines for path in written(".py", ".proto") if (lines := path.read_text().count("\n")) > 400}
    assert not long, "which noun wants a module of its own?"


def test_nearly_all_functions_fit_on_a_screen() -> None:
    lengths = {
        f"{name(path)}:{node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for path in written(".py")
        if path.relative_to(ROOT).parts[0] in WINGS
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    long = {function: lines for function, lines in lengths.items() if lines > 40}
    assert len(long) <= len(lengths) / 10, long


def test_no_wing_knows_another() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_names_a_registry_or_keeps_a_locks_address() -> None:
    address = re.compile(
        r"^(--|-)?(extra-)?index-url|\"resolved\": *\"https?:|^ *(registry|url) *= *\"https?://", re.MULTILINE
    )
    texts = written(".txt", ".toml", ".yaml", ".yml", ".cfg", ".json", ".sh", "")
    assert not [name(path) for path in texts if address.search(path.read_text(errors="replace"))]


def test_everything_that_is_installed_is_pinned_with_its_hash() -> None:
    blocks = re.split(r"\n(?=[a-z])", (ROOT / "requirements" / "dev.txt").read_text())
    assert len(blocks) > 50
    assert not [block for block in blocks if "==" not in block.splitlines()[0] or "--hash=sha256:" not in block]


def targets() -> dict[str, bool]:
    """Of the Makefile, with whether `make help` shows them."""
    lines = re.findall(r"^([a-z-]+):(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return {target: "## " in rest for target, rest in lines}


def test_make_help_shows_every_target() -> None:
    assert not [target for target, shown in targets().items() if not shown]
    command = ["make", "--no-print-directory", "help"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert [line.split()[1] for line in shown.stdout.splitlines()] == list(targets())
    assert {"demo", "test", "lint", "types", "protos", "images", "clean", "setup"} <= set(targets())


def test_documents_name_targets_that_exist() -> None:
    for document in (ROOT / one for one in DOCUMENTS if (ROOT / one).is_file()):
        named = set(
            re.findall(r"\bmake ([a-z]+(?:-[a-z]+)*)`|^make ([a-z]+(?:-[a-z]+)*)", document.read_text(), re.MULTILINE)
        )
        unknown = {one or other for one, other in named} - set(targets())
        assert not unknown, name(document)


def test_the_readme_has_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text()
    assert "make demo" in readme
    assert "make test" in readme
