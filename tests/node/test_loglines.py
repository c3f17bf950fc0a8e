"""What a run prints reaches those who may read it, while it runs; sealed, bounded, and after the reports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.node.fake_runtime import FakeRuntime
from tests.node.fake_server import PATIENCE, Connection
from tests.node.site import NODE, RESEARCHER, TASK_KEY, Container, SiteUnderTest
from vantage6.api.v1.algorithm_pb2 import WriteLogRequest
from vantage6.api.v1.delivery_pb2 import LogLines, NodeMessage, Report
from vantage6.common.envelope import Binding, Purpose, looks_sealed, open_sealed
from vantage6.node import loglines, states
from vantage6.node.runtimes.base import Exit, RunSpec

pytestmark = pytest.mark.row("M38")

KEY = "north-12-1"
BINDING = Binding(7, TASK_KEY, NODE, RESEARCHER, Purpose.LOG)


class Algorithm:
    """Runs until the test lets it end."""

    def __init__(self) -> None:
        self.begun: asyncio.Future[RunSpec] = asyncio.get_running_loop().create_future()
        self.over = asyncio.Event()
        self.exit = Exit(0, log_tail=b"its end\n")

    async def __call__(self, spec: RunSpec) -> Exit:
        self.begun.set_result(spec)
        await self.over.wait()
        (spec.run_dir / "output").write_bytes(b"json.1")
        return self.exit


@pytest.fixture
async def algorithm(site: SiteUnderTest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Algorithm]:
    monkeypatch.setattr(loglines, "FIRST_SECONDS", 0.05)
    monkeypatch.setattr(loglines, "SECONDS", 0.1)
    site.settings["share_logs"] = True
    made = Algorithm()
    site.runtime = FakeRuntime(made)
    yield made
    made.over.set()


async def begin(site: SiteUnderTest, algorithm: Algorithm) -> Connection:
    connection = await site.online()
    connection.send(assignment=site.assignment())
    await asyncio.wait_for(asyncio.shield(algorithm.begun), PATIENCE)
    return connection


def prints(site: SiteUnderTest, data: bytes) -> None:
    """b"" is the end."""
    site.runtime.printed.setdefault(KEY, asyncio.Queue()).put_nowait(data)


def opened(site: SiteUnderTest, sealed: bytes) -> bytes:
    return open_sealed(sealed, to=site.keys[RESEARCHER], by=site.keys[NODE].public, binding=BINDING)


def messages(site: SiteUnderTest) -> list[LogLines]:
    return [message.log for message in site.server.messages if message.WhichOneof("message") == "log"]


async def said(site: SiteUnderTest, count: int) -> list[LogLines]:
    async with asyncio.timeout(PATIENCE):
        while len(found := messages(site)) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return found


def kept(site: SiteUnderTest, report: Report) -> bytes:
    return opened(site, report.log.inline)


async def test_lines_arrive_sealed_while_the_run_goes_on(site: SiteUnderTest, algorithm: Algorithm) -> None:
    await begin(site, algorithm)
    prints(site, b"first\nhal")
    (one,) = await said(site, 1)
    assert not algorithm.over.is_set()
    assert opened(site, one.lines) == b"first\n"
    prints(site, b"f\n")
    async with Container((await algorithm.begun).run_dir) as container:
        await container.stub.WriteLog(WriteLogRequest(line="said"), metadata=container.metadata)
    rest = b"".join(opened(site, each.lines) for each in (await said(site, 2))[1:])
    assert rest in {b"half\nsaid\n", b"said\nhalf\n", b"half\n", b"said\n"}
    prints(site, b"last, without an end")
    prints(site, b"")
    algorithm.over.set()
    report = await site.server.report(states.COMPLETED)
    end = kept(site, report)
    assert end.startswith(b"first\n")
    assert end.endswith(b"last, without an end\n")
    assert sorted(end.split(b"\n")) == sorted([b"first", b"half", b"said", b"last, without an end", b""])
    assert [each.sequence for each in messages(site)] == list(range(len(messages(site))))
    assert all(looks_sealed(each.lines) for each in messages(site))


@pytest.mark.parametrize("setting", [{"share_logs": False}, {"policy": {"disclosure": True}}], ids=["site", "rules"])
async def test_a_site_that_does_not_share_says_nothing(
    site: SiteUnderTest, algorithm: Algorithm, setting: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither live nor with the outcome; with rules of disclosure free text cannot be judged, so none leaves."""
    if "policy" in setting:
        monkeypatch.setattr("vantage6.node.gate.Gate.lets_text_out", lambda _: False)
    else:
        site.settings |= setting
    algorithm.exit = Exit(3, log_tail=b"ValueError: 7")
    await begin(site, algorithm)
    prints(site, b"first\n")
    async with Container((await algorithm.begun).run_dir) as container:
        await container.stub.WriteLog(WriteLogRequest(line="said"), metadata=container.metadata)
    algorithm.over.set()
    report = await site.server.report(states.FAILED)
    assert not report.HasField("log")
    assert "the site keeps its log" in report.message
    assert not messages(site)


async def test_a_flood_is_bounded_and_says_what_is_left_out(site: SiteUnderTest, algorithm: Algorithm) -> None:
    await begin(site, algorithm)
    line, count = b"x" * 99 + b"\n", 50_000
    for _ in range(50):
        prints(site, line * (count // 50))
    prints(site, b"y" * 50_000 + b"\nend\n")
    prints(site, b"")
    await asyncio.sleep(0.3)
    algorithm.over.set()
    report = await site.server.report(states.COMPLETED)
    texts = [opened(site, each.lines) for each in messages(site)]
    assert sum(map(len, texts)) < 20 * loglines.MESSAGE
    assert all(len(text) <= loglines.MESSAGE + 100 for text in texts)
    assert any(b" lines left out here" in text for text in texts)
    end = kept(site, report)
    assert len(end) <= loglines.KEPT
    assert end.endswith(b"end\n")


async def test_a_report_does_not_wait_for_lines(site: SiteUnderTest, algorithm: Algorithm) -> None:
    """They keep coming; a report that is due goes before those that wait."""
    await begin(site, algorithm)
    await site.server.report(states.RUNNING)
    assert site.node is not None
    message = NodeMessage(log=LogLines(result_id=12, epoch=1, sequence=1, lines=b"x" * 16_000))

    async def flood() -> None:
        """Lines are waiting whenever the link looks for something to send."""
        while True:
            site.node.link.say(message)  # type: ignore[union-attr]
            await asyncio.sleep(0)

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        flooding = group.create_task(flood())
        await site.node.site.outbox.put(Report(result_id=99, epoch=1, state=states.LOST))
        await site.server.report(states.LOST)
        flooding.cancel()


async def test_after_a_restart_of_the_node_lines_are_not_said_again(site: SiteUnderTest, algorithm: Algorithm) -> None:
    await begin(site, algorithm)
    prints(site, b"first\n")
    await said(site, 1)
    await site.stop()
    calls: list[bool] = []
    logs = site.runtime.logs

    def listening(handle: object, *, from_now: bool = False) -> object:
        calls.append(from_now)
        return logs(handle, from_now=from_now)  # type: ignore[arg-type]

    site.runtime.logs = listening  # type: ignore[method-assign, assignment]
    await site.online()
    prints(site, b"second\n")
    texts = [opened(site, each.lines) for each in await said(site, 2)]
    assert texts == [b"first\n", b"second\n"]
    assert calls == [True]
    algorithm.over.set()
    report = await site.server.report(states.COMPLETED)
    assert kept(site, report) == b"its end\n", "what was printed meanwhile is known to the runtime only"
