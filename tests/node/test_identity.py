"""The key pair of the node's organization, at the start: rows M39 to M42."""

from __future__ import annotations

import asyncio

import pytest

from tests.node.fake_server import PATIENCE
from tests.node.site import NODE, SiteUnderTest
from vantage6.common.errors import KeyMismatch
from vantage6.common.keys import KeyPair, PublicKey
from vantage6.node import states


@pytest.mark.row("M40")
async def test_key_is_made_and_uploaded_when_there_is_none(site: SiteUnderTest) -> None:
    del site.settings["private_key"]
    site.server.welcome.public_key = b""
    await site.online()
    async with asyncio.timeout(PATIENCE):
        while not site.server.welcome.public_key:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    made = KeyPair.load(site.folder / "data" / "private_key.pem")
    assert PublicKey.from_pem(site.server.welcome.public_key) == made.public
    assert b"PRIVATE" not in site.server.welcome.public_key


@pytest.mark.row("M39")
@pytest.mark.row("M41")
@pytest.mark.row("M42")
async def test_second_node_with_the_same_key(site: SiteUnderTest) -> None:
    connection = await site.online()
    connection.send(assignment=site.assignment())
    await site.server.report(states.COMPLETED)


@pytest.mark.row("M41")
async def test_another_key_at_the_server_stops_the_node(site: SiteUnderTest) -> None:
    other = KeyPair.generate().public
    site.server.welcome.public_key = other.to_pem()
    with pytest.raises(KeyMismatch) as caught:
        await asyncio.wait_for(site.start(), PATIENCE)
    assert other.fingerprint in caught.value.message
    assert site.keys[NODE].public.fingerprint in caught.value.message


@pytest.mark.row("M40")
async def test_no_key_is_made_when_the_server_has_one(site: SiteUnderTest) -> None:
    del site.settings["private_key"]
    with pytest.raises(KeyMismatch, match="no private key"):
        await asyncio.wait_for(site.start(), PATIENCE)
    assert not (site.folder / "data" / "private_key.pem").exists()


async def test_configured_key_that_is_not_there(site: SiteUnderTest) -> None:
    (site.folder / "key.pem").unlink()
    with pytest.raises(KeyMismatch, match="create-private-key"):
        await asyncio.wait_for(site.start(), PATIENCE)
