"""The node's configuration file: YAML, one mapping under `application:`, every key known.

A wrong file stops the node at once, with the file's name, the key and, for a misspelt key, the nearest valid one.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    StrictInt,
    StrictStr,
    StringConstraints,
    field_validator,
    model_validator,
)

from vantage6.common.channel import Endpoint
from vantage6.common.contexts import NAME, Context, Kind, Scope, check_name, find, folders
from vantage6.common.errors import InvalidArgument
from vantage6.common.monitoring import ADDRESS
from vantage6.common.monitoring import VARIABLE as MONITORING_VARIABLE
from vantage6.common.proxies import check_proxy
from vantage6.common.settings import APPLICATION, ConfigError, Document, validate, validate_at
from vantage6.node.options import OPTIONS, files_of, rewritten
from vantage6.node.runtimes.hardening import Hardening

API_KEY_VARIABLE = "VANTAGE6_NODE_API_KEY"
INSIDE_VARIABLE = "VANTAGE6_NODE_INSIDE"
"""Names the node for a command that is run in a container with the node's volume."""

CENTURY = 100 * 365 * 24 * 3600.0
LABEL = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Database(_Section):
    """One data source of the site, known to algorithms by its label."""

    uri: str = Field(repr=False)
    """Path of a file or folder of this machine, or a URL that algorithms understand."""
    type: Literal["csv", "parquet", "excel", "folder", "sql", "other"] = "csv"
    """What it is; algorithms read it accordingly."""


Party = Annotated[StrictInt | StrictStr, Field(description="an organization: its id (number) or its name (text)")]


class PolicySection(_Section):
    """What this site lets others run. Nothing is allowed unless `allowed_images` or `allowed_digests` says so."""

    allowed_images: list[str] = []
    """Regular expressions; an image runs when one of them matches the whole of its name."""
    allowed_digests: list[str] = []
    """Images that may run whatever they are called, as `sha256:…`."""
    signatures: list[Path] = []
    """Public keys (PEM, ECDSA P-256 or Ed25519): an image that allowed_digests does not name must be signed with one
    of them, as `cosign sign --key` does it."""
    allowed_users: list[StrictStr] | None = None
    """Names of the users whose tasks may run; everybody's unless given."""
    allowed_organizations: list[Party] | None = None
    """Organizations (ids or names) whose tasks may run; all of the collaboration unless given."""
    allowed_databases: list[StrictStr] | None = None
    """Labels that tasks may use; all unless given."""
    allowed_methods: list[str] | None = None
    """Patterns of the methods that may be called, anchored; an input whose method cannot be read is refused then."""
    min_participants: int | None = Field(default=None, ge=1)
    """Least number of organizations in a task that reads a database here."""
    vouched_facts: bool = False
    """Refuse tasks whose number of participants, image and databases are only the server's word."""
    max_output_bytes: int | None = Field(default=None, ge=1)
    """Size of what one run may let out."""
    max_outputs_per_day: int | None = Field(default=None, ge=1)
    """Outputs that one user may have in 24 hours."""
    disclosure: list[dict[str, Any]] = []
    """Rules that see what leaves, such as {rule: minimum_records, minimum: 10}; docs/governance.md describes them."""

    @field_validator("allowed_images", "allowed_methods")
    @classmethod
    def _patterns(cls, value: list[str] | None) -> list[str] | None:
        for pattern in value or ():
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
        return value

    @field_validator("allowed_digests")
    @classmethod
    def _digests(cls, value: list[str]) -> list[str]:
        for digest in value:
            if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
                raise ValueError(f"{digest!r}: write a digest as sha256: and 64 hexadecimal digits")
        return value


class LimitsSection(_Section):
    """What one run may use, and how many runs there may be at once."""

    runs: int = Field(default=8, ge=1, le=1000)
    """Runs at the same time."""
    waiting: int = Field(default=32, ge=0, le=500)
    """Runs that the node takes in beyond those: they fetch images, and take turns by user for what becomes free."""
    memory_bytes: int = Field(default=2 * 1024**3, ge=16 * 1024**2)
    """Memory of one run."""
    cpus: float = Field(default=1.0, gt=0, le=10_000)
    """Processors of one run."""
    pids: int = Field(default=256, ge=16)
    """Processes and threads of one run."""
    seconds: float = Field(default=24 * 3600.0, gt=0, le=CENTURY)
    """Wall clock time of one run."""
    output_bytes: int = Field(default=1024**3, ge=1024)
    """Size of one run's output."""
    input_bytes: int = Field(default=1024**3, ge=1024)
    """Size of one run's input, and of each output that it gets from its subtasks."""
    open_files: int = Field(default=1024, ge=64)
    """Open files of each process of a run."""
    tmp_bytes: int = Field(default=256 * 1024**2, ge=1024**2)
    """Size of a run's own scratch folder, which is memory."""
    temporary_bytes: int = Field(default=10 * 1024**3, ge=1024**2)
    """Size of the temporary volume that the runs of a run_id share; the run that goes over it is ended."""
    free_bytes: int = Field(default=512 * 1024**2, ge=0)
    """Room that must be left on the task folder's disk: below it runs are ended, one after another."""
    temporary_days: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Days after which an unused temporary volume is removed; without it, `vnode clean` does."""
    runs_per_user: int | None = Field(default=None, ge=1)
    """Runs at the same time for one user."""
    runs_per_organization: int | None = Field(default=None, ge=1)
    """Runs at the same time for the users of one organization."""

    def weaknesses(self) -> list[str]:
        """Limits of a run that are wider than the defaults, in words."""
        names = ("memory_bytes", "cpus", "pids", "seconds", "output_bytes", "open_files", "tmp_bytes",
                 "temporary_bytes")  # fmt: skip
        standard = {name: type(self).model_fields[name].default for name in (*names, "free_bytes")}
        return [
            f"limits.{name}: {getattr(self, name):,} instead of {usual:,}"
            for name, usual in standard.items()
            if (getattr(self, name) < usual if name == "free_bytes" else getattr(self, name) > usual)
        ]


class Directories(_Section):
    """Where the node keeps things; below the user's data and log folders unless given."""

    task: Path | None = None
    """Files of runs, while they run; its path must be short, sockets are in it."""
    log: Path | None = None
    """Log files."""
    data: Path | None = None
    """Journal, keys and known organizations."""


class NodeConfig(_Section):
    """Everything under `application:`."""

    name: str = ""
    """Names the node on this machine; the file's name unless given."""
    server_url: str
    """Address of the server's gateway: https://host:port."""
    ca_file: Path | None = None
    """Authorities (PEM) to trust for the server's certificate, instead of the system's."""
    proxy: StrictStr | None = Field(default=None, repr=False)
    """HTTP proxy to the server, http://user:password@host:port; that of the environment (https_proxy, no_proxy) unless
    given, where the password is better kept."""
    api_key: StrictStr | None = Field(default=None, repr=False)
    """Secret shown when the node was registered; better in api_key_file, or in VANTAGE6_NODE_API_KEY."""
    api_key_file: Path | None = None
    """File with the API key."""
    private_key: Path | None = None
    """The organization's key pair; one in the data folder, made when the server has none, unless given."""
    encrypted: bool = True
    """Whether the collaboration is encrypted; false lets plain text in and out, if the server says so too."""
    databases: dict[str, Database] = {}
    """The site's data sources by label; algorithms get those that the task names."""
    policy: PolicySection = PolicySection()
    """What may run here."""
    runtime: str = "docker"
    """What runs algorithms: docker, sandbox, or one of another package."""
    runtime_options: dict[str, Any] = Field(default={}, repr=False)
    """Settings of the runtime; those of docker and sandbox are below."""
    isolation: Literal["socket", "network"] = "socket"
    """How a run reaches its proxy: a Unix socket and no network, or TCP inside the node's private network."""
    hardening: Hardening = Hardening()
    """What a run's container may; every weakening is logged at the start."""
    limits: LimitsSection = LimitsSection()
    """What runs may use."""
    directories: Directories = Directories()
    """Where the node keeps things."""
    monitoring: Annotated[str, StringConstraints(pattern=rf"^$|{ADDRESS}")] = ""
    """Where metrics and health are shown, such as 127.0.0.1:9102; nowhere unless given, or in VANTAGE6_MONITORING."""
    trust: Literal["first_use", "pinned"] = "first_use"
    """`first_use` pins an organization's key when it is first seen; `pinned` takes known keys only."""
    share_logs: bool = False
    """Whether what algorithms print goes to the researcher, while they run and at their end; sealed as results are."""
    share_errors: bool = False
    """Whether exceptions keep their texts, which may hold values from the data, in what `share_logs` sends."""

    _instance: str = PrivateAttr(default="")
    _own_places: frozenset[str] = PrivateAttr(default=frozenset())

    @field_validator("name")
    @classmethod
    def _name_is_harmless(cls, value: str) -> str:
        if not NAME.fullmatch(value):
            raise ValueError("use letters, digits, '.', '_' and '-' only, at most 63; it names files and containers")
        return value

    @field_validator("server_url")
    @classmethod
    def _address(cls, value: str) -> str:
        try:
            Endpoint(value).target  # noqa: B018
        except InvalidArgument as error:
            raise ValueError(error.message) from error
        return value

    @field_validator("proxy")
    @classmethod
    def _proxy(cls, value: str | None) -> str | None:
        try:
            return check_proxy(value) if value else value
        except InvalidArgument as error:
            raise ValueError(error.message) from error

    @field_validator("databases")
    @classmethod
    def _labels(cls, value: dict[str, Database]) -> dict[str, Database]:
        for label in value:
            if not LABEL.fullmatch(label):
                raise ValueError(f"label {label!r}: use letters, digits, '_' and '-', beginning with a letter")
        variables = [label.upper().replace("-", "_") for label in value]
        if len(set(variables)) < len(variables):
            raise ValueError("two labels would give the same environment variable; name them apart")
        return value

    @model_validator(mode="after")
    def _one_api_key(self) -> NodeConfig:
        if self.api_key and self.api_key_file:
            raise ValueError("give either api_key or api_key_file, not both")
        return self

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.server_url, self.ca_file, self.proxy or "")

    def weaknesses(self) -> list[str]:
        """What of the hardening is weaker, and which limits are wider, than the defaults; for log, audit and list."""
        boxed = ["runtime: sandbox has no seccomp profile, no limit of processors, and one of memory by process only"]
        return [*(boxed if self.runtime == "sandbox" else ()), *self.hardening.weaknesses(), *self.limits.weaknesses()]

    @property
    def instance(self) -> str:
        """Tells the node from all others on the machine: its containers, volume and network carry it."""
        return self._instance or self.name

    def tell_apart(self, instance: str) -> None:
        self._instance = instance

    @property
    def own_places(self) -> frozenset[str]:
        """Which of `directories` the file names; the others follow from where it is."""
        return self._own_places

    @property
    def data_dir(self) -> Path:
        return self.directories.data or folders(Kind.NODE, Scope.USER).data / self.name

    @property
    def task_dir(self) -> Path:
        return self.directories.task or self.data_dir / "tasks"

    @property
    def log_dir(self) -> Path:
        return self.directories.log or folders(Kind.NODE, Scope.USER).log / self.name

    @property
    def private_key_file(self) -> Path:
        return self.private_key or self.data_dir / "private_key.pem"

    def read_api_key(self) -> str:
        """The API key from the file, the configuration or the environment."""
        if self.api_key_file:
            try:
                return self.api_key_file.read_text(encoding="utf-8").strip()
            except (OSError, ValueError) as error:
                why = getattr(error, "strerror", None) or "it is no path, or no text"
                raise ConfigError(f"api_key_file: {self.api_key_file} cannot be read: {why}") from error
        key = self.api_key or os.environ.get(API_KEY_VARIABLE, "")
        if not key:
            raise ConfigError(
                f"node {self.name!r} has no API key: set api_key_file (or api_key) in its configuration, or the "
                f"environment variable {API_KEY_VARIABLE}; the key is shown when the node is registered at the server"
            )
        return key


def load_config(path: Path) -> NodeConfig:
    """Reads `application:` of a configuration file; relative paths in it are relative to its folder."""
    return load_context(find(Kind.NODE, config=path, environment=APPLICATION))


def load_context(context: Context) -> NodeConfig:
    """The node's settings; what the file leaves open follows from where it is."""
    config = settings_of(context.document, context.environment)
    try:
        config = _absolute(config, context.path.resolve().parent)
    except (RuntimeError, ValueError) as error:  # ~name for a user that is none; a NUL.
        raise ConfigError(f"{context.path}: a path in it cannot be: {error}") from error
    name = config.name or check_name(context.name)
    places = config.directories
    standard = context.folders(name)
    data = places.data or standard.data
    settled = Directories(task=places.task or data / "tasks", log=places.log or standard.log, data=data)
    monitoring = config.monitoring or os.environ.get(MONITORING_VARIABLE, "")
    settled_config = config.model_copy(update={"name": name, "directories": settled, "monitoring": monitoring})
    # With a file of one's own, the name in it is enough; those in the folders may share a name with the other scope.
    instance = name if context.by_file else f"{name}-{context.scope}"
    # Environments of one file are nodes of other servers: volume, network and runs of one are not the other's.
    own = "" if context.environment == APPLICATION else f".{context.environment}"
    settled_config._own_places = frozenset(key for key, value in places if value is not None)  # noqa: SLF001
    settled_config.tell_apart(instance + own)
    if told := os.environ.get(INSIDE_VARIABLE):
        from vantage6.node.dockerized import as_seen_inside  # noqa: PLC0415 - it stands on this module

        return as_seen_inside(settled_config, told)
    return settled_config


def settings_of(document: Document, environment: str) -> NodeConfig:
    """One environment as it stands in the file, with what the runtime's own options must be."""
    config = validate(document, environment, NodeConfig)
    model = OPTIONS.get(config.runtime)
    if model is not None and config.runtime_options:
        place = (*document.place(environment), "runtime_options")
        validate_at(document, place, config.runtime_options, model)
    return config


def _absolute(config: NodeConfig, folder: Path) -> NodeConfig:
    def resolve(path: Path | None) -> Path | None:
        return folder / path.expanduser() if path else None

    places = config.directories
    return config.model_copy(
        update={
            "ca_file": resolve(config.ca_file),
            "api_key_file": resolve(config.api_key_file),
            "private_key": resolve(config.private_key),
            "runtime_options": _absolute_options(config.runtime_options, folder),
            "hardening": config.hardening.in_folder(folder),
            "policy": config.policy.model_copy(
                update={"signatures": [folder / path.expanduser() for path in config.policy.signatures]}
            ),
            "directories": Directories(task=resolve(places.task), log=resolve(places.log), data=resolve(places.data)),
            "databases": {
                label: item if "://" in item.uri else item.model_copy(update={"uri": str(resolve(Path(item.uri)))})
                for label, item in config.databases.items()
            },
        }
    )


def _absolute_options(options: dict[str, Any], folder: Path) -> dict[str, Any]:
    files = {key: folder / path.expanduser() for key, path in files_of(options).items()}
    return {
        key: str(folder / Path(value).expanduser()) if key.endswith("_folder") and isinstance(value, str) else value
        for key, value in rewritten(options, files).items()
    }
