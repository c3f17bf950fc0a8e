"""What is sent can be asked for again as far back as a server may have lost it; what is older is made anew."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vantage6.common.chunks import CHUNK
from vantage6.common.errors import DataLoss, FailedPrecondition
from vantage6.common.outgoing import OutgoingFile, OutgoingMade

pytestmark = pytest.mark.row("M34")


def pieces(sizes: list[int]) -> list[bytes]:
    return [bytes([number % 251]) * size for number, size in enumerate(sizes)]


def read(source: OutgoingMade, offset: int, upto: int) -> bytes:
    found = b""
    while offset + len(found) < upto:
        piece = source.piece_at(offset + len(found))
        assert 0 < len(piece) <= CHUNK
        found += piece
    return found[: upto - offset]


@settings(deadline=None)
@given(data=st.data(), sizes=st.lists(st.integers(1, 40), min_size=1, max_size=40), kept=st.integers(1, 100))
def test_what_is_kept_is_read_again_and_what_is_older_is_not(data: st.DataObject, sizes: list[int], kept: int) -> None:
    made = pieces(sizes)
    whole = b"".join(made)
    with OutgoingMade(iter(made), len(whole), kept=kept) as source:
        upto = 0
        for _ in range(data.draw(st.integers(1, 6))):
            goal = data.draw(st.integers(upto, len(whole)))
            assert read(source, upto, goal) == whole[upto:goal]
            # The last piece may go beyond the goal.
            upto = source._hashed.upto
            offset = data.draw(st.integers(0, upto))
            if offset < upto - kept:
                with pytest.raises(DataLoss, match=f"from byte {offset} on"):
                    source.piece_at(offset)
            else:
                assert read(source, offset, upto) == whole[offset:upto]
        assert source.digest() == hashlib.sha256(whole).digest()


def test_a_large_content_takes_no_more_of_the_disk_than_is_kept() -> None:
    def many() -> Iterator[bytes]:
        for number in range(9):
            yield bytes([number]) * CHUNK

    with OutgoingMade(many(), 9 * CHUNK, kept=2 * CHUNK) as source:
        offset = 0
        while piece := source.piece_at(offset):
            offset += len(piece)
        assert source._file.seek(0, 2) == 2 * CHUNK
        assert source.piece_at(8 * CHUNK) == bytes([8]) * CHUNK
        assert source.piece_at(9 * CHUNK) == b""
        assert source.piece_at(7 * CHUNK) == bytes([7]) * CHUNK
        with pytest.raises(DataLoss):
            source.piece_at(7 * CHUNK - 1)


def test_more_and_less_than_was_said() -> None:
    with OutgoingMade(iter([b"abc", b"d"]), 3) as source, pytest.raises(FailedPrecondition, match="longer"):
        source.digest()
    with OutgoingMade(iter([b"abc"]), 4) as source, pytest.raises(FailedPrecondition, match="shorter"):
        source.digest()


def test_what_is_skipped_counts_for_the_digest(tmp_path: Path) -> None:
    whole = b"".join(pieces([3, 4, 5]))
    with OutgoingMade(iter(pieces([3, 4, 5])), 12) as source:
        assert source.piece_at(4) == whole[4:7]
        assert source.piece_at(2) == whole[2:7]
        assert source.digest() == hashlib.sha256(whole).digest()
    path = tmp_path / "sealed"
    path.write_bytes(bytes(CHUNK) + b"abc")
    file = OutgoingFile(path)
    assert file.piece_at(CHUNK) == b"abc"
    assert file.digest() == hashlib.sha256(path.read_bytes()).digest()
