"""What the gateway takes from the contract: which services have REST paths, and which paths create something."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from google.api import annotations_pb2, http_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorSet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PACKAGE = "vantage6.api.v1"


@dataclass(frozen=True)
class Binding:
    """One REST path of one RPC."""

    service: str
    rpc: str
    method: str
    path: str
    body: str
    response: str

    @property
    def creates(self) -> bool:
        """POST of a new resource, which HTTP answers with 201. Tokens and confirmations (`*Response`) stay at 200."""
        return self.method == "POST" and self.rpc.startswith("Create") and not self.response.endswith("Response")


def bindings(descriptors: Path) -> list[Binding]:
    """All REST paths of the contract, additional bindings too."""
    files = FileDescriptorSet.FromString(descriptors.read_bytes())
    found: list[Binding] = []
    for file in files.file:
        if file.package != PACKAGE:
            continue
        for service in file.service:
            for method in service.method:
                response = method.output_type.rpartition(".")[2]
                found += [
                    Binding(f"{PACKAGE}.{service.name}", method.name, verb, path, rule.body, response)
                    for rule in _rules(method.options.Extensions[cast("Any", annotations_pb2.http)])
                    for verb, path in [_verb_and_path(rule)]
                    if path
                ]
    return found


def services(found: list[Binding]) -> list[str]:
    """Full names of the services that have a REST path."""
    return sorted({binding.service for binding in found})


def _rules(rule: http_pb2.HttpRule) -> Iterator[http_pb2.HttpRule]:
    yield rule
    yield from rule.additional_bindings


def _verb_and_path(rule: http_pb2.HttpRule) -> tuple[str, str]:
    verb = rule.WhichOneof("pattern")
    if verb is None:
        return "", ""
    if verb == "custom":
        return rule.custom.kind, rule.custom.path
    return verb.upper(), getattr(rule, verb)
