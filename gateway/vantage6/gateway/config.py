"""What an operator says about a gateway; everything else follows from the contract."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vantage6.common.monitoring import ADDRESS, VARIABLE
from vantage6.common.settings import APPLICATION, load_yaml

MIB = 1024 * 1024
SERVERS_ADDRESS = "127.0.0.1:5001"
SERVERS_FIRST = "prod"
"""The environment that a server takes when none is named, if the file has it."""
Address = Annotated[str, Field(pattern=r"^(\[[0-9a-fA-F:.]+\]|[^:\s\[\]]+):\d{1,5}$")]


def split_address(address: str) -> tuple[str, int]:
    """`host:port` or `[ipv6]:port` as its two parts."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


class Tls(BaseModel):
    """PEM files of the certificate (with its chain) and its key; both are read when the gateway starts."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    certificate: Path
    """The certificate, with its chain (PEM)."""
    key: Path
    """Its key (PEM)."""


class GatewayConfig(BaseModel):
    """A gateway: where it listens, which servers stand behind it, and its limits."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    listen: Address = "127.0.0.1:8443"
    """Where callers reach it, as host:port; port 0 takes a free one."""
    servers: Annotated[tuple[Address, ...], Field(min_length=1)] = (SERVERS_ADDRESS,)
    """Replicas of the server, which speak HTTP/2 without TLS: keep them on the same machine or a private network."""
    tls: Tls | None = None
    """The certificate that callers see."""
    plaintext: bool = False
    """Must be said by those who want no TLS: tokens and data are readable on the way then."""
    cors_origins: tuple[str, ...] = ()
    """Web pages from these origins (`https://host[:port]`) may call the REST interface; `*` is not possible."""
    descriptors: Path = Path(str(files("vantage6.api.v1"))) / "descriptors.binpb"
    """The contract that REST calls are translated by; no need to change it."""
    trusted_proxies: Annotated[int, Field(ge=0)] = 0
    """How many proxies in front of this one may say, in x-forwarded-for, who the caller is."""

    max_body_bytes: Annotated[int, Field(ge=1024)] = 16 * MIB
    """Of a REST request; payload content is not limited here but by the size that was announced to the server."""
    max_response_bytes: Annotated[int, Field(ge=1024)] = 64 * MIB
    """Of one resource in a REST answer; lists and payload content are streamed and not limited."""
    max_header_kib: Annotated[int, Field(ge=4, le=8192)] = 32
    """Of a request's headers."""
    header_seconds: Annotated[int, Field(ge=1)] = 10
    """How long a request's headers may take, and a TLS handshake."""
    requests_per_second: Annotated[int, Field(ge=0, le=1_000_000)] = 200
    """From one address (of IPv6: one /64), REST and gRPC together; 0 for any number. Nodes' streams do not count."""
    request_burst: Annotated[int, Field(ge=1, le=1_000_000)] = 2_000
    """So many at once from an address that was silent before."""
    max_connections: Annotated[int, Field(ge=1)] = 50_000
    """At the same time, from everywhere."""
    max_streams_per_connection: Annotated[int, Field(ge=1, le=2**31 - 1)] = 2_000
    """Calls at the same time on one connection."""
    rest_idle_seconds: Annotated[int, Field(ge=1)] = 300
    """A REST call without a byte for so long ends; gRPC streams and events may be silent for ever."""
    rest_seconds: Annotated[int, Field(ge=1)] = 3600
    """A REST call ends after so long, however it goes on; payload content and events do not."""

    monitoring: Annotated[str, Field(pattern=rf"^$|{ADDRESS}")] = ""
    """Where metrics and health are shown, such as 127.0.0.1:9100; nowhere unless given, or in VANTAGE6_MONITORING."""
    access_log: Literal["stdout", "none"] | Path = "stdout"
    """Where each request is noted: `stdout`, `none` or a file."""
    log_level: Literal["debug", "info", "warning", "error"] = "warning"
    """Of Envoy: debug, info, warning or error."""
    workers: Annotated[int, Field(ge=1)] | None = None
    """Threads; one per processor unless given."""
    drain_seconds: Annotated[int, Field(ge=0)] = 0
    """Before it stops, it asks callers so long to go elsewhere. Only of use when there is another gateway."""

    @model_validator(mode="after")
    def _is_safe(self) -> GatewayConfig:
        if self.tls is None and not self.plaintext:
            raise ValueError("tls is missing: give `tls: {certificate: FILE, key: FILE}`, or say `plaintext: true`")
        for origin in self.cors_origins:
            if not origin.startswith(("https://", "http://")) or origin.count("/") != 2 or "*" in origin:
                raise ValueError(f"cors_origins: {origin!r} is not of the form https://host[:port]")
        return self


def load(path: Path, environment: str = "") -> GatewayConfig:
    """Reads a YAML file; relative paths in it are relative to its folder.

    It is the gateway's own, whose keys may stand under `application:`, or the server's: then `gateway:` in it has the
    gateway's settings, and which server stands behind it follows from the server's address.
    """
    document = load_yaml(path)
    there = document.environments()
    if environment or there:
        settings = document.section(environment or (SERVERS_FIRST if SERVERS_FIRST in there else APPLICATION))
    else:
        settings = document.content
    own = settings.get("gateway", settings)
    if own is not settings and isinstance(own, Mapping):
        own = {"servers": [_reachable(str(settings.get("address", SERVERS_ADDRESS)))], **own}
    return _anchored(GatewayConfig.model_validate(own), path.resolve().parent)


def _reachable(address: str) -> str:
    """Where a server that listens at this address is found from the same machine."""
    host, port = split_address(address)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not listened at
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _anchored(config: GatewayConfig, folder: Path) -> GatewayConfig:
    changes: dict[str, object] = {"descriptors": folder / config.descriptors}
    changes["monitoring"] = config.monitoring or os.environ.get(VARIABLE, "")
    if config.tls:
        changes["tls"] = Tls(certificate=folder / config.tls.certificate, key=folder / config.tls.key)
    if isinstance(config.access_log, Path):
        changes["access_log"] = folder / config.access_log
    return config.model_copy(update=changes)
