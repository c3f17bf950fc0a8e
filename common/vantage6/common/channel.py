"""Opens gRPC channels: TLS, keep-alive, retries, size limits, and a fresh token on every call."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import grpc

from vantage6.common.errors import InvalidArgument
from vantage6.common.proxies import proxy_for

MAX_MESSAGE = 16 * 1024 * 1024
"""Bytes of one message; payloads over 64 KiB travel in chunks, so this bounds lists and subtask requests."""

# Below the idle time-outs of common proxies (60 s); the server permits one ping in 10 s.
KEEPALIVE_MS = 20_000
KEEPALIVE_TIMEOUT_MS = 10_000

_RETRIES = json.dumps({
    "methodConfig": [{
        # Uploads go on at their offset by themselves. A retry by gRPC at the moment at which a piece is sent ends the
        # whole process (1.85, "ILLEGAL STATE: FORWARDED_BATCH").
        "name": [{"service": "vantage6.api.v1.PayloadService", "method": "WritePayload"}],
    }, {
        # What these answer is shown once. Sent again after a lost answer, a refresh token looks stolen and ends its
        # session, and recovery codes are gone with the first answer.
        "name": [
            {"service": "vantage6.api.v1.AuthService", "method": method}
            for method in ("RefreshToken", "ConfirmSecondFactor")
        ],
    }, {
        "name": [{}],
        "retryPolicy": {
            "maxAttempts": 5, "initialBackoff": "0.2s", "maxBackoff": "5s", "backoffMultiplier": 2,
            "retryableStatusCodes": ["UNAVAILABLE"],
        },
    }]
})  # fmt: skip

OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    # This is what ends a connection whose pings are not answered (a minute by default); the one above is only told to
    # the kernel, which knows nothing of a proxy that is dead behind its own live kernel.
    ("grpc.http2.ping_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_send_message_length", MAX_MESSAGE),
    ("grpc.enable_retries", 1),
    # Payloads: fewer, larger frames, and room for some pieces that arrive while one is being opened.
    ("grpc.http2.max_frame_size", 1024 * 1024),
    ("grpc.http2.lookahead_bytes", 4 * 1024 * 1024),
    # Otherwise the room grows with the line's estimated delay, and a busy machine looks like a long line: the memory of
    # one download then has no bound.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.service_config", _RETRIES),
    ("grpc.max_reconnect_backoff_ms", 30_000),
)

Token = Callable[[], str]


@dataclass(frozen=True)
class Endpoint:
    """Where a server is: `https://host:port` (TLS), `http://host:port` (plain) or `unix:/path`.

    `ca_file` is a PEM bundle to trust instead of the system's, `proxy` an HTTP proxy instead of the environment's.
    """

    url: str
    ca_file: Path | None = None
    proxy: str = field(default="", repr=False)

    @property
    def target(self) -> str:
        if self.url.startswith("unix:"):
            return self.url
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidArgument(
                f"server address {self.url!r}: write it as https://host:port (or http:// without TLS)"
            )
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        return f"{host}:{parts.port or (443 if self.secure else 80)}"

    @property
    def secure(self) -> bool:
        return self.url.startswith("https:")

    @property
    def way(self) -> str:
        """The proxy that leads to the server; empty for the direct way."""
        return "" if self.url.startswith("unix:") else proxy_for(urlsplit(self.url).hostname or "", self.proxy)


def open_channel(
    endpoint: Endpoint, *, token: Token | None = None, options: Sequence[tuple[str, int | str]] = ()
) -> grpc.aio.Channel:
    """Makes a channel; nothing is connected before the first call.

    `token` is asked at every call for the access token to send (empty: none).
    """
    interceptors = [kind(token) for kind in _BEARERS] if token else []
    # Of an option that is said twice gRPC takes the first.
    every = list((dict(OPTIONS) | _proxied(endpoint) | dict(options)).items())
    if not endpoint.secure:
        return grpc.aio.insecure_channel(endpoint.target, options=every, interceptors=interceptors)
    roots = endpoint.ca_file.read_bytes() if endpoint.ca_file else None
    credentials = grpc.ssl_channel_credentials(root_certificates=roots)
    return grpc.aio.secure_channel(endpoint.target, credentials, options=every, interceptors=interceptors)


def _proxied(endpoint: Endpoint) -> dict[str, int | str]:
    proxy = endpoint.way
    return {"grpc.http_proxy": proxy} if proxy else {"grpc.enable_http_proxy": 0}


class _Bearer:
    """Adds the token to a call. grpc.aio looks at the class of an interceptor and takes only one kind from each."""

    def __init__(self, token: Token) -> None:
        self._token = token

    def signed(self, details: grpc.aio.ClientCallDetails) -> grpc.aio.ClientCallDetails:
        token = self._token()
        if not token:
            return details
        metadata = grpc.aio.Metadata(*(details.metadata or ()))
        if metadata.get("authorization") is None:
            metadata.add("authorization", f"Bearer {token}")
        return grpc.aio.ClientCallDetails(
            details.method, details.timeout, metadata, details.credentials, details.wait_for_ready
        )


class _UnaryUnary(_Bearer, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation, client_call_details, request):  # type: ignore[no-untyped-def]
        return await continuation(self.signed(client_call_details), request)


class _UnaryStream(_Bearer, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation, client_call_details, request):  # type: ignore[no-untyped-def]
        return await continuation(self.signed(client_call_details), request)


class _StreamUnary(_Bearer, grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(self, continuation, client_call_details, request_iterator):  # type: ignore[no-untyped-def]
        return await continuation(self.signed(client_call_details), request_iterator)


class _StreamStream(_Bearer, grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(self, continuation, client_call_details, request_iterator):  # type: ignore[no-untyped-def]
        return await continuation(self.signed(client_call_details), request_iterator)


_BEARERS = (_UnaryUnary, _UnaryStream, _StreamUnary, _StreamStream)
