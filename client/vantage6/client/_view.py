"""What is known of a task while it is waited for, put together from events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vantage6.client import _contract as v1
from vantage6.client._models import ResultState

if TYPE_CHECKING:
    from vantage6.client._models import Task


@dataclass
class Site:
    """How one organization's part stands, as far as events told."""

    name: str
    state: ResultState = ResultState.PENDING
    reason: str = ""
    message: str = ""
    online: bool = True
    pulling: float = 0.0
    running: float | None = None
    text: str = ""
    since: float | None = None
    until: float | None = None
    rounds: int = 0
    """How many subtasks it has completed."""

    def move(self, event: v1.event_pb2.ResultEvent, now: float) -> None:
        self.state = ResultState(event.state)
        self.reason, self.message = event.reason, event.message
        if self.state > ResultState.PENDING and not self.state.final:
            self.online = True
        if self.state is ResultState.RUNNING:
            self.since, self.until = now, None
        elif self.state.final:
            self.until = now
        else:
            self.since = self.until = None
            self.pulling, self.running, self.text = 0.0, None, ""

    def advance(self, event: v1.event_pb2.ProgressEvent, text: str) -> None:
        if event.progress_kind == v1.event_pb2.PROGRESS_KIND_PULLING:
            self.pulling = event.fraction
        else:
            self.running, self.text = event.fraction, text


@dataclass
class View:
    """A task, its sites, and the organizations that work on its subtasks."""

    task: Task
    sites: dict[int, Site] = field(default_factory=dict)
    helpers: dict[int, Site] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    connected: bool = True

    def apply(self, event: v1.event_pb2.Event, now: float, text: str = "") -> None:
        """`text` is what the event's progress says, opened."""
        kind = event.WhichOneof("kind")
        if kind == "result":
            self._move(event.result, now)
        elif kind == "progress":
            site = self._of(event.progress.task_id).get(event.progress.organization_id)
            if site is not None:
                site.advance(event.progress, text)
        elif kind == "node":
            for sites in (self.sites, self.helpers):
                if event.node.organization_id in sites:
                    sites[event.node.organization_id].online = event.node.online

    def _move(self, event: v1.event_pb2.ResultEvent, now: float) -> None:
        own = event.task_id == self.task.id
        name = self.names.get(event.organization_id, f"organization {event.organization_id}")
        site = self._of(event.task_id).setdefault(event.organization_id, Site(name))
        site.move(event, now)
        if not own and site.state is ResultState.COMPLETED:
            site.rounds += 1

    def _of(self, task_id: int) -> dict[int, Site]:
        return self.sites if task_id == self.task.id else self.helpers
