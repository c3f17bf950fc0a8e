"""A computer of its own, for those who type commands: home and system folders in a temporary one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent


@dataclass
class Machine:
    """A computer of its own: home and system folders in a temporary one."""

    home: Path
    url: str = ""
    ca_file: Path = Path()
    root_password: str = ""
    keys: dict[str, str] = field(default_factory=dict)

    def run(
        self, program: str, *arguments: str, text: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(BIN / program), *arguments], input=text, capture_output=True, text=True, check=False, timeout=120,
            env={**self._environment(), **environment},
        )  # fmt: skip

    def _environment(self) -> dict[str, str]:
        names = ("CONFIG_HOME", "DATA_HOME", "STATE_HOME", "CACHE_HOME", "CONFIG_DIRS", "DATA_DIRS")
        places = {f"XDG_{name}": str(self.home / name.lower()) for name in names}
        return {**os.environ, **places, "HOME": str(self.home)}

    @contextmanager
    def foreground(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """A node in a terminal of its own, once it is online."""
        process = subprocess.Popen([str(BIN / "vnode"), *arguments], env=self._environment(), stderr=subprocess.PIPE)
        assert process.stderr is not None
        try:
            assert any(b" online " in line for line in process.stderr)
            yield process
        finally:
            process.terminate()
            process.stderr.read()
            process.stderr.close()
            process.wait(30)

    def node(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return self.run("vnode", *arguments, **more)

    def new_node(self, name: str, key: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        data = self.home / f"{name}.csv"
        data.write_text("age\n1\n")
        data.chmod(0o644)
        return self.node(
            "new", "--name", name, "--server-url", self.url, "--ca-file", str(self.ca_file), "--database",
            f"default={data}", "--allowed-image", "example/.*", "--yes", *arguments, VANTAGE6_NODE_API_KEY=key,
        )  # fmt: skip

    def configuration(self, name: str, scope: str = "home") -> Path:
        return self.home / f"config_{scope}" / "vantage6" / "node" / f"{name}.yaml"

    def use_null(self, name: str, scope: str = "home") -> None:
        """Runs nothing: these tests are about the commands."""
        path = self.configuration(name, scope)
        path.write_text(path.read_text().replace("runtime: docker", 'runtime: "null"'))

    def list(self, *arguments: str) -> dict[tuple[str, str], Any]:
        found = json.loads(self.node("list", "--json", *arguments).stdout)
        return {(row["name"], row["scope"]): row for row in found["nodes"]}
