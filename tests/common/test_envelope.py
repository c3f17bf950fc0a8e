"""What is sealed opens again, in any pieces, in flat memory; and other implementations agree."""

from __future__ import annotations

import io
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vantage6.common.chunks import CHUNK, chunked
from vantage6.common.envelope import (
    HEADER_SIZE,
    MIN_SIZE,
    Binding,
    Opener,
    Purpose,
    Sealer,
    looks_sealed,
    open_chunks,
    open_file,
    open_sealed,
    seal,
    seal_chunks,
    seal_file,
    sealed_size,
)
from vantage6.common.errors import EnvelopeBroken, InvalidArgument
from vantage6.common.keys import KeyPair, PublicKey

PAIR = {"to": KeyPair.generate(), "by": KeyPair.generate()}
VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "envelope_v1.json").read_text(encoding="utf-8"))
ids = st.integers(1, 2**63 - 1)
bindings = st.builds(
    Binding,
    collaboration_id=ids,
    task_key=st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=64),
    sender_id=ids,
    recipient_id=ids,
    purpose=st.sampled_from(Purpose),
)


def cut(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    start = 0
    for size in sizes:
        yield data[start : start + size]
        start += size
    yield data[start:]


@pytest.mark.row("M34")
@settings(deadline=None)
@given(data=st.binary(max_size=3000), binding=bindings, sizes=st.lists(st.integers(0, 2000), max_size=5))
def test_what_is_sealed_in_any_pieces_opens_in_any_pieces(data: bytes, binding: Binding, sizes: list[int]) -> None:
    to, by = PAIR["to"], PAIR["by"]
    sealed = b"".join(seal_chunks(cut(data, sizes), to=to.public, by=by, binding=binding))
    assert len(sealed) == sealed_size(len(data))
    assert looks_sealed(sealed)
    assert b"".join(open_chunks(cut(sealed, sizes[::-1]), to=to, by=by.public, binding=binding)) == data


@given(size=st.integers(-2, 2), chunks=st.integers(1, 3), piece=st.integers(CHUNK // 2, 3 * CHUNK))
@settings(max_examples=25, deadline=None)
def test_around_the_chunk_boundaries(size: int, chunks: int, piece: int) -> None:
    to, by, binding = PAIR["to"], PAIR["by"], Binding(1, "t", 2, 3, Purpose.OUTPUT)
    data = bytes(chunks * CHUNK + size)
    sealed = b"".join(seal_chunks(chunked(data, piece), to=to.public, by=by, binding=binding))
    assert len(sealed) == sealed_size(len(data))
    assert b"".join(open_chunks(chunked(sealed, piece), to=to, by=by.public, binding=binding)) == data
    assert open_sealed(seal(data, to=to.public, by=by, binding=binding), to=to, by=by.public, binding=binding) == data
    assert open_sealed(sealed, to=to, by=by.public, binding=binding) == data
    spool, plain = io.BytesIO(), io.BytesIO()
    seal_file(io.BytesIO(data), spool, to=to.public, by=by, binding=binding)
    open_file(io.BytesIO(spool.getvalue()), plain, to=to, by=by.public, binding=binding)
    assert (len(spool.getvalue()), plain.getvalue()) == (sealed_size(size + chunks * CHUNK), data)


@pytest.mark.row("M34")
def test_the_same_input_sealed_for_two_organizations_shares_nothing(
    sender: KeyPair, recipient: KeyPair, stranger: KeyPair
) -> None:
    data = b"json." + b'{"secret": "marker"}' * 100
    one = seal(data, to=recipient.public, by=sender, binding=Binding(1, "t", 2, 3, Purpose.INPUT))
    two = seal(data, to=stranger.public, by=sender, binding=Binding(1, "t", 2, 4, Purpose.INPUT))
    again = seal(data, to=recipient.public, by=sender, binding=Binding(1, "t", 2, 3, Purpose.INPUT))
    for sealed in (one, two, again):
        assert b"marker" not in sealed
    assert one[HEADER_SIZE:] != two[HEADER_SIZE:]
    assert one[HEADER_SIZE:] != again[HEADER_SIZE:]


def test_streaming_holds_a_few_chunks_whatever_the_size(sender: KeyPair, recipient: KeyPair, binding: Binding) -> None:
    size = 64 * CHUNK
    block = bytes(CHUNK)
    tracemalloc.start()
    try:
        sealed = seal_chunks((block for _ in range(64)), to=recipient.public, by=sender, binding=binding)
        opened = open_chunks(sealed, to=recipient, by=sender.public, binding=binding)
        assert sum(map(len, opened)) == size
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12 * CHUNK


def test_pieces_can_be_pushed(sender: KeyPair, recipient: KeyPair, binding: Binding) -> None:
    sealer, opener = (
        Sealer(to=recipient.public, by=sender, binding=binding),
        Opener(to=recipient, by=sender.public, binding=binding),
    )
    sealed = [*sealer.update(b"a"), *sealer.update(b"b"), *sealer.finish()]
    content = [piece for part in sealed for piece in opener.update(part)]
    assert b"".join([*content, *opener.finish()]) == b"ab"


def test_looks_sealed_takes_envelopes_and_their_beginnings_only(
    sender: KeyPair, recipient: KeyPair, binding: Binding
) -> None:
    sealed = seal(bytes(5000), to=recipient.public, by=sender, binding=binding)
    assert looks_sealed(sealed[:MIN_SIZE])
    newer = sealed[:8] + b"\2" + sealed[9:]
    plain = b'json.{"method": "average"}' * 100
    for other in (b"", sealed[: MIN_SIZE - 1], sealed[1:], newer, plain, b"\x80\x04" + bytes(3000)):
        assert not looks_sealed(other)


@pytest.mark.parametrize(
    "wrong",
    [
        {"collaboration_id": 0},
        {"sender_id": -1},
        {"recipient_id": 2**63},
        {"task_key": ""},
        {"task_key": "x" * 256},
        {"task_key": "a\nb"},
    ],
)
def test_a_binding_without_meaning_is_refused(wrong: dict[str, Any]) -> None:
    fields = {"collaboration_id": 1, "task_key": "t", "sender_id": 2, "recipient_id": 3, "purpose": Purpose.LOG}
    with pytest.raises(InvalidArgument, match=next(iter(wrong))):
        Binding(**{**fields, **wrong})


def test_an_unusable_public_key_is_refused_by_name(sender: KeyPair, recipient: KeyPair, binding: Binding) -> None:
    weak = PublicKey(recipient.public.mlkem768, bytes(32), recipient.public.ed25519)
    with pytest.raises(InvalidArgument, match="public key is unusable"):
        seal(b"", to=weak, by=sender, binding=binding)


class TestVectors:
    """The checked-in vectors, which hold every implementation, this one included."""

    to = KeyPair.from_pem(VECTORS["recipient"]["private"].encode())
    by = KeyPair.from_pem(VECTORS["sender"]["private"].encode())
    binding = Binding(
        VECTORS["binding"]["collaboration_id"],
        VECTORS["binding"]["task_key"],
        VECTORS["binding"]["sender_id"],
        VECTORS["binding"]["recipient_id"],
        Purpose(VECTORS["binding"]["purpose"]),
    )

    def open(self, envelope: bytes) -> bytes:
        return open_sealed(envelope, to=self.to, by=self.by.public, binding=self.binding)

    @pytest.mark.row("M35")
    def test_keys_and_binding(self) -> None:
        assert self.to.public.digest.hex() == VECTORS["recipient"]["fingerprint"]
        assert self.by.public.digest.hex() == VECTORS["sender"]["fingerprint"]
        assert self.by.public == PublicKey.from_pem(VECTORS["sender"]["public"].encode())
        assert self.by.public.to_pem().decode() == VECTORS["sender"]["public"]
        assert self.binding.digest.hex() == VECTORS["binding"]["digest"]

    @pytest.mark.parametrize("vector", VECTORS["small"])
    def test_small(self, vector: dict[str, str]) -> None:
        assert self.open(bytes.fromhex(vector["envelope"])) == bytes.fromhex(vector["content"])

    @pytest.mark.parametrize("vector", VECTORS["large"]["envelopes"])
    def test_large(self, vector: dict[str, Any], reference: ModuleType) -> None:
        fields = {key: value for key, value in VECTORS["binding"].items() if key != "digest"}
        sealing = reference.Sealing(reference.Keys(), reference.Keys(), fields, key=bytes.fromhex(vector["key"]))
        content, header = reference.pattern(vector["size"]), bytes.fromhex(vector["header"])
        envelope = header + b"".join(sealing.body(header, content))
        assert reference.hashlib.sha256(envelope).hexdigest() == vector["sha256"]
        assert self.open(envelope) == content

    @pytest.mark.attack
    @pytest.mark.parametrize("part", VECTORS["broken"]["at"])
    def test_broken(self, part: str) -> None:
        envelope = bytearray.fromhex(VECTORS["small"][-1]["envelope"])
        envelope[VECTORS["broken"]["at"][part]] ^= 1
        with pytest.raises(EnvelopeBroken):
            self.open(bytes(envelope))


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1])
def test_the_independent_implementation_opens_ours_and_we_open_its(
    reference: ModuleType, binding: Binding, size: int
) -> None:
    to, by = reference.Keys(), reference.Keys()
    our_to, our_by = KeyPair.from_pem(to.pem()), KeyPair.from_pem(by.pem())
    fields = {name: getattr(binding, name) for name in Binding.__slots__}
    content = reference.pattern(size)
    ours = seal(content, to=our_to.public, by=our_by, binding=binding)
    assert reference.open_envelope(ours, to, by, fields) == content
    its = reference.Sealing(to, by, fields).seal(content)
    assert open_sealed(its, to=our_to, by=our_by.public, binding=binding) == content
