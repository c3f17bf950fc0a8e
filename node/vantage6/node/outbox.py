"""Reports on their way to the server: written down first, large outputs uploaded, then carried by the link."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import structlog

from vantage6.api.v1.content_pb2 import Content
from vantage6.api.v1.delivery_pb2 import Report
from vantage6.common.chunks import INLINE_LIMIT
from vantage6.common.errors import Vantage6Error
from vantage6.common.outgoing import OutgoingFile
from vantage6.node import metrics, states
from vantage6.node.journal import Journal, Key, Pending
from vantage6.node.link import Link
from vantage6.node.payloads import Payloads

log = structlog.get_logger(__name__)


class Outbox:
    """Takes reports and does not lose them."""

    def __init__(self, journal: Journal, link: Link, payloads: Payloads, folder: Path) -> None:
        self._journal = journal
        self._link = link
        self._payloads = payloads
        self._folder = folder
        self._uploads: dict[Key, asyncio.Task[None]] = {}
        self._collaboration_id = 0
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    async def put(self, report: Report) -> None:
        """Sends a report, now or when the server can be reached."""
        metrics.stored(len(report.output.inline))
        await self._journal.add_report(report)
        self._link.reports_wait()

    async def put_large(self, report: Report, write: Callable[[BinaryIO], None]) -> None:
        """Sends a report whose output may be too large for a message; `write` writes it, sealed, to a file."""
        path = self._path((report.result_id, report.epoch))
        await asyncio.to_thread(_write, path, write)
        if path.stat().st_size <= INLINE_LIMIT:
            report.output.inline = path.read_bytes()
            path.unlink()
            await self.put(report)
        else:
            self._begin(await self._journal.add_report(report, path))

    async def resume(self, collaboration_id: int) -> None:
        """Goes on with the uploads that an earlier life of the node left, and removes files that nobody wants."""
        self._collaboration_id = collaboration_id
        if self._uploads:
            return
        waiting = await self._journal.uploads()
        wanted = {pending.upload for pending in waiting}
        for path in self._folder.iterdir():
            if path not in wanted:
                path.unlink()
        for pending in waiting:
            self._begin(pending)

    def forget(self, key: Key) -> None:
        """The report is accepted or will never be: its file goes."""
        if task := self._uploads.pop(key, None):
            task.cancel()
        self._path(key).unlink(missing_ok=True)

    async def close(self) -> None:
        """Stops uploading; the journal knows what is left to do."""
        tasks = list(self._uploads.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _path(self, key: Key) -> Path:
        return self._folder / f"{key[0]}-{key[1]}.sealed"

    def _begin(self, pending: Pending) -> None:
        task = asyncio.create_task(self._upload(pending))
        self._uploads[pending.key] = task
        task.add_done_callback(lambda done: self._ended(pending.key, done))

    def _ended(self, key: Key, task: asyncio.Task[None]) -> None:
        if self._uploads.get(key) is task:
            del self._uploads[key]
        if not task.cancelled() and (error := task.exception()):
            log.error("upload_failed", result_id=key[0], epoch=key[1], exc_info=error)

    async def _upload(self, pending: Pending) -> None:
        report = Report()
        report.CopyFrom(pending.report)
        assert pending.upload  # noqa: S101  # by construction
        try:
            source = await asyncio.to_thread(OutgoingFile, pending.upload)
            id_ = await self._payloads.store(
                source,
                collaboration_id=self._collaboration_id,
                result_id=report.result_id,
                key=f"output-{report.result_id}-{report.epoch}",
            )
        except (Vantage6Error, OSError) as error:
            message = error.message if isinstance(error, Vantage6Error) else f"output file: {error.strerror}"
            log.warning("output_not_stored", result_id=report.result_id, epoch=report.epoch, message=message)
            report.state, report.reason = states.FAILED, "OUTPUT_NOT_STORED"
            report.message = f"the algorithm completed, but its output could not be stored at the server: {message}"
        except Exception:  # A defect: the run would have no end as long as the node lives.
            log.exception("output_not_stored", result_id=report.result_id, epoch=report.epoch)
            report.state, report.reason = states.FAILED, "OUTPUT_NOT_STORED"
            report.message = "the algorithm completed, but its node failed to send the output: the node's log says why"
        else:
            report.output.CopyFrom(Content(payload_id=id_))
        await self._journal.uploaded(pending, report)
        self._link.reports_wait()


def _write(path: Path, write: Callable[[BinaryIO], None]) -> None:
    with path.open("wb") as stream:
        path.chmod(0o600)
        write(stream)
        stream.flush()
        os.fsync(stream.fileno())
