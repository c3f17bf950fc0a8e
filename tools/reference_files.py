"""Writes docs/reference-{node,server,gateway}.yaml: every setting with its meaning, its default or an example.

What is optional is commented out; without the first `#` of those lines the file still loads (a test).
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from vantage6.common.settings import section_of
from vantage6.gateway.config import GatewayConfig
from vantage6.node.config import NodeConfig
from vantage6.node.options import DockerOptions
from vantage6.server.config import ServerConfig

WIDTH = 110
LABELS = {"databases": "default", "runtime_options.registries": "registry.example:443"}
NODE: dict[str, Any] = {
    "name": "north",
    "server_url": "https://server.example:443",
    "ca_file": "server-ca.pem",
    "proxy": "http://proxy.example:3128",
    "api_key": "…",
    "api_key_file": "north.api_key",
    "private_key": "organization.pem",
    "databases.LABEL.uri": "/data/patients.csv",
    "policy.allowed_images": ["registry.example:443/study/.*"],
    "policy.allowed_digests": ["sha256:" + "0" * 64],
    "policy.signatures": ["cosign.pub"],
    "policy.allowed_users": ["ada"],
    "policy.allowed_organizations": ["Hospital North", 2],
    "policy.allowed_databases": ["default"],
    "policy.allowed_methods": ["partial_.*"],
    "policy.min_participants": 3,
    "policy.max_output_bytes": 1048576,
    "policy.max_outputs_per_day": 100,
    "policy.disclosure": [{"rule": "minimum_records", "minimum": 10}],
    "runtime_options.base_url": "unix:///run/user/1000/docker.sock",
    "runtime_options.registries.LABEL.username": "hospital",
    "runtime_options.registries.LABEL.password": "…",
    "runtime_options.registries.LABEL.password_file": "registry.password",
    "runtime_options.registries.LABEL.ca_file": "registry-ca.pem",
    "runtime_options.subnet": "10.77.0.0/24",
    "runtime_options.stall_seconds": 120,
    "hardening.capabilities": [],
    "limits.temporary_days": 30,
    "limits.runs_per_user": 4,
    "limits.runs_per_organization": 4,
    "directories.task": "/var/vantage6/tasks",
    "directories.log": "/var/log/vantage6",
    "directories.data": "/var/vantage6/data",
    "monitoring": "127.0.0.1:9102",
}
SERVER: dict[str, Any] = {
    "uri": "postgresql+asyncpg://vantage6@db.example/vantage6",
    "blobs": "s3://vantage6/payloads",
    "jwt_secret_file": "token.secret",
    "root_password_file": "root.password",
    "mail.host": "mail.example",
    "mail.ca_file": "mail-ca.pem",
    "mail.user": "vantage6",
    "mail.password": "…",
    "mail.password_file": "mail.password",
    "mail.sender": "vantage6@example.org",
    "mail.reset_page": "https://portal.example/reset",
    "monitoring": "127.0.0.1:9101",
    "gateway": {},
}
GATEWAY: dict[str, Any] = {
    "tls.certificate": "certs/server.pem",
    "tls.key": "certs/server.key",
    "cors_origins": ["https://portal.example"],
    "descriptors": "descriptors.binpb",
    "monitoring": "127.0.0.1:9100",
    "workers": 2,
}
INSTEAD = {
    "api_key": "api_key_file",
    "runtime_options.registries.LABEL.password": "password_file",
    "mail.password": "password_file",
}
"""Of two that exclude each other only one can be taken; this one stays a comment."""
PLAIN = {"server_url", "address", "tls", "tls.certificate", "tls.key"}
"""What nobody can do without is not commented out."""
SECTIONS = {"runtime_options": DockerOptions}


def reference_files() -> dict[str, str]:
    """Name and text of each."""
    models: dict[str, tuple[type[BaseModel], dict[str, Any]]] = {
        "node": (NodeConfig, NODE),
        "server": (ServerConfig, SERVER),
        "gateway": (GatewayConfig, GATEWAY),
    }
    return {f"reference-{name}.yaml": _file(name, model, given) for name, (model, given) in models.items()}


def uncommented(text: str) -> str:
    """With all that is optional."""
    return re.sub(r"^  #(?! \S)", "  ", text, flags=re.MULTILINE)


def _file(name: str, model: type[BaseModel], examples: dict[str, Any]) -> str:
    head = (
        f"Every setting of a {name}: what it means, and its default or an example. Made by tools/reference_files.py, "
        "from the same source as docs/configuration.md. Take the first '#' away from the lines that you need; lines "
        "that begin with '# ' are explanations."
    )
    lines = [f"# {line}" for line in textwrap.wrap(head, WIDTH)]
    return "\n".join([*lines, "application:", *_section(model, examples, "", "", hidden=False)]) + "\n"


def _section(
    model: type[BaseModel], examples: dict[str, Any], prefix: str, indent: str, *, hidden: bool
) -> Iterator[str]:
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        inner = SECTIONS.get(key) or section_of(model, (name,))
        off = hidden or key not in PLAIN
        start = f"  #{indent}" if off else f"  {indent}"
        yield from _meaning(field, key, f"  #{indent}# " if hidden else f"  {indent}# ")
        if inner is model:
            value = f"{name}: {_written(examples[key] if key in examples else field.get_default())}"
            yield f"  {'#' if hidden else ''}{indent}# {value}" if key in INSTEAD else f"{start}{value}"
            continue
        yield f"{start}{name}:"
        label = LABELS.get(key)
        if label:
            yield f"{start}  {label}:"
        deeper, below = f"{indent}{'    ' if label else '  '}", f"{key}.{'LABEL.' if label else ''}"
        yield from _section(inner, examples, below, deeper, hidden=off)


def _meaning(field: FieldInfo, key: str, mark: str) -> Iterator[str]:
    text = " ".join((field.description or "").split())
    if key in INSTEAD:
        text = f"Instead of {INSTEAD[key]}: {text}"
    for line in textwrap.wrap(text, WIDTH - len(mark), break_on_hyphens=False, break_long_words=False):
        yield f"{mark}{line}"


def _written(value: Any) -> str:
    if isinstance(value, Path):
        value = str(value)
    if isinstance(value, tuple):
        value = list(value)
    return yaml.safe_dump([value], default_flow_style=True, allow_unicode=True, width=10_000).strip()[1:-1]
