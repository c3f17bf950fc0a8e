"""The names of 1.x, thin over the others: scripts of that time go on working, and get values in its shapes."""

from __future__ import annotations

import asyncio
import json as json_format
import ssl
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from vantage6.client._models import ResultState
from vantage6.common.errors import InvalidArgument, Unauthenticated, Unavailable, from_rest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vantage6.client._encryption import Encryption
    from vantage6.client._models import Task
    from vantage6.client._session import Session
    from vantage6.client._tasks import Results, Tasks

SECONDS = 60


class Legacy:
    """What `AsyncClient` has from 1.x beside `authenticate` and `setup_encryption`."""

    _session: Session
    _encryption: Encryption
    task: Tasks
    result: Results
    path: str

    async def post_task(
        self,
        name: str,
        image: str,
        collaboration_id: int,
        input_: object = "",
        description: str = "",
        organization_ids: Sequence[int] | None = None,
        data_format: str = "json",
        database: str = "default",
    ) -> dict[str, Any]:
        """As in 1.x; `client.task.create` is its successor. The data format is JSON: nothing is pickled."""
        if data_format not in ("json", "legacy"):
            raise InvalidArgument(f"data_format {data_format!r}: there is json only", field="data_format")
        task = await self.task.create(
            collaboration_id,
            list(organization_ids or ()),
            image,
            input_,
            name=name,
            description=description,
            databases=[database],
        )
        return _task(task)

    async def get_results(
        self,
        id: int | None = None,  # noqa: A002
        state: str | None = None,
        include_task: bool = False,
        task_id: int | None = None,
        node_id: int | None = None,
    ) -> list[dict[str, Any]]:
        """As in 1.x, opened; `client.results(task)` is its successor. `result` is None while there is none."""
        if id is not None:
            found = [await self.result.get(id)]
        else:
            found = [each async for each in self.result.list(task=task_id, state=state, node=node_id)]
        tasks = {each: await self.task.get(each) for each in {result.task_id for result in found}}
        values = {each: await self._values(task) for each, task in tasks.items()}
        return [
            {
                "id": each.id,
                "organization": {"id": each.organization_id},
                "task": _task(tasks[each.task_id]) if include_task else {"id": each.task_id},
                "result": values[each.task_id].get(each.organization_id),
                "state": str(each.state),
                "started_at": each.start_time and each.start_time.isoformat(),
                "finished_at": each.finish_time and each.finish_time.isoformat(),
            }
            for each in found
        ]

    async def _values(self, task: Task) -> dict[int, object]:
        """What has arrived so far, also of an unfinished task; 1.x never waited here."""
        from vantage6.client._harvest import Harvest  # noqa: PLC0415 - cryptography takes long to load

        results = [each async for each in self.result.list(task=task.id)]
        arrived = [each.id for each in results if each.state is ResultState.COMPLETED]
        harvest = Harvest(self._session, self._encryption, task, None)
        return {each.organization_id: each.value async for each in harvest.take(arrived)}

    async def request(
        self,
        endpoint: str,
        json: object = None,
        method: str = "get",
        params: Mapping[str, object] | None = None,
    ) -> Any:
        """A call of the REST API, with what it answered. Errors are those of the other calls."""
        url = f"{self._session.endpoint.url.rstrip('/')}{self.path}/{endpoint.lstrip('/')}"
        url += f"?{urlencode(params)}" if params else ""
        used = await self._session.fresh()
        try:
            return await asyncio.to_thread(self._ask, url, used, json, method)
        except Unauthenticated:
            if not await self._session.renewed(used):
                raise
            return await asyncio.to_thread(self._ask, url, await self._session.fresh(), json, method)

    def _ask(self, url: str, token: str, json: object, method: str) -> Any:
        # Slow to load, and for these calls only.
        import http.client  # noqa: PLC0415
        import urllib.error  # noqa: PLC0415
        import urllib.request  # noqa: PLC0415

        data = None if json is None else json_format.dumps(json).encode()
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
        endpoint = self._session.endpoint
        # The address was checked when the client was made: http or https.
        request = urllib.request.Request(url, data, headers, method=method.upper())  # noqa: S310
        context = ssl.create_default_context(cafile=endpoint.ca_file) if endpoint.secure else None
        try:
            with urllib.request.urlopen(request, timeout=SECONDS, context=context) as answer:  # noqa: S310
                content = answer.read()
        except urllib.error.HTTPError as error:
            with error:
                raise from_rest(error.code, error.read()) from None
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"{url}: {getattr(error, 'reason', error)}") from error
        try:
            return json_format.loads(content) if content else None
        except ValueError:
            raise Unavailable(f"{url} answers something else than JSON: is there a gateway at this address?") from None


def _task(task: Task) -> dict[str, Any]:
    return {
        "id": task.id,
        "name": task.name,
        "description": task.description,
        "image": task.image,
        "run_id": task.run_id,
        "database": task.databases[0] if task.databases else None,
        "complete": task.complete,
        "collaboration": {"id": task.collaboration_id},
        "initiator": task.initiator_id,
        "parent": {"id": task.parent_id} if task.parent_id else None,
    }
