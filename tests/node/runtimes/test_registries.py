"""Which image is newer, by a real registry and by Harbor's API (M01, M25); names of images; registries that fail."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from tests.conftest import missing
from vantage6.common.commands import Code
from vantage6.common.errors import InvalidArgument
from vantage6.node.cli import main
from vantage6.node.runtimes import registries
from vantage6.node.runtimes.base import ImageMissing, ImageUnreachable
from vantage6.node.runtimes.docker import DockerRuntime
from vantage6.node.runtimes.pulls import Pulls
from vantage6.node.runtimes.registries import Reference, Registries, RegistrySilentError, parse

from .conftest import IMAGE
from .registry import Harbor, Registry, RegistryMissingError, harbor, real, token_registry

if TYPE_CHECKING:
    from docker import DockerClient

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ("average", Reference("docker.io", "library/average")),
        ("vantage6/average:1", Reference("docker.io", "vantage6/average", "1")),
        ("localhost/a", Reference("localhost", "a")),
        ("h.example/p/r/s:T_1", Reference("h.example", "p/r/s", "T_1")),
        ("h.example:5000/p/r", Reference("h.example:5000", "p/r")),
        (f"127.0.0.1:5000/r@{DIGEST}", Reference("127.0.0.1:5000", "r", "latest", DIGEST)),
        (f"h.example/r:1@{DIGEST}", Reference("h.example", "r", "1", DIGEST)),
        ("[::1]:5000/r", Reference("[::1]:5000", "r")),
    ],
)
def test_names(image: str, reference: Reference) -> None:
    assert parse(image) == reference


@pytest.mark.attack
@pytest.mark.parametrize(
    "image",
    [
        "", " ", "a b", "A/b", "a/../b", "h.example/../x", "h.example/a:b:c", "a@sha256:1", "-a", "a\n", "a\0b",
        "a/b?x=1",
        "http://h.example/a", "h.example:port/a", "user:pw@h.example/a", "a" * 600, "a/", "/a", "a//b", "$(id)", "a#b",
        "\uff41/b", "h.example/a:../../b",
    ],
)  # fmt: skip
def test_names_that_are_none(image: str) -> None:
    with pytest.raises(InvalidArgument):
        parse(image)


@pytest.fixture
def a_harbor(tmp_path: Path) -> Iterator[Harbor]:
    with harbor(tmp_path) as made:
        yield made


def logged_in(host: str, ca: Path) -> Registries:
    return Registries({host: {"username": "alice", "password": "s3cret", "ca_file": str(ca)}})


@pytest.mark.row("M01")
def test_harbor_tells_the_artifact_of_the_tag(a_harbor: Harbor) -> None:
    a_harbor.artifacts = {"study/average:1": DIGEST, "study/deep/er:latest": "sha256:" + "b" * 64}
    asks = logged_in(a_harbor.host, a_harbor.ca)
    assert asks.digest(f"{a_harbor.host}/study/average:1") == (DIGEST, "Harbor")
    assert asks.digest(f"{a_harbor.host}/study/deep/er") == ("sha256:" + "b" * 64, "Harbor")
    # The first is to see whether it speaks TLS, which on this machine's own addresses is not sure.
    assert a_harbor.asked == [
        "/v2/",
        "/api/v2.0/health",
        "/api/v2.0/projects/study/repositories/average/artifacts/1",
        "/api/v2.0/projects/study/repositories/deep%252Fer/artifacts/latest",
    ]


@pytest.mark.row("M01")
def test_harbor_without_the_artifact_is_asked_as_a_registry(a_harbor: Harbor) -> None:
    with pytest.raises(RegistrySilentError, match="404"):
        logged_in(a_harbor.host, a_harbor.ca).digest(f"{a_harbor.host}/study/gone:1")
    assert a_harbor.asked[-1] == "/v2/study/gone/manifests/1"


@pytest.mark.attack
def test_a_digest_that_is_none_is_not_believed(a_harbor: Harbor) -> None:
    a_harbor.artifacts = {"study/average:1": "latest; rm -rf /"}
    with pytest.raises(RegistrySilentError, match="none"):
        logged_in(a_harbor.host, a_harbor.ca).digest(f"{a_harbor.host}/study/average:1")


@pytest.mark.attack
def test_a_certificate_that_nobody_vouches_for(a_harbor: Harbor) -> None:
    with pytest.raises(RegistrySilentError):
        Registries({a_harbor.host: {"username": "alice", "password": "s3cret"}}).digest(
            f"{a_harbor.host}/study/average:1"
        )
    assert a_harbor.asked == []


@pytest.mark.attack
def test_credentials_go_to_their_own_registry_only(a_harbor: Harbor) -> None:
    a_harbor.artifacts = {"study/average:1": DIGEST}
    other = Registries(
        {"other.example": {"username": "alice", "password": "s3cret"}, a_harbor.host: {"ca_file": str(a_harbor.ca)}}
    )
    with pytest.raises(RegistrySilentError):
        other.digest(f"{a_harbor.host}/study/average:1")


def test_a_registry_behind_a_token_service(tmp_path: Path) -> None:
    with token_registry(tmp_path) as made:
        asks = logged_in(made.host, made.ca)
        assert asks.digest(f"{made.host}/study/a:1") == (made.digest, "the registry")
        stranger = Registries({made.host: {"username": "alice", "password": "guess", "ca_file": str(made.ca)}})
        with pytest.raises(RegistrySilentError, match="does not take the log-in"):
            stranger.digest(f"{made.host}/study/a:1")


@pytest.mark.attack
@pytest.mark.parametrize("realm", ["http://{host}/token", "file:///etc/passwd", "ftp://x", "//{host}/token"])
def test_credentials_go_to_no_token_service_without_tls(tmp_path: Path, realm: str) -> None:
    with token_registry(tmp_path) as made:
        made.realm = realm.format(host=made.host)
        with pytest.raises(RegistrySilentError):
            logged_in(made.host, made.ca).digest(f"{made.host}/study/a:1")
        assert not any(said.startswith("Basic") for _, said in made.asked)


@contextmanager
def silent() -> Iterator[str]:
    """Takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_a_silent_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registries, "TIMEOUT", (0.2, 0.2))
    with silent() as host, pytest.raises(RegistrySilentError):
        Registries().digest(f"{host}/a:1")


async def test_one_pull_for_all_and_news_for_each() -> None:
    going, calls, news, heard = threading.Event(), [], [], asyncio.Event()

    def told(who: str, part: float) -> None:
        news.append((who, part))
        if len(news) == 2:
            heard.set()

    def ensure(image: str, report: object) -> str:
        calls.append(image)
        report(0.5)  # type: ignore[operator]
        assert going.wait(10)
        return DIGEST

    pulls = Pulls(ensure)
    first = asyncio.create_task(pulls.pull("a", lambda part: told("first", part)))
    second = asyncio.create_task(pulls.pull("a", lambda part: told("second", part)))
    third = asyncio.create_task(pulls.pull("a", None))
    await heard.wait()
    third.cancel()
    going.set()
    assert await first == await second == DIGEST
    assert calls == ["a"]
    assert {who for who, _ in news} == {"first", "second"}
    assert await pulls.pull("a", None) == DIGEST
    assert calls == ["a", "a"]


async def test_a_stalled_pull_holds_up_nobody_and_ends() -> None:
    never = threading.Event()

    def ensure(image: str, report: object) -> str:
        if image == "slow":
            never.wait(20)
        return DIGEST

    pulls = Pulls(ensure, stall_seconds=0.5)
    slow = asyncio.create_task(pulls.pull("slow", None))
    for number in range(40):
        assert await pulls.pull(f"quick{number}", None) == DIGEST
    with pytest.raises(ImageUnreachable, match="sent nothing"):
        await slow
    never.set()
    await pulls.close()


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    try:
        with real(tmp_path_factory.mktemp("registry")) as made:
            yield made
    except RegistryMissingError as error:
        missing("registry", str(error))


@pytest.fixture
async def node(registry: Registry, engine_images: DockerClient) -> AsyncIterator[DockerRuntime]:
    runtime = DockerRuntime(
        f"test-{uuid.uuid4().hex[:8]}", registries={registry.host: {**registry.login, "ca_file": str(registry.ca)}}
    )
    yield runtime
    await runtime.close()


@contextmanager
def pushed(engine: DockerClient, registry: Registry, content: str, name: str) -> Iterator[str]:
    """An image of its own under the name, in the registry and in the engine."""
    made = engine.containers.create(IMAGE, ["-c", content])
    try:
        image = made.commit(name, changes=[f"LABEL content={content}"])
    finally:
        made.remove()
    said = engine.images.push(name, auth_config=registry.login)
    assert "error" not in said, said
    yield str(image.id)


@pytest.mark.engine
@pytest.mark.row("M25")
async def test_fetched_only_if_the_registry_has_another(
    node: DockerRuntime, registry: Registry, engine_images: DockerClient, caplog: pytest.LogCaptureFixture
) -> None:
    name = f"{registry.host}/study/average-{uuid.uuid4().hex[:8]}:1"
    parts: list[float] = []
    with caplog.at_level(logging.INFO), pushed(engine_images, registry, "one", name) as first:
        engine_images.images.remove(name)
        digest = await node.pull(name, parts.append)
        assert parts[-1] == 1.0
        assert "is fetched, it is not here" in caplog.text
        caplog.clear()
        assert await node.pull(name) == digest
        assert f"is taken as it is, the registry has the same ({digest})" in caplog.text
        caplog.clear()
        with pushed(engine_images, registry, "two", name) as second:
            engine_images.images.remove(name)
            engine_images.images.get(first).tag(name)  # Somebody else pushed the second; the first is here.
            engine_images.api.pull(name.rpartition(":")[0], tag=digest, auth_config=registry.login)
            engine_images.images.get(f"{name.rpartition(':')[0]}@{digest}").tag(name)
            newer = await node.pull(name)
            assert newer != digest
            assert "is fetched, the registry has another" in caplog.text
            assert engine_images.images.get(name).id == second
            by_digest = f"{name.rpartition(':')[0]}@{digest}"
            assert await node.pull(by_digest) == digest
            assert await node.pull(f"{name}@{newer}") == newer
    for each in (name, by_digest):
        engine_images.images.remove(each, force=True)


@pytest.mark.engine
@pytest.mark.attack
async def test_wrong_password_and_wrong_names(registry: Registry, engine_images: DockerClient) -> None:
    stranger = DockerRuntime("t", registries={registry.host: {"username": "alice", "password": "guess"}})
    try:
        for image in (f"{registry.host}/study/secret:1", f"{registry.host}/no/such:1"):
            with pytest.raises(ImageMissing):
                await stranger.pull(image)
        with pytest.raises(ImageUnreachable):
            await stranger.pull("127.0.0.1:1/dead:1")
        with pytest.raises(InvalidArgument):
            await stranger.pull("../../etc/passwd")
    finally:
        await stranger.close()
    assert "guess" not in registry.log.read_text()


@pytest.mark.engine
@pytest.mark.row("M25")
async def test_an_image_comes_as_a_file(engine_images: DockerClient, tmp_path: Path) -> None:
    """A site without a way to a registry: `vnode load`, and the digest that it says is what the policy sees."""
    name = f"registry.invalid/study/carried-{uuid.uuid4().hex[:8]}:1"
    made = engine_images.containers.create(IMAGE, ["-c", "pass"])
    made.commit(name.rpartition(":")[0], "1", changes=["LABEL carried=yes"])
    made.remove()
    file = tmp_path / "carried.tar"
    file.write_bytes(b"".join(engine_images.images.get(name).save(named=True)))
    engine_images.images.remove(name)
    config = tmp_path / "node.yaml"
    config.write_text("application: {server_url: https://s.example, directories: {data: d}}")
    load = ["load", "--config", str(config), "--json"]
    runtime = DockerRuntime(f"test-{uuid.uuid4().hex[:8]}")
    try:
        said = await asyncio.to_thread(CliRunner().invoke, main, [*load, str(file)])
        assert said.exit_code == 0, said.output
        digest = json.loads(said.stdout)["images"][name]
        assert await runtime.pull(name) == digest  # Taken as it is: nobody asks the registry, which is not there.
        (tmp_path / "broken.tar").write_bytes(file.read_bytes()[:5000])
        broken = await asyncio.to_thread(CliRunner().invoke, main, [*load, str(tmp_path / "broken.tar")])
        assert broken.exit_code == Code.ENGINE
        assert "did not take" in broken.output
    finally:
        await runtime.close()
        engine_images.images.remove(name)
