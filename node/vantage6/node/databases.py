"""The site's databases by label: a run gets those that it asked for, and no other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from vantage6.common.errors import NotFound
from vantage6.node.config import Database


class DatabaseUnknown(NotFound):
    """The run asks for a label that this site does not have."""


class Databases:
    """What the configuration offers. Mounts and variables are made of it by the workspace."""

    def __init__(self, databases: Mapping[str, Database]) -> None:
        self._databases = dict(databases)

    def select(self, labels: Iterable[str]) -> dict[str, Database]:
        """The asked-for databases; the first one is the run's default, `DATABASE_URI`."""
        chosen: dict[str, Database] = {}
        for label in labels:
            if label not in self._databases:
                raise DatabaseUnknown(f"this node has no database with the label {label!r}", label=label)
            chosen[label] = self._databases[label]
        return chosen
