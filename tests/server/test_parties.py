"""Organizations, collaborations and nodes, through a real server."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from vantage6.api.v1 import auth_pb2, collaboration_pb2, node_pb2, organization_pb2, task_pb2

from .conftest import Hospitals
from .live import everything
from .test_accounts import refused

Status = grpc.StatusCode
KEY = b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"


async def organizations(hospitals: Hospitals, metadata: Any, **fields: Any) -> list[int]:
    request = organization_pb2.ListOrganizationsRequest(**fields)
    found = await everything(hospitals.live.stubs.organizations.ListOrganizations(request, metadata=metadata))
    return [organization.id for organization in found]


async def code(call: Any) -> grpc.StatusCode:
    return (await refused(call)).code()


async def test_lists_show_what_the_caller_may_see(hospitals: Hospitals) -> None:
    live = hospitals.live
    assert await organizations(hospitals, hospitals.root) == [hospitals.a, hospitals.b, hospitals.c]
    assert await organizations(hospitals, await live.login("viewer_a")) == [hospitals.a, hospitals.b]
    assert await organizations(hospitals, await live.login("nobody_a")) == [hospitals.a]
    assert await organizations(hospitals, await live.login("researcher_c")) == [hospitals.c]


async def test_what_may_not_be_seen_looks_as_if_it_were_not_there(hospitals: Hospitals) -> None:
    stubs, metadata = hospitals.live.stubs, await hospitals.live.login("organization_admin_a")
    hidden = await refused(
        stubs.organizations.GetOrganization(organization_pb2.GetOrganizationRequest(id=hospitals.c), metadata=metadata)
    )
    absent = await refused(
        stubs.organizations.GetOrganization(organization_pb2.GetOrganizationRequest(id=999), metadata=metadata)
    )
    assert hidden.code() is absent.code() is Status.NOT_FOUND
    assert (hidden.details() or "").replace(str(hospitals.c), "?") == (absent.details() or "").replace("999", "?")
    assert await code(
        stubs.collaborations.GetCollaboration(
            collaboration_pb2.GetCollaborationRequest(id=hospitals.other), metadata=metadata
        )
    ) is Status.NOT_FOUND  # fmt: skip
    get = node_pb2.GetNodeRequest(id=hospitals.nodes["c"])
    assert await code(stubs.nodes.GetNode(get, metadata=metadata)) is Status.NOT_FOUND


async def test_pages(hospitals: Hospitals) -> None:
    request = organization_pb2.ListOrganizationsRequest(page=2, per_page=2, sort="-id")
    call = hospitals.live.stubs.organizations.ListOrganizations(request, metadata=hospitals.root)
    metadata = dict(await call.initial_metadata())
    assert [organization.id for organization in await everything(call)] == [hospitals.a]
    assert metadata["x-total-count"] == "3"
    assert '<?page=1&per_page=2>; rel="prev"' in str(metadata["link"])
    assert 'rel="next"' not in str(metadata["link"])
    bad: dict[str, Any]
    for bad in ({"page": 0}, {"per_page": 0}, {"per_page": 1001}, {"sort": "colour"}):
        wrong = organization_pb2.ListOrganizationsRequest(**bad)
        error = await refused(
            everything(hospitals.live.stubs.organizations.ListOrganizations(wrong, metadata=hospitals.root))
        )
        assert error.code() is Status.INVALID_ARGUMENT


async def test_filters(hospitals: Hospitals) -> None:
    assert await organizations(hospitals, hospitals.root, collaboration_id=hospitals.shared) == [
        hospitals.a, hospitals.b,
    ]  # fmt: skip
    assert await organizations(hospitals, hospitals.root, name="Hospital C") == [hospitals.c]
    viewer = await hospitals.live.login("viewer_a")
    request = organization_pb2.ListOrganizationsRequest(collaboration_id=hospitals.other)
    call = hospitals.live.stubs.organizations.ListOrganizations(request, metadata=viewer)
    assert (await refused(everything(call))).code() is Status.NOT_FOUND


@pytest.mark.row("M11")
async def test_an_organization_has_a_domain_that_can_be_changed(hospitals: Hospitals) -> None:
    stubs, metadata = hospitals.live.stubs, await hospitals.live.login("organization_admin_a")
    update = organization_pb2.UpdateOrganizationRequest(id=hospitals.a, domain="other.example", public_key=KEY)
    answer = await stubs.organizations.UpdateOrganization(update, metadata=metadata)
    assert (answer.name, answer.domain, answer.public_key) == ("Hospital A", "other.example", KEY)
    emptied = organization_pb2.UpdateOrganizationRequest(id=hospitals.a, domain="")
    answer = await stubs.organizations.UpdateOrganization(emptied, metadata=metadata)
    assert (answer.domain, answer.public_key) == ("", KEY)


@pytest.mark.attack("X06")
async def test_nobody_changes_another_organizations_key(hospitals: Hospitals) -> None:
    stubs = hospitals.live.stubs
    update = organization_pb2.UpdateOrganizationRequest(id=hospitals.b, public_key=KEY)
    for name in ("organization_admin_a", "collaboration_admin_a", "collaboration_admin_b", "researcher_b"):
        metadata = await hospitals.live.login(name)
        call = stubs.organizations.UpdateOrganization(update, metadata=metadata)
        assert await code(call) is Status.PERMISSION_DENIED, name
    node = await hospitals.live.login_node(hospitals.api_keys["a"])
    assert await code(stubs.organizations.UpdateOrganization(update, metadata=node)) is Status.PERMISSION_DENIED


@pytest.mark.row("M26")
async def test_a_node_sets_the_key_of_its_organization_once(hospitals: Hospitals) -> None:
    stubs, node = hospitals.live.stubs, await hospitals.live.login_node(hospitals.api_keys["a"])
    update = organization_pb2.UpdateOrganizationRequest(id=hospitals.a, public_key=KEY)
    for _ in range(2):
        assert (await stubs.organizations.UpdateOrganization(update, metadata=node)).public_key == KEY
    more: dict[str, Any]
    for more in ({"public_key": KEY + b"\n"}, {"public_key": b""}, {"name": "mine", "public_key": KEY}):
        other = organization_pb2.UpdateOrganizationRequest(id=hospitals.a, **more)
        assert await code(stubs.organizations.UpdateOrganization(other, metadata=node)) is Status.FAILED_PRECONDITION


@pytest.mark.row("M10")
async def test_names_are_unique(hospitals: Hospitals) -> None:
    stubs, root = hospitals.live.stubs, hospitals.root
    again = collaboration_pb2.CreateCollaborationRequest(name="shared")
    assert await code(stubs.collaborations.CreateCollaboration(again, metadata=root)) is Status.ALREADY_EXISTS
    rename = collaboration_pb2.UpdateCollaborationRequest(id=hospitals.other, name="shared")
    assert await code(stubs.collaborations.UpdateCollaboration(rename, metadata=root)) is Status.ALREADY_EXISTS
    twin = organization_pb2.CreateOrganizationRequest(name="Hospital A")
    assert await code(stubs.organizations.CreateOrganization(twin, metadata=root)) is Status.ALREADY_EXISTS


@pytest.mark.attack("X12")
async def test_an_idempotency_key_gives_the_first_answer_or_a_refusal(hospitals: Hospitals) -> None:
    stubs, root = hospitals.live.stubs, hospitals.root
    request = organization_pb2.CreateOrganizationRequest(name="Hospital D", idempotency_key="once")
    first = await stubs.organizations.CreateOrganization(request, metadata=root)
    second = await stubs.organizations.CreateOrganization(request, metadata=root)
    assert first.id == second.id
    request.name = "Hospital E"
    assert await code(stubs.organizations.CreateOrganization(request, metadata=root)) is Status.ALREADY_EXISTS
    make = node_pb2.CreateNodeRequest(
        collaboration_id=hospitals.other, organization_id=hospitals.c, idempotency_key="n"
    )
    await stubs.nodes.DeleteNode(node_pb2.DeleteNodeRequest(id=hospitals.nodes["c"]), metadata=root)
    fresh = await stubs.nodes.CreateNode(make, metadata=root)
    repeated = await stubs.nodes.CreateNode(make, metadata=root)
    assert fresh.api_key
    assert (repeated.id, repeated.api_key) == (fresh.id, "")


@pytest.mark.attack("CVE-2024-32969")
async def test_a_collaboration_admin_cannot_pull_in_strangers(hospitals: Hospitals) -> None:
    stubs, admin = hospitals.live.stubs, await hospitals.live.login("collaboration_admin_a")
    add = collaboration_pb2.AddCollaborationOrganizationRequest(collaboration_id=hospitals.shared, id=hospitals.c)
    call = stubs.collaborations.AddCollaborationOrganization
    assert await code(call(add, metadata=admin)) is Status.PERMISSION_DENIED
    replace = collaboration_pb2.UpdateCollaborationRequest(
        id=hospitals.shared, organization_ids=[hospitals.a, hospitals.c]
    )
    assert await code(stubs.collaborations.UpdateCollaboration(replace, metadata=admin)) is Status.PERMISSION_DENIED
    assert list((await call(add, metadata=hospitals.root)).organization_ids) == [hospitals.a, hospitals.b, hospitals.c]


async def test_a_leaving_member_takes_its_node_along(hospitals: Hospitals) -> None:
    stubs, admin = hospitals.live.stubs, await hospitals.live.login("collaboration_admin_a")
    leave = collaboration_pb2.RemoveCollaborationOrganizationRequest(collaboration_id=hospitals.shared, id=hospitals.b)
    answer = await stubs.collaborations.RemoveCollaborationOrganization(leave, metadata=admin)
    assert list(answer.organization_ids) == [hospitals.a]
    assert hospitals.live.gone.nodes == [hospitals.nodes["b"]]
    assert await code(hospitals.live.login_node(hospitals.api_keys["b"])) is Status.UNAUTHENTICATED


@pytest.mark.attack("CVE-2023-41881")
async def test_a_deleted_collaboration_takes_everything_along_and_ids_are_not_used_again(hospitals: Hospitals) -> None:
    live, stubs, root = hospitals.live, hospitals.live.stubs, hospitals.root
    task, _ = await live.add_run(hospitals.shared, hospitals.a)
    delete = collaboration_pb2.DeleteCollaborationRequest(id=hospitals.shared)
    viewer = await live.login("viewer_a")
    assert await code(stubs.collaborations.DeleteCollaboration(delete, metadata=viewer)) is Status.PERMISSION_DENIED
    await stubs.collaborations.DeleteCollaboration(delete, metadata=root)
    assert sorted(live.gone.nodes) == [hospitals.nodes["a"], hospitals.nodes["b"]]
    assert await code(stubs.tasks.GetTask(task_pb2.GetTaskRequest(id=task.id), metadata=root)) is Status.NOT_FOUND
    make = collaboration_pb2.CreateCollaborationRequest(name="shared", organization_ids=[hospitals.a])
    made = await stubs.collaborations.CreateCollaboration(make, metadata=root)
    assert made.id > hospitals.other > hospitals.shared


@pytest.mark.row("M17")
async def test_root_makes_changes_and_deletes_nodes_of_any_organization(hospitals: Hospitals) -> None:
    stubs, root = hospitals.live.stubs, hospitals.root
    node = hospitals.nodes["c"]
    update = node_pb2.UpdateNodeRequest(id=node, name="renamed")
    assert (await stubs.nodes.UpdateNode(update, metadata=root)).name == "renamed"
    await stubs.nodes.DeleteNode(node_pb2.DeleteNodeRequest(id=node), metadata=root)
    assert hospitals.live.gone.nodes == [node]
    make = node_pb2.CreateNodeRequest(collaboration_id=hospitals.other, organization_id=hospitals.c)
    made = await stubs.nodes.CreateNode(make, metadata=root)
    assert made.name == "Hospital C - other Node"
    assert len(made.api_key) > 40
    assert (await stubs.nodes.GetNode(node_pb2.GetNodeRequest(id=made.id), metadata=root)).api_key == ""


async def test_nodes_are_made_for_members_once_and_by_those_who_may(hospitals: Hospitals) -> None:
    stubs, admin = hospitals.live.stubs, await hospitals.live.login("organization_admin_a")
    make = node_pb2.CreateNodeRequest(collaboration_id=hospitals.shared)
    assert await code(stubs.nodes.CreateNode(make, metadata=admin)) is Status.ALREADY_EXISTS
    foreign = node_pb2.CreateNodeRequest(collaboration_id=hospitals.shared, organization_id=hospitals.b)
    assert await code(stubs.nodes.CreateNode(foreign, metadata=admin)) is Status.PERMISSION_DENIED
    hidden = node_pb2.CreateNodeRequest(collaboration_id=hospitals.other)
    assert await code(stubs.nodes.CreateNode(hidden, metadata=admin)) is Status.NOT_FOUND
    outside = node_pb2.CreateNodeRequest(collaboration_id=hospitals.other, organization_id=hospitals.a)
    assert await code(stubs.nodes.CreateNode(outside, metadata=hospitals.root)) is Status.FAILED_PRECONDITION


async def test_an_organization_is_deleted_only_when_it_is_free(hospitals: Hospitals) -> None:
    stubs, root = hospitals.live.stubs, hospitals.root
    delete = organization_pb2.DeleteOrganizationRequest(id=hospitals.c)
    call = stubs.organizations.DeleteOrganization
    assert await code(call(delete, metadata=root)) is Status.FAILED_PRECONDITION
    gone = collaboration_pb2.DeleteCollaborationRequest(id=hospitals.other)
    await stubs.collaborations.DeleteCollaboration(gone, metadata=root)
    admin = await hospitals.live.login("organization_admin_c")
    assert await code(call(delete, metadata=admin)) is Status.PERMISSION_DENIED
    await call(delete, metadata=root)
    assert await organizations(hospitals, root) == [hospitals.a, hospitals.b]


@pytest.mark.attack("X15")
@pytest.mark.parametrize("name", ["", "  ", "x" * 129, "two\nlines", "\x1b[31mred", "nul\0", "\u202eback"])
async def test_names_that_would_forge_lines_are_refused(hospitals: Hospitals, name: str) -> None:
    request = organization_pb2.CreateOrganizationRequest(name=name)
    call = hospitals.live.stubs.organizations.CreateOrganization(request, metadata=hospitals.root)
    assert await code(call) is Status.INVALID_ARGUMENT


@pytest.mark.attack("X01")
async def test_who_keeps_a_collaboration_does_not_get_at_its_members_keys(hospitals: Hospitals) -> None:
    """With the API key of another member's node one could be that node."""
    stubs, admin = hospitals.live.stubs, await hospitals.live.login("collaboration_admin_a")
    reset = node_pb2.ResetNodeApiKeyRequest(id=hospitals.nodes["b"])
    assert await code(stubs.nodes.ResetNodeApiKey(reset, metadata=admin)) is Status.PERMISSION_DENIED
    assert (await stubs.auth.CreateNodeToken(auth_pb2.CreateNodeTokenRequest(api_key=hospitals.api_keys["b"]))).node_url
    # It may see the node to its name and away, as it may see the member away; its key is the member's to make.
    rename = node_pb2.UpdateNodeRequest(id=hospitals.nodes["b"], name="the node of B")
    assert (await stubs.nodes.UpdateNode(rename, metadata=admin)).api_key == ""
    await stubs.nodes.DeleteNode(node_pb2.DeleteNodeRequest(id=hospitals.nodes["b"]), metadata=admin)
    make = node_pb2.CreateNodeRequest(collaboration_id=hospitals.shared, organization_id=hospitals.b)
    assert await code(stubs.nodes.CreateNode(make, metadata=admin)) is Status.PERMISSION_DENIED
    own = await hospitals.live.login("organization_admin_b")
    assert (await stubs.nodes.CreateNode(make, metadata=own)).api_key
    mine = node_pb2.ResetNodeApiKeyRequest(id=hospitals.nodes["a"])
    assert (await stubs.nodes.ResetNodeApiKey(mine, metadata=admin)).api_key
