"""The names of 1.x, against the fake server and a REST API of three answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.client.fakes import COLLABORATION, NORTH, SOUTH, Fake
from vantage6.client import AsyncClient, Client
from vantage6.client.errors import InvalidArgument, NotFound, Throttled, Unauthenticated, Unavailable

ERROR = {
    "code": 8,
    "msg": "slowly",
    "details": [{"reason": "THROTTLED", "domain": "vantage6", "metadata": {"retry_after": "3"}}],
}


class Rest(BaseHTTPRequestHandler):
    """Remembers what it was asked and gives what was prepared."""

    seen: list[tuple[str, str, Any, str | None]]
    answers: list[tuple[int, bytes]]

    def do_GET(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        self.seen.append((self.command, self.path, body, self.headers.get("authorization")))
        status, content = self.answers.pop(0)
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None: ...


@contextmanager
def rest(*answers: tuple[int, Any]) -> Iterator[tuple[str, type[Rest]]]:
    prepared = [(status, each if isinstance(each, bytes) else json.dumps(each).encode()) for status, each in answers]
    handler: type[Rest] = type("Handler", (Rest,), {"seen": [], "answers": prepared})
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


async def some(fake: Fake) -> None:
    fake.complete(1, {"mean": 41.5})


def ended(fake: Fake) -> None:
    fake.complete(2, {"mean": 40.5})
    fake.finish(1)


@pytest.mark.row("M26")
@pytest.mark.row("M43")
async def test_a_script_of_1x(url: str, fake: Fake, tmp_path: Path) -> None:
    """Word for word as it was written in 2020, less the pickle."""

    def script() -> list[object]:
        host, port = url.rsplit(":", 1)
        client = Client(host, int(port), "/api", known_organizations=tmp_path / "known.json")
        client.authenticate("alice", "secret")
        client.create_private_key(tmp_path / "key.pem")
        client.setup_encryption(tmp_path / "key.pem")
        task = client.post_task(
            name="ages",
            image="image",
            collaboration_id=COLLABORATION,
            input_={"method": "mean", "master": False, "args": [], "kwargs": {"column": "age"}},
            organization_ids=[NORTH, SOUTH],
        )
        early = client.get_results(task_id=task["id"])
        assert [each["result"] for each in early] == [None, None]
        asyncio.run_coroutine_threadsafe(some(fake), loop).result()
        halfway = client.get_results(task_id=task["id"])
        assert [(each["state"], each["result"]) for each in halfway] == [
            ("completed", {"mean": 41.5}), ("pending", None),
        ]  # fmt: skip
        loop.call_soon_threadsafe(ended, fake)
        client.wait(task["id"])
        results = client.get_results(task_id=task["id"], include_task=True)
        assert results[0]["task"]["name"] == "ages"
        assert results[0]["organization"] == {"id": NORTH}
        assert client.get_results(id=2)[0]["result"] == {"mean": 40.5}
        client.close()
        return [each["result"] for each in results]

    loop = asyncio.get_running_loop()
    assert await asyncio.to_thread(script) == [{"mean": 41.5}, {"mean": 40.5}]
    assert fake.requests[0].databases == ["default"]


async def test_pickle_is_gone(client: AsyncClient) -> None:
    with pytest.raises(InvalidArgument, match="json only"):
        await client.post_task("x", "image", COLLABORATION, {}, "", [NORTH], "pickle")


async def ask(url: str, **more: Any) -> Any:
    async with AsyncClient(url, known_organizations=Path("/nowhere")) as client:
        client._session._access = "access"
        return await client.request("/task", **more)


@pytest.mark.row("M26")
async def test_any_call_of_the_rest_api() -> None:
    with rest((200, [{"id": 1}]), (201, {"id": 2}), (204, b""), (200, b"<html>")) as (url, seen):
        assert await ask(url, params={"state": "open"}) == [{"id": 1}]
        assert await ask(url, json={"name": "x"}, method="post") == {"id": 2}
        assert await ask(url) is None
        with pytest.raises(Unavailable, match="gateway"):
            await ask(url)
    assert seen.seen[:3] == [
        ("GET", "/api/task?state=open", None, "Bearer access"),
        ("POST", "/api/task", {"name": "x"}, "Bearer access"),
        ("GET", "/api/task", None, "Bearer access"),
    ]


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (429, ERROR, Throttled),
        (404, {"msg": "there is none"}, NotFound),
        (401, b"<html>", Unauthenticated),
        (503, b"", Unavailable),
        (404, {"details": ["odd"]}, NotFound),
    ],
)
async def test_errors_are_those_of_the_other_calls(status: int, body: object, kind: type[Exception]) -> None:
    with rest((status, body)) as (url, _), pytest.raises(kind) as caught:
        await ask(url)
    if kind is Throttled:
        assert caught.value.metadata == {"retry_after": "3"}  # type: ignore[attr-defined]


async def test_nobody_there() -> None:
    with pytest.raises(Unavailable):
        await ask("http://127.0.0.1:9")


async def test_a_stale_token_is_renewed_for_rest_too(client: AsyncClient, fake: Fake) -> None:
    with rest((401, {"msg": "stale"}), (200, {})) as (url, seen):
        client._session.endpoint = type(client._session.endpoint)(url)
        assert await client.request("task") == {}
    assert [each[3] for each in seen.seen] == ["Bearer access-0", "Bearer access-1"]
