"""What a stream of an upload may begin with."""

from __future__ import annotations

import grpc
import pytest
from google.api import httpbody_pb2

from vantage6.api.v1 import payload_pb2
from vantage6.server.store.blobs import PART

from .conftest import Hospitals
from .test_accounts import refused
from .test_tasks import sealed, send, upload

Code = grpc.StatusCode
pytestmark = pytest.mark.row("M34")


async def test_what_is_there_is_not_written_again(hospitals: Hospitals) -> None:
    who = await hospitals.live.login("researcher_a")
    begun = await upload(hospitals, who, sealed(bytes(PART * 2)), cut=PART + 10)
    error = await refused(send(hospitals, who, begun.id, 0, b"x"))
    assert error.code() is Code.OUT_OF_RANGE
    assert str(PART) in str(error.details())


async def test_an_upload_that_does_not_say_of_what(hospitals: Hospitals) -> None:
    who = await hospitals.live.login("researcher_a")
    body = httpbody_pb2.HttpBody(content_type="application/octet-stream", data=b"x")
    messages = iter([payload_pb2.WritePayloadRequest(content=body)])
    error = await refused(hospitals.live.stubs.payloads.WritePayload(messages, metadata=who))
    assert error.code() is Code.INVALID_ARGUMENT
