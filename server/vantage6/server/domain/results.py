"""What happens to results: reports of nodes, each accepted exactly once; losses, retries, cancellation, quorum."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from vantage6.server import metrics
from vantage6.server.domain.bus import Bus, Stop
from vantage6.server.domain.events import now, record_result, record_task
from vantage6.server.domain.states import (
    ACTIVE,
    FINAL,
    MOVES,
    OPEN,
    TASK_FINAL,
    ResultState,
    TaskState,
    task_state,
)
from vantage6.server.store.bulk import Moving
from vantage6.server.store.sql import Store
from vantage6.server.store.tables import Result, Task

Counts = dict[int, dict[ResultState, int]]
"""By task: how many of its results are in which state."""


def move(
    store: Store,
    bus: Bus,
    task: Task,
    result: Result | Moving,
    state: ResultState,
    reason: str = "",
    message: str = "",
) -> None:
    """Moves a result by the table and records it; a move that the table lacks is a defect and raises."""
    current = ResultState(result.state)
    if state not in MOVES[current]:
        raise AssertionError(f"result {result.id}: no move from {current.name} to {state.name}")
    result.state = state
    result.reason = reason
    result.message = message
    if state is ResultState.PENDING:
        result.assigned_at = result.started_at = result.finished_at = None
    if state in FINAL:
        result.finished_at = result.finished_at or now()
        begun, over = result.started_at, result.finished_at
        store.after_commit(lambda: metrics.ended(state.name, reason, begun, over))
    record_result(store, bus, task, result)


def lose(store: Store, bus: Bus, task: Task, result: Result | Moving, why: str) -> None:
    """A run vanished with its node: tried again as often as the task allows, else final."""
    try_again(store, bus, task, result, ResultState.LOST, "LOST", why)


def try_again(
    store: Store, bus: Bus, task: Task, result: Result | Moving, state: ResultState, reason: str, why: str
) -> None:
    """A run that ended in a way that is worth another try: back into the queue, or final if there was the last try."""
    result.losses += 1
    if result.losses <= task.retries:
        again = f"{why}; try {result.losses} of {task.retries}"
        move(store, bus, task, result, ResultState.PENDING, reason, again)
        return
    tried = f"; not tried again after {task.retries} retries" if task.retries or state is ResultState.LOST else ""
    move(store, bus, task, result, state, reason, f"{why}{tried}")


def stop(store: Store, bus: Bus, task: Task, result: Result, state: ResultState, reason: str, message: str) -> None:
    """Ends a result from the server's side at once; a node that holds it is told, now or when it comes back."""
    held = ResultState(result.state) in ACTIVE
    epoch = result.epoch
    # Whatever the node still says of this assignment is too late from here on.
    result.epoch += 1
    move(store, bus, task, result, state, reason, message)
    if held:
        order = Stop(result.organization_id, task.collaboration_id, result.id, epoch, reason)
        store.after_commit(lambda: bus.publish(order))


async def settle(store: Store, bus: Bus, tasks: Iterable[Task]) -> Counts:
    """Derives the states of tasks whose results moved; a task that is final ends what is left of it.

    Returns how many results were in which state, of those that were not final before.
    """
    by_id = {task.id: task for task in tasks if TaskState(task.state) not in TASK_FINAL}
    if not by_id:
        return {}
    await store.flush()
    counts = await store.results.counts(by_id.keys())
    finished: list[Task] = []
    for task_id, task in by_id.items():
        state = task_state(counts[task_id], task.min_results, fail_fast=task.fail_fast)
        if state == task.state:
            continue
        task.state = state
        if state not in TASK_FINAL:
            record_task(store, bus, task, complete=False)
            continue
        task.finished_at = now()
        finished.append(task)
    surplus = [task for task in finished if any(counts[task.id].get(state) for state in OPEN)]
    enough = [task for task in surplus if task.state == TaskState.COMPLETED]
    if enough:
        await stop_open(store, bus, enough, ResultState.CANCELLED, "QUORUM", "enough other sites had answered")
    if failed := [task for task in surplus if task not in enough]:
        why = "too many other sites have failed for the task to be completed, and it was to end then (fail_fast)"
        await stop_open(store, bus, failed, ResultState.CANCELLED, "FAIL_FAST", why)
    for task in finished:
        record_task(store, bus, task, complete=True, results=sum(counts[task.id].values()))
    if finished:
        await _cancel_children(store, bus, [task.id for task in finished])
    return counts


async def stop_open(
    store: Store, bus: Bus, tasks: Collection[Task], state: ResultState, reason: str, message: str
) -> None:
    """Ends all open results of some tasks."""
    by_id = {task.id: task for task in tasks}
    for result in await store.results.of_tasks(by_id.keys(), OPEN):
        stop(store, bus, by_id[result.task_id], result, state, reason, message)


async def cancel_family(store: Store, bus: Bus, task_id: int, reason: str, message: str) -> None:
    """Cancels what is open of a task and of all that it led to."""
    family = list((await store.tasks.locked(await store.tasks.descendant_ids(task_id))).values())
    await stop_open(store, bus, family, ResultState.CANCELLED, reason, message)
    await settle(store, bus, family)


async def _cancel_children(store: Store, bus: Bus, task_ids: Collection[int]) -> None:
    """Nobody waits any more for the subtasks of a task that has ended."""
    children = [child for ids in (await store.tasks.child_ids(task_ids)).values() for child in ids]
    for child in (await store.tasks.by_ids(children)).values() if children else ():
        if TaskState(child.state) not in TASK_FINAL:
            await cancel_family(store, bus, child.id, "PARENT_ENDED", "the run that asked for it has ended")


async def fail_of_node(store: Store, bus: Bus, organization_id: int, collaboration_id: int) -> None:
    """The node of an organization leaves a collaboration: what waits for it or runs there will not be done."""
    tasks = {}
    for result, task in await store.results.of_node(organization_id, collaboration_id, OPEN):
        stop(store, bus, task, result, ResultState.FAILED, "NODE_DELETED", "the organization's node was removed")
        tasks[task.id] = task
    await settle(store, bus, tasks.values())
