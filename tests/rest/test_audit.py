"""The audit log through REST: root reads it, nobody else, and it holds no secret."""

from __future__ import annotations

import pytest

from .conftest import PASSWORD, Site

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("rest")]


@pytest.mark.attack
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
