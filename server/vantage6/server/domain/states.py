"""The state machine of results, as one table, and the task's state that follows from its results."""

from __future__ import annotations

import enum
from collections.abc import Mapping


class ResultState(enum.IntEnum):
    """Numbers of the contract (result.proto)."""

    PENDING = 1
    ASSIGNED = 2
    PULLING = 3
    RUNNING = 4
    COMPLETED = 5
    FAILED = 6
    REFUSED = 7
    CANCELLED = 8
    LOST = 9


class TaskState(enum.IntEnum):
    """Numbers of the contract (task.proto)."""

    PENDING = 1
    RUNNING = 2
    COMPLETED = 3
    FAILED = 4
    CANCELLED = 5


_S = ResultState
FINAL = frozenset({_S.COMPLETED, _S.FAILED, _S.REFUSED, _S.CANCELLED, _S.LOST})
ACTIVE = frozenset({_S.ASSIGNED, _S.PULLING, _S.RUNNING})
OPEN = ACTIVE | {_S.PENDING}

MOVES: Mapping[ResultState, frozenset[ResultState]] = {
    # By the server alone: handed out, cancelled, too late, lost too often, its node deleted.
    _S.PENDING: frozenset({_S.ASSIGNED, _S.CANCELLED, _S.FAILED, _S.LOST}),
    # Back to PENDING when it never reached its node, or vanished with it and may be tried again.
    _S.ASSIGNED: frozenset({_S.PENDING, _S.PULLING, _S.RUNNING}) | FINAL,
    _S.PULLING: frozenset({_S.PENDING, _S.RUNNING}) | FINAL,
    _S.RUNNING: frozenset({_S.PENDING}) | FINAL,
    **{state: frozenset() for state in FINAL},
}

REPORTABLE = ACTIVE | FINAL
"""What a node may say of a result that it holds."""


class Verdict(enum.Enum):
    """What to do with a node's report of the current assignment."""

    MOVE = "move"
    # Said before, or overtaken: acknowledged without effect, so that the node stops saying it.
    KNOWN = "known"
    REFUSE = "refuse"


def judge(current: ResultState, reported: ResultState) -> Verdict:
    """Decides about a report whose epoch is the current one."""
    if reported not in REPORTABLE:
        return Verdict.REFUSE
    if reported == current or (reported in ACTIVE and (current in FINAL or reported < current)):
        return Verdict.KNOWN
    return Verdict.MOVE if reported in MOVES[current] else Verdict.REFUSE


INFRASTRUCTURE = frozenset({"RUNTIME_UNAVAILABLE", "IMAGE_UNREACHABLE", "DISK_FULL"})
"""Reasons of a node's FAILED that say nothing of the algorithm: the site's surroundings failed. As good as a loss."""


def is_retried(reported: ResultState, reason: str, *, failures: bool) -> bool:
    """Whether what a node reports as the end of a run is worth another try, while the task's `retries` last.

    `failures`: the task wants every failure tried again.
    """
    if reported is _S.FAILED:
        return reason in INFRASTRUCTURE or (failures and reason != "DEADLINE")
    return reported is _S.LOST


def task_state(counts: Mapping[ResultState, int], min_results: int | None, *, fail_fast: bool = False) -> TaskState:
    """Derives a task's state from how many of its results are in which state."""
    total = sum(counts.values())
    needed = total if min_results is None else min(min_results, total)
    if counts.get(_S.COMPLETED, 0) >= needed:
        return TaskState.COMPLETED
    still_open = sum(counts.get(state, 0) for state in OPEN)
    if fail_fast and counts.get(_S.COMPLETED, 0) + still_open < needed:
        return TaskState.FAILED
    if still_open == 0:
        return TaskState.CANCELLED if counts.get(_S.CANCELLED, 0) else TaskState.FAILED
    return TaskState.PENDING if counts.get(_S.PENDING, 0) == total else TaskState.RUNNING


TASK_FINAL = frozenset({TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED})
OPEN_TASK_STATES = frozenset(TaskState) - TASK_FINAL
