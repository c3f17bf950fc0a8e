"""The user proxy: the server's REST API on the researcher's own machine, with sealing and opening done on the way.

It acts for the user, so it listens to programs of this user only: on the loopback address, with a token that is made
anew at each start. Browsers are kept out altogether: what a web page makes its visitor send carries an origin, or the
name of another host.
"""

from __future__ import annotations

import hmac
import json
import re
import ssl
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import web
from yarl import URL

from vantage6.cli.sealing import Sealing
from vantage6.common.errors import (
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
    Vantage6Error,
)

if TYPE_CHECKING:
    from pathlib import Path

    from vantage6.client.bridge import Bridge

LARGEST = 96 * 1024 * 1024
"""Bytes of a task in JSON, and of an answer whose outputs are opened; other bodies pass through piece by piece."""
CHUNK = 256 * 1024
PASSED_ON = ("accept", "content-type", "last-event-id")
PASSED_BACK = ("content-type", "link", "x-total-count", "retry-after", "location", "x-request-id")
STATUS = {
    "INVALID_ARGUMENT": 400, "OUT_OF_RANGE": 400, "FAILED_PRECONDITION": 400, "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403, "NOT_FOUND": 404, "ALREADY_EXISTS": 409, "RESOURCE_EXHAUSTED": 429, "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503, "DEADLINE_EXCEEDED": 504,
}  # fmt: skip
# Plain words between the slashes: nothing that one of the programs on the way could read as another path.
_PATH = re.compile(r"/api(/[A-Za-z0-9_][A-Za-z0-9_.:-]*)+")
_TASK_RESULTS = re.compile(r"/api/(result(/\d+)?|task/\d+/result)")
_TASK = re.compile(r"/api/task(/\d+)?")
_TOKENS = ("/api/token", "/api/recover")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class UserProxy:
    """Serves one logged-in user."""

    def __init__(self, client: Bridge, server: str, ca_file: Path | None, token: str, *, sealing: bool = True) -> None:
        self._client = client
        self._server = server.rstrip("/")
        self._token = f"Bearer {token}".encode()
        self._sealing = Sealing(client, possible=sealing)
        self._context = ssl.create_default_context(cafile=ca_file) if server.startswith("https:") else None
        self._hosts: set[str] = set()
        self._web: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None

    async def start(self, port: int = 0) -> int:
        """Listens on 127.0.0.1 and says on which port."""
        app = web.Application(middlewares=[self._guard], client_max_size=LARGEST)
        app.router.add_get("/proxy", self._about)
        app.router.add_post("/api/task", self._create)
        app.router.add_route("*", "/{path:.*}", self._pass)
        runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, auto_decompress=False, shutdown_timeout=0.1
        )
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        self._runner = runner
        port = int(runner.addresses[0][1])
        self._hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}
        connector = aiohttp.TCPConnector(ssl=self._context or True)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=30)
        self._web = aiohttp.ClientSession(
            connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), trust_env=True
        )
        return port

    async def stop(self) -> None:
        if self._web:
            await self._web.close()
        if self._runner:
            await self._runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            self._check(request)
            return await handler(request)
        except Vantage6Error as error:
            return failure(error)
        except web.HTTPException as error:
            return failure(InvalidArgument(error.reason), error.status)

    def _check(self, request: web.Request) -> None:
        if [request.headers.get("host")] != request.headers.getall("host", []) or request.host not in self._hosts:
            raise PermissionDenied("this is for programs of this machine: call it by its own address")
        if "origin" in request.headers or request.headers.get("sec-fetch-site", "none") != "none":
            raise PermissionDenied("this is not for web pages")
        shown = request.headers.getall("authorization", [])
        if len(shown) != 1 or not hmac.compare_digest(shown[0].encode(errors="replace"), self._token):
            raise Unauthenticated("header 'Authorization: Bearer …' with the token of `v6 proxy` is missing")

    async def _about(self, request: web.Request) -> web.Response:
        user = self._client.whoami
        return web.json_response({
            "server": self._server, "username": user.username, "organization_id": user.organization_id,
            "organization": user.organization_name, "encryption": self._sealing.possible,
        })  # fmt: skip

    async def _create(self, request: web.Request) -> web.StreamResponse:
        """A task whose inputs are plain here and sealed from here on."""
        try:
            asked = json.loads(await request.read())
        except (ValueError, RecursionError) as error:
            raise InvalidArgument("the body is not JSON") from error
        id_ = await self._sealing.create(asked)
        async with await self._ask("GET", f"/api/task/{id_}", request) as answer:
            return web.json_response(body=await _whole(answer), status=200 if answer.ok else answer.status)

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        path = request.raw_path.partition("?")[0]
        if not _PATH.fullmatch(path):
            raise NotFound("there is /proxy, and what the server has under /api")
        if path.startswith(_TOKENS):
            raise PermissionDenied("who is logged in is decided where `v6 proxy` was started")
        if request.method == "POST" and path == "/api/task":
            raise NotFound("POST /api/task takes no query")
        opened = request.method == "GET" and (
            _TASK_RESULTS.fullmatch(path) or (_TASK.fullmatch(path) and "include" in request.query)
        )
        async with await self._ask(request.method, request.raw_path, request) as answer:
            if opened and answer.status == 200 and self._sealing.possible:
                return await self._opened(answer)
            return await _passed_back(request, answer)

    async def _ask(self, method: str, target: str, request: web.Request) -> aiohttp.ClientResponse:
        """Calls the server as the user, who is shown to it by their own token and not by the one of this proxy."""
        assert self._web  # noqa: S101 - by start()
        streamed = request.method == method and request.can_read_body
        headers = {name: request.headers[name] for name in PASSED_ON if name in request.headers}
        headers["accept-encoding"] = "identity"
        refused = None
        while True:
            token = await self._client.access_token(refused)
            headers["authorization"] = f"Bearer {token}"
            try:
                answer = await self._web.request(
                    method,
                    URL(self._server + target, encoded=True),
                    headers=headers,
                    data=request.content.iter_chunked(CHUNK) if streamed else None,
                    allow_redirects=False,
                )
            except (aiohttp.ClientError, TimeoutError) as error:
                raise Unavailable(f"the server cannot be reached: {type(error).__name__}") from error
            if answer.status != 401 or streamed or refused is not None:
                return answer
            answer.release()
            refused = token

    async def _opened(self, answer: aiohttp.ClientResponse) -> web.Response:
        try:
            found = json.loads(await _whole(answer))
        except (ValueError, RecursionError):
            raise Unavailable(
                "the server answers something else than JSON: is there a gateway at its address?"
            ) from None
        await self._sealing.open(found)
        headers = {name: answer.headers[name] for name in PASSED_BACK if name in answer.headers}
        headers.pop("content-type", None)
        return web.json_response(found, headers=headers)


async def _whole(answer: aiohttp.ClientResponse) -> bytes:
    """The body, if it is not too large: what the server says of its length, it need not say, nor keep to."""
    body = bytearray()
    try:
        async for piece in answer.content.iter_any():
            body += piece
            if len(body) > LARGEST:
                raise InvalidArgument("so many results at once: ask for fewer, with page and per_page")
    except aiohttp.ClientError as error:
        raise Unavailable(f"the server's answer broke off: {type(error).__name__}") from error
    return bytes(body)


async def _passed_back(request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    headers = {name: answer.headers[name] for name in PASSED_BACK if name in answer.headers}
    response = web.StreamResponse(status=answer.status, headers=headers)
    await response.prepare(request)
    try:
        async for piece in answer.content.iter_any():
            await response.write(piece)
    except aiohttp.ClientError as error:
        # Without a proper end: the caller must not take what came for the whole.
        raise ConnectionResetError("the server's answer broke off") from error
    await response.write_eof()
    return response


def failure(error: Vantage6Error, status: int | None = None) -> web.Response:
    """In the form that the server's own REST errors have."""
    body: dict[str, Any] = {"msg": error.message, "message": error.message, "reason": error.reason}
    return web.json_response(body, status=status or STATUS.get(error.status.name, 500))
