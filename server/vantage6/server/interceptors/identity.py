"""Token → Caller, before any handler. Closed by default: what is not listed as open needs a token."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote

from vantage6.common.errors import Unauthenticated
from vantage6.server.domain.caller import Anonymous, Call, Caller, set_current_call
from vantage6.server.interceptors.wrapping import Enclosing

_AUTH = "/vantage6.api.v1.AuthService/"
_SYSTEM = "/vantage6.api.v1.SystemService/"

# These check a secret of their own; a token, expired perhaps, must not keep anybody from them.
TOKEN_IGNORED = frozenset(
    _AUTH + name for name in ("CreateUserToken", "CreateNodeToken", "RefreshToken", "LosePassword", "ResetPassword")
)
_OPEN = ("GetVersion", "GetHealth", "GetEntryPoint", "GetOpenApi", "GetDocs")
TOKEN_OPTIONAL = frozenset(_SYSTEM + name for name in _OPEN) | {
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
}

Identify = Callable[[str], Awaitable[Caller]]


def identity(identify: Identify) -> Enclosing:
    @asynccontextmanager
    async def around(method: str, context: Any) -> AsyncIterator[None]:
        metadata = {key: entry for key, entry in context.invocation_metadata() or () if isinstance(entry, str)}
        rest = metadata.get("x-vantage6-door") == "rest"
        peer = address_of(metadata.get("x-forwarded-for"), context.peer())
        # Set before the token is looked at, so that a refusal is logged with its address.
        set_current_call(Call(Anonymous(), peer, rest))
        if method not in TOKEN_IGNORED:
            set_current_call(Call(await _caller(identify, method, metadata.get("authorization")), peer, rest))
        yield

    return Enclosing(around)


async def _caller(identify: Identify, method: str, header: str | None) -> Caller:
    token = bearer(header)
    if token is not None:
        return await identify(token)
    if method in TOKEN_OPTIONAL:
        return Anonymous()
    raise Unauthenticated("Log in first: this call needs the metadata 'authorization: Bearer <token>'.")


def bearer(header: str | None) -> str | None:
    """The token of an `authorization` header."""
    scheme, _, token = (header or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def address_of(forwarded: str | None, peer: str | None) -> str:
    """The caller's address: what the gateway, our only neighbour, appended last; everything before is hearsay."""
    if forwarded:
        return forwarded.rpartition(",")[2].strip()[:64]
    kind, _, rest = unquote(peer or "").partition(":")
    return rest.rpartition(":")[0].strip("[]")[:64] if kind in {"ipv4", "ipv6"} else kind[:64]
