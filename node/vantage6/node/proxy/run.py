"""What the proxy knows of the run that it serves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import grpc

from vantage6.api.v1.delivery_pb2 import Assignment
from vantage6.node.gate import Gate
from vantage6.node.link import Link
from vantage6.node.loglines import RunLog
from vantage6.node.payloads import Payloads, bearer
from vantage6.node.sealing import Sealer


@dataclass(frozen=True)
class ProxiedRun:
    """One run, and what its proxy may use to act for it."""

    assignment: Assignment
    digest: str
    node_id: int
    sealer: Sealer
    channel: grpc.aio.Channel
    payloads: Payloads
    link: Link
    # Largest content of another site that is taken in.
    input_limit: int
    output_limit: int
    log: RunLog
    # Where the run's output is collected.
    output_path: Path
    # For what is on its way through, on the site's own disk.
    spool_folder: Path
    gate: Gate

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Makes a call to the server one of this run: the server sees the container's rights, not the node's."""
        return bearer(self.assignment.container_token)
