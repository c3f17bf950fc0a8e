"""Where configurations live, and which one is meant: name or file, environment, user or system.

The folders are those of 1.x: `~/.config/vantage6/node/NAME.yaml` for one user, `/etc/xdg/vantage6/server/NAME.yaml` for
the system, on Linux; other systems have their own places.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import platformdirs

from vantage6.common.settings import APPLICATION, ConfigError, Document, FileMissing, read

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
SUFFIXES = (".yaml", ".yml")


class Kind(StrEnum):
    """What is configured."""

    NODE = "node"
    SERVER = "server"


class Scope(StrEnum):
    """Whose it is: one user's, or the machine's."""

    USER = "user"
    SYSTEM = "system"


DEFAULT_SCOPE = {Kind.NODE: Scope.USER, Kind.SERVER: Scope.SYSTEM}
PREFERRED = {Kind.NODE: APPLICATION, Kind.SERVER: "prod"}
"""The environment that is taken when none is asked for; `application` when the file does not have it."""


class ContextMissing(FileMissing):
    """There is no such configuration, or none at all."""


@dataclass(frozen=True)
class Folders:
    """Of one kind and scope; everything of one configuration is below them."""

    config: Path
    data: Path
    log: Path


def folders(kind: Kind, scope: Scope) -> Folders:
    """The places of this system; variables such as XDG_CONFIG_HOME are heard."""
    place = platformdirs.PlatformDirs("vantage6", appauthor=False)
    if scope is Scope.SYSTEM:
        found = (place.site_config_dir.split(os.pathsep)[0], place.site_data_dir.split(os.pathsep)[0], _site_log(place))
    else:
        found = (place.user_config_dir, place.user_data_dir, place.user_log_dir)
    config, data, log = (Path(folder) / kind for folder in found)
    return Folders(config, data, log)


def _site_log(place: platformdirs.PlatformDirs) -> str:
    return str(getattr(place, "site_log_dir", None) or Path(place.site_data_dir.split(os.pathsep)[0]) / "log")


@dataclass(frozen=True)
class Context:
    """One environment of one configuration file."""

    kind: Kind
    scope: Scope
    path: Path
    environment: str
    document: Document
    by_file: bool = False

    @property
    def name(self) -> str:
        """As the file is called."""
        return self.path.stem

    def folders(self, name: str = "") -> Folders:
        """Where this configuration keeps data and logs unless it says otherwise; by `name`, else by the file's.

        Other environments than `application` have folders of their own: they belong to other servers, and the journal
        of one must not be taken for the other's.
        """
        base = folders(self.kind, self.scope)
        own = Path(name or self.name)
        own = own if self.environment == APPLICATION else own / self.environment
        return Folders(self.path.parent, base.data / own, base.log / own)


def check_name(name: str) -> str:
    """Spaces become hyphens, as in 1.x; what could leave the folder or confuse an engine is refused."""
    name = name.strip().replace(" ", "-")
    if not NAME.fullmatch(name):
        raise ConfigError(f"name {name!r}: use letters, digits, '.', '_' and '-' only, at most 63")
    return name


def configurations(kind: Kind, scope: Scope) -> list[Path]:
    """The configuration files in the folder, by name."""
    folder = folders(kind, scope).config
    if not folder.is_dir():
        return []
    try:
        return sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES and path.is_file())
    except OSError as error:
        raise ConfigError(f"folder {folder} cannot be read: {error.strerror}") from error


def every(
    kind: Kind, *, name: str | None = None, config: Path | None = None, environment: str | None = None,
    scope: Scope | None = None,
) -> list[Context]:  # fmt: skip
    """As `find`, but without an environment all that the file has."""
    scope = scope or DEFAULT_SCOPE[kind]
    path = config.expanduser().absolute() if config is not None else _by_name(kind, scope, name)
    document = read(path)
    if environment is not None:
        document.section(environment)
    names = [environment] if environment is not None else document.environments()
    return [Context(kind, scope, path, each, document, by_file=config is not None) for each in names]


def find(
    kind: Kind, *, name: str | None = None, config: Path | None = None, environment: str | None = None,
    scope: Scope | None = None,
) -> Context:  # fmt: skip
    """The configuration that is meant; `config` wins over `name`, as in 1.x. Raises ContextMissing."""
    scope = scope or DEFAULT_SCOPE[kind]
    path = config.expanduser().absolute() if config is not None else _by_name(kind, scope, name)
    document = read(path)
    if environment is None:
        environment = PREFERRED[kind] if PREFERRED[kind] in document.environments() else APPLICATION
    document.section(environment)
    return Context(kind, scope, path, environment, document, by_file=config is not None)


def _by_name(kind: Kind, scope: Scope, name: str | None) -> Path:
    known = configurations(kind, scope)
    folder = folders(kind, scope).config
    command = "vnode" if kind is Kind.NODE else "vserver"
    flag = f"--{scope}"
    if name is None:
        if len(known) == 1:
            return known[0]
        names = ", ".join(path.stem for path in known)
        if not known:
            raise ContextMissing(
                f"there is no configuration of a {kind} in {folder}. Make one with '{command} new {flag}', or say "
                f"--config FILE{_elsewhere(kind, scope)}"
            )
        raise ContextMissing(f"which {kind}? Say --name with one of: {names}")
    for path in known:
        if path.stem == name:
            return path
    there = f"there are: {', '.join(path.stem for path in known)}" if known else "there is none at all"
    raise ContextMissing(
        f"configuration {name!r} does not exist in the {scope} folder {folder}; {there}{_elsewhere(kind, scope, name)}"
    )


def _elsewhere(kind: Kind, scope: Scope, name: str | None = None) -> str:
    other = Scope.USER if scope is Scope.SYSTEM else Scope.SYSTEM
    found = [path.stem for path in configurations(kind, other) if name in {None, path.stem}]
    return f". (--{other} has: {', '.join(found)})" if found else ""
