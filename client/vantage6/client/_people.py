"""Users and roles: who may do what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vantage6.client import _contract as v1
from vantage6.client._models import Role, Rule, User
from vantage6.client._parties import Noun, new_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence


class Users(Noun):
    """People with a password."""

    async def get(self, id: int) -> User:  # noqa: A002
        return User.read(await self._session.ask(self._session.users.GetUser, v1.user_pb2.GetUserRequest(id=id)))

    async def list(self, organization: int | None = None, username: str | None = None) -> AsyncIterator[User]:
        request = v1.user_pb2.ListUsersRequest(organization_id=organization, username=username)
        async for each in self._session.stream(self._session.users.ListUsers, request):
            yield User.read(each)

    async def create(
        self,
        username: str,
        email: str,
        password: str,
        *,
        organization: int | None = None,
        roles: Sequence[str] = (),
        firstname: str = "",
        lastname: str = "",
    ) -> User:
        """Creates a user, in the own organization unless told which, with roles by their names."""
        request = v1.user_pb2.CreateUserRequest(
            username=username,
            email=email,
            password=password,
            firstname=firstname,
            lastname=lastname,
            roles=",".join(roles),
            organization_id=organization,
            idempotency_key=new_key(),
        )
        return User.read(await self._session.ask(self._session.users.CreateUser, request))

    async def update(
        self,
        id: int,  # noqa: A002
        *,
        username: str | None = None,
        email: str | None = None,
        password: str | None = None,
        current_password: str | None = None,
        roles: Sequence[str] | None = None,
        firstname: str | None = None,
        lastname: str | None = None,
        organization: int | None = None,
    ) -> User:
        """Changes what is given. Who changes the own password gives the current one too."""
        request = v1.user_pb2.UpdateUserRequest(
            id=id,
            username=username,
            email=email,
            password=password,
            current_password=current_password,
            firstname=firstname,
            lastname=lastname,
            roles=None if roles is None else ",".join(roles),
            organization_id=organization,
        )
        return User.read(await self._session.ask(self._session.users.UpdateUser, request))

    async def delete(self, id: int) -> None:  # noqa: A002
        await self._session.ask(self._session.users.DeleteUser, v1.user_pb2.DeleteUserRequest(id=id))


class Roles(Noun):
    """Named bundles of rules."""

    async def get(self, id: int) -> Role:  # noqa: A002
        return Role.read(await self._session.ask(self._session.roles.GetRole, v1.role_pb2.GetRoleRequest(id=id)))

    async def list(self, organization: int | None = None) -> AsyncIterator[Role]:
        request = v1.role_pb2.ListRolesRequest(organization_id=organization)
        async for each in self._session.stream(self._session.roles.ListRoles, request):
            yield Role.read(each)

    async def create(
        self, name: str, rules: Sequence[Rule], description: str = "", organization: int | None = None
    ) -> Role:
        request = v1.role_pb2.CreateRoleRequest(
            name=name,
            description=description,
            rules=_rules(rules),
            organization_id=organization,
            idempotency_key=new_key(),
        )
        return Role.read(await self._session.ask(self._session.roles.CreateRole, request))

    async def update(
        self,
        id: int,  # noqa: A002
        name: str | None = None,
        description: str | None = None,
        rules: Sequence[Rule] = (),
    ) -> Role:
        """Changes what is given; `rules` replace those that the role has."""
        request = v1.role_pb2.UpdateRoleRequest(id=id, name=name, description=description, rules=_rules(rules))
        return Role.read(await self._session.ask(self._session.roles.UpdateRole, request))

    async def delete(self, id: int) -> None:  # noqa: A002
        await self._session.ask(self._session.roles.DeleteRole, v1.role_pb2.DeleteRoleRequest(id=id))

    async def rules(self) -> AsyncIterator[Rule]:
        """Every rule that there is."""
        async for each in self._session.stream(self._session.roles.ListRules, v1.role_pb2.ListRulesRequest()):
            yield Rule.read(each)


def _rules(rules: Sequence[Rule]) -> list[v1.role_pb2.Rule]:
    return [v1.role_pb2.Rule(resource=rule.resource, operation=rule.operation, scope=rule.scope) for rule in rules]
