"""The pieces' messages are protobuf's, to the byte, and whatever else comes is read as protobuf reads it."""

from __future__ import annotations

import pytest
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from vantage6.api.v1.payload_pb2 import WritePayloadRequest
from vantage6.common.chunks import CHUNK
from vantage6.common.payload_wire import OCTETS, body_bytes, body_piece, request_bytes, request_message

pytestmark = pytest.mark.row("M34")

SIZES = (0, 1, 99, 100, 101, 127, 128, 16_355, 16_356, 16_383, 16_384, CHUNK, CHUNK + 16, 2_097_151, 2_097_152)


@pytest.mark.parametrize("size", SIZES)
def test_a_piece_is_written_as_protobuf_writes_it(size: int) -> None:
    piece = bytes(range(256)) * (size // 256) + bytes(size % 256)
    body = HttpBody(content_type=OCTETS, data=piece)
    for form in (piece, bytearray(piece), memoryview(piece)):
        if piece:  # Of an empty field protobuf writes nothing, and an empty piece is never sent.
            assert body_bytes(form) == body.SerializeToString()
            assert request_bytes(form) == WritePayloadRequest(content=body).SerializeToString()
        assert HttpBody.FromString(body_bytes(form)) == body
        assert body_piece(body_bytes(form)) == piece
        assert request_message(request_bytes(form)) == piece


def test_a_piece_is_not_copied_when_it_is_read() -> None:
    for data, read in ((body_bytes(b"abc"), body_piece), (request_bytes(b"abc"), request_message)):
        piece = read(data)
        assert isinstance(piece, memoryview)
        assert piece.obj is data


bodies = st.builds(HttpBody, content_type=st.sampled_from([OCTETS, "", "text/plain"]), data=st.binary(max_size=300))
requests = st.builds(
    WritePayloadRequest, id=st.sampled_from(["", "abc"]), offset=st.sampled_from([0.0, 4.0]),
    content=st.none() | bodies, sha256=st.sampled_from([b"", bytes(32)]),
)  # fmt: skip


def content_of(message: WritePayloadRequest | memoryview) -> WritePayloadRequest:
    if isinstance(message, memoryview):
        return WritePayloadRequest(content=HttpBody(content_type=OCTETS, data=bytes(message)))
    return message


@settings(deadline=None)
@given(request=requests)
def test_any_message_is_read_as_protobuf_reads_it(request: WritePayloadRequest) -> None:
    assert content_of(request_message(request.SerializeToString())) == request
    assert request_bytes(request) == request.SerializeToString()
    assert bytes(body_piece(request.content.SerializeToString())) == request.content.data


@settings(deadline=None)
@given(one=requests, two=requests)
def test_messages_behind_each_other_are_merged_as_protobuf_does(
    one: WritePayloadRequest, two: WritePayloadRequest
) -> None:
    data = one.SerializeToString() + two.SerializeToString()
    assert content_of(request_message(data)) == WritePayloadRequest.FromString(data)


@pytest.mark.attack
@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_damaged_messages_are_read_as_protobuf_reads_them(data: st.DataObject) -> None:
    good = bytearray(request_bytes(data.draw(st.binary(max_size=200))))
    for at in data.draw(st.lists(st.integers(0, min(40, len(good) - 1)), max_size=3)):
        good[at] = data.draw(st.integers(0, 255))
    damaged = bytes(good[: data.draw(st.integers(0, len(good)))])
    try:
        expected = WritePayloadRequest.FromString(damaged)
    except DecodeError:
        with pytest.raises(DecodeError):
            request_message(damaged)
    else:
        assert content_of(request_message(damaged)) == expected


def test_a_length_of_more_bytes_than_needed_and_extensions() -> None:
    """Both are left to protobuf, which may take them."""
    plain = body_bytes(b"abc")
    longer = plain[:-4] + b"\x83\x00" + b"abc"
    assert body_piece(longer) == HttpBody.FromString(longer).data == b"abc"
    body = HttpBody(content_type=OCTETS, data=b"abc", extensions=[Packed()])
    assert body_piece(body.SerializeToString()) == b"abc"
