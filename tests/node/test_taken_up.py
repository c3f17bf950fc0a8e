"""A node that is restarted while runs are at work holds them to the same rules and limits as before."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner

from tests.node.fake_runtime import Algorithm, FakeRuntime, forever
from tests.node.site import OTHER, Container, SiteUnderTest
from vantage6.api.v1.algorithm_pb2 import CreateSubtaskRequest
from vantage6.common.contexts import Kind, Scope, every
from vantage6.common.errors import from_rpc_error
from vantage6.node import states
from vantage6.node.admin import listing
from vantage6.node.config import NodeConfig, load_context
from vantage6.node.dockerized import volume_name
from vantage6.node.runtimes.base import Exit, Handle, Progress, RunSpec

RULE = {"rule": "minimum_records", "minimum": 10, "methods": ["mean"]}


class Waiting:
    """Algorithms that go on when they are told to."""

    def __init__(self, output: bytes) -> None:
        self.go = asyncio.Event()
        self.output = output
        self.asked_for: list[str] = []

    async def __call__(self, spec: RunSpec) -> Exit:
        await self.go.wait()
        async with Container(spec.run_dir) as run:
            request = CreateSubtaskRequest(input=self.output, organization_ids=[OTHER])
            try:
                await run.stub.CreateSubtask(request, metadata=run.metadata)
            except grpc.aio.AioRpcError as error:
                self.asked_for.append(from_rpc_error(error).message)
        (spec.run_dir / "output").write_bytes(self.output)
        return Exit(0)


class Engine(FakeRuntime):
    """Says when somebody waits for the end of a run: its proxy listens then."""

    def __init__(self, algorithm: Algorithm) -> None:
        super().__init__(algorithm)
        self.waited = asyncio.Event()
        self.pulled = asyncio.Event()

    async def pull(self, image: str, progress: Progress | None = None) -> str:
        digest = await super().pull(image, progress)
        self.pulled.set()
        return digest

    async def wait(self, handle: Handle) -> Exit:
        self.waited.set()
        return await super().wait(handle)


async def interrupted(site: SiteUnderTest, algorithm: Waiting, method: str) -> Engine:
    """The node stops in the middle of a run."""
    site.runtime = engine = Engine(algorithm)
    site.settings["policy"] = {**site.settings["policy"], "disclosure": [RULE]}
    connection = await site.online()
    connection.send(assignment=site.assignment(b'json.{"method": "%s"}' % method.encode()))
    await site.server.report(states.RUNNING)
    await site.stop()
    engine.waited.clear()
    engine.pulled.clear()
    return engine


@pytest.mark.attack
@pytest.mark.parametrize(("method", "state"), [("mean", states.REFUSED), ("other", states.COMPLETED)])
async def test_a_rule_for_one_method_holds_after_a_restart(site: SiteUnderTest, method: str, state: int) -> None:
    algorithm = Waiting(b'json.{"count": 1}')
    engine = await interrupted(site, algorithm, method)
    await site.online()
    await engine.waited.wait()
    algorithm.go.set()
    report = await site.server.report(state)
    assert (report.reason == "MINIMUM_RECORDS") is (method == "mean")
    # Nor by the input of a subtask.
    assert len(algorithm.asked_for) == (method == "mean")
    assert len(site.server.task_requests) == (method == "other")


@pytest.mark.attack
async def test_without_its_input_every_rule_concerns_a_run_that_is_taken_up(site: SiteUnderTest) -> None:
    algorithm = Waiting(b'json.{"count": 1}')
    await interrupted(site, algorithm, "other")
    (site.folder / "t" / "runs" / "12-1" / "input").unlink()
    await site.online()
    algorithm.go.set()
    assert (await site.server.report(states.REFUSED)).reason == "MINIMUM_RECORDS"


@pytest.mark.parametrize("limits", [{"runs": 1}, {"runs_per_user": 1}, {"runs_per_organization": 1}])
async def test_a_run_that_is_taken_up_has_its_slot(site: SiteUnderTest, limits: dict[str, Any]) -> None:
    algorithm = Waiting(b"json.1")
    site.settings["limits"] = limits
    engine = await interrupted(site, algorithm, "other")
    connection = await site.online()
    await engine.waited.wait()
    connection.send(assignment=site.assignment(b'json.{"method": "other"}', result_id=13))
    await engine.pulled.wait()
    await asyncio.sleep(0.1)  # Time in which it would begin.
    assert len(site.runtime.started) == 1
    algorithm.go.set()
    await site.server.report(states.COMPLETED)
    await site.server.report(states.COMPLETED)
    assert len(site.runtime.started) == 2


FILE = """
application: {name: north, server_url: "https://a.example"}
environments:
  prod: {name: north, server_url: "https://b.example"}
  test: {name: north, server_url: "https://c.example"}
"""


def environments(folder: Path, monkeypatch: pytest.MonkeyPatch, *, by_file: bool) -> list[NodeConfig]:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))
    file = folder / "vantage6" / "node" / "north.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(FILE)
    which: dict[str, Any] = {"config": file} if by_file else {"name": "north", "scope": Scope.USER}
    return [load_context(context) for context in every(Kind.NODE, **which)]


@pytest.mark.row("M54")
@pytest.mark.parametrize("by_file", [True, False])
def test_environments_of_one_file_are_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_file: bool) -> None:
    found = environments(tmp_path, monkeypatch, by_file=by_file)
    name = "north" if by_file else "north-user"
    assert [each.instance for each in found] == [name, f"{name}.prod", f"{name}.test"]
    assert [volume_name(each) for each in found] == [f"vantage-{each.instance}-vol" for each in found]
    assert len({each.private_key_file for each in found}) == len({each.data_dir for each in found}) == 3


class Shared(FakeRuntime):
    """One engine for several nodes, each of which is shown what carries its name."""

    def __init__(self, engine: dict[str, asyncio.Task[Exit]], node: str) -> None:
        super().__init__(forever)
        self._runs = engine
        self._node = node
        self.asked = asyncio.Event()

    async def recover(self) -> dict[str, Handle]:
        self.asked.set()
        return {key: handle for key, handle in (await super().recover()).items() if key.startswith(f"{self._node}-")}


class Named(SiteUnderTest):
    """One environment."""

    instance = ""

    def config(self) -> NodeConfig:
        made = super().config()
        made.tell_apart(self.instance)
        return made


@pytest.mark.attack
async def test_a_second_environment_leaves_the_runs_of_the_first_alone(
    tmp_path: Path, short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, *found = environments(tmp_path, monkeypatch, by_file=False)
    engine: dict[str, asyncio.Task[Exit]] = {}
    sites: list[Named] = []
    try:
        for config in found:
            (short_path / config.instance).mkdir()
            sites.append(site := Named(short_path / config.instance))
            site.instance = config.instance
            site.runtime = runtime = Shared(engine, config.instance)
            await site.server.start()
            connection = await site.online()
            await runtime.asked.wait()
            await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name() == "take-up"))
            connection.send(assignment=site.assignment())
            await site.server.report(states.RUNNING)
        assert list(engine) == [f"{config.instance}-12-1" for config in found]
    finally:
        for site in sites:
            await site.close()


def test_a_list_names_all_environments_that_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environments(tmp_path, monkeypatch, by_file=False)
    doing = {"prod": {"state": "offline"}}
    online = {"state": "online", "pid": 1}
    monkeypatch.setattr(listing, "state", lambda context, _: doing.get(context.environment, online))
    said = CliRunner().invoke(listing.list_nodes, ["--user", "--json"])
    [row] = json.loads(said.stdout)["nodes"]
    assert (row["status"], row["running"]) == ("online", "application, test")
