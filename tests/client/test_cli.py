"""`v6` against the fake server."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.client.fakes import COLLABORATION, NORTH, SOUTH, Fake
from vantage6.api.v1 import result_pb2
from vantage6.cli.main import main
from vantage6.client import AsyncClient, Client, Collaboration, LogLine, Node, Task, TaskState
from vantage6.client._sync import Collaborations, Nodes, Tasks


@pytest.fixture(autouse=True)
def _environment(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VANTAGE6_SERVER", url)
    monkeypatch.setenv("VANTAGE6_USERNAME", "alice")
    monkeypatch.setenv("VANTAGE6_PASSWORD", "secret")
    monkeypatch.setenv("VANTAGE6_KEY", str(tmp_path / "key.pem"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


async def v6(*arguments: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, main, list(arguments), catch_exceptions=False)


@pytest.fixture
async def task_id(client: AsyncClient, fake: Fake) -> int:
    task = await client.task.create(COLLABORATION, [NORTH, SOUTH], "image", {"method": "go"}, name="ages")
    fake.complete(1, {"mean": 41})
    fake.move(2, result_pb2.RESULT_STATE_FAILED, reason="OOM", message="more memory")
    fake.finish(task.id)
    return task.id


async def test_version() -> None:
    assert (await v6("version")).output.strip() == "0.1.0"


async def test_show(task_id: int) -> None:
    done = await v6("task", "show", str(task_id))
    assert done.exit_code == 0
    assert "missing: Hospital South, failed OOM: more memory" in done.stderr
    for each in ("task 1 ages: completed", "Hospital North", "OOM", "more memory"):
        assert each in done.output
    shown = json.loads((await v6("task", "show", "--json", str(task_id))).output)
    assert [each["state"] for each in shown["results"]] == ["completed", "failed"]
    assert "key" not in shown["task"]


async def test_result_is_opened(task_id: int, tmp_path: Path) -> None:
    done = await v6("task", "result", str(task_id))
    assert done.exit_code == 1
    assert [each["value"] for each in json.loads(done.stdout)] == [{"mean": 41}, None]
    await v6("task", "result", str(task_id), "--output", str(tmp_path / "out.json"))
    assert json.loads((tmp_path / "out.json").read_text())[0]["organization_name"] == "Hospital North"


async def test_waiting_for_results_is_shown(task_id: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By that with which `v6 task wait` shows it."""
    waited: list[int] = []
    monkeypatch.setattr(Client, "wait", lambda self, task: waited.append(task))
    await v6("task", "result", str(task_id))
    assert waited == [task_id]


async def test_wait(task_id: int) -> None:
    done = await v6("task", "wait", str(task_id))
    assert done.stdout == "completed\n"
    assert "missing: Hospital South, failed OOM: more memory" in done.stderr
    assert "Hospital North" not in done.stderr


async def test_programs_are_told_too(task_id: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def told(*arguments: str) -> Any:
        return json.loads((await v6(*arguments, "--json")).stdout)

    done = await told("task", "wait", str(task_id))
    assert (done["task"]["state"], [each["reason"] for each in done["missing"]]) == ("completed", ["OOM"])
    made = await told("keys", "create", str(tmp_path / "own.pem"))
    assert made == await told("keys", "show", str(tmp_path / "own.pem"))
    assert len(made["fingerprint"]) > 64
    node = Node(3, "north", online=False, organization_id=1, collaboration_id=1, api_key="secret")
    monkeypatch.setattr(Nodes, "create", lambda *_: node)
    monkeypatch.setattr(Nodes, "reset_api_key", lambda *_: node)
    monkeypatch.setattr(Collaborations, "add_organization", lambda *_: Collaboration(1, "study", encrypted=True))
    monkeypatch.setattr(Collaborations, "remove_organization", lambda *_: Collaboration(1, "study", encrypted=True))
    monkeypatch.setattr(Tasks, "cancel", lambda *_: Task(task_id, "ages", "image", TaskState.CANCELLED, True, 1))
    monkeypatch.setattr(Client, "rotate_private_key", lambda *_: "1f2e")
    assert (await told("node", "create", "-c", "1"))["api_key"] == "secret"
    assert (await told("node", "reset-key", "3"))["id"] == 3
    assert (await told("collaboration", "add", "1", "4"))["name"] == "study"
    assert (await told("collaboration", "remove", "1", "4"))["name"] == "study"
    assert (await told("task", "cancel", str(task_id)))["state"] == "cancelled"
    assert await told("keys", "rotate", "x.pem") == {"fingerprint": "1f2e"}


async def test_list(task_id: int, fake: Fake) -> None:
    done = await v6("task", "list", "--json")
    assert [each["name"] for each in json.loads(done.output)] == ["ages"]


async def test_failures_are_one_line(task_id: int, monkeypatch: pytest.MonkeyPatch) -> None:
    done = await v6("task", "show", "99")
    assert (done.exit_code, done.output) == (1, "[error] - there is no task 99\n")
    monkeypatch.setenv("VANTAGE6_PASSWORD", "guess")
    done = await v6("task", "show", "1")
    assert "wrong name or password" in done.output


@pytest.mark.attack
async def test_logs_are_shown_line_by_line_and_harmless(task_id: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def logs(self: Client, task: int) -> list[LogLine]:
        assert task == task_id
        return [LogLine(NORTH, "Hospital North", 1, "round 1"), LogLine(NORTH, "Hospital North", 1, "\x1b[2Jx")]

    monkeypatch.setattr(Client, "logs", logs)
    done = await v6("task", "logs", str(task_id))
    assert done.stdout == "Hospital North: round 1\nHospital North: ?[2Jx\n"
