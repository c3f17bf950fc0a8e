"""Parts of the docker runtime that an engine of its own would be needed for: a node in a container, a registry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
import requests
from docker.errors import APIError, ImageNotFound

from vantage6.node.runtimes.base import ImageMissing, ImageUnreachable, RunRefused
from vantage6.node.runtimes.docker_images import ImageStore, digest_of
from vantage6.node.runtimes.docker_paths import HostPaths

if TYPE_CHECKING:
    from docker import DockerClient

VOLUME = "/var/lib/docker/volumes/vantage-a-vol/_data"


@pytest.mark.row("M54")
def test_paths_of_a_node_in_a_container() -> None:
    """The data volume is found by its own folder on the host: a run gets a part of it, not the whole."""
    paths = HostPaths.from_mounts(
        [
            {"Type": "volume", "Name": "vantage-a-vol", "Source": VOLUME, "Destination": "/mnt/data"},
            {"Type": "bind", "Source": "/home/x/db", "Destination": "/mnt/data/databases"},
            {"Type": "tmpfs", "Source": "", "Destination": "/tmp"},
        ]
    )
    assert paths.on_host(Path("/mnt/data/runs/1-1/input")) == Path(VOLUME, "runs/1-1/input")
    assert paths.on_host(Path("/mnt/data/databases/t.csv")) == Path("/home/x/db/t.csv")
    with pytest.raises(RunRefused):
        paths.on_host(Path("/etc/passwd"))


def test_paths_of_a_node_on_the_host() -> None:
    assert HostPaths(None).on_host(Path("/a/b")) == Path("/a/b")


class _Image:
    def __init__(self, *digests: str) -> None:
        self.attrs = {"RepoDigests": list(digests)}
        self.id = "sha256:own"


class _Engine:
    """Stands for an engine: what is local, what the registry has (None: it does not answer)."""

    def __init__(self, local: _Image | None, remote: str | None) -> None:
        self.local, self.remote = local, remote
        self.pulled: list[dict[str, Any]] = []
        self.images = self.api = self

    def get(self, _name: str) -> _Image:
        if self.local is None:
            raise ImageNotFound("none")
        return self.local

    def get_registry_data(self, _name: str, auth_config: object) -> _Image:
        self.asked_with = auth_config
        if self.remote is None:
            raise APIError("no", explanation="unauthorized")
        answer = _Image()
        answer.id = self.remote
        return answer

    def pull(self, repository: str, **more: Any) -> list[dict[str, object]]:
        self.pulled.append(more)
        if self.remote is None:
            return [{"error": "no such host"}]
        self.local = _Image(f"{repository}@{self.remote}")
        return [{"status": "Downloading", "id": "l", "progressDetail": {"current": 5, "total": 10}}]


@pytest.mark.row("M25")
@pytest.mark.parametrize(
    ("when", "image", "local", "remote", "pulls"),
    [
        ("newer", "r.example/a:1", ("r.example/a@sha256:1",), "sha256:1", 0),
        ("newer", "r.example/a:1", ("r.example/a@sha256:1",), "sha256:2", 1),
        ("newer", "r.example/a:1", ("other.example/a@sha256:2",), "sha256:2", 1),
        ("newer", "r.example/a:1", ("r.example/a@sha256:1",), None, 0),
        ("newer", "r.example/a:1", (), "sha256:2", 0),
        ("newer", "r.example/a:1", None, "sha256:2", 1),
        ("newer", f"r.example/a@sha256:{64 * '1'}", (f"r.example/a@sha256:{64 * '1'}",), "sha256:2", 0),
        ("missing", "r.example/a:1", ("r.example/a@sha256:1",), "sha256:2", 0),
        ("always", "r.example/a:1", ("r.example/a@sha256:1",), "sha256:1", 1),
        ("always", "r.example/a:1", ("r.example/a@sha256:1",), None, 1),
        ("never", "r.example/a:1", ("r.example/a@sha256:1",), "sha256:2", 0),
    ],
)
def test_when_an_image_is_fetched(
    when: str, image: str, local: tuple[str, ...] | None, remote: str | None, pulls: int,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    engine = _Engine(None if local is None else _Image(*local), remote)
    parts: list[float] = []
    with caplog.at_level("INFO"):
        digest = ImageStore(cast("DockerClient", engine), when).ensure(image, parts.append)
    assert len(engine.pulled) == pulls
    assert digest.startswith("sha256:")
    assert parts == sorted(parts)
    assert parts[-1] == 1.0
    assert "is fetched" in caplog.text or "is taken as it is" in caplog.text


@pytest.mark.parametrize("when", ["newer", "missing", "always", "never"])
def test_missing_everywhere(when: str) -> None:
    with pytest.raises(ImageMissing if when == "never" else ImageUnreachable):
        ImageStore(cast("DockerClient", _Engine(None, None)), when).ensure("r.example/a:1", lambda _: None)


class _Refusing(_Engine):
    """The pull ends with what an engine says, by a status or in its stream."""

    def __init__(self, said: str, status: int) -> None:
        super().__init__(None, "sha256:1")
        self.said, self.status = said, status

    def pull(self, repository: str, **more: Any) -> list[dict[str, object]]:
        if self.status == 200:
            return [{"error": self.said}]
        answer = requests.Response()
        answer.status_code = self.status
        raise APIError("pull", response=answer, explanation=self.said)


@pytest.mark.row("M27")
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("said", "status", "kind"),
    [
        ("manifest for r.example/a:1 not found: manifest unknown: manifest unknown", 404, ImageMissing),
        ("pull access denied for a, repository does not exist or may require 'docker login'", 404, ImageMissing),
        ('Head "https://r.example/v2/a/manifests/1": no basic auth credentials', 500, ImageMissing),
        ("unauthorized: authentication required", 500, ImageMissing),
        ("no matching manifest for linux/amd64 in the manifest list entries", 500, ImageMissing),
        ('Get "https://r.example/v2/": dial tcp: lookup r.example: no such host', 500, ImageUnreachable),
        ('Get "https://r.example/v2/": dial tcp 192.0.2.1:443: connect: connection refused', 500, ImageUnreachable),
        ('Get "https://r.example/v2/": net/http: TLS handshake timeout', 500, ImageUnreachable),
        ("received unexpected HTTP status: 503 Service Unavailable", 500, ImageUnreachable),
        ("toomanyrequests: You have reached your pull rate limit", 429, ImageUnreachable),
        ("write /var/lib/docker/tmp/GetImageBlob1: no space left on device", 500, ImageUnreachable),
        ("unexpected EOF", 500, ImageUnreachable),
    ],
)
def test_no_such_image_and_no_way_to_its_registry(
    said: str, status: int, kind: type[Exception], streamed: bool
) -> None:
    """A task tries the second again, and not the first."""
    engine = _Refusing(said, 200 if streamed else status)
    with pytest.raises((ImageMissing, ImageUnreachable)) as caught:
        ImageStore(cast("DockerClient", engine)).ensure("r.example/a:1", lambda _: None)
    assert caught.type is kind


def test_credentials_go_to_their_registry_only() -> None:
    secrets = {"r.example": {"username": "u", "password": "p"}}
    for image, expected in {"r.example/a:1": secrets["r.example"], "r.example.evil/a:1": None, "a:1": None}.items():
        engine = _Engine(None, "sha256:1")
        ImageStore(cast("DockerClient", engine), "newer", secrets).ensure(image, lambda _: None)
        assert engine.pulled[0]["auth_config"] == expected


def test_digest_of_an_image_from_the_hub() -> None:
    assert digest_of("a/b:1", cast("Any", _Image("docker.io/a/b@sha256:7"))) == "sha256:7"
    assert digest_of("a/b:1", cast("Any", _Image("x/y@sha256:7"))) == "sha256:own"
