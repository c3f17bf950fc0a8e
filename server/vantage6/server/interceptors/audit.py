"""Notes calls that concern accounts, rights and keys, whether they succeed or not, in the audit log."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import structlog

from vantage6.common.errors import Internal, PermissionDenied, Throttled, Vantage6Error
from vantage6.server.domain.audit import Deed, about, current_target
from vantage6.server.domain.caller import Call, current_call

log = structlog.get_logger(__name__)

_KEPT = ("User", "Role", "Node", "Organization", "Collaboration")
_CHANGES = ("Create", "Update", "Delete", "Reset", "Add", "Remove")
_OF_ACCOUNTS = frozenset({
    "CreateUserToken", "RevokeToken", "DeleteSession", "CreateSecondFactor", "ConfirmSecondFactor",
    "DeleteSecondFactor", "LosePassword", "ResetPassword",
})  # fmt: skip
# A thousand nodes that come back after an outage are no news; one that may not come in is.
_REFUSALS = frozenset({"CreateNodeToken", "RefreshToken"})
_UNTOLD = frozenset({"id", "idempotency_key"})

Write = Callable[[Call, Deed], Awaitable[None]]


def action_of(method: str) -> str:
    """ "UserService.UpdateUser" for the full name of a method."""
    service, _, name = method.rpartition("/")
    return f"{service.rpartition('.')[2]}.{name}"


def noted(method: str, outcome: str) -> bool:
    """Whether a call of this method with this outcome goes into the log."""
    service, _, name = action_of(method).partition(".")
    if outcome == Throttled.reason:
        # Whoever floods the server must not be able to flood the log.
        return False
    if outcome == PermissionDenied.reason or (name in _REFUSALS and outcome != "OK"):
        return True
    if service == "AuthService":
        return name in _OF_ACCOUNTS
    return service.removesuffix("Service") in _KEPT and name.startswith(_CHANGES)


class Auditing(grpc.aio.ServerInterceptor):
    """Stands inside of `errors`, where refusals still have their class, and outside of `identity`."""

    def __init__(self, write: Write) -> None:
        self._write = write

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_streaming or handler.response_streaming:
            return handler
        method, inner = str(handler_call_details.method), handler.unary_unary

        async def call(request: Any, context: Any) -> Any:
            about("")
            outcome, answer = Internal.reason, None
            try:
                answer = await inner(request, context)
                outcome = "OK"
            except Vantage6Error as error:
                outcome = error.reason
                raise
            finally:
                if noted(method, outcome):
                    await self._note(method, request, answer, outcome)
            return answer

        return grpc.unary_unary_rpc_method_handler(call, handler.request_deserializer, handler.response_serializer)

    async def _note(self, method: str, request: Any, answer: Any, outcome: str) -> None:
        action = action_of(method)
        fields = ",".join(field.name for field, _ in request.ListFields() if field.name not in _UNTOLD)
        deed = Deed(action, current_target() or _target(action, request, answer), fields, outcome)
        try:
            await self._write(current_call(), deed)
        except Exception:
            # What was done is done; the caller is not told that it failed.
            log.exception("audit_failed", action=action, outcome=outcome)


def _target(action: str, request: Any, answer: Any) -> str:
    kind = action.partition("Service")[0].lower()
    for message, name in ((request, "id"), (request, f"{kind}_id"), (answer, "id")):
        number = getattr(message, name, 0) if message is not None else 0
        if number:
            return f"{kind}:{number}"
    return ""
