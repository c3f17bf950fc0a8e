"""One run's proxy on two Unix sockets, gRPC and JSON over HTTP: all that its container can reach."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc

from vantage6.api.v1.algorithm_pb2_grpc import add_AlgorithmServiceServicer_to_server
from vantage6.node.proxy.run import ProxiedRun
from vantage6.node.proxy.servicer import Servicer
from vantage6.node.proxy.tokens import RunToken
from vantage6.node.proxy.web import WebDoor
from vantage6.node.workspace import WEB_SOCKET

MAX_MESSAGE = 64 * 1024 * 1024
"""Bytes of a subtask's input. With the next one it bounds what an algorithm can make its node hold in memory."""
MAX_CALLS = 16
"""Calls of one run at once on each socket, streams of results included."""

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_send_message_length", -1),
    # Another server on the same path is the proxy of the node's earlier life.
    ("grpc.so_reuseport", 0),
)


class RunProxy:
    """Lives as long as its run."""

    def __init__(self, run: ProxiedRun, token: str) -> None:
        self._token = RunToken(token)
        self._server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=MAX_CALLS)
        servicer = Servicer(run, self._token)
        add_AlgorithmServiceServicer_to_server(servicer, self._server)
        self._web = WebDoor(servicer, MAX_MESSAGE, MAX_CALLS)

    async def start(self, path: Path) -> None:
        """Listens; a container that has the folder mounted finds the socket, also one made anew after a restart."""
        await asyncio.to_thread(path.unlink, missing_ok=True)
        if not self._server.add_insecure_port(f"unix:{path}"):
            raise OSError(f"cannot listen on {path}")
        await self._server.start()
        # Connecting is writing, and the algorithm's user is nobody here; the folder keeps others out.
        await asyncio.to_thread(path.chmod, 0o666)
        await self._web.start(path.with_name(WEB_SOCKET))

    async def stop(self) -> None:
        self._token.end()
        await self._web.stop()
        await self._server.stop(grace=0)
