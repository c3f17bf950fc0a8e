"""A central algorithm's tasks at other sites: sealed for each, created by one call, results opened as they arrive."""

from __future__ import annotations

import asyncio
import uuid

import grpc

from vantage6.api.v1.algorithm_pb2 import CreateSubtaskRequest, Subtask
from vantage6.api.v1.organization_pb2 import Organization
from vantage6.api.v1.task_pb2 import (
    CancelTaskRequest,
    CreateTaskRequest,
    GetTaskRequest,
    ListTasksRequest,
    Task,
    TaskOrganization,
)
from vantage6.api.v1.task_pb2_grpc import TaskServiceStub
from vantage6.common.channel import MAX_MESSAGE
from vantage6.common.chunks import INLINE_LIMIT, sha256
from vantage6.common.envelope import sealed_size
from vantage6.common.errors import AlreadyExists, InvalidArgument, NotFound, from_rpc_error
from vantage6.common.facts import TaskFacts
from vantage6.common.keys import PublicKey
from vantage6.common.outgoing import OutgoingBytes
from vantage6.node.proxy.directory import Directory
from vantage6.node.proxy.run import ProxiedRun
from vantage6.node.retry import reached

KEY_LENGTH = 64


class Subtasks:
    """The subtasks of one run."""

    def __init__(self, run: ProxiedRun, directory: Directory) -> None:
        self._run = run
        self._directory = directory
        self._tasks = TaskServiceStub(run.channel)
        self._keys: dict[int, str] = {}
        self._created: dict[str, tuple[bytes, Subtask]] = {}
        self._lock = asyncio.Lock()

    async def create(self, request: CreateSubtaskRequest) -> Subtask:
        """Creates a subtask; one with the same key and content exists once, however often it is asked for."""
        inputs = _inputs(request)
        key = request.key or self._facts(request, inputs).new_key()
        if len(key) > KEY_LENGTH:
            raise InvalidArgument(f"key: at most {KEY_LENGTH} characters", field="key")
        digest = sha256(request.SerializeToString(deterministic=True))
        async with self._lock:
            if key in self._created:
                before, subtask = self._created[key]
                if before != digest:
                    raise AlreadyExists(f"key {key!r} was used for another subtask of this run", field="key")
                return subtask
            subtask = await self._create(request, inputs, key)
            self._created[key] = digest, subtask
            return subtask

    async def key_of(self, task_id: int) -> str:
        """The key of a subtask of this run, also of one from before a restart of the node."""
        if task_id not in self._keys:
            request = GetTaskRequest(id=task_id)
            task = await reached(lambda: self._tasks.GetTask(request, metadata=self._run.metadata))
            if task.parent_id != self._run.assignment.task_id:
                raise NotFound(f"task {task_id} is no subtask of this run")
            self._keys[task_id] = task.key
        return self._keys[task_id]

    async def cancel(self, task_id: int) -> None:
        await self.key_of(task_id)
        request = CancelTaskRequest(id=task_id)
        await reached(lambda: self._tasks.CancelTask(request, metadata=self._run.metadata))

    async def _create(self, request: CreateSubtaskRequest, inputs: dict[int, bytes], key: str) -> Subtask:
        members = await self._directory.find(inputs)
        # Every key is checked before anything leaves: a changed one stops the whole subtask.
        keys = await asyncio.to_thread(self._keys_of, members)
        for data in dict.fromkeys(inputs.values()):
            to = [id_ for id_, each in inputs.items() if each == data]
            await self._run.gate.leaves_to_others(self._run.assignment, data, to)
        # Small ones go with the request, unless they are too many together for one message.
        whole = sum(sealed_size(len(data)) for data in inputs.values() if sealed_size(len(data)) <= INLINE_LIMIT)
        inline = INLINE_LIMIT if whole <= MAX_MESSAGE // 2 else 0
        organizations = [
            await self._organization(id_, data, keys.get(id_), key, inline) for id_, data in inputs.items()
        ]
        task = await self._send(self._task_request(request, organizations, key))
        self._keys[task.id] = key
        return Subtask(id=task.id, key=key, organization_ids=list(inputs))

    def _keys_of(self, members: dict[int, Organization]) -> dict[int, PublicKey]:
        sealer = self._run.sealer
        if not sealer.encrypted:
            return {}
        return {id_: sealer.key_of(id_, member.name, member.public_key) for id_, member in members.items()}

    async def _organization(
        self, id_: int, data: bytes, to: PublicKey | None, key: str, inline: int
    ) -> TaskOrganization:
        """One at a time: of many large inputs only one is there twice, plain and sealed."""
        if to is not None:
            data = await asyncio.to_thread(self._run.sealer.seal_input, key, id_, to, data)
        if len(data) <= inline:
            return TaskOrganization(id=id_, input=data)
        run = self._run.assignment
        payload_id = await self._run.payloads.store(
            OutgoingBytes(data), collaboration_id=run.collaboration_id, key=uuid.uuid4().hex, token=run.container_token
        )
        return TaskOrganization(id=id_, input_payload_id=payload_id)

    def _facts(self, request: CreateSubtaskRequest, inputs: dict[int, bytes]) -> TaskFacts:
        run = self._run.assignment
        return TaskFacts(len(inputs), run.image, tuple(request.databases or run.databases))

    def _task_request(
        self, request: CreateSubtaskRequest, organizations: list[TaskOrganization], key: str
    ) -> CreateTaskRequest:
        run = self._run.assignment
        task = CreateTaskRequest(
            collaboration_id=run.collaboration_id,
            organizations=organizations,
            # The server reads these: free text that no rule of the site can judge.
            name=request.name if self._run.gate.lets_text_out() else "",
            description=request.description if self._run.gate.lets_text_out() else "",
            image=run.image,
            databases=list(request.databases) or list(run.databases),
            key=key,
        )
        for name in ("deadline", "retries", "min_results"):
            if request.HasField(name):
                value = getattr(request, name)
                if name == "deadline":
                    task.deadline.CopyFrom(value)
                else:
                    setattr(task, name, value)
        return task

    async def _send(self, request: CreateTaskRequest) -> Task:
        try:
            return await reached(lambda: self._tasks.CreateTask(request, metadata=self._run.metadata))
        except AlreadyExists:
            # Made before a restart of the node: sealed bytes differ each time, the task is the same.
            if (task := await self._find(request.key)) is None:
                raise
            return task

    async def _find(self, key: str) -> Task | None:
        request = ListTasksRequest(parent_id=self._run.assignment.task_id)
        try:
            tasks = [task async for task in self._tasks.ListTasks(request, metadata=self._run.metadata)]
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        return next((task for task in tasks if task.key == key), None)


def _inputs(request: CreateSubtaskRequest) -> dict[int, bytes]:
    """Input by organization, in the order asked for."""
    if request.inputs and (request.organization_ids or request.input):
        raise InvalidArgument("inputs: comes instead of input and organization_ids, not beside them", field="inputs")
    if request.inputs:
        pairs = [(each.organization_id, each.input) for each in request.inputs]
    else:
        pairs = [(id_, request.input) for id_ in request.organization_ids]
    if not pairs:
        raise InvalidArgument("organization_ids: name at least one organization", field="organization_ids")
    inputs = dict(pairs)
    if len(inputs) < len(pairs):
        raise InvalidArgument("organization_ids: an organization is named twice", field="organization_ids")
    return inputs
