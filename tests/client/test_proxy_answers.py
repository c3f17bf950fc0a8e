"""What a server may answer to the user proxy: too much, something else than JSON, or half of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import aiohttp
import pytest

from tests.client.test_user_proxy import TOKEN, FakeClient, Kit, kit
from vantage6.cli import userproxy
from vantage6.cli.userproxy import UserProxy

if TYPE_CHECKING:
    from vantage6.client.bridge import Bridge

__all__ = ["kit"]
pytestmark = pytest.mark.row("D05")


@pytest.mark.attack("X17")
@pytest.mark.parametrize("path", ["/api/task/5/result", "/api/result", "/api/task?include=results"])
async def test_an_answer_without_a_length_has_a_largest_size_too(
    kit: Kit, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(userproxy, "LARGEST", 5000)
    kit.server.body = b"[" + b" " * 4998 + b"]"
    assert await kit.ask("GET", path) == (200, [])
    kit.server.body += b" "
    status, answer = await kit.ask("GET", path)
    assert (status, answer["reason"]) == (400, "INVALID_ARGUMENT")
    assert "ask for fewer" in answer["msg"]


@pytest.mark.parametrize("body", [b"<html>", b"", b"[" * 100_000, b"\xff"])
async def test_an_answer_that_is_no_json_is_an_error_like_the_others(kit: Kit, body: bytes) -> None:
    kit.server.body = body
    status, answer = await kit.ask("GET", "/api/task/5/result")
    assert (status, answer["reason"]) == (503, "UNAVAILABLE")
    assert "something else than JSON" in answer["message"]


@pytest.mark.parametrize(
    ("head", "status"),
    [("content-length: 2", 200), ("content-length: 3", 503), ("Content-Type: x\r\nContent-Length: 2", 200)],
)
async def test_answers_without_a_type_or_an_end(head: str, status: int) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 200 OK\r\n{head}\r\nconnection: close\r\n\r\n[]".encode())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    proxy = UserProxy(cast("Bridge", FakeClient()), url, None, TOKEN)
    port = await proxy.start()
    try:
        asked = f"http://127.0.0.1:{port}/api/task/5/result"
        async with aiohttp.request("GET", asked, headers={"authorization": f"Bearer {TOKEN}"}) as found:
            assert (found.status, found.content_type) == (status, "application/json")
    finally:
        await proxy.stop()
        server.close()
        await server.wait_closed()
