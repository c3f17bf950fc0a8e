"""SystemService."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import structlog
from google.api.httpbody_pb2 import HttpBody

from vantage6.api.v1 import system_pb2, system_pb2_grpc
from vantage6.common.errors import PermissionDenied, Unavailable
from vantage6.server import CONTRACT_VERSION, __version__
from vantage6.server.domain.caller import (
    Anonymous,
    Caller,
    ContainerCaller,
    NodeCaller,
    Operation,
    Resource,
    UserCaller,
    current_call,
)
from vantage6.server.domain.permissions import scope_of
from vantage6.server.openapi import document_bytes
from vantage6.server.openapi_page import page_bytes
from vantage6.server.rpc.links import API, collection, link, moment, value

if TYPE_CHECKING:
    from vantage6.server.domain.nodes import NodeRules
    from vantage6.server.rpc.pages import Context
    from vantage6.server.store.tables import Node

log = structlog.get_logger(__name__)

Check = Callable[[], Awaitable[bool]]
"""Whether one thing that the server cannot do without answers."""


class SystemServicer(system_pb2_grpc.SystemServiceServicer):
    def __init__(self, nodes: NodeRules, checks: dict[str, Check]) -> None:
        self._nodes = nodes
        self._checks = checks

    async def GetVersion(self, request: system_pb2.GetVersionRequest, context: Context) -> system_pb2.Version:
        return system_pb2.Version(version=__version__, contract_version=CONTRACT_VERSION)

    async def GetHealth(self, request: system_pb2.GetHealthRequest, context: Context) -> system_pb2.Health:
        for name, check in self._checks.items():
            if not await _answers(name, check):
                raise Unavailable(f"The {name} does not answer.", part=name)
        return system_pb2.Health(status="ok")

    async def GetStats(self, request: system_pb2.GetStatsRequest, context: Context) -> system_pb2.Stats:
        caller = current_call().caller
        if isinstance(caller, ContainerCaller):
            raise PermissionDenied("Only users and nodes may see this.")
        stats = system_pb2.Stats()
        for state in await self._nodes.states(caller):
            entry = stats.collaborations.add(id=state.row.id, name=state.row.name)
            entry.nodes.extend(_node(node) for node in state.nodes)
        return stats

    async def GetEntryPoint(self, request: system_pb2.GetEntryPointRequest, context: Context) -> system_pb2.EntryPoint:
        caller = current_call().caller
        entry = system_pb2.EntryPoint(link=value({"link": API, "methods": ["GET"]}))
        paths = {name: ["GET"] for name in ("version", "health", "openapi.json", "docs")}
        paths |= {name: ["POST"] for name in ("token/user", "token/node", "token/refresh")}
        paths |= {name: ["POST"] for name in ("recover/lost", "recover/reset")}
        if not isinstance(caller, Anonymous):
            for resource in Resource:
                if methods := _methods(resource):
                    paths[resource.value] = methods
            paths |= _more_of(caller)
        for path, methods in paths.items():
            entry.links.fields[path].CopyFrom(collection(path, methods))
        return entry

    async def GetOpenApi(self, request: system_pb2.GetOpenApiRequest, context: Context) -> HttpBody:
        return HttpBody(content_type="application/json", data=document_bytes())

    async def GetDocs(self, request: system_pb2.GetDocsRequest, context: Context) -> HttpBody:
        return HttpBody(content_type="text/html; charset=utf-8", data=page_bytes())


async def _answers(name: str, check: Check) -> bool:
    try:
        return await check()
    except Exception:
        log.exception("health check failed", part=name)
        return False


def _more_of(caller: Caller) -> dict[str, list[str]]:
    """What hangs on the kind of caller and not on its rules."""
    match caller:
        case UserCaller():
            second = {f"second_factor{path}": ["POST"] for path in ("", "/confirm", "/delete")}
            more = {"stats": ["GET"], "rule": ["GET"], "session": ["GET"], "token": ["DELETE"], **second}
            # Payloads are of a collaboration that the own organization is in.
            makes = bool(caller.collaboration_ids) and scope_of(caller, Resource.TASK, Operation.CREATE) is not None
            return more | ({"payload": ["POST"]} if makes else {})
        case NodeCaller():
            return {"stats": ["GET"], "token": ["DELETE"], "token/container": ["POST"], "payload": ["POST"]}
        case _:
            return {"payload": ["POST"]}


def _methods(resource: Resource) -> list[str]:
    caller = current_call().caller
    methods = []
    # Every user may look at the default roles.
    roles = resource is Resource.ROLE and isinstance(caller, UserCaller)
    if roles or scope_of(caller, resource, Operation.VIEW) is not None:
        methods.append("GET")
    # Results come into being with their task, and events by themselves.
    created = resource not in {Resource.RESULT, Resource.EVENT, Resource.AUDIT}
    if created and scope_of(caller, resource, Operation.CREATE) is not None:
        methods.append("POST")
    return methods


def _node(row: Node) -> system_pb2.NodeStats:
    organization = row.organization_id
    return system_pb2.NodeStats(
        id=row.id,
        name=row.name,
        status="online" if row.online else "offline",
        last_seen=moment(row.last_seen),
        organization=link(
            Resource.ORGANIZATION,
            organization,
            current_call(),
            organization_id=organization,
            collaboration_ids=[row.collaboration_id],
        ),
    )
