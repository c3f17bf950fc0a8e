"""One run from assignment to final state. Whatever happens in it, the node lives on and the run gets an outcome."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

import grpc
import structlog

from vantage6.api.v1.content_pb2 import Content
from vantage6.api.v1.delivery_pb2 import NodeMessage, Progress, Report
from vantage6.api.v1.event_pb2 import ProgressKind
from vantage6.api.v1.result_pb2 import ResultState
from vantage6.common.chunks import INLINE_LIMIT
from vantage6.common.envelope import Purpose
from vantage6.common.errors import Vantage6Error
from vantage6.common.faults import point
from vantage6.node import metrics, states
from vantage6.node import outcome as outcomes
from vantage6.node.config import NodeConfig
from vantage6.node.databases import Databases
from vantage6.node.disk import Disk
from vantage6.node.fairness import FairSlots
from vantage6.node.forwards import Forwards
from vantage6.node.gate import Gate
from vantage6.node.journal import Entry, Journal, Key
from vantage6.node.link import Link
from vantage6.node.loglines import RunLog
from vantage6.node.outbox import Outbox
from vantage6.node.outcome import Outcome
from vantage6.node.payloads import Payloads
from vantage6.node.proxy.app import RunProxy
from vantage6.node.proxy.run import ProxiedRun
from vantage6.node.rests import Rests, patiently, while_silent
from vantage6.node.runtimes.base import Exit, Handle, Limits, RunSpec, Runtime
from vantage6.node.sealing import Sealer
from vantage6.node.workspace import RunFiles, Workspace, shared_name

log = structlog.get_logger(__name__)

GRACE = 2.0
"""Seconds between asking a run to stop and ending it."""
AT_HAND = 0.05
"""Seconds after which an image counts as being fetched."""
_CENTURY = 100 * 365 * 24 * 3600.0
LEASE_LOST = "LEASE_LOST"
SHUTDOWN = "SHUTDOWN"


@dataclass(frozen=True)
class Site:
    """What all runs of a node share."""

    config: NodeConfig
    channel: grpc.aio.Channel
    journal: Journal
    link: Link
    outbox: Outbox
    payloads: Payloads
    runtime: Runtime
    workspace: Workspace
    disk: Disk
    databases: Databases
    gate: Gate
    rests: Rests = field(default_factory=Rests)


class Worker:
    """Does one run."""

    def __init__(self, site: Site, sealer: Sealer, node_id: int, entry: Entry, slots: FairSlots) -> None:
        self._site = site
        self._sealer = sealer
        self._node_id = node_id
        self._entry = entry
        self._run = entry.assignment
        self._slots = slots
        self._files: RunFiles | None = None
        self._handle: Handle | None = None
        self._proxy: RunProxy | None = None
        self._forwards: Forwards | None = None
        self._stopped = ""
        self._begun = False
        self._settled = False
        self._taken_up = False
        self._task: asyncio.Task[None] | None = None
        shared = site.config.share_logs and site.gate.lets_text_out()
        self._said = RunLog(site.link, sealer, entry.assignment, shared=shared)
        self._log = log.bind(result_id=self._run.result_id, epoch=self._run.epoch, task_id=self._run.task_id)

    @property
    def epoch(self) -> int:
        return self._run.epoch

    @property
    def shared(self) -> str:
        return shared_name(self._run)

    def begin(self, handle: Handle | None = None) -> asyncio.Task[None]:
        """Starts working; with a handle it takes up a run that an earlier life of the node has started."""
        self._handle = handle
        self._task = asyncio.create_task(self._work(), name=spec_key(self._site.config.instance, self._entry.key))
        return self._task

    def stop(self, reason: str) -> None:
        """Ends the run. LEASE_LOST: without a report; SHUTDOWN: what runs is left alone, to be taken up again."""
        if self._settled:
            return  # Its outcome is being written down; nothing is gained by half of it.
        first, self._stopped = not self._stopped, self._stopped or reason
        if first and self._begun and self._task is not None:
            self._task.cancel()

    async def _work(self) -> None:
        # A task cancelled before its first step would never come here to say how it ended.
        self._begun = True
        if self._stopped and self._task is not None:
            self._task.cancel()
        try:
            outcome = await self._outcome()
        except asyncio.CancelledError:
            if self._stopped in ("", SHUTDOWN):
                await self._stop_proxy()
                raise
            outcome = Outcome(states.CANCELLED, self._stopped, "the run was cancelled")
        self._settled = True
        metrics.ended(self._entry.key, ResultState.Name(outcome.state), outcome.reason)
        await self._site.gate.ended(self._run, outcome.state, outcome.reason, outcome.message)
        if self._stopped != LEASE_LOST:
            await self._deliver(outcome)
            point("node.outcome.after_journal")
        await self._clean()

    async def _outcome(self) -> Outcome:
        """Does the run within the task's deadline; errors become outcomes."""
        left = self._seconds_left()
        try:
            async with asyncio.timeout(left) as limit:
                return await self._take_up() if self._handle else await self._from_the_start()
        except Exception as error:  # noqa: BLE001  # one run's failure is its own
            if isinstance(error, TimeoutError) and limit.expired():
                return outcomes.deadline()
            if isinstance(error, Vantage6Error):
                self._log.warning("run_failed", reason=error.reason, message=error.message)
            else:
                self._log.exception("run_failed_unexpectedly")
            return self._site.rests.note(self._run.result_id, outcomes.of_error(error, self._run.result_id))

    async def _from_the_start(self) -> Outcome:
        site, run = self._site, self._run
        await site.rests.over(run.result_id)
        await site.gate.asked(run)
        databases = site.databases.select(run.databases)
        data = await self._input()
        await site.gate.opened(run, data, self._sealer.vouched(run))
        # Before a slot is taken: who waits for a registry keeps nobody from working.
        digest = await self._pull()
        await site.gate.found(run, digest)
        async with self._slots.of(run):
            self._files = site.workspace.locate(run.result_id, run.epoch, self.shared, databases)
            await asyncio.to_thread(
                site.workspace.prepare, run.result_id, run.epoch, data, self._entry.token, databases, run_id=self.shared
            )
            await self._open_proxy(self._files, digest)
            # On the disk before the start: after a crash in between, the run is asked for by its key, not begun again.
            await site.journal.mark_started(self._entry.key, digest)
            point("node.run.before_start")
            handle = await self._start(self._spec(self._files, digest))
            point("node.run.after_start")
            return await self._attend(handle, self._files)

    async def _pull(self) -> str:
        """The image's digest. That it is being fetched is reported where that takes time: usually it is there."""
        pulling = asyncio.ensure_future(self._site.runtime.pull(self._run.image, self._pulled()))
        try:
            await asyncio.wait((pulling,), timeout=AT_HAND)
            if not pulling.done():
                await self._report(states.PULLING)
            return await pulling
        finally:
            pulling.cancel()
            await asyncio.gather(pulling, return_exceptions=True)

    async def _start(self, spec: RunSpec) -> Handle:
        """Starts the run; a cancellation meanwhile waits for the start, so that it has something to stop."""
        starting = asyncio.ensure_future(patiently(lambda: self._site.runtime.start(spec)))
        try:
            handle = await asyncio.shield(starting)
        except asyncio.CancelledError:
            with suppress(Vantage6Error):
                self._handle = await starting
            raise
        self._handle = handle
        return handle

    async def _take_up(self) -> Outcome:
        assert self._handle  # noqa: S101  # by begin()
        run = self._run
        databases = self._site.databases.select(run.databases)
        self._files = self._site.workspace.locate(run.result_id, run.epoch, self.shared, databases)
        with self._slots.held(run):
            # Before the proxy, through which subtasks leave: which rules concern them hangs on the method.
            await self._site.gate.taken_up(run, self._files.input_path)
            await self._open_proxy(self._files, self._entry.digest or "")
            self._taken_up = True
            self._log.info("run_taken_up")
            return await self._attend(self._handle, self._files)

    async def _attend(self, handle: Handle, files: RunFiles) -> Outcome:
        if self._entry.state != states.RUNNING:
            await self._report(states.RUNNING)
        runtime = self._site.runtime
        self._said.follow(lambda: runtime.logs(handle, from_now=self._taken_up), from_the_start=not self._taken_up)
        end = await self._end(handle, files)
        await self._said.end()
        point("node.run.ended")
        self._log.info("run_ended", code=end.code, oom=end.oom, timed_out=end.timed_out)
        return await self._judge(end, files)

    async def _end(self, handle: Handle, files: RunFiles) -> Exit:
        """How the run ended; raises DiskLimit when it is to be ended for that."""
        ending = asyncio.ensure_future(while_silent(lambda: self._site.runtime.wait(handle)))
        watching = asyncio.ensure_future(self._site.disk.watch(files.temporary))
        try:
            await asyncio.wait((ending, watching), return_when=asyncio.FIRST_COMPLETED)
            if not ending.done():
                await watching
            return await ending
        finally:
            for each in (ending, watching):
                each.cancel()
            await asyncio.gather(ending, watching, return_exceptions=True)

    async def _judge(self, end: Exit, files: RunFiles) -> Outcome:
        left = self._seconds_left()
        passed = left is not None and left <= 0
        kept = self._said.kept(end.log_tail)
        failed = outcomes.of_exit(end, deadline_passed=passed, log=kept)
        if failed:
            return failed
        limit = self._site.config.limits.output_bytes
        output = await asyncio.to_thread(self._site.workspace.open_output, files, limit)
        if not os.fstat(output.fileno()).st_size:
            output.close()
            message = "the algorithm ended well, but wrote nothing to OUTPUT_FILE"
            return Outcome(states.FAILED, "OUTPUT_MISSING", message, log=kept)
        try:
            await self._site.gate.leaves(self._run, output)
        except BaseException:
            output.close()
            raise
        return Outcome(states.COMPLETED, output=output, log=kept)

    async def _input(self) -> Path:
        """The opened input in a file beside where the run will have it."""
        path = self._site.workspace.incoming(self._run.result_id, self._run.epoch)
        with path.open("wb") as file:
            into = self._sealer.incoming_input(self._run, file, self._site.config.limits.input_bytes)
            await self._site.payloads.fetch(self._run.input, into)
        return path

    def _spec(self, files: RunFiles, digest: str) -> RunSpec:
        ours = self._site.config.limits
        left = self._seconds_left()
        limits = Limits(
            memory_bytes=ours.memory_bytes,
            cpus=ours.cpus,
            pids=ours.pids,
            seconds=ours.seconds if left is None else max(1.0, min(ours.seconds, left)),
            output_bytes=ours.output_bytes,
            tmp_bytes=ours.tmp_bytes,
            open_files=ours.open_files,
        )
        return RunSpec(
            key=spec_key(self._site.config.instance, self._entry.key),
            image=self._run.image,
            run_dir=files.run_dir,
            environment={**files.environment, **({"SHARE_ERRORS": "1"} if self._site.config.share_errors else {})},
            mounts=files.mounts,
            groups=files.groups,
            limits=limits,
            digest=digest,
            forwards=tuple(way.forward for way in files.ways.values()),
            labels={"vantage6-run-id": str(self._run.run_id), "vantage6-result-id": str(self._run.result_id)},
        )

    async def _open_proxy(self, files: RunFiles, digest: str) -> None:
        site = self._site
        run = ProxiedRun(
            self._run,
            digest,
            self._node_id,
            self._sealer,
            site.channel,
            site.payloads,
            site.link,
            site.config.limits.input_bytes,
            site.config.limits.output_bytes,
            self._said,
            files.output_path,
            site.workspace.incoming_folder,
            site.gate,
        )
        self._proxy = RunProxy(run, self._entry.token)
        await self._proxy.start(files.socket_path)
        self._forwards = Forwards(files.ways)
        await self._forwards.start()

    async def _stop_proxy(self) -> None:
        await self._said.stop()
        if self._proxy:
            await self._proxy.stop()
            self._proxy = None
        if self._forwards:
            await self._forwards.stop()
            self._forwards = None

    async def _report(self, state: states.State) -> None:
        report = Report(result_id=self._run.result_id, epoch=self._run.epoch, state=state)
        if state == states.RUNNING:
            report.start_time.GetCurrentTime()
        await self._site.outbox.put(report)

    async def _deliver(self, outcome: Outcome) -> None:
        report = Report(result_id=self._run.result_id, epoch=self._run.epoch, state=outcome.state)
        report.reason, report.message = outcome.reason, outcome.message
        report.finish_time.GetCurrentTime()
        self._log.info("run_finished", state=outcome.state, reason=outcome.reason)
        point("node.outcome.before_journal")
        try:
            if outcome.log:
                report.log.inline = self._sealer.seal_for_initiator(self._run, outcome.log, Purpose.LOG)
            if outcome.output is None:
                await self._site.outbox.put(report)
            else:
                await self._deliver_output(report, outcome.output)
        except Exception as error:  # noqa: BLE001  # it is logged, and the run must not stay open
            self._log.exception("outcome_not_delivered")
            failed = outcomes.of_error(error, self._run.result_id)
            instead = Report(result_id=report.result_id, epoch=report.epoch, state=failed.state)
            instead.reason, instead.message = failed.reason, failed.message
            await self._site.outbox.put(instead)

    async def _deliver_output(self, report: Report, output: BinaryIO) -> None:
        with output:
            if os.fstat(output.fileno()).st_size > INLINE_LIMIT // 2:
                seal = partial(self._sealer.seal_output, self._run, output)
                await self._site.outbox.put_large(report, seal)
                return
            data = await asyncio.to_thread(output.read)
        sealed = self._sealer.seal_for_initiator(self._run, data, Purpose.OUTPUT)
        report.output.CopyFrom(Content(inline=sealed))
        await self._site.outbox.put(report)

    async def _clean(self) -> None:
        """Leaves nothing of the run behind; what fails here is the reaper's at the next start."""
        try:
            await self._stop_proxy()
            if self._handle:
                await self._site.runtime.stop(self._handle, GRACE)
                await self._site.runtime.remove(self._handle)
            if self._files:
                await asyncio.to_thread(self._site.workspace.remove, self._files)
            self._site.workspace.incoming(self._run.result_id, self._run.epoch).unlink(missing_ok=True)
        except Exception:  # noqa: BLE001  # it is logged
            self._site.disk.held.add(self.shared)  # Its container may be there, and write.
            self._log.exception("run_not_cleaned")

    def _pulled(self) -> Callable[[float], None]:
        """Passes on a pull's progress, in steps of a hundredth."""
        last = -1

        def progress(fraction: float) -> None:
            nonlocal last
            if int(fraction * 100) > last:
                last = int(fraction * 100)
                (id_, epoch), kind = self._entry.key, ProgressKind.PROGRESS_KIND_PULLING
                message = Progress(result_id=id_, epoch=epoch, kind=kind, fraction=fraction)
                self._site.link.say(NodeMessage(progress=message))

        return progress

    def _seconds_left(self) -> float | None:
        if not self._run.HasField("deadline"):
            return None
        # Not by the message's own methods: they raise for a moment that no calendar has.
        moment = self._run.deadline.seconds + self._run.deadline.nanos / 1e9
        return min(moment - time.time(), _CENTURY)


def spec_key(node: str, key: Key) -> str:
    """The name by which the runtime knows a run."""
    return f"{node}-{key[0]}-{key[1]}"
