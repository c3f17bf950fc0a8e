"""The messages that carry a payload's pieces, as bytes: a piece of a MiB is not copied from message to message.

protobuf copies what a message holds when the message is made, when it is put into another one, and when either is
written or read. What is written here is what protobuf would write, and what is not exactly of that form is left to
protobuf to read, so others need not know of this module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    import grpc

    from vantage6.api.v1 import payload_pb2
    from vantage6.common.chunks import Bytes

OCTETS: Final = "application/octet-stream"
_SERVICE: Final = "/vantage6.api.v1.PayloadService/"
# A tag is the field's number and 2, for bytes of a length that follows.
_CONTENT: Final = bytes([3 << 3 | 2])
_HEAD: Final = bytes([1 << 3 | 2, len(OCTETS)]) + OCTETS.encode() + bytes([2 << 3 | 2])
_MAX_VARINT: Final = 5


def write_method(
    channel: grpc.aio.Channel,
) -> grpc.aio.StreamUnaryMultiCallable[payload_pb2.WritePayloadRequest | Bytes, payload_pb2.Payload]:
    """WritePayload: takes its messages, and pieces of the content as they are."""
    from vantage6.api.v1 import payload_pb2  # noqa: PLC0415 - who imports this need not have a payload

    return cast(
        "grpc.aio.StreamUnaryMultiCallable[payload_pb2.WritePayloadRequest | Bytes, payload_pb2.Payload]",
        channel.stream_unary(
            f"{_SERVICE}WritePayload",
            request_serializer=request_bytes,
            response_deserializer=payload_pb2.Payload.FromString,
        ),
    )


def read_method(
    channel: grpc.aio.Channel,
) -> grpc.aio.UnaryStreamMultiCallable[payload_pb2.ReadPayloadRequest, Bytes]:
    """ReadPayload: gives the pieces of the content as they are."""
    from vantage6.api.v1 import payload_pb2  # noqa: PLC0415 - as above

    return cast(
        "grpc.aio.UnaryStreamMultiCallable[payload_pb2.ReadPayloadRequest, Bytes]",
        channel.unary_stream(
            f"{_SERVICE}ReadPayload",
            request_serializer=payload_pb2.ReadPayloadRequest.SerializeToString,
            response_deserializer=body_piece,
        ),
    )


def body_bytes(piece: Bytes) -> bytes:
    """A `google.api.HttpBody` with this content."""
    return b"".join((_HEAD, _varint(len(piece)), piece))


def body_piece(data: bytes) -> Bytes:
    """The content of a `google.api.HttpBody`."""
    found = _body(memoryview(data))
    if found is not None:
        return found
    from google.api import httpbody_pb2  # noqa: PLC0415 - not needed as a rule

    rare: bytes = httpbody_pb2.HttpBody.FromString(data).data
    return rare


def request_bytes(message: payload_pb2.WritePayloadRequest | Bytes) -> bytes:
    """A `WritePayloadRequest`; of a piece, one with this content."""
    if not isinstance(message, bytes | bytearray | memoryview):
        return message.SerializeToString()
    length = _varint(len(message))
    return b"".join((_CONTENT, _varint(len(_HEAD) + len(length) + len(message)), _HEAD, length, message))


def request_message(data: bytes) -> payload_pb2.WritePayloadRequest | memoryview:
    """A `WritePayloadRequest`, or the content if there is nothing else in it."""
    if data.startswith(_CONTENT):
        body = _rest(memoryview(data), 1)
        found = None if body is None else _body(body)
        if found is not None:
            return found
    from vantage6.api.v1 import payload_pb2  # noqa: PLC0415 - as above

    return payload_pb2.WritePayloadRequest.FromString(data)


def _body(view: memoryview) -> memoryview | None:
    return _rest(view, len(_HEAD)) if view[: len(_HEAD)] == _HEAD else None


def _rest(view: memoryview, at: int) -> memoryview | None:
    """What follows a length, if the length says that this is all."""
    length = 0
    for number, byte in enumerate(view[at : at + _MAX_VARINT]):
        length |= (byte & 0x7F) << 7 * number
        if byte < 0x80:
            rest = view[at + number + 1 :]
            return rest if len(rest) == length else None
    return None


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
