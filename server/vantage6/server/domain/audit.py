"""The audit log: what was done, or tried, to accounts, rights and keys."""

from __future__ import annotations

import datetime as dt
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vantage6.server.domain.caller import Call, Caller, Operation, Resource
from vantage6.server.domain.permissions import require
from vantage6.server.domain.secrets import now
from vantage6.server.store.tables import AuditEntry

if TYPE_CHECKING:
    from vantage6.server.store.pages import Page, Slice
    from vantage6.server.store.security import AuditFilter
    from vantage6.server.store.sql import Database

KEPT = dt.timedelta(days=400)

_target: ContextVar[str] = ContextVar("audit_target", default="")


def about(target: str) -> None:
    """Says what the current call concerns, such as "user:7", where the request does not tell.

    Never what somebody typed: people type passwords into the field of the user name.
    """
    _target.set(target)


def current_target() -> str:
    return _target.get()


@dataclass(frozen=True)
class Deed:
    """`fields` are names of what was given, never what was given."""

    action: str
    target: str
    fields: str
    outcome: str


class AuditLog:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def write(self, call: Call, deed: Deed) -> None:
        entry = AuditEntry(
            time=now(),
            action=deed.action[:64],
            caller=call.caller.key,
            peer=call.peer[:64],
            target=deed.target[:64],
            fields=deed.fields[:256],
            outcome=deed.outcome[:64],
        )
        async with self._database.write() as store:
            store.security.note(entry)

    async def find(self, caller: Caller, wanted: AuditFilter, page: Page) -> Slice[AuditEntry]:
        require(caller, Resource.AUDIT, Operation.VIEW)
        async with self._database.read() as store:
            return await store.security.audit_entries(wanted, page)

    async def forget_old(self) -> None:
        async with self._database.write() as store:
            await store.security.forget_audit(now() - KEPT)
