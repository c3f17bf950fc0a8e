"""The server's configuration file: YAML, everything under `application`; unknown keys are errors."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from vantage6.common.contexts import Context, Kind, find
from vantage6.common.monitoring import ADDRESS
from vantage6.common.monitoring import VARIABLE as MONITORING_VARIABLE
from vantage6.common.settings import validate
from vantage6.server.domain.secrets import Lifetimes
from vantage6.server.domain.subtasks import MAX_DEPTH, MAX_PER_RUN, SubtaskLimits
from vantage6.server.mail import MailConfig

URI_VARIABLE = "VANTAGE6_DB_URI"

Address = Annotated[str, StringConstraints(pattern=r"^(unix:/.+|\[?[\w.:-]+\]?:\d{1,5})$")]


class TokenConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    access_minutes: float = Field(default=30, gt=0, le=24 * 60)
    """How long a log-in's access token is good."""
    refresh_days: float = Field(default=30, gt=0, le=365)
    """How long a log-in can be refreshed without the password."""
    container_days: float = Field(default=7, gt=0, le=365)
    """How long a running algorithm may ask for subtasks."""

    @property
    def lifetimes(self) -> Lifetimes:
        return Lifetimes(
            access=dt.timedelta(minutes=self.access_minutes),
            refresh=dt.timedelta(days=self.refresh_days),
            container=dt.timedelta(days=self.container_days),
        )


class ServerConfig(BaseModel):
    """Paths may be relative to the folder of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str = Field(default="vantage6", min_length=1, max_length=128)
    """Names the server in its log."""
    address: Address = "127.0.0.1:5001"
    """Where it listens, as host:port or unix:/path; the gateway before it brings the TLS."""
    api_path: str = "/api"
    """Where the REST interface begins."""
    data_dir: Path = Path("data")
    """Database, payloads and secrets, unless they are elsewhere."""
    uri: str = ""
    """SQLAlchemy URL, of the drivers aiosqlite or asyncpg; a file in data_dir unless given."""
    blobs: str = ""
    """Where payloads are kept that are too large for a row: a folder, in data_dir unless given, or a URL such as
    s3://bucket/prefix (with the credentials in the environment, as the AWS tools take them)."""
    collaboration_quota_bytes: int = Field(default=0, ge=0)
    """Bytes that one collaboration may have stored there, 0 for any number."""
    upload_hours: float = Field(default=24, gt=0, le=24 * 365)
    """How long an upload may take, and a complete one wait for its task, before it is thrown away."""
    results_retention_days: float = Field(default=0, ge=0, le=36500)
    """Days after a task's end at which its inputs, outputs and logs are deleted; the task stays. 0 keeps them."""
    max_subtask_depth: int = Field(default=MAX_DEPTH, ge=1, le=100)
    """How far subtasks may ask for subtasks: 1 is a user's task that asks for some, and these for none."""
    max_subtasks_per_run: int = Field(default=MAX_PER_RUN, ge=1, le=10_000_000)
    """How many subtasks all that one user's task led to may have."""
    jwt_secret_file: Path | None = None
    """Secret that signs tokens, made at the first start; replicas share one. token.secret in data_dir unless given."""
    root_email: str = "root@localhost"
    """Email address of the user root, who is made at the first start."""
    root_password_file: Path | None = None
    """At the first start: holds root's password, or receives the generated one (instead of it being printed)."""
    tokens: TokenConfig = Field(default_factory=lambda: TokenConfig.model_validate({}))
    """How long tokens are good."""
    mail: MailConfig | None = None
    """Without it nobody can ask for a new password by mail."""
    monitoring: Annotated[str, StringConstraints(pattern=rf"^$|{ADDRESS}")] = ""
    """Where metrics and health are shown, such as 127.0.0.1:9101; nowhere unless given, or in VANTAGE6_MONITORING."""
    gateway: dict[str, Any] = {}
    """Settings of the gateway before this server, which reads them here (docs/gateway.md); the server does not."""
    heartbeat_seconds: float = Field(default=5, gt=0, le=60)
    """How often nodes and server tell one another that they are there."""
    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    """DEBUG, INFO, WARNING or ERROR."""

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
    def blob_location(self) -> str:
        return self.blobs or str(self.data_dir / "blobs")

    @property
    def retention(self) -> dt.timedelta | None:
        return dt.timedelta(days=self.results_retention_days) if self.results_retention_days else None

    @property
    def subtask_limits(self) -> SubtaskLimits:
        return SubtaskLimits(self.max_subtask_depth, self.max_subtasks_per_run)

    @property
    def secret_file(self) -> Path:
        return self.jwt_secret_file or self.data_dir / "token.secret"


def load_config(path: Path) -> ServerConfig:
    """Reads `prod` of a configuration file, or `application` when it has no `prod`."""
    return load_context(find(Kind.SERVER, config=path))


def load_context(context: Context) -> ServerConfig:
    """The server's settings; what the file leaves open follows from where it is."""
    config = validate(context.document, context.environment, ServerConfig)
    changes: dict[str, object] = {}
    if uri := os.environ.get(URI_VARIABLE):
        changes["uri"] = uri
    if (monitoring := os.environ.get(MONITORING_VARIABLE)) and not config.monitoring:
        changes["monitoring"] = monitoring
    if not context.by_file and "data_dir" not in config.model_fields_set:
        changes["data_dir"] = context.folders().data
    return _resolved(config.model_copy(update=changes), context.path.resolve().parent)


def _resolved(config: ServerConfig, folder: Path) -> ServerConfig:
    names = ("data_dir", "jwt_secret_file", "root_password_file")
    paths: dict[str, object] = {name: folder / path for name in names if (path := getattr(config, name)) is not None}
    if config.blobs and "://" not in config.blobs:
        paths["blobs"] = str(folder / config.blobs)
    if config.mail is not None:
        files = {name: folder / path for name in ("password_file", "ca_file") if (path := getattr(config.mail, name))}
        paths["mail"] = config.mail.model_copy(update=files)
    return config.model_copy(update=paths)
