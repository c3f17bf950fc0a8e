"""The state machine: the table itself, and what follows from it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vantage6.api.v1 import result_pb2, task_pb2
from vantage6.server.domain.states import (
    ACTIVE,
    FINAL,
    MOVES,
    OPEN,
    TASK_FINAL,
    ResultState,
    TaskState,
    Verdict,
    judge,
    task_state,
)

states = st.sampled_from(ResultState)


def test_numbers_are_those_of_the_contract() -> None:
    for state in ResultState:
        assert result_pb2.ResultState.Value(f"RESULT_STATE_{state.name}") == int(state)
    for task in TaskState:
        assert task_pb2.TaskState.Value(f"TASK_STATE_{task.name}") == int(task)
    assert len(result_pb2.ResultState.values()) == len(ResultState) + 1
    assert len(task_pb2.TaskState.values()) == len(TaskState) + 1


def test_every_state_has_its_row_and_final_ones_go_nowhere() -> None:
    assert set(MOVES) == set(ResultState)
    assert all(not MOVES[state] for state in FINAL)
    assert all(MOVES[state] >= {ResultState.CANCELLED, ResultState.FAILED, ResultState.LOST} for state in OPEN)
    assert set(ResultState) == FINAL | OPEN


@given(start=states, reports=st.lists(states, max_size=12))
def test_any_sequence_of_reports_ends_in_at_most_one_final_state(
    start: ResultState, reports: list[ResultState]
) -> None:
    current, accepted_final = start, 0
    for report in reports:
        verdict = judge(current, report)
        if verdict is Verdict.MOVE:
            assert report in MOVES[current]
            accepted_final += report in FINAL
            current = report
    assert accepted_final <= (start not in FINAL)


@given(current=states, report=states)
def test_saying_it_twice_changes_nothing(current: ResultState, report: ResultState) -> None:
    if judge(current, report) is Verdict.MOVE:
        assert judge(report, report) is Verdict.KNOWN


@pytest.mark.parametrize("final", sorted(FINAL))
def test_another_final_state_is_refused(final: ResultState) -> None:
    for other in FINAL - {final}:
        assert judge(final, other) is Verdict.REFUSE


def test_overtaken_reports_are_acknowledged() -> None:
    assert judge(ResultState.COMPLETED, ResultState.RUNNING) is Verdict.KNOWN
    assert judge(ResultState.RUNNING, ResultState.PULLING) is Verdict.KNOWN


def test_a_node_cannot_make_a_result_pending() -> None:
    for state in ResultState:
        assert judge(state, ResultState.PENDING) in (
            Verdict.REFUSE,
            Verdict.KNOWN if state is ResultState.PENDING else Verdict.REFUSE,
        )


counts = st.dictionaries(states, st.integers(1, 5), min_size=1)


@given(counts=counts, min_results=st.none() | st.integers(1, 20))
def test_a_task_is_final_exactly_when_its_results_say_so(
    counts: dict[ResultState, int], min_results: int | None
) -> None:
    state = task_state(counts, min_results)
    total = sum(counts.values())
    needed = total if min_results is None else min(min_results, total)
    enough = counts.get(ResultState.COMPLETED, 0) >= needed
    nothing_open = not any(counts.get(s) for s in OPEN)
    assert (state in TASK_FINAL) == (enough or nothing_open)
    assert (state is TaskState.COMPLETED) == enough
    if state is TaskState.RUNNING:
        assert any(counts.get(s) for s in OPEN)
    if state is TaskState.PENDING:
        assert counts == {ResultState.PENDING: total}
    assert not (ACTIVE & FINAL)
