"""AuditService."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vantage6.api.v1 import audit_pb2, audit_pb2_grpc
from vantage6.server.domain.caller import current_call
from vantage6.server.rpc.links import moment
from vantage6.server.rpc.pages import Context, page_of, stream
from vantage6.server.rpc.requests import given, span
from vantage6.server.store.security import AuditFilter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from vantage6.server.domain.audit import AuditLog
    from vantage6.server.store.tables import AuditEntry


class AuditServicer(audit_pb2_grpc.AuditServiceServicer):
    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit

    async def ListAuditEntries(
        self, request: audit_pb2.ListAuditEntriesRequest, context: Context
    ) -> AsyncIterator[audit_pb2.AuditEntry]:
        page = page_of(request)
        wanted = AuditFilter(
            given(request, "caller"), given(request, "action"), given(request, "target"), given(request, "outcome"),
            span(request),
        )  # fmt: skip
        found = await self._audit.find(current_call().caller, wanted, page)
        async for message in stream(context, page, found, _entry):
            yield message


def _entry(row: AuditEntry) -> audit_pb2.AuditEntry:
    message = audit_pb2.AuditEntry(
        id=row.id,
        action=row.action,
        caller=row.caller,
        peer=row.peer,
        target=row.target,
        fields=row.fields,
        outcome=row.outcome,
    )
    if current_call().rest:
        message.time.CopyFrom(moment(row.time))
    else:
        message.create_time.FromDatetime(row.time)
    return message
