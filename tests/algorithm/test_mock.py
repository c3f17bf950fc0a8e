"""MockNetwork: the real dispatch and serialization over data frames in one process."""

from __future__ import annotations

from types import ModuleType

import pandas as pd
import pytest

from vantage6.algorithm import AlgorithmClient, AlgorithmError, SubtaskError, algorithm_client, data, remote
from vantage6.algorithm.mock import MockNetwork
from vantage6.common.errors import PermissionDenied


@data(1)
def rows(frame: pd.DataFrame) -> int:
    if len(frame) == 1:
        raise AlgorithmError("a single record tells too much")
    return len(frame)


@data(2)
def joined(left: pd.DataFrame, right: pd.DataFrame) -> int:
    return len(left.merge(right, on="id"))


@remote
def shifted(by: int, base: int = 0) -> tuple[int, int]:
    return base, by


@algorithm_client
@data(1)
def both(client: AlgorithmClient, frame: pd.DataFrame) -> list[object]:
    return [len(frame), [each.name for each in client.participants()], client.run.organization_id]


@algorithm_client
def central(client: AlgorithmClient, organizations: list[int] | None = None) -> dict[str, object]:
    subtask = client.subtask("rows", organizations=organizations)
    client.progress(0.5, "asked")
    client.log("asked")
    return {each.organization_name: each.value if each.completed else each.message for each in subtask}


@algorithm_client
def strict(client: AlgorithmClient) -> list[object]:
    return client.subtask("rows").values()


@algorithm_client
def own_inputs(client: AlgorithmClient) -> list[object]:
    return client.subtask("shifted", 1, inputs={1: {"base": 10}, 2: {"base": 20}}, organizations=[1, 2]).values()


@pytest.fixture
def package() -> ModuleType:
    made = ModuleType("made")
    for function in (rows, joined, shifted, both, central, strict, own_inputs):
        setattr(made, function.__name__, function)
    return made


def frames(*counts: int) -> list[pd.DataFrame]:
    return [pd.DataFrame({"id": range(count)}) for count in counts]


@pytest.mark.row("M44")
def test_central_and_partial(package: ModuleType) -> None:
    network = MockNetwork(package, frames(3, 4), names=["north", "south"])
    assert network.run("central") == {"north": 3, "south": 4}
    assert network.progress == [(0.5, "asked")]
    assert network.log == ["asked"]


def test_values_go_through_the_serialization(package: ModuleType) -> None:
    assert MockNetwork(package, frames(3)).run("shifted", 2) == [0, 2]  # a tuple is a list elsewhere


def test_a_failing_site_fails_alone(package: ModuleType) -> None:
    network = MockNetwork(package, frames(3, 1))
    assert network.run("central") == {"organization 1": 3, "organization 2": "a single record tells too much"}
    with pytest.raises(SubtaskError, match="a single record"):
        network.run("strict")
    states = {each.organization_id: (each.state, each.reason) for each in network.results("rows")}
    assert states == {1: ("completed", ""), 2: ("failed", "ALGORITHM_FAILED")}


def test_inputs_of_their_own(package: ModuleType) -> None:
    assert MockNetwork(package, frames(1, 1)).run("own_inputs") == [[10, 1], [20, 1]]


def test_frames_and_client_come_in_the_order_of_the_decorators(package: ModuleType) -> None:
    assert MockNetwork(package, frames(2, 5)).run("both", organization=2) == [
        5,
        ["organization 1", "organization 2"],
        2,
    ]


def test_several_databases(package: ModuleType) -> None:
    left, right = frames(5, 3)
    assert MockNetwork(package, [{"a": left, "b": right}]).run("joined") == 3
    [failed] = MockNetwork(package, [left]).results("joined")
    assert (failed.state, failed.reason) == ("failed", "ALGORITHM_FAILED")
    assert failed.message == "this method reads 2 databases and the task names 1"


def test_a_site_cannot_change_what_others_read(package: ModuleType) -> None:
    frame = frames(3)[0]

    @data(1)
    def spoil(frame: pd.DataFrame) -> None:
        frame["id"] = 0

    package.spoil = spoil  # type: ignore[attr-defined]
    MockNetwork(package, [frame]).run("spoil")
    assert frame["id"].sum() == 3


def test_an_unknown_organization_is_refused(package: ModuleType) -> None:
    with pytest.raises(PermissionDenied):
        MockNetwork(package, frames(1)).run("rows", organization=7)
