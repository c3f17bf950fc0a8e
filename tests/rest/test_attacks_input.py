"""Attacks by what is sent, through gRPC and REST; a few exist at one door only (docs/security-tests.md)."""

from __future__ import annotations

import ast
import base64
import pickle
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from vantage6.common.errors import from_rpc_error

from .conftest import PASSWORD, Site
from .doors import Door, fresh

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("rest")]

ROOT = Path(__file__).resolve().parents[2]
FORGING = ["two\nlines", "carriage\rreturn", "\x1b[31mred", "\x1b]0;title\x07", "nul\0", "\u202eback", "\u2028line"]
EXPANDING = ["{0.__class__}", "%s%n", "$(touch x)", "`id`", "${HOME}", "'; DROP TABLE users;--", "<script>", "../../x"]


class Bomb:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (exec, ("raise SystemExit('unpickled')",))


@pytest.mark.attack("CVE-2023-23930")
async def test_cve_2023_23930_a_pickle_goes_through_the_server_unopened(door: Door) -> None:
    study, home = door.site.collaboration_id, door.site.organizations[0]
    evil = base64.b64encode(pickle.dumps(Bomb())).decode()
    made = await door.task("researcher", study, organizations=[{"id": home, "input": evil}])
    (result,) = (await door.call("Result.ListResults", "researcher", task_id=made["id"])).ids
    body = (await door.call("Result.GetResult", "researcher", id=result)).body
    assert (body.get("input") or body["input_content"]["inline"]) == evil


@pytest.mark.attack("CVE-2023-23930")
async def test_cve_2023_23930_nothing_of_ours_can_unpickle() -> None:
    wings = ("server", "gateway", "common", "node", "client", "algorithm")
    sources = [path for wing in wings for path in (ROOT / wing).rglob("*.py")]
    assert len(sources) > 100
    for path in sources:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert not names & {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}, path


@pytest.mark.attack("CVE-2024-21649", "X10")
async def test_cve_2024_21649_nothing_that_a_user_wrote_is_expanded(door: Door) -> None:
    home = door.site.organizations[0]
    for text in EXPANDING:
        name = f"{text} {fresh('x')}"
        made = await door.call("Organization.CreateOrganization", "root", name=name, domain=text)
        assert (made["name"], made["domain"]) == (name, text)
        taken = await door.call("Organization.CreateOrganization", "root", name=name)
        assert (taken.status, name in taken.message) == ("ALREADY_EXISTS", True)
        assert (await door.call("Organization.ListOrganizations", "root", name=text)).body == []
        task = await door.task("researcher", door.site.collaboration_id, home, name=text, databases=[text])
        assert task.status == "INVALID_ARGUMENT" or task["name"] == text
        unknown = await door.call("Organization.ListOrganizations", "root", sort=text)
        assert unknown.facts["field"] == "sort"


@pytest.mark.attack("X15", "X10")
@pytest.mark.parametrize("text", FORGING)
async def test_x15_text_that_forges_lines_is_refused_and_the_field_is_named(door: Door, text: str) -> None:
    home, study = door.site.organizations[0], door.site.collaboration_id
    person = {"username": fresh("u"), "email": f"{fresh('u')}@x.example", "password": PASSWORD, "organization_id": home}
    for rpc, field, fields in (
        ("Organization.CreateOrganization", "name", {}),
        ("Organization.CreateOrganization", "domain", {"name": fresh("o")}),
        ("Organization.CreateOrganization", "address2", {"name": fresh("o")}),
        ("Organization.UpdateOrganization", "name", {"id": home}),
        ("Collaboration.CreateCollaboration", "name", {}),
        ("Collaboration.UpdateCollaboration", "name", {"id": study}),
        ("Node.UpdateNode", "name", {"id": 1}),
        ("Role.CreateRole", "name", {"organization_id": home}),
        ("Role.CreateRole", "description", {"name": fresh("r"), "organization_id": home}),
        ("User.CreateUser", "username", person),
        ("User.CreateUser", "firstname", person),
        ("User.UpdateUser", "lastname", {"id": 1}),
    ):
        answer = await door.call(rpc, "root", **fields | {field: text})
        assert (answer.status, answer.facts.get("field")) == ("INVALID_ARGUMENT", field), (rpc, field, answer)
        assert text not in answer.message
    for field in ("name", "image"):
        answer = await door.task("researcher", study, home, **{field: text})
        assert (answer.status, answer.facts.get("field")) == ("INVALID_ARGUMENT", field), answer


@pytest.mark.attack("X10")
async def test_x10_unicode_names_come_back_as_they_are(door: Door) -> None:
    for text in ("Ziekenhuis Zuid-Oost é", "病院", "مستشفى", "👩\u200d⚕️", "e\u0301"):
        name = f"{text} {fresh('x')}"
        made = await door.call("Organization.CreateOrganization", "root", name=name)
        assert (await door.call("Organization.ListOrganizations", "root", name=name)).ids == [made["id"]]


@pytest.mark.attack("X10")
@pytest.mark.parametrize("number", [-1, 0, 2**31 - 1])
async def test_x10_numbers_at_the_edge_are_answered(door: Door, number: int) -> None:
    for rpc in ("Organization.GetOrganization", "User.GetUser", "Task.GetTask", "Node.GetNode", "Role.GetRole"):
        assert (await door.call(rpc, "root", id=number)).status == "NOT_FOUND", rpc
    for field in ("page", "per_page"):
        answer = await door.call("Organization.ListOrganizations", "root", **{field: number})
        if field == "page" and number > 0:
            assert answer.body == []
        else:
            assert (answer.status, answer.facts["field"]) == ("INVALID_ARGUMENT", field)


@pytest.mark.attack("X10")
async def test_x10_bytes_that_are_no_message_are_refused(site: Site) -> None:
    """gRPC: what is no protobuf, and what claims to be longer than it is."""
    async with site.door("grpc") as door:
        call: Any = door.channel.unary_unary("/vantage6.api.v1.OrganizationService/GetOrganization")
        for content in (b"\xff" * 50, b"\x08", b"\x0a\xff\xff\xff\xff\x0f", b"\x08\x80" * 40):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(content, metadata=(("authorization", f"Bearer {site.tokens['root']}"),))
            failure = from_rpc_error(caught.value)
            assert failure.status is grpc.StatusCode.INVALID_ARGUMENT
            assert "damaged" in failure.message
            assert "protobuf" not in str(caught.value)
        assert (await door.call("System.GetVersion")).status == "OK"


@pytest.mark.attack("X10")
async def test_x10_strange_bodies_are_refused_and_nothing_falls_over(site: Site) -> None:
    """REST: what JSON can do and protobuf cannot."""
    async with site.web("root") as web:

        async def send(content: bytes) -> httpx.Response:
            return await web.post("/api/organization", content=content, headers={"content-type": "application/json"})

        for content in (
            b"[" * 10_000, b'{"a":' * 10_000, b'{"name": 1e400}', b'{"name": {"a": 1}}', b'{"name": "a\\u0000b"}',
            b"\xff\xfe", b"{", b"null x", b'{"name": "x\\r\\nLink: <evil>"}', b'{"name": "' + b"n" * 200 + b'"}',
            b'{"name": ["a"]}', b'{"name": "\\ud800"}',
        ):  # fmt: skip
            answer = await send(content)
            assert answer.status_code == 400, (content[:40], answer.status_code, answer.text)
            assert answer.json()["msg"]
        twice = await send(b'{"name": "first %d", "name": "last"}' % id(web))
        assert twice.status_code in {201, 400}
        huge = await send(b'{"name": "' + b"n" * (17 * 1024 * 1024) + b'"}')
        assert (huge.status_code, bool(huge.json()["msg"])) == (413, True)
        assert (await web.get("/api/task")).status_code == 200
        assert (await web.get("/api/organization", params={"nmae": "typo"})).status_code == 400
        assert (await web.request("PUT", "/api/organization")).status_code == 404


@pytest.mark.attack("X10")
async def test_x10_a_query_cannot_add_a_header(site: Site) -> None:
    async with site.web("root") as web:
        evil = 'a>; rel="next", <https://evil.example'
        answer = await web.get("/api/organization", params={"page": 1, "per_page": 1, "domain": evil})
        assert "evil.example>" not in answer.headers["link"]
        split = await web.get("/api/organization?page=1&per_page=1&name=%0d%0aSet-Cookie:%20a=b")
        assert "set-cookie" not in split.headers


@pytest.mark.attack("CVE-2024-23823")
async def test_cve_2024_23823_no_origin_is_allowed_unless_it_is_listed(site: Site) -> None:
    ask = {"origin": "https://evil.example", "access-control-request-method": "GET"}
    async with site.web("viewer") as web:
        for path in ("/api/task", "/vantage6.api.v1.TaskService/ListTasks"):
            for answer in (await web.get(path, headers=ask), await web.options(path, headers=ask)):
                assert "access-control-allow-origin" not in answer.headers


@pytest.mark.attack("GHSA-gwq3-pvwq-4c9w")
async def test_ghsa_gwq3_security_headers(site: Site) -> None:
    async with site.web() as web:
        for path in ("/api/version", "/api/docs", "/api/nothing", "/nothing"):
            headers = (await web.get(path)).headers
            assert headers["x-content-type-options"] == "nosniff", path
            assert headers["content-security-policy"].startswith("default-src 'none'"), path
            assert headers["x-frame-options"] == "DENY", path
            assert "max-age" in headers["strict-transport-security"], path
            assert "server" not in headers, path


@pytest.mark.attack("X10")
@pytest.mark.parametrize(
    ("name", "value"),
    [("j!", "x"), ("|", "x"), ("x-some-bin", "@@@"), ("x-some", b"\xff\xfe"), ("user-agent", "Zürich".encode()),
     ("last-event-id", b"\xff"), ("grpc-timeout", "1n"), ("grpc-encoding", "nothing"), ("cookie", "a=b"),
     ("x-envoy-!", "x"), ("x-envoy-expected-rq-timeout-ms", "1"), ("x-envoy-upstream-rq-timeout-ms", "1"),
     ("x-envoy-original-path", "/api/node/999999/task"), ("x-vantage6-door", "grpc")],
)  # fmt: skip
async def test_x10_no_header_of_http_makes_the_server_fail(site: Site, name: str, value: str | bytes) -> None:
    """What HTTP allows and gRPC does not never gets that far, nor what gRPC would obey."""
    strange = value if isinstance(value, bytes) else value.encode()
    async with site.web("root") as web:
        for path in ("/api/task", "/api/version", f"/api/collaboration/{site.collaboration_id}/node"):
            answer = await web.get(path, headers=[(name.encode(), strange)])
            assert answer.status_code == 200, (path, answer.text)
        assert "link" in (await web.get(f"/api/collaboration/{site.collaboration_id}")).json()
    async with site.web() as web:
        assert (await web.get("/api/task", headers=[(b"authorization", b"Bearer " + strange)])).status_code == 401
