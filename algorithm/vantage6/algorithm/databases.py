"""A site's databases, as functions are handed them: as data frames, or to be connected to."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from vantage6.algorithm.errors import InputError

if TYPE_CHECKING:
    import sqlite3
    from types import ModuleType

LIBRARIES = ("pandas", "polars")


class Source(Protocol):
    """What there is for one label of the task."""

    def frame(self, library: str) -> Any:
        """All of it as a data frame of `library`."""

    # How to connect to it.
    def database(self) -> Database: ...


# Data classes and paths take longer to load than all the rest of the way to an author's function.
class Database(NamedTuple):
    """Where a database is: `uri` is the path of a file or a URL, `socket` the Unix socket that leads to its server."""

    label: str
    uri: str
    type: str = ""
    socket: str = ""

    def connect(self) -> sqlite3.Connection:
        """Opens an SQLite file, for reading only. Others are for a driver in the image, by `uri` and `socket`."""
        import sqlite3  # noqa: PLC0415 - few need it
        from urllib.parse import quote  # noqa: PLC0415

        if "://" in self.uri and not self.uri.startswith("file://"):
            raise InputError(f"the database {self.label!r} is a server: connect with a driver of the image, by its uri")
        return sqlite3.connect(f"file:{quote(self._path)}?mode=ro&immutable=1", uri=True)

    def frame(self, library: str = "pandas") -> Any:
        """Reads a CSV, Parquet or Excel file as a data frame."""
        module = load(library)
        path = self._path
        kind = self.type or os.path.splitext(path)[1].lower().lstrip(".")
        if kind in ("parquet", "pq"):
            return module.read_parquet(path)
        if kind in ("excel", "xlsx", "xls"):
            return module.read_excel(path)
        if kind in ("sql", "folder", "db", "sqlite"):
            raise InputError(f"the database {self.label!r} is no table: this method needs a CSV or Parquet file")
        return module.read_csv(path)

    def database(self) -> Database:
        return self

    @property
    def _path(self) -> str:
        path = self.uri.removeprefix("file://")
        if not os.path.isfile(path):
            raise InputError(f"the database {self.label!r} is no file that can be read")
        return path


def load(library: str) -> ModuleType:
    """Loads pandas or polars, which is slow, and not every method has data."""
    try:
        return importlib.import_module(library)
    except ImportError:
        raise InputError(f"{library} is not in this image: build it in, or use another kind of frame") from None
