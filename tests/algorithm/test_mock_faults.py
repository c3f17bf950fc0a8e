"""MockNetwork with something wrong: sites that fail, refuse, or are slow, and rules on what may leave."""

from __future__ import annotations

import datetime as dt
from types import ModuleType

import pandas as pd
import pytest

from vantage6.algorithm import AlgorithmClient, SubtaskError, algorithm_client, data, remote
from vantage6.algorithm.mock import Fails, MockNetwork, Refuses, Slow
from vantage6.node.disclosure import Disclosure


@data(1)
def rows(frame: pd.DataFrame) -> dict[str, int]:
    return {"count": len(frame)}


@algorithm_client
def quorum(client: AlgorithmClient, needed: int | None = None, seconds: int | None = None) -> list[int]:
    deadline = None if seconds is None else dt.timedelta(seconds=seconds)
    subtask = client.subtask("rows", min_results=needed, deadline=deadline)
    return [each.organization_id for each in subtask.wait(needed)]


@algorithm_client
def tell(client: AlgorithmClient, count: int) -> int:
    return len(client.subtask("echo", count=count).values())


@remote
def echo(count: int) -> int:
    return count


@algorithm_client
def large(client: AlgorithmClient) -> None:
    client.write_output([b"bytes.", b"x" * 3_000_000])


@algorithm_client
def card(client: AlgorithmClient) -> None:
    client.check_card(1, b"")


def network(*faults: object, counts: tuple[int, ...] = (6, 7, 8), **more: object) -> MockNetwork:
    package = ModuleType("made")
    for function in (rows, quorum, tell, echo, large, card):
        setattr(package, function.__name__, function)
    chosen = {number: fault for number, fault in enumerate(faults, start=1) if fault is not None}
    frames = [pd.DataFrame({"id": range(count)}) for count in counts]
    return MockNetwork(package, frames, faults=chosen, **more)  # type: ignore[arg-type]


def outcomes(made: MockNetwork) -> list[tuple[int, str, str]]:
    return [(each.organization_id, each.state, each.reason) for each in made.results("rows")]


@pytest.mark.row("M26")
def test_sites_that_fail_and_refuse() -> None:
    assert outcomes(network(None, Fails(reason="OUT_OF_MEMORY"), Refuses())) == [
        (1, "completed", ""),
        (2, "failed", "OUT_OF_MEMORY"),
        (3, "refused", "IMAGE_NOT_ALLOWED"),
    ]


def test_a_fault_of_one_method_only() -> None:
    made = network(Fails(method="rows"))
    assert made.run("echo", 1) == 1
    assert outcomes(made)[0][1] == "failed"


def test_slow_sites_come_last_and_nobody_waits() -> None:
    assert [each for each, _, _ in outcomes(network(Slow(7200), None, Slow(3600)))] == [2, 3, 1]


def test_enough_results_are_enough() -> None:
    assert network(Slow(60)).run("quorum", 2) == [2, 3]
    assert network(None, Fails(method="rows")).run("quorum", 2) == [1, 3]
    assert network().run("quorum") == [1, 2, 3]


def test_too_few_say_who_and_why() -> None:
    made = network(None, Fails(method="rows", reason="OUT_OF_MEMORY"), Refuses(method="rows"))
    with pytest.raises(
        SubtaskError, match=r"1 of 2 .*organization 2: failed OUT_OF_MEMORY .*; organization 3: refused"
    ):
        made.run("quorum", 2)


def test_who_misses_the_deadline_has_failed() -> None:
    made = network(None, None, Slow(60, method="rows"))
    with pytest.raises(SubtaskError, match="organization 3: failed DEADLINE"):
        made.run("quorum", None, 30)
    assert network(None, None, Slow(10, method="rows")).run("quorum", None, 30) == [1, 2, 3]


@pytest.mark.attack
@pytest.mark.row("M44")
def test_the_nodes_own_rules_decide_what_leaves() -> None:
    rules = Disclosure([{"rule": "minimum_records", "minimum": 7}])
    assert outcomes(network(disclosure=rules)) == [
        (1, "refused", "MINIMUM_RECORDS"),
        (2, "completed", ""),
        (3, "completed", ""),
    ]
    assert network(disclosure=rules).run("tell", 9) == 3
    # A method may not tell by a subtask's input what it may not return.
    with pytest.raises(SubtaskError, match="fewer than 7"):
        network(disclosure=rules).run("tell", 3)


def test_rules_for_one_method() -> None:
    rules = Disclosure([{"rule": "minimum_records", "minimum": 100, "methods": ["other"]}])
    assert {state for _, state, _ in outcomes(network(disclosure=rules))} == {"completed"}


def test_streamed_outputs_and_cards() -> None:
    assert network().run("large") == b"x" * 3_000_000
    [failed] = network().results("card", organizations=[1])
    assert "nobody has a key" in failed.message
