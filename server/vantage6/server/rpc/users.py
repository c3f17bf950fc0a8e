"""UserService."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vantage6.api.v1 import user_pb2 as pb
from vantage6.api.v1 import user_pb2_grpc
from vantage6.server.domain.caller import current_call
from vantage6.server.domain.people import NewUser, UserChange
from vantage6.server.rpc.convert import user_message
from vantage6.server.rpc.pages import Context, page_of, stream
from vantage6.server.rpc.requests import given, present, repeatable, span
from vantage6.server.store.accounts import UserFilter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from vantage6.server.domain.people import UserRules

TEXTS = ("username", "email", "password", "firstname", "lastname")


class UserServicer(user_pb2_grpc.UserServiceServicer):
    def __init__(self, users: UserRules) -> None:
        self._users = users

    async def GetUser(self, request: pb.GetUserRequest, context: Context) -> pb.User:
        return user_message(await self._users.get(current_call().caller, request.id))

    async def ListUsers(self, request: pb.ListUsersRequest, context: Context) -> AsyncIterator[pb.User]:
        page = page_of(request, "username", "last_seen")
        email = given(request, "email")
        wanted = UserFilter(
            given(request, "organization_id"), given(request, "username"), email and email.lower(),
            given(request, "role"), span(request, "last_seen_"),
        )  # fmt: skip
        found = await self._users.find(current_call().caller, page, wanted)
        async for message in stream(context, page, found, user_message):
            yield message

    async def CreateUser(self, request: pb.CreateUserRequest, context: Context) -> pb.User:
        new = NewUser(
            username=request.username,
            email=request.email,
            password=request.password,
            firstname=request.firstname,
            lastname=request.lastname,
            roles=request.roles,
            organization_id=given(request, "organization_id"),
        )
        made = await self._users.create(current_call().caller, new, repeatable(request, secret="password"))  # noqa: S106
        return user_message(made)

    async def UpdateUser(self, request: pb.UpdateUserRequest, context: Context) -> pb.User:
        call = current_call()
        change = UserChange(
            fields=present(request, TEXTS),
            roles=given(request, "roles"),
            organization_id=given(request, "organization_id"),
            current_password=request.current_password,
        )
        return user_message(await self._users.update(call.caller, request.id, change, call.peer))

    async def DeleteUser(self, request: pb.DeleteUserRequest, context: Context) -> pb.DeleteUserResponse:
        await self._users.delete(current_call().caller, request.id)
        return pb.DeleteUserResponse(msg=f"User {request.id} was deleted.")
