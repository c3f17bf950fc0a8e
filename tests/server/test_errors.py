"""Bad input at every field of every RPC: an error that names the field, and never the text of an exception."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from vantage6.common.errors import DOMAIN, from_rpc_error

from .conftest import Hospitals
from .live import Metadata, rest
from .test_matrix import STREAMS, methods

Status = grpc.StatusCode
LEAKS = re.compile(
    r"traceback|sqlalchemy|asyncpg|sqlite|psycopg|exception|\berror:|file \"|<class|0x[0-9a-f]{6}|\\x", re.IGNORECASE
)
TIMESTAMP = Timestamp.DESCRIPTOR
# These go on for ever unless the task does not exist.
ENDLESS = {"Event.Watch", "Event.StreamEvents"}
BAD: dict[int, tuple[Any, ...]] = {
    FieldDescriptor.TYPE_STRING: ("nul\0", "line\nbreak", "x" * 20_000, "%s{0}"),
    FieldDescriptor.TYPE_BYTES: (b"\0\xff", b"x" * 20_000),
    FieldDescriptor.TYPE_INT32: (-1, 2**31 - 1, -(2**31)),
    FieldDescriptor.TYPE_INT64: (-1, 2**63 - 1),
    FieldDescriptor.TYPE_DOUBLE: (-1.0, float("nan"), float("inf")),
    FieldDescriptor.TYPE_BOOL: (True,),
}


def method_of(name: str) -> MethodDescriptor:
    noun, _, rpc = name.partition(".")
    return descriptor_pool.Default().FindServiceByName(f"vantage6.api.v1.{noun}Service").methods_by_name[rpc]


def requests(method: MethodDescriptor) -> Iterator[tuple[str, Message]]:
    """One bad value at a time; the other fields are empty."""
    for field in method.input_type.fields:
        values = BAD.get(field.type, ())
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            values = (2**60, -(2**60)) if field.message_type is TIMESTAMP else ("nested",)
        for value in values:
            request = message_factory.GetMessageClass(method.input_type)()
            yield field.name, _filled(request, field, value)


def _filled(request: Any, field: FieldDescriptor, value: Any) -> Message:
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        if isinstance(value, int):
            getattr(request, field.name).seconds = value
        elif field.is_repeated:
            inner = getattr(request, field.name).add()
            for name in inner.DESCRIPTOR.fields_by_name:
                if isinstance(getattr(inner, name), str):
                    setattr(inner, name, "nul\0")
    elif field.is_repeated:
        getattr(request, field.name).append(value)
    else:
        setattr(request, field.name, value)
    message: Message = request
    return message


async def failure(hospitals: Hospitals, method: MethodDescriptor, request: Message, metadata: Metadata) -> Any:
    """What came back, if it was an error."""
    reply = message_factory.GetMessageClass(method.output_type)
    channel = hospitals.live.stubs.channel
    make: Any = channel.unary_stream if method.server_streaming else channel.unary_unary
    path = f"/{method.containing_service.full_name}/{method.name}"
    call = make(path, request_serializer=type(request).SerializeToString, response_deserializer=reply.FromString)
    # Nobody's failed attempts shall count for the next one.
    address = ".".join(["10", *(str(b) for b in secrets.token_bytes(3))])
    try:
        sent = call(request, metadata=(*metadata, ("x-forwarded-for", address)), timeout=30)
        if method.server_streaming:
            async for _ in sent:
                pass
        else:
            await sent
    except grpc.aio.AioRpcError as error:
        return error
    return None


@pytest.mark.attack("X10")
async def test_bad_input_is_an_error_that_names_the_field(hospitals: Hospitals) -> None:
    tried, named = 0, 0
    for name in sorted(methods() - STREAMS):
        method = method_of(name)
        if method.client_streaming:
            continue
        for field, request in requests(method):
            if name in ENDLESS and field != "task_id":
                continue
            error = await failure(hospitals, method, request, rest(hospitals.root))
            tried += 1
            if error is None:
                continue
            where = f"{name}({field}={str(getattr(request, field))[:30]!r})"
            found = from_rpc_error(error)
            assert error.code() not in {Status.INTERNAL, Status.UNKNOWN, Status.UNIMPLEMENTED}, (where, found.message)
            assert found.reason, where
            assert DOMAIN.encode() in dict(error.trailing_metadata() or ())["grpc-status-details-bin"], where
            assert not LEAKS.search(found.message), (where, found.message)
            assert len(found.message) < 2_000, where
            if error.code() is Status.INVALID_ARGUMENT:
                assert found.metadata.get("field"), (where, found.message)
                assert found.metadata["field"] in found.message, (where, found.message)
                named += 1
    assert tried > 300
    assert named > 100
