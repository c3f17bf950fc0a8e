"""Attacks on rights and on what belongs to others, each through gRPC and through REST (docs/security-tests.md)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from typing import Any

import grpc
import pytest
from google.api.httpbody_pb2 import HttpBody

from vantage6.api.v1.payload_pb2 import WritePayloadRequest
from vantage6.api.v1.payload_pb2_grpc import PayloadServiceStub
from vantage6.common.errors import from_rpc_error
from vantage6.server.domain.secrets import now
from vantage6.server.domain.states import ResultState
from vantage6.server.store.tables import Content, Result, Task

from .conftest import KEY, PASSWORD, Site
from .doors import CODES, Answer, Door, fresh

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("rest")]

HIDDEN = {"NOT_FOUND", "PERMISSION_DENIED"}
BIG = {"size": 70_000, "sha256": base64.b64encode(bytes(32)).decode()}


async def run_of(site: Site, task_id: int, organization: int) -> tuple[Task, Result]:
    async with site.server.database.write() as store:
        task = await store.tasks.get(task_id)
        (result,) = [row for row in await store.results.of_tasks([task_id]) if row.organization_id == organization]
        assert task is not None
        result.state, result.epoch = int(ResultState.RUNNING), max(1, result.epoch)
    return task, result


async def container(door: Door, *, number: int = 0) -> tuple[str, Task, Result]:
    """A running algorithm of one of the site's organizations; its token stands in the site's tokens."""
    home = door.site.organizations[number]
    made = await door.task("researcher", door.site.collaboration_id, *door.site.organizations)
    task, result = await run_of(door.site, made["id"], home)
    node = await door.call("Auth.CreateContainerToken", await door.node(number), result_id=result.id, image="image")
    who = f"container-{result.id}"
    door.site.tokens[who] = node["container_token"]
    return who, task, result


async def end(site: Site, result: Result) -> None:
    async with site.server.database.write() as store:
        row = await store.results.get(result.id)
        assert row is not None
        row.state, row.finished_at = int(ResultState.COMPLETED), now()


@pytest.mark.attack("CVE-2023-28635")
async def test_cve_2023_28635_a_name_made_of_digits_is_no_id(door: Door) -> None:
    home = door.site.organizations[0]
    person = {"username": "12", "email": f"{fresh('n')}@x.example", "password": PASSWORD, "organization_id": home}
    refused = await door.call("User.CreateUser", "root", **person)
    assert (refused.status, refused.facts["field"]) == ("INVALID_ARGUMENT", "username")
    # An organization may be called like another one's id; nothing resolves it.
    victim = await door.organization()
    twin = (await door.call("Organization.CreateOrganization", "root", name=str(victim)))["id"]
    assert (await door.call("Organization.GetOrganization", "root", id=victim))["name"] != str(victim)
    assert (await door.call("Organization.ListOrganizations", "root", name=str(victim))).ids == [twin]
    role = await door.call("Role.CreateRole", "root", name="1", organization_id=home)
    assert role.status in {"OK", "ALREADY_EXISTS"}
    who = await door.person("1")
    assert (await door.call("Audit.ListAuditEntries", who)).status == "PERMISSION_DENIED"


@pytest.mark.attack("CVE-2023-41881")
async def test_cve_2023_41881_a_deleted_collaboration_leaves_nothing_behind(door: Door) -> None:
    home = door.site.organizations[0]
    study = await door.collaboration(home)
    node = (await door.call("Node.CreateNode", "root", collaboration_id=study, organization_id=home)).body
    task = await door.task("researcher", study, home)
    (result,) = (await door.call("Result.ListResults", "root", task_id=task["id"])).ids
    payload = (await door.call("Payload.CreatePayload", "researcher", collaboration_id=study, **BIG))["id"]
    door.site.tokens["gone"] = (await door.call("Auth.CreateNodeToken", api_key=node["api_key"]))["access_token"]
    assert (await door.call("Collaboration.DeleteCollaboration", "root", id=study)).status == "OK"
    for rpc, number in (
        ("Collaboration.GetCollaboration", study), ("Node.GetNode", node["id"]), ("Task.GetTask", task["id"]),
        ("Result.GetResult", result), ("Payload.GetPayload", payload),
    ):  # fmt: skip
        assert (await door.call(rpc, "root", id=number)).status == "NOT_FOUND", rpc
    assert (await door.call("Task.ListTasks", "root", collaboration_id=study)).body == []
    assert (await door.call("Node.ListNodes", "gone")).status == "UNAUTHENTICATED"
    assert (await door.call("Auth.CreateNodeToken", api_key=node["api_key"])).status == "UNAUTHENTICATED"
    # No later thing gets an id that somebody may still hold.
    again = await door.collaboration(home)
    anew = (await door.call("Node.CreateNode", "root", collaboration_id=again, organization_id=home))["id"]
    other = await door.task("researcher", again, home)
    assert (again > study, anew > node["id"], other["id"] > task["id"]) == (True, True, True)


@pytest.mark.attack("CVE-2023-41882")
async def test_cve_2023_41882_nested_lists_and_what_is_embedded_are_checked_on_their_own(door: Door) -> None:
    alien = await door.organization()
    study = await door.collaboration(alien)
    who = await door.person("researcher", alien)
    task = await door.task(who, study, alien)
    assert task.status == "OK"
    stranger = await door.person("organization_admin")
    for rpc, fields in (
        ("Organization.ListOrganizations", {"collaboration_id": study}),
        ("Collaboration.ListCollaborations", {"organization_id": alien}),
        ("Task.ListTaskResults", {"task_id": task["id"]}),
    ):
        assert (await door.call(rpc, stranger, **fields)).status == "NOT_FOUND", rpc
    for rpc, fields in (
        ("Task.ListTasks", {"collaboration_id": study, "include": "results"}),
        ("Result.ListResults", {"task_id": task["id"], "include": "task"}),
        ("Node.ListNodes", {"collaboration_id": study}),
        ("User.ListUsers", {"organization_id": alien}),
        ("Role.ListRoles", {"organization_id": alien}),
    ):
        assert (await door.call(rpc, stranger, **fields)).body == [], rpc
    for rpc, include in (("Task.ListTasks", "users"), ("Result.ListResults", "organization")):
        refused = await door.call(rpc, stranger, include=include)
        assert (refused.status, refused.facts["field"]) == ("INVALID_ARGUMENT", "include")
    # A node sees the results of its own organization, whichever way it asks.
    made = await door.task("researcher", door.site.collaboration_id, *door.site.organizations)
    node = await door.node(1)
    assert len((await door.call("Task.ListTaskResults", node, task_id=made["id"])).ids) == 1
    for rpc in ("Task.GetTask", "Task.ListTasks"):
        fields = {"id": made["id"]} if rpc == "Task.GetTask" else {}
        body = (await door.call(rpc, node, include="results", **fields)).body
        task = body if rpc == "Task.GetTask" else body[-1]
        embedded = {one["organization"] for one in task.get("results") or []}
        assert embedded == ({door.site.organizations[1]} if door.kind == "rest" else set())


@pytest.mark.attack("CVE-2023-41882")
async def test_cve_2023_41882_who_sees_the_one_need_not_see_the_other(door: Door) -> None:
    made = await door.task("researcher", door.site.collaboration_id, door.site.organizations[0])
    (result,) = (await door.call("Result.ListResults", "root", task_id=made["id"])).ids
    for noun, rpc, include in (("task", "Task.GetTask", "results"), ("result", "Result.GetResult", "task")):
        rule = {"resource": noun, "operation": "view", "scope": "collaboration"}
        role = fresh("role")
        fields = {"name": role, "rules": [rule], "organization_id": door.site.organizations[0]}
        assert (await door.call("Role.CreateRole", "root", **fields)).status == "OK"
        who = await door.person(role)
        body = (await door.call(rpc, who, id=made["id"] if noun == "task" else result, include=include)).body
        assert not body.get(include) or body[include].get("methods") == [], body
        other = ("Result.GetResult", result) if noun == "task" else ("Task.GetTask", made["id"])
        assert (await door.call(other[0], who, id=other[1])).status == "NOT_FOUND"


async def write(door: Door, payload: str, content: bytes) -> Answer:
    """An upload by the researcher, which is the one call that is not a plain message at both doors."""
    headers = {"authorization": f"Bearer {door.site.tokens['researcher']}"}
    if door.kind == "rest":
        answer = await door.web.put(f"/api/payload/{payload}/content", content=content, headers=headers)
        body = answer.json()
        return Answer("OK" if answer.is_success else CODES[body["code"]], reason=body["details"][0]["reason"])
    stub: Any = PayloadServiceStub(door.channel)
    try:
        message = WritePayloadRequest(id=payload, content=HttpBody(data=content))
        await stub.WritePayload(iter([message]), metadata=tuple(headers.items()))
    except grpc.aio.AioRpcError as error:
        return Answer(error.code().name, reason=from_rpc_error(error).reason)
    return Answer("OK")


@pytest.mark.attack("CVE-2024-22193")
async def test_cve_2024_22193_plain_input_is_refused_in_an_encrypted_collaboration(door: Door) -> None:
    home = door.site.organizations[0]
    study = await door.collaboration(home, encrypted=True)
    refused = await door.task("researcher", study, home, key=fresh("key"))
    assert (refused.status, refused.reason) == ("INVALID_ARGUMENT", "NOT_SEALED")
    plain = b"json." + b" " * 70_000
    digest = base64.b64encode(hashlib.sha256(plain).digest()).decode()
    facts = {"collaboration_id": study, "size": len(plain), "sha256": digest}
    payload = (await door.call("Payload.CreatePayload", "researcher", **facts))["id"]
    written = await write(door, payload, plain)
    assert (written.status, written.reason) == ("INVALID_ARGUMENT", "NOT_SEALED")
    blob = {"id": home, "input_payload_id": payload}
    used = await door.task("researcher", study, key=fresh("key"), organizations=[blob])
    assert used.status in {"FAILED_PRECONDITION", "NOT_FOUND"}
    assert (await door.call("Task.ListTasks", "root", collaboration_id=study)).body == []


@pytest.mark.attack("CVE-2024-32969")
async def test_cve_2024_32969_a_scope_is_not_widened_by_adding_an_organization(door: Door) -> None:
    alien, study = await door.organization(), await door.collaboration(*door.site.organizations)
    admin = await door.person("collaboration_admin")
    add = {"collaboration_id": study, "id": alien}
    assert (await door.call("Collaboration.AddCollaborationOrganization", admin, **add)).status == "PERMISSION_DENIED"
    replace = {"id": study, "organization_ids": [*door.site.organizations, alien]}
    assert (await door.call("Collaboration.UpdateCollaboration", admin, **replace)).status == "PERMISSION_DENIED"
    create = {"name": fresh("study"), "organization_ids": [door.site.organizations[0], alien]}
    assert (await door.call("Collaboration.CreateCollaboration", admin, **create)).status == "PERMISSION_DENIED"
    assert (await door.call("Organization.GetOrganization", admin, id=alien)).status == "NOT_FOUND"


@pytest.mark.attack("X01", "X02")
async def test_x01_x02_a_node_gets_nowhere_near_the_run_of_another(door: Door) -> None:
    """Reports go through the node's stream (tests/server/test_dispatch.py); these are the other ways in."""
    made = await door.task("researcher", door.site.collaboration_id, *door.site.organizations)
    _, result = await run_of(door.site, made["id"], door.site.organizations[1])
    # The same organization's run, in a collaboration where this node is not.
    elsewhere = await door.collaboration(door.site.organizations[0])
    other = await door.task("researcher", elsewhere, door.site.organizations[0])
    _, run = await run_of(door.site, other["id"], door.site.organizations[0])
    node = await door.node(0)
    for victim, study in ((result, door.site.collaboration_id), (run, elsewhere)):
        for rpc, fields in (
            ("Result.GetResult", {"id": victim.id}),
            ("Auth.CreateContainerToken", {"result_id": victim.id, "image": "image"}),
            ("Payload.CreatePayload", {"collaboration_id": study, "result_id": victim.id, **BIG}),
        ):
            assert (await door.call(rpc, node, **fields)).status in HIDDEN, rpc
    for rpc in ("Task.CancelTask", "Task.DeleteTask"):
        assert (await door.call(rpc, node, id=made["id"])).status in HIDDEN, rpc


@pytest.mark.attack("X03")
async def test_x03_a_containers_token_is_for_its_own_run_while_it_lasts(door: Door) -> None:
    who, task, result = await container(door)
    _, other, theirs = await container(door, number=1)
    assert (await door.call("Task.GetTask", who, id=task.id)).status == "OK"
    for rpc, fields in (
        ("Task.GetTask", {"id": other.id}),
        ("Result.GetResult", {"id": theirs.id}),
        ("Task.CancelTask", {"id": other.id}),
        ("Task.DeleteTask", {"id": task.id}),
        ("User.ListUsers", {}),
        ("Role.ListRoles", {}),
        ("System.GetStats", {}),
        ("Auth.ListSessions", {}),
        ("Auth.RevokeToken", {}),
        ("Auth.CreateContainerToken", {"result_id": result.id, "image": "image"}),
        ("Organization.UpdateOrganization", {"id": door.site.organizations[0], "public_key": KEY}),
        ("Audit.ListAuditEntries", {}),
    ):
        assert (await door.call(rpc, who, **fields)).status in HIDDEN, rpc
    assert (await door.call("Auth.RefreshToken", refresh_token=door.site.tokens[who])).status == "UNAUTHENTICATED"
    await end(door.site, result)
    assert (await door.call("Task.GetTask", who, id=task.id)).status == "UNAUTHENTICATED"


@pytest.mark.attack("X03")
async def test_x03_a_container_sees_what_it_makes_and_asked_for_and_nothing_of_its_siblings(door: Door) -> None:
    """Two sites run the same task; each has its own subtask."""
    site, (a, b) = door.site, door.site.organizations
    who, task, mine = await container(door)
    _, theirs = await run_of(site, task.id, b)
    token = await door.call("Auth.CreateContainerToken", await door.node(1), result_id=theirs.id, image="image")
    site.tokens["sibling"] = token["container_token"]
    subtask = (await door.task(who, site.collaboration_id, a, b, key=fresh("key")))["id"]
    key = fresh("key")
    foreign = (await door.task("sibling", site.collaboration_id, a, b, key=key))["id"]
    parts = {int(id_) for id_ in (await door.call("Result.ListResults", "root", task_id=subtask)).ids}
    # Large outputs: the sibling's, and those of the two subtasks.
    payloads = {}
    for task_id, organization in ((task.id, b), (task.id, a), (subtask, b), (foreign, b)):
        _, result = await run_of(site, task_id, organization)
        payload = await door.call("Payload.CreatePayload", await door.node(site.organizations.index(organization)),
                                  collaboration_id=site.collaboration_id, result_id=result.id, **BIG)  # fmt: skip
        async with site.server.database.write() as store:
            store.results.add_content(Content(result_id=result.id, kind="output", payload_id=payload["id"]))
        payloads[task_id, organization] = payload["id"]
    assert set((await door.call("Result.ListResults", who)).ids) == {mine.id, *parts}
    assert (await door.call("Task.ListTaskResults", who, task_id=task.id)).ids == [mine.id]
    assert (await door.call("Result.GetResult", who, id=theirs.id)).status == "NOT_FOUND"
    assert set((await door.call("Task.ListTasks", who)).ids) == {task.id, subtask}
    for rpc in ("Task.GetTask", "Task.CancelTask", "Task.DeleteTask"):
        assert (await door.call(rpc, who, id=foreign)).status == "NOT_FOUND", rpc
    # Its own subtask may be cancelled, and leaves its traces.
    assert (await door.call("Task.DeleteTask", who, id=subtask)).status == "PERMISSION_DENIED"
    for whose, expected in (((task.id, b), "NOT_FOUND"), ((foreign, b), "NOT_FOUND"), ((subtask, b), "OK"),
                            ((task.id, a), "OK")):  # fmt: skip
        assert (await door.call("Payload.GetPayload", who, id=payloads[whose])).status == expected, whose
    # The same words with the key of the sibling's subtask are no way to it.
    again = await door.task(who, site.collaboration_id, a, b, key=key)
    assert again.status == "ALREADY_EXISTS"
    # Of its own task it is told nothing: there would be the siblings in it.
    for watched, status in ((task.id, "PERMISSION_DENIED"), (foreign, "NOT_FOUND")):
        rpc = "Event.Watch" if door.kind == "grpc" else "Event.StreamEvents"
        async with asyncio.timeout(20):
            assert (await door.call(rpc, who, task_id=watched)).status == status
    assert (await door.call("Task.CancelTask", who, id=subtask)).status == "OK"


@pytest.mark.attack("X04")
async def test_x04_a_container_asks_only_for_its_own_image_within_its_collaboration(door: Door) -> None:
    who, _, _ = await container(door)
    study, (a, b) = door.site.collaboration_id, door.site.organizations
    alien = await door.organization()
    elsewhere = await door.collaboration(a)
    assert (await door.task(who, study, b)).status == "OK"
    for answer in (
        await door.task(who, study, b, image="evil.example/image"),
        await door.task(who, study, b, image="image:2"),
        await door.task(who, elsewhere, a),
        await door.task(who, study, alien),
        await door.task(who, study, *range(1, 10_001)),
    ):
        assert answer.status in {"PERMISSION_DENIED", "NOT_FOUND", "INVALID_ARGUMENT"}, answer


@pytest.mark.attack("X05")
async def test_x05_nobody_lifts_the_own_role_nor_grants_more_nor_removes_the_last_root(door: Door) -> None:
    researcher, admin = await door.person("researcher"), await door.person("organization_admin")
    for who in (researcher, admin):
        for roles in ("root", "collaboration_admin", "root,viewer"):
            answer = await door.call("User.UpdateUser", who, id=door.site.ids[who], roles=roles)
            assert answer.status == "PERMISSION_DENIED", (who, roles)
    rule = {"resource": "task", "operation": "view", "scope": "global"}
    assert (await door.call("Role.CreateRole", admin, name=fresh("r"), rules=[rule])).status == "PERMISSION_DENIED"
    own = await door.call("Role.CreateRole", admin, name=fresh("r"), rules=[rule | {"scope": "collaboration"}])
    assert (await door.call("Role.UpdateRole", admin, id=own["id"], rules=[rule])).status == "PERMISSION_DENIED"
    fellow = {"username": fresh("u"), "email": f"{fresh('u')}@x.example", "password": PASSWORD, "roles": "root"}
    assert (await door.call("User.CreateUser", admin, **fellow)).status == "PERMISSION_DENIED"
    assert (await door.call("User.DeleteUser", "root", id=1)).status == "FAILED_PRECONDITION"
    down = {"id": 1, "roles": "viewer", "organization_id": door.site.organizations[0]}
    assert (await door.call("User.UpdateUser", "root", **down)).status == "FAILED_PRECONDITION"


@pytest.mark.attack("X06")
async def test_x06_nobody_replaces_the_key_of_another_organization(door: Door) -> None:
    """That a replaced one is noticed, is shown in tests/client and tests/node: test_malicious_server.py."""
    victim = door.site.organizations[1]
    before = (await door.call("Organization.GetOrganization", "root", id=victim))["public_key"]
    evil = base64.b64encode(b"-----BEGIN PUBLIC KEY-----\nZXZpbA==\n-----END PUBLIC KEY-----\n").decode()
    who, _, _ = await container(door, number=1)
    for caller in (
        await door.person("organization_admin"), await door.person("collaboration_admin"),
        await door.person("researcher", victim), await door.person("collaboration_admin", victim),
        await door.node(0), await door.node(1), who,
    ):  # fmt: skip
        answer = await door.call("Organization.UpdateOrganization", caller, id=victim, public_key=evil)
        assert answer.status in {"PERMISSION_DENIED", "FAILED_PRECONDITION"}, caller
    assert (await door.call("Organization.GetOrganization", "root", id=victim))["public_key"] == before


CREATING: dict[str, Any] = {
    "Organization.CreateOrganization": {},
    "Collaboration.CreateCollaboration": {},
    "Role.CreateRole": {},
    "User.CreateUser": {"password": PASSWORD, "roles": "viewer"},
}


@pytest.mark.attack("X12")
@pytest.mark.parametrize("rpc", CREATING)
async def test_x12_an_idempotency_key_makes_one_thing_and_no_other(door: Door, rpc: str) -> None:
    label = "username" if rpc == "User.CreateUser" else "name"
    fields = {label: fresh("thing"), "idempotency_key": fresh("key")} | CREATING[rpc]
    if rpc in {"User.CreateUser", "Role.CreateRole"}:
        fields["organization_id"] = door.site.organizations[0]
    if rpc == "User.CreateUser":
        fields["email"] = f"{fresh('u')}@x.example"
    answers = await asyncio.gather(*(door.call(rpc, "root", **fields) for _ in range(4)))
    assert len({answer["id"] for answer in answers}) == 1
    other = await door.call(rpc, "root", **fields | {label: fresh("other")})
    assert other.status == "ALREADY_EXISTS"
    assert "idempotency key" in other.message


@pytest.mark.attack("X12")
async def test_x12_a_task_key_makes_one_task_and_no_other(door: Door) -> None:
    study, (a, _) = door.site.collaboration_id, door.site.organizations
    key = fresh("key")
    answers = await asyncio.gather(*(door.task("researcher", study, a, key=key) for _ in range(4)))
    assert len({answer["id"] for answer in answers}) == 1
    assert (await door.task("researcher", study, a, key=key, image="other")).status == "ALREADY_EXISTS"
    # Somebody else's key tells nothing and gives nothing.
    other = await door.task(await door.person("researcher"), study, a, key=key)
    assert other.status in {"ALREADY_EXISTS", "PERMISSION_DENIED"}
