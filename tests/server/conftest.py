"""A live server, and a small world in it: two hospitals that share a collaboration, a third that has its own."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from vantage6.api.v1 import collaboration_pb2, node_pb2, organization_pb2, user_pb2
from vantage6.server.store.migrate import upgrade
from vantage6.server.store.sql import Database

from .databases import KINDS, sqlite_url
from .live import PASSWORD, Live, Metadata, live_server

if TYPE_CHECKING:
    from tests.postgres import Postgres

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


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Which database the server has: whoever uses this runs on each."""
    return str(request.param)


@pytest.fixture(scope="session")
def empty_template(postgres: Postgres) -> str:
    """Name of a PostgreSQL database that has the schema, and nothing in it."""
    url = postgres.create()
    asyncio.run(_upgrade(url))
    return url.rpartition("/")[2]


async def _upgrade(url: str) -> None:
    database = Database(url)
    await upgrade(database.engine)
    await database.close()


@pytest.fixture
def empty(request: pytest.FixtureRequest, kind: str, tmp_path: Path) -> Iterator[str]:
    """URL of a database that is for this test alone."""
    if kind == "sqlite":
        yield sqlite_url(tmp_path)
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    url = postgres.create(request.getfixturevalue("empty_template"))
    yield url
    postgres.drop(url)


@pytest.fixture
async def live(tmp_path: Path, empty: str) -> AsyncIterator[Live]:
    async with live_server(tmp_path, empty) as server:
        yield server


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, World]:
    """The world's database, made once by calls to a server, and copied for each test."""
    folder = tmp_path_factory.mktemp("world")
    return folder / "server.db", asyncio.run(_make(folder, sqlite_url(folder)))


@pytest.fixture(scope="session")
def postgres_template(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres) -> tuple[str, World]:
    """The same in PostgreSQL: the name of the database that is copied."""
    url = postgres.create()
    return url.rpartition("/")[2], asyncio.run(_make(tmp_path_factory.mktemp("world"), url))


@pytest.fixture
def copied(request: pytest.FixtureRequest, kind: str, tmp_path: Path) -> Iterator[tuple[str, World]]:
    """URL of a copy of the world's database."""
    if kind == "sqlite":
        file, world = request.getfixturevalue("template")
        shutil.copy(file, tmp_path / "server.db")
        yield sqlite_url(tmp_path), world
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    name, world = request.getfixturevalue("postgres_template")
    url = postgres.create(name)
    yield url, world
    postgres.drop(url)


@pytest.fixture
async def hospitals(tmp_path: Path, copied: tuple[str, World]) -> AsyncIterator[Hospitals]:
    url, world = copied
    async with live_server(tmp_path, url) as server:
        yield Hospitals(**vars(world), live=server, root=await server.login())


async def _make(folder: Path, url: str) -> World:
    async with live_server(folder, url) as live:
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
