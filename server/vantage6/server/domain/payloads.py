"""Uploads and downloads of what is too large for a message: who may, and whether the bytes are what was announced."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from contextlib import aclosing

from vantage6.common.chunks import Bytes
from vantage6.common.envelope import looks_sealed
from vantage6.common.errors import (
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    NotSealed,
    OutOfRange,
    PermissionDenied,
    ResourceExhausted,
)
from vantage6.server.domain import permissions
from vantage6.server.domain.caller import (
    Anonymous,
    Caller,
    ContainerCaller,
    NodeCaller,
    Operation,
    Resource,
    UserCaller,
)
from vantage6.server.domain.events import now
from vantage6.server.domain.states import FINAL, ResultState
from vantage6.server.domain.uploads import Upload
from vantage6.server.store.blobs import Blobs
from vantage6.server.store.results import ResultFilter
from vantage6.server.store.sql import Database, Store
from vantage6.server.store.tables import Payload

MAX_SIZE = 1 << 40
DIGEST = hashlib.sha256().digest_size
HEAD = 4096
"""Bytes that tell whether content is sealed."""

SAVED_EVERY = 64 * 1024 * 1024
"""Bytes after which the database hears how far an upload is; after a crash of the server so many come again."""


class PayloadDesk:
    """`quota`: bytes that a collaboration may have stored or announced, 0 for any number."""

    def __init__(self, database: Database, blobs: Blobs, quota: int = 0) -> None:
        self._database = database
        self._blobs = blobs
        self._quota = quota
        self._writers: dict[str, Upload] = {}

    def _require_writer(self, upload: Upload) -> None:
        if self._writers.get(upload.payload_id) is not upload:
            raise FailedPrecondition("another stream of this upload has begun; this one is not needed any more")

    async def announce(
        self, caller: Caller, collaboration_id: int, size: int, sha256: bytes, result_id: int, key: str
    ) -> Payload:
        """Makes room for an upload; the same key gives the same payload again. The digest may be said at its end."""
        if not 0 < size <= MAX_SIZE:
            raise InvalidArgument(f"size: between 1 and {MAX_SIZE} bytes", field="size")
        if len(sha256) not in (0, DIGEST):
            raise InvalidArgument("sha256: 32 bytes", field="sha256")
        if len(key) > 64:
            raise InvalidArgument("idempotency_key: at most 64 characters", field="idempotency_key")
        async with self._database.write() as store:
            await _require_upload(store, caller, collaboration_id, result_id)
            if key:
                await store.lock_name(f"payload:{caller.key}:{key}")
            if key and (known := await store.payloads.by_key(caller.key, key)):
                if known.size != size or (sha256 and known.sha256 not in (b"", sha256)):
                    raise FailedPrecondition("idempotency_key: it was used for another payload; choose a new one")
                return known
            await self._require_room(store, collaboration_id, size)
            payload = Payload(
                id=secrets.token_urlsafe(18),
                collaboration_id=collaboration_id,
                creator=caller.key,
                idempotency_key=key or None,
                result_id=result_id or None,
                size=size,
                sha256=sha256,
                created_at=now(),
            )
            store.payloads.add(payload)
        return payload

    async def _require_room(self, store: Store, collaboration_id: int, size: int) -> None:
        if not self._quota:
            return
        used = await store.payloads.used(collaboration_id)
        if used + size > self._quota:
            raise ResourceExhausted(
                f"collaboration {collaboration_id} has {used} of {self._quota} bytes in use; {size} more do not fit: "
                "delete tasks that are no longer needed, or ask the server's administrator for a larger quota",
                used=used,
                quota=self._quota,
            )

    async def append(
        self,
        caller: Caller,
        payload_id: str,
        offset: int,
        stream: AsyncIterable[Bytes],
        said: Callable[[], bytes] = bytes,
    ) -> Payload:
        """Stores pieces from `offset` on; whole parts stay stored if the stream breaks off.

        `said` gives the digest that came at the end of the stream, if none was announced.
        """
        payload = await self._own(caller, payload_id)
        if payload.complete:
            raise FailedPrecondition("the upload is complete")
        if offset != payload.received:
            raise OutOfRange(f"offset: go on at {payload.received}", received=payload.received)
        upload = Upload(self._blobs, payload.id, payload.size, offset)
        # The newest stream has the word: what an older one, which its client has given up, still brings is not stored.
        # Of one at another server process the store knows that a part is written once.
        self._writers[payload_id] = upload
        try:
            await self._take(payload, upload, stream)
            self._require_writer(upload)
            if payload.received == payload.size and (expected := payload.sha256 or said()):
                await self._complete(payload, upload.digest, expected)
        except DataLoss:
            await self._discard(payload)
            raise
        finally:
            if self._writers.get(payload_id) is upload:
                del self._writers[payload_id]
        return payload

    async def _take(self, payload: Payload, upload: Upload, stream: AsyncIterable[Bytes]) -> None:
        try:
            async for piece in stream:
                self._require_writer(upload)
                await upload.add(piece)
                if upload.received - payload.received >= SAVED_EVERY:
                    await self._save(payload, upload)
            self._require_writer(upload)
            await upload.finish()
        finally:
            # Also when the line broke: whole parts need not come again.
            await asyncio.shield(self._save(payload, upload))

    async def _save(self, payload: Payload, upload: Upload) -> None:
        """The row never goes back, whatever an older stream says of itself."""
        await upload.settle()
        if upload.received > payload.received:
            async with self._database.write() as store:
                await store.payloads.advance(payload.id, upload.received)
            payload.received = upload.received

    async def _complete(self, payload: Payload, digest: bytes, expected: bytes) -> None:
        if (digest or await self._blobs.digest(payload.id, payload.size)) != expected:
            raise DataLoss("the bytes are not those of the announced SHA-256; the upload was discarded")
        async with self._database.read() as store:
            collaboration = await store.parties.collaboration(payload.collaboration_id)
        encrypted = collaboration is None or collaboration.encrypted
        if looks_sealed(await self._blobs.head(payload.id, min(HEAD, payload.size))) != encrypted:
            await self._discard(payload)
            raise NotSealed(f"the payload is {'not ' if encrypted else ''}sealed, which this collaboration forbids")
        async with self._database.write() as store:
            if not await store.payloads.completed(payload.id, expected):
                raise NotFound("the payload was deleted meanwhile")
        payload.complete, payload.sha256 = True, expected

    async def _discard(self, payload: Payload) -> None:
        """Not of one that another stream has completed."""
        async with self._database.write() as store:
            gone = await store.payloads.discard(payload.id)
        if gone:
            await self._blobs.delete(payload.id, payload.size)

    async def _own(self, caller: Caller, payload_id: str) -> Payload:
        async with self._database.read() as store:
            payload = await store.payloads.get(payload_id)
        if payload is None or payload.creator != caller.key:
            raise NotFound(f"you have announced no payload {payload_id!r}")
        return payload

    async def get(self, caller: Caller, payload_id: str) -> Payload:
        """The payload, for its creator and for those that may see what it belongs to."""
        async with self._database.read() as store:
            payload = await store.payloads.get(payload_id)
            if payload is None or not await _may_read(store, caller, payload):
                raise NotFound(f"there is no payload {payload_id!r} that you may see")
        return payload

    async def read(self, caller: Caller, payload_id: str, offset: int) -> AsyncGenerator[memoryview]:
        payload = await self.get(caller, payload_id)
        if not payload.complete:
            raise FailedPrecondition("the upload is not complete")
        if not 0 <= offset <= payload.size:
            raise OutOfRange(f"offset: between 0 and {payload.size}")
        async with aclosing(self._blobs.read(payload.id, payload.size, offset)) as pieces:
            async for piece in pieces:
                yield piece

    async def delete(self, caller: Caller, payload_id: str) -> None:
        payload = await self._own(caller, payload_id)
        async with self._database.write() as store:
            if await store.payloads.uses(payload_id):
                raise FailedPrecondition("a task uses this payload; delete the task")
            if row := await store.payloads.get(payload_id):
                await store.payloads.delete(row)
        await self._blobs.delete(payload.id, payload.size)


async def _require_upload(store: Store, caller: Caller, collaboration_id: int, result_id: int) -> None:
    if isinstance(caller, NodeCaller):
        result = await store.results.get(result_id)
        task = await store.tasks.get(result.task_id) if result else None
        if result is None or task is None or caller.organization_id != result.organization_id:
            raise NotFound(f"result_id: result {result_id} is not assigned to this node")
        if task.collaboration_id != collaboration_id or caller.collaboration_id != collaboration_id:
            raise NotFound(f"result_id: result {result_id} is not of collaboration {collaboration_id}")
        if ResultState(result.state) in FINAL:
            raise FailedPrecondition("the result is final")
        return
    if result_id:
        raise PermissionDenied("result_id: outputs are uploaded by nodes")
    if isinstance(caller, ContainerCaller):
        if caller.collaboration_id != collaboration_id:
            raise NotFound(f"there is no collaboration {collaboration_id} that you may see")
        return
    if isinstance(caller, Anonymous) or collaboration_id not in caller.collaboration_ids:
        raise NotFound(f"there is no collaboration {collaboration_id} that you may see")
    permissions.require(
        caller,
        Resource.TASK,
        Operation.CREATE,
        own=True,
        organization_id=caller.organization_id,
        collaboration_ids=[collaboration_id],
    )


async def _may_read(store: Store, caller: Caller, payload: Payload) -> bool:
    if payload.creator == caller.key:
        return True
    if not isinstance(caller, UserCaller | NodeCaller | ContainerCaller):
        return False
    used = [result.id for _, result, _ in await store.payloads.uses(payload.id)]
    seen = ResultFilter(permissions.task_sight(caller, Resource.RESULT), ids=used)
    return bool(await store.results.find(seen, limit=1))
