"""What stands below `runtime_options`, for the runtimes that come with the node; and how registries are logged into."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictStr, model_validator

from vantage6.common.settings import ConfigError

if TYPE_CHECKING:
    from vantage6.node.config import NodeConfig

PASSWORD_VARIABLE = "VANTAGE6_REGISTRY_PASSWORD_"  # noqa: S105 - a name
"""With the registry's name behind it, in capitals and `_` for all but letters and digits."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class RegistryOptions(_Section):
    """How one registry is logged into; nothing is needed for one that lets everybody in."""

    username: StrictStr = ""
    """Who logs in."""
    password: StrictStr = Field(default="", repr=False)
    """Better in password_file, or in the environment: VANTAGE6_REGISTRY_PASSWORD_REGISTRY_EXAMPLE_443 for
    registry.example:443."""
    password_file: Path | None = None
    """File with the password."""
    ca_file: Path | None = None
    """Authorities (PEM) to trust for its certificate, instead of the system's."""

    @model_validator(mode="after")
    def _one_password(self) -> RegistryOptions:
        if self.password and self.password_file:
            raise ValueError("give either password or password_file, not both")
        return self


class DockerOptions(_Section):
    """Of the runtime docker."""

    base_url: StrictStr | None = None
    """Socket of the engine, such as unix:///run/user/1000/docker.sock; DOCKER_HOST or the usual one unless given."""
    pull: Literal["newer", "missing", "always", "never"] = "newer"
    """When images of algorithms are fetched; `newer` asks the registry."""
    registries: dict[str, RegistryOptions] = {}
    """Log-ins by the registry's name, such as registry.example:443."""
    relay_image: StrictStr = ""
    """An image with Python in it for the node's own containers beside runs: relays with isolation `network`, and what
    counts closed folders where the node is not root. The image that the node itself runs in unless given."""
    subnet: StrictStr = ""
    """With isolation `network`: addresses of the private network, such as 10.77.0.0/24; the engine's choice unless
    given."""
    stall_seconds: float | None = Field(default=None, gt=0)
    """How long a pull may stand still before it is given up; two minutes unless given."""


class SandboxOptions(_Section):
    """Of the runtime sandbox."""

    image_folder: Path | None = None
    """Folder with unpacked images."""
    state_folder: Path | None = None
    """What the runtime knows of its runs; in the data folder unless given."""
    bwrap: StrictStr | None = None
    """The program bubblewrap; looked for unless given."""


OPTIONS: dict[str, type[BaseModel]] = {"docker": DockerOptions, "sandbox": SandboxOptions}
FILES = ("password_file", "ca_file")


def variable_of(registry: str) -> str:
    """The environment variable that may hold a registry's password."""
    return PASSWORD_VARIABLE + re.sub(r"[^A-Z0-9]", "_", registry.upper())


def registries(config: NodeConfig) -> dict[str, dict[str, Any]]:
    """The configured registries, as they stand in the configuration."""
    found = config.runtime_options.get("registries")
    return dict(found) if config.runtime == "docker" and isinstance(found, Mapping) else {}


def logins(config: NodeConfig) -> dict[str, dict[str, str]]:
    """For those who ask registries: the configured log-ins, with passwords read from where they are kept."""
    return {host: _login(host, each or {}) for host, each in registries(config).items()}


def _login(host: str, given: Mapping[str, Any]) -> dict[str, str]:
    found = {key: str(value) for key, value in given.items() if value and key != "password_file"}
    if path := given.get("password_file"):
        try:
            found["password"] = Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            text = f"{path} cannot be read: {error.strerror}"
            raise ConfigError(f"password_file of registry {host}: {text}") from error
    elif "password" not in found and (password := os.environ.get(variable_of(host))):
        found["password"] = password
    return found


def rewritten(options: Mapping[str, Any], path_of: Mapping[str, Path]) -> dict[str, Any]:
    """The options with these paths for the files of their registries, by `host/key`."""
    known = options.get("registries")
    if not isinstance(known, Mapping):
        return dict(options)
    made = {
        host: {key: str(path_of.get(f"{host}/{key}", value)) if key in FILES else value
               for key, value in (each or {}).items()}
        for host, each in known.items()
    }  # fmt: skip
    return {**options, "registries": made}


def files_of(options: Mapping[str, Any]) -> dict[str, Path]:
    """The files that the options' registries name, by `host/key`."""
    known = options.get("registries")
    if not isinstance(known, Mapping):
        return {}
    return {
        f"{host}/{key}": Path(str(each[key])) for host, each in known.items() for key in FILES if (each or {}).get(key)
    }
