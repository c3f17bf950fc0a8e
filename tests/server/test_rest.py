"""What callers that come through the gateway get: links with the methods that they may use, and nulls."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import json_format, struct_pb2

from vantage6.api.v1 import (
    collaboration_pb2,
    node_pb2,
    organization_pb2,
    role_pb2,
    system_pb2,
    task_pb2,
    user_pb2,
)
from vantage6.common.errors import PermissionDenied, from_rpc_error
from vantage6.server.rpc.pages import link_header

from .conftest import Hospitals
from .live import Live, Metadata, everything, rest
from .test_accounts import refused


def as_json(message: Any) -> dict[str, Any]:
    return dict(json_format.MessageToDict(message, preserving_proto_field_name=True))


async def organization(hospitals: Hospitals, metadata: Metadata, organization_id: int) -> dict[str, Any]:
    request = organization_pb2.GetOrganizationRequest(id=organization_id)
    return as_json(await hospitals.live.stubs.organizations.GetOrganization(request, metadata=rest(metadata)))


@pytest.mark.row("M51")
async def test_methods_are_those_that_the_caller_may_use(hospitals: Hospitals) -> None:
    wanted = {
        "viewer_a": (["GET"], ["GET"]),
        "organization_admin_a": (["GET", "PATCH"], ["GET"]),
        "collaboration_admin_a": (["GET"], ["GET", "PATCH", "DELETE"]),
    }
    for name, (of_organization, of_collaboration) in wanted.items():
        found = await organization(hospitals, await hospitals.live.login(name), hospitals.a)
        assert found["link"]["methods"] == of_organization, name
        (collaboration,) = found["collaborations"]
        assert collaboration == {
            "id": hospitals.shared, "link": f"/api/collaboration/{hospitals.shared}", "methods": of_collaboration,
        }  # fmt: skip
    found = await organization(hospitals, hospitals.root, hospitals.a)
    assert found["link"]["methods"] == ["GET", "PATCH", "DELETE"]


@pytest.mark.row("M51")
@pytest.mark.row("M33")
async def test_relations_are_links_and_only_to_what_may_be_seen(hospitals: Hospitals) -> None:
    everybody = await organization(hospitals, hospitals.root, hospitals.a)
    assert len(everybody["users"]) == 5
    assert [node["id"] for node in everybody["nodes"]] == [hospitals.nodes["a"]]
    viewer = await organization(hospitals, await hospitals.live.login("viewer_a"), hospitals.a)
    assert [user["id"] for user in viewer["users"]] == [hospitals.users["viewer_a"]]
    neighbour = await organization(hospitals, await hospitals.live.login("viewer_a"), hospitals.b)
    assert neighbour["users"] is None
    assert "collaboration_ids" not in everybody


async def test_grpc_callers_get_ids_and_pay_for_no_links(hospitals: Hospitals) -> None:
    request = organization_pb2.GetOrganizationRequest(id=hospitals.a)
    found = await hospitals.live.stubs.organizations.GetOrganization(request, metadata=hospitals.root)
    assert list(found.collaboration_ids) == [hospitals.shared]
    assert not found.HasField("link")
    assert not found.HasField("users")


@pytest.mark.row("M16")
async def test_empty_and_absent_relations_are_null(hospitals: Hospitals) -> None:
    live = hospitals.live
    task, result = await live.add_run(hospitals.shared, hospitals.a)
    request = task_pb2.GetTaskRequest(id=task.id)
    found = as_json(await live.stubs.tasks.GetTask(request, metadata=rest(hospitals.root)))
    assert found["parent"] is found["children"] is found["database"] is None
    assert found["initiator"] == hospitals.a
    assert [entry["id"] for entry in found["results"]] == [result.id]
    assert found["link"] == {"id": task.id, "link": f"/api/task/{task.id}", "methods": ["GET", "DELETE"]}
    root = as_json(await live.stubs.users.GetUser(user_pb2.GetUserRequest(id=1), metadata=rest(hospitals.root)))
    assert root["organization"] is None
    assert root["roles"] == "root"


@pytest.mark.row("M12")
@pytest.mark.row("M13")
async def test_sub_lists_are_the_same_representation(hospitals: Hospitals) -> None:
    stubs, root = hospitals.live.stubs, rest(hospitals.root)
    nodes = await everything(stubs.nodes.ListNodes(node_pb2.ListNodesRequest(), metadata=root))
    part = await everything(
        stubs.nodes.ListNodes(node_pb2.ListNodesRequest(collaboration_id=hospitals.shared), metadata=root)
    )
    assert part == nodes[:2]
    assert as_json(part[0])["status"] is None
    organizations = organization_pb2.ListOrganizationsRequest
    all_of_them = await everything(stubs.organizations.ListOrganizations(organizations(), metadata=root))
    members = organizations(collaboration_id=hospitals.shared)
    assert await everything(stubs.organizations.ListOrganizations(members, metadata=root)) == all_of_them[:2]


async def test_collaborations_and_roles_in_rest(hospitals: Hospitals) -> None:
    stubs, metadata = hospitals.live.stubs, rest(await hospitals.live.login("viewer_a"))
    request = collaboration_pb2.GetCollaborationRequest(id=hospitals.shared)
    found = as_json(await stubs.collaborations.GetCollaboration(request, metadata=metadata))
    assert [entry["id"] for entry in found["organizations"]] == [hospitals.a, hospitals.b]
    assert found["encrypted"] is True
    roles = await everything(stubs.roles.ListRoles(role_pb2.ListRolesRequest(), metadata=metadata))
    assert {tuple(as_json(role)["link"]["methods"]) for role in roles} == {("GET",)}


async def test_the_entry_point_offers_what_the_caller_may_use(hospitals: Hospitals) -> None:
    entry = hospitals.live.stubs.system.GetEntryPoint
    nobody = as_json(await entry(system_pb2.GetEntryPointRequest()))
    assert "task" not in nobody["links"]
    viewer = as_json(await entry(system_pb2.GetEntryPointRequest(), metadata=await hospitals.live.login("viewer_a")))
    assert viewer["links"]["task"] == {"link": "/api/task", "methods": ["GET"]}
    admin = as_json(await entry(system_pb2.GetEntryPointRequest(), metadata=hospitals.root))
    assert admin["links"]["organization"]["methods"] == ["GET", "POST"]


async def test_stats_show_the_nodes_that_may_be_seen(hospitals: Hospitals) -> None:
    metadata = rest(await hospitals.live.login("viewer_a"))
    stats = await hospitals.live.stubs.system.GetStats(system_pb2.GetStatsRequest(), metadata=metadata)
    assert [(entry.name, len(entry.nodes)) for entry in stats.collaborations] == [("shared", 2)]


@pytest.mark.attack
async def test_authorization_looks_at_the_message_not_at_the_path(hospitals: Hospitals) -> None:
    """A body's `id` overrides the path's in the transcoder: PATCH /api/organization/A with {"id": B}."""
    admin = await hospitals.live.login("organization_admin_a")
    metadata = (*rest(admin), ("x-envoy-original-path", f"/api/organization/{hospitals.a}"))
    request = organization_pb2.UpdateOrganizationRequest(id=hospitals.b, name="taken over")
    error = await refused(hospitals.live.stubs.organizations.UpdateOrganization(request, metadata=metadata))
    assert isinstance(from_rpc_error(error), PermissionDenied)
    assert (await organization(hospitals, hospitals.root, hospitals.b))["name"] == "Hospital B"


@pytest.mark.attack
async def test_links_are_not_data_from_the_caller(live: Live) -> None:
    """Who says to come through the gateway gets links, and no more rights."""
    error = await refused(live.stubs.users.GetUser(user_pb2.GetUserRequest(id=1), metadata=rest()))
    assert error.code().name == "UNAUTHENTICATED"


@pytest.mark.attack
def test_a_query_cannot_break_out_of_the_link_header() -> None:
    header = link_header('/api/task?name=a>; rel="next", <https://evil.example&page=7&x=%0d%0aSet-Cookie', 1, 10, 25)
    assert header.count("<") == header.count(">") == 3
    assert "\r" not in header
    assert 'page=2&per_page=10>; rel="next"' in header
    assert link_header("https://evil.example/?a=1", 1, 10, 5).startswith("<?page=1&per_page=10>")


def test_values_of_all_kinds() -> None:
    from vantage6.server.rpc.links import value  # noqa: PLC0415

    content = {"a": [1, "two", None, True], "b": {"c": 1.5}}
    assert json_format.MessageToDict(value(content)) == content
    assert value(None).null_value == struct_pb2.NULL_VALUE
    assert value([1]).list_value.values[0].number_value == 1
