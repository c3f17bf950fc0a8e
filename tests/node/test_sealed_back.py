"""What a node sends back is sealed for the key that the site has pinned, at the moment at which it is sealed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.node.fake_runtime import Algorithm, FakeRuntime
from tests.node.site import NAMES, NODE, RESEARCHER, TASK_KEY, SiteUnderTest
from vantage6.common.chunks import CHUNK
from vantage6.common.envelope import Binding, Purpose, open_sealed
from vantage6.common.keyring import KeyRing, rotate
from vantage6.common.keys import KeyPair
from vantage6.common.trust import KnownOrganizations
from vantage6.node import states
from vantage6.node.runtimes.base import Exit, RunSpec

pytestmark = pytest.mark.row("M35")

SMALL = b"json.42"
LARGE = b"bytes." + bytes(2 * CHUNK + 5)
SIZES = pytest.mark.parametrize("output", [SMALL, LARGE], ids=["small", "large"])
PLACE = Binding(7, TASK_KEY, NODE, RESEARCHER, Purpose.OUTPUT)


def writes(output: bytes, begun: asyncio.Event, go_on: asyncio.Event) -> Algorithm:
    async def algorithm(spec: RunSpec) -> Exit:
        begun.set()
        await go_on.wait()
        (spec.run_dir / "output").write_bytes(output)
        return Exit(0)

    return algorithm


async def while_it_runs(site: SiteUnderTest, output: bytes, meanwhile: Callable[[], Awaitable[object]]) -> None:
    """Does something to a run that is under way, and lets it end."""
    begun, go_on = asyncio.Event(), asyncio.Event()
    site.runtime = FakeRuntime(writes(output, begun, go_on))
    connection = await site.online()
    connection.send(assignment=site.assignment())
    await begun.wait()
    await site.server.report(states.RUNNING)
    await meanwhile()
    go_on.set()


@pytest.mark.attack
@SIZES
async def test_the_initiator_s_pin_is_checked_again_when_the_output_is_sealed(
    site: SiteUnderTest, output: bytes
) -> None:
    """An administrator learns meanwhile that the initiator's key was another one: the run's output is for nobody."""
    new = KeyPair.generate().public

    async def learn() -> None:
        known = KnownOrganizations(site.config().data_dir / "known_organizations")
        assert RESEARCHER in known.fingerprints()
        known.accept(RESEARCHER, NAMES[RESEARCHER], new, compromised=True)

    await while_it_runs(site, output, learn)
    report = await site.server.report(states.REFUSED)
    assert report.reason == "KEY_CHANGED"
    assert not report.HasField("output")
    assert not site.server.payloads


@SIZES
async def test_the_node_s_key_is_rotated_while_a_run_is_under_way(site: SiteUnderTest, output: bytes) -> None:
    before = site.keys[NODE]

    async def rotated() -> None:
        site.keys[NODE] = rotate(site.folder / "key.pem").current
        site.server.welcome.public_key = site.keys[NODE].public.to_pem()
        await site.stop()
        await site.online()

    await while_it_runs(site, output, rotated)
    assert site.opened(await site.server.report(states.COMPLETED)) == output
    assert site.keys[NODE].public.id != before.public.id


@SIZES
async def test_the_initiator_s_key_is_rotated_while_a_run_is_under_way(site: SiteUnderTest, output: bytes) -> None:
    """The output is sealed for the key that the task came with; the ring of the initiator opens it all the same."""
    path = site.folder / "researcher.pem"
    site.keys[RESEARCHER].save(path)

    async def rotated() -> None:
        new = rotate(path).public
        site.server.organizations[RESEARCHER].public_key = new.to_pem()

    await while_it_runs(site, output, rotated)
    report = await site.server.report(states.COMPLETED)
    place = report.output.payload_id
    data = bytes(site.server.payloads[place][1]) if place else report.output.inline
    ring = KeyRing.load(path)
    assert open_sealed(data, to=ring, by=site.keys[NODE].public, binding=PLACE) == output


@pytest.mark.row("M40")
@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize("more", [0, 1])
async def test_an_input_over_the_site_s_limit_is_not_taken(
    site: SiteUnderTest, sealed: bool, inline: bool, more: int
) -> None:
    """`limits.input_bytes` is of the content: an envelope may be as much larger as it has to be."""
    site.settings["limits"] = {"input_bytes": 50_000}
    site.server.welcome.encrypted = sealed
    site.settings["encrypted"] = sealed
    content = b"bytes." + bytes(50_000 - 6 + more)
    run = site.assignment(content, sealed=sealed)
    if not inline:
        run.input.payload_id = site.server.payload(run.input.inline, "input-1")
    connection = await site.online()
    connection.send(assignment=run)
    if not more:
        await site.server.report(states.COMPLETED)
        return
    report = await site.server.report(states.FAILED)
    assert report.reason == "RESOURCE_EXHAUSTED"
    assert "takes at most" in report.message
    assert not site.runtime.started
    assert not list((site.folder / "t" / "incoming").iterdir())
