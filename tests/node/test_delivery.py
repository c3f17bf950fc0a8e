"""From assignment to accepted report, over lost lines and restarts of the node."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.node.fake_runtime import FakeRuntime, forever
from tests.node.fake_server import PATIENCE
from tests.node.site import SiteUnderTest
from vantage6.api.v1.delivery_pb2 import Cancel, Drain, Superseded, TokenRenewal
from vantage6.common.errors import ContractVersionUnknown, Unauthenticated
from vantage6.node import states
from vantage6.node.link import SupersededByOther
from vantage6.node.runtimes.base import Exit, Progress, RunSpec


async def idle(site: SiteUnderTest) -> None:
    """Waits until the node holds nothing any more: everything accepted, everything removed."""
    assert site.node
    async with asyncio.timeout(PATIENCE):
        while await site.node.journal.entries() or site.runtime.alive or site.node.site.workspace.runs():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.row("M52")
async def test_run_is_taken_done_and_reported(site: SiteUnderTest) -> None:
    connection = await site.online()
    assert connection.hello.contract_version == "1.0"
    assert site.node
    limits = site.node.site.config.limits
    assert connection.hello.window == limits.runs + limits.waiting
    connection.send(assignment=site.assignment(b"json.[1, 2]"))
    for state in (states.ASSIGNED, states.RUNNING):
        assert (await site.server.report(state)).epoch == 1
    report = await site.server.report(states.COMPLETED)
    assert site.opened(report) == b"json.[1, 2]"
    assert report.finish_time.seconds > 0
    await idle(site)


@pytest.mark.row("M52")
async def test_a_pull_that_takes_time_is_reported(site: SiteUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    pull, there = site.runtime.pull, asyncio.Event()

    async def slow(image: str, progress: Progress | None = None) -> str:
        await there.wait()
        return await pull(image, progress)

    monkeypatch.setattr(site.runtime, "pull", slow)
    connection = await site.online()
    connection.send(assignment=site.assignment())
    for state in (states.ASSIGNED, states.PULLING):
        await site.server.report(state)
    there.set()
    await site.server.report(states.RUNNING)
    await site.server.report(states.COMPLETED)


async def test_run_gets_its_own_files_only(site: SiteUnderTest) -> None:
    (site.folder / "patients.csv").write_text("a\n1\n")
    (site.folder / "patients.csv").chmod(0o644)
    uri = str(site.folder / "patients.csv")
    site.settings["databases"] = {"default": {"uri": uri}, "other": {"uri": uri}}
    connection = await site.online()
    connection.send(assignment=site.assignment(databases=["default"]))
    await site.server.report(states.COMPLETED)
    (spec,) = site.runtime.started
    assert spec.environment["DATABASE_URI"] == "/mnt/databases/default/patients.csv"
    assert "OTHER_DATABASE_URI" not in spec.environment
    assert not [mount for mount in spec.mounts if "other" in mount.target]


@pytest.mark.row("M27")
async def test_report_is_sent_again_until_accepted(site: SiteUnderTest) -> None:
    site.server.accepts = lambda report: report.state not in states.FINAL
    connection = await site.online()
    connection.send(assignment=site.assignment(b"json.1"))
    first = await site.server.report(states.COMPLETED)
    connection.close()
    again = await site.server.connection()
    (held,) = again.hello.held
    assert (held.result_id, held.epoch, held.state) == (12, 1, states.COMPLETED)
    assert again.hello.instance_id == connection.hello.instance_id
    site.server.accepts = lambda _: True
    assert await site.server.report(states.COMPLETED) == first
    await idle(site)
    assert len(site.runtime.started) == 1


@pytest.mark.row("M27")
async def test_server_that_goes_away_is_found_again(site: SiteUnderTest) -> None:
    connection = await site.online()
    connection.send(assignment=site.assignment(b"json.1"))
    await site.server.report(states.RUNNING)
    await site.server.stop()
    await site.server.start()
    await site.server.connection()
    await site.server.report(states.COMPLETED)
    await idle(site)


@pytest.mark.row("M27")
async def test_restarted_node_takes_up_what_runs(site: SiteUnderTest) -> None:
    finish = asyncio.Event()

    async def algorithm(spec: RunSpec) -> Exit:
        await finish.wait()
        (spec.run_dir / "output").write_bytes(b"json.42")
        return Exit(0)

    site.runtime = FakeRuntime(algorithm)
    connection = await site.online()
    connection.send(assignment=site.assignment())
    await site.server.report(states.RUNNING)
    await site.stop()
    again = await site.online()
    assert [held.state for held in again.hello.held] == [states.RUNNING]
    assert again.hello.instance_id != connection.hello.instance_id
    # The server may say it again: it is not begun again.
    again.send(assignment=site.assignment())
    finish.set()
    assert site.opened(await site.server.report(states.COMPLETED)) == b"json.42"
    assert len(site.runtime.started) == 1
    await idle(site)


@pytest.mark.row("M27")
async def test_what_vanished_with_the_machine_is_reported_lost(site: SiteUnderTest) -> None:
    site.runtime = FakeRuntime(forever)
    connection = await site.online()
    connection.send(assignment=site.assignment())
    await site.server.report(states.RUNNING)
    await site.stop()
    site.runtime.vanish()
    await site.online()
    assert (await site.server.report(states.LOST)).reason == "NODE_RESTARTED"
    await idle(site)


async def test_sandboxed_runs_end_with_the_node(site: SiteUnderTest) -> None:
    site.runtime = FakeRuntime(forever, name="sandbox")
    connection = await site.online()
    connection.send(assignment=site.assignment())
    await site.server.report(states.RUNNING)
    await site.stop()
    assert not site.runtime.alive


async def test_cancel_stops_the_run(site: SiteUnderTest) -> None:
    site.runtime = FakeRuntime(forever)
    connection = await site.online()
    connection.send(assignment=site.assignment())
    await site.server.report(states.RUNNING)
    connection.send(cancel=Cancel(result_id=12, epoch=1, reason="CANCELLED"))
    report = await site.server.report(states.CANCELLED)
    assert report.reason == "CANCELLED"
    await idle(site)
    assert site.runtime.stopped


async def test_cancel_right_after_the_assignment(site: SiteUnderTest) -> None:
    site.runtime = FakeRuntime(forever)
    connection = await site.online()
    connection.send(assignment=site.assignment())
    connection.send(cancel=Cancel(result_id=12, epoch=1))
    await site.server.report(states.CANCELLED)
    await idle(site)


async def test_lost_lease_stops_without_a_report(site: SiteUnderTest) -> None:
    site.runtime = FakeRuntime(forever)
    connection = await site.online()
    connection.send(assignment=site.assignment())
    await site.server.report(states.RUNNING)
    connection.send(cancel=Cancel(result_id=12, epoch=1, reason="LEASE_LOST"))
    await idle(site)
    assert site.server.reports.empty()


async def test_newer_epoch_replaces_the_older_one(site: SiteUnderTest) -> None:
    site.runtime = FakeRuntime(forever)
    connection = await site.online()
    connection.send(assignment=site.assignment())
    await site.server.report(states.RUNNING)
    connection.send(assignment=site.assignment(epoch=2))
    assert (await site.server.report(states.RUNNING)).epoch == 2
    connection.send(assignment=site.assignment(epoch=1))
    connection.send(cancel=Cancel(result_id=12, epoch=2, reason="CANCELLED"))
    assert (await site.server.report(states.CANCELLED)).epoch == 2
    await idle(site)


async def test_one_hung_run_does_not_stop_the_others(site: SiteUnderTest) -> None:
    async def algorithm(spec: RunSpec) -> Exit:
        if "-12-" in spec.key:
            await asyncio.Event().wait()
        (spec.run_dir / "output").write_bytes(b"json.1")
        return Exit(0)

    site.runtime = FakeRuntime(algorithm)
    connection = await site.online()
    connection.send(assignment=site.assignment())
    connection.send(assignment=site.assignment(result_id=13))
    assert (await site.server.report(states.COMPLETED)).result_id == 13


async def test_deadline_ends_the_run(site: SiteUnderTest) -> None:
    site.runtime = FakeRuntime(forever)
    connection = await site.online()
    connection.send(assignment=site.assignment(deadline=time.time() + 0.5))
    assert (await site.server.report(states.FAILED)).reason == "DEADLINE"
    await idle(site)


async def test_large_output_is_uploaded_and_a_broken_upload_resumed(site: SiteUnderTest) -> None:
    big = b"bytes." + bytes(3 << 20)

    async def algorithm(spec: RunSpec) -> Exit:
        (spec.run_dir / "output").write_bytes(big)
        return Exit(0)

    site.runtime = FakeRuntime(algorithm)
    site.server.break_upload_after = 1 << 20
    connection = await site.online()
    connection.send(assignment=site.assignment())
    report = await site.server.report(states.COMPLETED)
    assert report.output.payload_id == "output-12-1"
    assert site.opened(report) == big
    await idle(site)
    assert not list((site.folder / "data" / "outbox").iterdir())


async def test_large_input_is_fetched(site: SiteUnderTest) -> None:
    big = b"bytes." + bytes(range(256)) * 8192
    id_ = site.server.payload(site.seal(big), "input-1")
    run = site.assignment()
    run.input.payload_id = id_
    connection = await site.online()
    connection.send(assignment=run)
    assert site.opened(await site.server.report(states.COMPLETED)) == big


@pytest.mark.row("M27")
async def test_silent_server_counts_as_dead(site: SiteUnderTest) -> None:
    site.server.welcome.heartbeat_seconds = 0.1
    connection = await site.online()
    await site.server.connection()
    assert any(message.WhichOneof("message") == "heartbeat" for message in site.server.messages)
    await asyncio.wait_for(connection.gone.wait(), PATIENCE)


async def test_superseded_node_stops(site: SiteUnderTest) -> None:
    work = site.start()
    connection = await site.server.connection()
    connection.send(superseded=Superseded(message="another one"))
    with pytest.raises(SupersededByOther, match="another process"):
        await asyncio.wait_for(work, PATIENCE)


async def test_wrong_api_key_stops_with_a_message(site: SiteUnderTest) -> None:
    site.settings["api_key"] = "wrong"
    with pytest.raises(Unauthenticated, match="unknown API key"):
        await asyncio.wait_for(site.start(), PATIENCE)


async def test_token_renewal_and_drain(site: SiteUnderTest) -> None:
    connection = await site.online()
    connection.send(token=TokenRenewal(access_token="renewed", expires_in=3600))
    connection.send(drain=Drain(message="restart"))
    await site.server.connection()
    assert site.server.tokens == ["node-token", "renewed"]


@pytest.mark.parametrize(("version", "goes_on"), [("1.1", True), ("1.2", False), ("2.0", False), ("", False)])
async def test_a_server_of_another_version(site: SiteUnderTest, version: str, goes_on: bool) -> None:
    site.server.welcome.contract_version = version
    work = site.start()
    connection = await site.server.connection()
    if goes_on:
        connection.send(assignment=site.assignment())
        await site.server.report(states.COMPLETED)
        return
    with pytest.raises(ContractVersionUnknown, match="one minor number apart"):
        await asyncio.wait_for(work, PATIENCE)
