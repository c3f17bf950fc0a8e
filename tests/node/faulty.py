"""A node's site for faults to be put in, and what the commands say of them."""

from __future__ import annotations

import json
from contextlib import ExitStack
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
