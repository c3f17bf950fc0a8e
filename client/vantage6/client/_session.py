"""A connection and the log-in on it: keeps the access token fresh and turns failures into our own classes."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from vantage6.client import _contract as v1
from vantage6.client._login import Login, LoginFile
from vantage6.common.channel import Endpoint, open_channel
from vantage6.common.errors import Unauthenticated, from_rpc_error

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from grpc import aio

    from vantage6.client._models import Collaboration, Organization

Request = TypeVar("Request")
Answer = TypeVar("Answer")

MARGIN = 0.2
"""An access token is renewed when less than this part of its life is left."""


class Session:
    """One channel, its stubs, and the tokens of one log-in."""

    def __init__(
        self, endpoint: Endpoint, file: LoginFile | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.endpoint = endpoint
        self._file = file
        self._clock = clock
        self._access = ""
        self._refresh = ""
        self._renew_at = 0.0
        self._renewal: asyncio.Task[None] | None = None
        self.seen: dict[int, Organization] = {}
        """Organizations as the server showed them last when a task was created."""
        self.joined: dict[int, Collaboration] = {}
        """Collaborations likewise; whether one is encrypted never changes."""
        self._whoami: dict[str, Any] = {}
        # Log-ins and renewals go without the access token: a stale one must not stand in their way.
        self._bare = open_channel(endpoint)
        self.channel = open_channel(endpoint, token=lambda: self._access)
        self.auth = v1.auth_pb2_grpc.AuthServiceStub(self._bare)
        self.session = v1.auth_pb2_grpc.AuthServiceStub(self.channel)
        self.collaborations = v1.collaboration_pb2_grpc.CollaborationServiceStub(self.channel)
        self.events = v1.event_pb2_grpc.EventServiceStub(self.channel)
        self.nodes = v1.node_pb2_grpc.NodeServiceStub(self.channel)
        self.organizations = v1.organization_pb2_grpc.OrganizationServiceStub(self.channel)
        self.payloads = v1.payload_pb2_grpc.PayloadServiceStub(self.channel)
        self.results = v1.result_pb2_grpc.ResultServiceStub(self.channel)
        self.roles = v1.role_pb2_grpc.RoleServiceStub(self.channel)
        self.system = v1.system_pb2_grpc.SystemServiceStub(self.channel)
        self.tasks = v1.task_pb2_grpc.TaskServiceStub(self.channel)
        self.users = v1.user_pb2_grpc.UserServiceStub(self.channel)

    async def close(self) -> None:
        await self.channel.close()
        await self._bare.close()

    async def log_in(self, username: str, password: str, mfa_code: str | None) -> v1.auth_pb2.TokenResponse:
        request = v1.auth_pb2.CreateUserTokenRequest(username=username, password=password, mfa_code=mfa_code or "")
        try:
            answer = await self.auth.CreateUserToken(request)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None
        self._keep(answer)
        return answer

    async def log_out(self) -> None:
        try:
            await self.ask(self.session.RevokeToken, v1.auth_pb2.RevokeTokenRequest())
        finally:
            self._access = self._refresh = ""
            if self._file is not None:
                await asyncio.to_thread(self._file.remove)

    async def resume(self) -> Login:
        """Goes on with the session that the file holds; Unauthenticated if there is none for this server."""
        found = None if self._file is None else await asyncio.to_thread(self._file.read)
        if found is None or found.url != self.endpoint.url:
            raise Unauthenticated(f"nobody is logged in at {self.endpoint.url} here: log in first")
        self._take(found)
        return found

    async def remember(self, **whoami: Any) -> None:
        """Writes the session to its file, with who it is; nothing without a file."""
        self._whoami = whoami
        if self._file is not None:
            await asyncio.to_thread(self._file.write, self._login())

    def _login(self) -> Login:
        renew_at = time.time() + self._renew_at - self._clock()
        return Login(self.endpoint.url, self._access, self._refresh, renew_at, **self._whoami)

    def _take(self, found: Login) -> None:
        self._access, self._refresh = found.access, found.refresh
        self._renew_at = self._clock() + found.renew_at - time.time()
        names = ("user_id", "username", "organization_id", "organization_name")
        self._whoami = {name: getattr(found, name) for name in names}

    async def ask(self, method: aio.UnaryUnaryMultiCallable[Request, Answer], request: Request) -> Answer:
        """Makes a call. When the server no longer takes the token, the call is made once more with a new one."""
        used = await self.fresh()
        try:
            try:
                return await method(request)
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAUTHENTICATED or not await self.renewed(used):
                    raise
                return await method(request)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None

    async def upload(
        self, method: aio.StreamUnaryMultiCallable[Request, Answer], requests: AsyncIterator[Request]
    ) -> Answer:
        """Makes a call with streamed requests; what broke off is for the caller to resume."""
        await self.fresh()
        try:
            return await method(requests)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None

    async def stream(
        self, method: aio.UnaryStreamMultiCallable[Request, Answer], request: Request
    ) -> AsyncGenerator[Answer, None]:
        """Makes a call with a streamed answer; ending the iteration early ends the call."""
        used = await self.fresh()
        begun = False
        for last in (False, True):
            async with aclosing(self._follow(method(request))) as messages:
                try:
                    async for message in messages:
                        begun = True
                        yield message
                except Unauthenticated:
                    if begun or last or not await self.renewed(used):
                        raise
                else:
                    return

    async def _follow(self, call: aio.UnaryStreamCall[Request, Answer]) -> AsyncGenerator[Answer, None]:
        try:
            async for message in call:
                yield message
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None
        finally:
            call.cancel()

    async def fresh(self) -> str:
        """The access token, renewed first if it is near its end."""
        if self._refresh and self._clock() >= self._renew_at:
            await self.renewed(self._access)
        return self._access

    async def renewed(self, used: str) -> bool:
        """Makes sure that the access token is another one than `used`; False if there is nothing to renew it with.

        A refresh token works once, and using it twice ends the session: everybody waits for one and the same renewal,
        which goes on when who waits is cancelled.
        """
        if self._access != used:
            return True
        if not self._refresh:
            return False
        if self._renewal is None:
            self._renewal = asyncio.create_task(self._renew())
        await asyncio.shield(self._renewal)
        return True

    async def _renew(self) -> None:
        """Other programs that share the file may have used the refresh token already: theirs is taken then."""
        try:
            if self._file is None:
                await self._exchange()
                return
            with await asyncio.to_thread(self._file.lock):
                found = await asyncio.to_thread(self._file.read)
                if found is not None and found.refresh != self._refresh:
                    self._take(found)
                    return
                await self._exchange()
                await asyncio.to_thread(self._file.write, self._login())
        finally:
            self._renewal = None

    async def _exchange(self) -> None:
        request = v1.auth_pb2.RefreshTokenRequest(refresh_token=self._refresh)
        try:
            self._keep(await self.auth.RefreshToken(request))
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                self._refresh = ""
            raise from_rpc_error(error) from None

    def _keep(self, answer: v1.auth_pb2.TokenResponse) -> None:
        self._access = answer.access_token
        self._refresh = answer.refresh_token
        self._renew_at = self._clock() + answer.expires_in * (1 - MARGIN)
