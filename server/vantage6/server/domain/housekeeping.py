"""What nobody needs any more goes: half uploads, payloads without a task, old results, and blobs without a row."""

from __future__ import annotations

import asyncio
import datetime as dt

import structlog

from vantage6.server.domain.events import now
from vantage6.server.store.blobs import Blobs
from vantage6.server.store.sql import Database

log = structlog.get_logger()

EVERY = dt.timedelta(hours=1)
AT_ONCE = 200
"""Rows in one transaction, so that nobody waits long for the database."""


class Housekeeping:
    """Every replica may do it; what is gone already does not matter.

    `upload_age`: how long an upload may go on, and a whole one wait for its task. `retention`: how long the inputs,
    outputs and logs of a task are kept after its end; None for ever.
    """

    def __init__(
        self, database: Database, blobs: Blobs, *, upload_age: dt.timedelta, retention: dt.timedelta | None
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._upload_age = upload_age
        self._retention = retention

    async def run(self) -> None:
        """Tidies up at once and then every hour."""
        while True:
            try:
                await self.tidy()
            except Exception:  # A store that is away must not end it.
                log.exception("housekeeping_failed")
            await asyncio.sleep(EVERY.total_seconds())

    async def tidy(self) -> None:
        expired = await self._expire() if self._retention is not None else 0
        abandoned = await self._drop_abandoned()
        orphans = await self._drop_orphans()
        if expired or abandoned or orphans:
            log.info("tidied", expired_contents=expired, abandoned_payloads=abandoned, orphaned_blobs=orphans)

    async def _expire(self) -> int:
        """Deletes contents, which may hold personal data; tasks and results stay, for who did what and when."""
        assert self._retention is not None  # noqa: S101 - by tidy()
        count = 0
        while True:
            async with self._database.write() as store:
                contents = await store.payloads.expired(now() - self._retention, AT_ONCE)
                ids = {content.payload_id for content in contents if content.payload_id}
                for content in contents:
                    await store.payloads.forget(content)
            count += len(contents)
            for id_ in ids:
                await self._drop_unused(id_)
            if len(contents) < AT_ONCE:
                return count

    async def _drop_unused(self, payload_id: str) -> None:
        """Deletes a payload unless something else uses it: a plain input is stored once for all organizations."""
        async with self._database.write() as store:
            payload = await store.payloads.get(payload_id)
            if payload is None or await store.payloads.uses(payload_id):
                return
            await store.payloads.delete(payload)
        await self._blobs.delete_all(payload_id)

    async def _drop_abandoned(self) -> int:
        async with self._database.read() as store:
            abandoned = await store.payloads.abandoned(now() - self._upload_age, AT_ONCE)
        for payload in abandoned:
            await self._drop_unused(payload.id)
        return len(abandoned)

    async def _drop_orphans(self) -> int:
        """Blobs whose rows are gone: a crash came between the two. A row is always there before its blob."""
        found = await self._blobs.ids()
        orphans: list[str] = []
        for start in range(0, len(found), AT_ONCE):
            ids = found[start : start + AT_ONCE]
            async with self._database.read() as store:
                known = await store.payloads.by_ids(ids)
            orphans += [id_ for id_ in ids if id_ not in known]
        for id_ in orphans:
            await self._blobs.delete_all(id_)
        return len(orphans)
