"""Tasks and how they stand at each organization."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, cast

from vantage6.client import _contract as v1
from vantage6.client._models import Collaboration, LogLine, Organization, Result, ResultState, Task
from vantage6.client._parties import Collaborations, Noun, Organizations
from vantage6.client._payloads import REQUEST, Content, content_of, place
from vantage6.common.chunks import INLINE_LIMIT
from vantage6.common.errors import DataLoss, InvalidArgument, NotFound
from vantage6.common.facts import TaskFacts

if TYPE_CHECKING:
    from vantage6.client._encryption import Encryption
    from vantage6.client._session import Session

AT_ONCE = 8
"""So many organizations' inputs are sealed and uploaded at the same time."""


class Tasks(Noun):
    """Algorithms, asked to run at one or more organizations."""

    def __init__(self, session: Session, encryption: Encryption) -> None:
        super().__init__(session)
        self._encryption = encryption

    async def get(self, id: int) -> Task:  # noqa: A002
        return Task.read(await self._session.ask(self._session.tasks.GetTask, v1.task_pb2.GetTaskRequest(id=id)))

    async def list(
        self,
        collaboration: int | None = None,
        *,
        state: str | None = None,
        name: str | None = None,
        parent: int | None = None,
        node: int | None = None,
        run: int | None = None,
    ) -> AsyncIterator[Task]:
        """`state` is "open" for unfinished ones, or the name of a state."""
        request = v1.task_pb2.ListTasksRequest(
            collaboration_id=collaboration, state=state, name=name, parent_id=parent, node_id=node, run_id=run
        )
        async for each in self._session.stream(self._session.tasks.ListTasks, request):
            yield Task.read(each)

    async def create(
        self,
        collaboration: int,
        organizations: Sequence[int],
        image: str,
        input: object,  # noqa: A002 - the word that everybody knows it by
        *,
        name: str = "",
        description: str = "",
        databases: Sequence[str] = (),
        deadline: dt.datetime | dt.timedelta | None = None,
        retries: int | None = None,
        min_results: int | None = None,
        priority: int | None = None,
        fail_fast: bool = False,
        retry_failures: bool = False,
    ) -> Task:
        """Asks organizations to run an image; returns as soon as the task is stored.

        `retries`: how often a run is tried again that was lost, or whose site's infrastructure failed; with
        `retry_failures` every failure counts, for algorithms that may run more than once.

        `input` is what the algorithm is called with, usually `{"method": …, "args": […], "kwargs": {…}}`. In an
        encrypted collaboration it is sealed for each organization, with the key that was pinned for it. A `Path` stands
        for the bytes of a file of any size, for algorithms that read their input themselves.
        """
        # Whether it is encrypted never changes. Its members do, and are asked for.
        where = self._session.joined.get(collaboration) or await Collaborations(self._session).get(collaboration)
        sealed = self._encryption.required(where)
        self._session.joined[where.id] = where
        members = await self._members(where, organizations)
        if sealed:
            await self._encryption.trust(members)
        request = v1.task_pb2.CreateTaskRequest(
            collaboration_id=collaboration, description=description, image=image, databases=databases,
            key=TaskFacts(len(members), image, tuple(databases)).new_key(),
            retries=retries, min_results=min_results, priority=priority, fail_fast=fail_fast,
            retry_failures=retry_failures,
            # Names are not sealed, and a method may say more than the server should know.
            name=name or ("" if sealed else _method(input)),
        )  # fmt: skip
        if deadline is not None:
            request.deadline.FromDatetime(_moment(deadline))
        content = await asyncio.to_thread(content_of, input)
        request.organizations.extend(await self._inputs(content, members, where.id, request.key if sealed else ""))
        return await self._sent(request)

    async def _sent(self, request: v1.task_pb2.CreateTaskRequest) -> Task:
        task = Task.read(await self._session.ask(self._session.tasks.CreateTask, request))
        if task.key != request.key:
            raise DataLoss("the server stored the task under another key than it was sent with: do not trust it")
        return task

    async def missing(self, id: int) -> AsyncIterator[Result]:  # noqa: A002
        """Who has not delivered, by `organization_name`, and `why`; also of a task that is complete by its quorum."""
        async for each in Results(self._session).list(task=id):
            if each.state is not ResultState.COMPLETED:
                yield each

    async def cancel(self, id: int) -> Task:  # noqa: A002
        """Stops what is unfinished of a task and of its children; finished results stay."""
        return Task.read(await self._session.ask(self._session.tasks.CancelTask, v1.task_pb2.CancelTaskRequest(id=id)))

    async def delete(self, id: int) -> None:  # noqa: A002
        """Deletes a task with its children, results and payloads."""
        await self._session.ask(self._session.tasks.DeleteTask, v1.task_pb2.DeleteTaskRequest(id=id))

    async def _members(self, where: Collaboration, wanted: Sequence[int]) -> Sequence[Organization]:
        if not wanted or len(set(wanted)) != len(wanted):
            raise InvalidArgument("organizations: name at least one, each of them once", field="organizations")
        found = {each.id: each async for each in Organizations(self._session).list(collaboration=where.id)}
        self._session.seen |= found
        missing = [str(each) for each in wanted if each not in found]
        if missing:
            raise NotFound(f"organization {', '.join(missing)} is not in collaboration {where.name}")
        return [found[each] for each in wanted]

    async def _inputs(
        self, content: Content, members: Sequence[Organization], collaboration_id: int, key: str
    ) -> Sequence[v1.task_pb2.TaskOrganization]:
        """The input for each organization; without a key in plain, and then stored once for all."""
        small = await asyncio.to_thread(_small, content, len(members)) if key else None
        if small is not None:
            seal = self._encryption.seal_small
            inputs = await asyncio.to_thread(seal, small, members, collaboration_id, key)
            return [v1.task_pb2.TaskOrganization(id=to.id, input=own) for to, own in zip(members, inputs, strict=True)]
        limit = asyncio.Semaphore(AT_ONCE)

        async def sealed(to: Organization) -> v1.task_pb2.TaskOrganization:
            async with limit:
                own = await asyncio.to_thread(self._encryption.seal, content, to, collaboration_id, key)
                return await self._placed(to, collaboration_id, own, len(members))

        if key:
            return await asyncio.gather(*(sealed(each) for each in members))
        first = await self._placed(members[0], collaboration_id, content, len(members))
        copies = [v1.task_pb2.TaskOrganization(id=each.id) for each in members]
        for copy in copies:
            copy.input, copy.input_payload_id = first.input, first.input_payload_id
        return copies

    async def _placed(
        self, to: Organization, collaboration_id: int, content: Content, copies: int
    ) -> v1.task_pb2.TaskOrganization:
        inline, payload_id = await place(self._session, collaboration_id, content, copies)
        return v1.task_pb2.TaskOrganization(id=to.id, input=inline, input_payload_id=payload_id)


class Results(Noun):
    """How tasks stand at each organization. What an organization returned comes from `client.results(task)`."""

    _follow: Callable[[int, int], AsyncIterator[LogLine]]

    async def logs(self, id: int) -> AsyncIterator[LogLine]:  # noqa: A002
        """What one run prints, as it prints it; ends with the run. `client.logs(task)` gives those of all runs."""
        lines = self._follow((await self.get(id)).task_id, id)
        async with aclosing(cast("AsyncGenerator[LogLine, None]", lines)):
            async for line in lines:
                yield line

    async def get(self, id: int) -> Result:  # noqa: A002
        request = v1.result_pb2.GetResultRequest(id=id)
        return Result.read(await self._session.ask(self._session.results.GetResult, request))

    async def list(
        self,
        task: int | None = None,
        organization: int | None = None,
        state: str | None = None,
        node: int | None = None,
    ) -> AsyncIterator[Result]:
        """`state` is "open" for unfinished ones, or the name of a state."""
        request = v1.result_pb2.ListResultsRequest(
            task_id=task, organization_id=organization, state=state, node_id=node
        )
        async for each in self._session.stream(self._session.results.ListResults, request):
            yield Result.read(each)


def _small(content: Content, count: int) -> bytes | None:
    """The content itself, if sealed it fits into a message, and with those for the others into one request."""
    from vantage6.common.envelope import sealed_size  # noqa: PLC0415 - cryptography takes long to load

    size = sealed_size(content.size)
    if size > INLINE_LIMIT or count * size > REQUEST:
        return None
    return b"".join(content.pieces())


def _moment(deadline: dt.datetime | dt.timedelta) -> dt.datetime:
    moment = dt.datetime.now(dt.UTC) + deadline if isinstance(deadline, dt.timedelta) else deadline
    return moment.astimezone(dt.UTC)


def _method(value: object) -> str:
    method = value.get("method") if isinstance(value, Mapping) else None
    return method if isinstance(method, str) else ""
