"""Bytes cut and recut stay the same bytes."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from vantage6.common.chunks import CHUNK, INLINE_LIMIT, chunked, recut, sha256, sha256_of


@given(data=st.binary(max_size=500), size=st.integers(1, 60))
def test_cut(data: bytes, size: int) -> None:
    pieces = list(chunked(data, size))
    assert b"".join(pieces) == data
    assert all(len(piece) == size for piece in pieces[:-1])
    assert all(pieces)


@given(pieces=st.lists(st.binary(max_size=100)), size=st.integers(1, 60))
def test_recut(pieces: list[bytes], size: int) -> None:
    assert list(recut(pieces, size)) == list(chunked(b"".join(pieces), size))


@given(pieces=st.lists(st.binary(max_size=100)))
def test_digests(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    assert sha256(whole) == hashlib.sha256(whole).digest()
    assert sha256_of(pieces) == (sha256(whole), len(whole))


def test_what_both_sides_agreed() -> None:
    assert (INLINE_LIMIT, CHUNK) == (65_536, 1_048_576)
    assert list(chunked(b"")) == []
    assert [len(piece) for piece in chunked(bytearray(CHUNK + 1))] == [CHUNK, 1]
