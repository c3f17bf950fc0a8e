"""The node's log-in: an access token that is there whenever a call wants one."""

from __future__ import annotations

import time

import grpc

from vantage6.api.v1.auth_pb2 import CreateNodeTokenRequest
from vantage6.api.v1.auth_pb2_grpc import AuthServiceStub
from vantage6.api.v1.delivery_pb2 import TokenRenewal
from vantage6.common.errors import from_rpc_error

_MARGIN = 60.0
"""Seconds before its end at which a token is no longer used for something new."""


class Session:
    """Holds the token; the API key is shown to the server only when no good token is left."""

    def __init__(self, api_key: str) -> None:
        self._api_key = api_key
        self._token = ""
        self._until = 0.0

    def token(self) -> str:
        """The token to send with a call; empty when there is none that the server would still take."""
        return self._token if time.monotonic() < self._until else ""

    async def ensure(self, channel: grpc.aio.Channel) -> None:
        """Logs in unless the token is good for a while."""
        if self._token and time.monotonic() < self._until - min(_MARGIN, self._lifetime / 4):
            return
        self.forget()
        try:
            answer = await AuthServiceStub(channel).CreateNodeToken(CreateNodeTokenRequest(api_key=self._api_key))
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        self._keep(answer.access_token, answer.expires_in)

    def renew(self, renewal: TokenRenewal) -> None:
        """Takes the token that came through the stream."""
        self._keep(renewal.access_token, renewal.expires_in)

    def forget(self) -> None:
        """The server did not take the token."""
        self._token = ""

    def _keep(self, token: str, seconds: int) -> None:
        self._token = token
        self._lifetime = float(seconds or 3600)
        self._until = time.monotonic() + self._lifetime
