"""What a user of lists expects, at both doors: names, states, dates, order, pages; and errors for what is unknown."""

from __future__ import annotations

import asyncio
import datetime as dt
import re
from typing import Any

import pytest

from vantage6.api.v1 import task_pb2
from vantage6.gateway.config import GatewayConfig
from vantage6.gateway.contract import bindings
from vantage6.server.domain.secrets import now
from vantage6.server.openapi import document

from .conftest import Site
from .doors import Door, fresh, method_of, rule_of

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("rest")]

# Each list with what it can be sorted by, besides the id.
LISTS: dict[str, tuple[str, ...]] = {
    "Organization.ListOrganizations": ("name",),
    "Collaboration.ListCollaborations": ("name",),
    "Node.ListNodes": ("name", "last_seen"),
    "User.ListUsers": ("username", "last_seen"),
    "Role.ListRoles": ("name",),
    "Task.ListTasks": (),
    "Result.ListResults": (),
    "Audit.ListAuditEntries": (),
    "Auth.ListSessions": (),
}


def spelt(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@pytest.mark.parametrize("rpc", LISTS)
async def test_every_list_has_pages_and_an_order(door: Door, rpc: str) -> None:
    await door.task("researcher", door.site.collaboration_id, *door.site.organizations)
    everything = (await door.call(rpc, "root")).ids
    assert everything == sorted(everything)
    assert (await door.call(rpc, "root", sort="-id")).ids[: len(everything)] == everything[::-1]
    pages = [(await door.call(rpc, "root", page=number, per_page=1)).ids for number in (1, 2)]
    assert [one for page in pages for one in page] == everything[:2]
    for sort in LISTS[rpc]:
        up, down = [(await door.call(rpc, "root", sort=sort)).body for sort in (sort, f"-{sort}")]
        assert sorted(item["id"] for item in up) == sorted(item["id"] for item in down) == everything
        if sort != "last_seen":
            assert [item[sort] for item in up] == sorted(item[sort] for item in up)
            assert [item[sort] for item in down] == sorted((item[sort] for item in up), reverse=True)


@pytest.mark.parametrize("rpc", LISTS)
async def test_a_wrong_page_or_order_names_the_field(door: Door, rpc: str) -> None:
    for field, value in (("sort", "colour"), ("sort", "--id"), ("page", 0), ("per_page", 1001), ("per_page", -1)):
        answer = await door.call(rpc, "root", **{field: value})
        assert (answer.status, answer.facts.get("field")) == ("INVALID_ARGUMENT", field), answer
        assert field in answer.message


async def test_every_list_is_among_those_that_are_tried() -> None:
    """By construction: a list that the contract gets later fails here."""
    listing = {
        f"{service}.{name}"
        for service, name in _streams()
        if name.startswith("List") and name not in {"ListRules", "ListTaskResults"}
    }
    assert listing == LISTS.keys()


def _streams() -> list[tuple[str, str]]:
    paths = document()["paths"].values()
    return [
        (operation["tags"][0], operation["operationId"])
        for path in paths for operation in path.values() if not operation["operationId"][-1].isdigit()
    ]  # fmt: skip


async def test_every_filter_is_in_the_openapi_description() -> None:
    for rpc in LISTS:
        method = method_of(rpc)
        verb, path, _ = rule_of(method)
        described = {one["name"] for one in document()["paths"][path][verb.lower()]["parameters"]}
        assert described == {field.name for field in method.input_type.fields}, rpc


async def test_tasks_by_name_state_image_creator_and_date(door: Door) -> None:
    site, name, image = door.site, fresh("task"), fresh("image")
    home, other = site.organizations
    who, colleague = await door.person("researcher"), await door.person("researcher", other)
    before = now()
    mine = (await door.task(who, site.collaboration_id, home, name=name, image=image))["id"]
    between = await _tick()
    theirs = (await door.task(colleague, site.collaboration_id, home, name=name))["id"]
    later = await _tick()

    async def found(**fields: Any) -> list[int]:
        return (await door.call("Task.ListTasks", "root", name=name, **fields)).ids

    assert await found() == [mine, theirs]
    assert await found(image=image) == [mine]
    assert await found(initiator_id=other) == [theirs]
    assert await found(user_id=site.ids[who]) == [mine]
    assert await found(state="open") == [mine, theirs]
    assert await found(state="completed") == []
    assert await found(created_after=spelt(before)) == [mine, theirs]
    assert await found(created_before=spelt(before)) == []
    assert await found(created_after=spelt(between)) == [theirs]
    assert await found(created_before=spelt(between), sort="-id") == [mine]
    assert await found(created_after=spelt(later)) == []
    await door.call("Task.CancelTask", "root", id=mine)
    assert await found(state="cancelled") == [mine]
    finished = await door.call("Result.ListResults", "root", task_id=mine, finished_after=spelt(later))
    assert len(finished.ids) == 1
    assert (await door.call("Result.ListResults", "root", task_id=mine, finished_before=spelt(later))).ids == []
    wrong = await door.call("Task.ListTasks", "root", state="colour")
    assert (wrong.status, wrong.facts["field"]) == ("INVALID_ARGUMENT", "state")


async def _tick() -> dt.datetime:
    """A moment that is not the one of a call before, in whole milliseconds."""
    await asyncio.sleep(0.005)
    moment = now()
    await asyncio.sleep(0.005)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


async def test_people_by_role_address_and_when_they_were_seen(door: Door) -> None:
    before = await _tick()
    who = await door.person("viewer")
    number = door.site.ids[who]

    async def found(**fields: Any) -> list[int]:
        return (await door.call("User.ListUsers", "root", **fields)).ids

    assert await found(username=who) == await found(email=f"{who}@X.example") == [number]
    assert await found(username=who, role="viewer") == [number]
    assert await found(username=who, role="researcher") == []
    assert await found(username=who, last_seen_after=spelt(before)) == [number]
    assert await found(username=who, last_seen_before=spelt(before)) == []
    assert await found(username=who, organization_id=door.site.organizations[1]) == []


async def test_parties_by_what_is_known_of_them(door: Door) -> None:
    name = fresh("org")
    place = {"name": name, "country": name, "domain": f"{name}.example"}
    number = (await door.call("Organization.CreateOrganization", "root", **place))["id"]
    for field, value in place.items():
        assert (await door.call("Organization.ListOrganizations", "root", **{field: value})).ids == [number]
    study = await door.collaboration(number, encrypted=True)

    async def studies(**fields: Any) -> list[int]:
        return (await door.call("Collaboration.ListCollaborations", "root", organization_id=number, **fields)).ids

    assert await studies() == await studies(encrypted=True) == [study]
    assert await studies(encrypted=False) == []
    node = (await door.call("Node.CreateNode", "root", collaboration_id=study, organization_id=number)).body
    for fields in ({"name": node["name"]}, {"collaboration_id": study}, {"organization_id": number, "online": False}):
        assert (await door.call("Node.ListNodes", "root", **fields)).ids == [node["id"]]
    assert (await door.call("Node.ListNodes", "root", name=node["name"], last_seen_after=spelt(now()))).ids == []
    role = fresh("role")
    made = await door.call("Role.CreateRole", "root", name=role, organization_id=number)
    for fields in ({"name": role}, {"organization_id": number}):
        assert (await door.call("Role.ListRoles", "root", **fields)).ids == [made["id"]]


async def test_the_audit_log_by_date(door: Door) -> None:
    before = await _tick()
    name = fresh("org")
    await door.call("Organization.CreateOrganization", "root", name=name)
    after = await _tick()
    what = {"action": "OrganizationService.CreateOrganization", "outcome": "OK"}
    noted = await door.call("Audit.ListAuditEntries", "root", after=spelt(before), before=spelt(after), **what)
    assert len(noted.ids) == 1
    assert (await door.call("Audit.ListAuditEntries", "root", after=spelt(after), **what)).ids == []


@pytest.mark.attack("X10")
async def test_a_date_that_is_none_names_the_field(site: Site) -> None:
    async with site.web("root") as web:
        for text in ("yesterday", "2026-13-01T00:00:00Z", "10000-01-01T00:00:00Z", "1"):
            answer = await web.get("/api/task", params={"created_after": text})
            assert answer.status_code == 400, text
            assert "created_after" in answer.json()["msg"] or text in answer.json()["msg"], answer.text
    async with site.door("grpc") as door:
        request = task_pb2.ListTasksRequest()
        request.created_before.seconds = 2**60
        call: Any = door.channel.unary_stream(
            "/vantage6.api.v1.TaskService/ListTasks", request_serializer=task_pb2.ListTasksRequest.SerializeToString
        )
        with pytest.raises(Exception, match="created_before: is no moment"):
            await call(request, metadata=(("authorization", f"Bearer {site.tokens['root']}"),)).read()


async def test_an_unknown_parameter_or_path_or_method_is_named(site: Site) -> None:
    async with site.web("root") as web:
        for rpc in LISTS:
            _, path, _ = rule_of(method_of(rpc))
            answer = await web.get(path, params={"colour": "red"})
            assert (answer.status_code, "colour" in answer.json()["msg"]) == (400, True), path
            assert (await web.put(path, json={})).status_code == 404


NESTED = [binding for binding in bindings(GatewayConfig(plaintext=True).descriptors) if "}/" in binding.path]


@pytest.mark.attack("CVE-2023-41882")
async def test_beneath_what_is_not_there_is_no_list(site: Site) -> None:
    """Every path of the contract with something beneath a parent; also of a stranger's nobody learns that it is."""
    async with site.door("rest") as door:
        alien = await door.organization()
        study = await door.collaboration(alien)
        node = await door.call("Node.CreateNode", "root", collaboration_id=study, organization_id=alien)
        stranger = await door.person("researcher", alien)
        task = await door.task(stranger, study, alien)
        strange = {"organization": alien, "collaboration": study, "node": node["id"], "task": task["id"]}
        callers = {"root": "root", "viewer": await door.person("viewer"), "node": await door.node(0)}
    assert len(NESTED) >= 12
    for name, who in callers.items():
        async with site.web(who) as web:
            for binding in NESTED:
                noun = binding.path.split("/")[2]
                for parent in (999_999, strange.get(noun, 999_999)):
                    if name == "root" and parent != 999_999:
                        continue
                    path = re.sub(r"{\w+}", str(parent), binding.path)
                    body = {"id": alien} if binding.path.endswith("/organization") else {}
                    sent = None if binding.method == "GET" else body
                    answer = await web.request(binding.method, path, json=sent)
                    hidden = {404} if binding.method == "GET" or name == "root" else {403, 404}
                    assert answer.status_code in hidden, (name, binding.method, path, answer.text)
        # A filter is a question that may have no answer.
    async with site.web("root") as web:
        for path in ("/api/node?collaboration_id=999999", "/api/task?node_id=999999", "/api/result?node_id=999999"):
            assert ((answer := await web.get(path)).status_code, answer.json()) == (200, []), path
