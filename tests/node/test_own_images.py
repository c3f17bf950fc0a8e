"""No task has the node's own images fetched or run: what is under their names then would be the node, or its relays."""

from __future__ import annotations

import pytest

from tests.node.site import SiteUnderTest
from vantage6.node import states
from vantage6.node.config import PolicySection
from vantage6.node.dockerized import DEFAULT_IMAGE, DEVELOPMENT_IMAGE
from vantage6.node.policy import Policy
from vantage6.node.runtimes.own_image import own_images

DIGEST = "sha256:" + "0" * 64


@pytest.mark.attack
@pytest.mark.parametrize(
    "image",
    [DEFAULT_IMAGE, DEVELOPMENT_IMAGE, f"docker.io/{DEFAULT_IMAGE}", f"index.docker.io/{DEFAULT_IMAGE}",
     f"{DEFAULT_IMAGE}@{DIGEST}", "site.example/relay", "site.example/relay:latest"],
)  # fmt: skip
async def test_the_nodes_own_images_are_no_algorithms(site: SiteUnderTest, image: str) -> None:
    site.settings["policy"] = {"allowed_images": [".*"]}
    site.settings["runtime_options"] = {"relay_image": "site.example/relay:latest"}
    connection = await site.online()
    connection.send(assignment=site.assignment(image=image))
    assert (await site.server.report(states.REFUSED)).reason == "IMAGE_RESERVED"
    assert not site.runtime.started


def test_others_are_still_the_sites_choice() -> None:
    policy = Policy(PolicySection(allowed_images=[".*"]), own_images({}))
    for image in ("vantage6/node:other", "vantage6/node-average:dev", "other.example/vantage6/node:dev", "python"):
        policy._check_image(image)
