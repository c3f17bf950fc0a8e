"""Contract tests: each resource, wherever it appears, has the fields and types that were recorded from 1.2.3."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import PASSWORD, Site
from .doors import fresh
from .shapes import (
    COLLABORATION,
    EMBEDDED_RESULT,
    EMBEDDED_TASK,
    NODE,
    NODE_SIMPLE,
    ORGANIZATION,
    RESULT,
    TASK,
    TASK_RESULT,
    TOKEN,
    USER,
    faults,
)
from .test_wire_1x import finish

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("rest")]


def check(found: Any, shape: dict[str, str], where: str) -> None:
    for thing in found if isinstance(found, list) else [found]:
        assert not faults(thing, shape), where


async def made(site: Site) -> int:
    """A task of two organizations, one of which has finished."""
    async with site.door("rest") as door:
        task = await door.task("researcher", site.collaboration_id, *site.organizations, database="default")
        await finish(site, task["results"][0]["id"], b'json.{"mean": 1}')
        return int(task["id"])


@pytest.mark.row("M16")
@pytest.mark.row("M33")
@pytest.mark.row("M51")
@pytest.mark.parametrize("who", ["root", "researcher"])
async def test_every_read_has_the_recorded_shape(site: Site, who: str) -> None:
    task, study, (home, _) = await made(site), site.collaboration_id, site.organizations
    async with site.door("rest") as door:
        await door.organization()  # With no relations at all.
    async with site.web(who) as web:

        async def get(path: str) -> Any:
            answer = await web.get(f"/api/{path}")
            assert answer.status_code == 200, (path, answer.text)
            return answer.json()

        result = (await get(f"task/{task}"))["results"][0]["id"]
        for paths, shape in (
            (["organization", f"organization/{home}", f"collaboration/{study}/organization"], ORGANIZATION),
            (["collaboration", f"collaboration/{study}", f"organization/{home}/collaboration"], COLLABORATION),
            (["node", "node/1", f"collaboration/{study}/node", f"organization/{home}/node"], NODE),
            (["user", "user/1" if who == "root" else "user"], USER),
            (["task", f"task/{task}", f"collaboration/{study}/task", "node/1/task"], TASK),
            (["result", f"result/{result}", f"result?task_id={task}", "result?node_id=1", "result?state=open"], RESULT),
            ([f"task/{task}/result"], TASK_RESULT),
        ):
            for path in paths:
                found = await get(path)
                assert found, path
                check(found, shape, path)
        for path in ("task?include=results", f"task/{task}?include=results"):
            found = await get(path)
            for one in found if isinstance(found, list) else [found]:
                check(one, {name: kind for name, kind in TASK.items() if name != "results"}, path)
                check(one["results"], EMBEDDED_RESULT, path)
        for path in ("result?include=task", f"result/{result}?include=task"):
            found = await get(path)
            for one in found if isinstance(found, list) else [found]:
                check(one, RESULT | {"task": "link null"} if not isinstance(one["task"], dict) else {}, path)
                check(one["task"], EMBEDDED_TASK, path)
        stats = await get("stats")
        for collaboration in stats["collaborations"]:
            check(collaboration.get("nodes", []), NODE_SIMPLE, "stats")


async def test_every_write_has_the_recorded_shape(site: Site) -> None:
    async with site.web("root") as web:

        async def call(method: str, path: str, status: int, **body: Any) -> Any:
            answer = await web.request(method, f"/api/{path}", json=body or None)
            assert answer.status_code == status, (path, answer.text)
            return answer.json()

        organization = await call("POST", "organization", 201, name=fresh("org"), address1="a", zipcode="b")
        check(organization, ORGANIZATION, "POST organization")
        changed = await call("PATCH", f"organization/{organization['id']}", 200, country="nl")
        check(changed, ORGANIZATION, "PATCH organization")
        fields = {"name": fresh("study"), "organization_ids": [organization["id"]], "encrypted": 0}
        # 1.x sent 0 and 1; the contract knows true and false.
        assert (await web.post("/api/collaboration", json=fields)).status_code == 400
        study = await call("POST", "collaboration", 200, **fields | {"encrypted": False})
        check(study, COLLABORATION, "POST collaboration")
        check(await call("PATCH", f"collaboration/{study['id']}", 200, name=fresh("s")), COLLABORATION, "PATCH")
        node = await call("POST", "node", 201, collaboration_id=study["id"], organization_id=organization["id"])
        check(node, NODE | {"api_key": "str"}, "POST node")
        shown = await call("PATCH", f"node/{node['id']}", 200, name=fresh("node"))
        check(shown, NODE, "PATCH node")
        # 1.x showed it to everybody for ever.
        assert "api_key" not in shown
        person = {"username": fresh("u"), "firstname": "a", "lastname": "b", "roles": "viewer", "password": PASSWORD,
                  "email": f"{fresh('u')}@x.example", "organization_id": organization["id"]}  # fmt: skip
        user = await call("POST", "user", 201, **person)
        check(user, USER, "POST user")
        check(await call("PATCH", f"user/{user['id']}", 200, lastname="c"), USER, "PATCH user")
        for path in (f"user/{user['id']}", f"node/{node['id']}", f"collaboration/{study['id']}"):
            assert (await call("DELETE", path, 200))["msg"]
        check((await web.post("/api/token/node", json={"api_key": site.api_keys[0]})).json(),
              TOKEN | {"node_url": "str"}, "token/node")  # fmt: skip
        body = {"username": "researcher", "password": PASSWORD}
        check((await web.post("/api/token/user", json=body)).json(), TOKEN | {"user_url": "str"}, "token/user")


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "task/999999", None, 404), ("GET", "organization/999999", None, 404), ("GET", "user/999999", None, 404),
        ("GET", "collaboration/999999", None, 404), ("GET", "node/999999", None, 404),
        ("GET", "result/999999", None, 404), ("GET", "collaboration/999999/organization", None, 404),
        ("GET", "task/999999/result", None, 404), ("POST", "token/user", {}, 400), ("POST", "token/node", {}, 400),
        ("POST", "token/user", {"username": "nobody", "password": "wrong"}, 401),
        ("POST", "token/node", {"api_key": "unknown"}, 401), ("POST", "recover/lost", {}, 400),
        ("POST", "recover/reset", {"reset_token": "x"}, 400),
        ("POST", "recover/reset", {"reset_token": "x", "password": "correct horse b"}, 401),
        ("POST", "collaboration", {"organization_ids": []}, 400), ("POST", "user", {"username": "x"}, 400),
        ("POST", "node", {"collaboration_id": 999999, "organization_id": 1}, 404),
        ("GET", "nothing", None, 404), ("GET", "health", None, 200), ("GET", "version", None, 200),
    ],
)  # fmt: skip
async def test_the_statuses_are_exact(site: Site, method: str, path: str, body: Any, status: int) -> None:
    async with site.web("root") as web:
        headers = {"x-forwarded-for": "10.77.0.1"}
        answer = await web.request(method, f"/api/{path}", json=body, headers=headers)
    assert answer.status_code == status, answer.text
    if status >= 400:
        assert answer.json()["msg"]
