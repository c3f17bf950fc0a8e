"""A run's output as a whole, for tests whose runs write little."""

from __future__ import annotations

from vantage6.node.workspace import RunFiles, Workspace


def read_output(workspace: Workspace, files: RunFiles, limit: int) -> bytes:
    with workspace.open_output(files, limit) as stream:
        return stream.read()
