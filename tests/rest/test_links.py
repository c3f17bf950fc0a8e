"""Everything can be reached from /api by following links, and `methods` tells the truth: each one is tried."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from typing import Any

import pytest

from vantage6.gateway.config import GatewayConfig
from vantage6.gateway.contract import bindings

from .conftest import Site
from .doors import Door, fresh

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("rest")]

PAGES = {"/api/docs", "/api/openapi.json"}
ENDLESS = {"/api/event"}
# Other views of what links lead to anyway.
VIEWS = {
    "/api/collaboration/{collaboration_id}/node", "/api/collaboration/{collaboration_id}/organization",
    "/api/organization/{organization_id}/node", "/api/organization/{organization_id}/collaboration",
    "/api/node/{node_id}/task", "/api/task/{task_id}/result",
}  # fmt: skip
CALLERS = ("root", "organization_admin", "collaboration_admin", "researcher", "viewer", "node")


def links_in(content: Any) -> Iterator[dict[str, Any]]:
    if isinstance(content, list):
        for item in content:
            yield from links_in(item)
    elif isinstance(content, dict):
        if isinstance(content.get("link"), str):
            yield content
        for item in content.values():
            yield from links_in(item)


async def walk(site: Site, who: str) -> tuple[dict[str, int], dict[str, set[str]]]:
    """What links lead this caller to, with the status of GET; and which methods they offer."""
    seen: dict[str, int] = {}
    offered: dict[str, set[str]] = {}
    async with site.web(who) as web:
        waiting = ["/api"]
        while waiting:
            path = waiting.pop()
            if path in seen or path in ENDLESS or path.endswith("/content"):
                continue
            answer = await web.get(path)
            seen[path] = answer.status_code
            if path in PAGES or answer.status_code != 200:
                continue
            for link in links_in(answer.json()):
                assert link["methods"], link
                assert sorted(set(link["methods"])) == sorted(link["methods"]), link
                offered.setdefault(link["link"], set()).update(link["methods"])
                if "GET" in link["methods"]:
                    waiting.append(link["link"])
    return seen, offered


async def caller(door: Door, kind: str) -> str:
    if kind in {"root", "node"}:
        return kind if kind == "root" else await door.node(0)
    return await door.person(kind)


async def busy(site: Site) -> None:
    """Something of everything is there: a subtask, a finished result, a large input, a role, a stranger."""
    async with site.door("rest") as door:
        home = site.organizations[0]
        task = await door.task("researcher", site.collaboration_id, *site.organizations, name="walk")
        child = await door.task("researcher", site.collaboration_id, home, name="child")
        async with site.server.database.write() as store:
            row = await store.tasks.get(child["id"])
            assert row is not None
            row.parent_id = task["id"]
        await large_input(door)
        await door.call("Role.CreateRole", "root", name=fresh("role"), organization_id=home)
        await door.person("organization_admin")
        alien = await door.organization()
        await door.collaboration(alien)


async def large_input(door: Door) -> None:
    content = b"json." + b" " * 70_000
    facts = {"size": len(content), "sha256": base64.b64encode(hashlib.sha256(content).digest()).decode()}
    site = door.site
    made = await door.call("Payload.CreatePayload", "researcher", collaboration_id=site.collaboration_id, **facts)
    async with site.web("researcher") as web:
        assert (await web.put(f"/api/payload/{made['id']}/content", content=content)).status_code == 200
    target = {"id": site.organizations[0], "input_payload_id": made["id"]}
    assert (await door.task("researcher", site.collaboration_id, organizations=[target])).status == "OK"


@pytest.mark.row("M51")
@pytest.mark.row("M33")
async def test_links_alone_lead_everywhere(site: Site) -> None:
    await busy(site)
    reached: dict[str, int] = {}
    async with site.door("rest") as door:
        for kind in CALLERS:
            who = await caller(door, kind)
            seen, _ = await walk(site, who)
            assert set(seen.values()) == {200}, {path: status for path, status in seen.items() if status != 200}
            reached[kind] = len(seen)
            async with site.web(who) as web:
                for collection in ("organization", "collaboration", "node", "user", "role", "task", "result"):
                    answer = await web.get(f"/api/{collection}")
                    missing = [one["id"] for one in answer.json() if f"/api/{collection}/{one['id']}" not in seen] \
                        if answer.status_code == 200 else []  # fmt: skip
                    assert not missing, (kind, collection)
    print("paths by links alone:", reached)
    assert reached["root"] > reached["researcher"] > reached["node"] > 10


@pytest.mark.row("M51")
async def test_there_is_no_path_that_no_link_leads_to(site: Site) -> None:
    """By construction: a path that the contract gets later fails here."""
    linked: dict[str, set[str]] = {}
    async with site.door("rest") as door:
        for kind in ("root", "researcher", "node"):
            _, offered = await walk(site, await caller(door, kind))
            for path, methods in offered.items():
                linked.setdefault(path.partition("?")[0], set()).update(methods)
    for binding in bindings(GatewayConfig(plaintext=True).descriptors):
        pattern = re.compile(re.sub(r"{\w+}", "[^/]+", binding.path))
        methods = set().union(*(methods for path, methods in linked.items() if pattern.fullmatch(path)))
        custom = binding.path.endswith(("/cancel", "/api_key")) or binding.path in VIEWS
        # A payload is named by the result that it belongs to; its bytes lie beneath it.
        bytes_of = binding.path.endswith("/content") or (binding.path, binding.method) == (
            "/api/payload/{id}",
            "DELETE",
        )
        if custom or bytes_of or binding.path == "/api":
            continue
        assert binding.method in methods, binding


@pytest.mark.row("M51")
@pytest.mark.parametrize("kind", CALLERS)
async def test_what_is_not_offered_is_refused(site: Site, kind: str) -> None:
    async with site.door("rest") as door:
        who = await caller(door, kind)
        _, offered = await walk(site, who)
    tried = 0
    targets = [{"id": site.organizations[0], "input": ""}]
    body = {"collaboration_id": site.collaboration_id, "image": "image", "organizations": targets}
    async with site.web(who) as web:
        for path, methods in offered.items():
            if "?" in path or path in PAGES | ENDLESS or path.count("/") != 3 or path.startswith("/api/token"):
                continue
            for method in sorted({"GET", "PATCH", "DELETE"} - methods):
                answer = await web.request(method, path, json={} if method == "PATCH" else None)
                # What nobody may do at all, to a default role, is refused for what it is.
                refused = {403, 404, 400} if path.startswith("/api/role/") and kind == "root" else {403, 404}
                assert answer.status_code in refused, (method, path, answer.text)
                tried += 1
        for noun in ("organization", "collaboration", "node", "user", "role", "task", "audit", "session", "rule"):
            if "POST" not in offered.get(f"/api/{noun}", set()):
                answer = await web.post(f"/api/{noun}", json=body)
                assert answer.status_code in {403, 404}, (noun, answer.text)
                tried += 1
    assert tried > 5


@pytest.mark.row("M51")
@pytest.mark.parametrize("kind", ["node", "viewer", "researcher", "collaboration_admin", "organization_admin", "root"])
async def test_what_is_offered_is_not_refused(site: Site, kind: str) -> None:
    """The last of this file: it deletes what it may, the callers with fewer rights first."""
    async with site.door("rest") as door:
        await door.task("researcher", site.collaboration_id, site.organizations[0])
        who = await caller(door, kind)
        if kind == "researcher":
            await door.task(who, site.collaboration_id, site.organizations[0])
        _, offered = await walk(site, who)
    tried: dict[str, int] = {}
    async with site.web(who) as web:
        for method in ("POST", "PATCH", "DELETE"):
            for path, methods in sorted(offered.items(), key=lambda item: "session" in item[0] or "token" in item[0]):
                if method not in methods or path.startswith(("/api/recover", "/api/token/")):
                    continue
                if method == "DELETE" and (path.startswith(("/api/session/", "/api/token")) or "/user/1" in path):
                    continue  # The caller's own way in.
                answer = await web.request(method, path, json={} if method != "DELETE" else None)
                assert answer.status_code not in {401, 403, 405, 500}, (method, path, answer.text)
                tried[method] = tried.get(method, 0) + 1
    print(f"{kind}: tried {tried}")
    assert tried["POST"] >= 1
