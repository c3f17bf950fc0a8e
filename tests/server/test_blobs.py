"""What every blob store must do, be it a folder, memory, or a bucket of an S3-compatible server."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.s3 import bucket, s3_server
from vantage6.common.errors import DataLoss
from vantage6.server.store.blobs import PART, Blobs

PARTS = (os.urandom(PART), os.urandom(PART), os.urandom(1000))
DATA = b"".join(PARTS)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture(params=["folder", "memory", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Blobs]:
    if request.param == "s3":
        with bucket(request.getfixturevalue("endpoint")) as url:
            yield Blobs(url)
    else:
        yield Blobs("memory:///" if request.param == "memory" else str(tmp_path / "blobs"))


async def fill(blobs: Blobs, id_: str = "one") -> None:
    for index, part in enumerate(PARTS):
        await blobs.write_part(id_, index, part)


@pytest.mark.row("M40")
@pytest.mark.parametrize("offset", [0, 1, PART - 1, PART, PART + 1, len(DATA) - 1, len(DATA)])
async def test_what_is_written_is_read_from_any_offset(blobs: Blobs, offset: int) -> None:
    await fill(blobs)
    pieces = [bytes(piece) async for piece in blobs.read("one", len(DATA), offset)]
    assert b"".join(pieces) == DATA[offset:]
    assert all(0 < len(piece) <= PART for piece in pieces)


async def test_digest_head_and_ids(blobs: Blobs) -> None:
    await fill(blobs)
    await blobs.write_part("two", 0, b"x")
    assert await blobs.digest("one", len(DATA)) == hashlib.sha256(DATA).digest()
    assert await blobs.head("one", 100) == DATA[:100]
    assert sorted(await blobs.ids()) == ["one", "two"]


@pytest.mark.attack
async def test_a_part_is_written_once(blobs: Blobs) -> None:
    await fill(blobs)
    await blobs.write_part("one", 1, PARTS[1])  # The same again, as after a broken line.
    with pytest.raises(DataLoss, match="two streams"):
        await blobs.write_part("one", 1, bytes(PART))
    writers = [blobs.write_part("two", 0, bytes([number]) * 100) for number in range(5)]
    ended = await asyncio.gather(*writers, return_exceptions=True)
    assert sum(end is None for end in ended) == 1
    assert all(end is None or isinstance(end, DataLoss) for end in ended)
    assert b"".join([bytes(piece) async for piece in blobs.read("one", len(DATA))]) == DATA


async def test_what_is_deleted_is_gone(blobs: Blobs) -> None:
    await fill(blobs)
    await fill(blobs, "one-more")
    await blobs.delete("one", len(DATA))
    assert await blobs.ids() == ["one-more"]
    await blobs.delete("one", len(DATA))
    await blobs.delete_all("one-more")
    assert await blobs.ids() == []


async def test_a_missing_or_cut_part_is_an_error(blobs: Blobs) -> None:
    await blobs.write_part("one", 0, PARTS[0])
    await blobs.write_part("two", 0, b"short")
    for id_ in ("one", "two"):
        with pytest.raises(DataLoss):
            [piece async for piece in blobs.read(id_, 2 * PART, PART - 1 if id_ == "one" else 100)]
