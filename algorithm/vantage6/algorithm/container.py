"""What the node puts around an algorithm: files and databases named by environment variables, the proxy's socket."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from vantage6.algorithm.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from vantage6.algorithm.client import AlgorithmClient


class Container:
    """The surroundings of a run, as its environment variables tell."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._environment = environment
        self._client: AlgorithmClient | None = None

    def read_input(self) -> bytes:
        return Path(self._need("INPUT_FILE")).read_bytes()

    def write_output(self, data: bytes) -> None:
        """Writes in place: the file is a mount of its own, so there is nothing that could be renamed onto it.

        What the function has streamed through its client is the output already.
        """
        if self._client is not None and self._client.wrote_output:
            return
        with Path(self._need("OUTPUT_FILE")).open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def client(self) -> AlgorithmClient:
        if self._client is None:
            from vantage6.algorithm.client import AlgorithmClient  # noqa: PLC0415 - loads gRPC

            token = Path(self._need("TOKEN_FILE")).read_text(encoding="utf-8").strip()
            self._client = AlgorithmClient.connect(self._need("PROXY_ADDRESS"), token)
        return self._client

    def frames(self, count: int) -> list[pd.DataFrame]:
        """Reads the first `count` databases of the task."""
        if count == 0:
            return []
        if count == 1:
            return [read_frame(self._need("DATABASE_URI"))]
        labels = self.client().run.databases
        if len(labels) < count:
            raise InputError(f"this method reads {count} databases and the task names {len(labels)}")
        return [read_frame(self._need(f"{_variable(label)}_DATABASE_URI")) for label in labels[:count]]

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def _need(self, name: str) -> str:
        value = self._environment.get(name)
        if not value:
            raise InputError(f"the environment variable {name} is not set: did the task name its databases?")
        return value


def _variable(label: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in label).upper()


def read_frame(uri: str) -> pd.DataFrame:
    """Reads a CSV or Parquet file as a data frame."""
    import pandas as pd  # noqa: PLC0415 - slow to load, and not every method has data

    path = Path(uri.removeprefix("file://"))
    if not path.is_file():
        raise InputError("the database is no file that can be read as a data frame")
    if path.suffix.lower() in (".parquet", ".pq"):
        return pd.read_parquet(path)
    return pd.read_csv(path)
