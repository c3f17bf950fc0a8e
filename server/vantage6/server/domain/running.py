"""What running algorithms say of themselves: passed on to those who watch, not kept, dropped when it is too much."""

from __future__ import annotations

from vantage6.api.v1 import delivery_pb2, event_pb2
from vantage6.common.envelope import looks_sealed
from vantage6.server.domain.bus import Bus, Happened
from vantage6.server.domain.events import now
from vantage6.server.domain.links import Link
from vantage6.server.store.tables import Task

MAX_TEXT = 64 * 1024


class Runs:
    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def progress(self, link: Link, progress: delivery_pb2.Progress) -> None:
        run = link.active.get(progress.result_id)
        if run is None or not _may_say(link, progress.text):
            return
        kind = event_pb2.ProgressEvent(
            result_id=progress.result_id,
            task_id=run.task.id,
            organization_id=link.node.organization_id,
            progress_kind=progress.kind,
            fraction=min(max(progress.fraction, 0.0), 1.0),
            text=progress.text,
        )
        self._publish(event_pb2.Event(progress=kind), run.task)

    def log(self, link: Link, lines: delivery_pb2.LogLines) -> None:
        run = link.active.get(lines.result_id)
        if run is None or not _may_say(link, lines.lines):
            return
        kind = event_pb2.LogEvent(
            result_id=lines.result_id,
            task_id=run.task.id,
            organization_id=link.node.organization_id,
            sequence=lines.sequence,
            lines=lines.lines,
        )
        self._publish(event_pb2.Event(log=kind), run.task)

    def _publish(self, event: event_pb2.Event, task: Task) -> None:
        event.collaboration_id = task.collaboration_id
        event.time.FromDatetime(now())
        self._bus.publish(Happened(event, task.id, task.parent_id or 0))


def _may_say(link: Link, text: bytes) -> bool:
    """Neither too much nor, in an encrypted collaboration, in clear."""
    if len(text) > MAX_TEXT or (text and looks_sealed(text) != link.encrypted):
        return False
    return link.brake.lets_pass(len(text) + 256)
