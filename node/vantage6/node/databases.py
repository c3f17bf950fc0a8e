"""The site's databases by label: a run gets those that it asked for, and no other."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from vantage6.common.errors import NotFound
from vantage6.node.config import Database

_LOGIN = re.compile(r"(?P<before>^[^:/?#]+://[^:@/?#]*:)(?P<secret>.*)(?P<after>@)", re.DOTALL)
_OPTION = re.compile(r"(?i)((?:password|passwd|passphrase|pwd|secret|token)[^=&;]*(?:=|%3d))[^&;]*")


def without_password(uri: str) -> str:
    """For people to see: a password in a URL, in the log-in or among the options, is not for screens and tickets."""
    # Up to the last @: a password may hold one, and showing too little of an odd address is the better mistake.
    return _OPTION.sub(r"\1***", _LOGIN.sub(r"\g<before>***\g<after>", uri)) if "://" in uri else uri


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
