"""Image names, policy files, labels and messages that nobody would write: a clear answer to each, and no traceback."""

from __future__ import annotations

import asyncio
import json
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.node.fake_runtime import FakeRuntime
from tests.node.site import SiteUnderTest
from tests.node.test_hostile import NASTY
from vantage6.api.v1.delivery_pb2 import (
    Assignment,
    Cancel,
    Heartbeat,
    ReportAccepted,
    ReportRefused,
    TokenRenewal,
)
from vantage6.common.errors import InvalidArgument, Vantage6Error
from vantage6.common.settings import ConfigError
from vantage6.node import states
from vantage6.node.config import LimitsSection, PolicySection, load_config
from vantage6.node.disclosure import Disclosure, Released
from vantage6.node.doctor import check_policy
from vantage6.node.link import _beat_of
from vantage6.node.policy import Policy, Refused
from vantage6.node.runtimes.base import ImageMissing
from vantage6.node.runtimes.registries import parse
from vantage6.node.runtimes.sandbox import SandboxRuntime
from vantage6.node.workspace import Workspace

QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
PIECES = st.sampled_from([
    "a", "Z", "9", "/", "//", ":", "@", ".", "..", "-", "_", "__", "sha256:", "0" * 64, "localhost", "[::1]", ":5000",
    "%2e", "\\", "\n", "\x00", "\ud800", " ", "é", "a" * 120, "library", "registry.example",
])  # fmt: skip
NAMES = st.one_of(st.lists(PIECES, max_size=12).map("".join), st.text(max_size=300), st.sampled_from(NASTY))
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=20),
    st.sampled_from(["[", "(a+", ".*", "sha256:" + "0" * 64, "output", "minimum_records", "schema", "~/x", "~a/x"]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> SandboxRuntime:
    """With no image but one beside its folder, which no name may lead to."""
    folder = tmp_path_factory.mktemp("images")
    (folder.parent / "image.json").write_text('{"digest": "sha256:0"}')
    return SandboxRuntime(folder, folder / "state", "bwrap")


@pytest.mark.attack("X08", "CVE-2024-21649")
@QUICK
@given(NAMES)
def test_image_names(sandbox: SandboxRuntime, name: str) -> None:
    """A name is refused, or it is one that a registry could have; it never leaves the folder of images."""
    parsed = None
    with suppress(InvalidArgument):
        parsed = parse(name)
    if parsed is not None:
        assert parsed.repository == parsed.repository.lower()
        assert not set(f"{parsed.host}{parsed.repository}{parsed.tag}") & set("\\ \n\0?#%@\ud800é")
        assert ".." not in f"{parsed.repository}/".split("/")
    with pytest.raises(Refused):
        Policy(PolicySection(allowed_images=["example/average:1"])).check(_named(name))
    with pytest.raises(ImageMissing):
        asyncio.run(sandbox.pull(name))


def _named(name: str) -> Any:
    class Run:
        image = f"{name}?"  # Whatever it is, not the one that is allowed.

    return Run()


@pytest.mark.attack("X08")
@pytest.mark.parametrize("method", ["mean_of_one", "a_mean", "mean\n", "", "MEAN", None])
def test_patterns_of_methods_are_for_the_whole_name(method: str | None) -> None:
    policy = Policy(PolicySection(allowed_methods=["mean", "m[a-z]x"]))
    policy.check_method("mean")
    policy.check_method("max")
    with pytest.raises(Refused) as found:
        policy.check_method(method)
    assert found.value.rule == "METHOD_NOT_ALLOWED"
    # A rule for one method is not that for another which begins like it.
    rule = Disclosure([{"rule": "maximum_rows", "rows": 1, "methods": ["mean"]}])
    if method:
        rule.check(Released(Assignment(), b"json.[1, 2]", method=method))
    with pytest.raises(Refused):
        rule.check(Released(Assignment(), b"json.[1, 2]"))  # Not known: it may be that one.
    with pytest.raises(Refused):
        rule.check(Released(Assignment(), b"json.[1, 2]", method="mean"))


@pytest.mark.attack("X08", "X13")
@QUICK
@given(st.sampled_from(sorted(PolicySection.model_fields)), VALUES)
def test_policy_files(tmp_path: Path, key: str, value: object) -> None:
    """A policy is understood whole, or the node does not start, and says which key is wrong."""
    _starts_or_says(tmp_path, {"policy": {"allowed_images": [".*"], key: value}})


@pytest.mark.attack("X08", "X13")
@QUICK
@given(st.dictionaries(st.sampled_from(["limits", "hardening", "databases", "policy", "isolation", "trust"]), VALUES))
def test_configuration_files(tmp_path: Path, document: dict[str, object]) -> None:
    _starts_or_says(tmp_path, document)


@pytest.mark.attack("X08", "X13")
@QUICK
@given(st.one_of(st.binary(max_size=200), st.text(alphabet="{}[]:-&*!|>'\"\n #%@`,ab0~", max_size=80).map(str.encode)))
def test_files_that_are_no_yaml(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "node.yaml").write_bytes(data)
    with pytest.raises(Vantage6Error):  # Also the empty one: there is no server_url in it.
        load_config(tmp_path / "node.yaml")


def _starts_or_says(folder: Path, settings_: dict[str, Any]) -> None:
    document = {"application": {"name": "n", "server_url": "https://s", **settings_}}
    (folder / "node.yaml").write_text(yaml.safe_dump(document, allow_unicode=False))
    with suppress(ConfigError):
        config = load_config(folder / "node.yaml")
        Policy(config.policy)
        Disclosure(config.policy.disclosure)


@pytest.mark.attack("X13")
@pytest.mark.parametrize(
    "rule",
    [
        {"to": "output"},
        {"to": ["outputs"]},
        {"to": []},
        {"to": 5},
        {"methods": "mean"},
        {"methods": ["("]},
        {"methods": [5]},
        {"fields": "count"},
        {"fields": []},
        {"minimum": "10"},
        {"minimum": 0},
        {"minimum": -5},
        {"minimum": True},
        {"minimum": 2.5},
        {"zero": "false"},
        {"rule": "maximum_rows", "rows": "all"},
        {"rule": "maximum_rows", "rows": -1},
        {"rule": "schema", "schema": "object"},
        {"rule": "schema", "schema": {"type": "objekt"}},
        {"rule": "schema", "schema": {"properties": {"a": {"typ": "number"}}}},
        {"rule": "schema", "schema": {"items": True}},
        {"rule": "schema", "schema": {"maxItems": "3"}},
        {"rule": "schema", "schema": {"required": "mean"}},
    ],
)
def test_a_rule_in_the_wrong_form_is_no_rule_that_never_applies(rule: dict[str, Any], site: SiteUnderTest) -> None:
    settings_ = {"rule": "minimum_records", **rule}
    with pytest.raises(ConfigError, match=r"policy\.disclosure"):
        Disclosure([settings_])
    site.settings["policy"] = {"allowed_images": ["a"], "disclosure": [settings_]}
    assert [finding.outcome for finding in check_policy(site.config())] == ["failed"]


@pytest.mark.parametrize("path", ["~nobody-of-that-name/x", "a\0b"])
@pytest.mark.parametrize("key", ["ca_file", "private_key", "api_key_file"])
def test_paths_that_cannot_be(key: str, path: str, tmp_path: Path) -> None:
    (tmp_path / "node.yaml").write_text(
        json.dumps({"application": {"name": "n", "server_url": "https://s", key: path}})
    )
    with suppress(ConfigError):
        assert load_config(tmp_path / "node.yaml")
    with pytest.raises(ConfigError):
        load_config(tmp_path / "node.yaml").read_api_key()


@pytest.mark.parametrize("key", ["cpus", "seconds", "temporary_days"])
@pytest.mark.parametrize("value", [float("inf"), float("nan"), -1.0, 0.0])
def test_limits_that_are_no_numbers(key: str, value: float) -> None:
    with pytest.raises(ValueError, match=key):
        LimitsSection.model_validate({key: value})


@pytest.mark.attack("X08")
@pytest.mark.parametrize("label", [*NASTY, "a=b", "1a", "a" * 64, "../a", "A/B", "ä"])
def test_labels_of_databases(label: str, tmp_path: Path) -> None:
    """In the configuration, and (an empty one apart) in a task."""
    (tmp_path / "d.csv").write_text("a\n")
    text = {"application": {"name": "n", "server_url": "https://s", "databases": {label: {"uri": "d.csv"}}}}
    (tmp_path / "node.yaml").write_text(json.dumps(text))
    with pytest.raises(Vantage6Error):
        load_config(tmp_path / "node.yaml")
    with pytest.raises(Vantage6Error):
        Workspace(tmp_path / "w", "n").locate(1, 1, 1, {label: load_database(tmp_path)})


def load_database(folder: Path) -> Any:
    class Database:
        uri = str(folder / "d.csv")

    return Database()


@pytest.mark.attack("X08")
async def test_labels_in_a_task(site: SiteUnderTest) -> None:
    connection = await site.online()
    for number, label in enumerate(NASTY):
        connection.send(assignment=site.assignment(result_id=100 + number, databases=[label]))
    ended: dict[int, str] = {}
    while len(ended) < len(NASTY):
        report = await site.server.reports.get()
        if report.state in states.FINAL:
            ended[report.result_id] = report.reason
    assert set(ended.values()) == {"DATABASE_UNKNOWN"}
    assert not site.runtime.started


@pytest.mark.attack("X08")
async def test_messages_of_a_server_out_of_its_mind(site: SiteUnderTest) -> None:
    """About runs that it never gave, or that are over: the node goes on, and what is real ends as it should."""
    connection = await site.online()
    dice = random.Random(5)
    for number in range(300):
        result_id, epoch = dice.choice([0, -1, 12, 2**31 - 1]), dice.choice([0, 1, -1, 2**31 - 1])
        state: Any = dice.choice([0, 2, 5, 9, 77])
        text = dice.choice(NASTY)
        kinds: list[dict[str, Any]] = [
            {"accepted": ReportAccepted(result_id=result_id, epoch=epoch, state=state)},
            {"refused": ReportRefused(result_id=result_id, epoch=epoch, state=state, reason=text)},
            {"cancel": Cancel(result_id=result_id, epoch=epoch, reason=text)},
            {"heartbeat": Heartbeat()},
            {"token": TokenRenewal()},
            {},
        ]
        connection.send(**dice.choice(kinds))
        if number % 30 == 0:
            connection.send(assignment=site.assignment(result_id=1000 + number))
    ended: set[int] = set()
    async with asyncio.timeout(30):
        while len(ended) < 10:
            report = await site.server.reports.get()
            if report.state in states.FINAL:
                assert report.state == states.COMPLETED
                ended.add(report.result_id)
    assert site.server.connections.empty(), "the node had to connect again"


@pytest.mark.attack("X08")
@pytest.mark.parametrize("told", [-1.0, float("nan"), float("inf"), float("-inf"), 1e-300, 1e300])
def test_a_heartbeat_that_is_none(told: float, site: SiteUnderTest) -> None:
    site.server.welcome.heartbeat_seconds = told
    assert 0.05 <= _beat_of(site.server.welcome) <= 300


@pytest.mark.attack("X08")
async def test_strange_things_in_the_nodes_folders(site: SiteUnderTest) -> None:
    """Of other programs, or of an administrator: the node starts, takes up its work, and leaves them alone."""
    for folder in ("runs", "incoming", "tmp", "gone"):
        strange = site.folder / "t" / folder / "lost+found"
        strange.mkdir(parents=True)
        (strange / "deep").mkdir()
    site.runtime = FakeRuntime()
    site.settings["limits"] = {"temporary_days": 1000}
    connection = await site.online()
    connection.send(assignment=site.assignment())
    await site.server.report(states.COMPLETED)
    assert site.node
    left = [task for task in asyncio.all_tasks() if task.get_name() == "take-up"]
    await asyncio.gather(*left)
    assert (site.folder / "t" / "runs" / "lost+found").exists()
    assert (site.folder / "t" / "incoming" / "lost+found").exists()
