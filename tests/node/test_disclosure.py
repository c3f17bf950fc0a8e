"""What may leave: the site's rules see each output before it is sealed, and refusals name the rule."""

from __future__ import annotations

import re
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from tests.node.fake_runtime import FakeRuntime
from tests.node.site import OTHER, Container, SiteUnderTest
from vantage6.api.v1.algorithm_pb2 import CreateSubtaskRequest, ReportProgressRequest
from vantage6.api.v1.delivery_pb2 import Assignment, Report
from vantage6.common.errors import PermissionDenied, from_rpc_error
from vantage6.common.serialization import serialize
from vantage6.common.settings import ConfigError
from vantage6.node import disclosure, states
from vantage6.node.config import PolicySection
from vantage6.node.disclosure import Disclosure, Released
from vantage6.node.policy import Refused
from vantage6.node.runtimes.base import Exit, RunSpec

PAGE = Path(__file__).resolve().parents[2] / "docs" / "governance.md"
CELLS = [{"rule": "minimum_records", "minimum": 10}]
ROWS = [{"rule": "maximum_rows", "rows": 3}]
SCHEMA = [
    {
        "rule": "schema",
        "schema": {"type": "object", "properties": {"mean": {"type": "number"}}, "required": ["mean"]},
    }
]


@pytest.mark.parametrize(
    ("rules", "value", "refusal"),
    [
        (CELLS, {"count": 10, "sum": 3}, ""),
        (CELLS, {"count": 9, "sum": 3}, "MINIMUM_RECORDS"),
        (CELLS, {"count": 0}, "MINIMUM_RECORDS"),
        ([{**CELLS[0], "zero": True}], {"count": 0}, ""),
        (CELLS, [{"deep": {"n": [20, 3]}}], "MINIMUM_RECORDS"),
        (CELLS, {"N": {"female": 2}}, "MINIMUM_RECORDS"),
        (CELLS, {"count": True}, ""),
        ([{**CELLS[0], "fields": ["aantal"]}], {"aantal": 3}, "MINIMUM_RECORDS"),
        (ROWS, [1, 2, 3], ""),
        (ROWS, {"rows": [1, 2, 3, 4]}, "MAXIMUM_ROWS"),
        (ROWS, {str(i): i for i in range(4)}, "MAXIMUM_ROWS"),
        (SCHEMA, {"mean": 3.5}, ""),
        (SCHEMA, {"mean": "patient 7"}, "SCHEMA"),
        (SCHEMA, {"mean": 1, "more": 2}, "SCHEMA"),
        (SCHEMA, {}, "SCHEMA"),
        (SCHEMA, [1], "SCHEMA"),
        ([*CELLS, *ROWS], {"count": 20, "x": [1] * 9}, "MAXIMUM_ROWS"),
        ([{**ROWS[0], "methods": ["other"]}], [1] * 9, ""),
        ([{**ROWS[0], "methods": ["me.n"]}], [1] * 9, "MAXIMUM_ROWS"),
        (CELLS, {"count": "12"}, "MINIMUM_RECORDS"),
        (CELLS, {"counts": ["three", 20]}, "MINIMUM_RECORDS"),
        (CELLS, {"counts": [{"group": "a", "n": 20}]}, ""),
        (CELLS, {"counts": [{"group": "a", "number": "3"}]}, "MINIMUM_RECORDS"),
        ([{**ROWS[0], "to": ["subtask"]}], [1] * 9, ""),
    ],
)
@pytest.mark.parametrize("format_", ["json"])
def test_built_in_rules(rules: list[dict[str, Any]], value: object, refusal: str, format_: str) -> None:
    assert verdict(rules, serialize(value, format_)) == refusal


@pytest.mark.parametrize(("rules", "refusal"), [(CELLS, "MINIMUM_RECORDS"), (ROWS, "MAXIMUM_ROWS")])
def test_tables(rules: list[dict[str, Any]], refusal: str) -> None:
    assert verdict(rules, serialize(pd.DataFrame({"n": [20, 30]}), "arrow")) == ""
    assert verdict(rules, serialize(pd.DataFrame({"n": [20, 30, 4, 50]}), "arrow")) == refusal


LEVELS = pd.MultiIndex.from_tuples([("a", 20), ("b", 2)], names=["group", "n"])


@pytest.mark.attack
@pytest.mark.parametrize(
    "value",
    [
        pd.Series(["a"] * 12 + ["b"] * 3).value_counts(),
        pd.Series([20, 3], name="Count"),
        pd.DataFrame({"mean": [1.5, 2.5]}, index=pd.Index([20, 3], name="count")),
        pd.DataFrame({"mean": [1.5, 2.5]}, index=LEVELS),
        pd.DataFrame({"n": ["20", "3"]}),
    ],
)
def test_counts_of_pandas(value: object) -> None:
    """A series called as a count, and counts among the labels of rows."""
    assert verdict(CELLS, serialize(value, "arrow")) == "MINIMUM_RECORDS"
    assert verdict([{**CELLS[0], "fields": ["aantal"]}], serialize(value, "arrow")) == ""


@pytest.mark.attack
@pytest.mark.parametrize("data", [b"\x80\x04]", b"secret", b"json.{", b"zip.x", b"json." + b"[" * 100_000])
def test_what_no_rule_can_read_stays(data: bytes) -> None:
    assert verdict(CELLS, data) == "OUTPUT_UNREADABLE"


@pytest.mark.attack
@pytest.mark.parametrize("what", ["output", "subtask"])
def test_a_method_that_is_not_known_may_be_any(what: str) -> None:
    """An input that names two methods, or a node that has forgotten it: no rule is dropped for that."""
    with pytest.raises(Refused):
        Disclosure([{**ROWS[0], "methods": ["mean"]}]).check(Released(Assignment(), b"json.[1,2,3,4]", what))


def verdict(rules: list[dict[str, Any]], data: bytes, method: str = "mean") -> str:
    try:
        Disclosure(rules).check(Released(Assignment(), data, method=method))
    except Refused as error:
        return error.rule
    return ""


def test_a_rule_of_the_site(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("no_names", "tests.node.test_disclosure:NoNames", disclosure.GROUP)
    monkeypatch.setattr(disclosure, "entry_points", lambda **_: [point])
    assert verdict([{"rule": "no_names", "word": "Smith"}], b'json."Smith"') == "NO_NAMES"
    assert verdict([{"rule": "no_names", "word": "Smith"}], b'json."x"') == ""
    assert verdict([{"rule": "no_names", "word": "break"}], b'json."x"') == "DISCLOSURE_FAILED"


class NoNames:
    name = "no_names"

    def __init__(self, word: str) -> None:
        self._word = word

    def check(self, released: Released) -> None:
        if self._word == "break":
            raise ZeroDivisionError
        if self._word in str(released.value):
            raise Refused("NO_NAMES", "it names somebody")


@pytest.mark.parametrize("settings", [{"rule": "unknown"}, {}, {"rule": "maximum_rows", "row": 3}])
def test_settings_that_are_wrong(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Disclosure([settings])


def writes(data: bytes) -> FakeRuntime:
    async def algorithm(spec: RunSpec) -> Exit:
        (spec.run_dir / "output").write_bytes(data)
        return Exit(0)

    return FakeRuntime(algorithm)


async def outcome(site: SiteUnderTest, policy: dict[str, Any], state: int, data: bytes, **more: Any) -> Report:
    site.settings["policy"] = {"allowed_images": [".*"], **policy}
    connection = await site.online()
    connection.send(assignment=site.assignment(data, **more))
    return await site.server.report(state)


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        ({"disclosure": CELLS}, "MINIMUM_RECORDS"),
        ({"disclosure": SCHEMA}, "SCHEMA"),
        ({"max_output_bytes": 5}, "OUTPUT_TOO_LARGE"),
        ({"min_participants": 4}, "TOO_FEW_PARTICIPANTS"),
        ({"allowed_methods": ["med.*"]}, "METHOD_NOT_ALLOWED"),
    ],
)
async def test_refusals_are_final_and_named(site: SiteUnderTest, policy: dict[str, Any], reason: str) -> None:
    site.runtime = writes(b'json.{"count": 4}')
    (site.folder / "a.csv").write_text("a\n")
    site.settings["databases"] = {"default": {"uri": str(site.folder / "a.csv")}}
    data = b'json.{"method": "mean"}'
    report = await outcome(site, policy, states.REFUSED, data, databases=["default"])
    assert report.reason == reason
    assert "4" not in report.message.replace("at least 4", "")
    assert not report.HasField("output")


@pytest.mark.attack
@pytest.mark.parametrize(
    "data",
    [
        b'json.{"method": "median", "method": "mean"}',
        b'json.{"method": ["median"]}',
        b'json.["median"]',
        b"json.{",
        b"arrow.median",
        b"median",
        b"json." + b"[" * 50_000,
    ],
)
async def test_inputs_whose_method_cannot_be_told(site: SiteUnderTest, data: bytes) -> None:
    assert (await outcome(site, {"allowed_methods": ["median"]}, states.REFUSED, data)).reason == "METHOD_NOT_ALLOWED"
    assert not site.runtime.started


async def test_so_many_outputs_a_day_also_after_a_restart(site: SiteUnderTest) -> None:
    site.runtime = writes(b"json.1")
    await outcome(site, {"max_outputs_per_day": 2}, states.COMPLETED, b"json.{}")
    await site.stop()
    connection = await site.online()
    connection.send(assignment=site.assignment(result_id=13))
    await site.server.report(states.COMPLETED)
    connection.send(assignment=site.assignment(result_id=14))
    assert (await site.server.report(states.REFUSED)).reason == "TOO_MANY_OUTPUTS"
    connection.send(assignment=site.assignment(result_id=15, username="bob"))
    await site.server.report(states.COMPLETED)


@pytest.mark.attack
async def test_subtasks_and_texts_are_no_way_around(site: SiteUnderTest) -> None:
    """An algorithm that may not put a value into its output puts it into a subtask's input, a name or its progress."""
    import grpc  # noqa: PLC0415

    seen: list[Exception] = []

    async def algorithm(spec: RunSpec) -> Exit:
        async with Container(spec.run_dir) as run:
            await run.stub.ReportProgress(ReportProgressRequest(fraction=0.5, text="patient 7"), metadata=run.metadata)
            for data in (b'json.{"count": 1}', b'json.{"count": 100}'):
                request = CreateSubtaskRequest(input=data, organization_ids=[OTHER], name="patient 7", description="7")
                try:
                    await run.stub.CreateSubtask(request, metadata=run.metadata)
                except grpc.aio.AioRpcError as error:
                    seen.append(from_rpc_error(error))
        (spec.run_dir / "output").write_bytes(b"json.1")
        return Exit(0)

    site.runtime = FakeRuntime(algorithm)
    await outcome(site, {"disclosure": CELLS}, states.COMPLETED, b"json.{}")
    assert [type(each) for each in seen] == [PermissionDenied]
    assert len(site.server.task_requests) == 1
    assert not site.server.task_requests[0].name
    assert not site.server.task_requests[0].description
    assert not [each for each in site.server.messages if each.progress.text]


@pytest.mark.attack
async def test_subtask_inputs_count_as_output(site: SiteUnderTest) -> None:
    """An algorithm that may put little into its output ships the rest as the input of a subtask."""
    import grpc  # noqa: PLC0415

    seen: list[Exception] = []

    async def algorithm(spec: RunSpec) -> Exit:
        async with Container(spec.run_dir) as run:
            request = CreateSubtaskRequest(input=b"json." + b"1" * 2000, organization_ids=[OTHER])
            try:
                await run.stub.CreateSubtask(request, metadata=run.metadata)
            except grpc.aio.AioRpcError as error:
                seen.append(from_rpc_error(error))
        (spec.run_dir / "output").write_bytes(b"json.1")
        return Exit(0)

    site.runtime = FakeRuntime(algorithm)
    await outcome(site, {"max_output_bytes": 1000}, states.COMPLETED, b"json.{}")
    assert [type(each) for each in seen] == [PermissionDenied]
    assert not site.server.task_requests


def test_the_rules_of_the_page() -> None:
    [text] = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    rules = PolicySection.model_validate(yaml.safe_load(text)["policy"]).disclosure
    assert [rule["rule"] for rule in rules] == ["minimum_records", "maximum_rows", "schema"]
    Disclosure(rules)
