"""The image of the node's own small containers: the relays of runs, and what counts closed folders.

It needs Python and nothing else. It is the site's choice (option `relay_image`), else the image that the node itself
runs in, else the node's standard one. Never one that is found by chance: a name that a task may have had fetched would
put a stranger's program beside every run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from docker.errors import ImageNotFound, NotFound

from vantage6.node.runtimes.base import RunRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from docker import DockerClient

STANDARD = "vantage6/node:dev"
"""What `vnode start` runs a node in, unless told otherwise."""


DEVELOPMENT = "vantage6/devcon:dev"
"""The same for `vnode start --develop`."""


def own_images(options: Mapping[str, object]) -> frozenset[str]:
    """Names that no run may have: fetching one for a task would change what the node itself is, or its relays are."""
    return frozenset({STANDARD, DEVELOPMENT, str(options.get("relay_image") or STANDARD)})


def own_image(client: DockerClient, chosen: str = "", container: str = "") -> str:
    """Its name or id; `container` is the one that this process is in, if it is in one. Raises RunRefused."""
    if not chosen and container:
        try:
            return str(client.api.inspect_container(container)["Image"])
        except NotFound:
            pass  # The container of another engine.
    image = chosen or STANDARD
    try:
        client.images.get(image)
    except ImageNotFound as error:
        raise RunRefused(missing(image)) from error
    return image


def missing(image: str) -> str:
    """What is wrong, and what to do."""
    return (
        f"the node needs the image {image} for its own containers beside runs, and it is not on this machine: fetch it "
        "(docker pull, vnode load), or name another one with Python in it as runtime_options.relay_image"
    )
