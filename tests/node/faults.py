"""What can be wrong around a node, each made for real as far as one machine can: servers, proxies, files, disks."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import grpc
import pytest

from vantage6.api.v1 import (
    auth_pb2,
    auth_pb2_grpc,
    node_pb2,
    node_pb2_grpc,
    organization_pb2,
    organization_pb2_grpc,
    system_pb2,
    system_pb2_grpc,
)

API_KEY = "the-key-that-the-server-knows"


class Server(
    system_pb2_grpc.SystemServiceServicer,
    auth_pb2_grpc.AuthServiceServicer,
    node_pb2_grpc.NodeServiceServicer,
    organization_pb2_grpc.OrganizationServiceServicer,
):
    """What `vnode check` asks of a server; `wrong_by` is how far its clock is away, `public_key` the organization's."""

    def __init__(self) -> None:
        self.wrong_by = timedelta()
        self.public_key = b""

    def GetVersion(self, request: Any, context: Any) -> system_pb2.Version:
        context.send_initial_metadata((("date", format_datetime(datetime.now(UTC) + self.wrong_by, usegmt=True)),))
        return system_pb2.Version(version="0.1.0", contract_version="1.0")

    def CreateNodeToken(self, request: auth_pb2.CreateNodeTokenRequest, context: Any) -> auth_pb2.TokenResponse:
        if request.api_key != API_KEY:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "the API key is wrong")
        return auth_pb2.TokenResponse(access_token="t", node_url="/api/node/3", expires_in=60)

    def GetNode(self, request: Any, context: Any) -> node_pb2.Node:
        return node_pb2.Node(id=3, organization_id=1)

    def GetOrganization(self, request: Any, context: Any) -> organization_pb2.Organization:
        return organization_pb2.Organization(id=1, public_key=self.public_key)


@contextmanager
def server() -> Iterator[tuple[Server, str]]:
    made = Server()  # type: ignore[abstract]  # the rest answers UNIMPLEMENTED
    threads = ThreadPoolExecutor(max_workers=2)
    running = grpc.server(threads)
    system_pb2_grpc.add_SystemServiceServicer_to_server(made, running)
    auth_pb2_grpc.add_AuthServiceServicer_to_server(made, running)
    node_pb2_grpc.add_NodeServiceServicer_to_server(made, running)
    organization_pb2_grpc.add_OrganizationServiceServicer_to_server(made, running)
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    try:
        yield made, f"http://127.0.0.1:{port}"
    finally:
        running.stop(0).wait()
        threads.shutdown()


@contextmanager
def listening(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that does `answer` with each connection."""
    with socket.create_server(("127.0.0.1", 0)) as door:

        def serve() -> None:
            while True:
                try:
                    stream, _ = door.accept()
                except OSError:
                    return
                with stream, contextlib.suppress(OSError):
                    answer(stream)

        thread = threading.Thread(target=serve)
        thread.start()
        yield int(door.getsockname()[1])
        door.shutdown(socket.SHUT_RDWR)
    thread.join()


def tls(certificate: Path, key: Path, *protocols: str) -> Callable[[socket.socket], None]:
    """Shakes hands, and speaks these protocols only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    if protocols:
        context.set_alpn_protocols(list(protocols))

    def answer(stream: socket.socket) -> None:
        with context.wrap_socket(stream, server_side=True) as secured:
            secured.recv(1)

    return answer


def says(words: bytes) -> Callable[[socket.socket], None]:
    def answer(stream: socket.socket) -> None:
        stream.recv(4096)
        stream.sendall(words)

    return answer


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def full(folder: Path) -> Iterator[None]:
    """A file system of its own, with no room for one more page."""
    if os.geteuid() != 0:
        pytest.skip("a file system is mounted by root only")
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], check=True)
    try:
        with contextlib.suppress(OSError), (folder / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(b"x" * 4096)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def nobody() -> Iterator[None]:
    """As a user without rights; as who we are where that is not root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
