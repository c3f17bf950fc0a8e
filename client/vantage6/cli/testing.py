"""A pytest plugin for authors of algorithms: the same tests over a mock network, or over a real one by a flag.

In `conftest.py`: `pytest_plugins = ["vantage6.cli.testing"]`. In a test:

    def test_mean(make_network):
        network = make_network("my_package", [frame_a, frame_b])
        assert network.run("mean", "age") == 41.5

`pytest` runs it in one process; `pytest --network FILE` runs it at the sites of a real network, whose databases hold
the same data. The file is JSON: `server`, `ca_file`, `username`, `password_file`, `key` (in an encrypted
collaboration), `known_organizations`, `collaboration`, and `images` by package. Paths are relative to it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from vantage6.algorithm.client import SiteResult
from vantage6.algorithm.mock import MockNetwork
from vantage6.algorithm.network import Network
from vantage6.client import Client
from vantage6.common.serialization import serialize

if TYPE_CHECKING:
    from types import ModuleType

    from vantage6.client import TaskResult


class RealNetwork(Network):
    """What a MockNetwork can, by tasks to a server."""

    def __init__(self, client: Client, collaboration: int, image: str, databases: Sequence[str] = ("default",)) -> None:
        self._client = client
        self._collaboration = collaboration
        self._image = image
        self._databases = databases
        found = sorted(client.organization.list(collaboration=collaboration), key=lambda each: each.id)
        self.names = {each.id: each.name for each in found}

    @property
    def organizations(self) -> tuple[int, ...]:
        return tuple(self.names)

    def results(
        self,
        method: str,
        *args: object,
        organizations: Sequence[int] | None = None,
        databases: Sequence[str] | None = None,
        **kwargs: object,
    ) -> list[SiteResult]:
        task = self._client.task.create(
            self._collaboration,
            organizations or self.organizations,
            self._image,
            {"method": method, "args": list(args), "kwargs": kwargs},
            databases=self._databases if databases is None else databases,
        )
        return [_site_result(result) for result in self._client.results(task)]


def _site_result(result: TaskResult) -> SiteResult:
    kind = "bytes" if isinstance(result.value, bytes) else "json"
    return SiteResult(
        organization_id=result.organization_id,
        organization_name=result.organization_name,
        state=str(result.state),
        reason=result.reason,
        message=result.message,
        output=serialize(result.value, kind) if result.completed else b"",
    )


class NetworkFile:
    """The file that `--network` names."""

    def __init__(self, path: Path) -> None:
        self._folder = path.parent
        self._values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))

    def _path(self, name: str) -> Path | None:
        return self._folder / self._values[name] if name in self._values else None

    def connect(self) -> Client:
        known = self._path("known_organizations")
        client = Client(self._values["server"], ca_file=self._path("ca_file"), known_organizations=known)
        try:
            password = self._folder / self._values["password_file"]
            client.authenticate(self._values["username"], password.read_text(encoding="utf-8").strip())
            if key := self._path("key"):
                client.setup_encryption(key)
        except BaseException:
            client.close()
            raise
        return client

    def network(self, client: Client, package: str | ModuleType) -> RealNetwork:
        name = package if isinstance(package, str) else package.__name__
        images = self._values["images"]
        if name not in images:
            pytest.skip(f"the network's file names no image of {name}")
        return RealNetwork(client, self._values["collaboration"], images[name], self._values.get("databases", ()))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--network", metavar="FILE", help="run algorithms in the real network that FILE describes")


@pytest.fixture(scope="session")
def network_file(request: pytest.FixtureRequest) -> NetworkFile | None:
    """The real network to use, if any."""
    path = request.config.getoption("--network", None)
    return NetworkFile(Path(path)) if path else None


@pytest.fixture(scope="session")
def network_client(network_file: NetworkFile | None) -> Iterator[Client | None]:
    """One log-in for all tests."""
    if network_file is None:
        yield None
        return
    with network_file.connect() as client:
        yield client


@pytest.fixture
def make_network(network_file: NetworkFile | None, network_client: Client | None) -> Callable[..., Network]:
    """Makes a network for a package over data frames; faults and rules are for mock networks only."""

    def make(package: str | ModuleType, sites: Sequence[Any], **only_mock: Any) -> Network:
        if network_file is None or network_client is None:
            return MockNetwork(package, sites, **only_mock)
        if only_mock:
            pytest.skip("a real network does not fail on request")
        found = network_file.network(network_client, package)
        if len(found.organizations) != len(sites):
            pytest.skip(f"the network has {len(found.organizations)} sites, the test {len(sites)}")
        return found

    return make
