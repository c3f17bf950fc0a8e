"""`v6` against the fake server."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.client.fakes import COLLABORATION, NORTH, SOUTH, Fake
from vantage6.api.v1 import result_pb2
from vantage6.cli.main import main
from vantage6.client import AsyncClient, Client
from vantage6.client._models import LogLine


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


async def test_wait(task_id: int) -> None:
    done = await v6("task", "wait", str(task_id))
    assert done.stdout == "completed\n"
    assert "missing: Hospital South, failed OOM: more memory" in done.stderr
    assert "Hospital North" not in done.stderr


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
