"""What one caller may take from the others: requests, time, connections and memory; against a real Envoy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import httpx
import pytest

from vantage6.api.v1 import system_pb2, system_pb2_grpc, task_pb2, task_pb2_grpc
from vantage6.common.errors import ResourceExhausted, from_rpc_error
from vantage6.gateway.config import GatewayConfig
from vantage6.gateway.render import render
from vantage6.gateway.run import Gateway

pytestmark = [pytest.mark.envoy, pytest.mark.row("D03"), pytest.mark.xdist_group("gateway")]

KIB = 1024
LONG_LIST = 64 * 1024


class Tasks(task_pb2_grpc.TaskServiceServicer):
    """A list of 64 MiB, and how much of it was given away."""

    def __init__(self) -> None:
        self.sent = 0

    async def ListTasks(self, request: Any, context: Any) -> AsyncIterator[Any]:
        for number in range(LONG_LIST):
            yield task_pb2.Task(id=number, description="d" * KIB)
            self.sent = number + 1


class System(system_pb2_grpc.SystemServiceServicer):
    async def GetVersion(self, request: Any, context: Any) -> Any:
        return system_pb2.Version(version="9.9")


@asynccontextmanager
async def door(tasks: Tasks | None = None, **changes: object) -> AsyncIterator[Gateway]:
    """A gateway with these settings before a small server; callers say in x-forwarded-for who they are."""
    server = grpc.aio.server()
    # Most methods of the services are missing on purpose.
    task_pb2_grpc.add_TaskServiceServicer_to_server(tasks or Tasks(), server)  # type: ignore[abstract]
    system_pb2_grpc.add_SystemServiceServicer_to_server(System(), server)  # type: ignore[abstract]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    settings: dict[str, object] = {
        "listen": "127.0.0.1:0", "servers": (f"127.0.0.1:{port}",), "plaintext": True, "workers": 1,
        "access_log": "none", "trusted_proxies": 1,
    }  # fmt: skip
    async with Gateway(GatewayConfig.model_validate(settings | changes)) as gateway:
        yield gateway
    await server.stop(None)


async def version(gateway: Gateway, address: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=30, verify=False) as web:
        return await web.get("/api/version", headers={"x-forwarded-for": address})


@pytest.mark.attack("X11")
async def test_who_asks_too_often_is_told_so_and_others_go_on() -> None:
    async with door(requests_per_second=1, request_burst=5) as gateway:
        answers = await asyncio.gather(*(version(gateway, "10.0.0.1") for _ in range(12)))
        assert {answer.status_code for answer in answers} == {200, 429}
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert refused.headers["retry-after"] == "1"
        body = refused.json()
        assert body["msg"] == body["message"] == "too many requests from your address; try again in a second"
        assert (body["code"], body["details"][0]["reason"]) == (8, "RESOURCE_EXHAUSTED")
        assert (await version(gateway, "10.0.0.2")).status_code == 200
        # Who has one IPv6 address has many; they count as one.
        many = await asyncio.gather(*(version(gateway, f"2001:db8::{number:x}") for number in range(12)))
        assert {answer.status_code for answer in many} == {200, 429}
        assert (await version(gateway, "2001:db8:0:1::1")).status_code == 200


@pytest.mark.attack("X11")
async def test_grpc_is_limited_too_except_for_the_streams_of_nodes() -> None:
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(door(requests_per_second=1, request_burst=3))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(gateway.url.removeprefix("http://")))
        stub: Any = system_pb2_grpc.SystemServiceStub(channel)
        calls = (stub.GetVersion(system_pb2.GetVersionRequest()) for _ in range(12))
        answers = await asyncio.gather(*calls, return_exceptions=True)
        failures = [from_rpc_error(answer) for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
        assert 0 < len(failures) < 12
        assert {type(failure) for failure in failures} == {ResourceExhausted}
        assert failures[0].message == "too many requests from your address; try again in a second"
        connect: Any = channel.unary_unary("/vantage6.api.v1.DeliveryService/Connect")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await connect(b"")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED  # By the server: it came through.


def test_zero_is_no_limit() -> None:
    assert "local_ratelimit" not in str(render(GatewayConfig(plaintext=True, requests_per_second=0)))
    assert "local_ratelimit" in str(render(GatewayConfig(plaintext=True)))


@pytest.mark.attack("X11")
async def test_slow_loris_headers_that_never_end_are_cut_off() -> None:
    async with door(header_seconds=1) as gateway:
        slow = [await asyncio.open_connection("127.0.0.1", gateway.port) for _ in range(100)]
        for _, writer in slow:
            writer.write(b"GET /api/version HTTP/1.1\r\nhost: gateway\r\nx-slow: ")
            await writer.drain()
        assert (await version(gateway, "10.0.0.2")).status_code == 200
        for reader, writer in slow:
            said = await asyncio.wait_for(reader.read(), 30)  # Ends with the connection.
            assert said.startswith(b"HTTP/1.1 408")
            writer.close()


@pytest.mark.attack("X11")
async def test_slow_loris_bodies_that_never_end_are_cut_off() -> None:
    async with door(rest_seconds=1) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        head = (
            b"POST /api/task HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{"
        )
        writer.write(head)
        assert (await version(gateway, "10.0.0.2")).status_code == 200
        said = await asyncio.wait_for(reader.read(), 30)
        assert said.startswith((b"HTTP/1.1 408", b"HTTP/1.1 504")), said[:80]
        writer.close()


@pytest.mark.attack("X11")
async def test_there_is_an_end_to_connections() -> None:
    async with door(max_connections=20) as gateway, AsyncExitStack() as stack:
        for _ in range(20):
            _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            stack.callback(writer.close)
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        stack.callback(writer.close)
        try:
            assert await asyncio.wait_for(reader.read(), 30) == b""
        except ConnectionResetError:
            return


@pytest.mark.attack("X11")
@pytest.mark.parametrize("way", ["rest", "grpc"])
async def test_a_stream_that_is_not_read_holds_no_memory(way: str) -> None:
    tasks = Tasks()  # type: ignore[abstract]
    async with door(tasks) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, limit=KIB)
        if way == "rest":
            writer.write(b"GET /api/task HTTP/1.1\r\nhost: gateway\r\n\r\n")
            await reader.readexactly(10)
        else:
            channel = grpc.aio.insecure_channel(gateway.url.removeprefix("http://"))
            call = task_pb2_grpc.TaskServiceStub(channel).ListTasks(task_pb2.ListTasksRequest())
            await call.read()
        # The server has all the time of these calls to run ahead.
        for number in range(40):
            assert (await version(gateway, f"10.0.1.{number}")).status_code == 200
        assert 0 < tasks.sent < LONG_LIST // 3, f"{tasks.sent} KiB were given away to somebody who does not read"
        writer.close()
        if way == "grpc":
            await channel.close()
