"""The proxy's JSON form: the same service by another way, and strangers who send it what they like."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

import aiohttp
import pytest

from tests.conftest import missing
from tests.documents import blocks
from tests.node.fake_runtime import FakeRuntime, forever
from tests.node.fake_server import CONTAINER_TOKEN, PATIENCE, result
from tests.node.site import NODE, OTHER, RESEARCHER, SiteUnderTest
from tests.node.test_proxy import complete, output_of
from vantage6.api.v1.algorithm_pb2 import SubtaskResult
from vantage6.common.envelope import Binding, Purpose, open_sealed
from vantage6.common.errors import NotFound
from vantage6.node import states
from vantage6.node.proxy import web
from vantage6.node.proxy.app import MAX_CALLS, MAX_MESSAGE
from vantage6.node.proxy.results import Results

pytestmark = [pytest.mark.row("D05"), pytest.mark.filterwarnings("ignore:Unclosed:ResourceWarning")]


class Web:
    """What an algorithm without gRPC does."""

    def __init__(self, run_dir: Path) -> None:
        self.path = str(run_dir / "socket" / "http.sock")
        self.token = (run_dir / "token").read_text()
        self.headers = {"authorization": f"Bearer {self.token}"}

    async def __aenter__(self) -> Self:
        connector = aiohttp.UnixConnector(self.path, limit=0)
        self.session = aiohttp.ClientSession("http://proxy/AlgorithmService/", connector=connector)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    async def ask(self, method: str, headers: dict[str, str] | None = None, **body: Any) -> tuple[int, Any]:
        async with self.session.post(method, json=body, headers=self.headers if headers is None else headers) as answer:
            text = await answer.text()
            lines = [json.loads(line) for line in text.splitlines()]
            return answer.status, lines if answer.content_type == web.LINES else lines[0]

    async def send(self, method: str, data: Any) -> tuple[int, Any]:
        async with self.session.post(method, data=data, headers=self.headers) as answer:
            return answer.status, json.loads(await answer.text())

    async def raw(self, text: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_unix_connection(self.path)
        writer.write(text)
        await writer.drain()
        return reader, writer

    def head(self, method: str, *more: str) -> bytes:
        lines = [f"POST /AlgorithmService/{method} HTTP/1.1", "Host: x", f"Authorization: Bearer {self.token}", *more]
        return "\r\n".join([*lines, "", ""]).encode()


@pytest.fixture
async def container(site: SiteUnderTest) -> AsyncIterator[Web]:
    site.runtime = FakeRuntime(forever)
    connection = await site.online()
    connection.send(assignment=site.assignment(databases=[]))
    await site.server.report(states.RUNNING)
    async with Web(site.runtime.started[0].run_dir) as made:
        yield made


def text_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def test_it_tells_what_grpc_tells(container: Web) -> None:
    status, run = await container.ask("GetRun")
    assert status == 200
    assert (run["result_id"], run["organization_id"], run["initiator_id"]) == (12, NODE, RESEARCHER)
    assert run["databases"] == []
    status, names = await container.ask("ListParticipants")
    assert [each["name"] for each in names] == ["North", "University", "South"]


async def test_the_call_on_the_contracts_page(site: SiteUnderTest, container: Web) -> None:
    if shutil.which("curl") is None:
        missing("curl", "it is not installed")
    [script] = blocks("docs/algorithm-contract.md", "sh")
    folder = site.runtime.started[0].run_dir
    environment = {**os.environ, "PROXY_HTTP_ADDRESS": f"unix:{container.path}", "TOKEN_FILE": str(folder / "token")}
    process = await asyncio.create_subprocess_exec(
        "sh", "-euc", script, env=environment, stdout=asyncio.subprocess.PIPE
    )
    answer, _ = await process.communicate()
    assert process.returncode == 0
    assert json.loads(answer)["result_id"] == 12


@pytest.mark.row("M46", "M52")
async def test_a_subtask_and_its_results_as_they_arrive(site: SiteUnderTest, container: Web) -> None:
    data = text_of(b"json.marker")
    status, subtask = await container.ask("CreateSubtask", input=data, organization_ids=[NODE, OTHER], name="partial")
    assert status == 200
    (sent,) = site.server.task_requests
    assert b"marker" not in sent.SerializeToString()
    binding = Binding(7, sent.key, NODE, OTHER, Purpose.INPUT)
    sealed = next(each.input for each in sent.organizations if each.id == OTHER)
    assert open_sealed(sealed, to=site.keys[OTHER], by=site.keys[NODE].public, binding=binding) == b"json.marker"
    call = container.session.post("StreamResults", json={"task_id": subtask["id"]}, headers=container.headers)
    await site.server.finish(output_of(site, 21, subtask["id"], subtask["key"], b"json.first"))
    async with call as answer:
        first = json.loads(await answer.content.readline())  # Before the others are there.
        assert (first["organization_id"], first["state"]) == (OTHER, "RESULT_STATE_COMPLETED")
        assert base64.b64decode(first["output"]) == b"json.first"
        await site.server.finish(result(22, subtask["id"], RESEARCHER, states.FAILED))
        await complete(site, subtask["id"])
        rest = [json.loads(line) async for line in answer.content]
    assert [(each["result_id"], each["state"]) for each in rest] == [(22, "RESULT_STATE_FAILED")]


async def test_output_is_the_body_of_one_call(site: SiteUnderTest, container: Web) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"json."
        yield b"1" * 100_000

    assert await container.send("WriteOutput", pieces()) == (200, {})
    output = site.runtime.started[0].run_dir / "output"
    assert output.read_bytes() == b"json." + b"1" * 100_000
    status, answer = await container.send("WriteOutput", b"json.2")
    assert (status, answer["reason"]) == (409, "ALREADY_EXISTS")


@pytest.mark.attack("X16")
async def test_nothing_without_the_token(site: SiteUnderTest, container: Web) -> None:
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Bearer {CONTAINER_TOKEN}"}):
        for method in (*web.SERVICE.methods_by_name, "Nothing"):
            status, answer = await container.ask(method, headers)
            assert (status, answer["reason"]) == (401, "UNAUTHENTICATED"), method
    twice = container.head("GetRun", "Authorization: Bearer wrong", "Content-Length: 0")
    reader, writer = await container.raw(twice)
    assert b" 401 " in await reader.readline()
    writer.close()
    assert not site.server.task_requests


@pytest.mark.attack("X16")
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "GetRun", 404), ("POST", "Nothing", 404), ("POST", "token", 404), ("POST", "../GetRun", 404),
     ("POST", "__init__", 404), ("OPTIONS", "GetRun", 404)],
)  # fmt: skip
async def test_only_the_contracts_methods(container: Web, method: str, path: str, status: int) -> None:
    async with container.session.request(method, path, headers=container.headers) as answer:
        assert answer.status == status


@pytest.mark.attack("X16")
@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"{}{}", b'{"task_id":"x"}', b'{"task_id":1e99}', b'{"task_id":-1.5}',
     b'{"nothing":1}', b'{"task_id":1,"task_id":2}', b'{"task_id":NaN}', b"[" * 100_000, b'{"a":' * 100_000],
)  # fmt: skip
async def test_bad_json_is_told_so(container: Web, body: bytes) -> None:
    status, answer = await container.send("CancelSubtask", body)
    assert (status, answer["reason"]) == (400, "INVALID_ARGUMENT")


@pytest.mark.attack("X16")
async def test_large_bodies_end_early(container: Web) -> None:
    """By what is announced, by what comes, by how many values are in it, and packed ones are not unpacked."""
    reader, writer = await container.raw(container.head("CreateSubtask", f"Content-Length: {10**12}"))
    assert b" 429 " in await reader.readline()
    writer.close()

    many = b'{"organization_ids":[' + b"1," * web.MAX_VALUES + b"1]}"
    status, answer = await container.send("CreateSubtask", many)
    assert (status, answer["reason"]) == (429, "RESOURCE_EXHAUSTED")

    async with container.session.post(
        "GetRun", data=b"\x1f\x8b", headers={**container.headers, "content-encoding": "gzip"}
    ) as packed:
        assert packed.status == 501

    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield b'{"input":"'
        while True:
            yield b"A" * 2**20
            sent += 1

    with contextlib.suppress(aiohttp.ClientError):  # It hangs up while more is coming; the answer may be seen or not.
        assert (await container.send("CreateSubtask", endless()))[0] == 429
    assert sent * 2**20 < 2 * MAX_MESSAGE
    assert (await container.ask("GetRun"))[0] == 200


async def test_a_large_input_is_no_trouble(site: SiteUnderTest, container: Web) -> None:
    data = text_of(bytes(600_000))
    status, _ = await container.ask("CreateSubtask", input=data, organization_ids=[OTHER])
    assert status == 200
    (sent,) = site.server.task_requests
    assert len(site.server.payloads[sent.organizations[0].input_payload_id][1]) > 600_000


@pytest.mark.attack("X16")
async def test_broken_requests_harm_nobody(container: Web, caplog: pytest.LogCaptureFixture) -> None:
    broken = [
        b"\0" * 100, b"GET\r\n\r\n", b"POST / HTTP/9.9\r\n\r\n", b"x" * 100_000,
        b"POST / HTTP/1.1\r\n" + b"a: b\r\n" * 100_000,
        container.head("GetRun", "Transfer-Encoding: chunked") + b"zzz\r\nnot a chunk\r\n",
        container.head("GetRun", "Transfer-Encoding: chunked", "Content-Length: 3") + b"0\r\n\r\n",
        container.head("GetRun", "Content-Length: 100") + b"{",
        container.head("WriteOutput", "Content-Length: 100") + b"json.",
    ]  # fmt: skip
    for each in broken:
        try:
            _, writer = await container.raw(each)
        except (BrokenPipeError, ConnectionResetError):
            continue
        writer.close()
    assert (await container.ask("GetRun"))[0] == 200
    assert "not a chunk" not in caplog.text


@pytest.mark.attack("X16")
async def test_slow_clients_take_nobodys_place(site: SiteUnderTest, container: Web) -> None:
    """As many as there may be: then others are turned away at once; gone, they leave room; the run's end ends them."""
    slow = [await container.raw(container.head("GetRun", "Content-Length: 9") + b"{") for _ in range(MAX_CALLS)]
    async with asyncio.timeout(PATIENCE):
        while (await container.ask("GetRun"))[0] != 429:  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # Until the last of them is being served.
    for _, writer in slow:
        writer.close()
    async with asyncio.timeout(PATIENCE):
        while (await container.ask("GetRun"))[0] != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    _, subtask = await container.ask("CreateSubtask", input=text_of(b"json.1"), organization_ids=[OTHER])
    body = json.dumps({"task_id": subtask["id"]}).encode()
    waiting = await container.raw(container.head("StreamResults", f"Content-Length: {len(body)}") + body)
    stuck = await container.raw(container.head("WriteOutput", "Content-Length: 9") + b"json.")
    idle = await container.raw(b"POST /Alg")
    async with asyncio.timeout(PATIENCE):
        while not site.server.watches:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await site.stop()
        for reader, writer in (waiting, stuck, idle):
            await _drained(reader)
            writer.close()


async def _drained(reader: asyncio.StreamReader) -> None:
    try:
        await reader.read()
    except ConnectionResetError:
        return


@pytest.mark.attack("X16")
async def test_connections_have_a_limit(container: Web) -> None:
    held = [socket.socket(socket.AF_UNIX) for _ in range(web.MAX_CONNECTIONS + 5)]
    refused = 0
    try:
        for each in held:
            each.setblocking(False)
            each.connect(container.path)
        for each in held[web.MAX_CONNECTIONS :]:
            async with asyncio.timeout(PATIENCE):
                refused += await asyncio.get_running_loop().sock_recv(each, 1) == b""
    finally:
        for each in held:
            each.close()
    assert refused == 5
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                status, _ = await container.ask("GetRun")
            except aiohttp.ClientError:
                await asyncio.sleep(0.01)
                continue
            assert status == 200
            return


@pytest.mark.attack("X16")
async def test_who_hangs_up_is_not_waited_for(site: SiteUnderTest, container: Web) -> None:
    _, subtask = await container.ask("CreateSubtask", input=text_of(b"json.1"), organization_ids=[OTHER])
    body = json.dumps({"task_id": subtask["id"]}).encode()
    for number in range(1, 2 * MAX_CALLS):
        _, writer = await container.raw(container.head("StreamResults", f"Content-Length: {len(body)}") + body)
        async with asyncio.timeout(PATIENCE):
            while len(site.server.watches) < number:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        writer.close()
    assert (await container.ask("GetRun"))[0] == 200


async def test_a_failure_after_the_first_line_is_a_line(
    site: SiteUnderTest, container: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stream(_: object) -> AsyncIterator[SubtaskResult]:
        yield SubtaskResult(result_id=21)
        raise NotFound("gone meanwhile")

    monkeypatch.setattr(Results, "stream", stream)
    _, subtask = await container.ask("CreateSubtask", input=text_of(b"json.1"), organization_ids=[OTHER])
    status, lines = await container.ask("StreamResults", task_id=subtask["id"])
    assert status == 200
    assert lines[0]["result_id"] == 21
    assert lines[1:] == [{"error": {"code": "NOT_FOUND", "reason": "NOT_FOUND", "message": "gone meanwhile"}}]
