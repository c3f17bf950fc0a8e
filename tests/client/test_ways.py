"""On the way to the server: a proxy that knows CONNECT only, an authority of one's own, answers that get lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import grpc
import pytest

from tests.client.fakes import COLLABORATION, NORTH, Fake, Servicer, serve
from vantage6.client import AsyncClient
from vantage6.client import _contract as v1
from vantage6.client.errors import Unavailable
from vantage6.common.channel import Endpoint, open_channel
from vantage6.gateway.certificates import make_certificates


@asynccontextmanager
async def connect_proxy() -> AsyncIterator[tuple[str, list[str]]]:
    """An HTTP proxy as hospitals have them: it opens tunnels and sees nothing in them."""
    asked: list[str] = []
    tunnels: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target = (await reader.readuntil(b"\r\n\r\n")).decode().split(" ", 2)[1]
        asked.append(target)
        host, _, port = target.rpartition(":")
        there, away = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            await asyncio.gather(pump(reader, away), pump(there, writer))
        finally:
            for each in (writer, away):
                each.close()
                with suppress(OSError):
                    await each.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tunnels.add(asyncio.create_task(tunnel(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
    finally:
        server.close()
        for each in tunnels:
            each.cancel()
        await asyncio.gather(*tunnels, return_exceptions=True)


@pytest.fixture
async def secure(fake: Fake, tmp_path: Path) -> AsyncIterator[tuple[str, Path]]:
    """The fake server behind TLS, with the certificate of an authority that no system knows."""
    made = make_certificates(tmp_path / "certificates")
    pair = (made.key.read_bytes(), made.certificate.read_bytes())
    server, address = await serve(fake, grpc.ssl_server_credentials([pair]))
    yield address.replace("127.0.0.1", "localhost"), made.ca
    await server.stop(None)


async def test_an_authority_of_ones_own(secure: tuple[str, Path], tmp_path: Path) -> None:
    url, ca = secure
    async with AsyncClient(url, ca_file=ca, known_organizations=tmp_path / "known.json") as client:
        assert (await client.authenticate("alice", "secret")).username == "alice"


@pytest.mark.attack
async def test_a_certificate_of_strangers_is_refused(secure: tuple[str, Path], tmp_path: Path) -> None:
    other = make_certificates(tmp_path / "others").ca
    async with AsyncClient(secure[0], ca_file=other, known_organizations=tmp_path / "known.json") as client:
        with pytest.raises(Unavailable):
            await client.version()


async def test_through_a_proxy(secure: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url, ca = secure
    async with connect_proxy() as (proxy, asked):
        for name in ("http_proxy", "https_proxy", "grpc_proxy"):
            monkeypatch.setenv(name, proxy)
        for name in ("no_proxy", "no_grpc_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        async with AsyncClient(url, ca_file=ca, known_organizations=tmp_path / "known.json") as client:
            await client.authenticate("alice", "secret")
            assert [each.id async for each in client.organization.list()] == [1, 2, 3]
            # The REST call takes the same way; a gRPC server does not understand it, but it arrives there.
            with pytest.raises(Unavailable):
                await client.request("version")
    assert set(asked) == {url.removeprefix("https://")}
    assert len(asked) >= 2


@pytest.mark.row("M26")
async def test_an_answer_that_got_lost_creates_nothing_twice() -> None:
    """The server stored the task and its answer was lost; the repetition has the same key."""
    create, stored = Servicer.CreateTask, []

    async def losing(self, request, context):  # type: ignore[no-untyped-def]
        stored.append(await create(self, request, context))
        if len(stored) == 1:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "lost")
        return stored[0]

    fake = Fake(encrypted=False)
    server, url = await serve(fake, kind=type("Losing", (Servicer,), {"CreateTask": losing}))
    try:
        async with AsyncClient(url, known_organizations=Path("/nowhere")) as client:
            await client.authenticate("alice", "secret")
            task = await client.task.create(COLLABORATION, [NORTH], "image", {})
    finally:
        await server.stop(None)
    first, second = fake.requests
    assert first == second
    assert first.key == second.key == task.key


async def test_what_is_shown_once_is_not_asked_for_again() -> None:
    """A refresh token that is sent again after a lost answer would look stolen, and end the session."""
    asked = []

    async def losing(self, request, context):  # type: ignore[no-untyped-def]
        asked.append(type(request).__name__)
        await context.abort(grpc.StatusCode.UNAVAILABLE, "lost")

    names = ("RefreshToken", "ConfirmSecondFactor")
    server, url = await serve(Fake(), kind=type("Losing", (Servicer,), dict.fromkeys(names, losing)))
    try:
        async with open_channel(Endpoint(url)) as channel:
            stub = v1.auth_pb2_grpc.AuthServiceStub(channel)
            for call in (
                stub.RefreshToken(v1.auth_pb2.RefreshTokenRequest(refresh_token="once")),
                stub.ConfirmSecondFactor(v1.auth_pb2.ConfirmSecondFactorRequest()),
            ):
                with pytest.raises(grpc.aio.AioRpcError):
                    await call
            assert asked == ["RefreshTokenRequest", "ConfirmSecondFactorRequest"]
    finally:
        await server.stop(None)
