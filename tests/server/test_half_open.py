"""Slow loris on the server's own port: connections and streams that say nothing are ended, and others are served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from vantage6.api.v1 import (
    auth_pb2,
    collaboration_pb2,
    delivery_pb2_grpc,
    node_pb2,
    organization_pb2,
    system_pb2,
)
from vantage6.server.app import Server
from vantage6.server.config import ServerConfig

from .live import ROOT_PASSWORD, Metadata, Stubs, bearer

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
STREAMS = 300


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    (tmp_path / "root.password").write_text(ROOT_PASSWORD)
    settings = {
        "address": "127.0.0.1:0", "data_dir": tmp_path, "root_password_file": tmp_path / "root.password",
        "heartbeat_seconds": 0.5,
    }  # fmt: skip
    async with Server(ServerConfig.model_validate(settings)) as running:
        yield running


async def node_token(stubs: Stubs) -> Metadata:
    login = auth_pb2.CreateUserTokenRequest(username="root", password=ROOT_PASSWORD)
    root = bearer((await stubs.auth.CreateUserToken(login)).access_token)
    organization = organization_pb2.CreateOrganizationRequest(name="Home")
    home = (await stubs.organizations.CreateOrganization(organization, metadata=root)).id
    collaboration = collaboration_pb2.CreateCollaborationRequest(name="study", organization_ids=[home])
    study = (await stubs.collaborations.CreateCollaboration(collaboration, metadata=root)).id
    request = node_pb2.CreateNodeRequest(collaboration_id=study, organization_id=home)
    key = (await stubs.nodes.CreateNode(request, metadata=root)).api_key
    return bearer((await stubs.auth.CreateNodeToken(auth_pb2.CreateNodeTokenRequest(api_key=key))).access_token)


@pytest.mark.attack("X11")
async def test_half_open_streams_are_ended_and_others_are_served(server: Server) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stubs = Stubs(channel)
        token = await node_token(stubs)
        # They never say hello.
        silent: Any = [delivery_pb2_grpc.DeliveryServiceStub(channel).Connect(metadata=token) for _ in range(STREAMS)]
        assert (await stubs.system.GetHealth(system_pb2.GetHealthRequest())).status == "ok"
        async with asyncio.timeout(60):
            codes = {await stream.code() for stream in silent}
        assert codes == {grpc.StatusCode.INVALID_ARGUMENT}


@pytest.mark.attack("X11")
async def test_connections_that_say_nothing_keep_nobody_out(server: Server) -> None:
    async with AsyncExitStack() as stack:
        for number in range(200):
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            stack.callback(writer.close)
            writer.write(PREFACE[: number % len(PREFACE)])
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{server.port}"))
        for _ in range(20):
            assert (await Stubs(channel).system.GetHealth(system_pb2.GetHealthRequest())).status == "ok"
