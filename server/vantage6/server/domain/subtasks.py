"""What a run may ask for: an algorithm that starts itself again and again must come to an end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vantage6.common.errors import FailedPrecondition, PermissionDenied

if TYPE_CHECKING:
    from vantage6.api.v1 import task_pb2
    from vantage6.server.store.sql import Store
    from vantage6.server.store.tables import Task

MAX_DEPTH = 8
MAX_PER_RUN = 10_000


@dataclass(frozen=True)
class SubtaskLimits:
    """`depth` is 1 for the subtasks of a user's task; `per_run` counts all that a user's task led to."""

    depth: int = MAX_DEPTH
    per_run: int = MAX_PER_RUN


async def check_limits(store: Store, parent: Task, limits: SubtaskLimits) -> None:
    """Whether `parent`, which is locked, may have one more subtask.

    Two tasks of one run are not kept from each other: what they ask for in the same moment may exceed `per_run`.
    The error is not RESOURCE_EXHAUSTED, which programs take for an invitation to try again.
    """
    depth, size = await store.tasks.lineage(parent)
    if depth > limits.depth:
        raise FailedPrecondition(
            f"task {parent.id} is a subtask at depth {depth - 1}, and this server allows {limits.depth}: "
            "let a task further up ask for it, or raise 'max_subtask_depth' in the server's configuration",
            max_subtask_depth=limits.depth,
        )
    if size > limits.per_run:  # The run's first task is no subtask.
        raise FailedPrecondition(
            f"run {parent.run_id} has {size - 1} subtasks, and this server allows {limits.per_run}: delete those that "
            "are no longer needed, or raise 'max_subtasks_per_run' in the server's configuration",
            max_subtasks_per_run=limits.per_run,
        )


def priority_under(parent: Task, request: task_pb2.CreateTaskRequest) -> int:
    """The priority of a subtask: at most its parent's, so that nobody's algorithm pushes itself to the front."""
    if not request.HasField("priority"):
        return min(0, parent.priority)
    if request.priority > parent.priority:
        raise PermissionDenied(
            f"priority: a subtask has at most the priority of the task that asks for it, that is {parent.priority}"
        )
    return request.priority
