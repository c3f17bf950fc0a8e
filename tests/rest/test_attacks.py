"""Attacks of reference/advisories.md through the REST door; those through gRPC stand beside their subjects."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from .conftest import PASSWORD, Site

pytestmark = [
    pytest.mark.attack, pytest.mark.envoy, pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("rest"),
]  # fmt: skip


async def test_cve_2022_39228_unknown_wrong_and_locked_look_the_same(site: Site) -> None:
    async with site.web() as web:

        async def guess(name: str) -> tuple[int, str]:
            tried = await web.post("/api/token/user", json={"username": name, "password": "wrong"})
            return tried.status_code, tried.json()["msg"].partition(";")[0]

        # At once: attempts are counted when they begin, so it does not matter how quick this machine is.
        known, unknown = [set(await asyncio.gather(*(guess(n) for _ in range(9)))) for n in ("admin", "nobody here")]
    assert known == unknown
    assert {status for status, _ in known} == {401, 429}


async def test_cve_2023_28635_a_name_of_digits_is_no_id(site: Site) -> None:
    async with site.web("root") as web:
        body = {"username": "12", "email": "n@x.example", "password": PASSWORD, "roles": "viewer",
                "organization_id": site.organizations[0]}  # fmt: skip
        assert (await web.post("/api/user", json=body)).status_code == 400
        assert (await web.get("/api/user/root")).status_code in {400, 404}


async def test_cve_2023_41882_what_is_embedded_is_checked_on_its_own(site: Site) -> None:
    async with site.web("viewer") as web:
        for path in ("/api/task?include=users", "/api/result?include=organization"):
            assert (await web.get(path)).status_code == 400
        assert (await web.get("/api/collaboration/999/task")).json() == []
        assert (await web.get("/api/collaboration/999/organization")).status_code == 404


async def test_cve_2024_23823_no_origin_is_allowed_unless_it_is_listed(site: Site) -> None:
    async with site.web("viewer") as web:
        answer = await web.get("/api/task", headers={"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in answer.headers


async def test_ghsa_gwq3_security_headers(site: Site) -> None:
    async with site.web() as web:
        for path in ("/api/version", "/api/docs", "/api/nothing", "/nothing"):
            headers = (await web.get(path)).headers
            assert headers["x-content-type-options"] == "nosniff", path
            assert headers["content-security-policy"].startswith("default-src 'none'"), path
            assert headers["x-frame-options"] == "DENY", path
            assert "max-age" in headers["strict-transport-security"], path
            assert "server" not in headers, path


async def test_cve_2024_32969_a_scope_is_not_widened_by_adding_an_organization(site: Site) -> None:
    async with site.web("admin") as web:
        path = f"/api/collaboration/{site.collaboration_id}/organization"
        assert (await web.post(path, json={"id": site.organizations[1]})).status_code == 403


async def test_cve_2025_43863_the_own_password_cannot_be_guessed_with_a_stolen_token(site: Site) -> None:
    who = (await site.log_in("viewer"))["user_url"]
    async with site.web("viewer") as web:
        codes = []
        for number in range(8):
            change = {"password": "another good one", "current_password": f"guess {number}"}
            codes.append((await web.patch(who, json=change)).status_code)
    assert codes[0] == 401
    assert codes[-1] == 429


async def test_cve_2026_54445_there_is_no_default_password(site: Site) -> None:
    async with site.web() as web:
        for password in ("root", "admin", "password", "vantage6"):
            tried = await web.post("/api/token/user", json={"username": "root", "password": password})
            assert tried.status_code == 401


async def test_x05_nobody_lifts_the_own_role_nor_removes_the_last_root(site: Site) -> None:
    async with site.web("researcher") as web:
        me = f"/api/user/{(await web.get('/api/user?username=researcher')).json()[0]['id']}"
        assert (await web.patch(me, json={"roles": "root"})).status_code == 403
    async with site.web("admin") as web:
        assert (await web.patch(me, json={"roles": "root"})).status_code == 403
    async with site.web("root") as web:
        for answer in (await web.delete("/api/user/1"), await web.patch("/api/user/1", json={"roles": "viewer"})):
            assert answer.status_code in {400, 409, 412}


async def test_x10_strange_bodies_are_refused_and_nothing_falls_over(site: Site) -> None:
    async with site.web("root") as web:

        async def send(content: bytes) -> httpx.Response:
            return await web.post("/api/organization", content=content, headers={"content-type": "application/json"})

        for content in (
            b"[" * 10_000, b'{"name": 1e400}', b'{"name": {"a": 1}}', b'{"name": "a\\u0000b"}', b"\xff\xfe", b"{",
            b"null x",
            b'{"name": "x\\r\\nLink: <evil>"}', b'{"name": "' + b"n" * 200 + b'"}', b'{"name": ["a"]}',
        ):  # fmt: skip
            answer = await send(content)
            assert answer.status_code == 400, (content[:40], answer.status_code, answer.text)
            assert answer.json()["msg"]
        quote = await send(b'{"name": "Robert\'); DROP TABLE tasks;--"}')
        assert quote.status_code == 201
        assert (await web.get("/api/task")).status_code == 200
        assert (await web.get("/api/organization", params={"name": "' OR 1=1 --"})).json() == []
        assert (await web.get("/api/organization", params={"nmae": "typo"})).status_code == 400
        assert (await web.request("PUT", "/api/organization")).status_code == 404


async def test_the_audit_log_tells_root_and_nobody_else_and_holds_no_secret(site: Site) -> None:
    async with site.web("root") as web:
        await web.patch("/api/user/1", json={"firstname": "Ada"})
        entries = (await web.get("/api/audit")).json()
        one = (await web.get("/api/audit", params={"action": "UserService.UpdateUser", "target": "user:1"})).json()
        page = await web.get("/api/audit", params={"page": 1, "per_page": 2, "sort": "-id"})
    assert {"AuthService.CreateUserToken", "UserService.CreateUser", "NodeService.CreateNode"} <= {
        entry["action"] for entry in entries
    }
    assert [(entry["caller"], entry["fields"], entry["outcome"]) for entry in one][-1] == ("user:1", "firstname", "OK")
    assert one[-1]["peer"] == "127.0.0.1"
    assert len(page.json()) == 2
    assert int(page.headers["x-total-count"]) >= len(entries)
    text = str(entries)
    assert PASSWORD not in text
    assert not any(token in text for token in site.tokens.values())
    for who in ("admin", "researcher", "viewer"):
        async with site.web(who) as web:
            assert (await web.get("/api/audit")).status_code == 403
