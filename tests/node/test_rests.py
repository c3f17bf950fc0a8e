"""The site's own surroundings fail: said so that the server tries again, and not in haste."""

from __future__ import annotations

import asyncio
import errno
from typing import Any

import pytest

from tests.node.fake_runtime import FakeRuntime, echo
from tests.node.site import SiteUnderTest
from vantage6.api.v1.delivery_pb2 import Cancel
from vantage6.node import outcome, rests, states
from vantage6.node.runtimes.base import (
    Exit,
    Handle,
    ImageUnreachable,
    Progress,
    RunMissing,
    RunSpec,
    RuntimeUnavailable,
)
from vantage6.server.domain.states import INFRASTRUCTURE

pytestmark = pytest.mark.row("M27")


class Failing(FakeRuntime):
    """Some of its verbs fail as often as the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.failures: list[Exception] = []
        self.starts_unanswered = 0

    async def pull(self, image: str, progress: Progress | None = None) -> str:
        if self.failures:
            self.pulls += 1
            raise self.failures.pop()
        return await super().pull(image, progress)

    async def start(self, spec: RunSpec) -> Handle:
        handle = await super().start(spec)
        if self.starts_unanswered:
            self.starts_unanswered -= 1
            raise RuntimeUnavailable("the engine broke off")
        return handle


@pytest.fixture
def runtime(site: SiteUnderTest) -> Failing:
    site.runtime = Failing()
    return site.runtime


def test_node_and_server_mean_the_same() -> None:
    assert outcome._INFRASTRUCTURE == INFRASTRUCTURE


FAILURES = [
    (RuntimeUnavailable("no answer"), "RUNTIME_UNAVAILABLE"),
    (ImageUnreachable("no way"), "IMAGE_UNREACHABLE"),
    (OSError(errno.ENOSPC, "No space left on device", "/srv/secret/path"), "DISK_FULL"),
    (OSError(errno.EDQUOT, "Quota exceeded"), "DISK_FULL"),
]


@pytest.mark.parametrize(("failure", "reason"), FAILURES, ids=[reason for _, reason in FAILURES])
async def test_it_is_said_and_the_next_try_works(
    site: SiteUnderTest, runtime: Failing, failure: Exception, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rests, "FIRST", 0.01)
    runtime.failures = [failure]
    connection = await site.online()
    connection.send(assignment=site.assignment())
    report = await site.server.report(states.FAILED)
    assert report.reason == reason
    assert "/srv" not in report.message
    connection.send(assignment=site.assignment(epoch=2))
    assert (await site.server.report(states.COMPLETED)).epoch == 2
    assert len(runtime.started) == 1


async def test_the_next_try_waits_and_can_be_cancelled_and_holds_up_nobody(
    site: SiteUnderTest, runtime: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rests, "FIRST", 600.0)
    runtime.failures = [ImageUnreachable("no way")]
    site.settings["limits"] = {"runs": 1}
    connection = await site.online()
    connection.send(assignment=site.assignment())
    await site.server.report(states.FAILED)
    connection.send(assignment=site.assignment(epoch=2))
    connection.send(assignment=site.assignment(result_id=13))
    assert (await site.server.report(states.COMPLETED)).result_id == 13
    assert runtime.pulls == 2
    connection.send(cancel=Cancel(result_id=12, epoch=2, reason="CANCELLED"))
    assert (await site.server.report(states.CANCELLED)).result_id == 12
    assert runtime.pulls == 2


async def test_rests_grow_and_end_somewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("vantage6.node.rests.asyncio.sleep", sleep)
    made = rests.Rests()
    full = outcome.Outcome(states.FAILED, "DISK_FULL")
    for _ in range(12):
        made.note(1, full)
        await made.over(1)
    assert slept[:4] == [5.0, 10.0, 20.0, 40.0]
    assert slept[-1] == rests.MOST
    await made.over(2)
    made.note(3, outcome.Outcome(states.FAILED, "ALGORITHM_FAILED"))
    await made.over(3)
    assert len(slept) == 12


@pytest.mark.parametrize(("unanswered", "ends"), [(1, states.COMPLETED), (rests.STARTS, states.FAILED)])
async def test_a_start_that_is_not_answered_is_asked_for_again(
    site: SiteUnderTest, runtime: Failing, unanswered: int, ends: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have begun: the second time finds it."""
    monkeypatch.setattr("vantage6.node.rests.Backoff.next", lambda _: 0.01)
    runtime.starts_unanswered = unanswered
    connection = await site.online()
    connection.send(assignment=site.assignment(b"json.7"))
    report = await site.server.report(ends)
    assert len(runtime.started) == 1
    assert report.reason == ("" if ends == states.COMPLETED else "RUNTIME_UNAVAILABLE")


async def test_an_engine_that_is_away_while_a_run_goes_on_is_waited_for(
    site: SiteUnderTest, runtime: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vantage6.node.rests.Backoff.next", lambda _: 0.01)
    wait, away = runtime.wait, [RuntimeUnavailable("the engine broke off")] * 3

    async def silent(handle: Handle) -> Exit:
        if away:
            raise away.pop()
        return await wait(handle)

    monkeypatch.setattr(runtime, "wait", silent)
    connection = await site.online()
    connection.send(assignment=site.assignment(b"json.7"))
    await site.server.report(states.COMPLETED)
    assert not away
    assert len(runtime.started) == 1


async def test_a_run_that_vanished_under_the_node_is_lost(
    site: SiteUnderTest, runtime: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(_: Handle) -> Exit:
        raise RunMissing("somebody removed the container")

    monkeypatch.setattr(runtime, "wait", gone)
    connection = await site.online()
    connection.send(assignment=site.assignment())
    report = await site.server.report(states.LOST)
    assert report.reason == "RUN_MISSING"


async def test_a_run_that_the_engine_has_is_not_lost_while_the_engine_is_silent(
    site: SiteUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a restart of the node: not known is not gone."""
    finish = asyncio.Event()

    async def algorithm(spec: RunSpec) -> Exit:
        await finish.wait()
        return await echo(spec)

    site.runtime = FakeRuntime(algorithm)
    connection = await site.online()
    connection.send(assignment=site.assignment(b"json.42"))
    await site.server.report(states.RUNNING)
    await site.stop()
    recover, asked = site.runtime.recover, 0

    async def silent() -> dict[str, Handle]:
        nonlocal asked
        asked += 1
        if asked <= 2:
            raise RuntimeUnavailable("the engine does not answer")
        return await recover()

    monkeypatch.setattr(site.runtime, "recover", silent)
    monkeypatch.setattr("vantage6.node.runs.Backoff.next", lambda _: 0.01)
    await site.online()
    finish.set()
    assert site.opened(await site.server.report(states.COMPLETED)) == b"json.42"
    assert asked >= 3
    assert all(message.report.state != states.LOST for message in site.server.messages)


async def test_a_defect_while_the_output_is_sent_leaves_no_result_open(
    site: SiteUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def large(spec: RunSpec) -> Exit:
        (spec.run_dir / "output").write_bytes(b"json." + b"1" * 200_000)
        return Exit(0)

    async def broken(*_: object, **__: object) -> str:
        raise KeyError("a defect with secret insides")

    site.runtime = FakeRuntime(large)
    connection = await site.online()
    assert site.node
    monkeypatch.setattr(site.node.site.payloads, "store", broken)
    connection.send(assignment=site.assignment())
    report = await site.server.report(states.FAILED)
    assert report.reason == "OUTPUT_NOT_STORED"
    assert "secret" not in report.message
    async with asyncio.timeout(10):
        while await site.node.journal.entries():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
