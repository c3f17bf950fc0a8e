"""A server that does what it likes with envelopes and keys (X06, X07): the client tells, whatever the size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.client.fakes import NORTH, OWN, SOUTH, Fake
from tests.client.test_tasks import create
from vantage6.api.v1 import payload_pb2
from vantage6.client import AsyncClient, Task
from vantage6.common.chunks import CHUNK, sha256
from vantage6.common.envelope import HEADER_SIZE
from vantage6.common.errors import EnvelopeBroken, InvalidArgument, KeyChanged, KeyMismatch
from vantage6.common.keys import KeyPair

pytestmark = [pytest.mark.attack("X06", "X07"), pytest.mark.row("M34", "M35")]

PIECE = CHUNK + 16
LARGE = "x" * (2 * CHUNK + 100)


def swapped(data: bytes) -> bytes:
    one, two = data[HEADER_SIZE : HEADER_SIZE + PIECE], data[HEADER_SIZE + PIECE : HEADER_SIZE + 2 * PIECE]
    return data[:HEADER_SIZE] + two + one + data[HEADER_SIZE + 2 * PIECE :]


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "cut in the middle": lambda data: data[: len(data) // 2],
    "cut at a chunk": lambda data: data[: HEADER_SIZE + PIECE],
    "last chunk dropped": lambda data: data[: HEADER_SIZE + 2 * PIECE],
    "chunks swapped": swapped,
    "chunk repeated": lambda data: data[: HEADER_SIZE + PIECE] + data[HEADER_SIZE:],
    "header edited": lambda data: data[:50] + bytes([data[50] ^ 1]) + data[51:],
    "something behind it": lambda data: data + b"x",
}


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
async def test_a_large_result_that_was_tampered_with(
    client: AsyncClient, fake: Fake, change: Callable[[bytes], bytes], folder: bool, tmp_path: Path
) -> None:
    """The server announces the digest of its own bytes, so only the envelope can tell. No file is left behind."""
    task = await create(client, (NORTH,))
    fake.complete(1, LARGE, change)
    fake.finish(task.id)
    target = tmp_path / "results" if folder else None
    with pytest.raises(EnvelopeBroken):
        _ = [each async for each in client.results(task, target)]
    assert target is None or list(target.iterdir()) == []


async def test_the_result_of_one_run_as_that_of_the_next(client: AsyncClient, fake: Fake) -> None:
    first, second = await create(client, (NORTH,)), await create(client, (NORTH,))
    fake.complete(1, LARGE)
    fake.complete(2, LARGE)
    fake.finish(first.id)
    fake.finish(second.id)
    fake.results[2].output_content.payload_id = fake.results[1].output_content.payload_id
    with pytest.raises(EnvelopeBroken, match="another collaboration, task"):
        _ = [each async for each in client.results(second)]


async def test_the_own_input_as_a_result(client: AsyncClient, fake: Fake) -> None:
    task = await create(client, (NORTH,))
    fake.complete(1, "mine")
    fake.results[1].output_content.inline = fake.inputs[1]
    fake.finish(task.id)
    with pytest.raises(EnvelopeBroken):
        _ = [each async for each in client.results(task)]


async def test_a_file_of_any_size_comes_whole_and_without_its_format(
    client: AsyncClient, fake: Fake, tmp_path: Path
) -> None:
    task = await create(client, (NORTH,))
    fake.complete(1, LARGE)
    fake.finish(task.id)
    (result,) = [each async for each in client.results(task, tmp_path / "results")]
    assert result.file == tmp_path / "results" / f"{task.id}-{NORTH}.json"
    assert result.file
    assert result.file.read_text() == f'"{LARGE}"'


async def test_a_file_as_input(client: AsyncClient, fake: Fake, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(LARGE.encode())
    await create(client, (NORTH, SOUTH), input=tmp_path / "model.bin", name="file")
    assert fake.site_input(1) == fake.site_input(2) == LARGE.encode()
    with pytest.raises(InvalidArgument, match="there is no file"):
        await create(client, input=tmp_path / "missing")


async def result_of(client: AsyncClient, task: Task) -> object:
    return [each.value async for each in client.results(task)]


class TestKeys:
    async def test_a_swapped_key_is_shouted_about_and_accepted_by_fingerprint_only(
        self, client: AsyncClient, fake: Fake
    ) -> None:
        task = await create(client, (NORTH,))
        fake.complete(1, "from before")
        fake.finish(task.id)
        new = KeyPair.generate()
        fake.organizations[NORTH].public_key = new.public.to_pem()
        with pytest.raises(KeyChanged, match="WARNING: THE KEY OF AN ORGANIZATION HAS CHANGED"):
            await create(client, (NORTH,))
        for wrong in (KeyPair.generate().public.fingerprint, fake.sites[NORTH].public.fingerprint):
            with pytest.raises(KeyMismatch, match="Nothing was accepted"):
                await client.trust(NORTH, wrong)
        with pytest.raises(InvalidArgument):
            await client.trust(NORTH, "yes")
        assert len(fake.requests) == 1
        await client.trust(NORTH, new.public.fingerprint.upper().replace(":", " "))
        assert (await client.trusted())[NORTH] == new.public.fingerprint
        assert await result_of(client, task) == ["from before"]
        await create(client, (NORTH,))
        await client.trust(NORTH, new.public.fingerprint, compromised=True)
        with pytest.raises(EnvelopeBroken, match="somebody else, or of an old key"):
            await result_of(client, task)

    async def test_rotation_keeps_old_results_readable_and_running_tasks_alive(
        self, client: AsyncClient, fake: Fake, tmp_path: Path
    ) -> None:
        old, running = await create(client, (NORTH,)), await create(client, (NORTH,))
        fake.complete(1, "old")
        fake.finish(old.id)
        before = fake.own_key()
        fingerprint = await client.rotate_private_key(tmp_path / "key.pem")
        assert fake.own_key().fingerprint == fingerprint != before.fingerprint
        assert fake.organizations[OWN].public_key
        fake.complete(2, "sealed for the new key")
        fake.finish(running.id)
        assert await result_of(client, old) == ["old"]
        assert await result_of(client, running) == ["sealed for the new key"]

    async def test_a_digest_does_not_help_the_server(self, client: AsyncClient, fake: Fake) -> None:
        """It announces what it likes; the client goes by the envelope."""
        task = await create(client, (NORTH,))
        fake.complete(1, LARGE)
        fake.finish(task.id)
        name = fake.results[1].output_content.payload_id
        fake.payloads[name][-1] ^= 1
        data = bytes(fake.payloads[name])
        fake.announced[name] = payload_pb2.CreatePayloadRequest(size=len(data), sha256=sha256(data))
        with pytest.raises(EnvelopeBroken):
            await result_of(client, task)
