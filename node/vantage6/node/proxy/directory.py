"""The organizations of the run's collaboration, asked of the server once and again when somebody is missing."""

from __future__ import annotations

from collections.abc import Iterable

from vantage6.api.v1.organization_pb2 import ListOrganizationsRequest, Organization
from vantage6.api.v1.organization_pb2_grpc import OrganizationServiceStub
from vantage6.common.errors import InvalidArgument
from vantage6.node.proxy.run import ProxiedRun
from vantage6.node.retry import reached


class Directory:
    """Who takes part, by id."""

    def __init__(self, run: ProxiedRun) -> None:
        self._run = run
        self._stub = OrganizationServiceStub(run.channel)
        self._members: dict[int, Organization] = {}

    async def members(self) -> list[Organization]:
        """All of them, as the server says now."""
        self._members = await reached(self._ask)
        return list(self._members.values())

    async def find(self, ids: Iterable[int]) -> dict[int, Organization]:
        """Those with these ids, with their public keys where the collaboration is encrypted."""
        wanted = set(ids)
        if not all(self._usable(id_) for id_ in wanted):
            await self.members()
        if unknown := sorted(wanted - set(self._members)):
            named = ", ".join(map(str, unknown[:10])) + (", …" if len(unknown) > 10 else "")
            raise InvalidArgument(f"organization_ids: not in this collaboration: {named}", field="organization_ids")
        return {id_: self._members[id_] for id_ in wanted}

    def _usable(self, id_: int) -> bool:
        member = self._members.get(id_)
        return member is not None and (bool(member.public_key) or not self._run.sealer.encrypted)

    async def _ask(self) -> dict[int, Organization]:
        request = ListOrganizationsRequest(collaboration_id=self._run.assignment.collaboration_id)
        answers = self._stub.ListOrganizations(request, metadata=self._run.metadata)
        return {organization.id: organization async for organization in answers}
