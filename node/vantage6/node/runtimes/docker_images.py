"""Fetches images into a Docker engine, and only when there is a newer one (M25)."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import requests
from docker.errors import APIError, ImageNotFound
from docker.utils import parse_repository_tag

from vantage6.node.runtimes.base import ImageMissing, ImageUnreachable, RuntimeUnavailable
from vantage6.node.runtimes.registries import Credentials, Registries, RegistrySilentError, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from docker import DockerClient
    from docker.models.images import Image

__all__ = ["Credentials", "ImageStore", "digest_of", "pinned"]

log = logging.getLogger(__name__)

_ANSWERS = frozenset({400, 401, 403, 404})
_WORDS = (
    "not found", "unknown", "denied", "unauthorized", "authentication required", "no basic auth credentials",
    "no matching manifest", "does not match the specified platform", "invalid reference", "unsupported",
)  # fmt: skip
"""What Docker and containerd say of an image that is not there, or not for this site."""


@dataclass
class ImageStore:
    """The engine's images. `when` to fetch: newer (asks the registry), missing, always, never. All calls block."""

    client: DockerClient
    when: str = "newer"
    registries: Mapping[str, Credentials] = field(default_factory=dict)
    remote: Registries = field(default_factory=Registries)

    def ensure(self, image: str, report: Callable[[float], None]) -> str:
        """Makes the image ready, by what is decided and logged here, and gives its digest."""
        parse(image)
        local = self._local(image)
        fetch, why = self._decide(image, local)
        log.info("image %s: %s, %s", image, "is fetched" if fetch else "is taken as it is", why)
        if fetch:
            local = self._fetch(image, report, fall_back=local)
        if local is None:
            raise ImageMissing(f"image {image} is not on this machine, and this node fetches none", image=image)
        report(1.0)
        return digest_of(image, local)

    def _local(self, image: str) -> Image | None:
        try:
            return self.client.images.get(image)
        except ImageNotFound:
            return None

    def _decide(self, image: str, local: Image | None) -> tuple[bool, str]:
        if self.when == "never":
            return False, "the configuration says never"
        if local is None:
            return True, "it is not here"
        reasons = {
            "a digest never changes": "@" in image,
            "it is here": self.when == "missing",
            "it was made on this machine": self.when == "newer" and not local.attrs.get("RepoDigests"),
        }
        for why, applies in reasons.items():
            if applies:
                return False, why
        return (True, "the configuration says always") if self.when == "always" else self._newer(image, local)

    def _newer(self, image: str, local: Image) -> tuple[bool, str]:
        try:
            remote, who = self._remote_digest(image)
        except (APIError, requests.RequestException) as error:
            log.warning("the registry of %s does not tell its version: %s", image, type(error).__name__)
            return False, "its registry does not answer"
        same = remote == digest_of(image, local)
        return not same, f"{who} has {'the same' if same else 'another'} ({remote})"

    def _remote_digest(self, image: str) -> tuple[str, str]:
        try:
            return self.remote.digest(image)
        except RegistrySilentError as error:
            # The engine may have a way to it, or a certificate for it, that this process has not.
            log.info("the registry of %s does not tell this node (%s); the engine is asked", image, error)
        data = self.client.images.get_registry_data(image, auth_config=self._credentials(image))
        return str(data.id), "the registry, by the engine,"

    def _fetch(self, image: str, report: Callable[[float], None], fall_back: Image | None) -> Image:
        name, _, digest = image.partition("@")
        repository, tag = parse_repository_tag(name)
        tag = digest or tag
        parts = _Parts()
        try:
            for line in self.client.api.pull(
                repository, tag=tag or "latest", stream=True, decode=True, auth_config=self._credentials(image)
            ):
                # To its end, also after an error: what is left unread would keep the connection.
                report(parts.add(line))
            parts.end()
            return self.client.images.get(image)
        except APIError as error:
            if fall_back is not None:
                log.warning("image %s could not be fetched, the one that is here is used", image)
                return fall_back
            kind = ImageMissing if _is_answer(error) else ImageUnreachable
            raise kind(f"image {image} cannot be fetched: {error.explanation}", image=image) from error
        except requests.RequestException as error:
            raise RuntimeUnavailable("the Docker engine broke off while it fetched an image") from error

    def _credentials(self, image: str) -> dict[str, str] | None:
        """Of this image's registry only; never somebody else's."""
        own = self.registries.get(parse(image).host, {})
        return {key: own[key] for key in ("username", "password") if key in own} or None


def _is_answer(error: APIError) -> bool:
    """Whether the registry said that there is no such image, or not for this site: asked again it says the same.

    The engine's status alone does not tell: what fails while it streams comes with 200, and much with 500.
    """
    if error.status_code in _ANSWERS:
        return True
    said = str(error.explanation).lower()
    return any(word in said for word in _WORDS)


class _Parts:
    """Adds up the layers of a pull as the engine reports them."""

    def __init__(self) -> None:
        self._layers: dict[str, tuple[int, int]] = {}
        self._error = ""

    def add(self, line: Mapping[str, object]) -> float:
        if "error" in line:
            self._error = str(line["error"])
        detail = line.get("progressDetail")
        if line.get("status") == "Downloading" and isinstance(detail, dict) and detail.get("total"):
            self._layers[str(line.get("id"))] = (int(detail.get("current", 0)), int(detail["total"]))
        total = sum(whole for _, whole in self._layers.values())
        return min(0.99, sum(part for part, _ in self._layers.values()) / total) if total else 0.0

    def end(self) -> None:
        """Raises APIError if the engine said one: its answer was 200 before it knew."""
        if self._error:
            raise APIError("pull", explanation=self._error)


def digest_of(image: str, local: Image) -> str:
    """The registry's digest; the engine's own id for an image that never was in one."""
    repository = parse_repository_tag(image.partition("@")[0])[0]
    for known in local.attrs.get("RepoDigests") or ():
        name, _, digest = known.partition("@")
        if name in {repository, f"docker.io/{repository}", f"docker.io/library/{repository}"}:
            return str(digest)
    return str(local.id)


def pinned(client: DockerClient, image: str, digest: str) -> str:
    """The name by which the engine finds exactly the image that was looked at, and no later one."""
    if not digest:
        return image
    try:
        return str(client.images.get(digest).id)  # An image that never was in a registry.
    except ImageNotFound:
        return f"{parse_repository_tag(image.partition('@')[0])[0]}@{digest}"
