"""A live server, and a small world in it: two hospitals that share a collaboration, a third that has its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from vantage6.api.v1 import collaboration_pb2, node_pb2, organization_pb2, user_pb2

from .live import PASSWORD, Live, Metadata, live_server


@dataclass
class Hospitals:
    """`shared` is of `a` and `b`, `other` is of `c`; a user per role in each, named `<role>_<hospital>`."""

    live: Live
    root: Metadata
    a: int
    b: int
    c: int
    shared: int
    other: int
    nodes: dict[str, int]
    api_keys: dict[str, str]
    users: dict[str, int]


@pytest.fixture
async def live(tmp_path: Path) -> AsyncIterator[Live]:
    async with live_server(tmp_path) as server:
        yield server


@pytest.fixture
async def hospitals(live: Live) -> Hospitals:
    root, stubs = await live.login(), live.stubs
    ids = []
    for name in ("Hospital A", "Hospital B", "Hospital C"):
        request = organization_pb2.CreateOrganizationRequest(name=name, domain="hospital.example")
        ids.append((await stubs.organizations.CreateOrganization(request, metadata=root)).id)
    a, b, c = ids
    collaborations = []
    for name, members in (("shared", [a, b]), ("other", [c])):
        make = collaboration_pb2.CreateCollaborationRequest(name=name, organization_ids=members)
        collaborations.append((await stubs.collaborations.CreateCollaboration(make, metadata=root)).id)
    shared, other = collaborations
    nodes, keys = {}, {}
    for letter, organization, collaboration in (("a", a, shared), ("b", b, shared), ("c", c, other)):
        create = node_pb2.CreateNodeRequest(organization_id=organization, collaboration_id=collaboration)
        node = await stubs.nodes.CreateNode(create, metadata=root)
        nodes[letter], keys[letter] = node.id, node.api_key
    users = {}
    for role in ("organization_admin", "collaboration_admin", "researcher", "viewer", ""):
        for letter, organization in (("a", a), ("b", b), ("c", c)):
            name = f"{role or 'nobody'}_{letter}"
            person = user_pb2.CreateUserRequest(
                username=name, email=f"{name}@hospital.example", password=PASSWORD, roles=role,
                organization_id=organization,
            )  # fmt: skip
            users[name] = (await stubs.users.CreateUser(person, metadata=root)).id
    return Hospitals(live, root, a, b, c, shared, other, nodes, keys, users)
