"""REST through a real Envoy: JSON in 1.x's shapes, errors that say what is wrong, limits, and nothing to be faked."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.row("D03"),
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("gateway"),
]

MIB = 1024 * 1024
ORIGIN = "https://portal.example"


async def test_a_list_is_a_bare_array_with_its_page_headers(rest: httpx.AsyncClient) -> None:
    answer = await rest.get("/api/organization", params={"page": 1, "per_page": 2})
    assert [one["name"] for one in answer.json()] == ["Hospital 1", "Hospital 2"]
    assert answer.headers["x-total-count"] == "2"
    assert 'rel="next"' in answer.headers["link"]


async def test_an_empty_list_is_an_empty_array(rest: httpx.AsyncClient) -> None:
    answer = await rest.get("/api/organization?name=nobody")
    assert (answer.status_code, answer.text) == (200, "[]")


async def test_a_nested_path_fills_the_same_field(rest: httpx.AsyncClient) -> None:
    assert len((await rest.get("/api/collaboration/3/organization")).json()) == 2


async def test_names_nulls_bytes_and_present_zero_values(rest: httpx.AsyncClient) -> None:
    organization = (await rest.get("/api/organization/5")).json()
    assert organization == {
        "id": 5,
        "name": "North",
        "zipcode": "",
        "collaborations": None,
        "public_key": base64.b64encode(b"\x00pem").decode(),
    }


async def test_spaces_in_the_query_may_be_plus_signs(rest: httpx.AsyncClient) -> None:
    assert (await rest.get("/api/organization?name=St.+Mary")).json()[0]["name"] == "St. Mary"


async def test_creating_answers_201(rest: httpx.AsyncClient) -> None:
    answer = await rest.post("/api/organization", json={"name": "South"})
    assert (answer.status_code, answer.json()) == (201, {"id": 7, "name": "South"})
    assert "x-http-code" not in answer.headers


async def test_the_server_may_choose_another_success_code(rest: httpx.AsyncClient) -> None:
    answer = await rest.post("/api/task", json={"name": "t", "organizations": [{"id": 1}, {"id": 2}]})
    assert (answer.status_code, answer.json()["id"]) == (202, 2)


async def test_a_failed_creation_keeps_its_code(rest: httpx.AsyncClient) -> None:
    answer = await rest.post("/api/organization", json={"name": "taken"})
    assert (answer.status_code, answer.json()["msg"]) == (409, "name 'taken' is taken")


@pytest.mark.attack
async def test_the_body_overrides_the_path(rest: httpx.AsyncClient) -> None:
    """Which is why the server looks at the message only: here it sees 99, whatever the path says."""
    assert (await rest.patch("/api/organization/5", json={"id": 99, "domain": ""})).json()["id"] == 99


async def test_only_present_fields_arrive(rest: httpx.AsyncClient) -> None:
    answer = await rest.patch("/api/organization/5", json={"domain": "", "country": None})
    assert answer.json() == {"id": 5, "name": "id,domain"}


async def test_an_error_has_msg_message_and_reason(rest: httpx.AsyncClient) -> None:
    answer = await rest.get("/api/organization/404")
    body = answer.json()
    assert answer.status_code == 404
    assert body["msg"] == body["message"] == 'no organization "404"\nat all'
    assert body["code"] == 5
    assert body["details"][0]["reason"] == "NOT_FOUND"
    assert body["details"][0]["metadata"] == {"field": "id"}
    assert answer.headers["content-type"].startswith("application/json")
    assert "grpc-message" not in answer.headers


async def test_an_error_before_the_first_item_of_a_list_is_an_error(rest: httpx.AsyncClient) -> None:
    answer = await rest.get("/api/organization?name=broken")
    assert (answer.status_code, answer.json()["msg"]) == (404, "no collaboration")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("GET", "/api/organization?colour=red", None, 400, "colour"),
        ("GET", "/api/organization/five", None, 400, "five"),
        ("POST", "/api/organization", "{nonsense", 400, ""),
        ("GET", "/api/nothing", None, 404, "/api/nothing"),
        ("PUT", "/api/organization/5", "{}", 404, "/api/organization/5"),
        ("GET", "/elsewhere", None, 404, "/elsewhere"),
        ("POST", "/vantage6.api.v1.OrganizationService/GetOrganization", "{}", 404, "GetOrganization"),
        ("GET", "/api/organization%2f5", None, 400, ""),
    ],
)
async def test_what_is_unknown_is_refused_as_json(
    rest: httpx.AsyncClient, method: str, path: str, body: str | None, status: int, words: str
) -> None:
    answer = await rest.request(method, path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    error = answer.json()
    assert error["msg"] == error["message"]
    assert words in error["msg"]
    assert error["details"][0]["domain"] == "vantage6"
    assert isinstance(error["code"], int)


async def test_the_door_is_marked_and_the_caller_address_is_true(rest: httpx.AsyncClient, stage: Any) -> None:
    await rest.get("/api/organization/5", headers={"x-vantage6-door": "grpc", "x-forwarded-for": "6.6.6.6"})
    assert stage.seen.last["x-vantage6-door"] == "rest"
    assert stage.seen.last["x-forwarded-for"] == "127.0.0.1"


@pytest.mark.attack
@pytest.mark.parametrize("path", ["/API/organization", "//api//organization", "/api/../api/organization"])
async def test_no_spelling_of_the_path_comes_in_without_the_mark(
    rest: httpx.AsyncClient, stage: Any, path: str
) -> None:
    stage.seen.calls.clear()
    await rest.get(path)
    assert all(call["x-vantage6-door"] == "rest" for call in stage.seen.calls)


async def test_a_body_over_the_limit_is_refused(rest: httpx.AsyncClient, stage: Any) -> None:
    stage.seen.calls.clear()
    answer = await rest.post("/api/organization", json={"name": "n" * 2 * MIB})
    assert answer.status_code == 413
    assert answer.json()["msg"]
    assert not stage.seen.calls


async def test_a_body_under_the_limit_and_over_a_buffer_passes(rest: httpx.AsyncClient) -> None:
    answer = await rest.post("/api/organization", json={"name": "n" * (MIB + MIB // 2)})
    assert (answer.status_code, len(answer.json()["name"])) == (201, MIB + MIB // 2)


async def test_a_long_list_is_streamed(rest: httpx.AsyncClient) -> None:
    assert len((await rest.get("/api/task")).json()) == 3000


async def test_payload_content_is_streamed_both_ways(rest: httpx.AsyncClient) -> None:
    async def content() -> AsyncIterator[bytes]:
        for _ in range(32):
            yield bytes(MIB)

    written = (await rest.put("/api/payload/abc/content", content=content())).json()
    assert (written["id"], written["size"]) == ("abc", 32 * MIB)
    assert written["received"] <= MIB  # the largest message
    async with rest.stream("GET", "/api/payload/abc/content?offset=32") as answer:
        assert sum([len(chunk) async for chunk in answer.aiter_bytes()]) == 32 * MIB


async def test_events_are_server_sent(rest: httpx.AsyncClient) -> None:
    answer = await rest.get("/api/event", params={"task_id": 1})
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.text.startswith("id: 1\nevent: task\n")


async def test_entry_point_and_openapi(rest: httpx.AsyncClient) -> None:
    assert (await rest.get("/api")).json() == {"link": "/api"}
    assert (await rest.get("/api/openapi.json")).json()["openapi"] == "3.1.0"


async def test_security_headers_on_answers_and_errors(rest: httpx.AsyncClient) -> None:
    for path in ("/api/version", "/api/nothing", "/", "/api/organization/404"):
        headers = (await rest.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["cache-control"] == "no-store"
        assert "max-age" in headers["strict-transport-security"]
        assert "default-src 'none'" in headers["content-security-policy"]
        assert not {"server", "x-envoy-upstream-service-time", "x-powered-by"} & set(headers)


async def test_cors_answers_the_listed_origin(rest: httpx.AsyncClient) -> None:
    ask = {"origin": ORIGIN, "access-control-request-method": "PATCH"}
    answer = await rest.options("/api/organization/5", headers=ask)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "PATCH" in answer.headers["access-control-allow-methods"]
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.attack("CVE-2024-23823")
async def test_cors_refuses_other_origins(rest: httpx.AsyncClient) -> None:
    ask = {"origin": "https://evil.example", "access-control-request-method": "GET"}
    for answer in (await rest.options("/api/version", headers=ask), await rest.get("/api/version", headers=ask)):
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.attack
async def test_no_websockets(rest: httpx.AsyncClient) -> None:
    upgrade = {
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "eA==",
    }
    assert (await rest.get("/api/event", headers=upgrade)).status_code >= 400


@pytest.mark.attack("X10")
async def test_headers_are_limited(rest: httpx.AsyncClient) -> None:
    assert (await rest.get("/api/version", headers={"x-long": "x" * 40_000})).status_code == 431
    assert (await rest.get("/api/version", headers={"with_underscore": "x"})).status_code == 400
