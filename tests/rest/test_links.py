"""Everything can be reached from /api by following links, and `methods` tells the truth."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import Site

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("rest")]

PAGES = {"/api/docs"}
ENDLESS = {"/api/event"}


def links_in(content: Any) -> Iterator[dict[str, Any]]:
    if isinstance(content, list):
        for item in content:
            yield from links_in(item)
    elif isinstance(content, dict):
        if isinstance(content.get("link"), str):
            yield content
        for item in content.values():
            yield from links_in(item)


async def walk(site: Site, who: str) -> dict[str, int]:
    """Every path that links lead this caller to, with the status of the answer."""
    seen: dict[str, int] = {}
    async with site.web(who) as web:
        waiting = ["/api"]
        while waiting:
            path = waiting.pop()
            if path in seen or path in ENDLESS:
                continue
            answer = await web.get(path)
            seen[path] = answer.status_code
            if path in PAGES or path.endswith(".json"):
                continue
            for link in links_in(answer.json()):
                assert link["methods"], link
                if "GET" in link["methods"]:
                    waiting.append(link["link"])
    return seen


@pytest.mark.row("M51")
@pytest.mark.row("M33")
async def test_links_alone_lead_everywhere(site: Site) -> None:
    task = {"collaboration_id": site.collaboration_id, "image": "x", "name": "walk", "organizations": [
        {"id": site.organizations[0], "input": "anNvbi57fQ=="}]}  # fmt: skip
    async with site.web("researcher") as web:
        assert (await web.post("/api/task", json=task)).status_code == 200
    for who in ("root", "researcher", "viewer"):
        seen = await walk(site, who)
        assert set(seen.values()) == {200}, {path: status for path, status in seen.items() if status != 200}
        async with site.web(who) as web:
            for collection in ("organization", "collaboration", "node", "user", "task", "result"):
                for thing in (await web.get(f"/api/{collection}")).json():
                    assert f"/api/{collection}/{thing['id']}" in seen
        print(f"{who}: {len(seen)} paths by links alone")
    assert len(seen) > 15


@pytest.mark.row("M51")
async def test_methods_that_are_not_offered_are_refused(site: Site) -> None:
    """For each thing that a viewer is shown: what is not in `methods` answers 403 or 404."""
    async with site.web("viewer") as web:
        offered: dict[str, set[str]] = {}
        for path in await walk(site, "viewer"):
            if path in PAGES or path.endswith(".json"):
                continue
            for link in links_in((await web.get(path)).json()):
                if "id" in link and "?" not in link["link"]:
                    offered.setdefault(link["link"], set()).update(link["methods"])
        tried = 0
        for path, methods in offered.items():
            for method in {"PATCH", "DELETE"} - methods:
                answer = await web.request(method, path, json={} if method == "PATCH" else None)
                assert answer.status_code in {403, 404, 400}, (method, path, answer.text)
                tried += 1
    assert tried > 5
