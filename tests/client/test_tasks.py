"""Tasks and results, sealed: what leaves the client, what comes back, and what a dishonest server can not do."""

from __future__ import annotations

import asyncio
import datetime as dt
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.client.fakes import COLLABORATION, NORTH, OWN, SOUTH, Fake, key_file
from vantage6.api.v1 import organization_pb2, result_pb2, task_pb2
from vantage6.client import AsyncClient, Result, ResultState, Task, TaskState, _payloads
from vantage6.client._payloads import content_of, upload
from vantage6.common.chunks import INLINE_LIMIT
from vantage6.common.envelope import looks_sealed
from vantage6.common.errors import (
    DataLoss,
    EnvelopeBroken,
    FailedPrecondition,
    InvalidArgument,
    KeyChanged,
    KeyMismatch,
    KeyMissing,
    NotFound,
    NotSealed,
)
from vantage6.common.keys import KeyPair, PublicKey
from vantage6.common.outgoing import OutgoingMade

INPUT = {"method": "partial", "args": ["age"], "kwargs": {"marker": "MARKER-7261"}}


async def create(client: AsyncClient, organizations: tuple[int, ...] = (NORTH, SOUTH), **more: object) -> Task:
    options = {"input": INPUT, "name": "mean age"} | more
    return await client.task.create(COLLABORATION, list(organizations), "image:1", **options)  # type: ignore[arg-type]


@pytest.mark.row("M34")
async def test_each_organization_gets_an_envelope_of_its_own(client: AsyncClient, fake: Fake) -> None:
    task = await create(client, databases=["default"], retries=0, min_results=1, priority=5)
    [request] = fake.requests
    assert (task.name, task.state, task.complete) == ("mean age", TaskState.PENDING, False)
    assert (request.retries, request.min_results, request.priority) == (0, 1, 5)
    assert list(request.databases) == ["default"]
    sealed = {each.id: each.input for each in request.organizations}
    assert sealed[NORTH] != sealed[SOUTH]
    assert all(looks_sealed(each) and b"MARKER" not in each for each in sealed.values())
    assert fake.site_input(1) == INPUT
    assert fake.site_input(2) == INPUT
    fake.inputs[1] = sealed[SOUTH]
    with pytest.raises(EnvelopeBroken):
        fake.site_input(1)


@pytest.mark.row("M34")
async def test_large_input_is_uploaded_and_goes_on_where_it_broke_off(client: AsyncClient, fake: Fake) -> None:
    fake.break_write = 2
    value = {"method": "partial", "kwargs": {"text": "x" * 3_000_000}}
    await create(client, (NORTH,), input=value)
    [request] = fake.requests
    assert request.organizations[0].input == b""
    assert fake.site_input(1) == value
    assert len(fake.payloads) == 1


@pytest.mark.row("M34")
async def test_an_upload_of_which_the_server_lost_too_much_is_begun_anew(
    client: AsyncClient, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes from a backup, say. What was sent long ago is sealed again, for another upload with another key."""
    monkeypatch.setattr(_payloads, "OutgoingMade", partial(OutgoingMade, kept=1000))
    monkeypatch.setattr(_payloads, "pause", lambda _attempt: _lose(fake))
    fake.break_write = 1
    value = {"method": "partial", "kwargs": {"text": "x" * 3_000_000}}
    await create(client, (NORTH,), input=value)
    assert [bool(content) for content in fake.payloads.values()] == [False, True]
    assert fake.site_input(1) == value
    assert fake.requests[0].organizations[0].input_payload_id == "payload-1"


async def _lose(fake: Fake) -> None:
    fake.payloads["payload-0"].clear()


async def test_deadline_and_bytes(client: AsyncClient, fake: Fake) -> None:
    before = dt.datetime.now(dt.UTC)
    await create(client, (NORTH,), input=b"\x00raw", deadline=dt.timedelta(hours=1))
    found = fake.requests[0].deadline.ToDatetime(dt.UTC)
    assert dt.timedelta(minutes=59) < found - before < dt.timedelta(minutes=61)
    assert fake.site_input(1) == b"\x00raw"


@pytest.mark.row("M43")
async def test_results_are_opened(client: AsyncClient, fake: Fake) -> None:
    task = await create(client)
    fake.complete(1, {"mean": 41.5})
    fake.move(2, result_pb2.RESULT_STATE_REFUSED, reason="IMAGE_NOT_ALLOWED", message="not on the list")
    fake.finish(task.id)
    assert b"41.5" not in fake.results[1].output_content.inline
    first, second = [each async for each in client.results(task)]
    assert (first.organization_name, first.completed, first.value) == ("Hospital North", True, {"mean": 41.5})
    assert (second.state, second.value) == (ResultState.REFUSED, None)
    assert (second.reason, second.message) == ("IMAGE_NOT_ALLOWED", "not on the list")


@pytest.mark.row("M43")
async def test_results_come_as_they_arrive(client: AsyncClient, fake: Fake) -> None:
    task = await create(client)
    results = client.results(task)
    arrival = asyncio.ensure_future(anext(results))
    await asyncio.sleep(0.05)
    assert not arrival.done()
    fake.complete(2, "south")
    assert (await arrival).value == "south"
    fake.complete(1, "north")
    fake.finish(task.id)
    assert [each.value async for each in results] == ["north"]


async def test_large_results_are_downloaded_and_go_on_where_they_broke_off(client: AsyncClient, fake: Fake) -> None:
    task = await create(client, (NORTH,))
    fake.complete(1, "y" * 3_000_000)
    fake.finish(task.id)
    fake.break_read = 2
    [result] = [each async for each in client.results(task)]
    assert result.value == "y" * 3_000_000
    name = fake.results[1].output_content.payload_id
    fake.payloads[name][5000] ^= 1
    with pytest.raises(DataLoss):
        _ = [each async for each in client.results(task)]


@pytest.mark.attack
@pytest.mark.row("M43")
@pytest.mark.parametrize("position", [0, 20, 600, -80, -1])
async def test_an_altered_result_is_refused(client: AsyncClient, fake: Fake, position: int) -> None:
    def alter(data: bytes) -> bytes:
        changed = bytearray(data)
        changed[position] ^= 1
        return bytes(changed)

    task = await create(client, (NORTH,))
    fake.complete(1, {"mean": 41.5}, alter)
    fake.finish(task.id)
    with pytest.raises(EnvelopeBroken):
        _ = [each async for each in client.results(task)]


@pytest.mark.attack
async def test_a_result_of_another_task_site_or_in_plain_is_refused(client: AsyncClient, fake: Fake) -> None:
    first, second = await create(client), await create(client)
    for number in range(1, 5):
        fake.complete(number, {"task": fake.results[number].task_id})
    fake.finish(first.id)
    fake.finish(second.id)
    outputs = {number: fake.results[number].output_content.inline for number in range(1, 5)}
    for foreign in (outputs[1], outputs[4], b'json.{"mean":0}', b""):
        fake.results[3].output_content.inline = foreign
        with pytest.raises(EnvelopeBroken):
            _ = [each async for each in client.results(second)]
    fake.results[3].output_content.inline = outputs[1]
    fake.tasks[second.id].key = fake.tasks[first.id].key  # the server may say what it likes: the client knows the key
    with pytest.raises(EnvelopeBroken):
        _ = [each async for each in client.results(await client.wait(second))]


@pytest.mark.attack
async def test_a_changed_key_stops_before_anything_is_sent(client: AsyncClient, fake: Fake) -> None:
    task = await create(client)
    stranger = KeyPair.generate()
    fake.organizations[SOUTH].public_key = stranger.public.to_pem()
    with pytest.raises(KeyChanged, match="Hospital South"):
        await create(client)
    assert len(fake.requests) == 1
    fake.sites[SOUTH] = stranger
    fake.complete(2, "forged")
    fake.finish(task.id)
    with pytest.raises(KeyChanged):
        _ = [each async for each in client.results(task)]


async def test_pins_outlive_the_client(client: AsyncClient, fake: Fake, url: str, tmp_path: Path) -> None:
    await create(client)
    fake.organizations[NORTH].public_key = KeyPair.generate().public.to_pem()
    async with AsyncClient(url, known_organizations=tmp_path / "known.json") as other:
        await other.authenticate("alice", "secret")
        await other.setup_encryption(tmp_path / "key.pem")
        with pytest.raises(KeyChanged):
            await create(other)


async def test_an_organization_without_key(client: AsyncClient, fake: Fake) -> None:
    fake.organizations[SOUTH].public_key = b""
    with pytest.raises(KeyMissing, match="Hospital South"):
        await create(client)
    assert fake.requests == []


@pytest.mark.row("M43")
@pytest.mark.row("M41")
async def test_the_own_key_is_uploaded_once_and_compared_ever_after(
    stranger: AsyncClient, fake: Fake, tmp_path: Path
) -> None:
    pair = KeyPair.generate()
    await stranger.authenticate("alice", "secret")
    await stranger.setup_encryption(str(key_file(tmp_path, pair)))
    assert PublicKey.from_pem(fake.organizations[OWN].public_key) == pair.public
    await stranger.setup_encryption(tmp_path / "key.pem")
    other = tmp_path / "other.pem"
    fingerprint = await stranger.create_private_key(other, passphrase="words")
    with pytest.raises(KeyMismatch, match=fingerprint):
        await stranger.setup_encryption(other, passphrase="words")
    assert PublicKey.from_pem(fake.organizations[OWN].public_key) == pair.public


@pytest.mark.row("M36")
async def test_no_plain_input_into_an_encrypted_collaboration(stranger: AsyncClient, fake: Fake) -> None:
    await stranger.authenticate("alice", "secret")
    with pytest.raises(FailedPrecondition, match="setup_encryption"):
        await create(stranger)
    assert fake.requests == []


@pytest.mark.attack
@pytest.mark.row("M36")
async def test_a_server_cannot_talk_a_client_out_of_sealing(client: AsyncClient, fake: Fake) -> None:
    fake.encrypted = False
    with pytest.raises(NotSealed, match="setup_encryption"):
        await create(client)
    assert not fake.requests
    fake.encrypted = True
    task = await create(client, (NORTH,))
    # Once it was said to be encrypted, it is: that never changes.
    fake.encrypted = False
    await create(client)
    assert all(looks_sealed(each.input) for request in fake.requests for each in request.organizations)
    fake.complete(1, "plain")
    fake.finish(task.id)
    with pytest.raises(EnvelopeBroken):
        _ = [each async for each in client.results(task)]


class TestPlain:
    """A collaboration that is not encrypted."""

    @pytest.fixture
    def fake(self) -> Fake:
        return Fake(encrypted=False)

    async def test_there_and_back(self, client: AsyncClient, fake: Fake) -> None:
        task = await create(client)
        assert fake.site_input(2) == INPUT
        fake.complete(1, 1.5)
        fake.finish(task.id)
        assert [each.value async for each in client.results(task.id)] == [1.5]

    async def test_large_input_is_stored_once_for_all(self, client: AsyncClient, fake: Fake) -> None:
        value = "z" * (INLINE_LIMIT + 1)
        await create(client, input=value)
        assert len(fake.payloads) == 1
        assert fake.site_input(1) == fake.site_input(2) == value


@pytest.mark.parametrize("organizations", [(), (NORTH, NORTH)])
async def test_organizations_must_be_named_once(client: AsyncClient, organizations: tuple[int, ...]) -> None:
    with pytest.raises(InvalidArgument, match="organizations"):
        await create(client, organizations)


async def test_an_organization_outside_is_named(client: AsyncClient) -> None:
    with pytest.raises(NotFound, match="organization 17 is not in collaboration study"):
        await create(client, (NORTH, 17))


@pytest.mark.attack
async def test_a_task_stored_under_another_key_is_not_trusted(client: AsyncClient, fake: Fake) -> None:
    class Renaming(dict[int, task_pb2.Task]):
        def __setitem__(self, number: int, task: task_pb2.Task) -> None:
            task.key = "another"
            super().__setitem__(number, task)

    fake.tasks = Renaming()
    with pytest.raises(DataLoss, match="another key"):
        await create(client)


@pytest.mark.row("M40")
async def test_many_inputs_that_fit_one_by_one_and_not_together(client: AsyncClient, fake: Fake) -> None:
    """300 organizations, each with an input just below the size that travels in the message: 19 MiB in all."""
    for id_ in range(100, 400):
        key = fake.sites[NORTH].public.to_pem()
        fake.organizations[id_] = organization_pb2.Organization(id=id_, name=f"site {id_}", public_key=key)
    value = {"method": "partial", "kwargs": {"text": "x" * (INLINE_LIMIT - 1500)}}
    await create(client, tuple(range(100, 400)), input=value)
    [request] = fake.requests
    assert request.ByteSize() < 100_000
    ids = [each.input_payload_id for each in request.organizations]
    assert len(set(ids)) == 300
    assert all(looks_sealed(bytes(fake.payloads[id_])) and len(fake.payloads[id_]) <= INLINE_LIMIT for id_ in ids)
    fake.requests.clear()
    await create(client, tuple(range(100, 200)), input=INPUT)  # Few bytes stay in the message, however many sites.
    assert all(each.input and not each.input_payload_id for each in fake.requests[0].organizations)


async def test_a_file_that_changes_while_it_is_sent(client: AsyncClient, fake: Fake, tmp_path: Path) -> None:
    path = tmp_path / "growing"
    path.write_bytes(bytes(1_000_000))
    content = content_of(path)
    path.write_bytes(bytes(1_000_100))
    with pytest.raises(FailedPrecondition, match="longer"):
        await upload(client._session, COLLABORATION, content)
    path.write_bytes(bytes(999_999))
    with pytest.raises(FailedPrecondition, match="shorter"):
        await upload(client._session, COLLABORATION, content)


@pytest.mark.parametrize(
    ("state", "fields", "why"),
    [
        (ResultState.COMPLETED, {}, ""),
        (ResultState.PENDING, {"node_online": True}, "pending"),
        (ResultState.PENDING, {}, "pending, its node is offline"),
        (
            ResultState.PENDING, {"node_online": True, "reason": "IMAGE_UNREACHABLE", "message": "no way; try 1 of 3"},
            "pending after IMAGE_UNREACHABLE: no way; try 1 of 3",
        ),
        (ResultState.CANCELLED, {"reason": "QUORUM", "message": "enough"}, "cancelled QUORUM: enough"),
        (ResultState.FAILED, {"reason": "TIME_LIMIT"}, "failed TIME_LIMIT"),
    ],
)  # fmt: skip
def test_why_a_result_is_missing(state: ResultState, fields: dict[str, Any], why: str) -> None:
    assert Result(1, 1, NORTH, "Hospital North", state, **fields).why == why


async def test_who_is_missing_is_told_by_name(client: AsyncClient, fake: Fake) -> None:
    task = await create(client, min_results=1)
    fake.complete(1, {"mean": 41})
    missing = [each async for each in client.task.missing(task.id)]
    assert [(each.organization_name, each.why) for each in missing] == [("Hospital South", "pending")]
