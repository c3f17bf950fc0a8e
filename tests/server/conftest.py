"""A live server, and a small world in it: two hospitals that share a collaboration, a third that has its own."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from vantage6.api.v1 import collaboration_pb2, node_pb2, organization_pb2, user_pb2

from .live import PASSWORD, Live, Metadata, live_server

ROLES = ("organization_admin", "collaboration_admin", "researcher", "viewer", "")


@dataclass
class World:
    """`shared` is of `a` and `b`, `other` is of `c`; a user per role in each, named `<role>_<hospital>`."""

    a: int = 0
    b: int = 0
    c: int = 0
    shared: int = 0
    other: int = 0
    nodes: dict[str, int] = field(default_factory=dict)
    api_keys: dict[str, str] = field(default_factory=dict)
    users: dict[str, int] = field(default_factory=dict)


@dataclass
class Hospitals(World):
    live: Live = field(kw_only=True)
    root: Metadata = field(kw_only=True)


@pytest.fixture
async def live(tmp_path: Path) -> AsyncIterator[Live]:
    async with live_server(tmp_path) as server:
        yield server


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, World]:
    """The world's database, made once by calls to a server, and copied for each test."""
    folder = tmp_path_factory.mktemp("world")
    return folder / "server.db", asyncio.run(_make(folder))


@pytest.fixture
async def hospitals(tmp_path: Path, template: tuple[Path, World]) -> AsyncIterator[Hospitals]:
    database, world = template
    shutil.copy(database, tmp_path / "server.db")
    async with live_server(tmp_path) as server:
        yield Hospitals(**vars(world), live=server, root=await server.login())


async def _make(folder: Path) -> World:
    async with live_server(folder) as live:
        root, stubs, world = await live.login(), live.stubs, World()
        for letter in "abc":
            request = organization_pb2.CreateOrganizationRequest(
                name=f"Hospital {letter.upper()}", domain="hospital.example"
            )
            setattr(world, letter, (await stubs.organizations.CreateOrganization(request, metadata=root)).id)
        for name, members in (("shared", [world.a, world.b]), ("other", [world.c])):
            make = collaboration_pb2.CreateCollaborationRequest(name=name, organization_ids=members)
            setattr(world, name, (await stubs.collaborations.CreateCollaboration(make, metadata=root)).id)
        for letter, collaboration in (("a", world.shared), ("b", world.shared), ("c", world.other)):
            create = node_pb2.CreateNodeRequest(organization_id=getattr(world, letter), collaboration_id=collaboration)
            node = await stubs.nodes.CreateNode(create, metadata=root)
            world.nodes[letter], world.api_keys[letter] = node.id, node.api_key
        for role in ROLES:
            for letter in "abc":
                name = f"{role or 'nobody'}_{letter}"
                person = user_pb2.CreateUserRequest(
                    username=name, email=f"{name}@hospital.example", password=PASSWORD, roles=role,
                    organization_id=getattr(world, letter),
                )  # fmt: skip
                world.users[name] = (await stubs.users.CreateUser(person, metadata=root)).id
        return world
