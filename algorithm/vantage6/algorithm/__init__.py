"""What an author of algorithms imports.

Importing this is cheap on purpose: gRPC and pandas are loaded when a function first needs them, so that a container
reaches the author's code quickly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vantage6.algorithm.decorators import algorithm_client, connection, data, metadata, remote
from vantage6.algorithm.errors import AlgorithmError, InputError, SubtaskError

if TYPE_CHECKING:
    from vantage6.algorithm.client import AlgorithmClient, Participant, Run, SiteResult, Subtask
    from vantage6.algorithm.databases import Database

__all__ = [
    "AlgorithmClient",
    "AlgorithmError",
    "Database",
    "InputError",
    "Participant",
    "Run",
    "SiteResult",
    "Subtask",
    "SubtaskError",
    "algorithm_client",
    "connection",
    "data",
    "metadata",
    "remote",
]


def __getattr__(name: str) -> object:
    if name == "Database":
        from vantage6.algorithm import databases  # noqa: PLC0415

        return databases.Database
    if name in __all__:
        from vantage6.algorithm import client  # noqa: PLC0415 - gRPC only where it is used

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
