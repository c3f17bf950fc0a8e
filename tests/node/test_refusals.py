"""What a node does not run, and what it says when a run fails."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.node.fake_runtime import FakeRuntime
from tests.node.site import NODE, RESEARCHER, TASK_KEY, SiteUnderTest
from vantage6.api.v1.delivery_pb2 import Report
from vantage6.common.envelope import Binding, Purpose, open_sealed
from vantage6.common.errors import EncryptionRequired, Unauthenticated
from vantage6.common.keys import KeyPair
from vantage6.node import states
from vantage6.node.proxy.tokens import RunEnded, RunToken
from vantage6.node.runtimes.base import Exit, RunSpec


async def outcome(site: SiteUnderTest, state: int, **more: Any) -> Report:
    connection = await site.online()
    connection.send(assignment=site.assignment(**more))
    return await site.server.report(state)


@pytest.mark.attack("CVE-2024-22193")
@pytest.mark.row("M36")
async def test_plain_input_in_an_encrypted_collaboration(site: SiteUnderTest) -> None:
    report = await outcome(site, states.REFUSED, sealed=False)
    assert report.reason == "NOT_SEALED"
    assert not site.runtime.started


@pytest.mark.attack("CVE-2024-22193")
@pytest.mark.row("M36")
async def test_plain_payload_in_an_encrypted_collaboration(site: SiteUnderTest) -> None:
    run = site.assignment()
    run.input.payload_id = site.server.payload(b"json." + b" " * 100_000, "plain")
    connection = await site.online()
    connection.send(assignment=run)
    assert (await site.server.report(states.REFUSED)).reason == "NOT_SEALED"


@pytest.mark.row("M36")
async def test_sealed_input_in_an_unencrypted_collaboration(site: SiteUnderTest) -> None:
    site.server.welcome.encrypted = False
    site.settings["encrypted"] = False
    assert (await outcome(site, states.REFUSED)).reason == "NOT_SEALED"


@pytest.mark.attack
@pytest.mark.row("M36")
async def test_a_server_cannot_switch_encryption_off(site: SiteUnderTest) -> None:
    await outcome(site, states.COMPLETED)
    await site.stop()
    site.server.welcome.encrypted = False
    with pytest.raises(EncryptionRequired, match="encrypted: false"):
        async with asyncio.timeout(20):  # A node that goes on never returns.
            await site.start()


async def test_unencrypted_collaboration_needs_no_keys(site: SiteUnderTest) -> None:
    site.server.welcome.encrypted = False
    site.settings["encrypted"] = False
    site.server.welcome.public_key = b""
    report = await outcome(site, states.COMPLETED, sealed=False, data=b"json.5")
    assert report.output.inline == b"json.5"
    assert not site.server.welcome.public_key


@pytest.mark.attack
async def test_input_of_another_purpose_does_not_open(site: SiteUnderTest) -> None:
    connection = await site.online()
    connection.send(assignment=site.assignment(site.seal(b"json.1", purpose=Purpose.OUTPUT), sealed=False))
    assert (await site.server.report(states.FAILED)).reason == "ENVELOPE_BROKEN"
    assert not site.runtime.started


@pytest.mark.attack
async def test_changed_key_of_the_initiator(site: SiteUnderTest) -> None:
    connection = await site.online()
    connection.send(assignment=site.assignment())
    await site.server.report(states.COMPLETED)
    site.keys[RESEARCHER] = KeyPair.generate()
    connection.send(assignment=site.assignment(result_id=13))
    report = await site.server.report(states.REFUSED)
    assert report.reason == "KEY_CHANGED"
    assert len(site.runtime.started) == 1


async def test_unpinned_key_where_keys_must_be_pinned(site: SiteUnderTest) -> None:
    site.settings["trust"] = "pinned"
    assert (await outcome(site, states.REFUSED)).reason == "KEY_UNKNOWN"


@pytest.mark.attack("CVE-2023-47631")
@pytest.mark.parametrize("image", ["evil/miner:1", "example/average:1-evil", "registry/example/average:1"])
async def test_image_that_is_not_allowed(site: SiteUnderTest, image: str) -> None:
    # Also for a subtask: whose child a run is said to be changes nothing.
    report = await outcome(site, states.REFUSED, image=image, parent_task_id=4)
    assert report.reason == "IMAGE_NOT_ALLOWED"
    assert site.runtime.pulls == 0


async def test_nothing_is_allowed_unless_configured(site: SiteUnderTest) -> None:
    site.settings["policy"] = {}
    report = await outcome(site, states.REFUSED)
    assert report.reason == "IMAGE_NOT_ALLOWED"
    assert "policy.allowed_images" in report.message


@pytest.mark.attack("GHSA-47w6-gwp4-w6vc")
@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ({"allowed_users": ["bob"]}, "USER_NOT_ALLOWED"),
        ({"allowed_organizations": ["2"]}, "ORGANIZATION_NOT_ALLOWED"),
        ({"allowed_databases": []}, "DATABASE_NOT_ALLOWED"),
        ({"allowed_digests": ["sha256:" + "1" * 64]}, "DIGEST_NOT_ALLOWED"),
    ],
)
async def test_rules_of_the_site(site: SiteUnderTest, rule: dict[str, Any], reason: str) -> None:
    site.settings["policy"] = {"allowed_images": [".*"], **rule}
    site.settings["databases"] = {"default": {"uri": str(site.folder / "key.pem")}}
    assert (await outcome(site, states.REFUSED, databases=["default"])).reason == reason
    assert not site.runtime.started


async def test_database_that_is_not_there(site: SiteUnderTest) -> None:
    assert (await outcome(site, states.REFUSED, databases=["nowhere"])).reason == "DATABASE_UNKNOWN"


async def test_image_that_cannot_be_had(site: SiteUnderTest) -> None:
    site.runtime.missing.add("example/average:1")
    assert (await outcome(site, states.FAILED)).reason == "IMAGE_MISSING"


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (Exit(3), "ALGORITHM_FAILED"),
        (Exit(137, oom=True), "OUT_OF_MEMORY"),
        (Exit(137, timed_out=True), "TIME_LIMIT"),
        (Exit(0), "OUTPUT_MISSING"),
    ],
)
async def test_ends_of_an_algorithm(site: SiteUnderTest, end: Exit, reason: str) -> None:
    async def algorithm(_: RunSpec) -> Exit:
        return end

    site.runtime = FakeRuntime(algorithm)
    report = await outcome(site, states.FAILED)
    assert report.reason == reason
    assert not report.HasField("log")
    if end.code == 3:
        assert "exit code 3" in report.message


async def test_log_is_shared_sealed_and_only_where_the_site_says_so(site: SiteUnderTest) -> None:
    async def algorithm(_: RunSpec) -> Exit:
        return Exit(1, log_tail=b"ValueError: 7")

    site.settings["share_logs"] = True
    site.runtime = FakeRuntime(algorithm)
    report = await outcome(site, states.FAILED)
    binding = Binding(7, TASK_KEY, NODE, RESEARCHER, Purpose.LOG)
    keys = site.keys
    assert (
        open_sealed(report.log.inline, to=keys[RESEARCHER], by=keys[NODE].public, binding=binding) == b"ValueError: 7"
    )


@pytest.mark.attack("X08")
async def test_output_that_is_a_link_is_not_followed(site: SiteUnderTest) -> None:
    async def algorithm(spec: RunSpec) -> Exit:
        (spec.run_dir / "output").unlink()
        (spec.run_dir / "output").symlink_to("/etc/passwd")
        return Exit(0)

    site.runtime = FakeRuntime(algorithm)
    assert (await outcome(site, states.FAILED)).reason == "OUTPUT_UNSAFE"


async def test_defect_of_the_node_ends_one_run_only(site: SiteUnderTest) -> None:
    async def algorithm(spec: RunSpec) -> Exit:
        if "-12-" in spec.key:
            raise ZeroDivisionError("secret insides")
        (spec.run_dir / "output").write_bytes(b"json.1")
        return Exit(0)

    site.runtime = FakeRuntime(algorithm)
    connection = await site.online()
    connection.send(assignment=site.assignment())
    report = await site.server.report(states.FAILED)
    assert report.reason == "NODE_ERROR"
    assert "secret" not in report.message
    connection.send(assignment=site.assignment(result_id=13))
    await site.server.report(states.COMPLETED)


@pytest.mark.attack("X03")
def test_a_token_ends_with_its_run() -> None:
    """Also for a call that comes while the proxy is still closing."""
    token = RunToken("secret")
    shown = [("authorization", "Bearer secret")]
    token.check(shown)
    for wrong in ([], [("authorization", "secret")], [*shown, *shown], [("authorization", "Bearer secre")]):
        with pytest.raises(Unauthenticated):
            token.check(wrong)
    token.end()
    with pytest.raises(RunEnded):
        token.check(shown)
