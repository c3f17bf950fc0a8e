"""What a node is told about a result that it shall run."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vantage6.api.v1 import content_pb2, delivery_pb2
from vantage6.server.domain.caller import NodeCaller
from vantage6.server.domain.states import ResultState
from vantage6.server.store.bulk import Moving
from vantage6.server.store.parties import Identity
from vantage6.server.store.results import Stored
from vantage6.server.store.sql import Store
from vantage6.server.store.tables import Task


async def assignment_messages(
    store: Store,
    picked: list[tuple[Moving, Task]],
    counts: Mapping[int, Mapping[ResultState, int]],
    nodes: Mapping[tuple[int, int], NodeCaller],
    issue_token: Callable[[Moving, Task, int], str],
) -> list[delivery_pb2.Assignment]:
    """One message for each, with the input itself if it is small; a constant number of queries.

    `counts` are those of their tasks' results.
    """
    tasks = {task.id: task for _, task in picked}
    inputs = await store.results.contents([result.id for result, _ in picked], "input")
    initiators = await store.parties.identities({t.initiator_id for t in tasks.values() if t.initiator_id})
    usernames = await store.accounts.usernames({t.user_id for t in tasks.values() if t.user_id})
    messages = []
    for result, task in picked:
        message = delivery_pb2.Assignment(
            result_id=result.id,
            epoch=result.epoch,
            task_id=task.id,
            task_key=task.key,
            task_name=task.name,
            run_id=task.run_id,
            parent_task_id=task.parent_id or 0,
            collaboration_id=task.collaboration_id,
            image=task.image,
            databases=task.databases,
            user_id=task.user_id or 0,
            username=usernames.get(task.user_id or 0, ""),
            participants=sum(counts[task.id].values()),
            input=content_message(inputs.get((result.id, "input"))),
        )
        if task.initiator_id in initiators:
            message.initiator.CopyFrom(_party(initiators[task.initiator_id]))
        if task.deadline:
            message.deadline.FromDatetime(task.deadline)
        node = nodes[result.organization_id, task.collaboration_id]
        message.container_token = issue_token(result, task, node.id)
        messages.append(message)
    return messages


def content_message(content: Stored | None) -> content_pb2.Content:
    """A stored content as a message; empty for none."""
    if content is None:
        return content_pb2.Content()
    if content.payload_id:
        return content_pb2.Content(payload_id=content.payload_id)
    return content_pb2.Content(inline=content.data or b"")


def _party(organization: Identity) -> delivery_pb2.Party:
    return delivery_pb2.Party(
        organization_id=organization.id, name=organization.name, public_key=organization.public_key
    )
