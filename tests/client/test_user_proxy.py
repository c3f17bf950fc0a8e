"""`v6 proxy` before a server that notes what comes: what passes, what is sealed and opened, who is not let in."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime as dt
import inspect
import json
import re
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import aiohttp
import pandas as pd
import pytest
from aiohttp import web

from vantage6.cli import proxy as command
from vantage6.cli import userproxy
from vantage6.cli.sealing import TAKEN
from vantage6.cli.tasks import task as task_commands
from vantage6.cli.userproxy import UserProxy
from vantage6.client import WhoAmI
from vantage6.client._payloads import content_of
from vantage6.client._tasks import Tasks
from vantage6.client.bridge import Bridge
from vantage6.common.errors import EnvelopeBroken
from vantage6.common.serialization import deserialize, serialize

ROOT = Path(__file__).parents[2]
TOKEN = "the-token-of-this-proxy"
pytestmark = pytest.mark.row("D05")


@dataclass
class Server:
    """Stands for gateway and server."""

    url: str = ""
    seen: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    status: int = 200
    good: str = "Bearer access-1"
    results: Any = None
    body: bytes | None = None

    async def in_pieces(self, request: web.Request, body: bytes) -> web.StreamResponse:
        """Without its length, which the caller finds out by reading, and without its type."""
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        for start in range(0, len(body), 1000):
            await response.write(body[start : start + 1000])
        return response

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.seen.append((request.method, request.raw_path, {k.lower(): v for k, v in request.headers.items()}, body))
        if request.headers.get("authorization") != self.good:
            return web.json_response({"msg": "no"}, status=401)
        if request.path == "/api/event":
            response = web.StreamResponse(headers={"content-type": "text/event-stream"})
            await response.prepare(request)
            await response.write(b"event: task\ndata: {}\n\n")
            await asyncio.Event().wait()
        if request.path == "/api/broken":
            response = web.StreamResponse(headers={"content-length": "100"})
            await response.prepare(request)
            await response.write(b"half")
            assert request.transport
            request.transport.abort()
            return response
        if self.body is not None:
            return await self.in_pieces(request, self.body)
        if request.path == "/api/away":
            raise web.HTTPFound("http://evil.example/")
        headers = {"x-total-count": "7", "set-cookie": "a=b"}
        return web.json_response(self.results, status=self.status, headers=headers)


@dataclass
class FakeTasks:
    created: list[tuple[Any, ...]] = field(default_factory=list)

    async def create(self, *args: Any, **more: Any) -> Any:
        self.created.append((*args, more))
        return type("Task", (), {"id": 5})


class FakeClient:
    """Stands for the logged-in client; its own tests are elsewhere."""

    whoami = WhoAmI(1, "alice", 2, "North")

    def __init__(self) -> None:
        self.task = FakeTasks()
        self.outputs: dict[int, bytes | Exception] = {}
        self.tokens = ["access-1"]

    async def access_token(self, refused: str | None = None) -> str:
        if refused == self.tokens[0] and len(self.tokens) > 1:
            self.tokens.pop(0)
        return self.tokens[0]

    async def serialized(self, result_id: int) -> bytes:
        found = self.outputs[result_id]
        if isinstance(found, Exception):
            raise found
        return found


@dataclass
class Kit:
    server: Server
    client: FakeClient
    port: int
    web: aiohttp.ClientSession

    async def ask(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        headers = {"authorization": f"Bearer {TOKEN}"} | more.pop("headers", {})
        async with self.web.request(method, path, headers=headers, allow_redirects=False, **more) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if answer.content_type == "application/json" else text

    async def raw(self, text: str) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(text.replace("\n", "\r\n").encode())
        line = (await reader.readline()).decode()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        return line.split()[1] if line else ""


@pytest.fixture
async def kit() -> AsyncIterator[Kit]:
    server, client = Server(), FakeClient()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    served = UserProxy(cast("Bridge", client), server.url, None, TOKEN)
    port = await served.start()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        yield Kit(server, client, port, session)
    await served.stop()
    await runner.cleanup()


async def test_calls_pass_as_the_users_own(kit: Kit) -> None:
    kit.server.results = {"id": 1}
    status, answer = await kit.ask("PATCH", "/api/organization/1?x=a%20b", json={"name": "é"})
    assert (status, answer) == (200, {"id": 1})
    ((method, path, headers, body),) = kit.server.seen
    assert (method, path, json.loads(body)) == ("PATCH", "/api/organization/1?x=a%20b", {"name": "é"})
    assert headers["authorization"] == "Bearer access-1"
    assert TOKEN not in str(kit.server.seen)
    kit.server.status = 404
    assert (await kit.ask("GET", "/api/task/9"))[0] == 404
    kit.server.status = 200
    async with kit.web.get("/api/task", headers={"authorization": f"Bearer {TOKEN}"}) as found:
        assert found.headers["x-total-count"] == "7"
        assert "set-cookie" not in found.headers


async def test_events_come_as_they_happen(kit: Kit) -> None:
    async with kit.web.get("/api/event?task_id=1", headers={"authorization": f"Bearer {TOKEN}"}) as events:
        assert await events.content.readline() == b"event: task\n"  # The stream has no end here.


async def test_a_token_that_has_ended_is_renewed(kit: Kit) -> None:
    kit.client.tokens, kit.server.good = ["access-0", "access-1"], "Bearer access-1"
    kit.server.results = []
    assert (await kit.ask("GET", "/api/node"))[0] == 200
    kit.client.tokens = ["access-0"]
    assert (await kit.ask("GET", "/api/node"))[0] == 401
    assert len(kit.server.seen) == 4


async def test_an_answer_that_breaks_off_is_not_taken_for_whole(kit: Kit) -> None:
    with pytest.raises(aiohttp.ClientError):
        async with kit.web.get("/api/broken", headers={"authorization": f"Bearer {TOKEN}"}) as answer:
            await answer.read()


@pytest.mark.row("M34")
async def test_inputs_go_to_the_client_that_seals_them(kit: Kit) -> None:
    kit.server.results = {"id": 5}
    value = {"method": "average", "args": ["age"]}
    encoded = base64.b64encode(f"json.{json.dumps(value)}".encode()).decode()
    task = {"collaboration_id": 1, "image": "x", "name": "n", "database": "default"}
    status, answer = await kit.ask("POST", "/api/task", json={**task, "organizations": [1, 2], "input": value})
    assert (status, answer) == (200, {"id": 5})
    organizations = [{"id": 1, "input": encoded}, {"id": 2, "input": encoded}]
    assert (await kit.ask("POST", "/api/task", json={**task, "organizations": organizations}))[0] == 200
    for args in kit.client.task.created:
        assert args[:4] == (1, [1, 2], "x", value)
        assert args[4]["databases"] == ["default"]
    # The server hears nothing of it but the question for the task that the client has made.
    assert {(method, path, body) for method, path, _, body in kit.server.seen} == {("GET", "/api/task/5", b"")}


@pytest.mark.row("M07")
async def test_arrow_goes_in_and_out_as_it_is(kit: Kit) -> None:
    """A data frame of another language keeps its types; the proxy makes nothing else of it."""
    frame = b"Arrow." + serialize(pd.DataFrame({"age": [41, 52]}), "arrow").partition(b".")[2]
    organizations = [{"id": 1, "input": base64.b64encode(frame).decode()}]
    task = {"collaboration_id": 1, "image": "x", "organizations": organizations}
    kit.server.results = {"id": 5}
    assert (await kit.ask("POST", "/api/task", json=task))[0] == 200
    [(_, _, _, given, _)] = kit.client.task.created
    content = content_of(given)
    assert b"".join(content.pieces()) == frame
    assert content.size == len(frame)
    kit.client.outputs = {1: frame}
    kit.server.results = [{"id": 1, "result": "sealed"}]
    _, [found] = await kit.ask("GET", "/api/task/5/result")
    assert deserialize(base64.b64decode(found["result"])).equals(pd.DataFrame({"age": [41, 52]}))  # type: ignore[attr-defined]
    organizations[0]["input"] = base64.b64encode(b"arrow.no stream").decode()
    assert (await kit.ask("POST", "/api/task", json=task))[0] == 400


async def test_how_a_task_is_to_be_done_goes_with_it(kit: Kit) -> None:
    kit.server.results = {"id": 5}
    how = {"retries": 1, "min_results": 2, "priority": 3, "fail_fast": True, "retry_failures": True}
    task = {"collaboration_id": 1, "image": "x", "organizations": [1], "input": 1, **how}
    assert (await kit.ask("POST", "/api/task", json={**task, "deadline": "2030-01-02T03:04:05Z"}))[0] == 200
    [(*_, more)] = kit.client.task.created
    assert {name: more[name] for name in how} == how
    assert more["deadline"] == dt.datetime(2030, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


def test_every_door_takes_all_that_a_task_can_be_told() -> None:
    """What is added to the client is added to `v6`, the user proxy and the R package as well."""
    known = set(inspect.signature(Tasks.create).parameters) - {"self", "collaboration", "organizations", "input"}
    assert known <= TAKEN
    assert {str(each.name) for each in task_commands.commands["create"].params} >= known - {"databases"} | {"database"}
    code = (ROOT / "client" / "r" / "R" / "tasks.R").read_text()
    formals = code.partition("create_task <- function(")[2].partition("{")[0]
    assert set(re.findall(r"(\w+)(?: =|[,)])", formals)) >= known


@pytest.mark.attack("X17")
@pytest.mark.parametrize(
    "task",
    [
        [], 1, {}, {"organizations": [1]}, {"organizations": 1, "input": {}},
        {"organizations": [{"id": 1, "input": "anNvbi4x"}, {"id": 2, "input": "anNvbi4y"}]},
        {"organizations": [{"id": 1, "input": "anNvbi4x"}, {"id": 2}]},
        {"organizations": [{"id": 1, "input": "anNvbi4x"}], "input": 1},
        {"organizations": [{"id": 1, "input": "?"}]}, {"organizations": [{"id": 1, "input": "Z29vc2U="}]},
        {"organizations": [{"id": 1, "input": "cGlja2xlLmdBPT0="}]},
        {"organizations": [1], "input": 1, "key": "mine"}, {"organizations": [1], "input": 1, "retries": "x"},
        {"organizations": [1], "input": 1, "deadline": "soon"}, {"organizations": [1], "input": 1, "fail_fast": "yes"},
    ],
)  # fmt: skip
async def test_a_task_that_is_not_clear_goes_nowhere(kit: Kit, task: Any) -> None:
    """Above all it is not passed on in plain."""
    whole = {"collaboration_id": 1, "image": "x", **task} if isinstance(task, dict) else task
    for path in ("/api/task", "/api/task?x=1", "/api/task/"):
        status, answer = await kit.ask("POST", path, json=whole)
        assert status in (400, 404), answer
    assert (await kit.ask("POST", "/api/task", data=b"[" * 100_000))[0] == 400
    assert not kit.server.seen
    assert not kit.client.task.created


@pytest.mark.row("M34")
async def test_outputs_are_opened_on_their_way(kit: Kit) -> None:
    kit.client.outputs = {1: b"json.1", 2: EnvelopeBroken("it does not open"), 4: b"json.4"}
    results = [{"id": 1, "result": "sealed"}, {"id": 2, "result": "broken"}, {"id": 3, "result": None},
               {"id": 4, "result": None, "result_payload": "/api/payload/x"}]  # fmt: skip
    kit.server.results = results
    status, found = await kit.ask("GET", "/api/task/5/result")
    assert status == 200
    assert [each["result"] for each in found] == ["anNvbi4x", None, None, "anNvbi40"]
    assert found[1]["error"]["reason"] == "ENVELOPE_BROKEN"
    assert "error" not in found[2]
    kit.server.results = {"id": 9, "results": results}
    _, task = await kit.ask("GET", "/api/task/5?include=results")
    assert task["results"] == found
    kit.server.results = results[0]
    assert (await kit.ask("GET", "/api/result/1"))[1]["result"] == "anNvbi4x"


@pytest.mark.attack("X17")
async def test_nothing_without_the_token(kit: Kit) -> None:
    for headers in ({"authorization": ""}, {"authorization": "Bearer wrong"}, {"authorization": TOKEN},
                    {"authorization": "Bearer access-1"}):  # fmt: skip
        for method, path in (("GET", "/api/task"), ("POST", "/api/task"), ("GET", "/proxy"), ("GET", "/nothing")):
            assert (await kit.ask(method, path, headers=headers))[0] == 401
    twice = f"GET /proxy HTTP/1.1\nHost: 127.0.0.1:{kit.port}\nAuthorization: Bearer {TOKEN}\nAuthorization: x\n\n"
    assert await kit.raw(twice) == "401"
    assert not kit.server.seen


@pytest.mark.attack("X17")
async def test_web_pages_are_kept_out(kit: Kit) -> None:
    """A name of an attacker that has come to mean this machine; a page of another origin; both even with the token."""
    for host in (
        "evil.example",
        f"evil.example:{kit.port}",
        "127.0.0.1",
        "127.0.0.1:1",
        f"127.0.0.1.evil:{kit.port}",
        "",
    ):
        assert (await kit.ask("GET", "/proxy", headers={"host": host}))[0] in (400, 403), host
    for headers in ({"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"},
                    {"origin": f"http://127.0.0.1:{kit.port}"}, {"sec-fetch-site": "same-site"}):  # fmt: skip
        assert (await kit.ask("GET", "/api/task", headers=headers))[0] == 403, headers
        preflight = {**headers, "access-control-request-method": "POST"}
        async with kit.web.options("/api/task", headers=preflight) as answer:
            assert answer.status == 403
            assert not [name for name in answer.headers if name.lower().startswith("access-control")]
    two_hosts = f"GET /proxy HTTP/1.1\nHost: 127.0.0.1:{kit.port}\nHost: evil\nAuthorization: Bearer {TOKEN}\n\n"
    assert await kit.raw(two_hosts) in ("400", "403")
    assert not kit.server.seen


@pytest.mark.attack("X17")
@pytest.mark.parametrize(
    "target",
    ["/", "/api", "/apix/task", "//evil.example/api/task", "/api/../secret", "/api/%2e%2e/secret", "/api/task/..%2f..",
     "/api//task", "http://evil.example/api/node", "/api/task;x", "/api/task\\x",
     "/vantage6.api.v1.TaskService/GetTask",
     "/api/token/user", "/api/token/refresh", "/api/recover/reset", "*", "/api/@evil.example/"],
)  # fmt: skip
async def test_only_the_rest_api_is_behind_it(kit: Kit, target: str) -> None:
    head = f"Host: 127.0.0.1:{kit.port}\nAuthorization: Bearer {TOKEN}\n\n"
    assert await kit.raw(f"GET {target} HTTP/1.1\n{head}") in ("400", "403", "404")
    assert not kit.server.seen


@pytest.mark.attack("X17")
async def test_what_is_too_large_is_not_kept_in_memory(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a task, and of an answer that would be opened; other bodies pass piece by piece, however large."""
    monkeypatch.setattr(userproxy, "LARGEST", 10_000)
    served = UserProxy(cast("Bridge", kit.client), kit.server.url, None, TOKEN)
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with aiohttp.ClientSession(f"http://127.0.0.1:{await served.start()}", headers=headers) as session:
        task = {"collaboration_id": 1, "image": "x", "organizations": [1], "input": "A" * 20_000}
        async with session.post("/api/task", json=task) as answer:
            assert answer.status == 413
        assert not kit.client.task.created
        kit.server.results = [{"id": 1, "result": "A" * 20_000}]
        async with session.get("/api/task/5/result") as answer:
            assert answer.status == 400
            assert "fewer" in (await answer.json())["msg"]
        async with session.patch("/api/organization/1", data=b"A" * 20_000) as answer:
            assert answer.status == 200
        assert len(kit.server.seen[-1][3]) == 20_000
    await served.stop()


@pytest.mark.attack("X17")
async def test_redirects_are_not_followed(kit: Kit) -> None:
    assert (await kit.ask("GET", "/api/away"))[0] == 302
    assert len(kit.server.seen) == 1


@pytest.mark.attack("X17")
async def test_it_listens_to_this_machine_only(kit: Kit) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # Sends nothing: it says which address this machine would use.
        own = probe.getsockname()[0]
    with pytest.raises(OSError, match="refused"), socket.socket() as caller:
        caller.connect((own, kit.port))


async def test_who_serves_whom(kit: Kit) -> None:
    status, about = await kit.ask("GET", "/proxy")
    assert status == 200
    assert about == {
        "server": kit.server.url, "username": "alice", "organization_id": 2, "organization": "North",
        "encryption": True,
    }  # fmt: skip


def test_the_token_is_written_for_its_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "proxy.json"
    command._write(file, {"url": "u", "token": "one"})
    assert file.stat().st_mode & 0o777 == 0o600
    command._write(file, {"url": "u", "token": "two"})
    command._remove(file, "one")  # An older proxy ends: the file is not its own any more.
    assert json.loads(file.read_text())["token"] == "two"
    command._remove(file, "two")
    assert not list(file.parent.iterdir())
