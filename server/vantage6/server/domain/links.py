"""A node's connection, as the rules see it."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from vantage6.api.v1 import delivery_pb2
from vantage6.common.brake import Brake
from vantage6.server import metrics
from vantage6.server.domain.caller import NodeCaller
from vantage6.server.domain.states import ResultState
from vantage6.server.store.parties import Newest, Program
from vantage6.server.store.tables import Task

Address = tuple[int, int]
"""(organization, collaboration): where there is one node, results wait for it."""

GOING_AWAY = "this server is going away"
MAX_WINDOW = 1_000
SAID_PER_SECOND, SAID_AT_ONCE = 256 * 1024, 1024 * 1024
"""Bytes that a node may say of its runs' progress and logs: all of it goes to every watcher."""
MAX_BACKLOG = 10_000
"""Messages waiting for a node that does not read; beyond that it is disconnected."""


@dataclass(frozen=True)
class Run:
    """A result that a node holds."""

    task: Task
    epoch: int
    assigned_at: dt.datetime | None = None


class Link:
    """A connected node: what was sent to it and not yet finished, and what is to be sent."""

    def __init__(self, node: NodeCaller, window: int, program: Program) -> None:
        self.node = node
        self.window = window
        self.program = program
        # Of the node's connections; there is work for the newest one only.
        self.connection = 0
        # By result: what it works on.
        self.active: dict[int, Run] = {}
        self.outgoing: asyncio.Queue[delivery_pb2.ServerMessage | None] = asyncio.Queue()
        self.closed_because = ""
        # Until somebody has looked, nothing goes through in clear.
        self.encrypted = True
        self.brake = Brake(SAID_PER_SECOND, SAID_AT_ONCE)
        self.on_released: Callable[[Link], None] = lambda _: None

    @property
    def address(self) -> Address:
        return self.node.organization_id, self.node.collaboration_id

    def is_newest(self, connections: Mapping[int, Newest]) -> bool:
        """Whether it is its node's, by the newest connections of nodes by their ids."""
        newest = connections.get(self.node.id)
        return newest is not None and newest.number == self.connection

    @property
    def free(self) -> int:
        return 0 if self.closed_because else max(0, self.window - len(self.active))

    def send(self, message: delivery_pb2.ServerMessage) -> None:
        if self.closed_because:
            return
        if self.outgoing.qsize() >= MAX_BACKLOG:
            self.drop("it does not read what it is sent")
            return
        self.outgoing.put_nowait(message)

    def released(self, result_id: int) -> None:
        self.active.pop(result_id, None)
        self.on_released(self)

    def supersede(self) -> None:
        """Tells the node that this is not its newest connection, and ends it."""
        self.send(delivery_pb2.ServerMessage(superseded=delivery_pb2.Superseded(
            message="another instance of this node has connected")))  # fmt: skip
        self.drop("superseded")

    def acknowledged(self, report: delivery_pb2.Report) -> bool:
        """Answers a report that says no more than that an assignment has arrived; False for any other one.

        The assignment was committed before it was sent, and while the result is active here nobody has taken it back:
        there is nothing to look up and nothing to write.
        """
        run = self.active.get(report.result_id)
        if int(report.state) != ResultState.ASSIGNED or run is None or run.epoch != report.epoch:
            return False
        metrics.delivered(run.assigned_at, dt.datetime.now(dt.UTC))
        accepted = delivery_pb2.ReportAccepted(result_id=report.result_id, epoch=report.epoch, state=report.state)
        self.send(delivery_pb2.ServerMessage(accepted=accepted))
        return True

    def drain(self) -> None:
        """Tells the node that this server is going away, and ends the connection."""
        self.send(delivery_pb2.ServerMessage(drain=delivery_pb2.Drain(message=GOING_AWAY)))
        self.drop(GOING_AWAY)

    def drop(self, reason: str) -> None:
        """Ends the connection after what is already queued; the node will reconnect and say again what it holds."""
        if not self.closed_because:
            self.closed_because = reason
            self.outgoing.put_nowait(None)


@dataclass(frozen=True)
class Claim:
    """What a connecting node says that it holds."""

    epoch: int
    state: int
