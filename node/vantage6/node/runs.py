"""All runs of the node: what the server says is done here, and what an earlier life of the node left is taken up."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterable

import structlog

from vantage6.api.v1.delivery_pb2 import Assignment, Cancel, Held, Report, ReportAccepted, ReportRefused, Welcome
from vantage6.common.errors import Vantage6Error
from vantage6.common.faults import point
from vantage6.common.keys import PublicKey
from vantage6.node import metrics, states
from vantage6.node.fairness import FairSlots
from vantage6.node.journal import Entry, Key
from vantage6.node.retry import Backoff
from vantage6.node.runtimes.base import Handle
from vantage6.node.sealing import Sealer
from vantage6.node.temporary import Temporary
from vantage6.node.worker import GRACE, LEASE_LOST, SHUTDOWN, Site, Worker, spec_key

log = structlog.get_logger(__name__)

MakeSealer = Callable[[Welcome], Awaitable[Sealer]]


class Runs:
    """The link's handler."""

    def __init__(self, site: Site, make_sealer: MakeSealer) -> None:
        self._site = site
        self._make_sealer = make_sealer
        self._sealer: Sealer | None = None
        self._node_id = 0
        self._workers: dict[int, Worker] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._epochs: dict[int, int] = {}
        self._to_stop: dict[Key, str] = {}
        self._slots = FairSlots(site.config.limits)
        self._temporary = Temporary(site.workspace, site.runtime, site.config.limits.temporary_days)
        self.closing = False
        metrics.runs(lambda: len(self._workers))

    async def held(self) -> Iterable[Held]:
        entries = await self._site.journal.entries()
        return [Held(result_id=e.key[0], epoch=e.key[1], state=e.state) for e in entries]

    async def welcomed(self, welcome: Welcome) -> None:
        log.info(
            "online",
            node=welcome.node_name,
            organization=welcome.organization_name,
            collaboration=welcome.collaboration_name,
            encrypted=welcome.encrypted,
            server_version=welcome.server_version,
        )
        if self._sealer is not None:
            self._check_unchanged(welcome)
            return
        self._sealer = await self._make_sealer(welcome)
        self._node_id = welcome.node_id
        entries = await self._site.journal.entries()
        self._epochs = {entry.key[0]: entry.key[1] for entry in entries}
        await self._site.outbox.resume(welcome.collaboration_id)
        self._keep(asyncio.create_task(self._take_up(entries), name="take-up"))

    async def assigned(self, assignment: Assignment) -> None:
        result_id, epoch = assignment.result_id, assignment.epoch
        held = self._epochs.get(result_id)
        if held is not None and held >= epoch:
            # Said again: the server has not yet seen a report that is on its way.
            log.info("assignment_known", result_id=result_id, epoch=epoch, held_epoch=held)
            return
        if worker := self._workers.get(result_id):
            worker.stop(LEASE_LOST)
        if held is not None:
            self._site.outbox.forget((result_id, held))
        log.info(
            "assigned",
            result_id=result_id,
            epoch=epoch,
            task_id=assignment.task_id,
            image=assignment.image,
            user=assignment.username,
            organization=assignment.initiator.name,
        )
        token = secrets.token_urlsafe(32)
        point("node.assigned.before_journal")
        taken = Report(result_id=result_id, epoch=epoch, state=states.ASSIGNED)
        await self._site.journal.add(assignment, token, taken)
        point("node.assigned.after_journal")
        self._epochs[result_id] = epoch
        metrics.begun((result_id, epoch))
        self._site.link.reports_wait()
        self._spawn(Entry(assignment, states.ASSIGNED, token, None))

    async def accepted(self, accepted: ReportAccepted) -> None:
        key = (accepted.result_id, accepted.epoch)
        if accepted.state in states.FINAL:
            metrics.accepted(key)
            point("node.accepted.before_journal")
        if await self._site.journal.accepted(key, accepted.state):
            point("node.accepted.after_journal")
            self._forget(key)

    async def refused(self, refused: ReportRefused) -> None:
        log.warning(
            "report_refused",
            result_id=refused.result_id,
            epoch=refused.epoch,
            state=refused.state,
            reason=refused.reason,
            message=refused.message,
        )
        await self._drop((refused.result_id, refused.epoch))

    async def cancelled(self, cancel: Cancel) -> None:
        log.info("cancel", result_id=cancel.result_id, epoch=cancel.epoch, reason=cancel.reason)
        key = (cancel.result_id, cancel.epoch)
        if cancel.reason == LEASE_LOST:
            await self._drop(key)
        elif (worker := self._workers.get(key[0])) and worker.epoch == key[1]:
            worker.stop(cancel.reason or "CANCELLED")
        elif self._epochs.get(key[0]) == key[1]:
            # It has ended, and its report says more than a cancellation; or it is still to be taken up.
            self._to_stop[key] = cancel.reason or "CANCELLED"

    async def close(self) -> None:
        """Ends the work: containers of an engine go on and are taken up again, sandboxed ones end with the node."""
        self.closing = True
        for worker in self._workers.values():
            worker.stop(SHUTDOWN)
        for task in self._tasks:
            if task.get_name() == "take-up":
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._site.runtime.name != "docker":
            await self._stop_all()

    def _check_unchanged(self, welcome: Welcome) -> None:
        sealer = self._sealer
        assert sealer  # noqa: S101  # by welcomed()
        if welcome.encrypted and welcome.public_key:
            shown = PublicKey.from_pem(welcome.public_key)
            if shown != sealer.keys.public:
                log.critical(
                    "own_key_changed_at_server",
                    message="@@@ the server shows another key for this node's own organization. If nobody of it has "
                    "rotated the key, somebody stands between. Others now seal for that key. @@@",
                    own=sealer.keys.public.fingerprint,
                    shown=shown.fingerprint,
                )

    async def _take_up(self, entries: list[Entry]) -> None:
        """Goes on with what the journal holds, and removes what only the runtime knows."""
        handles = await self._recover()
        for entry in entries:
            if self._epochs.get(entry.key[0]) != entry.key[1] or entry.state in states.FINAL:
                continue  # Ended; or cancelled or assigned anew while the runtime was asked.
            handle = handles.pop(spec_key(self._site.config.instance, entry.key), None)
            if handle is None and entry.digest is not None:
                await self._report_lost(entry)
            else:
                self._spawn(entry, handle)
        # Assignments that came in the meantime are not remains.
        alive = {spec_key(self._site.config.instance, (id_, worker.epoch)) for id_, worker in self._workers.items()}
        for handle in [handle for key, handle in handles.items() if key not in alive]:
            await self._reap(handle)
        await asyncio.to_thread(self._remove_files)
        await self._temporary.sweep()
        await self._tidy()

    async def _reap(self, handle: Handle) -> None:
        log.info("run_reaped", handle=handle)
        try:
            await self._site.runtime.remove(handle)
        except Exception:  # One that cannot be removed keeps no other from it.
            log.exception("run_not_reaped", handle=handle)

    async def _recover(self) -> dict[str, Handle]:
        backoff = Backoff()
        while True:
            try:
                return await self._site.runtime.recover()
            except Vantage6Error as error:
                # Not known is not gone: nothing is reported lost before the engine has answered.
                log.warning("runtime_unavailable", reason=error.reason, message=error.message)
                await asyncio.sleep(backoff.next())

    async def _report_lost(self, entry: Entry) -> None:
        report = Report(
            result_id=entry.key[0],
            epoch=entry.key[1],
            state=states.LOST,
            reason="NODE_RESTARTED",
            message="the run was under way when the node stopped, and is not there any more",
        )
        report.finish_time.GetCurrentTime()
        await self._site.outbox.put(report)

    def _remove_files(self) -> None:
        workspace = self._site.workspace
        for result_id, epoch in workspace.runs():
            worker = self._workers.get(result_id)
            if worker is None or worker.epoch != epoch:
                workspace.remove(workspace.locate(result_id, epoch, 0))
        fetching = {workspace.incoming(id_, worker.epoch) for id_, worker in self._workers.items()}
        for path in set(workspace.incoming_folder.iterdir()) - fetching:
            if not path.is_dir():  # None of the node's own.
                path.unlink(missing_ok=True)

    def _spawn(self, entry: Entry, handle: Handle | None = None) -> None:
        assert self._sealer  # noqa: S101  # assignments come after the welcome
        worker = Worker(self._site, self._sealer, self._node_id, entry, self._slots)
        self._workers[entry.key[0]] = worker
        task = worker.begin(handle)
        self._keep(task)
        task.add_done_callback(lambda _: self._ended(entry.key[0], worker))
        if reason := self._to_stop.pop(entry.key, ""):
            worker.stop(reason)

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("run_broke", run=task.get_name(), exc_info=error)

    def _ended(self, result_id: int, worker: Worker) -> None:
        if self._workers.get(result_id) is worker:
            del self._workers[result_id]
        if not self.closing:
            self._keep(asyncio.create_task(self._tidy(), name="tidy"))

    async def _tidy(self) -> None:
        used = {worker.shared for worker in self._workers.values()} | self._site.disk.held
        await self._temporary.tidy(used, self._site.disk.overfull)

    async def _drop(self, key: Key) -> None:
        await self._site.journal.drop(key)
        self._forget(key)
        if (worker := self._workers.get(key[0])) and worker.epoch == key[1]:
            worker.stop(LEASE_LOST)

    def _forget(self, key: Key) -> None:
        if self._epochs.get(key[0]) == key[1]:
            del self._epochs[key[0]]
        self._to_stop.pop(key, None)
        self._site.outbox.forget(key)

    async def _stop_all(self) -> None:
        for handle in (await self._site.runtime.recover()).values():
            await self._site.runtime.stop(handle, GRACE)
            await self._site.runtime.remove(handle)
