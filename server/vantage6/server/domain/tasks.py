"""Creating, cancelling and deleting tasks."""

from __future__ import annotations

import datetime as dt
import hashlib
import uuid
from dataclasses import dataclass

from vantage6.api.v1 import task_pb2
from vantage6.common.chunks import INLINE_LIMIT
from vantage6.common.envelope import looks_sealed
from vantage6.common.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    NotSealed,
    PermissionDenied,
)
from vantage6.common.faults import point
from vantage6.server.domain import permissions
from vantage6.server.domain.bus import Bus, Deadline, Wake
from vantage6.server.domain.caller import Caller, ContainerCaller, Operation, Resource, UserCaller
from vantage6.server.domain.checks import check_moment, check_text
from vantage6.server.domain.events import now, record_result, record_task
from vantage6.server.domain.results import cancel_family
from vantage6.server.domain.states import FINAL, ResultState, TaskState
from vantage6.server.domain.subtasks import SubtaskLimits, check_limits, priority_under
from vantage6.server.store.results import NewContent
from vantage6.server.store.sql import Store
from vantage6.server.store.tables import Collaboration, Payload, Task

MAX_RETRIES = 10
DEFAULT_RETRIES = 3
STANDARD = SubtaskLimits()


@dataclass(frozen=True)
class Origin:
    """Where a task comes from."""

    initiator_id: int
    user_id: int | None
    parent_id: int | None = None
    # None: a new one.
    run_id: int | None = None
    priority: int = 0


async def create(
    store: Store, bus: Bus, caller: Caller, request: task_pb2.CreateTaskRequest, limits: SubtaskLimits = STANDARD
) -> Task:
    """Creates a task with a pending result for each organization; the same key gives the same task again."""
    _check(request)
    collaboration = await store.parties.collaboration(request.collaboration_id)
    if collaboration is None or not _may_know(caller, request.collaboration_id):
        raise NotFound(f"collaboration_id: there is no collaboration {request.collaboration_id} that you may see")
    digest = hashlib.sha256(request.SerializeToString(deterministic=True)).digest()
    if request.key:
        # The same call twice at once: the second waits here, and then finds the task of the first.
        await store.lock_name(f"task:{collaboration.id}:{request.key}")
    if request.key and (known := await store.tasks.by_key(collaboration.id, request.key)):
        return _repeated(known, digest, caller)
    origin = await _origin(store, caller, request, limits)
    targets = await _targets(store, collaboration, caller, request)
    await _check_inputs(store, collaboration, targets, request, caller)
    task = await _task_row(store, collaboration, origin, request, digest)
    store.tasks.add(task)
    await store.flush()
    store.after_commit(lambda: point("server.task.after_commit"))
    record_task(store, bus, task, complete=False)
    if task.deadline is not None:
        due = Deadline(task.id)
        store.after_commit(lambda: bus.publish(due))
    await _add_results(store, bus, task, targets)
    point("server.task.before_commit")
    return task


def _check(request: task_pb2.CreateTaskRequest) -> None:
    if not request.image:
        raise InvalidArgument("image: name the container image that shall run", field="image")
    if len(request.image) > 512 or any(c.isspace() or not c.isprintable() for c in request.image):
        raise InvalidArgument("image: not a reference of a container image", field="image")
    if not request.organizations:
        raise InvalidArgument("organizations: name at least one organization, with its input", field="organizations")
    check_text("key", request.key, 64)
    check_text("name", request.name, 256)
    check_text("description", request.description, 10_000, lines=True)
    for label in (request.database, *request.databases):
        check_text("databases", label, 256)
    if request.HasField("retries") and not 0 <= request.retries <= MAX_RETRIES:
        raise InvalidArgument(f"retries: between 0 and {MAX_RETRIES}", field="retries")
    if request.HasField("min_results") and not 1 <= request.min_results <= len(request.organizations):
        raise InvalidArgument("min_results: between 1 and the number of organizations", field="min_results")
    if request.HasField("deadline") and check_moment("deadline", request.deadline) <= now():
        raise InvalidArgument("deadline: lies in the past (RFC 3339, with zone)", field="deadline")
    ids = [organization.id for organization in request.organizations]
    if len(set(ids)) != len(ids):
        raise InvalidArgument("organizations: each organization at most once", field="organizations")


def _may_know(caller: Caller, collaboration_id: int) -> bool:
    if isinstance(caller, UserCaller):
        return collaboration_id in caller.collaboration_ids or permissions.allows(
            caller, Resource.COLLABORATION, Operation.VIEW, collaboration_ids=[collaboration_id]
        )
    return isinstance(caller, ContainerCaller) and caller.collaboration_id == collaboration_id


def _repeated(known: Task, digest: bytes, caller: Caller) -> Task:
    same_creator = (
        caller.id == known.user_id and known.parent_id is None
        if isinstance(caller, UserCaller)
        else isinstance(caller, ContainerCaller)
        and (caller.task_id, caller.organization_id) == (known.parent_id, known.initiator_id)
    )
    if known.digest != digest or not same_creator:
        raise AlreadyExists("key: it was used for another task of this collaboration; choose a new one", field="key")
    return known


async def _origin(store: Store, caller: Caller, request: task_pb2.CreateTaskRequest, limits: SubtaskLimits) -> Origin:
    if isinstance(caller, ContainerCaller):
        return await _origin_of_container(store, caller, request, limits)
    if not isinstance(caller, UserCaller):
        raise PermissionDenied("tasks are created by users and by algorithms")
    if caller.organization_id is None:
        raise FailedPrecondition(
            "your account belongs to no organization, so nobody could receive the results: "
            "create tasks as a user of an organization of this collaboration"
        )
    permissions.require(
        caller,
        Resource.TASK,
        Operation.CREATE,
        own=True,
        organization_id=caller.organization_id,
        collaboration_ids=[request.collaboration_id],
    )
    if request.collaboration_id not in caller.collaboration_ids:
        raise PermissionDenied("collaboration_id: your organization is no member of this collaboration")
    return Origin(caller.organization_id, caller.id, priority=request.priority)


async def _origin_of_container(
    store: Store, caller: ContainerCaller, request: task_pb2.CreateTaskRequest, limits: SubtaskLimits
) -> Origin:
    if request.image != caller.image:
        raise PermissionDenied(f"image: an algorithm may start itself only, that is {caller.image!r}")
    # Locked, so that it cannot end, and have its children cancelled, while it gets another one.
    parent = (await store.tasks.locked([caller.task_id])).get(caller.task_id)
    result = await store.results.get(caller.result_id)
    if parent is None or result is None or ResultState(result.state) in FINAL or result.epoch != caller.epoch:
        raise FailedPrecondition("the run that asks for a subtask has ended")
    priority = priority_under(parent, request)
    await check_limits(store, parent, limits)
    return Origin(caller.organization_id, parent.user_id, parent.id, parent.run_id, priority)


async def _targets(
    store: Store, collaboration: Collaboration, caller: Caller, request: task_pb2.CreateTaskRequest
) -> list[task_pb2.TaskOrganization]:
    members = set(await store.parties.member_ids(collaboration.id))
    targets = list(request.organizations)
    if request.master and isinstance(caller, UserCaller):
        targets = [target for target in targets if target.id == caller.organization_id]
        if not targets:
            raise InvalidArgument("organizations: master=true needs the input of your own organization",
                                  field="organizations")  # fmt: skip
    outside = [target.id for target in targets if target.id not in members]
    if outside:
        raise InvalidArgument(
            f"organizations: {', '.join(map(str, outside))} not in collaboration {collaboration.id} "
            f"(its members are {', '.join(map(str, sorted(members)))})",
            field="organizations",
        )
    return targets


async def _check_inputs(
    store: Store,
    collaboration: Collaboration,
    targets: list[task_pb2.TaskOrganization],
    request: task_pb2.CreateTaskRequest,
    caller: Caller,
) -> None:
    if collaboration.encrypted and not request.key:
        raise InvalidArgument("key: required in an encrypted collaboration; inputs are bound to it", field="key")
    ids = [target.input_payload_id for target in targets if target.input_payload_id]
    payloads = await store.payloads.by_ids(ids) if ids else {}
    for target in targets:
        where = f"organizations[id={target.id}]"
        if target.input_payload_id:
            payload = payloads.get(target.input_payload_id)
            if payload is None or payload.creator != caller.key or payload.collaboration_id != collaboration.id:
                raise NotFound(f"{where}.input_payload_id: you have uploaded no such payload to this collaboration")
            if not payload.complete:
                raise FailedPrecondition(f"{where}.input_payload_id: the upload is not complete")
        elif len(target.input) > INLINE_LIMIT:
            raise InvalidArgument(f"{where}.input: over {INLINE_LIMIT} bytes; upload it with PayloadService")
        elif looks_sealed(target.input) != collaboration.encrypted:
            raise NotSealed(
                f"{where}.input: must be sealed, since collaboration {collaboration.id} is encrypted"
                if collaboration.encrypted
                else f"{where}.input: must not be sealed, since collaboration {collaboration.id} is not encrypted"
            )


async def _task_row(
    store: Store, collaboration: Collaboration, origin: Origin, request: task_pb2.CreateTaskRequest, digest: bytes
) -> Task:
    databases = list(request.databases)
    if request.database and request.database not in databases:
        databases.insert(0, request.database)
    return Task(
        collaboration_id=collaboration.id,
        key=request.key or uuid.uuid4().hex,
        digest=digest,
        name=request.name,
        description=request.description,
        image=request.image,
        run_id=origin.run_id or await store.tasks.next_run_id(),
        databases=databases,
        initiator_id=origin.initiator_id,
        user_id=origin.user_id,
        parent_id=origin.parent_id,
        priority=origin.priority,
        retries=request.retries if request.HasField("retries") else DEFAULT_RETRIES,
        min_results=request.min_results if request.HasField("min_results") else None,
        fail_fast=request.fail_fast,
        retry_failures=request.retry_failures,
        deadline=request.deadline.ToDatetime(tzinfo=dt.UTC) if request.HasField("deadline") else None,
        state=TaskState.PENDING,
        created_at=now(),
    )


async def _add_results(store: Store, bus: Bus, task: Task, targets: list[task_pb2.TaskOrganization]) -> None:
    results = await store.results.add_pending(task.id, [target.id for target in targets])
    await store.results.add_contents([
        NewContent(result.id, "input", None, target.input_payload_id)
        if target.input_payload_id
        else NewContent(result.id, "input", target.input)
        for result, target in zip(results, targets, strict=True)
    ])  # fmt: skip
    for result, target in zip(results, targets, strict=True):
        record_result(store, bus, task, result)
        wake = Wake(target.id, task.collaboration_id)
        store.after_commit(lambda wake=wake: bus.publish(wake))  # type: ignore[misc]


async def cancel(store: Store, bus: Bus, caller: Caller, task_id: int) -> Task:
    """Cancels what is open of a task and of its children."""
    task = await visible(store, caller, task_id)
    _require(caller, task, Operation.EDIT)
    await cancel_family(store, bus, task.id, "CANCELLED", "cancelled on request")
    return task


async def delete(store: Store, bus: Bus, caller: Caller, task_id: int) -> list[Payload]:
    """Deletes a task with all that it led to; returns the payloads whose bytes can go after the commit."""
    task = await visible(store, caller, task_id)
    _require(caller, task, Operation.DELETE)
    await cancel_family(store, bus, task.id, "CANCELLED", "the task was deleted")
    await store.flush()
    payloads = await store.payloads.of_tasks(await store.tasks.descendant_ids(task.id))
    await store.tasks.delete(task)
    await store.flush()
    # One upload may be the input of several tasks.
    unused = [payload for payload in payloads if not await store.payloads.uses(payload.id)]
    for payload in unused:
        await store.payloads.delete(payload)
    return unused


async def visible(store: Store, caller: Caller, task_id: int) -> Task:
    """The task, if the caller may know of it."""
    task = await store.tasks.visible(task_id, permissions.task_sight(caller, Resource.TASK))
    if task is None:
        raise NotFound(f"there is no task {task_id} that you may see", id=task_id)
    return task


def _require(caller: Caller, task: Task, operation: Operation) -> None:
    if isinstance(caller, ContainerCaller):
        may = permissions.scope_of(caller, Resource.TASK, operation) is not None
        if not may or task.parent_id != caller.task_id:
            raise PermissionDenied("an algorithm may cancel its own subtasks, and delete none")
        return
    permissions.require(
        caller,
        Resource.TASK,
        operation,
        own=isinstance(caller, UserCaller) and caller.id == task.user_id,
        organization_id=task.initiator_id,
        collaboration_ids=[task.collaboration_id],
    )
