"""The server's configuration file: YAML, everything under `application`; unknown keys are errors."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from vantage6.server.domain.secrets import Lifetimes

LARGEST_FILE = 1024 * 1024

Address = Annotated[str, StringConstraints(pattern=r"^(unix:/.+|\[?[\w.:-]+\]?:\d{1,5})$")]


class ConfigError(Exception):
    """The file cannot be used; the text says which key and why."""


class TokenConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    access_minutes: float = Field(30, gt=0, le=24 * 60)
    refresh_days: float = Field(30, gt=0, le=365)
    container_days: float = Field(7, gt=0, le=365)

    @property
    def lifetimes(self) -> Lifetimes:
        return Lifetimes(
            access=dt.timedelta(minutes=self.access_minutes),
            refresh=dt.timedelta(days=self.refresh_days),
            container=dt.timedelta(days=self.container_days),
        )


class ServerConfig(BaseModel):
    """Paths may be relative to the folder of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field("vantage6", min_length=1, max_length=128)
    # The gateway stands before it and brings the TLS; so it listens on the loopback interface unless told otherwise.
    address: Address = "127.0.0.1:5001"
    api_path: str = "/api"
    data_dir: Path = Path("data")
    # SQLAlchemy URL, of the drivers aiosqlite or asyncpg; a file in data_dir unless given.
    uri: str = ""
    # Where payloads are kept that are too large for a row: a folder, in data_dir unless given.
    blobs: Path | None = None
    jwt_secret_file: Path | None = None
    root_email: str = "root@localhost"
    # At the first start: holds root's password, or receives the generated one (instead of it being printed).
    root_password_file: Path | None = None
    tokens: TokenConfig = TokenConfig()
    heartbeat_seconds: float = Field(5, gt=0, le=60)
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")

    @field_validator("api_path")
    @classmethod
    def _api_path(cls, path: str) -> str:
        if path != "/api":
            raise ValueError("other paths than /api are not supported yet")
        return path

    @property
    def database_url(self) -> str:
        return self.uri or f"sqlite+aiosqlite:///{self.data_dir / 'server.db'}"

    @property
    def blob_folder(self) -> Path:
        return self.blobs or self.data_dir / "blobs"

    @property
    def secret_file(self) -> Path:
        return self.jwt_secret_file or self.data_dir / "token.secret"


def load_config(path: Path) -> ServerConfig:
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise ConfigError(f"{path}: larger than {LARGEST_FILE} bytes")
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeError, yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path}: {error}") from error
    if not isinstance(content, dict) or set(content) != {"application"} or not isinstance(content["application"], dict):
        raise ConfigError(f"{path}: must hold one key, 'application', with the settings below it")
    try:
        config = ServerConfig.model_validate(content["application"])
    except ValidationError as error:
        raise ConfigError(f"{path}: {_reasons(error)}") from error
    return _resolved(config, path.resolve().parent)


def _reasons(error: ValidationError) -> str:
    """Without the values: one of them may be a secret, such as the database's password."""
    return "; ".join(f"application.{'.'.join(map(str, part['loc']))}: {part['msg']}" for part in error.errors())


def _resolved(config: ServerConfig, folder: Path) -> ServerConfig:
    names = ("data_dir", "blobs", "jwt_secret_file", "root_password_file")
    paths = {name: folder / path for name in names if (path := getattr(config, name)) is not None}
    return config.model_copy(update=paths)
