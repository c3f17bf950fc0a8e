"""The states of a result, by the names that the node's code uses."""

from __future__ import annotations

from typing import TypeAlias

from vantage6.api.v1.result_pb2 import ResultState

State: TypeAlias = ResultState.ValueType

ASSIGNED = ResultState.RESULT_STATE_ASSIGNED
PULLING = ResultState.RESULT_STATE_PULLING
RUNNING = ResultState.RESULT_STATE_RUNNING
COMPLETED = ResultState.RESULT_STATE_COMPLETED
FAILED = ResultState.RESULT_STATE_FAILED
REFUSED = ResultState.RESULT_STATE_REFUSED
CANCELLED = ResultState.RESULT_STATE_CANCELLED
LOST = ResultState.RESULT_STATE_LOST

FINAL = frozenset({COMPLETED, FAILED, REFUSED, CANCELLED, LOST})
