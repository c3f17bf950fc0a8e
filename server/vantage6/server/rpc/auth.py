"""AuthService."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vantage6.api.v1 import auth_pb2, auth_pb2_grpc
from vantage6.common.errors import InvalidArgument, Unauthenticated
from vantage6.server.domain.caller import UserCaller, current_call
from vantage6.server.domain.recovery import Lost
from vantage6.server.domain.totp import base32, provisioning_uri
from vantage6.server.interceptors.identity import bearer
from vantage6.server.rpc.links import API, value
from vantage6.server.rpc.pages import Context, page_of, stream
from vantage6.server.rpc.requests import given

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from vantage6.server.domain.accounts import AccountRules, Login
    from vantage6.server.domain.recovery import RecoveryRules
    from vantage6.server.domain.second_factor import SecondFactorRules
    from vantage6.server.store.tables import Session


class AuthServicer(auth_pb2_grpc.AuthServiceServicer):
    def __init__(self, accounts: AccountRules, factors: SecondFactorRules, recovery: RecoveryRules) -> None:
        self._accounts = accounts
        self._factors = factors
        self._recovery = recovery

    async def CreateUserToken(
        self, request: auth_pb2.CreateUserTokenRequest, context: Context
    ) -> auth_pb2.TokenResponse:
        _require(request, "username", "password")
        call = current_call()
        login = await self._accounts.login_user(
            request.username, request.password, call.peer, request.mfa_code, keeps=call.rest
        )
        if call.rest:
            # Where programs for 1.x may look as well.
            await context.send_initial_metadata((("jwt-token", login.access_token),))
        return _tokens(login)

    async def CreateNodeToken(
        self, request: auth_pb2.CreateNodeTokenRequest, context: Context
    ) -> auth_pb2.TokenResponse:
        _require(request, "api_key")
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
        call = current_call()
        # As 1.x does it: in the header, and what comes back is an access token.
        keep = call.rest and not request.refresh_token
        return _tokens(await self._accounts.refresh(token, call.peer, keep=keep))

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

    async def CreateSecondFactor(
        self, request: auth_pb2.CreateSecondFactorRequest, context: Context
    ) -> auth_pb2.SecondFactor:
        _require(request, "password")
        call = current_call()
        secret, username = await self._factors.create(call.caller, request.password, call.peer)
        return auth_pb2.SecondFactor(secret=base32(secret), uri=provisioning_uri(secret, "vantage6", username))

    async def ConfirmSecondFactor(
        self, request: auth_pb2.ConfirmSecondFactorRequest, context: Context
    ) -> auth_pb2.ConfirmSecondFactorResponse:
        _require(request, "mfa_code")
        call = current_call()
        codes = await self._factors.confirm(call.caller, request.mfa_code, call.peer)
        return auth_pb2.ConfirmSecondFactorResponse(recovery_codes=codes)

    async def DeleteSecondFactor(
        self, request: auth_pb2.DeleteSecondFactorRequest, context: Context
    ) -> auth_pb2.DeleteSecondFactorResponse:
        _require(request, "password")
        call = current_call()
        user_id = given(request, "user_id")
        await self._factors.delete(call.caller, user_id, request.password, request.mfa_code, call.peer)
        return auth_pb2.DeleteSecondFactorResponse(msg="The second factor is off.")

    async def LosePassword(
        self, request: auth_pb2.LosePasswordRequest, context: Context
    ) -> auth_pb2.LosePasswordResponse:
        self._recovery.lose(Lost(request.username, request.email), current_call().peer)
        return auth_pb2.LosePasswordResponse(
            msg="If the username or email is in our database you will soon receive an email."
        )

    async def ResetPassword(
        self, request: auth_pb2.ResetPasswordRequest, context: Context
    ) -> auth_pb2.ResetPasswordResponse:
        _require(request, "reset_token", "password")
        await self._recovery.reset(request.reset_token, request.password, current_call().peer)
        return auth_pb2.ResetPasswordResponse(msg="The password has been reset.")


def _require(request: Any, *names: str) -> None:
    for name in names:
        if not getattr(request, name):
            raise InvalidArgument(f"{name}: is required.", field=name)


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
    if current_call().rest:
        message.link.CopyFrom(value({"id": row.id, "link": f"{API}/session/{row.id}", "methods": ["DELETE"]}))
    message.create_time.FromDatetime(row.created_at)
    message.last_used_time.FromDatetime(row.last_used_at)
    return message
