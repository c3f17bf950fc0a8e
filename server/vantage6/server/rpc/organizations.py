"""OrganizationService."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vantage6.api.v1 import organization_pb2 as pb
from vantage6.api.v1 import organization_pb2_grpc
from vantage6.server.domain.caller import current_call
from vantage6.server.rpc.convert import organization_message
from vantage6.server.rpc.pages import Context, page_of, stream
from vantage6.server.rpc.requests import given, present, repeatable
from vantage6.server.store.parties import OrganizationFilter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from vantage6.server.domain.parties import OrganizationRules

TEXTS = ("name", "domain", "address1", "address2", "zipcode", "country")


class OrganizationServicer(organization_pb2_grpc.OrganizationServiceServicer):
    def __init__(self, organizations: OrganizationRules) -> None:
        self._organizations = organizations

    async def GetOrganization(self, request: pb.GetOrganizationRequest, context: Context) -> pb.Organization:
        call = current_call()
        return organization_message(await self._organizations.get(call.caller, request.id, relations=call.rest))

    async def ListOrganizations(
        self, request: pb.ListOrganizationsRequest, context: Context
    ) -> AsyncIterator[pb.Organization]:
        call, page = current_call(), page_of(request, "name")
        wanted = OrganizationFilter(
            given(request, "collaboration_id"), given(request, "name"), given(request, "country"),
            given(request, "domain"),
        )  # fmt: skip
        found = await self._organizations.find(call.caller, page, wanted, relations=call.rest)
        async for message in stream(context, page, found, organization_message):
            yield message

    async def CreateOrganization(self, request: pb.CreateOrganizationRequest, context: Context) -> pb.Organization:
        texts = {name: getattr(request, name) for name in TEXTS}
        made = await self._organizations.create(current_call().caller, texts, request.public_key, repeatable(request))
        return organization_message(made)

    async def UpdateOrganization(self, request: pb.UpdateOrganizationRequest, context: Context) -> pb.Organization:
        key = given(request, "public_key")
        view = await self._organizations.update(current_call().caller, request.id, present(request, TEXTS), key)
        return organization_message(view)

    async def DeleteOrganization(
        self, request: pb.DeleteOrganizationRequest, context: Context
    ) -> pb.DeleteOrganizationResponse:
        await self._organizations.delete(current_call().caller, request.id)
        return pb.DeleteOrganizationResponse(msg=f"Organization {request.id} was deleted.")
