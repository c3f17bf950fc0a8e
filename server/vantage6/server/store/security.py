"""Second factors, secrets that are good once, and the audit log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, or_, select, update

from vantage6.server.store.pages import ANY_TIME, Page, Slice, Span, clauses_of, fetch
from vantage6.server.store.tables import AuditEntry, OneTimeSecret, SecondFactor

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable

    from sqlalchemy.ext.asyncio import AsyncSession

RECOVERY_CODE = "recovery_code"
PASSWORD_RESET = "password_reset"  # noqa: S105  # The name of a purpose.


@dataclass(frozen=True)
class AuditFilter:
    caller: str | None = None
    action: str | None = None
    target: str | None = None
    outcome: str | None = None
    time: Span = ANY_TIME


class Security:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    # --- second factors

    async def second_factor(self, user_id: int) -> SecondFactor | None:
        return await self._session.get(SecondFactor, user_id)

    async def put_second_factor(self, user_id: int, secret: bytes) -> None:
        await self.remove_second_factor(user_id)
        self._session.add(SecondFactor(user_id=user_id, secret=secret))
        await self._session.flush()

    async def advance_second_factor(self, user_id: int, step: int) -> bool:
        """Whether the code of this time step was unused; it is used now. One statement: of two at once one wins."""
        change = update(SecondFactor).where(SecondFactor.user_id == user_id, SecondFactor.last_step < step)
        done = await self._session.execute(change.values(last_step=step).returning(SecondFactor.user_id))
        return done.first() is not None

    async def remove_second_factor(self, user_id: int) -> None:
        await self._session.execute(delete(SecondFactor).where(SecondFactor.user_id == user_id))
        await self.remove_secrets(user_id, RECOVERY_CODE)

    # --- secrets that are good once

    async def add_secrets(
        self, user_id: int, purpose: str, hashes: Iterable[str], expires_at: dt.datetime | None = None
    ) -> None:
        self._session.add_all(
            OneTimeSecret(hash=entry, user_id=user_id, purpose=purpose, expires_at=expires_at) for entry in hashes
        )
        await self._session.flush()

    async def owner_of_secret(self, purpose: str, hashed: str, now: dt.datetime) -> int | None:
        query = select(OneTimeSecret.user_id).where(
            OneTimeSecret.hash == hashed,
            OneTimeSecret.purpose == purpose,
            or_(OneTimeSecret.expires_at.is_(None), OneTimeSecret.expires_at > now),
        )
        return await self._session.scalar(query)

    async def spend_secret(self, user_id: int, purpose: str, hashed: str) -> bool:
        """Whether it was there; it is gone now. One statement: of two at once one wins."""
        gone = delete(OneTimeSecret).where(
            OneTimeSecret.hash == hashed, OneTimeSecret.user_id == user_id, OneTimeSecret.purpose == purpose
        )
        return (await self._session.execute(gone.returning(OneTimeSecret.hash))).first() is not None

    async def remove_secrets(self, user_id: int, purpose: str) -> None:
        mine = OneTimeSecret.user_id == user_id, OneTimeSecret.purpose == purpose
        await self._session.execute(delete(OneTimeSecret).where(*mine))

    async def count_secrets(self, user_id: int, purpose: str) -> int:
        mine = OneTimeSecret.user_id == user_id, OneTimeSecret.purpose == purpose
        return await self._session.scalar(select(func.count()).select_from(OneTimeSecret).where(*mine)) or 0

    async def forget_secrets(self, now: dt.datetime) -> None:
        await self._session.execute(delete(OneTimeSecret).where(OneTimeSecret.expires_at < now))

    # --- audit log

    def note(self, entry: AuditEntry) -> None:
        self._session.add(entry)

    async def audit_entries(self, wanted: AuditFilter, page: Page) -> Slice[AuditEntry]:
        query = select(AuditEntry).where(*clauses_of(wanted, AuditEntry))
        return await fetch(self._session, query, AuditEntry.id, page)

    async def forget_audit(self, before: dt.datetime) -> None:
        await self._session.execute(delete(AuditEntry).where(AuditEntry.time < before))
