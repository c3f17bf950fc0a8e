"""A node's site for faults to be put in, and what the commands say of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.node import faults
from vantage6.node.cli import main


@dataclass
class Said:
    code: int
    text: str


@dataclass
class Site:
    """A folder with a node's configuration that is right, for faults to be put in."""

    folder: Path
    stack: ExitStack
    patch: pytest.MonkeyPatch
    server: faults.Server
    settings: dict[str, Any] = field(default_factory=dict)

    def write(self, **changes: Any) -> Path:
        config = self.folder / "north.yaml"
        settings = {key: value for key, value in {**self.settings, **changes}.items() if value is not None}
        config.write_text(json.dumps({"application": settings}, indent=1))
        return config

    def run(self, *arguments: str, main: Any = main) -> Said:
        done = CliRunner().invoke(main, list(arguments))
        assert "Traceback" not in done.output, done.output
        return Said(done.exit_code, done.output)

    def check(self, **changes: Any) -> Said:
        return self.run("check", "--quick", "--config", str(self.write(**changes)))

    def start(self, *arguments: str, **changes: Any) -> Said:
        return self.run("start", "--config", str(self.write(**changes)), *arguments)


@contextmanager
def one_site(folder: Path) -> Iterator[Site]:
    """A site with a folder of its own, all of whose settings are right."""
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        for name in ("CONFIG_HOME", "DATA_HOME", "STATE_HOME", "CACHE_HOME", "CONFIG_DIRS", "DATA_DIRS"):
            patch.setenv(f"XDG_{name}", str(folder / name.lower()))
        for name in ("https_proxy", "http_proxy", "grpc_proxy", "no_proxy"):
            patch.delenv(name, raising=False)
            patch.delenv(name.upper(), raising=False)
        patch.delenv("VANTAGE6_NODE_API_KEY", raising=False)
        server, url = stack.enter_context(faults.server())
        made = Site(folder, stack, patch, server)
        (folder / "patients.csv").write_text("age\n1\n")
        (folder / "patients.csv").chmod(0o644)
        made.settings = {
            "name": "north", "server_url": url, "api_key": faults.API_KEY, "runtime": "null",
            "databases": {"default": {"uri": str(folder / "patients.csv")}},
            "policy": {"allowed_images": ["example/.*"]},
            "directories": {"data": str(folder / "data"), "task": str(folder / "t"), "log": str(folder / "log")},
        }  # fmt: skip
        yield made
