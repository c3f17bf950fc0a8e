"""RoleService."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vantage6.api.v1 import role_pb2 as pb
from vantage6.api.v1 import role_pb2_grpc
from vantage6.server.domain.caller import current_call
from vantage6.server.domain.permissions import require_user
from vantage6.server.domain.roles import RuleText, all_rules
from vantage6.server.rpc.convert import role_message
from vantage6.server.rpc.pages import Context, page_of, stream
from vantage6.server.rpc.requests import given, repeatable
from vantage6.server.store.accounts import RoleFilter
from vantage6.server.store.pages import Slice

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from vantage6.server.domain.roles import RoleRules


class RoleServicer(role_pb2_grpc.RoleServiceServicer):
    def __init__(self, roles: RoleRules) -> None:
        self._roles = roles

    async def GetRole(self, request: pb.GetRoleRequest, context: Context) -> pb.Role:
        call = current_call()
        return role_message(await self._roles.get(call.caller, request.id, relations=call.rest))

    async def ListRoles(self, request: pb.ListRolesRequest, context: Context) -> AsyncIterator[pb.Role]:
        call, page = current_call(), page_of(request, "name")
        wanted = RoleFilter(given(request, "organization_id"), given(request, "name"))
        found = await self._roles.find(call.caller, page, wanted, relations=call.rest)
        async for message in stream(context, page, found, role_message):
            yield message

    async def CreateRole(self, request: pb.CreateRoleRequest, context: Context) -> pb.Role:
        made = await self._roles.create(
            current_call().caller,
            request.name,
            request.description,
            _texts(request.rules),
            given(request, "organization_id"),
            repeatable(request),
        )
        return role_message(made)

    async def UpdateRole(self, request: pb.UpdateRoleRequest, context: Context) -> pb.Role:
        view = await self._roles.update(
            current_call().caller,
            request.id,
            given(request, "name"),
            given(request, "description"),
            [] if request.clear_rules else _texts(request.rules) or None,
        )
        return role_message(view)

    async def DeleteRole(self, request: pb.DeleteRoleRequest, context: Context) -> pb.DeleteRoleResponse:
        await self._roles.delete(current_call().caller, request.id)
        return pb.DeleteRoleResponse(msg=f"Role {request.id} was deleted.")

    async def ListRules(self, request: pb.ListRulesRequest, context: Context) -> AsyncIterator[pb.Rule]:
        require_user(current_call().caller)
        page, rules = page_of(request), all_rules()
        if page.number is None or page.size is None:
            found = Slice(rules)
        else:
            start = (page.number - 1) * page.size
            found = Slice(rules[start : start + page.size], len(rules))
        async for message in stream(context, page, found, _rule):
            yield message


def _texts(rules: Iterable[pb.Rule]) -> list[RuleText]:
    return [(rule.resource, rule.operation, rule.scope) for rule in rules]


def _rule(rule: RuleText) -> pb.Rule:
    resource, operation, scope = rule
    return pb.Rule(resource=resource, operation=operation, scope=scope)
