"""Rows of tasks and results to messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vantage6.api.v1 import content_pb2, result_pb2, task_pb2
from vantage6.server.domain.caller import Call, ContainerCaller, NodeCaller, Resource, UserCaller, current_call
from vantage6.server.rpc.links import API, Value, embedded, encoded, link, links, moment, null, value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vantage6.server.store.results import Stored
    from vantage6.server.store.tables import Result, Task


def task_message(
    row: Task,
    result_ids: Sequence[int] = (),
    child_ids: Sequence[int] = (),
    *,
    parent_id: int | None = None,
    rest: bool | None = None,
    results: Sequence[result_pb2.Result] | None = None,
) -> task_pb2.Task:
    """`rest` is the door of the current call unless given; `results` are embedded in place of links to them.

    `result_ids`, `child_ids` and `parent_id` are of what the caller may see, and used by REST only: a gRPC caller asks
    for them when it wants them.
    """
    call = current_call()
    message = task_pb2.Task(
        id=row.id,
        name=row.name,
        description=row.description,
        image=row.image,
        run_id=row.run_id,
        complete=row.finished_at is not None,
        key=row.key,
        retries=row.retries,
        min_results=row.min_results,
        fail_fast=row.fail_fast,
        retry_failures=row.retry_failures,
        priority=row.priority,
        databases=row.databases,
    )
    message.state = row.state  # type: ignore[assignment]  # The column holds the numbers of the contract.
    message.create_time.FromDatetime(row.created_at)
    if row.finished_at is not None:
        message.finish_time.FromDatetime(row.finished_at)
    if row.deadline is not None:
        message.deadline.FromDatetime(row.deadline)
    if call.rest if rest is None else rest:
        _add_task_links(message, row, call, result_ids, child_ids, parent_id, results)
        return message
    message.collaboration_id = row.collaboration_id
    for field in ("initiator_id", "parent_id", "user_id"):
        if (number := getattr(row, field)) is not None:
            setattr(message, field, number)
    return message


def _add_task_links(
    message: task_pb2.Task,
    row: Task,
    call: Call,
    result_ids: Sequence[int],
    child_ids: Sequence[int],
    parent_id: int | None,
    results: Sequence[result_pb2.Result] | None,
) -> None:
    message.link.CopyFrom(_task_link(row, row.id, call))
    message.database.CopyFrom(value(row.databases[0] if row.databases else None))
    within = [row.collaboration_id]
    message.collaboration.CopyFrom(link(Resource.COLLABORATION, row.collaboration_id, call, collaboration_ids=within))
    message.initiator.CopyFrom(value(row.initiator_id))
    # Parent and children share the collaboration, the initiating organization and the user.
    message.parent.CopyFrom(_task_link(row, parent_id, call, child_of=None))
    message.children.CopyFrom(links(_task_link(row, child, call, child_of=row.id) for child in child_ids))
    if results is None:
        message.results.CopyFrom(links(_result_link(row, i, None, call) for i in result_ids))
        return
    message.results.CopyFrom(null())
    for result in results:
        message.results.list_value.values.append(embedded(result))


def result_message(
    row: Result,
    contents: Mapping[str, Stored] | None = None,
    *,
    task: Task | None = None,
    rest: bool | None = None,
    plain_ids: bool = False,
    embedded_task: task_pb2.Task | None = None,
    encrypted: bool = True,
    organization_name: str | None = None,
    node_online: bool | None = None,
) -> result_pb2.Result:
    """`contents` are the result's contents by kind ("input", "output", "log"); left empty where absent.

    REST wants `task` (for the methods of the links) and, for the log's spelling, `encrypted`; `plain_ids` is the form
    of 1.x in /task/{id}/result.
    """
    call = current_call()
    contents = contents or {}
    message = result_pb2.Result(
        id=row.id,
        reason=row.reason,
        message=row.message,
        epoch=row.epoch,
        organization_name=organization_name,
        node_online=node_online,
    )
    message.state = row.state  # type: ignore[assignment]  # The column holds the numbers of the contract.
    if call.rest if rest is None else rest:
        _add_result_links(message, row, task, call, plain_ids=plain_ids, embedded_task=embedded_task)
        _add_rest_contents(message, contents, encrypted=encrypted)
        return message
    for field, moment_of in (
        ("assign_time", row.assigned_at), ("start_time", row.started_at), ("finish_time", row.finished_at),
    ):  # fmt: skip
        if moment_of is not None:
            getattr(message, field).FromDatetime(moment_of)
    for kind, content in contents.items():
        getattr(message, f"{kind}_content").CopyFrom(content_message(content))
    message.organization_id = row.organization_id
    message.task_id = row.task_id
    return message


def content_message(row: Stored) -> content_pb2.Content:
    if row.payload_id is not None:
        return content_pb2.Content(payload_id=row.payload_id)
    return content_pb2.Content(inline=row.data or b"")


def _add_result_links(
    message: result_pb2.Result,
    row: Result,
    task: Task | None,
    call: Call,
    *,
    plain_ids: bool,
    embedded_task: task_pb2.Task | None,
) -> None:
    message.assigned_at.CopyFrom(moment(row.assigned_at))
    message.started_at.CopyFrom(moment(row.started_at))
    message.finished_at.CopyFrom(moment(row.finished_at))
    message.link.CopyFrom(_result_link(task, row.id, row.organization_id, call))
    if plain_ids:
        message.organization.CopyFrom(value(row.organization_id))
        message.task.CopyFrom(value(row.task_id))
        return
    within = [task.collaboration_id] if task is not None else []
    performer = row.organization_id
    message.organization.CopyFrom(
        link(Resource.ORGANIZATION, performer, call, organization_id=performer, collaboration_ids=within)
    )
    if embedded_task is not None:
        message.task.CopyFrom(embedded(embedded_task))
    else:
        message.task.CopyFrom(_task_link(task, row.task_id, call))


def _add_rest_contents(message: result_pb2.Result, contents: Mapping[str, Stored], *, encrypted: bool) -> None:
    given, output, log = (contents.get(kind) for kind in ("input", "output", "log"))
    message.input.CopyFrom(_data(given))
    message.result.CopyFrom(_data(output))
    message.input_payload.CopyFrom(_payload(given))
    message.result_payload.CopyFrom(_payload(output))
    if log is not None and log.data is not None and not encrypted:
        # NUL has no place in a JSON string that other programs are to read.
        message.log.CopyFrom(value(log.data.decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")))
    else:
        message.log.CopyFrom(_data(log))


def _data(row: Stored | None) -> Value:
    return encoded(row.data if row is not None and row.payload_id is None else None)


def _payload(row: Stored | None) -> Value:
    if row is None or row.payload_id is None:
        return null()
    return value({"id": row.payload_id, "link": f"{API}/payload/{row.payload_id}", "methods": ["GET"]})


def _task_link(task: Task | None, task_id: int | None, call: Call, child_of: int | None = None) -> Value:
    """Link to the task or to a relative of it; `child_of` is the parent's id where it is a child."""
    if task is None:
        return link(Resource.TASK, task_id, call)
    parent = child_of if child_of is not None or task_id != task.id else task.parent_id
    own = _own(task, call, {task_id, parent})
    return link(
        Resource.TASK, task_id, call,
        own=own, organization_id=task.initiator_id, collaboration_ids=[task.collaboration_id],
    )  # fmt: skip


def _result_link(task: Task | None, result_id: int, organization_id: int | None, call: Call) -> Value:
    if task is None:
        return link(Resource.RESULT, result_id, call, organization_id=organization_id)
    asker = task.initiator_id
    # A user sees the results for the own organization; a node those that it makes.
    party = organization_id if isinstance(call.caller, NodeCaller) and organization_id is not None else asker
    return link(
        Resource.RESULT, result_id, call,
        own=_own(task, call, {task.id, task.parent_id}), organization_id=party,
        collaboration_ids=[task.collaboration_id],
    )  # fmt: skip


def _own(task: Task, call: Call, family: set[int | None]) -> bool:
    caller = call.caller
    if isinstance(caller, UserCaller):
        return task.user_id == caller.id
    return isinstance(caller, ContainerCaller) and caller.task_id in family
