"""A server that does what it likes with envelopes and keys (X06, X07), and one whose line breaks: the node tells."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.client.test_malicious_server import CHANGES
from tests.node.fake_runtime import FakeRuntime, forever
from tests.node.site import NODE, RESEARCHER, TASK_KEY, Container, SiteUnderTest
from tests.node.test_proxy import failure
from vantage6.api.v1.algorithm_pb2 import WriteOutputRequest
from vantage6.common.chunks import CHUNK
from vantage6.common.envelope import Binding, Purpose, seal
from vantage6.common.errors import AlreadyExists, ResourceExhausted
from vantage6.common.keyring import rotate
from vantage6.common.keys import KeyPair
from vantage6.common.trust import KnownOrganizations
from vantage6.node import states
from vantage6.node.cli import main

pytestmark = pytest.mark.row("M34", "M35")

CONTENT = b"bytes." + bytes(2 * CHUNK + 94)
PLACE = Binding(7, TASK_KEY, RESEARCHER, NODE, Purpose.INPUT)


async def outcome_of(site: SiteUnderTest, sealed: bytes) -> str:
    """Why the run failed; it must not have been started, and nothing may be left of its input."""
    run = site.assignment()
    run.input.payload_id = site.server.payload(sealed, "input-1")
    connection = await site.online()
    connection.send(assignment=run)
    report = await site.server.report(states.FAILED)
    assert not site.runtime.started
    assert not [path for path in (site.folder / "t" / "incoming").iterdir() if path.stat().st_size > len(CONTENT)]
    return report.reason


@pytest.mark.attack("X07")
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
async def test_a_large_input_that_was_tampered_with(site: SiteUnderTest, change: Callable[[bytes], bytes]) -> None:
    assert await outcome_of(site, change(site.seal(CONTENT))) == "ENVELOPE_BROKEN"


@pytest.mark.attack("X07")
@pytest.mark.parametrize(
    "elsewhere",
    [
        {"task_key": "task-4"},
        {"collaboration_id": 8},
        {"recipient_id": 3},
        {"sender_id": 3},
        {"purpose": Purpose.OUTPUT},
        {"purpose": Purpose.LOG},
    ],
)
async def test_an_envelope_of_another_place(site: SiteUnderTest, elsewhere: dict[str, object]) -> None:
    """Replayed from an earlier run, from another collaboration or site, or one thing shown as another."""
    binding = dataclasses.replace(PLACE, **elsewhere)  # type: ignore[arg-type]
    sealed = seal(CONTENT, to=site.keys[NODE].public, by=site.keys[RESEARCHER], binding=binding)
    assert await outcome_of(site, sealed) == "ENVELOPE_BROKEN"


@pytest.mark.attack("X06")
async def test_a_swapped_key_of_the_researcher(site: SiteUnderTest) -> None:
    """The server shows a key of its own for the researcher, and seals a task of its own with it."""
    connection = await site.online()
    connection.send(assignment=site.assignment())
    await site.server.report(states.COMPLETED)
    forger = site.keys[RESEARCHER] = KeyPair.generate()
    connection.send(assignment=site.assignment(result_id=13, task_key="task-5"))
    report = await site.server.report(states.REFUSED)
    assert report.reason == "KEY_CHANGED"
    assert "WARNING: THE KEY OF AN ORGANIZATION HAS CHANGED" in report.message
    assert forger.public.fingerprint in report.message


def test_trust_commands(site_file: Path) -> None:
    folder, one, two = site_file.parent / "data", KeyPair.generate().public, KeyPair.generate().public
    KnownOrganizations(folder / "known_organizations").check(3, "South", one)
    shown = CliRunner().invoke(main, ["trust", "list", "--config", str(site_file)])
    assert "South" in shown.output
    assert one.fingerprint in shown.output
    refused = CliRunner().invoke(main, ["trust", "accept", "--config", str(site_file), "3", "yes"])
    assert refused.exit_code
    done = CliRunner().invoke(main, ["trust", "accept", "--config", str(site_file), "3", two.fingerprint])
    assert done.exit_code == 0, done.output
    known = KnownOrganizations(folder / "known_organizations", "pinned")
    assert known.trusted(3, "South", two).signer(one.id)
    CliRunner().invoke(main, ["trust", "accept", "--config", str(site_file), "3", two.fingerprint, "--compromised"])
    assert known.trusted(3, "South", two).signer(one.id) is None


@pytest.fixture
def site_file(short_path: Path) -> Path:
    path = short_path / "node.yaml"
    settings = "name: north, server_url: 'http://127.0.0.1:1', api_key: key, directories: {data: data}"
    path.write_text(f"application: {{{settings}}}\n")
    path.chmod(0o600)
    return path


async def test_a_rotated_key_file_opens_what_was_sealed_for_the_old_key(site: SiteUnderTest) -> None:
    sealed = site.seal(CONTENT)
    site.keys[NODE] = rotate(site.folder / "key.pem").current
    site.server.welcome.public_key = site.keys[NODE].public.to_pem()
    run = site.assignment()
    run.input.payload_id = site.server.payload(sealed, "input-1")
    connection = await site.online()
    connection.send(assignment=run)
    assert site.opened(await site.server.report(states.COMPLETED)) == CONTENT


async def test_a_key_that_was_rotated_in_the_file_only_waits_for_the_server(site: SiteUnderTest) -> None:
    rotate(site.folder / "key.pem")
    connection = await site.online()
    connection.send(assignment=site.assignment(CONTENT[:100]))
    assert site.opened(await site.server.report(states.COMPLETED)) == CONTENT[:100]


async def test_a_download_goes_on_where_it_broke_off(site: SiteUnderTest) -> None:
    site.server.break_download_after = 1
    run = site.assignment()
    run.input.payload_id = site.server.payload(site.seal(CONTENT), "input-1")
    connection = await site.online()
    connection.send(assignment=run)
    assert site.opened(await site.server.report(states.COMPLETED)) == CONTENT
    assert site.server.offsets == [0, CHUNK, 2 * CHUNK]


async def test_the_output_can_be_streamed_through_the_proxy_once(site: SiteUnderTest) -> None:
    site.runtime = FakeRuntime(forever)
    site.settings["limits"] = {"output_bytes": 3 * CHUNK}
    connection = await site.online()
    connection.send(assignment=site.assignment())
    await site.server.report(states.RUNNING)
    folder = site.runtime.started[0].run_dir

    async def chunks(count: int) -> AsyncIterator[WriteOutputRequest]:
        for number in range(count):
            yield WriteOutputRequest(chunk=bytes([number]) * CHUNK)

    async with Container(folder) as container:
        write = container.stub.WriteOutput
        assert isinstance(await failure(write(chunks(4), metadata=container.metadata)), ResourceExhausted)
        assert (folder / "output").stat().st_size == 0
        await write(chunks(3), metadata=container.metadata)
        assert (folder / "output").read_bytes() == b"".join(bytes([number]) * CHUNK for number in range(3))
        assert isinstance(await failure(write(chunks(1), metadata=container.metadata)), AlreadyExists)
        assert (folder / "output").stat().st_size == 3 * CHUNK
