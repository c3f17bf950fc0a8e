"""Content that is too large for a message: up to the payload store and down from it, going on where it broke off."""

from __future__ import annotations

import asyncio
import itertools
import random
import uuid
from collections.abc import Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from vantage6.client import _contract as v1
from vantage6.common.channel import MAX_MESSAGE
from vantage6.common.chunks import CHUNK, INLINE_LIMIT, Bytes, chunked
from vantage6.common.errors import DataLoss, InvalidArgument, OutOfRange, SerializationError, Unavailable
from vantage6.common.outgoing import Outgoing, OutgoingMade, Requests, overlapped, pieces_of
from vantage6.common.payload_wire import read_method, write_method
from vantage6.common.serialization import serialize

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from vantage6.client._session import Session
    from vantage6.common.incoming import Incoming

ATTEMPTS = 10
REQUEST = MAX_MESSAGE // 2
"""Bytes of inputs in one request; if they are more together, each goes by itself, however small."""
DAMAGED = 3
"""How often an upload that arrived damaged is begun again."""


@dataclass(frozen=True)
class Content:
    """The bytes of an input, from the beginning each time that they are asked for."""

    size: int
    pieces: Callable[[], Iterable[bytes]]


@dataclass(frozen=True)
class Serialized:
    """A value that is in a format already, with its name in front, such as `arrow.…`: it goes as it is."""

    data: bytes


def content_of(value: object) -> Content:
    """What the algorithm's container will find: a file as it is behind `bytes.`, never in memory; else serialized."""
    if isinstance(value, Path):
        if not value.is_file():
            raise InvalidArgument(f"input: there is no file {value}", field="input")
        head = b"bytes."
        return Content(len(head) + value.stat().st_size, lambda: itertools.chain([head], _file_pieces(value)))
    if isinstance(value, Serialized):
        data = value.data
    else:
        data = serialize(value, "bytes" if isinstance(value, bytes) else "json")
    return Content(len(data), lambda: chunked(data))


def _file_pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while piece := file.read(CHUNK):
            yield piece


class ValueFile:
    """Writes a serialized value to a file without the format's name, which `format` has afterwards."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._head = b""
        self.format = ""

    def write(self, data: Bytes, /) -> None:
        if self.format:
            self._file.write(data)
            return
        self._head += bytes(data)
        name, dot, rest = self._head.partition(b".")
        if dot and name.isalnum() and len(name) < 10:
            self.format, self._head = name.decode("ascii", "replace").lower(), b""
            self._file.write(rest)
        elif dot or len(self._head) >= 10:
            raise SerializationError("the output does not begin with a format, such as 'json.'")

    def flush(self) -> None:
        self._file.flush()


async def place(session: Session, collaboration_id: int, content: Content, copies: int) -> tuple[bytes, str]:
    """Few bytes come back as they are; many are uploaded and the id of their payload comes back.

    `copies` of about this size go with one request, which has a limit too.
    """
    if content.size <= INLINE_LIMIT and content.size * copies <= REQUEST:
        return await asyncio.to_thread(lambda: b"".join(content.pieces())), ""
    return b"", await upload(session, collaboration_id, content)


async def upload(session: Session, collaboration_id: int, content: Content) -> str:
    """Stores what is made meanwhile and returns the payload's id."""
    for attempt in range(1, DAMAGED + 1):
        announce = v1.payload_pb2.CreatePayloadRequest(
            collaboration_id=collaboration_id, size=content.size, idempotency_key=uuid.uuid4().hex
        )
        try:
            with OutgoingMade(content.pieces(), content.size) as source:
                return await _upload(session, await session.ask(session.payloads.CreatePayload, announce), source)
        except DataLoss:  # Discarded by the server, or it forgot too much: once more, as a new upload.
            if attempt == DAMAGED:
                raise
    raise DataLoss("the payload arrived damaged again and again")


async def _upload(session: Session, payload: v1.payload_pb2.Payload, source: Outgoing) -> str:
    for attempt in range(1, ATTEMPTS + 1):
        if payload.complete:
            return payload.id
        try:
            with Requests() as requests:
                stream = requests.watch(_requests(payload.id, source, int(payload.received)))
                return (await session.upload(write_method(session.channel), stream)).id
        except (Unavailable, OutOfRange):
            if attempt == ATTEMPTS:
                raise
            await pause(attempt)
        payload = await session.ask(session.payloads.GetPayload, v1.payload_pb2.GetPayloadRequest(id=payload.id))
    raise Unavailable("the payload could not be stored")


async def _requests(
    id: str,  # noqa: A002
    source: Outgoing,
    offset: int,
) -> AsyncGenerator[v1.payload_pb2.WritePayloadRequest | Bytes]:
    yield v1.payload_pb2.WritePayloadRequest(id=id, offset=offset)
    async with aclosing(pieces_of(source, offset)) as pieces:
        async for piece in pieces:
            yield piece
    yield v1.payload_pb2.WritePayloadRequest(sha256=await asyncio.to_thread(source.digest))


async def download(session: Session, id: str, into: Incoming) -> None:  # noqa: A002
    """Fetches a payload; it is opened while it arrives, and where it broke off it goes on."""
    known = await session.ask(session.payloads.GetPayload, v1.payload_pb2.GetPayloadRequest(id=id))
    for attempt in range(1, ATTEMPTS + 1):
        request = v1.payload_pb2.ReadPayloadRequest(id=id, offset=into.received)
        try:
            async with aclosing(session.stream(read_method(session.channel), request)) as pieces:
                await overlapped(pieces, into.write)
            break
        except Unavailable:
            if attempt == ATTEMPTS:
                raise
            await pause(attempt)
    if into.received != int(known.size):
        raise DataLoss(f"payload {id} arrived damaged: {into.received} of {int(known.size)} bytes")
    await asyncio.to_thread(into.finish, known.sha256)


async def pause(attempt: int) -> None:
    """Waits before trying again: longer each time, and not at the same moment as everybody else."""
    await asyncio.sleep(min(0.2 * 2**attempt, 15) * random.uniform(0.5, 1))  # noqa: S311 - not for secrets
