"""Content that is too large for a message: up to the payload store and down from it, going on where it broke off."""

from __future__ import annotations

import asyncio
import itertools
import random
import tempfile
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

from google.api import httpbody_pb2

from vantage6.api.v1 import payload_pb2
from vantage6.common.chunks import CHUNK, INLINE_LIMIT, chunked, sha256_of
from vantage6.common.errors import DataLoss, InvalidArgument, OutOfRange, SerializationError, Unavailable
from vantage6.common.serialization import serialize

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from vantage6.client._session import Session

ATTEMPTS = 10
Content = Callable[[], Iterable[bytes]]
"""The bytes of an input, from the beginning each time that it is called."""


def content_of(value: object) -> Content:
    """What the algorithm's container will find: a file as it is behind `bytes.`, never in memory; else serialized."""
    if isinstance(value, Path):
        if not value.is_file():
            raise InvalidArgument(f"input: there is no file {value}", field="input")
        return lambda: itertools.chain([b"bytes."], _file_pieces(value))
    data = serialize(value, "bytes" if isinstance(value, bytes) else "json")
    return lambda: chunked(data)


def _file_pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from pieces(file)


class Target(Protocol):
    """Where opened content goes."""

    def write(self, data: bytes, /) -> int: ...


class ValueFile:
    """Writes a serialized value to a file without the format's name, which `format` has afterwards."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._head = b""
        self.format = ""

    def write(self, data: bytes, /) -> int:
        if self.format:
            return self._file.write(data)
        self._head += bytes(data)
        name, dot, rest = self._head.partition(b".")
        if dot and name.isalnum() and len(name) < 10:
            self.format, self._head = name.decode("ascii", "replace").lower(), b""
            self._file.write(rest)
        elif dot or len(self._head) >= 10:
            raise SerializationError("the output does not begin with a format, such as 'json.'")
        return len(data)


def spool(chunks: Iterable[bytes]) -> IO[bytes]:
    """A file with these bytes, in memory while they are few; blocking."""
    file = tempfile.SpooledTemporaryFile(max_size=4 * CHUNK)  # noqa: SIM115 - the caller closes it
    for chunk in chunks:
        file.write(chunk)
    file.seek(0)
    return file


def pieces(file: IO[bytes], offset: int = 0) -> Iterator[bytes]:
    """The file's bytes from an offset on, chunk by chunk; blocking."""
    file.seek(offset)
    while chunk := file.read(CHUNK):
        yield chunk


async def place(session: Session, collaboration_id: int, file: IO[bytes]) -> tuple[bytes, str]:
    """Few bytes come back as they are; many are uploaded and the id of their payload comes back."""
    head = await asyncio.to_thread(file.read, INLINE_LIMIT + 1)
    if len(head) <= INLINE_LIMIT:
        return head, ""
    return b"", await upload(session, collaboration_id, file)


async def upload(session: Session, collaboration_id: int, file: IO[bytes]) -> str:
    """Stores a file and returns the payload's id."""
    digest, size = await asyncio.to_thread(lambda: sha256_of(pieces(file)))
    announce = payload_pb2.CreatePayloadRequest(
        collaboration_id=collaboration_id, size=size, sha256=digest, idempotency_key=uuid.uuid4().hex
    )
    payload = await session.ask(session.payloads.CreatePayload, announce)
    for attempt in range(1, ATTEMPTS + 1):
        if payload.complete:
            return payload.id
        try:
            requests = _requests(payload.id, file, int(payload.received))
            return (await session.upload(session.payloads.WritePayload, requests)).id
        except (Unavailable, OutOfRange):
            if attempt == ATTEMPTS:
                raise
            await pause(attempt)
        payload = await session.ask(session.payloads.GetPayload, payload_pb2.GetPayloadRequest(id=payload.id))
    raise Unavailable("the payload could not be stored")


async def _requests(id: str, file: IO[bytes], offset: int) -> AsyncIterator[payload_pb2.WritePayloadRequest]:  # noqa: A002
    first = payload_pb2.WritePayloadRequest(id=id, offset=offset)
    yield first
    chunks = pieces(file, offset)
    while chunk := await asyncio.to_thread(next, chunks, b""):
        content = httpbody_pb2.HttpBody(content_type="application/octet-stream", data=chunk)
        yield payload_pb2.WritePayloadRequest(content=content)


async def download(session: Session, id: str) -> IO[bytes]:  # noqa: A002
    """Fetches a payload into a spooled file, which the caller closes. Its digest is checked."""
    known = await session.ask(session.payloads.GetPayload, payload_pb2.GetPayloadRequest(id=id))
    file = tempfile.SpooledTemporaryFile(max_size=4 * CHUNK)  # noqa: SIM115 - the caller closes it
    try:
        await _fill(session, id, file)
        digest, size = await asyncio.to_thread(lambda: sha256_of(pieces(file)))
    except BaseException:
        file.close()
        raise
    if size != int(known.size) or digest != known.sha256:
        file.close()
        raise DataLoss(f"payload {id} arrived damaged: {size} of {int(known.size)} bytes")
    file.seek(0)
    return file


async def _fill(session: Session, id: str, file: IO[bytes]) -> None:  # noqa: A002
    for attempt in range(1, ATTEMPTS + 1):
        try:
            request = payload_pb2.ReadPayloadRequest(id=id, offset=file.tell())
            async for body in session.stream(session.payloads.ReadPayload, request):
                await asyncio.to_thread(file.write, body.data)
        except Unavailable:
            if attempt == ATTEMPTS:
                raise
            await pause(attempt)
        else:
            return


async def pause(attempt: int) -> None:
    """Waits before trying again: longer each time, and not at the same moment as everybody else."""
    await asyncio.sleep(min(0.2 * 2**attempt, 15) * random.uniform(0.5, 1))  # noqa: S311 - not for secrets
