"""MockNetwork with something wrong: sites that fail, refuse, or are slow, and rules on what may leave."""

from __future__ import annotations

import datetime as dt
from types import ModuleType

import pandas as pd
import pytest

from vantage6.algorithm import AlgorithmClient, SubtaskError, algorithm_client, data, remote
from vantage6.algorithm.mock import Fails, MockNetwork, Refuses, Slow
from vantage6.api.v1.delivery_pb2 import Assignment
from vantage6.node.disclosure import Disclosure, Released
from vantage6.node.outcome import of_exit
from vantage6.node.policy import Refused
from vantage6.node.runtimes.base import Exit


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
def opaque(client: AlgorithmClient) -> None:
    client.write_output([b"in no format"])


@algorithm_client
def silent(client: AlgorithmClient) -> None:
    client.write_output([])


@algorithm_client
def card(client: AlgorithmClient) -> None:
    client.check_card(1, b"")


def network(*faults: object, counts: tuple[int, ...] = (6, 7, 8), **more: object) -> MockNetwork:
    package = ModuleType("made")
    for function in (rows, quorum, tell, echo, large, card, opaque, silent):
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
    made = network(disclosure=rules)
    with pytest.raises(SubtaskError, match=r"organization 1: failed ALGORITHM_FAILED .* exit code 1"):
        made.run("tell", 3)
    [(organization, text)] = made.kept
    assert organization == 1
    assert "fewer than 7" in text


RULES = [{"rule": "minimum_records", "minimum": 1}]


@pytest.mark.parametrize(
    ("method", "args", "code", "text"),
    [("absent", (), 2, "there is no method 'absent'"), ("echo", ("a",), 2, "argument 'count'"), ("card", (), 1, "key")],
)
def test_a_site_with_rules_says_as_little_as_its_node(
    method: str, args: tuple[object, ...], code: int, text: str
) -> None:
    """The node's own words: it decides by the exit code, and its log stays where it is."""
    made = network(counts=(6,), disclosure=Disclosure(RULES))
    [kept] = made.results(method, *args)
    expected = of_exit(Exit(code), deadline_passed=False, log=b"")
    assert expected is not None
    assert (kept.reason, kept.message) == (expected.reason, expected.message)
    assert text in made.kept[0][1]
    [told] = network(counts=(6,)).results(method, *args)
    assert told.reason == expected.reason
    assert text in told.message


def test_the_words_for_an_input_that_does_not_fit() -> None:
    [result] = network(counts=(6,), disclosure=Disclosure(RULES)).results("absent")
    assert result.message == (
        "the input does not fit the algorithm: its method, its arguments, or the databases that the task names "
        "(exit code 2); the site keeps its log"
    )


def test_what_the_rules_cannot_read_is_refused_as_by_a_node() -> None:
    [result] = network(counts=(6,), disclosure=Disclosure(RULES)).results("opaque")
    expected = Released(Assignment(), b"none", "output", "opaque")
    with pytest.raises(Refused) as caught:
        _ = expected.value
    assert (result.state, result.reason, result.message) == ("refused", "OUTPUT_UNREADABLE", caught.value.message)


def test_nothing_written_is_no_output() -> None:
    [result] = network(counts=(6,)).results("silent")
    assert (result.state, result.reason) == ("failed", "OUTPUT_MISSING")


def test_rules_for_one_method() -> None:
    rules = Disclosure([{"rule": "minimum_records", "minimum": 100, "methods": ["other"]}])
    assert {state for _, state, _ in outcomes(network(disclosure=rules))} == {"completed"}


def test_streamed_outputs_and_cards() -> None:
    assert network().run("large") == b"x" * 3_000_000
    [failed] = network().results("card", organizations=[1])
    assert "nobody has a key" in failed.message
