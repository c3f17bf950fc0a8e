"""The wire of 1.x: a program that makes the requests of its Python client works as it is."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import jwt
import pytest

from vantage6.server.domain.secrets import now
from vantage6.server.domain.states import ResultState
from vantage6.server.store.tables import Content

from .conftest import PASSWORD, Site

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("rest")]

LINK = {"id", "link", "methods"}
TASK = {"id", "name", "description", "image", "run_id", "database", "complete", "initiator", "parent", "children",
        "collaboration", "results"}  # fmt: skip
RESULT = {"id", "input", "result", "log", "assigned_at", "started_at", "finished_at", "organization", "task"}
USER = {"id", "username", "firstname", "lastname", "email", "roles", "type", "status", "ip", "last_seen",
        "organization"}  # fmt: skip
ORGANIZATION = {"id", "name", "domain", "address1", "address2", "zipcode", "country", "public_key", "collaborations",
                "nodes", "users", "results", "created_tasks"}  # fmt: skip
NODE = {"id", "name", "type", "status", "ip", "last_seen", "organization", "collaboration"}


class OldClient:
    """What the client of 1.2.3 sends, and what it looks at."""

    def __init__(self, web: httpx.AsyncClient) -> None:
        self.web = web
        self.token = ""
        self.refresh_token = ""
        self.organization_id = 0
        self.user_id = 0

    async def request(self, path: str, body: Any = None, method: str = "get", **params: Any) -> Any:
        headers = {"Authorization": "Bearer " + self.token}
        answer = await self.web.request(method, f"/api/{path}", json=body, headers=headers, params=params)
        if answer.status_code > 210:  # Its rule: refresh, then once more.
            await self.refresh()
            headers = {"Authorization": "Bearer " + self.token}
            answer = await self.web.request(method, f"/api/{path}", json=body, headers=headers, params=params)
        return answer.json()

    async def authenticate(self, username: str, password: str) -> None:
        data = await self.web.post("/api/token/user", json={"username": username, "password": password})
        assert data.status_code == 200
        answer = data.json()
        self.token, self.refresh_token = answer["access_token"], answer["refresh_token"]
        self.user_id = jwt.decode(self.token, options={"verify_signature": False})["identity"]
        user = await self.request(f"user/{self.user_id}")
        self.organization_id = user["organization"]["id"]
        self.organization = await self.request(f"organization/{self.organization_id}")

    async def refresh(self) -> None:
        """Needs exactly 200 and `access_token`; the refresh token is that of the log-in, for ever."""
        headers = {"Authorization": "Bearer " + self.refresh_token}
        answer = await self.web.post("/api/token/refresh", headers=headers)
        assert answer.status_code == 200, answer.text
        self.token = answer.json()["access_token"]


def encoded(value: Any) -> str:
    return base64.b64encode(b"json." + json.dumps(value).encode()).decode()


async def finish(site: Site, result_id: int, output: bytes) -> None:
    """As the node's report leaves it; nodes themselves do not speak REST any more."""
    async with site.server.database.write() as store:
        row = await store.results.get(result_id)
        assert row is not None
        row.state, row.finished_at = int(ResultState.COMPLETED), now()
        store.results.add_content(Content(result_id=result_id, kind="output", data=output))


async def test_a_program_for_1x_works_as_it_is(site: Site) -> None:
    async with site.web() as web:
        client = OldClient(web)
        await client.authenticate("researcher", PASSWORD)
        assert client.organization_id == site.organizations[0]
        assert base64.b64decode(client.organization["public_key"]).startswith(b"-----BEGIN PUBLIC KEY")
        inputs = [
            {"id": number, "input": encoded({"method": "mean", "args": [], "kwargs": {}})}
            for number in site.organizations
        ]
        task = await client.request("task", method="post", body={
            "name": "my task", "image": "hello-world", "collaboration_id": site.collaboration_id, "description": "d",
            "organizations": inputs, "database": "default", "master": False, "something_of_1x": {"ignored": True},
        })  # fmt: skip
        assert task.keys() >= TASK
        assert (task["complete"], task["initiator"], task["parent"], task["children"]) == (
            False, client.organization_id, None, None,
        )  # fmt: skip
        client.token = "expired"
        polled = await client.request(f"task/{task['id']}")
        assert polled["complete"] is False
        for link in task["results"]:
            await finish(site, link["id"], b'json.{"mean": 4.5}')
        results = await client.request(f"task/{task['id']}/result")
        assert len(results) == 2
        for result in results:
            assert result.keys() >= RESULT
            assert json.loads(base64.b64decode(result["result"]).removeprefix(b"json.")) == {"mean": 4.5}
            assert base64.b64decode(result["input"]).startswith(b"json.")
            assert result["organization"] in site.organizations
            assert result["task"] == task["id"]
        embedded = await client.request("task", include="results", name="my task")
        assert {type(result["organization"]["id"] if isinstance(result["organization"], dict) else 0)
                for result in embedded[0]["results"]} == {int}  # fmt: skip
        with_task = await client.request("result", include="task", task_id=task["id"])
        assert [result["task"]["name"] for result in with_task] == ["my task"] * 2


async def test_a_program_for_1x_refreshes_again_and_again_with_its_first_token(site: Site) -> None:
    """As 1.2.3 was recorded: the token in the header, no body, and `{access_token}` back."""
    async with site.web() as web:
        client = OldClient(web)
        await client.authenticate("researcher", PASSWORD)
        first, seen = client.refresh_token, {client.token}
        for _ in range(4):
            client.token = "expired"
            assert (await client.request(f"user/{client.user_id}"))["username"] == "researcher"
            assert client.refresh_token == first
            seen.add(client.token)
        assert len(seen) == 5
        answer = await web.post("/api/token/refresh", headers={"Authorization": f"Bearer {first}"})
        assert answer.json().keys() - {"expires_in", "refresh_url", "user_url"} == {"access_token"}


async def test_the_statuses_are_those_that_programs_wait_for(site: Site) -> None:
    async with site.web("root") as root, site.web("researcher") as web:
        task = {"collaboration_id": site.collaboration_id, "image": "x", "organizations": [
            {"id": site.organizations[0], "input": encoded({})}]}  # fmt: skip
        assert (await web.post("/api/task", json=task)).status_code == 200
        made = await root.post("/api/organization", json={"name": "Statuses"})
        assert made.status_code == 201
        study = await root.post(
            "/api/collaboration", json={"name": "statuses", "organization_ids": [made.json()["id"]]}
        )
        assert study.status_code == 200
        node = await root.post(
            "/api/node", json={"collaboration_id": study.json()["id"], "organization_id": made.json()["id"]}
        )
        assert node.status_code == 201
        assert node.json()["api_key"]
        user = {"username": "statuses", "email": "s@x.example", "password": PASSWORD, "firstname": "a",
                "lastname": "b", "roles": "viewer", "organization_id": made.json()["id"]}  # fmt: skip
        assert (await root.post("/api/user", json=user)).status_code == 201
        again = await root.post("/api/collaboration", json={"name": "statuses", "organization_ids": []})
        assert again.status_code == 409
        assert "statuses" in again.json()["msg"]
        for path, status in (("/api/task/999999", 404), ("/api/user/999999", 404), ("/api/nothing", 404)):
            answer = await web.get(path)
            assert (answer.status_code, bool(answer.json()["msg"])) == (status, True)
        for token in ("rubbish", "e30.e30.e30"):
            answer = await web.get("/api/task", headers={"authorization": f"Bearer {token}"})
            assert answer.status_code == 401
            assert answer.json()["msg"]


async def test_log_in_has_the_recorded_shape(site: Site) -> None:
    async with site.web() as web:
        answer = await web.post("/api/token/user", json={"username": "viewer", "password": PASSWORD})
        body = answer.json()
        assert {"access_token", "refresh_token", "user_url", "refresh_url"} <= body.keys()
        assert body["refresh_url"] == "/api/token/refresh"
        assert answer.headers["jwt-token"] == body["access_token"]
        claims = jwt.decode(body["access_token"], options={"verify_signature": False})
        assert body["user_url"] == f"/api/user/{claims['identity']}"
        assert claims["user_claims"] == {"type": "user", "roles": ["viewer"]}
        node = await web.post("/api/token/node", json={"api_key": site.api_keys[0]})
        assert {"access_token", "refresh_token", "node_url", "refresh_url"} <= node.json().keys()
        for body in ({"username": "viewer", "password": "wrong"}, {"username": "unknown", "password": "wrong"}):
            refused = await web.post("/api/token/user", json=body)
            assert (refused.status_code, refused.json()["msg"]) == (401, "Wrong name, password or code.")
        lost = await web.post("/api/recover/lost", json={"username": "viewer"})
        assert lost.json()["msg"]


@pytest.mark.row("M16")
@pytest.mark.row("M51")
async def test_resources_have_the_recorded_fields_and_null_where_there_is_nothing(site: Site) -> None:
    async with site.web("root") as web:
        alone = (await web.post("/api/organization", json={"name": "Alone"})).json()
        for path, fields in (
            ("user/1", USER), (f"organization/{alone['id']}", ORGANIZATION), ("node", NODE),
            (f"collaboration/{site.collaboration_id}",
             {"id", "name", "encrypted", "organizations", "nodes", "tasks"}),
        ):  # fmt: skip
            found = (await web.get(f"/api/{path}")).json()
            thing = found[0] if isinstance(found, list) else found
            assert fields <= thing.keys(), path
        alone = (await web.get(f"/api/organization/{alone['id']}")).json()
        assert [alone[name] for name in ("collaborations", "nodes", "users")] == [None, None, None]
        root = (await web.get("/api/user/1")).json()
        assert root["organization"] is None
        assert root["roles"] == "root"
        for name, path in (("M12", "node"), ("M13", "organization")):
            nested = (await web.get(f"/api/collaboration/{site.collaboration_id}/{path}")).json()
            plain = {thing["id"]: thing for thing in (await web.get(f"/api/{path}")).json()}
            assert nested, name
            assert nested == [plain[thing["id"]] for thing in nested]
