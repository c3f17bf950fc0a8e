"""What the node puts around an algorithm: files and databases named by environment variables, the proxy's socket."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vantage6.algorithm.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vantage6.algorithm.client import AlgorithmClient
    from vantage6.algorithm.databases import Database


class Container:
    """The surroundings of a run, as its environment variables tell."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._environment = environment
        self._client: AlgorithmClient | None = None

    def read_input(self) -> bytes:
        return self._read("INPUT_FILE")

    def write_output(self, data: bytes) -> None:
        """Writes in place: the file is a mount of its own, so there is nothing that could be renamed onto it.

        What the function has streamed through its client is the output already.
        """
        if self._client is not None and self._client.wrote_output:
            return
        with open(self._need("OUTPUT_FILE"), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def client(self) -> AlgorithmClient:
        if self._client is None:
            from vantage6.algorithm.client import AlgorithmClient  # noqa: PLC0415 - loads gRPC

            token = self._read("TOKEN_FILE").decode().strip()
            self._client = AlgorithmClient.connect(self._need("PROXY_ADDRESS"), token)
        return self._client

    def sources(self, count: int) -> list[Database]:
        """The task's first `count` databases."""
        if count == 0:
            return []
        if count == 1:
            return [self._database("default", "")]
        labels = self.client().run.databases
        if len(labels) < count:
            raise InputError(f"this method reads {count} databases and the task names {len(labels)}")
        return [self._database(label, f"{_variable(label)}_") for label in labels[:count]]

    def _database(self, label: str, prefix: str) -> Database:
        from vantage6.algorithm.databases import Database  # noqa: PLC0415 - for those who read any

        kind, socket = (self._environment.get(f"{prefix}DATABASE_{name}", "") for name in ("TYPE", "SOCKET"))
        return Database(label, self._need(f"{prefix}DATABASE_URI"), kind, socket)

    @property
    def shares_errors(self) -> bool:
        """Whether the site lets the texts of exceptions out, which may hold values from its data."""
        return self._environment.get("SHARE_ERRORS") == "1"

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def _read(self, name: str) -> bytes:
        with open(self._need(name), "rb") as file:
            return file.read()

    def _need(self, name: str) -> str:
        value = self._environment.get(name)
        if not value:
            raise InputError(f"the environment variable {name} is not set: did the task name its databases?")
        return value


def _variable(label: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in label).upper()
