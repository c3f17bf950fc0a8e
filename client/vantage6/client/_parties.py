"""Organizations, collaborations and nodes: who takes part."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from vantage6.client import _contract as v1
from vantage6.client._models import Collaboration, Node, Organization

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from vantage6.client._session import Session


def new_key() -> str:
    """Names a creating call, so that a repetition after a lost answer creates nothing twice."""
    return uuid.uuid4().hex


class Noun:
    """What the groups of calls have in common."""

    def __init__(self, session: Session) -> None:
        self._session = session


class Organizations(Noun):
    """The parties that hold data, ask questions, or both."""

    async def get(self, id: int) -> Organization:  # noqa: A002
        request = v1.organization_pb2.GetOrganizationRequest(id=id)
        return Organization.read(await self._session.ask(self._session.organizations.GetOrganization, request))

    async def list(self, collaboration: int | None = None, name: str | None = None) -> AsyncIterator[Organization]:
        request = v1.organization_pb2.ListOrganizationsRequest(collaboration_id=collaboration, name=name)
        async for each in self._session.stream(self._session.organizations.ListOrganizations, request):
            yield Organization.read(each)

    async def create(
        self,
        name: str,
        *,
        domain: str = "",
        address1: str = "",
        address2: str = "",
        zipcode: str = "",
        country: str = "",
    ) -> Organization:
        request = v1.organization_pb2.CreateOrganizationRequest(
            name=name,
            domain=domain,
            address1=address1,
            address2=address2,
            zipcode=zipcode,
            country=country,
            idempotency_key=new_key(),
        )
        return Organization.read(await self._session.ask(self._session.organizations.CreateOrganization, request))

    async def update(
        self,
        id: int,  # noqa: A002
        *,
        name: str | None = None,
        domain: str | None = None,
        address1: str | None = None,
        address2: str | None = None,
        zipcode: str | None = None,
        country: str | None = None,
        public_key: bytes | None = None,
    ) -> Organization:
        """Changes what is given and leaves the rest."""
        request = v1.organization_pb2.UpdateOrganizationRequest(
            id=id,
            name=name,
            domain=domain,
            address1=address1,
            address2=address2,
            zipcode=zipcode,
            country=country,
            public_key=public_key,
        )
        return Organization.read(await self._session.ask(self._session.organizations.UpdateOrganization, request))

    async def delete(self, id: int) -> None:  # noqa: A002
        request = v1.organization_pb2.DeleteOrganizationRequest(id=id)
        await self._session.ask(self._session.organizations.DeleteOrganization, request)


class Collaborations(Noun):
    """Groups of organizations that analyse data together."""

    async def get(self, id: int) -> Collaboration:  # noqa: A002
        request = v1.collaboration_pb2.GetCollaborationRequest(id=id)
        return Collaboration.read(await self._session.ask(self._session.collaborations.GetCollaboration, request))

    async def list(self, organization: int | None = None, name: str | None = None) -> AsyncIterator[Collaboration]:
        request = v1.collaboration_pb2.ListCollaborationsRequest(organization_id=organization, name=name)
        async for each in self._session.stream(self._session.collaborations.ListCollaborations, request):
            yield Collaboration.read(each)

    async def create(self, name: str, organizations: Sequence[int], *, encrypted: bool = True) -> Collaboration:
        request = v1.collaboration_pb2.CreateCollaborationRequest(
            name=name, organization_ids=organizations, encrypted=encrypted, idempotency_key=new_key()
        )
        return Collaboration.read(await self._session.ask(self._session.collaborations.CreateCollaboration, request))

    async def update(
        self,
        id: int,  # noqa: A002
        name: str | None = None,
        organizations: Sequence[int] = (),
    ) -> Collaboration:
        """Changes the name, or replaces the members; what is not given stays."""
        request = v1.collaboration_pb2.UpdateCollaborationRequest(id=id, name=name, organization_ids=organizations)
        return Collaboration.read(await self._session.ask(self._session.collaborations.UpdateCollaboration, request))

    async def delete(self, id: int) -> None:  # noqa: A002
        """Deletes it with its nodes, tasks, results and payloads."""
        request = v1.collaboration_pb2.DeleteCollaborationRequest(id=id)
        await self._session.ask(self._session.collaborations.DeleteCollaboration, request)

    async def add_organization(self, id: int, organization: int) -> Collaboration:  # noqa: A002
        request = v1.collaboration_pb2.AddCollaborationOrganizationRequest(collaboration_id=id, id=organization)
        method = self._session.collaborations.AddCollaborationOrganization
        return Collaboration.read(await self._session.ask(method, request))

    async def remove_organization(self, id: int, organization: int) -> Collaboration:  # noqa: A002
        request = v1.collaboration_pb2.RemoveCollaborationOrganizationRequest(collaboration_id=id, id=organization)
        method = self._session.collaborations.RemoveCollaborationOrganization
        return Collaboration.read(await self._session.ask(method, request))


class Nodes(Noun):
    """The data stations' workers, one per organization and collaboration."""

    async def get(self, id: int) -> Node:  # noqa: A002
        return Node.read(await self._session.ask(self._session.nodes.GetNode, v1.node_pb2.GetNodeRequest(id=id)))

    async def list(
        self,
        collaboration: int | None = None,
        organization: int | None = None,
        online: bool | None = None,
        name: str | None = None,
    ) -> AsyncIterator[Node]:
        request = v1.node_pb2.ListNodesRequest(
            collaboration_id=collaboration, organization_id=organization, online=online, name=name
        )
        async for each in self._session.stream(self._session.nodes.ListNodes, request):
            yield Node.read(each)

    async def create(self, collaboration: int, organization: int | None = None, name: str = "") -> Node:
        """Registers a node. Its `api_key` is in this answer and nowhere else."""
        request = v1.node_pb2.CreateNodeRequest(
            collaboration_id=collaboration, organization_id=organization, name=name, idempotency_key=new_key()
        )
        return Node.read(await self._session.ask(self._session.nodes.CreateNode, request))

    async def update(self, id: int, name: str | None = None) -> Node:  # noqa: A002
        request = v1.node_pb2.UpdateNodeRequest(id=id, name=name)
        return Node.read(await self._session.ask(self._session.nodes.UpdateNode, request))

    async def delete(self, id: int) -> None:  # noqa: A002
        await self._session.ask(self._session.nodes.DeleteNode, v1.node_pb2.DeleteNodeRequest(id=id))

    async def reset_api_key(self, id: int) -> Node:  # noqa: A002
        """Makes a new API key, which is in this answer only; the old one stops working at once."""
        request = v1.node_pb2.ResetNodeApiKeyRequest(id=id)
        return Node.read(await self._session.ask(self._session.nodes.ResetNodeApiKey, request))
