"""A client for programs in other languages, which speak REST to a program that has this one inside (`v6 proxy`)."""

from __future__ import annotations

import io

from vantage6.client._harvest import Harvest
from vantage6.client._payloads import Serialized
from vantage6.client.client import AsyncClient
from vantage6.common.errors import NotFound

__all__ = ["Bridge", "Serialized"]


class Bridge(AsyncClient):
    """Gives out what the others need: a token for the REST API, and outputs as they were written at the site."""

    async def access_token(self, refused: str | None = None) -> str:
        """A token that is good for a while; another one than `refused`, which the server did not take."""
        if refused is not None:
            await self._session.renewed(refused)
        return await self._session.fresh()

    async def serialized(self, result_id: int) -> bytes:
        """What an organization returned, opened and checked, with its format's name in front."""
        known = await self.result.get(result_id)
        task = await self.task.get(known.task_id)
        return await _Harvest(self._session, self._encryption, task, None).serialized(result_id)


class _Harvest(Harvest):
    async def serialized(self, result_id: int) -> bytes:
        (message,) = await self._fetch([result_id])
        if message.task_id != self._task.id or not message.HasField("output_content"):
            raise NotFound(f"result {result_id} has no output")
        await self._know({message.organization_id})
        sender = await self._again(self._senders[message.organization_id], None)
        whole = io.BytesIO()
        await self._content(message, await self._collaboration(), sender, whole)
        return whole.getvalue()
