"""What the demo shows: phases with their times, the table of coefficients, a REST answer."""

from __future__ import annotations

import json
import ssl
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from rich.console import Console
from rich.markup import escape
from rich.table import Table

TOLERANCE = 1e-6


class Report:
    """Prints as the demo goes on, and remembers how long each part took."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        self.console.print(f"[bold]▸ {escape(name)}[/]")
        began = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - began

    def say(self, text: str) -> None:
        self.console.print(f"  {escape(text)}", soft_wrap=True)

    def coefficients(self, federated: Mapping[str, float], pooled: Mapping[str, float]) -> float:
        """Shows both fits side by side and returns the largest difference; other names differ infinitely."""
        table = Table("", "three hospitals", "pooled", "difference", box=None, pad_edge=False)
        for column in table.columns[1:]:
            column.justify = "right"
        for name in pooled:
            ours = federated.get(name, float("inf"))
            table.add_row(name, f"{ours:.9f}", f"{pooled[name]:.9f}", f"{abs(ours - pooled[name]):.1e}")
        self.console.print(table)
        largest = max(abs(federated.get(name, float("inf")) - pooled[name]) for name in pooled)
        if set(federated) != set(pooled):
            largest = float("inf")
        verdict = f"[green]below {TOLERANCE:.0e}[/]" if largest < TOLERANCE else f"[red]not below {TOLERANCE:.0e}[/]"
        self.console.print(f"largest difference: {largest:.1e}, {verdict}")
        return largest

    def rest(self, method: str, url: str, answer: object) -> None:
        self.console.print(f"  {method} {url}", soft_wrap=True)
        self.console.print_json(json.dumps(answer), indent=2)

    def times(self) -> None:
        table = Table(box=None, pad_edge=False, show_header=False)
        for name, seconds in [*self.seconds.items(), ("all", sum(self.seconds.values()))]:
            table.add_row(escape(name), f"{seconds:.1f} s")
        self.console.print(table)

    def commands(self, *commands: str) -> None:
        self.console.print("[bold]go on with[/]")
        for command in commands:
            self.console.print(f"  {escape(command)}", soft_wrap=True)


class Rest:
    """The REST interface, as any program without gRPC would use it."""

    def __init__(self, url: str, ca_file: Path) -> None:
        self._url = url
        self._context = ssl.create_default_context(cafile=str(ca_file))
        self._token = ""

    def log_in(self, username: str, password: str) -> None:
        answer = self._call("POST", "/api/token/user", {"username": username, "password": password})
        self._token = cast("dict[str, str]", answer)["access_token"]

    def get(self, path: str) -> Any:
        return self._call("GET", path)

    def _call(self, method: str, path: str, body: object = None) -> object:
        request = urllib.request.Request(f"{self._url}{path}", method=method)  # noqa: S310 - https, our own gateway
        if self._token:
            request.add_header("authorization", f"Bearer {self._token}")
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("content-type", "application/json")
        with urllib.request.urlopen(request, context=self._context, timeout=30) as answer:  # noqa: S310
            return json.load(answer)
