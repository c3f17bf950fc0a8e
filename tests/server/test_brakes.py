"""A brake on one account or address stops nobody else, and costs the server nothing; a new API key cuts a node off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from vantage6.api.v1 import auth_pb2, collaboration_pb2, delivery_pb2, delivery_pb2_grpc, node_pb2, organization_pb2
from vantage6.server.app import Server
from vantage6.server.config import ServerConfig
from vantage6.server.domain.common_passwords import common_passwords

from .conftest import Hospitals
from .live import PASSWORD, ROOT_PASSWORD, Metadata, Stubs, bearer

Status = grpc.StatusCode


class Work:
    """Counts the hashes that are computed: that is what a log-in costs."""

    def __init__(self, hospitals: Hospitals, monkeypatch: pytest.MonkeyPatch) -> None:
        passwords = hospitals.live.passwords
        self.done = 0
        matches = passwords._matches

        def counted(password: str, password_hash: str) -> bool:
            self.done += 1
            return matches(password, password_hash)

        monkeypatch.setattr(passwords, "_matches", counted)


async def log_in(hospitals: Hospitals, username: str, password: str, address: str) -> Status:
    request = auth_pb2.CreateUserTokenRequest(username=username, password=password)
    try:
        await hospitals.live.stubs.auth.CreateUserToken(request, metadata=(("x-forwarded-for", address),))
    except grpc.aio.AioRpcError as error:
        return error.code()
    return Status.OK


@pytest.mark.attack("CVE-2025-43863")
async def test_a_flood_on_one_account_does_no_work_and_stops_nobody_else(
    hospitals: Hospitals, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work(hospitals, monkeypatch)
    # From many addresses, so only the account can be what stops it.
    flood = [log_in(hospitals, "viewer_a", "wrong", f"10.1.{n}.1") for n in range(100)]
    statuses = await asyncio.gather(*flood)
    assert statuses.count(Status.RESOURCE_EXHAUSTED) == 95
    assert work.done == 5, "who is throttled costs no hash"
    assert await log_in(hospitals, "viewer_a", PASSWORD, "10.2.0.1") is Status.RESOURCE_EXHAUSTED
    for name in ("viewer_b", "researcher_a", "viewer_c"):
        assert await log_in(hospitals, name, PASSWORD, "10.2.0.1") is Status.OK
    assert work.done == 8


@pytest.mark.attack("CVE-2025-43863")
async def test_an_address_that_guesses_is_stopped_and_others_are_not(
    hospitals: Hospitals, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work(hospitals, monkeypatch)
    flood = [log_in(hospitals, f"nobody {n}", "wrong", "10.1.0.1") for n in range(100)]
    statuses = await asyncio.gather(*flood)
    assert work.done == statuses.count(Status.UNAUTHENTICATED) == 30
    assert await log_in(hospitals, "viewer_a", PASSWORD, "10.1.0.1") is Status.RESOURCE_EXHAUSTED
    assert await log_in(hospitals, "viewer_a", PASSWORD, "10.2.0.1") is Status.OK


async def test_hashes_are_computed_on_threads_of_their_own(hospitals: Hospitals) -> None:
    """So the event loop, which serves everybody, goes on while a password is checked."""
    assert hospitals.live.passwords._threads._max_workers == 2
    assert hospitals.live.passwords._threads._thread_name_prefix == "argon2"


def test_the_list_of_common_passwords_is_one() -> None:
    known = common_passwords()
    assert len(known) > 10_000
    assert {"password", "12345678", "qwertyuiop", "iloveyou", "sunshine"} <= known
    assert all(len(word) >= 8 for word in known)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    (tmp_path / "root.password").write_text(ROOT_PASSWORD)
    settings = {"address": "127.0.0.1:0", "data_dir": tmp_path, "root_password_file": tmp_path / "root.password"}
    async with Server(ServerConfig.model_validate(settings)) as running:
        yield running


@pytest.mark.row("M17")
async def test_a_new_api_key_cuts_the_stream_of_the_node_with_the_old_one(server: Server) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stubs = Stubs(channel)
        root = bearer((await stubs.auth.CreateUserToken(
            auth_pb2.CreateUserTokenRequest(username="root", password=ROOT_PASSWORD))).access_token)  # fmt: skip
        node = await _node(stubs, root)
        token = await stubs.auth.CreateNodeToken(auth_pb2.CreateNodeTokenRequest(api_key=node.api_key))
        stream: Any = delivery_pb2_grpc.DeliveryServiceStub(channel).Connect(metadata=bearer(token.access_token))
        await stream.write(delivery_pb2.NodeMessage(hello=delivery_pb2.Hello(contract_version="1.0", window=1)))
        assert (await stream.read()).WhichOneof("message") == "welcome"
        fresh = await stubs.nodes.ResetNodeApiKey(node_pb2.ResetNodeApiKeyRequest(id=node.id), metadata=root)
        async with asyncio.timeout(30):
            while await _next(stream) is not grpc.aio.EOF:
                pass
        for key, status in ((node.api_key, Status.UNAUTHENTICATED), (fresh.api_key, Status.OK)):
            assert await _key_status(stubs, key) is status
        # The tokens that it had are gone with the key: it cannot refresh its way back in.
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stubs.auth.RefreshToken(auth_pb2.RefreshTokenRequest(refresh_token=token.refresh_token))
        assert caught.value.code() is Status.UNAUTHENTICATED


async def _node(stubs: Stubs, root: Metadata) -> Any:
    home = await stubs.organizations.CreateOrganization(
        organization_pb2.CreateOrganizationRequest(name="Home"), metadata=root
    )
    study = await stubs.collaborations.CreateCollaboration(
        collaboration_pb2.CreateCollaborationRequest(name="study", organization_ids=[home.id]), metadata=root
    )
    request = node_pb2.CreateNodeRequest(collaboration_id=study.id, organization_id=home.id)
    return await stubs.nodes.CreateNode(request, metadata=root)


async def _next(stream: Any) -> Any:
    try:
        return await stream.read()
    except grpc.aio.AioRpcError:
        return grpc.aio.EOF


async def _key_status(stubs: Stubs, key: str) -> Status:
    try:
        await stubs.auth.CreateNodeToken(auth_pb2.CreateNodeTokenRequest(api_key=key))
    except grpc.aio.AioRpcError as error:
        return error.code()
    return Status.OK
