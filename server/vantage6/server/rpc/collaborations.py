"""CollaborationService."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vantage6.api.v1 import collaboration_pb2 as pb
from vantage6.api.v1 import collaboration_pb2_grpc
from vantage6.server.domain.caller import current_call
from vantage6.server.rpc.convert import collaboration_message
from vantage6.server.rpc.pages import Context, page_of, stream
from vantage6.server.rpc.requests import given, repeatable
from vantage6.server.store.parties import CollaborationFilter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from vantage6.server.domain.parties import CollaborationRules


class CollaborationServicer(collaboration_pb2_grpc.CollaborationServiceServicer):
    def __init__(self, collaborations: CollaborationRules) -> None:
        self._collaborations = collaborations

    async def GetCollaboration(self, request: pb.GetCollaborationRequest, context: Context) -> pb.Collaboration:
        call = current_call()
        return collaboration_message(await self._collaborations.get(call.caller, request.id, relations=call.rest))

    async def ListCollaborations(
        self, request: pb.ListCollaborationsRequest, context: Context
    ) -> AsyncIterator[pb.Collaboration]:
        call, page = current_call(), page_of(request, "name")
        wanted = CollaborationFilter(
            given(request, "organization_id"), given(request, "name"), given(request, "encrypted")
        )
        found = await self._collaborations.find(call.caller, page, wanted, relations=call.rest)
        async for message in stream(context, page, found, collaboration_message):
            yield message

    async def CreateCollaboration(self, request: pb.CreateCollaborationRequest, context: Context) -> pb.Collaboration:
        # Not 201, as other creating calls: programs for 1.x want it so.
        await context.send_initial_metadata((("x-http-code", "200"),))
        made = await self._collaborations.create(
            current_call().caller,
            request.name,
            request.organization_ids,
            encrypted=request.encrypted if request.HasField("encrypted") else True,
            repeatable=repeatable(request),
        )
        return collaboration_message(made)

    async def UpdateCollaboration(self, request: pb.UpdateCollaborationRequest, context: Context) -> pb.Collaboration:
        view = await self._collaborations.update(
            current_call().caller, request.id, given(request, "name"), request.organization_ids
        )
        return collaboration_message(view)

    async def DeleteCollaboration(
        self, request: pb.DeleteCollaborationRequest, context: Context
    ) -> pb.DeleteCollaborationResponse:
        await self._collaborations.delete(current_call().caller, request.id)
        return pb.DeleteCollaborationResponse(msg=f"Collaboration {request.id} was deleted.")

    async def AddCollaborationOrganization(
        self, request: pb.AddCollaborationOrganizationRequest, context: Context
    ) -> pb.Collaboration:
        view = await self._collaborations.add_organization(current_call().caller, request.collaboration_id, request.id)
        return collaboration_message(view)

    async def RemoveCollaborationOrganization(
        self, request: pb.RemoveCollaborationOrganizationRequest, context: Context
    ) -> pb.Collaboration:
        view = await self._collaborations.remove_organization(
            current_call().caller, request.collaboration_id, request.id
        )
        return collaboration_message(view)
