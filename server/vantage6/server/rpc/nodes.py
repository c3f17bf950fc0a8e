"""NodeService."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vantage6.api.v1 import node_pb2 as pb
from vantage6.api.v1 import node_pb2_grpc
from vantage6.server.domain.caller import current_call
from vantage6.server.rpc.convert import node_message
from vantage6.server.rpc.pages import Context, page_of, stream
from vantage6.server.rpc.parents import require_parent
from vantage6.server.rpc.requests import given, repeatable, span
from vantage6.server.store.parties import NodeFilter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from vantage6.server.domain.nodes import NodeRules
    from vantage6.server.store.sql import Database


class NodeServicer(node_pb2_grpc.NodeServiceServicer):
    def __init__(self, nodes: NodeRules, database: Database) -> None:
        self._nodes = nodes
        self._database = database

    async def GetNode(self, request: pb.GetNodeRequest, context: Context) -> pb.Node:
        return node_message(await self._nodes.get(current_call().caller, request.id))

    async def ListNodes(self, request: pb.ListNodesRequest, context: Context) -> AsyncIterator[pb.Node]:
        page = page_of(request, "name", "last_seen")
        wanted = NodeFilter(
            given(request, "collaboration_id"), given(request, "organization_id"), given(request, "online"),
            given(request, "name"), span(request, "last_seen_"),
        )  # fmt: skip
        async with self._database.read() as store:
            await require_parent(store, context)
        found = await self._nodes.find(current_call().caller, page, wanted)
        async for message in stream(context, page, found, node_message):
            yield message

    async def CreateNode(self, request: pb.CreateNodeRequest, context: Context) -> pb.Node:
        made = await self._nodes.create(
            current_call().caller,
            request.collaboration_id,
            given(request, "organization_id"),
            request.name,
            repeatable(request),
        )
        return node_message(made)

    async def UpdateNode(self, request: pb.UpdateNodeRequest, context: Context) -> pb.Node:
        return node_message(await self._nodes.update(current_call().caller, request.id, given(request, "name")))

    async def DeleteNode(self, request: pb.DeleteNodeRequest, context: Context) -> pb.DeleteNodeResponse:
        await self._nodes.delete(current_call().caller, request.id)
        return pb.DeleteNodeResponse(msg=f"Node {request.id} was deleted.")

    async def ResetNodeApiKey(self, request: pb.ResetNodeApiKeyRequest, context: Context) -> pb.Node:
        return node_message(await self._nodes.reset_api_key(current_call().caller, request.id))
