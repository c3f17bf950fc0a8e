"""AuthService."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vantage6.api.v1 import auth_pb2, auth_pb2_grpc
from vantage6.common.errors import InvalidArgument, Unauthenticated
from vantage6.server.domain.caller import UserCaller, current_call
from vantage6.server.interceptors.identity import bearer
from vantage6.server.rpc.links import API
from vantage6.server.rpc.pages import Context, page_of, stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from vantage6.server.domain.accounts import AccountRules, Login
    from vantage6.server.store.tables import Session


class AuthServicer(auth_pb2_grpc.AuthServiceServicer):
    def __init__(self, accounts: AccountRules) -> None:
        self._accounts = accounts

    async def CreateUserToken(
        self, request: auth_pb2.CreateUserTokenRequest, context: Context
    ) -> auth_pb2.TokenResponse:
        for name in ("username", "password"):
            if not getattr(request, name):
                raise InvalidArgument(f"{name}: is required.", field=name)
        return _tokens(await self._accounts.login_user(request.username, request.password, current_call().peer))

    async def CreateNodeToken(
        self, request: auth_pb2.CreateNodeTokenRequest, context: Context
    ) -> auth_pb2.TokenResponse:
        if not request.api_key:
            raise InvalidArgument("api_key: is required.", field="api_key")
        return _tokens(await self._accounts.login_node(request.api_key, current_call().peer))

    async def CreateContainerToken(
        self, request: auth_pb2.CreateContainerTokenRequest, context: Context
    ) -> auth_pb2.CreateContainerTokenResponse:
        if not request.result_id and not request.task_id:
            raise InvalidArgument("result_id: is required.", field="result_id")
        token = await self._accounts.create_container_token(
            current_call().caller, request.result_id, request.task_id, request.image
        )
        return auth_pb2.CreateContainerTokenResponse(container_token=token)

    async def RefreshToken(self, request: auth_pb2.RefreshTokenRequest, context: Context) -> auth_pb2.TokenResponse:
        header = dict(context.invocation_metadata() or ()).get("authorization")
        token = request.refresh_token or bearer(header if isinstance(header, str) else None)
        if not token:
            raise Unauthenticated("refresh_token: is required, here or in the metadata.", field="refresh_token")
        return _tokens(await self._accounts.refresh(token, current_call().peer))

    async def RevokeToken(self, request: auth_pb2.RevokeTokenRequest, context: Context) -> auth_pb2.RevokeTokenResponse:
        await self._accounts.revoke(current_call().caller)
        return auth_pb2.RevokeTokenResponse(msg="The session has ended.")

    async def ListSessions(
        self, request: auth_pb2.ListSessionsRequest, context: Context
    ) -> AsyncIterator[auth_pb2.Session]:
        page = page_of(request)
        found = await self._accounts.list_sessions(current_call().caller, page)
        async for message in stream(context, page, found, _session):
            yield message

    async def DeleteSession(
        self, request: auth_pb2.DeleteSessionRequest, context: Context
    ) -> auth_pb2.DeleteSessionResponse:
        await self._accounts.delete_session(current_call().caller, request.id)
        return auth_pb2.DeleteSessionResponse(msg=f"Session {request.id} has ended.")


def _tokens(login: Login) -> auth_pb2.TokenResponse:
    owner = f"{API}/{login.kind}/{login.owner_id}"
    return auth_pb2.TokenResponse(
        access_token=login.access_token,
        refresh_token=login.refresh_token,
        user_url=owner if login.kind == "user" else None,
        node_url=owner if login.kind == "node" else None,
        refresh_url=f"{API}/token/refresh",
        expires_in=login.expires_in,
    )


def _session(row: Session) -> auth_pb2.Session:
    caller = current_call().caller
    current = isinstance(caller, UserCaller) and caller.session_id == row.id
    message = auth_pb2.Session(id=row.id, ip=row.ip, current=current)
    message.create_time.FromDatetime(row.created_at)
    message.last_used_time.FromDatetime(row.last_used_at)
    return message
