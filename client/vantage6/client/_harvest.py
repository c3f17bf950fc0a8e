"""What the sites returned for one task: fetched many at a time, opened and checked."""

from __future__ import annotations

import asyncio
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vantage6.client import _contract as v1
from vantage6.client._models import Collaboration, Organization, Result, Task, TaskResult
from vantage6.client._parties import Collaborations, Organizations
from vantage6.client._payloads import ValueFile, download
from vantage6.common.envelope import looks_sealed
from vantage6.common.errors import EnvelopeBroken, FailedPrecondition, NotFound, NotSealed
from vantage6.common.incoming import Incoming, Target
from vantage6.common.serialization import deserialize

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from vantage6.client._encryption import Encryption
    from vantage6.client._session import Session

AT_ONCE = 250
"""Results fetched with one call and opened one after the other; about as many outputs are in memory."""
FEW = 8
"""Up to so many senders are asked for one by one; beyond, the collaboration's are all listed at once."""


@dataclass(frozen=True)
class _Failed:
    """Stands where a value would, so that those before it are still handed out."""

    error: Exception


class Harvest:
    """Fetches and opens the results of one task."""

    def __init__(self, session: Session, encryption: Encryption, task: Task, folder: Path | None) -> None:
        self._session = session
        self._encryption = encryption
        self._task = task
        self._folder = folder
        self._where = session.joined.get(task.collaboration_id)
        # As they were shown before; a sender whose output does not fit is looked up again.
        self._senders = dict(session.seen)

    async def take(self, ids: Sequence[int]) -> AsyncIterator[TaskResult]:
        """The results with these ids, in the order of the ids; raises at the first that is not what it should be."""
        ordered = sorted(ids)
        for start in range(0, len(ordered), AT_ONCE):
            messages = await self._fetch(ordered[start : start + AT_ONCE])
            where = await self._collaboration()
            await self._know({message.organization_id for message in messages})
            values = await asyncio.to_thread(self._open_small, messages, where)
            for message in messages:
                yield await self._opened(message, where, values.get(message.id))

    async def _fetch(self, ids: Sequence[int]) -> list[v1.result_pb2.Result]:
        request = v1.result_pb2.ListResultsRequest(
            task_id=self._task.id, ids=ids, include_content=True, content_kinds=["output"]
        )
        found: dict[int, v1.result_pb2.Result] = {}
        async for message in self._session.stream(self._session.results.ListResults, request):
            found[message.id] = message
        if missing := [id_ for id_ in ids if id_ not in found]:
            raise NotFound(f"the server told of result {missing[0]} of task {self._task.id}, and does not give it")
        return [found[id_] for id_ in ids]

    async def _collaboration(self) -> Collaboration:
        if self._where is None:
            self._where = await Collaborations(self._session).get(self._task.collaboration_id)
        return self._where

    async def _know(self, ids: set[int]) -> None:
        missing = ids - self._senders.keys()
        organizations = Organizations(self._session)
        if len(missing) > FEW:
            listed = organizations.list(collaboration=self._task.collaboration_id)
            self._senders |= {each.id: each async for each in listed}
            missing = ids - self._senders.keys()  # Those that have left the collaboration since.
        for each in await asyncio.gather(*(organizations.get(id_) for id_ in sorted(missing))):
            self._senders[each.id] = each

    def _open_small(
        self, messages: Sequence[v1.result_pb2.Result], where: Collaboration
    ) -> dict[int, tuple[object] | _Failed]:
        """Opens what came inside the messages; one thread for all, since each takes some microseconds only."""
        values: dict[int, tuple[object] | _Failed] = {}
        for message in messages:
            if message.output_content.WhichOneof("place") != "inline" or self._folder:
                continue
            try:
                data = self._open(message, where)
                values[message.id] = (deserialize(data),)
            except Exception as error:  # noqa: BLE001 - raised when its turn comes
                values[message.id] = _Failed(error)
                break
        return values

    def _open(self, message: v1.result_pb2.Result, where: Collaboration) -> bytes:
        data, sender = message.output_content.inline, self._senders[message.organization_id]
        if self._encryption.required(where):
            return self._encryption.open_small(data, sender, self._task)
        if looks_sealed(data):
            raise _sealed_by(sender)
        return data

    async def _opened(
        self, message: v1.result_pb2.Result, where: Collaboration, opened: tuple[object] | _Failed | None
    ) -> TaskResult:
        result, sender = Result.read(message), self._senders[message.organization_id]
        if result.task_id != self._task.id:
            raise NotFound(f"the server gave a result of task {result.task_id} for task {self._task.id}")
        value, path = None, None
        if isinstance(opened, tuple):
            (value,) = opened
        elif message.HasField("output_content"):
            sender = await self._again(sender, opened)
            if self._folder:
                path = await self._saved(message, where, sender, self._folder)
            else:
                whole = io.BytesIO()
                await self._content(message, where, sender, whole)
                value = await asyncio.to_thread(lambda: deserialize(whole.getvalue()))
        return TaskResult(sender.id, sender.name, result.state, result.reason, result.message, value, path)

    async def _again(self, sender: Organization, failed: _Failed | None) -> Organization:
        """The sender as it is now: its key may have been replaced since we asked. Else what failed stays so."""
        fresh = await Organizations(self._session).get(sender.id)
        stale = fresh.public_key != sender.public_key
        if failed and not (stale and isinstance(failed.error, EnvelopeBroken | FailedPrecondition)):
            raise failed.error
        self._senders[sender.id] = fresh
        return fresh

    async def _saved(
        self, message: v1.result_pb2.Result, where: Collaboration, sender: Organization, folder: Path
    ) -> Path:
        """The file with the output, which has its name only once all of it has arrived and is authentic."""
        await asyncio.to_thread(lambda: folder.mkdir(parents=True, exist_ok=True))
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".", suffix=".part", delete=False) as file:
            part = Path(file.name)
            try:
                target = ValueFile(file)
                await self._content(message, where, sender, target)
                file.close()
                return await asyncio.to_thread(part.replace, folder / f"{self._task.id}-{sender.id}.{target.format}")
            except BaseException:
                await asyncio.to_thread(part.unlink, missing_ok=True)
                raise

    async def _content(
        self, message: v1.result_pb2.Result, where: Collaboration, sender: Organization, target: Target
    ) -> None:
        content = message.output_content
        opener = None
        if self._encryption.required(where):
            opener = await asyncio.to_thread(self._encryption.opener, sender, self._task)
        into = Incoming(target, opener, f"output of {sender.name}")
        if content.WhichOneof("place") == "payload_id":
            await download(self._session, content.payload_id, into)
        else:
            await asyncio.to_thread(into.write, content.inline)
            await asyncio.to_thread(into.finish)


def _sealed_by(sender: Organization) -> NotSealed:
    return NotSealed(f"{sender.name} sent something sealed in a collaboration that is not encrypted")
